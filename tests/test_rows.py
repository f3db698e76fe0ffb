"""Results become boards: order, rows of several runs, what stands apart, conflicts, and the same bytes every time."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.boards import resampling
from bench.boards.declared import BoardPlan
from bench.boards.power import read_variances
from bench.boards.rows import Board, as_data, beside, interval_of, make_boards
from bench.boards.simulations import ALL_LABELS
from bench.console.tables import board_table, result_table
from bench.data.tasks import LabelTable
from bench.errors import DataError
from bench.evaluation.placements import summarize_all_labels
from bench.evaluation.predictions import Predictions
from bench.evaluation.scores import score_fold
from bench.pages.leaderboards import write_answers
from bench.pages.markdown import cells_of
from bench.pages.page import page, write_pages
from bench.pages.spelling import spell
from bench.pages.surroundings import Surroundings
from bench.results.result import PREDICTIONS, Result, find_results, load_result, record_search, write_result

LABELS = ("MI", "NORM", "RARE")
BOARDS = Path(__file__).parents[1] / "leaderboards"


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 draws tell as much here as 2000."""
    monkeypatch.setattr(resampling, "NUM_REPLICATES", 50)


def truth_table(seed: int = 0) -> LabelTable:
    """Fold 10 of a made-up task: 150 records of 100 patients, two frequent labels and a rare one."""
    random = np.random.default_rng(seed)
    y_true = random.random((150, 3)) < [0.3, 0.5, 0]
    y_true[:5, 2] = True
    patients = np.sort(random.integers(100, size=150))
    return LabelTable("superdiag", LABELS, np.arange(150), patients, np.full(150, 10), y_true)


