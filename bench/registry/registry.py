"""The table of plugins: find a name, make its object with checked hyper-parameters, explain a wrong name."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import bench
from bench.errors import BenchError, PluginError, first_line, no_exit
from bench.registry.ranges import Range
from bench.registry.reference import Reference, canonical, is_name
from bench.registry.source import (
    GROUP,
    NOT_INSTALLED,
    NOTEBOOK,
    PLUGIN_FILES,
    code_hash,
    distribution_of,
    is_own,
    location,
    notebook_hash,
    plugin_files,
)

Kind = Literal["method", "backbone", "task", "dataset"]
T = TypeVar("T", bound=Callable[..., Any])
Outcome = TypeVar("Outcome")
OURS = "ptbxl-bench"


@dataclass(frozen=True)
class Plugin:
    """A registered plugin: its name, the class or function that makes it, and the package it comes from."""

    kind: Kind
    name: str
    make: Callable[..., Any]
    module: str
    distribution: str
    """Name and version of the package that registered it, such as `my-lab-nets 1.2`."""
    code_hash: str = ""
    """SHA-256 over the source files, or the notebook cell, that define it. It is taken when the plugin is registered,
    because a file that is edited later is not what this process runs."""

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return (inspect.getdoc(self.make) or "").partition("\n\n")[0].replace("\n", " ")

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """Hyper-parameters with defaults; annotations are resolved to types."""
        try:
            maker = self.make if is_dataclass(self.make) else _function(self.make)
            hints = typing.get_type_hints(maker, include_extras=True)
        except NameError as error:
            raise PluginError(
                f"{self.kind} {self.name!r} of {self.module} has a hyper-parameter of a type that is not known when it "
                f"runs: {error}; import it outside TYPE_CHECKING"
            ) from None
        return {name: p.replace(annotation=hints.get(name, Any)) for name, p in self.written.items()}

    @property
    def written(self) -> dict[str, inspect.Parameter]:
        """Hyper-parameters with annotations as written; `*args` and `**kwargs` are left out."""
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {name: p for name, p in inspect.signature(self.make).parameters.items() if p.kind in named}

    @property
    def has_defaults(self) -> bool:
        """Whether the plugin can be made without arguments."""
        return all(parameter.default is not parameter.empty for parameter in self.parameters.values())

    @property
    def file(self) -> Path | None:
        """The file that `--plugin` named, if it is from one."""
        return _loaded().get(self.module)


class Registry:
    """Installed plugins by kind and name, and modules that failed to import."""

    def __init__(self) -> None:
        self.plugins: dict[tuple[Kind, str], Plugin] = {}
        self.broken: dict[str, str] = {}
        """Module -> why its import failed."""
        self._importing = ""

    def add(self, kind: Kind, name: str, make: Callable[..., Any]) -> None:
        """Register a plugin. Raises PluginError if the name is taken or is not a valid name."""
        module = make.__module__
        if not is_name(name):
            raise PluginError(
                f"{module} registers {kind} {name!r}; a name is made of letters, digits, - and _, without a digit first"
            )
        key = (kind, canonical(name))
        # a third-party module may import ours, so who imports a module does not say whose plugins it registers
        ours = f"{OURS} {bench.__version__}" if is_own(module) else ""
        package = ours or self._importing or distribution_of(module)
        if not package and not module.endswith(".py") and self is _REGISTRY:
            registry()  # first, so that a notebook, a script or a module of a user takes no name of an installed plugin
        taken = self.plugins.get(key)
        if taken and (taken.module, taken.make.__qualname__) != (module, make.__qualname__):
            raise PluginError(
                f"{kind} {name!r} is already registered by {taken.module}; {module} must choose another name"
            )
        origin = package or f"{place_of(module)}{NOT_INSTALLED}"
        self.plugins[key] = Plugin(kind, name, make, module, origin, hash_of(make))

    def load(self) -> None:
        """Import each module of each package in the entry-point group; a module that fails is recorded in `broken`."""
        for entry_point in sorted(entry_points(group=GROUP), key=_ours_first):
            if entry_point.dist is None:
                continue
            self._importing = f"{entry_point.dist.name} {entry_point.dist.version}"
            package = entry_point.value
            if self._import(package, functools.partial(_import_from, entry_point.dist, package)):
                for info in pkgutil.iter_modules(getattr(sys.modules[package], "__path__", []), f"{package}."):
                    self._import(info.name, functools.partial(importlib.import_module, info.name))
        self._importing = ""
        for file in plugin_files():
            self.load_file(Path(file))

    def load_file(self, file: Path) -> None:
        """Run a plugin file, once. Its errors are raised as they are, because the user is its author.

        The module has the name of the file, such as `my_task.py`, which no import can mean. Raises PluginError where
        there is no such file, another one of the same name was loaded, it is no Python, or what it imports is missing.
        """
        path = Path(os.path.realpath(file))
        if not path.is_file() or path.suffix != ".py":
            raise PluginError(f"no plugin at {file}: expected a .py file that registers methods, backbones or tasks")
        present = sys.modules.get(path.name)
        if present is not None:
            if present.__file__ != str(path):
                raise PluginError(f"{file} and {present.__file__} have the same name; rename one of them")
            return
        spec = importlib.util.spec_from_file_location(path.name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.name] = module
        try:
            with no_exit():
                spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[path.name]
            self.plugins = {key: plugin for key, plugin in self.plugins.items() if plugin.module != path.name}
            if isinstance(error, SyntaxError | ImportError):
                raise PluginError(f"{file}: {type(error).__name__}: {first_line(error)}") from error
            raise

    def _import(self, name: str, imported: Callable[[], object]) -> bool:
        reason = why_it_fails(imported)
        if reason is None:
            self._claim(name)
            return True
        self.broken[name] = reason
        # plugins that other modules registered meanwhile stay, because an imported module does not run again
        self.plugins = {key: plugin for key, plugin in self.plugins.items() if plugin.module in sys.modules}
        return False

    def _claim(self, module: str) -> None:
        """Record the distribution of a module's plugins, also if the module was imported earlier by other code."""
        for key, plugin in self.plugins.items():
            if plugin.module == module:
                self.plugins[key] = replace(plugin, distribution=self._importing)

    def find(self, kind: Kind, name: str) -> Plugin:
        """Return the plugin of that name. Raises PluginError if there is none."""
        plugin = self.plugins.get((kind, canonical(name)))
        if plugin is None:
            raise self.unknown((kind,), name)
        return plugin

    def unknown(self, kinds: Sequence[Kind], name: str) -> PluginError:
        """Return the error for an unknown name: the nearest names, all names, and what failed to import."""
        known = {key: p.name for (k, key), p in sorted(self.plugins.items()) if k in kinds}
        near = difflib.get_close_matches(canonical(name), known, n=1)
        message = f"unknown {' or '.join(kinds)} {name!r}."
        message += f" Did you mean {known[near[0]]!r}?" if near else ""
        message += f" Known: {', '.join(known.values())}."
        return PluginError(" ".join([message, *(f"{each}." for each in self.not_imported())]))

    def not_imported(self) -> list[str]:
        """Return a text for each module that failed to import, with the reason."""
        return [f"Plugin {module} failed to import: {reason.rstrip('.')}" for module, reason in self.broken.items()]

    def kinds_of(self, name: str) -> list[Kind]:
        """Return the kinds that have a plugin of that name."""
        return [kind for kind, key in self.plugins if key == canonical(name)]

    def of_kind(self, kind: Kind) -> list[Plugin]:
        """Return the plugins of one kind, sorted by name."""
        return [plugin for (k, _), plugin in sorted(self.plugins.items()) if k == kind]


