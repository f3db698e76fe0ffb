"""Which parameters have no weight decay, and that splitting groups loses none of them."""

import pytest
import torch
from torch import Tensor, nn

from bench.training.phase import Phase
from bench.training.weight_decay import has_no_decay, split_weight_decay


@pytest.mark.parametrize(
    ("name", "shape", "patterns", "expected"),
    [
        ("head.bias", (3,), ("1d",), True),
        ("head.weight", (3, 2), ("1d",), False),
        ("scale", (), ("1d",), True),
        ("backbone.norm.weight", (3,), ("*.bias",), False),
        ("backbone.norm.weight", (3, 3), ("*norm*",), True),
        ("head.weight", (3, 2), ("*.bias", "head.*"), True),
        ("head.weight", (3, 2), (), False),
    ],
)
def test_a_pattern_is_of_paths_or_of_the_number_of_dimensions(
    name: str, shape: tuple[int, ...], patterns: tuple[str, ...], expected: bool
) -> None:
    assert has_no_decay(name, torch.zeros(shape), patterns) is expected


def groups() -> list[dict[str, object]]:
    layers = {"a": nn.Linear(2, 3), "b": nn.Conv1d(1, 1, 1, bias=False)}
    return [
        {
            "params": list(layer.parameters()),
            "param_names": [f"{part}.{name}" for name, _ in layer.named_parameters()],
            "lr": rate,
        }
        for (part, layer), rate in zip(layers.items(), (0.1, 0.2), strict=True)
    ]


def test_a_group_is_split_only_where_it_has_both() -> None:
    phase = Phase(name="train", learning_rates={"a": 0.1, "b": 0.2}, epochs=1, no_weight_decay=("1d",))

    split = split_weight_decay(groups(), phase)

    assert [(part["param_names"], part["lr"], part.get("weight_decay")) for part in split] == [
        (["a.weight"], 0.1, None),
        (["a.bias"], 0.1, 0.0),
        (["b.weight"], 0.2, None),
    ]
    optimizer = torch.optim.AdamW(split, weight_decay=0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0, 0.5]


def test_without_patterns_groups_stay_as_they_are() -> None:
    given = groups()
    same = split_weight_decay(given, Phase(name="train", learning_rates={"a": 0.1, "b": 0.2}, epochs=1))

    assert same is given
    assert all(isinstance(tensor, Tensor) for group in same for tensor in group["params"])
