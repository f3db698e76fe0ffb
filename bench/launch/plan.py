"""Which cells of a grid are done, by what lies on the disk, and what the others will cost."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from bench.cell import Cell
from bench.data.datasets import load_records
from bench.data.prepared import require_files
from bench.data.signals import SignalSpec
from bench.data.splits import VAL_FOLD, Split
from bench.data.tasks import LabelTable, NoPositive, find_task, label_table
from bench.errors import BenchError, DataError
from bench.execute import Options, make_backbone, make_method, make_split
from bench.launch.workers import failure_path
from bench.provenance import code_facts, plugin_facts, sections
from bench.registry.reference import Reference
from bench.registry.registry import why_it_fails
from bench.results.failures import Failure
from bench.results.identity import DRAWN, changes, code_of, planned_identity
from bench.results.result import find_heads
from bench.training.checkpoint import KEPT
from bench.training.distributed import choose_device
from bench.training.model import Backbone, count_parameters
from bench.training.precision import resolve_precision
from bench.training.weights import initialize, names_published

State = Literal["done", "declined", "stale", "failed", "to do"]
LEFT: Sequence[State] = ("failed", "to do")
"""What a sweep runs: what failed before is tried again."""
PLACE = ("arch", "task", "fraction", "draw", "seed")
"""What a result must share with a cell before its identity is looked at, which takes draws and weights to find out."""
BYTES_PER_LABEL = 900
"""Of result.json and log.jsonl, as measured on PTB-XL's tasks."""
COPIES = 4
"""Of the weights in a checkpoint at most: theirs, the best epoch's, and Adam's two moments."""


@dataclass(frozen=True)
class Planned:
    """A cell and what the disk says of it."""

    cell: Cell
    state: State
    reason: str = ""
    """Why it failed or was declined, or whose code has changed since it was finished."""
    seconds: float | None = None
    """How long cells of the same backbone, method and fraction have taken on average, if there are any."""


@dataclass(frozen=True)
class SweepPlan:
    """The cells of a sweep, and what is left to do."""

    cells: Sequence[Planned]
    left_out: int
    """Cells that would start from published weights of backbones that have none."""
    result_bytes: int
    """Disk for the results to come."""
    run_bytes: int
    """Disk for the checkpoints of one running cell, the largest."""
    lacking: Mapping[str, str]
    """Why cells that are left to run will fail, by the name of their backbone, whose signals cannot be read, or of
    their task, which no record has a label of."""
    damaged: Sequence[str]
    """Why finished runs cannot be read. Whichever cell left one is left to run, and fails on it."""

    def of(self, *states: State) -> list[Planned]:
        """The cells in any of these states."""
        return [one for one in self.cells if one.state in states]

    def rows(self, jobs: int) -> list[dict[str, Any]]:
        """The plan as a table: a row a backbone, and all of them."""
        archs = dict.fromkeys(str(one.cell.arch) for one in self.cells)
        groups = {arch: [one for one in self.cells if str(one.cell.arch) == arch] for arch in archs}
        return [_row(name, group, jobs) for name, group in [*groups.items(), ("all", list(self.cells))]]


def _row(name: str, group: Sequence[Planned], jobs: int) -> dict[str, Any]:
    count = Counter(one.state for one in group)
    left = [one for one in group if one.state in LEFT]
    states = {state: count[state] for state in get_args(State)}
    return {"name": name, "cells": len(group), **states, "time left": _time_left(left, jobs)}


def _time_left(left: Sequence[Planned], jobs: int) -> str:
    known = [one.seconds for one in left if one.seconds is not None]
    if not left:
        return "-"
    if not known:
        return "unknown"
    more = f" + {len(left) - len(known):,} cells unknown" if len(known) < len(left) else ""
    return spell_seconds(sum(known) / jobs) + more


