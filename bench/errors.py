"""Errors that a user can cause: one line, exit code 2. Any other exception is a bug and keeps its traceback."""

ERROR_FILE = "BENCH_ERROR_FILE"
"""Environment variable: file to which a rank of `bench run --nproc` writes a user's error, so that it prints once."""


class BenchError(Exception):
    """States what happened, what was expected, and what to do. The command line prints it and exits with 2."""


class DataError(BenchError):
    """A data set, record or table is missing or damaged. The message names the file or field."""


class PluginError(BenchError):
    """A plugin, a reference to it or a hyper-parameter is unknown, broken or of the wrong type."""


class CheckpointError(BenchError):
    """A weights file is missing, does not fit the backbone, or would run code when loaded."""


class Busy(BenchError):
    """Another process runs this cell now or has just finished it."""

    PREFIX = "another process "
    """Start of all these messages: between ranks only the text of an error is passed on."""


class Diverged(BenchError):
    """Training reached non-finite numbers. The setting causes it, so a repetition would fail too."""

    PREFIX = "training diverged"
    """Start of all these messages: between processes only the text of an error is passed on."""


class Incompatible(BenchError):
    """The method declines this backbone or init. The board lists the cell with the reason."""
