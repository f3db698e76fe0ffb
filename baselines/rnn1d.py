"""The LSTMs of Strodthoff et al. 2020.

Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, IEEE JBHI 2021; code
helme/ecg_ptbxl_benchmarking, rnn1d.py; published with learning rate 1e-3 and gradients clipped at norm 0.25. Not
residual: no stochastic depth. Kept from their code: the bidirectional network's last step is taken at the end of the
record for both directions, where the backward one has seen a single sample (the slice that was meant to take its
first step is empty).
"""

import torch
from torch import Tensor, nn

from baselines.strodthoff2020 import Strodthoff2020
from bench.plugin import register_backbone


class Recurrent(nn.LSTM):
    """Two LSTM layers of 256 units a direction: [record, lead, time] -> [record, channel, time]."""

    def __init__(self, bidirectional: bool) -> None:
        super().__init__(12, 256, num_layers=2, batch_first=True, bidirectional=bidirectional)

    def forward(self, signals: Tensor) -> Tensor:  # type: ignore[override]
        # autocast runs LSTMs in bf16 on CPUs with AVX-512 alone: on others not at all, on CUDA in float16
        kind, processor = signals.device.type, torch.backends.cpu.get_cpu_capability()
        bf16 = torch.is_autocast_enabled(kind) and kind == "cpu" and processor.startswith("AVX512")
        with torch.autocast(kind, enabled=bf16):
            return super().forward(signals.transpose(1, 2))[0].transpose(1, 2)


class LSTM1d(Strodthoff2020):
    """The recurrent layers, then the tail on mean, maximum and last step; weights of the LSTM as PyTorch draws them."""

    def __init__(self, bidirectional: bool) -> None:
        super().__init__(Recurrent(bidirectional), num_pooled=3 * 256 * (2 if bidirectional else 1))

    def pool(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(-1), x.amax(-1), x[..., -1]], dim=1)


@register_backbone("lstm")
def lstm() -> LSTM1d:
    """Two LSTM layers of 256 units; published superdiag AUROC 0.927."""
    return LSTM1d(bidirectional=False)


@register_backbone("lstm_bidir")
def lstm_bidir() -> LSTM1d:
    """Two bidirectional LSTM layers of 256 units a direction; published superdiag AUROC 0.921."""
    return LSTM1d(bidirectional=True)
