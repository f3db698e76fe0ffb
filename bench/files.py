"""Whole files and folders or none: the only place that writes, renames and replaces.

A file is written under a temporary name beside its own, `.NAME.xxxxxxxx.part`, and renamed. Its writer holds a lock on
it, which the kernel releases when the process dies: what cannot be locked is being written, the rest is left over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")
"""The names of what is not whole yet."""
MOST_BYTES = 200
"""Of a file's name in the temporary one: file systems take 255."""


def write_whole(path: Path, content: bytes | str, *, fsync: bool = False) -> None:
    """Write a file, text as UTF-8. It is the old one or the new one at any moment, also after a kill."""
    with whole_file(path, fsync=fsync) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole_file(path: Path, *, fsync: bool = False) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file `path` when the block ends well; nothing is left of it otherwise.

    `fsync`: also after a power cut. A link stays one, and a device or pipe is written to. An OSError names `path`.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as stream:
                yield stream
            return
        target = Path(os.path.realpath(path))
        remove_leftovers(target.parent, target.name)
        part, lock = _begin(target, is_folder=False)
        try:
            with os.fdopen(os.dup(lock), "wb") as stream:
                yield stream
                stream.flush()
                if fsync:
                    os.fsync(lock)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            os.close(lock)
    except OSError as error:
        if error.filename is None or PART.fullmatch(Path(os.fsdecode(error.filename)).name):
            error.filename, error.filename2 = str(path), None
        raise


@contextlib.contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """A temporary folder that takes the name `final` when the block ends well, and is removed otherwise.

    A folder that is there is replaced. Between the two renames that this needs it stands beside as `.NAME.old`; after a
    kill there, the next call puts it back first.
    """
    old = set_aside(final)
    if old.is_dir() and not final.exists():
        old.rename(final)
    remove_leftovers(final.parent, final.name)
    part, lock = _begin(final, is_folder=True)
    try:
        yield part
        replace_folder(part, final)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def replace_folder(new: Path, final: Path) -> None:
    """Give a folder its final name; one that has it is set aside first and then removed."""
    old = set_aside(final)
    shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def set_aside(final: Path) -> Path:
    """Where a folder stands while another takes its name."""
    return final.with_name(f".{final.name}.old")


def move(path: Path, target: Path) -> None:
    """Rename a file or folder; a file of the name `target` is replaced at once."""
    path.replace(target)


def write_into(folder: Path, name: str, content: bytes | str) -> None:
    """Write a file of a folder that is not whole yet: nobody reads it before the folder has its name."""
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove what killed writers have left in a folder: of the file or folder `name`, or of all."""
    for path in _parts(folder, _stem(name) if name else "."):
        if (lock := _locked(path)) is None:
            continue
        try:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        finally:
            os.close(lock)


def _parts(folder: Path, begin: str) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.name.startswith(begin) and PART.fullmatch(path.name)]
    except OSError:
        return []


def _stem(name: str) -> str:
    return "." + os.fsdecode(os.fsencode(name)[:MOST_BYTES]) + "."


def _begin(target: Path, *, is_folder: bool) -> tuple[Path, int]:
    """A new temporary file or folder beside `target`, and its lock, a file descriptor."""
    while True:
        part = target.with_name(f"{_stem(target.name)}{uuid4().hex[:8]}.part")
        if is_folder:
            part.mkdir(parents=True)
            lock = os.open(part, os.O_RDONLY)
        else:
            lock = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            with contextlib.suppress(FileNotFoundError):  # who may read the old file may read the new one
                os.fchmod(lock, stat.S_IMODE(target.stat().st_mode))
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(part.stat(), os.fstat(lock)):
                return part, lock
        os.close(lock)  # taken for left over before it was locked


def _locked(path: Path) -> int | None:
    """The lock of what nobody writes, a file descriptor; None where somebody does, or that cannot be known."""
    try:
        lock = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
