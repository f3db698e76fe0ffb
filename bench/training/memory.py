"""The memory of this process: what it keeps for the next step, and the most that a cell has held."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of mallopt, as malloc.h has them."""
PEAK_RESIDENT = "5"
"""What sets VmHWM to what is resident now; see proc_pid_clear_refs(5)."""
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def keep_freed_memory() -> None:
    """Let this process keep what it frees: each step takes the same large blocks again, and the system zeroes new ones.

    By glibc's allocator alone, which keeps blocks up to 32 MiB unasked; elsewhere nothing happens. LSTMs, with a large
    block of workspace, train half as fast again.
    """
    if mallopt := _of_libc("mallopt"):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


@dataclass(frozen=True)
class PeakMemory:
    """The most memory that this process has held since `begin`."""

    device: torch.device
    measured_by: str | None
    """`torch.cuda.max_memory_allocated`, `VmHWM` (resident memory, as Linux counts it), or None: not to be known."""

    @classmethod
    def begin(cls, device: torch.device) -> PeakMemory:
        """Give back what earlier cells of this process have freed, and count from what is held then.

        Without glibc's malloc_trim or Linux's clear_refs, the peak of earlier cells could not be told from that of
        this one, so nothing is measured.
        """
        gc.collect()  # models hold hooks, and hooks models
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return cls(device, "torch.cuda.max_memory_allocated")
        return cls(device, "VmHWM" if _trim() and _reset_peak() else None)

    def mib(self) -> float | None:
        """MiB on the GPU where training is there, else resident in RAM; None where it cannot be known."""
        if self.measured_by is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        # not ru_maxrss: a process that another one starts inherits that one's
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
        return int(peak[1]) / 2**10 if peak else None


def _trim() -> bool:
    """Return freed memory to the system; False where the C library cannot."""
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
    """A function of the C library, or None: glibc alone has those that are asked for here."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
