"""Write scores, differences and p-values as text, the same on all pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.boards.across import Both
from bench.boards.comparisons import Comparison
from bench.boards.rows import interval_of, recorded_interval
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Interval, Summary
from bench.evaluation.hierarchical import Belief
from bench.results.result import Result


def spell(summary: Summary | Interval) -> str:
    """Return a value with its bounds as text; a dash if it is undefined."""
    interval = interval_of(summary)
    if math.isnan(interval.value):
        return "–"
    bounds = "" if math.isnan(interval.low) else f" ({interval.low:.3f}–{interval.high:.3f})"
    return f"{interval.value:.4f}{bounds}"


def spell_difference(summary: Summary) -> str:
    """Return a difference with its bounds as text, each with its sign."""
    return spell_bounds(summary.interval)


def spell_bounds(of: Interval | Belief | Both) -> str:
    """Return a value with its bounds as text, each with its sign."""
    return f"{of.value:+.4f} ({of.low:+.3f} to {of.high:+.3f})".replace("-", "−")


def spell_p(p: float) -> str:
    """Return a p-value as text; below 0.001 as `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def equals(p: str) -> str:
    """Return a p-value as text with its sign: `= 0.010` or `< 0.001`."""
    return p if p.startswith("<") else f"= {p}"


def spell_role(pair: Comparison) -> str:
    """Return the p-value of a pair as text, with its role or with the mark of few runs."""
    return f"{spell_p(pair.p_adjusted)}*" if pair.few_pairs else f"{spell_p(pair.p_adjusted)} ({pair.role})"


def spell_range(values: Sequence[float]) -> str:
    """Return the least and the largest value as text; a single number if both are the same."""
    low, high = f"{min(values):.4f}", f"{max(values):.4f}"
    return low if low == high else f"{low} to {high}"


def over_all_records(scored: Mapping[str, Any]) -> str:
    """Return as text macro AUROC and AP over all labels and all records of fold 10."""
    macro = [spell(recorded_interval(scored["macro"]["all"][metric])) for metric in metrics.RANKING]
    return (
        f"on all {scored['num_records']:,} records of fold 10, those without a label as negatives: macro AUROC over "
        f"all labels {macro[0]}, macro AP {macro[1]}"
    )


def spell_both(both: Both) -> str:
    """Return a difference with the wider bounds of both ways, each with its sign; of few runs it is the value alone."""
    return f"{both.value:+.4f}".replace("-", "−") if both.few else spell_bounds(both)


def spell_probability(value: float) -> str:
    """Return a probability in percent; near its ends as more or less than, as replicates do not reach further."""
    percent = 100 * value
    if percent > 99.9:
        return "more than 99.9 %"
    return "less than 0.1 %" if percent < 0.1 else f"{percent:.1f} %"


def spell_shares(fractions: Sequence[float]) -> str:
    """Return shares of records in percent, as text; `all` for all records."""
    if tuple(fractions) == (1.0,):
        return "all"
    return f"{listed([f'{100 * fraction:.3g}' for fraction in fractions])} %"


def listed(names: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


STEPS = (
    "gradient steps of a run, phase by phase: epochs times batches. With few records an epoch is a single batch. A "
    "method of two phases takes the steps of both."
)


def spell_steps(run: Result) -> str:
    """Return the gradient steps of a run's phases, such as `30 + 30`; empty if it took none."""
    return " + ".join(map(str, run.steps))
