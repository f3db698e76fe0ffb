"""A user's mistake is one line and exit code 2; anything else is a bug, whose traceback stays."""

import subprocess
import sys

import pytest

from bench import errors
from bench.errors import BenchError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BenchError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_is_a_users_mistake_that_says_what_it_is(kind: type[BenchError]) -> None:
    assert kind.__doc__
    with pytest.raises(BenchError, match="a file is missing"):
        raise kind("a file is missing")


def test_the_two_kinds_that_are_told_from_their_text_begin_differently() -> None:
    beginnings = [kind.PREFIX for kind in KINDS if hasattr(kind, "PREFIX")]

    assert len(beginnings) == 2
    assert not any(one.startswith(other) for one in beginnings for other in beginnings if one is not other)


def test_errors_cost_nothing_to_import() -> None:
    """Every module imports bench.errors, so what it imports would slow each command."""
    code = "import sys; before = set(sys.modules); import bench.errors; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"torch", "numpy", "pandas", "rich"} & set(loaded)
