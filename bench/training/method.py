"""What a post-training method is: phases, each a map from parts of the model to learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from bench.errors import PluginError
from bench.training.model import Classifier
from bench.training.search import Search

Forward = Callable[[Tensor], Tensor]
"""Signals [record, lead, time], or what stands for them, to logits [record, label]."""
Optimizer = Literal["adamw", "adam"]
Schedule = Literal["constant", "cosine", "one-cycle", "plateau"]
Selection = Literal["best", "lowest-loss", "last"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training in which the same parts are trained.

    A part is the path of a module or parameter, such as `head` or `backbone.stage_list.6`, in which `*` fits anything,
    dots too: `backbone.*.bias`. It takes in what lies below; the longest that fits a parameter, counted in
    characters, decides. A part without a learning rate is frozen: no gradient, and eval mode, its buffers too.

    Modes follow modules, not parameters: a module is in train mode if its own path, or that of one above it, fits a
    part. So with `backbone.*.bias` alone the backbone stays in eval mode: batch norm learns its bias and normalises by
    the running statistics it came with, dropout and stochastic depth rest. `backbone.*norm*`, which fits the modules,
    trains them with their buffers.
    """

    name: str
    learning_rates: Mapping[str, float]
    epochs: int
    batch_size: int = 256
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.0
    lr_schedule: Schedule = "constant"
    """cosine falls to `min_lr_factor` of each learning rate at the last step; plateau watches fold-9 macro AUROC."""
    min_lr_factor: float = 0.0
    gradient_clip_norm: float | None = None
    """Largest norm of the gradient over all trained parameters, or None."""
    drop_path_rate: float = 0.0
    """Stochastic depth: the rate of the deepest residual block; linear from 0 at the shallowest."""
    selection: Selection = "best"
    """The epoch whose weights leave the phase: best by fold-9 macro AUROC, lowest by fold-9 loss, or the last."""

    def __post_init__(self) -> None:
        if not self.learning_rates:
            raise PluginError(f"phase {self.name!r} trains nothing: give at least one part a learning rate")
        for part, rate in self.learning_rates.items():
            if not 0 < rate < math.inf:
                raise PluginError(
                    f"phase {self.name!r}: the learning rate of {part!r} must be positive, got {rate!r}; "
                    "leave a part out to freeze it"
                )
        for value, rule, text in (
            (self.epochs, self.epochs >= 1, "epochs must be at least 1"),
            (self.batch_size, self.batch_size >= 1, "batch_size must be at least 1"),
            (self.optimizer, self.optimizer in get_args(Optimizer), f"expected one of {get_args(Optimizer)}"),
            (self.lr_schedule, self.lr_schedule in get_args(Schedule), f"expected one of {get_args(Schedule)}"),
            (self.selection, self.selection in get_args(Selection), f"expected one of {get_args(Selection)}"),
            (self.drop_path_rate, 0 <= self.drop_path_rate < 1, "drop_path_rate must lie in [0, 1)"),
            (self.weight_decay, 0 <= self.weight_decay < math.inf, "weight_decay must not be negative"),
            (
                self.min_lr_factor,
                0 <= self.min_lr_factor <= 1,
                "the final learning rate must lie between 0 and the first",
            ),
            (
                self.gradient_clip_norm,
                self.gradient_clip_norm is None or self.gradient_clip_norm > 0,
                "gradient_clip_norm must be positive",
            ),
        ):
            if not rule:
                raise PluginError(f"phase {self.name!r}: {text}, got {value!r}")


class Method:
    """A post-training recipe. Subclass it as a dataclass: its fields are its hyper-parameters.

    The harness owns data, order, loop, precision, ranks, clock and selection. A method sees training batches and
    nothing of folds 9 and 10.
    """

    search: ClassVar[Mapping[str, Search]] = {}
    """Hyper-parameters that `bench tune` may vary, and where: LogUniform, Uniform or Choice."""

    def phases(self) -> Sequence[Phase]:
        """The phases in order; each starts from the weights that the one before selected."""
        raise NotImplementedError

    def prepare(self, model: Classifier, init: str) -> None:
        """Look at the model before training, or alter it; raise `Incompatible` with a reason to decline.

        Modules may be added, wrapped and renamed within `model.backbone` and `model.head`; it stays
        `head(backbone(signals))`. A parameter whose `requires_grad` is off afterwards is never trained. `bench predict`
        prepares a new model in the same way before it loads the weights. `init` is `pretrained`, `random`, or what a
        file of weights calls itself.
        """

    def loss(self, forward: Forward, signals: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over a batch: signals [record, lead, time], labels [record, label] in {0, 1}.

        Call `forward` and not the model, or ranks drift apart. Where this is not overridden, a frozen backbone is
        run once and `signals` are its features.
        """
        return nn.functional.binary_cross_entropy_with_logits(forward(signals), labels)

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase) -> torch.optim.Optimizer:
        """The optimiser of a phase; `groups` are its parts in order, as torch writes them.

        Each has its `params`, `param_names` (dotted paths, in the same order) and `lr`; any other groups of these
        parameters will do, such as one a layer. The phase's schedule scales whatever rates they have.
        """
        kinds: dict[str, type[torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
        return kinds[phase.optimizer](groups, weight_decay=phase.weight_decay, fused=True)  # type: ignore[call-arg]
