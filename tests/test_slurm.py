"""Cells on a real SLURM: its daemons on this machine, which play two nodes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from bench.cell import Cell
from bench.errors import BenchError
from bench.execute import Options, execute
from bench.launch.outcomes import failure_path
from bench.launch.plan_folder import Entry, PlanFolder
from bench.launch.slurm import (
    EARLY,
    FOLDER,
    WARNING,
    Slurm,
    WorkerJob,
    follow,
    hand_over,
    minutes,
    most_submitted,
    others,
    queued,
    submit,
    this_node,
)
from bench.launch.workers import GRACE
from bench.registry.reference import Reference
from bench.results.failures import Failure
from bench.results.result import Result, find_results
from bench.training.weights import WEIGHTS

SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
MOST_IN_ARRAY = 20
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
MaxArraySize={array}
SlurmdTimeout=10
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=3
PartitionName=first Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=2
"""


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
    host = socket.gethostname().split(".")[0]
    text = CONFIGURATION.format(host=host, folder=folder, ports=free_ports(3), array=MOST_IN_ARRAY)
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
            wait_until(
                lambda: said("sinfo", "--noheader", "--partition=test", "--format=%D %t") == "2 idle", 30, folder
            )
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


def small(data: Path, method: str, seed: int = 0, precision: str = "float32") -> Cell:
    arch, how = Reference("net1d_mini"), Reference.parse(method)
    return Cell(data=data, task="superdiag", arch=arch, method=how, seed=seed, precision=precision)


def alone(cell: Cell, runs: Path) -> Result:
    """The same cell in this process, on one core, as the fixture leaves us."""
    num_threads = torch.get_num_threads()
    try:
        return execute(cell, Options(runs=runs))
    finally:
        torch.set_num_threads(num_threads)


def results(runs: Path) -> list[Result]:
    return list(find_results(runs)) if runs.exists() else []


