"""A table and signals become a plain folder: what is assumed is reported, what cannot be known is asked for."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import wfdb

from bench.data.contract import check_dataset
from bench.data.datasets import load_records
from bench.data.formats import read_signals
from bench.data.importing import Choices, import_table
from bench.data.records import Records
from bench.data.waveforms import LEADS
from bench.errors import DataError

NUM, RATE = 30, 100
ALL_LEADS = ",".join(LEADS)
HEAD = "ID,Patient,Age,Gender,Rhythm,LVH\n"
RHYTHMS = ("Sinus rhythm", "Atrial fibrillation", '"Sinus rhythm\nFirst degree AV-block"', "")


def table_text(num: int = NUM) -> str:
    rows = [
        f"e{at:02},p{at // 2:02},{40 + at},{'MF'[at % 2]},{RHYTHMS[at // 2 % 4]},{at // 2 % 3 // 2}"
        for at in range(num)
    ]
    return HEAD + "\n".join(rows)


def signals_of(row: int) -> np.ndarray:
    """[lead, time] in mV"""
    return np.sin(np.arange(10 * RATE) / RATE * (row + 3))[None] * np.arange(1, 13)[:, None] / 10


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same thirty records as WFDB, as a .npy file each, and in one array; and their table."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "wfdb" / "sub").mkdir(parents=True)
    (folder / "npy").mkdir()
    (folder / "table.csv").write_text(table_text())
    for row in range(NUM):
        wfdb.wrsamp(
            f"e{row:02}",
            fs=RATE,
            units=["mV"] * 12,
            sig_name=[lead.lower() for lead in LEADS],
            p_signal=signals_of(row).T,
            fmt=["16"] * 12,
            write_dir=str(folder / "wfdb" / ("sub" if row % 2 else "")),
        )
        np.save(folder / "npy" / f"e{row:02}.npy", signals_of(row).astype(np.float32))
    array = np.stack([signals_of(row).T * 1000 for row in range(NUM)]).astype(np.float32)
    np.save(folder / "all.npy", array)
    scipy.io.savemat(folder / "all.mat", {"ecgs": array, "fs": RATE}, do_compression=True)
    with h5py.File(folder / "all73.mat", "w", userblock_size=512) as file:
        file.create_dataset("ecgs", data=array.T).attrs["MATLAB_class"] = np.bytes_("single")
    with (folder / "all73.mat").open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file")
    return folder


def choices(made: Path, form: str, **changes: object) -> Choices:
    unit = "uV" if form.startswith("all") else "mV"
    stated = {} if form == "wfdb" else {"rate": RATE, "unit": unit, "leads": ALL_LEADS}
    given = {"name": "mine", "patient": "Patient", "labels": "Rhythm,LVH", "records": made / form, **stated}
    return Choices(**{**given, **changes})  # type: ignore[arg-type]


def refusal(import_it: Callable[[], Records]) -> str:
    with pytest.raises(DataError) as caught:
        import_it()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("records", ["wfdb", "npy", "all.npy", "all.mat", "all73.mat"])
def test_each_form_gives_the_same_data_set(made: Path, tmp_path: Path, records: str) -> None:
    lines: list[str] = []
    import_table(made / "table.csv", tmp_path / "mine", choices(made, records), lines.append)
    got = load_records(tmp_path / "mine")

    assert got.name == "mine" and len(got) == NUM
    assert got.table["record"].tolist() == [f"e{row:02}" for row in range(NUM)]
    assert got.table["patient_id"].tolist() == [row // 2 + 1 for row in range(NUM)]
    assert got.table["age"].tolist() == [40 + row for row in range(NUM)] and got.table["sex"].tolist() == [0, 1] * 15
    assert got.statements.loc["sinus-rhythm"].tolist() == ["Sinus rhythm", "SR", "rhythm"]
    assert got.statements.loc["first-degree-av-block", "ptbxl"] == "1AVB"
    assert got.statements.loc["LVH"].tolist() == ["LVH", "LVH", ""]
    assert set(got.scp_codes[4]) == {"sinus-rhythm", "first-degree-av-block", "LVH"} and set(got.scp_codes[6]) == set()
    for row in (0, 17, NUM - 1):
        signals, rate = read_signals(got.signal_files(RATE)[row])
        assert rate == RATE and np.allclose(signals, signals_of(row), atol=2e-3)
    assert not [finding for finding in check_dataset(tmp_path / "mine") if finding.fault]
    said = "\n".join(lines)
    assert "records are named by the first column, ID (--record)" in said
    assert "age is column Age (--age)" in said and "sex is column Gender (--sex)" in said
    assert "licence is unknown" in said and "folds are dealt by patient" in said
    assert "10 s at 100 Hz" in said


def test_a_matlab_file_is_copied_and_what_it_does_not_state_is_asked_for(made: Path, tmp_path: Path) -> None:
    table, out, lines = made / "table.csv", tmp_path / "mine", list[str]()
    asked = refusal(lambda: import_table(table, out, choices(made, "all.mat", unit="")))
    assert asked.startswith("a .mat file does not state the unit of its values")
    assert "has no array 'x' of numbers" in refusal(
        lambda: import_table(table, out, choices(made, "all.mat", array="x"))
    )
    (tmp_path / "fewer.csv").write_text(table_text(NUM - 10))
    fewer = refusal(lambda: import_table(tmp_path / "fewer.csv", out, choices(made, "all.mat")))
    assert "expected 20 records on its first axis" in fewer
    assert not out.exists() and not list(tmp_path.glob(".*"))
    import_table(table, out, choices(made, "all.mat"), lines.append)
    assert any("array ecgs of all.mat is copied to signals.npy" in line for line in lines)
    shutil.move(out, tmp_path / "elsewhere")  # it holds its signals, so it can be moved alone
    records = load_records(tmp_path / "elsewhere")
    assert np.allclose(read_signals(records.signal_files(RATE)[3])[0], signals_of(3), atol=1e-5)
    assert sorted(path.name for path in records.folder.iterdir()) == [
        *("dataset.toml", "labels.csv", "records.csv", "signals.npy")
    ]


def test_the_three_files_are_what_a_person_would_write(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "wfdb", tmp_path / "signals")
    facts = {"records": tmp_path / "signals", "licence": "CC0", "source": "https://x.org/ö", "version": "1.2"}
    records = import_table(made / "table.csv", tmp_path / "mine", choices(made, "wfdb", **facts))
    about = (tmp_path / "mine/dataset.toml").read_text(encoding="utf-8")

    assert records.name == "mine-1.2"
    assert 'folder = "../signals"' in about and "rate = 100 " in about and 'source = "https://x.org/ö"' in about
    head, first, second = (tmp_path / "mine/records.csv").read_text().splitlines()[:3]
    assert head == "record,patient,age,sex,labels,file"
    assert first == "e00,p00,40,M,sinus-rhythm,e00" and second == "e01,p00,41,F,sinus-rhythm,sub/e01"
    shutil.move(tmp_path / "mine", tmp_path / "other")  # signals beside the folder are found by a relative path
    shutil.move(tmp_path / "other", tmp_path / "mine")
    assert load_records(tmp_path / "mine").paths(RATE)[1].with_suffix(".hea").is_file()


def test_columns_of_0_and_1_are_taken_and_named(made: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    records = import_table(made / "table.csv", tmp_path / "mine", choices(made, "wfdb", labels=""), lines.append)
    assert "labels are the columns of 0 and 1: LVH (--labels)" in lines
    assert records.statements.index.tolist() == ["LVH"]
    assert [bool(codes) for codes in records.scp_codes] == [row // 2 % 3 == 2 for row in range(NUM)]


@pytest.mark.parametrize(
    ("cells", "separator", "labels"),
    [
        (("AFIB,LVH", "SR"), ",", {"AFIB", "LVH", "SR"}),
        (("AFIB; LVH", "SR|AFIB"), "", {"AFIB", "LVH", "SR"}),
        (("['AFIB', 'LVH']", "['SR']"), "", {"AFIB", "LVH", "SR"}),
        (("{'AFIB': 100.0, 'LVH': 0.0}", "{}"), "", {"AFIB", "LVH"}),
        (("Atrial flutter, typical", "Sinus rhythm"), "", {"atrial-flutter-typical", "sinus-rhythm"}),
        (("164889003", "426783006"), "", {"164889003", "426783006"}),
        (("('AFIB',)", "('AFIB', 'LVH')", "()"), "", {"AFIB", "LVH"}),
        (("(old) infarct", "(LVH)"), "", {"old-infarct", "(LVH)"}),
        (("+AFIB", "-1AVB"), "", {"AFIB", "1AVB"}),
    ],
)
def test_lists_of_labels(made: Path, tmp_path: Path, cells: tuple[str, ...], separator: str, labels: set[str]) -> None:
    rows = [f'e{row:02},p{row},"{cells[row % len(cells)]}"' for row in range(NUM)]
    (tmp_path / "t.csv").write_text("\n".join(["ID,Patient,Dx", *rows]))
    given = choices(made, "wfdb", labels="Dx", separator=separator)

    assert set(import_table(tmp_path / "t.csv", tmp_path / "mine", given).statements.index) == labels


def dx(tmp_path: Path, *columns: tuple[str, ...]) -> Path:
    """A table with columns A, B, ... of these cells, which are repeated."""
    rows = [",".join(f'"{cells[row % len(cells)]}"' for cells in columns) for row in range(NUM)]
    path = tmp_path / "t.csv"
    head = ",".join("ABC"[: len(columns)])
    path.write_text("\n".join([f"ID,Patient,{head}", *(f"e{at:02},p{at},{row}" for at, row in enumerate(rows))]))
    return path


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (("T wave +", "T wave -"), "row 3, column A: labels 'T wave +' and 'T wave -' both become the code t-wave"),
        (("ST elevation?", "ST elevation"), "both become the code st-elevation; rename one of them in the table"),
        (("['AFIB' 'LVH']", "['SR']"), "row 2, column A is \"['AFIB' 'LVH']\", without commas between its labels"),
        (("1", "0", "-1"), "row 4, column A is '-1' in a column of 0 and 1; remove the records whose label"),
        (
            ("AFIB", "nan"),
            "row 3, column A holds 'nan', which is no label; leave the cell empty where a record has none",
        ),
        (("AFIB", "['LVH', 'Unknown']"), "row 3, column A holds 'Unknown', which is no label"),
        (("+AFIB", "-AFIB"), "labels '+AFIB' and '-AFIB' both become the code AFIB"),
        (("1", "0", "", "nan"), "row 5, column A is 'nan' in a column of 0 and 1"),
        (("1", *"0" * 8, "2"), "row 11, column A is '2' in a column of 0 and 1; correct it"),
        (("2", "3", "1"), "row 4, column A holds '1', which names no label beside others; write names"),
        (
            ("", "0", "1"),
            "t.csv: column A is empty in 10 of 30 rows, the first row 2; leave these records out, or say --blank neg",
        ),
    ],
)
def test_cells_that_would_make_wrong_labels_are_named(
    made: Path, tmp_path: Path, cells: tuple[str, ...], words: str
) -> None:
    table = dx(tmp_path, cells)
    assert words in refusal(lambda: import_table(table, tmp_path / "mine", choices(made, "wfdb", labels="A")))
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("columns", "blank", "notes"),
    [
        ((("", "0", "1"), ("1", "0", "0")), "negative", []),
        ((("", "", "1"), ("1", "", "")), "", ["A, B: no cell is 0, so an empty cell is a negative"]),
        ((("0", "0", "1"), ("", "C", "B")), "", []),
    ],
)
def test_an_empty_cell_is_a_negative_where_the_user_or_the_table_says_so(
    made: Path, tmp_path: Path, columns: tuple[tuple[str, ...], ...], blank: Literal["", "negative"], notes: list[str]
) -> None:
    lines: list[str] = []
    given = choices(made, "wfdb", labels="A,B", blank=blank)
    records = import_table(dx(tmp_path, *columns), tmp_path / "mine", given, lines.append)

    assert [line for line in lines if "empty" in line] == notes
    assert ["A" in codes for codes in records.scp_codes] == [False, False, True] * 10


def test_one_column_of_positives_alone_does_not_speak_for_the_others(made: Path, tmp_path: Path) -> None:
    table = dx(tmp_path, ("", "1"), ("0", "1"))
    message = refusal(lambda: import_table(table, tmp_path / "mine", choices(made, "wfdb", labels="A,B")))
    assert "column A is empty in 15 of 30 rows, the first row 2" in message


def test_labels_that_differ_in_case_and_spaces_are_one(made: Path, tmp_path: Path) -> None:
    table = dx(tmp_path, ("Sinus rhythm", "sinus  Rhythm", "Sinus-Rhythm", "AFIB", "afib"))
    records = import_table(table, tmp_path / "mine", choices(made, "wfdb", labels="A"))
    assert records.statements.index.tolist() == ["AFIB", "sinus-rhythm"]


def test_a_column_that_looks_like_a_formula_gives_a_code_that_a_result_may_hold(made: Path, tmp_path: Path) -> None:
    (table := tmp_path / "t.csv").write_text(dx(tmp_path, ("1", "0")).read_text().replace("Patient,A", "Patient,+AF"))
    records = import_table(table, tmp_path / "mine", choices(made, "wfdb", labels="+AF"))

    assert list(records.statements.index) == ["AF"]


def test_a_label_of_two_columns_is_one_of_each(made: Path, tmp_path: Path) -> None:
    """Normal rhythm is not normal conduction."""
    lines: list[str] = []
    table = dx(tmp_path, ("Normal", "AFIB"), ("Normal", "Normal", "LBBB"))
    records = import_table(table, tmp_path / "mine", choices(made, "wfdb", labels="A,B"), lines.append)

    assert records.statements["group"].to_dict() == {"AFIB": "a", "LBBB": "b", "a-Normal": "a", "b-Normal": "b"}
    assert [set(codes) for codes in records.scp_codes[:3]] == [
        {"a-Normal", "b-Normal"},
        {"AFIB", "b-Normal"},
        {"a-Normal", "LBBB"},
    ]
    assert any(line.startswith("Normal stands in A and B") for line in lines)


def test_a_column_that_is_nearly_one_of_labels_gets_a_line(made: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    import_table(
        dx(tmp_path, ("0", "1"), ("0", "1", "2"), ("x", "y")),
        tmp_path / "mine",
        choices(made, "wfdb", labels=""),
        lines.append,
    )

    assert "labels are the columns of 0 and 1: A (--labels)" in lines
    assert [line for line in lines if "column B is '2', so this column holds no labels of 0 and 1" in line]
    assert not [line for line in lines if "column C" in line]


def test_a_table_as_a_spreadsheet_saves_it(made: Path, tmp_path: Path) -> None:
    text = table_text().replace(",", ";").replace("45;F", "45,0;F")
    (tmp_path / "t.csv").write_text(text, encoding="utf-8-sig")
    lines: list[str] = []
    records = import_table(tmp_path / "t.csv", tmp_path / "mine", choices(made, "wfdb"), lines.append)

    assert lines[0] == "columns of t.csv are separated by ';'"
    assert len(records) == NUM and records.table["age"].tolist()[5] == 45


def test_given_folds_in_numbers_and_words(made: Path, tmp_path: Path) -> None:
    for fold_of, expected in (
        (lambda patient: str(patient % 10 + 1), [patient % 10 + 1 for patient in range(15)]),
        (lambda patient: ("train", "val", "test")[patient % 3], [(1, 9, 10)[patient % 3] for patient in range(15)]),
    ):
        lines = table_text().replace("\nFirst", " First").splitlines()
        rows = [f"{line},{fold_of(int(line[5:7]))}" for line in lines[1:]]
        (tmp_path / "t.csv").write_text("\n".join([f"{lines[0]},fold", *rows]))
        records = import_table(tmp_path / "t.csv", tmp_path / f"mine{expected[1]}", choices(made, "wfdb"))
        assert records.strat_fold[::2].tolist() == expected


@pytest.mark.parametrize(
    ("records", "changes", "words"),
    [
        ("all.npy", {"rate": None}, ["does not state its sampling rate", "--rate"]),
        ("all.npy", {"unit": ""}, ["does not state the unit", "--unit"]),
        ("all.npy", {"leads": ""}, ["does not name its leads", "--leads I,II,III"]),
        ("all.npy", {"unit": "counts"}, ["--unit has signals in 'counts'"]),
        ("all.npy", {"leads": "I,II,V1,V2,V3,V4,V5,V6"}, ["1000 x 12 values a record and 8 leads are named"]),
        ("all.npy", {"leads": "1,2,3,4,5,6,7,8,9,10,11,12"}, ["--leads has no lead I, II"]),
        ("all.npy", {"unit": "mV"}, ["swings by up to", "microvolts called millivolts"]),
        ("all.npy", {"unit": "nV"}, ["no lead swings by more than"]),
        ("npy", {"rate": None}, ["--rate"]),
        ("wfdb", {"unit": "mV"}, ["--unit is stated, but wfdb files state it themselves"]),
        ("wfdb", {"rate": 500}, ["--rate 500 is stated", "say 100 Hz"]),
        ("wfdb", {"patient": "Pat"}, ["no column 'Pat'", "it has ID, Patient"]),
        ("wfdb", {"labels": "Rhythms"}, ["no column 'Rhythms'"]),
        ("wfdb", {"record": "Age"}, ["row 2, column Age", "has no 40.hea"]),
        ("wfdb", {"name": "My set"}, ["--name is 'My set'"]),
        ("wfdb", {"version": "1.0 beta"}, ["--version is '1.0 beta', expected up to 20 letters, digits and dots"]),
        ("wfdb", {"licence": "CC\nBY"}, ["--licence is 'CC\\nBY', expected a single line"]),
        ("all.npy", {"rate": 0}, ["--rate is 0, expected 1 to"]),
        ("wfdb", {"seconds": float("nan")}, ["--seconds is nan, expected 0.1 to 3,600"]),
        ("wfdb", {"seconds": 1e9}, ["--seconds is 1e+09, expected 0.1 to 3,600"]),
        ("nowhere", {}, ["nowhere is missing"]),
        ("table.csv", {}, ["table.csv holds .csv files, which are not read; convert them"]),
    ],
)
def test_what_cannot_be_known_or_is_wrong_is_named(
    made: Path, tmp_path: Path, records: str, changes: dict[str, object], words: list[str]
) -> None:
    message = refusal(lambda: import_table(made / "table.csv", tmp_path / "mine", choices(made, records, **changes)))

    assert all(word in message for word in words), message
    assert not list(tmp_path.iterdir())  # whole or not at all


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("e05,p02", "x05,p02", ["row 7, column ID", "has no x05.hea"]),
        ("e05,p02", "e04,p02", ["row 7, column ID: 'e04' is in row 6 too"]),
        ("e05,p02", "e05,", ["row 7, column Patient is empty"]),
        ("e03,p01,", "\n\ne03,,", ["row 7, column Patient is empty"]),
        ("e05,p02", "e05,1E+05", ["row 7, column Patient is '1E+05'", "spreadsheet"]),
        ("45,F", "forty,F", ["row 7, column Age is 'forty'"]),
        ("45,F", "45,X", ["row 7, column Gender is 'X'"]),
    ],
)
def test_a_mistake_in_the_table_is_named_by_its_own_columns(
    made: Path, tmp_path: Path, old: str, new: str, words: list[str]
) -> None:
    text = table_text()
    assert old in text
    (tmp_path / "t.csv").write_text(text.replace(old, new, 1))
    message = refusal(lambda: import_table(tmp_path / "t.csv", tmp_path / "mine", choices(made, "wfdb")))

    assert str(tmp_path / "t.csv") in message
    assert all(word in message for word in words), message


def test_zeros_that_a_spreadsheet_removed_are_missed(tmp_path: Path) -> None:
    (tmp_path / "npy").mkdir()
    for row in range(12):
        np.save(tmp_path / "npy" / f"{row + 1:05}.npy", signals_of(row))
    (tmp_path / "t.csv").write_text("ID,AF\n" + "\n".join(f"{row + 1},{row % 2}" for row in range(12)))
    given = Choices(
        name="mine", patient="ID", records=tmp_path / "npy", rate=RATE, unit="mV", leads=ALL_LEADS, labels="AF"
    )
    message = refusal(lambda: import_table(tmp_path / "t.csv", tmp_path / "mine", given))

    assert "has no 1.npy; has a spreadsheet removed the zeros of 00001?" in message and "lacks 11 others" in message


def test_headers_of_two_rates_are_named(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "wfdb", tmp_path / "wfdb")
    header = tmp_path / "wfdb/e08.hea"
    header.write_text(header.read_text().replace("12 100 ", "12 500 "))
    given = choices(made, "wfdb", records=tmp_path / "wfdb")
    message = refusal(lambda: import_table(made / "table.csv", tmp_path / "mine", given))

    assert "e08.hea says 500 Hz; a data set has one rate" in message


@pytest.mark.parametrize("ending", [".mat", ".xml", ".npz", ".scp"])
def test_files_that_are_not_read_get_a_converter(made: Path, tmp_path: Path, ending: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / f"e00{ending}").write_bytes(b"x")
    given = choices(made, "wfdb", records=tmp_path / "other")

    message = refusal(lambda: import_table(made / "table.csv", tmp_path / "mine", given))
    assert f"holds {ending} files, which are not read; convert them" in message


def test_more_rows_than_records_in_the_array_ask_for_the_places(made: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(table_text(NUM - 2))
    message = refusal(lambda: import_table(tmp_path / "t.csv", tmp_path / "mine", choices(made, "all.npy")))
    assert "all.npy holds 30 records" in message and "28 rows" in message and "--row" in message

    lines = table_text(NUM - 2).replace("\nFirst", " First").splitlines()
    rows = [f"{line},{NUM - 1 - at}" for at, line in enumerate(lines[1:])]
    (tmp_path / "t.csv").write_text("\n".join([f"{lines[0]},place", *rows]))
    for place, words in ((NUM, "is 30, and"), (3, "names the signals of row")):
        wrong = [*rows[:-1], f"{lines[-1]},{place}"]
        (tmp_path / "t.csv").write_text("\n".join([f"{lines[0]},place", *wrong]))
        message = refusal(
            lambda: import_table(tmp_path / "t.csv", tmp_path / "mine", choices(made, "all.npy", row="place"))
        )
        assert "row 29, column place" in message and words in message
    (tmp_path / "t.csv").write_text("\n".join([f"{lines[0]},place", *rows]))
    records = import_table(tmp_path / "t.csv", tmp_path / "mine", choices(made, "all.npy", row="place"))
    assert np.allclose(read_signals(records.signal_files(RATE)[0])[0], signals_of(NUM - 1), atol=1e-5)


def test_nothing_is_overwritten(made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    message = refusal(lambda: import_table(made / "table.csv", tmp_path / "mine", choices(made, "wfdb")))
    assert "exists already" in message and "--out" in message


README = Path(__file__).parent.parent / "bench/data/README.md"


def commands_of_the_readme() -> list[list[str]]:
    """The words of each command that takes LUDB to a board."""
    (section,) = re.findall(r"## Your own data\n.*?^```\n(.*?)^```", README.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [shlex.split(line, comments=True) for line in section.replace("\\\n", " ").splitlines()]


def write_like_ludb(folder: Path) -> None:
    """LUDB's columns and files, with 40 made-up records."""
    (folder / "data").mkdir(parents=True)
    rows = ["ID,Sex,Age,Rhythms,Conduction abnormalities,Hypertrophies"]
    for at in range(1, 41):
        lvh = ("Left ventricular hypertrophy", '"Left atrial hypertrophy\nLeft ventricular hypertrophy"', "")[at % 3]
        block = "I degree av block" * (at % 2)
        rows.append(f'{at},"{"MF"[at % 2]}\n","{20 + at}\n",Sinus rhythm,{block},{lvh}')
        wfdb.wrsamp(
            str(at),
            fs=500,
            units=["mV"] * 12,
            sig_name=[lead.lower() for lead in LEADS],
            p_signal=np.random.default_rng(at).normal(0, 0.3, (5000, 12)),
            fmt=["16"] * 12,
            write_dir=str(folder / "data"),
        )
    (folder / "ludb.csv").write_text("\n".join(rows))


