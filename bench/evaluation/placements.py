"""Compute standard errors of macro AUROC without bootstrap: for labels too rare to resample, and for differences.

The placement of a positive record is the share of negatives that it is ranked above; the placement of a negative record
is the share of positives that it is ranked below. The AUROC of a label is the mean placement of its positives, and also
that of its negatives. The variance of this mean is that of DeLong et al. (1988), with patients as clusters (Obuchowski
1997).

One or two positives do not show how much their placements vary, so the variance of rare labels is borrowed from the
frequent ones. Placements with mean m have a variance of at most m (1 - m). The frequent labels' positives reach some
share of this bound. The same share is assumed for rare labels, at the rare labels' mean AUROC, and divided by the
number of patients that have the label. This assumption fails where rare labels differ much in AUROC from each other or
in kind from the frequent ones. `bench.boards.simulations` measures how often the resulting interval covers the truth.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.evaluation import metrics
from bench.evaluation.bootstrap import Interval, Summary, summarize_normal
from bench.evaluation.metrics import Bools, Floats
from bench.evaluation.runs import NO_PRIORS, Design, Priors, moderate, two_sided_p


def summarize_all_labels(
    patient_id: NDArray[Any],
    y_true: NDArray[Any],
    runs: Sequence[NDArray[Any]],
    *,
    design: Design | None = None,
    priors: Priors = NO_PRIORS,
) -> Summary:
    """Return macro AUROC over all defined labels with a normal interval of 95 %.

    `runs` are the y_score [record, label] of each run; `design` and `priors` are as in `bootstrap.summarize`. Bounds
    are NaN if every frequent label has AUROC 1.
    """
    chosen = metrics.defined(y_true)
    y_true, is_rare = np.asarray(y_true).astype(bool)[:, chosen], ~metrics.frequent(y_true)[chosen]
    patients, patient_of_record = np.unique(patient_id, return_inverse=True)
    num_positives = y_true.sum(axis=0)
    design = design or Design.independent(len(runs))
    values = np.array([metrics.auroc(y_true, y_score[:, chosen]) for y_score in runs])  # [run, label]
    auroc = design.mean(values)

    deviation = design.mean([placements(y_true, y_score[:, chosen]) for y_score in runs]) - auroc  # [record, label]
    borrowed = _variance_of_rare_positives(y_true, deviation, auroc, is_rare)
    num_carriers = [len(np.unique(patient_of_record[is_positive])) for is_positive in y_true.T[is_rare]]

    deviation[y_true & is_rare] = 0
    weight = np.where(y_true, 1 / num_positives, 1 / (len(y_true) - num_positives))
    influence = np.bincount(patient_of_record, (deviation * weight).mean(axis=1), len(patients))
    variance = np.square(influence).sum() * len(patients) / (len(patients) - 1)
    variance += borrowed * np.sum(1 / np.array(num_carriers)) / len(num_positives) ** 2
    summary = summarize_normal(values.mean(axis=1), float(np.sqrt(variance)), design=design, priors=priors)
    interval = summary.interval
    return replace(summary, interval=Interval(interval.value, max(interval.low, 0.0), min(interval.high, 1.0)))


def difference_p(
    patient_id: NDArray[Any],
    y_true: NDArray[Any],
    first: Sequence[Floats],
    second: Sequence[Floats],
    *,
    design: Design | None = None,
    priors: Priors = NO_PRIORS,
) -> float:
    """Return the two-sided p-value of no difference in macro AUROC over these labels.

    `first` and `second` are the `placements` [record, label] of paired runs. `design` and `priors` are as in
    `bootstrap.summarize`. The variance is the sum of a part from patients and a part from runs. If labels have few
    positives, the part from patients is a sum of few large squares and so uncertain itself (`patients_variance`). p is
    1 if the difference is 0, and 0 if the variance of a difference is 0.
    """
    y_true = np.asarray(y_true).astype(bool)
    design = design or Design.independent(len(first))
    _, patient_of_record = np.unique(patient_id, return_inverse=True)
    num_positives = y_true.sum(axis=0)
    of_runs = np.array([a - b for a, b in zip(first, second, strict=True)])  # [run, record, label]
    by_label = np.where(y_true, of_runs, 0).sum(axis=1) / num_positives  # [run, label]
    values = by_label.mean(axis=1)
    deviation = design.mean(of_runs) - design.mean(by_label)

    size = np.where(y_true, num_positives, len(y_true) - num_positives)
    influence = np.bincount(patient_of_record, (deviation / np.sqrt(size * (size - 1.0))).mean(axis=1))
    of_patients, known = patients_variance(influence)
    own = design.variance(values)
    moderated = moderate(own, priors.get(own.kind))
    return float(two_sided_p(design.mean(values), of_patients, moderated.of_mean, moderated.degrees_of_freedom, known))


def patients_variance(influence: NDArray[Any]) -> tuple[float, float]:
    """Return the variance of a mean from the `influence` [patient] of each patient, and its degrees of freedom.

    They are those of normal variables with the same sum of fourth powers (Satterthwaite 1946).
    """
    variance = float(np.square(influence).sum())
    inverse = max(np.sum(influence**4) - variance**2 / max(len(influence), 1), 0) / 2
    return variance, float(variance**2 / inverse) if inverse else np.inf


def _variance_of_rare_positives(y_true: Bools, deviation: Floats, auroc: Floats, is_rare: Bools) -> float:
    """Return the assumed variance of the placement of a rare label's positive; NaN if every frequent AUROC is 1.

    The frequent labels' mean AUROC is added to the rare labels' AUROCs as if it were one more. Otherwise a few rare
    labels with AUROC 1 would have no variance.
    """
    frequent = auroc[~is_rare]
    bound = np.sum(frequent * (1 - frequent))
    if bound == 0:
        return np.nan
    squares = np.where(y_true, np.square(deviation), 0).sum(axis=0)[~is_rare]
    reached = np.sum(squares / (y_true.sum(axis=0)[~is_rare] - 1)) / bound
    mean = (auroc[is_rare].sum() + frequent.mean()) / (is_rare.sum() + 1)
    return float(reached * mean * (1 - mean))


def placements(y_true: Bools, y_score: NDArray[Any]) -> Floats:
    """Return [record, label], the share of the other class that a record is ranked correctly against; a tie is half."""
    shares = np.empty(y_true.shape)
    for column, (is_positive, score) in enumerate(zip(y_true.T, y_score.T, strict=True)):
        positives, negatives = score[is_positive], score[~is_positive]
        shares[is_positive, column] = num_below(positives, negatives) / len(negatives)
        shares[~is_positive, column] = 1 - num_below(negatives, positives) / len(positives)
    return shares


def num_below(values: NDArray[Any], others: NDArray[Any]) -> Floats:
    """Return for each value how many of `others` lie below it; a tie counts half."""
    others = np.sort(others)
    below, not_above = (np.searchsorted(others, values, side=side) for side in ("left", "right"))
    return np.asarray((below + not_above) / 2)
