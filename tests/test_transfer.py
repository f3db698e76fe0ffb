"""Finished runs on records of another data set, and on corrupted ones: right scores, kept apart from results."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

import bench
from bench.boards.elsewhere import boards_elsewhere
from bench.boards.rows import make_boards
from bench.boards.truth import Truth
from bench.cell import Cell
from bench.data.corruptions import Corruption
from bench.data.datasets import load_records
from bench.demo.dataset import write_demo
from bench.errors import BenchError, CheckpointError, DataError
from bench.evaluation import bootstrap
from bench.execute import Options, execute
from bench.inference import load_trained, predict_records
from bench.pages.leaderboards import write_leaderboards
from bench.registry.reference import Reference
from bench.results.elsewhere import EVALUATION, SCORES, Evaluation, find_evaluations, load_evaluation
from bench.results.prune import prune
from bench.results.result import Result, find_results, load_result
from bench.results.status import survey
from bench.training.features import EVALUATION_BATCH
from bench.transfer import Scope, _is_tested, _logits, _scope, _shared, evaluate, require_shared

pytestmark = pytest.mark.slow
NUM_HOME, NUM_ELSEWHERE = 300, 60
SHARED = ("ASMI", "CLBBB", "NORM", "LVH")
"""Codes that labels.csv of the other set declares equal."""
METHODS = ("lp(probe_epochs=2)", "lp(probe_epochs=3)")


@pytest.fixture(scope="module")
def home_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic PTB-XL whose fold 10 has 10 records with NORM, and 10 without."""
    folder = tmp_path_factory.mktemp("data") / "home"
    write_demo(folder, NUM_HOME, seed=1, rates=(100,))
    return folder


