"""A manifest brings a split back to the record, and lists that would leak or cannot be compared are refused."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bench.cli
from bench.data.manifests import Manifest, describe_split, hash_ids, read_manifest, split_of, write_manifest
from bench.data.ptbxl import load_records
from bench.data.splits import Split, held_out, split
from bench.data.tasks import LabelTable, find_task, label_table
from bench.errors import DataError


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
    found = split_of(read_manifest(tmp_path / f"m{ending}"), table)
    assert ids(found) == ids(made)
    assert np.array_equal(found.train.y_true, made.train.y_true)
    assert found.manifest == hash_ids(made.train.ecg_id) and made.manifest is None
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
        found = split_of(read_manifest(tmp_path / name), table)
        assert ids(found) == (train, split(table).val.ecg_id.tolist())


def test_the_hash_is_of_the_records_and_not_of_their_order(whole: Manifest, table: LabelTable) -> None:
    turned = split_of(replace(whole, train=whole.train[::-1]), table)
    assert turned.manifest == split_of(whole, table).manifest
    assert split_of(replace(whole, train=whole.train[1:]), table).manifest != turned.manifest


REFUSED: dict[str, tuple[Callable[[Manifest, LabelTable], Manifest], str]] = {
    "unknown": (lambda m, t: replace(m, train=(*m.train, 999_999)), "names record 999999 for train, which task superd"),
    "twice": (lambda m, t: replace(m, train=(*m.train, m.train[0])), "twice in train"),
    "none": (lambda m, t: replace(m, train=()), "it names no training record"),
    "test in train": (lambda m, t: replace(m, train=m.train + (m.test or ())[:1]), "of fold 9 or 10; folds 1-8 train"),
    "val in train": (lambda m, t: replace(m, train=m.train + (m.val or ())[:7]), "it trains on 7 records ("),
    "val lacks one": (lambda m, t: replace(m, val=(m.val or ())[1:]), "val is not fold 9 of task superdiag; record "),
    "test has more": (lambda m, t: replace(m, test=(m.test or ()) + m.train[:1]), "test is not fold 10"),
    "val is test": (lambda m, t: replace(m, val=m.test), "val is not fold 9"),
    "other labels": (lambda m, t: replace(m, fingerprint="0" * 64), "with fingerprint 00000000, and superdiag has"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_leaks_or_cannot_be_compared_is_refused(whole: Manifest, table: LabelTable, name: str) -> None:
    change, words = REFUSED[name]
    with pytest.raises(DataError) as caught:
        split_of(change(whole, table), table)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_patient_on_both_sides_is_refused(whole: Manifest, table: LabelTable) -> None:
    patients = table.patient_id.copy()
    patients[table.strat_fold == 10] = patients[np.searchsorted(table.ecg_id, whole.train[0])]
    with pytest.raises(DataError, match="who has records in fold 9 or 10 too; the test would leak"):
        split_of(whole, replace(table, patient_id=patients))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.txt", "", "is a .json or a .csv file"),
        ("m.json", "{", "is not JSON"),
        ("m.json", "[" * 100_000, "is not JSON"),
        ("m.json", "[1, 2]", "is no manifest: expected an object with a list `train`"),
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
    assert ids(split_of(read_manifest(tmp_path / "m.json"), table)) == ids(split(table, 0.3))
