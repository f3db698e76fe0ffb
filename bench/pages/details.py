"""Compute what the page to play with shows of two rows beyond their macro AUROC: by label and by part of fold 10."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.boards.comparisons import ALPHA, Comparison, ScoredRow, design_of, label_differences, paired_runs
from bench.boards.declared import EXPLORATORY, Pair
from bench.boards.rows import Board
from bench.data.tasks import LabelTable
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Interval
from bench.evaluation.placements import placements
from bench.evaluation.runs import Place, critical_value
from bench.pages.subgroups import shown_groups


@dataclass(frozen=True)
class Part:
    """A label, or a part of fold 10, with the AUROC of each row there and the differences between rows."""

    name: str
    facts: str
    """How many positives, or how many records, patients and labels it has."""
    scores: Mapping[str, float]
    """Row name -> AUROC of the label, or macro AUROC in the part; the mean of the row's runs."""
    differences: Mapping[Pair, Interval]
    """Names of two rows -> first minus second."""


@dataclass(frozen=True)
class Details:
    """Labels and parts of fold 10 of a board."""

    labels: Sequence[Part] = ()
    parts: Sequence[Part] = ()
    complete: bool = True
    """Whether they have the differences of all pairs of the board."""


def some_pairs(board: Board, most: int) -> list[Comparison]:
    """Return all pairs of a board; of more than `most` pairs those declared, and then those with a baseline."""
    assert board.standing is not None
    pairs = list(board.standing.pairs)
    if len(pairs) <= most:
        return pairs
    baselines = board.standing.baselines
    kept = [pair for pair in pairs if pair.role != EXPLORATORY or {pair.first, pair.second} & baselines]
    return sorted(kept, key=lambda pair: pair.role == EXPLORATORY)[:most]


def details(board: Board, people: pd.DataFrame, most: int) -> Details:
    """Return the frequent labels and the parts of fold 10, with at most `most` differences.

    `people` are the rows of the records' table. A board without comparisons has no details.
    """
    if board.truth is None or board.standing is None:
        return Details()
    columns = np.flatnonzero(metrics.frequent(board.truth.y_true)).tolist()
    parts = list(_scored_parts(board, board.truth, people))
    pairs = some_pairs(board, most // (len(columns) + len(parts)))
    complete = len(pairs) == len(board.standing.pairs)
    return Details(_by_label(board, board.truth, columns, pairs), _by_part(board, parts, pairs), complete)


def _by_label(board: Board, truth: LabelTable, columns: Sequence[int], pairs: Sequence[Comparison]) -> list[Part]:
    """Return labels with the differences that `bench compare` shows: 95 % intervals, not corrected."""
    rows = {row.name: row.scored for row in board.rows}
    differences = {
        (pair.first, pair.second): label_differences(*paired_runs(rows[pair.first], rows[pair.second]), truth)
        for pair in pairs
    }
    parts = []
    for column in columns:
        label = truth.labels[column]
        scores = {
            name: _mean(row, [run.resampled.auroc.value[column] for run in row.values()]) for name, row in rows.items()
        }
        of_pairs = {pair: of_label[label].interval for pair, of_label in differences.items()}
        parts.append(Part(label, f"{int(truth.y_true[:, column].sum()):,} positives", scores, of_pairs))
    return parts


def _mean(row: ScoredRow, values: Sequence[float]) -> float:
    return float(design_of(row).mean(values))


@dataclass(frozen=True)
class _Scored:
    """Macro AUROC of a run in a part, and how much each patient contributes to its error."""

    value: float
    influence: metrics.Floats
    """[patient]. The sum of squares is DeLong's variance of the value, with patients as clusters."""


_Runs = Mapping[str, Mapping[Place, _Scored]]
"""Row name -> draw and seed -> score of the run."""


def _by_part(board: Board, parts: Sequence[tuple[str, str, _Runs]], pairs: Sequence[Comparison]) -> list[Part]:
    """Return parts of fold 10, with macro AUROC over the labels that are frequent in the part.

    The intervals of a pair's differences are corrected for the number of parts (Bonferroni): together they hold in 95 %
    of studies. Their errors are DeLong's with patients as clusters, as in `placements.difference_p`, and those of runs.
    """
    rows = {row.name: row.scored for row in board.rows}
    alpha, differences = ALPHA / max(len(parts), 1), list[dict[Pair, Interval]]()
    differences = [{} for _ in parts]
    for pair in pairs:
        first, second = paired_runs(rows[pair.first], rows[pair.second])
        design = design_of(first, second)
        values, variances = np.empty((len(parts), len(first))), np.empty(len(parts))
        for at, (_, _, runs) in enumerate(parts):
            paired = [(runs[pair.first][place], runs[pair.second][place]) for place in first]
            values[at] = [a.value - b.value for a, b in paired]
            variances[at] = np.square(design.mean([a.influence - b.influence for a, b in paired])).sum()
        own = design.variance(values)
        errors = critical_value(alpha, variances, own.of_mean, own.degrees_of_freedom)
        for of_part, value, error in zip(differences, design.mean(values.T).tolist(), errors.tolist(), strict=True):
            of_part[pair.first, pair.second] = Interval(value, max(value - error, -1.0), min(value + error, 1.0))
    return [
        Part(
            name,
            facts,
            {row: _mean(rows[row], [run.value for run in of_row.values()]) for row, of_row in runs.items()},
            of_part,
        )
        for (name, facts, runs), of_part in zip(parts, differences, strict=True)
    ]


def _scored_parts(board: Board, truth: LabelTable, people: pd.DataFrame) -> Iterator[tuple[str, str, _Runs]]:
    """Yield name, facts and scores of each part in which a label is frequent."""
    for kind, name, mask in shown_groups(people):
        part = truth.select(mask)
        chosen = metrics.frequent(part.y_true)
        if chosen.any():
            frequent, num_labels = replace(part, y_true=part.y_true[:, chosen]), int(chosen.sum())
            counts = f"{len(part):,} records of {len(np.unique(part.patient_id)):,} patients"
            scores = {
                row.name: {place: _scored(frequent, run.y_score[mask][:, chosen]) for place, run in row.scored.items()}
                for row in board.rows
            }
            yield f"{kind} {name}", f"{counts}, {num_labels} label{'s' * (num_labels > 1)}", scores


def _scored(truth: LabelTable, y_score: NDArray[Any]) -> _Scored:
    """Score a run on the records of `truth`, over its labels."""
    y_true = truth.y_true.astype(bool)
    placed, num_positives = placements(y_true, y_score), y_true.sum(axis=0)
    auroc = np.where(y_true, placed, 0).sum(axis=0) / num_positives
    size = np.where(y_true, num_positives, len(y_true) - num_positives)
    _, patient_of_record = np.unique(truth.patient_id, return_inverse=True)
    of_record = ((placed - auroc) / np.sqrt(size * (size - 1.0))).mean(axis=1)
    influence = np.asarray(np.bincount(patient_of_record, of_record), dtype=np.float64)
    return _Scored(float(auroc.mean()), influence)
