"""Check published weights: whether the file comes, is the published one, fits the backbone, and gives known outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.data.signals import SignalSpec
from bench.errors import CheckpointError
from bench.execute import make_backbone
from bench.files import file_sha256
from bench.registry.findings import Finding
from bench.registry.reference import Reference
from bench.training.model import Backbone, Classifier
from bench.training.published import PublishedCheckpoint
from bench.training.weights import load_backbone, load_published, published_file

TOLERANCE = 1e-4
"""Largest difference from published outputs, which are known to about 1e-5."""
STEPS = ("file", "hash", "keys", "outputs")
"""What is checked of published weights, in this order."""
NUM_SHOWN = 5
"""Number of features that are printed for a report."""


def reference_signals(spec: SignalSpec) -> Tensor:
    """Return linspace(-1, 1) as signals [1, lead, time] of the backbone's window, or of 10 s without one."""
    num_leads, length = len(spec.leads), spec.window or 10 * spec.rate
    return torch.linspace(-1, 1, num_leads * length).view(1, num_leads, length)


def check_published(reference: Reference, init: str) -> Iterator[tuple[str, Finding]]:
    """Check the published weights of a backbone. Yield steps of STEPS with their findings, as far as they can be made.

    `init` is `pretrained`, `pretrained@REVISION`, or a file. Outputs are computed on the CPU in float32. Raises
    CheckpointError if the backbone has no published weights.
    """
    backbone = make_backbone(reference)
    published = backbone.checkpoint
    if published is None:
        raise CheckpointError(f"{reference.name} has no published checkpoint; there is nothing to check")
    step = "file"
    try:
        path = published_file(published, init)
        yield step, Finding(f"{path.name} is at hand, {_size(path):,} bytes", None)
        step = "hash"
        yield step, _hash_finding(published, path)
        step = "keys"
        left_out = load_backbone(backbone, path).left_out
        beside = f"; left out: {', '.join(left_out)}" if left_out else "; nothing is left out"
        yield step, Finding(f"it has all {len(backbone.state_dict()):,} tensors of the backbone{beside}", None)
        step = "outputs"
        yield step, _outputs_finding(backbone, published, path)
    except CheckpointError as error:
        yield step, Finding(f"{step} of {published.filename or published.where}", str(error))


def check_all(names: Sequence[str], show: Callable[[str, Finding], None]) -> list[dict[str, str]]:
    """Check the published weights of these backbones. Return a row of verdicts for each.

    `show` is called with the backbone's name and each finding as it is made.
    """
    rows = []
    for name in names:
        verdicts = dict.fromkeys(STEPS, "-")
        for step, finding in check_published(Reference(name), "pretrained"):
            show(name, finding)
            verdicts[step] = finding.verdict
        rows.append({"name": name, **verdicts})
    return rows


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None


def _hash_finding(published: PublishedCheckpoint, path: Path) -> Finding:
    sha256 = file_sha256(path)
    check = f"SHA-256 {sha256}"
    if not published.hashes:
        return Finding(check, None, "no hash is declared to compare with; please report this one")
    return Finding(check, published.mismatch(path, sha256) or None)


def _outputs_finding(backbone: Backbone, published: PublishedCheckpoint, path: Path) -> Finding:
    """Compare outputs with the published ones; if none are known, print some that a person can report."""
    signals = reference_signals(backbone.signal_spec)
    if published.first_logits:
        model = Classifier(backbone, published.head_outputs)
        load_published(model, path)
        known, outputs = published.first_logits, _outputs(model, signals)
    else:
        known, outputs = published.first_features, _outputs(backbone, signals)
    if not known:
        first = ", ".join(f"{value:.6f}" for value in outputs[:NUM_SHOWN].tolist())
        facts = f"features of linspace(-1, 1) as {list(signals.shape)}: {len(outputs)} values, {first}, ..., norm "
        return Finding(f"{facts}{outputs.norm():.5f}", None, "no outputs are published; please report these")
    gap = float((outputs[: len(known)] - torch.tensor(known)).abs().max())
    fault = None
    if not gap <= TOLERANCE:  # NaN is neither
        here = ", ".join(f"{value:.4f}" for value in outputs[: len(known)].tolist())
        fault = f"here: {here}; published: {', '.join(f'{value:.4f}' for value in known)}"
    return Finding(f"{path.name} gives the published outputs (largest difference {gap:.1e})", fault)


def _outputs(model: nn.Module, signals: Tensor) -> Tensor:
    with torch.no_grad():
        outputs: Tensor = model.eval()(signals)[0]
    return outputs
