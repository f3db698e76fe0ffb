"""Rows of plain data as a table on the console; nothing heavy is imported, so that `bench list` is quick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

SHORT = 16
"""Characters of a cell that is kept on one line; longer text is wrapped."""


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of entries that share their keys; where all are from one distribution, the title says so."""
    origins = {str(row.get("from")) for row in rows}
    if len(origins) == 1 and "from" in rows[0]:
        title = f"{title}, all from {origins.pop()}"
        rows = [{key: value for key, value in row.items() if key != "from"} for row in rows]
    shown = new_table(title)
    for key in rows[0] if rows else ():
        numbers = any(_is_number(row[key]) for row in rows)
        short = all(len(_as_text(row[key])) <= SHORT for row in rows)
        shown.add_column(key, justify="right" if numbers else "left", overflow="fold", no_wrap=short or key == "name")
    for row in rows:
        add_row(shown, map(_as_text, row.values()))
    return shown


def new_table(title: str) -> Table:
    """A table without rows and columns, narrow enough for a terminal."""
    return Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def add_row(shown: Table, cells: Iterable[str]) -> None:
    """A row of plain text: `[record, lead]` of a docstring is no markup of rich's."""
    shown.add_row(*map(Text, cells))


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if _is_number(value) else str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
