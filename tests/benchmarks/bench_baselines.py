"""A training step of the convolutional baselines against the same layers in one dimension, as they were published."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plugin import Backbone
from bench.registry import Reference, make
from bench.training.model import Classifier

RECORDS, SAMPLES = 128, 250


def in_one_dimension(layer: nn.Module) -> nn.Module:
    """The layer with every image layer in it replaced by the published one, with the same weights."""
    match layer:
        case nn.Conv2d():
            sizes = (layer.kernel_size[1], layer.stride[1], layer.padding[1])  # type: ignore[misc]
            plain: nn.Module = nn.Conv1d(layer.in_channels, layer.out_channels, *sizes, bias=False)
            plain.weight = nn.Parameter(layer.weight.detach().squeeze(2).clone())
        case nn.BatchNorm2d():
            plain = nn.BatchNorm1d(layer.num_features)
        case nn.MaxPool2d():
            plain = nn.MaxPool1d(layer.kernel_size[1], _last(layer.stride), _last(layer.padding))  # type: ignore[index]
        case nn.AvgPool2d():
            plain = nn.AvgPool1d(layer.kernel_size[1], ceil_mode=layer.ceil_mode)  # type: ignore[index]
        case _:
            plain = layer
            for name, child in layer.named_children():
                setattr(layer, name, in_one_dimension(child))
    return plain


def _last(sizes: Any) -> int:
    return int(sizes[-1] if isinstance(sizes, tuple) else sizes)


def plain_twin(backbone: Backbone) -> Backbone:
    """The backbone as its authors wrote it: [record, channel, time] throughout."""
    twin: Any = copy.deepcopy(backbone)
    twin.layers = in_one_dimension(nn.Sequential(*twin.layers))
    return twin  # type: ignore[no-any-return]


def stepper(model: nn.Module) -> Callable[[], Tensor]:
    """Forward and backward pass under bf16 autocast, as a function that gives the loss."""
    random = torch.Generator().manual_seed(0)
    signals, labels = torch.randn(RECORDS, 12, SAMPLES, generator=random), torch.ones(RECORDS, 5)

    def step() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.binary_cross_entropy_with_logits(model(signals).float(), labels)
        model.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()

    return step


@pytest.mark.parametrize("name", ["inception1d", "xresnet1d101", "resnet1d_wang", "fcn_wang"])
def test_training_step(compare: Any, name: str) -> None:
    torch.manual_seed(0)
    backbone = make("backbone", Reference(name))
    twin = plain_twin(backbone)
    few = torch.randn(4, 12, SAMPLES)
    with torch.no_grad():
        torch.testing.assert_close(backbone.eval()(few), twin.eval()(few), rtol=1e-4, atol=1e-5)
    head = nn.Linear(backbone.feature_dim, 5)
    ours, theirs = (Classifier(one, 5).train() for one in (backbone, twin))
    for model in (ours, theirs):
        model.head.load_state_dict(head.state_dict())
    compare(
        f"{name} training step in bf16, {RECORDS} records of 12 x {SAMPLES}",
        stepper(ours),
        "the same layers in one dimension, bf16 autocast",
        stepper(theirs),
    )
