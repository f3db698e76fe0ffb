"""Backbones with published weights: which ones `all-foundation` stands for, and what a sweep fetches for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.cell import Cell
from bench.execute import make_backbone
from bench.launch.plan import spell_bytes
from bench.registry.reference import Reference
from bench.registry.registry import attempt, registry
from bench.training.fetch import kept_file, place_by_hand
from bench.training.model import count_parameters
from bench.training.published import PublishedCheckpoint
from bench.training.weights import names_published

ALL = "all-foundation"


@dataclass(frozen=True)
class Foundation:
    """The backbones that `all-foundation` stands for."""

    names: tuple[str, ...] = ()
    noncommercial: tuple[str, ...] = ()
    """Backbones that are left out, because the licence of their weights forbids commercial use."""
    withheld: tuple[str, ...] = ()
    """Backbones that are left out, because their authors have not published the weights."""

    @classmethod
    def find(cls, accept_noncommercial: bool) -> Foundation:
        """Return the registered backbones with published weights, sorted by name."""
        published = published_checkpoints()
        withheld = {name for name, checkpoint in published.items() if checkpoint.withheld}
        barred = {
            name for name, checkpoint in published.items() if checkpoint.noncommercial and not accept_noncommercial
        } - withheld
        names = tuple(name for name in published if name not in barred | withheld)
        return cls(names, tuple(sorted(barred)), tuple(sorted(withheld)))

    def remark(self) -> str:
        """Return a line that names the backbones left out; empty if there are none."""
        reasons = (
            (self.noncommercial, "weights for non-commercial use; --accept-noncommercial of sweep and check adds them"),
            (self.withheld, "weights not published"),
        )
        left_out = "; ".join(f"{', '.join(names)}: {reason}" for names, reason in reasons if names)
        return f"left out: {left_out}" if left_out else ""


def published_checkpoints() -> dict[str, PublishedCheckpoint]:
    """Return the published checkpoints of all backbones that need no arguments, by the backbone's name."""
    found = {}
    for plugin in registry().of_kind("backbone"):
        checkpoint = getattr(plugin.make, "checkpoint", None)
        if isinstance(checkpoint, PublishedCheckpoint) and plugin.has_defaults:
            found[plugin.name] = checkpoint
    return found


def weights_remarks(cells: Iterable[Cell]) -> Iterator[str]:
    """Yield a line for each backbone of which the cells load published weights: where they are, size, and terms.

    Looks at files on this machine only.
    """
    wanted = {(cell.arch.name, cell.init or ""): cell.arch for cell in cells}
    for (name, asked), arch in wanted.items():
        checkpoint = getattr(registry().find("backbone", name).make, "checkpoint", None)
        if not isinstance(checkpoint, PublishedCheckpoint):
            continue
        init = asked or ("random" if checkpoint.withheld else "pretrained")
        if names_published(init):
            yield f"weights of {name}: {_state(arch, checkpoint, init)}; {checkpoint.spelled_terms}"


def _state(arch: Reference, checkpoint: PublishedCheckpoint, init: str) -> str:
    if kept_file(checkpoint, init):
        return f"on this machine, from {checkpoint.where}"
    if checkpoint.repo or checkpoint.url:
        size = spell_bytes(checkpoint.num_bytes) if checkpoint.num_bytes else _size_of_backbone(arch)
        before = f"; first {checkpoint.access}" if checkpoint.access else ""
        return f"to be fetched from {checkpoint.where} ({size}){before}"
    if checkpoint.withheld:
        return f"will fail: {checkpoint.spelled_where}"
    return f"will fail: no program can fetch them; {place_by_hand(checkpoint)}"


def _size_of_backbone(arch: Reference) -> str:
    """Return what can be said of a file whose size nobody has stated."""
    backbone, _ = attempt(lambda: make_backbone(arch))
    size = f"; the backbone is {spell_bytes(4 * count_parameters(backbone))} in float32" if backbone else ""
    return f"size not stated{size}"
