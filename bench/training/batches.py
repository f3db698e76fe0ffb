"""Labelled signals and the order in which they are trained on.

Everything random is a function of (seed, purpose, phase, epoch, step): no generator carries state, so the number of
ranks changes nothing and a resumed run goes on as if it had never stopped.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.data.prepared import PreparedSignals
from bench.data.signals import PREPROCESSINGS, unchanged
from bench.data.tasks import LabelTable

Rows = npt.NDArray[np.int64]

Seed = int | tuple[int, int]
"""The seed of a run of draw 0, or draw and seed: what all its random streams depend on."""


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

    @property
    def mv_per_unit(self) -> float | None:
        """What one unit of the inputs is in mV; None where this is not known, or another for each record."""


@dataclass(frozen=True, eq=False)
class SignalSource:
    """Records as prepared signals: a crop in training and all windows in evaluation, or the whole record."""

    signals: PreparedSignals
    rows: Rows
    labels: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, signals: PreparedSignals, table: LabelTable, dtype: torch.dtype, device: torch.device) -> SignalSource:
        """The records of a table; on a GPU its memory holds them, where there is room."""
        rows, labels = signals.rows(table.ecg_id), torch.from_numpy(table.y_true).to(dtype)
        if device.type == "cuda":
            return DeviceSource(signals, rows, labels, dtype, device)
        return cls(signals, rows, labels, dtype)

    def training(self, rows: Rows, stream: Sequence[object]) -> Tensor:
        window, length = self.signals.spec.window, self.signals.length
        if window is None or window >= length:
            return self._read(rows)
        return self._read(rows, _crop_starts(tuple(stream), len(self.labels), length - window + 1)[rows], window)

    @property
    def mv_per_unit(self) -> float | None:
        if PREPROCESSINGS[self.signals.spec.preprocessing].apply is not unchanged:
            return None
        return self.signals.scaling.std if self.signals.scaling.fitted_on else 1.0

    def windows(self, rows: Rows) -> Tensor:
        whole = self._read(rows)
        return cut_windows(whole, self.signals.spec.window, self.signals.spec.window_starts(whole.shape[-1]))

    def _read(self, rows: Rows, starts: Rows | None = None, length: int | None = None) -> Tensor:
        return torch.from_numpy(self.signals.read(self.rows[rows], starts, length)).to(self.dtype)


@dataclass(frozen=True, eq=False)
class DeviceSource(SignalSource):
    """The same from a device's memory, int16 as in the cache; from disk where they would take more than half of it."""

    device: torch.device

    def _read(self, rows: Rows, starts: Rows | None = None, length: int | None = None) -> Tensor:
        if self._held is None:
            return send(super()._read(rows, starts, length), self.device)
        values, scale = self._held
        index = send(torch.from_numpy(rows), self.device)
        chosen = values[index]
        if starts is not None and length is not None:
            samples = send(torch.from_numpy(starts), self.device)[:, None] + torch.arange(length, device=self.device)
            chosen = chosen.gather(2, samples.unsqueeze(1).expand(-1, chosen.shape[1], -1))
        signals = chosen * scale[index, None, None]
        if self.signals.scaling.fitted_on:
            signals = (signals - self._mean_and_std[0]) / self._mean_and_std[1]
        return signals.to(self.dtype)

    @functools.cached_property
    def _held(self) -> tuple[Tensor, Tensor] | None:
        """int16 [record, lead, time] and scale [record], or None where there is no room."""
        shape = (len(self.rows), *self.signals.values.shape[1:])
        if self.device.type == "cuda" and 2 * math.prod(shape) > torch.cuda.mem_get_info(self.device)[0] / 2:
            return None
        values = torch.empty(shape, dtype=torch.int16, device=self.device)
        for start in range(0, len(self.rows), CHUNK):
            part = slice(start, start + CHUNK)
            values[part].copy_(torch.from_numpy(self.signals.values[self.rows[part]]))
        return values, torch.from_numpy(self.signals.scale[self.rows]).to(self.device)

    @functools.cached_property
    def _mean_and_std(self) -> Tensor:
        # as a tensor there: CUDA divides by a number on the host by multiplying with its rounded inverse
        return torch.tensor([self.signals.scaling.mean, self.signals.scaling.std], device=self.device)


CHUNK = 256
"""Records that are copied to a device at a time."""


def send(value: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, without waiting for what that is doing."""
    if device.type != "cuda" or value.is_cuda:
        return value.to(device)
    return value.pin_memory().to(device, non_blocking=True)


@functools.lru_cache(maxsize=1)
def _crop_starts(stream: tuple[object, ...], num_records: int, num_starts: int) -> Rows:
    """First samples [record] of an epoch's crops, drawn for all records at once: a crop belongs to its record, not to
    its batch. Kept for the epoch, or each step would cost time for all records."""
    return random_stream(*stream, "crop").integers(0, num_starts, size=num_records)


def cut_windows(signals: Tensor, window: int | None, starts: Sequence[int]) -> Tensor:
    """Signals [record, lead, time] as windows [record, window, lead, time]."""
    if window is None or window >= signals.shape[-1]:
        return signals.unsqueeze(1)
    return torch.stack([signals[..., start : start + window] for start in starts], dim=1)


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """Records as the features that a frozen backbone gave them, [record, window, feature]."""

    features: Tensor
    labels: Tensor
    mv_per_unit: float | None = None

    def training(self, rows: Rows, stream: Sequence[object]) -> Tensor:
        return self.windows(rows)[:, 0]

    def windows(self, rows: Rows) -> Tensor:
        return self.features[send(torch.from_numpy(rows), self.features.device)]


def num_batches(num_records: int, batch_size: int) -> int:
    """Batches of an epoch. A single record left over joins the batch before: batch norm cannot train on one."""
    return max(1, -(-num_records // batch_size) - (batch_size > 1 and num_records % batch_size == 1))


def epoch_batches(num_records: int, batch_size: int, stream: Sequence[object]) -> Iterator[Rows]:
    """All records once, in the order of this epoch, in batches of the cell; the last may be short."""
    order = random_stream(*stream, "order").permutation(num_records)
    last = num_batches(num_records, batch_size) - 1
    for number in range(last + 1):
        yield order[number * batch_size : None if number == last else (number + 1) * batch_size]
