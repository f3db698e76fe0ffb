"""Compute intervals for the macro metrics of one fold by resampling its patients.

All results of a task share the same replicates.
Records of one patient are similar, so patients are resampled with replacement, each with all of its records. A macro
average needs every label in every replicate. A replicate that lacks a positive or a negative of some label is discarded
and drawn again; the share of replicates that are kept, the acceptance, is reported. Discarding removes the variance of
labels that only one or two patients have. So use it for `metrics.frequent` labels; `placements` has an interval over
all labels.

To resample records as Strodthoff et al. (2020) did, use `make_replicates(ecg_id, y_true, num_replicates=100)` and
`level=0.9`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bench.errors import BenchError
from bench.evaluation import metrics
from bench.evaluation.metrics import Bools, Floats
from bench.evaluation.runs import MIN_RUNS, NO_PRIORS, Design, Priors, critical_value, moderate
from bench.evaluation.sampler import Sampler

MAX_CANDIDATES = 200  # candidates per replicate; acceptance below half a percent is an error
CHUNK = 250  # candidates drawn at once; the replicates do not depend on it
MAX_COUNTS = 2**24  # replicates times records at once; bounds memory, and is enough for a whole fold of PTB-XL


@dataclass(frozen=True)
class Replicates:
    """How often each record is in each replicate, and the share of candidate replicates that was kept."""

    counts: NDArray[np.uint16]  # [replicate, record]
    acceptance: float


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A metric of one run on the fold and on each of its replicates: per label, or a single macro average."""

    value: Floats  # [label] or []
    replicates: Floats  # [replicate, label] or [replicate]

    def macro(self, labels: Bools) -> "Estimate":
        """Return the mean over the labels that the mask `labels` [label] chooses, within each replicate."""
        return Estimate(metrics.macro(self.value, labels), metrics.macro(self.replicates, labels))

    def label(self, column: int) -> "Estimate":
        """Return the metric of one label."""
        return Estimate(self.value[..., column], self.replicates[..., column])

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the paired difference: replicate by replicate, on the same patients."""
        return Estimate(self.value - other.value, self.replicates - other.replicates)


@dataclass(frozen=True)
class Resampled:
    """Both ranking metrics of one run, [label] on the fold and [replicate, label] on its replicates."""

    auroc: Estimate
    average_precision: Estimate


@dataclass(frozen=True)
class Summary:
    """The mean of a row's runs, its interval, and its two sources of variance: patients and runs."""

    interval: Interval
    patient_sd: float  # standard deviation of the runs' mean over the replicates of patients
    run_sd: float  # standard deviation between independent runs, not moderated (n - 1); NaN for a single run
    num_runs: int  # number of independent runs, `Design.num_independent`
    run_error: float  # standard error of the mean from runs, by their moderated variance; 0 if unknown
    degrees_of_freedom: float  # of the moderated variance; infinite if only patients contribute variance

    def __neg__(self) -> "Summary":
        """Return the same difference with the opposite sign."""
        interval = self.interval
        return replace(self, interval=Interval(0.0 - interval.value, 0.0 - interval.high, 0.0 - interval.low))

    @property
    def standard_error(self) -> float:
        """Return the standard error of the mean, from patients and runs."""
        return math.hypot(self.patient_sd, self.run_error)

    @property
    def few_runs(self) -> bool:
        """Return whether there are too few independent runs to estimate how much they vary."""
        return self.num_runs < MIN_RUNS


def make_replicates(
    patient_id: NDArray[Any],
    y_true: NDArray[Any],
    num_replicates: int = 2000,
    seed: int = 0,
    labels: Sequence[str] | None = None,
) -> Replicates:
    """Resample patients with replacement; each replicate has a positive and a negative of every defined label.

    The replicates depend on the patients, their labels, `num_replicates` and `seed`, but not on the order of the
    records. `labels` are the names of the columns of `y_true` [record, label], for messages. Raises BenchError with the
    rarest labels if fewer than one candidate in MAX_CANDIDATES is accepted.
    """
    y_true = np.asarray(y_true).astype(bool)
    patients, patient_of_record = np.unique(patient_id, return_inverse=True)
    columns = np.flatnonzero(metrics.defined(y_true))
    carriers = np.zeros((len(patients), 2 * len(columns)), dtype=np.float32)
    np.maximum.at(carriers, patient_of_record, np.hstack([y_true[:, columns], ~y_true[:, columns]]))

    random = np.random.default_rng(seed)
    chunks, accepted, num_absent = [], np.zeros(0, dtype=bool), np.zeros(2 * len(columns))
    while accepted.sum() < num_replicates:
        if len(accepted) >= MAX_CANDIDATES * num_replicates:
            rarest = np.unique(np.argsort(-num_absent, kind="stable")[:3] % len(columns))
            names = [labels[columns[i]] if labels else f"column {columns[i]}" for i in rarest]
            raise BenchError(
                f"only {accepted.sum()} of {len(accepted)} replicates of patients have a positive and a negative of "
                f"every label, but {num_replicates} are needed; most often absent: {', '.join(names)}. "
                "Leave such labels out"
            )
        counts = _multinomial(random, CHUNK, len(patients))
        present = counts.astype(np.float32) @ carriers > 0
        num_absent += CHUNK - present.sum(axis=0)
        complete = present.all(axis=1)
        accepted = np.append(accepted, complete)
        chunks.append(counts[complete].astype(np.uint16))
    num_candidates = np.flatnonzero(accepted)[num_replicates - 1] + 1
    return Replicates(
        np.concatenate(chunks)[:num_replicates, patient_of_record], float(num_replicates / num_candidates)
    )


