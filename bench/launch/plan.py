"""Plan a sweep: find the finished cells of a grid on disk, and estimate time and disk space of the others."""

from __future__ import annotations

import functools
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from bench.cell import Cell
from bench.data.datasets.held import reader_facts
from bench.data.opened import OpenData
from bench.data.prepared import require_files
from bench.data.records import SECONDS
from bench.data.signals import SignalSpec
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tasks import NoPositive
from bench.errors import BenchError, DataError
from bench.execute import Options, make_backbone, make_method
from bench.launch.outcomes import failure_path
from bench.launch.pace import Pace, frozen_passes, measure_pace, trained_epochs
from bench.processes import num_cores
from bench.provenance import code_facts, plugin_facts, sections, signal_facts
from bench.registry.reference import Reference
from bench.registry.registry import attempt
from bench.results.failures import Failure
from bench.results.identity import RANDOM, SIGNALS, Source, changes, code_of, planned_identity
from bench.results.result import find_heads
from bench.training.checkpoint import KEPT
from bench.training.distributed import choose_device
from bench.training.method import phases_or_reason
from bench.training.model import Backbone, count_parameters, layer_groups
from bench.training.precision import resolve_precision
from bench.training.weights import hash_weights, initialize, names_published, wants_published

if TYPE_CHECKING:
    from bench.launch.workers import Crew

State = Literal["done", "declined", "stale", "failed", "to do"]
LEFT: Sequence[State] = ("failed", "to do")
"""States of cells that a sweep runs. Failed cells are tried again."""
PLACE = ("arch", "task", "fraction", "draw", "seed")
"""Fields of a cell that are compared first, because computing its identity needs splits and weights."""
BYTES_PER_LABEL = 900
"""Bytes per label of result.json and log.jsonl, measured on PTB-XL's tasks."""
COPIES = 5
"""Copies of the weights in a checkpoint: the phase's first, current, best epoch, and Adam's two moments."""


@dataclass(frozen=True)
class Planned:
    """A cell and its state on disk."""

    cell: Cell
    state: State
    reason: str = ""
    """Why it failed or was declined, or which code has changed since it was finished."""
    folder: Path | None = None
    """Folder of its finished run."""
    precision: str = ""
    """Precision of its finished run."""
    seconds: float | None = None
    """Mean seconds of finished cells with the same backbone, method and fraction, or an estimate; None if unknown."""
    estimated: bool = False
    """Whether `seconds` are from the pace of its backbone, because no such cell is finished."""
    work: float = 0.0
    """Relative work of a cell that is left: fraction x epochs x parameters, see `_Facts.work`."""


@dataclass(frozen=True)
class SweepPlan:
    """The cells of a sweep with their states, and what the remaining ones need."""

    cells: Sequence[Planned]
    left_out: int
    """Number of cells that would start from published weights of a backbone without any."""
    result_bytes: int
    """Disk space of the remaining results."""
    run_bytes: int
    """Disk space of the checkpoints of the largest running cell."""
    lacking: Mapping[str, str]
    """Name of a backbone or task -> why its remaining cells will fail: unreadable signals, or a task without labels."""
    damaged: Sequence[str]
    """Why finished runs cannot be read, one text per run. Their cells count as not done, and will fail."""

    def of(self, *states: State) -> list[Planned]:
        """Return the cells in any of these states."""
        return [planned for planned in self.cells if planned.state in states]

    def stale(self) -> str:
        """Return how many finished cells other code has made, and what has changed since; empty if there are none."""
        stale = self.of("stale")
        changed = dict.fromkeys(change for cell in stale for change in cell.reason.split("; "))
        return f"stale: {len(stale):,} finished cells; {'; '.join(changed)}" if stale else ""

    def rows(self, jobs: int) -> list[dict[str, Any]]:
        """Return table rows of the plan: one for each backbone, and their sum."""
        archs = dict.fromkeys(str(planned.cell.arch) for planned in self.cells)
        groups = {arch: [planned for planned in self.cells if str(planned.cell.arch) == arch] for arch in archs}
        return [_row(name, group, jobs) for name, group in [*groups.items(), ("all", list(self.cells))]]


def _row(name: str, group: Sequence[Planned], jobs: int) -> dict[str, Any]:
    count = Counter(planned.state for planned in group)
    left = [planned for planned in group if planned.state in LEFT]
    states = {state: count[state] for state in get_args(State)}
    return {"name": name, "cells": len(group), **states, "time left": _time_left(left, jobs)}


