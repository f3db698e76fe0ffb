"""Folds 1-8 train, 9 selects, 10 tests; a training fraction is a nested, patient-wise, label-balanced draw."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

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
    manifest: str | None = None
    """SHA-256 of the training ecg_ids, if they were given by a list and not drawn."""

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
    return Split(train, val, fraction, draw)


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
    patient. So each draw lies within every larger one. It depends on dataset, task and draw alone.
    """
    patients, patient = np.unique(train.patient_id, return_inverse=True)
    weights = np.zeros((len(patients), len(train.labels) + 1))
    np.add.at(weights, patient, np.column_stack([train.y_true, np.ones(len(train))]))
    seed = int.from_bytes(hashlib.sha256(f"{train.fingerprint} {draw}".encode()).digest()[:8], "little")
    kept = np.zeros(len(patients), dtype=bool)
    _take(weights, np.random.default_rng(seed).permutation(len(patients)), size, kept)
    return kept[patient]


def _take(
    weights: npt.NDArray[np.float64], group: npt.NDArray[np.int64], size: int, kept: npt.NDArray[np.bool_]
) -> None:
    """Keep patients of `group` with `size` records in all; weights [patient, label, and last a column of records]."""
    while size > 0:
        if len(group) == 1 or size >= weights[group, -1].sum():
            kept[group] = True
            return
        first, second = _halve(weights, group)
        if size >= (num_first := int(weights[first, -1].sum())):
            kept[first] = True
            size, group = size - num_first, second
        else:
            group = first


def _halve(
    weights: npt.NDArray[np.float64], group: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Two halves of at least two patients; the carriers of rare labels are dealt first, to the half that needs them."""
    share = weights[group]
    total = share.sum(axis=0)
    rarest_first = np.argsort(np.where(share > 0, total, np.inf).min(axis=1), kind="stable")
    need = np.tile(total / 2, (2, 1))
    urgency = share / np.maximum(total, 1)
    second = np.zeros(len(group), dtype=bool)
    for one in rarest_first:
        gain = need @ urgency[one]
        second[one] = gain[1] > gain[0]
        need[int(second[one])] -= share[one]
    if second.all() or not second.any():
        second = np.arange(len(group)) >= len(group) // 2
    return group[~second], group[second]
