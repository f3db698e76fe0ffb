"""Split records by fold: 1-8 train, 9 validates, 10 tests. Draw nested, label-balanced training subsets of patients."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bench.data.tasks import LabelTable
from bench.errors import DataError

VAL_FOLD, TEST_FOLD = 9, 10


@dataclass(frozen=True, eq=False)
class Split:
    """Training and validation records. Fold 10 is not included: it is read after training."""

    train: LabelTable
    val: LabelTable
    fraction: float
    draw: int
    whole: bool
    """True if the split holds all records of folds 1-8 and of fold 9."""

    @cached_property
    def content(self) -> str:
        """SHA-256 over the sorted ecg_ids of both parts."""
        parts = [np.sort(part.ecg_id).astype("<i8").tobytes() for part in (self.train, self.val)]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    @property
    def unseen_labels(self) -> list[str]:
        """Labels without a positive training record."""
        return [label for label, seen in zip(self.train.labels, self.train.y_true.max(axis=0), strict=True) if not seen]


def split(table: LabelTable, fraction: float = 1.0, draw: int = 0) -> Split:
    """Return a training subset of folds 1-8 with this fraction of the records, and all of fold 9.

    Raises DataError if the fraction is not in (0, 1] or a fold is empty.
    """
    if not 0 < fraction <= 1:
        raise DataError(f"--fraction must lie in (0, 1], got {fraction}")
    train = table.select(table.strat_fold < VAL_FOLD)
    val = table.select(table.strat_fold == VAL_FOLD)
    for part, folds in ((train, "1-8"), (val, str(VAL_FOLD))):
        if not len(part):
            raise DataError(f"task {table.task} has no record in fold {folds}; the dataset is too small to train on")
    if fraction < 1:
        train = train.select(thin(train, max(1, round(fraction * len(train))), draw))
    return Split(train, val, fraction, draw, whole=fraction == 1)


def folds_to_score(table: LabelTable, stage: str) -> dict[int, LabelTable]:
    """Return the folds that are predicted: all of fold 9, also if a manifest uses a part, and fold 10 at `test`."""
    val = {VAL_FOLD: table.select(table.strat_fold == VAL_FOLD)}
    return val | ({TEST_FOLD: held_out(table)} if stage == "test" else {})


def held_out(table: LabelTable) -> LabelTable:
    """Return the records of fold 10. Raises DataError if there are none."""
    test = table.select(table.strat_fold == TEST_FOLD)
    if not len(test):
        raise DataError(f"task {table.task} has no record in fold {TEST_FOLD}; use --stage val")
    return test


def thin(train: LabelTable, size: int, draw: int) -> npt.NDArray[np.bool_]:
    """Return a mask [record] that keeps about `size` training records: whole patients, label proportions kept, nested.

    Patients are split into two halves that share each label evenly (iterative stratification, Sechidis et al. 2011).
    The subset is the first half, or part of it, or the first half and part of the second; the same rule then applies
    within the part, down to single patients. A subset therefore lies inside every larger one. Which half comes first
    is random, so that the only positive of a rare label is not always included. The result depends on data set, task
    and draw alone.

    On PTB-XL, averaged over the six tasks, label frequencies deviate by 0.37 (at 1 %) and 0.15 (at 10 %) times as much
    as in random subsets. Of the 174 labels, 38 have no positive at 1 % (47 in random subsets) and 2.5 at 10 % (6.9).
    """
    patients, patient = np.unique(train.patient_id, return_inverse=True)
    weights = np.zeros((len(patients), len(train.labels) + 1))
    np.add.at(weights, patient, np.column_stack([train.y_true, np.ones(len(train))]))
    seed = int.from_bytes(hashlib.sha256(f"{train.fingerprint} {draw}".encode()).digest()[:8], "little")
    kept = np.zeros(len(patients), dtype=bool)
    stream = np.random.default_rng(seed)
    _take(weights, stream.permutation(len(patients)), size, kept, stream)
    return kept[patient]


def _take(
    weights: npt.NDArray[np.float64],
    group: npt.NDArray[np.int64],
    size: int,
    kept: npt.NDArray[np.bool_],
    stream: np.random.Generator,
) -> None:
    """Mark in `kept` patients of `group` that have `size` records in total.

    `weights` [patient, column]: number of positives of each label; the last column is the number of records.
    """
    while size > 0:
        if len(group) == 1 or size >= weights[group, -1].sum():
            kept[group] = True
            return
        first, second = _halve(weights, group)
        if stream.integers(2):
            first, second = second, first
        if size >= (num_first := int(weights[first, -1].sum())):
            kept[first] = True
            size, group = size - num_first, second
        else:
            group = first


def _halve(
    weights: npt.NDArray[np.float64], group: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split two or more patients into two halves that share each column of `weights` evenly."""
    second = deal(weights[group], 2) == 1
    if second.all() or not second.any():
        second = np.arange(len(group)) >= len(group) // 2
    return group[~second], group[second]


