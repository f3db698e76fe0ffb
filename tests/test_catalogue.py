"""The catalogue is what the registry has, comes without importing it, and is made anew when anything has changed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.registry.catalogue import catalogue, counted_tasks
from bench.registry.registry import registry

METHOD = """
from dataclasses import dataclass
from bench.plugin import Method, register_method

@register_method("strange")
@dataclass
class Strange(Method):
    '''First words.'''
"""
LIST = (
    "import json, sys; from bench.registry.catalogue import catalogue; found = catalogue()\n"
    "entries = {e['name']: e['what'] for e in found.entries['methods']}\n"
    "print(json.dumps(['torch' in sys.modules, entries, dict(found.broken)]))"
)


@pytest.fixture
def listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[bool, dict[str, str], dict[str, str]]]:
    """Lists methods in a new process, with a stranger's package on the path: torch imported?, methods, broken."""
    path, about = tmp_path / "path", tmp_path / "path" / "strange-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[bench.plugins]\nany = strange\n")
    (path / "strange").mkdir()
    (path / "strange" / "__init__.py").write_text("")
    (path / "strange" / "method.py").write_text(METHOD)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(path))

    def run() -> tuple[bool, dict[str, str], dict[str, str]]:
        done = subprocess.run([sys.executable, "-c", LIST], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        imported, methods, broken = json.loads(done.stdout)
        return imported, methods, broken

    return run


@pytest.mark.slow
def test_is_made_anew_for_every_change_and_only_then(
    listed: Callable[[], tuple[bool, dict[str, str], dict[str, str]]], tmp_path: Path
) -> None:
    package = tmp_path / "path" / "strange"
    assert listed()[0], "the first listing imports everything"
    imported, methods, broken = listed()
    assert (imported, methods["strange"], broken) == (False, "First words.", {})
    assert set(methods) == {p.name for p in registry().of_kind("method")} | {"strange"}

    (package / "method.py").write_text(METHOD.replace("First", "Other"))
    assert listed()[:2] == (True, {**methods, "strange": "Other words."})
    (package / "second.py").write_text("import no_such_module")
    assert listed()[2] == {"strange.second": "ModuleNotFoundError: No module named 'no_such_module'"}
    imported, _, broken = listed()
    assert not imported and list(broken) == ["strange.second"], "broken plugins are reported from the cache too"

    (tmp_path / "path" / "strange-1.0.dist-info").rename(tmp_path / "path" / "strange-1.1.dist-info")
    assert listed()[0], "a version of anything installed has changed"
    (kept,) = (tmp_path / "cache").glob("catalogue-*.json")
    kept.write_text(kept.read_text()[:100])
    assert listed() == (True, {**methods, "strange": "Other words."}, broken), "what is not whole is no catalogue"


def test_says_what_a_backbone_is() -> None:
    archs = {entry["name"]: entry for entry in catalogue().entries["archs"]}

    assert archs["ecgfounder"]["parameters"] == 30_665_264
    assert archs["ecgfounder"]["init"] == "pretrained, random"
    assert archs["ecgfounder"]["what"].find("Weights: PKUDigitalHealth/ECGFounder; licence MIT;") > 0
    assert archs["ecg_jepa_weimann_s"]["init"] == "random"
    assert "Weights: not published, see https://github.com/kweimann/ECG-JEPA;" in archs["ecg_jepa_weimann_s"]["what"]
    assert archs["fcn_wang"] | {"what": "", "from": ""} == {
        "name": "fcn_wang",
        "parameters": 309_120,
        "Hz": 100,
        "window": "2.5 s",
        "residual": False,
        "init": "random",
        "what": "",
        "from": "",
    }


def test_says_what_may_be_set_and_what_it_is_otherwise() -> None:
    what = {entry["name"]: entry["what"] for entry in catalogue().entries["methods"] + catalogue().entries["archs"]}

    assert " Takes probe_epochs=30, probe_lr=" in what["lp"]
    assert "Takes" not in what["net1d_mini"]


def test_published_weights_have_their_terms() -> None:
    what = {entry["name"]: entry["what"] for entry in catalogue().entries["archs"]}

    assert what["ecgfounder"].endswith(
        "Weights: PKUDigitalHealth/ECGFounder; licence MIT; pre-trained on HEEDB; PTB-XL seen in pre-training: no "
        "(arXiv 2410.04133, where PTB-XL is an external test set; LICENSE of PKUDigitalHealth/ECGFounder; a third "
        "party's record of the hub's card)."
    )
    assert "Weights" not in what["net1d_mini"]


def test_counts_the_tasks_of_a_dataset(demo_set: Path) -> None:
    rows = {row["name"]: row for row in counted_tasks(demo_set)}

    assert rows["superdiag"]["labels"] == 5
    assert all(row["train"] + row["val"] + row["test"] == row["records"] for row in rows.values())


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:100],
        lambda text: "[]",
        lambda text: json.dumps({**json.loads(text), "entries": {}}),
        lambda text: json.dumps({"state": json.loads(text)["state"]}),
    ],
    ids=["cut off", "a list", "other entries", "no entries"],
)
def test_a_damaged_file_is_named_and_made_anew(
    damage: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    registry.cache_clear()
    first, notes = catalogue(pytest.fail), list[str]()
    (kept,) = tmp_path.glob("catalogue-*.json")
    kept.write_text(damage(kept.read_text()))
    registry.cache_clear()

    assert catalogue(notes.append) == first
    assert notes == [f"{kept} is damaged; the list is made anew"]
    assert catalogue(pytest.fail) == first


def test_another_distribution_with_a_package_of_our_name_is_noted(tmp_path: Path) -> None:
    """PyPI's frappe-bench installs a `bench` of its own."""
    about = tmp_path / "frappe_bench-5.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: frappe-bench\nVersion: 5.2\n")
    (about / "RECORD").write_text("bench/utils.py,,\nfrappe_bench-5.2.dist-info/METADATA,,\n")
    surroundings = {**os.environ, "PYTHONPATH": str(tmp_path), "BENCH_CACHE": str(tmp_path / "cache")}

    for _ in range(2):  # from the registry, then from the cache
        done = subprocess.run([sys.executable, "-m", "bench", "list"], env=surroundings, capture_output=True, text=True)

        assert done.returncode == 0, done.stderr
        assert done.stderr == (
            "note: frappe-bench installs a package bench too; give this project an environment of its own\n"
        )


def test_readers_of_data_sets_are_listed() -> None:
    entries = {entry["name"]: entry for entry in catalogue().entries["datasets"]}

    assert {"ptb-xl", "cpsc2018"} <= set(entries)
    assert entries["ptb-xl"]["what"] == "PTB-XL: ptbxl_database.csv, scp_statements.csv, records100/, records500/."
