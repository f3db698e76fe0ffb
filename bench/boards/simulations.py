"""Do the intervals cover what is true, and do comparisons claim what is not there? Scores of known quality tell.

The labels and patients are those of a real fold 10; the scores are drawn, normal among the negatives and among the
positives of each label, so that the true AUROC is known. Records of a patient resemble each other, labels too, and
compared models err together. `make simulations` measures and writes leaderboards/simulations.csv.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from bench.boards.comparisons import ALPHA, Comparison, ScoredRow, ScoredRun, compare_pairs
from bench.data.datasets import load_records
from bench.data.splits import TEST_FOLD
from bench.data.tasks import PUBLISHED_TASKS, LabelTable, find_task, label_table
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Draws, Interval, draw, resample, summarize
from bench.evaluation.compare import holm
from bench.evaluation.metrics import Floats
from bench.evaluation.placements import summarize_all_labels
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
NUM_DRAWS = 400


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


def rate(task: str, quantity: str, setting: str, happened: Sequence[bool]) -> Rate:
    """The share in percent; its error is never 0, as of none in n there might have been one."""
    share = float(np.mean(happened))
    bounded = min(max(share, 1 / len(happened)), 1 - 1 / len(happened))
    error = 100 * math.sqrt(bounded * (1 - bounded) / len(happened))
    return Rate(task, quantity, setting, round(100 * share, 2), round(error, 2), len(happened))


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
    draws = draw(table.patient_id, table.y_true, NUM_DRAWS, seed)
    random = np.random.default_rng(seed)
    covered: dict[str, list[bool]] = {"AUROC": [], "AP": []}
    for start in range(0, num_simulations, block):
        auroc = random.uniform(0.80, 0.98, len(every))
        found: dict[str, list[Interval]] = {"AUROC": [], "AP": []}
        for _ in range(min(block, num_simulations - start)):
            resampled = resample(table.y_true, scores(table, auroc, noise(table, random)), draws)
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
            found = summarize_all_labels(table.patient_id, table.y_true, [[y_score]]).interval
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
    draws = draw(table.patient_id, table.y_true, 2, seed)  # no p depends on them
    random = np.random.default_rng(seed)
    claimed: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for _ in range(num_simulations):
        models = equal_models(table, setting, random)
        rows = {f"model {at}": _row(table, runs, draws) for at, runs in enumerate(models)}
        found = compare_pairs(rows, list(itertools.combinations(rows, 2)), 0.005, table, num_permutations=1000)
        against_one = [one for one in found if one.first == "model 0"]
        for family, chosen in ((f"all {len(found)} pairs", found), (f"{len(against_one)} against one", against_one)):
            for rule, p_of in RULES.items():
                claimed[family, rule].append(bool((holm([p_of(one) for one in chosen]) <= ALPHA).any()))
    return [
        rate(truth.task, f"false claims among {NUM_MODELS} equal models, {family}: {rule}", setting, happened)
        for (family, rule), happened in claimed.items()
    ]


def _row(table: LabelTable, runs: Sequence[Floats], draws: Draws) -> ScoredRow:
    return {(0, seed): ScoredRun(y_score, resample(table.y_true, y_score, draws)) for seed, y_score in enumerate(runs)}


def every_third_label(truth: LabelTable) -> LabelTable:
    """The frequent labels thinned by their number of positives: as telling about comparisons, and faster."""
    positives = truth.y_true.sum(axis=0)
    order = [at for at in np.argsort(positives, kind="stable") if metrics.frequent(truth.y_true)[at]][::3]
    return replace(truth, y_true=truth.y_true[:, order], labels=tuple(truth.labels[at] for at in order))


def simulate(data: Path, scale: float = 1.0) -> Iterator[Rate]:
    """All rates on the fold 10 of the dataset in `data`; `scale` shortens the simulations."""
    records = load_records(data)
    tables = {task: label_table(records, find_task(task)) for task in PUBLISHED_TASKS}
    tests = {task: table.select(table.strat_fold == TEST_FOLD) for task, table in tables.items()}
    for truth in tests.values():
        yield from coverage(truth, int(1000 * scale))
    for truth in tests.values():
        if not metrics.frequent(truth.y_true)[metrics.defined(truth.y_true)].all():
            for setting in AUROCS:
                yield coverage_of_all(truth, setting, int(1000 * scale))
    for setting in EQUAL:
        yield from false_positives(every_third_label(tests["form"]), setting, int(2000 * scale))


def main(data: Path, folder: Path, scale: float = 1.0) -> None:
    """Write <folder>/simulations.csv, each row as soon as it is known, and print it."""
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = [one.name for one in fields(Rate)]
    writer.writerow(names)
    for found in simulate(data, scale):
        row = [getattr(found, name) for name in names]
        writer.writerow(row)
        write_whole(folder / SIMULATIONS, table.getvalue())
        print(*row, sep=" | ", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:]))
