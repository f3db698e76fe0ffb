"""Do the intervals cover what is true, and do comparisons claim what is not there? Scores of known quality tell.

The labels and patients are those of a real fold 10; the scores are drawn, normal among the negatives and among the
positives of each label, so that the true AUROC is known. Records of a patient resemble each other, labels too, and
compared models err together. A second, normal model has no labels, only patients, draws
and seeds, and the product's own rules of variance; so it covers many settings. `make simulations` measures and writes
leaderboards/simulations.csv, and goes on where it was stopped: rates of the same code and setting are kept.
"""

from __future__ import annotations

import ast
import csv
import functools
import hashlib
import io
import itertools
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from bench.boards import comparisons
from bench.boards.comparisons import ALPHA, Comparison, ScoredRow, ScoredRun, compare_pairs
from bench.data.datasets import load_records
from bench.data.splits import TEST_FOLD
from bench.data.tasks import PUBLISHED_TASKS, LabelTable, find_task, label_table
from bench.evaluation import bootstrap, compare, metrics, placements, runs
from bench.evaluation.bootstrap import Interval, Replicates, draw_replicates, resample, summarize
from bench.evaluation.compare import POWER, holm
from bench.evaluation.metrics import Floats
from bench.evaluation.placements import summarize_all_labels
from bench.evaluation.runs import Design, Prior, RunVariance, fit_prior, moderate, resolvable, two_sided_p, unbiased
from bench.files import write_whole

SIMULATIONS = "simulations.csv"
ALL_LABELS = "coverage, all labels, macro AUROC"
"""The simulated quantity that a page prints beside intervals over all labels."""
PATIENT, LABELS, MODELS = 0.25, 0.16, 0.5
"""Shares of a score's variance: what a patient's records share, what labels share, what compared models share."""
AUROCS: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "rare labels as hard as the others": ((0.80, 0.98), (0.80, 0.98)),
    "rare labels harder": ((0.85, 0.98), (0.65, 0.85)),
    "rare labels easier": ((0.80, 0.95), (0.95, 0.995)),
}
"""Setting -> range of the true AUROCs of frequent and of rare labels."""
SHAPES = (0.5, 1.0, 1.5, 2.5)
"""Standard deviation of the positives' scores of each compared model; the negatives' is 1."""
NUM_MODELS, NUM_SEEDS = len(SHAPES), 3
RULES: Mapping[str, Callable[[Comparison], float]] = {
    "permutation test alone": lambda found: found.permutation_p,
    "interval alone": lambda found: found.placement_p,
    "larger p": lambda found: found.p,
}
NUM_REPLICATES = 400
TYPICAL = 300
"""How many simulated comparisons' resolvable differences are averaged, at least; all would take hours."""


@dataclass(frozen=True)
class Rate:
    """How often something happened in simulations of a setting."""

    task: str
    quantity: str
    setting: str
    percent: float
    error: float
    """Monte Carlo standard error of `percent`, in points."""
    simulations: int


def rate(task: str, quantity: str, setting: str, happened: ArrayLike, num: int = 0) -> Rate:
    """The share in percent; its error is never 0, as of none in n there might have been one.

    `num` simulations, each of which may have more than one thing that happened or not: their error is then that of as
    many independent ones, which is too large.
    """
    share, num = float(np.mean(np.asarray(happened, dtype=np.float64))), num or len(np.asarray(happened))
    bounded = min(max(share, 1 / num), 1 - 1 / num)
    error = 100 * math.sqrt(bounded * (1 - bounded) / num)
    return Rate(task, quantity, setting, round(100 * share, 2), round(error, 2), num)


