"""Part 1: every operation of a step, of features and of predictions is on the device, and none waits for it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import Quiet, model, shorter, size, source, train
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.registry.reference import Reference
from bench.registry.registry import make
from bench.training.distributed import World
from bench.training.features import compute_features, predict, run_windows

Add = Callable[..., None]
KINDS = (
    ("lp", "net1d_mini", "a probe on features"),
    ("ft", "net1d_mini", "full fine-tuning"),
    ("lpft-sd", "net1d_mini", "stochastic depth"),
    ("ft", "xresnet1d18", "batch norm"),
    ("ft", "lstm", "dropout of an LSTM"),
    ("auto-rgn", "lstm", "gradients before training, in eval mode, of an LSTM"),
    ("bitfit", "lstm", "training an LSTM in eval mode"),
    ("ft", "s4", "dropout of channels, complex numbers"),
    ("ft-sd", "vit1d_tiny", "attention and crops"),
)
READ = "aten._local_scalar_dense"
"""What `float(tensor)`, `.item()` and `if tensor:` call; on a card the host then waits."""


class Census(TorchDispatchMode):
    """Counts operations by name that take or make a tensor elsewhere than on the device, and those that read a number.

    Autograd runs its backward operations under the mode of the thread that called it, so they count too. Tensors in
    pinned memory, and the operations that put them there, are on their way to the device and do not count.
    """

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.device_type = device_type
        self.elsewhere: Counter[str] = Counter()
        self.reads = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = str(function.overloadpacket)
        self.reads += name == READ
        if "pin" not in name and any(map(self._is_elsewhere, tree_leaves((args, kwargs, result)))):
            self.elsewhere[name] += 1
        return result

    def _is_elsewhere(self, value: object) -> bool:
        return isinstance(value, torch.Tensor) and value.device.type != self.device_type and not value.is_pinned()


@contextlib.contextmanager
def waits_reported(device: torch.device) -> Iterator[Callable[[], int]]:
    """How many waits for a card torch itself has reported so far; none on a CPU, which it knows none of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lambda: sum("synchronizing" in str(warning.message) for warning in caught)
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")


class Steps(Quiet):
    """Takes the counts after every step, those of an epoch together."""

    def __init__(self, count: Callable[[], tuple[Counter[str], int]]) -> None:
        self.count = count
        self.epochs: list[list[tuple[Counter[str], int]]] = [[]]

    def step_ends(self) -> None:
        self.epochs[-1].append(self.count())

    def epoch_ends(self, facts: Any) -> None:
        self.epochs.append([])

    def most(self) -> tuple[Counter[str], int]:
        """The most that a step which follows another in its epoch has added: validation lies between epochs."""
        elsewhere, waits = Counter[str](), 0
        pairs = [pair for epoch in self.epochs for pair in itertools.pairwise(epoch)]
        assert pairs, "no epoch had two steps"
        for (names_before, waits_before), (names, waits_after) in pairs:
            elsewhere |= names - names_before
            waits = max(waits, waits_after - waits_before)
        return elsewhere, waits


def run(add: Add, device: torch.device) -> None:
    num = size(device).checked
    for method, arch, what in KINDS:
        discipline(functools.partial(add_of, add, f"{what} ({method} on {arch})"), method, arch, num, device)
    passes(add, num, device)
    filtered_windows(add, min(num, 32), device)


def add_of(add: Add, whose: str, what: str, *row: object) -> None:
    """A row of one kind of phase."""
    add(f"{whose}: {what}", *row)


def discipline(add: Add, name: str, arch: str, num: int, device: torch.device) -> None:
    """Train two epochs a phase with checkpoints: where tensors are, and what a step in mid-epoch waits for."""
    net = model(arch, device)
    spec = net.backbone.signal_spec
    records = source(device, num, spec, spec.rate * 10)
    method = shorter(make("method", Reference(name)), 2, num // 3)
    with (
        tempfile.TemporaryDirectory() as folder,
        waits_reported(device) as reported,
        Census(device.type) as census,
    ):
        steps = Steps(lambda: (census.elsewhere.copy(), max(census.reads, reported())))
        train(net, method, records, records, device, watcher=steps, folder=Path(folder))
        state = torch.load(max(Path(folder).glob("checkpoint-*.pt")), map_location="cpu", weights_only=True)
    elsewhere, waits = steps.most()
    values = net.state_dict()
    away = sum(value.device.type != device.type for value in values.values())
    add("weights and buffers elsewhere", away, "", "0", away == 0)
    add("operations of a step with a tensor elsewhere", *counted(elsewhere))
    add("waits of a step", waits, "", "0", waits == 0)
    kept = all(torch.equal(value.cpu(), state["best"][key]) for key, value in values.items() if key in state["best"])
    add("its last checkpoint holds the weights", kept, "", "True", kept)


def passes(add: Add, num: int, device: torch.device) -> None:
    """Batches of records through the network without gradients, which give features and predictions."""
    net, world = model("net1d_mini", device), World(0, 1, device)
    whole = source(device, num, net.backbone.signal_spec, 1000)
    whole.windows(np.arange(1))  # the device holds the records from now on
    with waits_reported(device) as reported, Census(device.type) as census:
        run_windows(net, whole, world, "float32")
        waits = max(census.reads, reported())
    add("a pass without gradients: operations with a tensor elsewhere", *counted(census.elsewhere))
    add("a pass without gradients: waits", waits, "", "0", waits == 0)
    features, _ = compute_features(net, [whole], world, "float32")
    away = int(features[0].features.device.type != device.type)
    add("features: tensors elsewhere", away, "", "0", away == 0)
    logits = predict(net, whole, "max", world, "float32")
    right = tuple(logits.shape) == (num, 5) and logits.device.type == "cpu"
    add("predictions are on the host, a row a record", right, "", "True", right)


def filtered_windows(add: Add, num: int, device: torch.device) -> None:
    """Windows that are filtered on the host after they are cut, as ST-MEM's: where they are, and what they hold."""
    from bench.data.signals import SignalSpec
    from bench.training.batches import SignalSource

    spec = SignalSpec(250, "st_mem", window_s=9, stride_s=0.5, aggregate="mean", per_window=True)
    given = source(device, num, spec, spec.rate * 10)
    plain = SignalSource(given.signals, given.rows, given.labels, given.dtype)
    rows = np.arange(num)
    whole, crops = given.windows(rows), given.training(rows, (0, "finetune", 0))
    away = sum(signals.device.type != device.type for signals in (whole, crops))
    add("windows filtered on the host: tensors elsewhere", away, "", "0", away == 0)
    same = torch.equal(whole.cpu(), plain.windows(rows))
    same = same and torch.equal(crops.cpu(), plain.training(rows, (0, "finetune", 0)))
    add("windows filtered on the host: as on the CPU", same, "", "True", same)
    norm = float((whole.square().mean((2, 3)) - 1).abs().max())
    add("windows filtered on the host: largest distance of a variance from 1", norm, "", "below 1e-3", norm < 1e-3)


def counted(elsewhere: Counter[str]) -> tuple[int, str, str, bool]:
    """Value, unit, goal and verdict of operations by name."""
    names = ", ".join(f"{num} {name}" for name, num in sorted(elsewhere.items()))
    return elsewhere.total(), f"({names})" if names else "", "0", not elsewhere