def _time_left(left: Sequence[Planned], jobs: int) -> str:
    known = [planned.seconds for planned in left if planned.seconds is not None]
    if not left:
        return "-"
    if not known:
        return "unknown"
    more = f" + {len(left) - len(known):,} cells unknown" if len(known) < len(left) else ""
    return spell_seconds(sum(known) / jobs) + more


def spell_seconds(seconds: float) -> str:
    """Return a duration with a suitable unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def spell_bytes(size: float) -> str:
    """Return a number of bytes in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def make_plan(
    cells: Sequence[Cell],
    options: Options,
    *,
    elsewhere: bool = False,
    crew: Crew | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> SweepPlan:
    """Return the state of each cell, from the files on disk.

    A finished run belongs to a cell if all that decides the outcome is equal, including hyper-parameters with their
    present default values. Initial weights are compared by hash if they are published or from a file; random ones
    follow from seed and code, and a result of other code is `stale`. The final decision is made by `execute`, which
    returns the result of a cell that is finished. `elsewhere`: the cells run on other machines, where precision `auto`
    may have resolved to another value; any is accepted. With `crew`, cells without a finished cell of the same
    backbone, method and fraction get an estimate for its workers, from timed passes of their backbones; `progress`
    receives a text before each of them is timed.
    """
    if not cells:  # of a shard, where there are more shards than cells
        return SweepPlan([], 0, 0, 0, {}, [])
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
        # identities are expensive (splits, hashes of weights): only for cells that may have a result
        place = (str(cell.arch), cell.task, cell.fraction, cell.draw, cell.seed)
        keys = facts.keys(cell, elsewhere) if place in known and not facts.without_labels(cell) else []
        heads = [head for key in keys for head in finished.get(key, [])]
        news = [facts.changes(cell, head) for head in heads]
        path = failure_path(options.runs, cell, options.stage)
        if heads:
            # a result with present code wins over stale ones
            head, change = min(zip(heads, news, strict=True), key=lambda each: bool(each[1]))
            reason = head["incompatible"] or ""
            state: State = "stale" if change else "declined" if reason else "done"
            planned[command] = Planned(cell, state, change or reason, head["folder"], head["cell"]["precision"])
        else:
            failed = path.is_file()
            reason = Failure.read(path).reason if failed else ""
            seconds, estimate = taken.get((str(cell.arch), str(cell.method), cell.fraction)), None
            if seconds is None and crew:
                estimate = facts.estimate(cell, options.stage, crew, progress)
            planned[command] = Planned(
                cell,
                "failed" if failed else "to do",
                reason,
                seconds=estimate if seconds is None else seconds,
                estimated=estimate is not None,
                work=facts.work(cell),
            )
    # estimates, and reasons that are known before anything runs
    left = [planned_cell.cell for planned_cell in planned.values() if planned_cell.state in LEFT]
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


def longest_first(cells: Sequence[Planned]) -> list[tuple[Planned, float | None]]:
    """Return cells with the seconds they may take, the longest first; equally long ones stay in order.

    A cell takes as long as finished ones with its backbone, method and fraction. Without any, it takes its work times
    the median seconds per work of cells that have some. If no cell has, the seconds are None and work decides.
    """
    rates = [cell.seconds / cell.work for cell in cells if cell.seconds is not None and cell.work]
    rate = statistics.median(rates) if rates else None

    def seconds(cell: Planned) -> float | None:
        return cell.seconds if cell.seconds is not None or rate is None else cell.work * rate

    known = [(cell, seconds(cell)) for cell in cells]
    return sorted(known, key=lambda each: -(each[0].work if each[1] is None else each[1]))


def _finished(options: Options, log: Callable[[str], None]) -> dict[str, list[dict[str, Any]]]:
    """Return planned identity -> heads of its results and their `folder`, for every finished run of this stage."""
    heads: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for folder, head in find_heads(options.runs, log):
        if head["stage"] == options.stage and "backbone" in head:
            heads[planned_identity(head)].append({**head, "folder": folder})
    return heads


def _taken(heads: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, float], float]:
    """Return (backbone, method, fraction) -> mean seconds of finished cells."""
    taken: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    for head in heads:
        if "cost" in head:
            cell = head["cell"]
            taken[cell["arch"], cell["method"], cell["fraction"]].append(head["cost"]["seconds"])
    return {row: sum(seconds) / len(seconds) for row, seconds in taken.items()}


