"""Callbacks of training, and the record of a phase that a result keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


class Watcher(Protocol):
    """Callbacks that show or record the progress of training."""

    def phase_begins(self, name: str, num_epochs: int, steps_per_epoch: int, steps_done: int) -> None: ...
    def step_ends(self) -> None: ...
    def predicts(self, what: str, done: int, total: int) -> None: ...
    def epoch_ends(self, facts: dict[str, Any]) -> None: ...
    def phase_ends(self) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass
class PhaseReport:
    """The record of a phase; lists have one value per epoch."""

    name: str
    trainable_parameters: int
    on_features: bool
    selection: str
    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_macro_auroc: list[float] = field(default_factory=list)
    """Over all fold-9 labels with a positive and a negative. Selection `best` uses it."""
    val_macro_auroc_frequent: list[float | None] = field(default_factory=list)
    """Over the labels with at least 10 positives and 10 negatives in fold 9; None if there are none. No
    selection uses it."""
    best_epoch: int = 0
    """The selected epoch, counted from 1. The next phase starts from its weights."""
    seconds: float = 0.0
    """Training time over all attempts, without work that was lost when a process was killed."""
    feature_seconds: float = 0.0
    """The part of `seconds` that computing features took. Cached features count as if they were computed anew."""
    judged: list[float] = field(default_factory=list)
    """Fold-9 macro AUROCs that the method requested in `finish`. It may have chosen weights by them."""
    finished_val_macro_auroc: float | None = None
    """Fold-9 macro AUROC of the weights after the method's `finish`; None without one."""
