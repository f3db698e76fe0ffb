"""Train a model through the phases of a method: steps, epochs, validation on fold 9, selection of an epoch."""

from __future__ import annotations

import math
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from bench.data.splits import num_batches
from bench.errors import BenchError, Diverged, Incompatible, PluginError
from bench.evaluation.metrics import auroc, frequent
from bench.training.audit import (
    Frozen,
    NoState,
    Prepared,
    Untouched,
    check_optimizer,
    check_same_on_ranks,
    check_state,
    one_step,
)
from bench.training.averaging import Averaged
from bench.training.batch import Batch, Inputs, SignalBatch, augmented
from bench.training.batch_norm import recalibrate
from bench.training.batches import (
    Rows,
    Seed,
    SignalSource,
    Source,
    epoch_batches,
    random_stream,
    send,
)
from bench.training.checkpoint import Checkpoints
from bench.training.distributed import World
from bench.training.features import (
    can_use_features,
    compute_features,
    predict,
    require_finite_features,
    run_windows,
    training_features,
)
from bench.training.judge import Judge
from bench.training.masks import Masks
from bench.training.method import Method, overrides
from bench.training.model import Classifier, HeadAlone, count_parameters, set_drop_path
from bench.training.passes import PhasePasses
from bench.training.phase import SWA, Phase
from bench.training.precision import Precision, autocast
from bench.training.report import PhaseReport, Watcher
from bench.training.schedule import advance, make_schedule
from bench.training.weight_decay import split_weight_decay
from bench.training.weights import are_equal


def train(
    model: Classifier,
    method: Method,
    phases: Sequence[Phase],
    train_source: Source,
    val_source: Source,
    *,
    seed: Seed,
    world: World,
    precision: Precision,
    watcher: Watcher,
    checkpoints: Checkpoints,
) -> list[PhaseReport]:
    """Train the model in place through all phases, from the newest checkpoint if there is one. Return a report each."""
    check_sources(train_source, val_source)
    reports: list[PhaseReport] = []
    world.wait()  # until the main rank has created the folder
    resumed = checkpoints.newest()
    check_same_start(resumed, checkpoints.folder, world)
    check_same_on_ranks(model, world)
    if resumed:
        reports = [PhaseReport(**report) for report in resumed["reports"]]
        steps = f" and {resumed['step']} steps" if resumed["step"] else ""
        watcher.note(f"resumed in phase {reports[-1].name} after epoch {len(reports[-1].train_loss)}{steps}")
    trained: set[str] = set()
    for position, phase in enumerate(phases):
        trained |= set(phase.learning_rates)
        if position + 1 < len(reports):
            continue
        state = resumed if resumed and position + 1 == len(reports) else None
        run = PhaseRun(model, method, phase, world, precision, seed, model.changed_keys(trained))
        if state:
            run.load(state["initial"])
        else:
            reports.append(PhaseReport(phase.name, run.num_trainable, False, phase.selection))
        run.begin(train_source, val_source, reports, watcher, checkpoints, state)
        while not run.is_done():
            run.epoch(len(reports[-1].train_loss))
        run.finish(is_last=position + 1 == len(phases))
    return reports


def check_sources(train: Source, val: Source) -> None:
    """Raise BenchError if fewer than two training records are left, or if no label of fold 9 has an AUROC."""
    if len(train.labels) < 2:
        raise BenchError("there is a single training record, and batch norm needs two; train on more records")
    labels = val.labels > 0
    if not bool((labels.any(0) & ~labels.all(0)).any()):
        raise BenchError("no label has both a positive and a negative in fold 9, so no epoch can be selected")


def check_same_start(resumed: Mapping[str, Any] | None, folder: Path, world: World) -> None:
    """Raise BenchError if the ranks have read different checkpoints, which happens if their folder is not shared."""
    epochs = sum(len(report["train_loss"]) for report in resumed["reports"]) if resumed else 0
    done = [epochs, resumed["step"] if resumed else 0, int(folder.is_dir())]
    states = world.gather(torch.tensor([done], device=world.device), world.size).tolist()
    if any(state != states[0] for state in states):
        texts = [f"{epochs} epochs and {step} steps" if exists else "no folder" for epochs, step, exists in states]
        raise BenchError(
            f"the ranks see different states of {folder}: {', '.join(texts)}; "
            "all machines of a run need the same runs folder"
        )


