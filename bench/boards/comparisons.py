"""Compare the rows of a board: paired differences, p-values adjusted by declared role, groups and ranks."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.boards.declared import EXPLORATORY, FAMILY, PRIMARY, BoardPlan, Pair, Role
from bench.boards.shown import ShownAsTable
from bench.data.tasks import LabelTable
from bench.errors import BenchError
from bench.evaluation import compare, metrics
from bench.evaluation.bootstrap import Estimate, Resampled, Summary
from bench.evaluation.permutation import Placing, permutation_ps
from bench.evaluation.placements import difference_p
from bench.evaluation.runs import (
    MIN_RUNS,
    NO_PRIORS,
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
NUM_ERRORS = 10
"""How often errors from runs are drawn for each replicate of patients, to rank rows. Those of a single run have heavy
tails: drawn once, the rank interval of such a row moved by up to 19 of 75 places from one random seed to another."""


class ScoredRun(Protocol):
    """The scores of one run on fold 10, and both metrics on the fold and on each replicate of its patients."""

    @property
    def y_score(self) -> NDArray[np.floating[Any]]:
        """Return the scores [record, label]."""

    @property
    def resampled(self) -> Resampled:
        """Return both metrics of each label, on the fold and on each replicate."""

    @property
    def streams(self) -> Streams:
        """Return what the random streams of the run depend on."""

    def label_values(self, metric: str) -> metrics.Floats:
        """Return a metric [label] on the fold."""

    def macro(self, metric: str, labels: metrics.Bools) -> Estimate:
        """Return the macro average of a metric over the labels that the mask `labels` [label] chooses."""


@dataclass(frozen=True, eq=False)
class ResampledRun:
    """A `ScoredRun` whose scores and replicates are in memory."""

    y_score: NDArray[np.floating[Any]]
    resampled: Resampled
    streams: Streams = "seed"

    def label_values(self, metric: str) -> metrics.Floats:
        return self._estimate(metric).value

    def macro(self, metric: str, labels: metrics.Bools) -> Estimate:
        return self._estimate(metric).macro(labels)

    def _estimate(self, metric: str) -> Estimate:
        estimate: Estimate = getattr(self.resampled, metric)
        return estimate


ScoredRow = Mapping[Place, ScoredRun]
"""(draw, seed) -> run. Runs of two rows are paired by draw and seed."""


def estimates(row: ScoredRow, metric: str, labels: metrics.Bools) -> list[Estimate]:
    """Return for each run of a row the macro average of a metric over the labels that the mask `labels` chooses."""
    return [run.macro(metric, labels) for run in row.values()]


def design_of(*rows: ScoredRow) -> Design:
    """Return the design of a row, or of the paired runs of two rows; it is crossed if the design of either row is."""
    alone = [{place for place, run in row.items() if run.streams == "seed"} for row in rows]
    places = list(rows[0])
    return Design.of(places, ["seed" if any(place in row for row in alone) else "draw and seed" for place in places])


@dataclass(frozen=True)
class Comparison:
    """First row minus second, over the runs that both have."""

    first: str
    second: str
    num_pairs: int
    differences: Mapping[str, Summary]
    """Metric -> difference of the macro average over the labels with at least 10 positives."""
    permutation_p: float
    """p-value of the difference in macro AUROC, by permuting patients: `permutation.permutation_ps`."""
    placement_p: float
    """p-value of the difference in macro AUROC, by its standard error: `placements.difference_p`."""
    practically_equal: bool
    p_adjusted: float = math.nan
    """The larger p-value, adjusted by `adjust`."""
    family_size: int = 0
    """The number of p-values in the family over which it was adjusted."""
    role: str = EXPLORATORY
    """PRIMARY, FAMILY or EXPLORATORY."""
    labels: Mapping[str, Summary] = field(default_factory=dict)
    """Label -> difference of AUROC; empty unless requested."""
    places: tuple[tuple[int, int], ...] = ()
    """(draw, seed) of the paired runs."""

    def __neg__(self) -> Comparison:
        """Return the comparison second row minus first."""
        differences = {metric: -summary for metric, summary in self.differences.items()}
        labels = {label: -summary for label, summary in self.labels.items()}
        return replace(self, first=self.second, second=self.first, differences=differences, labels=labels)

    @property
    def p(self) -> float:
        """Return the larger p-value: each test has a weakness that the other lacks, see `bench.evaluation.compare`."""
        return max(self.permutation_p, self.placement_p)

    @property
    def significant(self) -> bool:
        """Return whether the rows differ significantly after Holm's correction."""
        return self.p_adjusted <= ALPHA

    @property
    def few_pairs(self) -> bool:
        """Return whether there are too few pairs of runs to know how training varies.

        Such a comparison is about these trained models and not about their methods.
        """
        return self.differences["auroc"].few_runs

    @property
    def claimed(self) -> bool:
        """Return whether the methods may be claimed to differ: significant, with three independent pairs or more."""
        return self.significant and not self.few_pairs

    @property
    def resolvable(self) -> float:
        """Return the smallest true difference in macro AUROC that is significant in 80 % of studies."""
        return compare.resolvable_difference(self.differences["auroc"], max(self.family_size, 1))


