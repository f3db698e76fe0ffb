"""XResNets (He et al. 2019, Bag of Tricks) in one dimension, in the version of Strodthoff et al. 2020.

Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, IEEE JBHI 2021; code helme/ecg_ptbxl_benchmarking,
xresnet1d.py. All kernels have size 5, except those of size 1; all stages have 64 channels (times the expansion). Their
wrapper initialises the weights again (`weight_init`), so that no batch norm starts at zero, unlike in fastai.
Deviation: a DropPath before each addition. With a rate of 0 this is the published network.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.strodthoff2020 import ConvNorm, ConvNormReLU, Convolutions, Strodthoff2020
from bench.plugin import DropPath, register_backbone

WIDTH = 64
"""Number of channels of every stage, without the expansion."""
KERNEL = 5


class Block(nn.Module):
    """A residual block; a bottleneck if `expansion` > 1. With a stride of 2, the shortcut averages pairs."""

    def __init__(self, in_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        out_channels = WIDTH * expansion
        if expansion == 1:
            convolutions = [ConvNormReLU(in_channels, WIDTH, KERNEL, stride), ConvNorm(WIDTH, out_channels, KERNEL)]
        else:
            convolutions = [
                ConvNormReLU(in_channels, WIDTH, 1),
                ConvNormReLU(WIDTH, WIDTH, KERNEL, stride),
                ConvNorm(WIDTH, out_channels, 1),
            ]
        self.branch = nn.Sequential(*convolutions)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.AvgPool2d((1, 2), ceil_mode=True))
        if in_channels != out_channels:
            self.shortcut.append(ConvNorm(in_channels, out_channels, 1))
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.drop_path(self.branch(x)) + self.shortcut(x), inplace=True)


class XResNet1d(Strodthoff2020):
    """Three convolutions, pooling, four stages of blocks, then the tail."""

    def __init__(self, depths: tuple[int, int, int, int], expansion: int) -> None:
        layers = Convolutions(
            ConvNormReLU(12, 32, KERNEL, stride=2),
            ConvNormReLU(32, 32, KERNEL),
            ConvNormReLU(32, WIDTH, KERNEL),
            nn.MaxPool2d((1, 3), stride=(1, 2), padding=(0, 1)),
        )
        channels = WIDTH
        for stage, depth in enumerate(depths):
            for position in range(depth):
                layers.append(Block(channels, expansion, stride=2 if stage and not position else 1))
                channels = WIDTH * expansion
        super().__init__(layers, num_pooled=2 * channels)


@register_backbone("xresnet1d18")
def xresnet1d18() -> XResNet1d:
    """XResNet with 8 residual blocks, no superdiag AUROC published."""
    return XResNet1d((2, 2, 2, 2), expansion=1)


@register_backbone("xresnet1d34")
def xresnet1d34() -> XResNet1d:
    """XResNet with 16 residual blocks, no superdiag AUROC published."""
    return XResNet1d((3, 4, 6, 3), expansion=1)


@register_backbone("xresnet1d50")
def xresnet1d50() -> XResNet1d:
    """XResNet with 16 bottleneck blocks, no superdiag AUROC published."""
    return XResNet1d((3, 4, 6, 3), expansion=4)


@register_backbone("xresnet1d101")
def xresnet1d101() -> XResNet1d:
    """XResNet with 33 bottleneck blocks; published superdiag AUROC 0.928."""
    return XResNet1d((3, 4, 23, 3), expansion=4)
