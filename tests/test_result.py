"""What a cell leaves: whole or not at all, read back as written, and refused with a reason when it is damaged."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.boards.truth import Truth
from bench.cell import Cell
from bench.errors import BenchError, DataError
from bench.evaluation.predictions import Predictions
from bench.execute import Options, execute
from bench.pages.publish import faults_of
from bench.provenance import _git_commit
from bench.registry.reference import Reference
from bench.results.result import PREDICTIONS, RESULT, UNFINISHED, Result, find_results, load_result, write_result
from bench.results.run_folder import RunFolder
from bench.training.batches import epoch_batches

DOCUMENT: dict[str, Any] = {
    "digest": "d" * 64,
    "stage": "val",
    "cell": {
        "task": "form",
        "arch": "net",
        "method": "ft",
        "fraction": 1.0,
        "draw": 0,
        "seed": 0,
        "source_rate": None,
        "precision": "float32",
        "command": "bench run",
    },
    "dataset": {"name": "set", "synthetic": True},
    "task": {"name": "form", "fingerprint": "f" * 64, "labels": ["A", "B"]},
    "init": {"name": "random"},
    "incompatible": None,
    "metrics": {},
    "training": [],
    "signals": {},
}
SCORES = Predictions(np.array([3, 1]), ("A", "B"), np.array([[0.5, -1], [2, 1e-7]], dtype=np.float32))


def small_cell(data: Path) -> Cell:
    """A cell that trains on one constant feature: everything of a run but the work."""
    return Cell(data=data, task="superdiag", arch=Reference("prevalence"), method=Reference("lp", {"probe_epochs": 2}))


@pytest.fixture(scope="module")
def finished(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A finished run; look at it, leave it as it is."""
    return execute(small_cell(demo_set), Options(runs=tmp_path_factory.mktemp("runs")))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The folder of a result written by hand."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_result(folder, DOCUMENT, {9: SCORES, 10: SCORES})
    return folder


def test_a_result_is_read_as_it_was_written(written: Path) -> None:
    found = load_result(written)

    assert dict(found.document) == {"schema": 1, **DOCUMENT}
    assert set(found.predictions) == {9, 10}
    for scores in found.predictions.values():
        assert scores.labels == SCORES.labels
        np.testing.assert_array_equal(scores.ecg_id, SCORES.ecg_id)
        np.testing.assert_array_equal(scores.logits, SCORES.logits)
        assert scores.logits.dtype == np.float32


def test_the_row_names_what_is_unusual(written: Path) -> None:
    result = load_result(written)
    assert result.row == ("net", "random", "ft")

    unusual = {**DOCUMENT, "cell": {**DOCUMENT["cell"], "source_rate": 100, "precision": "bf16"}}
    assert Result(written, unusual).row == ("net, from 100 Hz, bf16", "random", "ft")


def test_what_is_no_number_is_written_as_null(tmp_path: Path) -> None:
    write_result(tmp_path, {**DOCUMENT, "curves": [{"val": (float("nan"), -float("inf"), 0.5)}]}, {})

    assert load_result(tmp_path).document["curves"] == [{"val": [None, None, 0.5]}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged: "),
        ("", "is damaged: "),
        ("[1]", "is not a result: it has no schema number"),
        ("{}", "is not a result: it has no schema number"),
        ('{"schema": 2}', "has schema 2; this version of bench reads schema 1"),
        ('{"schema": 1, "digest": "d"}', "is not a result: it lacks stage, incompatible, cell, dataset, task, init"),
        (json.dumps({"schema": 1, **DOCUMENT, "cell": {"task": "form"}}), "it lacks cell.arch, cell.method"),
        (json.dumps({"schema": 1, **DOCUMENT, "dataset": "x"}), 'dataset is "x", expected keys with values'),
        (json.dumps({"schema": 1, **{k: v for k, v in DOCUMENT.items() if k != "metrics"}}), "it lacks metrics"),
    ],
)
def test_a_damaged_result_is_named_with_its_fault(written: Path, text: str, message: str) -> None:
    (written / RESULT).write_text(text)

    with pytest.raises(DataError, match=message) as raised:
        load_result(written)
    assert str(written / RESULT) in str(raised.value)


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(DataError, match=f"no finished run at {folder}"):
            load_result(folder)


