"""Seconds that each part takes on an H100, from its operations and rates that are assumed until a card has run it."""

from __future__ import annotations

import math

FORWARD = {"ecgfounder": 2.337e9, "vit1d_small": 0.427e9, "xresnet1d101": 0.0823e9}
"""Operations of a forward pass of a record, counted by torch's FlopCounterMode: 5,000 samples, else crops of 250."""
RATE = {"float32": 15e12, "tf32": 40e12, "bf16": 80e12}
"""Operations a second that a network reaches, assumed: a tenth of an H100's bf16 products (800 TFLOP/s measured), and
about as much of its others; grouped convolutions of 16 channels and short sequences fill it badly."""
START_S = 12
"""A process, its imports, CUDA, and the first call of each kernel."""


def estimate_s(part: int) -> float:
    return math.ceil({1: 25.0, 2: 30.0, 3: _speed(), 4: _cell(), 5: _savings(), 6: 15.0}[part] + START_S)


def _speed() -> float:
    """12 steps for the median and 11 for the profile, six formulations; predictions beside them."""
    total = 0.0
    for arch, num in (("ecgfounder", 256), ("vit1d_small", 1024), ("xresnet1d101", 1024)):
        step = 3 * FORWARD[arch] * num
        total += sum(2 * 12 * step / rate for rate in RATE.values()) + 11 * step / RATE["bf16"]
        total += 12 * step / 3 * (1 / RATE["bf16"] + 1 / RATE["float32"])
    return total + 20


def _cell(records: int = 21_799) -> float:
    """Three passes for features, 30 epochs of fine-tuning on eight tenths, fold 9 after each; 10 s to make records."""
    passes = 3 * 0.9 + 30 * (3 * 0.8 + 0.1) + 0.1
    return passes * records * FORWARD["ecgfounder"] / RATE["bf16"] + 10


def _savings() -> float:
    """Six variants of a step, and a compilation."""
    return 6 * 12 * 3 * FORWARD["ecgfounder"] * 256 / RATE["bf16"] + 30
