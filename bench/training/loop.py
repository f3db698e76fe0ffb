"""Phases in order: freeze, modes, optimiser, schedule, precision, and the best epoch on fold 9."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from bench.errors import BenchError, Diverged, PluginError
from bench.evaluation.metrics import auroc
from bench.training.batches import SignalSource, Source, epoch_batches, num_batches, random_stream, send
from bench.training.checkpoint import Checkpoints
from bench.training.distributed import World
from bench.training.dropout import RankDropout, redraw, share_dropout
from bench.training.features import (
    can_use_features,
    compute_features,
    predict,
    require_finite_features,
    run_windows,
)
from bench.training.method import Method, Phase
from bench.training.model import Classifier, DropPath, count_parameters, set_drop_path
from bench.training.precision import Precision, autocast


class Watcher(Protocol):
    """Whoever shows or records how training goes."""

    def phase_begins(self, name: str, num_epochs: int, steps_per_epoch: int, steps_done: int) -> None: ...
    def step_ends(self) -> None: ...
    def epoch_ends(self, facts: dict[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass
class PhaseReport:
    """What a phase did, epoch by epoch."""

    name: str
    trainable_parameters: int
    on_features: bool
    selection: str
    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_macro_auroc: list[float] = field(default_factory=list)
    best_epoch: int = 0
    """Counted from 1; the epoch whose weights left the phase."""
    seconds: float = 0.0
    """Spent on what is in the weights, over all attempts; what a kill has undone does not count."""
    feature_seconds: float = 0.0
    """Those of them that features took; what an earlier run left counts as if it had been computed anew."""


def train(
    model: Classifier,
    method: Method,
    train_source: Source,
    val_source: Source,
    *,
    seed: int,
    world: World,
    precision: Precision,
    watcher: Watcher,
    checkpoints: Checkpoints,
) -> list[PhaseReport]:
    """Train the model in place through all phases of the method; go on from the newest checkpoint if there is one."""
    check_sources(train_source, val_source)
    reports: list[PhaseReport] = []
    world.wait()  # for the main rank, which makes the folder
    resumed = checkpoints.newest()
    check_same_start(resumed, checkpoints.folder, world)
    if resumed:
        reports = [PhaseReport(**report) for report in resumed["reports"]]
        steps = f" and {resumed['step']} steps" if resumed["step"] else ""
        watcher.note(f"resumed in phase {reports[-1].name} after epoch {len(reports[-1].train_loss)}{steps}")
    trained: set[str] = set()
    for position, phase in enumerate(method.phases()):
        trained |= set(phase.learning_rates)
        if position + 1 < len(reports):
            continue
        state = resumed if resumed and position + 1 == len(reports) else None
        run = PhaseRun(model, method, phase, world, precision, seed, model.changed_keys(trained))
        if state:
            run.load(state["model"])
        else:
            reports.append(PhaseReport(phase.name, run.num_trainable, False, phase.selection))
        run.begin(train_source, val_source, reports, watcher, checkpoints, state)
        for epoch in range(len(reports[-1].train_loss), phase.epochs):
            run.epoch(epoch)
        run.finish()
    return reports


def check_sources(train: Source, val: Source) -> None:
    """Raise where there is nothing to train on, or no label in fold 9 that an AUROC could be computed of."""
    if len(train.labels) < 2:
        raise BenchError("a single training record is left, and batch norm needs two; train on more")
    labels = val.labels > 0
    if not bool((labels.any(0) & ~labels.all(0)).any()):
        raise BenchError("no label has both a positive and a negative in fold 9, so no epoch can be selected")


def check_same_start(resumed: Mapping[str, Any] | None, folder: Path, world: World) -> None:
    """Raise where the ranks found different checkpoints, as they do on folders that are not shared."""
    epochs = sum(len(report["train_loss"]) for report in resumed["reports"]) if resumed else 0
    done = [epochs, resumed["step"] if resumed else 0, int(folder.is_dir())]
    found = world.gather(torch.tensor([done], device=world.device), world.size).tolist()
    if any(other != found[0] for other in found):
        said = [f"{epochs} epochs and {step} steps" if there else "no folder" for epochs, step, there in found]
        raise BenchError(
            f"the ranks found different states of {folder}: {', '.join(said)}; "
            "all machines of a run need the same runs folder"
        )


def rehearse(model: Classifier, method: Method, declared: Sequence[Phase]) -> None:
    """Go through the phases without training: raises what a part's name or a missing DropPath would raise later.

    They are those `declared` before `prepare`, which the result records. Two phases of one name are refused: they would
    draw the same order and masks, and log under one name.
    """
    phases = method.phases()
    if list(phases) != list(declared):
        raise PluginError(
            "the method's phases are others after prepare() than before, and those before are what a result records; "
            "let them follow from its hyper-parameters alone"
        )
    if twice := [name for name, num in Counter(phase.name for phase in phases).items() if num > 1]:
        raise PluginError(f"the method has several phases named {twice[0]!r}; give each a name of its own")
    for phase in phases:
        model.train_parts(phase.learning_rates)
        set_drop_path(model, phase.drop_path_rate)


class PhaseRun:
    """One phase under way: the parts trained, their optimiser and schedule, the best weights so far."""

    def __init__(
        self,
        model: Classifier,
        method: Method,
        phase: Phase,
        world: World,
        precision: Precision,
        seed: int,
        changed: set[str],
    ) -> None:
        self.model, self.method, self.phase = model, method, phase
        self.world, self.precision, self.seed = world, precision, seed
        self.groups = model.train_parts(phase.learning_rates)
        self.drop_paths: list[DropPath] = set_drop_path(model, phase.drop_path_rate)
        self.dropouts: list[RankDropout] = share_dropout(model)
        self.changed = changed
        self.num_trainable = count_parameters(model, trainable=True)
        self.best: dict[str, Tensor] = {}
        self.best_score = -math.inf
        self.step = 0
        """Steps of the epoch that are done."""
        self.loss_sum: float | Tensor = 0.0
        """Their losses, summed over the records of all ranks."""
        self.seconds = 0.0
        """What they took in attempts before this one."""

    def begin(
        self,
        train: Source,
        val: Source,
        reports: list[PhaseReport],
        watcher: Watcher,
        checkpoints: Checkpoints,
        state: Mapping[str, Any] | None,
    ) -> None:
        """Choose what is run a step, wrap it, and set up optimiser and schedule; go on from `state` if there is one."""
        self.reports, self.report = reports, reports[-1]
        self.watcher, self.checkpoints = watcher, checkpoints
        self.module: nn.Module = self.model
        self.report.on_features = can_use_features(self.phase, self.method, self.model)
        if self.report.on_features:
            self.module = self.model.head
            (train, val), seconds = compute_features(self.model, [train, val], self.world, self.precision, watcher.note)
            if not state:  # else they are in the report
                self.report.feature_seconds = seconds
                self.report.seconds += seconds
        self.train_source, self.val_source = train, val
        self.train_labels = train.labels.to(self.world.device)
        self.forward = self.world.wrap(self.module)
        self._settle_buckets()
        self.optimizer = self.method.optimizer(list(map(dict, self.groups)), self.phase)
        num_steps = num_batches(len(train.labels), self.phase.batch_size)
        self.lr_scheduler = make_schedule(self.optimizer, self.phase, num_steps)
        if state:
            self.restore(state)
        steps_done = len(self.report.train_loss) * num_steps + self.step
        watcher.phase_begins(self.phase.name, self.phase.epochs, num_steps, steps_done)

    def _settle_buckets(self) -> None:
        """A backward pass that does not count, before DDP's first that does.

        DDP orders its buckets by the first pass it sees, and the order in which three ranks or more are summed follows
        from a parameter's place in them: a run that goes on would end in other bits than one that was never killed.
        """
        if self.world.size < 3:
            return
        before = {key: buffer.clone() for key, buffer in self.model.named_buffers()}
        self.model.train_mode(self.phase.learning_rates)
        signals = self.train_source.training(np.arange(2), (self.seed, self.phase.name)).to(self.world.device)
        with autocast(self.precision, self.world.device):
            self.forward(signals).sum().backward()
        self.model.zero_grad(set_to_none=True)
        for key, buffer in self.model.named_buffers():
            buffer.copy_(before[key])

    def epoch(self, epoch: int) -> None:
        """Train on every record once, score fold 9, keep the weights if they are to be kept; save it all."""
        report = self.report
        self.began = time.monotonic() - self.seconds
        loss = self._train_epoch(epoch)
        if not math.isfinite(loss):
            raise self._diverged(epoch, f"the training loss is {loss}")
        val_loss, val_macro_auroc = self._validate(epoch)
        score = {"best": val_macro_auroc, "lowest-loss": -val_loss, "last": float(epoch)}[self.phase.selection]
        if score > self.best_score:
            self.best_score, report.best_epoch = score, epoch + 1
            self.best = {key: value.detach().clone() for key, value in self._weights().items()}
        if isinstance(self.lr_scheduler, ReduceLROnPlateau):
            self.lr_scheduler.step(val_macro_auroc)
        report.train_loss.append(loss)
        report.val_loss.append(val_loss)
        report.val_macro_auroc.append(val_macro_auroc)
        seconds = time.monotonic() - self.began
        report.seconds += seconds
        self.step, self.loss_sum, self.seconds = 0, 0.0, 0.0
        self.watcher.epoch_ends(
            {
                "phase": self.phase.name,
                "epoch": epoch + 1,
                "train_loss": loss,
                "val_loss": val_loss,
                "val_macro_auroc": val_macro_auroc,
                "best_epoch": report.best_epoch,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "seconds": seconds,
            }
        )
        self.checkpoints.save(self.state())

    def finish(self) -> None:
        """The model holds the weights of the selected epoch."""
        self.load(self.best)
        set_drop_path(self.model, 0.0)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Put weights that an epoch of this phase left back into the model."""
        self.model.load_state_dict({**self.model.state_dict(), **weights})

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs beside the initial weights."""
        return {
            "reports": [asdict(report) for report in self.reports],
            "step": self.step,
            "loss_sum": float(self.loss_sum),
            "seconds": time.monotonic() - self.began if self.step else 0.0,
            "model": self._weights(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.lr_scheduler.state_dict() if self.lr_scheduler else None,
            "best": self.best,
            "best_score": self.best_score,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        if self.lr_scheduler:
            self.lr_scheduler.load_state_dict(state["schedule"])
        self.best, self.best_score = state["best"], state["best_score"]
        self.step, self.loss_sum = state["step"], state["loss_sum"]
        self.seconds = state.get("seconds", 0.0)

    def _weights(self) -> dict[str, Tensor]:
        """What training has changed since the run began; the rest is as the initial weights have it."""
        return {key: value for key, value in self.model.state_dict().items() if key in self.changed}

    def _train_epoch(self, epoch: int) -> float:
        """Mean loss over the records of the epoch, of which the first `self.step` steps may be done."""
        world, num_records = self.world, len(self.train_source.labels)
        stream = (self.seed, self.phase.name, epoch)
        self.model.train_mode(self.phase.learning_rates)
        batches = enumerate(epoch_batches(num_records, self.phase.batch_size, stream))
        for step, batch in islice(batches, self.step, None):
            share = world.share(len(batch))
            rows = batch[share]
            signals = send(self.train_source.training(rows, stream), world.device)
            labels = self.train_labels[send(torch.from_numpy(rows), world.device)]
            self._draw_paths(len(batch), share, (*stream, step))
            redraw(self.dropouts, len(batch), share, world.device, *stream, step)
            # for what a plugin may draw by itself
            torch.manual_seed(int(random_stream(*stream, step, world.rank, "torch").integers(2**62)))
            with autocast(self.precision, world.device):
                loss = self._loss(signals, labels)
            self.optimizer.zero_grad(set_to_none=True)
            # the ranks' gradients are averaged, so each rank's mean counts by its share of the batch
            (loss * (len(rows) * world.size / len(batch))).backward()  # type: ignore[no-untyped-call]
            if self.phase.gradient_clip_norm is not None:
                nn.utils.clip_grad_norm_(
                    [p for group in self.groups for p in group["params"]], self.phase.gradient_clip_norm
                )
            self.optimizer.step()
            if isinstance(self.lr_scheduler, LRScheduler) and not isinstance(self.lr_scheduler, ReduceLROnPlateau):
                self.lr_scheduler.step()
            self.step += 1
            # summed over ranks at once, so that the rank that writes checkpoints can do so whenever it likes
            self.loss_sum += world.sum(loss.detach().double() * len(rows))
            if self.checkpoints.due():
                self.checkpoints.save(self.state())
            self.watcher.step_ends()
        return float(self.loss_sum) / num_records

    def _loss(self, signals: Tensor, labels: Tensor) -> Tensor:
        if not len(signals):  # fewer records than ranks: take part in the collectives, add nothing
            # SyncBatchNorm sends the statistics of bf16 records in float32, but those of no record in the type of these
            with torch.autocast(self.world.device.type, enabled=False):
                return self.forward(signals).sum() * 0.0  # type: ignore[no-any-return]
        return self.method.loss(self.forward, signals, labels)

    def _draw_paths(self, num_records: int, share: slice, stream: tuple[object, ...]) -> None:
        """Stochastic depth for the whole batch, of which this rank takes its share."""
        dropping = [path for path in self.drop_paths if path.drop_prob > 0]
        if dropping:
            uniform = random_stream(*stream, "drop path").random((len(dropping), num_records))[:, share]
            kept = uniform >= np.array([[path.drop_prob] for path in dropping])
            for path, keep in zip(dropping, send(torch.from_numpy(kept), self.world.device), strict=True):
                path.keep = keep

    def _validate(self, epoch: int) -> tuple[float, float]:
        """Binary cross-entropy and macro AUROC on fold 9."""
        aggregate = self.model.backbone.signal_spec.aggregate
        logits = predict(self.module, self.val_source, aggregate, self.world, self.precision)
        if not bool(torch.isfinite(logits).all()):
            raise self._diverged(epoch, "outputs on fold 9 are not finite")
        labels = self.val_source.labels
        loss = nn.functional.binary_cross_entropy_with_logits(logits.double(), labels.double())
        return float(loss), float(np.nanmean(auroc(labels.numpy(), logits.numpy())))

    def _diverged(self, epoch: int, what: str) -> Diverged:
        if "backbone" not in {part.partition(".")[0] for part in self.phase.learning_rates}:
            self._require_finite_features()
        return Diverged(
            f"{Diverged.PREFIX} in phase {self.phase.name}, epoch {epoch + 1}: {what}; "
            "a lower learning rate or clipping may help"
        )

    @torch.no_grad()
    def _require_finite_features(self) -> None:
        """Raise DataError where the frozen backbone, and not the training of the head, left the finite numbers."""
        for source in (self.train_source, self.val_source):
            if isinstance(source, SignalSource):
                features = run_windows(self.model.backbone, source, self.world, self.precision)
                require_finite_features(features.cpu().numpy(), source.signals.ecg_id[source.rows])


def make_schedule(optimizer: Optimizer, phase: Phase, steps_per_epoch: int) -> LRScheduler | ReduceLROnPlateau | None:
    """The learning-rate schedule of a phase; stepped every step, a plateau every epoch."""
    total = phase.epochs * steps_per_epoch
    if phase.lr_schedule == "cosine":
        span, last = 1.0 - phase.min_lr_factor, max(1, total - 1)
        return LambdaLR(
            optimizer, lambda step: phase.min_lr_factor + span * 0.5 * (1 + math.cos(math.pi * min(1.0, step / last)))
        )
    if phase.lr_schedule == "one-cycle":
        # fastai's fit_one_cycle: 30 % up from lr / 25, then down to lr / 250,000, momentum 0.95 to 0.85 and back
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, peaks, total_steps=total, pct_start=0.3, div_factor=25.0, final_div_factor=1e4)
    if phase.lr_schedule == "plateau":
        return ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=10)
    return None
