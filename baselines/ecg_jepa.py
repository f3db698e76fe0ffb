"""ECG_JEPA (Kim 2024): a Transformer pre-trained by predicting masked patches in feature space.

Code sehunfromdaegu/ECG_JEPA d937ad2, ecg_jepa.py (MIT; the licence of the weights is not stated). Pre-trained on
Chapman-Shaoxing-Ningbo and CODE-15. A wrapper of AI4HealthUOL names PTB-XL too, so whether it saw PTB-XL is unknown.
Module names are the official ones: the published file loads without renames; its state dict is under `encoder`.

Input: leads I, II, V1..V6 in mV at 250 Hz, 10 s, unfiltered as in the official linear evaluation; 50 patches of 50
samples for each lead. Deviations: DropPath in every branch (official: at rate 0); polyphase, not FFT, resampling.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plugin import Backbone, DropPath, SignalSpec, register_backbone

LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
PATCHES, SAMPLES = 50, 50


class Attention(nn.Module):
    """Self-attention in which `allowed` [token, token] says who sees whom: [record, token, width] -> the same."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers with a GELU between: [record, token, width] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm Transformer block; the positions are added at its start: [record, token, width] -> the same."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width)
        self.attn = Attention(width, num_heads)
        self.attn_drop_path = DropPath()
        self.mlp_drop_path = DropPath()

    def forward(self, x: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        x = x + positions
        x = x + self.attn_drop_path(self.attn(self.norm1(x), allowed))
        return x + self.mlp_drop_path(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """The Transformer blocks, named as in the published file."""

    def __init__(self, width: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(depth))

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)  # type: ignore[arg-type]


@register_backbone("ecg_jepa")
class ECGJEPA(Backbone):
    """ECG_JEPA: 12 Transformer blocks of width 768 over 8 leads x 50 patches; 85.4 M parameters, 250 Hz."""

    signal_spec = SignalSpec(250, "none", leads=LEADS)

    def __init__(self) -> None:
        super().__init__()
        width, depth = 768, 12
        self.pos_embed = nn.Parameter(positions(len(LEADS), PATCHES, width), requires_grad=False)
        self.encoder_blocks = Encoder(width, depth, num_heads=16)
        self.norm = nn.LayerNorm(width)
        self.W_P = nn.Linear(SAMPLES, width)
        self.feature_dim = width
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for number, block in enumerate(self.encoder_blocks, 1):
            block.attn.proj.weight.data /= math.sqrt(2.0 * number)
            block.mlp.fc2.weight.data /= math.sqrt(2.0 * number)

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, 8, 2500] -> tokens [record, 400, 768], lead by lead."""
        x = self.W_P(signals.reshape(len(signals), -1, SAMPLES))
        allowed = same_lead_or_patch(len(LEADS), PATCHES, x.device)
        for block in self.encoder_blocks:
            x = block(x, self.pos_embed, allowed)
        return self.norm(x)  # type: ignore[no-any-return]

    def forward(self, signals: Tensor) -> Tensor:
        return self.tokens(signals).mean(1)

    def reset_head(self, head: nn.Linear) -> None:
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)


def same_lead_or_patch(num_leads: int, num_patches: int, device: torch.device) -> Tensor:
    """Return a mask [token, token]: true where two tokens are of the same lead or of the same patch in time."""
    token = torch.arange(num_leads * num_patches, device=device)
    lead, patch = token // num_patches, token % num_patches
    return (lead[:, None] == lead) | (patch[:, None] == patch)


def positions(num_leads: int, num_patches: int, width: int) -> Tensor:
    """Sine and cosine positions [token, width]: half of the width encodes the patch, the other half the lead."""
    lead = torch.arange(num_leads, dtype=torch.float64).repeat_interleave(num_patches)
    patch = torch.arange(num_patches, dtype=torch.float64).repeat(num_leads)
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angles = [place[:, None] * frequencies for place in (patch, lead)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()
