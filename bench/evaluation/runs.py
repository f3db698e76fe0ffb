"""How much a row's runs vary, and what that leaves uncertain about their mean.

Which runs are independent is a matter of design. Runs of one draw (training subset) differ in their random streams.
Runs of one draw share their training records, so of several draws each draw counts as one. Runs of several draws that
share their random streams (the same seed, and streams that depend on the seed alone) are crossed: both draws and seeds
then repeat, and the variance of the mean holds a part of each.

Three runs do not tell how much runs vary: when they happen to agree, their variance looks like 0. So the variance of
each row, or of each paired difference, is moderated with those of the other rows of a board, by the empirical Bayes
method of limma (Smyth 2004), and what is still unknown of it enters every p and every interval: the run part of an
error is t-distributed, the patients' part normal, and their sum is neither (Behrens and Fisher; Patil 1965).
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
"""What the random streams of a run depend on; those of draw 0 depend on the seed alone."""
Kind = Literal["runs", "draws", "crossed"]
"""What counts as one: each run of a single draw, each of several draws, or each cell of draws x seeds."""
MIN_RUNS = 3  # a row of fewer independent runs is marked: its variance between runs is hardly known
MIN_VARIANCES = 5
"""Independent variances that a prior needs. By fewer it is known so badly that boards of 3 or 4 rows, whose runs vary
5 to 10 times as much as patients, had up to 9 % false claims: `bench.boards.simulations`."""
CAUTION = 1.0
"""Standard errors that are added to the spread of log variances before it is taken for how much rows differ. With 0 a
board of 8 rows of unequal variances had up to 7 % false claims, with 1 up to 5 %: `bench.boards.simulations`."""
NODES, POWER_NODES = np.linspace(0, 1, 129), np.linspace(0, 1, 97)


@dataclass(frozen=True)
class RunVariance:
    """The variance of one independent unit of a row, such as a run, and how well it is known; arrays where several."""

    variance: Floats
    degrees_of_freedom: Floats
    """0 where there is a single unit, so that nothing is known; the variance is then NaN."""
    num_units: float
    """The variance of the row's mean is `variance` over it."""
    kind: Kind

    @property
    def of_mean(self) -> Floats:
        """The variance of the row's mean; 0 where nothing is known."""
        return np.where(np.isnan(self.variance), 0.0, self.variance) / self.num_units


