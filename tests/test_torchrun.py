"""Ranks are started on this machine, and what they die of is said once."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import ERROR_FILE, BenchError
from bench.launch.torchrun import SIGNALS, Node, launch_ranks, run_on_ranks


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


@pytest.mark.slow
def test_torch_leaves_this_process_its_signals() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    launch_ranks(1, print, ("a rank",), Node())

    assert {number: signal.getsignal(number) for number in SIGNALS} == before


ON_A_NODE = """
import sys
from pathlib import Path

from bench.errors import BenchError
from bench.launch.slurm import Lead, follow
from bench.launch.torchrun import Node

number, endpoint, rounds = sys.argv[1:]
node = Node(number=int(number), size=2, endpoint=endpoint, run_id="test")
if node.number:
    follow(node, 1, Path(rounds))
else:
    words = ["run", "--task=superdiag", "--arch=prevalence", "--method=lp(probe_epochs=1)", f"--runs={rounds}/runs"]
    try:
        print(Lead(node, 1, Path(rounds))(words))
    except BenchError as error:
        print(error)
    (Path(rounds) / "round-1").write_text("[]")
"""


@pytest.mark.slow
@pytest.mark.parametrize("mistaken", [0, 1])
def test_ranks_that_fail_on_one_node_end_those_of_the_other(mistaken: int, demo_set: Path, tmp_path: Path) -> None:
    """The data set is missing on one node. The other's rank would wait for it for twelve hours."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        endpoint = f"localhost:{free.getsockname()[1]}"

    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", ON_A_NODE, str(number), endpoint, str(tmp_path)],
            env={**os.environ, "BENCH_DATA": str(tmp_path / "nowhere" if number == mistaken else demo_set)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (0, 1)
    ]
    try:
        said = [node.communicate(timeout=120)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()

    assert [node.returncode for node in nodes] == [0, 0]
    assert said[0].strip().startswith("ranks of node 1 failed: no dataset" if mistaken else "no dataset"), said
