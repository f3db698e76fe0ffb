"""Download PTB-XL from PhysioNet: resume after interruptions and check the SHA-256 of every file.

A file is written as .NAME.part in its folder and renamed when its SHA-256 is the published one. The two tables are
written last, so a folder counts as a data set only when all requested files are there.
"""

from __future__ import annotations

import base64
import email.utils
import errno
import hashlib
import http.client
import itertools
import random
import re
import shutil
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from filelock import FileLock, Timeout

import bench
from bench.data.checksums import SUMS, parse_sums
from bench.data.datasets.ptbxl import FILENAMES, STATEMENTS, TABLE
from bench.errors import DataError
from bench.files import move, write_whole

T = TypeVar("T")
MIRRORS = {
    "physionet": "https://physionet.org/files/ptb-xl/{version}/",
    "aws": "https://physionet-open.s3.amazonaws.com/ptb-xl/{version}/",
}
"""Name -> URL of a server with PTB-XL. Any other mirror is given as the URL of a folder with the same files."""
LICENSE = "LICENSE.txt"
NUM_CONNECTIONS = 8
TRIES = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 120.0
"""Seconds to wait after the first failure (doubled after each other one), and their maximum."""
SOCKET_TIMEOUT_S = 30.0
PIECE = 1 << 16
"""Number of bytes read at a time."""
MAX_REDIRECTIONS = 5
OF_THE_DISK = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR}
)
"""Error numbers of file operations, not of the network."""
DISK_BYTES = {"records100": 24_576, "records500": 122_880}
"""Size of a .dat file on disk, in blocks of 4 KiB: 12 leads of 2 bytes for 10 s. SHA256SUMS.txt gives no sizes."""
HEADER_BYTES, TABLE_BYTES = 4_096, 8_000_000
"""Size of a .hea file on disk, and an upper bound for all other files."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses of temporary errors."""
Progress = Callable[[int, int, float], None]
"""Callback with the number of files done, the number of all files, and the mean speed in bytes per second."""


class _Passing(Exception):
    """A temporary error. `wait_s` is the wait in seconds that the server asks for, if it asks for one."""

    def __init__(self, what: str, wait_s: float | None = None) -> None:
        super().__init__(what)
        self.wait_s = wait_s


class _Stopped(Exception):
    """Another connection has failed, or the user stopped the download."""


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


@dataclass
class _Tally:
    """Count the bytes that all connections have received."""

    num_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, num: int) -> None:
        with self.lock:
            self.num_bytes += num


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
    began, tally, stop, local = time.monotonic(), _Tally(), threading.Event(), threading.local()
    with _own_folder(folder), ExitStack() as connections:

        def connection() -> _Connection:
            """Return the connection of the current thread."""
            if not hasattr(local, "connection"):
                local.connection = _Connection(tally, stop, first_wait_s)
                connections.callback(local.connection.close)
            made: _Connection = local.connection
            return made

        text = connection().text(urljoin(base, SUMS))
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
            connection().file(urljoin(base, quote(name)), folder / name, sums[name])
            with counted:
                num_done += 1
                progress(num_done, num_all, tally.num_bytes / max(time.monotonic() - began, 1e-3))

        # the tables last: a folder with both counts as a data set
        _in_parallel(fetch, [name for name in lacking if name not in tables], stop)
        write_whole(folder / SUMS, text.encode())
        for name in tables:
            if name in lacking:
                fetch(name)
    return Downloaded(folder, base, num_all, len(lacking), tally.num_bytes, tuple(repaired))


def parse_rates(text: str) -> tuple[int, ...]:
    """Parse a list of rates in Hz such as `100,500`."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) in FILENAMES for part in parts):
        raise DataError(f"--rates is 100, 500 or 100,500, got {text!r}")
    return tuple(dict.fromkeys(map(int, parts)))


def _address(mirror: str, version: str) -> str:
    """Return the URL of a version's folder, with a slash at the end."""
    address = MIRRORS[mirror].format(version=version) if mirror in MIRRORS else mirror
    return _checked(address, f"--mirror is one of {', '.join(MIRRORS)} or").rstrip("/") + "/"


