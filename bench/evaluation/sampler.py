"""Compute AUROC and AP of many runs on the same replicates; as scikit-learn with `sample_weight=counts`.

The order of the scores is the same in every replicate, so each label is sorted once. The rest is sums of counts up to
each positive, computed for all replicates together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import scipy  # imports its parts where they are first used
from numpy.typing import NDArray

from bench.evaluation.metrics import Bools, Floats

CELLS = 2**15
"""Number of values, levels times replicates, that are computed at once: they fit the second cache of a processor."""
SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
"""Sides of `searchsorted`: places of lower values only, and also of equal ones."""


class Sampler:
    """Resample scores of the same records and labels: what runs share is computed once."""

    def __init__(self, y_true: Bools, counts: NDArray[np.uint16]) -> None:
        """Prepare for labels `y_true` [record, label], each with a positive, and `counts` [replicate, record]."""
        self._y_true = y_true
        of_record = np.ascontiguousarray(counts.T)  # [record, replicate]
        self._num_records = of_record.sum(axis=0, dtype=np.int64)
        # a narrower type adds more replicates per instruction; a record is counted at most twice
        self._of_record = of_record.astype(np.min_scalar_type(2 * self._num_records.max()), copy=False)
        self._levels = _Levels(self._of_record.shape[1], self._of_record.dtype, int(self._num_records.max()))

    def resample(self, y_score: Floats) -> tuple[Floats, Floats]:
        """Return AUROC and AP, each [replicate, label], of the scores [record, label]."""
        auroc, average_precision = np.empty((2, self._of_record.shape[1], self._y_true.shape[1]))
        for column, (is_positive, score) in enumerate(zip(self._y_true.T, y_score.T, strict=True)):
            auroc[:, column], average_precision[:, column] = self._label(is_positive, score)
        return auroc, average_precision

    def _label(self, is_positive: Bools, score: Floats) -> tuple[Floats, Floats]:
        """Return AUROC and AP of a label, each [replicate]."""
        order = np.argsort(-score, kind="stable")
        is_positive, ascending = is_positive[order], -score[order]
        positives, negatives, of_positives = order[is_positive], order[~is_positive], ascending[is_positive]
        levels = np.unique(of_positives)  # negated scores at which recall increases, best score first
        higher, at_least = (np.searchsorted(ascending, levels, side=side) for side in SIDES)
        before, last = (np.searchsorted(of_positives, levels, side=side) for side in SIDES)
        steps = [self._between(positives, last), self._between(negatives, at_least - last)]
        if not np.array_equal(higher - before, at_least - last):  # a negative has a positive's score
            steps.append(self._between(negatives, higher - before))
        num_positives, pairs, precision_sum = self._levels.sums(steps)
        # pairs in the wrong order; `sums` counts a tie as half, and other positives too, which are taken off
        missorted = (pairs - num_positives**2) / 2
        with np.errstate(invalid="ignore"):  # 0 / 0: undefined in this replicate
            auroc = 1 - missorted / (num_positives * (self._num_records - num_positives))
            return auroc, precision_sum / num_positives

    def _between(self, order: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[Any]:
        """Return [edge, replicate], the sum of counts of the records in `order` up to an edge, from the one before."""
        index, ends = order[: edges[-1]].astype(np.int32), np.concatenate([[0], edges]).astype(np.int32)
        ones = np.ones(len(index), dtype=self._of_record.dtype)
        between = scipy.sparse.csr_matrix((ones, index, ends), (len(edges), len(self._of_record)))
        return np.asarray(between @ self._of_record)


class _Levels:
    """Sums over the levels of a label, computed for a few levels at a time, which fit the cache of a processor.

    The arrays are used again for each label, because memory that is new must be cleared first. Their first row has the
    sums so far, so terms are added in the order of levels.
    """

    def __init__(self, num_replicates: int, kind: np.dtype[Any], num_records: int) -> None:
        self._num = max(1, CELLS // num_replicates)
        shape = 1 + self._num, num_replicates
        self._counts = np.empty((3, *shape), dtype=kind)
        self._predicted, self._both = np.empty((2, self._num, num_replicates), dtype=kind)
        # the sum of pairs has whole terms, and is below this limit: then float32 has it exactly, in half the time
        self._pairs = np.empty((2, *shape), dtype=np.float32 if 2 * num_records**2 < 2**24 else np.float64)
        self._precisions = np.empty((2, *shape))

    def sums(self, steps: Sequence[NDArray[Any]]) -> tuple[Floats, Floats, Floats]:
        """Return three sums, each [replicate]: of positives, positives x (predicted + above), positives x precision.

        `steps` [level, replicate] are the records that a level adds: positives, negatives, and where negatives have a
        positive's score, negatives above the level. `predicted` are records at a level or above it; `above` only these.
        """
        self._counts[:, 0] = 0
        for array in (self._pairs, self._precisions):
            array[0, 0], array[1, 0] = 1, 0
        for start in range(0, len(steps[0]), self._num):
            self._add([step[start : start + self._num] for step in steps])
        of_positives, pairs = self._counts[0, 0].astype(np.float64), self._pairs[1, 0].astype(np.float64)
        return of_positives, pairs, self._precisions[1, 0].copy()

    def _add(self, steps: Sequence[NDArray[Any]]) -> None:
        num = len(steps[0])
        positives, *negatives = (_cumulate(*each) for each in zip(steps, self._counts, strict=False))
        predicted = np.add(positives, negatives[0], out=self._predicted[:num])
        both = np.subtract(positives, steps[0], out=self._both[:num])
        both += negatives[-1]
        both += predicted
        weight, value = self._pairs[:, : 1 + num]
        weight[1:], value[1:] = steps[0], both
        value[0] = _dot(weight, value)
        weight, value = self._precisions[:, : 1 + num]
        weight[1:] = steps[0]
        if not predicted[0].all():
            np.maximum(predicted, 1, out=predicted)  # where no record is predicted, `positives` is 0
        np.divide(positives, predicted, out=value[1:])
        value[0] = _dot(weight, value)
        self._counts[:, 0] = self._counts[:, num]


def _cumulate(steps: NDArray[Any], sums: NDArray[Any]) -> NDArray[Any]:
    """Add the rows of `steps` [row, ...] one after another to the first of `sums`, and return the sums after each."""
    before, sums = sums[0], sums[1 : 1 + len(steps)]
    for step, row in zip(steps, sums, strict=True):  # faster than `cumsum`
        before = np.add(before, step, out=row)
    return sums


def _dot(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Return [replicate], the sum over levels of the product of two arrays [level, replicate]."""
    return np.asarray(np.einsum("ld,ld->d", first, second))
