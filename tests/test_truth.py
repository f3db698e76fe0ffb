"""Labels by which results are scored: the dataset's own, if the fingerprint is the result's."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import bench
from bench.boards.truth import Truth
from bench.data.datasets.ptbxl import load_records
from bench.data.splits import held_out
from bench.data.tasks import find_task, label_table
from bench.errors import DataError
from bench.evaluation.predictions import Predictions
from bench.evaluation.scores import score_fold
from bench.results.identity import identity
from bench.results.result import PREDICTIONS, Result, load_result, write_result

PUBLISHED = Path(__file__).parent.parent / "leaderboards/ptb-xl-1.0.3/results/superdiag"


def result_of(fingerprint: str, dataset: str, task: str = "superdiag") -> Result:
    """As much of a result as the truth is chosen by."""
    document = {"task": {"fingerprint": fingerprint}, "dataset": {"name": dataset}, "cell": {"task": task}}
    return Result(Path("somewhere"), document)


def test_the_truth_is_the_datasets_own_and_only_if_it_fits(demo_set: Path, tmp_path: Path) -> None:
    records = load_records(demo_set)
    table = label_table(records, find_task("superdiag"))
    truth = Truth(demo_set)
    found = truth(result_of(table.fingerprint, records.name))

    assert found is not None
    assert found.ecg_id.tolist() == held_out(table).ecg_id.tolist()
    assert truth(result_of("0" * 64, records.name)) is None
    assert truth(result_of(table.fingerprint, "ptb-xl-1.0.3")) is None
    assert truth(result_of(table.fingerprint, records.name, task="of-a-plugin-that-is-gone")) is None
    assert Truth(tmp_path / "nowhere")(result_of(table.fingerprint, records.name)) is None


def test_predictions_of_another_run_are_not_ranked(demo_set: Path, tmp_path: Path) -> None:
    """They fit the records and labels, and their scores are nearly as high as the run's own."""
    records = load_records(demo_set)
    table = label_table(records, find_task("superdiag"))
    test = held_out(table)
    written = json.loads((sorted(PUBLISHED.glob("net1d_mini-*-0.1-*"))[0] / "result.json").read_text())
    for seed in range(2):
        document = copy.deepcopy(written)
        logits = np.random.default_rng(seed).normal(size=test.y_true.shape).astype(np.float32)
        document["dataset"]["name"], document["task"]["fingerprint"] = records.name, table.fingerprint
        document["cell"]["seed"] = seed
        document["metrics"] = {"fold_10": score_fold(test.y_true, logits, test.labels, test.patient_id)}
        document["digest"] = identity(document)
        (folder := tmp_path / f"runs/superdiag/net1d_mini-ft-seed{seed}").mkdir(parents=True)
        write_result(folder, document, {10: Predictions(test.ecg_id, test.labels, logits)})
    own, other = sorted((tmp_path / "runs/superdiag").iterdir())
    truth = Truth(demo_set)
    for _ in range(2):  # at once, and as remembered
        truth.require_own_scores(load_result(own))

    shutil.copy(other / PREDICTIONS, own)
    with pytest.raises(DataError, match="they are of two runs; remove the folder and run its cell again"):
        truth.require_own_scores(load_result(own))
    lines: list[str] = []
    (board,) = bench.leaderboard(tmp_path / "runs", data=demo_set, left_out=lines.append).boards
    assert [run.folder for row in board.rows for run in row.runs] == [other]
    assert len(lines) == 1 and lines[0].startswith(str(own / PREDICTIONS))
