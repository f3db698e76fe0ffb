"""The page *Which way of adapting is best?*, computed anew by code of its own on NumPy and SciPy.

Nothing is imported of bench: what the page prints is compared with what follows from the published predictions, the
dataset's two tables, the boards' TOML files and section 12 of leaderboards/PROTOCOL.md, whose sentences are cited by
number. Estimates agree to the last printed digit, what rests on redrawn runs and patients within its Monte Carlo error,
and the mixed model, here by another grid, within 4 % of an interval's width. Designs that no published run has (crossed
draws and seeds, further tasks, draws with unequal numbers of seeds) are made of random numbers, and the product
computes them in a process of its own. Each mutant is the product with a rule broken; the same comparison must fail.
"""

from __future__ import annotations

import csv
import functools
import itertools
import json
import math
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq, isotonic_regression
from scipy.special import gammaln
from scipy.stats import norm

Array = NDArray[Any]
Place = tuple[int, int]
"""(draw, seed)"""
PUBLISHED = runpy.run_path(str(Path(__file__).with_name("test_published.py")))
"""Labels, placements, Holm and tables are those of the boards; test files import no other."""
folds_of, placements, holm, tables_in = (PUBLISHED[name] for name in ("folds_of", "placements", "holm", "tables_in"))
power = PUBLISHED["power"]
HOME: Path = PUBLISHED["LEADERBOARDS"] / PUBLISHED["DATASET"]
THEIRS, OWN = 4_000, 8_000
"""Replicates of sentence 73 and of this file."""
EXACT = 1e-9
ERRORS = 4
"""Monte Carlo standard errors by which shares of replicates may differ; quantiles follow from it."""
WIDTH = 0.04
"""Share of an interval's width by which two grids over the mixed model's posterior may differ."""
PRIMARY = "lpft-sd minus ft"

pytestmark = pytest.mark.slow


# runs and studies, sentences 69 and 70


@dataclass(frozen=True, eq=False)
class Run:
    """A published run, by what section 12 needs of it."""

    task: str
    share: float
    place: Place
    stream: Place
    """Runs of a task with one stream share their random numbers: sentence 10."""
    backbone: str
    start: str
    """First weights; `random` where they are drawn anew."""
    method: str
    searched: bool
    num_records: int
    auroc: float
    """Macro AUROC over frequent labels."""
    influence: Array
    """[patient of fold 10] of that macro AUROC."""

    @property
    def name(self) -> str:
        return self.method.partition("(")[0]


def runs_of(data: Path, results: Path) -> list[Run]:
    """All published runs of the backbones that have a run of `ft`."""
    documents = {path.parent: json.loads(path.read_text()) for path in sorted(results.glob("*/*/result.json"))}
    backbones = {one["cell"]["arch"] for one in documents.values() if one["method"]["name"] == "ft"}
    people = pd.read_csv(data / "ptbxl_database.csv")
    patients = np.unique(people["patient_id"][people["strat_fold"] == 10])
    folds = functools.cache(lambda task: folds_of(data, task)[10])
    return [
        run_of(folder, document, folds(document["cell"]["task"]), patients)
        for folder, document in documents.items()
        if document["cell"]["arch"] in backbones
    ]


def run_of(folder: Path, document: Mapping[str, Any], fold: Any, patients: Array) -> Run:
    """Sentence 73: the influence of patients is DeLong's, summed over their records."""
    columns = np.flatnonzero(fold.frequent)
    with np.load(folder / "predictions.npz", allow_pickle=False) as file:
        at = {ecg_id: row for row, ecg_id in enumerate(file["ecg_id_fold10"].tolist())}
        rows, labels = [at[ecg_id] for ecg_id in fold.ecg_id.tolist()], list(file["labels"])
        scores = file["logits_fold10"][rows][:, [labels.index(fold.labels[k]) for k in columns]].astype(np.float64)
    truth = fold.truth[:, columns]
    placed = np.stack([placements(truth[:, k], scores[:, k]) for k in range(len(columns))], axis=1)
    positives = truth.sum(axis=0)
    aurocs = (placed * truth).sum(axis=0) / positives
    size = np.where(truth, positives, len(truth) - positives)
    of_record = ((placed - aurocs) / np.sqrt(size * (size - 1))).mean(axis=1)
    influence = np.bincount(np.searchsorted(patients, fold.people["patient_id"]), of_record, len(patients))
    cell = document["cell"]
    draw, seed = cell["draw"], cell["seed"]
    stream = (0, seed) if cell.get("streams", "seed") == "seed" or draw == 0 else (draw, seed)
    backbone = cell["arch"] if cell["precision"] in ("float32", None) else f"{cell['arch']}, {cell['precision']}"
    return Run(
        cell["task"],
        cell["fraction"],
        (draw, seed),
        stream,
        backbone,
        document["init"]["name"],
        cell["method"],
        "search" in document,
        document["split"]["train_records"],
        float(aurocs.mean()),
        influence,
    )


Arm = tuple[str, bool]
"""Method, and whether it started from random weights."""
FT, LPFT, FT_SD, LPFT_SD = (("ft", False), ("lpft", False), ("ft-sd", False), ("lpft-sd", False))
WITH_BOTH: dict[str, dict[Arm, float]] = {
    "lpft-sd minus lpft": {LPFT_SD: 1.0, LPFT: -1.0},
    "lpft-sd minus ft-sd": {LPFT_SD: 1.0, FT_SD: -1.0},
}
STEPS: dict[str, dict[Arm, float]] = {"lpft-sd minus ft-long": {LPFT_SD: 1.0, ("ft-long", False): -1.0}}
FACTORS: dict[str, dict[Arm, float]] = {
    "a probe before fine-tuning": {LPFT: 0.5, LPFT_SD: 0.5, FT: -0.5, FT_SD: -0.5},
    "stochastic depth": {FT_SD: 0.5, LPFT_SD: 0.5, FT: -0.5, LPFT: -0.5},
    "pre-training": {FT: 0.5, LPFT_SD: 0.5, ("ft", True): -0.5, ("lpft-sd", True): -0.5},
}
"""Sentence 72."""


@dataclass(frozen=True, eq=False)
class Study:
    recipe: str
    backbone: str
    suffix: str
    """The first weights, where they distinguish the study."""
    starts: Mapping[str, str]
    """Task -> first weights"""
    cells: Mapping[tuple[str, float, Arm], Mapping[Place, Run]]
    labels: Mapping[str, str]
    """First weights -> the name that people gave them."""
    letter: str = ""
    """Its name on the page."""

    @property
    def name(self) -> str:
        return f"{self.backbone}, {self.recipe}{self.suffix}"

    @property
    def words(self) -> str:
        return f"study {self.letter}: {self.name}"

    @property
    def contrasts(self) -> dict[str, dict[Arm, float]]:
        names = sorted({name for _, _, (name, random) in self.cells if not random} - {"ft"})
        return {f"{name} minus ft": {(name, False): 1.0, FT: -1.0} for name in names} | WITH_BOTH | STEPS | FACTORS

    def common(self, task: str, shares: Sequence[float], arms: Iterable[Arm]) -> list[Place]:
        return sorted(set.intersection(*(set(self.cells.get((task, f, arm), ())) for f in shares for arm in arms)))

    def block(self, arms: Sequence[Arm], tasks: Sequence[str] = ()) -> tuple[tuple[float, ...], dict[str, list[Place]]]:
        """Sentence 71: shares, and task -> places."""
        tasks = tasks or sorted({task for task, _, arm in self.cells if arm in arms})
        shares = sorted({share for _, share, arm in self.cells if arm in arms})
        blocks = []
        for chosen in itertools.chain.from_iterable(itertools.combinations(shares, n + 1) for n in range(len(shares))):
            places = {task: common for task in tasks if (common := self.common(task, chosen, arms))}
            blocks.append((len(chosen) * sum(map(len, places.values())), len(places), len(chosen), chosen, places))
        *_, chosen, places = max(blocks, key=lambda block: block[:3])
        return chosen, places

    def units(
        self, columns: Sequence[Mapping[tuple[Arm, float], float]], places: Mapping[str, Sequence[Place]]
    ) -> Units:
        """Units whose columns are weighted sums of rows, each (arm, share)."""
        values: dict[tuple[str, Place], Array] = {}
        streams: dict[tuple[str, Place], Place] = {}
        influence = {}
        for task, of_task in places.items():
            influences = {}
            for place in of_task:
                runs = {key: self.cells[task, key[1], key[0]][place] for column in columns for key in column}
                sums = [[w * runs[key].auroc for key, w in column.items()] for column in columns]
                values[task, place] = np.array([sum(one) for one in sums])
                influences[place] = np.array(
                    [sum(w * runs[key].influence for key, w in column.items()) for column in columns]
                )
                streams[task, place] = min(run.stream for run in runs.values())
            influence[task] = mean_of(influences)
        return Units(values, streams, influence)

    def contrast_units(self, contrast: Mapping[Arm, float], shares: Sequence[float], tasks: Sequence[str]) -> Units:
        column = {(arm, share): w / len(shares) for arm, w in contrast.items() for share in shares}
        return self.units([column], {task: self.common(task, shares, list(contrast)) for task in tasks})


