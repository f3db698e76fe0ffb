"""Methods of all kinds, each written by the contract alone and in at most 30 lines: `bench check` must pass them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.plugin import (
    EMA,
    SWA,
    Batch,
    Classifier,
    Gradients,
    Incompatible,
    Judge,
    Method,
    Phase,
    SignalBatch,
    Start,
    register_method,
)


@dataclass(frozen=True)
class Finetune(Method):
    """What most of them share."""

    lr: float = 1e-3

    def finetune(self, **options: Any) -> Phase:
        return Phase(name="finetune", learning_rates={"backbone": self.lr, "head": self.lr}, epochs=2, **options)

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [self.finetune()]


@register_method("ema-mixup")
@dataclass(frozen=True)
class EMAMixup(Finetune):
    """Mixup (Zhang et al. 2018) by averaged weights."""

    alpha: float = 0.4

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [self.finetune(average=EMA(0.9), warmup=0.1, lr_schedule="cosine")]

    def augment(self, batch: SignalBatch) -> tuple[Tensor, Tensor]:
        share = batch.rng.beta(self.alpha, self.alpha)
        partner = torch.from_numpy(batch.rng.permutation(len(batch.signals)))
        return torch.lerp(batch.signals[partner], batch.signals, share), torch.lerp(
            batch.labels[partner], batch.labels, share
        )


@register_method("swa")
@dataclass(frozen=True)
class StochasticWeightAveraging(Finetune):
    """Stochastic weight averaging (Izmailov et al. 2018)."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [self.finetune(average=SWA(0.25), patience=3, no_weight_decay=("1d",), weight_decay=0.1)]


@register_method("teacher")
@dataclass(frozen=True)
class Teacher(Finetune):
    """Distillation from the start, weighed by a ramp, with stochastic depth."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [self.finetune(drop_path_rate=0.5)]

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        logits, ramp = batch.logits(), batch.step / batch.num_steps
        of_labels = F.binary_cross_entropy_with_logits(logits, batch.labels)
        return of_labels + ramp * F.binary_cross_entropy_with_logits(logits, batch.initial().sigmoid())


@register_method("mean-teacher")
@dataclass(frozen=True)
class MeanTeacher(Finetune):
    """Agreement with the averaged weights on other signals (Tarvainen & Valpola 2017)."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [self.finetune(average=EMA(0.9), drop_path_rate=0.5, drop_path_unit="batch")]

    needs_signals = True

    def loss(self, batch: Batch) -> Tensor:
        logits = batch.forward(batch.signals)
        goal = batch.average(batch.signals.flip(-1)).sigmoid()
        return F.binary_cross_entropy_with_logits(logits, batch.labels) + (logits.sigmoid() - goal).square().mean()


@register_method("mean-teacher-ramp")
@dataclass(frozen=True)
class MeanTeacherRamp(Finetune):
    """A mean teacher whose weight rises over the first part of the steps, by exp(-5 (1 - t)^2), to `weight`."""

    weight: float = 2.0
    ramp: float = 0.5
    needs_signals = False

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [self.finetune(average=EMA(0.99), drop_path_rate=0.3)]

    def loss(self, batch: Batch) -> Tensor:
        logits = batch.logits()
        time = min(1.0, batch.step / max(1.0, self.ramp * batch.num_steps))
        agreement = (logits.sigmoid() - batch.average().sigmoid()).square().mean()
        of_labels = F.binary_cross_entropy_with_logits(logits, batch.labels)
        return of_labels + self.weight * math.exp(-5 * (1 - time) ** 2) * agreement


class RandomDirections(nn.Module):
    """A weight -> weight + diag(b) B diag(d) A; A and B are random, the same for all layers, and never trained."""

    a: Tensor
    b: Tensor

    def __init__(self, weight: Tensor, a: Tensor, b: Tensor) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.register_buffer("a", a[:, :columns].clone())
        self.register_buffer("b", b[:rows].clone())
        self.vera_d = nn.Parameter(torch.full((len(a),), 0.1))
        self.vera_b = nn.Parameter(torch.zeros(rows))

    def forward(self, weight: Tensor) -> Tensor:
        update = self.vera_b.unsqueeze(1) * (self.b @ (self.vera_d.unsqueeze(1) * self.a))
        return weight + update.view_as(weight)


@register_method("vera")
@dataclass(frozen=True)
class VeRA(Method):
    """VeRA (Kopiczko et al. 2024): random directions shared by all layers, of which two vectors a layer are trained."""

    rank: int = 16
    lr: float = 1e-2

    def prepare(self, model: Classifier, init: Start) -> None:
        layers = [m for m in model.backbone.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
        if not layers:
            raise Incompatible("it adds to linear layers and convolutions, and this backbone has none")
        rows, columns = (max(m.weight.flatten(1).shape[side] for m in layers) for side in (0, 1))
        a = nn.init.kaiming_uniform_(torch.empty(self.rank, columns))
        b = nn.init.kaiming_uniform_(torch.empty(rows, self.rank))
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", RandomDirections(layer.weight, a, b))

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="finetune", learning_rates={"head": 1e-3, "backbone.*.vera_*": self.lr}, epochs=2)]


