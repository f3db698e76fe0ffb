"""Processes that work for another: what they import, which cores they may use, and that they end with it."""

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
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def own_modules() -> Iterator[None]:
    """Processes that are started meanwhile import no module of the working folder, where a random.py may lie.

    Python puts that folder first for `-c` and `-m`, by which all such processes start.
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
    """Raises BenchError in a script that processes started now would run once more, from its first line on."""
    main = sys.modules["__main__"]
    if getattr(multiprocessing.current_process(), "_inheriting", False) or _is_run_again(main):
        script = getattr(main, "__file__", "this script")
        raise BenchError(
            f"{script} starts processes, and each of them would run the script again: "
            'put what it does below `if __name__ == "__main__":`'
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
    """End this process when the one that started it has died, or it would wait for work for ever.

    With `grace`, in seconds, SIGTERM comes first, so that it can end what it has started itself.
    """

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            if grace:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(grace)
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
