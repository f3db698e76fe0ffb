"""What lies in a runs folder, read off the disk alone: done, declined, stale, running, unfinished, failed."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from bench.errors import DataError
from bench.results.failures import FAILED, Failure
from bench.results.identity import Source, changes, code_at_hand
from bench.results.result import OF_VAL, UNFINISHED, find_runs, load_head
from bench.results.run_folder import is_locked, lock_of

State = Literal["done", "declined", "stale", "running", "unfinished", "failed"]


@dataclass(frozen=True)
class Found:
    """A cell that left something in a runs folder."""

    state: State
    path: Path
    """Its folder, or the file that says why it failed."""
    command: str = ""
    reason: str = ""
    """Why it failed or was declined, what has changed since it was finished, or where it is."""
    at: str = ""
    """Of a failure: when, UTC."""


def survey(runs: Path) -> list[Found]:
    """Every cell that left something below a folder, in the order of paths. No result is checked here."""
    if not runs.is_dir():
        raise DataError(f"no runs at {runs}; `bench run` writes them, --runs names another folder")
    code_now = functools.cache(code_at_hand)
    found = [_finished(folder, code_now) for folder in find_runs(runs)]
    done = {(one.command, _stage(one.path)) for one in found}
    failed = {(one.command, stage): one for one, stage in _failed(runs) if (one.command, stage) not in done}
    for path in _below(runs, UNFINISHED):
        one = _unfinished(path)
        if one.state == "running":
            failed.pop((one.command, _stage(path)), None)
        if (one.command, _stage(path)) not in failed:
            found.append(one)
    return sorted([*found, *failed.values()], key=lambda one: one.path)


def _stage(folder: Path) -> str:
    return "val" if folder.name.removesuffix(UNFINISHED).endswith(OF_VAL) else "test"


def _failed(runs: Path) -> Iterator[tuple[Found, str]]:
    for path in _below(runs, FAILED):
        with contextlib.suppress(FileNotFoundError):  # its cell has just been run again
            failure = Failure.read(path)
            yield Found("failed", path, failure.command, failure.reason, failure.at), failure.stage


def _below(runs: Path, ending: str) -> Iterator[Path]:
    """What is named so and not hidden; unlike `rglob`, folders may be renamed meanwhile, as runs do when they end."""
    for folder, inner, files in os.walk(runs):
        yield from (Path(folder) / name for name in [*inner, *files] if name.endswith(ending) and name[0] != ".")


def as_data(found: Sequence[Found]) -> dict[str, Any]:
    """Counts by task, and every cell, as plain data."""
    tasks = sorted({one.path.parent.name for one in found})
    groups = [(task, [one for one in found if one.path.parent.name == task]) for task in tasks]
    return {
        "tasks": [
            {"name": name, **{state: sum(one.state == state for one in group) for state in get_args(State)}}
            for name, group in [*groups, *([("sum", found)] if len(groups) != 1 else [])]
        ],
        "cells": [{**asdict(one), "path": str(one.path)} for one in found],
    }


def _finished(folder: Path, code_now: Callable[[Source], str]) -> Found:
    try:
        head = load_head(folder)
    except DataError as error:
        return Found("failed", folder, "", str(error))
    command = head["cell"]["command"]
    if news := changes(head, code_now):
        return Found("stale", folder, command, news)
    return Found("declined" if head["incompatible"] else "done", folder, command, head["incompatible"] or "")


def _unfinished(path: Path) -> Found:
    running = is_locked(lock_of(path.with_name(path.name.removesuffix(UNFINISHED))))
    command, where = _said(path / "log.jsonl")
    return Found("running" if running else "unfinished", path, command, where)


def _said(log: Path) -> tuple[str, str]:
    """The command of a run and where it is, by its log, whose last line may be half written."""
    command = where = ""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return command, where
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if event["event"] == "begins":
                command = event["command"]
            elif event["event"] == "epoch":
                where = f"{event['phase']}, epoch {event['epoch']}"
    return command, where
