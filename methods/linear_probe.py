"""Linear probing: train a linear head on the features of a frozen backbone."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.plugin import LogUniform, Method, Phase, register_method


@dataclass(frozen=True)
class Probe(Method):
    """The probing recipe that all methods with a linear probe share.

    The text of Zhou et al. gives no values that could be read. These are the defaults of a third party's script for the
    same two stages (GhIrani33/ecgfounder-edge-cds). Deviations: no dropout (0.05 there), no weight of positives (there
    negatives / positives), and a constant rate (there halved when fold 9 stops improving).
    """

    probe_epochs: int = 30
    probe_lr: float = 5e-3
    probe_weight_decay: float = 0.1

    search = {"probe_lr": LogUniform(5e-4, 5e-2)}

    def probe(self) -> Phase:
        return Phase(
            name="probe",
            learning_rates={"head": self.probe_lr},
            epochs=self.probe_epochs,
            weight_decay=self.probe_weight_decay,
        )


@register_method("lp")
@dataclass(frozen=True)
class LinearProbe(Probe):
    """Linear probing: train the head, keep the backbone frozen."""

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [self.probe()]
