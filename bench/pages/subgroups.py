"""Write the side page on parts of fold 10: age bands, sexes, devices and sites."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from bench.boards.comparisons import design_of
from bench.boards.on_cores import on_cores
from bench.boards.resampling import unread
from bench.boards.rows import Board
from bench.boards.subgroups import MIN_RECORDS, groups_of
from bench.boards.truth import Truth
from bench.data.splits import TEST_FOLD
from bench.data.tasks import LabelTable
from bench.errors import BenchError
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, make_replicates, summarize
from bench.evaluation.metrics import Bools
from bench.evaluation.runs import Design
from bench.evaluation.sampler import Sampler
from bench.pages.about_data import data_lines
from bench.pages.markdown import markdown_table, sentence
from bench.pages.names import labels_note, numbered
from bench.pages.spelling import spell
from bench.results.result import Result

NUM_REPLICATES = 500
NUM_ROWS = 3
FEW_PARTS = 1000
"""Number of parts, times labels and runs, for which a chunk of work is worth its start."""


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
    parts = [part for part in groups_of(truth.people(board.truth)) if part[0] in ("age", "sex") or _is_large(part[2])]
    given = [(unread(row.runs), design_of(row.scored)) for row in rows]
    work = functools.partial(_cells, board.truth, given)
    least = 1 + FEW_PARTS // (1 + len(board.truth.labels) * sum(len(row.runs) for row in rows))
    cells = dict(on_cores(work, [mask for _, _, mask in parts], least))
    lines += markdown_table(head, [[kind, name, *cells[at]] for at, (kind, name, _) in enumerate(parts)], left=2)
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


def _is_large(mask: Bools) -> bool:
    return bool(mask.sum() >= MIN_RECORDS)


def _cells(truth: LabelTable, rows: Sequence[tuple[Sequence[Result], Design]], mask: Bools) -> list[str]:
    """Return the table cells of one part of fold 10, the records where `mask` [record] is True."""
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
    cells, sampler = [], Sampler(y_true, replicates.counts)
    for of_row, design in rows:
        of_part = [run.scores(TEST_FOLD, truth).astype(np.float64)[mask][:, chosen] for run in of_row]
        runs = [Estimate(metrics.auroc(y_true, each), sampler.resample(each)[0]).macro(every) for each in of_part]
        cells.append(spell(summarize(runs, design=design)))
    return [*counts, *cells]
