"""Rows against each other: declared baselines, families, letters, ranks, and rows that are named."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from bench.boards.comparisons import (
    ALPHA,
    Comparison,
    ResampledRun,
    ScoredRow,
    adjust,
    as_data,
    compare_pairs,
    compared,
    design_of,
    label_differences,
    priors_of_labels,
    stand,
)
from bench.boards.declared import BoardPlan
from bench.data.tasks import LabelTable
from bench.errors import BenchError
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, Interval, Resampled, Summary, make_replicates, resample
from bench.evaluation.compare import resolvable_difference
from bench.evaluation.placements import difference_p, placements
from bench.evaluation.runs import NO_PRIORS

RANDOM = np.random.default_rng(0)
Y_TRUE = np.hstack([RANDOM.random((300, 2)) < 0.3, np.arange(300)[:, None] < 3])
PATIENTS = np.sort(RANDOM.integers(200, size=300))
TRUTH = LabelTable("form", ("A", "B", "RARE"), np.arange(300), PATIENTS, np.full(300, 10), Y_TRUE)
DRAWS = make_replicates(PATIENTS, Y_TRUE, num_replicates=200)
SHARED = RANDOM.normal(size=Y_TRUE.shape)


def row(quality: float, seeds: Sequence[int] = (0, 1, 2), draw: int = 0) -> ScoredRow:
    """Runs of one quality that share most of their noise with every other row's."""
    runs = {}
    for seed in seeds:
        noise = np.random.default_rng([seed, int(100 * quality)]).normal(size=Y_TRUE.shape)
        y_score = quality * Y_TRUE + SHARED + 0.1 * noise
        runs[draw, seed] = ResampledRun(y_score, resample(Y_TRUE, y_score, DRAWS))
    return runs


ROWS = {"best": row(2.0), "good": row(1.2), "twin": row(1.2001), "bad": row(0.1)}


def test_standing_tells_apart_what_differs_and_no_more() -> None:
    found = stand(ROWS, BoardPlan("good", None, 0.02), TRUTH)
    assert found is not None

    assert found.letters == {"best": "a", "good": "b", "twin": "b", "bad": "c"}
    assert found.ranks["best"] == (1, 1)
    assert found.ranks["bad"] == (4, 4)
    assert found.ranks["good"][0] == 2
    assert len(found.pairs) == 6
    assert {(one.role, one.family_size) for one in found.pairs} == {("family", 3), ("exploratory", 3)}
    assert [(one.first, one.second) for one in found.pairs if one.practically_equal] == [("good", "twin")]
    assert set(found.baseline) == {"best", "twin", "bad"}
    assert {one.family_size for one in found.baseline.values()} == {3}
    assert found.baseline["best"].significant
    assert not found.baseline["twin"].significant
    assert found.baseline["bad"].differences["auroc"].interval.high < 0


def test_a_pair_of_single_runs_is_marked_in_data_too() -> None:
    found = stand({"good": row(1.2, seeds=[0]), "twin": row(1.2001, seeds=[0])}, BoardPlan("twin", None, 0.1), TRUTH)
    assert found is not None
    (pair,) = found.pairs
    data = as_data(pair)

    assert pair.differences["auroc"].interval.high < 0.1 and not pair.practically_equal
    assert (data["few_pairs"], data["p_adjusted"], data["practically_equal"]) == (True, None, False)
    assert data["p"] == pair.p
    assert as_data(stand(ROWS, BoardPlan(), TRUTH).pairs[0])["few_pairs"] is False  # type: ignore[union-attr]


def test_a_label_of_a_single_run_takes_the_variation_of_other_rows() -> None:
    """As the macro average above it does."""
    rows = {f"method {at}": row(1 + at / 50, seeds=[3 * at, 3 * at + 1, 3 * at + 2]) for at in range(8)}
    renumbered = {name: dict(enumerate(runs.values())) for name, runs in rows.items()}
    rows = {name: {(0, seed): run for seed, run in runs.items()} for name, runs in renumbered.items()}
    rows["single"] = row(1.5, seeds=[0])
    alone, priors = [NO_PRIORS] * 3, priors_of_labels(rows, TRUTH)
    widths = [label_differences(rows["single"], rows["method 0"], TRUTH, of)["A"].interval for of in (alone, priors)]

    assert priors[0] and not priors[2], "a rare label has none"
    assert widths[1].high - widths[1].low > 1.02 * (widths[0].high - widths[0].low)
    assert widths[1].value == widths[0].value


