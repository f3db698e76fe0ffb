"""Make a plain folder (see `bench.data.datasets.folder`) of a table with a row for each record, and its signals.

What can be read from the files is read. What is assumed is reported in a line. What cannot be known, such as the unit
of an array, is asked for: the error names the option.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bench.data.datasets import folder as plain
from bench.data.formats import (
    CONVERTERS,
    ENDINGS,
    FORMATS,
    STATED,
    SignalFile,
    SignalFormat,
    millivolts,
    num_records,
    read_signals,
)
from bench.data.headers import read_header
from bench.data.label_codes import ptbxl_code
from bench.data.leads import LEADS, choose_leads
from bench.data.matlab import copy_array
from bench.data.records import SECONDS, Records
from bench.data.tables import TextTable, read_text_table
from bench.data.waveforms import MAX_RATE, MILLIVOLTS, Note
from bench.errors import DataError
from bench.files import whole_folder, write_into

COMMON_NAMES = {
    "age": ("age", "age_years", "patient_age"),
    "sex": ("sex", "gender"),
    "fold": ("fold", "strat_fold"),
    "site": ("site",),
    "device": ("device",),
}
"""Column of records.csv -> names, in lower case, under which other tables have it."""
INDICATORS = {"": False, "0": False, "0.0": False, "false": False, "no": False}
INDICATORS |= {"1": True, "1.0": True, "true": True, "yes": True}
"""Cells of a column that says of one label whether a record has it."""
LISTS = re.compile(r"[;|\n\r]+")
"""Between the labels in a cell that holds several."""
BARE = re.compile(r"""['"]\s+['"]""")
"""Two texts of a list with no comma between them, which Python would join."""
TUPLE = re.compile(r"""\(\s*(['"].*)?\)""", re.DOTALL)
"""A tuple of texts as Python prints it, `('AF', 'LVH')` or `()`; other text in brackets is a label."""
UNKNOWN = ("-1", "-1.0", "nan", "na", "n/a", "none", "null", "?", "unknown", "uncertain")
"""Cells that say, beside 0 and 1 or among labels, that it is not known whether a record has a label."""
FOLDS = {"train": "1", "training": "1", "val": "9", "valid": "9", "validation": "9", "dev": "9", "test": "10"}
"""Words for a split -> fold."""
MANY_LABELS = 200
"""Number of labels above which a column is taken for free text."""
CODE = re.compile(r"[A-Za-z0-9_+/().-]{1,24}")
"""Labels that are kept as codes. Other labels become lower case words with hyphens."""
FORMULA = "=+-@"
"""Characters that begin no code, because a spreadsheet would compute its cell."""
Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the user states about a table and its signals. Empty texts: not stated."""

    name: str
    patient: str
    records: Path
    """Folder of the signal files, or one array file."""
    record: str = ""
    file: str = ""
    row: str = ""
    labels: str = ""
    """Names of columns with commas between them."""
    blank: Literal["", "negative"] = ""
    """What an empty cell means in label columns of 0 and 1."""
    separator: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    """age, sex, fold, site, device -> column."""
    rate: int | None = None
    unit: str = ""
    leads: str = ""
    array: str = ""
    seconds: float = SECONDS
    licence: str = ""
    source: str = ""
    version: str = ""


def import_table(path: Path, out: Path, choices: Choices, log: Log = lambda line: None) -> Records:
    """Write a plain folder to `out` and return its Records. `log` receives a line for each assumption.

    The signals stay where they are. Raises DataError for what cannot be read and for what must be stated.
    """
    plain.refuse_name(choices.name, "--name")
    plain.refuse_version(choices.version, "--version")
    for key in ("licence", "source"):
        if not getattr(choices, key).isprintable():
            raise DataError(f"--{key} is {getattr(choices, key)[:40]!r}, expected a single line of text")
    if choices.rate is not None and not 1 <= choices.rate <= MAX_RATE:
        raise DataError(f"--rate is {choices.rate}, expected 1 to {MAX_RATE:,} Hz")
    if out.exists():
        raise DataError(f"{out} exists already; remove it or choose another folder with --out")
    if not 0.1 <= choices.seconds <= plain.MOST_SECONDS:
        raise DataError(f"--seconds is {choices.seconds:g}, expected 0.1 to {plain.MOST_SECONDS:,}")
    given = read_text_table(path, separators=",;\t", may_be_pipe=True)
    if given.separator != ",":
        log(f"columns of {path.name} are separated by {'tabs' if given.separator == chr(9) else given.separator!r}")
    table, labels = _tables(given, choices, log)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(out) as part:
            _write(part, out, table, labels, choices, log)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}; choose another folder with --out") from None
    loaded = plain.load_records(out)
    assert loaded is not None
    return loaded


def _write(part: Path, out: Path, table: TextTable, labels: TextTable, choices: Choices, log: Log) -> None:
    """Write the data set into `part`, a folder beside `out` that will be named `out`."""
    is_copied = choices.records.suffix.lower() == ".mat" and choices.records.is_file()
    if is_copied:
        choices = _copied(choices, len(table.rows), part, log)
    format, table, rate = _signals(table, choices, log)
    place = "." if is_copied else _signals_folder(choices.records, out)
    for key in ("licence", "source"):
        if not getattr(choices, key):
            log(f"{key} is unknown; pages will say so: state it with --{key}")
    log(f"records are cut to their middle {choices.seconds:g} s or padded with zeros (--seconds)")
    records = plain.make_records(
        part,
        table,
        labels,
        name=choices.name,
        rate=rate,
        format=format,
        signals=place,
        seconds=choices.seconds,
        licence=choices.licence or "unknown",
        source=choices.source or "unknown",
    )
    if "fold" not in table.columns:
        log("folds are dealt by patient, stratified by label: 1-8 train, 9 selects, 10 tests")
    _read_first(records, rate, log)
    write_into(part, plain.RECORDS, _csv(table.columns, table.rows))
    write_into(part, plain.LABELS, _csv(labels.columns, labels.rows))
    write_into(part, plain.ABOUT, _toml(choices, format, rate, place, records.content[:8]))
    plain.load_records(part)  # what was written can be read


def _tables(given: TextTable, choices: Choices, log: Log) -> tuple[TextTable, TextTable]:
    """Return the tables of records and labels, from the user's table."""
    used = {"record": choices.record or given.columns[0], "patient": choices.patient}
    if not choices.record:
        log(f"records are named by the first column, {given.columns[0]} (--record)")
    for name in ("file", "row"):
        if getattr(choices, name):
            used[name] = getattr(choices, name)
    for name, words in COMMON_NAMES.items():
        if choices.columns.get(name):
            used[name] = choices.columns[name]
        elif near := [column for column in given.columns if column.lower() in words and column not in used.values()]:
            used[name] = near[0]
            log(f"{name} is column {near[0]} (--{name})")
    cells = {name: _converted(given, name, column, log) for name, column in used.items()}
    chosen = _label_columns(given, choices, set(used.values()), log)
    _require_statements(given, chosen, choices.blank, log)
    codes, labels = _labels(given, chosen, choices.separator, log)
    cells["labels"] = [plain.LABEL_SEPARATOR.join(of_record) for of_record in codes]
    rows = list(zip(*cells.values(), strict=True))
    return TextTable(
        given.path, tuple(cells), rows, names={**used, "labels": ", ".join(chosen)}, numbers=given.numbers
    ), labels


