"""Ranges of hyper-parameters, which are written as their types: `rank: Count = 8`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Range:
    """The finite numbers that a hyper-parameter may have, as in `Annotated[int, Range(1, 32)]`."""

    low: float
    high: float = math.inf
    above: bool = False
    """Whether a number must be above `low`."""
    below: bool = False
    """Whether a number must be below `high`."""

    def has(self, value: Any) -> bool:
        """Return whether a hyper-parameter may have this number."""
        is_bound = (self.above and value == self.low) or (self.below and value == self.high)
        return self.low <= value <= self.high and math.isfinite(value) and not is_bound

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.above else f"of at least {self.low:g}"
        high = f"below {self.high:g}" if self.below else f"at most {self.high:g}"
        return low if math.isinf(self.high) else f"{low} and {high}"


Count = Annotated[int, Range(1)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Rate = Annotated[float, Range(0, 1, below=True)]
