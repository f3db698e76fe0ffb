"""Read and check the CSV files of a data set."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.data.text import HEAD, UTF16, read_text, refuse_pointer
from bench.errors import DataError, first_line
from bench.files import open_file, read_bytes

MAX_FIELD = 1_000_000
"""Maximum number of characters of a cell; a longer one means that a quote is never closed."""


class TextTable(NamedTuple):
    """A table of texts, as written in its file: ids keep their zeros."""

    path: Path
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    """[row, column]; spaces and line ends around a cell are removed."""
    separator: str = ","
    names: Mapping[str, str] = {}
    """Column -> its name in the file, if that is another one, for messages."""
    numbers: Sequence[int] = ()
    """[row] as a spreadsheet counts, empty lines too; without them, from 2."""

    def column(self, name: str) -> list[str]:
        """Return the cells [row] of a column. Raises DataError if there is no such column."""
        if name not in self.columns:
            raise DataError(f"{self.path} has no column {name[:40]!r}; it has {', '.join(self.columns)[:400]}")
        at = self.columns.index(name)
        return [row[at] for row in self.rows]

    def number(self, row: int) -> int:
        """Return the number of a row as a spreadsheet counts: that of names is mostly 1."""
        return self.numbers[row] if self.numbers else row + 2

    def where(self, row: int, column: str = "") -> str:
        """Return the place of a cell for messages."""
        return f"{self.path}, row {self.number(row)}" + (f", column {self.names.get(column, column)}" if column else "")


def read_text_table(path: Path, separators: str = ",", *, may_be_pipe: bool = False) -> TextTable:
    """Read a CSV file as texts: with or without a byte order mark, in UTF-8 or UTF-16. Empty lines are skipped.

    The separator is the first of `separators` that splits the row of names. Raises DataError, with the row, if the file
    cannot be read, a name of a column is empty or repeated, or a row has another number of cells.
    """
    text = read_text(path, may_be_pipe=may_be_pipe)
    head = text.partition("\n")[0]
    separator = next((each for each in separators if each in head), separators[0])
    if separator not in head and (other := next((each for each in ";\t" if each in head), "")):
        kind = "semicolons" if other == ";" else "tabs"
        raise DataError(f"{path} has {kind} between its columns, as Excel saves it in some countries; expected commas")
    try:
        csv.field_size_limit(MAX_FIELD)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        lines = [
            (number, tuple(cell.strip() for cell in row))
            for number, row in enumerate(reader, 1)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise DataError(f"{path} is not a readable CSV file: {error}") from None
    if not lines:
        raise DataError(f"{path} is empty; expected a row with the names of the columns")
    (_, columns), numbers, rows = lines[0], [number for number, _ in lines[1:]], [row for _, row in lines[1:]]
    for name in columns:
        if not name or columns.count(name) > 1:
            raise DataError(f"{path}, row 1: column {name[:40]!r} must have a name that no other column has")
    for number, row in zip(numbers, rows, strict=True):
        if len(row) != len(columns):
            raise DataError(
                f"{path}, row {number} has {len(row)} cells and row 1 has {len(columns)}; put a cell that holds a "
                f"{separator!r} into double quotes"
            )
    if not rows:
        raise DataError(f"{path} has no rows below the names of the columns")
    return TextTable(path, columns, rows, separator, numbers=numbers)


def whole_numbers(values: pd.Series, names: pd.Series, path: Path) -> pd.Series:
    """Convert a column to int64. `names` identifies the rows in the message. Raises DataError for any other value."""
    numbers = pd.to_numeric(values, errors="coerce")
    good = (numbers % 1 == 0) & (numbers.abs() < 2**53)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        where = "" if values.name == names.name else f" of {names.name} {names.iloc[row]}"
        raise DataError(f"{path}: {values.name}{where} is {str(values.iloc[row])[:40]!r}, expected a whole number")
    return numbers.astype(np.int64)


def check_patients(table: pd.DataFrame, path: Path) -> None:
    """Raise DataError if a patient has records in more than one of folds 1-8, 9 and 10. `path` is the table's file."""
    patients = table["patient" if "patient" in table else "patient_id"]
    parts = table["strat_fold"].clip(lower=8).groupby(patients).nunique()
    torn = parts.index[parts > 1]
    if len(torn):
        folds = sorted(set(table.loc[patients == torn[0], "strat_fold"]))
        raise DataError(
            f"{path}: patient {torn[0]} has records in folds {', '.join(map(str, folds))}, and so have "
            f"{len(torn) - 1:,} other patients in more than one of folds 1-8, 9 and 10: the test would leak; "
            "give all records of a patient one fold"
        )


def refuse_row_numbers(codes: pd.Series, path: Path) -> None:
    """Raise DataError if the first column, which should name the rows, counts them: pandas' index, saved along."""
    numbers = pd.to_numeric(codes, errors="coerce")
    if len(codes) > 1 and numbers.notna().all() and (numbers.diff().dropna() == 1).all():
        raise DataError(
            f"{path}: the first column counts the rows ({codes.iloc[0]}, {codes.iloc[1]}, ...), as pandas saves its "
            "index; expected codes such as NORM: save it with index=False, or get the file again"
        )


def read_csv(path: Path, columns: tuple[str, ...], expected: str = "") -> pd.DataFrame:
    """Read a table that must have rows and these columns. `expected` completes the message if the file is missing."""
    try:
        with open_file(path) as file:
            table = pd.read_csv(file, low_memory=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: {expected}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        _refuse_saved_otherwise(path, columns)
        raise DataError(f"{path} is not a readable CSV file: {first_line(error)}") from None
    missing = [column for column in columns if column not in table]
    if missing:
        _refuse_saved_otherwise(path, columns)
        raise DataError(
            f"{path} lacks column {', '.join(missing)}; it has {', '.join(map(str, table.columns[:8]))}, ..."
        )
    if table.empty:
        raise DataError(f"{path} has no rows")
    return table


def _refuse_saved_otherwise(path: Path, columns: tuple[str, ...]) -> None:
    """Raise DataError if another program has saved the table in an unreadable form: UTF-16, other separators."""
    content = read_bytes(path)
    refuse_pointer(path, content[:HEAD])
    if content.startswith(UTF16):
        raise DataError(f"{path} is in UTF-16, as Excel's `Unicode text`; save it as CSV UTF-8, with commas")
    try:
        first = content.decode("utf-8-sig").partition("\n")[0].strip()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not in UTF-8; save it as CSV UTF-8, or get the file again") from None
    for separator, separators in ((";", "semicolons"), ("\t", "tabs")):
        if set(columns) <= {name.strip('" ') for name in first.split(separator)}:
            raise DataError(
                f"{path} has {separators} between its columns, as Excel saves it in some countries; expected commas: "
                "download the file again, or save it with commas"
            )