def _converted(given: TextTable, name: str, column: str, log: Log) -> list[str]:
    """Return the cells of a column in the form of records.csv: ages without units, sexes in words, folds as numbers."""
    cells = given.column(column)
    if name == "age":
        return [re.sub(r"^0*(?=\d)|(?<=\d)\s*[Yy]$", "", cell).replace(",", ".") for cell in cells]
    if name == "fold" and set(map(str.lower, cells)) <= set(FOLDS):
        log(f"{column} gives train, val and test: folds 1, 9 and 10")
        return [FOLDS[cell.lower()] for cell in cells]
    if name in ("age", "fold", "patient", "record") and any(cells) and all(re.fullmatch(r"\d+\.0|", c) for c in cells):
        log(f"{column} holds whole numbers with .0 behind them, which is removed")
        return [cell.removesuffix(".0") for cell in cells]
    return cells


def _label_columns(given: TextTable, choices: Choices, used: set[str], log: Log) -> list[str]:
    """Return the columns that hold labels; `log` receives which they are, and which nearly are, if not stated."""
    if choices.labels in given.columns:
        return [choices.labels]
    if choices.labels:
        chosen = [name.strip() for name in choices.labels.split(",")]
        for name in chosen:
            given.column(name)  # raises DataError if there is none
        return list(dict.fromkeys(chosen))
    free = [column for column in given.columns if column not in used]
    chosen = [column for column in free if _is_indicator(given.column(column))]
    if not chosen:
        raise DataError(
            f"{given.path} has no columns of 0 and 1: name the columns that hold labels with --labels, of: "
            f"{', '.join(free)[:400] or 'none is left'}"
        )
    log(f"labels are the columns of 0 and 1: {', '.join(chosen)} (--labels)")
    for column in free:
        odd = {row: cell for row, cell in enumerate(given.column(column)) if cell.lower() not in INDICATORS}
        if 0 < len(odd) < len(given.rows) / 2 and any(map(bool, given.column(column))):
            row, cell = next(iter(odd.items()))
            log(f"{given.where(row, column)} is {cell[:40]!r}, so this column holds no labels of 0 and 1 (--labels)")
    return chosen