def _checked(url: str, what: str) -> str:
    """Return the URL if it is https, or http on this machine; else raise DataError. `what` begins the message."""
    try:
        parts = urlsplit(url)
        own = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
        good = bool(parts.hostname) and (parts.scheme == "https" or own) and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        raise DataError(f"{what} the https:// address of a folder, got {url!r}")
    return url


@contextmanager
def _own_folder(folder: Path) -> Iterator[None]:
    """Create the folder and lock it against other downloads. Remove it at the end if it is new and empty."""
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".download.lock", timeout=0)
        with lock:
            try:
                yield
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        raise DataError(f"another download is writing into {folder}; wait for it, or name another folder") from None
    except FileExistsError:
        raise DataError(f"{folder} is a file; name a folder") from None
    except OSError as error:
        if error.errno not in OF_THE_DISK:
            raise
        raise DataError(
            f"cannot write into {folder}: {error.strerror}; complete files are kept; "
            "give the same command again to download the rest"
        ) from None
    finally:
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _refuse_other(folder: Path, sums: dict[str, str]) -> None:
    """Raise DataError if the folder holds another data set. A table is never overwritten."""
    for name in (TABLE, STATEMENTS):
        if (folder / name).exists() and _sha256(folder / name) != sums[name]:
            raise DataError(
                f"{folder / name} is not that of this version; name another folder, or remove it to download again"
            )


