"""Questions over tasks: what is paired, what is claimed and what is not, on studies whose truth is known."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from bench.boards import across as across_module
from bench.boards.across import ALONE, BETTER, EQUAL, FEW, MUCH_BETTER, WORSE, Across, Both, across, ranks
from bench.boards.answers import answers_frame, answers_of
from bench.boards.comparisons import ResampledRun
from bench.boards.declared import FAMILY, PRIMARY, BoardPlan
from bench.boards.power import variances_of
from bench.boards.rows import Board, Row
from bench.boards.studies import PRETRAINING, PROBE, Arm, studies_of
from bench.boards.worth import worth
from bench.data.tasks import LabelTable
from bench.evaluation.bootstrap import make_replicates, resample
from bench.evaluation.hierarchical import Belief
from bench.pages.answer import answer_page
from bench.pages.answer_picture import draw_answers
from bench.pages.markdown import cells_of
from bench.results.result import Result

SHARES = (0.01, 0.03, 0.1)
SHARED, RUN = 0.9, 0.15
"""Share of a score's noise that all methods have in common, and spread of a run's quality."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coarser grid: the bounds hardly change."""
    both = across_module.by_mixed_model
    monkeypatch.setattr(across_module, "by_mixed_model", lambda *args, **kinds: both(*args, **{"nodes": 12, **kinds}))


def table(task: str) -> LabelTable:
    """Fold 10 of a task: 300 records of 200 patients who are the same in every task."""
    random = np.random.default_rng(len(task))
    y_true = random.random((300, 2)) < [0.3, 0.5]
    patients = np.sort(np.random.default_rng(0).integers(200, size=300))
    return LabelTable(task, ("A", "B"), np.arange(300), patients, np.full(300, 10), y_true)


def board(
    task: str,
    fraction: float,
    qualities: Mapping[str, float],
    places: Sequence[tuple[int, int]],
    init: str = "own:1",
    tuned: Sequence[str] = (),
    spread: float = RUN,
    phases: Sequence[tuple[int, int]] = (),
) -> Board:
    """A board with a row for each method; a higher quality separates positives better."""
    truth = table(task)
    replicates = make_replicates(truth.patient_id, truth.y_true, 2)
    seed = [ord(letter) for letter in task] + [int(1000 * fraction)]
    rows = []
    for at, (name, quality) in enumerate(qualities.items()):
        method, _, start = name.partition(" from ")
        scored, runs = {}, []
        for place in places:
            random = np.random.default_rng([*seed, at, *place])
            shared = np.random.default_rng(seed).normal(size=truth.y_true.shape)
            noise = math.sqrt(SHARED) * shared + math.sqrt(1 - SHARED) * random.normal(size=shared.shape)
            y_score = (quality + spread * random.normal()) * truth.y_true + noise
            scored[place] = ResampledRun(y_score, resample(truth.y_true, y_score, replicates), "draw and seed")
            search = {"search": {"trials": [{"method": method}] * 4}} if name in tuned else {}
            cell = {"task": task, "fraction": fraction, "method": method, "draw": place[0], "seed": place[1]}
            document = {"cell": cell, "split": {"train_records": int(1e4 * fraction)}, **search}
            document["method"] = {"phases": [{"batch_size": size} for size, _ in phases]}
            document["training"] = [{"train_loss": [0.5] * epochs} for _, epochs in phases]
            runs.append(Result(Path(f"{task}-{fraction}-{name}-{place}"), document))
        rows.append(Row("net", start or init, method, tuple(runs), {}, scored))
    plan = BoardPlan("ft")
    fingerprint = f"all folds of {task}"  # that of a task is not that of its fold 10
    return Board("ptb-xl-1.0.3", False, task, fingerprint, fraction, "", tuple(rows), (), truth, plan, None)