@pytest.mark.slow
def test_the_commands_of_the_readme_lead_from_a_table_to_a_board(tmp_path: Path) -> None:
    """$BENCH_LUDB: the folder of the real one."""
    real = os.environ.get("BENCH_LUDB")
    if real:
        (tmp_path / "ludb").symlink_to(real)
    else:
        write_like_ludb(tmp_path / "ludb")
    words = commands_of_the_readme()
    assert len(words) == 8 and words[0][:3] == ["bench", "data", "import"]
    kept = {key: value for key, value in os.environ.items() if key != "BENCH_DATA"}
    for command in words:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    page = (tmp_path / "runs/leaderboards/ludb-1.0.1/hypertrophies.md").read_text()

    assert "licence: ODC-By-1.0, source: https://physionet.org/content/ludb/1.0.1/." in page
    assert "| lp(…) |" in page and "| ft(…) |" in page
    assert "Records without a label of the task are kept, as negatives" in page
    assert "ptb-xl" not in page.lower()
    assert (tmp_path / "ecg-1.svg").is_file()


def test_a_label_that_nobody_has_and_a_rate_that_makes_records_short_get_a_line(made: Path, tmp_path: Path) -> None:
    table = pd.read_csv(made / "table.csv", keep_default_na=False).assign(Nobody=0)
    table.to_csv(tmp_path / "table.csv", index=False)
    message = refusal(
        lambda: import_table(tmp_path / "table.csv", tmp_path / "a", choices(made, "npy", labels="Nobody"))
    )
    assert message.endswith("no record has label Nobody, its cells are 0; leave it out of --labels")
    lines: list[str] = []
    import_table(made / "table.csv", tmp_path / "b", choices(made, "npy", rate=500), lines.append)
    assert any(
        "1,000 samples a lead, 2 s at 500 Hz, less than the 10 s to which it is padded: is the rate right?" in line
        for line in lines
    )
