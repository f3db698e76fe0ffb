"""Objects that are shown as a table show all of it, in a terminal and in a notebook."""

from dataclasses import dataclass

import pandas as pd

from bench.boards.shown import ShownAsTable


@dataclass(repr=False)
class Scores(ShownAsTable):
    values: list[float]

    def shown(self) -> pd.DataFrame:
        return pd.DataFrame({"method": ["<lp>", "ft"][: len(self.values)], "auroc": self.values})


def test_the_text_has_every_row_and_the_page_escapes_what_stands_in_it() -> None:
    scores = Scores([0.91239, 0.5])

    assert [line.split()[0] for line in repr(scores).splitlines()[-2:]] == ["<lp>", "ft"]
    assert "0.912" in repr(scores)
    page = scores._repr_html_()
    assert page.count("<tr") == 3
    assert "&lt;lp&gt;" in page
    assert "<lp>" not in page


def test_what_has_no_rows_is_still_shown() -> None:
    assert repr(Scores([]))
    assert "<table" in Scores([])._repr_html_()
