"""Rows of a board against each other: paired differences, tests over a declared family, groups and ranks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.boards.declared import EXPLORATORY, FAMILY, PRIMARY, BoardPlan, Pair, Role
from bench.data.tasks import LabelTable
from bench.errors import BenchError
from bench.evaluation import compare, metrics
from bench.evaluation.bootstrap import Estimate, Resampled, Summary
from bench.evaluation.placements import difference_p, placements
from bench.evaluation.runs import (
    MIN_RUNS,
    Design,
    Kind,
    Place,
    Prior,
    Priors,
    RunVariance,
    Streams,
    borrow,
    moderate,
    shared_noise,
)

if TYPE_CHECKING:
    import pandas as pd

ALPHA = compare.ALPHA
NUM_PERMUTATIONS = 10_000


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """One run on fold 10: its scores, and both metrics on the fold and on each replicate of its patients."""

    y_score: NDArray[np.floating[Any]]
    """[record, label]"""
    resampled: Resampled
    streams: Streams = "seed"
    """What its random streams depend on."""

    def macro(self, metric: str, labels: metrics.Bools) -> Estimate:
        """One metric averaged over the chosen labels."""
        found: Estimate = getattr(self.resampled, metric)
        return found.macro(labels)


ScoredRow = Mapping[Place, ScoredRun]
"""The runs of a row by (draw, seed): what pairs them with another row's."""


def estimates(row: ScoredRow, metric: str, labels: metrics.Bools) -> list[Estimate]:
    """One metric of a row, averaged over the chosen labels, of each of its runs."""
    return [run.macro(metric, labels) for run in row.values()]


def design_of(*rows: ScoredRow) -> Design:
    """The design of a row, or of the paired runs of two: crossed where it is in either."""
    alone = [{place for place, run in row.items() if run.streams == "seed"} for row in rows]
    places = list(rows[0])
    return Design.of(places, ["seed" if any(place in one for one in alone) else "draw and seed" for place in places])


@dataclass(frozen=True)
class Comparison:
    """First row minus second, over the runs that both have."""

    first: str
    second: str
    num_pairs: int
    differences: Mapping[str, Summary]
    """Metric -> difference of its macro average over the labels with at least 10 positives."""
    permutation_p: float
    """Of macro AUROC, by swapping whole patients."""
    placement_p: float
    """Of macro AUROC, by DeLong's standard error on whole patients, and runs: `placements.difference_p`."""
    practically_equal: bool
    p_adjusted: float = math.nan
    """The larger p, adjusted as `adjust` says."""
    family_size: int = 0
    """The number of p-values that this one was adjusted with."""
    role: str = EXPLORATORY
    """PRIMARY, FAMILY or EXPLORATORY."""
    labels: Mapping[str, Summary] = field(default_factory=dict)
    """Label -> difference of AUROC; only where asked for."""
    places: tuple[tuple[int, int], ...] = ()
    """(draw, seed) of the paired runs."""

    def __neg__(self) -> Comparison:
        """Second row minus first."""
        differences = {metric: -summary for metric, summary in self.differences.items()}
        labels = {label: -summary for label, summary in self.labels.items()}
        return replace(self, first=self.second, second=self.first, differences=differences, labels=labels)

    @property
    def p(self) -> float:
        """The larger of both: each test is blind where the other sees."""
        return max(self.permutation_p, self.placement_p)

    @property
    def significant(self) -> bool:
        """Whether the rows differ after Holm."""
        return self.p_adjusted <= ALPHA

    @property
    def few_pairs(self) -> bool:
        """Whether it is about these trained models and not about methods: too few pairs to know how training varies."""
        return self.differences["auroc"].few_runs

    @property
    def claimed(self) -> bool:
        """Whether it may be said that the methods differ: significant, over three pairs of runs or more."""
        return self.significant and not self.few_pairs

    @property
    def resolvable(self) -> float:
        """The true difference of macro AUROC that is found in 80 % of cases, by the first step of Holm's rule."""
        return compare.resolvable_difference(self.differences["auroc"], max(self.family_size, 1))


@dataclass(frozen=True)
class Standing:
    """What can be said of a board's rows against each other."""

    ranks: Mapping[str, tuple[int, int]]
    """Row -> the ranks it takes in the middle 95 % of replicates."""
    letters: Mapping[str, str]
    """Row -> its groups: rows that share a letter do not differ significantly; empty for a row of few runs."""
    pairs: tuple[Comparison, ...]
    """Every pair, each with the p-value of its role: see `adjust`."""
    baseline: Mapping[str, Comparison]
    """Row -> its difference from the declared baseline, which is one of `pairs`."""
    undecided: str = ""
    """Why no row was tested against the declared baseline, where it may be several rows."""

    @property
    def baselines(self) -> set[str]:
        """The rows that others were tested against."""
        return {found.second for found in self.baseline.values()}


