"""A plan on disk: the cells of a sweep or a tuning, and how each ended. Any number of workers take cells from it.

    runs/.plans/150-cells-1a2b3c4d/plan.json      the cells, longest first; never changed
    runs/.plans/150-cells-1a2b3c4d/CELL.json      how a cell ended, written by the worker that ran it
    runs/.plans/claims/                           who runs what now, of all plans of these runs

Claims and outcomes need no lock, no link and no renaming over another file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cell import Cell
from bench.errors import BenchError, DataError
from bench.files import read_bytes, write_whole
from bench.launch.claims import BEAT, Claims
from bench.launch.outcomes import Ended, Trial, best_of, cell_id, failure_path, read_trial, search_record
from bench.registry.reference import Reference
from bench.registry.registry import find, load_plugin
from bench.results.failures import Failure
from bench.results.identity import harness_facts
from bench.results.result import record_search

if TYPE_CHECKING:
    from bench.execute import Options

FOLDER = ".plans"
"""Folder below the runs folder for plans."""
PLAN, CLAIMS = "plan.json", "claims"
SILENT = 3 * BEAT
"""Seconds after which a worker elsewhere that has not touched its claim may be dead."""
FIELDS = ("task", "arch", "method", "init", "fraction", "draw", "manifest", "seed", "source_rate", "precision")
"""Fields of a cell in a plan."""


@dataclass(frozen=True)
class Entry:
    """A cell of a plan."""

    id: str
    cell: Mapping[str, Any]
    """Its fields, see FIELDS."""
    stage: str
    keep_weights: str
    rerun_stale: bool = False
    seconds: float | None = None
    """How long it may take; None if nothing is known of cells like it."""
    best_of: tuple[str, ...] = ()
    """Ids of trials: the cell is run with the method of the best, once all have ended."""

    @classmethod
    def of(cls, cell: Cell, options: Options, seconds: float | None = None, best_of: Sequence[str] = ()) -> Entry:
        """Return the entry of a cell that is run with these options."""
        fields = {name: getattr(cell, name) for name in FIELDS}
        plain = {name: str(each) if isinstance(each, Reference | Path) else each for name, each in fields.items()}
        name = cell_id(cell, options.stage) + ("-best" if best_of else "")
        return cls(name, plain, options.stage, options.keep_weights, options.rerun_stale, seconds, tuple(best_of))


class PlanFolder:
    """A plan on disk."""

    def __init__(self, folder: Path) -> None:
        """Read the plan in a folder. Raises DataError if it cannot be read."""
        self.folder, self.runs = folder, folder.parent.parent
        try:
            content = json.loads(read_bytes(folder / PLAN))
            self._settings, self._plugins, self._plain = content["settings"], content["plugins"], set(content["plain"])
            entries = [Entry(**{**each, "best_of": tuple(each["best_of"])}) for each in content["cells"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{folder / PLAN} cannot be read: {error}; the same command writes a new plan") from None
        self.entries = {entry.id: entry for entry in entries}
        self._cells: dict[str, Cell] = {}
        self._trials: dict[tuple[str, ...], list[Trial]] = {}

    @classmethod
    def of(
        cls, entries: Sequence[Entry], cells: Sequence[Cell], options: Options, plain: Sequence[str] = ()
    ) -> PlanFolder:
        """Return the plan with these entries: one that is there, whose other cells have ended, else a new one.

        `cells` are the cells of the entries. `plain`: folders of runs that were finished before without a search.
        """
        data = str(cells[0].data.absolute())
        also_on = [str(folder.absolute()) for folder in options.also_on]
        settings = {"data": data, "also_on": also_on, "checkpoint_minutes": options.checkpoint_minutes}
        wanted = {_what(entry) for entry in entries}
        for plan in plans(options.runs):
            there = {_what(entry): entry.id for entry in plan.entries.values()}
            others = {name for what, name in there.items() if what not in wanted}
            if plan._settings == settings and wanted <= there.keys() and others <= plan.outcomes():
                with contextlib.suppress(OSError):  # of another user
                    os.utime(plan.folder / PLAN)  # `bench prune` removes ended plans that nobody has used for a day
                return plan._knowing(entries, cells)
        plugins = dict.fromkeys(str(file.absolute()) for cell in cells for file in cell.plugin_files)
        digest = hashlib.sha256(json.dumps([settings, sorted(wanted)]).encode()).hexdigest()
        folder = options.runs / FOLDER / f"{len(entries)}-cells-{digest[:8]}"
        content = {
            "settings": settings,
            "plugins": list(plugins),
            "plain": list(plain),
            "cells": [asdict(entry) for entry in entries],
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / PLAN, json.dumps(content, indent=1))
        except OSError as error:
            where, why = options.runs, error.strerror
            raise BenchError(f"cannot write to {where}: {why}; --runs names another folder") from None
        return cls(folder)._knowing(entries, cells)

    def _knowing(self, entries: Sequence[Entry], cells: Sequence[Cell]) -> PlanFolder:
        """Keep these cells, so that they are not built again from the plan file, and return the plan."""
        self._cells.update({entry.id: cell for entry, cell in zip(entries, cells, strict=True)})
        return self

    def claims(self) -> Claims:
        """Return the claims on cells of this runs folder."""
        return Claims(self.runs / FOLDER / CLAIMS, self.folder.name)

    @property
    def of_notebook(self) -> list[str]:
        """Names of plugins that a notebook or a script defines, as far as cells were made in this process."""
        return sorted({name for cell in self._cells.values() for name in cell.of_notebook})

    def has_ended(self, id: str) -> bool:
        """Return whether a cell has ended."""
        return (self.folder / f"{id}.json").exists()

    def load_plugins(self) -> None:
        """Load the plugin files of the plan's cells."""
        for file in self._plugins:
            load_plugin(file)

    def outcomes(self) -> set[str]:
        """Return the ids of the cells that have ended: all, if `bench prune` has removed the plan since it was read."""
        try:
            names = os.listdir(self.folder)  # noqa: PTH208, thousands of names
        except FileNotFoundError:
            return set(self.entries)
        return {name.removesuffix(".json") for name in names if name.endswith(".json")} & self.entries.keys()

    def cell(self, entry: Entry) -> Cell:
        """Return the cell of an entry. That of a tuned method is known once its trials have ended.

        Raises BenchError if a trial has failed, or if all diverged.
        """
        return self._with(entry, best_of(self.trials(entry)).method) if entry.best_of else self._with(entry)

    def claim_name(self, entry: Entry) -> str:
        """Return the name of the claim on the cell of an entry. Raises BenchError if a trial has failed."""
        return cell_id(self.cell(entry), entry.stage) if entry.best_of else entry.id

    def has_unclaimed(self) -> bool:
        """Return whether a cell is left that can be run and that no live worker of this plan runs."""
        claims = self.claims()
        newest = claims.all()
        signs = {name: claims.sign(newest.get(name)) for name in self.left()}
        return any(sign is None or claims.is_dead(newest[name], SILENT) for name, sign in signs.items())

    def is_at_work(self) -> bool:
        """Return whether a worker runs a cell of this plan now.

        Then a command that joins it leaves failed cells alone: each task of a job array gives the same command, and
        would else try again what has failed in another task.
        """
        claims, left = self.claims(), set(self.left())
        return any(not (claim.free or claims.is_dead(claim)) for name, claim in claims.all().items() if name in left)

    def left(self) -> list[str]:
        """Return the names of the claims on cells that have not ended and can be run."""
        ended, names = self.outcomes(), list[str]()
        for entry in self.entries.values():
            if entry.id not in ended and ended.issuperset(entry.best_of):
                # not if a trial has failed, if all diverged, or if another command has just removed an outcome
                with contextlib.suppress(BenchError, FileNotFoundError):
                    names.append(self.claim_name(entry))
        return names

    def _with(self, entry: Entry, method: str | None = None) -> Cell:
        """Return the cell of an entry as it is written, or with another method."""
        if entry.id not in self._cells:
            fields = dict(entry.cell)
            arch, how = (Reference.parse(fields.pop(kind)) for kind in ("arch", "method"))
            manifest = Path(fields.pop("manifest")) if fields["manifest"] else fields.pop("manifest")
            data = Path(self._settings["data"])
            self._cells[entry.id] = Cell(**fields, arch=arch, method=how, data=data, manifest=manifest)
        cell = self._cells[entry.id]
        return replace(cell, method=Reference.parse(method)) if method else cell

    def trials(self, entry: Entry) -> list[Trial]:
        """Return the trials of a tuned method, all of which have ended. Raises BenchError if one has failed."""
        if entry.best_of not in self._trials:
            self._trials[entry.best_of] = [read_trial(self.ended(trial)) for trial in entry.best_of]
        return self._trials[entry.best_of]

    def options(self, entry: Entry, options: Options) -> Options:
        """Return the options of an entry: `options`, with those that the plan states."""
        return replace(
            options,
            runs=self.runs,
            stage=entry.stage,  # type: ignore[arg-type]
            keep_weights=entry.keep_weights,  # type: ignore[arg-type]
            rerun_stale=entry.rerun_stale,
            also_on=tuple(map(Path, self._settings["also_on"])),
            checkpoint_minutes=self._settings["checkpoint_minutes"],
        )

    def write(self, entry: Entry, end: Ended) -> None:
        """Write how a cell ended. A failure is written beside the runs too, with its details."""
        path = failure_path(self.runs, end.cell, entry.stage)
        if end.failure:
            end.failure.write(path)
        elif end.folder:
            path.unlink(missing_ok=True)
        diverged = end.failure is not None and end.failure.diverged
        facts = {
            "method": str(end.cell.method),
            "folder": os.path.relpath(end.folder, self.runs) if end.folder else None,
            "incompatible": end.incompatible,
            "failure": {**asdict(end.failure), "details": str(path)} if end.failure else None,
            **({"code": _code_of(end.cell)} if diverged else {}),
        }
        try:
            write_whole(self.folder / f"{entry.id}.json", json.dumps(facts, indent=1))
        except OSError as error:
            raise BenchError(f"cannot write to {self.folder}: {error.strerror}; the same command goes on") from None

    def ended(self, id: str) -> Ended:
        """Read how a cell ended."""
        entry = self.entries[id]
        facts = json.loads(read_bytes(self.folder / f"{id}.json"))
        failure = Failure(**facts["failure"]) if facts["failure"] else None
        folder = self.runs / facts["folder"] if facts["folder"] else None
        return Ended(self._with(entry, facts["method"]), folder, facts["incompatible"], failure)

    def would_diverge(self, id: str) -> bool:
        """Return whether a cell has diverged with the present code: run again, it would diverge again."""
        try:
            facts = json.loads(read_bytes(self.folder / f"{id}.json"))
        except FileNotFoundError:  # it has not ended
            return False
        return "code" in facts and facts["code"] == _code_of(self._with(self.entries[id], facts["method"]))

    def record_search(self, entry: Entry, end: Ended) -> None:
        """Record in the result of a tuned method how its setting was chosen.

        A search of more trials stays, and so does a result that existed before without a search.
        """
        if not end.folder or end.incompatible or os.path.relpath(end.folder, self.runs) in self._plain:
            return
        first = self._with(self.entries[entry.best_of[0]])
        result, search = end.result(), search_record(first, self.trials(entry))
        if len(search["trials"]) >= len(result.document.get("search", search)["trials"]):
            record_search(result, search)

    def forget(self, ids: Iterable[str], *, failed: bool = True) -> None:
        """Remove the outcomes of cells that are to be run again; without `failed`, those of failed cells stay."""
        self._trials.clear()
        for each in self.outcomes().intersection(ids):
            with contextlib.suppress(FileNotFoundError):  # another command was quicker
                if failed or not self.ended(each).failure:
                    (self.folder / f"{each}.json").unlink()


def plans(runs: Path) -> Iterator[PlanFolder]:
    """Yield the plans of a runs folder. Damaged ones are left out."""
    for path in sorted((runs / FOLDER).glob(f"*/{PLAN}")):
        with contextlib.suppress(DataError):
            yield PlanFolder(path.parent)


def _code_of(cell: Cell) -> list[str]:
    """Return the hashes of a cell's code: method, backbone, and bench itself."""
    plugins = [find("method", cell.method.name), find("backbone", cell.arch.name)]
    return [*(plugin.code_hash for plugin in plugins), harness_facts()["code_sha256"]]


def _what(entry: Entry) -> tuple[object, ...]:
    """Return what an entry asks for: all but how long it may take."""
    return (entry.id, entry.stage, entry.keep_weights, entry.rerun_stale, entry.best_of)
