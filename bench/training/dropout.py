"""Dropout with masks for the whole batch, so that results do not depend on the number of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.training.batches import random_stream


class RankDropout(nn.Dropout):
    """Dropout whose mask for a record does not depend on the rank that has the record.

    Call `redraw` before every pass. A tensor may have several consecutive rows per record. A tensor of another size
    gets a mask that depends on the rank.
    """

    generators: Sequence[torch.Generator] = ()
    """One generator per copy of the batch."""
    num_records = 0
    share = slice(0)

    def redraw(self, generators: Sequence[torch.Generator], num_records: int, share: slice) -> None:
        """Set the generators of the next pass over `num_records` records, of which this rank has `share`."""
        self.generators, self.num_records, self.share = generators, num_records, share

    def forward(self, input: Tensor) -> Tensor:
        start, stop = self.share.start or 0, self.share.stop
        rows, left = divmod(len(input), max(1, len(self.generators) * (stop - start)))
        fits = not left and (rows > 0 or not len(input))
        if not self.generators or not fits or not self.training or not 0 < self.p < 1:
            return super().forward(input)
        masks = []
        for generator in self.generators:
            mask = torch.empty((self.num_records * rows, *input.shape[1:]), dtype=input.dtype, device=input.device)
            masks.append(mask.bernoulli_(1 - self.p, generator=generator)[start * rows : stop * rows])
        kept = masks[0] if len(masks) == 1 else torch.cat(masks)
        return input * kept.div_(1 - self.p)


class RankAttention(nn.MultiheadAttention):
    """torch's attention, whose weights are dropped by `dropping`: the masks of torch's kernel depend on the rank."""

    dropping: RankDropout

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if not self.training:
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        _, weights = super().forward(query, key, value, key_padding_mask, True, attn_mask, False, is_causal)
        dropped = self.dropping(weights)  # [record, head, to, from]
        joint, swapped = self.in_proj_weight is not None, query.dim() == 3 and not self.batch_first
        matrix = self.in_proj_weight.chunk(3)[2] if joint else self.v_proj_weight
        bias = None if self.in_proj_bias is None else self.in_proj_bias.chunk(3)[2]
        values = nn.functional.linear(value.transpose(0, 1) if swapped else value, matrix, bias)
        heads = dropped @ values.view(*values.shape[:-1], self.num_heads, self.head_dim).transpose(-2, -3)
        mixed = self.out_proj(heads.transpose(-2, -3).flatten(-2))
        shown = dropped.mean(-3) if average_attn_weights else dropped
        return mixed.transpose(0, 1) if swapped else mixed, shown if need_weights else None


def share_dropout(model: nn.Module) -> list[RankDropout]:
    """Replace all `nn.Dropout` in a model, including those of attention. Return the new modules in order."""
    for name, child in list(model.named_children()):
        if type(child) is nn.Dropout:
            setattr(model, name, RankDropout(child.p).train(child.training))
        elif type(child) is nn.MultiheadAttention and child.dropout and not _adds_keys(child):
            child.__class__ = RankAttention
            child.dropping, child.dropout = RankDropout(child.dropout).train(child.training), 0.0
        else:
            share_dropout(child)
    return [module for module in model.modules() if isinstance(module, RankDropout)]


def _adds_keys(attention: nn.MultiheadAttention) -> bool:
    """Return whether the attention adds keys to its input."""
    return attention.bias_k is not None or attention.add_zero_attn


def redraw_copies(
    dropouts: list[RankDropout],
    num_records: int,
    share: slice,
    device: torch.device,
    streams: Sequence[Sequence[object]],
) -> None:
    """Set the generators of each dropout for a pass over several copies of a batch, one copy per stream."""
    seeds_of = [random_stream(*stream, "dropout").integers(2**62, size=len(dropouts)) for stream in streams if dropouts]
    for number, dropout in enumerate(dropouts):
        generators = [torch.Generator(device).manual_seed(int(seeds[number])) for seeds in seeds_of]
        dropout.redraw(generators, num_records, share)


def rest(dropouts: Sequence[RankDropout]) -> None:
    """Remove the generators, because a module with generators cannot be copied."""
    for dropout in dropouts:
        dropout.generators = ()
