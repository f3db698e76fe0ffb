"""The plan of a sweep says what its runs would resolve."""

import math
from dataclasses import replace
from pathlib import Path

from bench.boards.power import Variances
from bench.cell import Cell
from bench.launch.resolved import MOST_LINES, published_variances, resolved_lines
from bench.launch.sweep import Grid
from bench.registry.reference import Reference

KNOWN = Variances(
    "ptb-xl-1.0.3", "superdiag", 0.1, "net, tuned", "lpft-sd minus ft", 0.006, 0.001, 0.0095, 0.013, 5, 10
)


def cells(
    methods: str = "ft,lpft-sd",
    draws: tuple[int, ...] = (0, 1, 2),
    seeds: tuple[int, ...] = (0,),
    task: str = "superdiag",
) -> list[Cell]:
    named = [Reference.parse(name) for name in methods.split(",")]
    archs = [Reference.parse("net1d_mini")]
    grid = Grid(data=Path("data"), tasks=[task], archs=archs, methods=named, fractions=[0.1], draws=draws, seeds=seeds)
    return grid.cells()


def test_a_grid_with_the_baseline_says_which_difference_it_finds() -> None:
    head, line = resolved_lines(cells(), [KNOWN, replace(KNOWN, task="form"), replace(KNOWN, contrast="lp minus ft")])

    assert "differences that 3 draws x 1 seed find with 80 % power" in head
    assert line == f"  lpft-sd minus ft, superdiag, 10 %, as net, tuned varied: {KNOWN.resolves(3, 1):.4f}"


def test_other_spellings_of_a_name_change_nothing() -> None:
    assert [*resolved_lines(cells("ft,lpft_sd", task="superdiagnostic"), [KNOWN])] == [
        *resolved_lines(cells(), [KNOWN])
    ]


def test_draws_that_were_never_measured_are_named() -> None:
    unknown = replace(KNOWN, draw_sd=math.nan)

    assert "was never measured" in [*resolved_lines(cells(), [unknown])][1]
    assert f"{unknown.resolves(1, 3):.4f}" in [*resolved_lines(cells(draws=(0,), seeds=(0, 1, 2)), [unknown])][1]


def test_nothing_is_said_without_a_baseline_or_with_a_single_run() -> None:
    assert not [*resolved_lines(cells("lp,lpft-sd"), [KNOWN])]
    assert not [*resolved_lines(cells(draws=(0,)), [KNOWN])]
    assert not [*resolved_lines(cells(), [])]


def test_many_lines_are_counted() -> None:
    lines = [*resolved_lines(cells(), [KNOWN] * (MOST_LINES + 3))]
    assert len(lines) == MOST_LINES + 2 and lines[-1] == "  and 3 more"


def test_published_variances_are_at_hand() -> None:
    assert {each.dataset for each in published_variances()} == {"ptb-xl-1.0.3"}
