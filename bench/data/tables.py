"""Read and check the CSV files of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

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


def read_csv(path: Path, columns: tuple[str, ...], expected: str = "") -> pd.DataFrame:
    """Read a table that must have rows and these columns. `expected` completes the message if the file is missing."""
    try:
        table = pd.read_csv(path, low_memory=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: {expected}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable CSV file: {str(error).splitlines()[0]}") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(
            f"{path} lacks column {', '.join(missing)}; it has {', '.join(map(str, table.columns[:8]))}, ..."
        )
    if table.empty:
        raise DataError(f"{path} has no rows")
    return table
