"""Every registered backbone and method passes the conformance checks, and each check finds what it is there for."""

import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError, PluginError
from bench.plugin import (
    Backbone,
    Batch,
    DropPath,
    Gradients,
    Judge,
    Method,
    Phase,
    SignalSpec,
    Start,
    register_backbone,
    register_method,
)
from bench.registry.conformance import check_backbone, check_method, check_plugin
from bench.registry.findings import Finding
from bench.registry.method_checks import TRIED_ON, _processes_agree, _resumes
from bench.registry.reference import Reference
from bench.registry.registry import _REGISTRY, load_plugin, make, registry
from bench.registry.source import PLUGIN_FILES
from bench.registry.trials import ALONE, Trial, run_trial, set_up, shortened
from bench.training.model import Classifier

FOUNDATION = {"clef_medium", "ecg_cpc", "ecg_fm", "ecg_jepa", "hubert_ecg_base", "hubert_ecg_small", "merl_resnet18"}
FOUNDATION |= {"st_mem", "deepecg_ssl", "melp", "d_beta"}
FOUNDATION |= {f"ecg_jepa_weimann_{size}" for size in ("xs", "s", "b")}
"""Large backbones, which test_foundation_models.py checks, and which in part take no other rate than their own."""
BACKBONES = [plugin.name for plugin in registry().of_kind("backbone") if plugin.name not in FOUNDATION]
METHODS = ["lp", "lp-lbfgs", "knn", "ft", "ft-ema", "surgical", "lora", "lpft-sd", "l2-sp", "ft-mixup"]
"""One or two of each family; test_door.py checks all of them on four backbones."""
HEAVY = {"vit1d_small", "xresnet1d50", "xresnet1d101", *(name for name in BACKBONES if "ecgfounder" in name)}
"""Backbones whose check takes ten seconds and more; vit1d_tiny, xresnet1d18 and net1d_mini are of their classes."""


def faults(findings: Iterator[Any]) -> dict[str, str]:
    return {finding.check: finding.fault for finding in findings if finding.fault}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in BACKBONES]
)
def test_backbones_conform(name: str) -> None:
    assert faults(check_backbone(Reference(name), two_processes=False)) == {}


@pytest.mark.parametrize("rate", [100, 500])
@pytest.mark.parametrize("name", BACKBONES)
def test_our_backbones_take_any_rate(name: str, rate: int) -> None:
    backbone = make("backbone", Reference(name)).eval()
    seconds = backbone.signal_spec.window_s or 10
    with torch.no_grad():
        features = backbone(
            torch.linspace(-1, 1, 12 * round(seconds * rate)).view(1, 12, -1)[:, : len(backbone.signal_spec.leads)]
        )

    assert features.shape == (1, backbone.feature_dim)
    assert features.isfinite().all()


def test_what_does_not_apply_and_who_declines_is_said_of_a_backbone() -> None:
    plain, residual = (
        {
            found.check: (found.verdict, found.does_not_apply)
            for found in check_backbone(Reference(n), two_processes=False)
        }
        for n in ("prevalence", "net1d_mini")
    )
    reason = "stochastic depth needs at least two residual blocks, and this backbone has none"

    assert plain["drops branches by record"] == ("n/a", reason)
    assert plain["computes features"] == residual["drops branches by record"] == ("ok", None)
    declined = {check for check in plain if check.startswith("is declined by")}
    names = [
        *(
            "adapter",
            "auto-rgn",
            "bitfit",
            "dora",
            "ft-disc",
            "ft-dropout",
            "ft-ecg-cpc",
            "ft-ecg-fm",
            "ft-ecg-jepa-weimann",
            "ft-hubert-ecg",
            "ft-sd",
            "lora",
            "lp-attn",
            "lp-lora",
            "lpft-ecg-jepa-weimann",
            "lpft-sd",
        ),
        *("r-drop", "surgical"),
    ]
    assert declined == {f"is declined by {name} with --init random" for name in names}
    assert plain["is declined by ft-sd with --init random"] == ("n/a", reason)
    assert not any(check.startswith("is declined by") for check in residual)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["net1d_mini", "resnet1d_wang"])
