"""Read text files from other programs: with a byte order mark, in UTF-16, or replaced by a pointer or an archive.

Also the characters that are not text.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from bench.errors import DataError
from bench.files import open_file, read_bytes

UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
"""Characters that move a cursor, change the direction of text or are not text: control, bidirectional, surrogates."""
HEAD = 512
"""Number of first bytes from which the kind of a file is recognised."""
INSTEAD = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the file: git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer, not the file: git annex get"),
    (b"\x1f\x8b", "compressed with gzip: gunzip it"),
    (b"BZh", "compressed with bzip2: bunzip2 it"),
    (b"\xfd7zXZ\x00", "compressed with xz: unxz it"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook of the old kind: save the sheet as CSV UTF-8"),
    (b"\x89HDF", "an HDF5 file"),
    (b"MATLAB 5.0 MAT-file", "a MATLAB 5 file"),
    (b"<!doctype html", "a web page, not the file: download it again"),
    (b"<html", "a web page, not the file: download it again"),
)
"""First bytes (those of web pages in lower case) -> kind of the file and what to do."""
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def what_instead(head: bytes) -> str | None:
    """Return the kind of a file that is neither samples nor text, from its first bytes, and what to do; else None."""
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    for magic, description in INSTEAD:
        if head.startswith(magic) or start[: len(magic)].lower() == magic:
            return description
    return None


def refuse_pointer(path: Path, head: bytes | None = None) -> None:
    """Raise DataError if a file is a pointer, compressed, or a web page. `head`: its first bytes, if already read."""
    if head is None:
        with open_file(path) as file:
            head = file.read(HEAD)
    if description := what_instead(head):
        raise DataError(f"{path} is {description}")


def decode(content: bytes, path: Path, fallback: str | None = None) -> str:
    """Decode the bytes of a file: UTF-8, or UTF-16 with a byte order mark. The mark is removed.

    `fallback` is the encoding of bytes that are not UTF-8. Raises DataError with `path` for a pointer, a compressed
    file and, without `fallback`, for bytes that are not text.
    """
    refuse_pointer(path, content[:HEAD])
    try:
        if content in UTF16:
            raise UnicodeDecodeError("utf-16", content, 0, 2, "nothing behind the mark")
        return content.decode("utf-16" if content.startswith(UTF16) else "utf-8-sig")
    except UnicodeDecodeError:
        if fallback is None:
            raise DataError(f"{path} is not a text file in UTF-8; save it so, or get it again") from None
        return content.decode(fallback)


def read_text(path: Path, *, may_be_pipe: bool = False) -> str:
    """Read and decode a text file or pipe, see `read_bytes` and `decode`. Raises DataError if it cannot be read."""
    try:
        return decode(read_bytes(path, may_be_pipe=may_be_pipe), path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