def _is_indicator(cells: Sequence[str]) -> bool:
    words = {cell.lower() for cell in cells}
    return words <= set(INDICATORS) and any(map(INDICATORS.__getitem__, words))


def _require_statements(given: TextTable, columns: Sequence[str], blank: str, log: Log) -> None:
    """Raise DataError for an empty cell in a column of 0 and 1, unless `blank` or the table says that it is a negative.

    The table says so, and `log` receives it, where no such column holds a 0: then only positives are written.
    """
    cells_of = {column: cells for column in columns if _is_indicator(cells := given.column(column))}
    empty = {column: [row for row, cell in enumerate(cells) if not cell] for column, cells in cells_of.items()}
    column = next((column for column, rows in empty.items() if rows), "")
    if not column or blank == "negative":
        return
    if any(cell and not INDICATORS[cell.lower()] for cells in cells_of.values() for cell in cells):
        raise DataError(
            f"{given.path}: column {column} is empty in {len(empty[column]):,} of {len(given.rows):,} rows, the first "
            f"row {given.number(empty[column][0])}; leave these records out, or say --blank negative"
        )
    log(f"{', '.join(cells_of)}: no cell is 0, so an empty cell is a negative")


def _labels(
    given: TextTable, columns: Sequence[str], separator: str, log: Log
) -> tuple[list[tuple[str, ...]], TextTable]:
    """Return the codes [record] of each record, and the table of labels.

    A label that stands in several columns of lists means another thing in each: its codes begin with the column.
    """
    held = {column: _labels_of(given, column, separator, log) for column in columns}
    lists = [column for column in columns if not _is_indicator(given.column(column))]
    columns_of: dict[str, list[str]] = {}
    for column in lists:
        for label in dict.fromkeys(label for labels in held[column] for label in labels):
            columns_of.setdefault(label, []).append(column)
    codes: list[dict[str, None]] = [{} for _ in given.rows]
    rows: dict[str, tuple[str, str, str, str]] = {}
    spelt: dict[str, str] = {}  # codes that differ in case alone are one, as first spelt
    for column, of_record in held.items():
        group = _code(column).lower() if column in lists and len(columns) > 1 else ""
        for row, labels in enumerate(of_record):
            for label in labels:
                is_shared = len(columns_of.get(label, ())) > 1
                code = f"{group}-{_code(label)}" if is_shared else _code(label)
                code = spelt.setdefault(code.lower(), code)
                codes[row][code] = None
                known = rows.setdefault(code, (code, label, "" if is_shared else _matching(label, "exact"), group))
                if _plain(known[1]) != _plain(label):
                    raise DataError(
                        f"{given.where(row, column)}: labels {known[1]!r} and {label!r} both become the code {code}; "
                        "rename one of them in the table"
                    )
    for label, of_label in columns_of.items():
        if len(of_label) > 1:
            log(f"{label} stands in {' and '.join(of_label)}, so it is a label of each: {_code(of_label[0])}-..., ...")
    if near := [f"{code} ~ {ptbxl}" for code, label, *_ in rows.values() if (ptbxl := _matching(label, "near"))]:
        log(f"labels that are nearly PTB-XL's: {', '.join(near)}; where they mean the same, enter it in labels.csv")
    if equal := [f"{code} = {ptbxl}" for code, _, ptbxl, _ in rows.values() if ptbxl]:
        log(f"labels that equal PTB-XL's by name or code: {', '.join(equal)} (column ptbxl of labels.csv)")
    ordered = [rows[code] for code in sorted(rows)]
    return [tuple(of_record) for of_record in codes], TextTable(
        given.path, ("code", "description", "ptbxl", "group"), [tuple(row) for row in ordered]
    )


