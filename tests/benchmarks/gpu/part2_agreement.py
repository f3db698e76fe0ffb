"""Part 2: bf16 against float32, two runs, a killed run that goes on, and the CPU against the card."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import Quiet, model, offer_plugins, shorter, size, source, train

from bench.evaluation.metrics import auroc
from bench.registry.reference import Reference
from bench.registry.registry import make
from bench.training.distributed import World, join
from bench.training.features import predict

BATCH, EPOCHS = 16, 2
REPEATED = {"net1d_mini": "lpft-sd", "xresnet1d18": "ft", "inception1d": "ft"}
"""Backbone -> method of the runs that are repeated: the last two pool maxima of windows that overlap, whose gradients
a card may add in any order."""
KILLED = {"lpft-sd": "in an epoch", "wise-ft": "in finish()"}
"""Method -> where its run is killed. In finish() the resumed run has its best weights from the checkpoint."""


def run(add: Callable[..., None], device: torch.device) -> None:
    net, few = model(size(device).arch, device), size(device).few
    spec = net.backbone.signal_spec
    records, world = source(device, few, spec, 10 * spec.rate), World(0, 1, device)
    exact = predict(net, records, "max", world, "float32")
    rounded = predict(net, records, "max", world, "bf16")
    error = float((rounded - exact).norm() / exact.norm())
    add("bf16 against float32: error of logits", error, "", "< 0.02", error < 0.02)
    for arch in REPEATED:
        repeated(add, arch, device)
    for method, moment in KILLED.items():
        same = digest(killed_and_resumed(method, device)) == digest(fit(device, method=method))
        add(f"a run of {method} that is killed {moment} ends in the same bits", same, "", "True", same)
    logits = {}
    for kind in ("float32", "bf16"):
        net = fit(device, precision=kind)
        logits[kind] = predict(net, small(device), "max", world, kind)
    scores = {kind: float(auroc(small(device).labels.numpy(), value.numpy()).mean()) for kind, value in logits.items()}
    difference = scores["bf16"] - scores["float32"]
    add("AUROC of bf16 less that of float32, trained so", difference, "", "within 0.01", abs(difference) < 0.01)
    cpu = torch.device("cpu")
    there, here = (predict(fit(at), small(at), "max", World(0, 1, at), "float32") for at in (device, cpu))
    error = float((there - here).norm() / here.norm())
    add("card against CPU, trained: error of logits", error, "", "< 0.01", error < 0.01)


def small(device: torch.device, arch: str = "net1d_mini") -> Any:
    return source(device, size(device).few, model(arch, torch.device("cpu")).backbone.signal_spec, 1000)


def fit(
    device: torch.device,
    folder: Path | None = None,
    watcher: Any = None,
    precision: str = "float32",
    arch: str = "net1d_mini",
    method: str | None = None,
) -> Any:
    """The backbone after two epochs a phase; a checkpoint after every step where there is a folder."""
    net = model(arch, device)
    recipe = shorter(make("method", Reference(method or REPEATED[arch])), EPOCHS, BATCH)
    records = small(device, arch)
    train(net, recipe, records, records, device, folder=folder, watcher=watcher, minutes=0, precision=precision)
    return net


def repeated(add: Callable[..., None], arch: str, device: torch.device) -> None:
    """Whether two runs end in the same bits, and which operations torch says may not repeat."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first, second = fit(device, arch=arch), fit(device, arch=arch)
    same = digest(first) == digest(second)
    add(f"two runs of {REPEATED[arch]} on {arch} have the same bits", same, "", "True", same)
    texts = [str(warning.message) for warning in caught]
    warned = sorted({text.split()[0] for text in texts if "deterministic" in text})
    add(f"operations in them that torch says may not repeat, {arch}", ", ".join(warned) or "none")


def digest(net: Any) -> str:
    """SHA-256 of all weights and buffers."""
    values = net.state_dict().values()
    return hashlib.sha256(b"".join(value.cpu().numpy().tobytes() for value in values)).hexdigest()


def killed_and_resumed(method: str, device: torch.device) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run([sys.executable, __file__, folder, method], check=False)
        assert ended.returncode == -signal.SIGKILL, f"the run to be killed ended with {ended.returncode}"
        assert list(Path(folder).glob("checkpoint-*.pt"))
        return fit(device, Path(folder), method=method)


class Killed(Quiet):
    """Dies in the middle of the first epoch of fine-tuning, or at the first score after its last epoch."""

    def __init__(self, moment: str, steps_per_epoch: int) -> None:
        self.moment, self.last = moment, EPOCHS * steps_per_epoch + 2
        self.steps = self.epochs = 0

    def step_ends(self) -> None:
        self.steps += 1
        if self.moment == "in an epoch" and self.steps == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def epoch_ends(self, facts: Any) -> None:
        self.epochs += 1

    def predicts(self, *facts: object) -> None:
        if self.epochs == 2 * EPOCHS:  # of the probe and of fine-tuning
            os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(folder: Path, method: str) -> None:
    with join() as world:
        watcher = Killed(KILLED[method], size(world.device).few // BATCH)
        fit(world.device, folder, watcher, method=method)


if __name__ == "__main__":
    offer_plugins(Path(sys.argv[1]))
    run_until_killed(Path(sys.argv[1]), sys.argv[2])
