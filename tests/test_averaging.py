"""Averaged weights are torch's; that they leave the phase is test_loop.py's."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bench.plugin import Backbone, DropPath, SignalSpec
from bench.training.averaging import Averaged
from bench.training.model import Classifier
from bench.training.phase import EMA, SWA


class Tiny(Backbone):
    """Two residual blocks, batch norm and dropout."""

    signal_spec = SignalSpec(100, "none")
    feature_dim = 12

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm1d(12), nn.Dropout(0.2)
        self.blocks = nn.ModuleList(nn.Conv1d(12, 12, 1) for _ in range(2))
        self.paths = nn.ModuleList(DropPath() for _ in range(2))

    def forward(self, signals: Tensor) -> Tensor:
        x = self.dropout(self.norm(signals))
        for block, path in zip(self.blocks, self.paths, strict=True):
            x = x + path(block(x))
        return x.mean(-1)


def walk(model: Classifier) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_ema_is_torchs_once_its_decay_is_reached() -> None:
    model = Classifier(Tiny(), 3)
    averaged = Averaged(model, EMA(0.5), model.state_dict())
    for _ in range(8):  # (1 + 8) / (10 + 8) = 0.5
        walk(model)
        averaged.step_ends()
    torchs = AveragedModel(averaged.model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    torchs.update_parameters(averaged.model)
    for _ in range(5):
        walk(model)
        averaged.step_ends()
        torchs.update_parameters(model)

    for own, theirs in zip(averaged.model.parameters(), torchs.module.parameters(), strict=True):
        torch.testing.assert_close(own, theirs)


class Tied(Tiny):
    """Both blocks are the same, and so is a layer that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks[1] = self.blocks[0]
        self.again = nn.Conv1d(12, 12, 1)
        self.again.weight = self.blocks[0].weight


@pytest.mark.parametrize("rule", ["ema", "swa"])
def test_tied_weights_move_once(rule: str) -> None:
    model = Classifier(Tied(), 3)
    keys = [key for key in model.state_dict() if key.endswith(("blocks.0.weight", "blocks.1.weight", "again.weight"))]
    averaged = Averaged(model, EMA(0.5) if rule == "ema" else SWA(0.01), model.state_dict())
    averaged.num_updates = 8 if rule == "ema" else 0  # (1 + 8) / (10 + 8) = 0.5
    torchs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5) if rule == "ema" else None)
    if rule == "ema":
        torchs.update_parameters(model)  # the first is a copy
    for epoch in range(5):
        walk(model)
        averaged.step_ends()
        averaged.epoch_ends(epoch, 5)
        torchs.update_parameters(model)

    own, theirs = averaged.model.state_dict(), torchs.module.state_dict()
    assert len(keys) == 3
    assert not torch.allclose(own[keys[0]], model.state_dict()[keys[0]])
    for key, value in theirs.items():
        torch.testing.assert_close(own[key], value)


def test_the_first_updates_forget_the_start() -> None:
    assert [EMA(0.999).decay_at(n) for n in (0, 1, 90)] == pytest.approx([1 / 10, 2 / 11, 91 / 100])
    assert EMA(0.999).decay_at(10**5) == 0.999


def test_swa_is_the_mean_of_the_late_epochs() -> None:
    model = Classifier(Tiny(), 3)
    averaged = Averaged(model, SWA(0.5), model.state_dict())
    seen = []
    for epoch in range(4):
        walk(model)
        averaged.step_ends()
        averaged.epoch_ends(epoch, 4)
        seen.append(model.head.weight.detach().clone())
        assert averaged.selectable == (epoch >= 2)

    torch.testing.assert_close(averaged.model.head.weight, (seen[2] + seen[3]) / 2)


def test_a_tied_tensor_is_averaged_once_a_step() -> None:
    """Its keys in the state dict are two."""
    model = Classifier(Tiny(), 3)
    model.backbone.blocks[1] = model.backbone.blocks[0]
    averaged = Averaged(model, EMA(0.5), model.state_dict())
    for _ in range(8):  # (1 + 8) / (10 + 8) = 0.5
        averaged.step_ends()
    before = averaged.model.backbone.blocks[1].weight.clone()

    walk(model)
    averaged.step_ends()

    torch.testing.assert_close(averaged.model.backbone.blocks[1].weight, (before + model.backbone.blocks[0].weight) / 2)