def _labels_of(given: TextTable, column: str, separator: str, log: Log) -> list[list[str]]:
    """Return the labels [record] that a column gives: its own name where it holds 1, else those of its lists."""
    cells = given.column(column)
    if any(cells) and not any(INDICATORS.get(cell.lower(), True) for cell in cells):
        raise DataError(f"{given.path}: no record has label {column}, its cells are 0; leave it out of --labels")
    if _is_indicator(cells):
        return [[column] if INDICATORS[cell.lower()] else [] for cell in cells]
    if _is_indicator([cell for cell in cells if cell.lower() not in UNKNOWN]):
        row = next(row for row, cell in enumerate(cells) if cell.lower() in UNKNOWN)
        raise DataError(
            f"{given.where(row, column)} is {cells[row]!r} in a column of 0 and 1; remove the records whose label is "
            "not known, or decide it"
        )
    odd = [row for row, cell in enumerate(cells) if cell.lower() not in INDICATORS]
    if len(odd) < sum(map(bool, cells)) / 2:
        raise DataError(
            f"{given.where(odd[0], column)} is {cells[odd[0]][:40]!r} in a column of 0 and 1; correct it, or leave the "
            "record out; numbers of classes must become names"
        )
    of_record = [_split(given.where(row, column), cell, separator) for row, cell in enumerate(cells)]
    num = len({label for labels in of_record for label in labels})
    if not num:
        raise DataError(f"{given.path}: column {column} of --labels is empty in all rows")
    if num > MANY_LABELS:
        raise DataError(
            f"{given.path}: column {column} holds {num:,} different labels, as free text does; "
            "expected a list of labels: name another column with --labels, or --separator"
        )
    between = repr(separator) if separator else "; | or line ends"
    log(f"{column} holds {num} labels, separated by {between} (--separator)")
    return of_record


def _plain(label: str) -> str:
    """Return a label without case and kind of space: two that differ in nothing else are one."""
    return re.sub(r"[\s_-]+", " ", label).casefold()


def _split(where: str, cell: str, separator: str) -> list[str]:
    """Return the labels in a cell: a list of Python or JSON, or texts with a separator between them.

    Raises DataError for a list that cannot be read, and for a word that is no label, such as `nan`.
    """
    if cell.startswith(("[", "{")) or TUPLE.fullmatch(cell):
        if BARE.search(cell):
            raise DataError(f"{where} is {cell[:40]!r}, without commas between its labels, as NumPy prints a list")
        try:
            value = ast.literal_eval(cell)
            labels = [value] if isinstance(value, str) else [str(label) for label in value]
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise DataError(f"{where} is {cell[:40]!r}, expected a list such as ['AFIB', 'LVH']") from None
    else:
        labels = cell.split(separator) if separator else LISTS.split(cell)
    # a code may not hold the separator of records.csv
    labels = [label for each in labels if (label := " ".join(each.replace(plain.LABEL_SEPARATOR, " ").split()))]
    if unknown := [label for label in labels if label.lower() in UNKNOWN]:
        raise DataError(
            f"{where} holds {unknown[0]!r}, which is no label; leave the cell empty where a record has none, and "
            "remove the records whose labels are not known"
        )
    if numbers := [label for label in labels if label.lower() in INDICATORS]:
        raise DataError(
            f"{where} holds {numbers[0]!r}, which names no label beside others; write names in a list of labels, and "
            "only 0 and 1 in a column of one label"
        )
    return labels


