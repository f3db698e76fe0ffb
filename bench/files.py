"""Write files and folders atomically: complete or not at all. Read regular files only.

All other modules read, write and rename by this module.

A file is written under a temporary name in the same folder, `.NAME.xxxxxxxxxxxx.part`, and renamed. Its writer holds a
lock on it, which the kernel releases when the process dies. A temporary file that is not locked is therefore a
leftover. Not so for one of another machine, whose first four digits differ: some file systems (BeeGFS, Lustre with
`localflock`) show no machine the locks of others. It is a leftover once nothing has changed in it for a day.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from bench.errors import DataError

PART = re.compile(r"\..+\.[0-9a-f]{12}\.part")
"""Temporary names of files and folders that are not complete."""
FOREIGN_S = 24 * 3600
"""Age in seconds at which a temporary file of another machine is a leftover."""
MOST_BYTES = 200
"""Maximum number of bytes of a file's name within its temporary name; file systems allow 255 in total."""
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Error numbers of flock if the file system does not support locks."""
LOCKED = (errno.EAGAIN, errno.EACCES)
"""Error numbers of flock if another process holds the lock."""
LOOK_S = 0.05
"""Seconds between two tries to get a lock."""


class NotAFile(OSError):
    """A path names a pipe, socket or device, where a regular file was expected."""


def require_file(path: Path | str) -> os.stat_result:
    """Return the status of a regular file. Raises NotAFile, or another OSError, for anything else.

    Reading a pipe, socket or device waits for ever or never ends. Call this before a library opens the path.
    """
    status = os.stat(path)  # noqa: PTH116 (readers of many records have plain strings)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile(errno.EINVAL, "it is a pipe, socket or device, expected a regular file", str(path))
    return status


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading. Raises OSError for anything else, see `require_file`."""
    require_file(path)
    return path.open("rb")


def read_bytes(path: Path, *, may_be_pipe: bool = False) -> bytes:
    """Return the content of a regular file. Raises OSError for anything else, see `require_file`.

    `may_be_pipe`: a user named this path to be read once, so it may also be the output of another program.
    """
    with path.open("rb") if may_be_pipe and path.is_fifo() else open_file(path) as file:
        return file.read()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file in hexadecimal digits."""
    return file_hash(path, "sha256")


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """Return a hash of a regular file in hexadecimal digits."""
    with open_file(path) as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def num_bytes(path: Path) -> int:
    """Return the size of a file, or of all files below a folder. What is removed meanwhile counts as nothing."""
    total = 0
    inner = [Path(at) / name for at, _, names in os.walk(path) for name in names]
    for file in inner or [path] * path.is_file():
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def write_whole(path: Path, content: bytes | str, *, fsync: bool = False) -> None:
    """Write a file, text as UTF-8. At any moment, also after a kill, the file is either the old or the new one."""
    with whole_file(path, fsync=fsync) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def write_asked(path: Path, content: bytes | str) -> None:
    """Write a file as `write_whole` does, at a path that a user named. Raises DataError if it cannot be written."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from None


def write_at(path: Path, content: bytes | str) -> Path:
    """Write a file as `write_whole` does, at a path whose folders may be missing. Return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    return path


@contextlib.contextmanager
def whole_file(path: Path, *, fsync: bool = False) -> Iterator[BinaryIO]:
    """Yield a stream. Its bytes become the file `path` if the block succeeds; otherwise they are discarded.

    `fsync`: the file also survives a power cut. If `path` is a link, its target is replaced; to a device or pipe the
    bytes are written directly. An OSError names `path`.
    """
    with _named(path):
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


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Within this context, an OSError about no file, or about a temporary one, names `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None or PART.fullmatch(Path(os.fsdecode(error.filename)).name):
            error.filename, error.filename2 = str(path), None
        raise


@contextlib.contextmanager
def whole_folder(final: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary folder. It is renamed to `final` if the block succeeds, and removed otherwise.

    An existing folder is replaced, which takes two renames. Between them it is named `.NAME.old`; after a kill at that
    moment, the next call restores it first. Without `replace`, a folder that exists at the end is kept instead: another
    process has made the same one, and readers may have opened it.
    """
    old = set_aside(final)
    if old.is_dir() and not final.exists():
        old.rename(final)
    remove_leftovers(final.parent, final.name)
    with _named(final):
        part, lock = _begin(final, is_folder=True)
    try:
        yield part
        if replace or not final.exists():
            replace_folder(part, final)
        else:
            shutil.rmtree(part)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def replace_folder(new: Path, final: Path) -> None:
    """Rename a folder to `final`. An existing folder is set aside before and removed after."""
    old = set_aside(final)
    shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def set_aside(final: Path) -> Path:
    """Return the path `.NAME.old`, at which a folder is kept while another replaces it."""
    return final.with_name(f".{final.name}.old")


def move(path: Path, target: Path) -> None:
    """Rename a file or folder. An existing file `target` is replaced atomically."""
    path.replace(target)


