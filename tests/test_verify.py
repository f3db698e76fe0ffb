"""A folder's faults are each found and named, warnings stand apart, and the counts are those of the protocol."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import wfdb

from bench.data import published, verify
from bench.data.checksums import SUMS, parse_sums
from bench.data.datasets.ptbxl import STATEMENTS, TABLE, load_records
from bench.data.info import describe, label_rows, task_rows
from bench.data.tasks import find_task
from bench.data.verify import Report, is_clipped
from bench.data.waveforms import LEADS
from bench.errors import DataError

FIRST = "records100/00000/00001_lr"
COUNTS = {  # DESIGN.md: labels, records, train, val, test, patients of the test fold
    "all": (71, 21799, 17418, 2183, 2198, 1904),
    "diag": (44, 21388, 17084, 2146, 2158, 1877),
    "subdiag": (23, 21388, 17084, 2146, 2158, 1877),
    "superdiag": (5, 21388, 17084, 2146, 2158, 1877),
    "form": (19, 8978, 7197, 901, 880, 797),
    "rhythm": (12, 21030, 16832, 2100, 2098, 1823),
}


@pytest.fixture
def folder(demo_set: Path, copy_first: Callable[[int, Path], None], tmp_path: Path) -> Path:
    """The first 12 records of the demo set at 100 Hz with their checksums, free to be damaged."""
    target = tmp_path / "set"
    copy_first(12, target)
    published_sums = (demo_set / SUMS).read_text().splitlines(keepends=True)
    (target / SUMS).write_text("".join(line for line in published_sums if "_hr." in line or in_it(line, target)))
    return target


def in_it(line: str, folder: Path) -> bool:
    return "records100" in line and (folder / line.split()[1]).is_file()


def overwrite(folder: Path, change: Callable[[npt.NDArray[np.int64]], None], rate: int = 100, unit: str = "mV") -> None:
    """Change the samples [time, lead] of the first record and write it anew."""
    path = folder / FIRST
    samples = wfdb.rdrecord(str(path), physical=False).d_signal.astype(np.int64)
    change(samples)
    wfdb.wrsamp(
        path.name,
        fs=rate,
        units=[unit] * 12,
        sig_name=list(LEADS),
        d_signal=samples,
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(path.parent),
    )
    (folder / SUMS).unlink()


def failures_of(report: Report) -> dict[str, tuple[str, ...]]:
    """Name of a check -> its culprits, where there are any."""
    return {check.name: check.failures for check in report.checks if check.failures}


def test_a_whole_set_has_no_fault_and_no_warning(demo_set: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = verify.verify(demo_set, lambda done, total: seen.append((done, total)))
    assert failures_of(report).keys() <= {"clipped leads"}
    assert not report.faulty
    assert (report.num_records, dict(report.present)) == (240, {100: 240, 500: 240})
    assert report.version == "synthetic, no PTB-XL"
    assert seen == [(200, 480), (400, 480), (480, 480)]
    looked_at = {check.name: check.num_checked for check in report.checks}
    assert looked_at["wrong hashes"] == 2 * 480 + 2
    assert looked_at["missing files"] == 2 * 480


def test_over_all_cores_the_report_is_the_same(demo_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = verify.verify(demo_set)
    monkeypatch.setattr(verify, "CHUNK", 80)
    assert verify.verify(demo_set) == one


def test_a_rate_that_was_not_asked_for_is_not_missing(folder: Path) -> None:
    report = verify.verify(folder)
    assert not failures_of(report).keys() - {"clipped leads"}
    assert dict(report.present) == {100: 12, 500: 0}


@pytest.mark.parametrize("ending", [".hea", ".dat"])
@pytest.mark.parametrize("with_sums", [True, False])
def test_a_missing_file_is_named(folder: Path, ending: str, with_sums: bool) -> None:
    (folder / f"{FIRST}{ending}").unlink()
    if not with_sums:
        (folder / SUMS).unlink()
    report = verify.verify(folder)
    assert report.faulty
    assert failures_of(report)["missing files"] == (f"{FIRST}{ending}",)


def test_a_rate_that_is_there_in_part_is_a_warning_where_no_more_is_listed(folder: Path, demo_set: Path) -> None:
    (folder / "records500/00000").mkdir(parents=True)
    for ending in (".hea", ".dat"):
        shutil.copy(demo_set / f"records500/00000/00003_hr{ending}", folder / "records500/00000")
    report = verify.verify(folder)
    assert len(failures_of(report)["missing files"]) == 22  # SHA256SUMS.txt lists all of them
    lines = (folder / SUMS).read_text().splitlines(keepends=True)
    (folder / SUMS).write_text("".join(line for line in lines if "_hr" not in line or "00003_hr" in line))
    report = verify.verify(folder)
    assert not report.faulty
    assert failures_of(report)["incomplete rates"] == (
        "500 Hz is there for 1 of 12 records; SHA256SUMS.txt lists no more",
    )


def test_tables_alone_are_a_warning(folder: Path) -> None:
    shutil.rmtree(folder / "records100")
    report = verify.verify(folder)
    assert not report.faulty
    assert "no signals at all" in failures_of(report)["incomplete rates"][0]


def test_a_file_that_nothing_names_is_a_warning(folder: Path) -> None:
    (folder / "records100/00000/.00001_lr.dat.part").write_bytes(b"")
    (folder / "notes.txt").write_text("")
    report = verify.verify(folder)
    assert not report.faulty
    assert failures_of(report)["unlisted files"] == ("notes.txt", "records100/00000/.00001_lr.dat.part")


def test_a_changed_byte_is_a_wrong_hash_and_a_wrong_checksum(folder: Path) -> None:
    data = bytearray((folder / f"{FIRST}.dat").read_bytes())
    data[100] ^= 1
    (folder / f"{FIRST}.dat").write_bytes(data)
    report = verify.verify(folder)
    assert report.faulty
    assert failures_of(report)["wrong hashes"] == ("00001_lr.dat",)
    assert "does not match the checksum" in failures_of(report)["header against data"][0]


def test_a_changed_table_is_a_wrong_hash(demo_set: Path, folder: Path) -> None:
    shutil.copy(demo_set / SUMS, folder / SUMS)
    assert TABLE in failures_of(verify.verify(folder))["wrong hashes"]
    assert STATEMENTS not in failures_of(verify.verify(folder))["wrong hashes"]


def test_a_truncated_record_is_named(folder: Path) -> None:
    path = folder / f"{FIRST}.dat"
    path.write_bytes(path.read_bytes()[:-24])
    assert failures_of(verify.verify(folder))["header against data"][0].startswith(str(path))


def test_a_missing_lead_is_named(folder: Path) -> None:
    header = folder / f"{FIRST}.hea"
    header.write_text(header.read_text().replace(" V6\n", " V7\n"))
    assert "has no lead V6" in failures_of(verify.verify(folder))["header against data"][0]


@pytest.mark.parametrize(
    ("rate", "length", "check", "words"),
    [
        (250, 1000, "rates", "00001_lr.hea says 250 Hz, expected 100 Hz"),
        (100, 900, "lengths", "00001_lr has 9 s, expected 10 s"),
    ],
)
def test_a_wrong_rate_or_length_is_named(folder: Path, rate: int, length: int, check: str, words: str) -> None:
    path = folder / FIRST
    samples = wfdb.rdrecord(str(path), physical=False).d_signal[:length]
    overwrite(folder, lambda _: None, rate)
    wfdb.wrsamp(
        path.name,
        fs=rate,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        d_signal=samples,
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(path.parent),
    )
    report = verify.verify(folder)
    assert report.faulty
    assert failures_of(report)[check] == (words,)


def test_flat_clipped_invalid_and_foreign_leads_are_warnings(folder: Path) -> None:
    def damage(samples: npt.NDArray[np.int64]) -> None:
        samples[:, 3] = 7
        samples[:, 10] = np.clip(samples[:, 10] * 20, -1500, 1500)
        samples[5, 0] = -(2**15)
        samples[400:500, 2] = 11
        samples[400:498, 4] = 11

    overwrite(folder, damage, unit="uV")
    report = verify.verify(folder)
    assert not report.faulty
    assert failures_of(report)["flat leads"] == ("1 at 100 Hz: aVR",)
    assert failures_of(report)["flat stretches"] == ("1 at 100 Hz: III",)
    assert failures_of(report)["invalid samples"] == ("1 at 100 Hz: I",)
    assert failures_of(report)["units"] == ("00001_lr.hea is in uv, not mV",)
    overwrite_again = lambda samples: None
    (folder / SUMS).touch()
    overwrite(folder, overwrite_again)
    assert "1 at 100 Hz: V5" in failures_of(verify.verify(folder))["clipped leads"]


def test_clipping_is_a_plateau_at_the_extreme_and_no_small_one() -> None:
    time = np.arange(1000) / 100
    wave = 2 * np.sin(2 * np.pi * 1.2345 * time).astype(np.float32)
    assert not is_clipped(wave, 100)
    assert is_clipped(np.clip(wave, -9, 1.5), 100)
    assert is_clipped(np.clip(wave, -1.5, 9), 100)
    assert not is_clipped(np.clip(wave, -0.5, 0.5), 100)


@pytest.mark.parametrize(("folds", "refused"), [((3, 5), False), ((3, 9), True), ((9, 10), True)])
def test_a_patient_in_two_folds_is_a_fault(folder: Path, folds: tuple[int, int], refused: bool) -> None:
    rows = pd.read_csv(folder / TABLE)
    rows.loc[[0, 1], "patient_id"] = 77
    rows.loc[[0, 1], "strat_fold"] = folds
    rows.to_csv(folder / TABLE, index=False)
    report = verify.verify(folder)
    assert report.faulty
    where = f"folds {folds[0]}, {folds[1]}"
    if refused:
        assert f"patient 77 has records in {where}" in failures_of(report)["table"][0]
        with pytest.raises(DataError, match="the test would leak"):
            load_records(folder)
    else:
        assert failures_of(report)["patients in two folds"] == (f"patient 77 in {where}",)
        load_records(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dataset at"):
        verify.verify(tmp_path / "nowhere")


def test_checksums_are_read_as_programs_write_them() -> None:
    """sha256sum marks binary files with *, `find` begins paths with ./, and Windows has capital letters."""
    text = f"{'a1' * 32}  x/a.dat\n{'B2' * 32} *x/b.dat\n{'c3' * 32}  ./x/c.dat\n"

    assert parse_sums(text, "sums") == {"x/a.dat": "a1" * 32, "x/b.dat": "b2" * 32, "x/c.dat": "c3" * 32}


@pytest.mark.parametrize(
    "line", ["", "abc x", f"{'0' * 64} ../x", f"{'0' * 64} /etc/x", f"{'0' * 64} a//b", f"{'z' * 64} a", f"{'0' * 64}"]
)
def test_checksums_of_another_form_are_refused(folder: Path, line: str) -> None:
    with pytest.raises(DataError, match="line 2 is "):
        parse_sums(f"{'0' * 64} a\n{line}\n", "sums")
    (folder / SUMS).write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not a text file"):
        verify.verify(folder)


def test_the_report_is_plain_data(folder: Path) -> None:
    report = verify.verify(folder)
    data = json.loads(json.dumps(report.as_data()))
    assert data["faulty"] is False and data["folder"] == str(folder)
    assert [check["name"] for check in data["checks"]] == [row["check"] for row in report.as_rows()]


def test_counts_of_a_set(demo_set: Path) -> None:
    facts = describe(demo_set, [find_task("superdiag"), find_task("rhythm")])
    json.dumps(facts)
    raw = pd.read_csv(demo_set / TABLE)
    assert facts["records"] == 240 and facts["patients"] == raw["patient_id"].nunique()
    assert facts["sexes"] == {"male": (raw.sex == 0).sum(), "female": (raw.sex == 1).sum(), "unknown": 0}
    assert facts["ages_years"]["median"] == raw.age[raw.age < 300].median()
    assert sum(fold["records"] for fold in facts["folds"].values()) == 240
    assert task_rows(facts["tasks"])[0]["labels"] == 5
    for counts in facts["tasks"].values():
        for row in label_rows(counts):
            per_fold = [row[f"f{fold}"] for fold in range(1, 11)]
            assert (row["train"], row["val"], row["test"]) == (sum(map(int, per_fold[:8])), per_fold[8], per_fold[9])


def test_a_table_without_age_and_sex_is_counted(folder: Path) -> None:
    rows = pd.read_csv(folder / TABLE).drop(columns=["age", "sex"])
    rows.to_csv(folder / TABLE, index=False)
    facts = describe(folder, [])
    assert facts["ages_years"] == {"min": None, "median": None, "max": None, "hidden_above_89": 0, "unknown": 12}
    assert facts["sexes"]["unknown"] == 12


@pytest.mark.ptbxl
@pytest.mark.parametrize("task", COUNTS)
def test_counts_of_the_real_set_are_the_protocols(ptbxl: Path, task: str) -> None:
    facts = describe(ptbxl, [find_task(task)])
    assert facts["version"] == "1.0.3" and facts["patients"] == 18869
    counts = facts["tasks"][task]
    row = (len(counts["labels"]), *(counts[key] for key in ("records", "train", "val", "test")))
    assert (*row, counts["patients"]["test"]) == COUNTS[task]


@pytest.mark.ptbxl
def test_a_part_and_an_edit_of_the_real_set_are_told_apart(ptbxl: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(ptbxl / TABLE, low_memory=False)
    shutil.copy(ptbxl / STATEMENTS, tmp_path / STATEMENTS)
    task = find_task("superdiag")

    def version(changed: pd.DataFrame) -> str:
        changed.to_csv(tmp_path / TABLE, index=False)
        assert describe(tmp_path, [task])["tasks"]["superdiag"]["fingerprint"] != whole
        return published.version_of(load_records(tmp_path))

    whole = describe(ptbxl, [task])["tasks"]["superdiag"]["fingerprint"]
    assert version(rows[rows.ecg_id <= 1999]) == "a part of 1.0.3: 1,987 of its 21,799 records"
    assert version(rows.sample(500, random_state=1)) == "a part of 1.0.3: 500 of its 21,799 records"
    edited = rows[rows.ecg_id <= 1999].copy()
    edited.loc[7, "scp_codes"] = "{'PMI': 100.0}"
    assert version(edited).startswith("no version known here: 1,987 records, 1,986 of them with")
    more = rows.tail(38).assign(ecg_id=range(30000, 30038), patient_id=range(90000, 90038))
    assert version(pd.concat([rows, more])).startswith("by its number of records 1.0.1 (21,837); from 1.0.1 to 1.0.3,")
    assert version(pd.concat([rows, more.head(2)])).startswith("by its number of records 1.0.2 (21,801); from 1.0.1")


@pytest.mark.ptbxl
@pytest.mark.slow
def test_the_flat_lead_of_the_real_set_is_found(ptbxl: Path) -> None:
    report = verify.verify(ptbxl)
    assert not report.faulty
    assert failures_of(report)["flat leads"] == ("12722 at 100 Hz: V5",)
    assert failures_of(report)["flat stretches"] == (
        "12722 at 100 Hz: V4, V6",
        "19299 at 100 Hz: V3, V6",
        "20045 at 100 Hz: V6",
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_record_that_may_not_be_read_is_named(folder: Path) -> None:
    (folder / f"{FIRST}.dat").chmod(0)
    assert "cannot be read" in failures_of(verify.verify(folder))["header against data"][0]
