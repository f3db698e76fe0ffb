"""ECG-FM and HuBERT-ECG: convolutions, then a post-norm Transformer, as in wav2vec 2.0 (Baevski et al. 2020).

ECG-FM: McKeen et al. 2024, weights `wanglab/ecg-fm` (MIT); code bowang-lab/ECG-FM 9cc0d3f on Jwoo5/fairseq-signals
6b9e137. PTB-XL was in its pre-training (PhysioNet 2021 and MIMIC-IV-ECG).
HuBERT-ECG: Coppola et al. 2024, weights `Edoardo-BS/hubert-ecg-small` and `-base` (CC BY-NC 4.0, non-commercial); code
Edoar-do/HuBERT-ECG affe1f9 on transformers' HubertModel. Whether it saw PTB-XL in pre-training was not checked.

Both normalise after each addition and apply a norm before the first layer. Features are the mean over tokens.
Deviations: no dropout and no dropped layers, but a DropPath in every branch. HuBERT-ECG's official band-pass works at
the file's rate and its decimation runs over all leads in a row; here both work at 100 Hz on each lead.
"""

import math

import numpy as np
import numpy.typing as npt
import scipy.signal
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plugin import Backbone, DropPath, SignalSpec, register_backbone, register_preprocessing

Signal = npt.NDArray[np.float32]


@register_preprocessing("lead_zscore", version=1)
def lead_zscore(record: Signal, rate: int) -> Signal:
    """(x - mean) / std of each lead; a flat lead becomes 0. ECG-FM's preprocessing."""
    wide = record.astype(np.float64)
    std = wide.std(-1, keepdims=True)
    return np.asarray((wide - wide.mean(-1, keepdims=True)) / np.where(std > 0, std, 1.0), dtype=np.float32)


@register_preprocessing("hubert_ecg", version=1)
def hubert_ecg(record: Signal, rate: int) -> Signal:
    """Band-pass 0.05-47 Hz (FIR of 0.3 s, forwards and backwards), then each lead scaled to -1..1."""
    taps = scipy.signal.firwin(int(0.3 * rate) | 1, [0.05, 47.0], pass_zero=False, fs=rate)
    wide = record.astype(np.float64)
    wide = scipy.signal.filtfilt(taps, np.ones(1), wide, axis=-1, padlen=min(3 * len(taps), wide.shape[-1] - 1))
    low, high = wide.min(-1, keepdims=True), wide.max(-1, keepdims=True)
    return np.asarray(2 * (wide - low) / (high - low + 1e-8) - 1, dtype=np.float32)


class Convolutions(nn.Module):
    """Strided convolutions with GELU, the first with a group norm: [record, lead, time] -> [record, dim, token]."""

    def __init__(self, in_channels: int, dim: int, kernels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        channels = [in_channels] + [dim] * len(kernels)
        self.layers = nn.ModuleList(
            nn.Conv1d(channels[n], dim, kernel, stride, bias=False)
            for n, (kernel, stride) in enumerate(zip(kernels, strides, strict=True))
        )
        self.norm = nn.GroupNorm(dim, dim)
        for parameter in self.layers.parameters():
            nn.init.kaiming_normal_(parameter)

    def forward(self, signals: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.layers[0](signals)))
        for layer in self.layers[1:]:
            x = F.gelu(layer(x))
        return x


class Positions(nn.Module):
    """Positions by a grouped convolution over tokens with weight norm: [record, token, width] -> the same.

    The weight is `weight_v` [width, width / groups, kernel], scaled to length `weight_g` [1, 1, kernel] for each tap.
    """

    def __init__(self, width: int, kernel: int = 128, groups: int = 16) -> None:
        super().__init__()
        self.groups, self.padding = groups, kernel // 2
        self.weight_v = nn.Parameter(torch.randn(width, width // groups, kernel) * math.sqrt(4 / (kernel * width)))
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_v * (self.weight_g / self.weight_v.norm(dim=(0, 1), keepdim=True))
        positions = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=self.padding, groups=self.groups)
        return F.gelu(positions[..., : x.shape[1]]).transpose(1, 2)  # an even kernel gives a token too many


class Layer(nn.Module):
    """Post-norm Transformer layer: [record, token, width] -> the same."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width)
        self.attention_drop_path = DropPath()
        self.mlp_drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        x = self.attention_norm(x + self.attention_drop_path(mixed))
        return self.norm(x + self.mlp_drop_path(self.down(F.gelu(self.up(x)))))  # type: ignore[no-any-return]


class Wav2Vec2(Backbone):
    """Convolutions, projection, positions, Transformer, mean over tokens: [record, lead, time] -> [record, width]."""

    def __init__(
        self,
        spec: SignalSpec,
        in_channels: int,
        conv_dim: int,
        kernels: tuple[int, ...],
        strides: tuple[int, ...],
        width: int,
        depth: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.signal_spec = spec
        self.convolutions = Convolutions(in_channels, conv_dim, kernels, strides)
        self.conv_norm = nn.LayerNorm(conv_dim)
        self.projection = nn.Linear(conv_dim, width)
        self.positions = Positions(width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, num_heads) for _ in range(depth))
        self.feature_dim = width
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, lead, time] -> tokens [record, token, width]."""
        x = self.projection(self.conv_norm(self.convolutions(signals).transpose(1, 2)))
        x = self.norm(x + self.positions(x))
        for layer in self.layers:
            x = layer(x)
        return x  # type: ignore[no-any-return]

    def forward(self, signals: Tensor) -> Tensor:
        return self.tokens(signals).mean(1)


@register_backbone("ecg_fm")
class ECGFM(Wav2Vec2):
    """ECG-FM: 12 layers of width 768; 90.4 M parameters, 12 leads at 500 Hz, windows of 5 s."""

    def __init__(self) -> None:
        spec = SignalSpec(500, "lead_zscore", window_s=5, stride_s=5, aggregate="mean")
        super().__init__(spec, 12, 256, (2,) * 4, (2,) * 4, width=768, depth=12, num_heads=12)


class HuBERTECG(Wav2Vec2):
    """HuBERT-ECG: the 12 leads stand one after the other in a single row of 6,000 samples."""

    def __init__(self, width: int, depth: int, num_heads: int) -> None:
        spec = SignalSpec(100, "hubert_ecg", window_s=5, stride_s=5, aggregate="mean")
        super().__init__(spec, 1, 512, (10, 3, 3, 2, 2), (4, 2, 2, 2, 2), width, depth, num_heads)

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, 12, 500] -> tokens [record, 93, width]."""
        return super().tokens(signals.flatten(1).unsqueeze(1))


@register_backbone("hubert_ecg_small")
def hubert_ecg_small() -> HuBERTECG:
    """HuBERT-ECG small: 8 layers of width 512; 30.2 M parameters, 100 Hz, windows of 5 s."""
    return HuBERTECG(512, 8, 8)


@register_backbone("hubert_ecg_base")
def hubert_ecg_base() -> HuBERTECG:
    """HuBERT-ECG base: 12 layers of width 768; 93.0 M parameters, 100 Hz, windows of 5 s."""
    return HuBERTECG(768, 12, 12)
