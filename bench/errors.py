"""The errors that a user can cause: one line each, exit code 2. Everything else is a bug and keeps its traceback."""

ERROR_FILE = "BENCH_ERROR_FILE"
"""Environment variable: the file into which a rank of `bench run --nproc` writes a user's error, to be said once."""


class BenchError(Exception):
    """What happened; what exists or was expected; what to do. The command line prints it and exits with 2."""


class DataError(BenchError):
    """A dataset, a record or a table is missing, damaged or not what it should be; names the file or the field."""


class PluginError(BenchError):
    """A plugin, a reference to one, or one of its hyper-parameters is unknown, broken or of the wrong type."""


class CheckpointError(BenchError):
    """A file of weights is missing, does not fit the backbone, or would run code when loaded."""


class Busy(BenchError):
    """Another process is running this cell now, or has just done so."""

    WORDS = "another process "
    """How all such messages begin; across ranks the words are all that is left of the error."""


class Diverged(BenchError):
    """Training left the finite numbers; the setting is at fault, and the same would happen again."""

    WORDS = "training diverged"
    """How all such messages begin; across processes the words are all that is left of the error."""


class Incompatible(BenchError):
    """This method cannot be run on this backbone or init, and why. The board lists the cell with the reason."""
