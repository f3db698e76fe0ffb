"""`all-foundation`: which backbones it stands for, and what a plan says of weights, without a network."""

import io
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from bench.data.signals import SignalSpec
from bench.errors import BenchError, CheckpointError, PluginError
from bench.execute import Options
from bench.launch.foundation import Foundation, weights_remarks
from bench.launch.sweep import Grid, sweep
from bench.launch.workers import Crew
from bench.registry.registry import Plugin, registry
from bench.training.model import Backbone
from bench.training.published import PublishedCheckpoint
from bench.training.weights import initialize

PAGE = "https://example.org/terms"


class Net(Backbone):
    """The mean over time and a linear map."""

    signal_spec = SignalSpec(100, "zscore")
    feature_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 4)

    def forward(self, signals: Tensor) -> Tensor:
        return self.layer(signals.mean(-1))  # type: ignore[no-any-return]


class OnHub(Net):
    checkpoint: ClassVar[PublishedCheckpoint | None] = PublishedCheckpoint(
        "lab/free", "free.pth", "v1", license="MIT", num_bytes=362_000_000, ptbxl_seen="yes"
    )


class AtAddress(Net):
    checkpoint = PublishedCheckpoint(
        url="http://no-such-host.invalid/cpc.ckpt", filename="cpc.ckpt", sha256="0" * 64, license="CC-BY-4.0"
    )


class OnPage(Net):
    checkpoint = PublishedCheckpoint(page=PAGE, filename="drive.pth")


class Withheld(Net):
    checkpoint = PublishedCheckpoint(page=PAGE, withheld=True, noncommercial=True)


class Barred(Net):
    checkpoint = PublishedCheckpoint(
        "lab/barred", "barred.pth", "v1", license="CC-BY-NC-4.0", noncommercial=True, ptbxl_seen="no"
    )


