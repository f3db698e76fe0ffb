"""Check by short runs on a backbone that a method keeps its contract.

A check returns None, or one line that says what is wrong and how to correct it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.errors import Incompatible
from bench.execute import make_backbone, make_method
from bench.registry.backbone_checks import change_by_batch, fits
from bench.registry.findings import Finding, fault_of
from bench.registry.new_processes import from_new_processes
from bench.registry.outside import Outside
from bench.registry.reference import Reference
from bench.registry.trials import (
    ALONE,
    NUM_LABELS,
    OTHER_SEED,
    SEED,
    Trial,
    largest_gap,
    made_up_signals,
    rounding_gap,
    run_trial,
    set_up,
    shortened,
    start_named,
)
from bench.training.audit import prepare
from bench.training.averaging import frozen_copy
from bench.training.distributed import join
from bench.training.method import Method, declared_phases, overrides
from bench.training.model import Classifier, layer_groups

TRIED_ON = Reference("net1d_mini")
"""Default backbone on which methods are checked."""
FAMILIES = tuple(map(Reference, ("net1d_mini", "vit1d_tiny", "xresnet1d18", "lstm")))
"""Backbones of different kinds. The check lists those that a method declines."""
RANK_TOLERANCE = 1e-8
"""Largest difference between weights trained on one and on two processes, in float64, by `largest_gap`."""


def check_method(reference: Reference, arch: Reference = TRIED_ON, *, two_processes: bool = True) -> Iterator[Finding]:
    """Check a method on a backbone by short runs: declared parts, resuming, and independence of the number of ranks.

    `two_processes` also runs it on two ranks, which takes some seconds to start.
    """
    fault_in = partial(fault_of, "method", reference)
    try:
        fault = fault_in(lambda: _declares(reference, arch))
    except Incompatible as reason:
        yield _declines(arch, reason)
        return
    yield Finding("declares phases", fault)
    if fault:
        return
    method = make_method(reference)
    if method.search:
        yield Finding("can be tuned over its search space", fault_in(lambda: _searchable(reference, method, arch)))
    else:
        yield Finding(
            "can be tuned over its search space", None, "it declares none; bench tune runs it with its defaults"
        )
    if overrides(method, "loss"):
        yield Finding("says whether its loss needs signals", _says_what_it_needs(method))
    try:
        fault = fault_in(lambda: fits(reference, arch))
    except Incompatible as reason:
        yield _declines(arch, reason)
        return
    yield Finding(f"fits {arch}", fault)
    if fault:
        return
    yield from _declined(reference, arch)
    if note := _changes_start(reference, arch):
        yield Finding("keeps the weights that the backbone came with", None, note)
    differs = fault_in(lambda: _made_anew(reference, arch))
    yield Finding("can be copied and made anew", differs)
    weights: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "whole").mkdir()
        trial = _trial(reference, arch, Path(folder) / "whole")
        fault = fault_in(lambda: _trains(trial, reference, weights))
        for phase in trial.phases:
            of_this = fault if phase is (trial.phase or trial.phases[0]) else None
            yield Finding(f"trains {phase.name} as declared", of_this)
            if of_this:
                return
        if overrides(method, "finish"):
            notes = (note for note in trial.notes if note.startswith("finish()"))
            yield Finding("leaves the last phase as selected or judged", None, next(notes, None))
        if not differs:
            yield Finding(
                "predicts each record by itself", fault_in(lambda: _predicts_alone(reference, arch, trial, weights))
            )
        fault = fault_in(lambda: _resumes(reference, arch, trial, weights))
        yield Finding("ends in the same bits when killed and resumed", fault)
    if two_processes:
        fault = fault_in(lambda: _processes_agree(reference, arch))
        yield Finding("trains alike on two processes, and after another run", fault)


def _declines(arch: Reference, reason: Incompatible) -> Finding:
    return Finding(f"trains on {arch}", None, f"it declines: {reason}; --arch names another backbone")


def _declares(reference: Reference, arch: Reference) -> str | None:
    method = make_method(reference)
    outside = Outside(method)
    with outside.watch():
        declared_phases(method, layer_groups(make_backbone(arch)))
    return outside.fault


def _searchable(reference: Reference, method: Method, arch: Reference) -> str | None:
    for name, search in method.search.items():
        for quantile in (0.0, 0.5, 0.999):
            tried = Reference(reference.name, {**reference.arguments, name: search.at(quantile)})
            with contextlib.suppress(Incompatible):  # a trial of such a setting is recorded as declined
                if fault := fault_of("method", tried, partial(_declares, tried, arch)):
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
            fault = fault_of("method", reference, partial(fits, reference, other, init))
        except Incompatible as reason:
            yield Finding(f"declines {other if init == 'random' else f'{init} weights'}: {reason}", None)
        else:
            if fault:
                yield Finding(f"fits {other} from {init} weights", fault)


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
        if not torch.allclose(model(signals), expected, rtol=1e-8, atol=1e-10):
            return (
                "two passes over the same records give different outputs in eval mode; draw nothing there and keep "
                "nothing from pass to pass: test-time augmentation has fixed transforms"
            )
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


def _changes_start(reference: Reference, arch: Reference) -> str:
    """Return a note if `prepare` changes weights that were there before, and with them the features; else empty."""
    torch.manual_seed(SEED)
    model = Classifier(make_backbone(arch), NUM_LABELS).eval()
    signals = made_up_signals(model.backbone, 2)
    before = {name: (p, p.detach().clone()) for name, p in model.backbone.named_parameters()}
    with torch.no_grad():
        features = model.backbone(signals)
    prepare(model, make_method(reference), start_named("random", SEED))
    changed = [name for name, (parameter, value) in before.items() if not torch.equal(parameter, value)]
    with torch.no_grad():
        if not changed or torch.allclose(model.eval().backbone(signals), features, rtol=1e-4, atol=1e-5):
            return ""
    return (
        f"prepare() changes {changed[0]}, and with it the features that the backbone came with, which the result calls "
        "by their name; initialise new modules alone, unless this is the method"
    )


def _trains(trial: Trial, reference: Reference, weights: dict[str, Tensor]) -> str | None:
    method = make_method(reference)
    outside = Outside(method)
    with outside.watch():
        weights.update(run_trial(trial, method, ALONE))
    return trial.fault or outside.fault


def _predicts_alone(reference: Reference, arch: Reference, trial: Trial, weights: dict[str, Tensor]) -> str | None:
    """Compare the trained model's outputs with those of a new model, and these of a batch with each record's."""
    model, _ = set_up(partial(make_backbone, arch), make_method(reference))
    model.eval().load_state_dict(weights)
    signals = made_up_signals(model.backbone, 3).double()
    with torch.no_grad():
        if not torch.allclose(trial.model.eval()(signals), model(signals), rtol=1e-8, atol=1e-10):
            return (
                "the trained model gives other outputs than a new one that loads its weights, as in bench predict: "
                "training or finish() leaves something beside parameters and buffers; register it in prepare()"
            )
    change = change_by_batch(model, signals, 1e-8)
    moved = [key for key, value in model.state_dict().items() if not torch.equal(value, weights[key])]
    if not change and not moved:
        return None
    what = f"a record's logits {change}" if change else f"{moved[0]} changes in eval mode"
    return (
        f"{what}, so scores would use fold 10 and depend on batch size and processes; predict by the record alone: "
        "batch norm with running statistics, test-time augmentation with fixed transforms of each record"
    )


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
        if trial.steps != whole.steps - stop:
            return (
                f"killed after step {stop}, it trained {trial.steps} steps where {whole.steps - stop} were left, so "
                f"its checkpoint was not used ({'; '.join(trial.notes) or 'nothing says why'}); let the optimiser and "
                "batch.state hold plain numbers and tensors alone"
            )
    return None


def _processes_agree(reference: Reference, arch: Reference) -> str | None:
    """Compare a trial that follows others in this process with the same one on two new processes.

    Where they differ, one new process tells whether an earlier trial or the number of ranks is the cause.
    """
    after_others = run_trial(_trial(reference, arch, seed=OTHER_SEED), make_method(reference), ALONE)

    def difference(num_processes: int) -> str | None:
        gap, key = largest_gap(after_others, from_new_processes(num_processes, _rank_trial, "method", reference, arch))
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


def _rank_trial(reference: Reference, arch: Reference) -> dict[str, Tensor]:
    with join() as world:
        return run_trial(_trial(reference, arch, seed=OTHER_SEED), make_method(reference), world)
