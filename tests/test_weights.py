"""Weights come in whole or not at all, run no code, and say where they are from."""

import importlib.util
import json
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines.net1d import ECGFounder, Net1DMini
from bench.data.signals import SignalSpec
from bench.errors import CheckpointError
from bench.execute import make_method
from bench.registry.reference import Reference
from bench.results.document import quoted
from bench.training.batch import Start
from bench.training.model import Backbone, Classifier
from bench.training.published import PublishedCheckpoint
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
    assert (init.name, init.source) == (f"file:{init.sha256[:8]}", "founder.pth")
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


@pytest.mark.parametrize("method", ["lora", "lora(rank=4)", "adapter"])
def test_weights_of_a_run_whose_method_altered_the_backbone_name_it(method: str, tmp_path: Path) -> None:
    reference = Reference.parse(method)
    model = Classifier(Net1DMini(), 5)
    make_method(reference).prepare(model, Start("random", 10, (5,) * 5))
    about = {"digest": "abc", "trained_on": "a task", "command": f"bench run --method {quoted(reference)} --seed 1"}
    save_weights(model, tmp_path / "weights.pt", about)

    with pytest.raises(CheckpointError) as error:
        initialize(Net1DMini(), str(tmp_path))

    named = re.escape(
        f"a run left the file, whose method {quoted(reference)} altered the backbone, or whose backbone was"
    )
    assert re.search(f"{named} another; take the weights of a run .* such as ft$", one_line(error))
    assert "PublishedCheckpoint" not in one_line(error)


def test_weights_of_a_run_of_another_backbone_name_it(tmp_path: Path) -> None:
    about = {"digest": "abc", "trained_on": "a task", "command": "bench run --task form --arch net1d_mini --method ft"}
    save_weights(Classifier(Net1DMini(), 5), tmp_path / "weights.pt", about)

    with pytest.raises(CheckpointError, match="; the file is of net1d_mini, and a run by method ft left it; take the "):
        initialize(Tiny(), str(tmp_path))


def test_weights_by_the_name_that_boards_give_them_are_asked_for_as_a_file() -> None:
    with pytest.raises(CheckpointError, match=r"at own:389512e4: .* give that run's folder or its weights.pt, or one "):
        initialize(Tiny(), "own:389512e4")


NOT_SAID = "; the file has .*, the backbone expects .*; the backbone's PublishedCheckpoint says with state_dict, "


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {f"_orig_mod.{key}": value for key, value in s.items()},
        lambda s: {"model": s, "optimizer": {"state": {}, "lr": torch.ones(1)}, "epoch": 3},
        lambda s: {"model_state_dict": {f"module._orig_mod.{key}": value for key, value in s.items()}},
        lambda s: {"state_dict": {f"model.net.backbone.{key}": value for key, value in s.items()}},
        lambda s: {"encoder": s, "decoder": {"layer.weight": torch.ones(2)}},
        lambda s: {"teacher": {f"encoder.{k}": v for k, v in s.items()}, "student": {"other.weight": torch.ones(1)}},
        lambda s: {"ema": {"module": s, "decay": 0.99}},
        lambda s: {"model": s, "model_ema": {f"module.{key}": value.clone() for key, value in s.items()}},
        lambda s: {**{f"module.{key}": value for key, value in s.items()}, "n_averaged": torch.ones(())},
        lambda s: {f"model.{key}": value for key, value in (s | {"head.weight": torch.ones(5, 4)}).items()},
    ],
    ids=["compiled", "model", "stacked", "lightning", "encoder", "teacher", "ema", "equal", "averaged", "head"],
)
@pytest.mark.parametrize("kind", [Unpublished, Tiny, Encoder])
def test_prefixes_and_names_of_other_trainers_are_read(kind: type[Tiny], wrap: Any, tmp_path: Path) -> None:
    weights = {key: value for key, value in published().items() if "dense" not in key}
    torch.save(wrap(weights), tmp_path / "theirs.pt")
    backbone = kind()

    init = initialize(backbone, str(tmp_path / "theirs.pt"))

    assert torch.equal(backbone.layer.weight, weights["layer.weight"])
    assert torch.equal(backbone.layer.bias, weights["layer.bias"])
    assert init.sha256 == hash_weights(weights)
    assert all("layer" not in key for key in init.left_out)


