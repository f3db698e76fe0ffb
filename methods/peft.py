"""Parameter-efficient fine-tuning: the backbone's weights stay, and biases or small new parts are trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.plugin import Choice, Classifier, Incompatible, LogUniform, Method, Phase, Start, register_method


@dataclass(frozen=True)
class ParameterEfficient(Method):
    """What they share: one phase that trains the head and the parts of one pattern, the backbone in eval mode.

    Ours: AdamW at 1e-3, in the range 1e-4 to 1e-3 of LoRA's and above that of full fine-tuning; a cosine; no weight
    decay, as in peft's examples.
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
    """Train the biases, those of norms and recurrent layers too, and the head (Ben Zaken et al. 2022, 2106.10199).

    W x + b with b alone trained.
    """

    part = "backbone.*bias*"

    def prepare(self, model: Classifier, init: Start) -> None:
        if not any("bias" in name and p.requires_grad for name, p in model.backbone.named_parameters()):
            raise Incompatible("it trains biases, and this backbone has none")


class LowRank(nn.Module):
    """A weight [out, ...] -> the same + alpha / rank * B A, [out, rank] x [rank, in * taps]; B is zero at first."""

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
    """A weight -> m V / |V|, V = weight + alpha / rank * B A; norms are over an output's row; m = |weight| at first."""

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

    A from He's uniform, B zero, as in microsoft/LoRA; a convolution's weight is a matrix [out, in * taps]. alpha is
    twice the rank; rank 8 is the default of peft. The sum is taken in the weight, so that prediction is by merged
    weights. Recurrent layers are left as they are. No dropout.
    """

    rank: int = 8
    alpha: float = 16.0

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
    """LoRA of the weights' directions with trained magnitudes: m V / |V| (Liu et al. 2024, arXiv 2402.09353).

    V = W + alpha / rank * B A, |V| the norms over each output's row, m = |W| at first. Rank and alpha are `lora`'s.
    """

    kind = WeightDecomposed


class Bottleneck(nn.Module):
    """y + up(GELU(down(y))) over the channels of a layer's output; up is zero at first."""

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
    """Return a layer's output after its adapter: a forward hook, so that the layer keeps its type, keys and weight."""
    return layer.adapter(output)  # type: ignore[no-any-return, operator]


@register_method("adapter")
@dataclass(frozen=True)
class Adapter(ParameterEfficient):
    """A bottleneck with a skip after the last layer of each layer group (Houlsby et al. 2019, arXiv 1902.00751).

    Width 64 as theirs. One a block, as Pfeiffer et al. 2021 (arXiv 2005.00247) keep of their two, norms untouched. The
    last layer is a convolution or, where the group has none, a linear layer: in a Transformer block the end of the MLP.
    """

    width: int = 64

    part = "backbone.*.adapter"
    search = {**ParameterEfficient.search, "width": Choice((8, 16, 64))}

    def prepare(self, model: Classifier, init: Start) -> None:
        modules, adapted = dict(model.backbone.named_modules()), False
        for group in model.backbone.layer_groups():
            inner = list(modules[group].modules()) if group in modules else []
            convolutions = [m for m in inner if isinstance(m, nn.Conv1d | nn.Conv2d)]
            linear = [m for m in inner if isinstance(m, nn.Linear)]
            for layer in convolutions[-1:] or linear[-1:]:
                layer.adapter = Bottleneck(layer.weight.shape[0], self.width, axis=1 if convolutions else -1)
                layer.register_forward_hook(adapt)
                adapted = True
        if not adapted:
            raise Incompatible("it follows linear layers and convolutions, and this backbone has none")
