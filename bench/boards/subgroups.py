"""Score rows, and compare them, in parts of fold 10: age bands, sexes, devices and sites."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench.boards.comparisons import (
    Compared,
    ResampledRun,
    ScoredRow,
    ScoredRun,
    design_of,
    paired_runs,
    priors_of_pairs,
)
from bench.boards.rows import Board
from bench.boards.truth import Truth
from bench.data.info import SEXES
from bench.data.tasks import LabelTable
from bench.errors import BenchError
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, Resampled
from bench.evaluation.metrics import Bools
from bench.evaluation.parts import Bounds, Effect, bounds, macro_auroc
from bench.evaluation.runs import NO_PRIORS, Priors, Streams

KINDS = ("age", "sex", "device", "site")
"""Columns of a data set's table that divide its records."""
MIN_RECORDS = 100
"""Least number of records in fold 10 of a device or site that is shown."""
AGES = (0, 40, 60, 80, 1000)
SUBGROUPS = (
    *("dataset", "task", "fraction", "manifest", "row", "by", "group", "records", "patients", "labels", "auroc"),
    *("auroc_low", "auroc_high"),
)
"""Columns of `subgroups_frame`."""
DIFFERENCES = (
    *("first", "second", "by", "group", "records", "patients", "labels", "first_auroc", "second_auroc", "difference"),
    *("low", "high", "p", "p_others", "pairs"),
)
"""Columns of `ComparedWithin.subgroups`."""


class SubgroupPart(NamedTuple):
    """Records of fold 10 that share an age band, a sex, a device or a site."""

    by: str
    group: str
    members: Bools
    """[record]"""


def parts_of(people: pd.DataFrame, by: Sequence[str] = KINDS) -> list[SubgroupPart]:
    """Return the parts by these columns; of devices and sites those with MIN_RECORDS."""
    parts = [SubgroupPart(*group) for group in groups_of(people)]
    return [
        part
        for kind in by
        for part in parts
        if part.by == kind and (kind in ("age", "sex") or part.members.sum() >= MIN_RECORDS)
    ]


def groups_of(people: pd.DataFrame) -> Iterator[tuple[str, str, Bools]]:
    """Yield kind, name and mask [record] of each part, for columns that exist in the table."""
    if "age" in people:
        age = people["age"].to_numpy(np.float64)
        for low, high in itertools.pairwise(AGES):
            name = f"under {high}" if low == 0 else f"{low} and over" if high == AGES[-1] else f"{low} to {high - 1}"
            yield "age", name, np.asarray((age >= low) & (age < high))
    if "sex" in people:
        for code, name in SEXES.items():
            yield "sex", name, np.asarray(people["sex"] == code)
    for column in ("device", "site"):
        if column in people:
            names = people[column].map(_name).to_numpy()
            known, counts = np.unique(names[names != ""].astype(str), return_counts=True)
            for name in known[np.argsort(-counts, kind="stable")]:
                yield column, str(name), np.asarray(names == name)


def _name(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())


def check_kinds(by: Sequence[str], people: pd.DataFrame) -> None:
    """Raise BenchError unless the data set has these columns, with an entry for some record."""
    known = [kind for kind in KINDS if kind in people and people[kind].notna().any()]
    if unknown := [kind for kind in by if kind not in known]:
        raise BenchError(f"no subgroups by {', '.join(unknown)}: this data set has {', '.join(known) or 'none'}")


@dataclass(frozen=True)
class Within:
    """First row minus second in one part of fold 10."""

    first: str
    second: str
    by: str
    group: str
    num_records: int
    num_patients: int
    num_labels: int
    """Number of labels with at least 10 positives and 10 negatives there, over which AUROC is averaged."""
    num_pairs: int
    aurocs: tuple[float, float]
    """Macro AUROC of both rows there; NaN without such a label."""
    difference: Bounds | None
    """Corrected for all parts and pairs of rows that are looked at; None without such a label."""
    others: Bounds | None
    """This difference minus that in all other records, likewise; None if there are no labels frequent in both."""


