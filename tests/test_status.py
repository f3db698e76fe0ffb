"""The state of each cell is what its files say, also while they change, and whatever files others leave there."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import DataError
from bench.files import write_whole
from bench.results.failures import Failure
from bench.results.prune import prune
from bench.results.result import load_head
from bench.results.run_folder import RunFolder, is_locked
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


def test_a_failure_on_another_data_set_hides_no_unfinished_run(tmp_path: Path) -> None:
    Failure.now("bench run", "test", "a reason", "", "mine-1a2b3c4d").write(tmp_path / "form/a.failed")
    for number, data in enumerate(("mine-1a2b3c4d", "other-1.0", "")):  # an older log names no data set
        begins = json.dumps({"event": "begins", "command": "bench run", "data": data})
        begin(tmp_path / f"form/a-ft-seed0-0000000{number}.unfinished", begins)

    assert [(cell.state, cell.data) for cell in survey(tmp_path)] == [
        ("unfinished", "other-1.0"),
        ("failed", "mine-1a2b3c4d"),
    ]


def test_a_failure_on_another_data_set_stands_beside_a_result(tmp_path: Path) -> None:
    published = next((Path(__file__).parent.parent / "leaderboards/ptb-xl-1.0.3/results/all").iterdir())
    shutil.copytree(published, tmp_path / "all" / published.name)
    command = load_head(published)["cell"]["command"]
    for name in ("", "ptb-xl-1.0.3", "synthetic-1a2b3c4d"):  # an older file names no data set
        Failure.now(command, "test", f"on {name}", "", name).write(tmp_path / f"all/{name}.failed")

    finished, failed = sorted(survey(tmp_path), key=lambda cell: cell.state != "stale")
    assert (finished.data, finished.path.name) == ("ptb-xl-1.0.3", published.name)
    assert (failed.state, failed.reason, failed.data) == ("failed", "on synthetic-1a2b3c4d", "synthetic-1a2b3c4d")


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


NAME = "net-lp-seed0-0123abcd"
BEGINS = b'{"event": "begins", "command": "bench run --task form"}\n'
EPOCH = b'{"event": "epoch", "phase": "probe", "epoch": 3}\n'


@pytest.mark.parametrize(
    ("log", "command", "where"),
    [
        (BEGINS + EPOCH, "bench run --task form", "probe, epoch 3"),
        (BEGINS + EPOCH + b'{"event": "epo', "bench run --task form", "probe, epoch 3"),
        (BEGINS + EPOCH[:-10], "bench run --task form", ""),
        (BEGINS[:30], "", ""),
        (b"[1]\n3\nnull\n{}\n" + BEGINS, "bench run --task form", ""),
        (b'{"event": "begins"}\n{"event": "epoch"}\n', "", ", epoch "),
        (b'{"event": ["begins"], "command": 3}\n', "", ""),
        (b"\xff\xfe\x00\n" + BEGINS, "bench run --task form", ""),
        (b"[" * 100_000 + b"\n" + b"1" * 5000 + b"\n" + BEGINS, "bench run --task form", ""),
        (b"", "", ""),
    ],
)
def test_a_log_of_broken_lines_says_what_its_whole_lines_say(
    tmp_path: Path, log: bytes, command: str, where: str
) -> None:
    folder = tmp_path / "form" / f"{NAME}.unfinished"
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_bytes(log)

    (cell,) = survey(tmp_path)

    assert (cell.state, cell.command, cell.reason) == ("unfinished", command, where)


def _link(path: Path) -> None:
    path.symlink_to(path.name)


FOREIGN: dict[str, Callable[[Path], object]] = {
    f"{NAME}.failed": _link,
    "net-lp-seed1-0123abcd.failed": Path.mkdir,
    "net-lp-seed2-0123abcd.unfinished": Path.touch,
    "net\nfailed: x-0123abcd.failed": Path.touch,
    "net-lp-seed3-\udce9-0123abcd.failed": lambda path: path.write_bytes(b"\xff\xfe"),
    ".net-lp-seed4-0123abcd.lock": Path.mkdir,
    "itself": lambda path: path.symlink_to("."),
    "above": lambda path: path.symlink_to(".."),
    "nothing": lambda path: path.symlink_to("not there"),
    ".hidden.failed": Path.touch,
}


def test_files_of_others_and_links_in_a_circle_end_neither_status_nor_prune(tmp_path: Path) -> None:
    for name, make in FOREIGN.items():
        make(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")

    states = {cell.path.name: cell for cell in survey(tmp_path)}
    prune(tmp_path, weights=True, unfinished=True)

    assert {cell.state for cell in states.values()} == {"failed"}
    assert states.keys() == {f"{NAME}.failed", "net\nfailed: x-0123abcd.failed", "net-lp-seed3-\udce9-0123abcd.failed"}
    assert "cannot be read: Too many levels of symbolic links" in states[f"{NAME}.failed"].reason


def test_prune_removes_nothing_behind_a_link(tmp_path: Path) -> None:
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    for folder in (runs, elsewhere):
        folder.mkdir()
    for name in ("result.json", "weights.pt"):
        (elsewhere / name).touch()
    for name in (NAME, f"{NAME}.unfinished", f".{NAME}.old"):
        (runs / name).symlink_to(elsewhere)

    prune(runs, weights=True, unfinished=True)

    assert sorted(path.name for path in elsewhere.iterdir()) == ["result.json", "weights.pt"]
    assert len(list(runs.iterdir())) == 3


def test_a_lock_that_cannot_be_asked_counts_as_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lustre without `-o flock`: a run there may be at work, so `prune` leaves it alone."""

    def absent(handle: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    write_whole(tmp_path / ".net.lock", "")
    monkeypatch.setattr(fcntl, "flock", absent)
    assert is_locked(tmp_path / ".net.lock")
    assert not is_locked(tmp_path / ".other.lock")


def test_a_lock_that_cannot_be_opened_counts_as_held(tmp_path: Path) -> None:
    """As another user's does who lets nobody read it; here a link to itself, since root may read all."""
    lock = tmp_path / ".net.lock"
    lock.symlink_to(lock)
    assert is_locked(lock)


def test_a_lock_that_may_not_be_written_can_be_asked(tmp_path: Path) -> None:
    lock = tmp_path / ".net.lock"
    assert not is_locked(lock)
    write_whole(lock, "")
    lock.chmod(0o444)
    assert not is_locked(lock)
    assert list(tmp_path.iterdir()) == [lock]
