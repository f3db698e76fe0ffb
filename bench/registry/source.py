"""Find a plugin's source files and hash them."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import importlib.util
import json
import linecache
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, entry_points
from pathlib import Path
from typing import Any

GROUP = "bench.plugins"
PLUGIN_FILES = "BENCH_PLUGINS"
"""Environment variable: plugin files that are not installed, separated as in $PATH; child processes inherit it."""
NOTEBOOK = "__main__"
"""Module of what a notebook or a script defines itself."""
NOT_INSTALLED = ", not installed"
"""End of the name of a distribution that is a file or a notebook."""


def plugin_files() -> list[str]:
    """Return the plugin files that are not installed, as $BENCH_PLUGINS names them."""
    return list(filter(None, os.environ.get(PLUGIN_FILES, "").split(os.pathsep)))


def declared_files() -> list[Path]:
    """Return the source files of all packages in the entry-point group; for a single module, also those beside it."""
    files: set[Path] = set()
    for entry_point in entry_points(group=GROUP):
        if entry_point.dist is not None:
            with contextlib.suppress(FileNotFoundError):  # the registry reports it when it imports the package
                file = location(entry_point.dist, entry_point.value)
                files |= set(file.parent.rglob("*.py") if file.name == "__init__.py" else file.parent.glob("*.py"))
    return sorted(files)


def distribution_of(module: str) -> str:
    """Return name and version of the package that declares an imported module in the entry-point group; else empty."""
    file = Path(getattr(sys.modules.get(module), "__file__", None) or "").resolve()
    for entry_point in entry_points(group=GROUP):
        if entry_point.dist is not None and f"{module}.".startswith(f"{entry_point.value}."):
            with contextlib.suppress(FileNotFoundError):  # the registry reports it when it imports the package
                home = location(entry_point.dist, entry_point.value)
                if file == home or home.parent in file.parents:
                    return f"{entry_point.dist.name} {entry_point.dist.version}"
    return ""


def location(dist: Distribution, package: str) -> Path:
    """Return the file of a distribution's package or module, from a wheel or an editable install (PEP 610)."""
    from urllib.parse import urlparse  # late, because it brings much that few commands need
    from urllib.request import url2pathname

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
    raise FileNotFoundError(
        f"{dist.name} declares the package {package!r} in {GROUP} and does not hold it in "
        + " or ".join(map(str, roots))
    )


def code_hash(module: str, within: Sequence[str] = ()) -> str:
    """Return the SHA-256 over a plugin's module and the modules that it imports: of its package, and other own code.

    Own code is a package of the entry-point group, or a file that is not installed, such as one beside the plugin's. If
    an entry point names a package, its files are located without an import. The hash is empty if there are no files.
    `within` restricts the files, and the imports that are followed, to these packages and modules.
    """
    key = module, tuple(within)
    known = _hashes.get(key)
    # where no file is found, no folder shows that one has appeared
    if known is None or not known.places or known.state != _state(known.names, known.places):
        known = _hashes[key] = _hashed(module, within)
    return known.sha256


@dataclass(frozen=True)
class _Hashed:
    """A hash and what it follows from: it holds as long as no file, folder or imported module has changed."""

    sha256: str
    names: tuple[str, ...]
    """Modules that were read, and each imported name as a module (`a.b` of `from a import b`): it may be one."""
    places: tuple[str, ...]
    """Files, and the folders in which further ones would be."""
    state: tuple[object, ...]


_hashes: dict[tuple[str, tuple[str, ...]], _Hashed] = {}
"""Six hashes of a cell, each over dozens of files, take 60 ms if they are searched for the imports of all."""


def _hashed(module: str, within: Sequence[str]) -> _Hashed:
    files, seen = _source_files(module, within)
    names, places = tuple(seen), tuple({str(place) for file in files.values() for place in (file, file.parent)})
    state = _state(names, places)  # before files are read: one that changes now is read again next time
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        source, _ = _read(file)
        digest.update(f"{name} {len(source)}\n".encode())
        digest.update(source)
    return _Hashed(digest.hexdigest() if files else "", names, places, state)


def _state(names: Sequence[str], places: Sequence[str]) -> tuple[object, ...]:
    """Return the files of modules that are imported, and the times and sizes of files and folders."""
    return tuple(getattr(sys.modules.get(name), "__file__", None) for name in names), tuple(map(_times, places))