@dataclass(frozen=True, repr=False)
class ComparedWithin(Compared):
    """Comparisons of selected rows, also in parts of fold 10."""

    within: tuple[Within, ...] = ()

    @property
    def num_looks(self) -> int:
        """Return the number of differences over which intervals and p-values are corrected."""
        return sum(part.difference is not None for part in self.within)

    @property
    def subgroups(self) -> pd.DataFrame:
        """One row for each pair and part; DIFFERENCES are the columns. bench/README.md documents them."""
        return pd.DataFrame([_as_row(part) for part in self.within], columns=list(DIFFERENCES))

    def __repr__(self) -> str:
        from bench.boards.frames import as_text

        return f"{super().__repr__()}\n\n{as_text(self.subgroups)}"

    def _repr_html_(self) -> str:
        from bench.boards.frames import as_html

        return super()._repr_html_() + as_html(self.subgroups)

    def as_data(self) -> dict[str, Any]:
        """Return plain data, for --json."""
        rows = [
            {key: None if pd.isna(value) else value for key, value in _as_row(part).items()} for part in self.within
        ]
        return {**super().as_data(), "subgroups": rows, "num_looks": self.num_looks}


def _as_row(within: Within) -> dict[str, Any]:
    interval = within.difference
    return {
        "first": within.first,
        "second": within.second,
        "by": within.by,
        "group": within.group,
        "records": within.num_records,
        "patients": within.num_patients,
        "labels": within.num_labels,
        "first_auroc": within.aurocs[0],
        "second_auroc": within.aurocs[1],
        "difference": interval.value if interval else np.nan,
        "low": interval.low if interval else np.nan,
        "high": interval.high if interval else np.nan,
        "p": interval.p if interval else np.nan,
        "p_others": within.others.p if within.others else np.nan,
        "pairs": within.num_pairs,
    }


def compare_within(
    comparison: Compared,
    rows: Mapping[str, ScoredRow],
    truth: LabelTable,
    people: pd.DataFrame,
    by: Sequence[str],
    others: Mapping[str, ScoredRow] = {},
) -> ComparedWithin:
    """Add to a comparison the difference of each pair of rows in each part of fold 10.

    `people` are the rows of the data set's table [record]; `by` are some of KINDS. In a part, macro AUROC is over the
    labels with at least 10 positives and 10 negatives there. Intervals and p-values are corrected by Bonferroni over
    all parts and pairs that have such a label: see bench.evaluation.parts. `others` are the other rows of the board,
    to whose differences in the same part the prior of the variance between runs is fitted, as in `compare_pairs`.
    """
    check_kinds(by, people)
    every = {**rows, **others}
    counted = [(part, metrics.frequent(truth.y_true[part.members])) for part in parts_of(people, by)]
    pairs = list(itertools.combinations(rows, 2))
    num_looks = len(pairs) * sum(bool(labels.any()) for _, labels in counted)
    within = []
    for part, labels in counted:
        looks = _Looks.at(part, labels, every, truth)
        within += [looks.compare(first, second, every[first], every[second], num_looks) for first, second in pairs]
    return ComparedWithin(**vars(comparison), within=tuple(within))


@dataclass(frozen=True, eq=False)
class _Looks:
    """A part of fold 10, the records beside it, and how much differences of rows vary between runs in them."""

    part: SubgroupPart
    labels: Bools
    """[label] frequent in the part"""
    both: Bools
    """[label] frequent in the part and beside it"""
    truth: LabelTable
    priors: Priors
    """Of differences in the part."""
    priors_beside: Priors
    """Of differences in the part minus those beside it."""

    @classmethod
    def at(cls, part: SubgroupPart, labels: Bools, rows: Mapping[str, ScoredRow], truth: LabelTable) -> _Looks:
        """Return the looks at a part, with priors fitted to all pairs of `rows`."""
        both = labels & metrics.frequent(truth.y_true[~part.members])
        here, beside = {1: (part.members, labels)}, {1: (part.members, both), -1: (~part.members, both)}
        return cls(part, labels, both, truth, *_priors(rows, truth, [here, beside]))

    def compare(self, first: str, second: str, first_row: ScoredRow, second_row: ScoredRow, num_looks: int) -> Within:
        """Return first minus second here."""
        members, truth = self.part.members, self.truth
        paired = paired_runs(first_row, second_row)
        design = design_of(*paired)
        aurocs, difference, beside = (np.nan, np.nan), None, None
        if self.labels.any():
            of_first, of_second = (self._effect(row, members, self.labels) for row in paired)
            aurocs = (float(design.mean(of_first.values)), float(design.mean(of_second.values)))
            difference = bounds(of_first - of_second, num_looks=num_looks, design=design, priors=self.priors)
        if self.both.any():
            here, there = (
                self._effect(paired[0], side, self.both) - self._effect(paired[1], side, self.both)
                for side in (members, ~members)
            )
            limits, priors = (-2.0, 2.0), self.priors_beside
            beside = bounds(here - there, num_looks=num_looks, limits=limits, design=design, priors=priors)
        patients = len(np.unique(truth.patient_id[members]))
        counts = int(members.sum()), patients, int(self.labels.sum()), len(paired[0])
        return Within(first, second, self.part.by, self.part.group, *counts, aurocs, difference, beside)

    def _effect(self, row: ScoredRow, members: Bools, labels: Bools) -> Effect:
        runs = [run.y_score for run in row.values()]
        return macro_auroc(self.truth.patient_id, self.truth.y_true, runs, members, labels)


