"""Write the page *Which way of adapting is best?*: one answer a question, its uncertainty, and the evidence folded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.boards.across import (
    ALONE,
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
from bench.boards.declared import BASELINE
from bench.boards.power import Variances, variances_of_study
from bench.boards.rows import Board
from bench.boards.studies import PROBE, Study, studies_of
from bench.boards.worth import Worth, worth
from bench.data.tasks import PUBLISHED_TASKS
from bench.evaluation.compare import ALPHA
from bench.evaluation.hierarchical import MIN_TASKS, Belief
from bench.evaluation.runs import MIN_RUNS
from bench.pages.about_data import PTB_XL
from bench.pages.across_simulated import simulated_lines
from bench.pages.conditions import SUBSET
from bench.pages.markdown import folded, markdown_table
from bench.pages.spelling import spell_p

ANSWER = "answer.md"
TITLE = "Which way of adapting is best?"
VERDICTS = {
    BETTER: "Yes",
    MUCH_BETTER: "Yes, by more than the margin",
    WORSE: "No, it is worse",
    EQUAL: "It makes no difference that matters",
    UNSETTLED: "Not settled",
    DISAGREE: "Not settled, the two ways of computing it disagree",
    FEW: "No answer",
    ALONE: "No answer over tasks and shares yet",
}
RECIPES = {
    "reported": "methods at their defaults",
    "tuned": "methods tuned on fold 9",
    "given": "settings given by hand",
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
        """Return the recipe, the backbone, and the first weights where these distinguish the study, as text."""
        return f"{RECIPES[self.study.recipe]}, {self.study.backbone.partition(',')[0]}{self.study.from_start}"

    def answer(self, name: str) -> Across | None:
        """Return the answer about a contrast; None if no runs are paired."""
        return next((answer for answer in self.answers if answer.contrast.name == name), None)


def answers_of(boards: Sequence[Board]) -> list[StudyAnswers]:
    """Return the answers of each study of the boards of one data set that has any."""
    answers = []
    for study in studies_of(boards):
        if of_study := across(study):
            worths = [each for method in study.methods for each in worth(study, method)]
            answers.append(StudyAnswers(study, of_study, ranks(study), worths, variances_of_study(study)))
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
    boards_of = ", ".join(f"[{task}]({task}.md)" for task in dict.fromkeys(board.task for board in boards))
    lines += [
        f"Each method of adapting a pre-trained model is compared with full fine-tuning (`{BASELINE}`) on "
        f"{first.dataset}, over all tasks, shares of the training records, draws of a share, and seeds that both have. "
        "Numbers are differences of macro AUROC over frequent labels; brackets are 95 % intervals over patients, draws "
        f"and seeds. A difference below {margin:g}, the *margin*, does not matter in practice. Each recipe is a study "
        "of its own: defaults, tuned and given settings share no claim. So is each set of first weights, where a task "
        f"has several. Boards of the tasks: {boards_of}.",
        "",
    ]
    if picture:
        lines += [f"![Difference from {BASELINE} of each method, over all tasks and in each task]({picture})", ""]
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
    return "\n".join([*lines, *_foot()]) + "\n"


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
        lines += [*_claims(others), ""]
    return lines


def _question(question: str, answers: Sequence[StudyAnswers], name: str) -> list[str]:
    lines = [f"## {question}", ""]
    known = [(each, answer) for each in answers if (answer := each.answer(name))]
    if not known:
        return [*lines, "No answer yet: no study has all the runs that this needs.", ""]
    return [*lines, *_claims(known), ""]


def _claims(known: Sequence[tuple[StudyAnswers, Across]]) -> list[str]:
    """Return a line for each claim, then a line for those of each study that have no answer, by reason and place."""
    lines, unanswered = [], dict[tuple[str, str, str, tuple[str, ...]], list[str]]()
    for each, answer in known:
        if answer.claim in (ALONE, FEW):
            key = answer.claim, each.words, _where(answer), answer.tasks
            unanswered.setdefault(key, []).append(_size(answer))
        else:
            lines.append(f"- {_claim(each, answer)}")
    for (claim, words, where, tasks), sizes in unanswered.items():
        why = f"which [its board]({tasks[0]}.md) judges" if claim == ALONE else "from fewer than three runs"
        lines.append(f"- **{VERDICTS[claim]}.** {_upper(words)}: {'; '.join(sizes)}; {where} alone, {why}.")
    return lines


def _claim(each: StudyAnswers, answer: Across) -> str:
    """Return a claim with its conditions: the verdict, the size, and what it rests on."""
    claim, both = answer.claim, answer.these_tasks
    mark = SUBSET if answer.few_draws else ""
    where = "" if not mark else " on this subset" if answer.num_draws[1] == 1 else " on these subsets"
    start = f"**{VERDICTS[claim]}{where}{mark}.** {_upper(each.words)}: {_size(answer)}"
    conditions = " ".join(filter(None, [_where(answer) + ",", _subset(answer), _weights(answer)])).removesuffix(",")
    tasks = f" and {answer.tasks_better} of {len(answer.tasks)} tasks" if len(answer.tasks) > 1 else ""
    p = spell_p(answer.p_adjusted)
    p = p if p.startswith("<") else f"= {p}"
    return (
        f"{start}, better with a probability of {probability(both.better())} (p {p}, "
        f"{answer.role}). Measured {conditions}; higher in {answer.pairs_better} of {_pairs(answer)}{tasks}."
    )


def _size(answer: Across) -> str:
    """Return as text by how much the first arm scores higher or lower."""
    name, both = answer.contrast.name, answer.these_tasks
    if " minus " not in name:
        return f"{name} changes macro AUROC by {spell(both)}"
    first, second = name.split(" minus ")
    low, high = sorted((both.low, both.high), key=abs) if both.low * both.high > 0 else (both.low, both.high)
    if both.low * both.high <= 0:
        return f"`{first}` minus `{second}` is {spell(both)}"
    direction = "higher" if both.value > 0 else "lower"
    return f"`{first}` scores {abs(both.value):.4f} {direction} than `{second}` ({abs(low):.3f} to {abs(high):.3f})"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


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
        return f"on one subset of each share ({records})"
    return f"on {answer.num_draws[0]} subsets of each share ({records})"


def _weights(answer: Across) -> str:
    """Return the condition on first weights; empty with three different starts."""
    if len(answer.starts) >= MIN_RUNS or not answer.starts:
        return ""
    return "from one set of weights" if len(answer.starts) == 1 else f"from {len(answer.starts)} sets of weights"


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
        if ranked and len(ranked.tasks) * len(ranked.fractions) > 1 and not _all_few(each):
            names = _listed([f"`{method}`" for method in ranked.methods])
            chance = probability(float(ranked.share[0, 0]))
            mark = f", on the subsets at hand{SUBSET}" if ranked.few_draws else ""
            known.append(
                f"- {_upper(each.words)}: of {names}, `{ranked.methods[0]}` comes first with a probability of "
                f"{chance}, on {_listed(ranked.tasks)} with {shares(ranked.fractions)} of the training records{mark}."
            )
    return [*lines, *(known or ["No answer yet: fewer than three methods share runs of several tasks or shares."]), ""]


def _all_few(each: StudyAnswers) -> bool:
    return all(answer.these_tasks.few for answer in each.answers)


def _labels(answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on worth in labels: each method over all tasks, then refusals."""
    lines = ["## What is a method worth in labels?", ""]
    known, refused = list[str](), dict[str, list[str]]()
    for each in answers:
        of_all = max((len(w.tasks) for w in each.worths), default=0)
        for one in each.worths:
            if one.reason:
                refused.setdefault(f"{each.words}: {one.reason}", []).append(f"`{one.method}`")
            elif len(one.tasks) == of_all:
                known.append(f"- {_upper(each.words)}, on {_listed(one.tasks)}: {worth_words(one)}.")
    lines += known or ["No answer yet."]
    for reason, methods in refused.items():
        lines.append(f"- Refused for {_listed(list(dict.fromkeys(methods)))}, {reason}.")
    return [*lines, ""]


