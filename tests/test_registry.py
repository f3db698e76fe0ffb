"""Names and references: how they are read and printed, what is said of a wrong one, and what a broken module costs."""

import hashlib
import importlib
import itertools
import linecache
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from bench.errors import PluginError
from bench.plugin import Backbone, Method, Task, register_backbone, register_method, register_task
from bench.registry import source
from bench.registry.reference import Reference
from bench.registry.registry import (
    _REGISTRY,
    Plugin,
    Registry,
    find,
    find_registered,
    make,
    normalize,
    registry,
    resolve,
    why_it_fails,
)
from bench.registry.source import code_hash


def test_the_kinds_of_a_name() -> None:
    names = Registry()
    names.add("method", "my-net", Recipe)
    names.add("backbone", "my_net", Recipe)

    assert names.kinds_of("my-net") == names.kinds_of("my_net") == ["method", "backbone"]
    assert names.kinds_of("net") == []


def test_dash_and_underscore_are_the_same() -> None:
    assert find("method", "lpft_sd") is find("method", "lpft-sd")
    assert normalize("method", Reference("lpft_sd")) == Reference("lpft-sd")


def test_all_spellings_of_one_thing_are_normalized_to_one() -> None:
    assert normalize("method", Reference.parse("lpft_sd(drop_path_rate=0.5, probe_lr=1)")) == Reference(
        "lpft-sd", {"probe_lr": 1.0}
    )


def test_an_unknown_name_suggests_the_nearest_and_lists_all() -> None:
    with pytest.raises(
        PluginError, match=r"unknown method 'lp_tf'. Did you mean 'lpft'\? Known: .*ft-official.*scratch"
    ):
        find("method", "lp_tf")


@dataclass
class Recipe:
    """A recipe."""

    needed: int
    lr: float = 0.1
    nesterov: bool = False
    name: str = "a"
    clip: float | None = None
    kind: Literal["one", "two"] = "one"
    widths: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 0.5)
    steps: list[int] = field(default_factory=lambda: [1])


