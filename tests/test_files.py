"""Files and folders that are whole or not there, also where their writer was killed in the middle."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.boards.declared import BoardPlan
from bench.data.datasets import load_records
from bench.data.formats import FORMATS, SignalFile, read_signals
from bench.data.manifests import read_manifest
from bench.data.text import read_text
from bench.data.verify import verify
from bench.data.waveforms import read_waveform
from bench.errors import BenchError
from bench.files import (
    FOREIGN_S,
    PART,
    FileLock,
    SharedLock,
    file_sha256,
    locked_alone,
    num_bytes,
    remove_leftovers,
    replace_folder,
    require_file,
    this_machine,
    whole_file,
    whole_folder,
    write_at,
    write_into,
    write_whole,
)
from bench.pages.surroundings import read_rows
from bench.results.result import RESULT, load_head, load_result
from bench.results.run_folder import lock_of
from bench.results.status import survey
from bench.training.weights import read_weights

WRITE = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
"""
"""A process that the kernel kills in the middle of the first file of more than 1,000 bytes."""


def killed_while(code: str, *arguments: object) -> None:
    """Run code in a process that is killed when a file that it writes reaches 1,000 bytes."""
    done = subprocess.run([sys.executable, "-c", WRITE + code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGXFSZ, done.stderr


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_writer_leaves_the_old_file_and_the_next_removes_what_it_left(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    write_whole(path, "old")
    for _ in range(2):
        killed_while("from bench.files import write_whole; write_whole(Path(sys.argv[1]), 'new' * 9000)", path)
        assert path.read_text() == "old"
        assert len(names(tmp_path)) == 2

    write_whole(path, "new")

    assert path.read_text() == "new"
    assert names(tmp_path) == ["page.md"]


def test_a_killed_writer_leaves_the_old_folder_and_the_next_removes_what_it_left(tmp_path: Path) -> None:
    code = """
from bench.files import whole_folder, write_into
with whole_folder(Path(sys.argv[1])) as folder:
    write_into(folder, "a", "new")
    write_into(folder, "b", "new" * 9000)
"""
    final = tmp_path / "run"
    with whole_folder(final) as folder:
        write_into(folder, "a", "old")
    killed_while(code, final)
    assert (final / "a").read_text() == "old"
    assert len(names(tmp_path)) == 2

    with whole_folder(final) as folder:
        write_into(folder, "c", "newest")

    assert names(tmp_path) == ["run"]
    assert names(final) == ["c"]


def test_a_folder_set_aside_by_a_killed_writer_is_put_back(tmp_path: Path) -> None:
    final = tmp_path / "run"
    with whole_folder(final) as folder:
        write_into(folder, "a", "old")
    final.rename(tmp_path / ".run.old")  # killed between the two renames

    with pytest.raises(KeyError), whole_folder(final):
        raise KeyError

    assert names(tmp_path) == ["run"]
    assert (final / "a").read_text() == "old"


@pytest.mark.parametrize("fsync", [True, False])
def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool
) -> None:
    """A power cut between the two cannot be tried; without the first, a file system may keep a name without content."""
    target, events, real = tmp_path / "a", list[tuple[int, bool]](), os.fsync

    def seen(descriptor: int) -> None:
        events.append((os.fstat(descriptor).st_size, target.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    write_whole(target, b"x" * 3000, fsync=fsync)

    assert events == ([(3000, False)] if fsync else [])
    assert target.read_bytes() == b"x" * 3000


def test_what_is_being_written_is_not_left_over(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with whole_file(path) as slow:
        slow.write(b"slow")
        write_whole(path, "quick")
        remove_leftovers(tmp_path)
        assert path.read_text() == "quick"

    assert path.read_text() == "slow"
    assert names(tmp_path) == ["a"]


def test_many_writers_of_one_file_leave_the_file_of_one_of_them(tmp_path: Path) -> None:
    path, faults = tmp_path / "a", list[BaseException]()

    def write(letter: str) -> None:
        try:
            for _ in range(30):
                write_whole(path, letter * 50_000)
                assert len(set(path.read_text())) == 1
                assert path.stat().st_size == 50_000
        except BaseException as error:
            faults.append(error)
            raise

    threads = [threading.Thread(target=write, args=[letter]) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not faults
    assert names(tmp_path) == ["a"]


def test_a_folder_that_is_removed_as_it_begins_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer takes it for the leftover of a kill, before it is locked."""
    opens, removed = os.open, []

    def late(path: Path, *given: int, **more: Any) -> int:
        if not removed and Path(path).is_dir() and Path(path).suffix == ".part":
            removed.append(path)
            remove_leftovers(tmp_path)
        return opens(path, *given, **more)

    monkeypatch.setattr(os, "open", late)
    with whole_folder(tmp_path / "a") as folder:
        write_into(folder, "content", b"whole")

    assert removed and not Path(removed[0]).exists()
    assert (tmp_path / "a/content").read_bytes() == b"whole"


def test_a_failing_block_leaves_nothing(tmp_path: Path) -> None:
    def half_a_file() -> None:
        with whole_file(tmp_path / "a") as stream:
            stream.write(b"half")
            raise KeyError

    def half_a_folder() -> None:
        with whole_folder(tmp_path / "b") as folder:
            write_into(folder, "half", b"half")
            raise KeyError

    for fail in (half_a_file, half_a_folder):
        with pytest.raises(KeyError):
            fail()
        assert not names(tmp_path)


@pytest.mark.parametrize(
    "write", [lambda path: write_whole(path, "x"), lambda path: whole_file(path).__enter__()], ids=["whole", "stream"]
)
def test_an_error_names_the_file_that_was_to_be_written(tmp_path: Path, write: Callable[[Path], object]) -> None:
    path = tmp_path / "missing" / "a"
    with pytest.raises(FileNotFoundError) as caught:
        write(path)
    assert caught.value.filename == str(path)


def test_links_permissions_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    write_whole(target, "old")
    target.chmod(0o640)
    link.symlink_to(target)
    os.mkfifo(pipe)
    read = list[bytes]()
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()

    write_whole(link, "new")
    write_whole(pipe, "through")
    reader.join()

    assert link.is_symlink()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    assert pipe.is_fifo()
    assert read == [b"through"]


@pytest.fixture
def at_once() -> Iterator[None]:
    """The test fails if it waits for 20 s, as reading a pipe does."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make_special(path: Path, kind: str) -> None:
    """Create a pipe, a socket, or a link to a device that never ends."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))  # 107 characters at most
    else:
        path.symlink_to("/dev/zero")


SPECIAL = ("pipe", "socket", "device")
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "result": (RESULT, lambda path: load_result(path.parent)),
    "head": (RESULT, lambda path: load_head(path.parent)),
    "weights": ("w.pt", read_weights),
    "safetensors": ("w.safetensors", read_weights),
    "manifest": ("m.json", read_manifest),
    "table of ptb-xl": ("ptbxl_database.csv", lambda path: load_records(path.parent)),
    "dataset.toml": ("dataset.toml", lambda path: load_records(path.parent)),
    "checksums": ("SHA256SUMS.txt", lambda path: verify(path.parent)),
    "header": ("a.hea", lambda path: read_waveform(path.with_suffix(""))),
    "npy": ("a.npy", lambda path: read_signals(SignalFile(path.with_suffix(""), None, FORMATS["npy"]))),
    "plan": ("superdiag.toml", BoardPlan.load),
    "reported": ("reported.csv", read_rows),
}
"""What is read -> the name of its file, and the function that reads it."""


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("what", READERS)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, what: str, kind: str) -> None:
    name, read = READERS[what]
    make_special(tmp_path / name, kind)
    with pytest.raises(BenchError, match=rf"{name}.* is a pipe, socket or device, expected a regular file") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_folder_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / RESULT).mkdir()
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        require_file(tmp_path / RESULT)
    with pytest.raises(BenchError, match="cannot be read: Is a directory"):
        load_result(tmp_path)


@pytest.mark.usefixtures("at_once")
def test_the_output_of_a_program_is_read_where_a_user_may_name_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen(["sh", "-c", 'printf "a,b\\n1,2\\n" > "$0"', tmp_path / "pipe"])

    assert read_text(tmp_path / "pipe", may_be_pipe=True) == "a,b\n1,2\n"
    assert writer.wait() == 0


@pytest.mark.usefixtures("at_once")
def test_a_pipe_with_the_name_of_a_lock_or_a_log_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "superdiag").mkdir()
    os.mkfifo(lock_of(tmp_path / "superdiag/a-00000000"))
    (tmp_path / "superdiag/a-00000000.unfinished").mkdir()
    os.mkfifo(tmp_path / "superdiag/a-00000000.unfinished/log.jsonl")

    assert [cell.state for cell in survey(tmp_path)] == ["unfinished"]


def test_long_names_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 127)  # 254 bytes, of 255
    write_whole(path, "x")
    assert names(tmp_path) == [path.name]


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()

    replace_folder(tmp_path / "new", tmp_path / "old")

    assert names(tmp_path) == ["old"]
    assert names(tmp_path / "old") == ["new"]


WRITERS = {
    "result": """
from bench.results.result import write_result
write_result(target, {"big": "x" * 5000}, {})
""",
    "failure": """
from bench.results.failures import Failure
Failure.now("bench run", "test", "reason", "x" * 5000).write(target / "a.failed")
""",
    "manifest": """
from bench.data.manifests import write_manifest
write_manifest({"train": list(range(5000)), "val": [], "test": []}, target / "a.json")
""",
    "checkpoint": """
import time, torch
from bench.training.checkpoint import Checkpoints
Checkpoints(target, True, print, 0).save({"weights": torch.zeros(5000)})
""",
    "features": """
import numpy as np
from bench.training.feature_cache import FeatureCache
FeatureCache(target).save(np.arange(500), np.zeros((500, 9), dtype=np.float32), 1.0)
""",
    "catalogue": """
from bench.registry.catalogue import _keep
_keep(target / "catalogue.json", "x" * 5000)
""",
    "picture": """
from bench.evaluation.metrics import reliability
import numpy as np
from bench.pages.pictures import reliability_curves
rng = np.random.default_rng(0)
y_true = rng.random((500, 1)) < 0.5
reliability_curves({"a": reliability(y_true, rng.random((500, 1)))}, target / "a.svg")
""",
    "page": """
from bench.files import write_at
write_at(target / "a.md", "x" * 5000)
""",
    "demo": """
from bench.demo.dataset import write_demo
write_demo(target / "demo", 100, 0, (100,))
""",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_leaves_nothing_half_written(tmp_path: Path, writer: str) -> None:
    killed_while("target = Path(sys.argv[1])\n" + WRITERS[writer], tmp_path)

    left = names(tmp_path)
    assert left, "it was killed before it wrote"
    assert all(PART.fullmatch(name) for name in left)

    code = "import sys\nfrom pathlib import Path\ntarget = Path(sys.argv[1])\n" + WRITERS[writer]
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert not [name for name in names(tmp_path) if PART.fullmatch(name)]


def test_a_lock_is_shared_or_held_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    first, second = SharedLock(path), SharedLock(path)
    code = "import sys; from pathlib import Path; from bench.files import *\n"
    code += "with locked_alone(Path(sys.argv[1])) as alone: print(alone)"

    def alone_elsewhere() -> str:
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert alone_elsewhere() == "False"
    del first
    with locked_alone(path) as alone:
        assert not alone, "the second one is left"
    del second
    assert alone_elsewhere() == "True"
    with locked_alone(path) as alone:
        assert alone
        with pytest.raises(FileNotFoundError, match="another process removes it"):
            SharedLock(path)
    SharedLock(path)
    with locked_alone(tmp_path / "none") as alone:
        assert not alone


def test_a_file_that_was_removed_before_it_was_locked_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock = tmp_path / "file", fcntl.flock
    path.write_text("x")

    def late(file: int, kind: int) -> None:
        path.unlink()
        path.write_text("of another process")
        flock(file, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(FileNotFoundError):
        SharedLock(path)


def test_a_file_is_written_at_a_path_whose_folders_are_missing(tmp_path: Path) -> None:
    path = write_at(tmp_path / "a" / "b" / "page.md", "text")

    assert path.read_text() == "text" and write_at(path, "other") == path
    assert path.read_text() == "other"


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a").write_bytes(bytes(10))
    (tmp_path / "inner" / "b").write_bytes(bytes(100))
    (tmp_path / "c").symlink_to("gone")

    assert num_bytes(tmp_path) == 110
    assert (num_bytes(tmp_path / "a"), num_bytes(tmp_path / "none")) == (10, 0)
    monkeypatch.setattr(os, "walk", lambda top: [(str(tmp_path), [], ["a", "removed meanwhile"])])
    assert num_bytes(tmp_path) == 10


def test_the_hash_is_over_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")

    # the example of FIPS 180-4
    assert file_sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_another_machine_writes_is_left_over_after_a_day(tmp_path: Path) -> None:
    """Its lock may not be seen here."""
    other = "0000" if this_machine() != "0000" else "1111"
    for machine in (other, this_machine()):
        (tmp_path / f".a.{machine}01234567.part").mkdir()
    fresh, old = tmp_path / f".a.{other}01234567.part", tmp_path / f".a.{other}89abcdef.part"
    old.touch()
    os.utime(old, (time.time() - FOREIGN_S - 60,) * 2)

    remove_leftovers(tmp_path)

    assert names(tmp_path) == [fresh.name]


def test_a_folder_that_another_process_has_finished_is_kept(tmp_path: Path) -> None:
    final = tmp_path / "a"
    for replace, expected in ((False, b"first"), (True, b"second")):
        with whole_folder(final, replace=replace) as folder:
            write_into(folder, "content", b"second")
            final.mkdir(exist_ok=True)
            (final / "content").write_bytes(b"first")
        assert (final / "content").read_bytes() == expected
        assert names(tmp_path) == ["a"]


LOCKS = """
import sys
from pathlib import Path
from bench.files import FileLock

with FileLock(Path(sys.argv[1])).held() as is_ours:
    print(is_ours, flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_one_processs_and_ends_with_it(tmp_path: Path) -> None:
    path, pipes = tmp_path / "lock", {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    other = subprocess.Popen([sys.executable, "-c", LOCKS, path], **pipes)  # type: ignore[call-overload]
    assert other.stdout.readline().strip() == "True"
    lock = FileLock(path)
    assert not lock.acquire()
    assert not lock.acquire(0.2)
    other.kill()
    other.communicate()

    assert lock.acquire(5)
    with FileLock(path).held() as second:
        assert not second
    path.unlink()
    assert FileLock(path).acquire(), "the file is a new one"
    lock.release()
    lock.release()


def test_a_lock_without_locks_is_everybodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none that a killed process of another machine has left for ever."""

    def flock(file: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    assert FileLock(tmp_path / "lock").acquire()
    assert FileLock(tmp_path / "lock").acquire()


def test_a_lock_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "missing/lock").acquire()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(tmp_path / "link").acquire()
