"""Which rows differ significantly: letters while they are few, else ranks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.evaluation.compare import group_letters
from bench.pages.groups import DIFFERS, GROUP, differences_column, letters_of


def board(differs: np.ndarray, alone: int = 0) -> Any:
    """A board whose rows differ so, and that many rows in no group."""
    letters = [*group_letters(differs), *[""] * alone]
    rows = [SimpleNamespace(name=f"row {at}") for at in range(len(letters))]
    return SimpleNamespace(
        rows=rows, standing=SimpleNamespace(letters=dict(zip([row.name for row in rows], letters, strict=True)))
    )


def test_few_groups_have_letters() -> None:
    differs = np.zeros((4, 4), dtype=bool)
    differs[0, 2:] = differs[2:, 0] = True

    assert differences_column(board(differs, alone=1)) == (GROUP, ["a", "ab", "b", "b", "–"])


def test_many_groups_are_replaced_by_the_ranks_that_differ() -> None:
    random = np.random.default_rng(0)
    differs = np.triu(random.random((30, 30)) < 0.5, 1)
    differs |= differs.T
    differs[7] = differs[:, 7] = False
    made = board(differs, alone=2)
    head, cells = differences_column(made)

    assert len(set().union(*letters_of(made))) > 26 and head == DIFFERS
    assert cells[7] == "none" and cells[30:] == ["–", "–"]
    for place in (0, 3, 29):
        ranks = set[int]()
        for stretch in cells[place].split(", "):
            first, _, last = stretch.partition("–")
            ranks |= set(range(int(first), int(last or first) + 1))
        assert ranks == set((np.flatnonzero(differs[place]) + 1).tolist())


def test_rows_that_were_not_compared_are_in_no_group() -> None:
    made = SimpleNamespace(rows=[SimpleNamespace(name="a")], standing=None)

    assert differences_column(made) == (GROUP, ["–"]) and letters_of(made) == [set()]
