"""How far probabilities can be believed, and decisions at thresholds chosen on fold 9: a page of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from bench.boards.rows import Board, Row, design_of_runs, replicates_of
from bench.boards.truth import Truth
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tasks import LabelTable
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, Summary, summarize
from bench.evaluation.metrics import Decisions, Floats, Reliability
from bench.evaluation.predictions import align
from bench.pages.markdown import folded, markdown_table
from bench.pages.names import columns, numbered, places
from bench.pages.page import spell
from bench.results.result import Result


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A row's probabilities judged on fold 10: means over its runs and over the labels with at least 10 positives."""

    row: Row
    brier: Summary
    calibration_error: float
    curve: Reliability
    """All labels and runs pooled, one column."""
    decisions: Decisions | None
    """[label] at thresholds for the best F1 on fold 9; None where a run has no scores of fold 9."""


def calibrate(board: Board, truth: Truth) -> list[Calibrated]:
    """Each row of a board whose scores are known to be logits; none where the dataset is not at hand."""
    if board.truth is None or not metrics.frequent(board.truth.y_true).any():
        return []
    return [_calibrate(row, board.truth, truth) for row in board.rows if all(map(_is_probability, row.runs))]


def _is_probability(run: Result) -> bool:
    return not run.external or run.document["scores"]["scale"] is not None


def _scores(run: Result, table: LabelTable, fold: int) -> NDArray[Any]:
    return align(run.predictions[fold], table.ecg_id, table.labels).astype(np.float64)


def _calibrate(row: Row, test: LabelTable, truth: Truth) -> Calibrated:
    chosen = metrics.frequent(test.y_true)
    y_true, counts = test.y_true[:, chosen], replicates_of(test).counts.astype(np.float64)
    num_records = counts.sum(axis=1)
    probs = [expit(_scores(run, test, TEST_FOLD)[:, chosen]) for run in row.runs]
    squares = [np.square(prob - y_true).mean(axis=1) for prob in probs]  # [record]
    briers = [Estimate(np.asarray(one.mean()), counts @ one / num_records) for one in squares]
    errors = [metrics.expected_calibration_error(y_true, prob).mean() for prob in probs]
    pooled = metrics.reliability(np.tile(y_true.reshape(-1, 1), (len(probs), 1)), np.concatenate(probs).reshape(-1, 1))
    return Calibrated(
        row,
        summarize(briers, design=design_of_runs(row.runs)),
        float(np.mean(errors)),
        pooled,
        _decide(row, test, truth),
    )


def _decide(row: Row, test: LabelTable, truth: Truth) -> Decisions | None:
    val = truth.fold(row.runs[0], VAL_FOLD)
    if val is None or any(VAL_FOLD not in run.predictions for run in row.runs):
        return None
    made = []
    for run in row.runs:
        thresholds = metrics.f1_thresholds(val.y_true, _scores(run, val, VAL_FOLD))
        made.append(metrics.decisions(test.y_true, _scores(run, test, TEST_FOLD), thresholds))
    return Decisions(
        np.mean([one.sensitivity for one in made], axis=0),
        np.mean([one.specificity for one in made], axis=0),
        np.mean([one.f1 for one in made], axis=0),
    )


def calibration_page(boards: Sequence[tuple[Board, Sequence[Calibrated]]], pictures: Mapping[Board, str]) -> str:
    """The Markdown page of one task; `pictures` [board] is the file of its reliability curves."""
    first = boards[0][0]
    lines = [f"# Calibration and decisions: {first.task} on {first.dataset}", ""]
    lines += [f"[Back to the board]({first.task}.md)", ""]
    for board, rows in boards:
        lines += [f"## {board.title}", ""]
        names, shared = columns(board)
        lines += [shared, ""] if shared else []
        head = ["rank", *names, "Brier", "ECE", "sensitivity", "specificity", "F1"]
        lines += markdown_table(head, [_cells(one, board) for one in rows], left=1 + len(names))
        lines += [f"![Reliability curves]({pictures[board]})", ""] if board in pictures else []
        lines += _by_label(board, rows[0])
    lines += [
        "---",
        "",
        "Means over the labels with at least 10 positives in fold 10 and over the runs of a row. Brier score: 95 % "
        "intervals over draws of patients, and runs; lower is better, and the prevalence of each label as its "
        f"probability has {_chance(first):.4f}. ECE: expected calibration error over 10 bins of equal width. A record "
        "is called positive from the score on that had the best F1 on fold 9; sensitivity, specificity and F1 are "
        "those of fold 10. Nothing is fitted on fold 10. Rows have the ranks of the board. Those whose scale is not "
        "known are left out; pictures leave out those of constant scores, too.",
        "",
    ]
    return "\n".join(lines)


def _chance(board: Board) -> float:
    assert board.truth is not None
    prevalence = board.truth.y_true.mean(axis=0)
    return float(metrics.macro(prevalence * (1 - prevalence), metrics.frequent(board.truth.y_true)))


def _cells(one: Calibrated, board: Board) -> list[str]:
    place, (names, _) = places(board)[one.row.name], columns(board)
    cells = [str(place), *(column[place - 1] for column in names.values())]
    cells += [spell(one.brier), f"{one.calibration_error:.4f}"]
    if one.decisions is None or board.truth is None:
        return [*cells, "–", "–", "–"]
    chosen = metrics.frequent(board.truth.y_true)
    found = (one.decisions.sensitivity, one.decisions.specificity, one.decisions.f1)
    return [*cells, *(_mean(values[chosen]) for values in found)]


def _mean(values: Floats) -> str:
    known = values[~np.isnan(values)]
    left_out = f" ({len(values) - len(known)} labels undefined)" if len(known) < len(values) else ""
    return f"{known.mean():.3f}{left_out}" if len(known) else "–"


def _by_label(board: Board, one: Calibrated) -> list[str]:
    if one.decisions is None or board.truth is None:
        return []
    rows = []
    for column, label in enumerate(board.truth.labels):
        found = [v[column] for v in (one.decisions.sensitivity, one.decisions.specificity, one.decisions.f1)]
        positives = str(int(board.truth.y_true[:, column].sum()))
        rows.append([label, positives, *("–" if math.isnan(v) else f"{v:.3f}" for v in found)])
    head = ["label", "n+", "sensitivity", "specificity", "F1"]
    return folded(f"{numbered(board)[one.row.name]}, label by label", markdown_table(head, rows))
