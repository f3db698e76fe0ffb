"""Run a grid of cells: print what is done and what is left, and run what is left."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console

from bench.boards.shown import ShownAsTable
from bench.cell import Cell
from bench.console.listing import table
from bench.console.terminal import print_line
from bench.data.datasets import load_records
from bench.data.tasks import PUBLISHED_TASKS, tasks_of
from bench.errors import BenchError, CheckpointError
from bench.execute import Options
from bench.launch.foundation import ALL, Foundation, weights_remarks
from bench.launch.outcomes import Ended, cell_id, id_of_command
from bench.launch.plan import LEFT, Planned, SweepPlan, longest_first, make_plan, spell_bytes
from bench.launch.plan_folder import Entry, PlanFolder
from bench.launch.workers import Crew, drain
from bench.registry.reference import Reference, split_list
from bench.registry.registry import Kind, registry
from bench.results.finished import WEIGHTS
from bench.transfer import evaluate_also

if TYPE_CHECKING:
    import pandas as pd

    from bench.launch.slurm import Slurm

T = TypeVar("T")
GOES_ON = "the same command goes on"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The options of `bench sweep`, each a list of values."""

    data: Path
    tasks: Sequence[str]
    archs: Sequence[Reference]
    methods: Sequence[Reference]
    inits: Sequence[str | None] = (None,)
    fractions: Sequence[float] = (1.0,)
    draws: Sequence[int] = (0,)
    seeds: Sequence[int] = (0,)
    source_rate: int | None = None
    precision: str = "auto"
    remark: str = ""
    """Names the backbones that `all-foundation` leaves out, and says why."""

    @classmethod
    def parse(
        cls,
        data: Path,
        task: str,
        arch: str,
        method: str,
        init: str | None,
        fraction: str,
        draw: str,
        seed: str,
        source_rate: int | None,
        precision: str,
        accept_noncommercial: bool = False,
    ) -> Grid:
        """Parse the command-line options into a grid.

        `all-foundation` has weights for non-commercial use only with `accept_noncommercial`.
        """
        parts = split_list(arch)
        foundation = Foundation.find(accept_noncommercial) if any(_is(part, ALL) for part in parts) else Foundation()
        archs = [foundation.names if _is(part, ALL) else names("backbone", part, data) for part in parts]
        if not any(archs):
            raise BenchError(f"--arch {arch} names no backbone; {foundation.remark() or 'none has published weights'}")
        return cls(
            data=data,
            tasks=names("task", task, data),
            archs=[Reference.parse(name) for name in dict.fromkeys(itertools.chain(*archs))],
            methods=[Reference.parse(name) for name in names("method", method, data)],
            inits=split_list(init) if init else [None],
            fractions=numbers("--fraction", fraction, float),
            draws=numbers("--draw", draw, int),
            seeds=numbers("--seed", seed, int),
            source_rate=source_rate,
            precision=precision,
            remark=foundation.remark(),
        )

    def cells(self) -> list[Cell]:
        """Return every cell once, ordered by seed, so that an interrupted sweep has results of every row.

        With all training records there is only one draw.
        """
        cells: dict[str, Cell] = {}
        points = itertools.product(
            self.seeds, self.draws, self.fractions, self.tasks, self.archs, self.methods, self.inits
        )
        for seed, draw, fraction, task, arch, method, init in points:
            cell = Cell(
                data=self.data,
                task=task,
                arch=arch,
                method=method,
                init=init,
                fraction=fraction,
                draw=draw if fraction < 1 else 0,
                seed=seed,
                source_rate=self.source_rate,
                precision=self.precision,
            )
            cells.setdefault(cell.command(), cell)
        return list(cells.values())


