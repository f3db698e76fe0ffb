"""The hash of a plugin's code: over its module and what it imports of its package, and nothing else."""

import hashlib
from pathlib import Path

import methods
from bench.registry.source import code_hash, declared_files


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
