"""The fully convolutional network of Wang et al. 2017, in the version of Strodthoff et al. 2020."""

import torch

from baselines.processors import has_avx512
from baselines.strodthoff2020 import ConvNormReLU, Convolutions, Strodthoff2020
from bench.plugin import register_backbone


class WideConvolutions(Convolutions):
    """Convolutions of 128 and 256 channels."""

    def memory_format(self, device: torch.device) -> torch.memory_format:
        """Return time last on CPUs without AVX-512, where the gradients with channels last take 1.3 times as long."""
        narrow = device.type == "cpu" and not has_avx512()
        return torch.contiguous_format if narrow else super().memory_format(device)


@register_backbone("fcn_wang")
class FCNWang(Strodthoff2020):
    """Three convolutions (128, 256, 128 channels; kernels 8, 5, 3), then the tail; published superdiag AUROC 0.925."""

    def __init__(self) -> None:
        layers = WideConvolutions(ConvNormReLU(12, 128, 8), ConvNormReLU(128, 256, 5), ConvNormReLU(256, 128, 3))
        super().__init__(layers, num_pooled=2 * 128)
