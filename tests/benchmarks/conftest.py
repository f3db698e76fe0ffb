"""Ours against a stated reference, in turns within one process, by the CPU time of the process and its children, or by
the wall clock on a GPU, which BENCH_GPU has to name: `BENCH_GPU=0 make bench`.

`make bench` runs these and writes the table. The reference is the published or obvious way of computing the same
thing, written here or taken from the package that others use; every comparison first sees that both agree.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.processor import processor_name
from bench.training.memory import keep_freed_memory

CAPABILITY = torch.backends.cpu.get_cpu_capability()
ISA_LIMIT = os.environ["ONEDNN_MAX_CPU_ISA"].removeprefix("AVX512_CORE_FP16")
"""Largest instruction set that oneDNN may use, to emulate a lesser processor; empty without a limit but bench's own."""
KIND = (ISA_LIMIT or CAPABILITY).lower()
TABLE = Path(os.environ.get("BENCH_TABLE", f"build/benchmarks-{KIND}.md"))
"""A table a kind of processor."""


def cpu_seconds() -> float:
    """CPU time of this process, of its children and of theirs: other jobs on the machine disturb it least.

    Of a living child's children only those that have ended count, such as the workers of a fork server.
    """
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(one.ru_utime + one.ru_stime for one in used)
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
        seconds += sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return seconds


@dataclass(frozen=True)
class Row:
    """A line of the table: CPU seconds of both, the least of all rounds."""

    what: str
    reference: str
    ours_s: float
    reference_s: float | None
    goal: str


ROWS: list[Row] = []
Compare = Callable[..., Row]


@pytest.fixture
def compare(benchmark: Any, request: pytest.FixtureRequest) -> Compare:
    """compare(what, ours, reference words, reference, rounds, scale, goal): times both in turns and keeps the row.

    `scale` is how many times the reference is done in full, where all of it would take minutes; `goal` is a ratio.
    """

    def run(
        what: str,
        ours: Callable[[], object],
        words: str = "",
        reference: Callable[[], object] | None = None,
        *,
        rounds: int = 3,
        warmup_rounds: int = 1,
        scale: float = 1.0,
        goal: str = "",
    ) -> Row:
        times, clock = [], request.node.get_closest_marker("benchmark").kwargs["timer"]

        def time_reference() -> None:
            if reference:
                began = clock()
                reference()
                times.append(clock() - began)

        benchmark.pedantic(ours, setup=time_reference, rounds=rounds, warmup_rounds=warmup_rounds)
        row = Row(what, words, benchmark.stats.stats.min, min(times) * scale if times else None, goal)
        benchmark.extra_info |= {"reference": words, "reference_s": row.reference_s}
        ROWS.append(row)
        return row

    return run


Stepper = Callable[..., Callable[[], Tensor]]


def training_step(
    model: nn.Module,
    num: int,
    samples: int,
    *,
    num_leads: int = 12,
    bf16: bool = True,
    fused: bool = True,
    wait: bool = True,
) -> Callable[[], Tensor]:
    """A training step on `num` records as a function, which gives the loss; it may wait for a GPU."""
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(0)
    signals = torch.randn(num, num_leads, samples, generator=random).to(device)
    labels = torch.ones(num, 5, device=device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=fused)

    def step() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = F.binary_cross_entropy_with_logits(model(signals).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if wait and device.type == "cuda":
            torch.cuda.synchronize()
        return loss.detach()

    return step


@pytest.fixture
def stepper() -> Stepper:
    """stepper(model, records, samples): see `training_step`."""
    return training_step


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Ratios of one thread: they hold for more, and are steady on a shared machine. Memory as in a run, for both."""
    torch.set_num_threads(1)
    keep_freed_memory()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Benchmarks go by CPU time, those on a GPU by the wall clock; pytest hands this hook the other tests too."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            clock = time.perf_counter if "cuda" in item.name else cpu_seconds
            item.add_marker(pytest.mark.benchmark(timer=clock))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table, and write it to $BENCH_TABLE or build/benchmarks-KIND.md."""
    if not ROWS:
        return
    lines = ["| what | against | ours | theirs | ratio | goal |", "|---|---|---:|---:|---:|---:|"]
    for row in ROWS:
        theirs = "" if row.reference_s is None else spell(row.reference_s)
        ratio = "" if row.reference_s is None else f"{row.reference_s / row.ours_s:.3g}"
        lines.append(f"| {row.what} | {row.reference} | {spell(row.ours_s)} | {theirs} | {ratio} | {row.goal} |")
    lines += ["", f"CPU time, one thread, or wall clock on a GPU; least of the rounds. {machine()}", ""]
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text("\n".join(lines), encoding="utf-8")
    terminalreporter.write("\n" + "\n".join(lines) + f"\nwritten to {TABLE}\n")


def spell(seconds: float) -> str:
    """Seconds with three digits, in the unit that fits."""
    unit, factor = next(((u, f) for u, f in (("s", 1), ("ms", 1e3)) if seconds * f >= 1), ("µs", 1e6))
    return f"{seconds * factor:.3g} {unit}"


def machine() -> str:
    """Processor, what it can do, and versions."""
    cpu = torch.cpu
    has = [
        word
        for word, found in (("AVX512-BF16", cpu._is_avx512_bf16_supported()), ("AMX", cpu._is_amx_tile_supported()))
        if found
    ]
    used = f"torch used {CAPABILITY}" + (f", oneDNN at most {ISA_LIMIT}: emulated" if ISA_LIMIT else "")
    packages = ", ".join(
        f"{package} {version(package)}" for package in ("torch", "numpy", "scipy", "scikit-learn", "wfdb")
    )
    return (
        f"{processor_name()} ({', '.join(has) or 'no bf16'}; {used}), Python {platform.python_version()}, {packages}."
    )
