"""Fetch files over HTTP: a connection kept open, retries after temporary errors, and resumed downloads."""

from __future__ import annotations

import base64
import email.utils
import errno
import http.client
import itertools
import random
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import bench
from bench.errors import DataError
from bench.files import file_sha256, move

T = TypeVar("T")
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
UNREACHABLE = (socket.gaierror, ConnectionRefusedError)
"""Errors of a host that has no address or takes no connections."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses of temporary errors."""


class Passing(Exception):
    """A temporary error. `wait_s` is the wait in seconds that the server asks for, if it asks for one."""

    def __init__(self, what: str, wait_s: float | None = None) -> None:
        super().__init__(what)
        self.wait_s = wait_s


class Stopped(Exception):
    """Another connection has failed, or the user stopped the download."""


@dataclass
class Tally:
    """Count the bytes that all connections have received."""

    num_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, num: int) -> None:
        """Add a number of bytes. May be called by any thread."""
        with self.lock:
            self.num_bytes += num


def checked_url(url: str, what: str) -> str:
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


class Connection:
    """A connection to one host at a time, kept open between files. For use by a single thread."""

    def __init__(self, tally: Tally, stop: threading.Event, first_wait_s: float) -> None:
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
                raise Passing("answered with another byte range than requested")
            if response.status == 416:  # the bytes on disk are the whole file, or more
                if start and file_sha256(part) == sha256:
                    return
                part.unlink(missing_ok=True)
                raise Passing("is shorter than the bytes on disk")
            if response.status not in (200, 206):
                _refuse(url, response)
            with part.open("ab" if response.status == 206 else "wb") as file:
                while piece := response.read(PIECE):
                    file.write(piece)
                    self.tally.add(len(piece))
                    if self.stop.is_set():
                        raise Stopped
            # read(n) ends quietly where the connection does
            if response.length:
                raise Passing(f"broke off {response.length:,} bytes before its end")
        if file_sha256(part) != sha256:
            part.unlink()
            raise Passing("does not have the published SHA-256")

    def _tried(self, url: str, attempt: Callable[[], T]) -> T:
        """Return what `attempt` returns. Retry after temporary errors; the wait doubles, or the server sets it."""
        wait_s = self.first_wait_s
        for at in itertools.count(1):
            if self.stop.is_set():
                break
            try:
                return attempt()
            except (Passing, http.client.HTTPException, OSError) as error:
                self.close()
                if isinstance(error, OSError) and error.errno in OF_THE_DISK:
                    raise
                if isinstance(error, ssl.SSLCertVerificationError):
                    raise DataError(f"{url}: {error.verify_message}; the server's certificate is not trusted") from None
                reason = " ".join(str(error).split()) or type(error).__name__
                if isinstance(error, UNREACHABLE) and not self.tally.num_bytes:  # offline: waiting would not help
                    raise DataError(
                        f"{url}: {reason}; check the network and HTTPS_PROXY, or name another --mirror"
                    ) from None
                if at == TRIES:
                    raise DataError(
                        f"{url}: {reason}, {TRIES} times; complete files are kept; "
                        "give the same command again to download the rest"
                    ) from None
                asked_s = error.wait_s if isinstance(error, Passing) else None
                usual_s = wait_s * random.uniform(0.75, 1.25)
                self.stop.wait(min(usual_s if asked_s is None else asked_s, LONGEST_WAIT_S))
                wait_s *= 2
        raise Stopped

    @contextmanager
    def _answer(self, url: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        """Return the response after redirections. The connection stays open only if the response is read to its end."""
        for _ in range(MAX_REDIRECTIONS):
            response = self._ask(url, headers)
            target = response.getheader("Location")
            if response.status not in (301, 302, 303, 307, 308) or not target:
                break
            response.read()
            url = checked_url(urljoin(url, target), f"{url} leads to")
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
    """Raise Passing for a status of a temporary error, else DataError."""
    answer = f"is answered with {response.status} {response.reason}"
    if response.status in PASSING:
        raise Passing(answer, _retry_after(response.getheader("Retry-After")))
    raise DataError(f"{url} {answer}; is there such a version or --mirror?")


def _retry_after(text: str | None) -> float | None:
    """Convert a Retry-After header (seconds or a date) to seconds. Return None if it is missing or invalid."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
