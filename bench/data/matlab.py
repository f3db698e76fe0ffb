"""Copy an array of a MATLAB file into a .npy file, from which a record can be read without the others.

Files of version 5 to 7 are read here, by the specification of The MathWorks (MAT-File Format, R2019b), and those of
version 7.3 are HDF5, which h5py reads. Only numbers are read: no object of the file is built, and no code of it runs.
scipy.io.loadmat is not used, because a damaged file can end the process (segmentation fault, SciPy 1.17).

Memory is that of PART_BYTES, not of the array.
"""

from __future__ import annotations

import contextlib
import errno
import math
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from bench.data.formats import MAX_SAMPLES, library
from bench.errors import DataError, first_line
from bench.files import allocate, open_file

PART_BYTES = 64 * 2**20
"""Bytes of an array that are copied at once."""
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Data type in a file of version 5 -> NumPy's, without the byte order."""
MATRIX, COMPRESSED = 14, 15
"""Data types that hold a variable."""
NUMBERS = ("double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
CLASSES = ("cell", "struct", "object", "char", "sparse", *NUMBERS)
"""MATLAB's classes, by number from 1."""
COMPLEX = 0x0800
"""Flag of a variable with an imaginary part."""
HEADER_BYTES = 4096
"""Bytes in which flags, shape and name of a variable stand: MATLAB's names have up to 63 characters."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk: the copy cannot be written, though the .mat file may be whole."""
PERMUTE = "in MATLAB: x = permute(x, [3 2 1]) exchanges the first axis and the last"


@dataclass(frozen=True)
class Variable:
    """A variable of a file."""

    kind: str
    """MATLAB's class, such as `double`."""
    shape: tuple[int, ...]
    place: Any = None
    """Where its values are: an HDF5 array, or `_Values`."""


@dataclass(frozen=True)
class _Values:
    """Where the values of a variable are in a file of version 5."""

    offset: int
    """Bytes before the values: in the file, or in what its compressed element holds."""
    dtype: str
    compressed_at: int = -1
    """Position of the compressed element in the file; -1 if it is not compressed."""


def copy_array(path: Path, name: str, target: Path, num: int | None = None) -> str:
    """Write an array [record, lead, time] (or with time before lead) of a .mat file to a .npy file.

    `name` is its variable; if empty, the only one with three axes. Return the variable. Raises DataError if the file
    cannot be read, or has no such array of real numbers, or not `num` records; OSError if the copy cannot be written.
    """
    try:
        with open_file(path) as file:
            header = file.read(128)
            if header.startswith((b"MATLAB 7.3 MAT-file", b"\x89HDF")):
                return _copy_hdf5(path, name, target, num)
            if len(header) < 128 or header[126:] not in (b"IM", b"MI"):
                raise DataError(f"{path} is no MATLAB file of version 5 to 7.3; save it with MATLAB's save -v7.3")
            known = dict(_variables(file, path, "<" if header[126:] == b"IM" else ">"))
            chosen = _choose(path, known, name, num, target)
            with _opened(file, path, known[chosen], target) as array:
                _copy(array, target)
            return chosen
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None


def _variables(file: BinaryIO, path: Path, order: str) -> Iterator[tuple[str, Variable]]:
    """Yield name and variable of a file of version 5. `order` is the byte order, `<` or `>`."""
    at, end = 128, path.stat().st_size
    while at + 8 <= end:
        file.seek(at)
        kind, size = struct.unpack(f"{order}II", file.read(8))
        if at + 8 + size > end:
            raise DataError(f"{path} ends within a variable; save or download it again")
        start = file.read(min(size, HEADER_BYTES))
        if kind == COMPRESSED:
            with _inflating(path):
                start = zlib.decompressobj().decompress(start, HEADER_BYTES)[8:]
            yield _variable(start, path, order, 8, at)
        elif kind == MATRIX:
            yield _variable(start, path, order, at + 8)
        at += 8 + size


@contextlib.contextmanager
def _inflating(path: Path) -> Iterator[None]:
    try:
        yield
    except zlib.error as error:
        raise DataError(f"{path} has a damaged variable ({error}); save or download it again") from None


def _variable(start: bytes, path: Path, order: str, offset: int, compressed_at: int = -1) -> tuple[str, Variable]:
    """Return name and variable of an element of type MATRIX, from its first bytes at `offset`."""
    damaged = DataError(f"{path} has a variable without flags, shape or name; save or download it again")
    parts, at = [], 0
    for _ in range(3):
        tag = _tag(start, at, order)
        if tag is None:
            raise damaged
        _, size, begin, after = tag
        parts.append(start[begin : begin + size])
        at = after
    flags, sizes, name = parts
    if len(flags) < 4 or not sizes or len(sizes) % 4 or not name:
        return f"nameless at byte {offset if compressed_at < 0 else compressed_at}", Variable("unknown", ())
    (bits,) = struct.unpack(f"{order}I", flags[:4])
    number = bits & 0xFF
    kind = CLASSES[number - 1] if 1 <= number <= len(CLASSES) else "object"
    kind = "complex " * bool(bits & COMPLEX) + kind
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    text = "".join(char if char.isprintable() else "?" for char in name.decode("latin-1"))
    values = _tag(start, at, order)
    if kind not in NUMBERS or values is None or values[0] not in STORED or min(shape) < 0:
        return text, Variable(kind, shape)
    stored, size, begin, _ = values
    if math.prod(shape) * int(STORED[stored][1]) != size:
        raise DataError(f"{path}: {text} has {size:,} bytes and the shape {list(shape)}; save or download it again")
    place = _Values(begin + offset, order + STORED[stored], compressed_at)
    return text, Variable(kind, shape, place)


def _tag(data: bytes, at: int, order: str) -> tuple[int, int, int, int] | None:
    """Return a tag: data type, bytes, begin of the data, end with padding. None if `data` ends before it."""
    if at + 8 > len(data):
        return None
    kind, size = struct.unpack(f"{order}II", data[at : at + 8])
    if kind >> 16:  # small element: type and size share four bytes, and up to four bytes of data follow
        return kind & 0xFFFF, kind >> 16, at + 4, at + 8
    return kind, size, at + 8, at + 8 + (size + 7) // 8 * 8


@contextlib.contextmanager
def _opened(file: BinaryIO, path: Path, variable: Variable, target: Path) -> Iterator[npt.NDArray[Any]]:
    """Yield the array of a file of version 5, memory-mapped; a compressed one from a temporary file beside `target`."""
    values: _Values = variable.place
    if values.compressed_at < 0:
        if values.offset + math.prod(variable.shape) * np.dtype(values.dtype).itemsize > path.stat().st_size:
            raise DataError(f"{path} ends within a variable; save or download it again")
        yield np.memmap(path, values.dtype, "r", values.offset, variable.shape, order="F")
        return
    raw = target.with_suffix(".raw")
    try:
        _inflate(file, path, values, raw)
        if raw.stat().st_size < values.offset + math.prod(variable.shape) * np.dtype(values.dtype).itemsize:
            raise DataError(f"{path} has a compressed variable that ends too early; save or download it again")
        yield np.memmap(raw, values.dtype, "r", values.offset, variable.shape, order="F")
    finally:
        raw.unlink(missing_ok=True)


def _inflate(file: BinaryIO, path: Path, values: _Values, raw: Path) -> None:
    """Write what a compressed element holds to a file."""
    file.seek(values.compressed_at + 4)
    (left,) = struct.unpack(f"{values.dtype[0]}I", file.read(4))
    stream = zlib.decompressobj()
    with raw.open("wb") as out, _inflating(path):
        while left > 0 and not stream.eof:
            data = file.read(min(left, PART_BYTES))
            left -= len(data)
            while data and not stream.eof:
                out.write(stream.decompress(data, PART_BYTES))
                data = stream.unconsumed_tail


def _copy_hdf5(path: Path, name: str, target: Path, num: int | None) -> str:
    """Copy from a file of version 7.3, where HDF5 has the axes in reverse order."""
    h5py = library("h5py", "hdf5")
    try:
        with h5py.File(path, "r") as file:
            known = {
                each: Variable(_class_of(item), tuple(reversed(item.shape)), item)
                for each, item in file.items()
                if isinstance(item, h5py.Dataset) and item.shape is not None
            }
            chosen = _choose(path, known, name, num, target)
            _copy(known[chosen].place, target, is_reversed=True)
            return chosen
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        if getattr(error, "errno", None) in FULL:
            raise
        reason = first_line(error)
        raise DataError(f"{path} cannot be read as HDF5: {reason}") from None


def _class_of(item: Any) -> str:
    """Return MATLAB's class of an HDF5 array; without one, `double` for numbers."""
    if item.dtype.kind not in "iuf":
        return "complex or another"
    given = item.attrs.get("MATLAB_class", b"double")
    return given.decode(errors="replace") if isinstance(given, bytes) else str(given)


def _copy(array: Any, target: Path, *, is_reversed: bool = False) -> None:
    """Write an array to a .npy file, some records at once. `is_reversed`: its axes are [time, lead, record].

    Raises OSError if the disk is full.
    """
    shape = tuple(reversed(array.shape)) if is_reversed else array.shape
    copy = np.lib.format.open_memmap(target, mode="w+", dtype=array.dtype.newbyteorder("="), shape=shape)
    allocate(target, copy.nbytes)
    step = max(1, PART_BYTES // (math.prod(shape[1:]) * array.dtype.itemsize))
    for first in range(0, shape[0], step):
        part = slice(first, first + step)
        copy[part] = array[..., part].T if is_reversed else array[part]
    copy.flush()


def _choose(path: Path, known: Mapping[str, Variable], name: str, num: int | None, target: Path) -> str:
    """Return the variable to read: `name`, or the only array of numbers with three axes. Raises DataError if none.

    Sizes are checked here, also against the disk of `target`: those of a damaged file may be of any size.
    """
    fit = [each for each, variable in known.items() if _fits(variable.kind, variable.shape) and variable.place]
    chosen = name or (fit[0] if len(fit) == 1 else "")
    if chosen in fit:
        shape = known[chosen].shape
        if num is not None and shape[0] != num:
            hint = f"; {PERMUTE}" if shape[-1] == num else ", or the places of the table's records with --row"
            raise DataError(f"{path}: {chosen} is {list(shape)}, expected {num:,} records on its first axis{hint}")
        if math.prod(shape[1:]) > MAX_SAMPLES:
            raise DataError(
                f"{path}: {chosen} is {list(shape)}, expected [record, lead, time] of some seconds; {PERMUTE}"
            )
        if 8 * math.prod(shape) > (free := shutil.disk_usage(target.parent).free):
            raise DataError(
                f"{path}: {chosen} is {list(shape)}, and {free:,} bytes of disk are free for its copy; make room, or "
                "choose another folder with --out"
            )
        return chosen
    shown = [f"{each[:40]} ({a.kind} {'x'.join(map(str, a.shape))})" for each, a in list(known.items())[:8]]
    wanted = f"has no array {name[:40]!r} of numbers" if name else f"has {len(fit) or 'no'} arrays of numbers"
    hint = "name it with --array" if fit else "cells, structs and complex numbers are not read; see cat, permute"
    raise DataError(f"{path} {wanted} [record, lead, time]; it has {', '.join(shown) or 'no variable'}; {hint}")


def _fits(kind: str, shape: Sequence[int]) -> bool:
    return kind in NUMBERS and len(shape) == 3 and min(shape) > 0