class LowRankBeside(nn.Module):
    """A frozen layer, and beside it an update behind dropout, in a module of its own, which is in train mode so."""

    def __init__(self, layer: nn.Conv1d, rank: int) -> None:
        super().__init__()
        self.layer = layer
        into = nn.Conv1d(layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding, bias=False)
        self.update = nn.Sequential(nn.Dropout(0.1), into, nn.Conv1d(rank, layer.out_channels, 1, bias=False))
        nn.init.zeros_(self.update[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.update(x)  # type: ignore[no-any-return]


@register_method("lora-dropout")
@dataclass(frozen=True)
class LoRADropout(Method):
    """LoRA of convolutions with dropout on its input, as in peft (Hu et al. 2021)."""

    rank: int = 4

    def prepare(self, model: Classifier, init: Start) -> None:
        layers = {name: m for name, m in model.backbone.named_modules() if type(m) is nn.Conv1d and m.groups == 1}
        if not layers:
            raise Incompatible("it adds to convolutions over time, and this backbone has none")
        for name, layer in layers.items():
            model.backbone.set_submodule(name, LowRankBeside(layer, self.rank))

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="finetune", learning_rates={"head": 1e-3, "backbone.*.update": 1e-3}, epochs=2)]


@register_method("lbfgs")
@dataclass(frozen=True)
class LBFGSProbe(Method):
    """A linear probe by L-BFGS."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="probe", learning_rates={"head": 1.0}, epochs=2, batch_size=10**9, selection="last")]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        parameters = [p for group in groups for p in group["params"]]
        return torch.optim.LBFGS(parameters, max_iter=4, line_search_fn="strong_wolfe")

    def optimizer_step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
        optimizer.step(closure)


@register_method("ridge-grid")
@dataclass(frozen=True)
class RidgeGrid(Method):
    """Least squares on features, its strength chosen on fold 9: no gradient steps."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase.fit("ridge")]

    def finish(self, model: Classifier, judge: Judge) -> None:
        x, y = judge.features()
        center, eye = x.mean(0), torch.eye(x.shape[1], dtype=x.dtype)
        heads = []
        for strength in np.logspace(-2, 2, 5):
            w = torch.linalg.solve((x - center).T @ (x - center) + strength * eye, (x - center).T @ (y - y.mean(0)))
            heads.append({"head.weight": w.T, "head.bias": y.mean(0) - center @ w})
        best = max(heads, key=judge.score)
        model.load_state_dict({**model.state_dict(), **best})


@register_method("wise")
@dataclass(frozen=True)
class WiSE(Finetune):
    """Between the weights before and after fine-tuning (Wortsman et al. 2022), where fold 9 likes it best."""

    def finish(self, model: Classifier, judge: Judge) -> None:
        after = {key: value.clone() for key, value in model.state_dict().items() if key in judge.before}

        def at(share: float) -> dict[str, Tensor]:
            return {k: torch.lerp(judge.before[k], v, share) if v.is_floating_point() else v for k, v in after.items()}

        best = max((0.0, 0.25, 0.5, 0.75, 1.0), key=lambda share: judge.score(at(share)))
        model.load_state_dict({**model.state_dict(), **at(best)})
        judge.recalibrate()


@register_method("r-drop-constant")
@dataclass(frozen=True)
class RDrop(Finetune):
    """Two passes that drop different paths agree (Liang et al. 2021)."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [self.finetune(drop_path_rate=0.5, drop_path_shape="constant")]

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        a, b = batch.logits(masks=0), batch.logits(masks=1)
        of_labels = sum(F.binary_cross_entropy_with_logits(logits, batch.labels) for logits in (a, b)) / 2
        return of_labels + ((a.sigmoid() - b.sigmoid()) * (a - b)).mean()  # symmetric KL of Bernoullis


@register_method("r-drop-rows")
@dataclass(frozen=True)
class RDropRows(RDrop):
    """The same by one pass over two copies of the batch, as its authors' code does."""

    needs_signals = True

    def loss(self, batch: Batch) -> Tensor:
        a, b = batch.forward(torch.cat([batch.signals, batch.signals])).chunk(2)
        of_labels = sum(F.binary_cross_entropy_with_logits(logits, batch.labels) for logits in (a, b)) / 2
        return of_labels + ((a.sigmoid() - b.sigmoid()) * (a - b)).mean()


@register_method("class-balanced")
@dataclass(frozen=True)
class ClassBalanced(Method):
    """Positives weighed by their rarity, on a probe: logits and labels are all it needs."""

    needs_signals = False

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="probe", learning_rates={"head": 1e-2}, epochs=2)]

    def loss(self, batch: Batch) -> Tensor:
        weight = (batch.num_records - batch.positives) / batch.positives.clamp(min=1)
        return F.binary_cross_entropy_with_logits(batch.logits(), batch.labels, pos_weight=weight)


