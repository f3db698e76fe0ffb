"""A backbone with all that draws or remembers, in little."""

from torch import Tensor, nn

from bench.plugin import Backbone, DropPath, SignalSpec, register_backbone


@register_backbone("small")
class Small(Backbone):
    """Batch norm, dropout, stochastic depth and tokens."""

    signal_spec = SignalSpec(100, "none")
    feature_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(12, 8, 16, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv1d(8, 8, 1), nn.ReLU()) for _ in range(3))
        self.paths = nn.ModuleList(DropPath() for _ in range(3))

    def forward(self, signals: Tensor) -> Tensor:
        """Signals [record, lead, time] -> features [record, feature_dim]."""
        return self.tokens(signals).mean(1)

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, lead, time] -> [record, time, channel]."""
        x = self.stem(signals)
        for block, path in zip(self.blocks, self.paths, strict=True):
            x = x + path(block(x))
        return x.transpose(1, 2)
