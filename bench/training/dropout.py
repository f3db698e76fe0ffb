"""Dropout whose masks are drawn for the whole batch, so that the number of ranks does not matter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.training.batches import random_stream


class RankDropout(nn.Dropout):
    """Dropout that drops the same values of a record whichever rank holds it.

    `redraw` before every step. A batch of another size than the step's, which a method's loss may make, gets a mask
    of this rank's own.
    """

    generator: torch.Generator | None = None
    num_records = 0
    share = slice(0)

    def redraw(self, generator: torch.Generator, num_records: int, share: slice) -> None:
        """From now on draw from this generator for `num_records` records, of which this rank takes its share."""
        self.generator, self.num_records, self.share = generator, num_records, share

    def forward(self, input: Tensor) -> Tensor:
        ours = len(input) == self.share.stop - (self.share.start or 0)
        if self.generator is None or not ours or not self.training or not 0 < self.p < 1:
            return super().forward(input)
        mask = torch.empty((self.num_records, *input.shape[1:]), dtype=input.dtype, device=input.device)
        kept = mask.bernoulli_(1 - self.p, generator=self.generator)[self.share]
        return input * kept.div_(1 - self.p)


def share_dropout(model: nn.Module) -> list[RankDropout]:
    """Replace the `nn.Dropout`s within a model; returns all of them in order."""
    for name, child in list(model.named_children()):
        if type(child) is nn.Dropout:
            setattr(model, name, RankDropout(child.p).train(child.training))
        else:
            share_dropout(child)
    return [module for module in model.modules() if isinstance(module, RankDropout)]


def redraw(dropouts: list[RankDropout], num_records: int, share: slice, device: torch.device, *stream: object) -> None:
    """Give each dropout the generator of this step."""
    seeds = random_stream(*stream, "dropout").integers(2**62, size=len(dropouts)) if dropouts else ()
    for dropout, seed in zip(dropouts, seeds, strict=True):
        dropout.redraw(torch.Generator(device).manual_seed(int(seed)), num_records, share)
