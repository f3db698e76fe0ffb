"""Counts of a folder; a task that cannot be run on it is a row that says why."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.boards.truth import Truth
from bench.data.datasets import load_records
from bench.data.datasets.ptbxl import TABLE
from bench.data.info import counts_of, describe, task_rows
from bench.data.tasks import Task, find_task
from bench.errors import PluginError
from bench.registry.catalogue import counted_tasks
from bench.results.result import Result


@pytest.fixture
def all_normal(copy_first: Callable[[int, Path], None], tmp_path: Path) -> Path:
    """40 records of which each is normal: no positive of rhythm and form, no negative of superdiag."""
    folder = tmp_path / "normal"
    copy_first(40, folder)
    table = pd.read_csv(folder / TABLE)
    table["scp_codes"] = "{'NORM': 100.0}"
    table["strat_fold"] = 1 + pd.factorize(table["patient_id"])[0] % 10
    table.to_csv(folder / TABLE, index=False)
    return folder


def test_a_task_without_a_positive_or_negative_is_a_row_that_says_so(all_normal: Path) -> None:
    facts = describe(all_normal)
    rows = {row["task"]: row for row in task_rows(facts["tasks"])}

    assert rows["rhythm"]["note"] == f"no record in {all_normal} has a label of task rhythm"
    assert rows["rhythm"] | {"note": ""} == {
        "task": "rhythm",
        "labels": 0,
        "records": 0,
        "train": 0,
        "val": 0,
        "test": 0,
        "test patients": 0,
        "fingerprint": "-",
        "note": "",
    }
    assert rows["superdiag"]["note"] == "no label has both a positive and a negative in fold 9"
    assert (rows["superdiag"]["labels"], rows["superdiag"]["records"]) == (1, 40)


def test_a_task_without_records_in_a_fold_says_so(all_normal: Path) -> None:
    table = pd.read_csv(all_normal / TABLE)
    table["strat_fold"] = table["strat_fold"].replace(10, 1)
    table.to_csv(all_normal / TABLE, index=False)

    assert counts_of(load_records(all_normal), find_task("superdiag"))["note"] == "no record in fold 10"


def test_a_task_of_a_plugin_that_gives_no_list_is_a_row_too(all_normal: Path) -> None:
    broken = Task("broken", "gives text", lambda code, statement: "NORM")  # type: ignore[arg-type, return-value]

    assert "returned 'NORM', expected a list of labels" in counts_of(load_records(all_normal), broken)["note"]


def test_where_all_tasks_can_be_run_there_is_no_note(demo_set: Path) -> None:
    assert all("note" not in row for row in task_rows(describe(demo_set, [find_task("superdiag")])["tasks"]))


def test_the_command_goes_on(all_normal: Path) -> None:
    words = ["data", "info", str(all_normal), "--task", "rhythm"]
    done = subprocess.run([sys.executable, "-m", "bench", *words], capture_output=True, text=True)

    assert done.returncode == 0 and done.stderr == ""
    assert "has a label of task rhythm" in " ".join(done.stdout.split())
    rows = {row["name"]: row for row in counted_tasks(all_normal)}
    assert rows["form"]["labels"] == 0 and rows["form"]["what"].startswith("(no record in ")
    assert rows["superdiag"]["what"].startswith("(no label has both a positive and a negative in fold 9) diag")


def test_boards_know_no_truth_of_a_task_without_labels_here(all_normal: Path) -> None:
    document = {"dataset": {"name": load_records(all_normal).name}, "cell": {"task": "rhythm"}}
    document["task"] = {"name": "rhythm", "fingerprint": "ab", "labels": ["AFIB"]}

    assert Truth(all_normal)(Result(Path(), json.loads(json.dumps(document)))) is None


def _breaks(code: str, statement: pd.Series) -> list[str]:
    return [statement["no such column"]]


@pytest.mark.parametrize(
    ("labels_of", "note"),
    [
        (_breaks, "KeyError: 'no such column'"),
        (lambda code, statement: [1 / 0], "ZeroDivisionError: division by zero"),
        (lambda code, statement: sys.exit("stop"), "SystemExit: stop"),
        (lambda code, statement: "NORM", "PluginError: task 'odd': labels_of("),
    ],
)
def test_a_rule_that_fails_is_a_row_that_says_so(
    demo_set: Path, labels_of: Callable[[str, pd.Series], list[str]], note: str
) -> None:
    facts = describe(demo_set, [Task("odd", "a rule that fails", labels_of), find_task("superdiag")])
    rows = {row["task"]: row for row in task_rows(facts["tasks"])}

    assert str(rows["odd"]["note"]).startswith(note)
    assert (rows["odd"]["records"], rows["superdiag"]["labels"], rows["superdiag"]["note"]) == (0, 5, "")


@pytest.mark.parametrize(
    "change", [{"min_likelihood": "50"}, {"keeps_unlabeled": "no"}, {"dataset": None}, {"description": 3}]
)
def test_a_task_of_wrong_types_is_refused_where_it_is_made(change: dict[str, Any]) -> None:
    (field,) = change
    with pytest.raises(PluginError, match=f"task 'odd': {field} is"):
        Task(**{"name": "odd", "description": "", "labels_of": _breaks, **change})
