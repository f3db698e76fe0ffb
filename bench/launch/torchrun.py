"""Run one cell on several processes, on one machine or several, as `torchrun -m bench run` does."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from bench.errors import ERROR_FILE, BenchError, error_from
from bench.files import read_bytes
from bench.processes import own_modules

NODE_TIMEOUT = 600
"""Seconds within which all machines of a run must have started."""
LOOK_S = 0.5
"""Seconds between two checks for the file that ends the ranks."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals for which torch installs handlers while ranks run."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """This machine's place among those that run a cell together."""

    number: int = 0
    """Number of this machine; the others connect to machine 0."""
    size: int = 1
    """Number of machines."""
    endpoint: str = "localhost:0"
    """`HOST:PORT` of the machine with number 0."""
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Id of the run at that address; the same on all machines."""

    def in_round(self, name: str) -> Node:
        """Return the same place for one of several cells that these machines run after each other."""
        return replace(self, run_id=f"{self.run_id}-{name}")


def run_on_ranks(num_ranks: int, arguments: Sequence[str], node: Node | None = None, until: Path | None = None) -> int:
    """Start `bench ARGUMENTS` on `num_ranks` ranks of this machine and wait. Return the exit code: 0, or 1 for a bug.

    A user's mistake is raised here, once for all ranks; a signal that killed a rank as BenchError. When the file
    `until` appears, the ranks are terminated, and BenchError is raised with its text. Torch does not notify a machine
    of failed ranks on another one; whoever learns of them writes this file.
    """
    node = node or Node()
    with tempfile.TemporaryDirectory() as folder:
        error_file = Path(folder) / "error"
        os.environ[ERROR_FILE] = str(error_file)
        try:
            launch_ranks(num_ranks, sys.executable, ("-P", "-m", "bench", *arguments), node, until)
        except ChildFailedError as failed:
            if error_file.exists():
                raise error_from(read_bytes(error_file).decode()) from None
            rank, failure = failed.get_first_failure()
            if failure.exitcode < 0:
                name = signal.Signals(-failure.exitcode).name
                raise BenchError(f"rank {rank} was killed by {name}; the same command resumes the run") from None
            return 1
        except RendezvousError as error:
            raise BenchError(f"the {node.size} machines of this run did not meet at {node.endpoint}: {error}") from None
        except SignalException:
            if until and until.exists():
                raise BenchError(read_bytes(until).decode()) from None
            raise KeyboardInterrupt from None
        finally:
            del os.environ[ERROR_FILE]
    return 0


def launch_ranks(
    num_ranks: int,
    entry: str | Callable[..., None],
    arguments: Sequence[object],
    node: Node,
    until: Path | None = None,
) -> None:
    """Call `entry`, a program or a function, on this number of ranks of this machine and wait for them.

    Raises:
        ChildFailedError: a rank failed.
        SignalException: the ranks were ended by a signal, or because the file `until` appeared.

    """
    elastic = logging.getLogger("torch.distributed.elastic")  # its modules set their own log levels
    elastic.handlers, elastic.propagate = [logging.NullHandler()], False
    config = LaunchConfig(
        min_nodes=node.size,
        max_nodes=node.size,
        nproc_per_node=num_ranks,
        run_id=node.run_id,
        rdzv_backend="c10d",
        rdzv_endpoint=node.endpoint,
        rdzv_configs={"is_host": node.number == 0, "join_timeout": NODE_TIMEOUT},
        max_restarts=0,
        local_addr="localhost" if node.size == 1 else None,  # else the machine's own name, which may lead nowhere
    )
    with own_modules(), _own_handlers(), _ending_at(until):
        elastic_launch(config, entry)(*arguments)


@contextlib.contextmanager
def _own_handlers() -> Iterator[None]:
    """Restore this process's handlers of SIGNALS at the end, because torch does not remove its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _ending_at(file: Path | None) -> Iterator[None]:
    """Within this context, send SIGTERM to this process when the file appears."""
    if file is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_S):
            if file.exists():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
