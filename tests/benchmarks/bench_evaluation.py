"""Bootstrap, permutations and the whole evaluation of a fold, against loops over scikit-learn."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from bench.boards.rows import make_boards
from bench.data.tasks import LabelTable
from bench.evaluation.bootstrap import make_replicates, resample
from bench.evaluation.metrics import macro
from bench.evaluation.scores import score_fold
from bench.results.result import Result, find_results

RECORDS, LABELS, DRAWS, FEW = 2198, 71, 2000, 4
RANDOM = np.random.default_rng(0)
PATIENTS = RANDOM.integers(1904, size=RECORDS)
Y_TRUE = RANDOM.random((RECORDS, LABELS)) < np.geomspace(0.008, 0.5, LABELS)
FIRST, SECOND = ((RANDOM.normal(size=Y_TRUE.shape) + Y_TRUE).astype(np.float32) for _ in range(2))


def test_bootstrap(compare: Any) -> None:
    replicates = make_replicates(PATIENTS, Y_TRUE, DRAWS)

    def by_scikit_learn() -> list[list[tuple[float, float]]]:
        return [
            [
                (
                    roc_auc_score(Y_TRUE[:, column], FIRST[:, column], sample_weight=counts),
                    average_precision_score(Y_TRUE[:, column], FIRST[:, column], sample_weight=counts),
                )
                for column in range(LABELS)
            ]
            for counts in replicates.counts[:FEW]
        ]

    ours = resample(Y_TRUE, FIRST, replicates)
    both = np.stack([ours.auroc.replicates, ours.average_precision.replicates], axis=-1)
    np.testing.assert_allclose(both[:FEW], by_scikit_learn(), rtol=0, atol=1e-10)
    compare(
        f"AUROC and AP in {DRAWS:,} draws of {RECORDS:,} records, {LABELS} labels",
        lambda: resample(Y_TRUE, FIRST, replicates),
        f"scikit-learn draw by draw ({FEW} draws, scaled)",
        by_scikit_learn,
        scale=DRAWS / FEW,
        rounds=2,
        goal="100",
    )


def test_permutations(compare: Any, permutation_p: Any) -> None:
    everything, num = np.ones(LABELS, dtype=bool), 10_000
    ranks = [score.argsort(0).argsort(0) for score in (FIRST, SECOND)]

    def one_by_one() -> None:
        for _ in range(FEW):
            swapped = RANDOM.random(1904)[PATIENTS][:, None] < 0.5
            for one in (np.where(swapped, *ranks), np.where(swapped, *ranks[::-1])):
                roc_auc_score(Y_TRUE, one, average="macro")

    compare(
        f"{num:,} permutations of a macro AUROC difference, {LABELS} labels",
        lambda: permutation_p(PATIENTS, Y_TRUE, [FIRST], [SECOND], everything, num),
        f"scikit-learn swap by swap ({FEW} swaps, scaled)",
        one_by_one,
        scale=num / FEW,
        rounds=2,
    )


def test_whole_fold(compare: Any) -> None:
    names = [f"L{column}" for column in range(LABELS)]
    found = score_fold(Y_TRUE, FIRST, names, PATIENTS)
    assert np.isclose(found["macro"]["all"]["auroc"]["value"], roc_auc_score(Y_TRUE, FIRST, average="macro"))
    assert np.isclose(macro(np.array([1.0, 3.0]), np.array([True, True])), 2)
    compare("fold 10 scored, with intervals", lambda: score_fold(Y_TRUE, FIRST, names, PATIENTS), rounds=2)


def test_boards(compare: Any) -> None:
    """What is published, judged by labels made up here, so that no dataset is needed."""
    results = list(find_results(Path(__file__).parents[2] / "leaderboards"))

    @functools.cache
    def labels_of(task: str) -> LabelTable:
        one = next(result.predictions[10] for result in results if result.cell["task"] == task)
        y_true = RANDOM.random(one.logits.shape) < np.geomspace(0.02, 0.4, len(one.labels))
        patients = RANDOM.integers(1877, size=len(y_true))
        return LabelTable(task, one.labels, one.ecg_id, patients, np.full(len(y_true), 10), y_true)

    def truth(result: Result) -> LabelTable:
        return labels_of(result.cell["task"])

    def by_scikit_learn() -> None:
        for result in results:
            y_true, scores = truth(result).y_true, result.predictions[10].logits
            counts = np.bincount(RANDOM.integers(len(y_true), size=len(y_true)), minlength=len(y_true))
            for score in (roc_auc_score, average_precision_score):
                score(y_true, scores, average="macro", sample_weight=counts)

    boards = make_boards(results, truth, anew=True)
    row = boards[0].rows[0]
    mean = np.mean([roc_auc_score(truth(run).y_true, run.predictions[10].logits) for run in row.runs])
    assert np.isclose(row.score, mean)
    compare(
        f"{len(boards)} boards of {len(results)} published results: intervals, tests, ranks",
        lambda: make_boards(results, truth, anew=True),
        f"scikit-learn, the intervals' {DRAWS:,} draws alone (1 draw, scaled)",
        by_scikit_learn,
        scale=DRAWS,
        rounds=1,
        warmup_rounds=0,
        goal="100",
    )
    make_boards(results, truth)
    compare(
        "the same boards when nothing has changed",
        lambda: make_boards(results, truth),
        "computing them again",
        lambda: make_boards(results, truth, anew=True),
        rounds=1,
    )
