"""Check all files of a data set's folder and report missing, damaged and irregular ones."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.checksums import SUMS, read_sums
from bench.data.datasets import load_records
from bench.data.datasets.ptbxl import STATEMENTS, TABLE
from bench.data.formats import SignalFile, read_signals
from bench.data.headers import read_header
from bench.data.pool import over_cores
from bench.data.published import version_of
from bench.data.records import SECONDS, Records
from bench.data.waveforms import LEADS, Note
from bench.errors import DataError, PluginError
from bench.files import file_sha256
from bench.registry.source import can_import

FLAT_S = 1.0
"""A lead counts as flat for a stretch if its value is constant for this many seconds."""
CLIPPED_MV, CLIPPED_S = 1.0, 0.05
"""A lead counts as clipped if it stays this long at its highest or lowest value, and that is beyond this amplitude. At
100 Hz, 8 of PTB-XL's records have such a lead."""
NUM_NAMED = 4
"""Number of records or files that a row of the table names; --json has all."""
CHUNK = 200
"""Number of records that a worker examines at a time."""
Progress = Callable[[int, int], None]
"""Callback with the number of records examined and of all records."""

FAULTS_OF_RECORDS = ("header against data", "rates", "lengths")
WARNINGS_OF_RECORDS = (
    "units",
    "lead names",
    "amplitude",
    "invalid samples",
    "flat leads",
    "flat stretches",
    "clipped leads",
)
FAULTS = ("table", "missing files", "wrong hashes", *FAULTS_OF_RECORDS, "patients in two folds")
WARNINGS = ("incomplete rates", "unlisted files", *WARNINGS_OF_RECORDS)
RECORD_CHECKS = (*FAULTS_OF_RECORDS, *WARNINGS_OF_RECORDS)
"""Faults and warnings for which each record that can be read is examined."""
LEAD_NOTES = ("renamed", "inverted", "derived")
"""Kinds of notes about names of leads. The other kinds are about amplitudes."""


@dataclass(frozen=True)
class Check:
    """A check, and the records or files that fail it."""

    name: str
    fault: bool
    """True if a failure is a fault, False if it is a warning."""
    num_checked: int
    failures: tuple[str, ...]
    """One text for each record or file that fails, in order."""

    @property
    def verdict(self) -> str:
        """ok, FAULT, warning, or - if there was nothing to check."""
        if self.failures:
            return "FAULT" if self.fault else "warning"
        return "ok" if self.num_checked else "-"


@dataclass(frozen=True)
class Report:
    """The outcome of all checks of a folder."""

    folder: Path
    version: str
    num_records: int
    present: Mapping[int, int]
    """Rate in Hz -> number of records whose two files exist."""
    checks: tuple[Check, ...]

    def as_data(self) -> dict[str, Any]:
        """Return the report as plain data."""
        checks = [{**asdict(check), "verdict": check.verdict} for check in self.checks]
        return {**asdict(self), "folder": str(self.folder), "faulty": self.faulty, "checks": checks}

    def as_rows(self) -> list[dict[str, str | int]]:
        """Return a table row for each check: verdict, number of items checked and failed, and the first that failed."""
        return [
            {
                "check": check.name,
                "verdict": check.verdict,
                "checked": check.num_checked,
                "failed": len(check.failures),
                "which": "; ".join(check.failures[:NUM_NAMED]) + ("; ..." if len(check.failures) > NUM_NAMED else ""),
            }
            for check in self.checks
        ]

    @property
    def faulty(self) -> bool:
        """True if any check that is not a warning failed."""
        return any(check.fault and check.failures for check in self.checks)


@dataclass(frozen=True)
class _Job:
    """A record at one rate that is to be examined."""

    ecg_id: int
    source: SignalFile
    rate: int
    seconds: float | None
    """Expected length of the record in seconds; None: any."""
    sums: tuple[str | None, ...]
    """Published SHA-256 of each file of the record; None if not published."""


