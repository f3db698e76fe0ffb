"""Published weights come from the hub's cache or the hub; where they cannot, one line says why, within seconds."""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.data.signals import SignalSpec
from bench.errors import CheckpointError
from bench.training import hub as hub_module
from bench.training.model import Backbone
from bench.training.published import PublishedCheckpoint
from bench.training.weights import initialize


class Tiny(Backbone):
    """A backbone with a checkpoint that a few bytes hold."""

    signal_spec = SignalSpec(100, "zscore")
    feature_dim = 4
    checkpoint: ClassVar[PublishedCheckpoint | None] = PublishedCheckpoint(
        "lab/tiny", "files/tiny.pth", "v1", head_prefix="dense."
    )

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 4)


def published() -> dict[str, Tensor]:
    torch.manual_seed(1)
    state = {"layer.weight": torch.randn(4, 12), "layer.bias": torch.randn(4), "dense.weight": torch.randn(150, 4)}
    return {**state, "dense.bias": torch.randn(150)}


def one_line(error: pytest.ExceptionInfo[CheckpointError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as a download asks for."""

    files: ClassVar[dict[str, tuple[str, bytes]]] = {}
    asked: ClassVar[list[str]] = []
    refusal: ClassVar[tuple[int, str]] = (404, "RevisionNotFound")
    """HTTP status and the hub's word for it, for what is not in `files`."""

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        found = self.files.get(self.path)
        self.send_response(200 if found else self.refusal[0])
        commit, content = found or ("", b"")
        if found:
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
        else:
            self.send_header("X-Error-Code", self.refusal[1])
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def point_hub_at(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path, offline: bool = False) -> None:
    """What $HF_ENDPOINT, $HF_HUB_CACHE and $HF_HUB_OFFLINE do before huggingface_hub is imported; and retry at once."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub on this machine that holds tiny.pth at v1, and an empty cache."""
    torch.save({"state_dict": published(), "val_auroc": np.float64(0.9)}, tmp_path / "tiny.pth")
    Hub.files = {"/lab/tiny/resolve/v1/files/tiny.pth": (COMMIT, (tmp_path / "tiny.pth").read_bytes())}
    Hub.asked, Hub.refusal = [], (404, "RevisionNotFound")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    point_hub_at(monkeypatch, endpoint, tmp_path / "hub")
    yield Hub
    server.shutdown()
    thread.join()
    server.server_close()


def test_pretrained_comes_from_the_hub_once(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Tiny()

    init = initialize(backbone, None)

    content = hub.files["/lab/tiny/resolve/v1/files/tiny.pth"][1]
    assert init.name == "pretrained" and init.left_out == ("dense.weight", "dense.bias")
    assert init.facts == {
        "repo": "lab/tiny",
        "file": "files/tiny.pth",
        "commit": COMMIT,
        "file_sha256": sha256(content).hexdigest(),
        "unverified": True,
        "terms": Tiny.checkpoint.terms() if Tiny.checkpoint else {},
    }
    assert torch.equal(backbone.layer.weight, published()["layer.weight"])
    json.dumps(init.facts)

    initialize(Tiny(), "pretrained")
    assert sum(request.startswith("GET /lab/tiny") for request in hub.asked) == 1, hub.asked

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    num_asked = len(hub.asked)
    assert initialize(Tiny(), "pretrained").facts == init.facts
    assert len(hub.asked) == num_asked, "offline, the cache alone is asked"


def test_a_file_of_the_hub_with_another_hash_is_refused(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    assert Tiny.checkpoint
    content = hub.files["/lab/tiny/resolve/v1/files/tiny.pth"][1]
    monkeypatch.setattr(Tiny, "checkpoint", replace(Tiny.checkpoint, sha256="1" * 64))

    with pytest.raises(
        CheckpointError, match=r"tiny\.pth of lab/tiny at revision v1 is not the published file: it has"
    ):
        initialize(Tiny(), "pretrained")
    assert initialize(Tiny(), "pretrained@v1").name == "pretrained", "a revision is taken as it is"

    monkeypatch.setattr(Tiny, "checkpoint", replace(Tiny.checkpoint, sha256=sha256(content).hexdigest()))
    assert "unverified" not in initialize(Tiny(), "pretrained").facts


def test_another_revision_can_be_asked_for(hub: type[Hub]) -> None:
    hub.files["/lab/tiny/resolve/v2/files/tiny.pth"] = ("f" * 40, hub.files["/lab/tiny/resolve/v1/files/tiny.pth"][1])

    assert initialize(Tiny(), "pretrained@v2").facts["commit"] == "f" * 40
    with pytest.raises(CheckpointError, match=r"could not get files/tiny.pth of lab/tiny at revision v3 from") as error:
        initialize(Tiny(), "pretrained@v3")
    assert "give a downloaded file with --init PATH, or use --init random" in one_line(error)


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        ((404, "RevisionNotFound"), "it has no such revision; see http"),
        ((404, "EntryNotFound"), "it has no such file; see http"),
        ((404, "RepoNotFound"), r"it has no repository of that name, or a private one \(HTTP 404\); set HF_TOKEN"),
        ((401, "GatedRepo"), "open only to those who accept its terms at http.*/lab/tiny; do so and set HF_TOKEN"),
        ((403, "GatedRepo"), "open only to those who accept its terms at http.*/lab/tiny; do so and set HF_TOKEN"),
        ((401, ""), r"a private one \(HTTP 401\); set HF_TOKEN"),
        ((503, ""), "it answered HTTP 503; try again later"),
    ],
)
def test_what_the_hub_refuses_is_explained(refusal: tuple[int, str], reason: str, hub: type[Hub]) -> None:
    hub.files, hub.refusal = {}, refusal

    with pytest.raises(CheckpointError, match=f"hub: .*{reason}.*; or give a downloaded file with --init") as error:
        initialize(Tiny(), None)

    one_line(error)
    assert sum("/lab/tiny/" in request for request in hub.asked) == 1, "nothing is tried again"


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("http://127.0.0.1:9", "refused; check the network and HTTPS_PROXY, or set HF_ENDPOINT to a mirror"),
        ("http://no-such-host.invalid", "http://no-such-host.invalid.* check the network"),
        ("silent", "no answer from http://127.0.0.1:.* within 2 s .HF_HUB_ETAG_TIMEOUT.; check the network"),
    ],
)
def test_no_hub_and_no_cache_is_one_line_within_seconds(
    endpoint: str, reason: str, silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    point_hub_at(monkeypatch, silent if endpoint == "silent" else endpoint, tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits to try again"))
    monkeypatch.setattr(hub_module, "ANSWER_S", 2.0)
    asked, answer_within = list[float](), hub_module.answer_within
    monkeypatch.setattr(
        hub_module, "answer_within", lambda seconds, *given: asked.append(seconds) or answer_within(seconds, *given)
    )

    with pytest.raises(CheckpointError, match=f"could not get files/tiny.pth of lab/tiny at .*{reason}") as error:
        initialize(Tiny(), None)

    assert one_line(error) and asked == [2.0], "it waits 2 s for an answer, once"
    assert not caplog.records, "the library's own lines are not shown"


FIRST = """
from huggingface_hub import errors, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

from bench.execute import execute
from bench.errors import CheckpointError
from bench.training.fetch import fetch_checkpoint
from bench.training.published import PublishedCheckpoint

try:
    fetch_checkpoint(PublishedCheckpoint("lab/tiny", "tiny.pth", "v1"), "pretrained")
except CheckpointError as error:
    print(error)
"""


def test_the_first_question_of_a_process_is_the_only_one(tmp_path: Path) -> None:
    """Once the library, when it was asked for its cache alone, asked the hub for a list and waited 3 s more."""
    with socket.create_server(("127.0.0.1", 0)) as server:  # it never answers
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        place = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_ETAG_TIMEOUT": "1"}
        done = subprocess.run(
            [sys.executable, "-c", FIRST], capture_output=True, text=True, check=True, env={**os.environ, **place}
        )
        server.setblocking(False)
        server.accept()[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()

    assert f"no answer from {endpoint} within 1 s" in done.stdout


def test_offline_by_choice_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_hub_at(monkeypatch, "http://127.0.0.1:9", tmp_path, offline=True)

    with pytest.raises(CheckpointError, match=r"HF_HUB_OFFLINE is set, and the file is not in .*; unset it") as error:
        initialize(Tiny(), None)

    one_line(error)


def test_the_cache_serves_where_the_hub_is_out_of_reach(
    hub: type[Hub], silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = initialize(Tiny(), None)

    point_hub_at(monkeypatch, silent, tmp_path / "hub")
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "0.3")

    assert initialize(Tiny(), None) == first
    began = time.monotonic()
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "60")
    assert initialize(Tiny(), f"pretrained@{COMMIT}") == first, "a commit does not change, so nobody is asked"
    assert time.monotonic() - began < 30


def test_the_command_ends_within_seconds_with_one_line(demo_set: Path, silent: str, tmp_path: Path) -> None:
    words = f"run --data {demo_set} --task superdiag --method lp --arch ecgfounder --init pretrained --runs {tmp_path}"
    place = {"HF_ENDPOINT": silent, "HF_HUB_CACHE": str(tmp_path), "BENCH_CACHE": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-m", "bench", *words.split()], capture_output=True, text=True, env={**os.environ, **place}
    )

    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: could not get 12_lead_ECGFounder.pth of")


def test_a_download_that_breaks_off_is_one_line(hub: type[Hub]) -> None:
    class Half(bytes):
        def __len__(self) -> int:
            return 100_000

    name, (commit, content) = next(iter(hub.files.items()))
    hub.files[name] = (commit, Half(content))

    with pytest.raises(CheckpointError, match=r"could not get files/tiny.pth") as error:
        initialize(Tiny(), None)

    one_line(error)
