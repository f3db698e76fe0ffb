"""Files of weights by malice or chance: no code in them runs, and each is refused in a single line or loaded whole."""

import contextlib
import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.data.signals import SignalSpec
from bench.errors import CheckpointError
from bench.training.model import Backbone
from bench.training.published import PublishedCheckpoint
from bench.training.weights import initialize, read_state_dicts

EAGER = PublishedCheckpoint("lab/x", "x.pth", "v1", inert_classes=(".*",))
"""Declares every class as inert: the widest pattern that a backbone can write."""
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def text(value: str) -> bytes:
    """Pickle a text (protocol 2)."""
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def calls(marker: Path) -> list[bytes]:
    """Return pickled expressions, each of which would create `marker` if it ran."""
    order = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    path = text(str(marker))
    return [
        b"cos\nsystem\n" + text(order) + b"\x85R",  # GLOBAL, REDUCE
        b"cposix\nsystem\n" + text(order) + b"\x85R",
        b"csubprocess\nrun\n" + text(order) + b"N\x88\x87R",
        b"cbuiltins\neval\n" + text(code) + b"\x85R",
        b"c__builtin__\nexec\n" + text(code) + b"\x85R",
        b"cbuiltins\ngetattr\ncos\nmodule\n" + text("system") + b"\x86R" + text(order) + b"\x85R",
        b"(" + text(order) + b"ios\nsystem\n",  # INST
        b"(cos\nsystem\n" + text(order) + b"o",  # OBJ
        b"cpathlib\nPosixPath\n" + path + b"\x85\x81",  # NEWOBJ
        b"\x80\x04" + text("os") + text("system") + b"\x93" + text(order) + b"\x85R",  # STACK_GLOBAL
        b"cio\nopen\n" + path + text("w") + b"\x86R",
        b"ctorch\nload\n" + path + b"\x85R",
        b"ctorch.serialization\nload\n" + path + b"\x85R",
        b"ctorch.hub\nload_state_dict_from_url\n" + text(f"file://{marker}") + b"\x85R",
        b"cnumpy\nsave\n" + path + b"K\x01\x86R",
        b"ctorch\nsave\nK\x01" + path + b"\x86R",
        b"ctorch._utils\n_rebuild_tensor_v2\ncos\nsystem\n\x85R",
        b"ccollections\nOrderedDict\n)R}" + text("__reduce__") + b"cos\nsystem\nsb",  # BUILD
        b"cbench.training.weights\n_Inert\n)R}" + text("__class__") + b"cos\nsystem\nsb",
        b"cmine\nConfig\n" + text(order) + b"\x85R}" + text("__setstate__") + b"cos\nsystem\nsb",
        b"cmine.os\nsystem\n" + text(order) + b"\x85R",
        b"cmine\nConfig\n" + text(order) + b"\x85RcMine\nOther\n)R\x85R",  # calls what a call returned
    ]


def wrapped(expression: bytes, wraps: list[str]) -> bytes:
    """Return an expression within containers."""
    around = {
        "list": (b"]", b"a"),
        "tuple": (b"", b"\x85"),
        "value": (b"}" + text("state_dict"), b"s"),
        "memo": (b"", b"q\x00h\x00\x86"),
        "frozen": (b"(", b"\x91"),
        "popped": (b"", b"0N"),
    }
    for kind in wraps:
        before, after = around[kind]
        expression = before + expression + after
    return expression


def as_pickle(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def as_zip(body: bytes, root: str = "archive", name: str = "data.pkl") -> bytes:
    """Return a zip file as torch.save writes it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"{root}/{name}", as_pickle(body))
        archive.writestr(f"{root}/version", "3\n")
        archive.writestr(f"{root}/byteorder", "little")
        archive.writestr(f"{root}/data/0", b"\0" * 64)
    return stream.getvalue()


def as_legacy(body: bytes) -> bytes:
    """Return torch's format of before 1.6: magic number, protocol, machine, content, keys of storages."""
    heads = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001, "type_sizes": {}}]
    return b"".join(pickle.dumps(head, 2) for head in heads) + as_pickle(body) + pickle.dumps([], 2)