def test_backbones_train_alike_on_two_processes(name: str) -> None:
    assert faults(check_backbone(Reference(name))) == {}


@pytest.mark.parametrize("name", METHODS)
def test_methods_conform(name: str) -> None:
    assert faults(check_method(Reference(name), two_processes=False)) == {}


class Sound(Backbone):
    """A backbone without fault, from which the faulty ones differ in one thing."""

    signal_spec = SignalSpec(100, "zscore")

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(12, 4, 9, stride=5)
        self.norm = nn.BatchNorm1d(4)
        self.block = nn.Conv1d(4, 4, 3, padding=1)
        self.paths = nn.ModuleList([DropPath(), DropPath()])
        self.feature_dim = 4

    def forward(self, signals: Tensor) -> Tensor:
        x = self.norm(self.conv(signals))
        for path in self.paths:
            x = x + path(self.block(x.relu()))
        return x.mean(-1)


class FixedLength(Sound):
    """Takes ten seconds at its rate and nothing else, as transformers do."""

    def forward(self, signals: Tensor) -> Tensor:
        assert signals.shape[-1] == 1000, signals.shape
        return super().forward(signals)


class WrongShape(Sound):
    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals)[:, :3]


class Raises(Sound):
    def forward(self, signals: Tensor) -> Tensor:
        return super().forward({}["signals"])


class NotFinite(Sound):
    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals) * float("nan")


class NumpyWeights(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.conv.weight.data += torch.from_numpy(np.random.default_rng().normal(size=1)).float()


class Unregistered(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.randn(4)

    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals) + self.shift


class LooksAtTheBatch(Sound):
    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals - signals.mean(0))


class Unused(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(2, 2)


class Steep(Sound):
    """The root of nothing has no slope."""

    def forward(self, signals: Tensor) -> Tensor:
        features = super().forward(signals)
        return features + (features - features).sqrt()


class NeverFrozen(Sound):
    def forward(self, signals: Tensor) -> Tensor:
        x = self.conv(signals)
        F.batch_norm(x, self.norm.running_mean, self.norm.running_var, training=True)
        return self.block(self.norm(x)).mean(-1) + sum(path(x).sum() * 0 for path in self.paths)


class IdlePaths(Sound):
    def forward(self, signals: Tensor) -> Tensor:
        x = self.norm(self.conv(signals))
        for path in self.paths:
            path(x)
            x = x + self.block(x.relu())
        return x.mean(-1)


class AfterTheAddition(Sound):
    """Its DropPaths drop the stream and not a branch of it."""

    def forward(self, signals: Tensor) -> Tensor:
        x = self.norm(self.conv(signals))
        for path in self.paths:
            x = path(x + self.block(x.relu()))
        return x.mean(-1)


class AfterTheLastAddition(Sound):
    """One of its DropPaths does."""

    def forward(self, signals: Tensor) -> Tensor:
        first, second = self.paths
        x = self.norm(self.conv(signals))
        x = x + first(self.block(x.relu()))
        return second(x + self.block(x.relu())).mean(-1)


class TokenByToken(Sound):
    """Its rows are those of all records at the first moment, then of all at the next."""

    def forward(self, signals: Tensor) -> Tensor:
        x = self.norm(self.conv(signals))
        for path in self.paths:
            rows = self.block(x.relu()).permute(2, 0, 1)
            x = x + path(rows.flatten(0, 1)).view(rows.shape).permute(1, 2, 0)
        return x.mean(-1)


class RecordByRecord(Sound):
    """Its rows are those of the first record at all moments, then of the next."""

    def forward(self, signals: Tensor) -> Tensor:
        x = self.norm(self.conv(signals))
        for path in self.paths:
            rows = self.block(x.relu()).transpose(1, 2)
            x = x + path(rows.flatten(0, 1)).view(rows.shape).transpose(1, 2)
        return x.mean(-1)


class NilBranches(Sound):
    """Its branches are nil at first, as by Goyal et al. 2017."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((4, 1), 1e-6))

    def forward(self, signals: Tensor) -> Tensor:
        x = self.norm(self.conv(signals))
        for path in self.paths:
            x = x + path(self.scale * self.block(x.relu()))
        return x.mean(-1)


class ClassToken(Sound):
    """A token hears of its record by attention alone, in a single block, and is the features."""

    def __init__(self) -> None:
        super().__init__()
        del self.block
        self.token = nn.Parameter(torch.randn(1, 4))
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.block = nn.Linear(4, 4)

    def forward(self, signals: Tensor) -> Tensor:
        return self.tokens(signals)[:, 0]

    def tokens(self, signals: Tensor) -> Tensor:
        x = self.norm(self.conv(signals)).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), 1, 4), x], 1)
        first, second = self.paths
        x = x + first(self.attention(x, x, x, need_weights=False)[0])
        return x + second(self.block(x.relu()))


class Attending(Sound):
    """Drops values and weights of attention, by torch's own layers."""

    batch_first = True

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=self.batch_first) for _ in range(2)]
        )

    def forward(self, signals: Tensor) -> Tensor:
        x = self.block(self.norm(self.conv(signals))).transpose(1, 2)
        for layer, path in zip(self.layers, self.paths, strict=True):
            x = x + path(layer(x) if self.batch_first else layer(x.transpose(0, 1)).transpose(0, 1))
        return x.mean(1)


