"""Methods that do something else than they say: each must be caught, before training or by `bench check`."""

import copy
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.plugin import (
    EMA,
    Batch,
    Classifier,
    DropPath,
    Gradients,
    Incompatible,
    Judge,
    Method,
    Phase,
    SignalBatch,
    Start,
    register_method,
)

MODULE_LEVEL: dict[str, Any] = {"steps": 0}


@dataclass(frozen=True)
class Finetune(Method):
    """What most of them share."""

    rate: float = 0.5

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        parts = {"backbone": 1e-3, "head": 1e-3}
        return [Phase(name="finetune", learning_rates=parts, epochs=2, drop_path_rate=self.rate)]


@register_method("dead-r-drop")
@dataclass(frozen=True)
class DeadRDrop(Finetune):
    """Both passes drop the same paths."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        a, b = batch.logits(), batch.logits()
        return F.binary_cross_entropy_with_logits(a, batch.labels) + (a - b).square().mean()


@register_method("submodule-teacher")
@dataclass(frozen=True)
class SubmoduleTeacher(Finetune):
    """Trains and drops with the student."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.teacher = copy.deepcopy(model.backbone).requires_grad_(False)


@register_method("inner-teacher")
@dataclass(frozen=True)
class InnerTeacher(Finetune):
    """The same, within the backbone."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.backbone.teacher = copy.deepcopy(model.backbone).requires_grad_(False)


@register_method("hidden-teacher")
@dataclass(frozen=True)
class HiddenTeacher(Finetune):
    """In a list, where nobody moves it to the device."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.backbone._teacher = [copy.deepcopy(model.backbone)]


@register_method("keeps-the-model")
@dataclass(frozen=True)
class KeepsTheModel(Finetune):
    """In itself."""

    def prepare(self, model: Classifier, init: Start) -> None:
        object.__setattr__(self, "model", model)


@register_method("own-ramp")
@dataclass(frozen=True)
class OwnRamp(Finetune):
    """Counts its steps itself."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        object.__setattr__(self, "steps", getattr(self, "steps", 0) + 1)
        return self.steps * F.binary_cross_entropy_with_logits(batch.logits(), batch.labels)


@register_method("ramp-in-a-list")
@dataclass(frozen=True)
class RampInAList(Finetune):
    """The same, in a field that can be changed."""

    steps: list[int] = field(default_factory=list)
    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        self.steps.append(1)
        return len(self.steps) * F.binary_cross_entropy_with_logits(batch.logits(), batch.labels)


@register_method("ramp-in-its-module")
@dataclass(frozen=True)
class RampInItsModule(Finetune):
    """The same, where only a resumed run shows it."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        MODULE_LEVEL["steps"] += 1
        return (1 + MODULE_LEVEL["steps"]) * F.binary_cross_entropy_with_logits(batch.logits(), batch.labels)


@register_method("l2-sp-from-optimizer")
@dataclass(frozen=True)
class L2SPFromOptimizer(Finetune):
    """Copies the start into itself."""

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        object.__setattr__(self, "start", [p.detach().clone() for group in groups for p in group["params"]])
        return super().optimizer(groups, phase, gradients)


@register_method("ema-in-a-hook")
@dataclass(frozen=True)
class EMAInAHook(Finetune):
    """Weights that nobody selects, saves or predicts with."""

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        made = super().optimizer(groups, phase, gradients)
        average = [p.detach().clone() for group in groups for p in group["params"]]

        def follow(optimizer: torch.optim.Optimizer, *_: object) -> None:
            own = [p for group in optimizer.param_groups for p in group["params"]]
            torch._foreach_lerp_(average, [p.detach() for p in own], 0.1)

        made.register_step_post_hook(follow)
        return made


@register_method("constant-sd-in-prepare")
@dataclass(frozen=True)
class ConstantInPrepare(Finetune):
    """Rates that the phase sets anew."""

    rate: float = 0.0

    def prepare(self, model: Classifier, init: Start) -> None:
        for module in model.modules():
            if isinstance(module, DropPath):
                module.drop_prob = 0.3


@register_method("constant-sd-in-loss")
@dataclass(frozen=True)
class ConstantInLoss(Finetune):
    """Rates of its own, past the harness."""

    rate: float = 0.0
    needs_signals = True

    def loss(self, batch: Batch) -> Tensor:
        for module in batch.passes.model.modules():
            if isinstance(module, DropPath):
                module.drop_prob = 0.3
        return F.binary_cross_entropy_with_logits(batch.passes.model(batch.signals), batch.labels)


