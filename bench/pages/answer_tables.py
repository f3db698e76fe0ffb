"""Write the tables of the page over tasks: the studies, how many runs are needed, and the evidence of each study."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.boards.across import ALONE, CONTRAST, FEW, Across, Both, Ranked
from bench.boards.answers import StudyAnswers
from bench.boards.declared import BASELINE
from bench.boards.power import Variances
from bench.boards.studies import BASE, TUNED, Arm, Study
from bench.boards.worth import Worth
from bench.evaluation.hierarchical import Belief
from bench.evaluation.runs import MIN_RUNS
from bench.pages.about_data import seen_labels
from bench.pages.conditions import SUBSET
from bench.pages.markdown import folded, markdown_table
from bench.pages.spelling import (
    STEPS,
    listed,
    spell_both,
    spell_bounds,
    spell_p,
    spell_probability,
    spell_shares,
    spell_steps,
)
from bench.registry.reference import Reference

PRIMARY_ARM = Arm(CONTRAST.partition(" ")[0])


def studies_lines(answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the table of the studies, and how to read it."""
    arms = (BASE, PRIMARY_ARM)
    head = [
        "study",
        "backbone",
        "recipe",
        "first weights",
        "runs: draws × seeds",
        *(f"steps of {arm.method}" for arm in arms),
    ]
    rows = [
        [
            each.letter,
            each.study.backbone,
            _recipe(each.study),
            _starts(each.study),
            _runs(each.study),
            *(_steps(each.study, arm) for arm in arms),
        ]
        for each in answers
    ]
    lines = markdown_table(head, rows, left=len(head))
    words = f"*Steps*: {STEPS}"
    if any(_trained_here(each.study) for each in answers):
        words += f" First weights from runs on {answers[0].study.dataset} have seen all records of folds 1 to 8"
        seen = {task: labels for each in answers for task, labels in _seen(each.study).items()}
        words += "".join(f"; those for {task} on its labels {listed(of)} too" for task, of in seen.items()) + "."
    return [*lines, words, ""]


def _recipe(study: Study) -> str:
    if study.recipe != TUNED:
        return study.recipe
    cells = {(task, fraction) for task, fraction, _ in study.rows}
    if cells <= study.tuned_on:
        return "tuned on fold 9"
    where = listed([f"{task} at {spell_shares([fraction])}" for task, fraction in sorted(study.tuned_on)])
    trials = sorted({row.num_trials for row in study.rows.values() if row.num_trials})
    number = "–".join(str(number) for number in dict.fromkeys((trials[0], trials[-1])))
    return f"tuned on fold 9 of {where} ({number} trials a method{_given(study)}), the same settings elsewhere"


def _given(study: Study) -> str:
    """Return the arguments that were given to methods before the search."""
    runs = [run for row in study.rows.values() for run in row.runs if run.document.get("search")]
    methods = [Reference.parse(run.document["search"]["trials"][0]["method"]) for run in runs]
    given = sorted({f"{name}={value}" for method in methods for name, value in method.arguments.items()})
    return f"; given: {', '.join(given)}" if given else ""


def _starts(study: Study) -> str:
    """Return the first weights, with their tasks where there are several."""
    tasks: dict[str, list[str]] = {}
    for task in sorted({task for task, _, arm in study.rows if arm == BASE}):
        name = study.starts.get(task, "")
        tasks.setdefault(study.labels.get(name, name), []).append(task)
    if len(tasks) == 1:
        return next(iter(tasks))
    return "; ".join(f"{name} ({', '.join(of_start)})" for name, of_start in tasks.items())


def _trained_here(study: Study) -> bool:
    facts = [run.document.get("init", {}).get("facts", {}) for row in study.rows.values() for run in row.runs]
    return any(str(each.get("trained_on", "")).endswith(f"of {study.dataset}, folds 1-8") for each in facts)


def _seen(study: Study) -> dict[str, list[str]]:
    """Return task -> its labels on which the first weights of a study were trained."""
    runs = {task: row.runs[0] for (task, _, arm), row in study.rows.items() if arm == BASE}
    return {task: labels for task, run in sorted(runs.items()) if (labels := seen_labels(run))}


