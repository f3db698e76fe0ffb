"""Scores from anywhere: joined by record and label, refused by name, and scored without torch or waveforms."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bench.boards.rows import make_boards
from bench.boards.truth import Truth
from bench.data.datasets.ptbxl import load_records
from bench.data.tasks import LabelTable, find_task, label_table
from bench.errors import BenchError, CheckpointError, DataError
from bench.inference import load_trained
from bench.pages.page import page
from bench.results.external import as_logits, external_digest, score_external
from bench.results.result import find_results, load_head, load_result

Score = Callable[..., Any]


@pytest.fixture(scope="module")
def tables(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two CSV files and nothing else: the demo's six times over, so that fold 10 has frequent labels."""
    folder = tmp_path_factory.mktemp("tables")
    shutil.copy(demo_set / "scp_statements.csv", folder)
    table = pd.read_csv(demo_set / "ptbxl_database.csv")
    more = [table.assign(ecg_id=table["ecg_id"] + n * 1000, patient_id=table["patient_id"] + n * 1e5) for n in range(6)]
    pd.concat(more).to_csv(folder / "ptbxl_database.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def test_fold(tables: Path) -> LabelTable:
    """The truth of fold 10."""
    table = label_table(load_records(tables), find_task("superdiag"))
    return table.select(table.strat_fold == 10)


@pytest.fixture
def scores(test_fold: LabelTable) -> pd.DataFrame:
    """Probabilities for fold 10, its records and labels in another order."""
    z = test_fold.y_true + np.random.default_rng(0).normal(size=test_fold.y_true.shape)
    frame = pd.DataFrame(1 / (1 + np.exp(-z)), columns=list(test_fold.labels))
    frame.insert(2, "ecg_id", test_fold.ecg_id)
    return frame.sample(frac=1, random_state=0)[[*frame.columns[::-1]]]


@pytest.fixture
def score(tables: Path, tmp_path: Path) -> Score:
    """Scores a table by way of a CSV file."""

    def score(frame: pd.DataFrame, **options: Any) -> Any:
        frame.to_csv(tmp_path / "scores.csv", index=False)
        return score_external(tmp_path / "scores.csv", "superdiag", "other", tables, tmp_path / "runs", **options)

    return score


def test_scores_agree_with_scikit_learn_whatever_their_order(
    score: Score, scores: pd.DataFrame, test_fold: LabelTable
) -> None:
    result = score(scores, scale="probability", compat="strodthoff2020")
    ordered = scores.set_index("ecg_id").loc[test_fold.ecg_id, list(test_fold.labels)].to_numpy()
    expected = roc_auc_score(test_fold.y_true, ordered, average="macro")

    found = result.document["metrics"]["fold_10"]["macro"]["all"]["auroc"]
    assert found["value"] == pytest.approx(expected, abs=1e-12)
    assert found["low"] < found["value"] < found["high"]
    old = result.document["compat"]["strodthoff2020"]
    assert (old["unit"], old["level"], old["num_draws"]) == ("record", 0.9, 100)
    assert old["macro_auroc"]["value"] == pytest.approx(expected, abs=1e-12)
    assert old["macro_auroc"]["low"] < expected < old["macro_auroc"]["high"]


def test_npz_and_csv_give_the_same_scores(score: Score, scores: pd.DataFrame, tables: Path, tmp_path: Path) -> None:
    labels = [name for name in scores if name != "ecg_id"]
    arrays = {"ecg_id": scores["ecg_id"].to_numpy(), "labels": np.array(labels), "y_score": scores[labels].to_numpy()}
    np.savez(tmp_path / "scores.npz", **arrays)
    of_csv = score(scores)
    of_npz = score_external(tmp_path / "scores.npz", "superdiagnostic", "other", tables, tmp_path / "runs")

    assert of_npz.digest == of_csv.digest
    with pytest.raises(CheckpointError, match="holds scores that another program made, and no model"):
        load_trained(of_csv.folder)
    np.testing.assert_array_equal(of_npz.predictions[10].logits, of_csv.predictions[10].logits)


def test_fold_9_is_taken_along_where_it_is_whole(score: Score, tables: Path) -> None:
    table = label_table(load_records(tables), find_task("superdiag"))
    late = table.select(table.strat_fold >= 9)
    frame = pd.DataFrame(late.y_true * 0.5, columns=list(late.labels)).assign(ecg_id=late.ecg_id)

    assert set(score(frame).document["metrics"]) == {"fold_9", "fold_10"}
    with pytest.raises(
        DataError, match=f"fold 9 of superdiag: .*missing record {late.ecg_id[late.strat_fold == 9][0]}"
    ):
        score(frame[frame["ecg_id"] != late.ecg_id[late.strat_fold == 9][0]])


def test_what_does_not_fit_is_named(score: Score, scores: pd.DataFrame, test_fold: LabelTable) -> None:
    first, last = int(scores["ecg_id"].iloc[0]), int(scores["ecg_id"].iloc[-1])
    renamed = scores.rename(columns={"MI": "MI_true"}).assign(**{"MI-p": 0.5, "SEMI": 0.5})
    broken = {
        f"missing record {first}": scores.iloc[1:],
        f"duplicate record {last}": pd.concat([scores, scores.iloc[-1:]]),
        "unknown record 999999": pd.concat([scores, scores.iloc[:1].assign(ecg_id=999999)]),
        "has no column for label MI. Name each column of scores as its label$": scores.drop(columns="MI"),
        "it has MI_true, MI-p, SEMI\\. .* rename 'MI_true' or 'MI-p' to 'MI'": renamed,
        rf"row 1 \(ecg_id {first}\), column MI has nan, expected a finite number; 1 such": scores.assign(
            MI=scores["MI"].where(scores["ecg_id"] != first)
        ),
        f"the score of {first}/MI is 'high', expected a number": scores.assign(
            MI=scores["MI"].astype(object).where(scores["ecg_id"] != first, "high")
        ),
        "ecg_id in row 1 is 1.5": scores.assign(ecg_id=scores["ecg_id"].astype(float).where(scores.index < 0, 1.5)),
        "needs one column ecg_id": scores.rename(columns={"ecg_id": "id"}),
    }
    for message, frame in broken.items():
        with pytest.raises(DataError, match=message):
            score(frame)
    with pytest.raises(DataError, match="duplicate label MI"):
        score(pd.concat([scores, scores[["MI"]]], axis=1))
    with pytest.raises(DataError, match="so they are not probabilities; use --scale logit"):
        score(scores.assign(MI=2.0), scale="probability")


def test_csv_files_are_read_as_programs_save_them(
    score: Score, scores: pd.DataFrame, tables: Path, tmp_path: Path
) -> None:
    expected = score(scores).digest
    plain = scores.to_csv(index=False)
    for text in (
        "\ufeff" + plain,
        scores.to_csv(),
        scores.reset_index().to_csv(index=False).replace("index", "Unnamed: 0", 1),
    ):
        (tmp_path / "saved.csv").write_text(text, encoding="utf-8")
        found = score_external(tmp_path / "saved.csv", "superdiag", "other", tables, tmp_path / "runs")
        assert found.digest == expected


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("separator", "decimal", "message"),
    [
        (";", ".", "separated by commas; it has .*;ecg_id;"),
        (";", ",", "separated by commas; it has .*;ecg_id;"),
        (",", ",", "is not a readable CSV file"),
    ],
)
def test_other_separators_are_one_line(
    separator: str, decimal: str, message: str, scores: pd.DataFrame, tables: Path, tmp_path: Path
) -> None:
    lines = [separator.join(map(str, row)) for row in scores.astype({"ecg_id": str}).to_numpy()]
    text = "\n".join([separator.join(scores.columns), *(line.replace(".", decimal) for line in lines)])
    (tmp_path / "scores.csv").write_text(text)

    with pytest.raises(DataError, match=message):
        score_external(tmp_path / "scores.csv", "superdiag", "other", tables, tmp_path / "runs")


