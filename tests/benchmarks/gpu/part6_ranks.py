"""Part 6: NCCL with one process, and as many as there are cards; on a CPU, gloo with two."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed
from machine import model, seconds, shorter, size, source, train

from bench.registry.reference import Reference
from bench.registry.registry import make
from bench.training.batch_norm import share_batch_norm
from bench.training.distributed import World, join

Add = Callable[..., None]
KINDS = {"float64": 1e-6, "float32": 0.001}
"""Precision -> bound on the largest difference of a weight between several processes and one; float64's is judged.

0.001 in float32 judges nothing and fails right code. Adam's first step is g / (|g| + 1e-8) of the learning rate, so at
most 5e-4 here; the second has a 50th of that rate. Any two runs differ by 2 x 5.1e-4 at most, also where a rank trains
on other records. Where a gradient g is 0 but for the rounding of its sum, which ranks add in another order, float32
leaves about 1e-7 of the terms, well above 1e-8, and so a whole step of either sign: 0.001 between two. float64 leaves
about 1e-16, so 1e-8 of a step; there a wrong gradient shows.
"""


def run(add: Add, device: torch.device) -> None:
    on_card = device.type == "cuda"
    single(add, device)
    ranks = torch.cuda.device_count() if on_card else 2
    if ranks < 2:
        add("cards for several processes", ranks)
        return
    alone = {kind: fitted(World(0, 1, device), kind) for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        path, port = Path(folder) / "weights.pt", free_port()
        processes = [
            subprocess.Popen([sys.executable, __file__, str(path)], env=rank_environment(rank, ranks, port))
            for rank in range(ranks)
        ]
        if sum(abs(process.wait()) for process in processes):  # each is waited for
            raise RuntimeError("a rank failed; its error is above")
        together = torch.load(path, weights_only=True)
    for kind, goal in KINDS.items():
        largest = max(
            float((alone[kind][key].double() - together[kind][key].double()).abs().max()) for key in alone[kind]
        )
        met = largest < goal if kind == "float64" else None
        add(f"{ranks} processes against one, {kind}: largest difference of a weight", largest, "", f"< {goal:g}", met)


def single(add: Add, device: torch.device) -> None:
    """The collectives of a run in a group of one process, and a batch norm over it."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        torch.distributed.init_process_group(backend, init_method=f"file://{folder}/group", rank=0, world_size=1)
        try:
            value = torch.ones(30_700_000 if device.type == "cuda" else 1000, device=device)
            took = seconds(lambda: torch.distributed.all_reduce(value), device, size(device).repeats)
            add(f"{backend}, one process: all-reduce of {value.numel():,} numbers", 1e3 * took, "ms")
            net = model("xresnet1d18", device)
            share_batch_norm(net, World(0, 2, device))  # as in a world of several
            signals = torch.randn(8, 12, 250, device=device)
            net(signals).sum().backward()
            shared = net.state_dict()
            net = model("xresnet1d18", device)
            net(signals)
            before_dropout = [key for key in shared if "running" in key and "tail" not in key]
            error = max(float((net.state_dict()[key] - shared[key]).abs().max()) for key in before_dropout)
            add(f"{backend}, one process: shared batch norm, error of statistics", error, "", "< 1e-5", error < 1e-5)
        finally:
            torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def rank_environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What torchrun would tell a rank."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    return {**os.environ, "MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in names.items()}}


def fitted(world: World, precision: str) -> dict[str, torch.Tensor]:
    """Weights after an epoch of fine-tuning, on the CPU."""
    dtype = torch.float64 if precision == "float64" else torch.float32
    net = model("xresnet1d18", world.device).to(dtype)
    spec = net.backbone.signal_spec
    records = source(world.device, size(world.device).few, spec, 10 * spec.rate, dtype=dtype)
    share_batch_norm(net, world)
    method = shorter(make("method", Reference("ft")), 1, 16)
    train(net, method, records, records, world.device, world=world, precision=precision)
    return {key: value.cpu() for key, value in net.state_dict().items()}


if __name__ == "__main__":
    with join() as joined:
        weights = {kind: fitted(joined, kind) for kind in KINDS}
        if joined.is_main:
            torch.save(weights, sys.argv[1])
        joined.wait()
