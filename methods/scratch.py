"""Training from random weights with the one-cycle recipe of Strodthoff et al. 2020 (fastai_model.py, fastai v1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.plugin import Incompatible, Method, Phase, register_method


@register_method("scratch")
@dataclass(frozen=True)
class Scratch(Method):
    """Training from random weights, one-cycle; published with lr 1e-3 and clip 0.25 for the LSTMs."""

    epochs: int = 50
    lr: float = 1e-2
    weight_decay: float = 1e-2
    batch_size: int = 128
    clip: float | None = None

    def prepare(self, model: nn.Module, init: str) -> None:
        if init != "random":
            raise Incompatible(f"scratch starts from random weights, and --init gives {init}; use --init random")

    def phases(self) -> Sequence[Phase]:
        return [
            Phase(
                name="train",
                learning_rates={"backbone": self.lr, "head": self.lr},
                epochs=self.epochs,
                batch_size=self.batch_size,
                weight_decay=self.weight_decay,
                schedule="one-cycle",
                clip=self.clip,
                selection="last",
            )
        ]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase) -> torch.optim.Optimizer:
        """AdamW with fastai v1's second beta; one-cycle moves the first."""
        return torch.optim.AdamW(groups, weight_decay=phase.weight_decay, betas=(0.95, 0.99), fused=True)
