"""What several test modules share: a small synthetic PTB-XL, the real one if there is one, and a cache of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# before torch looks: tests are of the CPU, and start more ranks than a machine may have GPUs; benchmarks may name one
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("BENCH_GPU", "")

import pandas as pd
import pytest
from rich.console import Console

from bench.data.datasets.ptbxl import STATEMENTS, TABLE
from bench.demo.dataset import write_demo
from bench.evaluation.permutation import Placing, permutation_ps

if TYPE_CHECKING:
    from bench.cell import Cell
    from bench.execute import Options
    from bench.launch.outcomes import Ended

NUM_DEMO_RECORDS = 240
RunCells = Callable[..., "list[Ended]"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell gives it to jobs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what tests start shall heed Ctrl-C


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new $BENCH_CACHE, so that no test reads or writes the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def demo_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic PTB-XL of 240 records at both rates; read it, never write into it."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    write_demo(folder, NUM_DEMO_RECORDS, seed=1)
    return folder


@pytest.fixture(scope="session")
def copy_first(demo_set: Path) -> Callable[[int, Path], None]:
    """Copies the first so many records of the demo set, at 100 Hz alone, to a new folder that may be damaged."""

    def copy(num: int, folder: Path) -> None:
        (folder / "records100/00000").mkdir(parents=True)
        shutil.copy(demo_set / STATEMENTS, folder / STATEMENTS)
        rows = pd.read_csv(demo_set / TABLE).head(num)
        rows.to_csv(folder / TABLE, index=False)
        for name in rows["filename_lr"]:
            for ending in (".hea", ".dat"):
                shutil.copy(demo_set / (name + ending), folder / (name + ending))

    return copy


@pytest.fixture(scope="session")
def ptbxl() -> Path:
    """The folder of the real PTB-XL that $BENCH_DATA names; skips without."""
    named = os.environ.get("BENCH_DATA")
    if not named:
        pytest.skip("needs the real PTB-XL: set BENCH_DATA to its folder")
    if not (Path(named) / "ptbxl_database.csv").is_file():
        pytest.skip(f"BENCH_DATA={named} is no PTB-XL folder")
    return Path(named)


@pytest.fixture(scope="session")
def run_cells() -> RunCells:
    """Runs cells by a plan on disk and its workers, as a sweep does, and returns how they ended, in this order."""
    from bench.launch.outcomes import cell_id
    from bench.launch.plan_folder import Entry, PlanFolder
    from bench.launch.workers import Crew, drain

    def run(cells: Sequence[Cell], options: Options, *, nproc: int = 1, seconds: float | None = None) -> list[Ended]:
        plan = PlanFolder.of([Entry.of(cell, options) for cell in cells], cells, options)
        ids = [cell_id(cell, options.stage) for cell in cells]
        plan.forget(ids)
        ended = drain(plan, ids, options, Crew.of(1, nproc, seconds), Console(quiet=True))
        return [ended[each] for each in ids if each in ended]

    return run


@pytest.fixture(scope="session")
def permutation_p() -> Callable[..., float]:
    """The two-sided p of no difference in macro AUROC over the mask `labels`, of a pair of rows tested alone."""

    def alone(
        patient_id: Any, y_true: Any, first: Any, second: Any, labels: Any, num_permutations: int = 10_000, **seed: int
    ) -> float:
        placing = Placing(y_true[:, labels], patient_id)
        of_runs = [[placing.place(y_score[:, labels]) for y_score in runs] for runs in (first, second)]
        return float(permutation_ps(placing.patient_effects(*of_runs)[:, None], num_permutations, **seed)[0])

    return alone


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers, as behind many firewalls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


BROWSER_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")  # while it is open, its thread runs a loop of asyncio
def browser() -> Iterator[Any]:
    """Headless Chromium; skips where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    own = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=own, args=BROWSER_ARGUMENTS)
        except api.Error as error:
            pytest.skip(f"needs Chromium (python -m playwright install chromium): {str(error).splitlines()[0]}")
        yield started
        started.close()
