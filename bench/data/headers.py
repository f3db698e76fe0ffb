"""Parse WFDB headers: number of samples, leads, files, storage formats and gains.

The fields are specified at https://physionet.org/physiotools/wag/header-5.htm. Fields that this project does not use
(name of the record, time, date, counter) may have any form, because real files contain a year alone, 24:00:00 or a name
that ends in .mat.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import NamedTuple

from bench.data.text import decode, refuse_pointer
from bench.errors import DataError
from bench.files import read_bytes

DEFAULT_GAIN = 200.0
"""Sample units per mV if a header gives no gain or 0; from the specification."""
MAX_DIGITS = 15
"""Maximum number of digits of an integer; larger values are errors and might not fit into 64 bits."""
_RECORD = re.compile(
    r"""(?P<name>[^\s/]+)(?:/(?P<segments>\d{1,9}))?
    [ \t]+(?P<num>\d{1,9})
    (?:[ \t]+(?P<rate>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)(?:/\S*|\(\S*)?)?
    (?:[ \t]+(?P<length>\d+))?
    (?:[ \t]+(?P<unused>.*))?""",
    re.VERBOSE,
)
_SIGNAL = re.compile(
    r"""(?P<file>\S+)
    [ \t]+(?P<fmt>\d{1,4})(?:x(?P<frame>\d{1,9}))?(?::(?P<skew>\d{1,9}))?(?:\+(?P<offset>\d{1,15}))?
    (?:[ \t]+(?P<gain>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\((?P<baseline>-?\d{1,15})\))?(?:/(?P<unit>\S+))?
    (?:[ \t]+(?P<resolution>\d{1,9})
    (?:[ \t]+(?P<zero>-?\d{1,15})
    (?:[ \t]+(?P<first>-?\d{1,15})
    (?:[ \t]+(?P<checksum>-?\d{1,15})
    (?:[ \t]+(?P<block>\d{1,15})
    )?)?)?)?)?)?
    (?:[ \t]+(?P<lead>.*))?""",
    re.VERBOSE,
)


class Scale(NamedTuple):
    """How the samples of one signal are stored and converted to a physical unit."""

    fmt: str
    """Storage format, as numbered in the specification."""
    gain: float
    """Sample units per `unit`; 0 if the header gives none."""
    baseline: int
    """Sample value at 0 `unit`."""
    unit: str
    lead: str


class Channel(NamedTuple):
    """The header line of one signal."""

    file: str
    frame: int
    """Samples per frame."""
    skew: int
    """Delay of the signal in samples."""
    offset: int
    """Number of bytes before the first sample."""
    first: int
    """First sample. Format 8 stores differences from it."""
    checksum: int | None
    scale: Scale


class Header(NamedTuple):
    """What a header says."""

    path: Path
    """Path of the header file."""
    rate: float
    """Hz"""
    length: int | None
    """Samples per lead; None if only the file's size tells it."""
    channels: tuple[Channel, ...]


def read_header(path: Path) -> Header:
    """Read the header of one record with one rate for all leads; `path` is the header file.

    Raises DataError with the line if the file is not a valid header, or has several segments or several samples per
    frame, which are not supported. Raises FileNotFoundError if it is missing.
    """
    content = read_bytes(path)
    # comments may be in any encoding; the check for ASCII is fast, and nearly all headers are ASCII
    text = content.decode("ascii") if content.isascii() else decode(content, path, fallback="latin-1")
    lines = [(at, line) for at, line in enumerate(map(str.strip, text.splitlines()), 1) if line and line[0] != "#"]
    if not lines:
        raise DataError(f"{path} declares no signals: it has no record line")
    # the record line: name, number of signals, rate and length
    record = _RECORD.fullmatch(lines[0][1])
    if record is None:
        refuse_pointer(path, content)
    if record is None or len(record["length"] or "") > MAX_DIGITS:
        raise _unreadable(path, *lines[0], "a record line such as A0001 12 500 5000")
    if record["segments"] is not None:
        names = ", ".join(line.split()[0] for _, line in lines[1:5])
        raise DataError(f"{path} is a record of several segments; name one of them: {names}")
    num, length = int(record["num"]), record["length"] and int(record["length"])
    if num == 0 or length == 0:
        raise DataError(f"{path} declares no signals")
    if num != len(lines) - 1:
        raise DataError(f"{path} declares {num} signals and describes {len(lines) - 1}")
    if record["rate"] is None:
        raise DataError(f"{path} declares no sampling rate; write it behind the number of signals, in Hz")
    # one line per signal
    channels = []
    for at, line in lines[1:]:
        channel = _parse_channel(line)
        if channel is None:
            raise _unreadable(path, at, line, "a signal line such as A0001.dat 16 1000/mV 16 0 0 0 0 V1")
        channels.append(channel)
    _check(channels, path)
    return Header(path, float(record["rate"]), length or None, tuple(channels))


def _parse_channel(line: str) -> Channel | None:
    """Parse a signal line; missing fields get the specification's defaults. Return None for a line of another form."""
    match = _SIGNAL.fullmatch(line)
    if match is None or (match["gain"] is None and re.search(r"[(/]", match["lead"] or "")):
        return None  # a gain of another form would be taken for the lead's name
    file, fmt, frame, skew, offset, gain, baseline, unit, _, zero, first, checksum, _, lead = match.groups()
    middle = int(zero or 0)
    return Channel(
        file,
        1 if frame is None else int(frame),
        int(skew or 0),
        int(offset or 0),
        middle if first is None else int(first),
        None if checksum is None else int(checksum),
        _scale(fmt, gain, baseline or zero, unit, lead),
    )


@functools.lru_cache(maxsize=1024)
def _scale(fmt: str, gain: str | None, baseline: str | None, unit: str | None, lead: str | None) -> Scale:
    """Convert these fields to numbers. Cached, because most records of a dataset have the same fields."""
    return Scale(fmt, float(gain or 0), int(baseline or 0), unit or "mV", (lead or "").strip())


def _check(channels: list[Channel], path: Path) -> None:
    """Raise DataError if a channel cannot be read or its file is not in the folder of the header."""
    formats: dict[str, set[str]] = {}
    for channel in channels:
        if "/" in channel.file or "\\" in channel.file or channel.file in (".", "..", "~"):
            raise DataError(f"{path} names {channel.file[:80]!r} for its samples, expected a file in the same folder")
        if channel.frame != 1:
            raise DataError(f"{path} has leads with several samples a frame; expected one rate for all leads")
        if not -(2**31) <= channel.scale.baseline < 2**31:
            raise DataError(f"{path}: a baseline does not fit into 32 bits; correct the header")
        formats.setdefault(channel.file, set()).add(channel.scale.fmt)
    for file, names in formats.items():
        if len(names) > 1:
            raise DataError(f"{path} gives {file} the formats {', '.join(sorted(names))}; a file has one format")


def _unreadable(path: Path, at: int, line: str, expected: str) -> DataError:
    return DataError(f"{path} cannot be read as a WFDB record: line {at} is {line[:80]!r}, expected {expected}")
