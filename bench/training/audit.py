"""What a method must not do: each is refused with the way to do it right, before or while it would go unseen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.optim.optimizer import register_optimizer_step_pre_hook

from bench.errors import BenchError, PluginError
from bench.training.batch import Start
from bench.training.distributed import World
from bench.training.method import Method
from bench.training.model import Classifier, drop_paths, owning_part
from bench.training.phase import Phase
from bench.training.weight_decay import has_no_decay
from bench.training.weights import hash_weights


class NoState:
    """Knows the attributes that a method and its class were made with, and refuses others."""

    def __init__(self, method: Method) -> None:
        self.method, self.before = method, _attributes(method)

    def check(self, hook: str) -> None:
        """Raise PluginError if the method has been changed; `hook` is what ran since."""
        now = _attributes(self.method)
        changed = [name for name in {**self.before, **now} if self.before.get(name) != now.get(name)]
        if changed:
            raise PluginError(
                f"{type(self.method).__name__}.{hook}() sets self.{changed[0]}, which a resumed run would not know; a "
                "method has hyper-parameters alone: keep tensors in batch.state, take start and averaged weights from "
                "batch.initial and batch.average, the step from batch.step"
            )


def _attributes(method: Method) -> dict[str, tuple[int, str]]:
    """Return name -> identity of the value, and its text if it is a container that can be changed."""
    own = type(method).__mro__[: type(method).__mro__.index(Method)]
    values = {name: value for kind in reversed(own) for name, value in vars(kind).items() if name[:2] != "__"}
    return {
        name: (id(value), repr(value) if isinstance(value, list | dict | set) else "")
        for name, value in {**values, **vars(method)}.items()
    }


@dataclass(frozen=True)
class Prepared:
    """What a method's `prepare` has made of a model."""

    same_backbone: bool
    """Whether the backbone is still the same but for its weights."""
    parameters: tuple[str, ...]
    """Paths of the parameters that it has added."""
    resting: tuple[str, ...]
    """Paths of the modules that it has added, and that drop values or learn statistics in train mode alone."""

    def check_use(self, model: Classifier, trained: Collection[str], in_training: Collection[str]) -> None:
        """Raise PluginError for an added parameter that no phase trains, or an added module that always rests.

        `trained` are the paths of the parameters that a phase trains, `in_training` of the modules that a phase puts
        into train mode.
        """
        if idle := [name for name in self.parameters if name not in {*trained, *model.never_trained}]:
            raise PluginError(
                f"prepare() adds {idle[0]}, which no phase trains: layer_groups are those of the backbone before "
                "prepare(); name what is new by a path or pattern, or turn its requires_grad off"
            )
        for name in self.resting:
            own = [f"{name}.{inner}" for inner, _ in model.get_submodule(name).named_parameters()]
            if name not in in_training and (_drop_rate(model.get_submodule(name)) or not own or {*own} & {*trained}):
                kind = type(model.get_submodule(name)).__name__
                raise PluginError(
                    f"prepare() puts a {kind} at {name}, which rests: no phase puts it into train mode, for which it "
                    "must train the module itself or all parameters of the module around it; put it and the new "
                    "parameters into a module without frozen ones, and name that module in the phase"
                )


