"""Write the side page on calibrated probabilities and on decisions at thresholds chosen on fold 9."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from bench.boards.on_cores import LEAST_ROWS, on_cores
from bench.boards.resampling import replicates_of, unread
from bench.boards.rows import Board, Row, design_of_runs
from bench.boards.truth import Truth
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tasks import LabelTable
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, Summary, summarize
from bench.evaluation.metrics import Decisions, Floats, Reliability
from bench.evaluation.runs import borrow
from bench.pages.about_data import data_lines
from bench.pages.markdown import folded, markdown_table, sentence
from bench.pages.names import columns, labels_note, numbered, places
from bench.pages.spelling import spell
from bench.results.result import Result


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A row's calibration on fold 10: means over its runs and over the labels with at least 10 positives."""

    row: Row
    brier: Summary
    calibration_error: float
    curve: Reliability
    """Frequent labels and runs pooled into a single column."""
    decisions: Decisions | None
    """[label] With thresholds of the best F1 on fold 9; None if a run has no scores of fold 9."""


def calibrate(board: Board, truth: Truth) -> list[Calibrated]:
    """Return the calibration of each row whose scores are logits or probabilities; empty without labels."""
    if board.truth is None or not metrics.frequent(board.truth.y_true).any():
        return []
    rows = [row for row in board.rows if all(run.has_scale for run in row.runs)]
    given = [(unread(row.runs), truth.fold(row.runs[0], VAL_FOLD)) for row in rows]
    calibrated = dict(on_cores(functools.partial(_numbers, board.truth), given, LEAST_ROWS))
    designs = [design_of_runs(row.runs) for row in rows]
    briers = [calibrated[at][0] for at in range(len(rows))]
    own = [design.variance([run.value for run in runs]) for design, runs in zip(designs, briers, strict=True)]
    priors = borrow(own, len(own))
    summaries = [summarize(runs, design=design, priors=priors) for runs, design in zip(briers, designs, strict=True)]
    return [Calibrated(row, summaries[at], *calibrated[at][1:]) for at, row in enumerate(rows)]


def _numbers(
    test: LabelTable, row: tuple[Sequence[Result], LabelTable | None]
) -> tuple[list[Estimate], float, Reliability, Decisions | None]:
    """Return the numbers of a row, from its runs and the labels of fold 9, if they are at hand.

    The first are the Brier scores of its runs.
    """
    runs, val = row
    weights = design_of_runs(runs).weights
    chosen = metrics.frequent(test.y_true)
    y_true, counts = test.y_true[:, chosen], replicates_of(test).counts.astype(np.float64)
    num_records = counts.sum(axis=1)
    probs = [expit(run.scores(TEST_FOLD, test).astype(np.float64)[:, chosen]) for run in runs]
    squares = [np.square(prob - y_true).mean(axis=1) for prob in probs]  # [record]
    briers = [Estimate(np.asarray(square.mean()), counts @ square / num_records) for square in squares]
    errors = [metrics.expected_calibration_error(y_true, prob).mean() for prob in probs]
    pooled = metrics.reliability(np.tile(y_true.reshape(-1, 1), (len(probs), 1)), np.concatenate(probs).reshape(-1, 1))
    return briers, float(weights @ errors), pooled, _decide(runs, test, val, weights)


def _decide(runs: Sequence[Result], test: LabelTable, val: LabelTable | None, weights: Floats) -> Decisions | None:
    """Return the quality of decisions on fold 10 by each run's thresholds of fold 9: means over runs [label].

    `weights` [run] sum to 1.
    """
    if val is None or any(VAL_FOLD not in run.predictions for run in runs):
        return None
    of_runs = []
    for run in runs:
        thresholds = metrics.f1_thresholds(val.y_true, run.scores(VAL_FOLD, val).astype(np.float64))
        y_score = run.scores(TEST_FOLD, test).astype(np.float64)
        of_runs.append(_columns(metrics.decisions(test.y_true, y_score, thresholds)))
    return Decisions(*np.tensordot(weights, of_runs, axes=1))


