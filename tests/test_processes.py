"""Child processes: their cores, their modules, and their end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.processes import num_cores, own_modules


def test_cores_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert num_cores() == len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 7})
    assert num_cores() == 3


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