class TimeFirst(Attending):
    """Its layers drop tensors [time, record, ...]."""

    batch_first = False


class DropsByFunction(Sound):
    def forward(self, signals: Tensor) -> Tensor:
        return F.dropout(super().forward(signals), 0.1, self.training)


class Backwards(Sound):
    """Its layers are not met in the order in which they are made."""

    def forward(self, signals: Tensor) -> Tensor:
        self.norm(signals[:, :4])
        return super().forward(signals)


class Overlapping(Sound):
    def layer_groups(self) -> list[str]:
        return ["conv", *super().layer_groups()]


class FlatTokens(Sound):
    def tokens(self, signals: Tensor) -> Tensor:
        return self.forward(signals)


class EarlyTokens(Sound):
    """Its tokens are what its blocks begin with."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv1d(4, 4, 1)

    def forward(self, signals: Tensor) -> Tensor:
        x = self.tokens(signals).transpose(1, 2)
        for path in self.paths:
            x = x + path(self.block(x.relu()))
        return self.last(x).mean(-1)

    def tokens(self, signals: Tensor) -> Tensor:
        return self.norm(self.conv(signals)).transpose(1, 2)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.path = nn.Conv1d(4, 4, 1), DropPath()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.path(self.conv(x))


class BeforeTheLastBlock(Sound):
    """Its tokens lack a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.last = Block()

    def forward(self, signals: Tensor) -> Tensor:
        return self.last(self.tokens(signals).transpose(1, 2)).mean(-1)

    def tokens(self, signals: Tensor) -> Tensor:
        x = self.norm(self.conv(signals))
        for path in self.paths:
            x = x + path(self.block(x.relu()))
        return x.transpose(1, 2)


class AttentivePooling(Sound):
    """Pools its tokens by weights that are learnt; two layers are a tail."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Linear(4, 1)
        self.tail = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    def forward(self, signals: Tensor) -> Tensor:
        tokens = self.tokens(signals)
        return self.tail((self.weigh(tokens).softmax(1) * tokens).sum(1))

    def tokens(self, signals: Tensor) -> Tensor:
        x = self.norm(self.conv(signals))
        for path in self.paths:
            x = x + path(self.block(x.relu()))
        return x.transpose(1, 2)


class OfTheBatch(Sound):
    """Normalises features by those of the batch; a single record is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, signals: Tensor) -> Tensor:
        return self.last(super().forward(signals))


class Squeezed(Sound):
    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals).squeeze()


class MasksByNumPy(Sound):
    """As transformers masks time in wav2vec 2."""

    def forward(self, signals: Tensor) -> Tensor:
        features = super().forward(signals)
        kept = np.random.rand(len(features), 1) > 0.1 if self.training else np.ones((len(features), 1))  # noqa: NPY002
        return features * torch.from_numpy(kept).to(features)


