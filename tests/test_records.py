"""Records: their content's hash, their name and their files follow from the table."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bench.data.records import Records
from bench.errors import DataError

TABLE = pd.DataFrame(
    {
        "patient_id": [10, 11],
        "strat_fold": [1, 10],
        "scp_codes": [{"NORM": 100.0, "SR": 0.0}, {"MI": 50.0}],
        "filename_lr": ["a/1_lr", "a/2_lr"],
        "age": [50, 60],
    },
    index=pd.Index([1, 2], name="ecg_id"),
)
RECORDS = Records(Path("data"), TABLE, pd.DataFrame(), {100: "filename_lr"})


def changed(**columns: object) -> Records:
    return replace(RECORDS, table=TABLE.assign(**columns))


def test_the_hash_holds_patients_folds_and_statements_and_nothing_else() -> None:
    assert changed(age=[1, 2]).content == RECORDS.content
    assert changed(scp_codes=[{"SR": 0.0, "NORM": 100.0}, {"MI": 50.0}]).content == RECORDS.content, "order of codes"
    for columns in (
        {"patient_id": [10, 12]},
        {"strat_fold": [1, 9]},
        {"scp_codes": [{"NORM": 80.0, "SR": 0.0}, {"MI": 50.0}]},
    ):
        assert changed(**columns).content != RECORDS.content, columns


def test_the_name_is_that_of_a_known_version_or_of_the_content() -> None:
    assert RECORDS.name == f"ptb-xl-{RECORDS.content[:8]}"
    known = replace(RECORDS, versions={RECORDS.content[:8]: "1.0.3"}, folds="dealt")
    assert known.name == "ptb-xl-dealt-1.0.3"
    assert changed(device=["CS-12", "synthetic"]).name == f"synthetic-{RECORDS.content[:8]}"


def test_files_are_those_of_the_rate() -> None:
    assert RECORDS.paths(100) == [Path("data/a/1_lr"), Path("data/a/2_lr")]
    with pytest.raises(DataError, match="has signals at 100 Hz, not at 500 Hz; use --source-rate 100"):
        RECORDS.names(500)