@register_method("warm-head")
@dataclass(frozen=True)
class WarmHead(Finetune):
    """The head begins with the rows of the earlier head whose labels this task has too; the others are new."""

    uses_published_head = True

    def prepare(self, model: Classifier, init: Start) -> None:
        shared = [label for label in init.labels if label in init.head_labels]
        if not shared:
            raise Incompatible(
                f"it starts from a head that knows some of the labels, and {init.name} weights have none"
            )
        rows = [init.labels.index(label) for label in shared]
        earlier = [init.head_labels.index(label) for label in shared]
        for name, parameter in model.head.named_parameters():
            parameter.data[rows] = init.head[name][earlier]


@register_method("two-views")
@dataclass(frozen=True)
class TwoViews(Finetune):
    """What the model sees in a weakly altered record holds in a strongly altered one (FixMatch, Sohn et al. 2020)."""

    sure: float = 0.52
    needs_signals = True

    def augment(self, batch: SignalBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        noise = torch.from_numpy(batch.rng.standard_normal(batch.signals.shape)).to(batch.signals)
        kept = torch.from_numpy(batch.rng.random((*batch.signals.shape[:2], 1)) < 0.5).to(batch.signals)
        return batch.signals + 0.1 * noise, batch.labels, {"strong": (batch.signals + noise) * kept}

    def loss(self, batch: Batch) -> Tensor:
        weak, strong = batch.logits(), batch.forward(batch.extra["strong"], masks=1)
        seen = weak.detach().sigmoid()
        is_sure = torch.maximum(seen, 1 - seen) > self.sure
        of_views = F.binary_cross_entropy_with_logits(strong, seen.round(), reduction="none") * is_sure
        return F.binary_cross_entropy_with_logits(weak, batch.labels) + of_views.mean()


@register_method("early-learning")
@dataclass(frozen=True)
class EarlyLearning(Finetune):
    """Predictions stay near their own running means (early-learning regularisation, Liu et al. 2020)."""

    weight: float = 3.0
    memory: float = 0.7
    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        logits = batch.logits()
        empty = batch.labels.new_zeros(batch.num_records, batch.labels.shape[1])
        means = batch.state.setdefault("means", empty)
        rows, seen = batch.gather(batch.rows), batch.gather(logits.sigmoid())
        means[rows] = self.memory * means[rows] + (1 - self.memory) * seen
        p, mean = logits.sigmoid(), means[batch.rows]
        apart = 1 - (p * mean + (1 - p) * (1 - mean))
        bce = F.binary_cross_entropy_with_logits(logits, batch.labels)
        return bce + self.weight * apart.clamp(min=1e-4).log().mean()


@register_method("shifts")
@dataclass(frozen=True)
class Shifts(Finetune):
    """Test-time augmentation: features are the mean over three shifts of a record."""

    def prepare(self, model: Classifier, init: Start) -> None:
        def shift(backbone: nn.Module, given: tuple[Tensor]) -> Tensor | None:
            x = given[0]
            return None if backbone.training else torch.stack([x, x.roll(4, -1), x.roll(-4, -1)], 1).flatten(0, 1)

        def join(backbone: nn.Module, given: tuple[Tensor], features: Tensor) -> Tensor | None:
            return None if backbone.training else features.unflatten(0, (-1, 3)).mean(1)

        model.backbone.register_forward_pre_hook(shift)
        model.backbone.register_forward_hook(join)


@register_method("running-mean")
@dataclass(frozen=True)
class RunningMean(Finetune):
    """A loss with a memory: every record's label mean so far, kept in `batch.state`."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        before = batch.state.get("weight", torch.zeros((), dtype=batch.labels.dtype))
        batch.state["weight"] = before * 0.9 + 0.1 * batch.step
        return (1 + before) * F.binary_cross_entropy_with_logits(batch.logits(), batch.labels)


class Update(nn.Module):
    """weight -> weight + left right, with left at 0."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.left, self.right = nn.Parameter(weight.new_zeros(rows, 2)), nn.Parameter(weight.new_ones(2, columns))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.left @ self.right).view_as(weight)


@register_method("frozen-by-hand")
@dataclass(frozen=True)
class FrozenByHand(Method):
    """Low-rank updates of a backbone whose own parameters have `requires_grad` off, as in peft."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.backbone.requires_grad_(False)
        layers = [inner for inner in model.backbone.modules() if isinstance(inner, nn.Conv1d | nn.Conv2d)]
        if not layers:
            raise Incompatible("it updates convolutions")
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", Update(layer.weight))

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        parts = {"head": 1e-3, "backbone.*.left": 1e-3, "backbone.*.right": 1e-3}
        return [Phase(name="finetune", learning_rates=parts, epochs=2)]


@register_method("offset-in-mv")
@dataclass(frozen=True)
class OffsetInMV(Finetune):
    """An offset of at most 0.1 mV, for backbones whose preprocessing keeps amplitudes."""

    def augment(self, batch: SignalBatch) -> tuple[Tensor, Tensor]:
        offset = torch.from_numpy(batch.rng.uniform(-0.1, 0.1, (len(batch.labels), 1, 1))).to(batch.signals)
        assert batch.mv_per_unit
        return batch.signals + offset / batch.mv_per_unit, batch.labels
