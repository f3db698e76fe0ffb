"""LP-FT (Kumar et al. 2022): first probe, then fine-tune all from the probe's best epoch; with stochastic depth it is
the post-training strategy of Zhou et al., arXiv 2509.12991."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.plugin import Phase, register_method
from methods.full_finetune import STOCHASTIC_DEPTH, Finetune
from methods.linear_probe import Probe


@register_method("lpft")
@dataclass(frozen=True)
class LPFT(Finetune, Probe):
    """A preview linear probe, then full fine-tuning."""

    search = {**Probe.search, **Finetune.search}

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [self.probe(), self.finetune()]


@register_method("lpft-sd")
@dataclass(frozen=True)
class LPFTStochasticDepth(LPFT):
    """A preview linear probe, then full fine-tuning with stochastic depth."""

    drop_path_rate: float = 0.5

    search = {**LPFT.search, **STOCHASTIC_DEPTH}
