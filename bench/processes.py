"""What processes that work for another need: the cores that they may use, and an end when that one ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