@pytest.mark.parametrize(("p", "significant"), [(0.049, True), (0.05, True), (0.051, False), (0.07, False)])
def test_a_claim_needs_a_p_of_five_percent_after_holm(p: float, significant: bool) -> None:
    found = stand({"best": ROWS["best"], "bad": ROWS["bad"]}, BoardPlan(), TRUTH)
    assert found is not None

    assert dataclasses.replace(found.pairs[0], p_adjusted=p).significant is significant
    assert ALPHA == 0.05


def test_a_board_of_many_rows_can_tell_them_apart() -> None:
    """34 rows are 561 pairs: of 10,000 permutations each, the smallest p after Holm would be 0.056."""
    rows = {
        f"{name} {number}": {(0, seed % 3): run for (_, seed), run in row(quality, range(number, number + 3)).items()}
        for name, quality in (("good", 1.5), ("bad", 0.1))
        for number in range(0, 51, 3)
    }
    found = stand(rows, BoardPlan(), TRUTH)
    assert found is not None

    assert len(found.pairs) == 561
    apart = [one for one in found.pairs if one.first[0] != one.second[0]]
    assert all(one.significant and one.p_adjusted > 0.009 for one in apart)
    assert found.letters == {name: "a" if name.startswith("good") else "b" for name in rows}


def of(*values: float) -> ScoredRow:
    """Runs of these macro AUROCs, whatever patients are drawn."""
    estimates = [Estimate(np.full(3, value), np.full((2000, 3), value)) for value in values]
    return {(0, seed): ResampledRun(SHARED, Resampled(each, each)) for seed, each in enumerate(estimates)}


def test_ranks_know_how_little_three_runs_tell() -> None:
    """2.5 standard errors apart by runs alone: the interval of the difference holds 0, so either may be first."""
    rows = {"varies": of(0.7, 0.8, 0.9), "steady": of(*[0.8 - 2.5 * 0.1 / np.sqrt(3)] * 3)}
    found = stand(rows, BoardPlan(), TRUTH)
    assert found is not None

    assert found.pairs[0].differences["auroc"].interval.low < 0
    assert found.ranks == {"varies": (1, 2), "steady": (1, 2)}


def test_ranks_pair_the_runs_of_a_seed() -> None:
    """Both rows vary by 0.1, together: the first is better in every run."""
    standing = stand({"first": of(0.72, 0.82, 0.92), "second": of(0.7, 0.8, 0.9)}, BoardPlan(), TRUTH)
    assert standing is not None

    assert standing.ranks == {"first": (1, 1), "second": (2, 2)}


def test_ranks_borrow_what_other_rows_tell_of_runs() -> None:
    """The runs of two rows happen to agree within 0.0002, those of six others vary by 0.1."""
    rows = {"first": of(0.8011, 0.8009, 0.801), "second": of(0.8001, 0.8001, 0.7998)}
    rows |= {f"other {n}": of(0.5 - n / 100, 0.6 - n / 100, 0.7 - n / 100) for n in range(6)}
    standing = stand(rows, BoardPlan(), TRUTH)
    assert standing is not None

    assert (standing.ranks["first"][0], standing.ranks["second"][0]) == (1, 1)
    alone = stand({name: rows[name] for name in ("first", "second")}, BoardPlan(), TRUTH)
    assert alone is not None
    assert alone.ranks == {"first": (1, 1), "second": (2, 2)}


