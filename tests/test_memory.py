"""A cell's peak memory is that of the cell, whatever ran before it in its process; or it is not known."""

import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.cell import Cell
from bench.execute import Options, execute
from bench.launch import workers
from bench.processes import mark_fresh, use_up
from bench.registry.reference import Reference
from bench.training import memory
from bench.training.memory import PeakMemory, keep_freed_memory

CPU = torch.device("cpu")
LINUX = pytest.mark.skipif(not memory.CLEAR_REFS.exists(), reason="Linux alone can reset the peak of a process")


def cell(data: Path, arch: str, method: str = "ft(finetune_epochs=1)") -> Cell:
    references = {"arch": Reference(arch), "method": Reference.parse(method)}
    return Cell(data=data, task="superdiag", precision="float32", **references)


@pytest.fixture
def costs(run_cells: Any) -> Callable[[list[Cell], Path], list[dict[str, Any]]]:
    """What cells cost that a sweep runs after each other."""

    def of(cells: list[Cell], runs: Path) -> list[dict[str, Any]]:
        ended = run_cells(cells, Options(runs=runs, keep_weights="none"))
        return [one.result().document["cost"] for one in ended]

    return of


def test_memory_of_a_gpu_that_was_freed_is_returned_before_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next cell of a process finds less of it free; a model refers to itself by its hooks."""
    done, model = list[str](), torch.nn.Linear(1, 1)
    model.register_forward_hook(lambda *_, own=model: None)
    left = weakref.ref(model)
    del model
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append(f"returned, model {left()}"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: done.append("measured"))

    PeakMemory.begin(torch.device("cuda", 0))
    assert done == ["returned, model None", "measured"]
    PeakMemory.begin(CPU)
    assert len(done) == 2


@LINUX
@pytest.mark.slow
def test_a_cell_holds_the_same_whatever_ran_before_it(
    costs: Any, demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a small cell recorded the peak of a large one before it, and a large one the gaps that a small one left."""
    monkeypatch.setattr(workers, "LONG", 1.0)
    large, small = cell(demo_set, "inception1d"), cell(demo_set, "net1d_mini")
    large_first, small_second = costs([large, small], tmp_path / "large first")
    small_first, large_second = costs([small, large], tmp_path / "small first")

    assert {one["peak_memory_measured_by"] for one in (large_first, small_second)} == {memory.FRESH}
    assert large_first["peak_memory_mib"] > 1.3 * small_first["peak_memory_mib"], "the difference must show"
    assert small_second["peak_memory_mib"] == pytest.approx(small_first["peak_memory_mib"], rel=0.1)
    assert large_second["peak_memory_mib"] == pytest.approx(large_first["peak_memory_mib"], rel=0.1)


@LINUX
def test_the_second_of_two_short_cells_has_no_figure(
    costs: Any, demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "LONG", 600.0)
    cells = [cell(demo_set, "prevalence", f"lp(probe_epochs={epochs})") for epochs in (1, 2)]
    first, second = costs(cells, tmp_path)

    assert first["peak_memory_measured_by"] == memory.FRESH and 100 < first["peak_memory_mib"] < 1000
    assert second["peak_memory_measured_by"] is None and second["peak_memory_mib"] is None


ANOTHER = """
import sys, torch
from bench.processes import mark_fresh
from bench.training.memory import PeakMemory, keep_freed_memory

torch.set_num_threads(1)
keep_freed_memory()


def hold(mib):  # in blocks as those of training, of which glibc keeps all
    blocks = [torch.ones(2**18) for _ in range(mib)]


peaks = []
for mib in (50, 900, 50, 300):
    mark_fresh()
    peak = PeakMemory.begin(torch.device("cpu"))
    hold(mib)
    peaks.append(peak.mib())
print(*peaks)
"""


@LINUX
def test_what_was_freed_before_is_not_counted() -> None:
    done = subprocess.run([sys.executable, "-c", ANOTHER], capture_output=True, text=True, check=True)
    small, large, again, middle = map(float, done.stdout.split())

    assert large - small == pytest.approx(850, abs=20)
    assert again == pytest.approx(small, abs=20)
    assert middle - small == pytest.approx(250, abs=20)


@LINUX
def test_a_process_does_not_inherit_the_peak_of_the_one_that_started_it() -> None:
    """As ru_maxrss does: a notebook that holds 700 MiB and sweeps would give them to every cell."""
    held = torch.ones(700 * 2**18)
    code = (
        "import torch; from bench.processes import mark_fresh; from bench.training.memory import PeakMemory;"
        "mark_fresh(); print(PeakMemory.begin(torch.device('cpu')).mib())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert held.numel() and 50 < float(done.stdout) < 650


@pytest.mark.parametrize("lacking", ["malloc_trim", "clear_refs", "a fresh process"])
def test_what_cannot_be_known_is_not_recorded(
    lacking: str, demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark_fresh()
    if lacking == "a fresh process":
        use_up()
    if lacking == "clear_refs":
        monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "nowhere" / "clear_refs")
    if lacking == "malloc_trim":
        monkeypatch.setattr(memory, "_of_libc", lambda name: None)
    result = execute(cell(demo_set, "prevalence", "lp(probe_epochs=1)"), Options(runs=tmp_path / "runs"))

    cost = result.document["cost"]
    assert cost["peak_memory_mib"] is None and cost["peak_memory_measured_by"] is None
    assert cost["seconds"] > 0


def test_without_glibc_nothing_is_kept_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    keep_freed_memory()
    assert not memory._trim()


GROWTH = """
import torch
from pathlib import Path
from torch import nn
from bench.training.batches import FeatureSource
from bench.training.distributed import World
from bench.training.features import run_windows
from bench.training.memory import keep_freed_memory

keep_freed_memory()
torch.set_num_threads(1)
wide = nn.Sequential(nn.Linear(8, 100_000), nn.GELU(), nn.Linear(100_000, 5))
source = FeatureSource(torch.randn(64 * 24, 3, 8), torch.zeros(64 * 24, 5))
resident = lambda *_: seen.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20)
seen = []
run_windows(wide, source, World(0, 1, torch.device("cpu")), "float32", progress=resident)
print(*seen)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux states the memory of a process")
def test_predicting_more_records_takes_no_more_memory() -> None:
    """Outputs that stayed between the blocks which a batch frees cost ST-MEM 4 GB in fold 9.

    Here they cost 1,000 MiB in 24 batches, in about every second process: addresses differ by chance.
    """
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
        mib = [int(each) for each in done.stdout.split()]

        assert len(mib) == 24
        assert mib[-1] - mib[8] < 200, mib