class DropsLayersByPython(Sound):
    """As LayerDrop of some programs."""

    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals) * (2.0 if self.training and random.random() < 0.1 else 1.0)


class Float32Inside(Sound):
    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals.float())


class Float32Features(Sound):
    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals).float()


class Delicate(Sound):
    def forward(self, signals: Tensor) -> Tensor:
        return ((self.norm(self.conv(signals)) * 1e4) % 1.0).mean(-1) + 0 * super().forward(signals)


@pytest.fixture
def registered() -> Iterator[Callable[..., Reference]]:
    """Registers a plugin for one test."""
    before = dict(registry().plugins)

    def register(make: Any) -> Reference:
        name = make.__name__.lower()
        (register_method if issubclass(make, Method) else register_backbone)(name)(make)
        return Reference(name)

    yield register
    _REGISTRY.plugins = before


@pytest.mark.slow
def test_what_two_processes_trip_over_is_one_line(registered: Callable[..., Reference]) -> None:
    """They are processes of their own, and do not know what this one has registered."""
    (fault,) = faults(check_backbone(registered(Sound))).items()
    assert fault[0] == "trains alike on two processes"
    assert "'sound'" in fault[1]
    assert "\n" not in fault[1]


@pytest.mark.parametrize(
    "sound", [Sound, FixedLength, Attending, RecordByRecord, NilBranches, ClassToken, AttentivePooling]
)
def test_a_sound_backbone_passes(registered: Callable[..., Reference], sound: type[Backbone]) -> None:
    assert faults(check_backbone(registered(sound), two_processes=False)) == {}


def test_a_method_and_a_backbone_of_one_name_are_both_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_REGISTRY, "plugins", dict(_REGISTRY.plugins))
    register_backbone("n_o")(Sound)
    register_method("n-o")(NoPhases)
    monkeypatch.setattr(
        "bench.registry.conformance.check_backbone", lambda reference: iter([Finding("of the backbone", None)])
    )

    found = list(check_plugin(Reference("n_o")))

    assert found[0].check == "n_o is the name of a method and of a backbone, and both are checked"
    assert [finding.check for finding in found[1:]] == ["declares phases", "of the backbone"]


def test_an_unknown_name_is_a_mistake_and_no_fault_of_a_backbone() -> None:
    with pytest.raises(PluginError, match=r"^unknown method or backbone 'lpf'\. Did you mean 'lp"):
        next(check_plugin(Reference("lpf")))


@pytest.mark.parametrize(
    ("faulty", "check", "words"),
    [
        (WrongShape, "computes features", "expected [2, feature_dim] = [2, 4]"),
        (Raises, "computes features", "KeyError: 'signals', in forward of test_conformance.py, line "),
        (NotFinite, "computes features", "NaN or infinite"),
        (NumpyWeights, "is the same for the same seed", "conv.weight differs"),
        (Unregistered, "survives a state-dict round trip", "register tensors"),
        (LooksAtTheBatch, "treats records alone as in a batch", "with the other records of its batch"),
        (Unused, "trains every trainable parameter", "2 parameters get no gradient, first backbone.idle.weight"),
        (Steep, "trains every trainable parameter", "the gradient of backbone.conv.weight is NaN or infinite"),
        (NeverFrozen, "stays as it is when frozen", "norm.running_mean changes"),
        (IdlePaths, "drops branches by record", "change nothing"),
        (AfterTheAddition, "drops branches by record", "where backbone.paths.1 drops, two different records have"),
        (AfterTheLastAddition, "drops branches by record", "where backbone.paths.1 drops, two different records"),
        (TokenByToken, "drops branches by record", "drop a branch of another record than they should"),
        (OfTheBatch, "treats records alone as in a batch", "with the other records of its batch in eval mode"),
        (Squeezed, "treats records alone as in a batch", "are [4] in a batch of 1 and [4, 4] of 4"),
        (TimeFirst, "draws no masks of its own", "backbone.layers.0.dropout1 draws random numbers by torch in"),
        (DropsByFunction, "draws no masks of its own", "backbone draws random numbers by torch in training"),
        (MasksByNumPy, "draws no masks of its own", "backbone draws random numbers by NumPy in training"),
        (DropsLayersByPython, "draws no masks of its own", "backbone draws random numbers by Python in training"),
        (EarlyTokens, "pools its tokens, if it has any", "goes on from its tokens by block, last, which tokens()"),
        (BeforeTheLastBlock, "pools its tokens, if it has any", "goes on from its tokens by last, which tokens()"),
        (Float32Inside, "follows the type of its input", "of float64 signals conv gets a float32 tensor"),
        (Float32Features, "follows the type of its input", "float64 signals give torch.float32 features"),
        (Backwards, "orders its layer groups", "in the order norm, conv, block; override layer_groups()"),
        (Overlapping, "orders its layer groups", "conv.weight is in 2 of its layer groups, expected one"),
        (FlatTokens, "pools its tokens, if it has any", "two records give tokens [2, 4], expected [2, token, dim]"),
        (Delicate, "agrees in bf16", "keep sensitive steps in float32"),
    ],
)
def test_a_faulty_backbone_is_told_so(
    registered: Callable[..., Reference], faulty: type[Backbone], check: str, words: str
) -> None:
    found = faults(check_backbone(registered(faulty), two_processes=False))

    assert words in found[check]


