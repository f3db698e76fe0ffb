"""Parameter-efficient fine-tuning: train biases or small new parts, and keep the backbone's weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.plugin import (
    Choice,
    Classifier,
    Count,
    Incompatible,
    LogUniform,
    Method,
    Phase,
    Positive,
    Start,
    register_method,
)
from methods.linear_probe import Probe


@dataclass(frozen=True)
class ParameterEfficient(Method):
    """The recipe that these methods share: one phase that trains the head and the parts that match a pattern.

    The rest of the backbone is frozen and in eval mode. Chosen here: AdamW at 1e-3, within LoRA's range of 1e-4 to 1e-3
    and twice that of `ft`; a cosine schedule; no weight decay, as in peft's examples. Few parameters may need a higher
    rate, or more than 30 epochs: see `bench tune`.
    """

    epochs: int = 30
    lr: float = 1e-3
    weight_decay: float = 0.0

    part: ClassVar[str]
    search = {"lr": LogUniform(1e-4, 1e-2)}

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        rates = dict.fromkeys(["head", self.part], self.lr)
        decay = self.weight_decay
        return [
            Phase(name="finetune", learning_rates=rates, epochs=self.epochs, weight_decay=decay, lr_schedule="cosine")
        ]


@register_method("bitfit")
@dataclass(frozen=True)
class BitFit(ParameterEfficient):
    """BitFit: train the head and all biases, of norms and recurrent layers too (Ben Zaken et al. 2022, 2106.10199).

    Of W x + b, only b is trained.
    """

    part = "backbone.*bias*"

    def prepare(self, model: Classifier, init: Start) -> None:
        if not any("bias" in name and p.requires_grad for name, p in model.backbone.named_parameters()):
            raise Incompatible("it trains biases, and this backbone has none")


class LowRank(nn.Module):
    """Parametrization: weight [out, ...] + alpha / rank * B A; B [out, rank] is zero at first; A [rank, in * taps]."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(nn.init.kaiming_uniform_(weight.new_empty(rank, columns), a=5**0.5))
        self.lora_b = nn.Parameter(weight.new_zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        update: Tensor = self.scale * (self.lora_b @ self.lora_a).view_as(weight)
        return weight + update


class WeightDecomposed(LowRank):
    """Parametrization: m V / |V| with V = weight + alpha / rank * B A, by output row; m is |weight| at first."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__(weight, rank, alpha)
        self.lora_magnitude = nn.Parameter(self.row_norms(weight.detach()))

    def forward(self, weight: Tensor) -> Tensor:
        direction = super().forward(weight)
        # the norm is a constant to the gradient: section 4.3 of the paper
        ratio = self.lora_magnitude / self.row_norms(direction.detach())
        return direction * ratio.view(-1, *[1] * (weight.dim() - 1))

    @staticmethod
    def row_norms(weight: Tensor) -> Tensor:
        norms: Tensor = weight.flatten(1).norm(dim=1).clamp(min=1e-12)
        return norms


@register_method("lora")
@dataclass(frozen=True)
class LoRA(ParameterEfficient):
    """Low-rank updates of all linear layers and convolutions, W + alpha / rank * B A (Hu et al. 2021, 2106.09685).

    As in microsoft/LoRA, A is initialised by He's uniform and B by zero. The weight of a convolution is a matrix [out,
    in * taps], as in peft; the groups of a convolution share A. Rank 8 is the default of peft, whose alpha is 8; here
    it is twice the rank. The update is added to the weight, so prediction uses merged weights. Weights outside
    nn.Linear, nn.Conv1d and nn.Conv2d are not updated: recurrent layers, `Mix` of ecg_cpc, the positions of wav2vec
    2.0, query, key and value of MELP's pooling. There is no dropout.
    """

    rank: Count = 8
    alpha: Positive = 16.0

    part = "backbone.*.lora_*"
    search = {**ParameterEfficient.search, "rank": Choice((2, 4, 8, 16))}
    kind: ClassVar[type[LowRank]] = LowRank

    def prepare(self, model: Classifier, init: Start) -> None:
        layers = [m for m in model.backbone.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
        if not layers:
            raise Incompatible("it updates linear layers and convolutions, and this backbone has none")
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", self.kind(layer.weight, self.rank, self.alpha))


@register_method("dora")
@dataclass(frozen=True)
class DoRA(LoRA):
    """DoRA: LoRA of the weights' directions, with trained magnitudes: m V / |V| (Liu et al. 2024, arXiv 2402.09353).

    V = W + alpha / rank * B A; |V| are the norms over each output's row; m begins as |W|. Rank, alpha and
    layers as in `lora`.
    """

    kind = WeightDecomposed


@register_method("lp-lora")
@dataclass(frozen=True)
class LPLoRA(LoRA, Probe):
    """A preview linear probe, then LoRA: the recipes of `lp` and `lora`, as `lpft` is that of `lp` and `ft`."""

    search = {**Probe.search, **LoRA.search}

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [self.probe(), *super().phases(layer_groups)]


class Bottleneck(nn.Module):
    """Compute y + up(GELU(down(y))) over the channels of a layer's output y; `up` is zero at first."""

    def __init__(self, channels: int, width: int, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.down, self.up = nn.Linear(channels, width), nn.Linear(width, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, y: Tensor) -> Tensor:
        added: Tensor = self.up(F.gelu(self.down(y.movedim(self.axis, -1))))
        return y + added.movedim(-1, self.axis)


def adapt(layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
    """Return a layer's output after its adapter. As a forward hook, it keeps the layer's type, keys and weight."""
    return layer.adapter(output)  # type: ignore[no-any-return, operator]


@register_method("adapter")
@dataclass(frozen=True)
class Adapter(ParameterEfficient):
    """Adapters: a bottleneck with a skip connection after the last layer of each layer group (Houlsby et al. 2019).

    Source: arXiv 1902.00751, with its width of 64. There is one adapter per layer group, on Net1D for the stem and each
    stage of several blocks; Houlsby et al. have two a block, Pfeiffer et al. 2021 (arXiv 2005.00247) one. Norms are not
    trained. The last layer is the last convolution, or, in a group without convolutions,
    the last linear layer: in a Transformer block the end of the MLP. Deviation: where a group registers the
    convolution of its shortcut last (inception1d, MERL, some groups of resnet1d_wang and xresnet1d), the adapter is on
    the shortcut. Layers other than nn.Linear, nn.Conv1d and nn.Conv2d count as none, as do output layers of attention.
    """

    width: Count = 64

    part = "backbone.*.adapter"
    search = {**ParameterEfficient.search, "width": Choice((8, 16, 64))}

    def prepare(self, model: Classifier, init: Start) -> None:
        modules, adapted = dict(model.backbone.named_modules()), False
        for group in model.backbone.layer_groups():
            inner = list(modules[group].modules()) if group in modules else []
            convolutions = [m for m in inner if isinstance(m, nn.Conv1d | nn.Conv2d)]
            never_called = [m.out_proj for m in inner if isinstance(m, nn.MultiheadAttention)]
            linear = [m for m in inner if isinstance(m, nn.Linear) and m not in never_called]
            for layer in convolutions[-1:] or linear[-1:]:
                layer.adapter = Bottleneck(layer.weight.shape[0], self.width, axis=1 if convolutions else -1)
                layer.register_forward_hook(adapt)
                adapted = True
        if not adapted:
            raise Incompatible("it follows linear layers and convolutions, and this backbone has none")
