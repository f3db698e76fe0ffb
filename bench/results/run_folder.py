"""The folder of a run: marked unfinished while it runs, renamed when its result is complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import BenchError, Busy, DataError
from bench.evaluation.predictions import Predictions
from bench.files import FileLock, replace_folder
from bench.results.elsewhere import ELSEWHERE, remove_useless
from bench.results.result import OF_VAL, PREDICTIONS, RESULT, SCHEMA, UNFINISHED, Result, load_result, write_result

LOCK_TIMEOUT = 0.2
"""Seconds to wait for a lock: longer than `is_locked` holds it, shorter than any cell."""
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Error numbers that only writing raises."""


class RunFolder:
    """The folder of a cell: `NAME.unfinished` while it runs, `NAME` when it is complete.

    A folder without that ending is therefore always complete. A lock keeps other processes out while the cell runs. A
    run that fails before its first checkpoint leaves nothing.
    """

    def __init__(self, final: Path, stage: str, is_main: bool, anew: bool = False) -> None:
        """`anew`: remove the files of an interrupted run, once its lock is free."""
        self.final = final.with_name(final.name + (OF_VAL if stage == "val" else ""))
        self.path = self.final.with_name(self.final.name + UNFINISHED)
        self._is_main, self._anew = is_main, anew
        self._was_missing = False
        self._lock = FileLock(lock_of(self.final))

    def finished(self) -> Result | None:
        """Return the cell's result; None if it has none."""
        self._was_missing = not self.final.is_dir()
        if not self._was_missing and not (self.final / RESULT).exists():
            raise DataError(f"{self.final} has lost its {RESULT}; remove the folder to run its cell again")
        return None if self._was_missing else load_result(self.final)

    def __enter__(self) -> RunFolder:
        if self._is_main:
            try:
                self.final.parent.mkdir(parents=True, exist_ok=True)
                if not self._lock.acquire(LOCK_TIMEOUT):
                    raise Busy(f"another process is running this cell in {self.path}; wait for it")
                if self._was_missing and self.final.is_dir():
                    self._lock.release()
                    raise Busy(f"another process has just finished this cell: {self.final}")
                if self._anew and self.path.is_dir():
                    shutil.rmtree(self.path)
                self.path.mkdir(exist_ok=True)
            except OSError as error:
                raise BenchError(
                    f"cannot write to {self.path.parent}: {error.strerror}; --runs names another folder"
                ) from None
        return self

    def __exit__(self, kind: object, failure: BaseException | None, _: object) -> None:
        if self._is_main and failure and self.path.is_dir() and not any(self.path.glob("checkpoint-*.pt")):
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()
        if isinstance(failure, OSError) and failure.errno in DISK_FAULTS:
            raise BenchError(
                f"cannot write to {self.path}: {failure.strerror}; fix that and give the same command again: "
                "it resumes from the last checkpoint"
            ) from None

    def finish(
        self,
        document: Mapping[str, Any],
        predictions: Mapping[int, Predictions],
        keep: Sequence[str] = (),
        before: Callable[[Path], None] = lambda run: None,
    ) -> Result:
        """Write the result, rename the folder to its final name, and remove files that are not kept.

        `before` is called with the folder while it still has all its files. If it fails, the run is not finished.
        """
        if self._is_main:
            write_result(self.path, document, predictions)
            remove_useless(Result(self.path, document))  # of an attempt that could not be resumed
            before(self.path)
            replace_folder(self.path, self.final)
            for path in self.final.iterdir():  # last: a run that is killed before the rename needs its checkpoint
                if path.name not in (RESULT, PREDICTIONS, "log.jsonl", "wandb", ELSEWHERE, *keep):
                    shutil.rmtree(path, ignore_errors=True)
                    with contextlib.suppress(OSError):  # it was a folder; or it stays, and the result is complete
                        path.unlink()
        return Result(self.final, {"schema": SCHEMA, **document})


def lock_of(final: Path) -> Path:
    """Return the path of the lock file that a process holds while it runs the cell of this folder."""
    return final.with_name(f".{final.name}.lock")


def is_locked(lock: Path) -> bool:
    """Return whether a process holds this lock file, or may hold it: some file systems have no locks to ask for.

    The file may be missing or another user's, and the folder read-only.
    """
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)  # anybody may have made a pipe of this name
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
