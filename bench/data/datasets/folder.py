"""Read a plain folder as Records: dataset.toml, records.csv and labels.csv. It needs no code.

dataset.toml   name, licence, source, rate, seconds, and [signals]: format, folder, and for arrays leads and unit
records.csv    record, patient, and optionally file, row, fold, labels, age, sex, site, device
labels.csv     code, and optionally description, ptbxl (the PTB-XL code it equals), group
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.data.formats import FORMATS, STATED, SignalFormat, millivolts
from bench.data.records import SECONDS, Records
from bench.data.splits import deal_folds
from bench.data.tables import TextTable, check_patients, read_text_table
from bench.data.text import read_text
from bench.data.waveforms import MAX_RATE
from bench.errors import DataError, first_line

ABOUT, RECORDS, LABELS = "dataset.toml", "records.csv", "labels.csv"
MOST_SECONDS = 3600
LABEL_SEPARATOR = ";"
COLUMNS = ("record", "patient", "file", "row", "fold", "labels", "age", "sex", "site", "device")
"""Columns of records.csv that mean something here; others may stand beside them."""
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,60}[a-z0-9])?")
RESERVED = ("ptb-xl", "cpsc2018", "synthetic")
"""Names of data sets with readers of their own; tasks, licences and published numbers are found by these names."""
SEXES = {"male": 0.0, "m": 0.0, "female": 1.0, "f": 1.0, "": np.nan, "unknown": np.nan}
"""Sex in records.csv -> PTB-XL's code."""
HIDDEN_AGE, OLDEST = 300.0, 130.0
"""PTB-XL's code for `over 89 years`, and the maximum age in years."""
SPREADSHEET = re.compile(r"\d(\.\d+)?E\+\d+|\d{1,2}-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)|#\w+[!?/]\w*")
"""What a spreadsheet makes of an id: a shortened number, a date, an error such as #REF!."""
KEYS = {
    "": ("name", "version", "content", "licence", "source", "rate", "seconds", "signals"),
    "signals": ("format", "folder", "ending", "leads", "unit", "array"),
}
"""Section of dataset.toml -> its keys."""


def load_records(folder: Path) -> Records | None:
    """Read and check the three files of a plain folder. Reads no signals. Return None if it has no dataset.toml."""
    if not (folder / ABOUT).exists():
        return None
    about = _read_about(folder / ABOUT)
    signals = about.get("signals", {})
    table, labels = read_text_table(folder / RECORDS), read_text_table(folder / LABELS)
    records = make_records(
        folder,
        table,
        labels,
        name=about["name"],
        rate=about["rate"],
        format=_format(about, folder / ABOUT),
        signals=signals.get("folder", "."),
        seconds=float(about.get("seconds", SECONDS)),
        licence=about["licence"],
        source=about["source"],
    )
    # the content is known now: the version is that of this content, and no other
    content = about.get("content", "")
    versions = {content: about.get("version", "")} if content else {}
    return replace(records, versions=versions)


def make_records(
    folder: Path,
    table: TextTable,
    labels: TextTable,
    *,
    name: str,
    rate: int,
    format: SignalFormat,
    signals: str = ".",
    seconds: float | None = SECONDS,
    licence: str = "",
    source: str = "",
) -> Records:
    """Check the tables of records and labels, and return them as Records. Folds are dealt if the table has none.

    `signals` is the folder of the signal files, relative to `folder`. Raises DataError with file, row and column for
    ids that repeat, unknown labels, patients in more than one of folds 1-8, 9 and 10, and values of the wrong form.
    """
    _refuse_other_types(table)
    _refuse_other_types(labels)
    _refuse_misspelt(table)
    statements = _statements(labels)
    texts = table.column("record")
    _refuse_repeats(table, "record", texts)
    _refuse_spreadsheet(table, "record", texts)
    patients = table.column("patient")
    for row, patient in enumerate(patients):
        if not patient:
            raise DataError(f"{table.where(row, 'patient')} is empty; give each unknown patient an id of its own")
    _refuse_spreadsheet(table, "patient", patients)
    codes = _codes(table, statements)
    frame = pd.DataFrame(
        {
            "ecg_id": numbers_of(texts),
            "record": texts,
            "patient": patients,
            "patient_id": numbers_of(patients),
            "scp_codes": [dict.fromkeys(of_record, 100.0) for of_record in codes],
            "age": _ages(table),
            "sex": _sexes(table),
            "file": [_place(table, row, signals, file) for row, file in enumerate(_files(table, texts))],
        }
    )
    for column in ("site", "device"):
        if column in table.columns:
            frame[column] = table.column(column)
    if "row" in table.columns:
        frame["row"] = [_whole(table, row, "row", text) for row, text in enumerate(table.column("row"))]
    _refuse_shared_signals(table, frame)
    given = _folds(table)
    frame["strat_fold"] = dealt_folds(patients, codes) if given is None else given
    check_patients(frame, table.path)
    folds = frame["strat_fold"]
    parts = {"folds 1-8, which train": folds < 9, "fold 9, which selects": folds == 9}
    for purpose, part in {**parts, "fold 10, which tests": folds == 10}.items():
        if not part.any():
            raise DataError(
                f"{table.path} has {len(set(patients)):,} patients and no record in {purpose}; "
                "expected some for training, selection and test each"
            )
    _refuse_constant(codes, table.path)
    return Records(
        folder,
        frame.set_index("ecg_id").sort_index(),
        statements,
        filenames={rate: "file"},
        dataset=name,
        format=format,
        seconds=seconds,
        others=(ABOUT, RECORDS, LABELS, table.path.name),
        licence=licence,
        source=source,
    )


