"""Estimates of cells like which none is finished, from timed passes of their backbones."""

import contextlib
import gc
import io
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import bench
from bench.cell import Cell
from bench.data.datasets.ptbxl import load_records
from bench.data.splits import split
from bench.data.tasks import find_task, label_table
from bench.errors import BenchError
from bench.execute import Options, make_method
from bench.launch import pace
from bench.launch.pace import BATCH, Pace, measure_pace
from bench.launch.plan import make_plan
from bench.launch.slurm import Slurm
from bench.launch.workers import Crew
from bench.plugin import Backbone, SignalSpec
from bench.registry.reference import Reference

QUIET = Console(quiet=True)


def facts_of(method: str) -> list[dict[str, Any]]:
    """Phases of a method on a backbone of one layer group."""
    return [phase.facts() for phase in make_method(Reference.parse(method)).phases(["backbone.net"])]


@pytest.mark.parametrize(
    ("method", "seconds"),
    [
        ("ft(finetune_epochs=7)", 7 * (100 * 3 + 10) + 20),
        ("lp", (100 + 10) + 20),
        ("lpft(finetune_epochs=7)", (100 + 10) + 7 * (100 * 3 + 10) + 20),
    ],
)
def test_a_frozen_backbone_sees_each_record_once(method: str, seconds: float) -> None:
    assert Pace(train=3, predict=1).seconds(facts_of(method), 100, 10, 20) == seconds


@pytest.mark.parametrize(
    ("method", "seconds"),
    [
        ("lp(probe_epochs=5)", 5 * (100 * 1 + 10 * 7) + 20 * 7),
        ("ft(finetune_epochs=7)", 7 * (100 * 3 + 10 * 7) + 20 * 7),
        ("lpft(probe_epochs=5, finetune_epochs=7)", 5 * (100 + 70) + 7 * (300 + 70) + 140),
        ("lp-lbfgs", 100 * 7 + 10 * 7 + 20 * 7),
    ],
)
def test_a_frozen_backbone_of_windows_sees_a_random_one_in_each_epoch_or_all_once(method: str, seconds: float) -> None:
    assert Pace(train=3, predict=7, num_windows=7).seconds(facts_of(method), 100, 10, 20) == pytest.approx(seconds)


def test_a_pass_is_timed_after_a_first_one_and_each_window_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of the test a pass takes a second, the first of all an hour."""
    now, threads = 0.0, torch.get_num_threads()

    class Slow(Backbone):
        signal_spec = SignalSpec(100, "zscore", window_s=2.5, stride_s=1.25, aggregate="mean")
        feature_dim = 12

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.BatchNorm1d(12)

        def forward(self, signals: Tensor) -> Tensor:
            nonlocal now
            now += 1 if now else 3600
            assert signals.shape == (BATCH["cpu"], 12, 250)
            assert torch.get_num_threads() == 1
            return self.net(signals).amax(-1)  # type: ignore[no-any-return]

    monkeypatch.setattr(pace.time, "perf_counter", lambda: now)
    backbone = Slow()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    found = measure_pace(backbone, 10.0, "float32", torch.device("cpu"), 1)

    assert found == Pace(train=1 / 4, predict=7 / 4, num_windows=7), "seven windows of a record"
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items()), "a copy was trained"
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("fits", [True, False])
def test_a_backbone_is_timed_as_runs_compute_and_leaves_no_memory(fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error that it does not fit is kept, as by who tells of it, and keeps nothing else."""
    done, held = list[object](), list[weakref.ref[Any]]()

    class Large(Backbone):
        signal_spec = SignalSpec(100, "zscore")
        feature_dim = 12

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.BatchNorm1d(12)

        def forward(self, signals: Tensor) -> Tensor:
            x = self.net(signals)
            held.extend([weakref.ref(self), weakref.ref(x)])
            if not fits:
                raise torch.OutOfMemoryError
            return x.amax(-1)  # type: ignore[no-any-return]

    def returned(device: torch.device) -> None:
        gc.collect()
        done.append((device, [each() for each in held if each() is not None]))

    monkeypatch.setattr(pace, "set_numerics", done.append)
    monkeypatch.setattr(pace, "return_gpu_memory", returned)
    cpu, backbone = torch.device("cpu"), Large()
    with contextlib.nullcontext() if fits else pytest.raises(torch.OutOfMemoryError) as caught:
        measure_pace(backbone, 10.0, "float32", cpu, 1)

    assert done == [cpu, (cpu, [])] and held
    assert fits or caught


