"""Runs the parts on a GPU, or small on a CPU, each in a process of its own and within its share of eight minutes.

`make gpu`, or `make gpu PART=3`, or `PART=2,4`. Numbers are in build/gpu.json and build/gpu.md, or in $OUT, as soon as
they are measured, whatever becomes of the rest.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent)]

from machine import CHECKOUT, offer_plugins  # noqa: E402
from report import Report  # noqa: E402

PARTS = {
    1: ("part1_device", "Everything on the device", 50),
    2: ("part2_agreement", "Precision, repeatability, kill and resume, CPU against card", 85),
    3: ("part3_speed", "Training and prediction against the published code", 100),
    4: ("part4_cell", "A whole cell, and a probe", 140),
    5: ("part5_savings", "What pays by itself", 70),
    6: ("part6_ranks", "Several processes", 30),
}
"""Module, title, and seconds after which a part is ended on a card; eight minutes in all."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", default="", help="numbers of parts, such as 3 or 2,4; all unless given")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or CHECKOUT / "build"))
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    chosen = [int(part) for part in given.part.split(",")] if given.part else list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"there are parts 1 to {len(PARTS)}, and no {min(unknown)}")
    offer_plugins(CHECKOUT / "build" / "gpu-plugins")
    report = Report(given.out)
    if given.child:
        return measure(given.child, report)
    ended = [run_part(part, report) for part in chosen]
    print(f"written to {report.path.with_suffix('.md')}")
    return int(any(state != "done" for state in ended))


def run_part(part: int, report: Report) -> str:
    """Run a part in a process of its own; how it ended."""
    import torch
    from estimate import estimate_s

    _, title, limit = PARTS[part]
    limit *= 1 if torch.cuda.is_available() else 15  # a CPU may have other work: there it ends what hangs
    print(f"{part}. {title}", flush=True)
    report.begin(part, title, estimate_s(part))
    began = time.monotonic()
    words = [sys.executable, str(HERE), "--child", str(part), "--out", str(report.path.parent)]
    try:
        process = subprocess.Popen(words, process_group=0)
        code = process.wait(limit)
        state = "done" if code == 0 else f"failed (exit code {code})"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        state = f"cut off after {limit} s"
    report.end(part, state, time.monotonic() - began)
    return state


def end_with(parent: int) -> None:
    """End this process and its ranks once the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


def measure(part: int, report: Report) -> int:
    """A part, in this process, which ends with the one that started it."""
    threading.Thread(target=end_with, args=[os.getppid()], daemon=True).start()
    from machine import facts

    from bench.training.distributed import join

    warnings.simplefilter("ignore", UserWarning)  # of operations that cannot repeat their sums: part 2 measures it
    with join() as world:
        report.machine(facts(world.device))
        importlib.import_module(PARTS[part][0]).run(lambda *row: report.add(part, *row), world.device)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
