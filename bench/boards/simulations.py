"""Measure by simulation how often intervals cover the truth and how often comparisons claim a false difference.

Labels and patients are those of a real fold 10. Scores are random: for each label they are normal among the negatives
and among the positives, so the true AUROC is known. The scores of a patient's records are correlated, and so are those
of labels and of compared models. A second model is cheaper and covers many settings: it has no labels, only normal
errors of patients, draws and seeds, and uses the same rules of variance as boards. `make simulations` writes
leaderboards/simulations.csv. It continues where it was stopped: rates of the same rules and setting are kept.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from bench.boards.comparisons import ALPHA, Comparison, ResampledRun, ScoredRow, compare_pairs
from bench.data.datasets import load_records
from bench.data.splits import TEST_FOLD
from bench.data.tasks import PUBLISHED_TASKS, LabelTable, find_task, label_table
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Interval, Replicates, make_replicates, resample, summarize
from bench.evaluation.compare import POWER, holm
from bench.evaluation.metrics import Floats
from bench.evaluation.placements import summarize_all_labels
from bench.evaluation.runs import Design, Prior, RunVariance, fit_prior, moderate, resolvable, two_sided_p, unbiased
from bench.files import read_bytes, write_whole

SIMULATIONS = "simulations.csv"
VERSION = "a06009c3"
"""Of the rules that decide these rates. Change it with the numbers that tests/test_simulations.py keeps of them, and
run `make simulations`: rates of another version are simulated anew."""
ALL_LABELS = "coverage, all labels, macro AUROC"
"""The quantity that a page prints beside intervals over all labels."""
PATIENT, LABELS, MODELS = 0.25, 0.16, 0.5
"""Shares of a score's variance that are common to a patient's records, to labels, and to compared models."""
AUROCS: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "rare labels as hard as the others": ((0.80, 0.98), (0.80, 0.98)),
    "rare labels harder": ((0.85, 0.98), (0.65, 0.85)),
    "rare labels easier": ((0.80, 0.95), (0.95, 0.995)),
}
"""Setting -> range of the true AUROC of frequent labels, and of rare labels."""
SHAPES = (0.5, 1.0, 1.5, 2.5)
"""Standard deviation of the positives' scores of each compared model; the negatives' is 1."""
NUM_MODELS, NUM_SEEDS = len(SHAPES), 3
RULES: Mapping[str, Callable[[Comparison], float]] = {
    "permutation test alone": lambda comparison: comparison.permutation_p,
    "interval alone": lambda comparison: comparison.placement_p,
    "larger p": lambda comparison: comparison.p,
}
NUM_REPLICATES, SEED = 400, 0
BLOCK, BLOCK_OF_ALL = 250, 50
"""Numbers of simulations with the same true AUROCs: of frequent labels, and of all."""
CHUNK = 20_000
"""Number of p-values that are computed at once."""
TYPICAL = 300
"""Least number of simulated comparisons whose resolvable differences are averaged; all of them would take hours."""


@dataclass(frozen=True)
class Rate:
    """How often an event happened in the simulations of a setting."""

    task: str
    quantity: str
    setting: str
    percent: float
    error: float
    """Monte Carlo standard error of `percent`, in points."""
    simulations: int


def rate(task: str, quantity: str, setting: str, happened: ArrayLike, num: int = 0) -> Rate:
    """Return the share of `happened` in percent with its Monte Carlo standard error.

    The error is never 0: it is computed for a share of at least 1 / n and at most 1 - 1 / n. `num` is the number of
    simulations, if each of them has several events. The error is then that of `num` independent events, which is
    larger than the true one.
    """
    share, num = float(np.mean(np.asarray(happened, dtype=np.float64))), num or len(np.asarray(happened))
    bounded = min(max(share, 1 / num), 1 - 1 / num)
    error = 100 * math.sqrt(bounded * (1 - bounded) / num)
    return Rate(task, quantity, setting, round(100 * share, 2), round(error, 2), num)


def noise(truth: LabelTable, random: np.random.Generator) -> Floats:
    """Return [record, label], standard normal noise, correlated among a patient's records and among labels.

    Every other label has the opposite sign of the part that labels share.
    """
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
    """Return scores [record, label] whose expected AUROC is `auroc` [label], from `noise` [record, label].

    `spread` is the standard deviation of the positives' scores; that of the negatives' is 1.
    """
    shift = ndtri(auroc) * math.sqrt(1 + spread**2)
    return np.where(truth.y_true, shift + spread * noise, noise)


def coverage(truth: LabelTable, num_simulations: int) -> list[Rate]:
    """Return how often the intervals over the frequent labels cover the truth, for macro AUROC and macro AP.

    The true AUROC is known. Average precision depends on the prevalence, so its true value is the mean of its values
    over simulated folds with these labels. The true AUROCs are drawn anew for each BLOCK of simulations.
    """
    table = replace(truth, y_true=truth.y_true[:, metrics.frequent(truth.y_true)])
    every = np.ones(table.y_true.shape[1], dtype=bool)
    replicates = make_replicates(table.patient_id, table.y_true, NUM_REPLICATES, SEED)
    random = np.random.default_rng(SEED)
    covered: dict[str, list[bool]] = {"AUROC": [], "AP": []}
    for start in range(0, num_simulations, BLOCK):
        auroc = random.uniform(0.80, 0.98, len(every))
        intervals: dict[str, list[Interval]] = {"AUROC": [], "AP": []}
        for _ in range(min(BLOCK, num_simulations - start)):
            resampled = resample(table.y_true, scores(table, auroc, noise(table, random)), replicates)
            intervals["AUROC"].append(summarize([resampled.auroc.macro(every)]).interval)
            intervals["AP"].append(summarize([resampled.average_precision.macro(every)]).interval)
        true = {"AUROC": auroc.mean(), "AP": np.mean([each.value for each in intervals["AP"]])}
        for metric, of_metric in intervals.items():
            covered[metric] += [bool(each.low <= true[metric] <= each.high) for each in of_metric]
    quantity = "coverage, labels with at least 10 positives, macro "
    return [rate(truth.task, quantity + metric, "AUROC 0.80 to 0.98", held) for metric, held in covered.items()]


def coverage_of_all(truth: LabelTable, setting: str, num_simulations: int) -> Rate:
    """Return how often the interval of macro AUROC over all labels covers the truth."""
    table = replace(truth, y_true=truth.y_true[:, metrics.defined(truth.y_true)])
    frequent, rare = AUROCS[setting]
    random = np.random.default_rng(SEED)
    ranges = [frequent if is_frequent else rare for is_frequent in metrics.frequent(table.y_true)]
    covered = []
    for start in range(0, num_simulations, BLOCK_OF_ALL):
        auroc: Floats = np.array([random.uniform(*bounds) for bounds in ranges])
        for _ in range(min(BLOCK_OF_ALL, num_simulations - start)):
            y_score = scores(table, auroc, noise(table, random))
            interval = summarize_all_labels(table.patient_id, table.y_true, [y_score]).interval
            covered.append(bool(interval.low <= auroc.mean() <= interval.high))
    return rate(truth.task, ALL_LABELS, setting, covered)


def equal_models(truth: LabelTable, setting: str, random: np.random.Generator) -> list[list[Floats]]:
    """Return [model][run], scores of models with equal true macro AUROC; the models share half of their noise."""
    num_labels = truth.y_true.shape[1]
    auroc = np.asarray(random.uniform(0.80, 0.95, num_labels))
    shared = noise(truth, random)
    models = []
    for model in range(NUM_MODELS):
        own = random.permutation(auroc) if setting == "good at different labels" else auroc
        spread = SHAPES[model] if setting == "scores of different shapes" else 1.0
        runs = []
        for _ in range(NUM_SEEDS if setting == "three seeds that vary" else 1):
            mixed = math.sqrt(MODELS) * shared + math.sqrt(1 - MODELS) * noise(truth, random)
            moved = own + (0.01 * random.normal() if setting == "three seeds that vary" else 0.0)
            runs.append(scores(truth, moved, mixed, spread))
        models.append(runs)
    return models


EQUAL = ("exchangeable", "scores of different shapes", "good at different labels", "three seeds that vary")


def false_positives(truth: LabelTable, setting: str, num_simulations: int) -> list[Rate]:
    """Return how often any of several equal models differ significantly, for the families and rules of `claims`."""
    table = replace(truth, y_true=truth.y_true[:, metrics.frequent(truth.y_true)])
    replicates = make_replicates(table.patient_id, table.y_true, 2, SEED)  # no p depends on them
    random = np.random.default_rng(SEED)
    claimed: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for _ in range(num_simulations):
        models = equal_models(table, setting, random)
        rows = {f"model {at}": _row(table, runs, replicates) for at, runs in enumerate(models)}
        pairs = compare_pairs(rows, list(itertools.combinations(rows, 2)), 0.005, table, num_permutations=1000)
        for family_and_rule, is_claimed in claims(pairs).items():
            claimed[family_and_rule].append(is_claimed)
    return [
        rate(truth.task, f"false claims among {NUM_MODELS} equal models, {family}: {rule}", setting, happened)
        for (family, rule), happened in claimed.items()
    ]


def claims(pairs: Sequence[Comparison]) -> dict[tuple[str, str], bool]:
    """Return (family, rule) -> whether any difference is significant after Holm's correction within the family.

    The families are all pairs, and the comparisons with the first row.
    """
    with_first = [pair for pair in pairs if pair.first == pairs[0].first]
    families = {f"all {len(pairs)} pairs": pairs, f"{len(with_first)} against one": with_first}
    return {
        (family, rule): bool((holm([p_of(pair) for pair in chosen]) <= ALPHA).any())
        for family, chosen in families.items()
        for rule, p_of in RULES.items()
    }


def _row(table: LabelTable, runs: Sequence[Floats], replicates: Replicates) -> ScoredRow:
    return {
        (0, seed): ResampledRun(y_score, resample(table.y_true, y_score, replicates))
        for seed, y_score in enumerate(runs)
    }


def every_third_label(truth: LabelTable) -> LabelTable:
    """Keep every third frequent label, in order of their number of positives, to save time."""
    positives = truth.y_true.sum(axis=0)
    order = [at for at in np.argsort(positives, kind="stable") if metrics.frequent(truth.y_true)[at]][::3]
    return replace(truth, y_true=truth.y_true[:, order], labels=tuple(truth.labels[at] for at in order))


@dataclass(frozen=True)
class Setting:
    """A simulated board of equal rows: the number of rows, their runs, and how much these vary."""

    rows: int
    draws: int
    seeds: int
    ratio: float
    """Standard deviation of a difference between two runs from training, divided by that from patients."""
    spread: str = "equal"
    """How the run variances differ between rows: `equal`; `unequal`, standard deviations from 1/3 to 3 in equal steps
    of the logarithm; `one wild row`, a standard deviation 8 times that of the others; `log-normal` and the standard
    deviation of the logarithms of the variances; or `equal, heavy tails`, errors with a t-distribution with 5 degrees
    of freedom."""
    crossed: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Shares of the run variance from draws, seeds and the rest. The design is crossed if seeds have a share."""

    def __str__(self) -> str:
        runs = f"{self.seeds} seeds" if self.draws == 1 else f"{self.draws} draws x {self.seeds} seeds"
        kind = "" if self.draws == 1 else " crossed" if self.crossed[1] else " nested"
        shares = "" if self.draws == 1 else f" ({', '.join(f'{100 * share:.0f}' for share in self.crossed)} %)"
        return f"{self.rows} rows, {runs}{kind}{shares}, ratio {self.ratio:g}, {self.spread}"

    @property
    def design(self) -> Design:
        """Return the design of each row, which says which runs are independent."""
        places = list(itertools.product(range(self.draws), range(self.seeds)))
        return Design.of(places, ["seed" if self.crossed[1] else "draw and seed"] * len(places))

    def run_sd(self, num: int, random: np.random.Generator) -> Floats:
        """Return [simulation, row], standard deviations of runs; their mean square is 1, except with a wild row."""
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
        """Return random errors of runs with variance 1, an array of shape `size`."""
        if self.spread == "equal, heavy tails":
            return np.asarray(random.standard_t(5, size=size) * math.sqrt(3 / 5))
        return random.normal(size=size)


