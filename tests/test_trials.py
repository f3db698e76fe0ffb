"""Short runs of a method: what they compare with the declared phases, and which difference they name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.errors import PluginError
from bench.plugin import Backbone, Batch, Classifier, DropPath, Incompatible, Method, Phase, SignalSpec, Start
from bench.registry.trials import (
    ALONE,
    NUM_LABELS,
    Trial,
    largest_gap,
    made_up_signals,
    rounding_gap,
    run_trial,
    set_up,
    shortened,
    start_named,
)
from bench.training.model import drop_paths, layer_groups


class Residual(Backbone):
    """Three residual blocks on windows of a second."""

    signal_spec = SignalSpec(100, "none", leads=("I", "II"), window_s=1.0)
    feature_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv1d(2, 2, 1) for _ in range(3))
        self.paths = nn.ModuleList(DropPath() for _ in range(3))

    def forward(self, signals: Tensor) -> Tensor:
        x = signals
        for block, path in zip(self.blocks, self.paths, strict=True):
            x = x + path(block(x))
        return x.mean(-1)


@dataclass(frozen=True)
class Finetune(Method):
    """Two phases, the second with stochastic depth."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        rates = {"backbone": 0.01, "head": 0.01}
        return [
            Phase(name="probe", learning_rates={"head": 0.1}, epochs=30),
            Phase(name="finetune", learning_rates=rates, epochs=30, drop_path_rate=0.5, lr_schedule="cosine"),
        ]


def trial(method: Method, folder: Path | None = None, *, writes: bool = True) -> Trial:
    model, phases = set_up(Residual, method)
    return Trial(model, shortened(phases), folder, writes)


@dataclass(frozen=True)
class WarmHead(Finetune):
    """Begins with the rows of an earlier head."""

    uses_published_head = True

    def prepare(self, model: Classifier, init: Start) -> None:
        """Copy the head."""
        if not init.head:
            raise Incompatible("no earlier head")
        rows = [init.head_labels.index(label) for label in init.labels]
        for name, value in model.head.named_parameters():
            value.data[:] = init.head[name][rows]


def test_a_method_that_uses_an_earlier_head_is_tried_with_such_a_head() -> None:
    """As in a run from weights that have a head; else bench check says that it declines pretrained weights."""
    model, _ = set_up(Residual, WarmHead(), "pretrained")

    assert {name: list(value.shape) for name, value in model.head.named_parameters()} == {
        "weight": [NUM_LABELS, 2],
        "bias": [NUM_LABELS],
    }
    assert not any(value.any() for value in model.head.parameters())
    with pytest.raises(Incompatible, match="no earlier head"):
        set_up(Residual, WarmHead(), "random")


def test_signals_are_as_long_and_wide_as_the_backbone_expects() -> None:
    assert made_up_signals(Residual(), 3).shape == (3, 2, 100)
    assert torch.equal(made_up_signals(Residual(), 3), made_up_signals(Residual(), 3))


def test_phases_are_shortened_and_otherwise_as_declared() -> None:
    first, second = shortened(set_up(Residual, Finetune())[1])

    assert (first.epochs, second.epochs, first.batch_size) == (2, 2, 6)
    assert (second.drop_path_rate, second.lr_schedule, first.learning_rates) == (0.5, "cosine", {"head": 0.1})


@dataclass(frozen=True)
class ByGroups(Method):
    """A rate for each layer group; `prepare` adds a part that is one more."""

    new_part: str = ""

    def prepare(self, model: Classifier, init: Start) -> None:
        model.backbone.scale = nn.Parameter(torch.ones(1))
        model.backbone.register_forward_hook(lambda backbone, inputs, output: output * backbone.scale)

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        parts = ["head", *layer_groups, *filter(None, [self.new_part])]
        return [Phase(name="finetune", learning_rates=dict.fromkeys(parts, 0.01), epochs=2)]


def test_layer_groups_are_those_of_before_prepare_as_in_a_run() -> None:
    _, phases = set_up(Residual, ByGroups("backbone.scale"))

    assert sorted(phases[0].learning_rates) == sorted(["head", "backbone.scale", *layer_groups(Residual())])
    with pytest.raises(PluginError, match=r"prepare\(\) adds backbone\.scale, which no phase trains: layer_groups are"):
        set_up(Residual, ByGroups())


