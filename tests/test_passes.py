"""The passes of a phase: with masks and gradient, by the initial weights, by the averaged ones."""

import copy

import pytest
import torch
from torch import Tensor, nn

from bench.errors import PluginError
from bench.plugin import EMA, Backbone, Classifier, DropPath, Phase, SignalSpec
from bench.training.averaging import Averaged
from bench.training.masks import Masks
from bench.training.passes import PhasePasses

SIGNALS = torch.randn(16, 12, 8, generator=torch.Generator().manual_seed(0))


class Residual(Backbone):
    """Batch norm and two residual blocks."""

    signal_spec = SignalSpec(100, "none")
    feature_dim = 12

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(12)
        self.blocks = nn.ModuleList(nn.Conv1d(12, 12, 1) for _ in range(2))
        self.paths = nn.ModuleList(DropPath() for _ in range(2))

    def forward(self, signals: Tensor) -> Tensor:
        x = self.norm(signals)
        for block, path in zip(self.blocks, self.paths, strict=True):
            x = x + path(block(x))
        return x.mean(-1)


def passes(
    model: Classifier, rate: float = 0.0, *, on_features: bool = False, average: Averaged | None = None
) -> PhasePasses:
    declared = Phase(name="finetune", learning_rates={"backbone": 0.1, "head": 0.1}, epochs=1, drop_path_rate=rate)
    masks = Masks(model, declared, torch.device("cpu"))
    masks.begin_epoch(0)
    masks.begin_step(("seed 0", "step 0"), len(SIGNALS), slice(0, len(SIGNALS)))
    start = {key: value.clone() for key, value in model.state_dict().items()}
    return PhasePasses(model, masks, start, average, on_features)


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Residual(), 3).train()


def test_masks_of_one_number_are_the_same_and_of_another_are_not(model: Classifier) -> None:
    own = passes(model, rate=0.5)
    first = own.logits(SIGNALS, 0)

    assert torch.equal(first, own.logits(SIGNALS, 0))
    assert not torch.equal(first, own.logits(SIGNALS, 1))
    assert first.requires_grad
    assert torch.equal(model.head(own.features(SIGNALS, 0)), first)


def test_initial_logits_are_those_of_the_start_in_eval_mode_without_gradient(model: Classifier) -> None:
    own = passes(model, rate=0.5)
    start = copy.deepcopy(model).eval()
    expected = start(SIGNALS).detach()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    own.logits(SIGNALS, 0)  # moves batch-norm statistics, and drops paths

    initial = own.initial(SIGNALS)

    torch.testing.assert_close(initial, expected)
    assert not initial.requires_grad
    assert model.training, "asking for them leaves the model's own mode"


def test_averaged_logits_are_those_of_the_average(model: Classifier) -> None:
    averaged = Averaged(model, EMA(0.0), model.state_dict())
    own = passes(model, average=averaged)
    with torch.no_grad():
        model.head.weight.add_(1.0)  # type: ignore[operator]
    before = own.average(SIGNALS)
    averaged.step_ends()  # a decay of 0 takes the model's weights

    after = own.average(SIGNALS)

    torch.testing.assert_close(after, copy.deepcopy(model).eval()(SIGNALS).detach())
    assert not torch.allclose(before, after)
    with pytest.raises(PluginError, match="the phase declares no average"):
        passes(model).average(SIGNALS)


def test_features_computed_once_go_through_the_head_alone(model: Classifier) -> None:
    own = passes(model, on_features=True)
    features = torch.randn(len(SIGNALS), 12)

    assert torch.equal(own.features(features, 0), features)
    torch.testing.assert_close(own.logits(features, 0), model.head(features))
    torch.testing.assert_close(own.initial(features), model.head(features).detach())
