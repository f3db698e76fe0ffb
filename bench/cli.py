"""The command line: one function a verb, no logic. torch is imported by the verbs that need it."""

from __future__ import annotations

import json
import os
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from bench.errors import ERROR_FILE, BenchError

app = typer.Typer(
    help="Which way of adapting an ECG foundation model is best? Runs, scores and compares them on PTB-XL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Datasets: write a synthetic one.", no_args_is_help=True)
app.add_typer(data_app, name="data")
new_app = typer.Typer(help="Write a small installable plugin to start from.", no_args_is_help=True)
app.add_typer(new_app, name="new")
err = Console(stderr=True)
out = Console()

Data = Annotated[Path, typer.Option("--data", envvar="BENCH_DATA", help="The PTB-XL folder.")]
Runs = Annotated[Path, typer.Option("--runs", help="Where runs are written and read.")]
Json = Annotated[bool, typer.Option("--json", help="Print plain data instead of a table.")]
DATA, RUNS = Path("data/ptb-xl"), Path("runs")


class Stage(StrEnum):
    """How far a run goes."""

    val = "val"
    test = "test"


class WandbMode(StrEnum):
    """Whether Weights & Biases is told."""

    off = "off"
    offline = "offline"
    online = "online"


class Precision(StrEnum):
    """The number format of a run."""

    auto = "auto"
    float32 = "float32"
    bf16 = "bf16"
    float64 = "float64"


class Kind(StrEnum):
    """What can be listed."""

    tasks = "tasks"
    methods = "methods"
    archs = "archs"


@app.command()
def run(
    method: Annotated[str, typer.Option(help='A method, such as lpft-sd or "lpft-sd(drop_path=0.3)".')],
    task: Annotated[str, typer.Option(help="all, diag, subdiag, superdiag, form, rhythm or a plugin's.")],
    arch: Annotated[str, typer.Option(help="A backbone.")] = "ecgfounder",
    init: Annotated[
        str | None,
        typer.Option(help="pretrained, random, a file of weights or a run. [default: pretrained where published]"),
    ] = None,
    data: Data = DATA,
    fraction: Annotated[float, typer.Option(help="Share of the training records, in (0, 1].")] = 1.0,
    draw: Annotated[int, typer.Option(help="Which draw of that share.")] = 0,
    seed: Annotated[int, typer.Option()] = 0,
    source_rate: Annotated[
        int | None, typer.Option(help="Hz of the files to read and resample. [default: the backbone's own]")
    ] = None,
    precision: Annotated[Precision, typer.Option()] = Precision.auto,
    stage: Annotated[Stage, typer.Option(help="val stops before fold 10.")] = Stage.test,
    nproc: Annotated[int, typer.Option(min=1, help="Processes on this machine; the result is the same.")] = 1,
    runs: Runs = RUNS,
    overwrite: Annotated[bool, typer.Option(help="Run a finished cell again.")] = False,
    keep_weights: Annotated[bool, typer.Option(help="Keep the adapted model's weights.")] = True,
    wandb: Annotated[WandbMode, typer.Option(help="Log to Weights & Biases.")] = WandbMode.off,
    as_json: Json = False,
) -> None:
    """Adapt a backbone to a task by a method, and score it on fold 10."""
    from bench.cell import Cell
    from bench.registry import Reference

    cell = Cell(
        data=data,
        task=task,
        arch=Reference.parse(arch),
        method=Reference.parse(method),
        init=init,
        fraction=fraction,
        draw=draw,
        seed=seed,
        source_rate=source_rate,
        precision=precision.value,
    )
    if nproc > 1:
        from bench.launch.torchrun import run_on_ranks

        words = [*shlex.split(cell.command())[1:], f"--data={data}", f"--runs={runs}"]
        words += [f"--stage={stage}", f"--wandb={wandb}"]
        words += ["--overwrite"] * overwrite + ["--no-keep-weights"] * (not keep_weights) + ["--json"] * as_json
        raise SystemExit(run_on_ranks(nproc, words))
    from bench.reporting.tables import result_table
    from bench.run import Options, execute

    result = execute(
        cell,
        Options(
            runs=runs,
            stage=stage.value,
            overwrite=overwrite,
            wandb=wandb.value,
            keep_weights=keep_weights,
            console=err,
        ),
    )
    if os.environ.get("RANK", "0") == "0":
        _print(dict(result.document), result_table(result), as_json)


@app.command("list")
def list_(
    kind: Annotated[Kind | None, typer.Argument()] = None,
    data: Annotated[Path | None, typer.Option(help="Count labels and records of this PTB-XL folder.")] = None,
    as_json: Json = False,
) -> None:
    """What can be named: tasks, methods and archs; with --data the counts of each task there."""
    from bench.registry import registry
    from bench.reporting import tables

    kinds = [kind.value] if kind else [k.value for k in Kind]
    found: dict[str, Any] = {k: tables.listing(k, data) for k in kinds}
    if as_json:
        print(json.dumps(found, indent=1, default=str))
        return
    for name, rows in found.items():
        out.print(tables.table(name, rows))
    for module, reason in registry().broken.items():
        err.print(f"plugin {module} failed to import: {reason}", style="yellow", markup=False, soft_wrap=True)


