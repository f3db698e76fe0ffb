"""Published files outside the hub: fetched once, gone on with, and refused if they are not what was published."""

import http.server
import io
import threading
from collections.abc import Iterator
from hashlib import md5, sha256
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from bench.data.signals import SignalSpec
from bench.errors import CheckpointError
from bench.training import fetch
from bench.training.fetch import fetch_checkpoint, fetch_file
from bench.training.model import Backbone
from bench.training.published import PublishedCheckpoint
from bench.training.weights import initialize


class Tiny(Backbone):
    """A backbone whose checkpoint each test declares."""

    signal_spec = SignalSpec(100, "zscore")
    feature_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 4)


CONTENT = bytes(range(256)) * 4000
SHA256 = sha256(CONTENT).hexdigest()


class Archive(http.server.BaseHTTPRequestHandler):
    """A server of one file, at /file and at /moved, with the habits that real servers have."""

    content: ClassVar[bytes] = CONTENT
    ranges: ClassVar[bool] = True
    """Whether it understands Range."""
    longest: ClassVar[int] = 1 << 30
    """Bytes after which it breaks a connection off."""
    asked: ClassVar[list[str]] = []
    """The Range of each request, empty without one."""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        if self.path != "/file":
            self.send_error(404)
            return
        asked = self.headers.get("Range", "")
        self.asked.append(asked)
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        if asked and self.ranges and begin >= len(self.content):
            self.send_error(416)
            return
        is_part = bool(asked) and self.ranges
        self.send_response(206 if is_part else 200)
        if is_part:
            self.send_header("Content-Range", f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(len(self.content) - begin))
        self.end_headers()
        self.wfile.write(self.content[begin : begin + self.longest])
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server with its defaults, and an empty cache."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.002)
    for name, value in {"content": CONTENT, "ranges": True, "longest": 1 << 30, "asked": []}.items():
        monkeypatch.setattr(Archive, name, value)
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


def fetched(url: str) -> Path:
    """The file at an address, of which CONTENT is published."""
    return fetch_file(PublishedCheckpoint(filename="weights.pt", url=url, sha256=SHA256))


@pytest.mark.parametrize("path", ["/file", "/moved"])
def test_a_file_is_fetched_once(path: str, server: str) -> None:
    first = fetched(server + path)
    num_asked = len(Archive.asked)

    assert first.read_bytes() == CONTENT
    assert fetched(server + path) == first
    assert len(Archive.asked) == num_asked
    assert [file.name for file in first.parent.iterdir() if file.suffix == ".part"] == []


def test_a_broken_connection_is_gone_on_with(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Archive, "longest", 400_000)

    assert fetched(f"{server}/file").read_bytes() == CONTENT
    begins = [int(asked[6:-1]) for asked in Archive.asked if asked]
    assert len(begins) >= 2 and begins == sorted(set(begins)), Archive.asked