_REGISTRY = Registry()


@functools.cache
def registry() -> Registry:
    """Return the registry, with all installed plugins imported."""
    _REGISTRY.load()
    return _REGISTRY


def has_others() -> bool:
    """Return whether there may be plugins that are not ours: of a package, a file or this process. Imports none."""
    packages = {entry_point.dist.name for entry_point in entry_points(group=GROUP) if entry_point.dist is not None}
    registered = any(not plugin.distribution.startswith(f"{OURS} ") for plugin in _REGISTRY.plugins.values())
    return bool(packages - {OURS}) or bool(plugin_files()) or registered


def hash_of(make: Callable[..., Any]) -> str:
    """Return the SHA-256 over the source files that define a plugin; in a notebook over the cell that does."""
    module = make.__module__
    return code_hash(module) or (notebook_hash(make) if module == NOTEBOOK else "")


def load_plugin(file: Path | str) -> None:
    """Load a plugin file that is not installed, here and in the processes that are started from here."""
    registry().load_file(Path(file))
    path = str(Path(file).resolve())
    files = plugin_files()
    os.environ[PLUGIN_FILES] = os.pathsep.join([*files, *[path] * (path not in files)])


def _loaded() -> dict[str, Path]:
    """Return module -> file of the plugin files that this process was given."""
    files = [Path(name) for name in plugin_files()]
    return {file.name: file for file in files}


