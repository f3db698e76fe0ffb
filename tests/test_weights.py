"""Weights come in whole or not at all, run no code, and say where they are from."""

import http.server
import json
import os
import pickle
import threading
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

from baselines.net1d import ECGFounder, Net1DMini
from bench.data.signals import SignalSpec
from bench.errors import CheckpointError
from bench.training.model import Backbone, Classifier, PublishedCheckpoint
from bench.training.weights import hash_weights, initialize, load_classifier, load_published, read_weights, save_weights


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

    def forward(self, signals: Tensor) -> Tensor:
        return self.layer(signals.mean(-1))  # type: ignore[no-any-return]


class Unpublished(Tiny):
    checkpoint = None


class Encoder(Tiny):
    """Published with a decoder, and with the head that ours is called like."""

    checkpoint = PublishedCheckpoint(
        "lab/mae", "mae.pth", "v1", prefix="encoder.", head_prefix="head.", left_out=("decoder.", "mask_token")
    )


def published(**changes: Tensor | None) -> dict[str, Tensor]:
    torch.manual_seed(1)
    state = {"layer.weight": torch.randn(4, 12), "layer.bias": torch.randn(4), "dense.weight": torch.randn(150, 4)}
    state |= {"dense.bias": torch.randn(150)}
    state |= {key.replace("__", "."): value for key, value in changes.items() if value is not None}
    return {key: value for key, value in state.items() if changes.get(key.replace(".", "__"), value) is not None}


