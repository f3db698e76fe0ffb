"""A data set that is open: what many cells share of it, each read once."""

from __future__ import annotations

from pathlib import Path

from bench.data.datasets import load_records
from bench.data.manifests import read_split
from bench.data.prepared import Log, PreparedSignals, Progress, prepare_signals
from bench.data.signals import SignalSpec
from bench.data.splits import Split, split
from bench.data.tasks import LabelTable, find_task, label_table

MOST_SPLITS = 16
"""Number of splits kept: a megabyte or two each."""


class OpenData:
    """The records, label tables, splits and prepared signals of a data set's folder.

    Files that change after they were read are not read again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = load_records(folder)
        self._tables: dict[str, LabelTable] = {}
        self._splits: dict[tuple[object, ...], Split] = {}
        self._signals: dict[tuple[SignalSpec, int | None], PreparedSignals] = {}

    def table(self, task: str) -> LabelTable:
        """Return the labels of a task."""
        if task not in self._tables:
            self._tables[task] = label_table(self.records, find_task(task, self.records))
        return self._tables[task]

    def split(self, task: str, fraction: float, draw: int, manifest: Path | None) -> Split:
        """Return the training and validation records that a manifest lists, or a draw of a fraction has."""
        key = (task, fraction, draw, manifest)
        if key not in self._splits:
            table = self.table(task)
            drawn = read_split(manifest, table, self.records) if manifest else split(table, fraction, draw)
            self._splits = dict([*self._splits.items(), (key, drawn)][-MOST_SPLITS:])
        return self._splits[key]

    def signals(
        self, spec: SignalSpec, source_rate: int | None, progress: Progress, note: Log = lambda text: None
    ) -> PreparedSignals:
        """Return the prepared signals; see `prepare_signals`."""
        if (known := self._signals.get((spec, source_rate))) is None:
            known = self._signals[spec, source_rate] = prepare_signals(self.records, spec, source_rate, progress, note)
        return known
