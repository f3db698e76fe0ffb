"""The door: right methods of all kinds pass `bench check` and agree over ranks, faulty ones are caught.

Run as a script under torchrun this file trains every method in a short trial and writes the weights.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from bench.cell import Cell
from bench.errors import BenchError, Incompatible
from bench.execute import Options, execute, make_backbone, make_method
from bench.registry.conformance import check_method
from bench.registry.reference import Reference
from bench.registry.registry import _REGISTRY, registry
from bench.registry.trials import (
    ALONE,
    BATCH,
    Trial,
    largest_gap,
    rounding_gap,
    run_trial,
    set_up,
    shortened,
)
from bench.results.result import Result
from bench.training.batch import Start
from bench.training.distributed import World, join
from bench.training.method import Method
from bench.training.model import Classifier
from methods.full_finetune import FullFinetune

PLUGINS = Path(__file__).parent / "plugins"
FILES = ("small_backbone", "small_families", "right_methods", "faulty_methods")
METHODS = Path(__file__).parent.parent / "methods"
README = METHODS / "README.md"
ON_SMALL = {"lp-attn": "lp-attn(num_heads=2)"}
"""Arguments that a method needs on the small backbone, whose tokens have 8 dimensions."""
BATCH_ON_SMALL = 9
"""Records of a batch on the small backbone: of the last batch, two records, a third rank has none."""
FAMILIES = ("small_net1d", "small_vit1d", "small_xresnet1d", "small_lstm")
WEIMANN = {"ft-ecg-jepa-weimann", "lpft-ecg-jepa-weimann"}
NEEDS_BLOCKS = {"ft-sd", "lpft-sd", "ft-dropout", "r-drop", "ft-hubert-ecg"} | WEIMANN
"""Methods that drop residual blocks; an LSTM has none."""


def load(name: str) -> None:
    """Register what a file of plugins defines."""
    spec = importlib.util.spec_from_file_location(name, PLUGINS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def declared(file: Path) -> list[str]:
    """Names that a file of plugins registers, without importing it."""
    tree = ast.parse(file.read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    calls = [call for node in classes for call in node.decorator_list if isinstance(call, ast.Call) and call.args]
    return [str(call.args[0].value) for call in calls if isinstance(call.args[0], ast.Constant)]


RIGHT, FAULTY = (declared(PLUGINS / f"{name}.py") for name in ("right_methods", "faulty_methods"))
SHIPPED = [name for file in sorted(METHODS.glob("*.py")) for name in declared(file)]


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    registry()
    before, num_threads = dict(_REGISTRY.plugins), torch.get_num_threads()
    torch.set_num_threads(1)
    for name in FILES:
        load(name)
    yield
    _REGISTRY.plugins = before
    torch.set_num_threads(num_threads)


def trial_of(name: str, arch: str = "small") -> tuple[Trial, Method]:
    """A short run of a method. Raises Incompatible if it declines the backbone."""
    method = make_method(Reference.parse(ON_SMALL.get(name, name) if arch == "small" else name))
    model, phases = set_up(partial(make_backbone, Reference(arch)), method)
    return Trial(model, shortened(phases, BATCH_ON_SMALL if arch == "small" else BATCH)), method


def end_of(name: str, world: World, arch: str = "small") -> dict[str, Tensor] | None:
    """The weights at the end of a short run of a method, or None if it declines the backbone."""
    try:
        return run_trial(*trial_of(name, arch), world)
    except Incompatible:
        return None


def faults(name: str, arch: str = "small") -> dict[str, str]:
    """Check -> what it finds; not by two processes."""
    found = check_method(Reference(name), Reference(arch), two_processes=False)
    return {finding.check: finding.fault for finding in found if finding.fault}


@pytest.mark.parametrize("name", RIGHT)
def test_right_methods_pass(name: str) -> None:
    assert faults(name) == {}


@pytest.mark.slow
@pytest.mark.parametrize("arch", FAMILIES)
def test_shipped_methods_pass_on_every_family_or_decline(arch: str) -> None:
    assert len(SHIPPED) >= 46
    assert fault_or_declined(SHIPPED, arch) == dict.fromkeys(NEEDS_BLOCKS, arch if arch == "small_lstm" else "lstm")


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["net1d_mini", "vit1d_tiny", "xresnet1d18", "lstm"])
def test_a_method_of_each_kind_passes_at_the_backbones_own_size(arch: str) -> None:
    assert fault_or_declined(["lp-lbfgs", "lpft-sd", "lora", "wise-ft"], arch) == {"lpft-sd": "lstm"}


def fault_or_declined(names: list[str], arch: str) -> dict[str, str]:
    """Method -> its first fault, or the backbone that it declines: `arch`, or the LSTM. Others pass everywhere."""
    found: dict[str, str] = {}
    for name in names:
        for finding in check_method(Reference(name), Reference(arch), two_processes=False):
            if finding.check == f"trains on {arch}" and finding.does_not_apply:
                found[name] = arch
            elif finding.check.startswith("declines lstm"):
                found.setdefault(name, "lstm")
            elif finding.fault:
                found[name] = f"{finding.check}: {finding.fault}"
    return found


def test_right_methods_are_short() -> None:
    """Each in at most 30 lines of code, a module that it puts in aside."""
    text = (PLUGINS / "right_methods.py").read_text().splitlines()
    for node in ast.parse("\n".join(text)).body:
        if isinstance(node, ast.ClassDef):
            lines = text[node.lineno - 1 : node.end_lineno]
            assert len([line for line in lines if line.strip()]) <= 30, node.name


def test_the_examples_of_the_readme_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_REGISTRY, "plugins", dict(_REGISTRY.plugins))
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    file = tmp_path / "readme_methods.py"
    file.write_text("\n\n".join(blocks))
    spec = importlib.util.spec_from_file_location("readme_methods", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "readme_methods", module)
    spec.loader.exec_module(module)

    assert len(blocks) == 3
    assert {name: faults(name) for name in ("deep-faster", "own-teacher", "scales")} == {
        "deep-faster": {},
        "own-teacher": {},
        "scales": {},
    }


def test_a_head_starts_from_the_rows_of_an_earlier_task_that_has_other_labels(demo_set: Path, tmp_path: Path) -> None:
    def end(task: str, name: str, **options: Any) -> Result:
        arch = Reference("small")
        cell = Cell(data=demo_set, task=task, arch=arch, method=Reference.parse(name), **options)
        return execute(cell, Options(runs=tmp_path, stage="val", console=Console(file=io.StringIO())))

    earlier = end("superdiag", "lp(probe_epochs=1)", init="random")
    run = folder_of(earlier, tmp_path)
    later = end("superdiag", "warm-head(lr=1e-12)", init=str(run))
    other = end("rhythm", "warm-head", init=str(run))
    random_start = end("superdiag", "warm-head", init="random")

    assert later.document["init"]["facts"]["labels"] == earlier.document["task"]["labels"]
    assert later.document["init"]["head"] == {"weight": [5, 8], "bias": [5]}
    heads = [torch.load(path / "weights.pt")["state_dict"]["head.weight"] for path in (run, folder_of(later, tmp_path))]
    torch.testing.assert_close(*heads, atol=1e-9, rtol=0)
    assert "own:" in other.incompatible and "random weights have none" in random_start.incompatible


def folder_of(result: Result, runs: Path) -> Path:
    """Where a result lies."""
    (folder,) = (path for path in runs.glob("*/[!.]*") if result.document["digest"][:8] in path.name)
    return folder


CAUGHT = {
    "dead-r-drop": "computes the logits of the same records twice with masks=0",
    "submodule-teacher": "puts 'teacher' beside backbone and head",
    "inner-teacher": "adds residual blocks to the model: 6 DropPaths where there were 3",
    "hidden-teacher": "hides a module in backbone._teacher",
    "keeps-the-model": "prepare() sets self.model, which a resumed run would not know",
    "own-ramp": "sets self.steps, which a resumed run would not know",
    "ramp-in-a-list": "sets self.steps, which a resumed run would not know",
    "ramp-in-its-module": "killed after step 1 and resumed",
    "l2-sp-from-optimizer": "optimizer() sets self.start",
    "ema-in-a-hook": "registers a step hook",
    "constant-sd-in-prepare": "sets rates of stochastic depth",
    "constant-sd-in-loss": "drops at 0.3 in epoch 1, declared is 0",
    "own-scheduler": "brings a learning-rate scheduler",
    "second-optimizer": "takes head.weight 0 times, expected once",
    "wise-from-optimizer": "killed after step 1 and resumed",
    "moves-statistics": "backbone.stem.1.running_mean moved in phase 'probe', which does not train it",
    "finishes-elsewhere": "moved in phase 'probe', which does not train it",
    "asks-too-often": "scores more than 32 weights on fold 9",
    "says-nothing": "does not say what that needs: set needs_signals = False",
    "says-wrong": "the loss uses signals, but the method has needs_signals = False",
    "never-steps": "must call its closure",
    "old-signature": "phases() must take the backbone's layer groups",
    "old-init": "compare its name, as in init.name == 'random'",
    "optimizer-in-a-closure": "steps a second optimiser, which the harness neither schedules nor saves",
    "rates-by-hand": "sets learning rates, which the phase's schedule also sets",
    "own-steps": "does not call optimizer.step()",
    "forgets-weight-decay": "decays weights by 0.01 and the phase declares 0",
    "counts-in-its-class": "loss() sets self.seen, which a resumed run would not know",
    "keeps-the-judge": "the judge of phase 'probe' is asked after finish()",
    "alters-the-batch": "loss() alters the batch in place",
    "moves-weights-in-loss": "loss() alters weights in place",
    "moves-the-start": "loss() alters the initial weights in place",
    "rests-in-loss": "backbone is in eval mode after a step",
    "thaws-by-hand": "backbone.stem.0.weight gets gradients after a step",
    "half-precision": "makes weights torch.bfloat16",
    "double-everywhere": "sets torch's default type to torch.float64",
    "by-the-clock": "phases() reads the clock",
    "by-the-environment": "loss() reads the environment",
    "reads-a-file": "prepare() reads a file",
    "draws-elsewhere": "loss() reads a generator that nobody seeds",
    "vector-loss": "the loss is a tensor [6]; expected one finite number",
    "nan-for-a-label": "training diverged in phase finetune, epoch 1: the training loss is nan",
    "strange-labels": "returns labels outside [0, 1]",
    "another-head-at-the-end": "finish() puts other modules into the model",
    "tensor-beside-the-weights": "a model that is prepared anew and loads its weights",
    "forgets-its-new-part": "prepare() adds backbone.shift, which no phase trains",
    "freezes-in-prepare": "a phase trains part 'backbone.blocks.0', which has no parameters to train of its own",
    "dropout-that-rests": "prepare() puts a Dropout at backbone.stem.0.drop, which rests",
    "norm-that-rests": "prepare() puts a BatchNorm1d at backbone.stem.0.drop, which rests",
    "rests-by-rate": "prepare() puts a Dropout at backbone.stem.3, which rests",
    "hook-with-a-memory": "a hook or function of prepare() holds its modules",
    "batch-statistics": "a record's logits change by",
    "nil-at-first": "with the other records of its batch, so scores would use fold 10",
    "tent": "two passes over the same records give different outputs in eval mode",
    "random-views-at-test": "test-time augmentation has fixed transforms",
    "two-views-as-one": "return a second view of the records in a dict as third value",
    "few-extras": "returns a tensor [2] as 'noise' of its third value, expected a tensor [record, ...] of 6 records",
    "noise-by-the-step": "loss() seeds a generator, so that all seeds, draws and cells have the same noise",
    "alters-an-extra": "loss() alters the batch in place",
    "two-nil-factors": "has a gradient of 0 in every step, so it never learns",
    "one-rate": "the rate 0.002, and the phase declares 0.0001, which the result records",
    "spares-nothing": "spares bias, norm.weight from weight decay, which fits no parameter that it trains",
    "fits-another-phase": "finish() leaves phase 'closed-form', which it is to fit, as it began",
    "fits-without-finish": "FitsWithoutFinish is fitted by finish(), which the method does not have",
    "views-at-the-end": "the trained model gives other outputs than a new one that loads its weights",
    "remembers-for-eval": "the trained model gives other outputs than a new one that loads its weights",
}
BY_RANKS = ("mixup-in-loss", "batch-mean", "half-of-the-batch", "noise-in-loss")
"""What only several ranks show."""
STOPS_RANKS = "memory-of-a-rank"
"""What several ranks refuse."""
CHECK_OF_RANKS = "trains alike on two processes, and after another run"


def test_a_backbone_that_is_frozen_by_hand_rests() -> None:
    trial, method = trial_of("frozen-by-hand")
    before = {key: value.clone() for key, value in trial.model.state_dict().items()}

    after = run_trial(trial, method, ALONE)

    moved = {key for key in after if not torch.equal(before[key], after[key])}
    assert moved and all(key.startswith("head.") or key.endswith((".left", ".right")) for key in moved), moved


def test_a_prepare_that_changes_the_features_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def note(prepare: Callable[[Method, Classifier, Start], None]) -> list[str | None]:
        monkeypatch.setattr(FullFinetune, "prepare", prepare)
        found = check_method(Reference("ft"), Reference("small"), two_processes=False)
        return [each.does_not_apply for each in found if each.check.startswith("keeps the weights")]

    def forgets(self: Method, model: Classifier, init: Start) -> None:
        model.apply(lambda module: nn.init.ones_(module.weight) if isinstance(module, nn.Conv1d) else None)

    (text,) = note(forgets)
    assert str(text).startswith("prepare() changes stem.0.weight, and with it the features")
    assert note(lambda self, model, init: nn.init.ones_(model.head.weight)) == []  # type: ignore[arg-type]


def test_every_faulty_method_is_expected_to_be_caught() -> None:
    assert {*CAUGHT, *BY_RANKS, STOPS_RANKS} == set(FAULTY)


@pytest.mark.parametrize("name", CAUGHT)
def test_faulty_methods_are_caught(name: str) -> None:
    (fault,) = set(faults(name).values())

    assert CAUGHT[name] in fault
    assert "\n" not in fault


@pytest.mark.parametrize("name", ["forgets-its-new-part", "freezes-in-prepare", "dropout-that-rests"])
def test_a_run_refuses_what_the_check_refuses(name: str, demo_set: Path, tmp_path: Path) -> None:
    cell = Cell(data=demo_set, task="superdiag", arch=Reference("small"), method=Reference(name), init="random")

    with pytest.raises(BenchError) as caught:
        execute(cell, Options(runs=tmp_path, stage="val", console=Console(file=io.StringIO())))
    assert str(caught.value) == next(iter(faults(name).values()))


def on_ranks(num_ranks: int, names: list[str], folder: Path, arch: str = "small") -> dict[str, Any]:
    """The ends of these methods' runs on so many ranks, which are started once for all of them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}"]
    done = subprocess.run(
        [*command, __file__, str(folder / "ends.pt"), arch, *names],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = torch.load(folder / "ends.pt")
    return found


@pytest.fixture(scope="module", params=[2, 3])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return on_ranks(request.param, [*SHIPPED, *RIGHT, *BY_RANKS], tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SHIPPED, *RIGHT])
def test_the_number_of_ranks_does_not_matter(name: str, together: dict[str, Any]) -> None:
    """The last batch has two records, so that a third rank has none."""
    alone = end_of(name, ALONE)
    if alone is None:  # it declines a random start, or freezes the only blocks that it would drop
        assert name in ("warm-head", "ft-hubert-ecg") and together[name] is None
        return
    gap, key = largest_gap(alone, together[name])

    assert gap <= 1e-8, key