def _not_there(folder: Path, names: Sequence[str], sums: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the files to download, and those of them that exist with a wrong SHA-256."""
    missing, wrong = [], []
    for name in names:
        if not (folder / name).is_file():
            missing.append(name)
        elif _sha256(folder / name) != sums[name]:
            wrong.append(name)
    return [name for name in names if name in {*missing, *wrong}], wrong


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _in_parallel(fetch: Callable[[str], None], names: Sequence[str], stop: threading.Event) -> None:
    """Download files on NUM_CONNECTIONS threads. The first error or Ctrl-C stops all of them."""
    with ThreadPoolExecutor(NUM_CONNECTIONS, thread_name_prefix="download") as pool:
        futures = [pool.submit(fetch, name) for name in names]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


class _Connection:
    """A connection to one host at a time, kept open between files. For use by a single thread."""

    def __init__(self, tally: _Tally, stop: threading.Event, first_wait_s: float) -> None:
        self.tally, self.stop, self.first_wait_s = tally, stop, first_wait_s
        self.host = ""
        self.http: http.client.HTTPConnection | None = None

    def text(self, url: str) -> str:
        """Download a small text file and return its text."""

        def attempt() -> str:
            with self._answer(url, {}) as response:
                if response.status != 200:
                    _refuse(url, response)
                content = response.read()
            self.tally.add(len(content))
            return content.decode(errors="replace")

        return self._tried(url, attempt)

    def file(self, url: str, target: Path, sha256: str) -> None:
        """Download a file to `target`. Resume from the bytes of an earlier interrupted attempt."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        self._tried(url, lambda: self._attempt(url, part, sha256))
        move(part, target)

    def _attempt(self, url: str, part: Path, sha256: str) -> None:
        start = part.stat().st_size if part.exists() else 0
        with self._answer(url, {"Range": f"bytes={start}-"} if start else {}) as response:
            if response.status == 206 and not (response.getheader("Content-Range") or "").startswith(f"bytes {start}-"):
                part.unlink(missing_ok=True)
                raise _Passing("answered with another byte range than requested")
            if response.status == 416:  # the bytes on disk are the whole file, or more
                if start and _sha256(part) == sha256:
                    return
                part.unlink(missing_ok=True)
                raise _Passing("is shorter than the bytes on disk")
            if response.status not in (200, 206):
                _refuse(url, response)
            with part.open("ab" if response.status == 206 else "wb") as file:
                while piece := response.read(PIECE):
                    file.write(piece)
                    self.tally.add(len(piece))
                    if self.stop.is_set():
                        raise _Stopped
            # read(n) ends quietly where the connection does
            if response.length:
                raise _Passing(f"broke off {response.length:,} bytes before its end")
        if _sha256(part) != sha256:
            part.unlink()
            raise _Passing("does not have the published SHA-256")

    def _tried(self, url: str, attempt: Callable[[], T]) -> T:
        """Return what `attempt` returns. Retry after temporary errors; the wait doubles, or the server sets it."""
        wait_s = self.first_wait_s
        for at in itertools.count(1):
            if self.stop.is_set():
                break
            try:
                return attempt()
            except (_Passing, http.client.HTTPException, OSError) as error:
                self.close()
                if isinstance(error, OSError) and error.errno in OF_THE_DISK:
                    raise
                if isinstance(error, ssl.SSLCertVerificationError):
                    raise DataError(f"{url}: {error.verify_message}; the server's certificate is not trusted") from None
                reason = " ".join(str(error).split()) or type(error).__name__
                if at == TRIES:
                    raise DataError(
                        f"{url}: {reason}, {TRIES} times; complete files are kept; "
                        "give the same command again to download the rest"
                    ) from None
                asked_s = error.wait_s if isinstance(error, _Passing) else None
                usual_s = wait_s * random.uniform(0.75, 1.25)
                self.stop.wait(min(usual_s if asked_s is None else asked_s, LONGEST_WAIT_S))
                wait_s *= 2
        raise _Stopped

    @contextmanager
    def _answer(self, url: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        """Return the response after redirections. The connection stays open only if the response is read to its end."""
        for _ in range(MAX_REDIRECTIONS):
            response = self._ask(url, headers)
            target = response.getheader("Location")
            if response.status not in (301, 302, 303, 307, 308) or not target:
                break
            response.read()
            url = _checked(urljoin(url, target), f"{url} leads to")
        else:
            raise DataError(f"{url} is redirected more than {MAX_REDIRECTIONS} times; name another --mirror")
        try:
            yield response
        finally:
            if not response.isclosed():
                response.close()
                self.close()

    def _ask(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        if self.http is None or self.host != parts.netloc:
            self.close()
            self.http, self.host = _connect(parts), parts.netloc
        agent = {"User-Agent": f"ptbxl-bench/{bench.__version__}", "Accept-Encoding": "identity"}
        self.http.request("GET", parts.path or "/", headers={**agent, **headers})
        return self.http.getresponse()

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self.http is not None:
            self.http.close()
            self.http = None


def _connect(parts: SplitResult) -> http.client.HTTPConnection:
    """Return a connection to the host of an address, through $https_proxy if it is set."""
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=SOCKET_TIMEOUT_S)
    proxy = urlsplit(urllib.request.getproxies().get("https", ""))
    if not proxy.hostname or urllib.request.proxy_bypass(host):
        return http.client.HTTPSConnection(host, parts.port, timeout=SOCKET_TIMEOUT_S)
    through = http.client.HTTPSConnection(proxy.hostname, proxy.port, timeout=SOCKET_TIMEOUT_S)
    pair = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}".encode()
    permit = {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"} if proxy.username else {}
    through.set_tunnel(host, parts.port, permit)
    return through


def _refuse(url: str, response: http.client.HTTPResponse) -> NoReturn:
    """Raise _Passing for a status of a temporary error, else DataError."""
    answer = f"is answered with {response.status} {response.reason}"
    if response.status in PASSING:
        raise _Passing(answer, _retry_after(response.getheader("Retry-After")))
    raise DataError(f"{url} {answer}; is there such a version or --mirror?")


def _retry_after(text: str | None) -> float | None:
    """Parse a Retry-After header, a number of seconds or a date, to seconds. Return None if it is missing or
    invalid."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
