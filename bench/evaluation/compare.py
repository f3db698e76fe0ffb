"""Compare two rows: the difference with its interval, p-values, and the smallest difference that could be detected.

Rows are compared run by run, paired by (draw, seed), on the same replicates of patients. The runs of a row are a
sequence; the n-th run of one row is paired with the n-th run of the other.

There are two p-values, because each has a weakness that the other lacks. `permutation_p` is exact if the two models are
exchangeable, but tests only that, and treats the runs as fixed. `placements.difference_p` tests only whether the
metrics are equal and lets runs vary, but relies on a normal approximation. A difference is claimed if the larger p is
at most ALPHA after Holm's correction. Where runs vary more than patients, the second p decides, and the first can only
remove claims.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # imports its parts where they are first used
from numpy.typing import ArrayLike, NDArray

from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, Summary, summarize
from bench.evaluation.metrics import Bools, Floats
from bench.evaluation.runs import NO_PRIORS, Design, Priors, resolvable, two_sided_p, unbiased

ALPHA = 0.05  # family-wise error rate: the share of families with a false claim that Holm's rule allows
POWER = 0.8  # the share of studies in which a resolvable difference is significant
PER_TEST = 100  # permutations per test of a family; Holm's p can then be 0.01 in a family of any size
FEW = 10  # this many permuted differences as large as the observed difference estimate p well enough
CHUNK = 1000  # permutations computed at once


def difference(
    first: Sequence[Estimate],
    second: Sequence[Estimate],
    level: float = 0.95,
    *,
    design: Design | None = None,
    priors: Priors = NO_PRIORS,
) -> Summary:
    """Return first minus second: the mean over paired runs, with the interval of `summarize`."""
    paired = [a - b for a, b in zip(first, second, strict=True)]
    return summarize(paired, level, bounds=(-1.0, 1.0), design=design, priors=priors)


def resolvable_difference(difference: Summary, family_size: int = 1) -> float:
    """Return the smallest true difference that is significant in 80 % of studies with this much variance.

    The level is ALPHA / `family_size`, the first step of Holm's rule, as if no other comparison of the family were
    significant. For a single comparison whose only variance is that of patients, this is 2.8 standard errors.
    """
    known = difference.degrees_of_freedom
    of_runs = unbiased(difference.run_error**2, known)
    return float(resolvable(ALPHA / family_size, POWER, difference.patient_sd**2, of_runs, known))


def practically_equal(difference: Summary, margin: float) -> bool:
    """Return whether the whole interval lies within ± margin. A difference can be neither significant nor equal."""
    return -margin < difference.interval.low and difference.interval.high < margin


def interval_p(difference: Summary) -> float:
    """Return the two-sided p-value of no difference in any metric, from the standard errors of patients and runs."""
    patients, runs = difference.patient_sd**2, difference.run_error**2
    return float(two_sided_p(difference.interval.value, patients, runs, difference.degrees_of_freedom))


def permutation_p(
    patient_id: NDArray[Any],
    y_true: NDArray[Any],
    first: Sequence[NDArray[Any]],
    second: Sequence[NDArray[Any]],
    labels: Bools,
    num_permutations: int = 10_000,
    seed: int = 0,
) -> float:
    """Return the two-sided permutation p-value of no difference in macro AUROC over the mask `labels` [label].

    p is (1 + k) / (1 + num_permutations) with k permuted differences as large as the observed difference, so never 0.
    `first` and `second` are the y_score [record, label] of paired runs. Scores become ranks within each run and label,
    so that models on different scales can be exchanged. Each permutation chooses each patient with probability 1/2, and
    exchanges the two models' ranks in all records, labels and runs of the chosen patients.
    """
    return float(permutation_ps(patient_id, y_true, [(first, second)], labels, num_permutations, seed)[0])


def permutation_ps(
    patient_id: NDArray[Any],
    y_true: NDArray[Any],
    pairs: Sequence[tuple[Sequence[NDArray[Any]], Sequence[NDArray[Any]]]],
    labels: Bools,
    num_permutations: int = 10_000,
    seed: int = 0,
) -> Floats:
    """Return [pair], the `permutation_p` of each pair; all pairs use the same random permutations.

    The smallest possible p is 1 / (1 + num_permutations), and Holm multiplies it by the size of the family. In a large
    family no difference could then be significant. So pairs with fewer than FEW permuted differences as large as the
    observed difference get more permutations, PER_TEST times the number of pairs in total. The p-values stay valid:
    above FEW / num_permutations they are small no more often than those of the first round alone, and below no more
    often than those of all permutations.
    """
    if (labels & ~metrics.defined(y_true)).any():
        raise ValueError("a chosen label has no positive or no negative: choose labels of metrics.defined(y_true)")
    y_true = np.asarray(y_true)[:, labels].astype(bool)
    patients, patient_of_record = np.unique(patient_id, return_inverse=True)
    effects = np.empty((len(patients), len(pairs)))
    ranks: dict[int, NDArray[np.int64]] = {}  # by id(): a run is in several pairs, and is ranked once
    for y_score in itertools.chain.from_iterable(itertools.chain(*pair) for pair in pairs):
        if id(y_score) not in ranks:
            ranks[id(y_score)] = _doubled_ranks(y_true, y_score[:, labels])
    for column, (first, second) in enumerate(pairs):
        of_runs = [
            _swap_effects(y_true, ranks[id(a)], ranks[id(b)]).mean(axis=1) for a, b in zip(first, second, strict=True)
        ]
        effects[:, column] = np.bincount(patient_of_record, np.mean(of_runs, axis=0), len(patients))

    random = np.random.default_rng(seed)
    num_as_large, num = _num_as_large(effects, num_permutations, random), np.full(len(pairs), num_permutations)
    if (more := PER_TEST * len(pairs) - num_permutations) > 0:
        few = num_as_large < FEW
        num_as_large[few] += _num_as_large(effects[:, few], more, random)
        num[few] += more
    return np.asarray((1 + num_as_large) / (1 + num))


def _num_as_large(effects: Floats, num_permutations: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return [pair], the number of permutations whose difference is as large as observed; `effects` [patient, pair]."""
    total = effects.sum(axis=0)
    count = np.zeros(effects.shape[1], dtype=np.int64)
    for start in range(0, num_permutations, CHUNK):
        swapped = random.integers(2, size=(min(CHUNK, num_permutations - start), len(effects)), dtype=np.int8)
        permuted = abs(total - 2 * (swapped.astype(np.float64) @ effects))
        count += (permuted >= abs(total) - 1e-12).sum(axis=0)  # sums of equal terms differ by rounding
    return count


