"""A Vision Transformer over patches of time, the architecture of masked and joint-embedding pre-trained ECG models.

Zhou et al. 2023 (MTECG, arXiv 2309.07136: patches of 12 leads x 25 samples, width 192), Na et al. 2024 (ST-MEM), and
Weimann & Conrad 2024 (code kweimann/ECG-JEPA: width 384 with 6 heads; from random weights AUROC 0.883 on all labels).
No published checkpoint fits. Chosen here: 12 blocks; 100 Hz, so that a patch of 25 samples is 0.25 s (0.05 s at 500 Hz
in MTECG and ECG-JEPA, 0.3 s in ST-MEM); the mean over patches instead of a class token or registers. From ECG-JEPA:
sine and cosine positions, weight initialisation, crops of 2.5 s and the mean over windows.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plugin import Backbone, Count, DropPath, SignalSpec, register_backbone


def attend(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Return softmax(query key^T / sqrt(dim)) value, [record, head, token, dim], over the tokens that are `allowed`.

    In bf16 on a CPU the plain products take half as long as torch's kernel, backward pass included.
    """
    if query.dtype != torch.bfloat16 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    weights: Tensor = scores.softmax(-1).to(value.dtype)
    return weights @ value


class Attention(nn.Module):
    """Multi-head self-attention: [record, patch, width] -> the same.

    `allowed` [patch, patch] is true where the first patch attends to the second; None: everywhere.
    """

    def __init__(self, width: int, num_heads: int, qkv_bias: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, qkv_bias)
        self.out = nn.Linear(width, width, bias)

    def forward(self, x: Tensor, allowed: Tensor | None = None) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attend(query, key, value, allowed)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm Transformer block, two residual branches: [record, patch, width] -> the same."""

    def __init__(self, width: int, num_heads: int, eps: float = 1e-6, qkv_bias: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.LayerNorm(width, eps=eps, bias=bias), Attention(width, num_heads, qkv_bias, bias)
        )
        self.attention_drop_path = DropPath()
        self.mlp = nn.Sequential(
            nn.LayerNorm(width, eps=eps, bias=bias),
            nn.Linear(width, 4 * width, bias),
            nn.GELU(),
            nn.Linear(4 * width, width, bias),
        )
        self.mlp_drop_path = DropPath()

    def forward(self, x: Tensor, allowed: Tensor | None = None) -> Tensor:
        norm, attention = self.attention
        x = x + self.attention_drop_path(attention(norm(x), allowed))
        return x + self.mlp_drop_path(self.mlp(x))  # type: ignore[no-any-return]


Patch = Literal[1, 2, 5, 10, 25, 50, 125, 250]
"""Samples of a patch: what divides the 250 of a window."""


class ViT1d(Backbone):
    """Patches, Transformer blocks, mean over patches: [record, lead, time] -> [record, width]."""

    signal_spec = SignalSpec(100, "strodthoff", window_s=2.5, stride_s=1.25, aggregate="mean")

    def __init__(self, width: int, num_heads: int, patch: int, depth: Count = 12) -> None:
        super().__init__()
        self.patches = nn.Conv1d(12, width, patch, stride=patch)
        self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.feature_dim = width
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                ends_branch = name.endswith(("attention.1.out", "mlp.3"))
                initialize(module, std=0.02 / math.sqrt(2 * depth) if ends_branch else 0.02)

    def forward(self, signals: Tensor) -> Tensor:
        return self.tokens(signals).mean(1)

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, lead, time] -> [record, patch, width], of which features are the mean."""
        x = self.patches(signals).transpose(1, 2)
        x = self.blocks(x + positions(x.shape[1], x.shape[2], x.device))
        return self.norm(x)  # type: ignore[no-any-return]

    def reset_head(self, head: nn.Linear) -> None:
        initialize(head, std=0.02)


def positions(num_patches: int, width: int, device: torch.device) -> Tensor:
    """Return position embeddings [patch, width]: sines and cosines of geometric frequencies (Vaswani et al. 2017)."""
    frequencies = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000.0) / width))
    angles = torch.arange(num_patches, device=device).unsqueeze(1) * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def initialize(module: nn.Linear | nn.Conv1d, std: float) -> None:
    """Initialise a weight by a normal distribution that is cut at -2 and 2, and the bias by 0."""
    nn.init.trunc_normal_(module.weight, std=std)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


@register_backbone("vit1d_tiny")
def vit1d_tiny(patch: Patch = 25) -> ViT1d:
    """Vision Transformer over time patches: 12 blocks of width 192, 3 heads; no published PTB-XL AUROC."""
    return ViT1d(192, 3, patch)


@register_backbone("vit1d_small")
def vit1d_small(patch: Patch = 25) -> ViT1d:
    """Vision Transformer over time patches: 12 blocks of width 384, 6 heads; no published PTB-XL AUROC."""
    return ViT1d(384, 6, patch)
