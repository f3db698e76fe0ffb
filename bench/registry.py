"""Names become factories: whose plugin it is, what its hyper-parameters are, and what to say when a name is wrong."""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import pkgutil
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution, entry_points
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

from bench.errors import PluginError

Kind = Literal["method", "backbone", "task"]
T = TypeVar("T", bound=Callable[..., Any])
GROUP = "bench.plugins"


@dataclass(frozen=True)
class Plugin:
    """One registered name: what makes the thing, and where it comes from."""

    kind: Kind
    name: str
    make: Callable[..., Any]
    module: str
    distribution: str
    """Name and version of the package that brought it, such as `ptbxl-bench 0.1.0`."""

    @property
    def summary(self) -> str:
        """The first sentence of its docstring."""
        return (inspect.getdoc(self.make) or "").partition("\n\n")[0].replace("\n", " ")

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """Its hyper-parameters with their defaults, annotations resolved to types."""
        hints = typing.get_type_hints(self.make if is_dataclass(self.make) else _function(self.make))
        found = inspect.signature(self.make).parameters
        return {name: p.replace(annotation=hints.get(name, Any)) for name, p in found.items()}

    @property
    def code_hash(self) -> str:
        """SHA-256 over the source files that define it: its module and the modules of its package that it uses."""
        digest = hashlib.sha256()
        for file in sorted(_source_files(self.module)):
            digest.update(file.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Reference:
    """A name with arguments, written as the call it stands for: `lpft-sd(drop_path=0.3)`."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read `name` or `name(key=value, ...)`, values being Python literals."""
        name, parenthesis, rest = text.strip().partition("(")
        if not name or not name.replace("-", "_").isidentifier() or (parenthesis and not rest.endswith(")")):
            raise PluginError(f"expected name or name(key=value, ...), got {text!r}")
        try:
            call = ast.parse(f"f({rest[:-1]})" if parenthesis else "f()", mode="eval").body
            assert isinstance(call, ast.Call)
            arguments = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords if k.arg}
        except (SyntaxError, ValueError):
            raise PluginError(f"expected name or name(key=value, ...) with plain values, got {text!r}") from None
        if call.args or len(arguments) != len(call.keywords):
            raise PluginError(f"expected name or name(key=value, ...), got {text!r}")
        return cls(name, arguments)

    def __str__(self) -> str:
        inner = ", ".join(f"{key}={value!r}" for key, value in sorted(self.arguments.items()))
        return f"{self.name}({inner})" if inner else self.name


class Registry:
    """The plugins that are installed, by kind and name, and the modules that could not be imported."""

    def __init__(self) -> None:
        self.plugins: dict[tuple[Kind, str], Plugin] = {}
        self.broken: dict[str, str] = {}
        """Module -> why its import failed."""
        self._importing = "ptbxl-bench"

    def add(self, kind: Kind, name: str, make: Callable[..., Any]) -> None:
        key = (kind, _canonical(name))
        module = make.__module__
        if (taken := self.plugins.get(key)) and taken.module != module:
            raise PluginError(
                f"{kind} {name!r} is already registered by {taken.module}; {module} must choose another name"
            )
        self.plugins[key] = Plugin(kind, name, make, module, self._importing)

    def load(self) -> None:
        """Import every module of every package that an entry point names; a broken one costs its own names only."""
        for entry_point in sorted(entry_points(group=GROUP), key=lambda e: (e.value, e.name)):
            if entry_point.dist is None:
                continue
            self._importing = f"{entry_point.dist.name} {entry_point.dist.version}"
            package = entry_point.value
            if self._import(package, functools.partial(_import_from, entry_point.dist, package)):
                for info in pkgutil.iter_modules(getattr(sys.modules[package], "__path__", []), f"{package}."):
                    self._import(info.name, functools.partial(importlib.import_module, info.name))

    def _import(self, name: str, imported: Callable[[], object]) -> bool:
        before = dict(self.plugins)
        try:
            imported()
        except Exception as error:  # noqa: BLE001 - a stranger's module may fail in any way; the reason is kept and shown
            self.plugins = before
            self.broken[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            return False
        return True

    def find(self, kind: Kind, name: str) -> Plugin:
        """The plugin of that name, or a PluginError that suggests the nearest and names what failed to import."""
        plugin = self.plugins.get((kind, _canonical(name)))
        if plugin:
            return plugin
        known = {key: p.name for (k, key), p in sorted(self.plugins.items()) if k == kind}
        near = difflib.get_close_matches(_canonical(name), known, n=1)
        message = f"unknown {kind} {name!r}."
        message += f" Did you mean {known[near[0]]!r}?" if near else ""
        message += f" Known: {', '.join(known.values())}."
        for module, reason in self.broken.items():
            message += f" Plugin {module} failed to import: {reason}."
        raise PluginError(message)

    def of_kind(self, kind: Kind) -> list[Plugin]:
        return [plugin for (k, _), plugin in sorted(self.plugins.items()) if k == kind]


_REGISTRY = Registry()


@functools.cache
def registry() -> Registry:
    """The one registry, with every installed plugin imported."""
    _REGISTRY.load()
    return _REGISTRY


def find(kind: Kind, name: str) -> Plugin:
    """The plugin of that name. What is registered already is found without importing the others."""
    return _REGISTRY.plugins.get((kind, _canonical(name))) or registry().find(kind, name)


def register_method(name: str) -> Callable[[T], T]:
    """Class decorator: makes a Method known by `name`; its fields are its hyper-parameters."""
    return functools.partial(_registered, "method", name)


def register_backbone(name: str) -> Callable[[T], T]:
    """Decorator of a Backbone class, or of a function that makes one; its parameters are its hyper-parameters."""
    return functools.partial(_registered, "backbone", name)


def register_task(task: Any) -> None:
    """Make a Task known by its name."""
    make = lambda: task
    make.__module__ = task.labels_of.__module__
    make.__doc__ = task.description
    _REGISTRY.add("task", task.name, make)


def _registered(kind: Kind, name: str, make: T) -> T:
    _REGISTRY.add(kind, name, make)
    return make


def make(kind: Kind, reference: Reference) -> Any:
    """What a reference stands for, its arguments checked by name and type."""
    plugin = find(kind, reference.name)
    return plugin.make(**resolve(plugin, reference))


def resolve(plugin: Plugin, reference: Reference) -> dict[str, Any]:
    """All hyper-parameters of a plugin: its defaults with the reference's arguments over them."""
    parameters = plugin.parameters
    for name, value in reference.arguments.items():
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise PluginError(
                f"{plugin.kind} {plugin.name!r} has no hyper-parameter {name!r}.{hint} "
                f"It has: {', '.join(parameters) or 'none'}"
            )
        if not _fits(value, parameters[name].annotation):
            raise PluginError(
                f"{plugin.kind} {plugin.name!r}: hyper-parameter {name} takes "
                f"{_spell(parameters[name].annotation)}, got {value!r}"
            )
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in reference.arguments]
    if missing:
        raise PluginError(f"{plugin.kind} {plugin.name!r} needs {', '.join(missing)}")
    return {name: reference.arguments.get(name, p.default) for name, p in parameters.items()}