@dataclass(frozen=True)
class Design:
    """Which runs of a row share their training records, and which their random streams."""

    draw: tuple[int, ...]
    """[run]"""
    stream: tuple[Place, ...]
    """[run] runs of equal ones started from the same random streams."""

    @classmethod
    def of(cls, places: Sequence[Place], streams: Sequence[Streams]) -> Design:
        """The design of runs at these places, in their order."""
        by_seed = [name == "seed" for name in streams]
        return cls(
            tuple(draw for draw, _ in places),
            tuple((0 if alone else draw, seed) for (draw, seed), alone in zip(places, by_seed, strict=True)),
        )

    @classmethod
    def independent(cls, num_runs: int) -> Design:
        """That many runs of one draw."""
        return cls((0,) * num_runs, tuple((0, seed) for seed in range(num_runs)))

    @property
    def kind(self) -> Kind:
        """What counts as one."""
        if self.num_draws < 2:
            return "runs"
        return "crossed" if len(set(zip(self.draw, self.stream, strict=True))) > self.num_streams else "draws"

    @property
    def num_draws(self) -> int:
        """How many training subsets there are."""
        return len(set(self.draw))

    @property
    def num_streams(self) -> int:
        """How many different random streams there are."""
        return len(set(self.stream))

    @property
    def num_independent(self) -> int:
        """Independent runs, or draws where there are several; of a crossed design draws or seeds, the fewer."""
        if self.kind == "runs":
            return len(self.draw)
        return self.num_draws if self.kind == "draws" else min(self.num_draws, self.num_streams)

    @cached_property
    def weights(self) -> Floats:
        """[run] their shares of the row's value, which is the mean of its draws' means."""
        size = Counter(self.draw)
        return np.array([1 / (self.num_draws * size[draw]) for draw in self.draw])

    def mean(self, values: ArrayLike) -> Floats:
        """The row's value: the mean of its draws' means of these values [run, ...]."""
        return np.asarray(np.tensordot(self.weights, np.asarray(values), axes=1))

    @cached_property
    def draw_matrix(self) -> Floats:
        """[draw, run] 1 where a run is of a draw."""
        return _indicator(self.draw)

    @cached_property
    def stream_matrix(self) -> Floats:
        """[stream, run] 1 where a run has a stream."""
        return _indicator(self.stream)

    def variance(self, values: ArrayLike) -> RunVariance:
        """How much these values [..., run] vary, each row of them by itself.

        Runs or draws by themselves: the variance over n - 1. Crossed: with Vd and Vs the variance of the mean as
        draws, or seeds, alone give it, and Vc as the residual of draw + seed does, the sum Vd + Vs - Vc, no part of it
        negative; in a complete design (MSd + MSs - MSe) / (D S). Where cells are missing, Vd and Vs come from sums of
        weighted deviations by draw and by seed (Cameron, Gelbach and Miller 2011), and Vc from a least-squares fit.
        The degrees of freedom of the sum are Satterthwaite's (1946), and at most those of the larger of Vd and Vs:
        where seeds vary most and three of them happen to agree, Satterthwaite's are too many, and 2 rows of 5 draws x
        3 seeds had 6.5 % false claims (`bench.boards.simulations`).
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
    """[group, member] 1 where a member is of a group."""
    return np.array([[float(one == group) for one in groups] for group in sorted(set(groups))])


def _plain(deviation: Floats, kind: Kind) -> RunVariance:
    """The variance of units by their deviations [..., unit] from the mean."""
    num = deviation.shape[-1]
    squares = np.square(deviation).sum(axis=-1)
    variance = squares / (num - 1) if num > 1 else np.full_like(squares, np.nan)
    return RunVariance(variance, np.full_like(squares, num - 1.0), float(num), kind)


def _of_clusters(deviation: Floats, members: Floats) -> Floats:
    """The variance of the mean by weighted deviations [..., run] that are summed within clusters [cluster, run]."""
    num = len(members)
    return np.asarray(np.square(deviation @ members.T).sum(axis=-1) * num / max(num - 1, 1))


@dataclass(frozen=True)
class Prior:
    """What a board's rows tell of how much the runs of any of them vary; arrays [...] where there are several boards.

    A true variance is `degrees_of_freedom` x `variance` over a chi-squared variable with those degrees of freedom.
    """

    variance: Floats
    degrees_of_freedom: Floats
    """Infinite where all rows seem to vary alike."""
    limit: Floats
    """The most degrees of freedom that a moderated variance has: those of all rows pooled."""


Priors = Mapping[Kind, Prior]
"""What counts as one -> the prior of its variance."""
NO_PRIORS: Priors = {}


def fit_prior(variance: ArrayLike, degrees_of_freedom: ArrayLike, num_independent: int) -> Prior | None:
    """The prior by the mean and the spread of log variances [..., row], as limma's fitFDist has it (Smyth 2004).

    The spread is raised by CAUTION standard errors, which a number of independent variances leaves: it tells how much
    a row may be trusted to be like the others, and where it is underestimated, rows that vary more than the others are
    claimed to differ. `num_independent` are those of the variances, fewer for the differences of all pairs of rows.

    None where fewer than MIN_VARIANCES are known.
    """
    variance = np.asarray(variance, dtype=np.float64)
    known = np.zeros(variance.shape) + np.asarray(degrees_of_freedom, dtype=np.float64)
    if min(variance.shape[-1], num_independent) < MIN_VARIANCES:
        return None
    least = 1e-5 * np.median(variance, axis=-1, keepdims=True)  # as limma has it: the log of 0 is too far
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
    """x of trigamma(x) = value > 0, by Newton's method on 1 / trigamma, which is nearly linear (Smyth 2004)."""
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
    """The variance between its own and the prior's, each weighted by its degrees of freedom, which add up.

    A single run has the prior's alone. Runs that agree to the last bit do not vary, and stay so. Whatever the prior,
    the degrees of freedom do not exceed those of all rows pooled.
    """
    if prior is None:
        return own
    one = np.maximum(own.degrees_of_freedom, 0.0)
    given = np.where(np.isnan(own.variance), 0.0, own.variance)
    weight = np.where(np.isinf(prior.degrees_of_freedom), 0.0, one / (one + prior.degrees_of_freedom))
    known = np.minimum(one + prior.degrees_of_freedom, np.maximum(prior.limit, one))
    variance = weight * given + (1 - weight) * prior.variance
    fixed = own.variance == 0
    return replace(
        own,
        variance=np.where(fixed, 0.0, variance),
        degrees_of_freedom=np.where(fixed, own.degrees_of_freedom, known),
    )


