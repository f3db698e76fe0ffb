"""Compute what the page to play with shows of two rows beyond their macro AUROC: by label and by part of fold 10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.boards.comparisons import Comparison, ScoredRow, design_of, paired_runs, priors_of_labels
from bench.boards.declared import EXPLORATORY, Pair
from bench.boards.resampling import label_replicates
from bench.boards.rows import Board
from bench.boards.subgroups import SubgroupPart, parts_of, priors_within
from bench.data.tasks import LabelTable
from bench.evaluation import compare, metrics
from bench.evaluation.bootstrap import Estimate, Interval
from bench.evaluation.metrics import Bools
from bench.evaluation.parts import Effect, bounds, macro_auroc


@dataclass(frozen=True)
class Part:
    """A label, or a part of fold 10, with the AUROC of each row there and the differences between rows."""

    name: str
    facts: str
    """Of a label, its positives; of a part, its records, patients and labels."""
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
    every = [(part, metrics.frequent(board.truth.y_true[part.members])) for part in parts_of(people)]
    parts = [(part, labels) for part, labels in every if labels.any()]
    pairs = some_pairs(board, most // (len(columns) + len(parts)))
    complete = len(pairs) == len(board.standing.pairs)
    return Details(_by_label(board, board.truth, columns, pairs), _by_part(board, board.truth, parts, pairs), complete)


def _by_label(board: Board, truth: LabelTable, columns: Sequence[int], pairs: Sequence[Comparison]) -> list[Part]:
    """Return labels with the differences that `bench compare` shows: 95 % intervals, not corrected."""
    rows = {row.name: row.scored for row in board.rows}
    priors = priors_of_labels(rows, truth)
    every = [run for row in rows.values() for run in row.values()]
    replicates = dict(zip(every, label_replicates(every, truth), strict=True))
    parts = []
    for place, column in enumerate(columns):
        of_rows = {
            name: {
                key: Estimate(run.label_values("auroc")[column], replicates[run][:, place]) for key, run in row.items()
            }
            for name, row in rows.items()
        }
        scores = {
            name: _mean(rows[name], [float(run.value) for run in each.values()]) for name, each in of_rows.items()
        }
        differences = {}
        for pair in pairs:
            first, second = paired_runs(rows[pair.first], rows[pair.second])
            differences[pair.first, pair.second] = compare.difference(
                [of_rows[pair.first][key] for key in first],
                [of_rows[pair.second][key] for key in second],
                design=design_of(first, second),
                priors=priors[column],
            ).interval
        parts.append(
            Part(truth.labels[column], f"{int(truth.y_true[:, column].sum()):,} positives", scores, differences)
        )
    return parts


def _mean(row: ScoredRow, values: Sequence[float]) -> float:
    return float(design_of(row).mean(values))


def _by_part(
    board: Board, truth: LabelTable, parts: Sequence[tuple[SubgroupPart, Bools]], pairs: Sequence[Comparison]
) -> list[Part]:
    """Return parts of fold 10, with macro AUROC over the labels that are frequent there.

    The differences are those of `bench compare --by` for one pair and all of these parts.
    """
    rows, shown = {row.name: row.scored for row in board.rows}, list[Part]()
    every_prior = priors_within(rows, truth, [(part.members, labels) for part, labels in parts])
    of_parts: list[dict[str, Effect]] = [{} for _ in parts]
    for name, row in rows.items():
        y_scores = [run.y_score for run in row.values()]  # read once for all parts: a run does not keep its scores
        for (part, labels), effects in zip(parts, of_parts, strict=True):
            effects[name] = macro_auroc(truth.patient_id, truth.y_true, y_scores, part.members, labels)
    for (part, labels), priors, effects in zip(parts, every_prior, of_parts, strict=True):
        differences = {}
        for pair in pairs:
            of_first, of_second = paired_runs(rows[pair.first], rows[pair.second])
            first, second = (_of_runs(effects[name], rows[name], of_first) for name in (pair.first, pair.second))
            design = design_of(of_first, of_second)
            at = bounds(first - second, num_looks=len(parts), design=design, priors=priors)
            differences[pair.first, pair.second] = Interval(at.value, at.low, at.high)
        patients, num_labels = len(np.unique(truth.patient_id[part.members])), int(labels.sum())
        facts = f"{part.members.sum():,} records of {patients:,} patients, {num_labels} label{'s' * (num_labels > 1)}"
        scores = {name: _mean(row, effects[name].values.tolist()) for name, row in rows.items()}
        shown.append(Part(f"{part.by} {part.group}", facts, scores, differences))
    return shown


def _of_runs(effect: Effect, row: ScoredRow, chosen: ScoredRow) -> Effect:
    """Return the effect of some runs of a row."""
    places = list(row)
    at = [places.index(place) for place in chosen]
    return Effect(effect.values[at], effect.influence[at])
