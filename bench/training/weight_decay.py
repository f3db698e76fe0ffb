"""Parameter groups of an optimiser with and without weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from bench.training.phase import ONE_DIMENSIONAL, Phase


def split_weight_decay(groups: list[dict[str, Any]], phase: Phase) -> list[dict[str, Any]]:
    """Split each parameter group of an optimiser into parameters with and without weight decay."""
    if not phase.no_weight_decay:
        return groups
    split = []
    for group in groups:
        pairs = list(zip(group["param_names"], group["params"], strict=True))
        without = [has_no_decay(name, parameter, phase.no_weight_decay) for name, parameter in pairs]
        for no_decay in (False, True):
            own = [pair for pair, is_without in zip(pairs, without, strict=True) if is_without == no_decay]
            if own:
                names, params = map(list, zip(*own, strict=True))
                part = {**group, "params": params, "param_names": names}
                split.append({**part, "weight_decay": 0.0} if no_decay else part)
    return split


def has_no_decay(name: str, parameter: Tensor, patterns: Sequence[str]) -> bool:
    """Return whether a parameter's path matches a pattern of those without weight decay, see `Phase`."""
    return any(
        parameter.dim() <= 1 if pattern == ONE_DIMENSIONAL else fnmatchcase(name, pattern) for pattern in patterns
    )
