"""Cells on a real SLURM: its daemons on this machine, which play two nodes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.cell import Cell
from bench.errors import BenchError
from bench.launch.slurm import Slurm, queued, submit
from bench.registry import Reference
from bench.reporting.results import Result, find_results
from bench.run import Options, execute
from bench.training.weights import WEIGHTS

SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Path]:
    """Two nodes of a SLURM of our own, with its logs in the folder that comes back."""
    missing = [name for name in DAEMONS if shutil.which(name, path=SBIN) is None]
    if missing:
        pytest.skip(f"needs SLURM: {', '.join(missing)} not installed (Debian: slurm-wlm, munge)")
    if os.geteuid() != 0:
        pytest.skip("needs root to start SLURM's daemons")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short, as sockets' names must be
    for name in ("munge", "state", "spool-n1", "spool-n2"):
        (folder / name).mkdir(mode=0o755)
    (folder / "munge" / "key").write_bytes(os.urandom(128))
    (folder / "munge" / "key").chmod(0o400)
    text = CONFIGURATION.format(host=socket.gethostname().split(".")[0], folder=folder, ports=free_ports(3))
    (folder / "slurm.conf").write_text(text)
    cores = os.sched_getaffinity(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        try:
            munge = [f"--{name}={folder}/munge/{name.split('-')[0]}" for name in ("key-file", "pid-file", "log-file")]
            start("munged", "--force", f"--socket={folder}/munge/socket", f"--seed-file={folder}/munge/seed", *munge)
            start("slurmctld")
            for node, core in (("n1", min(cores)), ("n2", max(cores))):  # jobs inherit it: the same threads everywhere
                os.sched_setaffinity(0, {core})
                start("slurmd", "-N", node)
            wait_until(lambda: said("sinfo", "--noheader", "--format=%D %t") == "2 idle", 30, folder)
            yield folder
        finally:
            os.sched_setaffinity(0, cores)
            subprocess.run(["scancel", "--signal=KILL", "--full", "--user=root"], check=False)
            subprocess.run(["scancel", "--user=root"], check=False)
            deadline = time.monotonic() + 20
            while said("squeue", "--noheader") and time.monotonic() < deadline:
                time.sleep(0.2)
            for path in (*folder.glob("slurmd-*.pid"), folder / "slurmctld.pid", folder / "munge" / "pid"):
                if path.exists():
                    os.kill(int(path.read_text()), signal.SIGTERM)


def start(name: str, *words: str) -> None:
    path = shutil.which(name, path=SBIN)
    assert path is not None
    done = subprocess.run([path, *words], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def free_ports(num: int) -> list[int]:
    sockets = [socket.socket() for _ in range(num)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def wait_until(happened: Callable[[], bool], seconds: float, logs: Path) -> None:
    """Fails with the last lines of all logs in the folder."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            tails = [f"{path.name}:\n{path.read_text()[-1500:]}" for path in sorted(logs.glob("*log*"))]
            pytest.fail(f"nothing after {seconds} s; {said('squeue')}\n" + "\n".join(tails))
        time.sleep(0.1)


def words(data: Path, runs: Path, method: str, *more: str) -> list[str]:
    """A small cell as words after `bench`."""
    cell = ["run", "--task=superdiag", "--arch=net1d_mini", f"--method={method}", "--precision=float32"]
    return [*cell, f"--data={data}", f"--runs={runs}", *more]


def alone(data: Path, runs: Path, method: str, seed: int = 0, precision: str = "float32") -> Result:
    """The same cell in this process."""
    num_threads = torch.get_num_threads()
    cell = Cell(
        data=data,
        task="superdiag",
        arch=Reference("net1d_mini"),
        method=Reference.parse(method),
        seed=seed,
        precision=precision,
    )
    try:
        return execute(cell, Options(runs=runs))  # on one core, as the fixture leaves us
    finally:
        torch.set_num_threads(num_threads)


def results(runs: Path) -> list[Result]:
    return list(find_results(runs)) if runs.exists() else []


