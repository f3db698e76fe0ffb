"""Draw a record on ECG paper, true to scale (25 mm/s and 10 mm/mV), as SVG or PNG."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.data.formats import SignalFile, read_signals
from bench.data.info import HIDDEN_AGE, SEXES
from bench.data.records import SECONDS, Records
from bench.data.signals import PREPROCESSINGS, Signal, SignalSpec, middle, prepare_record
from bench.data.waveforms import LEADS, Note
from bench.drawing import styled
from bench.errors import DataError
from bench.files import write_whole
from bench.registry.registry import registry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MM_PER_S, MM_PER_MV, MM_PER_INCH = 25.0, 10.0, 25.4
LAYOUT = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"), ("II",))
"""Leads of each row; each lead fills its share of the row's 10 s. The last row is the rhythm strip."""
WIDTH_MM, MARGIN_MM, PULSE_MM = 280.0, 10.0, 10.0
"""Width of the page, its margin, and the space for the calibration pulse at the left (5 mm wide, 10 mm high)."""
ROW_MM, HEADROOM_MM, LINE_MM, TITLE_MM = 30.0, 10.0, 4.8, 7.0
"""Height of a row of leads, of the paper above the first row, of a line of text, and of a sheet's title."""
SHEET_MM = HEADROOM_MM + len(LAYOUT) * ROW_MM
LEAST = 2 * len(LAYOUT[0])
"""Samples of the shortest record: two for each of the leads that share a row."""
SMALLER = (5.0, 2.5, 2.0, 1.0, 0.5, 0.25, 0.2, 0.1, 0.05, 0.025, 0.02, 0.01, 0.005, 0.002, 0.001)
"""Factors that reduce the usual scale, for traces that would leave the paper."""
MM_PER_STD = 2.5
"""Scale of signals whose unit is their standard deviation, in which R waves of 5 to 10 are usual."""
PAPER = {"raw": ("#fff7f6", "#f6cfcb", "#e59a94"), "prepared": ("#f8f9fa", "#dde3e9", "#b3bfca")}
"""Colours of the background, the 1 mm lines and the 5 mm lines."""
MILLIVOLTS_STAY = ("strodthoff", "none")
STANDARD_DEVIATIONS = ("ecgfounder", "zscore")
"""Preprocessings whose output for one record is in mV, and those that divide by its standard deviation."""
TRACE, INK = "#101418", "#30363c"
STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",
}
ENDINGS = (".svg", ".png")
DPI = 150


@dataclass(frozen=True, eq=False)
class Tracing:
    """The content of one sheet of paper."""

    title: str
    signals: Signal
    """[lead, time], in mV or in the units of a preprocessing"""
    rate: int
    """Hz"""
    mm_per_unit: float = MM_PER_MV
    paper: str = "raw"
    """raw or prepared"""
    empty: tuple[str, ...] = ()
    """Leads without a valid sample."""


def find_record(records: Records, name: str) -> int | None:
    """Return the ecg_id of a record, given its id in the data set's own table or its ecg_id; None if neither fits."""
    if "record" in records.table and (named := records.table.index[records.table["record"] == name]).size:
        return int(named[0])
    return int(name) if name.isascii() and name.isdecimal() and len(name) < 16 else None


