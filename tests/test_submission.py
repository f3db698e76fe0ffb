"""A stranger's result on the board: clone, score, publish, check, push; and what the workflow then runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bench.data.datasets.ptbxl import load_records
from bench.data.tasks import find_task, label_table

ROOT = Path(__file__).parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())
STEPS = {step.get("name", ""): step for step in WORKFLOW["jobs"]["check"]["steps"]}


def shell(command: str, folder: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """A command in a folder, with `bench` as installed here and git as somebody."""
    who = {f"GIT_{role}_{key}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {key: value for key, value in os.environ.items() if key != "BENCH_DATA"}  # the stranger has other data
    environment = {**own, **who, "PATH": path, "GIT_CONFIG_GLOBAL": "/dev/null", **more}
    command = f"set -e -o pipefail\n{command}"  # as GitHub runs a step
    return subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)


def done(command: str, folder: Path) -> str:
    """The output of a command that has to succeed."""
    ended = shell(command, folder)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return ended.stdout


def step(name: str, folder: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """A step of the workflow, as for a pull request into main."""
    return shell(STEPS[name]["run"], folder, BASE="origin/main", **more)


ALONE = """#!{python}
import sys
from importlib.metadata import packages_distributions, requires
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

installed, new = set(), set({listed!r})
while new:
    installed |= new
    needed = (Requirement(text) for name in new for text in requires(name) or [])
    new = {{canonicalize_name(one.name) for one in needed if not one.marker or one.marker.evaluate({{"extra": ""}})}}
    new -= installed
absent = {{
    module
    for module, owners in packages_distributions().items()
    if not installed & set(map(canonicalize_name, owners)) and module not in ("bench", "methods", "baselines")
}}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {{name!r}}")

sys.meta_path.insert(0, Absent())
from bench.cli import main
main()
"""


@pytest.fixture
def lean(tmp_path: Path) -> str:
    """A PATH whose `bench` has only the distributions that the workflow lists, and theirs, as far as they are here."""
    line = next(line for line in STEPS["Install what boards need"]["run"].splitlines() if "constraints.txt" in line)
    program = tmp_path / "lean/bench"
    program.parent.mkdir()
    program.write_text(ALONE.format(python=sys.executable, listed=line.partition("constraints.txt")[2].split()))
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


@pytest.fixture
def upstream(demo_set: Path, tmp_path: Path) -> Path:
    """A repository with a published row, and a stranger's scores and tables beside it."""
    tables = tmp_path / "tables"
    tables.mkdir()
    shutil.copy(demo_set / "scp_statements.csv", tables)
    table = pd.read_csv(demo_set / "ptbxl_database.csv").assign(device="AT-6 C")  # does not say that it is synthetic
    more = [table.assign(ecg_id=table["ecg_id"] + n * 1000, patient_id=table["patient_id"] + n * 1e5) for n in range(4)]
    pd.concat(more).to_csv(tables / "ptbxl_database.csv", index=False)
    labels = label_table(load_records(tables), find_task("superdiag"))
    test = labels.select(labels.strat_fold == 10)
    for name, quality in (("earlier", 0.5), ("mine", 2.0)):
        z = quality * test.y_true + np.random.default_rng(0).normal(size=test.y_true.shape)
        scores = pd.DataFrame(z, columns=list(test.labels)).assign(ecg_id=test.ecg_id)
        scores.to_csv(tmp_path / f"{name}.csv", index=False)
    done("git init -q --bare -b main upstream.git && git clone -q upstream.git owner 2>&1", tmp_path)
    owner = tmp_path / "owner"
    done(
        """
        printf '/runs/\\n/data/\\n' > .gitignore && git checkout -q -b main
        mkdir data && ln -s ../../tables data/ptb-xl
        bench score ../earlier.csv --task superdiag --name Earlier --scale logit
        bench publish runs/superdiag/* && bench leaderboard --published > /dev/null
        git add . && git commit -q -m "Earlier" && git push -q origin main
        """,
        owner,
    )
    return tmp_path / "upstream.git"


@pytest.mark.slow
def test_a_strangers_result_goes_from_scores_to_a_checked_branch(upstream: Path, lean: str, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    done(
        f"git clone -q {upstream} stranger && mkdir stranger/data && ln -s ../../tables stranger/data/ptb-xl", tmp_path
    )
    done(
        """
        git checkout -q -b my-result
        bench score ../mine.csv --task superdiag --name "My model" --scale logit
        bench publish runs/superdiag/* && bench leaderboard --published && bench leaderboard --check
        git add leaderboards && git commit -q -m "My model" && git push -q origin my-result
        """,
        stranger,
    )
    assert done("git status --porcelain", stranger) == ""
    done(f"git clone -q {upstream} review && mkdir review/data && ln -s ../../tables review/data/ptb-xl", tmp_path)
    review = tmp_path / "review"
    done("git checkout -q my-result", review)

    for name in ("Earlier results are as they were", "Recompute numbers and pages"):
        ended = step(name, review, PATH=lean)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    (page,) = (review / "leaderboards").glob("*/superdiag.md")
    assert page.read_text().index("| My model |") < page.read_text().index("| Earlier |")

    (earlier,) = (review / "leaderboards").glob("*/results/superdiag/Earlier*/result.json")
    earlier.write_text(earlier.read_text().replace('"num_positives": ', '"num_positives": 1'))
    done("git commit -q -a -m edited", review)
    refused = step("Earlier results are as they were", review)
    assert refused.returncode == 1
    assert str(earlier.relative_to(review)) in refused.stdout
    faults = step("Recompute numbers and pages", review)
    assert faults.returncode == 1
    assert "num_positives is recorded as" in faults.stderr


def test_the_workflow_runs_on_submissions_alone_and_gets_no_more_than_reading() -> None:
    assert WORKFLOW[True]["pull_request"]["paths"] == ["leaderboards/**"]  # YAML reads `on` as true
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_the_workflow_installs_what_its_download_needs(lean: str, tmp_path: Path) -> None:
    command = STEPS["Get the tables of PTB-XL"]["run"] + " --mirror http://127.0.0.1:9/"
    ended = shell(command, tmp_path, PATH=lean)

    assert "http://127.0.0.1:9/" in ended.stderr and "No module" not in ended.stderr, ended.stderr
