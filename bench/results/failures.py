"""Files that record why a cell of a sweep failed. They are in the folder of the runs; the next success removes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.errors import BenchError, Diverged
from bench.files import read_bytes, write_whole

FAILED = ".failed"


@dataclass(frozen=True)
class Failure:
    """The content of a file `NAME.failed`: six lines for programs, then details for a person."""

    reason: str
    """The error in one line."""
    command: str
    stage: str
    at: str
    """Time of the failure in UTC."""
    details: str = ""
    """The traceback, and the output of the process."""
    data: str = ""
    """Name of the data set."""
    kind: str = ""
    """Type of the error; empty if its process has ended, and in files of earlier versions."""

    @classmethod
    def now(cls, command: str, stage: str, reason: str, details: str, data: str = "", kind: str = "") -> Failure:
        """Return a failure with the current time."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(" ".join(reason.split()), command, stage, at, details, data, kind)

    @property
    def diverged(self) -> bool:
        """Whether training reached non-finite numbers."""
        return self.kind == Diverged.__name__ or (not self.kind and self.reason.startswith(Diverged.PREFIX))

    def write(self, path: Path) -> None:
        """Write the file atomically. Raises BenchError if it cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            head = "".join(f"{key}: {getattr(self, key)}\n" for key in HEAD)
            write_whole(path, f"{head}\n{self.details}")
        except OSError as error:
            raise BenchError(f"cannot write {path}: {error.strerror}; the cell failed: {self.reason}") from None

    @classmethod
    def read(cls, path: Path) -> Failure:
        """Read a file. Fields that a damaged file lacks are empty. Raises FileNotFoundError if there is none."""
        try:
            text = read_bytes(path).decode(errors="replace")
        except FileNotFoundError:
            raise
        except OSError as error:
            return cls(f"{path} cannot be read: {error.strerror}", "", "", "")
        head, _, details = text.partition("\n\n")
        fields = dict(line.partition(": ")[::2] for line in head.splitlines())
        return cls(**{key: fields.get(key, "") for key in HEAD}, details=details)


HEAD = ("reason", "kind", "command", "stage", "at", "data")
