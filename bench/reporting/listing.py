"""Rows of plain data as a table on the console; nothing heavy is imported, so that `bench list` is quick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of entries that share their keys."""
    shown = Table(title=Text(title), title_justify="left")
    for key in rows[0] if rows else ():
        numbers = any(_is_number(row[key]) for row in rows)
        shown.add_column(key, justify="right" if numbers else "left", overflow="fold", no_wrap=numbers or key == "name")
    for row in rows:
        add_row(shown, (f"{value:,}" if _is_number(value) else str(value) for value in row.values()))
    return shown


def add_row(shown: Table, cells: Iterable[str]) -> None:
    """A row of plain text: `[record, lead]` of a docstring is no markup of rich's."""
    shown.add_row(*map(Text, cells))


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
