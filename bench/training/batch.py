"""The arguments of a method's hooks: the start of a run, a batch to augment, and a batch to compute a loss for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from bench.errors import PluginError
from bench.training.phase import Phase

Augmented = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Mapping[str, Tensor]]
"""What `augment` returns: signals, labels and, if need be, name -> further tensor [record, ...] for the loss."""

NOT_A_TEXT = "init is an object, not a text: compare its name, as in init.name == 'random'"


@dataclass(frozen=True, eq=False)
class Start:
    """The initial weights and training records of a run."""

    name: str
    """`random`, `pretrained`, or `own:` and the first 8 digits of the weights' hash."""
    num_records: int
    """Number of training records."""
    positives: tuple[int, ...]
    """[label] Number of training records with the label."""
    labels: tuple[str, ...] = ()
    head: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors of the published head, or of that of the run that left the weights, such as `weight` [label, feature],
    for a method with `uses_published_head`."""
    head_labels: tuple[str, ...] = ()
    """Labels of that head's rows; empty where they are not known."""

    @classmethod
    def of(cls, result: Mapping[str, Any], head: Mapping[str, Tensor]) -> Start:
        """Return the start of the run that a result describes; the result need not be finished."""
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
            raise PluginError(NOT_A_TEXT)
        return self is other

    def __hash__(self) -> int:
        raise PluginError(NOT_A_TEXT)  # else `init in {"random"}` would be False in silence


@dataclass(frozen=True, eq=False)
class SignalBatch:
    """A whole training batch for `augment`; the same on every rank."""

    signals: Tensor
    """[record, lead, time], prepared as the backbone expects: filtered and normalised."""
    labels: Tensor
    """[record, label]"""
    rows: Tensor
    """[record] Number of each record among the training records, from 0 to num_records - 1; the same in every epoch
    and on any number of ranks."""
    rng: np.random.Generator
    """Random generator of this batch; the same on every rank and in a resumed run."""
    phase: Phase
    step: int
    """Number of finished steps of the phase."""
    num_steps: int
    """Number of all steps of the phase."""
    rate: int
    """Sampling rate in Hz."""
    leads: tuple[str, ...]
    mv_per_unit: float | None
    """Millivolts per unit of the signals. None if each record is normalised by itself, such as to one standard
    deviation: then the amplitude in mV is not known any more."""


class Passes(Protocol):
    """Forward passes of a phase's model on a batch."""

    def logits(self, x: Tensor, masks: int) -> Tensor: ...
    def features(self, x: Tensor, masks: int) -> Tensor: ...
    def initial(self, x: Tensor) -> Tensor: ...
    def average(self, x: Tensor) -> Tensor: ...


