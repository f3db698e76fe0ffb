"""Every backbone of the published tables, against numbers that the published code gave.

Counts and features of PUBLISHED come from the authors' own code (helme/ecg_ptbxl_benchmarking cdbf4e6,
tmehari/ssm_ecg 94b6cc7, kweimann/ECG-JEPA 504b4e5), run once with the weights of `fill`.
"""

import importlib
import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pywt
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from baselines.fcn import FCNWang
from baselines.s4 import S4, StateSpace
from baselines.vit1d import positions
from baselines.wavelet import WaveletNN, wavelet_bands, wavelet_features
from bench.execute import make_backbone
from bench.plugin import Backbone, Classifier, DropPath, Incompatible
from bench.registry.reference import Reference
from bench.registry.registry import make
from bench.training.model import count_parameters, set_drop_path

for family in ("fcn", "inception1d", "net1d", "prevalence", "resnet1d", "rnn1d", "vit1d", "xresnet1d"):
    importlib.import_module(f"baselines.{family}")

PUBLISHED = {
    # parameters with 5 and with 71 labels; first features of the first record; mean magnitude of all features
    "fcn_wang": (309_765, 318_279, (0.0495171, 1.2762613, -0.0833622, 0.6521287), 0.6598787),
    "resnet1d_wang": (473_349, 481_863, (0.1090057, 6.0994731, 0.0516710, 2.9517695), 1.6101564),
    "xresnet1d18": (364_933, 373_447, (0.0865947, 1.7420409, 0.8097668, -0.0062100), 0.4371003),
    "xresnet1d34": (694_661, 703_175, (-0.0361314, 2.7773271, 1.4851869, 0.1194542), 0.9734158),
    "xresnet1d50": (953_989, 962_503, (0.0554817, -0.0337252, -0.0821196, 5.1982812), 14.1254972),
    "xresnet1d101": (1_872_261, 1_880_775, (0.0092222, 0.0624023, 0.1199196, 26.1686153), 36.0441560),
    "inception1d": (507_653, 516_167, (0.1192971, 4.8724965, 0.0312088, 2.1828377), 1.3982911),
    "lstm": (903_685, 912_199, (0.1239284, 0.0517909, 1.1433792, -0.0829146), 1.0215662),
    "lstm_bidir": (2_330_629, 2_339_143, (-0.0642405, -0.0864754, 1.4255026, 2.8064065), 1.1294692),
    "s4": (2_149_381, 2_183_239, (-1.1697711, 0.3709448, -0.0373162, -1.4583510), 0.7880046),
    "vit1d_tiny": (5_397_509, 5_410_247, (-0.1383662, -0.2241576, 0.2674785, -0.4902605), 0.8080459),
    "vit1d_small": (21_411_845, 21_437_255, (-0.3226400, -1.0369309, -0.3554323, -0.1033792), 0.8177629),
}
SHAPES = {
    # features, DropPaths
    "ecgfounder": (1024, 20),
    "ecgfounder_1lead": (1024, 20),
    "net1d_mini": (256, 12),
    "fcn_wang": (128, 0),
    "resnet1d_wang": (128, 3),
    "xresnet1d18": (128, 8),
    "xresnet1d34": (128, 16),
    "xresnet1d50": (128, 16),
    "xresnet1d101": (128, 33),
    "inception1d": (128, 2),
    "lstm": (128, 0),
    "lstm_bidir": (128, 0),
    "wavelet_nn": (128, 0),
    "s4": (512, 4),
    "vit1d_tiny": (192, 24),
    "vit1d_small": (384, 24),
    "prevalence": (1, 0),
    "merl_resnet18": (512, 8),
    "ecg_jepa": (768, 24),
    "st_mem": (768, 24),
    "ecg_fm": (768, 24),
    "hubert_ecg_small": (512, 16),
    "hubert_ecg_base": (768, 24),
    "ecg_cpc": (512, 4),
    "clef_medium": (1024, 20),
    "deepecg_ssl": (768, 24),
    "melp": (256, 16),
    "d_beta": (768, 16),
    "ecg_jepa_weimann_xs": (192, 16),
    "ecg_jepa_weimann_s": (384, 16),
    "ecg_jepa_weimann_b": (768, 24),
}
LARGE = {"ecgfounder", "ecgfounder_1lead", "clef_medium", "ecg_jepa", "st_mem", "ecg_fm", "hubert_ecg_small"}
LARGE |= {"hubert_ecg_base", "deepecg_ssl", "melp", "d_beta", "ecg_jepa_weimann_s", "ecg_jepa_weimann_b"}
SMALL = [name for name in SHAPES if name not in LARGE]


