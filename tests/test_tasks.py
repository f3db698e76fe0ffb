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
from hypothesis import HealthCheck, settings
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer

from bench import plugin
from bench.data.datasets.ptbxl import load_records
from bench.data.records import Records
from bench.data.splits import split
from bench.data.tasks import LabelTable, find_task, label_table
from bench.errors import DataError, PluginError
from bench.registry import registry

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
    return replace(load_records(demo_set), table=table)


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


def test_a_class_of_a_statement_that_is_not_diagnostic_is_no_label(demo_set: Path) -> None:
    """PTB-XL gives classes to diagnostic statements only; another table may not."""
    records = records_of({1: {"NORM": 100.0, "IMI": 100.0}}, demo_set)
    statements = records.statements.copy()
    statements.loc["IMI", "diagnostic"] = np.nan

    assert label_table(records, find_task("superdiag")).labels == ("MI", "NORM")
    assert label_table(replace(records, statements=statements), find_task("superdiag")).labels == ("NORM",)


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


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test registers is forgotten after it."""
    monkeypatch.setattr(registry._REGISTRY, "plugins", dict(registry._REGISTRY.plugins))


CODES: dict[int, dict[str, float]] = {
    1: {"NORM": 80.0, "SR": 0.0},
    2: {"IMI": 15.0, "AFIB": 0.0},
    3: {"IMI": 50.0, "ASMI": 35.0, "SR": 0.0},
    4: {"ISC_": 100.0, "AFLT": 0.0},
    5: {},
}
CLASS = lambda code, statement: [statement["diagnostic_class"]] if statement["diagnostic"] == 1 else []


@pytest.mark.usefixtures("registered")
def test_a_plugin_adds_a_likelihood_threshold(demo_set: Path) -> None:
    plugin.register_task(plugin.Task("superdiag50", "classes that are at least 50 % likely", CLASS, min_likelihood=50))
    table = label_table(records_of(CODES, demo_set), find_task("superdiag50"))
    assert table.ecg_id.tolist() == [1, 3, 4]  # record 2 has no statement left
    assert table.labels == ("MI", "NORM", "STTC")
    assert table.y_true.tolist() == [[False, True, False], [True, False, False], [False, False, True]]
    assert label_table(records_of(CODES, demo_set), find_task("superdiag")).ecg_id.tolist() == [1, 2, 3, 4]


@pytest.mark.usefixtures("registered")
def test_a_plugin_asks_for_one_label_yes_or_no(demo_set: Path) -> None:
    af = lambda code, statement: ["AF"] if code in ("AFIB", "AFLT") else []
    plugin.register_task(plugin.Task("af", "atrial fibrillation or flutter", af, keeps_unlabeled=True))
    table = label_table(records_of(CODES, demo_set), find_task("af"))
    assert table.labels == ("AF",)
    assert table.ecg_id.tolist() == [1, 2, 3, 4, 5]
    assert table.y_true[:, 0].tolist() == [False, True, False, True, False]
    real = label_table(load_records(demo_set), find_task("af"))
    parts = split(real, 0.3)
    assert len(real) == 240
    assert 0 < parts.train.y_true.mean() < 0.5  # negatives are drawn too
    dropped = label_table(load_records(demo_set), replace(find_task("af"), keeps_unlabeled=False))
    assert dropped.y_true.all() and dropped.fingerprint != real.fingerprint


@pytest.mark.usefixtures("registered")
def test_a_plugin_brings_a_mapping_of_its_own(demo_set: Path) -> None:
    mapping = {"NORM": ["healthy"], "IMI": ["infarct", "inferior"], "ASMI": ["infarct"]}
    plugin.register_task(plugin.Task("mine", "my classes", lambda code, statement: mapping.get(code, [])))
    table = label_table(records_of(CODES, demo_set), find_task("mine"))
    assert table.labels == ("healthy", "infarct", "inferior")
    assert table.ecg_id.tolist() == [1, 2, 3]
    assert table.y_true.astype(int).tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 1]]


@pytest.mark.parametrize("given", ["AF", None, [1], [float("nan")], [""], {"AF": 1}])
def test_a_task_that_gives_no_list_of_labels_is_named(demo_set: Path, given: object) -> None:
    task = plugin.Task("odd", "not labels", lambda code, statement: given)  # type: ignore[arg-type, return-value]
    with pytest.raises(
        PluginError, match=r"task 'odd': labels_of\('NDT', \.\.\.\) returned .* expected a list of labels"
    ):
        label_table(records_of(CODES, demo_set), task)


LIKELIHOODS = st.dictionaries(st.sampled_from(["NORM", "IMI", "ASMI", "NDT", "PVC", "AFIB", "SR"]), st.floats(0, 100))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@hypothesis_given(
    st.lists(LIKELIHOODS, min_size=1, max_size=12), st.sampled_from(TASKS), st.floats(0, 100), st.booleans()
)
def test_the_label_rule(
    demo_set: Path, codes: list[dict[str, float]], name: str, threshold: float, keeps: bool
) -> None:
    """Each record's labels are those of its own statements, and a higher threshold only takes labels away."""
    records = records_of(dict(enumerate(codes, start=1)), demo_set)
    base = find_task(name)
    task = replace(base, min_likelihood=threshold, keeps_unlabeled=keeps)
    try:
        table = label_table(records, task)
    except DataError:
        assert not any(
            p >= threshold and base.labels_of(c, records.statements.loc[c]) for r in codes for c, p in r.items()
        )
        return
    assert list(table.labels) == sorted(set(table.labels)) and table.y_true.any(axis=0).all()
    assert keeps or table.y_true.any(axis=1).all()
    assert len(table) == len(codes) or not keeps
    for ecg_id, row in zip(table.ecg_id.tolist(), table.y_true, strict=True):
        mine = {
            label
            for code, likelihood in codes[ecg_id - 1].items()
            if likelihood >= threshold
            for label in base.labels_of(code, records.statements.loc[code])
        }
        assert {label for label, has in zip(table.labels, row, strict=True) if has} == mine
    loose = label_table(records, replace(base, keeps_unlabeled=True))
    rows = np.searchsorted(loose.ecg_id, table.ecg_id)
    columns = [loose.labels.index(label) for label in table.labels]
    assert not (table.y_true & ~loose.y_true[np.ix_(rows, columns)]).any()


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