def _fits(value: object, hint: Any) -> bool:
    """Whether a literal is of an annotated type; int serves for float, bool never for a number."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Literal:
        return value in arguments
    if origin in (tuple, list):
        inner = arguments[0] if arguments else Any
        return isinstance(value, (tuple, list)) and all(_fits(one, inner) for one in value)
    if hint is None or hint is type(None):
        return value is None
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, (int, float))
    return isinstance(hint, type) and isinstance(value, hint)


def _spell(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(a) for a in typing.get_args(hint))
    return getattr(hint, "__name__", None) or str(hint)


def is_dataclass(make: object) -> bool:
    return isinstance(make, type) and hasattr(make, "__dataclass_fields__")


def _function(make: Callable[..., Any]) -> Callable[..., Any]:
    return make.__init__ if isinstance(make, type) else make  # type: ignore[misc]


def _canonical(name: str) -> str:
    return name.replace("-", "_")


def _import_from(dist: Distribution, package: str) -> None:
    """Import a package from the distribution that declares it, whatever else of that name the path offers."""
    file = _location(dist, package)
    present = sys.modules.get(package)
    if present is not None:
        if Path(present.__file__ or "").resolve() != file:
            raise ImportError(f"{package} of {dist.name} is hidden by {present.__file__}, which is already imported")
        return
    folders = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(package, file, submodule_search_locations=folders)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[package] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[package]
        raise


def _location(dist: Distribution, package: str) -> Path:
    """The file of a distribution's package or module, for a wheel as for an editable install (PEP 610)."""
    origin = json.loads(dist.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        project = Path(url2pathname(urlparse(origin["url"]).path))
        roots = [project, project / "src"]
    else:
        roots = [Path(str(dist.locate_file("")))]
    stem = package.replace(".", "/")
    for root in roots:
        for file in (root / stem / "__init__.py", root / f"{stem}.py"):
            if file.is_file():
                return file.resolve()
    raise ImportError(f"{dist.name} declares the package {package!r} in {GROUP} and does not hold it in {roots[0]}")


def _source_files(module: str) -> set[Path]:
    """The file of a module and of those modules of the same top-level package whose names it uses."""
    top, found, waiting = module.partition(".")[0], set[Path](), [module]
    seen = {module}
    while waiting:
        current = sys.modules[waiting.pop()]
        found.add(Path(str(current.__file__)))
        for value in vars(current).values():
            name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
            if isinstance(name, str) and name.partition(".")[0] == top and name in sys.modules and name not in seen:
                seen.add(name)
                waiting.append(name)
    return found
