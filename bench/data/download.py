"""Download PTB-XL from PhysioNet: resume after interruptions and check the SHA-256 of every file.

A file is written as .NAME.part in its folder and renamed when its SHA-256 is the published one. The two tables are
written last, so a folder counts as a data set only when all requested files are there.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urljoin

from bench.data.checksums import SUMS, parse_sums
from bench.data.connection import FIRST_WAIT_S, Downloader, checked_url
from bench.data.datasets.ptbxl import FILENAMES, STATEMENTS, TABLE
from bench.errors import DataError
from bench.files import FileLock, file_sha256, write_whole

MIRRORS = {
    "physionet": "https://physionet.org/files/ptb-xl/{version}/",
    "aws": "https://physionet-open.s3.amazonaws.com/ptb-xl/{version}/",
}
"""Name -> URL of a server with PTB-XL. Any other mirror is given as the URL of a folder with the same files."""
LICENSE = "LICENSE.txt"
NUM_CONNECTIONS = 8
DISK_BYTES = {"records100": 24_576, "records500": 122_880}
"""Size of a .dat file on disk, in blocks of 4 KiB: 12 leads of 2 bytes for 10 s. SHA256SUMS.txt gives no sizes."""
HEADER_BYTES, TABLE_BYTES = 4_096, 8_000_000
"""Size of a .hea file on disk, and an upper bound for all other files."""
Progress = Callable[[int, int, float], None]
"""Callback with the number of files done, the number of all files, and the mean speed in bytes per second."""


@dataclass(frozen=True)
class Downloaded:
    """The outcome of a download."""

    folder: Path
    mirror: str
    num_files: int
    """Number of files in the folder, each with the published SHA-256."""
    num_fetched: int
    num_bytes: int
    """Number of bytes received."""
    repaired: tuple[str, ...]
    """Files that had another SHA-256 and were replaced."""

    def as_data(self) -> dict[str, str | int]:
        """Return the outcome as plain data."""
        return {
            "from": self.mirror,
            "files": self.num_files,
            "fetched": self.num_fetched,
            "bytes": self.num_bytes,
            "repaired": len(self.repaired),
        }


def download(
    folder: Path,
    version: str = "1.0.3",
    rates: Sequence[int] = (100, 500),
    mirror: str = "physionet",
    progress: Progress = lambda done, total, speed: None,
    *,
    first_wait_s: float = FIRST_WAIT_S,
) -> Downloaded:
    """Download the files of PTB-XL that `folder` lacks: the tables, and the signals at these rates in Hz (may be none).

    Raises DataError if the mirror cannot be reached or lacks a file, a file is still wrong after TRIES attempts, the
    disk is too small, or the folder holds another data set. Complete files are kept, and the next call downloads the
    rest.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise DataError(f"--version {version!r} is no version of PTB-XL, expected one such as 1.0.3")
    if unknown := set(rates) - FILENAMES.keys():
        raise DataError(f"PTB-XL has signals at 100 and 500 Hz, not at {', '.join(map(str, sorted(unknown)))} Hz")
    base = _address(mirror, version)
    began = time.monotonic()
    with _own_folder(folder), Downloader("name another --version or --mirror", first_wait_s) as downloader:
        text = downloader.text(urljoin(base, SUMS))
        sums = parse_sums(text, urljoin(base, SUMS))
        wanted = [name for rate in sorted(set(rates)) for name in sorted(sums) if name.startswith(f"records{rate}/")]
        tables = [STATEMENTS, TABLE]
        if lacking := [name for name in tables if name not in sums]:
            raise DataError(f"{urljoin(base, SUMS)} does not list {lacking[0]}; name the folder of a PTB-XL version")
        if len(wanted) < len(set(rates)):
            raise DataError(f"{urljoin(base, SUMS)} lists no signals at {' and '.join(map(str, rates))} Hz")
        # only files that are missing or wrong are downloaded, so that the same command resumes
        _refuse_other(folder, sums)
        wanted += [LICENSE] if LICENSE in sums else []
        lacking, repaired = _not_there(folder, [*wanted, *tables], sums)
        _check_space(folder, lacking)
        num_all = len(wanted) + len(tables)
        num_done = num_all - len(lacking)
        progress(num_done, num_all, 0.0)
        counted = threading.Lock()

        def fetch(name: str) -> None:
            nonlocal num_done
            downloader.file(urljoin(base, quote(name)), folder / name, sums[name])
            with counted:
                num_done += 1
                progress(num_done, num_all, downloader.num_bytes / max(time.monotonic() - began, 1e-3))

        # the tables last: a folder with both counts as a data set
        _in_parallel(fetch, [name for name in lacking if name not in tables], downloader.stop)
        write_whole(folder / SUMS, text.encode())
        for name in tables:
            if name in lacking:
                fetch(name)
    return Downloaded(folder, base, num_all, len(lacking), downloader.num_bytes, tuple(repaired))


