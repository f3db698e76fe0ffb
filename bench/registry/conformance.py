"""Check that a backbone or method keeps its contract: `bench check NAME`.

A check returns None, or one line that says what is wrong and how to correct it.
"""

from __future__ import annotations

import contextlib
import copy
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from bench.errors import BenchError, Incompatible, PluginError, no_exit
from bench.execute import make_backbone, make_method
from bench.files import read_bytes, whole_file, write_whole
from bench.launch.torchrun import Node, launch_ranks
from bench.registry.outside import Outside
from bench.registry.reference import Reference
from bench.registry.registry import Kind, find, registry
from bench.registry.trials import (
    ALONE,
    NUM_LABELS,
    OTHER_SEED,
    SEED,
    Trial,
    largest_gap,
    made_up_labels,
    made_up_signals,
    rounding_gap,
    run_trial,
    set_up,
    shortened,
)
from bench.training.averaging import frozen_copy
from bench.training.batch_norm import share_batch_norm
from bench.training.distributed import join
from bench.training.dropout import redraw, share_dropout
from bench.training.method import Method, declared_phases, overrides
from bench.training.model import Classifier, layer_groups, set_drop_path
from bench.training.phase import Phase

BF16_TOLERANCE = 0.05
"""Largest difference between float32 and bf16 features, relative to the largest feature."""

TRIED_ON = Reference("net1d_mini")
"""Default backbone on which methods are checked."""
FAMILIES = tuple(map(Reference, ("net1d_mini", "vit1d_tiny", "xresnet1d18", "lstm")))
"""Backbones of different kinds. The check lists those that a method declines."""
RANK_TOLERANCE = 1e-8
"""Largest difference between weights trained on one and on two processes, in float64, by `largest_gap`."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    check: str
    fault: str | None
    """One line; None if the check passes or does not apply."""
    does_not_apply: str | None = None
    """Why the check does not apply."""

    @property
    def verdict(self) -> str:
        """`ok`, `FAULT` or `n/a`."""
        return "n/a" if self.does_not_apply else "ok" if self.fault is None else "FAULT"


def check_plugin(reference: Reference, arch: Reference | None = None) -> Iterator[Finding]:
    """Check the backbone and the method of this name. `arch` is the backbone on which a method is checked."""
    kinds = [kind for kind in registry().kinds_of(reference.name) if kind in ("method", "backbone")]
    if not kinds:
        raise registry().unknown(("method", "backbone"), reference.name)
    if arch and "method" not in kinds:
        raise BenchError(f"--arch names the backbone for a method, and {reference.name} is not a method")
    if "method" in kinds and "backbone" in kinds:
        yield Finding(f"{reference.name} is the name of a method and of a backbone, and both are checked", None)
    if "method" in kinds:
        yield from check_method(reference, arch or TRIED_ON)
    if "backbone" in kinds:
        yield from check_backbone(reference)


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
        ("drops paths at the set rate", _drop_paths),
        ("draws no masks of its own", _own_draws),
        ("orders its layer groups", _layer_groups),
        ("pools its tokens, if it has any", _tokens),
        ("agrees in bf16", _bf16),
    ]
    if two_processes:
        checks.append(("trains alike on two processes", _two_processes))
    for name, check in checks:
        try:
            fault = _fault("backbone", reference, partial(check, reference))
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
            tried = partial(_fits, Reference(plugin.name), reference, init)
            try:
                _fault("method", Reference(plugin.name), tried)  # other faults belong to the method's own check
            except Incompatible as reason:
                yield f"{plugin.name} with --init {init}", str(reason)


def check_method(reference: Reference, arch: Reference = TRIED_ON, *, two_processes: bool = True) -> Iterator[Finding]:
    """Check a method on a backbone by short runs: declared parts, resuming, and independence of the number of ranks.

    `two_processes` also runs it on two ranks, which takes some seconds to start.
    """
    fault_of = partial(_fault, "method", reference)
    try:
        fault = fault_of(lambda: _declares(reference, arch))
    except Incompatible as reason:
        yield _declines(arch, reason)
        return
    yield Finding("declares phases", fault)
    if fault:
        return
    method = make_method(reference)
    if method.search:
        yield Finding("can be tuned over its search space", fault_of(lambda: _searchable(reference, method, arch)))
    else:
        yield Finding(
            "can be tuned over its search space", None, "it declares none; bench tune runs it with its defaults"
        )
    if overrides(method, "loss"):
        yield Finding("says whether its loss needs signals", _says_what_it_needs(method))
    try:
        fault = fault_of(lambda: _fits(reference, arch))
    except Incompatible as reason:
        yield _declines(arch, reason)
        return
    yield Finding(f"fits {arch}", fault)
    if fault:
        return
    yield from _declined(reference, arch)
    yield Finding("can be copied and made anew", fault_of(lambda: _made_anew(reference, arch)))
    weights: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "whole").mkdir()
        trial = _trial(reference, arch, Path(folder) / "whole")
        fault = fault_of(lambda: _trains(trial, reference, weights))
        for phase in trial.phases:
            of_this = fault if phase is (trial.phase or trial.phases[0]) else None
            yield Finding(f"trains {phase.name} as declared", of_this)
            if of_this:
                return
        if overrides(method, "finish"):
            notes = (note for note in trial.notes if note.startswith("finish()"))
            yield Finding("leaves the last phase as selected or judged", None, next(notes, None))
        fault = fault_of(lambda: _resumes(reference, arch, trial, weights))
        yield Finding("ends in the same bits when killed and resumed", fault)
    if two_processes:
        fault = fault_of(lambda: _processes_agree(reference, arch))
        yield Finding("trains alike on two processes, and after another run", fault)


def _declines(arch: Reference, reason: Incompatible) -> Finding:
    return Finding(f"trains on {arch}", None, f"it declines: {reason}; --arch names another backbone")


def _fault(kind: Kind, reference: Reference, check: Callable[[], str | None]) -> str | None:
    """Return a check's result, or the exception it raised as a text. `Incompatible` is raised again: it is no fault."""
    try:
        with no_exit():
            return check()
    except Incompatible:
        raise
    except Exception as error:  # noqa: BLE001
        return _spell(error, kind, reference)


