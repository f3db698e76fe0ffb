"""Read WFDB records as signals [lead, time] in mV, checked against their headers. All other modules use this one.

An irregular record either raises an error or is read with a note.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.headers import DEFAULT_GAIN, Header, Scale, read_header
from bench.data.leads import LEADS as LEADS
from bench.data.leads import LeadChoice, choose_leads, name_leads
from bench.data.text import refuse_pointer
from bench.errors import DataError, first_line
from bench.files import open_file, require_file, write_into

MILLIVOLTS = {
    **dict.fromkeys(("mv", "mvolt", "mvolts", "millivolt", "millivolts"), 1.0),
    **dict.fromkeys(("uv", "\u00b5v", "\u03bcv", "uvolt", "uvolts", "microvolt", "microvolts"), 1e-3),
    **dict.fromkeys(("nv", "nanovolt", "nanovolts"), 1e-6),
    **dict.fromkeys(("v", "volt", "volts"), 1e3),
}
"""Unit -> its size in mV. \u00b5 occurs in Unicode twice, as the micro sign and as the Greek letter."""
MAX_RATE = 100_000
PHYSIONET_CPSC = "https://physionet.org/content/challenge-2020/1.0.2/training/cpsc_2018/"
LARGEST_MV = 20.0
"""Maximum plausible range of a lead in mV, from its 1st to its 99th percentile: twice the range that recorders must
accept (10 mV; IEC 60601-2-25, AAMI EC11). The largest in PTB-XL at 100 Hz is 16.8 mV (record 11124)."""
FURTHEST_MV = 25.0
"""Maximum plausible median of a lead in mV; beyond it the baseline is wrong. PTB-XL's maximum: 20.0 (record 20045)."""
SMALLEST_MV = 0.03
"""Minimum plausible range in mV of the widest lead of a record; the noise of a recorder may reach this value (AAMI
EC11, IEC 60601-2-25). The smallest in PTB-XL at 100 Hz is 0.74 mV (record 20080)."""
KINDS = {
    "renamed": "records with leads under other names",
    "inverted": "records with inverted leads, turned round",
    "derived": "records with limb leads computed from two others",
    "uncalibrated": "records with leads without a gain, read at 200 per mV",
    "negative": "records with a negative gain, which turns leads upside down",
    "large": "records with leads too large for a surface ECG",
    "offset": "records with leads too far from 0 mV for a surface ECG",
    "small": "records too small for a surface ECG",
}
"""Kind of a note -> description of the records that have it, for tables of counts."""
BLOCKS = {
    **dict.fromkeys(("8", "80"), (1, 1)),
    **dict.fromkeys(("16", "61", "160"), (1, 2)),
    "24": (1, 3),
    "32": (1, 4),
    "212": (2, 3),
    "310": (3, 4),
    "311": (3, 4),
}
"""WFDB storage format -> samples and bytes of a block, for formats whose file size follows from the header."""
INVALID = {
    "80": -(2**7),
    "508": -(2**7),
    "310": -(2**9),
    "311": -(2**9),
    "212": -(2**11),
    "16": -(2**15),
    "61": -(2**15),
    "160": -(2**15),
    "516": -(2**15),
    "24": -(2**23),
    "524": -(2**23),
    "32": -(2**31),
}
"""Storage format -> value of an invalid sample."""


@dataclass(frozen=True)
class Note:
    """An irregularity of a record that was read nevertheless."""

    kind: str
    """A key of KINDS."""
    text: str


def read_waveform(
    path: Path, leads: tuple[str, ...] = LEADS, log: Callable[[Note], None] = lambda note: None
) -> tuple[npt.NDArray[np.float32], int]:
    """Return signals [lead, time] of a record in mV, in the order of `leads` (matched by name), and the rate in Hz.

    `path` has no extension. Samples that the file marks as invalid become NaN. `log` receives a note on each
    irregularity: other names of leads, computed leads, amplitudes that no surface ECG has. Raises DataError if the
    record is missing, cannot be read, contradicts its header, or lacks a lead.
    """
    file = path.with_name(path.name + ".hea")
    try:
        header = read_header(file)
        _refuse_rate(header)
        samples = _read_samples(header)
    except FileNotFoundError as error:
        raise _missing(path, Path(error.filename or file)) from None
    except OSError as error:
        raise DataError(f"{error.filename or file} cannot be read: {error.strerror or error}") from None
    _check_sums(header, samples)
    try:
        scale = _find_scale(leads, tuple([channel.scale for channel in header.channels]))
    except DataError as error:
        raise DataError(f"{file}{error}") from None
    # float64 until the end, because limb leads are differences of other leads
    wide = (samples.T if scale.straight else samples.T[list(scale.choice.columns)]).astype(np.float64, order="C")
    invalid = wide == scale.marker
    wide -= scale.baseline
    wide /= scale.gain
    wide *= scale.unit
    if invalid.any():
        wide[invalid] = np.nan
    signals = scale.choice.assemble(wide).astype(np.float32)
    for note in (*scale.notes, *check_amplitude(signals, leads)):
        log(note)
    return signals, int(header.rate)