def as_tar(body: bytes) -> bytes:
    """Return torch's first format: a tar of pickles."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            content = as_pickle(body)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


FORMATS = {"pickle": as_pickle, "zip": as_zip, "legacy": as_legacy, "tar": as_tar}


def refused(path: Path, checkpoint: PublishedCheckpoint | None) -> str:
    """Return the message with which a file is refused; empty if it is read."""
    try:
        read_state_dicts(path, checkpoint)
    except CheckpointError as error:
        message = str(error)
    else:
        return ""
    assert message and "\n" not in message
    return message


@pytest.mark.parametrize("checkpoint", [None, EAGER], ids=["nothing inert", "all inert"])
@pytest.mark.parametrize("form", FORMATS)
def test_no_call_in_a_file_runs(form: str, checkpoint: PublishedCheckpoint | None, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pth"
    for expression in calls(marker):
        path.write_bytes(FORMATS[form](wrapped(expression, ["value"])))
        assert refused(path, checkpoint), expression
        assert not marker.exists(), expression


@pytest.mark.filterwarnings("ignore")  # a file that is opened and not closed
def test_the_calls_would_run_elsewhere(tmp_path: Path) -> None:
    """Python's own reader runs them: so the marker shows what it is to show."""
    marker = tmp_path / "ran"
    made = 0
    for expression in calls(marker):
        with contextlib.suppress(Exception):  # some need classes that are not there
            pickle.loads(as_pickle(expression))
        made += marker.exists()
        marker.unlink(missing_ok=True)
    assert made >= 5


@QUICK
@given(data=st.data())
def test_no_call_runs_wherever_it_stands(data: st.DataObject, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pth"
    expression = data.draw(st.sampled_from(calls(marker)))
    wraps = data.draw(st.lists(st.sampled_from(["list", "tuple", "value", "memo", "frozen", "popped"]), max_size=5))
    form = data.draw(st.sampled_from(sorted(FORMATS)))
    checkpoint = data.draw(st.sampled_from([None, EAGER]))
    path.write_bytes(FORMATS[form](wrapped(expression, wraps)))

    assert refused(path, checkpoint)
    assert not marker.exists()


@QUICK
@given(body=st.binary(max_size=200), form=st.sampled_from(sorted(FORMATS)), inert=st.booleans())
def test_random_bytes_are_refused_in_a_line(body: bytes, form: str, inert: bool, tmp_path: Path) -> None:
    path = tmp_path / "random.pth"
    path.write_bytes(FORMATS[form](body))
    assert refused(path, EAGER if inert else None)


@QUICK
@given(at=st.integers(min_value=0), bits=st.integers(1, 255), zipped=st.booleans(), inert=st.booleans())
def test_a_damaged_file_is_read_or_refused_in_a_line(
    at: int, bits: int, zipped: bool, inert: bool, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    torch.save({"state_dict": {"w": torch.ones(3)}, "epoch": 3}, stream, _use_new_zipfile_serialization=zipped)
    content = bytearray(stream.getvalue())
    content[at % len(content)] ^= bits
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    refused(path, EAGER if inert else None)


@pytest.mark.parametrize("root", ["", "../..", "/tmp", "a/b", "archive\\..", "n" * 300])
def test_odd_names_in_a_zip_are_refused_or_read_and_nothing_is_written(root: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    path.write_bytes(as_zip(b"}", root=root))
    assert refused(path, None)
    assert [file.name for file in tmp_path.iterdir()] == ["odd.pth"]


@pytest.mark.parametrize("size", [10**9, 10**12, 2**62])
def test_a_tensor_that_the_file_does_not_hold_is_refused(size: int, tmp_path: Path) -> None:
    """Shape and storage are what the file declares; 64 bytes are there."""
    number = b"\x8a\x08" + size.to_bytes(8, "little")
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + number + b"\x85K\x01\x85\x89ccollections\n"
    tensor += b"OrderedDict\n)RtR"
    path = tmp_path / "huge.pth"
    path.write_bytes(as_zip(b"}" + text("state_dict") + b"}" + text("w") + tensor + b"ss"))
    assert refused(path, None)


class Tiny(Backbone):
    """A backbone whose file has configuration classes beside the weights."""

    signal_spec = SignalSpec(100, "zscore")
    feature_dim = 3
    checkpoint = PublishedCheckpoint("lab/x", "x.pth", "v1", inert_classes=(r"lab\.config\.",))

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 3)


class Unaware(Tiny):
    checkpoint = None


def test_declared_classes_are_read_as_objects_that_hold_nothing(tmp_path: Path) -> None:
    """The file is written by the real class and read where that is not."""
    import sys
    import types

    module = types.ModuleType("lab.config")

    class Config:
        def __init__(self) -> None:
            self.rate, self.inner = 240, {"layers": [1, 2]}

    Config.__module__, Config.__qualname__ = "lab.config", "Config"
    module.Config = Config
    state = Tiny().state_dict()
    document: dict[str, Any] = {"state_dict": state, "hyper_parameters": {"config": Config(), "more": [Config()]}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "lab", types.ModuleType("lab"))
        patch.setitem(sys.modules, "lab.config", module)
        torch.save(document, tmp_path / "w.ckpt")

    backbone = Tiny()
    assert initialize(backbone, str(tmp_path / "w.ckpt")).left_out == ()
    assert torch.equal(backbone.layer.weight, state["layer.weight"])
    with pytest.raises(CheckpointError, match=r"it holds more than weights, lab.config.Config, and loading that could"):
        initialize(Unaware(), str(tmp_path / "w.ckpt"))
