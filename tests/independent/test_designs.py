"""Sentences 31 to 33 and 65 of PROTOCOL.md on designs that no published row has, computed anew.

Nothing is imported of bench: the product computes in a process of its own, on numbers that it reads and writes as JSON.
"""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import chi2, norm

pytestmark = pytest.mark.slow
Array = NDArray[Any]
Place = tuple[int, int]

PRODUCT = """
import json, sys
import numpy as np
from bench.evaluation.runs import Design, resolvable, unbiased
asked = json.load(sys.stdin)
answers = []
for case in asked["designs"]:
    design = Design.of([tuple(place) for place in case["places"]], case["streams"])
    variance = design.variance(case["values"])
    answers.append([float(design.mean(case["values"])), float(variance.of_mean), float(variance.degrees_of_freedom)])
for alpha, patients, runs, known in asked["studies"]:
    answers.append(float(resolvable(alpha, 0.8, patients, unbiased(runs, known), known)))
print(json.dumps(answers))
"""


def product(designs: Sequence[dict[str, Any]], studies: Sequence[tuple[float, ...]] = (), mutation: str = "") -> Any:
    """Means, variances of means and degrees of freedom of designs, and resolvable differences of studies."""
    asked = json.dumps({"designs": designs, "studies": studies})
    done = subprocess.run(
        [sys.executable, "-c", mutation + PRODUCT], input=asked, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def mean_and_weights(places: Sequence[Place], values: Array) -> tuple[float, Array]:
    """Sentence 28: the mean over draws of the mean over each draw's seeds, and the weight of each run in it."""
    draws = [draw for draw, _ in places]
    weights = np.array([1 / len(set(draws)) / draws.count(draw) for draw in draws])
    return float(weights @ values), weights


def expected(places: Sequence[Place], streams: Sequence[str], values: Array) -> list[float]:
    """Sentences 30 to 32: mean, variance of the mean, degrees of freedom."""
    mean, weights = mean_and_weights(places, values)
    draws = [draw for draw, _ in places]
    names = [
        (seed,) if name == "seed" or draw == 0 else (draw, seed)
        for (draw, seed), name in zip(places, streams, strict=True)
    ]
    if len(set(draws)) == 1:
        return [mean, values.var(ddof=1) / len(values), len(values) - 1]
    num_draws, num_streams = len(set(draws)), len(set(names))
    if num_streams == len(places):
        of_draws = [values[np.array(draws) == draw].mean() for draw in set(draws)]
        return [mean, np.var(of_draws, ddof=1) / num_draws, num_draws - 1]
    by_draw, by_stream = (summed(weights * (values - mean), groups) for groups in (draws, names))
    columns = [[float(at == draw) for at in draws] for draw in sorted(set(draws))]
    columns += [[float(at == name) for at in names] for name in sorted(set(names))]
    fitted = np.array(columns).T @ np.linalg.lstsq(np.array(columns).T, values, rcond=None)[0]
    free = len(values) - np.linalg.matrix_rank(np.array(columns))
    residual = ((values - fitted) ** 2).sum() / free * (weights**2).sum()
    total = max(by_draw, residual) + max(by_stream, residual) - residual
    kept = [(by, known) for by, known in ((by_draw, num_draws - 1), (by_stream, num_streams - 1)) if by > residual]
    if len(kept) != 1:  # with one of the two alone, the residual cancels
        kept.append((residual, free))
    freedom = total**2 / sum(variance**2 / known for variance, known in kept)
    if max(by_draw, by_stream) > residual:
        freedom = min(freedom, num_draws - 1 if by_draw >= by_stream else num_streams - 1)
    return [mean, total, freedom]


def summed(deviation: Array, groups: Sequence[Any]) -> float:
    """The variance of the mean by weighted deviations that are summed within groups."""
    sums = [sum(d for d, at in zip(deviation, groups, strict=True) if at == group) for group in set(groups)]
    return float(np.square(sums).sum() * len(sums) / (len(sums) - 1))


def cases() -> list[dict[str, Any]]:
    """Single draws, draws with streams of their own, crossed draws and seeds, complete and with cells missing."""
    random, designs = np.random.default_rng(5), []
    for draws, seeds, missing, stream in itertools.product((1, 3, 5), (3, 4), (0, 2), ("seed", "draw and seed")):
        places = list(itertools.product(range(draws), range(seeds)))
        if draws > 1:
            places = [place for place in places if place not in [(0, 0), (2, 1)][:missing]]
        for of_draws, of_seeds in ((0, 0), (1, 0), (0, 2), (1, 2), (0.3, 0.3)):
            parts = of_draws * random.normal(size=draws), of_seeds * random.normal(size=seeds)
            values = [parts[0][draw] + parts[1][seed] + 0.5 * random.normal() for draw, seed in places]
            designs.append({"places": places, "streams": [stream] * len(places), "values": values})
    return designs


def differ(answers: Sequence[Sequence[float]], designs: Sequence[dict[str, Any]]) -> int:
    """How many designs have another mean, variance or degrees of freedom than the sentences give."""
    wanted = [expected(case["places"], case["streams"], np.array(case["values"])) for case in designs]
    return sum(not np.allclose(got, want, rtol=1e-9, atol=0) for got, want in zip(answers, wanted, strict=True))


def test_every_design_has_the_variance_of_the_sentences() -> None:
    assert differ(product(cases()), cases()) == 0


MUTANTS = {
    "seeds are replications in every draw": "Design.of = classmethod(lambda cls, places, streams: own("
    "places, ['draw and seed'] * len(streams)))",
    "every run counts as one": "Design.kind = property(lambda self: 'runs')",
    "Satterthwaite's degrees of freedom without their limit": "runs.np = Unlimited()",
    "the mean of all runs": "Design.weights = property(lambda self: np.full(len(self.draw), 1 / len(self.draw)))",
}
HEAD = """
import numpy as np
from bench.evaluation import runs
from bench.evaluation.runs import Design
own = Design.of
class Unlimited:
    def __getattr__(self, name):
        return (lambda first, second: first) if name == "minimum" else getattr(np, name)
"""


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_design_is_seen(mutant: str) -> None:
    assert differ(product(cases(), (), HEAD + MUTANTS[mutant]), cases()) > 0


STUDIES = [
    (alpha, patients, runs, known)
    for alpha in (0.05, 0.05 / 3, 0.05 / 100, 0.05 / 2000)
    for patients, runs, known in ((1.0, 0.3, 2.95), (1.0, 0.5, 5.0), (1.0, 4.0, 9.0), (0.2, 9.0, 20.0), (1.0, 1.0, 3.0))
]
"""Level, variance of patients and of runs, degrees of freedom of that of runs."""


def power(level: float, patients: float, runs: float, known: float, difference: float) -> float:
    """Sentence 65: the share of studies with this true difference whose p is at most the level; runs without bias."""
    if runs == 0:
        return float(norm.cdf(difference / math.sqrt(patients) - norm.isf(level / 2)))
    runs *= known / 2 * math.exp(2 * (gammaln(known / 2) - gammaln((known + 1) / 2)))
    chance = (np.arange(1000) + 0.5) / 1000
    values = difference + math.sqrt(patients + runs) * np.random.default_rng(2).permutation(norm.ppf(chance))
    estimated = runs * chi2.ppf(chance, known) / known
    scaled = np.exp(np.linspace(-60, 6, 3000))  # by its logarithm, because a small p is made by the smallest ones
    weights = chi2.pdf(known * scaled, known) * known * scaled * 66 / 2999
    error = np.sqrt(patients + estimated[:, None] / scaled)
    p = 2 * (norm.sf(abs(values)[:, None] / error) * weights).sum(axis=1)
    return float((p <= level).mean())


def test_the_resolvable_difference_is_claimed_by_four_studies_of_five() -> None:
    """1,000 studies; Monte Carlo standard error 1.3 points, less as they are spread evenly."""
    for study, difference in zip(STUDIES, product((), STUDIES), strict=True):
        assert power(*study, difference) == pytest.approx(0.8, abs=0.02), study
