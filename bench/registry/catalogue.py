"""Facts that `bench list` prints about each plugin, kept in a cache file.

Importing all plugins takes seconds, as it imports torch. Checking that no source file and no installed version has
changed takes milliseconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bench
from bench.data.cache import cache_folder
from bench.files import read_bytes, write_at
from bench.registry.registry import OURS, Kind, Plugin, find, registry, spell_type, why_it_fails
from bench.registry.source import declared_files, plugin_files

if TYPE_CHECKING:
    from bench.data.tasks import Task
    from bench.training.published import PublishedCheckpoint

KINDS: Mapping[str, Kind] = {"tasks": "task", "methods": "method", "archs": "backbone", "datasets": "dataset"}


@dataclass(frozen=True)
class Catalogue:
    """Facts about each plugin, by kind and sorted by name, and the modules that failed to import."""

    entries: Mapping[str, list[dict[str, Any]]]
    """`tasks`, `methods`, `archs` and `datasets` -> one dict for each plugin."""
    broken: Mapping[str, str]
    """Module -> why its import failed."""
    shared: Mapping[str, list[str]]
    """Package of this project -> other distributions that install a package of the same name."""


def catalogue(note: Callable[[str], None] = lambda text: None) -> Catalogue:
    """Return the catalogue; from the cache file if nothing has changed since it was written.

    If the cache file is damaged, a note names it, and the catalogue is made anew. With plugin files it is not cached.
    """
    if plugin_files():
        return _made_anew()
    state = _state()
    # one file per environment, because several may share a cache
    file = cache_folder() / f"catalogue-v3-{hashlib.sha256(sys.prefix.encode()).hexdigest()[:16]}.json"
    if (kept := _kept(file, state, note)) is not None:
        return kept
    # plugins that were imported earlier may be older than the files on disk: then nothing is cached
    fresh = not registry.cache_info().currsize
    catalogue = _made_anew()
    if fresh:
        sha256 = _hash_of(catalogue.entries, catalogue.broken, catalogue.shared)
        _keep(file, json.dumps({"state": state, "sha256": sha256, **asdict(catalogue)}))
    return catalogue


def _made_anew() -> Catalogue:
    entries = {
        what: [_backbone_facts(p) if kind == "backbone" else _facts(p) for p in registry().of_kind(kind)]
        for what, kind in KINDS.items()
    }
    return Catalogue(entries, registry().broken, _shared_packages())


def _kept(file: Path, state: str, note: Callable[[str], None]) -> Catalogue | None:
    """Return the catalogue in a cache file; None if it is missing, of another state, or damaged, which is noted."""
    try:
        kept = json.loads(read_bytes(file).decode())
        if kept["sha256"] != _hash_of(kept["entries"], kept["broken"], kept["shared"]):
            raise ValueError("its content is not what was written")
        same = kept["state"] == state
        return Catalogue(kept["entries"], kept["broken"], kept["shared"]) if same else None
    except OSError:
        return None  # missing or unreadable
    except (ValueError, KeyError, TypeError, RecursionError):
        note(f"{file} is damaged; the list is made anew")
        return None


def counted_tasks(data: Path) -> list[dict[str, Any]]:
    """Return the tasks, each with its number of labels and records in the data set at `data`."""
    from bench.data.datasets import load_records
    from bench.data.info import counts_of
    from bench.data.tasks import tasks_of

    records = load_records(data)
    return [_counted(task, counts_of(records, task)) for task in tasks_of(records)]


def _counted(task: Task, counts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": task.name,
        "labels": len(counts["labels"]),
        **{key: counts[key] for key in ("records", "train", "val", "test")},
        "test patients": counts["patients"]["test"],
        "what": f"({counts['note']}) {task.description}" if counts["note"] else task.description,
    }


def describe(what: str, name: str, data: Path | None = None) -> dict[str, Any]:
    """Return facts about one of the plugins of a kind, its docstring as `text`, and its `hyper_parameters`.

    `what` is a key of `KINDS`. A task may be one of the data set at `data`, and is counted there. Raises PluginError
    for an unknown name.
    """
    if what == "tasks":
        return _described_task(name, data)
    plugin = find(KINDS[what], name)
    facts = _backbone_facts(plugin) if plugin.kind == "backbone" else _facts(plugin)
    beside = str(facts.pop("what")).removeprefix(_what(plugin)).strip()  # where a backbone's weights are
    text = "\n\n".join(filter(None, (inspect.getdoc(plugin.make), beside)))
    search = getattr(plugin.make, "search", {})
    rows = [
        {
            "name": each,
            "default": "" if p.default is p.empty else repr(p.default),
            "takes": spell_type(p.annotation),
            "search": str(search.get(each, "")),
        }
        for each, p in (plugin.parameters.items() if plugin.kind != "dataset" else ())
    ]
    return {**facts, "text": text, "hyper_parameters": rows}


def _described_task(name: str, data: Path | None) -> dict[str, Any]:
    from bench.data.datasets import load_records
    from bench.data.info import counts_of
    from bench.data.tasks import find_task

    records = load_records(data) if data else None
    task = find_task(name, records)
    facts = _counted(task, counts_of(records, task)) if records else _facts(find("task", task.name))
    text = facts.pop("what")
    return {**facts, "text": text, "hyper_parameters": []}


def _shared_packages() -> dict[str, list[str]]:
    """Return the other distributions that install a `bench`, `methods` or `baselines` too, as frappe-bench does."""
    owners = packages_distributions()
    others = {name: sorted({*owners.get(name, ())} - {OURS}) for name in (bench.__name__, "methods", "baselines")}
    return {name: named for name, named in others.items() if named}


def _state() -> str:
    """Return the SHA-256 over Python's version, installed distributions, and the source files of bench and plugins."""
    digest = hashlib.sha256(sys.version.encode())
    for folder in map(Path, sys.path):
        if folder.is_dir():
            installed = sorted(file.name for file in folder.iterdir() if file.suffix in (".dist-info", ".egg-info"))
            digest.update(f"{folder} {installed}\n".encode())
    for file in [*sorted(Path(bench.__file__).parent.rglob("*.py")), *declared_files()]:
        source = read_bytes(file)
        digest.update(f"{file} {len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()


def _hash_of(*content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _keep(file: Path, text: str) -> None:
    """Write the catalogue atomically. If the cache cannot be written, it is made anew next time."""
    with contextlib.suppress(OSError):
        write_at(file, text)


def _facts(plugin: Plugin) -> dict[str, Any]:
    return {"name": plugin.name, "what": _what(plugin), "from": plugin.distribution}


def _what(plugin: Plugin) -> str:
    """Return the plugin's first sentence and its hyper-parameters with defaults."""
    if plugin.kind == "dataset":
        return plugin.summary
    named = ", ".join(str(parameter.replace(annotation=parameter.empty)) for parameter in plugin.written.values())
    return f"{plugin.summary} Takes {named}." if named else plugin.summary


def _weights(published: PublishedCheckpoint) -> str:
    """Return where published weights are, their terms, and where these are stated."""
    stated = f" ({published.source})" if published.source else ""
    return f"Weights: {published.spelled_where}; {published.spelled_terms}{stated}."


def _backbone_facts(plugin: Plugin) -> dict[str, Any]:
    """Return the facts of a backbone with default hyper-parameters; if it cannot be made, the reason."""
    import torch

    from bench.training.model import Backbone, DropPath, count_parameters

    made: list[Backbone] = []

    def make() -> None:
        backbone = plugin.make()
        if not isinstance(backbone, Backbone):
            raise TypeError(f"makes a {type(backbone).__name__}, expected a bench.plugin.Backbone")
        made.append(backbone)

    def make_without_memory() -> None:
        with torch.device("meta"):
            make()

    missing = [name for name, p in plugin.parameters.items() if p.default is p.empty]
    reason = f"needs {', '.join(missing)}" if missing else why_it_fails(make_without_memory) and why_it_fails(make)
    if reason:
        facts: dict[str, Any] = dict.fromkeys(("parameters", "Hz", "window", "residual", "init"), "-")
        return {"name": plugin.name, **facts, "what": f"({reason}) {_what(plugin)}", "from": plugin.distribution}
    backbone = made[-1]
    spec, published = backbone.signal_spec, backbone.checkpoint
    return {
        "name": plugin.name,
        "parameters": count_parameters(backbone),
        "Hz": spec.rate,
        "window": "all" if spec.window_s is None else f"{spec.window_s:g} s",
        "residual": any(isinstance(module, DropPath) for module in backbone.modules()),
        "init": "pretrained, random" if published and not published.withheld else "random",
        "what": _what(plugin) + (f" {_weights(published)}" if published else ""),
        "from": plugin.distribution,
    }
