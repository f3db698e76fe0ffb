"""Linear probing: the backbone stays frozen, a linear head learns on its features."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.plugin import LogUniform, Method, Phase, register_method


@dataclass(frozen=True)
class Probe(Method):
    """The probing recipe, for whoever begins with it.

    Values as second-hand reports give them for Zhou et al. (GhIrani33/ecgfounder-edge-cds); ours where those are
    silent: a constant learning rate.
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
    """Linear probing: train the head, leave the backbone as it is."""

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [self.probe()]
