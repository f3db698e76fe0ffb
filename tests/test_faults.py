"""What kills and stops runs: nothing is lost, nothing is done twice, nothing half-written is taken for whole.

Each fault is real and hits a real process. $BENCH_FAULTS says how many kills there are of each kind [default: 3].
Run as a script this file imports torch once, and forks a process for every run that it is asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench.cell import Cell
from bench.errors import BenchError
from bench.execute import Options, execute
from bench.registry.reference import Reference
from bench.registry.registry import registry
from bench.results.prune import prune
from bench.results.result import RESULT, Result, find_results
from bench.results.status import survey

NUM_KILLS = int(os.environ.get("BENCH_FAULTS", "3"))
METHOD = "lpft(probe_epochs=1, finetune_epochs=2)"
TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
"""Audit events of Python that name a file."""


def serve() -> None:
    """Fork a process for each line of the standard input; print its id, and its status when it has ended."""
    registry()
    for line in sys.stdin:
        wish = json.loads(line)
        if (child := os.fork()) == 0:
            code = 1
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            try:
                code = run(**wish)
            except BenchError as error:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                print(f"error: {error}", file=sys.stderr, flush=True)
                code = 2
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                if code == 1:
                    traceback.print_exc()
                os._exit(code)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


def run(data: str, runs: str, moment: int | None, delay: float, limit: int | None) -> int:
    """Run the cell in this process; 0 when it is done.

    It is killed `delay` seconds after it has touched a file of its run or its cache for the `moment`-th time; without
    a moment the number of touches is written beside the runs. `limit`: bytes of the largest file it may write.
    """
    os.environ["BENCH_CACHE"] = f"{runs}-cache"
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    touched = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal touched
        if event in TOUCHES and str(arguments[0]).startswith(runs):
            touched += 1
            if touched == moment and delay:
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
            elif touched == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    cell = Cell(
        data=Path(data),
        task="superdiag",
        arch=Reference("net1d_mini"),
        method=Reference.parse(METHOD),
        precision="float32",
    )
    execute(cell, Options(runs=Path(runs), console=Console(quiet=True)))
    if moment is None:
        Path(f"{runs}-touched").write_text(str(touched))
    return 0


class Runner:
    """Runs of one cell, each in a process of its own."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.said = data, folder / "said"
        with self.said.open("w") as said:
            self.server = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
            )

    def start(self, runs: Path, moment: int | None = None, delay: float = 0.0, limit: int | None = None) -> int:
        """Start a run; its process id."""
        wish = {"data": str(self.data), "runs": str(runs), "moment": moment, "delay": delay, "limit": limit}
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(wish) + "\n")
        self.server.stdin.flush()
        return self._read()

    def end(self) -> int:
        """Wait for the run that was started last: its exit code, negative for a signal."""
        return os.waitstatus_to_exitcode(self._read())

    def __call__(self, runs: Path, moment: int | None = None, delay: float = 0.0, limit: int | None = None) -> int:
        """Start a run and wait for it."""
        self.start(runs, moment, delay, limit)
        return self.end()

    def _read(self) -> int:
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())


class Undisturbed:
    """The run that nothing happened to: what it left, how long it took, and how often it touched a file."""

    def __init__(self, runner: Runner, runs: Path) -> None:
        began = time.monotonic()
        assert runner(runs) == 0, runner.said.read_text()
        self.seconds = time.monotonic() - began
        (self.result,) = find_results(runs)
        self.num_touches = int(Path(f"{runs}-touched").read_text())


