"""Published results: verified, boarded with pictures and side pages, and found out when anything is edited."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.boards.declared import plan_in
from bench.boards.resampling import replicates_of
from bench.boards.rows import make_boards
from bench.boards.truth import Truth
from bench.data.datasets.ptbxl import load_records
from bench.data.splits import TEST_FOLD
from bench.data.tasks import find_task, label_table
from bench.errors import BenchError
from bench.evaluation.predictions import Predictions
from bench.evaluation.scores import score_fold
from bench.pages.leaderboards import write_leaderboards
from bench.pages.publish import check, compact_scores, faults_of, publish, published_results
from bench.results.elsewhere import Truths, write_evaluation
from bench.results.external import score_external
from bench.results.result import load_result

ROOT = Path(__file__).parents[1]
DIFFERENT = "are different runs; rename the folder of one"


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.boards.comparisons.NUM_PERMUTATIONS", 500)


@pytest.fixture(scope="module")
def tables(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two CSV files that no longer say that they are synthetic."""
    folder = tmp_path_factory.mktemp("tables")
    shutil.copy(demo_set / "scp_statements.csv", folder)
    table = pd.read_csv(demo_set / "ptbxl_database.csv").assign(device="AT-6 C")
    more = [table.assign(ecg_id=table["ecg_id"] + n * 1000, patient_id=table["patient_id"] + n * 1e5) for n in range(6)]
    pd.concat(more).to_csv(folder / "ptbxl_database.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def runs(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two external rows of two seeds each, at two fractions."""
    folder = tmp_path_factory.mktemp("runs")
    table = label_table(load_records(tables), find_task("superdiag"))
    late = table.select(table.strat_fold >= 9)
    made = []
    for name, quality in (("good", 2.0), ("bad", 0.5)):
        for seed in range(2):
            z = quality * late.y_true + np.random.default_rng(seed).normal(size=late.y_true.shape) - 1
            pd.DataFrame(z, columns=list(late.labels)).assign(ecg_id=late.ecg_id).to_csv(folder / "x.csv", index=False)
            for fraction in (1.0, 0.1):
                options = {"scale": "logit", "fraction": fraction, "seed": seed}
                made.append(score_external(folder / "x.csv", "superdiag", name, tables, folder, **options).folder)
    return made


@pytest.fixture(scope="module")
def truth(tables: Path) -> Truth:
    return Truth(tables)


@pytest.fixture
def shelf(runs: list[Path], truth: Truth, tmp_path: Path) -> Path:
    """Leaderboards with published results, a plan, reported numbers, and all pages."""
    folder = tmp_path / "leaderboards"
    copied, faults = publish(runs, folder, truth)
    assert faults == []
    assert len(copied) == len(runs)
    (copied[0].parents[2] / "superdiag.toml").write_text('baseline = "bad (external)"\n')
    (folder / "reported.csv").write_text(
        "task,model,setting,macro_auroc,bracket,low,high,source,protocol\n"
        "superdiag,fcn_wang,from scratch,0.925,0.006,,,Somebody 2020,theirs\n"
    )
    write(folder, truth)
    return folder


def write(folder: Path, truth: Truth) -> list[Path]:
    """All pages of what is published."""
    return write_leaderboards(make_boards(published_results(folder), truth, plan_in(folder)), folder, truth)


def test_pages_say_what_was_found(shelf: Path) -> None:
    (path,) = shelf.glob("*/superdiag.md")
    text = path.read_text()

    for words in (
        "| 1 | – | good | external |",
        "| baseline |",
        "1 row compared with it; resolvable difference of macro AUROC",
        "- Fewer than three runs: rows 1, 2.",
        "[1] Somebody 2020: theirs.",
    ):
        assert words in text
    assert "**Synthetic" not in text
    for file in re.findall(r"\]\(([^)]+)\)", text):
        assert (path.parent / file).is_file(), file
    assert len(list((path.parent / "pictures").glob("*.svg"))) == 7  # no training, no curves and no cost
    calibration, subgroups = (
        (path.parent / f"superdiag-{kind}.md").read_text() for kind in ("calibration", "subgroups")
    )
    assert "| 1 | good | external |" in calibration
    assert "| sex | female |" in subgroups
    assert "| device | AT-6 C |" in subgroups
    waiting = [line for line in (shelf / "LEDGER.md").read_text().splitlines() if line.startswith("| fcn_wang ")]
    assert len(waiting) == 1 and "Somebody 2020" in waiting[0] and "0.925" in waiting[0]


def test_everything_follows_and_is_the_same_bytes_again(shelf: Path, truth: Truth, tmp_path: Path) -> None:
    assert check(shelf, truth) == []
    assert check(shelf, Truth(tmp_path / "nowhere")) == []
    assert check(tmp_path / "typo", truth) == [f"{tmp_path / 'typo'}: no published result"]
    before = {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()}
    write(shelf, truth)
    assert {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()} == before


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "wandb", "wfdb", "sklearn", "huggingface_hub"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from bench.cli import main
main()
"""
"""`bench` where what trains and reads signals is not installed."""


def test_a_reader_needs_no_torch(tables: Path, runs: list[Path], tmp_path: Path) -> None:
    table = label_table(load_records(tables), find_task("superdiag"))
    test = table.select(table.strat_fold == TEST_FOLD)
    perfect = pd.DataFrame(test.y_true * 1.0, columns=list(test.labels)).assign(ecg_id=test.ecg_id)
    perfect.to_csv(tmp_path / "x.csv", index=False)
    boards = ["--out", "boards"]
    for words, says in (
        (["score", "x.csv", "--task", "superdiag", "--name", "perfect", "--runs", "mine"], "1.0000"),
        (["compare", *map(str, runs[::2][:2])], "first minus second"),
        (["publish", *map(str, runs), *boards], "published"),
        (["leaderboard", "--published", *boards], "wrote"),
        (["leaderboard", "--check", *boards], "results against the dataset's labels"),
        (["data", "info", str(tables)], "superdiag"),
    ):
        data = [] if words[0] == "data" else ["--data", str(tables)]
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT, *words, *data], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, (words, done.stderr)
        assert says in done.stdout, words


def bench(*words: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """`bench` in a folder."""
    command = [sys.executable, "-m", "bench", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_published_pages_are_not_written_without_the_labels(shelf: Path, tmp_path: Path) -> None:
    """They would lose groups, intervals and p; nor is a folder without results turned into leaderboards."""
    before = {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()}
    for words, says in (
        ([], "error: no labels of superdiag on "),
        (["--out", "typo"], "error: no published result in typo"),
        (["--check", "--json"], "error: --check does not support --json"),
    ):
        done = bench("leaderboard", "--published", "--data", "nowhere", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(says) and done.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "typo").exists()


def test_boards_of_ones_own_runs_leave_the_published_alone(
    shelf: Path, runs: list[Path], tmp_path: Path, tables: Path
) -> None:
    """They stand below the runs, by the same plan, and say what they lack."""
    before = {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()}
    shutil.copytree(runs[0].parents[1], tmp_path / "runs")
    pages = {}
    for data in ("nowhere", str(tables)):
        done = bench("leaderboard", "--data", data, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        note = (
            "note: no labels of superdiag on " in done.stderr
            and " at nowhere: scores are the results' own" in done.stderr
        )
        assert note is (data == "nowhere")
        (page,) = (tmp_path / "runs/leaderboards").glob("*/superdiag.md")
        pages[data] = page.read_text()

    assert "| baseline |" in pages[str(tables)] and "| baseline |" not in pages["nowhere"]
    assert {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()} == before


def edit_json(**changes: object) -> Callable[[Path], None]:
    """Changes a result's document at `section__key__...`."""

    def edit(folder: Path) -> None:
        document = json.loads((folder / "result.json").read_text())
        for key, value in changes.items():
            *sections, last = key.split("__")
            inner = document
            for section in sections:
                inner = inner[section]
            inner[last] = value
        (folder / "result.json").write_text(json.dumps(document))

    return edit


def shift_scores(folder: Path) -> None:
    """Makes the first record's scores better."""
    with np.load(folder / "predictions.npz") as file:
        arrays = dict(file)
    arrays[f"logits_fold{TEST_FOLD}"][0] += 5
    np.savez_compressed(folder / "predictions.npz", **arrays)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (
            edit_json(metrics__fold_10__macro__frequent__auroc__value=0.99),
            r"metrics.fold_10.macro.frequent.auroc.value",
        ),
        (edit_json(metrics__fold_10__labels__MI__num_positives=1), r"metrics.fold_10.labels.MI.num_positives"),
        (edit_json(cell__seed=7), "its digest does not follow from its facts"),
        (edit_json(cell__arch="better"), "its digest does not follow from its facts"),
        (edit_json(dataset__synthetic=True), "its dataset is synthetic"),
        (edit_json(metrics={}), "it lacks metrics.fold_10, as its stage is test"),
        (edit_json(scores={}), "it lacks scores.scale"),
        (edit_json(task__fingerprint="0" * 64), "belongs to another task or dataset"),
        (shift_scores, "its digest does not follow from its facts"),
        (lambda folder: (folder / "predictions.npz").unlink(), "predictions.npz is missing"),
        (lambda folder: (folder / "result.json").write_text("{"), "result.json is damaged"),
    ],
)
def test_a_result_that_was_edited_is_found(
    shelf: Path, truth: Truth, tamper: Callable[[Path], None], message: str
) -> None:
    folder = sorted(path.parent for path in shelf.rglob("result.json"))[0]
    tamper(folder)

    faults = check(shelf, truth)
    assert any(message in fault and str(folder) in fault for fault in faults), faults


