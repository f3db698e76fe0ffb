"""Values that a hyper-parameter cannot have are refused in one line, before a record is read."""

import math
from typing import Annotated, Any

import pytest
import torch

from bench.errors import PluginError
from bench.execute import make_backbone, make_method
from bench.plugin import Count, NotNegative, Positive, Range, Rate, Share
from bench.registry.reference import Reference
from bench.registry.registry import _REGISTRY, OURS, make, registry

COUNTED_FROM_BOTH_ENDS = ("surgical", "block")


def numeric(kind: Any) -> list[tuple[str, str, type]]:
    """(plugin, hyper-parameter, type) of each hyper-parameter whose default is a number."""
    plugins = [plugin for plugin in registry().of_kind(kind) if plugin.distribution.startswith(f"{OURS} ")]
    found = [(plugin.name, name, type(p.default)) for plugin in plugins for name, p in plugin.parameters.items()]
    return [each for each in found if each[2] in (int, float)]


@pytest.mark.parametrize(("name", "argument", "kind"), numeric("method"))
def test_methods_refuse_numbers_that_mean_nothing(name: str, argument: str, kind: type) -> None:
    """Rates, epochs and the like are refused by the phases that declare them."""
    for value in [-1] if kind is int else [-1.0, math.nan, math.inf]:
        if (name, argument) == COUNTED_FROM_BOTH_ENDS:
            continue
        with pytest.raises(PluginError) as refused:
            make_method(Reference(name, {argument: value})).phases(["backbone.a", "backbone.b", "backbone.c"])
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "argument", "kind"), numeric("backbone"))
def test_backbones_refuse_numbers_that_mean_nothing(name: str, argument: str, kind: type) -> None:
    for value in (-1, 0) if kind is int else (-1.0, math.nan):
        refusal = f"{argument} takes ({kind.__name__} of at least|one of) "
        with torch.device("meta"), pytest.raises(PluginError, match=refusal):
            make_backbone(Reference(name, {argument: value}))


def within(
    count: Count = 1,
    positive: Positive = 1.0,
    at_least_0: NotNegative = 0.0,
    share: Share = 0.5,
    rate: Rate = 0.5,
    few: Annotated[int, Range(1, 32)] | None = None,
    other: Annotated[float, "a comment of another library"] = 0.0,
    pair: tuple[Share, Share] = (0.0, 1.0),
) -> dict[str, object]:
    """A plugin with a hyper-parameter of each range."""
    return locals()


@pytest.fixture
def ranged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_REGISTRY, "plugins", dict(registry().plugins))
    registry().add("backbone", "within", within)


@pytest.mark.parametrize(
    ("argument", "allowed", "refused", "words"),
    [
        ("count", [1, 10**6], [0, -1, 1.0, True, math.nan], "int of at least 1"),
        ("positive", [1e-9, 7, 1e9], [0, -1e-9, math.nan, math.inf], "float above 0"),
        ("at_least_0", [0, 0.0, 3], [-1e-9, math.nan, math.inf], "float of at least 0"),
        ("share", [0, 0.5, 1], [-0.1, 1.1, math.nan], "float of at least 0 and at most 1"),
        ("rate", [0, 0.999], [1, 1.1, -0.1], "float of at least 0 and below 1"),
        ("few", [None, 1, 32], [0, 33], "int of at least 1 and at most 32 or None"),
        ("other", [-1, math.inf], ["a"], "float"),
        ("pair", [(0, 1), [0.5, 0.5]], [(0, 2), (0.5,)], ""),
    ],
)
def test_a_range_is_of_the_type(
    ranged: None, argument: str, allowed: list[Any], refused: list[Any], words: str
) -> None:
    for value in allowed:
        made = make("backbone", Reference("within", {argument: value}))[argument]
        assert made == (tuple(value) if isinstance(value, list) else value)
        assert type(made) in (type(None), int, float, tuple)
    for value in refused:
        with pytest.raises(PluginError, match=f"'within': hyper-parameter {argument} takes {words}") as error:
            make("backbone", Reference("within", {argument: value}))
        assert str(error.value).endswith(f"{words}, got {value!r}")


def test_what_a_constructor_refuses_is_a_mistake_in_its_arguments(ranged: None) -> None:
    def fussy(size: int = 3) -> None:
        raise ValueError(f"size is {size}, expected a multiple of 4\nas in the paper")

    registry().add("backbone", "fussy", fussy)
    with pytest.raises(PluginError) as refused:
        make("backbone", Reference("fussy", {"size": 5}))
    assert str(refused.value) == "backbone fussy(size=5): ValueError: size is 5, expected a multiple of 4"
    assert isinstance(refused.value.__cause__, ValueError)
    with pytest.raises(ValueError, match="size is 3"):
        make("backbone", Reference("fussy"))
