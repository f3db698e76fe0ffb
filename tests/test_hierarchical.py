"""Two ways of estimating over tasks, draws and seeds: formulas on small cases, agreement, what widens an interval."""

import numpy as np
import pytest
from scipy import stats

from bench.evaluation import hierarchical
from bench.evaluation.hierarchical import Units, by_mixed_model, by_redrawing, components, patient_covariance, redraw


def units(
    values: list[float], tasks: list[str], draws: list[int], seeds: list[int], influence: np.ndarray | None = None
) -> Units:
    """Units of one column whose seeds are of their own in each draw; no error of patients by default."""
    streams = tuple(zip(draws, seeds, strict=True))
    num = len(dict.fromkeys(tasks))
    influence = np.zeros((num, 4)) if influence is None else influence
    return Units(np.array(values)[:, None], tuple(tasks), tuple(draws), streams, influence[:, None])


def test_a_value_is_the_mean_over_tasks_of_the_mean_over_draws() -> None:
    found = units([1.0, 3.0, 8.0, 10.0], ["a", "a", "a", "b"], [0, 0, 1, 0], [0, 1, 0, 0])

    assert found.task_means[:, 0].tolist() == [5.0, 10.0]  # ((1 + 3) / 2 + 8) / 2, and 10
    assert found.mean.tolist() == [7.5]
    assert found.num_draws == 1 and found.degrees_of_freedom == 1  # draws of task a


def test_both_ways_give_students_interval_for_the_seeds_of_one_task() -> None:
    values = np.random.default_rng(0).normal(0.02, 0.01, 25).tolist()
    found = units(values, ["a"] * 25, [0] * 25, list(range(25)))
    half = stats.t.ppf(0.975, 24) * np.std(values, ddof=1) / 5

    redrawn = by_redrawing(redraw(found, further_tasks=False)[:, 0], float(np.mean(values)), 0.005)
    modelled = by_mixed_model(found, 0.005, further_tasks=False)

    assert modelled is not None and modelled.converged
    for way in (redrawn, modelled):
        assert (way.high - way.low) / 2 == pytest.approx(half, rel=0.08)
        assert way.value == pytest.approx(np.mean(values), abs=1e-6)


def test_whole_tasks_are_the_units_of_further_tasks() -> None:
    means = [0.01, 0.02, 0.04, 0.05, 0.08, 0.03, 0.06, 0.02]
    found = units(means, list("abcdefgh"), [0] * 8, [0] * 8)
    half = stats.t.ppf(0.975, 7) * np.std(means, ddof=1) / np.sqrt(8)

    redrawn = by_redrawing(redraw(found, further_tasks=True)[:, 0], float(np.mean(means)), 0.005)
    modelled = by_mixed_model(found, 0.005, further_tasks=True)

    assert modelled is not None
    for way in (redrawn, modelled):
        assert (way.high - way.low) / 2 == pytest.approx(half, rel=0.12)
        assert way.above_zero > 0.99


def test_draws_are_the_units_and_their_seeds_come_with_them() -> None:
    """Three equal seeds in each draw say nothing more than one."""
    draws = np.random.default_rng(1).normal(0, 0.01, 8)
    alone = units(draws.tolist(), ["a"] * 8, list(range(8)), [0] * 8)
    thrice = units(np.repeat(draws, 3).tolist(), ["a"] * 24, np.repeat(range(8), 3).tolist(), list(range(3)) * 8)

    ends = [np.quantile(redraw(each, further_tasks=False)[:, 0], [0.025, 0.975]) for each in (alone, thrice)]
    models = [by_mixed_model(each, 0.005, further_tasks=False) for each in (alone, thrice)]

    assert ends[0] == pytest.approx(ends[1], abs=1e-12)
    assert models[0] and models[1]
    assert models[1].high - models[1].low == pytest.approx(models[0].high - models[0].low, rel=0.05)


def test_patients_shared_by_tasks_widen_the_interval() -> None:
    """The same patients err alike in every task; others average out."""
    random = np.random.default_rng(2)
    own = random.normal(size=(4, 400)) * 0.01 / 20
    shared = np.repeat(own[:1], 4, axis=0)
    apart = np.zeros((4, 1600))
    for task in range(4):
        apart[task, 400 * task : 400 * (task + 1)] = own[0]
    spread = {}
    for name, influence in (("shared", shared), ("apart", apart)):
        found = units([0.0] * 8, np.repeat(list("abcd"), 2).tolist(), [0] * 8, [0, 1] * 4, influence)
        spread[name] = redraw(found, further_tasks=False)[:, 0].std()
        assert np.sqrt(patient_covariance(found).sum()) / 4 == pytest.approx(spread[name], rel=0.05)

    assert spread["shared"] / spread["apart"] == pytest.approx(2, rel=0.05)


