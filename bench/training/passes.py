"""How a phase runs its model on a batch: with masks and gradient, by the initial weights, by the averaged ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bench.errors import PluginError
from bench.training.averaging import Averaged, frozen_copy
from bench.training.masks import Masks
from bench.training.model import Classifier


class PhasePasses:
    """The passes of one phase; `x` are signals or, where a frozen backbone is run once, what it made of them."""

    def __init__(
        self,
        model: Classifier,
        masks: Masks,
        initial_weights: Mapping[str, Tensor],
        averaged: Averaged | None,
        on_features: bool,
    ) -> None:
        self.model, self.masks, self.averaged, self.on_features = model, masks, averaged, on_features
        self.module = model.module_for(on_features=on_features)
        """Computes logits from `x`."""
        self.initial_weights = initial_weights
        self._initial: Classifier | None = None

    def logits(self, x: Tensor, masks: int) -> Tensor:
        """Return logits with these masks."""
        self.masks.use(masks, len(x))
        return self.module(x)  # type: ignore[no-any-return]

    def features(self, x: Tensor, masks: int) -> Tensor:
        """Return the head's input with these masks."""
        self.masks.use(masks, len(x))
        return x if self.on_features else self.model.encode(x)

    def initial(self, x: Tensor) -> Tensor:
        """Return logits by the weights at the beginning of the phase; they are copied when first asked for."""
        if self._initial is None:
            self._initial = frozen_copy(self.model)
            self._initial.load_state_dict({**self._initial.state_dict(), **self.initial_weights})
        return self._frozen(self._initial, x)

    def average(self, x: Tensor) -> Tensor:
        """Return logits by the averaged weights."""
        if self.averaged is None:
            raise PluginError("the loss asks for batch.average, and the phase declares no average; see Phase.average")
        return self._frozen(self.averaged.model, x)

    @torch.no_grad()
    def _frozen(self, model: Classifier, x: Tensor) -> Tensor:
        return model.eval().module_for(on_features=self.on_features)(x)  # type: ignore[no-any-return]
