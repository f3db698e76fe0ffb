"""Inputs and labels of records, and the order of training batches.

All random values are a function of (seed, purpose, phase, epoch, step). No generator keeps state, so results do not
depend on the number of ranks, and a resumed run gives the same result as an uninterrupted one.
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
from bench.data.splits import num_batches
from bench.data.tasks import LabelTable
from bench.training.distributed import World

Rows = npt.NDArray[np.int64]

Seed = int | tuple[int, int]
"""The seed, or draw and seed, on which all random streams of a run depend; for draw 0 the seed alone."""


def random_stream(*purpose: object) -> np.random.Generator:
    """Return the random generator of a purpose, such as (seed, "order", "finetune", 3)."""
    return np.random.default_rng(list(hashlib.sha256(repr(purpose).encode()).digest()))


class Source(Protocol):
    """Inputs and labels of a set of records."""

    @property
    def labels(self) -> Tensor:
        """[record, label], float"""

    def training(self, rows: Rows, stream: Sequence[object]) -> Tensor:
        """Return inputs [row, ...] of these records for a training step."""

    def windows(self, rows: Rows) -> Tensor:
        """Return inputs [row, window, ...] of these records for evaluation."""

    @property
    def mv_per_unit(self) -> float | None:
        """Millivolts per unit of the inputs; None if unknown, or if it differs between records."""


@dataclass(frozen=True, eq=False)
class SignalSource:
    """Prepared signals: a random crop in training and all windows in evaluation, or the whole record for both."""

    signals: PreparedSignals
    rows: Rows
    labels: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, signals: PreparedSignals, table: LabelTable, dtype: torch.dtype, device: torch.device) -> SignalSource:
        """Return the signals of a table's records. With a GPU, they are kept in its memory if they fit."""
        rows, labels = signals.rows(table.ecg_id), torch.from_numpy(table.y_true).to(dtype)
        if device.type == "cuda":
            return DeviceSource(signals, rows, labels, dtype, device)
        return cls(signals, rows, labels, dtype)

    def training(self, rows: Rows, stream: Sequence[object]) -> Tensor:
        window, length = self.signals.spec.window, self.signals.length
        if window is None or window >= length:
            return self._read(rows)
        return self._read(rows, _random_starts(tuple(stream), len(self.labels), length - window + 1)[rows], window)

    @property
    def mv_per_unit(self) -> float | None:
        if PREPROCESSINGS[self.signals.spec.preprocessing].apply is not unchanged:
            return None
        return self.signals.scaling.std if self.signals.scaling.fitted_on else 1.0

    def windows(self, rows: Rows) -> Tensor:
        spec, length = self.signals.spec, self.signals.length
        starts = spec.window_starts(length)
        if spec.per_window and len(starts) > 1:
            read = (self._read(rows, np.full(len(rows), start), spec.window) for start in starts)
            return torch.stack([*read], dim=1)
        return cut_windows(self._read(rows), spec.window, starts)

    def _read(self, rows: Rows, starts: Rows | None = None, length: int | None = None) -> Tensor:
        return torch.from_numpy(self.signals.read(self.rows[rows], starts, length)).to(self.dtype)


@dataclass(frozen=True, eq=False)
class DeviceSource(SignalSource):
    """A SignalSource that keeps int16 values in GPU memory.

    It reads from disk if they would fill more than half of it, or if each window is preprocessed.
    """

    device: torch.device

    def _read(self, rows: Rows, starts: Rows | None = None, length: int | None = None) -> Tensor:
        if self.signals.spec.per_window or self._held is None:  # preprocessing runs on the CPU
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
        """Return int16 values [record, lead, time] and scales [record] in GPU memory; None if they do not fit."""
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
        # as tensors on the device: for a number on the host, CUDA multiplies by its rounded inverse instead of dividing
        return torch.tensor([self.signals.scaling.mean, self.signals.scaling.std], device=self.device)


CHUNK = 256
"""Number of records that are copied to a device at a time."""


def send(value: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device without waiting for the device."""
    if device.type != "cuda" or value.is_cuda:
        return value.to(device)
    return value.pin_memory().to(device, non_blocking=True)


@functools.lru_cache(maxsize=1)
def _random_starts(stream: tuple[object, ...], num_records: int, num_starts: int) -> Rows:
    """Return the number [record], 0 to num_starts - 1, of the place where each record's crop starts in an epoch.

    Generated for all records at once, so that a crop does not depend on the batch. Cached for the epoch, because each
    step would otherwise repeat it.
    """
    return random_stream(*stream, "crop").integers(0, num_starts, size=num_records)


def cut_windows(signals: Tensor, window: int | None, starts: Sequence[int]) -> Tensor:
    """Cut signals [record, lead, time] into windows [record, window, lead, time]."""
    if window is None or window >= signals.shape[-1]:
        return signals.unsqueeze(1)
    return torch.stack([signals[..., start : start + window] for start in starts], dim=1)


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """Features [record, window, feature] from a frozen backbone."""

    features: Tensor
    labels: Tensor
    mv_per_unit: float | None = None

    def training(self, rows: Rows, stream: Sequence[object]) -> Tensor:
        windows = self.windows(rows)
        if windows.shape[1] == 1:
            return windows[:, 0]
        chosen = _random_starts(tuple(stream), len(self.labels), windows.shape[1])[rows]
        return windows[range(len(rows)), chosen]

    def windows(self, rows: Rows) -> Tensor:
        return self.features[send(torch.from_numpy(rows), self.features.device)]


def epoch_batches(num_records: int, batch_size: int, stream: Sequence[object]) -> Iterator[Rows]:
    """Yield the rows of each batch of an epoch, in random order. The last batch may be shorter, or a record longer."""
    order = random_stream(*stream, "order").permutation(num_records)
    last = num_batches(num_records, batch_size) - 1
    for number in range(last + 1):
        yield order[number * batch_size : None if number == last else (number + 1) * batch_size]


def rank_batches(
    source: Source, batch_size: int, stream: Sequence[object], world: World
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs [record, ...] and labels [record, label] of this rank's share of each batch of an epoch."""
    for rows in epoch_batches(len(source.labels), batch_size, stream):
        share = rows[world.share(len(rows))]
        x = source.training(share, stream)
        yield send(x, world.device), send(source.labels[torch.from_numpy(share)], world.device)
