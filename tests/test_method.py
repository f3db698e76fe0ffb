"""What a phase accepts, and what the harness does where a method says nothing."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from bench.errors import PluginError
from bench.training.method import Method, Phase, declared_phases


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning_rates": {}}, "trains nothing: give at least one part a learning rate"),
        ({"learning_rates": {"head": 0.0}}, "learning rate of 'head' must be positive, got 0.0; leave a part out"),
        ({"learning_rates": {"head": -1.0}}, "learning rate of 'head' must be positive, got -1.0"),
        ({"learning_rates": {"head": math.nan}}, "learning rate of 'head' must be positive, got nan"),
        ({"learning_rates": {"head": math.inf}}, "learning rate of 'head' must be positive, got inf"),
        ({"epochs": 0}, "epochs must be a whole number from 1, got 0"),
        ({"epochs": 2.5}, "epochs must be a whole number from 1, got 2.5"),
        ({"epochs": True}, "epochs must be a whole number from 1, got True"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1, got 0"),
        ({"batch_size": 128.0}, "batch_size must be a whole number from 1, got 128.0"),
        ({"patience": 1.5}, "patience must be a whole number of epochs from 1, got 1.5"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate must lie in \[0, 1\), got 1.0"),
        ({"drop_path_rate": math.nan}, r"drop_path_rate must lie in \[0, 1\), got nan"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative, got -0.1"),
        ({"min_lr_factor": 1.5}, r"the final learning rate as a share of the first, must lie in \[0, 1\], got 1.5"),
        ({"gradient_clip_norm": 0.0}, "gradient_clip_norm must be positive, got 0.0"),
        ({"optimizer": "sgd"}, r"expected one of \('adamw', 'adam'\), got 'sgd'"),
        ({"lr_schedule": "linear"}, "expected one of .*'plateau'.*, got 'linear'"),
        ({"selection": "first"}, r"expected one of \('best', 'lowest-loss', 'last'\), got 'first'"),
    ],
)
def test_a_wrong_phase_says_what_is_wrong(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match=f"phase 'probe'.*{message}"):
        Phase(**{"name": "probe", "learning_rates": {"head": 1e-3}, "epochs": 1, **wrong})


def test_the_default_loss_is_binary_cross_entropy() -> None:
    class Known:
        labels = torch.tensor([[1.0, 0.0]])

        def logits(self) -> torch.Tensor:
            return torch.tensor([[0.0, 2.0]])

    loss = Method().loss(Known())  # type: ignore[arg-type]

    assert loss.item() == pytest.approx((math.log(2) + math.log1p(math.exp(2))) / 2)


@pytest.mark.parametrize(("kind", "plain"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_the_fused_optimizer_is_the_plain_one(kind: Any, plain: type[torch.optim.Optimizer]) -> None:
    phase = Phase(name="p", learning_rates={"head": 0.01}, epochs=1, optimizer=kind, weight_decay=0.1)
    torch.manual_seed(0)
    start, gradients = torch.randn(50, dtype=torch.float64), torch.randn(30, 50, dtype=torch.float64)

    def run(parameter: nn.Parameter, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        return parameter.detach()

    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    fused = run(ours, Method().optimizer([{"params": [ours], "lr": 0.01}], phase, dict))
    unfused = run(theirs, plain([{"params": [theirs], "lr": 0.01}], weight_decay=0.1, foreach=False))  # type: ignore[call-arg]

    torch.testing.assert_close(fused, unfused, rtol=1e-12, atol=1e-12)
    assert (fused - start).abs().mean() > 0.02


@pytest.mark.parametrize("phases", [[], None, [1], "probe", {}])
def test_what_phases_must_return_is_said(phases: Any) -> None:
    class Odd(Method):
        def phases(self, layer_groups: Sequence[str]) -> Any:
            return phases

    with pytest.raises(PluginError, match=r"^Odd\.phases\(\) must return a list of at least one bench\.plugin\.Phase"):
        declared_phases(Odd(), ("backbone",))


class Misspelt(Method):
    """A method whose hook is never called."""

    def augmentation(self, batch: Any) -> Any:
        return batch.signals, batch.labels


class HasBoth(Method):
    """A method with a hook, and a function of almost the same name that it calls."""

    def phases(self, layer_groups: Any) -> Any:
        return [self.phase()]

    def phase(self) -> Any:
        return Phase(name="probe", learning_rates={"head": 1e-3}, epochs=1)


def test_a_function_with_almost_the_name_of_a_hook_is_refused() -> None:
    with pytest.raises(PluginError, match=r"the harness never calls Misspelt.augmentation; did you mean augment\?"):
        declared_phases(Misspelt(), ["backbone.net"])
    assert declared_phases(HasBoth(), ["backbone.net"])