TRUTH = truth_table()
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a result of this quality by hand; keywords change the cell or, as `section__key`, the document."""

    def write(name: str, quality: float = 1.0, noise_seed: int = 0, truth: LabelTable = TRUTH, **changes: Any) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        noise = np.random.default_rng(noise_seed).normal(size=truth.y_true.shape)
        logits = (quality * truth.y_true + noise).astype(np.float32)
        predictions = Predictions(truth.ecg_id, truth.labels, logits)
        document: dict[str, Any] = {
            "digest": name,
            "stage": "test",
            "cell": {
                "task": "superdiag",
                "arch": "net",
                "method": "ft",
                "fraction": 1.0,
                "draw": 0,
                "seed": 0,
                "source_rate": None,
                "precision": "float32",
                "command": f"bench run --seed {changes.get('seed', 0)} --arch {name}",
            },
            "dataset": {"name": "ptb-xl-1.0.3", "synthetic": False},
            "task": {"name": "superdiag", "fingerprint": truth.fingerprint, "labels": list(truth.labels)},
            "init": {"name": "random"},
            "incompatible": None,
            "signals": {},
            "split": {},
            "training": [
                {
                    "name": "finetune",
                    "seconds": 90.0,
                    "trainable_parameters": 1234,
                    "selection": "best",
                    "val_macro_auroc": [0.8],
                }
            ],
            "metrics": {"fold_10": score_fold(truth.y_true, logits, truth.labels, truth.patient_id, num_replicates=50)},
        }
        for key, value in changes.items():
            section, _, inner = key.rpartition("__")
            (document[section] if section else document if key in document else document["cell"])[inner or key] = value
        write_result(folder, document, {10: predictions})
        return folder

    return write


def made(folder: Path, truth: LabelTable | None = TRUTH) -> list[Board]:
    """The boards of all results in a folder."""
    found = truth and (lambda result: truth if truth.fingerprint == result.fingerprint else None)
    return make_boards(find_results(folder / "runs"), found or (lambda result: None))


def test_rows_are_sorted_by_macro_auroc_over_the_frequent_labels(write: Write, tmp_path: Path) -> None:
    for name, quality in (("middle", 1.0), ("best", 2.0), ("worst", 0.5)):
        write(name, quality, arch=name)
    (board,) = made(tmp_path)

    assert [row.backbone for row in board.rows] == ["best", "middle", "worst"]
    expected = load_result(tmp_path / "runs" / "best").document["metrics"]["fold_10"]["macro"]["frequent"]["auroc"]
    assert board.rows[0].score == pytest.approx(expected["value"], abs=1e-12)
    text = page([board])
    assert text.index("| best |") < text.index("| middle |") < text.index("| worst |")
    assert f"{expected['value']:.4f}" in text


def test_seeds_and_draws_share_a_row_of_mean_metrics_and_a_wider_interval(write: Write, tmp_path: Path) -> None:
    write("alone", 1.0, 0, arch="alone")
    for seed in range(3):
        write(f"s{seed}", 1.0, seed, seed=seed)
    (board,) = made(tmp_path)
    single, several = (next(r for r in board.rows if r.backbone == name) for name in ("alone", "net"))

    values = [run.document["metrics"]["fold_10"]["macro"]["frequent"]["auroc"]["value"] for run in several.runs]
    assert len(set(values)) == 3
    assert several.score == pytest.approx(np.mean(values), abs=1e-12)
    one, mean = (interval_of(row.summaries["frequent"]["auroc"]) for row in (single, several))
    assert mean.high - mean.low > one.high - one.low
    lines = page([board]).splitlines()
    assert any("| net | ft |" in line and "| 3 |" in line for line in lines)
    assert any("| alone | ft |" in line and "| 1* |" in line for line in lines)


def test_a_tuned_row_says_how_many_settings_were_tried(write: Write, tmp_path: Path) -> None:
    folder = write("tuned", 1.0, arch="tuned")
    record_search(load_result(folder), {"trials": [{"method": f"ft(lr={k})"} for k in range(7)]})
    write("plain", 0.5, arch="plain")
    (board,) = made(tmp_path)

    assert [row.num_trials for row in board.rows] == [7, 0]
    lines = page([board]).splitlines()
    assert any("| tuned | ft | tuned |" in line for line in lines)
    assert any("| plain | ft | defaults |" in line for line in lines)
    assert [line.split(" | ")[4] for line in lines if line.startswith(("| 1 | 1,234", "| 2 | 1,234"))] == ["7", "–"]


@pytest.mark.parametrize(
    ("tried", "num_trials"), [(["ft", "ft(lr=1)"], 0), (["ft(lr=1)", "ft"], 2)], ids=["as given", "found"]
)
def test_a_run_of_no_search_makes_the_method_as_given_the_reported_recipe(
    tried: list[str], num_trials: int, write: Write, tmp_path: Path
) -> None:
    """But not a setting that a search has found and a sweep gave more seeds."""
    write("before", 1.0, seed=0)
    record_search(load_result(write("won", 1.0, seed=1)), {"trials": [{"method": one} for one in tried]})
    (board,) = made(tmp_path)

    assert [(row.name, row.num_trials) for row in board.rows] == [("ft on net (random)", num_trials)]


@pytest.mark.parametrize(
    "changed",
    [
        {"method": {"resolved": {"lr": 0.2}, "phases": []}},
        {"backbone": {"resolved": {"width": 2}}},
        {"init": {"name": "pretrained", "sha256": "that of another commit"}},
        {"signals": {"version": 2}},
    ],
)
def test_runs_whose_names_hide_a_difference_are_no_row(changed: dict[str, Any], write: Write, tmp_path: Path) -> None:
    """Defaults are left out of a row's name, and may have changed between two seeds."""
    said = {
        "method": {"resolved": {"lr": 0.1}, "phases": []},
        "backbone": {"resolved": {"width": 1}},
        "init": {"name": "pretrained", "sha256": "one"},
        "signals": {"version": 1},
    }
    runs = [load_result(write(f"s{seed}", seed=seed)) for seed in range(3)]
    one, two, three = (Result(run.folder, {**run.document, **said}) for run in runs)
    scaled = {"version": 1, "scaling": {"mean": 0.1}}  # follows from the training records
    two = Result(two.folder, {**two.document, "signals": scaled})

    assert len(make_boards([one, two, three], lambda result: TRUTH)[0].rows[0].runs) == 3
    three = Result(three.folder, {**three.document, **changed})
    with pytest.raises(DataError, match=r"s0 and .*s2 would share the row ft on net \(pretrained\), but their hyper"):
        make_boards([one, two, three], lambda result: TRUTH)