def _refuse_misspelt(table: TextTable) -> None:
    """Raise DataError for a column such as `Fold` or `ages`, which would be passed over in silence."""
    for column in table.columns:
        for known in COLUMNS:
            near = {known, f"{known}s", known.removesuffix("s")}
            if column != known and column.lower() in near and known not in table.columns:
                raise DataError(f"{table.path} has a column {column!r} and no column {known!r}; rename it")


def _refuse_shared_signals(table: TextTable, frame: pd.DataFrame) -> None:
    """Raise DataError if two records have the same signals: one could train and the other test."""
    of = ["file", "row"] if "row" in frame else ["file"]
    places = frame[of].astype(str).agg(" ".join, axis=1)
    if (again := np.flatnonzero(places.duplicated())).size:
        first = int(np.flatnonzero(places == places.iloc[again[0]])[0])
        column = "row" if "row" in frame else "file" if "file" in table.columns else "record"
        raise DataError(
            f"{table.where(int(again[0]), column)} names the signals of row {table.number(first)} again; expected "
            "signals of its own for each record"
        )


def dealt_folds(patients: Sequence[str], codes: Sequence[tuple[str, ...]]) -> npt.NDArray[np.int64]:
    """Return folds 1 to 10 [record] for a set without folds, by patient and stratified by label (see `deal_folds`).

    Of the ten parts, the one with positives of most labels is fold 10 and the next is fold 9, so that rare labels of a
    small set can be tested. The folds depend on the patients and labels alone.
    """
    parts = deal_folds(patients, codes)
    present: list[set[str]] = [set() for _ in range(10)]
    for part, of_record in zip(parts.tolist(), codes, strict=True):
        present[part].update(of_record)
    ranked = sorted(range(10), key=lambda part: (-len(present[part]), part))
    fold = {ranked[0]: 10, ranked[1]: 9}
    fold |= {part: at for at, part in enumerate(sorted(ranked[2:]), start=1)}
    return np.array([fold[part] for part in parts.tolist()])


