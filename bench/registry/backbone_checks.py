"""Check that a backbone keeps its contract.

A check returns None, or one line that says what is wrong and how to correct it.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from bench.errors import Incompatible, PluginError, first_line
from bench.execute import make_backbone, make_method
from bench.registry.findings import Finding, fault_of
from bench.registry.new_processes import from_new_processes
from bench.registry.reference import Reference
from bench.registry.registry import registry
from bench.registry.trials import NUM_LABELS, made_up_labels, made_up_signals, set_up
from bench.training.batch_norm import share_batch_norm
from bench.training.distributed import join
from bench.training.dropout import redraw_copies, share_dropout
from bench.training.model import Backbone, Classifier, DropPath, set_drop_path
from bench.training.precision import autocast

BF16_TOLERANCE = 0.05
"""Largest difference between float32 and bf16 features, relative to the largest feature."""


def check_backbone(reference: Reference, *, two_processes: bool = True) -> Iterator[Finding]:
    """Check a backbone. If the first check fails, that it computes features, the others are left out.

    `two_processes` also trains one step on two ranks, which takes some seconds to start.
    """
    checks: list[tuple[str, Callable[[Reference], str | None]]] = [
        ("computes features", _computes),
        ("is the same for the same seed", _same_seed),
        ("survives a state-dict round trip", _round_trip),
        ("treats records alone as in a batch", _alone),
        ("trains every trainable parameter", _gradients),
        ("stays as it is when frozen", _frozen),
        ("drops branches by record", _drop_paths),
        ("draws no masks of its own", _own_draws),
        ("orders its layer groups", _layer_groups),
        ("pools its tokens, if it has any", _tokens),
        ("follows the type of its input", _float64),
        ("agrees in bf16", _bf16),
    ]
    if two_processes:
        checks.append(("trains alike on two processes", _two_processes))
    for name, check in checks:
        try:
            fault = fault_of("backbone", reference, partial(check, reference))
        except Incompatible as reason:
            yield Finding(name, None, str(reason))
            continue
        yield Finding(name, fault)
        if fault and check is _computes:
            return
    for method, why in _declining(reference):
        yield Finding(f"is declined by {method}", None, why)


def _declining(reference: Reference) -> Iterator[tuple[str, str]]:
    """Return the registered methods, at their defaults, that decline a backbone with every init it has; and why."""
    inits = ["random", "pretrained"] if make_backbone(reference).checkpoint else ["random"]
    for plugin in registry().of_kind("method"):
        if any(parameter.default is parameter.empty for parameter in plugin.parameters.values()):
            continue
        for init in inits:
            tried = Reference(plugin.name)
            prepared = partial(fits, tried, reference, init)
            try:
                fault_of("method", tried, prepared)  # other faults belong to the method's own check
            except Incompatible as reason:
                yield f"{plugin.name} with --init {init}", str(reason)


def fits(method: Reference, backbone: Reference, init: str = "random") -> None:
    """Prepare a model as a run of the method does. Raises what a run raises before training."""
    set_up(partial(make_backbone, backbone), make_method(method), init)


def _classifier(reference: Reference, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(make_backbone(reference), NUM_LABELS)


def _computes(reference: Reference) -> str | None:
    backbone = make_backbone(reference)
    for attribute in ("signal_spec", "feature_dim"):
        if not hasattr(backbone, attribute):
            return f"has no attribute {attribute!r}; set it in the class or in __init__"
    backbone.eval()
    with torch.no_grad():
        features = backbone(made_up_signals(backbone, 2))
    if list(features.shape) != [2, backbone.feature_dim]:
        return (
            f"two records give features {list(features.shape)}, expected [2, feature_dim] = [2, {backbone.feature_dim}]"
        )
    return None if bool(torch.isfinite(features).all()) else "gives NaN or infinite features"


def _same_seed(reference: Reference) -> str | None:
    first, second = (_classifier(reference).state_dict() for _ in range(2))
    different = [key for key in first if not torch.equal(first[key], second[key])]
    return (
        f"{different[0]} differs between two models of one seed; draw weights from torch's generator"
        if different
        else None
    )


def _round_trip(reference: Reference) -> str | None:
    model, other = _classifier(reference, 0).eval(), _classifier(reference, 1).eval()
    other.load_state_dict(model.state_dict())
    signals = made_up_signals(model.backbone)
    with torch.no_grad():
        if torch.equal(model(signals), other(signals)):
            return None
    return "gives other outputs after loading its own state dict; register tensors as parameters or buffers"


def _alone(reference: Reference) -> str | None:
    model = _classifier(reference).eval()
    change = change_by_batch(model.backbone, made_up_signals(model.backbone), 1e-4)
    return f"a record's features {change} in eval mode; compute them from the record alone" if change else None


@torch.no_grad()
def change_by_batch(module: nn.Module, signals: Tensor, tolerance: float) -> str | None:
    """Return how the outputs of records change with the other records of their batch, or None.

    `tolerance` is relative to the largest output. A record stands beside a copy of itself before it stands alone,
    because batch norm without running statistics gives an error for a single record.
    """
    together = module(signals)
    for copies in (2, 1):
        outputs = [module(torch.stack([record] * copies)) for record in signals]
        if outputs[0].shape != (copies, *together.shape[1:]):
            return f"are {list(outputs[0].shape)} in a batch of {copies} and {list(together.shape)} of {len(together)}"
        gap = float(
            (together - torch.cat([output[:1] for output in outputs])).abs().max() / (together.abs().max() + 1e-12)
        )
        if not gap <= tolerance:
            return f"change by {gap:.1e} with the other records of its batch"
    return None


def _gradients(reference: Reference) -> str | None:
    model = _classifier(reference)
    model.train_parts({"backbone": 1.0, "head": 1.0})
    _loss(model, 4).backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    if without := [name for name, gradient in gradients.items() if gradient is None]:
        return f"{len(without)} parameters get no gradient, first {without[0]}; set requires_grad = False in __init__"
    unusable = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
    return f"the gradient of {unusable[0]} is NaN or infinite" if unusable else None


def _frozen(reference: Reference) -> str | None:
    model = _classifier(reference)
    optimizer = torch.optim.SGD(model.train_parts({"head": 0.1}))
    before = copy.deepcopy(model.backbone.state_dict())
    _loss(model, 4).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    changed = [key for key, value in model.backbone.state_dict().items() if not torch.equal(value, before[key])]
    return (
        f"{changed[0]} changes though the backbone is frozen; change buffers in training mode only" if changed else None
    )


def _drop_paths(reference: Reference) -> str | None:
    model = _classifier(reference)
    paths = set_drop_path(model, 0.1, "constant")
    model.train()
    signals = made_up_signals(model.backbone, 2)
    outputs = []
    for kept in (0.0, 1.0):
        for path in paths:
            path.keep = torch.full((2,), kept)
        redraw_copies(share_dropout(model), 2, slice(0, 2), signals.device, [("conformance",)])
        outputs.append(model.backbone(signals))
    if torch.equal(*outputs):
        return "its DropPath modules change nothing; call them on the branch before the addition"
    return _dropped_rows(model, paths, signals)


@torch.no_grad()
def _dropped_rows(model: Classifier, paths: Sequence[DropPath], signals: Tensor) -> str | None:
    """Check that DropPaths drop the branch of their own record, and that its stream stays.

    All else is in eval mode, because batch norm in training mixes records. A little noise lets branches count that
    begin as nil.
    """
    model.eval()
    for path in paths:
        path.train()
    for parameter in model.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))

    def features(keep: Sequence[float], dropping: Sequence[DropPath] = paths) -> Tensor:
        for path in paths:
            path.keep = torch.tensor(keep if path in dropping else [1.0, 1.0])
        return model.backbone(signals)  # type: ignore[no-any-return]

    expected = torch.stack([features([1.0, 1.0])[0], features([0.0, 0.0])[1]])
    if not _alike(features([1.0, 0.0]), expected):
        return (
            "its DropPath modules drop a branch of another record than they should; call them on [record, ...], or on "
            "several rows a record, those of a record one after another"
        )
    # A class token hears of its record by attention alone. So a right backbone may be silent without half of its
    # branches, or without the first of two; but without any other single one it is not.
    names = {module: name for name, module in model.named_modules()}
    for half in (paths[: len(paths) // 2], paths[len(paths) // 2 :]):
        for path in half if _alike(*features([0.0, 0.0], half)) else ():
            if _alike(*features([0.0, 0.0], [path])) and (len(paths) > 2 or path is not paths[0]):
                return (
                    f"where {names[path]} drops, two different records have the same features: it drops more than a "
                    "branch; call it on the branch before the addition, x + drop_path(branch(x))"
                )
    return None


def _alike(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors are equal but for rounding in float32."""
    return float((first - second).abs().max()) <= 1e-5 * float(first.abs().max())


