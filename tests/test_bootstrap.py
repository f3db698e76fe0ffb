"""Draws are of patients and complete; metrics on them are scikit-learn's; intervals cover what they should."""

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import average_precision_score, roc_auc_score

from bench.errors import BenchError
from bench.evaluation import bootstrap, metrics
from bench.evaluation.bootstrap import Estimate, Interval, Resampled, make_replicates, resample, summarize
from bench.evaluation.compare import difference
from bench.evaluation.metrics import Bools, Floats, Ints
from bench.evaluation.runs import Design
from bench.evaluation.sampler import Sampler

Fold = tuple[Ints, Bools, Floats]
ENDLESS = (-np.inf, np.inf)


@pytest.fixture
def fold() -> Fold:
    """250 records of 150 patients; labels: common, rare, tied, constant, one positive, one negative, no positive."""
    random = np.random.default_rng(0)
    patient_id = np.concatenate([np.arange(150), random.integers(150, size=100)])
    y_true = random.random((250, 7)) < [0.4, 0.04, 0.2, 0.3, 0, 1, 0]
    y_true[0, 4], y_true[0, 5] = True, False
    y_score = random.normal(size=y_true.shape) + y_true
    y_score[:, 2] = y_score[:, 2].round()
    y_score[:, 3] = 0.5
    return patient_id, y_true, y_score


def test_patients_are_drawn_with_all_their_records(fold: Fold) -> None:
    patient_id, y_true, _ = fold
    counts = make_replicates(patient_id, y_true[:, :1], num_replicates=1000).counts
    _, first_record, patient_of_record = np.unique(patient_id, return_index=True, return_inverse=True)
    of_patient = counts[:, first_record]

    np.testing.assert_array_equal(counts, of_patient[:, patient_of_record])
    np.testing.assert_array_equal(of_patient.sum(axis=1), 150)
    assert of_patient.mean(axis=0).std() < 0.05  # no patient is preferred
    assert of_patient.var() == pytest.approx(1 - 1 / 150, abs=0.02)


def test_every_draw_has_a_positive_and_a_negative_of_every_defined_label(fold: Fold) -> None:
    patient_id, y_true, _ = fold
    replicates = make_replicates(patient_id, y_true, num_replicates=500)
    drawn = replicates.counts > 0

    assert (drawn @ y_true > 0)[:, :6].all()
    assert (drawn @ ~y_true > 0)[:, :6].all()
    assert 0 < replicates.acceptance < 1


def test_acceptance_is_the_chance_that_a_lone_carrier_is_drawn() -> None:
    y_true = np.zeros((60, 3), dtype=bool)
    y_true[7, 0], y_true[:, 1] = True, True  # the second has no negative, the third no positive: neither restricts

    assert make_replicates(np.arange(60), y_true, num_replicates=3000).acceptance == pytest.approx(
        1 - (59 / 60) ** 60, abs=0.03
    )
    assert make_replicates(np.arange(60), y_true[:, 1:], num_replicates=300).acceptance == 1
    assert make_replicates(np.arange(60), ~y_true, num_replicates=3000).acceptance == pytest.approx(
        1 - (59 / 60) ** 60, abs=0.03
    )


def test_draws_follow_from_the_seed_and_not_from_the_order_of_records(fold: Fold) -> None:
    patient_id, y_true, _ = fold
    replicates = make_replicates(patient_id, y_true, num_replicates=300, seed=3)
    order = np.random.default_rng(1).permutation(len(patient_id))

    np.testing.assert_array_equal(
        replicates.counts, make_replicates(patient_id, y_true, num_replicates=300, seed=3).counts
    )
    np.testing.assert_array_equal(
        replicates.counts[:, order],
        make_replicates(patient_id[order], y_true[order], num_replicates=300, seed=3).counts,
    )
    assert (replicates.counts != make_replicates(patient_id, y_true, num_replicates=300, seed=4).counts).any()


