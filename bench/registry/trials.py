"""Short runs of a method on a few synthetic records: uninterrupted, or resumed, and compared with its phases."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from bench.data.signals import PREPROCESSINGS, unchanged
from bench.data.splits import num_batches
from bench.training.audit import prepare
from bench.training.batch import Start
from bench.training.batch_norm import share_batch_norm
from bench.training.batches import FeatureSource, random_stream
from bench.training.checkpoint import Checkpoints
from bench.training.distributed import World
from bench.training.loop import rehearse, train
from bench.training.method import Method, declared_phases
from bench.training.model import Backbone, Classifier, DropPath, drop_path_rates, drop_paths, layer_groups
from bench.training.phase import Phase

NUM_LABELS, NUM_TRAIN, NUM_VAL = 5, 11, 8
ALONE = World(0, 1, torch.device("cpu"))
BATCH, EPOCHS = 6, 2
"""An epoch has two steps, of 6 and 5 records, which two and three ranks share unevenly.

Batch norm over 2 records outputs their signs: its true gradient is nil, and rounding is all that is left of it. Over 3
records there is little more. Five are enough on all families: noise of 1e-15 in the start ends below 1e-11.
"""
EPSILON = 1e-4
"""Smallest epsilon of a trial's optimiser. Adam makes steps of rounding where a true gradient is nil, such as that of
the biases of attention's keys: with epsilon = 1e-8 a step is 5e4 times as large as such a gradient."""
SEED, OTHER_SEED = 0, 1
"""Trials of different seeds differ in initial weights, training records and random draws, as two cells do."""


def made_up_signals(backbone: Backbone, num_records: int = 4) -> Tensor:
    """Return smooth random signals [record, lead, time] as long as the backbone's window, or 10 s, at its rate."""
    length = backbone.signal_spec.window or 10 * backbone.signal_spec.rate
    rough = torch.from_numpy(
        random_stream("conformance").standard_normal((num_records, len(backbone.signal_spec.leads), length))
    )
    return nn.functional.avg_pool1d(rough.float(), 5, 1, 2) * 2.0


def made_up_labels(num_records: int, seed: int = SEED) -> Tensor:
    """Return labels [record, label]."""
    return torch.from_numpy(random_stream("labels").integers(0, 2, (num_records, NUM_LABELS))).float().roll(seed, 0)


def start_named(name: str, seed: int = SEED) -> Start:
    """Return the start of a trial whose init has this name."""
    positives = made_up_labels(NUM_TRAIN + NUM_VAL, seed)[:NUM_TRAIN].sum(0).int().tolist()
    return Start(name, NUM_TRAIN, tuple(positives), tuple("ABCDE"))


def set_up(
    make_backbone: Callable[[], Backbone], method: Method, init: str = "random", seed: int = SEED
) -> tuple[Classifier, Sequence[Phase]]:
    """Return the model that a trial trains, prepared and in float64, and the method's phases.

    As in a run, phases are declared before the model is prepared. Raises the errors that a run raises before training.
    """
    torch.manual_seed(seed)
    backbone = make_backbone()
    phases = declared_phases(method, layer_groups(backbone))
    model = Classifier(backbone, NUM_LABELS)
    start = start_named(init, seed)
    if method.uses_published_head and init != "random":
        head = {key: torch.zeros_like(value) for key, value in model.head.state_dict().items()}
        start = replace(start, head=head, head_labels=start.labels)
    rehearse(model, phases, prepare(model, method, start))
    return model.double(), phases


def shortened(phases: Sequence[Phase], batch_size: int = BATCH) -> list[Phase]:
    """Return the phases with few epochs and small batches."""
    return [replace(phase, epochs=min(EPOCHS, phase.epochs), batch_size=batch_size) for phase in phases]