def place_of(module: str) -> str:
    """Return where a module that no package holds comes from, in words."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).name if file else "notebook" if module == NOTEBOOK else module


def find_optional(kind: Kind, name: str) -> Plugin | None:
    """Return the plugin of that name; None if there is none, as for a task of a data set's own labels."""
    key = (kind, canonical(name))
    return _REGISTRY.plugins.get(key) or registry().plugins.get(key)


def find(kind: Kind, name: str) -> Plugin:
    """Return the plugin of that name; import all plugins only if it is not registered yet."""
    return _REGISTRY.plugins.get((kind, canonical(name))) or registry().find(kind, name)


def find_registered(kind: str, name: str) -> Plugin | None:
    """Return the plugin of that name if it has been imported; import nothing."""
    return next((p for (k, key), p in _REGISTRY.plugins.items() if (k, key) == (kind, canonical(name))), None)


def reference_to(kind: Kind, make: Any) -> Reference:
    """Return the reference to a registered class or function, or to an object of a dataclass with its settings.

    Raises PluginError where it is not registered.
    """
    maker = make if isinstance(make, type) or not is_dataclass(type(make)) else type(make)
    plugin = next((p for p in _REGISTRY.of_kind(kind) if p.make is maker), None)
    if plugin is None:
        raise PluginError(
            f'{getattr(maker, "__name__", maker)} is no registered {kind}: write @register_{kind}("a-name") before it'
        )
    given = {} if maker is make else {name: getattr(make, name) for name in plugin.parameters}
    return normalize(kind, Reference(plugin.name, given))


def register_method(name: str) -> Callable[[T], T]:
    """Class decorator: register a Method under `name`. Its dataclass fields are its hyper-parameters."""
    return functools.partial(_registered, "method", name)


def register_backbone(name: str) -> Callable[[T], T]:
    """Decorator of a Backbone class or of a function that returns one. Its parameters are its hyper-parameters."""
    return functools.partial(_registered, "backbone", name)


def register_task(task: Any) -> None:
    """Register a Task under its name."""
    make = lambda: task
    make.__module__ = task.labels_of.__module__
    make.__qualname__ = getattr(task.labels_of, "__qualname__", task.name)
    make.__doc__ = task.description
    make.defined_by = task.labels_of  # type: ignore[attr-defined]
    _REGISTRY.add("task", task.name, make)


def register_dataset(name: str) -> Callable[[T], T]:
    """Decorator of a reader: a function from a folder to its Records, or to None if it does not recognise the folder.

    The Records that it returns have `dataset=name`.
    """
    return functools.partial(_registered, "dataset", name)


def _registered(kind: Kind, name: str, make: T) -> T:
    if isinstance(make, type) and (kind == "method" or is_dataclass(make)):
        _require_fields(kind, name, make)
    _REGISTRY.add(kind, name, make)
    return make