def test_labels_are_those_that_the_board_is_judged_by(write: Write, tmp_path: Path) -> None:
    """A task's labels may have changed: an old run's names do not go beside a new run's AUROCs."""
    old = truth_table()
    old = LabelTable("superdiag", ("X", "Y", "Z"), old.ecg_id, old.patient_id, old.strat_fold, old.y_true)
    write("old", truth=old)
    write("new")
    text = page(made(tmp_path))

    assert all(f"| {label} |" in text for label in LABELS)
    assert "| X |" not in text


def test_unlike_runs_do_not_share_a_row(write: Write, tmp_path: Path) -> None:
    unlike: dict[str, dict[str, Any]] = {
        "a": {},
        "b": {"source_rate": 100},
        "c": {"precision": "bf16"},
        "d": {"init__name": "pretrained"},
        "e": {"method": "ft(drop_path_rate=0.1)"},
    }
    for name, changes in unlike.items():
        write(name, **changes)
    (board,) = made(tmp_path)

    assert sorted((row.backbone, row.init, row.method) for row in board.rows) == [
        ("net", "pretrained", "ft"),
        ("net", "random", "ft"),
        ("net", "random", "ft(drop_path_rate=0.1)"),
        ("net, bf16", "random", "ft"),
        ("net, from 100 Hz", "random", "ft"),
    ]


def test_two_runs_are_marked_as_few(write: Write, tmp_path: Path) -> None:
    for seed in range(2):
        write(f"s{seed}", 1.0, seed, seed=seed)

    assert "| 2* |" in page(made(tmp_path))


def test_seeds_of_two_draws_are_two_runs_of_which_little_is_known(write: Write, tmp_path: Path) -> None:
    for at, (draw, seed) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0)]):
        write(f"r{at}", 1.0 + at, at, draw=draw, seed=seed)
    (recomputed,), (copied,) = made(tmp_path), made(tmp_path, truth=None)
    runs = [run.resampled.auroc.value[:2].mean() for run in recomputed.rows[0].scored.values()]

    assert "| 4* |" in page([recomputed])
    assert recomputed.rows[0].score == pytest.approx((np.mean(runs[:3]) + runs[3]) / 2)
    assert copied.rows[0].score == pytest.approx(recomputed.rows[0].score)


def test_declined_cells_are_listed_once_with_their_reason(write: Write, tmp_path: Path) -> None:
    write("fine")
    for seed in range(2):
        write(f"declined-{seed}", arch="flat", method="ft-sd", seed=seed, incompatible="it has no residual block")
    (board,) = made(tmp_path)
    text = page([board])

    assert len(board.rows) == 1
    assert text.count("- ft-sd on flat (random): it has no residual block") == 1
    assert [entry["reason"] for entry in as_data([board])[0]["declined"]] == ["it has no residual block"]


def test_a_board_of_declined_cells_alone_is_a_board(write: Write, tmp_path: Path) -> None:
    write("declined", incompatible="no")
    (board,) = made(tmp_path)

    assert "- ft on net (random): no" in page([board])
    assert write_pages([board], tmp_path / "pages")
    board_table(board)


def test_two_results_of_one_cell_that_disagree_are_a_conflict(write: Write, tmp_path: Path) -> None:
    one, other = write("one", 1.0), write("other", 1.5, digest="one")

    with pytest.raises(DataError, match=re.escape(f"{one} and {other} are results of one cell and disagree")):
        made(tmp_path)


def test_repeats_count_once(write: Write, tmp_path: Path) -> None:
    write("one", 1.0)
    write("other", 1.0 + 1e-6, digest="one")
    ((row,),) = (board.rows for board in made(tmp_path))

    assert len(row.runs) == 1