def spell_seconds(seconds: float) -> str:
    """A duration in the unit that fits."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def spell_bytes(size: float) -> str:
    """An amount of disk."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def make_plan(cells: Sequence[Cell], options: Options, *, elsewhere: bool = False) -> SweepPlan:
    """What is done and what is left, from the disk alone.

    A finished run stands for a cell if everything agrees that decides its outcome, hyper-parameters with their
    present defaults included. The hash of the weights that training starts from is computed for published ones and
    files; those that are drawn follow from the seed and the code, and a result of other code is `stale`. Whoever
    runs a cell has the last word: `execute` returns what turns out to be finished. Cells that run `elsewhere`, on
    machines that may have other hardware, are finished in whatever precision `auto` was there.
    """
    facts = _Facts(cells[0].data)
    damaged: list[str] = []
    finished = _finished(options, damaged.append)
    known = {tuple(head["cell"][key] for key in PLACE) for heads in finished.values() for head in heads}
    taken = _taken(head for heads in finished.values() for head in heads)
    planned: dict[str, Planned] = {}
    left_out = 0
    for cell in cells:
        start = facts.init_of(cell)
        if names_published(start) and not facts.is_published(cell):
            left_out += 1
            continue
        if (command := replace(cell, init=start).command()) in planned:
            continue
        place = (str(cell.arch), cell.task, cell.fraction, cell.draw, cell.seed)
        keys = facts.keys(cell, elsewhere) if place in known and not facts.without_labels(cell) else []
        heads = [head for key in keys for head in finished.get(key, [])]
        news = [facts.changes(cell, head) for head in heads]
        path = failure_path(options.runs, cell, options.stage)
        if heads:
            reason = heads[0]["incompatible"] or ""
            stale = all(news)
            state: State = "stale" if stale else "declined" if reason else "done"
            planned[command] = Planned(cell, state, news[0] if stale else reason)
        else:
            failed = path.is_file()
            reason = Failure.read(path).reason if failed else ""
            seconds = taken.get((str(cell.arch), str(cell.method), cell.fraction))
            planned[command] = Planned(cell, "failed" if failed else "to do", reason, seconds)
    left = [one.cell for one in planned.values() if one.state in LEFT]
    archs = {str(cell.arch): cell for cell in left}
    keep = options.keep_weights == "best"
    return SweepPlan(
        list(planned.values()),
        left_out,
        sum(facts.result_bytes(cell, keep) for cell in left),
        max((facts.run_bytes(cell) for cell in left), default=0),
        {name: reason for name, cell in archs.items() if (reason := facts.lacking(cell))}
        | {f"task {cell.task}": reason for cell in left if (reason := facts.without_labels(cell))},
        damaged,
    )


