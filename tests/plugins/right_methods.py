"""Methods of all kinds, each written by the contract alone and in at most 30 lines: `bench check` must pass them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plugin import (
    EMA,
    SWA,
    Batch,
    Classifier,
    Gradients,
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


@register_method("llrd")
@dataclass(frozen=True)
class LayerwiseDecay(Finetune):
    """A rate for each layer group, smaller the shallower (BEiT)."""

    decay: float = 0.75

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        deep_first = {"head": self.lr}
        for depth, group in enumerate(reversed(layer_groups), start=1):
            deep_first[group] = self.lr * self.decay**depth
        return [replace(self.finetune(), learning_rates=deep_first)]


@register_method("gradual-unfreezing")
@dataclass(frozen=True)
class Gradual(Finetune):
    """One more layer group in each phase, deep ones first (Howard & Ruder 2018)."""

    steps: int = 3

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        thawed = [layer_groups[len(layer_groups) - n :] for n in range(self.steps)] + [["backbone"]]
        return [
            replace(self.finetune(), name=f"step {n}", learning_rates=dict.fromkeys(["head", *parts], self.lr))
            for n, parts in enumerate(thawed)
        ]


@register_method("auto-rgn")
@dataclass(frozen=True)
class AutoRGN(Finetune):
    """Each tensor's rate by the norm of its gradient relative to its own (Lee et al. 2023)."""

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        found, single = gradients(), []
        for group in groups:
            for name, p in zip(group["param_names"], group["params"], strict=True):
                ratio = float(found[name].norm() / (p.detach().norm() + 1e-12))
                single.append({"params": [p], "param_names": [name], "lr": ratio})
        largest = max(group["lr"] for group in single)
        for group in single:
            group["lr"] *= self.lr / largest
        return super().optimizer(single, phase, gradients)


class Neighbours(nn.Module):
    """Mean label of the nearest training records, as log odds."""

    def __init__(self, num_records: int, dim: int, num_labels: int, k: int) -> None:
        super().__init__()
        self.k = min(k, num_records)
        self.register_buffer("features", torch.zeros(num_records, dim))
        self.register_buffer("labels", torch.zeros(num_records, num_labels))

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x, self.features).topk(self.k, largest=False).indices
        return torch.logit(self.labels[nearest].mean(1), eps=1e-3)


@register_method("knn")
@dataclass(frozen=True)
class KNN(Method):
    """The nearest neighbours' labels."""

    k: int = 3

    def prepare(self, model: Classifier, init: Start) -> None:
        model.head = Neighbours(init.num_records, model.backbone.feature_dim, model.num_labels, self.k)

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase.fit("neighbours")]

    def finish(self, model: Classifier, judge: Judge) -> None:
        features, labels = judge.features()
        model.load_state_dict({**model.state_dict(), "head.features": features, "head.labels": labels})


class AttentionHead(nn.Module):
    """A learnable query over tokens, then a linear layer."""

    def __init__(self, dim: int, num_labels: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dim))
        self.linear = nn.Linear(dim, num_labels)

    def forward(self, tokens: Tensor) -> Tensor:
        weights = (tokens @ self.query / math.sqrt(len(self.query))).softmax(1)
        return self.linear((weights.unsqueeze(1) @ tokens).squeeze(1))


@register_method("attention-probe")
@dataclass(frozen=True)
class AttentionProbe(Method):
    """Attentive pooling of a frozen backbone's tokens."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.head = AttentionHead(model.use_tokens(), model.num_labels)

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="probe", learning_rates={"head": 1e-2}, epochs=2)]


class Bypass(nn.Module):
    """A layer, and beside it a thin one that is zero at first."""

    def __init__(self, layer: nn.Conv1d | nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        inner, outer = layer.weight.shape[1], layer.weight.shape[0]
        self.down, self.up = nn.Linear(inner, rank, bias=False), nn.Linear(rank, outer, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        across = x.transpose(1, 2) if isinstance(self.layer, nn.Conv1d) else x
        added = self.up(self.down(across))
        return self.layer(x) + (added.transpose(1, 2) if isinstance(self.layer, nn.Conv1d) else added)


@register_method("lora-by-wrapping")
@dataclass(frozen=True)
class LoRA(Finetune):
    """Low-rank updates (Hu et al. 2022) of linear layers and convolutions of width 1, put around them."""

    rank: int = 2

    def prepare(self, model: Classifier, init: Start) -> None:
        for parent in list(model.backbone.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv1d) and layer.kernel_size == (1,)):
                    setattr(parent, name, Bypass(layer, self.rank))

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        parts = {"head": self.lr, "backbone.*.down": self.lr, "backbone.*.up": self.lr}
        return [replace(self.finetune(), learning_rates=parts)]


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


@register_method("running-mean")
@dataclass(frozen=True)
class RunningMean(Finetune):
    """A loss with a memory: every record's label mean so far, kept in `batch.state`."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        before = batch.state.get("weight", torch.zeros((), dtype=batch.labels.dtype))
        batch.state["weight"] = before * 0.9 + 0.1 * batch.step
        return (1 + before) * F.binary_cross_entropy_with_logits(batch.logits(), batch.labels)
