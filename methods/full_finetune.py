"""Full fine-tuning: plain, with stochastic depth, warm-up, averaged weights, or dropout.

The options can be combined: `ft-sd(average='ema', warmup=0.1)`. `lpft` has the same options.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from bench.plugin import (
    EMA,
    SWA,
    Classifier,
    DropPath,
    Incompatible,
    LogUniform,
    Method,
    NotNegative,
    Phase,
    Positive,
    Rate,
    Start,
    Uniform,
    register_method,
)

STOCHASTIC_DEPTH = {"drop_path_rate": Uniform(0.1, 0.7)}
AVERAGES = {"ema": EMA(), "swa": SWA(), None: None}


@dataclass(frozen=True)
class Finetune(Method):
    """The fine-tuning recipe that all methods with full fine-tuning share, so that only the named change differs.

    The text of Zhou et al. gives no values that could be read. These are the defaults of a third party's script for the
    same two stages (GhIrani33/ecgfounder-edge-cds). Deviations: no dropout (0.05 there), no weight of positives (there
    negatives / positives), and the cosine falls with every step (there with every epoch).
    """

    finetune_epochs: int = 30
    finetune_lr: float = 5e-4
    finetune_min_lr: NotNegative = 1e-5
    finetune_weight_decay: float = 0.05
    drop_path_rate: float = 0.0
    drop_path_shape: Literal["linear", "constant"] = "linear"
    drop_path_unit: Literal["record", "batch"] = "record"
    drop_path_when: Literal["all", "early", "late"] = "all"
    warmup: float = 0.0
    average: Literal["ema", "swa"] | None = None
    patience: int | None = None

    search = {"finetune_lr": LogUniform(5e-5, 5e-3)}

    def __post_init__(self) -> None:
        lowest, rate = self.finetune_min_lr, self.finetune_lr
        if 0 < rate < lowest:
            raise ValueError(f"finetune_min_lr {lowest:g} is above finetune_lr {rate:g}; lower it too")

    def finetune(self) -> Phase:
        return Phase(
            name="finetune",
            learning_rates={"backbone": self.finetune_lr, "head": self.finetune_lr},
            epochs=self.finetune_epochs,
            weight_decay=self.finetune_weight_decay,
            lr_schedule="cosine",
            min_lr_factor=self.finetune_min_lr / self.finetune_lr if self.finetune_lr else 0.0,
            drop_path_rate=self.drop_path_rate,
            drop_path_shape=self.drop_path_shape,
            drop_path_unit=self.drop_path_unit,
            drop_path_when=self.drop_path_when,
            warmup=self.warmup,
            average=AVERAGES[self.average],
            patience=self.patience,
        )


@register_method("ft")
@dataclass(frozen=True)
class FullFinetune(Finetune):
    """Full fine-tuning: train all parameters from the first step, with a new head."""

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [self.finetune()]


@register_method("ft-sd")
@dataclass(frozen=True)
class FullFinetuneStochasticDepth(FullFinetune):
    """Full fine-tuning with stochastic depth (Huang et al. 2016): a branch is kept with probability 1 - rate.

    In training branch * keep / (1 - rate), keep in {0, 1} for each record; rates rise linearly from 0 at the first
    branch to `drop_path_rate` at the last, as in timm. Huang et al. drop the first block too, for a whole batch at
    once, and scale at the test. 0.5 is their value, and that of the script named above. A Transformer block has two
    branches.
    """

    drop_path_rate: float = 0.5

    search = {**FullFinetune.search, **STOCHASTIC_DEPTH}


@register_method("ft-head")
@dataclass(frozen=True)
class FullFinetuneFastHead(FullFinetune):
    """Full fine-tuning whose head learns at the rate of `lp`: a control that gives the head its speed without a probe.

    Both rates fall by the cosine of `ft`.
    """

    head_lr: Positive = 5e-3

    search = {**FullFinetune.search, "head_lr": LogUniform(5e-4, 5e-2)}

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [replace(self.finetune(), learning_rates={"backbone": self.finetune_lr, "head": self.head_lr})]


@register_method("ft-long")
@dataclass(frozen=True)
class FullFinetuneLong(FullFinetune):
    """Full fine-tuning for as many epochs as both phases of `lpft` have together: a control for its number of steps.

    The number is ours. With few records an epoch is a single batch, and `ft` may end before it has converged.
    """

    finetune_epochs: int = 60


@register_method("ft-warmup")
@dataclass(frozen=True)
class FullFinetuneWarmup(FullFinetune):
    """Full fine-tuning with learning-rate warm-up over the first tenth of the steps: a control for the probe of `lpft`.

    A share of 3 to 10 % is usual (He et al. 2019, Bag of Tricks: 5 of 120 epochs).
    """

    warmup: float = 0.1

    search = {**FullFinetune.search, "warmup": Uniform(0.02, 0.3)}


@register_method("ft-ema")
@dataclass(frozen=True)
class FullFinetuneEMA(FullFinetune):
    """Full fine-tuning with an exponential moving average of the weights (Polyak & Juditsky 1992).

    average <- d * average + (1 - d) * weights after each step. d is (1 + n) / (10 + n) at step n, TensorFlow's rule,
    and at most 0.999, a common value: 0.96 after 210 steps, 0.999 from step 8,990 on (see `EMA`). Polyak & Juditsky
    weigh all steps alike. The average is validated, selected, saved and used for prediction.
    """

    average: Literal["ema", "swa"] | None = "ema"


@register_method("ft-swa")
@dataclass(frozen=True)
class FullFinetuneSWA(FullFinetune):
    """Full fine-tuning with the mean of the weights after the epochs of the last quarter (SWA, Izmailov et al. 2018).

    Batch-norm statistics of the averaged weights are computed anew. The cosine ends at half the learning rate, as in
    the authors' code, whose rate is constant from there on: averaged weights must differ. No epoch before the last
    quarter can be selected, so that a loss against `ft` may be the price of training on.
    """

    finetune_min_lr: NotNegative = 2.5e-4
    average: Literal["ema", "swa"] | None = "swa"

    search = {"finetune_lr": LogUniform(2.5e-4, 5e-3)}


@register_method("ft-dropout")
@dataclass(frozen=True)
class FullFinetuneDropout(FullFinetune):
    """Full fine-tuning with dropout in place of stochastic depth, at the same positions and with the same rates.

    It is a control for `ft-sd`: single values of a residual branch are dropped (Srivastava et al. 2014), not the whole
    branch; on Net1D, whose DropPath acts on the gate [record, channel] of squeeze-and-excitation, whole channels. Rates
    increase linearly with depth from 0 to `dropout`, as in `ft-sd`.
    """

    dropout: Rate = 0.5

    search = {**FullFinetune.search, "dropout": Uniform(0.1, 0.7)}

    def prepare(self, model: Classifier, init: Start) -> None:
        paths = [name for name, module in model.backbone.named_modules() if isinstance(module, DropPath)]
        if len(paths) < 2:
            raise Incompatible(f"it needs at least two residual blocks, and this backbone has {len(paths) or 'none'}")
        for position, path in enumerate(paths):
            model.backbone.set_submodule(path, nn.Dropout(self.dropout * position / (len(paths) - 1)))
