"""Check the content of a result.json, because anybody may have written it and pages and paths are built from it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.data.text import UNPRINTABLE
from bench.errors import BenchError
from bench.registry.source import NOT_INSTALLED

NAME = re.compile(r"\w[\w.+-]{0,99}")
"""Valid names of data sets and tasks, which become parts of paths."""
MARKUP = re.compile(r"[`\t\n]|<[A-Za-z/!?]|\]\(|&#?\w+;", re.IGNORECASE)
"""Text that Markdown would read as code, HTML, a link or the end of a line."""
FORMULA = ("=", "+", "-", "@")
"""First characters of a cell of a CSV file that a spreadsheet would compute."""
SENTENCES = ("incompatible",)
"""Sections of a result.json that hold free text, which pages escape."""
EVALUATION_SENTENCES = ("dataset", "labels", "not_shared", "scored_on")
"""Sections of an evaluation.json that hold free text."""

MOST, LARGEST = 2**53, 1e15
"""Largest count, which a double still holds exactly, and largest number: beyond them arithmetic and pictures fail."""


@dataclass(frozen=True)
class Kind:
    """What a field may hold."""

    expected: str
    """What it is in words, for messages."""
    holds: Callable[[Any], bool]

    def or_null(self) -> Kind:
        """Return the kind that accepts null too."""
        return Kind(f"{self.expected} or null", lambda value: value is None or self.holds(value))


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number of usual size. NaN compares as false."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def _is_count(value: Any, most: int = MOST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


TEXT = Kind("text", lambda value: isinstance(value, str))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind("a finite number", _is_number)
AMOUNT = Kind("a finite number from 0", lambda value: _is_number(value) and value >= 0)
SHARE = Kind("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
COUNT = Kind("a whole number from 0", _is_count)
SIZE = Kind("a whole number from 1", lambda value: _is_count(value) and value > 0)
REPLICATES = Kind("a whole number from 2 to 100,000", lambda value: _is_count(value, 100_000) and value >= 2)
SHAPE = Kind(
    "a list of sizes of 100 million values at most",
    lambda value: isinstance(value, list) and all(map(_is_count, value)) and math.prod(value) <= 1e8,
)
TEXTS = Kind("a list of texts", lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value))
LIST = Kind("a list", lambda value: isinstance(value, list))
TABLE = Kind("keys with values", lambda value: isinstance(value, dict))
STREAMS = Kind("seed, or draw and seed", lambda value: value in ("seed", "draw and seed"))
POSITIVE = Kind("a finite number above 0", lambda value: _is_number(value) and value > 0)
SECONDS = Kind("a number from 0.1 to 100,000", lambda value: _is_number(value) and 0.1 <= value <= 1e5)
PRECISION = Kind("float32, bf16 or float64", lambda value: value in ("float32", "bf16", "float64"))
SCALE = Kind("logit, probability or null", lambda value: value in ("logit", "probability", None))


def _of_plugin(section: str) -> dict[str, Kind]:
    """Return the fields of a section on a method or backbone, with the facts that identify it."""
    needed = {"name": TEXT, "module": TEXT, "given": TABLE, "resolved": TABLE}
    facts = {f"{section}.{key}": kind for key, kind in needed.items()}
    return {f"{section}?": TABLE, **facts, f"{section}.code_sha256?": TEXT, f"{section}.distribution?": TEXT}


def _of_macro(section: str) -> dict[str, Kind]:
    """Return the fields of metrics over two sets of labels."""
    fields = {f"{section}.macro": TABLE}
    for chosen in ("all", "frequent"):
        where = f"{section}.macro.{chosen}"
        fields |= {where: TABLE, f"{where}.num_labels": COUNT}
        for metric in ("auroc", "average_precision"):
            fields |= {f"{where}.{metric}": TABLE, f"{where}.{metric}.value": SHARE.or_null()}
            fields |= {f"{where}.{metric}.{bound}?": SHARE.or_null() for bound in ("low", "high")}
    return fields


FIELDS: Mapping[str, Kind] = {
    "digest": TEXT,
    "stage": TEXT,
    "incompatible": TEXT.or_null(),
    "cell": TABLE,
    "cell.task": TEXT,
    "cell.arch": TEXT,
    "cell.method": TEXT,
    "cell.init?": TEXT.or_null(),
    "cell.fraction": SHARE,
    "cell.draw": COUNT,
    "cell.seed": COUNT,
    "cell.streams?": STREAMS,
    "cell.manifest?": TEXT.or_null(),
    "cell.source_rate": COUNT.or_null(),
    "cell.precision": PRECISION.or_null(),
    "cell.command": TEXT.or_null(),
    "dataset": TABLE,
    "dataset.name": TEXT,
    "dataset.synthetic": FLAG,
    "dataset.num_records?": COUNT,
    "dataset.seconds?": SECONDS.or_null(),
    **{f"dataset.{key}?": TEXT for key in ("reader", "distribution", "module", "code_sha256")},
    "task": TABLE,
    "task.name": TEXT,
    "task.fingerprint": TEXT,
    "task.labels": LIST,
    "task.labels[]": TEXT,
    "split?": TABLE,
    "split.sha256?": TEXT.or_null(),
    "split.train_records?": COUNT,
    "split.val_records?": COUNT,
    "split.train_patients?": COUNT,
    "split.train_positives?": TABLE,
    "split.train_positives.*": COUNT,
    "split.labels_without_training_positive?": LIST,
    "split.labels_without_training_positive[]": TEXT,
    **_of_plugin("method"),
    "method.phases": LIST,
    "method.phases[]": TABLE,
    "method.phases[].batch_size?": SIZE,
    **_of_plugin("backbone"),
    "backbone.parameters?": COUNT,
    "backbone.feature_dim?": COUNT,
    "signals?": TABLE,
    "signals.rate?": COUNT,
    "signals.scaling?": TABLE,
    "signals.scaling.mean": NUMBER,
    "signals.scaling.std": POSITIVE,
    "signals.scaling.fitted_on": TEXT,
    "init": TABLE,
    "init.name": TEXT,
    "init.sha256?": TEXT.or_null(),
    "init.source?": TEXT,
    "init.left_out?": LIST,
    "init.left_out[]": TEXT,
    "init.facts?": TABLE,
    "init.facts.digest?": TEXT.or_null(),
    "init.facts.trained_on?": TEXT,
    "init.facts.before?": TEXT,
    "init.facts.labels?": TEXTS,
    "init.facts.command?": TEXT,
    "init.facts.git_commit?": TEXT.or_null(),
    "init.facts.file_sha256?": TEXT,
    "init.facts.terms?": TABLE,
    "init.facts.terms.license?": TEXT,
    "init.facts.terms.pretraining_data?": TEXT,
    "init.facts.terms.ptbxl_seen?": TEXT,
    "init.facts.terms.source?": TEXT,
    "init.head?": TABLE,
    "init.head.*": SHAPE,
    "init.head_sha256?": TEXT.or_null(),
    "code?": TABLE,
    "code.*": TABLE,
    "code.*.name": TEXT,
    "code.*.module": TEXT,
    "code.*.code_sha256?": TEXT,
    "cost?": TABLE,
    "cost.seconds?": AMOUNT,
    "cost.peak_memory_mib?": AMOUNT.or_null(),
    "cost.peak_memory_measured_by?": TEXT.or_null(),
    "environment?": TABLE,
    "environment.git_commit?": TEXT.or_null(),
    "environment.device?": TEXT,
    "environment.torch?": TEXT,
    "weights_sha256?": TEXT,
    "training?": LIST,
    "training[]": TABLE,
    "training[].name": TEXT,
    "training[].trainable_parameters": COUNT,
    "training[].on_features?": FLAG,
    "training[].selection": TEXT,
    "training[].train_loss?": LIST,
    "training[].val_macro_auroc": LIST,
    "training[].val_macro_auroc[]": SHARE.or_null(),
    "training[].seconds": AMOUNT,
    "training[].feature_seconds?": AMOUNT.or_null(),
    "search?": TABLE,
    "search.trials": LIST,
    "search.trials[]": TABLE,
    "search.trials[].method": TEXT,
    "search.trials[].val_macro_auroc?": SHARE.or_null(),
    "scores?": TABLE,
    "scores.scale": SCALE,
    "compat?": TABLE,
    "compat.all-records?": TABLE,
    "compat.all-records.num_records": COUNT,
    **_of_macro("compat.all-records"),
    "metrics?": TABLE,
    "metrics.*": TABLE,
    "metrics.*.num_records": COUNT,
    "metrics.*.num_patients": COUNT.or_null(),
    "metrics.*.bootstrap": TABLE.or_null(),
    "metrics.*.bootstrap.num_draws": REPLICATES,
    "metrics.*.bootstrap.seed": COUNT,
    **_of_macro("metrics.*"),
    "metrics.*.labels": TABLE,
    "metrics.*.labels.*": TABLE,
    "metrics.*.labels.*.num_positives": COUNT,
    "metrics.*.labels.*.auroc": TABLE,
    "metrics.*.labels.*.auroc.value": SHARE.or_null(),
    "metrics.*.labels.*.average_precision": TABLE,
    "metrics.*.labels.*.average_precision.value": SHARE.or_null(),
    "metrics.fold_10?": TABLE,
    "metrics.fold_10.num_patients": COUNT,
}
"""Fields that programs read: path -> what it may hold. `?`: it may be missing; `*`: each key; `[]`: each item."""
EVALUATION_FIELDS: Mapping[str, Kind] = {
    "run": TABLE,
    "run.digest": TEXT,
    "run.row": TEXT,
    "run.trained_on": TEXT,
    "run.weights_sha256?": TEXT,
    "run.command": TEXT.or_null(),
    "dataset": TABLE,
    "dataset.name": TEXT,
    "dataset.content": TEXT,
    "dataset.licence": TEXT,
    "dataset.source": TEXT,
    "dataset.rate": COUNT,
    **{f"dataset.{key}?": TEXT for key in ("reader", "distribution", "module", "code_sha256")},
    "scored_on": TEXT,
    "corruptions": LIST,
    "corruptions[]": TEXT,
    "seed": COUNT,
    "source_rate?": COUNT.or_null(),
    "labels": TABLE,
    "labels.*": TABLE,
    "labels.*.codes": LIST,
    "labels.*.codes[]": TEXT,
    "labels.*.by": TEXT,
    "not_shared": LIST,
    "not_shared[]": TEXT,
    "metrics": TABLE,
    "metrics.num_records": COUNT,
    "metrics.num_patients": COUNT,
    **_of_macro("metrics"),
    "metrics.labels": TABLE,
    "metrics.labels.*": TABLE,
    "metrics.labels.*.num_positives": COUNT,
    "metrics.labels.*.auroc": TABLE,
    "metrics.labels.*.auroc.value": SHARE.or_null(),
}
"""Fields of an evaluation.json that programs read, see FIELDS."""


@dataclass
class _Field:
    """A field in the tree of FIELDS."""

    kinds: list[Kind] = dataclasses.field(default_factory=list)
    needed: bool = False
    inner: dict[str, _Field] = dataclasses.field(default_factory=dict)


def _tree(fields: Mapping[str, Kind]) -> _Field:
    root = _Field([TABLE])
    for path, kind in fields.items():
        at = root
        for step in path.removesuffix("?").replace("[]", ".[]").split("."):
            at = at.inner.setdefault(step, _Field())
        at.kinds.append(kind)
        at.needed = not path.endswith(("?", "*", "[]"))
    return root


TREE, EVALUATION_TREE = _tree(FIELDS), _tree(EVALUATION_FIELDS)


def faults(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of a result.json or of its head: missing fields, wrong values, forbidden characters."""
    yield from _faults(document, TREE, SENTENCES)