def check_same_state(state: Mapping[str, Tensor], world: World) -> None:
    """Raise PluginError if a rank keeps other tensors in `batch.state` than the main one, whose are in checkpoints."""
    keys = sorted(state)
    # of the keys a checksum, of each tensor two sums: a state may have a row for each training record
    facts = {"'s keys": torch.tensor([zlib.crc32(repr(keys).encode()) % 10**5, 0.0], dtype=torch.float64)}
    facts |= {f"[{key!r}]": torch.stack([(v := state[key].double()).sum(), v.square().sum()]) for key in keys}
    for what, own in facts.items():
        of_ranks = world.gather(own[None].to(world.device), world.size)
        if not torch.allclose(of_ranks, of_ranks[:1].expand_as(of_ranks), rtol=1e-6, atol=1e-9, equal_nan=True):
            raise PluginError(
                f"batch.state{what} differs between processes, and a checkpoint keeps that of the first alone; compute "
                "it from what batch.gather() returns for the whole batch"
            )


def rehearse(model: Classifier, phases: Sequence[Phase], prepared: Prepared | None = None) -> None:
    """Check the phases before training: raise an error for an unknown part, missing DropPaths and a repeated name.

    Phases with the same name would have the same order of records, the same masks and the same name in the log.
    `prepared`: raise an error for what the method's `prepare` has added and no phase trains, too.
    """
    trained, in_training = set[str](), set[str]()
    if twice := [name for name, num in Counter(phase.name for phase in phases).items() if num > 1]:
        raise PluginError(f"the method has several phases named {twice[0]!r}; give each phase its own name")
    for phase in phases:
        model.train_parts(phase.learning_rates, fitted=phase.fitted)
        paths = set_drop_path(model, phase.drop_path_rate, phase.drop_path_shape)
        if phase.drop_path_rate and not any(path.training and path.drop_prob for path in paths):
            first = ", and the first block has rate 0 if drop_path_shape is 'linear'"
            raise Incompatible(
                f"phase {phase.name!r} has drop_path_rate {phase.drop_path_rate:g}, and no block that it trains would "
                f"drop: frozen blocks do not{first * (phase.drop_path_shape == 'linear')}"
            )
        trained |= {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        in_training |= {name for name, module in model.named_modules() if module.training}
    if prepared:
        prepared.check_use(model, trained, in_training)


class PhaseRun:
    """A running phase: its trained parts, optimiser, schedule, and the best weights so far."""

    def __init__(
        self,
        model: Classifier,
        method: Method,
        phase: Phase,
        world: World,
        precision: Precision,
        seed: Seed,
        changed: set[str],
    ) -> None:
        self.model, self.method, self.phase = model, method, phase
        self.world, self.precision, self.seed = world, precision, seed
        self.groups = split_weight_decay(model.train_parts(phase.learning_rates, fitted=phase.fitted), phase)
        self.masks = Masks(model, phase, world.device)
        self.changed = changed
        self.parameters = dict(
            pair for group in self.groups for pair in zip(group["param_names"], group["params"], strict=True)
        )
        self.num_trainable = count_parameters(model, trainable=True)
        self.best: dict[str, Tensor] = {}
        self.best_score = -math.inf
        self.step = 0
        """Number of finished steps of the present epoch."""
        self.loss_sum: float | Tensor = 0.0
        """Sum of the losses of these steps over the records of all ranks."""
        self.seconds = 0.0
        """Seconds that these steps took in earlier attempts."""
        self.method_state: dict[str, Tensor] = {}
        self.labels_fit = torch.ones((), dtype=torch.bool, device=world.device)
        """Whether all labels that `augment` has returned lie in [0, 1]."""

    def begin(
        self,
        train: Source,
        val: Source,
        reports: list[PhaseReport],
        watcher: Watcher,
        checkpoints: Checkpoints,
        state: Mapping[str, Any] | None,
    ) -> None:
        """Set up inputs, optimiser and schedule; then load `state`, if the phase is resumed.

        A resumed phase holds its initial weights until `state` is loaded last. So everything that depends on the
        initial weights is the same as in an uninterrupted run.
        """
        self.reports, self.report = reports, reports[-1]
        self.watcher, self.checkpoints = watcher, checkpoints
        self.no_state, self.frozen = NoState(self.method), Frozen(self.model, self.phase)
        self.initial = {key: value.detach().clone() for key, value in self._weights(self.model).items()}
        self.report.on_features = can_use_features(self.phase, self.method, self.model)
        if self.report.on_features:
            began = time.monotonic()
            (train, val), seconds = compute_features(self.model, [train, val], self.world, self.precision, watcher.note)
            if not state:  # if the phase is resumed, the seconds are in the report already
                self.report.feature_seconds = seconds
                self.report.seconds += seconds
                checkpoints.count(seconds - (time.monotonic() - began))
        self.train_source, self.val_source = train, val
        self.train_labels = train.labels.to(self.world.device)
        self.positives = self.train_labels.sum(0)
        self.steps_per_epoch = 0 if self.phase.fitted else num_batches(len(train.labels), self.phase.batch_size)
        self.averaged = Averaged(self.model, self.phase.average, self.changed) if self.phase.average else None
        self.passes = PhasePasses(self.model, self.masks, self.initial, self.averaged, self.report.on_features)
        if not self.phase.fitted:
            self._set_up_optimizer()
        if state:
            self.frozen.check_same(state.get("frozen", self.frozen.before))  # older checkpoints have no hashes
            self.restore(state)
        steps_done = len(self.report.train_loss) * self.steps_per_epoch + self.step
        watcher.phase_begins(self.phase.name, self.phase.epochs, self.steps_per_epoch, steps_done)

    def _set_up_optimizer(self) -> None:
        self.optimizer = self.method.optimizer(list(map(dict, self.groups)), self.phase, self._mean_gradients)
        self.no_state.check("optimizer")
        check_optimizer(self.optimizer, self.method, self.phase, self.parameters)
        self.lr_scheduler = make_schedule(self.optimizer, self.phase, self.steps_per_epoch)

    def is_done(self) -> bool:
        """Return whether no epoch is left, or the last `patience` epochs were not better."""
        done = len(self.report.train_loss)
        waited = done - self.report.best_epoch if self.report.best_epoch else 0
        return self.phase.fitted or done == self.phase.epochs or waited >= (self.phase.patience or math.inf)

    def epoch(self, epoch: int) -> None:
        """Train on every record once, validate on fold 9, keep the weights if they are the best, write a checkpoint."""
        report = self.report
        self.began = time.monotonic() - self.seconds
        loss = self._train_epoch(epoch)
        if not math.isfinite(loss):
            raise self._diverged(f"epoch {epoch + 1}", f"the training loss is {loss}")
        scored = self._scored_model(epoch)
        val_loss, val_macro_auroc, val_macro_auroc_frequent = self._validate(scored, f"epoch {epoch + 1}")
        score = {"best": val_macro_auroc, "lowest-loss": -val_loss, "last": float(epoch)}[self.phase.selection]
        if score > self.best_score and (self.averaged is None or self.averaged.selectable):
            self.best_score, report.best_epoch = score, epoch + 1
            self.best = {key: value.detach().clone() for key, value in self._weights(scored).items()}
        if isinstance(self.lr_scheduler, ReduceLROnPlateau):
            self.lr_scheduler.step(val_macro_auroc)
        report.train_loss.append(loss)
        report.val_loss.append(val_loss)
        report.val_macro_auroc.append(val_macro_auroc)
        report.val_macro_auroc_frequent.append(val_macro_auroc_frequent)
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
                "val_macro_auroc_frequent": val_macro_auroc_frequent,
                "best_epoch": report.best_epoch,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "seconds": seconds,
            }
        )
        state = self.state()
        check_same_state(self.method_state, self.world)
        self.checkpoints.save(state)

    def _scored_model(self, epoch: int) -> Classifier:
        """Return the model to validate: the averaged model if the phase averages weights, else the trained model."""
        if self.averaged is None:
            return self.model
        self.averaged.epoch_ends(epoch, self.phase.epochs)
        if isinstance(self.phase.average, SWA) and self.averaged.selectable:
            self._recalibrate(self.averaged.model)
        return self.averaged.model

    def finish(self, *, is_last: bool) -> None:
        """Load the weights of the selected epoch, and let the method's `finish` change them."""
        began = time.monotonic()
        self.load(self.best)
        self.masks.rest()
        if overrides(self.method, "finish"):
            self._let_method_finish(is_last)
        self.frozen.check()
        self.report.seconds += time.monotonic() - began
        self.watcher.phase_ends()

    def _let_method_finish(self, is_last: bool) -> None:
        self.model.eval()
        judge = Judge(
            self.phase,
            self.model,
            self.initial,
            score=lambda: self._validate(self.model, "finish()")[1],
            features=partial(
                training_features,
                self.model,
                self.train_source,
                self.world,
                self.precision,
                on_features=self.report.on_features,
            ),
            recalibrate=partial(self._recalibrate, self.model),
        )
        keys = list(self.model.state_dict())
        torch.manual_seed(int(random_stream(self.seed, self.phase.name, "finish").integers(2**62)))
        self.method.finish(self.model, judge)
        judge.close()
        self.no_state.check("finish")
        if list(self.model.state_dict()) != keys:
            raise PluginError(
                f"{type(self.method).__name__}.finish() puts other modules into the model, which a new model that "
                "loads these weights would not have; put them in by prepare, and set their values in finish"
            )
        loss, score, over_frequent = self._validate(self.model, "finish()")
        self.report.judged, self.report.finished_val_macro_auroc = judge.scores, score
        if self.phase.fitted:
            self.report.val_loss, self.report.val_macro_auroc, self.report.best_epoch = [loss], [score], 1
            self.report.val_macro_auroc_frequent = [over_frequent]
        elif is_last and not judge.scores and not are_equal(self._weights(self.model), self.best):
            selected = self.report.val_macro_auroc[(self.report.best_epoch or 1) - 1]
            self.watcher.note(
                f"finish() changes the weights that leave phase {self.phase.name}, the last, without judge.score: "
                f"fold-9 macro AUROC {selected:.4f} becomes {score:.4f}; judge.phase tells the phases apart"
            )

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Load weights of this phase into the model; other weights stay."""
        self.model.load_state_dict({**self.model.state_dict(), **weights})

    def state(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, except the initial weights of the run."""
        check_state(self.method_state)
        self._require_labels()
        return {
            "reports": [asdict(report) for report in self.reports],
            "step": self.step,
            "loss_sum": float(self.loss_sum),
            "seconds": time.monotonic() - self.began if self.step else 0.0,
            "initial": self.initial,
            "frozen": self.frozen.before,
            "model": self._weights(self.model),
            "average": self.averaged.state() if self.averaged else None,
            "method": self.method_state,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.lr_scheduler.state_dict() if self.lr_scheduler else None,
            "best": self.best,
            "best_score": self.best_score,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load a state of this phase."""
        self.load(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.lr_scheduler:
            self.lr_scheduler.load_state_dict(state["schedule"])
        if self.averaged:
            self.averaged.restore(state["average"])
        self.method_state = {key: value.to(self.world.device) for key, value in state["method"].items()}
        self.best, self.best_score = state["best"], state["best_score"]
        self.step, self.loss_sum = state["step"], state["loss_sum"]
        self.seconds = state.get("seconds", 0.0)

    def _weights(self, model: Classifier) -> dict[str, Tensor]:
        """Return the parameters and buffers that this or an earlier phase trains."""
        return {key: value for key, value in model.state_dict().items() if key in self.changed}

    def _train_epoch(self, epoch: int) -> float:
        """Train the steps of an epoch after the first `self.step` ones, and return the epoch's mean loss per record."""
        num_records = len(self.train_source.labels)
        stream = (self.seed, self.phase.name, epoch)
        self.model.train_mode(self.phase.learning_rates)
        self.masks.begin_epoch(epoch)
        batches = enumerate(epoch_batches(num_records, self.phase.batch_size, stream))
        for step, batch in islice(batches, self.step, None):
            self.loss_sum += self._train_step(batch, stream, epoch * self.steps_per_epoch + step, step)
            self.step += 1
            if self.checkpoints.due():
                self.checkpoints.save(self.state())
            self.watcher.step_ends()
        self._require_labels()
        return float(self.loss_sum) / num_records

    def _train_step(self, rows: Rows, stream: tuple[object, ...], number: int, step: int) -> Tensor:
        """Train one step on a batch and return the sum of its records' losses before the step."""
        share = self.world.share(len(rows))
        inputs = self._read(rows, share, stream, number)
        self.masks.begin_step((*stream, step), len(rows), share)
        sums = list[Tensor]()

        def closure() -> Tensor:
            # a plugin may use torch's global generator
            torch.manual_seed(int(random_stream(*stream, step, self.world.rank, "torch").integers(2**62)))
            buffers = {key: value.clone() for key, value in self.model.named_buffers()} if sums else {}
            sums.append(self._backward(inputs, number, len(rows)))
            with torch.no_grad():
                for key, buffer in self.model.named_buffers():
                    if key in buffers:
                        buffer.copy_(buffers[key])
            return sums[-1] / len(rows)

        with one_step(self.optimizer, self.method, self.phase):
            self.method.optimizer_step(self.optimizer, closure)
            if not sums:
                name = type(self.method).__name__
                raise PluginError(f"{name}.optimizer_step() must call its closure, which it does not")
        self.no_state.check("loss")
        advance(self.lr_scheduler)
        if self.averaged:
            self.averaged.step_ends()
        return sums[0]

    def _read(self, rows: Rows, share: slice, stream: tuple[object, ...], number: int) -> Inputs:
        """Return this rank's share of a batch, augmented by the method.

        If the method augments, every rank augments the whole batch, so that results do not depend on the number of
        ranks.
        """
        augments = overrides(self.method, "augment")
        chosen = rows if augments else rows[share]
        signals = send(self.train_source.training(chosen, stream), self.world.device)
        index = send(torch.from_numpy(chosen), self.world.device)
        labels = self.train_labels[index]
        if not augments:
            return Inputs(signals, labels, index, {})
        step_stream = (*stream, number, "augment")
        torch.manual_seed(int(random_stream(*step_stream, "torch").integers(2**62)))  # the same on every rank
        spec = self.model.backbone.signal_spec
        batch = SignalBatch(
            signals,
            labels,
            index.clone(),  # those of the loss stay right whatever augment does
            random_stream(*step_stream),
            self.phase,
            number,
            self.phase.epochs * self.steps_per_epoch,
            spec.rate,
            spec.leads,
            self.train_source.mv_per_unit,
        )
        returned = self.method.augment(batch)
        self.no_state.check("augment")
        changed = augmented(returned, signals, labels, index)
        self.labels_fit &= ((changed.labels >= 0) & (changed.labels <= 1)).all()
        if self.step == 0:
            self._require_labels()
        extra = {name: value[share] for name, value in changed.extra.items()}
        return Inputs(changed.x[share], changed.labels[share], index[share], extra)

    def _require_labels(self) -> None:
        """Raise PluginError if `augment` has returned labels outside [0, 1] in a step so far.

        Asked where the device is waited for anyway, and before a checkpoint is written; not in every step.
        """
        if not bool(self.labels_fit):
            raise PluginError("augment() returns labels outside [0, 1]; weigh those of a mixture by shares of 1")

    def _backward(self, inputs: Inputs, number: int, num_records: int) -> Tensor:
        """Compute the clipped gradients of the mean loss over a batch of all ranks. Return the sum of its losses."""
        x = inputs.x
        batch = Batch(
            self.passes,
            x,
            inputs.labels,
            inputs.rows,
            inputs.extra,
            partial(self._gather, len(x), num_records),
            self.phase,
            number,
            self.phase.epochs * self.steps_per_epoch,
            num_records=len(self.train_labels),
            positives=self.positives,
            parameters=self.parameters,
            initial_weights=self.initial,
            state=self.method_state,
            signals_allowed=not overrides(self.method, "loss") or self.method.needs_signals is not False,
        )
        loss = self._loss(batch)
        for parameter in self.parameters.values():
            parameter.grad = None
        # the mean of a rank is weighted by its share of the batch
        (loss * (len(x) / num_records)).backward()  # type: ignore[no-untyped-call]
        parameters = list(self.parameters.values())
        self.world.sum_gradients(parameters)
        if self.phase.gradient_clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.phase.gradient_clip_norm)
        # summed over ranks in every step, because the main rank alone decides when to write a checkpoint
        own = loss.detach().double() * len(x) if len(x) else torch.zeros((), dtype=torch.float64, device=x.device)
        return self.world.sum(own)

    def _gather(self, num_own: int, num_records: int, values: Tensor) -> Tensor:
        """Return values [record, ...] of a whole batch, given those of this rank's records."""
        if len(values) != num_own:
            raise PluginError(
                f"batch.gather() was given {len(values)} rows where this rank has {num_own} of the batch; give it "
                "values [record, ...]"
            )
        # a rank without records computes in float32, see _loss
        narrow = values.dtype in (torch.bfloat16, torch.float16)
        return self.world.gather(values.detach().float() if narrow else values.detach(), num_records)

    def _loss(self, batch: Batch) -> Tensor:
        """Return the mean loss over this rank's records.

        A rank without records computes a loss too, because it takes part in collective operations; its weight is 0.
        """
        empty = not len(batch.x)
        # SyncBatchNorm sends statistics of bf16 inputs as float32, but those of an empty input in the input's type
        precision = "float32" if empty else self.precision
        untouched = Untouched(
            {
                "the batch": [batch.x, batch.labels, batch.rows, *batch.extra.values()],
                "weights": batch.parameters.values(),
                "the initial weights": batch.initial_weights.values(),
            }
        )
        with autocast(precision, self.world.device):
            loss = self.method.loss(batch)
        untouched.check(self.method)
        if not isinstance(loss, Tensor) or loss.dim():
            kind = f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise PluginError(f"the loss is {kind}; expected one finite number, the mean over the records")
        return loss

    def _mean_gradients(self) -> dict[str, Tensor]:
        """Return path -> mean gradient of the logistic loss over all training records, in eval mode."""
        self.model.eval()
        for rows in epoch_batches(len(self.train_labels), self.phase.batch_size, (self.seed, self.phase.name, "rates")):
            x, labels = self._pass_input(rows)
            with autocast(self.precision, self.world.device):
                logits = self.model.classify(x if self.report.on_features else self.model.encode(x))
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
            (loss / labels.shape[1] / len(self.train_labels)).backward()  # type: ignore[no-untyped-call]
        self.world.sum_gradients(list(self.parameters.values()))
        means = {path: torch.zeros_like(p) if p.grad is None else p.grad.clone() for path, p in self.parameters.items()}
        self.model.zero_grad(set_to_none=True)
        return means

    def _pass_input(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of this rank's share of a batch, for a pass that is not a training step."""
        share = rows[self.world.share(len(rows))]
        x = self.train_source.training(share, (self.seed, self.phase.name, "rates"))
        return send(x, self.world.device), self.train_labels[send(torch.from_numpy(share), self.world.device)]

    def _recalibrate(self, model: Classifier) -> None:
        """Compute the batch-norm statistics of the trained parts anew, over all training records."""

        def run() -> None:
            stream = (self.seed, self.phase.name, "rates")
            for rows in epoch_batches(len(self.train_labels), self.phase.batch_size, stream):
                x, _ = self._pass_input(rows)
                with autocast(self.precision if len(x) else "float32", self.world.device):
                    model.classify(x if self.report.on_features else model.encode(x))

        recalibrate(model, self.phase.learning_rates, run)

    def _validate(self, model: Classifier, when: str) -> tuple[float, float, float | None]:
        """Return binary cross-entropy and macro AUROC on fold 9: over all defined labels, and over frequent ones."""
        aggregate = model.backbone.signal_spec.aggregate
        module = HeadAlone(model) if self.report.on_features else model
        logits = predict(module, self.val_source, aggregate, self.world, self.precision)
        if not bool(torch.isfinite(logits).all()):
            raise self._diverged(when, "outputs on fold 9 are not finite")
        labels = self.val_source.labels
        loss = nn.functional.binary_cross_entropy_with_logits(logits.double(), labels.double())
        by_label, is_frequent = auroc(labels.numpy(), logits.numpy()), frequent(labels.numpy())
        over_frequent = float(by_label[is_frequent].mean()) if is_frequent.any() else None
        return float(loss), float(np.nanmean(by_label)), over_frequent

    def _diverged(self, when: str, what: str) -> Diverged:
        if "backbone" not in {part.partition(".")[0] for part in self.phase.learning_rates}:
            self._require_finite_features()
        return Diverged(
            f"{Diverged.PREFIX} in phase {self.phase.name}, {when}: {what}; a lower learning rate or clipping may help"
        )

    @torch.no_grad()
    def _require_finite_features(self) -> None:
        """Raise DataError if the features of the frozen backbone are not finite, so that training is not the cause."""
        for source in (self.train_source, self.val_source):
            if isinstance(source, SignalSource):
                features = run_windows(self.model.backbone, source, self.world, self.precision)
                require_finite_features(features.cpu().numpy(), source.signals.ecg_id[source.rows])
