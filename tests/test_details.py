"""Labels and parts of fold 10: scikit-learn's AUROC on those records, and intervals for all parts together."""

from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri
from sklearn.metrics import roc_auc_score

from bench.boards.comparisons import ResampledRun, compared, stand
from bench.boards.declared import EXPLORATORY, BoardPlan
from bench.boards.rows import Board, Row
from bench.boards.subgroups import compare_within
from bench.data.tasks import LabelTable
from bench.evaluation.bootstrap import make_replicates, resample
from bench.evaluation.metrics import auroc
from bench.pages.details import Details, details, some_pairs
from bench.results.result import Result

SIZE = 600
RANDOM = np.random.default_rng(0)
Y_TRUE = RANDOM.random((SIZE, 3)) < [0.3, 0.1, 0.005]
PATIENTS = np.sort(RANDOM.integers(400, size=SIZE))
TRUTH = LabelTable("form", ("A", "B", "RARE"), np.arange(SIZE), PATIENTS, np.full(SIZE, 10), Y_TRUE)
AGE, SEX = RANDOM.integers(18, 95, SIZE), RANDOM.integers(2, size=SIZE)
PEOPLE = pd.DataFrame({"age": AGE, "sex": SEX, "device": np.where(np.arange(SIZE) < 550, "AT-6", "rare one")})
PLAN = BoardPlan("ft", family=("lp",), primary="lpft minus ft")


def row(method: str, quality: float, seeds: int) -> Row:
    replicates = make_replicates(PATIENTS, Y_TRUE[:, :2], num_replicates=100)
    scored = {}
    for seed in range(seeds):
        y_score = quality * Y_TRUE + np.random.default_rng([seed, int(10 * quality)]).normal(size=Y_TRUE.shape)
        every = resample(Y_TRUE, y_score, replicates)
        scored[0, seed] = ResampledRun(y_score, every)
    runs = tuple(Result(Path(), {"cell": {"draw": 0, "seed": seed}}) for seed in range(seeds))
    return Row("net", "random", method, runs, {}, scored)


ROWS = (row("lpft", 2.0, 3), row("lp", 1.5, 3), row("mix", 1.2, 1), row("ft", 1.0, 3))


def board_of(rows: Sequence[Row] = ROWS) -> Board:
    standing = stand({each.name: each.scored for each in rows}, PLAN, TRUTH)
    return Board("ptb-xl-1.0.3", False, "form", "f", 1.0, "", tuple(rows), (), TRUTH, PLAN, standing)


@pytest.fixture(scope="module")
def board() -> Board:
    return board_of()


@pytest.fixture(scope="module")
def known(board: Board) -> Details:
    return details(board, PEOPLE, 1000)


def test_scores_are_those_of_scikit_learn_on_exactly_those_records(known: Details) -> None:
    assert [part.name for part in known.labels] == ["A", "B"]
    assert [part.name for part in known.parts][-3:] == ["sex male", "sex female", "device AT-6"]
    masks = {"sex male": SEX == 0, "age under 40": AGE < 40, "device AT-6": np.arange(SIZE) < 550}
    for each in ROWS:
        runs = list(each.scored.values())
        for column, part in enumerate(known.labels):
            every = [roc_auc_score(Y_TRUE[:, column], run.y_score[:, column]) for run in runs]
            assert part.scores[each.name] == pytest.approx(np.mean(every))
            assert part.facts == f"{Y_TRUE[:, column].sum()} positives"
        for part in known.parts:
            if part.name in masks:
                mask = masks[part.name]
                frequent = [c for c in range(3) if Y_TRUE[mask, c].sum() >= 10]
                every = [roc_auc_score(Y_TRUE[mask, c], run.y_score[mask, c]) for run in runs for c in frequent]
                assert part.scores[each.name] == pytest.approx(np.mean(every))
                assert part.facts.startswith(f"{mask.sum()} records of {len(np.unique(PATIENTS[mask]))} patients")


def test_label_differences_are_those_of_bench_compare(board: Board, known: Details) -> None:
    rows = {each.name: each.scored for each in ROWS}
    for pair in compared(rows, PLAN, TRUTH).pairs:
        for part in known.labels:
            assert part.differences[pair.first, pair.second] == pair.labels[part.name].interval