@register_method("own-scheduler")
@dataclass(frozen=True)
class OwnScheduler(Finetune):
    """Which nobody steps."""

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        made = super().optimizer(groups, phase, gradients)
        torch.optim.lr_scheduler.LambdaLR(made, lambda step: min(1.0, (step + 1) / 20))
        return made


@register_method("second-optimizer")
@dataclass(frozen=True)
class SecondOptimizer(Finetune):
    """For the head, which the harness would neither step nor save."""

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        torch.optim.SGD(groups[1]["params"], lr=0.1)
        return super().optimizer(groups[:1], phase, gradients)


@register_method("wise-from-optimizer")
@dataclass(frozen=True)
class WiSEFromOptimizer(Finetune):
    """Takes what the model has after the first step of this attempt for the start."""

    def optimizer_step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if not hasattr(optimizer, "start"):
            optimizer.start = [p.detach().clone() for p in parameters]
        super().optimizer_step(optimizer, closure)
        with torch.no_grad():
            torch._foreach_lerp_(parameters, optimizer.start, 0.1)


@register_method("mixup-in-loss")
@dataclass(frozen=True)
class MixupInLoss(Finetune):
    """Partners are those of the same rank."""

    needs_signals = True

    def loss(self, batch: Batch) -> Tensor:
        partner = torch.randperm(len(batch.signals))
        mixed = (batch.signals + batch.signals[partner]) / 2
        return F.binary_cross_entropy_with_logits(batch.forward(mixed), (batch.labels + batch.labels[partner]) / 2)


@register_method("batch-mean")
@dataclass(frozen=True)
class BatchMean(Finetune):
    """A loss of the batch and not of its records."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        logits = batch.logits()
        return F.binary_cross_entropy_with_logits(logits - logits.mean(0), batch.labels)


@register_method("moves-statistics")
@dataclass(frozen=True)
class MovesStatistics(Method):
    """Lets the batch norms of a frozen backbone learn."""

    needs_signals = True

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="probe", learning_rates={"head": 1e-2}, epochs=2)]

    def loss(self, batch: Batch) -> Tensor:
        for module in batch.passes.model.backbone.modules():
            module.training = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        return super().loss(batch)


@register_method("finishes-elsewhere")
@dataclass(frozen=True)
class FinishesElsewhere(Method):
    """Alters the backbone at the end of a probe."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="probe", learning_rates={"head": 1e-2}, epochs=2)]

    def finish(self, model: Classifier, judge: Judge) -> None:
        with torch.no_grad():
            next(p for p in model.backbone.parameters()).mul_(1.1)


@register_method("asks-too-often")
@dataclass(frozen=True)
class AsksTooOften(Finetune):
    """Fits fold 9."""

    def finish(self, model: Classifier, judge: Judge) -> None:
        for _ in range(33):
            judge.score()


