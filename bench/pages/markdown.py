"""Tables and folds of Markdown as GitHub shows it."""

from __future__ import annotations

import re
from collections.abc import Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table; the first `left` columns are words, the others numbers."""
    rule = "|" + "---|" * left + "---:|" * (len(head) - left)
    return [_line(head), rule, *map(_line, rows), ""]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def cells_of(line: str) -> list[str]:
    """The cells of a line of a table, as they were given."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def sentence(text: str | None) -> str:
    """Free text on one line, in which nothing is HTML or a link."""
    return re.sub(r"\](?=[(\[])", r"\\]", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join((text or "").split())))


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Lines that a reader opens; the last of them is empty."""
    return [f"<details><summary>{title}</summary>", "", *lines, "</details>", ""]