def write_into(folder: Path, name: str, content: bytes | str) -> None:
    """Write a file into a temporary folder. Not atomic: no other process reads it before the folder is renamed."""
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def leftovers(folder: Path, name: str = "") -> Iterator[Path]:
    """Yield the leftovers of killed writers in a folder, each locked meanwhile: those of the file `name`, or all."""
    for path in _parts(folder, _stem(name) if name else "."):
        if (lock := _locked(path)) is None:
            continue
        try:
            yield path
        finally:
            os.close(lock)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the leftovers of killed writers in a folder: those of the file or folder `name`, or all."""
    for path in leftovers(folder, name):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _parts(folder: Path, begin: str) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.name.startswith(begin) and PART.fullmatch(path.name)]
    except OSError:
        return []


def _stem(name: str) -> str:
    return "." + os.fsdecode(os.fsencode(name)[:MOST_BYTES]) + "."


def _begin(target: Path, *, is_folder: bool) -> tuple[Path, int]:
    """Create a temporary file or folder beside `target`. Return its path and its lock, a file descriptor."""
    while True:
        part = target.with_name(f"{_stem(target.name)}{this_machine()}{uuid4().hex[:8]}.part")
        if is_folder:
            part.mkdir(parents=True)
            try:
                lock = os.open(part, os.O_RDONLY)
            except FileNotFoundError:
                continue  # another process removed it as a leftover before it was opened
        else:
            lock = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            with contextlib.suppress(FileNotFoundError):  # the new file gets the permissions of the old one
                os.fchmod(lock, stat.S_IMODE(target.stat().st_mode))
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(part.stat(), os.fstat(lock)):
                return part, lock
        os.close(lock)  # another process removed it as a leftover before it was locked


def _locked(path: Path) -> int | None:
    """Lock a temporary file that no process writes; return the file descriptor. Return None if it cannot be locked."""
    try:
        if path.name[-17:-13] != this_machine() and time.time() - path.stat().st_mtime < FOREIGN_S:
            return None
        lock = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


@functools.cache
def this_machine() -> str:
    """Return four hexadecimal digits that differ between machines, and on Linux between boots of one."""
    return hashlib.sha256(f"{os.uname().nodename} {boot_id()}".encode()).hexdigest()[:4]


def boot_id() -> str:
    """Return what identifies the present boot of this machine; empty if the system does not tell."""
    try:
        return read_bytes(Path("/proc/sys/kernel/random/boot_id")).decode().strip()
    except OSError:
        return ""


class FileLock:
    """An exclusive lock on a file. The kernel releases the lock when the process dies. The file is not removed.

    If the file system does not support locks, every process gets the lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, seconds: float = 0.0) -> bool:
        """Try for this long. Return whether this process has the lock. Raises OSError if the file cannot be opened."""
        deadline = time.monotonic() + seconds
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_S)
        return True

    def _try(self) -> bool:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(file)
                if error.errno in LOCKED:
                    return False
                raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self.path.stat(), os.fstat(file)):
                self._file = file
                return True
        os.close(file)
        return self._try()  # another process removed the file before it was locked

    def release(self) -> None:
        """Release the lock, if this process has it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @contextlib.contextmanager
    def held(self, seconds: float = 0.0) -> Iterator[bool]:
        """Yield the outcome of `acquire`, and release the lock at the end of the block."""
        try:
            yield self.acquire(seconds)
        finally:
            self.release()


class SharedLock:
    """A lock on a file that others may share, held until this object is deleted or its process ends."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError if a process removes the file now, see `locked_alone`, or another OSError."""
        require_file(path)
        self._file = os.open(path, os.O_RDONLY)
        gone = FileNotFoundError(errno.ENOENT, "another process removes it", str(path))
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise gone from None
        except OSError:  # some file systems have no locks; there `locked_alone` yields False
            pass
        if not os.path.samestat(path.stat(), os.fstat(self._file)):  # removed between the two lines above
            raise gone

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)


@contextlib.contextmanager
def locked_alone(path: Path) -> Iterator[bool]:
    """Yield whether no process holds a SharedLock on a file. No process gets one within this context."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(lock)


def create_file(path: Path, content: str) -> bool:
    """Create a file that does not exist yet, with this text. Return False if it exists: of many processes, one creates.

    O_EXCL is exclusive on local disks and on NFS of version 3 and later. A reader may see the file before its text.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(content)
    return True


def allocate(path: Path, num_bytes: int) -> None:
    """Allocate the last bytes of a file on disk. Otherwise a full disk would be a bus error in the memory map."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:  # macOS lacks this call, and some file systems do not support it
            if getattr(error, "errno", None) not in (None, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            file.seek(size - num_bytes)
            for at in range(0, num_bytes, 2**24):
                file.write(bytes(min(2**24, num_bytes - at)))


def from_here(path: Path) -> Path:
    """Return a path below the working folder relative to it, and any other path as it is."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
