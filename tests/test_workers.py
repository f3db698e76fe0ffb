"""Workers that share plans: each cell is run once, killed ones lose nothing, and results are those of single runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench.cell import Cell
from bench.console.cells_view import CellsView
from bench.errors import BenchError, Busy
from bench.execute import Options, execute
from bench.launch import workers as working
from bench.launch.outcomes import Ended, failure_of
from bench.launch.plan_folder import Entry, PlanFolder
from bench.launch.workers import Crew, drain
from bench.registry.reference import Reference
from bench.results.failures import Failure
from bench.results.prune import prune
from bench.results.result import Result, find_results
from bench.results.status import survey

QUIET = Console(quiet=True)


def probe(data: Path, epochs: int = 2, seed: int = 0) -> Cell:
    method = Reference("lp", {"probe_epochs": epochs})
    return Cell(
        data=data, task="superdiag", arch=Reference("prevalence"), method=method, seed=seed, precision="float32"
    )


def bench(verb: str, data: Path, runs: Path, method: str, *words: str) -> subprocess.Popen[str]:
    """`bench VERB` in a process group of its own."""
    fixed = ["--task=superdiag", "--arch=prevalence", "--precision=float32", f"--data={data}", f"--runs={runs}"]
    return subprocess.Popen(
        [sys.executable, "-m", "bench", verb, *fixed, f"--method={method}", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def until(happened: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def claimed_by(pid: int, runs: Path) -> list[str]:
    """The claims of a process."""
    texts = [(path.name, read(path)) for path in runs.glob(".plans/claims/*")]
    return [name for name, text in texts if f'"pid": {pid},' in text]


def read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def events(result: Result) -> list[str]:
    lines = (result.folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def assert_same(one: Result, other: Result) -> None:
    """The same bits."""
    assert one.digest == other.digest
    assert one.document["weights_sha256"] == other.document["weights_sha256"]
    assert one.document["metrics"] == other.document["metrics"]
    for fold, scores in one.predictions.items():
        np.testing.assert_array_equal(scores.logits, other.predictions[fold].logits)


@pytest.mark.slow
def test_two_sweeps_a_tuning_and_a_killed_worker_share_a_folder(demo_set: Path, tmp_path: Path) -> None:
    runs, method = tmp_path / "runs", "lp(probe_epochs=40)"
    killed = bench("sweep", demo_set, runs, method, "--seed=0,1,2,3,4")
    until(lambda: claimed_by(killed.pid, runs))
    others = [
        bench("sweep", demo_set, runs, method, "--seed=0,1,2,3,4"),
        bench("sweep", demo_set, runs, method, "--seed=3,4,5,6"),
        bench("tune", demo_set, runs, method, "--trials=3", "--seed=0,1"),
    ]
    (lost, *_) = claimed_by(killed.pid, runs) or [""]
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    said = [process.communicate(timeout=500)[0] for process in others]

    assert [process.returncode for process in others] == [0, 0, 0], said
    assert "5 cells: 5 done" in said[0] and "4 cells: 4 done" in said[1]
    assert len(list(runs.glob(".plans/*/plan.json"))) == 3, "the same command shares its plan"
    assert not list(runs.glob(".plans/claims/*"))
    found = list(find_results(runs))
    finals = [result for result in found if "search" in result.document]
    assert len({result.digest for result in found if result.document["stage"] == "test"}) in (7, 9)
    assert {result.document["stage"] for result in finals} == {"test"}
    for result in found:
        assert events(result).count("finished") == 1
        assert events(result).count("begins") <= (2 if lost else 1)
        cell = result.document["cell"]
        again = replace(probe(demo_set, seed=cell["seed"]), method=Reference.parse(cell["method"]))
        alone = execute(again, Options(runs=tmp_path / "alone", stage=result.document["stage"], console=QUIET))
        assert_same(result, alone)


@pytest.mark.slow
def test_when_time_is_over_the_rest_stays_for_the_next_time(run_cells: Any, demo_set: Path, tmp_path: Path) -> None:
    cells = [probe(demo_set, epochs=200_000, seed=seed) for seed in (0, 1)]
    options = Options(runs=tmp_path, keep_weights="none")
    began = time.monotonic()

    assert run_cells(cells, options, seconds=15) == []

    assert 15 <= time.monotonic() - began < 15 + working.GRACE + 30
    names = [path.name for path in tmp_path.glob(".plans/claims/*")]
    assert sorted(name.rpartition(".")[2] for name in names) == ["1", "free"], "the cell was given back"
    assert {one.state for one in survey(tmp_path)} <= {"unfinished"}


def test_a_worker_begins_no_cell_that_does_not_fit(demo_set: Path, tmp_path: Path) -> None:
    """But one that fits no worker is begun by a fresh one."""
    options = Options(runs=tmp_path)
    cells = [probe(demo_set, seed=seed) for seed in range(3)]
    entries = [Entry.of(cell, options, seconds) for cell, seconds in zip(cells, (5000.0, 60.0, None), strict=True)]
    plan = PlanFolder.of(entries, cells, options)
    with plan.claims() as claims:
        pool = working._Pool(
            plan,
            list(plan.entries),
            options,
            Crew(seconds=1000),
            claims,
            tmp_path,
            None,
            None,  # type: ignore[arg-type]
        )

        def fitting(worked: float) -> list[float | None]:
            pool.began = time.monotonic() - worked
            return [entry.seconds for entry in entries if pool._fits(entry)]

        assert fitting(1) == [5000.0, 60.0, None]
        assert fitting(500) == [60.0, None]
        assert fitting(950) == [None]


def test_an_outcome_of_another_worker_counts(demo_set: Path, tmp_path: Path) -> None:
    options, cell = Options(runs=tmp_path), probe(demo_set)
    result = execute(cell, replace(options, console=QUIET))
    plan = PlanFolder.of([Entry.of(cell, options)], [cell], options)
    (entry,) = plan.entries.values()
    plan.write(entry, Ended(cell, result.folder))

    assert drain(plan, list(plan.entries), options, Crew(), QUIET) == {entry.id: Ended(cell, result.folder)}

    PlanFolder.of([Entry.of(probe(demo_set, seed=1), options)], [probe(demo_set, seed=1)], options)

    def pruned() -> tuple[int, bool]:
        (plans,) = [use for use in prune(tmp_path) if use.name == "plans"]
        return plans.num, plans.removed

    claims = tmp_path / ".plans/claims"
    for name in ("killed.1", "given-back.1", "given-back.1.free", ".clock-0123abcd"):
        (claims / name).touch()
    for path in (tmp_path / ".plans").rglob("*"):
        os.utime(path, (0, 0))
    (claims / "alive.1").touch()
    PlanFolder.of([entry], [cell], options)
    assert pruned() == (0, False), "a command has just read it, and may ask how its cells ended"
    os.utime(plan.folder / "plan.json", (0, 0))
    (rounds := plan.folder / "job-17-0").mkdir()
    (rounds / "round-0").write_text("[]")
    assert pruned() == (0, False), "the other nodes of a job have not read yet that it is over"
    for path in (rounds, rounds / "round-0", plan.folder):
        os.utime(path, (0, 0))
    assert (pruned(), plan.folder.exists()) == ((1, True), False)
    assert len(list(tmp_path.glob(".plans/*/plan.json"))) == 1, "a plan with a cell left stays"
    assert [path.name for path in claims.iterdir()] == ["alive.1"]
    assert drain(plan, [entry.id], options, Crew(), QUIET) == {}, "it was removed while a worker read it"


def test_a_cell_of_a_notebook_waits_for_the_process_that_runs_it(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it was recorded as failed."""
    options, cell = Options(runs=tmp_path), probe(demo_set, epochs=1)
    monkeypatch.setattr(Cell, "of_notebook", ["lp"])
    monkeypatch.setattr(working, "FIRST_WAIT", 0.1)
    calls: list[Cell] = []

    def run_here(cell: Cell, options: Options, data: object) -> Result:
        calls.append(cell)
        if len(calls) == 1:
            raise Busy("another process is running this cell")
        return execute(cell, options)

    monkeypatch.setattr("bench.execute.execute", run_here)
    plan = PlanFolder.of([Entry.of(cell, options)], [cell], options)

    (end,) = drain(plan, list(plan.entries), options, Crew(), QUIET).values()

    assert len(calls) == 2 and end.folder and not end.failure
    assert not list(tmp_path.rglob("*.failed"))


