"""Parts, modes and DropPath; ECGFounder computes what the official code computes."""

import math
import re

import pytest
import torch
from torch import Tensor, nn

from baselines.fcn import FCNWang
from baselines.net1d import ECGFounder, Net1D, Net1DMini, SameConv1d
from bench.data.signals import SignalSpec
from bench.errors import BenchError, Incompatible, PluginError
from bench.execute import make_backbone
from bench.plugin import Backbone
from bench.registry.reference import Reference
from bench.training.model import Classifier, DropPath, count_parameters, first_keys, set_drop_path

OFFICIAL = {
    5000: (-0.177915, 0.140275, -0.336096, 0.349989, 0.232728),
    4999: (-0.178937, 0.140103, -0.335624, 0.350575, 0.232584),
    999: (-0.297895, 0.056694, -0.291175, 0.396562, 0.089383),
}
"""First deep features of the official net1d.py (float64) with the weights of `fill`, for linspace(-1, 1) over
[1, 12, length]. Its float32 outputs are within 6e-7 of ours; measured with PKUDigitalHealth/ECGFounder at HEAD."""


def fill(module: nn.Module) -> None:
    """Weights by a formula: a table of hashed numbers, repeated, scaled by fan-in."""
    table = torch.arange(65_537, dtype=torch.float64).sin().mul(43758.5453).remainder(2).sub(1).float()
    start = 0
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 100
            tiled = table.roll(-start).repeat(parameter.numel() // len(table) + 1)[: parameter.numel()]
            parameter.copy_(tiled.view(parameter.shape) * math.sqrt(6 / fan_in))
            start += parameter.numel() % len(table)


def small_net1d() -> Net1D:
    return Net1D(SignalSpec(100, "zscore"), stem=16, widths=(16, 32), depths=(2, 2), kernel_size=8)


@pytest.fixture
def founder() -> ECGFounder:
    return ECGFounder()


def test_ecgfounder_computes_what_the_official_code_does(founder: ECGFounder) -> None:
    fill(founder)
    founder.eval()
    with torch.no_grad():
        for length, expected in OFFICIAL.items():
            features = founder(torch.linspace(-1, 1, 12 * length).view(1, 12, length))
            assert features.shape == (1, 1024)
            torch.testing.assert_close(features[0, :5], torch.tensor(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("stride", "groups", "kernel_size", "length"),
    [
        *((1, 2, 16, 37), (2, 1, 16, 37), (2, 2, 16, 36), (3, 1, 16, 37), (2, 1, 16, 1), (2, 2, 9, 36)),
        *((1, 2, 31, 37), (3, 1, 31, 36), (2, 1, 1, 37), (1, 2, 1, 37)),
    ],
)
def test_convolution_has_the_gradients_of_pytorchs(
    stride: int, groups: int, kernel_size: int, length: int, kind: torch.dtype
) -> None:
    """Weight gradients are computed a few taps at a time; float64 is the judge of all three.

    PyTorch's own bf16 convolution is off by 5e-3 on CPUs without bf16 hardware, and ours may be where that is.
    """
    torch.manual_seed(0)
    ours = SameConv1d(32, 32, kernel_size, stride, groups).to(kind)
    theirs = nn.Conv1d(32, 32, kernel_size, stride, groups=groups).double()
    theirs.load_state_dict(ours.conv.state_dict())
    rounding = nn.Conv1d(32, 32, kernel_size, stride, groups=groups).to(kind)
    rounding.load_state_dict(ours.conv.state_dict())
    signals = torch.randn(3, length, 32, dtype=kind, requires_grad=True)
    wide = signals.detach().double().requires_grad_()
    padding = (-(-length // stride) - 1) * stride + kernel_size - length
    ends = (padding // 2, padding - padding // 2)
    expected = theirs(nn.functional.pad(wide.mT, ends)).mT
    rounded = rounding(nn.functional.pad(signals.mT, ends)).mT
    direction = torch.randn_like(expected).to(kind)

    found = ours(signals)

    got = torch.autograd.grad(found, [signals, ours.conv.weight, ours.conv.bias], direction)
    plain = torch.autograd.grad(rounded, [signals, rounding.weight, rounding.bias], direction)
    wanted = torch.autograd.grad(expected, [wide, theirs.weight, theirs.bias], direction.double())
    bound = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 5e-3}[kind]
    for one, same, other in zip((found, *got), (rounded, *plain), (expected, *wanted), strict=True):
        assert one.shape == other.shape
        off, pytorchs = (float(((x.double() - other).norm() / other.norm()).detach()) for x in (one, same))
        assert off < max(bound, 1.1 * pytorchs if kind == torch.bfloat16 else 0.0)


def test_a_frozen_convolution_gives_no_gradient_and_passes_one_on() -> None:
    conv = SameConv1d(4, 4, 16).requires_grad_(False)
    conv.conv.bias.requires_grad_()
    signals = torch.randn(2, 20, 4, requires_grad=True)

    conv(signals).sum().backward()

    assert conv.conv.weight.grad is None
    torch.testing.assert_close(conv.conv.bias.grad, torch.full((4,), 40.0))
    assert float(signals.grad.abs().sum()) > 0


@pytest.mark.parametrize(("num_labels", "total"), [(150, 30_819_014), (5, 30_670_389)])
def test_ecgfounder_has_the_published_size(founder: ECGFounder, num_labels: int, total: int) -> None:
    model = Classifier(founder, num_labels)

    assert count_parameters(model) == total
    assert len(model.state_dict()) == 509


def test_uncalled_batch_norm_is_never_trainable(founder: ECGFounder) -> None:
    model = Classifier(founder, 5)
    uncalled = {name for name, _ in model.named_parameters() if "bn" in name}
    num_uncalled = sum(p.numel() for name, p in model.named_parameters() if name in uncalled)

    groups = model.train_parts({"backbone": 1e-3, "head": 1e-3})

    assert len(uncalled) == 122 and not any(p.requires_grad for n, p in model.named_parameters() if n in uncalled)
    assert count_parameters(model, trainable=True) == 30_670_389 - num_uncalled
    trained = {id(p) for group in groups for p in group["params"]}
    assert trained == {id(p) for name, p in model.named_parameters() if name not in uncalled}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}, "DDP takes what requires a gradient"
    with pytest.raises(BenchError, match=r"part 'backbone.first_bn', which has no parameters to train"):
        model.train_parts({"backbone.first_bn": 1e-3, "head": 1e-3})


def test_every_trained_parameter_of_ecgfounder_gets_a_gradient(founder: ECGFounder) -> None:
    model = Classifier(founder, 5)
    model.train_parts({"backbone": 1e-3, "head": 1e-3})

    model(torch.randn(1, 12, 300)).sum().backward()

    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


def test_the_longest_part_owns_a_parameter() -> None:
    model = Classifier(small_net1d(), 3)
    parts = {"backbone": 1.0, "backbone.stage_list.1": 2.0, "backbone.stage_list.1.block_list.0.conv1": 3.0}

    groups = model.train_parts(parts)

    def ids(module: nn.Module, without: tuple[nn.Module, ...] = ()) -> set[int]:
        return {id(p) for p in module.parameters() if p.requires_grad} - {
            id(p) for m in without for p in m.parameters()
        }

    stage = model.backbone.get_submodule("stage_list.1")
    conv = model.backbone.get_submodule("stage_list.1.block_list.0.conv1")
    got = {part: {id(p) for p in group["params"]} for part, group in zip(parts, groups, strict=True)}
    assert got == {
        "backbone": ids(model.backbone, (stage,)),
        "backbone.stage_list.1": ids(stage, (conv,)),
        "backbone.stage_list.1.block_list.0.conv1": ids(conv),
    }
    assert not any(p.requires_grad for p in model.head.parameters())


def test_a_part_is_a_path_and_not_a_prefix_of_letters() -> None:
    model = Classifier(small_net1d(), 3)

    with pytest.raises(BenchError, match=r"trains part 'backbone.stage', which has no .*backbone.stage_list\b"):
        model.train_parts({"backbone.stage": 1e-3})

    (group,) = model.train_parts({"head.bias": 1e-3})
    assert group == {"params": [model.head.bias], "param_names": ["head.bias"], "lr": 1e-3}
    assert not model.head.weight.requires_grad


@pytest.mark.parametrize("part", ["backbone.*.bias", "*.bias", "backbone.tail.*.bias", "*.layers.0.*"])
def test_a_part_may_be_a_pattern(part: str) -> None:
    model = Classifier(FCNWang(), 3)
    fitting = re.compile(re.escape(part).replace(r"\*", ".*"))

    (group,) = model.train_parts({part: 1e-3})

    names = [name for name, _ in model.named_parameters() if fitting.fullmatch(name)]
    assert group["param_names"] == names
    assert len(names) > 1
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters() if p.requires_grad}


def test_the_longest_pattern_owns_a_parameter_in_whatever_order() -> None:
    """Of two as long the last in the alphabet: a digest does not know the order of a phase's parts."""
    model = Classifier(FCNWang(), 3)
    parts = {"head": 1.0, "*.bias": 2.0, "backbone": 3.0, "backbone.*.bias": 4.0, "backbone.tail.*": 5.0}
    expected = {
        "head": ["head.weight"],
        "*.bias": ["head.bias"],
        "backbone": [f"backbone.layers.{block}.{layer}.weight" for block in range(3) for layer in range(2)],
        "backbone.*.bias": [f"backbone.layers.{block}.1.bias" for block in range(3)],
        "backbone.tail.*": [name for name, _ in model.named_parameters() if name.startswith("backbone.tail.")],
    }

    for given in (parts, dict(reversed(parts.items()))):
        groups = model.train_parts(given)
        assert {part: group["param_names"] for part, group in zip(given, groups, strict=True)} == expected
        assert [group["lr"] for group in groups] == list(given.values())


def test_a_pattern_that_fits_nothing_is_told_what_is_near() -> None:
    model = Classifier(FCNWang(), 3)

    with pytest.raises(
        BenchError, match=r"trains part 'backbone.\*.bais', which has no .*such as backbone.\*.bias,"
    ) as error:
        model.train_parts({"backbone.*.bais": 1e-3, "head": 1e-3})
    assert "\n" not in str(error.value)
    with pytest.raises(BenchError, match=r"trains part '\*.bias', which has no parameters to train of its own"):
        model.train_parts({"*.bias": 1e-3, "backbone.*.bias": 1e-3, "head.bias": 1e-3})


def test_modes_follow_the_modules_that_a_pattern_fits() -> None:
    """Those of which parameters alone are trained stay in eval mode, and their buffers as they are."""
    model = Classifier(FCNWang(), 3)
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm1d)}
    assert norms

    model.train_parts({"backbone.*.bias": 1.0, "head": 1.0})
    assert {name for name, module in model.named_modules() if module.training} == {"head"}
    assert not any("running" in key for key in model.changed_keys({"backbone.*.bias"}))

    model.train_parts({"backbone.layers.*": 1.0})
    in_training = {name for name, module in model.named_modules() if module.training}
    assert in_training == {name for name, _ in model.named_modules() if name.startswith("backbone.layers.")}
    changed = model.changed_keys({"backbone.layers.*"})
    assert changed == {key for key in model.state_dict() if key.startswith("backbone.layers.")}


