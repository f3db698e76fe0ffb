"""Labels follow Strodthoff et al. 2020 to the record, and the fingerprint shows any change of them."""

from __future__ import annotations

import ast
import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import MultiLabelBinarizer

from bench.data.ptbxl import Records, load_records
from bench.data.tasks import LabelTable, find_task, label_table
from bench.errors import DataError, PluginError

TASKS = ("all", "diag", "subdiag", "superdiag", "form", "rhythm", "nondiag")
COUNTS = {  # DESIGN.md: labels, records, train, val, test, patients of the test fold
    "all": (71, 21799, 17418, 2183, 2198, 1904),
    "diag": (44, 21388, 17084, 2146, 2158, 1877),
    "subdiag": (23, 21388, 17084, 2146, 2158, 1877),
    "superdiag": (5, 21388, 17084, 2146, 2158, 1877),
    "form": (19, 8978, 7197, 901, 880, 797),
    "rhythm": (12, 21030, 16832, 2100, 2098, 1823),
}


def records_of(codes: Mapping[int, Mapping[str, float]], demo_set: Path) -> Records:
    """Records with these statements, each of a patient of its own, in fold 1."""
    table = pd.DataFrame(
        {"patient_id": list(codes), "strat_fold": 1, "scp_codes": list(codes.values())},
        index=pd.Index(list(codes), name="ecg_id"),
    )
    return Records(demo_set, table, load_records(demo_set).statements)


