"""Submit workers to SLURM as a job array. A worker takes cells from a plan; one that is requeued goes on."""

from __future__ import annotations

import getpass
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import submitit
from rich.console import Console
from submitit.core.utils import FailedJobError

from bench.console.terminal import print_line
from bench.errors import BenchError
from bench.files import read_bytes, write_whole
from bench.launch.plan_folder import PlanFolder
from bench.launch.workers import GRACE, Crew, RunRanks, default_jobs, drain

if TYPE_CHECKING:
    from bench.launch.torchrun import Node

FOLDER = ".slurm"
"""Folder below the runs folder for submitted scripts and the jobs' output."""
MOST_REQUEUES = 100
"""How often a job may reach its time limit before it fails."""
LOOK_S = 0.2
"""Seconds between two checks by the other nodes of a job for the next cell to run."""
WARNING, EARLY = 10, 60
"""Seconds before its time limit at which SLURM signals a job to stop, and how much earlier it may do so (man sbatch:
--signal). The signal ends the job within seconds, so a worker stops by itself before it can come."""
LEAST_MINUTES = 2
"""Minimum time limit of a worker in minutes. Less WARNING, EARLY and GRACE, 40 seconds are left for cells."""
MOST_JOBS = 256
"""Default for the number of jobs, each of which is a worker."""
FIRST_PORT, NUM_PORTS = 20_000, 10_000
"""Ports for the rendezvous of a job's nodes; below the range from which Linux assigns ports."""


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """The workers to submit, and the resources that each of them requests."""

    minutes: int
    """Time limit of a worker in minutes. A cell that needs longer is requeued and resumes."""
    partition: str | None = None
    nodes: int = 1
    ranks: int = 1
    """Processes per node."""
    cpus: int = 1
    """Cores per node."""
    gpus: int = 0
    """GPUs per node."""
    jobs: int | None = None
    """Number of workers; None: one for each cell, up to MOST_JOBS and the limits of the site."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Other options of sbatch by their long names, such as account or mem."""

    @property
    def most_jobs(self) -> int:
        """The number of workers if there are enough cells and the site allows it."""
        return self.jobs or MOST_JOBS


