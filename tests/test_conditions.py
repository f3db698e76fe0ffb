"""A claim names the subset and the weights that all its runs share."""

from typing import Any

import pytest

from bench.boards.rows import Row
from bench.pages.about_data import seen_labels
from bench.pages.conditions import condition, few_draws
from bench.results.result import Result


def row(init: str = "random", fraction: float = 1.0, sizes: tuple[int, ...] = (100,), **cell: Any) -> Row:
    runs = [
        Result(
            None,  # type: ignore[arg-type]
            {
                "cell": {"fraction": fraction, "draw": draw, "seed": 0, "method": "ft", **cell},
                "split": {"train_records": size},
            },
        )
        for draw, size in enumerate(sizes)
    ]
    return Row("net", init, "ft", tuple(runs), {})


@pytest.mark.parametrize(
    ("rows", "draws", "expected"),
    [
        ([row()], 1, ""),
        ([row(fraction=0.1)], 1, "on this subset of 100 records"),
        ([row(fraction=0.1, sizes=(1100, 1200))], 2, "on these 2 subsets of 1,100 to 1,200 records"),
        ([row(fraction=0.1, sizes=(1, 2, 3))], 3, ""),
        ([row(manifest="list.json")], 1, "on this subset of 100 records"),
        ([row("own:1"), row("own:1")], 1, "from these weights"),
        ([row("own:1"), row("pretrained")], 1, "from these 2 sets of weights"),
        ([row("pretrained", 0.1), row("random", 0.1)], 1, "on this subset of 100 records from these weights"),
    ],
)
def test_a_condition(rows: list[Row], draws: int, expected: str) -> None:
    assert condition(rows, [(draw, 0) for draw in range(draws)]) == expected


@pytest.mark.parametrize(
    ("given", "few"),
    [
        (row(), False),
        (row(fraction=0.1), True),
        (row(fraction=0.1, sizes=(1, 2)), True),
        (row(fraction=0.1, sizes=(1, 2, 3)), False),
        (row(manifest="list.json"), True),
        (row(fraction=0.1, method="external"), False),
    ],
)
def test_fewer_than_three_draws_of_a_part_of_the_records_are_marked(given: Row, few: bool) -> None:
    assert few_draws(given) is few


@pytest.mark.parametrize(
    ("trained_on", "seen"),
    [
        ("diag of set-1, folds 1-8", ["NDT", "DIG"]),
        ("diag of other-set-1, folds 1-8", []),  # labels alone are no leak
        ("the HEEDB", []),
    ],
)
def test_labels_of_the_task_that_first_weights_know_are_named(trained_on: str, seen: list[str]) -> None:
    """Four form statements of PTB-XL are diagnostic, too: weights of `diag` have seen them on all training records."""
    facts = {"trained_on": trained_on, "labels": ["IMI", "DIG", "NDT"]}
    document = {"task": {"labels": ["ABQRS", "NDT", "DIG"]}, "dataset": {"name": "set-1"}, "init": {"facts": facts}}

    assert seen_labels(Result(None, document)) == seen  # type: ignore[arg-type]
    assert seen_labels(Result(None, {"cell": {}})) == []  # type: ignore[arg-type]
