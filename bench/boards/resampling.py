"""Resample many runs of a board on the same replicates, in several processes, and remember the macro averages.

The numbers are those of `bootstrap.resample` to the last bit. Only the frequent labels are resampled, because no
interval of a board rests on replicates of others.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy  # imports its parts where they are first used
from numpy.typing import NDArray

from bench.boards.comparisons import ScoredRun
from bench.boards.on_cores import LEAST_RUNS, on_cores
from bench.data.splits import TEST_FOLD
from bench.data.tasks import LabelTable
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, Replicates, Resampled, resample
from bench.evaluation.metrics import Bools, Floats
from bench.evaluation.predictions import align
from bench.evaluation.runs import Streams
from bench.evaluation.scores import replicates_for
from bench.results.remembered import keep, key_of, recall
from bench.results.result import Result

NUM_REPLICATES, SEED = 2000, 0
CELLS = 2**15
"""Number of values, levels times replicates, that are computed at once: they fit the second cache of a processor."""
SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
"""Sides of `searchsorted`: places of lower values only, and also of equal ones."""


@dataclass(frozen=True)
class Known:
    """What boards ask of a run: values of each label, and the macro average over frequent labels in each replicate."""

    values: Mapping[str, Floats]
    """Metric -> [label]."""
    replicates: Mapping[str, Floats]
    """Metric -> [replicate]; NaN if no label is frequent."""

    def as_bytes(self) -> bytes:
        """Return the numbers, in the order of metrics, values before replicates."""
        parts = [part[metric] for metric in metrics.RANKING for part in (self.values, self.replicates)]
        return np.concatenate(parts).astype("<f8").tobytes()

    @classmethod
    def from_bytes(cls, content: bytes, num_labels: int) -> Known | None:
        """Return what `as_bytes` wrote; None for another number of values."""
        if len(content) != 8 * len(metrics.RANKING) * (num_labels + NUM_REPLICATES):
            return None
        parts = np.frombuffer(content, "<f8").reshape(len(metrics.RANKING), -1)
        of_metrics = list(zip(metrics.RANKING, parts, strict=True))
        return cls({m: part[:num_labels] for m, part in of_metrics}, {m: part[num_labels:] for m, part in of_metrics})


class BoardRun(ScoredRun):
    """A run on a board. Its scores are read, and its replicates computed or recalled, when they are asked for."""

    def __init__(self, run: Result, truth: LabelTable, known: Known | None = None) -> None:
        self.__dict__.update(run=run, truth=truth)
        if known:
            self.__dict__["known"] = known

    run: Result
    truth: LabelTable

    @property
    def streams(self) -> Streams:
        return self.run.streams

    @property
    def y_score(self) -> NDArray[np.floating[Any]]:
        return scores_of(self.run, self.truth)

    @cached_property
    def known(self) -> Known:
        """Both metrics, recalled or computed."""
        return _recalled(self.run, self.truth) or compute(self.run, self.truth)

    @cached_property
    def resampled(self) -> Resampled:
        """Both metrics of each frequent label in each replicate: large, for the few runs that are shown by label."""
        auroc, average_precision = _by_label(self.run, self.truth)
        of_label = self.known.values
        return Resampled(Estimate(of_label["auroc"], auroc), Estimate(of_label["average_precision"], average_precision))

    def macro(self, metric: str, labels: Bools) -> Estimate:
        if np.array_equal(labels, frequent_of(self.truth)):
            return self._macros[metric]
        if (labels & ~frequent_of(self.truth)).any():
            whole: Estimate = getattr(resample(self.truth.y_true, self.y_score, replicates_of(self.truth)), metric)
            return whole.macro(labels)
        return super().macro(metric, labels)

    @cached_property
    def _macros(self) -> dict[str, Estimate]:
        """Metric -> its macro average over the frequent labels; comparisons ask for it once for each pair of rows."""
        frequent = frequent_of(self.truth)
        return {m: Estimate(self.value(m, frequent), self.known.replicates[m]) for m in metrics.RANKING}

    def value(self, metric: str, labels: Bools) -> Floats:
        """Return the macro average on the fold over the labels that the mask `labels` [label] chooses."""
        return metrics.macro(self.known.values[metric], labels)


def values_of(run: ScoredRun, metric: str) -> Floats:
    """Return [label], the metric of a run on the fold."""
    if isinstance(run, BoardRun):
        return run.known.values[metric]
    estimate: Estimate = getattr(run.resampled, metric)
    return estimate.value


def scores_of(run: Result, truth: LabelTable) -> NDArray[np.floating[Any]]:
    """Read the scores [record, label] of fold 10. They are not kept, because those of 1,000 runs would fill memory."""
    return align(unread([run])[0].predictions[TEST_FOLD], truth.ecg_id, truth.labels)


def board_runs(runs: Sequence[Result], truth: LabelTable, *, anew: bool = False) -> list[BoardRun]:
    """Return the runs, resampled. What is not remembered is computed on all cores; with `anew`, all is."""
    known = {run: None if anew else _recalled(run, truth) for run in runs}
    left = [run for run in known if known[run] is None]
    for at, numbers in on_cores(functools.partial(compute, truth=truth), unread(left), LEAST_RUNS):
        run, known[left[at]] = left[at], numbers
        if not anew:
            keep(_key(run, truth), numbers.as_bytes())
    return [BoardRun(run, truth, known[run]) for run in runs]


def label_replicates(runs: Sequence[ScoredRun], truth: LabelTable) -> list[Floats]:
    """Return for each run its AUROC of each frequent label in each replicate [replicate, frequent label]."""
    on_board = [run.run for run in runs if isinstance(run, BoardRun)]
    work, frequent = functools.partial(_auroc_by_label, truth=truth), frequent_of(truth)
    computed = {on_board[at]: found for at, found in on_cores(work, unread(on_board), LEAST_RUNS)}
    return [
        computed[run.run] if isinstance(run, BoardRun) else run.resampled.auroc.replicates[:, frequent] for run in runs
    ]


def unread(runs: Sequence[Result]) -> list[Result]:
    """Return the runs without predictions that they keep: for other processes, and to forget what is read."""
    return [Result(run.folder, run.document) for run in runs]


def _key(run: Result, truth: LabelTable) -> str:
    return key_of("run", run.scores_sha256, truth.fingerprint, TEST_FOLD, NUM_REPLICATES, SEED)


def _recalled(run: Result, truth: LabelTable) -> Known | None:
    content = recall(_key(run, truth))
    return None if content is None else Known.from_bytes(content, len(truth.labels))


def compute(run: Result, truth: LabelTable) -> Known:
    """Resample the scores of a run on the replicates that all results of the task share."""
    y_true, y_score = metrics.checked(truth.y_true, scores_of(run, truth))
    frequent = frequent_of(truth)
    values = {"auroc": metrics.auroc(y_true, y_score), "average_precision": metrics.average_precision(y_true, y_score)}
    replicates = (metrics.macro(of_metric, frequent) for of_metric in _in_columns(y_score, truth))
    return Known(values, dict(zip(metrics.RANKING, replicates, strict=True)))


def _by_label(run: Result, truth: LabelTable) -> Floats:
    """Return AUROC and AP of a run [metric, replicate, label]; NaN for labels that are not frequent."""
    return _in_columns(metrics.checked(truth.y_true, scores_of(run, truth))[1], truth)


def _in_columns(y_score: Floats, truth: LabelTable) -> Floats:
    # in columns among all labels, because the order in which a mean adds depends on how an array lies in memory
    frequent = frequent_of(truth)
    of_labels = np.full((len(metrics.RANKING), NUM_REPLICATES, len(frequent)), np.nan)
    if frequent.any():
        of_labels[..., frequent] = sampler_of(truth).resample(y_score[:, frequent])
    return of_labels


def _auroc_by_label(run: Result, truth: LabelTable) -> Floats:
    _, y_score = metrics.checked(truth.y_true, scores_of(run, truth))
    return sampler_of(truth).resample(y_score[:, frequent_of(truth)])[0]


@functools.lru_cache(maxsize=8)
def frequent_of(labels: LabelTable) -> Bools:
    """Return [label], True for the frequent labels."""
    return metrics.frequent(labels.y_true)


@functools.lru_cache(maxsize=8)
def replicates_of(labels: LabelTable) -> Replicates:
    """Return the replicates that all results of a task share."""
    return replicates_for(labels.patient_id, labels.y_true, labels.labels, NUM_REPLICATES, SEED)


@functools.lru_cache(maxsize=2)
def sampler_of(labels: LabelTable) -> Sampler:
    """Return the sampler of a task's frequent labels."""
    return Sampler(labels.y_true[:, metrics.frequent(labels.y_true)], replicates_of(labels))


class Sampler:
    """Resample scores of the same records and labels: what runs share is computed once."""

    def __init__(self, y_true: Bools, replicates: Replicates) -> None:
        self._y_true = y_true
        of_record = np.ascontiguousarray(replicates.counts.T)  # [record, replicate]
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
        """Return AUROC and AP of a label, each [replicate]: the sums of `bootstrap._resample`, in the same order."""
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
