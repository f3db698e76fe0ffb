"""What `bench new` writes; that it installs and passes `bench check` is tests/test_plugins.py's."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest

from bench.data.datasets import load_records
from bench.errors import BenchError
from bench.registry.registry import _REGISTRY, registry
from bench.registry.scaffold import write_plugin


def test_a_package_is_written_whole(tmp_path: Path) -> None:
    folder = write_plugin("backbone", "my_net", tmp_path)

    assert sorted(path.name for path in folder.iterdir()) == ["my_net.py", "pyproject.toml", "test_my_net.py"]
    assert 'my_net = "my_net"' in (folder / "pyproject.toml").read_text()
    assert "class MyNet(Backbone)" in (folder / "my_net.py").read_text()


def test_a_hyphen_is_the_names_and_not_the_modules(tmp_path: Path) -> None:
    folder = write_plugin("method", "my-method", tmp_path)

    assert folder.name == "my-method"
    assert sorted(path.name for path in folder.iterdir()) == ["my_method.py", "pyproject.toml", "test_my_method.py"]
    assert 'my-method = "my_method"' in (folder / "pyproject.toml").read_text()
    assert '@register_method("my-method")' in (folder / "my_method.py").read_text()
    for file in folder.glob("*.py"):
        compile(file.read_text(), file, "exec")


@pytest.mark.parametrize("name", ["-net", "2net", "my net", "MyNet", ""])
def test_a_name_that_python_cannot_import_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BenchError, match="cannot be a package"):
        write_plugin("method", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "name"), [("method", "lpft-sd"), ("backbone", "lpft_sd"), ("method", "net1d-mini")])
def test_a_name_that_is_taken_is_refused(tmp_path: Path, kind: Literal["method", "backbone"], name: str) -> None:
    """Else `bench check` would look at the other."""
    with pytest.raises(BenchError, match="of the name"):
        write_plugin(kind, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [("method", "phase"), ("backbone", "block"), ("backbone", "none"), ("method", "class"), ("method", "json")],
)
def test_a_name_that_hides_another_is_refused(tmp_path: Path, kind: Literal["method", "backbone"], name: str) -> None:
    with pytest.raises(BenchError, match="has a meaning"):
        write_plugin(kind, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_plugin("method", "mine", tmp_path)

    with pytest.raises(BenchError, match="exists already"):
        write_plugin("method", "mine", tmp_path)


def test_a_reader_reads_the_folder_that_its_test_makes(tmp_path: Path) -> None:
    """Without the installation, which tests/test_plugins.py tries."""
    folder = write_plugin("dataset", "my-lab-set", tmp_path)
    module = load(folder / "my_lab_set.py")
    try:
        registered = registry().find("dataset", "my-lab-set")
        assert registered.make is module.read
        assert registered.summary == "One sentence for `bench list`."
        (made := tmp_path / "made").mkdir()
        load(folder / "test_my_lab_set.py").test_my_lab_set_passes_every_check(made)
        assert load_records(made).name.startswith("my-lab-set-")
    finally:
        _REGISTRY.plugins.pop(("dataset", "my_lab_set"))


def load(file: Path) -> ModuleType:
    """Import a file under its own name."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