@pytest.fixture(scope="module")
def runner(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    made = Runner(demo_set, tmp_path_factory.mktemp("runner"))
    yield made
    made.server.communicate(timeout=60)


@pytest.fixture(scope="module")
def whole(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(runner, tmp_path_factory.mktemp("undisturbed") / "runs")


def assert_same(one: Result, other: Result) -> None:
    """Metrics, predictions, weights and the story of their training, to the bit; not the time it took."""
    for key in ("digest", "cell", "metrics", "weights_sha256", "signals"):
        assert one.document[key] == other.document[key], key
    clock = {"seconds": 0, "feature_seconds": 0}
    for ours, theirs in zip(one.document["training"], other.document["training"], strict=True):
        assert {**ours, **clock} == {**theirs, **clock}
    assert list(one.predictions) == list(other.predictions) == [9, 10]
    for fold, scores in one.predictions.items():
        np.testing.assert_array_equal(scores.ecg_id, other.predictions[fold].ecg_id)
        np.testing.assert_array_equal(scores.logits, other.predictions[fold].logits)


def assert_ends_whole(runner: Runner, runs: Path, whole: Undisturbed) -> None:
    """After whatever has happened: what is finished is whole, the same command ends, and nothing is left over."""
    for result in find_results(runs) if runs.is_dir() else ():
        assert_same(result, whole.result)
    assert runner(runs) == 0, runner.said.read_text()
    (result,) = find_results(runs)
    assert_same(result, whole.result)
    assert [one.state for one in survey(runs)] == ["done"]
    prune(runs)
    assert list(result.folder.parent.iterdir()) == [result.folder]
    assert {path.name for path in result.folder.iterdir()} == {RESULT, "predictions.npz", "log.jsonl", "weights.pt"}
    cache = Path(f"{runs}-cache")
    assert not [path for path in cache.iterdir() if path.name.startswith(".")], "a cache entry half written"


def moments(whole: Undisturbed) -> list[int]:
    """Where to kill: spread over all touches of a file, or every one of them."""
    drawn = random.Random(1)
    every = range(1, whole.num_touches + 1)
    return sorted(drawn.sample(every, NUM_KILLS)) if len(every) > NUM_KILLS else list(every)


@pytest.mark.slow
def test_killed_while_it_touches_a_file(runner: Runner, whole: Undisturbed, tmp_path: Path) -> None:
    assert whole.num_touches > 30
    assert (
        whole.result.document["training"][1]["train_loss"][0] != whole.result.document["training"][1]["train_loss"][1]
    )
    delays = random.Random(2)
    for moment in moments(whole):
        runs = tmp_path / f"runs{moment}"
        code = runner(runs, moment, delay=delays.choice((0.0, delays.uniform(0.0, 0.004))))
        assert code in (-signal.SIGKILL, 0), runner.said.read_text()
        assert_ends_whole(runner, runs, whole)


@pytest.mark.slow
def test_killed_at_any_time(runner: Runner, whole: Undisturbed, tmp_path: Path) -> None:
    times = random.Random(3)
    for number in range(NUM_KILLS):
        runs = tmp_path / f"runs{number}"
        process = runner.start(runs)
        time.sleep(times.uniform(0.0, whole.seconds))
        with contextlib.suppress(ProcessLookupError):  # it may be quicker than the undisturbed one
            os.kill(process, signal.SIGKILL)
        runner.end()
        assert_ends_whole(runner, runs, whole)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["the newest", "all"])
def test_a_deleted_checkpoint(runner: Runner, whole: Undisturbed, tmp_path: Path, lost: str) -> None:
    runs = tmp_path / "runs"
    process = runner.start(runs)
    until(lambda: list(runs.glob("superdiag/*/checkpoint-0003.pt")))
    os.kill(process, signal.SIGKILL)
    assert runner.end() == -signal.SIGKILL
    (folder,) = runs.glob("superdiag/*.unfinished")
    kept = sorted(folder.glob("checkpoint-*.pt"))
    assert len(kept) in (2, 3)  # three if the kill came before the oldest was removed
    for path in kept if lost == "all" else kept[-1:]:
        path.unlink()

    assert_ends_whole(runner, runs, whole)
    log = next(find_results(runs)).folder / "log.jsonl"
    assert ("resumed in phase" in log.read_text()) == (lost == "the newest")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A disk of 64 MiB of its own, or None where nothing can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder))
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True).returncode == 0


@pytest.mark.slow
def test_a_full_disk(runner: Runner, whole: Undisturbed, small_disk: Path | None, tmp_path: Path) -> None:
    """A disk with too little space, or where none can be mounted files that may not grow so large."""
    weights = (whole.result.folder / "weights.pt").stat().st_size
    runs = (small_disk or tmp_path) / "runs"
    Path(f"{runs}-cache").symlink_to(f"{whole.result.folder.parents[1]}-cache")
    # a fine-tuning checkpoint is five times the weights, the initial ones among them: too little for a folder, the log,
    # the first checkpoint, the second, the weights beside it, and the result
    too_little = [0, 5_000, weights, 7 * weights, 5 * weights + weights // 2, weights + 6_000]
    faults = []
    for size in too_little if small_disk else [100, weights // 2, 2 * weights]:
        said = len(runner.said.read_text())
        if small_disk:
            fill(small_disk / "ballast", leave=size)
        code = runner(runs, limit=None if small_disk else size)
        (line,) = runner.said.read_text()[said:].splitlines()
        assert code == 2, f"{size} bytes"
        assert line.startswith("error: ")
        assert str(runs) in line
        faults.append(next(words for words in FAULTS if words in line))
        assert not runs.is_dir() or not list(find_results(runs))
        (small_disk or tmp_path).joinpath("ballast").unlink(missing_ok=True)
    assert set(faults) == set(FAULTS if small_disk else FAULTS[:2]), faults
    assert_ends_whole(runner, runs, whole)


FAULTS = ("cannot write to", "could not write a checkpoint", "weights.pt", "cannot write the result")


def fill(ballast: Path, leave: int) -> None:
    """Write a file that leaves so many bytes of its disk, beside what is there already."""
    space = os.statvfs(ballast.parent)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, space.f_bavail * space.f_frsize - leave))


