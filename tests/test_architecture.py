"""The walls of the house: who may import whom, what stays free of torch, and what no file may be called."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGINS = ("methods", "baselines")
EXAMPLES = ROOT / "bench/demo/examples"  # scripts as users write them, and no modules
FILES = sorted(
    file for top in ("bench", *PLUGINS) for file in (ROOT / top).rglob("*.py") if not file.is_relative_to(EXAMPLES)
)
BENCH = [file for file in FILES if file.is_relative_to(ROOT / "bench")]

MAY_KNOW = {
    "data": {"data"},
    "demo": {"data", "demo"},
    "evaluation": {"data", "evaluation"},
    "training": {"data", "evaluation", "training"},
    "results": {"data", "evaluation", "results"},
    "boards": {"data", "evaluation", "results", "boards"},
    "pages": {"data", "evaluation", "results", "boards", "pages"},
    "console": {"data", "evaluation", "results", "boards", "pages", "console"},
}
"""Room -> rooms that it imports, at module level or later. What is in DOORS is open to all."""
ROOMS = (*MAY_KNOW, "registry", "launch")
WITHOUT_TORCH = ("data", "demo", "evaluation", "results", "boards", "pages", "console")
NAMES = tuple(f"bench.registry.{name}" for name in ("findings", "ranges", "reference", "registry", "source"))
DOORS = {"bench", "bench.drawing", "bench.errors", "bench.files", "bench.processes", "bench.processor", *NAMES}


def name_of(file: Path) -> str:
    """The module's name."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path, *, at_module_level: bool = False) -> Iterator[str]:
    """Modules that a file imports, as they are written; `from x import y` gives x.y where that is a module."""
    waiting: list[ast.AST] = [ast.parse(file.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            base = node.module or ""
            for alias in node.names:
                module = ROOT / f"{base}.{alias.name}".replace(".", "/")
                yield f"{base}.{alias.name}" if module.with_suffix(".py").exists() or module.is_dir() else base
        elif at_module_level and isinstance(node, ast.FunctionDef | ast.Lambda):
            continue
        waiting += ast.iter_child_nodes(node)


def room_of(module: str) -> str:
    """`data` of bench.data.datasets.ptbxl; empty for what lies beside the rooms."""
    parts = module.split(".")
    return parts[1] if parts[0] == "bench" and len(parts) > 1 and parts[1] in ROOMS else ""


def test_there_is_something_to_look_at() -> None:
    assert {room_of(name_of(file)) for file in BENCH} == {*ROOMS, ""}
    assert len(FILES) > 40


@pytest.mark.parametrize("file", [f for f in FILES if f not in BENCH], ids=name_of)
def test_plugins_know_the_door_and_nothing_else_of_bench(file: Path) -> None:
    assert {module for module in imports(file) if module.split(".")[0] == "bench"} <= {"bench.plugin"}


@pytest.mark.parametrize("file", BENCH, ids=name_of)
def test_bench_knows_no_plugin_by_name(file: Path) -> None:
    assert not [module for module in imports(file) if module.split(".")[0] in PLUGINS]


@pytest.mark.parametrize("file", [f for f in BENCH if room_of(name_of(f)) in MAY_KNOW], ids=name_of)
def test_rooms_know_only_the_rooms_before_them(file: Path) -> None:
    me = name_of(file)
    known = {module for module in imports(file) if module.split(".")[0] == "bench"} - DOORS

    strangers = {module for module in known if room_of(module) not in MAY_KNOW[room_of(me)]}

    assert not strangers


@pytest.mark.parametrize("name", sorted(DOORS - {"bench"}))
def test_what_is_open_to_all_knows_no_room(name: str) -> None:
    known = set(imports(ROOT / f"{name.replace('.', '/')}.py"))
    assert {module for module in known if module.split(".")[0] == "bench"} <= DOORS


def test_only_what_sits_on_top_knows_the_spine() -> None:
    above = {"bench.cli", "bench.verbs", "bench.launch", "bench.__main__"}
    above |= {"bench.registry.backbone_checks", "bench.registry.method_checks", "bench.registry.published_weights"}
    knowing = {name_of(f) for f in BENCH if {"bench.execute", "bench.cli"} & set(imports(f))}

    assert {name if name in above else name.rpartition(".")[0] for name in knowing} <= above


LIGHT = ["bench", "bench.verbs", "bench.cli", "bench.registry.catalogue", *NAMES, "bench.cell"] + [
    name_of(file) for file in BENCH if room_of(name_of(file)) in WITHOUT_TORCH
]


def test_boards_scores_and_help_need_no_torch() -> None:
    code = "import sys, importlib\n"
    for name in LIGHT:
        code += f"importlib.import_module({name!r}); assert 'torch' not in sys.modules, {name!r}\n"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_a_run_imports_no_more_than_it_uses_at_once() -> None:
    """Each of these takes a tenth of a second or more, and a probe on cached features lasts one second."""
    late = ["scipy.signal", "scipy.stats", "scipy.ndimage", "sklearn", "wfdb", "huggingface_hub", "matplotlib", "wandb"]

    assert imported_of(late, "bench.execute") == []


def test_boards_import_what_draws_and_computes_only_where_something_is_new() -> None:
    late = ["matplotlib", "scipy.optimize", "scipy.stats", "scipy.signal", "sklearn", "multiprocessing.forkserver"]

    assert imported_of(late, "bench.pages.leaderboards") == []


def imported_of(names: list[str], module: str) -> list[str]:
    """Return which of these modules a new process imports with `module`."""
    code = f"import sys, {module}; print(*[name for name in {names} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("file", [f for f in BENCH if room_of(name_of(f)) == "evaluation"], ids=name_of)
def test_evaluation_never_imports_torch(file: Path) -> None:
    assert not [module for module in imports(file) if module.split(".")[0] in ("torch", "pandas", "rich")]


@pytest.mark.parametrize("file", [f for f in BENCH if room_of(name_of(f)) in WITHOUT_TORCH[3:]], ids=name_of)
def test_results_boards_and_pages_never_import_torch(file: Path) -> None:
    assert not [module for module in imports(file) if module.split(".")[0] == "torch"]


def test_everything_is_caught_only_where_plugins_are_loaded_made_and_checked() -> None:
    places = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if not isinstance(node, ast.ExceptHandler):
                continue
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            caught = {kind.id if isinstance(kind, ast.Name) else None if kind is None else "" for kind in kinds}
            reraised = any(isinstance(last, ast.Raise) and last.exc is None for last in node.body[-1:])
            if caught & {None, "Exception", "BaseException"} and not reraised:
                places.append(name_of(file))

    assert sorted(places) == ["bench.registry.findings", "bench.registry.registry", "bench.registry.registry"]


MAY_WRITE = {
    "bench.console.tracking": {'open("a")'},  # log.jsonl grows line by line
    "bench.data.connection": {"open(?)"},  # an interrupted download is resumed
    "bench.data.matlab": {'open("wb")', "open_memmap"},  # part by part, into a folder that is not whole yet
    "bench.data.prepared": {"open_memmap"},  # readers fill the signals, in a folder that is not whole yet
    "bench.launch.workers": {"open"},  # what a worker prints
    "bench.results.run_folder": {"open"},  # reads a lock that it may not write
    "bench.registry.trials": {"copytree"},  # checkpoints of a trial in a temporary folder
    "bench.training.memory": {"write_text"},  # /proc/self/clear_refs
}
"""Module -> what it does beside bench.files."""


def calls(file: Path) -> Iterator[tuple[ast.Call, ast.expr | None, str, str]]:
    """The calls of a file: node, what stands before the dot, the name called, and the former if it is a name."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            of = node.func.value if isinstance(node.func, ast.Attribute) else None
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            yield node, of, name, of.id if isinstance(of, ast.Name) else ""


def mode_of(node: ast.Call, of: ast.expr | None) -> list[ast.expr]:
    """The mode of a call of `open`, a method of a path or the function, if it is given."""
    return [*node.args[0 if of else 1 :], *(word.value for word in node.keywords if word.arg == "mode")]


def writes(file: Path) -> Iterator[str]:
    """The calls of a file that write to disk, rename or replace, apart from those to streams that it has opened."""
    for node, of, name, module in calls(file):
        to_stream = any(isinstance(one, ast.Name) and one.id in ("stream", "picture", "buffer") for one in node.args)
        if name == "open" and module == "os":
            yield "open"
        elif name == "open" and module not in ("wave", "Image"):
            mode = mode_of(node, of)
            if mode and not isinstance(mode[0], ast.Constant):
                yield "open(?)"
            elif mode and set(str(mode[0].value)) & set("wax+"):  # type: ignore[attr-defined]
                yield f'open("{mode[0].value}")'  # type: ignore[attr-defined]
        elif (
            name in ("write_text", "write_bytes", "rename", "renames", "open_memmap", "mkstemp", "NamedTemporaryFile")
            or (name == "replace" and len(node.args) == 1 and not node.keywords and module != "dataclasses")
            or (module == "os" and name in ("replace", "rename", "link"))
            or (module == "shutil" and name in ("move", "copy", "copy2", "copyfile", "copytree"))
        ):
            yield name
        elif name in ("save", "savez", "savez_compressed", "savetxt", "savefig", "tofile") and of and not to_stream:
            if module in ("torch", "np") or name == "savefig":
                yield name
        elif name == "to_csv" and node.args:
            yield name


def test_files_are_written_and_renamed_in_one_place() -> None:
    found = {name_of(file): set(writes(file)) for file in BENCH if name_of(file) != "bench.files"}
    beside = {name: kinds - MAY_WRITE.get(name, set()) for name, kinds in found.items()}

    assert not {name: kinds for name, kinds in beside.items() if kinds}
    assert not {name: kinds - found[name] for name, kinds in MAY_WRITE.items() if kinds - found[name]}


def test_writing_is_noticed(tmp_path: Path) -> None:
    lines = [
        'path.write_text("x")', 'path.write_bytes(b"x")', 'open(path, "w")', 'path.open("wb")', 'path.open(mode="a")',
        "path.open(mode)", "os.replace(a, b)", "path.rename(b)", "path.replace(b)", "shutil.copyfile(a, b)",
        "np.save(path, x)", "torch.save(x, path)", 'figure.savefig(path, format="svg")', "frame.to_csv(path)",
    ]  # fmt: skip
    for line in lines:
        (tmp_path / "a.py").write_text(line)
        assert list(writes(tmp_path / "a.py")), line
    for line in ('text.replace("a", "b")', "path.open()", 'path.open("rb")', "np.save(stream, x)", "frame.to_csv()"):
        (tmp_path / "a.py").write_text(line)
        assert not list(writes(tmp_path / "a.py")), line


MAY_READ = {
    "bench.data.label_codes": {"open"},  # a table of this package
    "bench.data.prepared": {"open"},  # a file that this process has just created
    "bench.data.waveforms": {"fromfile"},  # thousands of records; after require_file
    "bench.launch.claims": {"read_text"},  # /proc
    "bench.pages.html": {"read_text"},  # files of this package and of itables
    "bench.registry.source": {"read_bytes"},  # imported code
    "bench.training.memory": {"read_text"},  # /proc
}
"""Module -> what it reads beside bench.files."""


def reads(file: Path) -> Iterator[str]:
    """The calls of a file that open a path for reading and would wait for ever if it is a pipe."""
    for node, of, name, module in calls(file):
        if (name == "read_bytes" and of) or (name == "read_text" and of and not node.args):
            yield name
        elif name == "open" and module not in ("wave", "Image", "os", "tarfile"):
            mode = mode_of(node, of)
            if not mode or (isinstance(mode[0], ast.Constant) and not set(str(mode[0].value)) & set("wax+")):
                yield name
        elif name == "fromfile":
            yield name


def test_files_are_opened_for_reading_in_one_place() -> None:
    """bench.files refuses pipes and devices, which a stranger may have named result.json."""
    found = {name_of(file): set(reads(file)) for file in BENCH if name_of(file) != "bench.files"}

    assert {name: kinds for name, kinds in found.items() if kinds} == MAY_READ


def test_reading_is_noticed(tmp_path: Path) -> None:
    lines = ["path.read_text()", "path.read_bytes()", "open(path)", 'path.open("rb")', "path.open(encoding='utf-8')"]
    for line in lines:
        (tmp_path / "a.py").write_text(line)
        assert list(reads(tmp_path / "a.py")), line
    for line in ("read_bytes(path)", 'path.open("wb")', "os.open(path, flags)", 'metadata.read_text("METADATA")'):
        (tmp_path / "a.py").write_text(line)
        assert not list(reads(tmp_path / "a.py")), line


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_module_is_a_junk_room(file: Path) -> None:
    words = set(file.stem.split("_")) | set(file.relative_to(ROOT).parts)
    assert not words & {"utils", "util", "common", "base", "manager", "helper", "helpers", "misc"}


@pytest.mark.parametrize("file", BENCH, ids=name_of)
def test_what_is_public_says_what_it_gives(file: Path) -> None:
    """Modules, public functions and classes; methods too, unless a base class in the same file documents them."""
    tree = ast.parse(file.read_bytes())
    assert ast.get_docstring(tree)
    silent = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not silent


def test_every_package_is_in_the_wheel() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {name_of(file) for file in FILES if file.name == "__init__.py"}

    assert set(listed) == there | {"bench.published"}  # leaderboards/ under another name


def test_every_file_beside_the_code_is_in_the_wheel() -> None:
    import tomllib

    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    tracked = subprocess.run(["git", "ls-files", "bench"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    packages = {file.parent for file in FILES if file.name == "__init__.py"}
    beside = [ROOT / name for name in tracked.split() if Path(name).suffix not in (".py", ".md")]
    lacking = [
        file.name
        for file in beside
        if file.parent in packages
        and not any(file.match(pattern) for pattern in data.get(".".join(file.parent.relative_to(ROOT).parts), ()))
    ]

    assert {"html.css", "html.js"} <= {file.name for file in beside}
    assert lacking == []
