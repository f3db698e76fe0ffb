"""Small backbones of four families: classes of `baselines/` with fewer blocks or shorter windows."""

from dataclasses import replace

from baselines.net1d import Net1D
from baselines.rnn1d import LSTM1d
from baselines.vit1d import ViT1d
from baselines.xresnet1d import XResNet1d
from bench.plugin import SignalSpec, register_backbone


@register_backbone("small_net1d")
def small_net1d() -> Net1D:
    """Three stages of one block each, with 16, 16 and 32 channels."""
    return Net1D(SignalSpec(100, "zscore"), stem=16, widths=(16, 16, 32), depths=(1, 1, 1))


@register_backbone("small_vit1d")
def small_vit1d() -> ViT1d:
    """Three blocks of width 24, 3 heads."""
    return ViT1d(24, 3, patch=25, depth=3)


@register_backbone("small_lstm")
class SmallLSTM(LSTM1d):
    """The shipped LSTM on windows of 0.2 s."""

    signal_spec = replace(LSTM1d.signal_spec, window_s=0.2, stride_s=0.2)

    def __init__(self) -> None:
        super().__init__(bidirectional=False)


@register_backbone("small_xresnet1d")
class SmallXResNet1d(XResNet1d):
    """Three residual blocks on windows of 0.6 s."""

    signal_spec = replace(XResNet1d.signal_spec, window_s=0.6, stride_s=0.6)

    def __init__(self) -> None:
        super().__init__((1, 1, 1, 0), expansion=1)