def test_finals_wait_for_their_trials_and_none_runs_if_one_failed(demo_set: Path, tmp_path: Path) -> None:
    trying, options = Options(runs=tmp_path, stage="val"), Options(runs=tmp_path)
    trials, final = [probe(demo_set, epochs) for epochs in (1, 2)], probe(demo_set)
    tries = [Entry.of(cell, trying) for cell in trials]
    entries = [*tries, Entry.of(final, options, best_of=[entry.id for entry in tries])]
    plan = PlanFolder.of(entries, [*trials, final], options)
    plan.write(tries[0], Ended(trials[0], failure=failure(trials[0], "training diverged in phase probe")))
    plan.write(tries[1], Ended(trials[1], failure=failure(trials[1], "ZeroDivisionError")))

    assert list(drain(plan, list(plan.entries), options, Crew(), QUIET)) == [entry.id for entry in tries]
    with pytest.raises(BenchError, match=r"a trial of lp.* failed: ZeroDivisionError; the same command tries it again"):
        plan.cell(entries[2])


def test_cells_that_nobody_runs_are_counted(demo_set: Path, tmp_path: Path) -> None:
    """A SLURM worker whose time is over is requeued for these."""
    trying, options = Options(runs=tmp_path, stage="val"), Options(runs=tmp_path)
    trial = probe(demo_set, 1)
    entries = [Entry.of(trial, trying), Entry.of(trial, options, best_of=[Entry.of(trial, trying).id])]
    plan = PlanFolder.of(entries, [trial, trial], options)
    with plan.claims() as claims:
        assert plan.has_unclaimed()
        assert claims.take(entries[0].id, claims.all())
        assert not plan.has_unclaimed(), "the final cannot run before its trial"
        claims.release(entries[0].id)
        assert plan.has_unclaimed(), "it was given back"
        plan.write(entries[0], Ended(trial, incompatible="too few layers"))
        assert plan.has_unclaimed(), "the final"
        for reason in ("training diverged in phase probe", "ZeroDivisionError"):
            plan.forget([entries[0].id])
            plan.write(entries[0], Ended(trial, failure=failure(trial, reason)))
            assert not plan.has_unclaimed(), "finals without a best setting are not run"


