"""What two runs are to each other: a run goes on, or a result stands, only while the code that made it does."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from bench.cell import Cell
from bench.data.datasets import load_records
from bench.data.formats import SignalFormat
from bench.data.opened import OpenData
from bench.execute import Options, execute, set_up
from bench.launch.plan import make_plan
from bench.registry.reference import Reference
from bench.registry.source import _source_files
from bench.results.identity import (
    DEVICE,
    HARNESS,
    SIGNALS,
    SPINE,
    TORCH,
    changes,
    code_at_hand,
    code_of,
    conflict,
    harness_facts,
    identity,
    other_code,
    planned_identity,
)
from bench.results.result import RESULT, Result, load_head
from bench.training.distributed import World

ROOT = Path(__file__).parent.parent
FILTERS = """
from bench.plugin import register_preprocessing


@register_preprocessing("halved_mv", version=1)
def halved(record, rate):
    return record / 2
"""
NET = '''
import os
import signal

import lab_filters
import torch
from bench.plugin import Backbone, SignalSpec, register_backbone

steps = 0


@register_backbone("lab_net")
class Net(Backbone):
    """Means of leads through a layer; the step that $KILL_AT names kills the process."""

    signal_spec = SignalSpec(100, "halved_mv")
    feature_dim = 4

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(12, 4)

    def forward(self, signals):
        global steps
        steps += self.training
        if self.training and os.environ.get("KILL_AT") == str(steps):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layer(signals.mean(-1))
'''
READER = """
import numpy as np
from bench.plugin import Stored

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def read(source):
    return Stored(np.load(source.file), LEADS, 100, "mV")
"""
ECGS = """
from lab_signals import read
from bench.plugin import SignalFormat, make_records, read_text_table, register_dataset


@register_dataset("lab_ecgs")
def records(folder):
    if not (folder / "ecgs.csv").is_file():
        return None
    tables = [read_text_table(folder / name) for name in ("ecgs.csv", "codes.csv")]
    return make_records(folder, *tables, name="lab_ecgs", rate=100, format=SignalFormat("lab", (".npy",), read))
