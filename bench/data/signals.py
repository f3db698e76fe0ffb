"""The signals that a backbone expects, and the preprocessings that produce them.

Each preprocessing takes one record, or one window of it, [lead, time] in mV, at the backbone's rate or at
`preprocessing_rate`. Its version is part of every cache key and result; increase it with any change of the output.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import scipy  # imports its parts where they are first used: scipy.signal takes 0.9 s of CPU

from bench.data.waveforms import LEADS
from bench.errors import DataError, PluginError
from bench.registry.reference import is_name
from bench.registry.source import function_hash, is_at_top

Signal = npt.NDArray[np.float32]
Apply = TypeVar("Apply", bound=Callable[[Signal, int], Signal])
SHORTEST = 27
"""Number of samples by which filtfilt pads a record at each end (3 x 9 coefficients). A record must be longer."""


@dataclass(frozen=True)
class SignalSpec:
    """The signals that a backbone takes: [record, lead, time], float32."""

    rate: int
    """Hz"""
    preprocessing: str
    """A name in PREPROCESSINGS: `ecgfounder`, `zscore`, `strodthoff`, `none`, or registered by a plugin."""
    leads: tuple[str, ...] = LEADS
    window_s: float | None = None
    """Length in seconds of the backbone's input; None: the whole record. Training uses one random crop per record and
    epoch, evaluation uses sliding windows."""
    stride_s: float | None = None
    """Seconds between the starts of the evaluation windows."""
    aggregate: Literal["max", "mean"] = "max"
    """How the logits of a record's windows are combined."""
    preprocessing_rate: int | None = None
    """Hz at which the preprocessing is applied, before the record is resampled to `rate`; None: at `rate`."""
    per_window: bool = False
    """Whether the preprocessing is applied to each window after it is cut, and not to the whole record before.

    It then runs anew for every crop in training; the cache holds the records in mV at `rate`."""

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
        if self.preprocessing_rate is not None and self.preprocessing_rate < 1:
            raise DataError(f"preprocessing_rate is {self.preprocessing_rate}, expected at least 1 Hz")
        if self.window_s and self.stride_s and self.stride_s > self.window_s:
            raise DataError(
                f"stride_s is {self.stride_s:g} and window_s {self.window_s:g}: windows would leave gaps; "
                "expected a stride no longer than the window"
            )
        if self.per_window and (
            self.window_s is None or self.preprocessing_rate or PREPROCESSINGS[self.preprocessing].standardized
        ):
            raise DataError(
                f"per_window with preprocessing {self.preprocessing!r}: expected a window_s, no preprocessing_rate, "
                "and a preprocessing without standardisation over the data set"
            )

    @property
    def file_rate(self) -> int:
        """Rate of the files to read in Hz, if the data set has them: that of the preprocessing."""
        return self.preprocessing_rate or self.rate

    def facts(self) -> dict[str, Any]:
        """Return what a result records and its digest depends on.

        `preprocessing_rate` and `per_window` stand there only if they are set, so that the digests of the first
        published results stay.
        """
        values = asdict(self)
        for key in ("preprocessing_rate", "per_window"):
            if not values[key]:
                del values[key]
        return {**values, "version": PREPROCESSINGS[self.preprocessing].version}

    @property
    def window(self) -> int | None:
        """Length of a window in samples; None for the whole record."""
        return None if self.window_s is None else round(self.window_s * self.rate)

    def window_starts(self, length: int) -> tuple[int, ...]:
        """Return the first sample of each evaluation window of a record of `length` samples. All samples are covered.

        If the last window would end before the record does, one more window is added that ends with it. This never
        applies to records of 10 s with the windows of Strodthoff et al. 2020 (2.5 s every 1.25 s).
        """
        if self.window is None or length <= self.window:
            return (0,)
        stride = round((self.stride_s or self.window_s or 0) * self.rate)
        starts = range(0, length - self.window + 1, stride)
        last = length - self.window
        return (*starts, last) if starts[-1] != last else tuple(starts)


