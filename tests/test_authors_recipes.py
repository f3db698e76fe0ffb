"""What makes the recipes of foundation models' authors those recipes: rates, weight decay, dropout, loss."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from baselines.ecg_jepa_weimann import WeimannJEPA
from baselines.fcn import FCNWang
from bench.errors import Incompatible
from bench.plugin import Classifier, DropPath, Method
from bench.training.batch import Start
from bench.training.schedule import make_schedule
from bench.training.weight_decay import split_weight_decay
from methods.foundation import (
    FinetuneECGFM,
    FinetuneECGJEPA,
    FinetuneECGJEPAWeimann,
    FinetuneHuBERTECG,
    FinetuneSTMEM,
    ProbeThenFinetuneECGJEPAWeimann,
)

START = Start("random", 100, ())
GROUPS = ("backbone.conv", "backbone.blocks.0", "backbone.blocks.1")
LOGITS = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
LABELS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])


def small() -> Classifier:
    return Classifier(WeimannJEPA(16, depth=2, num_heads=2), 3)


def rates(method: Method, number: int, steps_per_epoch: int) -> list[float]:
    """The head's learning rate in each step of a phase."""
    phase = method.phases(GROUPS)[number]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=phase.learning_rates["head"])
    schedule, taken = make_schedule(optimizer, phase, steps_per_epoch), []
    for _ in range(phase.epochs * steps_per_epoch):
        taken.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule:
            schedule.step()  # type: ignore[call-arg]
    return taken


def weimann_rates(steps: int, start: float, final: float, warmup: int) -> list[float]:
    """Rates by the formula of `cosine_schedule` in utils/schedules.py of kweimann/ECG-JEPA, whose warm-up is a line."""
    rising = [1e-6 + (start - 1e-6) * step / warmup for step in range(warmup)]
    shares = [(1 + math.cos(math.pi * step / (steps - warmup - 1))) / 2 for step in range(steps - warmup)]
    return rising + [final + (start - final) * share for share in shares]


def test_weimanns_rates_are_those_of_their_schedule() -> None:
    """137 steps of 128 records an epoch, 73 epochs: 10,001 steps, one more than theirs."""
    direct = rates(FinetuneECGJEPAWeimann(), 0, 137)
    second = rates(ProbeThenFinetuneECGJEPAWeimann(), 1, 137)

    assert direct == pytest.approx(weimann_rates(len(direct), 1e-3, 1e-5, 200), abs=6e-6)
    assert second == pytest.approx(weimann_rates(len(second), 1e-4, 1e-6, 203), abs=6e-7)
    assert direct[-1] == pytest.approx(1e-5) and max(direct) == pytest.approx(1e-3)
    assert set(rates(ProbeThenFinetuneECGJEPAWeimann(), 0, 1)) == {1e-3}


@pytest.mark.parametrize(("method", "lr"), [(FinetuneSTMEM(), 6.25e-5), (FinetuneECGJEPA(), 6.25e-6)])
def test_rates_of_st_mem_and_ecg_jepa_rise_for_three_of_ten_epochs_and_fall_to_0(method: Method, lr: float) -> None:
    taken = rates(method, 0, 100)

    assert taken[299:301] == pytest.approx([lr, lr], rel=0.01)
    assert taken[150] == pytest.approx(lr / 2, rel=0.01)
    assert taken[650] == pytest.approx(lr / 2, rel=0.01)
    assert taken[-1] < lr / 1000


def test_weimanns_weight_decay_is_on_weights_of_linear_layers_and_convolutions() -> None:
    model, (phase,) = small(), FinetuneECGJEPAWeimann().phases(())
    groups = split_weight_decay(model.train_parts(phase.learning_rates), phase)
    decayed = {name for group in groups if group.get("weight_decay", 0.01) == 0.01 for name in group["param_names"]}
    expected = {f"{path}.weight" for path, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv1d)}

    assert decayed == expected
    assert {name for group in groups for name in group["param_names"]} == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("method", "rate"), [(FinetuneECGJEPAWeimann(), 0.05), (ProbeThenFinetuneECGJEPAWeimann(), 0.1)]
)
def test_weimanns_dropout_stands_after_attention_and_after_both_layers_of_the_mlp(method: Method, rate: float) -> None:
    model = small()
    keys, signals = list(model.backbone.state_dict()), torch.randn(2, 12, 100)
    before = model.backbone.eval()(signals)
    method.prepare(model, START)
    dropped = {path: module.p for path, module in model.backbone.named_modules() if isinstance(module, nn.Dropout)}

    names = ("attention_drop_path", "mlp.2.1", "mlp_drop_path")
    assert dropped == {f"blocks.{block}.{name}": rate for block in (0, 1) for name in names}
    assert not any(isinstance(module, DropPath) for module in model.modules())
    assert list(model.backbone.state_dict()) == keys
    assert torch.equal(model.backbone.eval()(signals), before)
    assert not torch.equal(model.backbone.train()(signals), model.backbone.train()(signals))
    with pytest.raises(Incompatible, match=r"residual blocks, and this backbone has none|tokens"):
        method.prepare(Classifier(FCNWang(), 3), START)


def test_weimanns_probe_trains_an_attentive_head_before_all_is_trained() -> None:
    probe, finetune = ProbeThenFinetuneECGJEPAWeimann().phases(GROUPS)

    assert (dict(probe.learning_rates), dict(finetune.learning_rates)) == (
        {"head": 1e-3},
        {"backbone": 1e-4, "head": 1e-4},
    )
    assert (probe.weight_decay, finetune.weight_decay) == (0.1, 0.0)
    assert (probe.gradient_clip_norm, finetune.gradient_clip_norm) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("method", "kind", "betas"),
    [
        (FinetuneSTMEM(), torch.optim.AdamW, (0.9, 0.999)),
        (FinetuneECGJEPA(), torch.optim.AdamW, (0.9, 0.95)),
        (FinetuneECGJEPAWeimann(), torch.optim.AdamW, (0.9, 0.99)),
        (FinetuneHuBERTECG(), torch.optim.AdamW, (0.9, 0.98)),
        (FinetuneECGFM(), torch.optim.Adam, (0.9, 0.98)),
    ],
)
def test_each_has_its_optimiser(method: Any, kind: type, betas: tuple[float, float]) -> None:
    (phase,) = method.phases(GROUPS)
    optimizer = method.optimizer([{"params": [nn.Parameter(torch.zeros(1))], "lr": 1.0}], phase, dict)

    assert (type(optimizer), optimizer.defaults["betas"]) == (kind, betas)
    assert optimizer.defaults["weight_decay"] == phase.weight_decay


@pytest.mark.parametrize("method", [FinetuneHuBERTECG(), FinetuneECGFM()])
def test_hubert_ecg_and_ecg_fm_freeze_the_first_group_and_weigh_positives(method: Method) -> None:
    (phase,) = method.phases(GROUPS)
    seen: Any = SimpleNamespace(
        labels=LABELS, logits=lambda: LOGITS, num_records=100, positives=torch.tensor([20.0, 0.0])
    )

    assert list(phase.learning_rates) == ["head", "backbone.blocks.0", "backbone.blocks.1"]
    weights = torch.tensor([80 / 20, 100.0])
    expected = F.binary_cross_entropy_with_logits(LOGITS, LABELS, pos_weight=weights)
    assert float(method.loss(seen)) == pytest.approx(float(expected))
    with pytest.raises(Incompatible, match="has only one"):
        method.phases(GROUPS[:1])
