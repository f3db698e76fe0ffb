"""The model that is adapted: a backbone and a head."""

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

    `signal_spec` is the preprocessing that it expects. A parameter whose `requires_grad` is turned off in the
    constructor is never trained. Residual blocks apply a `DropPath` to their branch before the addition.
    """

    signal_spec: SignalSpec
    """Preprocessing of the signals that `forward` gets; set in the class or in `__init__`."""
    checkpoint: ClassVar[PublishedCheckpoint | None] = None
    """Published weights, which `--init pretrained` loads; they are the default init. None: there are none."""
    feature_dim: int
    """Number of features of a record: the size of the output of `forward` and of the head's input."""

    def reset_head(self, head: nn.Linear) -> None:
        """Initialise a new head by PyTorch's default. Override it if the publication initialises it otherwise."""
        head.reset_parameters()

    def tokens(self, signals: Tensor) -> Tensor:
        """Return the tokens [record, token, dim] of signals [record, lead, time]; `forward` pools over the tokens.

        Raises Incompatible if the backbone has none.
        """
        raise Incompatible(f"{type(self).__name__} has no tokens: its features are not pooled over a sequence")

    def layer_groups(self) -> list[str]:
        """Return the paths of the layer groups, shallow to deep. Each parameter is in exactly one of them.

        By default, first the backbone's own parameters, then its children in the order of `__init__`; a ModuleList or
        Sequential is replaced by its children. Override it if this is not the order of the forward pass.
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
    """A module that computes a backbone's tokens."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, signals: Tensor) -> Tensor:
        return self.backbone.tokens(signals)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016) with scaling: branch * keep / (1 - drop_prob).

    The training loop sets `keep` [record], 0 or 1. It samples the mask for the whole batch, so that results do not
    depend on the number of ranks. A branch may have several consecutive rows per record, which are kept or dropped
    together. Outside the training loop, `keep` is None and the mask is sampled here.
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
    """Return the drop rate of each DropPath, shallow to deep: linspace(0, rate), or constant."""
    if shape == "constant":
        return [rate] * num_paths
    return [rate * position / (num_paths - 1) if num_paths > 1 else 0.0 for position in range(num_paths)]


def set_drop_path(model: nn.Module, rate: float, shape: Literal["linear", "constant"] = "linear") -> list[DropPath]:
    """Set the drop rates of the model's DropPaths, and return the DropPaths in forward order.

    Raises Incompatible if the rate is positive and there are fewer than two.
    """
    paths = drop_paths(model)
    if rate > 0 and len(paths) < 2:
        raise Incompatible(
            f"stochastic depth needs at least two residual blocks, and this backbone has {len(paths) or 'none'}"
        )
    for path, drop_prob in zip(paths, drop_path_rates(len(paths), rate, shape), strict=True):
        path.drop_prob, path.keep = drop_prob, None
    return paths


