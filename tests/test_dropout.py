"""Dropout masks are those of the whole batch, whichever rank holds a record."""

import pytest
import torch
from torch import nn

from bench.training.distributed import World
from bench.training.dropout import RankDropout, redraw, share_dropout

CPU = torch.device("cpu")


def on_ranks(size: int, stream: tuple[object, ...] = (0, "p", 0, 1)) -> torch.Tensor:
    """Two calls on a batch of 10 that ranks share, put together again: [call, record, ...]."""
    calls = []
    for rank in range(size):
        dropout, share = RankDropout(0.3).train(), World(rank, size, CPU).share(10)
        redraw([dropout], 10, share, CPU, *stream)
        ones = torch.ones(10, 4, 50)[share]
        calls.append(torch.stack([dropout(ones), dropout(ones)]))
    return torch.cat(calls, dim=1)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_number_of_ranks_does_not_matter(size: int) -> None:
    alone = on_ranks(1)

    assert torch.equal(on_ranks(size), alone)
    assert not torch.equal(alone[0], alone[1]), "a second call draws anew"
    assert not torch.equal(alone, on_ranks(1, (0, "p", 0, 2))), "so does the next step"


def test_it_is_dropout() -> None:
    dropped = on_ranks(1)

    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=5 * (0.21 / 4000) ** 0.5)


def test_every_plain_dropout_is_replaced_once() -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2).eval()), nn.Dropout1d(0.3))

    dropouts = share_dropout(model)

    assert [(d.p, d.training) for d in dropouts] == [(0.1, True), (0.2, False)]
    assert share_dropout(model) == dropouts
    assert type(model[2]) is nn.Dropout1d


def test_other_batches_and_eval_mode() -> None:
    dropout = RankDropout(0.5)
    assert dropout(torch.ones(3, 400)).eq(0).any(), "without a step it is torch's own"
    redraw([dropout], 10, slice(0, 5), CPU, "step")
    assert dropout(torch.ones(7, 5)).shape == (7, 5)
    assert torch.equal(dropout.eval()(torch.ones(5, 5)), torch.ones(5, 5))
    assert not RankDropout(1.0)(torch.ones(5, 5)).any()
