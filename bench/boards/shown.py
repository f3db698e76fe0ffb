"""Objects that a terminal and a notebook show as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


class ShownAsTable:
    """An object that prints as the table which its `shown` returns. pandas is imported when it is printed."""

    def shown(self) -> pd.DataFrame:
        """Return the table, with the columns of bench.boards.frames."""
        raise NotImplementedError

    def __repr__(self) -> str:
        from bench.boards.frames import as_text

        return as_text(self.shown())

    def _repr_html_(self) -> str:
        from bench.boards.frames import as_html

        return as_html(self.shown())
