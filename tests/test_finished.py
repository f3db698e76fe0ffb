"""A finished run is recognised by hashes of files, without torch; whatever may change the answer is noticed."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import bench
from bench import verbs
from bench.data.datasets import load_records
from bench.results import finished
from bench.results.finished import key_of_command, recognise
from bench.results.result import PREDICTIONS, RESULT
from bench.training.weights import WEIGHTS

PLUGIN = """
from dataclasses import dataclass

from bench.plugin import Method, Phase, register_method


@register_method("own-probe")
@dataclass(frozen=True)
class OwnProbe(Method):
    \"\"\"A probe of one epoch.\"\"\"

    def phases(self, layer_groups):
        return [Phase(name="probe", learning_rates={"head": 0.01}, epochs=1)]
"""


@pytest.fixture(scope="module")
def data(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo set with tables of its own, which a test may change."""
    folder = tmp_path_factory.mktemp("finished") / "data"
    folder.mkdir()
    for name in ("ptbxl_database.csv", "scp_statements.csv"):
        shutil.copy(demo_set / name, folder)
    (folder / "records100").symlink_to(demo_set / "records100")
    return folder


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("finished") / "runs"
    bench.run(**CELL, data=data, runs=folder, console=Console(file=io.StringIO()))
    return folder


CELL: dict[str, Any] = {"method": "lp(probe_epochs=1)", "task": "superdiag", "arch": "fcn_wang"}


def ask(data: Path, runs: Path, **changes: Any) -> finished.Finished | None:
    """What is recognised of the command, as the command line asks it."""
    options: dict[str, Any] = {"init": None, "fraction": 1.0, "draw": 0, "manifest": None, "seed": 0}
    options |= {
        "source_rate": None,
        "precision": "auto",
        "stage": "test",
        "overwrite": False,
        "rerun_stale": False,
        "also_on": (),
        "keep_weights": "none",
    }
    console = Console(file=io.StringIO())
    return verbs.finished(**{**CELL, **options, "data": data, "runs": runs, "console": console, **changes})


def test_the_command_line_answers_without_torch_and_pandas(data: Path, runs: Path) -> None:
    (folder,) = (runs / "superdiag").glob("fcn_wang-*")
    command = ["bench", "run", "--method", CELL["method"], "--task", "superdiag", "--arch", "fcn_wang"]
    command += ["--data", str(data), "--runs", str(runs)]
    code = (
        f"import sys; sys.argv = {command}\nfrom bench.cli import app\napp(standalone_mode=False)\n"
        "heavy = {'torch', 'pandas', 'scipy', 'numpy', 'matplotlib'} & {*sys.modules}\n"
        "print(*heavy, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.split() == []
    assert "macro AUROC" in done.stdout
    document = json.loads((folder / "result.json").read_text())
    value = document["metrics"]["fold_10"]["macro"]["all"]["auroc"]["value"]
    assert f"{value:.4f}" in done.stdout

    as_json = subprocess.run([sys.executable, "-m", "bench", *command[1:], "--json"], capture_output=True, check=True)
    assert json.loads(as_json.stdout) == document


def test_the_same_command_is_recognised_and_another_is_not(data: Path, runs: Path, tmp_path: Path) -> None:
    (folder,) = (runs / "superdiag").glob("fcn_wang-*")
    recognised = ask(data, runs)

    assert recognised is not None
    assert (recognised.folder, recognised.changed) == (folder, "")
    for changes in ({"seed": 1}, {"method": "lp"}, {"arch": "xresnet1d101"}, {"task": "rhythm"}, {"fraction": 0.5}):
        assert ask(data, runs, **changes) is None
    for changes in ({"stage": "val"}, {"precision": "float64"}, {"overwrite": True}, {"also_on": (data,)}):
        assert ask(data, runs, **changes) is None
    assert ask(data, runs, init="random") is None
    assert ask(data, tmp_path) is None


def test_names_of_files_are_those_of_a_run() -> None:
    """They stand here again, because the modules that write these files import NumPy and torch."""
    names = (finished.RESULT, finished.PREDICTIONS, finished.WEIGHTS)

    assert names == (RESULT, PREDICTIONS, WEIGHTS)


def test_changed_labels_are_noticed(data: Path, runs: Path) -> None:
    table = data / "ptbxl_database.csv"
    before = table.read_bytes()
    try:
        table.write_bytes(before.replace(b"NORM", b"IMI", 1))
        assert ask(data, runs) is None
    finally:
        table.write_bytes(before)
    assert ask(data, runs) is not None


def test_changed_code_of_a_plugin_is_noticed(
    data: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "net.py"
    source.write_text("x = 1\n")
    monkeypatch.setattr(finished, "declared_files", lambda: [source])
    first = key_of_command([], data, None, None)
    source.write_text("x = 2\n")

    assert first != key_of_command([], data, None, None)


def test_changed_signals_are_noticed(data: Path, runs: Path) -> None:
    """A signal file is replaced by another of the same size, and the tables stay."""
    (folder,) = (runs / "superdiag").glob("fcn_wang-*")
    first = load_records(data).paths(100)[0].with_suffix(".dat")
    before, times = first.read_bytes(), first.stat()
    try:
        first.write_bytes(before[::-1])
        assert ask(data, runs) is None
        told = Console(file=io.StringIO(), width=500)
        bench.run(**CELL, data=data, runs=runs, console=told)
        assert "signal data synthetic-" in told.file.getvalue()
        assert ask(data, runs) is not None, "that it has changed is remembered"
        assert ask(data, runs, rerun_stale=True) is None
    finally:
        first.write_bytes(before)
        os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))
    bench.run(**CELL, data=data, runs=runs, console=Console(file=io.StringIO()))
    assert ask(data, runs) is not None
    assert len(list((runs / "superdiag").glob("fcn_wang-*"))) == 1 and folder.is_dir()


