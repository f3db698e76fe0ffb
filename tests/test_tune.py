"""Every method gets the same trials, they never see fold 10, and the best of them is what runs to the end."""

from __future__ import annotations

import io
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import bench
from bench.cell import Cell
from bench.errors import BenchError, PluginError
from bench.execute import Options, execute
from bench.launch import plan as planning
from bench.launch.outcomes import Ended, Trial, best_of, failure_of, read_trial, search_space
from bench.launch.plan_folder import Entry, PlanFolder
from bench.launch.tune import Tuned, plan_trials, plan_tuning, settings_of, tune
from bench.launch.workers import Crew
from bench.registry.reference import Reference
from bench.registry.registry import find, register_method, registry
from bench.results.failures import Failure
from bench.results.result import RESULT, load_result
from bench.training.batches import random_stream

QUIET = Console(quiet=True)


def values(method: str, num_trials: int, name: str) -> list[object]:
    return [setting.arguments.get(name) for setting in settings_of(Reference.parse(method), num_trials)]


def test_the_first_trial_is_the_method_as_it_is() -> None:
    first, *others = settings_of(Reference.parse("lpft-sd(probe_epochs=2)"), 4)

    assert first == Reference("lpft-sd", {"probe_epochs": 2})
    assert len(others) == 3
    for other in others:
        assert set(other.arguments) == {"probe_epochs", "probe_lr", "finetune_lr", "drop_path_rate"}
        assert Reference.parse(str(other)) == other


def test_methods_try_the_same_values_of_what_they_share() -> None:
    assert values("ft", 6, "finetune_lr") == values("lpft-sd", 6, "finetune_lr")
    assert values("lp", 6, "probe_lr") == values("lpft", 6, "probe_lr")
    assert len(set(values("ft", 6, "finetune_lr"))) == 6
    assert values("ft", 3, "finetune_lr") == values("ft", 6, "finetune_lr")[:3]


def test_hyperparameters_of_a_trial_are_drawn_apart() -> None:
    """With one draw for all, only settings with all rates low or all rates high would be tried."""
    space = search_space(Reference("lpft"))
    trials = settings_of(Reference("lpft"), 4)[1:]

    assert len(space) > 1
    for number, trial in enumerate(trials, 1):
        for name, one in space.items():
            assert trial.arguments[name] == one.at(float(random_stream("trial", number, name).random()))


def test_cells_that_differ_in_seed_and_draw_share_their_trials(demo_set: Path, tmp_path: Path) -> None:
    first = Cell(data=demo_set, task="superdiag", arch=Reference("net1d_mini"), method=Reference("lp"), fraction=0.5)
    options = Options(runs=tmp_path, console=QUIET)
    same = [first, replace(first, draw=1), replace(first, seed=1), replace(first, seed=1, draw=1)]
    others = [replace(first, fraction=0.25), replace(first, task="rhythm")]

    assert [row["setting"] for row in plan_trials(same, 2, options)] == list(map(str, settings_of(first.method, 2)))
    assert len(plan_trials([*same, *others], 2, options)) == 6


def test_a_method_that_a_function_makes_has_nothing_to_tune(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry(), "plugins", dict(registry().plugins))
    register_method("made")(lambda: find("method", "lp").make())
    with pytest.raises(BenchError, match="method made has nothing to tune"):
        settings_of(Reference.parse("made"), 3)


def test_what_the_reference_fixes_is_not_searched() -> None:
    assert values("ft-sd(drop_path_rate=0.3)", 3, "drop_path_rate") == [0.3] * 3
    with pytest.raises(BenchError, match=r"method lp\(probe_lr=0.01\) has nothing to tune; declare a search space"):
        settings_of(Reference.parse("lp(probe_lr=0.01)"), 3)
    with pytest.raises(PluginError, match="no hyper-parameter 'probe_rate'"):
        settings_of(Reference.parse("lp(probe_rate=0.01)"), 3)


