"""A grid of cells: which there are, which are done, and what comes of failing, killed and interrupted workers."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

import bench
from bench.boards.rows import make_boards
from bench.boards.truth import Truth
from bench.cell import Cell
from bench.data.datasets.ptbxl import TABLE
from bench.errors import BenchError, DataError
from bench.execute import Options, execute
from bench.launch import plan as planning
from bench.launch.outcomes import Ended, cell_id, failure_of, failure_path
from bench.launch.plan import Planned, longest_first, make_plan
from bench.launch.plan_folder import Entry, PlanFolder
from bench.launch.sweep import Grid, Shard, _remarks, _tested_also, names, numbers
from bench.launch.workers import share_of
from bench.registry.reference import Reference
from bench.registry.registry import _REGISTRY, PLUGIN_FILES, load_plugin, registry
from bench.results.failures import Failure
from bench.results.prune import prune
from bench.results.result import RESULT, Result, find_results, load_head, load_result
from bench.results.run_folder import RunFolder, lock_of
from bench.results.status import survey
from methods.full_finetune import FullFinetune

QUIET = Console(quiet=True)


def probe(data: Path, seed: int = 0, epochs: int = 2, **others: Any) -> Cell:
    """A cell that is quick to run: a head on a constant feature."""
    method = Reference("lp", {"probe_epochs": epochs})
    return Cell(data=data, task="superdiag", arch=Reference("prevalence"), method=method, seed=seed, **others)


def test_stars_and_groups_are_spelled_out(demo_set: Path) -> None:
    published = ["all", "diag", "subdiag", "superdiag", "form", "rhythm"]
    assert names("task", "all-tasks", demo_set) == published
    assert names("task", "*", demo_set) == sorted([*published, "nondiag"]), "no task of another dataset"
    assert set(names("method", "*", demo_set)) >= {"ft", "lp", "lpft-sd", "scratch"}
    assert names("backbone", "net1d_mini,*", demo_set)[0] == "net1d_mini"


def test_numbers_are_read_or_named() -> None:
    assert numbers("--fraction", "0.01, 1", float) == [0.01, 1.0]
    with pytest.raises(BenchError, match="--seed takes numbers with commas between them, got '0,one'"):
        numbers("--seed", "0,one", int)


def test_a_grid_has_every_cell_once(demo_set: Path) -> None:
    grid = Grid(
        data=demo_set,
        tasks=["superdiag", "superdiagnostic", "form"],
        archs=[Reference("prevalence"), Reference("net1d-mini")],
        methods=[Reference("lp"), Reference("lp", {"probe_epochs": 1}), Reference("lp", {"probe_lr": 1e-3})],
        fractions=[0.1, 1.0],
        draws=[0, 1],
        seeds=[0, 1],
    )
    default = registry().find("method", "lp").parameters["probe_lr"].default
    kinds = 2 if default == 1e-3 else 3
    cells = grid.cells()

    assert len(cells) == 2 * 2 * kinds * 2 * 3, "all training records have one draw"
    assert len({cell.command() for cell in cells}) == len(cells)
    assert {(cell.fraction, cell.draw) for cell in cells} == {(0.1, 0), (0.1, 1), (1.0, 0)}
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells), "a whole board before its next seed"


@pytest.fixture(scope="module")
def done(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cell, Result]:
    """A runs folder with one finished cell; look at it, leave it as it is."""
    runs = tmp_path_factory.mktemp("runs")
    cell = probe(demo_set)
    return runs, cell, execute(cell, Options(runs=runs, keep_weights="none", console=QUIET))


def states(cells: list[Cell], runs: Path, **options: Any) -> list[str]:
    """What a plan says of each."""
    return [one.state for one in make_plan(cells, Options(runs=runs, **options)).cells]


def test_a_plan_knows_what_is_done(done: tuple[Path, Cell, Result], demo_set: Path) -> None:
    runs, cell, result = done
    others = [
        probe(demo_set, seed=1),
        probe(demo_set, fraction=0.5),
        probe(demo_set, epochs=3),
        probe(demo_set, precision="float64"),
        replace(cell, task="form"),
        replace(cell, arch=Reference("net1d_mini")),
    ]

    assert states([cell, *others], runs) == ["done"] + ["to do"] * len(others)
    assert states([cell], runs, stage="val") == ["to do"], "a test result is none of val"
    assert states([cell, replace(cell, init="random")], runs) == ["done"], "random is this backbone's default"
    seconds = [one.seconds for one in make_plan([cell, *others], Options(runs=runs)).cells]
    assert seconds == [None, pytest.approx(result.document["cost"]["seconds"])] + [None] * 2 + [seconds[1]] * 2 + [None]


def test_a_damaged_run_does_not_stop_a_plan(done: tuple[Path, Cell, Result], tmp_path: Path) -> None:
    runs, cell, result = done
    shutil.copytree(runs, tmp_path / "runs")
    damaged = tmp_path / "runs/superdiag/net-ft-seed0-00000001" / RESULT
    damaged.parent.mkdir()
    damaged.write_text("{")
    options = Options(runs=tmp_path / "runs", keep_weights="none")
    plan = make_plan([cell], options)

    assert [one.state for one in plan.cells] == ["done"]
    (line,) = _remarks(plan, options, 1, False)
    assert line.startswith(f"damaged: {damaged} is damaged")
    (tmp_path / "runs/superdiag" / result.folder.name / RESULT).write_text("{")
    assert [one.state for one in make_plan([cell], options).cells] == ["to do"]


def test_a_cell_that_ran_on_other_hardware_is_done(
    done: tuple[Path, Cell, Result], demo_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login node without bf16 plans what nodes with it have done, and the other way round."""
    runs, cell, result = done
    cell = replace(cell, precision="auto")
    there = result.cell["precision"]
    for has_bf16 in (True, False):
        monkeypatch.setattr("bench.training.precision._is_faster_in_bf16", lambda device, has=has_bf16: has)
        here = "bf16" if has_bf16 else "float32"
        (planned,) = make_plan([cell], Options(runs=runs), elsewhere=True).cells
        assert planned.state == "done"
        assert states([cell], runs) == ["done" if here == there else "to do"]
    fixed = replace(cell, precision="float64")
    assert [one.state for one in make_plan([fixed], Options(runs=runs), elsewhere=True).cells] == ["to do"]