def _finished(options: Options, log: Callable[[str], None]) -> dict[str, list[dict[str, Any]]]:
    """Identity, with drawn weights as such -> what its results say, for every finished run of this stage."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _, head in find_heads(options.runs, log):
        if head["stage"] == options.stage and "backbone" in head:
            found[planned_identity(head)].append(head)
    return found


def _taken(heads: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, float], float]:
    """Backbone, method and fraction -> mean seconds of the cells that have been run."""
    taken: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    for head in heads:
        if "cost" in head:
            cell = head["cell"]
            taken[cell["arch"], cell["method"], cell["fraction"]].append(head["cost"]["seconds"])
    return {row: sum(seconds) / len(seconds) for row, seconds in taken.items()}


class _Facts:
    """What many cells share, each computed once: labels of a task, a backbone, a method's phases, hashes of weights."""

    def __init__(self, data: Path) -> None:
        self._records = load_records(data)
        self._device = choose_device(0, 1)
        self._tables: dict[str, LabelTable] = {}
        self._splits: dict[tuple[object, ...], Split] = {}
        self._methods: dict[str, dict[str, Any]] = {}
        self._backbones: dict[str, Backbone | None] = {}
        self._backbone_facts: dict[str, dict[str, Any]] = {}
        self._starts: dict[tuple[str, str], str | None] = {}

    def init_of(self, cell: Cell) -> str:
        """What its weights start from, spelled out."""
        return cell.init or ("pretrained" if self.is_published(cell) else "random")

    def is_published(self, cell: Cell) -> bool:
        """Whether its backbone has published weights."""
        backbone = self._backbone(cell.arch)
        return backbone is not None and backbone.checkpoint is not None

    def keys(self, cell: Cell, elsewhere: bool) -> list[str]:
        """The identities of a cell as `_finished` has them; none where its backbone or first weights cannot be made."""
        backbone = self._backbone(cell.arch)
        start = self._start(cell, backbone) if backbone is not None else None
        if backbone is None or start is None:
            return []
        precisions = {resolve_precision(cell.precision, self._device)}
        if elsewhere and cell.precision == "auto":
            precisions |= {"bf16", "float32"}
        method, arch = self._method(cell.method), self._arch(cell.arch)
        table, parts = self._table(cell.task), self._split(cell)
        found = [
            sections(cell, self._records, table, parts, method, arch, backbone.signal_spec, precision)
            for precision in sorted(precisions)
        ]
        return [planned_identity(facts, start) for facts in found]

    def changes(self, cell: Cell, head: Mapping[str, Any]) -> str:
        """Whose code has changed since this result of the cell, in words; or nothing."""
        backbone = self._backbone(cell.arch)
        assert backbone is not None, "a cell without one has no identity, and so no result"
        document = {"method": self._method(cell.method), "backbone": self._arch(cell.arch)}
        now = code_of({**document, "code": self._code(backbone.signal_spec)})
        return changes(head, lambda source: now[source.kind].sha256 if source.kind in now else "")

    @functools.cache  # noqa: B019
    def _code(self, spec: SignalSpec) -> dict[str, dict[str, str]]:
        return code_facts(spec)

    def result_bytes(self, cell: Cell, keep_weights: bool) -> int:
        """Disk that a finished cell takes."""
        if self.without_labels(cell):
            return 0
        table, backbone = self._table(cell.task), self._backbone(cell.arch)
        scored = int((table.strat_fold >= VAL_FOLD).sum())
        weights = 4 * count_parameters(backbone) if keep_weights and backbone else 0
        return scored * (4 * len(table.labels) + 8) + BYTES_PER_LABEL * len(table.labels) + weights

    def run_bytes(self, cell: Cell) -> int:
        """Disk that a running cell takes: its checkpoints, and one more while that is written."""
        backbone = self._backbone(cell.arch)
        return (KEPT + 1) * COPIES * 4 * count_parameters(backbone) if backbone else 0

    def lacking(self, cell: Cell) -> str | None:
        """Why the signals of its backbone cannot be read, or None."""
        backbone = self._backbone(cell.arch)
        try:
            if backbone is not None:
                require_files(self._records, backbone.signal_spec, cell.source_rate)
        except DataError as error:
            return str(error)
        return None

    def without_labels(self, cell: Cell) -> str | None:
        """Why its task has no labels here, or None."""
        try:
            self._table(cell.task)
        except NoPositive as error:
            return str(error)
        return None

    def _table(self, task: str) -> LabelTable:
        if task not in self._tables:
            self._tables[task] = label_table(self._records, find_task(task))
        return self._tables[task]

    def _split(self, cell: Cell) -> Split:
        key = (cell.task, cell.fraction, cell.draw, cell.manifest)
        if key not in self._splits:
            self._splits[key] = make_split(cell, self._table(cell.task), self._records)
        return self._splits[key]

    def _method(self, reference: Reference) -> dict[str, Any]:
        if (name := str(reference)) not in self._methods:
            phases = [asdict(phase) for phase in make_method(reference).phases()]
            self._methods[name] = {**plugin_facts("method", reference), "phases": phases}
        return self._methods[name]

    def _arch(self, reference: Reference) -> dict[str, Any]:
        if (name := str(reference)) not in self._backbone_facts:
            self._backbone_facts[name] = plugin_facts("backbone", reference)
        return self._backbone_facts[name]

    def _backbone(self, reference: Reference) -> Backbone | None:
        """None where its code fails: its cells will fail and say why, and the others shall run."""
        if (name := str(reference)) not in self._backbones:
            made: list[Backbone] = []
            why_it_fails(lambda: made.append(make_backbone(reference)))
            self._backbones[name] = made[0] if made else None
        return self._backbones[name]

    def _start(self, cell: Cell, backbone: Backbone) -> str | None:
        """The hash of the weights that training starts from; None where they cannot be had."""
        if (init := self.init_of(cell)) == "random":
            return DRAWN
        if (key := (str(cell.arch), init)) not in self._starts:
            try:
                self._starts[key] = initialize(backbone, init).sha256
            except BenchError:
                self._starts[key] = None
        return self._starts[key]