MEASURED = (10 / 58, 45 / 58, 3 / 58)
"""Shares of the variance from draws, seeds and the rest. Measured on linear probes of 1 % of superdiag, with random
streams that depend on the seed alone: the F statistic was 11 for draws and 76 for seeds."""
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
"""Settings with other spreads, ratios and seeds: not used to choose `runs.CAUTION` and `runs.MIN_VARIANCES`."""


def random_values(setting: Setting, run_sd: Floats, random: np.random.Generator) -> Floats:
    """Return random values [simulation, row, run] of equal rows; `run_sd` [simulation, row] are the runs' deviations.

    The variance of a difference of two rows from patients is 1.
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
    """Return the run variances of `values` [simulation, row, run], moderated over the rows of each simulated board."""
    own = design.variance(values)
    prior = fit_prior(own.variance, own.degrees_of_freedom, num_independent)
    return moderate(own, None if prior is None else _each(prior))


def normal_rates(setting: Setting, num: int, seed: int = 0, task: str = "normal") -> list[Rate]:
    """Return coverage, family-wise false claims and power of the rules in the normal model of equal rows.

    For power, the first row is better by 4 standard errors, and is compared with all others.
    """
    random, design, rows = np.random.default_rng(seed), setting.design, setting.rows
    run_sd = setting.ratio / math.sqrt(2) * setting.run_sd(num, random)
    values = random_values(setting, run_sd, random)
    first, second = np.array(list(itertools.combinations(range(rows), 2))).T
    differences = values[:, first] - values[:, second]
    runs, of_row = moderated(design, differences, rows - 1), moderated(design, values, rows)
    value, error, known = differences @ design.weights, runs.of_mean, runs.degrees_of_freedom
    row_p = _p(values @ design.weights, 0.5, of_row.of_mean, of_row.degrees_of_freedom)
    p, is_first = _p(value, 1.0, error, known), first == 0
    true = np.square(_true_error(setting, run_sd))
    shift = 4 * np.sqrt(1 + true[:, first[is_first]] + true[:, second[is_first]])
    shifted = _p(value[:, is_first] + shift, 1.0, error[:, is_first], known[:, is_first])
    families = {f"all {len(first)} pairs": p, f"{is_first.sum()} against one": p[:, is_first]}
    name = str(setting)
    return [
        rate(task, "coverage, rows", name, (row_p > ALPHA).ravel(), num),
        rate(task, "coverage, differences", name, (p > ALPHA).ravel(), num),
        *(rate(task, f"false claims, {family}", name, _smallest(each) <= ALPHA) for family, each in families.items()),
        rate(task, "power at 4 standard errors, against one", name, _holm(shifted).ravel(), num),
        resolvable_rate(setting, num, seed, task),
    ]


def resolvable_rate(setting: Setting, num: int, seed: int, task: str) -> Rate:
    """Return how often a true difference is significant that is as large as the mean printed resolvable difference.

    The level is that of the first step of Holm's rule. The run variances of the rows are the same in all simulations,
    and that of the first row is the middle one. The mean of a comparison's resolvable difference is taken over at least
    TYPICAL / (rows - 1) simulated boards.
    """
    random, design, rows = np.random.default_rng(seed + 1), setting.design, setting.rows
    order = np.roll(np.arange(rows), rows // 2)
    run_sd = setting.ratio / math.sqrt(2) * np.sort(setting.run_sd(1, random), axis=1)[:, order]
    values = random_values(setting, np.tile(run_sd, (num, 1)), random)
    first, second = np.array(list(itertools.combinations(range(rows), 2))).T
    is_first = first == 0
    differences = values[:, first] - values[:, second]
    runs = moderated(design, differences, rows - 1)
    value = (differences @ design.weights)[:, is_first]
    error, known = (np.asarray(part)[:, is_first] for part in (runs.of_mean, runs.degrees_of_freedom))
    boards = -(-TYPICAL // (rows - 1))
    alpha, few = ALPHA / (rows - 1), slice(min(boards, num))
    printed = resolvable(alpha, POWER, 1.0, unbiased(error[few], known[few]), known[few])
    significant = two_sided_p(value + printed.mean(axis=0), 1.0, error, known) <= alpha
    return rate(task, "power at the resolvable difference", str(setting), significant.ravel(), num)


def _each(prior: Prior) -> Prior:
    """Return the priors with shape [simulation, 1], to be broadcast over the rows of each simulation."""
    return Prior(*(np.asarray(part)[..., None] for part in (prior.variance, prior.degrees_of_freedom, prior.limit)))


def _true_error(setting: Setting, run_sd: Floats) -> Floats:
    """Return [simulation, row], the true standard error of a row's mean from runs."""
    draws, seeds, rest = setting.crossed
    share = draws / setting.draws + seeds / setting.seeds + rest / (setting.draws * setting.seeds)
    return np.asarray(run_sd * math.sqrt(share))


