"""A PTB-XL folder becomes Records: the table, which version of the dataset it is, and where each signal lies."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.errors import DataError

TABLE, STATEMENTS = "ptbxl_database.csv", "scp_statements.csv"
COLUMNS = ("ecg_id", "patient_id", "strat_fold", "scp_codes", "filename_lr", "filename_hr")
STATEMENT_COLUMNS = ("diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass")
FILENAMES = {100: "filename_lr", 500: "filename_hr"}

KNOWN_CONTENTS = {
    "fde5a7e4": "1.0.3",
}
"""The first 8 digits of `Records.content` of the published versions."""


@dataclass(frozen=True, eq=False)
class Records:
    """The records of a dataset in the order of ecg_id; [record] stands for that order."""

    folder: Path
    table: pd.DataFrame
    """One row a record, indexed by ecg_id: PTB-XL's columns; `scp_codes` parsed to code -> likelihood in percent."""
    statements: pd.DataFrame
    """One row a statement, indexed by code."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ecg_id(self) -> npt.NDArray[np.int64]:
        """[record]"""
        return self.table.index.to_numpy(np.int64)

    @property
    def patient_id(self) -> npt.NDArray[np.int64]:
        """[record]"""
        return self.table["patient_id"].to_numpy(np.int64)

    @property
    def strat_fold(self) -> npt.NDArray[np.int64]:
        """[record], 1 to 10"""
        return self.table["strat_fold"].to_numpy(np.int64)

    @property
    def scp_codes(self) -> list[Mapping[str, float]]:
        """[record], statement code -> likelihood in percent"""
        return list(self.table["scp_codes"])

    @cached_property
    def content(self) -> str:
        """SHA-256 over what defines the dataset's protocol: ecg_id, patient, fold and codes of every record."""
        return hashlib.sha256("".join(self.lines()).encode()).hexdigest()

    def lines(self) -> list[str]:
        """[record], what defines the dataset's protocol, as it is hashed."""
        return [
            f"{ecg_id} {patient} {fold} {sorted(codes.items())}\n"
            for ecg_id, patient, fold, codes in zip(
                self.ecg_id, self.patient_id, self.strat_fold, self.scp_codes, strict=True
            )
        ]

    @property
    def synthetic(self) -> bool:
        """Whether any record says of itself that it is synthetic."""
        return "device" in self.table and bool(self.table["device"].astype(str).str.startswith("synthetic").any())

    @property
    def name(self) -> str:
        """The name for people, which follows from the content, and for folders of boards."""
        if self.synthetic:
            return f"synthetic-{self.content[:8]}"
        return f"ptb-xl-{KNOWN_CONTENTS.get(self.content[:8], self.content[:8])}"

    def paths(self, rate: int) -> list[Path]:
        """Where the signals at 100 or 500 Hz lie, without extension, [record]; they need not exist."""
        if rate not in FILENAMES:
            raise DataError(f"PTB-XL has signals at 100 and 500 Hz, not at {rate} Hz; use --source-rate 100 or 500")
        return [self.folder / name for name in self.table[FILENAMES[rate]].astype(str)]


def load_records(folder: Path) -> Records:
    """Read and check the two tables of a PTB-XL folder; no signal is touched."""
    if not folder.is_dir():
        raise DataError(
            f"no dataset at {folder}: expected a PTB-XL folder; name it with --data DIR or $BENCH_DATA, "
            "or write a synthetic one with `bench data demo DIR`"
        )
    table = _read_csv(folder / TABLE, COLUMNS)
    statements = _read_csv(folder / STATEMENTS, STATEMENT_COLUMNS)
    statements.index = pd.Index(statements.iloc[:, 0].astype(str), name="code")
    for column in ("ecg_id", "patient_id", "strat_fold"):
        table[column] = _whole_numbers(table[column], table["ecg_id"], folder)
    table = table.set_index("ecg_id")
    if table.index.has_duplicates:
        raise DataError(f"{folder / TABLE}: ecg_id {table.index[table.index.duplicated()][0]} stands there twice")
    if statements.index.has_duplicates:
        twice = statements.index[statements.index.duplicated()][0]
        raise DataError(f"{folder / STATEMENTS}: statement {twice} stands there twice")
    folds = set(table["strat_fold"])
    if not folds <= set(range(1, 11)):
        raise DataError(f"{folder / TABLE}: strat_fold must be 1 to 10, found {sorted(folds - set(range(1, 11)))[:3]}")
    _check_patients(table, folder)
    codes: list[Any] = [
        _parse_codes(text, ecg_id, folder) for ecg_id, text in zip(table.index, table["scp_codes"], strict=True)
    ]
    table["scp_codes"] = codes
    return Records(folder, table.sort_index(), statements)


def _check_patients(table: pd.DataFrame, folder: Path) -> None:
    """Raises DataError if a patient has records in two of training (folds 1-8), selection (9) and test (10)."""
    parts = table["strat_fold"].clip(lower=8).groupby(table["patient_id"]).nunique()
    torn = parts.index[parts > 1]
    if len(torn):
        folds = sorted(set(table.loc[table["patient_id"] == torn[0], "strat_fold"]))
        raise DataError(
            f"{folder / TABLE}: patient {torn[0]} has records in folds {', '.join(map(str, folds))}, and so have "
            f"{len(torn) - 1:,} other patients in more than one of folds 1-8, 9 and 10: the test would leak; "
            "give all records of a patient one fold"
        )


def _whole_numbers(values: pd.Series, ecg_id: pd.Series, folder: Path) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    good = (numbers % 1 == 0) & (numbers.abs() < 2**53)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        where = "" if values.name == "ecg_id" else f" of ecg_id {ecg_id.iloc[row]}"
        raise DataError(
            f"{folder / TABLE}: {values.name}{where} is {str(values.iloc[row])[:40]!r}, expected a whole number"
        )
    return numbers.astype(np.int64)


def _read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, low_memory=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: a PTB-XL folder holds {TABLE}, {STATEMENTS} and records100/") from None
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


def _parse_codes(text: object, ecg_id: object, folder: Path) -> dict[str, float]:
    try:
        codes = ast.literal_eval(str(text))
        parsed = {str(code): float(likelihood) for code, likelihood in codes.items()}
        if not all(0 <= likelihood <= 100 for likelihood in parsed.values()):
            raise ValueError("a likelihood is in percent")
        return parsed
    except (ValueError, SyntaxError, AttributeError, TypeError, MemoryError, RecursionError):
        raise DataError(
            f"{folder / TABLE}: scp_codes of ecg_id {ecg_id} is {str(text)[:60]!r}, "
            "expected a mapping such as {'NORM': 100.0, 'SR': 0.0}"
        ) from None
