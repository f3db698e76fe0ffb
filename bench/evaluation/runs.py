"""Estimate how much the runs of a row vary, and how uncertain this makes their mean.

The design of a row says which runs are independent. A draw is a training subset. If a row has a single draw, its runs
differ only in their random streams, and each run is independent. If it has several draws, the runs of one draw share
their training records, and each draw counts once. Runs of several draws can also share random streams: the same seed,
with streams that depend on the seed alone. Such a design is crossed, and the variance of its mean has a part from draws
and a part from seeds.

Three runs do not show how much runs vary: if they happen to agree, their variance is near 0. So the variance of each
row, or of each paired difference, is moderated with the variances of the other rows of the board, by the empirical
Bayes method of limma (Smyth 2004). Every p-value and interval accounts for the remaining uncertainty of the variance:
the error from runs is t-distributed, the error from patients is normal, and their sum has neither distribution (the
Behrens-Fisher problem; Patil 1965).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri, digamma, gammaln, ndtr, ndtri, polygamma, stdtr

from bench.evaluation.metrics import Floats

Place = tuple[int, int]
"""Draw and seed of a run."""
Streams = Literal["seed", "draw and seed"]
"""What the random streams of a run depend on; the streams of draw 0 always depend on the seed alone."""
Kind = Literal["runs", "draws", "crossed"]
"""The independent unit of a design: each run of a single draw, each draw, or both draws and seeds."""
MIN_RUNS = 3  # a row of fewer independent runs is marked, because its variance between runs is hardly known
MIN_VARIANCES = 5
"""Least number of independent variances to fit a prior. With fewer, boards of 3 or 4 rows whose runs vary 5 to 10 times
as much as patients had up to 9 % false claims (`bench.boards.simulations`)."""
CAUTION = 1.0
"""Number of standard errors that are added to the estimated spread of log variances between rows. With 0, boards of 8
rows with unequal variances had up to 7 % false claims; with 1, up to 5 % (`bench.boards.simulations`)."""
NODES, POWER_NODES = np.linspace(0, 1, 129), np.linspace(0, 1, 97)


@dataclass(frozen=True)
class RunVariance:
    """Estimated variance of one independent unit of a row, such as a run; arrays [...] hold those of several rows."""

    variance: Floats
    """NaN for a row with a single unit."""
    degrees_of_freedom: Floats
    """0 for a row with a single unit."""
    num_units: float
    """The variance of the row's mean is `variance` / `num_units`."""
    kind: Kind

    @property
    def of_mean(self) -> Floats:
        """Return the variance of the row's mean; 0 where it is unknown."""
        return np.where(np.isnan(self.variance), 0.0, self.variance) / self.num_units


