"""Say how many draws and seeds a difference needs, from the variances that finished runs show."""

from __future__ import annotations

import bisect
import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy  # imports its parts where they are first used: scipy.optimize takes 0.2 s
from scipy.special import ndtr, ndtri

from bench.boards.across import paired
from bench.boards.rows import Board, PlanOf
from bench.boards.shown import ShownAsTable
from bench.boards.studies import Study, contrasts_of, studies_of
from bench.errors import BenchError, DataError
from bench.evaluation.compare import ALPHA, POWER
from bench.evaluation.hierarchical import Units, patient_covariance
from bench.evaluation.metrics import Floats
from bench.evaluation.runs import MIN_RUNS, resolvable
from bench.files import read_bytes

if TYPE_CHECKING:
    import pandas as pd

VARIANCES = "variances.csv"
MOST = 200
"""Largest number of draws or seeds that is looked for."""
MAX_LOOKS = 10
MOST_TESTS = 10**9


@dataclass(frozen=True)
class Variances:
    """Standard deviations of a paired difference of macro AUROC, frequent labels, at one task and share of records."""

    dataset: str
    task: str
    fraction: float
    study: str
    """Backbone and recipe."""
    contrast: str
    difference: float
    patient_sd: float
    """Standard error that the patients of fold 10 cause; more runs do not reduce it."""
    draw_sd: float
    """Of draws, the seeds aside; NaN if there is one draw. With one seed a draw it contains the seeds'."""
    seed_sd: float
    """Of seeds within a draw; NaN if no draw has two seeds."""
    draws: int
    pairs: int

    @property
    def seeds(self) -> float:
        """Return the mean number of seeds of a draw."""
        return self.pairs / self.draws

    def error(self, draws: int, seeds: float) -> tuple[float, float, float]:
        """Return the variance from patients, the variance from runs, and the degrees of freedom of the second.

        `seeds` is the number of seeds in each draw. With one draw the difference is about its subset alone, so the
        variance of draws does not count.
        """
        of_seeds = 0.0 if math.isnan(self.seed_sd) else self.seed_sd**2
        of_draws = 0.0 if math.isnan(self.draw_sd) or draws < 2 else self.draw_sd**2
        known = draws - 1 if draws > 1 else seeds - 1
        return self.patient_sd**2, (of_draws + of_seeds / seeds) / draws, max(known, 1)

    def resolves(self, draws: int, seeds: float, alpha: float = ALPHA) -> float:
        """Return the true difference that is significant at `alpha` in 80 % of studies with these draws and seeds."""
        return float(resolvable(alpha, POWER, *self.error(draws, seeds)))

    def limit(self, alpha: float = ALPHA) -> float:
        """Return the smallest difference that any number of runs resolves: only patients contribute to its error."""
        return float(resolvable(alpha, POWER, self.patient_sd**2, 0.0, 1.0))

    def needs(self, difference: float, alpha: float = ALPHA, *, of: str) -> int | None:
        """Return the least number of draws of one seed, or of seeds of one draw, that resolves a difference.

        `of` is `draws` or `seeds`. None if MOST are too few, or if the variance of draws, or of seeds, is not known.
        """
        if math.isnan(self.draw_sd if of == "draws" else self.seed_sd) or self.limit(alpha) > difference:
            return None

        def enough(num: int) -> bool:
            return self.resolves(*((num, 1) if of == "draws" else (1, num)), alpha) <= difference

        nums = range(MIN_RUNS, MOST + 1)
        place = bisect.bisect_left(nums, True, key=enough)  # more runs always resolve smaller differences
        return nums[place] if place < len(nums) else None

    def next_run(self, alpha: float = ALPHA) -> tuple[float, float]:
        """Return the differences that one more seed in each draw, and one more draw, resolve; NaN if not known."""
        seeds = self.resolves(self.draws, self.seeds + 1, alpha) if not math.isnan(self.seed_sd) else math.nan
        draws = self.resolves(self.draws + 1, self.seeds, alpha) if not math.isnan(self.draw_sd) else math.nan
        return seeds, draws


def variances_of(boards: Sequence[Board]) -> list[Variances]:
    """Return the variances of each study of these boards, see `variances_of_study`."""
    return [variances for study in studies_of(boards) for variances in variances_of_study(study)]


def variances_of_study(study: Study) -> list[Variances]:
    """Return the variances of each contrast with replicated pairs, for each task and share of records."""
    known = []
    for contrast in contrasts_of(study.methods):
        cells = sorted({(task, fraction) for task, fraction, arm in study.rows if arm in contrast.arms})
        for task, fraction in cells:
            if len(study.common(task, [fraction], contrast.arms)) > 1:
                units = paired(study, contrast, [task], [fraction])
                known.append(estimate(units, study.dataset, fraction, study.name, contrast.name))
    return known


