"""The shipped recipes: their values, and that the ones that are compared differ in nothing else."""

import ast
import inspect
import re
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from baselines.fcn import FCNWang
from baselines.net1d import Net1DMini
from bench.errors import BenchError, Incompatible
from bench.execute import make_backbone, make_method
from bench.registry.reference import Reference
from bench.registry.registry import registry
from bench.registry.trials import set_up
from bench.training.batch import Start
from bench.training.loop import rehearse
from bench.training.method import Method, Phase
from bench.training.model import Classifier, count_parameters
from methods.ft_official import OfficialFinetune
from methods.full_finetune import FullFinetune, FullFinetuneStochasticDepth
from methods.linear_probe import LinearProbe
from methods.lpft import LPFT, LPFTStochasticDepth
from methods.scratch import Scratch, ScratchS4, ScratchWavelet

ALL = [
    LinearProbe,
    FullFinetune,
    FullFinetuneStochasticDepth,
    LPFT,
    LPFTStochasticDepth,
    OfficialFinetune,
    Scratch,
    ScratchS4,
    ScratchWavelet,
]

SHIPPED = [plugin.name for plugin in registry().of_kind("method") if plugin.module.startswith("methods.")]
README = Path(inspect.getfile(LinearProbe)).parent / "README.md"


def trained_on_net1d_mini(name: str) -> list[int]:
    """Parameters that each phase trains, with 5 labels."""
    method = make_method(Reference(name))
    model, phases = set_up(partial(make_backbone, Reference("net1d_mini")), method)
    found = []
    for phase in phases:
        model.train_parts(phase.learning_rates, fitted=phase.fitted)
        found.append(count_parameters(model, trainable=True))
    return found


def test_the_table_of_the_readme_is_complete_and_its_parameters_are_right() -> None:
    part = README.read_text().partition("\n| method |")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")]
    assert sorted(row[0].strip("`") for row in rows[1:]) == sorted(SHIPPED)
    for name, change, parameters, *_, source in rows[1:]:
        trained = [f"{num:,}" for num in trained_on_net1d_mini(name.strip("`"))]
        ends = {trained[0], trained[-1], f"{trained[0]}, then {trained[-1]}", f"{trained[0]} to {trained[-1]}"}
        assert parameters in ends and (len(trained) == 1 or parameters not in trained), name
        assert change and (re.search(r"\b(19|20)\d\d\b|arXiv|GitHub|ECGFounder", source)), name


@pytest.mark.parametrize("name", SHIPPED)
def test_each_method_is_short_and_says_where_it_is_from_and_what_can_be_tuned(name: str) -> None:
    kind = type(make_method(Reference(name)))
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    docstrings = [n.body[0] for n in ast.walk(definition) if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    spared = {
        line
        for node in docstrings
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }
    lines = inspect.getsource(kind).splitlines()
    code = [
        line
        for number, line in enumerate(lines, 1)
        if line.strip() and number >= definition.lineno and number not in spared
    ]

    assert len(code) <= 25, f"{len(code)} lines of code"
    about = (inspect.getdoc(kind) or "") + (inspect.getdoc(inspect.getmodule(kind)) or "")
    about += "".join(inspect.getdoc(base) or "" for base in kind.__mro__ if base.__module__.startswith("methods."))
    assert re.search(r"\b(19|20)\d\d\b|arXiv|et al\.|notebook|Code \S+/\S+", about)
    assert kind.search or name == "prototype", "prototypes have no hyper-parameters"


def only(method: Method, name: str) -> dict[str, Any]:
    (phase,) = [phase for phase in method.phases(()) if phase.name == name]
    return asdict(phase)


def test_the_compared_methods_share_one_fine_tuning_recipe() -> None:
    recipe = only(FullFinetune(), "finetune")

    assert only(LPFT(), "finetune") == recipe
    assert only(FullFinetuneStochasticDepth(), "finetune") == {**recipe, "drop_path_rate": 0.5}
    assert only(LPFTStochasticDepth(), "finetune") == {**recipe, "drop_path_rate": 0.5}
    assert recipe == asdict(
        Phase(
            name="finetune",
            learning_rates={"backbone": 5e-4, "head": 5e-4},
            epochs=30,
            batch_size=256,
            optimizer="adamw",
            weight_decay=0.05,
            lr_schedule="cosine",
            min_lr_factor=1e-5 / 5e-4,
        )
    )


def test_the_compared_methods_share_one_probe() -> None:
    probe = only(LinearProbe(), "probe")

    assert only(LPFT(), "probe") == only(LPFTStochasticDepth(), "probe") == probe
    assert probe == asdict(
        Phase(name="probe", learning_rates={"head": 5e-3}, epochs=30, batch_size=256, weight_decay=0.1)
    )


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (LinearProbe(), ["probe"]),
        (FullFinetune(), ["finetune"]),
        (FullFinetuneStochasticDepth(), ["finetune"]),
        (LPFT(), ["probe", "finetune"]),
        (LPFTStochasticDepth(), ["probe", "finetune"]),
    ],
)
def test_phases_come_in_order(method: Method, names: list[str]) -> None:
    assert [phase.name for phase in method.phases(())] == names
    assert all(phase.selection == "best" for phase in method.phases(()))