def test_what_a_pair_can_resolve_is_by_the_first_step_of_holm() -> None:
    standing = stand({name: ROWS[name] for name in ("best", "good", "bad")}, BoardPlan(), TRUTH)
    assert standing is not None

    for pair in standing.pairs:
        difference = pair.differences["auroc"]
        assert pair.resolvable == resolvable_difference(difference, pair.family_size)
        assert (pair.resolvable > resolvable_difference(difference)) == (pair.family_size > 1)
    assert max(pair.family_size for pair in standing.pairs) > 1


def test_a_design_is_crossed_where_streams_depend_on_the_seed_alone() -> None:
    """In either row of a pair; a result that does not say so is taken to."""
    crossed = {**row(1.2, (0, 1)), **row(1.2, (0, 1), draw=1)}
    nested = {place: dataclasses.replace(run, streams="draw and seed") for place, run in crossed.items()}

    assert design_of(crossed).kind == design_of(nested, crossed).kind == "crossed"
    assert design_of(nested).kind == "draws"


def test_one_pair_of_runs_is_about_these_two() -> None:
    found = stand({"one": row(2.0, [0]), "other": row(0.1, [0])}, BoardPlan("other"), TRUTH)
    assert found is not None

    assert found.pairs[0].significant
    assert found.pairs[0].few_pairs
    assert found.baseline["one"].few_pairs
    found = stand({"one": row(2.0), "other": row(0.1)}, BoardPlan(), TRUTH)
    assert found is not None
    assert not found.pairs[0].few_pairs


def test_runs_of_a_draw_count_once() -> None:
    """Two draws of two seeds: the mean of each draw, in intervals, both tests of AUROC and what is marked."""
    rows = {
        "one": {**row(1.3, (0, 1)), **row(1.3, (2, 3), draw=1)},
        "other": {**row(1.2, (0, 1)), **row(1.2, (2, 3), 1)},
    }
    (found,) = compared(rows, BoardPlan(), TRUTH).pairs
    of_runs = [
        np.mean([metrics.auroc(Y_TRUE, row[place].y_score)[:2].mean() for place in row if place[0] == draw])
        for draw in (0, 1)
        for row in rows.values()
    ]
    differences = [of_runs[0] - of_runs[1], of_runs[2] - of_runs[3]]

    assert (found.num_pairs, found.few_pairs) == (4, True)
    assert found.labels["A"].num_runs == 2
    assert found.differences["auroc"].interval.value == pytest.approx(np.mean(differences))
    assert found.differences["auroc"].run_sd == pytest.approx(np.std(differences, ddof=1))
    placed = [
        [np.mean([placements(Y_TRUE[:, :2], row[d, s].y_score[:, :2]) for s in seeds], axis=0) for d, seeds in DRAWN]
        for row in rows.values()
    ]
    assert found.placement_p == pytest.approx(difference_p(PATIENTS, Y_TRUE[:, :2], *placed))


DRAWN = ((0, (0, 1)), (1, (2, 3)))


def test_the_family_is_the_declared_one() -> None:
    found = stand(ROWS, BoardPlan("good", ("best",), 0.02), TRUTH)
    assert found is not None

    assert {name: (one.role, one.family_size) for name, one in found.baseline.items()} == {
        "best": ("family", 1),
        "twin": ("exploratory", 5),
        "bad": ("exploratory", 5),
    }
    absent = stand(ROWS, BoardPlan("gone"), TRUTH)
    assert absent is not None
    assert absent.baseline == {}


def test_a_tuned_row_has_the_tuned_baseline_however_it_is_compared() -> None:
    names = ["ft on net (random)", "ft(lr=0.1) on net (random)", "lpft(lr=0.1) on net (random)"]
    rows = dict(zip(names, (row(1.0), row(1.2), row(1.4)), strict=True))

    for found in (compared(rows, BoardPlan("ft"), TRUTH, names[1:]), stand(rows, BoardPlan("ft"), TRUTH, names[1:])):
        assert found is not None
        assert [one.second for one in found.baseline.values()] == [names[1]]


