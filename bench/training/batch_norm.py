"""Batch norm whose training statistics are those of the whole batch, however many ranks share it.

torch's SyncBatchNorm does this on CUDA only; on a CPU the same sums go through a differentiable all-reduce.
"""

from __future__ import annotations

import torch
import torch.distributed.nn.functional as dist
from torch import Tensor, nn

from bench.training.distributed import World


class RankBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d over all ranks of the default process group; a rank may hold no record at all."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        dims = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        num = torch.tensor([x.numel() / x.shape[1]], dtype=x.dtype, device=x.device)
        total = _all_reduce(torch.cat([x.sum(dims), num]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centered = x - mean.view(shape)
        variance = _all_reduce(centered.square().sum(dims)) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            assert self.momentum is not None and self.num_batches_tracked is not None
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                unbiased = (variance * count / (count - 1)).to(self.running_var.dtype)
                self.running_var.lerp_(unbiased, self.momentum)
        normal = centered * torch.rsqrt(variance + self.eps).view(shape)
        return normal * self.weight.view(shape) + self.bias.view(shape)


def _all_reduce(value: Tensor) -> Tensor:
    return dist.all_reduce(value)  # type: ignore[no-untyped-call, no-any-return]


def share_batch_norm(model: nn.Module, world: World) -> None:
    """Replace the batch norms within a model by ones over all ranks; same keys, same values."""
    if world.size == 1:
        return
    for name, child in list(model.named_children()):
        if type(child) is nn.BatchNorm1d and world.device.type == "cuda":
            setattr(model, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]
        elif type(child) is nn.BatchNorm1d:
            shared = RankBatchNorm(child.num_features, child.eps, child.momentum)
            shared.load_state_dict(child.state_dict())
            for new, old in zip(shared.parameters(), child.parameters(), strict=True):
                new.requires_grad_(old.requires_grad)
            shared.train(child.training)
            shared.to(next(child.parameters()).dtype)
            setattr(model, name, shared)
        else:
            share_batch_norm(child, world)
