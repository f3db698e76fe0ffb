"""The view of a sweep: a bar on a terminal, lines elsewhere."""

import io

import pytest
from rich.console import Console

from bench.console.cells_view import CellsView


def test_the_view_is_a_line_a_cell_where_nothing_can_be_drawn() -> None:
    shown = io.StringIO()
    with CellsView(Console(file=shown, width=40), 2) as view:
        for slot, how, reason in ((0, "done", ""), (1, "failed", "a [bad] reason")):
            view.begins(slot, f"cell {slot}")
            view.moves(slot, "epoch 1")
            view.waits(slot)
            view.ends(slot, f"cell {slot}", how, reason, 1.25)

    assert shown.getvalue() == "[1/2] cell 0: done in 1.2 s\n[2/2] cell 1: failed in 1.2 s: a [bad] reason\n"


def test_the_view_on_a_terminal_has_a_bar_and_a_line_a_worker() -> None:
    shown = io.StringIO()
    with CellsView(Console(file=shown, width=100, force_terminal=True), 2) as view:
        view.begins(0, "first cell")
        view.begins(1, "second cell")
        view.moves(1, "probe: epoch 3/5")
        view._live.refresh()  # type: ignore[union-attr]
        view.ends(0, "first cell", "done", "", 1.0)
        view.ends(1, "second cell", "failed", "reason", 1.0)

    for words in ("0/2", "first cell", "second cell  probe: epoch 3/5", "[2/2] second cell: failed in 1.0 s: reason"):
        assert words in shown.getvalue(), words
    assert "first cell: done" not in shown.getvalue()


def test_a_file_gets_a_line_a_minute_on_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now, shown = 1000.0, io.StringIO()
    monkeypatch.setattr("bench.console.cells_view.time.monotonic", lambda: now)
    with CellsView(Console(file=shown, width=40), 3) as view:
        view.begins(0, "superdiag: lp on net, seed 0")
        view.begins(1, "superdiag: ft on net, seed 0")
        view.moves(1, "finetune: epoch 3/30")
        for _ in range(125):
            now += 1.0
            view.time_passes()
        view.ends(0, "superdiag: lp on net, seed 0", "done", "", 125.0)

    running = "superdiag: lp on net, seed 0; superdiag: ft on net, seed 0  finetune: epoch 3/30"
    assert shown.getvalue().splitlines() == [
        f"[0/3] 1 min, running: {running}",
        f"[0/3] 2 min, running: {running}",
        "[1/3] superdiag: lp on net, seed 0: done in 125.0 s",
    ]