@pytest.mark.parametrize("method", ["ft", "knn", "lp-lbfgs"])
def test_each_method_gets_as_many_settings_as_were_asked_for(method: str) -> None:
    """Choices that are drawn twice are drawn again, up to all that there are; earlier ones stay first."""
    every = [list(map(str, settings_of(Reference.parse(method), num))) for num in (3, 8, 12)]
    most = {"ft": math.inf, "knn": 15, "lp-lbfgs": 3}[method]

    assert [len(set(settings)) for settings in every] == [min(num, most) for num in (3, 8, 12)]
    assert every[2][: len(every[1])] == every[1] and every[1][:3] == every[0]


@pytest.fixture(scope="module")
def tuned(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Tuned], list[Cell], Options]:
    """A probe on one backbone: three trials, and two seeds of the best."""
    runs = tmp_path_factory.mktemp("tuned")
    cells = [
        Cell(
            data=demo_set,
            task="superdiag",
            arch=Reference("net1d_mini"),
            method=Reference.parse("lp(probe_epochs=2)"),
            seed=seed,
        )
        for seed in (0, 1)
    ]
    options = Options(runs=runs, console=QUIET)
    return runs, tune(cells, 3, options, crew=Crew(), console=QUIET), cells, options


def ended(reason: str) -> Ended:
    cell = Cell(data=Path(), task="superdiag", arch=Reference("net1d_mini"), method=Reference("lp"))
    return Ended(cell, failure=Failure.now(cell.command(), "val", reason, ""))


def test_a_setting_that_diverges_was_tried_and_is_never_the_best() -> None:
    diverged = read_trial(ended("training diverged in phase probe, epoch 1: the training loss is nan"))

    assert diverged == Trial("lp", None, None, diverged=True)
    assert best_of([diverged, Trial("lp(probe_lr=0.1)", 0.4, 1.0)]).method == "lp(probe_lr=0.1)"


def test_of_settings_that_all_diverge_none_is_chosen(demo_set: Path, tmp_path: Path) -> None:
    """The first counted as the best, and every seed and draw trained it, to diverge again."""
    cell = Cell(data=demo_set, task="superdiag", arch=Reference("prevalence"), method=Reference("lp"))
    options = Options(runs=tmp_path, console=QUIET)
    plan, entries = plan_tuning([[cell]], 2, options)
    for entry in entries[:2]:
        trial = plan.cell(entry)
        plan.write(entry, Ended(trial, failure=failure_of(trial, "val", "training diverged", "", "Diverged")))

    (found,) = tune([cell], 2, options, crew=Crew(), console=QUIET)

    assert found.best is None and not found.finals and not found.finished
    assert found.reason == "every setting of lp diverged; give another range, such as lower rates"
    assert found.as_data()["failed"] == [found.reason]
    assert plan.left() == [], "on SLURM no worker is submitted for it"
    declined = [Trial("a", None, None), Trial("b", None, None)]
    assert best_of(declined).method == "a", "its runs record why"


def test_the_best_trial_has_the_highest_score_and_is_the_first_of_ties() -> None:
    trials = [Trial("a", 0.6, 1.0), Trial("b", 0.8, 1.0), Trial("c", None, None), Trial("d", 0.8, 1.0)]

    assert best_of(trials).method == "b"
    assert best_of(trials[::-1]).method == "d"
    assert best_of([Trial("a", None, None), Trial("b", 0.0, 1.0)]).method == "b"


def test_a_trial_that_failed_otherwise_says_nothing_of_its_setting() -> None:
    with pytest.raises(BenchError, match="a trial of lp failed: its process was killed by SIGKILL; the same command"):
        read_trial(ended("its process was killed by SIGKILL"))


@pytest.mark.slow
def test_the_best_trial_by_fold_9_is_run_with_every_seed(tuned: tuple[Path, list[Tuned], list[Cell], Options]) -> None:
    for found in tuned[1]:
        scores = [trial.val_macro_auroc for trial in found.trials]
        assert len(set(scores)) == 3
        assert found.best.val_macro_auroc == max(score for score in scores if score is not None)
        assert [str(end.cell.method) for end in found.finals] == [found.best.method] * 2
        assert [end.cell.seed for end in found.finals] == [0, 1]


