"""Data sets that a notebook or a script holds: as a class, a function or an object, recorded and marked."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

import bench
from bench.boards.truth import Truth
from bench.data.datasets import load_records
from bench.data.datasets.held import hold, reader_facts
from bench.data.formats import SignalFile, Stored
from bench.data.opened import OpenData
from bench.data.records import Records
from bench.errors import BenchError
from bench.pages.publish import publish
from bench.results.identity import changes, code_at_hand

CELL = {"method": "lp(probe_epochs=1)", "task": "superdiag", "arch": "prevalence", "precision": "float32"}
QUIET = Console(quiet=True)

SCRIPT = """
import sys, json
from dataclasses import replace
from pathlib import Path
import bench
from bench.data.datasets import load_records

def women():
    \"\"\"The records of women alone.\"\"\"
    records = load_records(Path(sys.argv[1]))
    return replace(records, table=records.table[records.table["sex"] == 1])

result = bench.run("lp(probe_epochs=1)", "superdiag", "prevalence", data=women, precision="float32", runs=sys.argv[2])
swept = bench.sweep("lp(probe_epochs=1)", "superdiag", "prevalence", data=women, precision="float32", runs=sys.argv[2])
board = bench.leaderboard(sys.argv[2], data=women)
print(json.dumps([result.document["dataset"], swept.frame["state"].tolist(), bool(board.rows["installed"].any())]))
"""


@pytest.fixture(scope="module")
def women(demo_set: Path) -> Records:
    records = load_records(demo_set)
    return replace(records, table=records.table[records.table["sex"] == 1])


def test_a_function_of_a_script_is_a_data_set(demo_set: Path, women: Records, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(demo_set), str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    dataset, states, installed = json.loads(done.stdout.splitlines()[-1])
    assert dataset["num_records"] == len(women) < len(load_records(demo_set))
    assert dataset["name"] == women.name
    assert dataset["distribution"] == "script.py, not installed"
    source = script.read_bytes()
    assert dataset["code_sha256"] == hashlib.sha256(f"__main__ {len(source)}\n".encode() + source).hexdigest()
    assert states == ["done"] * 3
    assert not installed
    assert "which other processes cannot import, so cells run one at a time" in done.stderr


def test_records_of_unknown_code_have_the_hash_of_their_content(women: Records, tmp_path: Path) -> None:
    result = bench.run(data=women, runs=tmp_path, console=QUIET, **CELL)  # type: ignore[arg-type]

    assert result.document["dataset"]["code_sha256"] == women.content
    assert result.document["dataset"]["distribution"] == "object, not installed"
    faults = publish([result.folder], tmp_path / "boards", Truth(hold(women)))[1]
    assert any("data set is from a file that is not installed" in fault for fault in faults)
    frame = bench.misses(result, n=2, data=women)
    assert set(frame["sex"]) == {"female"}


def all_records() -> Records:
    """The data set of $HELD."""
    return load_records(Path(os.environ["HELD"]))


def test_code_that_holds_records_is_at_hand_where_they_are(
    women: Records, demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELD", str(demo_set))
    for number, data in enumerate((women, all_records)):
        result = bench.run(data=data, runs=tmp_path / str(number), console=QUIET, **CELL)  # type: ignore[arg-type]
        here = partial(code_at_hand, data=OpenData(hold(data)))
        other = {**result.document, "dataset": {**result.document["dataset"], "code_sha256": "0" * 64}}

        assert changes(result.document, here) == ""
        assert changes(other, here).endswith(" has changed since")


def read(source: SignalFile) -> Stored:
    raise NotImplementedError


def test_the_code_that_reads_signals_is_part_of_held_records(women: Records) -> None:
    other = replace(women, format=replace(women.format, read=read))

    assert reader_facts(women, hold(women))["code_sha256"] == women.content
    assert reader_facts(other, hold(other))["code_sha256"] != women.content


def test_a_class_is_called_and_its_folder_stays_its_own(demo_set: Path, tmp_path: Path) -> None:
    class Few(Records):
        def __init__(self) -> None:
            whole = load_records(demo_set)
            super().__init__(whole.folder, whole.table.head(200), whole.statements, whole.filenames)

    held = hold(Few)

    assert len(load_records(held)) == 200
    assert len(load_records(hold(Few()))) == 200
    assert len(load_records(Path(str(held)))) > 200


def test_other_data_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"data is 7: expected a folder, a bench.plugin.Records"):
        bench.run(data=7, runs=tmp_path, console=QUIET, **CELL)  # type: ignore[arg-type]
    with pytest.raises(BenchError, match=r"expected a folder"):
        bench.run(data=lambda: None, runs=tmp_path, console=QUIET, **CELL)  # type: ignore[arg-type]


def test_other_processes_cannot_have_it(women: Records, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"the data set of .*: defined in a notebook or a script, which 2 processes"):
        bench.run(data=women, nproc=2, runs=tmp_path, console=QUIET, **CELL)  # type: ignore[arg-type]


def test_a_board_names_what_is_not_installed(women: Records, tmp_path: Path) -> None:
    bench.run(data=women, runs=tmp_path, console=QUIET, **CELL)  # type: ignore[arg-type]
    board = bench.leaderboard(tmp_path, data=women)
    board.write(tmp_path / "pages")

    page = (tmp_path / "pages" / women.name / "superdiag.md").read_text()
    assert f"dataset {women.name} (object, SHA-256 {women.content[:8]})" in page