def _code(label: str) -> str:
    if CODE.fullmatch(bare := label.lstrip(FORMULA)):
        return bare
    return re.sub(r"[\W_]+", "-", label.lower()).strip("-") or "label"


def _matching(label: str, match: str) -> str:
    """Return the PTB-XL code with an `exact` or a `near` match; empty if there is none."""
    row = ptbxl_code(label)
    return row.ptbxl if row and row.match == match else ""


def _signals(table: TextTable, choices: Choices, log: Log) -> tuple[SignalFormat, TextTable, int]:
    """Return the format, the table with a column `file`, and the rate. Check that every record is there."""
    place = choices.records
    if place.is_file():
        format, table = _one_array(table, choices, log)
    elif place.is_dir():
        format, table = _files(table, choices, log)
    else:
        raise DataError(f"--records {place} is missing; expected the folder of the signal files, or one array file")
    if format.name in STATED:
        return format, table, format.rate
    for name in ("unit", "leads"):
        if getattr(choices, name):
            raise DataError(f"--{name} is stated, but {format.name} files state it themselves; leave it out")
    files = table.column("file")
    if format.name != "wfdb":
        rate = read_signals(SignalFile(choices.records / files[0], format=format))[1]
    else:
        format, rate = _check_headers([choices.records / file for file in files], table, log)
    if choices.rate not in (None, rate):
        raise DataError(f"--rate {choices.rate} is stated, but the files in {place} say {rate} Hz; leave it out")
    return format, table, rate


def _copied(choices: Choices, num: int, part: Path, log: Log) -> Choices:
    """Copy the array of a MATLAB file into the data set's folder, and return the choices with the copy as records."""
    given = choices.records
    _stated("npy", ".mat", choices)  # what must be stated is asked for before a large copy
    copy = part / "signals.npy"
    name = copy_array(given, choices.array, copy, None if choices.row else num)
    log(f"array {name} of {given.name} is copied to {copy.name} in the new folder: a .mat file is read as a whole")
    return replace(choices, records=copy, array="")


def _one_array(table: TextTable, choices: Choices, log: Log) -> tuple[SignalFormat, TextTable]:
    """Return the format of one array file for all records, and the table with columns `file` and `row`."""
    place = choices.records
    kind = ENDINGS.get(place.suffix.lower(), "")
    if kind not in STATED:
        raise DataError(f"--records {place} {_unreadable(place.suffix)}")
    format = _stated(kind, place.suffix, choices)
    cells = {name: table.column(name) for name in table.columns if name != "file"}
    num = len(table.rows)
    cells["file"] = [place.with_suffix("").name] * num
    length = num_records(SignalFile(place.with_suffix(""), 0, format))
    for row, text in enumerate(cells.get("row", ())):
        if text.isdecimal() and int(text) >= length:
            raise DataError(f"{table.where(row, 'row')} is {text}, and {place} holds {length:,} records, from 0")
    if "row" not in cells:
        cells["row"] = list(map(str, range(num)))
        log(f"record 0 of {place.name} is the first row of {table.path.name}, and so on (--row)")
        if length != num:
            raise DataError(
                f"{place} holds {length:,} records and {table.path} has {num:,} rows: name the column with each "
                "record's place in the array, from 0, with --row"
            )
    return format, TextTable(
        table.path, tuple(cells), list(zip(*cells.values(), strict=True)), names=table.names, numbers=table.numbers
    )


