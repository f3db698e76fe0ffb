"""How fast this machine trains a backbone and predicts with it: estimates where no such cell has been finished."""

from __future__ import annotations

import copy
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.training.distributed import set_numerics
from bench.training.memory import return_gpu_memory
from bench.training.model import Backbone, Classifier
from bench.training.precision import Precision, autocast, dtype

BATCH = {"cpu": 4, "cuda": 64}
"""Records of a timed batch, by the kind of device."""
LABELS = 5
"""Outputs of the head while timed."""
TIMES = 2
"""A pass is timed so often, after one that is not; the shortest counts."""


@dataclass(frozen=True)
class Pace:
    """Seconds for one record."""

    train: float
    """Of a training step, of one window of the record."""
    predict: float
    """Of a prediction, of all its windows."""
    num_windows: int | None = None
    """Windows of a record; None if the backbone gets whole records."""

    def seconds(self, phases: Sequence[Mapping[str, Any]], num_train: int, num_val: int, num_test: int) -> float:
        """Return the seconds of a cell whose phases train all their epochs; `phases` are those of `Phase.facts`.

        Only passes through the backbone count: one for a training step, though some methods make two.
        """
        trained, (whole, single) = trained_epochs(phases), frozen_passes(phases, windows=self.num_windows is not None)
        seconds = trained * (num_train * self.train + num_val * self.predict) + num_test * self.predict
        seconds += whole * (num_train + num_val) * self.predict
        return seconds + single * (num_train / (self.num_windows or 1) + num_val) * self.predict


def trains_backbone(phase: Mapping[str, Any]) -> bool:
    """Return whether a phase trains more than the head."""
    return any(part.split(".")[0] != "head" for part in phase["learning_rates"])


def trained_epochs(phases: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of epochs in which the backbone is trained."""
    return sum(phase["epochs"] for phase in phases if trains_backbone(phase))


def frozen_passes(phases: Sequence[Mapping[str, Any]], *, windows: bool) -> tuple[int, int]:
    """Return how often a frozen backbone passes over all of each training record, and over one window of it.

    It computes features once; but if it gets windows, training steps take a random one of each record in each epoch.
    """
    frozen = [phase for phase in phases if not trains_backbone(phase)]
    by_steps = [phase["epochs"] for phase in frozen if windows and not phase.get("fitted")]
    return int(len(by_steps) < len(frozen)), sum(by_steps)


def measure_pace(backbone: Backbone, length_s: float, precision: Precision, device: torch.device, threads: int) -> Pace:
    """Time passes of a copy of a backbone over random records of `length_s` seconds; of AdamW, a training step.

    `threads`: the number of CPU cores that a worker has. The device's memory is free again afterwards: workers need it.
    """
    set_numerics(device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _measure(backbone, length_s, precision, device)
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # they hold what did not fit
        raise
    finally:
        torch.set_num_threads(before)
        return_gpu_memory(device)


def _measure(backbone: Backbone, length_s: float, precision: Precision, device: torch.device) -> Pace:
    spec = backbone.signal_spec
    length = round(length_s * spec.rate)
    model = Classifier(copy.deepcopy(backbone), LABELS).to(device, dtype(precision))
    optimizer = torch.optim.AdamW(model.parameters())
    num = BATCH[device.type]
    signals = torch.randn(num, len(spec.leads), spec.window or length, device=device, dtype=dtype(precision))

    # no closures: a traceback holds those of its functions
    trained = _shortest(partial(_train, model, optimizer, signals, precision), device) / num
    model.eval()
    with torch.no_grad():
        predicted = _shortest(partial(_compute, model, signals, precision), device) / num
    num_windows = len(spec.window_starts(length))
    return Pace(trained, predicted * num_windows, num_windows if spec.window else None)


def _train(model: Classifier, optimizer: torch.optim.Optimizer, signals: Tensor, precision: Precision) -> None:
    _compute(model, signals, precision).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def _compute(model: Classifier, signals: Tensor, precision: Precision) -> Tensor:
    with autocast(precision, signals.device):
        return model(signals).square().mean()  # type: ignore[no-any-return]


def _shortest(action: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the shortest of several calls."""
    taken = []
    for _ in range(1 + TIMES):
        start = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])
