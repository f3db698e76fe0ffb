"""Checkpoints are written whole, two are kept, and a damaged one is passed over."""

import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.errors import BenchError, PluginError
from bench.files import this_machine
from bench.results.identity import other_code
from bench.training.checkpoint import Checkpoints


def checkpoints(folder: Path, notes: list[str] | None = None, writes: bool = True) -> Checkpoints:
    return Checkpoints(folder, writes=writes, note=(notes if notes is not None else []).append)


def state(epoch: int) -> dict[str, object]:
    return {"epoch": epoch, "model": {"weight": torch.full((1000,), float(epoch))}, "best_score": float("-inf")}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_state_comes_back(tmp_path: Path) -> None:
    assert checkpoints(tmp_path).newest() is None
    for epoch in (1, 2, 3):
        checkpoints(tmp_path).save(state(epoch))  # each by a new process, so to say

    found = checkpoints(tmp_path).newest()

    assert found is not None and found["epoch"] == 3 and found["best_score"] == float("-inf")
    assert torch.equal(found["model"]["weight"], torch.full((1000,), 3.0))
    assert files(tmp_path) == ["checkpoint-0002.pt", "checkpoint-0003.pt"]


def test_the_ten_thousandth_is_newer_than_those_before(tmp_path: Path) -> None:
    checkpoints(tmp_path).save(state(1))
    (tmp_path / "checkpoint-0001.pt").rename(tmp_path / "checkpoint-9998.pt")
    for epoch in (2, 3):
        checkpoints(tmp_path).save(state(epoch))

    found = checkpoints(tmp_path).newest()
    assert found is not None and found["epoch"] == 3
    assert files(tmp_path) == ["checkpoint-10000.pt", "checkpoint-9999.pt"]


def test_what_other_code_left_is_not_gone_on_from(tmp_path: Path) -> None:
    def written_by(notes: list[str], **code: str) -> Checkpoints:
        return Checkpoints(
            tmp_path, writes=True, note=notes.append, code=code, other_code=lambda recorded: other_code(recorded, code)
        )

    code, notes = {"method": "m", "backbone": "b", "harness": "h"}, list[str]()
    before = written_by(notes, **code)
    for epoch in (1, 2):
        before.save(state(epoch))
    found = written_by(notes, **code).newest()
    assert found is not None and found["epoch"] == 2 and not notes
    after = written_by(notes, **{**code, "harness": "another"})

    assert after.newest() is None
    assert notes == ["harness: changed since this run was interrupted; it starts again"], "once"
    after.save(state(1))
    found = after.newest()
    assert found is not None and found["epoch"] == 1
    assert before.newest() is not None, "the one of the two that is its own"
    assert len(notes) == 1


def test_other_files_and_folders_with_a_similar_name_are_left_alone(tmp_path: Path) -> None:
    """Such as what a program that synchronises files leaves."""
    checkpoints(tmp_path).save(state(1))
    for name in ("checkpoint-x.pt", "checkpoint-0009 (1).pt"):
        (tmp_path / name).write_bytes((tmp_path / "checkpoint-0001.pt").read_bytes())
    (tmp_path / "checkpoint-0005.pt").mkdir()
    checkpoints(tmp_path).save(state(2))

    found = checkpoints(tmp_path).newest()
    assert found is not None and found["epoch"] == 2
    assert len(files(tmp_path)) == 5


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "flipped"])
def test_a_damaged_checkpoint_falls_back_and_says_so(tmp_path: Path, damage: str) -> None:
    written = checkpoints(tmp_path)
    for epoch in (1, 2, 3):
        written.save(state(epoch))
    newest = tmp_path / "checkpoint-0003.pt"
    content = bytearray(newest.read_bytes())
    if damage == "flipped":  # one bit of a weight, which torch.load itself does not notice
        at = content.index(torch.full((4,), 3.0).numpy().tobytes())
        content[at + 40] ^= 1
        newest.write_bytes(content)
        torch.load(newest, weights_only=True)
    else:
        newest.write_bytes({"truncated": bytes(content[: len(content) // 2]), "empty": b"", "text": b"no zip"}[damage])
    notes: list[str] = []
    resumed = checkpoints(tmp_path, notes)

    found = resumed.newest()

    assert found is not None and found["epoch"] == 2
    assert notes == ["checkpoint-0003.pt is damaged and is not used"]
    resumed.save(state(3))
    assert files(tmp_path) == ["checkpoint-0002.pt", "checkpoint-0004.pt"], "the damaged one is not one of the two"


@pytest.mark.parametrize(
    ("held", "kind"),
    [(np.float64(0.1), "numpy._core.multiarray.scalar"), (Path("x"), "pathlib")],
    ids=["number", "path"],
)
def test_a_checkpoint_that_could_not_be_loaded_stops_the_run(tmp_path: Path, held: object, kind: str) -> None:
    checkpoints(tmp_path).save(state(1))
    written = checkpoints(tmp_path)

    with pytest.raises(PluginError, match=rf"could not be loaded, .* batch\.state holds [^;]*{kind}") as caught:
        written.save({"optimizer": {"param_groups": [{"lr": held}]}})

    assert "\n" not in str(caught.value)
    assert files(tmp_path) == ["checkpoint-0001.pt"], "the one before is still there"


def test_the_first_checkpoint_of_each_phase_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, load = list[object](), torch.load
    monkeypatch.setattr(torch, "load", lambda path, **options: read.append(path.name) or load(path, **options))
    written = checkpoints(tmp_path)
    for epoch in (1, 2, 3, 4):
        if epoch == 3:
            written.phase_begins()
        written.save(state(epoch))

    assert read == ["checkpoint-0001.pt", "checkpoint-0003.pt"]


def test_nothing_readable_means_from_the_start(tmp_path: Path) -> None:
    notes: list[str] = []
    for number in (1, 2):
        (tmp_path / f"checkpoint-{number:04d}.pt").write_bytes(b"\0")

    assert checkpoints(tmp_path, notes).newest() is None
    assert len(notes) == 2


def test_a_write_that_was_killed_is_never_seen(tmp_path: Path) -> None:
    checkpoints(tmp_path).save(state(1))
    (tmp_path / f".checkpoint-0002.pt.{this_machine()}0123abcd.part").write_bytes(b"half")

    found = checkpoints(tmp_path).newest()
    assert found is not None and found["epoch"] == 1
    checkpoints(tmp_path).save(state(2))
    assert files(tmp_path) == ["checkpoint-0001.pt", "checkpoint-0002.pt"]


def test_only_one_rank_writes(tmp_path: Path) -> None:
    checkpoints(tmp_path, writes=False).save(state(1))

    assert files(tmp_path) == []


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path) -> None:
    written = checkpoints(tmp_path)
    written.save(state(1))
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(BenchError, match=r"could not write a checkpoint to .*free some space") as caught:
            written.save(state(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert "\n" not in str(caught.value)
    assert files(tmp_path) == ["checkpoint-0001.pt"]
    found = checkpoints(tmp_path).newest()
    assert found is not None and found["epoch"] == 1


def test_seconds_of_earlier_attempts_and_of_earlier_runs_are_counted(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path, writes=True, note=print)
    first.count(1000.0)
    first.count(-5.0)
    first.save({"step": 1})

    second = Checkpoints(tmp_path, writes=True, note=print)
    assert second.run_seconds() < 500
    assert second.newest() is not None
    assert 1000 <= second.run_seconds() < 1500
