"""Published numbers and claims against our rows: status by the declared tolerance and test, and silence is named."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.boards.comparisons import ResampledRun, stand
from bench.boards.declared import BoardPlan
from bench.boards.rows import Board, Row
from bench.data.tasks import PUBLISHED_TASKS, LabelTable
from bench.evaluation import metrics
from bench.evaluation.bootstrap import make_replicates, resample, summarize
from bench.pages.ledger import ledger
from bench.pages.spelling import spell_difference
from bench.pages.surroundings import read_rows
from bench.results.result import Result

RANDOM = np.random.default_rng(0)
Y_TRUE = RANDOM.random((300, 2)) < 0.3
PATIENTS = np.sort(RANDOM.integers(200, size=300))
SHARED = RANDOM.normal(size=Y_TRUE.shape)
EVERY = np.ones(2, dtype=bool)
HEAD = "task,model,setting,macro_auroc,bracket,low,high,source,protocol,quoted,reason"
MODEL, OTHER = ("ecgfounder", "pretrained"), ("net, bf16", "own:1234")


def truth(task: str) -> LabelTable:
    return LabelTable(task, ("A", "B"), np.arange(300), PATIENTS, np.full(300, 10), Y_TRUE)


def row(method: str, quality: float, model: tuple[str, str] = MODEL, seeds: Sequence[int] = (0, 1, 2)) -> Row:
    """Runs of one quality that share most of their noise with every other row's."""
    replicates = make_replicates(PATIENTS, Y_TRUE, num_replicates=200)
    scored = {}
    for seed in seeds:
        noise = np.random.default_rng([seed, int(100 * quality)]).normal(size=Y_TRUE.shape)
        y_score = quality * Y_TRUE + SHARED + 0.1 * noise
        scored[0, seed] = ResampledRun(y_score, resample(Y_TRUE, y_score, replicates))
    found = {m: summarize([run.macro(m, EVERY) for run in scored.values()]) for m in ("auroc", "average_precision")}
    arch, *unusual = re.split(r", (?=from |bf16)", model[0])
    rate = next((int(one.split()[1]) for one in unusual if one.startswith("from")), None)
    cell = {"arch": arch, "source_rate": rate, "precision": "bf16" if "bf16" in unusual else "float32"}
    split = {"train_records": 1742}
    runs = tuple(Result(Path(str(s)), {"cell": {**cell, "draw": 0, "seed": s}, "split": split}) for s in seeds)
    return Row(*model, method, runs, {"all": found, "frequent": found}, scored)


def board(task: str, *rows: Row, fraction: float = 1.0, dataset: str = "ptb-xl-1.0.3", manifest: str = "") -> Board:
    return Board(dataset, False, task, "f", fraction, manifest, rows, (), truth(task), BoardPlan(), None)


def reported(tmp_path: Path, *rows: str) -> list[dict[str, str]]:
    (tmp_path / "reported.csv").write_text("\n".join([HEAD, *rows]) + "\n")
    return read_rows(tmp_path / "reported.csv")


def claim(
    metric: str = "auroc", tasks: str = "form", fraction: str = "1", than: str = "1", gain: tuple[str, str] = ("", "")
) -> dict[str, str]:
    words = {"claim": "It helps", "better": "lpft-sd", "worse": "ft", "tasks": tasks, "metric": metric}
    return {
        **words,
        "fraction": fraction,
        "than_fraction": than,
        "gain": "+3 %",
        **dict(zip(("gain_low", "gain_high"), gain, strict=True)),
        "source": "a paper",
    }


def table(text: str, title: str) -> list[dict[str, str]]:
    """The rows of the table under a title that have a run of ours."""
    return rows_of(text.split(f"## {title}")[1].split("##")[0].partition("<details>")[0])


def waiting(text: str, title: str) -> list[dict[str, str]]:
    """Those that have none, which are folded."""
    return rows_of(text.split(f"## {title}")[1].split("##")[0].partition("<details>")[2])


