"""Labelled signals and the order in which they are trained on.

Everything random is a function of (seed, purpose, phase, epoch, step): no generator carries state, so the number of
ranks changes nothing and a resumed run goes on as if it had never stopped.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.data.prepared import PreparedSignals
from bench.data.tasks import LabelTable

Rows = npt.NDArray[np.int64]


def random_stream(*purpose: object) -> np.random.Generator:
    """The generator of one purpose, such as (seed, "order", "finetune", 3)."""
    return np.random.default_rng(list(hashlib.sha256(repr(purpose).encode()).digest()))


class Source(Protocol):
    """Inputs of a set of records, with their labels."""

    @property
    def labels(self) -> Tensor:
        """[record, label], float"""

    def training(self, rows: Rows, stream: Sequence[object]) -> Tensor:
        """Inputs [row, ...] of these records for one training step."""

    def windows(self, rows: Rows) -> Tensor:
        """Inputs [row, window, ...] of these records for evaluation."""


@dataclass(frozen=True, eq=False)
class SignalSource:
    """Records as prepared signals: a crop in training and all windows in evaluation, or the whole record."""

    signals: PreparedSignals
    rows: Rows
    labels: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, signals: PreparedSignals, table: LabelTable, dtype: torch.dtype) -> SignalSource:
        return cls(signals, signals.rows(table.ecg_id), torch.from_numpy(table.y_true).to(dtype), dtype)

    def training(self, rows: Rows, stream: Sequence[object]) -> Tensor:
        window, length = self.signals.spec.window, self.signals.length
        if window is None or window >= length:
            return self._tensor(self.signals.read(self.rows[rows]))
        starts = _crop_starts(tuple(stream), len(self.labels), length - window + 1)[rows]
        return self._tensor(self.signals.read(self.rows[rows], starts, window))

    def windows(self, rows: Rows) -> Tensor:
        whole = self._tensor(self.signals.read(self.rows[rows]))
        return cut_windows(whole, self.signals.spec.window, self.signals.spec.window_starts(whole.shape[-1]))

    def _tensor(self, signals: npt.NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(signals).to(self.dtype)


@functools.lru_cache(maxsize=1)
def _crop_starts(stream: tuple[object, ...], num_records: int, num_starts: int) -> Rows:
    """First samples [record] of an epoch's crops, drawn for all records at once: a crop belongs to its record, not to
    its batch. Kept for the epoch, or each step would cost time for all records."""
    return random_stream(*stream, "crop").integers(0, num_starts, size=num_records)


def cut_windows(signals: Tensor, window: int | None, starts: range) -> Tensor:
    """Signals [record, lead, time] as windows [record, window, lead, time]."""
    if window is None or window >= signals.shape[-1]:
        return signals.unsqueeze(1)
    return torch.stack([signals[..., start : start + window] for start in starts], dim=1)


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """Records as the features that a frozen backbone gave them, [record, window, feature]."""

    features: Tensor
    labels: Tensor

    def training(self, rows: Rows, stream: Sequence[object]) -> Tensor:
        return self.features[rows, 0]

    def windows(self, rows: Rows) -> Tensor:
        return self.features[rows]


def num_batches(num_records: int, batch_size: int) -> int:
    """Batches of an epoch. A single record left over joins the batch before: batch norm cannot train on one."""
    return max(1, -(-num_records // batch_size) - (batch_size > 1 and num_records % batch_size == 1))


def epoch_batches(num_records: int, batch_size: int, stream: Sequence[object]) -> Iterator[Rows]:
    """All records once, in the order of this epoch, in batches of the cell; the last may be short."""
    order = random_stream(*stream, "order").permutation(num_records)
    last = num_batches(num_records, batch_size) - 1
    for number in range(last + 1):
        yield order[number * batch_size : None if number == last else (number + 1) * batch_size]
