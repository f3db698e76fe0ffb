"""What a plugin's method can do to a model that it does not know: BitFit, LoRA, a rate a layer; by ranks too."""

from __future__ import annotations

import csv
import importlib.util
import io
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from bench.cell import Cell
from bench.execute import Options, build_backbone, build_model, execute, make_method
from bench.inference import predict_records
from bench.registry.conformance import check_method
from bench.registry.reference import Reference
from bench.registry.registry import _REGISTRY, registry
from bench.results.result import Result, load_result
from bench.training.batch import Start
from bench.training.weights import WEIGHTS, read_weights

PLUGIN = '''
"""Methods that know no backbone, and a backbone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from bench.plugin import (
    Backbone, Batch, Classifier, Gradients, Method, Phase, SignalSpec, Start, register_backbone, register_method
)


@register_method("biases")
@dataclass(frozen=True)
class BitFit(Method):
    """Biases and the head (Ben Zaken et al. 2022)."""

    lr: float = 1e-2
    epochs: int = 2

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        parts = {"head": self.lr, "backbone.*.bias": self.lr}
        return [Phase(name="biases", learning_rates=parts, epochs=self.epochs, batch_size=64)]


class LowRank(nn.Module):
    """A weight [out, ...] plus a product of two thin matrices, at first zero."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.up = nn.Parameter(weight.new_zeros(len(weight), rank))
        self.down = nn.Parameter(torch.randn(rank, weight[0].numel()) / weight[0].numel() ** 0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


@register_method("low-rank")
@dataclass(frozen=True)
class LoRA(Method):
    """Low-rank updates of every convolution and linear layer (Hu et al. 2022), after a probe."""

    rank: int = 2
    lr: float = 1e-2
    epochs: int = 2

    def prepare(self, model: Classifier, init: Start) -> None:
        for module in list(model.backbone.modules()):
            if isinstance(module, nn.Conv1d | nn.Linear):
                register_parametrization(module, "weight", LowRank(module.weight, self.rank))

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [
            Phase(name="probe", learning_rates={"head": self.lr}, epochs=1, batch_size=64),
            Phase(name="low-rank", learning_rates={"head": self.lr, "backbone.*.weight.0": self.lr}, epochs=self.epochs,
                  batch_size=64),
        ]


class Wrapped(nn.Module):
    """A layer and beside it an adapter, at first zero."""

    def __init__(self, layer: nn.Module, channels: int) -> None:
        super().__init__()
        self.layer = layer
        self.adapter = nn.Sequential(nn.Dropout(0.1), nn.Conv1d(channels, channels, 1))
        nn.init.zeros_(self.adapter[1].weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x + self.adapter(x)


@register_method("wrapper")
@dataclass(frozen=True)
class Wrapper(Method):
    """Wraps the batch norms, which gives all that is in them other names, and then trains everything."""

    def prepare(self, model: Classifier, init: Start) -> None:
        for name, module in list(model.backbone.named_children()):
            if isinstance(module, nn.BatchNorm1d):
                called = module.weight.requires_grad
                wrapped = Wrapped(module, module.num_features) if called else nn.Sequential(module)
                setattr(model.backbone, name, wrapped)

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="all", learning_rates={"backbone": 1e-3, "head": 1e-3}, epochs=2, batch_size=64)]

    needs_signals = True

    def loss(self, batch: Batch) -> Tensor:
        return super().loss(batch)


@register_method("layerwise")
@dataclass(frozen=True)
class Layerwise(Method):
    """Each layer at a rate of its own, the shallower the smaller."""

    lr: float = 1e-2
    decay: float = 0.5

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        parts = {"backbone": self.lr, "head": self.lr}
        return [
            Phase(name="all", learning_rates=parts, epochs=2, batch_size=64, lr_schedule="cosine", gradient_clip_norm=1)
        ]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        named = [pair for group in groups for pair in zip(group["param_names"], group["params"], strict=True)]
        layers = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in named))
        depth = {layer: at for at, layer in enumerate(reversed(layers))}
        return super().optimizer(
            [{"params": [pair], "lr": self.lr * self.decay ** depth[pair[0].rpartition(".")[0]]} for pair in named],
            phase,
            gradients,
        )


@register_backbone("normed")
class Normed(Backbone):
    """A convolution, a batch norm, dropout; and a batch norm that is there for its keys only."""

    signal_spec = SignalSpec(100, "zscore")
    feature_dim = 16

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(12, 16, 9, stride=4)
        self.norm = nn.BatchNorm1d(16)
        self.idle = nn.BatchNorm1d(16).requires_grad_(False)
        self.tail = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.2))

    def forward(self, signals: Tensor) -> Tensor:
        return self.tail(self.norm(self.conv(signals)).relu().mean(-1))
'''
ALTERING = ("low-rank", "wrapper")
METHODS = ("biases", "layerwise", *ALTERING)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for $PYTHONPATH that holds the plugin as pip would leave it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "adapters_lab.py").write_text(PLUGIN)
    about = folder / "adapters_lab-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: adapters-lab\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[bench.plugins]\nlab = adapters_lab\n")
    return folder


