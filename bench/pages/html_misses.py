"""Write the section of an HTML page with single records: those that each row gets most wrong, with their ECGs.

html_misses.js shows them. ECGs are drawn for as many records as the page has room for, the worst of each row first.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.boards.misses import MOST_LABELS, Scored, score_run
from bench.boards.rows import Board, Row
from bench.boards.truth import Truth
from bench.data.records import SECONDS, Records
from bench.data.show import HEADROOM_MM, LAYOUT, PULSE_MM, ROW_MM, person, raw_tracing, statements_of
from bench.data.signals import resample
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.waveforms import LEADS
from bench.errors import BenchError
from bench.pages.elements import Html, element, embedded_json, joined
from bench.pages.html_rows import row_key

NUM = (6, 4, 3, 2, 1)
"""Numbers of records of a list, from which the largest is taken that leaves room for ECGs."""
FOR_TEXT = 0.6
"""Share of the room that may be text."""
RATE, STEP_MM = 100, 0.15
"""Highest rate of a drawn ECG in Hz, and the step of its amplitudes in mm of paper: 0.015 mV at 10 mm/mV."""
MISSING = -128
"""Code of a sample that is not there. Other codes are the steps up or down since the last sample."""


def misses_section(boards: Sequence[Board], truth: Truth, room: int) -> Html:
    """Return the body of the section on the boards of a task, of at most `room` bytes.

    For each row: the records with the largest loss and, for each label, the positives that it misses, both of its first
    run. They have statements, predicted probabilities, and the ECG while there is room. Raises BenchError without the
    data set.
    """
    records = truth.records
    if records is None:
        raise BenchError(f"no data set at {truth.folder}, which single records need; name its folder with --data")
    rows = {row_key(board, row): row for board in boards for row in board.rows}
    scored = {key: each for key, row in rows.items() if (each := _scored(row, truth))}
    for num in NUM:
        known = _Lists(records, scored, num)
        shown = {"rows": {key: known.of_row(rows[key], each) for key, each in scored.items()}, **known.facts()}
        size = len(embedded_json(shown).encode())
        if size <= FOR_TEXT * room:
            return _body(records, shown | {"ecgs": _drawn(records, known, room - size)})
    return element("p", "The records of this board's rows do not fit this page; `bench misses` lists them.")


def _scored(row: Row, truth: Truth) -> Scored | None:
    """Return what the first run of a row predicted; None without labels, and if its scores have no threshold."""
    run = row.runs[0]
    labels = {fold: truth.fold(run, fold) for fold in (VAL_FOLD, TEST_FOLD) if fold in run.predictions}
    folds = {fold: table for fold, table in labels.items() if table is not None}
    if TEST_FOLD not in folds or len(folds) < len(labels):
        return None
    try:
        return score_run(run, folds, TEST_FOLD)
    except BenchError:  # neither a scale nor fold 9, so nothing can be listed
        return None


class _Lists:
    """Lists of records, each record once. A list has at most `num` records."""

    def __init__(self, records: Records, scored: Mapping[str, Scored], num: int) -> None:
        self.records, self.num = records, num
        self.labels = next(iter(scored.values())).labels if scored else ()
        self.places: dict[int, int] = {}
        """ecg_id -> place among all listed records"""
        self.true: list[list[int]] = []
        """[record] columns of its true labels"""
        self.worst: list[list[int]] = []
        """[row] ecg_ids of its lists, the most wrong of each list first"""

    def of_row(self, row: Row, scored: Scored) -> dict[str, Any]:
        """Return the lists of a row, in which a record is its place in `facts`."""
        lists: dict[int | None, NDArray[np.int64]] = {}
        if scored.has_loss:
            lists[None] = scored.by_loss()
        for column in np.flatnonzero(~np.isnan(scored.thresholds)).tolist():
            lists[column] = scored.missed(column)
        digits = 3 if scored.has_loss else 4
        shown = {asked: [int(place) for place in places[: self.num]] for asked, places in lists.items()}
        self.worst.append([int(scored.ecg_id[place]) for place in _in_turns(list(shown.values()))])
        draw, seed = row.runs[0].place
        return {
            "run": f"draw {draw}, seed {seed}",
            "words": scored.words,
            "probabilities": scored.has_loss,
            "thresholds": [None if np.isnan(each) else round(float(each), digits) for each in scored.thresholds],
            "lists": [
                [
                    -1 if asked is None else asked,
                    len(lists[asked]),
                    len(scored.ecg_id) if asked is None else int(scored.y_true[:, asked].sum()),
                    [self._entry(scored, place, asked, digits) for place in places],
                ]
                for asked, places in shown.items()
                if places
            ],
        }

    def _entry(self, scored: Scored, place: int, asked: int | None, digits: int) -> list[Any]:
        """Return a record's place, its loss, and column, score and decision of the labels that are shown of it."""
        ecg_id = int(scored.ecg_id[place])
        if ecg_id not in self.places:
            self.places[ecg_id] = len(self.true)
            self.true.append(np.flatnonzero(scored.y_true[place]).tolist())
        score, threshold = scored.y_score[place], scored.thresholds
        return [
            self.places[ecg_id],
            round(float(scored.loss[place]), 2) if scored.has_loss else None,
            [
                [column, round(float(score[column]), digits), int(score[column] >= threshold[column])]
                for column in scored.shown_labels(place, MOST_LABELS, asked)
            ],
        ]

    def facts(self) -> dict[str, Any]:
        """Return the labels, and of each listed record its name, patient, statements and true labels."""
        return {
            "labels": self.labels,
            "records": [[*_about(self.records, each), true] for each, true in zip(self.places, self.true, strict=True)],
        }


