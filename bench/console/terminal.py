"""The console to which all commands print. Text of strangers cannot move its cursor or change the direction of text."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from bench.data.text import UNPRINTABLE


class Terminal(Console):
    """A console that escapes control and bidirectional characters: names and messages may come from anybody."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is printed. Those that rich makes to move the cursor stay as they are."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def print_line(console: Console, line: str, style: str = "") -> None:
    """Print a line as it is: brackets are no markup, numbers are not coloured, and lines are not broken."""
    console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """Replace each control or bidirectional character by its escape sequence, such as \\x1b; keep tabs and newlines."""
    return UNPRINTABLE.sub(lambda match: match.group().encode("unicode_escape").decode(), text)