def test_a_baseline_that_may_be_either_is_said_and_nothing_tested() -> None:
    names = ["ft(lr=0.1) on net (random)", "ft(lr=0.2) on net (random)", "lp on net (random)"]
    rows = dict(zip(names, (row(1.0), row(1.2), row(0.1)), strict=True))

    for found in (compared(rows, BoardPlan("ft"), TRUTH), stand(rows, BoardPlan("ft"), TRUTH)):
        assert found is not None
        assert found.baseline == {}
        assert (
            found.undecided
            == f"the declared baseline 'ft' fits several rows: {names[0]}, {names[1]}; declare one of them"
        )
        assert [one.role for one in found.pairs] == ["exploratory"] * 3


@pytest.mark.parametrize("quality", [1.0, 1.4])
def test_a_contrast_is_that_of_its_pair(quality: float) -> None:
    """Whichever row stands first, a row minus its baseline is what `compare_pairs` gives for it."""
    rows = {"first": row(1.2), "second": row(quality)}
    for name, baseline in (("first", "second"), ("second", "first")):
        found = compared(rows, BoardPlan(baseline), TRUTH).baseline[name]
        (expected,) = compare_pairs(rows, [(name, baseline)], 0.005, TRUTH)
        of_label = label_differences(rows[name], rows[baseline], TRUTH, priors_of_labels(rows, TRUTH))["A"]

        assert (found.first, found.second, found.p_adjusted) == (name, baseline, pytest.approx(expected.p))
        for summary, other in zip(
            [*found.differences.values(), found.labels["A"]],
            [*expected.differences.values(), of_label],
            strict=True,
        ):
            assert dataclasses.astuple(summary.interval) == pytest.approx(dataclasses.astuple(other.interval))
            assert summary.standard_error == pytest.approx(other.standard_error)
    (same,) = compared({"one": row(1.2), "other": row(1.2)}, BoardPlan("one"), TRUTH).baseline.values()
    assert str(same.differences["auroc"].interval.value) == "0.0"  # not -0.0, which pages would show


STUDY = ["ft on net (random)", "lpft-sd on net (random)", "lpft on net (random)", "lp on net (random)"]
DECLARED = BoardPlan("ft", ("lpft-sd minus lpft", "lp"), 0.005, "lpft-sd minus ft")


def pair(first: str, second: str, p: float, num_runs: int = 3) -> Comparison:
    """A comparison of this p."""
    summary = Summary(Interval(0.01, 0.0, 0.02), 0.01, 0.01, num_runs, 0.01, 10.0)
    return Comparison(first, second, num_runs, {"auroc": summary}, p, p / 2, False)


def test_a_pair_has_the_p_of_its_role() -> None:
    """The primary p stays; the family is corrected and no smaller than it; exploratory pairs have their own Holm."""
    ft, lpft_sd, lpft, lp = STUDY
    pairs = [pair(lpft_sd, ft, 0.03), pair(lpft, lpft_sd, 0.001), pair(lp, ft, 0.02), pair(lp, lpft, 0.01)]
    pairs += [pair(lpft, ft, 0.004), pair("other (external)", ft, 1e-6, num_runs=2)]

    primary, turned, second, *exploratory, few = adjust(pairs, DECLARED.roles(STUDY))

    assert (primary.role, primary.p_adjusted, primary.family_size) == ("primary", 0.03, 1)
    assert (turned.role, turned.p_adjusted, turned.family_size) == ("family", 0.03, 2)  # Holm 0.002, the gate 0.03
    assert (second.role, second.p_adjusted) == ("family", 0.03)
    assert [(one.role, one.p_adjusted, one.family_size) for one in exploratory] == [
        ("exploratory", 0.01, 2),
        ("exploratory", 0.008, 2),
    ]
    assert few.p_adjusted == 1e-6 and few.significant and not few.claimed
    (closed, *_) = adjust([pair(lpft, lpft_sd, 0.001), pair(lpft_sd, ft, 0.2)], DECLARED.roles(STUDY))
    assert closed.p_adjusted == 0.2 and not closed.claimed
    (absent, *_) = adjust([pair(lpft, lpft_sd, 0.001), pair(lpft_sd, ft, 0.2, num_runs=1)], DECLARED.roles(STUDY))
    assert absent.p_adjusted == 0.001  # a primary contrast that could not be tested closes no gate


