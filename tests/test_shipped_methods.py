"""What makes a method that method: its formula on a small case, by scikit-learn or torch where they have it."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from baselines.ecg_text import QueryPool
from baselines.inception1d import Inception1d
from baselines.net1d import Net1DMini
from baselines.resnet1d import ResNet1dWang
from baselines.vit1d import vit1d_tiny
from baselines.wavelet import WaveletNN
from bench.errors import Incompatible
from bench.plugin import Backbone, Method
from bench.training.batch import Start
from bench.training.loop import rehearse
from bench.training.model import Classifier, layer_groups
from methods.layerwise import AutoRGN, DiscriminativeFinetune, GradualUnfreezing, LayerwiseDecay, SurgicalFinetune
from methods.peft import Adapter, BitFit, Bottleneck, DoRA, LoRA, LowRank, WeightDecomposed
from methods.probes import (
    KNN,
    AttentionHead,
    LogisticProbe,
    LogisticRegressions,
    NormalisedProbe,
    Prototype,
    standardise,
)

GROUPS = ("backbone.a", "backbone.b", "backbone.c")
START = Start("random", 60, (30, 20))


class Answers:
    """Features and labels of 60 records, and a score that prefers the strength asked for."""

    def __init__(self, dim: int, best: int = 0) -> None:
        rng = np.random.default_rng(0)
        self.x = torch.from_numpy(rng.normal(3.0, 2.0, (60, dim)))
        noise = torch.from_numpy(rng.normal(0, 1, (60, 2)))
        self.y = ((self.x[:, :2] - 3 + noise) > 0).double()
        self.best, self.heads = best, list[dict[str, Tensor]]()

    def features(self) -> tuple[Tensor, Tensor]:
        return self.x, self.y

    def score(self, weights: dict[str, Tensor]) -> float:
        self.heads.append(weights)
        return float(len(self.heads) - 1 == self.best)


def fitted(method: LogisticProbe | KNN | Prototype, answers: Answers) -> Classifier:
    model = Classifier(Net1DMini(), 2).double()
    method.prepare(model, START)
    model.double()
    method.finish(model, answers)  # type: ignore[arg-type]
    return model


@pytest.mark.parametrize("position", [3, 9])
def test_the_lbfgs_probe_is_scikit_learns_logistic_regression(position: int) -> None:
    answers = Answers(256, best=position)
    model = fitted(LogisticProbe(tolerance=1e-12, max_iter=2000), answers)
    c = np.geomspace(1e-6, 1e2, 16)[position]
    z = StandardScaler().fit_transform(answers.x)

    assert len(answers.heads) == 16
    for label in range(2):
        theirs = LogisticRegression(C=c, tol=1e-10, max_iter=10000).fit(z, answers.y[:, label])
        ours = model.head(answers.x)[:, label].detach().numpy()
        np.testing.assert_allclose(ours, theirs.decision_function(z), atol=1e-3 * float(np.abs(ours).max()))


def test_every_strength_of_the_grid_is_scikit_learns_for_common_and_rare_labels() -> None:
    """By default within 2e-3 of the largest logit, with warm starts; by a strict tolerance within 1e-5."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(3, 2, (400, 24)) @ rng.normal(0, 1, (24, 24))  # features that depend on one another
    labels = (rng.normal(0, 2, (400, 4)) + mixed[:, :4] - mixed[:, :4].mean(0)) > np.array([0, 8, 12, -10])
    assert ((labels.mean(0) < 0.1) | (labels.mean(0) > 0.9)).any()
    z = standardise(torch.from_numpy(mixed))[0]
    y = torch.from_numpy(labels).double()
    default, strict = LogisticRegressions(z, y), LogisticRegressions(z, y)
    for c in np.geomspace(1e-6, 1e2, 16).tolist():
        (w, b), (exact_w, exact_b) = default.fit(c, 1e-8, 200), strict.fit(c, 1e-14, 1000)
        for label in range(4):
            theirs = LogisticRegression(C=c, tol=1e-12, max_iter=20000).fit(z, labels[:, label]).decision_function(z)
            size = float(np.abs(theirs).max())
            np.testing.assert_allclose(z @ w[label] + b[label], theirs, atol=2e-3 * size, rtol=0)
            np.testing.assert_allclose(z @ exact_w[label] + exact_b[label], theirs, atol=1e-5 * size, rtol=0)


