"""Learning rates over the steps of a phase: each schedule's ends, peak and symmetry, and torch's own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from bench.training.phase import Phase
from bench.training.schedule import advance, make_schedule


def phase(epochs: int, **options: Any) -> Phase:
    return Phase(name="phase", learning_rates={"head": 0.1}, epochs=epochs, **options)


def rates_of(optimizer: torch.optim.Optimizer, declared: Phase, steps_per_epoch: int) -> list[float]:
    """Return the learning rate of each step."""
    schedule = make_schedule(optimizer, declared, steps_per_epoch)
    rates = []
    for _ in range(declared.epochs * steps_per_epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        advance(schedule)
    return rates


@pytest.mark.parametrize(
    ("lr_schedule", "expected"),
    [
        ("constant", lambda lrs: lrs == pytest.approx([0.1] * 20)),
        ("cosine", lambda lrs: lrs[0] == 0.1 and lrs[-1] == pytest.approx(0.001) and lrs == sorted(lrs, reverse=True)),
        ("cosine", lambda lrs: lrs[9] + lrs[10] == pytest.approx(0.101)),
        ("one-cycle", lambda lrs: lrs[0] == pytest.approx(0.1 / 25) and lrs[-1] == pytest.approx(0.1 / 250_000)),
        ("one-cycle", lambda lrs: max(lrs) == pytest.approx(0.1) and lrs.index(max(lrs)) == 5),
    ],
)
def test_schedules(lr_schedule: Any, expected: Callable[[list[float]], bool]) -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(1))], lr=0.1)

    assert expected(rates_of(optimizer, phase(4, lr_schedule=lr_schedule, min_lr_factor=0.01), 5))


def test_one_cycle_turns_the_first_beta_against_the_rate() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(1))], lr=0.1, betas=(0.95, 0.99))
    made = make_schedule(optimizer, phase(1, lr_schedule="one-cycle"), 101)
    betas = []
    for _ in range(101):
        betas.append(optimizer.param_groups[0]["betas"])
        optimizer.step()
        advance(made)

    first = [beta[0] for beta in betas]
    assert (first[0], min(first), first[-1]) == pytest.approx((0.95, 0.85, 0.95), abs=1e-4)
    assert first.index(min(first)) == 30
    assert {beta[1] for beta in betas} == {0.99}


@pytest.mark.parametrize("lr_schedule", ["constant", "cosine"])
def test_a_warmup_rises_and_the_schedule_fills_the_rest(lr_schedule: Any) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    rates = rates_of(optimizer, phase(2, lr_schedule=lr_schedule, warmup=0.4, min_lr_factor=0.01), 5)

    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[-1] == pytest.approx(0.1 if lr_schedule == "constant" else 0.001)


def test_cosine_is_torchs() -> None:
    """torch's CosineAnnealingLR over 20 steps, whose last step here is the 20th: T_max = 19."""
    ours, torchs = (torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1) for _ in range(2))
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(torchs, 19, eta_min=0.001)
    expected = []
    for _ in range(20):
        expected.append(torchs.param_groups[0]["lr"])
        torchs.step()
        annealing.step()

    assert rates_of(ours, phase(4, lr_schedule="cosine", min_lr_factor=0.01), 5) == pytest.approx(expected)


def test_each_group_keeps_its_share_of_the_rate() -> None:
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.001)]
    optimizer = torch.optim.SGD(groups)
    schedule = make_schedule(optimizer, phase(2, lr_schedule="cosine", warmup=0.3), 5)
    for _ in range(10):
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert first == pytest.approx(100 * second)
        optimizer.step()
        advance(schedule)


def test_a_plateau_moves_by_scores_and_not_by_steps() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    plateau = make_schedule(optimizer, phase(1, lr_schedule="plateau"), 5)
    assert isinstance(plateau, torch.optim.lr_scheduler.ReduceLROnPlateau)
    for _ in range(100):
        advance(plateau)
    assert optimizer.param_groups[0]["lr"] == 0.1

    for _ in range(12):
        plateau.step(0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01), "the first score, ten that are no better, one more"