def parse_rates(text: str) -> tuple[int, ...]:
    """Parse a list of rates in Hz such as `100,500`."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) in FILENAMES for part in parts):
        raise DataError(f"--rates is 100, 500 or 100,500, got {text!r}")
    return tuple(dict.fromkeys(map(int, parts)))


def _address(mirror: str, version: str) -> str:
    """Return the URL of a version's folder, with a slash at the end."""
    address = MIRRORS[mirror].format(version=version) if mirror in MIRRORS else mirror
    return checked_url(address, f"--mirror is one of {', '.join(MIRRORS)} or").rstrip("/") + "/"


@contextmanager
def _own_folder(folder: Path) -> Iterator[None]:
    """Create the folder and lock it against other downloads. Remove it at the end if it is new and empty."""
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock").held() as is_ours:
            if not is_ours:
                raise DataError(f"another download is writing into {folder}; wait for it, or name another folder")
            try:
                yield
            finally:
                (folder / ".download.lock").unlink(missing_ok=True)
    except FileExistsError:
        raise DataError(f"{folder} is a file; name a folder") from None
    except OSError as error:
        raise DataError(
            f"cannot write into {folder}: {error.strerror}; what was received is kept; "
            "give the same command again to go on"
        ) from None
    finally:
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _refuse_other(folder: Path, sums: dict[str, str]) -> None:
    """Raise DataError if the folder holds another data set. A table is never overwritten."""
    for name in (TABLE, STATEMENTS):
        if (folder / name).exists() and file_sha256(folder / name) != sums[name]:
            raise DataError(
                f"{folder / name} is not that of this version; name another folder, or remove it to download again"
            )


def _not_there(folder: Path, names: Sequence[str], sums: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the files to download, and those of them that exist with a wrong SHA-256."""
    missing, wrong = [], []
    for name in names:
        if not (folder / name).is_file():
            missing.append(name)
        elif file_sha256(folder / name) != sums[name]:
            wrong.append(name)
    return [name for name in names if name in {*missing, *wrong}], wrong


def _check_space(folder: Path, names: Sequence[str]) -> None:
    needed = sum(_disk_bytes(name) for name in names)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder} needs {needed / 1e9:.2f} GB more and its disk has {free / 1e9:.2f} GB free; "
            "free some, name another folder, or take one rate: --rates 100 needs 0.63 GB"
        )


def _disk_bytes(name: str) -> int:
    return HEADER_BYTES if name.endswith(".hea") else DISK_BYTES.get(name.partition("/")[0], TABLE_BYTES)


def _in_parallel(fetch: Callable[[str], None], names: Sequence[str], stop: Callable[[], None]) -> None:
    """Download files on NUM_CONNECTIONS threads. The first error or Ctrl-C stops all of them."""
    with ThreadPoolExecutor(NUM_CONNECTIONS, thread_name_prefix="download") as pool:
        futures = [pool.submit(fetch, name) for name in names]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:
            stop()
            pool.shutdown(cancel_futures=True)
            raise
