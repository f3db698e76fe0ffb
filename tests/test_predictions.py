"""Predictions are joined with a fold by name, or refused with the names that do not fit."""

import numpy as np
import pytest

from bench.errors import DataError
from bench.evaluation.predictions import Predictions, align

PREDICTIONS = Predictions(
    ecg_id=np.array([30, 10, 20]),
    labels=("NORM", "AFIB"),
    logits=np.array([[3, 0.3], [1, 0.1], [2, 0.2]], dtype=np.float32),
)


def test_scores_come_back_in_the_wanted_order() -> None:
    y_score = align(PREDICTIONS, np.array([10, 20, 30]), ("AFIB", "NORM"))

    assert y_score.dtype == np.float32
    np.testing.assert_array_equal(y_score, np.array([[0.1, 1], [0.2, 2], [0.3, 3]], dtype=np.float32))


def test_scores_in_the_wanted_order_are_given_as_they_are_and_checked_too() -> None:
    wanted = np.array([10, 20, 30])
    ordered = Predictions(wanted, ("AFIB", "NORM"), np.arange(6, dtype=np.float32).reshape(3, 2))
    y_score = align(ordered, wanted, ["AFIB", "NORM"])
    np.testing.assert_array_equal(y_score, ordered.logits)
    y_score[0, 0] = 9
    assert ordered.logits[0, 0] == 0, "the caller's own array"
    columns = Predictions(wanted, ("AFIB", "NORM"), np.asfortranarray(ordered.logits))
    np.testing.assert_array_equal(align(columns, wanted, ("AFIB", "NORM")), ordered.logits)

    ordered.logits[1, 1] = np.nan
    with pytest.raises(DataError, match="NaN or infinite score 20/NORM"):
        align(ordered, wanted, ("AFIB", "NORM"))
    with pytest.raises(DataError, match="scores of shape"):
        align(Predictions(wanted, ("AFIB", "NORM"), ordered.logits[:, :1]), wanted, ("AFIB", "NORM"))


@pytest.mark.parametrize(
    ("ecg_id", "labels", "message"),
    [
        ([10, 20, 30, 40], ("NORM", "AFIB"), "missing record 40"),
        ([10, 20], ("NORM", "AFIB"), "unknown record 30"),
        ([10, 20, 30], ("NORM", "AFIB", "STACH"), "missing label STACH"),
        ([10, 20, 30], ("NORM",), "unknown label AFIB"),
        (
            [10, 20, 41, 42],
            ("MI",),
            "missing records (2) 41, 42; unknown record 30; missing label MI; unknown labels (2)",
        ),
    ],
)
def test_what_does_not_fit_is_named(ecg_id: list[int], labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError) as error:
        align(PREDICTIONS, np.array(ecg_id), labels)

    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_duplicates_are_named() -> None:
    twice = Predictions(np.array([10, 20, 10]), ("NORM", "NORM"), np.zeros((3, 2), np.float32))

    with pytest.raises(DataError, match="duplicate record 10; duplicate label NORM"):
        align(twice, np.array([10, 20]), ("NORM",))


@pytest.mark.parametrize("unusable", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_named(unusable: float) -> None:
    logits = PREDICTIONS.logits.copy()
    logits[2, 1] = unusable

    with pytest.raises(DataError, match="NaN or infinite score 20/AFIB"):
        align(Predictions(PREDICTIONS.ecg_id, PREDICTIONS.labels, logits), np.array([10, 20, 30]), ("NORM", "AFIB"))


def test_many_culprits_are_counted() -> None:
    with pytest.raises(DataError, match=r"missing records \(100\) 100, 101, 102, 103, 104, \.\.\."):
        align(PREDICTIONS, np.array([10, 20, 30, *range(100, 200)]), ("NORM", "AFIB"))


def test_scores_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(2, 3\) for 3 records and 2 labels"):
        align(
            Predictions(PREDICTIONS.ecg_id, PREDICTIONS.labels, PREDICTIONS.logits.T), np.array([10]), ("NORM", "AFIB")
        )