def noise(truth: LabelTable, random: np.random.Generator) -> Floats:
    """[record, label] standard normal: alike among the records of a patient, and among labels, half inverted."""
    _, patient = np.unique(truth.patient_id, return_inverse=True)
    num_records, num_labels = truth.y_true.shape
    num_patients = patient.max() + 1
    sign = np.where(np.arange(num_labels) % 2, 1, -1)
    of_patient = random.normal(size=(num_patients, num_labels))[patient]
    of_labels = sign * random.normal(size=(num_records, 1))
    own = random.normal(size=(num_records, num_labels))
    return np.asarray(
        math.sqrt(PATIENT) * of_patient + math.sqrt(LABELS) * of_labels + math.sqrt(1 - PATIENT - LABELS) * own
    )


def scores(truth: LabelTable, auroc: Floats, noise: Floats, spread: float = 1.0) -> Floats:
    """[record, label] scores whose AUROC is `auroc` [label] in an endless fold; the positives' have this `spread`."""
    shift = ndtri(auroc) * math.sqrt(1 + spread**2)
    return np.where(truth.y_true, shift + spread * noise, noise)


def coverage(truth: LabelTable, num_simulations: int, seed: int = 0, block: int = 250) -> list[Rate]:
    """How often the intervals over the frequent labels hold the truth.

    Of AUROC that is known. Average precision depends on how many positives a fold has, so its truth is the mean of its
    values in folds of these labels. The true AUROCs are drawn anew for each `block` of simulations.
    """
    table = replace(truth, y_true=truth.y_true[:, metrics.frequent(truth.y_true)])
    every = np.ones(table.y_true.shape[1], dtype=bool)
    replicates = draw_replicates(table.patient_id, table.y_true, NUM_REPLICATES, seed)
    random = np.random.default_rng(seed)
    covered: dict[str, list[bool]] = {"AUROC": [], "AP": []}
    for start in range(0, num_simulations, block):
        auroc = random.uniform(0.80, 0.98, len(every))
        found: dict[str, list[Interval]] = {"AUROC": [], "AP": []}
        for _ in range(min(block, num_simulations - start)):
            resampled = resample(table.y_true, scores(table, auroc, noise(table, random)), replicates)
            found["AUROC"].append(summarize([resampled.auroc.macro(every)]).interval)
            found["AP"].append(summarize([resampled.average_precision.macro(every)]).interval)
        true = {"AUROC": auroc.mean(), "AP": np.mean([one.value for one in found["AP"]])}
        for metric, intervals in found.items():
            covered[metric] += [bool(one.low <= true[metric] <= one.high) for one in intervals]
    quantity = "coverage, labels with at least 10 positives, macro "
    return [rate(truth.task, quantity + metric, "AUROC 0.80 to 0.98", held) for metric, held in covered.items()]


def coverage_of_all(truth: LabelTable, setting: str, num_simulations: int, seed: int = 0, block: int = 50) -> Rate:
    """How often the interval of macro AUROC over all labels holds the truth."""
    table = replace(truth, y_true=truth.y_true[:, metrics.defined(truth.y_true)])
    frequent, rare = AUROCS[setting]
    random = np.random.default_rng(seed)
    ranges = [frequent if one else rare for one in metrics.frequent(table.y_true)]
    covered = []
    for start in range(0, num_simulations, block):
        auroc: Floats = np.array([random.uniform(*one) for one in ranges])
        for _ in range(min(block, num_simulations - start)):
            y_score = scores(table, auroc, noise(table, random))
            found = summarize_all_labels(table.patient_id, table.y_true, [y_score]).interval
            covered.append(bool(found.low <= auroc.mean() <= found.high))
    return rate(truth.task, ALL_LABELS, setting, covered)