def mean_of(values: Mapping[Place, Any]) -> Any:
    """The mean over draws of the means over their seeds."""
    draws = sorted({draw for draw, _ in values})
    return np.mean([np.mean([v for (draw, _), v in values.items() if draw == one], axis=0) for one in draws], axis=0)


def studies_of(runs: Sequence[Run]) -> list[Study]:
    """Sentences 69 and 70. A default that won a search is reported and tuned."""
    labels = {
        name: label
        for path in HOME.glob("*.toml")
        for name, label in tomllib.loads(path.read_text()).get("labels", {}).items()
    }
    tuned = {(run.backbone, run.start, run.method) for run in runs if run.searched}
    grouped: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        recipes = ["tuned"] * ((run.backbone, run.start, run.method) in tuned) + ["defaults"] * ("(" not in run.method)
        for recipe in recipes or ["set by hand"]:
            grouped.setdefault((run.backbone, recipe), []).append(run)
    studies = []
    for (backbone, recipe), group in grouped.items():
        settings: dict[tuple[str, float, str, str], set[str]] = {}
        for run in group:
            settings.setdefault((run.task, run.share, run.start, run.name), set()).add(run.method)
        group = [run for run in group if len(settings[run.task, run.share, run.start, run.name]) == 1]
        sizes: dict[str, dict[str, int]] = {}
        for run in group:
            if run.start != "random":
                of_task = sizes.setdefault(run.task, {})
                of_task[run.start] = of_task.get(run.start, 0) + 1
        order = {task: sorted(of_task, key=lambda start: (-of_task[start], start)) for task, of_task in sizes.items()}
        for place in range(max(map(len, order.values()), default=0)):
            starts = {task: of_task[place] for task, of_task in order.items() if place < len(of_task)}
            cells: dict[tuple[str, float, Arm], dict[Place, Run]] = {}
            for run in group:
                if run.start in ("random", starts.get(run.task)):
                    cells.setdefault((run.task, run.share, (run.name, run.start == "random")), {})[run.place] = run
            compared = {task for task, _, arm in cells if arm == FT}
            several = dict.fromkeys(
                labels.get(start, start) for task, start in starts.items() if len(order[task]) > 1 and task in compared
            )
            suffix = f", from {' and '.join(several)}" if several else ""
            studies.append(Study(recipe, backbone, suffix, starts, cells, labels))
    return [study for study in studies if any(paired(study, one) for one in study.contrasts.values())]


def paired(study: Study, contrast: Mapping[Arm, float]) -> bool:
    return all(any(arm == other for *_, other in study.cells) for arm in contrast) and bool(study.block([*contrast])[1])


# both ways, sentences 73 to 75


@dataclass(frozen=True, eq=False)
class Units:
    """Values of runs, or of their differences."""

    values: Mapping[tuple[str, Place], Array]
    """[column]"""
    streams: Mapping[tuple[str, Place], Place]
    influence: Mapping[str, Array]
    """[column, patient] of the mean of a task."""

    def of(self, task: str) -> dict[Place, Array]:
        return {place: value for (name, place), value in self.values.items() if name == task}

    @property
    def means(self) -> dict[str, Array]:
        return {task: mean_of(self.of(task)) for task in self.influence}

    def clusters(self, kind: str) -> dict[str, dict[Any, list[Place]]]:
        """Task -> draw or stream -> its places."""
        clusters: dict[str, dict[Any, list[Place]]] = {task: {} for task in self.influence}
        for (task, place), stream in self.streams.items():
            clusters[task].setdefault(place[0] if kind == "draw" else stream, []).append(place)
        return clusters

    @property
    def kinds(self) -> list[str]:
        """What is redrawn within tasks; crossed is a design where a stream stands in several draws."""
        crossed = any(
            len({draw for draw, _ in of}) > 1 for task in self.clusters("stream").values() for of in task.values()
        )
        several = any(len(of_task) > 1 for of_task in self.clusters("draw").values())
        return ["draw", "stream"] if crossed else ["draw"] if several else ["stream"]

    @property
    def freedom(self) -> int:
        return min(sum(len(of_task) - 1 for of_task in self.clusters(kind).values()) for kind in self.kinds)


@functools.cache
def redrawn_patients(num_patients: int) -> Array:
    """[replicate, patient] how much more or less often than once."""
    random = np.random.default_rng(20_261_129)
    counts = random.multinomial(num_patients, np.full(num_patients, 1 / num_patients), size=OWN)
    return np.asarray(counts - 1, dtype=np.float32)


def redraw(units: Units, further_tasks: bool = False) -> Array:
    """[replicate, column] sentences 73 and 74."""
    random = np.random.default_rng(12)
    tasks = list(units.influence)
    means = np.array([units.means[task] for task in tasks])
    counts = redrawn_patients(units.influence[tasks[0]].shape[1])
    of_patients = np.array([counts @ units.influence[task].T.astype(np.float32) for task in tasks])
    known = len(tasks) - 1 if further_tasks else units.freedom
    factor = np.sqrt(known / random.chisquare(known, OWN))[:, None] if known else 0.0
    if further_tasks:
        picks = random.integers(len(tasks), size=(OWN, len(tasks)))
        deviation = (means - means.mean(axis=0)) * math.sqrt(len(tasks) / (len(tasks) - 1))
        patients = np.mean([of_patients[picks[:, k], np.arange(OWN)] for k in range(len(tasks))], axis=0)
        return np.asarray(means.mean(axis=0) + factor * deviation[picks].mean(axis=1) + patients)
    error = np.zeros((OWN, means.shape[1]))
    for kind in units.kinds if known else ():
        clusters = units.clusters(kind)
        pool = np.array([one for task, of_task in clusters.items() for one in deviations(units.of(task), of_task)])
        for of_task in clusters.values():
            error += pool[random.integers(len(pool), size=(OWN, len(of_task)))].mean(axis=1) / len(tasks)
    return np.asarray(means.mean(axis=0) + factor * error + of_patients.mean(axis=0))


def deviations(values: Mapping[Place, Array], clusters: Mapping[Any, Sequence[Place]]) -> list[Array]:
    """Of a task's draws or seeds from its mean, scaled; each run has the weight that it has in the mean."""
    num, draws = len(clusters), [draw for draw, _ in values]
    if num < 2:
        return []
    weighted = {
        place: (value - mean_of(values)) / len(set(draws)) / draws.count(place[0]) for place, value in values.items()
    }
    scale = num * math.sqrt(num / (num - 1))
    return [scale * np.sum([weighted[place] for place in places], axis=0) for places in clusters.values()]


@dataclass(frozen=True)
class Belief:
    """One way's answer: ranges in which the product's numbers must lie."""

    value: tuple[float, float]
    low: tuple[float, float]
    high: tuple[float, float]
    above: tuple[float, float]
    """Probability of being above 0."""
    above_margin: tuple[float, float]

    @property
    def p(self) -> tuple[float, float]:
        ends = [2 * min(chance, 1 - chance) for chance in self.above]
        return min(ends), 1.0 if self.above[0] < 0.5 < self.above[1] else max(ends)


def first_way(replicates: Array, value: float, margin: float) -> Belief:
    """Ranges by the Monte Carlo errors of both: those of a quantile are quantiles of neighbouring levels."""
    spread = ERRORS * math.sqrt(1 / THEIRS + 1 / OWN)

    def bound(level: float) -> tuple[float, float]:
        reach = spread * math.sqrt(level * (1 - level))
        low, high = np.quantile(replicates, [level - reach, level + reach])
        return float(low), float(high)

    def share(level: float) -> tuple[float, float]:
        chance = float((replicates > level).mean())
        reach = spread * math.sqrt(max(chance * (1 - chance), 1 / THEIRS)) + 1 / THEIRS
        return max(chance - reach, 0.0), min(chance + reach, 1.0)

    return Belief((value - EXACT, value + EXACT), bound(0.025), bound(0.975), share(0), share(margin))


