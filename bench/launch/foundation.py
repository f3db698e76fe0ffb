"""Backbones with published weights: which ones `all-foundation` stands for, and what a sweep fetches for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.cell import Cell
from bench.launch.plan import spell_bytes
from bench.registry.registry import registry
from bench.training.fetch import kept_file, place_by_hand
from bench.training.published import PublishedCheckpoint
from bench.training.weights import names_published

ALL = "all-foundation"


@dataclass(frozen=True)
class Foundation:
    """The backbones that `all-foundation` stands for."""

    names: tuple[str, ...] = ()
    noncommercial: tuple[str, ...] = ()
    """Backbones that are left out, because the licence of their weights forbids commercial use."""

    @classmethod
    def find(cls, accept_noncommercial: bool) -> Foundation:
        """Return the registered backbones with published weights, sorted by name."""
        published = published_checkpoints()
        barred = {
            name for name, checkpoint in published.items() if checkpoint.noncommercial and not accept_noncommercial
        }
        return cls(tuple(name for name in published if name not in barred), tuple(sorted(barred)))

    def remark(self) -> str:
        """Return a line that names the backbones left out; empty if there are none."""
        if not self.noncommercial:
            return ""
        names = ", ".join(self.noncommercial)
        return f"left out: {names}: weights for non-commercial use; --accept-noncommercial of sweep and check adds them"


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
    wanted = {(cell.arch.name, cell.init or "pretrained"): None for cell in cells}
    for name, init in wanted:
        checkpoint = getattr(registry().find("backbone", name).make, "checkpoint", None)
        if isinstance(checkpoint, PublishedCheckpoint) and names_published(init):
            yield f"weights of {name}: {_state(checkpoint, init)}; {_terms(checkpoint)}"


def _state(checkpoint: PublishedCheckpoint, init: str) -> str:
    if kept_file(checkpoint, init):
        return f"on this machine, from {checkpoint.where}"
    if checkpoint.repo or checkpoint.url:
        size = spell_bytes(checkpoint.num_bytes) if checkpoint.num_bytes else "size not stated"
        return f"to be fetched from {checkpoint.where} ({size})"
    return f"will fail: no program may fetch them; {place_by_hand(checkpoint)}"


def _terms(checkpoint: PublishedCheckpoint) -> str:
    use = ", non-commercial use only" if checkpoint.noncommercial else ""
    return f"licence {checkpoint.license}{use}; PTB-XL seen in pre-training: {checkpoint.ptbxl_seen}"
