"""One function over chunks of records on all cores."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from bench.errors import DataError
from bench.processes import end_with_parent, num_cores, own_modules, require_guard

Chunk = TypeVar("Chunk")
Found = TypeVar("Found")
FEW = 4
"""So many chunks are done in this process: starting workers would take longer."""


def over_cores(
    examine: Callable[[Chunk], Found], chunks: Sequence[Chunk]
) -> Generator[tuple[Chunk, Found], None, None]:
    """Each chunk with what `examine` gives for it, as they are done. Closing the generator ends the workers."""
    num_workers = min(num_cores(), len(chunks))
    if num_workers <= 1 or len(chunks) <= FEW:
        for chunk in chunks:
            yield chunk, examine(chunk)
        return
    require_guard()
    # a fork of this process may copy a lock that a thread of torch's holds; a process of its own imports what the work
    # needs, once and not once a worker, and forks them
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.data.signals"])
    with own_modules(), ProcessPoolExecutor(num_workers, mp_context=context, initializer=end_with_parent) as pool:
        # workers inherit the mask: Ctrl-C reaches all processes of a terminal, and this one alone should answer it
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            futures = {pool.submit(examine, chunk): chunk for chunk in chunks}
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            pool.shutdown(wait=True, cancel_futures=True)
            raise DataError(
                f"one of the {num_workers} processes that read records was killed, as happens where memory runs out; "
                "free some or use fewer cores, as in `taskset -c 0 bench ...`, and give the command again"
            ) from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