def stand(
    rows: Mapping[str, ScoredRow], plan: BoardPlan, truth: LabelTable, tuned: Container[str] = ()
) -> Standing | None:
    """All rows, in board order, against each other and against the baseline; None where no label is frequent."""
    if not rows or not metrics.frequent(truth.y_true).any():
        return None
    names = list(rows)
    pairs = [pair for pair in itertools.combinations(names, 2) if _shared(rows[pair[0]], rows[pair[1]])]
    every = adjust(compare_pairs(rows, pairs, plan.margin, truth), plan.roles(names, tuned))
    return Standing(
        _rank_intervals(rows, truth),
        _letters(rows, every, truth),
        tuple(every),
        *_against_baseline(names, plan, every, tuned),
    )


def adjust(pairs: Sequence[Comparison], roles: Mapping[Pair, Role]) -> list[Comparison]:
    """Give each pair the one adjusted p-value that boards, ledger and `bench compare` show.

    Primary contrasts: Holm over those of their study, mostly a single one, so their p stays as it is. The declared
    family: Holm over the study's, and at least the largest p of the study's primary contrasts (serial gatekeeping,
    Dmitrienko and Tamhane 2007): together these claim anything false in at most 5 % of studies. All other pairs are
    exploratory: Holm over all of them on the board. A pair of few runs is about these trained models and no method: its
    p is not adjusted and counts for no other.
    """
    turned = {pair[::-1]: role for pair, role in roles.items()}
    found = [roles.get((one.first, one.second)) or turned.get((one.first, one.second)) for one in pairs]
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, (one, role) in enumerate(zip(pairs, found, strict=True)):
        if not one.few_pairs:
            groups.setdefault((role.name, *role.study) if role else (EXPLORATORY,), []).append(place)
    adjusted = [
        replace(one, p_adjusted=one.p, family_size=1, role=role.name if role else EXPLORATORY)
        for one, role in zip(pairs, found, strict=True)
    ]
    for places in groups.values():
        for place, p in zip(places, compare.holm([pairs[place].p for place in places]), strict=True):
            adjusted[place] = replace(adjusted[place], p_adjusted=float(p), family_size=len(places))
    for group, places in groups.items():
        if group[0] == FAMILY:
            gate = max((adjusted[place].p_adjusted for place in groups.get((PRIMARY, *group[1:]), ())), default=0.0)
            for place in places:
                adjusted[place] = replace(adjusted[place], p_adjusted=max(adjusted[place].p_adjusted, gate))
    return adjusted


def _letters(rows: Mapping[str, ScoredRow], pairs: Sequence[Comparison], truth: LabelTable) -> dict[str, str]:
    """Row -> group letters, for rows of three runs or more; a pair that was not tested does not differ."""
    chosen = metrics.frequent(truth.y_true)
    designs = {name: design_of(row) for name, row in rows.items()}
    values = {
        name: float(designs[name].mean([run.value for run in estimates(row, "auroc", chosen)]))
        for name, row in rows.items()
    }
    names = [name for name, design in designs.items() if design.num_independent >= MIN_RUNS]
    names.sort(key=lambda name: -values[name])
    place = {name: number for number, name in enumerate(names)}
    differs = np.zeros((len(names), len(names)), dtype=bool)
    for one in pairs:
        if one.first in place and one.second in place:
            i, j = place[one.first], place[one.second]
            differs[i, j] = differs[j, i] = one.claimed
    letters = dict(zip(names, compare.group_letters(differs), strict=True)) if names else {}
    return {name: letters.get(name, "") for name in rows}


def _against_baseline(
    rows: Sequence[str], plan: BoardPlan, pairs: Sequence[Comparison], tuned: Container[str]
) -> tuple[dict[str, Comparison], str]:
    """Row -> its comparison with the declared baseline, among all `pairs` of the board; or why there is none."""
    try:
        contrasts = plan.contrasts(rows, tuned)
    except BenchError as error:
        return {}, str(error)
    known = {(one.first, one.second): one for one in pairs}
    known |= {(one.second, one.first): -one for one in pairs}
    return {pair[0]: known[pair] for pair in contrasts if pair in known}, ""