def prepare(model: Classifier, method: Method, start: Start) -> Prepared:
    """Let the method prepare the model. PluginError where it puts in what the harness could not see."""
    state, num_paths, hidden = NoState(method), len(drop_paths(model)), set(_hidden_modules(model))
    structure, kinds = _structure(model.backbone), _kinds(model)
    parameters, rates = set(model.parameters()), {module: _drop_rate(module) for module in model.modules()}
    method.prepare(model, start)
    state.check("prepare")
    name = type(method).__name__
    default = torch.get_default_dtype()
    torch.set_default_dtype(kinds[0])
    if default != kinds[0]:
        raise PluginError(
            f"{name}.prepare() sets torch's default type to {default} for all that follows; say --precision, or give "
            "dtype= where a tensor is made"
        )
    if strange_kinds := set(_kinds(model)) - set(kinds):
        raise PluginError(
            f"{name}.prepare() makes weights {strange_kinds.pop()}, which the harness would turn into that of the "
            "run; say --precision, and leave types alone"
        )
    if strange := [child for child, _ in model.named_children() if child not in ("backbone", "head")]:
        raise PluginError(
            f"{name}.prepare() puts {strange[0]!r} beside backbone and head, where it would train and drop paths with "
            "the model; a frozen teacher is batch.initial or batch.average, a new layer goes into backbone or head"
        )
    if new := sorted(set(_hidden_modules(model)) - hidden):
        raise PluginError(
            f"{name}.prepare() hides a module in {new[0]}, where the harness cannot freeze, move or save it; register "
            "it as a submodule, or use batch.initial for a frozen teacher"
        )
    if len(drop_paths(model)) > num_paths:
        raise PluginError(
            f"{name}.prepare() adds residual blocks to the model: {len(drop_paths(model))} DropPaths where there were "
            f"{num_paths}, and the rates of all would shift; a frozen teacher is batch.initial or batch.average"
        )
    if any(path.drop_prob for path in drop_paths(model)):
        raise PluginError(
            f"{name}.prepare() sets rates of stochastic depth, which the phases set anew; declare "
            "drop_path_rate, drop_path_shape, drop_path_unit and drop_path_when of a Phase"
        )
    return Prepared(
        _structure(model.backbone) == structure,
        tuple(path for path, parameter in model.named_parameters() if parameter not in parameters),
        tuple(
            path for path, module in model.named_modules() if _rests(module) and rates.get(module) != _drop_rate(module)
        ),
    )


def _drop_rate(module: nn.Module) -> float:
    """Return the share of values that a module drops in training, such as dropout, attention and recurrent layers."""
    rate = module.p if isinstance(module, _DropoutNd) else getattr(module, "dropout", 0.0)
    return rate if isinstance(rate, int | float) else 0.0


def _rests(module: nn.Module) -> bool:
    """Return whether a module does something else in eval mode: it drops nothing, or its statistics stay."""
    return _drop_rate(module) > 0 or (isinstance(module, _NormBase) and module.track_running_stats)


def _kinds(model: nn.Module) -> list[torch.dtype]:
    """Return torch's default type, and those of the model's weights that are fractions."""
    values = [*model.parameters(), *model.buffers()]
    return [torch.get_default_dtype(), *{v.dtype for v in values if v.is_floating_point()}]


def _structure(module: nn.Module) -> dict[str, object]:
    """Return path -> what a module is made of, such as layers, hooks, numbers, but for the values of its weights.

    Objects stand for themselves, so that none of them is freed and another takes its place.
    """
    return {
        f"{path}.{name}": (
            [*map(_Same, value), *map(_Same, value.values() if isinstance(value, dict) else ())]
            if isinstance(value, dict | list | tuple)
            else _Same(value)
        )
        for path, inner in module.named_modules()
        for name, value in vars(inner).items()
        if name != "training"
    }


class _Same:
    """Equals another if both hold the same object, or numbers and texts that are equal."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        plain = isinstance(self.value, str | int | float | bool | None)
        return isinstance(other, _Same) and (
            self.value is other.value or (plain and type(self.value) is type(other.value) and self.value == other.value)
        )

    __hash__ = None  # type: ignore[assignment]


def _hidden_modules(model: nn.Module) -> Iterator[str]:
    """Yield the paths of attributes that hold modules which are no submodules."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
            if name != "_modules" and any(isinstance(part, nn.Module) for part in inner):
                yield f"{path}.{name}".strip(".")


