"""The number format of a cell, and the head that never computes in bf16."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch

from baselines.net1d import Net1DMini
from bench.processor import processor_fact, processor_name
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
    ("vendor", "amx", "avx512_bf16", "chosen"),
    [
        ("AuthenticAMD", False, True, "bf16"),
        ("AuthenticAMD", False, False, "float32"),
        ("GenuineIntel", False, True, "float32"),  # half as fast as float32 where measured
        ("GenuineIntel", True, True, "bf16"),
        ("", False, True, "float32"),
    ],
)
def test_auto_is_bf16_on_processors_that_are_faster_in_it(
    vendor: str, amx: bool, avx512_bf16: bool, chosen: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    core = f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: Processor\n\n"
    (tmp_path / "cpuinfo").write_text(core + core.replace(vendor or "none", "AuthenticAMD"))
    monkeypatch.setattr("bench.processor.CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)

    assert resolve_precision("auto", CPU) == chosen
    assert processor_name() == "Processor"


def test_no_fact_is_known_where_linux_states_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.processor.CPUINFO", tmp_path / "nothing")

    assert processor_fact("vendor_id") == ""
    assert processor_name()


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
