"""The digest of a run: SHA-256 over everything that decides its outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def identity(document: Mapping[str, Any]) -> str:
    """The digest of a cell by what its result says of it: all that decides the outcome, and nothing else."""
    cell, method, backbone = document["cell"], document["method"], document["backbone"]
    signals = {key: value for key, value in document["signals"].items() if key not in ("scaling", "findings")}
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
        }
    )


def digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 over plain facts, in whatever order they stand."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()
