"""A folder becomes Records, by whichever dataset it holds: PTB-XL, or CPSC2018 in its PhysioNet form."""

from __future__ import annotations

from pathlib import Path

from bench.data.datasets import cpsc2018, ptbxl
from bench.data.records import Records


def load_records(folder: Path) -> Records:
    """The records in a dataset's folder; no signal is touched. Raises DataError where there is no dataset."""
    if not (folder / ptbxl.TABLE).exists() and cpsc2018.headers_in(folder):
        return cpsc2018.load_records(folder)
    if not (folder / ptbxl.TABLE).exists():
        cpsc2018.refuse_original(folder)
    return ptbxl.load_records(folder)