@pytest.fixture(scope="module")
def runs(home_set: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Two rows of one run each on task diag of the home set."""
    folder = tmp_path_factory.mktemp("runs")
    options = Options(runs=folder)
    cells = [
        Cell(data=home_set, task="diag", arch=Reference("net1d_mini"), method=Reference.parse(method))
        for method in METHODS
    ]
    return [execute(cell, options) for cell in cells]


@pytest.fixture(scope="module")
def other_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder of other people, whose labels have other codes: `my-NORM` equals NORM by its column."""
    folder = tmp_path_factory.mktemp("data") / "other"
    write_demo(folder, NUM_ELSEWHERE, seed=2, rates=(100,))
    theirs = load_records(folder)
    codes = sorted({code for each in theirs.scp_codes for code in each})
    (folder / "dataset.toml").write_text('name = "other"\nlicence = "CC0"\nsource = "here"\nrate = 100\n')
    labels = [f"my-{code},{code if code in SHARED else ''}" for code in codes]
    (folder / "labels.csv").write_text("\n".join(["code,ptbxl", *labels]))
    rows = [
        f"{ecg_id},{patient},{';'.join(f'my-{code}' for code in of_record)},{file}"
        for ecg_id, patient, of_record, file in zip(
            theirs.ecg_id, theirs.patient_id, theirs.scp_codes, theirs.names(100), strict=True
        )
    ]
    (folder / "records.csv").write_text("\n".join(["record,patient,labels,file", *rows]))
    return folder


@pytest.fixture(scope="module")
def evaluations(runs: list[Result], other_set: Path) -> list[Evaluation]:
    """Both runs on the other set."""
    return [evaluate(run.folder, other_set) for run in runs]


def test_a_run_is_scored_on_the_labels_that_both_have(
    runs: list[Result], other_set: Path, evaluations: list[Evaluation]
) -> None:
    evaluation = evaluations[0]
    records = load_records(other_set)

    assert evaluation.document["scored_on"] == "all records; no folds, nothing trained or selected on them"
    assert "IMI" in evaluation.document["not_shared"], "its column in labels.csv is empty"
    assert evaluation.document["labels"]["NORM"] == {"codes": ["my-NORM"], "by": "labels.csv"}
    truths = evaluation.truths
    np.testing.assert_array_equal(truths.predictions.ecg_id, records.ecg_id)
    # the same scores as `bench predict` gives, and the AUROC of scikit-learn on labels taken from the file
    rows = list(csv.DictReader(io.StringIO(predict_records(runs[0].folder, records.paths(100)))))
    for label in evaluation.frequent:
        column = evaluation.labels.index(label)
        probability = 1 / (1 + np.exp(-truths.predictions.logits[:, column].astype(float)))
        np.testing.assert_allclose(probability, [float(row[label]) for row in rows], atol=2e-6)
        positive = [f"my-{label}" in codes for codes in records.scp_codes]
        expected = roc_auc_score(positive, truths.predictions.logits[:, column])
        found = evaluation.document["metrics"]["labels"][label]["auroc"]
        assert found["value"] == pytest.approx(expected)
        assert found["low"] < found["value"] < found["high"]
    assert "NORM" in evaluation.frequent
    assert evaluation.document["metrics"]["num_patients"] == len(np.unique(records.patient_id))


def test_it_is_kept_beside_the_result_and_ranked_nowhere(runs: list[Result], other_set: Path, home_set: Path) -> None:
    before = {path: path.read_bytes() for path in runs[0].folder.iterdir() if path.is_file()}
    root = runs[0].folder.parent
    evaluation = evaluate(runs[0].folder, other_set)

    assert evaluation.folder.parent == runs[0].folder / "elsewhere"
    assert {path: path.read_bytes() for path in before} == before
    assert [result.folder for result in find_results(root)] == sorted(run.folder for run in runs)
    assert len(survey(root)) == len(runs)
    prune(root)
    assert (evaluation.folder / EVALUATION).is_file()
    (board,) = make_boards(list(find_results(root)), Truth(home_set))
    assert board.dataset != "other" and len(board.rows) == len(runs)
    again = evaluate(runs[0].folder, other_set)
    assert (again.folder, again.document) == (evaluation.folder, evaluation.document), "it can be repeated"


def test_corruptions_test_fold_10_of_the_set_of_training(runs: list[Result], home_set: Path) -> None:
    same = evaluate(runs[0].folder, home_set, [Corruption.parse("gain=1")])
    stored = runs[0].predictions[10]

    assert "fold 10" in same.document["scored_on"]
    assert same.labels == stored.labels
    np.testing.assert_array_equal(same.truths.predictions.ecg_id, stored.ecg_id)
    np.testing.assert_allclose(same.truths.predictions.logits, stored.logits, atol=1e-4)
    recorded = runs[0].document["metrics"]["fold_10"]["macro"]["all"]["auroc"]["value"]
    assert same.document["metrics"]["macro"]["all"]["auroc"]["value"] == pytest.approx(recorded, abs=1e-3)
    noisy = evaluate(runs[0].folder, home_set, [Corruption.parse("muscle-noise=-20"), Corruption.parse("short=5")])
    assert noisy.folder != same.folder
    assert np.abs(noisy.truths.predictions.logits - stored.logits).max() > 0.01
    assert noisy.document["corruptions"] == ["muscle-noise=-20", "short=5"]


def test_a_record_gets_the_same_logits_in_any_order_and_batch(
    runs: list[Result], home_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, records = load_trained(runs[0].folder), load_records(home_set)
    corruptions = [Corruption.parse("muscle-noise=10")]
    scope = _scope(trained.result, records, corruptions)
    scope = replace(scope, rows=np.arange(EVALUATION_BATCH + 21))
    mixed = np.random.default_rng(0).permutation(len(scope.rows))
    done: list[tuple[int, int]] = []

    def logits(scope: Scope) -> npt.NDArray[np.float64]:
        return _logits(trained, records, scope, 100, corruptions, 0, lambda *counts: done.append(counts), print)

    in_order = logits(scope)
    np.testing.assert_array_equal(logits(replace(scope, rows=scope.rows[mixed])), in_order[mixed])
    assert done[:2] == [(EVALUATION_BATCH, len(in_order)), (len(in_order), len(in_order))], "a batch at a time"
    monkeypatch.setattr("bench.transfer.EVALUATION_BATCH", 1)
    np.testing.assert_allclose(logits(scope), in_order, rtol=1e-4, atol=1e-5)


def test_the_page_has_both_sides_of_each_row_and_difference(
    runs: list[Result], evaluations: list[Evaluation], home_set: Path, tmp_path: Path
) -> None:
    truth = Truth(home_set)
    (board,) = make_boards(runs, truth)
    (tested,) = [each for each in boards_elsewhere(board) if each.title.startswith("other-")]

    first, second = ({each.row.name: each for each in tested.rows}[row.name] for row in board.rows)
    (pair,) = tested.pairs
    assert (pair.first, pair.second) == (first.row.name, second.row.name)
    assert pair.away.interval.value == pytest.approx(first.away.interval.value - second.away.interval.value)
    assert pair.home.interval.value == pytest.approx(first.home.interval.value - second.home.interval.value)
    assert pair.away.interval.low <= pair.away.interval.value <= pair.away.interval.high
    of_first = next(each for each in evaluations if each.run.folder == first.row.runs[0].folder)
    values = [of_first.document["metrics"]["labels"][label]["auroc"]["value"] for label in tested.labels]
    assert first.away.interval.value == pytest.approx(np.mean(values))
    at_home = [
        first.row.runs[0].document["metrics"]["fold_10"]["labels"][label]["auroc"]["value"] for label in tested.labels
    ]
    assert first.home.interval.value == pytest.approx(np.mean(at_home))

    written = write_leaderboards([board], tmp_path, truth)
    page = tmp_path / board.dataset / "diag-elsewhere.md"
    assert page in written
    text = page.read_text(encoding="utf-8")
    assert "other-" in text and "Licence: CC0; source: here" in text and "my-NORM (labels.csv)" in text
    assert f"{first.away.interval.value:.3f} [" in text
    assert "(diag-elsewhere.md)" in (tmp_path / board.dataset / "diag.md").read_text(encoding="utf-8")
    pictures = [path for path in written if path.name.endswith(".svg") and "elsewhere" in path.name]
    assert pictures and all(path.read_text().startswith("<?xml") for path in pictures)


def test_python_and_the_command_line_say_the_same(
    runs: list[Result], other_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from typer.testing import CliRunner

    from bench.cli import app

    frame = bench.evaluate(runs[0].folder, data=other_set, corrupt="lead-off=2").frame
    done = CliRunner().invoke(
        app, ["evaluate", str(runs[0].folder), "--data", str(other_set), "--corrupt", "lead-off=2", "--json"]
    )

    assert done.exit_code == 0, done.output
    (document,) = json.loads(done.stdout[done.stdout.index("[") :])
    assert frame["auroc"][0] == document["metrics"]["macro"]["frequent"]["auroc"]["value"]
    assert frame["corruptions"][0] == "lead-off=2"
    assert pd.notna(frame["in_distribution"][0])


def test_what_cannot_be_tested_is_refused(runs: list[Result], other_set: Path, home_set: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="its scores on fold 10 are in its result; name another data set"):
        evaluate(runs[0].folder, home_set)
    without = tmp_path / "without"
    shutil.copytree(runs[0].folder, without)
    (without / "weights.pt").unlink()
    with pytest.raises(CheckpointError, match="kept no weights; run its cell again with --keep-weights best"):
        evaluate(without, other_set)
    strange = tmp_path / "strange"
    shutil.copytree(other_set, strange)
    for name in ("labels.csv", "records.csv"):
        (strange / name).write_text((strange / name).read_text().replace("my-", "x"))
    lines = (strange / "labels.csv").read_text().splitlines()
    (strange / "labels.csv").write_text("\n".join(line.split(",")[0] for line in lines))
    with pytest.raises(DataError, match=r"has none of the labels of .*: the run knows .*, the data set .*column ptbxl"):
        evaluate(runs[0].folder, strange)


def test_options_that_change_nothing_are_refused_or_no_other_test(
    runs: list[Result], home_set: Path, other_set: Path, evaluations: list[Evaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded = evaluate(runs[0].folder, other_set, seed=7)
    assert seeded.conditions == evaluations[0].conditions and seeded.folder == evaluations[0].folder
    monkeypatch.setattr("bench.transfer._logits", lambda *given: pytest.fail("nothing is predicted in vain"))
    with pytest.raises(BenchError, match="--seed must not be negative, got -1"):
        evaluate(runs[0].folder, home_set, [Corruption.parse("gain=2")], seed=-1)
    with pytest.raises(BenchError, match="corruption short=20: records are cut to 10 s, as in training; expected less"):
        evaluate(runs[0].folder, home_set, [Corruption.parse("short=20")])


def test_irregular_records_are_counted_by_kind(runs: list[Result], other_set: Path, tmp_path: Path) -> None:
    shutil.copytree(other_set, odd := tmp_path / "odd")
    (odd / "dataset.toml").write_text('name = "odd"\nlicence = "CC0"\nsource = "here"\nrate = 100\n')
    for path in load_records(odd).paths(100)[:2]:
        header = path.with_name(path.name + ".hea")
        header.write_text(re.sub(r"\d+(\.\d+)?(\(0\))?/mV", "1/mV", header.read_text()))
    said: list[str] = []

    tested = evaluate(runs[0].folder, odd, log=said.append)
    shutil.rmtree(tested.folder)

    assert "records with leads too large for a surface ECG: 2" in said


def test_weights_that_began_on_the_other_set_are_not_tested_there(
    runs: list[Result], other_set: Path, home_set: Path
) -> None:
    options, arch, method = Options(runs=runs[0].folder.parent.parent / "more"), Reference("net1d_mini"), METHODS[0]
    first = execute(Cell(data=other_set, task="all", arch=arch, method=Reference.parse(method)), options)
    second = Cell(data=home_set, task="diag", arch=arch, method=Reference.parse(method), init=str(first.folder))

    refused = Options(runs=options.runs, also_on=(other_set,))
    with pytest.raises(DataError, match="this cell starts from weights that were trained on all of other"):
        execute(second, refused)
    assert not list(options.runs.glob("diag/*")), "before it is trained"
    trained = execute(second, options)
    with pytest.raises(DataError, match=r"starts from weights that were trained on all of other-\w+, folds 1-8"):
        evaluate(trained.folder, other_set)
    third = execute(replace(second, init=str(trained.folder), seed=1), options)
    facts = third.document["init"]["facts"]
    assert facts["trained_on"].startswith("diag of ") and facts["before"].startswith("all of other-")
    with pytest.raises(DataError, match=r"starts from weights that were trained on all of other-\w+, folds 1-8"):
        evaluate(third.folder, other_set)
    fourth = replace(second, init=str(third.folder), seed=2)
    with pytest.raises(DataError, match="this cell starts from weights that were trained on all of other"):
        execute(fourth, refused)


@pytest.mark.parametrize(
    ("home", "dataset", "is_refused"),
    [
        ("ptb-xl-1.0.3", "ptb-xl", True),
        ("cpsc2018-own-folds-1a2b3c4d", "cpsc2018", True),
        ("my-ecgs", "my-ecgs", True),
        ("my-ecgs-2024-01", "my-ecgs", True),
        ("my-ecgs-autumn", "my-ecgs", True),
        ("set-2-1a2b3c4d", "set-2", True),
        ("ptb-xl-1.0.3", "ptb", False),
        ("my-1a2b3c4d", "my-ecgs", False),
        ("my-ecgs-1a2b3c4d", "my", False),
    ],
)
def test_another_version_of_the_set_of_training_is_refused_by_its_name(
    home: str, dataset: str, is_refused: bool, runs: list[Result], other_set: Path
) -> None:
    """PTB is another data set than PTB-XL; a name without a version is `my-ecgs` alone."""
    records = replace(load_records(other_set), dataset=dataset, versions={"00000000": "autumn"})
    document = {**runs[0].document, "dataset": {**runs[0].document["dataset"], "name": home}}
    later = {**runs[0].document, "init": {"name": "w.pt", "facts": {"trained_on": f"diag of {home}, folds 1-8"}}}
    if is_refused:
        with pytest.raises(DataError, match=f"is trained on {home}, and .* another version or part of it"):
            _shared(document, records, "this cell")
        with pytest.raises(DataError, match=f"starts from weights that were trained on diag of {home}, folds 1-8"):
            _shared(later, records, "this cell")
    else:
        assert _shared(document, records, "this cell") and _shared(later, records, "this cell")


def test_files_of_another_rate_are_another_test(runs: list[Result], tmp_path: Path) -> None:
    write_demo(tmp_path / "both", NUM_ELSEWHERE, seed=3, rates=(100, 500))
    fine, usual = (evaluate(runs[0].folder, tmp_path / "both", source_rate=rate) for rate in (500, None))
    try:
        assert (fine.document["source_rate"], usual.document["source_rate"]) == (500, None)
        assert fine.folder != usual.folder and fine.conditions != usual.conditions
        assert [one.folder for one in find_evaluations(runs[0]) if one.folder in (fine.folder, usual.folder)]
        assert evaluate(runs[0].folder, tmp_path / "both", source_rate=100).folder == usual.folder
    finally:
        for each in (fine, usual):
            shutil.rmtree(each.folder)


def test_a_damaged_evaluation_or_one_of_another_run_is_refused(
    runs: list[Result], evaluations: list[Evaluation], tmp_path: Path
) -> None:
    evaluation = evaluations[0]
    copied = tmp_path / "copied"
    shutil.copytree(evaluation.folder, copied)

    with pytest.raises(DataError, match="is of another run than the result in"):
        load_evaluation(copied, runs[1])
    (copied / SCORES).write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"scores\.npz is not a file of scores"):
        _ = load_evaluation(copied, runs[0]).truths
    (copied / EVALUATION).write_text("{}")
    with pytest.raises(DataError, match="no evaluation of schema 1"):
        load_evaluation(copied, runs[0])
    assert all(each.run is runs[0] for each in find_evaluations(runs[0]))


def test_a_sweep_tests_each_cell_elsewhere_before_its_weights_go(
    runs: list[Result], evaluations: list[Evaluation], home_set: Path, other_set: Path, tmp_path: Path
) -> None:
    given = {"task": "diag", "arch": "net1d_mini", "data": home_set, "seed": "0", "runs": tmp_path}
    given |= {"also_on": [other_set], "console": Console(quiet=True)}
    swept = bench.sweep(METHODS[0], **given)

    folder = swept.cells[0].folder
    assert folder is not None and not (folder / "weights.pt").exists()
    (tested,) = find_evaluations(load_result(folder))
    np.testing.assert_allclose(
        tested.truths.predictions.logits, evaluations[0].truths.predictions.logits, rtol=1e-4, atol=1e-4
    )
    before = (tested.folder / EVALUATION).stat().st_mtime_ns
    bench.sweep(METHODS[0], **given)
    assert (tested.folder / EVALUATION).stat().st_mtime_ns == before, "a cell that was tested is left alone"


def test_a_cell_that_was_finished_before_is_tested_with_kept_weights_only(
    runs: list[Result], home_set: Path, other_set: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs[0].folder, kept := tmp_path / "runs" / "diag" / runs[0].folder.name)
    shutil.copytree(runs[1].folder, lost := tmp_path / "runs" / "diag" / runs[1].folder.name)
    for folder in (kept, lost):
        shutil.rmtree(folder / "elsewhere", ignore_errors=True)
    (lost / "weights.pt").unlink()
    out = Console(file=io.StringIO(), width=1000)
    given = {"task": "diag", "arch": "net1d_mini", "data": home_set, "seed": "0", "runs": tmp_path / "runs"}
    bench.sweep(list(METHODS), **given, also_on=[other_set], out=out, console=Console(quiet=True))

    assert list(find_evaluations(load_result(kept))) and not list(find_evaluations(load_result(lost)))
    assert (kept / "weights.pt").is_file(), "weights that were kept stay"
    shutil.copytree(other_set, no_labels := tmp_path / "no-labels")
    (no_labels / "dataset.toml").write_text('name = "no-labels"\nlicence = "CC0"\nsource = "here"\nrate = 100\n')
    (no_labels / "labels.csv").write_text((no_labels / "labels.csv").read_text().replace("my-", "x"))
    (no_labels / "labels.csv").write_text(re.sub(",.*", "", (no_labels / "labels.csv").read_text()))
    (no_labels / "records.csv").write_text((no_labels / "records.csv").read_text().replace("my-", "x"))
    swept = bench.sweep(METHODS[0], **given, also_on=[no_labels], out=out, console=Console(quiet=True))
    assert [cell.state for cell in swept.cells] == ["done"]
    assert "1 cells that were finished before; of the first: no-labels-" in out.file.getvalue()
    printed = out.file.getvalue()
    assert "not tested on the other data sets: 1 cells that were finished before and kept no weights" in printed
    cell = Cell(data=home_set, task="diag", arch=Reference("net1d_mini"), method=Reference.parse(METHODS[1]))
    with pytest.raises(CheckpointError, match="kept no weights; run its cell again with --keep-weights best"):
        execute(cell, Options(runs=tmp_path / "runs", also_on=(other_set,)))


def test_records_are_cut_to_the_length_of_the_training_records(runs: list[Result]) -> None:
    trained = load_trained(runs[0].folder)
    long = {**trained.result.document, "signals": {**trained.result.document["signals"], "seconds": 30.0}}
    old = {**long, "signals": {key: value for key, value in long["signals"].items() if key != "seconds"}}

    lengths = [replace(trained, result=Result(runs[0].folder, doc)).length_s for doc in (long, old)]

    assert lengths == [30.0, 10.0]
    assert trained.result.document["signals"]["seconds"] == 10.0


def test_a_test_by_a_reader_that_has_changed_counts_no_more(
    runs: list[Result], evaluations: list[Evaluation], other_set: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs[0].folder, folder := tmp_path / runs[0].folder.name)
    result, records = load_result(folder), load_records(other_set)
    path = folder / evaluations[0].folder.relative_to(runs[0].folder) / EVALUATION
    assert _is_tested(result, records, other_set), "a reader of ours has no code of its own"

    assert not _is_tested(result, replace(records, seconds=5.0), other_set), "cut to another length"
    renamed = {each[:8]: records.name.removeprefix(f"{records.dataset}-") for each in (records.content, "0" * 8)}
    assert _is_tested(result, replace(records, versions=renamed), other_set)
    imported_anew = replace(records, versions=renamed)
    imported_anew.__dict__["content"] = "0" * 64
    assert imported_anew.name == records.name and not _is_tested(result, imported_anew, other_set), "other content"
    retrained = Result(folder, {**result.document, "weights_sha256": "0" * 64})
    assert not _is_tested(retrained, records, other_set), "of an earlier attempt"
    document = json.loads(path.read_text())
    document["dataset"]["code_sha256"] = "0" * 64
    path.write_text(json.dumps(document))
    assert not _is_tested(result, records, other_set)
    path.write_text("{")
    assert not _is_tested(result, records, other_set), "a damaged file"
    path.unlink()
    assert not _is_tested(result, records, other_set)


def test_a_cell_whose_test_fails_goes_on_where_it_stopped(
    home_set: Path, other_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(other_set, broken := tmp_path / "broken")
    lost = load_records(broken).paths(100)[3].with_suffix(".dat")
    lost.rename(aside := tmp_path / "aside")
    cell = Cell(data=home_set, task="diag", arch=Reference("net1d_mini"), method=Reference.parse(METHODS[0]))
    options = Options(runs=tmp_path / "runs", keep_weights="none", also_on=(broken,))

    with pytest.raises(DataError, match=r"\.dat"):
        execute(cell, options)
    assert not list(find_results(tmp_path / "runs")), "it is not finished"
    aside.rename(lost)
    result = execute(cell, options)

    assert list(find_evaluations(result)) and not (result.folder / "weights.pt").exists()
    epochs = [line for line in (result.folder / "log.jsonl").read_text().splitlines() if '"epoch"' in line]
    assert len(epochs) == 2, "its two epochs were not trained again"


def test_what_cannot_be_tested_elsewhere_is_refused_before_training(
    home_set: Path, other_set: Path, tmp_path: Path
) -> None:
    shutil.copytree(other_set, strange := tmp_path / "strange")
    for name in ("labels.csv", "records.csv"):
        (strange / name).write_text((strange / name).read_text().replace("my-", "x"))
    lines = (strange / "labels.csv").read_text().splitlines()
    (strange / "labels.csv").write_text("\n".join(line.split(",")[0] for line in lines))
    arch, method = Reference("net1d_mini"), Reference.parse(METHODS[0])
    cell = Cell(data=home_set, task="superdiag", arch=arch, method=method)
    for options, words in (
        (Options(runs=tmp_path / "runs", also_on=(home_set,)), "on which the cell is trained; name another data set"),
        (Options(runs=tmp_path / "runs", also_on=(strange,)), "has none of the labels of this cell"),
        (Options(runs=tmp_path / "runs", also_on=(other_set,), stage="val"), "leave out --stage val"),
    ):
        with pytest.raises(BenchError, match=words):
            execute(cell, options)
    assert not list(tmp_path.glob("runs/superdiag/net1d*"))


def test_labels_in_too_few_patients_are_refused_before_training(
    runs: list[Result], home_set: Path, other_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For fold 10 and for the other set patients are resampled; here no candidate is enough."""
    monkeypatch.setattr(bootstrap, "MAX_CANDIDATES", 0)
    cell = Cell(data=home_set, task="diag", arch=Reference("prevalence"), method=Reference("lp"))
    with pytest.raises(BenchError, match="replicates of patients have a positive and a negative of every label"):
        execute(cell, Options(runs=tmp_path))
    assert not list(tmp_path.glob("diag/prevalence*"))
    with pytest.raises(BenchError, match="replicates of patients have a positive and a negative of every label"):
        require_shared(runs[0].document, [other_set], "test")