@pytest.mark.parametrize(("change", "is_fault"), [(5e-7, False), (2e-6, True), (-2e-6, True)])
def test_a_score_may_differ_by_a_millionth(shelf: Path, truth: Truth, change: float, is_fault: bool) -> None:
    folder = sorted(path.parent for path in shelf.rglob("result.json"))[0]
    score = load_result(folder).document["metrics"]["fold_10"]["macro"]["frequent"]["auroc"]["value"]
    edit_json(metrics__fold_10__macro__frequent__auroc__value=score + change)(folder)

    faults = faults_of(load_result(folder), truth)

    assert [fault.split()[0] for fault in faults] == ["metrics.fold_10.macro.frequent.auroc.value"] * is_fault


@pytest.mark.parametrize(
    ("kind", "words"), [("method", "its cell has method"), ("arch", "its cell has arch")], ids=["method", "arch"]
)
def test_the_names_of_a_cell_are_those_of_what_was_run(kind: str, words: str) -> None:
    """Boards name rows by the cell, and the digest does not cover these two names of it."""
    folder = next(path.parent for path in (ROOT / "leaderboards").rglob("net1d_mini-lp-*/result.json"))
    result = load_result(folder)
    edited = replace(result, document={**result.document, "cell": {**result.cell, kind: "better"}})
    nowhere = Truth(Path("nowhere"))

    assert faults_of(result, nowhere) == []
    (fault,) = faults_of(edited, nowhere)
    assert fault.startswith(f"{words} better, ")


