"""A WFDB record becomes signals [lead, time] in mV, checked against its header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import wfdb
from wfdb.io.header import parse_header_content, rx_record, rx_signal

from bench.errors import DataError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "nv": 1e-6, "v": 1e3}
"""What a unit is in mV. A µ never gets here: WFDB headers are ASCII, and wfdb would read µV as V."""
MAX_RATE = 100_000
BLOCKS = {
    **dict.fromkeys(("8", "80"), (1, 1)),
    **dict.fromkeys(("16", "61", "160"), (1, 2)),
    "24": (1, 3),
    "32": (1, 4),
    "212": (2, 3),
    "310": (3, 4),
    "311": (3, 4),
}
"""Samples and bytes of a block, for the WFDB storage formats whose file size follows from the header."""
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
"""What stands in a file for an invalid sample, by storage format."""
_NUMBERS = ("baseline", "adc_res", "adc_zero", "init_value", "checksum", "block_size")


def read_waveform(path: Path, leads: tuple[str, ...] = LEADS) -> tuple[npt.NDArray[np.float32], int]:
    """Signals [lead, time] in mV in the order of `leads`, found by name, and the rate in Hz.

    `path` has no extension. A sample that the file marks as invalid becomes NaN. Raises DataError if the record is
    missing, cannot be read, is not what its header says, or lacks a lead.
    """
    header, data = path.with_name(path.name + ".hea"), path.with_name(path.name + ".dat")
    stored = _read_plain(path)
    if stored is None:
        try:
            stored = _read_with_wfdb(path)
        except FileNotFoundError as error:
            raise DataError(f"{error.filename or header} is missing") from None
        except (
            # wfdb checks little: a damaged header breaks whatever comes next; RuntimeError is soundfile's (FLAC)
            *(ValueError, IndexError, KeyError, TypeError, AttributeError, OSError),
            *(ZeroDivisionError, OverflowError, MemoryError, RuntimeError),
        ) as error:
            raise DataError(f"{header} and {data.name} cannot be read as a WFDB record: {_first_line(error)}") from None
    if not 1 <= stored.rate <= MAX_RATE or stored.rate != round(stored.rate):
        raise DataError(
            f"{header}: the sampling rate is {stored.rate}, expected a whole number of Hz up to {MAX_RATE:,}"
        )
    _check_sums(stored, header)
    order = _find_leads(stored, leads, header)
    unit, gain = np.empty((2, len(order), 1))
    baseline = np.array([[stored.baselines[at]] for at in order], dtype=np.float64)
    for row, at in enumerate(order):
        if stored.units[at].lower() not in MILLIVOLTS:
            raise DataError(f"{header}: lead {stored.names[at]} is in {stored.units[at]!r}, expected mV, uV, nV or V")
        unit[row], gain[row] = MILLIVOLTS[stored.units[at].lower()], stored.gains[at]
        if not 1e-9 < abs(stored.gains[at]) < 1e18:
            raise DataError(f"{header}: lead {stored.names[at]} has gain {stored.gains[at]}; mend the header")
    digital = stored.samples.T if order == list(range(len(stored.names))) else stored.samples.T[order]
    wide = digital.astype(np.float64, order="C")
    invalid = wide == np.array([[INVALID.get(stored.formats[at], 2**40)] for at in order], dtype=np.float64)
    wide -= baseline
    wide /= gain
    wide *= unit
    if invalid.any():
        wide[invalid] = np.nan
    return wide.astype(np.float32), int(stored.rate)


@dataclass(frozen=True, eq=False)
class _Stored:
    """A record as its files hold it, lists by lead."""

    samples: npt.NDArray[Any]
    """[time, lead], integers"""
    names: Sequence[str]
    formats: Sequence[str]
    gains: Sequence[float]
    """Units of `samples` per `units`."""
    baselines: Sequence[int]
    units: Sequence[str]
    checksums: Sequence[int | None]
    """None where samples are shifted against the file's, or nothing is declared."""
    rate: float
    """Hz"""
    file: str
    """The first of its files."""