@dataclass(eq=False)
class Batch:
    """This rank's records of a training batch, and forward passes of the model on them.

    If a batch has fewer records than there are ranks, a rank may have none. Then its tensors are empty, and its loss
    has weight 0.
    """

    passes: Passes
    x: Tensor
    """Signals; or features, if the frozen backbone was run once before the phase."""
    labels: Tensor
    """[record, label]"""
    rows: Tensor
    """[record] Number of each record among the training records, from 0 to num_records - 1; as in `SignalBatch`."""
    extra: Mapping[str, Tensor]
    """Name -> tensor [record, ...] that `augment` returned as its third value; empty if it returned two."""
    gather: Callable[[Tensor], Tensor]
    """Return values [record, ...] of the whole batch, without gradient, given those of this rank's records. Every rank
    must call it. What is written into `state` is computed from these, or the ranks would differ."""
    phase: Phase
    step: int
    """Number of finished steps of the phase."""
    num_steps: int
    """Number of all steps of the phase."""
    num_records: int
    """Number of training records."""
    positives: Tensor
    """[label] Number of training records with the label."""
    parameters: Mapping[str, Tensor]
    """Path -> parameter, for the parameters that the phase trains."""
    initial_weights: Mapping[str, Tensor]
    """State dict at the beginning of the phase, only for parts that this or an earlier phase trains."""
    state: dict[str, Tensor]
    """Tensors that a method keeps between the steps of a phase; equal on all ranks (see `gather`), and saved in
    checkpoints."""
    signals_allowed: bool = True
    calls: list[tuple[str, Tensor, int]] = field(default_factory=list)

    @cached_property
    def signals(self) -> Tensor:
        """[record, lead, time]"""
        self._require_signals("signals")
        return self.x

    def logits(self, masks: int = 0) -> Tensor:
        """Return the logits [record, label] of the batch; `masks` is explained in `forward`."""
        return self._once("logits", self.x, masks)

    def forward(self, x: Tensor, masks: int = 0) -> Tensor:
        """Return the logits [record, label] of signals [record, lead, time].

        `masks` is the number of a set of random masks, of stochastic depth and dropout; different numbers give
        independent masks. `x` may be several concatenated copies of the batch; then copy j uses `masks + j`.
        """
        self._require_signals("forward(x)")
        return self._once("logits", x, masks)

    def features(self, x: Tensor, masks: int = 0) -> Tensor:
        """Return the features [record, feature] of signals, with gradient."""
        self._require_signals("features(x)")
        return self._once("features", x, masks)

    def initial(self, x: Tensor | None = None) -> Tensor:
        """Return logits [record, label] with the weights at the beginning of the phase, in eval mode, no gradient."""
        return self.passes.initial(self.x if x is None else x)

    def average(self, x: Tensor | None = None) -> Tensor:
        """Return logits [record, label] with the averaged weights of `Phase.average`, in eval mode, no gradient."""
        return self.passes.average(self.x if x is None else x)

    def _once(self, kind: str, x: Tensor, masks: int) -> Tensor:
        if any(kind == before[0] and x is before[1] and masks == before[2] for before in self.calls):
            raise PluginError(
                f"the loss computes the {kind} of the same records twice with masks={masks}: both are equal; "
                "keep the first, or give the second other masks, as in masks=1"
            )
        self.calls.append((kind, x, masks))
        return self.passes.logits(x, masks) if kind == "logits" else self.passes.features(x, masks)

    def _require_signals(self, what: str) -> None:
        if not self.signals_allowed:
            raise PluginError(
                f"the loss uses {what}, but the method has needs_signals = False; use batch.logits(), or set it to True"
            )


@dataclass(frozen=True)
class Inputs:
    """What the loss of a batch gets; see `Batch`."""

    x: Tensor
    labels: Tensor
    rows: Tensor
    extra: Mapping[str, Tensor]


def augmented(returned: Augmented, signals: Tensor, labels: Tensor, rows: Tensor) -> Inputs:
    """Return what `augment` made of a batch, in the types of the batch. PluginError if it is something else."""
    changed, changed_labels, *further = returned
    extra = further[0] if further else {}
    if len(further) > 1 or not isinstance(extra, Mapping):
        raise PluginError(
            "augment() must return signals and labels, and if need be a dict of further tensors [record, ...] as third "
            "value"
        )
    if changed.shape != signals.shape or changed_labels.shape != labels.shape:
        raise PluginError(
            f"augment() returns signals {list(changed.shape)} and labels {list(changed_labels.shape)}, "
            f"expected {list(signals.shape)} and {list(labels.shape)}; return a second view of the records in a dict "
            "as third value, and take it from batch.extra in loss"
        )
    for name, value in extra.items():
        if not isinstance(value, Tensor) or value.shape[:1] != labels.shape[:1]:
            kind = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise PluginError(
                f"augment() returns {kind} as {name!r} of its third value, expected a tensor [record, ...] of "
                f"{len(labels)} records"
            )
    return Inputs(
        changed.to(signals.dtype),
        changed_labels.to(labels.dtype),
        rows,
        {
            name: value.to(signals.device, signals.dtype if value.is_floating_point() else value.dtype)
            for name, value in extra.items()
        },
    )