def test_predictions_of_another_task_are_refused(written: Path, tmp_path: Path) -> None:
    other = {**DOCUMENT, "task": {**DOCUMENT["task"], "fingerprint": "0" * 64}}
    (written / RESULT).write_text(json.dumps({"schema": 1, **other}))

    with pytest.raises(DataError, match=r"predictions.npz belongs to another task or dataset"):
        _ = load_result(written).predictions


def test_damaged_predictions_are_refused(written: Path) -> None:
    path = written / PREDICTIONS
    whole = path.read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2], whole[:60] + b"\xff" * 40 + whole[100:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"predictions.npz is not a predictions file"):
            _ = load_result(written).predictions
    path.unlink()
    with pytest.raises(DataError, match=r"predictions.npz is missing"):
        _ = load_result(written).predictions


def test_pickled_predictions_are_not_opened(written: Path) -> None:
    with np.load(written / PREDICTIONS) as file:
        arrays = dict(file) | {"labels": np.array(["A", {"a": 1}], dtype=object)}
    np.savez(written / PREDICTIONS, **arrays)

    with pytest.raises(DataError, match=r"not a predictions file: .*allow_pickle"):
        _ = load_result(written).predictions


def test_only_whole_runs_are_found(written: Path) -> None:
    runs = written.parent
    for name in (f"run{UNFINISHED}", ".run.old"):
        shutil.copytree(written, runs / name)

    assert [result.folder for result in find_results(runs)] == [written]
    for part in (RESULT, PREDICTIONS):
        shutil.copytree(written, runs / f"cut-{part}")
        (runs / f"cut-{part}" / part).write_bytes((written / part).read_bytes()[:-40])
    log: list[str] = []
    assert [result.folder for result in find_results(runs, log.append)] == [written]
    assert [line.partition(" is ")[0] for line in log] == [
        str(runs / f"cut-{part}" / part) for part in (PREDICTIONS, RESULT)
    ]
    assert all(line.endswith("; run its cell again with --overwrite, or remove its folder") for line in log)
    with pytest.raises(DataError, match=r"result.json is damaged"):
        list(find_results(runs))
    with pytest.raises(DataError, match="no runs at"):
        list(find_results(runs / "none"))


def test_a_run_folder_has_its_name_only_when_all_is_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "task" / "cell", "test", is_main=True)
    with folder:
        (folder.path / "weights.pt").write_text("w")
        (folder.path / "checkpoint-0001.pt").write_text("c")
        assert folder.finished() is None
        result = folder.finish(DOCUMENT, {10: SCORES}, keep=["weights.pt"])

    assert result.folder == tmp_path / "task" / "cell"
    assert sorted(path.name for path in result.folder.iterdir()) == [PREDICTIONS, RESULT, "weights.pt"]
    found = folder.finished()
    assert found is not None
    assert found.document == result.document


