"""Write the page *Which way of adapting is best?*: one answer a question, its uncertainty, and the evidence folded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.boards.across import (
    BETTER,
    CONTRAST,
    DISAGREE,
    EQUAL,
    FEW,
    MUCH_BETTER,
    UNSETTLED,
    WORSE,
    Across,
    Both,
    Ranked,
    across,
    ranks,
)
from bench.boards.across_simulations import SIMULATED
from bench.boards.declared import BASELINE
from bench.boards.power import Variances, variances_of
from bench.boards.rows import Board
from bench.boards.studies import PROBE, Study, studies_of
from bench.boards.worth import Worth, worth
from bench.data.tasks import PUBLISHED_TASKS
from bench.evaluation.compare import ALPHA
from bench.evaluation.hierarchical import MIN_TASKS
from bench.evaluation.runs import MIN_RUNS
from bench.pages.markdown import folded, markdown_table
from bench.pages.page import spell_p
from bench.pages.across_simulated import simulated_lines

ANSWER = "answer.md"
TITLE = "Which way of adapting is best?"
MARK = "§"
"""Mark of a claim from fewer than three draws of a share of the records."""
VERDICTS = {
    BETTER: "Yes",
    MUCH_BETTER: "Yes, by more than the margin",
    WORSE: "No, it is worse",
    EQUAL: "It makes no difference that matters",
    UNSETTLED: "Not settled",
    DISAGREE: "Not settled: the two ways of computing it disagree",
    FEW: "No answer: fewer than three runs",
}
RECIPES = {
    "reported": "Methods at their defaults",
    "tuned": "Methods tuned on fold 9",
    "given": "Methods with settings given by hand",
}
NAMES = {
    "lp": "a linear probe (the backbone stays frozen)",
    "lpft": "a linear probe, then fine-tuning",
    "ft-sd": "fine-tuning with stochastic depth",
    "lpft-sd": "a linear probe, then fine-tuning with stochastic depth",
}
FACTOR_QUESTIONS = {
    "a probe before fine-tuning": "Does a linear probe before fine-tuning help?",
    "stochastic depth": "Does stochastic depth help?",
    "pre-training": "Does pre-training help?",
}


@dataclass(frozen=True)
class StudyAnswers:
    """All that the page says of a study."""

    study: Study
    answers: Sequence[Across]
    ranked: Ranked | None
    worths: Sequence[Worth]
    variances: Sequence[Variances]

    @property
    def words(self) -> str:
        """Return the study as the subject of a sentence: recipe and backbone."""
        return f"{RECIPES[self.study.recipe]}, on {self.study.backbone.partition(',')[0]}"

    def answer(self, name: str) -> Across | None:
        """Return the answer about a contrast; None if no runs are paired."""
        return next((answer for answer in self.answers if answer.contrast.name == name), None)


def answers_of(boards: Sequence[Board]) -> list[StudyAnswers]:
    """Return the answers of each study of the boards of one data set that has any."""
    variances = variances_of(boards)
    answers = []
    for study in studies_of(boards):
        if of_study := across(study):
            worths = [each for method in study.methods for each in worth(study, method)]
            own = [each for each in variances if each.study == study.name]
            answers.append(StudyAnswers(study, of_study, ranks(study), worths, own))
    return answers


def answer_page(
    boards: Sequence[Board], answers: Sequence[StudyAnswers], picture: str, simulated: Sequence[Mapping[str, str]]
) -> str:
    """Return the Markdown page. `simulated` are the rows of across_simulations.csv."""
    first = boards[0]
    lines = [f"# {TITLE}", ""]
    if first.synthetic:
        lines += ["**Synthetic data: these numbers say that the machinery runs, and nothing about ECGs.**", ""]
    margin = answers[0].study.margin
    lines += [
        f"Methods of adapting a pre-trained model, on {first.dataset}, each compared with full fine-tuning (`{BASELINE}`) "
        "over all tasks, shares of the training records, draws of a share and seeds that both have. Numbers are "
        "differences of macro AUROC over frequent labels, with 95 % intervals. A difference below "
        f"{margin:g} (the *margin*) does not matter in practice.",
        "",
    ]
    lines += [f"![Difference from {BASELINE} of each method, over all tasks and in each task]({picture})", ""] * bool(
        picture
    )
    lines += _primary(answers)
    lines += _first(answers)
    for name, question in FACTOR_QUESTIONS.items():
        lines += _question(question, answers, name)
    lines += _labels(answers)
    lines += _further(answers)
    lines += _runs(answers)
    lines += _lacking(boards, answers)
    for each in answers:
        lines += _evidence(each)
    lines += simulated_lines(simulated)
    return "\n".join([*lines, *_foot(answers)]) + "\n"


def _primary(answers: Sequence[StudyAnswers]) -> list[str]:
    method = CONTRAST.partition(" ")[0]
    lines = _question(f"Is {NAMES[method]} (`{method}`) better than `{BASELINE}`?", answers, CONTRAST)
    others = [
        (each, answer)
        for each in answers
        for answer in each.answers
        if answer.contrast.name not in (CONTRAST, *FACTOR_QUESTIONS)
    ]
    if others:
        lines += ["## And the other methods?", ""]
        lines += [f"- {_claim(each, answer)}" for each, answer in others] + [""]
    return lines


def _question(question: str, answers: Sequence[StudyAnswers], name: str) -> list[str]:
    lines = [f"## {question}", ""]
    known = [(each, answer) for each in answers if (answer := each.answer(name))]
    if not known:
        return [*lines, "No answer yet: no study has all the runs that this needs.", ""]
    return [*lines, *(f"- {_claim(each, answer)}" for each, answer in known), ""]


def _claim(each: StudyAnswers, answer: Across) -> str:
    """Return the claim with its conditions, all in one sentence or two."""
    claim, name = answer.claim, answer.contrast.name
    subject = f"`{name.replace(' minus ', '` minus `')}`" if " minus " in name else name
    number = spell(answer.these_tasks)
    mark = MARK if answer.few_draws and claim != FEW else ""
    if claim == FEW:
        return (
            f"**{VERDICTS[claim]}.** {each.words}, {subject}: {number} on {_where(answer)}, from {_pairs(answer)}. That "
            "is about these trained models."
        )
    p = spell_p(answer.p_adjusted)
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    conditions = ", ".join(filter(None, [_where(answer), _subset(answer), _weights(answer)]))
    return (
        f"**{VERDICTS[claim]}{mark}.** {each.words}, {subject}: {number}, {conditions}. Better with a probability of "
        f"{probability(answer.these_tasks.better())}, by more than the margin with "
        f"{probability(answer.these_tasks.better_by_margin())}; {p} ({answer.role}). Higher in {answer.tasks_better} of "
        f"{len(answer.by_task)} tasks, and in {answer.pairs_better} of {_pairs(answer)}."
    )


def _pairs(answer: Across) -> str:
    return f"{answer.num_pairs} pair" + "s" * (answer.num_pairs != 1) + " of runs"


def _where(answer: Across) -> str:
    """Return the tasks and shares of a claim."""
    return f"on {_listed(answer.tasks)} with {shares(answer.fractions)} of the training records"


def _subset(answer: Across) -> str:
    """Return the condition on training records; empty with three draws or more, or all records."""
    if not answer.few_draws:
        return ""
    low, high = answer.num_records
    records = f"{low:,} records" if low == high else f"{low:,} to {high:,} records"
    if answer.num_draws[1] == 1:
        return f"on this one subset of each share ({records})"
    return f"on these {answer.num_draws[0]} subsets of each share ({records})"


def _weights(answer: Across) -> str:
    """Return the condition on first weights; empty with three different starts."""
    if len(answer.starts) >= MIN_RUNS or not answer.starts:
        return ""
    return "from these weights" if len(answer.starts) == 1 else f"from these {len(answer.starts)} sets of weights"


def shares(fractions: Sequence[float]) -> str:
    """Return shares of records in percent, as text."""
    if tuple(fractions) == (1.0,):
        return "all"
    return f"{_listed([f'{100 * fraction:.3g}' for fraction in fractions])} %"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def spell(both: Both) -> str:
    """Return a difference with the wider bounds of both ways, each with its sign."""
    return f"{both.value:+.4f} ({both.low:+.3f} to {both.high:+.3f})".replace("-", "−")


def probability(value: float) -> str:
    """Return a probability in percent; near its ends as more or less than, as replicates do not reach further."""
    percent = 100 * value
    if percent > 99.9:
        return "more than 99.9 %"
    return "less than 0.1 %" if percent < 0.1 else f"{percent:.1f} %"


def _first(answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on ranks, of studies whose runs are replicated."""
    lines = ["## Which method comes first?", ""]
    known = []
    for each in answers:
        ranked = each.ranked
        if ranked and not all(answer.these_tasks.few for answer in each.answers):
            first = ranked.methods[0]
            chance = probability(float(ranked.share[0, 0]))
            known.append(
                f"- {each.words}, of {_listed([f'`{method}`' for method in ranked.methods])} on the same runs: `{first}` "
                f"comes first with a probability of {chance}."
            )
    return [*lines, *(known or ["No answer yet: fewer than three methods share their runs."]), ""]