def equal_models(truth: LabelTable, setting: str, random: np.random.Generator) -> list[list[Floats]]:
    """[model][run] scores of models whose true macro AUROC is the same; they share half of their noise."""
    num_labels = truth.y_true.shape[1]
    auroc = np.asarray(random.uniform(0.80, 0.95, num_labels))
    shared = noise(truth, random)
    found = []
    for model in range(NUM_MODELS):
        own = random.permutation(auroc) if setting == "good at different labels" else auroc
        spread = SHAPES[model] if setting == "scores of different shapes" else 1.0
        runs = []
        for _ in range(NUM_SEEDS if setting == "three seeds that vary" else 1):
            ours = math.sqrt(MODELS) * shared + math.sqrt(1 - MODELS) * noise(truth, random)
            moved = own + (0.01 * random.normal() if setting == "three seeds that vary" else 0.0)
            runs.append(scores(truth, moved, ours, spread))
        found.append(runs)
    return found


EQUAL = ("exchangeable", "scores of different shapes", "good at different labels", "three seeds that vary")


def false_positives(truth: LabelTable, setting: str, num_simulations: int, seed: int = 0) -> list[Rate]:
    """How often any of several equal models is told apart after Holm, over all pairs and against one baseline."""
    table = replace(truth, y_true=truth.y_true[:, metrics.frequent(truth.y_true)])
    replicates = draw_replicates(table.patient_id, table.y_true, 2, seed)  # no p depends on them
    random = np.random.default_rng(seed)
    claimed: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for _ in range(num_simulations):
        models = equal_models(table, setting, random)
        rows = {f"model {at}": _row(table, runs, replicates) for at, runs in enumerate(models)}
        found = compare_pairs(rows, list(itertools.combinations(rows, 2)), 0.005, table, num_permutations=1000)
        against_one = [one for one in found if one.first == "model 0"]
        for family, chosen in ((f"all {len(found)} pairs", found), (f"{len(against_one)} against one", against_one)):
            for rule, p_of in RULES.items():
                claimed[family, rule].append(bool((holm([p_of(one) for one in chosen]) <= ALPHA).any()))
    return [
        rate(truth.task, f"false claims among {NUM_MODELS} equal models, {family}: {rule}", setting, happened)
        for (family, rule), happened in claimed.items()
    ]


def _row(table: LabelTable, runs: Sequence[Floats], replicates: Replicates) -> ScoredRow:
    return {
        (0, seed): ScoredRun(y_score, resample(table.y_true, y_score, replicates)) for seed, y_score in enumerate(runs)
    }


def every_third_label(truth: LabelTable) -> LabelTable:
    """The frequent labels thinned by their number of positives: as telling about comparisons, and faster."""
    positives = truth.y_true.sum(axis=0)
    order = [at for at in np.argsort(positives, kind="stable") if metrics.frequent(truth.y_true)[at]][::3]
    return replace(truth, y_true=truth.y_true[:, order], labels=tuple(truth.labels[at] for at in order))


@dataclass(frozen=True)
class Setting:
    """A board of equal rows: how many, of which runs, and how much these vary."""

    rows: int
    draws: int
    seeds: int
    ratio: float
    """Standard deviation of a difference between two runs, over that which patients give it."""
    spread: str = "equal"
    """How the rows' run variances differ: `equal`, `unequal` (standard deviations from 1/3 to 3, by equal steps of the
    logarithm), `one wild row` (8 times the others'), `log-normal` and the standard deviation of the logarithms of the
    variances, or `equal, heavy tails` (errors of runs are t-distributed with 5 degrees of freedom)."""
    crossed: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Shares of the run variance that draws, seeds and the rest have; where seeds have one, they are crossed."""

    def __str__(self) -> str:
        runs = f"{self.seeds} seeds" if self.draws == 1 else f"{self.draws} draws x {self.seeds} seeds"
        kind = "" if self.draws == 1 else " crossed" if self.crossed[1] else " nested"
        shares = "" if self.draws == 1 else f" ({', '.join(f'{100 * one:.0f}' for one in self.crossed)} %)"
        return f"{self.rows} rows, {runs}{kind}{shares}, ratio {self.ratio:g}, {self.spread}"

    @property
    def design(self) -> Design:
        """Which runs are independent."""
        places = list(itertools.product(range(self.draws), range(self.seeds)))
        return Design.of(places, ["seed" if self.crossed[1] else "draw and seed"] * len(places))

    def run_sd(self, num: int, random: np.random.Generator) -> Floats:
        """[simulation, row] standard deviations of the rows' runs; their mean square is 1 but for a wild row."""
        if self.spread == "one wild row":
            return np.tile(np.r_[np.ones(self.rows - 1), 8.0], (num, 1))
        if self.spread.startswith("equal"):
            return np.ones((num, self.rows))
        if self.spread.startswith("log-normal"):
            sd = np.exp(float(self.spread.split()[1]) / 2 * random.normal(size=(num, self.rows)))
            return np.asarray(sd / np.sqrt(np.square(sd).mean()))
        sd = np.geomspace(1 / 3, 3, self.rows)
        return random.permuted(np.tile(sd / np.sqrt(np.square(sd).mean()), (num, 1)), axis=1)

    def errors(self, size: tuple[int, ...], random: np.random.Generator) -> Floats:
        """Errors of runs of variance 1, an array of that size."""
        if self.spread == "equal, heavy tails":
            return np.asarray(random.standard_t(5, size=size) * math.sqrt(3 / 5))
        return random.normal(size=size)


