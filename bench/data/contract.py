"""Hold a data set to the contract: ids, patients, folds, labels, tasks, files, and a sample of signals.

`bench check DIR`. Unlike `verify`, it reads a sample of the signals, and it also holds readers of plugins to the
contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bench.data.datasets import load_records
from bench.data.datasets.held import reader_facts
from bench.data.formats import SignalFile, read_signals
from bench.data.info import counts_of
from bench.data.leads import LEADS
from bench.data.prepared import SAME_LENGTH
from bench.data.records import Records
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tables import check_patients
from bench.data.tasks import tasks_of, tasks_of_labels
from bench.data.waveforms import Note
from bench.errors import DataError, PluginError
from bench.registry.findings import Finding
from bench.registry.registry import attempt

NUM_SAMPLED = 24
"""Number of records whose signals are read."""
NUM_NAMED = 5
COLUMNS = ("patient_id", "strat_fold", "scp_codes")
"""Columns that the table of every data set has; `make_records` makes them."""
SHORTEST_S = 1.0
"""Minimum plausible length of a record in seconds, a heartbeat. A shorter one may have its axes exchanged."""


def check_dataset(folder: Path) -> Iterator[Finding]:
    """Check the data set in `folder`. Yield a finding for each check; nothing after tables that cannot be read."""
    try:
        records = load_records(folder)
    except (DataError, PluginError) as error:
        yield Finding("its reader reads the tables", str(error))
        return
    if missing := [column for column in COLUMNS if column not in records.table]:
        yield Finding("its reader reads the tables", f"the table of its Records lacks {', '.join(missing)}")
        return
    name = f"{records.name}, {len(records):,} records of {records.table['patient_id'].nunique():,} patients"
    yield Finding(f"its reader reads the tables: {name}")
    reader = reader_facts(records, folder).get("module")
    for check, examine in CHECKS.items():
        look = partial(_look, check, examine, records)
        # a plugin's error is a fault of the data set; an error of bench keeps its traceback
        finding, reason = attempt(look) if reader else (look(), None)
        modules = " and ".join(sorted({reader or "", records.format.module}))
        yield finding or Finding(check, f"{reason}, from what {modules} gives")


def _look(check: str, examine: Callable[[Records], str], records: Records) -> Finding:
    """Return the outcome of a check."""
    try:
        return Finding(check, note=examine(records))
    except DataError as error:
        return Finding(check, str(error))


def _check_ids(records: Records) -> str:
    index = records.table.index
    if index.has_duplicates:
        raise DataError(f"ecg_id {index[index.duplicated()][0]} occurs twice; give each record an id of its own")
    if not index.is_monotonic_increasing or index.dtype.kind != "i" or (len(index) and index[0] < 0):
        raise DataError(f"ecg_id is of type {index.dtype} or not sorted; expected whole numbers from 0, ascending")
    return ""


def _check_patients(records: Records) -> str:
    if records.table["patient_id"].dtype.kind != "i":
        raise DataError(f"patient_id is of type {records.table['patient_id'].dtype}, expected whole numbers")
    check_patients(records.table, records.folder)
    return ""


def _check_folds(records: Records) -> str:
    if unknown := set(records.table["strat_fold"]) - set(range(1, 11)):
        raise DataError(f"strat_fold has {sorted(unknown, key=str)[:3]}, expected 1 to 10")
    sizes = {fold: int((records.strat_fold == fold).sum()) for fold in range(1, 11)}
    if not sizes[VAL_FOLD] or not sizes[TEST_FOLD] or not (records.strat_fold < VAL_FOLD).any():
        raise DataError("there must be records in folds 1-8 (training), 9 (selection) and 10 (test)")
    return ""


def _check_labels(records: Records) -> str:
    known, used = set(records.statements.index), {code for codes in records.scp_codes for code in codes}
    if unknown := sorted(used - known):
        raise DataError(f"records have codes that the table of labels lacks: {', '.join(unknown[:NUM_NAMED])}")
    nobodys = sorted(map(str, known - used))
    return f"labels that no record has: {_some(nobodys)}" if nobodys else ""


def _check_tasks(records: Records) -> str:
    tasks = tasks_of(records)
    if not tasks:
        raise DataError(
            "no task applies to it: give its statements a column `group`, from which tasks follow, or register a Task "
            f"with dataset={records.dataset!r}"
        )
    notes = {task.name: counts_of(records, task)["note"] for task in tasks}
    if all(notes.values()):
        raise DataError(f"no task can be run: {next(iter(notes))}: {next(iter(notes.values()))}")
    return "; ".join(f"task {name}: {note}" for name, note in notes.items() if note)


def _check_positives(records: Records) -> str:
    if not tasks_of_labels(records):
        return ""
    parts = {"folds 1-8": records.strat_fold < VAL_FOLD, "fold 9": records.strat_fold == VAL_FOLD}
    parts["fold 10"] = records.strat_fold == TEST_FOLD
    notes = []
    for part, mask in parts.items():
        chosen = [set(codes) for codes, inside in zip(records.scp_codes, mask, strict=True) if inside]
        present = set[str]().union(*chosen)
        everywhere = set.intersection(*chosen) if chosen else set()
        if without := sorted(set(map(str, records.statements.index)) - present):
            notes.append(f"no positive in {part}: {_some(without)}")
        if everywhere:
            notes.append(f"no negative in {part}: {_some(sorted(everywhere))}")
    return "; ".join(notes)


def _check_licence(records: Records) -> str:
    missing = [key for key in ("licence", "source") if getattr(records, key) in ("", "unknown")]
    return f"{' and '.join(missing)} not stated; pages say so" if missing and not records.synthetic else ""


def _check_files(records: Records) -> str:
    notes = []
    for rate in records.filenames:
        sources = dict.fromkeys(records.signal_files(rate))
        files = [source.path.with_name(source.path.name + end) for source in sources for end in records.format.endings]
        missing = [file for file in dict.fromkeys(files) if not file.is_file()]
        if len(missing) == len(set(files)):
            notes.append(f"no signals at {rate} Hz")
        elif missing:
            raise DataError(f"{len(missing):,} files at {rate} Hz are missing, the first {missing[0]}")
    if len(notes) == len(records.filenames):
        raise DataError(f"{records.folder} has no signals; the first would be {records.signal_files(rate)[0]}")
    return "; ".join(notes)


def _check_signals(records: Records) -> str:
    """Read a sample, evenly spaced over the records, at each rate that is there."""
    notes: dict[str, str] = {}
    for rate in records.filenames:
        sources = records.signal_files(rate)
        if not sources[0].file.is_file():
            continue
        lengths: dict[int, SignalFile] = {}
        for at in np.unique(np.linspace(0, len(sources) - 1, NUM_SAMPLED).astype(int)).tolist():
            length, of_record = _examine(records, sources[at], rate)
            lengths.setdefault(length, sources[at])
            for note in of_record:
                notes.setdefault(note.kind, f"{sources[at]}: {note.text}")
        if len(lengths) > 1 and records.seconds is None:
            (first, one), (second, other), *_ = lengths.items()
            raise DataError(
                f"{one} has {first / rate:g} s and {other} {second / rate:g} s, and all records must have the same "
                f"length; {SAME_LENGTH}"
            )
    return "; ".join(notes.values())


def _examine(records: Records, source: SignalFile, rate: int) -> tuple[int, list[Note]]:
    """Return the number of samples of a record, and notes on it."""
    notes: list[Note] = []
    signals, actual = read_signals(source, LEADS, notes.append)
    if actual != rate:
        raise DataError(f"{source} says {actual} Hz, and the data set {rate} Hz; correct the rate")
    if not signals.shape[1] or np.isnan(signals).all():
        raise DataError(f"{source} has no valid sample")
    shortest = min(SHORTEST_S, records.seconds or SHORTEST_S)
    if signals.shape[1] < shortest * rate:
        raise DataError(
            f"{source} has {signals.shape[1]} samples a lead, {signals.shape[1] / rate:g} s at {rate} Hz; expected at "
            f"least {shortest:g} s, read as [lead, time]"
        )
    if records.seconds and signals.shape[1] != round(records.seconds * rate):
        notes.append(Note("length", f"{signals.shape[1] / rate:g} s, cut or padded to {records.seconds:g} s"))
    if np.isnan(signals).any():
        notes.append(Note("invalid", "some samples are invalid, which count as 0 mV"))
    if flat := [lead for lead, row in zip(LEADS, signals, strict=True) if np.ptp(row) == 0]:
        notes.append(Note("flat", f"flat: {', '.join(flat)}"))
    return signals.shape[1], notes


CHECKS: dict[str, Callable[[Records], str]] = {
    "each record has an id of its own": _check_ids,
    "no patient is in more than one of folds 1-8, 9 and 10": _check_patients,
    "folds 1-8 train, 9 selects, 10 tests": _check_folds,
    "labels are known and used": _check_labels,
    "there are tasks that can be run": _check_tasks,
    "labels have positives and negatives in training, selection and test": _check_positives,
    "licence and source are stated": _check_licence,
    "the files of the signals are there": _check_files,
    f"signals of {NUM_SAMPLED} records have the rate, the 12 leads, and the size of a surface ECG": _check_signals,
}
"""Check -> function that raises DataError for a fault and returns a note, or an empty text."""


def _some(names: list[str]) -> str:
    return ", ".join(names[:NUM_NAMED]) + (f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else "")
