"""What a method reads from outside (clock, environment, files, unseeded generators), and what a loss seeds."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from bench.training.method import Method

CLOCKS = {
    "time": (
        *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time"),
        *("localtime", "gmtime", "ctime"),
    ),
    "datetime": ("now", "utcnow", "today"),
}
"""Functions that read the clock, by module."""
PASSED_OVER = ("os", "random", "datetime", "collections.abc")
"""Modules of the standard library through which a plugin gets there."""
BY_ITSELF = ("importlib", "_frozen_importlib", "torch")
"""Modules that open files by themselves, such as those of code."""
RANDOM = random._inst
"""The generator of Python's functions. NumPy's are not seen here; a resumed run differs by them."""
NAMES = frozenset({"open", "manual_seed", "seed", "__getitem__"}.union(*CLOCKS.values()))
"""Names of all functions that the checks below look for, except methods of RANDOM. Most calls are to others."""
HOOKS = ("phases", "prepare", "augment", "loss", "optimizer", "optimizer_step", "finish")


class Outside:
    """The first thing that a method's own code has read from outside, in one line, or None."""

    def __init__(self, method: Method) -> None:
        own = type(method).__mro__[: type(method).__mro__.index(Method)]
        self.files = {inspect.getfile(kind) for kind in own}
        self.fault: str | None = None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Look at every call within."""
        before = sys.getprofile()
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _see(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call":
            concerns = function.__name__ in NAMES or getattr(function, "__self__", None) is RANDOM
        else:
            concerns = event == "call" and frame.f_code.co_name in NAMES
        if not concerns or self.fault is not None:
            return
        what = _of_builtin(function) if event == "c_call" else _of_frame(frame)
        if _seeds(frame, event, function) and self._hook(_caller(frame), deep=False) == "loss()":
            self.fault = (
                "loss() seeds a generator, so that all seeds, draws and cells have the same noise; draw in augment "
                "from batch.rng, return it in a third value, and take it from batch.extra"
            )
        elif what and (hook := self._hook(frame, deep=what == "a file")):
            self.fault = (
                f"{hook} reads {what}, which neither result nor checkpoint records; take all that it depends on from "
                "hyper-parameters and the batch, and random numbers from batch.rng in augment"
            )

    def _hook(self, frame: FrameType | None, deep: bool) -> str | None:
        """Return the hook that a call comes from, if the method's own code made it; `deep`: or code called by that."""
        called = frame
        while called and not deep and _module(called) in PASSED_OVER:
            called = called.f_back
        if called is None or (not deep and called.f_code.co_filename not in self.files):
            return None
        while called:
            if called.f_code.co_filename in self.files and called.f_code.co_name in HOOKS:
                return f"{called.f_code.co_name}()"
            if _module(called).startswith(BY_ITSELF) and _module(called) != "torch.serialization":
                return None
            called = called.f_back
        return None


def _of_builtin(function: Any) -> str | None:
    """Return what a function in C reads, or None."""
    owner = getattr(function, "__self__", None)
    kind = owner if isinstance(owner, type) else type(owner)
    module, name = getattr(function, "__module__", None) or kind.__module__, function.__name__
    if name in CLOCKS.get(module, ()):
        return "the clock"
    if function is open:
        return "a file"
    if owner is RANDOM:
        return "a generator that nobody seeds"
    return None


def _of_frame(frame: FrameType) -> str | None:
    """Return what a function in Python reads, or None."""
    return "the environment" if _module(frame) == "os" and frame.f_code.co_name == "__getitem__" else None


def _seeds(frame: FrameType, event: str, function: Any) -> bool:
    """Return whether a call seeds a generator of torch or Python. NumPy's are not seen here."""
    if event == "c_call":
        return bool(function.__name__ == "manual_seed")
    return _module(frame) == "random" and frame.f_code.co_name == "seed"


def _caller(frame: FrameType) -> FrameType | None:
    """Return the frame that called a function of torch or random, through which a generator is seeded."""
    caller: FrameType | None = frame
    while caller and _module(caller).split(".")[0] in ("torch", "random"):
        caller = caller.f_back
    return caller


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))
