"""A backbone whose preprocessing is applied to each window."""

from torch import Tensor, nn

from bench.plugin import Backbone, SignalSpec, register_backbone


@register_backbone("windowed")
class Windowed(Backbone):
    """A convolution and the maximum over time, on windows of 2.5 s that are each standardised."""

    signal_spec = SignalSpec(100, "zscore", window_s=2.5, stride_s=1.25, aggregate="mean", per_window=True)
    feature_dim = 16

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(12, 16, 16, 4)

    def forward(self, signals: Tensor) -> Tensor:
        """Signals [record, lead, time] -> features [record, feature_dim]."""
        return self.conv(signals).relu().amax(-1)
