"""The number format of a cell: as requested, or the fastest that the hardware supports."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch

from bench.errors import BenchError
from bench.processor import processor_fact

Precision = Literal["float64", "float32", "bf16"]


def resolve_precision(asked: str, device: torch.device) -> Precision:
    """Resolve `auto` to bf16 if the device multiplies matrices faster in bf16, else to float32."""
    if asked == "auto":
        return "bf16" if _is_faster_in_bf16(device) else "float32"
    if asked not in ("float64", "float32", "bf16"):
        raise BenchError(f"unknown precision {asked!r}; expected auto, float32, bf16 or float64")
    return asked  # type: ignore[return-value]


def _is_faster_in_bf16(device: torch.device) -> bool:
    """Return whether it is a GPU with bf16, or a CPU with AMX or AMD's AVX512-BF16.

    By AVX512-BF16 an AMD EPYC multiplies large matrices 2.2 times as fast as in float32, an Intel Xeon half as fast.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    by_amd = torch.cpu._is_avx512_bf16_supported() and processor_fact("vendor_id") == "AuthenticAMD"
    return torch.cpu._is_amx_tile_supported() or by_amd


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a context in which matrix products run in bf16, if that is the precision; weights and sums are float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def dtype(precision: Precision) -> torch.dtype:
    """Return the dtype of weights and signals."""
    return torch.float64 if precision == "float64" else torch.float32
