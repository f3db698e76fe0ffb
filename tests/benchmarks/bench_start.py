"""How long the command line takes to say what there is."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def bench(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "bench", *words], check=True, capture_output=True)


def test_help(compare: Any) -> None:
    compare("bench --help", lambda: bench("--help"), rounds=5, goal="0.5 s")


def python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import(compare: Any) -> None:
    compare(
        "import of bench.execute",
        lambda: python("import bench.execute"),
        "import of torch alone",
        lambda: python("import torch"),
        goal="0.6 s more",
    )


def test_list(compare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_catalogue() -> None:
        monkeypatch.setenv("BENCH_CACHE", "/dev/null")
        bench("list")
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path))

    compare("bench list", lambda: bench("list"), "importing every plugin", without_catalogue, rounds=2, goal="0.5 s")