def test_the_mixed_model_knows_the_covariance_of_patients() -> None:
    influence = np.repeat(np.full((1, 100), 0.001), 3, axis=0)  # standard error 0.01, the same in each task
    values, tasks = [0.03, 0.0301, 0.0299] * 3, np.repeat(list("abc"), 3).tolist()
    without = by_mixed_model(units(values, tasks, [0] * 9, [0, 1, 2] * 3), 0.005, further_tasks=False)
    found = by_mixed_model(units(values, tasks, [0] * 9, [0, 1, 2] * 3, influence), 0.005, further_tasks=False)

    assert without and found
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.01, rel=0.01)
    assert without.high - without.low < 0.002


def test_the_order_of_units_does_not_matter() -> None:
    random = np.random.default_rng(3)
    values, tasks = random.normal(size=12).tolist(), np.repeat(list("abc"), 4).tolist()
    draws, seeds = [0, 0, 1, 1] * 3, [0, 1] * 6
    first = units(values, tasks, draws, seeds)
    order = [3, 0, 2, 1, 7, 4, 6, 5, 9, 8, 11, 10]  # within tasks
    second = units(*([each[at] for at in order] for each in (values, tasks, draws, seeds)))

    assert second.mean == pytest.approx(first.mean, abs=1e-12)
    of_model = [by_mixed_model(each, 0.005, further_tasks=False, nodes=9) for each in (first, second)]
    assert of_model[0] and of_model[1]
    assert of_model[0].low == pytest.approx(of_model[1].low, abs=1e-6)
    spread = [redraw(each, further_tasks=False).std() for each in (first, second)]
    assert spread[0] == pytest.approx(spread[1], rel=0.05)


def test_one_run_a_task_says_nothing_of_how_runs_vary() -> None:
    found = units([0.1, 0.2], ["a", "b"], [0, 0], [0, 0])

    assert found.degrees_of_freedom == 0
    assert by_mixed_model(found, 0.005, further_tasks=False) is None
    assert redraw(found, further_tasks=False).std() < 1e-12


def test_components_are_those_that_can_be_estimated() -> None:
    tasks = np.repeat(list("ab"), 4).tolist()
    nested = units([0.0] * 8, tasks, [0, 0, 1, 1] * 2, [0, 1] * 4)
    seeds = units([0.0] * 8, tasks, [0] * 8, [0, 1, 2, 3] * 2)
    draws = units([0.0] * 8, tasks, [0, 1, 2, 3] * 2, [0] * 8)
    same = tuple((0, seed) for _, seed in nested.stream)
    crossed = Units(nested.values, nested.task, nested.draw, same, nested.influence)

    assert [*components(nested, further_tasks=True)] == ["task", "draw", "stream"]
    assert [*components(seeds, further_tasks=False)] == ["stream"]
    assert [*components(draws, further_tasks=False)] == ["draw"]
    assert [*components(crossed, further_tasks=False)] == ["draw", "stream", "rest"]


def test_a_grid_gives_generalized_least_squares_at_each_node() -> None:
    """One node of the grid, by the textbook formula with explicit inverses."""
    found = units([1.0, 2.0, 4.0, 7.0], ["a", "a", "b", "b"], [0, 1, 0, 1], [0] * 4)
    parts = components(found, further_tasks=True)
    known, fixed, y = 0.3 * np.eye(4), np.ones((4, 1)), found.values[:, 0]
    sd = {"task": 0.4, "draw": 0.2}
    assert [*parts] == [*sd]

    center, spread, _ = hierarchical._grid(y, fixed, known, parts, [np.log([value]) for value in sd.values()])

    inverse = np.linalg.inv(known + sum(value**2 * parts[name] for name, value in sd.items()))
    information = float((fixed.T @ inverse @ fixed).item())
    assert center[0] == pytest.approx(float((fixed.T @ inverse @ y).item()) / information, abs=1e-8)
    assert spread[0] == pytest.approx(information**-0.5, abs=1e-8)


def test_weighted_columns_are_contrasts() -> None:
    found = Units(np.array([[1.0, 4.0]]), ("a",), (0,), ((0, 0),), np.array([[[1.0, 2.0], [3.0, 5.0]]]))
    difference = found.times(np.array([[-1.0], [1.0]]))

    assert difference.values.tolist() == [[3.0]]
    assert difference.influence.tolist() == [[[2.0, 3.0]]]
