"""Tune all methods with the same number of trials on fold 9, then run each method's best setting to the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType

from bench.cell import Cell
from bench.console.listing import table
from bench.console.terminal import print_line
from bench.errors import BenchError
from bench.launch.outcomes import Ended, Trial, best_of, cell_id, read_trial, search_space
from bench.launch.plan import LEFT, longest_first, make_plan
from bench.launch.plan_folder import Entry, PlanFolder
from bench.launch.workers import Crew, drain
from bench.registry.reference import Reference
from bench.registry.registry import normalize
from bench.results.result import find_heads

if TYPE_CHECKING:
    from bench.execute import Options
    from bench.launch.slurm import Slurm


MOST_DRAWS = 100
"""Settings that are drawn at most for each trial asked for: if all but a few repeat, the space has no more."""


@dataclass(frozen=True)
class Tuned:
    """The outcome of tuning a method on one backbone, task and fraction."""

    cell: Cell
    """The cell of the first trial: the method as given."""
    trials: tuple[Trial, ...]
    best: Trial | None
    """None if a trial has failed or is left to do, or if all diverged: then no setting is chosen."""
    finals: tuple[Ended, ...]
    """Runs of the best setting with each requested seed and draw."""
    reason: str = ""
    """Why it has not ended; empty if it has."""

    @property
    def finished(self) -> bool:
        """True if each final run has a result."""
        return not self.reason and not any(end.failure for end in self.finals)

    def as_data(self) -> dict[str, Any]:
        """Return trials, choice and folders of the final runs as plain data."""
        return {
            "cell": self.cell.command(),
            "trials": [trial.as_data() for trial in self.trials],
            "best": self.best.method if self.best else None,
            "runs": [str(end.folder) if end.folder else None for end in self.finals],
            "failed": [*([self.reason] if self.reason else []), *(e.failure.reason for e in self.finals if e.failure)],
        }

    def as_table(self) -> RenderableType:
        """Return table rows of the trials; the chosen one is marked with its number of final runs."""
        share = f", {self.cell.fraction:g} of the training records" if self.cell.fraction < 1 else ""
        rows = [
            {
                "setting": trial.method,
                "fold-9 macro AUROC": "-" if trial.val_macro_auroc is None else f"{trial.val_macro_auroc:.4f}",
                "chosen": self._runs() if trial == self.best else "",
            }
            for trial in self.trials
        ]
        reason = f"; not finished: {self.reason}" if self.reason else ""
        return table(f"{self.cell.task}: {self.cell.method} on {self.cell.arch}{share}{reason}", rows)

    def _runs(self) -> str:
        failed = [end.failure for end in self.finals if end.failure]
        return f"{len(self.finals)} runs" + (f", {len(failed)} failed: {failed[0].reason}" if failed else "")


def tune(
    cells: Sequence[Cell],
    num_trials: int,
    options: Options,
    *,
    crew: Crew,
    console: Console,
    slurm: Slurm | None = None,
) -> list[Tuned]:
    """Try `num_trials` settings of each method, choose the best on fold 9, and run it for every requested cell.

    Cells that differ only in seed and draw share their trials, which run with the seed and draw of the first. Finished
    trials are only loaded, so the same command resumes after an interruption, and a larger number of trials adds to the
    finished ones. The search is recorded in each new result. With `slurm`, jobs are submitted that do this, and nothing
    is returned before they have ended. A method of which a trial has failed, or for which time was over, says so in
    its outcome; the others are complete.
    """
    groups = _groups(cells)
    for method in {str(group[0].method): group[0].method for group in groups}.values():
        if (num := len(settings_of(method, num_trials))) < num_trials:
            line = f"note: {method} has only {num} settings to try, fewer than {num_trials}"
            console.print(line, markup=False, soft_wrap=True)
    plan, entries = plan_tuning(groups, num_trials, options, partial(print_line, console))
    ids = [entry.id for entry in entries]
    left = [each for each in ids if not plan.has_ended(each)]
    if slurm and plan.left():
        from bench.launch.slurm import hand_over

        hand_over(plan, left, slurm, console)
        return []
    ended = drain(plan, ids, options, crew, console)
    finals = iter(entry for entry in entries if entry.best_of)
    return [_tuned(ended, group[0], [next(finals) for _ in group]) for group in groups]


def plan_tuning(
    groups: Sequence[Sequence[Cell]],
    num_trials: int,
    options: Options,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[PlanFolder, list[Entry]]:
    """Return the plan of a tuning on disk, and its cells: trials, longest first, then the runs of each best setting.

    Cells of which the runs folder has no result have no outcome in the plan, unless they would diverge again.
    `log` receives a line if some results are of other code than the others will be.
    """
    trying = _trial_options(options)
    asked = _trial_cells(groups, num_trials)
    planned = make_plan([cell for group in asked for cell in group], trying)
    order = {str(each.cell): (place, seconds) for place, (each, seconds) in enumerate(longest_first(planned.cells))}
    trials = {cell_id(cell, "val"): cell for group in asked for cell in group}
    ranked = sorted(trials.values(), key=lambda cell: order.get(str(cell), (0, None))[0])
    entries = [Entry.of(cell, trying, order.get(str(cell), (0, None))[1]) for cell in ranked]
    finals = [(cell, tries) for group, tries in zip(groups, asked, strict=True) for cell in group]
    entries += [Entry.of(cell, options, best_of=[cell_id(each, "val") for each in tries]) for cell, tries in finals]
    plain = [str(folder.relative_to(options.runs)) for folder, head in find_heads(options.runs) if "search" not in head]
    plan = PlanFolder.of(entries, [*ranked, *(cell for cell, _ in finals)], options, plain)
    retried = not plan.is_at_work()
    lacking = [cell_id(each.cell, "val") for each in planned.of(*LEFT)]
    plan.forget([each for each in lacking if not plan.would_diverge(each)], failed=retried)
    chosen = {entry.id: cell for entry in entries if entry.best_of and (cell := _chosen(plan, entry))}
    parts = [("trials", planned)]
    if chosen:
        parts += [("runs of the best settings", final := make_plan(list(chosen.values()), options))]
        left = {str(each.cell) for each in final.of(*LEFT)}
        lacking = [each for each, cell in chosen.items() if str(cell) in left and not plan.would_diverge(each)]
        plan.forget(lacking, failed=retried)
    for what, part in parts:
        if stale := part.stale():
            log(f"{what}: {stale}; they are used as they are: name another folder with --runs to run all anew")
    return plan, entries


def _chosen(plan: PlanFolder, entry: Entry) -> Cell | None:
    """Return the cell of a best setting; None if a trial has failed or is left to do, or if all diverged."""
    with contextlib.suppress(BenchError):
        return plan.cell(entry) if all(map(plan.has_ended, entry.best_of)) else None
    return None


def _tuned(ended: Mapping[str, Ended], first: Cell, finals: Sequence[Entry]) -> Tuned:
    """Return the outcome of a group, whose runs are `finals`."""
    tried = [ended[each] for each in finals[0].best_of if each in ended]
    runs = tuple(ended[entry.id] for entry in finals if entry.id in ended)
    trials, reasons = list[Trial](), list[str]()
    for end in tried:
        try:
            trials.append(read_trial(end))
        except BenchError as error:
            reasons.append(str(error))
    best = None
    if len(trials) == len(finals[0].best_of):
        try:
            best = best_of(trials)
        except BenchError as error:
            reasons.append(str(error))
    for what, num, found in (("trials", len(finals[0].best_of), tried), ("runs", len(finals), runs)):
        if len(found) < num:
            reasons.append(f"time is over: {len(found)} of {num} {what} have ended; the same command goes on")
    return Tuned(first, tuple(trials), None if reasons else best, runs, reasons[0] if reasons else "")


def plan_trials(cells: Sequence[Cell], num_trials: int, options: Options) -> list[dict[str, str]]:
    """Return one table row for each trial that `tune` would run, with its state on disk."""
    trials = [cell for group in _trial_cells(_groups(cells), num_trials) for cell in group]
    return [
        {
            "task": trial.cell.task,
            "arch": str(trial.cell.arch),
            "fraction": f"{trial.cell.fraction:g}",
            "setting": str(trial.cell.method),
            "state": trial.state,
        }
        for trial in make_plan(trials, _trial_options(options)).cells
    ]


def _groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Group cells that differ only in seed and draw."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(repr(replace(cell, seed=0, draw=0)), []).append(cell)
    return list(groups.values())


def _trial_cells(groups: Sequence[Sequence[Cell]], num_trials: int) -> list[list[Cell]]:
    """Return the trials of each group, with the group's first seed and draw."""
    return [[replace(first, method=method) for method in settings_of(first.method, num_trials)] for first, *_ in groups]


def _trial_options(options: Options) -> Options:
    return replace(options, stage="val", keep_weights="none")


def settings_of(method: Reference, num_trials: int) -> list[Reference]:
    """Return the settings to try: the method as given, then random points of its declared search space.

    Arguments in the reference are kept. A random value depends only on the number of the draw and the name of the
    hyper-parameter, so that methods with the same hyper-parameter try the same values. A setting that is drawn twice is
    tried once, and another is drawn; there are fewer than `num_trials` where a space of choices has no more.
    """
    from bench.training.batches import random_stream

    space = search_space(method)
    settings = {str(given := normalize("method", method)): given}
    for number in range(1, MOST_DRAWS * num_trials):
        if len(settings) == num_trials:
            break
        drawn = {name: at.at(float(random_stream("trial", number, name).random())) for name, at in space.items()}
        setting = normalize("method", Reference(method.name, {**method.arguments, **drawn}))
        settings.setdefault(str(setting), setting)
    return list(settings.values())
