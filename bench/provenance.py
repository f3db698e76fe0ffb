"""What a result says of its own making: which code, which versions, which machine, at what cost."""

from __future__ import annotations

import functools
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import bench
from bench.registry import Kind, Reference, find, resolve
from bench.training.distributed import World

PACKAGES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "wfdb")


def plugin_facts(kind: Kind, reference: Reference) -> dict[str, Any]:
    """A plugin as used: given and resolved hyper-parameters, the package it came from, the hash of its source."""
    plugin = find(kind, reference.name)
    return {
        "name": plugin.name,
        "given": dict(reference.arguments),
        "resolved": resolve(plugin, reference),
        "distribution": plugin.distribution,
        "module": plugin.module,
        "code_sha256": plugin.code_hash,
    }


def environment(world: World) -> dict[str, Any]:
    """Versions and machine; none of it is part of a cell's digest."""
    on_gpu = world.device.type == "cuda"
    return {
        "bench": bench.__version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(world.device) if on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "ranks": world.size,
    }


def peak_memory_mib(world: World) -> float:
    """The largest memory this process has held: on the GPU where it trains on one, else resident."""
    if world.device.type == "cuda":
        return torch.cuda.max_memory_allocated(world.device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@functools.cache
def _git_commit() -> str | None:
    """The commit of the checkout that this code runs from, marked where files differ from it; None outside one."""
    root = Path(bench.__file__).parent.parent
    try:
        commit = _git(root, "rev-parse", "HEAD")
        dirty = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "bench", "methods", "baselines")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("-dirty" if dirty else "")


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
