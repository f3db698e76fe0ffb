"""Versions of PTB-XL are recognised by content, by number of records, or not."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bench.data.datasets.ptbxl import load_records
from bench.data.published import CHECKSUMS, NUM_RECORDS, checksum, num_as_published, version_of
from bench.data.records import Records


def test_the_table_has_a_byte_for_each_record_of_the_release() -> None:
    content = CHECKSUMS.read_bytes()

    assert sum(byte > 0 for byte in content) == NUM_RECORDS["1.0.3"]
    assert content[0] == 0, "there is no ecg_id 0"


def test_a_checksum_is_one_of_255() -> None:
    sums = {checksum(f"{number} 1 1 []\n") for number in range(5000)}

    assert sums == set(range(1, 256))


def test_an_unknown_table_says_how_many_records_are_as_published() -> None:
    table = pd.DataFrame(
        {"patient_id": [1], "strat_fold": [1], "scp_codes": [{}]}, index=pd.Index([10**7], name="ecg_id")
    )
    records = Records(Path(), table, pd.DataFrame(), {})

    assert num_as_published(records) == 0
    assert "1 records, 0 of them" in version_of(records)
    assert version_of(replace(records, dataset="cpsc2018")) == f"not stated; content {records.content[:8]}"


@pytest.mark.ptbxl
def test_the_real_tables_are_the_release_and_a_part_of_them_is_a_part(ptbxl: Path) -> None:
    records = load_records(ptbxl)
    assert num_as_published(records) == NUM_RECORDS["1.0.3"]

    part = replace(records, table=records.table.iloc[5:105])

    assert version_of(part) == "a part of 1.0.3: 100 of its 21,799 records"
