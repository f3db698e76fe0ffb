"""Fine-tuning by layer group: each with its own learning rate, one after the other, or only one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from bench.plugin import (
    Choice,
    Classifier,
    Count,
    Gradients,
    Incompatible,
    LogUniform,
    Method,
    Phase,
    Positive,
    Start,
    Uniform,
    register_method,
)
from methods.full_finetune import Finetune


def require_two_groups(model: Classifier, what: str) -> None:
    """Raise Incompatible where the backbone has a single layer group, so that nothing is between groups."""
    if len(model.backbone.layer_groups()) < 2:
        raise Incompatible(f"{what} at least two layer groups, and this backbone has one")


@register_method("llrd")
@dataclass(frozen=True)
class LayerwiseDecay(Finetune):
    """Layer-wise learning-rate decay: the d-th layer group below the head has the learning rate lr * decay^d.

    Source: BEiT (Bao et al. 2022, arXiv 2106.08254) and MAE. They apply no weight decay to parameters of one dimension.
    Decay 0.75 is MAE's value for ViT-L and -H at 224 (0.65 for ViT-B). Everything else is as in `ft`: MAE's top rate is
    higher, 2e-3 and more. Deviations: a last norm, and each part of an embedding, are layer groups of their own, so
    that blocks are a factor lower than in their code, and the first group up to a factor 8; and embeddings of positions
    have weight decay.
    """

    decay: Positive = 0.75

    search = {**Finetune.search, "decay": Uniform(0.5, 0.95)}

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        rates = {"head": self.finetune_lr}
        for depth, group in enumerate(reversed(layer_groups), start=1):
            rates[group] = self.finetune_lr * self.decay**depth
        return [replace(self.finetune(), learning_rates=rates, no_weight_decay=("1d",))]


@register_method("ft-disc")
@dataclass(frozen=True)
class DiscriminativeFinetune(Method):
    """Three learning rates: lr for the head, lr / 10 for the upper half of the layer groups, lr / 100 for the lower.

    Source: Al-Masud, Alcaraz & Strodthoff (arXiv 2509.25095), after Howard & Ruder 2018: AdamW with a constant rate, lr
    1e-3, factor 0.1. Their three parts are head, predictor and encoder. Chosen here: the halves (the upper half is
    larger if the number is odd), 30 epochs, 256 records a step, and weight decay 0.01, AdamW's default; their own
    values of these are in `ft-ecg-cpc`.
    """

    lr: float = 1e-3
    factor: Positive = 0.1
    weight_decay: float = 0.01
    epochs: int = 30
    batch_size: int = 256

    search = {"lr": LogUniform(1e-4, 1e-2), "factor": LogUniform(0.03, 0.5)}

    def prepare(self, model: Classifier, init: Start) -> None:
        require_two_groups(model, "an upper and a lower half take")

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        middle = len(layer_groups) // 2
        lower = dict.fromkeys(layer_groups[:middle], self.lr * self.factor**2)
        upper = dict.fromkeys(layer_groups[middle:], self.lr * self.factor)
        rates = {"head": self.lr, **upper, **lower}
        settings: dict[str, Any] = {"batch_size": self.batch_size, "weight_decay": self.weight_decay}
        return [Phase(name="finetune", learning_rates=rates, epochs=self.epochs, **settings)]


@register_method("gradual")
@dataclass(frozen=True)
class GradualUnfreezing(Finetune):
    """Train the head, then unfreeze the backbone from its end, one stage per epoch, then fine-tune all as in `ft`.

    Source: ULMFiT (Howard & Ruder 2018, arXiv 1801.06146), with one epoch per stage, before the epochs of `ft`. With
    few records that is a few steps, and the head is far from trained when the backbone thaws: `thaw_epochs`. Chosen
    here: at most 4 stages of equally many layer groups, as in their network. All parts have the same rate, so that only
    the order differs from `ft` (for rates by layer see `llrd`). Stochastic depth, if any, begins when all is trained:
    in a stage no block may drop.
    """

    stages: Count = 4
    thaw_epochs: int = 1

    search = {**Finetune.search, "stages": Choice((2, 3, 4, 6))}

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        num = min(self.stages, len(layer_groups))
        starts = [round(len(layer_groups) * stage / num) for stage in range(num, 0, -1)]
        thaws = [
            replace(
                self.finetune(),
                name=f"thaw {stage}",
                learning_rates=dict.fromkeys(["head", *layer_groups[start:]], self.finetune_lr),
                epochs=self.thaw_epochs,
                drop_path_rate=0.0,
                lr_schedule="constant",
                selection="last",
                patience=None,
            )
            for stage, start in enumerate(starts)
        ]
        return [*thaws, self.finetune()]


@register_method("surgical")
@dataclass(frozen=True)
class SurgicalFinetune(Finetune):
    """Fine-tune the head and one layer group; the other groups stay frozen.

    Source: Lee et al. 2023, arXiv 2210.11466. They find the first block best for shifts of the input, such as other
    filters, and the last for shifts of the labels. `block` counts layer groups: 0 is mostly the stem alone, where their
    first block is the stem and the blocks behind it. They keep the head; here it is new and trained. Everything else is
    as in `ft`.
    """

    block: int = 0

    search = {**Finetune.search, "block": Choice((0, 1, -2, -1))}

    def prepare(self, model: Classifier, init: Start) -> None:
        require_two_groups(model, "to train one and freeze the rest takes")

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        if not -len(layer_groups) <= self.block < len(layer_groups):
            raise Incompatible(
                f"there is no block {self.block}: the backbone has {len(layer_groups)} layer groups, "
                "counted from 0 at the signals or from -1 at the head"
            )
        rates = dict.fromkeys(["head", layer_groups[self.block]], self.finetune_lr)
        return [replace(self.finetune(), learning_rates=rates)]


@register_method("auto-rgn")
@dataclass(frozen=True)
class AutoRGN(Finetune):
    """Automatic rates by layer group: lr * r / max r, with r = |gradient| / |weights| of the group.

    Source: Auto-RGN of Lee et al. 2023, arXiv 2210.11466. The gradient is the mean over the training records before
    training, in eval mode. Deviations: the head has the rate lr, because it is new and its ratio is meaningless; ratios
    are computed once, theirs before each epoch as the mean of 5 batches' ratios; a ratio is a layer group's, theirs a
    tensor's; and batch norms are trained.
    """

    def prepare(self, model: Classifier, init: Start) -> None:
        require_two_groups(model, "rates relative to one another take")

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        rates = dict.fromkeys([*layer_groups, "head"], self.finetune_lr)
        return [replace(self.finetune(), learning_rates=rates)]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        means, ratios = gradients(), []
        for group in groups[:-1]:
            gradient = torch.stack([means[name].norm() for name in group["param_names"]]).norm()
            weight = torch.stack([p.detach().norm() for p in group["params"]]).norm()
            ratios.append(float(gradient / weight.clamp(min=1e-12)))
        for group, ratio in zip(groups, ratios, strict=False):
            group["lr"] *= ratio / (max(ratios) or 1.0)
        return super().optimizer(groups, phase, gradients)