def estimate(units: Units, dataset: str, fraction: float, study: str, contrast: str) -> Variances:
    """Return the variances of units of one task, with one column.

    The variance of draws is that of their means, less what seeds contribute to it.
    """
    (design,) = units.designs
    values = units.values[:, 0]
    draws = list(dict.fromkeys(design.draw))
    groups = [values[[at for at, draw in enumerate(design.draw) if draw == name]] for name in draws]
    left = sum(len(group) - 1 for group in groups)
    of_seeds = sum(float(np.square(group - group.mean()).sum()) for group in groups) / left if left else math.nan
    of_draws = math.nan
    if len(groups) > 1:
        between = float(np.var([group.mean() for group in groups], ddof=1))
        inner = 0.0 if math.isnan(of_seeds) else of_seeds * float(np.mean([1 / len(group) for group in groups]))
        of_draws = max(between - inner, 0.0)
    patients = math.sqrt(float(patient_covariance(units).sum()))
    sds = patients, math.sqrt(of_draws), math.sqrt(of_seeds)
    value, counts = float(units.mean[0]), (len(groups), len(values))
    return Variances(dataset, units.tasks[0], fraction, study, contrast, value, *sds, *counts)


@dataclass(frozen=True, repr=False)
class Power(ShownAsTable):
    """How many runs a difference needs, for each contrast, task and share of records whose variances are known."""

    variances: Sequence[Variances]
    difference: float
    tests: int = 1
    """Number of tests that Holm corrects for; at its first step the level is 5 % divided by it."""
    looks: int = 1

    @property
    def levels(self) -> Floats:
        """Return [look], the level of p at each planned look."""
        return levels(self.looks, ALPHA / self.tests)

    @property
    def frame(self) -> pd.DataFrame:
        """One row for each contrast, task and share; bench/README.md documents the columns."""
        import pandas as pd

        return pd.DataFrame([self._row(variances) for variances in self.variances])

    def _row(self, variances: Variances) -> dict[str, Any]:
        alpha = float(self.levels[-1])
        with_seed, with_draw = variances.next_run(alpha)
        names = ("dataset", "task", "fraction", "study", "contrast", "patient_sd", "draw_sd", "seed_sd")
        return {
            **{name: getattr(variances, name) for name in (*names, "draws", "pairs")},
            "resolves": variances.resolves(variances.draws, variances.seeds, alpha),
            "limit": variances.limit(alpha),
            "seeds_needed": variances.needs(self.difference, alpha, of="seeds"),
            "draws_needed": variances.needs(self.difference, alpha, of="draws"),
            "with_another_seed": with_seed,
            "with_another_draw": with_draw,
        }

    def shown(self) -> pd.DataFrame:
        columns = ["task", "fraction", "study", "contrast", "draws", "pairs", "resolves", "limit"]
        frame = self.frame[[*columns, "seeds_needed", "draws_needed"]]
        return frame.assign(**{name: frame[name].map("{:.4f}".format) for name in ("resolves", "limit")})

    def declared(self, plan_of: PlanOf) -> Power:
        """Return the part on contrasts that their boards declare; all of it if none is declared."""
        chosen = [each for each in self.variances if plan_of(each.dataset, each.task).declares(each.contrast)]
        return replace(self, variances=chosen or self.variances)

    @property
    def remarks(self) -> list[str]:
        """Return sentences on the level, on the unit of seeds and draws, and on when to stop."""
        lines = [
            f"needed: runs with which 80 % of studies find a true difference of {self.difference:g} macro AUROC "
            f"significant at {self.levels[-1]:.3g} (planned looks: {self.looks}; tests: {self.tests}). Empty: the "
            f"variance is not known, or more than {MOST} runs, or the difference is below `limit`: endless runs "
            "resolve no less, because the patients of fold 10 stay the same",
            "resolves: with the runs at hand. seeds_needed: of one draw, so a claim is about that subset. "
            f"draws_needed: of one seed each; {MIN_RUNS} draws lift that condition",
            self._worth_more(),
        ]
        if self.looks == 1:
            return [
                *lines,
                "stop at the planned number of runs. Adding runs until p is at most 0.05 is refused: with 5 looks it "
                f"claims falsely in {100 * peeking(5):.0f} %. --looks plans looks at which you may stop earlier",
            ]
        steps = ", ".join(f"{level:.2g}" for level in self.levels)
        return [
            *lines,
            f"looks after equal numbers of runs (O'Brien and Fleming): stop as soon as p is at most {steps}, at look 1 "
            f"to {self.looks}; no other look is allowed",
        ]

    def _worth_more(self) -> str:
        """Return a sentence on whether another draw or another seed is worth more."""
        if all(math.isnan(variances.draw_sd) for variances in self.variances):
            return (
                "next: runs of another draw, with a new seed. How draws vary was never measured here; more seeds of "
                "one draw only make its own claim firmer"
            )
        known = [
            (seed, draw) for seed, draw in map(Variances.next_run, self.variances) if seed == seed and draw == draw
        ]
        if not known:
            return "next: no case tells draws from seeds: each has one draw, or one seed a draw"
        better = sum(draw <= seed for seed, draw in known)
        cases = f"{better} of {len(known)} cases where both are known"
        return f"next: another draw resolves more than another seed in each draw in {cases}"