def test_a_changed_default_is_to_do_and_changed_code_is_stale(
    done: tuple[Path, Cell, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, cell, _ = done
    facts = planning.plugin_facts

    def changed(key: str, value: Any) -> Callable[..., dict[str, Any]]:
        return lambda kind, reference: {**facts(kind, reference), **({key: value} if kind == "method" else {})}

    monkeypatch.setattr(planning, "plugin_facts", changed("resolved", {"probe_epochs": 2, "probe_lr": 0.123}))
    assert states([cell], runs) == ["to do"]
    monkeypatch.setattr(planning, "plugin_facts", changed("code_sha256", "0" * 64))
    plan = make_plan([cell], Options(runs=runs))
    assert [(one.state, one.reason) for one in plan.cells] == [
        ("stale", "method lp (methods.linear_probe) has changed since")
    ]
    assert list(_remarks(plan, Options(runs=runs), 1, False)) == [
        "stale: 1 finished cells; method lp (methods.linear_probe) has changed since; --rerun-stale runs them again"
    ]


def test_what_is_asked_of_finished_cells_and_not_done_is_said(
    done: tuple[Path, Cell, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, cell, result = done
    shutil.copytree(runs, tmp_path / "runs")
    plan = make_plan([cell], options := Options(runs=tmp_path / "runs", also_on=(tmp_path,)))
    (weights := tmp_path / "runs" / result.folder.relative_to(runs) / "weights.pt").touch()
    assert not [line for line in _remarks(plan, options, 1, False) if line.startswith(("weights", "--also-on"))]
    weights.unlink()

    told = list(_remarks(plan, options, 1, False, on_slurm=True))

    assert f"weights: 1 finished cells have not kept theirs; to have them, train again: {cell.command()}" in told[0]
    assert "--also-on: 1 cells are finished and not tested by jobs of SLURM; the same command with --launch" in told[1]
    monkeypatch.setattr("bench.launch.sweep.evaluate_also", lambda *given: pytest.fail("its time is over"))
    assert list(_tested_also(plan, options, time.monotonic())) == [
        "time is over: 1 cells that were finished before are left to test; the same command goes on"
    ]


def test_the_result_of_present_code_is_the_cells_and_not_a_stale_one(
    done: tuple[Path, Cell, Result], tmp_path: Path
) -> None:
    """Both are of this cell; the stale one is a decline, and its folder comes first."""
    runs, cell, result = done
    shutil.copytree(runs, tmp_path / "runs")
    fresh = tmp_path / "runs" / "superdiag" / result.folder.name
    stale = fresh.with_name(f"a-{fresh.name}")
    shutil.copytree(fresh, stale)
    document = json.loads((stale / RESULT).read_text())
    document["method"]["code_sha256"], document["incompatible"] = "0" * 64, "it will not"
    (stale / RESULT).write_text(json.dumps(document))

    (planned,) = make_plan([cell], Options(runs=tmp_path / "runs")).cells
    assert (planned.state, planned.reason, planned.folder) == ("done", "", fresh)
    shutil.rmtree(fresh)
    (planned,) = make_plan([cell], Options(runs=tmp_path / "runs")).cells
    assert (planned.state, planned.folder) == ("stale", stale)
    assert planned.reason == "method lp (methods.linear_probe) has changed since"


def test_a_decline_in_phases_is_a_decline_and_ends_no_sweep(demo_set: Path, tmp_path: Path) -> None:
    """A backbone of one layer group: `phases` of ft-hubert-ecg says so before there is a model."""
    reason = "its first layer group stays frozen, and this backbone has only one"
    out = Console(file=io.StringIO(), width=200)

    def sweep(**options: Any) -> list[tuple[str, str, str]]:
        methods = ["ft-hubert-ecg", "ft(finetune_epochs=1)"]
        given = {"data": demo_set, "seed": 0, "runs": tmp_path, "out": out, "console": QUIET}
        swept = bench.sweep(methods, "superdiag", "prevalence", **given, **options)
        facts = [(cell.cell.method, cell.as_data()) for cell in swept.cells]
        return [(str(method), each["state"], each["reason"]) for method, each in facts]

    assert [state for _, state, _ in sweep(dry_run=True)] == ["to do", "to do"]
    ended = [("ft-hubert-ecg", "declined", reason), ("ft(finetune_epochs=1)", "done", "")]
    assert sweep() == ended
    assert sweep(dry_run=True) == ended, "and is recorded"
    (declined,) = [result for result in find_results(tmp_path) if result.incompatible]
    assert declined.document["method"]["phases"] == []


def test_a_method_whose_code_fails_ends_no_plan(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [probe(demo_set), replace(probe(demo_set), method=Reference("ft"))]
    monkeypatch.setattr(FullFinetune, "phases", lambda self, layer_groups: 1 / 0)

    assert states(cells, tmp_path) == ["to do", "to do"], "whoever runs it has its traceback"


def test_weights_from_a_file_count_by_what_is_in_it(demo_set: Path, tmp_path: Path) -> None:
    runs, file = tmp_path / "runs", tmp_path / "start.pt"
    cell = probe(demo_set, init=str(file))
    torch.save({"constant": torch.ones(1)}, file)
    execute(cell, Options(runs=runs, console=QUIET))

    assert states([cell], runs) == ["done"]
    torch.save({"constant": torch.zeros(1)}, file)
    assert states([cell], runs) == ["to do"]
    file.unlink()
    assert states([cell], runs) == ["to do"], "whoever runs it will say what is missing"


@pytest.mark.parametrize("init", ["pretrained", "pretrained@abc"])
def test_published_weights_of_a_backbone_without_any_are_left_out(demo_set: Path, tmp_path: Path, init: str) -> None:
    plan = make_plan([probe(demo_set), probe(demo_set, init=init)], Options(runs=tmp_path))

    assert (len(plan.cells), plan.left_out) == (1, 1)


FAULTY = '''
"""Methods that fail, each in its own way, unless $MENDED is a file; this module notes who imports it, and whose child
that is."""

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from bench.plugin import Incompatible, Method, Phase, register_method

with open(os.environ["IMPORTS"], "a") as file:
    file.write(f"{os.getpid()} {os.getppid()}\\n")


@dataclass(frozen=True)
class Probe(Method):
    """A head."""

    epochs: int = 1

    def phases(self, layer_groups):
        return [Phase(name="probe", learning_rates={"head": 1e-2}, epochs=self.epochs)]

    def prepare(self, model, init):
        if not Path(os.environ["MENDED"]).exists():
            self.fail()

    def fail(self):
        pass


@register_method("buggy")
class Buggy(Probe):
    """A bug."""

    def fail(self):
        print("about to fail")
        raise ZeroDivisionError("a bug of [mine]")


@register_method("deadly")
class Deadly(Probe):
    """What the kernel does to a process that takes too much memory."""

    def fail(self):
        os.kill(os.getpid(), signal.SIGKILL)


@register_method("declining")
class Declining(Probe):
    """Never."""

    def prepare(self, model, init):
        raise Incompatible("it will not")
'''


class Sweeps:
    """`bench sweep` and other verbs in processes of their own, where the faulty methods are installed."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.runs, self.mended = data, folder / "runs", folder / "mended"
        self.imports = folder / "imports"
        about = folder / "site" / "faulty-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[bench.plugins]\nfaulty = faulty\n")
        (folder / "site" / "faulty.py").write_text(FAULTY)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder / "site"),
            "IMPORTS": str(self.imports),
            "MENDED": str(self.mended),
            "COLUMNS": "200",
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        """`bench WORDS` in a process group of its own, as a terminal starts it."""
        return subprocess.Popen(
            [sys.executable, "-m", "bench", *words, "--runs", str(self.runs)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def sweep(self, *words: str) -> subprocess.Popen[str]:
        """`bench sweep` on superdiag and the constant feature, in float32."""
        fixed = ("--task", "superdiag", "--arch", "prevalence", "--precision", "float32", "--data", str(self.data))
        return self.start("sweep", *fixed, *words)

    def status(self) -> list[dict[str, Any]]:
        """What `bench status` says of each cell."""
        out, _ = ends(self.start("status", "--json"), 0)
        found: list[dict[str, Any]] = json.loads(out)["cells"]
        return found

    def importers(self) -> list[int]:
        """The processes that have imported the faulty methods, in order."""
        return [int(line.split()[0]) for line in self.imports.read_text().splitlines()]

    def parents(self) -> list[int]:
        """The process that has started each of `importers`."""
        return [int(line.split()[1]) for line in self.imports.read_text().splitlines()]


@pytest.fixture
def sweeps(demo_set: Path, tmp_path: Path) -> Sweeps:
    return Sweeps(demo_set, tmp_path)


def ends(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
    """What a process printed, once it has ended as expected."""
    out, err = process.communicate(timeout=180)
    assert process.returncode == code, out + err
    return out, err


@pytest.mark.slow
def test_a_failing_cell_stops_no_other_and_is_tried_again(sweeps: Sweeps) -> None:
    words = ("--method", "lp(probe_epochs=1),lp(probe_lr=1e30),buggy,deadly,declining", "--jobs", "2", "--seed", "0")
    out, err = ends(sweeps.sweep(*words), 1)

    assert "5 cells: 1 done, 1 declined, 3 failed" in out
    lines = err.splitlines()
    assert len(lines) == 5, "a line a cell, and nothing else"
    assert all(line.startswith("[") for line in lines), err
    importers = sweeps.importers()
    assert len(set(importers)) == len(importers) <= 1 + 2 + 2, "the sweep, a process a worker, and after each crash"
    assert len(set(sweeps.parents()[1:])) == 1, "one process imports torch, and the others are forked from it"
    found = sweeps.status()
    assert sorted(one["state"] for one in found) == ["declined", "done", "failed", "failed", "failed"]
    reasons = {one["reason"]: Path(one["path"]) for one in found if one["state"] == "failed"}
    assert set(reasons) == {
        "ZeroDivisionError: a bug of [mine]",
        "its process was killed by SIGKILL",
        next(reason for reason in reasons if reason.startswith("training diverged in phase probe")),
    }
    assert all(f": {reason}\n" in out for reason in reasons)
    failure = Failure.read(reasons["ZeroDivisionError: a bug of [mine]"])
    assert "about to fail" in failure.details
    assert 'raise ZeroDivisionError("a bug of [mine]")' in failure.details
    assert failure.command.startswith("bench run --task superdiag --arch prevalence --method buggy")
    before = {path: path.stat().st_mtime_ns for path in sweeps.runs.rglob(RESULT)}

    sweeps.mended.touch()
    sweeps.imports.unlink()
    out, err = ends(sweeps.sweep(*words), 1)
    assert "5 cells: 3 done, 1 declined, 1 failed" in out
    assert len(err.splitlines()) == 3, "what is done is not done again"
    assert before.items() <= {path: path.stat().st_mtime_ns for path in sweeps.runs.rglob(RESULT)}.items()
    assert len(sweeps.importers()) == 1 + 2, "a worker runs one cell after the other"
    assert sorted(one["state"] for one in sweeps.status()) == ["declined", "done", "done", "done", "failed"]


def is_alive(pid: int) -> bool:
    """Whether a process exists that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    """Wait for it while the process lives."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_an_interrupted_sweep_leaves_no_process_and_goes_on(sweeps: Sweeps) -> None:
    words = ("--method", "lp(probe_epochs=600)", "--seed", "0,1,2,3", "--jobs", "2")
    for how in ("Ctrl-C", "SIGTERM", "SIGKILL"):
        begun = numbered(sweeps.runs)
        process = sweeps.sweep(*words)
        until(lambda begun=begun: len(numbered(sweeps.runs) - begun) >= 2, process)  # type: ignore[misc]
        if how == "Ctrl-C":  # a terminal's reaches every process of the group
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
        out, err = ends(process, -signal.SIGKILL if how == "SIGKILL" else 130)

        if how != "SIGKILL":
            assert err.strip().splitlines()[-1] == "interrupted; the same command resumes where this one stopped"
        assert "Traceback" not in out + err
        deadline = time.monotonic() + 20
        while any(map(is_alive, sweeps.importers())):
            assert time.monotonic() < deadline, "a worker outlives its sweep"
            time.sleep(0.1)
        found = {one.state for one in survey(sweeps.runs)}
        assert "unfinished" in found
        assert not found & {"failed", "running"}
    out, err = ends(sweeps.sweep(*words), 0)

    assert "4 cells: 4 done, 0 declined, 0 failed" in out
    logs = [result.folder / "log.jsonl" for result in find_results(sweeps.runs)]
    assert any("resumed in phase probe" in log.read_text() for log in logs)


def numbered(runs: Path) -> set[str]:
    """Every checkpoint that there is now."""
    return {str(path) for path in runs.glob("superdiag/*/checkpoint-*.pt")}


@pytest.fixture
def ended(run_cells: Any) -> Callable[..., list[Ended]]:
    """Runs cells below a folder and keeps no weights."""
    return lambda cells, runs, **crew: run_cells(cells, Options(runs=runs, keep_weights="none"), **crew)


def assert_same(one: Result, other: Result) -> None:
    """All but time and machine, to the bit."""
    for key in ("cell", "init", "digest", "metrics", "weights_sha256"):
        assert one.document[key] == other.document[key], key
    assert one.predictions.keys() == other.predictions.keys()
    for fold, scores in one.predictions.items():
        np.testing.assert_array_equal(scores.logits, other.predictions[fold].logits)


@pytest.mark.slow
def test_workers_give_the_results_of_single_runs(ended: Any, demo_set: Path, tmp_path: Path) -> None:
    mini = {"data": demo_set, "task": "form", "arch": Reference("net1d_mini"), "precision": "float32"}
    cells = [
        Cell(**mini, method=Reference("ft-sd", {"finetune_epochs": 2}), fraction=0.5, seed=seed) for seed in (0, 1)
    ]
    cells.append(replace(cells[0], method=Reference("lp", {"probe_epochs": 2})))
    together = [one.result() for one in ended(cells, tmp_path / "one")]

    for cell, result in zip(cells, together, strict=True):
        alone = execute(cell, Options(runs=tmp_path / "other", console=QUIET))
        assert_same(load_result(alone.folder), result)
        assert not (result.folder / "weights.pt").exists()
    assert len({result.document["weights_sha256"] for result in together}) == 3, "they did train"


@pytest.mark.slow
def test_cells_run_in_the_surroundings_of_their_sweep(
    ended: Any, demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in those of an earlier one, of which the process remains that cells are forked from."""
    cells = [replace(probe(demo_set, seed=seed, epochs=1), arch=Reference("net1d_mini")) for seed in (0, 1)]
    for name, cell in zip(("one", "other"), cells, strict=True):
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / name))
        (tmp_path / "at" / name).mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "at" / name)
        (end,) = ended([cell], Path("runs"))

        assert end.failure is None
        assert any((tmp_path / name).iterdir()), "what is prepared is kept where $BENCH_CACHE says now"
        assert list(find_results(tmp_path / "at" / name / "runs"))


@pytest.mark.slow
def test_cells_of_two_processes_each(ended: Any, demo_set: Path, tmp_path: Path) -> None:
    cell = probe(demo_set)
    good, bad = ended([cell, probe(demo_set, init="nowhere.pt")], tmp_path, nproc=2)

    assert good.result().document["environment"]["ranks"] == 2
    assert bad.failure is not None
    assert bad.failure.reason.startswith("no file of weights at nowhere.pt. Expected: pretrained, random")
    with pytest.raises(BenchError, match="no file of weights"):
        bad.result()


@pytest.mark.slow
def test_a_bug_on_ranks_is_told_with_its_traceback(
    ended: Any, demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "explodes.py"
    plugin.write_text(
        textwrap.dedent("""
        from dataclasses import dataclass
        from bench.plugin import Method, Phase, register_method

        @register_method("explodes")
        @dataclass(frozen=True)
        class Explodes(Method):
            def phases(self, layer_groups):
                return [Phase(name="probe", learning_rates={"head": 0.01}, epochs=1)]

            def loss(self, batch):
                raise ZeroDivisionError("a bug of the loss")
        """)
    )
    monkeypatch.setattr(_REGISTRY, "plugins", dict(_REGISTRY.plugins))
    monkeypatch.setenv(PLUGIN_FILES, "")
    load_plugin(plugin)
    (end,) = ended([replace(probe(demo_set), method=Reference("explodes"))], tmp_path / "runs", nproc=2)

    assert end.failure is not None
    assert "a bug of the loss" in end.failure.reason + end.failure.details
    assert 'explodes.py", line 12, in loss' in end.failure.details


def test_a_plan_tells_which_backbones_have_no_signals_to_read(
    copy_first: Callable[[int, Path], None], tmp_path: Path
) -> None:
    copy_first(100, tmp_path / "data")
    cells = [probe(tmp_path / "data"), replace(probe(tmp_path / "data"), arch=Reference("ecgfounder"))]
    options = Options(runs=tmp_path / "runs")

    assert list(make_plan(cells, options).lacking) == ["ecgfounder"]
    (line,) = [line for line in _remarks(make_plan(cells, options), options, 1, False) if "fail" in line]
    assert line.startswith("will fail: ecgfounder: ") and "lacks 200 of the 200 files at 500 Hz" in line
    assert not make_plan([replace(cell, source_rate=100) for cell in cells], options).lacking


def test_cores_are_shared_out_and_each_worker_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3, 5, 7, 9})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-abc,5")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    shares = [share_of(slot, 3, 1) for slot in range(3)]

    assert sorted(core for share in shares for core in share.cores or ()) == [1, 3, 5, 7, 9]
    assert all(share.cores for share in shares)
    assert [share.gpus for share in shares] == [("2",), ("GPU-abc",), ("5",)]
    assert share_of(1, 2, 2).gpus == ("5", "2"), "more ranks than GPUs share them"
    assert all(share_of(slot, 8, 1).cores for slot in range(8)), "more workers than cores share them"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for none in ("-1", "NoDevFiles"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert share_of(0, 1, 1).gpus == (), "no name of a GPU"


def test_a_task_without_labels_here_is_named_and_stops_no_other(
    copy_first: Callable[[int, Path], None], tmp_path: Path
) -> None:
    copy_first(40, tmp_path / "data")
    table = pd.read_csv(tmp_path / "data" / TABLE)
    table["scp_codes"] = "{'NORM': 100.0}"
    table.to_csv(tmp_path / "data" / TABLE, index=False)
    cells = [
        Cell(data=tmp_path / "data", task=task, arch=Reference("prevalence"), method=Reference("lp"))
        for task in ("rhythm", "superdiag")
    ]

    plan = make_plan(cells, Options(runs=tmp_path / "runs"))

    assert [one.state for one in plan.cells] == ["to do", "to do"]
    assert plan.lacking == {"task rhythm": f"no record in {tmp_path / 'data'} has a label of task rhythm"}


def test_merged_folders_are_one_sweep(done: tuple[Path, Cell, Result], demo_set: Path, tmp_path: Path) -> None:
    runs, cell, _ = done
    other = probe(demo_set, seed=7)
    shutil.copytree(runs, tmp_path / "runs")
    execute(other, Options(runs=tmp_path / "elsewhere", console=QUIET))
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "runs", dirs_exist_ok=True)

    assert states([cell, other], tmp_path / "runs") == ["done", "done"]
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "runs" / "from another machine")
    assert states([cell, other], tmp_path / "runs") == ["done", "done"], "a repeat is no other cell"
    (board,) = make_boards(list(find_results(tmp_path / "runs")), Truth(demo_set))
    assert [len(row.runs) for row in board.rows] == [2]
    (twin,) = (tmp_path / "runs" / "from another machine").rglob(RESULT)
    document = json.loads(twin.read_text())
    document["metrics"]["fold_10"]["macro"]["all"]["auroc"]["value"] += 0.1
    twin.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"from another machine.* are results of one cell and disagree"):
        make_boards(list(find_results(tmp_path / "runs")), Truth(demo_set))