def _spell(error: Exception, kind: Kind, reference: Reference) -> str:
    """Return an exception in one line: a BenchError's message, or type, message and line in the plugin's file."""
    if isinstance(error, BenchError):
        return str(error)
    file = sys.modules[find(kind, reference.name).module].__file__
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f", in {own[-1].name} of {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]]) + where


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
    signals = made_up_signals(model.backbone)
    with torch.no_grad():
        together = model.backbone(signals)
        alone = torch.cat([model.backbone(record[None]) for record in signals])
    scale = float(together.abs().max()) + 1e-12
    gap = float((together - alone).abs().max()) / scale
    return f"a record's features change by {gap:.1e} with its batch in eval mode" if gap > 1e-4 else None


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
    paths = set_drop_path(model, 0.9)
    model.train()
    signals = made_up_signals(model.backbone, 2)
    outputs = []
    for kept in (0.0, 1.0):
        for path in paths:
            path.keep = torch.full((2,), kept)
        redraw(share_dropout(model), 2, slice(0, 2), signals.device, "conformance")
        outputs.append(model.backbone(signals))
    if torch.equal(*outputs):
        return "its DropPath modules change nothing; call them on the branch before the addition"
    return None


def _own_draws(reference: Reference) -> str | None:
    """Return the fault of a backbone whose forward pass in training draws from torch's global generator."""
    model = _classifier(reference).train()
    signals = made_up_signals(model.backbone)
    redraw(share_dropout(model), len(signals), slice(0, len(signals)), signals.device, "conformance")
    states, drawing = dict[nn.Module, Tensor](), list[str]()

    def begin(module: nn.Module, _: object) -> None:
        states[module] = torch.get_rng_state()

    def end(name: str, module: nn.Module, *_: object) -> None:
        if not torch.equal(states[module], torch.get_rng_state()):
            drawing.append(name)

    for name, module in model.named_modules():
        module.register_forward_pre_hook(begin)
        module.register_forward_hook(partial(end, name))
    model(signals)
    if not drawing:
        return None
    return (
        f"{drawing[0]} draws random numbers of its own in training, so results depend on the number of processes; "
        "drop by nn.Dropout on tensors [record, ...], or set its dropout to 0"
    )


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
    backbone = make_backbone(reference).eval()
    try:
        with torch.no_grad():
            shape = list(backbone.tokens(made_up_signals(backbone, 2)).shape)
    except Incompatible:
        return None
    return None if len(shape) == 3 and shape[0] == 2 else f"two records give tokens {shape}, expected [2, token, dim]"


