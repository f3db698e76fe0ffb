"""Why a cell of a sweep has no result: a file beside the run folders, which the next success removes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.errors import BenchError
from bench.files import write_whole

FAILED = ".failed"


@dataclass(frozen=True)
class Failure:
    """How a cell failed, as `NAME.failed` says it: four lines for programs, then what a person needs to mend it."""

    reason: str
    """One line."""
    command: str
    stage: str
    at: str
    """UTC"""
    details: str = ""
    """The traceback, and what the process printed."""

    @classmethod
    def now(cls, command: str, stage: str, reason: str, details: str) -> Failure:
        """A failure that has just happened."""
        return cls(" ".join(reason.split()), command, stage, datetime.now(UTC).isoformat(timespec="seconds"), details)

    def write(self, path: Path) -> None:
        """Put it on disk, whole or not at all."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            head = "".join(f"{key}: {getattr(self, key)}\n" for key in HEAD)
            write_whole(path, f"{head}\n{self.details}")
        except OSError as error:
            raise BenchError(f"cannot write {path}: {error.strerror}; the cell failed: {self.reason}") from None

    @classmethod
    def read(cls, path: Path) -> Failure:
        """What stands in a file; a damaged one gives what it has."""
        head, _, details = path.read_text(encoding="utf-8", errors="replace").partition("\n\n")
        said = dict(line.partition(": ")[::2] for line in head.splitlines())
        return cls(**{key: said.get(key, "") for key in HEAD}, details=details)


HEAD = ("reason", "command", "stage", "at")