SCALES = {"task": 0.05, "draw": 0.02, "stream": 0.02, "rest": 0.02}
NODES = {1: 400, 2: 60, 3: 22, 4: 12}


def second_way(units: Units, margin: float, further_tasks: bool = False) -> Belief | None:
    """Sentence 75: the posterior as a mixture of normal distributions, by a grid on which the priors are uniform.

    A half-Cauchy standard deviation is scale x tan(angle), its angle uniform from 0 to pi / 2; u with
    angle = pi / 2 x u^2 puts more nodes at small ones.
    """
    tasks, keys = list(units.influence), list(units.values)
    if not (units.freedom or (further_tasks and len(tasks) > 1)):
        return None
    y = np.array([units.values[key][0] for key in keys])
    patients = np.array([units.influence[task][0] for task in tasks])
    covariance = patients @ patients.T
    of_task = np.array([[float(task == name) for name in tasks] for task, _ in keys])
    groups: dict[str, list[Any]] = {"task": [task for task, _ in keys]} if further_tasks else {}
    groups["draw"] = [(task, draw) for task, (draw, _) in keys]
    groups["stream"] = [(task, units.streams[task, place]) for task, place in keys]
    groups["rest"] = list(keys)
    parts: dict[str, Array] = {}
    for name, of_run in groups.items():
        same = np.array([[float(one == other) for other in of_run] for one in of_run])
        # an effect that is that of the task, or another's, cannot be estimated
        is_new = not any(np.array_equal(same, other) for other in (of_task @ of_task.T, *parts.values()))
        if name == "task" or is_new:
            parts[name] = same
    num = NODES[len(parts)]
    u = (np.arange(num) + 0.5) / num
    angles = np.array(list(itertools.product(u, repeat=len(parts))))
    sds = np.tan(math.pi / 2 * angles**2) * [SCALES[name] for name in parts]
    fixed = np.ones((len(y), 1)) if further_tasks else of_task
    known = of_task @ covariance @ of_task.T if further_tasks else np.zeros((len(y), len(y)))
    center, variance, log_weight = np.empty((3, len(sds)))
    for start in range(0, len(sds), 1000):
        some = slice(start, start + 1000)
        matrix = known + 1e-12 * np.eye(len(y)) + np.tensordot(sds[some] ** 2, np.array([*parts.values()]), axes=1)
        inverse = np.linalg.inv(matrix)
        information = fixed.T @ inverse @ fixed
        spread = np.linalg.inv(information)
        effects = spread @ (fixed.T @ (inverse @ y)[..., None])
        rest = y - (fixed @ effects)[..., 0]
        center[some], variance[some] = effects.mean(axis=(1, 2)), spread.mean(axis=(1, 2))
        squares = np.einsum("ni,nij,nj->n", rest, inverse, rest)
        log_weight[some] = -(np.linalg.slogdet(matrix)[1] + np.linalg.slogdet(information)[1] + squares) / 2
    weight = np.exp(log_weight - log_weight.max()) * angles.prod(axis=1)
    weight /= weight.sum()
    error = np.sqrt(variance + (0.0 if further_tasks else covariance.sum() / len(tasks) ** 2))

    def below(value: float) -> float:
        return float(weight @ norm.cdf((value - center) / error))

    middle = float(weight @ center)
    low, high = (brentq(lambda x, q=q: below(x) - q, middle - 3, middle + 3, xtol=1e-9) for q in (0.025, 0.975))
    reach, shift = WIDTH * (high - low), WIDTH * (high - low) / 2

    def range_of(level: float) -> tuple[float, float]:
        return max(1 - below(level + shift) - 0.001, 0.0), min(1 - below(level - shift) + 0.001, 1.0)

    spans = [(one - reach, one + reach) for one in (middle, low, high)]
    return Belief(*spans, range_of(0), range_of(margin))


# claims, sentences 76 to 78

BETTER, BY_MARGIN, WORSE, EQUAL = "better", "better by more than the margin", "worse", "practically equal"
UNSETTLED, DISAGREE = "not settled", "not settled: the two ways disagree"
ALONE, FEW = "of one board alone", "not a statement about methods: fewer than three runs a task"


def claim(ways: Sequence[tuple[float, float]], p: float, margin: float) -> str:
    """What the intervals of both ways and the p after Holm support."""
    if all(-margin < low and high < margin for low, high in ways):
        return EQUAL
    each = [
        BY_MARGIN if low > margin else BETTER if low > 0 else WORSE if high < 0 else UNSETTLED for low, high in ways
    ]
    if p > 0.05 and UNSETTLED not in each:
        return UNSETTLED
    if set(each) == {BETTER, BY_MARGIN}:
        return BETTER
    return each[0] if len(set(each)) == 1 else DISAGREE


@dataclass(frozen=True, eq=False)
class Answer:
    """What the runs of a study say of a contrast."""

    contrast: Mapping[Arm, float]
    shares: tuple[float, ...]
    places: Mapping[str, Sequence[Place]]
    units: Units
    ways: tuple[Belief, Belief | None]
    margin: float

    @property
    def is_few(self) -> bool:
        return is_few(self.ways, self.units.freedom + 1)

    @property
    def is_alone(self) -> bool:
        return len(self.places) * len(self.shares) == 1

    @property
    def is_tested(self) -> bool:
        return not (self.is_few or self.is_alone)

    @property
    def p(self) -> tuple[float, float]:
        """The larger p of both ways."""
        known = [way.p for way in self.ways if way]
        return max(p[0] for p in known), max(p[1] for p in known)

    @property
    def num_draws(self) -> list[int]:
        return sorted(len(of_task) for of_task in self.units.clusters("draw").values())

    @property
    def mark(self) -> str:
        """Sentence 78."""
        return "§" if self.num_draws[0] < 3 and self.shares[0] < 1 else ""

    def claims(self, p: tuple[float, float]) -> set[str]:
        """What may be claimed, given how exactly bounds and p are known."""
        if not self.is_tested:
            return {FEW if self.is_few else ALONE}
        bounds = [itertools.product(way.low, way.high) for way in self.ways if way]
        return {claim(ways, one, self.margin) + self.mark for ways in itertools.product(*bounds) for one in p}


def is_few(ways: Sequence[Belief | None], num_independent: float) -> bool:
    """Sentence 77."""
    return ways[1] is None or num_independent < 3


def both_ways(units: Units, margin: float, further_tasks: bool = False) -> tuple[Belief, Belief | None]:
    redrawn, value = redraw(units, further_tasks)[:, 0], float(np.mean([*units.means.values()]))
    return first_way(redrawn, value, margin), second_way(units, margin, further_tasks)


def answers_of(study: Study, margin: float) -> dict[str, Answer]:
    answers = {}
    for name, contrast in study.contrasts.items():
        if paired(study, contrast):
            shares, places = study.block([*contrast])
            units = study.contrast_units(contrast, shares, [*places])
            answers[name] = Answer(contrast, shares, places, units, both_ways(units, margin), margin)
    return answers


def adjusted(answers: Mapping[str, Answer]) -> dict[str, tuple[float, float]]:
    """Sentence 76: the primary contrast alone, the others by Holm and with at least its p."""
    tested = {name: answer.p for name, answer in answers.items() if answer.is_tested}
    gate = tested.pop(PRIMARY, None)
    ends = [holm([p[end] for p in tested.values()]) for end in (0, 1)]
    least = gate or (0.0, 0.0)
    family = {name: (max(low, least[0]), max(high, least[1])) for name, low, high in zip(tested, *ends, strict=True)}
    return family | ({PRIMARY: gate} if gate else {})


# what the page prints


def inside(shown: float, span: tuple[float, float], half_digit: float, what: str) -> None:
    assert span[0] - half_digit <= shown <= span[1] + half_digit, f"{what}: {shown}, expected {span}"


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


WAY = re.compile(r"([+−]\d\.\d{4}) \(([+−]\d\.\d{3}) to ([+−]\d\.\d{3})\)(, not converged)?")
ALONE_VALUE = re.compile(r"[+−]\d\.\d{4}")
"""How the page prints a difference of fewer than three runs: without interval (sentence 77)."""


def check_way(cell: str, way: Belief | None, what: str) -> None:
    if way is None:
        assert cell == "–", what
        return
    shown = WAY.fullmatch(cell)
    assert shown, f"{what}: {cell}"
    inside(number(shown[1]), way.value, 0.5e-4, f"{what}, estimate")
    inside(number(shown[2]), way.low, 0.5e-3, f"{what}, low")
    inside(number(shown[3]), way.high, 0.5e-3, f"{what}, high")


