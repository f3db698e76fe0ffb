"""Write the side page on parts of fold 10: age bands, sexes, devices and sites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.boards.comparisons import design_of
from bench.boards.resampling import Sampler
from bench.boards.rows import Board, Row
from bench.boards.subgroups import MIN_RECORDS, groups_of
from bench.boards.truth import Truth
from bench.data.tasks import LabelTable
from bench.errors import BenchError
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, make_replicates, summarize
from bench.evaluation.metrics import Bools
from bench.pages.about_data import data_lines
from bench.pages.markdown import markdown_table, sentence
from bench.pages.names import labels_note, numbered
from bench.pages.spelling import spell

NUM_REPLICATES = 500
NUM_ROWS = 3


def subgroup_page(board: Board, truth: Truth) -> str:
    """Return the Markdown page of a board: macro AUROC of its first rows and their baseline in each part of fold 10."""
    assert board.truth is not None
    contrasts = board.standing.baseline if board.standing else {}
    first = next((contrasts[row.name] for row in board.rows if row.name in contrasts), None)
    rows = [row for row in board.rows if first and row.name == first.second]
    rows = [*[row for row in board.rows if row not in rows][: NUM_ROWS - len(rows)], *rows]
    names = numbered(board)
    lines = [f"# Subgroups: {board.task} on {board.dataset}", "", f"[Back to the board]({board.task}.md)", ""]
    lines += data_lines([board])
    lines += [f"{board.title}: the first rows{' and the baseline' if first else ''}, by their rank on the board.", ""]
    lines += [sentence(note), ""] if (note := labels_note(rows)) else []
    head = ["", "part of fold 10", "records", "patients", "labels", *(names[row.name] for row in rows)]
    cells = []
    # read once: a run does not keep its scores
    scores = [[run.y_score.astype(np.float64) for run in row.scored.values()] for row in rows]
    for kind, name, mask in groups_of(truth.people(board.truth)):
        if kind in ("age", "sex") or mask.sum() >= MIN_RECORDS:
            cells.append([kind, name, *_cells(board.truth, mask, rows, scores)])
    lines += markdown_table(head, cells, left=2)
    lines += [
        "---",
        "",
        "Nothing here is tested or corrected for the number of parts: the page describes, it claims no difference. "
        "Macro AUROC is over the labels with at least 10 positives and 10 negatives in that part. So parts are not "
        f"comparable where their labels differ; rows are, within a part. 95 % intervals: {NUM_REPLICATES} replicates "
        f"of the part's patients, and runs. Devices and sites need at least {MIN_RECORDS} records of fold 10.",
        "",
    ]
    return "\n".join(lines)


def _cells(
    truth: LabelTable, mask: Bools, rows: Sequence[Row], scores: Sequence[Sequence[NDArray[np.float64]]]
) -> list[str]:
    """Return the cells of a part, which `mask` [record] chooses; `scores` [row][run] are [record, label]."""
    part = truth.select(mask)
    chosen = metrics.frequent(part.y_true)
    counts = [f"{len(part):,}", f"{len(np.unique(part.patient_id)):,}", str(int(chosen.sum()))]
    if not chosen.any():
        return [*counts, *["–"] * len(rows)]
    y_true = part.y_true[:, chosen]
    every = np.ones(y_true.shape[1], dtype=bool)
    try:
        replicates = make_replicates(part.patient_id, y_true, NUM_REPLICATES)
    except BenchError:
        return [*counts, *["–"] * len(rows)]
    cells, sampler = [], Sampler(y_true, replicates)
    for row, of_row in zip(rows, scores, strict=True):
        of_part = [y_score[mask][:, chosen] for y_score in of_row]
        runs = [Estimate(metrics.auroc(y_true, each), sampler.resample(each)[0]).macro(every) for each in of_part]
        cells.append(spell(summarize(runs, design=design_of(row.scored))))
    return [*counts, *cells]
