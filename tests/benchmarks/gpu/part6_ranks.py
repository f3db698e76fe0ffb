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


def run(add: Add, device: torch.device) -> None:
    on_card = device.type == "cuda"
    single(add, device)
    ranks = torch.cuda.device_count() if on_card else 2
    if ranks < 2:
        add("cards for several processes", ranks)
        return
    alone = fitted(World(0, 1, device))
    with tempfile.TemporaryDirectory() as folder:
        path, port = Path(folder) / "weights.pt", free_port()
        processes = [
            subprocess.Popen([sys.executable, __file__, str(path)], env=rank_environment(rank, ranks, port))
            for rank in range(ranks)
        ]
        if sum(abs(process.wait()) for process in processes):  # each is waited for
            raise RuntimeError("a rank failed; its error is above")
        together = torch.load(path, weights_only=True)
    before, after = (torch.cat([value.double().flatten() for value in w.values()]) for w in (alone, together))
    error = float((after - before).norm() / before.norm())
    add(f"{ranks} processes against one: error of all weights", error, "", "< 0.001", error < 1e-3)


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


def fitted(world: World) -> dict[str, torch.Tensor]:
    """Weights after an epoch of fine-tuning, on the CPU."""
    net = model("xresnet1d18", world.device)
    spec = net.backbone.signal_spec
    records = source(world.device, size(world.device).few, spec, 10 * spec.rate)
    share_batch_norm(net, world)
    train(net, shorter(make("method", Reference("ft")), 1, 16), records, records, world.device, world=world)
    return {key: value.cpu() for key, value in net.state_dict().items()}


if __name__ == "__main__":
    with join() as joined:
        weights = fitted(joined)
        if joined.is_main:
            torch.save(weights, sys.argv[1])
        joined.wait()
