"""A data set's CSV files are read, or refused with the file, the column, the row and what to do."""

from pathlib import Path

import pandas as pd
import pytest

from bench.data.tables import read_csv, refuse_row_numbers, whole_numbers
from bench.errors import DataError

PATH = Path("ptbxl_database.csv")
COLUMNS = ("ecg_id", "patient_id")


def test_whole_numbers_are_integers_whatever_their_type() -> None:
    values = pd.Series(["1", 2.0, 3], name="patient_id", dtype=object)

    numbers = whole_numbers(values, pd.Series([7, 8, 9], name="ecg_id"), PATH)

    assert numbers.tolist() == [1, 2, 3]
    assert numbers.dtype == "int64"


@pytest.mark.parametrize("wrong", ["x", 1.5, None, float("inf"), 2.0**60])
def test_the_first_number_that_is_not_whole_is_named_with_its_row(wrong: object) -> None:
    values = pd.Series([1, wrong, "y"], name="patient_id", dtype=object)

    with pytest.raises(DataError, match=r"ptbxl_database.csv: patient_id of ecg_id 8 is .*, expected a whole number"):
        whole_numbers(values, pd.Series([7, 8, 9], name="ecg_id"), PATH)


def test_codes_that_count_the_rows_are_a_saved_index() -> None:
    refuse_row_numbers(pd.Series(["NORM", "MI"]), PATH)
    refuse_row_numbers(pd.Series(["1", "3"]), PATH)
    with pytest.raises(DataError, match=r"the first column counts the rows \(0, 1, ...\)"):
        refuse_row_numbers(pd.Series([0, 1, 2]), PATH)


def test_a_table_has_the_wanted_columns_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("patient_id,more,ecg_id\n5,x,1\n")

    assert read_csv(tmp_path / "t.csv", COLUMNS)["ecg_id"].tolist() == [1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("ecg_id\n1\n", "lacks column patient_id; it has ecg_id"),
        ("ecg_id,patient_id\n", "has no rows"),
        ("ecg_id;patient_id\n1;2\n", "has semicolons between its columns"),
        ("ecg_id\tpatient_id\n1\t2\n", "has tabs between its columns"),
        ("", "is not a readable CSV file"),
        ("<html>\n", "is a web page"),
    ],
)
def test_another_table_is_refused_with_what_to_do(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(content)

    with pytest.raises(DataError, match=f"^{tmp_path}/t.csv {words}"):
        read_csv(tmp_path / "t.csv", COLUMNS)


def test_other_encodings_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("ecg_id,patient_id\n1,2\n".encode("utf-16"))
    with pytest.raises(DataError, match="is in UTF-16"):
        read_csv(tmp_path / "t.csv", COLUMNS)
    with pytest.raises(DataError, match=r"none.csv is missing: a table of records"):
        read_csv(tmp_path / "none.csv", COLUMNS, "a table of records")