def _own_draws(reference: Reference) -> str | None:
    """Return the fault of a backbone whose forward pass in training draws from a global generator."""
    model = _classifier(reference).train()
    signals = made_up_signals(model.backbone)
    redraw_copies(share_dropout(model), len(signals), slice(0, len(signals)), signals.device, [("conformance",)])
    states, drawing = dict[nn.Module, dict[str, object]](), list[str]()

    def begin(module: nn.Module, _: object) -> None:
        states[module] = _generator_states()

    def end(name: str, module: nn.Module, *_: object) -> None:
        now = _generator_states()
        drawing.extend(
            f"{name} draws random numbers by {owner}" for owner in now if now[owner] != states[module][owner]
        )

    for name, module in model.named_modules():
        module.register_forward_pre_hook(begin)
        module.register_forward_hook(partial(end, name))
    model(signals)
    if not drawing:
        return None
    return (
        f"{drawing[0]} in training, so results depend on the number of processes; drop by nn.Dropout on tensors "
        "[record, ...], or set the rate of its dropout, masks or dropped layers to 0"
    )


def _generator_states() -> dict[str, object]:
    """Return the states of the global generators, by owner."""
    _, keys, *position = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "NumPy": (np.asarray(keys).tobytes(), *position),
        "Python": random.getstate(),
    }