def test_labels_that_are_too_rare_are_named() -> None:
    y_true = np.zeros((80, 21), dtype=bool)
    y_true[np.arange(20), np.arange(20)] = True  # twenty labels, a patient each: one draw in ten thousand has them all
    y_true[:40, 20] = True
    names = [f"RARE{c}" for c in range(20)] + ["COMMON"]

    with pytest.raises(BenchError, match="RARE") as error:
        make_replicates(np.arange(80), y_true, num_replicates=20, labels=names)
    assert "COMMON" not in str(error.value)
    with pytest.raises(BenchError, match=r"column 1?\d"):
        make_replicates(np.arange(80), y_true, num_replicates=20)


def test_metrics_on_draws_are_those_of_scikit_learn(fold: Fold) -> None:
    patient_id, y_true, y_score = fold
    replicates = make_replicates(patient_id, y_true, num_replicates=25)
    resampled = resample(y_true, y_score, replicates)

    for c in range(6):
        auroc = [roc_auc_score(y_true[:, c], y_score[:, c], sample_weight=counts) for counts in replicates.counts]
        ap = [
            average_precision_score(y_true[:, c], y_score[:, c], sample_weight=counts) for counts in replicates.counts
        ]
        np.testing.assert_allclose(resampled.auroc.replicates[:, c], auroc, rtol=0, atol=1e-10)
        np.testing.assert_allclose(resampled.average_precision.replicates[:, c], ap, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(resampled.auroc.value, metrics.auroc(y_true, y_score))
    np.testing.assert_array_equal(resampled.average_precision.value, metrics.average_precision(y_true, y_score))
    assert np.isnan(resampled.auroc.replicates[:, 6]).all()
    assert np.isnan(resampled.average_precision.replicates[:, 6]).all()


def test_a_draw_without_a_positive_is_undefined(fold: Fold) -> None:
    patient_id, y_true, y_score = fold
    replicates = make_replicates(patient_id, y_true, num_replicates=2)
    replicates.counts[1, y_true[:, 1]] = 0

    resampled = resample(y_true, y_score, replicates)
    np.testing.assert_array_equal(np.isnan(resampled.auroc.replicates[:, 1]), [False, True])
    np.testing.assert_array_equal(np.isnan(resampled.average_precision.replicates[:, 1]), [False, True])


def test_task_all_needs_little_memory() -> None:
    """2,000 draws of 2,198 records and 71 labels; NumPy tells tracemalloc of what it holds."""
    random = np.random.default_rng(0)
    y_true = random.random((2198, 71)) < np.geomspace(0.005, 0.7, 71)
    tracemalloc.start()
    resampled = resample(
        y_true, random.normal(size=y_true.shape), make_replicates(random.integers(1900, size=2198), y_true)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert resampled.auroc.replicates.shape == (2000, 71)
    assert peak < 1e9


def test_draws_of_a_large_fold_are_done_in_parts(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    patient_id, y_true, y_score = fold
    replicates = make_replicates(patient_id, y_true, num_replicates=25)
    whole = resample(y_true, y_score, replicates)

    sizes = []

    def watched(y_true: Bools, counts: Any) -> Sampler:
        sizes.append(len(counts))
        return Sampler(y_true, counts)

    monkeypatch.setattr(bootstrap, "Sampler", watched)
    monkeypatch.setattr(bootstrap, "MAX_COUNTS", 7 * len(y_true) + 1)
    parts = resample(y_true, y_score, replicates)
    assert sizes == [7, 7, 7, 4]
    np.testing.assert_array_equal(parts.auroc.replicates, whole.auroc.replicates)
    np.testing.assert_array_equal(parts.average_precision.replicates, whole.average_precision.replicates)


def test_draws_lie_above_the_fold_in_average_precision_and_intervals_do_not() -> None:
    """40 rare labels: a positive drawn twice outranks more negatives. AUROC is not moved."""
    random = np.random.default_rng(0)
    y_true = np.arange(500)[:, None] < np.full(40, 12)
    replicates, every = make_replicates(np.arange(500), y_true, num_replicates=200), np.ones(40, dtype=bool)
    moved = {"auroc": [], "average_precision": []}  # type: dict[str, list[float]]
    for _ in range(10):
        resampled = resample(y_true, 2 * y_true + random.normal(size=y_true.shape), replicates)
        for metric, shifts in moved.items():
            run = getattr(resampled, metric).macro(every)
            shifts.append((run.replicates.mean() - run.value) / run.replicates.std())
            interval = summarize([run]).interval
            assert interval.high - interval.value == pytest.approx(interval.value - interval.low, rel=0.4)

    assert np.mean(moved["average_precision"]) > 0.3
    assert abs(np.mean(moved["auroc"])) < 0.15


def test_intervals_agree_with_scipy() -> None:
    random = np.random.default_rng(5)
    y_true = random.random((300, 1)) < 0.3
    y_score = random.normal(size=y_true.shape) + y_true
    mine = summarize(
        [resample(y_true, y_score, make_replicates(np.arange(300), y_true)).auroc.label(0)], level=0.9
    ).interval
    expected = scipy.stats.bootstrap(
        (y_true[:, 0], y_score[:, 0]),
        lambda truth, score: metrics.auroc(truth[:, None], score[:, None])[0],
        paired=True,
        vectorized=False,
        n_resamples=2000,
        confidence_level=0.9,
        method="percentile",
        rng=0,
    )

    # The sd of a 5 % quantile of 2,000 draws is 0.05 of the sd of the metric, here 0.03: 4 of them on a difference.
    assert mine.low == pytest.approx(expected.confidence_interval.low, abs=0.008)
    assert mine.high == pytest.approx(expected.confidence_interval.high, abs=0.008)
    assert mine.value == roc_auc_score(y_true, y_score)


def test_records_that_agree_are_no_evidence_of_their_own() -> None:
    """Five agreeing records a patient: resampled patients cover the true AUROC, resampled records do not.

    300 folds: Monte Carlo standard error 1.3 points at a coverage of 95 %, 2.8 at 60 %.
    """
    random = np.random.default_rng(0)
    true_auroc = scipy.stats.norm.cdf(1 / np.sqrt(2))
    patient_id = np.repeat(np.arange(100), 5)
    covered = {"patients": 0, "records": 0}
    for seed in range(300):
        positive = random.random(100) < 0.3
        y_true = np.repeat(positive, 5)[:, None]
        y_score = np.repeat(positive + random.normal(size=100), 5)[:, None] + random.normal(0, 0.05, (500, 1))
        for unit, names in (("patients", patient_id), ("records", np.arange(500))):
            resampled = resample(y_true, y_score, make_replicates(names, y_true, num_replicates=200, seed=seed))
            interval = summarize([resampled.auroc.label(0)]).interval
            covered[unit] += interval.low <= true_auroc <= interval.high

    assert 0.90 < covered["patients"] / 300 < 0.98
    assert covered["records"] / 300 < 0.72


def test_macro_and_difference_are_taken_within_each_draw(fold: Fold) -> None:
    patient_id, y_true, y_score = fold
    replicates = make_replicates(patient_id, y_true, num_replicates=10)
    first, second = resample(y_true, y_score, replicates).auroc, resample(y_true, -y_score, replicates).auroc
    labels = metrics.defined(y_true)

    np.testing.assert_allclose(first.macro(labels).replicates, first.replicates[:, :6].mean(axis=1))
    np.testing.assert_allclose((first - second).label(0).replicates, 2 * first.replicates[:, 0] - 1)
    np.testing.assert_allclose((first - second).macro(labels).value, 2 * first.value[:6].mean() - 1)


def test_one_run_has_the_percentile_interval_around_its_value() -> None:
    replicates = np.random.default_rng(0).gamma(2, size=2000)
    summary = summarize([Estimate(np.array(1.5), replicates)], level=0.9, bounds=ENDLESS)
    moved = replicates - replicates.mean() + 1.5

    assert summary.interval == Interval(
        1.5, pytest.approx(np.quantile(moved, 0.05)), pytest.approx(np.quantile(moved, 0.95))
    )
    assert summary.standard_error == summary.patient_sd == pytest.approx(replicates.std(ddof=1))
    assert np.isnan(summary.run_sd)
    assert summary.few_runs


def test_an_interval_ends_where_the_metric_does() -> None:
    run = Estimate(np.array(0.98), np.linspace(0.93, 1.0, 200))

    assert summarize([run]).interval.high == 1
    assert summarize([run], bounds=ENDLESS).interval.high > 1
    low = Estimate(np.array(0.02), np.linspace(0, 0.07, 200))
    assert summarize([low]).interval.low == 0
    assert difference([low], [low]).interval == Interval(0, 0, 0)
    assert difference([low], [run]).interval.low < -0.9


def test_runs_add_their_variance() -> None:
    replicates = np.random.default_rng(0).normal(0.9, 0.01, size=4000)
    runs = [Estimate(np.array(value), replicates + value - 0.9) for value in (0.88, 0.90, 0.92)]
    summary = summarize(runs)
    assert summary.interval.value == pytest.approx(0.9)
    assert summary.run_sd == pytest.approx(0.02)  # sqrt((0.02**2 + 0 + 0.02**2) / (3 - 1))
    assert summary.patient_sd == pytest.approx(replicates.std(ddof=1))
    assert summary.standard_error == pytest.approx(np.hypot(summary.patient_sd, 0.02 / np.sqrt(3)))
    assert summary.degrees_of_freedom == 2
    random = np.random.default_rng(1)  # a normal error and one of Student's t, drawn
    errors = summary.patient_sd * random.normal(size=10**6) + summary.run_error * random.standard_t(2, size=10**6)
    width = np.quantile(errors, 0.975) - np.quantile(errors, 0.025)
    assert summary.interval.high - summary.interval.low == pytest.approx(width, rel=0.03)
    assert not summary.few_runs


def test_runs_that_agree_leave_the_interval_as_it_is() -> None:
    run = Estimate(np.array(0.9), np.random.default_rng(0).normal(0.9, 0.01, size=500))

    alone, thrice = summarize([run]).interval, summarize([run] * 3).interval
    assert dataclasses.astuple(thrice) == pytest.approx(dataclasses.astuple(alone), rel=1e-12)


def test_intervals_of_three_runs_cover() -> None:
    """Runs that vary as much as patients do: coverage of 1,000 rows; Monte Carlo standard error 0.7 points."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        fold_effect = random.normal()
        values = fold_effect + random.normal(0, np.sqrt(3), size=3)
        replicates = random.normal(size=400)
        interval = summarize([Estimate(np.array(v), v + replicates) for v in values], bounds=ENDLESS).interval
        covered += interval.low <= 0 <= interval.high

    assert 0.92 < covered / 1000 < 0.98


def test_seeds_of_a_draw_are_no_draws() -> None:
    """Three draws, sd 0.02, of three seeds, sd 0.005: 1,000 rows. As nine independent runs they cover 68 %.

    Monte Carlo standard error 0.7 points.
    """
    random = np.random.default_rng(0)
    places = [(draw, seed) for draw in range(3) for seed in range(3)]
    covered = {"draws": 0, "runs": 0}
    for _ in range(1000):
        of_draw, of_fold, fold = random.normal(0, 0.02, size=3), random.normal(0, 0.005), random.normal(0, 0.005, 200)
        runs = {}
        for place in places:
            value = of_draw[place[0]] + of_fold + random.normal(0, 0.005)
            runs[place] = Estimate(np.array(value), value + fold)
        for unit, design in (("draws", Design.of(places, ["draw and seed"] * 9)), ("runs", Design.independent(9))):
            interval = summarize(list(runs.values()), bounds=ENDLESS, design=design).interval
            covered[unit] += interval.low <= 0 <= interval.high

    assert 0.92 < covered["draws"] / 1000 < 0.98
    assert covered["runs"] / 1000 < 0.8


def test_a_label_without_a_metric_has_no_interval() -> None:
    nothing = Estimate(np.array([np.nan]), np.full((10, 1), np.nan))
    interval = summarize([Resampled(nothing, nothing).auroc.label(0)]).interval

    assert np.isnan([interval.value, interval.low, interval.high]).all()
