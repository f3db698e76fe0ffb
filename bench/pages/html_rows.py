"""Write the rows of boards as an HTML table, with what names each row in links and what its fold shows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.boards.rows import Board, Row, interval_of
from bench.evaluation.bootstrap import Interval, Summary
from bench.pages.about_data import num_labels, trained_on
from bench.pages.conditions import spell_runs
from bench.pages.costs import costs, minutes
from bench.pages.elements import Html, element
from bench.pages.groups import GROUP, differences_column
from bench.pages.names import AP, AUROC, numbered, short_method, shown_backbone, shown_init
from bench.pages.spelling import equals, spell, spell_difference, spell_role

COLUMNS = {
    "task": ("task", ""),
    "share": ("trained on", ""),
    "rank": (
        "rank",
        "In brackets: places in 95 % of replicates. Below: its groups, or the ranks from which it differs",
    ),
    "method": ("method", ""),
    "backbone": ("backbone", ""),
    "auroc": (AUROC, "Mean over runs and labels, with the 95 % interval over patients and runs"),
    "difference": ("Δ baseline", "Row minus its baseline. Below: p, corrected by Holm within the pair's role"),
    "ap": (AP, "Average precision, mean over runs and labels"),
    "all": ("AUROC, all labels†", "For comparison with the literature"),
    "minutes": ("minutes", "Training time of a run"),
    "runs": (
        "runs",
        "Seeds and draws; * fewer than three count; § claims are about the subsets of fewer than three draws",
    ),
}
"""Column -> head and explanation."""


@dataclass(frozen=True)
class Cell:
    """A cell of the table: its text, a second line, and what it is sorted by."""

    text: str
    below: str = ""
    order: float | str = ""


def table(boards: Sequence[Board]) -> Html:
    """Return the table of all rows, in the order of the boards. html.js adds sorting and filters."""
    columns = _columns(boards)
    heads = [element("th", element("span", "compare", class_="hidden"), scope="col", class_="pick")]
    for name in columns:
        head, words = COLUMNS[name]
        heads.append(element("th", head, scope="col", class_=f"of-{name}", title=words or False))
    rows = [_row(board, place, columns) for board in boards for place in range(len(board.rows))]
    return element(
        "table",
        element("caption", "Rows of each board, best first", class_="hidden"),
        element("thead", element("tr", *heads, role="row"), role="rowgroup"),
        element("tbody", *rows, role="rowgroup"),
        id="rows",
        role="table",  # roles are written out, because html.css shows rows as blocks on a phone
    )


def _columns(boards: Sequence[Board]) -> list[str]:
    """Return the columns in which rows can differ."""
    left_out = {name for name, of in (("task", page_of), ("share", share)) if len({of(board) for board in boards}) < 2}
    if not any(board.standing and board.standing.baseline for board in boards):
        left_out.add("difference")
    if not any(map(has_rare_labels, boards)):
        left_out.add("all")
    return [column for column in COLUMNS if column not in left_out]


def page_of(board: Board) -> tuple[str, str]:
    """Return dataset and task of a board."""
    return board.dataset, board.task


def share(board: Board) -> str:
    """Return what the rows of a board were trained on, in few words."""
    return f"{100 * board.fraction:.3g} %" + (f", {board.manifest}" if board.manifest else "")


def has_rare_labels(board: Board) -> bool:
    """Return whether a row has labels that are not frequent."""
    return any(num_labels(row, "all") != num_labels(row, "frequent") for row in board.rows)


def _row(board: Board, place: int, columns: Sequence[str]) -> Html:
    row, known = board.rows[place], _cells(board, place)
    label = f"Compare {numbered(board)[row.name]}"
    pick = element("input", type="checkbox", aria_label=label, disabled=board.standing is None)
    parts = [element("td", pick, class_="pick", role="cell")]
    for column in columns:
        cell, kind = known[column], {"class_": f"of-{column}", "data_order": str(known[column].order)}
        below = [" ", element("small", cell.below)] if cell.below else []
        if column == "method":
            button = element("button", cell.text, type="button", class_="open", aria_expanded="false")
            parts.append(element("th", button, *below, **kind, scope="row", role="rowheader"))
        else:
            mark = [_mark(row)] if column == "auroc" else []
            parts.append(element("td", element("span", cell.text, class_="text"), *below, *mark, **kind, role="cell"))
    return element("tr", *parts, data_key=row_key(board, row), role="row")


def _mark(row: Row) -> Html:
    """Return a mark with its interval, which html.css draws on the scale that html.js sets for the shown rows."""
    interval = interval_of(row.summaries["frequent"]["auroc"])
    if math.isnan(interval.value):
        return Html("")
    low, high = (interval.value if math.isnan(bound) else bound for bound in (interval.low, interval.high))
    places = f"--value:{interval.value:.4f};--low:{low:.4f};--high:{high:.4f}"
    point = element("b", class_="hollow" if row.few_runs else False)
    return element("span", element("i"), point, class_="bar", style=places, aria_hidden="true")


def _cells(board: Board, place: int) -> dict[str, Cell]:
    """Return column -> cell of a row."""
    row, standing = board.rows[place], board.standing
    rank, letters = str(place + 1), ""
    if standing:
        low, high = standing.ranks[row.name]
        head, groups = differences_column(board)
        rank = f"{rank} ({low}–{high})" if low < high else rank
        letters = groups[place] if head == GROUP else f"{head} {groups[place]}"
    against = standing.baseline.get(row.name) if standing else None
    difference = Cell("baseline" if standing and row.name in standing.baselines else "–", order=-9)
    if against:
        summary = against.differences["auroc"]
        difference = Cell(spell_difference(summary), f"p {equals(spell_role(against))}", summary.interval.value)
    init = "scores made elsewhere" if row.runs[0].external else f"from {shown_init(row)}"
    notes = [f"best of {row.num_trials} settings"] if row.num_trials else []
    notes += ["not published"] if not row.published and any(each.published for each in board.rows) else []
    return {
        "task": Cell(board.task, board.dataset, board.task),
        "share": Cell(share(board), order=board.fraction),
        "rank": Cell(rank, letters, place + 1),
        "method": Cell(short_method(row), ", ".join(notes), row.method),
        "backbone": Cell(shown_backbone(row), init, row.backbone),
        "auroc": _scored(row.summaries["frequent"]["auroc"]),
        "difference": difference,
        "ap": _scored(row.summaries["frequent"]["average_precision"]),
        "all": _scored(row.summaries["all"]["auroc"]),
        "minutes": Cell(costs(row, False)["minutes"].partition(" (")[0], order=training_minutes(row) or -1),
        "runs": Cell(spell_runs(row), order=len(row.runs)),
    }


def _scored(summary: Summary | Interval) -> Cell:
    value, _, bounds = spell(summary).partition(" ")
    number = interval_of(summary).value
    return Cell(value, bounds, -1 if math.isnan(number) else number)


def training_minutes(row: Row) -> float | None:
    """Return the training minutes of a run; None for scores made elsewhere."""
    return None if row.runs[0].external else max(minutes(row), 1e-3)


def facts(board: Board, place: int) -> list[list[str]]:
    """Return head and text of each fact of a row that its fold shows."""
    row, known = board.rows[place], _cells(board, place)
    shown = {"row": row.name}
    if trained := trained_on(board):
        shown["trained on"] = f"{share(board)}: {trained}"
    for column in ("auroc", "difference", "ap", *(["all"] if has_rare_labels(board) else [])):
        shown[COLUMNS[column][0]] = f"{known[column].text} {known[column].below}".strip()
    shown["runs"] = "; ".join(f"draw {draw}, seed {seed}" for draw, seed in (run.place for run in row.runs))
    shown |= {head: text.replace("`", "") for head, text in costs(row, row.num_trials > 0).items()}
    return [[head, text] for head, text in shown.items() if text != "–"]


def board_key(board: Board) -> str:
    """Return what names a board on a page."""
    return _digest(f"{board.dataset}|{board.task}|{board.fingerprint}|{board.fraction!r}|{board.manifest}")


def row_key(board: Board, row: Row) -> str:
    """Return what names a row in links to a page: it stays the same when rows are added."""
    return _digest(f"{board_key(board)}|{row.name}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