@register_method("says-nothing")
@dataclass(frozen=True)
class SaysNothing(Finetune):
    """A loss that does not say what it needs."""

    def loss(self, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(batch.logits(), batch.labels)


@register_method("says-wrong")
@dataclass(frozen=True)
class SaysWrong(Finetune):
    """Looks at signals after all."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(batch.forward(batch.signals), batch.labels)


@register_method("never-steps")
@dataclass(frozen=True)
class NeverSteps(Finetune):
    """Forgets the closure."""

    def optimizer_step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
        optimizer.step()


@register_method("old-signature")
@dataclass(frozen=True)
class OldSignature(Method):
    """As methods were written before there were layer groups."""

    def phases(self) -> list[Phase]:  # type: ignore[override]
        return [Phase(name="probe", learning_rates={"head": 1e-2}, epochs=2)]


@register_method("old-init")
@dataclass(frozen=True)
class OldInit(Finetune):
    """As methods were written when init was a name."""

    def prepare(self, model: Classifier, init: Start) -> None:
        assert init == "random"


@register_method("optimizer-in-a-closure")
@dataclass(frozen=True)
class OptimizerInAClosure(Finetune):
    """A second optimiser of the head, which has no state that a resumed run would lack."""

    def optimizer_step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
        super().optimizer_step(optimizer, closure)
        torch.optim.SGD(optimizer.param_groups[-1]["params"], lr=0.1).step()


@register_method("rates-by-hand")
@dataclass(frozen=True)
class RatesByHand(Finetune):
    """Halves the rates after every step, beside the schedule that the phase declares."""

    def optimizer_step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
        super().optimizer_step(optimizer, closure)
        for group in optimizer.param_groups:
            group["lr"] *= 0.5


@register_method("own-steps")
@dataclass(frozen=True)
class OwnSteps(Finetune):
    """Moves the weights itself: the rates and the schedule of the phase mean nothing."""

    def optimizer_step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
        closure()
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.sub_(0.1 * parameter.grad)


@register_method("forgets-weight-decay")
@dataclass(frozen=True)
class ForgetsWeightDecay(Finetune):
    """AdamW decays by 0.01 where nobody says otherwise, and the result records 0."""

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups)


@register_method("counts-in-its-class")
@dataclass(frozen=True)
class CountsInItsClass(Finetune):
    """State in the class and not in the method."""

    needs_signals = False
    seen = 0

    def loss(self, batch: Batch) -> Tensor:
        type(self).seen += 1
        return self.seen * F.binary_cross_entropy_with_logits(batch.logits(), batch.labels)


@register_method("keeps-the-judge")
@dataclass(frozen=True)
class KeepsTheJudge(Method):
    """Asks the judge of the probe in every step of fine-tuning."""

    needs_signals = False

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        parts = {"backbone": 1e-3, "head": 1e-3}
        return [
            Phase(name="probe", learning_rates={"head": 1e-2}, epochs=1),
            Phase(name="finetune", learning_rates=parts, epochs=1),
        ]

    def finish(self, model: Classifier, judge: Judge) -> None:
        MODULE_LEVEL["judge"] = judge

    def loss(self, batch: Batch) -> Tensor:
        loss = super().loss(batch)
        return loss if batch.phase.name == "probe" else loss * MODULE_LEVEL["judge"].score()


@register_method("alters-the-batch")
@dataclass(frozen=True)
class AltersTheBatch(Finetune):
    """A step that calls its closure twice, as SAM's, would see signals that were altered twice."""

    needs_signals = True

    def loss(self, batch: Batch) -> Tensor:
        batch.signals.mul_(0.5)
        return super().loss(batch)


@register_method("moves-weights-in-loss")
@dataclass(frozen=True)
class MovesWeightsInLoss(Finetune):
    """Weight decay of its own."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            for parameter in batch.parameters.values():
                parameter.mul_(0.99)
        return super().loss(batch)


@register_method("moves-the-start")
@dataclass(frozen=True)
class MovesTheStart(Finetune):
    """Lets the initial weights follow."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        for name, parameter in batch.parameters.items():
            batch.initial_weights[name].lerp_(parameter.detach(), 0.1)
        return super().loss(batch)


@register_method("rests-in-loss")
@dataclass(frozen=True)
class RestsInLoss(Finetune):
    """Eval mode in training: nothing drops, and batch norm learns nothing."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        batch.passes.model.eval()
        return super().loss(batch)


@register_method("thaws-by-hand")
@dataclass(frozen=True)
class ThawsByHand(Method):
    """Gradients for all of a frozen backbone, which no optimiser has."""

    needs_signals = True

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="probe", learning_rates={"head": 1e-2}, epochs=2)]

    def loss(self, batch: Batch) -> Tensor:
        batch.passes.model.requires_grad_(True)
        return super().loss(batch)


@register_method("half-precision")
@dataclass(frozen=True)
class HalfPrecision(Finetune):
    """A head in bf16, which the harness makes float32 again."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.head.to(torch.bfloat16)


@register_method("double-everywhere")
@dataclass(frozen=True)
class DoubleEverywhere(Finetune):
    """For all cells that follow in this process."""

    def prepare(self, model: Classifier, init: Start) -> None:
        torch.set_default_dtype(torch.float64)


@register_method("by-the-clock")
@dataclass(frozen=True)
class ByTheClock(Finetune):
    """Other phases in the afternoon."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        hour = time.localtime(time.time()).tm_hour
        return [Phase(name="finetune", learning_rates={"backbone": 1e-3, "head": 1e-3 * (1 + hour // 12)}, epochs=2)]


@register_method("by-the-environment")
@dataclass(frozen=True)
class ByTheEnvironment(Finetune):
    """A hyper-parameter that no result records."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        return float(os.environ.get("MY_WEIGHT", "1")) * super().loss(batch)


@register_method("reads-a-file")
@dataclass(frozen=True)
class ReadsAFile(Finetune):
    """Such as the labels of folds 9 and 10."""

    def prepare(self, model: Classifier, init: Start) -> None:
        Path(__file__).read_text()


@register_method("draws-elsewhere")
@dataclass(frozen=True)
class DrawsElsewhere(Finetune):
    """By a generator that nobody seeds."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        return random.uniform(0.5, 1.5) * super().loss(batch)


@register_method("vector-loss")
@dataclass(frozen=True)
class VectorLoss(Finetune):
    """The loss of each record."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(batch.logits(), batch.labels, reduction="none").mean(1)


@register_method("nan-for-a-label")
@dataclass(frozen=True)
class NaNForALabel(Finetune):
    """The share of positives of a label that a batch may not have."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        by_label = F.binary_cross_entropy_with_logits(batch.logits(), batch.labels, reduction="none").sum(0)
        return (by_label / (batch.labels * (batch.labels.sum(0) > 1)).sum(0)).nan_to_num(posinf=float("nan")).mean()


@register_method("strange-labels")
@dataclass(frozen=True)
class StrangeLabels(Finetune):
    """Mixup that forgets to weigh the labels."""

    def augment(self, batch: SignalBatch) -> tuple[Tensor, Tensor]:
        return (batch.signals + batch.signals.flip(0)) / 2, batch.labels + batch.labels.flip(0)


@register_method("another-head-at-the-end")
@dataclass(frozen=True)
class AnotherHeadAtTheEnd(Finetune):
    """Which `bench predict` does not know."""

    def finish(self, model: Classifier, judge: Judge) -> None:
        model.head = nn.Sequential(model.head)


@register_method("tensor-beside-the-weights")
@dataclass(frozen=True)
class TensorBesideTheWeights(Finetune):
    """A random projection that is neither parameter nor buffer: `bench predict` would draw another one."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.head.projection = torch.randn(model.num_labels)
        model.head.register_forward_hook(lambda head, inputs, output: output + head.projection)


@register_method("hook-with-a-memory")
@dataclass(frozen=True)
class HookWithAMemory(Finetune):
    """A hook that holds a module of this model: the averaged copy would run with the weights of the model itself."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        parts = {"backbone": 1e-3, "head": 1e-3}
        return [Phase(name="finetune", learning_rates=parts, epochs=2, average=EMA(0.9))]

    def prepare(self, model: Classifier, init: Start) -> None:
        layer = nn.Linear(model.num_labels, model.num_labels)
        model.head = nn.Sequential(model.head, layer)
        model.head[0].register_forward_hook(lambda head, inputs, output: output + layer(output))


class BatchStatistics(nn.Module):
    """A head that normalises features by those of the batch, at test time too."""

    def __init__(self, head: nn.Module, num_features: int) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(num_features, track_running_stats=False), head

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.norm(features))


@register_method("batch-statistics")
@dataclass(frozen=True)
class OfBatchStatistics(Finetune):
    """Scores of a record depend on the other records of fold 10 in its batch."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.head = BatchStatistics(model.head, model.backbone.feature_dim)


class BesideBatch(nn.Module):
    """A new layer that is nil at first, and compares records with the mean of their batch."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(num_features))

    def forward(self, features: Tensor) -> Tensor:
        return features + self.scale * (features - features.mean(0))


@register_method("nil-at-first")
@dataclass(frozen=True)
class NilAtFirst(Finetune):
    """Depends on the batch once it is trained."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.head = nn.Sequential(BesideBatch(model.backbone.feature_dim), model.head)


class EntropyMinimising(nn.Module):
    """A head that trains itself on the records that it predicts (TENT, Wang et al. 2021)."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head, self.shift = head, nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            with torch.enable_grad():
                p = (self.head(features.detach()) + self.shift).sigmoid()
                (gradient,) = torch.autograd.grad(-(p * p.log() + (1 - p) * (1 - p).log()).mean(), self.shift)
            self.shift.data -= gradient
        return self.head(features) + self.shift


@register_method("tent")
@dataclass(frozen=True)
class Tent(Finetune):
    """Adapts to fold 10."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.head = EntropyMinimising(model.head)


@register_method("random-views-at-test")
@dataclass(frozen=True)
class RandomViewsAtTest(Finetune):
    """Test-time augmentation that draws, so that no two predictions are equal."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.backbone.register_forward_pre_hook(
            lambda backbone, given: None if backbone.training else given[0] + 0.1 * torch.randn_like(given[0])
        )


@register_method("two-views-as-one")
@dataclass(frozen=True)
class TwoViewsAsOne(Finetune):
    """Gives a second view in place of more records."""

    def augment(self, batch: SignalBatch) -> tuple[Tensor, Tensor]:
        return torch.cat([batch.signals, batch.signals.flip(-1)]), torch.cat([batch.labels, batch.labels])


@register_method("few-extras")
@dataclass(frozen=True)
class FewExtras(Finetune):
    """A third value that is not of records."""

    def augment(self, batch: SignalBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        return batch.signals, batch.labels, {"noise": torch.zeros(2)}


@register_method("alters-an-extra")
@dataclass(frozen=True)
class AltersAnExtra(Finetune):
    """A second closure would get the altered view."""

    needs_signals = False

    def augment(self, batch: SignalBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        return batch.signals, batch.labels, {"noise": torch.zeros(len(batch.labels), 1)}

    def loss(self, batch: Batch) -> Tensor:
        logits = batch.logits()
        return F.binary_cross_entropy_with_logits(logits + batch.extra["noise"].add_(1), batch.labels)


@register_method("noise-by-the-step")
@dataclass(frozen=True)
class NoiseByTheStep(Finetune):
    """Noise that is the same for all seeds, draws and cells."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        generator = torch.Generator().manual_seed(batch.step)
        noise = torch.randn(batch.num_records, 1, generator=generator).to(batch.labels)
        return F.binary_cross_entropy_with_logits(batch.logits() + noise[batch.rows], batch.labels)


@register_method("memory-of-a-rank")
@dataclass(frozen=True)
class MemoryOfARank(Finetune):
    """Remembers its own records alone, and in the next epoch another rank has them."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        logits = batch.logits()
        before = batch.state.setdefault("seen", torch.zeros(batch.num_records, 1, dtype=logits.dtype))
        weight = 1 + before[batch.rows]
        before[batch.rows] = logits.detach().sigmoid().mean(1, keepdim=True)
        return (F.binary_cross_entropy_with_logits(logits, batch.labels, reduction="none") * weight).mean()


@register_method("half-of-the-batch")
@dataclass(frozen=True)
class HalfOfTheBatch(Finetune):
    """Learns of the first half of the batch alone."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        logits = batch.logits()
        half = len(logits) // 2
        logits = torch.cat([logits[:half], logits[half:].detach()])
        return F.binary_cross_entropy_with_logits(logits, batch.labels)


@register_method("noise-in-loss")
@dataclass(frozen=True)
class NoiseInLoss(Finetune):
    """Dropout of its own, by torch's generator in place of masks."""

    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        logits = batch.logits()
        return F.binary_cross_entropy_with_logits(logits * (torch.rand_like(logits) > 0.1), batch.labels)


@register_method("forgets-its-new-part")
@dataclass(frozen=True)
class ForgetsItsNewPart(Method):
    """A rate for each layer group, which are those of the backbone before `prepare`: the new part has none."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.backbone.shift = nn.Parameter(torch.zeros(model.backbone.feature_dim))
        model.backbone.register_forward_hook(lambda backbone, inputs, output: output + backbone.shift)

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="finetune", learning_rates=dict.fromkeys(["head", *layer_groups], 1e-3), epochs=2)]


@register_method("freezes-in-prepare")
@dataclass(frozen=True)
class FreezesInPrepare(Method):
    """A layer group that has a rate, and no parameter that may have a gradient."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.backbone.blocks[0].requires_grad_(False)

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="finetune", learning_rates=dict.fromkeys(["head", *layer_groups], 1e-3), epochs=2)]


