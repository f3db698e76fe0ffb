"""Folds 1-8 train, 9 selects, 10 tests; a training fraction is a nested, patient-wise, label-balanced draw."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bench.data.tasks import LabelTable
from bench.errors import DataError

VAL_FOLD, TEST_FOLD = 9, 10


@dataclass(frozen=True, eq=False)
class Split:
    """The records that train and the ones that select. Fold 10 is not in it: it is read when training is over."""

    train: LabelTable
    val: LabelTable
    fraction: float
    draw: int
    whole: bool
    """Whether it is all of folds 1-8 and of fold 9."""

    @cached_property
    def content(self) -> str:
        """SHA-256 over the ecg_ids of both parts, whatever their order."""
        parts = [np.sort(part.ecg_id).astype("<i8").tobytes() for part in (self.train, self.val)]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    @property
    def unseen_labels(self) -> list[str]:
        """Labels that no training record has."""
        return [label for label, seen in zip(self.train.labels, self.train.y_true.max(axis=0), strict=True) if not seen]


def split(table: LabelTable, fraction: float = 1.0, draw: int = 0) -> Split:
    """Training records at a fraction of folds 1-8, and all of fold 9."""
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
    """The folds that the stage predicts: 9, whole even where a manifest selected on part of it, and at `test` 10."""
    val = {VAL_FOLD: table.select(table.strat_fold == VAL_FOLD)}
    return val | ({TEST_FOLD: held_out(table)} if stage == "test" else {})


def held_out(table: LabelTable) -> LabelTable:
    """The records of fold 10, which test."""
    test = table.select(table.strat_fold == TEST_FOLD)
    if not len(test):
        raise DataError(f"task {table.task} has no record in fold {TEST_FOLD}; use --stage val")
    return test


def thin(train: LabelTable, size: int, draw: int) -> npt.NDArray[np.bool_]:
    """Which training records [record] a draw of about `size` keeps: whole patients, labels in proportion, nested.

    Patients are dealt to two halves so that each label is shared evenly (iterative stratification, Sechidis et al.
    2011, with two equal shares); the draw takes the first half whole or looks only into it, and so on down to one
    patient. So each draw lies within every larger one. A coin says which half is the first: else an odd carrier of a
    rare label would always be in it. It depends on dataset, task and draw alone.

    Of PTB-XL, over the six tasks, the mean absolute deviation of a label's frequency is 0.37 times that of random
    records at 1 % and 0.15 times at 10 %, and of their 174 labels 38 against 47 lack a positive at 1 %, and 2.5
    against 6.9 at 10 % (means of 4 draws against 40).
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
    """Keep patients of `group` with `size` records in all; weights [patient, label, and last a column of records]."""
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
    """Two halves of at least two patients."""
    second = deal(weights[group], 2) == 1
    if second.all() or not second.any():
        second = np.arange(len(group)) >= len(group) // 2
    return group[~second], group[second]


def deal(shares: npt.NDArray[np.float64], num_parts: int) -> npt.NDArray[np.int64]:
    """The part [one] that each goes to, so that the parts share all columns of `shares` [one, column] evenly.

    The carriers of rare labels are dealt first, each to the part that needs it most, the first of several.
    """
    total = shares.sum(axis=0)
    rarest_first = np.argsort(np.where(shares > 0, total, np.inf).min(axis=1), kind="stable")
    rows, columns = np.nonzero(shares)
    given = shares[rows, columns]
    urgency = given / np.maximum(total[columns], 1)
    ends = np.searchsorted(rows, np.arange(len(shares) + 1)).tolist()
    need = [(total / num_parts).tolist() for _ in range(num_parts)]
    part = np.zeros(len(shares), dtype=np.int64)
    for one in rarest_first.tolist():
        its = slice(ends[one], ends[one + 1])
        has, pressing = columns[its].tolist(), urgency[its].tolist()
        # summed exactly: parts are often nearly as needy, and any other sum depends on the order of the columns or BLAS
        wants = [math.fsum([needs[column] * by for column, by in zip(has, pressing, strict=True)]) for needs in need]
        part[one] = chosen = wants.index(max(wants))
        for column, share in zip(has, given[its].tolist(), strict=True):
            need[chosen][column] -= share
    return part
