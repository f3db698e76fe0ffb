"""What a method may ask at the end of a phase: scores on fold 9, counted, and features of the training records."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from bench.errors import PluginError
from bench.training.model import Classifier
from bench.training.phase import Phase

MOST_SCORES = 32
"""Scores of a phase: choosing among more would fit fold 9."""


class Judge:
    """Scores weights on fold 9 and knows the training records; every rank asks the same and hears the same."""

    def __init__(
        self,
        phase: Phase,
        model: Classifier,
        before: Mapping[str, Tensor],
        score: Callable[[], float],
        features: Callable[[], tuple[Tensor, Tensor]],
        recalibrate: Callable[[], None],
    ) -> None:
        self.phase = phase
        self.before = before
        """State dict at the beginning of the phase, but for parts that no phase has trained."""
        self.scores: list[float] = []
        """What `score` returned, in order; the result records it."""
        self._closed = False
        self._model, self._score, self._features, self._recalibrate = model, score, features, recalibrate

    def score(self, weights: Mapping[str, Tensor] | None = None) -> float:
        """Return the fold-9 macro AUROC of the model, with these weights of its state dict in place of its own.

        The model is left as it was. At most 32 times a phase, and each is in the result.
        """
        self._require_open()
        if len(self.scores) == MOST_SCORES:
            raise PluginError(
                f"finish() of phase {self.phase.name!r} scores more than {MOST_SCORES} weights on fold 9; try fewer"
            )
        own = {key: value.clone() for key, value in self._model.state_dict().items() if key in (weights or {})}
        if strange := [key for key in weights or {} if key not in own]:
            raise PluginError(f"judge.score was given {strange[0]!r}, which the model does not have")
        self._model.load_state_dict({**self._model.state_dict(), **(weights or {})})
        self.scores.append(self._score())
        self._model.load_state_dict({**self._model.state_dict(), **own})
        return self.scores[-1]

    def features(self) -> tuple[Tensor, Tensor]:
        """Return the head's input [sample, feature] and labels [sample, label] of the training records, in order.

        Those of the model as it is, in eval mode, without gradient. A sample is a record, or a window where the
        backbone sees windows; with `model.use_tokens()` the input is [sample, token, dim].
        """
        self._require_open()
        return self._features()

    def recalibrate(self) -> None:
        """Compute the batch-norm statistics of the trained parts anew on the training records.

        Weights that were averaged or interpolated need it.
        """
        self._require_open()
        self._recalibrate()

    def close(self) -> None:
        """Answer nothing any more: the phase is over."""
        self._closed = True

    def _require_open(self) -> None:
        if self._closed:
            raise PluginError(
                f"the judge of phase {self.phase.name!r} is asked after finish(), where nothing of fold 9 may be "
                "known; ask in finish() alone"
            )
