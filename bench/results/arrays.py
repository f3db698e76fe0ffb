"""Read npz files, which anybody may have written: without pickle, within a size, each fault as one line."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bench.errors import DataError, first_line

MOST_BYTES = 2**31
"""Largest size of an unpacked file: 100 times that of all records and labels of PTB-XL."""
DAMAGE = (
    *(ValueError, KeyError, TypeError, OSError, EOFError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
"""Exceptions from reading an npz file that is truncated, changed, or something else."""


@contextlib.contextmanager
def open_arrays(stream: BinaryIO, path: Path, expected: str, advice: str) -> Iterator[Any]:
    """Yield the arrays of an npz file by name. `path` is its name, `expected` what it should be, for messages.

    Raises DataError if the file, or an array that the block reads, is damaged, holds Python objects or unpacks to more
    than MOST_BYTES.
    """
    try:
        with np.load(stream, allow_pickle=False) as file:
            if (size := sum(entry.file_size for entry in file.zip.infolist())) > MOST_BYTES:
                raise DataError(f"{path} unpacks to {size:,} bytes, expected {MOST_BYTES:,} at most; {advice}")
            yield file
    except DAMAGE as error:
        reason = first_line(error)
        raise DataError(f"{path} is not {expected}: {reason}; {advice}") from None
