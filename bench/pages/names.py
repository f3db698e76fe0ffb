"""Short names of rows, for places where names with all arguments do not fit."""

from __future__ import annotations

import re
from collections import defaultdict

from bench.boards.rows import Board, Row
from bench.registry.source import NOT_INSTALLED
from bench.results.result import row_name


def short_method(row: Row) -> str:
    """Return a row's method with its arguments as `(…)`."""
    return _short(row.method)


def short_name(row: Row) -> str:
    """Return a row's name without arguments, precision and sampling rate."""
    return row_name(_short(row.backbone).partition(", ")[0], row.init, short_method(row))


def _short(name: str) -> str:
    return re.sub(r"\(.*\)", "(…)", name)


def places(board: Board) -> dict[str, int]:
    """Return row name -> its number in the board's tables, from 1."""
    return {row.name: place for place, row in enumerate(board.rows, 1)}


def numbered(board: Board) -> dict[str, str]:
    """Return row name -> its number in the tables and its short name, as pictures show it."""
    return {row.name: f"{place}. {short_name(row)}" for place, row in enumerate(board.rows, 1)}


def recipe(row: Row) -> str:
    """Return where a row's setting comes from: `reported` (the method's defaults), `tuned` or `given` (by hand)."""
    if row.runs[0].external:
        return "–"
    if row.num_trials:
        return "tuned"
    return "given" if "(" in row.method else "reported"


def not_installed(board: Board) -> str:
    """Return the methods, backbones and tasks of a board that no package holds, with their file; empty if none."""
    names: dict[str, None] = {}
    for run in (run for row in board.rows for run in row.runs):
        for kind in ("task", "backbone", "method"):
            section = run.document.get(kind) or {}
            if str(section.get("distribution", "")).endswith(NOT_INSTALLED):
                place = section["distribution"].removesuffix(NOT_INSTALLED)
                names[f"{kind} {section['name']} ({place}, SHA-256 {section['code_sha256'][:8] or 'not known'})"] = None
    return ", ".join(names)


def columns(board: Board) -> tuple[dict[str, list[str]], str]:
    """Return the columns that name rows, head -> cells [row], and a sentence about the names that all rows share.

    There is a column for the recipe if rows with the same method have different recipes.
    """
    cells_of = {
        "backbone": [row.backbone for row in board.rows],
        "init": ["–" if row.runs[0].external else row.init for row in board.rows],
        "method": [short_method(row) for row in board.rows],
    }
    recipes = defaultdict(set)
    for row in board.rows:
        recipes[row.method.partition("(")[0]].add(recipe(row))
    if any(len(known) > 1 for known in recipes.values()):
        cells_of["recipe"] = [recipe(row) for row in board.rows]
    shared = {
        name: cells_of[name][0] for name in ("backbone", "init") if len(board.rows) > 1 and len({*cells_of[name]}) == 1
    }
    shared_text = ", ".join(f"{name} {value}" for name, value in shared.items() if value != "–")
    return {
        name: cells for name, cells in cells_of.items() if name not in shared
    }, f"All rows: {shared_text}." if shared_text else ""
