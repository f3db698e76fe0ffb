"""ECG-JEPA (Weimann & Conrad 2024, arXiv 2410.13867): a Vision Transformer over time, pre-trained as a JEPA.

Code kweimann/ECG-JEPA 504b4e5 (MIT), models/vision_transformer.py, written anew. Not to be confused with ECG_JEPA of
Kim (`ecg_jepa`). Its authors have published no weights: the README of that commit links none; issue 1 asks for them,
and its answer is not known here. `--init FILE` loads a file that their pretrain.py wrote, or the smaller one of their
minify_pretrained_checkpoint.py: the encoder is under `target_encoder.` in `model`. By the name of its configuration, a
model saw MIMIC-IV-ECG alone (`_mimic`), folds 1-8 of PTB-XL alone (`_ptbxl`), or ten data sets with these folds
(`_all`; ViT-B has no other).

Input as in their finetune.py: 12 leads in mV at 500 Hz, each standardised by its mean and deviation over folds 1-8 of
PTB-XL, limited to -5..5, 2.5 s; windows every 1.25 s whose logits are averaged. Patches of 25 samples of all leads; a
register token stands before them, and no layer but the head has a bias. Features are the register, as in their
configs/eval/finetune.yaml; their linear evaluation pools all tokens, the register among them, by attention (`tokens`).

Deviations: mean and deviation have the three digits of pretrain.py; DropPath in every branch, in place of dropout at
0.05; the head has a bias.
"""

import math

import torch
from torch import Tensor, nn

import baselines.preprocessing  # noqa: F401 (registers ecg_jepa_weimann)
from baselines.vit1d import Block, initialize, positions
from bench.plugin import Backbone, Count, PublishedCheckpoint, SignalSpec, register_backbone

SAMPLES = 25
"""Samples of a patch."""
RENAMES = (
    (r"(.*)\bpatch_embed\.proj\.", r"\1patches."),
    (r"(.*)\.norm1\.", r"\1.attention.0."),
    (r"(.*)\.attn\.qkv\.", r"\1.attention.1.qkv."),
    (r"(.*)\.attn\.proj\.", r"\1.attention.1.out."),
    (r"(.*)\.norm2\.", r"\1.mlp.0."),
    (r"(.*)\.mlp\.fc1\.", r"\1.mlp.1."),
    (r"(.*)\.mlp\.fc2\.", r"\1.mlp.3."),
)
"""How the file's keys become ours, in this order."""


def weimann_checkpoint(pretraining_data: str) -> PublishedCheckpoint:
    """Return the layout of the files that their code writes."""
    return PublishedCheckpoint(
        page="https://github.com/kweimann/ECG-JEPA",
        withheld=True,
        state_dict="model",
        prefix="target_encoder.",
        left_out=(r"encoder\.", r"predictor\."),
        renames=RENAMES,
        pretraining_data=pretraining_data,
        ptbxl_seen="yes" if pretraining_data == EVERYTHING else "unknown",
        source="README and configs/pretrain of kweimann/ECG-JEPA; whether PTB-XL was seen depends on the file",
    )


EVERYTHING = "MIMIC-IV-ECG, CODE-15, PhysioNet 2021, folds 1-8 of PTB-XL"
ONE_OF_THREE = f"{EVERYTHING} (_all); MIMIC-IV-ECG (_mimic); folds 1-8 of PTB-XL (_ptbxl)"


class WeimannJEPA(Backbone):
    """A register and patches of time, Transformer blocks without biases: [record, 12, time] -> [record, width]."""

    signal_spec = SignalSpec(500, "ecg_jepa_weimann", window_s=2.5, stride_s=1.25, aggregate="mean")

    def __init__(self, width: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.registers = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=0.02))
        self.patches = nn.Conv1d(12, width, SAMPLES, stride=SAMPLES, bias=False)
        self.blocks = nn.ModuleList(Block(width, num_heads, qkv_bias=False, bias=False) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, bias=False)
        self.feature_dim = width
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                ends_branch = name.endswith(("attention.1.out", "mlp.3"))
                initialize(module, std=0.02 / math.sqrt(2 * depth) if ends_branch else 0.02)

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, 12, time] -> [record, 1 + patch, width]; the first, the register, is the feature vector."""
        x = self.patches(signals).transpose(1, 2)
        x = x + positions(x.shape[1], x.shape[2], x.device)
        x = torch.cat([self.registers.to(x.dtype).expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)  # type: ignore[no-any-return]

    def forward(self, signals: Tensor) -> Tensor:
        return self.tokens(signals)[:, 0]

    def layer_groups(self) -> list[str]:
        registers, patches, *others = super().layer_groups()
        return [patches, registers, *others]

    def reset_head(self, head: nn.Linear) -> None:
        initialize(head, std=0.02)


@register_backbone("ecg_jepa_weimann_xs")
class WeimannJEPAXS(WeimannJEPA):
    """ECG-JEPA of Weimann & Conrad, ViT-XS: 8 blocks of width 192; 3.6 M parameters, 500 Hz, windows of 2.5 s."""

    checkpoint = weimann_checkpoint(ONE_OF_THREE)

    def __init__(self, depth: Count = 8) -> None:
        super().__init__(192, depth, num_heads=4)


@register_backbone("ecg_jepa_weimann_s")
class WeimannJEPAS(WeimannJEPA):
    """ECG-JEPA of Weimann & Conrad, ViT-S: 8 blocks of width 384; 14.3 M parameters, 500 Hz, windows of 2.5 s."""

    checkpoint = weimann_checkpoint(ONE_OF_THREE)

    def __init__(self, depth: Count = 8) -> None:
        super().__init__(384, depth, num_heads=6)


@register_backbone("ecg_jepa_weimann_b")
class WeimannJEPAB(WeimannJEPA):
    """ECG-JEPA of Weimann & Conrad, ViT-B: 12 blocks of width 768; 85.2 M parameters, 500 Hz; saw PTB-XL."""

    checkpoint = weimann_checkpoint(EVERYTHING)

    def __init__(self, depth: Count = 12) -> None:
        super().__init__(768, depth, num_heads=12)