def _p(value: Floats, patients: float, runs: Floats, known: Floats) -> Floats:
    """Return `two_sided_p` where the p of a normal error is at most ALPHA; elsewhere that p, to save time.

    `two_sided_p` is never smaller than the p of a normal error, so both lie on the same side of ALPHA.
    """
    normal = 2 * ndtr(-abs(value) / np.sqrt(patients + runs))
    small = np.flatnonzero(normal.ravel() <= ALPHA)
    exact = normal.ravel()
    for start in range(0, len(small), CHUNK):
        at = small[start : start + CHUNK]
        exact[at] = two_sided_p(value.ravel()[at], patients, runs.ravel()[at], known.ravel()[at])
    return np.asarray(exact.reshape(normal.shape))


def _smallest(p: Floats) -> Floats:
    """Return [simulation], the smallest p after Holm's correction of `p` [simulation, test]."""
    return np.asarray(np.minimum(p.min(axis=1) * p.shape[1], 1.0))


def _holm(p: Floats) -> metrics.Bools:
    """Return [simulation, test], True where `p` [simulation, test] is significant by Holm's rule."""
    return np.stack([np.asarray(holm(family) <= ALPHA) for family in p])


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
"""Task, whose labels and patients are used, and board of equal rows: simulated with the code that makes boards."""


