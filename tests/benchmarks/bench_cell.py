"""A whole cell, from a cold folder to its result."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.cell import Cell
from bench.demo.dataset import write_demo
from bench.execute import Options, execute
from bench.registry.reference import Reference

ON_GPU = torch.cuda.is_available()


@pytest.mark.parametrize(
    ("arch", "records", "rate"),
    [
        pytest.param("net1d_mini", 300, 100, id="cpu", marks=pytest.mark.skipif(ON_GPU, reason="runs on the GPU")),
        pytest.param("ecgfounder", 21_799, 500, id="cuda", marks=pytest.mark.skipif(not ON_GPU, reason="no GPU")),
    ],
)
def test_cell(compare: Any, tmp_path: Path, arch: str, records: int, rate: int) -> None:
    """On a GPU that of the paper: ECGFounder on a set of PTB-XL's size; its weights do not change the time."""
    write_demo(tmp_path / "data", records, rates=(rate,))
    method = Reference("lpft-sd")
    cell = Cell(data=tmp_path / "data", task="superdiag", arch=Reference(arch), method=method, init="random")
    options, found = Options(runs=tmp_path / "runs", keep_weights="none"), []

    compare(
        f"lpft-sd on {arch}, {records:,} records at {rate} Hz, from WFDB files to the result",
        lambda: found.append(execute(cell, options)),
        rounds=1,
        warmup_rounds=0,
    )
    assert found[0].document["metrics"]
