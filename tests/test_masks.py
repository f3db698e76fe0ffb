"""Masks of a step: independent by number, the same again by the same number, and not by the number of ranks."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.errors import PluginError
from bench.plugin import Backbone, DropPath, SignalSpec
from bench.training.distributed import World
from bench.training.masks import Masks
from bench.training.model import Classifier
from bench.training.phase import Phase

CPU = torch.device("cpu")


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


def phase(parts: dict[str, float], **options: Any) -> Phase:
    return Phase(**{"name": "p", "learning_rates": parts, "epochs": 1, **options})


def kept(masks: int, rank: int = 0, size: int = 1, copies: int = 1, **options: Any) -> torch.Tensor:
    """What the deeper block keeps of this rank's part of 60 records."""
    drawn = Masks(Classifier(Tiny(), 3), phase({"backbone": 1.0}, drop_path_rate=0.5, **options), CPU)
    share = World(rank, size, CPU).share(60)
    drawn.begin_epoch(0)
    drawn.begin_step((0, "p", 0, 1), 60, share)
    drawn.use(masks, copies * (share.stop - share.start))
    keep = drawn.paths[1].keep
    assert keep is not None
    return keep


def test_masks_of_two_numbers_are_independent_draws() -> None:
    first, second = kept(0), kept(1)

    assert torch.equal(first, kept(0))
    assert 15 < int((first != second).sum()) < 45, "half of 60 differ on average"


@pytest.mark.parametrize("masks", [0, 1])
def test_ranks_take_their_share_of_the_same_draw(masks: int) -> None:
    assert torch.equal(torch.cat([kept(masks, rank, 3) for rank in range(3)]), kept(masks))


def test_copies_of_a_batch_have_the_masks_that_follow() -> None:
    assert torch.equal(kept(0, copies=2), torch.cat([kept(0), kept(1)]))


def test_a_batch_may_share_one_draw() -> None:
    drawn = [kept(k, drop_path_unit="batch") for k in range(12)]

    assert all(len(set(keep.tolist())) == 1 for keep in drawn)
    assert len({bool(keep[0]) for keep in drawn}) == 2


@pytest.mark.parametrize(("shape", "rates"), [("linear", [0.0, 0.5]), ("constant", [0.5, 0.5])])
def test_rates_follow_the_shape_and_the_epoch(shape: Any, rates: list[float]) -> None:
    declared = phase({"backbone": 1.0}, epochs=2, drop_path_rate=0.5, drop_path_shape=shape, drop_path_when="late")
    masks = Masks(Classifier(Tiny(), 3), declared, CPU)
    found = []
    for epoch in range(2):
        masks.begin_epoch(epoch)
        masks.begin_step((epoch,), 4, slice(0, 4))
        masks.use(0, 4)
        found.append([path.drop_prob for path in masks.paths])

    assert found == [[0.0, 0.0], rates]


def test_other_records_than_the_batchs_are_refused() -> None:
    masks = Masks(Classifier(Tiny(), 3), phase({"backbone": 1.0}), CPU)
    masks.begin_epoch(0)
    masks.begin_step((0,), 6, slice(0, 3))
    with pytest.raises(PluginError, match="on 4 records where this rank has 3 of the batch"):
        masks.use(0, 4)
