"""Write what boards rest on: the data set, its fold 10, and the training records of a board."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.boards.rows import Board, Row, chance_precision
from bench.data.datasets import origin_of
from bench.data.splits import TEST_FOLD
from bench.evaluation import metrics
from bench.results.result import Result

PTB_XL = "ptb-xl"
"""Beginning of the name of the data set whose published numbers reported.csv and the simulations hold."""


def about(boards: Sequence[Board]) -> list[str]:
    """Return a sentence on the records, patients and labels of fold 10; nothing without rows."""
    test = fold_facts(boards)
    if not test:
        return []
    words = (
        f"Fold 10: {test['num_records']:,} records of {test['num_patients']:,} patients, "
        f"{test['macro']['all']['num_labels']} labels, {test['macro']['frequent']['num_labels']} of them with at "
        f"least {metrics.MIN_POSITIVES} positives and as many negatives (frequent labels). All claims rest on the "
        "frequent labels."
    )
    chance = next((chance_precision(board.truth) for board in boards if board.truth), math.nan)
    if not math.isnan(chance):
        words += f" Random scores have macro AUROC 0.5 and macro AP {chance:.3f} (the mean prevalence)."
    return [words, ""]


def data_lines(boards: Sequence[Board]) -> list[str]:
    """Return the licence and source of the data set, as its reader states them, or else as the results record them."""
    runs = [run for board in boards for row in board.rows for run in row.runs]
    sections = [run.document.get("dataset", {}) for run in runs]
    recorded = ((section["licence"], section.get("source", "")) for section in sections if section.get("licence"))
    origin = origin_of(boards[0].dataset) or next(recorded, None)
    num = next((section["num_records"] for section in sections if "num_records" in section), None)
    if num is None or not origin:  # older results do not record the number
        return []
    licence, source = (" ".join(str(text).split()) for text in origin)
    return [f"Data: {boards[0].dataset}, {num:,} records, licence: {licence}, source: {source}.", ""]


def trained_on(board: Board) -> str:
    """Return as text the numbers of training records, patients and draws, and the labels without a positive there."""
    by_records = {
        run.thinned: run.document.get("split", {}) for row in board.rows for run in row.runs if not run.external
    }
    splits = [split for split in by_records.values() if "train_records" in split]
    if not splits:
        return ""
    words = f"{_counted([split['train_records'] for split in splits])} records"
    if all("train_patients" in split for split in splits):
        words += f" of {_counted([split['train_patients'] for split in splits])} patients"
    if board.fraction < 1 and not board.manifest:
        words += f", {len(splits)} draw" + "s" * (len(splits) > 1)
    lacking = [label for split in splits for label in split.get("labels_without_training_positive", ())]
    if lacking:
        unseen = [
            label + (f" (in {lacking.count(label)} of the draws)" if lacking.count(label) < len(splits) else "")
            for label in sorted(set(lacking))
        ]
        words += f"; no positive in training: {', '.join(unseen)}"
    return words


def seen_labels(run: Result) -> list[str]:
    """Return the labels of a run's task on which its first weights were trained, on the same training records."""
    facts, dataset = run.document.get("init", {}).get("facts", {}), run.document.get("dataset", {}).get("name")
    if not str(facts.get("trained_on", "")).endswith(f" of {dataset}, folds 1-8"):
        return []
    known = set(facts.get("labels", ()))
    return [label for label in run.document.get("task", {}).get("labels", ()) if label in known]


def num_labels(row: Row, chosen: str) -> int:
    """Return the number of labels of a row's macro averages; `chosen` is `all` or `frequent`."""
    return int(row.runs[0].document["metrics"][f"fold_{TEST_FOLD}"]["macro"][chosen]["num_labels"])


def fold_facts(boards: Sequence[Board]) -> Mapping[str, Any] | None:
    """Return the metrics of fold 10 of the first result, preferably of a board whose labels are available."""
    judged_first = sorted(boards, key=lambda board: board.truth is None)
    runs = (run for board in judged_first for row in board.rows for run in row.runs)
    return next((run.document["metrics"][f"fold_{TEST_FOLD}"] for run in runs), None)


def _counted(numbers: Sequence[int]) -> str:
    low, high = f"{min(numbers):,}", f"{max(numbers):,}"
    return low if low == high else f"{low} to {high}"