def test_a_page_that_was_edited_is_found(shelf: Path, truth: Truth, tmp_path: Path) -> None:
    (path,) = shelf.glob("*/superdiag.md")
    text = path.read_text()
    value = re.search(r"external \| (0\.\d{4})", text).group(1)  # type: ignore[union-attr]
    for damaged in (text.replace(value, "0.9999", 1), text + "\nAnd the winner is ours.\n"):
        path.write_text(damaged)
        assert [fault.split(";")[0] for fault in check(shelf, truth)] == [f"{path} does not follow from the results"]
    path.write_text(text.replace(value, "0.9999", 1))
    assert check(shelf, Truth(tmp_path / "nowhere")) == [f"{path} has other rows or scores than the results"]
    path.write_text(text)
    (shelf / "extra.md").write_text("x")
    assert check(shelf, truth) == [f"{shelf / 'extra.md'} follows from no published result"]


def test_a_check_without_data_knows_the_names_of_a_boards_file(shelf: Path, truth: Truth, tmp_path: Path) -> None:
    (page,) = shelf.glob("*/superdiag.md")
    page.with_suffix(".toml").write_text('[labels]\ngood = "Model A"\n')
    write(shelf, truth)

    assert "| Model A |" in page.read_text()
    assert check(shelf, Truth(tmp_path / "nowhere")) == []


