"""A data set that a notebook or a script holds as an object, in place of a folder that a reader recognises."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import PosixPath
from typing import Any

from bench.data.records import Records
from bench.errors import BenchError
from bench.registry.registry import OURS, find_optional, hash_of, place_of
from bench.registry.source import NOT_INSTALLED, NOTEBOOK


class HeldFolder(PosixPath):
    """The folder of a data set, with its records. Other processes know the folder alone."""

    records: Records | None = None
    maker: Callable[..., Any] | None = None
    """The class or function that made the records, unless that is unknown."""


def hold(data: object) -> HeldFolder:
    """Return the folder of Records, or of what a class or function makes without arguments, together with them.

    Raises BenchError for anything else.
    """
    made = data() if callable(data) else data
    if not isinstance(made, Records):
        raise BenchError(
            f"data is {made!r:.60}: expected a folder, a bench.plugin.Records, or a class or function that makes one "
            "without arguments"
        )
    folder = HeldFolder(made.folder)
    folder.records = made
    folder.maker = data if callable(data) else type(made) if type(made) is not Records else None
    return folder


def reader_facts(records: Records, folder: object) -> dict[str, str]:
    """Return package, module and hash of the code that read a data set; empty for readers of bench.

    `reader` is the name of a registered reader. Records that a notebook holds have no reader of a name: the hash is
    that of the code that made them, or of their content if the code is unknown, and of a format's code if it has some.
    """
    if isinstance(folder, HeldFolder) and folder.records is not None:
        return _held_facts(records, folder.maker)
    plugin = find_optional("dataset", records.dataset)
    if plugin is None or plugin.distribution.startswith(f"{OURS} "):
        return {}
    facts = {"distribution": plugin.distribution, "module": plugin.module, "code_sha256": plugin.code_hash}
    return {"reader": plugin.name, **facts}


def _held_facts(records: Records, maker: Callable[..., Any] | None) -> dict[str, str]:
    if maker is None:
        place, module, code = "object", NOTEBOOK, records.content
    else:
        place, module = place_of(maker.__module__), maker.__module__
        code = hash_of(maker)
    if records.format.code_sha256:
        code = hashlib.sha256(f"{code} {records.format.code_sha256}".encode()).hexdigest()
    return {"distribution": f"{place}{NOT_INSTALLED}", "module": module, "code_sha256": code}
