"""Tune all methods with the same number of trials on fold 9, then run each method's best setting to the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType

from bench.cell import Cell
from bench.console.listing import table
from bench.errors import BenchError, Diverged
from bench.launch.workers import Ended, run_cells
from bench.registry.reference import Reference
from bench.registry.registry import find, normalize, resolve
from bench.results.result import find_heads, record_search

if TYPE_CHECKING:
    from bench.execute import Options
    from bench.training.search import Search


@dataclass(frozen=True)
class Trial:
    """A setting of a method with its score on fold 9."""

    method: str
    val_macro_auroc: float | None
    """None if training diverged."""
    seconds: float | None


@dataclass(frozen=True)
class Tuned:
    """The outcome of tuning a method on one backbone, task and fraction."""

    cell: Cell
    """The cell of the first trial: the method as given."""
    trials: tuple[Trial, ...]
    best: Trial
    finals: tuple[Ended, ...]
    """Runs of the best setting with each requested seed and draw."""

    @property
    def finished(self) -> bool:
        """True if each final run has a result."""
        return not any(end.failure for end in self.finals)

    def as_data(self) -> dict[str, Any]:
        """Return trials, choice and folders of the final runs as plain data."""
        return {
            "cell": self.cell.command(),
            "trials": [asdict(trial) for trial in self.trials],
            "best": self.best.method,
            "runs": [str(end.folder) if end.folder else None for end in self.finals],
            "failed": [end.failure.reason for end in self.finals if end.failure],
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
        return table(f"{self.cell.task}: {self.cell.method} on {self.cell.arch}{share}", rows)

    def _runs(self) -> str:
        failed = [end.failure for end in self.finals if end.failure]
        return f"{len(self.finals)} runs" + (f", {len(failed)} failed: {failed[0].reason}" if failed else "")


def tune(
    cells: Sequence[Cell], num_trials: int, options: Options, *, jobs: int = 1, nproc: int = 1, console: Console
) -> list[Tuned]:
    """Try `num_trials` settings of each method, choose the best on fold 9, and run it for every requested cell.

    Cells that differ only in seed and draw share their trials, which run with the seed and draw of the first. Finished
    trials are only loaded, so the same command resumes after an interruption, and a larger number of trials adds to the
    finished ones. The search is recorded in each new result.
    """
    groups = _groups(cells)
    asked = _trial_cells(groups, num_trials)
    run = partial(run_cells, jobs=jobs, nproc=nproc, console=console)
    tried = iter(run([cell for group in asked for cell in group], _trial_options(options)))
    # run_cells keeps the order of cells, so outcomes are assigned to groups by position
    trials = [tuple(read_trial(next(tried)) for _ in group) for group in asked]
    chosen = [best_of(group) for group in trials]
    winners, searches = list[Cell](), dict[str, Mapping[str, Any]]()
    for group, tries, best in zip(groups, trials, chosen, strict=True):
        for cell in group:
            winners.append(replace(cell, method=Reference.parse(best.method)))
            searches[repr(winners[-1])] = _record(group[0], tries)
    # runs that were finished without a search before
    plain = {folder for folder, head in find_heads(options.runs) if "search" not in head}

    def record(end: Ended) -> None:
        """Record the search in each new result. A result that existed before without a search stays as it is."""
        if end.folder and not end.incompatible and end.folder not in plain:
            result, search = end.result(), searches[repr(end.cell)]
            if len(search["trials"]) >= len(result.document.get("search", search)["trials"]):
                record_search(result, search)

    finals = iter(run(winners, options, ended=record))
    return [
        Tuned(group[0], tries, best, tuple(next(finals) for _ in group))
        for group, tries, best in zip(groups, trials, chosen, strict=True)
    ]


def plan_trials(cells: Sequence[Cell], num_trials: int, options: Options) -> list[dict[str, str]]:
    """Return one table row for each trial that `tune` would run, with its state on disk."""
    from bench.launch.plan import make_plan

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

    Arguments in the reference are kept. A random value depends only on the number of the trial and the name of the
    hyper-parameter, so that methods with the same hyper-parameter try the same values.
    """
    from bench.training.batches import random_stream

    space = search_space(method)
    drawn = [
        {name: search.at(float(random_stream("trial", number, name).random())) for name, search in space.items()}
        for number in range(1, num_trials)
    ]
    settings = [normalize("method", Reference(method.name, {**method.arguments, **values})) for values in ({}, *drawn)]
    return list({str(setting): setting for setting in settings}.values())


def search_space(method: Reference) -> Mapping[str, Search]:
    """Return the search space: what the method's class declares, without arguments that the reference fixes."""
    plugin = find("method", method.name)
    resolve(plugin, method)
    declared: Mapping[str, Search] = getattr(plugin.make, "search", {})  # a method may be a function
    space = {name: search for name, search in declared.items() if name not in method.arguments}
    if not space:
        raise BenchError(
            f"method {method} has nothing to tune; declare a search space in its class, such as "
            'search = {"lr": LogUniform(1e-5, 1e-2)}'
        )
    return space


def read_trial(end: Ended) -> Trial:
    """Read a trial's score. Raises BenchError if the trial failed for a reason other than divergence."""
    if end.failure:
        if end.failure.reason.startswith(Diverged.PREFIX):
            return Trial(str(end.cell.method), None, None)
        raise BenchError(f"a trial of {end.cell.method} failed: {end.failure.reason}; the same command tries it again")
    if end.incompatible:
        return Trial(str(end.cell.method), None, None)
    document = end.result().document
    value = document["metrics"]["fold_9"]["macro"]["all"]["auroc"]["value"]
    return Trial(str(end.cell.method), value, document["cost"]["seconds"])


def best_of(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the highest fold-9 macro AUROC; the first of ties."""
    return max(trials, key=lambda trial: -1.0 if trial.val_macro_auroc is None else trial.val_macro_auroc)


def _record(cell: Cell, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the section `search` of a result: how its setting was chosen."""
    return {
        "chosen_by": "fold-9 macro AUROC",
        "seed": cell.seed,
        "draw": cell.draw,
        "space": {name: str(search) for name, search in search_space(cell.method).items()},
        "trials": [asdict(trial) for trial in trials],
    }
