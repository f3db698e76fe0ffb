"""Where a run stands, written after every epoch so that a killed run goes on as if it had not been killed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

KEPT = 2


class Checkpoints:
    """The newest states of one run, `checkpoint-NNNN.pt` in its folder."""

    def __init__(self, folder: Path, *, writes: bool, note: Callable[[str], None]) -> None:
        self.folder, self.writes, self.note = folder, writes, note
        self._number = max((int(path.stem.rpartition("-")[2]) for path in self._files()), default=0)

    def _files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"))

    def newest(self) -> dict[str, Any] | None:
        """The newest state that can be read; a damaged one is named and passed over."""
        for path in reversed(self._files()):
            try:
                return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
            except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
                self.note(f"{path.name} is damaged ({type(error).__name__}); going back to the one before")
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Write a state atomically and drop all but the last two."""
        if not self.writes:
            return
        self._number += 1
        temporary = self.folder / f".checkpoint-{self._number:04d}.part"
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / f"checkpoint-{self._number:04d}.pt")
        for path in self._files()[:-KEPT]:
            path.unlink()

    def remove(self) -> None:
        """The run is done."""
        for path in [*self._files(), *self.folder.glob(".checkpoint-*.part")]:
            path.unlink()