@dataclass
class Trial:
    """Callbacks of a trial that compare its training with the declared phases."""

    model: Classifier
    phases: Sequence[Phase]
    folder: Path | None = None
    """Folder of checkpoints. Where the trial writes them, it is copied to `<folder>-<step>` after some steps, as a kill
    would leave it."""
    writes: bool = True
    """Whether it writes checkpoints. A trial that is only to be resumed from them does not."""
    seed: int = SEED
    steps: int = 0
    phase: Phase | None = None
    fault: str | None = None
    """The first difference between training and the declared phase, or None."""
    notes: list[str] = field(default_factory=list)
    """What a run would note."""
    _before: dict[str, Tensor] = field(default_factory=dict)
    _still: set[str] = field(default_factory=set)
    """Parameters whose gradient was exactly 0 in all steps of the phase so far."""
    _steps_of_phase: int = 0

    def phase_begins(self, name: str, num_epochs: int, steps_per_epoch: int, steps_done: int) -> None:
        """Keep the parameters at the beginning of the phase."""
        (self.phase,) = [phase for phase in self.phases if phase.name == name]
        self._before = {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}
        self._still = set(self._before) if steps_done == 0 else set()
        self._steps_of_phase = steps_done

    def step_ends(self) -> None:
        """Check the step, and that the first of a phase changed its parameters; copy checkpoints after some steps."""
        self.fault = self.fault or self._of_every_step()
        if self.fault is None and self._steps_of_phase == 0:
            self.fault = self._of_first_step()
        parameters = dict(self.model.named_parameters())
        self._still -= {name for name in self._still if (grad := parameters[name].grad) is None or grad.any()}
        self.steps += 1
        self._steps_of_phase += 1
        if self.folder and self.writes and self.steps in self.moments():
            shutil.copytree(self.folder, f"{self.folder}-{self.steps}", dirs_exist_ok=True)

    def moments(self) -> list[int]:
        """Return the three steps after which a run is resumed: the first, a middle one, the last but one."""
        trained = [phase for phase in self.phases if not phase.fitted]
        num_steps = sum(phase.epochs * num_batches(NUM_TRAIN, phase.batch_size) for phase in trained)
        return sorted({1, num_steps // 2, num_steps - 1}) if num_steps else []

    def predicts(self, what: str, done: int, total: int) -> None:
        """Nothing to remember."""

    def epoch_ends(self, facts: dict[str, Any]) -> None:
        """Nothing to remember."""

    def phase_ends(self) -> None:
        """Check that each parameter of the phase had a gradient in some step."""
        if self._still and self._steps_of_phase and self.fault is None:
            self.fault = (
                f"{min(self._still)} has a gradient of 0 in every step, so it never learns; of new factors that are "
                "multiplied, only one begins at 0"
            )

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)

    def _of_first_step(self) -> str | None:
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if without := [name for name, p in trained.items() if p.grad is None]:
            return f"{without[0]} gets no gradient from its loss"
        if all(torch.equal(p, self._before[name]) for name, p in trained.items()):
            return "one step of its optimiser moves nothing"
        return None

    def _of_every_step(self) -> str | None:
        """Compare modes and frozen parts with the declared ones."""
        assert self.phase is not None
        if moved := [n for n, p in self.model.named_parameters() if p.requires_grad != (n in self._before)]:
            return (
                f"{moved[0]} {'is frozen' if moved[0] in self._before else 'gets gradients'} after a step, other than "
                f"phase {self.phase.name!r} declares; give its part a learning rate, or none"
            )
        modes = {name: module.training for name, module in self.model.named_modules() if name}
        self.model.train_mode(self.phase.learning_rates)
        declared = {name: module.training for name, module in self.model.named_modules() if name}
        for name, module in self.model.named_modules():
            module.training = modes.get(name, False)
        if other := [name for name, training in modes.items() if training != declared[name]]:
            return (
                f"{other[0]} is in {'train' if modes[other[0]] else 'eval'} mode after a step, other than phase "
                f"{self.phase.name!r} declares; leave modes alone: a part without a learning rate is in eval mode"
            )
        return None

    def watch_drop_paths(self) -> None:
        """Compare the rates of stochastic depth in every training pass with the declared rates."""
        for number, path in enumerate(drop_paths(self.model)):
            path.register_forward_hook(partial(self._see_drop_path, number))

    def _see_drop_path(self, number: int, path: DropPath, *_: object) -> None:
        if not path.training or self.phase is None or self.fault is not None or not torch.is_grad_enabled():
            return
        epoch = self._steps_of_phase // num_batches(NUM_TRAIN, self.phase.batch_size)
        rate = self.phase.drop_path_rate if self.phase.drops_paths_in(epoch) else 0.0
        num_paths = len(drop_paths(self.model))
        declared = drop_path_rates(num_paths, rate, self.phase.drop_path_shape)[number]
        if path.drop_prob != declared or (declared and path.keep is None):
            self.fault = (
                f"block {number + 1} of {num_paths} drops at {path.drop_prob:.3g} in epoch {epoch + 1}, declared is "
                f"{declared:.3g}; run the model by batch.forward, and leave rates to the Phase"
            )


def run_trial(trial: Trial, method: Method, world: World) -> dict[str, Tensor]:
    """Train the phases of a trial, from the checkpoint in its folder if there is one. Return the final weights."""
    model = trial.model
    trial.watch_drop_paths()
    share_batch_norm(model, world)
    labels = made_up_labels(NUM_TRAIN + NUM_VAL, trial.seed).double()
    signals = made_up_signals(model.backbone, NUM_TRAIN + NUM_VAL).double().unsqueeze(1)
    unit = 1.0 if PREPROCESSINGS[model.backbone.signal_spec.preprocessing].apply is unchanged else None
    parts = (slice(NUM_TRAIN), slice(NUM_TRAIN, None))
    sources = [FeatureSource(signals[part], labels[part], unit) for part in parts]
    writes = trial.folder is not None and trial.writes
    checkpoints = Checkpoints(trial.folder or Path("nowhere"), writes, trial.note, minutes=0)
    hook = register_optimizer_step_pre_hook(_raise_epsilon)
    try:
        train(
            model,
            method,
            trial.phases,
            *sources,
            seed=trial.seed,
            world=world,
            precision="float64",
            watcher=trial,
            checkpoints=checkpoints,
        )
    finally:
        hook.remove()
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def _raise_epsilon(optimizer: torch.optim.Optimizer, *_: object) -> None:
    for group in optimizer.param_groups:
        if "eps" in group:
            group["eps"] = max(group["eps"], EPSILON)


def rounding_gap(weights: dict[str, Tensor], trial: Trial, method: Method) -> float:
    """Return how far from `weights` a trial on one process ends if its start differs by rounding.

    No other order of sums, such as that of several processes, can end much nearer. The shipped methods end within
    1e-11; a plugin's optimiser that takes signs, or its batch norm over few values, may end far away.
    """
    noise = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in trial.model.parameters():
            parameter.mul_(1 + 1e-15 * torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype))
    return largest_gap(weights, run_trial(trial, method, ALONE))[0]


def largest_gap(first: dict[str, Tensor], second: dict[str, Tensor]) -> tuple[float, str]:
    """Return the largest difference between two state dicts, and its key; infinite if their keys differ.

    The differences in a tensor whose largest value is above 1 are relative to that value: rounding is relative too, and
    a head for features of small variance has weights in the hundreds.
    """
    if unshared := sorted(first.keys() ^ second.keys()):
        return float("inf"), unshared[0]
    gaps = {key: _gap(first[key].double(), second[key].double()) for key in first if first[key].numel()}
    key = max(gaps, key=lambda name: gaps[name])
    return gaps[key], key


def _gap(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max() / first.abs().max().clamp(min=1))
