"""Read a folder as Records: PTB-XL, or CPSC2018 in its PhysioNet form."""

from __future__ import annotations

from pathlib import Path

from bench.data.datasets import cpsc2018, ptbxl
from bench.data.records import Records


def load_records(folder: Path) -> Records:
    """Return the records of a data set's folder. Reads no signals. Raises DataError if there is no data set."""
    if not (folder / ptbxl.TABLE).exists() and cpsc2018.headers_in(folder):
        return cpsc2018.load_records(folder)
    if not (folder / ptbxl.TABLE).exists():
        cpsc2018.refuse_original(folder)
    return ptbxl.load_records(folder)