def compare_pairs(
    rows: Mapping[str, ScoredRow],
    pairs: Sequence[tuple[str, str]],
    margin: float,
    truth: LabelTable,
    *,
    per_label: bool = False,
    num_permutations: int | None = None,
) -> list[Comparison]:
    """Each pair compared, the p-values adjusted over all of them; by NUM_PERMUTATIONS where none are given.

    How much runs vary is borrowed from the differences of all `rows`, whether or not a pair of them is named.
    """
    chosen = metrics.frequent(truth.y_true)
    y_true = truth.y_true[:, chosen]
    placed = {
        name: {key: placements(y_true, run.y_score[:, chosen]) for key, run in rows[name].items()}
        for name in dict.fromkeys(itertools.chain.from_iterable(pairs))
    }
    paired = []
    for first, second in pairs:
        if not _shared(rows[first], rows[second]):
            raise BenchError(f"{first} and {second} have no run of the same draw and seed, so they cannot be paired")
        paired.append(paired_runs(rows[first], rows[second]))
    permuted = compare.permutation_ps(
        truth.patient_id,
        truth.y_true,
        [([run.y_score for run in a.values()], [run.y_score for run in b.values()]) for a, b in paired],
        chosen,
        num_permutations or NUM_PERMUTATIONS,
    )
    priors = {metric: priors_of_pairs(rows, metric, chosen) for metric in metrics.RANKING}
    found = []
    for (first, second), (one, other), p in zip(pairs, paired, permuted, strict=True):
        design = design_of(one, other)
        of_runs = [[placed[name][place] for place in one] for name in (first, second)]
        by_error = difference_p(truth.patient_id, y_true, *of_runs, design=design, priors=priors["auroc"])
        differences = {
            metric: compare.difference(
                estimates(one, metric, chosen), estimates(other, metric, chosen), design=design, priors=priors[metric]
            )
            for metric in metrics.RANKING
        }
        found.append(
            Comparison(
                first,
                second,
                len(one),
                differences,
                float(p),
                by_error,
                compare.practically_equal(differences["auroc"], margin),
                labels=label_differences(one, other, truth) if per_label else {},
                places=tuple(one),
            )
        )
    return _adjusted(found)


def priors_of_pairs(rows: Mapping[str, ScoredRow], metric: str, labels: metrics.Bools) -> Priors:
    """What the differences of all pairs of rows tell of how much such a difference varies from run to run."""
    values = {
        name: {place: run.macro(metric, labels).value for place, run in row.items()} for name, row in rows.items()
    }
    own: dict[tuple[str, str], RunVariance] = {}
    for first, second in itertools.combinations(rows, 2):
        if _shared(rows[first], rows[second]):
            one, other = paired_runs(rows[first], rows[second])
            variance = design_of(one, other).variance([values[first][p] - values[second][p] for p in one])
            if variance.variance > 0:
                own[first, second] = variance
    priors: dict[Kind, Prior] = {}
    for kind in dict.fromkeys(variance.kind for variance in own.values()):
        alike = {pair: variance for pair, variance in own.items() if variance.kind == kind}
        priors |= borrow(list(alike.values()), len(set(itertools.chain.from_iterable(alike))) - 1)
    return priors


def _adjusted(family: Sequence[Comparison]) -> list[Comparison]:
    """The same with their p-values adjusted over all of them."""
    adjusted = compare.holm([one.p for one in family])
    return [replace(one, p_adjusted=float(p), family_size=len(family)) for one, p in zip(family, adjusted, strict=True)]


def label_differences(one: ScoredRow, other: ScoredRow, truth: LabelTable) -> dict[str, Summary]:
    """Label -> difference of AUROC over paired runs, for the labels with at least 10 positives."""

    def of(row: ScoredRow, column: int) -> list[Estimate]:
        return [run.resampled.auroc.label(column) for run in row.values()]

    design = design_of(one, other)
    frequent = np.flatnonzero(metrics.frequent(truth.y_true)).tolist()
    return {truth.labels[at]: compare.difference(of(one, at), of(other, at), design=design) for at in frequent}


def paired_runs(one: ScoredRow, other: ScoredRow) -> tuple[ScoredRow, ScoredRow]:
    """The runs that both rows have, in the same order."""
    places = _shared(one, other)
    return {place: one[place] for place in places}, {place: other[place] for place in places}


