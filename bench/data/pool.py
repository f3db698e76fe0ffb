"""Apply a function to chunks of records on all cores."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from bench.errors import DataError, no_exit
from bench.processes import end_with_parent, forkserver, num_cores, starting_children

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
    context = forkserver("bench.data.signals", *modules)
    with ProcessPoolExecutor(num_workers, mp_context=context, initializer=end_with_parent) as pool:
        try:
            with starting_children():
                futures = {pool.submit(_examine, examine, chunk): chunk for chunk in chunks}
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
