"""Measure by simulation how often the two ways of `evaluation.hierarchical` cover the truth, agree, and claim falsely.

A pair of runs differs by an effect of its task, its draw, its seed, and of the patients, who are the same in all tasks;
all are normal. Draws and seeds vary as measured: linear probes of 1 and 3 % of superdiag varied between draws by 0.009
to 0.010 of macro AUROC, and between seeds by 0.009 to 0.019. `make across` writes leaderboards/across_simulations.csv
and goes on where it was stopped.
"""

from __future__ import annotations

import functools
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.boards.simulations import Rate, rate, resume
from bench.evaluation.hierarchical import MIN_TASKS, Belief, Units, by_redrawing, posterior, redraw
from bench.evaluation.runs import MIN_RUNS

SIMULATED = "across_simulations.csv"
VERSION = "ba4c56e7"
"""Of the rules that decide these rates, as `simulations.VERSION`; tests/test_across_simulations.py keeps numbers."""
NUM, NUM_REDRAWN, NODES, NUM_PATIENTS = 400, 1000, 9, 100
DRAW_SD, SEED_SD, PATIENT_SD, TASK_SD = 0.0095, 0.013, 0.004, 0.01
"""Standard deviations of a difference of macro AUROC. Two tasks share half of the variance of patients."""
THESE, FURTHER, ANY = "these tasks", "further tasks", "these tasks, any subset"
"""What an interval is to cover: the mean over the tasks at hand (with one draw, on its subset); the expectation over
tasks; the mean over the tasks at hand and all subsets, of which a single draw shows nothing."""


@dataclass(frozen=True)
class Setting:
    """A simulated study: its tasks and their runs, and how much these vary."""

    tasks: int
    seeds: tuple[int, ...]
    """[draw] Number of seeds."""
    task_sd: float = TASK_SD
    seed_sd: float = SEED_SD
    unequal: bool = False
    """Whether runs of the tasks vary differently, from a third to three times the mean in equal steps of logarithms."""
    crossed: bool = False
    """Whether a seed has the same effect in all draws of a task."""

    def __str__(self) -> str:
        same = len(set(self.seeds)) == 1
        seeds = f"{self.seeds[0]}" if same else "+".join(map(str, self.seeds))
        notes = [f"task sd {self.task_sd:g}", f"seed sd {self.seed_sd:g}"]
        notes += ["runs of tasks vary unequally"] * self.unequal + ["crossed"] * self.crossed
        return f"{self.tasks} tasks, {len(self.seeds)} draws, {seeds} seeds a draw, {', '.join(notes)}"

    def simulate(self, random: np.random.Generator) -> tuple[Units, Mapping[str, float]]:
        """Return units of one column, and what the intervals are to cover; the expectation over tasks is 0."""
        common, own = random.normal(size=(1, NUM_PATIENTS)), random.normal(size=(self.tasks, NUM_PATIENTS))
        influence = PATIENT_SD * (common + own) / np.sqrt(2 * NUM_PATIENTS)
        of_patients = influence @ random.normal(size=NUM_PATIENTS)
        of_task = self.task_sd * random.normal(size=self.tasks)
        size = np.geomspace(1 / 3, 3, self.tasks) if self.unequal else np.ones(self.tasks)
        size = size / np.sqrt(np.square(size).mean())
        values, task, draw, stream, subset = [], list[str](), list[int](), list[tuple[int, int]](), np.zeros(self.tasks)
        for at in range(self.tasks):
            of_draw = size[at] * DRAW_SD * random.normal(size=len(self.seeds))
            of_seed = size[at] * self.seed_sd * random.normal(size=(len(self.seeds), max(self.seeds)))
            subset[at] = of_draw[0] if len(self.seeds) == 1 else 0.0
            for number, seeds in enumerate(self.seeds):
                for seed in range(seeds):
                    place = 0 if self.crossed else number, seed
                    values.append(of_task[at] + of_patients[at] + of_draw[number] + of_seed[place])
                    task.append(f"task {at}")
                    draw.append(number)
                    stream.append(place)
        units = Units(np.array(values)[:, None], tuple(task), tuple(draw), tuple(stream), influence[:, None])
        truths = {THESE: float((of_task + subset).mean()), FURTHER: 0.0}
        return units, truths | ({ANY: float(of_task.mean())} if len(self.seeds) == 1 else {})