@dataclass(frozen=True)
class Design:
    """Which runs of a row share their training records, and which share their random streams."""

    draw: tuple[int, ...]
    """[run] Runs with the same draw share their training records."""
    stream: tuple[Place, ...]
    """[run] Runs with the same stream share their random streams."""

    @classmethod
    def of(cls, places: Sequence[Place], streams: Sequence[Streams]) -> Design:
        """Return the design of runs with these draws and seeds; `streams` [run] are in the same order."""
        by_seed = [name == "seed" for name in streams]
        return cls(
            tuple(draw for draw, _ in places),
            tuple((0 if alone else draw, seed) for (draw, seed), alone in zip(places, by_seed, strict=True)),
        )

    @classmethod
    def independent(cls, num_runs: int) -> Design:
        """Return the design of `num_runs` independent runs of one draw."""
        return cls((0,) * num_runs, tuple((0, seed) for seed in range(num_runs)))

    @property
    def kind(self) -> Kind:
        """Return the independent unit of this design."""
        if self.num_draws < 2:
            return "runs"
        return "crossed" if len(set(zip(self.draw, self.stream, strict=True))) > self.num_streams else "draws"

    @property
    def num_draws(self) -> int:
        """Return the number of training subsets."""
        return len(set(self.draw))

    @property
    def num_streams(self) -> int:
        """Return the number of different random streams."""
        return len(set(self.stream))

    @property
    def num_independent(self) -> int:
        """Return the number of independent units; in a crossed design, of draws or of seeds, whichever is smaller."""
        if self.kind == "runs":
            return len(self.draw)
        return self.num_draws if self.kind == "draws" else min(self.num_draws, self.num_streams)

    @cached_property
    def weights(self) -> Floats:
        """Return [run], the weight of each run in the row's value, which is the mean of the draws' means."""
        size = Counter(self.draw)
        return np.array([1 / (self.num_draws * size[draw]) for draw in self.draw])

    def mean(self, values: ArrayLike) -> Floats:
        """Return the row's value [...]: the mean of the draws' means of `values` [run, ...]."""
        return np.asarray(np.tensordot(self.weights, np.asarray(values), axes=1))

    @cached_property
    def draw_matrix(self) -> Floats:
        """Return [draw, run], 1 where a run belongs to a draw."""
        return _indicator(self.draw)

    @cached_property
    def stream_matrix(self) -> Floats:
        """Return [stream, run], 1 where a run has a stream."""
        return _indicator(self.stream)

    def variance(self, values: ArrayLike) -> RunVariance:
        """Estimate the variance [...] of `values` [..., run].

        If the unit is a run or a draw, this is the sample variance (n - 1).

        In a crossed design it is Vd + Vs - Vc, without negative parts. Vd is the variance of the mean if draws are the
        units, Vs if seeds are the units, and Vc by the residuals of the model draw + seed. In a complete design this is
        (MSd + MSs - MSe) / (D S). If cells are missing, Vd and Vs come from sums of weighted deviations by draw and by
        seed (Cameron, Gelbach and Miller 2011), and Vc from a least-squares fit.

        The degrees of freedom of the sum are Satterthwaite's (1946), and at most those of the larger of Vd and Vs.
        Without this limit there are too many of them if seeds vary most and three seeds happen to agree: then 2 rows of
        5 draws x 3 seeds had 6.5 % false claims (`bench.boards.simulations`).
        """
        values = np.asarray(values, dtype=np.float64)
        deviation = (values - (values @ self.weights)[..., None]) * self.weights
        if self.kind == "runs":
            return _plain(deviation * len(self.draw), self.kind)
        if self.kind == "draws":
            return _plain(deviation @ self.draw_matrix.T * self.num_draws, self.kind)
        num_units = 1 / float(np.square(self.weights).sum())
        of_draws, of_streams = _of_clusters(deviation, self.draw_matrix), _of_clusters(deviation, self.stream_matrix)
        columns = np.vstack([self.draw_matrix, self.stream_matrix])
        left = len(self.draw) - int(np.linalg.matrix_rank(columns))
        projection = np.eye(len(self.draw)) - np.linalg.pinv(columns) @ columns
        residual = np.square(values @ projection).sum(axis=-1) / max(left, 1) / num_units if left else 0.0 * of_draws
        at_least_draws, at_least_streams = np.maximum(of_draws, residual), np.maximum(of_streams, residual)
        total = at_least_draws + at_least_streams - residual
        squares = np.where(of_draws > residual, of_draws**2 / (self.num_draws - 1), 0.0)
        squares += np.where(of_streams > residual, of_streams**2 / max(self.num_streams - 1, 1), 0.0)
        both, none = (of_draws > residual) & (of_streams > residual), (of_draws <= residual) & (of_streams <= residual)
        squares += np.where(both | none, residual**2 / max(left, 1), 0.0)
        known = np.divide(total**2, squares, out=np.full_like(total, self.num_draws - 1.0), where=squares > 0)
        of_larger = np.where(of_streams > of_draws, max(self.num_streams - 1, 1), self.num_draws - 1)
        known = np.where(none, known, np.minimum(known, of_larger))
        return RunVariance(total * num_units, known, num_units, self.kind)


def _indicator(groups: Sequence[Any]) -> Floats:
    """Return [group, member], 1 where a member belongs to a group."""
    return np.array([[float(member == group) for member in groups] for group in sorted(set(groups))])


def _plain(deviation: Floats, kind: Kind) -> RunVariance:
    """Return the variance [...] of units, from their deviations [..., unit] from the mean."""
    num = deviation.shape[-1]
    squares = np.square(deviation).sum(axis=-1)
    variance = squares / (num - 1) if num > 1 else np.full_like(squares, np.nan)
    return RunVariance(variance, np.full_like(squares, num - 1.0), float(num), kind)


def _of_clusters(deviation: Floats, members: Floats) -> Floats:
    """Return the variance of the mean, from weighted deviations [..., run] summed within clusters.

    `members` [cluster, run] is 1 where a run belongs to a cluster.
    """
    num = len(members)
    return np.asarray(np.square(deviation @ members.T).sum(axis=-1) * num / max(num - 1, 1))