class Sized(OnHub):
    def __init__(self, width: int) -> None:
        super().__init__()


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Backbones of each kind beside those of the project, an empty cache, and no network."""
    made = {"t_hub": OnHub, "t_url": AtAddress, "t_page": OnPage, "t_barred": Barred, "t_sized": Sized, "t_own": Net}
    made["t_withheld"] = Withheld
    for name, kind in made.items():
        monkeypatch.setitem(registry().plugins, ("backbone", name), Plugin("backbone", name, kind, __name__, "tests"))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def grid(data: Path, arch: str, accept_noncommercial: bool = False, init: str | None = None) -> Grid:
    return Grid.parse(data, "superdiag", arch, "lp", init, "1", "0", "0", None, "auto", accept_noncommercial)


def archs(of: Grid) -> list[str]:
    return [str(arch) for arch in of.archs]


def test_all_foundation_is_every_backbone_with_published_weights(demo_set: Path) -> None:
    free = grid(demo_set, "all-foundation")
    whole = grid(demo_set, "all_foundation", accept_noncommercial=True)

    assert {"t_hub", "t_url", "t_page", "ecgfounder", "ecgfounder_1lead"} <= {*archs(free)}
    assert not {"t_barred", "t_own", "t_sized", "t_withheld", "net1d_mini"} & {*archs(free)}
    assert {*archs(whole)} - {*archs(free)} == {*Foundation.find(False).noncommercial} >= {"t_barred"}
    assert "t_barred" in free.remark and "--accept-noncommercial of sweep and check adds them" in free.remark
    assert whole.remark == "left out: ecg_jepa_weimann_b, ecg_jepa_weimann_s, ecg_jepa_weimann_xs, t_withheld: " + (
        "weights not published"
    )


def test_weights_that_nobody_published_are_not_the_default(demo_set: Path, tmp_path: Path) -> None:
    assert initialize(Withheld(), None).name == "random"
    with pytest.raises(CheckpointError, match=rf"have not published these weights \({PAGE}\); give a file of theirs"):
        initialize(Withheld(), "pretrained")
    torch.save(Withheld().state_dict(), tmp_path / "own.pth")
    assert initialize(Withheld(), str(tmp_path / "own.pth")).name.startswith("file:")
    assert [*weights_remarks(grid(demo_set, "t_withheld").cells())] == []
    assert [*weights_remarks(grid(demo_set, "t_withheld", init="pretrained").cells())] == [
        f"weights of t_withheld: will fail: not published, see {PAGE}; licence not stated, non-commercial use only; "
        "PTB-XL seen in pre-training: unknown"
    ]
    with pytest.raises(PluginError, match="is withheld and names a file"):
        PublishedCheckpoint("lab/free", "free.pth", "v1", withheld=True)


def test_all_foundation_stands_beside_other_names_once(demo_set: Path) -> None:
    named = grid(demo_set, "t_own,t_hub,all-foundation,t_barred")

    assert archs(named)[:2] == ["t_own", "t_hub"] and len(archs(named)) == len({*archs(named)})
    assert archs(named)[-1] == "t_barred", "who names a backbone has it, whatever its licence"
    assert grid(demo_set, "t_own").remark == ""


def test_nothing_published_is_an_error(demo_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key, plugin in registry().plugins.items() if getattr(plugin.make, "checkpoint", None)]:
        monkeypatch.delitem(registry().plugins, key)
    with pytest.raises(BenchError, match="--arch all-foundation names no backbone; none has published weights"):
        grid(demo_set, "all-foundation")

    monkeypatch.setitem(registry().plugins, ("backbone", "b"), Plugin("backbone", "b", Barred, __name__, "tests"))
    with pytest.raises(
        BenchError, match=r"names no backbone; left out: b: .* --accept-noncommercial of sweep and check adds them"
    ):
        grid(demo_set, "all-foundation")


def test_a_plan_says_what_is_fetched_and_under_which_terms(demo_set: Path, tmp_path: Path) -> None:
    cells = grid(demo_set, "t_hub,t_url,t_page,t_barred,t_own").cells()
    hub, address, page, barred = weights_remarks(cells)

    assert hub == (
        "weights of t_hub: to be fetched from lab/free (362.0 MB); licence MIT; PTB-XL seen in pre-training: yes"
    )
    size = "size not stated; the backbone is 0.0 MB in float32"
    assert f"to be fetched from http://no-such-host.invalid/cpc.ckpt ({size}); licence CC-BY-4.0;" in address
    place = tmp_path / "cache/weights/by-hand/drive.pth"
    assert f"will fail: no program can fetch them; download it from {PAGE}, to {place}; licence not stated" in page
    assert "licence CC-BY-NC-4.0, non-commercial use only; PTB-XL seen in pre-training: no" in barred
    assert not list(weights_remarks(grid(demo_set, "t_hub", init="random").cells()))


def test_a_file_put_in_its_place_is_the_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "cache/weights/by-hand/drive.pth"
    with pytest.raises(CheckpointError, match=f"download it from {PAGE}, to {place}, or give it with --init PATH"):
        initialize(OnPage(), None)

    torch.manual_seed(3)
    place.parent.mkdir(parents=True)
    torch.save(OnPage().state_dict(), place)
    init = initialize(OnPage(), None)

    assert (init.name, init.facts["file_sha256"]) == ("pretrained", sha256(place.read_bytes()).hexdigest())

    class Hashed(Net):
        checkpoint = PublishedCheckpoint(page=PAGE, filename="drive.pth", sha256="1" * 64)

    with pytest.raises(CheckpointError, match=r"is not the published file: .* expected 1111.*; download it from"):
        initialize(Hashed(), None)


def test_a_dry_run_needs_no_network(demo_set: Path, tmp_path: Path) -> None:
    shown = io.StringIO()
    options: dict[str, Any] = {"crew": Crew(), "rerun_stale": False, "dry_run": True}
    out, quiet = Console(file=shown, width=200), Console(quiet=True)
    sweep(grid(demo_set, "all-foundation"), Options(runs=tmp_path / "runs"), **options, out=out, err=quiet)
    lines = shown.getvalue().splitlines()

    assert any(line.startswith("left out: ") and "t_barred" in line for line in lines)
    assert sum(line.startswith("weights of ") for line in lines) == len(Foundation.find(False).names)
    assert not (tmp_path / "cache/weights").exists() and not (tmp_path / "hub").exists()