@pytest.mark.slow
@pytest.mark.parametrize("arch", FAMILIES)
def test_the_number_of_ranks_does_not_matter_on_any_family(arch: str, tmp_path: Path) -> None:
    """Every shipped method on 2 and 3 ranks, all methods in one start of the ranks."""
    alone = {name: end_of(name, ALONE, arch) for name in SHIPPED}
    gaps: dict[tuple[str, int], tuple[float, str]] = {}
    for num_ranks in (2, 3):
        for name, end in on_ranks(num_ranks, SHIPPED, tmp_path, arch).items():
            expected = alone[name]
            assert (end is None) == (expected is None), name
            if end is not None and expected is not None:
                gaps[name, num_ranks] = largest_gap(expected, end)

    assert len(gaps) >= 2 * (len(SHIPPED) - 8), "at most six need blocks, and two freeze the first of several groups"
    assert {case: found for case, found in gaps.items() if not found[0] <= 1e-8} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_RANKS)
def test_what_a_rank_does_alone_shows(name: str, together: dict[str, Any]) -> None:
    alone = end_of(name, ALONE)
    assert alone is not None
    gap, _ = largest_gap(alone, together[name])

    assert gap > 1e-5
    assert rounding_gap(alone, *trial_of(name, "small")) <= 1e-8, "it is not rounding"


@pytest.mark.slow
def test_a_memory_that_ranks_do_not_share_is_a_fault_and_one_that_they_share_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By all of `bench check`, whose ranks are processes of their own."""
    monkeypatch.setenv("BENCH_PLUGINS", os.pathsep.join(str(PLUGINS / f"{name}.py") for name in FILES))
    found = {
        name: {finding.check: finding.fault for finding in check_method(Reference(name), Reference("small"))}
        for name in ("early-learning", "two-views", STOPS_RANKS)
    }

    fault = found[STOPS_RANKS].pop(CHECK_OF_RANKS)
    assert fault is not None and fault.startswith("batch.state['seen'] differs between processes, and a checkpoint")
    assert {name: {fault for fault in faults.values() if fault} for name, faults in found.items()} == {
        "early-learning": set(),
        "two-views": set(),
        STOPS_RANKS: set(),
    }
    assert CHECK_OF_RANKS in found["early-learning"].keys() & found["two-views"].keys()


if __name__ == "__main__":
    with join() as the_world:
        registry()
        for file in FILES:
            load(file)
        ends = {name: end_of(name, the_world, sys.argv[2]) for name in sys.argv[3:]}
        if the_world.is_main:
            torch.save(ends, sys.argv[1])
        the_world.wait()