@dataclass(frozen=True)
class Prior:
    """Prior distribution of a row's run variance, fitted to the rows of a board; arrays [...] hold several boards.

    A true variance is distributed as `degrees_of_freedom` x `variance` / X, where X is a chi-squared variable with
    `degrees_of_freedom` degrees of freedom.
    """

    variance: Floats
    degrees_of_freedom: Floats
    """Infinite if the variances of all rows seem to be equal."""
    limit: Floats
    """Maximum degrees of freedom of a moderated variance: those of all rows pooled."""


Priors = Mapping[Kind, Prior]
"""Independent unit of a design -> the prior of its variance."""
NO_PRIORS: Priors = {}


def fit_prior(variance: ArrayLike, degrees_of_freedom: ArrayLike, num_independent: int) -> Prior | None:
    """Fit the prior to the mean and the spread of log variances [..., row], as fitFDist of limma does (Smyth 2004).

    CAUTION standard errors are added to the spread. If it is underestimated, a row is taken to be more like the others
    than it is, and rows that vary more than the others are falsely claimed to differ. `num_independent` is the number
    of independent variances, which is smaller than their number for differences of all pairs of rows.

    Returns None if there are fewer than MIN_VARIANCES.
    """
    variance = np.asarray(variance, dtype=np.float64)
    known = np.zeros(variance.shape) + np.asarray(degrees_of_freedom, dtype=np.float64)
    if min(variance.shape[-1], num_independent) < MIN_VARIANCES:
        return None
    least = 1e-5 * np.median(variance, axis=-1, keepdims=True)  # as in limma, because the log of 0 is infinite
    logs = np.log(np.maximum(variance, least)) - digamma(known / 2) + np.log(known / 2)
    center, expected = logs.mean(axis=-1), polygamma(1, known / 2).mean(axis=-1)
    fourth = polygamma(3, known / 2).mean(axis=-1)
    error = np.sqrt(fourth / num_independent + 2 * expected**2 / (num_independent - 1))
    spread = logs.var(axis=-1, ddof=1) - expected + CAUTION * error
    varies = spread > 0
    prior_known = np.where(varies, 2 * inverse_trigamma(np.where(varies, spread, 1.0)), np.inf)
    finite = np.where(varies, prior_known, 1.0)
    pooled = (variance * known).sum(axis=-1) / known.sum(axis=-1)
    location = np.where(varies, np.exp(center + digamma(finite / 2) - np.log(finite / 2)), pooled)
    return Prior(location, prior_known, known.mean(axis=-1) * num_independent)


def inverse_trigamma(value: ArrayLike) -> Floats:
    """Solve trigamma(x) = value > 0 for x, by Newton's method on 1 / trigamma, which is nearly linear (Smyth 2004)."""
    value = np.asarray(value, dtype=np.float64)
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = polygamma(1, x)
        step = trigamma * (1 - trigamma / value) / polygamma(2, x)
        x = x + step
        if np.all(abs(step) < 1e-10 * x):
            break
    return np.asarray(x)


def moderate(own: RunVariance, prior: Prior | None) -> RunVariance:
    """Return the mean of a row's own variance and the prior's, weighted by degrees of freedom (Smyth 2004).

    The degrees of freedom are the sum of both, and at most those of all rows pooled. A row with a single run gets the
    variance of the prior. A variance of exactly 0 stays 0. Without a prior, the row's own variance is returned.
    """
    if prior is None:
        return own
    own_degrees = np.maximum(own.degrees_of_freedom, 0.0)
    given = np.where(np.isnan(own.variance), 0.0, own.variance)
    weight = np.where(np.isinf(prior.degrees_of_freedom), 0.0, own_degrees / (own_degrees + prior.degrees_of_freedom))
    known = np.minimum(own_degrees + prior.degrees_of_freedom, np.maximum(prior.limit, own_degrees))
    variance = weight * given + (1 - weight) * prior.variance
    fixed = own.variance == 0
    return replace(
        own,
        variance=np.where(fixed, 0.0, variance),
        degrees_of_freedom=np.where(fixed, own.degrees_of_freedom, known),
    )