"""
RECIPE = '''
from bench.plugin import Method, Phase, register_method


@register_method("lab_recipe")
class Recipe(Method):
    """Three epochs of all parts."""

    def phases(self, layer_groups):
        return [Phase(name="all", learning_rates={"backbone": 1e-3, "head": 1e-3}, epochs=3, batch_size=64)]
'''
EDITED = {
    "method": "site/lab_recipe.py",
    "backbone": "site/lab_net.py",
    "preprocessing": "site/lab_filters.py",
    "harness": "tree/bench/training/loop.py",
}


class Lab:
    """A copy of `bench`, and packages with a method, a backbone, a preprocessing and a data set, all of which may be
    edited.

    Every command is a process of its own.
    """

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder = data, folder
        shutil.copytree(ROOT / "bench", folder / "tree/bench", ignore=shutil.ignore_patterns("__pycache__"))
        about = folder / "site/lab-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
        lines = [f"{name} = {name}\n" for name in ("lab_filters", "lab_net", "lab_recipe", "lab_ecgs")]
        (about / "entry_points.txt").write_text("[bench.plugins]\n" + "".join(lines))
        texts = {"filters": FILTERS, "net": NET, "recipe": RECIPE, "signals": READER, "ecgs": ECGS}
        for name, text in texts.items():
            (folder / f"site/lab_{name}.py").write_text(text)

    def bench(self, verb: str, *words: str, runs: str = "runs", kill_at: int = 0) -> subprocess.CompletedProcess[str]:
        """`bench VERB WORDS`, killed at a training step."""
        given = ["--task", "superdiag", "--arch", "lab_net", "--method", "lab_recipe", "--precision", "float32"]
        given = [*given, "--data", str(self.data)] if verb in ("run", "sweep") else []
        given += ["--seed", "0"] if verb == "sweep" else []
        paths = [str(self.folder / name) for name in ("tree", "site")]
        return subprocess.run(
            [sys.executable, "-m", "bench", verb, *given, *words, "--runs", str(self.folder / runs)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "KILL_AT": str(kill_at), "COLUMNS": "200"},
            cwd=self.folder,
            capture_output=True,
            text=True,
        )

    def edit(self, kind: str) -> None:
        """Add a comment to the code of this kind."""
        path = self.folder / EDITED[kind]
        path.write_text(path.read_text() + "\n# edited\n")

    def states(self) -> list[tuple[str, str]]:
        """What `bench status` says of each cell."""
        done = self.bench("status", "--json")
        assert done.returncode == 0, done.stderr
        return [(one["state"], one["reason"]) for one in json.loads(done.stdout)["cells"]]


@pytest.fixture
def lab(demo_set: Path, tmp_path: Path) -> Lab:
    return Lab(demo_set, tmp_path)


def printed(done: subprocess.CompletedProcess[str]) -> str:
    """What a command printed, once it has ended well."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_goes_on_only_under_the_code_that_wrote_its_checkpoint(lab: Lab) -> None:
    killed = lab.bench("run", kill_at=8)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for copy in ("same", "anew", *EDITED):
        shutil.copytree(lab.folder / "runs", lab.folder / copy)

    assert "resumed in phase all after epoch 1" in printed(lab.bench("run", runs="same"))
    said = printed(lab.bench("run", "--overwrite", runs="anew"))
    assert "resumed" not in said and "starts anew" not in said, "nothing is left to go on from"
    (log,) = (lab.folder / "anew").rglob("log.jsonl")
    assert log.read_text().count('"event": "epoch"') == 3
    for kind, file in EDITED.items():
        original = (lab.folder / file).read_text()
        lab.edit(kind)
        said = printed(lab.bench("run", runs=kind))
        changed = "backbone, preprocessing" if kind == "preprocessing" else kind  # the backbone imports its filters
        assert said.count(f"{changed}: changed since this run was interrupted; it starts again") == 1
        assert "resumed" not in said
        (lab.folder / file).write_text(original)


@pytest.mark.slow
def test_stale_says_whose_code_has_changed(lab: Lab) -> None:
    printed(lab.bench("run"))
    (path,) = (lab.folder / "runs").rglob(RESULT)
    recorded = json.loads(path.read_text())["code"]
    assert {kind: one["module"] for kind, one in recorded.items()} == {
        "harness": SPINE,
        "preprocessing": "lab_filters",
        SIGNALS: "100 Hz",
    }
    assert all(len(one["code_sha256"]) == 64 for one in recorded.values())
    assert lab.states() == [("done", "")]
    names = {
        "method": "method lab_recipe (lab_recipe)",
        "backbone": "backbone lab_net (lab_net)",
        "preprocessing": "preprocessing halved_mv (lab_filters)",
        "harness": "harness bench (bench.execute)",
    }
    for kind, file in EDITED.items():
        original = (lab.folder / file).read_text()
        lab.edit(kind)
        changed = ["backbone", kind] if kind == "preprocessing" else [kind]  # the backbone imports its filters
        assert lab.states() == [("stale", "; ".join(f"{names[one]} has changed since" for one in changed))]
        (lab.folder / file).write_text(original)
    lab.edit("harness")
    lab.edit("preprocessing")
    planned = printed(lab.bench("sweep", "--dry-run"))
    assert (
        "stale: 1 finished cells; backbone lab_net (lab_net) has changed since; "
        "preprocessing halved_mv (lab_filters) has changed since; "
        "harness bench (bench.execute) has changed since; --rerun-stale runs them again"
    ) in planned
    printed(lab.bench("sweep", "--rerun-stale"))
    assert lab.states() == [("done", "")]
    assert json.loads(path.read_text())["code"] != recorded