def numbers_of(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return whole numbers [record] that stand for ids: the ids if all are plain numbers, else places in sorted order.

    Places count from 1.
    """
    if all(text.isascii() and text.isdecimal() and len(text) < 16 and str(int(text)) == text for text in texts):
        return np.array([int(text) for text in texts], dtype=np.int64)
    place = {text: at for at, text in enumerate(sorted(set(texts)), start=1)}
    return np.array([place[text] for text in texts], dtype=np.int64)


def _read_about(path: Path) -> dict[str, Any]:
    """Read and check dataset.toml."""
    try:
        about = tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not TOML: {first_line(error)}") from None
    for section, keys in KEYS.items():
        part = about.get(section, {}) if section else about
        if not isinstance(part, dict):
            raise DataError(f"{path}: {section} is {str(part)[:40]!r}, expected a section [{section}]")
        if unknown := [key for key in part if key not in keys]:
            raise DataError(f"{path} has an unknown key {unknown[0][:40]!r}; it takes {', '.join(keys)}")
    for key in ("name", "licence", "source"):
        if not isinstance(about.get(key), str) or not about[key].isprintable():
            raise DataError(f"{path} must give {key} as a text; write `unknown` if it is")
    refuse_name(about["name"], f"{path}: name")
    for key in ("version", "content"):
        refuse_version(about.get(key, ""), f"{path}: {key}")
    rate, seconds = about.get("rate"), about.get("seconds", SECONDS)
    if type(rate) is not int or not 1 <= rate <= MAX_RATE:
        raise DataError(f"{path} must give rate, in Hz, as a whole number up to {MAX_RATE:,}; it has {str(rate)[:20]}")
    if type(seconds) not in (int, float) or not 0.1 <= seconds <= MOST_SECONDS:
        raise DataError(
            f"{path}: seconds, to which records are cut or padded, is {str(seconds)[:20]}, "
            f"expected 0.1 to {MOST_SECONDS}"
        )
    return about


def refuse_version(version: object, what: str) -> None:
    """Raise DataError if a data set cannot have this version. `what` names the option or key, for the message."""
    if not isinstance(version, str) or not re.fullmatch(r"[A-Za-z0-9.]{0,20}", version):
        raise DataError(f"{what} is {str(version)[:40]!r}, expected up to 20 letters, digits and dots")


def refuse_name(name: str, what: str) -> None:
    """Raise DataError if a data set cannot have this name. `what` names the option or key, for the message."""
    if not NAME.fullmatch(name):
        raise DataError(f"{what} is {name[:40]!r}, expected lower case letters, digits, dots and hyphens, such as ludb")
    if taken := [each for each in RESERVED if name == each or name.startswith(f"{each}-")]:
        raise DataError(f"{what} is {name!r}; names that begin with {taken[0]} are of that data set; choose another")


def _format(about: Mapping[str, Any], path: Path) -> SignalFormat:
    """Return how the signals are stored, from the section [signals]."""
    given = about.get("signals", {})
    texts = {key: given.get(key, "") for key in ("format", "folder", "ending", "unit", "array")}
    if wrong := [key for key, value in texts.items() if not isinstance(value, str) or "\0" in value]:
        raise DataError(f"{path}: {wrong[0]} in [signals] must be a text")
    name = texts["format"] or "wfdb"
    if name not in FORMATS:
        raise DataError(f"{path}: format is {name[:20]!r}, expected one of {', '.join(FORMATS)}")
    format = FORMATS[name]
    if texts["ending"]:
        format = replace(format, endings=(*format.endings[:-1], texts["ending"]))
    leads = given.get("leads", [])
    if not isinstance(leads, list) or not all(isinstance(lead, str) and lead.strip() for lead in leads):
        raise DataError(f"{path}: leads in [signals] must be a list of names, such as ['I', 'II', ...]")
    if name not in STATED:
        return format
    if not leads or not texts["unit"]:
        missing = "leads" if not leads else "unit"
        raise DataError(
            f"{path}: a {name} file does not state the {missing} of its signals: write {missing} in [signals]"
        )
    try:
        millivolts(texts["unit"])
    except DataError as error:
        raise DataError(f"{path} {error}") from None
    return replace(format, rate=about["rate"], leads=tuple(leads), unit=texts["unit"], array=texts["array"])


def _statements(labels: TextTable) -> pd.DataFrame:
    """Return one row for each label: description, ptbxl and group, indexed by code."""
    codes = labels.column("code")
    _refuse_repeats(labels, "code", codes)
    _refuse_spreadsheet(labels, "code", codes)
    lower: dict[str, str] = {}
    for row, code in enumerate(codes):
        if (other := lower.setdefault(code.lower(), code)) != code:
            raise DataError(f"{labels.where(row, 'code')} is {code[:40]!r}, and {other[:40]!r} differs in case alone")
        if not code or LABEL_SEPARATOR in code or not code.isprintable():
            raise DataError(
                f"{labels.where(row, 'code')} is {code[:40]!r}, expected a text without {LABEL_SEPARATOR!r}"
            )
    empty = [""] * len(codes)
    columns = {
        name: labels.column(name) if name in labels.columns else empty for name in ("description", "ptbxl", "group")
    }
    return pd.DataFrame(columns, index=pd.Index(codes, name="code"))


def _codes(table: TextTable, statements: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the labels [record] of each record, each once."""
    known = set(statements.index)
    codes = []
    for row, text in enumerate(table.column("labels") if "labels" in table.columns else ()):
        of_record = tuple(dict.fromkeys(filter(None, map(str.strip, text.split(LABEL_SEPARATOR)))))
        for code in of_record:
            if code not in known:
                near = difflib.get_close_matches(code, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise DataError(f"{table.where(row, 'labels')}: {code[:40]!r} is no code of {LABELS}{hint}")
        codes.append(of_record)
    if not any(codes):
        raise DataError(f"{table.path} gives no record a label; write codes of {LABELS} into column labels, with ;")
    return codes


def _files(table: TextTable, records: Sequence[str]) -> list[str]:
    """Return the name of each record's file; by default it is the record's id."""
    if "file" not in table.columns:
        return list(records)
    return [file or record for file, record in zip(table.column("file"), records, strict=True)]


def _place(table: TextTable, row: int, signals: str, file: str) -> str:
    """Return the path of a record's file relative to the data set's folder. Raises DataError if it leaves `signals`."""
    if ".." in Path(file).parts or Path(file).is_absolute() or "\0" in file or len(file) > 1000:
        raise DataError(
            f"{table.where(row, 'file')} is {file[:60]!r}, expected a path within the folder of the signals"
        )
    return (Path(signals) / file).as_posix()


def _ages(table: TextTable) -> npt.NDArray[np.float64]:
    """Return ages in years [record], NaN where unknown. `>89` becomes PTB-XL's code for it."""
    if "age" not in table.columns:
        return np.full(len(table.rows), np.nan)
    ages = []
    for row, text in enumerate(table.column("age")):
        if text.lower() in ("", "unknown", "nan"):
            ages.append(np.nan)
        elif text in (">89", "90+", "300"):
            ages.append(HIDDEN_AGE)
        elif re.fullmatch(r"\d{1,3}(\.\d{1,6})?", text) and float(text) <= OLDEST:
            ages.append(float(text))
        else:
            raise DataError(f"{table.where(row, 'age')} is {text[:20]!r}, expected years, >89, or nothing if unknown")
    return np.array(ages)


def _sexes(table: TextTable) -> npt.NDArray[np.float64]:
    """Return PTB-XL's code of the sex [record], NaN where unknown."""
    if "sex" not in table.columns:
        return np.full(len(table.rows), np.nan)
    sexes = []
    for row, text in enumerate(table.column("sex")):
        if text.lower() not in SEXES:
            raise DataError(f"{table.where(row, 'sex')} is {text[:20]!r}, expected male, female, or nothing if unknown")
        sexes.append(SEXES[text.lower()])
    return np.array(sexes)


def _folds(table: TextTable) -> npt.NDArray[np.int64] | None:
    """Return the folds [record]; None if no record has one."""
    texts = table.column("fold") if "fold" in table.columns else []
    if not any(texts):
        return None
    for row, text in enumerate(texts):
        if text not in map(str, range(1, 11)):
            raise DataError(
                f"{table.where(row, 'fold')} is {text[:20]!r}, expected 1 to 10 (1-8 train, 9 selects, 10 tests), or "
                "nothing in all rows: then folds are dealt"
            )
    return np.array([int(text) for text in texts])


def _whole(table: TextTable, row: int, column: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise DataError(f"{table.where(row, column)} is {text[:20]!r}, expected a whole number from 0")
    return int(text)


def _refuse_other_types(table: TextTable) -> None:
    """Raise DataError if a cell is no text, or a row has another number of cells: a plugin may make its own tables."""
    for row, cells in enumerate(table.rows):
        if len(cells) != len(table.columns):
            raise DataError(f"{table.where(row)} has {len(cells)} cells for {len(table.columns)} columns")
        for column, cell in zip(table.columns, cells, strict=True):
            if not isinstance(cell, str):
                raise DataError(
                    f"{table.where(row, column)} is {cell!r:.40}, of type {type(cell).__name__}; expected a text, as "
                    "str() gives it, and an empty text where nothing is known"
                )


def _refuse_repeats(table: TextTable, column: str, texts: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        if not text:
            raise DataError(f"{table.where(row, column)} is empty")
        if text in first:
            raise DataError(
                f"{table.where(row, column)}: {text[:40]!r} is in row {table.number(first[text])} too; each {column} "
                "has one row"
            )
        first[text] = row


def _refuse_spreadsheet(table: TextTable, column: str, texts: Sequence[str]) -> None:
    for row, text in enumerate(texts):
        if SPREADSHEET.fullmatch(text):
            raise DataError(
                f"{table.where(row, column)} is {text!r}: a spreadsheet has changed this id into a number or date; "
                "import the column as text and save the table again"
            )


def _refuse_constant(codes: Sequence[tuple[str, ...]], path: Path) -> None:
    """Raise DataError if no label has both a positive and a negative record: there is nothing to learn."""
    if len({frozenset(of_record) for of_record in codes}) < 2:
        raise DataError(
            f"{path} gives every record the same labels ({', '.join(codes[0])[:60]}); expected a label that some "
            "records have and others have not"
        )
