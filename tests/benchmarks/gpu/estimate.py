"""Seconds that each part takes on an H100: steps x operations / rates, or calls, which are assumed until a card ran."""

from __future__ import annotations

import math
from dataclasses import dataclass

RATE = {"float32": 15e12, "tf32": 40e12, "bf16": 80e12}
"""Operations a second that a network reaches, assumed: a tenth of an H100's bf16 products (800 TFLOP/s measured), and
about as much of its others; grouped convolutions of 16 channels and short sequences fill it badly."""
CPU_RATE = 50e9
"""Of the one run in float32 on the host, with which part 2 compares the card; assumed."""
CALL_S = {"plain": 10e-6, "counted": 70e-6}
"""Seconds that the host takes for a call of an operation, views included, assumed; part 1 counts each in Python."""
START_S = 12
"""A process, its imports, CUDA, and the first call of each kernel, assumed."""
COMPILE_S = 30
"""torch.compile of ECGFounder, assumed."""


@dataclass(frozen=True)
class Net:
    """A backbone: operations of a record's forward pass, counted by torch's FlopCounterMode, and calls, by dispatch."""

    forward: float
    pass_calls: int
    step_calls: int
    windows: int = 1
    """Of a record of 10 s in evaluation."""


NETS = {
    "net1d_mini": Net(0.0648e9, 427, 1946),
    "xresnet1d18": Net(0.0239e9, 104, 374, 7),
    "inception1d": Net(0.236e9, 86, 339, 7),
    "lstm": Net(0.0002e9, 29, 123, 7),
    "s4": Net(1.08e9, 681, 1205, 7),
    "vit1d_tiny": Net(0.107e9, 342, 1166, 7),
    "ecgfounder": Net(2.337e9, 691, 3162),
    "vit1d_small": Net(0.427e9, 342, 1166, 7),
    "xresnet1d101": Net(0.0823e9, 464, 1529, 7),
}


def estimate_s(part: int) -> float:
    """The part's seconds, its start included."""
    return math.ceil([_device, _agreement, _speed, _cell, _savings, _ranks][part - 1]() + START_S)


def step_s(arch: str, num: int, kind: str = "float32", calls: str = "plain") -> float:
    """A training step on `num` records or crops: what takes longer, the card's operations or the host's calls."""
    net = NETS[arch]
    return max(3 * net.forward * num / RATE[kind], net.step_calls * CALL_S[calls])


def pass_s(arch: str, num: int, kind: str = "float32", calls: str = "plain") -> float:
    """A pass of `num` whole records without gradients, in batches of 64 records."""
    net = NETS[arch]
    batches = math.ceil(num / 64)
    return max(net.forward * net.windows * num / RATE[kind], batches * net.pass_calls * CALL_S[calls])


def fit_s(arch: str, num: int, batch: int, epochs: int, calls: str = "plain") -> float:
    """Epochs of training on `num` records, each with a pass over as many."""
    return epochs * (math.ceil(num / batch) * step_s(arch, batch, calls=calls) + pass_s(arch, num, calls=calls))


def _device() -> float:
    """Two epochs of each kind of phase (lpft-sd has two phases) on 510 records, three passes besides."""
    archs = ("net1d_mini",) * 4 + ("xresnet1d18", "lstm", "s4", "vit1d_tiny")
    return sum(fit_s(arch, 510, 170, 2, "counted") for arch in archs) + 3 * pass_s("net1d_mini", 510)


def _agreement() -> float:
    """Runs on 512 records in batches of 16; another process; one run on the host."""
    small = 2 * fit_s("net1d_mini", 512, 16, 2)  # two phases
    host = 4 * (3 + 1) * 512 * NETS["net1d_mini"].forward / CPU_RATE
    pools = 2 * (fit_s("xresnet1d18", 512, 16, 2) + fit_s("inception1d", 512, 16, 2))
    finish = 2 * 13 * pass_s("net1d_mini", 512)  # of wise-ft, resumed and whole: scores and statistics
    return 2 * pass_s("ecgfounder", 512) + 10 * small + finish + pools + 2 * START_S + host


def _speed() -> float:
    """12 steps of two formulations in each format, 11 profiled steps, predictions; 20 s to read profiles, assumed."""
    total = 20.0
    for arch, num in (("ecgfounder", 256), ("vit1d_small", 1024), ("xresnet1d101", 1024)):
        total += sum(2 * 12 * step_s(arch, num, kind) for kind in RATE) + 11 * step_s(arch, num, "bf16")
        total += 12 * num * NETS[arch].forward * (1 / RATE["bf16"] + 1 / RATE["float32"])
    return total


def _cell(records: int = 21_799) -> float:
    """Three passes over folds 1 to 9, 30 epochs on folds 1 to 8 with fold 9 after each, fold 10; 10 s for records."""
    passes = 3 * pass_s("ecgfounder", int(0.9 * records), "bf16") + 31 * pass_s("ecgfounder", records // 10, "bf16")
    return passes + 30 * math.ceil(0.8 * records / 256) * step_s("ecgfounder", 256, "bf16") + 10


def _savings() -> float:
    """Seven variants of a step 12 times, two of xresnet1d101, and a compilation."""
    steps = 7 * step_s("ecgfounder", 256, "bf16") + 2 * step_s("xresnet1d101", 1024, "bf16")
    return 12 * steps + COMPILE_S


def _ranks() -> float:
    """On several cards: an epoch of 512 records by one process and by all, in two formats, and the start of ranks."""
    return 2 * 2 * fit_s("xresnet1d18", 512, 16, 1) + START_S