def test_a_label_without_positives_leaves_the_others_as_they_are() -> None:
    answers = Answers(5)
    z = standardise(answers.x)[0]
    both = torch.stack([answers.y[:, 0], torch.zeros(60, dtype=torch.float64)], dim=1)

    together = LogisticRegressions(z, both).fit(1.0, 1e-12, 1000)
    alone = LogisticRegressions(z, both[:, :1]).fit(1.0, 1e-12, 1000)

    for ours, expected in zip(together, alone, strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours[:1], expected, rtol=1e-4, atol=1e-5)


def test_prototypes_are_scikit_learns_nearest_centroids() -> None:
    answers = Answers(256)
    logits = fitted(Prototype(), answers).head(answers.x)
    z = StandardScaler().fit_transform(answers.x)

    for label in range(2):
        theirs = NearestCentroid().fit(z, answers.y[:, label]).predict(z)
        np.testing.assert_array_equal((logits[:, label] > 0).numpy(), theirs > 0)
        p, n = (z[answers.y[:, label].numpy() == side].mean(0) for side in (1, 0))
        distances = ((z - n) ** 2).sum(1) - ((z - p) ** 2).sum(1)
        np.testing.assert_allclose(logits[:, label].detach().numpy(), distances, rtol=1e-9, atol=1e-9)


def test_neighbours_are_scikit_learns_by_cosine() -> None:
    answers = Answers(256)
    model = fitted(KNN(k=7), answers)
    z = StandardScaler().fit_transform(answers.x)
    new = answers.x[:9] + 0.5 * answers.x[9:18]
    logits = model.head(new)

    queries = (new.numpy() - answers.x.numpy().mean(0)) / answers.x.numpy().std(0)
    votes = KNeighborsClassifier(7, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))
    for label in range(2):
        theirs = votes.fit(z, answers.y[:, label]).predict_proba(queries)[:, 1]
        np.testing.assert_allclose(logits[:, label].sigmoid().numpy(), theirs.clip(1e-6, 1 - 1e-6), atol=1e-9)


def test_the_windows_of_a_record_are_averaged_for_its_neighbours() -> None:
    answers, model = Answers(256), Classifier(Net1DMini(), 2).double()
    KNN().prepare(model, Start("random", 20, (1, 1)))
    model.double()
    answers.y = answers.y[::3].repeat_interleave(3, dim=0)
    KNN().finish(model, answers)  # type: ignore[arg-type]

    torch.testing.assert_close(model.get_buffer("head.mean"), answers.x.mean(0))
    deviation = answers.x.std(0, correction=0)
    torch.testing.assert_close(model.get_buffer("head.deviation"), deviation, msg="of windows, as queries are windows")
    means = ((answers.x - answers.x.mean(0)) / deviation).view(20, 3, -1).mean(1)
    torch.testing.assert_close(model.get_buffer("head.keys"), F.normalize(means, dim=1))
    torch.testing.assert_close(model.get_buffer("head.labels"), answers.y[::3])


def test_the_normalised_probe_has_no_scale_and_maes_epsilon() -> None:
    model = Classifier(Net1DMini(), 2)
    NormalisedProbe().prepare(model, START)
    assert isinstance(model.head, nn.Sequential)
    norm = model.head[0]

    assert isinstance(norm, nn.BatchNorm1d)
    assert (norm.affine, norm.eps, norm.num_features) == (False, 1e-6, 256)
    assert [name for name, _ in model.head.named_parameters()] == ["1.weight", "1.bias"]