@dataclass(frozen=True, eq=False)
class _Conversion:
    """The conversion of samples to the wanted leads in mV. Arrays are [lead read, 1]."""

    choice: LeadChoice
    straight: bool
    """True if the leads read are all columns of the file, in its order."""
    unit: npt.NDArray[np.float64]
    gain: npt.NDArray[np.float64]
    baseline: npt.NDArray[np.float64]
    marker: npt.NDArray[np.float64]
    """Value of an invalid sample."""
    notes: tuple[Note, ...]


@functools.lru_cache(maxsize=256)
def _find_scale(leads: tuple[str, ...], scales: tuple[Scale, ...]) -> _Conversion:
    """Return the conversion of channels with these scales. Cached, because most records of a data set share it.

    Raises DataError with a message that lacks the name of the file.
    """
    try:
        choice = choose_leads(tuple(scale.lead for scale in scales), leads)
    except DataError as error:
        raise DataError(f" {error}") from None
    chosen = [scales[column] for column in choice.columns]
    for _, gain, _, unit, lead in chosen:
        if unit.lower() not in MILLIVOLTS:
            raise DataError(f": lead {lead} is in {unit!r}, expected mV, uV, nV or V")
        if gain and not 1e-9 < abs(gain) < 1e18:
            raise DataError(f": lead {lead} has gain {gain}; correct the header")
    notes = [Note(kind, text) for kind, text in choice.notes]
    if without := [lead for _, gain, _, _, lead in chosen if not gain]:
        notes.append(
            Note("uncalibrated", f"no gain is given for {name_leads(without)}; read at {DEFAULT_GAIN:g} per mV")
        )
    if negative := [lead for _, gain, _, _, lead in chosen if gain < 0]:
        notes.append(Note("negative", f"the gain of {name_leads(negative)} is negative, which turns them upside down"))
    columns = [
        (MILLIVOLTS[unit.lower()], gain or DEFAULT_GAIN, baseline, INVALID.get(fmt, 2**40))
        for fmt, gain, baseline, unit, _ in chosen
    ]
    units, gains, baselines, markers = np.array(columns, dtype=np.float64).T[..., None]
    straight = choice.columns == tuple(range(len(scales)))
    return _Conversion(choice, straight, units, gains, baselines, markers, tuple(notes))


def check_amplitude(signals: npt.NDArray[np.float32], leads: tuple[str, ...]) -> list[Note]:
    """Return notes on amplitudes in signals [lead, time] in mV that no surface ECG has. NaN and zeros are ignored."""
    low, high = signals.min(axis=1), signals.max(axis=1)
    swing = high - low
    widest, furthest = swing.max(), max(high.max(), -low.min())
    if SMALLEST_MV <= widest <= LARGEST_MV and furthest <= FURTHEST_MV:
        return []  # nearly all records end here: percentiles are the slowest part; NaN fails the comparison
    # percentiles, so that a single spike does not count as a large amplitude
    rows = [row[~np.isnan(row)] for row in signals]
    swings = np.array([np.ptp(row) if len(row) else 0 for row in rows])
    ranges = np.array([np.subtract(*np.quantile(row, [0.99, 0.01])) if len(row) else 0 for row in rows])
    offsets = np.array([np.median(row) if len(row) else 0 for row in rows])
    notes = []
    if (large := ranges > LARGEST_MV).any():
        named = name_leads([lead for lead, is_large in zip(leads, large, strict=True) if is_large])
        notes.append(
            Note(
                "large",
                f"{named} swings by up to {swings.max():,.4g} mV, and no surface ECG by more than {LARGEST_MV:g} mV: "
                "microvolts called millivolts? check gain and unit, in the header or as stated",
            )
        )
    if (far := (np.abs(offsets) > FURTHEST_MV) & ~large).any():  # a lead that is too large is also far from zero
        named = name_leads([lead for lead, is_far in zip(leads, far, strict=True) if is_far])
        notes.append(
            Note(
                "offset",
                f"{named} lies up to {np.abs(offsets).max():,.4g} mV from 0 mV, and no surface ECG more than "
                f"{FURTHEST_MV:g} mV: check baseline, gain and unit, in the header or as stated",
            )
        )
    if 0 < swings.max() < SMALLEST_MV:
        notes.append(
            Note(
                "small",
                f"no lead swings by more than {swings.max():.2g} mV, which is less than noise ({SMALLEST_MV:g} mV): "
                "volts called millivolts? check gain and unit, in the header or as stated",
            )
        )
    return notes


def _refuse_rate(header: Header) -> None:
    if not 1 <= header.rate <= MAX_RATE or header.rate != round(header.rate):
        raise DataError(
            f"{header.path}: the sampling rate is {header.rate:.12g}, expected a whole number of Hz up to {MAX_RATE:,}"
        )


