"""Sentences on simulated rates that miss their goals, for the foot of a board's page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from bench.boards.simulations import (
    ALL_LABELS,
    COVERED,
    LEVEL,
    POOLED,
    PRINTED_POWER,
    SIMULATIONS,
    Rate,
    is_met,
    missed,
    pooled,
    read_rates,
)
from bench.pages.markdown import folded

NORMAL = ("normal", "normal, held out")
"""Tasks of the simulations that have no labels and so hold for every board."""


def simulated_lines(task: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a folded section on the simulations of this task's labels and of the normal model; empty without any.

    `rows` are those of simulations.csv. Coverage over all labels is left out, because the explanation of † has it.
    """
    by_quantity: dict[tuple[str, str], list[Rate]] = defaultdict(list)
    for rate in read_rates(rows):
        if rate.task in (task, *NORMAL) and rate.quantity != ALL_LABELS and is_met(rate) is not None:
            by_quantity[rate.task, rate.quantity].append(rate)
    sentences = [_sentence(quantity, rates) for (_, quantity), rates in by_quantity.items()]
    if not sentences:
        return []
    goals = (
        f"Goals: a 95 % interval covers the truth in {COVERED[0]:g} to {COVERED[1]:g} % of simulations; the lower 95 % "
        f"bound of a setting's false claims is at most {LEVEL:g} %, and their mean over an axis of settings at most "
        f"{POOLED:g} %; power at the resolvable difference is {PRINTED_POWER[0]:g} to {PRINTED_POWER[1]:g} %. "
        f"[All rates](../{SIMULATIONS})."
    )
    all_rates = [rate for rates in by_quantity.values() for rate in rates]
    return folded(
        "How often intervals and claims are right in simulations", [goals, "", *sentences, *_over_axes(all_rates), ""]
    )


def _sentence(quantity: str, rates: Sequence[Rate]) -> str:
    """Return how many settings of a quantity miss its goal, with the lowest and the highest rate of these."""
    number = f"{len(rates)} setting" + "s" * (len(rates) != 1)
    where = f"{rates[0].task}: {quantity}, {number}"
    misses = sorted(missed(rates), key=lambda rate: rate.percent)
    if not misses:
        return f"- {where}: the goal is met in all."
    ends = misses[:: len(misses) - 1 or 1]
    extremes = [f"{rate.percent:g} % ± {rate.error:g} with {rate.setting}" for rate in ends]
    return f"- {where}: missed in {len(misses)} ({'; '.join(extremes)})."


def _over_axes(rates: Sequence[Rate]) -> list[str]:
    """Return a sentence on false claims: the largest mean over all settings that share a value, such as 8 rows."""
    means = pooled(rates)
    if not means:
        return []
    (axis, value, family), largest = max(means.items(), key=lambda item: item[1])
    verdict = "the goal is met on every axis" if largest <= POOLED else "the goal is missed"
    return [f"- False claims, mean over an axis: at most {largest:.1f} % ({axis} {value}, {family}); {verdict}."]
