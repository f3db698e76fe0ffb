"""Check the numbers that name a run: the fraction and draw of its training records, and seeds."""

from __future__ import annotations

import operator
from typing import Any

from bench.errors import BenchError
from bench.results.document import MOST


def whole_number(name: str, value: Any) -> int:
    """Return the value of an option, such as one of NumPy's whole numbers, as Python's int. Else raises BenchError."""
    try:
        return int(operator.index(value))
    except TypeError:
        raise BenchError(f"--{name.replace('_', '-')} must be a whole number, got {value!r}") from None


def seed_or_draw(name: str, value: Any) -> int:
    """Return the value of `--seed` or `--draw` as Python's int. Raises BenchError unless it is 0 to 2^53."""
    number = whole_number(name, value)
    if number < 0:
        raise BenchError(f"--{name} must not be negative, got {number}")
    if number > MOST:
        raise BenchError(f"--{name} must be at most 2^53, got {number}")
    return number


def fraction_and_draw(fraction: Any, draw: Any) -> tuple[float, int]:
    """Return both as Python's numbers. Raises BenchError if one is out of range, or for a draw of all records."""
    fraction, draw = float(fraction), seed_or_draw("draw", draw)
    if not 0 < fraction <= 1:
        raise BenchError(f"--fraction must lie in (0, 1], got {fraction}")
    if draw and fraction == 1:
        raise BenchError(f"--draw {draw} has no effect on all training records; add --fraction below 1")
    return fraction, draw
