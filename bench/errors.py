"""Errors that a user can cause: one line, exit code 2. Any other exception is a bug and keeps its traceback."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

PASSES_ON = {"click", "typer", "wandb"}
"""Packages through which the exit of `bench` itself goes: wandb puts a function of its own in place of sys.exit."""
ERROR_FILE = "BENCH_ERROR_FILE"
"""Environment variable: file to which a rank of `bench run --nproc` writes a user's error, so that it prints once.
See `error_from`."""


class BenchError(Exception):
    """States what happened, what was expected, and what to do. The command line prints it and exits with 2."""


class DataError(BenchError):
    """A data set, record or table is missing or damaged. The message names the file or field."""


class PluginError(BenchError):
    """A plugin, a reference to it or a hyper-parameter is unknown, broken or of the wrong type."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, at most 200 characters of it; the error's type if it has no text."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    """Within this context, raise PluginError where a plugin ends the program: by exit, or by parsing its arguments."""
    try:
        yield
    except SystemExit as end:
        if place := _who_ends(end):
            raise PluginError(f"{place} ended the program by exit({end.code!r}); a plugin raises an error") from end
        raise


def _who_ends(end: SystemExit) -> str:
    """Return file and line of the code, called from `bench`, that ends the program; empty if `bench` itself does."""
    package, library = Path(__file__).parent, Path(os.__file__).parent
    place = ""
    for frame in traceback.extract_tb(end.__traceback__):
        file = Path(frame.filename)
        if file.is_relative_to(package):
            place = ""
        elif {"site-packages", "dist-packages"} & set(file.parts):
            place = place if PASSES_ON & set(file.parts) else f"{file}, line {frame.lineno},"
        elif not file.is_relative_to(library) and not frame.filename.startswith("<frozen"):
            place = f"{file}, line {frame.lineno},"
    return place


class CheckpointError(BenchError):
    """A weights file is missing, does not fit the backbone, or would run code when loaded."""


class Busy(BenchError):
    """Another process runs this cell now or has just finished it."""


class Diverged(BenchError):
    """Training reached non-finite numbers. The setting causes it, so a repetition would fail too."""

    PREFIX = "training diverged"
    """Start of all these messages: failure files of earlier versions are recognised by it."""


class Incompatible(BenchError):
    """The method declines this backbone or init. The board lists the cell with the reason."""


def error_from(text: str) -> BenchError:
    """Return the error of another process from `TypeName: text`; a BenchError if this module has no such type."""
    name, _, words = text.partition(": ")
    kind = globals().get(name)
    return kind(words) if isinstance(kind, type) and issubclass(kind, BenchError) else BenchError(words)