def _missing(path: Path, missing: Path) -> DataError:
    """Return the error for a file that a record lacks."""
    original = path.with_name(path.name + ".mat")
    if missing.suffix == ".hea" and original.is_file():
        with open_file(original) as file:
            if file.read(19) == b"MATLAB 5.0 MAT-file":
                return DataError(
                    f"{missing} is missing, and {original.name} is a MATLAB struct: that is CPSC2018 as first "
                    f"released, which is not read; {PHYSIONET_CPSC} has the same records with headers"
                )
    return DataError(f"{missing} is missing")


def _read_samples(header: Header) -> npt.NDArray[Any]:
    """Return the samples [time, lead] as integers."""
    samples = _read_plain(header)
    return _read_with_wfdb(header) if samples is None else samples


def _read_plain(header: Header) -> npt.NDArray[Any] | None:
    """Return samples [time, lead] if they are in one file of format 16, as in PTB-XL and the challenges; else None.

    wfdb returns the same, but takes 2.5 ms to parse the header (239 look-ups in pandas).
    """
    first = header.channels[0]
    places = {(file, skew, offset, scale.fmt) for file, _, skew, offset, _, _, scale in header.channels}
    if places != {(first.file, 0, first.offset, "16")}:
        return None
    file = f"{header.path.parent}/{first.file}"  # a plain string: pathlib would take longer than the disk
    size = require_file(file).st_size
    stored = np.fromfile(file, dtype="<i2", offset=first.offset)
    declared = (header.length or 0) * len(header.channels)
    if stored.size != declared or stored.nbytes + first.offset != size:
        _check_size(header)
    return stored.reshape(-1, len(header.channels))


def _read_with_wfdb(header: Header) -> npt.NDArray[Any]:
    """Return the samples [time, lead] of any storage format, read by wfdb. It gets links to the files and a rewritten
    header, because its parser is strict."""
    _check_size(header)
    files = {channel.file: f"file{at}.dat" for at, channel in enumerate(header.channels)}
    lines = [f"record {len(header.channels)} {header.rate:.0f}" + (f" {header.length}" if header.length else "")]
    for at, channel in enumerate(header.channels):
        shift = (f":{channel.skew}" if channel.skew else "") + (f"+{channel.offset}" if channel.offset else "")
        lines.append(f"{files[channel.file]} {channel.scale.fmt}{shift} 1(0)/mV 16 0 {channel.first} 0 0 lead{at}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, link in files.items():
                os.symlink(header.path.with_name(name).resolve(), Path(folder) / link)  # noqa: PTH211
            write_into(Path(folder), "record.hea", "\n".join(lines) + "\n")
            import wfdb  # here, as it takes 0.3 s and most records need none of it

            samples: npt.NDArray[Any] = wfdb.rdrecord(f"{folder}/record", physical=False, return_res=32).d_signal
            return samples
    except (
        # wfdb checks little, so damaged files raise many kinds of errors; RuntimeError comes from soundfile (FLAC)
        *(ValueError, IndexError, KeyError, TypeError, AttributeError, OSError),
        *(ZeroDivisionError, OverflowError, MemoryError, RuntimeError),
    ) as error:
        raise DataError(
            f"{header.path} and {', '.join(files)} cannot be read as a WFDB record: {first_line(error)}"
        ) from None


def _check_size(header: Header) -> None:
    """Raise DataError if a file has another size than the header implies, for formats where the header implies one."""
    for name in dict.fromkeys(channel.file for channel in header.channels):
        refuse_pointer(header.path.with_name(name))
        channels = [channel for channel in header.channels if channel.file == name]
        if channels[0].scale.fmt not in BLOCKS:
            continue
        samples, num_bytes = BLOCKS[channels[0].scale.fmt]
        size, offset = header.path.with_name(name).stat().st_size, channels[0].offset
        length = header.length
        if length is None:
            length = max(0, size - offset) * samples // num_bytes // len(channels)
        least = offset - (-length * len(channels) * num_bytes // samples)
        most = offset - (-length * len(channels) // samples) * num_bytes  # the last block may be padded
        if length == 0 or not least <= size <= most:
            raise DataError(
                f"{header.path.with_name(name)} has {size:,} bytes where {header.path.name} implies {least:,}: "
                "truncated, or header and data disagree"
            )


def _check_sums(header: Header, samples: npt.NDArray[Any]) -> None:
    """Raise DataError if the 16-bit sum of a lead's samples [time, lead] differs from a checksum in the header."""
    sums = (samples.sum(axis=0, dtype=np.int64) & 0xFFFF).tolist()
    for channel, actual in zip(header.channels, sums, strict=True):
        # samples of a lead with a skew are shifted, so their sum is not that of the file
        if channel.checksum is not None and not channel.skew and actual != channel.checksum & 0xFFFF:
            raise DataError(
                f"{header.path.with_name(channel.file)}: lead {channel.scale.lead} does not match the checksum in "
                f"{header.path.name}; the file is damaged, download it again"
            )
