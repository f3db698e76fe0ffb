"""Write the page *Which way of adapting is best?*: one answer a question, its uncertainty, and the evidence folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.boards.across import (
    ALONE,
    BETTER,
    CLAIMS,
    CONTRAST,
    DISAGREE,
    EQUAL,
    FEW,
    MUCH_BETTER,
    UNSETTLED,
    WORSE,
    Across,
    Both,
)
from bench.boards.answers import StudyAnswers
from bench.boards.declared import BASELINE
from bench.boards.rows import Board
from bench.boards.studies import AFTER_PROBE, DEPTH, PRETRAINING, PROBE, STEPS, WITH_DEPTH, Arm, Study
from bench.data.tasks import PUBLISHED_TASKS
from bench.evaluation.compare import ALPHA
from bench.evaluation.hierarchical import MIN_TASKS
from bench.evaluation.runs import MIN_RUNS
from bench.pages.about_data import PTB_XL
from bench.pages.across_simulated import simulated_lines
from bench.pages.answer_tables import all_few, evidence_lines, runs_lines, studies_lines, worth_words
from bench.pages.conditions import SUBSET
from bench.pages.markdown import folded, markdown_table
from bench.pages.spelling import equals, listed, spell_both, spell_p, spell_probability, spell_shares

ANSWER = "answer.md"
TITLE = "Which way of adapting is best?"
VERDICTS = {
    BETTER: "yes",
    MUCH_BETTER: "yes, by more than the margin",
    WORSE: "no, it is worse",
    EQUAL: "it makes no difference that matters",
    UNSETTLED: "not settled",
    DISAGREE: "not settled, the two ways of computing it disagree",
}
NAMES = {
    "lp": "a linear probe (the backbone stays frozen)",
    "lpft": "a linear probe, then fine-tuning",
    "ft-sd": "fine-tuning with stochastic depth",
    "lpft-sd": "a linear probe, then fine-tuning with stochastic depth",
}
QUESTIONS = {
    STEPS.name: "Is `lpft-sd` better than fine-tuning of as many steps (`ft-long`)?",
    PROBE.name: "Does a linear probe before fine-tuning help?",
    DEPTH.name: "Does stochastic depth help?",
    PRETRAINING.name: "Does pre-training help?",
}
PARTS = {
    PROBE.name: {"lpft minus ft": "without stochastic depth", WITH_DEPTH.name: "with it"},
    DEPTH.name: {"ft-sd minus ft": "without a probe", AFTER_PROBE.name: "after one"},
}
"""Factor -> the contrasts whose mean it is."""
NOTES = {
    PRETRAINING.name: ["This depends on how long both are trained: see the steps of `ft` in the first table.", ""],
    CONTRAST: ["`lpft-sd` takes more steps than `ft`: see the first table, and the question on `ft-long` below.", ""],
}
UNEQUAL_STEPS = " Not at equal steps: no run of this study at these shares tells the method from its steps."
INTERVALS = (
    "A board's interval borrows from its other rows how much runs vary (PROTOCOL.md, sentence 33); this page's does "
    "not, and is mostly wider. Cite the board's for one task and share, this page's for several."
)
OPPOSED = "no one answer, its two cases differ in direction"


def answer_page(
    boards: Sequence[Board], answers: Sequence[StudyAnswers], picture: str, simulated: Sequence[Mapping[str, str]]
) -> str:
    """Return the Markdown page. `simulated` are the rows of across_simulations.csv."""
    lines = [f"# {TITLE}", ""]
    if boards[0].synthetic:
        lines += ["**Synthetic data: these numbers say that the machinery runs, and nothing about ECGs.**", ""]
    lines += _introduction(boards, answers)
    lines += [*studies_lines(answers), INTERVALS, ""]
    if picture:
        lines += [f"![Difference from {BASELINE} of each method, over all tasks and in each task]({picture})", ""]
    lines += _methods(answers)
    lines += _first(answers)
    for name, question in QUESTIONS.items():
        lines += _question(question, answers, name)
    lines += _labels(answers)
    lines += _further(answers)
    lines += runs_lines(answers)
    lines += _lacking(boards, answers)
    for each in answers:
        lines += evidence_lines(each)
    lines += simulated_lines(simulated)
    return "\n".join([*lines, *_foot()]) + "\n"


def _introduction(boards: Sequence[Board], answers: Sequence[StudyAnswers]) -> list[str]:
    boards_of = ", ".join(f"[{task}]({task}.md)" for task in dict.fromkeys(board.task for board in boards))
    return [
        f"Each method of adapting a pre-trained model is compared with full fine-tuning (`{BASELINE}`) on "
        f"{boards[0].dataset}, over the tasks, shares of the training records, draws and seeds of which both have "
        "runs. Numbers are differences of macro AUROC over frequent labels; brackets are 95 % intervals over patients, "
        "draws and seeds, for which a task needs three runs. A difference below "
        f"{answers[0].study.margin:g}, the *margin*, does not matter in practice. "
        f"Boards of the tasks: {boards_of}.",
        "",
        "Each backbone, recipe and set of first weights is a *study* of its own, and no claim mixes them:",
        "",
    ]


def _methods(answers: Sequence[StudyAnswers]) -> list[str]:
    method = CONTRAST.partition(" ")[0]
    lines = _question(f"Is {NAMES[method]} (`{method}`) better than `{BASELINE}`?", answers, CONTRAST)
    others = [
        (each, answer)
        for each in answers
        for answer in each.answers
        if answer.contrast.name.endswith(f" minus {BASELINE}") and answer.contrast.name != CONTRAST
    ]
    if others:
        answered = [(each, answer) for each, answer in others if _is_answer(answer)]
        answered.sort(key=lambda item: (item[0].letter, -item[1].these_tasks.value))
        lines += ["## And the other methods?", "", *(f"- {_claim(each, answer)}" for each, answer in answered), ""]
        lines += _unanswered([(each, answer) for each, answer in others if not _is_answer(answer)])
    return lines


def _unanswered(others: Sequence[tuple[StudyAnswers, Across]]) -> list[str]:
    """Return a folded table of differences that answer nothing: a method a row, a board of a study a column."""
    columns: dict[str, dict[str, Both]] = {}
    for each, answer in others:
        columns.setdefault(f"{each.letter}: {_board(answer)}", {})[answer.contrast.plus[0].method] = answer.these_tasks
    if not columns:
        return []
    heads = sorted(columns)
    longest = max(heads, key=lambda head: len(columns[head]))
    order = [longest, *(head for head in heads if head != longest)]
    methods = dict.fromkeys(m for head in order for m in sorted(columns[head], key=lambda m: -columns[head][m].value))
    rows = [
        [f"`{method}`", *(spell_both(columns[head][method]) if method in columns[head] else "–" for head in heads)]
        for method in methods
    ]
    table = markdown_table([f"minus `{BASELINE}`", *heads], rows)
    note = (
        "A difference with an interval rests on one task at one share: cite its board's. A difference "
        "without rests on fewer than three runs a task. –: answered above, or no runs."
    )
    return folded(f"Too little for an answer: {len(methods)} methods", [*table, note, ""])


def _question(question: str, answers: Sequence[StudyAnswers], name: str) -> list[str]:
    lines = [f"## {question}", "", *NOTES.get(name, ())]
    known = [(each, answer) for each in answers if (answer := each.answer(name))]
    if not known:
        return [*lines, "No answer yet: no study has all the runs that this needs.", ""]
    words = [_claim(each, answer) if _is_answer(answer) else _no_claim(each, answer) for each, answer in known]
    return [*lines, *(f"- {line}" for line in words), ""]


def _is_answer(answer: Across) -> bool:
    return answer.claim not in (ALONE, FEW)


def _no_claim(each: StudyAnswers, answer: Across) -> str:
    """Return why a study has no answer, and its difference."""
    alone = "one task at one share: cite its board's interval"
    why = alone if answer.claim == ALONE else "fewer than three runs a task, so no intervals"
    size = f"{_size(each, answer)}.{_unequal_steps(each, answer)}"
    return f"**{each.letter}: no answer here**, {why} ({_board(answer)}): {size}"


def _board(answer: Across) -> str:
    """Return the tasks of an answer, each with a link to its board, and the shares of the records."""
    return f"{listed([f'[{task}]({task}.md)' for task in answer.tasks])}, {spell_shares(answer.fractions)}"


def _claim(each: StudyAnswers, answer: Across) -> str:
    """Return a claim with its conditions: the verdict, the size, and what it rests on."""
    subset = "" if not answer.few_draws else " on this subset" if answer.num_draws[1] == 1 else " on these subsets"
    subset += SUBSET * answer.few_draws
    tasks = f" and {answer.tasks_better} of {len(answer.tasks)} tasks" if len(answer.tasks) > 1 else ""
    conditions = ", ".join(filter(None, [_subset(answer), _weights(answer)]))
    return (
        f"**{each.letter}, with {spell_shares(answer.fractions)} of the records{subset}: {_verdict(each, answer)}.** "
        f"{_size(each, answer)}, on {listed(answer.tasks)}. Better with a probability of "
        f"{spell_probability(answer.these_tasks.better())} (p {equals(spell_p(answer.p_adjusted))}, {answer.role}); "
        f"higher in {answer.pairs_better} of {_pairs(answer)}{tasks}{conditions and '; '}{conditions}."
        f"{_other_shares(answer)}{_unequal_steps(each, answer)}"
    )


def _unequal_steps(each: StudyAnswers, answer: Across) -> str:
    """Return that the primary contrast stands without `ft-long`, where no run of it is paired; else an empty text."""
    alone = answer.contrast.name == CONTRAST and not _has_long(each.study, answer.tasks, answer.fractions)
    return UNEQUAL_STEPS * alone


def _has_long(study: Study, tasks: Sequence[str], fractions: Sequence[float]) -> bool:
    """Return whether the primary method has a pair with fine-tuning of as many steps, at one of these shares."""
    return any(study.places(task, fraction, STEPS.arms) for task in tasks for fraction in fractions)


def _verdict(each: StudyAnswers, answer: Across) -> str:
    """Return the claim in words. A factor that helps in one of its cases and harms in the other has no one answer."""
    values = [part.these_tasks.value for part, _ in _parts(each, answer)]
    opposed = answer.claim in CLAIMS and values and min(values) < 0 < max(values)
    return OPPOSED if opposed else VERDICTS[answer.claim]


def _other_shares(answer: Across) -> str:
    """Return what the difference is at shares of the records that the claim is not about."""
    words = [
        f"with {spell_shares([fraction])}, on {listed(tasks)}, {spell_both(both)}"
        for fraction, (tasks, both) in answer.by_fraction.items()
        if fraction not in answer.fractions
    ]
    return f" Not part of this claim: {'; '.join(words)}." if words else ""


def _size(each: StudyAnswers, answer: Across) -> str:
    """Return as text by how much a factor changes macro AUROC, or the difference of two arms.

    The text says higher or lower only where this is claimed.
    """
    name, both = answer.contrast.name, answer.these_tasks
    if " minus " not in name:
        cases = " and ".join(f"{spell_both(part.these_tasks)} {where}" for part, where in _parts(each, answer))
        text = f"{name} changes macro AUROC by {spell_both(both)}{cases and ': '}{cases}"
        return text[0].upper() + text[1:]
    first, second = name.split(" minus ")
    if answer.claim not in (BETTER, MUCH_BETTER, WORSE):
        return f"`{first}` minus `{second}` is {spell_both(both)}"
    low, high = sorted((both.low, both.high), key=abs)
    direction = "higher" if both.value > 0 else "lower"
    return f"`{first}` scores {abs(both.value):.4f} {direction} than `{second}` ({abs(low):.3f} to {abs(high):.3f})"


def _parts(each: StudyAnswers, answer: Across) -> list[tuple[Across, str]]:
    """Return the two effects whose mean a factor is, each with its case; empty unless both rest on the same runs."""
    parts = [
        (part, where)
        for name, where in PARTS.get(answer.contrast.name, {}).items()
        if (part := each.answer(name)) and (part.tasks, part.fractions, part.num_pairs) == _place(answer)
    ]
    return parts if len(parts) > 1 else []


def _place(answer: Across) -> tuple[tuple[str, ...], tuple[float, ...], int]:
    return answer.tasks, answer.fractions, answer.num_pairs


def _pairs(answer: Across) -> str:
    return f"{answer.num_pairs} pair" + "s" * (answer.num_pairs != 1) + " of runs"


def _subset(answer: Across) -> str:
    """Return the condition on training records; empty with three draws or more, or all records."""
    if not answer.few_draws:
        return ""
    low, high = answer.num_records
    records = f"{low:,} records" if low == high else f"{low:,} to {high:,} records"
    subsets = "one subset" if answer.num_draws[1] == 1 else f"{answer.num_draws[0]} subsets"
    return f"{subsets} of each share ({records})"


def _weights(answer: Across) -> str:
    """Return the condition on first weights; empty with three different starts."""
    if len(answer.starts) >= MIN_RUNS or not answer.starts:
        return ""
    return "one set of first weights" if len(answer.starts) == 1 else "one set of first weights for each task"


def _first(answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on ranks, of studies whose runs are replicated."""
    known = []
    for each in answers:
        ranked = each.ranked
        if ranked and len(ranked.tasks) * len(ranked.fractions) > 1 and not all_few(each):
            names = listed([f"`{method}`" for method in ranked.methods])
            chance = spell_probability(float(ranked.share[0, 0]))
            mark = f", on the subsets at hand{SUBSET}" if ranked.few_draws else ""
            known.append(
                f"- {each.letter}, with {spell_shares(ranked.fractions)} of the records: of {names}, "
                f"`{ranked.methods[0]}` comes first with a probability of {chance} on {listed(ranked.tasks)}{mark}."
            )
    none = "No answer yet: fewer than three methods share runs of several tasks or shares."
    return ["## Which method comes first?", "", *(known or [none]), ""]