def _read_plain(path: Path) -> _Stored | None:
    """The record if it is stored as PTB-XL's are: one .dat of format 16, every field of the header given; else None.

    wfdb.rdrecord reads it too and gives the same, but takes 2.5 ms for the header's numbers (a pandas look-up for each
    of 239), which is nearly all of its time. The grammar here is wfdb's own; what is not plain is left to wfdb.
    """
    try:
        lines, _ = parse_header_content(path.with_name(path.name + ".hea").read_bytes().decode("ascii"))
        declared, *found = [(rx_signal if at else rx_record).match(line) for at, line in enumerate(lines)] or [None]
        if not found or not declared or not all(found):
            return None
        record = declared.groupdict()
        column = dict(zip(rx_signal.groupindex, zip(*(one.groups() for one in found if one), strict=True), strict=True))
        plain = (
            not any(record[key] for key in ("n_seg", "counter_freq", "base_counter", "base_time", "base_date"))
            and int(record["n_sig"]) == len(found)
            and int(record["sig_len"]) > 0
            and set(column["fmt"]) == {"16"}
            and set(column["samps_per_frame"]) <= {"", "1"}
            and set(column["skew"] + column["byte_offset"]) <= {"", "0"}
            and len(set(column["file_name"])) == 1
            and all(all(column[key]) for key in ("file_name", "units", "sig_name"))
        )
        if not plain:
            return None
        numbers = {key: [int(number) for number in column[key]] for key in _NUMBERS}
        gains = [float(gain) for gain in column["adc_gain"]]
        if not all(gains) or max(map(abs, numbers["baseline"])) >= 2**31:
            return None
        samples = np.fromfile(path.with_name(column["file_name"][0]), dtype="<i2")
        return _Stored(
            samples.reshape(int(record["sig_len"]), len(found)),
            column["sig_name"],
            column["fmt"],
            gains,
            numbers["baseline"],
            column["units"],
            numbers["checksum"],
            int(record["fs"]),
            column["file_name"][0],
        )
    except (OSError, ValueError):
        return None  # wfdb then says in its own words what is wrong


def _read_with_wfdb(path: Path) -> _Stored:
    """The record by wfdb, its header checked first: wfdb takes memory for what the header promises."""
    name = path.with_name(path.name + ".hea")
    for line in name.read_bytes().splitlines():
        if not line.isascii() and not line.lstrip().startswith(b"#"):
            raise DataError(f"{name} holds characters outside ASCII, which wfdb drops; write uV for µV")
    header = wfdb.rdheader(str(path))
    if isinstance(header, wfdb.MultiRecord):
        raise DataError(f"{name} is a record of several segments; name one of them: {', '.join(header.seg_name[:4])}")
    if not header.n_sig or not header.file_name or header.sig_len == 0:
        raise DataError(f"{name} declares no signals")
    if len(header.file_name) != header.n_sig:
        raise DataError(f"{name} declares {header.n_sig} signals and describes {len(header.file_name)}")
    if any(number != 1 for number in header.samps_per_frame):
        raise DataError(f"{name} has leads with several samples a frame; expected one rate for all leads")
    if any(abs(baseline) >= 2**31 for baseline in header.baseline):
        raise DataError(f"{name}: a baseline is beyond 32 bits; mend the header")
    _check_size(header, path)
    record = wfdb.rdrecord(str(path), physical=False, return_res=32)
    return _Stored(
        record.d_signal,
        [lead or "" for lead in record.sig_name],
        record.fmt,
        record.adc_gain,
        record.baseline,
        [str(unit) for unit in record.units],
        [None if skew else checksum for skew, checksum in zip(record.skew, record.checksum, strict=True)],
        float(record.fs),
        record.file_name[0],
    )


def _check_size(header: wfdb.Record, path: Path) -> None:
    """The file sizes that the header implies, where the storage format fixes them."""
    for name in dict.fromkeys(header.file_name):
        columns = [at for at, file in enumerate(header.file_name) if file == name]
        formats = {header.fmt[at] for at in columns}
        if len(formats) > 1:
            raise DataError(f"{path}.hea gives {name} the formats {', '.join(sorted(formats))}; a file has one")
        if not formats <= set(BLOCKS):
            continue
        samples, num_bytes = BLOCKS[formats.pop()]
        found, offset = path.with_name(name).stat().st_size, header.byte_offset[columns[0]] or 0
        num = header.sig_len
        if num is None:
            num = (found - offset) * samples // num_bytes // len(columns)
        least = offset - (-num * len(columns) * num_bytes // samples)
        most = offset - (-num * len(columns) // samples) * num_bytes  # the last block may be written whole
        if not least <= found <= most:
            raise DataError(
                f"{path.with_name(name)} has {found:,} bytes where {path.name}.hea implies {least:,}: "
                "truncated, or header and data disagree"
            )


def _check_sums(stored: _Stored, header: Path) -> None:
    """The 16-bit sum of each lead's samples against the header's, where it has one."""
    sums = (stored.samples.sum(axis=0, dtype=np.int64) & 0xFFFF).tolist()
    for name, found, declared in zip(stored.names, sums, stored.checksums, strict=True):
        if declared is not None and found != declared & 0xFFFF:
            raise DataError(
                f"{header.with_name(stored.file)}: lead {name} does not add up to the checksum in {header.name}; "
                "the file is damaged, get it again"
            )


def _find_leads(stored: _Stored, leads: tuple[str, ...], header: Path) -> list[int]:
    """The columns of these leads."""
    names = [name.upper() for name in stored.names]
    missing = [lead for lead in leads if lead.upper() not in names]
    if missing:
        raise DataError(f"{header} has no lead {', '.join(missing)}; it has {', '.join(stored.names)}")
    twice = [lead for lead in leads if names.count(lead.upper()) > 1]
    if twice:
        raise DataError(f"{header} has lead {', '.join(twice)} more than once; name each lead once")
    return [names.index(lead.upper()) for lead in leads]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
