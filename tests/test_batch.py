"""What a method's hooks are given, and that their misuse is named."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import PluginError
from bench.training.batch import Batch, Start
from bench.training.phase import Phase

RESULT = {
    "init": {"name": "random"},
    "split": {"train_records": 10, "train_positives": {"MI": 3, "NORM": 7}},
}


class Passes:
    """Passes that tell what they were asked for."""

    def logits(self, x: Tensor, masks: int) -> Tensor:
        return x.sum(1, keepdim=True) + masks

    def features(self, x: Tensor, masks: int) -> Tensor:
        return x + masks

    def initial(self, x: Tensor) -> Tensor:
        return -x

    def average(self, x: Tensor) -> Tensor:
        return 2 * x


def batch(**changes: Any) -> Batch:
    facts: dict[str, Any] = {
        "passes": Passes(),
        "x": torch.ones(2, 3),
        "labels": torch.zeros(2, 1),
        "rows": torch.arange(2),
        "extra": {},
        "gather": torch.clone,
        "phase": Phase(name="train", learning_rates={"head": 0.1}, epochs=1),
        "step": 0,
        "num_steps": 1,
        "num_records": 2,
        "positives": torch.zeros(1),
        "parameters": {},
        "initial_weights": {},
        "state": {},
    }
    return Batch(**{**facts, **changes})


def test_a_start_is_what_a_result_says() -> None:
    start = Start.of(RESULT, {})

    assert (start.name, start.num_records, start.positives, start.labels) == ("random", 10, (3, 7), ("MI", "NORM"))
    for compare in (lambda: start == "random", lambda: start != "random", lambda: start in {"random"}):
        with pytest.raises(PluginError, match=r"compare its name, as in init.name == 'random'"):
            compare()
    with pytest.raises(PluginError, match=r"compare its name, as in init.name == 'random'"):
        _ = start == "random"


def test_the_same_pass_twice_is_an_error_and_other_masks_are_another_pass() -> None:
    twice = batch()
    first = twice.logits()
    assert torch.equal(twice.logits(masks=1), first + 1)
    twice.features(twice.signals)
    with pytest.raises(PluginError, match=r"the loss computes the logits of the same records twice with masks=0"):
        twice.forward(twice.x)


def test_signals_are_for_losses_that_say_so() -> None:
    blind = batch(signals_allowed=False)

    assert blind.logits().shape == (2, 1)
    for use in (lambda: blind.signals, lambda: blind.forward(blind.x), lambda: blind.features(blind.x)):
        with pytest.raises(PluginError, match="needs_signals = False"):
            use()


def test_passes_of_other_weights_default_to_the_batch() -> None:
    assert torch.equal(batch().initial(), -torch.ones(2, 3))
    assert torch.equal(batch().average(torch.zeros(1, 3)), torch.zeros(1, 3))
