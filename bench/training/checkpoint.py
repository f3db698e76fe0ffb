"""Checkpoints of a run, written after every epoch and every few minutes, so that a killed run resumes exactly."""

from __future__ import annotations

import pickle
import re
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bench.errors import BenchError, PluginError, first_line
from bench.files import require_file, whole_file

KEPT = 2
NAME = re.compile(r"checkpoint-\d+\.pt")


class Checkpoints:
    """The checkpoints of a run, `checkpoint-NNNN.pt` in its folder. Within an epoch one is written every `minutes`."""

    def __init__(
        self,
        folder: Path,
        writes: bool,
        note: Callable[[str], None],
        minutes: float = 10.0,
        code: Mapping[str, str] = {},
        other_code: Callable[[object], str] = lambda recorded: "",
    ) -> None:
        """`code` is saved in every checkpoint. `other_code` compares a saved value with it and names what differs."""
        self.folder, self.writes, self.note, self.minutes = folder, writes, note, minutes
        self.code, self.other_code = dict(code), other_code
        self._saved = self._began = time.monotonic()
        self._seconds_before = 0.0
        self._damaged: set[Path] = set()
        self._read_back = False
        self._number = max(map(_number_of, self._files()), default=0)

    def _files(self) -> list[Path]:
        """Return the checkpoint files, oldest first."""
        files = [path for path in self.folder.glob("checkpoint-*.pt") if NAME.fullmatch(path.name)]
        return sorted((path for path in files if not path.is_dir()), key=_number_of)

    def newest(self) -> dict[str, Any] | None:
        """Return the newest readable state, or None. Checkpoints written by different code are ignored."""
        changed = ""
        for path in reversed(self._files()):
            try:
                require_file(path)
                with zipfile.ZipFile(path) as archive:
                    if archive.testzip():  # torch ignores wrong checksums
                        raise zipfile.BadZipFile
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                if whose := self.other_code(state["code"]):
                    changed = changed or whose
                    continue
                self._seconds_before = state["run_seconds"]
                return state
            except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError):
                self.note(f"{path.name} is damaged and is not used")
                self._damaged.add(path)
        if changed:
            self.note(f"{changed}: changed since this run was interrupted; it starts again")
        return None

    def count(self, seconds: float) -> None:
        """Add the seconds of work that an earlier run has done for this one too, such as features from the cache."""
        self._seconds_before += max(0.0, seconds)

    def run_seconds(self) -> float:
        """Return the seconds of this attempt, of earlier attempts up to the loaded state, and those of `count`."""
        return self._seconds_before + time.monotonic() - self._began

    def phase_begins(self) -> None:
        """Read the next checkpoint back: a phase may have an optimiser of another kind."""
        self._read_back = False

    def due(self) -> bool:
        """Return whether `minutes` have passed since the last checkpoint."""
        return self.writes and time.monotonic() - self._saved >= 60 * self.minutes

    def save(self, state: dict[str, Any]) -> None:
        """Write a state atomically and remove all but the last two readable checkpoints.

        Raise PluginError if the first checkpoint of a phase holds what `newest` could not load.
        """
        if not self.writes:
            return
        self._number += 1
        path = self.folder / f"checkpoint-{self._number:04d}.pt"
        try:
            with whole_file(path, fsync=True) as stream:
                torch.save({**state, "code": self.code, "run_seconds": self.run_seconds()}, stream)
            if not self._read_back:
                _require_readable(path)
                self._read_back = True
        except (OSError, RuntimeError) as error:
            raise BenchError(
                f"could not write a checkpoint to {self.folder} ({first_line(error)}); "
                "free some space and give the same command again: it resumes from the last checkpoint"
            ) from None
        good = [path for path in self._files() if path not in self._damaged]
        for path in [*self._damaged, *good[:-KEPT]]:
            path.unlink(missing_ok=True)
        self._damaged.clear()
        self._saved = time.monotonic()


def _require_readable(path: Path) -> None:
    """Raise PluginError, and remove the file, if a checkpoint holds what torch does not load. Tensors are not read."""
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        kinds = ", ".join(sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path)))
        path.unlink()
        raise PluginError(
            "a checkpoint of this run could not be loaded, so a killed run would begin again: the optimiser or "
            f"batch.state holds {kinds or 'other objects'}; make numbers plain by float() or int(), keep plain tensors"
        ) from None


def _number_of(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
