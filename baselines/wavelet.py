"""Wavelet features and a small network: Wavelet+NN of Strodthoff et al. 2020.

Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, IEEE JBHI 2021; code helme/ecg_ptbxl_benchmarking,
wavelet.py. Their features come from PyWavelets (`wavedec(lead, "db6", level=5)`, mirrored ends) and NumPy; here the
same numbers are computed in torch, in float64. If coefficients are equal or zero up to rounding (a flat lead, a
constant stretch), entropy and crossings depend on rounding errors in both implementations and differ: on 62 records of
PTB-XL in 0.4 % and 0.3 % of the values.

Deviation: their StandardScaler is fitted on the training features before training; here mean and variance are those of
all training batches so far, so they converge within the first epoch (a frozen backbone keeps mean 0 and variance 1).
Their recipe is the method `scratch-wavelet`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plugin import Backbone, SignalSpec, register_backbone

LOW_PASS = (
    *(-0.0010773010853084796, 0.004777257510945511, 0.0005538422011614961, -0.03158203931748603),
    *(0.027522865530305727, 0.09750160558732304, -0.12976686756726194, -0.22626469396543983),
    *(0.31525035170919763, 0.7511339080210954, 0.49462389039845306, 0.11154074335010947),
)
"""Low-pass decomposition filter of Daubechies' wavelet with six vanishing moments, db6."""
HIGH_PASS = tuple((-1) ** (k + 1) * tap for k, tap in enumerate(reversed(LOW_PASS)))
LEVELS = 5
STATISTICS = 12
"""Numbers per sub-band: entropy, two counts of crossings, five percentiles, mean, deviation, variance, magnitude."""

TINY = 1e-12
"""Added to variances, for constant features. torch's 1e-5 exceeds the variance of an eighth of the other features."""


@register_backbone("wavelet_nn")
class WaveletNN(Backbone):
    """Statistics of db6 sub-bands of the whole record, then 128 units; published superdiag AUROC 0.874."""

    signal_spec = SignalSpec(100, "strodthoff")

    def __init__(self) -> None:
        super().__init__()
        num_features = len(self.signal_spec.leads) * (LEVELS + 1) * STATISTICS
        self.scaler = nn.BatchNorm1d(num_features, affine=False, momentum=None)
        self.tail = nn.Sequential(nn.Linear(num_features, 128), nn.ReLU(), nn.Dropout(0.25))
        self.feature_dim = 128
        self.tail.apply(_glorot)

    def forward(self, signals: Tensor) -> Tensor:
        with torch.no_grad():
            features = wavelet_features(signals).to(signals.dtype)
            self.scaler(features)  # updates the running statistics
        seen = self.scaler
        return self.tail(F.batch_norm(features, seen.running_mean, seen.running_var, eps=TINY))  # type: ignore[no-any-return]

    def reset_head(self, head: nn.Linear) -> None:
        _glorot(head)


def _glorot(module: nn.Module) -> None:
    """Initialise a dense layer as Keras does by default: Glorot uniform, bias zero."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def wavelet_features(signals: Tensor) -> Tensor:
    """Return statistics of every sub-band of every lead: [record, lead, time] -> [record, lead * 6 * 12], float64."""
    bands = wavelet_bands(signals.double())
    return torch.stack([band_statistics(band) for band in bands], dim=2).flatten(1)


def wavelet_bands(signals: Tensor) -> list[Tensor]:
    """Decompose signals [..., time] into approximation and details, coarsest first, as PyWavelets' wavedec does."""
    details = []
    for _ in range(LEVELS):
        signals, detail = _halve(signals)
        details.append(detail)
    return [signals, *reversed(details)]


def _halve(signals: Tensor) -> tuple[Tensor, Tensor]:
    """Return low and high band [..., (n + 11) // 2] of signals [..., n]: convolutions with stride 2, mirrored ends.

    The sums run over the filter in a fixed order, so that equal stretches of signal give equal coefficients; the
    entropy counts equal values.
    """
    reach = len(LOW_PASS) - 1
    num = (signals.shape[-1] + reach) // 2
    mirrored = torch.cat([signals[..., :reach].flip(-1), signals, signals[..., -reach:].flip(-1)], dim=-1)
    halves = [mirrored[..., parity::2].contiguous() for parity in (0, 1)]
    low, high = torch.zeros_like(halves[0][..., :num]), torch.zeros_like(halves[0][..., :num])
    for k in range(reach + 1):
        start, parity = divmod(reach + 1 - k, 2)
        samples = halves[parity][..., start : start + num]
        low.add_(samples, alpha=LOW_PASS[k])
        high.add_(samples, alpha=HIGH_PASS[k])
    return low, high


def band_statistics(band: Tensor) -> Tensor:
    """Return statistics of coefficients: [..., coefficient] -> [..., 12].

    Entropy of the values, crossings of zero and of the mean, percentiles 5, 25, 75, 95 and 50, mean, standard
    deviation, variance, mean magnitude.
    """
    ordered = band.sort(-1).values.contiguous()
    num = band.shape[-1]
    mean = band.mean(-1, keepdim=True)
    variance = (band - mean).square().mean(-1)
    occurrences = torch.searchsorted(ordered, ordered, right=True) - torch.searchsorted(ordered, ordered)
    entropy = math.log(num) - occurrences.to(band.dtype).log().mean(-1)
    crossings = [(above[..., 1:] != above[..., :-1]).sum(-1).to(band.dtype) for above in (band > 0, band > mean)]
    percentiles = [_percentile(ordered, percent) for percent in (5, 25, 75, 95, 50)]
    magnitude = band.abs().mean(-1)
    return torch.stack(
        [entropy, *crossings, *percentiles, mean.squeeze(-1), variance.sqrt(), variance, magnitude], dim=-1
    )


def _percentile(ordered: Tensor, percent: float) -> Tensor:
    """Return a percentile of sorted values, with linear interpolation."""
    place = percent / 100 * (ordered.shape[-1] - 1)
    below = int(place)
    above = min(below + 1, ordered.shape[-1] - 1)
    return torch.lerp(ordered[..., below], ordered[..., above], place - below)