def test_a_result_that_is_not_the_remembered_one_is_not_recognised(data: Path, runs: Path, tmp_path: Path) -> None:
    (folder,) = (runs / "superdiag").glob("fcn_wang-*")
    kept = {name: (folder / name).read_bytes() for name in ("result.json", "predictions.npz")}
    try:
        for name in kept:
            (folder / name).unlink()
            assert ask(data, runs) is None
            (folder / name).write_bytes(kept[name])
        (folder / "result.json").write_bytes(kept["result.json"] + b" ")
        assert ask(data, runs) is None
    finally:
        for name, content in kept.items():
            (folder / name).write_bytes(content)
    assert ask(data, runs) is not None


def test_what_auto_precision_and_first_weights_depend_on_is_in_the_key(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"one")
    keys = [key_of_command([], data, None, None), key_of_command([], data, str(weights), None)]
    weights.write_bytes(b"two")
    keys += [key_of_command([], data, str(weights), None), key_of_command([], data, str(tmp_path), None)]
    monkeypatch.setattr(finished, "version", lambda package: "9.9")
    keys.append(key_of_command([], data, None, None))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    keys.append(key_of_command([], data, None, None))

    assert len(set(keys)) == len(keys)


def test_ranks_and_other_data_sets_are_left_to_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert key_of_command([], tmp_path, None, None) == ""
    assert recognise("") is None
    monkeypatch.setenv("RANK", "1")
    assert key_of_command([], data, None, None) == ""


def test_weights_of_a_moving_branch_of_the_hub_are_not_remembered(runs: Path) -> None:
    (folder,) = (runs / "superdiag").glob("fcn_wang-*")
    document = json.loads((folder / "result.json").read_text())
    commit = "0123456789" * 4
    document["init"] = {"name": "pretrained", "facts": {"commit": commit}}
    for init, is_kept in ((None, False), ("pretrained@main", False), (f"pretrained@{commit}", True)):
        document["cell"]["init"] = init
        key = f"{commit}{is_kept}"
        finished.remember(key, folder, document, "", {})
        assert (recognise(key) is not None) == is_kept


@pytest.mark.slow  # trains once, and loads torch twice
def test_stale_code_is_told_as_before(data: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "own.py"
    plugin.write_text(PLUGIN)
    command = [sys.executable, "-m", "bench", "run", "--plugin", str(plugin), "--method", "own-probe"]
    command += ["--task", "superdiag", "--arch", "fcn_wang", "--data", str(data), "--runs", str(tmp_path / "runs")]

    def run() -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr

    first, second = run(), run()
    plugin.write_text(PLUGIN + "# changed\n")
    third, fourth = run(), run()

    assert "has changed since" not in first + second
    for text in (third, fourth):  # the fourth is recognised, with the note
        assert "run, method own-probe (own.py) has changed since; --overwrite" in " ".join(text.split())