def _about(records: Records, ecg_id: int) -> list[str]:
    """Return name, sex and age, and statements of a record."""
    about: dict[str, Any] = dict(records.table.loc[ecg_id])
    own = str(about.get("record", ecg_id))
    name = str(ecg_id) if own == str(ecg_id) else f"{ecg_id} ({own})"
    return [name, person(about), statements_of(records, ecg_id)]


def _in_turns(lists: Sequence[Sequence[int]]) -> Iterator[int]:
    """Return the first of each list, then the second of each, and so on."""
    for place in range(max(map(len, lists), default=0)):
        yield from (each[place] for each in lists if place < len(each))


def _drawn(records: Records, known: _Lists, room: int) -> dict[int, list[Any]]:
    """Return place of a record -> its ECG, as long as there is room. A record whose signals cannot be read has none."""
    ecgs: dict[int, list[Any]] = {}
    for ecg_id in dict.fromkeys(_in_turns(known.worst)):
        try:
            ecg = _ecg(records, ecg_id)
        except BenchError:
            ecg = []
        room -= len(json.dumps([known.places[ecg_id], ecg])) + 4
        if room < 0:
            break
        ecgs[known.places[ecg_id]] = ecg
    return ecgs


def _ecg(records: Records, ecg_id: int) -> list[Any]:
    """Return rate in Hz, scale in mm/mV, samples of a row, and the traces of LAYOUT as text; see `MISSING`."""
    tracing = raw_tracing(records, ecg_id)
    signals, rate = tracing.signals, min(tracing.rate, RATE)
    if rate < tracing.rate:
        gone = np.isnan(signals)
        signals = resample(np.where(gone, np.float32(0), signals), tracing.rate, rate)
        signals[resample(gone.astype(np.float32), tracing.rate, rate) > 0.5] = np.nan
    samples = min(signals.shape[1], round(SECONDS * rate))
    codes = bytearray()
    for leads in LAYOUT:
        for at, lead in enumerate(leads):
            start, end = samples * at // len(leads), samples * (at + 1) // len(leads)
            codes += _steps(signals[LEADS.index(lead), start:end] * tracing.mm_per_unit)
    return [rate, round(tracing.mm_per_unit, 4), samples, base64.b64encode(bytes(codes)).decode()]


def _steps(trace: NDArray[np.float32]) -> bytes:
    """Return the steps of a trace in mm as signed bytes. What a byte cannot hold follows with the next sample."""
    at, steps = 0, np.full(len(trace), MISSING, dtype=np.int8)
    for place, height in enumerate((trace / STEP_MM).tolist()):
        if height == height:  # not NaN
            steps[place] = max(-127, min(127, round(height) - at))
            at += int(steps[place])
    return steps.tobytes()


def _body(records: Records, shown: Mapping[str, Any]) -> Html:
    paper = {"layout": LAYOUT, "headroom": HEADROOM_MM, "row": ROW_MM, "pulse": PULSE_MM, "step": STEP_MM}
    note = (
        f"Single records of {records.name}, with age, sex and statements of their patients: mind the terms of the data "
        "before this page is passed on."
    )
    selects = [
        element("label", words, element("select", id=f"misses-{name}"))
        for name, words in (("row", "row"), ("what", "records"))
    ]
    return joined(
        element("p", note, class_="note"),
        element("div", *selects, class_="filters script"),
        element("p", id="misses-note", class_="note script"),
        element("ol", id="misses", class_="script"),
        element("noscript", element("p", "Without JavaScript: `bench misses` lists and draws them.", class_="note")),
        element("script", embedded_json({**shown, "paper": paper}), type="application/json", id="misses-data"),
    )
