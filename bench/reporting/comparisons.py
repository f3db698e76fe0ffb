"""Rows of a board against each other: paired differences, tests over a declared family, groups and ranks."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.tasks import LabelTable
from bench.errors import BenchError
from bench.evaluation import compare, metrics
from bench.evaluation.bootstrap import Estimate, Resampled, Summary

ALPHA = 0.05
NUM_PERMUTATIONS = 10_000


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """One run on fold 10: its scores, and both metrics on the fold and on each draw of its patients."""

    y_score: NDArray[np.float32]
    """[record, label]"""
    resampled: Resampled

    def macro(self, metric: str, labels: metrics.Bools) -> Estimate:
        """One metric averaged over the chosen labels."""
        found: Estimate = getattr(self.resampled, metric)
        return found.macro(labels)


ScoredRow = Mapping[tuple[int, int], ScoredRun]
"""The runs of a row by (draw, seed): what pairs them with another row's."""


@dataclass(frozen=True)
class Plan:
    """What a board declares before anyone looks: its baseline, which rows are tested against it, and the margin."""

    baseline: str | None = None
    """A row as the board names it, or None: no row is tested against another."""
    family: tuple[str, ...] | None = None
    """Rows to test against the baseline; None: every other."""
    margin: float = 0.005
    """Differences of macro AUROC that do not matter."""

    @classmethod
    def load(cls, path: Path) -> Plan:
        """The plan in a board's TOML file, or the default one where there is none."""
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BenchError(f"{path} is not TOML: {error}") from None
        unknown = set(document) - {"baseline", "family", "margin"}
        if unknown:
            raise BenchError(f"{path} has unknown keys {', '.join(sorted(unknown))}; expected baseline, family, margin")
        family = document.get("family")
        margin = document.get("margin", cls.margin)
        if not isinstance(margin, int | float) or not 0 <= margin < 1:
            raise BenchError(f"{path}: margin must be a number in [0, 1), got {margin!r}")
        return cls(document.get("baseline"), None if family is None else tuple(family), float(margin))


@dataclass(frozen=True)
class Comparison:
    """First row minus second, over the runs that both have."""

    first: str
    second: str
    num_pairs: int
    differences: Mapping[str, Summary]
    """Metric -> difference of its macro average over the labels with at least 10 positives."""
    p: float
    """The larger of the permutation test's and the interval's p, for macro AUROC."""
    p_adjusted: float
    """After Holm over the family."""
    family_size: int
    resolvable: float
    """The true difference of macro AUROC that would be found in 80 % of cases."""
    practically_equal: bool
    labels: Mapping[str, Summary] = field(default_factory=dict)
    """Label -> difference of AUROC."""

    @property
    def significant(self) -> bool:
        """Whether the rows differ after Holm."""
        return self.p_adjusted <= ALPHA


def compare_with_baseline(
    rows: Mapping[str, ScoredRow], plan: Plan, truth: LabelTable, *, per_label: bool = False
) -> dict[str, Comparison]:
    """Row -> its comparison with the declared baseline, adjusted over the declared family."""
    if plan.baseline is None or plan.baseline not in rows:
        return {}
    family = [name for name in rows if name != plan.baseline and (plan.family is None or name in plan.family)]
    pairs = [(name, plan.baseline) for name in family if _shared(rows[name], rows[plan.baseline])]
    return {found.first: found for found in compare_pairs(rows, pairs, plan.margin, truth, per_label=per_label)}


