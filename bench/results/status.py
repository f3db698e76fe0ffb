"""List the cells in a runs folder and their states: done, declined, stale, running, unfinished, failed."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from bench.errors import DataError
from bench.files import from_here, read_bytes
from bench.results.document import quoted
from bench.results.failures import FAILED, Failure
from bench.results.identity import Source, changes, code_at_hand
from bench.results.result import OF_VAL, UNFINISHED, find_runs, load_head
from bench.results.run_folder import is_locked, lock_of

State = Literal["done", "declined", "stale", "running", "unfinished", "failed"]


@dataclass(frozen=True)
class CellState:
    """A cell of which a runs folder has files, and its state."""

    state: State
    path: Path
    """Its folder, or the file with its failure."""
    command: str = ""
    reason: str = ""
    """Why it failed or was declined, what code has changed since, or the progress of a running cell."""
    at: str = ""
    """Time of a failure in UTC."""
    data: str = ""
    """Name of the data set; empty if a damaged or older file does not say it."""
    folder: str = ""
    """Folder of the data set, absolute; empty where no log says it."""

    def command_from_here(self, runs: Path, usual_runs: Path, usual_data: Path) -> str:
        """Return the command with what else it needs to go on in this folder of runs; empty if it is not known.

        Folders that the command uses without being told are left out.
        """
        if not self.command:
            return ""
        words = [self.command, *(["--stage val"] if _stage(self.path) == "val" else [])]
        if self.folder and Path(self.folder) != usual_data.absolute():
            words.append(f"--data {quoted(from_here(Path(self.folder)))}")
        if runs.absolute() != usual_runs.absolute():
            words.append(f"--runs {quoted(runs)}")
        return " ".join(words)


def survey(runs: Path) -> list[CellState]:
    """Return every cell that has files below a folder, sorted by path. Results are not checked."""
    if not runs.is_dir():
        raise DataError(f"no runs at {runs}; `bench run` writes them, --runs names another folder")
    code_now = functools.cache(code_at_hand)
    cells = [_finished(folder, code_now) for folder in find_runs(runs)]
    done = {(cell.command, _stage(cell.path), data) for cell in cells for data in (cell.data, "")}
    # a damaged file names no command: then it is a cell of its own
    listed = [((cell.command or str(cell.path), stage, cell.data), cell) for cell, stage in _failed(runs)]
    failed = {key: cell for key, cell in listed if key not in done}
    for path in filter(Path.is_dir, _below(runs, UNFINISHED)):
        cell = _unfinished(path)
        same = (cell.command, _stage(path))
        alike = [key for key in failed if key[:2] == same and (key[2] == cell.data or not (key[2] and cell.data))]
        if cell.state == "running":
            for key in alike:
                del failed[key]
        if cell.state == "running" or not alike:
            cells.append(cell)
    return sorted([*cells, *failed.values()], key=lambda cell: cell.path)


def _stage(folder: Path) -> str:
    return "val" if folder.name.removesuffix(UNFINISHED).endswith(OF_VAL) else "test"


def _failed(runs: Path) -> Iterator[tuple[CellState, str]]:
    for path in itertools.filterfalse(Path.is_dir, _below(runs, FAILED)):
        with contextlib.suppress(FileNotFoundError):  # the cell has just been run again
            failure = Failure.read(path)
            yield CellState("failed", path, failure.command, failure.reason, failure.at, failure.data), failure.stage


def _below(runs: Path, ending: str) -> Iterator[Path]:
    """Yield paths with this ending that are not hidden. Unlike `rglob`, this works while folders are renamed."""
    for folder, inner, files in os.walk(runs):
        yield from (Path(folder) / name for name in [*inner, *files] if name.endswith(ending) and name[0] != ".")


def as_data(cells: Sequence[CellState]) -> dict[str, Any]:
    """Return counts by task, and every cell, as plain data."""
    tasks = sorted({cell.path.parent.name for cell in cells})
    groups = [(task, [cell for cell in cells if cell.path.parent.name == task]) for task in tasks]
    return {
        "tasks": [
            {"name": name, **{state: sum(cell.state == state for cell in group) for state in get_args(State)}}
            for name, group in [*groups, *([("sum", cells)] if len(groups) != 1 else [])]
        ],
        "cells": [{**asdict(cell), "path": str(cell.path)} for cell in cells],
    }


def _finished(folder: Path, code_now: Callable[[Source], str]) -> CellState:
    try:
        head = load_head(folder)
    except DataError as error:
        return CellState("failed", folder, "", str(error))
    command, data = head["cell"]["command"], head["dataset"]["name"]
    if news := changes(head, code_now):
        return CellState("stale", folder, command, news, data=data, folder=_progress(folder / "log.jsonl")[2])
    state: State = "declined" if head["incompatible"] else "done"
    return CellState(state, folder, command, head["incompatible"] or "", data=data)


def _unfinished(path: Path) -> CellState:
    running = is_locked(lock_of(path.with_name(path.name.removesuffix(UNFINISHED))))
    command, data, folder, where = _progress(path / "log.jsonl")
    return CellState("running" if running else "unfinished", path, command, where, data=data, folder=folder)


def _progress(log: Path) -> tuple[str, str, str, str]:
    """Return a run's command, its data set, the folder of that and its progress, from its log.

    The last line of the log may be incomplete.
    """
    command = data = folder = where = ""
    try:
        lines = read_bytes(log).decode(errors="replace").splitlines()
    except OSError:
        return command, data, folder, where
    for line in lines:
        event = _event(line)
        if event.get("event") == "begins":
            command, data, folder = (str(event.get(key, "")) for key in ("command", "data", "folder"))
        elif event.get("event") == "epoch":
            where = f"{event.get('phase', '')}, epoch {event.get('epoch', '')}"
    return command, data, folder, where


def _event(line: str) -> dict[str, Any]:
    """Return the event of a line of a log; empty if the line is incomplete or of another program."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
