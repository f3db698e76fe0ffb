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


def rehearse(script: str, places: dict[str, Path], data: Path, **environment: str) -> None:
    """Run what a machine would run, on quick cells, with folders of this one."""
    for name, place in places.items():
        script = script.replace(name, str(place))
    script = script.replace("--method lp,ft --arch net1d_mini", "--method 'lp(probe_epochs=1)' --arch prevalence")
    script = script.replace("--data /data", f"--data {data}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    surroundings = {**os.environ, "PATH": path, **environment}
    command = ["bash", "-ec", script]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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
