"""How many records a method is worth: the inverse of the baseline's curve, its interval, and when it is refused."""

import math

import numpy as np
import pytest

from bench.boards.worth import FEW_POINTS, NO_RUNS, NOT_RISING, invert, worth_at
from bench.evaluation.hierarchical import Units

SHARES = (0.01, 0.03, 0.09)
CURVE = np.array([0.6, 0.7, 0.8])


@pytest.mark.parametrize(
    ("score", "share"),
    [(0.6, 0.01), (0.7, 0.03), (0.65, 0.01 * math.sqrt(3)), (0.8, 0.09), (0.81, math.inf), (0.59, 0.0)],
)
def test_the_curve_is_straight_over_the_logarithm_of_the_share(score: float, share: float) -> None:
    assert invert(SHARES, CURVE, score) == pytest.approx(share)


def test_a_redrawn_curve_that_falls_is_levelled() -> None:
    assert invert(SHARES, np.array([0.6, 0.7, 0.68]), 0.65) == pytest.approx(
        math.exp(np.interp(0.65, [0.6, 0.69], np.log([0.01, 0.03])))
    )


def units(method: float, curve: np.ndarray, num: int = 5, sd: float = 0.002, seed: int = 0) -> Units:
    """Units of one task and `num` draws: the method at all shares, then the baseline."""
    random = np.random.default_rng(seed)
    values = np.concatenate([np.full(len(curve), method), curve]) + sd * random.normal(size=(num, 2 * len(curve)))
    places = tuple((draw, 0) for draw in range(num))
    return Units(values, ("a",) * num, tuple(range(num)), places, np.zeros((1, 2 * len(curve), 3)))


def test_a_method_as_good_as_the_baseline_with_three_times_the_records_is_worth_three() -> None:
    found = worth_at(units(0.7, CURVE, sd=0.0), SHARES, 0, "lp")

    assert found.times == pytest.approx(3) and found.reason == ""
    assert (found.low, found.high) == pytest.approx((3, 3))


def test_the_interval_covers_what_is_true() -> None:
    covered = []
    for seed in range(60):
        found = worth_at(units(0.7, CURVE, sd=0.01, seed=seed), SHARES, 0, "lp")
        covered.append(found.low <= 3 <= found.high)

    assert np.mean(covered) >= 0.88
    assert found.high - found.low > 0.1


def test_above_and_below_the_curve_only_a_bound_is_known() -> None:
    above, below = (worth_at(units(score, CURVE), SHARES, 1, "lp") for score in (0.9, 0.5))

    assert math.isinf(above.times) and above.most == pytest.approx(3)
    assert below.times == 0 and below.least == pytest.approx(1 / 3)


def test_it_is_refused_where_the_curve_does_not_support_it() -> None:
    assert worth_at(units(0.7, CURVE[:2]), SHARES[:2], 0, "lp").reason == FEW_POINTS
    assert worth_at(units(0.7, np.array([0.6, 0.8, 0.7])), SHARES, 0, "lp").reason == NOT_RISING
    assert worth_at(units(0.7, CURVE, num=1), SHARES, 0, "lp").reason == NO_RUNS
    assert math.isnan(worth_at(units(0.7, CURVE, num=1), SHARES, 0, "lp").times)