def test_part_differences_are_those_of_bench_compare(known: Details) -> None:
    """One pair is looked at in all parts; the other rows tell how much runs vary."""
    every = {each.name: each.scored for each in ROWS}
    named = {name: every[name] for name in (ROWS[0].name, ROWS[3].name)}
    others = {name: row for name, row in every.items() if name not in named}
    found = compare_within(compared(named, PLAN, TRUTH), named, TRUTH, PEOPLE, ("age", "sex", "device"), others)

    assert [f"{within.by} {within.group}" for within in found.within] == [part.name for part in known.parts]
    for within, part in zip(found.within, known.parts, strict=True):
        assert within.difference is not None
        at = part.differences[within.first, within.second]
        assert astuple(at) == pytest.approx((within.difference.value, within.difference.low, within.difference.high))
        assert [part.scores[name] for name in named] == pytest.approx(list(within.aurocs))


def test_part_intervals_hold_for_all_parts_together(known: Details) -> None:
    """With a single run the error is that of patients; a bootstrap over patients gives the same."""
    rows = [replace(each, runs=each.runs[:1], scored={(0, 0): each.scored[0, 0]}) for each in (ROWS[0], ROWS[3])]
    parts = details(board_of(rows), PEOPLE, 1000).parts
    part, mask = next(part for part in parts if part.name == "sex male"), SEX == 0
    first, second = (each.scored[0, 0].y_score for each in rows)
    members = [np.flatnonzero(mask & (patient == PATIENTS)) for patient in np.unique(PATIENTS[mask])]
    random, drawn = np.random.default_rng(0), []
    for _ in range(400):
        at = np.concatenate([members[place] for place in random.integers(len(members), size=len(members))])
        drawn.append(np.mean(auroc(Y_TRUE[at, :2], first[at, :2]) - auroc(Y_TRUE[at, :2], second[at, :2])))
    interval = part.differences[rows[0].name, rows[1].name]

    assert (interval.high - interval.low) / 2 == pytest.approx(-ndtri(0.025 / len(parts)) * np.std(drawn), rel=0.15)
    assert (interval.high + interval.low) / 2 == pytest.approx(interval.value)
    assert interval.value == pytest.approx(part.scores[rows[0].name] - part.scores[rows[1].name])


def test_runs_that_vary_widen_the_interval(known: Details) -> None:
    """Three copies of a run say no more than the run; three runs that differ have an error of their own."""
    copies = [replace(each, scored=dict.fromkeys(each.scored, each.scored[0, 0])) for each in (ROWS[0], ROWS[3])]
    alone = [replace(each, runs=each.runs[:1], scored={(0, 0): each.scored[0, 0]}) for each in (ROWS[0], ROWS[3])]
    names = ROWS[0].name, ROWS[3].name
    copied, single = (details(board_of(rows), PEOPLE, 1000).parts for rows in (copies, alone))

    for one, other in zip(copied, single, strict=True):
        assert astuple(one.differences[names]) == pytest.approx(astuple(other.differences[names]))
    widths = [
        [part.differences[names].high - part.differences[names].low for part in of] for of in (known.parts, single)
    ]
    assert np.mean(widths[0]) > 1.5 * np.mean(widths[1])


def test_beyond_the_limit_declared_pairs_stay(board: Board) -> None:
    assert board.standing is not None
    pairs = board.standing.pairs
    assert some_pairs(board, len(pairs)) == list(pairs)
    kept = some_pairs(board, len(pairs) - 1)
    baseline = ROWS[3].name
    assert {pair.role for pair in kept if baseline not in (pair.first, pair.second)} <= {"primary", "family"}
    declared = [pair for pair in pairs if pair.role != EXPLORATORY]
    assert len(declared) == 2
    assert some_pairs(board, 2) == declared, "these come first"

    few = details(board, PEOPLE, 40)
    assert not few.complete
    assert 0 < sum(len(part.differences) for part in (*few.labels, *few.parts)) <= 40
    assert details(board, PEOPLE, 1000).complete
    assert details(replace(board, standing=None), PEOPLE, 1000) == Details()
