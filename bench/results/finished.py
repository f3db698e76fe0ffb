"""Recognise a finished run by the options of its command and by hashes of files, without a model, torch or pandas.

A run is remembered under a hash of everything that decides which cell a command names, and whether its code has
changed: the options, the data set's tables, the sources of `bench` and of all plugins, and what `--precision auto`
depends on. If any of it differs, or if result or sampled signal files are not those that were remembered, nothing is
recognised, and `bench.execute` decides.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.files import file_sha256, read_bytes
from bench.processor import processor_fact
from bench.registry.source import declared_files, plugin_files
from bench.results.remembered import keep, key_of, recall

RESULT, PREDICTIONS, WEIGHTS = "result.json", "predictions.npz", "weights.pt"
TABLES = ("ptbxl_database.csv", "dataset.toml")
"""Files of the data sets that consist of tables in one folder: PTB-XL's and plain folders'."""
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
COMMIT = re.compile(r"pretrained@[0-9a-f]{40}")


@dataclass(frozen=True)
class Finished:
    """A finished run."""

    folder: Path
    document: Mapping[str, Any]
    """Content of result.json."""
    changed: str
    """The code that has changed since, in words; empty if none has."""
    table: Mapping[str, Any]
    """What a terminal shows of it: title, head, rows and caption."""


def key_of_command(options: Sequence[object], data: Path, init: str | None, manifest: Path | None) -> str:
    """Return the key of the cell that these options name; empty if it cannot be known without loading the data set."""
    if any(name in os.environ for name in RANKS) or not any((data / name).is_file() for name in TABLES):
        return ""
    if plugin_files():
        return ""  # only the registry knows which files beside them they import
    tables = sorted(path for path in data.iterdir() if path.suffix in (".csv", ".toml"))
    weights = Path(init) if init else None
    if weights and weights.is_dir():
        weights = weights / WEIGHTS
    read = [
        *tables,
        *declared_files(),
        *([manifest] if manifest else []),
        *([weights] if weights and weights.is_file() else []),
    ]
    try:
        files = [[str(path), file_sha256(path)] for path in read]
    except OSError:
        return ""
    return key_of("cell", options, init, files, str(Path.cwd()), _hardware())


def _hardware() -> list[object]:
    """Return what the precision `auto` depends on, as far as files tell."""
    said = hashlib.sha256("".join(map(processor_fact, ("vendor_id", "flags", "Features"))).encode()).hexdigest()
    cards = sorted(path.name for path in Path("/dev").glob("nvidia*"))
    return [version("torch"), said, cards, os.environ.get("CUDA_VISIBLE_DEVICES")]


def remember(
    key: str,
    folder: Path,
    document: Mapping[str, Any],
    changed: str,
    table: Mapping[str, Any],
    signals: Sequence[Path] = (),
) -> None:
    """Remember the finished run that a command named, and size and time of change of its sampled signal files.

    A run whose weights may change on the hub is not remembered.
    """
    init = document["init"]
    given = document["cell"].get("init") or ""
    if not key or ("commit" in init.get("facts", {}) and not COMMIT.fullmatch(given)):
        return
    entry = {"folder": str(folder), "sha256": file_sha256(folder / RESULT), "changed": changed}
    state = _state_of(list(map(str, signals)))
    keep(key, json.dumps({**entry, "signals": state, "table": table}).encode())


def _state_of(paths: Sequence[str]) -> dict[str, list[int] | None]:
    """Return path -> size and time of change of each file; None if it is missing."""
    state: dict[str, list[int] | None] = {}
    for path in paths:
        try:
            about = Path(path).stat()
        except OSError:
            state[path] = None
        else:
            state[path] = [about.st_size, about.st_mtime_ns]
    return state


def recognise(key: str) -> Finished | None:
    """Return the finished run that was remembered under a key; None if there is none, or if it is another one now."""
    content = recall(key) if key else None
    if content is None:
        return None
    entry = json.loads(content)
    folder = Path(entry["folder"])
    try:
        text = read_bytes(folder / RESULT)
    except OSError:
        return None
    if hashlib.sha256(text).hexdigest() != entry["sha256"] or _state_of([*entry["signals"]]) != entry["signals"]:
        return None
    document: dict[str, Any] = json.loads(text)
    if document["incompatible"] is None and not (folder / PREDICTIONS).is_file():
        return None
    return Finished(folder, document, entry["changed"], entry["table"])
