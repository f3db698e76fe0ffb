"""The spine: one cell from records to a result. Read `execute` first; each of its lines is one module's work."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from bench.cell import Cell, digest
from bench.data.prepared import PreparedSignals, choose_source_rate, prepare_signals
from bench.data.ptbxl import Records, load_records
from bench.data.signals import PREPROCESSINGS
from bench.data.splits import TEST_FOLD, VAL_FOLD, Split, held_out, split
from bench.data.tasks import LabelTable, find_task, label_table
from bench.errors import Incompatible, PluginError
from bench.evaluation.predictions import Predictions
from bench.evaluation.scores import score_fold
from bench.provenance import environment, peak_memory_mib, plugin_facts
from bench.registry import Reference, make
from bench.reporting.results import Result, RunFolder
from bench.reporting.tracking import Wandb, watch
from bench.training.batch_norm import share_batch_norm
from bench.training.batches import SignalSource, random_stream
from bench.training.checkpoint import Checkpoints
from bench.training.distributed import World, join
from bench.training.features import predict
from bench.training.loop import rehearse, train
from bench.training.method import Method
from bench.training.model import Backbone, Classifier, count_parameters
from bench.training.precision import Precision, dtype, resolve_precision
from bench.training.weights import WEIGHTS, Init, hash_weights, initialize, load_classifier, save_weights


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a cell is run. Nothing here changes its result."""

    runs: Path = Path("runs")
    stage: Literal["val", "test"] = "test"
    """`val` ends with the predictions of fold 9; `test` adds fold 10."""
    overwrite: bool = False
    wandb: Wandb = "off"
    keep_weights: bool = True
    console: Console = field(default_factory=lambda: Console(stderr=True))


def execute(cell: Cell, options: Options) -> Result:
    """Run a cell and return its result. A finished cell is only loaded, an unfinished one goes on where it was."""
    began = time.monotonic()
    with join() as world:
        records = load_records(cell.data)
        table = label_table(records, find_task(cell.task))
        parts = split(table, cell.fraction, cell.draw)
        method = make_method(cell.method)
        model, init = build_model(cell.arch, len(table.labels), cell.init, cell.seed)
        precision = resolve_precision(cell.precision, world.device)
        plan = describe(cell, records, table, parts, model, init, precision)
        folder = RunFolder(options.runs / cell.task / cell.folder_name(plan["digest"]), options.stage, world.is_main)
        if not options.overwrite and (finished := folder.finished()):
            return finished
        with folder, watch(folder.path, options.console, options.wandb, plan, world.is_main) as watcher:
            try:
                method.prepare(model, init.name)
                rehearse(model, method)
            except Incompatible as reason:
                watcher.finish({"incompatible": str(reason)})
                return folder.finish({**plan, "stage": options.stage, "incompatible": str(reason)}, {})
            signals = prepare_signals(records, model.backbone.signals, cell.source_rate, watcher.prepared)
            share_batch_norm(model.to(world.device, dtype(precision)), world)
            reports = train(
                model,
                method,
                SignalSource.of(signals, parts.train, dtype(precision)),
                SignalSource.of(signals, parts.val, dtype(precision)),
                seed=cell.seed,
                world=world,
                precision=precision,
                watcher=watcher,
                checkpoints=Checkpoints(folder.path, writes=world.is_main, note=watcher.note),
            )
            if world.is_main:
                save_weights(model, folder.path / WEIGHTS, about=plan["origin"])
            world.wait()
            load_classifier(model, folder.path / WEIGHTS)
            folds = {VAL_FOLD: parts.val} | ({TEST_FOLD: held_out(table)} if options.stage == "test" else {})
            predictions = {fold: predict_fold(model, signals, truth, world, precision) for fold, truth in folds.items()}
            document = {
                **plan,
                "stage": options.stage,
                "incompatible": None,
                "signals": {**plan["signals"], "scaling": asdict(signals.scaling), "findings": signals.findings},
                "training": [asdict(report) for report in reports],
                "weights_sha256": hash_weights(model.state_dict()),
                "reads_of_fold_10": [
                    {
                        "at": datetime.now(UTC).isoformat(timespec="seconds"),
                        "records": len(truth),
                        "for": "final scores",
                    }
                    for fold, truth in folds.items()
                    if fold == TEST_FOLD
                ],
                "metrics": {
                    f"fold_{fold}": score_predictions(predictions[fold], truth, intervals=fold == TEST_FOLD)
                    for fold, truth in folds.items()
                },
                "cost": {"seconds": time.monotonic() - began, "peak_memory_mib": peak_memory_mib(world)},
                "environment": environment(world),
            }
            watcher.finish(document["metrics"])
            return folder.finish(document, predictions, keep=[WEIGHTS] if options.keep_weights else [])


