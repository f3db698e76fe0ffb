"""Workers: processes that take cells from a plan on disk, longest first, until none is left or their time is over.

A worker imports torch once and keeps its data set open. After a long cell on a CPU, a new process takes its place. A
cell that ends its process, by a bug or by a kill, has failed, and the next cell gets a new process. If all processes of
a worker are killed, its cell has not failed: another worker takes it over.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench.cell import Cell
from bench.console.cells_view import CellsView
from bench.console.terminal import print_line
from bench.errors import BenchError, Busy
from bench.files import read_bytes
from bench.launch.claims import Claim, Claims
from bench.launch.outcomes import Ended, failure_of
from bench.launch.plan_folder import Entry, PlanFolder
from bench.processes import end_with_parent, forkserver, mark_fresh, starting_children

if TYPE_CHECKING:
    from bench.data.opened import OpenData
    from bench.execute import Options

LONG = 30.0
"""Seconds after which a cell on a CPU is followed by a new process: the peak memory of its first cell alone is known,
and to start a process and to open a data set takes one or two seconds."""
GRACE = 10.0
"""Seconds that a worker has to end by itself."""
FIRST_WAIT, LONGEST_WAIT = 2.0, 30.0
"""Seconds until a cell that another process runs is tried again (grows by half each time), and their maximum."""
LOOK = 1.0
"""Seconds between two looks at what other workers do, for a worker that has nothing to do."""
MOST_PRINTED = 20_000
"""Maximum number of characters of a worker's last output in a failure file."""

RunRanks = Callable[[Sequence[str]], int]
"""Runs `bench ARGUMENTS` on several processes and returns the exit code."""


@dataclass(frozen=True, kw_only=True)
class Crew:
    """The workers of this machine, and how long they work."""

    jobs: int = 1
    """Number of cells at a time."""
    nproc: int = 1
    """Number of processes of a cell on this machine."""
    run_ranks: RunRanks | None = None
    """None: each cell runs in a single process."""
    seconds: float | None = None
    """How long the workers may take cells and run them; None: as long as there are cells."""
    stays: bool = True
    """Wait until every cell has ended; else leave when live workers of this plan have all cells that are left."""

    @classmethod
    def of(cls, jobs: int | None, nproc: int, seconds: float | None = None) -> Crew:
        """Return workers of this machine: `jobs`, or one for each `nproc` GPUs, at least one."""
        crew = cls(jobs=jobs or default_jobs(nproc), nproc=nproc, seconds=seconds)
        if nproc == 1:
            return crew
        from bench.launch.torchrun import run_on_ranks

        return replace(crew, run_ranks=partial(run_on_ranks, nproc))


def drain(plan: PlanFolder, ids: Sequence[str], options: Options, crew: Crew, console: Console) -> dict[str, Ended]:
    """Run these cells of a plan, beside other workers that do so, and return how they ended, by id.

    Finished cells are only loaded and unfinished ones go on. A failing cell stops no other: its failure is written
    beside the run folders. Cells of a plugin in a notebook run in this process. Left out are cells that have not ended
    when time is over, and finals of a tuning with a failed trial. Ctrl-C and SIGTERM end the workers and raise
    KeyboardInterrupt.
    """
    names = plan.of_notebook
    if names:
        words = f"{', '.join(names)}: defined in a notebook or a script, which other processes cannot import"
        advice = "save it in a file of its own and call bench.load_plugin"
        if crew.nproc > 1:
            raise BenchError(f"{words}; {advice}")
        console.print(f"note: {words}, so cells run one at a time; else {advice}", markup=False, soft_wrap=True)
    jobs = 1 if names else max(1, min(crew.jobs, len(ids)))
    with (
        _ending_on_sigterm(),
        tempfile.TemporaryDirectory() as scratch,
        plan.claims() as claims,
        CellsView(Console(quiet=True) if names else console, len(ids)) as view,
    ):
        here = console if names else None
        return _Pool(plan, list(ids), options, replace(crew, jobs=jobs), claims, Path(scratch), view, here).run()


