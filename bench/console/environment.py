"""Prepare the process of a command: standard streams, home folder, matplotlib backend."""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.processes import mark_fresh

READER_GONE = (errno.EPIPE, errno.EIO)
"""Error numbers of a stream without a reader: `| head` has ended, or the terminal is closed."""


class _Stream(io.FileIO):
    """A standard stream that ignores a missing reader and keeps the first other error."""

    fault: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Write bytes. If this fails, drop them and return their number."""
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in READER_GONE:
                self.fault = self.fault or error
            return len(content)


def prepare_process() -> None:
    """Prepare this process and its children. Call this before importing modules that read the environment."""
    _prepare_streams()
    mark_fresh()
    if os.environ.get("HOME") == "":
        del os.environ["HOME"]  # or the working folder would be taken for it
    os.environ["MPLBACKEND"] = "agg"  # a notebook's backend may be missing here, and no window is opened
    try:
        Path.home()
    except RuntimeError:  # no $HOME and no entry in the list of users, as in containers
        home = Path(tempfile.gettempdir()) / f"home-of-{os.getuid()}"
        home.mkdir(mode=0o700, exist_ok=True)
        if home.stat().st_uid == os.getuid():
            os.environ["HOME"] = str(home)
    os.environ.setdefault("LOGNAME", os.environ.get("USER") or str(os.getuid()))


def fault_of_output() -> str | None:
    """Return why some output could not be written to the standard output; None if all was written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error.strerror
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.fault.strerror if isinstance(raw, _Stream) and raw.fault else None


def _prepare_streams() -> None:
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # closed, as by `>&-`
            setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace"))
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            raw = _Stream(number, "w", closefd=False)
            buffered = io.BufferedWriter(raw)
            # characters outside the stream's encoding are escaped, as in \\u2265
            by_line = number == 2 or stream.line_buffering
            text = io.TextIOWrapper(buffered, stream.encoding, "backslashreplace", line_buffering=by_line)
            setattr(sys, name, text)
