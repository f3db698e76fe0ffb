"""Full fine-tuning on augmented records: mixtures of two records, or typical distortions of an ECG."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.plugin import NotNegative, Positive, SignalBatch, Uniform, register_method
from methods.full_finetune import FullFinetune


@register_method("ft-mixup")
@dataclass(frozen=True)
class Mixup(FullFinetune):
    """Mixup (Zhang et al. 2018): signals and labels become s * own + (1 - s) * another record's, with s ~ Beta(a, a).

    s is the same for a whole batch, as in their code. a = 0.4 is within their range of 0.1 to 0.4. The other records
    are a permutation of the batch.
    """

    alpha: Positive = 0.4

    search = {**FullFinetune.search, "alpha": Uniform(0.1, 1.0)}

    def augment(self, batch: SignalBatch) -> tuple[Tensor, Tensor]:
        share = float(batch.rng.beta(self.alpha, self.alpha))
        partner = torch.from_numpy(batch.rng.permutation(len(batch.signals))).to(batch.signals.device)
        mixed = torch.lerp(batch.signals[partner], batch.signals, share)
        return mixed, torch.lerp(batch.labels[partner], batch.labels, share)


@register_method("ft-cutmix")
@dataclass(frozen=True)
class CutMix(FullFinetune):
    """CutMix (Yun et al. 2019) over time: an interval of each record is replaced by that of another record.

    The interval has a share 1 - s of the record, with s ~ Beta(a, a), and a random centre; what lies beyond the
    record's ends is cut off. It is the same in all leads, and for the whole batch, as in the authors' code. Labels are
    mixed in the proportion of the samples. a = 1 is the paper's value.
    """

    alpha: Positive = 1.0

    search = {**FullFinetune.search, "alpha": Uniform(0.2, 1.0)}

    def augment(self, batch: SignalBatch) -> tuple[Tensor, Tensor]:
        num_samples = batch.signals.shape[-1]
        length = round((1 - batch.rng.beta(self.alpha, self.alpha)) * num_samples)
        begin = int(batch.rng.integers(num_samples)) - length // 2
        begin, end = max(begin, 0), min(begin + length, num_samples)
        partner = torch.from_numpy(batch.rng.permutation(len(batch.signals))).to(batch.signals.device)
        mixed = batch.signals.clone()
        mixed[..., begin:end] = batch.signals[partner, :, begin:end]
        return mixed, torch.lerp(batch.labels, batch.labels[partner], (end - begin) / num_samples)


@register_method("ft-aug")
@dataclass(frozen=True)
class Augment(FullFinetune):
    """Distort ECGs by gain, baseline wander, noise, lead dropout and a time mask, each with probability 1/2 per record.

    Gain, wander, noise and time mask are kinds of Raghu et al. (CHIL 2022), who also warp time, shift values and mask
    frequencies; lead dropout is that of ECG-FM's pre-training. Strengths are chosen here, in standard deviations of a
    record, because most preprocessing normalises records. With strength s: gain 1 +- 0.3 s; wander of 0.05 to 0.5 Hz
    with amplitude 0.2 s; white noise with standard deviation 0.1 s; each lead set to zero with probability 0.2 s; an
    interval of up to a share 0.2 s of the record set to zero.
    """

    strength: NotNegative = 1.0

    search = {**FullFinetune.search, "strength": Uniform(0.3, 1.5)}

    def augment(self, batch: SignalBatch) -> tuple[Tensor, Tensor]:
        rng, shape = batch.rng, tuple(batch.signals.shape)
        num, num_leads, num_samples = shape
        time = np.arange(num_samples) / batch.rate

        def chosen() -> NDArray[np.float64]:
            return np.asarray((rng.random((num, 1, 1)) < 0.5) * self.strength, np.float64)

        def tensor(values: NDArray[Any]) -> Tensor:
            return torch.from_numpy(values.astype(np.float32)).to(batch.signals.device)

        phase = 2 * np.pi * (rng.uniform(0.05, 0.5, (num, 1, 1)) * time + rng.random((num, num_leads, 1)))
        added = 0.2 * chosen() * np.sin(phase) + 0.1 * chosen() * rng.standard_normal(shape, dtype=np.float32)
        gain = 1 + 0.3 * chosen() * rng.uniform(-1, 1, (num, 1, 1))
        kept = rng.random((num, num_leads, 1)) >= 0.2 * chosen()
        begin, length = rng.random((num, 1, 1)), 0.2 * chosen() * rng.random((num, 1, 1))
        place = np.arange(num_samples) / num_samples
        kept = kept & ~((place >= begin) & (place < begin + length))
        spread = batch.signals.std((1, 2), keepdim=True)
        return (batch.signals * tensor(gain) + spread * tensor(added)) * tensor(kept), batch.labels