def check_chance(cell: str, spans: Sequence[tuple[float, float]], what: str) -> None:
    """The least of the probabilities that lie in these ranges."""
    least = min(span[0] for span in spans), min(span[1] for span in spans)
    low, high = shown_chance(cell)
    assert low <= least[1] and least[0] <= high, f"{what}: {cell}, expected {least}"


def check_direction(cell: str, spans: Sequence[tuple[float, float]], what: str) -> None:
    """The one nearest to one half of the probabilities that lie in these ranges."""
    shown = shown_chance(cell)
    assert any(shown[0] <= high and low <= shown[1] for low, high in spans), f"{what}: {cell}, expected one of {spans}"
    distances = [from_half(span) for span in spans]
    nearest = min(least for least, _ in distances), min(most for _, most in distances)
    least, most = from_half(shown)
    assert least <= nearest[1] and nearest[0] <= most, f"{what}: {cell}, expected {nearest} from one half"


def from_half(span: tuple[float, float]) -> tuple[float, float]:
    """The least and the largest distance of a range from one half."""
    ends = sorted(abs(end - 0.5) for end in span)
    return (0.0 if span[0] <= 0.5 <= span[1] else ends[0]), ends[1]


def shown_chance(cell: str) -> tuple[float, float]:
    """The probabilities that are printed so."""
    if cell.startswith(("more", "less")):
        return (0.999, 1.0) if cell.startswith("more") else (0.0, 0.001)
    value = float(cell.removesuffix(" %")) / 100
    return value - 0.5e-3, value + 0.5e-3


def check_numbers(cells: Sequence[str], ways: Sequence[Belief | None], num_independent: float, what: str) -> None:
    """Cells `redrawn` to `P(by margin)` of a row of the evidence; of few runs the value alone, sentence 77."""
    if ways[0] and is_few(ways, num_independent):
        assert ALONE_VALUE.fullmatch(cells[0]) and {*cells[1:]} == {"–"}, f"{what}: {cells}"
        inside(number(cells[0]), ways[0].value, 0.5e-4, f"{what}, estimate")
        return
    for cell, way in zip(cells, ways, strict=False):
        check_way(cell, way, what)
    known = [way for way in ways if way]
    check_direction(cells[2], [way.above for way in known], f"{what}, P(better)")
    check_chance(cells[3], [way.above_margin for way in known], f"{what}, P(by margin)")


def percent(shares: Sequence[float]) -> str:
    return "all" if tuple(shares) == (1.0,) else f"{listed([f'{100 * share:.3g}' for share in shares])} %"


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def section(page: str, heading: str) -> list[str]:
    """The lines of a section."""
    assert page.count(f"\n## {heading}\n") == 1, heading
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].partition("\n<details>")[0].splitlines()


def check_evidence(page: str, study: Study, answers: Mapping[str, Answer], margin: float) -> int:
    """Every number of a study's table, and the sentences about its contrasts; returns the contrasts compared."""
    folded = page.partition(f"<summary>The evidence of {study.words}</summary>")[2].partition("</details>")[0]
    table = next(table for table in tables_in(folded) if table[0][0] == "contrast")
    groups: list[list[list[str]]] = []
    for row in table[2:]:
        if row[0]:
            groups.append([])
        groups[-1].append(row)
    assert [group[0][0] for group in groups] == [*answers], f"{study.words}: contrasts"
    ps = adjusted(answers)
    for group, (name, answer) in zip(groups, answers.items(), strict=True):
        what = f"{study.words}: {name}"
        _, where, pairs, *numbers, p, claimed = group[0]
        assert where == f"{listed([*answer.places])}; {percent(answer.shares)}", what
        assert int(pairs) == len(answer.shares) * sum(map(len, answer.places.values())), what
        check_numbers(numbers, answer.ways, answer.units.freedom + 1, what)
        if name in ps:
            shown, _, role = p.rpartition(" ")
            assert role == ("(primary)" if name == PRIMARY else "(family)"), what
            span = (0.0, 0.001) if shown == "< 0.001" else (float(shown) - 0.5e-3, float(shown) + 0.5e-3)
            assert span[0] <= ps[name][1] and ps[name][0] <= span[1], f"{what}: p {p}, expected {ps[name]}"
        else:
            assert p == "–", what
        allowed = answer.claims(ps.get(name, (1.0, 1.0)))
        assert claimed in allowed, f"{what}: {claimed}, expected {allowed}"
        check_parts(group[1:], study, answer, margin, what)
        check_sentence(page, study, name, answer, {one[0][0]: one[0] for one in groups}, group[1:])
    starts = {task: study.starts[task] for answer in answers.values() for task in tasks_of(study, answer)}
    starts = {task: study.labels.get(start, start) for task, start in starts.items()}
    assert f"First weights: {'; '.join(f'{task}: {starts[task]}' for task in sorted(starts))}." in folded
    return len(groups)


def tasks_of(study: Study, answer: Answer) -> list[str]:
    """The tasks with a pair of runs, in the block or not."""
    tasks = sorted({task for task, _, arm in study.cells if arm in answer.contrast})
    return [task for task in tasks if study.block([*answer.contrast], [task])[1]]


def tasks_by_share(study: Study, answer: Answer) -> dict[float, list[str]]:
    """Share -> the tasks with a pair of runs at it."""
    shares = sorted({share for _, share, arm in study.cells if arm in answer.contrast})
    tasks = tasks_of(study, answer)
    having = {share: [task for task in tasks if study.common(task, [share], answer.contrast)] for share in shares}
    return {share: of_share for share, of_share in having.items() if of_share}


def check_parts(rows: Sequence[Sequence[str]], study: Study, answer: Answer, margin: float, what: str) -> None:
    """The rows of further tasks, of each task at the claim's shares, and of each share, from their own runs alone."""
    expected: dict[str, tuple[Units, bool]] = {}
    if len(answer.places) >= 3:
        expected["tasks like these"] = answer.units, True
    tasks = tasks_of(study, answer)
    for task in tasks if len(tasks) > 1 else ():
        shares = answer.shares if task in answer.places else study.block([*answer.contrast], [task])[0]
        units = study.contrast_units(answer.contrast, shares, [task])
        expected[f"{task}; {percent(shares)}"] = units, False
    having = tasks_by_share(study, answer)
    for share, of_share in having.items():
        if len(having) > 1 and (of_share, [share]) != ([*answer.places], [*answer.shares]):
            units = study.contrast_units(answer.contrast, [share], of_share)
            expected[f"{listed(of_share)}; {percent([share])}"] = units, False
    assert [row[1] for row in rows] == [*expected], what
    for row, (units, further_tasks) in zip(rows, expected.values(), strict=True):
        known = len(units.means) if further_tasks else units.freedom + 1
        check_numbers(row[3:7], both_ways(units, margin, further_tasks), known, f"{what}, {row[1]}")


HEADINGS = {
    PRIMARY: "Is a linear probe, then fine-tuning with stochastic depth (`lpft-sd`) better than `ft`?",
    "lpft-sd minus ft-long": "Is `lpft-sd` better than fine-tuning of as many steps (`ft-long`)?",
    "a probe before fine-tuning": "Does a linear probe before fine-tuning help?",
    "stochastic depth": "Does stochastic depth help?",
    "pre-training": "Does pre-training help?",
}
LONG = "lpft-sd", "ft-long"
VERDICTS = {
    BETTER: "yes",
    BY_MARGIN: "yes, by more than the margin",
    WORSE: "no, it is worse",
    EQUAL: "it makes no difference that matters",
    UNSETTLED: "not settled",
    DISAGREE: "not settled, the two ways of computing it disagree",
}
PARTS = {
    "a probe before fine-tuning": {
        "lpft minus ft": "without stochastic depth",
        "lpft-sd minus ft-sd": "with it",
    },
    "stochastic depth": {"ft-sd minus ft": "without a probe", "lpft-sd minus lpft": "after one"},
}


