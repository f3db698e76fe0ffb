"""A run's folder: one process at a time, whole under its final name, and nothing left of a run that failed at once."""

import errno
from pathlib import Path

import pytest

from bench.errors import BenchError, Busy, DataError
from bench.results.elsewhere import ELSEWHERE, EVALUATION
from bench.results.result import RESULT
from bench.results.run_folder import RunFolder, is_locked, lock_of

NAME = "net-ft-seed0-0123abcd"


def test_a_locked_cell_is_left_to_its_process(tmp_path: Path) -> None:
    final = tmp_path / "task" / NAME
    with RunFolder(final, "test", True), pytest.raises(Busy, match=r"^another process is running this cell in "):
        RunFolder(final, "test", True).__enter__()

    late = RunFolder(final, "test", True)
    assert late.finished() is None
    with RunFolder(final, "test", True) as first:
        first.finish({"task": {"fingerprint": "f"}}, {})
    with pytest.raises(Busy, match=r"^another process has just finished this cell"), late:
        pytest.fail("it would be run twice")
    with RunFolder(final, "test", True):
        pass  # the lock is free again, and who did not ask whether it is finished may overwrite it


def test_the_folder_has_its_final_name_when_all_is_written(tmp_path: Path) -> None:
    final = tmp_path / NAME
    with RunFolder(final, "test", True) as folder:
        assert folder.path == tmp_path / f"{NAME}.unfinished"
        assert is_locked(lock_of(final))
        for name in ("weights.pt", "checkpoint-0001.pt", "log.jsonl"):
            (folder.path / name).touch()

        result = folder.finish({"task": {"fingerprint": "f"}}, {}, keep=["weights.pt"])

    assert result.folder == final
    assert not is_locked(lock_of(final))
    assert {path.name for path in final.iterdir()} == {RESULT, "weights.pt", "log.jsonl"}


def test_a_folder_in_an_unfinished_run_ends_no_finished_one(tmp_path: Path) -> None:
    """Such as the `.ipynb_checkpoints` of somebody who has looked into it; a method may write one too."""
    with RunFolder(tmp_path / NAME, "test", True) as folder:
        (folder.path / ".ipynb_checkpoints").mkdir()
        (folder.path / ".ipynb_checkpoints" / "log-checkpoint.jsonl").touch()
        (folder.path / "checkpoint-0001.pt").touch()
        result = folder.finish({"task": {"fingerprint": "f"}}, {})

    assert [path.name for path in result.folder.iterdir()] == [RESULT]


def test_a_finished_run_that_lost_its_result_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(DataError, match=f"{NAME} has lost its result.json; remove the folder to run its cell again"):
        RunFolder(tmp_path / NAME, "test", True).finished()


def test_stages_have_folders_of_their_own(tmp_path: Path) -> None:
    assert RunFolder(tmp_path / NAME, "val", True).final == tmp_path / f"{NAME}-val"


@pytest.mark.parametrize(("files", "is_left"), [([], False), (["checkpoint-0001.pt"], True)])
def test_a_failure_leaves_what_can_be_resumed(tmp_path: Path, files: list[str], is_left: bool) -> None:
    folder = RunFolder(tmp_path / NAME, "test", True).__enter__()
    for name in files:
        (folder.path / name).touch()
    folder.__exit__(ZeroDivisionError, ZeroDivisionError(), None)

    assert folder.path.exists() is is_left
    with RunFolder(tmp_path / NAME, "test", True, anew=True) as again:
        assert not any(again.path.iterdir()), "--overwrite starts from nothing"


def test_a_full_disk_is_the_users_and_a_missing_file_a_bug(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match="No space left on device; fix that and give the same command again"),
        RunFolder(tmp_path / NAME, "test", True),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), RunFolder(tmp_path / NAME, "test", True):
        raise FileNotFoundError(errno.ENOENT, "gone")


def test_a_rank_that_is_not_the_main_one_touches_nothing(tmp_path: Path) -> None:
    with RunFolder(tmp_path / NAME, "test", is_main=False):
        pass

    assert not any(tmp_path.iterdir())


def test_tests_of_other_weights_go_when_a_run_that_began_anew_ends(tmp_path: Path) -> None:
    final, document = tmp_path / NAME, {"task": {"fingerprint": "f"}, "weights_sha256": "b" * 64}
    with RunFolder(final, "test", True) as folder:
        for name in ("damaged", "other+mains=5"):
            (folder.path / ELSEWHERE / name).mkdir(parents=True)
            (folder.path / ELSEWHERE / name / EVALUATION).write_text("{")
        seen: list[bool] = []
        folder.finish(document, {}, before=lambda run: seen.append(any((run / ELSEWHERE).iterdir())))

    assert seen == [False], "before the run is tested elsewhere"
