"""What the permutation test computes fast is what plain sums give; `test_compare.py` holds its p against references."""

import itertools
from typing import Any

import numpy as np
from scipy.stats import rankdata

from bench.evaluation import permutation
from bench.evaluation.placements import placements

RANDOM = np.random.default_rng(0)
Y_TRUE = RANDOM.random((200, 4)) < [0.3, 0.5, 0.1, 0]
Y_TRUE[:4, 3] = True
PATIENTS = np.sort(RANDOM.integers(150, size=200))


def swap_effects(y_true: Any, first: Any, second: Any) -> Any:
    """Each record's part of AUROC(first) - AUROC(second), label by label, from doubled ranks [record, label]."""
    effects, num_ranks = np.empty(first.shape), 2 * len(y_true) + 1
    for column, is_positive in enumerate(y_true.T):
        rank_a, rank_b = first[:, column], second[:, column]
        for own, sign in ((is_positive, 1), (~is_positive, -1)):
            at = np.bincount(rank_a[~own], minlength=num_ranks) + np.bincount(rank_b[~own], minlength=num_ranks)
            below = at.cumsum() - at / 2  # [doubled rank] records of the other class below this rank; a tie is half
            effects[own, column] = sign * (below[rank_a[own]] - below[rank_b[own]]) / (2 * own.sum() * (~own).sum())
    return effects


def test_ranks_give_swap_effects_and_placements() -> None:
    placing = permutation.Placing(Y_TRUE, PATIENTS)
    first, second = (np.round(RANDOM.normal(size=Y_TRUE.shape) + Y_TRUE, 1) for _ in range(2))
    ranks = [(2 * rankdata(scores, axis=0)).astype(np.int64) for scores in (first, second)]

    placed = [placing.place(scores) for scores in (first, second)]

    np.testing.assert_array_equal(placing.swap_effects(*placed), swap_effects(Y_TRUE, *ranks))
    np.testing.assert_array_equal(placing.placements(placed[0]), placements(Y_TRUE, first))


def test_permutations_are_counted_one_by_one() -> None:
    """Also where many sums are equal, as those of few patients with effects, and where nothing differs."""
    random = np.random.default_rng(2)
    effects = random.normal(size=(90, 60)) * 1e-3 + 2.5e-4
    effects[:, 0] = 0
    effects[5:, 1] = 0
    effects[:, 2] = np.round(effects[:, 2], 3)

    expected = permutation._num_as_large(effects, 2500, np.random.default_rng(0))

    counted = permutation._num_as_large_of_many(effects, effects[:, :10], 2500, np.random.default_rng(0))
    np.testing.assert_array_equal(counted, expected)
    assert expected[0] == 2500
    assert {0, 1} < set(expected.tolist())


def test_pairs_that_are_nearly_combinations_of_others_are_counted_one_by_one() -> None:
    random = np.random.default_rng(3)
    of_rows = random.normal(size=(90, 12)) * 1e-3 + np.linspace(0, 1e-3, 12)
    effects = np.stack([of_rows[:, a] - of_rows[:, b] for a, b in itertools.combinations(range(12), 2)], axis=1)
    effects += random.normal(size=effects.shape) * 1e-6
    total = effects.sum(axis=0)

    near, far = permutation._rough(effects, effects[:, :11], abs(total))[::-1]
    assert len(far.factors) == 2 and len(far.pairs) > 10 and len(near.factors) == 1 and len(near.pairs) > 10
    swapped = random.integers(2, size=(500, 90), dtype=np.int8)
    whole = abs(total - 2 * swapped @ effects)
    for part in (near, far):
        maybe = np.zeros(whole.shape, dtype=bool)
        maybe[tuple(part.large(swapped))] = True
        assert maybe[:, part.pairs][(whole >= abs(total))[:, part.pairs]].all()

    expected = permutation._num_as_large(effects, 4000, np.random.default_rng(0))
    counted = permutation._num_as_large_of_many(effects, effects[:, :11], 4000, np.random.default_rng(0))
    np.testing.assert_array_equal(counted, expected)
    assert 0 < np.count_nonzero(expected[far.pairs]) < len(far.pairs)