def check_sentence(
    page: str,
    study: Study,
    name: str,
    answer: Answer,
    table: Mapping[str, Sequence[str]],
    parts: Sequence[Sequence[str]],
) -> None:
    """The page says in words what the table has: the wider bounds, the claim, its conditions, how consistent it is."""
    if name in WITH_BOTH:
        return
    cells = table[name]
    lines = section(page, HEADINGS.get(name, "And the other methods?"))
    claimed = cells[8].removesuffix("§")
    cases = parts_of_factor(name, table)
    size = size_words(name, cells, claimed) + cases
    verdict = VERDICTS[claimed] if answer.is_tested else ""
    if claimed in (BETTER, BY_MARGIN, WORSE, EQUAL) and re.match(r": \+.* and −|: −.* and \+", cases):
        verdict = "no one answer, its two cases differ in direction"
    if not answer.is_tested:
        (task, *_) = answer.places
        if name not in HEADINGS:
            check_unanswered(page, f"{study.letter}: [{task}]({task}.md), {percent(answer.shares)}", name, cells)
            return
        why = (
            "one task at one share: cite its board's interval"
            if claimed == ALONE
            else "fewer than three runs a task, so no intervals"
        )
        start = f"- **{study.letter}: no answer here**, {why} ([{task}]({task}.md), {percent(answer.shares)}): "
        assert f"{start}{size}.{steps_words(study, name, [task], answer.shares)}" in lines, f"{study.words}: {size}"
        return
    draws, records = answer.num_draws, [run.num_records for run in runs_in(study, answer)]
    low, high = f"{min(records):,}", f"{max(records):,}"
    on, conditions = "", []
    if answer.mark:
        on = " on this subset§" if draws[-1] == 1 else " on these subsets§"
        subsets = "one subset" if draws[-1] == 1 else f"{draws[0]} subsets"
        conditions.append(f"{subsets} of each share ({low if low == high else f'{low} to {high}'} records)")
    starts = len({study.starts[task] for task in answer.places})
    if starts < 3:
        conditions.append("one set of first weights" + " for each task" * (starts > 1))
    p, _, role = cells[7].replace("(", "").replace(")", "").rpartition(" ")
    higher = f"higher in {num_higher(study, answer)} of {cells[2]} pairs of runs"
    if len(answer.places) > 1:
        higher += f" and {sum(mean[0] > 0 for mean in answer.units.means.values())} of {len(answer.places)} tasks"
    expected = (
        f"- **{study.letter}, with {percent(answer.shares)} of the records{on}: {verdict}.** {size}, on "
        f"{listed([*answer.places])}. Better with a probability of {cells[5]} "
        f"(p {p if p.startswith('<') else f'= {p}'}, {role}); {'; '.join([higher, ', '.join(conditions)])}."
    )
    others = [
        f"with {percent([share])}, on {listed(tasks)}, {signed_words(row)}"
        for share, tasks in tasks_by_share(study, answer).items()
        for row in parts
        if share not in answer.shares and row[1] == f"{listed(tasks)}; {percent([share])}"
    ]
    expected += f" Not part of this claim: {'; '.join(others)}." if others else ""
    expected += steps_words(study, name, [*answer.places], answer.shares)
    assert expected in lines, f"{expected} not in {lines}"


def steps_words(study: Study, name: str, tasks: Sequence[str], shares: Sequence[float]) -> str:
    """What is said of the primary contrast where `lpft-sd` has no pair with `ft-long`."""
    cells = [[study.cells.get((task, share, (m, False)), {}) for m in LONG] for task in tasks for share in shares]
    if name != PRIMARY or any(set(first) & set(second) for first, second in cells):
        return ""
    return " Not at equal steps: no run of this study at these shares tells the method from its steps."


def check_unanswered(page: str, column: str, name: str, cells: Sequence[str]) -> None:
    """The folded table of methods with too little for an answer has the difference, and no line claims it."""
    text = page.partition("\n## And the other methods?\n")[2].partition("\n## ")[0]
    head, _, *rows = next(table for table in tables_in(text) if table[0][0] == "minus `ft`")
    method = f"`{name.removesuffix(' minus ft')}`"
    (row,) = [row for row in rows if row[0] == method]
    assert row[head.index(column)] == signed_words(cells), f"{column}: {name}"
    letter, _, _ = column.partition(":")
    claims = [line for line in text.splitlines() if line.startswith(f"- **{letter}, ")]
    assert not [line for line in claims if f"** {method} " in line], f"{column}: {name}"


def parts_of_factor(name: str, table: Mapping[str, Sequence[str]]) -> str:
    """The two effects whose mean a factor is, by their own rows of the table, where they rest on the same runs."""
    parts = {table[part][1:3] == table[name][1:3] and part: where for part, where in PARTS.get(name, {}).items()}
    if len(parts) < 2 or False in parts:
        return ""
    words = [f"{signed_words(table[part])} {where}" for part, where in parts.items()]
    return f": {' and '.join(words)}"


def signed_words(cells: Sequence[str]) -> str:
    """A difference with the wider bounds of both ways; of few runs the value alone."""
    if ALONE_VALUE.fullmatch(cells[3]):
        return cells[3]
    ways = [shown for cell in cells[3:5] if (shown := WAY.fullmatch(cell))]
    low, high = min(number(way[2]) for way in ways), max(number(way[3]) for way in ways)
    return f"{ways[0][1]} ({low:+.3f} to {high:+.3f})".replace("-", "−")


def runs_in(study: Study, answer: Answer) -> Iterator[Run]:
    for arm in answer.contrast:
        for task in answer.places:
            for share in answer.shares:
                yield from study.cells[task, share, arm].values()


def num_higher(study: Study, answer: Answer) -> int:
    return sum(
        sum(w * study.cells[task, share, arm][place].auroc for arm, w in answer.contrast.items()) > 0
        for task, places in answer.places.items()
        for place in places
        for share in answer.shares
    )


def size_words(name: str, cells: Sequence[str], claimed: str) -> str:
    """How the page speaks of a difference: with its direction only where that is claimed."""
    signed = signed_words(cells)
    if " minus " not in name:
        return f"{upper(name)} changes macro AUROC by {signed}"
    first, second = name.split(" minus ")
    if claimed not in (BETTER, BY_MARGIN, WORSE):
        return f"`{first}` minus `{second}` is {signed}"
    ways = [shown for cell in cells[3:5] if (shown := WAY.fullmatch(cell))]
    near, far = sorted((abs(min(number(way[2]) for way in ways)), abs(max(number(way[3]) for way in ways))))
    value = ways[0][1]
    direction = "higher" if value.startswith("+") else "lower"
    return f"`{first}` scores {value[1:]} {direction} than `{second}` ({near:.3f} to {far:.3f})"


# ranks, sentence 79


def ranked_units(study: Study, answers: Mapping[str, Answer]) -> tuple[list[str], Answer, Units]:
    """Methods that have all runs of the primary contrast's block, or else of the largest; a column for each."""
    methods = {name.removesuffix(" minus ft"): answer for name, answer in answers.items() if name.endswith(" minus ft")}
    first = max(methods, key=lambda m: (m == "lpft-sd", len(methods[m].units.values) * len(methods[m].shares)))
    block = methods[first]
    arms = [FT, (first, False)]
    for method in sorted(methods):
        added = [*arms, (method, False)]
        if method != first and all(
            study.common(task, block.shares, added) == list(places) for task, places in block.places.items()
        ):
            arms = added
    columns = [{(arm, share): 1 / len(block.shares) for share in block.shares} for arm in arms]
    return [name for name, _ in arms], block, study.units(columns, block.places)


def check_ranks(page: str, study: Study, answers: Mapping[str, Answer]) -> int:
    """Probabilities of ranks, and which method comes first; returns the methods compared."""
    folded = page.partition(f"<summary>The evidence of {study.words}</summary>")[2].partition("</details>")[0]
    tables = [table for table in tables_in(folded) if table[0][:2] == ["method", "rank 1"]]
    methods, block, units = ranked_units(study, answers)
    known = len(methods) >= 3 and not all(answer.is_few for answer in answers.values())
    assert len(tables) == known
    first = section(page, "Which method comes first?")
    start = f"- {study.letter}, with {percent(block.shares)} of the records: of "
    if not known:
        assert not any(line.startswith(start) for line in first)
        return 0
    replicates = redraw(units)
    ranks = (replicates[:, None, :] > replicates[:, :, None]).sum(axis=2)
    order = np.argsort(-np.mean([*units.means.values()], axis=0), kind="stable")
    rows = tables[0][2:]
    assert [row[0] for row in rows] == [methods[at] for at in order]
    for at, row in zip(order, rows, strict=True):
        for rank, cell in enumerate(row[1:-1]):
            chance = float((ranks[:, at] == rank).mean())
            reach = ERRORS * math.sqrt(max(chance * (1 - chance), 1 / THEIRS) * (1 / THEIRS + 1 / OWN))
            check_chance(cell, [(chance - reach, chance + reach)], f"{study.words}: {row[0]}, rank {rank + 1}")
        below = np.cumsum(np.bincount(ranks[:, at], minlength=len(methods)) / OWN)
        for level, shown in zip((0.025, 0.975), row[-1].split("–"), strict=True):
            reach = ERRORS * math.sqrt(level * (1 - level) * (1 / THEIRS + 1 / OWN))
            ends = [1 + int(np.searchsorted(below, level + sign * reach)) for sign in (-1, 1)]
            assert ends[0] <= int(shown) <= ends[1], f"{study.words}: {row[0]}, {row[-1]}"
    if not block.is_alone:
        names, where = listed([f"`{row[0]}`" for row in rows]), f"on {listed([*block.places])}"
        mark = f", on the subsets at hand{block.mark}" if block.mark else ""
        line = f"{start}{names}, `{rows[0][0]}` comes first with a probability of {rows[0][1]} {where}{mark}."
        assert line in first, line
    return len(rows)


