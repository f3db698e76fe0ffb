"""A cell: its command gives it back, and its digest holds what changes the result and nothing else."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bench.cli
import bench.data.opened
import bench.execute
from bench.cell import Cell
from bench.data.datasets import load_records
from bench.data.splits import split
from bench.data.tasks import find_task, label_table, task_facts
from bench.errors import BenchError, DataError, PluginError
from bench.plugin import Method, Phase
from bench.registry.reference import Reference
from bench.registry.registry import _REGISTRY, Plugin
from bench.results.identity import digest
from bench.training.precision import resolve_precision
from bench.training.weights import save_weights


def cell(data: Path, **changes: Any) -> Cell:
    """A small cell with some fields changed; references as text."""
    fields: dict[str, Any] = {"task": "superdiag", "arch": "net1d_mini", "method": "ft", **changes}
    fields |= {name: Reference.parse(fields[name]) for name in ("arch", "method")}
    return Cell(data=data, **fields)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"task": "diagnostic"},
        {"method": "lpft-sd(drop_path_rate=0.25, probe_lr=1e-6)", "seed": 3},
        {"method": "scratch(gradient_clip_norm=None)", "init": "random"},
        {"arch": "ecgfounder(preprocessing='zscore')", "init": "pretrained@abc"},
        {"init": "my runs/it's $HOME.pt"},
        {"init": "plain.pt", "fraction": 0.012345678901, "draw": 2},
        {"fraction": 1e-7},
        {"manifest": Path("lists/one percent.json"), "seed": 1},
        {"source_rate": 500, "precision": "float64"},
    ],
)
def test_its_command_gives_it_back(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = cell(Path("somewhere"), **changes)
    found: list[Cell] = []

    def catch(cell: Cell, *_: object) -> None:
        found.append(cell)
        raise SystemExit(0)

    monkeypatch.setattr(bench.execute, "execute", catch)
    monkeypatch.setattr(bench.data.opened, "OpenData", lambda folder: folder)
    monkeypatch.setenv("BENCH_DATA", "somewhere")
    monkeypatch.setenv("COMMAND", f"{sys.executable} -c 'import sys; print(sys.argv[1:])' {asked.command()}")
    os.system('eval "$COMMAND"')  # the shell's own words
    monkeypatch.setattr(sys, "argv", eval(capfd.readouterr().out)[0:])
    with pytest.raises(SystemExit):
        bench.cli.main()

    assert found == [asked]


def test_spellings_of_one_cell_are_equal(tmp_path: Path) -> None:
    one = cell(tmp_path, task="superdiagnostic", arch="net1d-mini", method="lpft_sd(drop_path_rate=0.5, probe_lr=1)")

    assert one == cell(tmp_path, method="lpft-sd(probe_lr=1.0)")
    assert "lpft-sd(probe_lr=1.0)" in one.command()


def test_numpys_numbers_are_pythons(demo_set: Path) -> None:
    asked = cell(demo_set, fraction=np.float64(0.5), draw=np.int32(2), seed=np.int64(1), source_rate=np.int16(100))
    plain = cell(demo_set, fraction=0.5, draw=2, seed=1, source_rate=100)

    assert asked.command() == plain.command() and repr(asked.entropy) == repr(plain.entropy) == "(2, 1)"
    assert identity(asked) == identity(plain)
    assert cell(demo_set, fraction=1).command() == cell(demo_set).command()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fraction": 0.0}, r"--fraction must lie in \(0, 1\], got 0"),
        ({"fraction": 1.5}, r"--fraction must lie in"),
        ({"fraction": float("nan")}, r"--fraction must lie in"),
        ({"seed": 1.5}, "--seed must be a whole number, got 1.5"),
        ({"source_rate": "100"}, "--source-rate must be a whole number, got '100'"),
        ({"seed": -1}, "--seed must not be negative, got -1"),
        ({"fraction": 0.5, "draw": -1}, "--draw must not be negative"),
        ({"draw": 1}, "--draw 1 has no effect on all training records"),
        ({"fraction": 0.5, "manifest": Path("a.csv")}, "--manifest lists the training records and --fraction draws"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        cell(Path(), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "superdaig"}, "unknown task 'superdaig'. Did you mean 'superdiag'"),
        ({"arch": "net1d_mimi"}, "unknown backbone 'net1d_mimi'. Did you mean 'net1d_mini'"),
        ({"method": "lp(epochs=2)"}, "has no hyper-parameter 'epochs'"),
    ],
)
def test_names_are_checked_at_once(changes: dict[str, Any], message: str, demo_set: Path) -> None:
    with pytest.raises(PluginError, match=message):
        cell(demo_set, **changes)


def test_a_task_that_a_data_set_may_define_is_judged_by_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no data set known here"):
        cell(tmp_path, task="hypertrophies")
    with pytest.raises(DataError, match=r"no dataset at .*/nowhere: expected a folder"):
        cell(tmp_path / "nowhere", task="hypertrophies")


def test_folder_names_tell_cells_apart() -> None:
    assert cell(Path(), fraction=0.1, draw=2, seed=3).folder_name("0123456789") == (
        "net1d_mini-ft-0.1-draw2-seed3-01234567"
    )


def identity(asked: Cell) -> str:
    """The digest of a cell as `execute` computes it."""
    records = load_records(asked.data)
    table = label_table(records, find_task(asked.task))
    parts = split(table, asked.fraction, asked.draw)
    model, init = bench.execute.build_model(
        bench.execute.build_backbone(asked.arch, asked.entropy), len(table.labels), asked.init, asked.entropy
    )
    precision = resolve_precision(asked.precision, torch.device("cpu"))
    phases = bench.execute.make_method(asked.method).phases(())
    return str(bench.execute.describe(asked, records, table, parts, phases, model, init, precision)["digest"])


@pytest.fixture(scope="module")
def weights(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights of net1d_mini."""
    path = tmp_path_factory.mktemp("weights") / "own.pt"
    model, _ = bench.execute.build_model(bench.execute.build_backbone(Reference("net1d_mini"), 9), 5, "random", seed=9)
    save_weights(model, path, about={})
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "rhythm"},
        {"arch": "fcn_wang"},
        {"method": "ft-sd"},
        {"method": "ft(finetune_lr=1e-3)"},
        {"fraction": 0.5},
        {"fraction": 0.5, "draw": 1},
        {"seed": 1},
        {"source_rate": 500},
        {"precision": "float64"},
        {"init": "WEIGHTS"},
    ],
)
def test_the_digest_changes_with_what_changes_the_result(
    changes: dict[str, Any], demo_set: Path, weights: Path
) -> None:
    if changes.get("init"):
        changes = {"init": str(weights)}

    assert identity(cell(demo_set, **changes)) != identity(cell(demo_set))