def _stated(kind: str, ending: str, choices: Choices) -> SignalFormat:
    """Return the format of array files with rate, leads and unit as stated. Raises DataError for what is not."""
    if choices.rate is None:
        raise DataError(f"a {ending} file does not state its sampling rate: give it in Hz with --rate")
    if not choices.unit:
        raise DataError(
            f"a {ending} file does not state the unit of its values: give it with --unit (mV, uV, V, 4.88 uV)"
        )
    if not choices.leads:
        raise DataError(f"a {ending} file does not name its leads: give them in order with --leads {','.join(LEADS)}")
    try:
        millivolts(choices.unit)
    except DataError as error:
        raise DataError(f"--unit {error}") from None
    leads = tuple(lead.strip() for lead in choices.leads.split(","))
    try:
        choose_leads(leads, LEADS)
    except DataError as error:
        raise DataError(f"--leads {error}") from None
    named = replace(FORMATS[kind], endings=(ending,), rate=choices.rate, leads=leads, unit=choices.unit)
    return replace(named, array=choices.array)


def _files(table: TextTable, choices: Choices, log: Log) -> tuple[SignalFormat, TextTable]:
    """Return the format of the files in a folder, and the table with each record's file in column `file`."""
    files = [file for file in choices.records.rglob("*") if file.is_file()]
    kinds = Counter(ENDINGS[file.suffix.lower()] for file in files if file.suffix.lower() in ENDINGS)
    if not kinds:
        others = Counter(file.suffix.lower() for file in files if file.suffix.lower() in CONVERTERS)
        ending = others.most_common(1)[0][0] if others else ""
        raise DataError(f"--records {choices.records} {_unreadable(ending)}")
    if len(kinds) > 1 and "wfdb" not in kinds:
        raise DataError(
            f"--records {choices.records} holds files of {' and '.join(sorted(kinds))}; keep one kind there"
        )
    kind = "wfdb" if "wfdb" in kinds else next(iter(kinds))
    endings = sorted({file.suffix for file in files if ENDINGS.get(file.suffix.lower()) == kind})
    if len(endings) > 1:
        raise DataError(f"--records {choices.records} holds files that end in {' and '.join(endings)}; rename some")
    format = FORMATS[kind]
    format = _stated(kind, endings[0], choices) if kind in STATED else format
    format = format if kind in ("wfdb", *STATED) else replace(format, endings=(endings[0],))
    paths = {
        file.relative_to(choices.records).with_suffix("").as_posix() for file in files if file.suffix == endings[0]
    }
    found = _match(table, paths, choices.records, endings[0])
    log(f"each record has a file {endings[0]} of its name in {choices.records}: {found[0]}{endings[0]}, ...")
    cells = {name: table.column(name) for name in table.columns if name != "file"}
    cells["file"] = found
    return format, TextTable(
        table.path, tuple(cells), list(zip(*cells.values(), strict=True)), names=table.names, numbers=table.numbers
    )


def _match(table: TextTable, paths: Iterable[str], place: Path, ending: str) -> list[str]:
    """Return the path [record] of each record's file, which the table gives as a path or by its last part alone."""
    by_name: dict[str, list[str]] = {}
    for path in sorted(paths):
        by_name.setdefault(path.rpartition("/")[2], []).append(path)
        if "/" in path:
            by_name.setdefault(path, []).append(path)
    asked = "file" if "file" in table.columns else "record"
    found, missing = [], []
    for row, text in enumerate(table.column(asked)):
        name = text.removesuffix(ending).removesuffix(".dat").removeprefix("./")
        places = by_name.get(name, [])
        if len(places) > 1:
            raise DataError(
                f"{table.where(row, asked)}: {name!r} is the name of {len(places)} files in {place} ({places[0]}, "
                f"{places[1]}); name a column with paths within that folder with --file"
            )
        if not places:
            missing.append((row, name))
        found += places
    if missing:
        row, name = missing[0]
        examples = ", ".join(name + ending for name in list(by_name)[:3])
        zeros = [known for known in by_name if name and known.lstrip("0") == name]
        others = f", and lacks {len(missing) - 1:,} others" if len(missing) > 1 else ""
        hint = f"; has a spreadsheet removed the zeros of {zeros[0]}?" if zeros else ""
        raise DataError(
            f"{table.where(row, asked)}: {place} has no {name[:60]}{ending}{hint}{others}; "
            f"it has {examples}, ...; remove these rows, or name the column of the files with --file"
        )
    return found


