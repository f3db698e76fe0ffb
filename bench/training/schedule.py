"""Learning rates over the steps of a phase."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from bench.training.phase import Phase


def make_schedule(optimizer: Optimizer, phase: Phase, steps_per_epoch: int) -> LRScheduler | ReduceLROnPlateau | None:
    """Return the learning-rate schedule of a phase, or None for constant rates.

    It is stepped every step, a plateau every epoch.
    """
    total = phase.epochs * steps_per_epoch
    warmup = round(phase.warmup * total)
    span, last = 1.0 - phase.min_lr_factor, max(1, total - 1 - warmup)

    def cosine(step: int) -> float:
        return phase.min_lr_factor + span * 0.5 * (1 + math.cos(math.pi * min(1.0, step / last)))

    def warmed(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return cosine(step - warmup) if phase.lr_schedule == "cosine" else 1.0

    if phase.lr_schedule == "cosine" or warmup:
        return LambdaLR(optimizer, warmed)
    if phase.lr_schedule == "one-cycle":
        # fastai's fit_one_cycle: 30 % up from lr / 25, then down to lr / 250,000, momentum 0.95 to 0.85 and back
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, peaks, total_steps=total, pct_start=0.3, div_factor=25.0, final_div_factor=1e4)
    if phase.lr_schedule == "plateau":
        return ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=10)
    return None


def advance(schedule: LRScheduler | ReduceLROnPlateau | None) -> None:
    """Step what is stepped every step."""
    if schedule is not None and not isinstance(schedule, ReduceLROnPlateau):
        schedule.step()


def advance_epoch(schedule: LRScheduler | ReduceLROnPlateau | None, val_macro_auroc: float) -> None:
    """Step what is stepped every epoch, by its score."""
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.step(val_macro_auroc)