def verify(folder: Path, progress: Progress = lambda done, total: None) -> Report:
    """Check all files of a data set's folder, on all cores.

    Raises DataError if there is no such folder or its SHA256SUMS.txt cannot be read. If `load_records` refuses the
    tables, this is reported as a fault, and no record is examined.
    """
    if not folder.is_dir():
        raise DataError(f"no dataset at {folder}: expected the folder of a data set")
    sums = read_sums(folder / SUMS) if os.path.lexists(folder / SUMS) else {}
    failures: dict[str, list[str]] = defaultdict(list)
    num_checked = {"table": 1, "wrong hashes": 0}
    # hash the tables before they are parsed: a damaged one may still parse
    for name in (TABLE, STATEMENTS):
        if name in sums and (folder / name).is_file():
            num_checked["wrong hashes"] += 1
            if file_sha256(folder / name) != sums[name]:
                failures["wrong hashes"].append(name)
    try:
        records = load_records(folder)
    except (DataError, PluginError) as error:
        failures["table"].append(str(error))
        return Report(folder, "unknown", 0, {}, _checks(failures, num_checked))
    jobs, present = _find_files(records, sums, failures, num_checked)
    # load_records refuses patients shared by train, validation and test; PTB-XL also keeps folds 1-8 apart
    patients = records.table.groupby("patient_id")["strat_fold"].unique()
    num_checked["patients in two folds"] = len(patients)
    failures["patients in two folds"] = [
        f"patient {patient} in folds {', '.join(map(str, sorted(folds)))}"
        for patient, folds in patients.items()
        if len(folds) > 1
    ]
    num_checked["wrong hashes"] += sum(known is not None for job in jobs for known in job.sums)
    num_checked |= dict.fromkeys(RECORD_CHECKS, len(jobs))
    if records.seconds is not None:
        num_checked["lengths"] = 0  # lengths differ, and each record is cut or padded
    for _, name, text in _examine_all(jobs, records.format.module, progress):
        failures[name].append(text)
    return Report(folder, version_of(records), len(records), present, _checks(failures, num_checked))


def _checks(failures: Mapping[str, list[str]], num_checked: Mapping[str, int]) -> tuple[Check, ...]:
    return tuple(
        Check(name, name in FAULTS, num_checked.get(name, 0), tuple(failures.get(name, ())))
        for name in FAULTS + WARNINGS
    )


def _find_files(
    records: Records, sums: Mapping[str, str], failures: dict[str, list[str]], num_checked: dict[str, int]
) -> tuple[list[_Job], dict[int, int]]:
    """Return the records that can be examined, and their number at each rate. Add missing files to `failures`.

    A rate without any file was not downloaded. If a rate has some files only, SHA256SUMS.txt tells which files belong
    to the folder.
    """
    folder, jobs, present = records.folder, [], {}
    named: set[str] = set()
    seconds = SECONDS if records.seconds is None else None
    for rate in records.filenames:
        missing, unlisted = [], 0
        present[rate] = 0
        num_files = len(records.format.endings)
        sources = records.signal_files(rate)
        for ecg_id, name, source in zip(records.ecg_id.tolist(), records.names(rate), sources, strict=True):
            pair = tuple(name + ending for ending in records.format.endings)
            named.update(pair)
            # pathlib would take longer
            there = [os.path.isfile(os.path.join(folder, file)) for file in pair]  # noqa: PTH113, PTH118
            if all(there):
                present[rate] += 1
                jobs.append(_Job(ecg_id, source, rate, seconds, tuple(map(sums.get, pair))))
            # half a record, or one that the folder should have; without a list of sums, every record should be there
            elif any(there) or not sums or sums.keys() & set(pair):
                missing += [file for file, is_there in zip(pair, there, strict=True) if not is_there]
            else:
                unlisted += 1
        # not a single file of a rate: it was not downloaded, which is no fault
        if present[rate] or len(missing) < num_files * (len(records) - unlisted):
            num_checked["missing files"] = num_checked.get("missing files", 0) + num_files * (len(records) - unlisted)
            failures["missing files"] += missing
            if unlisted:
                failures["incomplete rates"].append(
                    f"{rate} Hz is there for {present[rate]:,} of {len(records):,} records; {SUMS} lists no more"
                )
    num_checked["incomplete rates"] = len(jobs)
    if not jobs and not failures["missing files"]:
        failures["incomplete rates"].append("no signals at all: enough to score and to check, not to train")
    # files that belong neither to a record nor to the published list
    known = {*sums, *named, SUMS}
    for top, _, files in os.walk(folder):
        place = Path(top).relative_to(folder).as_posix()
        inside = files if place == "." else [f"{place}/{file}" for file in files]
        num_checked["unlisted files"] = num_checked.get("unlisted files", 0) + len(inside)
        failures["unlisted files"] += sorted(
            file for file in set(inside) - known if file.rpartition("/")[2] not in records.others
        )
    return jobs, present


