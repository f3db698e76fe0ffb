"""The spine: one cell from records to a result. Read `execute` first; the functions below it are its lines."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from torch import Tensor

from bench.cell import Cell
from bench.console.terminal import Terminal
from bench.console.tracking import Silent, Wandb, watch
from bench.data.opened import OpenData
from bench.data.prepared import PreparedSignals, require_files
from bench.data.splits import TEST_FOLD, Split, folds_to_score
from bench.data.tasks import LabelTable
from bench.errors import Incompatible, PluginError, no_exit
from bench.evaluation.bootstrap import Replicates
from bench.evaluation.predictions import Predictions
from bench.evaluation.scores import replicates_for
from bench.provenance import cost, describe, environment, outcome, plugin_facts
from bench.registry.reference import Reference
from bench.registry.registry import make
from bench.registry.source import is_notebook
from bench.results.document import require_printable
from bench.results.identity import DEVICE, TORCH, changes, code_at_hand, code_of, other_code
from bench.results.result import Result
from bench.results.run_folder import RunFolder
from bench.training.audit import prepare
from bench.training.batch import Start
from bench.training.batch_norm import share_batch_norm
from bench.training.batches import Seed, SignalSource, Source, random_stream
from bench.training.checkpoint import Checkpoints
from bench.training.distributed import World, accelerator_kind, join, unused_accelerator
from bench.training.features import compute_features, predict, require_finite_logits, require_own_outputs
from bench.training.loop import check_same_cell, rehearse, train
from bench.training.memory import PeakMemory
from bench.training.method import Method, phases_or_reason
from bench.training.model import Backbone, Classifier, layer_groups
from bench.training.phase import Phase
from bench.training.precision import Precision, dtype, resolve_precision
from bench.training.report import PhaseReport, Watcher
from bench.training.weights import WEIGHTS, Init, initialize, load_classifier, save_weights, wants_published
from bench.transfer import evaluate_also, require_shared

KeepWeights = Literal["none", "best"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a run that do not change its result."""

    runs: Path = Path("runs")
    stage: Literal["val", "test"] = "test"
    """`val` ends with the predictions of fold 9; `test` adds fold 10."""
    overwrite: bool = False
    """Runs a finished cell again, and an unfinished one from its start."""
    rerun_stale: bool = False
    """Runs a finished cell again if code that made it has changed since."""
    wandb: Wandb = "off"
    keep_weights: KeepWeights = "best"
    """`best`: keep the weights of the selected epoch, which made the predictions."""
    also_on: tuple[Path, ...] = ()
    """Folders of other data sets on which each cell is tested before its weights are removed."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints within an epoch: the most work that a killed run repeats."""
    console: Console = field(default_factory=lambda: Terminal(stderr=True))
    log: Callable[[str], None] = lambda line: None
    """Progress callback, called with a line of text about once per epoch."""

    def arguments(self, cell: Cell) -> list[str]:
        """Return the arguments after `bench` that run a cell with these options in another process."""
        arguments = [*shlex.split(cell.command())[1:], f"--data={cell.data}", f"--runs={self.runs}"]
        arguments += [f"--stage={self.stage}", f"--wandb={self.wandb}", f"--keep-weights={self.keep_weights}"]
        arguments += [f"--checkpoint-minutes={self.checkpoint_minutes}", *(f"--also-on={at}" for at in self.also_on)]
        return arguments + ["--overwrite"] * self.overwrite + ["--rerun-stale"] * self.rerun_stale