@app.command()
def leaderboard(
    runs: Runs = RUNS,
    folder: Annotated[Path, typer.Option("--out", help="Where the pages are written.")] = Path("leaderboards"),
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Write the boards of all finished runs: <dataset>/<task>.md and an index."""
    from bench.reporting.boards import as_data, make_boards, write_pages
    from bench.reporting.results import find_results
    from bench.reporting.tables import board_table
    from bench.reporting.truth import truth_of

    boards = make_boards(find_results(runs), truth_of(data))
    if not boards:
        raise BenchError(f"no finished run with scores of fold 10 in {runs}")
    written = write_pages(boards, folder)
    if as_json:
        print(json.dumps(as_data(boards), indent=1))
        return
    for board in boards:
        out.print(board_table(board))
    out.print("wrote " + ", ".join(map(str, written)), markup=False, highlight=False, soft_wrap=True)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run that kept its weights.")],
    records: Annotated[list[Path], typer.Argument(help="WFDB records, with or without extension.")],
    target: Annotated[Path | None, typer.Option("--out", help="CSV file. [default: standard output]")] = None,
) -> None:
    """Probabilities of a trained cell for your own 12-lead WFDB records, as CSV."""
    from bench.predict import predict_records

    text = predict_records(run, records)
    if target:
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise BenchError(f"cannot write {target}: {error.strerror}") from None
    else:
        print(text, end="")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A backbone or a method, yours or ours.")],
    init: Annotated[
        str | None,
        typer.Option(help="pretrained, or a file with the published keys: compare with the published outputs instead."),
    ] = None,
) -> None:
    """Check that a backbone or method keeps the benchmark's contract, or that published weights load as published."""
    from bench.conformance import check_plugin, check_published
    from bench.registry import Reference

    findings = check_published(Reference.parse(name), init) if init else check_plugin(Reference.parse(name))
    passed = True
    for finding in findings:
        passed &= finding.fault is None
        out.print(f"{'ok   ' if finding.fault is None else 'FAULT'} {finding.check}", markup=False, highlight=False)
        if finding.fault:
            out.print(f"      {finding.fault}", markup=False, highlight=False, style="red")
    raise SystemExit(0 if passed else 1)


@new_app.command("method")
def new_method(name: str, folder: Annotated[Path, typer.Argument()] = Path()) -> None:
    """A package with a method to start from."""
    _new("method", name, folder)


@new_app.command("arch")
def new_arch(name: str, folder: Annotated[Path, typer.Argument()] = Path()) -> None:
    """A package with a backbone to start from."""
    _new("backbone", name, folder)


def _new(kind: Literal["method", "backbone"], name: str, parent: Path) -> None:
    from bench.scaffold import write_plugin

    folder = write_plugin(kind, name, parent)
    out.print(f"wrote {folder}; next: pip install -e {folder} && bench check {name}", markup=False, highlight=False)


@data_app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    records: Annotated[int, typer.Option(min=100)] = 2000,
    seed: Annotated[int, typer.Option()] = 0,
    rate: Annotated[list[int], typer.Option(help="100 or 500 Hz; give it twice for both.")] = [100, 500],
    halves: Annotated[bool, typer.Option(help="Also split it by patient, into first-half/ and second-half/.")] = False,
) -> None:
    """Write a synthetic PTB-XL: the same files and columns, labels that show in the signal."""
    from bench.data.demo import halve, write_demo
    from bench.reporting.tracking import progress_bar

    with progress_bar(err, "writing records") as bar:
        task = bar.add_task("", total=records)
        write_demo(folder, records, seed, tuple(rate), lambda done: bar.update(task, completed=done))
    for part in [folder, *(halve(folder) if halves else ())]:
        out.print(f"wrote {part}", markup=False, highlight=False)


def _print(document: Any, table: Table, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document, indent=1))
    else:
        out.print(table)


def main() -> None:
    """Run the command line; a user's error is one line and exit code 2, a bug keeps its traceback."""
    try:
        app()
    except BenchError as error:
        line = " ".join(str(error).split())
        if file := os.environ.get(ERROR_FILE):
            Path(file).write_text(line, encoding="utf-8")
        else:
            err.print(f"error: {line}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(2) from None
    except SystemExit as end:  # typer turns Ctrl-C into 130
        if end.code == 130 and ERROR_FILE not in os.environ:
            err.print("interrupted; the same command goes on where this one stopped", style="yellow")
        raise
