"""Read a file of scores [record, label] of any program: CSV text, its gzip, or an npz file of three arrays."""

from __future__ import annotations

import csv
import gzip
import io
import re
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.data.text import decode, refuse_pointer
from bench.errors import DataError, first_line
from bench.evaluation.predictions import NUM_NAMED, Predictions
from bench.files import read_bytes
from bench.results.arrays import MOST_BYTES, open_arrays

NO_TABLES = (".pkl", ".pickle", ".parquet", ".feather", ".json", ".h5", ".hdf5", ".pt", ".mat", ".xlsx", ".xls")
LARGEST_ID = 2**53
"""Whole numbers below it are exact as floating-point numbers."""
HOW_TO_SAVE = "np.savez('scores.npz', ecg_id=ids, labels=np.array(labels, dtype=str), y_score=scores)"
SAVE_ARRAY = (
    f"save it by {HOW_TO_SAVE}, where ids has the ecg_id of each row and labels the label of each column; "
    "if the rows are fold 10 in the dataset's order, ids is table.ecg_id[table.strat_fold == 10] with "
    "table = pandas.read_csv('ptbxl_database.csv'), without the records that the authors left out"
)


def read_content(path: Path) -> bytes:
    """Return the bytes of a file of scores, or of a program's output, which can be read only once."""
    try:
        return read_bytes(path, may_be_pipe=True)
    except FileNotFoundError:
        raise DataError(f"no file at {path}: expected a CSV or npz file of scores") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def read_scores(path: Path, content: bytes, labels: Sequence[str], log: Callable[[str], None]) -> Predictions:
    """Parse scores: CSV text (ecg_id, then a column for each label), its gzip, or an npz file of three arrays.

    The first bytes decide which format it is. Columns of a CSV file that are not in `labels` are left out, and `log`
    receives their names. Raises DataError with `path` for any other content.
    """
    try:
        if content.startswith(b"\x1f\x8b"):
            content = _unpacked(content, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from None
    if content.startswith(b"\x93NUMPY"):
        raise DataError(f"{path} is an array{_shape(content)} without ecg_ids and labels; {SAVE_ARRAY}")
    if path.suffix == ".npz":
        return _read_npz(path, content)
    if path.suffix in NO_TABLES:
        raise DataError(f"{path} is a {path.suffix} file, expected a CSV file, or an npz file by {HOW_TO_SAVE}")
    return _read_csv(path, decode(content, path), labels, log)


def refuse_not_finite(given: Predictions, rows: np.ndarray[Any, Any], file: Path) -> None:
    """Raise DataError with row and column if a score is NaN or infinite."""
    wrong = np.argwhere(~np.isfinite(given.logits) & rows[:, None])
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"{file}: row {row + 1} (ecg_id {given.ecg_id[row]}), column {given.labels[column]} has "
            f"{given.logits[row, column]}, expected a finite number; {len(wrong):,} such scores in all"
        )


def _unpacked(content: bytes, path: Path) -> bytes:
    """Unpack gzip. Raises DataError for more than MOST_BYTES, of which a small file can hold any number."""
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        unpacked = file.read(MOST_BYTES + 1)
    if len(unpacked) > MOST_BYTES:
        raise DataError(f"{path} unpacks to more than {MOST_BYTES:,} bytes, which no table of scores has")
    return unpacked


def _shape(content: bytes) -> str:
    """Return the shape of an .npy file's array in words; empty if it cannot be read."""
    try:
        return f" of shape {np.load(io.BytesIO(content), allow_pickle=False).shape}"
    except (ValueError, OSError, EOFError):
        return ""