def test_a_run_is_published_again_and_no_other_takes_its_place(runs: list[Path], truth: Truth, tmp_path: Path) -> None:
    shelf, other = tmp_path / "leaderboards", tmp_path / runs[0].name
    (copied,), _ = publish(runs[:1], shelf, truth)
    shutil.copytree(runs[2], other)
    before = {path: path.read_bytes() for path in copied.iterdir()}

    assert publish(runs[:1], shelf, truth) == ([copied], [])
    assert publish([runs[0], runs[0].resolve()], shelf, truth) == ([copied], [])
    for folders, first in (([other], copied), ([runs[0], other], copied)):
        assert publish(folders, shelf, truth) == (
            [],
            [f"{other}: {first} has its place in {copied.parent}, and they {DIFFERENT}"],
        )
    assert publish([runs[0], other], tmp_path / "elsewhere", truth)[1][0].startswith(f"{other}: {runs[0]} has its")
    assert {path: path.read_bytes() for path in copied.iterdir()} == before


def test_what_has_a_fault_is_not_published(runs: list[Path], truth: Truth, tmp_path: Path) -> None:
    edited = tmp_path / "edited"
    shutil.copytree(runs[0], edited)
    shift_scores(edited)
    copied, faults = publish([runs[1], edited], tmp_path / "out", truth)

    assert copied == []
    assert len(faults) == 2
    assert not (tmp_path / "out").exists()


def test_every_folder_that_cannot_be_read_is_a_fault(runs: list[Path], truth: Truth, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "result.json").write_text("{")
    copied, faults = publish([damaged, runs[0], tmp_path / "nowhere"], tmp_path / "out", truth)

    assert copied == []
    assert [fault.partition(":")[0] for fault in faults] == [
        f"{damaged / 'result.json'} is damaged",
        f"no finished run at {tmp_path / 'nowhere'}",
    ]
    assert not (tmp_path / "out").exists()


def test_a_comparison_leaves_damaged_runs_out(tables: Path, runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0].parents[1], tmp_path / "runs")
    (tmp_path / "runs/superdiag" / runs[0].name / "result.json").write_text("{")
    done = bench("compare", "good (external)", "bad (external)", "--fraction", 1, "--data", tables, cwd=tmp_path)

    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"warning: left out: runs/superdiag/{runs[0].name}/result.json is damaged")
    assert "first minus second" in done.stdout


def test_trials_and_failed_runs_beside_it_do_not_stop_a_run(runs: list[Path], truth: Truth, tmp_path: Path) -> None:
    trial, failed = tmp_path / f"{runs[0].name}-val", tmp_path / "other.failed"
    shutil.copytree(runs[0], trial)
    edit_json(stage="val")(trial)
    failed.write_text("Traceback")
    copied, faults = publish([trial, runs[0], failed], tmp_path / "out", truth)

    assert faults == []
    assert [path.name for path in copied] == [runs[0].name]
    assert publish([trial, failed], tmp_path / "out", truth)[1][0] == f"{trial}: it stopped before fold 10"
    assert "no finished run at" in publish([failed], tmp_path / "out", truth)[1][0]


def test_intervals_of_an_earlier_version_are_computed_anew(runs: list[Path], truth: Truth, tmp_path: Path) -> None:
    old = tmp_path / runs[0].name
    shutil.copytree(runs[0], old)
    edit_json(metrics__fold_10__macro__frequent__auroc__low=0.1, metrics__fold_10__bootstrap__labels_present="all")(old)
    assert ["labels_present" in fault for fault in faults_of(load_result(old), truth)] == [True]
    (copy,), faults = publish([old], tmp_path / "out", truth)

    assert faults == []
    assert load_result(copy).document == load_result(runs[0]).document
    assert faults_of(load_result(copy), truth) == []
    edit_json(metrics__fold_10__macro__frequent__auroc__value=0.1)(old)
    assert publish([old], tmp_path / "out", truth)[0] == []


@pytest.mark.parametrize(
    ("commit", "fault"), [(None, "is not recorded"), ("abc-dirty", "changes that are not in commit abc")]
)
def test_code_that_is_not_committed_is_a_fault(
    runs: list[Path], truth: Truth, tmp_path: Path, commit: str | None, fault: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs[0], folder)
    edit_json(cell__method="lp", environment__git_commit=commit)(folder)

    assert any(fault in one for one in faults_of(load_result(folder), truth))


