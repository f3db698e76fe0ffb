"""Check the content of a result.json. It may come from anybody, and pages and paths are built from it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from bench.errors import BenchError
from bench.registry.source import NOT_INSTALLED

NAME = re.compile(r"\w[\w.+-]{0,99}")
"""Valid names of data sets and tasks, which become parts of paths."""
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
"""Characters that move a cursor, change the direction of text or are not text: control, bidirectional, surrogates."""
MARKUP = re.compile(r"[`\t\n]|<[A-Za-z/!?]|\]\(|&#?\w+;", re.IGNORECASE)
"""Text that Markdown would read as code, HTML, a link or the end of a line."""
SENTENCES = ("incompatible",)
"""Sections that hold free text, which pages escape."""

WORD, NUMBER, COUNT, FLAG = (str,), (int, float), (int,), (bool,)
FIELDS: Mapping[str, tuple[type, ...]] = {
    "digest": WORD,
    "stage": WORD,
    "cell.task": WORD,
    "cell.arch": WORD,
    "cell.method": WORD,
    "cell.fraction": NUMBER,
    "cell.draw": COUNT,
    "cell.seed": COUNT,
    "cell.source_rate": (int, type(None)),
    "cell.precision": (str, type(None)),
    "cell.command": (str, type(None)),
    "dataset.name": WORD,
    "dataset.synthetic": FLAG,
    "task.name": WORD,
    "task.fingerprint": WORD,
    "task.labels": (list,),
    "init.name": WORD,
    "incompatible": (str, type(None)),
}
"""Section and key -> accepted types, for all fields that boards read."""


def faults(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of a result.json or of its head: missing fields, wrong types, forbidden characters."""
    missing = []
    for field, types in FIELDS.items():
        section, _, key = field.partition(".")
        held = document.get(section, ...)
        value = held if not key else held.get(key, ...) if isinstance(held, dict) else ...
        if value is ...:
            missing.append(field)
        elif not isinstance(value, types) or (isinstance(value, bool) and types is not FLAG):
            yield f"{field} is a {type(value).__name__}, not {' or '.join(map(_spell, types))}"
    if missing:
        yield f"it lacks {', '.join(missing)}"
    for field, text in _texts(document):
        if UNPRINTABLE.search(text) or (MARKUP.search(text) and field.partition(".")[0] not in SENTENCES):
            yield f"{field} holds characters that no name or number has: {text[:40]!a}"


def unsafe(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield unsafe values of a document without `faults`: names unfit for paths, a command other than bench."""
    for section, key in (("dataset", "name"), ("cell", "task"), ("task", "name")):
        if not NAME.fullmatch(name := document[section][key]):
            yield f"{section}.{key} is {name[:40]!r}, expected letters, digits and . _ + -"
    cell = document["cell"]
    if cell["task"] != document["task"]["name"]:
        yield f"cell.task is {cell['task']!r} and task.name {document['task']['name']!r}"
    if not 0 < cell["fraction"] <= 1:
        yield f"cell.fraction is {cell['fraction']}, not in (0, 1]"
    if document["stage"] not in ("val", "test"):
        yield f"stage is {document['stage']!r}, not val or test"
    manifest = cell.get("manifest")
    if manifest is not None and (not isinstance(manifest, str) or "/" in manifest):
        yield f"cell.manifest is {manifest!r}, not the name of a file"
    if cell["command"] and not is_command(cell["command"]):
        yield f"cell.command is no command line of bench: {cell['command'][:60]!r}"


def require_printable(document: Mapping[str, Any]) -> None:
    """Raise BenchError if the result of a run would have faults. Call this before the run."""
    if wrong := [*faults(document)] or [*unsafe(document)]:
        raise BenchError(f"the result of this run could not be read again: {'; '.join(wrong)}; choose other names")


def is_command(text: str) -> bool:
    """Return whether a shell reads the text as a single call of `bench` and nothing else."""
    try:
        arguments = shlex.split(text)
    except ValueError:
        return False
    return arguments[:1] == ["bench"] and text in (" ".join(map(quoted, arguments)), shlex.join(arguments))


def is_installed(document: Mapping[str, Any]) -> bool:
    """Return whether packages hold the method, backbone and task of a result, and no file or notebook does."""
    sections = (document.get(kind) or {} for kind in ("method", "backbone", "task"))
    return not any(str(section.get("distribution", "")).endswith(NOT_INSTALLED) for section in sections)


def quoted(word: object) -> str:
    """Quote a word for the shell: in double quotes if possible, because references contain single quotes."""
    text = str(word)
    return shlex.quote(text) if re.search(r'["$`\\!]', text) or shlex.quote(text) == text else f'"{text}"'


def _texts(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Yield (field, text) for each string in plain data, also for keys."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if UNPRINTABLE.search(key) or MARKUP.search(key):
                yield f"a key of {field or 'it'}", key
            yield from _texts(inner, f"{field}.{key}" if field else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, field)
    elif isinstance(value, str):
        yield field, value


def _spell(kind: type) -> str:
    return {str: "text", type(None): "null", bool: "true or false", list: "a list"}.get(kind, "a number")
