"""Backbone + head: the model that is adapted."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bench.data.signals import SignalSpec
from bench.errors import BenchError, Incompatible


@dataclass(frozen=True)
class PublishedCheckpoint:
    """Where a backbone's published weights are, and how the file's keys become ours.

    Every key must be the backbone's, the head's or left out, and every parameter and buffer of the backbone there.
    """

    repo: str
    """Repository on the Hugging Face hub."""
    filename: str
    revision: str
    """Commit, tag or branch that is asked for by default; the commit that came and the file's hash are recorded."""
    head_prefix: str | None = None
    """How keys of the published head begin, such as `fc.`; it is left out, as ours is new. None: the file has none."""
    head_outputs: int = 0
    """Outputs of the published head; needed with `first_logits` only."""
    first_logits: tuple[float, ...] = ()
    """First outputs of the published model, head included, for `linspace(-1, 1)` over [1, lead, time]."""
    prefix: str = ""
    """How the backbone's keys begin in the file, such as `encoder.`; what follows is ours."""
    left_out: tuple[str, ...] = ()
    """How other keys begin that are left out, such as `decoder.`; a result names all that were."""
    state_dict: str = ""
    """Where in the file the state dict lies, such as `teacher`, dots between several names; needed where more than one
    of those in the file fits."""
    sha256: str = ""
    """Of the file; then `--init PATH` recognises it as the published one."""


class Backbone(nn.Module):
    """An architecture without a head: signals [record, lead, time] -> features [record, feature_dim].

    It carries the preprocessing that it expects. A parameter whose `requires_grad` the constructor turned off is
    never trained. Residual blocks put a `DropPath` before the addition.
    """

    signal_spec: SignalSpec
    """What `forward` is given; set in the class or in `__init__`."""
    checkpoint: ClassVar[PublishedCheckpoint | None] = None
    """Its published weights, which `--init pretrained` loads and which are then the default; None: there are none."""
    feature_dim: int
    """Features of a record, the size of what `forward` returns and of the head's input."""

    def reset_head(self, head: nn.Linear) -> None:
        """Initialise a new head on this backbone; PyTorch's default unless the publication says otherwise."""
        head.reset_parameters()


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016), per record and scaled: branch * keep / (1 - drop_prob).

    In training the loop hands out `keep` [record] in {0, 1}, drawn for the whole batch so that the number of ranks
    does not matter. Without it, or for a batch of another size that a method's loss makes, the mask is drawn here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drop_prob = 0.0
        self.keep: Tensor | None = None

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0.0:
            return branch
        keep = self.keep
        if keep is None or len(keep) != len(branch):
            keep = torch.rand(len(branch), device=branch.device) >= self.drop_prob
        scale = keep.to(branch.dtype) / (1.0 - self.drop_prob)
        return branch * scale.view(-1, *[1] * (branch.dim() - 1))

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob:.3g}"


def set_drop_path(model: nn.Module, rate: float) -> list[DropPath]:
    """The model's DropPaths in forward order, their rates set to linspace(0, rate): the shallowest never drops."""
    paths = [module for module in model.modules() if isinstance(module, DropPath)]
    if rate > 0 and len(paths) < 2:
        raise Incompatible(
            f"stochastic depth needs at least two residual blocks, and this backbone has {len(paths) or 'none'}"
        )
    for position, path in enumerate(paths):
        path.drop_prob = rate * position / (len(paths) - 1) if len(paths) > 1 else 0.0
        path.keep = None
    return paths


class Head(nn.Linear):
    """The linear head, never in bf16: logits of 8 bits would tie records that a ranking metric must tell apart."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


class Classifier(nn.Module):
    """A backbone and a linear head: signals [record, lead, time] -> logits [record, label]."""

    def __init__(self, backbone: Backbone, num_labels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Head(backbone.feature_dim, num_labels)
        backbone.reset_head(self.head)
        self.made_by = ""
        """What made the backbone, apart from its weights; features are kept on disk only where it is known."""

    @cached_property
    def never_trained(self) -> frozenset[str]:
        """Parameters whose `requires_grad` the backbone or a method's `prepare` turned off.

        Asked for when parts are trained first, after `prepare`, which may have renamed parameters: from then on the
        harness sets that flag.
        """
        return frozenset(name for name, p in self.named_parameters() if not p.requires_grad)

    def forward(self, signals: Tensor) -> Tensor:
        return self.head(self.backbone(signals))  # type: ignore[no-any-return]

    def train_parts(self, parts: Mapping[str, float]) -> list[dict[str, Any]]:
        """Freeze all but `parts`, which have learning rates, set the modes, and return an optimiser's groups.

        A group is a part's: `params`, their `param_names` and `lr`. What a part is, and which of several owns a
        parameter, is said in `Phase`.
        """
        never_trained = self.never_trained
        groups: dict[str, dict[str, Any]] = {
            part: {"params": [], "param_names": [], "lr": rate} for part, rate in parts.items()
        }
        for name, parameter in self.named_parameters():
            part = _owner(name, parts)
            parameter.requires_grad_(part is not None and name not in never_trained)
            if part is not None and parameter.requires_grad:
                groups[part]["params"].append(parameter)
                groups[part]["param_names"].append(name)
        for part, group in groups.items():
            if not group["params"]:
                names = [name for name, _ in self.named_parameters() if name not in never_trained]
                paths = _paths(names)
                near = difflib.get_close_matches(part, _patterns(names) if "*" in part else paths, n=3, cutoff=0.5)
                top = [path for path in paths if path.count(".") < 2]
                raise BenchError(
                    f"a phase trains part {part!r}, which has no parameters to train of its own; a part is the path "
                    f"of a module or parameter, `*` in it fitting anything, such as "
                    f"{', '.join(dict.fromkeys([*near, *top][:8]))}"
                )
        self.train_mode(parts)
        return list(groups.values())

    def changed_keys(self, parts: Collection[str]) -> set[str]:
        """Keys of the state dict that training these parts changes: parameters and buffers."""
        return {key for key in self.state_dict() if _owner(key, parts) is not None}

    def train_mode(self, parts: Collection[str]) -> None:
        """Train mode for the modules whose own path fits a part, eval mode for the others."""
        self.eval()
        for name, module in self.named_modules():
            if name and _owner(name, parts) is not None:
                module.training = True


def _owner(name: str, parts: Collection[str]) -> str | None:
    """The longest part that fits a path or a module above it; of several as long, the last in the alphabet."""
    fitting = [part for part in parts if fnmatchcase(name, part) or fnmatchcase(name, f"{part}.*")]
    return max(fitting, key=lambda part: (len(part), part), default=None)


def _paths(names: Iterable[str]) -> list[str]:
    """All modules on the way to these parameters, shortest first."""
    parents = {".".join(path[:depth]) for path in (name.split(".") for name in names) for depth in range(1, len(path))}
    return sorted(parents, key=lambda path: (path.count("."), path))


def _patterns(names: Iterable[str]) -> list[str]:
    """`backbone.*.bias`, `*.bias` and the like: patterns for each word that occurs in these parameters' paths."""
    split = [name.split(".") for name in names]
    within = {f"{words[0]}.*.{word}" for words in split for word in words[2:] if not word.isdigit()}
    return sorted(within | {f"*.{word}" for words in split for word in words[1:] if not word.isdigit()})


def count_parameters(module: nn.Module, *, trainable: bool = False) -> int:
    """Parameters of a module, or those that the phase at hand trains."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)
