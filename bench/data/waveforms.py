"""A WFDB record becomes signals [lead, time] in mV, checked against its header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import wfdb

from bench.errors import DataError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "nv": 1e-6, "v": 1e3}
BYTES_PER_SAMPLE = {"16": 2, "61": 2, "32": 4, "24": 3, "80": 1}
"""WFDB storage formats whose file size follows from the header."""


def read_waveform(path: Path, leads: tuple[str, ...] = LEADS) -> tuple[npt.NDArray[np.float32], int]:
    """Signals [lead, time] in mV in the order of `leads`, found by name, and the rate in Hz.

    `path` has no extension. A sample that the file marks as invalid becomes NaN.
    """
    header, data = path.with_name(path.name + ".hea"), path.with_name(path.name + ".dat")
    try:
        record = wfdb.rdrecord(str(path), physical=False, return_res=32)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename or header} is missing") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OSError, ZeroDivisionError) as error:
        raise DataError(f"{header} and {data.name} cannot be read as a WFDB record: {_first_line(error)}") from None
    if not record.n_sig or not record.sig_len or record.d_signal is None:
        raise DataError(f"{header} declares no signals")
    _check_size(record, path)
    digital = record.d_signal.astype(np.int64)
    for name, values, declared in zip(record.sig_name, digital.T, record.checksum, strict=True):
        if declared is not None and int(values.sum()) & 0xFFFF != declared & 0xFFFF:
            raise DataError(
                f"{data}: lead {name} does not add up to the checksum in {header.name}; the file is damaged"
            )
    position = {name.upper(): at for at, name in enumerate(record.sig_name)}
    missing = [lead for lead in leads if lead.upper() not in position]
    if missing:
        raise DataError(f"{header} has no lead {', '.join(missing)}; it has {', '.join(record.sig_name)}")
    order = [position[lead.upper()] for lead in leads]
    factors = []
    for at in order:
        unit = str(record.units[at])
        if unit.lower() not in MILLIVOLTS:
            raise DataError(f"{header}: lead {record.sig_name[at]} is in {unit!r}, expected mV, uV or V")
        factors.append(MILLIVOLTS[unit.lower()] / record.adc_gain[at])
    baseline = np.array([record.baseline[at] for at in order])
    chosen = digital[:, order]
    signals = (chosen - baseline) * np.array(factors)
    invalid = {"16": -(2**15), "61": -(2**15), "32": -(2**31), "24": -(2**23), "80": -(2**7)}
    for column, at in enumerate(order):
        if (marker := invalid.get(record.fmt[at])) is not None:
            signals[chosen[:, column] == marker, column] = np.nan
    rate = float(record.fs)
    if not rate > 0 or rate != round(rate):
        raise DataError(f"{header}: the sampling rate is {record.fs}, expected a whole number of Hz")
    return np.ascontiguousarray(signals.T, dtype=np.float32), int(rate)


def _check_size(record: wfdb.Record, path: Path) -> None:
    """The file sizes that the header implies, where the storage format fixes them."""
    for name in dict.fromkeys(record.file_name):
        columns = [at for at, file in enumerate(record.file_name) if file == name]
        formats = {record.fmt[at] for at in columns}
        if len(formats) > 1 or not formats <= set(BYTES_PER_SAMPLE):
            continue
        offset = record.byte_offset[columns[0]] or 0
        per_frame = sum(record.samps_per_frame[at] for at in columns) * BYTES_PER_SAMPLE[formats.pop()]
        expected, found = offset + record.sig_len * per_frame, path.with_name(name).stat().st_size
        if expected != found:
            raise DataError(
                f"{path.with_name(name)} has {found:,} bytes where {path.name}.hea implies {expected:,}: "
                "truncated, or header and data disagree"
            )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