def deal_folds(patients: Sequence[Hashable], labels: Sequence[Iterable[str]], seed: int = 0) -> npt.NDArray[np.int64]:
    """Return the part [record], 0 to 9, of ten that share each label evenly; a patient's records stay together.

    `patients` and `labels` [record]. Patients are put in order by name and then shuffled by the seed, so that the parts
    do not depend on the order of the records. Source: Sechidis et al. 2011, by patient.
    """
    names = sorted({label for of_record in labels for label in of_record})
    column = {name: position for position, name in enumerate(names)}
    known = sorted(set(patients))  # type: ignore[type-var]
    position = {patient: at for at, patient in enumerate(known)}
    shares = np.zeros((len(known), len(names) + 1))
    for patient, of_record in zip(patients, labels, strict=True):
        shares[position[patient], [*(column[name] for name in of_record), -1]] += 1
    order = np.random.default_rng(seed).permutation(len(known))
    parts = np.empty(len(known), dtype=np.int64)
    parts[order] = deal(shares[order], 10)
    return parts[[position[patient] for patient in patients]]


def deal(shares: npt.NDArray[np.float64], num_parts: int) -> npt.NDArray[np.int64]:
    """Return the part [item] of each item, so that all columns of `shares` [item, column] are shared evenly.

    Items with rare labels come first; each goes to the part that lacks most of its columns, ties to the first part.
    Source: Sechidis et al. 2011.
    """
    total = shares.sum(axis=0)
    rarest_first = np.argsort(np.where(shares > 0, total, np.inf).min(axis=1), kind="stable")
    rows, columns = np.nonzero(shares)
    given = shares[rows, columns]
    urgency = given / np.maximum(total[columns], 1)
    ends = np.searchsorted(rows, np.arange(len(shares) + 1)).tolist()
    need = [(total / num_parts).tolist() for _ in range(num_parts)]
    part = np.zeros(len(shares), dtype=np.int64)
    for item in rarest_first.tolist():
        entries = slice(ends[item], ends[item + 1])
        item_columns, item_urgency = columns[entries].tolist(), urgency[entries].tolist()
        # fsum is exact: parts are often nearly tied, and other sums depend on the order of columns and on BLAS
        wants = [math.fsum([lack[c] * u for c, u in zip(item_columns, item_urgency, strict=True)]) for lack in need]
        part[item] = chosen = wants.index(max(wants))
        for column, share in zip(item_columns, given[entries].tolist(), strict=True):
            need[chosen][column] -= share
    return part


def num_batches(num_records: int, batch_size: int) -> int:
    """Return the number of batches of an epoch.

    If one record remains, it is added to the last batch, because batch norm cannot train on one record.
    """
    return max(1, -(-num_records // batch_size) - (batch_size > 1 and num_records % batch_size == 1))