def cell(data: Path, arch: str, method: str = "ft", **changes: Any) -> Cell:
    return Cell(data=data, task="superdiag", arch=Reference(arch), method=Reference.parse(method), **changes)


def test_a_plan_estimates_cells_like_which_none_is_finished(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"data": demo_set, "seed": 0, "runs": tmp_path, "console": QUIET, "stage": "val"}
    finished = "lp(probe_epochs=1)"
    bench.sweep(finished, "superdiag", "net1d_mini", **given)
    asked: list[tuple[str, int]] = []

    def measure(backbone: Backbone, length_s: float, precision: str, device: object, threads: int) -> Pace:
        if type(backbone).__name__ == "Prevalence":
            raise RuntimeError("out of memory")
        asked.append((type(backbone).__name__, threads))
        return Pace(train=2, predict=1)

    monkeypatch.setattr("bench.launch.plan.measure_pace", measure)
    monkeypatch.setattr("bench.launch.plan.num_cores", lambda: 8)
    cells = [
        cell(demo_set, "net1d_mini", finished),
        cell(demo_set, "net1d_mini", finished, seed=1),
        cell(demo_set, "net1d_mini"),
        cell(demo_set, "net1d_mini", fraction=0.5),
        cell(demo_set, "prevalence"),
    ]
    options = Options(runs=tmp_path, stage="val")
    done, like_it, whole, half, unknown = make_plan(cells, options, crew=Crew(jobs=2)).cells

    table = label_table(load_records(demo_set), find_task("superdiag"))
    parts = split(table, 1.0, 0)
    (phase,) = facts_of("ft")
    expected = phase["epochs"] * (2 * len(parts.train) + len(parts.val))
    assert (done.state, whole.seconds, whole.estimated) == ("done", expected, True)
    assert half.seconds == expected - phase["epochs"] * 2 * (len(parts.train) - len(split(table, 0.5, 0).train))
    assert like_it.seconds is not None and not like_it.estimated, "a finished cell tells it"
    assert (unknown.seconds, unknown.estimated) == (None, False)
    assert asked == [("Net1DMini", 4)], "once, with the cores of one of two workers"

    (test_too,) = make_plan(cells[2:3], Options(runs=tmp_path), crew=Crew()).cells
    assert test_too.seconds == expected + np.count_nonzero(table.strat_fold == 10)
    assert [each.seconds for each in make_plan(cells[2:], options).cells] == [None] * 3, "only when asked"


def test_the_dry_run_says_what_is_estimated(demo_set: Path, tmp_path: Path) -> None:
    shown = io.StringIO()
    given = {"data": demo_set, "runs": tmp_path, "console": QUIET, "out": Console(file=shown, width=200)}
    (swept,) = bench.sweep("ft", "superdiag", "vit1d_tiny", seed=0, dry_run=True, estimate=True, **given).cells

    assert swept.seconds is not None and swept.seconds > 0
    assert "time left: of 1 cells it is estimated" in shown.getvalue()
    assert "unknown" not in shown.getvalue()


def test_this_machine_tells_nothing_of_nodes(demo_set: Path, tmp_path: Path) -> None:
    slurm = Slurm(minutes=10)
    with pytest.raises(BenchError, match="tells nothing of the nodes of SLURM"):
        bench.sweep("ft", "superdiag", "prevalence", data=demo_set, runs=tmp_path, estimate=True, slurm=slurm)
