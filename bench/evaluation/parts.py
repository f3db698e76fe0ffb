"""Estimate macro AUROC, and differences of it, in parts of a fold, with intervals that hold for several parts together.

The error of patients is that of `placements.difference_p`: AUROC is a mean of placements, and the variance of this mean
is that of DeLong et al. (1988) with patients as clusters (Obuchowski 1997). So an interval needs no replicates, and can
have any level.

Several intervals are looked at together. By Bonferroni's inequality (Dunn 1961) all of them cover their truths with a
probability of at least 95 %, if each has the level 1 - 0.05 / number of intervals. Parts such as sexes or age bands are
different patients, so their errors are nearly independent, and a sharper rule would gain little: for five parts the
factor of a standard error is 2.576, by Šidák's rule for independent errors it is 2.569. Of 2,000 simulated studies
with four parts, the corrected intervals covered all four truths in 95.6 %, uncorrected ones in 83.3 %
(tests/test_parts.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # imports its parts where they are first used: scipy.optimize takes 0.2 s
from numpy.typing import NDArray

from bench.evaluation.metrics import Bools, Floats
from bench.evaluation.placements import patients_variance, placements
from bench.evaluation.runs import MIN_RUNS, NO_PRIORS, Design, Priors, critical_value, moderate, two_sided_p

MISS_RATE = 0.05
"""The probability that an interval, or any of several corrected intervals, misses its truth."""
PRECISION = 1e-7
"""Relative error of the width of an interval."""


@dataclass(frozen=True, eq=False)
class Effect:
    """A number of each run, such as its macro AUROC in a part of the fold, and how each patient contributes to it."""

    values: Floats
    """[run]"""
    influence: Floats
    """[run, patient of the fold]; 0 for a patient without a record in the part"""

    def __sub__(self, other: Effect) -> Effect:
        """Return the difference: run by run, on the same patients or on others."""
        return Effect(self.values - other.values, self.influence - other.influence)


@dataclass(frozen=True)
class Bounds:
    """An effect over the runs of a row or of paired rows, with its interval and p-value, corrected if it is stated."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided p-value of no effect."""
    few_runs: bool
    """Whether there are too few runs to know how training varies: then it is about these trained models."""


def macro_auroc(
    patient_id: NDArray[np.int64], y_true: Bools, runs: Sequence[NDArray[Any]], part: Bools, labels: Bools
) -> Effect:
    """Return macro AUROC of the records `part` [record] over `labels` [label], which have both classes among them.

    `patient_id` [record], `y_true` [record, label] and `runs`, the y_score [record, label], are of the whole fold.
    """
    patients, patient_of_record = np.unique(patient_id, return_inverse=True)
    y_true = np.asarray(y_true).astype(bool)[np.ix_(part, labels)]
    num_positives = y_true.sum(axis=0)
    size = np.where(y_true, num_positives, len(y_true) - num_positives)
    values, influence = np.empty(len(runs)), np.zeros((len(runs), len(patients)))
    for at, y_score in enumerate(runs):
        placed = placements(y_true, y_score[np.ix_(part, labels)])
        auroc = np.where(y_true, placed, 0).sum(axis=0) / num_positives
        values[at] = auroc.mean()
        of_record = ((placed - auroc) / np.sqrt(size * (size - 1.0))).mean(axis=1)
        influence[at] = np.bincount(patient_of_record[part], of_record, len(patients))
    return Effect(values, influence)


def bounds(
    effect: Effect,
    *,
    num_looks: int = 1,
    limits: tuple[float, float] = (-1.0, 1.0),
    design: Design | None = None,
    priors: Priors = NO_PRIORS,
) -> Bounds:
    """Return an effect with the interval and the p-value that are corrected for `num_looks` effects (Bonferroni).

    The error from patients is uncertain itself in a small part (`placements.patients_variance`), and only patients with
    an influence count. The error from runs is moderated by `priors` and t-distributed. The interval holds each value
    whose two-sided p is at least MISS_RATE / `num_looks`, cut off at `limits`, the range of the effect. `design` names
    the independent runs [default: all].
    """
    design = design or Design.independent(len(effect.values))
    influence = design.mean(effect.influence)
    of_patients, of_patients_known = patients_variance(influence[influence != 0])
    own = design.variance(effect.values)
    moderated = moderate(own, priors.get(own.kind))
    errors = (of_patients, float(moderated.of_mean), float(moderated.degrees_of_freedom), of_patients_known)
    value, half = float(design.mean(effect.values)), _half_width(MISS_RATE / num_looks, *errors)
    p = float(two_sided_p(value, *errors))
    low, high = max(value - half, limits[0]), min(value + half, limits[1])
    return Bounds(value, low, high, min(1.0, num_looks * p), design.num_independent < MIN_RUNS)


def _half_width(alpha: float, patients: float, runs: float, known: float, patients_known: float) -> float:
    """Return the value whose `two_sided_p` is `alpha`."""
    low, high = 0.0, float(critical_value(alpha, patients, runs, known))
    if high == 0:
        return 0.0

    def excess(value: float) -> float:
        return float(np.log(two_sided_p(value, patients, runs, known, patients_known) / alpha))

    while excess(high) > 0:
        low, high = high, 2 * high
    return float(scipy.optimize.brentq(excess, low, high, xtol=PRECISION * high, rtol=PRECISION))