def test_new_rows_change_no_declared_p() -> None:
    """Another backbone, another init, or one more setting of a method that stands there at its defaults."""
    more = [
        "ft on other (random)",
        "lpft-sd on other (random)",
        "lpft-sd(drop_path_rate=0.5) on net (random)",
        "theirs",
    ]
    before, after = DECLARED.roles(STUDY), DECLARED.roles([*STUDY, *more])

    assert {pair: role for pair, role in after.items() if role.study == before[STUDY[1], STUDY[0]].study} == before
    assert set(after) - set(before) == {(more[1], more[0])}


def test_the_same_p_stands_on_the_board_and_in_a_comparison_of_two() -> None:
    plan = BoardPlan("good", None, 0.02)
    board = stand(ROWS, plan, TRUTH)
    assert board is not None
    for first, second in (("twin", "bad"), ("bad", "best"), ("best", "good")):
        others = {name: one for name, one in ROWS.items() if name not in (first, second)}
        (alone,) = compared({first: ROWS[first], second: ROWS[second]}, plan, TRUTH, (), others).pairs
        (beside,) = (one for one in board.pairs if {one.first, one.second} == {first, second})

        assert (alone.p_adjusted, alone.role) == (beside.p_adjusted, beside.role)
        assert set(alone.labels) == {"A", "B"}


def test_rows_without_a_common_run_are_not_told_apart() -> None:
    found = stand({"one": row(2.0, seeds=[0]), "other": row(0.1, seeds=[1])}, BoardPlan("one"), TRUTH)
    assert found is not None

    assert found.pairs == ()
    assert found.letters == {"one": "", "other": ""}
    with pytest.raises(BenchError, match="no run of the same draw and seed"):
        compared({"one": row(2.0, seeds=[0]), "other": row(0.1, seeds=[1])}, BoardPlan(), TRUTH)


def test_only_common_runs_are_paired() -> None:
    found = compared({"one": row(2.0, seeds=[0, 1, 5]), "other": row(0.1, seeds=[1, 5, 7])}, BoardPlan(), TRUTH)

    assert found.pairs[0].num_pairs == 2
    assert found.pairs[0].differences["auroc"].few_runs
    assert set(found.pairs[0].labels) == {"A", "B"}


def test_nothing_is_claimed_where_no_label_is_frequent() -> None:
    few = dataclasses.replace(TRUTH, y_true=Y_TRUE & (np.arange(300)[:, None] < 20))

    assert stand(ROWS, BoardPlan(), few) is None
    with pytest.raises(BenchError, match="has 10 positives"):
        compared(ROWS, BoardPlan(), few)


def test_a_label_with_one_negative_is_no_label_to_claim_by() -> None:
    """Nobody can tell how much one negative varies: its p was NaN, and with it that of all."""
    most = np.hstack([Y_TRUE[:, :2], np.arange(300)[:, None] > 0])
    found = stand({"one": ROWS["best"], "other": ROWS["bad"]}, BoardPlan(), dataclasses.replace(TRUTH, y_true=most))
    assert found is not None

    assert found.pairs[0].significant
    assert found.pairs[0].p == stand({"one": ROWS["best"], "other": ROWS["bad"]}, BoardPlan(), TRUTH).pairs[0].p  # type: ignore[union-attr]


def test_pairs_tested_together_have_the_p_they_have_alone(permutation_p: Callable[..., float]) -> None:
    labels = np.array([True, True, False])
    scores = {name: [run.y_score for run in runs.values()] for name, runs in ROWS.items()}
    pairs = [("good", "twin"), ("good", "bad")]
    together = compare_pairs(ROWS, pairs, 0.005, TRUTH, num_permutations=1500)

    alone = [permutation_p(PATIENTS, Y_TRUE, scores[a], scores[b], labels, 1500) for a, b in pairs]
    assert [pair.permutation_p for pair in together] == alone
    assert compare_pairs(ROWS, [], 0.005, TRUTH) == []
