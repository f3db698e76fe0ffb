"""Fields that are younger than the published results leave their digests alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import PluginError
from bench.results.identity import identity
from bench.training.phase import EMA, FIRST_FIELDS, SWA, Phase
from methods.lpft import LPFTStochasticDepth

PUBLISHED = sorted((Path(__file__).parent.parent / "leaderboards").rglob("net1d_mini-lpft-sd-*/result.json"))


def phase(**options: Any) -> Phase:
    return Phase(**{"name": "p", "learning_rates": {"head": 1e-3}, "epochs": 4, **options})


@pytest.mark.parametrize("path", PUBLISHED[:3], ids=lambda path: path.parent.name)
def test_a_published_digest_is_that_of_today(path: Path) -> None:
    document = json.loads(path.read_text())
    given = document["method"]["given"]

    facts = [made.facts() for made in LPFTStochasticDepth(**given).phases(())]

    assert facts == document["method"]["phases"]
    today = {**document, "method": {**document["method"], "phases": facts}}
    assert identity(today) == document["digest"]


@pytest.mark.parametrize(
    "declared",
    [
        {"warmup": 0.1},
        {"average": EMA(0.99)},
        {"average": EMA(0.999)},
        {"average": SWA(0.5)},
        {"drop_path_shape": "constant"},
        {"drop_path_unit": "batch"},
        {"drop_path_when": "early"},
        {"patience": 3},
        {"no_weight_decay": ("1d",)},
    ],
    ids=str,
)
def test_what_changes_the_outcome_is_in_the_facts(declared: dict[str, Any]) -> None:
    facts, plain = phase(**declared).facts(), phase().facts()

    assert set(plain) == set(FIRST_FIELDS)
    assert set(facts) == {*FIRST_FIELDS, *declared}
    assert json.loads(json.dumps(facts)) != json.loads(json.dumps(plain))


@pytest.mark.parametrize(
    ("when", "dropping"),
    [("all", [True] * 4), ("early", [True, True, False, False]), ("late", [False, False, True, True])],
)
def test_stochastic_depth_early_and_late(when: Any, dropping: list[bool]) -> None:
    assert [phase(drop_path_when=when).drops_paths_in(epoch) for epoch in range(4)] == dropping


def test_numpys_numbers_become_plain_ones() -> None:
    """As of `lr * 0.8 ** np.arange(n)`: torch writes them into a checkpoint and does not load them."""
    numbers = {"epochs": np.int64(4), "batch_size": np.int32(8), "patience": np.int64(2), "warmup": np.float32(0.25)}
    numbers |= {"weight_decay": np.float64(0.1), "drop_path_rate": np.array(0.5), "gradient_clip_norm": np.float64(1)}
    rates = {"head": np.float64(1e-3), "backbone": np.float32(0.5), "backbone.first": 1}

    made = phase(name=np.str_("p"), learning_rates=rates, average=EMA(np.float64(0.9)), **numbers)

    values = [value for key in numbers for value in [getattr(made, key)]]
    assert {type(value) for value in [*values, *made.learning_rates.values()]} == {int, float}
    assert type(made.learning_rates["backbone.first"]) is int, "digests tell 1 from 1.0"
    assert (type(made.average.decay), type(SWA(np.float64(0.5)).start), type(made.name)) == (float, float, str)
    assert json.loads(json.dumps(made.facts()))["epochs"] == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"warmup": 1.0}, "warmup must lie in"),
        ({"warmup": 0.1, "lr_schedule": "one-cycle"}, "one-cycle allows no warmup"),
        ({"average": "ema"}, "average must be EMA"),
        ({"drop_path_shape": "cubic"}, "expected one of .*'constant'"),
        ({"drop_path_switch": 1.0}, "drop_path_switch must lie in"),
        ({"patience": 0}, "patience must be a whole number of epochs from 1"),
        ({"patience": 2, "selection": "last"}, "patience needs a selection of the best epoch"),
        ({"no_weight_decay": "1d"}, "must be a tuple"),
    ],
)
def test_a_wrong_field_says_what_is_wrong(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match=f"phase 'p': .*{message}"):
        phase(**wrong)