def borrow(own: Sequence[RunVariance], num_independent: int) -> dict[Kind, Prior]:
    """Fit a prior to the variances of the rows of a board, for each independent unit separately.

    A draw's mean and a run do not have the same variance. `num_independent` is as in `fit_prior`.
    """
    priors: dict[Kind, Prior] = {}
    for kind in dict.fromkeys(row.kind for row in own):
        alike = [row for row in own if row.kind == kind and np.all(row.degrees_of_freedom > 0)]
        alike = [row for row in alike if np.all(row.variance > 0)]
        if len(alike) > 1:
            variance = np.stack([row.variance for row in alike], axis=-1)
            known = np.stack([row.degrees_of_freedom for row in alike], axis=-1)
            if (prior := fit_prior(variance, known, min(num_independent, len(alike)))) is not None:
                priors[kind] = prior
    return priors


def _mixture(degrees_of_freedom: Floats, nodes: Floats = NODES) -> tuple[Floats, Floats]:
    """Return quadrature nodes and weights, each [..., node], for X / n, with X chi-squared with n degrees of freedom.

    `degrees_of_freedom` [...] are n. The weights sum to 1. The nodes are equidistant in the logarithm: the density is
    smooth there, and the error of the sum depends only on how far out its ends are.
    """
    known = np.minimum(degrees_of_freedom, 1e4)[..., None]
    low, high = -40 / known - 8 * np.sqrt(2 / known), np.log1p(12 * np.sqrt(2 / known) + 24 / known)
    logs = low + (high - low) * nodes
    density = known / 2 * (logs - np.exp(logs))
    weights = np.exp(density - density.max(axis=-1, keepdims=True))
    return np.exp(logs), weights / weights.sum(axis=-1, keepdims=True)


def two_sided_p(
    value: ArrayLike,
    patients: ArrayLike,
    runs: ArrayLike,
    degrees_of_freedom: ArrayLike,
    patients_degrees: ArrayLike | None = None,
) -> Floats:
    """Return the two-sided p-value [...] of `value` [...] with a variance of `patients` + `runs`, each [...].

    The variance of runs is an estimate with `degrees_of_freedom`; p is the mean over the distribution of its true
    value. The variance of patients is known exactly, or is an estimate with `patients_degrees`. If only runs contribute
    variance, p is Student's; if only patients do and their variance is known, p is normal. If the variance is 0, p is 1
    for a value of 0 and else 0.
    """
    value, patients, runs, known = np.broadcast_arrays(
        *(np.asarray(array, dtype=np.float64) for array in (value, patients, runs, degrees_of_freedom))
    )
    varies = runs > 0
    chi, weights = _mixture(np.where(varies, np.maximum(known, 1e-3), 1e4))
    total = patients[..., None] + runs[..., None] / chi
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(value[..., None] == 0, 0.0, -abs(value[..., None]) / np.sqrt(total))
        if patients_degrees is None:
            tail = ndtr(ratio)
        else:
            share = np.where(patients[..., None] > 0, total / patients[..., None], np.inf)
            freedom = np.minimum(np.asarray(patients_degrees)[..., None] * share**2, 1e10)
            tail = np.where(np.isinf(ratio), 0.0, stdtr(freedom, np.maximum(ratio, -1e300)))
    return np.asarray(np.minimum(2 * (weights * tail).sum(axis=-1), 1.0))