def one_line(error: pytest.ExceptionInfo[CheckpointError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_published_checkpoint_loads_strictly(tmp_path: Path) -> None:
    """As ECGFounder's is: 509 keys, with the optimiser, the schedule and a NumPy scalar beside them."""
    torch.manual_seed(0)
    theirs = Classifier(ECGFounder(), 150)
    names = {key: key.replace("backbone.", "").replace("head.", "dense.") for key in theirs.state_dict()}
    state = {names[key]: value for key, value in theirs.state_dict().items()}
    assert len(state) == 509 and state["stage_list.0.block_list.0.conv2.conv.weight"].shape == (64, 16, 16)
    optimizer = torch.optim.Adam(theirs.head.parameters())
    lr_schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    document = {
        "epoch": 3,
        "step": 1200,
        "state_dict": state,
        "optimizer": optimizer.state_dict(),
        "scheduler": lr_schedule.state_dict(),
        "val_auroc": np.float64(0.91),
    }
    torch.save(document, tmp_path / "founder.pth")
    backbone = ECGFounder()

    init = initialize(backbone, str(tmp_path / "founder.pth"))

    assert init.left_out == ("dense.weight", "dense.bias")
    assert init.sha256 == hash_weights(theirs.backbone.state_dict()) == hash_weights(backbone.state_dict())
    assert (init.name, init.source) == (f"own:{init.sha256[:8]}", "founder.pth")
    (tmp_path / "founder.pth").unlink()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer__bias": None}, "it lacks 1 of its keys: layer.bias"),
        ({"extra__weight": torch.ones(1)}, "it has unknown 1 of its keys: extra.weight"),
        ({"layer__bias": torch.ones(5)}, r"it has misshapen 1 of its keys: layer.bias \[5\] instead of \[4\]"),
    ],
)
def test_keys_and_shapes_must_fit(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    torch.save({"state_dict": published(**changes)}, tmp_path / "file.pth")
    backbone = Tiny()
    before = hash_weights(backbone.state_dict())

    with pytest.raises(CheckpointError, match=f"file.pth does not fit the backbone: {message}") as error:
        initialize(backbone, str(tmp_path / "file.pth"))

    assert one_line(error) and hash_weights(backbone.state_dict()) == before


class Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(zipped: bool, tmp_path: Path) -> None:
    document = {"state_dict": published(), "val_auroc": Attack(tmp_path / "owned")}
    if zipped:
        torch.save(document, tmp_path / "evil.pth")
    else:
        (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": {}, "x": Attack(tmp_path / "owned")}, 2))

    with pytest.raises(
        CheckpointError, match=r"evil.pth was not loaded: it holds more than weights, \w+.system, and"
    ) as error:
        initialize(Tiny(), str(tmp_path / "evil.pth"))

    assert one_line(error) and not (tmp_path / "owned").exists()


@pytest.mark.parametrize("kind", ["truncated", "cut off", "older, cut off", "text", "empty", "numbers"])
def test_what_is_no_checkpoint_is_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save({"state_dict": published(), "more": torch.zeros(2**17)}, path)
    torch.save({"state_dict": published()}, tmp_path / "older.pth", _use_new_zipfile_serialization=False)
    whole, older = path.read_bytes(), (tmp_path / "older.pth").read_bytes()
    if kind == "numbers":
        torch.save({"state_dict": {"layer.weight": 1.0}}, path)
    else:
        parts = {"truncated": whole[: len(whole) // 2], "cut off": whole[:70_000], "older, cut off": older[:56]}
        path.write_bytes({**parts, "text": b"hello, world\n", "empty": b""}[kind])

    with pytest.raises(
        CheckpointError, match=r"is not a file of weights, or it is damaged or incomplete$|holds no state dict"
    ) as error:
        initialize(Tiny(), str(path))

    assert one_line(error).startswith(str(path)) and len(str(error.value)) < 400


def test_a_path_without_weights_is_one_line(tmp_path: Path) -> None:
    no_file, no_tensors = tmp_path / "no.pth", tmp_path / "no.safetensors"
    for path, missing in ((tmp_path, tmp_path / "weights.pt"), (no_file, no_file), (no_tensors, no_tensors)):
        with pytest.raises(CheckpointError, match=f"no file of weights at {missing}"):
            initialize(Tiny(), str(path))
    with pytest.raises(CheckpointError, match=f"no file of weights at {no_tensors}"):
        read_weights(no_tensors)
    (tmp_path / "weights.pt").mkdir()
    with pytest.raises(CheckpointError, match="is not a file of weights, Is a directory"):
        initialize(Tiny(), str(tmp_path))


@pytest.mark.parametrize(("typed", "meant"), [("randm", "random"), ("pre-trained", "pretrained")])
def test_a_start_with_a_typo_is_answered_with_what_was_meant(typed: str, meant: str) -> None:
    with pytest.raises(
        CheckpointError, match=f"at {typed}. Did you mean '{meant}'. Expected: pretrained, random, a file or a run"
    ):
        initialize(Tiny(), typed)


def test_a_run_starts_from_another_runs_folder(tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = Classifier(Tiny(), 5)
    save_weights(model, tmp_path / "weights.pt", {"digest": "abc", "trained_on": "a task"})
    backbone, other = Tiny(), Classifier(Tiny(), 5)

    init = initialize(backbone, str(tmp_path))
    load_classifier(other, tmp_path / "weights.pt")

    assert init.name == "own:" + hash_weights(model.backbone.state_dict())[:8]
    assert init.left_out == ("head.weight", "head.bias") and init.facts == {"digest": "abc", "trained_on": "a task"}
    assert hash_weights(other.state_dict()) == hash_weights(model.state_dict())
    with pytest.raises(CheckpointError, match=r"misshapen 2 of its keys: head.weight \[5, 4\] instead of \[6, 4\]"):
        load_classifier(Classifier(Tiny(), 6), tmp_path / "weights.pt")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"module." + k: s[k] for k in s}])
def test_a_bare_or_parallel_state_dict_will_do(wrap: Any, tmp_path: Path) -> None:
    torch.save(wrap({key: value for key, value in published().items() if "dense" not in key}), tmp_path / "w.pt")
    backbone = Unpublished()

    assert initialize(backbone, str(tmp_path / "w.pt")).left_out == ()
    assert torch.equal(backbone.layer.bias, published()["layer.bias"])


class Wrapped(Backbone):
    """Its own keys begin as those of our files do."""

    signal_spec = SignalSpec(100, "zscore")
    feature_dim = 4
    checkpoint = PublishedCheckpoint("lab/wrapped", "wrapped.pth", "v1", head_prefix="head.")

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Tiny()


def test_published_keys_may_look_like_ours(tmp_path: Path) -> None:
    theirs = {key.replace("layer", "backbone.layer").replace("dense", "head"): v for key, v in published().items()}
    torch.save(theirs, tmp_path / "wrapped.pth")
    backbone, again = Wrapped(), Wrapped()

    assert initialize(backbone, str(tmp_path / "wrapped.pth")).left_out == ("head.weight", "head.bias")
    save_weights(Classifier(backbone, 5), tmp_path / "weights.pt", {})
    initialize(again, str(tmp_path))

    assert torch.equal(again.backbone.layer.weight, published()["layer.weight"])


def masked_autoencoder() -> dict[str, Tensor]:
    theirs = {key.replace("layer", "encoder.layer").replace("dense", "head"): v for key, v in published().items()}
    return theirs | {"decoder.layer.weight": torch.ones(2), "mask_token": torch.ones(1)}


def test_a_published_encoder_loads_without_its_decoder(tmp_path: Path) -> None:
    torch.save(masked_autoencoder(), tmp_path / "mae.pth")
    backbone = Encoder()

    init = initialize(backbone, str(tmp_path / "mae.pth"))

    assert set(init.left_out) == {"head.weight", "head.bias", "decoder.layer.weight", "mask_token"}
    assert torch.equal(backbone.layer.weight, published()["layer.weight"])
    whole = Classifier(Encoder(), 150)
    load_published(whole, tmp_path / "mae.pth")
    assert torch.equal(whole.head.bias, published()["dense.bias"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer.weight": torch.ones(4, 12)}, "it has unknown 1 of its keys: layer.weight"),
        ({"neck.weight": torch.ones(1)}, "it has unknown 1 of its keys: neck.weight"),
        ({"encoder.layer.bias": torch.ones(5)}, "it has misshapen 1 of its keys: encoder.layer.bias"),
    ],
)
def test_what_is_not_said_to_be_left_out_is_not(changes: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    torch.save(masked_autoencoder() | changes, tmp_path / "mae.pth")

    with pytest.raises(CheckpointError, match=message):
        initialize(Encoder(), str(tmp_path / "mae.pth"))


@pytest.mark.parametrize("kind", [Tiny, Encoder, Unpublished])
def test_a_file_of_ours_loads_whatever_the_published_one_is_like(kind: type[Tiny], tmp_path: Path) -> None:
    model, backbone = Classifier(kind(), 5), kind()
    save_weights(model, tmp_path / "weights.pt", {})

    assert initialize(backbone, str(tmp_path)).left_out == ("head.weight", "head.bias")
    assert hash_weights(backbone.state_dict()) == hash_weights(model.backbone.state_dict())


def test_facts_about_a_file_need_not_be_facts(tmp_path: Path) -> None:
    torch.save({"state_dict": published(), "about": "mine"}, tmp_path / "w.pt")

    assert read_weights(tmp_path / "w.pt")[1] == {}


def test_one_value_changes_the_hash() -> None:
    state = published()
    other = {key: value.clone() for key, value in state.items()}
    assert hash_weights(state) == hash_weights(dict(reversed(other.items())))

    other["layer.weight"][2, 3] = torch.nextafter(other["layer.weight"][2, 3], torch.tensor(9.0))

    assert hash_weights(state) != hash_weights(other)
    assert hash_weights({"a": torch.zeros(2, 3)}) != hash_weights({"a": torch.zeros(3, 2)})
    assert hash_weights({"a": torch.zeros(2)}) != hash_weights({"b": torch.zeros(2)})


def test_random_is_the_start_without_a_checkpoint() -> None:
    assert initialize(Unpublished(), None).name == initialize(Tiny(), "random").name == "random"
    for init in ("pretrained", "pretrained@v2"):
        with pytest.raises(
            CheckpointError, match="Unpublished has no published checkpoint; use --init random or a file"
        ):
            initialize(Unpublished(), init)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as a download asks for."""

    files: ClassVar[dict[str, tuple[str, bytes]]] = {}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        found = self.files.get(self.path)
        self.send_response(200 if found else 404)
        commit, content = found or ("", b"")
        if found:
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
        else:
            self.send_header("X-Error-Code", "RevisionNotFound")
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
    Hub.asked = []
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
    }
    assert torch.equal(backbone.layer.weight, published()["layer.weight"])
    json.dumps(init.facts)

    initialize(Tiny(), "pretrained")
    assert sum(request.startswith("GET /lab/tiny") for request in hub.asked) == 1, hub.asked

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    num_asked = len(hub.asked)
    assert initialize(Tiny(), "pretrained").facts == init.facts
    assert len(hub.asked) == num_asked, "offline, the cache alone is asked"


def test_another_revision_can_be_asked_for(hub: type[Hub]) -> None:
    hub.files["/lab/tiny/resolve/v2/files/tiny.pth"] = ("f" * 40, hub.files["/lab/tiny/resolve/v1/files/tiny.pth"][1])

    assert initialize(Tiny(), "pretrained@v2").facts["commit"] == "f" * 40
    with pytest.raises(CheckpointError, match=r"could not get files/tiny.pth of lab/tiny at revision v3 from") as error:
        initialize(Tiny(), "pretrained@v3")
    assert "give a downloaded file with --init PATH, or use --init random" in one_line(error)


@pytest.mark.parametrize("offline", [False, True])
def test_no_hub_and_no_cache_is_one_line(offline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_hub_at(monkeypatch, "http://127.0.0.1:9", tmp_path, offline)

    with pytest.raises(CheckpointError, match=r"could not get files/tiny.pth of lab/tiny at revision v1 from") as error:
        initialize(Tiny(), None)

    one_line(error)


def test_a_download_that_breaks_off_is_one_line(hub: type[Hub]) -> None:
    class Half(bytes):
        def __len__(self) -> int:
            return 100_000

    name, (commit, content) = next(iter(hub.files.items()))
    hub.files[name] = (commit, Half(content))

    with pytest.raises(CheckpointError, match=r"could not get files/tiny.pth") as error:
        initialize(Tiny(), None)

    one_line(error)


def test_the_head_that_is_left_out_is_kept_for_methods_that_want_it(tmp_path: Path) -> None:
    """Recorded by shapes and hash, where it is handed on; another head is another start."""
    first, second = (Classifier(Net1DMini(), 3) for _ in range(2))
    second.backbone.load_state_dict(first.backbone.state_dict())
    inits = []
    for number, model in enumerate((first, second)):
        save_weights(model, tmp_path / f"{number}.pt", about={})
        inits.append(initialize(Net1DMini(), str(tmp_path / f"{number}.pt")))

    assert torch.equal(inits[0].head["weight"], first.head.weight)
    facts = [init.recorded() for init in inits]
    assert facts[0]["head"] == {"weight": [3, 256], "bias": [3]}
    assert facts[0]["sha256"] == facts[1]["sha256"] and facts[0]["head_sha256"] != facts[1]["head_sha256"]
    assert "head_sha256" not in replace(inits[0], head={}).recorded()
