"""Give html.js the numbers of a board: its rows, and the difference of each pair with what may be said of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench.boards.comparisons import Comparison
from bench.boards.declared import EXPLORATORY, FAMILY, PRIMARY
from bench.boards.rows import Board, interval_of
from bench.boards.truth import Truth
from bench.evaluation.bootstrap import Interval
from bench.evaluation.metrics import RANKING
from bench.pages.conditions import condition_of
from bench.pages.costs import command_of, leaves_out_features
from bench.pages.details import Details, Part, details, some_pairs
from bench.pages.html_rows import board_key, facts, row_key, share, training_minutes
from bench.pages.names import numbered, short_method, shown_backbone, shown_init
from bench.pages.pictures import is_constant
from bench.pages.spelling import equals, spell_role

MAX_INTERVALS = 40_000
"""Number of differences by label and part on a page: about 1 MB. Beyond, only declared pairs have them."""
MAX_PAIRS = 8_000
"""Number of pairs on a page. Beyond, only declared pairs and those with a baseline are there."""


def board_data(board: Board, truth: Truth | None, address: str, num_boards: int) -> dict[str, Any]:
    """Return a board as html.js reads it.

    `truth` None leaves out labels and parts, which stand on the page at `address`. `num_boards` is the number of boards
    that share the page, and so its size.
    """
    standing = board.standing
    pairs = some_pairs(board, MAX_PAIRS // num_boards) if standing else []
    people = truth.people(board.truth) if truth and board.truth else None
    known = Details() if people is None else details(board, people, MAX_INTERVALS // num_boards)
    complete = known.complete and len(pairs) == len(standing.pairs if standing else ())
    groups, verdicts = [known.labels, known.parts], dict[str, int]()
    return {
        "key": board_key(board),
        "task": board.task,
        "dataset": board.dataset,
        "share": share(board),
        "fraction": board.fraction,
        "page": "" if truth else address,
        "margin": board.plan.margin,
        "missing": "" if standing else "The labels were not at hand, so rows of this board are not compared.",
        "partial": "" if complete else "This board has many pairs: only declared ones are shown in full.",
        "groups": [[[part.name, part.facts] for part in parts] for parts in groups],
        "rows": [_row(board, place, groups) for place in range(len(board.rows))],
        "pairs": [_pair(board, pair, verdicts, groups) for pair in pairs],
        "verdicts": list(verdicts),
        "example": next((number for number, pair in enumerate(pairs) if pair.role == PRIMARY), 0),
    }


def _row(board: Board, place: int, groups: Sequence[Sequence[Part]]) -> dict[str, Any]:
    row = board.rows[place]
    interval = interval_of(row.summaries["frequent"]["auroc"])
    return {
        "key": row_key(board, row),
        "place": place + 1,
        "name": numbered(board)[row.name],
        "series": row.name,
        "method": re.split(r"[(,]", short_method(row), maxsplit=1)[0],
        "backbone": shown_backbone(row),
        "start": "–" if row.runs[0].external else shown_init(row),
        "auroc": [None if math.isnan(x) else round(x, 4) for x in (interval.value, interval.low, interval.high)],
        "minutes": training_minutes(row),
        "few": row.few_runs,
        "partial": leaves_out_features(row),
        "constant": is_constant(row),
        "command": command_of(row.runs[0], board.plan.starts),
        "facts": facts(board, place),
        "scores": [[round(part.scores[row.name], 4) for part in parts] for parts in groups],
    }


def _pair(board: Board, pair: Comparison, verdicts: dict[str, int], groups: Sequence[Sequence[Part]]) -> list[Any]:
    """Return a pair as html.js reads it; its verdict is added to `verdicts`, text -> number."""
    places: Mapping[str, int] = {row.name: place for place, row in enumerate(board.rows)}
    names = pair.first, pair.second
    return [
        *(places[name] for name in names),
        *(_signed(pair.differences[metric].interval) for metric in RANKING),
        f"p {equals(spell_role(pair))}",
        round(pair.resolvable, 4),
        verdicts.setdefault(verdict(board, pair), len(verdicts)),
        pair.num_pairs,
        *([_signed(part.differences[names]) for part in parts if names in part.differences] for parts in groups),
    ]


def _signed(interval: Interval) -> list[float]:
    """Return a difference with its bounds, rounded as `spell_difference` prints them; none loses its sign."""
    bounds = [round(x, 3) or math.copysign(min(abs(x), 1e-9), x) for x in (interval.low, interval.high)]
    return [round(interval.value, 4), *bounds]


def verdict(board: Board, pair: Comparison) -> str:
    """Return what may be said of a pair of rows, by section 9 of leaderboards/PROTOCOL.md."""
    if pair.few_pairs:
        return (
            "Fewer than three pairs of runs: the p is about these trained models and not about their methods. It is "
            "not corrected and supports no claim."
        )
    if pair.role == EXPLORATORY:
        words = (
            "Exploratory: this pair was not declared, so it supports no claim. Its p is corrected over all "
            f"{pair.family_size} exploratory pairs of the board; a new row changes it."
        )
    else:
        words = f"Declared as {'a member of the family' if pair.role == FAMILY else 'a primary contrast'}. "
        where = condition_of(pair, board.rows)
        words += (
            f"The rows differ significantly{where and ' '}{where}."
            if pair.claimed
            else "The difference is not significant, which does not make the rows equal."
        )
    if pair.practically_equal:
        words += f" Practically equal: the whole interval lies within ±{board.plan.margin:g}."
    return words