def evaluation_faults(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of an evaluation.json, see `faults`. Also a name unfit for paths, and labels without scores."""
    wrong = [*_faults(document, EVALUATION_TREE, EVALUATION_SENTENCES)]
    yield from wrong
    if not wrong and not NAME.fullmatch(name := document["dataset"]["name"]):
        yield f"dataset.name is {name[:40]!r}, expected letters, digits and . _ + -"
    if not wrong and (unscored := {*document["labels"]} - {*document["metrics"]["labels"]}):
        yield f"metrics.labels lacks {', '.join(sorted(unscored))}"


def _faults(document: Mapping[str, Any], tree: _Field, sentences: Container[str]) -> Iterator[str]:
    missing: list[str] = []
    for misfit in _misfits(document, tree, "", missing):
        yield _printable(misfit)
    if missing:
        yield _printable(f"it lacks {', '.join(missing)}")
    for field, text in _texts(document):
        if UNPRINTABLE.search(text) or (MARKUP.search(text) and field.partition(".")[0] not in sentences):
            yield _printable(f"{field} has characters that are not allowed in names and numbers: {text[:40]!a}")


def _misfits(value: Any, field: _Field, where: str, missing: list[str]) -> Iterator[str]:
    """Yield a sentence for each value that does not fit its field; append the paths of missing fields."""
    for kind in field.kinds:
        if not kind.holds(value):
            yield f"{where} is {_shown(value)}, expected {kind.expected}"
            return
    if isinstance(value, list):
        if (item := field.inner.get("[]")) is not None:
            for place, inner in enumerate(value):
                yield from _misfits(inner, item, f"{where}[{place}]", missing)
    elif isinstance(value, dict):
        for step, known in field.inner.items():
            for key in value if step == "*" else (step,):
                path = f"{where}.{key}" if where else key
                if key in value:
                    yield from _misfits(value[key], known, path, missing)
                elif known.needed:
                    missing.append(path)


def _printable(fault: str) -> str:
    """Return the sentence as a line, with ? for what cannot be printed: a field may have any name."""
    return UNPRINTABLE.sub("?", " ".join(fault.split()))


def unsafe(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield unsafe values of a document without `faults`: names unfit for paths, a command other than bench.

    Also values that do not fit each other.
    """
    for section, key in (("dataset", "name"), ("cell", "task"), ("task", "name")):
        if not NAME.fullmatch(name := document[section][key]):
            yield f"{section}.{key} is {name[:40]!r}, expected letters, digits and . _ + -"
    cell = document["cell"]
    if cell["task"] != document["task"]["name"]:
        yield f"cell.task is {cell['task']!r} and task.name {document['task']['name']!r}"
    if not 0 < cell["fraction"] <= 1:
        yield f"cell.fraction is {cell['fraction']}, not in (0, 1]"
    if document["stage"] not in ("val", "test", "part"):
        yield f"stage is {document['stage']!r}, not val, test or part"
    manifest = cell.get("manifest")
    if manifest is not None and "/" in manifest:
        yield f"cell.manifest is {manifest!r}, not the name of a file"
    if cell["command"] and not is_command(cell["command"]):
        yield f"cell.command is not a command line of bench: {cell['command'][:60]!r}"
    names = {"cell.arch": cell["arch"], "cell.method": cell["method"], "init.name": document["init"]["name"]}
    for field, text in [*names.items(), *(("task.labels", label) for label in document["task"]["labels"])]:
        if text.startswith(FORMULA):
            yield f"{field} is {text[:40]!r}, which a spreadsheet takes for a formula; expected a letter or digit first"
    yield from (f"it lacks {field}, as {reason}" for field, reason in _lacking(document))


def not_finite(value: Any, field: str = "") -> Iterator[str]:
    """Yield a sentence for each NaN and infinity, which JSON lacks but Python's reader accepts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from not_finite(inner, f"{field}.{key}" if field else key)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from not_finite(inner, f"{field}[{place}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield _printable(f"{field} is {value}, expected a finite number or null")


def _lacking(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the fields that a document without `faults` lacks because of what its other fields hold, with reasons."""
    init, facts = document["init"], document["init"].get("facts", {})
    environment = document.get("environment", {})
    is_scored = document["stage"] != "val" and document["incompatible"] is None
    if is_scored and "fold_10" not in document.get("metrics", {"fold_10": {}}):
        yield "metrics.fold_10", f"its stage is {document['stage']}"
    if document["cell"]["method"] == "external" and "scores" not in document:
        yield "scores", "its method is external"
    if "command" in facts and "trained_on" not in facts:
        yield "init.facts.trained_on", "init.facts has a command"
    if init["name"].startswith("file:") and not {"source", "facts"} <= init.keys():
        yield "init.source or init.facts", "its weights are of a file"
    if "device" in environment and "torch" not in environment:
        yield "environment.torch", "environment has a device"


def require_printable(document: Mapping[str, Any]) -> None:
    """Raise BenchError if the result of a run would have faults. Call this before the run."""
    if wrong := [*faults(document)] or [*unsafe(document)]:
        reason = "; ".join(wrong)
        raise BenchError(f"the result of this run could not be read again: {reason}; choose other names or numbers")


def is_command(text: str) -> bool:
    """Return whether a shell reads the text as a single call of `bench` and nothing else."""
    try:
        arguments = shlex.split(text)
    except ValueError:
        return False
    return arguments[:1] == ["bench"] and text in (" ".join(map(quoted, arguments)), shlex.join(arguments))


def is_installed(document: Mapping[str, Any]) -> bool:
    """Return whether packages hold method, backbone, task and data set of a result, and no file or notebook does."""
    sections = (document.get(kind) or {} for kind in ("method", "backbone", "task", "dataset"))
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


def _shown(value: Any) -> str:
    """Return the first characters of a value as JSON has it, escaped."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