def why_it_fails(action: Callable[[], object]) -> str | None:
    """Run a third party's code; return the reason in one line if it fails, else None."""
    return attempt(action)[1]


def attempt(action: Callable[[], Outcome]) -> tuple[Outcome | None, str | None]:
    """Run a third party's code; return what it returns and None, or None and in one line the reason why it fails.

    This is the only place that catches every exception: one broken plugin must not stop the others.
    """
    try:
        return action(), None
    except (Exception, SystemExit) as error:  # noqa: BLE001
        words = " ".join(str(error).split())
        return None, f"{type(error).__name__}: {words}" if words else type(error).__name__


def normalize(kind: Kind, reference: Reference) -> Reference:
    """Return the canonical reference: the name as registered, arguments equal to their defaults left out."""
    plugin = find(kind, reference.name)
    arguments = resolve(plugin, reference)
    defaults = {name: p.default for name, p in plugin.parameters.items()}
    return Reference(
        plugin.name, {n: v for n, v in arguments.items() if defaults[n] is inspect.Parameter.empty or v != defaults[n]}
    )


def make(kind: Kind, reference: Reference) -> Any:
    """Make the object that a reference names.

    Raises PluginError for an argument of a wrong name, type or value. If the plugin fails on its arguments, the cause
    is kept: it may be a bug.
    """
    plugin = find(kind, reference.name)
    arguments = resolve(plugin, reference)
    try:
        return plugin.make(**arguments)
    except Exception as error:
        if isinstance(error, BenchError) or not reference.arguments:
            raise
        raise PluginError(f"{kind} {reference}: {type(error).__name__}: {first_line(error)}") from error


def resolve(plugin: Plugin, reference: Reference) -> dict[str, Any]:
    """Return all hyper-parameters of a plugin: the defaults, replaced by the reference's arguments."""
    parameters = plugin.parameters
    for name, value in reference.arguments.items():
        if name not in parameters:
            near = [each for each in parameters if name in each][:3] or difflib.get_close_matches(name, parameters, n=1)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise PluginError(
                f"{plugin.kind} {plugin.name!r} has no hyper-parameter {name!r}.{hint} "
                f"It has: {', '.join(parameters) or 'none'}"
            )
        if not _fits(value, parameters[name].annotation):
            raise PluginError(
                f"{plugin.kind} {plugin.name!r}: hyper-parameter {name} takes "
                f"{spell_type(parameters[name].annotation)}, got {value!r}"
            )
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in reference.arguments]
    if missing:
        raise PluginError(
            f"{plugin.kind} {plugin.name!r} needs {', '.join(missing)}; "
            f"write {plugin.name}({', '.join(f'{name}=...' for name in missing)})"
        )
    return {
        name: _converted(reference.arguments[name], p.annotation) if name in reference.arguments else p.default
        for name, p in parameters.items()
    }


def _converted(value: Any, hint: Any) -> Any:
    """Convert a literal to its annotated type, so that 1 and 1.0, or a list and a tuple, give the same setting."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return _converted(value, hint.__origin__)
    if origin in (typing.Union, types.UnionType):
        return _converted(value, next(member for member in typing.get_args(hint) if _fits(value, member)))
    if hint is float:
        return float(value)
    if origin in (tuple, list):
        inner = [_converted(item, member) for item, member in zip(value, _members(hint, len(value)), strict=True)]
        return tuple(inner) if origin is tuple else inner
    return value


def _fits(value: object, hint: Any) -> bool:
    """Return whether a literal has the annotated type, and lies in its ranges.

    An int passes as float; a bool never passes as a number.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is Annotated:
        return _fits(value, hint.__origin__) and all(each.has(value) for each in _ranges(hint))
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, member) for member in arguments)
    if origin is Literal:
        return any(type(value) is type(literal) and value == literal for literal in arguments)
    if origin in (tuple, list):
        if not isinstance(value, (tuple, list)):
            return False
        members = _members(hint, len(value))
        return len(members) == len(value) and all(map(_fits, value, members))
    if hint is None or hint is type(None):
        return value is None
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, (int, float))
    plain = origin or hint
    return isinstance(plain, type) and isinstance(value, plain)


