"""A manifest brings a split back to the record, and lists that would leak or cannot be compared are refused."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench.cli
from bench.boards.rows import make_boards
from bench.boards.truth import Truth
from bench.cell import Cell
from bench.data.datasets.ptbxl import load_records
from bench.data.manifests import Manifest, describe_split, read_manifest, split_of, write_manifest
from bench.data.splits import Split, held_out, split
from bench.data.tasks import LabelTable, find_task, label_table
from bench.errors import DataError
from bench.execute import Options, execute
from bench.pages.page import page
from bench.pages.publish import faults_of
from bench.registry.reference import Reference
from bench.results.identity import identity
from bench.results.result import Result


@pytest.fixture(scope="module")
def table(demo_set: Path) -> LabelTable:
    return label_table(load_records(demo_set), find_task("superdiag"))


@pytest.fixture
def whole(table: LabelTable) -> Manifest:
    """What splits at a fraction of 0.3 are, in memory."""
    parts = split(table, 0.3)
    test = tuple(held_out(table).ecg_id.tolist())
    return Manifest("it", tuple(parts.train.ecg_id.tolist()), tuple(parts.val.ecg_id.tolist()), test)


def ids(found: Split) -> tuple[list[int], list[int]]:
    return found.train.ecg_id.tolist(), found.val.ecg_id.tolist()


@pytest.mark.parametrize("ending", [".json", ".csv"])
@pytest.mark.parametrize("fraction", [1.0, 0.3, 0.01])
def test_a_split_comes_back_to_the_record(table: LabelTable, tmp_path: Path, fraction: float, ending: str) -> None:
    made = split(table, fraction, draw=2)
    write_manifest(describe_split(table, made, "demo"), tmp_path / f"m{ending}")
    found = split_of(read_manifest(tmp_path / f"m{ending}"), table, table.ecg_id)
    assert ids(found) == ids(made)
    assert np.array_equal(found.train.y_true, made.train.y_true)
    assert (found.content, found.whole) == (made.content, fraction == 1)
    assert found.fraction == len(made.train) / (table.strat_fold < 9).sum()
    assert [path.name for path in tmp_path.iterdir()] == [f"m{ending}"]


def test_a_manifest_says_what_the_split_is(table: LabelTable) -> None:
    made = split(table, 0.05)
    facts = json.loads(json.dumps(describe_split(table, made, "demo")))
    assert (facts["dataset"], facts["task"], facts["fraction"], facts["draw"]) == ("demo", "superdiag", 0.05, 0)
    assert facts["fingerprint"] == table.fingerprint
    assert facts["test"] == held_out(table).ecg_id.tolist()
    assert facts["records"] == {name: len(facts[name]) for name in ("train", "val", "test")}
    assert facts["labels_without_a_positive"]["train"] == made.unseen_labels
    for column, label in enumerate(table.labels):
        assert facts["labels"][label]["train"] == made.train.y_true[:, column].sum()
        assert facts["labels"][label]["test"] == held_out(table).y_true[:, column].sum()


def test_a_csv_is_two_columns_by_ecg_id(table: LabelTable, tmp_path: Path) -> None:
    write_manifest(describe_split(table, split(table), "demo"), tmp_path / "m.csv")
    rows = list(csv.DictReader((tmp_path / "m.csv").read_text().splitlines()))
    assert [int(row["ecg_id"]) for row in rows] == sorted(int(row["ecg_id"]) for row in rows)
    assert len(rows) == len(table) and {row["split"] for row in rows} == {"train", "val", "test"}


def test_lists_of_others_are_read(table: LabelTable, tmp_path: Path) -> None:
    train = split(table, 0.2).train.ecg_id.tolist()
    (tmp_path / "a.csv").write_text("\ufefffilename,ecg_id,NORM\n" + "".join(f"x,{i}.0,1\n" for i in train))
    (tmp_path / "b.json").write_text(json.dumps({"train": train, "authors": "others"}))
    for name in ("a.csv", "b.json"):
        found = split_of(read_manifest(tmp_path / name), table, table.ecg_id)
        assert ids(found) == (train, split(table).val.ecg_id.tolist())


def test_the_content_is_of_the_records_and_not_of_their_order(whole: Manifest, table: LabelTable) -> None:
    assert whole.val is not None
    content = split_of(whole, table, table.ecg_id).content
    for change, same in (
        ({"train": whole.train[::-1], "val": whole.val[::-1], "source": "elsewhere"}, True),
        ({"val": None, "test": None}, True),
        ({"train": whole.train[1:]}, False),
        ({"val": whole.val[1:]}, False),
    ):
        assert (split_of(replace(whole, **change), table, table.ecg_id).content == content) is same


def test_val_may_be_thinned_and_is_then_no_longer_whole(whole: Manifest, table: LabelTable) -> None:
    train = tuple(table.ecg_id[table.strat_fold < 9].tolist())
    assert split_of(replace(whole, train=train), table, table.ecg_id).whole

    found = split_of(replace(whole, train=train, val=(whole.val or ())[:9]), table, table.ecg_id)

    assert (found.whole, found.fraction) == (False, 1.0)
    assert found.val.ecg_id.tolist() == list((whole.val or ())[:9])


def test_a_list_for_several_tasks_is_taken_without_the_records_that_have_no_label(
    demo_set: Path, whole: Manifest
) -> None:
    records = load_records(demo_set)
    form = label_table(records, find_task("form"))
    everything = {name: tuple(records.ecg_id[records.strat_fold == fold].tolist()) for name, fold in FOLDS.items()}

    found = split_of(replace(whole, **everything), form, records.ecg_id)

    assert set(found.train.ecg_id) == set(everything["train"]) & set(form.ecg_id) != set(everything["train"])


FOLDS = {"train": 3, "val": 9, "test": 10}

REFUSED: dict[str, tuple[Callable[[Manifest, LabelTable], Manifest], str]] = {
    "unknown": (
        lambda m, t: replace(m, train=(*m.train, 999_999)),
        "it names record 999999 for train, which this dataset does not have",
    ),
    "twice": (lambda m, t: replace(m, train=(*m.train, m.train[0])), "twice in train"),
    "none": (lambda m, t: replace(m, train=()), "it names no record for train that has a label of task superdiag"),
    "no val": (lambda m, t: replace(m, val=()), "it names no record for val that has a label"),
    "test in train": (
        lambda m, t: replace(m, train=m.train + (m.test or ())[:1]),
        "in train, not of folds 1-8; folds 1-8 train, 9 selects and 10 tests",
    ),
    "val in train": (lambda m, t: replace(m, train=m.train + (m.val or ())[:7]), "it has 7 records ("),
    "train in val": (lambda m, t: replace(m, val=m.train), "in val, not of fold 9"),
    "test lacks one": (lambda m, t: replace(m, test=(m.test or ())[1:]), "it tests without record "),
    "test has more": (lambda m, t: replace(m, test=(m.test or ()) + m.train[:1]), "in test, not of fold 10"),
    "other labels": (lambda m, t: replace(m, fingerprint="0" * 64), "with fingerprint 00000000, and superdiag has"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_leaks_or_cannot_be_compared_is_refused(whole: Manifest, table: LabelTable, name: str) -> None:
    change, words = REFUSED[name]
    with pytest.raises(DataError) as caught:
        split_of(change(whole, table), table, table.ecg_id)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.txt", "", "is a .json or a .csv file"),
        ("m.json", "{", "is not JSON"),
        ("m.json", "[" * 100_000, "is not JSON"),
        ("m.json", "[1, 2]", "is not a manifest: expected an object with a list `train`"),
        ("m.json", '{"train": 3}', "train is not a list of ecg_ids"),
        ("m.json", '{"train": [1, true]}', "train is not a list of ecg_ids"),
        ("m.json", '{"train": [1.5]}', "train is not a list of ecg_ids"),
        ("m.json", '{"train": [1], "val": "x"}', "val is not a list of ecg_ids"),
        ("m.json", '{"train": [1], "schema": 9}', "has schema 9, this version reads 1"),
        ("m.json", '{"train": [1], "fingerprint": 1}', "fingerprint is not a text"),
        ("m.csv", "", "has no column ecg_id; it has none"),
        ("m.csv", "id,split\n1,train\n", "has no column ecg_id; it has id, split"),
        ("m.csv", "ecg_id,split\n1,dev\n", "line 2: split is 'dev', expected train, val or test"),
        ("m.csv", "ecg_id,split\n1\n", "line 2: split is 'None'"),
        ("m.csv", "ecg_id\n-1\n", "line 2: ecg_id is '-1', expected a whole number"),
        ("m.csv", 'ecg_id\n"1\n', "is not a readable CSV file"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path / name)
    assert words in str(caught.value) and str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_or_written_is_named(table: LabelTable, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_manifest(tmp_path / "none.json")
    (tmp_path / "m.csv").write_bytes(b"ecg_id\n\xff\n")
    with pytest.raises(DataError, match="is not a text file"):
        read_manifest(tmp_path / "m.csv")
    described = describe_split(table, split(table), "demo")
    with pytest.raises(DataError, match="cannot write"):
        write_manifest(described, tmp_path / "none" / "m.json")
    with pytest.raises(DataError, match=r"not \.yaml"):
        write_manifest(described, tmp_path / "m.yaml")


def test_the_verb(demo_set: Path, table: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--task", "superdiag", "--fraction", "0.3", "--data", str(demo_set), "--out", str(tmp_path / "m.json")]
    monkeypatch.setattr(sys, "argv", ["bench", "data", "manifest", *words])
    with pytest.raises(SystemExit) as end:
        bench.cli.main()
    assert not end.value.code
    assert ids(split_of(read_manifest(tmp_path / "m.json"), table, table.ecg_id)) == ids(split(table, 0.3))


def cell(data: Path, **changes: Any) -> Cell:
    return Cell(
        data=data,
        task="superdiag",
        arch=Reference("net1d_mini"),
        method=Reference.parse("lp(probe_epochs=2)"),
        init="random",
        precision="float32",
        **changes,
    )


@pytest.fixture(scope="module")
def runs(demo_set: Path, table: LabelTable, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """A run of a draw, of that draw as a list, of another list, and of one with a thinned val."""
    folder = tmp_path_factory.mktemp("lists")
    made, test = split(table, 0.3), held_out(table)
    write_manifest(describe_split(table, made, "demo"), folder / "theirs.csv")
    (folder / "other.json").write_text(json.dumps({"train": made.train.ecg_id.tolist()[1:]}))
    thin_val = {"train": made.train.ecg_id.tolist(), "val": made.val.ecg_id.tolist()[::2], "test": test.ecg_id.tolist()}
    (folder / "thin.json").write_text(json.dumps(thin_val))
    options = Options(runs=folder / "runs")
    cells = {"draw": cell(demo_set, fraction=0.3)} | {
        name: cell(demo_set, manifest=folder / file)
        for name, file in (("list", "theirs.csv"), ("other", "other.json"), ("thin", "thin.json"))
    }
    return {name: execute(one, options) for name, one in cells.items()}


def test_a_draw_fed_back_as_a_list_gives_the_same_scores(runs: dict[str, Result]) -> None:
    for fold in (9, 10):
        drawn, fed, other = (runs[name].predictions[fold].logits for name in ("draw", "list", "other"))
        assert np.array_equal(drawn, fed)
        assert not np.array_equal(drawn, other)


def test_a_list_of_all_records_is_the_plain_run(demo_set: Path, table: LabelTable, tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text(json.dumps({"train": split(table).train.ecg_id.tolist()}))
    options = Options(runs=tmp_path / "runs")

    plain = execute(cell(demo_set), options)

    assert execute(cell(demo_set, manifest=tmp_path / "all.json"), options).folder == plain.folder


def test_the_digest_holds_what_is_listed_and_not_where(
    runs: dict[str, Result], demo_set: Path, table: LabelTable, tmp_path: Path
) -> None:
    moved = tmp_path / "theirs.json"
    moved.write_text(json.dumps({"train": split(table, 0.3).train.ecg_id.tolist()[::-1]}))
    again = execute(cell(demo_set, manifest=moved), Options(runs=runs["list"].folder.parents[1]))
    assert again.folder == runs["list"].folder, "it is the finished run, not a new one"
    assert len({run.digest for run in runs.values()}) == 4
    assert all(identity(run.document) == run.digest for run in runs.values())


def test_the_result_says_which_list(runs: dict[str, Result], table: LabelTable) -> None:
    found, drawn = runs["list"], runs["draw"]
    assert found.cell["manifest"] == "theirs.csv" and drawn.cell["manifest"] is None
    assert found.cell["fraction"] == len(split(table, 0.3).train) / (table.strat_fold < 9).sum()
    assert "theirs.csv" in found.cell["command"] and "--fraction" not in found.cell["command"]
    assert found.folder.name.startswith("net1d_mini-lp-theirs-seed0-")
    assert found.thinned == drawn.thinned != runs["other"].thinned


def test_a_thinned_val_selects_and_all_of_fold_9_is_still_scored(runs: dict[str, Result], table: LabelTable) -> None:
    val = table.ecg_id[table.strat_fold == 9]
    assert runs["thin"].document["split"]["val_records"] == len(val[::2])
    assert runs["thin"].predictions[9].ecg_id.tolist() == val.tolist()
    assert runs["thin"].document["training"] != runs["draw"].document["training"]


def test_lists_and_draws_never_share_a_section(runs: dict[str, Result], demo_set: Path) -> None:
    truth = Truth(demo_set)
    found = {board.title: board.rows for board in make_boards(runs.values(), truth)}

    assert len(found) == len(runs) and all(len(rows) == 1 for rows in found.values())
    assert {"30 % of the training records", f"29.8 % of the training records, as listed in {runs['list'].manifest}"} & {
        *found
    }
    assert all(len(rows[0].runs) == 1 for rows in found.values())
    text = page(make_boards(runs.values(), truth))
    for name in ("list", "other", "thin"):
        assert f"as listed in {runs[name].manifest}" in text
        assert runs[name].cell["command"] in text


def test_results_of_lists_can_be_published(
    runs: dict[str, Result], demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a synthetic dataset and an unclean checkout allow; and an edited list is found."""
    truth, result = Truth(demo_set), runs["list"]
    allowed = {fault for fault in faults_of(result, truth) if "synthetic" in fault or "commit" in fault}
    assert set(faults_of(result, truth)) == allowed

    document = json.loads((result.folder / "result.json").read_text())
    document["split"]["sha256"] = "0" * 64
    assert "the cell was edited" in " ".join(faults_of(Result(result.folder, document), truth))


def test_a_draw_by_another_rule_is_no_repeat(runs: dict[str, Result], demo_set: Path) -> None:
    older = json.loads((runs["draw"].folder / "result.json").read_text())
    older["split"]["sha256"] = None
    older["cell"]["seed"], older["digest"] = 1, "0" * 64
    with pytest.raises(DataError, match="have the same fraction and draw but different training records"):
        make_boards([runs["draw"], Result(runs["draw"].folder, older)], Truth(demo_set))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fraction", "0.5"], "error: --manifest lists the training records and --fraction draws them; give one"),
        ([], "none.json cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_manifest_is_one_line(
    words: list[str],
    message: str,
    demo_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked = ["run", "--task", "superdiag", "--arch", "net1d_mini", "--method", "lp", "--data", str(demo_set)]
    asked += ["--runs", str(tmp_path / "runs"), "--manifest", str(tmp_path / "none.json"), *words]
    monkeypatch.setattr(sys, "argv", ["bench", *asked])
    with pytest.raises(SystemExit) as end:
        bench.cli.main()
    assert end.value.code == 2
    said = capfd.readouterr().err
    assert message in said and "Traceback" not in said and len(said.splitlines()) == 1