def test_the_attention_head_is_softmax_attention_by_its_query() -> None:
    torch.manual_seed(0)
    head, tokens = AttentionHead(8, 2, 3), torch.randn(5, 7, 8)
    w_q, w_k, w_v = head.attention.in_proj_weight.chunk(3)

    pooled = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = (tokens @ w_k[part].T) @ (head.query[0, 0] @ w_q[part].T) / 4**0.5
        pooled.append((scores.softmax(1).unsqueeze(2) * (tokens @ w_v[part].T)).sum(1))
    expected = head.linear(torch.cat(pooled, dim=1) @ head.attention.out_proj.weight.T)

    torch.testing.assert_close(head(tokens), expected)


def test_layerwise_decay_is_timms() -> None:
    (phase,) = LayerwiseDecay(finetune_lr=1.0, decay=0.5).phases(GROUPS)

    # timm, param_groups_layer_decay: scale of layer i of n + 1, the head the last, is decay^(n - i)
    assert phase.learning_rates == {"head": 1.0, "backbone.c": 0.5, "backbone.b": 0.25, "backbone.a": 0.125}
    assert phase.no_weight_decay == ("1d",)


def test_three_speeds() -> None:
    (phase,) = DiscriminativeFinetune().phases(GROUPS)

    assert phase.learning_rates == pytest.approx(
        {"head": 1e-3, "backbone.c": 1e-4, "backbone.b": 1e-4, "backbone.a": 1e-5}
    )
    assert (phase.optimizer, phase.lr_schedule) == ("adamw", "constant")


def test_stages_thaw_from_above() -> None:
    phases = GradualUnfreezing(stages=2).phases([f"backbone.{n}" for n in range(5)])

    upper = [f"backbone.{n}" for n in (2, 3, 4)]
    assert [sorted(phase.learning_rates) for phase in phases] == [["head"], [*upper, "head"], ["backbone", "head"]]
    assert [phase.epochs for phase in phases] == [1, 1, 30]


def test_surgery_is_on_one_group() -> None:
    for block, group in ((0, "backbone.a"), (-1, "backbone.c")):
        (phase,) = SurgicalFinetune(block=block).phases(GROUPS)
        assert sorted(phase.learning_rates) == [group, "head"]
    with pytest.raises(Incompatible, match="there is no block 3: the backbone has 3 layer groups"):
        SurgicalFinetune(block=3).phases(GROUPS)


@pytest.mark.parametrize("method", [SurgicalFinetune(), DiscriminativeFinetune(), AutoRGN()])
def test_what_is_between_layer_groups_declines_a_backbone_with_one(method: Method) -> None:
    alone = Classifier(WaveletNN(), 2)
    assert len(alone.backbone.layer_groups()) == 1
    with pytest.raises(Incompatible, match="at least two layer groups, and this backbone has one"):
        method.prepare(alone, START)
    method.prepare(Classifier(Net1DMini(), 2), START)


@pytest.mark.parametrize("backbone", [ResNet1dWang, Inception1d, Net1DMini])
def test_stages_need_no_blocks_that_drop(backbone: Callable[[], Backbone]) -> None:
    model = Classifier(backbone(), 2)

    *thaws, last = phases = GradualUnfreezing(drop_path_rate=0.5).phases(layer_groups(model.backbone))

    rehearse(model, phases)
    assert not any(phase.drop_path_rate for phase in thaws) and last.drop_path_rate == 0.5


def test_rates_follow_relative_gradients() -> None:
    weights = [nn.Parameter(torch.full((4,), value)) for value in (1.0, 2.0, 1.0)]
    gradients = {"a": torch.full((4,), 3.0), "b": torch.full((4,), 3.0), "head": torch.full((4,), 100.0)}
    groups = [{"params": [p], "param_names": [n], "lr": 0.1} for n, p in zip(gradients, weights, strict=True)]
    (phase,) = AutoRGN().phases(GROUPS)

    optimizer = AutoRGN().optimizer(groups, phase, lambda: gradients)

    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.05, 0.1])
    assert list(phase.learning_rates)[-1] == "head"