def test_the_official_recipe_is_the_notebooks() -> None:
    (phase,) = OfficialFinetune().phases(())

    assert (phase.optimizer, phase.learning_rates, phase.weight_decay) == (
        "adam",
        {"backbone": 1e-4, "head": 1e-4},
        1e-5,
    )
    assert (phase.epochs, phase.batch_size, phase.lr_schedule) == (5, 256, "plateau")


def test_scratch_is_the_published_one_cycle() -> None:
    (phase,) = Scratch().phases(())

    assert (phase.epochs, phase.batch_size, phase.lr_schedule, phase.selection) == (50, 128, "one-cycle", "last")
    assert (phase.learning_rates, phase.weight_decay) == ({"backbone": 1e-2, "head": 1e-2}, 1e-2)
    optimizer = Scratch().optimizer([{"params": [nn.Parameter(nn.Linear(1, 1).weight)], "lr": 1e-2}], phase, dict)
    assert optimizer.defaults["betas"][1] == 0.99 and optimizer.defaults["weight_decay"] == 1e-2


def test_s4_is_trained_at_a_constant_rate() -> None:
    (phase,) = ScratchS4().phases(())

    assert (phase.epochs, phase.batch_size, phase.lr_schedule, phase.selection) == (100, 128, "constant", "best")
    assert (phase.learning_rates, phase.weight_decay) == ({"backbone": 1e-3, "head": 1e-3}, 1e-3)
    assert phase.optimizer == "adamw"


def test_wavelet_nn_is_trained_by_adamax_to_the_best_epoch() -> None:
    (phase,) = ScratchWavelet().phases(())
    groups = [{"params": [nn.Parameter(nn.Linear(1, 1).weight)], "lr": 1e-3}]
    optimizer = ScratchWavelet().optimizer(groups, phase, dict)

    assert (phase.epochs, phase.batch_size, phase.lr_schedule, phase.selection) == (30, 128, "constant", "best")
    assert phase.learning_rates == {"backbone": 2e-3, "head": 2e-3}
    assert type(optimizer).__name__ == "Adamax" and optimizer.defaults["eps"] == 1e-7
    assert optimizer.param_groups[0]["lr"] == 1e-3 and optimizer.defaults["weight_decay"] == 0


def test_scratch_declines_weights() -> None:
    model = Classifier(Net1DMini(), 3)

    Scratch().prepare(model, Start("random", 10, ()))
    for init in ("pretrained", "own:0123abcd"):
        with pytest.raises(Incompatible, match=f"this recipe starts from random weights, and --init gives {init}"):
            Scratch().prepare(model, Start(init, 10, ()))


@pytest.mark.parametrize("kind", ALL)
def test_every_recipe_can_be_rehearsed(kind: type[Method]) -> None:
    rehearse(Classifier(Net1DMini(), 3), kind().phases(()))


@pytest.mark.parametrize("kind", [FullFinetuneStochasticDepth, LPFTStochasticDepth])
def test_stochastic_depth_declines_a_backbone_without_residual_blocks(kind: type[Method]) -> None:
    with pytest.raises(Incompatible, match="needs at least two residual blocks"):
        rehearse(Classifier(FCNWang(), 3), kind().phases(()))


@pytest.mark.parametrize("lr", [0.0, -1e-3])
def test_a_wrong_learning_rate_is_one_line(lr: float) -> None:
    with pytest.raises(BenchError, match="the learning rate of 'backbone' must be positive"):
        FullFinetune(finetune_lr=lr).phases(())


def test_hyper_parameters_reach_the_phases() -> None:
    probe, finetune = LPFTStochasticDepth(
        probe_epochs=2, probe_lr=0.1, finetune_min_lr=5e-4, drop_path_rate=0.2
    ).phases(())

    assert (probe.epochs, probe.learning_rates["head"]) == (2, 0.1)
    assert (finetune.min_lr_factor, finetune.drop_path_rate) == (1.0, 0.2)