def assert_equal(ours: Sequence[Result], theirs: Sequence[Result]) -> None:
    """The same cells with the same weights and scores, to the bit."""
    assert [one.digest for one in ours] == [one.digest for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.document["weights_sha256"] == other.document["weights_sha256"]
        for fold in (9, 10):
            assert np.array_equal(one.predictions[fold].logits, other.predictions[fold].logits)


def test_an_array_gives_what_a_single_machine_gives(slurm: Path, demo_set: Path, tmp_path: Path) -> None:
    method, runs, logs = "lp(probe_epochs=2)", tmp_path / "runs", tmp_path / "logs"
    commands = [words(demo_set, runs, method, f"--seed={seed}") for seed in (0, 1)]
    wrong = words(tmp_path / "nowhere", runs, method)

    jobs = submit([*commands, wrong], Slurm(minutes=5, partition="test"), logs)
    assert [job.partition("_")[2] for job in jobs] == ["0", "1", "2"] and set(jobs) <= set(queued())
    expected = [alone(demo_set, tmp_path / "alone", method, seed) for seed in (0, 1)]
    wait_until(lambda: not set(jobs) & set(queued()), 180, logs)

    assert_equal(results(runs), expected)
    assert "error: no dataset at" in (logs / f"{jobs[2]}_0_log.err").read_text()
    states = [said("scontrol", "show", "job", job, "--oneliner") for job in jobs]
    assert ["JobState=COMPLETED" in state for state in states] == [True, True, False]
    assert "JobState=FAILED" in states[2] and "ExitCode=2:0" in states[2]


def test_a_job_that_is_stopped_twice_goes_on_to_the_same_bits(slurm: Path, demo_set: Path, tmp_path: Path) -> None:
    method, runs, logs = "ft(finetune_epochs=20)", tmp_path / "runs", tmp_path / "logs"
    num_seen = 0

    def advanced() -> bool:
        return newest(runs) > num_seen

    (job,) = submit([words(demo_set, runs, method, "--checkpoint-minutes=0")], Slurm(minutes=5), logs)
    for stop in (["scancel", "--signal=USR2", job], ["scontrol", "requeue", job]):  # near the time limit; preempted
        wait_until(advanced, 120, logs)
        assert not results(runs), "this was too quick to be stopped"
        subprocess.run(stop, check=True)
        wait_until(lambda: queued().get(job) != "RUNNING", 30, logs)
        num_seen = newest(runs)
    expected = alone(demo_set, tmp_path / "alone", method)
    wait_until(lambda: job not in queued(), 180, logs)

    assert_equal(results(runs), [expected])
    log = [json.loads(line) for line in (results(runs)[0].folder / "log.jsonl").read_text().splitlines()]
    resumed = [line["text"] for line in log if str(line.get("text")).startswith("resumed in phase")]
    assert len(resumed) == 2, "each time from its checkpoint"
    assert "Restarts=2" in said("scontrol", "show", "job", job, "--oneliner")


def newest(runs: Path) -> int:
    """The number of the newest checkpoint, of which there is one a step."""
    return max((int(path.stem.rpartition("-")[2]) for path in runs.rglob("checkpoint-*.pt")), default=0)


def test_a_cell_on_two_nodes_equals_that_of_one_process(slurm: Path, demo_set: Path, tmp_path: Path) -> None:
    method, runs, logs = "lpft(probe_epochs=2, finetune_epochs=3)", tmp_path / "runs", tmp_path / "logs"
    command = words(demo_set, runs, method, "--precision=float64")

    (job,) = submit([command], Slurm(minutes=5, nodes=2), logs)
    expected = alone(demo_set, tmp_path / "alone", method, precision="float64")
    wait_until(lambda: job not in queued(), 180, logs)

    (found,) = results(runs)
    assert found.digest == expected.digest and found.document["environment"]["ranks"] == 2
    ours, theirs = (torch.load(one.folder / WEIGHTS, weights_only=True)["state_dict"] for one in (found, expected))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[key].double() - theirs[key].double()).abs().max()) for key in ours) < 1e-8


def test_without_slurm_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BenchError, match="no SLURM on this machine"):
        submit([["run"]], Slurm(minutes=1), tmp_path)
    with pytest.raises(BenchError, match="no SLURM on this machine"):
        queued()
