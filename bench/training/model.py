"""Backbone + head: the model that is adapted."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bench.data.signals import SignalSpec
from bench.errors import BenchError, Incompatible, PluginError
from bench.training.published import PublishedCheckpoint


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

    def tokens(self, signals: Tensor) -> Tensor:
        """Return what `forward` pools: signals [record, lead, time] -> [record, token, dim]; not every backbone can."""
        raise Incompatible(f"{type(self).__name__} has no tokens: its features are no pooling over a sequence")

    def layer_groups(self) -> list[str]:
        """Return the paths of the parts of one depth, shallow to deep, each parameter in one of them.

        By default: parameters of the backbone itself, then its children in the order of `__init__`, and in place of a
        ModuleList or Sequential its children. Override it where this is not the order of the forward pass.
        """
        groups = [name for name, parameter in self.named_parameters(recurse=False) if parameter.requires_grad]
        for name, child in self.named_children():
            parts = {f"{name}.{inner}": part for inner, part in child.named_children()}
            if not isinstance(child, nn.ModuleList | nn.Sequential):
                parts = {name: child}
            groups += [path for path, part in parts.items() if any(p.requires_grad for p in part.parameters())]
        return groups


def layer_groups(backbone: Backbone) -> tuple[str, ...]:
    """Return the backbone's layer groups as parts of a model, such as `backbone.blocks.0`, shallow to deep."""
    return tuple(f"backbone.{path}" for path in backbone.layer_groups())


class Tokens(nn.Module):
    """Runs a backbone up to its tokens."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, signals: Tensor) -> Tensor:
        return self.backbone.tokens(signals)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016), scaled: branch * keep / (1 - drop_prob).

    In training the loop hands out `keep` [record] in {0, 1}, drawn for the whole batch so that the number of ranks
    does not matter. A branch with several rows a record, records first, keeps or drops them together. Without `keep`,
    outside of the loop, the mask is drawn here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drop_prob = 0.0
        self.keep: Tensor | None = None

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0.0:
            return branch
        keep = self.keep
        if keep is None:
            keep = torch.rand(len(branch), device=branch.device) >= self.drop_prob
        elif len(keep) != len(branch):
            if not len(keep) or len(branch) % len(keep):
                raise PluginError(
                    f"a DropPath was given {len(branch)} rows in a training step of {len(keep)} records on this rank; "
                    "call it on [record, ...] or [record * part, ...]"
                )
            keep = keep.repeat_interleave(len(branch) // len(keep))
        scale = keep.to(branch.dtype) / (1.0 - self.drop_prob)
        return branch * scale.view(-1, *[1] * (branch.dim() - 1))

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob:.3g}"


def drop_paths(model: nn.Module) -> list[DropPath]:
    """Return the model's DropPaths in forward order."""
    return [module for module in model.modules() if isinstance(module, DropPath)]


def drop_path_rates(num_paths: int, rate: float, shape: Literal["linear", "constant"] = "linear") -> list[float]:
    """Return each DropPath's rate, shallow to deep: linspace(0, rate), by which the first never drops, or constant."""
    if shape == "constant":
        return [rate] * num_paths
    return [rate * position / (num_paths - 1) if num_paths > 1 else 0.0 for position in range(num_paths)]


def set_drop_path(model: nn.Module, rate: float, shape: Literal["linear", "constant"] = "linear") -> list[DropPath]:
    """Set the rates of the model's DropPaths and return these in forward order."""
    paths = drop_paths(model)
    if rate > 0 and len(paths) < 2:
        raise Incompatible(
            f"stochastic depth needs at least two residual blocks, and this backbone has {len(paths) or 'none'}"
        )
    for path, drop_prob in zip(paths, drop_path_rates(len(paths), rate, shape), strict=True):
        path.drop_prob, path.keep = drop_prob, None
    return paths


class HeadAlone(nn.Module):
    """The head of a model on features that are at hand."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        return self.model.classify(features)


class Classifier(nn.Module):
    """A backbone and a head, linear by default: signals [record, lead, time] -> logits [record, label]."""

    def __init__(self, backbone: Backbone, num_labels: int) -> None:
        super().__init__()
        self.backbone = backbone
        head = nn.Linear(backbone.feature_dim, num_labels)
        backbone.reset_head(head)
        self.head: nn.Module = head
        """Features [record, feature] to logits; tokens [record, token, dim] after `use_tokens`."""
        self.num_labels = num_labels
        self.made_by = ""
        """What made the backbone, apart from its weights; features are kept on disk only where it is known."""
        self.takes_tokens = False

    @cached_property
    def never_trained(self) -> frozenset[str]:
        """Parameters whose `requires_grad` the backbone or a method's `prepare` turned off.

        Asked for when parts are trained first, after `prepare`, which may have renamed parameters: from then on the
        harness sets that flag.
        """
        return frozenset(name for name, p in self.named_parameters() if not p.requires_grad)

    @torch.no_grad()
    def use_tokens(self) -> int:
        """Give the head the backbone's tokens in place of its features, and return their dimension.

        `Incompatible` where the backbone has none.
        """
        spec, modes = self.backbone.signal_spec, {module: module.training for module in self.modules()}
        weight = next(self.parameters())
        signals = weight.new_zeros(1, len(spec.leads), spec.window or 10 * spec.rate)
        dim = self.eval().backbone.tokens(signals).shape[-1]
        for module, training in modes.items():
            module.training = training
        self.takes_tokens = True
        return dim

    def encoder(self) -> nn.Module:
        """Return what makes the head's input of signals."""
        return Tokens(self.backbone) if self.takes_tokens else self.backbone

    def encode(self, signals: Tensor) -> Tensor:
        """Return the head's input: features [record, feature], or tokens [record, token, dim]."""
        encode = self.backbone.tokens if self.takes_tokens else self.backbone
        return encode(signals)

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits of the head's input.

        Never in bf16: logits of 8 bits would tie records that a ranking metric must tell apart.
        """
        weight = next(self.head.parameters(), None)
        kind = weight.dtype if weight is not None else torch.promote_types(features.dtype, torch.float32)
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.to(kind))  # type: ignore[no-any-return]

    def forward(self, signals: Tensor) -> Tensor:
        return self.classify(self.encode(signals))

    def train_parts(self, parts: Mapping[str, float], *, fitted: bool = False) -> list[dict[str, Any]]:
        """Freeze all but `parts`, which have learning rates, set the modes, and return an optimiser's groups.

        A group is a part's: `params`, their `param_names` and `lr`. What a part is, and which of several owns a
        parameter, is said in `Phase`. A `fitted` part may have buffers alone.
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
            if not group["params"] and not (fitted and self.changed_keys([part])):
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