class HeadAlone(nn.Module):
    """A module that applies only the head of a model, to precomputed features."""

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
        """Maps features [record, feature] to logits; after `use_tokens`, tokens [record, token, dim]."""
        self.num_labels = num_labels
        self.made_by = ""
        """Facts that identify the backbone, apart from its weights; empty: unknown, so features are not cached."""
        self.takes_tokens = False

    @cached_property
    def never_trained(self) -> frozenset[str]:
        """Return the names of parameters whose `requires_grad` the backbone or a method's `prepare` turned off.

        Computed once, before the first phase and after `prepare`, which may rename parameters. Later the training loop
        sets `requires_grad` itself.
        """
        return frozenset(name for name, p in self.named_parameters() if not p.requires_grad)

    @torch.no_grad()
    def use_tokens(self) -> int:
        """Use the backbone's tokens as the head's input in place of its features. Return the tokens' dimension.

        What makes features of the tokens, such as a tail after the pooling, is then never trained. Raises Incompatible
        if the backbone has no tokens.
        """
        spec, modes = self.backbone.signal_spec, {module: module.training for module in self.modules()}
        weight = next(self.parameters())
        signals = weight.new_zeros(1, len(spec.leads), spec.window or 10 * spec.rate)
        trained = [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]
        with torch.enable_grad():
            tokens = self.eval().backbone.tokens(signals)
            gradients = torch.autograd.grad(tokens.sum(), trained, allow_unused=True) if trained else ()
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)
        dim = tokens.shape[-1]
        for module, training in modes.items():
            module.training = training
        self.takes_tokens = True
        return dim

    def encoder(self) -> nn.Module:
        """Return the module that computes the head's input from signals."""
        return Tokens(self.backbone) if self.takes_tokens else self.backbone

    def encode(self, signals: Tensor) -> Tensor:
        """Compute the head's input from signals: features [record, feature], or tokens [record, token, dim]."""
        encode = self.backbone.tokens if self.takes_tokens else self.backbone
        return encode(signals)

    def classify(self, features: Tensor) -> Tensor:
        """Compute logits [record, label] from the head's input.

        Never in bf16: its 8 bits would give different records equal logits, and ranking metrics need their order.
        """
        weight = next(self.head.parameters(), None)
        kind = weight.dtype if weight is not None else torch.promote_types(features.dtype, torch.float32)
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.to(kind))  # type: ignore[no-any-return]

    def forward(self, signals: Tensor) -> Tensor:
        return self.classify(self.encode(signals))

    def module_for(self, *, on_features: bool) -> nn.Module:
        """Return the module that computes logits: this one from signals, its head alone from features."""
        return HeadAlone(self) if on_features else self

    def train_parts(self, parts: Mapping[str, float], *, fitted: bool = False) -> list[dict[str, Any]]:
        """Freeze everything except `parts`, set train and eval modes, and return parameter groups for an optimiser.

        `parts` maps a part to its learning rate; see `Phase`. The group of a part has `params`, `param_names` and `lr`.
        With `fitted`, a part may have buffers only. Raises BenchError for a part without parameters to train.
        """
        never_trained = self.never_trained
        groups: dict[str, dict[str, Any]] = {
            part: {"params": [], "param_names": [], "lr": rate} for part, rate in parts.items()
        }
        for name, parameter in self.named_parameters():
            part = owning_part(name, parts)
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
                    f"of a module or parameter, in which `*` matches anything, such as "
                    f"{', '.join(dict.fromkeys([*near, *top][:8]))}"
                )
        self.train_mode(parts)
        return list(groups.values())

    def changed_keys(self, parts: Collection[str]) -> set[str]:
        """Return the keys of the state dict, parameters and buffers, that training these parts changes.

        A tensor with several keys goes by the first, as in `named_parameters`; then all of its keys change.
        """
        enclosed, first = self._enclosed(parts), first_keys(self.state_dict())
        return {
            key
            for key, of_tensor in first.items()
            if owning_part(of_tensor, parts) is not None or of_tensor.rpartition(".")[0] in enclosed
        }

    def train_mode(self, parts: Collection[str]) -> None:
        """Set train mode for modules whose path matches a part or that parts enclose, and eval mode for all others."""
        self.eval()
        enclosed = self._enclosed(parts)
        for name, module in self.named_modules():
            if name and (name in enclosed or owning_part(name, parts) is not None):
                module.training = True

    def _enclosed(self, parts: Collection[str]) -> set[str]:
        """Return the paths of modules without parameters, in no part, where parts train all that can be around them.

        Such as the DropPaths of a backbone that keeps them beside its layer groups, when each group has a rate.
        """
        trained = {name: owning_part(name, parts) is not None for name, _ in self.named_parameters()}
        of_module: dict[str, list[bool]] = {"": []}
        for name, is_trained in trained.items():
            for above in _above(name):
                of_module.setdefault(above, []).extend([is_trained] * (name not in self.never_trained))
        whole = {name for name, parameters in of_module.items() if parameters and all(parameters)}
        return {
            name
            for name, _ in self.named_modules()
            if name and name not in of_module and next(a for a in _above(name) if a in of_module) in whole
        }


def first_keys(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return key -> the first key of the same tensor: weights that are tied have several keys in a state dict."""
    first = dict[object, str]()
    return {
        key: first.setdefault((value.data_ptr(), value.shape, value.stride()), key) if value.data_ptr() else key
        for key, value in state.items()
    }


def _above(name: str) -> list[str]:
    """Return the paths of the modules around a path, the nearest first, the model itself, ``, last."""
    words = name.split(".")
    return [".".join(words[:depth]) for depth in reversed(range(len(words)))]


def owning_part(name: str, parts: Collection[str]) -> str | None:
    """Return the longest part that matches a path or a module above it; of equally long ones, the last by name."""
    fitting = [part for part in parts if fnmatchcase(name, part) or fnmatchcase(name, f"{part}.*")]
    return max(fitting, key=lambda part: (len(part), part), default=None)


def _paths(names: Iterable[str]) -> list[str]:
    """Return the paths of all modules that contain these parameters, shortest first."""
    parents = {".".join(path[:depth]) for path in (name.split(".") for name in names) for depth in range(1, len(path))}
    return sorted(parents, key=lambda path: (path.count("."), path))


def _patterns(names: Iterable[str]) -> list[str]:
    """Return patterns such as `backbone.*.bias` and `*.bias` for each word in these parameters' paths."""
    split = [name.split(".") for name in names]
    within = {f"{words[0]}.*.{word}" for words in split for word in words[2:] if not word.isdigit()}
    return sorted(within | {f"*.{word}" for words in split for word in words[1:] if not word.isdigit()})


def count_parameters(module: nn.Module, *, trainable: bool = False) -> int:
    """Return the number of parameters of a module; with `trainable`, of those with `requires_grad`."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)