@dataclass(frozen=True)
class WorkerJob:
    """Run cells of a plan on all nodes of a SLURM job, until none is left or time is over; called on each node."""

    plan: Path
    """Folder of the plan."""
    minutes: int
    nodes: int
    ranks: int
    """Processes per node."""

    def __call__(self) -> None:
        if not self.plan.is_dir():
            return  # `bench prune` has removed it, because all of its cells had ended
        plan = PlanFolder(self.plan)
        if len(plan.outcomes()) == len(plan.entries):
            return  # before torch is imported: workers that waited in the queue until all was done
        try:
            self._work(plan)
        except KeyboardInterrupt:
            # SIGTERM: SLURM needs the node. It requeues a job that it kills, but not a job that exits. So wait.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                signal.pause()
        if plan.has_unclaimed():  # none that ends in the time that is left
            os.kill(os.getpid(), signal.SIGUSR2)  # submitit requeues this job, as when SLURM sends it near the limit

    def _work(self, plan: PlanFolder) -> None:
        from bench.execute import Options

        node = this_node()
        rounds = plan.folder / f"job-{node.run_id}"
        if node.number:
            follow(node, self.ranks, rounds)
            return
        try:
            plan.load_plugins()
            run_ranks = self._run_ranks(node, rounds)
            jobs = 1 if run_ranks else default_jobs(1)
            crew = Crew(jobs=jobs, nproc=self.ranks, run_ranks=run_ranks, seconds=self.seconds(), stays=False)
            drain(plan, list(plan.entries), Options(), crew, Console(force_terminal=False, width=200))
        finally:
            # after SIGTERM the other nodes wait too: at some sites a node that leaves ends the job, see __call__
            if self.nodes > 1 and not isinstance(sys.exception(), KeyboardInterrupt):
                write_whole(rounds / next_round(rounds), "[]")

    def _run_ranks(self, node: Node, rounds: Path) -> RunRanks | None:
        from bench.launch.torchrun import run_on_ranks

        if self.nodes > 1:
            return Lead(node, self.ranks, rounds)
        return partial(run_on_ranks, self.ranks) if self.ranks > 1 else None

    def seconds(self) -> float:
        """Return the seconds until this worker must stop, so that it has stopped before SLURM may signal."""
        try:
            answer = _answer("squeue", "--noheader", f"--job={_own_id(os.environ)}", "--format=%e")
            end = datetime.fromisoformat(answer.strip()).timestamp()
        except (BenchError, ValueError):  # the controller does not answer, or knows no end
            end = time.time() + 60 * self.minutes
        return end - time.time() - WARNING - EARLY - GRACE

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return what a requeued job runs: the same call, because the state is in the plan and the runs."""
        return submitit.helpers.DelayedSubmission(self)


@dataclass(frozen=True)
class Lead:
    """Run a cell on the first node of a job, and make the other nodes run it too."""

    node: Node
    ranks: int
    rounds: Path
    """Folder of files that tell the other nodes what to run: one for each cell."""

    def __call__(self, arguments: Sequence[str]) -> int:
        from bench.launch.torchrun import run_on_ranks

        name = next_round(self.rounds)
        write_whole(self.rounds / name, json.dumps(list(arguments)))
        return run_on_ranks(self.ranks, arguments, self.node.in_round(name), failure_in(self.rounds, name))


def follow(node: Node, ranks: int, rounds: Path) -> None:
    """Run the cells that the first node of this job runs.

    Torch does not notify the first node if ranks fail on this one, so a file does. When the first node begins the next
    cell, the ranks of the last one are terminated here.
    """
    from bench.launch.torchrun import run_on_ranks

    number = 0
    while True:
        path = rounds / f"round-{number}"
        while not path.exists():
            time.sleep(LOOK_S)
        if not (arguments := json.loads(read_bytes(path))):
            return
        number += 1
        reason = "its output is in the log of the job"
        try:
            code = run_on_ranks(ranks, arguments, node.in_round(path.name), rounds / f"round-{number}")
        except BenchError as error:
            code, reason = 1, str(error)
        if code:
            write_whole(failure_in(rounds, path.name), f"ranks of node {node.number} failed: {reason}")


def failure_in(rounds: Path, name: str) -> Path:
    """Return the file by which a node tells the first one that its ranks failed in a round, and why."""
    return rounds / f"failed-{name}"


def next_round(rounds: Path) -> str:
    """Return the name of the next file for the other nodes."""
    rounds.mkdir(parents=True, exist_ok=True)
    return f"round-{len(list(rounds.glob('round-*')))}"


def this_node() -> Node:
    """Return this machine's place among the nodes of the SLURM job that runs this process."""
    from bench.launch.torchrun import Node

    job, restarts = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_RESTART_COUNT", "0")
    size = int(os.environ["SLURM_JOB_NUM_NODES"])
    host = os.environ["SLURM_LAUNCH_NODE_IPADDR"] if size > 1 else "localhost"
    port = FIRST_PORT + int(job) % NUM_PORTS if size > 1 else 0
    number = int(os.environ["SLURM_NODEID"])
    return Node(number=number, size=size, endpoint=f"{host}:{port}", run_id=f"{job}-{restarts}")


def hand_over(plan: PlanFolder, ids: Sequence[str], settings: Slurm, out: Console) -> None:
    """Submit workers for these cells of a plan, unless enough are queued, and print how to watch them."""
    jobs = [job for file in plan.folder.glob("jobs-*.json") for job in _jobs_in(file)]
    alive = [job for job, state in queued().items() if job in jobs]
    wanted = min(len(ids), settings.most_jobs)
    if alive:
        out.print(f"{len(alive):,} workers for these cells are in SLURM's queue already", highlight=False)
        wanted = min(len(ids), settings.jobs or 0) - len(alive)
    else:
        plan.forget(ids)
    if wanted <= 0:
        return
    num = min(wanted, most_submitted(settings.others.get("account", "")))
    array = submit(plan, settings, num)[0].partition("_")[0]
    limited = f" ({wanted:,} were wanted: the site's limit)" if num < wanted else ""
    message = (
        f"{num:,} workers submitted as job {array} for {len(ids):,} cells{limited}; squeue --job {array} and bench "
        f"status --runs {plan.runs} show their progress; their output is in {plan.runs / FOLDER}; the same command "
        "submits workers for cells that are left, and with --jobs more of them"
    )
    print_line(out, message)


def most_submitted(account: str = "") -> int:
    """Return how many jobs this user may submit as one array now: the limits of the cluster, of user and account.

    Without an account, the limits are those of the user's account that allows most: SLURM refuses what is too much.
    """
    config = dict(re.findall(r"^(\w+)\s*= (.*)$", _answer("scontrol", "show", "config"), re.MULTILINE))
    limits = [int(config["MaxArraySize"]) or 1]  # 0: no arrays, but single jobs
    limits += map(int, re.findall(r"max_array_tasks=(\d+)", config.get("SchedulerParameters", "")))
    if "slurmdbd" in config.get("AccountingStorageType", ""):
        whose = [f"user={getpass.getuser()}", f"cluster={config['ClusterName']}"]
        whose += [f"account={account}"] if account else []
        asked = ("show", "assoc", *whose, "format=MaxSubmitJobs,GrpSubmitJobs")
        rows = _answer("sacctmgr", "--noheader", "--parsable2", *asked).splitlines()
        of_accounts = [min(map(float, re.findall(r"\d+", row)), default=math.inf) for row in rows]
        if (most := max(of_accounts, default=math.inf)) < math.inf:
            limits.append(int(most) - len(queued()))
    if min(limits) < 1:
        raise BenchError(f"SLURM allows no more jobs of yours: {len(queued())} are queued; try again later")
    return min(limits)


