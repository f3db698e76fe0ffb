"""Submit cells to SLURM as one job array, one cell for each job. A requeued job resumes from its checkpoint."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError

from bench.cell import Cell
from bench.errors import BenchError, Busy
from bench.execute import Options
from bench.files import read_bytes, write_whole
from bench.launch.torchrun import Node, run_on_ranks
from bench.launch.workers import failure_path
from bench.results.failures import Failure

FOLDER = ".slurm"
"""Folder below the runs folder for submitted scripts and the jobs' output."""
MOST_REQUEUES = 100
"""How often a job may reach its time limit before it fails."""
WARNING = 60
"""Seconds before the time limit at which SLURM signals a job to stop."""
MOST_AT_ONCE = 256
"""Default for the number of jobs of an array that run at a time."""
FIRST_PORT, NUM_PORTS = 20_000, 10_000
"""Ports for the rendezvous of a job's nodes; below the range from which Linux assigns ports."""


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """The resources that each job of an array requests."""

    minutes: int
    """Time limit of a job in minutes. A cell that needs longer is requeued and resumes."""
    partition: str | None = None
    nodes: int = 1
    ranks: int = 1
    """Processes per node."""
    cpus: int = 1
    """Cores per node."""
    gpus: int = 0
    """GPUs per node."""
    at_once: int = MOST_AT_ONCE
    """Number of jobs of the array that run at a time."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Other options of sbatch by their long names, such as account or mem."""


@dataclass(frozen=True)
class CellJob:
    """Run a cell on all nodes of a SLURM job; called once on each node."""

    arguments: tuple[str, ...]
    """Command-line arguments after `bench`."""
    ranks: int
    """Processes per node."""
    failure: Path
    """File to which a failure is written."""
    command: str
    stage: str

    def __call__(self) -> None:
        node = this_node()
        try:
            code = run_on_ranks(self.ranks, self.arguments, node)
        except BenchError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 0 if str(error).startswith(Busy.PREFIX) else 2
            reason = str(error)
        except KeyboardInterrupt:
            # SIGTERM: SLURM needs the node. It requeues a job that it kills, but not a job that exits. So wait.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                signal.pause()
        else:
            reason = f"its processes ended with exit code {code}"
        if code and (node.number == 0 or code == 2):
            log = submitit.JobEnvironment().paths.stderr
            Failure.now(self.command, self.stage, reason, f"see {log}\n").write(self.failure)
        if code:
            raise SystemExit(code)
        self.failure.unlink(missing_ok=True)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return what a requeued job runs: the same call, because the state is in the checkpoint of the run."""
        return submitit.helpers.DelayedSubmission(self)


def this_node() -> Node:
    """Return this machine's place among the nodes of the SLURM job that runs this process."""
    job, restarts = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_RESTART_COUNT", "0")
    size = int(os.environ["SLURM_JOB_NUM_NODES"])
    host = os.environ["SLURM_LAUNCH_NODE_IPADDR"] if size > 1 else "localhost"
    port = FIRST_PORT + int(job) % NUM_PORTS if size > 1 else 0
    number = int(os.environ["SLURM_NODEID"])
    return Node(number=number, size=size, endpoint=f"{host}:{port}", run_id=f"{job}-{restarts}")


def submit(cells: Sequence[Cell], options: Options, settings: Slurm) -> list[str]:
    """Submit one array with a job for each cell. Return the ids of the jobs, such as `17_0`, in the order of cells.

    Their output is in `.slurm/` below the runs folder: `17_0_0_log.err` and `.out`.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise BenchError("no SLURM on this machine: sbatch and srun are missing; use --launcher local")
    folder = options.runs / FOLDER
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=MOST_REQUEUES)
    executor.update_parameters(
        job_name="bench",
        time=settings.minutes,
        partition=settings.partition,
        nodes=settings.nodes,
        ntasks_per_node=1,
        cpus_per_task=settings.cpus,
        srun_args=[f"--cpus-per-task={settings.cpus}"],  # since SLURM 22.05, srun does not inherit this from the job
        gpus_per_node=settings.gpus or None,
        array_parallelism=settings.at_once,
        setup=["export PYTHONSAFEPATH=1"],  # a job imports no modules from the folder in which it was submitted
        signal_delay_s=min(WARNING, 30 * settings.minutes),
        additional_parameters={"requeue": True, **settings.others},
    )
    failures = [failure_path(options.runs, cell, options.stage) for cell in cells]
    try:
        with executor.batch():
            jobs = [
                executor.submit(
                    CellJob(tuple(options.arguments(cell)), settings.ranks, failure, cell.command(), options.stage)
                )
                for cell, failure in zip(cells, failures, strict=True)
            ]
    except FailedJobError as error:
        raise BenchError(f"SLURM accepted no jobs: {' '.join(str(error).split())}") from None
    ids = [job.job_id for job in jobs]
    # relative to the runs folder, because the next sweep may name that by another path
    known = {job: str(path.relative_to(options.runs)) for job, path in zip(ids, failures, strict=True)}
    write_whole(folder / f"{ids[0].partition('_')[0]}.json", json.dumps(known, indent=1))
    return ids


def is_queued(options: Options) -> Callable[[Cell], bool]:
    """Return a test whether SLURM has a waiting or running job for a cell of this runs folder."""
    alive = queued()
    files = (options.runs / FOLDER).glob("*.json")
    jobs = {job: failure for file in files for job, failure in _jobs_in(file).items()}
    taken = {jobs[job] for job in alive if job in jobs}
    return lambda cell: str(failure_path(Path(), cell, options.stage)) in taken


def _jobs_in(file: Path) -> dict[str, str]:
    """Return job id -> failure file from a file that `submit` has written. Raises BenchError if it is damaged."""
    try:
        jobs = json.loads(read_bytes(file))
    except (OSError, ValueError, RecursionError) as error:
        raise BenchError(f"{file} cannot be read: {str(error)[:200]}; remove it once its jobs have ended") from None
    if not isinstance(jobs, dict) or not all(isinstance(failure, str) for failure in jobs.values()):
        raise BenchError(f"{file} is no list of jobs; remove it once its jobs have ended")
    return jobs


def queued() -> dict[str, str]:
    """Return job id -> state, such as PENDING or RUNNING, of this user's unfinished jobs; array tasks one by one."""
    command = ["squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i %T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise BenchError("no SLURM on this machine: squeue is missing") from None
    except subprocess.CalledProcessError as error:
        raise BenchError(f"squeue failed: {error.stderr.strip()}") from None
    return dict(line.split() for line in answer.splitlines())


def minutes(option: str, text: str) -> int:
    """Convert `90min`, `2h` or `1.5d` to minutes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *(min|h|d)", text.strip())
    if match is None or (value := float(match[1]) * {"min": 1, "h": 60, "d": 1440}[match[2]]) < 1:
        raise BenchError(f"{option} takes a time such as 90min, 2h or 1d, got {text!r}")
    return round(value)


def others(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Parse options of sbatch given as `account=abc`."""
    for text in texts:
        if not re.fullmatch(r"[a-z][a-z-]*=.+", text):
            raise BenchError(f"{option} takes an option of sbatch such as account=abc, got {text!r}")
    return dict(text.split("=", 1) for text in texts)