# worth in records, sentence 80


@dataclass(frozen=True)
class Worth:
    tasks: tuple[str, ...]
    share: float
    reason: str
    mark: str = ""
    times: float = 0.0
    """0 below the curve of `ft`, infinite above it."""
    low: tuple[float, float] = (0.0, 0.0)
    high: tuple[float, float] = (0.0, 0.0)
    ends: tuple[float, float] = (0.0, 0.0)
    """The smallest and the largest number of times that the curve has."""


def share_with(values: Array, curves: Array, shares: Sequence[float]) -> Array:
    """[replicate] the share at which curves [replicate, share], straight over its logarithm, have these values."""
    falls = (np.diff(curves, axis=1) <= 0).any(axis=1)
    curves = curves.copy()
    curves[falls] = np.array([isotonic_regression(curve).x for curve in curves[falls]]).reshape(-1, len(shares))
    logs, found = np.log(shares), np.full(len(values), np.inf)
    for left in reversed(range(len(shares) - 1)):
        low, high = curves[:, left], curves[:, left + 1]
        part = (values - low) / np.where(high > low, high - low, np.inf)
        reached = np.exp(logs[left] + np.clip(part, 0, 1) * (logs[left + 1] - logs[left]))
        found = np.where(values <= high, reached, found)
    return np.where(values < curves[:, 0], 0.0, found)


def worths_of(study: Study, method: str, answer: Answer) -> list[Worth]:
    """Each share but the largest, over all tasks of the block and in each."""
    shares, arm = answer.shares, (method, False)
    groups = [tuple(answer.places), *((task,) for task in answer.places if len(answer.places) > 1)]
    worths = []
    for tasks in groups:
        columns = [{(one, share): 1.0} for one in (arm, FT) for share in shares]
        units = study.units(columns, {task: answer.places[task] for task in tasks})
        means = np.mean([*units.means.values()], axis=0)[None]
        reason = ""
        if len(shares) < 3:
            reason = "the baseline has fewer than 3 shares of records with the same runs"
        elif (np.diff(means[0, len(shares) :]) <= 0).any():
            reason = "the baseline's score does not rise with every share of records"
        elif not units.freedom:
            reason = "no run is replicated, so how much runs vary is not known"
        if reason:
            worths += [Worth(tasks, share, reason) for share in shares[: max(len(shares) - 1, 1)]]
            continue
        replicates = redraw(units)
        draws = min(len(of_task) for of_task in units.clusters("draw").values())
        for at, share in enumerate(shares[:-1]):
            point, redrawn = (
                share_with(rows[:, at], rows[:, len(shares) :], shares) / share for rows in (means, replicates)
            )
            spans = []
            for level in (0.025, 0.975):
                reach = ERRORS * math.sqrt(level * (1 - level) * (1 / THEIRS + 1 / OWN))
                low, high = np.quantile(redrawn, [level - reach, level + reach], method="nearest")
                spans.append((float(low), float(high)))
            ends = shares[0] / share, shares[-1] / share
            worths.append(Worth(tasks, share, "", "§" * (draws < 3), float(point[0]), *spans, ends))
    return worths


def check_worths(page: str, study: Study, answers: Mapping[str, Answer]) -> int:
    """What methods are worth, with its interval, or why it is refused; returns the sentences compared."""
    folded = page.partition(f"<summary>The evidence of {study.words}</summary>")[2].partition("</details>")[0]
    shown = [line[2:] for line in folded.splitlines() if line.startswith("- ") and " of the records `" in line]
    lines = section(page, "How many records is a method worth?")
    refused: dict[str, list[str]] = {}
    most = max(len(answer.places) for answer in answers.values() if answer)
    compared = 0
    for name, answer in answers.items():
        method = name.removesuffix(" minus ft")
        for worth in worths_of(study, method, answer) if name.endswith(" minus ft") else ():
            if worth.reason:
                refused.setdefault(worth.reason, [])
                refused[worth.reason] += [f"`{method}`"] * (f"`{method}`" not in refused[worth.reason])
                continue
            start = f"{listed(worth.tasks)}: with {100 * worth.share:.3g} % of the records `{method}` does "
            (words,) = [line.removeprefix(start) for line in shown if line.startswith(start)]
            check_worth(words, worth, f"{study.words}: {method}, {worth.tasks}, {worth.share}")
            whole = f"- {study.letter}, on {start}{words}{steps_words(study, name, worth.tasks, [worth.share])}"
            assert (whole in lines) == (len(worth.tasks) == most), whole
            compared += 1
    assert compared == len(shown)
    for reason, methods in refused.items():
        (line,) = [line for line in lines if line.startswith(f"- Refused, because {reason}: ")]
        assert f"{study.letter} ({', '.join(methods)})" in re.split("[:;] ", line.removesuffix("."))
    return compared


def check_worth(words: str, worth: Worth, what: str) -> None:
    least, most = worth.ends
    if worth.times in (0, math.inf):
        than = f"better than `ft` with {most:.3g}" if worth.times else f"worse than `ft` with {least:.3g}"
        assert words == f"{than} times as many{worth.mark}.", what
        return
    interval = re.fullmatch(
        rf"as well as `ft` with {100 * worth.times * worth.share:.2g} %, {worth.times:.1f} times the records "
        rf"\((.+) to (.+)\){worth.mark}\.",
        words,
    )
    assert interval, f"{what}: {words}, expected {worth.times}"
    for cell, span in zip(interval.groups(), (worth.low, worth.high), strict=True):
        if cell == f"more than {most:.3g}":
            assert span[1] == math.inf, f"{what}: {cell}, expected {span}"
        elif cell == f"less than {least:.2g}":
            assert span[0] == 0, f"{what}: {cell}, expected {span}"
        else:
            inside(float(cell), span, 0.05 + EXACT, what)


