"""How much runs vary: by designs, moderated over rows, and what p and intervals make of it."""

import itertools

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

from bench.evaluation.metrics import Floats
from bench.evaluation.runs import (
    Design,
    Prior,
    RunVariance,
    borrow,
    critical_value,
    fit_prior,
    inverse_trigamma,
    moderate,
    resolvable,
    shared_noise,
    two_sided_p,
    unbiased,
)

PLACES = list(itertools.product(range(5), range(3)))
CROSSED, NESTED = Design.of(PLACES, ["seed"] * 15), Design.of(PLACES, ["draw and seed"] * 15)


def mean_squares(values: Floats) -> tuple[float, float, float]:
    """Of draws, of seeds and of the residual of [draw, seed]: a two-way analysis of variance by hand."""
    draws, seeds = values.shape
    left = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    of_draws, of_seeds = seeds * values.mean(1).var(ddof=1), draws * values.mean(0).var(ddof=1)
    return float(of_draws), float(of_seeds), float((left**2).sum() / (draws - 1) / (seeds - 1))


@pytest.mark.parametrize(("of_draw", "of_seed"), [(1.0, 3.0), (1.0, 0.0), (0.0, 3.0), (0.0, 0.0)])
def test_the_variance_of_a_crossed_design_is_that_of_two_way_analysis(of_draw: float, of_seed: float) -> None:
    random = np.random.default_rng(4)
    values = random.normal(size=(5, 3))
    values += of_draw * np.arange(5)[:, None] + of_seed * np.arange(3)
    d, s, e = mean_squares(values)
    found = CROSSED.variance(values.ravel())

    terms = [(d, 4)] * (d > e) + [(s, 2)] * (s > e) + [(e, 8)] * ((d > e) == (s > e))
    assert found.of_mean * 15 == pytest.approx(max(d, e) + max(s, e) - e)
    satterthwaite = (max(d, e) + max(s, e) - e) ** 2 / sum(x**2 / n for x, n in terms)
    of_larger = 8 if max(d, s) <= e else 4 if d > s else 2
    assert found.degrees_of_freedom == pytest.approx(min(satterthwaite, of_larger))
    assert CROSSED.kind == "crossed"
    assert CROSSED.num_independent == 3


def test_draws_with_streams_of_their_own_are_replications() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3))
    found = NESTED.variance(values.ravel())

    assert NESTED.kind == "draws"
    assert found.of_mean == pytest.approx(values.mean(1).var(ddof=1) / 5)
    assert found.degrees_of_freedom == 4
    assert NESTED.num_independent == 5


def test_runs_of_one_draw_are_independent_given_it() -> None:
    design = Design.of([(2, 5), (2, 7), (2, 8)], ["draw and seed"] * 3)

    assert (design.kind, design.num_independent) == ("runs", 3)
    assert design.variance([1.0, 2.0, 6.0]).of_mean == pytest.approx(np.var([1, 2, 6], ddof=1) / 3)


def test_draw_0_has_the_streams_of_its_seeds_whatever_the_rest_has() -> None:
    mixed = Design.of([(0, 0), (0, 1), (1, 0), (1, 1)], ["seed", "seed", "draw and seed", "draw and seed"])
    assert mixed.kind == "draws"


@pytest.mark.parametrize("missing", [(0, 0), (4, 2)])
def test_a_crossed_design_with_missing_cells_has_its_variance_in_the_mean(missing: tuple[int, int]) -> None:
    """4,000 simulated rows against the true variance of the mean of draws' means; Monte Carlo error 2 %."""
    places = [place for place in PLACES if place not in (missing, (2, 1))]
    design, random = Design.of(places, ["seed"] * 13), np.random.default_rng(0)
    values = random.normal(size=(4000, 5)) @ design.draw_matrix + 2 * random.normal(size=(4000, 3)) @ np.array(
        [[float(seed == at) for _, seed in places] for at in range(3)]
    )
    values += 0.5 * random.normal(size=values.shape)

    assert design.variance(values).of_mean.mean() == pytest.approx((values @ design.weights).var(), rel=0.1)