def test_boards_are_drawn_once(truth: Truth, runs: list[Path]) -> None:
    table = truth(load_result(runs[0]))
    assert table is truth(load_result(runs[1]))
    assert table is not None
    assert replicates_of(table) is replicates_of(table)


def evaluated(run: Path, truth: Truth, corruption: str = "", licence: str = "ODC-By-1.0", noise: float = 1) -> Path:
    """Write an evaluation of a run: on fold 10 after a corruption, or on 80 records of another data set."""
    result = load_result(run)
    home = result.document["dataset"]["name"]
    table = truth.fold(result, TEST_FOLD)
    assert table is not None
    patients = np.unique(table.patient_id, return_inverse=True)[1]
    y_true, ecg_id = table.y_true, table.ecg_id
    if not corruption:
        y_true, patients, ecg_id = y_true[:80], np.arange(80), np.arange(1, 81)
    logits = y_true + np.random.default_rng(3).normal(0, noise, y_true.shape)
    truths = Truths(patients, y_true, Predictions(ecg_id, table.labels, logits.astype(np.float32)))
    document = {
        "run": {"digest": result.digest, "row": "a row", "trained_on": home, "command": "bench run"},
        "dataset": {"name": home if corruption else "other-1.0", "content": "c", "rate": 100, "licence": licence},
        "scored_on": "fold 10" if corruption else "all records",
        "corruptions": [corruption] if corruption else [],
        "seed": 0,
        "labels": {label: {"codes": [label], "by": "hand"} for label in table.labels},
        "not_shared": [],
        "metrics": score_fold(y_true, logits.astype(np.float32), table.labels, patients, num_replicates=20),
    }
    document["dataset"]["source"] = "https://example.org"
    return write_evaluation(result, document, truths).folder


def test_evaluations_elsewhere_are_published_checked_and_drawn(runs: list[Path], truth: Truth, tmp_path: Path) -> None:
    shutil.copytree(runs[0], run := tmp_path / "runs" / runs[0].name)
    for noise, corruption in enumerate(("muscle-noise=0", "muscle-noise=20", "muscle-noise=10", "lead-off=2"), 1):
        evaluated(run, truth, corruption, noise=noise)
    away = evaluated(run, truth)
    shelf = tmp_path / "leaderboards"
    (copied,), faults = publish([run], shelf, truth)
    assert faults == []
    written = write(shelf, truth)

    with np.load(copied / "elsewhere" / away.name / "scores.npz") as file:
        assert file["logits"].dtype == np.float16
    assert check(shelf, truth) == [] and check(shelf, Truth(tmp_path / "nowhere")) == []
    (page,) = (path for path in written if path.name == "superdiag-elsewhere.md")
    text = page.read_text()
    assert "## other-1.0, fraction 0.1" in text or "## other-1.0, fraction 1" in text
    assert "Licence: ODC-By-1.0; source: https://example.org." in text and "licence: CC BY 4.0" in text
    assert "What these 80 records can show: the widest interval of a row is 0." in text
    lines = [line for line in text.splitlines() if line.startswith(("| muscle-noise |", "| lead-off |", "| none |"))]
    assert [line.split(" | ")[1] for line in lines[1:]] == ["2", "20", "10", "0"], "from mild to severe"
    (picture,) = (path for path in written if path.name.endswith("-robustness-1.svg"))
    drawn = picture.read_text()
    assert all(f">{word}<" in drawn for word in ("none", "20", "10", "muscle noise", "lead off", "SNR in dB"))
    assert picture.name in text

    shutil.rmtree(run / "elsewhere")
    assert publish([run], shelf, truth) == ([copied], [])
    assert check(shelf, truth) == [] and len(list((copied / "elsewhere").iterdir())) == 5, "none is lost"

    trained_again = json.loads((run / "result.json").read_text()) | {"weights_sha256": "0" * 64}
    evaluated(run, truth)
    (run / "result.json").write_text(json.dumps(trained_again))
    again = tmp_path / "again"
    shutil.copytree(shelf, again)
    nothing, (fault,) = publish([run], again, truth)
    assert not nothing and f"elsewhere/{away.name}/evaluation.json is of other weights than the result in" in fault
    shutil.rmtree(run / "elsewhere")
    (place,), faults = publish([run], again, truth)
    assert faults == [] and not (place / "elsewhere").exists(), "tests of other weights do not stand beside a result"

    published = copied / "elsewhere" / away.name / "evaluation.json"
    document = json.loads(published.read_text())
    document["metrics"]["macro"]["all"]["auroc"]["value"] += 0.01
    published.write_text(json.dumps(document))
    (fault,) = check(shelf, truth)
    assert "other-1.0: metrics.macro.all.auroc.value is recorded as" in fault and "but the scores give" in fault


