"""Compare two rows: the difference with its interval, p-values, and the smallest difference that could be detected.

Rows are compared run by run, paired by (draw, seed), on the same replicates of patients. The runs of a row are a
sequence; the n-th run of one row is paired with the n-th run of the other.

There are two p-values, because each has a weakness that the other lacks. That of `permutation` is exact if the two
models are exchangeable, but tests only that, and treats the runs as fixed. That of `placements` tests only whether the
metrics are equal and lets runs vary, but relies on a normal approximation. A difference is claimed if the larger p is
at most ALPHA after Holm's correction. Where runs vary more than patients, the second p decides, and the first can only
remove claims.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from bench.evaluation.bootstrap import Estimate, Summary, summarize
from bench.evaluation.metrics import Bools, Floats
from bench.evaluation.runs import NO_PRIORS, Design, Priors, resolvable, two_sided_p, unbiased

ALPHA = 0.05  # family-wise error rate: the share of families with a false claim that Holm's rule allows
POWER = 0.8  # the share of studies in which a resolvable difference is significant


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
    """Return whether the whole interval lies within ± margin, that of at least three independent runs.

    A difference can be neither significant nor equal.
    """
    return not difference.few_runs and -margin < difference.interval.low and difference.interval.high < margin


def interval_p(difference: Summary) -> float:
    """Return the two-sided p-value of no difference in any metric, from the standard errors of patients and runs."""
    patients, runs = difference.patient_sd**2, difference.run_error**2
    return float(two_sided_p(difference.interval.value, patients, runs, difference.degrees_of_freedom))


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
