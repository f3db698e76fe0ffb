"""`make gpu` on a CPU: each part alone, numbers part by part, and what a kill leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

COMMAND = Path(__file__).parent / "benchmarks" / "gpu"
pytestmark = pytest.mark.slow


def words(out: Path, part: str) -> list[str]:
    return [sys.executable, str(COMMAND), "--out", str(out), "--part", part]


def parts(out: Path) -> dict[str, Any]:
    return json.loads((out / "gpu.json").read_text())["parts"]


@pytest.mark.parametrize("part", range(1, 7))
def test_each_part_alone(tmp_path: Path, part: int) -> None:
    ended = subprocess.run(words(tmp_path, str(part)), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (number, written), *others = parts(tmp_path).items()
    assert (number, written["state"], others) == (str(part), "done", [])
    assert len(written["rows"]) > 2
    assert not [row for row in written["rows"] if row["met"] is False]
    page = (tmp_path / "gpu.md").read_text()
    assert all(row["what"] in page for row in written["rows"])


def test_a_kill_leaves_what_was_measured(tmp_path: Path) -> None:
    """Killed in part 3 with all its processes, parts 2 and 6 stay, and the rows of part 3 up to then."""
    running = subprocess.Popen(words(tmp_path, "6,2,3"), start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and running.poll() is None:
        if (tmp_path / "gpu.json").exists() and parts(tmp_path).get("3", {"rows": []})["rows"]:
            break
        time.sleep(0.2)
    assert running.poll() is None, "it ended before it could be killed"
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    left = parts(tmp_path)
    assert [left[part]["state"] for part in ("2", "3", "6")] == ["done", "cut off", "done"]
    assert left["2"]["rows"] and left["3"]["rows"] and left["6"]["rows"]


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    ended = subprocess.run(words(tmp_path, "7"), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "there are parts 1 to 6, and no 7" in ended.stderr


def test_idle_time_is_what_no_kernel_covers() -> None:
    code = "from machine import union; print(union([(0, 2), (1, 3), (5, 6), (5.5, 5.7)]))"
    env = {**os.environ, "PYTHONPATH": str(COMMAND)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(4.0, 6)"
