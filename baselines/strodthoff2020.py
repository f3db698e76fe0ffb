"""What the baselines of Strodthoff et al. 2020 share: their signals, their tail and their initialisation.

Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, IEEE JBHI 2021; code
helme/ecg_ptbxl_benchmarking (fastai_model.py, basic_conv1d.py). Their head is concat pooling, batch norm, dropout,
128 units, ReLU, batch norm, dropout and a linear layer; all but the last layer is the backbone's `tail` here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plugin import Backbone, SignalSpec

SIGNALS = SignalSpec(100, "strodthoff", window_s=2.5, stride_s=1.25, aggregate="max")
"""100 Hz, one scalar standardisation, random crops of 2.5 s, windows every 1.25 s joined by the maximum."""


class Tail(nn.Module):
    """[record, channel, time] -> [record, 128]: maximum and mean over time, then the hidden layer of their head."""

    def __init__(self, channels: int, hidden: int = 128, dropout: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(2 * channels),
            nn.Dropout(dropout / 2),
            nn.Linear(2 * channels, hidden),
            nn.ReLU(),
            nn.BatchNorm1d(hidden),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(torch.cat([x.amax(-1), x.mean(-1)], dim=1))  # type: ignore[no-any-return]


class Strodthoff2020(Backbone):
    """Layers and then the tail; weights drawn as published: He normal, biases zero."""

    signals = SIGNALS

    def __init__(self, layers: nn.Module, channels: int) -> None:
        super().__init__()
        self.layers = layers
        self.tail = Tail(channels)
        self.feature_dim = 128
        self.apply(he_normal)

    def forward(self, signals: Tensor) -> Tensor:
        return self.tail(self.layers(signals))  # type: ignore[no-any-return]

    def reset_head(self, head: nn.Linear) -> None:
        he_normal(head)


def he_normal(module: nn.Module) -> None:
    """Their `weight_init`: He normal for convolutions and linear layers, biases zero."""
    if isinstance(module, nn.Conv1d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ConvNormReLU(nn.Sequential):
    """Convolution without bias, batch norm, ReLU; `padding` defaults to theirs, (kernel - 1) // 2 on both sides."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv1d(in_channels, out_channels, kernel_size, stride, padding=(kernel_size - 1) // 2, bias=False),
            nn.BatchNorm1d(out_channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self[1](self[0](x)), inplace=True)
