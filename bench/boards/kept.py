"""Remember a board's numbers: summaries of rows and comparisons, under a hash of predictions and settings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.boards import comparisons
from bench.boards.comparisons import Comparison, Standing
from bench.boards.declared import BoardPlan
from bench.boards.resampling import NUM_REPLICATES, SEED
from bench.data.splits import TEST_FOLD
from bench.data.tasks import LabelTable
from bench.evaluation.bootstrap import Interval, Summary
from bench.results.remembered import keep, key_of, recall
from bench.results.result import Result

RowKey = tuple[str, str, str]
"""Backbone, init and method."""
Summaries = Mapping[str, Mapping[str, Summary | Interval]]
"""Label set -> metric -> mean and interval."""


@dataclass(frozen=True)
class Numbers:
    """All numbers of a board."""

    summaries: Mapping[RowKey, Summaries]
    standing: Standing | None


def key_of_board(
    rows: Mapping[RowKey, Sequence[Result]], labels: LabelTable, plan: BoardPlan, num_trials: Sequence[int]
) -> str:
    """Return the key of a board's numbers; `num_trials` [row] as `rows.num_trials`.

    What a board shows beside its numbers (`plan.labels`, `plan.starts`) is not part of the key.
    """
    settings = {key: value for key, value in dataclasses.asdict(plan).items() if key not in ("labels", "starts")}
    runs = [(key, [(run.place, run.streams, run.scores_sha256) for run in of_row]) for key, of_row in rows.items()]
    numbers = [TEST_FOLD, NUM_REPLICATES, SEED, comparisons.NUM_PERMUTATIONS, list(num_trials)]
    return key_of("board", labels.fingerprint, numbers, settings, runs)


def keep_numbers(key: str, numbers: Numbers) -> None:
    """Remember the numbers of a board."""
    standing = dataclasses.asdict(numbers.standing) if numbers.standing else None
    summaries = [
        [key_of_row, {chosen: {m: dataclasses.asdict(s) for m, s in of_set.items()} for chosen, of_set in each.items()}]
        for key_of_row, each in numbers.summaries.items()
    ]
    keep(key, json.dumps([summaries, standing]).encode())


def recall_numbers(key: str) -> Numbers | None:
    """Return the remembered numbers of a board; None if there are none."""
    content = recall(key)
    if content is None:
        return None
    summaries, standing = json.loads(content)
    return Numbers(
        {
            tuple(row): {
                chosen: {metric: _summary(summary) for metric, summary in of_set.items()}
                for chosen, of_set in each.items()
            }
            for row, each in summaries
        },
        _standing(standing) if standing else None,
    )


def _summary(plain: Mapping[str, Any]) -> Summary | Interval:
    return _full(plain) if "interval" in plain else Interval(**plain)


def _full(plain: Mapping[str, Any]) -> Summary:
    return Summary(**{**plain, "interval": Interval(**plain["interval"])})


def _standing(plain: Mapping[str, Any]) -> Standing:
    return Standing(
        {name: (low, high) for name, (low, high) in plain["ranks"].items()},
        plain["letters"],
        tuple(map(_comparison, plain["pairs"])),
        {name: _comparison(pair) for name, pair in plain["baseline"].items()},
        plain["undecided"],
    )


def _comparison(plain: Mapping[str, Any]) -> Comparison:
    differences = {metric: _full(summary) for metric, summary in plain["differences"].items()}
    labels = {label: _full(summary) for label, summary in plain["labels"].items()}
    places = tuple((draw, seed) for draw, seed in plain["places"])
    return Comparison(**{**plain, "differences": differences, "labels": labels, "places": places})