def boards(qualities: Mapping[str, float], tasks: Sequence[str], draws: int, seeds: int, **how: object) -> list[Board]:
    """Boards of these tasks at all SHARES; more records, better methods."""
    places = list(itertools.product(range(draws), range(seeds)))
    return [
        board(task, share, {name: q + at * 0.4 for name, q in qualities.items()}, places, **how)  # type: ignore[arg-type]
        for task in tasks
        for at, share in enumerate(SHARES)
    ]


def answer(found: Sequence[Across], name: str = "lpft-sd minus ft") -> Across:
    return next(each for each in found if each.contrast.name == name)


def test_each_task_is_shown_at_the_shares_of_the_claim() -> None:
    """Otherwise its value, over other shares, could contradict how many tasks are higher."""
    places = [(0, 0), (1, 0), (2, 0)]
    qualities = {"ft": 0.5, "lpft-sd": 1.2}
    made = [board(*cell, qualities, places) for cell in (("aa", 0.01), ("aa", 0.1), ("bbb", 0.01))]
    (study,) = studies_of(made)
    found = answer(across(study))

    assert (found.tasks, found.fractions) == (("aa", "bbb"), (0.01,))
    assert {task: shares for task, (shares, _) in found.by_task.items()} == {"aa": (0.01,), "bbb": (0.01,)}
    assert np.mean([both.value for _, both in found.by_task.values()]) == pytest.approx(found.these_tasks.value)
    text = answer_page(made, answers_of(made), "", [])
    assert text.count("aa and bbb; 1 % |") == 1 and "|  | aa; 10 % |" in text and "aa; 1 and 10 %" not in text


def test_a_planted_effect_is_found_over_tasks_shares_draws_and_seeds() -> None:
    (study,) = studies_of(boards({"ft": 0.5, "lpft-sd": 1.2}, ["aa", "bbb", "cccc"], 3, 1))
    found = answer(across(study))

    assert found.tasks == ("aa", "bbb", "cccc") and found.fractions == SHARES
    assert (found.num_pairs, found.pairs_better, found.tasks_better) == (27, 27, 3)
    assert found.role == PRIMARY and found.claim == MUCH_BETTER
    assert found.these_tasks.redrawn.value == pytest.approx(found.these_tasks.modelled.value, abs=1e-4)  # type: ignore[union-attr]
    assert not found.few_draws and found.further_tasks is not None
    assert found.further_tasks.high - found.further_tasks.low > found.these_tasks.high - found.these_tasks.low
    expected = [
        float(lpft.macro("auroc", np.ones(2, bool)).value - ft.macro("auroc", np.ones(2, bool)).value)
        for task in found.tasks
        for share in SHARES
        for ft, lpft in zip(
            study.rows[task, share, Arm("ft")].scored.values(),
            study.rows[task, share, Arm("lpft-sd")].scored.values(),
            strict=True,
        )
    ]
    assert found.these_tasks.value == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("tasks", [["aa", "bbb"], ["c", "dddd", "ee"]])
def test_where_there_is_no_effect_nothing_is_claimed(tasks: list[str]) -> None:
    (study,) = studies_of(boards({"ft": 0.8, "lp": 0.8, "lpft-sd": 0.8}, tasks, 3, 1))

    for found in across(study):
        assert found.claim not in (BETTER, MUCH_BETTER, WORSE), found
        assert found.these_tasks.low < 0 < found.these_tasks.high


def test_the_order_of_boards_and_rows_does_not_matter() -> None:
    made = boards({"ft": 0.5, "lp": 0.7, "lpft-sd": 0.9}, ["aa", "bbb"], 2, 1)
    turned = [replace(each, rows=each.rows[::-1]) for each in made[::-1]]
    first, second = (across(studies_of(each)[0]) for each in (made, turned))

    assert [each.contrast.name for each in first] == [each.contrast.name for each in second]
    for a, b in zip(first, second, strict=True):
        assert a.these_tasks.redrawn == b.these_tasks.redrawn
        assert a.p_adjusted == b.p_adjusted


def test_a_single_draw_limits_the_claim_to_its_subset_and_three_do_not() -> None:
    for draws, seeds, few in ((1, 3, True), (2, 1, True), (3, 1, False)):
        (study,) = studies_of(boards({"ft": 0.5, "lpft-sd": 1.2}, ["aa", "bbb"], draws, seeds))
        assert answer(across(study)).few_draws is few


