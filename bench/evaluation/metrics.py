"""Metrics of one fold, a number a label: ranking (AUROC, AP), calibration, and decisions at a threshold.

`y_true` [record, label] is 0 or 1, `y_score` [record, label] any finite score, `y_prob` one between 0 and 1.
A label for which a metric is undefined gets NaN, never 0 or 0.5, so that no macro average can hide it.
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

RANKING = ("auroc", "average_precision")  # what boards say of a row, by these functions' names
MIN_POSITIVES = 10  # and negatives: intervals of rarer labels cover too seldom for a claim to rest on them


def checked(y_true: NDArray[Any], y_score: NDArray[Any]) -> tuple[Bools, Floats]:
    """Both [record, label] arrays as bool and float64; DataError where a score is NaN or infinite."""
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
    """[label] True where the fold has a positive and a negative: the labels of the published macro averages."""
    y_true = np.asarray(y_true).astype(bool)
    return np.asarray(y_true.any(axis=0) & ~y_true.all(axis=0))


def frequent(y_true: NDArray[Any]) -> Bools:
    """[label] True for labels with at least MIN_POSITIVES positives and so many negatives: what claims rest on."""
    num_positives = np.asarray(y_true).astype(bool).sum(axis=0)
    return np.asarray(np.minimum(num_positives, len(y_true) - num_positives) >= MIN_POSITIVES)


def macro(values: Floats, labels: Bools) -> Floats:
    """Mean of `values` [..., label] over the chosen `labels` [label]: [...]; NaN if none is chosen or one is NaN."""
    return np.asarray(values[..., labels].mean(axis=-1) if labels.any() else np.full(values.shape[:-1], np.nan))


def auroc(y_true: NDArray[Any], y_score: NDArray[Any]) -> Floats:
    """[label] probability that a positive is scored above a negative, ties half; NaN without either.

    From mid-ranks: the Mann-Whitney statistic over its largest value (Hanley and McNeil 1982).
    """
    y_true, y_score = checked(y_true, y_score)
    num_positives = y_true.sum(axis=0)
    rank_sum = np.where(y_true, scipy.stats.rankdata(y_score, axis=0), 0).sum(axis=0)
    num_pairs = num_positives * (len(y_true) - num_positives)
    return _ratio(rank_sum - num_positives * (num_positives + 1) / 2, num_pairs)


def average_precision(y_true: NDArray[Any], y_score: NDArray[Any]) -> Floats:
    """[label] sum of precision times the step in recall, not the trapezoid; NaN without a positive.

    That is the mean, over the positives, of the precision among the records scored at least as high.
    """
    found, called, is_positive, _ = _descending(y_true, y_score)
    return _ratio((is_positive * found / called).sum(axis=0), is_positive.sum(axis=0))


def _descending(y_true: NDArray[Any], y_score: NDArray[Any]) -> tuple[Ints, Ints, Bools, Floats]:
    """Records by descending score, each [record, label]: positives and records scored at least as high; truth; score.

    Tied records share both counts.
    """
    y_true, y_score = checked(y_true, y_score)
    order = np.argsort(-y_score, axis=0, kind="stable")
    y_true, y_score = np.take_along_axis(y_true, order, axis=0), np.take_along_axis(y_score, order, axis=0)
    called = scipy.stats.rankdata(-y_score, method="max", axis=0).astype(np.int64)
    found = np.take_along_axis(y_true.cumsum(axis=0), called - 1, axis=0)
    return found, called, y_true, y_score


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """part / whole, NaN where whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))


@dataclass(frozen=True)
class Reliability:
    """A reliability curve a label, each array [bin, label]; means are NaN in empty bins."""

    mean_prob: Floats  # what the model said
    positive_rate: Floats  # what was so
    num_records: Ints


def reliability(y_true: NDArray[Any], y_prob: NDArray[Any], num_bins: int = 10) -> Reliability:
    """The curve over `num_bins` bins of equal width on [0, 1], each with its upper edge."""
    y_true, y_prob = _checked_probabilities(y_true, y_prob)
    bins = np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], y_prob)
    members = [bins == b for b in range(num_bins)]
    num_records = np.stack([member.sum(axis=0) for member in members])
    prob_sum = np.stack([np.where(member, y_prob, 0).sum(axis=0) for member in members])
    num_positives = np.stack([(member & y_true).sum(axis=0) for member in members])
    return Reliability(_ratio(prob_sum, num_records), _ratio(num_positives, num_records), num_records)


def expected_calibration_error(y_true: NDArray[Any], y_prob: NDArray[Any], num_bins: int = 10) -> Floats:
    """[label] mean gap of the reliability curve, bins weighted by their records (Naeini et al. 2015)."""
    curve = reliability(y_true, y_prob, num_bins)
    gap = np.nan_to_num(np.abs(curve.mean_prob - curve.positive_rate))
    return np.asarray((gap * curve.num_records).sum(axis=0) / curve.num_records.sum(axis=0))


def _checked_probabilities(y_true: NDArray[Any], y_prob: NDArray[Any]) -> tuple[Bools, Floats]:
    y_true, y_prob = checked(y_true, y_prob)
    if y_prob.size and (y_prob.min() < 0 or y_prob.max() > 1):
        raise DataError(
            f"probabilities run from {y_prob.min():.4g} to {y_prob.max():.4g}: 0 to 1 is expected; "
            "turn logits into probabilities with a sigmoid first"
        )
    return y_true, y_prob


@dataclass(frozen=True)
class Decisions:
    """How good the decisions `y_score >= threshold` are, each array [label]; NaN where undefined."""

    sensitivity: Floats
    specificity: Floats
    f1: Floats


def f1_thresholds(y_true: NDArray[Any], y_score: NDArray[Any]) -> Floats:
    """[label] the score from which on a record is called positive for the best F1; NaN without a positive.

    Of equally good thresholds the highest. Choose on fold 9, judge with `decisions` on fold 10.
    """
    found, called, is_positive, y_score = _descending(y_true, y_score)
    num_positives = is_positive.sum(axis=0)
    best = (2 * found / (called + num_positives)).argmax(axis=0, keepdims=True)
    return np.where(num_positives > 0, np.take_along_axis(y_score, best, axis=0)[0], np.nan)


def decisions(y_true: NDArray[Any], y_score: NDArray[Any], thresholds: Floats) -> Decisions:
    """Sensitivity, specificity and F1 of `y_score >= thresholds` [label]; NaN for a label whose threshold is NaN."""
    y_true, y_score = checked(y_true, y_score)
    called = y_score >= thresholds
    num_positives = y_true.sum(axis=0)
    found = (called & y_true).sum(axis=0)
    spared = (~called & ~y_true).sum(axis=0)
    chosen = ~np.isnan(thresholds)
    return Decisions(
        sensitivity=_ratio(found, num_positives * chosen),
        specificity=_ratio(spared, (len(y_true) - num_positives) * chosen),
        f1=_ratio(2 * found, (called.sum(axis=0) + num_positives) * (chosen & (num_positives > 0))),
    )