def submit(plan: PlanFolder, settings: Slurm, num: int) -> list[str]:
    """Submit an array of workers for a plan. Return the ids of the jobs, such as `17_0`.

    Their output is in `.slurm/` below the runs folder: `17_0_0_log.err` and `.out`.
    """
    if plan.of_notebook:
        raise BenchError(
            f"{', '.join(plan.of_notebook)}: defined in a notebook or a script, which other machines cannot import; "
            "save it in a file of its own and call bench.load_plugin"
        )
    executor = submitit.SlurmExecutor(folder=plan.runs / FOLDER, max_num_timeout=MOST_REQUEUES)
    executor.update_parameters(
        job_name="bench",
        time=settings.minutes,
        partition=settings.partition,
        nodes=settings.nodes,
        ntasks_per_node=1,
        cpus_per_task=settings.cpus,
        srun_args=[f"--cpus-per-task={settings.cpus}"],  # since SLURM 22.05, srun does not inherit this from the job
        gpus_per_node=settings.gpus or None,
        array_parallelism=num,
        setup=["export PYTHONSAFEPATH=1"],  # a job imports no modules from the folder in which it was submitted
        signal_delay_s=WARNING,
        additional_parameters={"requeue": True, **settings.others},
    )
    worker = WorkerJob(plan.folder, settings.minutes, settings.nodes, settings.ranks)
    try:
        with executor.batch():
            jobs = [executor.submit(worker) for _ in range(num)]
    except FailedJobError as error:
        raise BenchError(f"SLURM accepted no jobs: {' '.join(str(error).split())}") from None
    ids = [job.job_id for job in jobs]
    write_whole(plan.folder / f"jobs-{ids[0].partition('_')[0]}.json", json.dumps(ids))
    return ids


def _jobs_in(file: Path) -> list[str]:
    """Return the ids in a file that `submit` has written. Raises BenchError if it is damaged."""
    try:
        jobs = json.loads(read_bytes(file))
    except (OSError, ValueError, RecursionError) as error:
        raise BenchError(f"{file} cannot be read: {str(error)[:200]}; remove it once its jobs have ended") from None
    if not isinstance(jobs, list) or not all(isinstance(job, str) for job in jobs):
        raise BenchError(f"{file} is no list of jobs; remove it once its jobs have ended")
    return jobs


def queued() -> dict[str, str]:
    """Return job id -> state, such as PENDING or RUNNING, of this user's unfinished jobs; array tasks one by one."""
    answer = _answer("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i %T")
    return dict(line.split() for line in answer.splitlines())


def _own_id(environment: Mapping[str, str]) -> str:
    """Return the id of this job. In an array it is `JOB_TASK`: one of its jobs has the array's own id, of all jobs."""
    if "SLURM_ARRAY_TASK_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment["SLURM_JOB_ID"]


def _answer(*command: str) -> str:
    """Return what a command of SLURM prints. Raises BenchError if it fails or is missing."""
    if shutil.which(command[0]) is None:
        raise BenchError(f"no SLURM on this machine: {command[0]} is missing; use --launcher local")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except subprocess.CalledProcessError as error:
        raise BenchError(f"{command[0]} failed: {error.stderr.strip()}") from None


def minutes(option: str, text: str) -> int:
    """Convert `90min`, `2h` or `1.5d` to minutes, LEAST_MINUTES at least."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *(min|h|d)", text.strip())
    if match is None or (value := float(match[1]) * {"min": 1, "h": 60, "d": 1440}[match[2]]) < LEAST_MINUTES:
        raise BenchError(f"{option} takes a time such as 90min, 2h or 1d, {LEAST_MINUTES}min at least, got {text!r}")
    return round(value)


def others(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Parse options of sbatch given as `account=abc`."""
    for text in texts:
        if not re.fullmatch(r"[a-z][a-z-]*=.+", text):
            raise BenchError(f"{option} takes an option of sbatch such as account=abc, got {text!r}")
    return dict(text.split("=", 1) for text in texts)