class Beside(nn.Module):
    """As peft writes it: a frozen layer, and beside it two that are trained, behind dropout."""

    def __init__(self, layer: nn.Conv1d, drop: nn.Module) -> None:
        super().__init__()
        self.layer, self.drop = layer, drop
        self.lora_a = nn.Conv1d(layer.in_channels, 2, layer.kernel_size, layer.stride, bias=False)
        self.lora_b = nn.Conv1d(2, layer.out_channels, 1, bias=False)
        nn.init.zeros_(self.lora_b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.lora_b(self.lora_a(self.drop(x)))  # type: ignore[no-any-return]


@register_method("dropout-that-rests")
@dataclass(frozen=True)
class DropoutThatRests(Method):
    """The frozen layer is in the module of the dropout, which so stays in eval mode."""

    def drop(self, channels: int) -> nn.Module:
        return nn.Dropout(0.1)

    def prepare(self, model: Classifier, init: Start) -> None:
        for name, layer in list(model.backbone.named_modules()):
            if isinstance(layer, nn.Conv1d):
                model.backbone.set_submodule(name, Beside(layer, self.drop(layer.in_channels)))

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="finetune", learning_rates={"head": 1e-3, "backbone.*.lora_*": 1e-3}, epochs=2)]


@register_method("norm-that-rests")
@dataclass(frozen=True)
class NormThatRests(DropoutThatRests):
    """The same of batch norm, which would normalise by the zeros and ones that it came with."""

    def drop(self, channels: int) -> nn.Module:
        return nn.BatchNorm1d(channels, affine=False)


