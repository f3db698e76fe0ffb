"""Rows of a board are compared as `comparisons.stand` does it, to the last bit."""

import itertools
from typing import Any

import numpy as np
import pytest

from bench.boards import comparisons, standing
from bench.boards.comparisons import ScoredRow, ScoredRun
from bench.boards.declared import BoardPlan
from bench.data.tasks import LabelTable
from bench.evaluation import compare
from bench.evaluation.bootstrap import make_replicates, resample
from bench.evaluation.placements import placements

RANDOM = np.random.default_rng(0)
Y_TRUE = RANDOM.random((200, 4)) < [0.3, 0.5, 0.1, 0]
Y_TRUE[:4, 3] = True
PATIENTS = np.sort(RANDOM.integers(150, size=200))
TRUTH = LabelTable("form", ("A", "B", "C", "RARE"), np.arange(200), PATIENTS, np.full(200, 10), Y_TRUE)
REPLICATES = make_replicates(PATIENTS, Y_TRUE[:, :3], 100)


def run(quality: float, ties: bool = False, streams: Any = "seed") -> ScoredRun:
    y_score = RANDOM.normal(size=Y_TRUE.shape) + quality * Y_TRUE
    y_score = np.round(y_score, 1) if ties else y_score
    return ScoredRun(y_score.astype(np.float32), resample(Y_TRUE, y_score.astype(np.float32), REPLICATES), streams)


def rows_of(places: list[list[tuple[int, int]]], ties: bool) -> dict[str, ScoredRow]:
    names = [f"{method} on net (random)" for method in ("ft", "lp", "lpft", "ft-sd", "lpft-sd", "scratch", "x", "y")]
    return {
        name: {place: run(0.3 * at, ties, "draw and seed" if place[0] else "seed") for place in of_row}
        for at, (name, of_row) in enumerate(zip(names, places, strict=False))
    }


SEEDS = [(0, seed) for seed in range(3)]
DRAWN = [(draw, seed) for draw in range(3) for seed in range(2)]


@pytest.mark.parametrize(
    ("places", "ties"),
    [
        pytest.param([SEEDS] * 4, False, id="three seeds"),
        pytest.param([SEEDS] * 3, True, id="ties"),
        pytest.param([DRAWN] * 6, False, id="draws and seeds, with a prior"),
        pytest.param([SEEDS, SEEDS[:1], SEEDS[1:], [(0, 7)], DRAWN], False, id="few common runs, and none"),
        pytest.param([SEEDS], False, id="a single row"),
    ],
)
def test_every_number_is_that_of_comparisons(
    places: list[list[tuple[int, int]]], ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparisons, "NUM_PERMUTATIONS", 300)  # fewer than 100 a pair: some pairs get more of them
    rows, plan = rows_of(places, ties), BoardPlan(baseline="ft", margin=0.02)

    expected = comparisons.stand(rows, plan, TRUTH, {"lp on net (random)"})

    assert repr(standing.stand(rows, plan, TRUTH, {"lp on net (random)"})) == repr(expected)
    assert expected is not None and len(expected.ranks) == len(rows)


def test_without_rows_or_frequent_labels_nothing_is_compared() -> None:
    rare = LabelTable("form", ("RARE",), TRUTH.ecg_id, PATIENTS, TRUTH.strat_fold, Y_TRUE[:, 3:])

    assert standing.stand({}, BoardPlan(), TRUTH) is None
    assert standing.stand(rows_of([SEEDS], False), BoardPlan(), rare) is None


def test_ranks_give_swap_effects_and_placements() -> None:
    placing = standing.Placing(Y_TRUE)
    first, second = (np.round(RANDOM.normal(size=Y_TRUE.shape) + Y_TRUE, 1) for _ in range(2))
    ranks = [compare._doubled_ranks(Y_TRUE, scores) for scores in (first, second)]

    placed = [placing.place(scores) for scores in (first, second)]

    np.testing.assert_array_equal(placing.swap_effects(*placed), compare._swap_effects(Y_TRUE, *ranks))
    np.testing.assert_array_equal(placing.placements(placed[0]), placements(Y_TRUE, first))


def test_permutations_are_counted_as_in_compare() -> None:
    """Also where many sums are equal, as those of few patients with effects, and where nothing differs."""
    random = np.random.default_rng(2)
    effects = random.normal(size=(90, 60)) * 1e-3 + 2.5e-4
    effects[:, 0] = 0
    effects[5:, 1] = 0
    effects[:, 2] = np.round(effects[:, 2], 3)

    expected = compare._num_as_large(effects, 2500, np.random.default_rng(0))

    counted = standing._num_as_large(effects, effects[:, :10], 2500, np.random.default_rng(0))
    np.testing.assert_array_equal(counted, expected)
    assert expected[0] == 2500
    assert {0, 1} < set(expected.tolist())


def test_pairs_that_are_nearly_combinations_of_others_are_counted_as_in_compare() -> None:
    random = np.random.default_rng(3)
    of_rows = random.normal(size=(90, 12)) * 1e-3 + np.linspace(0, 1e-3, 12)
    effects = np.stack([of_rows[:, a] - of_rows[:, b] for a, b in itertools.combinations(range(12), 2)], axis=1)
    effects += random.normal(size=effects.shape) * 1e-6
    total = effects.sum(axis=0)

    near, far = standing._rough(effects, effects[:, :11], abs(total))[::-1]
    assert len(far.factors) == 2 and len(far.pairs) > 10 and len(near.factors) == 1 and len(near.pairs) > 10
    swapped = random.integers(2, size=(500, 90), dtype=np.int8)
    whole = abs(total - 2 * swapped @ effects)
    for part in (near, far):
        maybe = np.zeros(whole.shape, dtype=bool)
        maybe[tuple(part.large(swapped))] = True
        assert maybe[:, part.pairs][(whole >= abs(total))[:, part.pairs]].all()

    expected = compare._num_as_large(effects, 4000, np.random.default_rng(0))
    counted = standing._num_as_large(effects, effects[:, :11], 4000, np.random.default_rng(0))
    np.testing.assert_array_equal(counted, expected)
    assert 0 < np.count_nonzero(expected[far.pairs]) < len(far.pairs)