@pytest.fixture(scope="module")
def lab(installed: Path) -> Iterator[ModuleType]:
    """The plugin, imported into this process."""
    before = dict(registry().plugins)
    spec = importlib.util.spec_from_file_location("adapters_lab", installed / "adapters_lab.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["adapters_lab"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["adapters_lab"]
    _REGISTRY.plugins = before


@pytest.fixture(scope="module")
def runs(lab: ModuleType, demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """A finished run of each method on the backbone with batch norm."""
    folder = tmp_path_factory.mktemp("runs")
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    results = {method: execute(cell(demo_set, method), Options(runs=folder)) for method in METHODS}
    torch.set_num_threads(num_threads)
    return results


def cell(data: Path, method: str, arch: str = "normed") -> Cell:
    return Cell(
        data=data, task="superdiag", arch=Reference(arch), method=Reference.parse(method), precision="float64", seed=3
    )


def weights_of(run: Result) -> dict[str, Tensor]:
    return read_weights(run.folder / WEIGHTS)[0]


def start(lab: ModuleType, run: Result, method: str) -> dict[str, Tensor]:
    """The weights that a run started from."""
    backbone = build_backbone(Reference("normed"), 3)
    model, _ = build_model(backbone, len(run.document["task"]["labels"]), None, 3)
    make_method(Reference(method)).prepare(model, Start.of(run.document, {}))
    return model.state_dict()


@pytest.mark.parametrize("method", METHODS)
def test_they_conform_on_net1d_mini(method: str, lab: ModuleType) -> None:
    assert [finding for finding in check_method(Reference(method), two_processes=False) if finding.fault] == []


def test_bitfit_moves_biases_and_the_head_and_no_statistics(lab: ModuleType, runs: dict[str, Result]) -> None:
    before, after = start(lab, runs["biases"], "biases"), weights_of(runs["biases"])

    moved = {key for key in before if not torch.equal(before[key], after[key])}

    assert moved == {
        *("backbone.conv.bias", "backbone.norm.bias", "backbone.tail.0.bias"),
        *("head.weight", "head.bias"),
    }
    (report,) = runs["biases"].document["training"]
    assert report["trainable_parameters"] == 3 * 16 + 17 * 5
    assert not report["on_features"]


def test_lora_moves_its_matrices_and_the_head(lab: ModuleType, runs: dict[str, Result]) -> None:
    before, after = start(lab, runs["low-rank"], "low-rank"), weights_of(runs["low-rank"])

    moved = {key for key in before if not torch.equal(before[key], after[key])}

    added = {key for key in before if ".weight.0." in key}
    assert len(added) == 4
    assert moved == {*added, "head.weight", "head.bias"}
    assert [report["on_features"] for report in runs["low-rank"].document["training"]] == [True, False]


def test_a_wrapped_layer_that_was_never_trained_stays_so(lab: ModuleType, runs: dict[str, Result]) -> None:
    before, after = start(lab, runs["wrapper"], "wrapper"), weights_of(runs["wrapper"])

    moved = {key for key in before if not torch.equal(before[key], after[key])}

    assert "backbone.norm.layer.weight" in moved
    assert not [key for key in moved if key.startswith("backbone.idle.")]


def test_layers_move_at_their_rates(lab: ModuleType, runs: dict[str, Result]) -> None:
    before, after = start(lab, runs["layerwise"], "layerwise"), weights_of(runs["layerwise"])

    def largest(layer: str) -> float:
        return float((after[f"{layer}.weight"] - before[f"{layer}.weight"]).abs().max())

    steps = [largest(layer) for layer in ("backbone.conv", "backbone.norm", "backbone.tail.0", "head")]
    assert [deeper / step for step, deeper in itertools.pairwise(steps)] == pytest.approx([2] * 3, rel=0.4)


@pytest.mark.parametrize("method", METHODS)
def test_their_weights_predict_what_the_run_did(method: str, runs: dict[str, Result], demo_set: Path) -> None:
    run = runs[method]
    stored, labels = run.predictions[10], run.document["task"]["labels"]
    names = pd.read_csv(demo_set / "ptbxl_database.csv", index_col="ecg_id")["filename_lr"]
    rows = csv.DictReader(io.StringIO(predict_records(run.folder, [demo_set / names[one] for one in stored.ecg_id])))

    found = np.array([[float(row[label]) for label in labels] for row in rows])

    np.testing.assert_allclose(found, 1 / (1 + np.exp(-stored.logits.astype(float))), atol=1e-5, rtol=0)


def test_features_of_an_altered_backbone_are_its_own(
    lab: ModuleType, runs: dict[str, Result], demo_set: Path, tmp_path: Path
) -> None:
    """Another rank is another backbone; the same command again finds what it left."""
    known = []
    for folder, method in (("one", "low-rank(rank=3)"), ("two", "low-rank(rank=3)"), ("one", "low-rank(rank=4)")):
        run = execute(cell(demo_set, method), Options(runs=tmp_path / folder))
        known.append("are known from an earlier run" in (run.folder / "log.jsonl").read_text())

    assert known == [False, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["biases", *ALTERING])
def test_two_ranks_end_as_one(
    method: str, runs: dict[str, Result], installed: Path, demo_set: Path, tmp_path: Path
) -> None:
    words = ["run", "--task=superdiag", "--arch=normed", f"--method={method}", "--seed=3", "--precision=float64"]
    words += [f"--data={demo_set}", f"--runs={tmp_path}", "--nproc=2"]
    python_path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = {**os.environ, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1"}

    done = subprocess.run([sys.executable, "-m", "bench", *words], env=environ, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (tmp_path / "superdiag").glob("normed-*")
    shared, one = load_result(folder), runs[method]
    assert shared.document["environment"]["ranks"] == 2
    assert shared.document["digest"] == one.document["digest"]
    ours, theirs = weights_of(one), weights_of(shared)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=0, atol=1e-8, msg=key)
