"""Whether a published checkpoint, loaded by us, computes what it was published to compute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from bench.errors import CheckpointError
from bench.registry import Reference, make
from bench.training.model import Backbone, Classifier
from bench.training.weights import check_weights, fetch_checkpoint, read_weights

TOLERANCE = 1e-4


@dataclass(frozen=True)
class PublishedCheck:
    """First outputs of the published model on a fixed input, ours beside the known ones."""

    ours: tuple[float, ...]
    known: tuple[float, ...]

    @property
    def largest_difference(self) -> float:
        return max(abs(a - b) for a, b in zip(self.ours, self.known, strict=True))

    @property
    def agrees(self) -> bool:
        return self.largest_difference <= TOLERANCE


def check_published(arch: Reference, init: str) -> PublishedCheck:
    """Run the published model, its head included, on linspace(-1, 1) over [1, lead, 10 s] in float32.

    `init` is `pretrained`, `pretrained@REVISION` or a file with the published keys.
    """
    backbone = make("backbone", arch)
    assert isinstance(backbone, Backbone)
    published = backbone.checkpoint
    if published is None or not published.first_logits:
        raise CheckpointError(f"{arch.name} has no published outputs to check against")
    name, _, revision = init.partition("@")
    if name == "pretrained":
        path, _ = fetch_checkpoint(published, revision or published.revision)
    else:
        path = Path(init)
    weights, _ = read_weights(path)
    model = Classifier(backbone, published.head_outputs)
    named = {
        "head." + key.removeprefix(published.head_prefix)
        if key.startswith(published.head_prefix)
        else "backbone." + key: value
        for key, value in weights.items()
    }
    check_weights(named, model.state_dict(), path)
    model.load_state_dict(named)
    model.eval()
    num_leads, length = len(backbone.signals.leads), 10 * backbone.signals.rate
    with torch.no_grad():
        logits = model(torch.linspace(-1, 1, num_leads * length).view(1, num_leads, length))[0]
    num = len(published.first_logits)
    return PublishedCheck(tuple(logits[:num].tolist()), published.first_logits)
