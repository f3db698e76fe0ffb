"""The live view of a sweep: a bar over its cells and a line for each worker."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from bench.console.terminal import print_line

LINE_EVERY_S = 60.0
"""Seconds between two lines about running cells, if no bar can be drawn."""


class CellsView:
    """Show many cells at once: a bar over cells and a line for each worker.

    Without a terminal, print a line for each cell that ends, and one about the running cells each minute.
    """

    def __init__(self, console: Console, num_cells: int) -> None:
        self._console, self._num_cells, self._num_ended = console, num_cells, 0
        self._lines: dict[int, tuple[str, str]] = {}
        self._bar = Progress(
            TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
        )
        self._task = self._bar.add_task("", total=num_cells)
        self._live: Live | None = None
        self._began = self._printed = time.monotonic()

    def __enter__(self) -> CellsView:
        if self._console.is_terminal and not self._console.quiet:
            self._live = Live(self._bar, console=self._console, transient=True, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begins(self, slot: int, cell: str) -> None:
        """Show that a worker starts a cell."""
        self._lines[slot] = (cell, "")
        self._draw()

    def moves(self, slot: int, where: str) -> None:
        """Show a worker's progress within its cell."""
        self._lines[slot] = (self._lines[slot][0], where)
        self._draw()

    def waits(self, slot: int) -> None:
        """Show that another process runs the worker's cell; the worker will try again."""
        self._lines[slot] = (self._lines[slot][0], "runs in another process")
        self._draw()

    def ends(self, slot: int, cell: str, how: str, reason: str, seconds: float | None) -> None:
        """Show that a cell is done, declined or failed; `seconds` are None if another process ran it."""
        self._num_ended += 1
        self._lines.pop(slot, None)
        self._bar.update(self._task, completed=self._num_ended)
        self._draw()
        if self._live is None or how != "done":
            line = f"[{self._num_ended}/{self._num_cells}] {cell}: {how} " + (
                "in another process" if seconds is None else f"in {seconds:.1f} s"
            )
            line += f": {reason}" if reason else ""
            print_line(self._console, line)

    def time_passes(self) -> None:
        """Print a line about the running cells, if no bar is drawn and a minute has passed since the last line."""
        now = time.monotonic()
        if self._live or now - self._printed < LINE_EVERY_S:
            return
        self._printed = now
        running = "; ".join(f"{cell}  {where}".rstrip() for _, (cell, where) in sorted(self._lines.items()))
        line = f"[{self._num_ended}/{self._num_cells}] {(now - self._began) / 60:.0f} min, running: {running or 'none'}"
        print_line(self._console, line)

    def _draw(self) -> None:
        if self._live:
            lines = [
                Text(f"  {cell}  {where}", overflow="ellipsis", no_wrap=True)
                for _, (cell, where) in sorted(self._lines.items())
            ]
            self._live.update(Group(self._bar, *lines))