@dataclass(frozen=True)
class Preprocessing:
    """A named conversion of signals in mV to the input of a backbone."""

    version: int
    apply: Callable[[Signal, int], Signal]
    """(record [lead, time] in mV, rate in Hz) -> record [lead, time]"""
    standardized: bool = False
    """True if the output is then standardised with one mean and standard deviation over folds 1-8 of the data set."""
    code_sha256: str = ""
    """SHA-256 over the code of a plugin's preprocessing when it was registered; empty for those of `bench`."""

    @property
    def module(self) -> str:
        """Name of the module that defines `apply`."""
        return self.apply.__module__


def zscore(record: Signal, rate: int) -> Signal:
    """Return (x - mean) / (std + 1e-8) over all leads and samples of a record, as in ECGFounder's PTB-XL evaluation."""
    wide = record.astype(np.float64)
    return np.asarray((wide - wide.mean()) / (wide.std() + 1e-8), dtype=np.float32)


def ecgfounder(record: Signal, rate: int) -> Signal:
    """Filter as ECGFounder's data set code since August 2025: notch, band-pass, minus median baseline, z-score.

    Notch at 50 Hz (Q = 30) and Butterworth band-pass of order 4 from 0.67 to 40 Hz, each forwards and backwards; minus
    the running median over 0.4 s (zeros beyond the ends); then `zscore`. PKUDigitalHealth/ECGFounder, util.py.
    """
    if record.shape[-1] <= SHORTEST:
        raise DataError(
            f"a record of {record.shape[-1]} samples is too short for ecgfounder's filters; they need {SHORTEST + 1}"
        )
    if rate <= 80:
        raise DataError(f"ecgfounder's band-pass reaches 40 Hz and needs more than 80 Hz, got {rate} Hz")
    wide = record.astype(np.float64)
    for coefficients in _filters(rate):
        wide = scipy.signal.filtfilt(*coefficients, wide, axis=-1)
    width = int(0.4 * rate) + 1
    width += 1 - width % 2
    # scipy has a fast running median only for one dimension (3 ms per record instead of 70): join all leads, with
    # zeros between them as padding
    row = np.pad(wide, ((0, 0), (0, width // 2)))
    baseline = scipy.ndimage.median_filter(row.ravel(), size=width, mode="constant", cval=0.0).reshape(row.shape)
    return zscore((wide - baseline[:, : wide.shape[1]]).astype(np.float32), rate)


@functools.cache
def _filters(rate: int) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Return coefficients (b, a) of the notch, if `rate` is above 100 Hz, and of the band-pass."""
    notch = [scipy.signal.iirnotch(50, 30, rate)] if rate > 100 else []
    return [*notch, scipy.signal.butter(4, [0.67, 40], btype="bandpass", fs=rate)]


def unchanged(record: Signal, rate: int) -> Signal:
    """Return the record unchanged, in mV."""
    return record


PREPROCESSINGS = {
    "ecgfounder": Preprocessing(1, ecgfounder),
    "zscore": Preprocessing(1, zscore),
    "strodthoff": Preprocessing(1, unchanged, standardized=True),
    "none": Preprocessing(1, unchanged),
}
"""`strodthoff`: mV, then standardised with one mean and standard deviation over all leads, samples and records of folds
1-8. Strodthoff et al. 2020 fit these on the training records of the task."""


def register_preprocessing(name: str, version: int, *, standardized: bool = False) -> Callable[[Apply], Apply]:
    """Register a function (record [lead, time] in mV, rate in Hz) -> record [lead, time] under a name, as a decorator.

    Increase `version` with any change of the output. `standardized`: the output is then standardised with one mean and
    standard deviation over folds 1-8. Define the function at the top level of a module, because worker processes import
    it from there. Any edit of that module, or of modules of its package that it imports, causes all signals to be
    prepared anew; so put it into another file than the backbone.
    """

    def register(apply: Apply) -> Apply:
        if not is_name(name):
            raise PluginError(
                f"{apply.__module__} registers preprocessing {name!r}; letters, digits, - and _ make a name"
            )
        if not is_at_top(apply):
            raise PluginError(
                f"preprocessing {name!r} must be a function at the top of a module, to be imported elsewhere"
            )
        taken = PREPROCESSINGS.get(name)
        if taken and (taken.apply.__module__, taken.apply.__name__) != (apply.__module__, apply.__name__):
            raise PluginError(
                f"preprocessing {name!r} is already registered by {taken.apply.__module__}; "
                f"{apply.__module__} must choose another name"
            )
        PREPROCESSINGS[name] = Preprocessing(version, apply, standardized, function_hash(apply))
        return apply

    return register


def resample(record: Signal, rate: int, target: int) -> Signal:
    """Resample a record [lead, time] to `target` Hz by a polyphase filter (Kaiser window).

    The line through the ends of each lead is subtracted before and added afterwards.
    """
    if rate == target:
        return record
    resampled: Signal = scipy.signal.resample_poly(record, target, rate, axis=-1, padtype="line").astype(np.float32)
    return resampled


def middle(record: Signal, rate: int, seconds: float | None) -> tuple[Signal, int]:
    """Return the middle `seconds` of a record [lead, time] (None: all of it) and the position of its first sample."""
    if seconds is None:
        return record, 0
    start = max(0, (record.shape[-1] - round(seconds * rate)) // 2)
    return record[..., start : start + round(seconds * rate)], start


def prepare_record(
    record: Signal, rate: int, spec: SignalSpec, seconds: float | None = None, name: str = "a record"
) -> Signal:
    """Prepare a record [lead, time] in mV at `rate` Hz as `spec` requires, before standardisation. NaN counts as 0.

    With `seconds`, a longer record is cut to its middle before preprocessing, and a shorter one is padded with zeros on
    both sides after it, so that no filter sees the step; a filter of windows does. With `spec.per_window`, the record
    stays in mV; `prepare_windows` does the rest. Raises DataError with the names of record and preprocessing if the
    output has NaN, infinite values or another number of leads.
    """
    invalid = np.isnan(record)
    whole = np.where(invalid, np.float32(0), record) if invalid.any() else record
    whole, _ = middle(whole, rate, seconds)
    prepared = resample(whole, rate, spec.file_rate)
    if not spec.per_window:
        prepared = _preprocess(prepared, spec, name)
    prepared = resample(prepared, spec.file_rate, spec.rate)
    if seconds is None:
        return prepared
    length = round(seconds * spec.rate)
    spare = max(0, length - prepared.shape[-1])  # resampling rounds up, so there may be a sample too many instead
    return np.pad(prepared, ((0, 0), (spare // 2, spare - spare // 2)))[:, :length]


def prepare_windows(windows: Signal, spec: SignalSpec) -> Signal:
    """Apply the preprocessing to each window of [..., lead, time] in mV, if `spec.per_window`; else return them as they
    are. Raises DataError as `prepare_record` does.
    """
    if not spec.per_window:
        return windows
    flat = windows.reshape(-1, *windows.shape[-2:])
    prepared = [_preprocess(window, spec, "a window") for window in flat]
    return np.stack(prepared).reshape(*windows.shape[:-1], -1) if prepared else windows


def _preprocess(record: Signal, spec: SignalSpec, name: str) -> Signal:
    """Apply the preprocessing to a record or window [lead, time] in mV at `spec.file_rate`, and check its output."""
    prepared = PREPROCESSINGS[spec.preprocessing].apply(record, spec.file_rate)
    if np.ndim(prepared) != 2 or len(prepared) != len(record):
        raise DataError(
            f"{name}: preprocessing {spec.preprocessing!r} gives the shape {np.shape(prepared)}, expected "
            f"[lead, time] with {len(record)} leads; correct the preprocessing"
        )
    if not np.isfinite(prepared).all():
        raise DataError(
            f"{name}: preprocessing {spec.preprocessing!r} gives NaN or infinite values, expected finite ones; correct "
            "the preprocessing (such as a division by the spread of a flat lead)"
        )
    return prepared