RECIPE = Plugin("method", "recipe", Recipe, __name__, "test 0")


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        ("lr=1", "lr", 1.0),
        ("clip=None", "clip", None),
        ("clip=2", "clip", 2.0),
        ("kind='two'", "kind", "two"),
        ("widths=[3]", "widths", (3,)),
        ("widths=()", "widths", ()),
        ("pair=(2, 1)", "pair", (2, 1.0)),
        ("steps=(1, 2)", "steps", [1, 2]),
        ("nesterov=True", "nesterov", True),
    ],
)
def test_values_that_fit_their_type_come_back_in_it(arguments: str, key: str, value: object) -> None:
    resolved = resolve(RECIPE, Reference.parse(f"recipe(needed=1, {arguments})"))

    assert resolved[key] == value
    assert type(resolved[key]) is type(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("needed=1.0", "needed takes int, got 1.0"),
        ("needed=True", "needed takes int, got True"),
        ("needed=1, lr='x'", "lr takes float, got 'x'"),
        ("needed=1, lr=True", "lr takes float, got True"),
        ("needed=1, lr=None", "lr takes float, got None"),
        ("needed=1, nesterov=1", "nesterov takes bool, got 1"),
        ("needed=1, name=1", "name takes str, got 1"),
        ("needed=1, clip='x'", "clip takes float or None, got 'x'"),
        ("needed=1, kind='three'", "kind takes one of 'one', 'two', got 'three'"),
        ("needed=1, widths=(1, 2.5)", r"widths takes tuple\[int, ...\], got \(1, 2.5\)"),
        ("needed=1, widths=3", "widths takes"),
        ("needed=1, pair=(1, 2, 3)", "pair takes"),
        ("needed=1, lrr=2", "has no hyper-parameter 'lrr'. Did you mean 'lr'. It has: needed, lr, nesterov"),
        ("needed=1, width=2", "Did you mean 'widths'"),
        ("needed=1, est=2", "no hyper-parameter 'est'. Did you mean 'nesterov'"),
        ("needed=1, i=2", "Did you mean 'clip' or 'kind' or 'widths'"),
        ("lr=1", r"needs needed; write recipe\(needed=...\)"),
    ],
)
def test_a_wrong_hyper_parameter_is_named_with_what_was_expected(arguments: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        resolve(RECIPE, Reference.parse(f"recipe({arguments})"))


def test_open_ended_arguments_are_no_hyper_parameters() -> None:
    class Net:
        """A class that takes what its parents take."""

        def __init__(self, depth: int = 2, *args: Any, **kwargs: Any) -> None: ...

    assert list(Plugin("backbone", "net", Net, __name__, "").parameters) == ["depth"]


def test_our_plugins_say_whose_they_are() -> None:
    for kind, name in (("method", "ft"), ("backbone", "net1d_mini"), ("task", "all")):
        assert find(kind, name).distribution.startswith("ptbxl-bench ")  # type: ignore[arg-type]


def test_make_gives_the_thing_with_its_hyper_parameters() -> None:
    assert make("method", Reference.parse("lp(probe_epochs=3)")).probe_epochs == 3


def test_a_name_can_be_taken_once() -> None:
    def one() -> None: ...
    def other() -> None: ...

    names = Registry()
    names.add("method", "mine", one)
    names.add("method", "mine", one)
    names.add("backbone", "mine", other)

    names.add("method", "mi-ne", one)
    with pytest.raises(PluginError, match=r"method 'mi_ne' is already registered by .*must choose another name"):
        names.add("method", "mi_ne", other)


def test_a_name_that_no_reference_could_spell_is_refused() -> None:
    with pytest.raises(PluginError, match="a name is made of letters"):
        Registry().add("method", "my method", Recipe)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ValueError("one\ntwo"), "ValueError: one two"),
        (KeyboardInterrupt(), None),
        (SystemExit(3), "SystemExit: 3"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_any_failure_of_a_strangers_code_becomes_one_line(failure: BaseException, reason: str | None) -> None:
    def fail() -> None:
        raise failure

    if reason is None:
        with pytest.raises(type(failure)):
            why_it_fails(fail)
    else:
        assert why_it_fails(fail) == reason


NUMBERS = itertools.count()
Package = Callable[[dict[str, str]], str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Writes a distribution with one package of these files into the path, and gives the package's name."""
    written: list[str] = []

    def write(files: dict[str, str]) -> str:
        name = f"strange_{next(NUMBERS)}"
        written.append(name)
        for file, text in {"__init__.py": "", **files}.items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / file).write_text(textwrap.dedent(text).replace("PACKAGE", name))
        about = tmp_path / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[bench.plugins]\nany = {name}\n")
        return name

    registry()  # ours register once a process, and must do so with the real one
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("bench.registry.registry._REGISTRY", Registry())
    yield write
    for module in [m for m in sys.modules if m.partition(".")[0] in written]:
        del sys.modules[module]


def loaded() -> Registry:
    """The registry as a new process would have it; ours are imported already and register nothing."""
    from bench.registry import registry as module

    module._REGISTRY.load()
    return module._REGISTRY


GOOD = """
    from dataclasses import dataclass
    from bench.plugin import Method, register_method

    @register_method("NAME")
    @dataclass
    class Mine(Method):
        '''Mine.'''
        lr: float = 0.1
"""


def test_a_broken_module_costs_its_own_names_only(package: Package) -> None:
    name = package(
        {
            "a_good.py": GOOD.replace("NAME", "a-good"),
            "broken.py": GOOD.replace("NAME", "half") + "\n    import PACKAGE.z_good, no_such_module\n",
            "exits.py": "raise SystemExit('bye')",
            "z_good.py": GOOD.replace("NAME", "z-good"),
        }
    )
    found = loaded()

    assert [plugin.name for plugin in found.of_kind("method")] == ["a-good", "z-good"]
    assert found.broken == {
        f"{name}.broken": "ModuleNotFoundError: No module named 'no_such_module'",
        f"{name}.exits": "SystemExit: bye",
    }
    assert found.find("method", "z_good").distribution == f"{name} 1.0"
    with pytest.raises(
        PluginError, match=rf"Plugin {name}.broken failed to import: ModuleNotFoundError: .*no_such_mod"
    ):
        found.find("method", "half")


def test_a_module_imported_before_the_registry_is_of_its_package(package: Package, tmp_path: Path) -> None:
    """And one of the same name, from elsewhere, is not."""
    name = package({"mine.py": GOOD.replace("NAME", "mine")})
    (tmp_path / "beside.py").write_text(textwrap.dedent(GOOD.replace("NAME", "beside")))
    importlib.import_module(f"{name}.mine")
    importlib.import_module("beside")

    assert find("method", "mine").distribution == f"{name} 1.0"
    assert find("method", "beside").distribution == "beside.py, not installed"
    del sys.modules["beside"]


def test_a_module_of_a_user_takes_no_name_of_an_installed_plugin(tmp_path: Path) -> None:
    (tmp_path / "my_methods.py").write_text(textwrap.dedent(GOOD.replace("NAME", "ft")))
    script = """
        from bench.errors import PluginError
        try:
            import my_methods
        except PluginError as error:
            print(error)
        from bench.registry.registry import find
        print(find("method", "ft").module, find("method", "lpft-sd").module)
    """

    shown = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    assert shown[0] == "method 'ft' is already registered by methods.full_finetune; my_methods must choose another name"
    assert shown[1] == "methods.full_finetune methods.lpft"


def test_a_cell_of_a_notebook_that_is_put_back_has_its_own_hash() -> None:
    """IPython names a cell by its text, so a text that comes back keeps its place among those that linecache has."""
    hashes = []
    for rate in (0.1, 0.2, 0.1):
        text = f"class Mine:\n    rate = {rate}\n    def phases(self):\n        return self.rate\n"
        name = f"/tmp/ipykernel_1/{rate}.py"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        made: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(text, name, "exec"), made)
        hashes.append(source.notebook_hash(made["Mine"]))
        assert hashes[-1] == hashlib.sha256(text.encode()).hexdigest()

    assert hashes[0] == hashes[2] != hashes[1]


