"""What two runs are to each other: the same, stale or in conflict. Sweep, status, boards, publish and resume ask here.

The same: their digests are, SHA-256 over everything that decides the outcome. Stale: the code that made a result is
no longer the code at hand. In conflict: results that cannot both stand in one row of a board.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.data.splits import TEST_FOLD
from bench.registry.source import code_hash
from bench.results.result import Result, row_name

DRAWN = "random"
"""Stands for the hash of weights that are drawn."""
SPINE = "bench.execute"
HARNESS = (SPINE, "bench.data", "bench.training", "bench.evaluation.metrics")
"""What of `bench` decides an outcome. Names are resolved and scores are computed by the rest, which a result records,
or which is done anew from its predictions."""
KINDS = ("method", "backbone", "preprocessing", "harness")
TOLERANCE = 1e-3
"""By which the macro AUROC of repeats may differ: machines add in different orders."""


def identity(document: Mapping[str, Any]) -> str:
    """Return the digest of a cell from what its result says: all that decides the outcome, and nothing else."""
    cell, method, backbone = document["cell"], document["method"], document["backbone"]
    signals = _signals(document)
    thinned = document["split"].get("sha256")
    return digest(
        {
            "task": document["task"]["fingerprint"],
            **({"split": thinned} if thinned else {}),
            "fraction": cell["fraction"],
            "draw": cell["draw"] if cell["fraction"] < 1 else None,
            "signals": signals,
            "source_rate": cell["source_rate"] or signals["rate"],
            "method": [method["name"], method["resolved"], method["phases"]],
            "backbone": [backbone["name"], backbone["resolved"]],
            "init": document["init"]["sha256"],
            **({"head": document["init"]["head_sha256"]} if document["init"].get("head_sha256") else {}),
            "precision": cell["precision"],
            "seed": cell["seed"],
            **({"streams": cell["streams"]} if cell.get("streams", "seed") != "seed" else {}),
        }
    )


def planned_identity(document: Mapping[str, Any], start: str | None = None) -> str:
    """Return the digest of a cell before its weights are drawn, from `start` [default: what its result says]."""
    return identity({**document, "init": {"sha256": start or _start(document)}})


def digest(facts: Mapping[str, Any]) -> str:
    """Return SHA-256 over plain facts, in whatever order they stand."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()


def _signals(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the signals should be, without what was computed from the records or seen in them."""
    return {key: value for key, value in document["signals"].items() if key not in ("scaling", "findings")}


def _start(document: Mapping[str, Any]) -> str | None:
    """The weights that training started from; drawn ones follow from the seed and the code."""
    init = document["init"]
    return DRAWN if init["name"] == "random" else init.get("sha256")


def conflict(one: Result, other: Result) -> str:
    """Return why two results cannot both stand in one row of a board, or nothing."""
    if one.digest == other.digest:
        return "" if _are_repeats(one, other) else "are results of one cell and disagree; remove the one that is wrong"
    if one.place == other.place:
        return (
            "share row, draw and seed and yet differ in what decides their outcome (their digests do): they were run "
            "by different code or settings; remove the older one"
        )
    if _settings(one) != _settings(other):
        return (
            f"would share the row {row_name(*one.row)}, but their hyper-parameters, first weights or signals differ: "
            "a default or a published file has changed since; remove the older one"
        )
    return ""


def _are_repeats(one: Result, other: Result) -> bool:
    values = [r.document["metrics"][f"fold_{TEST_FOLD}"]["macro"]["all"]["auroc"]["value"] for r in (one, other)]
    one_value, other_value = (math.nan if value is None else value for value in values)
    undefined = math.isnan(one_value) and math.isnan(other_value)
    return undefined or math.isclose(one_value, other_value, rel_tol=0, abs_tol=TOLERANCE)


def _settings(run: Result) -> Any:
    """What all runs of a row must share beside their names, which leave out defaults."""
    if run.external:
        return None
    document = run.document
    method, backbone = document.get("method", {}), document.get("backbone", {})
    return (
        method.get("resolved"),
        method.get("phases"),
        backbone.get("resolved"),
        _start(document),
        _signals(document),
    )


@dataclass(frozen=True)
class Source:
    """Code that made a result."""

    kind: str
    """One of KINDS."""
    name: str
    module: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.module})"


def code_of(document: Mapping[str, Any]) -> dict[str, Source]:
    """Return the code that a result records, by kind; older results do not record all kinds."""
    recorded = document.get("code", {})
    sections = {kind: document.get(kind) or recorded.get(kind) for kind in KINDS}
    return {
        kind: Source(kind, section["name"], section["module"], section.get("code_sha256", ""))
        for kind, section in sections.items()
        if section
    }


@functools.cache
def harness_facts() -> dict[str, str]:
    """Return what a result records of the harness's own code: the part of it that can change an outcome.

    It is read once: a file that is edited later is not what this process has imported.
    """
    return {"name": "bench", "module": SPINE, "code_sha256": code_hash(SPINE, HARNESS)}


def code_at_hand(source: Source) -> str:
    """Return the hash that this code has here and now; empty where it is not installed."""
    return code_hash(source.module, HARNESS if source.kind == "harness" else ())


def changes(document: Mapping[str, Any], code_now: Callable[[Source], str] = code_at_hand) -> str:
    """Return whose code is no longer that of a result, in words; nothing where all of it is.

    What a result does not record is not held against it.
    """
    return "; ".join(_changes(document, code_now))


def _changes(document: Mapping[str, Any], code_now: Callable[[Source], str]) -> Iterator[str]:
    for source in code_of(document).values():
        now = code_now(source)
        if now != source.sha256:
            yield f"{source} {'has changed since' if now else 'is not installed here'}"


def other_code(recorded: object, now: Mapping[str, str]) -> str:
    """Return whose code is not that of a checkpoint, in words; nothing where all of it is. Both are hashes by kind."""
    if not isinstance(recorded, Mapping):
        return "method, backbone or harness"  # an earlier version joined hashes, and had none of the harness
    return ", ".join(kind for kind in KINDS if recorded.get(kind) != now.get(kind))
