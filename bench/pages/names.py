"""Short names of rows, for places where names with all arguments do not fit."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from bench.boards.rows import Board, Row
from bench.boards.studies import BY_HAND, DEFAULTS, TUNED
from bench.errors import BenchError
from bench.registry.source import NOT_INSTALLED
from bench.results.result import EXTERNAL, row_name

AUROC, AP = "macro AUROC, frequent labels", "macro AP, frequent labels"
"""Heads of the columns of a board."""


def short_method(row: Row) -> str:
    """Return a row's method, or the label that people gave it, with its arguments as `(…)`."""
    return _labelled(row.method, _short(row.method), row.labels)


def short_name(row: Row) -> str:
    """Return a row's name without arguments, precision and sampling rate."""
    backbone = _labelled(row.backbone, _short(row.backbone).partition(", ")[0], row.labels)
    if row.method == EXTERNAL:
        return row_name(backbone, row.init, row.method)
    return row_name(backbone, shown_init(row), short_method(row))


def shown_init(row: Row) -> str:
    """Return a row's init, or the label that people gave it."""
    return row.labels.get(row.init, row.init)


def shown_backbone(row: Row) -> str:
    """Return a row's backbone with its arguments and precision, or the label that people gave it."""
    return _labelled(row.backbone, row.backbone, row.labels)


def _short(name: str) -> str:
    return re.sub(r"\(.*\)", "(…)", name)


def _head(name: str) -> str:
    """Return a method or a backbone without arguments, precision and sampling rate."""
    return re.split(r"[(,]", name, maxsplit=1)[0]


def _labelled(name: str, shown: str, labels: Mapping[str, str]) -> str:
    """Return the label of the whole name; else `shown`, with the label of its head in place of the head."""
    head = _head(name)
    return labels[name] if name in labels else labels.get(head, head) + shown.removeprefix(head)


def parts(row: Row) -> list[str]:
    """Return the names of a row that can have a label: backbone, init and method, with arguments and without."""
    if row.method == EXTERNAL:
        return [row.backbone]
    named = row.backbone, row.method
    return list(dict.fromkeys([*named, *map(_head, named), row.init]))


def given_labels(rows: Iterable[Row]) -> dict[str, str]:
    """Return label -> name in results, for the labels that these rows show."""
    return {row.labels[name]: name for row in rows if row.labels for name in parts(row) if name in row.labels}


def places(board: Board) -> dict[str, int]:
    """Return row name -> its number in the board's tables, from 1."""
    return {row.name: place for place, row in enumerate(board.rows, 1)}


def numbered(board: Board) -> dict[str, str]:
    """Return row name -> its number in the tables and its short name, as pictures show it."""
    return {row.name: f"{place}. {short_name(row)}" for place, row in enumerate(board.rows, 1)}


def labels_note(rows: Iterable[Row]) -> str:
    """Return a sentence on what the labels of these rows stand for; empty without labels."""
    given = "; ".join(f"{label} is {name}" for label, name in given_labels(rows).items())
    return f"Names given here: {given}." if given else ""


def check_labels(boards: Sequence[Board], labels: Mapping[str, str], log: Callable[[str], None]) -> None:
    """Raise BenchError if one of `labels` names nothing on any board; `log` gets a line for each in a TOML file."""
    known = {name for board in boards for row in board.rows for name in parts(row)}
    for name in labels:
        if name not in known:
            raise BenchError(f"--label: {_absent(name, known)}")
    declared = dict.fromkeys(name for board in boards for name in board.plan.labels if name not in known)
    for name in declared:
        log(f"labels of a board's TOML file: {_absent(name, known)}")


def _absent(name: str, known: Iterable[str]) -> str:
    lower = {each.lower(): each for each in sorted(known)}
    near = [lower[each] for each in difflib.get_close_matches(name.lower(), lower, 5, cutoff=0.4)] or lower.values()
    return f"no backbone, init or method of a row is {name!r}; there is {', '.join(near)}"


def recipe(row: Row) -> str:
    """Return where a row's setting comes from: the method's defaults, a search (tuned) or a command (set by hand)."""
    if row.runs[0].external:
        return "–"
    if row.num_trials:
        return TUNED
    return BY_HAND if "(" in row.method else DEFAULTS


def not_installed(board: Board) -> str:
    """Return the plugins and data sets of a board that no package holds, with their file; empty if there are none."""
    names: dict[str, None] = {}
    for run in (run for row in board.rows for run in row.runs):
        for kind in ("dataset", "task", "backbone", "method"):
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
        "backbone": [shown_backbone(row) for row in board.rows],
        "init": ["–" if row.runs[0].external else shown_init(row) for row in board.rows],
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
