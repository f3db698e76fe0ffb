"""What every backbone and method must hold to, checked on anyone's plugin: `bench check NAME`.

A check returns None, or one line that says what is wrong and how to mend it.
"""

from __future__ import annotations

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

from bench.errors import BenchError, CheckpointError, Incompatible
from bench.execute import make_backbone, make_method
from bench.files import whole_file, write_whole
from bench.launch.torchrun import Node, launch_ranks
from bench.registry.reference import Reference
from bench.registry.registry import Kind, find, make, registry
from bench.training.batch_norm import share_batch_norm
from bench.training.batches import random_stream
from bench.training.distributed import join
from bench.training.dropout import redraw, share_dropout
from bench.training.loop import rehearse
from bench.training.method import Method, Phase
from bench.training.model import Backbone, Classifier, set_drop_path
from bench.training.weights import load_published, published_file

NUM_LABELS = 5
BF16_TOLERANCE = 0.05
"""Largest difference between float32 and bf16 features, relative to the largest feature."""


PUBLISHED_TOLERANCE = 1e-4
"""Largest difference from published outputs, which are known to 1e-5 or so."""

TRIED_ON = Reference("net1d_mini")
"""The backbone that methods are checked on unless another is named."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    check: str
    fault: str | None
    """None where it passes or does not apply."""
    does_not_apply: str | None = None
    """Why there was nothing to check."""

    @property
    def verdict(self) -> str:
        """`ok`, `FAULT` or `n/a`."""
        return "n/a" if self.does_not_apply else "ok" if self.fault is None else "FAULT"


def check_plugin(reference: Reference, arch: Reference | None = None) -> Iterator[Finding]:
    """Check the backbone or the method of this name, both where they share it; `arch` is what a method is tried on."""
    kinds = registry().kinds_of(reference.name)
    if not kinds:
        raise registry().unknown(("method", "backbone"), reference.name)
    if arch and "method" not in kinds:
        raise BenchError(f"--arch says what a method is checked on, and {reference.name} is none")
    if "method" in kinds and "backbone" in kinds:
        yield Finding(f"{reference.name} is the name of a method and of a backbone, and both are checked", None)
    if "method" in kinds:
        yield from check_method(reference, arch or TRIED_ON)
    if "backbone" in kinds:
        yield from check_backbone(reference)


def check_published(reference: Reference, init: str) -> Iterator[Finding]:
    """Compare the published model's first outputs, computed here from `init`, with the known ones.

    The model, its head included, runs on linspace(-1, 1) over [1, lead, 10 s] in float32. `init` is `pretrained`,
    `pretrained@REVISION` or a file with the published keys.
    """
    backbone = make("backbone", reference)
    published = backbone.checkpoint
    if published is None or not published.first_logits:
        raise CheckpointError(f"{reference.name} has no published outputs to check against")
    path = published_file(published, init)
    model = Classifier(backbone, published.head_outputs)
    load_published(model, path)
    model.eval()
    num_leads, length = len(backbone.signal_spec.leads), 10 * backbone.signal_spec.rate
    with torch.no_grad():
        logits = model(torch.linspace(-1, 1, num_leads * length).view(1, num_leads, length))[0]
    known = published.first_logits
    gap = float((logits[: len(known)] - torch.tensor(known)).abs().max())
    fault = None
    if not gap <= PUBLISHED_TOLERANCE:  # NaN is neither
        ours = ", ".join(f"{value:.4f}" for value in logits[: len(known)].tolist())
        fault = f"ours: {ours}; published: {', '.join(f'{value:.4f}' for value in known)}"
    yield Finding(f"{path.name} gives the published outputs (largest difference {gap:.1e})", fault)


def check_backbone(reference: Reference, *, two_processes: bool = True) -> Iterator[Finding]:
    """Check a backbone; the later checks are left out where the first, that it computes at all, fails.

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
    """The registered methods that decline a backbone with each init that it has, at their defaults, and why."""
    inits = ["random", "pretrained"] if make_backbone(reference).checkpoint else ["random"]
    for plugin in registry().of_kind("method"):
        if any(parameter.default is parameter.empty for parameter in plugin.parameters.values()):
            continue
        for init in inits:
            tried = partial(_tried_on, Reference(plugin.name), reference, init)
            try:
                _fault("method", Reference(plugin.name), tried)  # a fault of the method is found by its own check
            except Incompatible as reason:
                yield f"{plugin.name} with --init {init}", str(reason)