def obvious_labels(folder: Path, task: str) -> dict[int, set[str]]:
    """ecg_id -> labels, read with the standard library alone."""
    with (folder / "scp_statements.csv").open(newline="", encoding="utf-8") as file:
        statements = {next(iter(row.values())): row for row in csv.DictReader(file)}
    found = {}
    with (folder / "ptbxl_database.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            labels = set()
            for code in ast.literal_eval(row["scp_codes"]):
                statement = statements[code]
                diagnostic = statement["diagnostic"] == "1.0"
                stands_for = {
                    "all": code,
                    "diag": code if diagnostic else "",
                    "nondiag": "" if diagnostic else code,
                    "form": code if statement["form"] == "1.0" else "",
                    "rhythm": code if statement["rhythm"] == "1.0" else "",
                    "superdiag": statement["diagnostic_class"] if diagnostic else "",
                    "subdiag": statement["diagnostic_subclass"] if diagnostic else "",
                }
                if stands_for[task]:
                    labels.add(stands_for[task])
            if labels:
                found[int(row["ecg_id"])] = labels
    return found


def assert_obvious(folder: Path, task: str) -> LabelTable:
    table, expected = label_table(load_records(folder), find_task(task)), obvious_labels(folder, task)
    binarizer = MultiLabelBinarizer()
    matrix = binarizer.fit_transform([expected[i] for i in sorted(expected)])
    assert table.labels == tuple(binarizer.classes_)
    assert table.ecg_id.tolist() == sorted(expected)
    assert np.array_equal(table.y_true, matrix)
    return table


@pytest.mark.parametrize("task", TASKS)
def test_labels_are_those_of_the_obvious_way(demo_set: Path, task: str) -> None:
    table = assert_obvious(demo_set, task)
    assert list(table.labels) == sorted(table.labels)
    assert len(table) <= 240 and len(table.labels) > 3
    records = load_records(demo_set)
    rows = np.searchsorted(records.ecg_id, table.ecg_id)
    assert table.patient_id.tolist() == records.patient_id[rows].tolist()
    assert table.strat_fold.tolist() == records.strat_fold[rows].tolist()


def test_a_statement_of_likelihood_0_counts(demo_set: Path) -> None:
    table = label_table(records_of({1: {"NORM": 0.0, "SR": 0.0}, 2: {"IMI": 100.0}}, demo_set), find_task("superdiag"))
    assert table.labels == ("MI", "NORM")
    assert table.y_true.tolist() == [[False, True], [True, False]]


def test_records_without_a_label_of_the_task_are_dropped(demo_set: Path) -> None:
    records = records_of({3: {"SR": 0.0}, 5: {"NORM": 100.0, "SR": 0.0}, 8: {}, 9: {"PVC": 100.0}}, demo_set)
    assert label_table(records, find_task("diag")).ecg_id.tolist() == [5]
    assert label_table(records, find_task("rhythm")).ecg_id.tolist() == [3, 5]
    assert label_table(records, find_task("nondiag")).ecg_id.tolist() == [3, 5, 9]
    assert label_table(records, find_task("all")).ecg_id.tolist() == [3, 5, 9]


def test_several_statements_of_one_class_are_one_label(demo_set: Path) -> None:
    table = label_table(records_of({1: {"IMI": 100.0, "ASMI": 50.0, "NDT": 100.0}}, demo_set), find_task("superdiag"))
    assert table.labels == ("MI", "STTC")
    assert table.y_true.tolist() == [[True, True]]


def test_a_diagnostic_form_statement_belongs_to_form_too_and_not_to_nondiag(demo_set: Path) -> None:
    records = records_of({1: {"NDT": 100.0, "PVC": 100.0}}, demo_set)
    assert label_table(records, find_task("form")).labels == ("NDT", "PVC")
    assert label_table(records, find_task("nondiag")).labels == ("PVC",)


def test_an_unknown_statement_is_named(demo_set: Path) -> None:
    with pytest.raises(DataError, match=r"scp_statements\.csv lacks: XYZ$"):
        label_table(records_of({1: {"NORM": 100.0, "XYZ": 0.0}}, demo_set), find_task("superdiag"))


def test_a_task_that_no_record_has_is_named(demo_set: Path) -> None:
    with pytest.raises(DataError, match="has a label of task form"):
        label_table(records_of({1: {"NORM": 100.0}}, demo_set), find_task("form"))


@pytest.mark.parametrize(
    ("long", "short"), [("diagnostic", "diag"), ("subdiagnostic", "subdiag"), ("superdiagnostic", "superdiag")]
)
def test_the_long_names_of_the_literature_are_accepted(long: str, short: str) -> None:
    assert find_task(long) is find_task(short)


def test_an_unknown_task_suggests_the_nearest() -> None:
    with pytest.raises(PluginError, match="Did you mean 'rhythm'"):
        find_task("rythm")


def small_table() -> LabelTable:
    return LabelTable(
        "superdiag",
        ("A", "B"),
        np.array([1, 2, 3, 4]),
        np.array([7, 7, 8, 9]),
        np.array([1, 2, 9, 10]),
        np.array([[True, False], [True, True], [False, True], [True, False]]),
    )


def test_the_fingerprint_shows_every_edit() -> None:
    table = small_table()
    flipped = table.y_true.copy()
    flipped[2, 0] = True
    edits = [
        replace(table, labels=("A", "C")),
        replace(table, labels=("B", "A")),
        replace(table, ecg_id=np.array([1, 2, 3, 5])),
        replace(table, patient_id=np.array([7, 6, 8, 9])),
        replace(table, strat_fold=np.array([1, 9, 9, 10])),
        replace(table, strat_fold=np.array([1, 2, 10, 10])),
        replace(table, y_true=flipped),
        replace(table, y_true=table.y_true[:, ::-1]),
        table.select(np.array([True, True, True, False])),
    ]
    assert len({table.fingerprint, *(edit.fingerprint for edit in edits)}) == 1 + len(edits)


def test_the_fingerprint_ignores_the_order_of_records_and_folds_within_training() -> None:
    table = small_table()
    order = np.array([2, 0, 3, 1])
    shuffled = LabelTable(
        *(table.task, table.labels),
        *(table.ecg_id[order], table.patient_id[order], table.strat_fold[order], table.y_true[order]),
    )
    assert shuffled.fingerprint == table.fingerprint
    assert replace(table, strat_fold=np.array([5, 8, 9, 10])).fingerprint == table.fingerprint


@pytest.mark.ptbxl
@pytest.mark.parametrize("task", COUNTS)
def test_the_counts_of_the_protocol(ptbxl: Path, task: str) -> None:
    table = assert_obvious(ptbxl, task)
    test = table.strat_fold == 10
    found = (
        *(len(table.labels), len(table), int((table.strat_fold <= 8).sum()), int((table.strat_fold == 9).sum())),
        *(int(test.sum()), len(np.unique(table.patient_id[test]))),
    )
    assert found == COUNTS[task]


@pytest.mark.ptbxl
def test_nondiag_is_all_minus_diag(ptbxl: Path) -> None:
    records = load_records(ptbxl)
    labels = {name: set(label_table(records, find_task(name)).labels) for name in ("all", "diag", "nondiag")}
    assert labels["nondiag"] == labels["all"] - labels["diag"]
    assert len(labels["nondiag"]) == 27
    assert assert_obvious(ptbxl, "nondiag").fingerprint == label_table(records, find_task("nondiag")).fingerprint
