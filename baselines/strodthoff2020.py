"""Parts that the baselines of Strodthoff et al. 2020 share: signals, tail and initialisation.

Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, IEEE JBHI 2021; code helme/ecg_ptbxl_benchmarking
(fastai_model.py, basic_conv1d.py). Their head is concat pooling, batch norm, dropout, 128 units, ReLU, batch norm,
dropout and a linear layer; all of these but the last layer are the backbone's `tail` here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plugin import Backbone, SignalSpec

SIGNALS = SignalSpec(100, "strodthoff", window_s=2.5, stride_s=1.25, aggregate="max")
"""100 Hz, standardised with one mean and deviation, crops of 2.5 s, windows every 1.25 s combined by the maximum."""


class Tail(nn.Module):
    """The hidden layer of their head: pooled channels [record, pooled] -> [record, 128]."""

    def __init__(self, num_pooled: int, hidden: int = 128, dropout: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(num_pooled),
            nn.Dropout(dropout / 2),
            nn.Linear(num_pooled, hidden),
            nn.ReLU(),
            nn.BatchNorm1d(hidden),
            nn.Dropout(dropout),
        )

    def forward(self, pooled: Tensor) -> Tensor:
        return self.layers(pooled)  # type: ignore[no-any-return]


class Strodthoff2020(Backbone):
    """Layers to [record, channel, time], pooling, then the tail. Initialised as published: He normal, biases zero."""

    signal_spec = SIGNALS

    def __init__(self, layers: nn.Module, num_pooled: int) -> None:
        super().__init__()
        self.layers = layers
        self.tail = Tail(num_pooled)
        self.feature_dim = 128
        self.apply(he_normal)

    def pool(self, x: Tensor) -> Tensor:
        """Pool by maximum and mean over time: [record, channel, time] -> [record, 2 * channel]."""
        return torch.cat([x.amax(-1), x.mean(-1)], dim=1)

    def forward(self, signals: Tensor) -> Tensor:
        return self.tail(self.pool(self.layers(signals)))  # type: ignore[no-any-return]

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, lead, time] -> [record, time, channel], which are pooled; the tail makes the features."""
        return self.layers(signals).transpose(1, 2)  # type: ignore[no-any-return]

    def reset_head(self, head: nn.Linear) -> None:
        he_normal(head)


def he_normal(module: nn.Module) -> None:
    """Initialise convolutions and linear layers by He normal, biases by zero, as their `weight_init`."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Convolutions(nn.Sequential):
    """Layers that treat a record as an image of height 1: [record, lead, time] -> [record, channel, time]."""

    def memory_format(self, device: torch.device) -> torch.memory_format:
        """Return channels_last, with which convolution and pooling are fast."""
        return torch.channels_last

    def forward(self, signals: Tensor) -> Tensor:
        images = signals.unsqueeze(2).contiguous(memory_format=self.memory_format(signals.device))
        return super().forward(images).squeeze(2)  # type: ignore[no-any-return, no-untyped-call]


class Conv(nn.Conv2d):
    """Convolution over time without bias, padded by (kernel - 1) // 2 on both sides, as in their code."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        padding = (0, (kernel_size - 1) // 2)
        super().__init__(in_channels, out_channels, (1, kernel_size), (1, stride), padding, bias=False)


class ConvNorm(nn.Sequential):
    """Convolution, batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(Conv(in_channels, out_channels, kernel_size, stride), nn.BatchNorm2d(out_channels))


class ConvNormReLU(ConvNorm):
    """Convolution, batch norm, ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x), inplace=True)  # type: ignore[no-untyped-call]
