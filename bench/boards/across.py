"""Say over all tasks, fractions, draws and seeds whether a method, or a factor, is better than the baseline.

Two ways must agree: redrawing (`hierarchical.redraw`) and a mixed model (`hierarchical.by_mixed_model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.boards.declared import BASELINE, FAMILY, PRIMARY
from bench.boards.studies import PRETRAINED, Arm, Contrast, Study, against_baseline, contrasts_of
from bench.evaluation.compare import ALPHA, holm
from bench.evaluation.hierarchical import MIN_TASKS, Belief, Units, by_mixed_model, by_redrawing, redraw
from bench.evaluation.metrics import Floats
from bench.evaluation.runs import MIN_RUNS

CONTRAST = f"lpft-sd minus {BASELINE}"
"""The primary contrast, as the boards of PTB-XL declare it; every other contrast is of the family."""
BETTER, WORSE, EQUAL = "better", "worse", "practically equal"
MUCH_BETTER = "better by more than the margin"
UNSETTLED, DISAGREE = "not settled", "not settled: the two ways disagree"
FEW = "not a statement about methods: fewer than three runs a task"
ALONE = "of one board alone"
"""One task at one share: its board judges it, and there the variance of runs is moderated over all rows."""
CLAIMS = (MUCH_BETTER, BETTER, WORSE, EQUAL)
"""What may be claimed."""


@dataclass(frozen=True)
class Both:
    """One number, estimated in both ways."""

    redrawn: Belief
    modelled: Belief | None
    """None if no unit is replicated."""
    num_independent: int
    """Independent runs, draws or tasks whose variation was seen: degrees of freedom + 1."""

    @property
    def ways(self) -> tuple[Belief, ...]:
        """Return the ways that gave a number."""
        return (self.redrawn,) if self.modelled is None else (self.redrawn, self.modelled)

    @property
    def low(self) -> float:
        """Return the lower of both lower bounds."""
        return min(way.low for way in self.ways)

    @property
    def high(self) -> float:
        """Return the higher of both upper bounds."""
        return max(way.high for way in self.ways)

    @property
    def value(self) -> float:
        """Return the mean over the units."""
        return self.redrawn.value

    @property
    def p(self) -> float:
        """Return the larger two-sided p-value."""
        return max(way.p for way in self.ways)

    @property
    def few(self) -> bool:
        """Return whether there are too few independent units to know how much runs vary."""
        return self.modelled is None or self.num_independent < MIN_RUNS

    def better(self) -> float:
        """Return the probability of being better, by the way that is less certain of the direction."""
        return min((way.above_zero for way in self.ways), key=lambda chance: abs(chance - 0.5))

    def better_by_margin(self) -> float:
        """Return the lower of both probabilities of being better by more than the margin."""
        return min(way.above_margin for way in self.ways)

    def claim(self, p: float, margin: float) -> str:
        """Return what both ways support; `p` is the p-value after correction.

        A size, such as more than the margin, needs the whole interval of both ways.
        """
        if self.few or not all(way.converged for way in self.ways):
            return FEW if self.few else DISAGREE
        if {-margin < way.low and way.high < margin for way in self.ways} == {True}:
            return EQUAL
        claims = {_claim(way, margin) for way in self.ways}
        if p > ALPHA and claims <= {BETTER, MUCH_BETTER, WORSE}:
            return UNSETTLED
        if claims == {BETTER, MUCH_BETTER}:
            return BETTER
        return claims.pop() if len(claims) == 1 else DISAGREE


def _claim(way: Belief, margin: float) -> str:
    if way.low > margin:
        return MUCH_BETTER
    return BETTER if way.low > 0 else WORSE if way.high < 0 else UNSETTLED


@dataclass(frozen=True)
class Across:
    """What the runs of a study say about a contrast."""

    contrast: Contrast
    tasks: tuple[str, ...]
    fractions: tuple[float, ...]
    these_tasks: Both
    further_tasks: Both | None
    """The expectation over tasks like these; None with fewer than MIN_TASKS tasks."""
    by_task: dict[str, tuple[tuple[float, ...], Both]]
    """Task -> fractions, and the estimate over these: those of `fractions`, or of a further task its own."""
    by_fraction: dict[float, tuple[tuple[str, ...], Both]]
    """Fraction -> the tasks with paired runs, and the estimate over these."""
    num_pairs: int
    """Pairs of runs, over tasks, fractions, draws and seeds."""
    num_draws: tuple[int, int]
    """Least and largest number of draws of a task."""
    num_records: tuple[int, int]
    """Least and largest number of training records of a run."""
    pairs_better: int
    tasks_better: int
    """Tasks with a mean difference above 0, of `tasks`; `by_task` can have more."""
    margin: float
    starts: tuple[str, ...]
    """Pre-trained first weights."""
    role: str = FAMILY
    p_adjusted: float = float("nan")
    """The larger p of both ways, after Holm within the study."""

    @property
    def claim(self) -> str:
        """Return what may be claimed on these tasks."""
        if self.alone and not self.these_tasks.few:
            return ALONE
        return self.these_tasks.claim(self.p_adjusted, self.margin)

    @property
    def alone(self) -> bool:
        """Return whether the runs are of a single board: one task at one share of the records."""
        return len(self.tasks) * len(self.fractions) == 1

    @property
    def few_draws(self) -> bool:
        """Return whether a claim is about the subsets at hand: fewer than three draws of a share below 1."""
        return self.num_draws[0] < MIN_RUNS and min(self.fractions) < 1


def across(study: Study) -> list[Across]:
    """Return the answers of a study for each method and each factor with paired runs, p adjusted within the study.

    Holm as on boards (PROTOCOL.md, section 8): the primary contrast alone; the others over all of them, and with at
    least the p of the primary contrast. A contrast of too few runs, or of a single board, is not counted.
    """
    answers = [answer for contrast in contrasts_of(study.methods) if (answer := _answer(study, contrast))]
    tested = [at for at, answer in enumerate(answers) if not (answer.these_tasks.few or answer.alone)]
    first = [at for at in tested if answers[at].contrast.name == CONTRAST]
    family = [at for at in tested if at not in first]
    gate = max((answers[at].these_tasks.p for at in first), default=0.0)
    adjusted = holm([answers[at].these_tasks.p for at in family]) if family else ()
    for at, p in zip(family, adjusted, strict=True):
        answers[at] = replace(answers[at], p_adjusted=max(float(p), gate))
    for at in first:
        answers[at] = replace(answers[at], p_adjusted=gate, role=PRIMARY)
    return answers


def _answer(study: Study, contrast: Contrast) -> Across | None:
    tasks, fractions = study.block(contrast.arms)
    if not tasks:
        return None
    by_share = study.units(contrast.arms, tasks, fractions).times(_by_share(contrast, len(fractions)))
    units = by_share.times(np.full((len(fractions), 1), 1 / len(fractions)))
    margin = study.margin
    known = sorted({fraction for _, fraction, arm in study.rows if arm in contrast.arms})
    by_fraction = {}
    for fraction in known:
        having = tuple(task for task in _tasks(study, contrast) if study.common(task, [fraction], contrast.arms))
        if having:
            by_fraction[fraction] = having, both(paired(study, contrast, having, [fraction]), margin)
    by_task = {}
    for task in _tasks(study, contrast):
        of_task = fractions if task in tasks else study.block(contrast.arms, [task])[1]
        if of_task:
            by_task[task] = of_task, both(paired(study, contrast, [task], of_task), margin)
    draws = [design.num_draws for design in units.designs]
    sizes = [
        run.document.get("split", {}).get("train_records", 0)
        for task in tasks
        for fraction in fractions
        for arm in contrast.arms
        for run in study.rows[task, fraction, arm].runs
    ]
    return Across(
        contrast,
        tasks,
        fractions,
        both(units, margin),
        both(units, margin, further_tasks=True) if len(tasks) >= MIN_TASKS else None,
        by_task,
        by_fraction,
        by_share.values.size,
        (min(draws), max(draws)),
        (min(sizes), max(sizes)),
        int((by_share.values > 0).sum()),
        int((units.task_means > 0).sum()),
        margin,
        tuple(sorted({study.starts[task] for task in tasks if task in study.starts})),
    )


def _tasks(study: Study, contrast: Contrast) -> list[str]:
    return sorted({task for task, _, arm in study.rows if arm in contrast.arms})


def paired(study: Study, contrast: Contrast, tasks: Sequence[str], fractions: Sequence[float]) -> Units:
    """Return the units of a contrast, with one column: the mean over fractions."""
    weights = _by_share(contrast, len(fractions)).mean(axis=1, keepdims=True)
    return study.units(contrast.arms, tasks, fractions).times(weights)


def _by_share(contrast: Contrast, num_fractions: int) -> Floats:
    """Return [arm x fraction, fraction], weights that give the contrast at each fraction."""
    return np.asarray(np.kron(contrast.weights[:, None], np.eye(num_fractions)), dtype=np.float64)


def both(units: Units, margin: float, *, further_tasks: bool = False) -> Both:
    """Estimate units with one column in both ways."""
    redrawn = by_redrawing(redraw(units, further_tasks=further_tasks)[:, 0], float(units.mean[0]), margin)
    known = len(units.tasks) - 1 if further_tasks else units.degrees_of_freedom
    return Both(redrawn, by_mixed_model(units, margin, further_tasks=further_tasks), known + 1)


@dataclass(frozen=True)
class Ranked:
    """How likely each rank of a method is, among methods with the same tasks, fractions, draws and seeds."""

    methods: tuple[str, ...]
    """Best first, by the mean."""
    share: Floats
    """[method, rank] Share of replicates in which the method has this rank."""
    tasks: tuple[str, ...]
    fractions: tuple[float, ...]
    few_draws: bool
    """As `Across.few_draws`."""

    def rank_interval(self, method: str) -> tuple[int, int]:
        """Return the ranks that hold at least 95 % of replicates, from 1."""
        total = self.share[self.methods.index(method)].cumsum()
        return 1 + int(np.searchsorted(total, 0.025)), 1 + int(np.searchsorted(total, 0.975 - 1e-9))


def ranks(study: Study) -> Ranked | None:
    """Rank the baseline and the methods that have all runs of the primary contrast; None if there are fewer than three.

    Without a primary contrast, the methods that have the most runs are ranked.
    """
    names = [method for method in study.methods if study.block(against_baseline(method).arms)[0]]
    if not names:
        return None
    primary = CONTRAST.partition(" ")[0]
    first = primary if primary in names else max(names, key=lambda name: _num_pairs(study, name))
    tasks, fractions = study.block(against_baseline(first).arms)
    arms = [Arm(BASELINE), Arm(first)]
    for name in names:
        added = [*arms, Arm(name, PRETRAINED)]
        if name != first and all(
            study.common(task, fractions, added) == study.common(task, fractions, arms) for task in tasks
        ):
            arms = added
    if len(arms) < 3:
        return None
    weights = np.kron(np.eye(len(arms)), np.full((len(fractions), 1), 1 / len(fractions)))
    units = study.units(arms, tasks, fractions).times(weights)
    replicates = redraw(units, further_tasks=False)
    place = (replicates[:, None, :] > replicates[:, :, None]).sum(axis=2)  # [replicate, method]
    share = np.array([[(place[:, arm] == rank).mean() for rank in range(len(arms))] for arm in range(len(arms))])
    order = np.argsort(-units.mean, kind="stable")
    few = units.num_draws < MIN_RUNS and min(fractions) < 1
    return Ranked(tuple(arms[at].method for at in order), share[order], tasks, fractions, few)


def _num_pairs(study: Study, method: str) -> int:
    arms = against_baseline(method).arms
    tasks, fractions = study.block(arms)
    return sum(len(study.common(task, fractions, arms)) for task in tasks) * len(fractions)
