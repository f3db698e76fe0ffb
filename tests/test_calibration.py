"""Probabilities and decisions are scikit-learn's numbers, and nothing is chosen on the fold it is judged on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, f1_score, recall_score

from bench.boards.declared import BoardPlan
from bench.boards.resampling import replicates_of
from bench.boards.rows import Board, Row
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tasks import LabelTable
from bench.evaluation.bootstrap import Interval
from bench.evaluation.predictions import Predictions
from bench.pages import calibration
from bench.pages.calibration import Calibrated, calibrate, calibration_page
from bench.pages.leaderboards import drawn_curves
from bench.pages.markdown import cells_of
from bench.results.result import Result, write_result

LABELS = ("A", "B", "RARE")
FOLDERS: list[Path] = []
"""Empty folders for runs."""


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    FOLDERS[:] = [tmp_path / str(number) for number in range(30)]
    for folder in FOLDERS:
        folder.mkdir()


def table(fold: int, seed: int) -> LabelTable:
    """400 records of 250 patients: two frequent labels and one with four positives."""
    random = np.random.default_rng(seed)
    y_true = random.random((400, 3)) < [0.4, 0.1, 0]
    y_true[:4, 2] = True
    ecg_id = np.arange(400) + 1000 * fold
    return LabelTable("form", LABELS, ecg_id, np.sort(random.integers(250, size=400)), np.full(400, fold), y_true)


VAL, TEST = table(VAL_FOLD, 1), table(TEST_FOLD, 2)


class Truth:
    """The two folds, whatever the result."""

    def fold(self, result: Result, fold: int) -> LabelTable:
        return {VAL_FOLD: VAL, TEST_FOLD: TEST}[fold]


def logits(truth: LabelTable, seed: int, offset: float = 0.0) -> Any:
    noise = np.random.default_rng([seed, int(truth.strat_fold[0])]).normal(size=truth.y_true.shape)
    return 2 * truth.y_true + noise - 1.5 + offset


def row(seeds: int = 2, test_offset: float = 0.0, folds: tuple[int, ...] = (VAL_FOLD, TEST_FOLD), **cell: Any) -> Row:
    """Runs whose scores of fold 10 may be moved against those of fold 9; records of a fold in another order."""
    runs = []
    for seed in range(seeds):
        found = {}
        for truth in (VAL, TEST):
            fold = int(truth.strat_fold[0])
            if fold in folds:
                scores = logits(truth, seed, test_offset if fold == TEST_FOLD else 0.0)
                found[fold] = Predictions(truth.ecg_id[::-1], LABELS, scores[::-1])
        document = {"cell": {"method": "ft", "draw": 0, "seed": seed} | cell, "scores": {"scale": None}}
        document |= {"task": {"fingerprint": "f"}, "metrics": {f"fold_{fold}": {} for fold in folds}}
        folder = FOLDERS.pop()
        write_result(folder, document, found)
        runs.append(Result(folder, document))
    return Row("net", "random", "ft", tuple(runs), {})


def board(*rows: Row, truth: LabelTable | None = TEST) -> Board:
    return Board("ptb-xl-1.0.3", False, "form", "f", 1.0, "", rows, (), truth, BoardPlan(), None)


def calibrated(one: Row) -> Calibrated:
    (found,) = calibrate(board(one), Truth())  # type: ignore[arg-type]
    return found


def test_brier_score_and_calibration_error_are_scikit_learns() -> None:
    found = calibrated(row())
    briers, errors = [], []
    for seed in range(2):
        for c in range(2):  # not the rare label
            truth, prob = TEST.y_true[:, c], expit(logits(TEST, seed)[:, c])
            briers.append(brier_score_loss(truth, prob))
            rate, mean = calibration_curve(truth, prob, n_bins=10)
            num = np.histogram(prob, np.linspace(0, 1, 11))[0]
            errors.append((num[num > 0] / 400 * abs(rate - mean)).sum())

    assert found.brier.interval.value == pytest.approx(np.mean(briers))
    assert found.calibration_error == pytest.approx(np.mean(errors))
    pooled_truth = np.tile(TEST.y_true[:, :2].ravel(), 2)
    pooled_prob = np.concatenate([expit(logits(TEST, seed)[:, :2]).ravel() for seed in range(2)])
    rate, mean = calibration_curve(pooled_truth, pooled_prob, n_bins=10)
    filled = found.curve.num_records[:, 0] > 0
    np.testing.assert_allclose(found.curve.positive_rate[filled, 0], rate)
    np.testing.assert_allclose(found.curve.mean_prob[filled, 0], mean)


def test_the_interval_of_the_brier_score_is_over_the_draws_of_patients() -> None:
    found = calibrated(row(seeds=1))
    prob = expit(logits(TEST, 0))
    drawn = [
        np.mean([brier_score_loss(TEST.y_true[:, c], prob[:, c], sample_weight=counts) for c in range(2)])
        for counts in replicates_of(TEST).counts[:300]
    ]

    assert found.brier.patient_sd == pytest.approx(np.std(drawn), rel=0.15)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.brier.interval.low == pytest.approx(low, abs=0.25 * (high - low))
    assert found.brier.interval.high == pytest.approx(high, abs=0.25 * (high - low))


def test_a_single_run_takes_the_variation_of_other_rows() -> None:
    many = [row(seeds=3, test_offset=0.1 * at) for at in range(-3, 3)]
    one = row(seeds=1)
    alone, beside = calibrated(one).brier, calibrate(board(*many, one), Truth())[-1].brier  # type: ignore[arg-type]

    assert beside.interval.value == alone.interval.value
    assert beside.interval.high - beside.interval.low > alone.interval.high - alone.interval.low


def best_threshold(truth: LabelTable, scores: Any, column: int) -> float:
    """The score with the best F1 on a fold, of equal ones the highest."""
    levels = np.unique(scores[:, column])
    f1 = [f1_score(truth.y_true[:, column], scores[:, column] >= level) for level in levels]
    return float(levels[len(f1) - 1 - np.argmax(f1[::-1])])


def test_thresholds_come_from_fold_9_alone() -> None:
    """Fold 10's scores are moved by 1: thresholds chosen there would undo it, those of fold 9 must not."""
    found = calibrated(row(seeds=1, test_offset=1.0)).decisions
    assert found is not None
    for column in range(2):
        judged = logits(TEST, 0, 1.0)[:, column]
        called = judged >= best_threshold(VAL, logits(VAL, 0), column)
        cheating = judged >= best_threshold(TEST, logits(TEST, 0, 1.0), column)
        truth = TEST.y_true[:, column]

        assert found.sensitivity[column] == pytest.approx(recall_score(truth, called))
        assert found.specificity[column] == pytest.approx(recall_score(~truth, ~called))
        assert found.f1[column] == pytest.approx(f1_score(truth, called))
        assert f1_score(truth, cheating) > found.f1[column] + 0.02  # or the test could not tell


