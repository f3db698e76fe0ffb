"""Forward passes without gradients: predictions, and the features of a frozen backbone computed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.errors import DataError, PluginError
from bench.training.batches import FeatureSource, Rows, SignalSource, Source, send
from bench.training.distributed import World
from bench.training.feature_cache import FeatureCache
from bench.training.method import Method, Phase, overrides
from bench.training.model import Classifier
from bench.training.precision import Precision, autocast

EVALUATION_BATCH = 64
"""Number of records of a forward pass. Limits memory. Another number changes scores by rounding at most."""
OWN_TOLERANCE = 1e-3
"""Largest change of an output by the other records of a batch, relative to the largest output: more than rounding."""
Progress = Callable[[int, int], None]
"""Callback with the number of this rank's records done, and of all of them."""


def unseen(done: int, total: int) -> None:
    """Show no progress."""


@torch.no_grad()
def run_windows(
    module: nn.Module,
    source: Source,
    world: World,
    precision: Precision,
    rows: Rows | None = None,
    progress: Progress = unseen,
) -> Tensor:
    """Return outputs [record, window, output] of a module in eval mode, each record exactly once, on all ranks.

    Computes all records, or only those in `rows`. With `rows`, every batch is padded to the same size, so that outputs
    do not depend on the number of rows.
    """
    module.eval()
    chosen = np.arange(len(source.labels)) if rows is None else rows
    mine = chosen[world.share(len(chosen))]
    outputs: Tensor | None = None
    for start in range(0, len(mine), EVALUATION_BATCH):
        batch = mine[start : start + EVALUATION_BATCH]
        num = len(batch)
        if rows is not None:
            batch = np.pad(batch, (0, EVALUATION_BATCH - num), mode="edge")
        windows = send(source.windows(batch), world.device)
        with autocast(precision, world.device):
            flat = module(windows.flatten(0, 1))
        some = flat.unflatten(0, windows.shape[:2])[:num].to(windows.dtype)
        if outputs is None:  # one tensor: small ones would stay between the large blocks that a batch frees
            outputs = some.new_empty(len(mine), *some.shape[1:])
        outputs[start : start + num] = some
        progress(start + num, len(mine))
    if outputs is None:
        windows = source.windows(np.arange(1)).to(world.device)
        outputs = module(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])[:0]
    return world.gather(outputs, len(chosen))


@torch.no_grad()
def require_own_outputs(module: nn.Module, source: Source, device: torch.device) -> None:
    """Raise PluginError if a module's outputs for a record depend on the other records of its batch, in eval mode.

    Scores would then use what else is in fold 10. It compares a record beside another one with the same beside itself.
    """
    first, other = (send(source.windows(np.array([row])), device)[0, :1] for row in (0, len(source.labels) - 1))
    module.eval()
    beside_other, beside_itself = (module(torch.cat([first, beside])) for beside in (other, first))
    gap = (beside_other[0] - beside_itself[0]).abs().max() / (beside_itself.abs().max() + 1e-12)
    if gap > OWN_TOLERANCE:
        raise PluginError(
            f"the model's outputs for a record change by {float(gap):.1e} with the other records of its batch, so its "
            "scores would depend on what else is in fold 10; bench check of the backbone and the method says more"
        )


def predict(
    module: nn.Module,
    source: Source,
    aggregate: Literal["max", "mean"],
    world: World,
    precision: Precision,
    progress: Progress = unseen,
) -> Tensor:
    """Return logits [record, label] on the CPU. The windows of a record are combined as the SignalSpec says."""
    windows = run_windows(module, source, world, precision, progress=progress)
    return join_windows(windows, aggregate).cpu()


def join_windows(logits: Tensor, aggregate: Literal["max", "mean"]) -> Tensor:
    """Combine the logits [record, window, label] of windows to logits [record, label] of records."""
    return logits.amax(1) if aggregate == "max" else logits.mean(1)


def can_use_features(phase: Phase, method: Method, model: Classifier) -> bool:
    """Return whether the backbone needs to run only once for the whole phase.

    It must be frozen. A fitted phase has no steps, and uses all windows of each record. A phase of steps must get whole
    records, because random crops differ between epochs, and no hook of its method may use signals: the method has no
    loss of its own, or has `needs_signals = False`.
    """
    frozen = all(part == "head" or part.startswith("head.") for part in phase.learning_rates)
    own = overrides(method, "augment") or (overrides(method, "loss") and method.needs_signals is not False)
    return frozen and (phase.fitted or (model.backbone.signal_spec.window is None and not own))


