"""A function over chunks gives the same on any number of processes, and its error reaches the caller."""

import math
import operator
import os
import sys

import pytest

from bench.data.pool import FEW, over_cores
from bench.errors import PluginError


@pytest.mark.parametrize("num", [1, FEW, FEW + 3])
def test_every_chunk_is_examined_once(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})

    assert sorted(over_cores(math.factorial, range(num))) == [(n, math.factorial(n)) for n in range(num)]


def test_an_error_of_a_worker_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})

    with pytest.raises(ValueError, match="factorial"):
        list(over_cores(math.factorial, [1, 2, 3, 4, 5, -1]))


def ends_program(number: int) -> None:
    sys.exit(number)


@pytest.mark.parametrize("num", [1, FEW + 1])
def test_what_ends_the_program_is_named(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})

    with pytest.raises(PluginError, match=rf"{__file__}, line \d+, ended the program by exit\(\d\)"):
        list(over_cores(ends_program, range(num)))


def test_few_chunks_need_no_workers() -> None:
    assert list(over_cores(operator.neg, [3, 1, 2])) == [(3, -3), (1, -1), (2, -2)], "in order, in this process"
