"""The state of each cell is what its files say, also while they change."""

import json
from pathlib import Path

import pytest

from bench.errors import DataError
from bench.results.failures import Failure
from bench.results.run_folder import RunFolder
from bench.results.status import as_data, survey


def begin(folder: Path, *events: str) -> None:
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("\n".join(events))


def test_unfinished_cells_show_how_far_they_are(tmp_path: Path) -> None:
    epoch = json.dumps({"event": "epoch", "phase": "probe", "epoch": 3})
    begins = json.dumps({"event": "begins", "command": "bench run --seed 1"})
    begin(tmp_path / "form/a-ft-seed0-00000001.unfinished", begins, epoch, '{"event": "epo')
    begin(tmp_path / "form/a-ft-seed0-00000002-val.unfinished", begins)
    (tmp_path / "form/a-ft-seed0-00000003.unfinished").mkdir()

    with RunFolder(tmp_path / "form/a-ft-seed0-00000002", "val", True):
        cells = survey(tmp_path)

    assert [(cell.state, cell.command, cell.reason) for cell in cells] == [
        ("unfinished", "bench run --seed 1", "probe, epoch 3"),
        ("running", "bench run --seed 1", ""),
        ("unfinished", "", ""),
    ]


def test_a_failed_cell_counts_once_and_not_while_it_runs_again(tmp_path: Path) -> None:
    begins = json.dumps({"event": "begins", "command": "bench run"})
    begin(tmp_path / "form/a-ft-seed0-00000001.unfinished", begins)
    Failure.now("bench run", "test", "a reason", "").write(tmp_path / "form/a.failed")
    Failure.now("bench run", "val", "another", "").write(tmp_path / "form/b.failed")

    assert [(cell.state, cell.reason) for cell in survey(tmp_path)] == [("failed", "a reason"), ("failed", "another")]
    with RunFolder(tmp_path / "form/a-ft-seed0-00000001", "test", True):
        assert [cell.state for cell in survey(tmp_path)] == ["running", "failed"]


def test_a_damaged_result_is_failed_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "form/a-ft-seed0-00000001").mkdir(parents=True)
    (tmp_path / "form/a-ft-seed0-00000001/result.json").write_text('{"schema": 1')

    (cell,) = survey(tmp_path)

    assert cell.state == "failed"
    assert "result.json is damaged" in cell.reason


def test_counts_are_by_task_and_in_sum(tmp_path: Path) -> None:
    for task, num in (("form", 2), ("rhythm", 1)):
        for number in range(num):
            begin(tmp_path / task / f"a-ft-seed0-0000000{number}.unfinished")

    data = as_data(survey(tmp_path))

    assert [(row["name"], row["unfinished"], row["done"]) for row in data["tasks"]] == [
        ("form", 2, 0),
        ("rhythm", 1, 0),
        ("sum", 3, 0),
    ]
    assert len(data["cells"]) == 3
    with pytest.raises(DataError, match="no runs at"):
        survey(tmp_path / "nowhere")
