"""Fine-tuning as in ECGFounder's own notebook (PKUDigitalHealth/ECGFounder, finetune_ECGFounder.ipynb).

Deviation: the notebook selects the epoch on the test set; here it is selected on fold 9.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.plugin import LogUniform, Method, Phase, register_method


@register_method("ft-official")
@dataclass(frozen=True)
class OfficialFinetune(Method):
    """Full fine-tuning as in the official notebook: Adam for 5 epochs, lr 1e-4, a tenth after a 10-epoch plateau.

    In 5 epochs there is no such plateau; it acts where `epochs` is larger.
    """

    epochs: int = 5
    lr: float = 1e-4
    weight_decay: float = 1e-5

    search = {"lr": LogUniform(1e-5, 1e-3)}

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [
            Phase(
                name="finetune",
                learning_rates={"backbone": self.lr, "head": self.lr},
                epochs=self.epochs,
                optimizer="adam",
                weight_decay=self.weight_decay,
                lr_schedule="plateau",
            )
        ]
