"""Full fine-tuning as the authors of foundation models do it, for the row "as its authors do".

They fit any backbone. Where the authors select by steps or on the test set, here epochs are selected on fold 9.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from bench.plugin import (
    Batch,
    Classifier,
    DropPath,
    Gradients,
    Incompatible,
    LogUniform,
    Method,
    NotNegative,
    Phase,
    Rate,
    Start,
    register_method,
)
from methods.full_finetune import Finetune, FullFinetune
from methods.layerwise import DiscriminativeFinetune
from methods.probes import AttentionProbe


@register_method("ft-st-mem")
@dataclass(frozen=True)
class FinetuneSTMEM(Method):
    """ST-MEM's recipe: AdamW at 1e-3 * 16 / 256, 10 epochs of which 3 warm up, a cosine to 0, lowest loss on fold 9.

    Code bakqui/ST-MEM 69ec702, configs/downstream/st_mem.yaml. Deviation: without its RandAugment.
    """

    epochs: int = 10
    lr: float = 1e-3 * 16 / 256
    weight_decay: float = 0.05
    batch_size: int = 16
    beta2: Rate = 0.999

    search = {"lr": LogUniform(1e-6, 1e-3)}

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [
            Phase(
                name="finetune",
                learning_rates={"backbone": self.lr, "head": self.lr},
                epochs=self.epochs,
                batch_size=self.batch_size,
                weight_decay=self.weight_decay,
                lr_schedule="cosine",
                warmup=0.3,
                selection="lowest-loss",
            )
        ]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, weight_decay=phase.weight_decay, betas=(0.9, self.beta2), fused=True)


@register_method("ft-ecg-jepa")
@dataclass(frozen=True)
class FinetuneECGJEPA(FinetuneSTMEM):
    """The recipe of ECG_JEPA (Kim): that of ST-MEM at 1e-4 * 16 / 256, with 0.95 as AdamW's second beta.

    Code sehunfromdaegu/ECG_JEPA d937ad2, downstream_tasks/finetuning.py. Deviations: no RandAugment, no filter.
    """

    lr: float = 1e-4 * 16 / 256
    beta2: Rate = 0.95


def all_but_the_first(layer_groups: Sequence[str], frozen: Sequence[str]) -> list[str]:
    """Return the layer groups above the first; of a backbone as of wav2vec 2.0 without those that are `frozen` too."""
    first, *others = layer_groups
    if not others:
        raise Incompatible("its first layer group stays frozen, and this backbone has only one")
    return [group for group in others if first != "backbone.convolutions" or group not in frozen]


@register_method("ft-hubert-ecg")
@dataclass(frozen=True)
class FinetuneHuBERTECG(Method):
    """HuBERT-ECG's recipe: AdamW at 1e-5, positives weighted by negatives / positives, the first layer group frozen.

    Code Edoar-do/HuBERT-ECG affe1f9, finetune.sh for PTB-XL: 70,000 steps of 64 records, 8 % of them warm-up, the best
    of validations every 500 steps, stopped after 8 without a better one: here in epochs of the whole training set. Of
    their own backbone the positions and the norm before the first layer stay frozen too. Their small model drops no
    layers: `drop_path_rate=0`. Deviations: a cosine to 0, where theirs is a line; its layers dropped at 0.1 (base) are
    branches, scaled by 1 / 0.9; no dropout of 0.1 in attention and before the head; any gain on fold 9 restarts their
    patience, where theirs asks for 0.001 or a better loss.
    """

    epochs: int = 257
    lr: float = 1e-5
    weight_decay: float = 0.01
    batch_size: int = 64
    drop_path_rate: float = 0.1
    patience: int | None = 15
    needs_signals = False
    frozen: ClassVar[tuple[str, ...]] = ("backbone.positions", "backbone.norm")

    search = {"lr": LogUniform(1e-6, 1e-3)}

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        rates = dict.fromkeys(["head", *all_but_the_first(layer_groups, self.frozen)], self.lr)
        return [Phase(name="finetune", learning_rates=rates, epochs=self.epochs, **self.rest())]

    def rest(self) -> dict[str, Any]:
        """Return what the phase declares besides rates and epochs."""
        shape = {"drop_path_rate": self.drop_path_rate, "drop_path_shape": "constant", "drop_path_unit": "batch"}
        steps = {"lr_schedule": "cosine", "warmup": 0.08, "patience": self.patience}
        return {"batch_size": self.batch_size, "weight_decay": self.weight_decay, **shape, **steps}

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, weight_decay=phase.weight_decay, betas=(0.9, 0.98), eps=1e-9, fused=True)

    def loss(self, batch: Batch) -> Tensor:
        positives = batch.positives.clamp(min=1)
        weight = ((batch.num_records - batch.positives) / positives).to(batch.labels.dtype)
        return binary_cross_entropy_with_logits(batch.logits(), batch.labels, pos_weight=weight)


@register_method("ft-ecg-fm")
@dataclass(frozen=True)
class FinetuneECGFM(FinetuneHuBERTECG):
    """ECG-FM's recipe: Adam at 5e-5, constant, 128 records a step, at most 100 epochs, the first layer group frozen.

    Code Jwoo5/fairseq-signals 6b9e137, examples/w2v_cmsc/.../diagnosis.yaml, which ECG-FM's README starts from (there
    with a rate of 1e-6, 256 records and 140 epochs on MIMIC-IV-ECG); positives are weighted as in its README.
    """

    epochs: int = 100
    lr: float = 5e-5
    weight_decay: float = 0.0
    batch_size: int = 128
    drop_path_rate: float = 0.0
    patience: int | None = None
    frozen = ()

    def rest(self) -> dict[str, Any]:
        """Return what the phase declares besides rates and epochs."""
        return {**super().rest(), "optimizer": "adam", "lr_schedule": "constant", "warmup": 0.0}

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, weight_decay=phase.weight_decay, betas=(0.9, 0.98), fused=True)


@register_method("ft-ecg-cpc")
@dataclass(frozen=True)
class FinetuneECGCPC(DiscriminativeFinetune):
    """The recipe of ECG-CPC's authors, by which they fine-tune all models: `ft-disc` for 100 epochs, 64 records a step.

    Code AI4HealthUOL/ecg-fm-benchmarking 6367295, main_lite.py and run.sh (arXiv 2509.25095). Of ECG-CPC the two halves
    are their parts, encoder and predictor. Deviation: the last, short batch of an epoch is used.
    """

    weight_decay: float = 1e-3
    epochs: int = 100
    batch_size: int = 64


@register_method("ft-ecg-jepa-weimann")
@dataclass(frozen=True)
class FinetuneECGJEPAWeimann(FullFinetune):
    """ECG-JEPA's recipe (Weimann & Conrad): AdamW at 1e-3, a warm-up of 2 %, a cosine to 1e-5, dropout in each block.

    Code kweimann/ECG-JEPA 504b4e5, finetune.py with configs/eval/finetune.yaml: 10,000 steps of 128 records, the best
    of validations every 100 steps, stopped 2,000 steps after it: here in epochs of the whole training set. Weights of
    linear layers and convolutions decay. Deviation: the last, short batch of an epoch is used.
    """

    finetune_epochs: int = 73
    finetune_lr: float = 1e-3
    finetune_min_lr: NotNegative = 1e-5
    finetune_weight_decay: float = 0.01
    warmup: float = 0.02
    patience: int | None = 15
    batch_size: int = 128
    beta2: Rate = 0.99
    dropout: Rate = 0.05

    search = {"finetune_lr": LogUniform(1e-5, 1e-2)}

    def prepare(self, model: Classifier, init: Start) -> None:
        drop_in_blocks(model.backbone, self.dropout)

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        decayed_not = ("1d", "*.registers")
        return [replace(self.finetune(), batch_size=self.batch_size, no_weight_decay=decayed_not)]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, weight_decay=phase.weight_decay, betas=(0.9, self.beta2), fused=True)


@register_method("lpft-ecg-jepa-weimann")
@dataclass(frozen=True)
class ProbeThenFinetuneECGJEPAWeimann(Finetune, AttentionProbe):
    """Weimann & Conrad's two steps: the probe of `lp-attn` at their rates, then all at 1e-4 with dropout.

    Their README trains task `all` so. Code kweimann/ECG-JEPA 504b4e5, configs/eval/linear.yaml, then
    finetune_after_linear.yaml: 5,000 steps of 128 records each, gradients clipped at norm 1; the probe's rate is
    constant, then a warm-up of 4 % and a cosine to 1e-6. Validations and deviation as in `ft-ecg-jepa-weimann`; also,
    their attention has the backbone's number of heads.
    """

    probe_epochs: int = 37
    finetune_epochs: int = 37
    finetune_lr: float = 1e-4
    finetune_min_lr: NotNegative = 1e-6
    finetune_weight_decay: float = 0.0
    warmup: float = 0.04
    patience: int | None = 15
    batch_size: int = 128
    dropout: Rate = 0.1

    search = {**AttentionProbe.search, "finetune_lr": LogUniform(1e-6, 1e-3)}

    def prepare(self, model: Classifier, init: Start) -> None:
        super().prepare(model, init)
        drop_in_blocks(model.backbone, self.dropout)

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        probe = replace(self.probe(), no_weight_decay=("1d", "*.query"))
        both = (probe, self.finetune())
        return [replace(phase, batch_size=self.batch_size, gradient_clip_norm=1.0) for phase in both]


def drop_in_blocks(backbone: nn.Module, rate: float) -> None:
    """Put dropout at the end of each residual branch, in place of its DropPath, and behind each GELU.

    In a Transformer these are the three places of its blocks: after attention, and after each layer of the MLP. Raises
    Incompatible for a backbone without residual blocks. In Net1D the DropPath is on the gate, so that whole channels
    are dropped, as by `ft-dropout`.
    """
    modules = dict(backbone.named_modules())
    if not any(isinstance(module, DropPath) for module in modules.values()):
        raise Incompatible("its dropout stands in residual blocks, and this backbone has none")
    for path, module in modules.items():
        if isinstance(module, DropPath):
            backbone.set_submodule(path, nn.Dropout(rate))
        elif isinstance(module, nn.GELU):
            backbone.set_submodule(path, nn.Sequential(module, nn.Dropout(rate)))
