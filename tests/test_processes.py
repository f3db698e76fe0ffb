"""Child processes: their cores, their modules, and their end."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.processes import _quota, num_cores, own_modules, starting_children


def test_cores_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.processes._quota", lambda: math.inf)
    assert num_cores() == len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 7})
    assert num_cores() == 3
    for quota, expected in ((8.0, 3), (1.5, 2), (0.1, 1)):
        monkeypatch.setattr("bench.processes._quota", lambda quota=quota: quota)
        assert num_cores() == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, math.inf),
        ({"pod/container": "max 100000"}, math.inf),
        ({"pod/container": "150000 100000"}, 1.5),
        ({"pod/container": "max 100000", "pod": "400000 100000"}, 4.0),
        ({"pod/container": "800000 100000", "pod": "400000 100000"}, 4.0),
        ({"pod/other": "100000 100000"}, math.inf),
        ({"pod/container": "nonsense"}, math.inf),
    ],
)
def test_a_quota_is_the_least_of_all_groups_above(limits: dict[str, str], expected: float, tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("1:cpu:/elsewhere\n0::/pod/container\n")
    for group, text in limits.items():
        (tmp_path / "fs" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / group / "cpu.max").write_text(text + "\n")

    assert _quota(tmp_path / "cgroup", tmp_path / "fs") == expected
    assert _quota(tmp_path / "missing", tmp_path / "fs") == math.inf


@pytest.mark.parametrize(("prepared", "expected"), [("prepare_process()", "True False"), ("None", "False False")])
def test_the_process_of_a_command_is_fresh_once(prepared: str, expected: str) -> None:
    code = "from bench.console.environment import prepare_process; from bench.processes import use_up"
    code += f"; {prepared}; print(use_up(), use_up())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == expected


@pytest.mark.parametrize("before", [None, "", "1"])
def test_the_environment_is_put_back(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONSAFEPATH", before)

    with own_modules():
        assert os.environ["PYTHONSAFEPATH"] == "1"

    assert os.environ.get("PYTHONSAFEPATH") == before


PARENT = """
import multiprocessing, os, time
from bench.processes import end_with_parent

def child(numbers):
    end_with_parent()
    numbers.put(os.getpid())
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    numbers = context.Queue()
    process = context.Process(target=child, args=(numbers,))
    process.start()
    print(numbers.get(), flush=True)
    os._exit(0)  # without ending its child
"""


def is_running(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, tmp_path / "parent.py"]
    child = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    end = time.monotonic() + 20
    while is_running(child) and time.monotonic() < end:
        time.sleep(0.05)

    assert not is_running(child), "it would sleep for ten minutes"


def test_children_do_not_answer_ctrl_c_and_this_process_does_again() -> None:
    before, main = signal.pthread_sigmask(signal.SIG_BLOCK, ()), sys.modules["__main__"]
    with starting_children():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert sys.modules["__main__"] is not main

    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before and signal.SIGINT not in before
    assert sys.modules["__main__"] is main