class PathsBeside(Backbone):
    """Keeps what has no parameters beside its blocks."""

    signal_spec = SignalSpec(100, "none")
    feature_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv1d(12, 4, 1), nn.Conv1d(4, 4, 1)])
        self.paths = nn.ModuleList([DropPath(), DropPath()])
        self.norm = nn.BatchNorm1d(4, affine=False)


def test_what_has_no_parameters_trains_where_all_around_it_does() -> None:
    model = Classifier(PathsBeside(), 3)
    groups = {f"backbone.{name}": 1e-3 for name in model.backbone.layer_groups()}
    assert list(groups) == ["backbone.blocks.0", "backbone.blocks.1"]

    model.train_parts({**groups, "head": 1e-3})
    assert {name for name, module in model.named_modules() if not module.training} <= {
        "",
        "backbone",
        "backbone.blocks",
    }
    assert "backbone.norm.running_mean" in model.changed_keys(groups)

    model.train_parts({"backbone.blocks.1": 1e-3, "head": 1e-3})
    assert {name for name, module in model.named_modules() if module.training} == {"head", "backbone.blocks.1"}
    assert not any("norm" in key for key in model.changed_keys(["backbone.blocks.1"]))


def test_what_prepare_wraps_or_turns_off_is_never_trained() -> None:
    """Names are taken when parts are trained first, not when the model is made."""
    model = Classifier(small_net1d(), 3)
    uncalled = model.backbone.first_bn
    model.backbone.first_bn = nn.Sequential(uncalled)
    model.backbone.first_conv.requires_grad_(False)

    for _ in range(2):
        groups = model.train_parts({"backbone": 1e-3})
        names = [name for group in groups for name in group["param_names"]]
        assert not any("bn" in name or "first_conv" in name for name in names)
        assert not uncalled.weight.requires_grad
        model.train_parts({"head": 1e-3})


