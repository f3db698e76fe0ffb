"""The disk that runs take beside their results, and giving it back. No result is removed, no running cell touched."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import BenchError, DataError
from bench.files import PART, move
from bench.results.result import RESULT
from bench.results.run_folder import is_locked, lock_of

NAME = re.compile(
    r"\.?(?P<cell>[^.].*-[0-9a-f]{8}(-val)?)"
    r"(?P<ending>|\.unfinished|\.old|\.lock|\.failed)(?P<part>\.[0-9a-f]{8}\.part)?"
)
"""What runs and sweeps leave beside each other, by the name of its cell; whatever is named otherwise is not ours."""
KINDS = {
    "left over": "by runs that were killed while they ended",
    "weights": "of finished runs",
    "unfinished": "runs with their checkpoints",
}


@dataclass
class Freed:
    """What one kind of things takes."""

    name: str
    num: int = 0
    size: int = 0
    """Bytes"""
    num_running: int = 0
    """Things of running cells, which stay."""
    removed: bool = False

    def as_row(self) -> dict[str, object]:
        """For a table."""
        return {
            "name": self.name,
            "what": KINDS[self.name],
            "number": self.num,
            "MB": f"{self.size / 1e6:,.1f}",
            "removed": "yes" if self.removed else "no",
            "of running cells": self.num_running,
        }


def prune(runs: Path, *, weights: bool = False, unfinished: bool = False, dry_run: bool = False) -> list[Freed]:
    """Remove what killed runs have left over, and what else was asked for; what each kind takes, removed or not.

    Locks that nobody holds go without a word: they are empty, and every cell leaves one.
    A cell's lock is held while its things are removed, so that one which starts meanwhile keeps its own.
    """
    if not runs.is_dir():
        raise DataError(f"no runs at {runs}; --runs names another folder")
    found = {name: Freed(name) for name in KINDS}
    removed = {name for name, asked in zip(KINDS, (True, weights, unfinished), strict=True) if asked and not dry_run}
    for final, things in sorted(_things(runs).items()):
        if is_locked(lock_of(final)):
            for name, _ in things:
                found[name].num_running += 1
            continue
        for name, path in things:
            found[name].num += 1
            found[name].size += _size(path)
            found[name].removed = name in removed
        if dry_run:
            continue
        try:
            _remove(final, [path for name, path in things if name in removed])
        except OSError as error:
            raise BenchError(f"cannot remove {error.filename}: {error.strerror}") from None
    return list(found.values())


def _things(runs: Path) -> dict[Path, list[tuple[str, Path]]]:
    """The folder of each cell that has left something -> what that is, and where."""
    found: dict[Path, list[tuple[str, Path]]] = defaultdict(list)
    for at, folders, files in os.walk(runs):
        parent = Path(at)
        for name in [*folders, *files]:
            if not (match := NAME.fullmatch(name)):
                continue
            path, final = parent / name, parent / match["cell"]
            if match["part"]:
                found[final].append(("left over", path))
            elif match["ending"] == ".unfinished":
                found[final].append(("unfinished", path))
            elif match["ending"] == ".lock":
                found.setdefault(final, [])  # it takes no disk
            elif match["ending"] and name.startswith("."):
                found[final].append(("left over", path))
            elif not match["ending"] and (path / RESULT).is_file():
                found[final] += [("weights", one) for one in path.glob("weights.pt")]
                found[final] += [("left over", one) for one in path.iterdir() if _is_left_over(one)]
        folders[:] = [name for name in folders if not NAME.fullmatch(name)]
    return found


def _is_left_over(path: Path) -> bool:
    return path.is_file() and ("checkpoint-" in path.name or PART.fullmatch(path.name) is not None)


def _remove(final: Path, paths: list[Path]) -> None:
    lock = lock_of(final)
    if not paths and not lock.exists():
        return
    with contextlib.suppress(Timeout), FileLock(lock, blocking=False):
        for path in paths:
            if path.suffix == ".old" and not final.exists():
                move(path, final)  # killed between two renames: this is the cell's only result
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        lock.unlink()  # while it is held: who has just opened it finds that it is gone, and opens a new one


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
