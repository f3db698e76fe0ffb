"""Read and check the CSV files of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.data.text import HEAD, UTF16, refuse_pointer
from bench.errors import DataError


def whole_numbers(values: pd.Series, names: pd.Series, path: Path) -> pd.Series:
    """Convert a column to int64. `names` identifies the rows in the message. Raises DataError for any other value."""
    numbers = pd.to_numeric(values, errors="coerce")
    good = (numbers % 1 == 0) & (numbers.abs() < 2**53)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        where = "" if values.name == names.name else f" of {names.name} {names.iloc[row]}"
        raise DataError(f"{path}: {values.name}{where} is {str(values.iloc[row])[:40]!r}, expected a whole number")
    return numbers.astype(np.int64)


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
        table = pd.read_csv(path, low_memory=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: {expected}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        _refuse_saved_otherwise(path, columns)
        raise DataError(f"{path} is not a readable CSV file: {str(error).splitlines()[0]}") from None
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
    content = path.read_bytes()
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