def names(kind: Kind, text: str, data: Path) -> list[str]:
    """Return the names in a comma-separated list. `*` is every registered name, `all-tasks` the six published tasks.

    For tasks, `*` is those that apply to the data set in `data`.
    """
    result: list[str] = []
    for part in split_list(text):
        if part == "*" and kind == "task":
            result += [task.name for task in tasks_of(load_records(data))]
        elif part == "*":
            result += [plugin.name for plugin in registry().of_kind(kind) if plugin.has_defaults]
        elif kind == "task" and _is(part, "all-tasks"):
            result += PUBLISHED_TASKS
        else:
            result.append(part)
    return result


def _is(part: str, group: str) -> bool:
    return part.replace("_", "-") == group


def numbers(option: str, text: str, read: Callable[[str], T]) -> list[T]:
    """Parse a comma-separated list of numbers."""
    try:
        return [read(part) for part in split_list(text)]
    except ValueError:
        raise BenchError(f"{option} takes numbers with commas between them, got {text!r}") from None


@dataclass(frozen=True)
class SweptCell:
    """A cell of a sweep, and how it ended."""

    cell: Cell
    state: str
    """`done`, `declined`, `stale`, `failed` or `to do`."""
    folder: Path | None = None
    reason: str = ""
    id: str = ""
    """The same for this cell on every machine."""
    seconds: float | None = None
    """How long cells like it took."""

    def as_data(self) -> dict[str, Any]:
        """Return the cell as plain data."""
        facts = {"id": self.id, "command": self.cell.command(), "state": self.state, "reason": self.reason}
        return {**facts, "seconds": self.seconds, "folder": str(self.folder) if self.folder else None}


@dataclass(frozen=True)
class Shard:
    """The part of a sweep that one of several machines runs, none of which sees the files of the others."""

    index: int
    """Counted from 0."""
    total: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `0/4`, the first of four shards."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or int(match[1]) >= int(match[2]):
            raise BenchError(
                f"--shard takes a number from 0 and the number of shards, such as 0/4 to 3/4; got {text!r}"
            )
        return cls(int(match[1]), int(match[2]))

    def of(self, cells: Sequence[Cell], stage: str) -> list[Cell]:
        """Return this shard's cells, in order. Which they are depends on the grid alone, not on what is done.

        Cells are dealt in the order of their hashes: in that of the grid, a shard could get those of one method.
        """
        dealt = sorted(cells, key=lambda cell: hashlib.sha256(id_of_command(cell, stage).encode()).digest())
        mine = {str(cell) for cell in dealt[self.index :: self.total]}
        return [cell for cell in cells if str(cell) in mine]


@dataclass(frozen=True, repr=False)
class Swept(ShownAsTable):
    """The cells of a sweep."""

    cells: Sequence[SweptCell]

    @property
    def failed(self) -> bool:
        """Whether a cell failed."""
        return any(cell.state == "failed" for cell in self.cells)

    @property
    def frame(self) -> pd.DataFrame:
        """One row for each cell, with the columns of `bench.load_results`; without a result it has no scores."""
        from bench.boards.frames import results_frame
        from bench.results.result import load_result

        rest = [
            {
                **{key: getattr(cell.cell, key) for key in ("task", "fraction", "draw", "seed")},
                "backbone": str(cell.cell.arch),
                "method": str(cell.cell.method),
                "state": cell.state,
                "reason": cell.reason,
                "command": cell.cell.command(),
            }
            for cell in self.cells
            if not cell.folder
        ]
        return results_frame((load_result(cell.folder) for cell in self.cells if cell.folder), rest)

    def shown(self) -> pd.DataFrame:
        columns = ["task", "fraction", "backbone", "method", "seed", "state", "auroc", "auroc_low", "auroc_high"]
        return self.frame[[*columns, "average_precision", "seconds", "reason"]]