def test_a_killed_download_goes_on_in_the_next_command(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "weights" / SHA256
    folder.mkdir(parents=True)
    (folder / "weights.pt.part").write_bytes(CONTENT[:1000])

    assert fetched(f"{server}/file").read_bytes() == CONTENT
    assert "bytes=1000-" in Archive.asked


@pytest.mark.parametrize("length", [1000, len(CONTENT)])
def test_a_server_without_ranges_sends_all_again(
    length: int, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Archive, "ranges", False)
    folder = tmp_path / "cache" / "weights" / SHA256
    folder.mkdir(parents=True)
    (folder / "weights.pt.part").write_bytes(CONTENT[:length])

    assert fetched(f"{server}/file").read_bytes() == CONTENT


def test_a_whole_part_is_taken(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "weights" / SHA256
    folder.mkdir(parents=True)
    (folder / "weights.pt.part").write_bytes(CONTENT)

    assert fetched(f"{server}/file").read_bytes() == CONTENT


def test_a_connection_that_always_breaks_ends_in_a_line(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Archive, "longest", 0)

    with pytest.raises(
        CheckpointError,
        match=r"could not get .*: .*, 6 times; what was received is kept; .* again to go on, or download",
    ) as error:
        fetched(f"{server}/file")

    assert "\n" not in str(error.value)


def test_another_file_is_refused_and_deleted(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Archive, "content", CONTENT + b"!")
    given = sha256(CONTENT + b"!").hexdigest()

    with pytest.raises(CheckpointError, match=f"it has SHA-256 {given}, expected {SHA256}; it was deleted"):
        fetched(f"{server}/file")

    assert [file.name for file in (tmp_path / "cache").rglob("weights.pt*")] == []


def test_a_damaged_file_in_the_cache_is_fetched_again(server: str) -> None:
    path = fetched(f"{server}/file")
    path.write_bytes(b"damaged")

    assert fetched(f"{server}/file").read_bytes() == CONTENT


def test_what_is_not_there_is_a_line(server: str) -> None:
    with pytest.raises(
        CheckpointError, match=r"/none is answered with 404 .*; download the file yourself and give it with"
    ):
        fetched(f"{server}/none")


@pytest.mark.parametrize("where", ["http://127.0.0.1:9/file", "http://no-such-host.invalid/file", "silent"])
def test_no_network_is_a_line_within_seconds(
    where: str,
    silent: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch, "ANSWER_S", 2.5)
    asked, answer_within = list[float](), fetch.answer_within
    monkeypatch.setattr(
        fetch, "answer_within", lambda seconds, *given: asked.append(seconds) or answer_within(seconds, *given)
    )

    with pytest.raises(
        CheckpointError, match="check the network and HTTPS_PROXY; or download the file yourself"
    ) as error:
        fetched(silent if where == "silent" else where)

    assert "\n" not in str(error.value)
    assert asked == [2.5], "it waits for an answer once"


def test_a_cache_that_is_a_file_is_a_line(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("")

    with pytest.raises(CheckpointError, match=r"could not write .*; set BENCH_CACHE to another folder"):
        fetched(f"{server}/file")


def test_pretrained_comes_from_an_address(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(12, 4)
    torch.save({"model": {"layer.weight": layer.weight, "layer.bias": layer.bias}}, tmp_path / "tiny.pth")
    content = (tmp_path / "tiny.pth").read_bytes()
    monkeypatch.setattr(Archive, "content", content)
    hashed = sha256(content).hexdigest()
    checkpoint = PublishedCheckpoint(filename="tiny.pth", url=f"{server}/file", sha256=hashed)
    monkeypatch.setattr(Tiny, "checkpoint", checkpoint)
    backbone, from_file = Tiny(), Tiny()

    init, given = initialize(backbone, None), initialize(from_file, str(tmp_path / "tiny.pth"))

    assert init.name == given.name == "pretrained"
    file = {"from": f"{server}/file", "file": "tiny.pth", "file_sha256": hashed}
    assert init.facts == given.facts == {**file, "terms": Tiny.checkpoint.terms()}
    assert torch.equal(backbone.layer.weight, layer.weight)


def test_an_md5_is_compared_where_no_sha256_is_known(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(12, 4)
    torch.save({"layer.weight": layer.weight, "layer.bias": layer.bias}, written := io.BytesIO())
    monkeypatch.setattr(Archive, "content", written.getvalue())
    hashed = md5(written.getvalue()).hexdigest()
    monkeypatch.setattr(
        Tiny, "checkpoint", PublishedCheckpoint(filename="t.pth", url=f"{server}/file", md5=hashed), raising=False
    )

    init = initialize(Tiny(), None)

    assert init.name == "pretrained" and "unverified" not in init.facts
    monkeypatch.setattr(Archive, "content", CONTENT)
    other = PublishedCheckpoint(filename="t.pth", url=f"{server}/file", md5="0" * 32)
    with pytest.raises(CheckpointError, match=f"it has MD5 {md5(CONTENT).hexdigest()}, expected 0000.*was deleted"):
        fetch_file(other)


def test_what_no_program_may_fetch_is_said_with_its_page() -> None:
    checkpoint = PublishedCheckpoint(filename="a.pth", page="https://example.org/terms")

    with pytest.raises(
        CheckpointError, match=r"cannot be fetched by a program: download it from https://example.org/te"
    ):
        fetch_checkpoint(checkpoint, "pretrained")
    with pytest.raises(CheckpointError, match=r"revision v2 was asked for, but https://example.org/terms has no"):
        fetch_checkpoint(checkpoint, "pretrained@v2")
