"""What a phase of training declares: parts and rates, schedule, stochastic depth, averaging, selection."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from bench.errors import PluginError

Optimizer = Literal["adamw", "adam"]
Schedule = Literal["constant", "cosine", "one-cycle", "plateau"]
Selection = Literal["best", "lowest-loss", "last"]
Shape = Literal["linear", "constant"]
Unit = Literal["record", "batch"]
When = Literal["all", "early", "late"]
ONE_DIMENSIONAL = "1d"
"""Stands in `no_weight_decay` for all parameters of at most one dimension: biases, and scales of norms."""


@dataclass(frozen=True)
class EMA:
    """Exponential moving average of the weights, updated after every step.

    The decay of update n = 0, 1, ... is min(decay, (1 + n) / (10 + n)), so that a short phase is not averaged with its
    start alone (TensorFlow's ExponentialMovingAverage with `num_updates`).
    Buffers such as batch-norm statistics are averaged alike.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        _make_plain(self)
        if not 0 <= self.decay < 1:
            raise PluginError(f"EMA: the decay must lie in [0, 1), got {self.decay!r}")

    def decay_at(self, num_updates: int) -> float:
        """Return the decay of the next update, after so many."""
        return min(self.decay, (1 + num_updates) / (10 + num_updates))


@dataclass(frozen=True)
class SWA:
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of the weights at the ends of the late epochs.

    Batch-norm statistics are computed anew on the training records before an average is scored. Epochs before `start`
    are scored with their own weights and never selected.
    """

    start: float = 0.75
    """Share of the phase's epochs after which epochs are averaged."""

    def __post_init__(self) -> None:
        _make_plain(self)
        if not 0 <= self.start < 1:
            raise PluginError(f"SWA: the start must lie in [0, 1), got {self.start!r}")

    def averages(self, epoch: int, num_epochs: int) -> bool:
        """Whether the end of this epoch, counted from 0, enters the average; that of the last one always does."""
        return epoch + 1 > self.start * num_epochs


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training in which the same parts are trained.

    A part is the path of a module or parameter, such as `head` or `backbone.stage_list.6`, in which `*` fits anything,
    dots too: `backbone.*.bias`. It takes in what lies below; the longest that fits a parameter, counted in
    characters, decides. A part without a learning rate is frozen: no gradient, and eval mode, its buffers too.

    Modes follow modules, not parameters: a module is in train mode if its own path, or that of one above it, fits a
    part, or if it has no parameters and the parts train all parameters of the module around it. So with
    `backbone.*.bias` alone the backbone stays in eval mode: batch norm learns its bias and normalises by the running
    statistics it came with, dropout and stochastic depth rest. `backbone.*norm*`, which fits the modules, trains them
    with their buffers.
    """

    name: str
    learning_rates: Mapping[str, float]
    epochs: int
    batch_size: int = 256
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.0
    lr_schedule: Schedule = "constant"
    """cosine falls to `min_lr_factor` of each learning rate at the last step; plateau watches fold-9 macro AUROC."""
    min_lr_factor: float = 0.0
    gradient_clip_norm: float | None = None
    """Largest norm of the gradient over all trained parameters, or None."""
    drop_path_rate: float = 0.0
    """Stochastic depth: the rate of the deepest residual block; linear from 0 at the shallowest."""
    selection: Selection = "best"
    """The epoch whose weights leave the phase: best by fold-9 macro AUROC, lowest by fold-9 loss, or the last."""
    warmup: float = 0.0
    """Share of the steps over which learning rates rise from nearly 0; the schedule fills the rest of the steps."""
    average: EMA | SWA | None = None
    """Averaged weights are then validated, selected, saved and predicted with; training continues without them."""
    drop_path_shape: Shape = "linear"
    """`constant`: all residual blocks have `drop_path_rate`."""
    drop_path_unit: Unit = "record"
    """Who shares a draw: `record` draws for each record, `batch` drops a block for all records of a batch or for none
    (Huang et al. 2016)."""
    drop_path_when: When = "all"
    """Epochs with stochastic depth (Liu et al. 2023, Dropout Reduces Underfitting): all, or those before or after
    `drop_path_switch`."""
    drop_path_switch: float = 0.5
    """Share of the epochs at which `early` ends and `late` begins."""
    patience: int | None = None
    """Stop after so many epochs without a better one, or None."""
    no_weight_decay: tuple[str, ...] = ()
    """Parameters without weight decay: patterns of their paths, or `1d` for all of at most one dimension."""
    fitted: bool = False
    """No gradient steps: the method's `finish` fits the parts. Made by `Phase.fit`."""

    @classmethod
    def fit(cls, name: str, parts: Sequence[str] = ("head",)) -> Phase:
        """Return a phase without gradient steps, whose parts the method's `finish` fits."""
        return cls(name=name, learning_rates=dict.fromkeys(parts, 1.0), epochs=1, fitted=True)

    def facts(self) -> dict[str, Any]:
        """Return what a result records and its digest depends on.

        A field that is younger than the first published results stands there only where it is not at its default, so
        that their digests stay.
        """
        values = asdict(self)
        return {
            field.name: values[field.name]
            for field in fields(self)
            if field.name in FIRST_FIELDS or getattr(self, field.name) != field.default
        }

    def drops_paths_in(self, epoch: int) -> bool:
        """Whether this epoch, counted from 0, has stochastic depth."""
        switch = round(self.drop_path_switch * self.epochs)
        return {"all": True, "early": epoch < switch, "late": epoch >= switch}[self.drop_path_when]

    def __post_init__(self) -> None:
        if not self.learning_rates:
            raise PluginError(f"phase {self.name!r} trains nothing: give at least one part a learning rate")
        _make_plain(self)
        rates = {part: _plain(rate) for part, rate in self.learning_rates.items()}
        object.__setattr__(self, "learning_rates", rates)
        for part, rate in self.learning_rates.items():
            if not 0 < rate < math.inf:
                raise PluginError(
                    f"phase {self.name!r}: the learning rate of {part!r} must be positive, got {rate!r}; "
                    "leave a part out to freeze it"
                )
        for value, rule, text in self._rules():
            if not rule:
                raise PluginError(f"phase {self.name!r}: {text}, got {value!r}")

    def _rules(self) -> Iterator[tuple[object, bool, str]]:
        """Yield each value, whether it is allowed, and what is."""
        yield self.epochs, _is_count(self.epochs), "epochs must be a whole number from 1"
        yield self.batch_size, _is_count(self.batch_size), "batch_size must be a whole number from 1"
        for value, allowed in (
            (self.optimizer, Optimizer),
            (self.lr_schedule, Schedule),
            (self.selection, Selection),
            (self.drop_path_shape, Shape),
            (self.drop_path_unit, Unit),
            (self.drop_path_when, When),
        ):
            yield value, value in get_args(allowed), f"expected one of {get_args(allowed)}"
        yield self.drop_path_rate, 0 <= self.drop_path_rate < 1, "drop_path_rate must lie in [0, 1)"
        yield self.drop_path_switch, 0 < self.drop_path_switch < 1, "drop_path_switch must lie in (0, 1)"
        yield self.weight_decay, 0 <= self.weight_decay < math.inf, "weight_decay must not be negative"
        final = "min_lr_factor, the final learning rate as a share of the first, must lie in [0, 1]"
        yield self.min_lr_factor, 0 <= self.min_lr_factor <= 1, final
        clip = self.gradient_clip_norm
        yield clip, clip is None or clip > 0, "gradient_clip_norm must be positive"
        yield self.warmup, 0 <= self.warmup < 1, "warmup must lie in [0, 1), a share of the steps"
        own_warmup = self.lr_schedule in ("one-cycle", "plateau")
        yield self.warmup, not (self.warmup and own_warmup), f"{self.lr_schedule} allows no warmup"
        waits = self.patience is None or _is_count(self.patience)
        yield self.patience, waits, "patience must be a whole number of epochs from 1"
        never = self.patience is not None and self.selection == "last"
        yield self.patience, not never, "patience needs a selection of the best epoch, and this phase keeps the last"
        listed = isinstance(self.no_weight_decay, tuple)
        yield self.no_weight_decay, listed, "no_weight_decay must be a tuple of patterns"
        kind = self.average is None or isinstance(self.average, EMA | SWA)
        yield self.average, kind, "average must be EMA(...), SWA(...) or None"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _make_plain(made: EMA | SWA | Phase) -> None:
    """Turn a NumPy number in a field into Python's: torch writes it into a checkpoint and refuses to read it."""
    for field in fields(made):
        object.__setattr__(made, field.name, _plain(getattr(made, field.name)))


def _plain(value: Any) -> Any:
    return value.item() if getattr(value, "ndim", None) == 0 else value


FIRST_FIELDS = (
    *("name", "learning_rates", "epochs", "batch_size", "optimizer", "weight_decay", "lr_schedule", "min_lr_factor"),
    *("gradient_clip_norm", "drop_path_rate", "selection"),
)
"""What phases of the first published results have."""