def sweep(
    grid: Grid,
    options: Options,
    *,
    crew: Crew,
    rerun_stale: bool,
    dry_run: bool,
    estimate: bool = False,
    out: Console,
    err: Console,
    slurm: Slurm | None = None,
    shard: Shard | None = None,
) -> Swept:
    """Print the plan of a grid and run what is left, here or on SLURM. Return all cells with their states.

    With `estimate`, backbones of cells without a finished cell of the same backbone, method and fraction are timed
    first, for the time left.
    """
    if estimate and slurm:
        raise BenchError("--estimate times backbones on this machine, which tells nothing of the nodes of SLURM")
    jobs = slurm.most_jobs if slurm else crew.jobs
    cells = shard.of(grid.cells(), options.stage) if shard else grid.cells()
    with err.status("reading what is done") as status:
        plan = make_plan(
            cells, options, elsewhere=slurm is not None, crew=crew if estimate else None, progress=status.update
        )
    out.print(table("plan", plan.rows(jobs)))
    weights = weights_remarks(planned.cell for planned in plan.of(*LEFT))
    remarks = _remarks(plan, options, jobs, rerun_stale, on_slurm=slurm is not None)
    for line in (*filter(None, [grid.remark]), *weights, *remarks):
        print_line(out, line)
    if dry_run:
        from bench.launch.resolved import published_variances, resolved_lines

        for line in resolved_lines(grid.cells(), published_variances()):
            print_line(out, line)
    began = time.monotonic()
    ended = {} if dry_run else _run(plan, options, crew, rerun_stale, out, err, slurm)
    swept = [_swept(each, ended.get(cell_id(each.cell, options.stage)), options.stage) for each in plan.cells]
    if not dry_run and not slurm:
        _report(swept, out)
        for line in _tested_also(plan, options, math.inf if crew.seconds is None else began + crew.seconds):
            print_line(out, line)
    return Swept(swept)


def _run(
    plan: SweepPlan, options: Options, crew: Crew, rerun_stale: bool, out: Console, err: Console, slurm: Slurm | None
) -> dict[str, Ended]:
    """Run what is left, and return how it ended, by id; on SLURM nothing has ended yet."""
    chosen = longest_first([*plan.of(*LEFT), *(plan.of("stale") if rerun_stale else [])])
    if not chosen:
        return {}
    # only stale cells may replace a finished result
    entries = [
        Entry.of(each.cell, replace(options, rerun_stale=each.state == "stale"), seconds) for each, seconds in chosen
    ]
    folder = PlanFolder.of(entries, [each.cell for each, _ in chosen], options)
    ids = [entry.id for entry in entries]
    if slurm:
        from bench.launch.slurm import hand_over

        hand_over(folder, ids, slurm, out)
        return {}
    folder.forget(ids, failed=not folder.is_at_work())
    return drain(folder, ids, options, crew, err)


def _tested_also(plan: SweepPlan, options: Options, deadline: float = math.inf) -> Iterator[str]:
    """Test cells that were finished before on the data sets of `options.also_on`. Yield why some could not be.

    No test begins after `deadline`, a time of `time.monotonic`.
    """
    left: list[str] = []
    refused: list[str] = []
    finished = plan.of("done", "stale") if options.also_on else []
    for num, planned in enumerate(finished):
        assert planned.folder is not None
        if time.monotonic() >= deadline:
            yield f"time is over: {len(finished) - num:,} cells that were finished before are left to test; {GOES_ON}"
            break
        try:
            evaluate_also(planned.folder, options.also_on)
        except CheckpointError:
            left.append(planned.cell.command())
        except BenchError as error:
            refused.append(str(error))
    if refused:
        yield (
            f"not tested on the other data sets: {len(refused):,} cells that were finished before; of the first: "
            f"{refused[0]}"
        )
    if left:
        yield (
            f"not tested on the other data sets: {len(left):,} cells that were finished before and kept no weights; to "
            f"test them, train them again: {left[0]} --overwrite, with --also-on, --data and --runs as here"
        )


def _swept(planned: Planned, end: Ended | None, stage: str) -> SweptCell:
    """Return a cell and how it ended; as planned if it has not run."""
    name = cell_id(planned.cell, stage)
    if end is None:
        return SweptCell(planned.cell, planned.state, planned.folder, planned.reason, name, planned.seconds)
    state, reason = end.state_and_reason
    return SweptCell(end.cell, state, end.folder, reason, name, planned.seconds)


