"""Standard errors of macro AUROC from what each patient contributes: over labels too rare to draw, and of differences.

A record's placement is the share of the other class that it is ranked above (a positive) or below (a negative); a
label's AUROC is the mean placement of its positives, and of its negatives. The variance of that mean over patients is
that of DeLong et al. (1988) with patients as clusters (Obuchowski 1997), and needs no replicates.

Yet the placements of one or two positives say nothing of how much they vary. So the variance of a rare label's
positives is borrowed. Placements of mean m vary by at most m (1 - m): the share of that bound which the frequent
labels' positives reach is taken for the rare ones too, at the rare labels' mean AUROC, over the number of patients
that have the label. That fails where rare labels differ much from each other or in kind: `bench.boards.simulations`
measures how often such an interval covers.
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
    level: float = 0.95,
    *,
    design: Design | None = None,
    priors: Priors = NO_PRIORS,
) -> Summary:
    """Macro AUROC over all defined labels of these runs, y_score [record, label] each, with a normal interval.

    `design` and `priors` are as in `bootstrap.summarize`.

    NaN bounds where no frequent label is ranked with a fault: there is nothing to borrow from.
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
    summary = summarize_normal(values.mean(axis=1), float(np.sqrt(variance)), level, design=design, priors=priors)
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
    """Two-sided p of no difference in macro AUROC over all these labels; 1 if nothing differs, 0 if nothing varies.

    `first` and `second` are the `placements` [record, label] of paired runs; `design` and `priors` are as in
    `bootstrap.summarize`. The variance holds patients and runs.
    Where labels have few positives the patients' part is a sum of few large squares and uncertain itself: it has the
    degrees of freedom that normal variables with the same sum of fourth powers would have (Satterthwaite 1946).
    """
    y_true = np.asarray(y_true).astype(bool)
    design = design or Design.independent(len(first))
    _, patient_of_record = np.unique(patient_id, return_inverse=True)
    num_positives = y_true.sum(axis=0)
    of_runs = np.array([one - other for one, other in zip(first, second, strict=True)])  # [run, record, label]
    by_label = np.where(y_true, of_runs, 0).sum(axis=1) / num_positives  # [run, label]
    values = by_label.mean(axis=1)
    deviation = design.mean(of_runs) - design.mean(by_label)

    size = np.where(y_true, num_positives, len(y_true) - num_positives)
    influence = np.bincount(patient_of_record, (deviation / np.sqrt(size * (size - 1.0))).mean(axis=1))
    of_patients = float(np.square(influence).sum())
    own = design.variance(values)
    moderated = moderate(own, priors.get(own.kind))
    inverse = max(np.sum(influence**4) - of_patients**2 / len(influence), 0) / 2
    known = of_patients**2 / inverse if inverse else np.inf
    return float(two_sided_p(design.mean(values), of_patients, moderated.of_mean, moderated.degrees_of_freedom, known))


def _variance_of_rare_positives(y_true: Bools, deviation: Floats, auroc: Floats, is_rare: Bools) -> float:
    """Of one positive of one rare label. The frequent labels' mean AUROC counts as one rare label's: so a few rare
    labels that happen to be ranked without a fault do not look certain."""
    frequent = auroc[~is_rare]
    bound = np.sum(frequent * (1 - frequent))
    if bound == 0:
        return np.nan
    squares = np.where(y_true, np.square(deviation), 0).sum(axis=0)[~is_rare]
    reached = np.sum(squares / (y_true.sum(axis=0)[~is_rare] - 1)) / bound
    mean = (auroc[is_rare].sum() + frequent.mean()) / (is_rare.sum() + 1)
    return float(reached * mean * (1 - mean))


def placements(y_true: Bools, y_score: NDArray[Any]) -> Floats:
    """[record, label] the share of the other class that a record is ranked on the right side of, ties half."""
    found = np.empty(y_true.shape)
    for column, (is_positive, score) in enumerate(zip(y_true.T, y_score.T, strict=True)):
        positives, negatives = score[is_positive], score[~is_positive]
        found[is_positive, column] = num_below(positives, negatives) / len(negatives)
        found[~is_positive, column] = 1 - num_below(negatives, positives) / len(positives)
    return found


def num_below(values: NDArray[Any], others: NDArray[Any]) -> Floats:
    """How many of `others` lie below each value, ties half."""
    others = np.sort(others)
    below, not_above = (np.searchsorted(others, values, side=side) for side in ("left", "right"))
    return np.asarray((below + not_above) / 2)
