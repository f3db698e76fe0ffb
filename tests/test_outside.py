"""What a method reads from outside is seen where its own code does so, and nowhere else."""

import datetime
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.plugin import Batch, Method, Phase
from bench.registry.outside import Outside


@dataclass(frozen=True)
class Reads(Method):
    """Calls what it is given when it is asked for its phases."""

    what: Callable[[], Any]

    def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
        self.what()
        return []


def fault_of(what: Callable[[], Any]) -> str | None:
    method = Reads(what)
    outside = Outside(method)
    with outside.watch():
        method.phases(())
    return outside.fault


@pytest.mark.parametrize(
    ("what", "read"),
    [
        (lambda: time.time(), "the clock"),
        (lambda: time.monotonic_ns(), "the clock"),
        (lambda: time.localtime(), "the clock"),
        (lambda: datetime.datetime.now(), "the clock"),
        (lambda: os.environ["PATH"], "the environment"),
        (lambda: os.environ.get("NOT_THERE"), "the environment"),
        (lambda: os.getenv("NOT_THERE"), "the environment"),
        (lambda: random.random(), "a generator that nobody seeds"),
        (lambda: random.shuffle([1, 2, 3]), "a generator that nobody seeds"),
        (lambda: Path(__file__).read_text(), "a file"),
        (lambda: np.loadtxt(__file__, str, comments=None, max_rows=1, delimiter="\0"), "a file"),
    ],
)
def test_what_is_read_is_named_with_the_hook(what: Callable[[], Any], read: str) -> None:
    assert (fault_of(what) or "").startswith(f"phases() reads {read}, which neither result nor checkpoint records")


@pytest.mark.parametrize(
    "what",
    [
        lambda: torch.randn(3).sum(),
        lambda: torch.nn.Linear(3, 2)(torch.zeros(1, 3)),
        lambda: np.random.default_rng(0).normal(),
        lambda: random.Random(0).random(),
        lambda: json.dumps({"a": datetime.timedelta(seconds=1).total_seconds()}),
        lambda: time.strptime("1999", "%Y"),
        lambda: sorted([3, 1, 2]),
    ],
)
def test_what_is_computed_is_no_fault(what: Callable[[], Any]) -> None:
    assert fault_of(what) is None


def test_what_others_read_meanwhile_is_no_fault() -> None:
    outside = Outside(Reads(lambda: None))
    with outside.watch():
        time.time()
        os.environ.get("PATH")
        Path(__file__).read_text()

    assert outside.fault is None


@dataclass(frozen=True)
class Draws(Method):
    """Calls what it is given in its loss."""

    what: Callable[[], Any]

    def loss(self, batch: Batch) -> Tensor:
        self.what()
        return torch.zeros(())


@pytest.mark.parametrize(
    ("what", "is_fault"),
    [
        (lambda: torch.Generator().manual_seed(3), True),
        (lambda: torch.manual_seed(3), True),
        (lambda: random.Random(3), True),
        (lambda: torch.rand(3), False),
        (lambda: torch.nn.functional.dropout(torch.ones(3)), False),
    ],
)
def test_a_loss_that_seeds_a_generator_is_named(what: Callable[[], Any], is_fault: bool) -> None:
    outside = Outside(Draws(what))
    with outside.watch():
        Draws(what).loss(None)  # type: ignore[arg-type]

    assert (outside.fault is not None and outside.fault.startswith("loss() seeds a generator")) == is_fault


def test_prepare_may_seed_a_generator() -> None:
    """Such as for a projection that all runs share."""
    assert fault_of(lambda: torch.Generator().manual_seed(3)) is None
