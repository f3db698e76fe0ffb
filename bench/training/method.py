"""What a post-training method is: phases, and the hooks by which it takes part in training."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bench.errors import Incompatible, PluginError
from bench.training.batch import Augmented, Batch, SignalBatch, Start
from bench.training.judge import Judge
from bench.training.model import Classifier
from bench.training.phase import EMA, SWA, Phase
from bench.training.search import Search

__all__ = ["EMA", "SWA", "Batch", "Gradients", "Judge", "Method", "Phase", "SignalBatch", "Start", "declared_phases"]

Gradients = Callable[[], Mapping[str, Tensor]]
"""Computes the mean gradient of the logistic loss over the training records: path of a parameter -> gradient."""


class Method:
    """A post-training recipe. Subclass it as a frozen dataclass: its fields are its hyper-parameters.

    The harness owns data, order, loop, precision, ranks, clock and selection. A method sees training batches; of
    fold 9 it sees what `judge.score` returns, and of fold 10 nothing. It carries no state of its own, or a run that
    was killed and resumed would be another run: `batch.state` is in every checkpoint, `batch.initial` and
    `batch.average` are frozen copies that the harness keeps.
    """

    search: ClassVar[Mapping[str, Search]] = {}
    """Hyper-parameters that `bench tune` may vary, and where: LogUniform, Uniform or Choice."""
    needs_signals: ClassVar[bool | None] = None
    """Whether an own `loss` looks at signals or features. False: it uses `batch.logits` and `batch.labels` only, and a
    frozen backbone is run once. Say it wherever you override `loss`."""
    uses_published_head: ClassVar[bool] = False
    """Whether `prepare` is given the head of the published weights; the digest then depends on it."""

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        """Return the phases in order; each starts from the weights that the one before selected.

        `layer_groups` are paths of the backbone's parts, shallow to deep, such as `backbone.blocks.0`, before `prepare`
        has added any. The phases follow from these and the hyper-parameters alone: they are in the digest. Raise
        `Incompatible` with a reason to decline a backbone with such layer groups.
        """
        raise NotImplementedError

    def prepare(self, model: Classifier, init: Start) -> None:
        """Look at the model before training, or alter it; raise `Incompatible` with a reason to decline.

        Modules may be added, wrapped and renamed within `model.backbone`, and `model.head` may be another module; it
        stays `head(backbone(signals))`, or `head(backbone.tokens(signals))` after `model.use_tokens()`. A parameter
        whose `requires_grad` is off afterwards is never trained; all others that are added must be in a phase. `bench
        predict` prepares a new model in the same way before it loads the weights.
        """

    def augment(self, batch: SignalBatch) -> Augmented:
        """Return altered signals [record, lead, time] and labels [record, label] of a training batch.

        The batch is whole, whatever the number of ranks; draw from `batch.rng`. Labels may be any in [0, 1]. A third
        value may be name -> tensor [record, ...], such as a second view or noise: the loss gets it as `batch.extra`.
        """
        return batch.signals, batch.labels

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean loss over the records of a batch, a scalar."""
        return nn.functional.binary_cross_entropy_with_logits(batch.logits(), batch.labels)

    def optimizer(self, groups: list[dict[str, Any]], phase: Phase, gradients: Gradients) -> torch.optim.Optimizer:
        """Return the optimiser of a phase; `groups` are its parts in order, as torch writes them.

        Each has its `params`, `param_names` (dotted paths, in the same order) and `lr`; any other groups of these
        parameters will do, such as one a layer, but each parameter is in one. The phase's schedule scales whatever
        rates they have. The model has the weights at the beginning of the phase, in a resumed run too; rates may
        follow from these and from `gradients()`.
        """
        kinds: dict[str, type[torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
        return kinds[phase.optimizer](groups, weight_decay=phase.weight_decay, fused=True)  # type: ignore[call-arg]

    def optimizer_step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
        """Make one step, by calling `closure` at least once.

        `closure` sets the gradients to zero, computes loss and gradient over all ranks with the same masks, clips the
        gradient, and returns the mean loss of the batch. Every rank calls this. Batch-norm statistics move in the
        first call alone.
        """
        closure()
        optimizer.step()

    def finish(self, model: Classifier, judge: Judge) -> None:
        """Alter the weights that leave a phase, the last one too, of parts that it trains; `judge.phase` says which.

        `model` has the weights of the selected epoch. See `Judge` for what can be asked.
        """


def require_spelling(kind: type[Method]) -> None:
    """Raise PluginError if a method lacks a hook and has a function of almost its name, which nothing would call."""
    hooks = [name for name, value in vars(Method).items() if callable(value) and not name.startswith("_")]
    lacking = [hook for hook in hooks if getattr(kind, hook) is getattr(Method, hook)]
    for base in kind.__mro__[: kind.__mro__.index(Method)]:
        for name, value in vars(base).items():
            own = callable(value) and not name.startswith("_") and name not in hooks
            if own and (near := difflib.get_close_matches(name, lacking, n=1, cutoff=0.7)):
                raise PluginError(
                    f"the harness never calls {base.__name__}.{name}; did you mean {near[0]}? A function of your own "
                    "needs a name that is less like a hook's"
                )


def declared_phases(method: Method, layer_groups: Sequence[str]) -> Sequence[Phase]:
    """Return the method's phases on a backbone with these layer groups; PluginError where it takes none."""
    require_spelling(type(method))
    try:
        inspect.signature(method.phases).bind(layer_groups)
    except TypeError:
        raise PluginError(
            f"{type(method).__name__}.phases() must take the backbone's layer groups: "
            "def phases(self, layer_groups) -> list[Phase]"
        ) from None
    phases = method.phases(tuple(layer_groups))
    if not isinstance(phases, Sequence) or not phases or not all(isinstance(phase, Phase) for phase in phases):
        raise PluginError(
            f"{type(method).__name__}.phases() must return a list of at least one bench.plugin.Phase, "
            f"it returned {phases!r:.80}"
        )
    for phase in phases:
        if phase.fitted and not overrides(method, "finish"):
            raise PluginError(
                f"phase {phase.name!r} of {type(method).__name__} is fitted by finish(), which the method does not have"
            )
    return phases


def phases_or_reason(method: Method, layer_groups: Sequence[str]) -> tuple[Sequence[Phase], str]:
    """Return the method's phases and an empty text; no phases and its reason if it declines the backbone in `phases`.

    The digest of a declined cell then has no phases.
    """
    try:
        return declared_phases(method, layer_groups), ""
    except Incompatible as reason:
        return [], str(reason)


def overrides(method: Method, hook: str) -> bool:
    """Whether the method has this hook of its own."""
    return getattr(type(method), hook) is not getattr(Method, hook)