def test_modes_follow_the_parts() -> None:
    model = Classifier(FCNWang(), 3)

    model.train_parts({"backbone.tail": 1.0, "head": 1.0})

    in_training = {name for name, module in model.named_modules() if module.training}
    expected = {n for n, _ in model.named_modules() if n.startswith("backbone.tail") or n == "head"}
    assert in_training == expected and "backbone.tail.layers.0" in expected
    model.train_parts({"head": 1.0})
    assert {name for name, module in model.named_modules() if module.training} == {"head"}


def test_changed_keys_are_parameters_and_buffers_of_the_parts() -> None:
    model = Classifier(FCNWang(), 3)

    assert model.changed_keys({"head"}) == {"head.weight", "head.bias"}
    assert "backbone.tail.layers.0.running_mean" in model.changed_keys({"backbone.tail"})
    assert model.changed_keys({"head", "backbone"}) == set(model.state_dict())


class TiedLayers(Backbone):
    """A layer that is there twice, and an embedding whose weight another layer has too."""

    signal_spec = SignalSpec(100, "none")
    feature_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.BatchNorm1d(4)] * 2)
        self.into, self.out = nn.Linear(12, 12), nn.Linear(12, 12)
        self.out.weight = self.into.weight


def test_all_keys_of_a_tied_tensor_change_with_it() -> None:
    model = Classifier(TiedLayers(), 3)
    both = {f"backbone.layers.{i}.{name}" for i in (0, 1) for name in model.backbone.layers[0].state_dict()}

    assert model.changed_keys(["backbone.layers.0"]) == both and len(both) == 2 * 5
    assert model.changed_keys(["backbone.into"]) == {
        f"backbone.{key}" for key in ("into.weight", "into.bias", "out.weight")
    }
    assert model.changed_keys(["backbone.out"]) == {"backbone.out.bias"}, "its weight is trained as that of `into`"
    assert first_keys({"a": torch.zeros(0), "b": torch.zeros(0)}) == {"a": "a", "b": "b"}