def _tried_on(name: Reference, arch: Reference, init: str) -> None:
    method = make_method(name)
    _fits(_classifier(arch), method, method.phases(), init)


def check_method(reference: Reference, arch: Reference = TRIED_ON) -> Iterator[Finding]:
    """Check a method on a backbone, in the order of a run: its phases name real parts, train these and no others."""
    model, fault_of = _classifier(arch), partial(_fault, "method", reference)
    fault = fault_of(lambda: _declares(reference))
    yield Finding("declares phases", fault)
    if fault:
        return
    method = make_method(reference)
    phases = method.phases()
    if method.search:
        yield Finding("can be tuned where it says", fault_of(lambda: _searchable(reference, method)))
    else:
        yield Finding("can be tuned where it says", None, "it says no ranges; bench tune runs it as given")
    try:
        fault = fault_of(lambda: _fits(model, method, phases))
    except Incompatible as reason:
        yield Finding(f"trains on {arch}", None, f"it declines: {reason}; --arch names another backbone")
        return
    yield Finding(f"fits {arch}", fault)
    for phase in [] if fault else phases:
        yield Finding(f"trains {phase.name} as declared", fault_of(partial(_phase_trains, model, method, phase)))


def _fault(kind: Kind, reference: Reference, check: Callable[[], str | None]) -> str | None:
    """What a check finds, or what was raised in it; but for `Incompatible`, which is an answer."""
    try:
        return check()
    except Incompatible:
        raise
    except Exception as error:  # noqa: BLE001
        return _spell(error, kind, reference)


def _spell(error: Exception, kind: Kind, reference: Reference) -> str:
    """One line: ours as it is; any other by type and first line, and where in the plugin's file it came from."""
    if isinstance(error, BenchError):
        return str(error)
    file = sys.modules[find(kind, reference.name).module].__file__
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f", in {own[-1].name} of {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]]) + where