MEASURED = (10 / 58, 45 / 58, 3 / 58)
"""Shares of draws, seeds and the rest in probes of 1 % of superdiag, of streams that depended on the seed alone: F of
draws was 11 and F of seeds 76, over the rest."""
NORMAL = tuple(
    [
        Setting(rows, 1, seeds, ratio, spread)
        for rows in (2, 8, 15)
        for seeds in (3, 5)
        for ratio in (0.5, 2, 5, 10)
        for spread in ("equal", "unequal")
        if rows > 2 or spread == "equal"
    ]
    + [Setting(8, 1, 4, 2, spread) for spread in ("equal", "unequal")]
    + [Setting(rows, 5, 3, 2, crossed=(0.2, 0.6, 0.2)) for rows in (2, 8, 15)]
    + [Setting(8, 3, 3, 2, crossed=(0.3, 0.3, 0.4)), Setting(8, 3, 3, 5, "unequal", (0.2, 0.6, 0.2))]
    + [Setting(8, 5, 3, 5, "unequal", (0.6, 0.2, 0.2)), Setting(2, 3, 3, 5, crossed=(0.1, 0.1, 0.8))]
    + [Setting(8, 3, 3, 2, crossed=(0.5, 0.0, 0.5)), Setting(15, 1, 3, 5, "one wild row")]
    + [Setting(8, 1, 3, 5, "one wild row"), Setting(3, 5, 1, 10)]
    + [Setting(rows, 1, 3, 10, "unequal") for rows in (3, 4, 5, 6)]
    + [Setting(6, 1, 3, 10), *(Setting(rows, 5, 3, 10, crossed=MEASURED) for rows in (2, 3))]
)
"""The declared grid of the normal model: 60 settings."""
HELD_OUT = tuple(
    Setting(rows, 1, seeds, ratio, spread)
    for rows, seeds in ((6, 3), (8, 3), (15, 3), (8, 5))
    for ratio in (3, 8)
    for spread in ("log-normal 0.3", "log-normal 0.8", "log-normal 1.5", "equal, heavy tails")
)
"""Settings that `runs.CAUTION` and `runs.MIN_VARIANCES` were not chosen by: other spreads, ratios and seeds."""


def draw_values(setting: Setting, run_sd: Floats, random: np.random.Generator) -> Floats:
    """Values [simulation, row, run] of equal rows by the standard deviations [simulation, row] of their runs.

    A difference of two rows has variance 1 from patients.
    """
    design = setting.design
    patients = random.normal(size=run_sd.shape) / math.sqrt(2)
    values = np.zeros((*run_sd.shape, len(design.draw)))
    for share, groups in zip(setting.crossed, (design.draw_matrix, design.stream_matrix, None), strict=True):
        size = values.shape[2] if groups is None else len(groups)
        part = math.sqrt(share) * setting.errors((*run_sd.shape, size), random)
        values += part if groups is None else part @ groups
    return np.asarray(run_sd[..., None] * values + patients[..., None])