def _doubled_ranks(y_true: Bools, y_score: NDArray[Any]) -> NDArray[np.int64]:
    """Return [record, label], twice the mid-rank within each label: an integer from 2, also for ties."""
    _, y_score = metrics.checked(y_true, y_score)
    return np.asarray(2 * scipy.stats.rankdata(y_score, axis=0), dtype=np.int64)


def _swap_effects(y_true: Bools, first: NDArray[np.int64], second: NDArray[np.int64]) -> Floats:
    """Return [record, label], the contribution of each record to AUROC(first) - AUROC(second).

    `first` and `second` are doubled ranks [record, label]. If a record's ranks are swapped between the models, the sign
    of its contribution changes. So the difference of a permutation is a signed sum, and no AUROC is computed anew.

    Derivation: a pair of records has four comparisons, one within each model and two across models. Swapping both
    records changes the sign of the comparisons within models. Swapping a single record exchanges comparisons within
    models for those across. Written out, the difference is linear in the signs of the records. For a positive, count
    the negatives of both models below it, by its rank in the first model minus by its rank in the second. For a
    negative, count the positives in the same way, with the opposite sign. Divide by twice the number of pairs.
    """
    effects, num_ranks = np.empty(first.shape), 2 * len(y_true) + 1
    for column, is_positive in enumerate(y_true.T):
        rank_a, rank_b = first[:, column], second[:, column]
        for own, sign in ((is_positive, 1), (~is_positive, -1)):
            at = np.bincount(rank_a[~own], minlength=num_ranks) + np.bincount(rank_b[~own], minlength=num_ranks)
            below = at.cumsum() - at / 2  # [doubled rank] records of the other class below this rank; a tie is half
            effects[own, column] = sign * (below[rank_a[own]] - below[rank_b[own]]) / (2 * own.sum() * (~own).sum())
    return effects


def holm(p: ArrayLike) -> Floats:
    """Return [test], the p-values `p` [test] adjusted for multiple testing in their family (Holm 1979)."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


def group_letters(differs: Bools) -> list[str]:
    """Return the group letters of each row: two rows share a letter if and only if they do not differ.

    `differs` [row, row] is symmetric and in board order: True where two rows differ significantly. The rows that share
    a letter with the first row are the top group. Computed by insertion and absorption (Piepho 2004).
    """
    groups = [frozenset(range(len(differs)))]
    for i, j in np.argwhere(np.triu(differs)):
        split = {part for group in groups for part in ((group - {i}, group - {j}) if {i, j} <= group else (group,))}
        groups = [group for group in split if not any(group < other for other in split)]
    groups.sort(key=sorted)
    return ["".join(_letter(n) for n, group in enumerate(groups) if row in group) for row in range(len(differs))]


def _letter(n: int) -> str:
    """Return the n-th letter: a to z, then a1 to z1, and so on."""
    return chr(ord("a") + n % 26) + (str(n // 26) if n >= 26 else "")