@register_method("rests-by-rate")
@dataclass(frozen=True)
class RestsByRate(Method):
    """Dropout of a frozen part, whose rate it sets."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.backbone.stem[-1].p = 0.5

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="probe", learning_rates={"head": 1e-3}, epochs=2)]


class Product(nn.Module):
    """weight -> weight + left right, both nil at first, so that neither has a gradient."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.left, self.right = nn.Parameter(weight.new_zeros(rows, 2)), nn.Parameter(weight.new_zeros(2, columns))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.left @ self.right).view_as(weight)


@register_method("two-nil-factors")
@dataclass(frozen=True)
class TwoNilFactors(Method):
    """A low-rank update that never learns: the head alone is trained."""

    def prepare(self, model: Classifier, init: Start) -> None:
        layers = [inner for inner in model.backbone.modules() if isinstance(inner, nn.Conv1d | nn.Conv2d)]
        if not layers:
            raise Incompatible("it updates convolutions")
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", Product(layer.weight))

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        parts = {"head": 1e-3, "backbone.*.left": 1e-3, "backbone.*.right": 1e-3}
        return [Phase(name="finetune", learning_rates=parts, epochs=2)]


@register_method("one-rate")
@dataclass(frozen=True)
class OneRate(Method):
    """A rate for each layer group, none of which reaches the optimiser."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        rates = {group: 1e-4 / (1 + depth) for depth, group in enumerate(reversed(layer_groups))}
        return [Phase(name="finetune", learning_rates={**rates, "head": 1e-4}, epochs=2)]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        return torch.optim.NAdam([parameter for group in groups for parameter in group["params"]])


@register_method("spares-nothing")
@dataclass(frozen=True)
class SparesNothing(Method):
    """Patterns as of other libraries, which fit the ends of paths."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        rates = {"backbone": 1e-3, "head": 1e-3}
        spared = ("bias", "norm.weight")
        return [Phase(name="f", learning_rates=rates, epochs=2, weight_decay=0.1, no_weight_decay=spared)]