def test_synthetic_data_is_said_to_be_so(write: Write, tmp_path: Path) -> None:
    write("real", dataset__name="ptb-xl-1.0.3")
    write("fake", dataset__name="synthetic-0", dataset__synthetic=True)
    pages = {board.dataset: page([board]) for board in made(tmp_path)}

    assert "**Synthetic data" in pages["synthetic-0"].splitlines()[2]
    assert "ynthetic" not in pages["ptb-xl-1.0.3"]


def test_two_fingerprints_are_never_in_one_table(write: Write, tmp_path: Path) -> None:
    edited = truth_table(seed=1)
    write("as-published", arch="published")
    write("edited", truth=edited, arch="edited")
    found = made(tmp_path)

    assert [len(board.rows) for board in found] == [1, 1]
    assert {board.fingerprint for board in found} == {TRUTH.fingerprint, edited.fingerprint}
    for board in found:
        assert board.recomputed is (board.fingerprint == TRUTH.fingerprint)
    text = page(found)
    for fingerprint in (TRUTH.fingerprint, edited.fingerprint):
        assert fingerprint[:16] in text
    tables = [part for part in text.split("## ") if "| backbone |" in part]
    assert len(tables) == 2
    assert not any("| published |" in table and "| edited |" in table for table in tables)


def test_fractions_are_sections_the_whole_first(write: Write, tmp_path: Path) -> None:
    for fraction in (0.01, 1.0, 0.1):
        write(f"f{fraction}", fraction=fraction)
    found = made(tmp_path)

    assert [board.fraction for board in found] == [1.0, 0.1, 0.01]
    text = page(found)
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "## All training records",
        "## 10 % of the training records",
        "## 1 % of the training records",
    ]


def test_runs_that_only_selected_are_left_out(write: Write, tmp_path: Path) -> None:
    write("val", stage="val")

    assert made(tmp_path) == []


def test_the_same_results_give_the_same_bytes(write: Write, tmp_path: Path) -> None:
    for seed in range(3):
        write(f"s{seed}", 1.0, seed, seed=seed)
    write("other", 1.0, arch="net2")
    write("twin", 1.0, arch="net0")
    results = list(find_results(tmp_path / "runs"))
    first = write_pages(make_boards(results, lambda result: TRUTH), tmp_path / "first")
    resampling.replicates_of.cache_clear()
    second = write_pages(make_boards(results[::-1], lambda result: TRUTH), tmp_path / "second")

    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_scores_come_from_predictions_and_not_from_what_a_result_claims(write: Write, tmp_path: Path) -> None:
    honest = write("honest")
    stored = json.loads((honest / "result.json").read_text())
    for chosen in stored["metrics"]["fold_10"]["macro"].values():
        for metric in ("auroc", "average_precision"):
            chosen[metric] = {"value": 0.9999, "low": 0.999, "high": 1.0}
    (honest / "result.json").write_text(json.dumps(stored))

    recomputed, copied = made(tmp_path), made(tmp_path, truth=None)

    assert recomputed[0].rows[0].score < 0.95
    assert "Recomputed from the predictions" in page(recomputed)
    assert copied[0].rows[0].score == 0.9999
    assert "Copied from the results" in page(copied)


def test_copied_boards_need_no_predictions(write: Write, tmp_path: Path) -> None:
    for seed in range(2):
        (write(f"s{seed}", 1.0, seed, seed=seed) / PREDICTIONS).unlink()
    (board,) = made(tmp_path, truth=None)

    assert len(board.rows[0].runs) == 2
    assert np.isnan(interval_of(board.rows[0].summaries["frequent"]["auroc"]).low)


def test_predictions_that_lack_a_record_are_refused(write: Write, tmp_path: Path) -> None:
    folder = write("short")
    with np.load(folder / PREDICTIONS) as file:
        arrays = dict(file)
    np.savez(folder / PREDICTIONS, **{k: v[1:] if k.endswith("fold10") else v for k, v in arrays.items()})

    with pytest.raises(DataError, match="missing record 0"):
        made(tmp_path)


