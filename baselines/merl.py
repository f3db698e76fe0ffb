"""MERL's ResNet18 (Liu et al., ICML 2024): pre-trained on MIMIC-IV-ECG with reports, without PTB-XL.

Code cheliu-computation/MERL-ICML2024 38799b7, utils/resnet1d.py (MIT; the licence of the weights is not stated). Module
names are the official ones, so the published file loads without renames; its `linear.*` is an unused head.

Preprocessing as published: a record is scaled to 0..1 by its own minimum and maximum. aVF stands before aVL, as in
MIMIC-IV-ECG. Deviation: a DropPath before each addition, at rate 0 the published network.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.plugin import Backbone, DropPath, SignalSpec, register_backbone, register_preprocessing

Signal = npt.NDArray[np.float32]
LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


@register_preprocessing("merl", version=1)
def merl(record: Signal, rate: int) -> Signal:
    """(x - min) / (max - min + 1e-8) over all leads and samples of a record."""
    wide = record.astype(np.float64)
    low, high = wide.min(), wide.max()
    return np.asarray((wide - low) / (high - low + 1e-8), dtype=np.float32)


class Block(nn.Module):
    """Two convolutions of kernel 3 and a shortcut: [record, channel, time] -> [record, channel', time / stride]."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm1d(channels)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm1d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1 or in_channels != channels:
            conv = nn.Conv1d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm1d(channels))
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(self.drop_path(branch) + self.shortcut(x))


@register_backbone("merl_resnet18")
class MERLResNet18(Backbone):
    """MERL's ResNet18: 3.8 M parameters, 12 leads at 500 Hz, mean over time."""

    signal_spec = SignalSpec(500, "merl", leads=LEADS)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(12, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm1d(64)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.feature_dim = 512

    def forward(self, signals: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(signals)))
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean(-1)  # type: ignore[no-any-return]