def rows_of(text: str) -> list[dict[str, str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


@pytest.mark.parametrize(
    ("published", "bracket", "tolerance", "status"),
    [
        (0.004, "0.006", "0.006", "reproduced"),
        (-0.004, "0.006", "0.006", "reproduced"),
        (0.008, "0.006", "0.006", "not reproduced"),
        (0.008, "", "0.010", "reproduced"),
        (0.008, "0.02", "0.010", "reproduced"),  # a wide bracket is no licence
        (0.012, "0.02", "0.010", "not reproduced"),
    ],
)
def test_reproduced_is_within_the_bracket_and_a_hundredth(
    tmp_path: Path, published: float, bracket: str, tolerance: str, status: str
) -> None:
    ours = row("scratch", 1.2, ("fcn_wang", "random"))
    value = np.mean([metrics.auroc(Y_TRUE, run.y_score).mean() for run in ours.scored.values()])
    numbers = reported(tmp_path, f"form,fcn_wang,from scratch,{value + published:.6f},{bracket},,,Somebody,theirs")
    (found,) = table(ledger([board("form", ours)], numbers), "Numbers")

    assert (found["status"], found["tolerance"], found["value here"]) == (status, tolerance, f"{value:.4f}")
    assert found["difference"] == f"{-published:+.4f}".replace("-", "−")
    assert found["row here"] == "scratch on fcn_wang (random), 3 runs"


@pytest.mark.parametrize(
    ("low", "high", "tolerance"), [(0.004, 0.002, "0.004"), (0.002, 0.005, "0.005"), (0.03, 0.002, "0.010")]
)
def test_a_published_interval_is_a_bracket(tmp_path: Path, low: float, high: float, tolerance: str) -> None:
    words = f"form,fcn_wang,from scratch,0.8,,{0.8 - low},{0.8 + high},Somebody,theirs"
    (found,) = table(
        ledger([board("form", row("scratch", 1.2, ("fcn_wang", "random")))], reported(tmp_path, words)), "Numbers"
    )

    assert found["tolerance"] == tolerance


def test_which_of_several_rows_counts_does_not_hang_on_their_scores(tmp_path: Path) -> None:
    names = ["fcn_wang", "fcn_wang, bf16", "fcn_wang, from 100 Hz", "fcn_wang, from 100 Hz, bf16"]
    numbers = reported(tmp_path, "form,fcn_wang,from scratch,0.8,0.006,,,Somebody,theirs")
    for at, expected in enumerate(names):
        rows = [row("scratch", 1.0 + 0.1 * place, (name, "random")) for place, name in enumerate(names[at:])]
        for shown in (rows, rows[::-1]):
            (found,) = table(ledger([board("form", *shown)], numbers), "Numbers")
            assert found["row here"] == f"scratch on {expected} (random), 3 runs"


def test_arguments_may_hold_commas(tmp_path: Path) -> None:
    model = "net(widths=[8, 16])"
    numbers = reported(tmp_path, f'form,"{model}",from scratch,0.8,0.006,,,Somebody,theirs')
    text = ledger([board("form", row("scratch", 1.2, (f"{model}, bf16", "random")))], numbers)

    assert [found["row here"] for found in table(text, "Numbers")] == [f"scratch on {model}, bf16 (random), 3 runs"]


def test_a_quotation_is_not_counted(tmp_path: Path) -> None:
    first = "form,fcn_wang,from scratch,0.8,0.006,,,Somebody,theirs,,"
    text = ledger([], reported(tmp_path, first, "form,fcn_wang,from scratch,0.8,0.006,,,A README,theirs,Somebody,"))

    assert "1 published macro AUROCs over all labels: 0 reproduced, 0 not reproduced, 1 no run here." in text
    assert "Not counted, as they quote another of these: form, fcn_wang by A README, from Somebody." in text
    assert len(waiting(text, "Numbers")) == 1


def test_what_is_not_reproduced_has_its_reason(tmp_path: Path) -> None:
    rows = [board(task, row("scratch", 1.2, ("fcn_wang", "random"))) for task in ("form", "rhythm")]
    value = float(np.mean([metrics.auroc(Y_TRUE, run.y_score).mean() for run in rows[0].rows[0].scored.values()]))
    words = [
        f"{task},fcn_wang,from scratch,{{:.6f}},0.006,,,Somebody,theirs,,{why}"
        for task, why in (("form", "Seeds."), ("rhythm", ""))
    ]
    missed = ledger(rows, reported(tmp_path, *(one.format(value + 0.02) for one in words)))
    reached = ledger(rows, reported(tmp_path, *(one.format(value) for one in words)))

    assert (
        "Not reproduced, and why:\n\n- form, fcn_wang: Seeds.\n- rhythm, fcn_wang: the reason is not known yet."
        in missed
    )
    assert "Seeds" not in reached and "and why" not in reached


def test_only_like_rows_count(tmp_path: Path) -> None:
    """Another task, fraction, dataset, manifest, init or other hyper-parameters are no run of that number."""
    fcn = ("fcn_wang", "random")
    unlike = [
        board("rhythm", row("scratch", 1.2, fcn)),
        board("form", row("scratch", 1.2, fcn), fraction=0.1),
        board("form", row("scratch", 1.2, fcn), dataset="synthetic-0"),
        board("form", row("scratch", 1.2, fcn), dataset="ptb-xl-0badbeef"),  # some of its records
        board("form", row("scratch", 1.2, fcn), manifest="mine"),
        board("form", row("scratch", 1.2, ("fcn_wang", "own:1")), row("scratch(lr=1.0)", 1.2, fcn)),
    ]
    numbers = reported(tmp_path, "form,fcn_wang,from scratch,0.8,0.006,,,Somebody,theirs")
    text = ledger(unlike, numbers)

    assert not table(text, "Numbers")
    assert [(found["model"], found["form"]) for found in waiting(text, "Numbers")] == [("fcn_wang", "0.8")]
    assert "1 published macro AUROCs over all labels: 0 reproduced, 0 not reproduced, 1 no run here." in text
    assert "## Claims" not in text


PUBLISHED = Path(__file__).parents[1] / "leaderboards" / "reported.csv"
AI4HEALTH = "AI4HealthUOL, arXiv 2509.25095"
FOUNDATION_MODELS = {"ECGFounder", "ECG-JEPA", "ST-MEM", "MERL", "ECGFM-KED", "HuBERT-ECG", "ECG-FM", "ECG-CPC"}


def test_the_published_numbers_of_foundation_models_are_whole() -> None:
    """Eight models in three settings, S4 and Net1D from scratch, on six tasks, each with its interval."""
    rows = [row for row in read_rows(PUBLISHED) if row["source"] == AI4HEALTH]
    settings = ("fine-tuning", "linear probing", "frozen, attention head")
    wanted = {(model, setting) for model in FOUNDATION_MODELS for setting in settings}
    wanted |= {("S4", "from scratch"), ("Net1D", "from scratch")}

    assert {(row["model"], row["setting"], row["task"]) for row in rows} == {
        (*words, task) for words in wanted for task in PUBLISHED_TASKS
    }
    assert len(rows) == 156 and all(float(row["low"]) < float(row["macro_auroc"]) < float(row["high"]) for row in rows)
    values = {(row["model"], row["setting"], row["task"]): row["macro_auroc"] for row in rows}
    assert values["ECG-CPC", "fine-tuning", "all"] == "0.9493"
    assert values["ST-MEM", "frozen, attention head", "superdiag"] == "0.9234"
    assert values["ECG-FM", "linear probing", "rhythm"] == "0.8650"


def test_numbers_without_a_run_are_one_line_a_model_and_setting() -> None:
    rows = read_rows(PUBLISHED)
    text = ledger([], rows)
    listed = waiting(text, "Numbers")
    of_cpc = [found for found in listed if (found["model"], found["source"]) == ("ECG-CPC", AI4HEALTH)]

    assert [found["setting"] for found in of_cpc] == ["fine-tuning", "linear probing", "frozen, attention head"]
    expected = {"all": "0.9493", "diag": "0.9509", "subdiag": "0.9398", "superdiag": "0.9336", "form": "0.9341"}
    assert {task: of_cpc[0][task] for task in PUBLISHED_TASKS} == {**expected, "rhythm": "0.9594"}
    numbers = [value for found in listed for task in PUBLISHED_TASKS for value in found[task].split(", ") if value]
    assert len(numbers) == sum(not row["quoted"] for row in rows) == 229
    assert len(listed) < 60
    assert (
        f"- {AI4HEALTH}: AdamW, batch 64, weight decay 0.001, up to 100 epochs, best by fold 9, learning rate" in text
    )


@pytest.mark.parametrize(
    ("model", "backbone", "setting", "method"),
    [
        ("ECG-CPC", "ecg_cpc", "fine-tuning", "ft"),
        ("ECG-FM", "ecg_fm", "linear probing", "lp"),
        ("ST-MEM", "st_mem", "frozen, attention head", "lp-attn"),
        ("MERL", "merl_resnet18", "fine-tuning", "ft"),
        ("ECG-JEPA", "ecg_jepa", "linear probing", "lp"),
        ("HuBERT-ECG", "hubert_ecg_base", "fine-tuning", "ft"),
    ],
)
def test_a_run_of_a_foundation_model_is_judged(
    model: str, backbone: str, setting: str, method: str, tmp_path: Path
) -> None:
    """From its published weights only, by the method of that setting only."""
    rows = [row(method, 1.2, (backbone, start)) for start in ("pretrained", "random", "file:1234")]
    rows += [row("lpft", 1.2, (backbone, "pretrained"))]
    value = float(np.mean([metrics.auroc(Y_TRUE, run.y_score).mean() for run in rows[0].scored.values()]))
    words = f'form,{model},"{setting}",{{:.6f}},,,,Somebody,theirs'

    (near,) = table(ledger([board("form", *rows)], reported(tmp_path, words.format(value + 0.009))), "Numbers")
    (far,) = table(ledger([board("form", *rows)], reported(tmp_path, words.format(value + 0.011))), "Numbers")

    assert near["row here"] == f"{method} on {backbone} (pretrained), 3 runs"
    assert (near["status"], far["status"]) == ("reproduced", "not reproduced")
    assert not table(ledger([board("form", *rows[1:])], reported(tmp_path, words.format(value))), "Numbers")


def test_an_lstm_counts_by_the_recipe_it_was_published_with(tmp_path: Path) -> None:
    recipe, lstm = "scratch(gradient_clip_norm=0.25, lr=0.001)", ("lstm", "random")
    numbers = reported(tmp_path, "form,lstm,from scratch,0.8,0.01,,,Somebody,theirs")
    (found,) = table(ledger([board("form", row("scratch", 1.3, lstm), row(recipe, 1.2, lstm))], numbers), "Numbers")
    assert found["row here"] == f"{recipe} on lstm (random), 3 runs"
    assert len(waiting(ledger([board("form", row("scratch", 1.3, lstm))], numbers), "Numbers")) == 1


@pytest.mark.parametrize(
    ("better", "worse", "status"),
    [(2.0, 1.0, "confirmed"), (1.0, 2.0, "contradicted"), (1.2001, 1.2, "not settled")],
)
def test_a_claim_is_judged_by_paired_runs(better: float, worse: float, status: str) -> None:
    rows = row("lpft-sd", better), row("ft", worse, seeds=(0, 1, 2, 3))
    for metric in ("auroc", "average_precision"):
        (found,) = table(ledger([board("form", *rows)], [], [claim(metric)]), "Claims")
        value = {
            one.method: np.mean([getattr(metrics, metric)(Y_TRUE, run.y_score).mean() for run in one.scored.values()])
            for one in (rows[0], row("ft", worse))
        }
        difference = value["lpft-sd"] - value["ft"]

        assert found["status"].startswith(f"{status}, from these weights")
        assert found["difference"].startswith(f"{difference:+.4f}".replace("-", "−"))
        assert found["compared here"] == "lpft-sd minus ft on ecgfounder (pretrained), 3 pairs of runs"
        of_all = row("ft", worse, seeds=(0, 1, 2, 3)).summaries["frequent"][metric]
        relative = 100 * difference / of_all.interval.value  # type: ignore[union-attr]
        assert found["relative"].startswith(f"{relative:+.1f} % (".replace("-", "−"))


def test_the_p_of_a_claim_is_that_of_its_board(permutation_p: Callable[..., float]) -> None:
    """Of AUROC as on the board, whatever other tasks there are; without a board of its own, that of the pair alone."""
    rows = row("lpft-sd", 1.23), row("ft", 1.2), row("lpft", 1.21)
    tasks = ["form", "rhythm", "diag"]
    for plan, role in ((BoardPlan("ft", ("lpft",), 0.005, "lpft-sd minus ft"), ""), (BoardPlan(), " (exploratory)")):
        standing = stand({one.name: one.scored for one in rows}, plan, truth("form"))
        assert standing is not None
        boards = [replace(board(task, *rows), plan=plan, standing=standing) for task in tasks]
        found = table(ledger(boards, [], [claim(tasks=" ".join(tasks))]), "Claims")
        pair = next(o for o in standing.pairs if (o.first, o.second) == (rows[0].name, rows[1].name))

        assert [one["task"] for one in found] == tasks
        assert {one["p"] for one in found} == {f"{pair.p_adjusted:.3f}"}
        assert all(one["status"].endswith(f"from these weights{role}") for one in found)
        assert {one["difference"] for one in found} == {spell_difference(pair.differences["auroc"])}
        assert {one["resolvable"] for one in found} == {f"{pair.resolvable:.4f}"}
        (of_precision, *_) = table(ledger(boards, [], [claim("average_precision")]), "Claims")
        assert of_precision["status"].endswith("from these weights (p not corrected)")
        assert of_precision["difference"] == spell_difference(pair.differences["average_precision"])
    (alone,) = table(ledger([board("form", *rows)], [], [claim()]), "Claims")
    p = permutation_p(PATIENTS, Y_TRUE, *([run.y_score for run in one.scored.values()] for one in rows[:2]), EVERY)
    assert float(alone["p"]) >= round(p, 3) > 0.001


def test_other_models_are_marked_and_missing_runs_named() -> None:
    rows = row("lpft-sd", 2.0, OTHER), row("ft", 1.0, OTHER), row("ft", 1.0, ("net, bf16", "random"))
    text = ledger([board("form", *rows)], [], [claim(tasks="form rhythm")])

    (found,) = table(text, "Claims")
    assert found["compared here"] == "lpft-sd minus ft on net (own:1234), 3 pairs of runs"
    assert (found["task"], found["status"]) == (
        "form",
        f"direction seen, on another model ({found['relative'].partition(' (')[0]} here, published gain +3 %), "
        "from these weights (exploratory)",
    )
    ours = [(found["task"], found["compared here"]) for found in waiting(text, "Claims")]
    assert ours == [("form", "lpft-sd minus ft"), ("rhythm", "lpft-sd minus ft")]
    assert (
        "of its first version, ecgfounder (pretrained): 2 no run here. "
        "On other models: 1 direction seen (on 1 of these claims)." in text
    )


def test_another_model_neither_contradicts_a_claim_nor_excludes_its_size() -> None:
    for better, status in ((1.0, "opposite direction seen, on another model (−"), (1.2001, "not settled, on another")):
        rows = row("lpft-sd", better, OTHER), row("ft", 2.0 if better == 1 else 1.2, OTHER)
        text = ledger([board("form", *rows)], [], [claim(gain=("9.1", "9.1"))])

        (found,) = table(text, "Claims")
        assert found["status"].startswith(status)
        assert "excluded" not in found["status"] and "other models: 1 contradicted" not in text


@pytest.mark.parametrize(
    ("gain", "status"),
    [
        (("", ""), "confirmed"),
        (("1", "90"), "confirmed"),
        (("80", "90"), "direction confirmed, published size excluded"),
        (("0.1", "0.1"), "direction confirmed, published size excluded"),
    ],
)
def test_a_published_gain_is_compared_with_the_interval_of_ours(gain: tuple[str, str], status: str) -> None:
    rows = row("lpft-sd", 2.0), row("ft", 1.0)
    (found,) = table(ledger([board("form", *rows)], [], [claim(gain=gain)]), "Claims")
    value = rows[1].summaries["frequent"]["auroc"].interval.value  # type: ignore[union-attr]
    bounds = [float(one) for one in re.findall(r"[+−]([\d.]+)", found["difference"])]

    assert found["status"] == f"{status}, from these weights (exploratory)"
    assert [float(one) for one in re.findall(r"\+([\d.]+)", found["relative"])] == [
        pytest.approx(100 * bound / value, abs=0.1) for bound in bounds
    ]


def test_an_excluded_size_is_reported_whatever_the_direction() -> None:
    """A difference of about 0 is not settled, yet rules out a gain of 9.1 %; one below 0 does too."""
    for better, worse, direction in ((1.2001, 1.2, "not settled"), (1.0, 2.0, "contradicted")):
        rows = row("lpft-sd", better), row("ft", worse)
        text = ledger([board("form", *rows)], [], [claim(gain=("9.1", "9.1"))])

        (found,) = table(text, "Claims")
        assert found["status"].startswith(f"{direction}, published size excluded")
        assert f"1 {direction}, published size excluded" in text
    few = row("lpft-sd", 1.2001, seeds=(0, 1)), row("ft", 1.2)
    (found,) = table(ledger([board("form", *few)], [], [claim(gain=("9.1", "9.1"))]), "Claims")
    assert "excluded" not in found["status"]  # two runs do not say how much runs vary


def test_a_status_names_its_subset() -> None:
    few = board("form", row("lpft-sd", 2.0), row("ft", 1.0), fraction=0.1)
    for one in few.rows:
        for run in one.runs:
            run.document["cell"]["fraction"] = 0.1
    (found,) = table(ledger([few], [], [claim(fraction="0.1", than="0.1")]), "Claims")

    assert found["status"] == "confirmed, on this subset of 1,742 records from these weights (exploratory)"


@pytest.mark.parametrize(("offset", "words"), [(-0.002, "low"), (0.002, "high")])
def test_numbers_that_lie_low_together_are_named(tmp_path: Path, offset: float, words: str) -> None:
    """Each within its bracket, and all of them on one side: the t statistic by hand."""
    rows = [row("ft", quality) for quality in (1.0, 1.1, 1.2, 1.3)]
    values = [one.summaries["all"]["auroc"].interval.value for one in rows]  # type: ignore[union-attr]
    names = ["form", "rhythm", "diag", "all"]
    published = [f"{v - offset + k * 1e-4:.6f}" for k, v in enumerate(values)]
    lines = [f"{t},ECGFounder,fine-tuning,{p},0.01,,,s,p,," for t, p in zip(names, published, strict=True)]
    boards = [board(name, one) for name, one in zip(names, rows, strict=True)]
    differences = np.array(values) - [float(one) for one in published]
    t = differences.mean() / (differences.std(ddof=1) / 2)

    text = ledger(boards, reported(tmp_path, *lines))

    spelled = f"here minus published is {differences.mean():+.4f} on average (t = {t:.1f}, p = ".replace("-", "−")
    assert spelled in text
    assert f"so the values here lie {words} together." in text
    assert "together" not in ledger(boards[:2], reported(tmp_path, *lines))


@pytest.mark.parametrize(("seeds", "words"), [((0,), "one run"), ((0, 1), "two runs")])
def test_few_runs_settle_nothing(seeds: tuple[int, ...], words: str) -> None:
    rows = row("lpft-sd", 2.0, seeds=seeds), row("ft", 1.0)
    text = ledger([board("form", *rows)], [], [claim()])

    assert [found["status"] for found in table(text, "Claims")] == [
        f"not settled: {words}, from these weights (exploratory)"
    ]
    assert "ecgfounder (pretrained): 1 not settled. On other models: none." in text


def test_random_weights_and_other_seeds_settle_nothing() -> None:
    plain = ("net", "random")
    rows = row("lpft-sd", 2.0, plain), row("ft", 1.0, plain), row("lpft-sd", 2.0), row("ft", 1.0, seeds=(7,))

    text = ledger([board("form", *rows)], [], [claim()])
    assert not table(text, "Claims")
    assert len(waiting(text, "Claims")) == 1


def test_a_claim_may_span_two_fractions() -> None:
    few, all_records = board("form", row("lpft-sd", 2.0), fraction=0.3), board("form", row("ft", 1.0))
    (found,) = table(ledger([all_records, few], [], [claim(fraction="0.3", than="1")]), "Claims")

    assert found["status"].startswith("confirmed, ") and found["metric"] == "AUROC, 0.3 of the records against 1"


def test_what_is_published_can_be_read() -> None:
    """The files beside the boards: every number a number, every task one of ours, every claim judged without a run."""
    folder = Path(__file__).parent.parent / "leaderboards"
    numbers, claims = read_rows(folder / "reported.csv"), read_rows(folder / "claims.csv")
    text = ledger([], numbers, claims)
    tasks = {"all", "diag", "subdiag", "superdiag", "form", "rhythm"}

    assert {number["task"] for number in numbers} == tasks
    assert all(0.5 < float(number["macro_auroc"]) < 1 for number in numbers)
    assert all(not n["low"] or float(n["low"]) < float(n["macro_auroc"]) < float(n["high"]) for n in numbers)
    assert all(set(one["tasks"].split()) <= tasks and one["metric"] in ("auroc", "average_precision") for one in claims)
    listed = [
        value for found in waiting(text, "Numbers") for task in PUBLISHED_TASKS for value in [found[task]] if value
    ]
    assert len(listed) == sum(not number["quoted"] for number in numbers)
    assert {number["quoted"] for number in numbers} - {""} <= {number["source"] for number in numbers}
    assert all(float(one["gain_low"] or 0) <= float(one["gain_high"] or 0) for one in claims)
    assert len(waiting(text, "Claims")) == sum(len(one["tasks"].split()) for one in claims)