def test_a_task_of_a_notebook_has_the_hash_of_its_cell() -> None:
    text = "def labels_of(code, statement):\n    return [code]\n"
    name = "/tmp/ipykernel_1/task.py"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), made)

    register_task(Task("of-a-cell", "Of a cell.", made["labels_of"]))

    plugin = _REGISTRY.plugins.pop(("task", "of_a_cell"))
    assert source.notebook_hash(plugin.make) == hashlib.sha256(text.encode()).hexdigest()


def test_a_strangers_second_choice_of_our_name_is_his_loss(package: Package) -> None:
    first, second = (package({"mine.py": GOOD.replace("NAME", "the-same")}) for _ in range(2))
    found = loaded()

    assert found.find("method", "the-same").distribution == f"{first} 1.0"
    assert "already registered by" in found.broken[f"{second}.mine"]


def test_a_package_that_is_not_the_distributions_own_is_refused(package: Package, tmp_path: Path) -> None:
    name = package({"mine.py": GOOD.replace("NAME", "mine")})
    hiding = tmp_path / "elsewhere"
    (hiding / name).mkdir(parents=True)
    (hiding / name / "__init__.py").write_text("")
    sys.path.insert(0, str(hiding))
    importlib.import_module(name)

    assert f"{name} of {name} is hidden by {hiding}" in (loaded().broken[name])


def test_a_package_that_the_distribution_lacks_is_named(package: Package, tmp_path: Path) -> None:
    name = package({})
    (tmp_path / f"{name}-1.0.dist-info" / "entry_points.txt").write_text("[bench.plugins]\nany = no_such_package\n")

    assert f"{name} declares the package 'no_such_package'" in loaded().broken["no_such_package"]


@pytest.mark.parametrize(
    ("imported", "counts"),
    [
        ("from PACKAGE.other import RATE", True),
        ("from .other import RATE", True),
        ("from . import other", True),
        ("import PACKAGE.other", True),
        ("def late():\n    from PACKAGE import other", True),
        ("from PACKAGE.middle import X", True),
        ("", False),
    ],
)
def test_the_code_hash_follows_what_a_module_uses_of_its_package(
    package: Package, tmp_path: Path, imported: str, counts: bool
) -> None:
    name = package(
        {
            "mine.py": f"{imported}\n" + textwrap.dedent(GOOD.replace("NAME", "hashed")),
            "middle.py": "from .other import RATE as X",
            "other.py": "RATE = 1",
        }
    )
    plugin = loaded().find("method", "hashed")
    before = plugin.code_hash
    assert before == code_hash(plugin.module)

    (tmp_path / name / "other.py").write_text("RATE = 2")

    assert (code_hash(plugin.module) != before) is counts
    (tmp_path / name / "mine.py").write_text("changed = 1")
    assert code_hash(plugin.module) != before
    assert plugin.code_hash == before, "this process runs what it has imported"


