"""What surrounds a command, made harmless: streams that cannot spell or have ended, no home, a notebook's backend."""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ENDED = (errno.EPIPE, errno.EIO)
"""Nobody reads any more: `| head` has its lines, a terminal is gone."""


class _Stream(io.FileIO):
    """A standard stream. Writing to a reader that has gone is no error; of another fault the first is kept."""

    fault: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Write bytes, or drop them."""
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in ENDED:
                self.fault = self.fault or error
            return len(content)


def settle() -> None:
    """Prepare this process and those that it starts, before anything is imported that looks around itself."""
    _settle_streams()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's is not installed everywhere, and no window is ever opened
    try:
        Path.home()
    except RuntimeError:  # no $HOME, and no entry in the list of users, as in containers
        home = Path(tempfile.gettempdir()) / f"home-of-{os.getuid()}"
        home.mkdir(mode=0o700, exist_ok=True)
        if home.stat().st_uid == os.getuid():
            os.environ["HOME"] = str(home)
    os.environ.setdefault("LOGNAME", os.environ.get("USER") or str(os.getuid()))


def fault_of_output() -> str | None:
    """Why the standard output lacks something that was printed; None if it lacks nothing."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error.strerror
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.fault.strerror if isinstance(raw, _Stream) and raw.fault else None


def _settle_streams() -> None:
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # closed, as by `>&-`
            setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace"))
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            raw = _Stream(number, "w", closefd=False)
            buffered = io.BufferedWriter(raw)
            # what its encoding cannot spell is escaped, as in \\u2265
            by_line = number == 2 or stream.line_buffering
            text = io.TextIOWrapper(buffered, stream.encoding, "backslashreplace", line_buffering=by_line)
            setattr(sys, name, text)
