"""A training step of foundation models against their published formulation, with the same weights.

Published: convolutions over one dimension (MERL), all Cauchy sums of a state space at once (ECG-CPC), products and a
softmax in place of torch's attention (the others).
"""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines import vit1d, wav2vec2
from baselines.merl import Conv
from baselines.s4 import StateSpace
from bench.execute import make_backbone
from bench.registry.reference import Reference
from bench.training.model import Classifier


def attend(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    return scores.softmax(-1) @ value


def stacked_kernel(space: StateSpace, length: int) -> Tensor:
    """Return the impulse responses [direction, channel, time]: four sums over poles, divided by 1 + the root of unity.

    At the last root, -1, the published code divides by a rounding error, and so does this.
    """
    output, full = torch.view_as_complex(space.output), space.length
    root = torch.polar(torch.ones(full // 2 + 1), -2 * math.pi / full * torch.arange(full // 2 + 1))
    z = (2 * (1 - root) / (1 + root)).unsqueeze(-1)
    step = space.log_step.exp().unsqueeze(-1)
    poles = (torch.view_as_complex(space.poles) * step).unsqueeze(-2)
    low_rank, input_map = torch.view_as_complex(space.low_rank), torch.view_as_complex(space.input_map)
    left = torch.stack([input_map.expand_as(output), low_rank.expand_as(output)])
    right = torch.stack([output, low_rank.conj().expand_as(output)])
    weights = (left.unsqueeze(1) * right.unsqueeze(0) * step).unsqueeze(-2)
    sums = (weights / (z - poles) + weights.conj() / (z - poles.conj())).sum(-1)
    response = (sums[0, 0] - sums[0, 1] * sums[1, 0] / (1 + sums[1, 1])) * 2 / (1 + root)
    impulses: Tensor = torch.fft.irfft(response, n=full)
    return impulses[..., :length]


def convolve(layer: nn.Module) -> None:
    """Give each convolution and norm of MERL's ResNet its published form."""
    for name, child in layer.named_children():
        if isinstance(child, Conv):
            plain = nn.Conv1d(child.in_channels, child.out_channels, child.kernel_size[0], child.stride[0], bias=False)
            plain.padding, plain.weight = child.padding, child.weight
            setattr(layer, name, plain)
        elif isinstance(child, nn.BatchNorm2d):
            setattr(layer, name, nn.BatchNorm1d(child.num_features))
        else:
            convolve(child)


class OneDimension(nn.Module):
    """MERL's ResNet18 as published: [record, lead, time] -> [record, 512]."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.net = copy.deepcopy(backbone)
        convolve(self.net)

    def forward(self, signals: Tensor) -> Tensor:
        net, x = self.net, self.net.bn1(self.net.conv1(signals)).relu()
        features: Tensor = net.layer4(net.layer3(net.layer2(net.layer1(x)))).mean(-1)
        return features


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize(
    ("name", "num"),
    [
        *(("merl_resnet18", 16), ("st_mem(depth=3)", 2), ("ecg_jepa(depth=3)", 2), ("ecg_jepa_weimann_s", 8)),
        *(("ecg_fm(depth=3)", 4), ("deepecg_ssl(depth=3)", 4), ("melp(depth=2)", 2), ("d_beta(depth=2)", 2)),
        *(("hubert_ecg_small(depth=3)", 8), ("ecg_cpc(depth=2)", 8)),
    ],
)
def test_training_step(
    compare: Any, stepper: Any, monkeypatch: pytest.MonkeyPatch, name: str, num: int, bf16: bool
) -> None:
    torch.manual_seed(0)
    ours = Classifier(make_backbone(Reference.parse(name)), 5)
    theirs: Any = copy.deepcopy(ours)
    if name == "merl_resnet18":
        theirs.backbone = OneDimension(ours.backbone)
    spec = ours.backbone.signal_spec
    num_leads, samples = len(spec.leads), spec.window or 10 * spec.rate

    def as_published(call: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(vit1d, "attend", attend)
            patch.setattr(wav2vec2, "attend", attend)
            patch.setattr(StateSpace, "kernel", stacked_kernel)
            return call()

    few = torch.randn(2, num_leads, samples)
    with torch.no_grad():
        expected = as_published(lambda: theirs.eval()(few))
        torch.testing.assert_close(ours.eval()(few), expected, rtol=1e-4, atol=1e-5)
    shape = {"samples": samples, "num_leads": num_leads}
    reference = stepper(theirs.train(), num, bf16=False, **shape)
    compare(
        f"{name} training step in {'bf16' if bf16 else 'float32'}, {num} records of {num_leads} x {samples}",
        stepper(ours.train(), num, bf16=bf16, **shape),
        "the published formulation in float32",
        lambda: as_published(reference),
        goal="1",
    )
