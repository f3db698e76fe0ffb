"""What a backbone expects of its signals, and the named preprocessings that give it.

Each preprocessing takes one record [lead, time] in mV at the backbone's rate. Its version is part of every cache key
and result, and rises with any change of its output.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import scipy.signal

import bench
from bench.data.waveforms import LEADS
from bench.errors import DataError, PluginError
from bench.registry.reference import is_name
from bench.registry.source import code_hash

Signal = npt.NDArray[np.float32]
Apply = TypeVar("Apply", bound=Callable[[Signal, int], Signal])
SHORTEST = 27
"""Samples by which filtfilt extends a record at both ends, and which it must therefore have: 3 x 9 coefficients."""


@dataclass(frozen=True)
class SignalSpec:
    """The signals that a backbone takes: [record, lead, time], float32."""

    rate: int
    """Hz"""
    preprocessing: str
    """`ecgfounder`, `zscore`, `strodthoff`, `none`, or what a plugin has registered: a name in PREPROCESSINGS."""
    leads: tuple[str, ...] = LEADS
    window_s: float | None = None
    """Seconds that the backbone sees at a time; None: the whole record. Training takes one random crop a record and
    epoch, evaluation slides over the record."""
    stride_s: float | None = None
    """Seconds between the windows of evaluation."""
    aggregate: Literal["max", "mean"] = "max"
    """How the logits of a record's windows become the record's."""

    def __post_init__(self) -> None:
        if self.preprocessing not in PREPROCESSINGS:
            near = difflib.get_close_matches(self.preprocessing, PREPROCESSINGS, n=1)
            raise DataError(
                f"unknown preprocessing {self.preprocessing!r}; expected one of {', '.join(PREPROCESSINGS)}"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )
        for key, seconds in (("window_s", self.window_s), ("stride_s", self.stride_s)):
            if seconds is not None and round(seconds * self.rate) < 1:
                raise DataError(f"{key} is {seconds:g}, expected at least one sample at {self.rate} Hz")
        if self.window_s and self.stride_s and self.stride_s > self.window_s:
            raise DataError(
                f"stride_s is {self.stride_s:g} and window_s {self.window_s:g}: windows would leave gaps; "
                "expected a stride no longer than the window"
            )

    @property
    def window(self) -> int | None:
        """Samples of a window, or None."""
        return None if self.window_s is None else round(self.window_s * self.rate)

    def window_starts(self, length: int) -> tuple[int, ...]:
        """First samples of the evaluation windows of a record of `length` samples; every sample is in one of them.

        Where the stride does not end with the record, a last window ends with it. For records of 10 s there is none to
        add with the windows of Strodthoff et al. 2020 (2.5 s every 1.25 s), so published scores stay as they are.
        """
        if self.window is None or length <= self.window:
            return (0,)
        stride = round((self.stride_s or self.window_s or 0) * self.rate)
        starts = range(0, length - self.window + 1, stride)
        last = length - self.window
        return (*starts, last) if starts[-1] != last else tuple(starts)


@dataclass(frozen=True)
class Preprocessing:
    """A named way from mV to what a backbone was trained on."""

    version: int
    apply: Callable[[Signal, int], Signal]
    """(record [lead, time] in mV, rate in Hz) -> record [lead, time]"""
    standardized: bool = False
    """Whether one mean and standard deviation over folds 1-8 of the dataset are applied after it."""

    @property
    def module(self) -> str:
        """Where its code is."""
        return self.apply.__module__

    @property
    def code_sha256(self) -> str:
        """SHA-256 over the code of a plugin's; empty for those of `bench`, whose versions follow their output."""
        return "" if self.module.partition(".")[0] == bench.__name__ else code_hash(self.module)


def zscore(record: Signal, rate: int) -> Signal:
    """(x - mean) / (std + 1e-8) over all leads and samples of a record: ECGFounder's evaluation on PTB-XL."""
    wide = record.astype(np.float64)
    return np.asarray((wide - wide.mean()) / (wide.std() + 1e-8), dtype=np.float32)


