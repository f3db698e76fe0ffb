"""A method that keeps something from run to run, and one that errs on several ranks: `bench check` tells which."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from bench.plugin import Batch, Method, Phase, register_method

START: dict[str, Tensor] = {}


@dataclass(frozen=True)
class Probe(Method):
    """What they share."""

    needs_signals = False

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="probe", learning_rates={"head": 1e-2}, epochs=2)]


@register_method("writes-once")
@dataclass(frozen=True)
class WritesOnce(Probe):
    """Takes the start of the first run for that of all."""

    def loss(self, batch: Batch) -> Tensor:
        if not START:
            START.update({name: p.detach().clone() for name, p in batch.parameters.items()})
        away = sum((p - START[name]).square().sum() for name, p in batch.parameters.items())
        return super().loss(batch) + away


@register_method("centres-the-batch")
@dataclass(frozen=True)
class CentresTheBatch(Probe):
    """A loss of the batch and not of its records, which only several ranks show."""

    def loss(self, batch: Batch) -> Tensor:
        logits = batch.logits()
        return F.binary_cross_entropy_with_logits(logits - logits.mean(0), batch.labels)
