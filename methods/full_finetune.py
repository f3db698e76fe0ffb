"""Full fine-tuning, without and with stochastic depth."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.plugin import LogUniform, Method, Phase, Uniform, register_method

STOCHASTIC_DEPTH = {"drop_path_rate": Uniform(0.1, 0.7)}


@dataclass(frozen=True)
class Finetune(Method):
    """The one fine-tuning recipe that ft, ft-sd, lpft and lpft-sd share; they differ in `drop_path_rate` and the probe.

    Values as second-hand reports give them for Zhou et al. (GhIrani33/ecgfounder-edge-cds); no dropout; the cosine
    runs over steps.
    """

    finetune_epochs: int = 30
    finetune_lr: float = 5e-4
    finetune_min_lr: float = 1e-5
    finetune_weight_decay: float = 0.05
    drop_path_rate: float = 0.0

    search = {"finetune_lr": LogUniform(5e-5, 5e-3)}

    def finetune(self) -> Phase:
        return Phase(
            name="finetune",
            learning_rates={"backbone": self.finetune_lr, "head": self.finetune_lr},
            epochs=self.finetune_epochs,
            weight_decay=self.finetune_weight_decay,
            lr_schedule="cosine",
            min_lr_factor=self.finetune_min_lr / self.finetune_lr if self.finetune_lr else 0.0,
            drop_path_rate=self.drop_path_rate,
        )


@register_method("ft")
@dataclass(frozen=True)
class FullFinetune(Finetune):
    """Full fine-tuning: all parameters from the first step on, with a new head."""

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [self.finetune()]


@register_method("ft-sd")
@dataclass(frozen=True)
class FullFinetuneStochasticDepth(FullFinetune):
    """Full fine-tuning with stochastic depth (Huang et al. 2016)."""

    drop_path_rate: float = 0.5

    search = {**FullFinetune.search, **STOCHASTIC_DEPTH}