def test_over_all_labels_a_row_has_the_interval_of_its_runs(write: Write, tmp_path: Path) -> None:
    for seed in range(3):
        write(f"s{seed}", 1.0, seed, seed=seed)
    (board,) = made(tmp_path)
    (row,) = board.rows
    expected = summarize_all_labels(TRUTH.patient_id, TRUTH.y_true, [one.y_score for one in row.scored.values()])

    assert row.summaries["all"]["auroc"] == expected
    assert np.isnan(interval_of(row.summaries["all"]["average_precision"]).low)
    assert as_data([board])[0]["rows"][0]["metrics"]["all"]["average_precision"]["low"] is None
    text = page([board])
    assert f"| {spell(expected)} | 3 |" in text
    assert "that part of the interval is borrowed from the other labels" in text


def test_how_often_the_marked_interval_covers_stands_beside_it(write: Write, tmp_path: Path) -> None:
    write("one")
    rows = [
        {"task": task, "quantity": ALL_LABELS, "setting": "rare labels harder", "percent": percent}
        | {"error": "0.9", "simulations": "1000"}
        for task, percent in (("superdiag", "91.2"), ("form", "77.7"))
    ]
    text = page(made(tmp_path), Surroundings(simulated=rows))

    assert "covered the truth in 91.2 % (± 0.9) with rare labels harder." in text
    assert "([all rates](../simulations.csv))" in text
    assert "77.7" not in text


def test_a_fold_without_frequent_labels_is_sorted_by_all(write: Write, tmp_path: Path) -> None:
    few = TRUTH.select(np.arange(150) < 16)
    for name, quality in (("a-bad", 0.2), ("b-good", 4.0)):
        write(name, quality, truth=few, arch=name)
    for truth in (few, None):
        (board,) = made(tmp_path, truth)
        assert [row.backbone for row in board.rows] == ["b-good", "a-bad"]
        assert "nan" not in page([board])
        json.dumps(as_data([board]), allow_nan=False)


def test_every_link_of_the_index_leads_to_a_page(write: Write, tmp_path: Path) -> None:
    write("one")
    write("two", cell__task="form", task__name="form")
    write("three", dataset__name="synthetic-0", dataset__synthetic=True)
    written = write_pages(made(tmp_path), tmp_path / "pages")
    index = tmp_path / "pages" / "README.md"
    links = re.findall(r"\]\(([^)]+)\)", index.read_text())

    assert sorted(links) == ["ptb-xl-1.0.3/form.md", "ptb-xl-1.0.3/superdiag.md", "synthetic-0/superdiag.md"]
    assert sorted(written) == sorted([index, *(index.parent / link for link in links)])
    for link in links:
        assert (index.parent / link).is_file()


def test_the_page_says_protocol_cost_and_command(write: Write, tmp_path: Path) -> None:
    write("one", seed=7)
    text = page(made(tmp_path))

    for words in (
        "Folds 1-8 train, 9 selects, 10 tests",
        "| 1,234 | – | best | 1.5 |",
        "1. `bench run --seed 7",
        "the best fold-9",
    ):
        assert words in text
    assert f"{len(TRUTH)} records of {len(np.unique(TRUTH.patient_id))} patients, 3 labels, 2 of them" in text


def test_the_console_shows_brackets_as_they_are(write: Write, tmp_path: Path) -> None:
    from rich.console import Console

    write("one", arch="net(widths=[8, 16])", method="ft(parts=['head'])")
    (board,) = made(tmp_path)
    console = Console(width=300, record=True, quiet=True)
    for shown in (board_table(board), result_table(board.rows[0].runs[0])):
        console.quiet = False
        with console.capture() as captured:
            console.print(shown)
        assert "net(widths=[8, 16])" in captured.get()
        assert "ft(parts=['head'])" in captured.get()