def product_rates(truth: LabelTable, setting: Setting, num: int) -> list[Rate]:
    """Return family-wise false claims of `compare_pairs` and coverage of its differences, on random scores.

    The true AUROCs of a run differ from those of its row by a normal error that all labels share. `setting.ratio` sets
    its size relative to the standard error of a difference from patients. Every third frequent label is used.
    """
    table = every_third_label(truth)
    random = np.random.default_rng(SEED)
    replicates = make_replicates(table.patient_id, table.y_true, 200, SEED)
    of_patients = _patients_error(table, replicates)
    claimed: dict[tuple[str, str], list[bool]] = defaultdict(list)
    covered = []
    for _ in range(num):
        auroc, shared = random.uniform(0.80, 0.95, table.y_true.shape[1]), noise(table, random)
        sd = setting.run_sd(1, random)[0] * setting.ratio * of_patients / math.sqrt(2)
        rows = {}
        for row in range(setting.rows):
            moved = [np.clip(auroc + sd[row] * random.normal(), 0.5, 0.9999) for _ in range(setting.seeds)]
            own = math.sqrt(1 - MODELS) * noise(table, random) + math.sqrt(MODELS) * shared
            rows[f"row {row}"] = _row(table, [scores(table, true, own) for true in moved], replicates)
        pairs = compare_pairs(rows, list(itertools.combinations(rows, 2)), 0.005, table, num_permutations=1000)
        bounds = [pair.differences["auroc"].interval for pair in pairs]
        covered += [interval.low <= 0 <= interval.high for interval in bounds]
        for family_and_rule, is_claimed in claims(pairs).items():
            claimed[family_and_rule].append(is_claimed)
    return [
        rate(truth.task, "coverage, differences", str(setting), covered, num),
        *(
            rate(truth.task, f"false claims, {family}: {rule}", str(setting), happened)
            for (family, rule), happened in claimed.items()
        ),
    ]


