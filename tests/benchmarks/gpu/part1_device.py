"""Part 1: every tensor of a step is on the device, and no step waits for it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import Quiet, model, shorter, size, source, train
from torch.utils._python_dispatch import TorchDispatchMode

from bench.registry.reference import Reference
from bench.registry.registry import make
from bench.training.distributed import World
from bench.training.features import compute_features, predict

Add = Callable[..., None]
KINDS = (
    ("lp", "net1d_mini", "a probe on features"),
    ("ft", "net1d_mini", "full fine-tuning"),
    ("lpft-sd", "net1d_mini", "stochastic depth"),
    ("ft", "xresnet1d18", "batch norm"),
    ("ft", "lstm", "dropout of an LSTM"),
    ("ft", "s4", "dropout of channels, complex numbers"),
    ("ft-sd", "vit1d_tiny", "attention and crops"),
)


class Traffic(TorchDispatchMode):
    """Counts reads of a number from a tensor and copies from the device to the host."""

    reads = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = str(function.overloadpacket)
        leaves = (
            isinstance(result, torch.Tensor)
            and result.device.type == "cpu"
            and any(isinstance(value, torch.Tensor) and value.device.type != "cpu" for value in args)
        )
        self.reads += name == "aten._local_scalar_dense" or leaves
        return result


def run(add: Add, device: torch.device) -> None:
    few = size(device).few
    for method, arch, what in KINDS:
        add(f"{what} ({method} on {arch}): tensors elsewhere", *discipline(method, arch, few, device))
    net = model("net1d_mini", device)
    whole, world = source(device, few, net.backbone.signal_spec, 1000), World(0, 1, device)
    features, _ = compute_features(net, [whole], world, "float32")
    add("features: tensors elsewhere", int(features[0].features.device != device), "", "0", True)
    logits = predict(net, whole, "max", world, "float32")
    add("predictions on the host", tuple(logits.shape) == (few, 5) and logits.device.type == "cpu")


def discipline(name: str, arch: str, num: int, device: torch.device) -> tuple[int, str, str, bool]:
    """Train with checkpoints; how many parameters and buffers are elsewhere, with the waits of a step in mid-epoch."""
    net = model(arch, device)
    spec = net.backbone.signal_spec
    records = source(device, num, spec, spec.rate * 10)
    method, watcher, marks = shorter(make("method", Reference(name)), 2, num // 3), Quiet(), list[int]()
    with tempfile.TemporaryDirectory() as folder, Traffic() as traffic:
        watcher.after_step = lambda: marks.append(traffic.reads)
        train(net, method, records, records, device, watcher=watcher, folder=Path(folder))
        state = torch.load(max(Path(folder).glob("checkpoint-*.pt")), map_location="cpu", weights_only=True)
    elsewhere = sum(value.device.type != device.type for value in net.state_dict().values())
    saved = state["best"]
    kept = all(torch.equal(value.cpu(), saved[key]) for key, value in net.state_dict().items() if key in saved)
    waits = int(np.min(np.diff(marks)))
    assert kept, "the checkpoint holds other weights than the model"
    return elsewhere + waits, "(with waits a step)", "0", elsewhere + waits == 0