def check_optimizer(
    optimizer: torch.optim.Optimizer, method: Method, phase: Phase, trained: Mapping[str, Tensor]
) -> None:
    """Raise PluginError if the optimiser does not train exactly these parameters, or brings what nobody would step."""
    where = f"{type(method).__name__}.optimizer() of phase {phase.name!r}"
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise PluginError(f"{where} returns a {type(optimizer).__name__}, expected a torch.optim.Optimizer")
    if any("initial_lr" in group for group in optimizer.param_groups):
        raise PluginError(
            f"{where} brings a learning-rate scheduler, which nobody would step; declare lr_schedule and warmup of the "
            "Phase, and leave the first rates to the groups"
        )
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise PluginError(
            f"{where} registers a step hook, whose weights would never be selected, saved or resumed; declare "
            "Phase.average, or override optimizer_step"
        )
    given = [id(p) for group in optimizer.param_groups for p in group["params"]]
    if lacking := [path for path, p in trained.items() if given.count(id(p)) != 1]:
        raise PluginError(
            f"{where} takes {lacking[0]} {given.count(id(trained[lacking[0]]))} times, expected once: one optimiser "
            "takes every parameter that the phase trains"
        )
    if len(given) > len(trained):
        raise PluginError(f"{where} takes {len(given) - len(trained)} parameters that the phase does not train")
    _check_rates(optimizer, where, phase, trained)
    _check_weight_decay(optimizer, where, phase, trained)


def _check_rates(optimizer: torch.optim.Optimizer, where: str, phase: Phase, trained: Mapping[str, Tensor]) -> None:
    """Raise PluginError if all parameters have the optimiser's own rate and the phase declares another one for some."""
    own = optimizer.defaults.get("lr")
    if any(group.get("lr") != own for group in optimizer.param_groups):
        return
    for path in trained:
        part = owning_part(path, phase.learning_rates)
        declared = phase.learning_rates[part] if part else own
        if declared != own:
            raise PluginError(
                f"{where} gives {path} the rate {own:g}, and the phase declares {declared:g}, which the result "
                "records; pass on the groups, which have their rates, or lr="
            )


def _check_weight_decay(
    optimizer: torch.optim.Optimizer, where: str, phase: Phase, trained: Mapping[str, Tensor]
) -> None:
    """Raise PluginError if a parameter decays by more than the phase declares for it, or if none decays that should."""
    spared = [path for path, parameter in trained.items() if has_no_decay(path, parameter, phase.no_weight_decay)]
    if phase.no_weight_decay and not spared:
        raise PluginError(
            f"phase {phase.name!r} spares {', '.join(phase.no_weight_decay)} from weight decay, which fits no "
            "parameter that it trains; a pattern is of the whole path, such as '*.bias'"
        )
    paths = {id(parameter): path for path, parameter in trained.items()}
    decaying, declaring = list[str](), list[str]()
    for group in optimizer.param_groups:
        for parameter in group["params"] if "weight_decay" in group else ():
            path, decay = paths[id(parameter)], group["weight_decay"]
            declared = 0.0 if has_no_decay(path, parameter, phase.no_weight_decay) else phase.weight_decay
            if decay not in (0.0, declared):
                raise PluginError(_other_decay(where, path, decay, declared))
            decaying += [path] * bool(decay)
            declaring += [path] * bool(declared)
    if declaring and not decaying:
        raise PluginError(_other_decay(where, declaring[0], 0.0, phase.weight_decay))


def _other_decay(where: str, path: str, decay: float, declared: float) -> str:
    return (
        f"{where} decays weights by {decay:g} and the phase declares {declared:g} for {path}, which the result "
        "records; pass weight_decay=phase.weight_decay (AdamW's own default is 0.01), and keep the groups that "
        "no_weight_decay spares"
    )


@contextmanager
def one_step(optimizer: torch.optim.Optimizer, method: Method, phase: Phase) -> Iterator[None]:
    """Within it the method's `optimizer_step` makes a step: by this optimiser alone, at the rates that it has."""
    where, stepped = f"{type(method).__name__}.optimizer_step() of phase {phase.name!r}", list[bool]()
    rates = [group["lr"] for group in optimizer.param_groups]

    def see(stepping: torch.optim.Optimizer, *_: object) -> None:
        stepped.append(True)
        if stepping is not optimizer:
            raise PluginError(
                f"{where} steps a second optimiser, which the harness neither schedules nor saves; one optimiser takes "
                "all parameters, in several groups"
            )

    hook = register_optimizer_step_pre_hook(see)
    try:
        yield
    finally:
        hook.remove()
    if not stepped:
        raise PluginError(
            f"{where} does not call optimizer.step(), so the phase's rates and schedule mean nothing; let the "
            "optimiser move the weights, a torch.optim.Optimizer of your own if need be"
        )
    if [group["lr"] for group in optimizer.param_groups] != rates:
        raise PluginError(
            f"{where} sets learning rates, which the phase's schedule also sets; declare lr_schedule, warmup and "
            "min_lr_factor of the Phase"
        )


