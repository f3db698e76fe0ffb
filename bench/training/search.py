"""Search spaces of hyper-parameters: ranges of values and how a trial's value is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench.errors import PluginError


class Search(Protocol):
    """The values that a hyper-parameter may take."""

    def at(self, quantile: float) -> Any:
        """Return the value at a quantile in [0, 1)."""


@dataclass(frozen=True)
class Uniform:
    """Values between two bounds, all equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise PluginError(f"{self}: the upper bound must be larger than the lower one, and both finite")

    def at(self, quantile: float) -> float:
        return _rounded(self.low + quantile * (self.high - self.low))


@dataclass(frozen=True)
class LogUniform(Uniform):
    """Values between two positive bounds, all orders of magnitude equally likely."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise PluginError(f"{self}: the bounds must be positive")

    def at(self, quantile: float) -> float:
        return _rounded(self.low * (self.high / self.low) ** quantile)


@dataclass(frozen=True)
class Choice:
    """A list of values, all equally likely."""

    values: Sequence[Any]

    def __post_init__(self) -> None:
        if not len(self.values):
            raise PluginError("Choice: there is no value to choose from")

    def at(self, quantile: float) -> Any:
        return self.values[int(quantile * len(self.values))]


def _rounded(value: float) -> float:
    """Round to three digits, so that the value can be copied from a board without loss."""
    return float(f"{value:.3g}")