@register_method("fits-another-phase")
@dataclass(frozen=True)
class FitsAnotherPhase(Finetune):
    """`finish` waits for a phase that has another name."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase.fit("closed-form"), *super().phases(layer_groups)]

    def finish(self, model: Classifier, judge: Judge) -> None:
        if judge.phase.name == "fit":
            model.load_state_dict({**model.state_dict(), "head.bias": judge.features()[1].mean(0).logit()})


@register_method("fits-without-finish")
@dataclass(frozen=True)
class FitsWithoutFinish(Finetune):
    """A phase without gradient steps that nothing fits."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase.fit("closed-form"), *super().phases(layer_groups)]


def halved(module: nn.Module, given: object, features: Tensor) -> Tensor:
    """Return half of the features."""
    return features / 2


@register_method("views-at-the-end")
@dataclass(frozen=True)
class ViewsAtTheEnd(Finetune):
    """`finish` leaves a hook on the model, which `bench predict` would not have."""

    def finish(self, model: Classifier, judge: Judge) -> None:
        model.backbone.register_forward_hook(halved)


class Remembers(nn.Module):
    """Shifts features in eval mode by what it saw last in training, kept beside the state dict."""

    seen: float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen = float(x.detach().mean())
        return x if self.training else x - self.seen


@register_method("remembers-for-eval")
@dataclass(frozen=True)
class RemembersForEval(Finetune):
    """Statistics of training that are neither weights nor buffers."""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.head = nn.Sequential(Remembers(), nn.Linear(model.backbone.feature_dim, model.num_labels))
