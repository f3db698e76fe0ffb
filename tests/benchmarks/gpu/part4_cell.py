"""Part 4: a whole cell of lpft-sd from arrays to scores, and a probe against one forward pass of its backbone."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import Quiet, model, shorter, size, source, synthetic, train, wait

from bench.evaluation.metrics import auroc
from bench.registry.reference import Reference
from bench.registry.registry import make
from bench.training.distributed import World
from bench.training.features import predict, run_windows
from bench.training.precision import resolve_precision

Add = Callable[..., None]


class Epochs(Quiet):
    """Adds a row as soon as the second epoch of a phase ends: the first warms up."""

    def __init__(self, add: Add) -> None:
        self.add = add

    def epoch_ends(self, facts: Any) -> None:
        if facts["epoch"] == 2:
            self.add(f"an epoch of {facts['phase']}, with fold 9", facts["seconds"], "s")


def run(add: Add, device: torch.device) -> None:
    given = size(device)
    net = model(given.arch, device)
    spec = net.backbone.signal_spec
    began = time.monotonic()
    data = synthetic(given.records, 10 * spec.rate)
    add(f"{given.records:,} records of 12 x {10 * spec.rate}, made", time.monotonic() - began, "s")
    folds = np.arange(given.records) % 10 + 1
    records, val, test = (
        source(device, given.records, spec, 10 * spec.rate, data, np.flatnonzero(mask))
        for mask in (folds < 9, folds == 9, folds == 10)
    )
    precision = resolve_precision("auto", device)
    world = World(0, 1, device)
    probe(add, given, net, records, val, precision, world)
    net = model(given.arch, device)
    with tempfile.TemporaryDirectory() as folder:
        wait(device)
        began = time.monotonic()
        method = make("method", Reference("lpft-sd"))
        method = shorter(method, given.epochs if device.type == "cuda" else given.finetune_epochs, given.batch)
        reports = train(
            net, method, records, val, device, precision=precision, folder=Path(folder), watcher=Epochs(add)
        )
        logits = predict(net, test, spec.aggregate, world, precision)
        took = time.monotonic() - began
    epochs = "+".join(str(len(report.train_loss)) for report in reports)
    add(f"lpft-sd on {given.arch}, {epochs} epochs, {precision}, checkpoints and fold 10", took, "s")
    add("its macro AUROC on fold 10", float(np.nanmean(auroc(test.labels.numpy(), logits.numpy()))))


def probe(add: Add, given: Any, net: Any, records: Any, val: Any, precision: Any, world: World) -> None:
    """30 epochs on features, against the forward pass over folds 1 to 9 that gives these."""
    for source_ in (records, val):  # both hold their signals from now on
        source_.windows(np.arange(2))
    run_windows(net.backbone, val, world, precision)
    wait(world.device)
    began = time.monotonic()
    for source_ in (records, val):
        run_windows(net.backbone, source_, world, precision)
    wait(world.device)
    once = time.monotonic() - began
    add(f"{given.arch}: one forward pass over folds 1 to 9", once, "s")
    began = time.monotonic()
    method = shorter(make("method", Reference("lp")), given.epochs, given.batch)
    train(net, method, records, val, world.device, precision=precision)
    wait(world.device)
    ratio = (time.monotonic() - began) / once
    met = ratio < 1.3 if world.device.type == "cuda" else None
    add(f"{given.arch}: a probe of {given.epochs} epochs against it", ratio, "times", "< 1.3", met)
