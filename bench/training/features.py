"""Forward passes without gradients: predictions, and the features of a frozen backbone computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from bench.training.batches import FeatureSource, Source
from bench.training.distributed import World
from bench.training.method import Method, Phase
from bench.training.model import Classifier
from bench.training.precision import Precision, autocast

EVALUATION_BATCH = 128
"""Records a forward pass; it bounds memory and does not change which records are scored."""


@torch.no_grad()
def run_windows(module: nn.Module, source: Source, world: World, precision: Precision) -> Tensor:
    """Outputs [record, window, output] of a module in eval mode, every record exactly once, on every rank."""
    module.eval()
    share = world.share(len(source.labels))
    outputs = []
    for start in range(share.start, share.stop, EVALUATION_BATCH):
        windows = source.windows(np.arange(start, min(start + EVALUATION_BATCH, share.stop))).to(world.device)
        with autocast(precision, world.device):
            flat = module(windows.flatten(0, 1))
        outputs.append(flat.unflatten(0, windows.shape[:2]).to(windows.dtype))
    if not outputs:
        windows = source.windows(np.arange(1)).to(world.device)
        outputs = [module(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])[:0]]
    return world.gather(torch.cat(outputs), len(source.labels))


def predict(
    module: nn.Module, source: Source, aggregate: Literal["max", "mean"], world: World, precision: Precision
) -> Tensor:
    """Logits [record, label] on the CPU: those of a record's windows joined as the backbone's SignalSpec says."""
    windows = run_windows(module, source, world, precision)
    return (windows.amax(1) if aggregate == "max" else windows.mean(1)).cpu()


def can_use_features(phase: Phase, method: Method, model: Classifier) -> bool:
    """Whether the backbone may run once for the whole phase.

    It must be frozen, see whole records (a random crop differs each epoch), and the method's loss must be the
    harness's own, which asks nothing of the signals but their logits.
    """
    frozen = all(part == "head" or part.startswith("head.") for part in phase.learning_rates)
    return frozen and model.backbone.signals.window is None and type(method).loss is Method.loss


def compute_features(
    model: Classifier, source: Source, world: World, precision: Precision, note: Callable[[str], None]
) -> FeatureSource:
    """The source with its records run through the frozen backbone."""
    note(f"computing features of {len(source.labels):,} records")
    features = run_windows(model.backbone, source, world, precision)
    return FeatureSource(features, source.labels)