def _labels(answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on worth in labels: each method over all tasks, then refusals."""
    lines = ["## What is a method worth in labels?", ""]
    told, refused = [], dict[str, list[str]]()
    for each in answers:
        of_all = max((len(w.tasks) for w in each.worths), default=0)
        for one in each.worths:
            if one.reason:
                refused.setdefault(f"{each.words}: {one.reason}", []).append(f"`{one.method}`")
            elif len(one.tasks) == of_all:
                told.append(f"- {each.words}, on {_listed(one.tasks)}: {worth_words(one)}.")
    lines += told or ["No answer yet."]
    lines.append("")
    for reason, methods in refused.items():
        lines += [f"Not computed for {_listed(list(dict.fromkeys(methods)))}. {reason}.", ""]
    return lines


def worth_words(one: Worth) -> str:
    """Return what a method is worth, with its interval, as a sentence without its full stop."""
    share = f"{100 * one.fraction:.3g} %"
    mark = MARK if one.num_draws < MIN_RUNS else ""
    bounds = f"{_times(one.low, one)} to {_times(one.high, one)}"
    if math.isinf(one.times):
        return f"with {share} of the records `{one.method}` does better than `{BASELINE}` with {one.most:.3g} times as many{mark}"
    if one.times == 0:
        return f"with {share} of the records `{one.method}` does worse than `{BASELINE}` with {one.least:.3g} times as many{mark}"
    return (
        f"with {share} of the records `{one.method}` does as well as `{BASELINE}` with {100 * one.times * one.fraction:.2g} %"
        f": {one.times:.1f} times the records ({bounds}){mark}"
    )


def _times(value: float, one: Worth) -> str:
    if math.isinf(value):
        return f"more than {one.most:.3g}"
    return f"less than {one.least:.2g}" if value == 0 else f"{value:.1f}"


def _further(answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on tasks beyond these."""
    lines = ["## Would it hold on another task?", ""]
    known = [
        f"- {each.words}, `{answer.contrast.name}`: {spell(answer.further_tasks)} is expected over tasks like these "
        f"{len(answer.tasks)}."
        for each in answers
        for answer in each.answers
        if answer.further_tasks
    ]
    if known:
        return [*lines, *known, ""]
    return [
        *lines,
        f"This cannot be said: fewer than {MIN_TASKS} tasks have the runs. What stands above is about its tasks.",
        "",
    ]


def _runs(answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on how many more runs a difference of the margin needs, of the primary contrast."""
    lines = ["## How many more runs would it take?", ""]
    head = ["study", "task", "records", "patients", "draws", "seeds", "runs", "resolves now"]
    head += ["seeds needed", "draws needed", "more is worth"]
    rows = [
        [each.study.name, *runs_cells(one, each.study.margin)]
        for each in answers
        for one in each.variances
        if one.contrast == CONTRAST
    ]
    if not rows:
        return [*lines, f"Not known: no replicated pairs of {CONTRAST}.", ""]
    return [
        *lines,
        f"For `{CONTRAST}` to be found significant with 80 % power, as a single test at 5 %, where it is as large as the "
        f"margin, {answers[0].study.margin:g}. *Patients*, *draws* and *seeds*: standard deviations of the difference. "
        "*Seeds needed*: of one draw, so about that subset. *Draws needed*: of one seed each. `bench power` answers for "
        "other differences, and for planned looks at the data.",
        "",
        *markdown_table(head, rows, left=3),
    ]


def runs_cells(one: Variances, difference: float) -> list[str]:
    """Return the cells of a task and share: standard deviations, runs, what they resolve, and what is needed."""
    sds = [_sd(sd) for sd in (one.patient_sd, one.draw_sd, one.seed_sd)]
    runs = f"{one.draws} × {one.seeds:.2g}"
    needed = [_needed(one, difference, of) for of in ("seeds", "draws")]
    return [
        one.task,
        shares([one.fraction]),
        *sds,
        runs,
        f"{one.resolves(one.draws, one.seeds):.4f}",
        *needed,
        _next(one),
    ]


def _sd(sd: float) -> str:
    return "not known" if math.isnan(sd) else f"{sd:.4f}"


def _needed(one: Variances, difference: float, of: str) -> str:
    if one.limit() > difference:
        return f"none: patients allow {one.limit():.4f}"
    if math.isnan(one.draw_sd if of == "draws" else one.seed_sd):
        return "not known"
    number = one.needs(difference, of=of)
    return str(number) if number else "more than 200"


def _next(one: Variances) -> str:
    """Return which further run is worth more."""
    seed, draw = one.next_run()
    if math.isnan(draw):
        return "another draw: their variance is not known"
    if math.isnan(seed) or draw <= seed:
        return f"another draw: {draw:.4f}"
    return f"another seed: {seed:.4f}"


def _lacking(boards: Sequence[Board], answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on evidence that is not there, for the largest study."""
    lines = ["## What this page cannot say", ""]
    study = answers[0].study
    primary = answers[0].answer(CONTRAST) or answers[0].answers[0]
    absent = [task for task in PUBLISHED_TASKS if task not in primary.tasks]
    if absent:
        lines.append(f"- Anything of {_listed(absent)}: the largest study has no paired runs there.")
    if primary.few_draws:
        lines.append(
            f"- {MARK} What another subset of the records would give: the claims so marked rest on fewer than three draws "
            "of a share. They are about the subsets at hand."
        )
    if 1.0 not in primary.fractions:
        lines.append("- Anything of training with all records.")
    if len(primary.starts) < MIN_RUNS:
        lines.append(
            f"- What other pre-trained weights would give: there is {len(primary.starts)} set of them, not three."
        )
    if not answers[0].answer(PROBE.name) or len(answers[0].answer(PROBE.name).tasks) < len(primary.tasks):  # type: ignore[union-attr]
        lines.append("- Whether probe and stochastic depth matter on all of these tasks: `lpft` or `ft-sd` lacks runs.")
    backbones = sorted({each.study.backbone.partition(",")[0] for each in answers})
    lines.append(f"- Anything of other backbones than {_listed(backbones)}.")
    lines.append(f"- Studies do not correct for each other: each is tested at {100 * ALPHA:g} % of its own.")
    del study
    return [*lines, ""]


def _evidence(each: StudyAnswers) -> list[str]:
    """Return the folded tables of a study."""
    head = ["contrast", "on", "pairs", "redrawn", "mixed model", "P(better)", "P(by margin)", "p, Holm", "claim"]
    rows = []
    for answer in each.answers:
        scopes: list[tuple[str, Both, str, str, str]] = [
            (
                f"{_listed(answer.tasks)}; {shares(answer.fractions)}",
                answer.these_tasks,
                str(answer.num_pairs),
                "–" if math.isnan(answer.p_adjusted) else f"{spell_p(answer.p_adjusted)} ({answer.role})",
                answer.claim + MARK * (answer.few_draws and answer.claim != FEW),
            )
        ]
        if answer.further_tasks:
            scopes.append(("tasks like these", answer.further_tasks, "", "", ""))
        scopes += [(f"{task}", both, "", "", "") for task, both in answer.by_task.items() if len(answer.by_task) > 1]
        scopes += [
            (shares([fraction]), both, "", "", "")
            for fraction, both in answer.by_fraction.items()
            if len(answer.by_fraction) > 1
        ]
        for at, (where, both, pairs, p, claim) in enumerate(scopes):
            ways = [_way(way) for way in both.ways] + ["–"] * (both.modelled is None)
            chances = [probability(both.better()), probability(both.better_by_margin())]
            rows.append([answer.contrast.name if at == 0 else "", where, pairs, *ways, *chances, p, claim])
    lines = markdown_table(head, rows, left=2)
    starts = "; ".join(f"{task}: {init}" for task, init in sorted(each.study.starts.items()))
    lines += [f"First weights: {starts}.", ""]
    if each.ranked:
        lines += _rank_table(each.ranked)
    if told := [w for w in each.worths if not w.reason]:
        lines += ["Worth in labels:", "", *(f"- {_listed(w.tasks)}: {worth_words(w)}." for w in told), ""]
    return folded(f"The evidence: {each.words}", lines)


def _way(way: object) -> str:
    from bench.evaluation.hierarchical import Belief

    assert isinstance(way, Belief)
    words = f"{way.value:+.4f} ({way.low:+.3f} to {way.high:+.3f})".replace("-", "−")
    return words if way.converged else f"{words}, not converged"


def _rank_table(ranked: Ranked) -> list[str]:
    head = ["method", *(f"rank {rank}" for rank in range(1, len(ranked.methods) + 1)), "95 % interval"]
    rows = []
    for at, method in enumerate(ranked.methods):
        low, high = ranked.rank_interval(method)
        rows.append([method, *(probability(float(share)) for share in ranked.share[at]), f"{low}–{high}"])
    return ["Ranks over the same runs:", "", *markdown_table(head, rows)]


def _foot(answers: Sequence[StudyAnswers]) -> list[str]:
    return [
        "---",
        "",
        "Two ways must agree in a claim. *Redrawn*: patients are redrawn jointly over all tasks; in each task its draws "
        "are redrawn, or its seeds if there is one draw. *Mixed model*: effects of draws and seeds are random, and the "
        "patients' covariance between tasks is known. Bounds in sentences are the wider of both. Numbers are recomputed "
        "from predictions. The rules are in [PROTOCOL.md](../PROTOCOL.md), section 12.",
    ]
