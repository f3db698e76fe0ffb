"""Estimate a difference over several tasks, draws and seeds in two ways: by redrawing, and by a mixed model.

A unit is a run, or a pair of runs, of one task, draw and seed. Patients of the test fold are shared by all tasks, so
their error is common to all units. How each patient contributes to a macro AUROC is its influence
(`parts.macro_auroc`); the error from redrawn patients is the sum of influences times (number of times drawn - 1). This
is the linear part of resampling patients, and no AUROC is computed anew.

Two questions are answered. *These tasks*: the tasks are fixed, and draws or seeds vary. *Further tasks*: the tasks are
a sample, too. Then whole tasks are redrawn. Their draws and seeds come with them and are not redrawn again, because the
variance between tasks contains theirs (Davison and Hinkley 1997, section 3.8).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy  # imports its parts where they are first used: scipy.optimize takes 0.2 s
from numpy.typing import NDArray
from scipy.special import ndtr

from bench.evaluation.metrics import Floats
from bench.evaluation.runs import Design, Place

NUM_REDRAWN = 4000
MIN_TASKS = 3
"""Least number of tasks that show how much tasks vary."""
PRIOR_SCALE = {"task": 0.05, "draw": 0.02, "stream": 0.02, "rest": 0.02}
"""Component -> scale of the half-Cauchy prior of its standard deviation (Gelman 2006), in macro AUROC."""
LEAST, MOST = 1e-4, 0.5
"""Range of standard deviations in the grid."""
NODES, MOST_NODES = 18, 8000
"""Number of nodes of a component, and the most that a grid has: a crossed design has four components."""
NEGLIGIBLE = 1e-3
"""Minimum share of the weight: an end node of a grid with less is left out of the next grid."""
TOLERANCE = 0.05
"""Largest change of a bound between two grids, as a share of the interval's width, with which they have converged."""