def borrow(own: Sequence[RunVariance], num_independent: int) -> dict[Kind, Prior]:
    """The priors of these variances, of each kind by itself, as a draw's mean varies otherwise than a run does."""
    priors: dict[Kind, Prior] = {}
    for kind in dict.fromkeys(one.kind for one in own):
        alike = [one for one in own if one.kind == kind and np.all(one.degrees_of_freedom > 0)]
        alike = [one for one in alike if np.all(one.variance > 0)]
        if len(alike) > 1:
            variance = np.stack([one.variance for one in alike], axis=-1)
            known = np.stack([one.degrees_of_freedom for one in alike], axis=-1)
            if (prior := fit_prior(variance, known, min(num_independent, len(alike)))) is not None:
                priors[kind] = prior
    return priors


def _mixture(degrees_of_freedom: Floats, nodes: Floats = NODES) -> tuple[Floats, Floats]:
    """Values [..., node] of chi-squared over its degrees of freedom [...], and their weights, which sum to 1.

    On equal steps of the logarithm, where the density is smooth and the sum as exact as its ends are far.
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
    """The chance of an error as large as `value` [...], whose variance is that of `patients` plus that of `runs`.

    The runs' variance is known with `degrees_of_freedom`: p is the mean over what the true one may be. The patients'
    is known, or with `patients_degrees`. Where runs are all the doubt that is Student's t, and where patients are, a
    normal p. 1 where nothing varies and the value is 0, and 0 where it is not.
    """
    value, patients, runs, known = np.broadcast_arrays(
        *(np.asarray(one, dtype=np.float64) for one in (value, patients, runs, degrees_of_freedom))
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
    """The value of which `two_sided_p` is `alpha`, within 1e-10 of itself: half the width of an interval.

    By Newton's method on log p, and by halving or doubling where that leaves what is known to hold the value.
    """
    alpha, patients, runs, known = np.broadcast_arrays(
        *(np.asarray(one, dtype=np.float64) for one in (alpha, patients, runs, degrees_of_freedom))
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
    """The estimate `runs` [...] of a variance, scaled so that its root has no bias as an estimate of the true one's.

    The root of a variance from few runs is too small in the mean, by 11 % with 2 degrees of freedom (Holtzman 1950).
    """
    half = np.minimum(np.asarray(degrees_of_freedom, dtype=np.float64), 1e6) / 2
    return np.asarray(np.asarray(runs) * half * np.exp(2 * (gammaln(half) - gammaln(half + 0.5))))


def resolvable(alpha: float, power: float, patients: ArrayLike, runs: ArrayLike, known: ArrayLike) -> Floats:
    """The true difference that a test at level `alpha` finds with this power, in studies with these true variances.

    Each such study estimates the runs' variance anew, with `known` degrees of freedom.
    """
    patients, runs, known = np.broadcast_arrays(*(np.asarray(one, dtype=np.float64) for one in (patients, runs, known)))
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
    """[row, replicate] errors of rows' means from their runs: runs at one place move together in all rows.

    Each row's runs, by their `values` [run], get random weights that the rows share, by draw and by stream. The errors
    of a row have its moderated variance and are t-distributed with its degrees of freedom.
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
        noise = noise / own if own > 0 else random.normal(size=num)  # a single run: nothing to share
        errors[row] = noise * np.sqrt(float(variance.of_mean) / _chi(level, float(variance.degrees_of_freedom)))
    return errors


def _raw_variance(design: Design, deviation: Floats) -> float:
    """The variance of `shared_noise` before it is scaled, by the weighted deviations [run]."""
    of_draws = float(np.square(deviation @ design.draw_matrix.T).sum()) if design.kind != "runs" else 0.0
    of_streams = float(np.square(deviation @ design.stream_matrix.T).sum()) if design.kind != "draws" else 0.0
    return of_draws + of_streams


def _chi(level: Floats, degrees_of_freedom: float) -> Floats:
    """Chi-squared over its degrees of freedom at these levels [replicate]."""
    known = min(degrees_of_freedom, 1e6)
    return np.asarray(np.maximum(chdtri(known, level), 1e-300) / known)