def _ranges(hint: Any) -> list[Range]:
    """Return the ranges of an Annotated type."""
    return [each for each in hint.__metadata__ if isinstance(each, Range)]


def _members(hint: Any, num: int) -> tuple[Any, ...]:
    """Return the member types of a tuple or list annotation for a value with `num` members."""
    arguments = typing.get_args(hint) or (Any, ...)
    if typing.get_origin(hint) is list or arguments[-1:] == (...,):
        return (arguments[0],) * num
    return arguments


def spell_type(hint: Any) -> str:
    """Return the type of a hyper-parameter in words, with its ranges: `int of at least 1`."""
    if typing.get_origin(hint) is Annotated:
        return " ".join([spell_type(hint.__origin__), *map(str, _ranges(hint))])
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(a) for a in typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(spell_type, typing.get_args(hint)))
    if hint is type(None):
        return "None"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def is_dataclass(make: object) -> bool:
    """Return whether `make` is a dataclass type."""
    return isinstance(make, type) and hasattr(make, "__dataclass_fields__")


def _require_fields(kind: Kind, name: str, make: type) -> None:
    """Raise PluginError if an attribute of a class looks like a hyper-parameter, and no object would have its value.

    Without an annotation, or without `@dataclass` above the class, a value is no field: objects keep the default of the
    parent's field. All annotations of a method are fields or ClassVars; a backbone's bases annotate what they like.
    """
    right = f"write @dataclass(frozen=True) directly above class {{}}, below @register_{kind}"
    fields = {field for base in make.__mro__ for field in getattr(base, "__dataclass_fields__", {})}
    for base in make.__mro__:
        of_kind = kind == "method" or is_dataclass(base)
        decorated = "__dataclass_fields__" in vars(base)
        for attribute, hint in inspect.get_annotations(base).items() if of_kind and not decorated else ():
            if attribute not in fields and not re.match(r"(typing\.|t\.)?ClassVar\b", str(hint)):
                raise PluginError(
                    f"{kind} {name!r}: {base.__name__}.{attribute} has an annotation and is no dataclass field; "
                    f"{right.format(base.__name__)}, or annotate it as a ClassVar if it is no hyper-parameter"
                )
    for field in dataclasses.fields(make) if is_dataclass(make) else ():
        value = inspect.getattr_static(make, field.name, dataclasses.MISSING)
        in_slot = isinstance(value, types.MemberDescriptorType)
        if not in_slot and value is not field.default and value != field.default:
            owner = next(base.__name__ for base in make.__mro__ if field.name in vars(base))
            default = "no default" if field.default is dataclasses.MISSING else repr(field.default)
            raise PluginError(
                f"{kind} {name!r}: {owner}.{field.name} is {value!r}, but objects of {make.__name__} would have "
                f"{default}, that of the parent's field; {right.format(owner)}, and annotate the attribute, as in "
                f"{field.name}: {type(value).__name__} = {value!r}"
            )


def _function(make: Callable[..., Any]) -> Callable[..., Any]:
    return make.__init__ if isinstance(make, type) else make  # type: ignore[misc]


def _ours_first(entry_point: EntryPoint) -> tuple[bool, str, str]:
    """Sort key of entry points: this package first, so that no other package can take its names."""
    distribution = entry_point.dist.name if entry_point.dist else ""
    return distribution != OURS, distribution, entry_point.value


def _import_from(dist: Distribution, package: str) -> None:
    """Import a package from the distribution that declares it, even if sys.path has another of that name."""
    parent, _, name = package.rpartition(".")
    if parent:
        with contextlib.suppress(FileNotFoundError):  # a namespace package has no file of its own
            _import_from(dist, parent)
    file = location(dist, package)
    present = sys.modules.get(package)
    if present is not None:
        if not present.__file__ or Path(present.__file__).resolve() != file:
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
    if parent in sys.modules:
        setattr(sys.modules[parent], name, module)