def training_features(
    model: Classifier, source: Source, world: World, precision: Precision, *, on_features: bool
) -> tuple[Tensor, Tensor]:
    """Return the head's input [sample, feature] and the labels [sample, label] of all records' windows, in order.

    `on_features`: the source has these features already.
    """
    module = nn.Identity() if on_features else model.encoder()
    windows = run_windows(module, source, world, precision)
    labels = source.labels.to(windows.device)
    return windows.flatten(0, 1), labels.repeat_interleave(windows.shape[1], dim=0)


def compute_features(
    model: Classifier,
    sources: Sequence[Source],
    world: World,
    precision: Precision,
    note: Callable[[str], None] = lambda text: None,
    progress: Progress = unseen,
) -> tuple[list[FeatureSource], float]:
    """Return the sources as features of the frozen backbone, and the seconds that computing these took.

    Features that an earlier run has computed are read from the cache, with their seconds.
    """
    first, cache, seconds = sources[0], None, 0.0
    if model.made_by and isinstance(first, SignalSource) and first.signals.entry:
        cache = FeatureCache.of(model, first.signals, precision, world.device)
    feature_sources = []
    for source in sources:
        features, took = _run_once(model, source, cache, world, precision, note, progress)
        feature_sources.append(features)
        seconds += took
    return feature_sources, seconds


def require_finite_features(features: npt.NDArray[Any], ecg_id: Rows) -> None:
    """Raise DataError with the first record whose features [record, ...] are NaN or infinite.

    This is not reported as divergence, because no hyper-parameter of the head can correct it.
    """
    bad = ~np.isfinite(features.reshape(len(features), -1)).all(axis=1)
    if bad.any():
        raise DataError(
            f"the frozen backbone gives NaN or infinite features for {bad.sum():,} of {len(bad):,} records, the first "
            f"ecg_id {ecg_id[bad][0]}; try --precision float32, look at that record (bench data show), and check the "
            "backbone (bench check)"
        )


def require_finite_logits(logits: Tensor, ecg_id: Rows, fold: int) -> None:
    """Raise DataError with the first record of a fold whose logits [record, label] are NaN or infinite."""
    bad = ~torch.isfinite(logits).all(dim=1).numpy()
    if bad.any():
        raise DataError(
            f"the trained model gives NaN or infinite scores for {bad.sum():,} of {len(bad):,} records of fold {fold}, "
            f"the first ecg_id {ecg_id[bad][0]}; try --precision float32, and look at that record (bench data show)"
        )


def _run_once(
    model: Classifier,
    source: Source,
    cache: FeatureCache | None,
    world: World,
    precision: Precision,
    note: Callable[[str], None],
    progress: Progress,
) -> tuple[FeatureSource, float]:
    num_records, seconds, parts = len(source.labels), 0.0, list[Tensor]()
    known, ecg_id = np.zeros(num_records, dtype=bool), np.arange(num_records)
    if cache and isinstance(source, SignalSource):
        ecg_id = source.signals.ecg_id[source.rows]
        here, kept, shares = cache.load(ecg_id, note)
        # ranks on several machines may have different caches: only features that all of them have are skipped
        everywhere = world.sum(torch.from_numpy(here).to(world.device, torch.int64)) == world.size
        known = everywhere.cpu().numpy()
        if known.any():
            note(f"features of {known.sum():,} records are known from an earlier run")
            parts.append(torch.from_numpy(kept[known[here]]).to(world.device))
            seconds += float(shares[known[here]].sum())
    # compute the features that are not in the caches of all ranks
    missing = np.flatnonzero(~known)
    if len(missing):
        note(f"computing features of {len(missing):,} records")
        began = time.monotonic()
        parts.append(run_windows(model.encoder(), source, world, precision, missing, progress))
        computed = parts[-1].cpu().numpy()  # a GPU is done only then
        took = time.monotonic() - began
        seconds += took
        require_finite_features(computed, ecg_id[missing])
        if cache and world.is_main:
            try:
                cache.save(ecg_id[missing], computed, took)
            except OSError as error:
                note(f"these features are not cached: {error}")
    # cached and computed features back into the order of the records
    order = torch.from_numpy(np.argsort(np.concatenate([np.flatnonzero(known), missing]))).to(world.device)
    return FeatureSource(torch.cat(parts)[order], source.labels), seconds