@dataclass(frozen=True)
class Standing:
    """Comparisons of all rows of a board: ranks, groups and differences."""

    ranks: Mapping[str, tuple[int, int]]
    """Row -> 95 % interval of its rank."""
    letters: Mapping[str, str]
    """Row -> its groups: rows that share a letter do not differ significantly; empty for a row with few runs."""
    pairs: tuple[Comparison, ...]
    """Every pair, with its p-value adjusted by its role: see `adjust`."""
    baseline: Mapping[str, Comparison]
    """Row -> its difference from the declared baseline, which is also in `pairs`."""
    undecided: str = ""
    """Why no row was tested against the declared baseline: several rows match it. Empty if they were tested."""

    @property
    def baselines(self) -> set[str]:
        """Return the names of the rows that are the baseline of another row."""
        return {comparison.second for comparison in self.baseline.values()}


def stand(
    rows: Mapping[str, ScoredRow], plan: BoardPlan, truth: LabelTable, tuned: Container[str] = ()
) -> Standing | None:
    """Compare all rows, in board order, with each other and with the baseline; None if no label is frequent."""
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
    """Adjust the p-value of each pair by its role. Boards, the ledger and `bench compare` all show this p-value.

    Primary contrasts: Holm over those of the same study. Mostly there is only one, so its p does not change.
    Declared family: Holm over those of the same study, and at least the largest p of the study's primary contrasts
    (serial gatekeeping, Dmitrienko and Tamhane 2007). The primary contrasts and the family of a study together contain
    a false claim with a probability of at most 5 %.
    Exploratory, all other pairs: Holm over all of them on the board.
    A pair with few runs is about these trained models and not about methods: its p is not adjusted, and it is not
    counted in any family.
    """
    turned = {pair[::-1]: role for pair, role in roles.items()}
    role_of = [roles.get((pair.first, pair.second)) or turned.get((pair.first, pair.second)) for pair in pairs]
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, (pair, role) in enumerate(zip(pairs, role_of, strict=True)):
        if not pair.few_pairs:
            groups.setdefault((role.name, *role.study) if role else (EXPLORATORY,), []).append(place)
    adjusted = [
        replace(pair, p_adjusted=pair.p, family_size=1, role=role.name if role else EXPLORATORY)
        for pair, role in zip(pairs, role_of, strict=True)
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
    """Return row -> group letters; empty for a row with fewer than three runs. An untested pair does not differ."""
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
    for pair in pairs:
        if pair.first in place and pair.second in place:
            i, j = place[pair.first], place[pair.second]
            differs[i, j] = differs[j, i] = pair.claimed
    letters = dict(zip(names, compare.group_letters(differs), strict=True)) if names else {}
    return {name: letters.get(name, "") for name in rows}


def _against_baseline(
    rows: Sequence[str], plan: BoardPlan, pairs: Sequence[Comparison], tuned: Container[str]
) -> tuple[dict[str, Comparison], str]:
    """Return row -> its comparison with the declared baseline, from `pairs`; and a text why there are none, or ""."""
    try:
        contrasts = plan.contrasts(rows, tuned)
    except BenchError as error:
        return {}, str(error)
    known = {(each.first, each.second): each for each in pairs}
    known |= {(each.second, each.first): -each for each in pairs}
    return {pair[0]: known[pair] for pair in contrasts if pair in known}, ""


def compare_pairs(
    rows: Mapping[str, ScoredRow],
    pairs: Sequence[Pair],
    margin: float,
    truth: LabelTable,
    *,
    num_permutations: int | None = None,
) -> list[Comparison]:
    """Compare each pair of rows; `adjust` corrects the p-values.

    `num_permutations` is NUM_PERMUTATIONS by default. The prior of the variance between runs is fitted to the
    differences of all pairs of `rows`, also of those that are not in `pairs`. Raises BenchError for a pair without
    common runs.
    """
    chosen = metrics.frequent(truth.y_true)
    placing = Placing(truth.y_true[:, chosen], truth.patient_id)
    priors = {metric: priors_of_pairs(rows, metric, chosen) for metric in metrics.RANKING}
    named = dict.fromkeys(itertools.chain.from_iterable(pairs))
    placed = {run: placing.place(run.y_score[:, chosen]) for name in named for run in rows[name].values()}
    placements = functools.lru_cache(maxsize=64)(placing.placements)  # those of the first row serve pair after pair
    compared, effects = [], []
    for first, second in pairs:
        if not _shared(rows[first], rows[second]):
            raise BenchError(f"{first} and {second} have no run of the same draw and seed, so they cannot be paired")
        of_first, of_second = paired_runs(rows[first], rows[second])
        design = design_of(of_first, of_second)
        of_runs = [[placed[run] for run in runs.values()] for runs in (of_first, of_second)]
        effects.append(placing.patient_effects(*of_runs))
        by_error = difference_p(
            truth.patient_id,
            placing.y_true,
            *([placements(run) for run in runs] for runs in of_runs),
            design=design,
            priors=priors["auroc"],
        )
        differences = {
            metric: compare.difference(
                estimates(of_first, metric, chosen),
                estimates(of_second, metric, chosen),
                design=design,
                priors=priors[metric],
            )
            for metric in metrics.RANKING
        }
        equal = compare.practically_equal(differences["auroc"], margin)
        compared.append(
            Comparison(first, second, len(of_first), differences, math.nan, by_error, equal, places=tuple(of_first))
        )
    if not compared:
        return []
    permuted = permutation_ps(np.stack(effects, axis=1), num_permutations or NUM_PERMUTATIONS)
    return [replace(pair, permutation_p=float(p)) for pair, p in zip(compared, permuted, strict=True)]


def priors_of_labels(rows: Mapping[str, ScoredRow], truth: LabelTable) -> list[Priors]:
    """Return [label], the prior of the variance between runs of a difference of AUROC; none for a rare label."""
    frequent = metrics.frequent(truth.y_true)
    return [
        priors_of_pairs(rows, "auroc", label) if label[frequent].any() else NO_PRIORS
        for label in np.eye(len(frequent), dtype=bool)
    ]


def priors_of_pairs(rows: Mapping[str, ScoredRow], metric: str, labels: metrics.Bools) -> Priors:
    """Fit the prior of the variance between runs of a difference, to the differences of all pairs of rows."""
    values = {
        name: {place: metrics.macro(run.label_values(metric), labels) for place, run in row.items()}
        for name, row in rows.items()
    }
    own: dict[tuple[str, str], RunVariance] = {}
    for first, second in itertools.combinations(rows, 2):
        if _shared(rows[first], rows[second]):
            of_first, of_second = paired_runs(rows[first], rows[second])
            variance = design_of(of_first, of_second).variance([values[first][p] - values[second][p] for p in of_first])
            if variance.variance > 0:
                own[first, second] = variance
    priors: dict[Kind, Prior] = {}
    for kind in dict.fromkeys(variance.kind for variance in own.values()):
        alike = {pair: variance for pair, variance in own.items() if variance.kind == kind}
        priors |= borrow(list(alike.values()), len(set(itertools.chain.from_iterable(alike))) - 1)
    return priors


def label_differences(
    first: ScoredRow, second: ScoredRow, truth: LabelTable, priors: Sequence[Priors]
) -> dict[str, Summary]:
    """Return label -> difference of AUROC over the runs that both rows have, for the labels with at least 10 positives.

    `priors` [label] are those of `priors_of_labels`.
    """

    def of(row: ScoredRow, column: int) -> list[Estimate]:
        return [run.resampled.auroc.label(column) for run in row.values()]

    first, second = paired_runs(first, second)
    design = design_of(first, second)
    frequent = np.flatnonzero(metrics.frequent(truth.y_true)).tolist()
    return {
        truth.labels[at]: compare.difference(of(first, at), of(second, at), design=design, priors=priors[at])
        for at in frequent
    }


def paired_runs(first: ScoredRow, second: ScoredRow) -> tuple[ScoredRow, ScoredRow]:
    """Return the runs of both rows with a common draw and seed, in the same order."""
    places = _shared(first, second)
    return {place: first[place] for place in places}, {place: second[place] for place in places}


def _rank_intervals(rows: Mapping[str, ScoredRow], truth: LabelTable) -> dict[str, tuple[int, int]]:
    """Return row -> 95 % interval of its rank (1 is best).

    Rows are ranked NUM_ERRORS times in each replicate of patients, each time with new random errors from runs.
    All rows share the patients of a replicate, and runs of the same draw and seed vary together (`shared_noise`). A row
    with a single run has the prior's variance between runs, if the other rows give one.
    """
    chosen = metrics.frequent(truth.y_true)
    designs = [design_of(row) for row in rows.values()]
    of_rows = [estimates(row, "auroc", chosen) for row in rows.values()]
    values = [np.array([run.value for run in runs]) for runs in of_rows]
    own = [design.variance(of_row) for design, of_row in zip(designs, values, strict=True)]
    priors = borrow(own, len(rows))
    moderated = [moderate(variance, priors.get(variance.kind)) for variance in own]
    of_patients = np.array(
        [design.mean([run.replicates for run in runs]) for design, runs in zip(designs, of_rows, strict=True)]
    )
    means = np.tile(of_patients, NUM_ERRORS)
    means += shared_noise(designs, values, moderated, means.shape[1], np.random.default_rng(0))
    ranks = np.array([1 + (means > of_row).sum(axis=0) for of_row in means])  # [row, replicate]
    low, high = np.quantile(ranks, [0.025, 0.975], axis=1, method="nearest")
    return {name: (int(a), int(b)) for name, a, b in zip(rows, low, high, strict=True)}


def _shared(first: ScoredRow, second: ScoredRow) -> list[tuple[int, int]]:
    return sorted(set(first) & set(second))


@dataclass(frozen=True, repr=False)
class Compared(ShownAsTable):
    """Comparisons of selected rows: every pair, and the contrasts with the declared baseline if it is selected."""

    pairs: tuple[Comparison, ...]
    """Each row minus each later one, also per label, with the p-values of their board."""
    baseline: Mapping[str, Comparison]
    """Row -> its difference from the declared baseline."""
    letters: Mapping[str, str]
    """Row -> its groups among the selected rows."""
    margin: float
    undecided: str = ""
    """As `Standing.undecided`."""

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

    def shown(self) -> pd.DataFrame:
        return self.differences.drop(columns=["p_swap", "p_delong"])

    def as_data(self) -> dict[str, Any]:
        """Return plain data, for --json."""
        return {
            "pairs": [as_data(pair) for pair in self.pairs],
            "baseline": {name: as_data(pair) for name, pair in self.baseline.items()},
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
    """Compare every pair of rows, in the given order.

    `others` are the other rows of their board; with them the p-values are those of the board. Raises BenchError for
    fewer than two rows and if no label is frequent.
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
    # all pairs of the board in one call, because the number of permutations depends on the number of pairs
    pairs = adjust(compare_pairs(every, named + rest, plan.margin, truth), plan.roles(list(every), tuned))[: len(named)]
    priors = priors_of_labels(every, truth)
    pairs = [
        replace(pair, labels=label_differences(rows[pair.first], rows[pair.second], truth, priors)) for pair in pairs
    ]
    letters = _letters(rows, pairs, truth)
    baseline, undecided = _against_baseline(list(rows), plan, pairs, tuned)
    return Compared(tuple(pairs), baseline, letters, plan.margin, undecided)


def as_data(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data, for --json."""
    return {
        "first": comparison.first,
        "second": comparison.second,
        "num_pairs": comparison.num_pairs,
        "few_pairs": comparison.few_pairs,
        **{metric: _plain(summary) for metric, summary in comparison.differences.items()},
        "permutation_p": comparison.permutation_p,
        "placement_p": comparison.placement_p,
        "p": comparison.p,
        "p_adjusted": None if comparison.few_pairs else comparison.p_adjusted,
        "family_size": comparison.family_size,
        "role": comparison.role,
        "resolvable": comparison.resolvable,
        "practically_equal": comparison.practically_equal,
        "labels": {label: _plain(summary) for label, summary in comparison.labels.items()},
    }


def _plain(summary: Summary) -> dict[str, float | None]:
    return {
        "difference": summary.interval.value,
        "low": summary.interval.low,
        "high": summary.interval.high,
        "patient_sd": summary.patient_sd,
        "run_sd": None if math.isnan(summary.run_sd) else summary.run_sd,
    }
