"""Where a run stands, written after every epoch and every few minutes: a killed run goes on as if it had not been."""

from __future__ import annotations

import pickle
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bench.errors import BenchError
from bench.files import remove_leftovers, whole_file

KEPT = 2


class Checkpoints:
    """The newest states of one run, `checkpoint-NNNN.pt` in its folder; within an epoch one every `minutes`."""

    def __init__(
        self,
        folder: Path,
        writes: bool,
        note: Callable[[str], None],
        minutes: float = 10.0,
        code: Mapping[str, str] = {},
        other_code: Callable[[object], str] = lambda recorded: "",
    ) -> None:
        """`code` is written into every checkpoint; `other_code` says whose differs from a recorded one, or nothing."""
        self.folder, self.writes, self.note, self.minutes = folder, writes, note, minutes
        self.code, self.other_code = dict(code), other_code
        self._saved = self._began = time.monotonic()
        self._seconds_before = 0.0
        self._damaged: set[Path] = set()
        self._number = max(map(_number_of, self._files()), default=0)

    def _files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"), key=_number_of)

    def newest(self) -> dict[str, Any] | None:
        """The newest state of this code that can be read; others are named and passed over."""
        changed = ""
        for path in reversed(self._files()):
            try:
                with zipfile.ZipFile(path) as archive:
                    if archive.testzip():  # torch reads past a wrong checksum
                        raise zipfile.BadZipFile
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                if whose := self.other_code(state.get("code")):
                    changed = changed or whose
                    continue
                self._seconds_before = state.get("run_seconds", 0.0)
                return state
            except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError):
                self.note(f"{path.name} is damaged; going back to the one before")
                self._damaged.add(path)
        if changed:
            self.note(f"the code of {changed} has changed since this run was interrupted; it starts anew")
        return None

    def run_seconds(self) -> float:
        """Since this attempt began, and in those before it up to the state that it goes on from."""
        return self._seconds_before + time.monotonic() - self._began

    def due(self) -> bool:
        """Whether the last one was written so long ago that the middle of an epoch must do."""
        return self.writes and time.monotonic() - self._saved >= 60 * self.minutes

    def save(self, state: dict[str, Any]) -> None:
        """Write a state atomically and drop all but the last two that can be read."""
        if not self.writes:
            return
        self._number += 1
        try:
            with whole_file(self.folder / f"checkpoint-{self._number:04d}.pt", fsync=True) as stream:
                torch.save({**state, "code": self.code, "run_seconds": self.run_seconds()}, stream)
        except (OSError, RuntimeError) as error:
            raise BenchError(
                f"could not write a checkpoint to {self.folder} ({str(error).splitlines()[0]}); "
                "free some space and give the same command again: it goes on from the last checkpoint"
            ) from None
        good = [path for path in self._files() if path not in self._damaged]
        for path in [*self._damaged, *good[:-KEPT]]:
            path.unlink(missing_ok=True)
        self._damaged.clear()
        self._saved = time.monotonic()

    def remove(self) -> None:
        """The run is done."""
        for path in self._files():
            path.unlink()
        remove_leftovers(self.folder)


def _number_of(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
