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
    same = digest(killed_and_resumed(device)) == digest(fit(device))
    add("a killed run ends in the same bits", same, "", "True", same)
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
) -> Any:
    """The backbone after two epochs a phase; a checkpoint after every step where there is a folder."""
    net = model(arch, device)
    method = shorter(make("method", Reference(REPEATED[arch])), EPOCHS, BATCH)
    records = small(device, arch)
    train(net, method, records, records, device, folder=folder, watcher=watcher, minutes=0, precision=precision)
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


def killed_and_resumed(device: torch.device) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run([sys.executable, __file__, folder], check=False)
        assert ended.returncode == -signal.SIGKILL, f"the run to be killed ended with {ended.returncode}"
        assert list(Path(folder).glob("checkpoint-*.pt"))
        return fit(device, Path(folder))


def run_until_killed(folder: Path) -> None:
    """Die in the middle of the first epoch of fine-tuning."""
    watcher, steps = Quiet(), []
    with join() as world:
        last = EPOCHS * (size(world.device).few // BATCH) + 2

        def after_step() -> None:
            steps.append(1)
            if len(steps) == last:
                os.kill(os.getpid(), signal.SIGKILL)

        watcher.after_step = after_step
        fit(world.device, folder, watcher)


if __name__ == "__main__":
    offer_plugins(Path(sys.argv[1]))
    run_until_killed(Path(sys.argv[1]))