def test_an_empty_file_of_scores_is_one_line(tables: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").touch()
    with pytest.raises(DataError, match=r"needs one column ecg_id .*; it has none$"):
        score_external(tmp_path / "scores.csv", "superdiag", "other", tables, tmp_path / "runs")


def test_packed_scores_are_read(score: Score, scores: pd.DataFrame, tables: Path, tmp_path: Path) -> None:
    expected = score(scores).digest
    scores.to_csv(tmp_path / "saved.csv.gz", index=False)
    (tmp_path / "utf16.csv").write_text(scores.to_csv(index=False), encoding="utf-16")
    labels = [name for name in scores if name != "ecg_id"]
    np.savez(tmp_path / "b.npz", ecg_id=scores["ecg_id"], labels=np.array(labels, dtype="S9"), y_score=scores[labels])
    for name in ("saved.csv.gz", "utf16.csv", "b.npz"):
        found = score_external(tmp_path / name, "superdiag", "other", tables, tmp_path / "runs")
        assert found.digest == expected


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_score_that_is_not_finite_is_named_by_row_and_column(
    value: float, score: Score, scores: pd.DataFrame
) -> None:
    broken = scores.copy()
    broken.iloc[6, broken.columns.get_loc("HYP")] = value
    message = rf"row 7 \(ecg_id {scores['ecg_id'].iloc[6]}\), column HYP has {value}, expected a finite number"
    with pytest.raises(DataError, match=message):
        score(broken)


def test_transposed_scores_are_one_line(scores: pd.DataFrame, tables: Path, tmp_path: Path) -> None:
    labels = [name for name in scores if name != "ecg_id"]
    arrays = {"ecg_id": scores["ecg_id"], "labels": labels, "y_score": scores[labels].to_numpy().T}
    np.savez(tmp_path / "scores.npz", **arrays)

    with pytest.raises(
        DataError, match=rf"y_score has the shape \(5, {len(scores)}\), expected .*\({len(scores)}, 5\)"
    ):
        score_external(tmp_path / "scores.npz", "superdiag", "other", tables, tmp_path / "runs")


def test_records_of_the_dataset_that_are_not_scored_are_left_out(
    score: Score, scores: pd.DataFrame, tables: Path
) -> None:
    records = load_records(tables)
    labelled = label_table(records, find_task("superdiag"))
    unlabelled = [*set(records.ecg_id[records.strat_fold == 10]) - set(labelled.ecg_id)]
    more = [*unlabelled, *labelled.ecg_id[labelled.strat_fold == 3]]
    others = pd.DataFrame(0.5, columns=scores.columns, index=range(len(more))).assign(ecg_id=more)
    log: list[str] = []

    assert unlabelled
    assert score(pd.concat([others, scores]), log=log.append).digest == score(scores).digest
    assert len(log) == 1 and log[0].startswith(f"{len(more)} records of ")


def test_columns_that_are_no_labels_are_left_out_and_named(score: Score, scores: pd.DataFrame) -> None:
    """As another project saves them: the split in words, and the truth beside each score."""
    log: list[str] = []
    truth = {f"{label}_true": 1 for label in ("MI", "NORM")}

    assert score(scores.assign(split="test", **truth), log=log.append).digest == score(scores).digest
    (line,) = log
    assert line.startswith("3 columns of ") and line.endswith("are left out: split, MI_true, NORM_true")


def test_records_without_a_label_can_be_scored_beside(
    score: Score, scores: pd.DataFrame, test_fold: LabelTable, tables: Path, tmp_path: Path
) -> None:
    """Negatives of every label, as scikit-learn sees them; the board's own numbers and ranks stay as they are."""
    records = load_records(tables)
    chosen = records.strat_fold == 10
    unlabelled = sorted({*records.ecg_id[chosen]} - {*test_fold.ecg_id})
    random = np.random.default_rng(1).random((len(unlabelled), len(test_fold.labels)))
    others = pd.DataFrame(random, columns=list(test_fold.labels)).assign(ecg_id=unlabelled)
    frame, log = pd.concat([others, scores]), list[str]()

    result = score(frame, compat="all-records", log=log.append)

    ordered = frame.set_index("ecg_id").loc[[*test_fold.ecg_id, *unlabelled], list(test_fold.labels)]
    y_true = np.vstack([test_fold.y_true, np.zeros((len(unlabelled), len(test_fold.labels)), dtype=bool)])
    found = result.document["compat"]["all-records"]
    assert found["macro"]["all"]["auroc"]["value"] == pytest.approx(roc_auc_score(y_true, ordered), abs=1e-12)
    assert found["num_records"] == chosen.sum() == len(y_true) > len(test_fold)
    assert result.document["metrics"] == score(scores, overwrite=True).document["metrics"]
    number = f"{len(unlabelled)} of fold 10 without a label of superdiag"
    assert f"left out: {number}; --compat all-records also scores all" in log[0]
    score(frame, compat="all-records", overwrite=True)
    (board,) = make_boards(find_results(tmp_path / "runs"), Truth(tables))
    assert f"- Row 1, on all {len(y_true):,} records of fold 10, those without a label as negatives: " in page([board])
    with pytest.raises(DataError, match=f"lacks {len(unlabelled)} of the {len(y_true)} records of fold 10, the first "):
        score(scores, compat="all-records", overwrite=True)


def test_an_array_without_ids_is_refused_with_what_to_do(tables: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "scores.npy", np.zeros((7, 5)))
    (tmp_path / "scores.dat").write_bytes(b"\x80\x04\x95\xff")
    for name, message in (
        (
            "scores.npy",
            r"of shape \(7, 5\) without ecg_ids .* np.savez\('scores.npz', ecg_id=ids, .*table.strat_fold == 10",
        ),
        ("scores.dat", "is not a text file in UTF-8"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            score_external(tmp_path / name, "superdiag", "other", tables, tmp_path / "runs")
        assert "\n" not in str(caught.value)


def test_other_scores_of_one_name_and_seed_are_refused_or_replaced(
    score: Score, scores: pd.DataFrame, tables: Path, tmp_path: Path
) -> None:
    first = score(scores)
    assert score(scores).folder == first.folder
    score(scores, seed=1)
    score(scores, fraction=0.5)
    for changed, options in ((scores, {"scale": "probability"}), (scores.assign(MI=scores["MI"] / 2), {})):
        with pytest.raises(BenchError, match=f"^{first.folder} has other scores of this name and seed; .*--overwrite"):
            score(changed, **options)
    again = score(scores, scale="probability", overwrite=True)

    assert again.folder.is_dir() and not first.folder.exists()
    boards = make_boards(find_results(tmp_path / "runs"), Truth(tables))
    assert [len(row.runs) for board in boards for row in board.rows] == [2, 1]


def test_files_that_are_none_are_refused(tables: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    np.savez(tmp_path / "short.npz", ecg_id=[1])
    for name, message in (
        ("nowhere.csv", "no file at"),
        ("broken.npz", "is not a readable npz"),
        ("short.npz", "lacks labels, y_score"),
    ):
        with pytest.raises(DataError, match=message):
            score_external(tmp_path / name, "superdiag", "other", tables, tmp_path / "runs")
    with pytest.raises(BenchError, match="expected a letter or digit"):
        score_external(tmp_path / "x.csv", "superdiag", "a | b", tables, tmp_path / "runs")


def test_logits_keep_the_order_of_probabilities_to_the_last_bit() -> None:
    probabilities = np.array([0, 5e-324, 1e-300, 0.1, 0.5, 1 - 1e-12, np.nextafter(1, 0), 1])
    logits = as_logits(probabilities, "probability", Path("x"))

    assert (np.diff(logits) > 0).all()
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(as_logits(probabilities, "logit", Path("x")), probabilities)


def test_each_fact_alone_changes_the_digest(score: Score, scores: pd.DataFrame) -> None:
    result = score(scores, scale="probability")
    document, predictions = result.document, result.predictions
    first = external_digest(document, predictions)
    others = [
        {**document, section: {**document[section], key: value}}
        for section, key, value in (
            *(("cell", "arch", "another"), ("cell", "fraction", 0.5), ("cell", "draw", 1), ("cell", "seed", 1)),
            *(("task", "fingerprint", "another"), ("scores", "scale", None)),
        )
    ]
    moved = {10: replace(predictions[10], logits=predictions[10].logits + 1e-6)}
    numbered = {10: replace(predictions[10], ecg_id=predictions[10].ecg_id + 1)}

    assert first == result.digest
    digests = [external_digest(other, predictions) for other in others]
    digests += [external_digest(document, other) for other in (moved, numbered)]
    assert len({first, *digests}) == 9


def test_boards_show_external_rows_and_seeds_share_one(
    score: Score, scores: pd.DataFrame, tables: Path, tmp_path: Path
) -> None:
    for seed in range(3):
        score(scores.assign(MI=scores["MI"] + seed / 10), seed=seed)
    (board,) = make_boards(find_results(tmp_path / "runs"), Truth(tables))

    assert [(row.name, len(row.runs)) for row in board.rows] == [("other (external)", 3)]
    assert "| other | – | external |" in page([board])


def test_draws_of_one_seed_are_independent_runs(
    score: Score, scores: pd.DataFrame, tables: Path, tmp_path: Path
) -> None:
    for draw in range(3):
        score(scores.assign(MI=scores["MI"] + draw / 10), draw=draw, fraction=0.1)
    (board,) = make_boards(find_results(tmp_path / "runs"), Truth(tables))

    assert [len(row.runs) for row in board.rows] == [3]
    assert not board.rows[0].few_runs


def test_the_command_of_a_result_gives_it_again(score: Score, scores: pd.DataFrame) -> None:
    said = [
        score(scores, **options).cell["command"]
        for options in (
            {"scale": "probability"},
            {"fraction": 0.1, "draw": 2, "seed": 3},
            {"seed": 4, "compat": "strodthoff2020"},
        )
    ]

    assert said == [
        "bench score scores.csv --task superdiag --name other --scale probability",
        "bench score scores.csv --task superdiag --name other --fraction 0.1 --draw 2 --seed 3",
        "bench score scores.csv --task superdiag --name other --compat strodthoff2020 --seed 4",
    ]


def test_a_plan_reads_the_head_alone(score: Score, scores: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics are last, whatever scored the model; so the head is whole without them."""
    result = score(scores, compat="strodthoff2020")
    expected = {key: value for key, value in load_result(result.folder).document.items() if key != "metrics"}
    monkeypatch.setattr("bench.results.result.load_result", lambda folder: pytest.fail("it reads the whole document"))

    assert load_head(result.folder) == expected


def test_a_draw_of_all_records_is_refused_as_in_a_run(score: Score, scores: pd.DataFrame) -> None:
    with pytest.raises(BenchError, match="--draw 1 has no effect on all training records"):
        score(scores, draw=1)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"seed": -1}, "--seed must not be negative, got -1"),
        ({"seed": 2**60}, f"--seed must be at most 2^53, got {2**60}"),
        ({"seed": 1.5}, "--seed must be a whole number, got 1.5"),
        ({"fraction": 0.5, "draw": -1}, "--draw must not be negative, got -1"),
    ],
)
def test_numbers_are_refused_as_in_a_run_and_before_anything_is_read(option: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchError, match=re.escape(words)):
        score_external(Path("nowhere.csv"), "superdiag", "other", Path("nowhere"), Path("nowhere"), **option)


def test_numpys_numbers_are_pythons(score: Score, scores: pd.DataFrame) -> None:
    """They ended in a TypeError of json, or were written into the command as `np.float64(0.5)`."""
    result = score(scores, fraction=np.float64(0.5), draw=np.int32(2), seed=np.int64(1))

    assert (result.cell["fraction"], *result.place) == (0.5, 2, 1)
    assert result.cell["command"].endswith("--fraction 0.5 --draw 2 --seed 1")


def test_two_csv_files_and_no_torch_are_enough(scores: pd.DataFrame, tables: Path, tmp_path: Path) -> None:
    scores.to_csv(tmp_path / "scores.csv", index=False)
    code = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is blocked")
sys.meta_path.insert(0, Block())
from bench.cli import main
for words in (
    ["score", "scores.csv", "--task", "superdiag", "--name", "a", "--scale", "probability"],
    ["score", "scores.csv", "--task", "superdiag", "--name", "b", "--compat", "strodthoff2020"],
    ["compare", "a (external)", "b (external)"],
    ["leaderboard"],
):
    sys.argv = ["bench", *words, "--data", sys.argv[-1]]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
assert "torch" not in sys.modules
"""
    words = [sys.executable, "-c", code, str(tables)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "as Strodthoff et al. 2020" in done.stdout
    assert list((tmp_path / "runs/leaderboards").glob("synthetic-*/superdiag.md"))


@pytest.mark.parametrize("name", ["=cmd", "+x", "-x", ".", "x" * 101, ""])
def test_a_name_that_is_a_formula_or_too_long_is_refused(demo_set: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(BenchError, match=r"--name .*expected a letter or digit, then up to 99 of letters"):
        score_external(tmp_path / "s.csv", "superdiag", name, demo_set, tmp_path)
