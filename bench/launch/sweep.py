"""Run a grid of cells: print what is done and what is left, and run what is left."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from bench.boards.shown import ShownAsTable
from bench.cell import Cell
from bench.console.listing import table
from bench.data.datasets import load_records
from bench.data.tasks import PUBLISHED_TASKS, tasks_of
from bench.errors import BenchError, CheckpointError
from bench.execute import Options
from bench.launch.foundation import ALL, Foundation, weights_remarks
from bench.launch.plan import LEFT, SweepPlan, make_plan, spell_bytes
from bench.launch.workers import Ended, default_jobs, run_cells
from bench.registry.reference import Reference, split_list
from bench.registry.registry import Kind, registry
from bench.transfer import evaluate_also

if TYPE_CHECKING:
    import pandas as pd

    from bench.launch.slurm import Slurm

T = TypeVar("T")


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

        scored = results_frame(load_result(cell.folder) for cell in self.cells if cell.folder)
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
        if not rest:
            return scored
        left = type(scored)(rest, columns=scored.columns)
        return left if scored.empty else type(scored)([*scored.to_dict("records"), *left.to_dict("records")])

    def shown(self) -> pd.DataFrame:
        columns = ["task", "fraction", "backbone", "method", "seed", "state", "auroc", "auroc_low", "auroc_high"]
        return self.frame[[*columns, "average_precision", "seconds", "reason"]]


def sweep(
    grid: Grid,
    options: Options,
    *,
    jobs: int | None,
    nproc: int,
    rerun_stale: bool,
    dry_run: bool,
    out: Console,
    err: Console,
    slurm: Slurm | None = None,
) -> Swept:
    """Print the plan of a grid and run what is left, here or on SLURM. Return all cells with their states."""
    jobs = slurm.at_once if slurm else jobs or default_jobs(nproc)
    with err.status("reading what is done"):
        plan = make_plan(grid.cells(), options, elsewhere=slurm is not None)
    out.print(table("plan", plan.rows(jobs)))
    weights = weights_remarks(planned.cell for planned in plan.of(*LEFT))
    for line in (*filter(None, [grid.remark]), *weights, *_remarks(plan, options, jobs, rerun_stale)):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if dry_run:
        return Swept([SweptCell(one.cell, one.state, one.folder, one.reason) for one in plan.cells])
    left = [planned.cell for planned in plan.of(*LEFT)]
    again = [planned.cell for planned in plan.of("stale")] if rerun_stale else []
    # separate options, because only stale cells may replace a finished result
    fresh = replace(options, rerun_stale=True)
    if slurm:
        for cells, how in ((left, options), (again, fresh)):
            _hand_over(cells, how, slurm, out)
        return Swept([SweptCell(one.cell, one.state, one.folder, one.reason) for one in plan.cells])
    outcomes = run_cells(left, options, jobs=jobs, nproc=nproc, console=err)
    outcomes += run_cells(again, fresh, jobs=jobs, nproc=nproc, console=err)
    failed = [outcome.failure for outcome in outcomes if outcome.failure]
    declined = [*plan.of("declined"), *(outcome for outcome in outcomes if outcome.incompatible)]
    # `done` counts cells that were finished before too
    num_done = len(plan.cells) - len(failed) - len(declined)
    out.print(
        f"{len(plan.cells):,} cells: {num_done:,} done, {len(declined):,} declined, {len(failed):,} failed",
        highlight=False,
    )
    for failure in failed:
        out.print(
            f"failed: {failure.command}: {failure.reason}", style="red", markup=False, highlight=False, soft_wrap=True
        )
    if failed:
        out.print(
            "next: their tracebacks are beside the runs (*.failed); the same command tries them again",
            markup=False,
            highlight=False,
        )
    for line in _tested_also(plan, options):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    ended = {outcome.cell.command(): _swept(outcome) for outcome in outcomes}
    kept = (SweptCell(one.cell, one.state, one.folder, one.reason) for one in plan.cells)
    return Swept([ended.get(one.cell.command(), one) for one in kept])


def _tested_also(plan: SweepPlan, options: Options) -> Iterator[str]:
    """Test cells that were finished before on the data sets of `options.also_on`. Yield why some could not be."""
    left: list[str] = []
    for planned in plan.of("done", "stale") if options.also_on else ():
        assert planned.folder is not None
        try:
            evaluate_also(planned.folder, options.also_on)
        except CheckpointError:
            left.append(planned.cell.command())
    if left:
        yield (
            f"not tested on the other data sets: {len(left):,} cells that were finished before and kept no weights; to "
            f"test them, train them again: {left[0]} --overwrite, with --also-on, --data and --runs as here"
        )


def _swept(outcome: Ended) -> SweptCell:
    if outcome.failure:
        return SweptCell(outcome.cell, "failed", None, outcome.failure.reason)
    return SweptCell(outcome.cell, "declined" if outcome.incompatible else "done", outcome.folder)


def _hand_over(cells: Sequence[Cell], options: Options, slurm: Slurm, out: Console) -> None:
    """Submit cells that are not yet in SLURM's queue, and print how to watch them."""
    from bench.launch.slurm import FOLDER, is_queued, submit

    waiting = is_queued(options)
    missing = [cell for cell in cells if not waiting(cell)]
    if there := len(cells) - len(missing):
        out.print(f"{there:,} cells are in SLURM's queue already", highlight=False)
    if not missing:
        return
    array = submit(missing, options, slurm)[0].partition("_")[0]
    message = (
        f"{len(missing):,} cells submitted as job {array}; squeue --job {array} and bench status --runs {options.runs} "
        f"show their progress; their output is in {options.runs / FOLDER}; the same command submits missing cells"
    )
    out.print(message, markup=False, highlight=False, soft_wrap=True)


def _remarks(plan: SweepPlan, options: Options, jobs: int, rerun_stale: bool) -> Iterator[str]:
    """Yield remarks that are printed below the plan's table."""
    at_once = min(jobs, len(plan.of(*LEFT)))
    need = plan.result_bytes + at_once * plan.run_bytes
    if need:
        where = next(folder for folder in (options.runs.resolve(), *options.runs.resolve().parents) if folder.is_dir())
        free = shutil.disk_usage(where).free
        kept = "" if options.keep_weights == "none" else ", weights included"
        yield (
            f"disk: {spell_bytes(plan.result_bytes)} for results{kept}, up to {spell_bytes(at_once * plan.run_bytes)} "
            f"more for checkpoints while they run; {spell_bytes(free)} free" + (": not enough" if need > free else "")
        )
    for reason in plan.damaged:
        yield f"damaged: {reason}"
    for arch, reason in plan.lacking.items():
        yield f"will fail: {arch}: {reason}"
    if plan.left_out:
        yield f"left out: {plan.left_out:,} cells that ask for published weights of a backbone that has none"
    if (stale := plan.of("stale")) and not rerun_stale:
        changed = dict.fromkeys(change for cell in stale for change in cell.reason.split("; "))
        yield f"stale: {len(stale):,} finished cells; {'; '.join(changed)}; --rerun-stale runs them again"