class Untouched:
    """Knows tensors that a loss may read and not alter, by the number of times that they were altered in place."""

    def __init__(self, tensors: Mapping[str, Iterable[Tensor]]) -> None:
        self.tensors = {name: list(values) for name, values in tensors.items()}
        self.before = self._versions()

    def check(self, method: Method) -> None:
        """Raise PluginError if one of them was altered."""
        now = self._versions()
        if changed := [name for name in now if now[name] != self.before[name]]:
            raise PluginError(
                f"{type(method).__name__}.loss() alters {changed[0]} in place, and a step may compute its loss more "
                "than once; work on a copy, alter signals in augment and weights in optimizer_step or finish"
            )

    def _versions(self) -> dict[str, list[int]]:
        return {name: [tensor._version for tensor in values] for name, values in self.tensors.items()}


class Frozen:
    """Knows what a phase must leave as it is, by its hash."""

    def __init__(self, model: Classifier, phase: Phase) -> None:
        self.model, self.phase = model, phase
        changed = model.changed_keys(phase.learning_rates)
        self.keys = [key for key in model.state_dict() if key not in changed]
        self.before = hash_each(self.model, self.keys)
        """Key -> hash; checkpoints hold these in place of the values."""

    def check_same(self, before: Mapping[str, str]) -> None:
        """Raise BenchError if a frozen parameter or buffer is not that of the run which left these hashes."""
        if other := [key for key in self.keys if self.before[key] != before.get(key)]:
            raise BenchError(
                f"{other[0]}, which phase {self.phase.name!r} does not train, is not what it was when the checkpoint "
                "was written: prepare() computes it otherwise on this machine or by this library; resume where the run "
                "began, or begin again by --overwrite"
            )

    def check(self) -> None:
        """Raise PluginError if a frozen parameter or buffer has moved."""
        now = hash_each(self.model, self.keys)
        if moved := [key for key in self.keys if now[key] != self.before[key]]:
            raise PluginError(
                f"{moved[0]} moved in phase {self.phase.name!r}, which does not train it; give its part a learning "
                "rate, or leave it and its mode alone"
            )


def hash_each(model: Classifier, keys: Collection[str]) -> dict[str, str]:
    """Return key -> SHA-256 of its value, for these keys of a model's state dict."""
    state = model.state_dict()
    return {key: hash_weights({key: state[key]}) for key in keys}


def check_same_on_ranks(model: Classifier, world: World, after: str = "") -> None:
    """Raise BenchError if the ranks begin with different weights: each prepares a model of its own.

    `after` names a phase that has been trained: then they have drifted apart in it.
    """
    if world.size == 1:
        return
    hashes = hash_each(model, model.state_dict())
    own = torch.tensor([[int(sha256[:15], 16) for sha256 in hashes.values()]], device=world.device)
    of_ranks = world.gather(own, world.size)
    differing = (of_ranks != of_ranks[0]).any(0).tolist()
    other = [key for key, differs in zip(hashes, differing, strict=True) if differs]
    if other and after:
        raise BenchError(
            f"after phase {after!r} the ranks have different values of {other[0]}: a module or hook changes it by the "
            "records of its own rank; use a single process, or what is the same on all ranks (batch.gather)"
        )
    if other:
        raise BenchError(
            f"the ranks begin with different values of {other[0]}: prepare() computes or draws it otherwise on another "
            "machine; let it draw from torch's generator alone, and run all ranks on machines of one kind"
        )


def check_state(state: Mapping[str, Any]) -> None:
    """Raise PluginError if `batch.state` holds what a checkpoint does not keep."""
    for key, value in state.items():
        if not isinstance(value, Tensor) or value.requires_grad:
            raise PluginError(f"batch.state[{key!r}] must be a tensor without gradient, got a {type(value).__name__}")
