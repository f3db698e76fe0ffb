"""Exclusive claims on cells, as files in a folder that all workers see. Of many workers, one runs a cell.

A claim is a file `NAME.N`, created with O_EXCL, and the highest N counts. To take a claim over is to create `NAME.N+1`,
so two workers that see the same dead claim cannot both have it, and nothing is renamed, replaced or locked.
`NAME.N.free` marks a claim that was given back. The files of a cell are removed once its outcome is written.

A claim is dead if its process is, where both are on one machine. Elsewhere it is dead when its file was not touched for
LEASE seconds, by the clock of the file system, so machines may differ in time. A worker that could not touch its claim
for half as long gives up its cell itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.errors import BenchError
from bench.files import boot_id, create_file, open_file

BEAT = 20.0
"""Seconds between two touches of a claim."""
LEASE = 300.0
"""Seconds after which an untouched claim of another machine is dead. NFS shows a file's time up to 60 s late."""
FREE = ".free"


@dataclass(frozen=True)
class Claim:
    """The newest claim on a cell."""

    path: Path
    number: int
    free: bool = False
    """It was given back."""


class Claims:
    """The claims in a folder. Those of this process are touched by a thread until they are released.

    `plan` names the plan for which this process works.
    """

    def __init__(self, folder: Path, plan: str = "", *, beat: float = BEAT, lease: float = LEASE) -> None:
        self._folder, self._plan, self._beat, self._lease = folder, plan, beat, lease
        self._held: dict[str, tuple[Claim, float]] = {}
        """Name -> claim and the time at which it was last touched."""
        self._lost: set[str] = set()
        self._lock, self._over = threading.Lock(), threading.Event()

    def __enter__(self) -> Claims:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._held):
            self.release(name)
        self._over.set()
        self._thread.join()

    def all(self) -> dict[str, Claim]:
        """Return name -> newest claim."""
        claims: dict[str, Claim] = {}
        if not self._folder.is_dir():
            return claims
        for file in os.listdir(self._folder):  # noqa: PTH208, thousands of names
            name, _, number = file.removesuffix(FREE).rpartition(".")
            if not number.isdigit():
                continue
            claim = Claim(self._folder / f"{name}.{number}", int(number), file.endswith(FREE))
            if name not in claims or (claims[name].number, claims[name].free) < (claim.number, claim.free):
                claims[name] = claim
        return claims

    def take(self, name: str, claims: Mapping[str, Claim]) -> bool:
        """Claim a cell, and return whether that succeeded. `claims` are those of `all`, some moments ago."""
        last = claims.get(name)
        if last and not last.free and not self.is_dead(last):
            return False
        claim = Claim(self._folder / f"{name}.{last.number + 1 if last else 1}", last.number + 1 if last else 1)
        try:
            if not create_file(claim.path, json.dumps({**_this_process(), "plan": self._plan})):
                return False
        except OSError as error:
            raise BenchError(f"cannot write to {self._folder}: {error.strerror}; the same command goes on") from None
        if last and not last.path.exists():  # the cell has been finished since, and its claims removed
            claim.path.unlink()
            return False
        with self._lock:
            self._held[name] = (claim, time.monotonic())
        return True

    def is_dead(self, claim: Claim, seconds: float | None = None) -> bool:
        """Return whether the process of a claim has ended; on another machine, if untouched for `seconds` [lease]."""
        if (read := _read(claim)) is None:
            return False
        owner, touched = read
        if owner.get("place") == _place() != "":
            return bool(_birth(owner["pid"]) != owner["birth"])
        return self._now() - touched > (self._lease if seconds is None else seconds)

    def sign(self, claim: Claim | None) -> tuple[int, float] | None:
        """Return number and time of the last touch of a claim; None if no worker of this plan holds it."""
        read = _read(claim) if claim and not claim.free else None
        if claim is None or read is None or read[0].get("plan") != self._plan:
            return None
        return claim.number, read[1]

    def release(self, name: str, *, done: bool = False) -> None:
        """Give a claim back, for others to take. `done`: the cell has its outcome, and its claims are removed."""
        with self._lock:
            claim, _ = self._held.pop(name)
            if name in self._lost:
                self._lost.remove(name)
                return
        if not done:
            create_file(claim.path.with_name(claim.path.name + FREE), "")
            return
        for number in range(1, claim.number + 1):  # the newest last: until then it is the one that counts
            path = self._folder / f"{name}.{number}"
            path.unlink(missing_ok=True)
            path.with_name(path.name + FREE).unlink(missing_ok=True)

    @property
    def lost(self) -> set[str]:
        """The cells that this process must stop, because others may have taken its claims."""
        with self._lock:
            return set(self._lost)

    def _keep(self) -> None:
        while not self._over.wait(self._beat):
            with self._lock:
                held = dict(self._held)
            for name, (claim, touched) in held.items():
                kept = self._touch(name, claim)
                with self._lock:
                    if self._held.get(name, (None, 0.0))[0] is not claim:
                        continue  # released meanwhile, and perhaps taken again
                    if kept:
                        self._held[name] = (claim, time.monotonic())
                    elif kept is False or time.monotonic() - touched > self._lease / 2:
                        self._lost.add(name)

    def _touch(self, name: str, claim: Claim) -> bool | None:
        """Touch a claim. Return False if it is no longer this process's, and None if the folder did not answer."""
        try:
            os.utime(claim.path)
            return not (self._folder / f"{name}.{claim.number + 1}").exists()
        except FileNotFoundError:
            return False
        except OSError:
            return None

    def _now(self) -> float:
        """Return the time by the clock that also dates the claims."""
        probe = self._folder / f".clock-{uuid4().hex}"
        create_file(probe, "")
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()


def _read(claim: Claim) -> tuple[dict[str, Any], float] | None:
    """Return who has a claim, and the time at which it was last touched; None if it is gone or cannot be read."""
    try:
        with open_file(claim.path) as file:  # opening makes NFS ask its server for the present time
            touched, text = os.fstat(file.fileno()).st_mtime, file.read()
    except OSError:
        return None
    try:
        return json.loads(text), touched
    except ValueError:
        return {}, touched  # its process has not written it to the end


def _this_process() -> dict[str, object]:
    """Return what identifies this process."""
    return {"host": os.uname().nodename, "place": _place(), "pid": os.getpid(), "birth": _birth(os.getpid())}


def _place() -> str:
    """Return what a process number is unique in: this boot of this machine and this container; empty if not known."""
    try:
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    boot = boot_id()
    return f"{boot} {space}" if boot else ""


def _birth(pid: int) -> str:
    """Return the time at which a process was started, in ticks since boot; empty if it has ended."""
    with contextlib.suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        if state not in "ZX":
            return fields[18]
    return ""