@pytest.mark.slow
def test_only_what_was_chosen_sees_fold_10(tuned: tuple[Path, list[Tuned], list[Cell], Options]) -> None:
    runs, found, _, _ = tuned
    results = [load_result(path.parent) for path in runs.rglob("result.json")]

    tested = {(r.cell["method"], r.cell["seed"]) for r in results if "fold_10" in r.document["metrics"]}
    assert tested == {(one.best.method, seed) for one in found for seed in (0, 1)}
    for result in results:
        assert (10 in result.predictions) == (result.document["stage"] == "test")


def load_plugin(file: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write and load a plugin file, until the test ends."""
    monkeypatch.setenv("BENCH_PLUGINS", "")
    monkeypatch.setattr(registry(), "plugins", dict(registry().plugins))
    file.write_text(text)
    bench.load_plugin(file)


@pytest.mark.slow
def test_a_trial_that_fails_stops_no_other_method(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others have their runs; it says why it has none, and so does the exit code."""
    load_plugin(tmp_path / "bad.py", BAD, monkeypatch)
    heard = Console(file=io.StringIO(), width=300)
    how = {"data": demo_set, "runs": tmp_path / "runs", "seed": 0, "console": heard}
    found = bench.tune(["lp(probe_epochs=1)", "bad-probe(probe_epochs=1)"], "superdiag", 2, "prevalence", **how)

    (good,), (bad,) = ([one for one in found.methods if one.cell.method.name == name] for name in ("lp", "bad-probe"))
    assert good.finished and good.best and len(good.finals) == 1 and good.finals[0].folder
    assert not bad.finished and bad.best is None and not bad.finals and len(bad.trials) == 1
    assert bad.reason.startswith("a trial of bad-probe(") and "too hot" in bad.reason
    assert bad.as_data()["failed"] == [bad.reason]
    assert not found.finished


BAD = """
from dataclasses import dataclass
from bench.plugin import register_method
from methods.linear_probe import LinearProbe

@register_method("bad-probe")
@dataclass(frozen=True)
class Bad(LinearProbe):
    def loss(self, batch):
        if self.probe_lr != 0.005:
            raise ValueError("too hot")
        return super().loss(batch)
"""
"""A method whose own setting trains, and no other."""
IMPORTED = ("from bench.plugin", "from bench.errors import Diverged\nfrom bench.plugin")


@pytest.mark.slow
def test_a_trial_that_diverged_is_tried_again_with_other_code_only(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a tuning on SLURM never ended: each call found the trial without a result, and submitted workers for it."""
    plugin = tmp_path / "diverging.py"
    text = BAD.replace('ValueError("too hot")', 'Diverged("training diverged")').replace(*IMPORTED)
    load_plugin(plugin, text, monkeypatch)
    method, options = Reference.parse("bad-probe(probe_epochs=1)"), Options(runs=tmp_path / "runs", console=QUIET)
    cell = Cell(data=demo_set, task="superdiag", arch=Reference("prevalence"), method=method)
    (found,) = tune([cell], 2, options, crew=Crew(), console=QUIET)
    assert found.finished and [trial.val_macro_auroc is None for trial in found.trials] == [False, True]

    plan, entries = plan_tuning([[cell]], 2, options)
    assert all(plan.has_ended(entry.id) for entry in entries), "nothing is left to submit"
    monkeypatch.setattr("bench.launch.plan_folder.harness_facts", lambda: {"code_sha256": "0" * 64})
    plan, entries = plan_tuning([[cell]], 2, options)
    assert sum(not plan.has_ended(entry.id) for entry in entries) == 1, "the one that diverged"


@pytest.mark.slow
def test_a_result_says_what_was_tried(tuned: tuple[Path, list[Tuned], list[Cell], Options]) -> None:
    for found in tuned[1]:
        for end in found.finals:
            search = end.result().document["search"]
            assert [trial["method"] for trial in search["trials"]] == [trial.method for trial in found.trials]
            assert search["space"] == {"probe_lr": "LogUniform(low=0.0005, high=0.05)"}
            assert list(end.result().document)[-1] == "metrics"


@pytest.mark.slow
def test_what_a_sweep_has_made_stays_the_reported_recipe_if_it_wins(
    tuned: tuple[Path, list[Tuned], list[Cell], Options], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each result says what was tried when it is there: an interruption leaves none that says nothing."""
    runs = tmp_path / "runs"
    shutil.copytree(tuned[0], runs)
    options = replace(tuned[3], runs=runs)
    cells = [replace(tuned[2][0], seed=seed) for seed in (0, 5, 6)]
    before = execute(cells[1], options)
    said = (before.folder / RESULT).read_bytes()
    monkeypatch.setattr("bench.launch.plan_folder.best_of", lambda trials: trials[0])
    monkeypatch.setattr("bench.launch.tune.best_of", lambda trials: trials[0])
    write = PlanFolder.write

    def interrupted(plan: PlanFolder, entry: Entry, end: Ended) -> None:
        write(plan, entry, end)
        if entry.best_of and end.cell.seed == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PlanFolder, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(cells, 3, options, crew=Crew(), console=QUIET)
    (found,) = tune(cells, 3, options, crew=Crew(), console=QUIET)

    results = [end.result() for end in found.finals]
    assert results[1].folder == before.folder
    assert (before.folder / RESULT).read_bytes() == said
    assert ["search" in result.document for result in results] == [True, False, True]


@pytest.mark.slow
def test_fewer_trials_do_not_hide_what_was_tried(
    tuned: tuple[Path, list[Tuned], list[Cell], Options], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(tuned[0], runs)
    best = tuned[1][0].best
    monkeypatch.setattr("bench.launch.plan_folder.best_of", lambda trials: best)
    monkeypatch.setattr("bench.launch.tune.best_of", lambda trials: best)

    (found,) = tune(tuned[2], 2, replace(tuned[3], runs=runs), crew=Crew(), console=QUIET)

    assert [len(end.result().document["search"]["trials"]) for end in found.finals] == [3, 3]


@pytest.mark.slow
def test_a_dry_run_names_the_trials_and_what_is_done(
    tuned: tuple[Path, list[Tuned], list[Cell], Options], tmp_path: Path
) -> None:
    _, found, cells, options = tuned

    rows = plan_trials(cells, 4, options)

    assert [row["setting"] for row in rows[:3]] == [trial.method for trial in found[0].trials]
    assert [row["state"] for row in rows] == ["done", "done", "done", "to do"]
    assert [row["state"] for row in plan_trials(cells, 2, replace(options, runs=tmp_path / "runs"))] == ["to do"] * 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_same_command_runs_nothing_again_and_a_damaged_run_does_not_stop_it(
    tuned: tuple[Path, list[Tuned], list[Cell], Options], tmp_path: Path
) -> None:
    _, found, cells, options = tuned
    runs = tmp_path / "runs"
    shutil.copytree(tuned[0], runs)
    (runs / "damaged").mkdir()
    (runs / "damaged" / RESULT).write_text("{")
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("predictions.npz")}

    again = tune(cells, 3, replace(options, runs=runs), crew=Crew(), console=QUIET)

    assert [one.best for one in again] == [one.best for one in found]
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("predictions.npz")} == before


@pytest.mark.slow
def test_trials_of_other_code_are_not_mixed_with_new_ones_without_a_word(
    tuned: tuple[Path, list[Tuned], list[Cell], Options], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, _, cells, options = tuned
    shutil.copytree(runs, tmp_path / "runs")
    facts, said = planning.plugin_facts, list[str]()
    other_code = {"code_sha256": "0" * 64}
    monkeypatch.setattr(
        planning, "plugin_facts", lambda kind, name: {**facts(kind, name), **(other_code if kind == "method" else {})}
    )
    plan_tuning([cells], 3, replace(options, runs=tmp_path / "runs"), said.append)

    assert [line.partition("; they are used")[0] for line in said] == [
        f"{what}: stale: {num} finished cells; method lp (methods.linear_probe) has changed since"
        for what, num in (("trials", 3), ("runs of the best settings", 2))
    ]
