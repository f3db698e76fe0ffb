"""What is computed by item is the same, and in its place, on any number of processes."""

import operator

import pytest

from bench.boards import on_cores as module
from bench.boards.on_cores import on_cores


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize(("num", "least"), [(0, 1), (1, 4), (11, 1), (100, 4)])
def test_each_output_has_the_place_of_its_item(
    num: int, least: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "num_cores", lambda: cores)
    monkeypatch.setattr("bench.data.pool.num_cores", lambda: cores)

    assert sorted(on_cores(operator.neg, range(10, 10 + num), least)) == [(at, -10 - at) for at in range(num)]
