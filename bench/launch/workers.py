"""Many cells on this machine: each in a process of its own, forked from one that has imported torch.

So a cell costs no import, and neither its memory nor anything else depends on the cells before it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.cell import Cell
from bench.console.cells_view import CellsView
from bench.errors import BenchError, Busy
from bench.files import read_bytes
from bench.processes import end_with_parent, own_modules
from bench.results.failures import FAILED, Failure
from bench.results.result import OF_VAL, Result, load_result

if TYPE_CHECKING:
    from bench.execute import Options

GRACE = 10.0
"""Seconds that a worker has to end by itself."""
FIRST_WAIT, LONGEST_WAIT = 2.0, 30.0
"""Seconds until a cell that another process runs is tried again (grows by half each time), and their maximum."""
SAID = 20_000
"""Maximum number of characters of a worker's last output in a failure file."""


@dataclass(frozen=True)
class Ended:
    """The outcome of a cell: a finished run in `folder`, or a failure."""

    cell: Cell
    folder: Path | None = None
    incompatible: str | None = None
    """Why the method declined the backbone; the result of such a cell has no scores."""
    failure: Failure | None = None

    def result(self) -> Result:
        """Return the finished run's result. Raises BenchError with the reason of a failure."""
        if self.folder is None:
            raise BenchError(self.failure.reason if self.failure else "this cell has not run")
        return load_result(self.folder)


def run_cells(
    cells: Sequence[Cell],
    options: Options,
    *,
    jobs: int = 1,
    nproc: int = 1,
    console: Console,
    ended: Callable[[Ended], None] = lambda one: None,
) -> list[Ended]:
    """Run `jobs` cells at a time, on `nproc` processes each, and say how each ended, in the order of `cells`.

    Finished cells are only loaded and unfinished ones go on. A failing cell stops no other: its failure is written
    beside the run folders. A cell that another process runs is asked for again until that process is done. Ctrl-C and
    SIGTERM end the workers and raise KeyboardInterrupt.
    """
    if not cells:
        return []
    if names := {name for cell in cells for name in cell.of_notebook}:
        words = f"{', '.join(sorted(names))}: defined in a notebook or a script, which other processes cannot import"
        advice = "save it in a file of its own and call bench.load_plugin"
        if nproc > 1:
            raise BenchError(f"{words}; {advice}")
        console.print(f"note: {words}, so cells run one at a time; else {advice}", markup=False, soft_wrap=True)
        return [_run_here(cell, options, console, ended) for cell in cells]
    with _ending_on_sigterm(), tempfile.TemporaryDirectory() as scratch, CellsView(console, len(cells)) as view:
        return _Pool(cells, options, min(jobs, len(cells)), nproc, Path(scratch), view, ended).run()


def _run_here(cell: Cell, options: Options, console: Console, ended: Callable[[Ended], None]) -> Ended:
    """Run a cell in this process, because others could not import its plugin; a bug keeps its traceback."""
    from bench.execute import execute

    console.print(words_of(cell), markup=False, highlight=False, soft_wrap=True)
    path = failure_path(options.runs, cell, options.stage)
    try:
        result = execute(cell, replace(options, console=console))
    except BenchError as error:
        failure = Failure.now(cell.command(), options.stage, str(error), traceback.format_exc())
        failure.write(path)
        outcome = Ended(cell, failure=failure)
    else:
        path.unlink(missing_ok=True)
        outcome = Ended(cell, result.folder, result.incompatible)
    ended(outcome)
    return outcome