def test_one_run_a_task_is_no_statement_about_methods() -> None:
    (study,) = studies_of(boards({"ft": 0.5, "lpft-sd": 1.5}, ["aa", "bbb"], 1, 1))
    found = answer(across(study))

    assert found.claim == FEW and math.isnan(found.p_adjusted)


def test_a_single_board_is_left_to_that_board() -> None:
    (study,) = studies_of([board("aa", 0.1, {"ft": 0.5, "lpft-sd": 1.5}, [(0, 0), (0, 1), (0, 2)])])
    found = answer(across(study))

    assert found.claim == ALONE and math.isnan(found.p_adjusted)


def test_recipes_never_share_a_claim_and_a_default_that_won_its_search_is_both() -> None:
    names = {"ft": 0.5, "ft(lr=1)": 0.6, "lp": 0.7, "lpft(lr=1)": 0.8, "lpft(lr=2)": 0.9, "lpft": 0.9}
    tuned = ["ft(lr=1)", "lp", "lpft(lr=1)"]
    found = studies_of([board("aa", 0.1, names, [(0, 0), (0, 1)], tuned=tuned)])
    arms = {study.recipe: {arm.method: row.method for (_, _, arm), row in study.rows.items()} for study in found}

    assert arms["tuned"] == {"ft": "ft(lr=1)", "lp": "lp", "lpft": "lpft(lr=1)"}
    assert arms["defaults"] == {"ft": "ft", "lp": "lp", "lpft": "lpft"}
    assert set(arms) == {"tuned", "defaults"}  # lpft(lr=2), given by hand, has no baseline


def test_a_setting_tuned_at_one_share_is_tuned_at_the_others() -> None:
    names, places = {"ft(lr=1)": 0.5, "lp(lr=1)": 0.6}, [(0, 0), (0, 1), (0, 2)]
    made = [board("aa", 0.1, names, places, tuned=[*names]), board("aa", 0.03, names, places)]
    (study,) = studies_of(made)

    assert study.recipe == "tuned"
    assert study.block([Arm("lp"), Arm("ft")]) == (("aa",), (0.03, 0.1))


def test_two_sets_of_weights_of_one_task_are_two_studies() -> None:
    places = [(0, 0), (0, 1)]
    made = [board("aa", 0.1, {"ft": 0.5, "lp": 0.6, "ft from own:2": 0.5, "ft from random": 0.4}, places)]
    made += [board("bbb", 0.1, {"ft": 0.5, "lp": 0.7}, places, init="own:3")]
    first, second = studies_of(made)

    assert dict(first.starts) == {"aa": "own:1", "bbb": "own:3"}
    assert dict(second.starts) == {"aa": "own:2"}
    assert all(("aa", 0.1, Arm("ft", "random")) in study.rows for study in (first, second))
    assert [study.name for study in (first, second)] == [
        "net, defaults, from own:1",
        "net, defaults, from own:2",
    ]
    labelled = [replace(each, plan=replace(each.plan, labels={"own:2": "half the data"})) for each in made]
    assert studies_of(labelled)[1].name == "net, defaults, from half the data"
    assert studies_of(made[1:])[0].name == "net, defaults"
    known = [(one.study, one.task, one.contrast) for one in variances_of(made)]
    assert len(known) == len(set(known)), "each study has variances of its own"


def test_data_sets_with_tasks_of_one_name_are_apart() -> None:
    made = boards({"ft": 0.5, "lpft-sd": 1.2}, ["aa", "bbb"], 2, 1)
    labels = table("another task")
    others = [replace(each, dataset="other", truth=labels, fingerprint="others") for each in made]
    first, second = studies_of([*made, *others])

    assert (first.dataset, second.dataset) == ("ptb-xl-1.0.3", "other")
    assert second.truth["aa"] is labels and first.truth["aa"] is made[0].truth
    assert studies_of([*made, replace(others[0], dataset=made[0].dataset)])[0].truth["aa"] is made[0].truth