def compare_pairs(
    rows: Mapping[str, ScoredRow],
    pairs: Sequence[tuple[str, str]],
    margin: float,
    truth: LabelTable,
    *,
    per_label: bool = False,
) -> list[Comparison]:
    """Each pair compared, the p-values adjusted over all of them."""
    chosen = metrics.frequent(truth.y_true)
    raw = []
    for first, second in pairs:
        keys = _shared(rows[first], rows[second])
        if not keys:
            raise BenchError(f"{first} and {second} have no run of the same draw and seed, so they cannot be paired")
        one, other = [rows[first][key] for key in keys], [rows[second][key] for key in keys]
        differences = {
            metric: compare.difference(
                [run.macro(metric, chosen) for run in one], [run.macro(metric, chosen) for run in other]
            )
            for metric in ("auroc", "average_precision")
        }
        permuted = compare.permutation_p(
            truth.patient_id,
            truth.y_true,
            [run.y_score for run in one],
            [run.y_score for run in other],
            chosen,
            NUM_PERMUTATIONS,
        )
        labels = {}
        if per_label:
            for column in np.flatnonzero(chosen).tolist():
                labels[truth.labels[column]] = compare.difference(
                    [run.resampled.auroc.label(column) for run in one],
                    [run.resampled.auroc.label(column) for run in other],
                )
        raw.append(
            (first, second, len(keys), differences, max(permuted, compare.interval_p(differences["auroc"])), labels)
        )
    adjusted = compare.holm([one[4] for one in raw]) if raw else np.array([])
    return [
        Comparison(
            first,
            second,
            num_pairs,
            differences,
            p,
            float(p_adjusted),
            len(raw),
            compare.resolvable_difference(differences["auroc"]),
            compare.practically_equal(differences["auroc"], margin),
            labels,
        )
        for (first, second, num_pairs, differences, p, labels), p_adjusted in zip(raw, adjusted, strict=True)
    ]


def letters(rows: Mapping[str, ScoredRow], truth: LabelTable) -> tuple[dict[str, str], int]:
    """Row -> its group letters, and how many pairs were tested: rows that share a letter are not told apart.

    `rows` are in board order. Pairs without a common (draw, seed) are not tested and count as not told apart.
    """
    names = list(rows)
    pairs = [pair for pair in itertools.combinations(names, 2) if _shared(rows[pair[0]], rows[pair[1]])]
    differs = np.zeros((len(names), len(names)), dtype=bool)
    for found in compare_pairs(rows, pairs, 0.0, truth):
        i, j = names.index(found.first), names.index(found.second)
        differs[i, j] = differs[j, i] = found.significant
    return dict(zip(names, compare.group_letters(differs), strict=True)), len(pairs)


def rank_intervals(rows: Mapping[str, ScoredRow], truth: LabelTable) -> dict[str, tuple[int, int]]:
    """Row -> the ranks, best 1, that it takes in the middle 95 % of the draws of fold 10's patients."""
    chosen = metrics.frequent(truth.y_true)
    draws = np.array(
        [np.mean([run.macro("auroc", chosen).draws for run in row.values()], axis=0) for row in rows.values()]
    )
    ranks = 1 + (draws[None, :, :] > draws[:, None, :]).sum(axis=1)  # [row, draw]
    low, high = np.quantile(ranks, [0.025, 0.975], axis=1, method="nearest")
    return {name: (int(a), int(b)) for name, a, b in zip(rows, low, high, strict=True)}


def _shared(one: ScoredRow, other: ScoredRow) -> list[tuple[int, int]]:
    return sorted(set(one) & set(other))


def as_data(found: Comparison) -> dict[str, Any]:
    """A comparison as plain data, for --json."""
    return {
        "first": found.first,
        "second": found.second,
        "num_pairs": found.num_pairs,
        **{
            metric: {
                "difference": summary.interval.value,
                "low": summary.interval.low,
                "high": summary.interval.high,
                "patient_sd": summary.patient_sd,
                "run_sd": None if np.isnan(summary.run_sd) else summary.run_sd,
            }
            for metric, summary in found.differences.items()
        },
        "p": found.p,
        "p_adjusted": found.p_adjusted,
        "family_size": found.family_size,
        "resolvable": found.resolvable,
        "practically_equal": found.practically_equal,
        "labels": {label: [s.interval.value, s.interval.low, s.interval.high] for label, s in found.labels.items()},
    }
