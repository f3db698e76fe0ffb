"""A WFDB header becomes numbers: how many samples of which leads lie where, in which format and at which gain.

Fields are those of https://physionet.org/physiotools/wag/header-5.htm. What no reader of this project uses (the
record's own name, time and date, the counter) may be of any form: real files have years alone, 24:00:00 or a name that
ends in .mat there.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import NamedTuple

from bench.data.text import decode, refuse_pointer
from bench.errors import DataError

DEFAULT_GAIN = 200.0
"""Units of a sample per mV where a header gives no gain, or 0: the standard's."""
MAX_DIGITS = 15
"""Of a whole number: more are no number of samples, and would not fit into 64 bits."""
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
    """What the samples of one signal stand for."""

    fmt: str
    """The standard's number of a storage format."""
    gain: float
    """Sample units per `unit`; 0 where none is given."""
    baseline: int
    """The sample that stands for 0 `unit`."""
    unit: str
    lead: str


class Channel(NamedTuple):
    """What a line of a header says of one signal."""

    file: str
    frame: int
    """Samples a frame."""
    skew: int
    """Samples by which it lags behind."""
    offset: int
    """Bytes before the first sample."""
    first: int
    """The first sample, from which format 8 counts on."""
    checksum: int | None
    scale: Scale


class Header(NamedTuple):
    """What a header says."""

    path: Path
    """Of the header file."""
    rate: float
    """Hz"""
    length: int | None
    """Samples of a lead, or None where the file's size gives it."""
    channels: tuple[Channel, ...]


def read_header(path: Path) -> Header:
    """Read the header of one record with one rate for all leads; `path` is the header file.

    Raises DataError that names the line for what is no header, and for what this project does not read: several
    segments, several samples a frame. Raises FileNotFoundError if it is missing.
    """
    content = path.read_bytes()
    # comments may be in any encoding; nearly all headers are ASCII, and then what else they may be need not be asked
    text = content.decode("ascii") if content.isascii() else decode(content, path, fallback="latin-1")
    lines = [(at, line) for at, line in enumerate(map(str.strip, text.splitlines()), 1) if line and line[0] != "#"]
    if not lines:
        raise DataError(f"{path} declares no signals: it has no record line")
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
    channels = []
    for at, line in lines[1:]:
        channel = _parse_channel(line)
        if channel is None:
            raise _unreadable(path, at, line, "a signal line such as A0001.dat 16 1000/mV 16 0 0 0 0 V1")
        channels.append(channel)
    _check(channels, path)
    return Header(path, float(record["rate"]), length or None, tuple(channels))


def _parse_channel(line: str) -> Channel | None:
    """What a signal line says, its missing fields as the standard has them; None if it is none."""
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
    """The numbers of these fields, which the leads of most records of a dataset share."""
    return Scale(fmt, float(gain or 0), int(baseline or 0), unit or "mV", (lead or "").strip())


def _check(channels: list[Channel], path: Path) -> None:
    """Raise DataError for channels that cannot be read, or whose file is not in the header's own folder."""
    formats: dict[str, set[str]] = {}
    for channel in channels:
        if "/" in channel.file or "\\" in channel.file or channel.file in (".", "..", "~"):
            raise DataError(f"{path} names {channel.file[:80]!r} for its samples, expected a file beside it")
        if channel.frame != 1:
            raise DataError(f"{path} has leads with several samples a frame; expected one rate for all leads")
        if not -(2**31) <= channel.scale.baseline < 2**31:
            raise DataError(f"{path}: a baseline is beyond 32 bits; mend the header")
        formats.setdefault(channel.file, set()).add(channel.scale.fmt)
    for file, found in formats.items():
        if len(found) > 1:
            raise DataError(f"{path} gives {file} the formats {', '.join(sorted(found))}; a file has one")


def _unreadable(path: Path, at: int, line: str, expected: str) -> DataError:
    return DataError(f"{path} cannot be read as a WFDB record: line {at} is {line[:80]!r}, expected {expected}")