def test_a_file_is_parsed_again_only_after_a_change(package: Package, tmp_path: Path) -> None:
    name = package({"mine.py": textwrap.dedent(GOOD.replace("NAME", "hashed")), "other.py": "RATE = 1"})
    plugin, file = loaded().find("method", "hashed"), tmp_path / name / "mine.py"
    before = plugin.code_hash
    num_parsed = source._parsed.cache_info().misses

    assert code_hash(plugin.module) == before
    assert source._parsed.cache_info().misses == num_parsed

    times = file.stat()
    file.write_text(file.read_text().replace("float", "FLOAT"))  # of the same size, and then of the same time
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert code_hash(plugin.module) != before
    assert source._parsed.cache_info().misses > num_parsed


def test_hyper_parameters_of_an_unknown_type_are_the_plugins_fault(package: Package) -> None:
    package({"mine.py": "from __future__ import annotations\n" + textwrap.dedent(GOOD).replace("float", "Unheard")})

    with pytest.raises(PluginError, match="hyper-parameter of a type that is not known"):
        resolve(loaded().find("method", "NAME"), Reference("NAME"))


def test_everything_that_is_registered_has_a_summary() -> None:
    for kind in ("task", "method", "backbone"):
        for plugin in registry().of_kind(kind):
            assert plugin.summary


@dataclass(frozen=True)
class Long(Method):
    """A method with hyper-parameters, from which others inherit."""

    epochs: int = 30
    parts: tuple[str, ...] = field(default_factory=tuple)


class NoAnnotation(Long):
    epochs = 100


class NoDecorator(Long):
    epochs: int = 100


class NewAttribute(Long):
    warmup: float = 0.1


class OverAFactory(Long):
    parts = ("head",)


class NoDataclass(Method):
    epochs: int = 30


@dataclass(frozen=True)
class OfAPlainParent(NoAnnotation):
    warmup: float = 0.1


WRITE = "write @dataclass(frozen=True) directly above class"


@pytest.mark.parametrize("decorate", [dataclass(frozen=True), lambda kind: kind], ids=["decorated", "not decorated"])
def test_a_value_that_no_object_would_have_is_refused(decorate: Callable[[type], type]) -> None:
    with pytest.raises(PluginError) as caught:
        register_method("long")(decorate(NoAnnotation))

    assert str(caught.value) == (
        "method 'long': NoAnnotation.epochs is 100, but objects of NoAnnotation would have 30, that of the parent's "
        f"field; {WRITE} NoAnnotation, below @register_method, and annotate the attribute, as in epochs: int = 100"
    )


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (NoDecorator, f"NoDecorator.epochs is 100, but objects of NoDecorator would have 30, .*{re.escape(WRITE)} NoD"),
        (NewAttribute, r"NewAttribute\.warmup has an annotation and is no dataclass field; write @dataclass"),
        (OverAFactory, r"OverAFactory\.parts is \('head',\), but objects of OverAFactory would have no default"),
        (
            NoDataclass,
            r"NoDataclass\.epochs has an annotation and is no dataclass field; .* or annotate it as a ClassVar",
        ),
        (
            OfAPlainParent,
            rf"NoAnnotation\.epochs is 100, but objects of OfAPlainParent .*{re.escape(WRITE)} NoAnnotation",
        ),
    ],
)
def test_an_attribute_that_is_no_field_is_named_with_its_class(kind: type, named: str) -> None:
    with pytest.raises(PluginError, match=named):
        register_method("long")(kind)
    assert find_registered("method", "long") is None


def test_a_backbone_that_is_a_dataclass_is_held_to_its_fields_too() -> None:
    @dataclass(eq=False)
    class Net(Backbone):
        depth: int = 2

    class Deep(Net):
        depth = 50

    with pytest.raises(PluginError, match=r"backbone 'deep': Deep\.depth is 50, but objects of Deep would have 2"):
        register_backbone("deep")(Deep)


def test_class_variables_slots_factories_and_values_as_in_the_field_are_no_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_REGISTRY, "plugins", dict(_REGISTRY.plugins))

    @dataclass(frozen=True, slots=True)
    class Slotted(Method):
        _: KW_ONLY
        epochs: int = 30
        parts: tuple[str, ...] = field(default_factory=tuple)
        kind: ClassVar[str] = "a"
        needs_signals = False

    class Same(Long):
        epochs = 30
        shown: "ClassVar[int]" = 3

    assert register_method("slotted")(Slotted) is Slotted
    assert register_method("same")(Same) is Same
    assert make("method", Reference("same", {"epochs": 3})).epochs == 3
