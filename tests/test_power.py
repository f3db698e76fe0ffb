"""How many runs a difference needs: variances, power against direct simulation, planned looks, and refusals."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import bench
from bench.boards.declared import BoardPlan
from bench.boards.power import (
    MOST,
    Variances,
    as_csv,
    crossing,
    estimate,
    levels,
    peeking,
    plan_power,
    read_variances,
)
from bench.errors import BenchError, DataError
from bench.evaluation.hierarchical import Units
from bench.evaluation.runs import MIN_RUNS

KNOWN = Variances(
    "ptb-xl-1.0.3", "superdiag", 0.03, "net, tuned", "lpft-sd minus ft", 0.006, 0.001, 0.0095, 0.013, 5, 10
)


def units(values: np.ndarray) -> Units:
    """Units of one task from values [draw, seed]."""
    draws, seeds = values.shape
    draw, seed = np.repeat(range(draws), seeds).tolist(), list(range(seeds)) * draws
    influence = np.full((1, 1, 4), 0.5e-3)
    return Units(
        values.reshape(-1, 1), ("a",) * values.size, tuple(draw), tuple(zip(draw, seed, strict=True)), influence
    )


def test_variances_of_draws_and_seeds_are_separated() -> None:
    random = np.random.default_rng(0)
    values = 0.02 + 0.01 * random.normal(size=(2000, 1)) + 0.02 * random.normal(size=(2000, 3))
    found = estimate(units(values), "d", 0.1, "s", "c")

    assert found.draw_sd == pytest.approx(0.01, rel=0.1) and found.seed_sd == pytest.approx(0.02, rel=0.05)
    assert found.patient_sd == pytest.approx(1e-3) and found.difference == pytest.approx(values.mean())
    assert (found.draws, found.pairs, found.seeds) == (2000, 6000, 3)


def test_what_the_design_cannot_tell_is_not_known() -> None:
    one_draw = estimate(units(np.array([[1.0, 3.0]])), "d", 0.1, "s", "c")
    one_seed = estimate(units(np.array([[1.0], [3.0]])), "d", 0.1, "s", "c")

    assert math.isnan(one_draw.draw_sd) and one_draw.seed_sd == pytest.approx(math.sqrt(2))
    assert math.isnan(one_seed.seed_sd) and one_seed.draw_sd == pytest.approx(math.sqrt(2))
    assert one_draw.needs(0.1, of="draws") is None and one_seed.needs(0.1, of="seeds") is None


def power_of(draws: int, seeds: int, difference: float, num: int = 4000) -> float:
    """The share of simulated studies whose t test over draws, or over seeds of one draw, finds the difference."""
    random = np.random.default_rng(1)
    of_draws = KNOWN.draw_sd * random.normal(size=(num, draws, 1)) if draws > 1 else 0.0
    values = difference + of_draws + KNOWN.seed_sd * random.normal(size=(num, draws, seeds))
    sample = values.mean(axis=2) if draws > 1 else values[:, 0]
    return float((stats.ttest_1samp(sample, 0.0, axis=1).pvalue <= 0.05).mean())


@pytest.mark.parametrize("of", ["draws", "seeds"])
def test_the_number_of_runs_has_80_percent_power_in_direct_simulation(of: str) -> None:
    """Patients are left out here, so that the test is Student's."""
    number = replace(KNOWN, patient_sd=0.0).needs(0.015, of=of)

    assert number is not None
    powers = [power_of(*((num, 1) if of == "draws" else (1, num)), 0.015) for num in (number - 1, number)]
    assert powers[0] < 0.81 and 0.79 < powers[1] < 0.86


def test_patients_set_a_limit_that_no_number_of_runs_passes() -> None:
    few = replace(KNOWN, patient_sd=0.01)

    assert few.limit() == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 0.01, rel=1e-4)
    assert few.needs(0.027, of="draws") is None
    assert few.resolves(200, 1) > few.limit() * 0.999


def test_another_draw_is_worth_more_than_another_seed_where_draws_vary() -> None:
    seed, draw = KNOWN.next_run()
    assert draw < seed < KNOWN.resolves(5, 2)