def test_the_largest_block_of_pairs_is_averaged_whatever_the_scores() -> None:
    made = boards({"ft": 0.5, "lp": 9.0}, ["aa", "bbb"], 2, 1)
    made += [board("cccc", 0.1, {"ft": 0.5, "lp": 0.1}, [(0, 0), (1, 0)])]
    (study,) = studies_of(made)

    assert study.block([Arm("lp"), Arm("ft")]) == (("aa", "bbb"), SHARES)  # 12 pairs, and 6 at 0.1 alone
    assert set(answer(across(study), "lp minus ft").by_fraction) == set(SHARES)
    assert set(answer(across(study), "lp minus ft").by_task) == {"aa", "bbb", "cccc"}
    text = answer_page(made, answers_of(made), "", [])
    assert (
        ", on aa and bbb. Better with" in text
        and "higher in 12 of 12 pairs of runs and 2 of 2 tasks; 2 subsets" in text
    )


def test_a_factor_is_averaged_over_methods_and_needs_all_of_them() -> None:
    whole = {"ft": 0.5, "lpft": 0.9, "ft-sd": 0.5, "lpft-sd": 0.9, "ft from random": 0.3, "lpft-sd from random": 0.3}
    (study,) = studies_of(boards(whole, ["aa", "bbb"], 3, 1))
    found = across(study)
    probe, depth = answer(found, PROBE.name), answer(found, "stochastic depth")
    each = [answer(found, f"{name} minus ft").these_tasks.value for name in ("lpft", "lpft-sd", "ft-sd")]

    assert probe.these_tasks.value == pytest.approx((each[0] + each[1] - each[2]) / 2, abs=1e-12)
    assert probe.claim in (BETTER, MUCH_BETTER) and depth.claim not in (BETTER, MUCH_BETTER, WORSE)
    with_depth, after_probe = (answer(found, f"lpft-sd minus {name}").these_tasks.value for name in ("ft-sd", "lpft"))
    assert probe.these_tasks.value == pytest.approx((each[0] + with_depth) / 2, abs=1e-12)
    assert depth.these_tasks.value == pytest.approx((each[2] + after_probe) / 2, abs=1e-12)
    assert answer(found, PRETRAINING.name).claim in (BETTER, MUCH_BETTER)
    (study,) = studies_of(boards({"ft": 0.5, "lpft": 0.9, "lpft-sd": 0.9}, ["aa", "bbb"], 3, 1))
    assert not {PROBE.name, PRETRAINING.name} & {each.contrast.name for each in across(study)}


def test_fine_tuning_of_as_many_steps_is_asked_about_of_its_own() -> None:
    """lpft-sd is better than ft, but not better than ft with as many steps."""
    made = boards({"ft": 0.5, "ft-long": 0.9, "lpft-sd": 0.9}, ["aa", "bbb"], 3, 1)
    (study,) = studies_of(made)
    found = across(study)
    steps = answer(found, "lpft-sd minus ft-long")

    assert answer(found).claim in (BETTER, MUCH_BETTER) and steps.claim not in (BETTER, MUCH_BETTER)
    assert steps.these_tasks.value == pytest.approx(
        answer(found).these_tasks.value - answer(found, "ft-long minus ft").these_tasks.value, abs=1e-12
    )
    text = answer_page(made, answers_of(made), "", [])
    _, _, after = text.partition("## Is `lpft-sd` better than fine-tuning of as many steps (`ft-long`)?")
    assert "`lpft-sd` minus `ft-long` is" in after.partition("##")[0]
    assert "Not at equal steps" not in text