def test_a_page_says_what_left_the_weights_that_a_row_starts_from(write: Write, tmp_path: Path) -> None:
    facts = {"command": "bench run --task nondiag --method scratch", "trained_on": "nondiag of ptb-xl-1.0.3, folds 1-8"}
    for seed in (0, 1):
        write(f"s{seed}", 1.0, seed, seed=seed, init={"name": "own:12345678", "facts": facts})
    write("random", 0.5)
    text = page(made(tmp_path))

    said = "`own:12345678` are the weights that `bench run --task nondiag --method scratch` left, trained on nondiag of"
    assert text.count(said) == 1
    assert text.count("are the weights that") == 1


def heads(text: str) -> list[list[str]]:
    """The first lines of the tables of rows."""
    return [cells_of(line) for line in text.splitlines() if line.startswith("| rank |")]


def test_every_column_is_defined_above_the_first_table(write: Write, tmp_path: Path) -> None:
    for arch, quality in (("net", 1.0), ("net2", 1.5)):
        write(f"{arch}-ft", quality, arch=arch)
        write(f"{arch}-lp", quality + 0.5, 1, arch=arch, method="lp")
    record_search(load_result(write("tuned", 3.0, method="lp(lr=0.1)")), {"trials": [{"method": "lp"}]})
    plan = BoardPlan("ft on net")
    text = page(make_boards(find_results(tmp_path / "runs"), lambda result: TRUTH, lambda dataset, task: plan))
    (head,) = heads(text)
    legend = text.split("<details>")[1].split("</details>")[0]

    assert text.index("How to read") < text.index("| rank |")
    assert {"group", "backbone", "method", "recipe", "Δ baseline", "p, Holm", "runs"} <= {*head}
    assert [name for name in head if f"**{name.removesuffix(', frequent labels')}**" not in legend] == []


def test_what_all_rows_share_is_said_once_and_arguments_stand_in_the_command(write: Write, tmp_path: Path) -> None:
    method = "ft(drop_path_rate=0.296, finetune_epochs=10, finetune_lr=0.000689)"
    command = f'bench run --method "{method}" --init somewhere'
    write(
        "long", 2.0, method=method, cell__command=command, init={"name": "own:12345678", "sha256": "1234567890abcdef"}
    )
    write("lp", 1.0, method="lp", init={"name": "own:12345678", "sha256": "1234567890abcdef"})
    text = page(made(tmp_path))
    (head,) = heads(text)

    assert "All rows: backbone net, init own:12345678." in text
    assert not {"backbone", "init"} & {*head}
    assert "| ft(…) |" in text
    assert f"1. `{command}`, weights `1234567890ab`" in text


def test_a_section_says_what_was_trained_on(write: Write, tmp_path: Path) -> None:
    def split(records: int, *lacking: str) -> dict[str, Any]:
        sizes = {"train_records": records, "train_patients": records - 30}
        return {"sha256": str(records), **sizes, "labels_without_training_positive": list(lacking)}

    write("one", fraction=0.01, split=split(1171, "WPW", "SEHYP"))
    write("other", fraction=0.01, method="lp", split=split(1171, "WPW", "SEHYP"))
    for draw, lacking in ((0, ("WPW", "SEHYP")), (1, ("WPW",))):
        write(f"draw{draw}", fraction=0.1, draw=draw, split=split(2000 + draw, *lacking))
    text = page(made(tmp_path))

    assert "\n1,171 records of 1,141 patients, 1 draw; no positive in training: SEHYP, WPW." in text
    several = "2,000 to 2,001 records of 1,970 to 1,971 patients, 2 draws; no positive in training: SEHYP (in 1 of the"
    assert several in text


SPLIT = {"sha256": "s", "train_records": 1742, "train_patients": 1700, "labels_without_training_positive": []}