@dataclasses.dataclass(frozen=True)
class Grown(Method):
    """A method whose phases may change while its hyper-parameters do not."""

    epochs: int = 1

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [Phase(name="probe", learning_rates={"head": PROBE_LR}, epochs=self.epochs)]


PROBE_LR = 1e-3


def test_phases_are_part_of_the_digest_beside_the_arguments(demo_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_REGISTRY.plugins, ("method", "grown"), Plugin("method", "grown", Grown, __name__, "test"))
    before = identity(cell(demo_set, method="grown"))
    assert identity(cell(demo_set, method="grown")) == before
    monkeypatch.setitem(globals(), "PROBE_LR", 2e-3)

    assert identity(cell(demo_set, method="grown")) != before


def test_two_draws_are_two_cells(demo_set: Path) -> None:
    assert identity(cell(demo_set, fraction=0.5)) != identity(cell(demo_set, fraction=0.5, draw=1))


def test_edited_labels_change_the_digest(demo_set: Path, tmp_path: Path) -> None:
    table = (demo_set / "ptbxl_database.csv").read_text().splitlines()
    for name in ("scp_statements.csv", "records100", "records500"):
        (tmp_path / name).symlink_to(demo_set / name)
    (tmp_path / "ptbxl_database.csv").write_text("\n".join(table[:-1]) + "\n")

    assert identity(cell(tmp_path)) != identity(cell(demo_set))


def test_the_digest_does_not_depend_on_paths_and_spellings(demo_set: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(demo_set)
    (tmp_path / "renamed.pt").write_bytes(weights.read_bytes())
    asked = cell(demo_set, init=str(weights))

    for other in (
        dataclasses.replace(asked, data=tmp_path / "link"),
        dataclasses.replace(asked, init=str(tmp_path / "renamed.pt")),
        dataclasses.replace(asked, init=os.path.relpath(weights)),
    ):
        assert identity(other) == identity(asked)


def test_the_backbones_own_rate_is_the_default_one(demo_set: Path) -> None:
    assert identity(cell(demo_set, source_rate=100)) == identity(cell(demo_set))


def test_the_digest_is_that_of_the_facts_in_any_order() -> None:
    assert digest({"a": 1, "b": (1, 2)}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})


def test_a_task_of_a_folders_own_labels_has_no_plugin(tmp_path: Path) -> None:
    """Its name is found in the folder, also where no task of that name is registered."""
    (tmp_path / "dataset.toml").write_text('name = "mine"\nlicence = "CC0"\nsource = "here"\nrate = 100\n')
    (tmp_path / "labels.csv").write_text("code,group\nAF,my-rhythms\nSR,my-rhythms\n")
    rows = [f"{at},{at},{('AF', 'SR')[at % 2]}" for at in range(20)]
    (tmp_path / "records.csv").write_text("\n".join(["record,patient,labels", *rows]))
    made = cell(tmp_path, task="my_rhythms")

    assert made.task == "my-rhythms" and "--task my-rhythms " in made.command()
    assert made.plugin_files == [] and made.of_notebook == []
    assert (
        task_facts(label_table(records := load_records(tmp_path), find_task(made.task, records)))["name"] == made.task
    )