@dataclass(eq=False)
class _Worker:
    """A process that runs one cell after the other."""

    process: BaseProcess
    pipe: Connection
    printed: Path
    """What it prints during a cell."""
    share: Share

    def end(self) -> int | None:
        """Wait for its end, and kill it if that does not come; its exit code, negative for a signal."""
        self.pipe.close()
        self.process.join(GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return self.process.exitcode


@dataclass(frozen=True)
class _Task:
    """A cell that is claimed and runs."""

    entry: Entry
    cell: Cell
    claim: str
    began: float = field(default_factory=time.monotonic)


@dataclass
class _Pool:
    """The workers of a call of `drain`, and the cells that are left."""

    plan: PlanFolder
    left: list[str]
    options: Options
    crew: Crew
    claims: Claims
    scratch: Path
    view: CellsView
    here: Console | None
    """Run cells in this process, and print here."""
    workers: dict[int, _Worker] = field(default_factory=dict)
    tasks: dict[int, _Task] = field(default_factory=dict)
    """Slot -> what its worker runs."""

    def run(self) -> dict[str, Ended]:
        self.outcomes: dict[str, Ended] = {}  # in memory, because another command may run a failed cell again
        self.began = time.monotonic()
        self.later: dict[str, tuple[float, float]] = {}
        """Cell that a process outside of all plans runs -> time at which to try again, and the wait in seconds."""
        self.signs: dict[str, tuple[int, float]] = {}
        """Claim of another worker -> its sign of life when this pool found nothing to do."""
        self.ended: set[str] = set()
        self.next_look = self.next_check = self.next_sign = 0.0
        try:
            while self._look() and not self._time_is_over():
                for slot in set(range(self.crew.jobs)) - self.tasks.keys():
                    if (chosen := self._next()) is None:
                        break
                    self._begin(slot, chosen)
                if not self.tasks and not self._waits():
                    break
                self._listen()
                self.view.time_passes()
        finally:
            self._end()
        return self.outcomes

    def _look(self) -> bool:
        """Look which cells other workers have ended. Return whether any is left."""
        if time.monotonic() >= self.next_look:
            self.next_look = time.monotonic() + LOOK
            self.ended |= self.plan.outcomes()
            mine = {task.entry.id for task in self.tasks.values()}
            for each in [name for name in self.left if name in self.ended and name not in mine]:
                try:
                    end = self.outcomes[each] = self.plan.ended(each)
                except FileNotFoundError:
                    if self.plan.folder.exists():  # another command has removed it since, for the cell to be run again
                        self.ended.remove(each)
                    else:  # `bench prune` has removed the plan
                        self.left.remove(each)
                    continue
                self.left.remove(each)
                self.view.ends(-1, words_of(end.cell), *end.state_and_reason, None)
        return bool(self.left)

    def _time_is_over(self) -> bool:
        return self.crew.seconds is not None and time.monotonic() - self.began >= self.crew.seconds

    def _fits(self, entry: Entry) -> bool:
        """Return whether there is time to end a cell. One that is too long for any worker is begun by a fresh one."""
        if self.crew.seconds is None or entry.seconds is None:
            return True
        worked = time.monotonic() - self.began
        return entry.seconds <= self.crew.seconds - worked or worked < self.crew.seconds / 4

    def _next(self) -> _Task | None:
        """Claim the first cell that nobody else runs."""
        now, claims = time.monotonic(), self.claims.all()
        check = now >= self.next_check  # whether other claims are dead: each costs the reading of a file
        mine = {task.entry.id for task in self.tasks.values()}
        for each in list(self.left):
            entry = self.plan.entries[each]
            if each in mine or self.later.get(each, (0.0, 0.0))[0] > now or not self._fits(entry):
                continue
            if not self.ended.issuperset(entry.best_of):
                continue
            try:
                name = self.plan.claim_name(entry)
            except BenchError:  # a trial has failed, or all diverged; `tune` says which
                self.left.remove(each)
                continue
            except FileNotFoundError:  # as in `_look`
                self.ended.difference_update(entry.best_of)
                continue
            if name in claims and not claims[name].free and not check:
                continue
            if not self.claims.take(name, claims):
                continue
            if self.plan.has_ended(each):  # since the last look
                self.claims.release(name, done=True)
                continue
            return _Task(entry, self.plan.cell(entry), name)
        if check:
            self.next_check = now + LOOK
        return None

    def _waits(self) -> bool:
        """Return whether this worker, which found nothing to do, may have something to do later.

        One that does not stay waits for cells of other plans' workers, which write no outcome into this plan, and for
        those of workers that may be dead, until they touch their claims or lose them.
        """
        entries = [self.plan.entries[each] for each in self.left]
        if not any(map(self._fits, entries)):
            return False
        if self.crew.stays or any(e.id in self.later or not self.ended.issuperset(e.best_of) for e in entries):
            return True
        if time.monotonic() < self.next_sign:
            return True
        self.next_sign = time.monotonic() + LOOK
        claims = self.claims.all()
        runs = [self._is_run(entry, claims) for entry in entries if self._fits(entry)]  # notes the first sign of each
        return not all(runs)

    def _is_run(self, entry: Entry, claims: Mapping[str, Claim]) -> bool:
        """Return whether a worker of this plan runs a cell and has shown life since this one found nothing to do."""
        name = self.plan.claim_name(entry)
        sign = self.claims.sign(claims.get(name))
        return sign is not None and self.signs.setdefault(name, sign) != sign

    def _begin(self, slot: int, task: _Task) -> None:
        self.view.begins(slot, words_of(task.cell))
        self.tasks[slot] = task
        self.signs.clear()
        options = self.plan.options(task.entry, self.options)
        if self.here:
            print_line(self.here, words_of(task.cell))
            self._settle_or_wait(slot, _run(task.cell, replace(options, console=self.here)))
            return
        plain = replace(options, log=None, console=None)  # type: ignore[arg-type]
        if slot not in self.workers:
            self.workers[slot] = self._start(slot)
        try:
            self.workers[slot].pipe.send((task.cell, plain))
        except OSError:  # it died after its last cell
            self.workers[slot].end()
            self.workers[slot] = self._start(slot)
            self.workers[slot].pipe.send((task.cell, plain))

    def _start(self, slot: int) -> _Worker:
        """Start a process that has imported torch already: a fork of a server that has."""
        own_end, end = multiprocessing.Pipe()
        printed = self.scratch / f"{slot}-{time.monotonic_ns()}"
        share = share_of(slot, self.crew.jobs, self.crew.nproc)
        with starting_children():
            # pass the environment: the server has that of its own start
            arguments = (end, printed, share, dict(os.environ), self.crew.run_ranks)
            process = forkserver("bench.launch.preload").Process(target=serve, args=arguments, daemon=False)
            process.start()
        end.close()
        return _Worker(process, own_end, printed, share)

    def _listen(self) -> None:
        """Wait until a worker sends a message or dies, or it is time to look around."""
        for each in self.claims.lost:
            self._give_up(each)
        busy = {self.workers[slot].pipe: slot for slot in self.tasks if slot in self.workers}
        if not busy:
            time.sleep(LOOK / 4)
        for pipe in wait(list(busy), timeout=LOOK / 2):
            slot = busy[pipe]  # type: ignore[index]
            try:
                word, *rest = self.workers[slot].pipe.recv()
            except (EOFError, ConnectionResetError):
                word, rest = "died", []
            if word == "at":
                self.view.moves(slot, *rest)
            elif word == "ended":
                (end,) = rest
                is_long = time.monotonic() - self.tasks[slot].began > LONG
                if end and not end.failure and is_long and not self.workers[slot].share.gpus:
                    self.workers.pop(slot).end()
                self._settle_or_wait(slot, end)
            else:
                worker, task = self.workers.pop(slot), self.tasks[slot]
                reason, details = _last_words(worker.printed, worker.end())
                failure = failure_of(task.cell, task.entry.stage, reason, details)
                self._settle(slot, Ended(task.cell, failure=failure))

    def _settle_or_wait(self, slot: int, end: Ended | None) -> None:
        """Write how a cell ended; None: a process outside of all plans runs it, so it is tried again later."""
        if end:
            self._settle(slot, end)
            return
        task = self.tasks.pop(slot)
        _, waited = self.later.get(task.entry.id, (0.0, FIRST_WAIT / 1.5))
        pause = min(waited * 1.5, LONGEST_WAIT)
        self.later[task.entry.id] = (time.monotonic() + pause, pause)
        self.claims.release(task.claim)
        self.view.waits(slot)

    def _settle(self, slot: int, end: Ended) -> None:
        task = self.tasks.pop(slot)
        if task.entry.best_of:
            self.plan.record_search(task.entry, end)
        self.plan.write(task.entry, end)
        self.claims.release(task.claim, done=True)
        self.left.remove(task.entry.id)
        self.ended.add(task.entry.id)
        self.outcomes[task.entry.id] = end
        self.view.ends(slot, words_of(end.cell), *end.state_and_reason, time.monotonic() - task.began)

    def _give_up(self, claim: str) -> None:
        """Stop a cell that another worker may have taken over, because this machine was cut off from the folder."""
        for slot in [slot for slot, task in self.tasks.items() if task.claim == claim]:
            worker = self.workers.pop(slot)
            worker.process.terminate()  # and not killed at once: it ends its ranks, which hold the run's lock
            worker.end()
            self.tasks.pop(slot)
            self.view.waits(slot)
        self.claims.release(claim)

    def _end(self) -> None:
        """End the workers: those that still run a cell are told to stop, and killed if they do not."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            for slot, worker in self.workers.items():
                if slot in self.tasks:
                    worker.process.terminate()
            for worker in self.workers.values():
                worker.end()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _run(cell: Cell, options: Options, data: OpenData | None = None, run_ranks: RunRanks | None = None) -> Ended | None:
    """Run a cell and return how it ended; None if another process runs it.

    A bug keeps its traceback; one of ranks, which have printed theirs, ends this process with their exit code.
    """
    from bench.execute import execute

    try:
        if run_ranks:
            if code := run_ranks(options.arguments(cell)):
                raise SystemExit(code)
            options = replace(options, overwrite=False, rerun_stale=False)
        result = execute(cell, options, data)
    except Busy:
        return None
    except BenchError as error:
        kind = type(error).__name__
        return Ended(cell, failure=failure_of(cell, options.stage, str(error), traceback.format_exc(), kind))
    return Ended(cell, result.folder, result.incompatible)


def _last_words(printed: Path, code: int | None) -> tuple[str, str]:
    """Return why a worker or its ranks ended, and the end of what they printed.

    Raises BenchError if the worker never came to its cell.
    """
    ended = f"its process ended with exit code {code}"
    if not printed.exists():
        raise BenchError(f"a worker ended before it began with its cell: {ended}")
    details = read_bytes(printed).decode(errors="replace")[-MOST_PRINTED:]
    if code is not None and code < 0:
        return f"its process was killed by {signal.Signals(-code).name}", details
    return next((line for line in reversed(details.splitlines()) if line.strip()), ended), details


def words_of(cell: Cell) -> str:
    """Return a short description of a cell."""
    share = f", {cell.fraction:g} draw {cell.draw}" if cell.fraction < 1 else ""
    return f"{cell.task}: {cell.method} on {cell.arch}{share}, seed {cell.seed}"


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
        allowed = sorted(os.sched_getaffinity(0))
        num = len(allowed)
        cores = frozenset(allowed[slot * num // jobs : (slot + 1) * num // jobs] or [allowed[slot % num]])
    gpus = visible_gpus()
    return Share(cores, tuple(gpus[(slot * nproc + rank) % len(gpus)] for rank in range(min(nproc, len(gpus)))))


def default_jobs(nproc: int) -> int:
    """Return the default number of cells at a time: GPUs / `nproc`, at least 1."""
    return max(1, len(visible_gpus()) // nproc)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, in the form of CUDA_VISIBLE_DEVICES."""
    import torch

    numbers = [str(number) for number in range(torch.cuda.device_count())]  # none for a name that is no GPU
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named and numbers else numbers


def serve(
    pipe: Connection, printed: Path, share: Share, environment: Mapping[str, str], run_ranks: RunRanks | None
) -> None:
    """Run the cells that come through the pipe, and send how each ended, until the pipe is closed.

    What is printed during a cell goes to the file `printed`. An error that is not a user's ends the process: its
    traceback is in that file.
    """
    mark_fresh()
    try:
        file = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except FileNotFoundError:  # the sweep has ended while this process started
        return
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
    data: OpenData | None = None
    try:
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                cell, options = pipe.recv()
                os.ftruncate(1, 0)
                data = _open(cell, data)
                tell = _sparing(lambda line: pipe.send(("at", line)))
                options = replace(options, console=Console(quiet=True), log=tell)
                pipe.send(("ended", _run(cell, options, data, run_ranks)))
    except BrokenPipeError:
        return
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)


def _open(cell: Cell, data: OpenData | None) -> OpenData | None:
    """Return the cell's data set, open; None if it cannot be opened, which `execute` will explain."""
    from bench.data.opened import OpenData

    if data and data.folder == cell.data:
        return data
    try:
        return OpenData(cell.data)
    except BenchError:
        return None


def _sparing(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Return a callback that forwards the first line, and then at most two lines per second."""
    last = 0.0

    def log(line: str) -> None:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            tell(line)

    return log
