"""Compare all rows of a board: `comparisons.stand` to the last bit, fast enough for thousands of pairs.

What a pair of runs needs of each run alone, ranks and placements, is computed once for each run. `comparisons` has the
plain form, which `bench compare` and simulations run, and which tests hold this one against.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.boards import comparisons
from bench.boards.comparisons import (
    Comparison,
    ScoredRow,
    Standing,
    adjust,
    design_of,
    estimates,
    paired_runs,
    priors_of_pairs,
)
from bench.boards.declared import BoardPlan, Pair
from bench.data.tasks import LabelTable
from bench.evaluation import compare, metrics
from bench.evaluation.metrics import Bools, Floats
from bench.evaluation.placements import difference_p

FAR = 3.5
"""Distance, in standard deviations of permuted differences, beyond which few enough are found to compute each again."""


def stand(
    rows: Mapping[str, ScoredRow], plan: BoardPlan, truth: LabelTable, tuned: Container[str] = ()
) -> Standing | None:
    """Compare all rows, in board order, with each other and with the baseline; None if no label is frequent."""
    if not rows or not metrics.frequent(truth.y_true).any():
        return None
    names = list(rows)
    pairs = [pair for pair in itertools.combinations(names, 2) if rows[pair[0]].keys() & rows[pair[1]].keys()]
    every = adjust(compare_pairs(rows, pairs, plan.margin, truth), plan.roles(names, tuned))
    return Standing(
        comparisons._rank_intervals(rows, truth),
        comparisons._letters(rows, every, truth),
        tuple(every),
        *comparisons._against_baseline(names, plan, every, tuned),
    )


def compare_pairs(
    rows: Mapping[str, ScoredRow], pairs: Sequence[Pair], margin: float, truth: LabelTable
) -> list[Comparison]:
    """Compare pairs of rows that have common runs. The p-values are not adjusted."""
    chosen = metrics.frequent(truth.y_true)
    placing = Placing(truth.y_true[:, chosen])
    priors = {metric: priors_of_pairs(rows, metric, chosen) for metric in metrics.RANKING}
    patients, patient_of_record = np.unique(truth.patient_id, return_inverse=True)
    effects = np.empty((len(patients), len(pairs)))
    placed = {id(run): placing.place(run.y_score[:, chosen]) for row in rows.values() for run in row.values()}
    placements = functools.lru_cache(maxsize=64)(placing.placements)  # those of the first row serve pair after pair
    compared = []
    for column, (first, second) in enumerate(pairs):
        of_first, of_second = paired_runs(rows[first], rows[second])
        of_runs = [[placed[id(run)] for run in runs.values()] for runs in (of_first, of_second)]
        swaps = [placing.swap_effects(a, b).mean(axis=1) for a, b in zip(*of_runs, strict=True)]
        effects[:, column] = np.bincount(patient_of_record, np.mean(swaps, axis=0), len(patients))
        design = design_of(of_first, of_second)
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
    permuted = permutation_ps(effects)
    return [replace(pair, permutation_p=float(p)) for pair, p in zip(compared, permuted, strict=True)]


def permutation_ps(effects: Floats) -> Floats:
    """Return [pair], the p-values of `compare.permutation_ps`; `effects` [patient, pair] are sums over records."""
    num_pairs, random = effects.shape[1], np.random.default_rng(0)
    num_as_large = compare._num_as_large(effects, comparisons.NUM_PERMUTATIONS, random)
    num = np.full(num_pairs, comparisons.NUM_PERMUTATIONS)
    if (more := compare.PER_TEST * num_pairs - comparisons.NUM_PERMUTATIONS) > 0:
        few = num_as_large < compare.FEW
        if few.any():
            num_rows = (1 + math.isqrt(1 + 8 * num_pairs)) // 2  # if every two rows are a pair, in their order
            num_as_large[few] += _num_as_large(effects[:, few], effects[:, : num_rows - 1], more, random)
        num[few] += more
    return np.asarray((1 + num_as_large) / (1 + num))


def _num_as_large(
    effects: Floats, basis: Floats, num_permutations: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return [pair], as `compare._num_as_large`, for pairs of which few permuted differences are large.

    `basis` [patient, column] are effects of which those of most pairs are nearly combinations.

    Rough products in float32 find the differences that may be large; only these are computed in float64.
    """
    total = effects.sum(axis=0)
    limit = abs(total) - 1e-12  # as there: sums of equal terms differ by rounding
    rough = _rough(effects, basis, limit)
    count = np.zeros(effects.shape[1], dtype=np.int64)
    for start in range(0, num_permutations, compare.CHUNK):
        num = min(compare.CHUNK, num_permutations - start)
        swapped = random.integers(2, size=(num, len(effects)), dtype=np.int8)
        at, pair = np.concatenate([part.large(swapped) for part in rough], axis=1)
        for places in np.array_split(np.arange(len(at)), len(at) // 10_000 + 1):
            of_pair = pair[places]
            sums = np.einsum("np,pn->n", swapped[at[places]].astype(np.float64), effects[:, of_pair])
            large = abs(total[of_pair] - 2 * sums) >= limit[of_pair]
            count += np.bincount(of_pair[large], minlength=len(count))
    return count


@dataclass(frozen=True)
class _Rough:
    """Permuted differences of some pairs in float32, with a bound of their error."""

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
    """Rank runs by the same labels `y_true` [record, label]: what runs share is computed once."""

    def __init__(self, y_true: Bools) -> None:
        num_records, num_labels = y_true.shape
        self.y_true = y_true
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
        ranks = compare._doubled_ranks(self.y_true, y_score)
        num_slots = 2 * self.y_true.shape[1]
        at = np.bincount((self._other + ranks).ravel(), minlength=num_slots * self._num_ranks).reshape(num_slots, -1)
        below = (2 * at.cumsum(axis=1) - at).astype(np.min_scalar_type(self._num_ranks)).ravel()
        position = (self._own + ranks).astype(np.int32)
        return Placed(position, below, below[position].astype(np.int32))

    def swap_effects(self, first: Placed, second: Placed) -> Floats:
        """Return [record, label], the contribution of each record to AUROC(first) - AUROC(second).

        As `compare._swap_effects`: `own` counts within a model, and `below` of the other run across models.
        """
        of_first = first.own + second.below[first.at]
        of_second = second.own + first.below[second.at]
        return np.asarray(self._half * (of_first - of_second) / self._num_pairs)

    def placements(self, run: Placed) -> Floats:
        """Return [record, label], as `placements.placements`."""
        shares = run.own / 2 / self._num_others
        return np.asarray(np.where(self.y_true, shares, 1 - shares))