def ecgfounder(record: Signal, rate: int) -> Signal:
    """ECGFounder's dataset code since August 2025: notch, band-pass, minus median baseline, z-score.

    Notch at 50 Hz (Q = 30) and Butterworth band-pass of order 4 from 0.67 to 40 Hz, each forwards and backwards;
    minus the running median over 0.4 s (zeros beyond the ends); then `zscore`. PKUDigitalHealth/ECGFounder, util.py.
    """
    if record.shape[-1] <= SHORTEST:
        raise DataError(
            f"a record of {record.shape[-1]} samples is too short for ecgfounder's filters; {SHORTEST + 1} will do"
        )
    if rate <= 80:
        raise DataError(f"ecgfounder's band-pass reaches 40 Hz and needs more than 80 Hz, got {rate} Hz")
    wide = record.astype(np.float64)
    for coefficients in _filters(rate):
        wide = scipy.signal.filtfilt(*coefficients, wide, axis=-1)
    width = int(0.4 * rate) + 1
    width += 1 - width % 2
    # scipy has a fast running median for one dimension only (3 ms a record, against 70): all leads in a row, and
    # between two of them the zeros that lie beyond their ends
    row = np.pad(wide, ((0, 0), (0, width // 2)))
    baseline = scipy.ndimage.median_filter(row.ravel(), size=width, mode="constant", cval=0.0).reshape(row.shape)
    return zscore((wide - baseline[:, : wide.shape[1]]).astype(np.float32), rate)


@functools.cache
def _filters(rate: int) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """The coefficients (b, a) of the notch, which a rate of 100 Hz leaves no room for, and of the band-pass."""
    notch = [scipy.signal.iirnotch(50, 30, rate)] if rate > 100 else []
    return [*notch, scipy.signal.butter(4, [0.67, 40], btype="bandpass", fs=rate)]


def unchanged(record: Signal, rate: int) -> Signal:
    """The record in mV."""
    return record


PREPROCESSINGS = {
    "ecgfounder": Preprocessing(1, ecgfounder),
    "zscore": Preprocessing(1, zscore),
    "strodthoff": Preprocessing(1, unchanged, standardized=True),
    "none": Preprocessing(1, unchanged),
}
"""`strodthoff` is mV and then one scalar standardisation over all leads, samples and records of the training folds
(Strodthoff et al. 2020; they fit it on a task's training records, here it is all of folds 1-8)."""


def register_preprocessing(name: str, version: int, *, standardized: bool = False) -> Callable[[Apply], Apply]:
    """Decorator of a function (record [lead, time] in mV, rate in Hz) -> record [lead, time]: known by `name` then.

    `version` rises with any change of its output. `standardized`: one mean and standard deviation over folds 1-8 are
    applied after it. It stands at the top of a module, which the processes that read records import. Any edit of that
    module, and of what it imports of its package, prepares the signals anew: give it a file apart from the backbone's.
    """

    def register(apply: Apply) -> Apply:
        if not is_name(name):
            raise PluginError(
                f"{apply.__module__} registers preprocessing {name!r}; letters, digits, - and _ make a name"
            )
        if apply.__qualname__ != apply.__name__ or "<" in apply.__name__:
            raise PluginError(f"preprocessing {name!r} must be a function at the top of a module, for other processes")
        taken = PREPROCESSINGS.get(name)
        if taken and (taken.apply.__module__, taken.apply.__name__) != (apply.__module__, apply.__name__):
            raise PluginError(
                f"preprocessing {name!r} is already registered by {taken.apply.__module__}; "
                f"{apply.__module__} must choose another name"
            )
        PREPROCESSINGS[name] = Preprocessing(version, apply, standardized)
        return apply

    return register


def resample(record: Signal, rate: int, target: int) -> Signal:
    """A record [lead, time] at another rate, by a polyphase filter (Kaiser window) about the line through its ends."""
    if rate == target:
        return record
    resampled: Signal = scipy.signal.resample_poly(record, target, rate, axis=-1, padtype="line").astype(np.float32)
    return resampled


def middle(record: Signal, rate: int, seconds: float | None) -> tuple[Signal, int]:
    """The middle `seconds` of a record [lead, time] and its first sample; all of it for None."""
    if seconds is None:
        return record, 0
    start = max(0, (record.shape[-1] - round(seconds * rate)) // 2)
    return record[..., start : start + round(seconds * rate)], start


def prepare_record(
    record: Signal, rate: int, spec: SignalSpec, seconds: float | None = None, name: str = "a record"
) -> Signal:
    """One record [lead, time] in mV, at any rate, as `spec` wants it before standardisation; NaN counts as 0 mV.

    With `seconds`, a longer record is cut to its middle first, and a shorter one filled up with zeros on both sides
    last, so that no filter meets the edge. Raises DataError that names the record and the preprocessing if that gives
    NaN, infinite values or another number of leads.
    """
    invalid = np.isnan(record)
    whole = np.where(invalid, np.float32(0), record) if invalid.any() else record
    whole, _ = middle(whole, rate, seconds)
    prepared = PREPROCESSINGS[spec.preprocessing].apply(resample(whole, rate, spec.rate), spec.rate)
    if np.ndim(prepared) != 2 or len(prepared) != len(record):
        raise DataError(
            f"{name}: preprocessing {spec.preprocessing!r} gives the shape {np.shape(prepared)}, expected "
            f"[lead, time] with {len(record)} leads; mend the preprocessing"
        )
    if not np.isfinite(prepared).all():
        raise DataError(
            f"{name}: preprocessing {spec.preprocessing!r} gives NaN or infinite values, expected finite ones; mend "
            "the preprocessing (such as a division by the spread of a flat lead)"
        )
    spare = 0 if seconds is None else max(0, round(seconds * spec.rate) - prepared.shape[-1])
    return np.pad(prepared, ((0, 0), (spare // 2, spare - spare // 2))) if spare else prepared