def moderated(design: Design, values: Floats, num_independent: int) -> RunVariance:
    """The run variances of values [simulation, row, run], moderated over the rows of each simulated board."""
    own = design.variance(values)
    prior = fit_prior(own.variance, own.degrees_of_freedom, num_independent)
    return moderate(own, None if prior is None else _each(prior))


def normal_rates(setting: Setting, num: int, seed: int = 0, task: str = "normal") -> list[Rate]:
    """Coverage, family-wise false claims and power of the rules in a normal model of equal rows.

    The first row, which `against one` compares with the others, is then better by 4 standard errors.
    """
    random, design, rows = np.random.default_rng(seed), setting.design, setting.rows
    run_sd = setting.ratio / math.sqrt(2) * setting.run_sd(num, random)
    values = draw_values(setting, run_sd, random)
    first, second = np.array(list(itertools.combinations(range(rows), 2))).T
    differences = values[:, first] - values[:, second]
    runs, of_row = moderated(design, differences, rows - 1), moderated(design, values, rows)
    value, error, known = differences @ design.weights, runs.of_mean, runs.degrees_of_freedom
    row_p = _p(values @ design.weights, 0.5, of_row.of_mean, of_row.degrees_of_freedom)
    p, one = _p(value, 1.0, error, known), first == 0
    true = np.square(_true_error(setting, run_sd))
    shift = 4 * np.sqrt(1 + true[:, first[one]] + true[:, second[one]])
    shifted = _p(value[:, one] + shift, 1.0, error[:, one], known[:, one])
    families = {f"all {len(first)} pairs": p, f"{one.sum()} against one": p[:, one]}
    name = str(setting)
    return [
        rate(task, "coverage, rows", name, (row_p > ALPHA).ravel(), num),
        rate(task, "coverage, differences", name, (p > ALPHA).ravel(), num),
        *(rate(task, f"false claims, {family}", name, _smallest(each) <= ALPHA) for family, each in families.items()),
        rate(task, "power at 4 standard errors, against one", name, _holm(shifted).ravel(), num),
        resolvable_rate(setting, num, seed, task),
    ]


