"""Ranks are started on this machine, and what they die of is said once."""

import os
import socket
from pathlib import Path

import pytest

from bench.errors import ERROR_FILE, BenchError
from bench.launch.torchrun import Node, launch_ranks, run_on_ranks


def _write_rank(folder: str) -> None:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    (Path(folder) / os.environ["RANK"]).write_text(" ".join(os.environ[name] for name in names))


@pytest.mark.slow
def test_each_rank_knows_its_number(tmp_path: Path) -> None:
    launch_ranks(3, _write_rank, (str(tmp_path),), Node())

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {str(n): f"{n} 3 {n}" for n in range(3)}


@pytest.mark.slow
def test_a_mistake_of_the_user_is_said_once_for_all_ranks() -> None:
    with pytest.raises(BenchError, match=r"^unknown method 'nonsense'"):
        run_on_ranks(2, ["run", "--method", "nonsense", "--task", "superdiag", "--arch", "net1d_mini"])
    assert ERROR_FILE not in os.environ


@pytest.mark.slow
def test_two_nodes_meet_and_a_missing_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.launch.torchrun.NODE_TIMEOUT", 3)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        endpoint = f"localhost:{free.getsockname()[1]}"

    with pytest.raises(BenchError, match=rf"the 2 machines of this run did not meet at {endpoint}"):
        run_on_ranks(1, ["run", "--help"], Node(number=0, size=2, endpoint=endpoint))