def test_without_fine_tuning_of_as_many_steps_the_answer_says_so_itself() -> None:
    """In the claim, in a difference that answers nothing, and in what the method is worth in records."""
    qualities = {"ft": 0.5, "lp": 0.7, "lpft-sd": 1.1}
    made = boards(qualities, ["aa", "bbb"], 1, 3)
    made += [board("aa", 0.5, qualities, [(0, 0)], init="own:2")]
    lines = answer_page(made, answers_of(made), "", []).splitlines()
    ends = " Not at equal steps: no run of this study at these shares tells the method from its steps."

    marked = [line.removesuffix(ends) for line in lines if line.endswith(ends)]
    starts = ["- **A, with", "- **B: no answer", "- A, on aa and bbb: with 1 %", "- A, on aa and bbb: with 3 %"]
    assert [line.startswith(start) for line, start in zip(marked, starts, strict=True)] == [True] * 4
    assert all("`lpft-sd`" in line and line.endswith(".") for line in marked)


def test_the_family_waits_for_the_primary_contrast() -> None:
    """lp is far better, but the primary contrast is not settled, so that nothing of the family is."""
    (study,) = studies_of(boards({"ft": 0.5, "lp": 2.0, "lpft-sd": 0.5}, ["aa", "bbb"], 3, 1))
    found = across(study)
    lp, primary = answer(found, "lp minus ft"), answer(found)

    assert lp.role == FAMILY and lp.these_tasks.p < 0.05
    assert lp.p_adjusted >= primary.p_adjusted > 0.05
    assert lp.claim == "not settled"


def belief(low: float, high: float, p: float = 0.001) -> Belief:
    return Belief((low + high) / 2, low, high, 1 - p / 2, 0.5, 0.0)


@pytest.mark.parametrize(
    ("first", "second", "claim"),
    [
        (belief(0.01, 0.02), belief(0.006, 0.02), MUCH_BETTER),
        (belief(0.01, 0.02), belief(0.004, 0.02), BETTER),
        (belief(0.01, 0.02), belief(-0.001, 0.02), "not settled: the two ways disagree"),
        (belief(-0.02, -0.01), belief(-0.02, -0.01), WORSE),
        (belief(-0.01, 0.01), belief(-0.01, 0.01), "not settled"),
        (belief(-0.004, 0.003), belief(0.001, 0.004), EQUAL),
    ],
)
def test_both_ways_must_agree_in_a_claim(first: Belief, second: Belief, claim: str) -> None:
    assert Both(first, second, 5).claim(0.01, 0.005) == claim
    assert Both(first, second, 2).claim(0.01, 0.005) == FEW


@pytest.mark.parametrize(("first", "second", "shown"), [(0.99, 0.95, 0.95), (0.01, 0.05, 0.05), (0.4, 0.8, 0.4)])
def test_the_way_that_is_less_certain_is_shown(first: float, second: float, shown: float) -> None:
    ways = [replace(belief(0.01, 0.02), above_zero=chance) for chance in (first, second)]
    assert Both(*ways, 5).better() == shown


def test_a_corrected_p_above_5_percent_settles_nothing() -> None:
    both = Both(belief(0.01, 0.02), belief(0.01, 0.02), 5)

    assert both.claim(0.05, 0.005) == MUCH_BETTER
    assert both.claim(0.051, 0.005) == "not settled"


def test_ranks_are_shares_of_redrawn_studies() -> None:
    (study,) = studies_of(boards({"ft": 0.5, "lp": 0.9, "lpft-sd": 0.9}, ["aa", "bbb"], 3, 1))
    found = ranks(study)

    assert found is not None
    assert found.methods[-1] == "ft" and set(found.methods) == {"ft", "lp", "lpft-sd"}
    assert found.share.sum(axis=0) == pytest.approx([1, 1, 1]) and found.share.sum(axis=1) == pytest.approx([1, 1, 1])
    assert found.share[2, 2] > 0.95 and 0.05 < found.share[0, 1] < 0.95
    assert found.rank_interval("ft") == (3, 3) and found.rank_interval(found.methods[0]) == (1, 2)
    (study,) = studies_of(boards({"ft": 0.5, "lpft-sd": 0.9}, ["aa", "bbb"], 3, 1))
    assert ranks(study) is None  # two methods: the contrast says it