def resolvable_rate(setting: Setting, num: int, seed: int, task: str) -> Rate:
    """How often a true difference as large as the printed resolvable one, in the mean, is found by Holm's first step.

    The rows' run variances stay the same in all simulations, those of the first row in the middle: the printed value of
    a comparison is the mean of at least TYPICAL / (rows - 1) boards.
    """
    random, design, rows = np.random.default_rng(seed + 1), setting.design, setting.rows
    order = np.roll(np.arange(rows), rows // 2)
    run_sd = setting.ratio / math.sqrt(2) * np.sort(setting.run_sd(1, random), axis=1)[:, order]
    values = draw_values(setting, np.tile(run_sd, (num, 1)), random)
    first, second = np.array(list(itertools.combinations(range(rows), 2))).T
    one = first == 0
    differences = values[:, first] - values[:, second]
    runs = moderated(design, differences, rows - 1)
    value = (differences @ design.weights)[:, one]
    error, known = (np.asarray(part)[:, one] for part in (runs.of_mean, runs.degrees_of_freedom))
    boards = -(-TYPICAL // (rows - 1))
    alpha, few = ALPHA / (rows - 1), slice(min(boards, num))
    printed = resolvable(alpha, POWER, 1.0, unbiased(error[few], known[few]), known[few])
    found = two_sided_p(value + printed.mean(axis=0), 1.0, error, known) <= alpha
    return rate(task, "power at the resolvable difference", str(setting), found.ravel(), num)


def _each(prior: Prior) -> Prior:
    """The prior of each simulation for each of its rows."""
    return Prior(*(np.asarray(one)[..., None] for one in (prior.variance, prior.degrees_of_freedom, prior.limit)))


def _true_error(setting: Setting, run_sd: Floats) -> Floats:
    """[simulation, row] the true standard error of a row's mean from its runs."""
    draws, seeds, rest = setting.crossed
    share = draws / setting.draws + seeds / setting.seeds + rest / (setting.draws * setting.seeds)
    return np.asarray(run_sd * math.sqrt(share))


def _p(value: Floats, patients: float, runs: Floats, known: Floats, chunk: int = 20_000) -> Floats:
    """`two_sided_p`, of which only those are computed that a normal error alone does not make larger than ALPHA."""
    found = 2 * ndtr(-abs(value) / np.sqrt(patients + runs))
    small = np.flatnonzero(found.ravel() <= ALPHA)
    exact = found.ravel()
    for start in range(0, len(small), chunk):
        at = small[start : start + chunk]
        exact[at] = two_sided_p(value.ravel()[at], patients, runs.ravel()[at], known.ravel()[at])
    return np.asarray(exact.reshape(found.shape))


def _smallest(p: Floats) -> Floats:
    """[simulation] the smallest p after Holm of [simulation, test]."""
    return np.asarray(np.minimum(p.min(axis=1) * p.shape[1], 1.0))


def _holm(p: Floats) -> metrics.Bools:
    """[simulation, test] what Holm's rule claims."""
    return np.stack([np.asarray(holm(one) <= ALPHA) for one in p])


PRODUCT = (
    ("form", Setting(3, 1, 3, 0.5)),
    ("form", Setting(8, 1, 3, 5)),
    ("rhythm", Setting(3, 1, 3, 2)),
    ("superdiag", Setting(3, 1, 3, 5)),
    ("superdiag", Setting(8, 1, 3, 5, "unequal")),
    ("subdiag", Setting(6, 1, 3, 5, "unequal")),
    ("diag", Setting(3, 1, 3, 5)),
    ("all", Setting(3, 1, 3, 2)),
)
"""What is simulated through the whole product: labels and patients of a task, and a board of equal rows."""


def product_rates(truth: LabelTable, setting: Setting, num: int, seed: int = 0) -> list[Rate]:
    """Family-wise false claims and coverage of differences by `compare_pairs`, of scores that are drawn.

    The true AUROCs of a row's runs move by a normal error for all labels together, of the setting's ratio to the
    patients' standard error of a difference; every third frequent label is in.
    """
    table = every_third_label(truth)
    random = np.random.default_rng(seed)
    replicates = draw_replicates(table.patient_id, table.y_true, 200, seed)
    of_patients = _patients_error(table, replicates)
    happened: dict[tuple[str, str], list[bool]] = defaultdict(list)
    covered = []
    for _ in range(num):
        auroc, shared = random.uniform(0.80, 0.95, table.y_true.shape[1]), noise(table, random)
        sd = setting.run_sd(1, random)[0] * setting.ratio * of_patients / math.sqrt(2)
        rows = {}
        for row in range(setting.rows):
            moved = [np.clip(auroc + sd[row] * random.normal(), 0.5, 0.9999) for _ in range(setting.seeds)]
            own = math.sqrt(1 - MODELS) * noise(table, random) + math.sqrt(MODELS) * shared
            rows[f"row {row}"] = _row(table, [scores(table, one, own) for one in moved], replicates)
        pairs = compare_pairs(rows, list(itertools.combinations(rows, 2)), 0.005, table, num_permutations=1000)
        bounds = [one.differences["auroc"].interval for one in pairs]
        covered += [one.low <= 0 <= one.high for one in bounds]
        against_one = [one for one in pairs if one.first == "row 0"]
        for family, chosen in ((f"all {len(pairs)} pairs", pairs), (f"{len(against_one)} against one", against_one)):
            for rule, p_of in RULES.items():
                happened[family, rule].append(bool((holm([p_of(one) for one in chosen]) <= ALPHA).any()))
    return [
        rate(truth.task, "coverage, differences", str(setting), covered, num),
        *(
            rate(truth.task, f"false claims, {family}: {rule}", str(setting), v)
            for (family, rule), v in happened.items()
        ),
    ]


def _patients_error(table: LabelTable, replicates: Replicates, num: int = 10) -> float:
    """What patients give a difference of two such rows: its mean standard deviation over the replicates."""
    random, every = np.random.default_rng(1), np.ones(table.y_true.shape[1], dtype=bool)
    sd = []
    for _ in range(num):
        shared = noise(table, random)
        mixed = [math.sqrt(MODELS) * shared + math.sqrt(1 - MODELS) * noise(table, random) for _ in range(2)]
        one, other = (
            resample(table.y_true, scores(table, np.full(len(every), 0.875), own), replicates).auroc.macro(every)
            for own in mixed
        )
        sd.append((one - other).replicates.std(ddof=1))
    return float(np.mean(sd))


COVERED, PRINTED_POWER, POOLED, LEVEL = (93.0, 97.0), (75.0, 85.0), 6.0, 5.0
"""Goals in percent: of coverage, of power at the printed resolvable difference, of false claims pooled over an axis (at
most), and of the lower 95 % bound of a setting's false claims (at most)."""


def is_met(rate: Rate) -> bool | None:
    """Whether a rate meets its goal; None where none is set, as for power at 4 standard errors, or for half a rule."""
    if rate.quantity.startswith("coverage"):
        return COVERED[0] <= rate.percent <= COVERED[1]
    if rate.quantity == "power at the resolvable difference":
        return PRINTED_POWER[0] <= rate.percent <= PRINTED_POWER[1]
    if rate.quantity.startswith("false claims") and (":" not in rate.quantity or rate.quantity.endswith("larger p")):
        return rate.percent - 1.96 * rate.error <= LEVEL
    return None


def read_rates(rows: Iterable[Mapping[str, str]]) -> list[Rate]:
    """The rates of the rows of simulations.csv."""
    return [
        Rate(
            row["task"],
            row["quantity"],
            row["setting"],
            float(row["percent"]),
            float(row["error"]),
            int(row["simulations"]),
        )
        for row in rows
    ]


def missed(rates: Iterable[Rate]) -> list[Rate]:
    """The rates that miss their goal."""
    return [rate for rate in rates if is_met(rate) is False]


def pooled(rates: Iterable[Rate]) -> dict[tuple[str, str, str], float]:
    """(axis, its value, family) -> false claims in percent, the mean over the declared settings of the normal model.

    The axes are rows, runs, ratio, spread and design; the families are all pairs and the comparisons against one row.
    """
    settings = {str(setting): setting for setting in NORMAL}
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for rate in rates:
        if rate.task == "normal" and rate.quantity.startswith("false claims") and rate.setting in settings:
            setting = settings[rate.setting]
            design = "crossed" if setting.design.kind == "crossed" else "not crossed"
            axes = {
                "rows": setting.rows,
                "runs": setting.design.num_independent,
                "ratio": f"{setting.ratio:g}",
                "spread": setting.spread,
                "design": design,
            }
            family = "against one" if rate.quantity.endswith("against one") else "all pairs"
            for axis, value in axes.items():
                found[axis, str(value), family].append(rate.percent)
    return {key: float(np.mean(percents)) for key, percents in found.items()}


Job = tuple[str, Callable[[], Sequence[Rate]]]
"""What a simulation is known by, and the simulation."""


def jobs(data: Path, scale: float = 1.0) -> Iterator[Job]:
    """All simulations on the fold 10 of the dataset in `data`; `scale` shortens them. The quickest come first."""
    for setting in NORMAL:
        yield f"normal | {setting}", functools.partial(normal_rates, setting, int(2000 * scale))
    for setting in HELD_OUT:
        job = functools.partial(normal_rates, setting, int(2000 * scale), 1, "normal, held out")
        yield f"held out | {setting}", job
    records = load_records(data)
    tables = {task: label_table(records, find_task(task)) for task in PUBLISHED_TASKS}
    tests = {task: table.select(table.strat_fold == TEST_FOLD) for task, table in tables.items()}
    for task, setting in PRODUCT:
        job = functools.partial(product_rates, tests[task], setting, int(500 * scale))
        yield f"product | {task} | {setting}", job
    for name in EQUAL:
        job = functools.partial(false_positives, every_third_label(tests["form"]), name, int(2000 * scale))
        yield f"equal | {name}", job
    for task, truth in tests.items():
        yield f"coverage | {task}", functools.partial(coverage, truth, int(1000 * scale))
    for task, truth in tests.items():
        if not metrics.frequent(truth.y_true)[metrics.defined(truth.y_true)].all():
            for name in AUROCS:
                yield f"all labels | {task} | {name}", functools.partial(_of_all, truth, name, int(1000 * scale))


def _of_all(truth: LabelTable, setting: str, num_simulations: int) -> list[Rate]:
    return [coverage_of_all(truth, setting, num_simulations)]


def code_version() -> str:
    """The first 8 digits of the SHA-256 of the code that decides these rates, apart from comments and docstrings.

    `main` and what reports is left out: it decides no rate.
    """
    digest = hashlib.sha256()
    for module in (metrics, bootstrap, runs, placements, compare, comparisons, sys.modules[__name__]):
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        tree.body = [part for part in tree.body if not _reports(part)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                node.body = [part for part in node.body if not _is_text(part)]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:8]


def _reports(node: ast.stmt) -> bool:
    """Whether it is one of the functions of this module that run simulations and write what they gave."""
    return isinstance(node, ast.FunctionDef) and node.name in ("main", "what_is_left", "code_version", "_reports")


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def what_is_left(declared: Collection[str], rows: Iterable[Mapping[str, str]], version: str) -> list[str]:
    """The declared simulations that these rows of simulations.csv do not have by this version of the code."""
    done = {row["job"] for row in rows if row["code"] == version}
    return [job for job in declared if job not in done]


def main(data: Path, folder: Path, scale: float = 1.0, only: str = "") -> None:
    """Write <folder>/simulations.csv, each rate as soon as it is known, and print it; say first what is left.

    Rates that the file has from the same code stay. Those from other code stay until they are simulated anew, and go
    where the simulation is no longer one of `jobs`. `only` names simulations by how their names begin; none at all are
    run where no name begins so, as with `-`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, version = folder / SIMULATIONS, code_version()
    names = [*(each.name for each in fields(Rate)), "goal", "job", "code"]
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    declared = dict(jobs(data, scale))
    left = what_is_left(declared, rows, version)
    kinds = Counter(job.partition(" | ")[0] for job in left)
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    print(f"{len(left)} of {len(declared)} simulations are left{counts and ': '}{counts}", file=sys.stderr, flush=True)
    rows = [row for row in rows if row["job"] in declared]
    for job in left:
        if not job.startswith(only):
            continue
        simulated = declared[job]
        rates = simulated()
        goals = {True: "met", False: "missed", None: ""}
        rows = [row for row in rows if row["job"] != job]
        rows += [{**asdict(rate), "goal": goals[is_met(rate)], "job": job, "code": version} for rate in rates]
        table = io.StringIO()
        writer = csv.DictWriter(table, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, table.getvalue())
        for rate in rates:
            print(*asdict(rate).values(), sep=" | ", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float((sys.argv[3:] or ["1"])[0]), *sys.argv[4:5])
