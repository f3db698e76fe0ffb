"""Batch norm with training statistics of the whole batch, over all ranks.

torch's SyncBatchNorm works on CUDA only; on a CPU the same sums are computed by a differentiable all-reduce.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from bench.errors import BenchError
from bench.training.distributed import World
from bench.training.model import Classifier

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class RankBatchNorm(_BatchNorm):
    """BatchNorm1d, 2d or 3d over all ranks of the default process group. A rank may have no records."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            return super().forward(x)
        dims = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        # sums over a batch need float32: bf16 cannot represent the number of samples
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        num = torch.tensor([x.numel() / x.shape[1]], dtype=wide.dtype, device=x.device)
        total = _all_reduce(torch.cat([wide.sum(dims), num]))
        count = total[-1].detach()
        if count <= 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(x.shape)}")
        mean = total[:-1] / count
        centered = wide - mean.view(shape)
        variance = _all_reduce(centered.square().sum(dims)) / count
        if self.training and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            with torch.no_grad():
                self.num_batches_tracked += 1
                # without a momentum the running statistics are the mean over all batches
                weight = self.momentum if self.momentum is not None else 1.0 / int(self.num_batches_tracked)
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
                unbiased = (variance * count / (count - 1)).to(self.running_var.dtype)
                self.running_var.lerp_(unbiased, weight)
        normal = centered * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions."""


class _AllReduce(torch.autograd.Function):
    """Sum over ranks. Its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total


def _all_reduce(value: Tensor) -> Tensor:
    return _AllReduce.apply(value)  # type: ignore[no-untyped-call, no-any-return]


def share_batch_norm(model: nn.Module, world: World) -> None:
    """Replace the batch norms in a model by batch norms over all ranks, with the same keys and values.

    Raises BenchError for an unknown kind of batch norm, and for an instance norm that tracks statistics, because each
    rank would use its own. That is no decline: the cell runs on a single process, and its digest does not depend on the
    number of processes.
    """
    if world.size == 1:
        return
    for name, child in list(model.named_children()):
        if type(child) in KINDS:
            assert isinstance(child, _BatchNorm)
            setattr(model, name, _shared(child, world))
        elif _tracks_alone(child):
            raise BenchError(
                f"the backbone's {type(child).__name__} computes its statistics on each rank alone; "
                "use nn.BatchNorm1d, or a single process"
            )
        else:
            share_batch_norm(child, world)


def _tracks_alone(module: nn.Module) -> bool:
    """Return whether statistics of a module would be those of this rank's records."""
    if isinstance(module, _InstanceNorm):
        return module.track_running_stats
    return isinstance(module, _BatchNorm) and not isinstance(module, RankBatchNorm | nn.SyncBatchNorm)


def _shared(norm: _BatchNorm, world: World) -> nn.Module:
    if world.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call, no-any-return]
    shared = RankBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    shared.weight, shared.bias = norm.weight, norm.bias
    for key, buffer in norm.named_buffers():
        shared.register_buffer(key, buffer)
    return shared.train(norm.training)


@torch.no_grad()
def recalibrate(model: Classifier, parts: Collection[str], run: Callable[[], object]) -> None:
    """Compute the running statistics of the batch norms that these parts train anew: their mean over `run`'s passes.

    Everything else is in eval mode. Statistics of a batch norm that the passes do not call stay.
    """
    model.train_mode(parts)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    model.eval()
    before = [(norm.momentum, {key: buffer.clone() for key, buffer in norm.named_buffers()}) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True
    if norms:
        run()
    for norm, (momentum, buffers) in zip(norms, before, strict=True):
        norm.momentum, norm.training = momentum, False
        if norm.num_batches_tracked is not None and not int(norm.num_batches_tracked):
            for key, buffer in norm.named_buffers():
                buffer.copy_(buffers[key])
