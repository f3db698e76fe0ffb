"""A cell: data set x task x backbone x init x method x fraction x draw x seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.data.datasets import find_task_name
from bench.data.datasets.held import HeldFolder
from bench.errors import BenchError
from bench.files import from_here
from bench.registry.reference import Reference
from bench.registry.registry import Plugin, find, find_optional, normalize
from bench.registry.source import NOT_INSTALLED
from bench.results.document import quoted
from bench.results.numbers import fraction_and_draw, seed_or_draw, whole_number


@dataclass(frozen=True, kw_only=True)
class Cell:
    """All that defines a run. References are made canonical: names as registered, defaults left out."""

    data: Path
    task: str
    arch: Reference
    method: Reference
    init: str | None = None
    """`pretrained`, `random` or a path. None: `pretrained` if the backbone has a published checkpoint, or `random`."""
    fraction: float = 1.0
    draw: int = 0
    manifest: Path | None = None
    """A file that lists the training records, in place of fraction and draw."""
    seed: int = 0
    source_rate: int | None = None
    """Sampling rate in Hz of the files to read. None: the backbone's rate."""
    precision: str = "auto"

    def __post_init__(self) -> None:
        # NumPy's numbers become Python's: streams and command hold the text of a number
        fraction, draw = fraction_and_draw(self.fraction, self.draw)
        object.__setattr__(self, "fraction", fraction)
        object.__setattr__(self, "draw", draw)
        object.__setattr__(self, "seed", seed_or_draw("seed", self.seed))
        if self.source_rate is not None:
            object.__setattr__(self, "source_rate", whole_number("source_rate", self.source_rate))
        if self.manifest is not None and self.fraction < 1:
            raise BenchError("--manifest lists the training records and --fraction draws them; give one of them")
        object.__setattr__(self, "task", find_task_name(self.task, self.data))
        object.__setattr__(self, "arch", normalize("backbone", self.arch))
        object.__setattr__(self, "method", normalize("method", self.method))

    @property
    def streams(self) -> Literal["seed", "draw and seed"]:
        """What the random streams depend on. For draw 0 the seed alone, so that older results stay valid."""
        return "draw and seed" if self.draw else "seed"

    @property
    def entropy(self) -> int | tuple[int, int]:
        """The key of this cell's random streams: its seed, or draw and seed."""
        return (self.draw, self.seed) if self.draw else self.seed

    def command(self) -> str:
        """Return the command line that runs this cell, without `--data`."""
        words = ["bench run", f"--task {self.task}", f"--arch {quoted(self.arch)}", f"--method {quoted(self.method)}"]
        words += [f"--plugin {quoted(from_here(file))}" for file in self.plugin_files]
        words += [f"--init {quoted(self.init)}"] if self.init else []
        words += [f"--fraction {self.fraction!r}", f"--draw {self.draw}"] if self.fraction < 1 else []
        words += [f"--manifest {quoted(self.manifest)}"] if self.manifest is not None else []
        words += [f"--seed {self.seed}"] if self.seed else []
        words += [f"--source-rate {self.source_rate}"] if self.source_rate else []
        words += [f"--precision {self.precision}"] if self.precision != "auto" else []
        return " ".join(words)

    @property
    def plugin_files(self) -> list[Path]:
        """Return the files, not installed, that define its method, backbone or task."""
        return list(dict.fromkeys(plugin.file for plugin in self._plugins if plugin.file))

    @property
    def of_notebook(self) -> list[str]:
        """Return the names of those of its method, backbone, task and data set that other processes cannot import.

        A notebook, a script, or a module beside the script defines them.
        """
        held = [f"the data set of {self.data}"] if isinstance(self.data, HeldFolder) else []
        here = (plugin for plugin in self._plugins if plugin.distribution.endswith(NOT_INSTALLED) and not plugin.file)
        return [*(plugin.name for plugin in here), *held]

    @property
    def _plugins(self) -> list[Plugin]:
        """Its task, unless it is of the data set's own labels, its backbone and its method."""
        task = find_optional("task", self.task)
        return [*([task] if task else []), find("backbone", self.arch.name), find("method", self.method.name)]

    def folder_name(self, digest: str) -> str:
        """Return the folder name: readable, sortable, unique by the digest's first 8 digits."""
        thinned = f"-{self.fraction:g}-draw{self.draw}" if self.fraction < 1 else ""
        thinned = f"-{self.manifest.stem}" if self.manifest is not None else thinned
        return f"{self.arch.name}-{self.method.name}{thinned}-seed{self.seed}-{digest[:8]}"