def test_weights_that_may_be_either_are_not_guessed(tmp_path: Path) -> None:
    one = {key: value for key, value in published().items() if "dense" not in key}
    other = {key: value + 1 for key, value in one.items()}
    torch.save({"teacher": one, "student": {f"module.{key}": value for key, value in other.items()}}, tmp_path / "w.pt")
    backbone = Unpublished()
    before = hash_weights(backbone.state_dict())

    with pytest.raises(CheckpointError, match="several weights that fit the backbone: keys under 'teacher'; ") as error:
        initialize(backbone, str(tmp_path / "w.pt"))

    assert "keys under 'student' after 'module.'" in one_line(error) and "PublishedCheckpoint" in one_line(error)
    assert hash_weights(backbone.state_dict()) == before

    class Student(Tiny):
        checkpoint = PublishedCheckpoint("lab/dino", "w.pt", "v1", state_dict="student", prefix="module.")

    student = Student()
    initialize(student, str(tmp_path / "w.pt"))
    assert torch.equal(student.layer.bias, other["layer.bias"])


def test_keys_that_do_not_fit_are_shown_beside_those_expected(tmp_path: Path) -> None:
    torch.save({"net.conv.weight": torch.ones(1), "net.conv.bias": torch.ones(1)}, tmp_path / "w.pt")

    with pytest.raises(CheckpointError, match="lacks 2 of its keys: layer.weight, layer.bias" + NOT_SAID) as error:
        initialize(Unpublished(), str(tmp_path / "w.pt"))

    assert "the file has net.conv.weight, net.conv.bias, the backbone expects layer.weight, layer.bias" in one_line(
        error
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    weights = published()
    weights["layer.weight"][1, 2:4] = value
    torch.save(weights, tmp_path / "w.pt")
    backbone = Tiny()
    before = hash_weights(backbone.state_dict())
    expected = r"w.pt holds weights that are not finite: 2 of 48 values of layer.weight are NaN or infinite; take a"

    with pytest.raises(CheckpointError, match=expected) as error:
        initialize(backbone, str(tmp_path / "w.pt"))
    assert one_line(error) and hash_weights(backbone.state_dict()) == before

    with pytest.raises(CheckpointError, match=expected.replace("layer", "backbone.layer")):
        load_published(Classifier(Tiny(), 150), tmp_path / "w.pt")

    model = Classifier(Tiny(), 2)
    save_weights(model, tmp_path / "run.pt", {})
    with torch.no_grad():
        model.head.bias[0] = value
    save_weights(model, tmp_path / "run.pt", {})
    with pytest.raises(CheckpointError, match=r"1 of 2 values of head.bias are NaN"):
        load_classifier(Classifier(Tiny(), 2), tmp_path / "run.pt")


@pytest.mark.filterwarnings("ignore::UserWarning")  # quantised tensors are deprecated, and older files have them
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda value: value.to(torch.int8),
            r"layer\.weight is of type int8, expected one of float32, ",
        ),
        (lambda value: value > 0, r"layer\.weight is of type bool"),
        (lambda value: value.to(torch.complex64) * 1j, r"layer\.weight is of type complex64"),
        (lambda value: value.to(torch.float8_e4m3fn), r"layer\.weight is of type float8_e4m3fn"),
        (lambda value: value.double() * 1e300, r"\d+ of 48 values of layer\.weight are NaN or infinite"),
        (lambda value: value.to_sparse(), r"layer\.weight' is sparse float32, expected a dense tensor"),
        (lambda value: value.to("meta"), r"layer\.weight' is without values float32, expected a dense tensor"),
        (lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), r"layer\.weight' is quantised qint8"),
    ],
)
def test_values_that_would_be_lost_are_refused(other: Callable[[Tensor], Tensor], message: str, tmp_path: Path) -> None:
    weights = published()
    torch.save({**weights, "layer.weight": other(weights["layer.weight"])}, tmp_path / "w.pt")

    with pytest.raises(CheckpointError, match=message) as error:
        initialize(Tiny(), str(tmp_path / "w.pt"))
    assert one_line(error)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.save({key: value.to(dtype) for key, value in published().items()}, tmp_path / "w.pt")
    backbone = Tiny()
    initialize(backbone, str(tmp_path / "w.pt"))

    assert torch.equal(backbone.layer.weight, published()["layer.weight"].to(dtype).float())


