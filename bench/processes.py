"""Processes: whether this one is fresh; for children, what they import, the cores they may use, and their end."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bench.files import read_bytes

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

_fresh = False


def mark_fresh() -> None:
    """State that this process was started to run cells, and has run none."""
    global _fresh
    _fresh = True


def use_up() -> bool:
    """Return whether this process was fresh. From now on it is not."""
    global _fresh
    was, _fresh = _fresh, False
    return was


def num_cores() -> int:
    """Return the number of CPU cores that this process may use: the smaller of its affinity and its cgroup quota."""
    num = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(num, _quota())))


def _quota(process: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the cores that the control groups (version 2) of this process allow, as containers set them; else inf.

    `cpu.max` of a group holds two numbers: microseconds of computing time, or `max`, in a period of microseconds.
    """
    with contextlib.suppress(OSError, ValueError, StopIteration):
        own = next(line[3:] for line in read_bytes(process).decode().splitlines() if line.startswith("0::"))
        group, quotas = groups / own.lstrip("/"), [math.inf]
        for folder in (group, *group.parents):
            if folder.is_relative_to(groups) and (file := folder / "cpu.max").is_file():
                time_us, period_us = read_bytes(file).split()
                quotas.append(math.inf if time_us == b"max" else int(time_us) / int(period_us))
        return min(quotas)
    return math.inf


@contextlib.contextmanager
def own_modules() -> Iterator[None]:
    """Within this context, new processes run nothing of the user: neither his script again nor modules beside it.

    Python puts the working folder, which may contain a random.py, first on the path for `-c` and `-m`, with which child
    processes start. `multiprocessing` makes each of them run the parent's script again, unless the script has an
    `if __name__ == "__main__"`; what our processes call is in `bench`, so an empty module takes the script's place.
    """
    before, main = os.environ.get("PYTHONSAFEPATH"), sys.modules["__main__"]
    os.environ["PYTHONSAFEPATH"] = "1"
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


@contextlib.contextmanager
def starting_children() -> Iterator[None]:
    """Within this context, new processes run nothing of the user, see `own_modules`, and do not answer Ctrl-C.

    They inherit the mask. Ctrl-C reaches all processes of a terminal, and this one alone should answer it.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with own_modules():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def forkserver(*modules: str) -> ForkServerContext:
    """Return a context whose processes are forks of a server, which imports these modules once, unless it runs already.

    A fork of this process might copy a lock that a thread of torch holds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return context


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
