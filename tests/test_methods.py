"""The shipped recipes: their values, and that the ones that are compared differ in nothing else."""

from dataclasses import asdict
from typing import Any

import pytest
from torch import nn

from baselines.fcn import FCNWang
from baselines.net1d import Net1DMini
from bench.errors import BenchError, Incompatible
from bench.training.batch import Start
from bench.training.loop import rehearse
from bench.training.method import Method, Phase
from bench.training.model import Classifier
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