class _Facts:
    """Facts that many cells share, each computed once: labels, backbones, phases of methods, hashes of weights."""

    def __init__(self, data: Path) -> None:
        self._data = OpenData(data)
        self._device = choose_device(0, 1)
        self._methods: dict[tuple[str, tuple[str, ...]], dict[str, Any] | None] = {}
        self._backbones: dict[str, Backbone | None] = {}
        self._backbone_facts: dict[str, dict[str, Any]] = {}
        self._starts: dict[tuple[str, str], str | None] = {}
        self._paces: dict[tuple[str, str], Pace | None] = {}

    def init_of(self, cell: Cell) -> str:
        """Return the init of a cell, with the default resolved."""
        return cell.init or ("pretrained" if self.is_published(cell) else "random")

    def is_published(self, cell: Cell) -> bool:
        """Return whether the backbone of a cell has published weights."""
        backbone = self._backbone(cell.arch)
        return backbone is not None and wants_published(backbone, None)

    def keys(self, cell: Cell, elsewhere: bool) -> list[str]:
        """Return the possible identities of a cell, see `_finished`; none if its plugins fail or it has no weights."""
        backbone, method = self._backbone(cell.arch), self._method(cell)
        start = self._start(cell, backbone) if backbone is not None else None
        if backbone is None or method is None or start is None:
            return []
        precisions = {resolve_precision(cell.precision, self._device)}
        if elsewhere and cell.precision == "auto":
            precisions |= {"bf16", "float32"}
        arch = self._arch(cell.arch)
        table = self._data.table(cell.task)
        parts = self._data.split(cell.task, cell.fraction, cell.draw, cell.manifest)
        candidates = [
            sections(cell, self._data.records, table, parts, method, arch, backbone.signal_spec, precision)
            for precision in sorted(precisions)
        ]
        head = self._head(cell, backbone)
        return [planned_identity({**facts, "init": head}, start) for facts in candidates]

    def changes(self, cell: Cell, head: Mapping[str, Any]) -> str:
        """Return a text that names the code that has changed since this result of the cell; empty if none has."""
        backbone = self._backbone(cell.arch)
        assert backbone is not None, "a cell without one has no identity, and so no result"
        document = {"method": self._method(cell), "backbone": self._arch(cell.arch), "dataset": self._reader}
        now = code_of({**document, "code": self._code(backbone.signal_spec, cell.source_rate)})

        def code_now(source: Source) -> str:
            if source.kind == SIGNALS and SIGNALS not in now:
                return source.sha256  # files that are not here tell nothing
            return now[source.kind].sha256 if source.kind in now else ""

        return changes(head, code_now)

    @functools.cached_property
    def _reader(self) -> dict[str, str]:
        """Facts about the code that read the data set."""
        return {"name": self._data.records.name, **reader_facts(self._data.records, self._data.folder)}

    @functools.cache  # noqa: B019
    def _code(self, spec: SignalSpec, source_rate: int | None) -> dict[str, dict[str, str]]:
        return {**code_facts(spec), **signal_facts(self._data.records, spec, source_rate)}

    def result_bytes(self, cell: Cell, keep_weights: bool) -> int:
        """Return the disk space in bytes of a finished cell."""
        if self.without_labels(cell):
            return 0
        table, backbone = self._data.table(cell.task), self._backbone(cell.arch)
        scored = int((table.strat_fold >= VAL_FOLD).sum())
        weights = 4 * count_parameters(backbone) if keep_weights and backbone else 0
        return scored * (4 * len(table.labels) + 8) + BYTES_PER_LABEL * len(table.labels) + weights

    def run_bytes(self, cell: Cell) -> int:
        """Return the disk space in bytes of a running cell: its checkpoints, and one that is being written."""
        backbone, method = self._backbone(cell.arch), self._method(cell)
        averages = any(phase.get("average") for phase in method["phases"]) if method else False
        return (KEPT + 1) * (COPIES + averages) * 4 * count_parameters(backbone) if backbone else 0

    def work(self, cell: Cell) -> float:
        """Return the work of a cell in passes over the records x parameters; a training step is three passes.

        Features of a frozen backbone and predictions are one pass. With windows, each epoch of a probe by steps is one
        too.
        """
        backbone = self._backbone(cell.arch)
        if backbone is None or self.without_labels(cell):
            return 0.0
        method = self._method(cell)
        phases = method["phases"] if method else []
        _, frozen = frozen_passes(phases, windows=backbone.signal_spec.window is not None)
        return float(count_parameters(backbone) * cell.fraction * (1 + frozen + 3 * trained_epochs(phases)))

    def estimate(self, cell: Cell, stage: str, crew: Crew, progress: Callable[[str], None]) -> float | None:
        """Return the seconds of a cell in a worker, by the pace of its backbone; None if that cannot be timed."""
        backbone, method = self._backbone(cell.arch), self._method(cell)
        if backbone is None or method is None or self.without_labels(cell):
            return None
        precision = resolve_precision(cell.precision, self._device)
        if (key := (str(cell.arch), precision)) not in self._paces:
            progress(f"timing {cell.arch}")
            length_s = self._data.records.seconds or SECONDS
            threads = max(1, num_cores() // crew.jobs)
            self._paces[key], _ = attempt(lambda: measure_pace(backbone, length_s, precision, self._device, threads))
        parts = self._data.split(cell.task, cell.fraction, cell.draw, cell.manifest)
        num_test = int((self._data.table(cell.task).strat_fold == TEST_FOLD).sum()) if stage == "test" else 0
        if (pace := self._paces[key]) is None:
            return None
        ranks = crew.nproc if self._device.type == "cuda" else 1  # on a CPU, processes share the worker's cores
        return pace.seconds(method["phases"], len(parts.train), len(parts.val), num_test) / ranks

    def lacking(self, cell: Cell) -> str | None:
        """Return why the signals for the cell's backbone cannot be read; None if they can."""
        backbone = self._backbone(cell.arch)
        try:
            if backbone is not None:
                require_files(self._data.records, backbone.signal_spec, cell.source_rate)
        except DataError as error:
            return str(error)
        return None

    def without_labels(self, cell: Cell) -> str | None:
        """Return why the cell's task has no labels in this data set; None if it has."""
        try:
            self._data.table(cell.task)
        except NoPositive as error:
            return str(error)
        return None

    def _method(self, cell: Cell) -> dict[str, Any] | None:
        """Return the facts about a cell's method; None if the backbone's code or the method's code fails."""
        backbone = self._backbone(cell.arch)
        if backbone is None:
            return None
        if (key := (str(cell.method), groups := layer_groups(backbone))) not in self._methods:
            facts = plugin_facts("method", cell.method)  # raises PluginError for a wrong argument, before a cell runs

            def declare() -> list[dict[str, Any]]:
                return [phase.facts() for phase in phases_or_reason(make_method(cell.method), groups)[0]]

            phases, _ = attempt(declare)
            self._methods[key] = None if phases is None else {**facts, "phases": phases}
        return self._methods[key]

    def _arch(self, reference: Reference) -> dict[str, Any]:
        if (name := str(reference)) not in self._backbone_facts:
            self._backbone_facts[name] = plugin_facts("backbone", reference)
        return self._backbone_facts[name]

    def _backbone(self, reference: Reference) -> Backbone | None:
        """Return a new backbone; None if its code fails. Then its cells fail with the reason, and others still run."""
        if (name := str(reference)) not in self._backbones:

            def make() -> Backbone:
                backbone = make_backbone(reference)
                layer_groups(backbone)  # code of the plugin too
                return backbone

            self._backbones[name], _ = attempt(make)
        return self._backbones[name]

    def _head(self, cell: Cell, backbone: Backbone) -> dict[str, str]:
        """Return the hash of the published head if the method uses it; else an empty mapping."""
        if self.init_of(cell) == "random" or not make_method(cell.method).uses_published_head:
            return {}
        return {"head_sha256": hash_weights(initialize(backbone, cell.init).head)}

    def _start(self, cell: Cell, backbone: Backbone) -> str | None:
        """Return the hash of a cell's initial weights; None if they cannot be loaded."""
        if (init := self.init_of(cell)) == "random":
            return RANDOM
        if (key := (str(cell.arch), init)) not in self._starts:
            try:
                self._starts[key] = initialize(backbone, init).sha256
            except BenchError:
                self._starts[key] = None
        return self._starts[key]
