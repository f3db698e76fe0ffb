"""The number format of a cell, and the head that never computes in bf16."""

from __future__ import annotations

from typing import cast

import pytest
import torch

from baselines.net1d import Net1DMini
from bench.training.model import Classifier
from bench.training.precision import Precision, autocast, dtype, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("in_hardware", "chosen"), [(True, "bf16"), (False, "float32")])
def test_a_gpu_that_emulates_bf16_has_none(monkeypatch: pytest.MonkeyPatch, in_hardware: bool, chosen: str) -> None:
    """torch says of all GPUs since 2016 that they support bf16, those included that only emulate it, slowly."""

    def is_bf16_supported(including_emulation: bool = True) -> bool:
        return in_hardware or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    assert resolve_precision("auto", torch.device("cuda")) == chosen


@pytest.mark.parametrize(
    ("precision", "weights", "products"),
    [
        ("float64", torch.float64, torch.float64),
        ("float32", torch.float32, torch.float32),
        ("bf16", torch.float32, torch.bfloat16),
    ],
)
def test_weights_and_products_have_the_types_of_the_precision(
    precision: str, weights: torch.dtype, products: torch.dtype
) -> None:
    chosen = cast(Precision, precision)
    matrix = torch.ones(2, 2, dtype=dtype(chosen))

    assert matrix.dtype == weights
    with autocast(chosen, CPU):
        assert (matrix @ matrix).dtype == products


def test_the_head_is_never_in_bf16() -> None:
    """8 bits tie records that a ranking metric must tell apart: 1 + 2**-9 is 1 in bf16."""
    model = Classifier(Net1DMini(), 2).eval()
    features = torch.ones(2, model.backbone.feature_dim)
    features[1] += 2**-9
    with torch.no_grad():
        model.head.weight.fill_(1 / model.backbone.feature_dim)
        model.head.bias.zero_()
        with autocast("bf16", CPU):
            logits = model.classify(features)
            whole = model(torch.randn(2, 12, 1000))

    assert logits.tolist() == [[1.0, 1.0], [1 + 2**-9, 1 + 2**-9]]
    assert logits.dtype == whole.dtype == torch.float32