def _priors(
    rows: Mapping[str, ScoredRow], truth: LabelTable, looks: Sequence[Mapping[int, tuple[Bools, Bools]]]
) -> list[Priors]:
    """Fit for each look the prior of the variance between runs of a difference to all pairs of rows.

    A look is sign -> part [record] and labels [label]: the number of a run is the sum of its macro AUROCs with these
    signs. Two rows and no label give no prior.
    """
    if len(rows) < 3:
        return [NO_PRIORS] * len(looks)

    def numbers(run: ScoredRun) -> list[float]:
        y_score = run.y_score  # read once for all looks: a run does not keep its scores
        return [
            sum(
                sign * metrics.auroc(truth.y_true[np.ix_(*side)], y_score[np.ix_(*side)]).mean()
                for sign, side in look.items()
            )
            for look in looks
            if look[1][1].any()
        ]

    every = {name: {place: (numbers(run), run.streams) for place, run in row.items()} for name, row in rows.items()}
    priors, at = [], 0
    for look in looks:
        if not look[1][1].any():
            priors.append(NO_PRIORS)
            continue
        single = {
            name: {place: _single(values[at], streams) for place, (values, streams) in row.items()}
            for name, row in every.items()
        }
        priors.append(priors_of_pairs(single, "auroc", np.ones(1, dtype=bool)))
        at += 1
    return priors


def _single(value: float, streams: Streams) -> ResampledRun:
    """Return a run whose only number is `value`, without scores."""
    estimate = Estimate(np.array([value]), np.empty((0, 1)))
    return ResampledRun(np.empty((0, 1)), Resampled(estimate, estimate), streams)


def priors_within(
    rows: Mapping[str, ScoredRow], truth: LabelTable, parts: Sequence[tuple[Bools, Bools]]
) -> list[Priors]:
    """Fit for each part [record] with its labels [label] the prior of differences, as `compare_within` does."""
    return _priors(rows, truth, [{1: part} for part in parts])


def subgroups_frame(boards: Iterable[Board], truth: Truth) -> pd.DataFrame:
    """Return a row for each row of each board and each part of fold 10; SUBGROUPS are the columns.

    95 % intervals over patients and runs, not corrected for the number of parts. Boards without labels have none.
    """
    rows = [row for board in boards if board.truth is not None for row in _of_board(board, board.truth, truth)]
    return pd.DataFrame(rows, columns=list(SUBGROUPS))


def _of_board(board: Board, labels: LabelTable, truth: Truth) -> Iterator[dict[str, Any]]:
    place = {"dataset": board.dataset, "task": board.task, "fraction": board.fraction, "manifest": board.manifest}
    counted = [(part, metrics.frequent(labels.y_true[part.members])) for part in parts_of(truth.people(labels))]
    for row in board.rows:
        runs = [run.y_score for run in row.scored.values()]
        for part, chosen in counted:
            facts = {**place, "row": row.name, "by": part.by, "group": part.group, "records": int(part.members.sum())}
            facts |= {"patients": len(np.unique(labels.patient_id[part.members])), "labels": int(chosen.sum())}
            if chosen.any():
                effect = macro_auroc(labels.patient_id, labels.y_true, runs, part.members, chosen)
                at = bounds(effect, limits=(0.0, 1.0), design=design_of(row.scored))
                facts |= {"auroc": at.value, "auroc_low": at.low, "auroc_high": at.high}
            yield facts
