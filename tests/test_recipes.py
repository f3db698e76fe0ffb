"""The files for other schedulers in bench/launch/README.md: they fit their schemas, and what they run is the sweep."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.results.result import find_results

PAGE = Path(__file__).parent.parent / "bench/launch/README.md"


def recipe(contains: str) -> dict[str, Any]:
    """The YAML block of the page with this text."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    (text,) = [block for block in blocks if contains in block]
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def begin(script: str, places: dict[str, Path], data: Path, **environment: str) -> subprocess.Popen[str]:
    """Begin what a machine would run, on quick cells, with folders of this one."""
    for name, place in places.items():
        script = script.replace(name, str(place))
    script = script.replace("--method lp,ft --arch net1d_mini", "--method 'lp(probe_epochs=1)' --arch prevalence")
    script = script.replace("--data /data", f"--data {data}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    surroundings = {**os.environ, "PATH": path, **environment}
    command = ["bash", "-ec", script]
    return subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(process: subprocess.Popen[str]) -> str:
    """Return what it printed, once it has ended well."""
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return printed


def rehearse(script: str, places: dict[str, Path], data: Path, **environment: str) -> None:
    """Run what a machine would run."""
    end(begin(script, places, data, **environment))


def assert_whole(folder: Path) -> None:
    """The shards have run every cell once."""
    seeds = [result.document["cell"]["seed"] for result in find_results(folder)]
    assert sorted(seeds) == [0, 1, 2]


@pytest.mark.slow
def test_a_kubernetes_job_runs_the_sweep(demo_set: Path, tmp_path: Path) -> None:
    job = recipe("kind: Job")["spec"]
    (container,) = job["template"]["spec"]["containers"]
    (script,) = container["args"]
    assert container["command"] == ["bash", "-ec"]
    assert f'--shard "$JOB_COMPLETION_INDEX/{job["completions"]}"' in script

    for index in range(job["completions"]):
        rehearse(script, {"/results": tmp_path}, demo_set, JOB_COMPLETION_INDEX=str(index))

    assert_whole(tmp_path)


def test_a_kubernetes_job_fits_the_schema() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate from PyPI")

    validator.validate(recipe("kind: Job"), "1.30", strict=True)
    wrong = recipe("kind: Job")
    wrong["spec"]["completion"] = wrong["spec"].pop("completions")
    with pytest.raises(validator.ValidationError):
        validator.validate(wrong, "1.30", strict=True)


@pytest.mark.slow
def test_a_skypilot_task_runs_the_sweep(demo_set: Path, tmp_path: Path) -> None:
    task = recipe("num_nodes")

    for rank in range(task["num_nodes"]):
        places = {"/results": tmp_path / "bucket", "~/runs": tmp_path / f"disk-{rank}"}
        numbers = {"SKYPILOT_NODE_RANK": str(rank), "SKYPILOT_NUM_NODES": str(task["num_nodes"])}
        rehearse(task["run"], places, demo_set, **numbers)

    assert_whole(tmp_path / "bucket")


def test_a_skypilot_task_fits_its_schema(tmp_path: Path) -> None:
    sky = pytest.importorskip("sky", reason="needs skypilot from PyPI")

    task = sky.Task.from_yaml_config(recipe("num_nodes"))
    assert task.num_nodes == 4


@pytest.fixture
def pbs() -> str:
    """The script of the page for PBS."""
    (script,) = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return str(script)


def test_a_pbs_script_asks_for_one_gpu_a_task_and_stops_before_its_limit(pbs: str) -> None:
    subprocess.run(["bash", "-n"], input=pbs, text=True, check=True)
    options = dict(re.findall(r"^#PBS -([a-zA-Z]) (.+)$", pbs, flags=re.MULTILINE))
    (hours,) = re.findall(r"walltime=0(\d):00:00$", pbs, flags=re.MULTILINE)
    (minutes,) = re.findall(r"--minutes (\d+)", pbs)

    assert pbs.startswith("#!/bin/bash\n#PBS ") and options.keys() == set("NJlj")
    assert "ngpus=1" in pbs and "--jobs 1 " in pbs
    assert 60 * int(hours) - 20 < int(minutes) < 60 * int(hours)


@pytest.mark.slow
def test_tasks_of_a_pbs_array_take_cells_from_one_plan(pbs: str, demo_set: Path, tmp_path: Path) -> None:
    """Two at once."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    script = pbs.replace("--data data/ptb-xl", "--data /data")
    tasks = [begin(script, {}, demo_set, PBS_O_WORKDIR=str(tmp_path), PBS_ARRAY_INDEX=str(at)) for at in range(2)]

    assert all("3 cells: 3 done, 0 declined, 0 failed" in end(task) for task in tasks)
    assert len(list(tmp_path.glob("runs/.plans/*/plan.json"))) == 1
    assert_whole(tmp_path / "runs")