PLANNED = (3, 1, 1, 1, 1)
"""Seeds of each draw of the planned evidence: five draws, of which one has three seeds."""
SETTINGS = (
    Setting(2, (3,)),
    Setting(3, (3,)),
    Setting(5, (3,)),
    Setting(5, (1,)),
    Setting(2, (1, 1)),
    Setting(5, (1, 1, 1)),
    Setting(3, PLANNED),
    Setting(5, PLANNED),
    Setting(5, PLANNED, seed_sd=0.019),
    Setting(5, PLANNED, task_sd=0.03),
    Setting(5, PLANNED, unequal=True),
    Setting(6, (1, 1, 1, 1, 1), task_sd=0.0),
    Setting(5, (3, 3, 3), crossed=True),
)


def rates_of(setting: Setting, num: int) -> list[Rate]:
    """Return coverage of each way, false claims of both together, and how often both ways say the same."""
    random = np.random.default_rng(0)
    happened: dict[str, list[bool]] = defaultdict(list)
    for at in range(num):
        units, truths = setting.simulate(random)
        for scope in (THESE, FURTHER):
            is_further = scope == FURTHER
            known = setting.tasks - 1 if is_further else units.degrees_of_freedom
            if (is_further and setting.tasks < MIN_TASKS) or known + 1 < MIN_RUNS:
                continue
            redrawn = redraw(units, further_tasks=is_further, num=NUM_REDRAWN, seed=at)[:, 0]
            first = by_redrawing(redrawn, float(units.mean[0]), 0.005)
            second = posterior(units, 0.005, further_tasks=is_further, nodes=NODES)
            for target in (scope, ANY) if scope == THESE and ANY in truths else (scope,):
                sides = [_side(way, truths[target]) for way in (first, second)]
                happened[f"coverage, {target}: redrawn"].append(sides[0] == 0)
                happened[f"coverage, {target}: mixed model"].append(sides[1] == 0)
                happened[f"false claims, {target}: both ways"].append(sides[0] == sides[1] != 0)
            happened[f"same claim of both ways, {scope}"].append(_side(first, 0.0) == _side(second, 0.0))
    return [rate("normal", quantity, str(setting), events) for quantity, events in happened.items()]


def _side(way: Belief, truth: float) -> int:
    """Return 0 if the interval covers the truth, 1 if it lies above, -1 if below."""
    return int(way.low > truth) - int(way.high < truth)


COVERED, LEVEL = (93.0, 99.9), 5.0
"""Goals in percent: range of coverage; maximum of the lower 95 % bound of false claims. Few tasks or draws make
intervals of the expectation over tasks wider than they need be, so that coverage has no narrow upper goal."""


def is_met(rate: Rate) -> bool | None:
    """Return whether a rate meets its goal; None for a rate without a goal. The goal of ANY is missed on purpose."""
    if rate.quantity.startswith("coverage"):
        return rate.percent + 1.96 * rate.error >= COVERED[0]
    if rate.quantity.startswith("false claims"):
        return rate.percent - 1.96 * rate.error <= LEVEL
    return None


def main(folder: Path, num: int = NUM) -> None:
    """Simulate what <folder>/across_simulations.csv lacks: see `simulations.resume`."""
    declared = {
        str(setting): functools.partial(rates_of, setting, num // 10 if setting.crossed else num)
        for setting in SETTINGS  # four components, as in a crossed design, take long
    }
    resume(folder / SIMULATED, VERSION, declared, "setting", is_met)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int((sys.argv[2:] or [str(NUM)])[0]))
