"""MERL's ResNet18 (Liu et al., ICML 2024): pre-trained on MIMIC-IV-ECG with reports, without PTB-XL.

Code cheliu-computation/MERL-ICML2024 38799b7, utils/resnet1d.py (MIT; the licence of the weights is not stated),
written anew. Module names are theirs; `linear.*` in their file is a head that nothing trained.

Input: 12 leads at 500 Hz, a record scaled to 0..1 by its own minimum and maximum over all leads. Trap: aVF stands
before aVL, as in MIMIC-IV-ECG. Deviation: a DropPath before each addition. Inside, a record is an image of
height 1; their convolutions have one dimension, and so have the weights. No method is their recipe, a linear probe by
Adam at 1e-3 with 16 records a step, whose rate falls to a tenth after 40 of 100 epochs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import baselines.preprocessing  # noqa: F401 (registers merl)
from bench.plugin import Backbone, DropPath, PublishedCheckpoint, SignalSpec, register_backbone

LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


class Conv(nn.Conv1d):
    """Convolution over time without bias: [record, channel, 1, time] -> [record, channel', 1, time / stride]."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, channels, kernel_size, stride, padding=kernel_size // 2, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight.unsqueeze(2), None, (1, *self.stride), (0, self.kernel_size[0] // 2))


class Block(nn.Module):
    """Two convolutions and a shortcut: [record, channel, 1, time] -> [record, channel', 1, time / stride]."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = Conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1 or in_channels != channels:
            self.shortcut = nn.Sequential(Conv(in_channels, channels, 1, stride), nn.BatchNorm2d(channels))
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return F.relu(self.drop_path(branch) + self.shortcut(x), inplace=True)


@register_backbone("merl_resnet18")
class MERLResNet18(Backbone):
    """MERL's ResNet18: 3.8 M parameters, 12 leads at 500 Hz, mean over time."""

    checkpoint = PublishedCheckpoint(
        page="https://drive.google.com/drive/folders/13wb4DppUciMn-Y_qC2JRWTbZdz3xX0w2",
        filename="res18_best_encoder.pth",
        sha256="38ba669c2cc319670c4172d8c292f123e86b8e7106b1a68bb7e10dd89f09daf5",
        head_prefix="linear.",
        pretraining_data="MIMIC-IV-ECG",
        ptbxl_seen="no",
        source="README of cheliu-computation/MERL-ICML2024; hash: a third party's record",
    )
    signal_spec = SignalSpec(500, "merl", leads=LEADS)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv(12, 64, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.feature_dim = 512

    def forward(self, signals: Tensor) -> Tensor:
        return self.tokens(signals).mean(1)

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, 12, time] -> [record, time / 16, 512], of which features are the mean."""
        images = signals.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.squeeze(2).transpose(1, 2)  # type: ignore[no-any-return]
