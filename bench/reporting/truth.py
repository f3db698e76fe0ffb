"""The labels that results are judged by: always the dataset's own, and only if the fingerprint fits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from bench.data.ptbxl import load_records
from bench.data.splits import held_out
from bench.data.tasks import LabelTable, find_task, label_table
from bench.errors import PluginError
from bench.reporting.results import Result


def truth_of(folder: Path) -> Callable[[Result], LabelTable | None]:
    """Result -> labels of fold 10 from the two tables in `folder`.

    None where the dataset is another or not there, and for a task whose plugin is not installed.
    """
    if not folder.is_dir():
        return lambda result: None
    records = load_records(folder)

    @functools.cache
    def table_of(task: str) -> LabelTable | None:
        try:
            return label_table(records, find_task(task))
        except PluginError:
            return None

    def truth(result: Result) -> LabelTable | None:
        if result.document["dataset"]["name"] != records.name:
            return None
        table = table_of(result.cell["task"])
        return held_out(table) if table and table.fingerprint == result.fingerprint else None

    return truth