def test_status_reads_every_state_off_the_disk(done: tuple[Path, Cell, Result], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(done[0], runs)
    home = runs / "superdiag"
    (finished,) = (path for path in home.iterdir() if path.is_dir())
    document = json.loads((finished / RESULT).read_text())
    for name, changes in (
        ("net-ft-seed0-00000001", {"incompatible": "no"}),
        ("net-ft-seed0-00000002", {"method": {**document["method"], "code_sha256": "0" * 64}}),
    ):
        (home / name).mkdir()
        (home / name / RESULT).write_text(json.dumps({**document, **changes}, indent=1))
    for name in ("net-ft-seed0-00000003", "net-ft-seed0-00000004"):
        (home / f"{name}.unfinished").mkdir()
        (home / f"{name}.unfinished" / "log.jsonl").write_text(
            '{"event": "begins", "command": "bench run"}\n'
            '{"event": "epoch", "phase": "probe", "epoch": 3}\n{"event": "note"}\n{"event": "epo'
        )
    (home / "net-ft-seed0-00000007").mkdir()
    (home / "net-ft-seed0-00000007" / RESULT).write_text(json.dumps(document)[:500])  # an interrupted copy
    for name, command in (("net-ft-seed0-00000005", "bench run --seed 5"), ("x-00000006", done[1].command())):
        Failure.now(command, "test", "a reason\nof two lines", "Traceback").write(home / f"{name}.failed")

    with RunFolder(home / "net-ft-seed0-00000003", "test", True):
        found = {one.path.name.partition(".")[0]: one for one in survey(runs)}

    assert {name[-8:]: one.state for name, one in found.items()} == {
        finished.name[-8:]: "done",
        "00000001": "declined",
        "00000002": "stale",
        "00000003": "running",
        "00000004": "unfinished",
        "00000005": "failed",
        "00000007": "failed",
    }, "the sixth was mended since"
    by_number = {name[-1]: one for name, one in found.items() if name.startswith("net")}
    assert by_number["2"].reason == "method lp (methods.linear_probe) has changed since"
    assert by_number["4"].reason == "probe, epoch 3"
    assert by_number["5"].reason == "a reason of two lines"
    assert by_number["5"].command == "bench run --seed 5"
    assert f"00000007/{RESULT} is damaged" in by_number["7"].reason
    with pytest.raises(DataError, match="no runs at"):
        survey(tmp_path / "nowhere")


def test_a_survey_stands_runs_that_end_meanwhile(tmp_path: Path) -> None:
    folder, failure, over = tmp_path / "superdiag/x-ft-seed0-00000001.unfinished", tmp_path / "y.failed", False

    def end_and_begin() -> None:
        while not over:
            folder.mkdir(parents=True, exist_ok=True)
            Failure.now("bench run", "test", "a reason", "").write(failure)
            folder.rename(tmp_path / "superdiag/x-ft-seed0-00000001")
            failure.unlink()
            (tmp_path / "superdiag/x-ft-seed0-00000001").rmdir()

    thread = threading.Thread(target=end_and_begin)
    thread.start()
    try:
        for _ in range(500):
            assert {one.state for one in survey(tmp_path)} <= {"unfinished", "failed"}
    finally:
        over = True
        thread.join()


def test_the_head_of_a_result_is_what_stands_before_its_metrics(done: tuple[Path, Cell, Result]) -> None:
    _, _, result = done
    head = load_head(result.folder)

    document = dict(load_result(result.folder).document)
    metrics = document.pop("metrics")
    assert metrics
    assert head == document


def test_prune_frees_what_is_asked_for_and_no_result(done: tuple[Path, Cell, Result], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(done[0], runs)
    home = runs / "superdiag"
    (finished,) = (path for path in home.iterdir() if path.is_dir())
    (finished / "weights.pt").write_bytes(bytes(1000))
    (finished / "checkpoint-0001.pt").write_bytes(bytes(100))
    lock_of(finished).touch()
    only = home / ".net-ft-seed0-00000001.old"
    shutil.copytree(done[2].folder, only)
    for number in (2, 3):
        started = home / f"net-ft-seed0-0000000{number}.unfinished"
        started.mkdir()
        (started / "checkpoint-0001.pt").write_bytes(bytes(10))
    for stranger in ("notes.lock", "my.unfinished", ".hidden.lock", "weights.pt"):
        (home / stranger).touch()
    running = RunFolder(home / "net-ft-seed0-00000003", "test", True)

    def left() -> set[str]:
        return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}

    with running:
        before = left()
        counts = {one.name: (one.num, one.size, one.num_running) for one in prune(runs, dry_run=True)}
        assert left() == before
        assert counts["weights"] == (1, 1000, 0)
        assert counts["unfinished"] == (1, 10, 1)
        assert counts["left over"][0] == 2, "a checkpoint and an .old; locks are not worth a word"
        prune(runs)
        assert not lock_of(finished).exists()
        kept = before - {str((finished / "checkpoint-0001.pt").relative_to(home))}
        kept = {name.replace(f"{only.name}/", "net-ft-seed0-00000001/") for name in kept}
        assert left() == {name for name in kept if not name.endswith(".lock") or name in left()}
        prune(runs, weights=True, unfinished=True)
        assert not (finished / "weights.pt").exists()
        assert not (home / "net-ft-seed0-00000002.unfinished").exists()
        assert (running.path / "checkpoint-0001.pt").exists(), "it runs"
    assert len(list(find_results(runs))) == 2
    prune(runs, unfinished=True)
    assert not running.path.exists()
    assert {path.name for path in home.iterdir() if path.is_file()} == {
        "notes.lock",
        "my.unfinished",
        ".hidden.lock",
        "weights.pt",
    }


def test_shards_hold_every_cell_once_and_depend_on_the_grid_alone(demo_set: Path) -> None:
    methods = [Reference("lp", {"probe_epochs": number}) for number in range(1, 5)]
    grid = Grid(data=demo_set, tasks=["superdiag"], archs=[Reference("prevalence")], methods=methods, seeds=range(6))
    cells = grid.cells()
    shards = [Shard.parse(f"{index}/4").of(cells, "test") for index in range(4)]

    assert sorted(map(str, cells)) == sorted(str(cell) for shard in shards for cell in shard)
    assert [len(shard) for shard in shards] == [6] * 4
    assert all(len({str(cell.method) for cell in shard}) > 1 for shard in shards), "no shard is one method's"
    backwards = [Shard(index, 4).of(cells[::-1], "test") for index in range(4)]
    assert [set(map(str, shard)) for shard in backwards] == [set(map(str, shard)) for shard in shards]


@pytest.mark.parametrize("text", ["4/4", "1", "-1/4", "0/0", "a/4"])
def test_what_is_no_shard_is_a_users_mistake(text: str) -> None:
    with pytest.raises(BenchError, match="--shard takes a number from 0 and the number of shards"):
        Shard.parse(text)


def test_ids_are_the_same_wherever_the_data_is(demo_set: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(demo_set)
    here, there = (probe(data, seed=3, fraction=0.5, draw=2) for data in (demo_set, tmp_path / "other"))

    assert cell_id(here, "test") == cell_id(there, "test")
    assert cell_id(here, "test").startswith("superdiag-prevalence-lp-0.5-draw2-seed3-")
    assert cell_id(here, "val") == cell_id(here, "test") + "-val"
    assert cell_id(replace(here, precision="float64"), "test") != cell_id(here, "test")


def test_cells_of_two_data_sets_are_two(
    demo_set: Path, copy_first: Callable[[int, Path], None], tmp_path: Path
) -> None:
    """In one runs folder; but they are dealt to the same shards, as in earlier versions."""
    other, options = tmp_path / "data", Options(runs=tmp_path / "runs")
    copy_first(100, other)
    one, two = probe(demo_set), probe(other)
    plan = PlanFolder.of([Entry.of(one, options)], [one], options)
    failure_of(two, "test", "a reason", "").write(failure_path(options.runs, two, "test"))
    (entry,) = plan.entries.values()
    plan.write(entry, Ended(one, options.runs / "superdiag/a"))

    assert one.command() == two.command() and cell_id(one, "test") != cell_id(two, "test")
    assert [each.reason for each in make_plan([two], options).cells] == ["a reason"], (
        "a success of the other is not its"
    )
    assert states([one], options.runs) == ["to do"]
    assert failure_of(two, "test", "a reason", "").data.startswith("synthetic-")
    nowhere = [replace(one, data=tmp_path / name) for name in ("a", "b")]
    assert len({cell_id(cell, "test") for cell in nowhere}) == 2
    copy_first(100, tmp_path / "a")
    assert cell_id(nowhere[0], "test") == cell_id(two, "test"), "a folder that could not be read is tried again"


def test_cells_are_dealt_by_their_commands(demo_set: Path) -> None:
    cells = [probe(demo_set, seed=seed) for seed in range(8)]

    def rank(cell: Cell) -> bytes:
        name = cell.folder_name(hashlib.sha256(cell.command().encode()).hexdigest())
        return hashlib.sha256(f"superdiag-{name}-val".encode()).digest()

    dealt = sorted(cells, key=rank)
    for index in range(3):
        shard = Shard(index, 3).of(cells, "val")
        assert {cell.seed for cell in shard} == {cell.seed for cell in dealt[index::3]}, "as earlier versions deal them"


def test_a_sweep_whose_cells_may_differ_in_precision_says_so(
    done: tuple[Path, Cell, Result], demo_set: Path, tmp_path: Path
) -> None:
    """On mixed nodes of SLURM."""
    cell, result = done[1:]
    for seed, precision in ((0, "bf16"), (1, "float32"), (2, "float32")):
        folder = tmp_path / f"superdiag/{seed}"
        shutil.copytree(result.folder, folder)
        document = json.loads((folder / RESULT).read_text())
        document["cell"].update(seed=seed, precision=precision)
        (folder / RESULT).write_text(json.dumps(document, indent=1))
    options, cells = Options(runs=tmp_path), [replace(cell, seed=seed) for seed in range(4)]

    def remarks(cells: list[Cell], **how: bool) -> list[str]:
        plan = make_plan(cells, options, elsewhere=True)
        return [line for line in _remarks(plan, options, 1, False, **how) if line.startswith("precision")]

    both = "precision: of the finished cells 1 in bf16, 2 in float32, which are rows of their own"
    assert remarks(cells[:3], on_slurm=True) == [both]
    assert remarks(cells[1:], on_slurm=True) == [
        "precision: auto follows each node's hardware; on mixed nodes name it with --precision"
    ]
    assert remarks(cells[1:]) == []
    assert remarks([replace(cells[3], precision="float32")], on_slurm=True) == []


def test_a_plan_on_disk_gives_back_its_cells(demo_set: Path, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    cells = [
        probe(demo_set, seed=2, fraction=0.25, draw=1, precision="float64", source_rate=500),
        probe(demo_set, init="random", manifest=file),
    ]
    options = Options(runs=tmp_path, stage="val", keep_weights="best", checkpoint_minutes=3)
    plan = PlanFolder(PlanFolder.of([Entry.of(cell, options) for cell in cells], cells, options).folder)

    entries = list(plan.entries.values())
    assert [plan.cell(entry) for entry in entries] == cells
    read = plan.options(entries[0], Options())
    assert (read.stage, read.keep_weights, read.checkpoint_minutes, read.runs) == ("val", "best", 3, tmp_path)
    again = PlanFolder.of([Entry.of(cells[1], options)], cells[1:], options)
    assert again.folder != plan.folder, "the first cell of that plan was not asked for"
    plan.write(entries[0], Ended(cells[0], tmp_path / "superdiag/a"))
    assert plan.ended(entries[0].id) == Ended(cells[0], tmp_path / "superdiag/a")
    assert PlanFolder.of([Entry.of(cells[1], options)], cells[1:], options).folder in (plan.folder, again.folder)
    with pytest.raises(DataError, match=r"plan\.json cannot be read"):
        PlanFolder(tmp_path)


def test_the_longest_cells_come_first(demo_set: Path) -> None:
    def planned(name: str, work: float, seconds: float | None = None) -> Planned:
        return Planned(replace(probe(demo_set), init=name), "to do", work=work, seconds=seconds)

    def order(*cells: Planned) -> list[tuple[str | None, float | None]]:
        return [(cell.cell.init, seconds) for cell, seconds in longest_first(cells)]

    assert order(planned("a", 1), planned("b", 3), planned("c", 3)) == [("b", None), ("c", None), ("a", None)]
    known = [planned("a", 1, 10.0), planned("b", 3), planned("c", 2, 70.0)]
    assert order(*known) == [("c", 70.0), ("b", 67.5), ("a", 10.0)], "b: by the median of 10 and 35 s per work"


def test_the_work_of_a_cell_is_that_of_its_backbone(demo_set: Path, tmp_path: Path) -> None:
    net = replace(probe(demo_set), arch=Reference("net1d_mini"))
    tuned = replace(net, method=Reference("ft", {"finetune_epochs": 4}))
    plan = make_plan([net, tuned, replace(tuned, fraction=0.5)], Options(runs=tmp_path))
    once, whole, half = (one.work for one in plan.cells)

    assert (whole / once, half / once) == (13, 6.5), "3 passes a training epoch, and one for predictions"