def calibration_page(boards: Sequence[tuple[Board, Sequence[Calibrated]]], pictures: Mapping[Board, str]) -> str:
    """Return the Markdown page of a task; `pictures` is board -> file of its reliability curves."""
    first = boards[0][0]
    lines = [f"# Calibration and decisions: {first.task} on {first.dataset}", ""]
    lines += data_lines([board for board, _ in boards])
    lines += [f"[Back to the board]({first.task}.md)", ""]
    for board, rows in boards:
        lines += [f"## {board.title}", ""]
        names, shared = columns(board)
        notes = " ".join(filter(None, [shared, sentence(labels_note(board.rows))]))
        lines += [notes, ""] if notes else []
        head = ["rank", *names, "Brier", "ECE", "sensitivity", "specificity", "F1"]
        lines += markdown_table(head, [_cells(each, board) for each in rows], left=1 + len(names))
        lines += [f"![Reliability curves]({pictures[board]})", ""] if board in pictures else []
        lines += _by_label(board, rows[0])
    lines += [
        "---",
        "",
        "All numbers are means over the labels with at least 10 positives in fold 10 and over the runs of a row. "
        f"Brier score: lower is better; the prevalence of each label as its probability has {_chance(first):.4f}. "
        "Its 95 % intervals are over patients and runs; a row of fewer than three runs takes the variation of runs "
        "from other rows, if enough of them have it. ECE: expected calibration error over 10 bins of equal width. "
        "A record is called positive if its score reaches the threshold, which is the score with the best F1 on "
        "fold 9. Sensitivity, specificity and F1 are those of fold 10, on which nothing is fitted; –: a run of the "
        "row was published without its scores of fold 9. Rows have the ranks of the board. Rows of unknown scale "
        "are left out. Pictures also leave out constant scores. Nothing here is tested: each number is about the "
        "row's trained models, subset and weights.",
        "",
    ]
    return "\n".join(lines)


def _chance(board: Board) -> float:
    assert board.truth is not None
    prevalence = board.truth.y_true.mean(axis=0)
    return float(metrics.macro(prevalence * (1 - prevalence), metrics.frequent(board.truth.y_true)))


def _cells(calibrated: Calibrated, board: Board) -> list[str]:
    place, (names, _) = places(board)[calibrated.row.name], columns(board)
    cells = [str(place), *(column[place - 1] for column in names.values())]
    cells += [spell(calibrated.brier), f"{calibrated.calibration_error:.4f}"]
    if calibrated.decisions is None or board.truth is None:
        return [*cells, "–", "–", "–"]
    chosen = metrics.frequent(board.truth.y_true)
    return [*cells, *(_mean(values[chosen]) for values in _columns(calibrated.decisions))]


def _columns(decisions: Decisions) -> tuple[Floats, Floats, Floats]:
    """Return sensitivity, specificity and F1, each [label]."""
    return decisions.sensitivity, decisions.specificity, decisions.f1


def _mean(values: Floats) -> str:
    known = values[~np.isnan(values)]
    left_out = f" ({len(values) - len(known)} labels undefined)" if len(known) < len(values) else ""
    return f"{known.mean():.3f}{left_out}" if len(known) else "–"


def _by_label(board: Board, calibrated: Calibrated) -> list[str]:
    """Return a folded table of a row's decisions for each label; empty if there are none."""
    if calibrated.decisions is None or board.truth is None:
        return []
    rows = []
    for column, label in enumerate(board.truth.labels):
        of_label = [values[column] for values in _columns(calibrated.decisions)]
        positives = str(int(board.truth.y_true[:, column].sum()))
        rows.append([label, positives, *("–" if math.isnan(v) else f"{v:.3f}" for v in of_label)])
    head = ["label", "n+", "sensitivity", "specificity", "F1"]
    return folded(f"{numbered(board)[calibrated.row.name]}, label by label", markdown_table(head, rows))
