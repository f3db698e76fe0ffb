"""Draw records and what a run predicted for them as a contact sheet: a PNG, an SVG, or a PDF of A4 pages."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.boards.misses import MISSED, MOST_LABELS, Misses
from bench.data.records import Records
from bench.data.show import INK, MM_PER_INCH, SHEET_MM, STYLE, WIDTH_MM, draw_paper, person, raw_tracing
from bench.drawing import styled
from bench.errors import BenchError, DataError
from bench.files import write_asked

ENDINGS, TABLE = (".png", ".pdf", ".svg"), ".csv"
MARGIN_MM, HEAD_MM, LINE_MM, BARS_MM, FOOT_MM = 10.0, 8.0, 5.5, 15.0, 12.0
"""A record's left margin, and the heights of its head, of a line of text, of its bars, and of the space below."""
NUM_LINES, LINE = 3, 126
"""Lines of statements and report, and characters in a line."""
TILE_MM = HEAD_MM + NUM_LINES * LINE_MM + BARS_MM + SHEET_MM + FOOT_MM
SIZE, PDF_SIZE, DPI = 0.6, 0.68, 130
"""Size of a millimetre of ECG paper in a picture and on a page of A4, and dots per inch of a PNG."""
A4_MM, PER_PAGE = (210.0, 297.0), 2
BORDER_MM, TITLE_MM = 6.0, 17.0
MOST_RECORDS = 200
"""More records make a picture too tall for PNG."""
LABEL = 20
"""Characters of a label and its word."""
LEGEND = "Bars: score from 0 to 1, with a tick at the threshold. Bold: a true label."
WRONG, RIGHT, TRACK = "#b3401f", "#43505c", "#e3e6e9"
"""Colours of a wrong and of a right decision, and of the empty part of a bar. Words say the same as colours."""


def check_ending(path: Path) -> None:
    """Raise BenchError unless `write_misses` can write a file of this name."""
    if path.suffix.lower() not in (*ENDINGS, TABLE):
        raise BenchError(
            f"{path} ends in {path.suffix or 'nothing'!r}; a contact sheet is one of {', '.join(ENDINGS)}, the table "
            f"a {TABLE}"
        )


