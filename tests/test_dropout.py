"""Dropout masks are those of the whole batch, whichever rank holds a record."""

import pytest
import torch
from torch import nn

from bench.training.distributed import World
from bench.training.dropout import RankDropout, redraw_copies, share_dropout

CPU = torch.device("cpu")


def on_ranks(size: int, stream: tuple[object, ...] = (0, "p", 0, 1)) -> torch.Tensor:
    """Two calls on a batch of 10 that ranks share, put together again: [call, record, ...]."""
    calls = []
    for rank in range(size):
        dropout, share = RankDropout(0.3).train(), World(rank, size, CPU).share(10)
        redraw_copies([dropout], 10, share, CPU, [stream])
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
    redraw_copies([dropout], 10, slice(0, 5), CPU, [("step",)])
    assert dropout(torch.ones(7, 5)).shape == (7, 5)
    assert torch.equal(dropout.eval()(torch.ones(5, 5)), torch.ones(5, 5))
    assert not RankDropout(1.0)(torch.ones(5, 5)).any()


def attention(*, batch_first: bool = True, **options: int) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    return nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=batch_first, **options)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("options", [{}, {"kdim": 5, "vdim": 6}])
@pytest.mark.parametrize("average", [True, False])
def test_attention_is_torchs_where_nothing_is_dropped(
    batch_first: bool, options: dict[str, int], average: bool
) -> None:
    theirs = attention(batch_first=batch_first, **options)
    model = nn.Sequential(attention(batch_first=batch_first, **options))
    (dropout,) = share_dropout(model)
    (ours,) = model
    assert list(model.state_dict()) == [f"0.{key}" for key in theirs.state_dict()]
    assert dropout.p == 0.3
    dropout.p = theirs.dropout = 0.0
    key, value = torch.randn(3, 7, options.get("kdim", 8)), torch.randn(3, 7, options.get("vdim", 8))
    inputs = [x if batch_first else x.transpose(0, 1) for x in (torch.randn(3, 4, 8), key, value)]
    masks = {"key_padding_mask": torch.arange(7).repeat(3, 1) > 4, "attn_mask": torch.randn(4, 7) > 1.5}

    for given in ({}, masks):
        for ours_too, theirs_too in zip(
            ours(*inputs, average_attn_weights=average, **given),
            theirs(*inputs, average_attn_weights=average, **given),
            strict=True,
        ):
            torch.testing.assert_close(ours_too, theirs_too)
    assert ours(*inputs, need_weights=False)[1] is None


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_drops_the_same_on_any_number_of_ranks(batch_first: bool) -> None:
    model = nn.Sequential(attention(batch_first=batch_first))
    dropouts = share_dropout(model)
    records = torch.randn(10, 4, 8)

    def on_ranks(size: int) -> torch.Tensor:
        outputs = []
        for rank in range(size):
            share = World(rank, size, CPU).share(10)
            redraw_copies(dropouts, 10, share, CPU, [("step",)])
            x = records[share] if batch_first else records[share].transpose(0, 1)
            out = model[0](x, x, x, need_weights=False)[0]
            outputs.append(out if batch_first else out.transpose(0, 1))
        return torch.cat(outputs)

    dropped = on_ranks(1)
    torch.testing.assert_close(on_ranks(3), dropped)
    dropouts[0].eval()
    assert not torch.allclose(on_ranks(1), dropped)


def test_attention_to_more_than_it_is_given_stays_torchs() -> None:
    model = nn.Sequential(attention(add_zero_attn=True))

    assert share_dropout(model) == []
    assert model[0].dropout == 0.3
