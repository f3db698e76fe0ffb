"""What a method is handed: the start of a run, a batch to augment, and a batch to compute a loss of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from bench.errors import PluginError
from bench.training.phase import Phase


@dataclass(frozen=True, eq=False)
class Start:
    """What a run starts from."""

    name: str
    """`random`, `pretrained`, or `own:` and the first 8 digits of the weights' hash."""
    num_records: int
    """Training records."""
    positives: tuple[int, ...]
    """Training records with each label, [label]."""
    labels: tuple[str, ...] = ()
    head: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors of the published head, or of that of the run that left the weights, such as `weight` [label, feature],
    for a method with `uses_published_head`."""
    head_labels: tuple[str, ...] = ()
    """Labels of that head's rows; empty where they are not known."""

    @classmethod
    def of(cls, result: Mapping[str, Any], head: Mapping[str, Tensor]) -> Start:
        """Return the start of the run that a result, or the plan of one, describes."""
        positives = result["split"]["train_positives"]
        return cls(
            result["init"]["name"],
            result["split"]["train_records"],
            tuple(int(num) for num in positives.values()),
            tuple(positives),
            head,
            tuple(result["init"].get("facts", {}).get("labels", ())),
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            raise PluginError("prepare() is given an object: compare its name, as in init.name == 'random'")
        return self is other

    __hash__ = object.__hash__


@dataclass(frozen=True, eq=False)
class SignalBatch:
    """A whole training batch before it is trained on, the same on every rank."""

    signals: Tensor
    """[record, lead, time], prepared as the backbone expects: filtered and normalised."""
    labels: Tensor
    """[record, label]"""
    rng: np.random.Generator
    """The batch's own, the same on every rank and in a resumed run."""
    phase: Phase
    step: int
    """Steps of the phase that are done."""
    num_steps: int
    """Steps of the phase."""
    rate: int
    """Samples a second."""
    leads: tuple[str, ...]
    mv_per_unit: float | None
    """What one unit of the signals is in mV. None where each record was normalised by itself: then a unit is one
    standard deviation of the record, and its mV are not known any more."""


class Passes(Protocol):
    """How the model of a phase is run on a batch."""

    def logits(self, x: Tensor, masks: int) -> Tensor: ...
    def features(self, x: Tensor, masks: int) -> Tensor: ...
    def initial(self, x: Tensor) -> Tensor: ...
    def average(self, x: Tensor) -> Tensor: ...


@dataclass(eq=False)
class Batch:
    """This rank's records of a training batch, and ways to run the model on them.

    Where a batch has fewer records than there are ranks, a rank has none: its tensors are empty, and what its loss
    adds counts nothing.
    """

    passes: Passes
    x: Tensor
    """Signals or, where a frozen backbone is run once, its features."""
    labels: Tensor
    """[record, label]"""
    phase: Phase
    step: int
    """Steps of the phase that are done."""
    num_steps: int
    """Steps of the phase."""
    num_records: int
    """Training records."""
    positives: Tensor
    """Training records with each label, [label]."""
    parameters: Mapping[str, Tensor]
    """What the phase trains: path -> parameter."""
    initial_weights: Mapping[str, Tensor]
    """The state dict at the beginning of the phase, but for parts that no phase has trained."""
    state: dict[str, Tensor]
    """Tensors that a method keeps from step to step of a phase, in every checkpoint; the same on every rank."""
    signals_allowed: bool = True
    calls: list[tuple[str, Tensor, int]] = field(default_factory=list)

    @cached_property
    def signals(self) -> Tensor:
        """[record, lead, time]"""
        self._require_signals("signals")
        return self.x

    def logits(self, masks: int = 0) -> Tensor:
        """Return the logits [record, label] of the batch, with the masks of this number."""
        return self._once("logits", self.x, masks)

    def forward(self, x: Tensor, masks: int = 0) -> Tensor:
        """Return the logits [record, label] of signals [record, lead, time].

        Masks 0, 1, ... are independent draws of stochastic depth and dropout for the whole batch. `x` may be several
        copies of the batch in a row; then copy j has the masks `masks + j`.
        """
        self._require_signals("forward(x)")
        return self._once("logits", x, masks)

    def features(self, x: Tensor, masks: int = 0) -> Tensor:
        """Return the features [record, feature] of signals, with gradient."""
        self._require_signals("features(x)")
        return self._once("features", x, masks)

    def initial(self, x: Tensor | None = None) -> Tensor:
        """Return the logits by the weights at the beginning of the phase, in eval mode, without gradient."""
        return self.passes.initial(self.x if x is None else x)

    def average(self, x: Tensor | None = None) -> Tensor:
        """Return the logits by the averaged weights of `Phase.average`, in eval mode, without gradient."""
        return self.passes.average(self.x if x is None else x)

    def _once(self, kind: str, x: Tensor, masks: int) -> Tensor:
        if any(kind == before[0] and x is before[1] and masks == before[2] for before in self.calls):
            raise PluginError(
                f"the loss asks twice for the {kind} of the same records with masks={masks}: both passes drop the same "
                "and are equal; keep the first, or give the second other masks, as in masks=1"
            )
        self.calls.append((kind, x, masks))
        return self.passes.logits(x, masks) if kind == "logits" else self.passes.features(x, masks)

    def _require_signals(self, what: str) -> None:
        if not self.signals_allowed:
            raise PluginError(
                f"the loss uses {what} though the method says needs_signals = False; use batch.logits(), or say True"
            )
