"""Dropout with masks for the whole batch, so that results do not depend on the number of ranks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.training.batches import random_stream


class RankDropout(nn.Dropout):
    """Dropout that drops the same values of a record, independent of its rank.

    Call `redraw` before every step. For a batch of another size, which a method's loss may create, each rank uses its
    own mask.
    """

    generator: torch.Generator | None = None
    num_records = 0
    share = slice(0)

    def redraw(self, generator: torch.Generator, num_records: int, share: slice) -> None:
        """Set the generator of the next masks, for `num_records` records, of which this rank has `share`."""
        self.generator, self.num_records, self.share = generator, num_records, share

    def forward(self, input: Tensor) -> Tensor:
        is_share = len(input) == self.share.stop - (self.share.start or 0)
        if self.generator is None or not is_share or not self.training or not 0 < self.p < 1:
            return super().forward(input)
        mask = torch.empty((self.num_records, *input.shape[1:]), dtype=input.dtype, device=input.device)
        kept = mask.bernoulli_(1 - self.p, generator=self.generator)[self.share]
        return input * kept.div_(1 - self.p)


class RankAttention(nn.MultiheadAttention):
    """torch's attention with dropout of its weights by `dropping`, because torch's kernel would use masks per rank."""

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


def redraw(dropouts: list[RankDropout], num_records: int, share: slice, device: torch.device, *stream: object) -> None:
    """Set the generator of each dropout for this step."""
    seeds = random_stream(*stream, "dropout").integers(2**62, size=len(dropouts)) if dropouts else ()
    for dropout, seed in zip(dropouts, seeds, strict=True):
        dropout.redraw(torch.Generator(device).manual_seed(int(seed)), num_records, share)
