"""Apply a function to chunks of records on all cores."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from bench.errors import DataError, no_exit
from bench.processes import end_with_parent, num_cores, own_modules

Chunk = TypeVar("Chunk")
Output = TypeVar("Output")
FEW = 4
"""Up to this number of chunks, no workers are started, because starting them would take longer."""


def over_cores(
    examine: Callable[[Chunk], Output], chunks: Sequence[Chunk], *, here: bool = False, modules: Sequence[str] = ()
) -> Generator[tuple[Chunk, Output], None, None]:
    """Yield (chunk, examine(chunk)) in order of completion. Closing the generator stops the workers.

    `here`: in this process alone, because others could not import what `examine` calls. `modules` are imported once for
    all workers, unless an earlier call has started their server.
    """
    num_workers = 1 if here else min(num_cores(), len(chunks))
    if num_workers <= 1 or len(chunks) <= FEW:
        for chunk in chunks:
            yield chunk, _examine(examine, chunk)
        return
    # a fork of this process may copy a lock that a thread of torch holds; a separate server process imports the
    # needed modules once and forks the workers
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.data.signals", *modules])
    with ProcessPoolExecutor(num_workers, mp_context=context, initializer=end_with_parent) as pool:
        # workers inherit the mask: Ctrl-C reaches all processes of a terminal, but only this one should handle it
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            try:
                with own_modules():
                    futures = {pool.submit(_examine, examine, chunk): chunk for chunk in chunks}
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            pool.shutdown(wait=True, cancel_futures=True)
            raise DataError(
                f"one of the {num_workers} processes that read records was killed, perhaps because memory ran out; "
                "free memory or use fewer cores, as in `taskset -c 0 bench ...`, and give the command again"
            ) from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _examine(examine: Callable[[Chunk], Output], chunk: Chunk) -> Output:
    with no_exit():
        return examine(chunk)
