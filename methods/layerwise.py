"""Fine-tuning by layer group: each at its own rate, one after the other, or one alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from bench.plugin import (
    Choice,
    Classifier,
    Gradients,
    Incompatible,
    LogUniform,
    Method,
    Phase,
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
    """Layer-wise learning-rate decay: the group that is d below the head has the rate lr * decay^d.

    BEiT (Bao et al. 2022, arXiv 2106.08254) and MAE, who spare parameters of one dimension the weight decay; decay
    0.75 is MAE's for ViT-L and -H at 224 (0.65 for ViT-B). All else is `ft`. In theirs the last norm has the head's
    rate; here it has that of its layer group.
    """

    decay: float = 0.75

    search = {**Finetune.search, "decay": Uniform(0.5, 0.95)}

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        rates = {"head": self.finetune_lr}
        for depth, group in enumerate(reversed(layer_groups), start=1):
            rates[group] = self.finetune_lr * self.decay**depth
        return [replace(self.finetune(), learning_rates=rates, no_weight_decay=("1d",))]


@register_method("ft-disc")
@dataclass(frozen=True)
class DiscriminativeFinetune(Method):
    """Three speeds: the head at lr, the upper half of the layer groups at lr / 10, the lower half at lr / 100.

    The fine-tuning of Al-Masud, Alcaraz & Strodthoff (arXiv 2509.25095): AdamW at a constant rate, lr 1e-3, factor
    0.1; after Howard & Ruder 2018. Their three parts are head, predictor and encoder. Ours: the halves, of an odd
    number the upper has one more; 30 epochs; weight decay 0.01, AdamW's default.
    """

    lr: float = 1e-3
    factor: float = 0.1
    weight_decay: float = 0.01
    epochs: int = 30

    search = {"lr": LogUniform(1e-4, 1e-2), "factor": LogUniform(0.03, 0.5)}

    def prepare(self, model: Classifier, init: Start) -> None:
        require_two_groups(model, "an upper and a lower half take")

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        middle = len(layer_groups) // 2
        lower = dict.fromkeys(layer_groups[:middle], self.lr * self.factor**2)
        upper = dict.fromkeys(layer_groups[middle:], self.lr * self.factor)
        rates = {"head": self.lr, **upper, **lower}
        return [Phase(name="finetune", learning_rates=rates, epochs=self.epochs, weight_decay=self.weight_decay)]


@register_method("gradual")
@dataclass(frozen=True)
class GradualUnfreezing(Finetune):
    """Train the head for an epoch, then thaw the backbone from above, a stage an epoch, then fine-tune all as `ft`.

    ULMFiT (Howard & Ruder 2018, arXiv 1801.06146): one epoch a stage. Ours: at most 4 stages of as many layer groups
    each, as their network has; the same rate for all, so that the order alone is new (their rates by layer are `llrd`).
    """

    stages: int = 4
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
                drop_path_rate=self.drop_path_rate if layer_groups[start:] else 0.0,
                lr_schedule="constant",
                selection="last",
            )
            for stage, start in enumerate(starts)
        ]
        return [*thaws, self.finetune()]


@register_method("surgical")
@dataclass(frozen=True)
class SurgicalFinetune(Finetune):
    """Fine-tune the head and one layer group; the rest stays frozen.

    Lee et al. 2023, arXiv 2210.11466: the first block is best for shifts of the input, such as other filters, the last
    for shifts of the labels. Theirs keeps the head, which is new here and trained. All else is `ft`.
    """

    block: int = 0

    search = {**Finetune.search, "block": Choice((0, 1, -2, -1))}

    def prepare(self, model: Classifier, init: Start) -> None:
        require_two_groups(model, "to train one and freeze the rest takes")

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        if not -len(layer_groups) <= self.block < len(layer_groups):
            raise Incompatible(
                f"block {self.block} was asked for, and the backbone has {len(layer_groups)} layer groups, "
                "counted from 0 at the signals or from -1 at the head"
            )
        rates = dict.fromkeys(["head", layer_groups[self.block]], self.finetune_lr)
        return [replace(self.finetune(), learning_rates=rates)]


@register_method("auto-rgn")
@dataclass(frozen=True)
class AutoRGN(Finetune):
    """Surgical by itself: a layer group's rate is lr * r / max r, r = |gradient| / |weights| over the group.

    Auto-RGN of Lee et al. 2023, arXiv 2210.11466. Gradients are the mean over the training records when training
    begins. Ours: the head, which is new and whose ratio tells nothing, has the rate lr; ratios are not taken again.
    """

    def prepare(self, model: Classifier, init: Start) -> None:
        require_two_groups(model, "rates relative to one another take")

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        rates = dict.fromkeys([*layer_groups, "head"], self.finetune_lr)
        return [replace(self.finetune(), learning_rates=rates)]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        found, ratios = gradients(), []
        for group in groups[:-1]:
            gradient = torch.stack([found[name].norm() for name in group["param_names"]]).norm()
            weight = torch.stack([p.detach().norm() for p in group["params"]]).norm()
            ratios.append(float(gradient / weight.clamp(min=1e-12)))
        for group, ratio in zip(groups, ratios, strict=False):
            group["lr"] *= ratio / (max(ratios) or 1.0)
        return super().optimizer(groups, phase, gradients)
