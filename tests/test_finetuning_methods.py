"""What makes each variant of fine-tuning that method: its formula on a small case, its phases, its layers."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.fcn import FCNWang
from baselines.net1d import Net1DMini
from bench.errors import Incompatible, PluginError
from bench.execute import make_method
from bench.plugin import EMA, SWA, Classifier, DropPath, Method
from bench.registry.reference import Reference
from bench.training.batch import Start
from methods.augmentation import Augment, CutMix, Mixup
from methods.full_finetune import (
    FullFinetune,
    FullFinetuneDropout,
    FullFinetuneEMA,
    FullFinetuneFastHead,
    FullFinetuneLong,
    FullFinetuneStochasticDepth,
    FullFinetuneSWA,
    FullFinetuneWarmup,
)
from methods.layerwise import GradualUnfreezing
from methods.linear_probe import LinearProbe
from methods.losses import Asymmetric, Balanced, Focal, LabelSmoothing
from methods.lpft import LPFT, LPFTDistill, WiSEFT
from methods.peft import LoRA, LPLoRA
from methods.regularisers import L2SP, SAM, RDrop

LOGITS = torch.tensor([[2.0, -1.0], [0.5, 3.0], [-0.2, 0.1]])
LABELS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def batch(**fields: Any) -> Any:
    """A batch of three records and two labels, as a loss sees it."""
    given = {"labels": LABELS, "logits": lambda masks=0: LOGITS + masks, "phase": SimpleNamespace(name="finetune")}
    return SimpleNamespace(**{**given, **fields})


def signal_batch(seed: int = 0, num: int = 16, **fields: Any) -> Any:
    """A batch of records [num, 12, 500] as `augment` sees it; each record has its own number as value."""
    signals = torch.arange(1.0, num + 1).view(num, 1, 1).expand(num, 12, 500).clone()
    labels = (torch.arange(num).view(num, 1) == torch.arange(num)).float()
    given = {"signals": signals, "labels": labels, "rng": np.random.default_rng(seed), "rate": 100}
    return SimpleNamespace(**{**given, **fields})


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        (FullFinetuneLong(), {"epochs": sum(phase.epochs for phase in LPFT().phases(()))}),
        (FullFinetuneWarmup(), {"warmup": 0.1}),
        (FullFinetuneEMA(), {"average": EMA(0.999)}),
        (FullFinetuneSWA(), {"average": SWA(0.75), "min_lr_factor": 0.5}),
        (FullFinetuneFastHead(), {"learning_rates": {"backbone": 5e-4, "head": 5e-3}}),
        (
            FullFinetuneStochasticDepth(drop_path_shape="constant"),
            {"drop_path_rate": 0.5, "drop_path_shape": "constant"},
        ),
        (
            FullFinetuneStochasticDepth(drop_path_unit="batch", drop_path_when="early"),
            {"drop_path_rate": 0.5, "drop_path_unit": "batch", "drop_path_when": "early"},
        ),
        (FullFinetune(patience=3), {"patience": 3}),
        (L2SP(), {"weight_decay": 0.0}),
        (RDrop(), {"drop_path_rate": 0.5}),
        *((kind(), {}) for kind in (FullFinetuneDropout, SAM, Focal, Asymmetric, Balanced, LabelSmoothing)),
        *((kind(), {}) for kind in (Mixup, CutMix, Augment)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Method) else "",
)
def test_a_variant_differs_from_ft_in_what_its_name_says_alone(method: Method, changes: dict[str, Any]) -> None:
    (recipe,), (phase,) = FullFinetune().phases(()), method.phases(())

    assert phase == replace(recipe, **changes)


@pytest.mark.parametrize(("kind", "changes"), [(WiSEFT, {"selection": "last"}), (LPFTDistill, {})])
def test_what_follows_lpft_has_its_phases(kind: type[Method], changes: dict[str, Any]) -> None:
    probe, finetune = LPFT().phases(())

    assert list(kind().phases(())) == [probe, replace(finetune, **changes)]


def test_wise_ft_with_patience_still_trains_to_the_end() -> None:
    assert WiSEFT(patience=3).phases(())[1].patience is None


def test_a_probe_before_lora_is_that_of_lp() -> None:
    assert LPLoRA(rank=2).phases(()) == [*LinearProbe().phases(()), *LoRA(rank=2).phases(())]


def test_dropout_stands_where_stochastic_depth_would_with_the_same_rates() -> None:
    model = Classifier(Net1DMini(), 3)
    num_blocks = sum(isinstance(module, DropPath) for module in model.modules())
    FullFinetuneDropout(dropout=0.5).prepare(model, Start("random", 10, ()))
    rates = [module.p for module in model.backbone.modules() if isinstance(module, nn.Dropout)]

    assert rates == pytest.approx(np.linspace(0, 0.5, num_blocks))
    assert not any(isinstance(module, DropPath) for module in model.modules())
    with pytest.raises(Incompatible, match="at least two residual blocks, and this backbone has none"):
        FullFinetuneDropout().prepare(Classifier(FCNWang(), 3), Start("random", 10, ()))


def test_dropout_on_net1d_drops_whole_channels_and_says_so() -> None:
    model, shapes = Classifier(Net1DMini(), 3), list[tuple[int, ...]]()
    FullFinetuneDropout().prepare(model, Start("random", 10, ()))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))

    model(torch.randn(2, 12, 250))

    assert {len(shape) for shape in shapes} == {2} and shapes[-1] == (2, 256), "[record, channel], without time"
    assert "whole channels" in (FullFinetuneDropout.__doc__ or "")


@pytest.mark.parametrize(
    "method",
    [
        *(Focal(gamma=0.5), Focal(gamma=4.0), Asymmetric(margin=0.0), Asymmetric(gamma_positive=0.5)),
        *(Balanced(beta=0.0), Balanced(beta=0.99999999), Balanced(beta=1.0)),
    ],
)
def test_losses_of_certain_predictions_have_finite_gradients(method: FullFinetune) -> None:
    logits = torch.tensor([[-120.0, -20, 0, 18, 120], [120, 18, 0, -20, -120]], requires_grad=True)
    facts = {"num_records": 1709, "positives": torch.tensor([1.0, 3, 171, 800, 1709])}

    for label in (0.0, 1.0):
        logits.grad = None
        loss = method.loss(SimpleNamespace(logits=lambda: logits, labels=torch.full((2, 5), label), **facts))  # type: ignore[arg-type]
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()
        assert logits.grad.abs().max() > 0


def test_focal_loss_at_gamma_0_is_bce_and_falls_for_what_is_certain() -> None:
    plain = F.binary_cross_entropy_with_logits(LOGITS, LABELS)
    p = torch.where(LABELS > 0, LOGITS.sigmoid(), 1 - LOGITS.sigmoid())

    assert float(Focal(gamma=0.0).loss(batch())) == pytest.approx(float(plain))
    assert float(Focal(gamma=2.0).loss(batch())) == pytest.approx(float(((1 - p) ** 2 * -p.log()).mean()))


def test_asymmetric_loss_is_the_papers() -> None:
    total = 0.0
    for logit, label in zip(LOGITS.flatten().tolist(), LABELS.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        q = max(p - 0.05, 0.0)
        total -= (1 - p) * math.log(p) if label else q**4 * math.log(1 - q)

    assert float(Asymmetric().loss(batch())) == pytest.approx(total / 6, rel=1e-5)
    plain = F.binary_cross_entropy_with_logits(LOGITS, LABELS)
    same = Asymmetric(gamma_negative=0.0, gamma_positive=0.0, margin=0.0).loss(batch())
    assert float(same) == pytest.approx(float(plain), rel=1e-5)


def test_balanced_weights_positives_by_effective_numbers() -> None:
    counts = batch(num_records=1000, positives=torch.tensor([10.0, 500.0]))
    weights = [(1 - 0.99**990) / (1 - 0.99**10), 1.0]
    expected = F.binary_cross_entropy_with_logits(LOGITS, LABELS, pos_weight=torch.tensor(weights))

    assert float(Balanced(beta=0.99).loss(counts)) == pytest.approx(float(expected), rel=1e-5)
    plain = F.binary_cross_entropy_with_logits(LOGITS, LABELS)
    assert float(Balanced(beta=0.0).loss(counts)) == pytest.approx(float(plain), rel=1e-6)


def test_label_smoothing_moves_labels_to_one_half() -> None:
    expected = F.binary_cross_entropy_with_logits(LOGITS, torch.where(LABELS > 0, 0.95, 0.05))

    assert float(LabelSmoothing().loss(batch())) == pytest.approx(float(expected))


def test_r_drop_adds_the_symmetric_divergence_of_two_passes() -> None:
    p, q = LOGITS.sigmoid(), (LOGITS + 1).sigmoid()
    kl = lambda a, b: (a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log()).mean()
    of_labels = sum(F.binary_cross_entropy_with_logits(LOGITS + masks, LABELS) for masks in (0, 1)) / 2

    assert float(RDrop(alpha=3.0).loss(batch())) == pytest.approx(
        float(of_labels + 1.5 * (kl(p, q) + kl(q, p))), rel=1e-5
    )


def test_l2_sp_pulls_the_backbone_to_its_start_and_the_head_to_zero() -> None:
    parameters = {"backbone.a": torch.tensor([3.0, 1.0]), "head.weight": torch.tensor([2.0])}
    start = {"backbone.a": torch.tensor([1.0, 1.0]), "head.weight": torch.tensor([5.0])}
    plain = F.binary_cross_entropy_with_logits(LOGITS, LABELS)

    loss = L2SP(alpha=0.1, beta=0.01).loss(batch(parameters=parameters, initial_weights=start))

    assert LABELS.shape[1] == 2
    assert float(loss) == pytest.approx(float(plain) + (0.1 / 2 * 4 + 0.01 / 2 * 4) / 2)


def test_distillation_mixes_labels_and_the_probes_answers_after_the_probe() -> None:
    probe = torch.zeros(3, 2)
    plain = F.binary_cross_entropy_with_logits(LOGITS, LABELS)
    agreement = F.binary_cross_entropy_with_logits(LOGITS, torch.full((3, 2), 0.5))
    method = LPFTDistill(weight=0.25)

    assert float(method.loss(batch(initial=lambda: probe))) == pytest.approx(float(0.75 * plain + 0.25 * agreement))
    assert float(method.loss(batch(phase=SimpleNamespace(name="probe")))) == pytest.approx(float(plain))


def test_sam_steps_by_the_gradient_at_the_perturbed_point() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    seen: list[Tensor] = []

    def closure() -> Tensor:
        seen.append(weight.detach().clone())
        optimizer.zero_grad()
        loss = weight.square().sum() / 2  # its gradient is the weight
        loss.backward()
        return loss

    SAM(rho=0.5).optimizer_step(optimizer, closure)

    torch.testing.assert_close(seen[1], torch.tensor([3.3, 4.4]))  # 0.5 along (0.6, 0.8)
    torch.testing.assert_close(weight.data, torch.tensor([3.0, 4.0]) - 0.1 * torch.tensor([3.3, 4.4]))


def test_wise_ft_takes_the_share_that_fold_9_likes_best_and_leaves_the_probe_alone() -> None:
    model = Classifier(Net1DMini(), 2)
    before = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    after = {key: value.clone() for key, value in model.state_dict().items()}
    scores: list[dict[str, Tensor]] = []
    wanted = 0.3

    def score(weights: dict[str, Tensor]) -> float:
        scores.append(weights)
        return -float((weights["head.weight"] - wanted * after["head.weight"]).abs().sum())

    judge: Any = SimpleNamespace(
        phase=SimpleNamespace(name="finetune"), before=before, score=score, recalibrate=lambda: scores.append({})
    )
    WiSEFT().finish(model, judge)

    assert len(scores) == 12 and scores[-1] == {}, "eleven shares, then batch-norm statistics"
    torch.testing.assert_close(model.head.weight.data, wanted * after["head.weight"])
    judge.phase.name = "probe"
    WiSEFT().finish(model, judge)
    assert len(scores) == 12
    judge.phase.name, wanted = "finetune", 1.0
    WiSEFT().finish(model, judge)
    assert len(scores) == 23, "at an end of the line the statistics are that end's"


def test_mixup_mixes_signals_and_labels_alike() -> None:
    given = signal_batch()
    signals, labels = Mixup().augment(given)

    values = torch.arange(1.0, 17.0)
    torch.testing.assert_close(signals[:, 0, 0], labels @ values)
    torch.testing.assert_close(labels.sum(1), torch.ones(16))
    assert (labels.max(1).values < 1).any()


def test_cutmix_labels_follow_the_share_of_time() -> None:
    given = signal_batch(seed=3)
    signals, labels = CutMix().augment(given)

    values = torch.arange(1.0, 17.0)
    torch.testing.assert_close(signals.mean((1, 2)), labels @ values)
    own = signals == values.view(-1, 1, 1)
    assert own.all(1).equal(own.any(1)), "all leads at once"
    assert not own.all() and given.signals[0, 0, 0] == 1.0, "the batch itself is not altered"


def test_cutmix_reaches_the_ends_of_a_record_as_often_as_yun_et_al() -> None:
    """With a centre anywhere, a sample at an end is replaced in a quarter of the batches, one in the middle in half."""
    first, middle = 0, 0
    for seed in range(400):
        own = CutMix().augment(signal_batch(seed))[0][:, 0] == torch.arange(1.0, 17.0).view(-1, 1)
        first, middle = first + int(not own[:, 0].all()), middle + int(not own[:, 250].all())

    assert 0.2 < first / 400 < 0.31
    assert 0.43 < middle / 400 < 0.57


def test_augmentation_is_drawn_from_the_batchs_generator_and_grows_with_its_strength() -> None:
    torch.manual_seed(0)
    noise = torch.randn(16, 12, 500)
    results = [Augment(strength=s).augment(signal_batch(signals=noise, seed=7))[0] for s in (0.0, 0.5, 0.5, 1.5)]

    torch.testing.assert_close(results[0], noise)
    torch.testing.assert_close(results[1], results[2])
    weak, strong = ((result - noise).square().mean() for result in (results[1], results[3]))
    assert 0 < weak < strong
    changed = (results[3] != noise).flatten(1).any(1)
    assert changed.sum() > 8


@pytest.mark.parametrize("method", ["wise-ft(points=33)", "wise-ft(points=1)", "lp-lbfgs(strengths=33)"])
def test_more_weights_than_fold_9_may_score_are_refused_before_training(method: str) -> None:
    with pytest.raises(PluginError, match=r"takes int of at least [12] and at most 32, got"):
        make_method(Reference.parse(method))


@pytest.mark.parametrize(
    ("method", "refusal"),
    [
        ("lpft-distill(weight=1.5)", "weight takes float of at least 0 and at most 1, got 1.5"),
        (
            "lp-lbfgs(smallest_c=100.0, largest_c=1e-6)",
            "smallest_c 100 is above largest_c 1e-06; lower it, or raise largest_c",
        ),
    ],
)
def test_hyper_parameters_that_turn_a_method_round_are_refused(method: str, refusal: str) -> None:
    with pytest.raises(PluginError, match=refusal):
        make_method(Reference.parse(method))


@pytest.mark.parametrize("method", ["ft", "lpft-sd", "l2-sp", "llrd", "ft-ecg-jepa-weimann"])
def test_a_final_rate_above_the_first_is_refused_by_its_name(method: str) -> None:
    with pytest.raises(PluginError, match="finetune_min_lr 1e-05 is above finetune_lr 5e-06; lower it too"):
        make_method(Reference(method, {"finetune_lr": 5e-6}))
    with pytest.raises(PluginError, match=r"finetune_min_lr takes float of at least 0, got -1\.0"):
        make_method(Reference(method, {"finetune_min_lr": -1.0}))
    assert make_method(Reference(method, {"finetune_lr": 5e-6, "finetune_min_lr": 5e-6})).phases(["backbone.a"])


def test_patience_is_that_of_the_last_phase_of_gradual_unfreezing() -> None:
    *thaws, last = GradualUnfreezing(patience=3).phases(("backbone.stem", "backbone.blocks"))

    assert [phase.patience for phase in thaws] == [None] * len(thaws) and last.patience == 3
