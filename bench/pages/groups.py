"""The column that says which rows of a board differ significantly: by group letters, or by ranks if those are many."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bench.boards.rows import Board

GROUP, DIFFERS = "group", "differs from"
"""Heads of the column."""
MOST_LETTERS = 26
"""Number of groups up to which a row has letters, from a to z."""


def letters_of(board: Board) -> list[set[str]]:
    """Return [row], the letters of its groups; none if it has fewer than three runs, or if rows were not compared."""
    written = board.standing.letters if board.standing else {}
    return [set(re.findall(r"[a-z]\d*", written.get(row.name, ""))) for row in board.rows]


def differences_column(board: Board) -> tuple[str, list[str]]:
    """Return the head and [row] the cells: letters of groups, or the ranks of the rows from which a row differs.

    A dash stands for a row that is in no group.
    """
    letters = letters_of(board)
    written = board.standing.letters if board.standing else {}
    if len(set().union(*letters)) <= MOST_LETTERS:
        return GROUP, [written.get(row.name, "") or "–" for row in board.rows]
    return DIFFERS, [_differing(own, letters) if own else "–" for own in letters]


def _differing(own: set[str], letters: Sequence[set[str]]) -> str:
    """Return the ranks of the rows without a common letter, such as `1–3, 8`; `none` if there are none."""
    ranks = [place for place, others in enumerate(letters, 1) if others and not own & others]
    return ", ".join(_stretches(ranks)) or "none"


def _stretches(ranks: Sequence[int]) -> Iterator[str]:
    """Yield each stretch of consecutive ranks, as `8` or `1–3`."""
    first = 0
    for at, rank in enumerate(ranks):
        if at + 1 == len(ranks) or ranks[at + 1] != rank + 1:
            yield str(rank) if rank == ranks[first] else f"{ranks[first]}–{rank}"
            first = at + 1
