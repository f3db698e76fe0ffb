"""Read a folder as Records, by the first registered reader that recognises it: ours, then those of plugins."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

from bench.data.datasets import cpsc2018, folder, ptbxl
from bench.data.datasets.held import HeldFolder
from bench.data.records import Records
from bench.data.tasks import find_task
from bench.errors import DataError, PluginError
from bench.registry.registry import Plugin, attempt, has_others, registry

MARKED = (folder.load_records, ptbxl.load_records)
"""Readers of folders that hold a table of a certain name. What they can read is theirs, so no plugin is imported."""
OURS = (*MARKED, cpsc2018.load_records)

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
        raise DataError("; ".join([_unknown(folder), *registry().not_imported()]))
    return records


def _unknown(folder: Path) -> str:
    known = ", ".join(plugin.name for plugin in registry().of_kind("dataset"))
    return (
        f"{folder} is no data set known here ({known}): {ptbxl.TABLE} and dataset.toml are missing; `bench data "
        "import` makes a data set of a table and signals"
    )


def _recognized(folder: Path) -> Records | None:
    """Return the records by the reader that can read the folder; None if no reader recognises it.

    Plugins are asked too where ours refuse the folder, and where its files are named as those of CPSC2018, which says
    little. Raises DataError if a reader recognises the folder and refuses it, or if two can read it, and PluginError if
    no reader recognises it and a plugin fails on it.
    """
    read: dict[str, Records] = {}
    refused: list[str] = []
    for reader in OURS:
        try:
            records = reader(folder)
        except DataError as error:
            refused.append(str(error))
            continue
        if records is not None and reader in MARKED:
            return records
        if records is not None:
            read[f"{records.dataset} of {reader.__module__}"] = records
    others = [plugin for plugin in registry().of_kind("dataset") if plugin.make not in OURS] if has_others() else []
    failed: list[str] = []
    for plugin in others:
        records = _ask(plugin, folder, refused, failed)
        if records is not None:
            read[f"{plugin.name} of {plugin.module}"] = records
    if len(read) > 1:
        raise DataError(
            f"{folder} is read as data set {' and as '.join(read)}; expected one: uninstall the package that is not "
            "meant, or let its reader return None for this folder"
        )
    if read:
        return next(iter(read.values()))
    not_imported = registry().not_imported() if has_others() else []
    if refused:
        raise DataError("; ".join([*refused, *failed, *not_imported]))
    if failed:
        raise PluginError("; ".join([_unknown(folder), *failed, *not_imported]))
    return None


def _ask(plugin: Plugin, folder: Path, refused: list[str], failed: list[str]) -> Records | None:
    """Return what a plugin's reader reads. Add why it refuses a folder that it recognises, or why it fails on one."""

    def ask() -> object:
        try:
            return plugin.make(folder)
        except DataError as error:
            refused.append(str(error))
            return None

    records, reason = attempt(ask)
    if reason is None and isinstance(records, Records) and records.dataset == plugin.name:
        return records
    if reason or records is not None:
        fault = f"fails on {folder} ({reason})" if reason else f"reads {folder} as a {type(records).__name__}"
        failed.append(
            f"data set {plugin.name!r} of {plugin.module} {fault}, expected None or bench.plugin.Records with "
            f"dataset={plugin.name!r}"
        )
    return None


def find_task_name(name: str, folder: Path) -> str:
    """Return the name of a task as it is registered, or else as the data set in `folder` has it.

    Raises PluginError for an unknown name, and DataError if no data set is there that could have a task of that name.
    """
    with contextlib.suppress(PluginError):
        return find_task(name).name
    if isinstance(folder, HeldFolder):
        return find_task(name, folder.records).name
    if not folder.is_dir():
        load_records(folder)  # raises, and names the folder as it was given
    changed = max((file.stat().st_mtime_ns for file in folder.iterdir()), default=0)
    return _task_name_in(name, folder.resolve(), changed)


@functools.lru_cache(maxsize=256)
def _task_name_in(name: str, folder: Path, changed: int) -> str:
    """Cached, because each of a sweep's cells asks. `changed` is the time of the last change of a file."""
    return find_task(name, load_records(folder)).name
