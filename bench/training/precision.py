"""The number format of a cell: what was asked for, or the best that the hardware really has."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch

from bench.errors import BenchError

Precision = Literal["float64", "float32", "bf16"]


def resolve_precision(asked: str, device: torch.device) -> Precision:
    """`auto` becomes bf16 where the device multiplies bf16 matrices in hardware, else float32."""
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
    """Runs matrix products in bf16 where that is the precision; weights and sums stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def dtype(precision: Precision) -> torch.dtype:
    """The type of weights and signals."""
    return torch.float64 if precision == "float64" else torch.float32