def write_misses(
    misses: Misses, records: Records, path: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Write the table as CSV, or draw the contact sheet, by the ending of `path`. `progress` counts drawn records.

    Of each record a sheet has: who, statements, a bar for each label, and the 12 leads: raw, 10 s, at the highest rate
    that there is. Raises BenchError for another ending, DataError for no record, and if signals cannot be read or the
    file cannot be written.
    """
    check_ending(path)
    kind = path.suffix.lower()
    write_asked(path, misses.frame.to_csv(index=False) if kind == TABLE else _sheet(misses, records, kind, progress))


def _sheet(misses: Misses, records: Records, kind: str, progress: Callable[[int, int], None]) -> bytes:
    """Return the contact sheet as the content of a file of this ending."""
    rows = misses.frame.to_dict("records")
    if not rows:
        raise DataError(f"no record to draw: {misses.title}")
    if kind != ".pdf" and len(rows) > MOST_RECORDS:
        raise DataError(f"{len(rows)} records do not fit one picture, at most {MOST_RECORDS} do; write a .pdf")
    drawn = 0

    def tile(axes: Axes, row: dict[Any, Any], size: float) -> None:
        nonlocal drawn
        _draw_record(axes, misses, records, row, size)
        drawn += 1
        progress(drawn, len(rows))

    with styled({**STYLE, "pdf.fonttype": 42}):
        return _pages(misses, rows, tile) if kind == ".pdf" else _picture(misses, rows, tile, kind[1:])


Tile = Callable[[Axes, dict[Any, Any], float], None]


def _picture(misses: Misses, rows: Sequence[dict[Any, Any]], tile: Tile, kind: str) -> bytes:
    """Return one picture of two columns: rank 1 at the left, 2 at the right, 3 below 1."""
    columns = min(2, len(rows))
    lines = math.ceil(len(rows) / columns)
    width = 2 * BORDER_MM + columns * WIDTH_MM * SIZE
    height = 2 * BORDER_MM + TITLE_MM + lines * TILE_MM * SIZE
    figure = _figure(width, height, misses.title)
    for at, row in enumerate(rows):
        left = BORDER_MM + at % columns * WIDTH_MM * SIZE
        bottom = height - BORDER_MM - TITLE_MM - (at // columns + 1) * TILE_MM * SIZE
        tile(_axes(figure, left, bottom, SIZE), row, SIZE)
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    return stream.getvalue()


def _pages(misses: Misses, rows: Sequence[dict[Any, Any]], tile: Tile) -> bytes:
    """Return a PDF of A4 pages with two records each."""
    content = io.BytesIO()
    width, height = A4_MM
    left = (width - WIDTH_MM * PDF_SIZE) / 2
    with PdfPages(content, metadata={"CreationDate": None}) as stream:
        for start in range(0, len(rows), PER_PAGE):
            page = f"{start // PER_PAGE + 1} / {math.ceil(len(rows) / PER_PAGE)}"
            figure = _figure(width, height, misses.title, page)
            for at, row in enumerate(rows[start : start + PER_PAGE]):
                bottom = height - BORDER_MM - TITLE_MM - (at + 1) * TILE_MM * PDF_SIZE
                tile(_axes(figure, left, bottom, PDF_SIZE), row, PDF_SIZE)
            figure.savefig(stream, format="pdf")
    return content.getvalue()


def _figure(width: float, height: float, title: str, page: str = "") -> Figure:
    """Return a page, sizes in mm, with its title."""
    figure = Figure(figsize=(width / MM_PER_INCH, height / MM_PER_INCH), facecolor="white")
    first, _, rest = title.partition("; ")
    left, top = (BORDER_MM + MARGIN_MM * SIZE) / width, 1 - BORDER_MM / height
    figure.text(left, top, first, fontsize=9, fontweight="bold", color=INK, va="top")
    words = "\n".join(textwrap.wrap(f"{rest}. {LEGEND}", int(width / 1.45)))
    figure.text(left, top - 5 / height, words, fontsize=7, color=INK, va="top", linespacing=1.3)
    figure.text(1 - BORDER_MM / width, BORDER_MM / height, page, fontsize=7, color=INK, ha="right", va="bottom")
    return figure


def _axes(figure: Figure, left: float, bottom: float, size: float) -> Axes:
    """Return axes of one record in mm of ECG paper, `size` times smaller on the page."""
    width, height = figure.get_size_inches() * MM_PER_INCH
    place = (left / width, bottom / height, WIDTH_MM * size / width, TILE_MM * size / height)
    axes = figure.add_axes(place)
    axes.set(xlim=(0, WIDTH_MM), ylim=(0, TILE_MM))
    axes.set_axis_off()
    return axes


def _draw_record(axes: Axes, misses: Misses, records: Records, row: dict[Any, Any], size: float) -> None:
    ecg_id = int(row["ecg_id"])
    about: dict[str, Any] = dict(records.table.loc[ecg_id])
    tracing = raw_tracing(records, ecg_id)
    own = f" ({row['record']})" if row["record"] != str(ecg_id) else ""
    name = f"{row['place']}   ecg_id {ecg_id}{own}   {person(about)}"
    top = TILE_MM
    strong: dict[str, Any] = {"fontsize": 13 * size, "fontweight": "bold", "va": "top"}
    axes.text(MARGIN_MM, top, name, color=INK, **strong)
    axes.text(WIDTH_MM - MARGIN_MM, top, _verdict(misses, row), color=WRONG, ha="right", **strong)
    top -= HEAD_MM
    lines = textwrap.wrap(row["statements"], LINE)
    if len(report := " ".join(str(about.get("report", "")).split())) > 0 and report != "nan":
        lines = [*lines[: NUM_LINES - 1], textwrap.shorten(f"report: {report}", LINE, placeholder=" ...")]
    for at, line in enumerate(lines[:NUM_LINES]):
        axes.text(MARGIN_MM, top - LINE_MM * at, line, fontsize=10.5 * size, color=INK, va="top")
    top -= NUM_LINES * LINE_MM
    _draw_bars(axes, misses, row, top, size)
    paper = TILE_MM - HEAD_MM - NUM_LINES * LINE_MM - BARS_MM
    draw_paper(axes, tracing, paper, size)
    words = f"{tracing.rate} Hz; a large square is 0.2 s and {5 / tracing.mm_per_unit:g} mV"
    axes.text(WIDTH_MM - MARGIN_MM, paper + 1, words, fontsize=8 * size, color=INK, ha="right", va="bottom")


def _verdict(misses: Misses, row: dict[Any, Any]) -> str:
    if misses.label is None:
        return f"loss {row['loss']:.2f}"
    score, threshold = row["score"], row["threshold"]
    if not math.isnan(row["loss"]):  # probabilities
        score, threshold = round(score, 3), round(threshold, 3)
    return f"{misses.label}: {row['why']}, {score:g} {'<' if row['why'] == MISSED else '≥'} {threshold:g}"


def _draw_bars(axes: Axes, misses: Misses, row: dict[Any, Any], top: float, size: float) -> None:
    """Draw for each shown label a bar from 0 to 1 with the score, a tick at the threshold, and a word on the decision.

    The scores of another program that are no probabilities have no bar.
    """
    scored = misses.scored
    at = int((scored.ecg_id == row["ecg_id"]).argmax())
    asked = None if misses.label is None else scored.labels.index(misses.label)
    shown = scored.shown_labels(at, MOST_LABELS, asked)
    step = (WIDTH_MM - 2 * MARGIN_MM) / max(len(shown), MOST_LABELS - 1)
    width = step - 13
    for place, column in enumerate(shown):
        left = MARGIN_MM + place * step
        score, threshold = float(scored.y_score[at, column]), float(scored.thresholds[column])
        has, predicted = bool(scored.y_true[at, column]), score >= threshold
        word = {(True, False): ": missed", (False, True): ": false alarm", (True, True): ": true"}.get(
            (has, predicted), ""
        )
        color = WRONG if has != predicted else RIGHT
        name, most = scored.labels[column], LABEL - len(word)
        text = (name if len(name) <= most else f"{name[: most - 1]}…") + word
        weight = "bold" if has else "normal"
        axes.text(left, top, text, fontsize=10.5 * size, fontweight=weight, color=color, va="top")
        base = top - 9
        if math.isnan(scored.loss[at]):
            axes.text(left, base, f"{score:.3g}", fontsize=10 * size, color=INK, va="bottom")
            continue
        axes.add_patch(Rectangle((left, base), width, 2.6, color=TRACK, linewidth=0))
        axes.add_patch(Rectangle((left, base), width * score, 2.6, color=color, linewidth=0))
        axes.text(left + width + 0.8, base + 1.3, f"{score:.2f}", fontsize=9 * size, color=INK, va="center")
        if not math.isnan(threshold):
            x = left + width * threshold
            axes.plot([x, x], [base - 1, base + 3.6], color=INK, linewidth=1.2 * size)
