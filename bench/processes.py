"""Child processes: limit what they import, count the cores they may use, and end them with their parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from bench.errors import BenchError


def num_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def own_modules() -> Iterator[None]:
    """Within this context, new processes import no module from the working folder, which may contain a random.py.

    Python puts that folder first on the path for `-c` and `-m`, with which child processes start.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def require_guard() -> None:
    """Raise BenchError if new processes would run the user's script again, because it lacks the `__main__` guard."""
    main = sys.modules["__main__"]
    if getattr(multiprocessing.current_process(), "_inheriting", False) or _is_run_again(main):
        script = getattr(main, "__file__", "this script")
        raise BenchError(
            f"{script} starts processes, and each of them would run the script again: "
            'put its code below `if __name__ == "__main__":`'
        )


def _is_run_again(main: ModuleType) -> bool:
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if file is None or (spec is not None and spec.name.endswith("__main__")):
        return False
    try:
        return re.search(r"\b__name__\b", Path(file).read_text(encoding="utf-8", errors="replace")) is None
    except OSError:
        return False


def end_with_parent(grace: float = 0.0) -> None:
    """End this process when its parent dies. Otherwise it would wait for work for ever.

    With `grace`, in seconds, SIGTERM is sent first, so that the process can end its own children.
    """

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            if grace:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(grace)
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
