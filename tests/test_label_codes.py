"""The table of equal codes names codes that there are, each with a source."""

import csv
from pathlib import Path

import pytest

from bench.data.datasets.cpsc2018 import LABELS
from bench.data.label_codes import label_codes, ptbxl_code
from bench.demo.dataset import write_demo


def test_each_row_has_a_source_and_a_kind_of_match() -> None:
    sources = {"dx_mapping_scored", "dx_mapping_unscored", "scp_statements", "cpsc2018"}
    assert len(label_codes()) > 40
    for row in label_codes():
        assert row.ptbxl and row.match in ("exact", "near") and row.source in sources
        assert row.snomed == "" or row.snomed.isdecimal()
    keys = [(row.ptbxl, row.snomed, row.names) for row in label_codes()]
    assert len(set(keys)) == len(keys)


def test_snomed_codes_and_names_mean_one_thing() -> None:
    codes = [row.snomed for row in label_codes() if row.snomed]
    names = [name for row in label_codes() for name in row.names if name]
    assert len(set(codes)) == len(codes)
    assert len(set(names)) == len(names)


def test_the_nine_of_cpsc2018_are_there() -> None:
    """With the SNOMED CT codes by which they are read."""
    nine = {row.cpsc2018: row.snomed for row in label_codes() if row.cpsc2018}
    assert set(nine) == {label for label, _ in LABELS.values()}
    assert {label: code for code, (label, _) in LABELS.items() if label != "Normal"} == {
        label: code for label, code in nine.items() if label != "Normal"
    }


def test_the_codes_of_ptb_xl_are_those_of_its_statements(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo", 100, seed=0, rates=(100,))
    with (tmp_path / "demo/scp_statements.csv").open() as file:
        known = {row[0] for row in csv.reader(file)}
    assert {row.ptbxl for row in label_codes()} <= known


@pytest.mark.parametrize(
    ("label", "code", "match"),
    [
        ("Sinus rhythm", "SR", "exact"),
        ("Iii degree av-block", "3AVB", "exact"),
        ("164889003", "AFIB", "exact"),
        ("LVH", "LVH", "exact"),
        ("59118001", "CRBBB", "near"),
        ("Left atrial hypertrophy", "LAO/LAE", "near"),
    ],
)
def test_labels_are_recognised(label: str, code: str, match: str) -> None:
    row = ptbxl_code(label)
    assert row is not None and (row.ptbxl, row.match) == (code, match)


@pytest.mark.parametrize("label", ["", "-", "sinus", "bundle branch block", "426783006000"])
def test_what_is_not_known_is_not_guessed(label: str) -> None:
    assert ptbxl_code(label) is None
