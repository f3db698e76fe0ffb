"""What is removed is what was asked for: never a result, a running cell or a stranger's file."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from bench.data.datasets.ptbxl import load_records
from bench.data.prepared import prepare_signals, prepared_sets
from bench.data.signals import SignalSpec
from bench.errors import BenchError, DataError
from bench.files import this_machine, whole_file
from bench.results.prune import prune
from bench.results.result import RESULT
from bench.results.run_folder import RunFolder, lock_of


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A finished run with weights, an interrupted one, and what kills have left."""
    home = tmp_path / "superdiag"
    for name, files in {
        "net-ft-seed0-00000001": {RESULT: b"{}", "weights.pt": bytes(1000), "checkpoint-0001.pt": bytes(100)},
        "net-ft-seed0-00000002.unfinished": {"checkpoint-0001.pt": bytes(10)},
        ".net-ft-seed0-00000003.old": {RESULT: b"{}"},
        "notes": {"weights.pt": b"mine"},
    }.items():
        (home / name).mkdir(parents=True)
        for file, content in files.items():
            (home / name / file).write_bytes(content)
    return tmp_path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without prepared signals."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BENCH_CACHE", str(folder))
    return folder


def left(runs: Path) -> set[str]:
    return {str(path.relative_to(runs / "superdiag")) for path in runs.rglob("*") if path.is_file()}


def test_a_dry_run_counts_and_removes_nothing(runs: Path) -> None:
    before = left(runs)
    found = {use.name: (use.num, use.size, use.removed) for use in prune(runs, weights=True, dry_run=True)}

    assert found.pop("plans") == found.pop("signals") == (0, 0, False)
    assert found == {"left over": (2, 102, False), "weights": (1, 1000, False), "unfinished": (1, 10, False)}
    assert left(runs) == before


def test_leftovers_go_and_the_only_result_of_a_cell_comes_back(runs: Path) -> None:
    rows = [use.as_row() for use in prune(runs)]

    assert [(row["name"], row["removed"]) for row in rows] == [
        ("left over", "yes"),
        ("weights", "no"),
        ("unfinished", "no"),
        ("plans", "no"),
        ("signals", "no"),
    ]
    assert left(runs) == {
        "net-ft-seed0-00000001/result.json",
        "net-ft-seed0-00000001/weights.pt",
        "net-ft-seed0-00000002.unfinished/checkpoint-0001.pt",
        "net-ft-seed0-00000003/result.json",
        "notes/weights.pt",
    }


def test_what_killed_writers_have_left_goes_and_what_is_being_written_stays(runs: Path) -> None:
    """Once none was found: names of temporary files had become longer. A sweep holds no cell's lock for a failure."""
    task, cell = runs / "superdiag", "net-ft-seed0-00000001"
    parts = [task / f".{cell}.failed", task / cell / f".{RESULT}", runs / f".plans/1-cells-0123abcd/.{cell}.json"]
    another = f"{int(this_machine(), 16) ^ 1:04x}"
    ours, others = (
        [path.with_name(f"{path.name}.{machine}01234567.part") for path in parts]
        for machine in (this_machine(), another)
    )
    for path in (*ours, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(7))
    failed = task / "net-ft-seed0-00000004.failed"
    with whole_file(failed) as stream:
        stream.write(b"Traceback")
        (dry,) = (use for use in prune(runs, dry_run=True) if use.name == "left over")
        (use,) = (use for use in prune(runs) if use.name == "left over")

    assert (dry.num, dry.size) == (use.num, use.size) == (5, 102 + 3 * 7)
    assert not any(path.exists() for path in ours) and all(path.exists() for path in others), "it may be written there"
    assert failed.read_bytes() == b"Traceback"


def test_weights_and_unfinished_runs_go_if_asked(runs: Path) -> None:
    prune(runs, weights=True, unfinished=True)

    assert left(runs) == {
        "net-ft-seed0-00000001/result.json",
        "net-ft-seed0-00000003/result.json",
        "notes/weights.pt",
    }


def test_a_running_cell_keeps_its_files(runs: Path) -> None:
    with RunFolder(runs / "superdiag" / "net-ft-seed0-00000002", "test", True):
        found = {use.name: (use.num, use.num_running) for use in prune(runs, unfinished=True)}

    assert found["unfinished"] == (0, 1)
    assert "net-ft-seed0-00000002.unfinished/checkpoint-0001.pt" in left(runs)


def test_prepared_signals_go_if_asked_but_not_under_a_run(runs: Path, cache: Path, demo_set: Path) -> None:
    """Once they stayed for ever: 2.6 GB a set of PTB-XL at 500 Hz, and again after the data set was moved."""
    used, unused = (prepare_signals(load_records(demo_set), SignalSpec(rate, "none")) for rate in (100, 50))
    before, size = used.values[3].copy(), sum(file.stat().st_size for file in (cache / unused.entry).iterdir())
    (killed := cache / f".{unused.entry}.{this_machine()}01234567.part").mkdir()
    del unused

    found = {use.name: use for use in prune(runs, dry_run=True)}["signals"]
    assert (found.num, found.size, found.num_running, found.removed) == (1, size, 1, False)
    assert len(prepared_sets()) == 2
    found = {use.name: use for use in prune(runs, signals=True)}["signals"]
    assert (found.num, found.num_running, found.removed) == (1, 1, True)
    assert [entry.name for entry in prepared_sets()] == [used.entry] and not killed.exists()
    assert np.array_equal(used.values[3], before)
    del used
    prune(runs)
    assert len(prepared_sets()) == 1, "if asked"
    prune(runs, signals=True)
    assert prepared_sets() == []


def test_a_plan_that_cannot_be_removed_is_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (plan := runs / ".plans/0-cells-0123abcd").mkdir(parents=True)
    (plan / "plan.json").write_text('{"cells": []}')
    for path in (plan / "plan.json", plan):
        os.utime(path, (0, 0))

    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(BenchError, match=r"^cannot remove .*/0-cells-0123abcd: Permission denied$"):
        prune(runs)


def test_free_locks_go(runs: Path) -> None:
    lock = lock_of(runs / "superdiag" / "net-ft-seed0-00000001")
    lock.touch()
    prune(runs)

    assert not lock.exists()
    with pytest.raises(DataError, match="no runs at"):
        prune(runs / "nowhere")
    assert json.loads((runs / "superdiag/net-ft-seed0-00000001" / RESULT).read_text()) == {}
