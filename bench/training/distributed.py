"""The processes that train one cell together: who I am, which records are mine, and how results come together."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bench.errors import BenchError
from bench.processes import num_cores
from bench.training.memory import keep_freed_memory

TIMEOUT = timedelta(hours=12)
"""How long ranks wait for one another: one may prepare signals, a rank that dies is torchrun's to notice."""


@dataclass(frozen=True)
class World:
    """This process among the ranks that share a cell."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this rank prints and writes."""
        return self.rank == 0

    def share(self, num: int) -> slice:
        """Which of `num` things this rank takes."""
        return self._shares(num)[self.rank]

    def _shares(self, num: int) -> list[slice]:
        """Each rank's; each thing is some rank's, the shares differ by at most one."""
        small, rest = divmod(num, self.size)
        starts = [rank * small + min(rank, rest) for rank in range(self.size + 1)]
        return [slice(start, stop) for start, stop in pairwise(starts)]

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over ranks. Wrap anew whenever other parameters are trained."""
        if self.size == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 has a new name for broadcast_buffers
            return DistributedDataParallel(
                module, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
            )

    def gather(self, local: Tensor, num: int) -> Tensor:
        """All ranks' shares of `num` things [thing, ...], in order, on every rank."""
        if self.size == 1:
            return local
        lengths = [share.stop - share.start for share in self._shares(num)]
        padded = local.new_zeros((max(lengths), *local.shape[1:]))
        padded[: len(local)] = local
        parts = [torch.empty_like(padded) for _ in lengths]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def sum(self, value: Tensor) -> Tensor:
        """The sum over ranks, a tensor of its own."""
        total = value.clone()
        if self.size > 1:
            torch.distributed.all_reduce(total)
        return total

    def wait(self) -> None:
        """Until every rank is here."""
        if self.size > 1:
            torch.distributed.barrier()


@contextlib.contextmanager
def join() -> Iterator[World]:
    """The world that torchrun describes in the environment, or a world of one."""
    size, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    num_local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    device = choose_device(local, num_local)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts; else its sums may vary
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)
        # it finds bugs, and costs a write a tensor
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.allow_tf32 = False  # float32 shall be that on every device; bf16 is the fast one
    else:
        keep_freed_memory()
        if num_local > 1 or "OMP_NUM_THREADS" not in os.environ:  # torchrun sets it to 1 unasked
            torch.set_num_threads(max(1, num_cores() // num_local))
    if size == 1:
        yield World(0, 1, device)
        return
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo", timeout=TIMEOUT, device_id=device if on_gpu else None
    )
    try:
        yield World(torch.distributed.get_rank(), size, device)
    finally:
        torch.distributed.destroy_process_group()


def choose_device(local: int, num_local: int, num_gpus: int | None = None) -> torch.device:
    """The device of process `local` of `num_local` on a machine with `num_gpus` GPUs: one of its own, or the CPU.

    Without `num_gpus`, this machine is meant.
    """
    if num_gpus is None:
        num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpus == 0:
        return torch.device("cpu")
    if num_local > num_gpus:
        raise BenchError(f"{num_local} processes on this machine, but {num_gpus} GPUs; each process needs its own")
    return torch.device("cuda", local % num_gpus)


def unused_accelerator(kind: str | None) -> str:
    """What to say of the accelerator that torch names on this machine where none of its work is done there, or "".

    Training is repeatable to the bit and may be float64, which neither Apple's (mps) nor Intel's (xpu) has been seen
    to do here. torch.cuda stands for NVIDIA's GPUs and AMD's.
    """
    if kind in (None, "cpu", "cuda"):
        return ""
    return f"this machine's accelerator ({kind}) is not supported; running on the CPU (supported: cuda)"


def accelerator_kind() -> str | None:
    """What torch calls the accelerator of this machine, such as `cuda` or `mps`; None without one."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device.type if device else None
