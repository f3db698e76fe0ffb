"""Tables of Markdown keep their columns, whatever is in a cell."""

from bench.pages.markdown import cells_of, folded, markdown_table


def test_a_bar_in_a_cell_is_no_column() -> None:
    given = ["a|b", "1", "|", "x || y"]
    head, rule, row, end = markdown_table(["name", "n|m", "", "o"], [given], left=2)

    assert row == r"| a\|b | 1 | \| | x \|\| y |"
    assert rule == "|---|---|---:|---:|"
    assert (cells_of(head), cells_of(row), end) == (["name", "n|m", "", "o"], given, "")


def test_a_fold_has_its_lines() -> None:
    assert folded("more", ["x", ""]) == ["<details><summary>more</summary>", "", "x", "", "</details>", ""]
