"""Count what a data set holds: records, patients, ages, sexes, and positives by label, fold and split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.data.datasets import load_records
from bench.data.published import version_of
from bench.data.records import Records
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tasks import LabelTable, Task, label_table, tasks_of

FOLDS = range(1, 11)
HIDDEN_AGE = 300
"""PTB-XL 1.0.3 writes this value for every age above 89."""
SEXES = {0: "male", 1: "female"}
"""Codes of the column `sex` -> words."""


def describe(folder: Path, tasks: list[Task] | None = None) -> dict[str, Any]:
    """Return counts of a data set and of these tasks (default: all that apply) as plain data. Reads no signals."""
    records = load_records(folder)
    patients = records.table.groupby("patient_id")
    return {
        "folder": str(folder),
        "name": records.name,
        "version": version_of(records),
        "content": records.content,
        "records": len(records),
        "patients": patients.ngroups,
        "most_records_of_a_patient": int(patients.size().max()),
        "ages_years": _ages(records),
        "sexes": _sexes(records),
        "folds": {
            fold: {
                "records": int((records.strat_fold == fold).sum()),
                "patients": len(np.unique(records.patient_id[records.strat_fold == fold])),
            }
            for fold in FOLDS
        },
        "tasks": {task.name: task_counts(label_table(records, task)) for task in tasks or tasks_of(records)},
    }


def task_counts(table: LabelTable) -> dict[str, Any]:
    """Count records and patients of each split, and positives of each label by split and by fold."""
    parts = {"train": table.strat_fold < VAL_FOLD, "val": table.strat_fold == VAL_FOLD}
    parts["test"] = table.strat_fold == TEST_FOLD

    def positives(mask: npt.NDArray[np.bool_]) -> list[int]:
        counts: list[int] = table.y_true[mask].sum(axis=0).tolist()
        return counts

    by_part = {name: positives(mask) for name, mask in parts.items()}
    by_fold = {fold: positives(table.strat_fold == fold) for fold in FOLDS}
    return {
        "fingerprint": table.fingerprint,
        "records": len(table),
        **{name: int(mask.sum()) for name, mask in parts.items()},
        "patients": {name: len(np.unique(table.patient_id[mask])) for name, mask in parts.items()},
        "labels": {
            label: {
                **{name: counts[column] for name, counts in by_part.items()},
                "folds": {fold: counts[column] for fold, counts in by_fold.items()},
            }
            for column, label in enumerate(table.labels)
        },
    }


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
    """Return one table row for each task from `describe`."""
    return [
        {
            "task": name,
            "labels": len(counts["labels"]),
            **{key: counts[key] for key in ("records", "train", "val", "test")},
            "test patients": counts["patients"]["test"],
            "fingerprint": counts["fingerprint"][:8],
        }
        for name, counts in tasks.items()
    ]


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


def _sexes(records: Records) -> dict[str, int]:
    sex = _column(records, "sex")
    counts = {name: int((sex == code).sum()) for code, name in SEXES.items()}
    return {**counts, "unknown": len(sex) - sum(counts.values())}