def plan_power(
    variances: Sequence[Variances],
    difference: float,
    *,
    tests: int = 1,
    looks: int = 1,
    task: str | None = None,
    fraction: float | None = None,
    contrast: str | None = None,
) -> Power:
    """Return how many runs a difference needs, for the chosen variances. Raises BenchError if none are left."""
    if not 0 < difference < 1:
        raise BenchError(f"--difference must be in (0, 1), a difference of macro AUROC; got {difference:g}")
    if not 1 <= tests <= MOST_TESTS:
        raise BenchError(f"--tests must be from 1 to {MOST_TESTS:,}, got {tests:,}")
    levels(looks)  # raises for a wrong number
    chosen = [
        each
        for each in variances
        if task in (None, each.task) and fraction in (None, each.fraction) and contrast in (None, each.contrast)
    ]
    if not chosen:
        keys = ("contrast", "task", "fraction")
        known = [", ".join(dict.fromkeys(str(getattr(each, key)) for each in variances)) for key in keys]
        words = "; ".join(known) if variances else "nothing"
        raise BenchError(f"no replicated pairs of runs for this; variances are known of {words}")
    return Power(chosen, difference, tests, looks)


def read_variances(folder: Path) -> list[Variances]:
    """Return the variances that `bench leaderboard` left beside the boards in a folder; empty if there are none.

    Raises DataError for a damaged file.
    """
    return [variances for path in sorted(folder.glob(f"*/{VARIANCES}")) for variances in from_csv(read_bytes(path))]


def as_csv(variances: Sequence[Variances]) -> str:
    """Return the text of variances.csv; NaN is empty.

    Numbers have six digits, so that machines that add in another order write the same file.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = [column.name for column in fields(Variances)]
    writer.writerow(names)
    for row in variances:
        values = [getattr(row, name) for name in names]
        writer.writerow(["" if v != v else f"{v:.6g}" if isinstance(v, float) else v for v in values])
    return table.getvalue()


def from_csv(content: bytes) -> list[Variances]:
    """Return the variances in the content of a variances.csv. Raises DataError if it is damaged."""
    try:
        return [_from_row(row) for row in csv.DictReader(io.StringIO(content.decode(), newline=""))]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{VARIANCES} is damaged: {error}; `bench leaderboard --published` writes it anew") from None


def _from_row(row: Mapping[str, str]) -> Variances:
    draws, pairs = int(row["draws"]), int(row["pairs"])
    if not 1 <= draws <= pairs:
        raise ValueError(f"{draws} draws with {pairs} pairs of runs, expected at least one pair for each draw")
    names = ("difference", "patient_sd", "draw_sd", "seed_sd")
    difference, patient_sd, draw_sd, seed_sd = (float(row[name] or "nan") for name in names)
    cell = row["dataset"], row["task"], float(row["fraction"]), row["study"], row["contrast"]
    return Variances(*cell, difference, patient_sd, draw_sd, seed_sd, draws, pairs)


def levels(looks: int, alpha: float = ALPHA) -> Floats:
    """Return [look], the level of each of so many planned looks after equal numbers of runs (O'Brien and Fleming 1979).

    A false claim at any look has a probability of at most `alpha`. The levels hold for independent steps; patients are
    the same at every look, which makes looks more alike and a false claim less likely. Raises BenchError for fewer than
    1 look or more than MAX_LOOKS.
    """
    if not 1 <= looks <= MAX_LOOKS:
        raise BenchError(f"--looks must be from 1 to {MAX_LOOKS}, got {looks}")
    bound = scipy.optimize.brentq(
        lambda c: crossing(np.full(looks, c * math.sqrt(looks))) - alpha, 1.0, 8.0, xtol=1e-10
    )
    z = bound * np.sqrt(looks / np.arange(1, looks + 1))
    return np.asarray(2 * ndtr(-z))


def peeking(looks: int) -> float:
    """Return the probability of a false claim if each of so many looks is tested at ALPHA (Armitage et al. 1969)."""
    return crossing(-ndtri(ALPHA / 2) * np.sqrt(np.arange(1, looks + 1)))


def crossing(bounds: Floats) -> float:
    """Return the probability that a sum of standard normal steps leaves ± `bounds` [step] at any step.

    The density of the sum within the bounds is carried from step to step on a grid (Armitage et al. 1969).
    """
    inside = 1.0
    grid, density = np.zeros(1), np.ones(1)
    for bound in bounds:
        nodes, weights = np.polynomial.legendre.leggauss(101)
        following = bound * nodes
        kernel = np.exp(-np.square(following[:, None] - grid) / 2) / math.sqrt(2 * math.pi)
        grid, density = following, (kernel @ density) * bound * weights
        inside = float(density.sum())
    return 1 - inside
