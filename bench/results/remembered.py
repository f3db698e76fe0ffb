"""Keep what boards compute in the cache folder, under a hash of all that it follows from.

The hash covers the source of `bench` and the versions of NumPy and SciPy, so nothing outlives the code that computed
it. An entry begins with its own SHA-256. An entry that is damaged, cut off or unreadable counts as absent, and the
folder may be deleted at any time: then everything is computed again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import bench
from bench.data.cache import cache_folder
from bench.files import read_bytes, write_at

LIMIT_BYTES = 2**30
"""Maximum size of all entries in bytes. Beyond it, those that were not used for longest are removed."""
DIGEST = hashlib.sha256().digest_size


def key_of(*facts: object) -> str:
    """Return the key of a value that follows from these facts (plain data) and from the code of `bench`."""
    return hashlib.sha256(json.dumps([_code(), *facts], sort_keys=True, default=str).encode()).hexdigest()


@functools.cache
def _code() -> list[str]:
    """Return what every value follows from: a hash of the source of `bench`, versions, and the kind of processor."""
    digest, root = hashlib.sha256(), Path(bench.__file__).parent
    for file in sorted(root.rglob("*.py")):
        content = read_bytes(file)
        digest.update(f"{file.relative_to(root)} {len(content)}\n".encode())
        digest.update(content)
    return [digest.hexdigest(), version("numpy"), version("scipy"), platform.machine()]


def recall(key: str) -> bytes | None:
    """Return the content that was kept under a key; None if there is none, or if it is damaged."""
    path = _path(key)
    try:
        entry = read_bytes(path)
        os.utime(path)  # time of last use, which decides what is removed
    except OSError:
        return None
    content = entry[DIGEST:]
    return content if hashlib.sha256(content).digest() == entry[:DIGEST] else None


def keep(key: str, content: bytes) -> None:
    """Keep content under a key. A folder that cannot be written is no error: then nothing is kept."""
    path = _path(key)
    with contextlib.suppress(OSError):
        _make_room()
        write_at(path, hashlib.sha256(content).digest() + content)


def _path(key: str) -> Path:
    return cache_folder() / "boards" / key[:2] / key[2:34]  # many small folders, because each is listed when written


@functools.cache
def _make_room() -> None:
    """Remove the entries that were not used for longest beyond LIMIT_BYTES; once in a process."""
    entries = []
    for path in (cache_folder() / "boards").glob("??/*"):
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            entries.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= LIMIT_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= size
