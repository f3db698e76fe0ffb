"""Print rows of plain data as a table. Imports nothing heavy, so that `bench list` is quick."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

SHORT = 16
"""Texts of up to this many characters stay on one line; longer ones are wrapped."""
WIDEST = 10_000
"""Characters of a terminal on which every table fits."""
MOST_COLUMNS = 6
"""With more columns, 80 characters leave no room for a column of text."""


@dataclass(frozen=True)
class Fitted:
    """A table that is shown in another layout where the terminal is too narrow for its words."""

    wide: Table
    narrow: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = Measurement.get(console, options.update(width=WIDEST), self.wide).maximum
        yield self.wide if needed <= options.max_width else self.narrow


@dataclass(frozen=True)
class Facts:
    """Text that is wrapped at spaces and never at no-break spaces, where rich wraps too."""

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = textwrap.wrap(self.text, options.max_width, break_on_hyphens=False)
        yield Text("\n".join(lines).replace("\N{NO-BREAK SPACE}", " "))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(max(map(len, self.text.split(" ")), default=0), len(self.text)).clamp(0, options.max_width)


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table | Fitted:
    """Return a table of entries with the same keys. If all come from one distribution, the title names it.

    Where it is wider than the terminal, each entry has its first value on one line and the others below it.
    """
    origins = {str(row.get("from")) for row in rows}
    if len(origins) == 1 and "from" in rows[0]:
        title = f"{title}, all from {origins.pop()}"
        rows = [{key: value for key, value in row.items() if key != "from"} for row in rows]
    shown = new_table(title)
    if rows and "what" in rows[0] and len(rows[0]) > MOST_COLUMNS:
        _add_stacked(shown, rows)
        return shown
    shown = _wide(shown, rows)
    return Fitted(shown, _stacked(title, rows)) if rows and "what" not in rows[0] else shown


def _wide(shown: Table, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Add a column for each key."""
    for key in rows[0] if rows else ():
        numbers = any(_is_number(row[key]) for row in rows)
        short = all(len(_as_text(row[key])) <= SHORT for row in rows)
        shown.add_column(key, justify="right" if numbers else "left", overflow="fold", no_wrap=short or key == "name")
    for row in rows:
        add_row(shown, map(_as_text, row.values()))
    return shown


def _stacked(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the entries below each other: the first value over the whole width, then the others with their names."""
    shown = new_table(title)
    first, *others = rows[0]
    shown.add_column(first)
    for row in rows:
        facts = "   ".join(f"{key}\N{NO-BREAK SPACE}{_as_text(row[key])}" for key in others)
        add_stacked_row(shown, _as_text(row[first]), facts)
    return shown


def add_stacked_row(shown: Table, name: str, facts: str) -> None:
    """Add a name and, below it, facts; both are wrapped between words, facts not at no-break spaces."""
    shown.add_row(Group(Text(name), Padding(Facts(facts), (0, 0, 0, 2))))


def _add_stacked(shown: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add a line of facts for each entry, and below it a description over the whole width."""
    keys = [key for key in rows[0] if key != "what"]
    lines = [keys, *([_as_text(row[key]) for key in keys] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    fits = [str.rjust if any(_is_number(row[key]) for row in rows) else str.ljust for key in keys]
    header, *facts = (
        "  ".join(fit(cell, width) for fit, cell, width in zip(fits, line, widths, strict=True)) for line in lines
    )
    shown.add_column(Text(header))
    for line, row in zip(facts, rows, strict=True):
        shown.add_row(Group(Text(line), Padding(Text(row["what"]), (0, 0, 0, 2))))


def new_table(title: str) -> Table:
    """Return an empty table in the house style."""
    return Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def plain_table(content: Mapping[str, Any]) -> Table:
    """Return a table of plain data: title, head, rows of text, and caption."""
    shown = new_table(content["title"])
    for head in content["head"]:
        shown.add_column(head, overflow="fold" if len(content["head"]) > 1 else "ellipsis")
    for row in content["rows"]:
        add_row(shown, row)
    shown.caption = Text(content["caption"]) if content["caption"] else None
    return shown


def add_row(shown: Table, cells: Iterable[str]) -> None:
    """Add a row of plain text, so that rich does not read `[record, lead]` as markup."""
    shown.add_row(*map(Text, cells))


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if _is_number(value) else str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
