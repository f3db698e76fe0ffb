"""Conditions of a claim: the training records and the first weights that all its runs share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from bench.boards.comparisons import Comparison
from bench.boards.rows import Row
from bench.evaluation.runs import MIN_RUNS
from bench.results.identity import RANDOM
from bench.results.result import Result

SUBSET = "§"
"""Mark of rows and claims from fewer than three draws of a part of the records."""


def condition(rows: Sequence[Row], places: Collection[tuple[int, int]]) -> str:
    """Return the training records and initial weights to which a statement about these rows is limited.

    `places` are the (draw, seed) of the runs. Empty if there is no limit: all training records or three draws, and
    random initial weights, which differ between seeds.
    """
    return " ".join(filter(None, [_records(rows, places), _weights(rows)]))


def condition_of(pair: Comparison, rows: Sequence[Row]) -> str:
    """Return the condition of a comparison of two rows."""
    return condition([row for row in rows if row.name in (pair.first, pair.second)], pair.places)


def _records(rows: Sequence[Row], places: Collection[tuple[int, int]]) -> str:
    """Return the text `on this subset of N records`; empty for all records, and for three draws or more."""
    draws = {draw for draw, _ in places}
    runs = [run for row in rows for run in row.runs if _is_subset(run)]
    if not runs or len(draws) >= MIN_RUNS:
        return ""
    counts = (run.document.get("split", {}).get("train_records") for run in runs if run.place in places)
    sizes = sorted({count for count in counts if count is not None})
    number = " to ".join(dict.fromkeys(f"{size:,}" for size in (sizes[:1] + sizes[-1:])))
    number = f" of {number} records" if sizes else ""
    return f"on this subset{number}" if len(draws) == 1 else f"on these {len(draws)} subsets{number}"


def few_draws(row: Row) -> bool:
    """Return whether a row has fewer than three draws of a part of the records: its claims are about these subsets."""
    subsets = [run for run in row.runs if not run.external and _is_subset(run)]
    return bool(subsets) and len({run.place[0] for run in subsets}) < MIN_RUNS


def spell_runs(row: Row) -> str:
    """Return a row's runs, with marks: * few runs, § few draws. Of a part of the records, draws times seeds."""
    seeds = Counter(run.place[0] for run in row.runs).values()
    of_draw = str(min(seeds)) if len(set(seeds)) == 1 else f"{min(seeds)}–{max(seeds)}"
    number = f"{len(seeds)} × {of_draw}" if any(map(_is_subset, row.runs)) else str(len(row.runs))
    return number + "*" * row.few_runs + SUBSET * few_draws(row)


def _is_subset(run: Result) -> bool:
    """Return whether a run was trained on a part of the training records."""
    return bool(run.cell.get("fraction", 1) < 1 or run.cell.get("manifest"))


def _weights(rows: Sequence[Row]) -> str:
    """Return the text `from these weights`, with their number if there are several; empty for random weights."""
    starts = {row.init for row in rows} - {RANDOM}
    if len(starts) > 1:
        return f"from these {len(starts)} sets of weights"
    return "from these weights" if starts else ""