def test_evaluations_that_must_not_be_published(runs: list[Path], truth: Truth, tmp_path: Path) -> None:
    shutil.copytree(runs[0], run := tmp_path / "runs" / runs[0].name)
    away = evaluated(run, truth, licence="unknown")
    copied, (fault,) = publish([run], tmp_path / "leaderboards", truth)
    assert not copied and fault.startswith(f"{run}: other-1.0: its data set states no licence: write it into")
    shutil.rmtree(away)
    corrupted = evaluated(run, truth, "lead-off=2")
    with np.load(corrupted / "scores.npz") as file:
        arrays = dict(file)
    arrays["y_true"] = arrays["y_true"][::-1]
    np.savez(corrupted / "scores.npz", **arrays)
    faults = publish([run], tmp_path / "leaderboards", truth)[1]
    assert any("records, labels or patients are not those of fold 10" in fault for fault in faults)
    shutil.rmtree(corrupted)
    large = evaluated(run, truth, noise=1e5)
    copied, (fault,) = publish([run], tmp_path / "leaderboards", truth)
    assert not copied and fault.startswith(f"{run}: {large.name}: its logits lie beyond 65,504, the largest of float16")


@pytest.mark.ptbxl
def test_a_compact_result_holds_fold_10_alone_and_passes_the_check(ptbxl: Path, tmp_path: Path) -> None:
    truth = Truth(ptbxl)
    run = next((ROOT / "leaderboards/ptb-xl-1.0.3/results/superdiag").glob("net1d_mini-ft-0.1-draw0-seed1-*"))
    before = load_result(run)
    (copied,), faults = publish([run], tmp_path, truth, compact=True)

    after = load_result(copied)
    assert faults == [] and after.digest == before.digest and [*after.document["metrics"]] == ["fold_10"]
    with np.load(copied / "predictions.npz") as file:
        assert file["logits_fold10"].dtype == np.float16 and "logits_fold9" not in file
    scores, rounded = before.predictions[TEST_FOLD], after.predictions[TEST_FOLD]
    assert rounded.logits.dtype == np.float32, "metrics are computed from float32"
    np.testing.assert_allclose(rounded.logits, scores.logits, rtol=2**-10)
    assert not np.array_equal(rounded.logits, scores.logits)
    values = [r.document["metrics"]["fold_10"]["macro"]["all"]["auroc"]["value"] for r in (before, after)]
    assert values[0] == pytest.approx(values[1], abs=1e-4)
    assert faults_of(after, truth) == []
    write(tmp_path, truth)
    assert check(tmp_path, truth) == []
    (calibration,) = tmp_path.glob("*/superdiag-calibration.md")
    assert re.search(r"^\| 1 \|.*\| – \| – \| – \|$", calibration.read_text(), re.M), "no thresholds without fold 9"


def test_scores_beyond_float16_are_not_published_compact(runs: list[Path], truth: Truth, tmp_path: Path) -> None:
    (copied,), faults = publish(runs[:1], tmp_path, truth, compact=True)
    assert faults == [] and [*load_result(copied).predictions] == [9, 10], "the digest of external scores covers them"
    scores = {10: Predictions(np.arange(2), ("A",), np.array([[1e5], [0.0]]))}
    result = replace(load_result(runs[0]))
    result.__dict__["predictions"] = scores  # a cached property
    with pytest.raises(BenchError, match=r"logits beyond 65,504, the largest of float16: publish it without --compact"):
        compact_scores(result)
