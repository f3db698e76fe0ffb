"""Write tables and folds in Markdown as GitHub shows it."""

from __future__ import annotations

import re
from collections.abc import Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return the lines of a table; the first `left` columns are text, the others numbers."""
    rule = "|" + "---|" * left + "---:|" * (len(head) - left)
    return [_line(head), rule, *map(_line, rows), ""]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def cells_of(line: str) -> list[str]:
    """Split a line of a table into its cells, the inverse of `markdown_table`."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def sentence(text: str | None) -> str:
    """Return free text on a single line, escaped so that nothing in it is HTML or a link."""
    return re.sub(r"\](?=[(\[])", r"\\]", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join((text or "").split())))


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Return a folded section, which opens by a click on its title. The last line is empty."""
    return [f"<details><summary>{title}</summary>", "", *lines, "</details>", ""]
