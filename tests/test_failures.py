"""Why a cell failed is written for programs and for people, and read back whatever became of the file."""

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.results.failures import Failure


def test_a_failure_is_read_back_as_written(tmp_path: Path) -> None:
    failure = Failure.now(
        "bench run --seed 1",
        "test",
        "a reason\n  of two: lines",
        "Traceback\n\nlast: line\n",
        "ptb-xl-1.0.3",
        "DataError",
    )
    failure.write(tmp_path / "task" / "net.failed")

    assert Failure.read(tmp_path / "task" / "net.failed") == failure
    assert failure.reason == "a reason of two: lines"
    assert "\ndata: ptb-xl-1.0.3\n\nTraceback" in (tmp_path / "task" / "net.failed").read_text()
    assert failure.at.endswith("+00:00"), "UTC"


@pytest.mark.parametrize("content", [b"", b"reason: x", b"\xff\xfe\x00", b"reason: x\nstage\n\ndetails"])
def test_a_damaged_file_has_empty_fields(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.failed").write_bytes(content)

    failure = Failure.read(tmp_path / "net.failed")

    assert failure.reason == ("x" if b"reason" in content else "")
    assert (failure.command, failure.at) == ("", "")


def test_divergence_is_told_from_the_type_of_the_error() -> None:
    """Once from the first words of its text, which any plugin may choose; of files without a type it still is."""
    words = "training diverged in phase probe"

    for kind, diverged in (("Diverged", True), ("", True), ("BenchError", False)):
        assert Failure.now("bench run", "test", words, "", kind=kind).diverged is diverged
    assert not Failure.now("bench run", "test", "out of memory", "").diverged


def test_the_reason_is_not_lost_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(BenchError, match=r"cannot write .*/file/net.failed: .*; the cell failed: out of memory"):
        Failure.now("bench run", "test", "out of memory", "").write(tmp_path / "file" / "net.failed")
