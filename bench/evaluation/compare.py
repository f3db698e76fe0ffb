"""Is one row better than another, by how much, and how small a difference could have been seen?

Rows are compared run by run, paired by (draw, seed), on the same replicates of patients. A row's runs are given as a
sequence, the n-th of one row paired with the n-th of the other.

Two p-values, each blind where the other sees. `permutation_p` is exact when two models are exchangeable, but tests
just that, and takes the runs as given. `placements.difference_p` asks only whether the metrics are equal and lets runs
vary, but rests on normal approximation. A difference is claimed when the larger of the two, after Holm, is small: so
where runs vary more than patients, the second decides, and the first can only take claims away.
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

ALPHA = 0.05  # the share of families with a false claim that Holm's rule allows
POWER = 0.8  # the share of studies that would find a resolvable difference
PER_TEST = 100  # permutations for each test of a family: so Holm can leave a p of 0.01, whatever its size
FEW = 10  # so many permuted differences as large as the one seen tell p well enough
CHUNK = 1000  # permutations at once


def difference(
    first: Sequence[Estimate],
    second: Sequence[Estimate],
    level: float = 0.95,
    *,
    design: Design | None = None,
    priors: Priors = NO_PRIORS,
) -> Summary:
    """First minus second: the mean over paired runs, with the interval of `summarize`."""
    paired = [a - b for a, b in zip(first, second, strict=True)]
    return summarize(paired, level, bounds=(-1.0, 1.0), design=design, priors=priors)


def resolvable_difference(difference: Summary, family_size: int = 1) -> float:
    """The smallest true difference that a comparison this noisy finds in 80 % of studies, in a family of that size.

    By the first step of Holm's rule: at 0.05 over `family_size`, as if no other comparison of the family were
    significant. 2.8 standard errors for a single comparison where patients are all the doubt.
    """
    known = difference.degrees_of_freedom
    of_runs = unbiased(difference.run_error**2, known)
    return float(resolvable(ALPHA / family_size, POWER, difference.patient_sd**2, of_runs, known))


def practically_equal(difference: Summary, margin: float) -> bool:
    """Whether the whole interval lies inside the margin; a difference that is merely not significant is not equal."""
    return -margin < difference.interval.low and difference.interval.high < margin


def interval_p(difference: Summary) -> float:
    """Two-sided p of no difference, by the errors of patients and runs, of any metric; 1 if nothing differs."""
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
    """Two-sided p of no difference in macro AUROC over `labels` [label]: (1 + k) / (1 + num_permutations), never 0.

    `first` and `second` are the y_score [record, label] of their paired runs. Scores become ranks within each run and
    label, so that models on different scales can be exchanged; each permutation exchanges the two models' ranks in
    all records, labels and runs of the patients that a fair coin chose.
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
    """[pair] what `permutation_p` says of each; the coins are tossed once and serve all pairs.

    No p is below 1 / (1 + num_permutations), which Holm multiplies by the size of the family: in families so large that
    it would hide what differs, pairs with fewer than FEW permuted differences as large as theirs go on to PER_TEST for
    each pair. Their p stays valid: above FEW / num_permutations it is at most as often so small as the first round's
    alone would be, and below as the whole's.
    """
    if (labels & ~metrics.defined(y_true)).any():
        raise ValueError("a chosen label has no positive or no negative: choose among metrics.defined(y_true)")
    y_true = np.asarray(y_true)[:, labels].astype(bool)
    patients, patient_of_record = np.unique(patient_id, return_inverse=True)
    effects = np.empty((len(patients), len(pairs)))
    ranks: dict[int, NDArray[np.int64]] = {}  # by identity: a run is in as many pairs as there are other rows
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
    """[pair] in how many permutations the difference is as large as the one seen; `effects` [patient, pair]."""
    total = effects.sum(axis=0)
    found = np.zeros(effects.shape[1], dtype=np.int64)
    for start in range(0, num_permutations, CHUNK):
        swapped = random.integers(2, size=(min(CHUNK, num_permutations - start), len(effects)), dtype=np.int8)
        permuted = abs(total - 2 * (swapped.astype(np.float64) @ effects))
        found += (permuted >= abs(total) - 1e-12).sum(axis=0)  # sums of equal terms differ by rounding
    return found


def _doubled_ranks(y_true: Bools, y_score: NDArray[Any]) -> NDArray[np.int64]:
    """[record, label] twice the rank within each label, from 2; twice, as ties share the mean of theirs."""
    _, y_score = metrics.checked(y_true, y_score)
    return np.asarray(2 * scipy.stats.rankdata(y_score, axis=0), dtype=np.int64)


def _swap_effects(y_true: Bools, first: NDArray[np.int64], second: NDArray[np.int64]) -> Floats:
    """[record, label] what each record adds to AUROC(first) - AUROC(second), and takes away when its ranks are swapped.

    By the doubled ranks [record, label] of both. A pair of records has four comparisons: within the first model, within
    the second, and two across. Swapping both records changes the sign of the within terms, swapping one exchanges
    within for across; written out, the difference is linear in the records' signs, so a permutation is a signed sum
    and no AUROC is computed anew. A positive's term is how many more of both models' negatives the first ranks it above
    than the second does; a negative's, how many fewer of both models' positives it is ranked above; each over twice the
    number of pairs.
    """
    effects, num_ranks = np.empty(first.shape), 2 * len(y_true) + 1
    for column, is_positive in enumerate(y_true.T):
        one, other = first[:, column], second[:, column]
        for own, sign in ((is_positive, 1), (~is_positive, -1)):
            at = np.bincount(one[~own], minlength=num_ranks) + np.bincount(other[~own], minlength=num_ranks)
            below = at.cumsum() - at / 2  # [doubled rank] of the other class's records, ties half
            effects[own, column] = sign * (below[one[own]] - below[other[own]]) / (2 * own.sum() * (~own).sum())
    return effects


def holm(p: ArrayLike) -> Floats:
    """[test] p-values adjusted for the size of their family (Holm 1979)."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


def group_letters(differs: Bools) -> list[str]:
    """Letters of each row, the rows in board order: two rows share a letter if and only if they do not differ.

    `differs` [row, row] is symmetric: True where all-pairs Holm separates two rows. The top group are the rows that
    share a letter with the first. By insertion and absorption (Piepho 2004).
    """
    groups = [frozenset(range(len(differs)))]
    for i, j in np.argwhere(np.triu(differs)):
        split = {part for group in groups for part in ((group - {i}, group - {j}) if {i, j} <= group else (group,))}
        groups = [group for group in split if not any(group < other for other in split)]
    groups.sort(key=sorted)
    return ["".join(_letter(n) for n, group in enumerate(groups) if row in group) for row in range(len(differs))]


def _letter(n: int) -> str:
    """a to z, then a1 to z1, ..."""
    return chr(ord("a") + n % 26) + (str(n // 26) if n >= 26 else "")