def _check_headers(paths: Sequence[Path], table: TextTable, log: Log) -> tuple[SignalFormat, int]:
    """Return the format and rate of WFDB records, after a look at every header: one rate, known units, the 12 leads."""
    rates: dict[float, Path] = {}
    endings: dict[str, Path] = {}
    for path in paths:
        file = path.with_name(path.name + ".hea")
        header = read_header(file)
        rates.setdefault(header.rate, file)
        try:
            choose_leads(tuple(channel.scale.lead for channel in header.channels), LEADS)
        except DataError as error:
            raise DataError(f"{file} {error}") from None
        for channel in header.channels:
            if channel.scale.unit.lower() not in MILLIVOLTS:
                raise DataError(f"{file}: lead {channel.scale.lead} is in {channel.scale.unit!r}, expected mV, uV or V")
            stored = Path(channel.file)
            endings.setdefault(stored.suffix if stored.stem == path.name else channel.file, file)
    if len(rates) > 1:
        (first, one), (second, other) = list(rates.items())[:2]
        raise DataError(
            f"{one} says {first:g} Hz and {other} says {second:g} Hz; a data set has one rate: import each alone, or "
            "resample some"
        )
    if len(endings) > 1 or not next(iter(endings)).startswith("."):
        raise DataError(
            f"{next(reversed(endings.values()))} names {next(reversed(endings))} for its samples; expected one file "
            "with the header's name, and one ending for all records"
        )
    (rate,), (ending,) = rates, endings
    log(f"{len(paths):,} headers say {rate:g} Hz, and name the leads and their units")
    return replace(FORMATS["wfdb"], endings=(".hea", ending)), round(rate)


def _read_first(records: Records, rate: int, log: Log) -> None:
    """Read the first record, so that a wrong shape, unit or lead shows now; report its length and what is irregular."""
    notes: list[Note] = []
    source = records.signal_files(rate)[0]
    signals, _ = read_signals(source, LEADS, notes.append)
    length = signals.shape[1]
    lasts, expected = length / rate, records.seconds or SECONDS
    doubt = f", less than the {expected:g} s to which it is padded: is the rate right?" if lasts < expected else ""
    log(f"record {records.table['record'].iloc[0]} has {length:,} samples a lead, {lasts:g} s at {rate} Hz{doubt}")
    for note in notes:
        if note.kind in ("large", "offset", "small"):
            raise DataError(f"{source}: {note.text}")
        log(f"record {records.table['record'].iloc[0]}: {note.text}")


def _unreadable(ending: str) -> str:
    """Return why files with this ending are not read, and how to convert them."""
    known = ", ".join(sorted({*ENDINGS}))
    if ending.lower() in CONVERTERS:
        return f"holds {ending} files, which are not read; convert them: {CONVERTERS[ending.lower()]} (read: {known})"
    return f"holds no signals that are read here: {known}"


def _signals_folder(place: Path, out: Path) -> str:
    """Return the folder of the signals for dataset.toml: relative if it lies beside the data set, else absolute."""
    folder = (place if place.is_dir() else place.parent).resolve()
    near = folder.is_relative_to(out.resolve().parent)
    return os.path.relpath(folder, out.resolve()) if near else str(folder)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([columns, *rows])
    return buffer.getvalue()


def _toml(choices: Choices, format: SignalFormat, rate: int, folder: str, content: str) -> str:
    """Return the text of dataset.toml. A JSON string or list of strings is one of TOML."""
    about = {
        "name": choices.name,
        "version": choices.version,
        "licence": choices.licence or "unknown",
        "source": choices.source or "unknown",
    }
    signals: dict[str, object] = {"format": format.name, "folder": folder, "ending": format.endings[-1]}
    if format.name in STATED:
        signals |= {"leads": list(format.leads), "unit": format.unit}
        signals |= {"array": format.array} if format.array else {}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in about.items() if value]
    lines += [
        f"rate = {rate}  # Hz",
        f"seconds = {choices.seconds:g}  # records are cut to their middle, or padded with zeros",
        f'content = "{content}"  # of records.csv when it was imported; pages append the new one after an edit',
        "",
        "[signals]",
    ]
    return "\n".join(
        [*lines, *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in signals.items()), ""]
    )