def _read_npz(path: Path, content: bytes) -> Predictions:
    refuse_pointer(path, content[:64] if not content.startswith(b"PK") else b"")
    advice = f"save it by {HOW_TO_SAVE}"
    with open_arrays(io.BytesIO(content), path, "a readable npz file of scores", advice) as file:
        missing = [name for name in ("ecg_id", "labels", "y_score") if name not in file.files]
        if missing:
            raise DataError(f"{path} lacks {', '.join(missing)}; it has {', '.join(file.files)}; {advice}")
        arrays = {name: _load(file, name, path) for name in ("ecg_id", "labels", "y_score")}
        labels = tuple(label.decode() if isinstance(label, bytes) else str(label) for label in arrays["labels"])
        if np.iscomplexobj(arrays["y_score"]):
            raise DataError(f"{path}: y_score has complex numbers, expected real numbers")
        ecg_id, y_score = _ids(arrays["ecg_id"], path), np.asarray(arrays["y_score"], dtype=np.float64)
    if y_score.shape != (len(ecg_id), len(labels)):
        raise DataError(
            f"{path}: y_score has the shape {y_score.shape}, expected [record, label] = "
            f"{(len(ecg_id), len(labels))} by the lengths of ecg_id and labels"
        )
    return Predictions(ecg_id, labels, y_score)


def _load(file: Any, name: str, path: Path) -> np.ndarray[Any, Any]:
    """Return an array of an npz file. Raises DataError for Python objects, because loading these could run code."""
    try:
        array: np.ndarray[Any, Any] = file[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{path}: {name} is an array of Python objects, which is not loaded, as that could run code; save it by "
            f"{HOW_TO_SAVE}"
        ) from None
    return array


def _read_csv(path: Path, text: str, labels: Sequence[str], log: Callable[[str], None]) -> Predictions:
    """Read scores from CSV text. A first column without a name is skipped: it is the index that pandas writes."""
    try:
        head = [name.strip() for name in next(csv.reader(io.StringIO(text)), [])]
        if head.count("ecg_id") != 1:
            raise DataError(
                f"{path} needs one column ecg_id and a column for each label, separated by commas; "
                f"it has {', '.join(head[:8]) or 'none'}"
            )
        # an error, because pandas would drop extra fields
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            table = pd.read_csv(
                io.StringIO(text), header=None, skiprows=1, names=range(len(head)), index_col=False, low_memory=False
            )
    except (csv.Error, ValueError, pd.errors.ParserWarning) as error:
        raise DataError(f"{path} is not a readable CSV file: {first_line(error)}") from None
    kept = _label_columns(head, labels, path, log)
    at = head.index("ecg_id")
    scores = table[kept]
    for column in map(int, scores.columns.tolist()):
        numbers = pd.to_numeric(scores[column], errors="coerce")
        wrong = np.flatnonzero(numbers.isna() & scores[column].notna())
        if len(wrong):
            text = scores[column].iloc[wrong[0]]
            record = table[at].iloc[wrong[0]]
            raise DataError(f"{path}: the score of {record}/{head[column]} is {text!r}, expected a number")
        scores[column] = numbers
    return Predictions(_ids(table[at].to_numpy(), path), tuple(head[p] for p in kept), scores.to_numpy(np.float64))


def _label_columns(head: Sequence[str], labels: Sequence[str], path: Path, log: Callable[[str], None]) -> list[int]:
    """Return the positions of the labels' columns. Raises DataError if a label has none, with columns of similar names.

    A first column without a name is the index that pandas writes.
    """
    kept = [place for place, name in enumerate(head) if name in labels]
    others = [
        name
        for place, name in enumerate(head)
        if name != "ecg_id" and name not in labels and (place or name not in ("", "Unnamed: 0"))
    ]
    if missing := [label for label in labels if label not in head]:
        words = f"{path} has no column for {'labels' if len(missing) > 1 else 'label'} {', '.join(missing[:NUM_NAMED])}"
        words += ", ..." if len(missing) > NUM_NAMED else ""
        words += f"; it has {', '.join(others[:8])}{', ...' if len(others) > 8 else ''}" if others else ""
        near = [name for name in others if re.search(rf"(?<![^\W_]){re.escape(missing[0])}(?![^\W_])", name)]
        hint = f": rename {' or '.join(map(repr, near))} to {missing[0]!r}, and so on" if near else ""
        raise DataError(f"{words}. Name each column of scores as its label{hint}")
    if others:
        log(f"{len(others)} columns of {path} are not labels of the task and are left out: {', '.join(others)}")
    return kept


def _ids(values: np.ndarray[Any, Any], path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~(abs(numbers) < LARGEST_ID) | (numbers % 1 != 0))
    if len(wrong):
        raise DataError(f"{path}: ecg_id in row {wrong[0] + 1} is {values[wrong[0]]}, expected a whole number")
    return numbers.astype(np.int64)
