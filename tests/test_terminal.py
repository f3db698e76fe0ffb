"""What a terminal is sent: text of strangers can neither move its cursor nor change the direction of text."""

import io

import pytest
from rich.live import Live
from rich.text import Text

from bench.console.listing import table
from bench.console.terminal import Terminal, printable

HOSTILE = ["a\x1b[2Jb", "a\x1b]0;title\x07b", "a\u202eb", "a\u2066b", "a\x9b31mb", "a\x08b", "a\u2028b"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("soft_wrap", [True, False])
def test_no_character_of_a_message_or_table_moves_others(text: str, is_terminal: bool, soft_wrap: bool) -> None:
    shown = io.StringIO()
    console = Terminal(file=shown, force_terminal=is_terminal, width=60, color_system=None)

    console.print(text, markup=False, highlight=False, soft_wrap=soft_wrap)
    console.print(table(text, [{"name": text, "what": text}]))
    console.print(Text(text), soft_wrap=soft_wrap)

    assert not set(shown.getvalue()) & set("\x1b\x07\x08\x9b\u202e\u2066\u2028")
    assert shown.getvalue().count("a") >= 4


def test_escapes_are_those_of_python_and_lines_stay() -> None:
    assert printable("a\x1b[2Jb\n\u202ec\td é ≥") == "a\\x1b[2Jb\n\\u202ec\td é ≥"


def test_colours_and_live_views_still_reach_a_terminal() -> None:
    shown = io.StringIO()
    console = Terminal(file=shown, force_terminal=True, color_system="standard", width=40)

    console.print("fault", style="red")
    with Live(Text("moves\x1b[2J"), console=console, refresh_per_second=1):
        pass

    assert "\x1b[31mfault\x1b[0m" in shown.getvalue()
    assert "\x1b[?25l" in shown.getvalue()  # rich hides the cursor
    assert "moves\\x1b[2J" in shown.getvalue()