def test_the_prior_is_that_of_the_log_variances() -> None:
    """Against Smyth's equations, solved by SciPy's root finder with the caution added by hand."""
    variance = np.array([0.5, 2.0, 9.0, 0.1, 4.0, 1.0])
    found = fit_prior(variance, 2, 5)
    assert found is not None

    logs = np.log(variance) - scipy.special.digamma(1)
    caution = np.sqrt(scipy.special.polygamma(3, 1.0) / 5 + 2 * scipy.special.polygamma(1, 1.0) ** 2 / 4)
    spread = logs.var(ddof=1) - np.pi**2 / 6 + caution
    half = scipy.optimize.brentq(lambda x: scipy.special.polygamma(1, x) - spread, 1e-3, 1e3)
    assert found.degrees_of_freedom == pytest.approx(2 * half)
    assert found.variance == pytest.approx(np.exp(logs.mean() + scipy.special.digamma(half) - np.log(half)))
    assert found.limit == 10


def test_the_prior_of_many_rows_is_the_true_one() -> None:
    random = np.random.default_rng(0)
    true = 3.0 * 6 / random.chisquare(6, size=40_000)
    found = fit_prior(true * random.chisquare(4, size=40_000) / 4, 4, 40_000)
    assert found is not None

    assert found.degrees_of_freedom == pytest.approx(6, rel=0.05)
    assert found.variance == pytest.approx(3, rel=0.02)


def test_rows_that_vary_alike_are_pooled() -> None:
    found = fit_prior([1.0, 1.01, 0.99] * 20, 2, 60)
    assert found is not None

    assert found.degrees_of_freedom == np.inf
    moderated = moderate(RunVariance(np.array(7.0), np.array(2.0), 3, "runs"), found)
    assert (moderated.variance, moderated.degrees_of_freedom) == (pytest.approx(1.0), 120)


def test_a_moderated_variance_lies_between_its_own_and_the_others() -> None:
    prior = Prior(np.array(4.0), np.array(3.0), np.array(14.0))
    found = moderate(RunVariance(np.array(1.0), np.array(2.0), 3, "runs"), prior)

    assert found.variance == pytest.approx((3 * 4 + 2 * 1) / 5)
    assert found.degrees_of_freedom == 5
    assert moderate(RunVariance(np.array(1.0), np.array(2.0), 3, "runs"), None).variance == 1
    capped = moderate(
        RunVariance(np.array(1.0), np.array(2.0), 3, "runs"), Prior(np.array(4.0), np.array(30.0), np.array(14.0))
    )
    assert capped.degrees_of_freedom == 14


def test_a_single_run_has_what_the_others_tell_and_runs_that_agree_have_nothing() -> None:
    prior = Prior(np.array(4.0), np.array(3.0), np.array(14.0))
    alone = Design.independent(1).variance([0.7])

    assert alone.of_mean == 0
    assert moderate(alone, prior).of_mean == 4
    assert moderate(alone, prior).degrees_of_freedom == 3
    assert moderate(Design.independent(3).variance([0.5] * 3), prior).of_mean == 0


def test_one_variance_tells_nothing_of_others_nor_do_those_of_another_kind() -> None:
    runs, draws = Design.independent(3).variance([1.0, 2.0, 4.0]), NESTED.variance(np.arange(15) ** 2.0)

    assert borrow([runs], 1) == borrow([runs, draws], 2) == {}
    assert set(borrow([runs] * 5 + [draws], 5)) == {"runs"}


def test_four_variances_tell_too_little_of_others_and_five_enough() -> None:
    runs = [Design.independent(3).variance([0.0, size, 3 * size]) for size in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)]

    assert borrow(runs[:4], 4) == borrow(runs, 4) == {}
    assert set(borrow(runs[:5], 5)) == set(borrow(runs, 5)) == {"runs"}


def test_the_root_of_an_unbiased_estimate_is_the_true_standard_deviation() -> None:
    """Of 200,000 studies with a standard deviation of 3; Monte Carlo error 0.1 %."""
    random = np.random.default_rng(0)
    for known in (1, 2, 7):
        estimates = unbiased(9 * random.chisquare(known, size=200_000) / known, known)
        assert np.sqrt(estimates).mean() == pytest.approx(3, rel=0.008)
    assert unbiased(0.0, np.inf) == 0


