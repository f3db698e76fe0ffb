"""Read the labels that results are scored by: those of the dataset, if the task's fingerprint is the result's."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pandas as pd

from bench.boards.resampling import scores_of
from bench.data.datasets import load_records
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tasks import LabelTable, NoPositive, find_task, label_table
from bench.errors import DataError, PluginError
from bench.evaluation import metrics
from bench.results.remembered import keep, key_of, recall
from bench.results.result import PREDICTIONS, RESULT, Result


class Truth:
    """Map a result to the labels of fold 10, read from the two tables of a dataset; no signal is read.

    Gives None if the result is of another dataset, and if the task's plugin is not installed. A missing folder has no
    `records`, and gives None for every result.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = load_records(folder) if folder.is_dir() else None

    @property
    def at_hand(self) -> bool:
        """Return whether there is a dataset."""
        return self.records is not None

    def __call__(self, result: Result) -> LabelTable | None:
        """Return the labels of fold 10."""
        return self.fold(result, TEST_FOLD)

    def fold(self, result: Result, fold: int) -> LabelTable | None:
        """Return the labels of fold 9 or 10: the same object for each result of a task."""
        if self.records is None or result.document["dataset"]["name"] != self.records.name:
            return None
        table, folds = self._tables(result.cell["task"])
        return folds[fold] if table and table.fingerprint == result.fingerprint else None

    def require_own_scores(self, run: Result) -> None:
        """Raise DataError if a run's predictions do not give the macro AUROC of fold 10 that its result records.

        Such predictions are of another run. What was right is remembered, and not checked if the labels are not known.
        """
        table = self(run) if run.tested else None
        key = key_of("own scores", run.sha256, run.scores_sha256, run.fingerprint) if table else ""
        if table is None or recall(key) is not None:
            return
        value = metrics.macro(metrics.auroc(table.y_true, scores_of(run, table)), metrics.defined(table.y_true))
        recorded = run.document["metrics"][f"fold_{TEST_FOLD}"]["macro"]["all"]["auroc"]["value"]
        if not math.isclose(value, math.nan if recorded is None else recorded, abs_tol=1e-6) and not np.isnan(value):
            raise DataError(
                f"{run.folder / PREDICTIONS} gives macro AUROC {value:.4f}, and the {RESULT} beside it records "
                f"{recorded}: they are of two runs; remove the folder and run its cell again"
            )
        keep(key, b"")

    @property
    def content(self) -> str:
        """SHA-256 of the dataset's tables; empty if there is no dataset."""
        return self.records.content if self.records is not None else ""

    def people(self, table: LabelTable) -> pd.DataFrame:
        """Return the rows of ptbxl_database.csv for these records, in their order."""
        assert self.records is not None
        return self.records.table.loc[table.ecg_id]

    @functools.cache  # noqa: B019, lives as long as the program
    def _tables(self, task: str) -> tuple[LabelTable | None, dict[int, LabelTable]]:
        assert self.records is not None
        try:
            table = label_table(self.records, find_task(task, self.records))
        except (PluginError, NoPositive):
            return None, {}
        return table, {fold: table.select(table.strat_fold == fold) for fold in (VAL_FOLD, TEST_FOLD)}
