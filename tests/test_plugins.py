"""Plugins as users install them: a stranger's package, ours as a wheel and as an editable install, and shadows."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
LEFT_OUT = ("all", "rhythm", "subdiag")
"""Tasks whose published results the packages of these tests do not carry, to be quick."""
PROJECT = """
    [build-system]
    requires = ["setuptools"]
    build-backend = "setuptools.build_meta"
    [project]
    name = "my-lab-nets"
    version = "1.2"
    entry-points."bench.plugins".lab = "my_lab"
    [tool.setuptools]
    packages = ["my_lab"]
"""
PLUGIN = '''
    """A method and a backbone of somebody else."""

    from collections.abc import Sequence
    from dataclasses import dataclass

    from torch import Tensor, nn

    from bench.plugin import (
        Backbone, Method, Phase, SignalSpec, Task, register_backbone, register_method, register_task
    )

    register_task(
        Task(
            "normal",
            "a normal ECG: yes or no",
            lambda code, statement: ["NORM"] if code == "NORM" else [],
            keeps_unlabeled=True,
        )
    )
    register_task(
        Task(
            "superdiag50",
            "classes that are at least 50 % likely",
            lambda code, statement: [statement["diagnostic_class"]] if statement["diagnostic"] == 1 else [],
            min_likelihood=50,
        )
    )


    @register_method("warm-head")
    @dataclass(frozen=True)
    class WarmHead(Method):
        """The head alone, with a learning rate of its own."""

        epochs: int = 2
        lr: float = 1e-2

        def phases(self, layer_groups: Sequence[str]) -> list[Phase]:
            return [Phase(name="warm", learning_rates={"head": self.lr}, epochs=self.epochs)]


    @register_backbone("tiny_pool")
    class TinyPool(Backbone):
        """Means over tenths of the record, mixed once: [record, lead, time] -> [record, 8]."""

        def __init__(self, parts: int = 10) -> None:
            super().__init__()
            self.signal_spec, self.feature_dim = SignalSpec(100, "zscore"), 8
            self.layers = nn.Sequential(nn.AdaptiveAvgPool1d(parts), nn.Flatten(), nn.Linear(12 * parts, 8))

        def forward(self, signals: Tensor) -> Tensor:
            return self.layers(signals)
'''


class Venv:
    """A fresh environment that sees the packages of this one, and none of this one's editable installs.

    Its working folder holds folders of the names of ours, which must not shadow them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        subprocess.run(
            [sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", str(folder)], check=True
        )
        self.python = folder / "bin" / "python"
        site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        (Path(site) / "this_environment.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self.work.mkdir()
        for top, module in (("methods", "lp"), ("methods", "linear_probe"), ("baselines", "net1d")):
            (self.work / top).mkdir(exist_ok=True)
            (self.work / top / f"{module}.py").write_text("raise RuntimeError('the shadow ran')\n")
        (self.work / "methods" / "__init__.py").write_text("")  # and baselines/ without one

    def install(self, *words: object) -> None:
        """By pip, from files, without the network."""
        options = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed"]
        subprocess.run(
            [sys.executable, "-m", "pip", f"--python={self.python}", *options, *map(str, words)],
            check=True,
            env=self.environment(),
        )

    def bench(self, *words: object) -> subprocess.CompletedProcess[str]:
        """`python -m bench WORDS` in its working folder, which python then puts first on the path."""
        return subprocess.run(
            [str(self.python), "-m", "bench", *map(str, words)],
            cwd=self.work,
            env=self.environment(),
            capture_output=True,
            text=True,
        )

    def environment(self) -> dict[str, str]:
        """This process's, without what would lead past the environment."""
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return {**kept, "COLUMNS": "200"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of our source tree, so that building leaves nothing in it."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("bench", "methods", "baselines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "leaderboards", folder / "leaderboards", ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel_venv(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """Ours as a wheel, and a stranger's package."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(tree)], check=True)
    stranger = folder / "stranger"
    (stranger / "my_lab").mkdir(parents=True)
    (stranger / "pyproject.toml").write_text(textwrap.dedent(PROJECT))
    (stranger / "my_lab" / "__init__.py").write_text("")
    (stranger / "my_lab" / "nets.py").write_text(textwrap.dedent(PLUGIN))
    (stranger / "my_lab" / "broken.py").write_text("import no_such_module\n")
    venv = Venv(folder / "venv")
    venv.install(next(folder.glob("ptbxl_bench-*.whl")), stranger)
    return venv


@pytest.fixture(scope="module")
def editable_venv(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """Ours as an editable install."""
    venv = Venv(tmp_path_factory.mktemp("editable") / "venv")
    venv.install("--editable", tree)
    return venv


@pytest.mark.slow
def test_a_strangers_package_is_listed_with_where_it_comes_from(wheel_venv: Venv) -> None:
    done = wheel_venv.bench("list", "methods")
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.split()}

    assert done.returncode == 0, done.stderr
    assert "The head alone, with a learning rate of its own." in rows["warm-head"]
    assert "my-lab-nets 1.2" in rows["warm-head"]
    assert "ptbxl-bench " in rows["ft"]
    assert " ".join(done.stderr.split()) == (
        "plugin my_lab.broken failed to import: ModuleNotFoundError: No module named 'no_such_module'"
    )


@pytest.mark.slow
def test_a_strangers_method_and_backbone_run(wheel_venv: Venv, demo_set: Path) -> None:
    words = ["--task", "superdiag", "--arch", "tiny-pool(parts=5)", "--method", "warm_head(epochs=1)"]
    done = wheel_venv.bench("run", *words, "--data", demo_set, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)

    assert result["cell"]["method"] == "warm-head(epochs=1)"
    assert result["backbone"]["distribution"] == "my-lab-nets 1.2"
    assert result["backbone"]["resolved"] == {"parts": 5}
    assert len(result["backbone"]["code_sha256"]) == 64
    assert result["metrics"]["fold_10"]["num_records"] > 0


@pytest.mark.slow
def test_a_strangers_tasks_are_counted_run_and_boarded(wheel_venv: Venv, demo_set: Path) -> None:
    listed = wheel_venv.bench("list", "tasks", "--data", demo_set, "--json")
    assert listed.returncode == 0, listed.stderr
    rows = {row["name"]: row for row in json.loads(listed.stdout)["tasks"]}
    assert rows["normal"]["labels"] == 1 and rows["normal"]["records"] == 240
    assert rows["superdiag50"]["labels"] == 5 and rows["superdiag50"]["records"] < rows["superdiag"]["records"]

    words = ["--task", "normal", "--arch", "tiny_pool", "--method", "lp(probe_epochs=1)", "--init", "random"]
    done = wheel_venv.bench("run", *words, "--data", demo_set, "--runs", "normal-runs", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["task"]["labels"] == ["NORM"]
    positives = result["split"]["train_positives"]["NORM"]
    assert 0 < positives < result["split"]["train_records"] - 10, "those without it train too"
    board = wheel_venv.bench("leaderboard", "--runs", "normal-runs", "--data", demo_set)
    assert board.returncode == 0, board.stderr
    (page,) = wheel_venv.work.glob("normal-runs/leaderboards/*/normal.md")
    assert "| tiny_pool" in page.read_text()


@pytest.mark.slow
def test_wheel_and_editable_install_list_the_same_and_no_shadow(wheel_venv: Venv, editable_venv: Venv) -> None:
    ours: list[dict[str, list[Any]]] = []
    for venv in (wheel_venv, editable_venv):
        done = venv.bench("list", "--json")
        assert done.returncode == 0, done.stderr
        assert "shadow" not in done.stdout + done.stderr
        found = json.loads(done.stdout)
        ours.append({kind: [e for e in found[kind] if e["from"].startswith("ptbxl-bench ")] for kind in found})
    wheel, editable = ours

    assert wheel == editable
    assert {"lp", "ft", "lpft-sd"} <= {entry["name"] for entry in wheel["methods"]}
    assert {"ecgfounder", "net1d_mini"} <= {entry["name"] for entry in wheel["archs"]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["method", "arch"])
def test_what_bench_new_writes_installs_and_passes_bench_check(wheel_venv: Venv, kind: str) -> None:
    name = f"my_new_{kind}"
    written = wheel_venv.bench("new", kind, name)
    assert written.returncode == 0, written.stderr
    wheel_venv.install(wheel_venv.work / name)

    checked = wheel_venv.bench("check", name)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "FAULT" not in checked.stdout
    assert checked.stdout.count("ok ") >= 2
    assert "plugin my_lab.broken failed to import" in checked.stderr


@pytest.mark.slow
def test_the_reader_that_bench_new_writes_installs_and_passes_its_test(wheel_venv: Venv) -> None:
    written = wheel_venv.bench("new", "dataset", "my-set")
    assert written.returncode == 0, written.stderr
    wheel_venv.install(wheel_venv.work / "my-set")

    done = subprocess.run(
        [str(wheel_venv.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "my-set"],
        cwd=wheel_venv.work,
        env=wheel_venv.environment(),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel_venv", "editable_venv"])
def test_the_published_results_come_along(kind: str, request: pytest.FixtureRequest) -> None:
    venv: Venv = request.getfixturevalue(kind)
    code = "import bench; print(*bench.load_results([], include_published=True)['task'])"
    words = [str(venv.python), "-P", "-c", code]
    done = subprocess.run(words, cwd=venv.work, env=venv.environment(), capture_output=True, text=True)

    tasks = [path.parts[-3] for path in (ROOT / "leaderboards/ptb-xl-1.0.3/results").glob("*/*/result.json")]
    assert sorted(done.stdout.split()) == sorted(task for task in tasks if task not in LEFT_OUT), done.stderr