def _labels(answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on worth in records: each method over all tasks, then refusals."""
    known, refused = list[str](), dict[str, list[str]]()
    for each in answers:
        of_all = max((len(worth.tasks) for worth in each.worths), default=0)
        reasons: dict[str, dict[str, None]] = {}
        for worth in each.worths:
            if worth.reason:
                reasons.setdefault(worth.reason, {})[f"`{worth.method}`"] = None
            elif len(worth.tasks) == of_all:
                alone = Arm(worth.method) in STEPS.plus and not _has_long(each.study, worth.tasks, [worth.fraction])
                known.append(f"- {each.letter}, on {listed(worth.tasks)}: {worth_words(worth)}.{UNEQUAL_STEPS * alone}")
        for reason, methods in reasons.items():
            refused.setdefault(reason, []).append(f"{each.letter} ({', '.join(methods)})")
    lines = ["## How many records is a method worth?", ""]
    if known:
        lines += [
            f"This depends on how well `{BASELINE}` is trained: see its steps in the first table. It counts training "
            f"records only: each run also selects its epoch on the labels of fold 9 ({_selected_on(answers)}), and a "
            "tuned setting was chosen on the records that the first table names.",
            "",
        ]
    lines += known or ["No answer yet."]
    lines += [f"- Refused, because {reason}: {'; '.join(studies)}." for reason, studies in refused.items()]
    return [*lines, ""]


def _selected_on(answers: Sequence[StudyAnswers]) -> str:
    """Return the number of fold-9 records of each task."""
    runs = {task: row.runs[0] for each in answers for (task, _, _), row in each.study.rows.items()}
    counts = {task: run.document.get("split", {}).get("val_records") for task, run in sorted(runs.items())}
    return ", ".join(f"{task}: {count:,}" for task, count in counts.items() if count)


def _further(answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on tasks beyond these."""
    lines = ["## Would it hold on another task?", ""]
    rows = [
        [each.letter, answer.contrast.name, listed(answer.tasks), spell_both(answer.further_tasks)]
        for each in answers
        for answer in each.answers
        if answer.further_tasks
    ]
    if not rows:
        few = f"fewer than {MIN_TASKS} tasks have the runs"
        return [*lines, f"This cannot be said: {few}. What stands above is about its tasks.", ""]
    head = ["study", "contrast", "seen on", "expected over tasks like these"]
    return [*lines, *markdown_table(head, rows, left=3)]


def _lacking(boards: Sequence[Board], answers: Sequence[StudyAnswers]) -> list[str]:
    """Return the section on evidence that is not there."""
    largest = answers[0]
    primary = largest.answer(CONTRAST) or largest.answers[0]
    every = PUBLISHED_TASKS if boards[0].dataset.startswith(PTB_XL) else dict.fromkeys(board.task for board in boards)
    lines = ["## What this page cannot say", ""]
    if absent := [task for task in every if task not in primary.tasks]:
        names = listed([f"`{task}`" for task in absent])
        lines.append(f"- Anything of {names} in study {largest.letter}, the largest: it has no such pairs.")
    if any(answer.few_draws for each in answers for answer in each.answers):
        lines.append(
            f"- {SUBSET} What another subset of the records would give: claims with this mark rest on fewer than three "
            "draws of a share, and are about the subsets at hand."
        )
    late = {board.task: None for board in boards if board.plan.preregistered is False}
    if shown := [task for task in late if any(task in answer.tasks for each in answers for answer in each.answers)]:
        lines.append(
            f"- A pre-registered answer on {listed(shown)}: there the contrasts were declared after first results."
        )
    if not any(1.0 in answer.fractions for each in answers for answer in each.answers):
        lines.append("- Anything of training with all records.")
    if len(primary.starts) < MIN_RUNS:
        lines.append(
            f"- What other pre-trained weights would give: study {largest.letter} has one set of them for a task."
        )
    probe = largest.answer(PROBE.name)
    if probe is None or len(probe.tasks) < len(primary.tasks):
        lines.append("- Whether probe and stochastic depth matter on all of these tasks: `lpft` or `ft-sd` lacks runs.")
    backbones = sorted({each.study.backbone.partition(",")[0] for each in answers})
    lines.append(f"- Anything of other backbones than {listed(backbones)}.")
    lines.append(f"- p is not corrected over studies: each is tested at {100 * ALPHA:g} % by itself.")
    return [*lines, ""]


def _foot() -> list[str]:
    """Return how the numbers are made."""
    return [
        "---",
        "",
        "Two ways must agree in a claim. *Redrawn*: patients are redrawn jointly over all tasks; in each task its "
        "draws are redrawn, or its seeds if there is one draw. *Mixed model*: draws and seeds have random effects, "
        "and the patients' covariance between tasks is known; a coarser grid gives the same bounds, or the table "
        "says *not converged*. Sentences have the wider bounds and the less certain probability of both. *p* is "
        "Holm's, as on boards. The rules are in [PROTOCOL.md](../PROTOCOL.md), section 12.",
    ]