def test_draws_are_told_from_seeds_only_where_both_are_known() -> None:
    """Published rows have one draw, or one seed a draw: neither says that seeds are better."""
    one_seed, one_draw = replace(KNOWN, seed_sd=math.nan, pairs=5), replace(KNOWN, draw_sd=math.nan, draws=1)
    words = "another draw resolves more than another seed in each draw in 1 of 1 cases where both are known"

    assert f"next: {words}" in plan_power([KNOWN, one_seed, one_draw], 0.01).remarks
    unclear = "next: no case tells draws from seeds: each has one draw, or one seed a draw"
    assert unclear in plan_power([one_seed, one_draw], 0.01).remarks


def test_differences_are_shown_with_four_decimals() -> None:
    shown = plan_power([replace(KNOWN, patient_sd=1e-4, draw_sd=1e-4, seed_sd=1e-4)], 0.01).shown()
    assert all(re.fullmatch(r"0\.\d{4}", shown[name][0]) for name in ("resolves", "limit"))


def test_pairs_that_no_board_declares_are_left_out_and_counted() -> None:
    pairs = [replace(KNOWN, contrast=name) for name in ("lpft-sd minus ft", "lpft minus ft", "knn minus ft")]
    planned = plan_power(pairs, 0.01)

    def contrasts(plan: BoardPlan) -> list[str]:
        return [each.contrast for each in planned.declared(lambda dataset, task: plan).variances]

    assert contrasts(BoardPlan("ft", ("lpft",), primary="lpft-sd minus ft")) == ["lpft-sd minus ft", "lpft minus ft"]
    assert contrasts(BoardPlan("ft", ("lp minus knn",))) == [each.contrast for each in pairs], "none is declared"
    assert contrasts(BoardPlan("ft")) == [each.contrast for each in pairs], "the family is open"

    command = [sys.executable, "-m", "bench", "power", "--task", "superdiag"]
    brief, whole = (
        subprocess.run([*command, *words], capture_output=True, text=True, check=True).stdout
        for words in ((), ("--all",))
    )
    assert "knn minus ft" in whole and "more pair" not in whole
    assert "knn minus ft" not in brief and "lpft-sd minus ft" in brief
    assert re.fullmatch(r"\d+ more pairs: --all", brief.splitlines()[-1])


@pytest.mark.parametrize(("looks", "bound"), [(1, 1.960), (2, 1.977), (3, 2.004), (4, 2.024), (5, 2.040)])
def test_levels_are_those_of_o_brien_and_fleming(looks: int, bound: float) -> None:
    """Constants of Jennison and Turnbull 2000, table 2.3."""
    z = stats.norm.isf(levels(looks) / 2)
    assert z[-1] == pytest.approx(bound, abs=6e-4)
    assert z == pytest.approx(z[-1] * np.sqrt(looks / np.arange(1, looks + 1)))


def test_peeking_has_the_published_probability_of_a_false_claim() -> None:
    """Armitage, McPherson and Rowe 1969: 8.3 % with 2 looks, 14.2 % with 5, 19.3 % with 10."""
    assert [round(100 * peeking(looks), 1) for looks in (1, 2, 5, 10)] == [5.0, 8.3, 14.2, 19.3]


def test_patients_that_stay_the_same_make_planned_looks_safer() -> None:
    random = np.random.default_rng(2)
    runs = random.normal(size=(40_000, 3)).cumsum(axis=1) / np.arange(1, 4)
    bounds = stats.norm.isf(levels(3) / 2)
    false = []
    for of_patients in (0.0, 1.0):
        z = (runs + of_patients * random.normal(size=(40_000, 1))) / np.sqrt(of_patients**2 + 1 / np.arange(1, 4))
        false.append((abs(z) > bounds).any(axis=1).mean())
    assert false[0] == pytest.approx(0.05, abs=0.004)
    assert false[1] < false[0] - 0.001
    assert crossing(bounds * np.sqrt(np.arange(1, 4))) == pytest.approx(0.05, abs=1e-6)


