"""Short names of rows: arguments are left out, and what all rows share is said once."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.boards.rows import Row
from bench.errors import BenchError
from bench.pages.names import check_labels, columns, given_labels, numbered, parts, places, recipe, short_name
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


def test_a_recipe_is_defaults_tuned_or_set_by_hand() -> None:
    assert recipe(row("ft")) == "defaults"
    assert recipe(row("ft(lr=0.1)")) == "set by hand"
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
    assert cells["recipe"] == ["defaults", "set by hand", "defaults"]
    assert "recipe" not in columns(board(row("ft"), row("lp(lr=1)")))[0]


LABELS = {"own:12345678": "pre-trained A", "lpft-sd": "LP-FT + SD", "ft(lr=0.1)": "tuned FT", "net": "Net 1D"}


def test_labels_stand_in_place_of_init_method_and_backbone() -> None:
    named = [
        replace(each, labels=LABELS)
        for each in (row("lpft-sd(lr=0.1)", "net, bf16", "own:12345678"), row("ft(lr=0.1)"), row("external", "net"))
    ]

    assert [short_name(each) for each in named] == [
        "LP-FT + SD(…) on Net 1D (pre-trained A)",
        "tuned FT on Net 1D (random)",
        "Net 1D (external)",
    ]
    cells, _ = columns(board(*named))
    assert cells["backbone"] == ["Net 1D, bf16", "Net 1D", "Net 1D"]
    assert cells["init"] == ["pre-trained A", "random", "–"]
    assert cells["method"] == ["LP-FT + SD(…)", "tuned FT", "external"]
    assert given_labels(named) == {
        "Net 1D": "net", "LP-FT + SD": "lpft-sd", "pre-trained A": "own:12345678", "tuned FT": "ft(lr=0.1)"
    }  # fmt: skip
    assert parts(named[0]) == ["net, bf16", "lpft-sd(lr=0.1)", "net", "lpft-sd", "own:12345678"]


def test_a_label_of_nothing_names_what_is_near() -> None:
    plan = SimpleNamespace(labels={"own:99999999": "of another board", "ft": "FT"})
    boards: Any = [SimpleNamespace(rows=[row("ft", init="own:389512e4")], plan=plan)]
    notes: list[str] = []

    check_labels(boards, {"ft": "fine-tuning"}, notes.append)
    assert len(notes) == 1, "a file declares for all its fractions, so a row may be missing: a note"
    assert "'own:99999999'" in notes[0]
    with pytest.raises(
        BenchError, match=r"no backbone, init or method of a row is 'own:389512e5'; there is own:389512e4$"
    ):
        check_labels(boards, {"own:389512e5": "A"}, notes.append)
    with pytest.raises(BenchError, match=r"is 'zzz'; there is ft, net, own:389512e4$"):
        check_labels(boards, {"zzz": "A"}, notes.append)