def _layer_groups(reference: Reference) -> str | None:
    """Check that each trained parameter is in one layer group, and that the forward pass runs the groups in order."""
    backbone = make_backbone(reference)
    groups = backbone.layer_groups()
    for name, parameter in backbone.named_parameters():
        owners = [group for group in groups if name == group or name.startswith(f"{group}.")]
        if parameter.requires_grad and len(owners) != 1:
            return f"{name} is in {len(owners)} of its layer groups, expected one; override layer_groups()"
    met: list[str] = []
    modules = dict(backbone.named_modules())
    for group in groups:
        if group in modules:
            modules[group].register_forward_pre_hook(lambda *_, group=group: met.append(group))
    with torch.no_grad():
        backbone.eval()(made_up_signals(backbone, 2))
    first_met = list(dict.fromkeys(met))
    if first_met != [group for group in groups if group in first_met]:
        return f"its forward pass meets its layer groups in the order {', '.join(first_met)}; override layer_groups()"
    return None


def _tokens(reference: Reference) -> str | None:
    """Check the shape of tokens, and that `forward` does not go on from them but for pooling and a tail."""
    backbone = make_backbone(reference).eval()
    signals = made_up_signals(backbone, 2)
    try:
        tokens = backbone.tokens(signals)
    except Incompatible:
        return None
    if tokens.dim() != 3 or len(tokens) != 2:
        return f"two records give tokens {list(tokens.shape)}, expected [2, token, dim]"
    if tokens.requires_grad:
        tokens.sum().backward()  # type: ignore[no-untyped-call]
    trained = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    ahead = [
        group
        for group in backbone.layer_groups()
        if all(p.grad is None for name, p in trained.items() if f"{name}.".startswith(f"{group}."))
    ]
    wide = _of_sequences(backbone, ahead, signals)
    if len(wide) > 1 or any(isinstance(part, DropPath) for group in wide for part in _parts(backbone, group)):
        return (
            f"its forward pass goes on from its tokens by {', '.join(wide)}, which tokens() leaves out; return the "
            "last tokens, those which forward pools"
        )
    return None


