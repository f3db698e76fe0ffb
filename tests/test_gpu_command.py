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
    """Killed in part 3 with all its processes, parts 1 and 2 stay, and the rows of part 3 up to then."""
    running = subprocess.Popen(words(tmp_path, "1,2,3"), start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and running.poll() is None:
        if (tmp_path / "gpu.json").exists() and parts(tmp_path).get("3", {"rows": []})["rows"]:
            break
        time.sleep(0.2)
    assert running.poll() is None, "it ended before it could be killed"
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    left = parts(tmp_path)
    assert {part: facts["state"] for part, facts in left.items()} == {"1": "done", "2": "done", "3": "cut off"}
    assert all(facts["rows"] for facts in left.values())


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    ended = subprocess.run(words(tmp_path, "7"), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "there are parts 1 to 6, and no 7" in ended.stderr


def test_idle_time_is_what_no_kernel_covers() -> None:
    code = "from machine import union; print(union([(0, 2), (1, 3), (5, 6), (5.5, 5.7)]))"
    env = {**os.environ, "PYTHONPATH": str(COMMAND)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(4.0, 6.0)"


def in_the_command(code: str) -> str:
    """What a script prints that imports the command's own modules."""
    path = os.pathsep.join(map(str, (COMMAND, COMMAND.parent, COMMAND.parents[2])))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_what_is_elsewhere_and_what_waits_is_counted() -> None:
    """For a device named meta, operations on tensors of the CPU are elsewhere, backwards too."""
    code = """
import torch
from part1_device import Census
with Census("meta") as census:
    torch.ones(2, device="meta") + 1
    assert not census.elsewhere
    torch.ones(2, requires_grad=True).exp().sum().backward()
    float(torch.ones(()))
print(census.elsewhere["aten.exp"], census.elsewhere["aten.mul"], census.reads)
"""
    assert in_the_command(code) == "1 1 1"


def test_each_measured_step_converts_its_weights() -> None:
    """As a step of a run does: within another autocast the second would take the first's bf16 weights."""
    code = """
import torch
from collections import Counter
from conftest import training_step
from machine import arithmetic, model
from torch.utils._python_dispatch import TorchDispatchMode
class Casts(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.num += function.overloadpacket is torch.ops.aten._to_copy
        return function(*args, **(kwargs or {}))
with arithmetic("bf16"):
    step = training_step(model("net1d_mini", torch.device("cpu")), 2, 250)
    for _ in range(2):
        with Casts() as casts:
            casts.num = 0
            step()
            print(casts.num)
"""
    first, second = in_the_command(code).split()
    assert first == second


def test_operations_of_a_step_are_three_passes_less_the_first_layers_input() -> None:
    code = """
from part3_speed import operations
forward, step = operations("ecgfounder", 5000)
print(forward, 3 * forward - step)
"""
    forward, stem = map(int, in_the_command(code).split())
    assert forward == pytest.approx(2.337e9, rel=1e-3)
    assert stem == 2 * 12 * 64 * 16 * 2500  # multiply and add; leads, filters, kernel, samples after stride 2


def test_all_parts_fit_into_eight_minutes() -> None:
    code = f"""
import runpy
from estimate import estimate_s
parts = runpy.run_path({str(COMMAND / "__main__.py")!r}, run_name="command")["PARTS"]
print(sum(limit for _, _, limit in parts.values()) < 480)
print(all(estimate_s(part) < limit for part, (_, _, limit) in parts.items()))
"""
    assert in_the_command(code) == "True\nTrue"