def test_a_new_result_replaces_the_old_one_whole(tmp_path: Path) -> None:
    for seconds in (1, 2):
        with RunFolder(tmp_path / "cell", "test", is_main=True) as folder:
            folder.finish({**DOCUMENT, "cost": {"seconds": seconds}}, {})

    assert load_result(tmp_path / "cell").document["cost"] == {"seconds": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cell.lock", "cell"]


@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_a_failure_leaves_only_what_can_be_gone_on_from(tmp_path: Path, has_checkpoint: bool) -> None:
    folder = RunFolder(tmp_path / "cell", "test", is_main=True)

    def fail() -> None:
        with folder:
            (folder.path / "log.jsonl").write_text("")
            if has_checkpoint:
                (folder.path / "checkpoint-0001.pt").write_text("c")
            raise DataError("a truncated record")

    with pytest.raises(DataError, match="a truncated record"):
        fail()
    assert folder.path.is_dir() is has_checkpoint
    assert not folder.final.exists()


@pytest.mark.parametrize("anew", [True, False])
def test_what_an_interrupted_run_left_is_kept_unless_it_starts_anew(tmp_path: Path, anew: bool) -> None:
    left = RunFolder(tmp_path / "cell", "test", is_main=True).path / "checkpoint-0001.pt"
    left.parent.mkdir()
    left.write_text("c")

    with RunFolder(tmp_path / "cell", "test", is_main=True, anew=anew) as folder:
        assert folder.path == left.parent
        assert left.exists() is not anew


def test_stages_do_not_mix(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "cell", "val", is_main=True) as folder:
        folder.finish({**DOCUMENT, "stage": "val"}, {})

    assert (tmp_path / "cell-val" / RESULT).is_file()
    assert RunFolder(tmp_path / "cell", "test", is_main=True).finished() is None


def test_runs_that_cannot_be_written_are_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(BenchError, match=r"cannot write to .*; --runs names another folder"),
        RunFolder(tmp_path / "file" / "task" / "cell", "test", is_main=True),
    ):
        pass


def test_a_run_leaves_what_the_design_says_and_no_labels(finished: Result, demo_set: Path) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {RESULT, PREDICTIONS, "log.jsonl", "weights.pt"}
    with np.load(finished.folder / PREDICTIONS, allow_pickle=False) as file:
        assert set(file.files) == {
            "fingerprint", "labels", "ecg_id_fold9", "logits_fold9", "ecg_id_fold10", "logits_fold10",
        }  # fmt: skip
        for name in file.files:
            assert file[name].dtype != object
            assert "logits" not in name or file[name].dtype == np.float32
        assert len(file["ecg_id_fold9"]) == finished.document["metrics"]["fold_9"]["num_records"]
    assert load_result(finished.folder).document == json.loads(json.dumps(dict(finished.document)))


def test_a_result_says_what_on_what_how_well_by_which_code_at_what_cost(finished: Result) -> None:
    said = finished.document

    assert said["method"]["given"] == {"probe_epochs": 2}
    assert said["method"]["resolved"] == {"probe_epochs": 2, "probe_lr": 5e-3, "probe_weight_decay": 0.1}
    for plugin in (said["method"], said["backbone"]):
        assert plugin["distribution"].startswith("ptbxl-bench ")
        assert len(plugin["code_sha256"]) == 64
    assert len(said["task"]["fingerprint"]) == 64
    assert set(said["split"]["train_positives"]) == set(said["task"]["labels"])
    assert said["metrics"]["fold_10"]["bootstrap"]["num_draws"] == 2000
    assert [phase["name"] for phase in said["training"]] == ["probe"]
    assert said["training"][0]["best_epoch"] in (1, 2)
    assert 0 < said["training"][0]["trainable_parameters"] < said["backbone"]["parameters"]
    assert said["cost"]["seconds"] > 0
    assert (said["cost"]["peak_memory_mib"] is None) == (said["cost"]["peak_memory_measured_by"] is None)
    assert {"torch", "cuda", "cudnn", "python", "git_commit", "ranks", "device"} <= set(said["environment"])
    assert len(said["reads_of_fold_10"]) == 1
    assert said["dataset"]["synthetic"] is True