def test_claims_name_their_role_and_condition(write: Write, tmp_path: Path) -> None:
    """Of three runs each, on one draw and from one checkpoint; random weights are drawn anew by each seed."""
    own = {"name": "own:12345678", "sha256": "1234567890abcdef"}
    for method, quality in (("lpft-sd", 3.0), ("lpft", 2.9999), ("lp", 3.0001), ("ft", 0.3)):
        for seed in range(3):
            write(f"{method}{seed}", quality, seed, method=method, seed=seed, fraction=0.1, init=own, split=SPLIT)
    for method, quality in (("lpft-sd", 2.0), ("ft", 0.1)):
        for seed in range(3):
            write(f"r{method}{seed}", quality, seed, method=method, seed=seed, fraction=0.1, split=SPLIT)
    plan = BoardPlan("ft", ("lpft",), 0.005, "lpft-sd minus ft")
    text = page(make_boards(find_results(tmp_path / "runs"), lambda result: TRUTH, lambda dataset, task: plan))
    primary, family, exploratory, equal = (
        next(line for line in text.splitlines() if line.startswith(f"- {start}"))
        for start in ("Primary contrast", "Declared family", "Exploratory", "Practically equal")
    )

    on = "On this subset of 1,742 records"
    assert re.search(
        rf"{on} from these weights: \d \(lpft-sd\) − \d \(ft\) \+[^;]*p < 0.001\. {on}: \d \(lpft-sd\)", primary
    )
    assert f"1 of 1 significant. {on} from these weights: " in family
    assert "Holm over all of them" in exploratory and "support no claim" in exploratory
    assert f"within ±0.005). {on} from these weights: " in equal
    assert "| < 0.001 (primary) |" in text and "| < 0.001 (family) |" in text and "(exploratory) |" in text
    assert "Doubt" not in text  # what is claimed is far larger than the margin


def test_three_draws_are_no_single_subset(write: Write, tmp_path: Path) -> None:
    for method, quality in (("lpft-sd", 3.0), ("ft", 0.3)):
        for draw in range(3):
            split = SPLIT | {"sha256": str(draw)}
            write(f"{method}{draw}", quality, draw, method=method, seed=draw, draw=draw, fraction=0.1, split=split)
    plan = BoardPlan("ft", None, 0.005, "lpft-sd minus ft")
    text = page(make_boards(find_results(tmp_path / "runs"), lambda result: TRUTH, lambda dataset, task: plan))

    assert "corrected over studies. 1 (lpft-sd) − 2 (ft) +" in text
    assert "subset of" not in text and "from these weights" not in text


def test_rows_of_few_runs_are_in_no_group_and_equal_to_none(write: Write, tmp_path: Path) -> None:
    write("good", 3.0, method="lpft")
    write("twin", 3.0001, method="lp")
    write("bad", 0.3, method="ft")
    plan = BoardPlan("ft")
    (board,) = make_boards(find_results(tmp_path / "runs"), lambda result: TRUTH, lambda dataset, task: plan)
    text = page([board])

    assert "- Fewer than three runs: rows 1, 2, 3." in text
    assert "Practically equal, by rank (the whole interval of the difference within ±0.005). No pair." in text
    assert [line.split(" | ")[1] for line in text.splitlines() if re.match(r"\| \d( \(.*\))? \| –", line)] == ["–"] * 3
    assert "< 0.001* |" in text and "Declared family" not in text


def test_a_margin_of_the_size_of_a_claim_is_doubted(write: Write, tmp_path: Path) -> None:
    for method, quality in (("lpft-sd", 2.0), ("lp", 2.0001), ("ft", 1.9)):
        for seed in range(3):
            write(f"{method}{seed}", quality, seed, method=method, seed=seed)
    plan = BoardPlan("ft", ("lp",), 0.02, "lpft-sd minus ft")
    text = page(make_boards(find_results(tmp_path / "runs"), lambda result: TRUTH, lambda dataset, task: plan))

    (found,) = re.findall(r"Doubt “practically equal” here: its margin, 0.02, .* claims, (0\.\d+)\.", text)
    assert 0 < float(found) < 0.04


