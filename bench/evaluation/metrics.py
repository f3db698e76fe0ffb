"""Compute metrics of one fold, one number per label: ranking (AUROC, AP), calibration, decisions at a threshold.

`y_true` [record, label] is 0 or 1. `y_score` [record, label] is any finite score. `y_prob` [record, label] is a
probability. A metric that is undefined for a label is NaN, never 0 or 0.5, so that no macro average hides it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # imports its parts where they are first used
from numpy.typing import NDArray

from bench.errors import DataError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RANKING = ("auroc", "average_precision")  # the metrics of a board; the names of the functions below
MIN_POSITIVES = 10  # least number of positives, and of negatives: intervals of rarer labels cover the truth too seldom


def checked(y_true: NDArray[Any], y_score: NDArray[Any]) -> tuple[Bools, Floats]:
    """Return both arrays [record, label] as bool and float64.

    Raises ValueError for other shapes and DataError for a score that is NaN or infinite.
    """
    y_true, y_score = np.asarray(y_true).astype(bool), np.asarray(y_score, dtype=np.float64)
    if y_true.ndim != 2 or y_true.shape != y_score.shape:
        raise ValueError(f"y_true {y_true.shape} and y_score {y_score.shape} must both be [record, label]")
    if not np.isfinite(y_score).all():
        row, column = np.argwhere(~np.isfinite(y_score))[0]
        raise DataError(
            f"{np.count_nonzero(~np.isfinite(y_score))} scores are NaN or infinite, the first in row {row}, column "
            f"{column}: metrics need finite scores; look for a diverged training or an empty field"
        )
    return y_true, y_score


def defined(y_true: NDArray[Any]) -> Bools:
    """Return [label], True where the fold has a positive and a negative: the labels of published macro averages."""
    y_true = np.asarray(y_true).astype(bool)
    return np.asarray(y_true.any(axis=0) & ~y_true.all(axis=0))


def frequent(y_true: NDArray[Any]) -> Bools:
    """Return [label], True where the fold has MIN_POSITIVES positives and negatives or more. Claims rest on these."""
    num_positives = np.asarray(y_true).astype(bool).sum(axis=0)
    return np.asarray(np.minimum(num_positives, len(y_true) - num_positives) >= MIN_POSITIVES)


def macro(values: Floats, labels: Bools) -> Floats:
    """Return the mean [...] of `values` [..., label] over the labels that the mask `labels` [label] chooses.

    NaN if no label is chosen or the value of a chosen label is NaN.
    """
    return np.asarray(values[..., labels].mean(axis=-1) if labels.any() else np.full(values.shape[:-1], np.nan))


def auroc(y_true: NDArray[Any], y_score: NDArray[Any]) -> Floats:
    """Return [label], the probability that a positive is scored above a negative; a tie counts half.

    NaN for a label without a positive or without a negative. Computed from mid-ranks: the Mann-Whitney statistic
    divided by its maximum (Hanley and McNeil 1982).
    """
    y_true, y_score = checked(y_true, y_score)
    num_positives = y_true.sum(axis=0)
    rank_sum = np.where(y_true, scipy.stats.rankdata(y_score, axis=0), 0).sum(axis=0)
    num_pairs = num_positives * (len(y_true) - num_positives)
    return _ratio(rank_sum - num_positives * (num_positives + 1) / 2, num_pairs)


def average_precision(y_true: NDArray[Any], y_score: NDArray[Any]) -> Floats:
    """Return [label], the sum of precision times the step in recall, without interpolation; NaN without a positive.

    This is the mean over the positives of the precision among the records that are scored at least as high.
    """
    true_positives, predicted, is_positive, _ = _descending(y_true, y_score)
    return _ratio((is_positive * true_positives / predicted).sum(axis=0), is_positive.sum(axis=0))


def _descending(y_true: NDArray[Any], y_score: NDArray[Any]) -> tuple[Ints, Ints, Bools, Floats]:
    """Sort the records of each label by descending score. Return four arrays [record, label].

    They are: the number of positives scored at least as high, the number of records scored at least as high, the label,
    and the score. Tied records have equal counts.
    """
    y_true, y_score = checked(y_true, y_score)
    order = np.argsort(-y_score, axis=0, kind="stable")
    y_true, y_score = np.take_along_axis(y_true, order, axis=0), np.take_along_axis(y_score, order, axis=0)
    predicted = scipy.stats.rankdata(-y_score, method="max", axis=0).astype(np.int64)
    true_positives = np.take_along_axis(y_true.cumsum(axis=0), predicted - 1, axis=0)
    return true_positives, predicted, y_true, y_score


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Return part / whole; NaN where whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))


@dataclass(frozen=True)
class Reliability:
    """Reliability curves, each array [bin, label]; the two means are NaN in empty bins."""

    mean_prob: Floats  # mean predicted probability
    positive_rate: Floats  # share of records that are positive
    num_records: Ints


def reliability(y_true: NDArray[Any], y_prob: NDArray[Any], num_bins: int = 10) -> Reliability:
    """Return the curves over `num_bins` bins of equal width on [0, 1]; a bin includes its upper edge."""
    y_true, y_prob = _checked_probabilities(y_true, y_prob)
    bins = np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], y_prob)
    members = [bins == b for b in range(num_bins)]
    num_records = np.stack([member.sum(axis=0) for member in members])
    prob_sum = np.stack([np.where(member, y_prob, 0).sum(axis=0) for member in members])
    num_positives = np.stack([(member & y_true).sum(axis=0) for member in members])
    return Reliability(_ratio(prob_sum, num_records), _ratio(num_positives, num_records), num_records)


def expected_calibration_error(y_true: NDArray[Any], y_prob: NDArray[Any], num_bins: int = 10) -> Floats:
    """Return [label], the mean |probability - positive rate| over bins, weighted by records (Naeini et al. 2015)."""
    curve = reliability(y_true, y_prob, num_bins)
    gap = np.nan_to_num(np.abs(curve.mean_prob - curve.positive_rate))
    return np.asarray((gap * curve.num_records).sum(axis=0) / curve.num_records.sum(axis=0))


def _checked_probabilities(y_true: NDArray[Any], y_prob: NDArray[Any]) -> tuple[Bools, Floats]:
    y_true, y_prob = checked(y_true, y_prob)
    if y_prob.size and (y_prob.min() < 0 or y_prob.max() > 1):
        raise DataError(
            f"probabilities range from {y_prob.min():.4g} to {y_prob.max():.4g}, expected 0 to 1; "
            "turn logits into probabilities with a sigmoid first"
        )
    return y_true, y_prob


@dataclass(frozen=True)
class Decisions:
    """Quality of the decisions `y_score >= threshold`, each array [label]; NaN where undefined."""

    sensitivity: Floats
    specificity: Floats
    f1: Floats


def f1_thresholds(y_true: NDArray[Any], y_score: NDArray[Any]) -> Floats:
    """Return [label], the threshold on the score with the best F1; NaN for a label without a positive.

    The highest of equally good thresholds is returned. Choose thresholds on fold 9 and evaluate `decisions` on fold 10.
    """
    true_positives, predicted, is_positive, y_score = _descending(y_true, y_score)
    num_positives = is_positive.sum(axis=0)
    best = (2 * true_positives / (predicted + num_positives)).argmax(axis=0, keepdims=True)
    return np.where(num_positives > 0, np.take_along_axis(y_score, best, axis=0)[0], np.nan)


def decisions(y_true: NDArray[Any], y_score: NDArray[Any], thresholds: Floats) -> Decisions:
    """Return sensitivity, specificity and F1 of `y_score >= thresholds` [label]; NaN where a threshold is NaN."""
    y_true, y_score = checked(y_true, y_score)
    predicted = y_score >= thresholds
    num_positives = y_true.sum(axis=0)
    true_positives = (predicted & y_true).sum(axis=0)
    true_negatives = (~predicted & ~y_true).sum(axis=0)
    chosen = ~np.isnan(thresholds)
    return Decisions(
        sensitivity=_ratio(true_positives, num_positives * chosen),
        specificity=_ratio(true_negatives, (len(y_true) - num_positives) * chosen),
        f1=_ratio(2 * true_positives, (predicted.sum(axis=0) + num_positives) * (chosen & (num_positives > 0))),
    )
