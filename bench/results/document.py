"""What a result.json must say and must not: it may come from a stranger, and pages and paths are made of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from bench.errors import BenchError

NAME = re.compile(r"\w[\w.+-]{0,99}")
"""Names that become parts of paths: of datasets, tasks."""
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
"""What moves a cursor, turns the direction of text, or is no text: control and bidirectional characters, surrogates."""
MARKUP = re.compile(r"[`\t\n]|<[A-Za-z/!?]|\]\(|&#?\w+;", re.IGNORECASE)
"""What Markdown would take for code, HTML, a link or the end of a line."""
SENTENCES = ("incompatible",)
"""Sections of free text, which pages escape."""

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
"""Section and key -> what it is; all that boards read of any result."""


def faults(document: Mapping[str, Any]) -> Iterator[str]:
    """What a result.json, or the head of one, lacks or must not say; each fault names the field."""
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
    """Of a document without `faults`: names that are no part of a path, and a command that is none of ours."""
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
    """Raises BenchError for a result, not yet made, that could not be read: before the work, and not after it."""
    if wrong := [*faults(document)] or [*unsafe(document)]:
        raise BenchError(f"no result can be written of this: {'; '.join(wrong)}; choose other names")


def is_command(text: str) -> bool:
    """Whether a shell reads these words as one call of `bench`, and as nothing else."""
    try:
        words = shlex.split(text)
    except ValueError:
        return False
    return words[:1] == ["bench"] and text in (" ".join(map(quoted, words)), shlex.join(words))


def quoted(word: object) -> str:
    """A word for the shell; in double quotes where they do, as references hold single ones."""
    text = str(word)
    return shlex.quote(text) if re.search(r'["$`\\!]', text) or shlex.quote(text) == text else f'"{text}"'


def _texts(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Where each text of plain data stands, and the text; keys too."""
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