def test_trials_of_two_seeds_differ_in_weights_records_and_order() -> None:
    ends = []
    for seed in (0, 1):
        model, phases = set_up(Residual, Finetune(), seed=seed)
        ends.append(run_trial(Trial(model, shortened(phases), seed=seed), Finetune(), ALONE))

    assert largest_gap(*ends)[0] > 1e-3
    assert start_named("random", 0).positives != start_named("random", 1).positives


def test_a_right_method_has_no_fault_and_moves() -> None:
    run = trial(Finetune())
    before = {key: value.clone() for key, value in run.model.state_dict().items()}

    weights = run_trial(run, Finetune(), ALONE)

    assert run.fault is None
    assert run.steps == 2 * 2 * 2
    assert largest_gap(before, weights)[0] > 0
    assert weights["head.weight"].shape == (NUM_LABELS, 2)
    assert weights["head.weight"].dtype == torch.float64


@dataclass(frozen=True)
class NumPyRates(Finetune):
    """Rates that NumPy has computed."""

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        rates = dict(zip(["head", "backbone"], 0.01 * 0.8 ** np.arange(2), strict=True))
        return [replace(phase, learning_rates=rates) for phase in super().phases(layer_groups)]


@pytest.mark.parametrize("method", [Finetune(), NumPyRates()], ids=["plain", "rates of NumPy"])
def test_checkpoints_are_kept_as_a_kill_after_three_steps_would_leave_them(method: Method, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    whole = run_trial(trial(method, tmp_path / "run"), method, ALONE)
    copies = sorted(tmp_path.glob("run-*"), key=lambda path: int(path.name[4:]))

    assert [path.name for path in copies] == ["run-1", "run-4", "run-7"]
    for killed in copies:
        resumed = trial(method, killed, writes=False)
        assert largest_gap(whole, run_trial(resumed, method, ALONE))[0] == 0.0
        assert resumed.steps == 8 - int(killed.name[4:])
    assert sorted(tmp_path.glob("run-*"), key=lambda path: int(path.name[4:])) == copies, "none of resumed trials"


class StopsGradient(Finetune):
    def loss(self, batch: Batch) -> Tensor:
        logits = batch.logits()
        return logits.sum() * 0 + (batch.parameters["head.bias"] - 1).square().mean()


class Unfreezes(Finetune):
    """Turns gradients on for what its phase does not train."""

    def optimizer_step(self, optimizer, closure):  # type: ignore[no-untyped-def]
        closure()
        optimizer.step()
        MODELS[-1].backbone.requires_grad_(True)


class TurnsEval(Finetune):
    def optimizer_step(self, optimizer, closure):  # type: ignore[no-untyped-def]
        closure()
        optimizer.step()
        MODELS[-1].head.eval()


class SetsRates(Finetune):
    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        batch.logits(masks=1)
        for path in drop_paths(MODELS[-1]):
            path.drop_prob = 0.9
        return (MODELS[-1](batch.x) if not batch.passes.on_features else batch.logits()).square().mean()  # type: ignore[attr-defined]


MODELS: list[Classifier] = []


@pytest.mark.parametrize(
    ("method", "named"),
    [
        (StopsGradient(), "head.weight has a gradient of 0 in every step, so it never learns"),
        (Unfreezes(), "backbone.blocks.0.weight gets gradients after a step, other than phase 'probe' declares"),
        (TurnsEval(), "head is in eval mode after a step, other than phase 'probe' declares"),
        (SetsRates(), "block 1 of 3 drops at 0.9 in epoch 1, declared is 0"),
    ],
    ids=["no gradient for the rest", "gradients", "modes", "rates"],
)
def test_a_difference_from_the_declared_phase_is_named(method: Method, named: str) -> None:
    run = trial(method)
    MODELS.append(run.model)

    run_trial(run, method, ALONE)

    assert (run.fault or "").startswith(named)


def test_the_largest_gap_is_found_and_other_keys_are_infinitely_far() -> None:
    first = {"a": torch.zeros(2), "b": torch.tensor([1, 2]), "empty": torch.zeros(0)}

    assert largest_gap(first, {**first, "a": torch.tensor([0.0, -0.5])}) == (0.5, "a")
    assert largest_gap(first, {**first, "b": torch.tensor([1, 5])}) == (1.5, "b"), "relative to 2"
    assert largest_gap(first, {"a": torch.zeros(2)})[0] == float("inf")


def test_rounding_moves_little_where_nothing_amplifies_it() -> None:
    whole = run_trial(trial(Finetune()), Finetune(), ALONE)

    assert 0 < rounding_gap(whole, trial(Finetune()), Finetune()) < 1e-10
