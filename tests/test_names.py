"""Short names of rows: arguments are left out, and what all rows share is said once."""

from types import SimpleNamespace
from typing import Any

from bench.boards.rows import Row
from bench.pages.names import columns, numbered, places, recipe, short_name
from bench.results.result import Result


def row(method: str, backbone: str = "net", init: str = "random", trials: int = 0) -> Row:
    document: dict[str, Any] = {"cell": {"method": method, "arch": backbone}, "init": {"name": init}}
    if trials:
        document["search"] = {"trials": [{"method": method}] * trials}
    run = Result(None, {**document, "cell": {**document["cell"], "source_rate": None, "precision": None}})  # type: ignore[arg-type]
    return Row(backbone, init, method, (run,), {})


def board(*rows: Row) -> Any:
    return SimpleNamespace(rows=rows)


def test_arguments_precision_and_rate_are_left_out() -> None:
    given = row("lpft-sd(lr=0.1, b=(1, 2))", "net(depth=3), from 500 Hz, bf16", "own:12345678")

    assert short_name(given) == "lpft-sd(…) on net(…) (own:12345678)"
    assert short_name(row("external", "their model")) == "their model (external)"


def test_rows_have_the_number_of_their_place() -> None:
    two = board(row("ft"), row("lp(lr=1)"))

    assert places(two) == {"ft on net (random)": 1, "lp(lr=1) on net (random)": 2}
    assert list(numbered(two).values()) == ["1. ft on net (random)", "2. lp(…) on net (random)"]


def test_a_recipe_is_reported_tuned_or_given() -> None:
    assert recipe(row("ft")) == "reported"
    assert recipe(row("ft(lr=0.1)")) == "given"
    assert recipe(row("ft(lr=0.1)", trials=8)) == "tuned"
    assert recipe(row("external")) == "–"


def test_a_column_that_all_rows_share_becomes_a_sentence() -> None:
    cells, sentence = columns(board(row("ft"), row("lp", "other")))
    assert cells == {"backbone": ["net", "other"], "method": ["ft", "lp"]}
    assert sentence == "All rows: init random."

    cells, sentence = columns(board(row("ft")))
    assert list(cells) == ["backbone", "init", "method"]
    assert sentence == "", "one row shares nothing"


def test_the_recipe_is_a_column_where_it_tells_rows_of_a_method_from_each_other() -> None:
    cells, _ = columns(board(row("ft"), row("ft(lr=0.1)"), row("lp")))
    assert cells["recipe"] == ["reported", "given", "reported"]
    assert "recipe" not in columns(board(row("ft"), row("lp(lr=1)")))[0]
