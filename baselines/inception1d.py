"""InceptionTime (Ismail Fawaz et al. 2020), in the version of Strodthoff et al. 2020.

Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, IEEE JBHI 2021; code helme/ecg_ptbxl_benchmarking,
inception1d.py. Deviation: a DropPath before each of the two additions (one addition for three modules). With a rate of
0 this is the published network.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.strodthoff2020 import Conv, ConvNorm, Convolutions, Strodthoff2020
from bench.plugin import DropPath, register_backbone

FILTERS = 32
KERNELS = (39, 19, 9)
WIDTH = (len(KERNELS) + 1) * FILTERS


class Module(nn.Module):
    """Three convolutions on a bottleneck of 32 channels and a pooled path, in parallel: -> [record, 128, 1, time]."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.bottleneck = Conv(in_channels, FILTERS, 1)
        self.convolutions = nn.ModuleList(Conv(FILTERS, FILTERS, kernel_size) for kernel_size in KERNELS)
        self.pooled = nn.Sequential(nn.MaxPool2d((1, 3), stride=1, padding=(0, 1)), Conv(in_channels, FILTERS, 1))
        self.norm = nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.bottleneck(x)
        paths = [*(convolution(narrow) for convolution in self.convolutions), self.pooled(x)]
        return F.relu(self.norm(torch.cat(paths, dim=1)), inplace=True)


class Block(nn.Module):
    """Three modules and a shortcut: [record, channel, 1, time] -> [record, 128, 1, time]."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(Module(in_channels), Module(WIDTH), Module(WIDTH))
        self.shortcut = ConvNorm(in_channels, WIDTH, 1)
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.drop_path(self.branch(x)) + self.shortcut(x), inplace=True)


@register_backbone("inception1d")
class Inception1d(Strodthoff2020):
    """Six inception modules in two residual blocks, then the tail; published superdiag AUROC 0.921."""

    def __init__(self) -> None:
        super().__init__(Convolutions(Block(12), Block(WIDTH)), num_pooled=2 * WIDTH)
