"""Train a model through the phases of a method: epochs, validation on fold 9, selection of an epoch."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from bench.errors import BenchError, Diverged, Incompatible, PluginError
from bench.evaluation.metrics import auroc, frequent
from bench.training.audit import Frozen, NoState, Prepared, check_same_on_ranks
from bench.training.averaging import Averaged
from bench.training.batch_norm import recalibrate
from bench.training.batches import Seed, SignalSource, Source, random_stream, rank_batches
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
from bench.training.model import Classifier, count_parameters, set_drop_path
from bench.training.passes import PhasePasses
from bench.training.phase import SWA, Phase
from bench.training.precision import Precision, autocast
from bench.training.report import PhaseReport, Watcher
from bench.training.step import Steps
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
) -> tuple[list[PhaseReport], Tensor]:
    """Train the model in place through all phases, from the newest checkpoint if there is one.

    Returns a report of each phase, and the logits [record, label] of fold 9 by the final weights.
    """
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
        check_same_on_ranks(model, world, after=phase.name)
        run.finish(is_last=position + 1 == len(phases))
    return reports, run.val_logits


def check_sources(train: Source, val: Source) -> None:
    """Raise BenchError if fewer than two training records are left, or if no label of fold 9 has an AUROC."""
    if len(train.labels) < 2:
        raise BenchError("there is a single training record, and batch norm needs two; train on more records")
    labels = val.labels > 0
    if not bool((labels.any(0) & ~labels.all(0)).any()):
        raise BenchError("no label has both a positive and a negative in fold 9, so no epoch can be selected")


def check_same_cell(precision: Precision, digest: str, world: World) -> None:
    """Raise BenchError on every rank if the ranks differ in precision, or else in the digest of the cell."""
    kinds = get_args(Precision)
    mine = [kinds.index(precision), int(digest[:8], 16)]
    precisions, digests = world.gather(torch.tensor([mine], device=world.device), world.size).T.tolist()
    if len(set(precisions)) > 1:
        raise BenchError(
            f"--precision auto is {', '.join(kinds[number] for number in precisions)} on the ranks, whose machines "
            "differ; name it with --precision"
        )
    if len(set(digests)) > 1:
        raise BenchError(
            f"the ranks have set up different cells: {', '.join(f'{number:08x}' for number in digests)}; all machines "
            "of a run need the same data, first weights and code"
        )


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


@dataclass(frozen=True)
class Validation:
    """The logits and scores of a model on fold 9."""

    logits: Tensor
    """[record, label]"""
    loss: float
    """Mean binary cross-entropy."""
    macro_auroc: float
    """Over all labels with a positive and a negative."""
    macro_auroc_frequent: float | None
    """Over the frequent labels; None if there are none."""


class PhaseRun:
    """A running phase: its trained parts, its steps, and the best weights so far."""

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
        self.num_trainable = count_parameters(model, trainable=True)
        self.best: dict[str, Tensor] = {}
        self.best_score = -math.inf
        self.val_logits = torch.empty(0)
        """Logits [record, label] of fold 9, by the best weights so far."""
        self.seconds = 0.0
        """Seconds that the finished steps of the present epoch took in earlier attempts."""

    def begin(
        self,
        train: Source,
        val: Source,
        reports: list[PhaseReport],
        watcher: Watcher,
        checkpoints: Checkpoints,
        state: Mapping[str, Any] | None,
    ) -> None:
        """Set up inputs and steps; then load `state`, if the phase is resumed.

        A resumed phase holds its initial weights until `state` is loaded last. So everything that depends on the
        initial weights is the same as in an uninterrupted run.
        """
        self.reports, self.report = reports, reports[-1]
        self.watcher, self.checkpoints = watcher, checkpoints
        checkpoints.phase_begins()
        self.frozen = Frozen(self.model, self.phase)
        self.initial = {key: value.detach().clone() for key, value in self._weights(self.model).items()}
        self.report.on_features = can_use_features(self.phase, self.method, self.model)
        if self.report.on_features:
            began = time.monotonic()
            progress = partial(watcher.predicts, "features")
            (train, val), seconds = compute_features(
                self.model, [train, val], self.world, self.precision, watcher.note, progress
            )
            if not state:  # if the phase is resumed, the seconds are in the report already
                self.report.feature_seconds = seconds
                self.report.seconds += seconds
                checkpoints.count(seconds - (time.monotonic() - began))
        self.train_source, self.val_source = train, val
        self.averaged = Averaged(self.model, self.phase.average, self.changed) if self.phase.average else None
        if self.phase.fitted:
            watcher.phase_begins(self.phase.name, self.phase.epochs, 0, 0)
            return
        passes = PhasePasses(self.model, self.masks, self.initial, self.averaged, self.report.on_features)
        self.steps = Steps(self.method, self.phase, passes, self.groups, train, self.world, self.precision, self.seed)
        if state:
            self.frozen.check_same(state["frozen"])
            self.restore(state)
        steps_done = len(self.report.train_loss) * self.steps.per_epoch + self.steps.done
        watcher.phase_begins(self.phase.name, self.phase.epochs, self.steps.per_epoch, steps_done)

    def is_done(self) -> bool:
        """Return whether no epoch is left, or the last `patience` epochs were not better."""
        done = len(self.report.train_loss)
        waited = done - self.report.best_epoch if self.report.best_epoch else 0
        return self.phase.fitted or done == self.phase.epochs or waited >= (self.phase.patience or math.inf)

    def epoch(self, epoch: int) -> None:
        """Train on every record once, validate on fold 9, keep the weights if they are the best, write a checkpoint."""
        report = self.report
        self.began = time.monotonic() - self.seconds
        loss = self.steps.epoch(epoch, self._step_ends)
        if not math.isfinite(loss):
            raise self._diverged(f"epoch {epoch + 1}", f"the training loss is {loss}")
        scored = self._scored_model(epoch)
        val = self._validate(scored, f"epoch {epoch + 1}")
        score = {"best": val.macro_auroc, "lowest-loss": -val.loss, "last": float(epoch)}[self.phase.selection]
        if score > self.best_score and (self.averaged is None or self.averaged.selectable):
            self.best_score, self.val_logits, report.best_epoch = score, val.logits, epoch + 1
            self.best = {key: value.detach().clone() for key, value in self._weights(scored).items()}
        self.steps.epoch_ends(val.macro_auroc)
        report.train_loss.append(loss)
        report.val_loss.append(val.loss)
        report.val_macro_auroc.append(val.macro_auroc)
        report.val_macro_auroc_frequent.append(val.macro_auroc_frequent)
        seconds = time.monotonic() - self.began
        report.seconds += seconds
        self.seconds = 0.0
        self.watcher.epoch_ends(
            {
                "phase": self.phase.name,
                "epoch": epoch + 1,
                "train_loss": loss,
                "val_loss": val.loss,
                "val_macro_auroc": val.macro_auroc,
                "val_macro_auroc_frequent": val.macro_auroc_frequent,
                "best_epoch": report.best_epoch,
                "learning_rate": self.steps.optimizer.param_groups[0]["lr"],
                "seconds": seconds,
            }
        )
        state = self.state()
        self.steps.check_same_on_ranks()
        self.checkpoints.save(state)

    def _step_ends(self) -> None:
        if self.checkpoints.due():
            self.checkpoints.save(self.state())
        self.watcher.step_ends()

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
            score=lambda: self._validate(self.model, "finish()").macro_auroc,
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
        keys, no_state = list(self.model.state_dict()), NoState(self.method)
        before = self.best or {key: value.detach().clone() for key, value in self._weights(self.model).items()}
        torch.manual_seed(int(random_stream(self.seed, self.phase.name, "finish").integers(2**62)))
        self.method.finish(self.model, judge)
        judge.close()
        no_state.check("finish")
        if list(self.model.state_dict()) != keys:
            raise PluginError(
                f"{type(self.method).__name__}.finish() puts other modules into the model, which a new model that "
                "loads these weights would not have; put them in by prepare, and set their values in finish"
            )
        changed = not are_equal(before, self._weights(self.model))
        if self.phase.fitted and not changed:
            raise PluginError(
                f"{type(self.method).__name__}.finish() leaves phase {self.phase.name!r}, which it is to fit, as it "
                "began; judge.phase tells the phases apart"
            )
        val = self._validate(self.model, "finish()")
        self.val_logits = val.logits
        self.report.judged, self.report.finished_val_macro_auroc = judge.scores, val.macro_auroc
        if self.phase.fitted:
            self.report.val_loss, self.report.val_macro_auroc, self.report.best_epoch = [val.loss], [val.macro_auroc], 1
            self.report.val_macro_auroc_frequent = [val.macro_auroc_frequent]
        elif is_last and not judge.scores and changed:
            selected = self.report.val_macro_auroc[(self.report.best_epoch or 1) - 1]
            self.watcher.note(
                f"finish() changes the weights that leave phase {self.phase.name}, the last, without judge.score: "
                f"fold-9 macro AUROC {selected:.4f} becomes {val.macro_auroc:.4f}; judge.phase tells the phases apart"
            )

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Load weights of this phase into the model; other weights stay."""
        self.model.load_state_dict({**self.model.state_dict(), **weights})

    def state(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, except the initial weights of the run."""
        return {
            "reports": [asdict(report) for report in self.reports],
            "seconds": time.monotonic() - self.began if self.steps.done else 0.0,
            "initial": self.initial,
            "frozen": self.frozen.before,
            "model": self._weights(self.model),
            "average": self.averaged.state() if self.averaged else None,
            "best": self.best,
            "best_score": self.best_score,
            "val_logits": self.val_logits,
            **self.steps.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load a state of this phase."""
        self.load(state["model"])
        self.steps.restore(state)
        if self.averaged:
            self.averaged.restore(state["average"])
        self.best = {key: value.to(self.world.device) for key, value in state["best"].items()}
        self.best_score, self.val_logits, self.seconds = state["best_score"], state["val_logits"], state["seconds"]

    def _weights(self, model: Classifier) -> dict[str, Tensor]:
        """Return the parameters and buffers that this or an earlier phase trains."""
        return {key: value for key, value in model.state_dict().items() if key in self.changed}

    def _recalibrate(self, model: Classifier) -> None:
        """Compute the batch-norm statistics of the trained parts anew, over all training records."""

        def run() -> None:
            module = model.module_for(on_features=self.report.on_features)
            stream = (self.seed, self.phase.name, "rates")
            for x, _ in rank_batches(self.train_source, self.phase.batch_size, stream, self.world):
                with autocast(self.precision if len(x) else "float32", self.world.device):
                    module(x)

        recalibrate(model, self.phase.learning_rates, run)

    def _validate(self, model: Classifier, when: str) -> Validation:
        aggregate = model.backbone.signal_spec.aggregate
        module = model.module_for(on_features=self.report.on_features)
        progress = partial(self.watcher.predicts, "fold 9")
        logits = predict(module, self.val_source, aggregate, self.world, self.precision, progress)
        if not bool(torch.isfinite(logits).all()):
            raise self._diverged(when, "outputs on fold 9 are not finite")
        labels = self.val_source.labels
        loss = nn.functional.binary_cross_entropy_with_logits(logits.double(), labels.double())
        by_label, is_frequent = auroc(labels.numpy(), logits.numpy()), frequent(labels.numpy())
        over_frequent = float(by_label[is_frequent].mean()) if is_frequent.any() else None
        return Validation(logits, float(loss), float(np.nanmean(by_label)), over_frequent)

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