@dataclass(eq=False)
class _Worker:
    """A process that runs one cell."""

    slot: int
    cell: int
    process: BaseProcess
    pipe: Connection
    printed: Path
    """What it prints."""
    began: float = field(default_factory=time.monotonic)

    def end(self) -> int | None:
        """Wait for its end, and kill it if that does not come; its exit code, negative for a signal."""
        self.pipe.close()
        self.process.join(GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return self.process.exitcode


@dataclass
class _Pool:
    """The workers of a call of `run_cells`, and the cells that are waiting."""

    cells: Sequence[Cell]
    options: Options
    jobs: int
    nproc: int
    scratch: Path
    view: CellsView
    ended: Callable[[Ended], None]
    workers: list[_Worker] = field(default_factory=list)
    found: dict[int, Ended] = field(default_factory=dict)

    def run(self) -> list[Ended]:
        self.fresh = deque(range(len(self.cells)))
        self.later: dict[int, tuple[float, float]] = {}
        """Cell that another process runs -> time at which to try again, and the wait in seconds."""
        try:
            while len(self.found) < len(self.cells):
                for slot in set(range(self.jobs)) - {worker.slot for worker in self.workers}:
                    if (chosen := self._next()) is not None:
                        self._start(slot, chosen)
                self._listen()
                self.view.time_passes()
        finally:
            self._end()
        return [self.found[at] for at in range(len(self.cells))]

    def _next(self) -> int | None:
        """Return the next cell: one that has not been tried yet, else one whose wait is over."""
        if self.fresh:
            return self.fresh.popleft()
        given = {worker.cell for worker in self.workers}
        due = [at for at, (when, _) in self.later.items() if at not in given and when <= time.monotonic()]
        return due[0] if due else None

    def _start(self, slot: int, at: int) -> None:
        self.view.begins(slot, words_of(self.cells[at]))
        ours, theirs = multiprocessing.Pipe(duplex=False)
        printed = self.scratch / f"{at}-{time.monotonic_ns()}"
        share = share_of(slot, self.jobs, self.nproc)
        plain = replace(self.options, log=None, console=None)  # type: ignore[arg-type]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["bench.launch.preload"])
        # workers inherit the mask: Ctrl-C reaches all processes of a terminal, and this one alone should answer it
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with own_modules():
                # the environment is handed over, for the server keeps that of its own start
                arguments = (theirs, printed, share, dict(os.environ), self.cells[at], plain, self.nproc)
                process = context.Process(target=serve, args=arguments, daemon=False)
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        self.workers.append(_Worker(slot, at, process, ours, printed))

    def _listen(self) -> None:
        """Wait until a worker sends a message or dies, or the wait of a cell is over."""
        for pipe in wait([worker.pipe for worker in self.workers], timeout=0.5):
            worker = next(one for one in self.workers if one.pipe is pipe)
            try:
                word, *rest = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                word, rest = "died", []
            if word == "at":
                self.view.moves(worker.slot, *rest)
                continue
            code = worker.end()
            self.workers.remove(worker)
            if word == "busy":
                _, waited = self.later.get(worker.cell, (0.0, FIRST_WAIT / 1.5))
                pause = min(waited * 1.5, LONGEST_WAIT)
                self.later[worker.cell] = (time.monotonic() + pause, pause)
                self.view.waits(worker.slot)
            elif word == "done":
                self._settle(worker, Ended(self.cells[worker.cell], *rest))
            elif word == "failed":
                self._fail(worker, *rest)
            else:
                self._fail(worker, *_last_words(worker.printed, code))

    def _fail(self, worker: _Worker, reason: str, details: str) -> None:
        cell, stage = self.cells[worker.cell], self.options.stage
        failure = Failure.now(cell.command(), stage, reason, details)
        failure.write(failure_path(self.options.runs, cell, stage))
        self._settle(worker, Ended(cell, failure=failure))

    def _settle(self, worker: _Worker, one: Ended) -> None:
        if one.folder:
            failure_path(self.options.runs, one.cell, self.options.stage).unlink(missing_ok=True)
        self.found[worker.cell] = one
        self.later.pop(worker.cell, None)
        self.ended(one)
        self.view.ends(worker.slot, words_of(one.cell), *_how(one), time.monotonic() - worker.began)

    def _end(self) -> None:
        """Workers that still run are told to stop, and killed if they do not."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            for worker in self.workers:
                worker.process.terminate()
            for worker in self.workers:
                worker.end()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _last_words(printed: Path, code: int | None) -> tuple[str, str]:
    """Why a worker has died, and the end of what it printed. Raises BenchError if it never came to its cell."""
    ended = f"its process ended with exit code {code}"
    if not printed.exists():
        raise BenchError(f"a worker ended before it began with its cell: {ended}")
    details = read_bytes(printed).decode(errors="replace")[-SAID:]
    if code is not None and code < 0:
        return f"its process was killed by {signal.Signals(-code).name}", details
    return next((line for line in reversed(details.splitlines()) if line.strip()), ended), details


def _how(one: Ended) -> tuple[str, str]:
    """Return the outcome in one word, and the reason if there is one."""
    if one.failure:
        return "failed", one.failure.reason
    return ("declined", one.incompatible) if one.incompatible else ("done", "")


def words_of(cell: Cell) -> str:
    """Return a short description of a cell."""
    share = f", {cell.fraction:g} draw {cell.draw}" if cell.fraction < 1 else ""
    return f"{cell.task}: {cell.method} on {cell.arch}{share}, seed {cell.seed}"


def failure_path(runs: Path, cell: Cell, stage: str) -> Path:
    """Return the path of the failure file of a cell. It depends on the command, because there may be no digest yet."""
    name = cell.folder_name(hashlib.sha256(cell.command().encode()).hexdigest())
    return runs / cell.task / (name + (OF_VAL if stage == "val" else "") + FAILED)


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C within this context, so that workers are stopped in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@dataclass(frozen=True)
class Share:
    """CPU cores and GPUs assigned to a worker."""

    cores: frozenset[int] | None
    """None if processes cannot be pinned to cores."""
    gpus: tuple[str, ...]
    """Names for CUDA_VISIBLE_DEVICES; empty: leave the variable as it is."""


def share_of(slot: int, jobs: int, nproc: int) -> Share:
    """Return the cores and GPUs of worker `slot`. Workers share them only if there are too few."""
    cores = None
    if hasattr(os, "sched_setaffinity"):
        ours = sorted(os.sched_getaffinity(0))
        cores = frozenset(ours[slot * len(ours) // jobs : (slot + 1) * len(ours) // jobs] or [ours[slot % len(ours)]])
    gpus = visible_gpus()
    return Share(cores, tuple(gpus[(slot * nproc + rank) % len(gpus)] for rank in range(min(nproc, len(gpus)))))


def default_jobs(nproc: int) -> int:
    """Return the default number of cells at a time: GPUs / `nproc`, at least 1."""
    return max(1, len(visible_gpus()) // nproc)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, in the form of CUDA_VISIBLE_DEVICES."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def serve(
    pipe: Connection,
    printed: Path,
    share: Share,
    environment: Mapping[str, str],
    cell: Cell,
    options: Options,
    nproc: int,
) -> None:
    """Run one cell in this process, and send how it ended. What is printed goes to the file `printed`.

    An error that is not a user's ends the process: its traceback is in that file.
    """
    file = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    faulthandler.enable()
    os.environ.clear()
    os.environ.update(environment)
    end_with_parent(GRACE)
    if share.cores:
        os.sched_setaffinity(0, share.cores)
    if share.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(share.gpus)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        pipe.send(_answer(cell, options, nproc, pipe))
    except BrokenPipeError:
        return
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)


def _answer(cell: Cell, options: Options, nproc: int, pipe: Connection) -> tuple[Any, ...]:
    """Run a cell and return the message to the sweep with its outcome."""
    from bench.execute import execute

    tell = _sparing(lambda line: pipe.send(("at", line)))
    options = replace(options, console=Console(quiet=True), log=tell)
    try:
        if nproc > 1:
            from bench.launch.torchrun import run_on_ranks

            if code := run_on_ranks(nproc, options.arguments(cell)):
                raise BenchError(f"its {nproc} processes ended with exit code {code}")
            options = replace(options, overwrite=False, rerun_stale=False)
        result = execute(cell, options)
    except BenchError as error:
        if str(error).startswith(Busy.PREFIX):
            return ("busy",)
        return ("failed", str(error), traceback.format_exc())
    return ("done", result.folder, result.incompatible)


def _sparing(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Return a callback that forwards the first line, and then at most two lines per second."""
    last = 0.0

    def log(line: str) -> None:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            tell(line)

    return log