@dataclass(frozen=True, eq=False)
class Units:
    """Values of units, such as paired differences, and what the units share."""

    values: Floats
    """[unit, column]; columns are methods, fractions or contrasts."""
    task: tuple[str, ...]
    """[unit]"""
    draw: tuple[int, ...]
    """[unit] Units of one task and draw share their training records."""
    stream: tuple[Place, ...]
    """[unit] Units of one task and stream share their random streams."""
    influence: Floats
    """[task, column, patient], of the mean of a task's units; tasks are in the order of `tasks`."""

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks, in order."""
        return tuple(dict.fromkeys(self.task))

    @cached_property
    def designs(self) -> tuple[Design, ...]:
        """Return [task], which units of a task are independent."""
        return tuple(
            Design(tuple(self.draw[at] for at in places), tuple(self.stream[at] for at in places))
            for places in self._places
        )

    @cached_property
    def _places(self) -> tuple[list[int], ...]:
        return tuple([at for at, name in enumerate(self.task) if name == task] for task in self.tasks)

    @cached_property
    def task_means(self) -> Floats:
        """Return [task, column], the mean over a task's draws of the mean over a draw's seeds."""
        pairs = zip(self.designs, self._places, strict=True)
        return np.array([design.mean(self.values[places]) for design, places in pairs])

    @property
    def mean(self) -> Floats:
        """Return [column], the mean over tasks."""
        return np.asarray(self.task_means.mean(axis=0))

    @property
    def num_draws(self) -> int:
        """Return the least number of draws that a task has."""
        return min(design.num_draws for design in self.designs)

    @property
    def degrees_of_freedom(self) -> int:
        """Return those of the variance within tasks: of draws where a task has several, else of seeds; 0 without any.

        In a crossed design those of draws or of seeds, whichever are fewer.
        """
        return min(sum(len(set(of_task)) - 1 for of_task in self._clusters(kind)) for kind in self._kinds)

    def times(self, weights: Floats) -> Units:
        """Return the same units with columns that are weighted sums of these; `weights` [column, new column]."""
        influence = np.einsum("tcp,ck->tkp", self.influence, weights)
        return Units(self.values @ weights, self.task, self.draw, self.stream, influence)

    @cached_property
    def _kinds(self) -> tuple[str, ...]:
        """Return what varies within tasks: `draw`; `stream` if no task has two draws; both if they are crossed."""
        kinds = {design.kind for design in self.designs}
        return ("draw", "stream") if "crossed" in kinds else ("draw",) if "draws" in kinds else ("stream",)

    def _clusters(self, kind: str) -> list[tuple[Hashable, ...]]:
        """Return [task][unit], the draw or the stream."""
        return [getattr(design, kind) for design in self.designs]

    def residuals(self, kind: str) -> tuple[list[int], Floats]:
        """Return [task], the number of draws or streams, and [residual, column], their residuals pooled over tasks.

        A residual is the deviation of the mean of a draw or stream from its task, scaled to have an unbiased variance.
        """
        sizes, pooled = [], [np.zeros((0, self.values.shape[1]))]
        for design, places, of_unit in zip(self.designs, self._places, self._clusters(kind), strict=True):
            names = list(dict.fromkeys(of_unit))
            sizes.append(len(names))
            if (num := len(names)) > 1:
                member = np.array([[float(name == other) for other in of_unit] for name in names])
                deviation = (self.values[places] - design.mean(self.values[places])) * design.weights[:, None]
                pooled.append(member @ deviation * num * math.sqrt(num / (num - 1)))
        return sizes, np.concatenate(pooled)


def redraw(units: Units, *, further_tasks: bool, num: int = NUM_REDRAWN, seed: int = 0) -> Floats:
    """Return [replicate, column], means over tasks of redrawn units and jointly redrawn patients.

    *Further tasks*: tasks are redrawn. *These tasks*: in each task, its draws are redrawn, or its seeds if no task has
    two draws, from the residuals of all tasks; both in a crossed design. Deviations of n redrawn units are scaled by
    sqrt(n / (n - 1)), as the bootstrap's variance is too small by this factor squared. They are also divided by
    sqrt(chi-squared / degrees of freedom): so a mean of few units has an error with the tails of Student's t.
    """
    random = np.random.default_rng(seed)
    num_tasks, num_patients = len(units.tasks), units.influence.shape[2]
    known = num_tasks - 1 if further_tasks else units.degrees_of_freedom
    scale = np.sqrt(known / random.chisquare(known, num))[:, None] if known else np.zeros((num, 1))
    weight = np.full((num, num_tasks), 1 / num_tasks)
    error = np.zeros((num, units.values.shape[1]))
    if further_tasks and known:
        picks = random.integers(num_tasks, size=(num, num_tasks))
        weight = np.stack([(picks == task).mean(axis=1) for task in range(num_tasks)], axis=1)
        error += weight @ (units.task_means - units.mean) * math.sqrt(num_tasks / known)
    elif known:
        for kind in units._kinds:
            sizes, pooled = units.residuals(kind)
            for size in sizes:
                picks = random.integers(len(pooled), size=(num, size))
                error += pooled[picks].mean(axis=1) / num_tasks
    flat = units.influence.reshape(-1, num_patients)
    of_tasks = (_redrawn_patients(num, num_patients, seed) @ flat.T).reshape(num, num_tasks, -1)
    return np.asarray(units.mean + scale * error + np.einsum("rt,rtc->rc", weight, of_tasks))


@functools.lru_cache(maxsize=2)
def _redrawn_patients(num: int, num_patients: int, seed: int) -> Floats:
    """Return [replicate, patient], how often a patient is drawn in as many draws with replacement, minus 1."""
    random = np.random.default_rng([seed, 1])
    picks = random.integers(num_patients, size=(num, num_patients)) + num_patients * np.arange(num)[:, None]
    return np.asarray(np.bincount(picks.ravel(), minlength=picks.size).reshape(num, num_patients) - 1.0)


@dataclass(frozen=True)
class Belief:
    """What one way says of one number: its 95 % interval and probabilities."""

    value: float
    low: float
    high: float
    above_zero: float
    """Probability that the true value is above 0."""
    above_margin: float
    """Probability that it is above the margin."""
    below_margin: float
    """Probability that it is below minus the margin."""
    converged: bool = True

    @property
    def p(self) -> float:
        """Return twice the probability of the less likely direction, as a two-sided p-value."""
        return min(1.0, 2 * min(self.above_zero, 1 - self.above_zero))


def by_redrawing(values: Floats, value: float, margin: float) -> Belief:
    """Summarize replicates [replicate] of a difference whose estimate is `value`."""
    low, high = np.quantile(values, [0.025, 0.975])
    num = len(values)
    above, over, under = (
        float((1 + part.sum()) / (2 + num)) for part in (values > 0, values > margin, values < -margin)
    )
    return Belief(value, float(low), float(high), above, over, under)


def by_mixed_model(units: Units, margin: float, *, further_tasks: bool, nodes: int = NODES) -> Belief | None:
    """Fit a mixed model to units with one column; None if no unit is replicated, so that no variance can be estimated.

    y = task + draw + stream (+ rest, in a crossed design) + error of patients. All terms but a fixed task are normal.
    The covariance of patients' errors between tasks is known from influences. *These tasks*: tasks are fixed effects,
    and the answer is their mean. *Further tasks*: tasks are random, and the answer is their expectation.

    The standard deviations have half-Cauchy priors, and fixed effects a flat one. The posterior is the sum over a grid
    of standard deviations, so there is no chain; a grid of two thirds as many nodes must give the same bounds.
    """
    if not (units.degrees_of_freedom or (further_tasks and len(units.tasks) > 1)):
        return None
    nodes = min(nodes, int(MOST_NODES ** (1 / len(components(units, further_tasks=further_tasks)))))
    coarse, fine = (posterior(units, margin, further_tasks=further_tasks, nodes=num) for num in (2 * nodes // 3, nodes))
    moved = max(abs(coarse.low - fine.low), abs(coarse.high - fine.high))
    converged = moved <= TOLERANCE * (fine.high - fine.low)
    return Belief(fine.value, fine.low, fine.high, fine.above_zero, fine.above_margin, fine.below_margin, converged)


def components(units: Units, *, further_tasks: bool) -> dict[str, Floats]:
    """Return component -> [unit, unit], 1 where two units share its effect; only components that can be estimated."""
    task = np.array([units.tasks.index(name) for name in units.task])
    keys = {
        "task": task,
        "draw": _numbered(zip(units.task, units.draw, strict=True)),
        "stream": _numbered(zip(units.task, units.stream, strict=True)),
        "rest": np.arange(len(task)),
    }
    shared = {name: (key[:, None] == key[None]).astype(np.float64) for name, key in keys.items()}
    chosen = ["task"] if further_tasks else []
    for name in ("draw", "stream", "rest"):
        num = len(set(keys[name].tolist()))
        # an effect that no two units of a task distinguish is part of the task
        if num > len(units.tasks) and not any(np.array_equal(shared[name], shared[other]) for other in chosen):
            chosen.append(name)
    return {name: shared[name] for name in chosen}


def _numbered(keys: Iterable[Hashable]) -> NDArray[np.int64]:
    every = list(keys)
    order = {key: at for at, key in enumerate(dict.fromkeys(every))}
    return np.array([order[key] for key in every])


def patient_covariance(units: Units) -> Floats:
    """Return [task, task], the covariance of the errors that patients cause, of units with one column."""
    influence = units.influence[:, 0]
    return np.asarray(influence @ influence.T)


def posterior(units: Units, margin: float, *, further_tasks: bool, nodes: int) -> Belief:
    """Return the answer of `by_mixed_model` from a grid with `nodes` nodes a component."""
    y, num_tasks = units.values[:, 0], len(units.tasks)
    parts = components(units, further_tasks=further_tasks)
    of_task = np.array([[float(name == task) for task in units.tasks] for name in units.task])
    covariance = patient_covariance(units)
    if further_tasks:
        fixed, known = np.ones((len(y), 1)), of_task @ covariance @ of_task.T
    else:
        fixed, known = of_task, np.zeros((len(y), len(y)))
    center, spread, log_weight = _fitted(y, fixed, known, parts, nodes)
    if not further_tasks:
        spread = np.sqrt(spread**2 + covariance.sum() / num_tasks**2)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    kept = weight > 1e-9 * weight.max()
    center, spread, weight = center[kept], spread[kept], weight[kept]

    def below(value: float) -> float:
        return float(weight @ ndtr((value - center) / spread))

    ends = float((center - 12 * spread).min()), float((center + 12 * spread).max())
    low, high = (float(scipy.optimize.brentq(lambda x, q=q: below(x) - q, *ends, xtol=1e-7)) for q in (0.025, 0.975))
    return Belief(float(weight @ center), low, high, 1 - below(0.0), 1 - below(margin), below(-margin))


def _fitted(y: Floats, fixed: Floats, known: Floats, parts: dict[str, Floats], nodes: int) -> Floats:
    """Return [3, node], as `_grid`, on a grid over the range of standard deviations that a first grid has left."""
    axes = [np.linspace(math.log(LEAST), math.log(MOST), nodes)] * len(parts)
    first = _grid(y, fixed, known, parts, axes)
    weight = np.exp(first[2] - first[2].max()).reshape([nodes] * len(parts))
    narrow = []
    for at, logs in enumerate(axes):
        marginal = weight.sum(axis=tuple(other for other in range(len(axes)) if other != at))
        likely = np.flatnonzero(marginal > NEGLIGIBLE * marginal.sum())
        low, high = max(likely[0] - 1, 0), min(likely[-1] + 1, nodes - 1)
        narrow.append(np.linspace(logs[low], logs[high], nodes))
    return _grid(y, fixed, known, parts, narrow)


def _grid(y: Floats, fixed: Floats, known: Floats, parts: dict[str, Floats], axes: Sequence[Floats]) -> Floats:
    """Return [3, node], the mean of the fixed effects, its standard deviation and its log weight.

    `axes` [component][node] are logarithms of standard deviations.
    """
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(parts))
    scales = np.array([PRIOR_SCALE[name] for name in parts])
    sd = np.exp(mesh)
    prior = (mesh - np.log1p((sd / scales) ** 2)).sum(axis=1)  # density of the logarithm of a half-Cauchy variable
    num_fixed = fixed.shape[1]
    matrices = np.stack([*parts.values()])
    results = np.empty((3, len(mesh)))
    for start in range(0, len(mesh), 1000):
        part = slice(start, start + 1000)
        total = np.tensordot(sd[part] ** 2, matrices, axes=1) + known + 1e-10 * np.eye(len(y))
        root = np.linalg.cholesky(total)
        solved = np.linalg.solve(
            root, np.broadcast_to(np.column_stack([fixed, y]), (len(total), len(y), num_fixed + 1))
        )
        x, z = solved[..., :num_fixed], solved[..., num_fixed]
        information = np.swapaxes(x, 1, 2) @ x
        cross = np.swapaxes(x, 1, 2) @ z[..., None]
        inverse = np.linalg.inv(information)
        effects = (inverse @ cross)[..., 0]
        squares = np.square(z).sum(axis=1) - (effects * cross[..., 0]).sum(axis=1)
        log_det = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
        results[0, part] = effects.mean(axis=1)
        results[1, part] = np.sqrt(inverse.sum(axis=(1, 2))) / num_fixed
        results[2, part] = prior[part] - log_det - np.linalg.slogdet(information)[1] / 2 - squares / 2
    return results