def test_the_commit_is_that_of_this_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in somebody else's checkout knows no commit of ours."""
    for words in (("init",), ("-c", "user.name=a", "-c", "user.email=b", "commit", "--allow-empty", "-m", "theirs")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    package = tmp_path / "site-packages" / "bench"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr("bench.provenance.bench.__file__", str(package / "__init__.py"))

    assert _git_commit.__wrapped__() is None
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    assert _git_commit.__wrapped__() is not None


def test_the_digest_follows_from_what_a_result_says_of_itself(finished: Result) -> None:
    """What `bench publish` recomputes; the run is of synthetic data and perhaps of edited code, and no worse."""
    assert [fault for fault in faults_of(finished, Truth(Path("nowhere"))) if "digest" in fault] == []


def test_a_finished_cell_is_not_run_again_unless_asked(finished: Result, demo_set: Path) -> None:
    path, runs = finished.folder / RESULT, finished.folder.parent.parent
    before = path.stat().st_mtime_ns
    again = execute(small_cell(demo_set), Options(runs=runs))

    assert again.document == load_result(finished.folder).document
    assert path.stat().st_mtime_ns == before

    kept = finished.predictions[10].logits
    over = execute(small_cell(demo_set), Options(runs=runs, overwrite=True))
    assert path.stat().st_mtime_ns > before
    np.testing.assert_array_equal(over.predictions[10].logits, kept)


def test_a_damaged_result_can_be_overwritten(demo_set: Path, finished: Result, tmp_path: Path) -> None:
    shutil.copytree(finished.folder.parent, tmp_path / "superdiag")
    path = tmp_path / "superdiag" / finished.folder.name / RESULT
    path.write_text("{")

    with pytest.raises(DataError, match="is damaged"):
        execute(small_cell(demo_set), Options(runs=tmp_path))
    execute(small_cell(demo_set), Options(runs=tmp_path, overwrite=True))
    assert load_result(path.parent).digest == finished.digest


def test_validation_never_reads_fold_10(demo_set: Path, tmp_path: Path) -> None:
    result = execute(small_cell(demo_set), Options(runs=tmp_path, stage="val", keep_weights="none"))

    assert set(result.predictions) == {9}
    assert set(result.document["metrics"]) == {"fold_9"}
    assert result.document["reads_of_fold_10"] == []
    assert not (result.folder / "weights.pt").exists()


def start(data: Path, runs: Path) -> subprocess.Popen[str]:
    """A process that trains a cell of many short epochs."""
    words = ["run", "--task", "superdiag", "--arch", "prevalence", "--method", "lp(probe_epochs=1000)"]
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *words, "--data", str(data), "--runs", str(runs)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.slow
def test_a_second_process_and_ctrl_c_do_no_damage(demo_set: Path, tmp_path: Path, finished: Result) -> None:
    runs = tmp_path / "runs"
    first = start(demo_set, runs)
    deadline = time.monotonic() + 90
    while not list(runs.glob(f"superdiag/*{UNFINISHED}/checkpoint-*.pt")):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)

    cell = Cell(
        data=demo_set, task="superdiag", arch=Reference("prevalence"), method=Reference("lp", {"probe_epochs": 1000})
    )
    with pytest.raises(BenchError, match=r"another process is running this cell in .*unfinished"):
        execute(cell, Options(runs=runs))
    assert first.poll() is None, "the cell is too short for this test"
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)

    assert first.returncode == 130, said
    assert "interrupted; the same command resumes" in said
    assert "Traceback" not in said
    (left,) = [path for path in (runs / "superdiag").iterdir() if path.is_dir()]
    assert left.name.endswith(UNFINISHED)
    assert not (left / RESULT).exists()
    assert not list(find_results(runs))

    again = execute(cell, Options(runs=runs))
    assert [path for path in (runs / "superdiag").iterdir() if path.is_dir()] == [again.folder]
    assert "resumed in phase probe" in (again.folder / "log.jsonl").read_text()
    assert len(again.document["training"][0]["train_loss"]) == 1000


@pytest.mark.parametrize("num_records", [1, 2, 71, 256, 257, 258, 1709])
@pytest.mark.parametrize("batch_size", [1, 64, 256])
def test_steps_are_those_of_the_training_loop(tmp_path: Path, num_records: int, batch_size: int) -> None:
    """Two phases, and between them one that solves for its head."""
    document = {
        "split": {"train_records": num_records},
        "method": {"phases": [{"batch_size": batch_size}] * 3},
        "training": [{"train_loss": [0.5] * epochs} for epochs in (30, 0, 2)],
    }
    in_epoch = sum(1 for _ in epoch_batches(num_records, batch_size, (0,)))

    assert Result(tmp_path, document).steps == [30 * in_epoch, 2 * in_epoch]