@pytest.mark.parametrize("known", [0.7, 2.0, 5.5, 40.0, 3000.0])
@pytest.mark.parametrize("value", [0.3, 3.0, 12.0])
def test_p_where_runs_are_all_the_doubt_is_students(known: float, value: float) -> None:
    assert two_sided_p(value, 0.0, 2.0, known) == pytest.approx(
        2 * scipy.stats.t.sf(value / np.sqrt(2), known), rel=1e-4, abs=1e-14
    )


@pytest.mark.parametrize(("runs", "known"), [(0.3, 2.0), (1.0, 2.0), (9.0, 4.0)])
def test_p_is_that_of_a_normal_error_plus_one_of_student(runs: float, known: float) -> None:
    def tail(t: float) -> float:
        error = np.sqrt(runs) * t
        return float((scipy.stats.norm.sf(3 - error) + scipy.stats.norm.cdf(-3 - error)) * scipy.stats.t.pdf(t, known))

    expected = sum(scipy.integrate.quad(tail, a, b)[0] for a, b in [(-np.inf, -5), (-5, 5), (5, np.inf)])
    assert two_sided_p(3.0, 1.0, runs, known) == pytest.approx(expected, rel=1e-5)
    assert critical_value(two_sided_p(3.0, 1.0, runs, known), 1.0, runs, known) == pytest.approx(3)


def test_p_without_runs_is_that_of_patients() -> None:
    assert two_sided_p(3.0, 1.0, 0.0, np.inf) == pytest.approx(2 * scipy.stats.norm.sf(3))
    assert two_sided_p(3.0, 1.0, 0.0, np.inf, 4.0) == pytest.approx(2 * scipy.stats.t.sf(3, 4))
    assert two_sided_p(0.0, 0.0, 0.0, np.inf) == 1
    assert two_sided_p(0.1, 0.0, 0.0, np.inf) == 0


@pytest.mark.parametrize(("patients", "runs", "known", "family"), [(1, 0, 2, 15), (1, 1, 5, 15), (0, 1, 2, 1)])
def test_what_can_be_resolved_is_found_in_four_of_five_studies(
    patients: float, runs: float, known: float, family: int
) -> None:
    """20,000 studies; Monte Carlo standard error 0.3 points."""
    random, true = np.random.default_rng(0), resolvable(0.05 / family, 0.8, patients, runs, known)
    value = true + np.sqrt(patients + runs) * random.normal(size=20_000)
    p = two_sided_p(value, patients, runs * random.chisquare(known, size=20_000) / known, known)

    assert np.mean(p <= 0.05 / family) == pytest.approx(0.8, abs=0.015)


def test_runs_at_one_place_move_together_in_all_rows() -> None:
    designs = [Design.independent(3)] * 2 + [Design.independent(1)]
    values = [np.array([0.1, 0.4, 0.2]), np.array([0.5, 0.8, 0.6]), np.array([0.3])]
    own = [design.variance(of_row) for design, of_row in zip(designs, values, strict=True)]
    moderated = [*own[:2], RunVariance(np.array(0.04), np.array(5.0), 1, "runs")]
    noise = shared_noise(designs, values, moderated, 20_000, np.random.default_rng(0))

    np.testing.assert_allclose(noise[0], noise[1])
    assert scipy.stats.kstest(noise[0] / np.sqrt(own[0].of_mean), scipy.stats.t(2).cdf).pvalue > 0.01
    assert scipy.stats.kstest(noise[2] / 0.2, scipy.stats.t(5).cdf).pvalue > 0.01
    assert abs(scipy.stats.spearmanr(noise[0], noise[2])[0]) < 0.03


def test_inverse_trigamma() -> None:
    x = np.array([0.01, 0.5, 1, 20, 1e4])
    np.testing.assert_allclose(inverse_trigamma(scipy.special.polygamma(1, x)), x, rtol=1e-8)
