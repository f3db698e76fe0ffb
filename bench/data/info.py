"""Count what a data set holds: records, patients, ages, sexes, and positives by label, fold and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.data.datasets import load_records
from bench.data.published import version_of
from bench.data.records import Records
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tasks import (
    LabelTable,
    NoPositive,
    Task,
    find_task,
    label_table,
    labels_of_statements,
    tasks_of,
    tasks_of_labels,
)
from bench.registry.registry import why_it_fails

FOLDS = range(1, 11)
HIDDEN_AGE = 300
"""PTB-XL 1.0.3 writes this value for every age above 89."""
NUM_NAMED = 8
"""Number of sites or devices that are counted each."""
SEXES = {0: "male", 1: "female"}
"""Codes of the column `sex` -> words."""


def describe(folder: Path, tasks: Sequence[Task | str] | None = None) -> dict[str, Any]:
    """Return counts of a data set and of these tasks (default: all that apply) as plain data. Reads no signals."""
    records = load_records(folder)
    chosen = [find_task(task, records) if isinstance(task, str) else task for task in tasks or tasks_of(records)]
    patients = records.table.groupby("patient_id")
    return {
        "folder": str(folder),
        "name": records.name,
        "version": version_of(records),
        "licence": records.licence,
        "source": records.source,
        "content": records.content,
        "records": len(records),
        "patients": patients.ngroups,
        "most_records_of_a_patient": int(patients.size().max()),
        "ages_years": _ages(records),
        "sexes": _sexes(records),
        "sites": _most_frequent(records, "site"),
        "devices": _most_frequent(records, "device"),
        "folds": {
            fold: {
                "records": int((records.strat_fold == fold).sum()),
                "patients": len(np.unique(records.patient_id[records.strat_fold == fold])),
            }
            for fold in FOLDS
        },
        "labels": _labels(records),
        "tasks": {task.name: counts_of(records, task) for task in chosen},
    }


def counts_of(records: Records, task: Task) -> dict[str, Any]:
    """Return `task_counts` of a task; all 0 if no record has a label of the task.

    `note` is the reason why the task cannot be run on these records; empty if it can.
    """
    applies = task.dataset == records.dataset  # else label_table says so
    reason = why_it_fails(lambda: labels_of_statements(records, task)) if applies else None
    if reason is None:
        try:
            return task_counts(label_table(records, task))
        except NoPositive as error:
            reason = str(error)
    none = np.zeros(0, dtype=np.int64)
    nothing = LabelTable(task.name, (), none, none, none, np.zeros((0, 0), dtype=bool))
    return {**task_counts(nothing), "note": reason}


def task_counts(table: LabelTable) -> dict[str, Any]:
    """Count records and patients of each split, and positives of each label by split and by fold."""
    parts = {"train": table.strat_fold < VAL_FOLD, "val": table.strat_fold == VAL_FOLD}
    parts["test"] = table.strat_fold == TEST_FOLD

    def positives(mask: npt.NDArray[np.bool_]) -> list[int]:
        counts: list[int] = table.y_true[mask].sum(axis=0).tolist()
        return counts

    by_part = {name: positives(mask) for name, mask in parts.items()}
    sizes = {name: int(mask.sum()) for name, mask in parts.items()}
    by_fold = {fold: positives(table.strat_fold == fold) for fold in FOLDS}
    return {
        "note": _note(sizes, by_part),
        "fingerprint": table.fingerprint,
        "records": len(table),
        **sizes,
        "patients": {name: len(np.unique(table.patient_id[mask])) for name, mask in parts.items()},
        "labels": {
            label: {
                **{name: counts[column] for name, counts in by_part.items()},
                "folds": {fold: counts[column] for fold, counts in by_fold.items()},
            }
            for column, label in enumerate(table.labels)
        },
    }


def _note(sizes: Mapping[str, int], positives: Mapping[str, list[int]]) -> str:
    """Return why a task with these sizes and positives [label] of each split cannot be run; empty if it can."""
    folds = {"train": "folds 1-8", "val": "fold 9", "test": "fold 10"}
    for part, num in sizes.items():
        if num == 0:
            return f"no record in {folds[part]}"
    for part in ("val", "test"):
        if not any(0 < num < sizes[part] for num in positives[part]):
            return f"no label has both a positive and a negative in {folds[part]}"
    return ""


def label_rows(counts: dict[str, Any]) -> list[dict[str, str | int]]:
    """Return one table row for each label from `task_counts`: positives in each split and fold."""
    return [
        {
            "label": label,
            **{part: positives[part] for part in ("train", "val", "test")},
            **{f"f{fold}": num for fold, num in positives["folds"].items()},
        }
        for label, positives in counts["labels"].items()
    ]


def task_rows(tasks: dict[str, Any]) -> list[dict[str, str | int]]:
    """Return one table row for each task from `describe`; with a note if any task cannot be run."""
    noted = any(counts["note"] for counts in tasks.values())
    return [
        {
            "task": name,
            "labels": len(counts["labels"]),
            **{key: counts[key] for key in ("records", "train", "val", "test")},
            "test patients": counts["patients"]["test"],
            "fingerprint": counts["fingerprint"][:8] if counts["labels"] else "-",
            **({"note": counts["note"]} if noted else {}),
        }
        for name, counts in tasks.items()
    ]


def _labels(records: Records) -> list[dict[str, str | int]]:
    """Return one table row for each label of a data set with tasks of its labels: PTB-XL code, group, positives."""
    if not tasks_of_labels(records):
        return []
    parts = {"train": records.strat_fold < VAL_FOLD, "val": records.strat_fold == VAL_FOLD}
    parts["test"] = records.strat_fold == TEST_FOLD
    rows: list[dict[str, str | int]] = []
    for code, statement in records.statements.iterrows():
        has = np.array([code in codes for codes in records.scp_codes])
        positives: dict[str, str | int] = {name: int((has & mask).sum()) for name, mask in parts.items()}
        rows.append({"label": str(code), "PTB-XL": statement["ptbxl"], "group": statement["group"], **positives})
    return rows


def _column(records: Records, name: str) -> pd.Series:
    """Return a column as numbers, all NaN if the table lacks it."""
    if name not in records.table:
        return pd.Series(np.nan, index=records.table.index)
    return pd.to_numeric(records.table[name], errors="coerce")


def _ages(records: Records) -> dict[str, float | int | None]:
    age = _column(records, "age")
    known = age[age < HIDDEN_AGE]
    spread = {"min": known.min(), "median": known.median(), "max": known.max()}
    return {
        **{name: None if pd.isna(value) else float(value) for name, value in spread.items()},
        "hidden_above_89": int((age == HIDDEN_AGE).sum()),
        "unknown": int(age.isna().sum()),
    }


def _most_frequent(records: Records, column: str) -> dict[str, int]:
    """Count records of the most frequent values of a column; others together; empty if the table lacks it."""
    if column not in records.table:
        return {}
    known = records.table[column].dropna().map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))
    counts = known[known != ""].value_counts()
    named = {str(name): int(num) for name, num in counts.iloc[:NUM_NAMED].items()}
    others = {"others": int(counts.iloc[NUM_NAMED:].sum())} if len(counts) > NUM_NAMED else {}
    return {**named, **others, "unknown": len(records) - int(counts.sum())}


def _sexes(records: Records) -> dict[str, int]:
    sex = _column(records, "sex")
    counts = {name: int((sex == code).sum()) for code, name in SEXES.items()}
    return {**counts, "unknown": len(sex) - sum(counts.values())}
