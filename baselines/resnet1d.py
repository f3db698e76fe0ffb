"""The residual network of Wang et al. 2017, in the version of Strodthoff et al. 2020.

Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, IEEE JBHI 2021; code helme/ecg_ptbxl_benchmarking,
resnet1d.py. Deviation: a DropPath before each addition. With a rate of 0 this is the published network.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.strodthoff2020 import ConvNorm, ConvNormReLU, Convolutions, Strodthoff2020
from bench.plugin import DropPath, register_backbone


class Block(nn.Module):
    """Two convolutions (kernels 5 and 3) and a shortcut: [record, 128, 1, time] -> [record, 128, 1, time / stride]."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(ConvNormReLU(channels, channels, 5, stride), ConvNorm(channels, channels, 3))
        self.shortcut = ConvNorm(channels, channels, 1, stride) if stride > 1 else nn.Identity()
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.drop_path(self.branch(x)) + self.shortcut(x), inplace=True)


@register_backbone("resnet1d_wang")
class ResNet1dWang(Strodthoff2020):
    """A stem (kernel 7) and three residual blocks of 128 channels, then the tail; published superdiag AUROC 0.930."""

    def __init__(self) -> None:
        blocks = [Block(128, stride) for stride in (1, 2, 2)]
        super().__init__(Convolutions(ConvNormReLU(12, 128, 7), *blocks), num_pooled=2 * 128)
