"""Train in new processes, one for each rank, for checks that compare them with this one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from bench.errors import PluginError
from bench.files import read_bytes, whole_file, write_whole
from bench.launch.torchrun import Node, launch_ranks
from bench.registry.findings import fault_of
from bench.registry.reference import Reference
from bench.registry.registry import Kind


def from_new_processes(
    num: int, make_tensors: Callable[..., dict[str, Tensor]], kind: Kind, *references: Reference
) -> dict[str, Tensor]:
    """Call a function of a module with these references on `num` new ranks, and return what the first rank returns.

    The first reference is the plugin that is checked. PluginError with what a rank's error says.
    """
    with tempfile.TemporaryDirectory() as folder:
        target, fault = Path(folder) / "tensors.pt", Path(folder) / "fault"
        arguments = (make_tensors, kind, tuple(map(str, references)), target, fault)
        try:
            launch_ranks(num, _rank, arguments, Node())
        except ChildFailedError:
            raise PluginError(read_bytes(fault).decode() if fault.exists() else "a process died") from None
        tensors: dict[str, Tensor] = torch.load(target)
        return tensors


def _rank(
    make_tensors: Callable[..., dict[str, Tensor]], kind: Kind, references: Sequence[str], target: Path, fault: Path
) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the machine may have a single GPU, and the model is on the CPU
    parsed = [Reference.parse(text) for text in references]
    if text := fault_of(kind, parsed[0], lambda: _save(make_tensors(*parsed), target)):
        write_whole(fault, text)
        raise SystemExit(1)


def _save(tensors: dict[str, Tensor], target: Path) -> None:
    if os.environ["RANK"] == "0":
        with whole_file(target) as stream:
            torch.save(tensors, stream)