def test_the_index_says_labels_and_rows_of_each_share(write: Write, tmp_path: Path) -> None:
    """A line a share of the records: its first row, how many do not differ from it, and no such number of few runs."""
    for method, quality in (("lpft", 3.0), ("lp", 3.0001), ("ft", 0.3)):
        for seed in range(3):
            write(f"{method}{seed}", quality, seed, method=method, seed=seed, fraction=0.1)
    write("all", 1.0)
    write_pages(made(tmp_path), tmp_path / "pages")
    text = (tmp_path / "pages" / "README.md").read_text()
    whole, tenth = [cells_of(line) for line in text.splitlines() if "superdiag.md" in line]

    first = max((row for row in made(tmp_path)[1].rows), key=lambda row: row.score)
    assert whole[2:4] == ["All training records", "ft on net (random)\\*"] and whole[6:] == ["–", "1"]
    assert tenth[2:4] == ["10 % of the training records", f"{first.method} on net (random)§"] and tenth[6:] == [
        "1",
        "3",
    ]
    assert tenth[4].startswith(f"{first.score:.4f} (")
    assert "| macro AUROC, frequent labels | macro AUROC, all labels† | not different | rows |" in text


def test_the_picture_over_fractions_has_a_section_of_its_own(write: Write, tmp_path: Path) -> None:
    for fraction in (0.1, 1.0):
        write(f"f{fraction}", fraction=fraction)
    text = page(made(tmp_path), overview="pictures/x.svg")

    section = text.split("## From few training records to all")[1]
    assert "](pictures/x.svg)" in section
    assert "<details>" not in section.split("](pictures/x.svg)")[0]


def test_pages_have_the_answer_over_all_tasks_and_the_index_links_it(write: Write, tmp_path: Path) -> None:
    for method, quality in (("ft", 0.5), ("lpft-sd", 1.5)):
        for fraction in (0.1, 0.3):
            for seed in range(3):
                name = f"{method}-{fraction}-{seed}"
                how = {"method": method, "fraction": fraction, "seed": seed, "init__name": "own:1"}
                write(name, quality, seed, digest=name, **how)
    folder, boards = tmp_path / "pages", made(tmp_path)
    written = write_answers(boards, folder, [], anew=False)
    write_pages(boards, folder, answered=["ptb-xl-1.0.3"])

    names = {path.relative_to(folder).as_posix() for path in written}
    assert names == {f"ptb-xl-1.0.3/{name}" for name in ("answer.md", "variances.csv", "pictures/answer.svg")}
    text = (folder / "ptb-xl-1.0.3/answer.md").read_text()
    assert "on this subset§: yes, by more than the margin.** `lpft-sd` scores" in text
    assert "[on ptb-xl-1.0.3](ptb-xl-1.0.3/answer.md)" in (folder / "README.md").read_text()
    assert {each.contrast for each in read_variances(folder)} == {"lpft-sd minus ft"}
    first = {path: path.read_bytes() for path in written}
    for anew in (False, True):  # remembered, and computed again
        write_answers(made(tmp_path), folder, [], anew=anew)
        assert {path: path.read_bytes() for path in written} == first


def test_a_run_that_stands_on_no_board_hides_and_breaks_no_published_row() -> None:
    """A run that is scored on fold 9 alone, or a declined one, is neither a repeat nor a contradiction."""
    published = load_result(next(path.parent for path in BOARDS.rglob("net1d_mini-lp-*/result.json")))
    metrics = {"fold_9": {"macro": {}}}
    trial = {**published.document, "stage": "val", "metrics": metrics}
    declined = {key: value for key, value in published.document.items() if key != "metrics"}
    own = [trial, {**trial, "digest": "another"}, {**declined, "incompatible": "no tokens"}]
    lines: list[str] = []

    for document in own:
        assert beside([Result(Path("own"), document)], [published], lines.append) == [published]
    assert lines == []
    assert beside([published], [published], lines.append) == [], "a repeat is there once"
    other = {**published.document, "digest": "another"}
    assert beside([Result(Path("own"), other)], [published], lines.append) == []
    assert len(lines) == 1 and lines[0].startswith("the published row lp on net1d_mini")
