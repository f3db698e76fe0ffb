"""Read the SHA-256 sums that PhysioNet ships beside a data set."""

from __future__ import annotations

from pathlib import Path

from bench.data.text import read_text
from bench.errors import DataError

SUMS = "SHA256SUMS.txt"


def read_sums(path: Path) -> dict[str, str]:
    """Read a SHA256SUMS.txt: path within its folder -> SHA-256 in lower case."""
    return parse_sums(read_text(path), str(path))


def parse_sums(text: str, name: str) -> dict[str, str]:
    """Parse lines `digest path`: path within the folder -> SHA-256. `name` is the source of the text, for messages.

    Raises DataError for a line of another form and for a path outside the folder.
    """
    sums = {}
    for num, line in enumerate(text.splitlines(), start=1):
        digest, _, path = line.partition(" ")
        path = path.strip().removeprefix("*").removeprefix("./")
        parts = path.split("/")
        whole = len(digest) == 64 and set(digest.lower()) <= set("0123456789abcdef")
        if not whole or not path.isprintable() or "\\" in path or {"", ".", ".."} & set(parts) or ":" in parts[0]:
            raise DataError(f"{name}: line {num} is {line[:80]!r}, expected a SHA-256, a space and a relative path")
        sums[path] = digest.lower()
    return sums