def test_low_rank_and_decomposed_weights() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 2, 3, dtype=torch.float64)
    lora, dora = LowRank(weight, 2, 8.0), WeightDecomposed(weight, 2, 8.0)
    torch.testing.assert_close(lora(weight), weight)
    torch.testing.assert_close(dora(weight), weight)
    for layer in (lora, dora):
        nn.init.normal_(layer.lora_b)
    nn.init.uniform_(dora.lora_magnitude, 1, 2)

    updated = weight + 4.0 * (lora.lora_b @ lora.lora_a).view(6, 2, 3)
    torch.testing.assert_close(lora(weight), updated)
    direction = weight + 4.0 * (dora.lora_b @ dora.lora_a).view(6, 2, 3)
    torch.testing.assert_close(
        dora(weight), dora.lora_magnitude.view(6, 1, 1) * F.normalize(direction.flatten(1), dim=1).view(6, 2, 3)
    )


@pytest.mark.parametrize("method", [LoRA(), DoRA(), Adapter()])
@pytest.mark.parametrize("make", [Net1DMini, vit1d_tiny])
def test_new_parts_begin_as_the_identity(method: LoRA | Adapter, make: type[Net1DMini]) -> None:
    torch.manual_seed(0)
    model = Classifier(make(), 2).double().eval()
    before, signals = copy.deepcopy(model), torch.randn(2, 12, 250, dtype=torch.float64)
    method.prepare(model, START)
    model.double().eval()

    torch.testing.assert_close(model(signals), before(signals))
    for name, parameter in model.named_parameters():
        if "lora_b" in name or "adapter.up" in name:
            nn.init.normal_(parameter, std=0.1)
    assert (model(signals) - before(signals)).abs().max() > 1e-4


def test_adapters_are_on_layers_that_are_called() -> None:
    """Attention takes the weight of its `out_proj` and does not call it, so that an adapter there would never run."""
    model = Classifier(vit1d_tiny(), 2)
    model.backbone.pool = nn.Sequential(QueryPool(2, 16, 192, num_heads=2))

    Adapter().prepare(model, START)

    adapted = [name for name, module in model.named_modules() if isinstance(module, Bottleneck)]
    assert len(adapted) == 1 + 12 and not any("pool" in name for name in adapted)


def test_lora_predicts_as_merged_weights() -> None:
    torch.manual_seed(0)
    model, plain = (Classifier(Net1DMini(), 2).double().eval() for _ in range(2))
    plain.load_state_dict(model.state_dict())
    LoRA().prepare(model, START)
    model.double()
    for name, parameter in model.named_parameters():
        if "lora_b" in name:
            nn.init.normal_(parameter, std=0.1)
    merged = {
        path: module.weight.detach() for path, module in model.named_modules() if hasattr(module, "parametrizations")
    }
    assert len(merged) == 61
    plain.load_state_dict({**plain.state_dict(), **{f"{path}.weight": weight for path, weight in merged.items()}})
    signals = torch.randn(2, 12, 250, dtype=torch.float64)

    torch.testing.assert_close(model(signals), plain(signals))


def test_bitfit_trains_biases_alone() -> None:
    model = Classifier(vit1d_tiny(), 2)
    BitFit().prepare(model, START)
    (phase,) = BitFit().phases(())
    backbone, head = sorted(model.train_parts(phase.learning_rates), key=lambda group: len(group["params"]))[::-1]

    assert {name.rpartition(".")[2] for name in backbone["param_names"]} == {"bias"}
    assert len(backbone["params"]) == 1 + 12 * 6 + 1
    assert len(head["params"]) == 2
