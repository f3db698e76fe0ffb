"""Join the scores of one fold with the records and labels of a task."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import DataError

NUM_NAMED = 5  # an error names at most this many records or labels, and counts all of them


@dataclass(frozen=True)
class Predictions:
    """A model's scores on one fold, one per record and label, in any order of records and labels."""

    ecg_id: NDArray[np.int64]  # [record]
    labels: tuple[str, ...]
    logits: NDArray[np.floating[Any]]  # [record, label]; float32 from a run, any float type from an import


def align(predictions: Predictions, ecg_id: NDArray[np.int64], labels: Sequence[str]) -> NDArray[np.floating[Any]]:
    """Return the scores [record, label] in the order of `ecg_id` and `labels`.

    Raises DataError unless the predictions have exactly these records and labels, each of them once, and every score
    is finite.
    """
    if _in_order(predictions, ecg_id, labels):  # as a run writes them; boards read thousands
        return predictions.logits.copy()
    given, wanted = predictions.ecg_id.tolist(), np.asarray(ecg_id).tolist()
    if predictions.logits.shape != (len(given), len(predictions.labels)):
        raise DataError(
            f"the predictions have scores of shape {predictions.logits.shape} for {len(given)} records and "
            f"{len(predictions.labels)} labels: give one row per record and one column per label"
        )
    faults = [*_faults("record", given, wanted), *_faults("label", predictions.labels, labels)]
    if not faults:
        rows = {record: row for row, record in enumerate(given)}
        columns = {label: column for column, label in enumerate(predictions.labels)}
        y_score = predictions.logits[np.ix_([rows[record] for record in wanted], [columns[label] for label in labels])]
        unusable = np.argwhere(~np.isfinite(y_score))
        if not len(unusable):
            return y_score
        faults = ["NaN or infinite " + _named("score", [f"{wanted[row]}/{labels[column]}" for row, column in unusable])]
    raise DataError(
        f"the predictions do not fit the fold: {'; '.join(faults)}. "
        "Give every record and label of the fold exactly once, with a finite score"
    )


def _in_order(predictions: Predictions, ecg_id: NDArray[np.int64], labels: Sequence[str]) -> bool:
    """Return whether the predictions have exactly these records and labels, in this order and finite."""
    return (
        predictions.labels == tuple(labels)
        and len(set(labels)) == len(labels)
        and np.array_equal(predictions.ecg_id, ecg_id)
        and bool((np.diff(ecg_id) > 0).all())
        and predictions.logits.shape == (len(ecg_id), len(labels))
        and predictions.logits.flags.c_contiguous
        and bool(np.isfinite(predictions.logits).all())
    )


def _faults(kind: str, given: Sequence[object], wanted: Sequence[object]) -> list[str]:
    """Return one text for each of missing, duplicate and unknown names, where there are any."""
    count, expected = Counter(given), set(wanted)
    culprits = {
        "missing": [name for name in wanted if name not in count],
        "duplicate": [name for name in count if count[name] > 1],
        "unknown": [name for name in count if name not in expected],
    }
    return [f"{fault} {_named(kind, names)}" for fault, names in culprits.items() if names]


def _named(kind: str, names: Sequence[object]) -> str:
    shown = ", ".join(map(str, names[:NUM_NAMED])) + (", ..." if len(names) > NUM_NAMED else "")
    return f"{kind} {shown}" if len(names) == 1 else f"{kind}s ({len(names)}) {shown}"