def _runs(study: Study) -> str:
    """Return for each share of the records the tasks, and how many draws and seeds the baseline has."""
    of_share: dict[tuple[float, str], list[str]] = {}
    for task, fraction, arm in sorted(study.rows, key=lambda cell: (cell[1], cell[0])):
        if arm == BASE:
            places = study.places(task, fraction, [BASE])
            draws = len({draw for draw, _ in places})
            of_share.setdefault((fraction, f"{draws} × {len(places) / draws:.2g}"), []).append(task)
    return "; ".join(
        f"{spell_shares([share])}: {', '.join(tasks)}, {number}" for (share, number), tasks in of_share.items()
    )


def _steps(study: Study, arm: Arm) -> str:
    """Return for each share of the records the gradient steps of a run, phase by phase."""
    of_share: dict[float, dict[str, None]] = {}
    for (_, fraction, other), row in sorted(study.rows.items(), key=lambda cell: cell[0][1]):
        if other == arm:
            steps = (spell_steps(run) for run in row.runs if run.steps)
            of_share.setdefault(fraction, {}).update(dict.fromkeys(steps))
    return "; ".join(f"{spell_shares([share])}: {' or '.join(steps)}" for share, steps in of_share.items() if steps)


def runs_lines(answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on how many more runs a difference of the margin needs, of the primary contrast."""
    lines = ["## How many more runs would it take?", ""]
    head = ["study", "task", "records", "patients", "draws", "seeds", "draws × seeds", "found now"]
    head += ["seeds needed", "draws needed", "gains most"]
    rows = [
        [each.letter, *_cells(variances, each.study.margin)]
        for each in answers
        for variances in each.variances
        if variances.contrast == CONTRAST
    ]
    if not rows:
        return [*lines, f"Not known: no replicated pairs of {CONTRAST}.", ""]
    return [
        *lines,
        f"So that 80 % of studies find `{CONTRAST}` significant, by one test at 5 %, if it is truly as large as the "
        f"margin, {answers[0].study.margin:g}. *Patients*, *draws*, *seeds*: standard deviations of the difference; "
        "from three runs they are rough. *Found now*: the least true difference that 80 % of studies with as many runs "
        "as now would find. *Seeds needed*: of one draw, so about that subset. *Draws needed*: of one seed each. "
        "*Never: x*: even with endless runs, fold 10 only shows differences of at least x, which is above the margin. "
        "*Gains most*: the further run that lowers *found now* most, and to what. `bench power` answers for other "
        "differences, and for planned looks at the data.",
        "",
        *markdown_table(head, rows, left=3),
    ]


def _cells(variances: Variances, difference: float) -> list[str]:
    """Return the cells of a task and share: standard deviations, runs, what they find, and what is needed."""
    return [
        variances.task,
        spell_shares([variances.fraction]),
        *(
            "not known" if math.isnan(sd) else f"{sd:.4f}"
            for sd in (variances.patient_sd, variances.draw_sd, variances.seed_sd)
        ),
        f"{variances.draws} × {variances.seeds:.2g}",
        f"{variances.resolves(variances.draws, variances.seeds):.4f}",
        *(_needed(variances, difference, of) for of in ("seeds", "draws")),
        _next(variances),
    ]


def _needed(variances: Variances, difference: float, of: str) -> str:
    if variances.limit() > difference:
        return f"never: {variances.limit():.4f}"
    if math.isnan(variances.draw_sd if of == "draws" else variances.seed_sd):
        return "not known"
    number = variances.needs(difference, of=of)
    return str(number) if number else "more than 200"


def _next(variances: Variances) -> str:
    """Return which further run is worth more."""
    seed, draw = variances.next_run()
    if math.isnan(draw):
        return "another draw, to learn how draws vary"
    if math.isnan(seed) or draw <= seed:
        return f"another draw: {draw:.4f}"
    return f"another seed: {seed:.4f}"


def evidence_lines(each: StudyAnswers) -> list[str]:
    """Return the folded tables of a study."""
    head = ["contrast", "on", "pairs", "redrawn", "mixed model", "P(better)", "P(by margin)", "p, Holm", "claim"]
    rows = [row for answer in each.answers for row in _scopes(answer)]
    lines = markdown_table(head, rows, left=2)
    tasks = sorted({task for answer in each.answers for task in answer.by_task})
    starts, labels = each.study.starts, each.study.labels
    named = (f"{task}: {labels.get(starts[task], starts[task])}" for task in tasks if task in starts)
    lines += [f"First weights: {'; '.join(named)}.", ""]
    if each.ranked and not all_few(each):
        lines += _rank_table(each.ranked)
    if known := [worth for worth in each.worths if not worth.reason]:
        lines += ["Worth in records:", "", *(f"- {listed(worth.tasks)}: {worth_words(worth)}." for worth in known), ""]
    return folded(f"The evidence of study {each.letter}: {each.study.name}", lines)


def _scopes(answer: Across) -> list[list[str]]:
    """Return the rows of a contrast: its block, then further tasks, each task and each share from their own runs."""
    p = "–" if math.isnan(answer.p_adjusted) else f"{spell_p(answer.p_adjusted)} ({answer.role})"
    claim = answer.claim + SUBSET * (answer.few_draws and answer.claim not in (FEW, ALONE))
    where = _where(answer.tasks, answer.fractions)
    rows = [[answer.contrast.name, where, str(answer.num_pairs), *_numbers(answer.these_tasks), p, claim]]
    parts: list[tuple[str, Both]] = []
    if answer.further_tasks:
        parts.append(("tasks like these", answer.further_tasks))
    if len(answer.by_task) > 1:
        parts += [(_where([task], shares), both) for task, (shares, both) in answer.by_task.items()]
    if len(answer.by_fraction) > 1:
        parts += [
            (_where(tasks, [share]), both)
            for share, (tasks, both) in answer.by_fraction.items()
            if (tasks, (share,)) != (answer.tasks, answer.fractions)
        ]
    return rows + [["", scope, "", *_numbers(both), "", ""] for scope, both in parts]


def _where(tasks: Sequence[str], fractions: Sequence[float]) -> str:
    return f"{listed(tasks)}; {spell_shares(fractions)}"


def _numbers(both: Both) -> list[str]:
    """Return both ways, and the probabilities of being better, and of being better by the margin.

    Of few runs it is the value alone: all else would be over patients.
    """
    if both.few:
        return [spell_both(both), *["–"] * 3]
    ways = [_way(way) for way in both.ways] + ["–"] * (both.modelled is None)
    return [*ways, spell_probability(both.better()), spell_probability(both.better_by_margin())]


def _way(way: Belief) -> str:
    return spell_bounds(way) + ("" if way.converged else ", not converged")


def _rank_table(ranked: Ranked) -> list[str]:
    head = ["method", *(f"rank {rank}" for rank in range(1, len(ranked.methods) + 1)), "95 % interval"]
    rows = []
    for at, method in enumerate(ranked.methods):
        low, high = ranked.rank_interval(method)
        rows.append([method, *(spell_probability(float(share)) for share in ranked.share[at]), f"{low}–{high}"])
    return ["Ranks over the same runs:", "", *markdown_table(head, rows)]


def all_few(each: StudyAnswers) -> bool:
    """Return whether no contrast of a study has enough runs for a statement about methods."""
    return all(answer.these_tasks.few for answer in each.answers)


def worth_words(worth: Worth) -> str:
    """Return what a method is worth, with its interval, as a sentence without its full stop."""
    start = f"with {100 * worth.fraction:.3g} % of the records `{worth.method}` does"
    mark = SUBSET if worth.num_draws < MIN_RUNS else ""
    if math.isinf(worth.times):
        return f"{start} better than `{BASELINE}` with {worth.most:.3g} times as many{mark}"
    if worth.times == 0:
        return f"{start} worse than `{BASELINE}` with {worth.least:.3g} times as many{mark}"
    words = f"{100 * worth.times * worth.fraction:.2g} %, {worth.times:.1f} times the records"
    bounds = f"{_times(worth.low, worth)} to {_times(worth.high, worth)}"
    return f"{start} as well as `{BASELINE}` with {words} ({bounds}){mark}"


def _times(value: float, worth: Worth) -> str:
    if math.isinf(value):
        return f"more than {worth.most:.3g}"
    return f"less than {worth.least:.2g}" if value == 0 else f"{value:.1f}"
