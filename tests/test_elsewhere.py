"""Evaluations that anybody may have written: read in full or refused in a line, and no page shows what they inject."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bench
from bench.boards.elsewhere import boards_elsewhere, robustness_of
from bench.boards.rows import make_boards
from bench.boards.truth import Truth
from bench.data.datasets import load_records
from bench.data.tasks import LabelTable, find_task, label_table
from bench.errors import DataError
from bench.evaluation.predictions import Predictions
from bench.evaluation.scores import score_fold
from bench.pages.elsewhere import elsewhere_page
from bench.results.elsewhere import (
    EVALUATION,
    SCORES,
    Evaluation,
    Truths,
    load_evaluation,
    remove_useless,
    write_evaluation,
)
from bench.results.identity import identity
from bench.results.result import Result, load_result, write_result

PUBLISHED = Path(__file__).parent.parent / "leaderboards/ptb-xl-1.0.3/results/superdiag"
DOCUMENT = json.loads((sorted(PUBLISHED.glob("net1d_mini-*-0.1-*"))[0] / "result.json").read_text())
HOSTILE: list[Any] = [
    "../x", "", "a\0b", "a\nb", "<script>alert(1)</script>", "[click](javascript:alert(1))", "a\u202eb", "`code",
    "\x1b[2J", "x" * 3000, None, True, -1, 2**70, 1e300, 0.5, float("nan"), float("inf"), [], {}, ["<b>"], {"<b>": 1},
]  # fmt: skip


@pytest.fixture(scope="module")
def fold(demo_set: Path) -> LabelTable:
    """Fold 10 of the demo set with the labels of superdiag."""
    table = label_table(load_records(demo_set), find_task("superdiag"))
    return table.select(table.strat_fold == 10)


@pytest.fixture(scope="module")
def evaluation(demo_set: Path, fold: LabelTable, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """A run on the demo set with random scores, tested on fold 10 with a corruption."""
    records = load_records(demo_set)
    table = label_table(records, find_task("superdiag"))
    logits = np.random.default_rng(0).normal(size=fold.y_true.shape).astype(np.float32)
    scores = score_fold(fold.y_true, logits, fold.labels, fold.patient_id)
    document = copy.deepcopy(DOCUMENT)
    document["dataset"]["name"], document["task"]["fingerprint"] = records.name, table.fingerprint
    document["metrics"] = {"fold_10": scores}
    document["digest"] = identity(document)
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    predictions = Predictions(fold.ecg_id, fold.labels, logits)
    write_result(folder, document, {10: predictions})
    facts = {
        "run": {
            "digest": document["digest"],
            "row": "a row",
            "trained_on": records.name,
            "weights_sha256": document["weights_sha256"],
            "command": None,
        },
        "dataset": {"name": "other", "content": "c" * 64, "licence": "CC0", "source": "here", "rate": 100},
        "scored_on": "all records",
        "corruptions": ["mains=5"],
        "seed": 0,
        "labels": {label: {"codes": [label], "by": "labels.csv"} for label in fold.labels},
        "not_shared": ["AFIB"],
        "metrics": scores,
    }
    return write_evaluation(load_result(folder), facts, Truths(fold.patient_id, fold.y_true, predictions))


def page_of(run: Result, demo_set: Path) -> str:
    (board,) = make_boards([run], Truth(demo_set))
    corrupted, others = robustness_of(boards_elsewhere(board))
    return elsewhere_page(others, corrupted, dict.fromkeys(corrupted, "pictures/curves.svg"))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(document)
    at = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return made


def copy_of(evaluation: Evaluation, folder: Path, document: Any) -> Result:
    """A copy of the run whose evaluation.json holds this document."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(evaluation.run.folder, folder)
    run = load_result(folder)
    (folder / evaluation.folder.relative_to(evaluation.run.folder) / EVALUATION).write_text(json.dumps(document))
    return run