def _classifier(reference: Reference, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(make_backbone(reference), NUM_LABELS)


def _signals(backbone: Backbone, num_records: int = 4) -> Tensor:
    """Smooth random signals [record, lead, time] as long as the backbone's window, or 10 s, at its rate."""
    length = backbone.signal_spec.window or 10 * backbone.signal_spec.rate
    rough = torch.from_numpy(
        random_stream("conformance").standard_normal((num_records, len(backbone.signal_spec.leads), length))
    )
    return nn.functional.avg_pool1d(rough.float(), 5, 1, 2) * 2.0


def _labels(num_records: int) -> Tensor:
    return torch.from_numpy(random_stream("labels").integers(0, 2, (num_records, NUM_LABELS))).float()


def _computes(reference: Reference) -> str | None:
    backbone = make_backbone(reference)
    for attribute in ("signal_spec", "feature_dim"):
        if not hasattr(backbone, attribute):
            return f"has no attribute {attribute!r}; set it in the class or in __init__"
    backbone.eval()
    with torch.no_grad():
        features = backbone(_signals(backbone, 2))
    if list(features.shape) != [2, backbone.feature_dim]:
        return (
            f"two records give features {list(features.shape)}, expected [2, feature_dim] = [2, {backbone.feature_dim}]"
        )
    return None if bool(torch.isfinite(features).all()) else "gives NaN or infinite features"


def _same_seed(reference: Reference) -> str | None:
    one, other = (_classifier(reference).state_dict() for _ in range(2))
    different = [key for key in one if not torch.equal(one[key], other[key])]
    return (
        f"{different[0]} differs between two models of one seed; draw weights from torch's generator"
        if different
        else None
    )


def _round_trip(reference: Reference) -> str | None:
    model, other = _classifier(reference, 0).eval(), _classifier(reference, 1).eval()
    other.load_state_dict(model.state_dict())
    signals = _signals(model.backbone)
    with torch.no_grad():
        if torch.equal(model(signals), other(signals)):
            return None
    return "gives other outputs after loading its own state dict; register tensors as parameters or buffers"


def _alone(reference: Reference) -> str | None:
    model = _classifier(reference).eval()
    signals = _signals(model.backbone)
    with torch.no_grad():
        together = model.backbone(signals)
        alone = torch.cat([model.backbone(one[None]) for one in signals])
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
    signals = _signals(model.backbone, 2)
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
    """Drops as in training and looks for the innermost module that takes a number from torch's common generator."""
    model = _classifier(reference).train()
    signals = _signals(model.backbone)
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


def _bf16(reference: Reference) -> str | None:
    model = _classifier(reference).eval()
    signals = _signals(model.backbone)
    with torch.no_grad():
        exact = model.backbone(signals)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.backbone(signals).float()
    gap = float((exact - rounded).abs().max() / (exact.abs().max() + 1e-12))
    if gap <= BF16_TOLERANCE:
        return None
    return f"bf16 features differ by {gap:.1%} of the largest; keep sensitive steps in float32"


def _loss(model: Classifier, num_records: int, part: slice = slice(None)) -> Tensor:
    signals, labels = _signals(model.backbone, num_records)[part], _labels(num_records)[part]
    return nn.functional.binary_cross_entropy_with_logits(model(signals), labels)


def _two_processes(reference: Reference) -> str | None:
    alone, shared = _trained_step(reference), _on_two_processes(reference)
    if isinstance(shared, str):
        return shared
    gap = max(float((alone[key] - shared[key]).abs().max()) for key in alone)
    return f"after one step two processes differ from one by {gap:.1e} in float64" if gap > 1e-8 else None


def _trained_step(reference: Reference) -> dict[str, Tensor]:
    """Gradients of one float64 step, averaged over the ranks that take part."""
    with join() as world:
        model = _classifier(reference).double()
        share_batch_norm(model, world)
        groups = model.train_parts({"backbone": 1.0, "head": 1.0})
        forward = world.wrap(model)
        signals, labels = _signals(model.backbone, 5).double(), _labels(5).double()
        share = world.share(5)
        redraw(share_dropout(model), 5, share, world.device, "conformance")
        loss = nn.functional.binary_cross_entropy_with_logits(forward(signals[share]), labels[share])
        (loss * ((share.stop - share.start) * world.size / 5)).backward()
        return {
            name: parameter.grad.clone()
            for group in groups
            for name, parameter in zip(group["param_names"], group["params"], strict=True)
            if parameter.grad is not None
        }


def _on_two_processes(reference: Reference) -> dict[str, Tensor] | str:
    """The gradients, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        target, fault = Path(folder) / "gradients.pt", Path(folder) / "fault"
        try:
            launch_ranks(2, _rank_step, (str(reference), target, fault), Node())
        except ChildFailedError:
            return fault.read_text(encoding="utf-8") if fault.exists() else "a process of the two died"
        gradients: dict[str, Tensor] = torch.load(target)
        return gradients


def _rank_step(reference: str, target: Path, fault: Path) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # there may be one GPU for the two, and the model is not on it
    tried = Reference.parse(reference)
    if found := _fault("backbone", tried, lambda: _save_step(tried, target)):
        write_whole(fault, found)
        raise SystemExit(1)


def _save_step(reference: Reference, target: Path) -> None:
    gradients = _trained_step(reference)
    if os.environ["RANK"] == "0":
        with whole_file(target) as stream:
            torch.save(gradients, stream)


def _declares(reference: Reference) -> str | None:
    phases = make_method(reference).phases()
    if isinstance(phases, Sequence) and phases and all(isinstance(phase, Phase) for phase in phases):
        return None
    return "phases() must return a list of at least one bench.plugin.Phase"


def _fits(model: Classifier, method: Method, phases: Sequence[Phase], init: str = "random") -> None:
    method.prepare(model, init)
    rehearse(model, method, phases)


def _searchable(reference: Reference, method: Method) -> str | None:
    for name, search in method.search.items():
        for quantile in (0.0, 0.5, 0.999):
            tried = Reference(reference.name, {**reference.arguments, name: search.at(quantile)})
            if fault := _fault("method", tried, partial(_declares, tried)):
                return f"{tried}: {fault}"
    return None


def _phase_trains(model: Classifier, method: Method, phase: Phase) -> str | None:
    groups = model.train_parts(phase.learning_rates)
    set_drop_path(model, phase.drop_path_rate)
    before = copy.deepcopy(model.state_dict())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    optimizer = method.optimizer(groups, phase)
    loss = method.loss(model, _signals(model.backbone), _labels(4))
    if loss.dim() or not bool(torch.isfinite(loss)):
        return f"its loss is {loss}; expected one finite number, the mean over the batch"
    loss.backward()  # type: ignore[no-untyped-call]
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if without:
        return f"{without[0]} gets no gradient from its loss"
    optimizer.step()
    set_drop_path(model, 0.0)
    after = model.state_dict()
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    if not moved & trained:
        return "one step of its optimiser moves nothing"
    if astray := sorted(moved - trained - {key for key in moved if "running_" in key or "num_batches" in key}):
        return f"{astray[0]} moves though no learning rate is declared for it"
    return None
