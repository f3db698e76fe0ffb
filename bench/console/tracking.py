"""Progress of a run: a bar and a line for each phase, log.jsonl, and Weights & Biases if requested."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from bench.console.cells_view import LINE_EVERY_S
from bench.console.terminal import print_line
from bench.errors import BenchError, first_line

Wandb = Literal["off", "offline", "online"]


def progress_bar(console: Console, what: str) -> Progress:
    """Return a progress bar with counts and time left, removed when it ends. Only a terminal shows it."""
    return Progress(
        TextColumn(what.replace("{", "{{").replace("}", "}}"), markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # elsewhere rich prints an empty line at the end
    )


@contextlib.contextmanager
def watch(
    folder: Path,
    console: Console,
    wandb: Wandb,
    config: Mapping[str, Any],
    is_main: bool,
    log: Callable[[str], None] = lambda line: None,
    data: Path = Path(),
) -> Iterator[Silent]:
    """Yield the callbacks of a run and close them at the end. Only those of the main rank print and write."""
    watcher = Tracker(folder, console, wandb, config, log, data) if is_main else Silent()
    try:
        yield watcher
    finally:
        watcher.close()


class Silent:
    """Callbacks of all other ranks: do nothing."""

    def phase_begins(self, name: str, num_epochs: int, steps_per_epoch: int, steps_done: int) -> None: ...
    def step_ends(self) -> None: ...
    def predicts(self, what: str, done: int, total: int) -> None: ...
    def epoch_ends(self, facts: dict[str, Any]) -> None: ...
    def phase_ends(self) -> None: ...
    def note(self, text: str) -> None: ...
    def prepared(self, done: int, total: int) -> None: ...
    def finish(self, summary: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


class Tracker(Silent):
    """Show a run on the console and write each epoch to log.jsonl."""

    def __init__(
        self,
        folder: Path,
        console: Console,
        wandb: Wandb,
        config: Mapping[str, Any],
        log: Callable[[str], None] = lambda line: None,
        data: Path = Path(),
    ) -> None:
        """`data` is the data set's folder, which the result does not tell and `bench status` needs."""
        self.console, self._log_line = console, log
        self._log = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._progress: Progress | None = None
        self._what = ""
        """What the bar counts."""
        self._task = TaskID(0)
        self._run: Any = None
        self._failed = True
        self._began = self._printed = time.monotonic()
        begins = {
            "command": config["cell"]["command"],
            "data": config["dataset"]["name"],
            "folder": str(data.absolute()),
        }
        self._write({"event": "begins", **begins})
        if wandb != "off":
            self._run = _start_wandb(folder, wandb, config)

    def prepared(self, done: int, total: int) -> None:
        """Show how many records are prepared."""
        self._advance("preparing signals", done, total, "records")
        self._log_line(f"preparing signals: {done:,} of {total:,} records")
        if done == total:
            self._stop_bar()

    def phase_begins(self, name: str, num_epochs: int, steps_per_epoch: int, steps_done: int) -> None:
        self._stop_bar()
        self._phase = (name, num_epochs, time.monotonic())
        self._steps, self._num_steps = steps_done, num_epochs * steps_per_epoch
        self._last, self._best_epoch = "", 0
        if self._run:
            self._run.define_metric(f"{name}/*", step_metric=f"{name}/epoch")

    def step_ends(self) -> None:
        self._steps += 1
        self._advance(self._phase[0], self._steps, self._num_steps, self._last)

    def predicts(self, what: str, done: int, total: int) -> None:
        """Show how many records are predicted: beside the steps of a phase, else in a bar of its own."""
        if self._progress is not None and self._what != what:
            self._progress.update(self._task, description=f"{what}: {done:,} of {total:,} records")
            return
        self._advance(what, done, total, "records")
        if done == total:
            self._stop_bar()

    def epoch_ends(self, facts: dict[str, Any]) -> None:
        self._write({"event": "epoch", **facts})
        name, num_epochs, _ = self._phase
        self._best_epoch = facts["best_epoch"]
        self._last = (
            f"epoch {facts['epoch']}/{num_epochs}  loss {facts['train_loss']:.4f}  "
            f"fold-9 AUROC {facts['val_macro_auroc']:.4f}"
        )
        self._log_line(f"{name}: {self._last}")
        self._steps = facts["epoch"] * (self._num_steps // num_epochs)
        self._advance(name, self._steps, self._num_steps, self._last)
        if self._run:
            keys = ("epoch", "train_loss", "val_macro_auroc", "learning_rate")
            self._run.log({f"{name}/{key}": facts[key] for key in keys})

    def phase_ends(self) -> None:
        """Note the last epoch and the selected one, if this attempt trained an epoch of the phase."""
        self._stop_bar()
        name, _, began = self._phase
        if self._last:
            seconds = time.monotonic() - began
            self.note(f"{name}: {self._last}, weights of epoch {self._best_epoch}, {seconds:.0f} s")

    def note(self, text: str) -> None:
        self._write({"event": "note", "text": text})
        self._log_line(text)
        self.console.print(text, markup=False, highlight=False)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Log the final metrics. Nothing is written afterwards, so that the folder can be renamed."""
        self._write({"event": "finished", **summary})
        if self._run:
            self._run.summary.update(dict(summary))
        self._failed = False
        self.close()

    def close(self) -> None:
        self._stop_bar()
        self._log.close()
        if self._run:
            self._run.finish(exit_code=int(self._failed))
            self._run = None

    def _write(self, event: Mapping[str, Any]) -> None:
        line = {"seconds_since_start": round(time.monotonic() - self._began, 3), **event}
        known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        self._log.write(json.dumps(known) + "\n")
        self._log.flush()

    def _advance(self, what: str, done: int, total: int, description: str) -> None:
        if not self.console.is_terminal:
            self._print_sparingly(f"{what}: {done:,} of {total:,} {description}".rstrip())
            return
        if self._progress is None:
            self._what = what
            self._progress = progress_bar(self.console, what)
            self._task = self._progress.add_task(description, total=total)
            self._progress.start()
        self._progress.update(self._task, completed=done, description=description)

    def _print_sparingly(self, line: str) -> None:
        """Print at most one line per minute, for output that is not a terminal."""
        now = time.monotonic()
        if now - self._printed >= LINE_EVERY_S:
            self._printed = now
            print_line(self.console, line)

    def _stop_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _start_wandb(folder: Path, mode: Literal["offline", "online"], config: Mapping[str, Any]) -> Any:
    """Start a run of Weights & Biases that writes below `folder`, or go on with the one that has written there."""
    import wandb

    earlier = sorted(folder.glob("wandb/*run-*-*"))  # such as offline-run-20261130_071500-ID
    try:
        return wandb.init(
            project="ptbxl-bench",
            name=folder.stem,
            id=earlier[-1].name.rpartition("-")[2] if earlier else None,
            resume="allow" if mode == "online" else None,
            mode=mode,
            config=dict(config),
            dir=folder,
            settings=wandb.Settings(console="off"),
        )
    except wandb.errors.Error as error:
        reason = first_line(error)
        raise BenchError(f"Weights & Biases did not start: {reason}; use --wandb offline or off") from None