@no_exit()
def execute(cell: Cell, options: Options, data: OpenData | None = None) -> Result:
    """Run a cell and return its result. The result of a finished cell is loaded; an interrupted run is resumed.

    `data` is the cell's data set if it is open already. A rank other than the main one may return before the scores are
    computed; its result lacks them.
    """
    with join() as world:
        data = data or OpenData(cell.data)
        setup = set_up(cell, options, data, world)
        check_same_cell(setup.precision, setup.facts["digest"], world)
        folder = open_folder(setup, options, world)
        if finished := finished_result(folder, options, data):
            if world.is_main:
                evaluate_also(finished.folder, options.also_on, options.log)
            return finished
        require_shared(setup.facts, options.also_on, options.stage)
        folds = folds_to_score(setup.table, options.stage)
        replicates = resample_patients(folds)  # before training, because labels in too few patients are refused
        progress = watch(
            folder.path, options.console, options.wandb, setup.facts, world.is_main, options.log, cell.data
        )
        with folder, progress as watcher:
            try:
                prepare_model(setup)
            except Incompatible as reason:
                watcher.finish({"incompatible": str(reason)})
                return folder.finish({**setup.facts, "stage": options.stage, "incompatible": str(reason)}, {})
            signals = open_signals(setup, data, watcher)
            # cost is measured from here, because weights are downloaded and signals prepared once for many cells
            checkpoints = open_checkpoints(setup, options, folder, watcher, world)
            memory = PeakMemory.begin(world.device)
            reports, val_logits = train_model(setup, signals, watcher, checkpoints, world)
            share_weights(setup, folder, world)
            predictions = predict_folds(setup, signals, folds, reports, val_logits, watcher, world, checkpoints.count)
            if not world.is_main:
                return Result(folder.final, setup.facts)
            scored = outcome(options.stage, setup.model, setup.facts, signals, reports, predictions, folds, replicates)
            costs = cost(checkpoints.run_seconds(), memory)
            document = {**setup.facts, "cost": costs, "environment": environment(world), **scored}
            watcher.finish(document["metrics"])
            keep = [WEIGHTS] if options.keep_weights == "best" else []
            return folder.finish(document, predictions, keep, partial(evaluate_also, folders=options.also_on))


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A cell and all that decides its result: labels, training records, phases, initial weights, precision."""

    cell: Cell
    table: LabelTable
    parts: Split
    method: Method
    phases: Sequence[Phase]
    model: Classifier
    init: Init
    precision: Precision
    facts: Mapping[str, Any]
    """The first half of the result, with the digest that identifies the cell."""
    declined: str
    """Why the method declines the backbone instead of declaring phases; empty if it declares them."""


def set_up(cell: Cell, options: Options, data: OpenData, world: World) -> Setup:
    """Return the cell's setup: read its labels and initial weights, and build its model."""
    records, table = data.records, data.table(cell.task)
    parts = data.split(cell.task, cell.fraction, cell.draw, cell.manifest)
    cell = replace(cell, manifest=None) if parts.whole else cell  # a manifest of all records changes nothing
    method = make_method(cell.method)
    backbone = build_backbone(cell.arch, cell.entropy)
    phases, declined = phases_or_reason(method, layer_groups(backbone))
    alike = (options.runs / cell.task).glob(cell.folder_name("*"))  # candidates; the digest will decide
    anew = options.overwrite or options.rerun_stale
    if wants_published(backbone, cell.init) and (anew or not any(alike)):
        require_files(records, backbone.signal_spec, cell.source_rate)  # before weights are downloaded in vain
    model, init = build_model(backbone, len(table.labels), cell.init, cell.entropy)
    init = init if method.uses_published_head else replace(init, head={})
    precision = resolve_precision(cell.precision, world.device)
    facts = describe(cell, records, table, parts, phases, model, init, precision)
    require_printable({**facts, "stage": options.stage, "incompatible": None})
    return Setup(
        cell=cell,
        table=table,
        parts=parts,
        method=method,
        phases=phases,
        model=model,
        init=init,
        precision=precision,
        facts=facts,
        declined=declined,
    )


def resample_patients(folds: Mapping[int, LabelTable]) -> Replicates | None:
    """Return how the patients of fold 10 are resampled for intervals; None without that fold."""
    test = folds.get(TEST_FOLD)
    return None if test is None else replicates_for(test.patient_id, test.y_true, test.labels)


def open_folder(setup: Setup, options: Options, world: World) -> RunFolder:
    """Return the folder of the run, which is made when training begins."""
    final = options.runs / setup.cell.task / setup.cell.folder_name(setup.facts["digest"])
    return RunFolder(final, options.stage, world.is_main, anew=options.overwrite)


def finished_result(folder: RunFolder, options: Options, data: OpenData) -> Result | None:
    """Return the cell's result; None if there is none, or if the options ask for another."""
    finished = None if options.overwrite else folder.finished()
    stale = finished and options.rerun_stale and changes(finished.document, partial(code_at_hand, data=data))
    return None if stale else finished


def prepare_model(setup: Setup) -> None:
    """Let the method prepare the model, and check its phases. Incompatible, with a reason, if the method declines."""
    if setup.declined:
        raise Incompatible(setup.declined)
    prepared = prepare(setup.model, setup.method, Start.of(setup.facts, setup.init.head))
    rehearse(setup.model, setup.phases, prepared)
    setup.model.made_by = makers(setup.cell, altered=not prepared.same_backbone)


def open_signals(setup: Setup, data: OpenData, watcher: Silent) -> PreparedSignals:
    """Return the signals as the backbone expects them, and note what is unusual about them."""
    signals = data.signals(setup.model.backbone.signal_spec, setup.cell.source_rate, watcher.prepared, watcher.note)
    if unused := unused_accelerator(accelerator_kind()):
        watcher.note(unused)
    for what, record_ids in signals.findings.items():
        watcher.note(f"{what}: {len(record_ids):,}, the first {record_ids[0]}")
    return signals