def test_failures_are_not_tried_again_while_another_worker_is_at_work(demo_set: Path, tmp_path: Path) -> None:
    """Each task of a job array gives the same command: what failed in one is not tried once a task."""
    options, cells = Options(runs=tmp_path, stage="val"), [probe(demo_set, epochs) for epochs in (1, 2, 3)]
    entries = [Entry.of(cell, options) for cell in cells]
    failed, gone, running = (entry.id for entry in entries)
    plan = PlanFolder.of(entries, cells, options)
    plan.write(entries[0], Ended(cells[0], failure=failure(cells[0], "ZeroDivisionError")))
    plan.write(entries[1], Ended(cells[1], tmp_path / "a-run-that-was-deleted"))
    with plan.claims() as claims:
        assert claims.take(running, claims.all())
        assert plan.is_at_work()
        plan.forget([failed, gone, running], failed=False)
        assert plan.outcomes() == {failed}
        claims.release(running)
        assert not plan.is_at_work()
        plan.forget([failed, gone, running])
        assert plan.outcomes() == set()


def test_a_worker_leaves_its_cells_to_live_workers_of_its_plan(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SLURM. A cell that a worker of another plan runs gets no outcome in this one by that worker."""
    options, cells = Options(runs=tmp_path), [probe(demo_set, seed=seed) for seed in (0, 1)]
    monkeypatch.setattr(working.PlanFolder, "claims", quick_claims)
    plan, other = (
        PlanFolder.of([Entry.of(cell, options) for cell in some], some, options) for some in (cells[:1], cells)
    )
    (name,) = plan.entries

    def works(holder: PlanFolder) -> tuple[float, bool]:
        with holder.claims() as claims:
            assert claims.take(name, claims.all())
            began = time.monotonic()
            assert drain(plan, [name], options, Crew(seconds=3, stays=False), QUIET) == {}
            return time.monotonic() - began, plan.has_unclaimed()

    took, is_requeued = works(plan)
    assert took < 3 and not is_requeued
    took, is_requeued = works(other)
    assert took >= 3 and is_requeued, "it waits, and waits again when its time is over"


def test_the_last_cell_of_a_dead_machine_is_taken_over(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM has requeued the job so soon that its own claim still counts."""
    options, cell = Options(runs=tmp_path), probe(tmp_path / "nowhere")
    monkeypatch.setattr(working.PlanFolder, "claims", quick_claims)
    plan = PlanFolder.of([Entry.of(cell, options)], [cell], options)
    (name,) = plan.entries
    file = tmp_path / ".plans/claims" / f"{name}.1"
    file.parent.mkdir()
    file.write_text(json.dumps({"place": "another boot", "pid": 1, "birth": "1", "plan": plan.folder.name}))
    assert not plan.has_unclaimed(), "it may live"

    ended = drain(plan, [name], options, Crew(stays=False), QUIET)

    assert [end.failure is not None for end in ended.values()] == [True], "there is no such data set"
    file.write_text(json.dumps({"place": "another boot", "pid": 1, "birth": "1", "plan": plan.folder.name}))
    os.utime(file, (time.time() - 100, time.time() - 100))
    plan.forget([name])
    assert plan.has_unclaimed(), "nobody has touched it for so long that a worker whose time is over is requeued"


def test_an_outcome_that_vanishes_is_none(demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command has removed it, and a listing that is late, as on NFS, still has it."""
    trying, options = Options(runs=tmp_path, stage="val"), Options(runs=tmp_path)
    cell = probe(demo_set)
    trial = Entry.of(cell, trying)
    entries = [trial, Entry.of(cell, options, best_of=[trial.id])]
    plan = PlanFolder.of(entries, [cell, cell], options)
    monkeypatch.setattr(working.PlanFolder, "outcomes", lambda plan: set(plan.entries) if late else set())
    crew = Crew(seconds=2)
    with plan.claims() as claims:
        assert claims.take(trial.id, claims.all())
        late = True
        assert drain(plan, list(plan.entries), options, crew, QUIET) == {}
        late = False
        pool = working._Pool(plan, [entries[1].id], options, crew, claims, tmp_path, CellsView(QUIET, 1), None)
        pool.began, pool.later, pool.ended, pool.next_check = time.monotonic(), {}, {trial.id}, 0.0
        assert pool._next() is None and pool.ended == set(), "the final waits for its trial again"
    late = True
    plan.forget([trial.id], failed=False)
    assert not plan.has_unclaimed()


def test_a_cell_that_was_busy_and_has_ended_elsewhere_holds_no_worker(demo_set: Path, tmp_path: Path) -> None:
    """A run that was started by hand was at work on it, and then another worker had its result."""
    options, crew = Options(runs=tmp_path), Crew(stays=False)
    cells = [probe(demo_set), probe(demo_set, seed=1)]
    busy, run = entries = [Entry.of(cell, options) for cell in cells]
    plan = PlanFolder.of(entries, cells, options)
    with plan.claims() as claims:
        assert claims.take(run.id, claims.all()), "a live worker runs the other cell"
        pool = working._Pool(plan, [busy.id, run.id], options, crew, claims, tmp_path, CellsView(QUIET, 1), None)
        pool.ended, pool.outcomes, pool.next_look, pool.next_sign = set(), {}, 0.0, 0.0
        pool.later, pool.signs = {busy.id: (time.monotonic(), 1.0)}, {run.id: (0, 0.0)}
        assert pool._waits()
        plan.write(busy, Ended(cells[0], failure=failure(cells[0], "it failed")))
        pool._look()
        assert pool.left == [run.id]
        assert not pool._waits()


def failure(cell: Cell, reason: str) -> Failure:
    return failure_of(cell, "val", reason, "")


def test_a_cell_of_a_cut_off_machine_is_stopped(
    run_cells: Any, demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker has its claim: this one stops its process and takes the cell again only when it may."""
    cell, options = probe(demo_set, epochs=200_000), Options(runs=tmp_path, keep_weights="none")
    monkeypatch.setattr(working.PlanFolder, "claims", quick_claims)
    seen: list[Sequence[str]] = []
    give_up = working._Pool._give_up

    def note(pool: working._Pool, claim: str) -> None:
        give_up(pool, claim)
        seen.append(list(pool.tasks))
        pool.left.clear()

    monkeypatch.setattr(working._Pool, "_give_up", note)
    begin = working._Pool._begin

    def taken_over(pool: working._Pool, slot: int, task: "working._Task") -> None:
        begin(pool, slot, task)
        (tmp_path / ".plans/claims" / f"{task.claim}.2").write_text("{}")

    monkeypatch.setattr(working._Pool, "_begin", taken_over)

    assert run_cells([cell], options) == []
    assert seen == [[]]


def quick_claims(plan: PlanFolder) -> "working.Claims":
    return working.Claims(plan.runs / ".plans/claims", plan.folder.name, beat=0.1, lease=5)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")
def test_a_cell_of_two_processes_is_stopped_with_them(
    run_cells: Any, demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold the run's lock, so who has taken the cell over could not begin."""
    cell, options = probe(demo_set, epochs=200_000), Options(runs=tmp_path, keep_weights="none")
    monkeypatch.setattr(working.PlanFolder, "claims", quick_claims)
    give_up, begin = working._Pool._give_up, working._Pool._begin
    left: list[int] = []

    def ranks() -> list[int]:
        texts = {pid: read(pid / "cmdline") for pid in Path("/proc").glob("[0-9]*")}
        return [int(pid.name) for pid, text in texts.items() if f"\0--runs={tmp_path}\0" in text]

    def note(pool: working._Pool, claim: str) -> None:
        assert len(ranks()) == 2
        give_up(pool, claim)
        left.extend(ranks())
        pool.left.clear()

    def taken_over(pool: working._Pool, slot: int, task: "working._Task") -> None:
        begin(pool, slot, task)
        until(lambda: list(tmp_path.glob("superdiag/*.unfinished/log.jsonl")))
        (tmp_path / ".plans/claims" / f"{task.claim}.2").write_text("{}")

    monkeypatch.setattr(working._Pool, "_give_up", note)
    monkeypatch.setattr(working._Pool, "_begin", taken_over)
    try:
        assert run_cells([cell], options, nproc=2) == []
        assert left == []
        assert {one.state for one in survey(tmp_path)} == {"unfinished"}, "nobody holds its lock"
    finally:
        for pid in ranks():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose file system seems to have no locks, no links and no renames over a file."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path / "no_locks.so"
    source = Path(__file__).with_name("no_locks.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    folder = tmp_path / "without"
    folder.mkdir()
    monkeypatch.setenv("WITHOUT", str(folder))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    return folder


TRIES = """
import fcntl, os, sys
os.chdir(sys.argv[1])
for name in ("a", "b"):
    open(name, "w").close()
for what in (lambda: fcntl.flock(open("a"), fcntl.LOCK_EX), lambda: os.link("a", "c"), lambda: os.rename("a", "b")):
    try:
        what()
    except OSError:
        print("refused")
"""


@pytest.mark.slow
def test_sweeps_share_a_folder_without_locks_links_and_renames_over_a_file(demo_set: Path, no_locks: Path) -> None:
    tried = subprocess.run([sys.executable, "-c", TRIES, no_locks], capture_output=True, text=True, check=True)
    assert tried.stdout.split() == ["refused"] * 3
    runs, method = no_locks / "runs", "lp(probe_epochs=40)"
    killed = bench("sweep", demo_set, runs, method, "--seed=0,1,2,3")
    until(lambda: claimed_by(killed.pid, runs))
    both = [bench("sweep", demo_set, runs, method, "--seed=0,1,2,3") for _ in range(2)]
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    said = [process.communicate(timeout=500)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert all("4 cells: 4 done" in text for text in said)
    found = list(find_results(runs))
    assert len(found) == 4
    assert [events(result).count("finished") for result in found] == [1] * 4
    assert sum(events(result).count("begins") > 1 for result in found) <= 1
    assert not list(runs.glob(".plans/claims/*"))
