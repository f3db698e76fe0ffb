"""What a data set's reader returns: records with statements, patients and folds, and the files of their signals."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.data.formats import WFDB, SignalFile, SignalFormat
from bench.errors import DataError
from bench.files import open_file

T = TypeVar("T")
SECONDS = 10.0
"""Length of the records of PTB-XL, and of those of another data set that states no length."""
SAMPLED, BLOCK = 16, 4096
"""Largest number of signal files that are sampled, and of blocks read from each; size of a block in bytes."""


@dataclass(frozen=True, eq=False)
class Records:
    """The records of a data set, sorted by ecg_id. Arrays [record] are in this order."""

    folder: Path
    table: pd.DataFrame
    """One row for each record, indexed by ecg_id, with PTB-XL's columns; `scp_codes` maps code -> likelihood in %."""
    statements: pd.DataFrame
    """One row for each statement, indexed by code."""
    filenames: Mapping[int, str]
    """Sampling rate in Hz -> the column of `table` that holds the file names, relative to `folder`, without ending."""
    dataset: str = "ptb-xl"
    """Name of the data set; only tasks with the same `dataset` apply."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """First 8 hex digits of `content` -> published version."""
    folds: str = ""
    """Source of the folds, if the data set defines none of its own."""
    format: SignalFormat = WFDB
    """How the files hold signals. If a file holds many records, `row` in `table` is a record's position in it."""
    seconds: float | None = None
    """Length to which each record is cut or padded, if lengths differ."""
    others: tuple[str, ...] = ()
    """Names of the dataset's files other than its records."""
    licence: str = ""
    """Licence of the data, for pages."""
    source: str = ""
    """Origin of the data, an address or a citation, for pages."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def stated(self) -> dict[str, Any]:
        """What the data set states of its signal files; empty for WFDB records of 10 s or of one length."""
        form = self.format
        stated = {
            "format": form.name,
            "rate": form.rate,
            "leads": list(form.leads),
            "unit": form.unit,
            "array": form.array,
        }
        length = {} if self.seconds in (None, SECONDS) else {"seconds": self.seconds}
        return length if form.name == WFDB.name else stated | length

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
        """SHA-256 over ecg_id, patient, fold and codes of every record."""
        return hashlib.sha256("".join(self.lines()).encode()).hexdigest()

    def lines(self) -> list[str]:
        """The text [record] that `content` hashes."""
        return [
            f"{ecg_id} {patient} {fold} {sorted(codes.items())}\n"
            for ecg_id, patient, fold, codes in zip(
                self.ecg_id, self.patient_id, self.strat_fold, self.scp_codes, strict=True
            )
        ]

    @cached_property
    def synthetic(self) -> bool:
        """True if the table's `device` column marks any record as synthetic."""
        return "device" in self.table and bool(self.table["device"].astype(str).str.startswith("synthetic").any())

    @property
    def name(self) -> str:
        """The display name, which follows from the content; also the name of the boards' folder."""
        if self.synthetic:
            return f"synthetic-{self.content[:8]}"
        parts = [self.dataset, self.folds, self.versions.get(self.content[:8], self.content[:8])]
        return "-".join(part for part in parts if part)

    def paths(self, rate: int) -> list[Path]:
        """Return the paths [record] of the signal files at a rate in Hz, without ending. The files may be missing."""
        return [self.folder / name for name in self.names(rate)]

    def signal_files(self, rate: int) -> list[SignalFile]:
        """Return where the signals [record] at a rate in Hz are."""
        rows = self.table["row"].tolist() if "row" in self.table else [None] * len(self)
        return [SignalFile(path, row, self.format) for path, row in zip(self.paths(rate), rows, strict=True)]

    def signal_file(self, ecg_id: int, rate: int) -> SignalFile:
        """Return where the signals of one record at a rate in Hz are."""
        about: dict[Any, Any] = dict(self.table.loc[ecg_id])
        row = int(about["row"]) if "row" in about else None
        return SignalFile(self.folder / str(about[self.filenames[rate]]), row, self.format)

    def sample_sha256(self, rate: int) -> str:
        """Return the SHA-256 of evenly spaced blocks of some signal files at a rate in Hz; empty if one is missing."""
        digest = hashlib.sha256()
        try:
            for name in self.sampled_files(rate):
                with open_file(self.folder / name) as file:
                    size = os.fstat(file.fileno()).st_size
                    digest.update(f"{name} {size} ".encode())
                    for start in _evenly(range(0, size, BLOCK)):
                        file.seek(start)
                        digest.update(file.read(BLOCK))
        except OSError:
            return ""
        return digest.hexdigest()

    def sampled_files(self, rate: int) -> list[str]:
        """Return the names of the signal files at a rate in Hz that are sampled, relative to `folder`."""
        names = list(dict.fromkeys(self.names(rate)))
        return [name + ending for name in _evenly(names) for ending in self.format.endings]

    def names(self, rate: int) -> list[str]:
        """Return the file names [record] without ending. Raises DataError if there is no such rate."""
        if rate not in self.filenames:
            raise DataError(
                f"{self.dataset} has signals at {' and '.join(map(str, self.filenames))} Hz, not at {rate} Hz; "
                f"use --source-rate {' or '.join(map(str, self.filenames))}"
            )
        return [str(name) for name in self.table[self.filenames[rate]]]


def _evenly(items: Sequence[T]) -> list[T]:
    """Return up to SAMPLED items, evenly spaced, the first and the last among them."""
    return [items[index] for index in np.unique(np.linspace(0, len(items) - 1, SAMPLED).astype(int))] if items else []
