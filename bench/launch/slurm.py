"""Many cells on a SLURM cluster: one job array, a cell a job. A job that is requeued goes on from its checkpoint."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError

from bench.errors import BenchError
from bench.launch.torchrun import Node, run_on_ranks

MOST_REQUEUES = 100
"""Times that a job may reach its time limit before it is given up."""
WARNING = 60
"""Seconds before the time limit at which a job is told to stop."""
FIRST_PORT, NUM_PORTS = 20_000, 10_000
"""Where the nodes of a job meet; below the ports that Linux gives out by itself."""


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """What every job of an array asks for."""

    minutes: int
    """Its time limit. A cell that needs longer is requeued and goes on."""
    partition: str | None = None
    nodes: int = 1
    ranks: int = 1
    """Processes a node."""
    cpus: int = 1
    """Cores a node."""
    gpus: int = 0
    """GPUs a node."""
    at_once: int = 256
    """Jobs of the array that may run at a time."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Any other option of sbatch by its long name, such as account or mem."""


@dataclass(frozen=True)
class CellJob:
    """`bench ARGUMENTS` on all nodes of a SLURM job; called once on each of them."""

    arguments: tuple[str, ...]
    ranks: int

    def __call__(self) -> None:
        try:
            code = run_on_ranks(self.ranks, self.arguments, this_node())
        except BenchError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
        if code:
            raise SystemExit(code)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What a job runs when it is requeued: the same, as the state is in the run's own checkpoint."""
        return submitit.helpers.DelayedSubmission(self)


def this_node() -> Node:
    """This machine among those of the SLURM job that this process belongs to."""
    job, restarts = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_RESTART_COUNT", "0")
    size = int(os.environ["SLURM_JOB_NUM_NODES"])
    host = os.environ["SLURM_LAUNCH_NODE_IPADDR"] if size > 1 else "localhost"
    port = FIRST_PORT + int(job) % NUM_PORTS if size > 1 else 0
    number = int(os.environ["SLURM_NODEID"])
    return Node(number=number, size=size, endpoint=f"{host}:{port}", run_id=f"{job}-{restarts}")


def submit(commands: Sequence[Sequence[str]], settings: Slurm, folder: Path) -> list[str]:
    """Submit one array of jobs, a job for each `bench COMMAND`; their ids, such as `17_0`, in the order of commands.

    The folder must be on a file system that all nodes share; what jobs print is in it, `17_0_0_log.err` and `.out`.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise BenchError("no SLURM on this machine: sbatch and srun are not to be found; use --launcher local")
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=MOST_REQUEUES)
    executor.update_parameters(
        job_name="bench",
        time=settings.minutes,
        partition=settings.partition,
        nodes=settings.nodes,
        ntasks_per_node=1,
        cpus_per_task=settings.cpus,
        srun_args=[f"--cpus-per-task={settings.cpus}"],  # which srun has not taken from the job since SLURM 22.05
        gpus_per_node=settings.gpus or None,
        array_parallelism=settings.at_once,
        signal_delay_s=min(WARNING, 30 * settings.minutes),
        additional_parameters={"requeue": True, **settings.others},
    )
    try:
        with executor.batch():
            jobs = [executor.submit(CellJob(tuple(command), settings.ranks)) for command in commands]
    except (FailedJobError, subprocess.CalledProcessError) as error:
        raise BenchError(f"SLURM took no jobs: {' '.join(str(error).split())}") from None
    return [job.job_id for job in jobs]


def queued() -> dict[str, str]:
    """Id -> state, such as PENDING or RUNNING, of this user's jobs that SLURM has not done with, arrays spread out."""
    asked = ["squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i %T"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise BenchError("no SLURM on this machine: squeue is not to be found") from None
    except subprocess.CalledProcessError as error:
        raise BenchError(f"squeue failed: {error.stderr.strip()}") from None
    return dict(line.split() for line in answer.splitlines())
