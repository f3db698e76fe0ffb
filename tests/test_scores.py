"""What is said of one run on one fold: values as scikit-learn has them, labels left out, folds too small to draw."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from bench.evaluation.placements import summarize_all_labels
from bench.evaluation.scores import label_sets, replicates_for, score_fold

Fold = tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]
LABELS = ["A", "B", "RARE", "NONE", "ALL"]


@pytest.fixture
def fold() -> Fold:
    """Truth, scores and patients of 150 records: two frequent labels, one rare, one never, one always there."""
    random = np.random.default_rng(0)
    y_true = random.random((150, 5)) < [0.4, 0.2, 0, 0, 1]
    y_true[:4, 2] = True
    y_score = np.round(y_true + random.normal(size=(150, 5)), 1)  # rounded, so that there are ties
    return y_true, y_score, random.integers(100, size=150)


def test_point_values_are_scikit_learns(fold: Fold) -> None:
    y_true, y_score, patients = fold
    found = score_fold(y_true, y_score, LABELS, patients, num_replicates=20)

    for metric, reference in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
        expected = [reference(y_true[:, column], y_score[:, column]) for column in range(3)]
        for label, value in zip(LABELS, expected, strict=False):
            assert found["labels"][label][metric]["value"] == pytest.approx(value, abs=1e-12)
        assert found["macro"]["all"][metric]["value"] == pytest.approx(np.mean(expected), abs=1e-12)
        assert found["macro"]["frequent"][metric]["value"] == pytest.approx(np.mean(expected[:2]), abs=1e-12)


def test_values_do_not_depend_on_whether_intervals_are_wanted(fold: Fold) -> None:
    y_true, y_score, patients = fold
    plain, full = score_fold(y_true, y_score, LABELS), score_fold(y_true, y_score, LABELS, patients, num_replicates=20)

    assert plain["bootstrap"] is None
    for chosen in ("all", "frequent"):
        for metric in ("auroc", "average_precision"):
            assert plain["macro"][chosen][metric] == {"value": full["macro"][chosen][metric]["value"]}


def test_labels_that_cannot_be_scored_are_listed_and_never_half(fold: Fold) -> None:
    y_true, y_score, patients = fold
    found = score_fold(y_true, y_score, LABELS, patients, num_replicates=20)

    assert found["excluded_labels"] == ["NONE", "ALL"]
    assert found["labels"]["NONE"] == {
        "num_positives": 0,
        "auroc": {"value": None},
        "average_precision": {"value": None},
    }
    assert found["labels"]["ALL"]["auroc"] == {"value": None}
    assert found["macro"]["all"]["num_labels"] == 3
    assert found["macro"]["frequent"]["num_labels"] == 2


def test_intervals_hold_the_value_and_say_how_they_were_made(fold: Fold) -> None:
    y_true, y_score, patients = fold
    found = score_fold(y_true, y_score, LABELS, patients, num_replicates=200, seed=1)

    assert found["bootstrap"]["num_draws"] == 200
    assert 0 < found["bootstrap"]["acceptance"] <= 1
    assert found["num_patients"] == len(np.unique(patients))
    for chosen in ("all", "frequent"):
        interval = found["macro"][chosen]["auroc"]
        assert interval["low"] < interval["value"] < interval["high"]


def test_labels_that_are_too_rare_have_no_interval_of_their_own(fold: Fold) -> None:
    y_true, y_score, patients = fold
    found = score_fold(y_true, y_score, LABELS, patients, num_replicates=20)

    assert set(found["labels"]["A"]["auroc"]) == {"value", "low", "high"}
    assert set(found["labels"]["RARE"]["auroc"]) == set(found["labels"]["RARE"]["average_precision"]) == {"value"}
    assert set(found["macro"]["frequent"]["average_precision"]) == {"value", "low", "high"}
    assert set(found["macro"]["all"]["average_precision"]) == {"value"}
    of_all = asdict(summarize_all_labels(patients, y_true, [y_score]).interval)
    assert found["macro"]["all"]["auroc"] == of_all
    common = score_fold(y_true[:, :2], y_score[:, :2], LABELS[:2], patients, num_replicates=20)
    assert common["macro"]["all"] == common["macro"]["frequent"]  # where no label is rare, both are the same


@pytest.mark.filterwarnings("error")
def test_without_a_fault_there_is_no_interval_over_all_labels(fold: Fold) -> None:
    y_true, _, patients = fold
    found = score_fold(y_true, y_true.astype(float), LABELS, patients, num_replicates=20)

    assert found["macro"]["all"]["auroc"] == {"value": 1.0}
    json.dumps(found, allow_nan=False)


def test_rare_labels_do_not_restrict_the_draws(fold: Fold) -> None:
    y_true, _, patients = fold
    alone = np.eye(150, 12, dtype=bool)
    replicates = replicates_for(patients, np.hstack([y_true, alone]), [*LABELS, *map(str, range(12))], 50, 0)

    np.testing.assert_array_equal(replicates.counts, replicates_for(patients, y_true, LABELS, 50, 0).counts)
    assert replicates.acceptance == 1


@pytest.mark.parametrize("size", [1, 2, 6])
def test_a_fold_too_small_for_anything_is_no_crash(size: int) -> None:
    y_true = np.arange(size)[:, None] % 2 == 0
    found: dict[str, Any] = score_fold(y_true, np.zeros((size, 1)), ["A"], np.arange(size), num_replicates=20)

    assert found["macro"]["frequent"]["num_labels"] == 0
    assert found["macro"]["frequent"]["auroc"] == {"value": None}
    assert found["excluded_labels"] == (["A"] if size == 1 else [])
    json.dumps(found, allow_nan=False)


def test_the_two_sets_of_labels(fold: Fold) -> None:
    sets = label_sets(fold[0])

    assert sets["all"].tolist() == [True, True, True, False, False]
    assert sets["frequent"].tolist() == [True, True, False, False, False]
