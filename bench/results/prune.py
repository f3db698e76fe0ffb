"""Free disk space that runs use in addition to their results. Removes no result and nothing of a running cell."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bench.data.cache import cache_folder
from bench.data.prepared import prepared_sets, unused
from bench.errors import BenchError, DataError
from bench.files import FOREIGN_S, PART, FileLock, leftovers, move, num_bytes, read_bytes, remove_leftovers
from bench.results.finished import WEIGHTS
from bench.results.result import RESULT
from bench.results.run_folder import is_locked, lock_of

NAME = re.compile(
    r"\.?(?P<cell>[^.].*-[0-9a-f]{8}(-val)?)"
    r"(?P<ending>|\.unfinished|\.old|\.lock|\.failed)"
)
"""Names of the files and folders of cells. Others are never removed, except for leftovers of killed writers."""
KINDS = {
    "left over": "files of killed runs",
    "weights": "of finished runs",
    "unfinished": "runs with their checkpoints",
    "plans": "of sweeps and tunings that ended a day ago",
    "signals": "prepared signals in the cache that no run uses",
}


@dataclass
class DiskUse:
    """Disk space used by one category of files."""

    name: str
    num: int = 0
    size: int = 0
    """Size in bytes."""
    num_running: int = 0
    """Number of items that belong to running cells and are kept."""
    removed: bool = False

    def as_row(self) -> dict[str, object]:
        """Return a table row."""
        return {
            "name": self.name,
            "what": KINDS[self.name],
            "number": self.num,
            "MB": f"{self.size / 1e6:,.1f}",
            "removed": "yes" if self.removed else "no",
            "of running cells": self.num_running,
        }


def prune(
    runs: Path, *, weights: bool = False, unfinished: bool = False, signals: bool = False, dry_run: bool = False
) -> list[DiskUse]:
    """Remove leftovers of killed runs, and what is requested besides. Return the space of each category.

    Prepared signals are those of all data sets; a run that needs them prepares them again.

    Lock files that no process holds are removed too but not counted: they are empty, and every cell leaves one. The
    lock of a cell is held while its files are removed, so that a cell which starts meanwhile keeps its files.
    """
    if not runs.is_dir():
        raise DataError(f"no runs at {runs}; --runs names another folder")
    usage = {name: DiskUse(name) for name in KINDS}
    asked = {"left over": True, "weights": weights, "unfinished": unfinished, "plans": True, "signals": signals}
    removed = {name for name in KINDS if asked[name] and not dry_run}
    try:
        _prune(runs, usage, removed, dry_run=dry_run)
    except OSError as error:
        raise BenchError(f"cannot remove {error.filename}: {error.strerror}") from None
    return list(usage.values())


def _prune(runs: Path, usage: Mapping[str, DiskUse], removed: Container[str], *, dry_run: bool) -> None:
    """Count what each category uses, and remove it if its name is in `removed`."""
    _prune_parts(runs, usage["left over"], remove=not dry_run)
    for final, items in sorted(_items(runs).items()):
        if is_locked(lock_of(final)):
            for name, _ in items:
                usage[name].num_running += 1
            continue
        for name, path in items:
            usage[name].num += 1
            usage[name].size += num_bytes(path)
            usage[name].removed = name in removed
        if not dry_run:
            _remove(final, [path for name, path in items if name in removed])
    for folder in _ended_plans(runs):
        usage["plans"].num += 1
        usage["plans"].size += num_bytes(folder)
        usage["plans"].removed = not dry_run
        if not dry_run:
            shutil.rmtree(folder)
    if not dry_run:
        _remove_dead_claims(runs)
    _prune_signals(usage["signals"], remove="signals" in removed)


def _prune_parts(runs: Path, use: DiskUse, *, remove: bool) -> None:
    """Count and remove what killed writers have left. A file that is being written is locked, and stays."""
    folders = [Path(at) for at, *names in os.walk(runs) if any(map(PART.fullmatch, chain(*names)))]
    for folder in folders:
        for path in leftovers(folder):
            use.num += 1
            use.size += num_bytes(path)
            use.removed = remove
        if remove:
            remove_leftovers(folder)


def _prune_signals(use: DiskUse, *, remove: bool) -> None:
    """Count prepared signals, those in use as of running cells, and remove the others, and what kills have left."""
    for entry in prepared_sets():
        with unused(entry) as free:
            if not free:
                use.num_running += 1
                continue
            use.num += 1
            use.size += num_bytes(entry)
            use.removed = remove
            if remove:
                shutil.rmtree(entry)
    if remove:
        remove_leftovers(cache_folder())


def _ended_plans(runs: Path) -> Iterator[Path]:
    """Yield the folders of plans of which each cell has an outcome, and in which nothing has changed for a day.

    After its last cell has ended, workers still read a plan for some time: that outcome, and whether a job is over.
    """
    for file in sorted(runs.glob(".plans/*/plan.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            names = [each["id"] for each in json.loads(read_bytes(file))["cells"]]
            ended = all((file.parent / f"{name}.json").is_file() for name in names)
            if ended and all(map(_is_old, (file.parent, *file.parent.rglob("*")))):
                yield file.parent


def _remove_dead_claims(runs: Path) -> None:
    """Remove the claims of killed workers. They are not counted, because each has only a few bytes.

    Who holds a claim touches its file several times a minute. `NAME.1.free` goes before `NAME.1`, which it marks:
    alone it would keep the cell from all workers.
    """
    for path in sorted(runs.glob(".plans/claims/*"), reverse=True):
        with contextlib.suppress(FileNotFoundError):  # given back meanwhile
            if _is_old(path):
                path.unlink()


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > FOREIGN_S


def _items(runs: Path) -> dict[Path, list[tuple[str, Path]]]:
    """Return cell's folder -> (category, path) of each item that belongs to the cell."""
    items: dict[Path, list[tuple[str, Path]]] = defaultdict(list)
    for at, folders, files in os.walk(runs):
        parent = Path(at)
        for name in [*folders, *files]:
            if not (match := NAME.fullmatch(name)):
                continue
            path, final = parent / name, parent / match["cell"]
            if path.is_symlink() or (match["ending"] == ".lock" and path.is_dir()):
                continue  # what a link names lies elsewhere and is not of these runs
            if match["ending"] == ".unfinished":
                items[final].append(("unfinished", path))
            elif match["ending"] == ".lock":
                items.setdefault(final, [])  # it uses no disk
            elif match["ending"] and name.startswith("."):
                items[final].append(("left over", path))
            elif not match["ending"] and (path / RESULT).is_file():
                items[final] += [("weights", file) for file in path.glob(WEIGHTS)]
                items[final] += [("left over", file) for file in path.glob("checkpoint-*") if file.is_file()]
        folders[:] = [name for name in folders if not NAME.fullmatch(name)]
    return items


def _remove(final: Path, paths: list[Path]) -> None:
    lock = lock_of(final)
    if not paths and not lock.exists():
        return
    with FileLock(lock).held() as is_ours:
        if not is_ours:
            return
        for path in paths:
            if path.suffix == ".old" and not final.exists():
                move(path, final)  # killed between two renames: this is the only result of the cell
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        lock.unlink()  # removed while held: a process that has just opened it notices and opens a new one
