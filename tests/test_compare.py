"""Comparisons: swaps of whole patients, Holm, letters, and the words for what was not found."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, Interval, Summary, make_replicates, resample
from bench.evaluation.compare import (
    difference,
    group_letters,
    holm,
    interval_p,
    practically_equal,
    resolvable_difference,
)
from bench.evaluation.metrics import Bools, Floats

BOTH = np.ones(2, dtype=bool)
PermutationP = Callable[..., float]


def noisy(y_true: Bools, noise: float, random: np.random.Generator) -> Floats:
    return y_true + noise * random.normal(size=y_true.shape)


def summary(value: float, low: float, high: float, patient_sd: float = 0.01, num_runs: int = 3) -> Summary:
    return Summary(Interval(value, low, high), patient_sd, np.nan, num_runs, 0.0, np.inf)


def test_permutation_p_is_that_of_swapping_ranks(permutation_p: PermutationP) -> None:
    """All 2^8 swaps of 8 patients by brute force, two runs, tied scores: the p that random swaps approach."""
    random = np.random.default_rng(2)
    patient_id = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 6, 7])
    y_true = (
        np.array([[1, 0], [0, 0], [1, 1], [0, 1], [0, 0], [1, 0], [0, 0], [1, 1], [0, 0], [0, 1], [0, 0], [1, 0]]) > 0
    )
    first = [noisy(y_true, 0.8, random).round(1) for _ in range(2)]
    second = [100 * noisy(y_true, 2, random).round(1) for _ in range(2)]

    def difference_after(swapped: tuple[bool, ...]) -> float:
        swap = np.array(swapped)[patient_id, None]
        differences = []
        for a, b in zip(first, second, strict=True):
            rank_a, rank_b = scipy.stats.rankdata(a, axis=0), scipy.stats.rankdata(b, axis=0)
            new_a, new_b = np.where(swap, rank_b, rank_a), np.where(swap, rank_a, rank_b)
            differences.append(metrics.auroc(y_true, new_a).mean() - metrics.auroc(y_true, new_b).mean())
        return float(np.mean(differences))

    observed = abs(difference_after((False,) * 8))
    every = [abs(difference_after(swapped)) for swapped in itertools.product([False, True], repeat=8)]
    exact_p = np.mean(np.array(every) >= observed - 1e-12)
    assert 0.02 < exact_p < 0.5  # or the comparison would show nothing

    p = permutation_p(patient_id, y_true, first, second, BOTH, num_permutations=40_000)
    assert p == pytest.approx(exact_p, abs=0.01)  # 4 Monte Carlo standard errors


def test_permutation_p_is_uniform_when_models_are_exchangeable(permutation_p: PermutationP) -> None:
    """200 folds of 60 patients with three agreeing records each; swapping records one by one rejects far too often."""
    random = np.random.default_rng(0)
    patient_id, record_id = np.repeat(np.arange(60), 3), np.arange(180)
    by_patient, by_record = [], []
    for seed in range(200):
        of_patient = random.random((60, 2)) < 0.3
        first, second = (np.repeat(noisy(of_patient, 1, random), 3, axis=0) for _ in range(2))
        y_true = np.repeat(of_patient, 3, axis=0)
        by_patient.append(permutation_p(patient_id, y_true, [first], [np.exp(second)], BOTH, 400, seed=seed))
        by_record.append(permutation_p(record_id, y_true, [first], [np.exp(second)], BOTH, 400, seed=seed))

    assert scipy.stats.kstest(by_patient, "uniform").pvalue > 0.01
    assert np.mean(np.array(by_patient) <= 0.05) < 0.10  # Monte Carlo standard error 1.5 points
    assert np.mean(np.array(by_record) <= 0.05) > 0.15


def test_permutation_p_is_small_but_never_0_for_a_strong_effect(permutation_p: PermutationP) -> None:
    random = np.random.default_rng(0)
    y_true = random.random((300, 2)) < 0.3
    good, bad = noisy(y_true, 0.3, random), noisy(y_true, 3, random)

    assert permutation_p(np.arange(300), y_true, [good], [bad], BOTH, num_permutations=999) == 0.001
    assert permutation_p(np.arange(300), y_true, [bad], [good], BOTH, num_permutations=999) == 0.001
    assert permutation_p(np.arange(300), y_true, [good], [np.tanh(good)], BOTH, num_permutations=99) == 1
    assert permutation_p(np.arange(300), y_true, [good * 0], [bad * 0], BOTH, num_permutations=99) == 1


def test_permutation_p_counts_what_only_rounding_makes_smaller(permutation_p: PermutationP) -> None:
    """Here each of the 8 swaps leaves a difference of 1/12 or 1/4, and 1/12 is observed."""
    first, second = np.random.default_rng(46).normal(size=(2, 7, 1))
    y_true = np.array([1, 0, 0, 1, 0, 1, 0])[:, None] > 0
    patient_id = np.array([0, 0, 1, 1, 2, 2, 2])

    assert permutation_p(patient_id, y_true, [first], [second], BOTH[:1], num_permutations=200) == 1


def test_permutation_p_follows_from_its_seed_and_its_labels(permutation_p: PermutationP) -> None:
    random = np.random.default_rng(0)
    y_true = random.random((100, 2)) < 0.3
    first, second = noisy(y_true, 1, random), noisy(y_true, 1, random)
    second[:, 1] = first[:, 1]
    p = permutation_p(np.arange(100), y_true, [first], [second], BOTH, 1500, seed=1)

    assert p == permutation_p(np.arange(100), y_true, [first], [second], BOTH, 1500, seed=1)
    assert p != permutation_p(np.arange(100), y_true, [first], [second], BOTH, 1500, seed=2)
    assert permutation_p(np.arange(100), y_true, [first], [second], np.array([False, True]), 1500) == 1


def test_difference_pairs_runs_and_draws() -> None:
    random = np.random.default_rng(0)
    y_true = random.random((400, 2)) < 0.3
    shared = noisy(y_true, 1, random)
    replicates = make_replicates(np.arange(400), y_true, num_replicates=400)
    rows = [
        [
            resample(y_true, shared + noise * random.normal(size=y_true.shape), replicates).auroc.macro(BOTH)
            for _ in range(3)
        ]
        for noise in (0.05, 0.6)
    ]
    paired = difference(*rows)

    assert paired.interval.value == pytest.approx(np.mean([a.value - b.value for a, b in zip(*rows, strict=True)]))
    assert 0 < paired.interval.low < paired.interval.high
    assert paired.patient_sd < 0.5 * rows[0][0].replicates.std()  # what the rows share cancels
    assert interval_p(paired) < 0.05
    with pytest.raises(ValueError, match="zip"):
        difference(rows[0], rows[1][:2])


def test_interval_p_agrees_with_the_interval() -> None:
    assert interval_p(summary(1.96, 0, 3.92, patient_sd=1)) == pytest.approx(0.05, abs=1e-4)
    assert interval_p(summary(-1.96, -3.92, 0, patient_sd=1)) == pytest.approx(0.05, abs=1e-4)
    few = difference(
        [Estimate(np.array(value), np.zeros(9) + value) for value in (0.01, 0.02, 0.03)],
        [Estimate(np.zeros(()), np.zeros(9))] * 3,
    )
    assert interval_p(few) == pytest.approx(scipy.stats.ttest_1samp([0.01, 0.02, 0.03], 0).pvalue)
    assert few.interval.low == pytest.approx(scipy.stats.ttest_1samp([0.01, 0.02, 0.03], 0).confidence_interval().low)


def test_interval_p_without_any_variation() -> None:
    assert interval_p(summary(0, 0, 0, patient_sd=0)) == 1
    assert interval_p(summary(0.1, 0.1, 0.1, patient_sd=0)) == 0


@pytest.mark.parametrize("patient_sd", [0.0, 0.005, 0.01, 0.02])
def test_a_resolvable_difference_is_found_in_four_of_five_studies(patient_sd: float) -> None:
    """Three runs of sd 0.01, patients besides: what 300 studies print in the mean is found in 1,000 others.

    Monte Carlo standard error 1.3 points of the share and 2 of the mean. By 2.8 standard errors it were 43 % without
    patients, and 73 % by variances whose root is too small in the mean.
    """
    random = np.random.default_rng(0)
    noise, nothing = patient_sd * np.random.default_rng(1).normal(size=200), [Estimate(np.zeros(()), np.zeros(200))] * 3
    studies = [[Estimate(np.array(x), noise) for x in 0.01 * random.normal(size=3)] for _ in range(300)]
    true = np.mean([resolvable_difference(difference(study, nothing)) for study in studies])
    found = []
    for _ in range(1000):
        values = true + patient_sd * random.normal() + 0.01 * random.normal(size=3)
        found.append(interval_p(difference([Estimate(np.array(x), noise) for x in values], nothing)) <= 0.05)

    assert 0.75 < np.mean(found) < 0.85


def test_of_many_runs_a_resolvable_difference_is_2_8_standard_errors() -> None:
    assert resolvable_difference(summary(0, -0.02, 0.02, patient_sd=0.01)) == pytest.approx(0.028, rel=1e-3)


def test_in_a_family_a_resolvable_difference_passes_the_first_step_of_holm() -> None:
    """Of 15 comparisons at 5 %: 2.935 standard errors for a two-sided p of 0.05 / 15, and 0.842 for a power of 80 %."""
    z = scipy.stats.norm.isf([0.05 / 30, 0.2]).sum()
    assert resolvable_difference(summary(0, -0.02, 0.02, patient_sd=0.01), 15) == pytest.approx(0.01 * z, rel=1e-3)


def test_equal_means_an_interval_inside_the_margin() -> None:
    assert practically_equal(summary(0.001, -0.002, 0.004), margin=0.005)
    assert not practically_equal(summary(0.001, -0.002, 0.004, num_runs=2), margin=0.005)
    assert not practically_equal(summary(0.001, -0.004, 0.006), margin=0.005)  # not significant is not equal
    assert not practically_equal(summary(-0.004, -0.006, -0.002), margin=0.005)
    assert not practically_equal(summary(np.nan, np.nan, np.nan), margin=0.005)


def test_holm_by_hand() -> None:
    """Sorted 0.005 0.01 0.03 0.04, times 4 3 2 1: 0.02 0.03 0.06 0.04; the last is raised to 0.06."""
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1, 1])
    assert holm([]).shape == (0,)


def test_letters_by_hand() -> None:
    """The first row separates from the last two, the second from the last: a chain of overlapping groups."""
    differs = np.zeros((4, 4), dtype=bool)
    for i, j in ((0, 2), (0, 3), (1, 3)):
        differs[i, j] = differs[j, i] = True

    assert group_letters(differs) == ["a", "ab", "bc", "c"]
    assert group_letters(np.zeros((3, 3), dtype=bool)) == ["a", "a", "a"]
    assert group_letters(~np.eye(3, dtype=bool)) == ["a", "b", "c"]


def test_rows_share_a_letter_if_and_only_if_they_do_not_differ() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        differs = np.triu(random.random((7, 7)) < 0.4, 1)
        differs |= differs.T
        letters = group_letters(differs)

        for i, j in itertools.combinations(range(7), 2):
            assert bool(set(letters[i]) & set(letters[j])) is not bool(differs[i, j])
        assert "a" in letters[0]