def _rank_intervals(rows: Mapping[str, ScoredRow], truth: LabelTable) -> dict[str, tuple[int, int]]:
    """Ranks, best 1, over replicates of patients and, where rows have several runs, of runs.

    Both are drawn jointly: the same patients in all rows, and the runs of one draw and seed together. A row of one run
    moves by what the other rows tell of runs, if they do.
    """
    chosen = metrics.frequent(truth.y_true)
    designs = [design_of(row) for row in rows.values()]
    of_rows = [estimates(row, "auroc", chosen) for row in rows.values()]
    values = [np.array([run.value for run in runs]) for runs in of_rows]
    own = [design.variance(of_row) for design, of_row in zip(designs, values, strict=True)]
    priors = borrow(own, len(rows))
    moderated = [moderate(one, priors.get(one.kind)) for one in own]
    of_patients = np.array(
        [design.mean([run.replicates for run in runs]) for design, runs in zip(designs, of_rows, strict=True)]
    )
    drawn = of_patients + shared_noise(designs, values, moderated, of_patients.shape[1], np.random.default_rng(0))
    ranks = 1 + (drawn[None] > drawn[:, None]).sum(axis=1)  # [row, replicate]
    low, high = np.quantile(ranks, [0.025, 0.975], axis=1, method="nearest")
    return {name: (int(a), int(b)) for name, a, b in zip(rows, low, high, strict=True)}


def _shared(one: ScoredRow, other: ScoredRow) -> list[tuple[int, int]]:
    return sorted(set(one) & set(other))


@dataclass(frozen=True, repr=False)
class Compared:
    """Named rows against each other: every pair, and the declared baseline's contrasts where it is among them."""

    pairs: tuple[Comparison, ...]
    """First named row minus later ones, per label too, with the p-values of their board."""
    baseline: Mapping[str, Comparison]
    letters: Mapping[str, str]
    """Row -> groups, the rows as they were named."""
    margin: float
    undecided: str = ""
    """As in a standing."""

    @property
    def differences(self) -> pd.DataFrame:
        """One row for each pair; bench/README.md documents the columns."""
        from bench.boards.frames import compared_frame

        return compared_frame(self)

    @property
    def labels(self) -> pd.DataFrame:
        """One row for each pair and label: first, second, label, difference, low, high. Not corrected."""
        from bench.boards.frames import labels_frame

        return labels_frame(self)

    def __repr__(self) -> str:
        from bench.boards.frames import as_text

        return as_text(self.differences.drop(columns=["p_swap", "p_delong"]))

    def _repr_html_(self) -> str:
        from bench.boards.frames import as_html

        return as_html(self.differences.drop(columns=["p_swap", "p_delong"]))

    def as_data(self) -> dict[str, Any]:
        """Plain data, for --json."""
        return {
            "pairs": [as_data(one) for one in self.pairs],
            "baseline": {name: as_data(one) for name, one in self.baseline.items()},
            "groups": dict(self.letters),
            "margin": self.margin,
        }


def compared(
    rows: Mapping[str, ScoredRow],
    plan: BoardPlan,
    truth: LabelTable,
    tuned: Container[str] = (),
    others: Mapping[str, ScoredRow] = {},
) -> Compared:
    """Compare every pair of rows in the order in which they were named.

    `others` are the rows of their board that were not named: with them the p-values are those of the board.
    """
    if len(rows) < 2:
        raise BenchError("name at least two rows to compare")
    if not metrics.frequent(truth.y_true).any():
        raise BenchError(f"no label of {truth.task} has {metrics.MIN_POSITIVES} positives in fold 10")
    every, named = {**rows, **others}, list(itertools.combinations(rows, 2))
    rest = [
        (first, second)
        for first, second in itertools.combinations(every, 2)
        if not {first, second} <= set(rows) and _shared(every[first], every[second])
    ]
    # in one call, as on the board: how many permutations a pair gets depends on how many pairs there are
    pairs = adjust(compare_pairs(every, named + rest, plan.margin, truth), plan.roles(list(every), tuned))[: len(named)]
    pairs = [
        replace(one, labels=label_differences(*paired_runs(rows[one.first], rows[one.second]), truth)) for one in pairs
    ]
    letters = _letters(rows, pairs, truth)
    baseline, undecided = _against_baseline(list(rows), plan, pairs, tuned)
    return Compared(tuple(pairs), baseline, letters, plan.margin, undecided)


def as_data(found: Comparison) -> dict[str, Any]:
    """A comparison as plain data, for --json."""
    return {
        "first": found.first,
        "second": found.second,
        "num_pairs": found.num_pairs,
        **{metric: _plain(summary) for metric, summary in found.differences.items()},
        "permutation_p": found.permutation_p,
        "placement_p": found.placement_p,
        "p_adjusted": found.p_adjusted,
        "family_size": found.family_size,
        "role": found.role,
        "resolvable": found.resolvable,
        "practically_equal": found.practically_equal,
        "labels": {label: _plain(summary) for label, summary in found.labels.items()},
    }


def _plain(summary: Summary) -> dict[str, float | None]:
    return {
        "difference": summary.interval.value,
        "low": summary.interval.low,
        "high": summary.interval.high,
        "patient_sd": summary.patient_sd,
        "run_sd": None if math.isnan(summary.run_sd) else summary.run_sd,
    }
