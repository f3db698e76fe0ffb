"""The number format of a cell, and the head that never computes in bf16."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.net1d import Net1DMini
from bench.errors import BenchError
from bench.processor import processor_fact, processor_name
from bench.training.model import Classifier
from bench.training.precision import Precision, autocast, convolves_in_bf16, dtype, resolve_precision

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
        ("GenuineIntel", True, True, "float32"),  # oneDNN convolves wrongly with AMX
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


@pytest.fixture
def _asked_anew() -> Iterator[None]:
    convolves_in_bf16.cache_clear()
    yield
    convolves_in_bf16.cache_clear()


@pytest.mark.parametrize("leads", [1, 2, 8, 12, 16])
@pytest.mark.parametrize("kernel_size", [3, 8, 16, 24, 50])
@pytest.mark.parametrize("stride", [1, 2, 25])
def test_bf16_convolutions_are_those_of_float32(leads: int, kernel_size: int, stride: int) -> None:
    """On a processor with AMX, those of 8 and 12 leads with a kernel of 8, 16 or 24 were not."""
    generator = torch.Generator().manual_seed(0)
    signals = torch.randn(4, leads, 500, generator=generator)
    taps = torch.randn(32, leads, kernel_size, generator=generator)
    exact = F.conv1d(signals, taps, stride=stride)

    with autocast("bf16", CPU):
        rounded = F.conv1d(signals, taps, stride=stride)

    assert rounded.dtype == torch.bfloat16
    assert not torch.equal(rounded.float(), exact)
    assert (rounded.float() - exact).norm() <= 0.01 * exact.norm()


@pytest.mark.usefixtures("_asked_anew")
def test_a_wrong_convolution_ends_bf16_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    right = F.conv1d

    def conv1d(signals: Tensor, taps: Tensor) -> Tensor:
        return right(signals, taps).roll(1) if signals.dtype == torch.bfloat16 else right(signals, taps)

    monkeypatch.setattr(F, "conv1d", conv1d)
    with pytest.raises(BenchError, match="bf16 convolutions are wrong on this processor"):
        autocast("bf16", CPU)
    for precision in ("float32", "float64"):
        autocast(cast(Precision, precision), CPU)


ASKED = "import bench, os; print(os.environ['ONEDNN_MAX_CPU_ISA'])"
USED = """
import torch
from bench.errors import BenchError
from bench.training.precision import autocast
try:
    autocast("bf16", torch.device("cpu"))
except BenchError as error:
    print(error)
"""


def _printed(code: str, **variables: str) -> str:
    unset = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    return subprocess.run(
        [sys.executable, "-c", code], env=unset | variables, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_onednn_is_kept_from_amx_unless_the_user_says_otherwise() -> None:
    assert _printed(ASKED) == "AVX512_CORE_FP16"
    assert _printed(ASKED, ONEDNN_MAX_CPU_ISA="AVX2") == "AVX2"


@pytest.mark.slow
@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="this processor has no AMX")
def test_with_amx_bf16_is_refused() -> None:
    """Once this fails, torch's oneDNN convolves rightly with AMX, and bench need not keep it from it."""
    assert _printed(USED) == ""
    assert "bf16 convolutions are wrong" in _printed(USED, ONEDNN_MAX_CPU_ISA="DEFAULT")
