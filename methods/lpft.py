"""LP-FT (Kumar et al. 2022) and its variants: train a linear probe, then fine-tune all from the probe's best epoch.

LP-FT with stochastic depth is the post-training strategy of Zhou et al., arXiv 2509.12991.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from bench.plugin import MOST_SCORES, Batch, Classifier, Judge, Phase, Range, Share, Uniform, register_method
from methods.full_finetune import STOCHASTIC_DEPTH, Finetune
from methods.linear_probe import Probe


@register_method("lpft")
@dataclass(frozen=True)
class LPFT(Finetune, Probe):
    """A preview linear probe, then full fine-tuning: the recipes of `lp` and `ft` (Kumar et al. 2022, 2202.10054)."""

    search = {**Probe.search, **Finetune.search}

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [self.probe(), self.finetune()]


@register_method("lpft-sd")
@dataclass(frozen=True)
class LPFTStochasticDepth(LPFT):
    """A preview linear probe, then full fine-tuning with stochastic depth as in `ft-sd` (Zhou et al., 2509.12991)."""

    drop_path_rate: float = 0.5

    search = {**LPFT.search, **STOCHASTIC_DEPTH}


@register_method("wise-ft")
@dataclass(frozen=True)
class WiSEFT(LPFT):
    """LP-FT, then interpolate: weights (1 - a) * before + a * after fine-tuning (WiSE-FT, Wortsman et al. 2022).

    `before` are the probe's weights, `after` those of the last epoch, as in the authors' code: weights that fold 9 has
    selected lie so near the probe's that a = 1 is best. a is the best on fold 9 of `points` equidistant values from 0
    to 1; 11 is our choice. To choose a, batch-norm statistics are interpolated too; between 0 and 1 they are then
    computed anew.
    """

    points: Annotated[int, Range(2, MOST_SCORES)] = 11

    def finetune(self) -> Phase:
        return replace(super().finetune(), selection="last", patience=None)

    def finish(self, model: Classifier, judge: Judge) -> None:
        if judge.phase.name != "finetune":
            return
        after = {key: value.clone() for key, value in model.state_dict().items() if key in judge.before}

        def at(share: float) -> dict[str, Tensor]:
            before = judge.before
            return {k: torch.lerp(before[k], v, share) if v.is_floating_point() else v for k, v in after.items()}

        best = max(torch.linspace(0, 1, self.points).tolist(), key=lambda share: judge.score(at(share)))
        model.load_state_dict({**model.state_dict(), **at(best)})
        if 0 < best < 1:
            judge.recalibrate()


@register_method("lpft-distill")
@dataclass(frozen=True)
class LPFTDistill(LPFT):
    """LP-FT with distillation from the probe during fine-tuning (Hinton et al. 2015; LwF, Li & Hoiem 2017).

    Loss: (1 - weight) * BCE(logits, labels) + weight * BCE(logits, probe's probabilities), at temperature 1. The weight
    of 1/2 is chosen here.
    """

    weight: Share = 0.5
    needs_signals = False

    search = {**LPFT.search, "weight": Uniform(0.1, 0.9)}

    def loss(self, batch: Batch) -> Tensor:
        logits = batch.logits()
        of_labels = binary_cross_entropy_with_logits(logits, batch.labels)
        if batch.phase.name == "probe":
            return of_labels
        agreement = binary_cross_entropy_with_logits(logits, batch.initial().sigmoid())
        return (1 - self.weight) * of_labels + self.weight * agreement