def test_an_evaluation_is_read_as_it_was_written(evaluation: Evaluation, demo_set: Path) -> None:
    again = load_evaluation(evaluation.folder, evaluation.run)

    assert again.document == json.loads(json.dumps(evaluation.document))
    assert again.truths.predictions.labels == evaluation.labels
    page = page_of(evaluation.run, demo_set)
    assert "## other, mains=5, fraction 0.1" in page
    assert "Only the run knows: AFIB." in page


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(choice=st.floats(0, 1, exclude_max=True), value=st.sampled_from(HOSTILE))
def test_no_field_of_an_evaluation_gets_out_of_its_page(
    evaluation: Evaluation, demo_set: Path, tmp_path: Path, choice: float, value: Any
) -> None:
    whole = json.loads((evaluation.folder / EVALUATION).read_text())
    among = [path for path in places(whole) if path[0] != "schema"]
    run = copy_of(evaluation, tmp_path / "run", changed(whole, among[int(choice * len(among))], value))
    try:
        page = page_of(run, demo_set)
    except DataError as error:
        if "\n" in str(error) or EVALUATION not in str(error):
            raise
        return
    assert not set(re.findall(r"<[A-Za-z/!?][^>]*>?", page)) - {*("<details>", "</details>", "<summary>", "</summary>")}
    assert {*re.findall(r"(?<!\\)\]\((\S*)", page)} <= {"superdiag.md)", "pictures/curves.svg)"}
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e]", page)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (("dataset", "name"), "../x", r"dataset\.name is '\.\./x', expected letters"),
        (("corruptions",), ["<script>"], "corruptions has characters"),
        (("metrics", "num_records"), "60", r"metrics\.num_records is \"60\", expected a whole number"),
        (("dataset", "rate"), None, r"dataset\.rate is null, expected a whole number"),
        (("labels", "NORM", "codes"), "NORM", r"labels\.NORM\.codes is \"NORM\", expected a list"),
        (("metrics", "macro", "all", "auroc", "value"), float("nan"), r"macro\.all\.auroc\.value is NaN, expected"),
        (("labels", "XYZ"), {"codes": [], "by": ""}, r"metrics\.labels lacks XYZ"),
        (("run", "digest"), "0" * 64, "is of another run than the result in"),
        (("run", "weights_sha256"), "0" * 64, "is of other weights than the result in .*, or remove"),
        (("dataset", "loads"), [float("inf")], r"dataset\.loads\[0\] is inf, expected a finite number"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_field_of_an_evaluation_is_named(
    evaluation: Evaluation, tmp_path: Path, field: tuple[str, ...], value: Any, expected: str
) -> None:
    whole = json.loads((evaluation.folder / EVALUATION).read_text())
    run = copy_of(evaluation, tmp_path / "run", changed(whole, field, value))

    with pytest.raises(DataError, match=expected):
        load_evaluation(tmp_path / "run" / evaluation.folder.relative_to(evaluation.run.folder), run)


def test_tests_of_other_weights_are_removed_and_others_stay(evaluation: Evaluation, tmp_path: Path) -> None:
    run = copy_of(evaluation, tmp_path / "run", json.loads((evaluation.folder / EVALUATION).read_text()))
    folder = run.folder / evaluation.folder.relative_to(evaluation.run.folder)
    shutil.copytree(folder, other := folder.with_name("other"))
    document = changed(json.loads((other / EVALUATION).read_text()), ("run", "weights_sha256"), "0" * 64)
    (other / EVALUATION).write_text(json.dumps(document))

    remove_useless(run)

    assert folder.is_dir() and not other.exists()


def test_labels_that_the_run_lacks_are_of_another_run(evaluation: Evaluation, tmp_path: Path) -> None:
    whole = json.loads((evaluation.folder / EVALUATION).read_text())
    for section in (whole["labels"], whole["metrics"]["labels"]):
        section["XYZ"] = section.pop("NORM")
    run = copy_of(evaluation, tmp_path / "run", whole)

    with pytest.raises(DataError, match="is of another run than the result in"):
        load_evaluation(tmp_path / "run" / evaluation.folder.relative_to(evaluation.run.folder), run)


@pytest.mark.parametrize(
    ("text", "expected"), [("[" * 100_000, "nested too deep|recursion"), ("{", "Expecting"), ("[]", "no evaluation")]
)
def test_what_is_no_evaluation_is_a_line(evaluation: Evaluation, tmp_path: Path, text: str, expected: str) -> None:
    run = copy_of(evaluation, tmp_path / "run", {})
    folder = tmp_path / "run" / evaluation.folder.relative_to(evaluation.run.folder)
    (folder / EVALUATION).write_text(text)

    with pytest.raises(DataError, match=expected) as caught:
        load_evaluation(folder, run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("logits", lambda fold: np.zeros((2, 5), np.float32), "does not fit"),
        ("logits", lambda fold: np.full(fold.y_true.shape, np.nan, np.float32), "scores that are not finite"),
        ("logits", lambda fold: np.zeros(fold.y_true.shape, complex), "holds other types"),
        ("labels", lambda fold: np.array(["A"] * 5), "does not fit"),
        ("ecg_id", lambda fold: np.array([object()] * len(fold.ecg_id)), "is not a file of scores: .*allow_pickle"),
        ("patient", lambda fold: np.zeros(len(fold.ecg_id)), "holds other types"),
        ("y_true", lambda fold: fold.y_true.astype(int) + 7, "holds other types"),
    ],
)
def test_wrong_arrays_of_an_evaluation_are_a_line(
    evaluation: Evaluation, fold: LabelTable, tmp_path: Path, name: str, value: Any, expected: str
) -> None:
    run = copy_of(evaluation, tmp_path / "run", json.loads((evaluation.folder / EVALUATION).read_text()))
    folder = tmp_path / "run" / evaluation.folder.relative_to(evaluation.run.folder)
    with np.load(folder / SCORES) as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(folder / SCORES, **{**arrays, name: value(fold)}, allow_pickle=True)

    with pytest.raises(DataError, match=expected):
        _ = load_evaluation(folder, run).truths


def test_a_damaged_evaluation_is_left_out_of_a_page_with_a_line(
    evaluation: Evaluation, demo_set: Path, tmp_path: Path
) -> None:
    run = copy_of(evaluation, tmp_path / "runs/run", json.loads((evaluation.folder / EVALUATION).read_text()))
    damaged = run.folder / "elsewhere/damaged"
    shutil.copytree(evaluation.folder, damaged)
    (damaged / EVALUATION).write_text("{")
    said: list[str] = []

    written = bench.leaderboard(tmp_path / "runs", data=demo_set, left_out=said.append).write(tmp_path / "boards")

    (page,) = [path for path in written if path.name == "superdiag-elsewhere.md"]
    assert "## other, mains=5" in page.read_text(encoding="utf-8")
    (line,) = said
    assert f"{damaged / EVALUATION} is damaged" in line