def _bf16(reference: Reference) -> str | None:
    model = _classifier(reference).eval()
    signals = made_up_signals(model.backbone)
    with torch.no_grad():
        exact = model.backbone(signals)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.backbone(signals).float()
    gap = float((exact - rounded).abs().max() / (exact.abs().max() + 1e-12))
    if gap <= BF16_TOLERANCE:
        return None
    return f"bf16 features differ by {gap:.1%} of the largest; keep sensitive steps in float32"


def _loss(model: Classifier, num_records: int, part: slice = slice(None)) -> Tensor:
    signals, labels = made_up_signals(model.backbone, num_records)[part], made_up_labels(num_records)[part]
    return nn.functional.binary_cross_entropy_with_logits(model(signals), labels)


def _two_processes(reference: Reference) -> str | None:
    alone, shared = _trained_step(reference), _from_new_processes(2, "backbone", str(reference))
    gap = max(float((alone[key] - shared[key]).abs().max()) for key in alone)
    return f"after one step two processes differ from one by {gap:.1e} in float64" if gap > 1e-8 else None


def _trained_step(reference: Reference) -> dict[str, Tensor]:
    """Return the gradients of one float64 step, averaged over the ranks."""
    with join() as world:
        model = _classifier(reference).double()
        share_batch_norm(model, world)
        groups = model.train_parts({"backbone": 1.0, "head": 1.0})
        signals, labels = made_up_signals(model.backbone, 5).double(), made_up_labels(5).double()
        share = world.share(5)
        redraw(share_dropout(model), 5, share, world.device, "conformance")
        loss = nn.functional.binary_cross_entropy_with_logits(model(signals[share]), labels[share])
        (loss * ((share.stop - share.start) / 5)).backward()
        world.sum_gradients([p for group in groups for p in group["params"]])
        return {
            name: parameter.grad.clone()
            for group in groups
            for name, parameter in zip(group["param_names"], group["params"], strict=True)
            if parameter.grad is not None
        }


def _from_new_processes(num: int, kind: Kind, *references: str) -> dict[str, Tensor]:
    """Train a backbone's step or a method's trial on so many ranks, and return the tensors of the first rank.

    PluginError with what a rank's error says.
    """
    with tempfile.TemporaryDirectory() as folder:
        target, fault = Path(folder) / "tensors.pt", Path(folder) / "fault"
        try:
            launch_ranks(num, _rank, (kind, references, target, fault), Node())
        except ChildFailedError:
            raise PluginError(read_bytes(fault).decode() if fault.exists() else "a process died") from None
        tensors: dict[str, Tensor] = torch.load(target)
        return tensors


def _rank(kind: Kind, references: Sequence[str], target: Path, fault: Path) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the machine may have a single GPU, and the model is on the CPU
    first, *others = map(Reference.parse, references)
    make_tensors = partial(_trained_step, first) if kind == "backbone" else partial(_rank_trial, first, *others)
    if text := _fault(kind, first, lambda: _save(make_tensors(), target)):
        write_whole(fault, text)
        raise SystemExit(1)


def _save(tensors: dict[str, Tensor], target: Path) -> None:
    if os.environ["RANK"] == "0":
        with whole_file(target) as stream:
            torch.save(tensors, stream)


def _rank_trial(reference: Reference, arch: Reference) -> dict[str, Tensor]:
    with join() as world:
        return run_trial(_trial(reference, arch, seed=OTHER_SEED), make_method(reference), world)


def _declares(reference: Reference, arch: Reference) -> str | None:
    method = make_method(reference)
    outside = Outside(method)
    with outside.watch():
        phases = declared_phases(method, layer_groups(make_backbone(arch)))
    if outside.fault:
        return outside.fault
    if isinstance(phases, Sequence) and phases and all(isinstance(phase, Phase) for phase in phases):
        return None
    return "phases() must return a list of at least one bench.plugin.Phase"


def _searchable(reference: Reference, method: Method, arch: Reference) -> str | None:
    for name, search in method.search.items():
        for quantile in (0.0, 0.5, 0.999):
            tried = Reference(reference.name, {**reference.arguments, name: search.at(quantile)})
            with contextlib.suppress(Incompatible):  # a trial of such a setting is recorded as declined
                if fault := _fault("method", tried, partial(_declares, tried, arch)):
                    return f"{tried}: {fault}"
    return None


def _says_what_it_needs(method: Method) -> str | None:
    if method.needs_signals is not None:
        return None
    return (
        "it has a loss of its own and does not say what that needs: set needs_signals = False in the class if it uses "
        "batch.logits and batch.labels only, so that a probe runs the backbone once; else True"
    )


