"""Rows that a user names: a folder stands for itself, a name for all its runs, and what is ambiguous is said."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.boards.selection import matching, select_rows
from bench.data.tasks import LabelTable
from bench.errors import BenchError
from bench.evaluation.predictions import Predictions
from bench.evaluation.scores import score_fold
from bench.results.result import EXTERNAL, RESULT, Result, find_results, write_result

RANDOM = np.random.default_rng(0)
TRUTH = LabelTable("form", ("A", "B"), np.arange(80), np.arange(80), np.full(80, 10), RANDOM.random((80, 2)) < 0.4)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two rows of two seeds at two fractions."""
    for name in ("one", "other"):
        for fraction in (1.0, 0.1):
            for seed in range(2):
                folder = tmp_path / f"{name}-{fraction}-{seed}"
                folder.mkdir()
                cell = {"task": "form", "arch": name, "method": EXTERNAL, "fraction": fraction, "draw": 0, "seed": seed}
                logits = RANDOM.normal(size=(80, 2))
                document = {
                    "digest": folder.name,
                    "stage": "test",
                    "cell": {**cell, "source_rate": None, "precision": None, "command": ""},
                    "dataset": {"name": "set", "synthetic": False},
                    "task": {"name": "form", "fingerprint": TRUTH.fingerprint, "labels": ["A", "B"]},
                    "init": {"name": EXTERNAL},
                    "incompatible": None,
                    "metrics": {"fold_10": score_fold(TRUTH.y_true, logits, TRUTH.labels, TRUTH.patient_id, 50)},
                    "scores": {"scale": "logit"},
                    "training": [],
                    "signals": {},
                }
                write_result(folder, document, {10: Predictions(TRUTH.ecg_id, TRUTH.labels, logits)})
    return tmp_path


def results(runs: Path) -> Callable[[], Iterator[Result]]:
    """Where `select_rows` looks names up."""
    return lambda: find_results(runs)


def test_names_and_folders(runs: Path) -> None:
    names = ["one (external)", "other (external)"]
    found = select_rows(names, results(runs), lambda result: TRUTH, fraction=0.1)
    assert {name: sorted(row) for name, row in found.rows.items()} == {name: [(0, 0), (0, 1)] for name in names}

    folders = [str(runs / "one-1.0-0"), str(runs / "other-0.1-1")]
    found = select_rows(folders, results(runs), lambda result: TRUTH)
    assert {name: sorted(row) for name, row in found.rows.items()} == {name: [(0, 0)] for name in folders}


def rewrite(folder: Path, **changes: object) -> None:
    """Changes what a result says of its dataset, or adds a section."""
    document = json.loads((folder / RESULT).read_text())
    (folder / RESULT).write_text(json.dumps({**document, **changes}))


def test_runs_that_the_dataset_at_hand_cannot_judge_are_no_choice(runs: Path) -> None:
    names = ["one (external)", "other (external)"]
    for name in ("one", "other"):
        for seed in range(2):
            rewrite(runs / f"{name}-0.1-{seed}", dataset={"name": "elsewhere", "synthetic": False})

    at_hand = lambda result: TRUTH if result.document["dataset"]["name"] == "set" else None
    found = select_rows(names, results(runs), at_hand)
    assert found.dataset == "set"
    with pytest.raises(BenchError, match=r"fraction 0.1 on elsewhere; --task form --fraction 1 on set; add"):
        select_rows(names, results(runs), lambda result: TRUTH)


def test_rows_that_were_searched_for_are_known(runs: Path) -> None:
    rewrite(runs / "one-1.0-1", search={"trials": [{"method": "one"}, {"method": "one(lr=0.1)"}]})

    found = select_rows(["one (external)", "other (external)"], results(runs), lambda result: TRUTH, fraction=1.0)
    assert found.tuned == {"one (external)"}


def test_what_cannot_be_meant_is_said(runs: Path) -> None:
    for names, message in (
        (
            ["one (external)", "other (external)"],
            "--task form --fraction 0.1 on set; --task form --fraction 1 on set; add the options",
        ),
        (["one (external)", "otter (external)"], r"Near it: other \(external\)"),
        (["one (external)", "one (external)"], "named twice"),
    ):
        with pytest.raises(BenchError, match=message):
            select_rows(names, results(runs), lambda result: TRUTH)
    with pytest.raises(BenchError, match="a row is named twice: one"):
        select_rows(["one", "one (external)"], results(runs), lambda result: TRUTH, fraction=1.0)
    with pytest.raises(BenchError, match=r"'o' is the name of several rows: one \(external\); other \(external\)"):
        select_rows(["o", "one"], results(runs), lambda result: TRUTH, fraction=1.0)
    with pytest.raises(BenchError, match="name their folder with --data"):
        select_rows(["one (external)", "other (external)"], results(runs), lambda result: None, fraction=1.0)


ROWS = [
    "ft on net1d_mini (own:389512e4)",
    "lpft on net1d_mini (own:389512e4)",
    "lpft-sd on net1d_mini (own:389512e4)",
    "lpft-sd(drop_path_rate=0.3) on net1d_mini (own:389512e4)",
    "lpft-sd on net1d_mini, bf16 (random)",
    "Their model (external)",
    "Their model 2 (external)",
]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("lpft on net1d_mini (own:389512e4)", [1]),
        ("lpft", [1]),
        ("lpft on net1d_mini", [1]),
        ("lpft-sd on net1d_mini", [2, 4]),
        ("lpft-sd on net1d_mini (own)", [2]),
        ("lpft-sd net1d_mini random", [4]),
        ("lpft-sd(drop_path_rate=0.3)", [3]),
        ("lpft-sd(drop", [3]),
        ("ft", [0]),
        ("Their model", [5]),
        ("their model 2", [6]),
        ("their", [5, 6]),
        ("model 2", [6]),
        ("odel 2", []),
        ("lpft on ecgfounder", []),
        ("", []),
    ],
)
def test_a_short_name_means_the_rows_that_have_its_words(name: str, rows: list[int]) -> None:
    assert matching(name, ROWS) == [ROWS[at] for at in rows]
