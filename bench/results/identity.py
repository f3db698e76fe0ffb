"""Decide whether two runs are the same, stale or in conflict. Used by sweep, status, boards, publish and resume.

The same: they have equal digests, SHA-256 over everything that decides the outcome. Stale: the installed code differs
from the code that made the result. In conflict: the two results cannot both be in one row of a board.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.datasets.held import HeldFolder, reader_facts
from bench.data.splits import TEST_FOLD
from bench.registry.registry import find_registered
from bench.registry.source import NOTEBOOK, code_hash
from bench.results.result import Result, row_name

if TYPE_CHECKING:
    from bench.data.opened import OpenData
    from bench.data.records import Records

RANDOM = "random"
"""Name of randomly initialised weights, also in place of their hash."""
SPINE = "bench.execute"
HARNESS = (SPINE, "bench.data", "bench.training", "bench.evaluation.metrics")
"""Modules of `bench` that decide an outcome. The other modules resolve names, which a result records, or compute
scores, which can be recomputed from its predictions."""
SIGNALS = "signal data"
KINDS = ("method", "backbone", "preprocessing", "dataset", SIGNALS, "harness")
"""What made a result and has a hash: code, and the files of the data set's signals, of which some are sampled."""
TORCH, DEVICE = "torch's version", "the kind of device"
"""What else a run keeps from its first checkpoint to its end."""
TOLERANCE = 1e-3
"""Maximum difference in macro AUROC between repeats: machines add floating-point numbers in different orders."""


def identity(document: Mapping[str, Any]) -> str:
    """Return the digest of a result: SHA-256 over all that decides the outcome, and nothing else."""
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
            "source_rate": cell["source_rate"] or signals.get("preprocessing_rate") or signals["rate"],
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
    """Return the digest of a cell before it runs. `start` is the hash of its initial weights [default: as recorded]."""
    return identity({**document, "init": {**document["init"], "sha256": start or _start(document)}})


def digest(facts: Mapping[str, Any]) -> str:
    """Return SHA-256 over plain data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()


def _signals(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides how signals are prepared, without values that were computed from the records."""
    return {key: value for key, value in document["signals"].items() if key not in ("scaling", "findings", "seconds")}


def _start(document: Mapping[str, Any]) -> str | None:
    """Return the hash of the initial weights; `RANDOM` for random ones, which follow from the seed and the code."""
    init = document["init"]
    return RANDOM if init["name"] == RANDOM else init.get("sha256")


def conflict(first: Result, second: Result) -> str:
    """Return why two results cannot both be in one row of a board; empty if they can."""
    if first.digest == second.digest:
        return (
            "" if _are_repeats(first, second) else "are results of one cell and disagree; remove the one that is wrong"
        )
    if first.place == second.place:
        return (
            "share row, draw and seed, but their digests differ: they were run "
            "by different code or settings; remove the older one"
        )
    if _settings(first) != _settings(second):
        return (
            f"would share the row {row_name(*first.row)}, but their hyper-parameters, first weights or signals differ: "
            "a default or a published file has changed since; remove the older one"
        )
    return ""


def _are_repeats(first: Result, second: Result) -> bool:
    if not (first.tested and second.tested):
        return first.incompatible == second.incompatible
    values = [r.document["metrics"][f"fold_{TEST_FOLD}"]["macro"]["all"]["auroc"]["value"] for r in (first, second)]
    first_value, second_value = (math.nan if value is None else value for value in values)
    undefined = math.isnan(first_value) and math.isnan(second_value)
    return undefined or math.isclose(first_value, second_value, rel_tol=0, abs_tol=TOLERANCE)


def _settings(run: Result) -> Any:
    """Return what all runs of a row must share in addition to their names, which omit default values."""
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
    """A piece of code that made a result, or the signal files that it was made from, with a hash."""

    kind: str
    """One of KINDS."""
    name: str
    module: str
    sha256: str

    @property
    def rate(self) -> int:
        """Rate in Hz of signal files, which are recorded with it in place of a module."""
        return int(self.module.removesuffix(" Hz"))

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.module})"


def code_of(document: Mapping[str, Any]) -> dict[str, Source]:
    """Return the code that a result records: kind -> source. Older results lack some kinds.

    A data set that `bench` reads itself has no code of its own. Of scores from elsewhere it gave the labels alone.
    """
    recorded = document.get("code", {})
    sections = {kind: document.get(kind) or recorded.get(kind) for kind in KINDS}
    if "module" not in (sections["dataset"] or {}) or not sections["backbone"]:
        del sections["dataset"]
    return {
        kind: Source(kind, section.get("reader", section["name"]), section["module"], section.get("code_sha256", ""))
        for kind, section in sections.items()
        if section
    }


@functools.cache
def harness_facts() -> dict[str, str]:
    """Return the facts about the harness's code that a result records: hashes of the modules in HARNESS.

    Cached, because a file that is edited later is not what this process has imported.
    """
    return {"name": "bench", "module": SPINE, "code_sha256": code_hash(SPINE, HARNESS)}


def code_at_hand(source: Source, data: OpenData | None = None) -> str:
    """Return the hash of the installed version of this code; empty if it is not installed.

    What a notebook or a script defined is at hand in that notebook or script only. Records that it holds have no
    registered reader; they are in `data`. Of signals, it is the hash of those of `data`; without them they count as
    unchanged.
    """
    if source.kind == SIGNALS:
        return (data.records.sample_sha256(source.rate) if data else "") or source.sha256
    if source.kind == "dataset" and data and isinstance(data.folder, HeldFolder) and data.folder.records is not None:
        return reader_facts(data.records, data.folder)["code_sha256"]
    if source.module == NOTEBOOK:
        plugin = find_registered(source.kind, source.name)
        return plugin.code_hash if plugin and plugin.module == NOTEBOOK else ""
    return code_hash(source.module, HARNESS if source.kind == "harness" else ())


def changes(document: Mapping[str, Any], code_now: Callable[[Source], str] = code_at_hand) -> str:
    """Return a text that names the code, or the signals, that have changed since a result was made; empty if none.

    What the result does not record is ignored.
    """
    return "; ".join(_changes(document, code_now))


def _changes(document: Mapping[str, Any], code_now: Callable[[Source], str]) -> Iterator[str]:
    for source in code_of(document).values():
        now = code_now(source)
        if now != source.sha256:
            yield f"{source} {'has changed since' if now else 'is not installed here'}"


def sampled_signals(document: Mapping[str, Any], records: Records) -> list[Path]:
    """Return the sampled signal files that a result was made from, as they lie in `records.folder`; older: none."""
    signals = code_of(document).get(SIGNALS)
    return [records.folder / name for name in records.sampled_files(signals.rate)] if signals else []


def other_code(recorded: object, now: Mapping[str, str]) -> str:
    """Return the names of what differs from what wrote a checkpoint; empty if nothing. Both: kind -> hash or name."""
    if not isinstance(recorded, Mapping):
        return "method, backbone or harness"  # earlier versions wrote a joint hash without the harness
    return ", ".join(kind for kind in (*KINDS, TORCH, DEVICE) if recorded.get(kind) != now.get(kind))
