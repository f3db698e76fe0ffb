"""Test by permutation whether two rows have the same macro AUROC: whole patients' ranks are exchanged between them.

Scores become ranks within each run and label, so that models on different scales can be exchanged. Each permutation
chooses each patient with probability 1/2, and exchanges the two rows' ranks in all records, labels and runs of the
chosen patients. p is (1 + k) / (1 + n) with k of n permuted differences as large as the observed one, so never 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # imports its parts where they are first used
from numpy.typing import NDArray

from bench.evaluation import metrics
from bench.evaluation.metrics import Bools, Floats

PER_TEST = 100
"""Permutations for each test of a family; Holm's p can then be 0.01 in a family of any size."""
FEW = 10
"""So many permuted differences as large as the observed one estimate p well enough."""
CHUNK = 1000
"""Number of permutations computed at once."""
FAR = 3.5
"""In standard deviations of the permuted differences: beyond this distance they are few enough for exact sums."""


def permutation_ps(effects: Floats, num_permutations: int, seed: int = 0) -> Floats:
    """Return [pair], p-values by the same random permutations; `effects` [patient, pair] as `patient_effects`.

    The smallest possible p is 1 / (1 + num_permutations), and Holm multiplies it by the size of the family. In a large
    family no difference could then be significant. So pairs with fewer than FEW permuted differences as large as the
    observed difference get more permutations, PER_TEST times the number of pairs in total. The p-values stay valid:
    above FEW / num_permutations they are small no more often than those of the first round alone, and below no more
    often than those of all permutations.
    """
    num_pairs, random = effects.shape[1], np.random.default_rng(seed)
    num_as_large, num = _num_as_large(effects, num_permutations, random), np.full(num_pairs, num_permutations)
    if (more := PER_TEST * num_pairs - num_permutations) > 0:
        few = num_as_large < FEW
        if few.any():
            num_rows = (1 + math.isqrt(1 + 8 * num_pairs)) // 2  # if every two rows are a pair, in their order
            num_as_large[few] += _num_as_large_of_many(effects[:, few], effects[:, : num_rows - 1], more, random)
        num[few] += more
    return np.asarray((1 + num_as_large) / (1 + num))


@dataclass(frozen=True, eq=False)
class Placed:
    """The ranks of a run: where its records stand among the records of the other class."""

    at: NDArray[np.int32]
    """[record, label] Position in `below` of a record's own rank."""
    below: NDArray[np.unsignedinteger[Any]]
    """[label, class, rank] flat: twice the number of records of the other class below a rank; a tie counts half."""
    own: NDArray[np.int32]
    """[record, label] `below` at the record's own rank."""


class Placing:
    """Rank runs by the same `y_true` [record, label] and `patient_id` [record]: what runs share is computed once."""

    def __init__(self, y_true: Bools, patient_id: NDArray[Any]) -> None:
        num_records, num_labels = y_true.shape
        self.y_true = y_true
        patients, self._patient_of_record = np.unique(patient_id, return_inverse=True)
        self._num_patients = len(patients)
        self._num_ranks = 2 * num_records + 1
        slot = 2 * np.arange(num_labels) * self._num_ranks
        self._own = slot + self._num_ranks * ~y_true  # a positive looks up among negatives, in the first class
        self._other = slot + self._num_ranks * y_true
        self._half = np.where(y_true, 0.5, -0.5)
        num_positives = y_true.sum(axis=0)
        self._num_others = np.where(y_true, num_records - num_positives, num_positives)
        self._num_pairs = 2 * num_positives * (num_records - num_positives)

    def place(self, y_score: NDArray[Any]) -> Placed:
        """Rank the scores [record, label] of a run."""
        _, y_score = metrics.checked(self.y_true, y_score)
        ranks = np.asarray(2 * scipy.stats.rankdata(y_score, axis=0), dtype=np.int64)  # twice the mid-ranks: whole
        num_slots = 2 * self.y_true.shape[1]
        at = np.bincount((self._other + ranks).ravel(), minlength=num_slots * self._num_ranks).reshape(num_slots, -1)
        below = (2 * at.cumsum(axis=1) - at).astype(np.min_scalar_type(self._num_ranks)).ravel()
        position = (self._own + ranks).astype(np.int32)
        return Placed(position, below, below[position].astype(np.int32))

    def patient_effects(self, first: Sequence[Placed], second: Sequence[Placed]) -> Floats:
        """Return [patient], the contribution of each patient to the difference of macro AUROC of paired runs."""
        of_runs = [self.swap_effects(a, b).mean(axis=1) for a, b in zip(first, second, strict=True)]
        return np.asarray(np.bincount(self._patient_of_record, np.mean(of_runs, axis=0), self._num_patients))

    def swap_effects(self, first: Placed, second: Placed) -> Floats:
        """Return [record, label], the contribution of each record to AUROC(first) - AUROC(second).

        If a record's ranks are swapped between the runs, the sign of its contribution changes. So the difference of a
        permutation is a signed sum, and no AUROC is computed anew.

        Derivation: a pair of records has four comparisons, one within each run and two across runs. Swapping both
        records changes the sign of the comparisons within runs. Swapping a single record exchanges comparisons within
        runs for those across. Written out, the difference is linear in the signs of the records. For a positive, count
        the negatives of both runs below it, by its rank in the first run minus by its rank in the second. For a
        negative, count the positives in the same way, with the opposite sign. Divide by twice the number of pairs.
        """
        of_first = first.own + second.below[first.at]
        of_second = second.own + first.below[second.at]
        return np.asarray(self._half * (of_first - of_second) / self._num_pairs)

    def placements(self, run: Placed) -> Floats:
        """Return [record, label], as `placements.placements`."""
        shares = run.own / 2 / self._num_others
        return np.asarray(np.where(self.y_true, shares, 1 - shares))


