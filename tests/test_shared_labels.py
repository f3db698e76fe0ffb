"""Which labels of a model another data set has: by its own column, by the table of codes, or by equal codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.data.records import Records
from bench.data.shared_labels import as_ptbxl, shared_labels, truth_of_shared

HOME = "ptb-xl-1.0.3"


def records_of(statements: dict[str, str | None], codes: list[str], dataset: str = "mine") -> Records:
    """A data set without signals: code -> the PTB-XL code in its own column (None: it has no such column)."""
    columns = {} if None in statements.values() else {"ptbxl": list(statements.values())}
    table = pd.DataFrame(
        {
            "patient_id": range(len(codes)),
            "strat_fold": 1,
            "scp_codes": [dict.fromkeys(text.split(), 100.0) for text in codes],
        },
        index=pd.RangeIndex(len(codes), name="ecg_id"),
    )
    return Records(Path(), table, pd.DataFrame(columns, index=list(statements)), {}, dataset=dataset)


def matches(labels: list[str], trained_on: str, records: Records) -> dict[str, tuple[tuple[str, ...], str]]:
    return {each.label: (each.codes, each.by) for each in shared_labels(labels, trained_on, records)}


def test_the_folders_own_column_counts() -> None:
    records = records_of(
        {"flutter": "AFLT", "fib": "AFIB", "fib-fast": "AFIB", "other": ""}, ["fib", "fib-fast", "other"]
    )

    assert matches(["AFIB", "AFLT", "SR"], HOME, records) == {
        "AFIB": (("fib", "fib-fast"), "labels.csv"),
        "AFLT": (("flutter",), "labels.csv"),
    }
    truth = truth_of_shared(shared_labels(["AFIB", "AFLT"], HOME, records), records)
    np.testing.assert_array_equal(truth, [[True, False], [True, False], [False, False]])


def test_a_column_that_leaves_a_code_empty_says_that_it_equals_none() -> None:
    records = records_of({"atrial flutter": "", "af": "AFIB"}, ["af", "atrial flutter"])

    assert list(matches(["AFIB", "AFLT"], HOME, records)) == ["AFIB"]


def test_without_a_column_the_table_of_codes_counts() -> None:
    snomed = records_of({"164889003": None, "59118001": None}, ["164889003", "59118001"])

    assert matches(["AFIB", "CRBBB"], HOME, snomed) == {"AFIB": (("164889003",), "label_codes.csv")}, "59118001 is near"
    cpsc = records_of({"AF": None, "I-AVB": None, "RBBB": None}, ["AF", "RBBB"], "cpsc2018")
    assert matches(["1AVB", "AFIB", "CRBBB"], HOME, cpsc) == {
        "1AVB": (("I-AVB",), "label_codes.csv"),
        "AFIB": (("AF",), "label_codes.csv"),
    }


def test_a_model_of_another_set_is_matched_too() -> None:
    records = records_of({"fib": "AFIB", "LBBB": "", "PVC": "PVC"}, ["fib", "PVC"])

    assert matches(["AF", "LBBB", "RBBB"], "cpsc2018-abc", records) == {
        "AF": (("fib",), "labels.csv"),
        "LBBB": (("LBBB",), "equal codes"),
    }


def test_the_same_text_with_another_meaning_is_no_match() -> None:
    records = records_of({"AF": "AFLT", "SR": "SR"}, ["AF", "SR"])

    assert list(matches(["AF"], "cpsc2018-abc", records)) == []


def test_names_of_data_sets_say_the_vocabulary() -> None:
    assert as_ptbxl("NDT", "ptb-xl-1.0.3") == "NDT"
    assert as_ptbxl("NDT", "synthetic-01234567") == "NDT"
    assert as_ptbxl("AF", "cpsc2018-abc") == "AFIB"
    assert as_ptbxl("Atrial_Fibrillation", "ptb-xlarge-1") == "AFIB"
    assert as_ptbxl("nothing known", "mine-1") == ""
