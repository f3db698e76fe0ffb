"""Readers of data sets enter by one door, and the older two give the same fingerprints as before it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import wfdb

from bench.data.contract import check_dataset
from bench.data.datasets import load_records
from bench.data.datasets.folder import make_records
from bench.data.datasets.held import hold
from bench.data.formats import FORMATS
from bench.data.records import Records
from bench.data.tables import TextTable
from bench.data.tasks import find_task, label_table, tasks_of
from bench.errors import DataError, PluginError
from bench.registry.registry import _REGISTRY, register_dataset, registry

CPSC = [
    *("164889003", "270492004", "164909002", "426783006", "284470004"),
    *("164884008", "59118001", "429622005", "164931005"),
]
"""SNOMED CT codes of the nine labels."""
PTB_XL = {
    "all": "6bb55f941f1e",
    "diag": "8f43a293f787",
    "subdiag": "c05daf3ded29",
    "superdiag": "99df165d7e2a",
    "form": "fd190402c213",
    "rhythm": "660e9b4289b7",
}
"""Task -> first digits of its fingerprint on version 1.0.3, as in the published results."""


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    registry()
    before = dict(_REGISTRY.plugins)
    yield
    _REGISTRY.plugins = before


@pytest.mark.ptbxl
def test_ptb_xl_has_the_fingerprints_that_it_had(ptbxl: Path) -> None:
    records = load_records(ptbxl)
    if records.name != "ptb-xl-1.0.3":
        pytest.skip(f"BENCH_DATA holds {records.name}")
    found = {task: label_table(records, find_task(task, records)).fingerprint[:12] for task in PTB_XL}

    assert found == PTB_XL
    assert records.licence == "CC BY 4.0" and "10.13026/kfzx-aw45" in records.source


def test_cpsc2018_has_the_fingerprint_and_folds_that_it_had(tmp_path: Path) -> None:
    """Values of the version that had no door."""
    for at in range(300):
        codes = dict.fromkeys((CPSC[at * at % 9], CPSC[at * 7 % 9])[: 1 + (at % 5 == 0)])
        (tmp_path / f"A{at + 1:04}.hea").write_text(f"A{at + 1:04} 12 500 5000\n#Dx: {','.join(codes)}\n")
    records = load_records(tmp_path)

    assert records.name == "cpsc2018-own-folds-1fdeb09a"
    assert label_table(records, find_task("cpsc2018")).fingerprint == (
        "77564958299c36ec146b3639ca67303f67a4a3f253fb1b568bc0a36232e12b42"
    )


def test_ours_enter_by_the_door(demo_set: Path) -> None:
    names = [plugin.name for plugin in registry().of_kind("dataset")]
    assert names == ["cpsc2018", "ptb-xl"]
    assert load_records(demo_set).licence == ""  # a synthetic set is nobody's data


def reader(folder: Path) -> Records | None:
    """Thirty records where the folder holds mine.txt."""
    if not (folder / "mine.txt").is_file():
        return None
    path = folder / "mine.txt"
    rows = [(f"r{at}", f"p{at}", ("A", "B", "A;B")[at % 3]) for at in range(30)]
    table = TextTable(path, ("record", "patient", "labels"), rows)
    labels = TextTable(path, ("code", "group"), [("A", "x"), ("B", "x")])
    return make_records(folder, table, labels, name="mine", rate=100, format=FORMATS["wfdb"])


def test_a_strangers_reader_reads_its_folder_and_no_other(tmp_path: Path, demo_set: Path) -> None:
    register_dataset("mine")(reader)
    with pytest.raises(DataError, match="no data set known here"):
        load_records(tmp_path)
    (tmp_path / "mine.txt").touch()
    records = load_records(tmp_path)

    assert (records.dataset, len(records)) == ("mine", 30)
    assert [task.name for task in tasks_of(records)] == ["all", "x"]
    assert load_records(demo_set).dataset == "ptb-xl"


@pytest.mark.parametrize("wrong", [lambda folder: "records", lambda folder: reader(folder)])
def test_a_reader_that_returns_something_else_is_named(tmp_path: Path, wrong: object) -> None:
    (tmp_path / "mine.txt").touch()
    register_dataset("other")(wrong)  # type: ignore[type-var]
    with pytest.raises(PluginError, match=r"data set 'other' of .* expected None or bench.plugin.Records with"):
        load_records(tmp_path)


def test_the_contract_names_what_a_reader_gets_wrong(demo_set: Path) -> None:
    findings = {finding.check: finding for finding in check_dataset(demo_set)}
    assert not [finding for finding in findings.values() if finding.fault]


def faults(folder: Path) -> list[str]:
    return [finding.fault for finding in check_dataset(folder) if finding.fault]


def test_the_contract_finds_faults_of_a_folder(tmp_path: Path) -> None:
    register_dataset("mine")(reader)
    assert faults(tmp_path) and "no data set known here" in faults(tmp_path)[0]

    (tmp_path / "mine.txt").touch()
    (message,) = faults(tmp_path)
    assert "has no signals; the first would be" in message and "r0.hea" in message


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("strat_fold", 11, "strat_fold has [11], expected 1 to 10"),
        ("patient", "p1", "the test would leak"),
        ("scp_codes", {"C": 100.0}, "codes that the table of labels lacks: C"),
    ],
)
def test_the_contract_finds_faults_of_a_readers_records(tmp_path: Path, column: str, value: object, words: str) -> None:
    def wrong(folder: Path) -> Records | None:
        records = reader(folder)
        if records is not None:
            for row in (int((records.strat_fold < 9).argmax()), int((records.strat_fold == 10).argmax())):
                records.table.at[records.table.index[row], column] = value
        return records

    register_dataset("mine")(wrong)
    (tmp_path / "mine.txt").touch()

    assert any(words in fault for fault in faults(tmp_path)), faults(tmp_path)


def test_a_rate_that_the_files_contradict_is_found(demo_set: Path, copy_first, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    copy_first(40, tmp_path / "set")
    for header in (tmp_path / "set").rglob("*.hea"):
        header.write_text(header.read_text().replace(" 12 100 ", " 12 250 "))

    assert any("says 250 Hz, and the data set 100 Hz" in fault for fault in faults(tmp_path / "set"))


@pytest.mark.parametrize("seconds", [None, 2.0])
def test_records_of_several_lengths_need_one_to_be_cut_to(
    demo_set: Path,
    copy_first,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    seconds: float | None,
) -> None:
    copy_first(40, tmp_path)
    header = max((tmp_path / "records100").rglob("*.hea"))
    record = wfdb.rdrecord(str(header.with_suffix("")), sampto=300, physical=False)
    record.wrsamp(write_dir=str(header.parent))

    found = faults(hold(replace(load_records(tmp_path), seconds=seconds)))

    assert len(found) == (seconds is None)
    for fault in found:
        assert re.search(rf" lasts 10 s and \S*{header.stem}\S* 3 s, and all records must have one length", fault), (
            fault
        )
        assert fault.endswith("say seconds= in its Records or make_records, to which each is cut or padded")