def test_the_page_says_what_it_may_and_what_it_lacks(tmp_path: Path) -> None:
    made = boards({"ft": 0.5, "lp": 0.5, "lpft-sd": 1.1}, ["aa", "bbb"], 1, 3)
    answers = answers_of(made)
    drawn = draw_answers([("defaults", answers[0].answers)], 0.005, tmp_path / "a.svg")
    text = answer_page(made, answers, "pictures/a.svg", [])

    assert drawn and all(words in drawn.read_text() for words in ("Defaults", "lpft-sd, 2 tasks"))
    assert (
        "- **A, with 1, 3 and 10 % of the records on this subset§: yes, by more than the margin.** `lpft-sd` scores"
        in text
    )
    assert ", on aa and bbb. Better with" in text and "; one subset of each share (100 to 1,000 records)" in text
    assert "No answer yet: no study has all the runs that this needs." in text  # factors
    assert "This cannot be said: fewer than 3 tasks have the runs." in text
    protocol = (Path(__file__).parents[1] / "leaderboards/PROTOCOL.md").read_text()
    assert text.count("borrows from its other rows how much runs vary (PROTOCOL.md, sentence 33)") == 1
    assert "\n33. That variance is moderated over the rows of the board" in protocol
    assert "Anything of `all`, `diag`, `subdiag`, `superdiag`, `form` and `rhythm`" in text
    assert text == answer_page(made, answers_of(made), "pictures/a.svg", [])  # the same bytes each time
    (one, *_) = worth(answers[0].study, "lpft-sd")
    assert one.reason == "" and one.times > 1
    assert {each.contrast for each in variances_of(made)} == {"lp minus ft", "lpft-sd minus ft"}


def test_a_factor_is_shown_with_the_two_effects_whose_mean_it_is_and_the_steps_of_its_methods() -> None:
    """Stochastic depth harms without a probe and helps after one: the mean alone would hide that."""
    qualities = {"ft": 0.9, "lpft": 0.9, "ft-sd": 0.1, "lpft-sd": 1.1}
    made = boards(qualities, ["aa", "bbb"], 3, 1, phases=[(256, 30)])
    text = answer_page(made, answers_of(made), "", [])

    (line,) = re.findall("Stochastic depth changes macro AUROC by .*", text)
    without, after = re.findall(r"([+−])[\d.]+ \([^)]*\) (?:without a probe|after one)", line)
    assert (without, after) == ("−", "+")
    assert "of the records: no one answer, its two cases differ in direction.** Stochastic depth" in text
    assert "| 1 %: 30; 3 %: 60; 10 %: 120 |" in text  # of 100, 300 and 1,000 records


def test_three_draws_lift_the_condition_on_the_page() -> None:
    made = boards({"ft": 0.5, "lpft-sd": 1.2}, ["aa", "bbb", "cccc"], 3, 1)
    text = answer_page(made, answers_of(made), "", [])

    assert "- **A, with 1, 3 and 10 % of the records: yes, by more than the margin.**" in text
    assert "| A | lpft-sd minus ft | aa, bbb and cccc |" in text
    assert "one subset" not in text and "§ What another subset" not in text
    assert "pre-registered" not in text
    declared_late = [replace(each, plan=BoardPlan("ft", preregistered=each.task != "bbb")) for each in made]
    assert "- A pre-registered answer on bbb: there" in answer_page(declared_late, answers_of(declared_late), "", [])


def test_a_difference_of_a_single_run_stands_alone() -> None:
    """The page prints it without interval and probabilities, which would ignore how much runs vary."""
    made = [board("aa", 0.1, {"ft": 0.5, "lpft-sd": 1.5, "lp": 0.4}, [(0, 0)])]
    answers = answers_of(made)
    text = answer_page(made, answers, "", [])
    value = f"{answer(answers[0].answers).these_tasks.value:+.4f}"

    line = "**A: no answer here**, fewer than three runs a task, so no intervals ([aa](aa.md), 10 %): `lpft-sd` minus"
    assert f"- {line} `ft` is {value}. Not at equal steps" in text
    assert f"| lpft-sd minus ft | aa; 10 % | 1 | {value} | – | – | – | – | not a statement about methods" in text
    assert "scores" not in text


