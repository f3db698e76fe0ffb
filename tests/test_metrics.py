"""Metrics agree with scikit-learn where it has them, and are NaN where a label leaves them undefined."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, f1_score, recall_score, roc_auc_score

from bench.errors import DataError
from bench.evaluation import metrics
from bench.evaluation.metrics import Bools, Floats


@pytest.fixture
def fold() -> tuple[Bools, Floats]:
    """400 records; labels: common, rare, tied scores, constant score, one positive, almost all positive."""
    random = np.random.default_rng(0)
    y_true = random.random((400, 6)) < [0.4, 0.03, 0.2, 0.3, 0, 0.98]
    y_true[17, 4] = True
    y_score = random.normal(size=y_true.shape) + y_true
    y_score[:, 2] = y_score[:, 2].round()
    y_score[:, 3] = 0.5
    return y_true, y_score


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranking_agrees_with_scikit_learn(fold: tuple[Bools, Floats], dtype: type) -> None:
    y_true, y_score = fold[0], fold[1].astype(dtype)
    columns = range(y_true.shape[1])

    expected_auroc = [roc_auc_score(y_true[:, c], y_score[:, c]) for c in columns]
    expected_ap = [average_precision_score(y_true[:, c], y_score[:, c]) for c in columns]

    np.testing.assert_allclose(metrics.auroc(y_true, y_score), expected_auroc, rtol=0, atol=1e-12)
    np.testing.assert_allclose(metrics.average_precision(y_true, y_score), expected_ap, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(metrics.auroc(y_true.astype(int), y_score), metrics.auroc(y_true, y_score))


def test_constant_scores_are_chance(fold: tuple[Bools, Floats]) -> None:
    y_true, y_score = fold

    assert metrics.auroc(y_true, y_score)[3] == 0.5
    assert metrics.average_precision(y_true, y_score)[3] == pytest.approx(y_true[:, 3].mean())


def test_undefined_labels_are_nan() -> None:
    y_true = np.array([[0, 1, 0], [0, 1, 1], [0, 1, 1]])
    y_score = np.arange(9.0).reshape(3, 3)

    np.testing.assert_array_equal(metrics.auroc(y_true, y_score), [np.nan, np.nan, 1])
    np.testing.assert_array_equal(metrics.average_precision(y_true, y_score), [np.nan, 1, 1])
    np.testing.assert_array_equal(metrics.defined(y_true), [False, False, True])


@pytest.mark.parametrize("unusable", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(fold: tuple[Bools, Floats], unusable: float) -> None:
    y_true, y_score = fold
    y_score[7, 2] = unusable

    with pytest.raises(DataError, match="1 scores are NaN or infinite, the first in row 7, column 2"):
        metrics.auroc(y_true, y_score)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="must both be"):
        metrics.auroc(np.zeros((3, 1)), np.zeros((3, 2)))


def test_label_sets_and_their_macro() -> None:
    y_true = np.zeros((30, 4), dtype=bool)
    y_true[:9, 0] = y_true[:10, 1] = y_true[:, 2] = True

    np.testing.assert_array_equal(metrics.defined(y_true), [True, True, False, False])
    np.testing.assert_array_equal(metrics.frequent(y_true), [False, True, False, False])
    np.testing.assert_array_equal(metrics.frequent(~y_true), [False, True, False, False])  # nor with few negatives
    values = np.array([[0.6, 0.8, np.nan, np.nan], [0.5, 0.7, np.nan, np.nan]])
    np.testing.assert_allclose(metrics.macro(values, metrics.defined(y_true)), [0.7, 0.6])
    assert np.isnan(metrics.macro(values, np.ones(4, dtype=bool))).all()
    assert np.isnan(metrics.macro(values[0], np.zeros(4, dtype=bool)))


def test_calibration_agrees_with_scikit_learn(fold: tuple[Bools, Floats]) -> None:
    y_true, y_prob = fold[0], 1 / (1 + np.exp(-fold[1]))
    y_prob[:3, 0] = 0, 0.5, 1  # edges of bins
    curve = metrics.reliability(y_true, y_prob)
    error = metrics.expected_calibration_error(y_true, y_prob)

    for c in range(y_true.shape[1]):
        positive_rate, mean_prob = calibration_curve(y_true[:, c], y_prob[:, c], n_bins=10)
        filled = curve.num_records[:, c] > 0
        np.testing.assert_allclose(curve.mean_prob[filled, c], mean_prob, atol=1e-12)
        np.testing.assert_allclose(curve.positive_rate[filled, c], positive_rate, atol=1e-12)
        weights = curve.num_records[filled, c] / len(y_true)
        assert error[c] == pytest.approx((weights * abs(positive_rate - mean_prob)).sum())
    assert np.isnan(curve.mean_prob[:, 3]).sum() == 9


def test_calibrated_probabilities_have_no_calibration_error() -> None:
    y_true = np.array([[1], [0], [0], [0], [1], [1], [1], [0]])
    y_prob = np.array([[0.25]] * 4 + [[0.75]] * 4)

    np.testing.assert_allclose(metrics.expected_calibration_error(y_true, y_prob), [0])
    np.testing.assert_allclose(metrics.expected_calibration_error(y_true, 1 - y_prob), [0.5])


def test_logits_are_no_probabilities() -> None:
    with pytest.raises(DataError, match=r"from -3 to 2, expected 0 to 1; turn logits into probabilities"):
        metrics.reliability(np.array([[0], [1]]), np.array([[-3.0], [2.0]]))


def test_threshold_has_the_best_f1(fold: tuple[Bools, Floats]) -> None:
    y_true, y_score = fold
    thresholds = metrics.f1_thresholds(y_true, y_score)
    f1 = metrics.decisions(y_true, y_score, thresholds).f1

    for c in range(y_true.shape[1]):
        every = [f1_score(y_true[:, c], y_score[:, c] >= level) for level in np.unique(y_score[:, c])]
        assert f1[c] == pytest.approx(max(every))


def test_decisions_are_judged_on_another_fold(fold: tuple[Bools, Floats]) -> None:
    y_true, y_score = fold
    judged = metrics.decisions(y_true[200:], y_score[200:], metrics.f1_thresholds(y_true[:200], y_score[:200]))
    called = y_score[200:, 0] >= metrics.f1_thresholds(y_true[:200], y_score[:200])[0]

    assert judged.sensitivity[0] == pytest.approx(recall_score(y_true[200:, 0], called))
    assert judged.specificity[0] == pytest.approx(recall_score(~y_true[200:, 0], ~called))
    assert judged.f1[0] == pytest.approx(f1_score(y_true[200:, 0], called))
    assert np.isnan(judged.sensitivity[4])  # its one positive is in the first half
    assert not np.isnan(judged.specificity[4])


def test_no_threshold_without_a_positive() -> None:
    thresholds = metrics.f1_thresholds(np.zeros((5, 1)), np.arange(5.0)[:, None])
    judged = metrics.decisions(np.array([[0], [1]]), np.zeros((2, 1)), thresholds)

    assert np.isnan([thresholds, judged.sensitivity, judged.specificity, judged.f1]).all()
