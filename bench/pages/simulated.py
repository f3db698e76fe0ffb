"""Sentences on where simulations of the rules miss their goals, for the foot of a board's page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from bench.boards.simulations import ALL_LABELS, SIMULATIONS
from bench.pages.markdown import folded

LOWEST_COVERAGE, HIGHEST_COVERAGE, MOST_FALSE_CLAIMS = 93.0, 97.0, 5.0
"""Goals in percent: bounds of an interval's coverage, and of families with a false claim."""
NORMAL = "normal"
"""Task of the simulations that have no labels and hold for every board."""
COVERAGE, FALSE_CLAIMS, RULE = "coverage", "false claims", "larger p"
CONFIDENCE = 1.96
"""Standard errors of a simulated rate below which its 95 % lower bound lies."""
Rate = Mapping[str, str]
"""A row of simulations.csv: task, quantity, setting, percent, error, simulations."""


def simulated_lines(task: str, rates: Sequence[Rate]) -> list[str]:
    """Return a fold on the simulations of this task's labels and of the normal model; nothing where there are none."""
    by_quantity: dict[str, list[Rate]] = defaultdict(list)
    for rate in rates:
        if rate["task"] in (task, NORMAL) and rate["quantity"] != ALL_LABELS and _is_of_the_rule(rate["quantity"]):
            by_quantity[rate["quantity"]].append(rate)
    sentences = [_sentence(quantity, of_quantity) for quantity, of_quantity in by_quantity.items()]
    if not sentences:
        return []
    goals = (
        f"Goals: a 95 % interval covers the truth in {LOWEST_COVERAGE:g} to {HIGHEST_COVERAGE:g} % of simulations, and "
        f"no setting has false claims in more than {MOST_FALSE_CLAIMS:g} % of families beyond its simulation error. "
        f"[All rates](../{SIMULATIONS})."
    )
    return folded("How often intervals and claims are right in simulations", [goals, "", *sentences, ""])


def _is_of_the_rule(quantity: str) -> bool:
    """Return whether a rate is a coverage, or false claims by the rule that boards use."""
    kind, _, rule = quantity.partition(": ")
    return quantity.startswith(COVERAGE) or (kind.startswith(FALSE_CLAIMS) and rule in ("", RULE))


def _sentence(quantity: str, rates: Sequence[Rate]) -> str:
    """Return how many settings of a quantity miss its goal, with the worst of them."""
    if quantity.startswith(COVERAGE):
        low = _missed(rates, lambda rate: float(rate["percent"]) < LOWEST_COVERAGE, "lowest", min)
        high = _missed(rates, lambda rate: float(rate["percent"]) > HIGHEST_COVERAGE, "highest", max)
        misses = [f"too low in {low}" if low else "", f"too high (too cautious) in {high}" if high else ""]
    else:
        many = _missed(rates, _is_above, "highest", max)
        misses = [f"too many in {many}" if many else ""]
    words = "; ".join(filter(None, misses))
    number = f"{len(rates)} setting" + "s" * (len(rates) != 1)
    return f"- {quantity[0].upper()}{quantity[1:]}, {number}: {words or 'the goal is met in all'}."


def _is_above(rate: Rate) -> bool:
    """Return whether even the lower bound of a rate lies above the goal."""
    return float(rate["percent"]) - CONFIDENCE * float(rate["error"]) > MOST_FALSE_CLAIMS


def _missed(rates: Sequence[Rate], is_missed: Callable[[Rate], bool], extreme: str, choose: Callable[..., Rate]) -> str:
    """Return the number of rates that miss a goal and the worst of them; empty where none does."""
    missed = list(filter(is_missed, rates))
    if not missed:
        return ""
    worst = choose(missed, key=lambda rate: float(rate["percent"]))
    return f"{len(missed)} ({extreme} {worst['percent']} % ± {worst['error']}: {worst['setting']})"
