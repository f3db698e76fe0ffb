"""Readers of data sets enter by one door, and the older two give the same fingerprints as before it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.contract import check_dataset
from bench.data.datasets import load_records
from bench.data.datasets.folder import make_records
from bench.data.formats import FORMATS, SignalFile, SignalFormat, Stored
from bench.data.leads import LEADS
from bench.data.prepared import prepare_signals
from bench.data.records import Records
from bench.data.signals import SignalSpec
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


def fails(folder: Path) -> Records | None:
    raise KeyError("fs")


def test_a_reader_that_fails_on_a_foreign_folder_stops_no_other(tmp_path: Path, demo_set: Path) -> None:
    register_dataset("fails")(fails)
    register_dataset("mine")(reader)
    (tmp_path / "mine.txt").touch()

    assert load_records(tmp_path).dataset == "mine"
    assert load_records(demo_set).dataset == "ptb-xl"


def test_a_reader_that_fails_is_named_where_no_other_reads(tmp_path: Path) -> None:
    register_dataset("fails")(fails)
    with pytest.raises(PluginError) as caught:
        load_records(tmp_path)

    message = str(caught.value)
    assert f"{tmp_path} is no data set known here (cpsc2018, fails, ptb-xl)" in message
    assert f"data set 'fails' of {__name__} fails on {tmp_path} (KeyError: 'fs'), expected None or" in message
    assert faults(tmp_path) == [message]


def cpsc_headers(folder: Path, dx: str) -> None:
    for at in range(30):
        (folder / f"A{at + 1:04}.hea").write_text(f"A{at + 1:04} 12 500 5000\n#Dx: {dx}\n")


def test_a_plugin_reads_what_ours_refuses(tmp_path: Path) -> None:
    """Headers named as those of CPSC2018 of another data set, and a table of PTB-XL's name with other columns."""
    (tmp_path / "a").mkdir()
    cpsc_headers(tmp_path / "a", "426177001")
    with pytest.raises(DataError, match="'426177001' is none of the nine of CPSC2018"):
        load_records(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/A0001.mat").touch()
    with pytest.raises(DataError, match=r"CPSC2018 as first released .*, which is not read"):
        load_records(tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/ptbxl_database.csv").write_text("record,label\n1,A\n")
    register_dataset("mine")(reader)
    for folder in map(tmp_path.joinpath, "abc"):
        with pytest.raises(DataError):
            load_records(folder)
        (folder / "mine.txt").touch()
        assert load_records(folder).dataset == "mine"


def test_a_plugin_that_refuses_the_folder_too_is_heard(tmp_path: Path) -> None:
    def refuses(folder: Path) -> Records | None:
        raise DataError(f"{folder} lacks mine.csv")

    cpsc_headers(tmp_path, "426177001")
    register_dataset("mine")(refuses)
    with pytest.raises(DataError, match=r"none of the nine of CPSC2018 .* lacks mine.csv"):
        load_records(tmp_path)


def test_two_readers_of_one_folder_are_named(tmp_path: Path) -> None:
    cpsc_headers(tmp_path, CPSC[0])
    assert load_records(tmp_path).dataset == "cpsc2018"
    (tmp_path / "mine.txt").touch()
    register_dataset("mine")(reader)
    words = rf"is read as data set cpsc2018 of bench.data.datasets.cpsc2018 and as mine of {__name__}; expected one"
    with pytest.raises(DataError, match=words):
        load_records(tmp_path)


def test_no_plugin_is_imported_where_only_ours_are_installed(tmp_path: Path) -> None:
    """It would take torch along."""
    cpsc_headers(tmp_path, CPSC[0])
    code = (
        "import sys; from pathlib import Path; from bench.data.datasets import load_records; "
        "print(load_records(Path(sys.argv[1])).dataset, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cpsc2018", "False"]


def test_a_reader_whose_module_fails_to_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_REGISTRY.broken, "my_lab.reader", "ModuleNotFoundError: No module named 'xmltodict'")
    with pytest.raises(DataError, match=r"no data set known here .* Plugin my_lab.reader failed to import: ModuleNotF"):
        load_records(tmp_path)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((7, "p", "A"), "row 32, column record is 7, of type int; expected a text, as str() gives it"),
        (("r", None, "A"), "row 32, column patient is None, of type NoneType; expected a text"),
        (("r", "p", ["A"]), "row 32, column labels is ['A'], of type list; expected a text"),
        (("r", "p"), "row 32 has 2 cells for 3 columns"),
    ],
)
def test_cells_that_are_no_texts_are_refused(tmp_path: Path, row: tuple[Any, ...], words: str) -> None:
    """Such as the numbers of a JSON file."""
    rows = [(f"r{at}", f"p{at}", ("A", "B", "A;B")[at % 3]) for at in range(30)]
    table = TextTable(tmp_path / "x.json", ("record", "patient", "labels"), [*rows, row])
    labels = TextTable(tmp_path / "x.json", ("code", "group"), [("A", "x"), ("B", "x")])
    with pytest.raises(DataError, match=re.escape(words)):
        make_records(tmp_path, table, labels, name="mine", rate=100, format=FORMATS["wfdb"])


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