@dataclass(frozen=True)
class NoSuchPart(Method):
    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="x", learning_rates={"hed": 1e-3}, epochs=1)]


@dataclass(frozen=True)
class Changing(Method):
    """Its phases follow from what `prepare` has seen."""

    seen: list[str] = field(default_factory=list)

    def prepare(self, model: Classifier, init: Start) -> None:
        self.seen.append("head")

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="x", learning_rates={"head": 1e-3}, epochs=1 + len(self.seen))]


@dataclass(frozen=True)
class NoPhases(Method):
    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return []


@dataclass(frozen=True)
class LossARecord(Method):
    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="x", learning_rates={"head": 1e-3}, epochs=1)]

    def loss(self, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(batch.logits(), batch.labels, reduction="none").mean(1)


@dataclass(frozen=True)
class Idle(Method):
    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="x", learning_rates={"head": 1e-3}, epochs=1)]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        return torch.optim.SGD([nn.Parameter(torch.zeros(1))])


@dataclass(frozen=True)
class NumPyRates(NoSuchPart):
    """A checkpoint would not be loaded."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name="x", learning_rates={"head": 1e-3}, epochs=1)]

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        return torch.optim.SGD([{**group, "lr": np.float64(group["lr"])} for group in groups])


def test_a_run_that_begins_again_is_not_taken_for_one_that_goes_on(tmp_path: Path) -> None:
    """It ends in the same bits too."""
    (tmp_path / "whole").mkdir()
    reference = Reference("lp")
    model, phases = set_up(partial(make, "backbone", TRIED_ON), make("method", reference))
    whole = Trial(model, shortened(phases), tmp_path / "whole")
    weights = run_trial(whole, make("method", reference), ALONE)
    assert _resumes(reference, TRIED_ON, whole, weights) is None
    for file in tmp_path.glob("whole-1/*.pt"):
        file.write_bytes(b"no zip")

    fault = str(_resumes(reference, TRIED_ON, whole, weights))

    assert fault.startswith("killed after step 1, it trained 4 steps where 3 were left, so its checkpoint was not used")
    assert "checkpoint-0001.pt is damaged" in fault


@pytest.mark.parametrize(
    ("faulty", "check", "words"),
    [
        (NumPyRates, "trains x as declared", "a checkpoint of this run could not be loaded"),
        (NoSuchPart, "fits net1d_mini", "'hed'"),
        (Changing, "fits net1d_mini", "Changing.prepare() sets self.seen, which a resumed run would not know"),
        (NoPhases, "declares phases", "at least one"),
        (LossARecord, "trains x as declared", "one finite number"),
        (Idle, "trains x as declared", "takes head.weight 0 times, expected once"),
    ],
)
def test_a_faulty_method_is_told_so(
    registered: Callable[..., Reference], faulty: type[Method], check: str, words: str
) -> None:
    assert words in faults(check_method(registered(faulty), two_processes=False))[check]


@dataclass(frozen=True)
class NewHeadAtTheEnd(Method):
    """Of each phase, the last one too."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        return [Phase(name=name, learning_rates={"head": 1e-3}, epochs=1) for name in ("first", "second")]

    def finish(self, model: Classifier, judge: Judge) -> None:
        model.head.reset_parameters()  # type: ignore[operator]