class Counting(Tiny):
    """Counts its batches, as batch norm does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("num_batches", torch.tensor(7))


def test_a_whole_number_may_be_stored_as_another_type(tmp_path: Path) -> None:
    torch.save({**published(), "num_batches": torch.tensor(9.0)}, tmp_path / "whole.pt")
    torch.save({**published(), "num_batches": torch.tensor(9.5)}, tmp_path / "half.pt")
    backbone = Counting()
    initialize(backbone, str(tmp_path / "whole.pt"))

    assert int(backbone.get_buffer("num_batches")) == 9
    with pytest.raises(CheckpointError, match=r"num_batches has values that are no int64, but float32"):
        initialize(Counting(), str(tmp_path / "half.pt"))


@pytest.mark.parametrize(
    "about",
    [{"labels": torch.zeros(2)}, {"labels": [{}]}, {"command": ["rm"]}, {"digest": 5}, {"trained_on": None}],
    ids=str,
)
def test_facts_of_another_kind_do_not_make_a_file_own(about: dict[str, Any], tmp_path: Path) -> None:
    save_weights(Classifier(Tiny(), 5), tmp_path / "w.pt", {"digest": "abc", "trained_on": "a task", **about})

    assert initialize(Tiny(), str(tmp_path / "w.pt")).name.startswith("file:")


def test_only_known_facts_of_a_file_enter_the_result(tmp_path: Path) -> None:
    facts = {"digest": "abc", "trained_on": "a task", "command": None, "labels": ["A"]}
    save_weights(Classifier(Tiny(), 5), tmp_path / "w.pt", {**facts, "more": torch.zeros(2)})

    assert initialize(Tiny(), str(tmp_path / "w.pt")).facts == facts


class Masked(Tiny):
    """Its mask of attention holds infinities, as masks do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))


def test_infinities_that_a_backbone_is_built_with_are_no_fault(tmp_path: Path) -> None:
    save_weights(Classifier(Masked(), 2), tmp_path / "w.pt", {})

    assert initialize(Masked(), str(tmp_path / "w.pt")).left_out == ("head.weight", "head.bias")


def test_a_file_says_who_made_it(tmp_path: Path) -> None:
    torch.save(published(), tmp_path / "theirs.pth")
    sha256_of_file = sha256((tmp_path / "theirs.pth").read_bytes()).hexdigest()

    class Known(Tiny):
        checkpoint = PublishedCheckpoint("lab/tiny", "tiny.pth", "v1", head_prefix="dense.", sha256=sha256_of_file)

    stranger, known = (initialize(kind(), str(tmp_path / "theirs.pth")) for kind in (Tiny, Known))
    save_weights(Classifier(Tiny(), 5), tmp_path / "run.pt", {"digest": "abc", "trained_on": "a task"})
    run = initialize(Tiny(), str(tmp_path / "run.pt"))

    assert stranger.name == f"file:{stranger.sha256[:8]}"
    maybe = {"terms": Tiny.checkpoint.terms(), "unverified": True}
    assert stranger.facts == {"file": "theirs.pth", "file_sha256": sha256_of_file, "read_as": "keys", **maybe}
    assert known.name == "pretrained" and known.sha256 == stranger.sha256
    file = {"repo": "lab/tiny", "file": "tiny.pth", "file_sha256": sha256_of_file}
    unknown = {"license": "not stated", "noncommercial": False, "pretraining_data": "", "ptbxl_seen": "unknown"}
    assert known.facts == {**file, "terms": {**unknown, "source": ""}}
    assert run.name == f"own:{run.sha256[:8]}" and run.facts["digest"] == "abc"


def test_safetensors_are_read_or_the_package_is_named(tmp_path: Path) -> None:
    path, weights = tmp_path / "w.safetensors", {"layer.weight": torch.randn(4, 12), "layer.bias": torch.randn(4)}
    path.write_bytes(safetensors_of({f"encoder.{key}": value for key, value in weights.items()}))
    backbone = Unpublished()

    if importlib.util.find_spec("safetensors") is None:
        with pytest.raises(CheckpointError, match=r"is read by the package safetensors, .* pip install"):
            initialize(backbone, str(path))
        return
    assert initialize(backbone, str(path)).sha256 == hash_weights(weights)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="is not a file of weights, or it is damaged or incomplete"):
        initialize(backbone, str(path))


def safetensors_of(weights: dict[str, Tensor]) -> bytes:
    """Float32 tensors as the format has them: the header's length, the header as JSON, the values."""
    header, body = {}, b""
    for key, value in weights.items():
        values = value.numpy().tobytes()
        offsets = [len(body), len(body) + len(values)]
        header[key] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": offsets}
        body += values
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