def test_methods_with_too_little_for_an_answer_share_a_folded_table() -> None:
    """A method a row, a board of a study a column, in the order of the column that has the most methods."""
    places = [(draw, 0) for draw in range(3)]
    made = [
        board("aa", 0.01, {"ft": 0.5, "lpft-sd": 1.5, "lp": 0.7, "knn": 0.3, "lora": 0.9}, places),
        board("aa", 0.1, {"ft": 0.5, "lpft-sd": 1.5}, places),
        board("aa", 0.03, {"ft": 0.5, "ft-swa": 0.3, "lp": 0.4}, [(0, 0)], init="own:2"),
    ]
    text = answer_page(made, answers_of(made), "", [])
    section = text.partition("## And the other methods?")[2].partition("\n## ")[0]
    table = [cells_of(line) for line in section.splitlines() if line.startswith("| ")]

    assert "<summary>Too little for an answer: 4 methods</summary>" in section
    assert table[0] == ["minus `ft`", "A: [aa](aa.md), 1 %", "B: [aa](aa.md), 3 %"]
    assert [(row[0], row[1] == "–", row[2] == "–") for row in table[1:]] == [
        ("`lora`", False, True),
        ("`lp`", False, False),
        ("`knn`", False, True),
        ("`ft-swa`", True, False),
    ]
    assert [" (" in cell for cell in table[2][1:]] == [True, False], "one run has no interval"


def test_claims_are_had_as_data() -> None:
    """As the page says them; of few runs the difference alone."""
    made = boards({"ft": 0.5, "lpft-sd": 1.2}, ["aa", "bbb", "cccc"], 3, 1)
    made += [board("aa", 0.5, {"ft": 0.5, "lpft-sd": 1.5, "lp": 0.4}, [(0, 0)], init="own:2")]
    frame = answers_frame(made).set_index(["study", "contrast"])
    found = [answer(each.answers) for each in answers_of(made)]

    for letter, each in zip("AB", found, strict=True):
        row = frame.loc[letter, "lpft-sd minus ft"]
        assert (row["difference"], row["pairs"], row["claim"]) == (each.these_tasks.value, each.num_pairs, each.claim)
    first, few = (frame.loc[letter, "lpft-sd minus ft"] for letter in "AB")
    assert (first["tasks"], first["fractions"], first["role"]) == ("aa, bbb, cccc", "0.01, 0.03, 0.1", PRIMARY)
    assert (first["low"], first["p"]) == (found[0].these_tasks.low, found[0].p_adjusted)
    assert few[["low", "high", "better", "p"]].isna().all() and few["role"] == ""
    assert answers_frame([replace(one, truth=None) for one in made]).empty


def test_only_replicated_differences_have_a_bar_in_the_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    for seeds in (1, 3):
        made = [board("aa", 0.1, {"ft": 0.5, "lpft-sd": 1.5}, [(0, seed) for seed in range(seeds)])]
        draw_answers([("defaults", answers_of(made)[0].answers)], 0.005, tmp_path / "a.svg")

    bars = [[line for line in figure.axes[0].lines if list(line.get_ydata()) == [0, 0]] for figure in figures]
    assert [len(each) for each in bars] == [0, 1]


def test_a_claim_names_the_shares_that_it_is_not_about() -> None:
    three = [board(task, 0.01, {"ft": 0.5, "lpft-sd": 1.2}, [(0, 0), (1, 0), (2, 0)]) for task in ("aa", "bbb", "cccc")]
    made = [*three, board("aa", 0.1, {"ft": 0.5, "lpft-sd": 0.5}, [(0, 0), (1, 0), (2, 0)])]
    text = answer_page(made, answers_of(made), "", [])

    assert re.search(r"with 1 % of the records: yes, .* Not part of this claim: with 10 %, on aa, [+−]0\.0", text)