def assert_equal(ours: Sequence[Result], theirs: Sequence[Result]) -> None:
    """The same cells with the same weights and scores, to the bit."""
    assert [one.digest for one in ours] == [one.digest for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.document["weights_sha256"] == other.document["weights_sha256"]
        for fold in one.predictions:
            assert np.array_equal(one.predictions[fold].logits, other.predictions[fold].logits)


@pytest.mark.slow
@pytest.mark.slurm
def test_a_sweep_is_an_array_that_gives_what_a_single_machine_gives(
    slurm: Path, demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("submitit", "numpy", "platform"):  # a job that took modules from the folder of its sweep would end
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the working folder was imported')\n")
    runs, logs = Path("runs"), Path("runs") / FOLDER
    grid = ["--task=superdiag", "--arch=net1d_mini", "--method=lp(probe_epochs=2)", "--seed=0,1", f"--data={demo_set}"]
    settings = ["--launcher=slurm", "--partition=test", "--time=5min", "--precision=float32", "--sbatch=comment=small"]
    settings.append("--sbatch=begin=now+1hour")  # so late that the same command is given twice before

    first, again = (
        said(sys.executable, "-m", "bench", "sweep", *grid, *settings, f"--runs={named}")
        for named in (runs, runs.resolve())
    )
    assert "2 workers submitted as job 1 for 2 cells;" in first
    assert "2 workers for these cells are in SLURM's queue already" in again and "submitted" not in again
    subprocess.run(["scontrol", "update", "JobId=1", "StartTime=now"], check=True)
    expected = [alone(small(demo_set, "lp(probe_epochs=2)", seed), tmp_path / "alone") for seed in (0, 1)]
    wait_until(lambda: not queued(), 180, logs)

    assert_equal(results(runs), expected)
    states = [said("scontrol", "show", "job", f"1_{number}", "--oneliner") for number in (0, 1)]
    assert all("JobState=COMPLETED" in state and "Comment=small" in state for state in states), states
    nothing = said(sys.executable, "-m", "bench", "sweep", *grid, *settings)
    assert "submitted" not in nothing and "queue" not in nothing


@pytest.mark.slow
@pytest.mark.slurm
def test_a_cell_that_fails_says_why(slurm: Path, demo_set: Path, tmp_path: Path) -> None:
    cell, options = small(tmp_path / "nowhere", "lp"), Options(runs=tmp_path)

    (job,) = submitted([cell], options, Slurm(minutes=5))
    wait_until(lambda: job not in queued(), 120, tmp_path / FOLDER)

    failure = Failure.read(failure_path(options.runs, cell, "test"))
    assert failure.reason.startswith("no dataset at") and failure.command == cell.command()


@pytest.mark.slow
@pytest.mark.slurm
def test_a_job_that_is_stopped_twice_goes_on_to_the_same_bits(slurm: Path, demo_set: Path, tmp_path: Path) -> None:
    cell, runs = small(demo_set, "ft(finetune_epochs=12)"), tmp_path / "runs"
    num_seen = 0

    (job,) = submitted([cell], Options(runs=runs, checkpoint_minutes=0), Slurm(minutes=5))
    preempt = ["sbatch", "--partition=first", "--nodes=2", "--output=/dev/null", "--wrap=sleep 1"]
    for stop in (["scancel", "--signal=USR2", job], preempt):  # as SLURM does near the time limit; another job's claim
        wait_until(lambda seen=num_seen: newest(runs) > seen, 120, runs / FOLDER)
        subprocess.run(stop, check=True)
        wait_until(lambda: queued().get(job) != "RUNNING", 30, runs / FOLDER)
        assert not results(runs), "this was too quick to be stopped"
        num_seen = newest(runs)
    expected = alone(cell, tmp_path / "alone")
    wait_until(lambda: job not in queued(), 180, runs / FOLDER)

    assert_equal(results(runs), [expected])
    log = [json.loads(line) for line in (results(runs)[0].folder / "log.jsonl").read_text().splitlines()]
    resumed = [line["text"] for line in log if str(line.get("text")).startswith("resumed in phase")]
    assert len(resumed) == 2, "each time from its checkpoint"
    assert "Restarts=2" in said("scontrol", "show", "job", job, "--oneliner")


def submitted(cells: Sequence[Cell], options: Options, settings: Slurm) -> list[str]:
    """The jobs of workers for these cells, one a cell."""
    plan = PlanFolder.of([Entry.of(cell, options) for cell in cells], cells, options)
    return submit(plan, settings, len(cells))


def newest(runs: Path) -> int:
    """The number of the newest checkpoint, of which there is one a step."""
    return max((int(path.stem.rpartition("-")[2]) for path in runs.rglob("checkpoint-*.pt")), default=0)


@pytest.mark.slow
@pytest.mark.slurm
def test_many_cells_run_once_each_whatever_becomes_of_workers(slurm: Path, demo_set: Path, tmp_path: Path) -> None:
    """NUM_CELLS=3000 in the environment runs so many; -s prints how long they took."""
    num, runs, began = int(os.environ.get("NUM_CELLS", "150")), tmp_path / "runs", time.monotonic()
    grid = ["--task=superdiag", "--arch=prevalence", "--method=lp(probe_epochs=1)", f"--seed={numbers(range(num))}"]
    command = ["-m", "bench", "sweep", *grid, f"--data={demo_set}", f"--runs={runs}", "--launcher=slurm", "--time=1h"]
    first = said(sys.executable, *command, "--precision=float32", "--jobs=30")
    submitted_s = time.monotonic() - began

    assert "20 workers submitted as job" in first and "(30 were wanted: the site's limit)" in first
    for reached, harm in ((num // 10, kill_worker), (num // 5, requeue_worker), (num // 3, lose_node)):
        wait_until(lambda reached=reached: num_done(runs) >= reached, 600, runs / FOLDER)  # type: ignore[misc]
        harm(slurm)
    wait_until(lambda: num_done(runs) == num, 7200, runs / FOLDER)
    took = time.monotonic() - began
    wait_until(lambda: not queued(), 300, runs / FOLDER)

    events = [
        [json.loads(line)["event"] for line in (result.folder / "log.jsonl").read_text().splitlines()]
        for result in results(runs)
    ]
    assert len(events) == num
    # a worker that is killed between its last line and the rename of the folder has a second one, by who resumes it
    assert all(of_cell[-1] == "finished" for of_cell in events)
    assert all(of_cell.count("finished") <= of_cell.count("begins") for of_cell in events)
    assert sum(of_cell.count("begins") > 1 for of_cell in events) <= 3, "the cells of three workers that were killed"
    assert not list(runs.rglob("*.failed"))
    assert not list((runs / ".plans/claims").iterdir())
    print(f"{num} cells in {took:.0f} s, planned and submitted in {submitted_s:.0f} s")


@pytest.mark.slow
@pytest.mark.slurm
def test_a_tuning_is_run_by_workers_to_its_end(slurm: Path, demo_set: Path, tmp_path: Path) -> None:
    words = ["--task=superdiag", "--arch=prevalence", "--method=lp(probe_epochs=1)", "--trials=3", "--seed=0,1"]
    command = [sys.executable, "-m", "bench", "tune", *words, "--precision=float32", f"--data={demo_set}"]
    runs = tmp_path / "runs"

    cluster = ["--launcher=slurm", "--time=5min", "--jobs=2"]
    first = subprocess.run([*command, f"--runs={runs}", *cluster], capture_output=True, text=True, check=True)
    assert "2 workers submitted as job" in first.stderr and "for 5 cells" in first.stderr
    wait_until(lambda: not queued(), 240, runs / FOLDER)
    again = said(*command, f"--runs={runs}", *cluster, "--json")
    here = said(*command, f"--runs={tmp_path / 'here'}", "--json")

    ((ours,), (theirs,)) = json.loads(again), json.loads(here)
    assert len(ours["trials"]) == 3 and not queued(), "nothing was left to submit"
    for one in (ours, theirs):
        for trial in one["trials"]:
            del trial["seconds"]
    assert (ours["trials"], ours["best"]) == (theirs["trials"], theirs["best"])
    assert_equal(results(runs), results(tmp_path / "here"))
    finals = [result for result in results(runs) if result.document["stage"] == "test"]
    assert [len(result.document["search"]["trials"]) for result in finals] == [3, 3]


@pytest.mark.slow
@pytest.mark.slurm
def test_a_worker_stops_before_its_limit_and_is_requeued(slurm: Path, demo_set: Path, tmp_path: Path) -> None:
    cell, runs = small(demo_set, "lp(probe_epochs=200000)"), tmp_path / "runs"
    began = time.monotonic()

    (job,) = submitted([cell], Options(runs=runs, checkpoint_minutes=0), Slurm(minutes=3))
    wait_until(lambda: "Restarts=1" in said("scontrol", "show", "job", job, "--oneliner"), 240, runs / FOLDER)
    waited = time.monotonic() - began
    subprocess.run(["scancel", job], check=True)

    log = next((runs / FOLDER).glob("*_log.err")).read_text()
    assert "Caught signal SIGUSR2" in log and "TIME LIMIT" not in log
    assert waited < 180 + 30
    assert [path.suffix for path in runs.glob(".plans/claims/*.free")] == [".free"], "its cell was given back"


def numbers(values: range) -> str:
    return ",".join(map(str, values))


def num_done(runs: Path) -> int:
    return len(list(runs.glob(".plans/*/superdiag-*.json")))


def running(*where: str) -> str:
    """A job that runs now."""
    deadline = time.monotonic() + 60
    while not (listed := said("squeue", "--noheader", "--states=R", "--format=%i", *where).split()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return listed[0]


def kill_worker(slurm: Path) -> None:
    """Kill all processes of a job: it is over, and not requeued."""
    subprocess.run(["scancel", "--signal=KILL", "--full", running()], check=True)


def requeue_worker(slurm: Path) -> None:
    subprocess.run(["scontrol", "requeue", running()], check=True)


def lose_node(slurm: Path) -> None:
    """Kill all that runs on a node, as a power cut does. SLURM gives its job to another node. Then it is back."""
    running("--nodelist=n2")
    here = (b"\0SLURMD_NODENAME=n2\0", f"\0SLURM_CONF={slurm}/slurm.conf\0".encode())
    environments = {pid: read(pid / "environ") for pid in Path("/proc").glob("[0-9]*")}
    tasks = [pid for pid, words in environments.items() if all(word in words for word in here)]
    fields = [read(pid / "stat").rpartition(b")")[2].split() for pid in tasks]
    parents = {Path("/proc") / field[1].decode() for field in fields if field}
    steps = [pid for pid in parents if b"slurmstepd" in read(pid / "cmdline")]
    daemon = Path("/proc") / (slurm / "slurmd-n2.pid").read_text().strip()
    for pid in (daemon, *steps, *tasks):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.name), signal.SIGKILL)
    node = ("sinfo", "--noheader", "--nodes=n2", "--partition=test", "--format=%t")
    wait_until(lambda: said(*node).startswith("down"), 120, slurm)
    start("slurmd", "-N", "n2")
    subprocess.run(["scontrol", "update", "nodename=n2", "state=resume"], check=True)


def read(path: Path) -> bytes:
    try:
        return b"\0" + path.read_bytes()
    except OSError:
        return b""


@pytest.mark.slow
@pytest.mark.slurm
def test_a_cell_on_two_nodes_equals_that_of_one_process(slurm: Path, demo_set: Path, tmp_path: Path) -> None:
    cell, runs = small(demo_set, "lpft(probe_epochs=2, finetune_epochs=3)", precision="float64"), tmp_path / "runs"

    (job,) = submitted([cell], Options(runs=runs), Slurm(minutes=5, nodes=2))
    expected = alone(cell, tmp_path / "alone")
    wait_until(lambda: job not in queued(), 180, runs / FOLDER)

    (found,) = results(runs)
    assert found.digest == expected.digest and found.document["environment"]["ranks"] == 2
    ours, theirs = (torch.load(one.folder / WEIGHTS, weights_only=True)["state_dict"] for one in (found, expected))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[key].double() - theirs[key].double()).abs().max()) for key in ours) < 1e-8


