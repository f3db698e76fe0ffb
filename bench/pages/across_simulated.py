"""A folded section on how often the intervals over tasks are right in simulation, and where they fail."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from bench.boards.across_simulations import ANY, COVERED, LEVEL, SIMULATED, is_met
from bench.boards.simulations import Rate, read_rates
from bench.pages.markdown import folded, markdown_table


def simulated_lines(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the section with a table of all settings; empty without `rows`, which are of across_simulations.csv."""
    rates = read_rates(rows)
    if not rates:
        return []
    by_setting: dict[str, dict[str, Rate]] = defaultdict(dict)
    for rate in rates:
        by_setting[rate.setting][rate.quantity] = rate
    quantities = list(dict.fromkeys(rate.quantity for rate in rates if not rate.quantity.startswith("same")))
    table = [
        [setting, *(_cell(of_setting.get(quantity)) for quantity in quantities)]
        for setting, of_setting in by_setting.items()
    ]
    agreement = [rate.percent for rate in rates if rate.quantity.startswith("same")]
    low = min(rate.simulations for rate in rates)
    lines = [
        f"In percent of {low} simulations or more; ± is the Monte Carlo error. Goals: an interval covers in at least "
        f"{COVERED[0]:g} %, and a claim is false in at most {LEVEL:g} %, both within two errors. Bold: the goal is "
        f"missed. *{ANY[0].upper()}{ANY[1:]}*: what would be claimed of all subsets from a single draw. It fails, and "
        "so claims from one draw say that they are about that subset. Both ways say the same in "
        f"{min(agreement):g} to {max(agreement):g} %. [All rates](../{SIMULATED}).",
        "",
        *markdown_table(["setting", *quantities], table),
    ]
    return folded("How often these intervals and claims are right in simulations", lines)


def _cell(rate: Rate | None) -> str:
    if rate is None:
        return "–"
    words = f"{rate.percent:.1f} ± {rate.error:.1f}"
    return f"**{words}**" if is_met(rate) is False else words