def leads_last(source: SignalFile) -> Stored:
    """Files of this reader hold [time, lead]."""
    return as_it_is(source)


def as_it_is(source: SignalFile) -> Stored:
    return Stored(np.load(source.file), LEADS, 100, "mV")


def twelve_samples(source: SignalFile) -> Stored:
    return Stored(np.load(source.file)[:, :12], LEADS, 100, "mV")


def without_a_key(source: SignalFile) -> Stored:
    raise KeyError("gain")


@pytest.mark.parametrize(
    ("read", "seconds", "lengths", "words"),
    [
        (as_it_is, 10.0, [1000], []),
        (as_it_is, 10.0, [1000, 600], []),
        (as_it_is, None, [1000], []),
        (
            as_it_is,
            None,
            [1000, 600],
            ["r0.npy has 10 s and ", ".npy 6 s, and all records must have the same length"],
        ),
        (twelve_samples, 10.0, [1000], ["r0.npy has 12 samples a lead, 0.12 s at 100 Hz; expected at least 1 s"]),
        (
            leads_last,
            10.0,
            [1000],
            ["returns values of the shape [1000, 12] and names 12 leads, expected [lead, time]"],
        ),
        (without_a_key, 10.0, [1000], [f"KeyError: 'gain', from what {__name__} gives"]),
    ],
)
def test_the_contract_finds_faults_of_a_plugins_signals(
    tmp_path: Path, read: Any, seconds: float | None, lengths: list[int], words: list[str]
) -> None:
    """What it passes can be prepared, and what it finds cannot, or would be nonsense."""
    rng = np.random.default_rng(0)
    for at in range(30):
        length = lengths[at % len(lengths)]
        np.save(tmp_path / f"r{at}.npy", rng.normal(0, 0.3, (length, 12) if read is leads_last else (12, length)))

    def signals(folder: Path) -> Records | None:
        records = reader(folder)
        return records and replace(records, seconds=seconds, format=SignalFormat("mine", (".npy",), read))

    register_dataset("mine")(signals)
    (tmp_path / "mine.txt").touch()
    found = faults(tmp_path)

    assert len(found) == bool(words), found
    assert all(each in found[0] for each in words), found
    if read is as_it_is and not words:
        prepare_signals(load_records(tmp_path), SignalSpec(100, "none"))
    elif read is not twelve_samples:
        with pytest.raises((DataError, KeyError)):
            prepare_signals(load_records(tmp_path), SignalSpec(100, "none"))


def test_records_without_a_column_that_all_have_are_a_fault(tmp_path: Path) -> None:
    def wrong(folder: Path) -> Records | None:
        records = reader(folder)
        return records and replace(records, table=records.table.drop(columns="patient_id"))

    register_dataset("mine")(wrong)
    (tmp_path / "mine.txt").touch()

    assert faults(tmp_path) == ["the table of its Records lacks patient_id"]