def _times(place: str) -> tuple[int, ...]:
    try:
        status = os.stat(place)  # noqa: PTH116, a Path is made in the time of a call
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(file: Path) -> tuple[bytes, ast.Module]:
    """Return a file's content and its imports as a module; from memory if neither its times nor its size changed."""
    status = file.stat()
    return _parsed(file, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@functools.lru_cache(maxsize=1024)
def _parsed(file: Path, *_: int) -> tuple[bytes, ast.Module]:
    """Read and parse a file: all hashes of a process take 0.3 s if each parses the files of the harness anew."""
    source = file.read_bytes()
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return source, ast.Module(body=list[ast.stmt](imports), type_ignores=[])


def _source_files(module: str, within: Sequence[str] = ()) -> tuple[dict[str, Path], set[str]]:
    """Return name -> file of a module and, recursively, of what it imports, see `code_hash`; and all names in these."""
    rooms = tuple(within) or (module.partition(".")[0],)
    files, waiting, seen = dict[str, Path](), [module], set[str]()
    beside: Path | None = None
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)  # most are names in a module and no modules: each would be searched for at every import
        inside = any(name == room or name.startswith(f"{room}.") for room in rooms)
        home = _own_file(name.partition(".")[0], beside) if beside and not inside and not within else None
        file = _source_file(name, home) if inside or home else None
        if file is None:
            continue
        beside = beside or file.parent
        files[name] = file
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for node in _read(file)[1].body:
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                waiting += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return files, seen


@functools.cache
def _own_file(package: str, beside: Path) -> Path | None:
    """Return the file of a top-level package or module that is own code, or None. It need not be imported."""
    if package == "bench" or package in sys.stdlib_module_names:
        return None
    if (declared := _home(package)) is not None:
        return declared
    spec = None
    with contextlib.suppress(ImportError, ValueError):  # ValueError: a module without a specification, such as a script
        spec = importlib.util.find_spec(package)
    places = [Path(spec.origin)] if spec and spec.origin else []
    places += [beside / f"{package}.py", beside / package / "__init__.py"]
    installed = {"site-packages", "dist-packages"}
    return next(
        (file for file in places if file.suffix == ".py" and file.is_file() and not installed & {*file.parts}), None
    )


def _source_file(module: str, home: Path | None = None) -> Path | None:
    """Return the file of a module: as imported, or in the folder of its package, whose file is `home`, if known."""
    if (present := _imported_file(module)) is not None:
        return present
    if module in sys.modules:
        return None
    top, _, rest = module.partition(".")
    home = home or _imported_file(top) or _home(top)
    if home is None or (rest and home.name != "__init__.py"):
        return None
    stem = home.parent / rest.replace(".", "/") if rest else home
    return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py", stem) if file.is_file()), None)


def _imported_file(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file and file.endswith(".py") else None


@functools.cache
def _home(package: str) -> Path | None:
    """Return the file of a top-level package in the entry-point group, or None."""
    for entry_point in entry_points(group=GROUP):
        if entry_point.dist is not None and entry_point.value.partition(".")[0] == package:
            with contextlib.suppress(FileNotFoundError):
                return location(entry_point.dist, package)
    return None


def can_import(module: str) -> bool:
    """Return whether another process can import this module: it is neither a notebook, a script nor a plugin file."""
    return module != NOTEBOOK and not module.endswith(".py")


def is_notebook(module: str) -> bool:
    """Return whether a module is a notebook. A plugin's hash there is of its own cell, not of others."""
    return module == NOTEBOOK and _imported_file(module) is None


def is_own(module: str) -> bool:
    """Return whether a module belongs to `bench`."""
    return module.partition(".")[0] == "bench"


def is_at_top(function: object) -> bool:
    """Return whether a function is defined at the top of a module, from where other processes can import it."""
    name = str(getattr(function, "__qualname__", "<"))
    return "<" not in name and name == getattr(function, "__name__", "")


def function_hash(function: Callable[..., Any]) -> str:
    """Return the SHA-256 over the code of a plugin's function, see `code_hash`; empty for functions of `bench`."""
    module = function.__module__
    return "" if is_own(module) else code_hash(module) or notebook_hash(function)


def notebook_hash(make: Callable[..., Any]) -> str:
    """Return the SHA-256 over the notebook cell that defines a class or function; empty if its source is not known."""
    source = _notebook_cell(make)
    return hashlib.sha256(source.encode()).hexdigest() if source else ""


def _notebook_cell(make: Callable[..., Any]) -> str:
    """Return the text of the cell, which Jupyter keeps in `linecache`.

    A function knows its cell. A class without functions does not: then it is the last cell with a class of its name.
    """
    make = getattr(make, "defined_by", make)
    # entries of files have a time; others, such as the functions that `dataclass` makes, are not there
    cells = {name: "".join(entry[2]) for name, entry in linecache.cache.items() if len(entry) == 4 and entry[1] is None}
    for part in (make, *(vars(make).values() if isinstance(make, type) else ())):
        code = getattr(part, "__code__", None)
        if code and code.co_filename in cells:
            return cells[code.co_filename]
    begins = re.compile(rf"^class {make.__name__}\b", re.MULTILINE)
    return next((cell for cell in reversed(cells.values()) if begins.search(cell)), "")