@pytest.mark.slow
def test_a_runs_folder_that_cannot_be_written(
    runner: Runner, whole: Undisturbed, demo_set: Path, small_disk: Path | None
) -> None:
    if small_disk is None:
        pytest.skip("nothing can be mounted here, and permissions do not stop root")
    runs = small_disk / "runs"
    subprocess.run(["cp", "-r", str(whole.result.folder.parents[1]), str(runs)], check=True)
    assert mount("-o", "remount,ro", str(small_disk))

    words = ["--task", "superdiag", "--arch", "prevalence", "--method", "lp", "--data", str(demo_set), "--seed", "0"]
    for verb in ("run", "sweep"):
        done = subprocess.run(
            [sys.executable, "-m", "bench", verb, *words, "--runs", str(runs)], capture_output=True, text=True
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: cannot write"), done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert "Read-only file system" in done.stderr
        assert "Traceback" not in done.stderr
    assert [one.state for one in survey(runs)] == ["done"]


def bench(*words: str, data: Path, runs: Path) -> subprocess.Popen[str]:
    """`bench WORDS` in a process of its own."""
    command = [sys.executable, "-m", "bench", *words, "--data", str(data), "--runs", str(runs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_sweeps_at_once_share_the_work(demo_set: Path, tmp_path: Path) -> None:
    grid = ("--task", "superdiag,form", "--arch", "prevalence", "--method", "lp(probe_epochs=20)", "--seed", "0,1,2,3")
    both = [bench("sweep", *grid, data=demo_set, runs=tmp_path / "runs") for _ in range(2)]
    for one in both:
        out, err = one.communicate(timeout=300)
        assert one.returncode == 0, out + err
        assert "8 cells: 8 done, 0 declined, 0 failed" in out

    results = list(find_results(tmp_path / "runs"))
    assert len(results) == 8
    for result in results:
        events = [json.loads(line)["event"] for line in (result.folder / "log.jsonl").read_text().splitlines()]
        assert (events.count("begins"), events.count("finished"), events.count("epoch")) == (1, 1, 20)
    assert [one.state for one in survey(tmp_path / "runs")] == ["done"] * 8


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_which_goes_on(demo_set: Path, tmp_path: Path) -> None:
    method, runs = Reference("lp", {"probe_epochs": 1000}), tmp_path / "runs"
    words = ("--task", "superdiag", "--arch", "prevalence", "--method", str(method), "--precision", "float64")
    launcher = bench("run", *words, "--nproc", "2", data=demo_set, runs=runs)
    until(lambda: launcher.poll() is not None or list(runs.glob("superdiag/*/checkpoint-*.pt")))
    (rank,) = [pid for pid in descendants(launcher.pid) if b"\0LOCAL_RANK=1\0" in environment(pid)]
    os.kill(rank, signal.SIGKILL)
    out, err = launcher.communicate(timeout=60)

    assert launcher.returncode == 2, out + err
    assert err.splitlines()[-1] == "error: rank 1 was killed by SIGKILL; the same command resumes the run"
    (left,) = survey(runs)
    assert left.state == "unfinished"
    cell = Cell(data=demo_set, task="superdiag", arch=Reference("prevalence"), method=method, precision="float64")
    resumed = execute(cell, Options(runs=runs, console=Console(quiet=True)))
    alone = execute(cell, Options(runs=tmp_path / "alone", console=Console(quiet=True)))
    assert "resumed in phase probe" in (resumed.folder / "log.jsonl").read_text()
    for fold, scores in resumed.predictions.items():
        np.testing.assert_allclose(scores.logits, alone.predictions[fold].logits, rtol=1e-6)
    assert alone.document["training"][0]["train_loss"][0] > alone.document["training"][0]["train_loss"][-1]


def descendants(parent: int) -> list[int]:
    """The processes that a process has started, and on and on."""
    with contextlib.suppress(FileNotFoundError):
        lists = [path.read_text() for path in Path(f"/proc/{parent}/task").glob("*/children")]
        children = [int(pid) for pid in " ".join(lists).split()]
        return [*children, *(pid for child in children for pid in descendants(child))]
    return []


def environment(pid: int) -> bytes:
    try:
        return b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except FileNotFoundError:
        return b""


if __name__ == "__main__":
    serve()
