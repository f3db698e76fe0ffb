"""How cells end, and what follows for a tuning: scores of its trials, the best of them, the record of its search."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cell import Cell
from bench.data.datasets import load_records
from bench.data.datasets.held import HeldFolder
from bench.errors import BenchError
from bench.registry.reference import Reference
from bench.registry.registry import find, resolve
from bench.results.failures import FAILED, Failure
from bench.results.result import OF_VAL, Result, load_result

if TYPE_CHECKING:
    from bench.training.search import Search


def cell_id(cell: Cell, stage: str) -> str:
    """Return the id of a cell, the same on every machine.

    It is task, backbone, method, seed, and a hash of its command and data set.
    """
    return f"{cell.task}-{_name(cell, stage, _command_and_data(cell))}"


def id_of_command(cell: Cell, stage: str) -> str:
    """Return the id of a cell without its data set. Shards get the cells of a sweep in the order of its hash."""
    return f"{cell.task}-{_name(cell, stage, cell.command())}"


def failure_path(runs: Path, cell: Cell, stage: str) -> Path:
    """Return the path of the failure file of a cell. It has no digest, because there may be none yet."""
    return runs / cell.task / (_name(cell, stage, _command_and_data(cell)) + FAILED)


def failure_of(cell: Cell, stage: str, reason: str, details: str, kind: str = "") -> Failure:
    """Return the failure of a cell at the present time. `kind`: the type of the error."""
    return Failure.now(cell.command(), stage, reason, details, data_name(cell.data), kind)


def _name(cell: Cell, stage: str, text: str) -> str:
    """Return the name of a cell's files with a hash of a text."""
    name = cell.folder_name(hashlib.sha256(text.encode()).hexdigest())
    return name + (OF_VAL if stage == "val" else "")


def _command_and_data(cell: Cell) -> str:
    return f"{cell.command()} {data_name(cell.data)}"


def data_name(folder: Path) -> str:
    """Return the name of the data set in a folder, the same on every machine; its path if it cannot be read."""
    if isinstance(folder, HeldFolder) and folder.records is not None:
        return folder.records.name
    try:
        return _name_in(folder.absolute())
    except (BenchError, OSError):
        return str(folder.absolute())


@functools.lru_cache(maxsize=64)
def _name_in(folder: Path) -> str:
    """Cached, because each of a sweep's cells asks, some times over, and to read PTB-XL's tables takes 0.7 s."""
    return load_records(folder).name


@dataclass(frozen=True)
class Ended:
    """The outcome of a cell: a finished run in `folder`, or a failure."""

    cell: Cell
    folder: Path | None = None
    incompatible: str | None = None
    """Why the method declined the backbone; the result of such a cell has no scores."""
    failure: Failure | None = None

    @property
    def state_and_reason(self) -> tuple[str, str]:
        """`failed`, `declined` or `done`, and why; empty if it is done."""
        if self.failure:
            return "failed", self.failure.reason
        return ("declined", self.incompatible) if self.incompatible else ("done", "")

    def result(self) -> Result:
        """Return the finished run's result. Raises BenchError with the reason of a failure."""
        if self.folder is None:
            raise BenchError(self.failure.reason if self.failure else "this cell has not run")
        return load_result(self.folder)


@dataclass(frozen=True)
class Trial:
    """A setting of a method with its score on fold 9."""

    method: str
    val_macro_auroc: float | None
    """None if training diverged, or if the method declined the backbone."""
    seconds: float | None
    diverged: bool = False

    def as_data(self) -> dict[str, Any]:
        """Return the trial as results record it."""
        return {"method": self.method, "val_macro_auroc": self.val_macro_auroc, "seconds": self.seconds}


def read_trial(end: Ended) -> Trial:
    """Read a trial's score. Raises BenchError if the trial failed for a reason other than divergence."""
    if end.failure:
        if end.failure.diverged:
            return Trial(str(end.cell.method), None, None, diverged=True)
        raise BenchError(f"a trial of {end.cell.method} failed: {end.failure.reason}; the same command tries it again")
    if end.incompatible:
        return Trial(str(end.cell.method), None, None)
    document = end.result().document
    value = document["metrics"]["fold_9"]["macro"]["all"]["auroc"]["value"]
    return Trial(str(end.cell.method), value, document["cost"]["seconds"])


def best_of(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the highest fold-9 macro AUROC; the first of ties, and if the method declined all.

    Raises BenchError if none has a score because training diverged.
    """
    if any(trial.diverged for trial in trials) and all(trial.val_macro_auroc is None for trial in trials):
        raise BenchError(f"every setting of {trials[0].method} diverged; give another range, such as lower rates")
    return max(trials, key=lambda trial: -1.0 if trial.val_macro_auroc is None else trial.val_macro_auroc)


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


def search_record(first: Cell, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the section `search` of a result: how its setting was chosen. `first` is the cell of the first trial."""
    return {
        "chosen_by": "fold-9 macro AUROC",
        "seed": first.seed,
        "draw": first.draw,
        "space": {name: str(search) for name, search in search_space(first.method).items()},
        "trials": [trial.as_data() for trial in trials],
    }
