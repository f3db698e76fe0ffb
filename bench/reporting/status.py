"""What lies in a runs folder, read off the disk alone: done, declined, stale, running, unfinished, failed."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from bench.errors import DataError
from bench.registry import code_hash
from bench.reporting.failures import FAILED, Failure
from bench.reporting.results import UNFINISHED, find_runs, is_locked, load_head, lock_of

State = Literal["done", "declined", "stale", "running", "unfinished", "failed"]


@dataclass(frozen=True)
class Found:
    """A cell that left something in a runs folder."""

    state: State
    path: Path
    """Its folder, or the file that says why it failed."""
    command: str = ""
    """Empty for what is not finished: it says so in no file."""
    reason: str = ""
    """Why it failed or was declined, what has changed since it was finished, or where it is."""
    at: str = ""
    """Of a failure: when, UTC."""


def survey(runs: Path) -> list[Found]:
    """Every cell that left something below a folder, in the order of paths. No result is checked here."""
    if not runs.is_dir():
        raise DataError(f"no runs at {runs}; `bench run` writes them, --runs names another folder")
    changed = functools.cache(_changed)
    found = [_finished(folder, changed) for folder in find_runs(runs)]
    done = {(one.command, one.path.name.endswith("-val")) for one in found}
    found += [_unfinished(path) for path in runs.rglob(f"*{UNFINISHED}") if path.is_dir()]
    for path in runs.rglob(f"[!.]*{FAILED}"):
        failure = Failure.read(path)
        if (failure.command, failure.stage == "val") not in done:
            found.append(Found("failed", path, failure.command, failure.reason, failure.at))
    return sorted(found, key=lambda one: one.path)


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


def _finished(folder: Path, changed: Any) -> Found:
    head = load_head(folder)
    command = head["cell"]["command"]
    plugins = [head[kind] for kind in ("method", "backbone") if kind in head]
    news = [
        f"{one['name']} ({one['module']}) has changed since"
        for one in plugins
        if changed(one["module"], one["code_sha256"])
    ]
    if news:
        return Found("stale", folder, command, "; ".join(news))
    return Found("declined" if head["incompatible"] else "done", folder, command, head["incompatible"] or "")


def _changed(module: str, sha256: str) -> bool:
    return code_hash(module) != sha256


def _unfinished(path: Path) -> Found:
    running = is_locked(lock_of(path.with_name(path.name.removesuffix(UNFINISHED))))
    return Found("running" if running else "unfinished", path, "", _last_epoch(path / "log.jsonl"))


def _last_epoch(log: Path) -> str:
    """Where a run is by its log, whose last line may be half written."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if event.get("event") == "epoch":
            return f"{event['phase']}, epoch {event['epoch']}"
    return ""
