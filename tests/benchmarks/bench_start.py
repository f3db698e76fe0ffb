"""How long the command line takes to say what there is."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.demo.dataset import write_demo


def bench(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "bench", *words], check=True, capture_output=True)


def test_help(compare: Any) -> None:
    compare("bench --help", lambda: bench("--help"), rounds=5, goal="0.5 s")


def test_help_of_run(compare: Any) -> None:
    compare("bench run --help", lambda: bench("run", "--help"), rounds=5, goal="0.3 s")


def python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def test_package(compare: Any) -> None:
    compare("import bench", lambda: python("import bench"), "python", lambda: python("pass"), rounds=5, goal="0.1 s")


def test_finished_run(compare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run, recognised by hashes of files, against recognising it by its digest, with torch and a model."""
    write_demo(tmp_path / "data", 240, rates=(100,))
    cell = ["run", "--method", "lp(probe_epochs=1)", "--task", "superdiag", "--arch", "net1d_mini"]
    cell += ["--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    bench(*cell)

    def by_digest() -> None:
        monkeypatch.setenv("BENCH_CACHE", "/dev/null")
        bench(*cell)
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))

    compare("bench run of a finished cell", lambda: bench(*cell), "by its digest", by_digest, goal="0.6 s")


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