# how many runs, sentence 81


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a difference at one task and share; NaN where they are not known."""

    difference: float
    patients: float
    draws: float
    seeds: float
    num_draws: int
    num_pairs: int

    def power(self, draws: int, seeds: float, difference: float) -> float:
        """The share of studies with so many runs that find the difference, as a single test; variances as they are."""
        of_seeds, of_draws = (0.0 if math.isnan(sd) else sd**2 for sd in (self.seeds, self.draws))
        runs = of_draws * (draws > 1) / draws + of_seeds / seeds / draws
        known = max(draws - 1 if draws > 1 else seeds - 1, 1)
        # sentence 65 raises the variance so that its root has no bias; sentence 81 does not
        raised = known / 2 * math.exp(2 * (gammaln(known / 2) - gammaln((known + 1) / 2)))
        return float(power(0.05, self.patients**2, runs / raised, known, difference))

    @property
    def limit(self) -> float:
        return float(self.patients * (norm.ppf(0.975) + norm.ppf(0.8)))


def spread_of(units: Units) -> Spread:
    ((task, means),) = units.means.items()
    values = {place: float(value[0]) for place, value in units.of(task).items()}
    draws: dict[int, list[float]] = {}
    for (draw, _), value in values.items():
        draws.setdefault(draw, []).append(value)
    left = len(values) - len(draws)
    seeds = sum(np.var(one) * len(one) for one in draws.values()) / left if left else math.nan
    within = seeds * np.mean([1 / len(one) for one in draws.values()]) if left else 0.0
    between = np.var([np.mean(one) for one in draws.values()], ddof=1) if len(draws) > 1 else math.nan
    between = max(between - within, 0.0) if len(draws) > 1 else math.nan
    patients = float(np.linalg.norm(units.influence[task][0]))
    return Spread(float(means[0]), patients, math.sqrt(between), math.sqrt(seeds), len(draws), len(values))


def spreads_of(study: Study) -> dict[tuple[str, str, float], Spread]:
    """(contrast, task, share) -> its spread, where two pairs or more are known."""
    spreads = {}
    for name, contrast in study.contrasts.items():
        for task, share in sorted({(task, share) for task, share, arm in study.cells if arm in contrast}):
            if len(study.common(task, [share], contrast)) > 1:
                spreads[name, task, share] = spread_of(study.contrast_units(contrast, [share], [task]))
    return spreads


POWER = (0.77, 0.83)
"""80 %, with the error of 1,000 simulated studies."""


def check_runs(page: str, study: Study, variances: Sequence[Mapping[str, str]], margin: float) -> int:
    """The table of how many runs it takes, and variances.csv; returns the spreads compared."""
    spreads = spreads_of(study)
    rows = [row for row in variances if row["study"] == study.name]
    assert [(row["contrast"], row["task"], float(row["fraction"])) for row in rows] == [*spreads]
    for row, spread in zip(rows, spreads.values(), strict=True):
        for key, value in zip(
            ("difference", "patient_sd", "draw_sd", "seed_sd"),
            (spread.difference, spread.patients, spread.draws, spread.seeds),
            strict=True,
        ):
            assert row[key] == ("" if math.isnan(value) else f"{value:.6g}"), (row, key, value)
        assert (int(row["draws"]), int(row["pairs"])) == (spread.num_draws, spread.num_pairs), row
    (table,) = tables_in("\n".join(section(page, "How many more runs would it take?")))
    shown = [row[1:] for row in table[2:] if row[0] == study.letter]
    primary = [(task, share, spread) for (one, task, share), spread in spreads.items() if one == PRIMARY]
    assert len(shown) == len(primary)
    for cells, (task, share, spread) in zip(shown, primary, strict=True):
        check_needed(cells, task, share, spread, margin)
    return len(rows)


def check_needed(cells: Sequence[str], task: str, share: float, spread: Spread, margin: float) -> None:
    draws, seeds = spread.num_draws, spread.num_pairs / spread.num_draws
    sds = [f"{sd:.4f}" if sd == sd else "not known" for sd in (spread.patients, spread.draws, spread.seeds)]
    assert list(cells[:6]) == [task, percent([share]), *sds, f"{draws} × {seeds:.2g}"]
    half_digit = 0.5e-4 / float(cells[6])
    inside(spread.power(draws, seeds, float(cells[6])), POWER, 2 * half_digit, f"{cells}, found now")
    for cell, sd, runs_of in zip(
        cells[7:9], (spread.seeds, spread.draws), (lambda n: (1, n), lambda n: (n, 1)), strict=True
    ):
        if spread.limit > margin:
            assert cell == f"never: {spread.limit:.4f}"
        elif math.isnan(sd):
            assert cell == "not known"
        else:
            needed = 200 if cell == "more than 200" else int(cell)
            assert cell == "more than 200" or spread.power(*runs_of(needed), margin) >= POWER[0], cells
            assert needed == 3 or spread.power(*runs_of(needed - 1), margin) <= POWER[1], cells
    if math.isnan(spread.draws):
        assert cells[9] == "another draw, to learn how draws vary"
        return
    kind, _, resolved = cells[9].partition(": ")
    options = {"another draw": (draws + 1, seeds), "another seed": (draws, seeds + 1)}
    reached = {one: spread.power(*runs, float(resolved)) for one, runs in options.items()}
    inside(reached[kind], POWER, 2 * half_digit, f"{cells}, gains most")
    if not math.isnan(spread.seeds):
        assert reached[kind] >= max(reached.values()) - (POWER[1] - POWER[0]), cells


# further tasks, and the whole page


def check_further(page: str, every: Mapping[Study, Mapping[str, Answer]]) -> None:
    """A row for each contrast that is seen on three tasks; the evidence has the same number, which is checked there."""
    lines = section(page, "Would it hold on another task?")
    known = [
        [study.letter, name, listed([*answer.places])]
        for study, answers in every.items()
        for name, answer in answers.items()
        if len(answer.places) >= 3
    ]
    shown = [row for table in tables_in("\n".join(lines)) for row in table[2:]]
    assert sorted(row[:3] for row in shown) == sorted(known)
    assert any(line.startswith("This cannot be said") for line in lines) == (not known)
    for study, answers in every.items():
        folded = page.partition(f"<summary>The evidence of {study.words}</summary>")[2].partition("</details>")[0]
        rows, name = tables_in(folded)[0][2:], ""
        for row in rows:
            name = row[0] or name
            if row[1] == "tasks like these":
                assert [study.letter, name, listed([*answers[name].places]), signed_words(row)] in shown


def check_studies(page: str, studies: Sequence[Study]) -> list[Study]:
    """The table of studies names each with its letter: the one with the most runs first. Returns them with letters."""
    headings = re.findall(r"<summary>The evidence of study ([A-Z]+): (.+)</summary>", page)
    letters = {name: letter for letter, name in headings}
    assert sorted(letters) == sorted(study.name for study in studies)
    sizes = {letters[study.name]: sum(map(len, study.cells.values())) for study in studies}
    assert [sizes[letter] for letter in sorted(sizes)] == sorted(sizes.values(), reverse=True)
    rows = {row[0]: row for row in tables_in(page)[0][2:]}
    assert sorted(rows) == sorted(sizes)
    for study in studies:
        _, backbone, recipe, _, runs, *_ = rows[letters[study.name]]
        assert backbone == study.backbone
        assert recipe.startswith(study.recipe)
        for (task, share, arm), of_cell in study.cells.items():
            if arm == FT:
                draws = len({draw for draw, _ in of_cell})
                (part,) = [
                    one for one in runs.split("; ") if percent([share]) in one and task in re.split("[:,] ", one)
                ]
                assert part.endswith(f", {draws} × {len(of_cell) / draws:.2g}"), part
    return [replace(study, letter=letters[study.name]) for study in studies]


def check_page(page: str, variances: Sequence[Mapping[str, str]], runs: Sequence[Run]) -> dict[str, int]:
    """Compare all that the page says; returns how many things were compared."""
    plans = [tomllib.loads(path.read_text()) for path in sorted(HOME.glob("*.toml"))]
    (margin,) = {plan["margin"] for plan in plans}
    assert {plan["primary"] for plan in plans} == {PRIMARY} and f"below {margin:g}, the *margin*" in page
    every = {study: answers_of(study, margin) for study in check_studies(page, studies_of(runs))}
    compared = dict.fromkeys(("contrasts", "ranks", "worths", "spreads"), 0)
    for study, answers in every.items():
        compared["contrasts"] += check_evidence(page, study, answers, margin)
        compared["ranks"] += check_ranks(page, study, answers)
        compared["worths"] += check_worths(page, study, answers)
        compared["spreads"] += check_runs(page, study, variances, margin)
    check_further(page, every)
    assert len(variances) == compared["spreads"]
    return compared


# tests


@functools.cache
def published(data: Path, home: Path) -> list[Run]:
    return runs_of(data, home / "results")


def read_page(home: Path) -> tuple[str, list[dict[str, str]]]:
    with (home / "variances.csv").open() as file:
        return (home / "answer.md").read_text(), list(csv.DictReader(file))


@pytest.mark.ptbxl
def test_the_published_page_is_computed_anew(ptbxl: Path) -> None:
    compared = check_page(*read_page(HOME), published(ptbxl, HOME))
    assert all(compared.values()), compared


ANSWER_ALONE = """
from bench.pages import leaderboards
leaderboards.remembered = lambda name, facts, home, make: make() if name == "answers" else []
leaderboards.ledger = lambda *_: ""
leaderboards.write_pages = lambda *_, **__: []
"""
"""Nothing else is written, and no page of another mutant is remembered."""


def command(data: Path, folder: Path, cache: Path, mutation: str = "") -> None:
    """Write the page of the published runs in `folder`. Boards are remembered in `cache`: no mutant changes them."""
    words = ["leaderboard", "--published", "--out", str(folder), "--data", str(data)]
    program = f"import sys\n{ANSWER_ALONE}\n{mutation}\nfrom bench.cli import main\nsys.argv[1:] = {words!r}\nmain()"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "BENCH_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published runs of one backbone from one set of weights and from random ones: a third of all."""
    folder = tmp_path_factory.mktemp("part")
    home = folder / HOME.name
    for path in sorted(HOME.glob("results/s*diag/net1d_mini*/result.json")):
        if json.loads(path.read_text())["init"]["name"] in ("own:425d5b0e", "random"):
            shutil.copytree(path.parent, home / path.parent.relative_to(HOME))
    for path in HOME.glob("s*diag.toml"):
        shutil.copy(path, home)
    return folder


@pytest.mark.ptbxl
def test_the_page_of_the_mutants_is_right_without_them(ptbxl: Path, part: Path) -> None:
    command(ptbxl, part, part / "cache")
    home = part / HOME.name
    assert check_page(*read_page(home), published(ptbxl, home))["worths"] == 12


