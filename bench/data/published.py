"""Recognise published versions of PTB-XL, and parts of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench.data.records import Records
from bench.files import read_bytes

NUM_RECORDS = {"1.0.1": 21_837, "1.0.2": 21_801, "1.0.3": 21_799}
"""Number of records, from each version's page on PhysioNet."""
CHECKSUMS = Path(__file__).with_name("ptbxl-1.0.3.checksums")
"""File with one byte for each ecg_id of version 1.0.3, from 0 on: `checksum` of its record, 0 if there is none."""
CHANGES = (
    "from 1.0.1 to 1.0.3, 38 records were dropped (36 of them in 1.0.2), the labels of 13 corrected and ages above 89 "
    "set to 300"
)


def version_of(records: Records) -> str:
    """Describe the version in words: published, a part of one, similar to one, or synthetic.

    A part is recognised by one byte for each record, so 1 of 255 edited records is taken for the published one. This is
    for display only: results are kept apart by the exact fingerprint of a task.
    """
    if records.dataset != "ptb-xl":
        return records.versions.get(records.content[:8]) or f"not stated; content {records.content[:8]}"
    if records.synthetic:
        return "synthetic, no PTB-XL"
    if version := records.versions.get(records.content[:8]):
        return version
    same = num_as_published(records)
    if same == len(records):
        return f"a part of 1.0.3: {same:,} of its {NUM_RECORDS['1.0.3']:,} records"
    for version in ("1.0.1", "1.0.2"):
        if len(records) == (num := NUM_RECORDS[version]):
            return f"by its number of records {version} ({num:,}); {CHANGES}; `bench data download` gets 1.0.3"
    return (
        f"no version known here: {len(records):,} records, {same:,} of them with the patient, fold and statements "
        f"that 1.0.3 ({NUM_RECORDS['1.0.3']:,} records) gives them"
    )


def num_as_published(records: Records) -> int:
    """Count records whose checksum of patient, fold and statements is that of version 1.0.3."""
    published = read_bytes(CHECKSUMS)
    return sum(
        0 < ecg_id < len(published) and published[ecg_id] == checksum(line)
        for ecg_id, line in zip(records.ecg_id.tolist(), records.lines(), strict=True)
    )


def checksum(line: str) -> int:
    """Return a checksum from 1 to 255 of a record's line in `Records.content`; 0 marks an unused ecg_id."""
    return hashlib.sha256(line.encode()).digest()[0] % 255 + 1
