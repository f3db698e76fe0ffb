"""What every dataset's reader gives: its records, their labels and folds, and where their signals lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.errors import DataError


@dataclass(frozen=True, eq=False)
class Records:
    """The records of a dataset in the order of ecg_id; [record] stands for that order."""

    folder: Path
    table: pd.DataFrame
    """One row a record, indexed by ecg_id: PTB-XL's columns; `scp_codes` parsed to code -> likelihood in percent."""
    statements: pd.DataFrame
    """One row a statement, indexed by code."""
    filenames: Mapping[int, str]
    """Hz -> the column of `table` that names the files, without ending."""
    dataset: str = "ptb-xl"
    """Which tasks fit."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """The first 8 digits of `content` -> the published version that has it."""
    folds: str = ""
    """Whose folds they are, where a dataset has none of its own."""
    ending: str = ".dat"
    """Of the files that hold the signals."""
    seconds: float | None = None
    """What each record is cut or padded to, where their lengths differ."""
    others: tuple[str, ...] = ()
    """Names of files that belong to the dataset beside its records."""

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

    @cached_property
    def synthetic(self) -> bool:
        """Whether any record says of itself that it is synthetic."""
        return "device" in self.table and bool(self.table["device"].astype(str).str.startswith("synthetic").any())

    @property
    def name(self) -> str:
        """The name for people, which follows from the content, and for folders of boards."""
        if self.synthetic:
            return f"synthetic-{self.content[:8]}"
        words = [self.dataset, self.folds, self.versions.get(self.content[:8], self.content[:8])]
        return "-".join(word for word in words if word)

    def paths(self, rate: int) -> list[Path]:
        """Where the signals at that rate lie, without ending, [record]; they need not exist."""
        return [self.folder / name for name in self.names(rate)]

    def names(self, rate: int) -> list[str]:
        """The same within the folder, [record]."""
        if rate not in self.filenames:
            raise DataError(
                f"{self.dataset} has signals at {' and '.join(map(str, self.filenames))} Hz, not at {rate} Hz; "
                f"use --source-rate {' or '.join(map(str, self.filenames))}"
            )
        return [str(name) for name in self.table[self.filenames[rate]]]
