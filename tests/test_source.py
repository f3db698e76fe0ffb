"""The hash of a plugin's code: over its module and the own code that it imports, and nothing else."""

import hashlib
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import methods
from bench.registry.source import _parsed, code_hash, declared_files

TEXT: dict[str, Any] = {"capture_output": True, "text": True, "check": True}


def test_the_hash_is_over_names_sizes_and_bytes() -> None:
    folder = Path(str(methods.__file__)).parent
    digest = hashlib.sha256()
    for name in ("methods.full_finetune", "methods.linear_probe", "methods.lpft"):
        source = (folder / f"{name.partition('.')[2]}.py").read_bytes()
        digest.update(f"{name} {len(source)}\n".encode() + source)

    assert code_hash("methods.lpft") == digest.hexdigest()


def test_within_limits_what_is_followed() -> None:
    alone = code_hash("methods.lpft", within=("methods.lpft",))

    assert alone not in ("", code_hash("methods.lpft"))
    source = (Path(str(methods.__file__)).parent / "lpft.py").read_bytes()
    assert alone == hashlib.sha256(f"methods.lpft {len(source)}\n".encode() + source).hexdigest()


def test_code_that_is_not_there_has_no_hash() -> None:
    assert code_hash("no_such_package.module") == ""
    assert code_hash("methods.no_such_module") == ""


def test_declared_files_are_those_of_all_plugins() -> None:
    names = {f"{path.parent.name}/{path.name}" for path in declared_files()}

    assert {"methods/lpft.py", "baselines/net1d.py"} <= names
    assert not any(name.startswith("bench/") for name in names)


def test_what_a_plugin_imports_from_beside_it_is_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helper_of_a.py").write_text("SCALE = 1\n")
    (tmp_path / "package_of_a").mkdir()
    (tmp_path / "package_of_a/__init__.py").write_text("")
    (tmp_path / "package_of_a/inner.py").write_text("SCALE = 1\n")
    (tmp_path / "unused_by_a.py").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/library_of_a.py").write_text("SCALE = 1\n")
    (tmp_path / "plugin_a.py").write_text(
        "import json, numpy\nimport helper_of_a\nfrom package_of_a.inner import SCALE\nimport library_of_a\n"
        "from bench.plugin import Method\nfrom baselines.net1d import Net1D\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    importlib.import_module("plugin_a")
    before = code_hash("plugin_a")

    assert before
    for changed in ("helper_of_a.py", "package_of_a/inner.py", "elsewhere/library_of_a.py", "plugin_a.py"):
        source = (tmp_path / changed).read_text()
        (tmp_path / changed).write_text(source + "# changed\n")
        assert code_hash("plugin_a") != before, changed
        (tmp_path / changed).write_text(source)
        assert code_hash("plugin_a") == before
    (tmp_path / "unused_by_a.py").write_text("# changed\n")
    assert code_hash("plugin_a") == before


def test_unchanged_code_is_not_searched_again_and_a_new_module_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package_of_c").mkdir()
    (tmp_path / "package_of_c/__init__.py").write_text("")
    (tmp_path / "package_of_c/plugin_c.py").write_text("def late():\n    from package_of_c import helper\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("package_of_c.plugin_c")
    before = code_hash("package_of_c.plugin_c")
    num_read = _parsed.cache_info()

    assert code_hash("package_of_c.plugin_c") == before
    assert _parsed.cache_info() == num_read

    (tmp_path / "package_of_c/helper.py").write_text("SCALE = 1\n")
    with_helper = code_hash("package_of_c.plugin_c")
    (tmp_path / "package_of_c/helper.py").write_text("SCALE = 2\n")
    assert len({before, with_helper, code_hash("package_of_c.plugin_c")}) == 3
    (tmp_path / "package_of_c/helper.py").unlink()
    assert code_hash("package_of_c.plugin_c") == before


def test_a_plugin_file_that_appears_has_a_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert code_hash("plugin_d") == ""

    (tmp_path / "plugin_d.py").write_text("")
    importlib.invalidate_caches()
    importlib.import_module("plugin_d")

    assert code_hash("plugin_d") != ""


def test_own_code_needs_no_import(tmp_path: Path) -> None:
    """`bench status` compares hashes without importing plugins, in other processes than those that ran them."""
    (tmp_path / "plugin_b.py").write_text("def late():\n    import helper_of_b\n")
    code = (
        "import importlib, sys; from bench.registry.source import code_hash; importlib.import_module('plugin_b'); "
        "alone = code_hash('plugin_b'); import helper_of_b; print(alone == code_hash('plugin_b'), alone)"
    )
    done = []
    for helper in ("SCALE = 1\n", "SCALE = 22\n"):
        (tmp_path / "helper_of_b.py").write_text(helper)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done.append(subprocess.run([sys.executable, "-c", code], env=environment, **TEXT).stdout)

    assert [line.split()[0] for line in done] == ["True", "True"]
    assert done[0] != done[1]
