"""Part 3: training and prediction against the published formulation and against the card's own matrix products."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from bench_baselines import in_one_dimension
from bench_net1d import PlainNet1D
from conftest import training_step
from machine import KINDS, arithmetic, idle_share, matrix_rate, model, seconds, size
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from baselines.vit1d import Attention, ViT1d

Add = Callable[..., None]


class PublishedAttention(nn.Module):
    """Attention as ECG-JEPA and ViTs of its time have it: the weights in full, [record, head, to, from]."""

    def __init__(self, fast: Attention) -> None:
        super().__init__()
        self.num_heads, self.qkv, self.out = fast.num_heads, fast.qkv, fast.out

    def forward(self, x: Tensor, allowed: Tensor | None = None) -> Tensor:
        assert allowed is None, "ViT1d masks nothing"
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def published(net: Any) -> nn.Module:
    """The same network in its published formulation, with weights of its own."""
    plain: Any = copy.deepcopy(net)
    if hasattr(plain.backbone, "stage_list"):
        return PlainNet1D(plain).to(next(net.parameters()).device)
    if isinstance(plain.backbone, ViT1d):
        for block in plain.backbone.blocks:
            block.attention[1] = PublishedAttention(block.attention[1])
    else:
        plain.backbone.layers = in_one_dimension(nn.Sequential(*plain.backbone.layers)).to(net.head.weight.device)
    return plain  # type: ignore[no-any-return]


def operations(arch: str, samples: int) -> tuple[int, int]:
    """Of a record's forward pass, and of a training step.

    Each product has two gradients of as many operations, but the signals need none. The backward pass is not counted
    by FlopCounterMode itself, which takes the weights' gradient of a convolution in g groups for g times its operations
    (torch 2.11 and 2.13): 2.9 times too many for ECGFounder's step.
    """
    net = model(arch, torch.device("cpu")).eval()
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        net(torch.randn(1, 12, samples))
    forward = counted.get_total_flops()
    of_modules = {name: sum(kinds.values()) for name, kinds in counted.get_flop_counts().items()}
    names = [name for name in (f"Classifier.{name}" for name, _ in net.named_modules()) if name in of_modules]
    innermost = (name for name in names if not any(other.startswith(f"{name}.") for other in names))
    first = of_modules[next(innermost)]
    return forward, 3 * forward - first


def run(add: Add, device: torch.device) -> None:
    given, rates = size(device), {}
    for kind in KINDS:
        rates[kind] = matrix_rate(kind, device, given.side)
        add(f"matrix products of {given.side} x {given.side} in {kind}", rates[kind] / 1e12, "TFLOP/s")
    for arch, samples, num in given.speed:
        measure(add, arch, samples, num, rates, device)


def measure(add: Add, arch: str, samples: int, num: int, rates: dict[str, float], device: torch.device) -> None:
    forward, whole = operations(arch, samples)
    net, on_card, repeats = model(arch, device), device.type == "cuda", size(device).repeats
    plain, took, what = published(net), dict[tuple[str, str], float](), f"{arch}, {num} records of 12 x {samples}"
    compare_outputs(add, net, plain, samples, device)
    for name, module in (("here", net), ("published", plain)):
        module.train()
        for kind in KINDS if on_card else ("float32", "bf16"):
            with arithmetic(kind, free=name == "published"):
                if on_card:
                    torch.cuda.reset_peak_memory_stats()
                step = training_step(module, num, samples, bf16=kind == "bf16", fused=name == "here", wait=False)
                took[name, kind] = seconds(step, device, repeats)
                add(f"{what}: training step, {name}, {kind}", 1e3 * took[name, kind], "ms")
                if on_card:
                    add(f"{what}: peak memory, {name}, {kind}", torch.cuda.max_memory_allocated() / 2**30, "GiB")
                if (name, kind) == ("here", "bf16"):
                    idle = idle_share(step, device, repeats)
                    if idle is not None:
                        add(f"{what}: card idle, training in bf16", idle, "", "< 0.05", idle < 0.05)
    verdict = lambda met: met if on_card else None
    ratio = took["published", "float32"] / took["here", "bf16"]
    add(f"{what}: bf16 against published float32", ratio, "times", ">= 3", verdict(ratio >= 3))
    share = num * whole / took["here", "bf16"] / rates["bf16"]
    add(f"{what}: share of the matrix rate, bf16", share, "", ">= 0.4", verdict(share >= 0.4))
    predicting(add, what, net, plain, num * forward, (num, samples), device)


def compare_outputs(add: Add, net: nn.Module, plain: nn.Module, samples: int, device: torch.device) -> None:
    """Both compute the same function."""
    few = torch.randn(4, 12, samples, device=device)
    with torch.no_grad(), arithmetic("float32"):
        expected = plain.eval()(few)
        error = float((net.eval()(few) - expected).norm() / expected.norm())
    add("here against published: error of logits in float32", error, "", "< 0.001", error < 1e-3)


def predicting(
    add: Add, what: str, net: nn.Module, plain: nn.Module, flops: int, shape: tuple[int, int], device: torch.device
) -> None:
    signals = torch.randn(shape[0], 12, shape[1], device=device)

    def predicted(module: nn.Module, kind: str) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=kind == "bf16"):
            return module(signals)  # type: ignore[no-any-return]

    for name, module, kind in (("here", net, "bf16"), ("published", plain, "float32")):
        module.eval()
        with torch.no_grad(), arithmetic(kind, free=name == "published"):
            took = seconds(functools.partial(predicted, module, kind), device, size(device).repeats)
        add(f"{what}: predictions, {name}, {kind}", 1e3 * took, f"ms, {flops / took / 1e12:.3g} TFLOP/s")