def draw_record(
    records: Records,
    ecg_id: int,
    path: Path,
    preprocessing: str | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Path:
    """Draw the 12 leads of a record, raw and, if `preprocessing` is given, also after it. Return `path`.

    Uses the files at 500 Hz if they exist, else at 100 Hz. Draws the part of a longer record that training uses. `log`
    receives a line for each irregularity of the record. Raises DataError for an unknown record, preprocessing or file
    ending, and if the record cannot be read or the picture cannot be written.
    """
    _check_ending(path)
    source = signal_file(records, ecg_id)
    return _draw(source, _header(records, ecg_id), records.seconds, path, preprocessing, log)


def signal_file(records: Records, ecg_id: int) -> SignalFile:
    """Return the file of a record with the highest rate that exists. Raises DataError for an unknown record."""
    if ecg_id not in records.table.index:
        raise DataError(
            f"{records.folder} has no record {ecg_id}; its {len(records):,} ecg_ids go from "
            f"{records.ecg_id[0]} to {records.ecg_id[-1]}"
        )
    places = [records.signal_file(ecg_id, rate) for rate in sorted(records.filenames, reverse=True)]
    there = [place for place in places if place.file.exists()]
    return there[0] if there else places[-1]


def raw_tracing(records: Records, ecg_id: int) -> Tracing:
    """Return the 12 leads of a record, as `draw_record` draws them. Raises DataError if it cannot be read."""
    signals, rate = read_signals(signal_file(records, ecg_id))
    seconds = _drawn(records.seconds, signals.shape[1] / rate)
    return _raw(middle(signals, rate, seconds)[0], rate, "")


def _drawn(seconds: float | None, lasts: float) -> float | None:
    """Return the length that is drawn, of a record that `lasts` so many seconds: as in training, at most a sheet's."""
    return min(seconds or SECONDS, SECONDS) if lasts > SECONDS else seconds


def draw_file(
    record: Path, path: Path, preprocessing: str | None = None, log: Callable[[str], None] = lambda line: None
) -> Path:
    """Draw a WFDB record from the user, as `draw_record` does. `record` may have an extension. Return `path`.

    Draws the middle 10 s of a longer record.
    """
    _check_ending(path)
    record = record.with_suffix("") if record.suffix in (".hea", ".dat", ".mat") else record
    return _draw(SignalFile(record), [str(record)], None, path, preprocessing, log)


def _check_ending(path: Path) -> None:
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path} ends in {path.suffix or 'nothing'!r}; a picture is one of {', '.join(ENDINGS)}")


