"""The interface for plugins is whole, and a plugin that uses it alone needs no other import."""

import ast
import inspect
from pathlib import Path

import pytest

from bench import plugin
from bench.registry import source

ROOT = Path(inspect.getfile(source)).parents[2]
SHIPPED = sorted(path for folder in ("methods", "baselines") for path in (ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("name", plugin.__all__)
def test_each_name_is_there_and_explained(name: str) -> None:
    thing = getattr(plugin, name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        assert thing.__doc__
        assert not thing.__doc__.startswith(f"{name}("), "the docstring that dataclasses make says nothing"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shipped_plugins_import_nothing_else_of_the_harness(path: Path) -> None:
    """They are what a stranger copies."""
    imported = {
        node.module
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "bench"
    }
    assert imported <= {"bench.plugin"}
