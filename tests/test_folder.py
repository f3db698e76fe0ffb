"""A plain folder is read as it is written: ids, patients, folds, labels. Each mistake gets a line with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data.datasets import find_task_name, load_records
from bench.data.datasets.folder import dealt_folds
from bench.data.tasks import find_task, label_table, tasks_of
from bench.errors import DataError, PluginError

ABOUT = 'name = "mine"\nlicence = "CC0"\nsource = "here"\nrate = 100\n'
LABELS = "code,description,ptbxl,group\nAF,atrial fibrillation,AFIB,rhythm\nSR,sinus rhythm,SR,rhythm\nLVH,,LVH,\n"
CODES = ("AF", "SR", "SR;LVH", "")
NUM = 40


def rows_of(num: int = NUM) -> list[str]:
    """Records r00 to r39 of patients p00 to p19, two of each."""
    return [f"r{at:02},p{at // 2:02},{CODES[at // 2 % 4]},{20 + at},{'MF'[at % 2]}" for at in range(num)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plain folder without signals."""
    (tmp_path / "dataset.toml").write_text(ABOUT)
    (tmp_path / "labels.csv").write_text(LABELS)
    (tmp_path / "records.csv").write_text("\n".join(["record,patient,labels,age,sex", *rows_of()]))
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_records(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_folder_is_read_as_it_is_written(folder: Path) -> None:
    records = load_records(folder)

    assert len(records) == NUM
    assert records.dataset == "mine" and (records.licence, records.source) == ("CC0", "here")
    assert records.name == f"mine-{records.content[:8]}"
    assert records.ecg_id.tolist() == list(range(1, NUM + 1))  # places of the texts r00, r01, ...
    assert records.patient_id.tolist() == [at // 2 + 1 for at in range(NUM)]
    assert records.scp_codes[4] == {"SR": 100.0, "LVH": 100.0} and records.scp_codes[6] == {}
    assert records.table["age"].tolist() == [20.0 + at for at in range(NUM)]
    assert records.table["sex"].tolist() == [0.0, 1.0] * 20
    assert records.names(100)[3] == "r03" and records.paths(100)[3] == folder / "r03"
    assert records.seconds == 10


def test_ids_that_are_numbers_are_kept(folder: Path) -> None:
    text = (folder / "records.csv").read_text().replace("r0", "r").replace(",p0", ",p")
    (folder / "records.csv").write_text(text.replace("\nr", "\n").replace(",p", ",").replace(",atient", ",patient"))

    assert load_records(folder).ecg_id.tolist() == list(range(NUM))
    replace(folder / "records.csv", "\n7,", "\n07,")  # one that is no plain number: all count by their places
    assert load_records(folder).ecg_id.tolist() == list(range(1, NUM + 1))


def test_the_tasks_are_all_one_a_group_and_single_labels(folder: Path) -> None:
    records = load_records(folder)

    assert [task.name for task in tasks_of(records)] == ["all", "rhythm"]
    assert label_table(records, find_task("all", records)).labels == ("AF", "LVH", "SR")
    rhythm = label_table(records, find_task("rhythm", records))
    assert rhythm.labels == ("AF", "SR")
    assert len(rhythm) == NUM  # records without a label are negatives
    single = label_table(records, find_task("LVH", records))
    assert single.labels == ("LVH",) and single.y_true[:, 0].sum() == 10
    with pytest.raises(PluginError, match=r"Of mine: all, rhythm, AF, SR, LVH\. Did you mean 'rhythm'"):
        find_task("rhytm", records)


def test_a_cell_has_the_names_of_the_tasks_in_its_folder(folder: Path, demo_set: Path) -> None:
    assert find_task_name("superdiagnostic", demo_set) == "superdiag"
    assert find_task_name("LVH", folder) == "LVH"
    with pytest.raises(PluginError, match="unknown task 'LVH'"):
        find_task_name("LVH", demo_set)


def test_folds_are_dealt_by_patient_evenly_and_whatever_the_order(folder: Path) -> None:
    first = load_records(folder)
    (folder / "records.csv").write_text("\n".join(["record,patient,labels,age,sex", *rows_of()[::-1]]))
    again = load_records(folder)

    assert again.content == first.content
    assert np.bincount(first.strat_fold).tolist() == [0] + [4] * 10
    assert all(len(set(folds)) == 1 for _, folds in first.table.groupby("patient_id")["strat_fold"])


def test_a_label_of_two_patients_is_in_the_test() -> None:
    """Of the parts, that with the most labels is fold 10 and the next is fold 9."""
    patients = [f"p{at}" for at in range(40)]
    codes = [("SR",)] * 40
    codes[7], codes[30] = ("SR", "RARE"), ("SR", "RARE")
    folds = dealt_folds(patients, codes)

    assert sorted(folds[[7, 30]]) == [9, 10]


def test_given_folds_are_kept(folder: Path) -> None:
    rows = [f"{row},{at // 2 % 10 + 1}" for at, row in enumerate(rows_of())]
    (folder / "records.csv").write_text("\n".join(["record,patient,labels,age,sex,fold", *rows]))

    assert load_records(folder).strat_fold.tolist() == [at // 2 % 10 + 1 for at in range(NUM)]


def test_the_name_is_the_users_as_long_as_the_content_is_the_same(folder: Path) -> None:
    content = load_records(folder).content[:8]
    with (folder / "dataset.toml").open("a") as file:
        file.write(f'content = "{content}"\n')
    assert load_records(folder).name == "mine"
    with (folder / "dataset.toml").open("a") as file:
        file.write('version = "2.1"\n')
    assert load_records(folder).name == "mine-2.1"

    replace(folder / "records.csv", "r03,p01,SR,", "r03,p01,AF,")
    edited = load_records(folder)
    assert edited.content[:8] != content and edited.name == f"mine-{edited.content[:8]}"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_does_no_harm(folder: Path, encoding: str) -> None:
    content = load_records(folder).content
    for name in ("records.csv", "labels.csv", "dataset.toml"):
        (folder / name).write_text((folder / name).read_text(), encoding=encoding)

    assert load_records(folder).content == content


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("records.csv", "r05,p02", "r04,p02", ["records.csv, row 7, column record", "'r04' is in row 6 too"]),
        ("records.csv", "r05,p02", ",p02", ["row 7, column record is empty"]),
        ("records.csv", "r05,p02", "r05,", ["row 7, column patient is empty", "id of its own"]),
        ("records.csv", "r05,p02", "r05,1.2E+10", ["row 7, column patient is '1.2E+10'", "spreadsheet"]),
        ("records.csv", "r05,p02", "3-Mar,p02", ["row 7, column record is '3-Mar'", "spreadsheet"]),
        ("records.csv", "r05,p02,SR;LVH", "r05,p02,SR;LHV", ["row 7, column labels", "'LHV'", "did you mean 'LVH'"]),
        ("records.csv", "r05,p02,SR;LVH,25", "r05,p02,SR;LVH,old", ["row 7, column age is 'old'", ">89"]),
        ("records.csv", "r05,p02,SR;LVH,25", "r05,p02,SR;LVH,250", ["row 7, column age is '250'"]),
        ("records.csv", "25,F", "25,1", ["row 7, column sex is '1'", "expected male, female"]),
        ("records.csv", "25,F", "25,F,more", ["row 7 has 6 cells and row 1 has 5"]),
        ("records.csv", "labels,age", "labels,ages", ["has a column 'ages' and no column 'age'; rename it"]),
        ("records.csv", "record,patient", "record,Patient", ["has a column 'Patient' and no column 'patient'"]),
        ("labels.csv", "SR,sinus", "af,sinus", ["row 3, column code is 'af', and 'AF' differs in case alone"]),
        ("records.csv", "record,patient", "id,patient", ["records.csv has no column 'record'", "it has id, patient"]),
        ("records.csv", "labels,age", "age,age", ["row 1: column 'age' must have a name that no other column has"]),
        ("records.csv", "r05,p02", '"r05,p02', ["records.csv is not a readable CSV file"]),
        ("labels.csv", "SR,sinus", "AF,sinus", ["labels.csv, row 3, column code: 'AF' is in row 2 too"]),
        ("labels.csv", "SR,sinus", "S;R,sinus", ["labels.csv, row 3, column code is 'S;R'"]),
        ("labels.csv", "code,", "name,", ["labels.csv has no column 'code'"]),
        ("dataset.toml", "rate = 100", "rate = 99.5", ["must give rate", "whole number", "99.5"]),
        ("dataset.toml", "rate = 100\n", "", ["must give rate"]),
        ("dataset.toml", 'licence = "CC0"\n', "", ["must give licence", "`unknown`"]),
        ("dataset.toml", '"mine"', '"My Set"', ["name is 'My Set'", "lower case"]),
        ("dataset.toml", '"mine"', '"ptb-xl"', ["name is 'ptb-xl'", "begin with ptb-xl are of that data set"]),
        ("dataset.toml", '"mine"', '"synthetic-2"', ["names that begin with synthetic are of that data set"]),
        ("dataset.toml", "rate = 100", "rate = 100\nhz = 3", ["unknown key 'hz'"]),
        ("dataset.toml", "rate = 100", "rate = ", ["is not TOML"]),
        ("dataset.toml", "rate = 100", "rate = 100\nseconds = 0", ["seconds", "expected 0.1 to 3600"]),
        ("dataset.toml", "rate = 100", 'rate = 100\n[signals]\nformat = "mat"', ["format is 'mat'", "wfdb, npy, hdf5"]),
        ("dataset.toml", "rate = 100", 'rate = 100\n[signals]\nformat = "npy"', ["does not state the leads"]),
        (
            "dataset.toml",
            "rate = 100",
            'rate = 100\n[signals]\nformat = "npy"\nleads = ["I"]',
            ["does not state the unit"],
        ),
        (
            "dataset.toml",
            "rate = 100",
            'rate = 100\n[signals]\nformat = "npy"\nleads = ["I"]\nunit = "counts"',
            ["'counts', expected mV, uV"],
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(folder: Path, file: str, old: str, new: str, words: list[str]) -> None:
    replace(folder / file, old, new)
    message = refusal(folder)

    assert str(folder / file) in message
    assert all(word in message for word in words), message


def fold_rows(fold_of: Callable[[int], str]) -> str:
    rows = [f"{row},{fold_of(at)}" for at, row in enumerate(rows_of())]
    return "\n".join(["record,patient,labels,age,sex,fold", *rows])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (fold_rows(lambda at: str(at % 10 + 1)), ["patient p04 has records in folds 9, 10", "the test would leak"]),
        (fold_rows(lambda at: "" if at == 3 else "1"), ["row 5, column fold is ''", "nothing in all rows"]),
        (fold_rows(lambda at: "0"), ["row 2, column fold is '0', expected 1 to 10"]),
        (fold_rows(lambda at: str(at // 2 % 9 + 1)), ["no record in fold 10, which tests"]),
        ("\n".join(["record,patient,labels,age,sex", *rows_of(4)]), ["has 2 patients and no record in fold"]),
        (
            "record,patient,labels\n" + "\n".join(f"{n},{n},SR" for n in range(20)),
            ["every record the same labels (SR)"],
        ),
        ("record,patient,labels\n" + "\n".join(f"{n},{n}," for n in range(20)), ["gives no record a label"]),
        ("record;patient;labels\n1;1;AF", ["semicolons between its columns", "expected commas"]),
        ("", ["is empty"]),
        ("record,patient,labels\n", ["no rows below the names"]),
        (
            "record,patient,file,labels\n" + "\n".join(f"{n},{n},r{n % 19},{('SR', 'AF')[n % 2]}" for n in range(20)),
            ["row 21, column file names the signals of row 2 again"],
        ),
        ("record,patient,file,labels\n1,1,../x,AF\n", ["row 2, column file is '../x'"]),
    ],
)
def test_a_table_that_cannot_be_used_is_named(folder: Path, text: str, words: list[str]) -> None:
    (folder / "records.csv").write_text(text)
    message = refusal(folder)

    assert str(folder / "records.csv") in message
    assert all(word in message for word in words), message


def test_a_missing_table_is_named(folder: Path) -> None:
    (folder / "labels.csv").unlink()
    assert refusal(folder) == f"{folder / 'labels.csv'} is missing"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    assert "is no data set known here (cpsc2018, ptb-xl" in refusal(tmp_path)