def test_without_slurm_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BenchError, match="no SLURM on this machine"):
        most_submitted()
    with pytest.raises(BenchError, match="no SLURM on this machine"):
        queued()


@pytest.mark.parametrize(
    ("config", "rows", "expected"),
    [
        (["MaxArraySize = 1001", "AccountingStorageType = accounting_storage/none"], "", 1001),
        (["MaxArraySize = 1001", "AccountingStorageType = (null)"], "", 1001),  # SLURM 23.11 and later without slurmdbd
        (["MaxArraySize = 0"], "", 1),
        (["MaxArraySize = 1001", "SchedulerParameters = bf_continue,max_array_tasks=50"], "", 50),
        (["MaxArraySize = 1001", "AccountingStorageType = accounting_storage/slurmdbd"], "|\n", 1001),
        (["MaxArraySize = 1001", "AccountingStorageType = accounting_storage/slurmdbd"], "500|100\n30|\n", 98),
        (["MaxArraySize = 1001", "AccountingStorageType = accounting_storage/slurmdbd"], "30|\n|\n", 1001),
    ],
)
def test_limits_of_sites(
    config: list[str], rows: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs are queued."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    texts = {"scontrol": "\n".join(["ClusterName = here", *config]), "squeue": "1_0 RUNNING\n1_1 PENDING"}
    for name, text in {**texts, "sacctmgr": rows}.items():
        (tmp_path / f"{name}.txt").write_text(text)
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/{name}.asked\ncat {tmp_path}/{name}.txt\n')
        (tmp_path / name).chmod(0o755)

    assert most_submitted("lab") == expected
    asked = tmp_path / "sacctmgr.asked"
    assert asked.exists() == ("slurmdbd" in config[-1])
    if asked.exists():
        assert "cluster=here account=lab" in asked.read_text()


@pytest.fixture
def lead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plan's folder of a job on two nodes, the first of which is this process; its SLURM does not answer."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error: Socket timed out' >&2\nexit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    for name, value in (("JOB_ID", "17"), ("JOB_NUM_NODES", "2"), ("NODEID", "0"), ("LAUNCH_NODE_IPADDR", "127.0.0.1")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    cell, options = small(tmp_path / "nowhere", "lp"), Options(runs=tmp_path / "runs")
    return PlanFolder.of([Entry.of(cell, options)], [cell], options).folder


def test_a_slurm_that_does_not_answer_ends_no_worker(lead: Path) -> None:
    assert WorkerJob(lead, 90, 2, 1).seconds() == pytest.approx(90 * 60 - WARNING - EARLY - GRACE, abs=5)


def test_a_worker_that_waited_until_its_plan_was_pruned_has_nothing_to_do(lead: Path) -> None:
    shutil.rmtree(lead)
    WorkerJob(lead, 90, 2, 1)()
    assert not lead.exists()


@pytest.mark.parametrize(("code", "left"), [("1 / 0", ["round-0"]), ("raise KeyboardInterrupt", [])])
def test_the_other_nodes_of_a_job_end_with_the_first(lead: Path, tmp_path: Path, code: str, left: list[str]) -> None:
    """But not when SLURM takes the nodes: then all wait for it, so that the job is requeued."""
    content = json.loads((lead / "plan.json").read_text())
    (tmp_path / "broken.py").write_text(code)
    (lead / "plan.json").write_text(json.dumps({**content, "plugins": [str(tmp_path / "broken.py")]}))

    with pytest.raises(ZeroDivisionError if left else KeyboardInterrupt):
        WorkerJob(lead, 90, 2, 1)._work(PlanFolder(lead))

    assert [path.name for path in lead.glob("job-17-0/*")] == left
    if left:
        follow(replace(this_node(), number=1), 1, lead / "job-17-0")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read: Expecting value"),
        (b'["17_0", "17_', "cannot be read: Unterminated string"),
        (b'["\xe4"]', "cannot be read: 'utf-8' codec"),
        (b"[" * 100_000, "cannot be read: "),
        (b'{"17_0": 1}', "is no list of jobs"),
        (b"[17, 18]", "is no list of jobs"),
        (None, "cannot be read: "),
    ],
    ids=["empty", "cut", "no text", "nested", "no list", "numbers", "folder"],
)
def test_a_damaged_list_of_jobs_is_named(content: bytes | None, words: str, demo_set: Path, tmp_path: Path) -> None:
    """Workers that are queued must not be submitted twice, so the list is not taken for empty."""
    cell = Cell(data=demo_set, task="superdiag", arch=Reference("prevalence"), method=Reference("lp"))
    options = Options(runs=tmp_path)
    plan = PlanFolder.of([Entry.of(cell, options)], [cell], options)
    file = plan.folder / "jobs-17.json"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)

    with pytest.raises(BenchError, match=re.escape(f"{file} {words}") + ".*; remove it once its jobs have ended"):
        hand_over(plan, list(plan.entries), Slurm(minutes=10), Console(quiet=True))


@pytest.mark.parametrize(("text", "expected"), [("90min", 90), ("2h", 120), ("1.5 d", 2160)])
def test_times(text: str, expected: int) -> None:
    assert minutes("--time", text) == expected


@pytest.mark.parametrize("text", ["", "2", "2:00:00", "-1h", "0min", "1min"])
def test_what_is_no_time_is_a_users_mistake(text: str) -> None:
    with pytest.raises(BenchError, match="--time takes a time such as 90min, 2h or 1d"):
        minutes("--time", text)


def test_options_of_sbatch() -> None:
    assert others("--sbatch", ["account=a=b", "mail-type=END"]) == {"account": "a=b", "mail-type": "END"}
    with pytest.raises(BenchError, match="--sbatch takes an option of sbatch"):
        others("--sbatch", ["account"])