def _report(swept: Sequence[SweptCell], out: Console) -> None:
    """Print how many cells are done, and why others are not."""
    count = Counter(each.state for each in swept)
    num_done = count["done"] + count["stale"]  # those that were finished before too
    words = f"{len(swept):,} cells: {num_done:,} done, {count['declined']:,} declined, {count['failed']:,} failed"
    out.print(words + (f", {count['to do']:,} to do" if count["to do"] else ""), highlight=False)
    for each in swept:
        if each.state == "failed":
            line = f"failed: {each.cell.command()}: {each.reason}"
            print_line(out, line, style="red")
    if count["failed"]:
        advice = "next: their tracebacks are beside the runs (*.failed); the same command tries them again"
        out.print(f"{advice}, once no worker is at this sweep", markup=False, highlight=False)
    if count["to do"]:
        out.print(f"next: time is over; {GOES_ON}", markup=False, highlight=False)


def _by_reason(lacking: Mapping[str, str]) -> dict[str, list[str]]:
    """Return reason -> names of the backbones and tasks that have it."""
    reasons: dict[str, list[str]] = {}
    for name, reason in lacking.items():
        reasons.setdefault(reason, []).append(name)
    return reasons


def _remarks(plan: SweepPlan, options: Options, jobs: int, rerun_stale: bool, on_slurm: bool = False) -> Iterator[str]:
    """Yield remarks that are printed below the plan's table."""
    at_once = min(jobs, len(plan.of(*LEFT)))
    need = plan.result_bytes + at_once * plan.run_bytes
    if need:
        runs = Path(os.path.realpath(options.runs))
        where = next(folder for folder in (runs, *runs.parents) if folder.is_dir())
        free = shutil.disk_usage(where).free
        kept = "" if options.keep_weights == "none" else ", weights included"
        yield (
            f"disk: {spell_bytes(plan.result_bytes)} for results{kept}, up to {spell_bytes(at_once * plan.run_bytes)} "
            f"more for checkpoints while they run; {spell_bytes(free)} free" + (": not enough" if need > free else "")
        )
    for reason in plan.damaged:
        yield f"damaged: {reason}"
    if num := sum(cell.estimated for cell in plan.of(*LEFT)):
        yield (
            f"time left: of {num:,} cells it is estimated, by timed passes of their backbones and all epochs; patience "
            "may end them sooner, and losses with more passes or masks take longer"
        )
    if on_slurm and any(planned.cell.precision == "auto" for planned in plan.of(*LEFT)):
        yield "precision: auto follows each node's hardware; on mixed nodes name it with --precision"
    if len(num_in := Counter(planned.precision for planned in plan.of("done", "stale"))) > 1:
        counts = ", ".join(f"{num:,} in {precision}" for precision, num in sorted(num_in.items()))
        yield f"precision: of the finished cells {counts}, which are rows of their own"
    finished = plan.of("done")
    lost = [each for each in finished if each.folder and not (each.folder / WEIGHTS).exists()]
    if lost and options.keep_weights == "best":
        yield (
            f"weights: {len(lost):,} finished cells have not kept theirs; to have them, train again: "
            f"{lost[0].cell.command()} --overwrite, with --data and --runs as here"
        )
    if on_slurm and options.also_on and finished:
        yield (
            f"--also-on: {len(finished):,} cells are finished and not tested by jobs of SLURM; the same command with "
            "--launcher local tests those that kept their weights"
        )
    for reason, names in _by_reason(plan.lacking).items():
        yield f"will fail: {', '.join(names)}: {reason}"
    if plan.left_out:
        yield f"left out: {plan.left_out:,} cells that ask for published weights of a backbone that has none"
    if (stale := plan.stale()) and not rerun_stale:
        yield f"{stale}; --rerun-stale runs them again"