def _multinomial(random: np.random.Generator, num_replicates: int, size: int) -> NDArray[np.int64]:
    """Return [replicate, size], how often each of `size` units is picked in `size` picks, with replacement.

    `random.multinomial` is slower.
    """
    picks = random.integers(size, size=(num_replicates, size))
    picks += size * np.arange(num_replicates)[:, None]
    return np.bincount(picks.ravel(), minlength=num_replicates * size).reshape(num_replicates, size)


def resample(y_true: NDArray[Any], y_score: NDArray[Any], replicates: Replicates) -> Resampled:
    """Compute AUROC and AP of one run on the fold and on each replicate (`Sampler`).

    NaN where a replicate has no positive; AUROC also where it has no negative.
    """
    y_true, y_score = metrics.checked(y_true, y_score)
    counts, some = replicates.counts, y_true.any(axis=0)
    out = np.full((len(metrics.RANKING), len(counts), y_true.shape[1]), np.nan)
    num = max(1, MAX_COUNTS // len(y_true))
    for at in range(0, len(counts), num):
        part = slice(at, at + num)
        out[:, part][..., some] = Sampler(y_true[:, some], counts[part]).resample(y_score[:, some])
    return Resampled(
        Estimate(metrics.auroc(y_true, y_score), out[0]),
        Estimate(metrics.average_precision(y_true, y_score), out[1]),
    )


def summarize(
    runs: Sequence[Estimate],
    level: float = 0.95,
    bounds: tuple[float, float] = (0.0, 1.0),
    *,
    design: Design | None = None,
    priors: Priors = NO_PRIORS,
) -> Summary:
    """Summarize the runs of a row, each with a single metric: the mean of the runs' metrics and its interval.

    `design` names the independent runs [default: all]. `priors` are priors of the variance between runs, fitted to the
    other rows of the board (`runs.borrow`).

    If runs contribute no variance, the interval is the percentile interval of the replicates, shifted so that their
    mean is the value. The shift matters for average precision: a positive that is drawn twice ranks above more
    negatives, so replicates lie above the value, by a third of the interval's width on task `all`. AUROC is not
    shifted. The variance between runs widens the interval around the median of the replicates. It then has the
    quantile of a sum of a normal and a t-distributed error (`runs.critical_value`). The interval is clipped to
    `bounds`, the range of the metric.
    """
    design = design or Design.independent(len(runs))
    values = np.array([run.value for run in runs])
    replicates = np.tensordot(design.weights, [run.replicates for run in runs], axes=1)
    replicates = replicates + (design.mean(values) - replicates.mean())
    summary = summarize_normal(values, float(replicates.std(ddof=1)), level, design=design, priors=priors)
    low, center, high = np.quantile(replicates, [(1 - level) / 2, 0.5, (1 + level) / 2])
    z, error = ndtri((1 + level) / 2), summary.standard_error
    wider = (summary.interval.high - summary.interval.value) / (z * error) if error else 1.0
    interval = Interval(
        value=summary.interval.value,
        low=float(np.maximum(center - wider * np.hypot(center - low, z * summary.run_error), bounds[0])),
        high=float(np.minimum(center + wider * np.hypot(high - center, z * summary.run_error), bounds[1])),
    )
    return replace(summary, interval=interval)


def summarize_normal(
    values: Floats,
    patient_sd: float,
    level: float = 0.95,
    *,
    design: Design | None = None,
    priors: Priors = NO_PRIORS,
) -> Summary:
    """Summarize the `values` [run] of a row; `patient_sd` is the standard error of their mean from patients.

    `design` and `priors` are as in `summarize`.
    """
    design = design or Design.independent(len(values))
    own = design.variance(values)
    moderated = moderate(own, priors.get(own.kind))
    of_mean, value = float(moderated.of_mean), float(design.mean(values))
    known = float(moderated.degrees_of_freedom) if of_mean else math.inf
    error = float(critical_value(1 - level, patient_sd**2, of_mean, known))
    interval = Interval(value, value - error, value + error)
    return Summary(
        interval, patient_sd, math.sqrt(float(own.variance)), design.num_independent, math.sqrt(of_mean), known
    )