def test_the_file_of_variances_is_read_as_it_was_written(tmp_path: Path) -> None:
    known = [KNOWN, replace(KNOWN, draw_sd=math.nan, draws=1)]
    (tmp_path / "set").mkdir()
    (tmp_path / "set/variances.csv").write_text(as_csv(known))
    found = read_variances(tmp_path)

    assert found[0] == KNOWN
    assert math.isnan(found[1].draw_sd) and found[1].draws == 1
    fine = replace(KNOWN, fraction=0.12345, draw_sd=0.0123456)
    (tmp_path / "set/variances.csv").write_text(as_csv([fine]))
    assert read_variances(tmp_path) == [fine], "a plan is that of the page"
    (tmp_path / "set/variances.csv").write_text(as_csv(known).rpartition(",")[0])
    with pytest.raises(DataError, match=r"variances.csv is damaged"):
        read_variances(tmp_path)
    (tmp_path / "set/variances.csv").write_text(as_csv(known).replace("0.013", "many"))
    with pytest.raises(DataError, match=r"variances.csv is damaged: could not convert"):
        read_variances(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe", "codec can't decode"),
        (as_csv([replace(KNOWN, draws=0)]).encode(), "0 draws with 10 pairs"),
        (as_csv([replace(KNOWN, pairs=0)]).encode(), "5 draws with 0 pairs"),
    ],
    ids=["no text", "no draw", "no pair"],
)
def test_a_damaged_file_of_variances_is_refused_in_a_line(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/variances.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"variances.csv is damaged: .*{words}"):
        read_variances(tmp_path)


@pytest.mark.parametrize("of", ["draws", "seeds"])
def test_the_number_of_runs_that_is_needed_is_the_least(of: str) -> None:
    for difference in (0.015, 0.02, 0.03, 0.2):
        enough = [
            num
            for num in range(MIN_RUNS, MOST + 1)
            if KNOWN.resolves(*((num, 1) if of == "draws" else (1, num))) <= difference
        ]
        assert KNOWN.needs(difference, of=of) == (enough[0] if enough else None)
    assert KNOWN.needs(1.001 * KNOWN.limit(), of=of) is None, "more than MOST"


def test_more_tests_and_more_looks_need_more_runs() -> None:
    alone, corrected, looking = (
        plan_power([KNOWN], 0.02, **how).frame["draws_needed"][0] for how in ({}, {"tests": 5}, {"looks": 5})
    )
    assert alone <= looking <= corrected and alone < corrected


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"difference": 0.0}, "--difference must be in"),
        ({"looks": 11}, "--looks must be from 1 to 10"),
        ({"tests": 0}, "--tests must be from 1 to 1,000,000,000, got 0"),
        (
            {"task": "form"},
            "no replicated pairs of runs for this; variances are known of lpft-sd minus ft; superdiag; 0.03",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(how: dict[str, object], words: str) -> None:
    with pytest.raises(BenchError, match=words):
        plan_power([KNOWN], **{"difference": 0.01, **how})  # type: ignore[arg-type]


def test_looking_until_it_is_significant_is_refused_and_planned_looks_are_corrected() -> None:
    unplanned, planned = (" ".join(plan_power([KNOWN], 0.01, looks=looks).remarks) for looks in (1, 3))

    assert "Adding runs until p is at most 0.05 is refused: with 5 looks it claims falsely in 14 %" in unplanned
    assert "stop as soon as p is at most 0.00052, 0.014, 0.045, at look 1 to 3; no other look is allowed" in planned


def test_the_command_and_the_function_plan_from_published_variances() -> None:
    frame = bench.power(0.01, task="superdiag", fraction=0.1, contrast="lpft-sd minus ft").frame
    assert len(frame) and (frame["resolves"] > frame["limit"]).all()

    command = [sys.executable, "-m", "bench", "power", "--difference", "0.01", "--task"]
    done = subprocess.run([*command, "superdiag", "--json"], capture_output=True, text=True)
    wrong = subprocess.run([*command, "nothing"], capture_output=True, text=True)

    assert done.returncode == 0 and '"draws_needed"' in done.stdout
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: no replicated pairs") and not wrong.stdout
