"""Read a folder as Records, by the first registered reader that recognises it: ours, then those of plugins."""

from __future__ import annotations

import functools
from pathlib import Path

from bench.data.datasets import cpsc2018, folder, ptbxl
from bench.data.datasets.held import HeldFolder
from bench.data.records import Records
from bench.data.tasks import find_task
from bench.errors import DataError, PluginError
from bench.registry.registry import registry

OURS = (folder.load_records, ptbxl.load_records, cpsc2018.load_records)
"""Tried first, so that plugins are imported only for a folder that none of these recognises."""

ORIGINS = {
    "ptb-xl": (ptbxl.LICENCE, ptbxl.SOURCE),
    cpsc2018.NAME: (cpsc2018.LICENCE, cpsc2018.SOURCE),
}
"""Data set -> its licence and source: results of earlier versions lack them."""


def origin_of(name: str) -> tuple[str, str] | None:
    """Return licence and source of a data set by its name with version, `ptb-xl-1.0.3`; None if they are not known."""
    return next((origin for dataset, origin in ORIGINS.items() if name.startswith(f"{dataset}-")), None)


def load_records(folder: Path) -> Records:
    """Return the records of a data set's folder. Reads no signals. Raises DataError if no reader recognises it."""
    if isinstance(folder, HeldFolder) and folder.records is not None:
        return folder.records
    if not folder.is_dir():
        raise DataError(
            f"no dataset at {folder}: expected a folder; name it with --data DIR or $BENCH_DATA, or write a synthetic "
            "PTB-XL with `bench data demo DIR`"
        )
    records = _recognized(folder)
    if records is None:
        known = ", ".join(plugin.name for plugin in registry().of_kind("dataset"))
        raise DataError(
            f"{folder} is no data set known here ({known}): {ptbxl.TABLE} and dataset.toml are missing; `bench data "
            "import` makes a data set of a table and signals"
        )
    return records


def _recognized(folder: Path) -> Records | None:
    """Return the records by the first reader that recognises the folder; None if there is none."""
    for read in OURS:
        if (records := read(folder)) is not None:
            return records
    for plugin in registry().of_kind("dataset"):
        if plugin.make in OURS:
            continue
        records = plugin.make(folder)
        if records is None:
            continue
        if not isinstance(records, Records) or records.dataset != plugin.name:
            raise PluginError(
                f"data set {plugin.name!r} of {plugin.module} reads {folder} as a {type(records).__name__}, expected "
                f"None or bench.plugin.Records with dataset={plugin.name!r}"
            )
        return records
    return None


def find_task_name(name: str, folder: Path) -> str:
    """Return the name of a task as it is registered, or else as the data set in `folder` has it.

    Raises PluginError for an unknown name.
    """
    try:
        return find_task(name).name
    except PluginError:
        if not folder.is_dir():
            raise
    if isinstance(folder, HeldFolder):
        return find_task(name, folder.records).name
    changed = max((file.stat().st_mtime_ns for file in folder.iterdir()), default=0)
    return _task_name_in(name, folder.resolve(), changed)


@functools.lru_cache(maxsize=256)
def _task_name_in(name: str, folder: Path, changed: int) -> str:
    """Cached, because each of a sweep's cells asks. `changed` is the time of the last change of a file."""
    return find_task(name, _recognized(folder)).name
