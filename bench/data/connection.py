"""Download files over HTTP: resume what was interrupted, and try again after temporary errors."""

from __future__ import annotations

import email.utils
import random
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

import httpx

import bench
from bench.errors import DataError
from bench.files import file_sha256, move

T = TypeVar("T")
TRIES = 6
"""Number of tries in a row that may bring nothing new."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 120.0
"""Seconds to wait after the first failure (doubled after each other one), and their maximum."""
SILENCE_S = 30.0
"""Seconds without an answer or a byte after which a connection is given up."""
MAX_REDIRECTIONS = 5
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses of temporary errors."""
Progress = Callable[[int, int | None], None]
"""Callback with the number of bytes of a file that are there, and its size; None if the server does not say it."""


class Passing(Exception):
    """A temporary error. `wait_s` is the wait in seconds that the server asks for, if it asks for one."""

    def __init__(self, what: str, wait_s: float | None = None) -> None:
        super().__init__(what)
        self.wait_s = wait_s


class Stopped(Exception):
    """Another thread's download has failed, or the user stopped it."""


def checked_url(url: str, what: str) -> str:
    """Return the URL if it is safe to ask; else raise DataError. `what` begins the message."""
    if not _is_safe(url):
        raise DataError(f"{what} the https:// address of a folder, got {url!r}")
    return url


def _is_safe(url: str) -> bool:
    """Return whether a URL is whole, and https, or http on this machine."""
    try:
        parts = urlsplit(url)
        own = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
        good = bool(parts.hostname) and (parts.scheme == "https" or own) and parts.port != 0
    except ValueError:
        return False
    return good and url.isascii() and url.isprintable() and " " not in url


class Downloader:
    """Downloads files on any number of threads. Connections stay open between files.

    `instead` ends a message: what the user can do if a file cannot be had.
    """

    def __init__(self, instead: str, first_wait_s: float = FIRST_WAIT_S) -> None:
        self.num_bytes = 0
        """Number of bytes received."""
        self._instead, self._first_wait_s = instead, first_wait_s
        self._stopped, self._counting = threading.Event(), threading.Lock()
        self._client = httpx.Client(
            headers={"User-Agent": f"ptbxl-bench/{bench.__version__}", "Accept-Encoding": "identity"},
            timeout=SILENCE_S,
            follow_redirects=True,
            max_redirects=MAX_REDIRECTIONS,
            event_hooks={"request": [_require_safe]},
        )

    def __enter__(self) -> Downloader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._client.close()

    def stop(self) -> None:
        """Make the downloads of all threads raise Stopped."""
        self._stopped.set()

    def text(self, url: str) -> str:
        """Download a small text file and return its text."""

        def attempt() -> str:
            response = self._client.get(url)
            if response.status_code != 200:
                self._refuse(url, response)
            self._count(len(response.content))
            return response.content.decode(errors="replace")

        return self._tried(url, attempt, lambda: 0)

    def file(self, url: str, target: Path, sha256: str) -> None:
        """Download a file to `target`; download it again if it has another hash."""
        part = target.with_name(f".{target.name}.part")

        def attempt() -> None:
            self._attempt(url, part)
            if file_sha256(part) != sha256:
                part.unlink()
                raise Passing("does not have the published SHA-256")

        target.parent.mkdir(parents=True, exist_ok=True)
        self._tried(url, attempt, lambda: _size(part))
        move(part, target)

    def rest(self, url: str, part: Path, progress: Progress = lambda done, size: None) -> None:
        """Download the bytes that `part` lacks."""
        self._tried(url, lambda: self._attempt(url, part, progress), lambda: _size(part))

    def _attempt(self, url: str, part: Path, progress: Progress = lambda done, size: None) -> None:
        """Request the bytes that `part` lacks and append them. If the server sends the whole file, write it anew."""
        start = _size(part)
        with self._client.stream("GET", url, headers={"Range": f"bytes={start}-"} if start else {}) as response:
            if response.status_code == 416:  # nothing is left to send, or the file is shorter: its hash will tell
                return
            if response.status_code not in (200, 206):
                self._refuse(url, response)
            if response.status_code == 200:
                start = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                part.unlink(missing_ok=True)
                raise Passing("answered with another byte range than requested")
            length = response.headers.get("Content-Length", "")
            size = start + int(length) if length.isdecimal() else None
            with part.open("ab" if start else "wb") as file:
                for piece in response.iter_raw():
                    file.write(piece)
                    start += len(piece)
                    self._count(len(piece))
                    progress(start, size)
                    if self._stopped.is_set():
                        raise Stopped

    def _count(self, num: int) -> None:
        with self._counting:
            self.num_bytes += num

    def _tried(self, url: str, attempt: Callable[[], T], size: Callable[[], int]) -> T:
        """Return what `attempt` returns. Retry after temporary errors; the wait doubles, or the server sets it.

        Tries are counted anew when `size`, the number of bytes on disk, has grown.
        """
        wait_s, left, most = self._first_wait_s, TRIES, size()
        while not self._stopped.is_set():
            try:
                return attempt()
            except httpx.TooManyRedirects:
                raise DataError(f"{url} is redirected more than {MAX_REDIRECTIONS} times; {self._instead}") from None
            except (Passing, httpx.TransportError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                self._require_reachable(url, error, reason)
                left -= 1
                if size() > most:
                    wait_s, left, most = self._first_wait_s, TRIES, size()
                if not left:
                    raise DataError(
                        f"{url}: {reason}, {TRIES} times; what was received is kept; give the same command again to "
                        f"go on, or {self._instead}"
                    ) from None
                asked_s = error.wait_s if isinstance(error, Passing) else None
                usual_s = wait_s * random.uniform(0.75, 1.25)
                self._stopped.wait(min(usual_s if asked_s is None else asked_s, LONGEST_WAIT_S))
                wait_s *= 2
        raise Stopped

    def _require_reachable(self, url: str, error: Exception, reason: str) -> None:
        """Raise DataError for a failed connection that waiting would not mend."""
        if not isinstance(error, httpx.ConnectError | httpx.ProxyError):
            return
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise DataError(f"{url}: {cause.verify_message}; the server's certificate is not trusted") from None
            cause = cause.__cause__ or cause.__context__
        if not self.num_bytes:  # offline
            raise DataError(f"{url}: {reason}; check the network and HTTPS_PROXY, or {self._instead}") from None

    def _refuse(self, url: str, response: httpx.Response) -> NoReturn:
        """Raise Passing for a status of a temporary error, else DataError."""
        answer = f"is answered with {response.status_code} {response.reason_phrase}"
        if response.status_code in PASSING:
            raise Passing(answer, _retry_after(response.headers.get("Retry-After")))
        raise DataError(f"{url} {answer}; {self._instead}")


def _require_safe(request: httpx.Request) -> None:
    """Raise DataError if a request, such as one after a redirection, goes to an address that is not safe."""
    if not _is_safe(str(request.url)):
        raise DataError(f"the download is redirected to {request.url}, which is not https")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


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
