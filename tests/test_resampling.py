"""Runs of a board are resampled as `bootstrap.resample` does it, to the last bit, and remembered."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.boards import on_cores, resampling
from bench.boards.comparisons import ResampledRun
from bench.boards.resampling import BoardRun, board_runs, label_replicates, replicates_of
from bench.data.splits import TEST_FOLD
from bench.data.tasks import LabelTable
from bench.errors import DataError
from bench.evaluation import metrics
from bench.evaluation.bootstrap import resample
from bench.evaluation.predictions import Predictions
from bench.results.result import Result, write_result

LABELS = ("A", "B", "C", "RARE")


def truth_table() -> LabelTable:
    """150 records of 100 patients: three frequent labels and a rare one."""
    random = np.random.default_rng(0)
    y_true = random.random((150, 4)) < [0.3, 0.5, 0.1, 0]
    y_true[:5, 3] = True
    patients = np.sort(random.integers(100, size=150))
    return LabelTable("superdiag", LABELS, np.arange(150), patients, np.full(150, 10), y_true)


TRUTH = truth_table()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(folder: Path, seed: int) -> Result:
    """A result as boards need it."""
    noise = np.random.default_rng(seed).normal(size=TRUTH.y_true.shape)
    scores = Predictions(TRUTH.ecg_id, TRUTH.labels, (TRUTH.y_true + noise).astype(np.float32))
    folder.mkdir()
    document: dict[str, Any] = {"task": {"fingerprint": TRUTH.fingerprint}, "cell": {"draw": 0, "seed": seed}}
    write_result(folder, document, {TEST_FOLD: scores})
    return Result(folder, document)


@pytest.fixture
def runs(tmp_path: Path) -> list[Result]:
    return [write(tmp_path / f"run{seed}", seed) for seed in range(6)]


def resampled(run: Result) -> ResampledRun:
    """The run, all of its labels resampled in this process."""
    y_score = run.predictions[TEST_FOLD].logits
    return ResampledRun(y_score, resample(TRUTH.y_true, y_score, replicates_of(TRUTH)))


def test_macro_averages_of_a_board_are_those_of_bootstrap(runs: list[Result]) -> None:
    masks = [metrics.frequent(TRUTH.y_true), np.array([True, False, True, False]), np.ones(4, dtype=bool)]
    for run in board_runs(runs[:2], TRUTH):
        expected = resampled(run.run)
        np.testing.assert_array_equal(run.y_score, expected.y_score)
        for metric in metrics.RANKING:
            np.testing.assert_array_equal(run.label_values(metric), expected.label_values(metric))
            for mask in masks:
                np.testing.assert_array_equal(run.macro(metric, mask).value, expected.macro(metric, mask).value)
                np.testing.assert_array_equal(
                    metrics.macro(run.label_values(metric), mask), expected.macro(metric, mask).value
                )
                replicates = run.macro(metric, mask).replicates
                np.testing.assert_array_equal(replicates, expected.macro(metric, mask).replicates)


def test_labels_of_a_board_are_those_of_bootstrap(runs: list[Result]) -> None:
    on_board, frequent = board_runs(runs[:2], TRUTH), metrics.frequent(TRUTH.y_true)
    of_labels = label_replicates([*on_board, resampled(runs[0])], TRUTH)
    np.testing.assert_array_equal(of_labels[2], of_labels[0])
    assert 0 < frequent.sum() < len(frequent)
    for run, of_label in zip(on_board, of_labels, strict=False):
        expected = resampled(run.run).resampled
        np.testing.assert_array_equal(of_label, expected.auroc.replicates[:, frequent])
        for metric in metrics.RANKING:
            given, wanted = getattr(run.resampled, metric), getattr(expected, metric)
            np.testing.assert_array_equal(given.value, wanted.value)
            np.testing.assert_array_equal(given.replicates[:, frequent], wanted.replicates[:, frequent])
            assert np.isnan(given.replicates[:, ~frequent]).all()


def test_workers_compute_the_same(runs: list[Result], monkeypatch: pytest.MonkeyPatch) -> None:
    here = [run.known.as_bytes() for run in board_runs(runs, TRUTH, anew=True)]
    monkeypatch.setattr(resampling, "LEAST_RUNS", 1)
    monkeypatch.setattr(on_cores, "num_cores", lambda: 2)  # so many chunks that workers are started

    def never(run: Result, truth: LabelTable) -> None:
        raise AssertionError("computed in this process")

    monkeypatch.setattr("bench.data.pool.num_cores", lambda: 2)
    monkeypatch.setattr(resampling, "scores_of", never)
    there = [run.known.as_bytes() for run in board_runs(runs, TRUTH, anew=True)]

    assert there == here


def test_a_run_is_resampled_once(runs: list[Result], monkeypatch: pytest.MonkeyPatch) -> None:
    first = [run.known.as_bytes() for run in board_runs(runs[:2], TRUTH)]
    computed: list[Result] = []
    compute = resampling.compute
    monkeypatch.setattr(resampling, "compute", lambda run, truth: computed.append(run) or compute(run, truth))  # type: ignore[func-returns-value]

    assert [run.known.as_bytes() for run in board_runs(runs[:2], TRUTH)] == first
    assert [BoardRun(run, TRUTH).known.as_bytes() for run in runs[:2]] == first
    assert computed == []
    board_runs(runs[:3], TRUTH)
    assert [run.folder for run in computed] == [runs[2].folder]
    board_runs(runs[:3], TRUTH, anew=True)
    assert len(computed) == 4


def test_what_is_remembered_depends_on_predictions_and_labels(runs: list[Result], tmp_path: Path) -> None:
    (known,) = board_runs(runs[:1], TRUTH)
    other = write(tmp_path / "other", 99)
    (runs[0].folder / "predictions.npz").write_bytes((other.folder / "predictions.npz").read_bytes())
    (changed,) = board_runs([Result(runs[0].folder, runs[0].document)], TRUTH)
    y_true = TRUTH.y_true.copy()
    y_true[0, 0] = ~y_true[0, 0]
    relabelled = LabelTable(TRUTH.task, LABELS, TRUTH.ecg_id, TRUTH.patient_id, TRUTH.strat_fold, y_true)
    (other_labels,) = board_runs([other], relabelled)

    assert changed.known.as_bytes() == board_runs([other], TRUTH)[0].known.as_bytes() != known.known.as_bytes()
    assert other_labels.known.as_bytes() != changed.known.as_bytes()


def test_damaged_memory_is_computed_again(runs: list[Result], own_cache: Path) -> None:
    (known,) = board_runs(runs[:1], TRUTH)
    (entry,) = (path for path in own_cache.rglob("*") if path.is_file())
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-8] + bytes(8))

    assert board_runs(runs[:1], TRUTH)[0].known.as_bytes() == known.known.as_bytes()
    assert entry.read_bytes() == whole


def test_missing_predictions_are_named(runs: list[Result]) -> None:
    (runs[0].folder / "predictions.npz").unlink()

    with pytest.raises(DataError, match=r"run0/predictions\.npz is missing"):
        board_runs(runs[:1], TRUTH)
