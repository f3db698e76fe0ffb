"""Say how many records a method is worth: with how many records the baseline would score as high.

The baseline's learning curve is macro AUROC over the logarithm of the share of records, straight between its points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy  # imports its parts where they are first used: scipy.optimize takes 0.2 s

from bench.boards.studies import BASE, Arm, Study
from bench.evaluation.hierarchical import Units, redraw
from bench.evaluation.metrics import Floats

MIN_FRACTIONS = 3
FEW_POINTS = f"the baseline has fewer than {MIN_FRACTIONS} shares of records with the same runs"
NOT_RISING = "the baseline's score does not rise with every share of records"
NO_RUNS = "no run is replicated, so how much runs vary is not known"


@dataclass(frozen=True)
class Worth:
    """With `fraction` of the records a method scores as the baseline with `times` as many, in 95 % `low` to `high`."""

    method: str
    tasks: tuple[str, ...]
    fraction: float
    times: float = math.nan
    """Infinite where the method scores more than the baseline with the largest share; 0 where less than with the
    smallest."""
    low: float = math.nan
    high: float = math.nan
    most: float = math.nan
    """The largest number of times that the curve can show."""
    least: float = math.nan
    reason: str = ""
    """Why there is no number; empty if there is one."""
    num_draws: int = 0


def worth(study: Study, method: str) -> list[Worth]:
    """Return what a method is worth at each share of records but the largest, over all tasks and in each task."""
    arms = (Arm(method), BASE)
    tasks, fractions = study.block(arms)
    if not tasks:
        return []
    groups = [tasks, *([task] for task in tasks if len(tasks) > 1)]
    return [each for group in groups for each in _of_tasks(study, method, tuple(group), fractions)]


def _of_tasks(study: Study, method: str, tasks: tuple[str, ...], fractions: tuple[float, ...]) -> list[Worth]:
    units = study.units((Arm(method), BASE), tasks, fractions)
    return [worth_at(units, fractions, at, method) for at in range(max(len(fractions) - 1, 1))]


def worth_at(units: Units, fractions: tuple[float, ...], at: int, method: str = "") -> Worth:
    """Return what a method is worth at the fraction number `at`.

    The columns of `units` are the method at all fractions, then the baseline at all fractions.
    """
    num, tasks = len(fractions), units.tasks
    of_method, curve = units.mean[at], units.mean[num:]
    if num < MIN_FRACTIONS:
        return Worth(method, tasks, fractions[at], reason=FEW_POINTS)
    if not (np.diff(curve) > 0).all():
        return Worth(method, tasks, fractions[at], reason=NOT_RISING)
    if not units.degrees_of_freedom:
        return Worth(method, tasks, fractions[at], reason=NO_RUNS)
    redrawn = redraw(units, further_tasks=False)
    times = np.array([invert(fractions, row[num:], row[at]) for row in redrawn]) / fractions[at]
    low, high = np.quantile(times, [0.025, 0.975], method="nearest")
    value = invert(fractions, curve, float(of_method)) / fractions[at]
    ends = fractions[-1] / fractions[at], fractions[0] / fractions[at]
    draws = units.num_draws
    return Worth(method, tasks, fractions[at], value, float(low), float(high), *ends, num_draws=draws)


def invert(fractions: tuple[float, ...], curve: Floats, score: float) -> float:
    """Return the share of records at which the baseline reaches `score`; 0 below its curve, infinite above.

    A redrawn `curve` [fraction] that falls somewhere is replaced by the nearest one that does not.
    """
    if not (np.diff(curve) > 0).all():
        curve = scipy.optimize.isotonic_regression(curve).x
    if score > curve[-1]:
        return math.inf
    if score < curve[0]:
        return 0.0
    return float(np.exp(np.interp(score, curve, np.log(fractions))))
