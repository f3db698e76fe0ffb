"""A PTB-XL folder is read whole and in order, known by its content, and refused in one line when it is damaged."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.data.datasets import load_records as load_any
from bench.data.datasets.ptbxl import STATEMENTS, TABLE, load_records
from bench.data.records import Records
from bench.errors import DataError


@pytest.fixture
def folder(demo_set: Path, tmp_path: Path) -> Path:
    """The two tables of the demo set, free to be edited."""
    for name in (TABLE, STATEMENTS):
        shutil.copy(demo_set / name, tmp_path / name)
    return tmp_path


def edit(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    """Change a table as text, in place or by what `change` returns."""
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    changed = change(rows)
    (rows if changed is None else changed).to_csv(path, index=False, lineterminator="\n")


def put(column: str, value: str, row: int = 7) -> Callable[[pd.DataFrame], None]:
    def change(rows: pd.DataFrame) -> None:
        rows.loc[row, column] = value

    return change


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_records(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_table_is_read_as_it_stands(demo_set: Path) -> None:
    records = load_records(demo_set)
    raw = pd.read_csv(demo_set / TABLE)
    assert len(records) == len(raw) == 240
    assert records.ecg_id.tolist() == raw["ecg_id"].tolist() == list(range(1, 241))
    assert records.patient_id.tolist() == raw["patient_id"].astype(int).tolist()
    assert records.strat_fold.tolist() == raw["strat_fold"].tolist()
    assert [str(dict(codes)) for codes in records.scp_codes] == raw["scp_codes"].tolist()
    assert records.paths(100)[4] == demo_set / "records100/00000/00005_lr"
    assert records.paths(500)[4] == demo_set / "records500/00000/00005_hr"
    assert records.statements.index[:2].tolist() == ["NDT", "NST_"]


def test_a_rate_that_ptbxl_has_not_is_refused(demo_set: Path) -> None:
    with pytest.raises(DataError, match=r"100 and 500 Hz, not at 250 Hz"):
        load_records(demo_set).paths(250)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        load_any(tmp_path / "nowhere")
    message = str(raised.value)
    assert str(tmp_path / "nowhere") in message
    assert "--data" in message and "bench data demo" in message


@pytest.mark.parametrize("name", [TABLE, STATEMENTS])
def test_a_missing_table_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert str(folder / name) in refusal(folder)


@pytest.mark.parametrize(
    ("name", "column"),
    [(TABLE, c) for c in ("ecg_id", "patient_id", "strat_fold", "scp_codes", "filename_lr", "filename_hr")]
    + [(STATEMENTS, c) for c in ("diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass")],
)
def test_a_missing_column_is_named(folder: Path, name: str, column: str) -> None:
    edit(folder / name, lambda rows: rows.drop(columns=column))
    message = refusal(folder)
    assert f"{folder / name} lacks column {column};" in message


@pytest.mark.parametrize("name", [TABLE, STATEMENTS])
def test_an_empty_table_is_named(folder: Path, name: str) -> None:
    edit(folder / name, lambda rows: rows.iloc[:0])
    assert refusal(folder) == f"{folder / name} has no rows"
    (folder / name).write_text("")
    assert str(folder / name) in refusal(folder)


def test_a_table_that_is_no_text_is_named(folder: Path) -> None:
    (folder / TABLE).write_bytes(b"ecg_id,patient_id\n\xff\xfe\x00,1\n")
    assert str(folder / TABLE) in refusal(folder)


def test_a_table_that_is_a_folder_is_named(folder: Path) -> None:
    (folder / TABLE).unlink()
    (folder / TABLE).mkdir()
    assert str(folder / TABLE) in refusal(folder)


def test_a_doubled_record_is_named(folder: Path) -> None:
    edit(folder / TABLE, put("ecg_id", "3"))
    message = refusal(folder)
    assert str(folder / TABLE) in message and "ecg_id 3 " in message


def test_a_doubled_statement_is_named(folder: Path) -> None:
    edit(folder / STATEMENTS, lambda rows: pd.concat([rows, rows.iloc[[4]]]))
    message = refusal(folder)
    assert str(folder / STATEMENTS) in message and "NORM" in message


@pytest.mark.parametrize("value", ["0", "11", "-1"])
def test_a_fold_outside_1_to_10_is_named(folder: Path, value: str) -> None:
    edit(folder / TABLE, put("strat_fold", value))
    message = refusal(folder)
    assert "strat_fold must be 1 to 10" in message and f"[{value}]" in message


@pytest.mark.parametrize("column", ["patient_id", "strat_fold"])
@pytest.mark.parametrize("value", ["", "1.5", "four", "inf", "1e30"])
def test_what_is_no_whole_number_is_named_with_its_record(folder: Path, column: str, value: str) -> None:
    edit(folder / TABLE, put(column, value))
    assert f"{folder / TABLE}: {column} of ecg_id 8 is " in refusal(folder)


@pytest.mark.parametrize(
    "value",
    [
        *("", "NORM", "{'NORM'}", "['NORM', 100.0]", "{'NORM': 100.0", "{'NORM': 'sure'}"),
        *("{'NORM': 1" + "0" * 400 + "}", "open('x')", "(" * 5000),
    ],
)
def test_bad_scp_codes_are_named_with_their_record(folder: Path, value: str) -> None:
    edit(folder / TABLE, put("scp_codes", value))
    message = refusal(folder)
    assert f"{folder / TABLE}: scp_codes of ecg_id 8 is " in message
    assert len(message) < 300 + len(str(folder))


def test_a_synthetic_set_says_so(demo_set: Path) -> None:
    records = load_records(demo_set)
    assert records.synthetic
    assert records.name == f"synthetic-{records.content[:8]}"


def test_one_synthetic_record_makes_a_set_synthetic(folder: Path) -> None:
    def relabel(rows: pd.DataFrame) -> None:
        rows.loc[1:, "device"] = "CS100"

    edit(folder / TABLE, relabel)
    assert load_records(folder).synthetic
    edit(folder / TABLE, put("device", "CS100", row=0))
    records = load_records(folder)
    assert not records.synthetic
    assert records.name == f"ptb-xl-{records.content[:8]}"  # never the name of a published version


def test_content_is_the_protocol_and_nothing_else(folder: Path, demo_set: Path) -> None:
    content = load_records(demo_set).content

    def after(change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> str:
        shutil.copy(demo_set / TABLE, folder / TABLE)
        edit(folder / TABLE, change)
        return load_records(folder).content

    def next_fold(rows: pd.DataFrame) -> None:
        rows.loc[7, "strat_fold"] = str(int(rows.loc[7, "strat_fold"]) % 10 + 1)

    changed = {
        "label": after(put("scp_codes", "{'PMI': 0.0}")),
        "likelihood": after(put("scp_codes", "{'PMI': 15.0}")),
        "fold": after(next_fold),
        "patient": after(put("patient_id", "1000000")),
        "fewer": after(lambda rows: rows.iloc[1:]),
    }
    assert len({content, *changed.values()}) == 1 + len(changed)
    assert after(put("height", "181.0")) == content
    assert after(put("report", "another text")) == content
    assert after(lambda rows: rows.drop(columns=["age", "nurse"])) == content


def test_neither_rows_nor_codes_need_an_order(folder: Path, demo_set: Path) -> None:
    def shuffle(rows: pd.DataFrame) -> pd.DataFrame:
        swapped = rows["scp_codes"].map(lambda text: str(dict(reversed(ast.literal_eval(text).items()))))
        return rows.assign(scp_codes=swapped).sample(frac=1, random_state=3)

    edit(folder / TABLE, shuffle)
    shuffled, records = load_records(folder), load_records(demo_set)
    assert (folder / TABLE).read_text() != (demo_set / TABLE).read_text()
    assert shuffled.content == records.content
    assert shuffled.ecg_id.tolist() == records.ecg_id.tolist()
    assert [p.name for p in shuffled.paths(100)] == [p.name for p in records.paths(100)]


@pytest.mark.ptbxl
def test_the_real_set_is_known_by_its_content(ptbxl: Path, tmp_path: Path) -> None:
    records = load_records(ptbxl)
    assert records.name == "ptb-xl-1.0.3"
    assert not records.synthetic
    assert len(records) == 21799
    for name in (TABLE, STATEMENTS):
        shutil.copy(ptbxl / name, tmp_path / name)
    edit(tmp_path / TABLE, put("scp_codes", "{'NORM': 80.0}"))
    changed: Records = load_records(tmp_path)
    assert changed.name == f"ptb-xl-{changed.content[:8]}" != records.name


def test_a_table_that_pandas_saved_with_its_index_is_named(folder: Path) -> None:
    pd.read_csv(folder / STATEMENTS).to_csv(folder / STATEMENTS)
    with pytest.raises(DataError, match=r"scp_statements.csv: the first column counts the rows \(0, 1, ...\).*pandas"):
        load_records(folder)


@pytest.mark.parametrize("name", [TABLE, STATEMENTS])
@pytest.mark.parametrize(
    ("save", "words"),
    [
        (
            lambda table, path: table.to_csv(path, sep=";", decimal=",", index=False),
            "has semicolons between its columns",
        ),
        (lambda table, path: table.to_csv(path, sep="\t", index=False), "has tabs between its columns"),
        (lambda table, path: table.to_csv(path, index=False, encoding="utf-16"), "is in UTF-16"),
        (lambda table, path: path.write_bytes(table.to_csv().encode() + b"\xe4,1\n"), "is not in UTF-8"),
        (lambda table, path: path.write_bytes(b"PK\x03\x04" + bytes(99)), "is a zip archive or an Excel workbook"),
        (lambda table, path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "a Git LFS pointer"),
        (lambda table, path: path.write_text("<!DOCTYPE html>\n<p>a,b</p>\n<p>c</p>"), "is a web page"),
    ],
    ids=["semicolons", "tabs", "utf-16", "latin-1", "xlsx", "lfs", "html"],
)
def test_a_table_that_another_program_saved_is_named(folder: Path, name: str, save: Any, words: str) -> None:
    save(pd.read_csv(folder / name), folder / name)
    with pytest.raises(DataError, match=words) as caught:
        load_records(folder)
    assert str(folder / name) in str(caught.value) and "\n" not in str(caught.value)


def test_a_byte_order_mark_before_a_table_changes_nothing(folder: Path) -> None:
    before = load_records(folder).content
    for name in (TABLE, STATEMENTS):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert load_records(folder).content == before