def _examine_all(jobs: list[_Job], module: str, progress: Progress) -> list[tuple[int, str, str]]:
    """Return (ecg_id, name of a check, description) for every failure, sorted; `module` has the format's reader."""
    done, examined = 0, list[tuple[int, str, str]]()
    chunks = [jobs[at : at + CHUNK] for at in range(0, len(jobs), CHUNK)]
    with contextlib.closing(over_cores(_examine_chunk, chunks, here=not can_import(module))) as outcomes:
        for chunk, culprits in outcomes:
            examined += culprits
            done += len(chunk)
            progress(done, len(jobs))
    return sorted(examined)  # workers finish in any order


def _examine_chunk(jobs: list[_Job]) -> list[tuple[int, str, str]]:
    """Return (ecg_id, name of a check, description) for every failure of these records."""
    return [(job.ecg_id, name, text) for job in jobs for name, text in _examine(job)]


def _examine(job: _Job) -> list[tuple[str, str]]:
    source, path, failures = job.source, job.source.path, []
    notes: list[Note] = []
    try:
        # hashes first: a file with a wrong hash may be unreadable too
        for known, ending in zip(job.sums, source.format.endings, strict=True):
            if known is not None and file_sha256(Path(f"{path}{ending}")) != known:
                failures.append(("wrong hashes", f"{path.name}{ending}"))
        signals, rate = read_signals(source, log=notes.append)
        channels = () if source.format.read else read_header(source.file).channels
    except OSError as error:
        return [*failures, ("header against data", f"{path} cannot be read: {error.strerror}")]
    except DataError as error:
        return [*failures, ("header against data", str(error))]
    if rate != job.rate:
        failures.append(("rates", f"{source.file.name} says {rate} Hz, expected {job.rate} Hz"))
    elif job.seconds is not None and signals.shape[1] != job.seconds * rate:
        failures.append(("lengths", f"{path.name} has {signals.shape[1] / rate:g} s, expected {job.seconds:g} s"))
    units = {channel.scale.unit.lower() for channel in channels}
    if units - {"mv"}:
        failures.append(("units", f"{path.name}.hea is in {', '.join(sorted(units))}, not mV"))
    for note in notes:
        check = "lead names" if note.kind in LEAD_NOTES else "amplitude"
        failures.append((check, f"{job.ecg_id} at {job.rate} Hz: {note.text}"))
    where = f"{job.ecg_id} at {job.rate} Hz"
    # a lead is reported once: an invalid or entirely flat lead is not checked for flat stretches and clipping
    invalid = [bool(np.isnan(lead).any()) for lead in signals]
    flat = [bool(np.ptp(lead) == 0) for lead in signals]
    stretches, clipped = ([False] * len(LEADS) for _ in range(2))
    for row, lead in enumerate(signals):
        if not invalid[row] and not flat[row]:
            stretches[row] = longest_run(np.diff(lead) == 0) >= FLAT_S * rate - 1
            clipped[row] = is_clipped(lead, rate)
    for name, odd in (
        ("invalid samples", invalid),
        ("flat leads", flat),
        ("flat stretches", stretches),
        ("clipped leads", clipped),
    ):
        if any(odd):
            named = ", ".join(lead for lead, is_odd in zip(LEADS, odd, strict=True) if is_odd)
            failures.append((name, f"{where}: {named}"))
    return failures


def is_clipped(lead: npt.NDArray[np.float32], rate: int) -> bool:
    """Return whether a lead [time] in mV stays at its highest or lowest value, beyond CLIPPED_MV, for CLIPPED_S."""
    extremes = [value for value in (lead.max(), lead.min()) if abs(value) >= CLIPPED_MV]
    return any(longest_run(lead == value) >= max(CLIPPED_S * rate, 2) for value in extremes)


def longest_run(mask: npt.NDArray[np.bool_]) -> int:
    """Return the length of the longest run of true values in `mask` [time]."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return int(np.max(edges[1::2] - edges[::2], initial=0))
