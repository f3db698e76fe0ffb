"""Many small cells by a worker, with its plan, claims and outcomes, against the same cells in one warm process."""

import itertools
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import bench.launch.preload  # noqa: F401  as in a worker
from bench.cell import Cell
from bench.data.opened import OpenData
from bench.demo.dataset import write_demo
from bench.execute import Options, execute
from bench.registry.reference import Reference

NUM = 40


def test_probes(compare: Any, run_cells: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    write_demo(tmp_path / "data", 240, rates=(100,))
    arch, method = Reference("prevalence"), Reference("lp", {"probe_epochs": 1})
    seeds, folders = itertools.count(), itertools.count()
    options = Options(runs=tmp_path / "runs", keep_weights="none", console=Console(quiet=True))
    data = OpenData(tmp_path / "data")

    def cells() -> list[Cell]:
        numbers = itertools.islice(seeds, NUM)
        return [Cell(data=data.folder, task="superdiag", arch=arch, method=method, seed=seed) for seed in numbers]

    own: list[float] = []

    def by_worker() -> None:
        began = time.process_time()
        ended = run_cells(cells(), Options(runs=tmp_path / f"runs-{next(folders)}"))
        own.append((time.process_time() - began) / NUM)  # the worker itself is another process
        assert len(ended) == NUM and all(end.folder for end in ended)

    def in_one_process() -> None:
        for cell in cells():
            execute(cell, options, data)

    compare(
        f"{NUM} probes on cached features by a worker: fork, plan, claims and outcomes included",
        by_worker,
        "the same in one process that has all open",
        in_one_process,
        rounds=2,
    )
    print(f"\nplan, claims and outcomes of a cell: {1e3 * min(own):.1f} ms of CPU")
