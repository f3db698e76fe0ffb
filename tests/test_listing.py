"""Rows of plain data as a table on the terminal: nothing is lost, nothing is read as markup."""

from rich.console import Console
from rich.table import Table

from bench.console.listing import add_row, add_stacked_row, new_table, table


def shown(what: Table, width: int = 100) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def test_values_are_texts_and_numbers_have_separators() -> None:
    text = shown(table("tasks", [{"name": "all", "records": 21799, "ok": True}]))

    assert "21,799" in text
    assert "yes" in text


def test_a_common_distribution_is_in_the_title_and_different_ones_in_a_column() -> None:
    rows = [{"name": "ft", "from": "bench 0.1"}, {"name": "mine", "from": "bench 0.1"}]
    assert "".join(shown(table("methods", rows)).split()).startswith("methods,allfrombench0.1name")
    rows[1]["from"] = "lab 2"
    assert "lab 2" in shown(table("methods", rows))


def test_many_columns_leave_the_description_a_line_of_its_own() -> None:
    row = {"name": "net", "what": "a description " * 8, **{f"column{n}": n for n in range(6)}}
    lines = shown(table("backbones", [row]), width=80).splitlines()

    assert any("net" in line and "0  " in line for line in lines)
    assert sum("a description" in line for line in lines) == 2, "wrapped over the whole width"
    assert max(map(len, lines)) <= 80


def test_brackets_are_no_markup() -> None:
    what = new_table("title [bold]")
    what.add_column("head")
    add_row(what, ["[record, lead]"])

    assert "[record, lead]" in shown(what)
    assert "title [bold]" in shown(what)
    assert shown(table("empty", [{"name": "x"}])).count("x") == 1


def test_facts_are_wrapped_between_facts_and_not_within() -> None:
    stacked = new_table("rows")
    stacked.add_column("row")
    facts = [f"macro AUROC +0.{n:04} (-0.001 to +0.011)".replace(" ", "\N{NO-BREAK SPACE}") for n in range(7)]
    add_stacked_row(stacked, "lpft-sd on net1d_mini", "   ".join(facts))

    lines = shown(stacked, width=80).splitlines()

    assert max(map(len, lines)) <= 80
    assert all(any(fact.replace("\N{NO-BREAK SPACE}", " ") in line for line in lines) for fact in facts)
