"""Structured state spaces (S4) on ECGs.

Mehari & Strodthoff 2023, Towards quantitative precision for ECG analysis; code tmehari/ssm_ecg (s4_model.py, s4.py and
the defaults of train_ecg_model.py), whose layer is that of Gu et al. 2022, Efficiently Modeling Long Sequences with
Structured State Spaces. As published: bidirectional, 4 layers of 512 channels, 8 states (4 conjugate pairs) from
HiPPO-LegS, dropout of whole channels at 0.2, layer norm after the addition, mean over time. In the state spaces only
`output` and `skip` are trained, as in their code: step sizes, poles and input map keep their initial values. Signals
are theirs: mV without standardisation, crops of 2.5 s, disjoint test windows combined by the mean (theirs of
probabilities, here of logits). Their recipe is the method `scratch-s4`.

The kernel is theirs: diagonal plus low rank, bilinear discretisation, Cauchy sums at the roots of unity, Woodbury
identity, inverse FFT. Deviations: a DropPath before each addition; the sums are rewritten so that the last root of
unity is not a pole (their code divides by a rounding error there); poles and input map are computed in float64 and
stored once, not for every channel.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plugin import Backbone, Count, DropPath, Rate, SignalSpec, register_backbone


@register_backbone("s4")
class S4(Backbone):
    """Four bidirectional structured state-space layers; published AUROC on all labels 0.941."""

    signal_spec = SignalSpec(100, "none", window_s=2.5, stride_s=2.5, aggregate="mean")

    def __init__(self, d_model: Count = 512, d_state: Count = 8, num_layers: Count = 4, dropout: Rate = 0.2) -> None:
        super().__init__()
        length = self.signal_spec.window
        assert length is not None
        self.encoder = nn.Conv1d(len(self.signal_spec.leads), d_model, 1)
        self.blocks = nn.Sequential(*(Block(d_model, d_state, length, dropout) for _ in range(num_layers)))
        self.feature_dim = d_model

    def forward(self, signals: Tensor) -> Tensor:
        return self.blocks(self.encoder(signals)).mean(-1)  # type: ignore[no-any-return]

    def tokens(self, signals: Tensor) -> Tensor:
        """Signals [record, lead, time] -> [record, time, channel], of which features are the mean."""
        return self.blocks(self.encoder(signals)).transpose(1, 2)  # type: ignore[no-any-return]


class Block(nn.Module):
    """State space per channel, GELU, mixing of channels, addition, layer norm: [record, channel, time] -> the same."""

    def __init__(self, channels: int, num_states: int, length: int, dropout: float) -> None:
        super().__init__()
        self.state_space = StateSpace(channels, num_states, length)
        self.mix: nn.Module = nn.Conv1d(channels, 2 * channels, 1)
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        mixed = F.glu(self.mix(self._drop_channels(F.gelu(self.state_space(x)))), dim=1)
        x = x + self.drop_path(self._drop_channels(mixed))
        return self.norm(x.transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]

    def _drop_channels(self, x: Tensor) -> Tensor:
        """Drop whole channels of a record, by `nn.Dropout`, whose masks the harness makes independent of ranks."""
        return x * self.dropout(x.new_ones(*x.shape[:2], 1)) if self.training else x


class StateSpace(nn.Module):
    """Linear state spaces per channel, by default one for each direction of time: [record, channel, time] -> the same.

    The state matrix is diag(poles) - low_rank low_rank^*. Only one of each pair of conjugate states is stored; complex
    numbers are stored as [..., 2]. `output` is C (1 - dA^length), with which the generating function of the infinite
    kernel gives the first `length` samples. Poles, low rank and input map are shared by all channels, or a subclass has
    them for each: [channel, state] instead of [state].
    """

    poles: Tensor
    low_rank: Tensor
    input_map: Tensor
    log_step: Tensor

    def __init__(self, channels: int, num_states: int, length: int, num_directions: int = 2) -> None:
        super().__init__()
        self.length = length
        poles, low_rank, input_map = hippo(num_states)
        self.register_buffer("poles", torch.view_as_real(poles).float())
        self.register_buffer("low_rank", torch.view_as_real(low_rank).float())
        self.register_buffer("input_map", torch.view_as_real(input_map).float())
        shortest, longest = math.log(1e-3), math.log(1e-1)
        self.register_buffer("log_step", torch.rand(channels) * (longest - shortest) + shortest)
        output = torch.randn(num_directions, channels, num_states // 2, dtype=torch.cfloat)
        self.output = nn.Parameter(torch.view_as_real(self._advance(output, -1, length)))
        self.skip = nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[-1]
        forwards, *backwards = self.kernel(length)
        kernel = F.pad(forwards, (0, length))
        for impulses in backwards:
            kernel = kernel + F.pad(impulses.flip(-1), (length, 0))
        x = x.to(kernel.dtype)
        spectrum = torch.fft.rfft(x, n=2 * length) * torch.fft.rfft(kernel)
        convolved: Tensor = torch.fft.irfft(spectrum, n=2 * length)[..., :length]
        return convolved + x * self.skip.unsqueeze(-1)

    def kernel(self, length: int) -> Tensor:
        """Return the first `length` samples of the impulse responses [direction, channel, time]."""
        output, full = torch.view_as_complex(self.output), self.length
        while full < length:
            output, full = self._advance(output, 1, full), 2 * full
        step = self.log_step.exp().view(-1, 1, 1)
        angles = 2 * math.pi / full * torch.arange(full // 2 + 1, device=step.device, dtype=torch.float64)
        root = torch.polar(torch.ones_like(angles), -angles).unsqueeze(-1)  # [frequency, 1]
        half_sum = ((1 + root) / 2).to(output.dtype)
        difference = (1 - root).to(output.dtype)
        poles = torch.view_as_complex(self.poles)
        low_rank, input_map = torch.view_as_complex(self.low_rank), torch.view_as_complex(self.input_map)
        scaled = step * poles.unsqueeze(-2)
        resolvent = step / (difference - scaled * half_sum)  # [channel, frequency, pole]
        mirrored = step / (difference - scaled.conj() * half_sum)

        def cauchy(weights: Tensor) -> Tensor:
            """Sum over the poles and their conjugates: weights [..., pole] -> [..., channel, frequency]."""
            equation = "hfn,...hn->...hf" if weights.dim() > 1 else "hfn,n->hf"
            return torch.einsum(equation, resolvent, weights) + torch.einsum(equation, mirrored, weights.conj())

        half_sum = half_sum.squeeze(-1)
        correction = (
            half_sum * cauchy(input_map * low_rank.conj()) / (1 + half_sum * cauchy(low_rank * low_rank.conj()))
        )
        response = cauchy(input_map * output) - cauchy(low_rank * output) * correction
        impulses: Tensor = torch.fft.irfft(response, n=full)
        return impulses[..., :length]

    def _advance(self, output: Tensor, sign: int, length: int) -> Tensor:
        """Return output (1 + sign dA^length), where dA is the discretised state matrix of each channel, in float64."""
        matrix = torch.linalg.matrix_power(self.discretize()[0], length)
        both = torch.cat([output, output.conj()], dim=-1).to(matrix.dtype)
        moved = both + sign * torch.einsum("hmn,chm->chn", matrix, both)
        return moved[..., : output.shape[-1]].to(output.dtype)

    def discretize(self) -> tuple[Tensor, Tensor]:
        """Return the bilinear (Tustin) dA [channel, state, state] and dB [channel, state], complex128, conjugates
        too."""
        poles, low_rank, input_map = (
            torch.view_as_complex(part.double()) for part in (self.poles, self.low_rank, self.input_map)
        )
        poles, low_rank, input_map = (torch.cat([part, part.conj()], -1) for part in (poles, low_rank, input_map))
        state = torch.diag_embed(poles) - low_rank.unsqueeze(-1) * low_rank.conj().unsqueeze(-2)
        step = self.log_step.double().exp().view(-1, 1, 1)
        identity = torch.eye(poles.shape[-1], dtype=state.dtype, device=state.device)
        backward = identity - step / 2 * state
        return (
            torch.linalg.solve(backward, identity + step / 2 * state),
            torch.linalg.solve(backward, step * input_map.unsqueeze(-1)).squeeze(-1),
        )


def hippo(num_states: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return poles, low-rank vector and input map of HiPPO-LegS [state], one of each conjugate pair, complex128.

    Gu et al. 2020, 2022: A[n, k] = -sqrt((2n + 1)(2k + 1)) below the diagonal and -(n + 1) on it, B[n] = sqrt(2n + 1);
    A + P P^T is normal for P[n] = sqrt(n + 1/2). The phase of an eigenvector is arbitrary; it is chosen such that its
    input is positive, so that a seed gives the same network on every machine.
    """
    order = torch.arange(num_states, dtype=torch.float64)
    input_map = (2 * order + 1).sqrt()
    low_rank = (order + 0.5).sqrt()
    matrix = -torch.outer(input_map, input_map).tril(-1) - torch.diag(order + 1)
    poles, vectors = torch.linalg.eig(matrix + torch.outer(low_rank, low_rank))
    kept = poles.imag.argsort()[num_states // 2 :]
    modes = vectors[:, kept].mH
    low_rank, input_map = modes @ low_rank.to(poles.dtype), modes @ input_map.to(poles.dtype)
    return poles[kept], low_rank * (input_map.conj() / input_map.abs()), input_map.abs().to(poles.dtype)
