"""A download ends whole and checked, or says in one line why not; no file that is broken ever bears its name."""

from __future__ import annotations

import errno
import http.server
import json
import shutil
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console

import bench.cli
from bench.data import connection
from bench.data import download as module
from bench.data.checksums import SUMS
from bench.data.datasets.ptbxl import STATEMENTS, TABLE, load_records
from bench.data.download import Downloaded, download, parse_rates
from bench.data.verify import verify
from bench.demo.dataset import write_demo
from bench.errors import DataError

DATA = "records100/00000/00007_lr.dat"
Fault = Callable[["Handler", bytes], bool]
"""Answers a request in its own way, and returns whether it did."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a folder with keep-alive and ranges, and misbehaves as its server says."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        name = self.path.removeprefix("/1.0.3/")
        with self.server.lock:
            self.server.asked[name].append(self.headers.get("Range", ""))
            queue = self.server.faults[name]
            fault = self.server.ever.get(name) or (queue.pop(0) if queue else None)
        path = self.server.folder / name
        if not path.is_file():
            self.answer(404, b"nothing here")
            return
        content = path.read_bytes()
        if fault is None or not fault(self, content):
            self.serve(content)

    def serve(self, content: bytes, *, ranges: bool = True) -> None:
        wanted = self.headers.get("Range") if ranges else None
        if not wanted:
            self.answer(200, content)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            self.answer(416, b"")
            return
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(206, content[start:], {"Content-Range": span})

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Server(http.server.ThreadingHTTPServer):
    """A mirror on this machine."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.lock = threading.Lock()
        self.asked: dict[str, list[str]] = defaultdict(list)
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.ever: dict[str, Fault] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/1.0.3/"

    def once(self, name: str, *faults: Fault) -> None:
        self.faults[name] = list(faults)

    def always(self, name: str, fault: Fault) -> None:
        self.ever[name] = fault

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the mirror has: 12 records at both rates."""
    folder = tmp_path_factory.mktemp("mirror") / "ptb-xl"
    write_demo(folder, 12)
    (folder / "LICENSE.txt").write_text("CC BY 4.0\n")
    import hashlib

    digest = hashlib.sha256(b"CC BY 4.0\n").hexdigest()
    (folder / SUMS).write_text(f"{digest} LICENSE.txt\n" + (folder / SUMS).read_text())
    return folder


@pytest.fixture
def server(tree: Path) -> Iterator[Server]:
    with Server(tree) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server: Server, folder: Path, rates: tuple[int, ...] = (100,)) -> Downloaded:
    return download(folder, mirror=server.url, rates=rates, first_wait_s=0.002)


def refusal(server: Server, folder: Path) -> str:
    """The one line; and that the folder is no dataset, and every file that has its name is whole."""
    with pytest.raises(DataError) as caught:
        get(server, folder)
    assert "\n" not in str(caught.value)
    assert not (folder / TABLE).exists()
    assert_every_name_is_whole(server, folder)
    assert not (folder / ".download.lock").exists()
    return str(caught.value)


def assert_every_name_is_whole(server: Server, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.endswith(".part"):
            assert path.read_bytes() == (server.folder / path.relative_to(folder)).read_bytes(), path


def assert_whole(server: Server, folder: Path, num_files: int = 27) -> None:
    """All is there, nothing else is, and it is a dataset without fault."""
    assert_every_name_is_whole(server, folder)
    assert not list(folder.rglob(".*"))
    assert sum(path.is_file() for path in folder.rglob("*")) == num_files + 1
    assert not verify(folder).faulty
    assert len(load_records(folder)) == 12


def drop(handler: Handler, content: bytes) -> bool:
    """Half of what was promised, then the connection goes."""
    handler.answer(200, content[: len(content) // 2], length=len(content))
    handler.close_connection = True
    return True


def hang_up(handler: Handler, content: bytes) -> bool:
    handler.close_connection = True
    return True


def truncate(handler: Handler, content: bytes) -> bool:
    """Half, with a length that says so: nothing shows it but the hash."""
    handler.answer(200, content[: len(content) // 2])
    return True


def lie(handler: Handler, content: bytes) -> bool:
    handler.answer(200, content[::-1])
    return True


def garbage(handler: Handler, content: bytes) -> bool:
    handler.wfile.write(b"this is no HTTP\r\n\r\n")
    handler.close_connection = True
    return True


def ignore_range(handler: Handler, content: bytes) -> bool:
    handler.serve(content, ranges=False)
    return True


def other_range(handler: Handler, content: bytes) -> bool:
    handler.answer(206, content, {"Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}"})
    return True


def says(status: int, **headers: str) -> Fault:
    def fault(handler: Handler, content: bytes) -> bool:
        handler.answer(status, b"later", {key.replace("_", "-"): value for key, value in headers.items()})
        return True

    return fault


@pytest.mark.parametrize(("rates", "num_files"), [((100,), 27), ((500,), 27), ((100, 500), 51), ((), 3)])
def test_what_was_asked_for_is_there_and_no_more(
    server: Server, tmp_path: Path, rates: tuple[int, ...], num_files: int
) -> None:
    done = get(server, tmp_path / "new" / "set", rates)
    assert (done.num_files, done.num_fetched, done.repaired) == (num_files, num_files, ())
    sizes = [path.stat().st_size for path in (tmp_path / "new/set").rglob("*") if path.is_file()]
    assert done.num_bytes == sum(sizes)
    assert_whole(server, tmp_path / "new/set", num_files)
    assert all(len(times) == 1 for times in server.asked.values())


def test_progress_ends_with_all_of_it(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    download(tmp_path, mirror=server.url, rates=(100,), progress=lambda *words: seen.append(words))
    assert [done for done, _, _ in seen] == list(range(28))
    assert {total for _, total, _ in seen} == {27}
    assert seen[-1][2] > 0


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    get(server, tmp_path)
    server.asked.clear()
    assert get(server, tmp_path).num_fetched == 0
    assert list(server.asked) == [SUMS]
    assert get(server, tmp_path, (100, 500)).num_fetched == 24
    assert_whole(server, tmp_path, 51)


FAULTS = {
    "drops": drop,
    "hangs up": hang_up,
    "truncates": truncate,
    "serves wrong bytes": lie,
    "is no HTTP": garbage,
    "503": says(503),
    "429": says(429, Retry_After="0"),
    "500": says(500),
}


@pytest.mark.parametrize("name", [DATA, TABLE, SUMS])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_tried_again(server: Server, tmp_path: Path, fault: str, name: str) -> None:
    if name == SUMS and fault in ("truncates", "serves wrong bytes"):
        pytest.skip("nothing says what the checksums themselves should be")
    server.once(name, FAULTS[fault], FAULTS[fault])
    get(server, tmp_path)
    assert len(server.asked[name]) == 3
    assert_whole(server, tmp_path)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_pass_is_said_in_one_line(server: Server, tmp_path: Path, fault: str) -> None:
    server.always(DATA, FAULTS[fault])
    message = refusal(server, tmp_path)
    assert message.startswith(f"{server.url}{DATA}: ")
    assert "6 times; what was received is kept; give the same command again to go on, or name another" in message
    assert len(server.asked[DATA]) == 6 + (fault == "drops")  # the first half is news
    server.ever.clear()
    get(server, tmp_path)
    assert_whole(server, tmp_path)


@pytest.mark.parametrize("status", [404, 403, 410, 401])
def test_what_will_not_pass_is_not_tried_again(server: Server, tmp_path: Path, status: int) -> None:
    server.always(DATA, says(status))
    assert f"{server.url}{DATA} is answered with {status}" in refusal(server, tmp_path)
    assert len(server.asked[DATA]) == 1


def test_a_mirror_without_the_version_is_said_so_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.always(SUMS, says(404))
    assert "404 Not Found; name another --version or --mirror" in refusal(server, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_broken_file_is_gone_on_with_from_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.once(DATA, drop)
    get(server, tmp_path)
    assert server.asked[DATA] == ["", "bytes=12000-"]
    assert_whole(server, tmp_path)


def test_an_interrupted_download_goes_on_from_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.once(DATA, drop, *[hang_up] * 6)
    refusal(server, tmp_path)
    (part,) = tmp_path.rglob(".00007_lr.dat.part")
    assert part.stat().st_size == 12000
    server.asked.clear()
    get(server, tmp_path)
    assert server.asked[DATA] == ["bytes=12000-"]
    assert_whole(server, tmp_path)


@pytest.mark.parametrize("fault", [ignore_range, other_range])
def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path, fault: Fault) -> None:
    server.once(DATA, drop, fault)
    get(server, tmp_path)
    assert_whole(server, tmp_path)


@pytest.mark.parametrize("left", [b"x" * 12000, b"x" * 24000, b"x" * 30000])
def test_a_wrong_beginning_is_thrown_away(server: Server, tmp_path: Path, left: bytes) -> None:
    part = tmp_path / "records100/00000/.00007_lr.dat.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    get(server, tmp_path)
    assert_whole(server, tmp_path)


def test_a_part_that_is_whole_is_taken(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "records100/00000/.00007_lr.dat.part"
    part.parent.mkdir(parents=True)
    shutil.copy(server.folder / DATA, part)
    get(server, tmp_path)
    assert server.asked[DATA] == ["bytes=24000-"]
    assert_whole(server, tmp_path)


def test_a_damaged_record_is_repaired(server: Server, tmp_path: Path) -> None:
    get(server, tmp_path)
    (tmp_path / DATA).write_bytes(b"damaged")
    done = get(server, tmp_path)
    assert (done.repaired, done.num_fetched) == ((DATA,), 1)
    assert_whole(server, tmp_path)


@pytest.mark.parametrize("name", [TABLE, STATEMENTS])
def test_another_dataset_is_never_overwritten(server: Server, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(DataError, match=f"{name} is not that of this version; name another folder"):
        get(server, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("header", "least_s", "most_s"), [("1", 1.0, 1.0), ("0", 0.0, 0.0), ("soon", 0.0015, 0.0025), ("date", 30.0, 100.0)]
)
def test_the_servers_wait_is_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str, least_s: float, most_s: float
) -> None:
    """`soon` is no wait, so the usual one is kept; a date is 100 s ahead. No wait is really spent."""
    waits: list[float] = []

    class Hurried(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            waits.append(timeout)
            return super().wait(0)

    class Watched(connection.Downloader):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self._stopped = Hurried()

    monkeypatch.setattr(module, "Downloader", Watched)
    value = formatdate(time.time() + 100, usegmt=True) if header == "date" else header
    server.once(TABLE, says(429, Retry_After=value))

    get(server, tmp_path, ())

    assert len(waits) == 1 and least_s <= waits[0] <= most_s


def test_no_wait_is_longer_than_the_longest(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LONGEST_WAIT_S", 0.01)
    server.once(TABLE, says(503, Retry_After="86400"))
    assert get(server, tmp_path, ()).num_fetched > 0, "after a wait of 0.01 s in place of a day"


def test_a_redirection_is_followed_and_a_circle_is_not(server: Server, tmp_path: Path) -> None:
    server.once(TABLE, says(302, Location=f"/1.0.3/{TABLE}"))
    get(server, tmp_path / "a", ())
    server.always(TABLE, says(302, Location=f"/1.0.3/{TABLE}"))
    assert "is redirected more than 5 times" in refusal(server, tmp_path / "b")
    server.always(TABLE, says(302, Location="http://example.org/x"))
    assert "the download is redirected to http://example.org/x, which is not https" in refusal(server, tmp_path / "c")


@pytest.mark.parametrize(
    "mirror",
    ["", "ftp://x/y", "http://example.org/x", "physionett", "https://", "https://x:y/z", "https://a b/", "//h"],
)
def test_a_mirror_is_https(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(DataError, match="--mirror is one of physionet, aws or the https:// address"):
        download(tmp_path / "new", mirror=mirror)
    assert not (tmp_path / "new").exists()


def test_the_published_places() -> None:
    assert module._address("physionet", "1.0.3") == "https://physionet.org/files/ptb-xl/1.0.3/"
    assert module._address("aws", "1.0.1") == "https://physionet-open.s3.amazonaws.com/ptb-xl/1.0.1/"
    assert module._address("https://host/a/b", "1.0.3") == "https://host/a/b/"


@pytest.mark.parametrize("version", ["1.0", "latest", "../1.0.3", "1.0.3/"])
def test_a_version_is_three_numbers(tmp_path: Path, version: str) -> None:
    with pytest.raises(DataError, match="is no version of PTB-XL"):
        download(tmp_path / "new", version)


def test_a_rate_is_100_or_500(server: Server, tmp_path: Path) -> None:
    assert parse_rates(" 500, 100 ") == (500, 100)
    for text in ("", "100,", "250", "1e2", "100;500", "-100"):
        with pytest.raises(DataError, match="--rates is 100, 500 or 100,500"):
            parse_rates(text)
    with pytest.raises(DataError, match="not at 250 Hz"):
        get(server, tmp_path, (250,))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not list scp_statements.csv"),
        ("<html>not found</html>", "line 1 is '<html>"),
        (f"{'0' * 64} ../../etc/passwd\n", "line 1 is"),
        (f"{'0' * 64} {TABLE}\n{'0' * 64} {STATEMENTS}\n", "lists no signals at 100 Hz"),
    ],
)
def test_checksums_that_are_none_are_refused(server: Server, tmp_path: Path, text: str, words: str) -> None:
    def other(handler: Handler, content: bytes) -> bool:
        handler.answer(200, text.encode())
        return True

    server.always(SUMS, other)
    assert words in refusal(server, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_small_disk_is_said_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    assert "GB more and its disk has 0.00 GB free" in refusal(server, tmp_path)
    assert list(server.asked) == [SUMS]


def test_a_disk_that_fills_is_said(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.replace

    def full(self: Path, target: Path) -> Path:
        if "00007_lr.dat" in self.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", full)
    message = refusal(server, tmp_path)
    assert message.startswith(f"cannot write into {tmp_path}: No space left on device; what was received is kept")


def test_a_file_in_the_way_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file is a file; name a folder"):
        get(server, tmp_path / "file")
    with pytest.raises(DataError, match=r"cannot write into .*: Not a directory"):
        get(server, tmp_path / "file" / "below")


def test_two_downloads_do_not_meet(server: Server, tmp_path: Path) -> None:
    def meanwhile(handler: Handler, content: bytes) -> bool:
        with pytest.raises(DataError, match="another download is writing into") as caught:
            get(server, tmp_path)
        met.append(str(caught.value))
        return False

    met: list[str] = []
    server.once(TABLE, meanwhile)
    get(server, tmp_path)
    assert len(met) == 1
    assert_whole(server, tmp_path)


def test_an_unknown_host_is_one_line(tmp_path: Path, server: Server) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=r"SHA256SUMS.txt: .*Connection refused; check the network"):
        get(server, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_ctrl_c_leaves_what_is_whole_and_no_dataset(server: Server, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, speed: float) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(tmp_path, mirror=server.url, rates=(100,), progress=interrupt)
    assert not (tmp_path / TABLE).exists()
    assert_every_name_is_whole(server, tmp_path)
    get(server, tmp_path)
    assert_whole(server, tmp_path)


class Said(NamedTuple):
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


def bench_data(patch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: object) -> Said:
    patch.setattr(sys, "argv", ["bench", "data", *map(str, words)])
    patch.setattr(bench.cli, "out", Console(width=160))
    with pytest.raises(SystemExit) as end:
        bench.cli.main()
    assert end.value.code is None or isinstance(end.value.code, int)
    out, err = capfd.readouterr()
    return Said(end.value.code or 0, out, err.strip())


def test_the_verbs(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    said = bench_data(
        monkeypatch, capfd, "download", tmp_path / "a", "--rates", "100", "--mirror", server.url, "--json"
    )
    assert said.code == 0 and json.loads(said.out)["files"] == 27
    said = bench_data(monkeypatch, capfd, "download", tmp_path / "b", "--metadata", "--mirror", server.url)
    assert said.code == 0 and "fetched" in said.out
    said = bench_data(monkeypatch, capfd, "download", tmp_path / "c", "--rates", "10")
    assert said == (2, "", "error: --rates is 100, 500 or 100,500, got '10'")
    said = bench_data(monkeypatch, capfd, "verify", tmp_path / "a", "--json")
    assert said.code == 0 and json.loads(said.out)["present"] == {"100": 12, "500": 0}
    (tmp_path / "a" / DATA).unlink()
    said = bench_data(monkeypatch, capfd, "verify", tmp_path / "a")
    assert said.code == 1 and "FAULT" in said.out and DATA in said.out
    said = bench_data(monkeypatch, capfd, "info", tmp_path / "b", "--task", "superdiag")
    assert said.code == 0 and "synthetic" in said.out and "STTC" in said.out
    assert bench_data(monkeypatch, capfd, "verify", tmp_path / "z").code == 2
