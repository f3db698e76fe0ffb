"""Differences in parts of a fold: equal to the harness's own test on the whole, to scikit-learn, and right together."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from bench.evaluation.parts import Effect, bounds, macro_auroc
from bench.evaluation.placements import difference_p, placements
from bench.evaluation.runs import Design, Prior

RANDOM = np.random.default_rng(1)
SIZE, GROUPS = 500, 4
PATIENTS = np.sort(RANDOM.integers(300, size=SIZE))
Y_TRUE = RANDOM.random((SIZE, 3)) < [0.3, 0.1, 0.2]
SHARED = RANDOM.normal(size=Y_TRUE.shape)


def runs(quality: float, seeds: int = 3) -> list[NDArray[np.float64]]:
    noise = [np.random.default_rng([seed, int(100 * quality)]).normal(size=Y_TRUE.shape) for seed in range(seeds)]
    return [quality * Y_TRUE + SHARED + 0.4 * each for each in noise]


FIRST, SECOND = runs(1.5), runs(1.1)
EVERY = np.ones(3, dtype=bool)
HALF = np.arange(SIZE) % 2 == 0


def difference(part: NDArray[np.bool_], labels: NDArray[np.bool_]) -> Effect:
    first, second = (macro_auroc(PATIENTS, Y_TRUE, each, part, labels) for each in (FIRST, SECOND))
    return first - second


def test_values_are_scikit_learns_on_the_part() -> None:
    labels = np.array([True, False, True])
    effect = macro_auroc(PATIENTS, Y_TRUE, FIRST, HALF, labels)

    expected = [
        np.mean([roc_auc_score(Y_TRUE[HALF, c], run[HALF, c]) for c in np.flatnonzero(labels)]) for run in FIRST
    ]
    np.testing.assert_allclose(effect.values, expected)
    away = ~np.isin(np.unique(PATIENTS), PATIENTS[HALF])
    assert (effect.influence[:, away] == 0).all() and away.any()


def test_on_the_whole_fold_p_is_that_of_the_board() -> None:
    found = bounds(difference(np.ones(SIZE, dtype=bool), EVERY))

    placed = [[placements(Y_TRUE, run) for run in each] for each in (FIRST, SECOND)]
    assert found.p == pytest.approx(difference_p(PATIENTS, Y_TRUE, *placed), rel=1e-6)


def weighted(y_score: NDArray[np.float64], weight: NDArray[np.int64], c: int) -> float:
    """AUROC of label c with weighted records: the share of weighted pairs in the right order; no score is tied."""
    positive = Y_TRUE[:, c]
    right = y_score[positive, c][:, None] > y_score[~positive, c]
    return float(weight[positive] @ right @ weight[~positive] / weight[positive].sum() / weight[~positive].sum())


def test_the_error_is_that_of_resampled_patients() -> None:
    """With one run, the interval is 1.96 standard deviations of the difference over replicates of patients."""
    effect = difference(HALF, EVERY)
    alone = Effect(effect.values[:1], effect.influence[:1])
    found = bounds(alone)
    patients, of_record = np.unique(PATIENTS, return_inverse=True)
    inside = np.unique(of_record[HALF])
    random, drawn = np.random.default_rng(0), []
    for _ in range(1000):
        weight = np.bincount(random.choice(inside, len(inside)), minlength=len(patients))[of_record] * HALF
        drawn.append(np.mean([weighted(FIRST[0], weight, c) - weighted(SECOND[0], weight, c) for c in range(3)]))

    assert found.few_runs
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.std(drawn), rel=0.12)


@pytest.mark.parametrize("num_looks", [1, 7])
def test_an_interval_ends_where_p_is_five_percent(num_looks: int) -> None:
    effect = difference(HALF, EVERY)
    found = bounds(effect, num_looks=num_looks)

    for end in (found.low, found.high):
        at_end = bounds(Effect(effect.values - end, effect.influence), num_looks=num_looks)
        assert at_end.p == pytest.approx(0.05, rel=1e-5)


def test_bonferroni_multiplies_p_and_widens() -> None:
    effect = Effect(np.array([0.02]), np.full((1, 400), 0.0005))  # one run: the standard error is 0.01
    one, five = bounds(effect), bounds(effect, num_looks=5)

    assert one.p == pytest.approx(2 * norm.sf(2), rel=1e-2)
    assert five.p == pytest.approx(5 * one.p)
    assert (five.high - five.low) / (one.high - one.low) == pytest.approx(norm.isf(0.005) / norm.isf(0.025), rel=2e-2)


def test_limits_cut_off_and_no_error_has_no_width() -> None:
    effect = Effect(np.array([0.99, 0.97]), np.full((2, 10), 0.02))

    assert bounds(effect, limits=(0.0, 1.0)).high == 1.0
    exact = bounds(Effect(np.zeros(3), np.zeros((3, 10))))
    assert (exact.low, exact.high, exact.p) == (0.0, 0.0, 1.0)


def test_a_prior_replaces_the_variance_of_runs_that_happen_to_agree() -> None:
    effect = Effect(np.array([0.01, 0.0101, 0.0099]), np.full((3, 100), 1e-5))
    prior = Prior(np.array(1e-4), np.array(10.0), np.array(20.0))

    own, moderated = bounds(effect), bounds(effect, priors={"runs": prior}, design=Design.independent(3))

    assert moderated.high - moderated.low > 10 * (own.high - own.low)


def covered(random: np.random.Generator, num_runs: int, of_run: float) -> tuple[bool, bool]:
    """Whether all intervals of one made-up study cover their truths: corrected, and not corrected.

    400 patients with one or two records, in four groups of unequal size and difference, two labels. The runs of a row
    vary in quality with a standard deviation of `of_run`.
    """
    patient = np.sort(random.integers(400, size=600))
    group = random.choice(GROUPS, size=400, p=[0.4, 0.3, 0.2, 0.1])[patient]
    y_true = random.random((600, 2)) < [0.35, 0.25]
    quality = np.array([[1.4, 1.0, 1.2, 1.3], [1.2, 1.0, 0.9, 1.3]])  # [row, group]
    own = 0.6
    shared = 0.6 * random.normal(size=(400, 2))[patient] + 0.8 * random.normal(size=y_true.shape)
    rows = [
        [
            (quality[row][group] + of_run * random.normal())[:, None] * y_true
            + shared
            + own * random.normal(size=y_true.shape)
            for _ in range(num_runs)
        ]
        for row in range(2)
    ]
    truth = norm.cdf(quality / np.sqrt(2 * (1 + own**2) + of_run**2))  # AUROC of normal scores, mean over all runs
    corrected, plain = True, True
    for g in range(GROUPS):
        first, second = (macro_auroc(patient, y_true, row, group == g, np.ones(2, dtype=bool)) for row in rows)
        for num_looks in (1, GROUPS):
            found = bounds(first - second, num_looks=num_looks)
            hit = found.low <= truth[0, g] - truth[1, g] <= found.high
            corrected, plain = corrected and (hit or num_looks == 1), plain and (hit or num_looks > 1)
    return corrected, plain


def test_corrected_intervals_cover_together_and_plain_ones_do_not() -> None:
    """Of 2,000 such studies 95.6 % were covered with the correction, and 83.3 % without."""
    random = np.random.default_rng(5)
    corrected, plain = np.mean([covered(random, 1, 0.0) for _ in range(80)], axis=0)

    assert 0.9 < corrected < 1
    assert plain < 0.9


def test_they_cover_together_where_runs_vary() -> None:
    """Of 1,000 such studies 99.3 % were covered: few runs make intervals wide."""
    random = np.random.default_rng(6)

    assert np.mean([covered(random, 3, 0.15)[0] for _ in range(30)]) > 0.9