def test_a_finish_that_alters_the_last_phase_unjudged_is_noted(registered: Callable[..., Reference]) -> None:
    findings = {f.check: f for f in check_method(registered(NewHeadAtTheEnd), two_processes=False)}

    found = findings["leaves the last phase as selected or judged"]
    assert found.verdict == "n/a"
    assert "finish() changes the weights that leave phase second, the last" in str(found.does_not_apply)


@pytest.mark.slow
def test_what_a_method_keeps_from_run_to_run_is_found_by_new_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run does not show it here: it finds the dict that the whole run has filled."""
    monkeypatch.setattr(_REGISTRY, "plugins", dict(_REGISTRY.plugins))
    monkeypatch.setenv(PLUGIN_FILES, "")
    load_plugin(Path(__file__).parent / "plugins" / "between_runs.py")
    reference = Reference("writes-once")
    model, phases = set_up(partial(make, "backbone", TRIED_ON), make("method", reference))
    run_trial(Trial(model, shortened(phases)), make("method", reference), ALONE)

    fault = str(_processes_agree(reference, TRIED_ON))

    assert re.match(r"trained after another run of the same process, head\.(weight|bias) differs by ", fault)


@pytest.mark.parametrize(
    ("hook", "check"),
    [
        ("phases", "declares phases"),
        ("prepare", "fits net1d_mini"),
        ("loss", "trains x as declared"),
        ("optimizer", "trains x as declared"),
    ],
)
def test_what_a_method_raises_is_one_line_that_says_where(
    registered: Callable[..., Reference], hook: str, check: str
) -> None:
    def broken(self: Method, *given: Any) -> Any:
        return {}["no such\nkey"]

    faulty = dataclass(frozen=True)(type("Broken", (LossARecord,), {hook: broken, "__module__": __name__}))

    fault = faults(check_method(registered(faulty), two_processes=False))[check]

    assert re.fullmatch(r"KeyError: 'no such\\nkey', in broken of test_conformance.py, line \d+", fault)


def test_a_method_that_ends_the_program_is_a_fault(registered: Callable[..., Reference]) -> None:
    def ends(self: Method, *given: Any) -> Any:
        sys.exit(3)

    faulty = dataclass(frozen=True)(type("Ends", (LossARecord,), {"loss": ends, "__module__": __name__}))

    fault = faults(check_method(registered(faulty), two_processes=False))["trains x as declared"]

    assert re.fullmatch(rf"{__file__}, line \d+, ended the program by exit\(3\); a plugin raises an error", fault)


@pytest.mark.parametrize("method", ["lpft-sd", "scratch"])
def test_a_method_is_checked_on_any_backbone(method: str) -> None:
    found = list(check_plugin(Reference(method), Reference("prevalence")))

    assert not faults(iter(found))
    declines = str(found[-1].does_not_apply).startswith("it declines: stochastic depth needs at least two residual")
    assert declines == (method == "lpft-sd") == (found[-1].check == "trains on prevalence")
    assert (found[-1].verdict == "n/a") == declines


@pytest.mark.parametrize("method", ["ft-hubert-ecg", "surgical"])
def test_a_decline_in_phases_is_no_fault(method: str) -> None:
    """Both decline a backbone of one layer group: one in `phases`, the other where a trial names a second group."""
    *before, last = check_plugin(Reference(method), Reference("prevalence"))

    assert not faults(iter(before))
    assert (last.check, last.verdict) == ("trains on prevalence", "n/a")
    assert str(last.does_not_apply).startswith("it declines: ")


def test_a_backbone_is_named_for_methods_alone() -> None:
    with pytest.raises(BenchError, match="--arch names the backbone for a method, and net1d_mini is not a method"):
        next(check_plugin(Reference("net1d_mini"), Reference("prevalence")))
