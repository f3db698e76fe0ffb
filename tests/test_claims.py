"""Claims: of many processes one runs a cell, the dead lose theirs, the living never."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.launch import claims as claiming
from bench.launch.claims import Claims

HOLDER = """
import sys, time
from pathlib import Path
from bench.launch.claims import Claims
with Claims(Path(sys.argv[1])) as claims:
    print(claims.take("cell", claims.all()), flush=True)
    time.sleep(60)
"""


def until(happened: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the claim on `cell`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "True\n"
        yield process
        process.kill()


def take(claims: Claims, name: str = "cell") -> bool:
    return claims.take(name, claims.all())


def test_a_cell_has_one_claim_until_it_is_given_back(tmp_path: Path) -> None:
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert take(first) and take(first, "cell-0.5-draw0")
        assert not take(second) and not take(second, "cell-0.5-draw0")
        first.release("cell")
        assert take(second) and not take(first)
        second.release("cell", done=True)
        first.release("cell-0.5-draw0", done=True)
    assert not list(tmp_path.iterdir()), "what is done leaves no files"


def race(folder: Path, num_cells: int, start: "multiprocessing.synchronize.Event", taken: Path) -> None:
    with Claims(folder) as claims:
        start.wait()
        for number in range(num_cells):
            if claims.take(f"cell-{number}", {}):
                with taken.open("a") as file:
                    file.write(f"{number}\n")
        time.sleep(0.5)


def test_of_many_processes_one_takes_a_cell(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, files = context.Event(), [tmp_path / f"taken-{number}" for number in range(6)]
    workers = [context.Process(target=race, args=(tmp_path / "claims", 200, start, file)) for file in files]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join()

    taken = [int(line) for file in files if file.exists() for line in file.read_text().split()]
    assert sorted(taken) == list(range(200))


def test_the_claim_of_a_killed_process_is_taken_over_once(tmp_path: Path, elsewhere: subprocess.Popen[str]) -> None:
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert not take(first)
        elsewhere.send_signal(signal.SIGKILL)
        elsewhere.wait()
        seen = second.all()
        assert take(first)
        assert not second.take("cell", seen), "it saw the claim of the dead, and another was quicker"
        first.release("cell", done=True)
        assert not second.take("cell", seen), "it saw the claim of the dead, and the cell is done since"
        assert not list(tmp_path.iterdir())


def test_a_process_that_is_stopped_keeps_its_claim(tmp_path: Path, elsewhere: subprocess.Popen[str]) -> None:
    elsewhere.send_signal(signal.SIGSTOP)
    with Claims(tmp_path, beat=0.05, lease=0.2) as claims:
        (file,) = tmp_path.glob("cell.*")
        os.utime(file, (0, 0))
        assert not take(claims)


def as_if_elsewhere(file: Path) -> None:
    """Let a claim be of another machine."""
    file.write_text(json.dumps({**json.loads(file.read_text()), "host": "n2", "place": "another boot"}))


def test_on_another_machine_touches_tell_who_lives(
    tmp_path: Path, elsewhere: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = tmp_path.glob("cell.*")
    as_if_elsewhere(file)
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait()
    monkeypatch.setattr("time.time", lambda: 0.0)  # clocks of machines differ, that of the file system counts
    with Claims(tmp_path, beat=0.05, lease=1.0) as claims:
        os.utime(file)
        assert not take(claims), "it may live: it was touched just now"
        os.utime(file, ns=(0, os.stat(file).st_mtime_ns - 1_500_000_000))  # noqa: PTH116
        assert take(claims)


def test_a_claim_is_touched_while_it_is_held(tmp_path: Path) -> None:
    with Claims(tmp_path, beat=0.02, lease=30) as claims:
        assert take(claims)
        file = tmp_path / "cell.1"
        os.utime(file, (0, 0))
        until(lambda: file.stat().st_mtime > 0)
        assert not claims.lost


@pytest.mark.parametrize("how", ["taken over", "removed", "folder is gone"])
def test_who_has_lost_a_claim_notices(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Claims(tmp_path, beat=0.02, lease=0.3) as claims:
        assert take(claims)
        if how == "taken over":
            (tmp_path / "cell.2").write_text("{}")
        elif how == "removed":
            (tmp_path / "cell.1").unlink()
        else:  # a server that does not answer any more

            def unreachable(*_: object) -> None:
                raise OSError("stale file handle")

            monkeypatch.setattr(claiming.os, "utime", unreachable)
        until(lambda: claims.lost == {"cell"})
        claims.release("cell")
        assert not claims.lost


def test_a_claim_that_is_taken_again_while_a_touch_hangs_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The touch of the earlier claim says nothing of the new one."""
    hangs, goes_on, over = (threading.Event() for _ in range(3))
    touch = Claims._touch

    def slow(claims: Claims, name: str, claim: claiming.Claim) -> bool | None:
        if claim.number > 1:
            over.set()
            return touch(claims, name, claim)
        hangs.set()
        assert goes_on.wait(20)
        return False

    monkeypatch.setattr(Claims, "_touch", slow)
    with Claims(tmp_path, beat=0.02, lease=30) as claims:
        assert take(claims) and hangs.wait(20)
        claims.release("cell")
        assert take(claims)
        goes_on.set()
        assert over.wait(20)
        assert not claims.lost and claims._held["cell"][0].number == 2


def test_a_claim_whose_text_is_not_written_yet_is_alive(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims:
        (tmp_path / "cell.1").touch()
        assert not take(claims)