class Tied(Unpublished):
    """Its layers are one, as in ALBERT, and so are two weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.out = nn.ModuleList([nn.Linear(4, 4)] * 3), nn.Linear(12, 4)
        self.out.weight = self.layer.weight


OTHERS = (("layers.1.", "layers.2.", "out.weight"), ("layers.0.", "layers.1.", "layer.weight"))


@pytest.mark.parametrize("left_out", OTHERS)
@pytest.mark.parametrize("prefix", ["", "model.encoder."])
def test_one_name_of_a_tied_tensor_is_enough(prefix: str, left_out: tuple[str, ...], tmp_path: Path) -> None:
    """safetensors keep a single name of a tensor that has several."""
    theirs, backbone = Tied(), Tied()
    kept = {prefix + key: value.clone() for key, value in theirs.state_dict().items() if not key.startswith(left_out)}
    assert len(kept) == 5
    torch.save(kept, tmp_path / "file.pth")

    init = initialize(backbone, str(tmp_path / "file.pth"))

    assert init.sha256 == hash_weights(theirs.state_dict())
    del kept[f"{prefix}out.bias"]
    torch.save(kept, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=r"lacks 1 of its keys: (model\.encoder\.)?out\.bias"):
        initialize(Tied(), str(tmp_path / "file.pth"))


def test_two_states_with_one_name_a_tied_tensor_are_not_guessed(tmp_path: Path) -> None:
    states = {}
    for name in ("student", "teacher"):
        kept = {
            key: value for key, value in Tied().state_dict().items() if not key.startswith(("layers.1", "layers.2"))
        }
        states |= {f"{name}.{key}": value for key, value in kept.items()}
    torch.save(states, tmp_path / "file.pth")

    with pytest.raises(CheckpointError, match="holds several weights that fit the backbone"):
        initialize(Tied(), str(tmp_path / "file.pth"))


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


def test_weights_trained_from_published_ones_keep_their_terms(tmp_path: Path) -> None:
    assert Tiny.checkpoint
    terms = Tiny.checkpoint.terms()
    about = {"digest": "abc", "trained_on": "a task", "command": "bench run", "repo": "lab/tiny", "unverified": True}
    save_weights(Classifier(Tiny(), 5), tmp_path / "weights.pt", {**about, "terms": {**terms, "more": "x"}})

    assert initialize(Tiny(), str(tmp_path)).facts == {**about, "terms": terms}

    save_weights(Classifier(Tiny(), 5), tmp_path / "weights.pt", {**about, "repo": 5, "terms": {"license": [1]}})
    facts = initialize(Tiny(), str(tmp_path)).facts
    assert "terms" not in facts and "repo" not in facts and facts["unverified"] is True


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


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_the_head_of_a_published_file_is_known_behind_a_wrapper(wrapper: str, tmp_path: Path) -> None:
    theirs = published()
    torch.save({wrapper + key: value for key, value in theirs.items()}, tmp_path / "tiny.pth")
    head = initialize(Tiny(), str(tmp_path / "tiny.pth")).head

    assert head.keys() == {"weight", "bias"}
    assert torch.equal(head["weight"], theirs["dense.weight"])


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


class Renamed(Tiny):
    """Its published names, without the rename, are names of other parts here."""

    checkpoint = PublishedCheckpoint(
        "lab/tiny",
        "tiny.pth",
        "v1",
        renames=((r"^(.*)layer\.weight$", r"\1layer.bias"), (r"^(.*)w$", r"\1layer.weight")),
    )


def test_renames_are_of_the_published_file_and_not_of_a_run(tmp_path: Path) -> None:
    state = published()
    torch.save({"layer.weight": state["layer.bias"], "w": state["layer.weight"]}, tmp_path / "published.pth")
    torch.manual_seed(5)
    model, backbone, again = Classifier(Renamed(), 5), Renamed(), Renamed()
    save_weights(model, tmp_path / "weights.pt", {})

    initialize(backbone, str(tmp_path / "published.pth"))
    initialize(again, str(tmp_path))

    assert torch.equal(backbone.layer.weight, state["layer.weight"])
    assert torch.equal(backbone.layer.bias, state["layer.bias"])
    assert hash_weights(again.state_dict()) == hash_weights(model.backbone.state_dict())


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