def make_method(reference: Reference) -> Method:
    """The method that a reference stands for."""
    method = make("method", reference)
    if not isinstance(method, Method):
        raise PluginError(f"method {reference.name!r} makes a {type(method).__name__}, expected a bench.plugin.Method")
    return method


def build_model(arch: Reference, num_labels: int, init: str | None, seed: int) -> tuple[Classifier, Init]:
    """A backbone with its first weights and a new head; the head's do not depend on the backbone's."""
    torch.manual_seed(int(random_stream(seed, "backbone").integers(2**62)))
    backbone = make("backbone", arch)
    if not isinstance(backbone, Backbone):
        raise PluginError(f"backbone {arch.name!r} makes a {type(backbone).__name__}, expected a bench.plugin.Backbone")
    start = initialize(backbone, init)
    torch.manual_seed(int(random_stream(seed, "head").integers(2**62)))
    return Classifier(backbone, num_labels), start


def predict_fold(
    model: Classifier, signals: PreparedSignals, truth: LabelTable, world: World, precision: Precision
) -> Predictions:
    """The model's logits for every record of a fold."""
    source = SignalSource.of(signals, truth, dtype(precision))
    logits = predict(model, source, model.backbone.signals.aggregate, world, precision)
    return Predictions(truth.ecg_id, truth.labels, logits.to(torch.float64).numpy().astype(np.float32))


def score_predictions(predictions: Predictions, truth: LabelTable, *, intervals: bool) -> dict[str, Any]:
    """All metrics of a fold as plain data."""
    patients = truth.patient_id if intervals else None
    return score_fold(truth.y_true, predictions.logits, truth.labels, patients)


def describe(
    cell: Cell,
    records: Records,
    table: LabelTable,
    parts: Split,
    model: Classifier,
    init: Init,
    precision: Precision,
) -> dict[str, Any]:
    """What the cell is, before it runs: the first half of its result, with the digest of what changes the outcome."""
    spec = model.backbone.signals
    method, backbone = plugin_facts("method", cell.method), plugin_facts("backbone", cell.arch)
    phases = [asdict(phase) for phase in make_method(cell.method).phases()]
    source_rate = choose_source_rate(spec, cell.source_rate)
    signals = {**asdict(spec), "version": PREPROCESSINGS[spec.preprocessing].version}
    facts = {
        "task": table.fingerprint,
        "fraction": cell.fraction,
        "draw": cell.draw if cell.fraction < 1 else None,
        "signals": signals,
        "source_rate": source_rate,
        "method": [method["name"], method["resolved"], phases],
        "backbone": [backbone["name"], backbone["resolved"]],
        "init": init.sha256,
        "precision": precision,
        "seed": cell.seed,
    }
    identity = digest(facts)
    return {
        "digest": identity,
        "cell": {
            "task": table.task,
            "arch": str(cell.arch),
            "method": str(cell.method),
            "init": cell.init,
            "fraction": cell.fraction,
            "draw": cell.draw,
            "seed": cell.seed,
            "source_rate": source_rate if source_rate != spec.rate else None,
            "precision": precision,
            "command": cell.command(),
        },
        "dataset": {"name": records.name, "synthetic": records.synthetic, "num_records": len(records)},
        "task": {"name": table.task, "fingerprint": table.fingerprint, "labels": list(table.labels)},
        "split": {
            "train_records": len(parts.train),
            "val_records": len(parts.val),
            "train_patients": len(np.unique(parts.train.patient_id)),
            "train_positives": dict(zip(table.labels, parts.train.y_true.sum(axis=0).tolist(), strict=True)),
            "labels_without_training_positive": parts.unseen_labels,
        },
        "method": {**method, "phases": phases},
        "backbone": {
            **backbone,
            "parameters": count_parameters(model),
            "feature_dim": model.backbone.feature_dim,
        },
        "signals": signals,
        "init": asdict(init),
        "origin": {
            "digest": identity,
            "trained_on": f"{table.task} of {records.name}, folds 1-8",
            "command": cell.command(),
        },
    }
