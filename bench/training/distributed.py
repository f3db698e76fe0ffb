"""The processes that train a cell together: rank of this process, its share of the records, collective operations."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import torch
import torch.distributed
import torch.distributed.nn.functional  # must precede the group, see `join`
from torch import Tensor, nn

from bench.errors import BenchError
from bench.processes import num_cores
from bench.training.memory import keep_freed_memory

TIMEOUT = timedelta(hours=12)
"""Maximum wait for other ranks: a rank may prepare signals for hours. torchrun ends the ranks of its machine when one
dies, and `bench.launch.slurm` those on the other nodes of its jobs."""


BUCKET_BYTES = 25 * 2**20
"""Size of the buckets in which gradients are summed over ranks."""


@dataclass(frozen=True)
class World:
    """The rank of this process among the processes of a cell."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True for the rank that prints and writes files."""
        return self.rank == 0

    def share(self, num: int) -> slice:
        """Return the share of this rank among `num` items."""
        return self._shares(num)[self.rank]

    def _shares(self, num: int) -> list[slice]:
        """Return the shares of all ranks. They cover all items; their sizes differ by at most 1."""
        small, rest = divmod(num, self.size)
        starts = [rank * small + min(rank, rest) for rank in range(self.size + 1)]
        return [slice(start, stop) for start, stop in pairwise(starts)]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its sum over ranks. A parameter without a gradient on every rank keeps none.

        Call it after the backward pass. DistributedDataParallel sums during the backward pass, and misses what a loss
        computes without its wrapper. This function counts every use of the model, and the order of its sums does not
        depend on earlier passes.
        """
        if self.size == 1:
            return
        have = self.sum(torch.tensor([p.grad is not None for p in parameters], device=self.device).int()) > 0
        with_gradient = [p for p, has in zip(parameters, have.tolist(), strict=True) if has]
        for bucket in _buckets(with_gradient):
            parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            total = self.sum(torch.cat([part.flatten() for part in parts]))
            for p, part in zip(bucket, torch.split(total, [part.numel() for part in parts]), strict=True):
                p.grad = part.view_as(p)

    def gather(self, local: Tensor, num: int) -> Tensor:
        """Return all `num` items [item, ...] in order, gathered from the shares of all ranks, on every rank."""
        if self.size == 1:
            return local
        lengths = [share.stop - share.start for share in self._shares(num)]
        padded = local.new_zeros((max(lengths), *local.shape[1:]))
        padded[: len(local)] = local
        parts = [torch.empty_like(padded) for _ in lengths]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over ranks as a new tensor."""
        total = value.clone()
        if self.size > 1:
            torch.distributed.all_reduce(total)
        return total

    def wait(self) -> None:
        """Wait until all ranks have called this."""
        if self.size > 1:
            torch.distributed.barrier()


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield buckets of consecutive parameters of the same dtype, up to 25 MiB each, as in DistributedDataParallel."""
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and (size + parameter.nbytes > BUCKET_BYTES or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.nbytes
    if bucket:
        yield bucket


@contextlib.contextmanager
def join() -> Iterator[World]:
    """Join the process group that torchrun describes in the environment, else yield a world of one process.

    torch.optim imports torch.distributed.nn.functional, whose default arguments hold the group that exists by then. A
    group so held ends with Python and not before, and 1 of 240 processes with gloo was aborted there. Hence the import
    at the top.

    After an error the process should end, and leaves its group to that: where other ranks wait for this one in a
    collective operation, to destroy a group of NCCL may wait for them for ever, and torchrun would never end them
    (pytorch/torchtitan#1342).
    """
    size, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    num_local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    device = choose_device(local, num_local)
    on_gpu = device.type == "cuda"
    set_numerics(device)
    if on_gpu:
        torch.cuda.set_device(device)
    else:
        keep_freed_memory()
        if num_local > 1 or "OMP_NUM_THREADS" not in os.environ:  # torchrun sets it to 1 by default
            torch.set_num_threads(max(1, num_cores() // num_local))
    if size == 1:
        yield World(0, 1, device)
        return
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo", timeout=TIMEOUT, device_id=device if on_gpu else None
    )
    yield World(torch.distributed.get_rank(), size, device)
    torch.distributed.destroy_process_group()


def set_numerics(device: torch.device) -> None:
    """Set how this process computes on a device: float32 without TF32, and on a GPU the same bits each time.

    Call it before the first computation there. Recurrent layers may differ: torch's documentation requires another
    CUBLAS_WORKSPACE_CONFIG for them, which is slower for other layers. This was not tried on a GPU.
    """
    torch.set_float32_matmul_precision("highest")  # float32 is exact on every device; bf16 is the fast precision
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for reproducible sums
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)
        # filling is for debugging only, and writes every new tensor once more
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.allow_tf32 = False


def choose_device(local: int, num_local: int, num_gpus: int | None = None) -> torch.device:
    """Return the device of process `local` of `num_local` on a machine: its own GPU, or the CPU if there are no GPUs.

    `num_gpus` is the number of GPUs of that machine [default: of this machine]. Raises BenchError for fewer GPUs than
    processes.
    """
    if num_gpus is None:
        num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpus == 0:
        return torch.device("cpu")
    if num_local > num_gpus:
        raise BenchError(f"{num_local} processes on this machine, but {num_gpus} GPUs; each process needs its own")
    return torch.device("cuda", local % num_gpus)


def unused_accelerator(kind: str | None) -> str:
    """Return a warning if this machine has an accelerator that is not used; empty if there is none.

    Training must be reproducible to the bit and support float64. This was not verified on Apple's (mps) and Intel's
    (xpu). torch.cuda covers GPUs of NVIDIA and AMD.
    """
    if kind in (None, "cpu", "cuda"):
        return ""
    return f"this machine's accelerator ({kind}) is not supported; running on the CPU (supported: cuda)"


def accelerator_kind() -> str | None:
    """Return torch's name of this machine's accelerator, such as `cuda` or `mps`; None if it has none."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device.type if device else None
