"""Rows tested elsewhere: each row and each difference of two rows, on fold 10 and on other records, side by side.

Both sides use the same labels: those that both data sets have, with at least 10 positives and negatives on either side.
A row has the runs of the board that were tested under these conditions; rows are paired by draw and seed.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.boards.comparisons import ResampledRun, ScoredRow, design_of, estimates
from bench.boards.resampling import NUM_REPLICATES, SEED
from bench.boards.rows import Board, Row
from bench.data.corruptions import Corruption
from bench.data.tasks import LabelTable
from bench.errors import DataError
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Replicates, Summary, resample, summarize
from bench.evaluation.predictions import align
from bench.evaluation.scores import replicates_for
from bench.results.elsewhere import Evaluation, find_evaluations

METRIC = "auroc"


@dataclass(frozen=True)
class RowElsewhere:
    """A row in distribution and elsewhere: mean of its runs and interval of both."""

    row: Row
    num_runs: int
    home: Summary
    away: Summary


@dataclass(frozen=True)
class PairElsewhere:
    """First row minus second, in distribution and elsewhere, over the runs that both have."""

    first: str
    second: str
    num_pairs: int
    home: Summary
    away: Summary


@dataclass(frozen=True, eq=False)
class BoardElsewhere:
    """The rows of a board that were tested under the same conditions."""

    board: Board
    first: Evaluation
    """One of the evaluations; all have the same data set, labels and corruptions."""
    labels: tuple[str, ...]
    """The labels of the averages; empty if none is frequent on both sides."""
    num_positives: Mapping[str, int]
    """Shared label -> number of records elsewhere that have it."""
    aurocs: Mapping[str, Mapping[str, float]]
    """Shared label -> row -> mean AUROC elsewhere; NaN where it is undefined."""
    rows: tuple[RowElsewhere, ...]
    pairs: tuple[PairElsewhere, ...]

    @property
    def title(self) -> str:
        """Return the conditions in words: data set, corruptions, and seed and rate unless they are the usual ones."""
        name, corruptions, seed, rate = self.first.conditions
        seeds = [f"seed {seed}"] if corruptions and seed else []
        rates = [f"files at {rate} Hz"] if self.first.document.get("source_rate") else []
        return ", ".join([name, *corruptions, *seeds, *rates])


@dataclass(frozen=True, eq=False)
class Robustness:
    """The rows of a board on fold 10 after each of several corruptions, at strengths from mild to severe."""

    board: Board
    curves: Mapping[str, tuple[tuple[float, BoardElsewhere], ...]]
    """Name of a corruption -> strength and rows."""

    @property
    def all(self) -> list[BoardElsewhere]:
        """Every corruption at every strength."""
        return [tested for curve in self.curves.values() for _, tested in curve]


def robustness_of(tested: Sequence[BoardElsewhere]) -> tuple[list[Robustness], list[BoardElsewhere]]:
    """Return the tables of fold 10 after one corruption, together for each board and seed, and the other tables."""
    groups: dict[object, list[tuple[Corruption, BoardElsewhere]]] = defaultdict(list)
    others = []
    for each in tested:
        dataset, corruptions, seed, rate = each.first.conditions
        if dataset == each.board.dataset and len(corruptions) == 1 and each.rows:
            groups[each.board, seed, rate].append((Corruption.parse(corruptions[0]), each))
        else:
            others.append(each)
    robustness = []
    for group in groups.values():
        curves: dict[str, list[tuple[float, BoardElsewhere]]] = defaultdict(list)
        for corruption, each in sorted(group, key=lambda item: item[0].severity):
            curves[corruption.name].append((corruption.strength, each))
        robustness.append(Robustness(group[0][1].board, {name: tuple(curve) for name, curve in curves.items()}))
    return robustness, others


def boards_elsewhere(board: Board, left_out: Callable[[str], None] | None = None) -> list[BoardElsewhere]:
    """Return a table for each data set, corruption, seed and rate under which runs of the board were tested.

    Empty without the board's labels. With `left_out`, damaged evaluations are left out, with a line each.
    """
    if board.truth is None:
        return []
    of_conditions: dict[object, list[tuple[Row, Evaluation]]] = defaultdict(list)
    for row in board.rows:
        for evaluation in (each for run in row.runs for each in find_evaluations(run, left_out)):
            same = (*evaluation.conditions, evaluation.document["dataset"]["content"], evaluation.labels)
            of_conditions[same].append((row, evaluation))
    return [
        _tested(board, board.truth, tested)
        for _, tested in sorted(of_conditions.items(), key=lambda item: str(item[0]))
    ]


def _tested(board: Board, home: LabelTable, tested: Sequence[tuple[Row, Evaluation]]) -> BoardElsewhere:
    first = tested[0][1]
    away = first.truths
    replicates = replicates_for(away.patient, away.y_true, first.labels, NUM_REPLICATES, SEED)
    columns = [home.labels.index(label) for label in first.labels]
    on_home, on_away = metrics.frequent(home.y_true)[columns], metrics.frequent(away.y_true)
    chosen = [label for label, both in zip(first.labels, on_home & on_away, strict=True) if both]
    masks = np.isin(home.labels, chosen), np.isin(first.labels, chosen)
    scored: dict[str, tuple[Row, ScoredRow]] = {}
    for row in dict.fromkeys(row for row, _ in tested):
        evaluations = [evaluation for other, evaluation in tested if other is row]
        runs = {each.run.place: _scored(each, first, replicates) for each in evaluations}
        scored[row.name] = row, runs
    rows = (
        [
            RowElsewhere(row, len(runs), *_both({place: row.scored[place] for place in runs}, runs, masks))
            for row, runs in scored.values()
        ]
        if chosen
        else []
    )
    pairs = (
        [pair for each in itertools.combinations(scored.values(), 2) if (pair := _pair(*each, masks))] if chosen else []
    )
    aurocs = {
        label: {
            name: float(design_of(runs).mean([run.resampled.auroc.value[column] for run in runs.values()]))
            for name, (_, runs) in scored.items()
        }
        for column, label in enumerate(first.labels)
    }
    positives = dict(zip(first.labels, away.y_true.sum(axis=0).tolist(), strict=True))
    return BoardElsewhere(board, first, tuple(chosen), positives, aurocs, tuple(rows), tuple(pairs))


def _scored(evaluation: Evaluation, first: Evaluation, replicates: Replicates) -> ResampledRun:
    """Resample the scores of a run elsewhere. Raises DataError if its records or labels are not those of `first`."""
    truths, wanted = evaluation.truths, first.truths
    if not (np.array_equal(truths.y_true, wanted.y_true) and np.array_equal(truths.patient, wanted.patient)):
        raise DataError(
            f"{evaluation.folder} and {first.folder} differ in labels or patients; run `bench evaluate` on both again"
        )
    y_score = align(truths.predictions, wanted.predictions.ecg_id, first.labels)
    return ResampledRun(y_score, resample(wanted.y_true, y_score, replicates), evaluation.run.streams)


def _both(home: ScoredRow, away: ScoredRow, masks: tuple[metrics.Bools, metrics.Bools]) -> tuple[Summary, Summary]:
    """Return the mean of the runs of a row with its interval, in distribution and elsewhere."""
    summaries = [
        summarize(estimates(scored, METRIC, mask), design=design_of(scored))
        for scored, mask in zip((home, away), masks, strict=True)
    ]
    return summaries[0], summaries[1]


def _pair(
    first: tuple[Row, ScoredRow], second: tuple[Row, ScoredRow], masks: tuple[metrics.Bools, metrics.Bools]
) -> PairElsewhere | None:
    """Return the difference of two rows on both sides; None if no run of one has a partner."""
    places = [place for place in first[1] if place in second[1]]
    if not places:
        return None
    summaries = []
    for sides, mask in zip(((first[0].scored, second[0].scored), (first[1], second[1])), masks, strict=True):
        paired = [{place: side[place] for place in places} for side in sides]
        runs, partners = (estimates(each, METRIC, mask) for each in paired)
        differences = [run - partner for run, partner in zip(runs, partners, strict=True)]
        summaries.append(summarize(differences, bounds=(-1.0, 1.0), design=design_of(*paired)))
    return PairElsewhere(first[0].name, second[0].name, len(places), *summaries)