def _patients_error(table: LabelTable, replicates: Replicates) -> float:
    """Return the standard error from patients of a difference of two such rows, the mean over ten simulations."""
    random, every = np.random.default_rng(1), np.ones(table.y_true.shape[1], dtype=bool)
    sd = []
    for _ in range(10):
        shared = noise(table, random)
        mixed = [math.sqrt(MODELS) * shared + math.sqrt(1 - MODELS) * noise(table, random) for _ in range(2)]
        first, second = (
            resample(table.y_true, scores(table, np.full(len(every), 0.875), own), replicates).auroc.macro(every)
            for own in mixed
        )
        sd.append((first - second).replicates.std(ddof=1))
    return float(np.mean(sd))


COVERED, PRINTED_POWER, POOLED, LEVEL = (93.0, 97.0), (75.0, 85.0), 6.0, 5.0
"""Goals in percent: range of coverage; range of power at the printed resolvable difference; maximum of false claims
pooled over an axis; maximum of the lower 95 % bound of a setting's false claims."""
GOALS = {True: "met", False: "missed", None: ""}
"""What `is_met` returns -> the word in a CSV file."""


def is_met(rate: Rate) -> bool | None:
    """Return whether a rate meets its goal. None for a rate without a goal: power at 4 standard errors, a single p."""
    if rate.quantity.startswith("coverage"):
        return COVERED[0] <= rate.percent <= COVERED[1]
    if rate.quantity == "power at the resolvable difference":
        return PRINTED_POWER[0] <= rate.percent <= PRINTED_POWER[1]
    if rate.quantity.startswith("false claims") and (":" not in rate.quantity or rate.quantity.endswith("larger p")):
        return rate.percent - 1.96 * rate.error <= LEVEL
    return None


