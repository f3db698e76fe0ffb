"""A training step of the convolutional baselines against the same layers in one dimension, as they were published."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from bench.registry.reference import Reference
from bench.registry.registry import make
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


@pytest.mark.parametrize("kind", ["bf16", "float32"])
@pytest.mark.parametrize("name", ["inception1d", "xresnet1d101", "resnet1d_wang", "fcn_wang"])
def test_training_step(compare: Any, stepper: Any, name: str, kind: str) -> None:
    torch.manual_seed(0)
    ours = Classifier(make("backbone", Reference(name)), 5)
    theirs: Any = copy.deepcopy(ours)
    theirs.backbone.layers = in_one_dimension(nn.Sequential(*theirs.backbone.layers))
    few = torch.randn(4, 12, SAMPLES)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(few), theirs.eval()(few), rtol=1e-4, atol=1e-5)
    compare(
        f"{name} training step in {kind}, {RECORDS} records of 12 x {SAMPLES}",
        stepper(ours.train(), RECORDS, SAMPLES, bf16=kind == "bf16"),
        f"the same layers in one dimension, {kind}",
        stepper(theirs.train(), RECORDS, SAMPLES, bf16=kind == "bf16"),
    )
