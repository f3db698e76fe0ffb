"""Part 5: what pays by itself. Each row is a training step with one thing changed, against the step as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from conftest import training_step
from machine import arithmetic, model, seconds, size, source, synthetic
from torch import Tensor, nn

from bench.training.batches import SignalSource, send

Add = Callable[..., None]


def run(add: Add, device: torch.device) -> None:
    given, on_card = size(device), device.type == "cuda"
    spec = model(given.arch, torch.device("cpu")).backbone.signal_spec
    samples = 10 * spec.rate if on_card else 250
    batches(add, given, spec, device)
    net = model(given.arch, device)
    plain = seconds(training_step(net, given.batch, samples, wait=False), device, given.repeats)
    add(f"{given.arch}: training step in bf16 as it is", 1e3 * plain, "ms")

    def against(what: str, step: Callable[[], object]) -> None:
        took = seconds(step, device, given.repeats)
        add(f"{given.arch}: {what}", plain / took, "times as fast")

    against("optimiser not fused", training_step(net, given.batch, samples, fused=False, wait=False))
    if on_card:
        torch.backends.cudnn.benchmark = True
        against("cuDNN tries its algorithms", training_step(net, given.batch, samples, wait=False))
        torch.backends.cudnn.benchmark = False
    with arithmetic("bf16", free=True):
        against("repeatability given up", training_step(net, given.batch, samples, wait=False))
    channels_last(add, given, device)
    if on_card:
        against("CUDA graph of the whole step", graphed(model(given.arch, device), given.batch, samples, device))
    compiling(add, given.arch if on_card else "fcn_wang", given, samples, device)  # last: it may take a minute


def batches(add: Add, given: Any, spec: Any, device: torch.device) -> None:
    """A batch of whole records to the device: held there, through pinned memory, and plainly."""
    num, length = 4 * given.batch, 10 * spec.rate
    data = synthetic(num, length)
    held = source(device, num, spec, length, data)
    host = SignalSource(held.signals, np.arange(num), held.labels, torch.float32)
    rows = np.random.default_rng(0).permutation(num)[: given.batch]
    ways = {
        "held on the device": lambda: held.training(rows, ()),
        "from the host, pinned": lambda: send(host.training(rows, ()), device),
        "from the host": lambda: host.training(rows, ()).to(device),
    }
    for what, way in ways.items():
        add(f"a batch of {given.batch} x 12 x {length}, {what}", 1e3 * seconds(way, device, given.repeats), "ms")


def compiling(add: Add, arch: str, given: Any, samples: int, device: torch.device) -> None:
    """torch.compile; on a CPU without code generated, as no compiler need be there: that proves the command alone."""
    net, backend = model(arch, device), "inductor" if device.type == "cuda" else "aot_eager"
    compiled = torch.compile(net, backend=backend)
    steps = (training_step(module, given.batch, samples, wait=False) for module in (net, compiled))
    plain, took = (seconds(step, device, given.repeats) for step in steps)
    add(f"{arch}: torch.compile by {backend}", plain / took, "times as fast")


def channels_last(add: Add, given: Any, device: torch.device) -> None:
    """xresnet1d computes in images of height 1, which may lie channels last."""
    arch, samples, num = given.speed[-1]
    times = []
    for kind in (torch.contiguous_format, torch.channels_last):
        net: Any = model(arch, device)
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=kind)
        times.append(seconds(training_step(net, num, samples, wait=False), device, given.repeats))
    add(f"{arch}: channels last", times[0] / times[1], "times as fast")


def graphed(net: nn.Module, num: int, samples: int, device: torch.device) -> Callable[[], Tensor]:
    """The training step as one CUDA graph: forwards, backwards and the optimiser."""
    signals = torch.randn(num, 12, samples, device=device)
    labels = torch.ones(num, 5, device=device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, fused=True, capturable=True)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            loss = F.binary_cross_entropy_with_logits(net(signals).float(), labels)
        loss.backward()
        optimizer.step()
        return loss

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay
