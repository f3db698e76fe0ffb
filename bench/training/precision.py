"""The number format of a cell: as requested, or the fastest that the hardware supports."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch

from bench.errors import BenchError

Precision = Literal["float64", "float32", "bf16"]


def resolve_precision(asked: str, device: torch.device) -> Precision:
    """Resolve `auto` to bf16 if the device multiplies bf16 matrices in hardware, else to float32."""
    if asked == "auto":
        return "bf16" if _has_bf16(device) else "float32"
    if asked not in ("float64", "float32", "bf16"):
        raise BenchError(f"unknown precision {asked!r}; expected auto, float32, bf16 or float64")
    return asked  # type: ignore[return-value]


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a context in which matrix products run in bf16, if that is the precision; weights and sums are float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def dtype(precision: Precision) -> torch.dtype:
    """Return the dtype of weights and signals."""
    return torch.float64 if precision == "float64" else torch.float32