def critical_value(alpha: ArrayLike, patients: ArrayLike, runs: ArrayLike, degrees_of_freedom: ArrayLike) -> Floats:
    """Return the value [...] whose `two_sided_p` is `alpha`: half the width of an interval.

    The relative error is at most 1e-10. Solved by Newton's method on log p; a step that leaves the bracket is replaced
    by bisection or doubling.
    """
    alpha, patients, runs, known = np.broadcast_arrays(
        *(np.asarray(array, dtype=np.float64) for array in (alpha, patients, runs, degrees_of_freedom))
    )
    chi, weights = _mixture(np.where(runs > 0, np.maximum(known, 1e-3), 1e4))
    scale = np.sqrt(patients + runs)
    sd = np.sqrt(patients[..., None] + runs[..., None] / chi) / np.where(scale > 0, scale, 1.0)[..., None]
    sd = np.where(sd > 0, sd, 1.0)
    x, low, high = -ndtri(alpha / 2), np.zeros(alpha.shape), np.full(alpha.shape, np.inf)
    for _ in range(200):
        ratio = x[..., None] / sd
        p = 2 * (weights * ndtr(-ratio)).sum(axis=-1)
        slope = 2 * (weights * np.exp(-(ratio**2) / 2) / sd).sum(axis=-1) / np.sqrt(2 * np.pi)
        low, high = np.where(p > alpha, x, low), np.where(p > alpha, high, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = x + (np.log(p) - np.log(alpha)) * p / slope
        inside = (newton >= low) & (newton <= high)
        moved = np.where(inside, newton, np.where(np.isinf(high), 2 * x, (low + high) / 2))
        x, before = moved, x
        if np.all(abs(x - before) <= 1e-10 * x):
            break
    return np.asarray(x * scale)


def unbiased(runs: ArrayLike, degrees_of_freedom: ArrayLike) -> Floats:
    """Return the estimated variance `runs` [...], scaled so that its square root is an unbiased standard deviation.

    The standard deviation of few runs is too small on average, by 11 % with 2 degrees of freedom (Holtzman 1950).
    """
    half = np.minimum(np.asarray(degrees_of_freedom, dtype=np.float64), 1e6) / 2
    return np.asarray(np.asarray(runs) * half * np.exp(2 * (gammaln(half) - gammaln(half + 0.5))))


def resolvable(alpha: float, power: float, patients: ArrayLike, runs: ArrayLike, known: ArrayLike) -> Floats:
    """Return the true difference [...] for which a test at level `alpha` has this power; `patients`, `runs`: variances.

    Each study estimates the variance of runs anew, with `known` degrees of freedom.
    """
    patients, runs, known = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (patients, runs, known)))
    chi, weights = _mixture(np.where(runs > 0, known, 1e4), POWER_NODES)
    critical = critical_value(alpha, patients[..., None], runs[..., None] * chi, known[..., None])
    error = np.sqrt(patients + runs)
    low, high = np.zeros(error.shape), critical.max(axis=-1) + 10 * error
    for _ in range(50 if error.any() else 0):
        middle = (low + high) / 2
        passed = (middle[..., None] - critical) / np.where(error > 0, error, 1.0)[..., None]
        enough = (weights * ndtr(passed)).sum(axis=-1) > power
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.asarray(high)


def shared_noise(
    designs: Sequence[Design],
    values: Sequence[NDArray[Any]],
    moderated: Sequence[RunVariance],
    num: int,
    random: np.random.Generator,
) -> Floats:
    """Return [row, replicate], random errors of the rows' means from runs, correlated as the rows' runs are.

    `values` [row][run] are the runs' metrics. Each draw and each stream gets a random weight that all rows share, so
    runs of the same draw and seed vary together. The errors of a row have the variance and the degrees of freedom of
    `moderated` [row] and are t-distributed.
    """
    draws = {draw: random.normal(size=num) for design in designs for draw in design.draw}
    streams = {stream: random.normal(size=num) for design in designs for stream in design.stream}
    level = random.random(num)
    errors = np.zeros((len(designs), num))
    for row, (design, of_runs, variance) in enumerate(zip(designs, values, moderated, strict=True)):
        if not variance.of_mean > 0:
            continue
        deviation = (of_runs - design.mean(of_runs)) * design.weights
        noise = np.zeros(num)
        if design.kind != "runs":
            noise += sum(d * draws[draw] for d, draw in zip(deviation, design.draw, strict=True))
        if design.kind != "draws":
            noise += sum(d * streams[stream] for d, stream in zip(deviation, design.stream, strict=True))
        own = np.sqrt(_raw_variance(design, deviation))
        noise = noise / own if own > 0 else random.normal(size=num)  # single run: no deviations to share
        errors[row] = noise * np.sqrt(float(variance.of_mean) / _chi(level, float(variance.degrees_of_freedom)))
    return errors


def _raw_variance(design: Design, deviation: Floats) -> float:
    """Return the variance of `shared_noise` before it is scaled, from the weighted deviations [run]."""
    of_draws = float(np.square(deviation @ design.draw_matrix.T).sum()) if design.kind != "runs" else 0.0
    of_streams = float(np.square(deviation @ design.stream_matrix.T).sum()) if design.kind != "draws" else 0.0
    return of_draws + of_streams


def _chi(level: Floats, degrees_of_freedom: float) -> Floats:
    """Return [replicate], the upper quantiles of chi-squared / degrees of freedom at the probabilities `level`."""
    known = min(degrees_of_freedom, 1e6)
    return np.asarray(np.maximum(chdtri(known, level), 1e-300) / known)
