"""Collect from all boards the runs that a question over tasks rests on: studies, contrasts and paired runs.

A study over tasks is one backbone and one recipe: methods at their defaults, as tuned on fold 9, or as given by hand.
The three never share a claim. For each task it has one set of first weights, or random ones.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bench.boards.comparisons import ScoredRun
from bench.boards.declared import BASELINE
from bench.boards.rows import Board, Row
from bench.data.tasks import LabelTable
from bench.evaluation import metrics
from bench.evaluation.hierarchical import Units
from bench.evaluation.metrics import Floats
from bench.evaluation.parts import macro_auroc
from bench.evaluation.runs import Design, Place
from bench.results.identity import RANDOM

DEFAULTS, TUNED, BY_HAND = "defaults", "tuned", "set by hand"
"""Recipes: a method's defaults, the best setting of a search on fold 9, arguments of a command."""
PRETRAINED = "pre-trained"


@dataclass(frozen=True)
class Arm:
    """A method, without its arguments, and what its weights start from: RANDOM or PRETRAINED."""

    method: str
    start: str = PRETRAINED


@dataclass(frozen=True)
class Contrast:
    """The mean of some arms minus the mean of others, over the same tasks, fractions, draws and seeds."""

    name: str
    plus: tuple[Arm, ...]
    minus: tuple[Arm, ...]

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Return all arms, those that are added first."""
        return (*self.plus, *self.minus)

    @property
    def weights(self) -> Floats:
        """Return [arm], the weight of each arm."""
        return np.array([1 / len(self.plus)] * len(self.plus) + [-1 / len(self.minus)] * len(self.minus))


BASE = Arm(BASELINE)
PROBE = Contrast("a probe before fine-tuning", (Arm("lpft"), Arm("lpft-sd")), (BASE, Arm("ft-sd")))
DEPTH = Contrast("stochastic depth", (Arm("ft-sd"), Arm("lpft-sd")), (BASE, Arm("lpft")))
PRETRAINING = Contrast("pre-training", (BASE, Arm("lpft-sd")), (Arm(BASELINE, RANDOM), Arm("lpft-sd", RANDOM)))
FACTORS = (PROBE, DEPTH, PRETRAINING)
"""Each factor, averaged over the methods that differ in nothing else."""


def minus(first: str, second: str) -> Contrast:
    """Return the contrast of two methods."""
    return Contrast(f"{first} minus {second}", (Arm(first),), (Arm(second),))


def against_baseline(method: str) -> Contrast:
    """Return the contrast of a method with the declared baseline."""
    return minus(method, BASELINE)


AFTER_PROBE, WITH_DEPTH = minus("lpft-sd", "lpft"), minus("lpft-sd", "ft-sd")
"""A factor where the other one is present. Where it is absent, the contrasts are `ft-sd minus ft`, `lpft minus ft`."""


STEPS = minus("lpft-sd", "ft-long")
"""The primary method minus fine-tuning with as many epochs as its two phases have together."""


def contrasts_of(methods: Iterable[str]) -> list[Contrast]:
    """Return all contrasts of a study with these methods."""
    return [*map(against_baseline, methods), AFTER_PROBE, WITH_DEPTH, STEPS, *FACTORS]


def recipes_of(row: Row, tuned: Iterable[tuple[str, str, str]]) -> set[str]:
    """Return the recipes of a row; `tuned` are backbone, init and method of the rows that a search has found.

    A setting that was tuned at one fraction is tuned at the others. A default that won a search is both.
    """
    recipes = {TUNED} if (row.backbone, row.init, row.method) in set(tuned) else set()
    if "(" not in row.method:
        recipes.add(DEFAULTS)
    return recipes or {BY_HAND}


Cell = tuple[str, float, Arm]
"""Task, fraction and arm."""
Block = tuple[tuple[str, ...], tuple[float, ...]]
"""Tasks, and fractions that all of them have."""


@dataclass(frozen=True, eq=False)
class Study:
    """All rows of one backbone in one precision and of one recipe, over tasks and fractions."""

    dataset: str
    backbone: str
    recipe: str
    starts: Mapping[str, str]
    """Task -> the first weights of its pre-trained rows."""
    rows: Mapping[Cell, Row]
    truth: Mapping[str, LabelTable]
    """Task -> labels of fold 10."""
    margin: float
    start: str = ""
    """Name of the first weights of the tasks that have several; empty without such a task."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """First weights -> the name that people gave them."""
    _influences: dict[tuple[str, ScoredRun], Floats] = field(default_factory=dict, init=False, repr=False)
    """Task and run -> what `_influence` has returned."""

    @property
    def methods(self) -> list[str]:
        """Return the methods with a pre-trained row, without the baseline."""
        names = dict.fromkeys(arm.method for _, _, arm in self.rows if arm.start == PRETRAINED)
        return sorted(set(names) - {BASELINE})

    @property
    def tuned_on(self) -> set[tuple[str, float]]:
        """Return (task, fraction) of the rows whose setting a search on fold 9 chose; others have the same setting."""
        return {(task, fraction) for (task, fraction, _), row in self.rows.items() if row.num_trials}

    @property
    def name(self) -> str:
        """Return backbone and recipe, with the first weights where these distinguish the study."""
        return f"{self.backbone}, {self.recipe}" + self.from_start

    @property
    def from_start(self) -> str:
        """Return `, from <weights>` if other studies have the same backbone and recipe; else an empty text."""
        return f", from {self.start}" if self.start else ""

    def places(self, task: str, fraction: float, arms: Sequence[Arm]) -> set[Place]:
        """Return (draw, seed) of the runs that all arms have."""
        rows = [self.rows.get((task, fraction, arm)) for arm in arms]
        known = [set(row.scored) if row else set[Place]() for row in rows]
        return set.intersection(*known)

    def block(
        self, arms: Sequence[Arm], tasks: Sequence[str] | None = None
    ) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """Return the tasks and fractions over which these arms are averaged; empty if no run is paired.

        A run counts if it has a partner at each fraction. Of all sets of fractions, the one with the most pairs is
        taken; then the one with more tasks, then with more fractions. Scores decide nothing.
        """
        known = {(task, fraction) for task, fraction, arm in self.rows if arm in arms}
        tasks = sorted({task for task, _ in known}) if tasks is None else tasks
        fractions = sorted({fraction for _, fraction in known})
        best: tuple[tuple[int, int, int], tuple[str, ...], tuple[float, ...]] = ((0, 0, 0), (), ())
        for num in range(1, len(fractions) + 1):
            for chosen in itertools.combinations(fractions, num):
                units = {task: len(self.common(task, chosen, arms)) for task in tasks}
                having = tuple(task for task in tasks if units[task])
                size = (num * sum(units.values()), len(having), num * bool(having))
                best = max(best, (size, having, chosen), key=lambda each: each[0])
        return best[1], best[2]

    def common(self, task: str, fractions: Sequence[float], arms: Sequence[Arm]) -> list[Place]:
        """Return the (draw, seed), sorted, of the runs that all arms have at all of these fractions."""
        return sorted(set.intersection(*(self.places(task, fraction, arms) for fraction in fractions)))

    def units(self, arms: Sequence[Arm], tasks: Sequence[str], fractions: Sequence[float]) -> Units:
        """Return macro AUROC over frequent labels: [unit, arm x fraction], each arm at all fractions, arm by arm."""
        values, task_of, places, streams, influence = [], list[str](), list[Place](), list[Place](), []
        for task in tasks:
            common = self.common(task, fractions, arms)
            rows = [self.rows[task, fraction, arm] for arm in arms for fraction in fractions]
            by_seed = [any(row.scored[place].streams == "seed" for row in rows) for place in common]
            design = Design.of(common, ["seed" if alone else "draw and seed" for alone in by_seed])
            chosen = metrics.frequent(self.truth[task].y_true)
            values += [[float(row.scored[place].macro("auroc", chosen).value) for row in rows] for place in common]
            task_of += [task] * len(common)
            places += common
            streams += design.stream
            influence.append(
                [design.mean([self._influence(task, row.scored[place]) for place in common]) for row in rows]
            )
        draws = tuple(draw for draw, _ in places)
        return Units(np.array(values), tuple(task_of), draws, tuple(streams), np.array(influence))

    def _influence(self, task: str, run: ScoredRun) -> Floats:
        """Return [patient of any task], the influence of each patient on the macro AUROC of a run."""
        if (task, run) not in self._influences:
            table = self.truth[task]
            every = np.ones(len(table), dtype=bool)
            effect = macro_auroc(table.patient_id, table.y_true, [run.y_score], every, metrics.frequent(table.y_true))
            influence = np.zeros(len(self._patients))
            influence[np.searchsorted(self._patients, np.unique(table.patient_id))] = effect.influence[0]
            self._influences[task, run] = influence
        return self._influences[task, run]

    @cached_property
    def _patients(self) -> Floats:
        """The patients of fold 10 over all tasks, sorted."""
        return np.unique(np.concatenate([table.patient_id for table in self.truth.values()]))


def studies_of(boards: Sequence[Board]) -> list[Study]:
    """Return the studies on these boards that have a row of the baseline, the one with the most runs first.

    Left out are boards of a manifest or without labels, scores made elsewhere, and methods with several settings of
    the same recipe on one board. If a task has several sets of pre-trained weights, those with the most runs are in the
    first study, and the others in studies of their own.
    """
    judged = [board for board in boards if board.truth is not None and not board.manifest]
    studies = [
        study
        for dataset in dict.fromkeys(board.dataset for board in judged)
        for study in _of_dataset([board for board in judged if board.dataset == dataset])
    ]
    studies = [study for study in studies if any(arm == BASE for _, _, arm in study.rows)]
    return sorted(studies, key=lambda study: (-_num_runs(study.rows.values()), study.name, str(study.starts)))


def _of_dataset(boards: Sequence[Board]) -> Iterator[Study]:
    """Yield the studies of one data set. Of a task with several fingerprints, the boards of the first are taken."""
    first: dict[str, Board] = {}
    for board in boards:
        first.setdefault(board.task, board)
    judged = [board for board in boards if board.fingerprint == first[board.task].fingerprint]
    truth = {task: _truth(board) for task, board in first.items()}
    tuned = {(row.backbone, row.init, row.method) for board in judged for row in board.rows if row.num_trials}
    grouped: dict[tuple[str, str], dict[tuple[str, float, str, str], list[Row]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for board in judged:
        for row in board.rows:
            if not row.runs[0].external and metrics.frequent(_truth(board).y_true).any():
                method = row.method.partition("(")[0]
                for recipe in recipes_of(row, tuned):
                    grouped[row.backbone, recipe][board.task, board.fraction, row.init, method].append(row)
    margin = max((board.plan.margin for board in judged), default=0.0)
    labels = {name: label for board in judged for name, label in board.plan.labels.items()}
    for (backbone, recipe), rows in grouped.items():
        yield from _by_start(boards[0].dataset, backbone, recipe, rows, truth, margin, labels)


def _truth(board: Board) -> LabelTable:
    assert board.truth is not None
    return board.truth


def _num_runs(rows: Iterable[Row]) -> int:
    return sum(len(row.runs) for row in rows)


def _by_start(
    dataset: str,
    backbone: str,
    recipe: str,
    rows: Mapping[tuple[str, float, str, str], Sequence[Row]],
    truth: Mapping[str, LabelTable],
    margin: float,
    labels: Mapping[str, str],
) -> list[Study]:
    """Return a study for the largest start of each task, one for the second largest, and so on.

    Rows from random weights are in each of them. `labels` are names that people gave to first weights.
    """
    single = {key: of_cell[0] for key, of_cell in rows.items() if len(of_cell) == 1}
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for (task, _, init, _), row in single.items():
        if init != RANDOM:
            sizes[task][init] += len(row.runs)
    ranked = {task: sorted(counts, key=lambda init: (-counts[init], init)) for task, counts in sizes.items()}
    studies = []
    for place in range(max(map(len, ranked.values()), default=0)):
        starts = {task: inits[place] for task, inits in ranked.items() if place < len(inits)}
        cells = {
            (task, fraction, Arm(method, RANDOM if init == RANDOM else PRETRAINED)): row
            for (task, fraction, init, method), row in single.items()
            if init in (RANDOM, starts.get(task))
        }
        compared = {task for task, _, arm in cells if arm == BASE}
        several = [task for task in starts if len(ranked[task]) > 1 and task in compared]
        names = dict.fromkeys(labels.get(starts[task], starts[task]) for task in several)
        start = " and ".join(names)
        studies.append(Study(dataset, backbone, recipe, starts, cells, truth, margin, start, labels))
    return studies
