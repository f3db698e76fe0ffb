"""Memory of this process: keep freed blocks for reuse, and measure the peak of a cell."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.processes import use_up

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of mallopt, from malloc.h."""
PEAK_RESIDENT = "5"
"""Value that resets VmHWM to the present resident memory; see proc_pid_clear_refs(5)."""
FRESH = "VmHWM of a fresh process"
"""How memory is measured on Linux: the peak resident memory of a process that has run no other cell."""
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def keep_freed_memory() -> None:
    """Let this process keep freed memory, because each step needs the same large blocks and new ones are zeroed first.

    Works with glibc's allocator only, which by default keeps blocks up to 32 MiB; elsewhere does nothing. LSTMs, which
    need a large workspace, train 1.5 times as fast.
    """
    if mallopt := _of_libc("mallopt"):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def return_gpu_memory(device: torch.device) -> None:
    """Return freed memory of a GPU to it. PyTorch keeps it, and other processes and `mem_get_info` count it as used."""
    gc.collect()  # models and their hooks refer to each other
    if device.type == "cuda":
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class PeakMemory:
    """The peak memory of this process since `begin`."""

    device: torch.device
    measured_by: str | None
    """`torch.cuda.max_memory_allocated`, FRESH, or None if it cannot be measured."""

    @classmethod
    def begin(cls, device: torch.device) -> PeakMemory:
        """Return freed memory to the system, and start measuring.

        Without a GPU, only the first cell of a process that was started to run cells is measured: a notebook may hold
        other data. And a cell leaves small blocks in the memory that it freed, so the large blocks of the next cell lie
        elsewhere: of inception1d, 1,490 MiB after net1d_mini, and 1,354 MiB alone. Nothing is measured without
        glibc's malloc_trim and Linux's clear_refs either, because the peak before could be larger.
        """
        return_gpu_memory(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return cls(device, "torch.cuda.max_memory_allocated")
        return cls(device, FRESH if use_up() and _trim() and _reset_peak() else None)

    def mib(self) -> float | None:
        """Return the peak in MiB, of GPU memory if training is on a GPU, else of resident memory; None if not
        measured."""
        if self.measured_by is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        # not ru_maxrss: a process inherits that of its parent
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
        return int(peak[1]) / 2**10 if peak else None


def _trim() -> bool:
    """Return freed memory to the system. Return False if the C library cannot."""
    trim = _of_libc("malloc_trim")
    if trim:
        trim(0)
    return trim is not None


def _reset_peak() -> bool:
    try:
        CLEAR_REFS.write_text(PEAK_RESIDENT)
    except OSError:
        return False
    return True


def _of_libc(name: str) -> Any:
    """Return a function of the C library; None if the library lacks it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