def _swapped(num_permutations: int, num_patients: int, random: np.random.Generator) -> Iterator[NDArray[np.int8]]:
    """Yield permutations [permutation, patient], up to CHUNK at once: 1 where a patient's ranks are exchanged."""
    for start in range(0, num_permutations, CHUNK):
        yield random.integers(2, size=(min(CHUNK, num_permutations - start), num_patients), dtype=np.int8)


def _num_as_large(effects: Floats, num_permutations: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return [pair], the number of permutations whose difference is as large as observed; `effects` [patient, pair]."""
    total = effects.sum(axis=0)
    count = np.zeros(effects.shape[1], dtype=np.int64)
    for swapped in _swapped(num_permutations, len(effects), random):
        permuted = abs(total - 2 * (swapped.astype(np.float64) @ effects))
        count += (permuted >= abs(total) - 1e-12).sum(axis=0)  # sums of equal terms differ by rounding
    return count


def _num_as_large_of_many(
    effects: Floats, basis: Floats, num_permutations: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Count as `_num_as_large`; faster where few permuted differences are large.

    `basis` [patient, column]: the effects of one row's pairs, of which the other pairs' are nearly linear combinations.
    Rough products in float32 find the differences that may be large; only these are computed in float64.
    """
    total = effects.sum(axis=0)
    limit = abs(total) - 1e-12  # sums of equal terms differ by rounding
    rough = _rough(effects, basis, limit)
    count = np.zeros(effects.shape[1], dtype=np.int64)
    for swapped in _swapped(num_permutations, len(effects), random):
        at, pair = np.concatenate([part.large(swapped) for part in rough], axis=1)
        for places in np.array_split(np.arange(len(at)), len(at) // 10_000 + 1):
            of_pair = pair[places]
            sums = np.einsum("np,pn->n", swapped[at[places]].astype(np.float64), effects[:, of_pair])
            large = abs(total[of_pair] - 2 * sums) >= limit[of_pair]
            count += np.bincount(of_pair[large], minlength=len(count))
    return count


@dataclass(frozen=True)
class _Rough:
    """Compute permuted differences of some pairs in float32, with a bound of the rounding error."""

    pairs: NDArray[np.intp]
    factors: Sequence[NDArray[np.float32]]
    """Their product [patient, pair] is -2 times the effects, nearly."""
    total: NDArray[np.float32]
    """[pair] Difference of which no patient is swapped."""
    surely_smaller: NDArray[np.float32]
    """[pair] Rough differences up to this are no large ones."""

    def large(self, swapped: NDArray[np.int8]) -> NDArray[np.intp]:
        """Return permutation and pair [2, place] of differences that may be large; `swapped` [permutation, patient]."""
        permuted = swapped.astype(np.float32)
        for factor in self.factors:
            permuted = permuted @ factor
        permuted += self.total
        np.abs(permuted, out=permuted)
        at, pair = np.nonzero(permuted > self.surely_smaller)
        return np.stack([at, self.pairs[pair]])


def _rough(effects: Floats, basis: Floats, limit: Floats) -> list[_Rough]:
    """Return how to compute rough differences of all pairs; `limit` [pair] is the least that is large.

    Two rows differ nearly as they differ from a third row: the effects of all pairs are, but for a few per cent,
    combinations of those of a single row's pairs, the basis. So most pairs need a product with only as many columns as
    there are rows. What is left out changes a difference by at most the sum of its magnitudes. Where that is much of
    the distance from the limit, the whole effects are taken: else too many differences would be computed in float64.

    A float32 sum of n terms is off by at most about n x 2**-24 times the sum of their magnitudes (Higham 2002, section
    4.2); twice that is taken.
    """
    rounding = 4 * 2.0**-24 * (len(effects) + 8)
    weights = np.linalg.lstsq(basis, effects)[0]
    fitted = basis @ weights
    error = abs(effects - fitted).sum(axis=0)
    error += (rounding + 4 * 2.0**-24 * len(weights)) * (abs(basis).sum(axis=0) @ abs(weights))
    far = limit - error > FAR * np.sqrt(np.square(effects).sum(axis=0))
    parts = [
        (far, (basis, weights[:, far]), fitted, error),
        (~far, (effects[:, ~far],), effects, rounding * abs(effects).sum(axis=0)),
    ]
    return [
        _Rough(
            np.flatnonzero(chosen),
            [(-2 * first).astype(np.float32), *(factor.astype(np.float32) for factor in others)],
            of_all.sum(axis=0)[chosen].astype(np.float32),
            (limit - off)[chosen].astype(np.float32),
        )
        for chosen, (first, *others), of_all, off in parts
        if chosen.any()
    ]
