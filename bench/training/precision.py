"""The number format of a cell: as requested, or the fastest that the hardware supports.

With AMX, oneDNN 3.12 (torch 2.13) computes some bf16 convolutions wrongly, and says nothing: those of 12 leads with a
kernel of 8, 16, 24 or 32 among them, which the first layers of Net1D and fcn_wang are. Net1D lost 0.05 of macro AUROC.
So `import bench` keeps oneDNN from AMX, unless ONEDNN_MAX_CPU_ISA says otherwise.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Literal, get_args

import torch

from bench.errors import BenchError
from bench.processor import processor_fact

Precision = Literal["float64", "float32", "bf16"]


def resolve_precision(asked: str, device: torch.device) -> Precision:
    """Resolve `auto` to bf16 if the device multiplies matrices faster in bf16, else to float32."""
    if asked == "auto":
        return "bf16" if _is_faster_in_bf16(device) else "float32"
    if asked not in get_args(Precision):
        raise BenchError(f"unknown precision {asked!r}; expected auto, float32, bf16 or float64")
    return asked  # type: ignore[return-value]


def _is_faster_in_bf16(device: torch.device) -> bool:
    """Return whether the device is a GPU with bf16, or an AMD CPU with AVX512-BF16.

    By AVX512-BF16 an AMD EPYC multiplies large matrices 2.2 times as fast as in float32, an Intel Xeon half as fast.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() and processor_fact("vendor_id") == "AuthenticAMD"


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a context in which matrix products run in bf16, if that is the precision; weights and sums are float32.

    Raises `BenchError` where this processor's bf16 convolutions are wrong.
    """
    if precision == "bf16" and device.type == "cpu" and not convolves_in_bf16():
        raise BenchError(
            "bf16 convolutions are wrong on this processor (oneDNN with AMX); ask for --precision float32, or set "
            "ONEDNN_MAX_CPU_ISA=AVX512_CORE_FP16 before Python starts"
        )
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@cache
def convolves_in_bf16() -> bool:
    """Return whether a bf16 convolution of 12 leads, kernel size 16, equals the float32 one up to rounding."""
    signals = torch.linspace(0, 30, 12 * 64).sin().reshape(1, 12, 64)
    taps = torch.linspace(0, 50, 32 * 12 * 16).cos().reshape(32, 12, 16)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        exact = torch.nn.functional.conv1d(signals, taps)
        rounded = torch.nn.functional.conv1d(signals.bfloat16(), taps.bfloat16()).float()
    return bool((rounded - exact).norm() <= 0.02 * exact.norm())


def dtype(precision: Precision) -> torch.dtype:
    """Return the dtype of weights and signals."""
    return torch.float64 if precision == "float64" else torch.float32