def backbone_of(name: str, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    made = make("backbone", Reference(name))
    assert isinstance(made, Backbone)
    return made


def signals_for(backbone: Backbone, num_records: int = 3) -> Tensor:
    length = backbone.signal_spec.window or 10 * backbone.signal_spec.rate
    return torch.randn(num_records, len(backbone.signal_spec.leads), length, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def fill(backbone: Backbone) -> None:
    """Weights by formula: sines of the position in the tensor, scaled by the fan-in, shifted from tensor to tensor."""
    parameters = {name for name, _ in backbone.named_parameters()}
    number = 0
    for name, value in backbone.state_dict().items():
        if name not in parameters and "running" not in name:
            continue
        wave = torch.sin(torch.arange(1, value.numel() + 1, dtype=torch.float64) * 0.7 + number).view(value.shape)
        number += 1
        if name.endswith("running_var"):
            wave = 1 + 0.5 * wave
        elif value.dim() >= 2:
            wave *= 1.0 if name.endswith("output") else 1.7 / math.sqrt(value[0].numel())
        else:
            wave = 1 + 0.1 * wave if name.endswith("weight") else 0.1 * wave
        value.copy_(wave)
    for module in backbone.modules():
        if isinstance(module, StateSpace):
            module.log_step.copy_(torch.linspace(math.log(1e-3), math.log(1e-1), len(module.log_step)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_computes_what_the_published_code_computes(name: str) -> None:
    *_, first, magnitude = PUBLISHED[name]
    backbone = backbone_of(name).double().eval()
    fill(backbone)
    ramp = torch.linspace(-1, 1, 2 * 12 * 250, dtype=torch.float64).view(2, 12, 250)
    with torch.no_grad():
        features = backbone(torch.sin(40 * ramp) + 0.3 * ramp)
    assert features.shape == (2, SHAPES[name][0])
    assert features[0, :4].tolist() == pytest.approx(first, rel=1e-5, abs=1e-5)
    assert float(features.abs().mean()) == pytest.approx(magnitude, rel=1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_has_as_many_parameters_as_published(name: str) -> None:
    for num_labels, published in zip((5, 71), PUBLISHED[name][:2], strict=True):
        assert count_parameters(Classifier(backbone_of(name), num_labels)) == published


@pytest.mark.parametrize(
    ("name", "num_leads", "published"), [("ecgfounder", 12, 30_670_389), ("ecgfounder_1lead", 1, 30_659_125)]
)
def test_ecgfounder_has_its_published_size(name: str, num_leads: int, published: int) -> None:
    with torch.device("meta"):
        model = Classifier(backbone_of(name), 5)
        features = model.backbone(torch.empty(2, num_leads, 5000))
    assert count_parameters(model) == published
    assert features.shape == (2, 1024)
    assert len(model.backbone.signal_spec.leads) == num_leads


@pytest.mark.parametrize("name", SHAPES)
def test_drops_paths_where_it_is_residual(name: str) -> None:
    with torch.device("cpu" if name in ("s4", "ecg_cpc") else "meta"):
        backbone = backbone_of(name)
    num_paths = SHAPES[name][1]
    assert sum(isinstance(module, DropPath) for module in backbone.modules()) == num_paths
    if num_paths:
        assert set_drop_path(backbone, 0.5)[-1].drop_prob == 0.5
    else:
        with pytest.raises(Incompatible, match="at least two residual blocks"):
            set_drop_path(backbone, 0.5)


@pytest.mark.parametrize("name", SMALL)
def test_a_record_has_the_same_features_alone(name: str) -> None:
    backbone = backbone_of(name).eval()
    signals = signals_for(backbone)
    with torch.no_grad():
        together = backbone(signals)
        alone = torch.cat([backbone(record[None]) for record in signals])
    assert together.shape == (3, SHAPES[name][0])
    assert torch.allclose(together, alone, rtol=0, atol=1e-5 * float(together.abs().max()))


@pytest.mark.parametrize("name", SMALL)
def test_every_trainable_parameter_learns(name: str) -> None:
    model = Classifier(backbone_of(name), 5).train()
    model(signals_for(model.backbone, 4)).square().sum().backward()
    still = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert still == []


def test_positions_are_made_where_the_signals_are() -> None:
    """Else each forward pass on a GPU copies them there."""
    assert positions(4, 8, torch.device("meta")).device.type == "meta"


@pytest.mark.parametrize("name", ["fcn_wang", "xresnet1d50", "lstm"])
def test_weights_are_drawn_as_published(name: str) -> None:
    model = Classifier(backbone_of(name), 71)
    hidden = model.backbone.get_submodule("tail.layers.2")
    for linear in (hidden, model.head):
        assert isinstance(linear, torch.nn.Linear)
        assert float(linear.weight.detach().std()) == pytest.approx(math.sqrt(2 / linear.in_features), rel=0.05)
        assert not linear.bias.any()


def test_wavelet_bands_are_those_of_pywavelets() -> None:
    signals = np.random.default_rng(0).standard_normal((2, 1000)).cumsum(-1)
    for ours, theirs in zip(
        wavelet_bands(torch.from_numpy(signals)), pywt.wavedec(signals, "db6", level=5), strict=True
    ):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-10)


def test_wavelet_features_are_those_of_numpy() -> None:
    signals = np.random.default_rng(0).standard_normal((3, 12, 1000)).cumsum(-1).astype(np.float32)
    signals[1, 4] = 0.0
    signals[2, :, 500:] = 0.0
    bands = [[pywt.wavedec(lead, "db6", level=5) for lead in record] for record in signals.astype(np.float64)]
    expected = [[number for lead in record for band in lead for number in statistics(band)] for record in bands]
    ours = wavelet_features(torch.from_numpy(signals)).numpy()
    assert ours.shape == (3, 12 * 6 * 12)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def statistics(band: npt.NDArray[np.float64]) -> list[float]:
    """What Strodthoff et al. say of a sub-band."""
    shares = np.array(list(Counter(band.tolist()).values())) / len(band)
    crossings = [np.count_nonzero(np.diff(np.sign(band - level) > 0)) for level in (0.0, band.mean())]
    percentiles = np.percentile(band, [5, 25, 75, 95, 50])
    return [
        -(shares * np.log(shares)).sum(),
        *crossings,
        *percentiles,
        band.mean(),
        band.std(),
        band.var(),
        np.abs(band).mean(),
    ]


def test_wavelet_network_has_the_published_size() -> None:
    assert count_parameters(Classifier(WaveletNN(), 5)) == 864 * 128 + 128 + 128 * 5 + 5


def test_wavelet_network_standardizes_by_all_it_was_trained_on() -> None:
    """As scikit-learn's scaler on the same features, those that hardly vary and those that never do among them."""
    backbone = WaveletNN()
    signals = signals_for(backbone, 64) * torch.logspace(-1.5, 0, 12).view(1, 12, 1)
    features = wavelet_features(signals).float()
    seen: list[Tensor] = []
    backbone.tail.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    expected = StandardScaler().fit_transform(features.double().numpy())
    varies = np.abs(expected).max(0) > 0
    assert (features.var(0) < 1e-5).sum() > 20 and not varies.all()

    backbone(signals[:32]), backbone(signals[32:])
    trained = backbone(signals)
    backbone.eval()(signals)

    np.testing.assert_allclose(seen[-1].numpy()[:, varies], expected[:, varies], rtol=0.05, atol=0.05)
    assert float(seen[-1][:, ~varies].abs().max()) < 1
    assert not torch.equal(seen[0][:16], seen[2][:16]) and trained.requires_grad


@pytest.mark.parametrize("length", [100, 250, 700])
def test_s4_kernel_is_the_impulse_response_of_its_recurrence(length: int) -> None:
    torch.manual_seed(0)
    space = StateSpace(channels=6, num_states=8, length=250).double()
    matrix, entry = space.discretize()
    kept = torch.view_as_complex(space.output.detach())
    output = torch.cat([kept, kept.conj()], dim=-1)  # C (1 - dA^250)
    finite = torch.eye(8) - torch.linalg.matrix_power(matrix, 250)
    output = torch.linalg.solve(finite.mT, output.unsqueeze(-1)).squeeze(-1)
    state, impulses = entry, []
    for _ in range(length):
        impulses.append(torch.einsum("chn,hn->ch", output, state))
        state = torch.einsum("hmn,hn->hm", matrix, state)
    expected = torch.stack(impulses, dim=-1)
    assert float(expected.imag.abs().max()) < 1e-9
    assert torch.allclose(space.kernel(length), expected.real, rtol=0, atol=1e-9)
    assert torch.allclose(space.float().kernel(length), expected.real.float(), rtol=0, atol=2e-5)


def test_s4_discretizes_hippo_by_the_bilinear_rule() -> None:
    space = StateSpace(channels=1, num_states=8, length=250)
    matrix, _ = space.discretize()
    orders = np.arange(8)
    hippo = -np.tril(np.sqrt(np.outer(2 * orders + 1, 2 * orders + 1)), -1) - np.diag(orders + 1.0)
    half = float(space.log_step.exp()) / 2 * hippo
    expected = np.linalg.eigvals(np.linalg.solve(np.eye(8) - half, np.eye(8) + half))
    ours = torch.linalg.eigvals(matrix[0]).numpy()
    np.testing.assert_allclose(np.poly(ours), np.poly(expected), atol=1e-5)


def test_s4_looks_both_ways_and_trains_only_what_the_published_one_trains() -> None:
    space = StateSpace(channels=2, num_states=8, length=250)
    impulse = torch.zeros(1, 2, 250)
    impulse[..., 100] = 1.0
    with torch.no_grad():
        response, (forwards, backwards) = space(impulse)[0], space.kernel(250)
    assert torch.allclose(response[:, 101:], forwards[:, 1:150], atol=1e-5)
    assert torch.allclose(response[:, :100].flip(-1), backwards[:, :100], atol=1e-5)
    assert torch.allclose(response[:, 100], forwards[:, 0] + space.skip, atol=1e-5)
    assert {name for name, _ in space.named_parameters()} == {"output", "skip"}


def test_s4_drops_whole_channels() -> None:
    block = S4(d_model=64, num_layers=1).blocks[0]
    dropped = block._drop_channels(torch.ones(8, 64, 5))
    assert torch.equal(dropped, dropped[..., :1].expand_as(dropped))
    assert 0.1 < float((dropped == 0).float().mean()) < 0.3


def test_prevalence_scores_every_record_alike_and_learns_the_log_odds() -> None:
    model = Classifier(backbone_of("prevalence"), 2)
    signals = signals_for(model.backbone, 100)
    labels = torch.zeros(100, 2)
    labels[:20, 0], labels[:70, 1] = 1.0, 1.0
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(model(signals), labels)
        value.backward()
        return value

    optimizer.step(loss)
    logits = model(signals)
    assert torch.equal(logits, logits[:1].expand_as(logits))
    assert logits[0].sigmoid().tolist() == pytest.approx([0.2, 0.7], abs=1e-3)


@pytest.mark.parametrize("name", ["net1d_mini", "vit1d_tiny", "s4(d_model=16, num_layers=2)"])
def test_features_are_the_mean_of_the_tokens(name: str) -> None:
    backbone = make_backbone(Reference.parse(name)).eval()
    signals = torch.randn(2, 12, backbone.signal_spec.window or 1000)

    with torch.no_grad():
        torch.testing.assert_close(backbone.tokens(signals).mean(1), backbone(signals))


@pytest.mark.parametrize("name", ["xresnet1d18", "inception1d", "fcn_wang", "lstm"])
def test_features_are_the_tail_of_the_pooled_tokens(name: str) -> None:
    backbone: Any = make_backbone(Reference(name)).eval()
    signals = torch.randn(2, 12, 250)

    with torch.no_grad():
        pooled = backbone.tail(backbone.pool(backbone.tokens(signals).transpose(1, 2)))
        torch.testing.assert_close(pooled, backbone(signals))


@pytest.mark.parametrize(
    ("name", "first", "last", "num"),
    [
        ("net1d_mini", "first_conv", "stage_list.5", 7),
        ("vit1d_tiny", "patches", "norm", 14),
        ("xresnet1d18", "layers.0", "tail", 12),
        ("lstm", "layers", "tail", 2),
        ("prevalence", "constant", "constant", 1),
    ],
)
def test_layer_groups_run_from_shallow_to_deep(name: str, first: str, last: str, num: int) -> None:
    groups = make_backbone(Reference(name)).layer_groups()

    assert (groups[0], groups[-1], len(groups)) == (first, last, num)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [("DEFAULT", torch.contiguous_format), ("AVX2", torch.contiguous_format), ("AVX512", torch.channels_last)],
)
def test_fcn_wang_chooses_its_layout_by_the_processor(
    capability: str, expected: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    layers, seen = FCNWang().layers, []
    next(iter(layers.children())).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    layers(torch.randn(2, 12, 250))

    assert seen[0].is_contiguous(memory_format=expected)
    assert layers.memory_format(torch.device("cuda")) == torch.channels_last