def worth_words(one: Worth) -> str:
    """Return what a method is worth, with its interval, as a sentence without its full stop."""
    start = f"with {100 * one.fraction:.3g} % of the records `{one.method}` does"
    mark = SUBSET if one.num_draws < MIN_RUNS else ""
    bounds = f"{_times(one.low, one)} to {_times(one.high, one)}"
    if math.isinf(one.times):
        return f"{start} better than `{BASELINE}` with {one.most:.3g} times as many{mark}"
    if one.times == 0:
        return f"{start} worse than `{BASELINE}` with {one.least:.3g} times as many{mark}"
    worth = f"{100 * one.times * one.fraction:.2g} %, {one.times:.1f} times the records"
    return f"{start} as well as `{BASELINE}` with {worth} ({bounds}){mark}"


def _times(value: float, one: Worth) -> str:
    if math.isinf(value):
        return f"more than {one.most:.3g}"
    return f"less than {one.least:.2g}" if value == 0 else f"{value:.1f}"


def _further(answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on tasks beyond these."""
    lines = ["## Would it hold on another task?", ""]
    known = [
        f"- {_upper(each.words)}: {answer.contrast.name}, {spell(answer.further_tasks)} expected over tasks like these "
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
        f"To find `{CONTRAST}` significant with 80 % power, as a single test at 5 %, where it is as large as the "
        f"margin, {answers[0].study.margin:g}. *Patients*, *draws*, *seeds*: standard deviations of the difference; "
        "from three runs they are rough. *Seeds needed*: of one draw, so about that subset. *Draws needed*: of one "
        "seed each. `bench power` answers for other differences, and for planned looks at the data.",
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
        return f"no number: patients allow {one.limit():.4f}"
    if math.isnan(one.draw_sd if of == "draws" else one.seed_sd):
        return "not known"
    number = one.needs(difference, of=of)
    return str(number) if number else "more than 200"


def _next(one: Variances) -> str:
    """Return which further run is worth more."""
    seed, draw = one.next_run()
    if math.isnan(draw):
        return "another draw, to learn how draws vary"
    if math.isnan(seed) or draw <= seed:
        return f"another draw: {draw:.4f}"
    return f"another seed: {seed:.4f}"


def _lacking(boards: Sequence[Board], answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on evidence that is not there, for the largest study."""
    lines = ["## What this page cannot say", ""]
    primary = answers[0].answer(CONTRAST) or answers[0].answers[0]
    probe = answers[0].answer(PROBE.name)
    every = PUBLISHED_TASKS if boards[0].dataset.startswith(PTB_XL) else dict.fromkeys(board.task for board in boards)
    absent = [task for task in every if task not in primary.tasks]
    if absent:
        lines.append(f"- Anything of {_listed(absent)}: the largest study has no paired runs there.")
    if primary.few_draws:
        lines.append(
            f"- {SUBSET} What another subset of the records would give: claims with this mark rest on fewer than three "
            "draws of a share, and are about the subsets at hand."
        )
    if 1.0 not in primary.fractions:
        lines.append("- Anything of training with all records.")
    if (num_starts := len(primary.starts)) < MIN_RUNS:
        lines.append(
            f"- What other pre-trained weights would give: this needs three sets of them; so far: {num_starts}."
        )
    if probe is None or len(probe.tasks) < len(primary.tasks):
        lines.append("- Whether probe and stochastic depth matter on all of these tasks: `lpft` or `ft-sd` lacks runs.")
    backbones = sorted({each.study.backbone.partition(",")[0] for each in answers})
    lines.append(f"- Anything of other backbones than {_listed(backbones)}.")
    lines.append(f"- Studies do not correct for each other: each is tested at {100 * ALPHA:g} % of its own.")
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
                answer.claim + SUBSET * (answer.few_draws and answer.claim not in (FEW, ALONE)),
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
    tasks = sorted({task for answer in each.answers for task in answer.by_task})
    starts = "; ".join(f"{task}: {each.study.starts[task]}" for task in tasks if task in each.study.starts)
    lines += [f"First weights: {starts}.", ""]
    if each.ranked and not _all_few(each):
        lines += _rank_table(each.ranked)
    if known := [one for one in each.worths if not one.reason]:
        lines += ["Worth in labels:", "", *(f"- {_listed(one.tasks)}: {worth_words(one)}." for one in known), ""]
    return folded(f"The evidence: {each.words}", lines)


def _way(way: Belief) -> str:
    words = f"{way.value:+.4f} ({way.low:+.3f} to {way.high:+.3f})".replace("-", "−")
    return words if way.converged else f"{words}, not converged"


def _rank_table(ranked: Ranked) -> list[str]:
    head = ["method", *(f"rank {rank}" for rank in range(1, len(ranked.methods) + 1)), "95 % interval"]
    rows = []
    for at, method in enumerate(ranked.methods):
        low, high = ranked.rank_interval(method)
        rows.append([method, *(probability(float(share)) for share in ranked.share[at]), f"{low}–{high}"])
    return ["Ranks over the same runs:", "", *markdown_table(head, rows)]


def _foot() -> list[str]:
    """Return how the numbers are made."""
    return [
        "---",
        "",
        "Two ways must agree in a claim. *Redrawn*: patients are redrawn jointly over all tasks; in each task its "
        "draws are redrawn, or its seeds if there is one draw. *Mixed model*: draws and seeds have random effects, "
        "and the patients' covariance between tasks is known; a coarser grid gives the same bounds, or the table "
        "says *not converged*. Sentences have the wider bounds and the smaller probability of both. *p* is Holm's, "
        "as on boards. The rules are in [PROTOCOL.md](../PROTOCOL.md), section 12.",
    ]