def _parts(backbone: Backbone, group: str) -> list[nn.Module]:
    """Return the modules of a layer group; none if it is a parameter."""
    return [part for name, part in backbone.named_modules() if f"{name}.".startswith(f"{group}.")]


def _of_sequences(backbone: Backbone, groups: Sequence[str], signals: Tensor) -> list[str]:
    """Return those of the layer groups whose weights are applied to more than one row a record."""
    wide = dict[str, None]()

    def see(group: str, module: nn.Module, given: tuple[object, ...]) -> None:
        if any(isinstance(x, Tensor) and x.shape[:-1] != signals.shape[:1] for x in given):
            wide[group] = None

    for group in groups:
        for part in _parts(backbone, group):
            if next(part.parameters(recurse=False), None) is not None:
                part.register_forward_pre_hook(partial(see, group))
    with torch.no_grad():
        backbone(signals)
    return list(wide)


def _float64(reference: Reference) -> str | None:
    """Check that features of float64 signals are float64, as the checks of two processes and of methods need it."""
    backbone = make_backbone(reference).double().eval()
    given = list[str]()

    def see(name: str, module: nn.Module, inputs: tuple[object, ...]) -> None:
        if any(isinstance(x, Tensor) and x.dtype == torch.float32 for x in inputs):
            given.append(name)

    for name, module in backbone.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_forward_pre_hook(partial(see, name))
    try:
        with torch.no_grad():
            features = backbone(made_up_signals(backbone, 2).double())
    except RuntimeError as error:  # torch's words for it differ by layer
        if not given:
            raise
        raise PluginError(
            f"of float64 signals {given[-1]} gets a float32 tensor: something before it converts to float32; follow "
            f"the input's type, as in x.to(signals.dtype) in place of x.float() ({first_line(error)})"
        ) from error
    if features.dtype == torch.float64:
        return None
    return f"float64 signals give {features.dtype} features; follow the input's type, convert nothing by .float()"


def _bf16(reference: Reference) -> str | None:
    model = _classifier(reference).eval()
    signals = made_up_signals(model.backbone)
    with torch.no_grad():
        exact = model.backbone(signals)
        with autocast("bf16", torch.device("cpu")):
            rounded = model.backbone(signals).float()
    gap = float((exact - rounded).abs().max() / (exact.abs().max() + 1e-12))
    if gap <= BF16_TOLERANCE:
        return None
    return f"bf16 features differ by {gap:.1%} of the largest; keep sensitive steps in float32"


def _loss(model: Classifier, num_records: int) -> Tensor:
    signals, labels = made_up_signals(model.backbone, num_records), made_up_labels(num_records)
    return nn.functional.binary_cross_entropy_with_logits(model(signals), labels)


def _two_processes(reference: Reference) -> str | None:
    alone, shared = _trained_step(reference), from_new_processes(2, _trained_step, "backbone", reference)
    gap = max(float((alone[key] - shared[key]).abs().max()) for key in alone)
    if gap <= 1e-8:
        return None
    rounds = "; as little as this is float32's rounding: follow the input's type, convert nothing by .float()"
    return f"after one step two processes differ from one by {gap:.1e} in float64{rounds * (gap < 1e-5)}"


def _trained_step(reference: Reference) -> dict[str, Tensor]:
    """Return the gradients of one float64 step, averaged over the ranks."""
    with join() as world:
        model = _classifier(reference).double()
        share_batch_norm(model, world)
        groups = model.train_parts({"backbone": 1.0, "head": 1.0})
        signals, labels = made_up_signals(model.backbone, 5).double(), made_up_labels(5).double()
        share = world.share(5)
        redraw_copies(share_dropout(model), 5, share, signals.device, [("conformance",)])
        loss = nn.functional.binary_cross_entropy_with_logits(model(signals[share]), labels[share])
        (loss * ((share.stop - share.start) / 5)).backward()
        world.sum_gradients([p for group in groups for p in group["params"]])
        return {
            name: parameter.grad.clone()
            for group in groups
            for name, parameter in zip(group["param_names"], group["params"], strict=True)
            if parameter.grad is not None
        }
