"""The fully convolutional network of Wang et al. 2017, in the version of Strodthoff et al. 2020."""

from baselines.strodthoff2020 import ConvNormReLU, Convolutions, Strodthoff2020
from bench.plugin import register_backbone


@register_backbone("fcn_wang")
class FCNWang(Strodthoff2020):
    """Three convolutions (128, 256, 128 channels; kernels 8, 5, 3), then the tail; published superdiag AUROC 0.925."""

    def __init__(self) -> None:
        layers = Convolutions(ConvNormReLU(12, 128, 8), ConvNormReLU(128, 256, 5), ConvNormReLU(256, 128, 3))
        super().__init__(layers, num_pooled=2 * 128)
