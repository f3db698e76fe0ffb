"""Apply a function to many runs, or to many rows, on all cores."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from bench.data.pool import over_cores
from bench.processes import num_cores

Item = TypeVar("Item")
Output = TypeVar("Output")
LEAST_RUNS, LEAST_ROWS = 16, 4
"""Least number of runs, and of rows, for which a chunk of work is worth its start."""
MODULES = ("bench.boards.rows", "scipy.sparse", "scipy.stats")
"""What the work needs: imported once, and not by each process, which takes a second."""


def on_cores(work: Callable[[Item], Output], items: Sequence[Item], least: int) -> Iterator[tuple[int, Output]]:
    """Yield the position of each item and what `work` returns of it, in order of completion.

    `least` is the number of items for which a chunk of work is worth its own start.
    """
    size = max(least, -(-len(items) // (4 * num_cores())))
    chunks = [range(at, min(at + size, len(items))) for at in range(0, len(items), size)]
    given = [(chunk, [items[at] for at in chunk]) for chunk in chunks]
    for (positions, _), outputs in over_cores(functools.partial(_all, work), given, modules=MODULES):
        yield from zip(positions, outputs, strict=True)


def _all(work: Callable[[Item], Output], chunk: tuple[range, Sequence[Item]]) -> list[Output]:
    return [work(item) for item in chunk[1]]