@pytest.mark.parametrize(("backbone", "count"), [(ECGFounder, 20), (Net1DMini, 12)])
def test_drop_path_follows_the_linear_rule(backbone: type[Net1D], count: int) -> None:
    with torch.device("meta"):
        model = Classifier(backbone(), 5)

    paths = set_drop_path(model, 0.5)

    assert [path.drop_prob for path in paths] == pytest.approx([0.5 * i / (count - 1) for i in range(count)])
    assert paths[0].drop_prob == 0 and paths[-1].drop_prob == 0.5
    assert all(path.drop_prob == 0 for path in set_drop_path(model, 0.0))


def test_drop_path_is_before_the_addition_in_every_block() -> None:
    """With its branch dropped a block passes its identity on, and nothing else."""
    model = small_net1d()
    model.train()
    blocks = [block for stage in model.stage_list for block in stage.block_list]
    assert len(blocks) == 4
    for block in blocks:
        x = torch.randn(3, 10, block.conv1.conv.in_channels)
        with_branch = block(x)
        block.drop_path.drop_prob, block.drop_path.keep = 0.5, torch.tensor([1.0, 0.0, 0.0])
        dropped = block(x)
        identity = nn.functional.max_pool1d(x.mT, 2).mT if block.stride == 2 else x
        identity = nn.functional.pad(identity, (block.widening // 2, block.widening - block.widening // 2))
        torch.testing.assert_close(dropped[1:], identity[1:])
        torch.testing.assert_close(dropped[0], (2 * with_branch - identity)[0])


def test_drop_path_expects_the_branch() -> None:
    torch.manual_seed(0)
    path, num = DropPath(), 40_000
    path.drop_prob = 0.3
    branch = torch.tensor([1.0, -2.0, 4.0]).expand(num, 3)

    dropped = path(branch)

    kept = dropped[:, 0] != 0
    assert torch.equal(dropped, torch.where(kept[:, None], branch / 0.7, 0.0)), "a record is dropped or scaled, whole"
    error = math.sqrt(0.3 / 0.7 / num)  # standard error of the mean of mask / 0.7
    torch.testing.assert_close(dropped.mean(0), branch[0], rtol=5 * error, atol=0)
    assert dropped[:, 0].std().item() == pytest.approx(math.sqrt(0.3 / 0.7), rel=0.02)


def test_drop_path_rests_in_eval_mode() -> None:
    path = DropPath()
    path.drop_prob = 0.9
    branch = torch.ones(50, 3)

    assert path.eval()(branch) is branch
    path.train().keep = torch.zeros(50)
    assert not path(branch).any()
    path.keep = torch.tensor([1.0, 0.0])
    assert path(torch.ones(6, 3))[:, 0].tolist() == pytest.approx([10.0] * 3 + [0.0] * 3), "rows of a record together"
    with pytest.raises(PluginError, match=r"was given 5 rows in a training step of 2 records"):
        path(torch.ones(5, 3))


def test_stochastic_depth_needs_residual_blocks() -> None:
    with pytest.raises(Incompatible, match="needs at least two residual blocks, and this backbone has none"):
        set_drop_path(Classifier(FCNWang(), 3), 0.5)
    assert set_drop_path(Classifier(FCNWang(), 3), 0.0) == []


def test_the_backbone_initialises_its_head() -> None:
    class Zero(Net1DMini):
        def reset_head(self, head: nn.Linear) -> None:
            nn.init.zeros_(head.weight)

    weight: Tensor = Classifier(Zero(), 4).head.weight
    assert weight.shape == (4, 256) and not weight.any()


def test_what_tokens_do_not_pass_through_is_never_trained() -> None:
    model = Classifier(make_backbone(Reference("xresnet1d18")), 5)
    model.use_tokens()

    resting = {name.split(".")[1] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert resting == {"tail"}
    whole = Classifier(make_backbone(Reference("net1d_mini")), 5)
    before = [parameter.requires_grad for parameter in whole.parameters()]
    whole.use_tokens()
    assert [parameter.requires_grad for parameter in whole.parameters()] == before
