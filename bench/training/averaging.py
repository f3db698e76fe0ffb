"""Averaged weights: a second model that follows the first."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from bench.training.dropout import RankDropout, rest
from bench.training.model import Classifier
from bench.training.phase import EMA, SWA


def frozen_copy(model: Classifier) -> Classifier:
    """Return a copy of the model in eval mode and without gradients."""
    rest([module for module in model.modules() if isinstance(module, RankDropout)])
    return copy.deepcopy(model).eval().requires_grad_(False)


class Averaged:
    """A copy of the model with averaged weights; only what training changes is averaged."""

    def __init__(self, model: Classifier, rule: EMA | SWA, changed: Iterable[str]) -> None:
        self.rule, self.model = rule, frozen_copy(model)
        self._of_model, own = model.state_dict(), self.model.state_dict()
        self.weights = {key: own[key] for key in own if key in set(changed)}
        """State dict of what is averaged; the tensors are the copy's own."""
        of_storage = {value.data_ptr(): key for key, value in self.weights.items()}
        self._moved = list(of_storage.values())
        """The last key of each storage: tied weights have several keys and are moved once."""
        self.num_updates = 0

    @property
    def selectable(self) -> bool:
        """Whether the weights are an average yet."""
        return self.num_updates > 0

    def step_ends(self) -> None:
        """Follow the model after a step."""
        if isinstance(self.rule, EMA):
            self._move(1.0 - self.rule.decay_at(self.num_updates))
            self.num_updates += 1

    def epoch_ends(self, epoch: int, num_epochs: int) -> None:
        """Follow the model after an epoch, counted from 0."""
        if isinstance(self.rule, SWA):
            if self.rule.averages(epoch, num_epochs):
                self.num_updates += 1
            self._move(1.0 / max(1, self.num_updates))

    @torch.no_grad()
    def _move(self, share: float) -> None:
        """Move this share of the way to the model; counts and the like, which are no fractions, are taken over."""
        for key in self._moved:
            value = self.weights[key]
            if share < 1.0 and value.is_floating_point():
                value.lerp_(self._of_model[key], share)
            else:
                value.copy_(self._of_model[key])

    def state(self) -> dict[str, object]:
        """Return what a checkpoint keeps."""
        return {"num_updates": self.num_updates, "weights": self.weights}

    @torch.no_grad()
    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint."""
        self.num_updates = int(state["num_updates"])  # type: ignore[call-overload]
        weights: Mapping[str, Tensor] = state["weights"]  # type: ignore[assignment]
        for key, value in self.weights.items():
            value.copy_(weights[key])
