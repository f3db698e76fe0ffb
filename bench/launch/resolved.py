"""Lines of a sweep's plan on the differences that its runs would resolve, from the variances of published runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bench.boards.declared import BASELINE
from bench.boards.power import Variances, read_variances
from bench.boards.studies import against_baseline
from bench.cell import Cell
from bench.errors import DataError
from bench.results.result import published_folder

MOST_LINES = 6


def published_variances() -> list[Variances]:
    """Return the variances of the published runs; empty if bench was installed without them."""
    try:
        folder = published_folder()
    except DataError:
        return []
    return read_variances(folder)


def resolved_lines(cells: Sequence[Cell], known: Sequence[Variances]) -> Iterator[str]:
    """Yield a line for each method, task and share of a grid's cells: the difference that its runs would resolve.

    It follows from the variances `known`. Nothing without the baseline in the grid, or if no variance is known.
    """
    methods = {cell.method.name for cell in cells}
    present = {(against_baseline(cell.method.name).name, cell.task, cell.fraction) for cell in cells}
    draws, seeds = (len({getattr(cell, name) for cell in cells}) for name in ("draw", "seed"))
    lines = []
    for one in known if BASELINE in methods and draws * seeds > 1 else ():
        if (one.contrast, one.task, one.fraction) in present:
            if draws > 1 and math.isnan(one.draw_sd):
                least = "how draws vary was never measured, so this cannot be said"
            else:
                least = f"{one.resolves(draws, seeds):.4f}"
            share = f"{100 * one.fraction:g} %"
            lines.append(f"{one.contrast}, {one.task}, {share}, as {one.study} varied: {least}")
    if lines:
        number = f"{draws} draw{'s' * (draws > 1)} x {seeds} seed{'s' * (seeds > 1)}"
        yield f"differences that {number} find with 80 % power at 5 % (`bench power` says what a smaller one needs):"
        yield from (f"  {line}" for line in lines[:MOST_LINES])
        if len(lines) > MOST_LINES:
            yield f"  and {len(lines) - MOST_LINES} more"