def _draw(
    source: SignalFile,
    header: list[str],
    seconds: float | None,
    path: Path,
    preprocessing: str | None,
    log: Callable[[str], None],
) -> Path:
    """Draw the record at `source`. `seconds` is the length to which the data set cuts or pads each record."""
    notes: list[Note] = []
    signals, rate = read_signals(source, log=notes.append)
    if signals.shape[1] < LEAST:
        raise DataError(f"{source} has {signals.shape[1]} samples a lead; a drawing needs at least {LEAST}")
    for note in notes:
        log(f"{source.path}: {note.text}")
        header += textwrap.wrap(f"note: {note.text}", 170)
    lasts = signals.shape[1] / rate
    seconds = _drawn(seconds, lasts)
    shown, start = middle(signals, rate, seconds)
    part = ""
    if shown.shape[1] < signals.shape[1]:
        part = f", {start / rate:g}-{(start + shown.shape[1]) / rate:g} of {lasts:g} s"
    sheets = [_raw(shown, rate, part)]
    if preprocessing is not None:
        sheets.append(_prepared(signals, rate, preprocessing, seconds, part, str(source.path)))
    try:
        _write(sheets, header, path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from None
    return path


def _raw(signals: Signal, rate: int, part: str) -> Tracing:
    fitted, scale, remark = _fit(signals, MM_PER_MV)
    empty = tuple(lead for lead, row in zip(LEADS, signals, strict=True) if np.isnan(row).all())
    title = f"raw, {rate} Hz{part}; {MM_PER_S:g} mm/s, {scale:g} mm/mV{remark}"
    return Tracing(title, fitted, rate, scale, empty=empty)


def _prepared(signals: Signal, rate: int, name: str, seconds: float | None, part: str, source: str) -> Tracing:
    if name not in PREPROCESSINGS:
        registry()  # it may be a plugin's
    prepared = prepare_record(signals, rate, SignalSpec(rate, name), seconds, source)
    in_mv = name in MILLIVOLTS_STAY
    note = ", before its one scaling over the training folds" if PREPROCESSINGS[name].standardized and in_mv else ""
    unit = "mm/mV" if in_mv else f"mm per {'standard deviation' if name in STANDARD_DEVIATIONS else 'unit'}"
    fitted, scale, remark = _fit(prepared, MM_PER_MV if in_mv else MM_PER_STD)
    title = f"{name}, {rate} Hz{part}{note}; {MM_PER_S:g} mm/s, {scale:g} {unit}{remark}"
    return Tracing(title, fitted, rate, scale, "prepared")


def _fit(signals: Signal, scale: float) -> tuple[Signal, float, str]:
    """Fit signals [lead, time] to the paper. Return the signals, the scale in mm per unit, and a remark for the title.

    A lead whose median lies outside its row is shifted by its median. If most of a lead still does not fit, the scale
    is reduced.
    """
    shifts, spread = np.zeros((len(signals), 1), dtype=np.float32), 0.0
    for row, lead in enumerate(signals):
        if len(valid := lead[~np.isnan(lead)]):
            low, median, high = np.quantile(valid, [0.05, 0.5, 0.95])
            if abs(median) * scale > ROW_MM:
                shifts[row] = median
            spread = max(spread, high - shifts[row, 0], shifts[row, 0] - low)
    remark = ""
    if shifts.any():
        named = ", ".join(lead for lead, shift in zip(LEADS, shifts, strict=True) if shift)
        remark = f"; about the median, because they are outside the paper: {named}"
    if spread * scale <= SHEET_MM / 4:
        return signals - shifts if remark else signals, scale, remark
    smaller = next((scale * part for part in SMALLER if spread * scale * part <= ROW_MM / 2), ROW_MM / 2 / spread)
    return signals - shifts, smaller, f"{remark}; {scale:g} would leave the paper"


def _header(records: Records, ecg_id: int) -> list[str]:
    """Return lines of text about a record: id, sex, age, fold, and statements with their likelihoods."""
    row: dict[str, Any] = dict(records.table.loc[ecg_id])
    statements = textwrap.wrap(statements_of(records, ecg_id), 170)
    if len(statements) > 3:
        statements = [*statements[:2], statements[2][:166] + " ..."]
    own = f" ({row['record']})" if row.get("record", str(ecg_id)) != str(ecg_id) else ""
    who = f"{person(row)}   {records.name}, fold {row['strat_fold']}"
    return [f"ecg_id {ecg_id}{own}   {who}", *statements]


def person(row: Mapping[Any, Any]) -> str:
    """Return sex, a code or a word, and age in years of a record's patient in words."""
    code = row.get("sex", -1)
    sex = code if isinstance(code, str) and code else SEXES.get(code, "sex unknown")
    age = float(pd.to_numeric(row.get("age", np.nan), errors="coerce"))
    return f"{sex}, {'over 89 years' if age == HIDDEN_AGE else 'age unknown' if np.isnan(age) else f'{age:.0f} years'}"


def statements_of(records: Records, ecg_id: int) -> str:
    """Return the statements of a record: code, description and likelihood in percent, if one is stated."""
    texts: list[str] = []
    row: dict[str, Any] = dict(records.table.loc[ecg_id])
    for code, likelihood in row["scp_codes"].items():
        known: object = records.statements["description"].get(code) if "description" in records.statements else None
        named = f"{code}, {known}" if isinstance(known, str) else code
        texts.append(f"{named} ({likelihood:.0f} %)" if likelihood else named)
    return "; ".join(texts) or "no statements"


def _write(sheets: list[Tracing], header: list[str], path: Path) -> None:
    from matplotlib.figure import Figure

    above = LINE_MM * (len(header) + 1.5)
    height = 2 * MARGIN_MM + above + len(sheets) * (TITLE_MM + SHEET_MM)
    with styled(STYLE):
        figure = Figure(figsize=(WIDTH_MM / MM_PER_INCH, height / MM_PER_INCH), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH_MM), ylim=(0, height))
        axes.set_axis_off()
        top = height - MARGIN_MM
        axes.text(MARGIN_MM, top, header[0], fontsize=11, fontweight="bold", color=INK, va="top")
        for at, line in enumerate(header[1:], start=1):
            axes.text(MARGIN_MM, top - 1 - LINE_MM * at, line, fontsize=8, color=INK, va="top")
        top -= above
        for sheet in sheets:
            axes.text(MARGIN_MM, top - 1, sheet.title, fontsize=8, color=INK, va="top")
            top -= TITLE_MM
            draw_paper(axes, sheet, top)
            top -= SHEET_MM
        picture = io.BytesIO()
        kind = path.suffix[1:].lower()
        figure.savefig(picture, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    content = picture.getvalue()
    if kind == "svg":
        content = _in_millimetres(content, WIDTH_MM, height)
    write_whole(path, content)


def _in_millimetres(svg: bytes, width: float, height: float) -> bytes:
    """Return the SVG with its size in mm; matplotlib writes it in points."""
    size = f'<svg width="{width:g}mm" height="{height:g}mm"'.encode()
    sized = re.sub(rb'width="[\d.]+pt"', b"", re.sub(rb'height="[\d.]+pt"', b"", svg, count=1), count=1)
    return sized.replace(b"<svg", size, 1)


def draw_paper(axes: Axes, sheet: Tracing, top: float, size: float = 1.0) -> None:
    """Draw paper, calibration pulses and leads of a sheet whose upper edge is at `top` mm.

    `size` is the size of a millimetre of `axes` on the page: texts and lines shrink with it.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    left, right, bottom = MARGIN_MM, WIDTH_MM - MARGIN_MM, top - SHEET_MM
    ground, fine, coarse = PAPER[sheet.paper]
    paper = axes.add_patch(Rectangle((left, bottom), right - left, top - bottom, color=ground, linewidth=0, zorder=0))
    for step, color, width in ((1, fine, 0.3), (5, coarse, 0.55)):
        lines = [((x, bottom), (x, top)) for x in np.arange(left, right + 0.01, step)]
        lines += [((left, y), (right, y)) for y in np.arange(bottom, top + 0.01, step)]
        axes.add_collection(LineCollection(lines, colors=color, linewidths=width * size, zorder=1))
    start = left + PULSE_MM
    samples = round(min(sheet.signals.shape[1], SECONDS * sheet.rate))
    for row, leads in enumerate(LAYOUT):
        zero = bottom + (len(LAYOUT) - row - 0.5) * ROW_MM  # so that it lies on a line of the grid
        pulse_x, pulse_y = np.array([1, 2.5, 2.5, 7.5, 7.5, 9]), np.array([0, 0, 1, 1, 0, 0])
        axes.plot(left + pulse_x, zero + pulse_y * 10, color=TRACE, linewidth=0.7 * size, zorder=3)
        edges = np.linspace(0, samples, len(leads) + 1).round().astype(int)
        for lead, begin, end in zip(leads, edges[:-1], edges[1:], strict=True):
            x = start + np.arange(begin, end) / sheet.rate * MM_PER_S
            trace = sheet.signals[LEADS.index(lead), begin:end] * sheet.mm_per_unit
            (line,) = axes.plot(x, zero + trace, color=TRACE, linewidth=0.7 * size, solid_joinstyle="round", zorder=3)
            line.set_clip_path(paper)
            if lead in sheet.empty:
                axes.text(x[0] + 1, zero, "no valid sample", fontsize=8 * size, color=INK, va="center", zorder=4)
            axes.text(x[0] + 1, zero + 11, lead, fontsize=9 * size, fontweight="bold", color=INK, va="center", zorder=4)
            if begin:
                axes.plot([x[0], x[0]], [zero - 3, zero + 3], color=TRACE, linewidth=0.5 * size, zorder=3)
