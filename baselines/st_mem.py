"""ST-MEM (Na et al., ICLR 2024): a Transformer pre-trained as a masked autoencoder over time and leads.

Code bakqui/ST-MEM 69ec702, models/encoder/st_mem_vit.py; written anew. Code and weights are CC BY-NC 4.0: the weights
are for non-commercial use. Pre-trained on Chapman, Ningbo and CODE-15, without PTB-XL. Module names are official:
the published file loads without renames, its state dict is under `model`.

Input: 12 leads at 250 Hz, three windows of 9 s for each record, whose outputs are averaged. Signals are filtered to
0.67-40 Hz (Butterworth of order 5, forwards and backwards); each window is z-scored over all leads and samples.
Deviations: filters run over the record, not over each window; DropPath in every branch (official: at rate 0).
"""

import numpy as np
import numpy.typing as npt
import scipy.signal
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plugin import Backbone, DropPath, SignalSpec, register_backbone, register_preprocessing

Signal = npt.NDArray[np.float32]
LEADS, PATCHES, SAMPLES = 12, 30, 75


@register_preprocessing("st_mem", version=1)
def st_mem(record: Signal, rate: int) -> Signal:
    """High-pass at 0.67 Hz, then low-pass at 40 Hz: Butterworth filters of order 5, forwards and backwards."""
    high = scipy.signal.butter(5, 0.67, "highpass", output="sos", fs=rate)
    low = scipy.signal.butter(5, 40.0, "lowpass", output="sos", fs=rate)
    filtered = scipy.signal.sosfiltfilt(low, scipy.signal.sosfiltfilt(high, record.astype(np.float64)))
    return np.asarray(filtered, dtype=np.float32)


class Attention(nn.Module):
    """Multi-head self-attention: [record, token, width] -> the same."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.to_qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers with a GELU between, numbered as in the published file: [record, token, width] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


class PreNorm(nn.Module):
    """A layer norm before a layer: [record, token, width] -> the same."""

    def __init__(self, width: int, layer: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm Transformer block: [record, token, width] -> the same."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attn = PreNorm(width, Attention(width, num_heads))
        self.ff = PreNorm(width, MLP(width))
        self.attn_drop_path = DropPath()
        self.ff_drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn_drop_path(self.attn(x))
        return x + self.ff_drop_path(self.ff(x))  # type: ignore[no-any-return]


class Patches(nn.Sequential):
    """Patches of a lead become vectors: [record, lead, time] -> [record, lead, patch, width]."""

    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals.reshape(*signals.shape[:2], -1, SAMPLES))  # type: ignore[no-any-return, no-untyped-call]


@register_backbone("st_mem")
class STMEM(Backbone):
    """ST-MEM: 12 Transformer blocks of width 768 over 12 leads x 30 patches; 85.2 M parameters, 250 Hz."""

    signal_spec = SignalSpec(250, "st_mem", window_s=9, stride_s=0.5, aggregate="mean")

    def __init__(self) -> None:
        super().__init__()
        width, self.depth = 768, 12
        self.to_patch_embedding = Patches(
            nn.Identity(), nn.LayerNorm(SAMPLES), nn.Linear(SAMPLES, width), nn.LayerNorm(width)
        )
        self.pos_embedding = nn.Parameter(torch.randn(1, PATCHES + 2, width))
        self.sep_embedding = nn.Parameter(torch.randn(width))
        self.lead_embeddings = nn.ParameterList(nn.Parameter(torch.randn(width)) for _ in range(LEADS))
        for number in range(self.depth):
            self.add_module(f"block{number}", Block(width, num_heads=12))
        self.norm = nn.LayerNorm(width)
        self.feature_dim = width

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, 12, 2250] -> tokens [record, 360, 768], lead by lead, before the last norm."""
        mean, std = signals.mean((1, 2), keepdim=True), signals.std((1, 2), keepdim=True, correction=0)
        patches = self.to_patch_embedding((signals - mean) / torch.where(std > 0, std, 1.0))
        # a separator at both ends of each lead
        separator = self.sep_embedding.expand(*patches.shape[:2], 1, -1)
        x = torch.cat([separator, patches, separator], dim=2) + self.pos_embedding
        x = (x + torch.stack(list(self.lead_embeddings)).unsqueeze(1)).flatten(1, 2)
        for number in range(self.depth):
            x = getattr(self, f"block{number}")(x)
        x = x.reshape(len(x), LEADS, PATCHES + 2, -1)[:, :, 1:-1]
        return x.flatten(1, 2)

    def forward(self, signals: Tensor) -> Tensor:
        return self.norm(self.tokens(signals).mean(1))  # type: ignore[no-any-return]