MUTANTS = {
    "seeds are not redrawn": """
from bench.evaluation.hierarchical import Units
own = Units.residuals
Units.residuals = lambda self, kind: (own(self, kind)[0], 0 * own(self, kind)[1])
""",
    "deviations are those of the sample": """
from bench.evaluation.hierarchical import Units
own = Units.residuals
Units.residuals = lambda self, kind: (own(self, kind)[0], own(self, kind)[1] * (2 / 3) ** 0.5)
""",
    "Student's factor is left out": """
import numpy as np
class Random:
    def __init__(self, seed=None):
        self.own = np.random.Generator(np.random.PCG64(seed))
    def __getattr__(self, name):
        return getattr(self.own, name)
    def chisquare(self, known, num):
        return np.full(num, float(known))
np.random.default_rng = Random
""",
    "a margin ten times as wide": """
from bench.boards import across
own = across.both
across.both = lambda units, margin, **kinds: own(units, 10 * margin, **kinds)
""",
    "tuned and reported are mixed": """
from bench.boards import studies
studies.recipes_of = lambda row, tuned: {"tuned"}
""",
    "a default that won a search is not tuned": """
from bench.boards import studies
own = studies.recipes_of
studies.recipes_of = lambda row, tuned: own(row, tuned if "(" in row.method else ())
""",
    "one board makes a claim over tasks": """
from bench.boards.across import Across
Across.alone = property(lambda self: False)
""",
    "one draw is said to be every draw": """
from bench.boards.across import Across
Across.few_draws = property(lambda self: False)
""",
    "priors ten times as wide": """
from bench.evaluation import hierarchical
hierarchical.PRIOR_SCALE.update({name: 10 * scale for name, scale in hierarchical.PRIOR_SCALE.items()})
""",
    "worth by the share, not by its logarithm": """
import numpy as np
from bench.boards import worth
class Linear:
    exp = log = staticmethod(np.asarray)
    def __getattr__(self, name):
        return getattr(np, name)
worth.np = Linear()
""",
    "one more run is known than there is": """
from bench.boards.power import Variances
own = Variances.error
Variances.error = lambda self, draws, seeds: (*own(self, draws, seeds)[:2], own(self, draws, seeds)[2] + 1)
""",
}


@pytest.mark.ptbxl
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_rule_is_seen(ptbxl: Path, part: Path, tmp_path: Path, mutant: str) -> None:
    """Holm within a family and its gate show on no published study: tests/test_across.py has them.

    That patients are redrawn jointly hardly shows either, as runs vary more: it shows on a made design.
    """
    shutil.copytree(part / HOME.name / "results", tmp_path / HOME.name / "results")
    for path in (part / HOME.name).glob("*.toml"):
        shutil.copy(path, tmp_path / HOME.name)
    command(ptbxl, tmp_path, part / "cache", MUTANTS[mutant])
    with pytest.raises(AssertionError):
        check_page(*read_page(tmp_path / HOME.name), published(ptbxl, part / HOME.name))


PRODUCT = """
import json, sys
import numpy as np
from bench.boards import across
from bench.evaluation.hierarchical import Units
answers = []
for case in json.load(sys.stdin):
    places = tuple(case["task"]), tuple(case["draw"]), tuple(map(tuple, case["stream"]))
    units = Units(np.array(case["values"])[:, None], *places, np.array(case["influence"])[:, None])
    both = across.both(units, case["margin"], further_tasks=case["further_tasks"])
    answers.append(
        [[way.value, way.low, way.high, way.above_zero, way.above_margin, way.converged] for way in both.ways]
    )
print(json.dumps(answers))
"""


def made_units() -> dict[str, tuple[Units, bool]]:
    """Designs that no published run has, of random numbers; and whether the question is about further tasks."""

    def made(
        designs: Sequence[Sequence[Place]], crossed: bool, of_tasks: float, of_draws: float, of_seeds: float
    ) -> Units:
        random = np.random.default_rng(len(designs) + 10 * crossed)
        values, streams, influence = {}, {}, {}
        shared = random.normal(size=300)
        for number, places in enumerate(designs):
            task = f"task {number}"
            mean, draws = 0.01 + of_tasks * random.normal(), of_draws * random.normal(size=9)
            seeds, by_seed = of_seeds * random.normal(size=(9, 9)), of_seeds * random.normal(size=9)
            for draw, seed in places:
                rest = by_seed[seed] + 0.3 * seeds[draw, seed] if crossed else seeds[draw, seed]
                values[task, (draw, seed)] = np.array([mean + draws[draw] + rest])
                streams[task, (draw, seed)] = (0 if crossed else draw, seed)
            influence[task] = 0.003 / math.sqrt(300) * (shared + 0.3 * random.normal(size=300))[None]
        return Units(values, streams, influence)

    several = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (3, 0), (4, 0)]
    grid = list(itertools.product(range(4), range(4)))
    return {
        "patients matter most": (made([grid[:3]] * 3, False, 0.01, 0, 0.0005), False),
        "draws with unequal numbers of seeds": (made([several] * 3, False, 0.01, 0.01, 0.02), False),
        "tasks with unequal numbers of draws": (made([several, grid[:3]], False, 0.01, 0.01, 0.01), False),
        "crossed": (made([grid] * 2, True, 0.01, 0.01, 0.02), False),
        "further tasks": (made([several[2:]] * 5, False, 0.02, 0.005, 0.01), True),
    }


def check_made(mutation: str = "") -> None:
    """Compare both ways on the made designs."""
    asked, margin = [], 0.005
    cases = made_units()
    for units, further_tasks in cases.values():
        keys = [*units.values]
        case = {"task": [task for task, _ in keys], "draw": [draw for _, (draw, _) in keys]}
        numbers = {
            "stream": [units.streams[key] for key in keys],
            "values": [float(units.values[key][0]) for key in keys],
            "influence": [units.influence[task][0].tolist() for task in units.influence],
        }
        asked.append(case | numbers | {"margin": margin, "further_tasks": further_tasks})
    done = subprocess.run(
        [sys.executable, "-c", mutation + PRODUCT], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for (name, (units, further_tasks)), answer in zip(cases.items(), json.loads(done.stdout), strict=True):
        for way, numbers in zip(both_ways(units, margin, further_tasks), answer, strict=True):
            assert way and numbers.pop(), name
            spans = {"value": way.value, "low": way.low, "high": way.high}
            spans |= {"P(better)": way.above, "P(by margin)": way.above_margin}
            for (what, span), shown in zip(spans.items(), numbers, strict=True):
                inside(shown, span, 0, f"{name}, {what}")


def test_designs_that_no_published_run_has_are_computed_as_the_sentences_say() -> None:
    check_made()


MADE_MUTANTS = {
    ("patients are redrawn in each task by themselves", "patients matter most"): """
import numpy as np
from dataclasses import replace
from bench.boards import across
own = across.both
def both(units, margin, **kinds):
    tasks, columns, patients = units.influence.shape
    apart = np.zeros((tasks, columns, tasks * patients))
    for task in range(tasks):
        apart[task, :, task * patients:(task + 1) * patients] = units.influence[task]
    return own(replace(units, influence=apart), margin, **kinds)
across.both = both
""",
    ("every run counts alike", "draws with unequal numbers of seeds"): """
import numpy as np
from bench.evaluation.runs import Design
Design.weights = property(lambda self: np.full(len(self.draw), 1 / len(self.draw)))
""",
    ("crossed seeds are not redrawn", "crossed"): """
from bench.evaluation.hierarchical import Units
own = Units._kinds.func
Units._kinds = property(lambda self: own(self)[:1])
""",
    ("seeds are redrawn and draws are not", "tasks with unequal numbers of draws"): """
from bench.evaluation.hierarchical import Units
Units._kinds = ("stream",)
""",
    ("the mixed model has no draws", "draws with unequal numbers of seeds"): """
from bench.evaluation import hierarchical
own = hierarchical.components
hierarchical.components = lambda units, **kinds: {
    name: part for name, part in own(units, **kinds).items() if name != "draw"}
""",
    ("further tasks are these", "further tasks"): """
from bench.boards import across
own = across.redraw
across.redraw = lambda units, further_tasks: own(units, further_tasks=False)
""",
}


@pytest.mark.parametrize(("mutant", "case"), MADE_MUTANTS)
def test_a_broken_rule_is_seen_on_a_made_design(mutant: str, case: str) -> None:
    with pytest.raises(AssertionError, match=f"{case}, .* expected"):
        check_made(MADE_MUTANTS[mutant, case])