def read_rates(rows: Iterable[Mapping[str, str]]) -> list[Rate]:
    """Return the rates in the rows of simulations.csv."""
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
    """Return the rates that miss their goal."""
    return [rate for rate in rates if is_met(rate) is False]


def pooled(rates: Iterable[Rate]) -> dict[tuple[str, str, str], float]:
    """Return (axis, its value, family) -> mean false claims in percent over the declared settings of the normal model.

    The axes are rows, runs, ratio, spread and design; the families are all pairs and the comparisons with a single row.
    """
    settings = {str(setting): setting for setting in NORMAL}
    percents: dict[tuple[str, str, str], list[float]] = defaultdict(list)
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
                percents[axis, str(value), family].append(rate.percent)
    return {key: float(np.mean(of_key)) for key, of_key in percents.items()}


Job = tuple[str, Callable[[], Sequence[Rate]]]
"""Name of a simulation, and the function that runs it."""


def jobs(data: Path, scale: float = 1.0) -> Iterator[Job]:
    """Yield all simulations, the quickest first. `data` is the dataset's folder; `scale` multiplies their number."""
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


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV file of rates; empty if there is no file."""
    return list(csv.DictReader(io.StringIO(read_bytes(path).decode()))) if path.exists() else []


def what_is_left(declared: Iterable[str], rows: Iterable[Mapping[str, str]], key: str, version: str) -> list[str]:
    """Return the declared simulations that the column `key` of these rows lacks by this version of the rules."""
    done = {row[key] for row in rows if row["version"] == version}
    return [name for name in declared if name not in done]


def resume(
    path: Path,
    version: str,
    declared: Mapping[str, Callable[[], Sequence[Rate]]],
    key: str,
    is_met: Callable[[Rate], bool | None],
    only: str = "",
) -> None:
    """Run the simulations that a CSV file lacks; write and print the rates of each as soon as they are known.

    The column `key` has the names of the simulations. Rates of the same `version` are kept. Rates of another one are
    kept until they are simulated anew, and removed if their simulation is no longer declared. `only` chooses the
    simulations whose names begin with it. `is_met` says whether a rate meets its goal.
    """
    rows = [row for row in read_rows(path) if row[key] in declared]
    columns = dict.fromkeys([*(column.name for column in fields(Rate)), "goal", key, "version"])
    for name in what_is_left(declared, rows, key, version):
        if not name.startswith(only):
            continue
        rates = declared[name]()
        rows = [row for row in rows if row[key] != name]
        rows += [{**asdict(rate), "goal": GOALS[is_met(rate)], key: name, "version": version} for rate in rates]
        table = io.StringIO()
        writer = csv.DictWriter(table, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, table.getvalue())
        for rate in rates:
            print(*asdict(rate).values(), sep=" | ", flush=True)


def main(data: Path, folder: Path, scale: float = 1.0, only: str = "") -> None:
    """Say which simulations are left, and run them: see `resume`. Rates are written to <folder>/simulations.csv.

    `only` chooses the simulations whose names begin with it. If there are none, as with `-`, nothing is run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, declared = folder / SIMULATIONS, dict(jobs(data, scale))
    left = what_is_left(declared, read_rows(path), "job", VERSION)
    kinds = Counter(job.partition(" | ")[0] for job in left)
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    print(f"{len(left)} of {len(declared)} simulations are left{counts and ': '}{counts}", file=sys.stderr, flush=True)
    resume(path, VERSION, declared, "job", is_met, only)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float((sys.argv[3:] or ["1"])[0]), *sys.argv[4:5])