def _declined(reference: Reference, arch: Reference) -> Iterator[Finding]:
    """Return the backbones of other kinds, and the inits, that the method declines."""
    for other, init in [*((other, "random") for other in FAMILIES if other != arch), (arch, "pretrained")]:
        try:
            fault = _fault("method", reference, partial(_fits, reference, other, init))
        except Incompatible as reason:
            yield Finding(f"declines {other if init == 'random' else f'{init} weights'}: {reason}", None)
        else:
            if fault:
                yield Finding(f"fits {other} from {init} weights", fault)


def _fits(reference: Reference, arch: Reference, init: str = "random") -> None:
    set_up(partial(make_backbone, arch), make_method(reference), init)


def _trial(
    reference: Reference, arch: Reference, folder: Path | None = None, *, writes: bool = True, seed: int = SEED
) -> Trial:
    model, phases = set_up(partial(make_backbone, arch), make_method(reference), seed=seed)
    return Trial(model, shortened(phases), folder, writes, seed)


def _made_anew(reference: Reference, arch: Reference) -> str | None:
    """Compare the prepared model's outputs with those of a copy and of a new model, which have the same weights."""
    method = make_method(reference)
    outside = Outside(method)
    with outside.watch():
        model, _ = set_up(partial(make_backbone, arch), method)
    if outside.fault:
        return outside.fault
    signals = made_up_signals(model.eval().backbone, 2).double()
    copied, (anew, _) = frozen_copy(model), set_up(partial(make_backbone, arch), method, seed=1)
    anew.eval().load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = model(signals)
        # not to the bit: attention takes another path where weights have no gradient
        if not torch.allclose(anew(signals), expected, rtol=1e-8, atol=1e-10):
            return (
                "a model that is prepared anew and loads its weights, as in bench predict, gives other outputs; "
                "register what prepare() makes as parameters, buffers or modules"
            )
        for value in [*model.parameters(), *model.buffers()]:
            value.zero_()
        if not torch.allclose(copied(signals), expected, rtol=1e-8, atol=1e-10):
            return (
                "a copy of the model, as batch.average and batch.initial use, follows the model itself: a hook or "
                "function of prepare() holds its modules; take them from the hook's first argument, or make a module"
            )
    return None


def _trains(trial: Trial, reference: Reference, weights: dict[str, Tensor]) -> str | None:
    method = make_method(reference)
    outside = Outside(method)
    with outside.watch():
        weights.update(run_trial(trial, method, ALONE))
    return trial.fault or outside.fault


def _resumes(reference: Reference, arch: Reference, whole: Trial, weights: dict[str, Tensor]) -> str | None:
    """Resume from the checkpoints after each of three steps, and compare with the uninterrupted run."""
    for stop in whole.moments():
        trial = _trial(reference, arch, Path(f"{whole.folder}-{stop}"), writes=False)
        gap, key = largest_gap(weights, run_trial(trial, make_method(reference), ALONE))
        if gap:
            return (
                f"killed after step {stop} and resumed, {key} differs by {gap:.1e}: something is kept outside the "
                "checkpoint or drawn by a generator that nobody seeds; keep tensors in batch.state, take start and "
                "step from batch, and draw from batch.rng"
            )
    return None


def _processes_agree(reference: Reference, arch: Reference) -> str | None:
    """Compare a trial that follows others in this process with the same one on two new processes.

    Where they differ, one new process tells whether an earlier trial or the number of ranks is the cause.
    """
    after_others = run_trial(_trial(reference, arch, seed=OTHER_SEED), make_method(reference), ALONE)

    def difference(num_processes: int) -> str | None:
        gap, key = largest_gap(after_others, _from_new_processes(num_processes, "method", str(reference), str(arch)))
        trial = _trial(reference, arch, seed=OTHER_SEED)
        if gap <= RANK_TOLERANCE or gap <= 10 * rounding_gap(after_others, trial, make_method(reference)):
            return None
        return f"{key} differs by {gap:.1e} in float64"

    if not (of_ranks := difference(2)):
        return None
    if of_others := difference(1):
        return (
            f"trained after another run of the same process, {of_others}: the method's code keeps something from run "
            "to run, in a variable of its module, a cache or a default argument; keep tensors in batch.state, take the "
            "start from batch.initial_weights, and let a cached function depend on its arguments alone"
        )
    return (
        f"on two processes {of_ranks}: something is drawn or computed on each rank's part alone; draw in augment from "
        "batch.rng, and let the loss be a mean over records"
    )