def test_decisions_are_means_over_runs() -> None:
    both, first = calibrated(row(seeds=2)).decisions, calibrated(row(seeds=1)).decisions
    assert both is not None
    assert first is not None
    called = [logits(TEST, 1)[:, c] >= best_threshold(VAL, logits(VAL, 1), c) for c in range(2)]
    second = [f1_score(TEST.y_true[:, c], called[c]) for c in range(2)]

    np.testing.assert_allclose(both.f1[:2], (first.f1[:2] + second) / 2)


def test_without_fold_9_there_are_no_decisions() -> None:
    one = row(folds=(TEST_FOLD,))
    found = calibrated(one)

    assert found.decisions is None
    assert "| – | – | – |" in calibration_page([(board(one), [found])], {})


def test_scores_of_unknown_scale_and_boards_without_labels_are_left_out() -> None:
    assert calibrate(board(row(method="external")), Truth()) == []  # type: ignore[arg-type]
    assert calibrate(board(row(), truth=None), Truth()) == []  # type: ignore[arg-type]
    assert len(calibrate(board(row(), row(method="external")), Truth())) == 1  # type: ignore[arg-type]


def test_the_page_says_the_numbers() -> None:
    one = row()
    found = calibrated(one)
    text = calibration_page([(board(one), [found])], {})
    assert found.decisions is not None

    assert f"{found.brier.interval.value:.4f} ({found.brier.interval.low:.3f}" in text
    assert f"| {found.calibration_error:.4f} | {found.decisions.sensitivity[:2].mean():.3f} |" in text
    assert f"| A | {TEST.y_true[:, 0].sum()} | {found.decisions.sensitivity[0]:.3f} |" in text
    prevalence = TEST.y_true[:, :2].mean(axis=0)
    assert f"as its probability has {(prevalence * (1 - prevalence)).mean():.4f}" in text


def test_rows_have_the_ranks_of_the_board() -> None:
    """The legends of the pictures name them by these; rows of unknown scale are no row here."""
    shown = board(row(method="external"), row(seeds=1), row(seeds=2))
    names = [replace(one, method=name) for one, name in zip(shown.rows, ("a", "b", "c(lr=1)"), strict=True)]
    shown = replace(shown, rows=tuple(names))
    text = calibration_page([(shown, calibrate(shown, Truth()))], {})  # type: ignore[arg-type]
    lines = [cells_of(line) for line in text.splitlines() if line.startswith("|")]

    assert lines[0][:3] == ["rank", "init", "method"]
    assert [cells[0] for cells in lines[2:4]] == ["2", "3"]
    assert lines[3][2] == "c(…)"
    assert "All rows: backbone net." in text
    assert "<summary>2. b on net (random), label by label</summary>" in text


def test_constant_scores_have_no_curve() -> None:
    rows = [replace(row(seeds=1), method=name, summaries=auroc(value)) for name, value in (("ft", 0.9), ("lp", 0.5))]
    shown = board(*rows)

    assert [*drawn_curves(shown, calibrate(shown, Truth()))] == ["1. ft on net (random)"]  # type: ignore[arg-type]


def auroc(value: float) -> dict[str, dict[str, Interval]]:
    return {"frequent": {"auroc": Interval(value, value, value)}}


def test_workers_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(seeds=1) for _ in range(5)]
    here = calibrate(board(*rows), Truth())  # type: ignore[arg-type]
    monkeypatch.setattr(calibration, "LEAST_ROWS", 1)
    monkeypatch.setattr("bench.boards.on_cores.num_cores", lambda: 2)
    monkeypatch.setattr("bench.data.pool.num_cores", lambda: 2)
    monkeypatch.setattr(Result, "scores", None)  # not in this process

    there = calibrate(board(*rows), Truth())  # type: ignore[arg-type]

    assert [each.row for each in there] == rows
    assert repr([vars(each) for each in there]) == repr([vars(each) for each in here])