@pytest.mark.slow
def test_a_corrected_reader_of_signals_makes_results_stale_and_signals_new(lab: Lab) -> None:
    """Such as one that read a lead in another unit."""
    folder, rng = lab.folder / "ecgs", np.random.default_rng(0)
    folder.mkdir()
    rows = [f"r{at:02},p{at:02},{('A', 'B', 'A;B', '')[at % 4]}" for at in range(60)]
    (folder / "ecgs.csv").write_text("\n".join(["record,patient,labels", *rows]))
    (folder / "codes.csv").write_text("code,group\nA,x\nB,x\n")
    for row in rows:
        np.save(folder / f"{row[:3]}.npy", rng.normal(0, 0.3, (12, 1000)).astype(np.float32))
    command = ("run", "--data", str(folder), "--task", "x")

    def logits() -> Any:
        (path,) = (lab.folder / "runs").rglob("predictions.npz")
        with np.load(path) as file:
            return next(file[name] for name in file.files if "logits" in name)

    printed(lab.bench(*command))
    first = logits()
    path = lab.folder / "site/lab_signals.py"
    path.write_text(path.read_text().replace("np.load(source.file)", "5 * np.load(source.file)"))

    assert lab.states() == [("stale", "dataset lab_ecgs (lab_ecgs) has changed since")]
    assert "of this finished run, dataset lab_ecgs (lab_ecgs) has changed since" in printed(lab.bench(*command))
    assert np.array_equal(logits(), first)
    printed(lab.bench(*command, "--rerun-stale"))
    assert not np.allclose(logits(), first)


@pytest.mark.slow
def test_what_is_run_again_because_it_is_stale_goes_on_after_a_kill(lab: Lab) -> None:
    printed(lab.bench("run"))
    lab.edit("harness")
    assert lab.bench("run", "--rerun-stale", kill_at=8).returncode == -signal.SIGKILL

    assert "resumed in phase all after epoch 1" in printed(lab.bench("run", "--rerun-stale"))
    assert "resumed" not in printed(lab.bench("run", "--rerun-stale")), "it is no longer stale"


def done_cell(data: Path) -> Cell:
    method = Reference("lp", {"probe_epochs": 1})
    return Cell(data=data, task="superdiag", arch=Reference("prevalence"), method=method, precision="float32")


