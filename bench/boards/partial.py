"""Compare rows of which some have scores of a part of fold 10: on the records that all of them have."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from bench.boards.comparisons import ResampledRun
from bench.boards.resampling import replicates_of
from bench.data.splits import TEST_FOLD
from bench.data.tasks import LabelTable
from bench.errors import BenchError
from bench.evaluation.bootstrap import resample
from bench.evaluation.predictions import Predictions, align
from bench.results.result import Result


def common_records(runs: Sequence[Result], table: LabelTable) -> LabelTable:
    """Return the labels of the records of fold 10 that all runs have. Raises BenchError if there is none."""
    shared = functools.reduce(np.intersect1d, [run.predictions[TEST_FOLD].ecg_id for run in runs], table.ecg_id)
    if not len(shared):
        raise BenchError("these rows have no record of fold 10 in common: score files of the same records")
    return table.select(np.isin(table.ecg_id, shared))


def score_common(run: Result, table: LabelTable) -> ResampledRun:
    """Resample a run's scores of the records in `table`, which may be a part of fold 10."""
    scores = run.predictions[TEST_FOLD]
    kept = np.isin(scores.ecg_id, table.ecg_id)
    part = Predictions(scores.ecg_id[kept], scores.labels, scores.logits[kept])
    y_score = align(part, table.ecg_id, table.labels)
    return ResampledRun(y_score, resample(table.y_true, y_score, replicates_of(table)), run.streams)
