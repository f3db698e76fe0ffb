"""The LSTMs of Strodthoff et al. 2020.

Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, IEEE JBHI 2021; code helme/ecg_ptbxl_benchmarking,
rnn1d.py; published with learning rate 1e-3 and gradients clipped at norm 0.25. The network has no residual branches, so
stochastic depth has no effect. As in their code, the bidirectional network uses the last time step of both directions,
where the backward direction has seen a single sample (in their code, the slice for its first step is empty).
"""

import contextlib

import torch
from torch import Tensor, nn

from baselines.strodthoff2020 import Strodthoff2020
from bench.plugin import register_backbone


class Recurrent(nn.LSTM):
    """Two LSTM layers of 256 units per direction: [record, lead, time] -> [record, channel, time]."""

    def __init__(self, bidirectional: bool) -> None:
        super().__init__(12, 256, num_layers=2, batch_first=True, bidirectional=bidirectional)

    def forward(self, signals: Tensor) -> Tensor:  # type: ignore[override]
        # without autocast: it supports LSTMs in bf16 only on CPUs with AVX-512, and uses float16 on CUDA
        kind, processor = signals.device.type, torch.backends.cpu.get_cpu_capability()
        bf16 = torch.is_autocast_enabled(kind) and kind == "cpu" and processor.startswith("AVX512")
        with torch.autocast(kind, enabled=bf16), self._without_cudnn(signals):
            return super().forward(signals.transpose(1, 2))[0].transpose(1, 2)

    def _without_cudnn(self, signals: Tensor) -> contextlib.AbstractContextManager[None]:
        """Switch cuDNN off for a pass in eval mode that needs gradients: cuDNN has none for an LSTM in eval mode."""
        trained = signals.requires_grad or any(parameter.requires_grad for parameter in self.parameters())
        if self.training or not (torch.is_grad_enabled() and trained):
            return contextlib.nullcontext()
        return torch.backends.cudnn.flags(enabled=False)


class LSTM1d(Strodthoff2020):
    """Recurrent layers, then the tail on mean, maximum and last step. The LSTM has PyTorch's default initialisation."""

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
    """Two bidirectional LSTM layers of 256 units per direction; published superdiag AUROC 0.921."""
    return LSTM1d(bidirectional=True)
