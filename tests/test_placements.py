"""The standard error of macro AUROC over rare labels too: DeLong's where that is defined, borrowed where it is not."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, make_replicates, resample, summarize
from bench.evaluation.metrics import Bools, Floats
from bench.evaluation.placements import difference_p, placements, summarize_all_labels
from bench.evaluation.runs import Prior

Fold = tuple[Bools, Floats]


@pytest.fixture
def fold() -> Fold:
    """400 records: two frequent labels, one with a single positive, one with three, one with none; some ties."""
    random = np.random.default_rng(0)
    y_true = random.random((400, 5)) < [0.3, 0.1, 0, 0, 0]
    y_true[7, 2] = y_true[10:13, 3] = True
    return y_true, (random.normal(size=y_true.shape) + y_true).round(1)


def test_placements_are_shares_of_pairs_won(fold: Fold) -> None:
    y_true, y_score = fold[0][:60, :2], fold[1][:60, :2]
    found = placements(y_true, y_score)

    for label in range(2):
        positive, score = y_true[:, label], y_score[:, label]
        for record in range(60):
            others = score[positive != positive[record]]
            ahead = (score[record] - others) * (1 if positive[record] else -1)
            assert found[record, label] == pytest.approx(np.mean((ahead > 0) + 0.5 * (ahead == 0)))
        assert found[positive, label].mean() == pytest.approx(metrics.auroc(y_true, y_score)[label])


def test_one_frequent_label_has_delongs_variance(fold: Fold) -> None:
    y_true, y_score = fold[0][:, :1], fold[1][:, :1]
    found = summarize_all_labels(np.arange(400), y_true, [y_score])
    placed, positive = placements(y_true, y_score)[:, 0], y_true[:, 0]
    delong = placed[positive].var(ddof=1) / positive.sum() + placed[~positive].var(ddof=1) / (~positive).sum()

    assert found.interval.value == metrics.auroc(y_true, y_score)[0]
    assert found.patient_sd == pytest.approx(np.sqrt(delong), rel=0.01)
    assert found.interval.high - found.interval.value == pytest.approx(1.96 * found.patient_sd, rel=1e-4)


def test_patients_are_the_unit(fold: Fold) -> None:
    """Five copies of each record: nothing is learnt from them, unless each passes for a patient."""
    y_true, y_score = fold[0][:, :2], fold[1][:, :2]
    once = summarize_all_labels(np.arange(400), y_true, [y_score]).patient_sd
    five = [np.repeat(one, 5, axis=0) for one in (y_true, y_score)]

    assert summarize_all_labels(np.repeat(np.arange(400), 5), five[0], [five[1]]).patient_sd == pytest.approx(once)
    assert summarize_all_labels(np.arange(2000), five[0], [five[1]]).patient_sd == pytest.approx(
        once / np.sqrt(5), rel=0.01
    )


def test_over_frequent_labels_it_is_what_draws_say(fold: Fold) -> None:
    y_true, y_score = fold[0][:, :2], fold[1][:, :2]
    patients = np.random.default_rng(1).integers(250, size=400)
    drawn = summarize(
        [resample(y_true, y_score, make_replicates(patients, y_true)).auroc.macro(np.ones(2, dtype=bool))]
    )

    assert summarize_all_labels(patients, y_true, [y_score]).patient_sd == pytest.approx(drawn.patient_sd, rel=0.08)


def test_what_rare_positives_do_not_tell_is_borrowed(fold: Fold) -> None:
    """By hand: the frequent labels' positives vary by this share of m (1 - m); so do the rare ones', at their mean."""
    y_true, y_score = fold[0][:, :4], fold[1][:, :4]
    found = summarize_all_labels(np.arange(400), y_true, [y_score])
    placed, auroc = placements(y_true, y_score), metrics.auroc(y_true, y_score)

    of_positives = sum(placed[y_true[:, c], c].var(ddof=1) for c in (0, 1))
    share = of_positives / sum(auroc[c] * (1 - auroc[c]) for c in (0, 1))
    mean = (auroc[2] + auroc[3] + auroc[:2].mean()) / 3
    borrowed = share * mean * (1 - mean) * (1 / 1 + 1 / 3) / 4**2
    seen = np.where(y_true, (placed - auroc) / y_true.sum(axis=0), (placed - auroc) / (~y_true).sum(axis=0))
    seen[y_true[:, 2], 2] = seen[y_true[:, 3], 3] = 0
    variance = np.square(seen.mean(axis=1)).sum() * 400 / 399 + borrowed

    assert found.patient_sd == pytest.approx(np.sqrt(variance))
    assert borrowed > 0.5 * variance  # nearly all of the doubt: draws of patients do not see it


def test_a_rare_label_without_a_fault_is_not_certain(fold: Fold) -> None:
    y_true, y_score = fold[0][:, :3], fold[1][:, :3].copy()
    y_score[7, 2] = 99
    with_rare, without = (summarize_all_labels(np.arange(400), y_true[:, :n], [y_score[:, :n]]) for n in (3, 2))

    assert with_rare.patient_sd > 1.3 * without.patient_sd
    assert with_rare.interval.high <= 1


def test_a_label_without_a_positive_has_no_part(fold: Fold) -> None:
    y_true, y_score = fold
    found = summarize_all_labels(np.arange(400), y_true, [y_score])

    without = summarize_all_labels(np.arange(400), y_true[:, :4], [y_score[:, :4]])
    assert replace(found, run_sd=0.0) == replace(without, run_sd=0.0)
    assert math.isnan(found.run_sd)
    assert math.isnan(without.run_sd)
    assert found.interval.value == pytest.approx(metrics.auroc(y_true, y_score)[:4].mean())


def test_constant_scores_are_half_and_sure_of_it() -> None:
    y_true = np.arange(100)[:, None] < [30, 1]
    found = summarize_all_labels(np.arange(100), y_true, [np.zeros(y_true.shape)])

    assert (found.interval.value, found.patient_sd) == (0.5, 0)


def test_runs_are_averaged_and_their_variance_added(fold: Fold) -> None:
    y_true, y_score = fold[0][:, :4], fold[1][:, :4]
    runs = [y_score + np.random.default_rng(seed).normal(size=y_score.shape) for seed in range(3)]
    found = summarize_all_labels(np.arange(400), y_true, runs)
    values = [metrics.auroc(y_true, run).mean() for run in runs]

    assert found.num_runs == 3
    assert found.interval.value == pytest.approx(np.mean(values))
    assert found.run_sd == pytest.approx(np.std(values, ddof=1))
    assert found.standard_error == pytest.approx(np.hypot(found.patient_sd, found.run_sd / np.sqrt(3)))
    assert found.patient_sd == pytest.approx(summarize_all_labels(np.arange(400), y_true, runs * 2).patient_sd)


def test_without_a_frequent_label_there_is_nothing_to_borrow(fold: Fold) -> None:
    found = summarize_all_labels(np.arange(400), fold[0][:, 2:], [fold[1][:, 2:]])

    assert found.interval.value > 0
    assert np.isnan([found.interval.low, found.interval.high]).all()


def two_models(num_records: int, num_positives: int, gain: float) -> tuple[Bools, Floats, Floats]:
    """Truth and placements of two models that share most of their noise, the first better by `gain`."""
    random = np.random.default_rng(3)
    y_true = np.arange(num_records)[:, None] < [num_positives]
    shared, own = random.normal(size=y_true.shape), random.normal(size=y_true.shape)
    return y_true, placements(y_true, shared + (1 + gain) * y_true), placements(y_true, shared + 0.4 * own + y_true)


def test_a_difference_has_the_p_of_delongs_test() -> None:
    y_true, first, second = two_models(3000, 900, -0.04)
    placed, positive = (first - second)[:, 0], y_true[:, 0]
    variance = placed[positive].var(ddof=1) / 900 + placed[~positive].var(ddof=1) / 2100
    z = placed[positive].mean() / np.sqrt(variance)
    expected = 2 * scipy.stats.norm.sf(abs(z))
    assert 0.001 < expected < 0.5

    assert difference_p(np.arange(3000), y_true, [first], [second]) == pytest.approx(expected, rel=0.03)
    assert difference_p(np.arange(3000), y_true, [second], [first]) == pytest.approx(expected, rel=0.03)


def test_copies_of_a_record_are_no_evidence() -> None:
    y_true, first, second = (np.repeat(one, 5, axis=0) for one in two_models(600, 200, 0.0))
    once = difference_p(np.arange(600), y_true[::5], [first[::5]], [second[::5]])

    assert difference_p(np.repeat(np.arange(600), 5), y_true, [first], [second]) == pytest.approx(once, rel=0.05)
    assert difference_p(np.arange(3000), y_true, [first], [second]) < 0.2 * once


def test_few_positives_leave_few_degrees_of_freedom() -> None:
    """Four positives decide: their t has about three degrees of freedom, not those of 2,000 patients."""
    y_true, first, second = two_models(2000, 4, 1.0)
    placed = (first - second)[:4, 0]
    expected = scipy.stats.ttest_1samp(placed, 0).pvalue
    p = difference_p(np.arange(2000), y_true, [first], [second])
    normal = 2 * scipy.stats.norm.sf(placed.mean() / (placed.std(ddof=1) / 2))

    assert p > 2 * normal
    assert p == pytest.approx(expected, rel=0.6)


def test_runs_that_vary_are_tested_by_t() -> None:
    y_true = np.arange(50)[:, None] < [20]
    runs = [np.where(y_true, 0.5 + gain, 0.5 + gain) for gain in (0.01, 0.02, 0.04)]
    p = difference_p(np.arange(50), y_true, runs, [np.full((50, 1), 0.5)] * 3)

    assert p == pytest.approx(scipy.stats.ttest_1samp([0.01, 0.02, 0.04], 0).pvalue)


def test_nothing_that_differs_and_nothing_that_varies() -> None:
    y_true, first, _ = two_models(100, 30, 0.0)

    assert difference_p(np.arange(100), y_true, [first], [first]) == 1
    assert difference_p(np.arange(100), y_true, [np.ones((100, 1))], [np.full((100, 1), 0.5)]) == 0


def test_p_takes_the_variance_of_runs_and_its_degrees_of_freedom_from_the_other_rows_too() -> None:
    """Runs of 2 degrees of freedom and a prior of 20: Student's t with 22, as patients give hardly any doubt."""
    random = np.random.default_rng(0)
    y_true = random.random((4000, 1)) < 0.4
    runs = [placements(y_true, shift * y_true + random.normal(size=y_true.shape)) for shift in (0.4, 0.5, 0.7)]
    other = [placements(y_true, random.normal(size=y_true.shape))] * 3
    values = [float((run - base)[y_true].mean()) for run, base in zip(runs, other, strict=True)]
    prior = Prior(np.array(0.03), np.array(20.0), np.array(60.0))
    p = difference_p(np.arange(4000), y_true, runs, other, priors={"runs": prior})

    error = math.sqrt((2 * np.var(values, ddof=1) + 20 * 0.03) / 22 / 3)
    assert p == pytest.approx(2 * scipy.stats.t.sf(np.mean(values) / error, 22), rel=0.05)
    assert 0.05 < p < 0.95


def test_an_interval_takes_them_too() -> None:
    values = np.array([0.70, 0.71, 0.75])
    interval = summarize(
        [Estimate(np.array(value), np.full(200, value)) for value in values],
        priors={"runs": Prior(np.array(0.0004), np.array(20.0), np.array(60.0))},
    ).interval

    error = math.sqrt((2 * values.var(ddof=1) + 20 * 0.0004) / 22 / 3)
    assert interval.high - interval.value == pytest.approx(scipy.stats.t.isf(0.025, 22) * error, rel=1e-4)
