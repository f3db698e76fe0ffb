"""Scores of a part of fold 10: scored, compared on common records, looked at, and on no board."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import bench
from bench.boards.truth import Truth
from bench.data.datasets import load_records
from bench.data.tasks import LabelTable, find_task, label_table
from bench.demo.dataset import write_demo
from bench.errors import BenchError
from bench.pages.publish import publish
from bench.results.result import PART, load_result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "demo"
    write_demo(folder, 600, seed=3, rates=(100,))
    return folder


@pytest.fixture(scope="module")
def truth(data: Path) -> LabelTable:
    records = load_records(data)
    table = label_table(records, find_task("superdiag", records))
    return table.select(table.strat_fold == 10)


@pytest.fixture(scope="module")
def frames(truth: LabelTable) -> dict[str, pd.DataFrame]:
    """Scores of all records of fold 10, of the first 45, and of all but the first 5."""
    every = {}
    for seed, (name, rows) in enumerate({"whole": slice(None), "first": slice(45), "last": slice(5, None)}.items()):
        noise = np.random.default_rng(seed).normal(size=truth.y_true.shape)
        every[name] = pd.DataFrame(truth.y_true + noise, truth.ecg_id, list(truth.labels)).iloc[rows]
    return every


@pytest.fixture(scope="module")
def runs(data: Path, frames: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, frame in frames.items():
        partial = name != "whole"
        bench.score(frame, "superdiag", name, data=data, runs=folder, partial=partial, scale="logit", log=silent)
    return folder


def silent(line: str) -> None:
    """Take a note."""


def folder_of(runs: Path, name: str) -> Path:
    return Path(bench.load_results(runs).set_index("backbone").loc[name, "folder"])  # type: ignore[arg-type]


def macro(truth: LabelTable, frame: pd.DataFrame, ecg_id: list[int]) -> float:
    """Macro AUROC over the labels with 10 positives and negatives among these records."""
    y_true = truth.y_true[np.isin(truth.ecg_id, ecg_id)]
    enough = np.minimum(y_true.sum(axis=0), (~y_true).sum(axis=0)) >= 10
    assert enough.any()
    scores = frame.loc[ecg_id].to_numpy()
    return float(np.mean([roc_auc_score(y_true[:, c], scores[:, c]) for c in np.flatnonzero(enough)]))


def test_missing_records_need_the_option(data: Path, frames: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"missing records .* --partial scores a part of it"):
        bench.score(frames["first"], "superdiag", "first", data=data, runs=tmp_path)


def test_a_part_is_scored_on_its_records(
    data: Path, truth: LabelTable, frames: dict[str, pd.DataFrame], runs: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    result = bench.score(
        frames["first"], "superdiag", "again", data=data, runs=tmp_path, partial=True, log=notes.append
    )

    scores = result.document["metrics"]["fold_10"]
    assert result.document["stage"] == PART
    assert scores["num_records"] == 45
    expected = macro(truth, frames["first"], frames["first"].index.tolist())
    assert scores["macro"]["frequent"]["auroc"]["value"] == pytest.approx(expected)
    assert notes == [
        f"scored on 45 of {len(truth)} records of fold 10: for comparisons on these records, and on no board"
    ]
    assert result.document["cell"]["command"].endswith(" --partial")
    states = bench.load_results(runs).set_index("backbone")["state"]
    assert states.to_dict() == {"whole": "done", "first": "partial", "last": "partial"}


def test_a_file_that_lacks_nothing_is_whole(data: Path, frames: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    notes: list[str] = []
    result = bench.score(frames["whole"], "superdiag", "w", data=data, runs=tmp_path, partial=True, log=notes.append)

    assert result.document["stage"] == "test"
    assert "--partial" not in result.document["cell"]["command"]
    assert "--partial is not needed" in notes[0]


def test_a_part_of_fold_9_beside_all_of_fold_10_is_left_out(
    data: Path, frames: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    records = load_records(data)
    table = label_table(records, find_task("superdiag", records))
    some = table.ecg_id[table.strat_fold == 9][:5]
    frame = pd.concat([frames["whole"], frames["whole"].iloc[: len(some)].set_index(some)])
    with pytest.raises(BenchError, match=r"fold 9 of superdiag: .* missing records .*; --partial goes on without them"):
        bench.score(frame, "superdiag", "x", data=data, runs=tmp_path, log=silent)
    notes: list[str] = []
    result = bench.score(frame, "superdiag", "x", data=data, runs=tmp_path, partial=True, log=notes.append).document

    assert result["stage"] == "test" and [*result["metrics"]] == ["fold_10"]
    assert result["cell"]["command"].endswith(" --partial"), "without it, the same file is refused"
    assert "and 5 of " in notes[0] and "of fold 9, which are left out" in notes[0]


def test_faults_other_than_missing_records_stay_faults(
    data: Path, truth: LabelTable, frames: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    first = frames["first"]
    twice = pd.concat([first, first.head(1)])
    nothing = first.set_axis(truth.ecg_id.max() + 1 + np.arange(len(first)))
    for frame, words in ((twice, "duplicate record"), (nothing, "no record of fold 10")):
        with pytest.raises(BenchError, match=words):
            bench.score(frame, "superdiag", "x", data=data, runs=tmp_path, partial=True, log=silent)
    with pytest.raises(BenchError, match=r"--partial and --compat strodthoff2020 exclude each other"):
        bench.score(first, "superdiag", "x", data=data, runs=tmp_path, partial=True, compat="strodthoff2020")


@pytest.mark.parametrize("second", ["whole", "last"])
def test_rows_are_compared_on_the_records_that_both_have(
    data: Path, truth: LabelTable, frames: dict[str, pd.DataFrame], runs: Path, second: str
) -> None:
    notes: list[str] = []
    found = bench.compare("first", second, data=data, runs=runs, log=notes.append)

    both = [record for record in frames["first"].index if record in frames[second].index]
    expected = macro(truth, frames["first"], both) - macro(truth, frames[second], both)
    assert found.pairs[0].differences["auroc"].interval.value == pytest.approx(expected)
    assert f"compared on {len(both)} of {len(truth)} records of fold 10" in notes[-1]
    assert found.pairs[0].role == "exploratory"


def test_rows_without_a_common_record_are_refused(
    data: Path, frames: dict[str, pd.DataFrame], runs: Path, tmp_path: Path
) -> None:
    rest = frames["whole"].iloc[45:]
    bench.score(rest, "superdiag", "rest", data=data, runs=tmp_path, partial=True, log=silent)

    with pytest.raises(BenchError, match="no record of fold 10 in common"):
        bench.compare("first", "rest", data=data, runs=[runs, tmp_path])


def test_a_part_is_on_no_board_and_not_published(data: Path, runs: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    board = bench.leaderboard(runs, data=data, log=notes.append)

    assert board.rows["backbone"].tolist() == ["whole"]
    assert [line for line in notes if "has scores of a part of fold 10" in line and "first" in line]
    copied, faults = publish([folder_of(runs, "first")], tmp_path, Truth(data))
    assert not copied
    assert any("it has scores of a part of fold 10" in fault for fault in faults)


def test_rows_beside_a_part_are_compared_as_if_it_were_not_there(
    data: Path, frames: dict[str, pd.DataFrame], runs: Path, tmp_path: Path
) -> None:
    other = frames["whole"] + np.random.default_rng(9).normal(size=frames["whole"].shape)
    bench.score(other, "superdiag", "other", data=data, runs=tmp_path, log=silent)

    alone = bench.compare("whole", "other", data=data, runs=[folder_of(runs, "whole"), tmp_path])
    beside = bench.compare("whole", "other", data=data, runs=[runs, tmp_path])

    assert beside.as_data() == alone.as_data()


def test_its_records_can_be_looked_at(data: Path, frames: dict[str, pd.DataFrame], runs: Path) -> None:
    frame = bench.misses("first", n=1000, data=data, runs=runs)

    assert set(frame["ecg_id"]) == set(frames["first"].index)
    assert load_result(folder_of(runs, "first")).partial
