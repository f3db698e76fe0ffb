"""Training from random weights, with the recipes of the published baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.plugin import Classifier, Gradients, Incompatible, LogUniform, Method, Phase, Start, register_method


@dataclass(frozen=True)
class FromRandom(Method):
    """The part that these recipes share: one phase that trains everything."""

    epochs: int = 50
    lr: float = 1e-2
    weight_decay: float = 1e-2
    batch_size: int = 128

    search = {"lr": LogUniform(1e-4, 1e-1)}

    def prepare(self, model: Classifier, init: Start) -> None:
        if init.name != "random":
            raise Incompatible(
                f"this recipe starts from random weights, and --init gives {init.name}; use --init random"
            )

    def train(self, **rest: Any) -> Phase:
        return Phase(
            name="train",
            learning_rates={"backbone": self.lr, "head": self.lr},
            epochs=self.epochs,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            **rest,
        )


@register_method("scratch")
@dataclass(frozen=True)
class Scratch(FromRandom):
    """The one-cycle recipe of Strodthoff et al. 2020. For LSTMs they use lr 1e-3 and gradient clipping at 0.25.

    Source: their fastai_model.py, with fastai v1.
    """

    gradient_clip_norm: float | None = None

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [self.train(lr_schedule="one-cycle", gradient_clip_norm=self.gradient_clip_norm, selection="last")]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        """Return AdamW with the second beta of fastai v1; the one-cycle schedule changes the first beta."""
        return torch.optim.AdamW(groups, weight_decay=phase.weight_decay, betas=(0.95, 0.99), fused=True)


@register_method("scratch-s4")
@dataclass(frozen=True)
class ScratchS4(FromRandom):
    """The recipe of S4 (Mehari & Strodthoff 2023): AdamW with a constant learning rate; the best epoch is selected.

    Source: train_ecg_model.py in their code, tmehari/ssm_ecg.
    """

    epochs: int = 100
    lr: float = 1e-3
    weight_decay: float = 1e-3

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [self.train()]


@register_method("scratch-wavelet")
@dataclass(frozen=True)
class ScratchWavelet(FromRandom):
    """The recipe of Wavelet+NN (Strodthoff et al. 2020): Adamax with a constant rate; the best epoch is selected.

    Source: their models/wavelet.py at the time of publication. It selects by validation macro AUROC, the mean over
    batches of 128. (Commit 8db8873, a year later, selects by loss.) Learning rate and epsilon are the defaults of Keras
    at that time; its learning rate was 2e-3.
    """

    epochs: int = 30
    lr: float = 2e-3
    weight_decay: float = 0.0

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [self.train()]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        return torch.optim.Adamax(groups, eps=1e-7, weight_decay=phase.weight_decay)