def open_checkpoints(setup: Setup, options: Options, folder: RunFolder, watcher: Silent, world: World) -> Checkpoints:
    """Return the run's checkpoints. A run resumes from one only under the code that wrote it, torch's included."""
    code = {kind: source.sha256 for kind, source in code_of(setup.facts).items()}
    code |= {TORCH: str(torch.__version__), DEVICE: world.device.type}
    differs = partial(other_code, now=code)
    return Checkpoints(folder.path, world.is_main, watcher.note, options.checkpoint_minutes, code, differs)


def train_model(
    setup: Setup, signals: PreparedSignals, watcher: Silent, checkpoints: Checkpoints, world: World
) -> tuple[list[PhaseReport], Tensor]:
    """Train the model in place on folds 1-8 and select on fold 9.

    Returns a report of each phase, and the logits [record, label] of fold 9.
    """
    share_batch_norm(setup.model.to(world.device, dtype(setup.precision)), world)
    train_source, val_source = (
        SignalSource.of(signals, part, dtype(setup.precision), world.device)
        for part in (setup.parts.train, setup.parts.val)
    )
    require_own_outputs(setup.model, val_source, world.device)
    return train(
        setup.model,
        setup.method,
        setup.phases,
        train_source,
        val_source,
        seed=setup.cell.entropy,
        world=world,
        precision=setup.precision,
        watcher=watcher,
        checkpoints=checkpoints,
    )


def share_weights(setup: Setup, folder: RunFolder, world: World) -> None:
    """Save the selected weights, and load them on every rank, so that all ranks predict with the saved file."""
    if world.is_main:
        save_weights(setup.model, folder.path / WEIGHTS, about=setup.facts["origin"])
    world.wait()
    load_classifier(setup.model, folder.path / WEIGHTS)


def predict_folds(
    setup: Setup,
    signals: PreparedSignals,
    folds: Mapping[int, LabelTable],
    reports: Sequence[PhaseReport],
    val_logits: Tensor,
    watcher: Watcher,
    world: World,
    count: Callable[[float], None],
) -> dict[int, Predictions]:
    """Return fold -> logits for each of its records. A backbone that stayed frozen uses cached features.

    `val_logits`: those of the validation records, known from training; a manifest may leave out some of fold 9.
    `count` receives the seconds that an earlier run spent on features of fold 10; training has counted fold 9.
    """
    model, precision = setup.model, setup.precision
    frozen = all(report.on_features for report in reports)
    module = model.module_for(on_features=frozen)
    predictions = {}
    for fold, truth in folds.items():
        logits, progress = val_logits, partial(watcher.predicts, f"fold {fold}")
        if fold == TEST_FOLD or len(truth) > len(setup.parts.val):
            source: Source = SignalSource.of(signals, truth, dtype(precision), world.device)
            if frozen:
                began = time.monotonic()
                (source,), seconds = compute_features(model, [source], world, precision, progress=progress)
                if fold == TEST_FOLD:
                    count(seconds - (time.monotonic() - began))
            logits = predict(module, source, model.backbone.signal_spec.aggregate, world, precision, progress)
            require_finite_logits(logits, truth.ecg_id, fold)
        predictions[fold] = Predictions(truth.ecg_id, truth.labels, logits.float().numpy())
    return predictions


def make_method(reference: Reference) -> Method:
    """Return the method that a reference names."""
    method = make("method", reference)
    if not isinstance(method, Method):
        raise PluginError(f"method {reference.name!r} makes a {type(method).__name__}, expected a bench.plugin.Method")
    return method


def make_backbone(reference: Reference) -> Backbone:
    """Return the backbone that a reference names."""
    backbone = make("backbone", reference)
    if not isinstance(backbone, Backbone):
        kind = type(backbone).__name__
        raise PluginError(f"backbone {reference.name!r} makes a {kind}, expected a bench.plugin.Backbone")
    return backbone


def build_backbone(arch: Reference, seed: Seed) -> Backbone:
    """Return the backbone with random weights."""
    torch.manual_seed(int(random_stream(seed, "backbone").integers(2**62)))
    return make_backbone(arch)


def build_model(backbone: Backbone, num_labels: int, init: str | None, seed: Seed) -> tuple[Classifier, Init]:
    """Return the model with initial weights, and facts about these. The new head does not depend on the backbone's."""
    start = initialize(backbone, init)
    torch.manual_seed(int(random_stream(seed, "head").integers(2**62)))
    return Classifier(backbone, num_labels), start


def makers(cell: Cell, *, altered: bool) -> str:
    """Return facts that identify the backbone apart from its weights: its plugin, and a method that has altered it.

    Empty if a notebook defines one of these: its other cells may change what it computes.
    """
    plugins = [plugin_facts("backbone", cell.arch)] + [plugin_facts("method", cell.method)] * altered
    return "" if any(is_notebook(plugin["module"]) for plugin in plugins) else json.dumps(plugins, sort_keys=True)
