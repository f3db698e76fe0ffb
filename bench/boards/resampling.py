"""Resample many runs of a board on the same replicates, in several processes, and remember the macro averages.

Only the frequent labels are resampled, because no interval of a board rests on replicates of others.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.boards.comparisons import ScoredRun
from bench.boards.on_cores import LEAST_RUNS, on_cores
from bench.data.splits import TEST_FOLD
from bench.data.tasks import LabelTable
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, Replicates, Resampled, resample
from bench.evaluation.metrics import Bools, Floats
from bench.evaluation.runs import Streams
from bench.evaluation.sampler import Sampler
from bench.evaluation.scores import replicates_for
from bench.results.remembered import keep, key_of, recall
from bench.results.result import Result

NUM_REPLICATES, SEED = 2000, 0


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


@dataclass(frozen=True, eq=False)
class BoardRun:
    """A `ScoredRun` of a board: scores are read, and replicates recalled or computed, when they are asked for."""

    run: Result
    truth: LabelTable
    given: Known | None = None
    """What is known of the run; None: it is recalled or computed."""

    @property
    def streams(self) -> Streams:
        return self.run.streams

    @property
    def y_score(self) -> NDArray[np.floating[Any]]:
        """Read the scores anew: see `scores_of`."""
        return scores_of(self.run, self.truth)

    @cached_property
    def known(self) -> Known:
        """Both metrics, recalled or computed."""
        return self.given or _recalled(self.run, self.truth) or compute(self.run, self.truth)

    @cached_property
    def resampled(self) -> Resampled:
        """Both metrics of each frequent label in each replicate: large, for the few runs that are shown by label."""
        auroc, average_precision = _by_label(self.run, self.truth)
        of_label = self.known.values
        return Resampled(Estimate(of_label["auroc"], auroc), Estimate(of_label["average_precision"], average_precision))

    def label_values(self, metric: str) -> Floats:
        return self.known.values[metric]

    def macro(self, metric: str, labels: Bools) -> Estimate:
        if np.array_equal(labels, frequent_of(self.truth)):
            return self._macros[metric]
        if (labels & ~frequent_of(self.truth)).any():
            resampled = resample(self.truth.y_true, self.y_score, replicates_of(self.truth))
        else:
            resampled = self.resampled
        estimate: Estimate = getattr(resampled, metric)
        return estimate.macro(labels)

    @cached_property
    def _macros(self) -> dict[str, Estimate]:
        """Metric -> its macro average over the frequent labels; comparisons ask for it once for each pair of rows."""
        frequent = frequent_of(self.truth)
        values, replicates = self.known.values, self.known.replicates
        return {m: Estimate(metrics.macro(values[m], frequent), replicates[m]) for m in metrics.RANKING}


def scores_of(run: Result, truth: LabelTable) -> NDArray[np.floating[Any]]:
    """Read the scores [record, label] of fold 10. They are not kept, because those of 1,000 runs would fill memory."""
    return unread([run])[0].scores(TEST_FOLD, truth)


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
    computed = {on_board[at]: aurocs for at, aurocs in on_cores(work, unread(on_board), LEAST_RUNS)}
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
    return Sampler(labels.y_true[:, metrics.frequent(labels.y_true)], replicates_of(labels).counts)
