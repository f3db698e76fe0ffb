"""ECG_JEPA (Kim 2024, arXiv 2410.08559): a Transformer pre-trained by predicting masked patches in feature space.

Code sehunfromdaegu/ECG_JEPA d937ad2, ecg_jepa.py (MIT; the licence of the weights is not stated), written anew. Not to
be confused with ECG-JEPA of Weimann & Conrad. Pre-trained on Chapman, Ningbo and CODE-15 according to its README; a
wrapper of AI4HealthUOL names PTB-XL too, so whether it saw PTB-XL is unknown.

Input as in its linear evaluation: mV at 250 Hz, 10 s, no filter; eight leads only (I, II, V1..V6), 50 patches of 50
samples each. A patch attends to the patches of its lead and to those of its moment; the positions, which are in the
file and not trained, are added before every block. Deviations: DropPath in every branch (theirs: at rate 0); signals
are resampled by a polyphase filter, not by FFT.
"""

import math

import torch
from torch import Tensor, nn

from baselines.vit1d import Block
from bench.plugin import Backbone, Count, PublishedCheckpoint, SignalSpec, register_backbone

LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
PATCHES, SAMPLES, WIDTH = 50, 50, 768
"""Patches of a lead, samples of a patch."""

RENAMES = (
    (r"^pos_embed$", "positions"),
    (r"^W_P\.", "patches."),
    (r"^encoder_blocks\.", ""),
    (r"^(.*)\.norm1\.", r"\1.attention.0."),
    (r"^(.*)\.attn\.qkv\.", r"\1.attention.1.qkv."),
    (r"^(.*)\.attn\.proj\.", r"\1.attention.1.out."),
    (r"^(.*)\.norm2\.", r"\1.mlp.0."),
    (r"^(.*)\.mlp\.fc1\.", r"\1.mlp.1."),
    (r"^(.*)\.mlp\.fc2\.", r"\1.mlp.3."),
)
"""How the file's keys become ours, in this order; the state dict is under `encoder`."""


@register_backbone("ecg_jepa")
class ECGJEPA(Backbone):
    """ECG_JEPA of Kim 2024: 12 Transformer blocks of width 768 over 8 leads x 50 patches; 85.4 M parameters, 250 Hz."""

    checkpoint = PublishedCheckpoint(
        page="https://drive.google.com/file/d/1gMOT4xjQQg0GZkY1iE6NuDzua4ALw00l/view",
        filename="multiblock_epoch100.pth",
        sha256="61334869f905a7d6de32bc573c60024eaf6efba7c35c0e45fc2ea7d52b6ff66e",
        num_bytes=341_551_405,
        state_dict="encoder",
        renames=RENAMES,
        pretraining_data="Chapman, Ningbo, CODE-15",
        source="README of sehunfromdaegu/ECG_JEPA; a wrapper in AI4HealthUOL/ecg-fm-benchmarking names PTB-XL too; "
        "hash and size: four programs of others",
    )
    signal_spec = SignalSpec(250, "none", leads=LEADS, window_s=10, stride_s=10)

    def __init__(self, depth: Count = 12) -> None:
        super().__init__()
        self.patches = nn.Linear(SAMPLES, WIDTH)
        self.positions = nn.Parameter(positions(len(LEADS), PATCHES, WIDTH), requires_grad=False)
        self.blocks = nn.ModuleList(Block(WIDTH, num_heads=16, eps=1e-5, qkv_bias=False) for _ in range(depth))
        self.norm = nn.LayerNorm(WIDTH)
        self.register_buffer("allowed", same_lead_or_moment(len(LEADS), PATCHES), persistent=False)
        self.feature_dim = WIDTH
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                ends_branch = name.endswith(("attention.1.out", "mlp.3"))
                number = int(name.split(".")[1]) + 1 if ends_branch else 1
                _initialize(module, std=0.02 / math.sqrt(2 * number) if ends_branch else 0.02)

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, 8, 2500] -> [record, 400, 768], lead by lead, of which features are the mean."""
        x = self.patches(signals.reshape(len(signals), -1, SAMPLES))
        for block in self.blocks:
            x = block(x + self.positions, self.allowed)
        return self.norm(x)  # type: ignore[no-any-return]

    def forward(self, signals: Tensor) -> Tensor:
        return self.tokens(signals).mean(1)

    def reset_head(self, head: nn.Linear) -> None:
        _initialize(head, std=0.02)


def _initialize(module: nn.Linear, std: float) -> None:
    nn.init.normal_(module.weight, std=std)  # theirs is cut at 100 standard deviations
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def same_lead_or_moment(num_leads: int, num_patches: int) -> Tensor:
    """Return [token, token], true where two tokens are of one lead or of one patch in time."""
    token = torch.arange(num_leads * num_patches)
    lead, patch = token // num_patches, token % num_patches
    return (lead[:, None] == lead) | (patch[:, None] == patch)


def positions(num_leads: int, num_patches: int, width: int) -> Tensor:
    """Return sine and cosine positions [token, width]: half of the width encodes the patch, the other half the lead."""
    lead = torch.arange(num_leads, dtype=torch.float64).repeat_interleave(num_patches)
    patch = torch.arange(num_patches, dtype=torch.float64).repeat(num_leads)
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angles = [place[:, None] * frequencies for place in (patch, lead)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()
