"""The outcome of a check, and what an error in a plugin's code says."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, Incompatible, no_exit
from bench.registry.reference import Reference
from bench.registry.registry import Kind, find


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    check: str
    fault: str | None = None
    """One line, what is wrong and what to do; None if nothing is."""
    does_not_apply: str | None = None
    """Why the check does not apply."""
    note: str = ""
    """What is unusual and may be right."""

    @property
    def verdict(self) -> str:
        """`FAULT`, `n/a`, `note` or `ok`."""
        if self.fault is not None:
            return "FAULT"
        return "n/a" if self.does_not_apply else "note" if self.note else "ok"


def fault_of(kind: Kind, reference: Reference, check: Callable[[], str | None]) -> str | None:
    """Return a check's result, or the exception it raised as a text. `Incompatible` is raised again: it is no fault."""
    try:
        with no_exit():
            return check()
    except Incompatible:
        raise
    except Exception as error:  # noqa: BLE001
        return _spell(error, kind, reference)


def _spell(error: Exception, kind: Kind, reference: Reference) -> str:
    """Return an exception in one line: a BenchError's message, or type, message and line in the plugin's file."""
    if isinstance(error, BenchError):
        return str(error)
    file = sys.modules[find(kind, reference.name).module].__file__
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f", in {own[-1].name} of {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]]) + where