@pytest.fixture(scope="module")
def done(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A finished probe of the constant feature; look at it, leave it as it is."""
    return execute(done_cell(demo_set), Options(runs=tmp_path_factory.mktemp("runs"), console=Console(quiet=True)))


def test_what_a_result_does_not_record_is_not_held_against_it(done: Result) -> None:
    older = {key: value for key, value in done.document.items() if key != "code"}

    assert changes(older) == "" and changes(done.document) == ""
    assert set(code_of(older)) == {"method", "backbone"}
    assert set(code_of(done.document)) == {"method", "backbone", SIGNALS, "harness"}, (
        "ours has a version, and is harness"
    )
    gone = {**done.document, "method": {**done.document["method"], "module": "gone_lab"}}
    assert changes(gone) == "method lp (gone_lab) is not installed here"


def test_other_signals_below_the_same_tables_make_a_result_stale(done: Result, demo_set: Path, tmp_path: Path) -> None:
    """Such as a filtered copy of a data set, which is the same cell by its tables."""
    shutil.copytree(demo_set, copied := tmp_path / "copied")
    cell = replace(done_cell(demo_set), data=copied)
    options = Options(runs=done.folder.parent.parent, console=Console(quiet=True))

    def states() -> tuple[str, str, str]:
        (planned,) = make_plan([cell], options).cells
        return changes(done.document, partial(code_at_hand, data=OpenData(copied))), planned.state, planned.reason

    assert states() == ("", "done", ""), "a copy elsewhere is the same data set"
    last = load_records(copied).paths(100)[-1].with_suffix(".dat")
    content = last.read_bytes()
    last.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    words = f"signal data {load_records(copied).name} (100 Hz) has changed since"
    assert states() == (words, "stale", words)
    last.unlink()
    assert states() == ("", "done", ""), "files that are not here tell nothing"


def test_the_sample_of_signals_sees_each_of_its_files_from_end_to_end(demo_set: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_set, copied := tmp_path / "copied")
    records = load_records(copied)
    before, paths = records.sample_sha256(100), records.paths(100)

    assert len(before) == 64
    for path in (paths[0], paths[-1], paths[round((len(paths) - 1) / 15 - 0.5)]):
        for ending in (".hea", ".dat"):
            content = (file := path.with_suffix(ending)).read_bytes()
            for at in (0, len(content) // 2, len(content) - 1):
                file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
                assert records.sample_sha256(100) != before, (file.name, at)
            file.write_bytes(content + b" ")
            assert records.sample_sha256(100) != before, "longer"
            file.write_bytes(content)
    assert records.sample_sha256(100) == before


def test_code_is_no_part_of_the_digest(done: Result) -> None:
    other = {"harness": {**harness_facts(), "code_sha256": "0" * 64}}

    assert changes({**done.document, "code": other}) == "harness bench (bench.execute) has changed since"
    assert identity({**done.document, "code": other}) == identity(done.document) == done.digest


def test_the_code_of_a_data_sets_reader_counts_where_it_is_not_ours(done: Result) -> None:
    facts = {"reader": "mine", "module": "gone_lab", "distribution": "gone 1.0", "code_sha256": "0" * 64}
    document = {**done.document, "dataset": {**done.document["dataset"], **facts}}

    assert changes(document) == "dataset mine (gone_lab) is not installed here"
    assert identity(document) == done.digest
    assert other_code({"dataset": "a"}, {"dataset": "b"}) == "dataset"
    scores = {key: value for key, value in document.items() if key != "backbone"}
    assert "dataset" not in code_of(scores), "of scores from elsewhere it gave the labels alone"


def test_what_a_data_set_states_of_its_files_is_part_of_the_digest(demo_set: Path) -> None:
    data = OpenData(demo_set)
    records, cell = (
        data.records,
        Cell(data=demo_set, task="superdiag", arch=Reference("prevalence"), method=Reference("lp")),
    )
    npy = partial(SignalFormat, "npy", (".npy",), leads=("I", "II"))

    def digest_with(**stated: Any) -> str:
        data.records = replace(records, **stated)
        return str(set_up(cell, Options(), data, World(0, 1, torch.device("cpu"))).facts["digest"])

    assert digest_with() == digest_with(seconds=10.0)
    others = [{"seconds": 5.0}, {"format": npy(unit="mV")}, {"format": npy(unit="uV")}, {"format": npy(array="x")}]
    assert len({digest_with(), *(digest_with(**other) for other in others)}) == 5


def test_a_planned_cell_knows_the_published_head(done: Result) -> None:
    """Two files may have one backbone and two heads."""
    one, other = ({**done.document, "init": {**done.document["init"], "head_sha256": head * 64}} for head in "ab")

    first, second = (planned_identity(document, document["init"]["sha256"]) for document in (one, other))
    assert first == identity(one) != second == identity(other)


def test_published_digests_are_what_they_were() -> None:
    heads = [load_head(path.parent) for path in (ROOT / "leaderboards").rglob(RESULT)]
    assert len(heads) > 100

    assert all(identity(head) == head["digest"] for head in heads if "backbone" in head)


def test_the_harness_is_what_decides_an_outcome_and_nothing_else() -> None:
    names = set(_source_files(SPINE, HARNESS)[0])

    assert names > {
        SPINE,
        "bench.training.loop",
        "bench.training.checkpoint",
        "bench.training.distributed",
        "bench.training.weights",
        "bench.data.signals",
        "bench.data.splits",
        "bench.data.tasks",
        "bench.data.prepared",
        "bench.data.waveforms",
        "bench.evaluation.metrics",
    }
    assert {name.split(".")[1] for name in names} == {"execute", "data", "training", "evaluation"}


def test_the_hash_does_not_depend_on_what_is_imported() -> None:
    code = "from bench.results.identity import harness_facts; {}; print(harness_facts()['code_sha256'])"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code.format(more)], capture_output=True, text=True, check=True
        ).stdout.strip()
        for more in ("pass", "import bench.execute")
    }

    assert hashes == {harness_facts()["code_sha256"]}


def test_other_code_names_all_whose_code_differs() -> None:
    now = {"method": "m", "backbone": "b", "preprocessing": "p", "harness": "h", TORCH: "2.13.0", DEVICE: "cpu"}

    assert other_code(dict(now), now) == ""
    assert other_code({**now, TORCH: "2.12.0"}, now) == "torch's version"
    assert other_code({**now, DEVICE: "cuda"}, now) == "the kind of device"
    assert other_code({**now, "backbone": "x", "harness": "x"}, now) == "backbone, harness"
    assert other_code({key: now[key] for key in now if key != "preprocessing"}, now) == "preprocessing"
    assert other_code("mb", now) == other_code(None, now) == "method, backbone or harness"


def like(result: Result, folder: str, **sections: dict[str, Any]) -> Result:
    """The result with some keys of some sections changed, in another folder."""
    changed = {name: {**result.document[name], **keys} for name, keys in sections.items()}
    document = {**result.document, **changed}
    return Result(Path(folder), {**document, "digest": identity(document)})


def test_results_of_a_row_are_repeats_or_other_runs_or_in_conflict(done: Result) -> None:
    def scored(value: float | None) -> Result:
        found = json.loads(json.dumps(done.document))
        found["metrics"]["fold_10"]["macro"]["all"]["auroc"]["value"] = value
        return replace(done, document=found)

    value = done.document["metrics"]["fold_10"]["macro"]["all"]["auroc"]["value"]
    assert conflict(done, scored(value + 0.0009)) == ""
    assert "results of one cell and disagree" in conflict(done, scored(value + 0.0011))
    assert "results of one cell and disagree" in conflict(done, scored(None))
    assert conflict(scored(None), scored(None)) == ""
    assert conflict(done, like(done, "b", cell={"seed": 1})) == ""
    assert "share row, draw and seed" in conflict(done, like(done, "b", init={"sha256": "0" * 64}))
    drawn = like(done, "b", cell={"seed": 1}, init={"sha256": "0" * 64})
    assert conflict(done, drawn) == "", "each seed draws its own"
    assert planned_identity(drawn.document) == planned_identity(like(done, "b", cell={"seed": 1}).document)
    for section, keys in (
        ("method", {"resolved": {"probe_lr": 9.0}}),
        ("method", {"phases": []}),
        ("backbone", {"resolved": {"depth": 9}}),
        ("signals", {"rate": 250}),
        ("init", {"name": "pretrained", "sha256": "1" * 64}),
    ):
        other = like(done, "b", **{"cell": {"seed": 1}, section: keys})
        assert "differ: a default or a published file has changed" in conflict(done, other), section
    assert conflict(done, like(done, "b", cell={"seed": 1}, signals={"findings": {"odd": [1]}})) == ""


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("task", {"fingerprint": "another"}),
        ("split", {"sha256": "another"}),
        ("cell", {"fraction": 0.5}),
        ("cell", {"source_rate": 500}),
        ("cell", {"precision": "bf16"}),
        ("cell", {"seed": 1}),
        ("signals", {"preprocessing": "zscore"}),
        ("signals", {"version": 2}),
        ("method", {"name": "ft"}),
        ("method", {"resolved": {}}),
        ("method", {"phases": []}),
        ("backbone", {"name": "another"}),
        ("backbone", {"resolved": {"depth": 9}}),
        ("init", {"sha256": "another"}),
    ],
)
def test_each_fact_alone_changes_the_digest(section: str, keys: dict[str, Any], done: Result) -> None:
    """A seed also draws other weights, and an argument other phases: either alone must do."""
    assert like(done, "b", **{section: keys}).digest != done.digest
