"""The command line: one function a verb, no logic. torch is imported by the verbs that need it."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, get_args

import typer
from rich.console import RenderableType

from bench import verbs
from bench.console.environment import fault_of_output, prepare_process
from bench.console.terminal import Terminal, print_line
from bench.data.cache import cache_folder
from bench.errors import ERROR_FILE, BenchError, no_exit
from bench.files import write_asked, write_whole
from bench.verbs import BOARDS, DATA, RUNS, SEEDS

if TYPE_CHECKING:
    from bench.launch.slurm import Slurm
    from bench.registry.findings import Finding

app = typer.Typer(
    help="Compare methods of adapting ECG foundation models: run, score and compare them on PTB-XL or your own data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's boxes leave 19 characters for descriptions on 80 columns
    context_settings={"max_content_width": 120},
    add_completion=False,
)
data_app = typer.Typer(help="Data sets: get, check, count, show, or write one.", no_args_is_help=True)
app.add_typer(data_app, name="data")
new_app = typer.Typer(help="Write a small installable example plugin.", no_args_is_help=True)
app.add_typer(new_app, name="new")
err = Terminal(stderr=True)
out = Terminal()


def _print_version(asked: bool) -> None:
    if asked:
        import bench

        print_line(out, f"bench {bench.__version__} in {Path(bench.__file__).parent}")
        raise typer.Exit


@app.callback()
def _of_all_verbs(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and the package's folder.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


_note = partial(verbs.note, err)

Data = Annotated[Path, typer.Option("--data", envvar="BENCH_DATA", help="The dataset's folder.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print plain data instead of a table.")]
Tasks = Annotated[str, typer.Option("--task", help="Tasks, separated by commas; all-tasks: the six published, *: all.")]
Methods = Annotated[str, typer.Option("--method", help='Methods, such as "ft,lpft-sd(drop_path_rate=0.3)"; * is all.')]
Archs = Annotated[
    str,
    typer.Option(
        "--arch", help="Backbones, separated by commas; all-foundation: those with published weights, *: all."
    ),
]
PRECISION = "Number format of matrix products; auto: bf16 where it is faster, else float32."
Inits = Annotated[str | None, typer.Option("--init", help="As in bench run; several separated by commas.")]
Fractions = Annotated[str, typer.Option("--fraction", help="Fractions of the training records.")]
CheckpointMinutes = Annotated[float, typer.Option(min=0, help="Minutes between checkpoints in an epoch.")]
Draws = Annotated[str, typer.Option("--draw", help="Numbers of the training subsets of each fraction.")]
AlsoOn = Annotated[
    list[Path], typer.Option("--also-on", help="Folder of another data set to test on, with the weights; repeatable.")
]
SourceRate = Annotated[int | None, typer.Option(help="Rate of the files to read, in Hz. [default: the backbone's own]")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Cells at a time. [default: one per GPU, or one]")]

OnNodes = Annotated[Literal["local", "slurm"], typer.Option(help="This machine, or workers in a job array of SLURM.")]
Partition = Annotated[str | None, typer.Option(help="SLURM: the partition. [default: the cluster's]")]
Time = Annotated[str, typer.Option(help="SLURM: time limit of a worker; longer cells are requeued and resume.")]
Nodes = Annotated[int, typer.Option(min=1, help="SLURM: nodes per cell.")]
Cpus = Annotated[int, typer.Option(min=1, help="SLURM: cores per node.")]
Gpus = Annotated[int, typer.Option(min=0, help="SLURM: GPUs per node.")]
Sbatch = Annotated[list[str], typer.Option(help="SLURM: any option of sbatch, such as account=abc.")]
Minutes = Annotated[
    float | None, typer.Option(min=0.1, help="Stop after so long; the same command goes on. [default: at the end]")
]


def _load_plugins(files: list[Path]) -> list[Path]:
    for file in files:
        verbs.load_plugin(file)
    return files


Plugins = Annotated[
    list[Path],
    typer.Option("--plugin", help="A .py file of methods, backbones or tasks.", callback=_load_plugins),
]
IncludePublished = Annotated[
    bool, typer.Option("--include-published", help="Add the published rows that came with bench.")
]


Stage = Literal["val", "test"]
WandbMode = Literal["off", "offline", "online"]
Keep = Literal["none", "best"]
Precision = Literal["auto", "float32", "bf16", "float64"]
Kind = Literal["tasks", "methods", "archs", "datasets"]


@app.command()
def run(
    method: Annotated[str, typer.Option(help='A method, such as "lpft-sd(drop_path_rate=0.3)".')],
    task: Annotated[str, typer.Option(help="all, diag, subdiag, superdiag, form, rhythm, or another of the data set.")],
    arch: Annotated[str, typer.Option(help="A backbone.")] = "ecgfounder",
    init: Annotated[
        str | None,
        typer.Option(help="pretrained, random, a file of weights or a run. [default: pretrained where published]"),
    ] = None,
    data: Data = DATA,
    fraction: Annotated[float, typer.Option(help="Fraction of the training records, in (0, 1].")] = 1.0,
    draw: Annotated[int, typer.Option(help="Number of the training subset of that fraction.")] = 0,
    manifest_: Annotated[
        Path | None, typer.Option("--manifest", help="Instead, a .json or .csv file that lists the training records.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order, masks and crops.")] = 0,
    source_rate: SourceRate = None,
    precision: Annotated[Precision, typer.Option(help=PRECISION)] = "auto",
    stage: Annotated[Stage, typer.Option(help="val stops before fold 10.")] = "test",
    nproc: Annotated[int, typer.Option(min=1, help="Processes on this machine; the result is the same.")] = 1,
    runs: Runs = RUNS,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Run a finished cell again, from the start.")] = False,
    rerun_stale: Annotated[
        bool, typer.Option("--rerun-stale", help="Run a finished cell again if code has changed since.")
    ] = False,
    keep_weights: Annotated[Keep, typer.Option(help="Which weights of the adapted model to keep.")] = "best",
    also_on: AlsoOn = [],
    checkpoint_minutes: CheckpointMinutes = 10.0,
    plugin: Plugins = [],
    wandb: Annotated[WandbMode, typer.Option(help="Log to Weights & Biases.")] = "off",
    as_json: Json = False,
) -> None:
    """Adapt a backbone to a task by a method, scored on fold 10."""
    cell: dict[str, Any] = {
        "method": method,
        "task": task,
        "arch": arch,
        "init": init,
        "data": data,
        "fraction": fraction,
        "draw": draw,
        "manifest": manifest_,
        "seed": seed,
        "source_rate": source_rate,
        "precision": precision,
        "stage": stage,
        "runs": runs,
        "overwrite": overwrite,
        "rerun_stale": rerun_stale,
        "also_on": also_on,
        "keep_weights": keep_weights,
        "console": err,
    }
    if finished := verbs.finished(**cell):
        from bench.console.listing import plain_table

        _print(dict(finished.document), plain_table(finished.table), as_json)
        return
    from bench.console.tables import result_table

    result = verbs.run(**cell, nproc=nproc, checkpoint_minutes=checkpoint_minutes, wandb=wandb)
    if verbs.is_main():
        _print(dict(result.document), result_table(result.result), as_json)


@app.command()
def sweep(
    context: typer.Context,
    task: Tasks,
    method: Methods,
    arch: Archs = "ecgfounder",
    init: Inits = None,
    data: Data = DATA,
    fraction: Fractions = "1",
    draw: Draws = "0",
    seed: Annotated[str, typer.Option(help="Seeds, with commas.")] = SEEDS,
    source_rate: SourceRate = None,
    precision: Annotated[Precision, typer.Option(help=PRECISION)] = "auto",
    stage: Annotated[Stage, typer.Option(help="val stops before fold 10.")] = "test",
    jobs: Jobs = None,
    nproc: Annotated[int, typer.Option(min=1, help="Processes per cell, on each of its nodes.")] = 1,
    launcher: OnNodes = "local",
    partition: Partition = None,
    time: Time = "1h",
    nodes: Nodes = 1,
    cpus: Cpus = 1,
    gpus: Gpus = 0,
    sbatch: Sbatch = [],
    minutes: Minutes = None,
    shard: Annotated[
        str | None,
        typer.Option(help="Run one part of the sweep, such as 0/4, where machines share no files."),
    ] = None,
    runs: Runs = RUNS,
    rerun_stale: Annotated[
        bool, typer.Option("--rerun-stale", help="Run finished cells again if code has changed since.")
    ] = False,
    keep_weights: Annotated[Keep, typer.Option(help="Which weights of the adapted models to keep.")] = "none",
    also_on: AlsoOn = [],
    accept_noncommercial: Annotated[
        bool, typer.Option("--accept-noncommercial", help="all-foundation: also weights for non-commercial use only.")
    ] = False,
    checkpoint_minutes: CheckpointMinutes = 10.0,
    plugin: Plugins = [],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and stop.")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Time backbones that never ran here, for the plan's time left.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a grid of cells. Cells that are done are skipped, and interrupted ones resume."""
    swept = verbs.sweep(
        method,
        task,
        arch,
        init=init,
        data=data,
        fraction=fraction,
        draw=draw,
        seed=seed,
        source_rate=source_rate,
        precision=precision,
        stage=stage,
        jobs=jobs,
        nproc=nproc,
        slurm=_slurm(context, launcher, partition, time, nodes, nproc, cpus, gpus, jobs, sbatch),
        minutes=minutes,
        shard=shard,
        runs=runs,
        rerun_stale=rerun_stale,
        keep_weights=keep_weights,
        checkpoint_minutes=checkpoint_minutes,
        also_on=also_on,
        accept_noncommercial=accept_noncommercial,
        dry_run=dry_run,
        estimate=estimate,
        out=Terminal(quiet=True) if as_json else out,
        console=err,
    )
    if as_json:
        print(json.dumps([cell.as_data() for cell in swept.cells], indent=1))
    raise SystemExit(1 if swept.failed and not dry_run else 0)


def _slurm(
    context: typer.Context,
    launcher: str,
    partition: str | None,
    time: str,
    nodes: int,
    nproc: int,
    cpus: int,
    gpus: int,
    jobs: int | None,
    sbatch: list[str],
) -> Slurm | None:
    """Return the workers to submit to SLURM; None for this machine."""
    of_slurm = ("partition", "time", "nodes", "cpus", "gpus", "sbatch")
    given = [f"--{name}" for name in of_slurm if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"]
    if launcher == "local":
        if given:
            raise BenchError(f"{', '.join(given)}: for a cluster only; add --launcher slurm")
        return None
    if getattr(context.get_parameter_source("minutes"), "name", "") != "DEFAULT":
        raise BenchError("--minutes: for this machine only; --time is the limit of a worker on SLURM")
    from bench.launch import slurm

    return slurm.Slurm(
        minutes=slurm.minutes("--time", time),
        partition=partition,
        nodes=nodes,
        ranks=nproc,
        cpus=cpus,
        gpus=gpus,
        jobs=jobs,
        others=slurm.others("--sbatch", sbatch),
    )


@app.command()
def tune(
    context: typer.Context,
    task: Tasks,
    method: Methods,
    trials: Annotated[
        int, typer.Option(min=2, help="Settings to try of each method; the first is the method as given.")
    ],
    arch: Archs = "ecgfounder",
    init: Inits = None,
    data: Data = DATA,
    fraction: Fractions = "1",
    draw: Draws = "0",
    seed: Annotated[str, typer.Option(help="Seeds. Trials use the first, the best setting runs with all.")] = SEEDS,
    source_rate: SourceRate = None,
    precision: Annotated[Precision, typer.Option(help=PRECISION)] = "auto",
    jobs: Jobs = None,
    nproc: Annotated[int, typer.Option(min=1, help="Processes per cell, on each of its nodes.")] = 1,
    launcher: OnNodes = "local",
    partition: Partition = None,
    time: Time = "1h",
    nodes: Nodes = 1,
    cpus: Cpus = 1,
    gpus: Gpus = 0,
    sbatch: Sbatch = [],
    minutes: Minutes = None,
    runs: Runs = RUNS,
    keep_weights: Annotated[Keep, typer.Option(help="Which weights of the final models to keep.")] = "none",
    checkpoint_minutes: CheckpointMinutes = 10.0,
    plugin: Plugins = [],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the trials, and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Tune methods with the same number of trials on fold 9. The best setting of each is run and scored on fold 10."""
    tuned = verbs.tune(
        method,
        task,
        trials,
        arch,
        init=init,
        data=data,
        fraction=fraction,
        draw=draw,
        seed=seed,
        source_rate=source_rate,
        precision=precision,
        jobs=jobs,
        nproc=nproc,
        slurm=_slurm(context, launcher, partition, time, nodes, nproc, cpus, gpus, jobs, sbatch),
        minutes=minutes,
        runs=runs,
        keep_weights=keep_weights,
        checkpoint_minutes=checkpoint_minutes,
        dry_run=dry_run,
        console=err,
    )
    if dry_run:
        from bench.console.listing import table

        _print(tuned.planned, table("trials, to be run to fold 9", tuned.planned), as_json)
        return
    if as_json:
        print(json.dumps([outcome.as_data() for outcome in tuned.methods], indent=1))
    else:
        for outcome in tuned.methods:
            out.print(outcome.as_table())
    raise SystemExit(0 if tuned.finished else 1)


@app.command()
def status(
    runs: Runs = RUNS,
    done: Annotated[bool, typer.Option("--done", help="List the finished cells too.")] = False,
    plugin: Plugins = [],
    as_json: Json = False,
) -> None:
    """List the cells in a runs folder. Each is done, declined, stale, running, unfinished or failed, with the
    reason."""
    from bench.console.listing import table
    from bench.results.status import as_data, survey

    cells = survey(runs)
    if as_json:
        print(json.dumps(as_data(cells), indent=1))
        return
    out.print(table(str(runs), as_data(cells)["tasks"]))
    for cell in cells:
        if done or cell.state not in ("done", "declined"):
            command = cell.command_from_here(runs, RUNS, verbs.data_folder(None))
            line = f"{cell.state}: {command or cell.path}" + (f": {cell.reason}" if cell.reason else "")
            print_line(out, " ".join(line.split()))


@app.command()
def prune(
    runs: Runs = RUNS,
    weights: Annotated[bool, typer.Option("--weights", help="Remove the weights of finished runs.")] = False,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Remove runs that were interrupted.")] = False,
    signals: Annotated[
        bool, typer.Option("--signals", help="Remove prepared signals that no run uses; runs prepare them again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what can be removed, and remove nothing.")] = False,
) -> None:
    """Remove files of killed runs, and more if requested. Results and running cells are never touched."""
    from bench.console.listing import table
    from bench.results import prune as pruning

    usage = pruning.prune(runs, weights=weights, unfinished=unfinished, signals=signals, dry_run=dry_run)
    out.print(table(str(runs), [category.as_row() for category in usage]))


@app.command("list")
def list_(
    kind: Annotated[Kind | None, typer.Argument()] = None,
    name: Annotated[str | None, typer.Argument(help="One of that kind: its description, hyper-parameters.")] = None,
    data: Annotated[Path | None, typer.Option(help="Count labels and records of this data set.")] = None,
    plugin: Plugins = [],
    as_json: Json = False,
) -> None:
    """List tasks, methods, backbones and readers of data sets. With --data also the counts of each task."""
    from bench.console.listing import table
    from bench.registry.catalogue import catalogue, counted_tasks, describe

    if kind and name:
        described = describe(kind, name, data)
        if as_json:
            print(json.dumps(described, indent=1))
            return
        facts = {key: value for key, value in described.items() if not isinstance(value, list) and key != "text"}
        if len(facts) > 2:
            out.print(table(kind, [facts]))
        else:
            print_line(out, ", from ".join(facts.values()))
        out.print(f"\n{described['text']}\n", markup=False, highlight=False)
        for each in described["hyper_parameters"]:
            search = f"; search {each['search']}" if each["search"] else ""
            print_line(out, f"{each['name']}={each['default'] or '...'}: {each['takes']}{search}")
        return
    known = catalogue(_note)
    entries = {category: known.entries[category] for category in ([kind] if kind else get_args(Kind))}
    if data and "tasks" in entries:
        entries["tasks"] = counted_tasks(data)
    if as_json:
        print(json.dumps(entries, indent=1, default=str))
        return
    for category, entries_of in entries.items():
        out.print(table(category, entries_of))
    _tell_broken(known.broken)
    for package, others in known.shared.items():
        _note(f"{', '.join(others)} installs a package {package} too; give this project an environment of its own")


@app.command()
def leaderboard(
    runs: Runs = RUNS,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the pages. [default: <runs>/leaderboards, or leaderboards if published]"),
    ] = None,
    data: Data = DATA,
    published: Annotated[
        bool, typer.Option("--published", help="Make boards of the results published in --out, not of --runs.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if pages in --out differ from recomputed ones.")
    ] = False,
    include_published: IncludePublished = False,
    formats: Annotated[
        list[str],
        typer.Option("--format", help="md: pages; csv, tex: tables for a paper; json, html. Several by commas."),
    ] = ["md"],
    html: Annotated[
        bool, typer.Option("--html", help="Also one HTML file a board: filter, sort, compare two rows.")
    ] = False,
    misses: Annotated[
        bool, typer.Option("--misses", help="In the HTML: records that each row gets most wrong (patients' data).")
    ] = False,
    pictures: Annotated[
        list[str], typer.Option(help="Pictures for a paper: svg, pdf, png. Pages have their own.", show_default=False)
    ] = [],
    label: Annotated[
        list[str],
        typer.Option(help='A name in tables and pictures, such as own:389512e4="pre-trained A".', show_default=False),
    ] = [],
    plugin: Plugins = [],
    as_json: Json = False,
) -> None:
    """Write the boards of finished runs, or check published ones. A board is <dataset>/<task>.md, with an index.

    Damaged runs are left out with a warning and exit code 1. Published results must all be complete.
    """
    from bench.boards.rows import as_data
    from bench.console.tables import board_table
    from bench.pages.html import table_library

    folder = folder or (BOARDS if published or check else runs / BOARDS)
    if check:
        if formats != ["md"] or html or misses or pictures or label:
            raise BenchError("--check writes nothing: leave out --format, --html, --misses, --pictures and --label")
        _check(folder, data, as_json)
    formats = [*formats, "html"] if html or misses else formats
    if any("html" in each.split(",") for each in formats):
        table_library()  # raises before boards are computed if it is missing
    damaged: list[str] = []
    made = verbs.leaderboard(
        runs,
        include_published=include_published,
        published=published,
        data=data,
        boards=folder,
        labels=_labels(label),
        log=_note,
        left_out=partial(_leave_out, damaged),
    )
    written = made.write(folder, formats, pictures, misses=misses)
    if as_json:
        print(json.dumps(as_data(made.boards), indent=1))
    else:
        for board in made.boards:
            out.print(board_table(board))
        shown = [str(path) for path in written if path.parent.name != "pictures"]
        drawn = len(written) - len(shown)
        print_line(out, "wrote " + ", ".join([*shown, f"{drawn} pictures"] if drawn else shown))
    raise SystemExit(1 if damaged else 0)


def _labels(given: list[str]) -> dict[str, str]:
    """Return name -> label. The last `=` separates them, because arguments of a method have some too."""
    parts = [text.rpartition("=") for text in given]
    if wrong := [text for text, (name, _, _) in zip(given, parts, strict=True) if not name]:
        raise BenchError(f'--label {wrong[0]}: expected NAME="label", such as own:389512e4="pre-trained A"')
    return {name: label for name, _, label in parts}


def _check(folder: Path, data: Path, as_json: bool) -> NoReturn:
    """Print the faults of published pages, and exit."""
    from bench.boards.truth import Truth
    from bench.pages import publish

    if as_json:
        raise BenchError("--check does not support --json: it prints one line per fault")
    truth = Truth(data)
    against = "results, and results" if truth.at_hand else f"results only: no dataset at {data}, so not"
    _faults(publish.check(folder, truth), f"{folder}: pages checked against {against} against the dataset's labels")


@app.command()
def compare(
    rows: Annotated[list[str], typer.Argument(help="Run folders, or rows as boards print them.")],
    runs: Runs = RUNS,
    data: Data = DATA,
    task: Annotated[str | None, typer.Option(help="The task, if rows of that name are on several boards.")] = None,
    fraction: Annotated[float | None, typer.Option(help="The fraction, if rows of that name have several.")] = None,
    boards: Annotated[Path, typer.Option(help="Folder with <dataset>/<task>.toml: baseline and margin.")] = BOARDS,
    by: Annotated[
        str, typer.Option("--by", help="Also in subgroups: age, sex, device, site; several separated by commas.")
    ] = "",
    include_published: IncludePublished = False,
    plugin: Plugins = [],
    as_json: Json = False,
) -> None:
    """Compare rows by paired differences and tests. Also prints the smallest difference that could be detected.

    If rows are given by name, damaged runs are left out with a warning and exit code 1.
    """
    from bench.console.tables import comparison_tables

    damaged: list[str] = []
    comparison = verbs.compare(
        *rows,
        runs=runs,
        include_published=include_published,
        data=data,
        task=task,
        fraction=fraction,
        boards=boards,
        by=by or (),
        log=_note,
        left_out=partial(_leave_out, damaged),
    )
    if as_json:
        print(json.dumps(comparison.as_data(), indent=1))
    else:
        for shown in comparison_tables(comparison):
            out.print(shown)
    raise SystemExit(1 if damaged else 0)


@app.command()
def power(
    difference: Annotated[float, typer.Option(help="The difference of macro AUROC to find.")] = 0.005,
    task: Annotated[str | None, typer.Option(help="A task of those runs. [default: all known]")] = None,
    fraction: Annotated[
        float | None, typer.Option(help="Fraction of the training records of those runs. [default: all known]")
    ] = None,
    contrast: Annotated[str | None, typer.Option(help='Such as "lpft-sd minus ft". [default: all known]')] = None,
    tests: Annotated[int, typer.Option(min=1, help="Tests that Holm corrects for.")] = 1,
    looks: Annotated[int, typer.Option(min=1, help="Planned looks at the data, after equal numbers of runs.")] = 1,
    runs: Annotated[Path | None, typer.Option(help="Variances of these runs. [default: of the published ones]")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show pairs that no board declares, too.")] = False,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Say how many runs a difference needs, and when to stop.

    A true difference of this size is then found significant in 80 % of studies as noisy as those whose variances are
    known.
    """
    from bench.console.listing import table

    planned = verbs.power(
        difference,
        task=task,
        fraction=fraction,
        contrast=contrast,
        tests=tests,
        looks=looks,
        runs=runs,
        data=data,
        log=_note,
    )
    if as_json:
        print(planned.frame.to_json(orient="records", indent=1))
        return
    from bench.boards.frames import spelled

    shown = planned if every or contrast else planned.declared(verbs.declarations())
    rows = [{str(key): cell for key, cell in row.items()} for row in spelled(shown.shown()).to_dict("records")]
    out.print(table(f"runs that a difference of {difference:g} needs", rows))
    for line in shown.remarks:
        print_line(out, line)
    if more := len(planned.variances) - len(shown.variances):
        print_line(out, f"{more} more pair{'s' * (more > 1)}: --all")


@app.command()
def misses(
    run: Annotated[str, typer.Argument(help="A run's folder, or the name of a row: its first run.")],
    label: Annotated[str | None, typer.Option(help="Its missed positives and false alarms. [default: by loss]")] = None,
    num: Annotated[int, typer.Option("--n", min=1, help="Number of records of each kind.")] = 12,
    fold: Annotated[Literal["9", "10"] | None, typer.Option(help="[default: 10, or 9 if the run ended there]")] = None,
    files: Annotated[
        list[Path],
        typer.Option("--out", help="Contact sheet (.png, .pdf, .svg) or table (.csv); repeatable.", show_default=False),
    ] = [],
    data: Data = DATA,
    runs: Runs = RUNS,
    include_published: IncludePublished = False,
    task: Annotated[str | None, typer.Option(help="The task, if rows of that name are on several boards.")] = None,
    fraction: Annotated[float | None, typer.Option(help="The fraction, if rows of that name have several.")] = None,
    plugin: Plugins = [],
    as_json: Json = False,
) -> None:
    """Show the records that a run gets most wrong, with their ECGs."""
    from bench.console.tables import misses_table

    frame = verbs.misses(
        run,
        label,
        n=num,
        fold=int(fold) if fold else None,
        data=data,
        runs=runs,
        include_published=include_published,
        task=task,
        fraction=fraction,
        out=files,
        log=_note,
        console=err,
    )
    if as_json:
        print(json.dumps({**frame.attrs, "records": json.loads(frame.to_json(orient="records"))}, indent=1))
        return
    out.print(misses_table(frame))
    if files:
        print_line(out, "wrote " + ", ".join(map(str, files)))


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="CSV: ecg_id and a column per label; or npz: ecg_id, labels, y_score.")],
    task: Annotated[str, typer.Option(help="The task whose labels were predicted.")],
    name: Annotated[str, typer.Option(help="Name of the row on boards.")],
    scale: Annotated[
        Literal["logit", "probability"] | None,
        typer.Option(help="Scale of the scores. [default: unknown: no calibration]"),
    ] = None,
    compat: Annotated[
        Literal["strodthoff2020", "all-records"] | None,
        typer.Option(
            help="Also by another protocol, not ranked: record-level draws, or all records of fold 10, unlabelled too."
        ),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Fraction of the training records it was trained on.")] = 1.0,
    draw: Annotated[int, typer.Option(min=0, help="Training subset; each counts as an independent run.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed; several seeds of a name become one row.")] = 0,
    data: Data = DATA,
    runs: Runs = RUNS,
    partial: Annotated[
        bool, typer.Option("--partial", help="Records may be missing: for bench compare, on no board.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace other scores of this name and seed.")] = False,
    plugin: Plugins = [],
    as_json: Json = False,
) -> None:
    """Score predictions made elsewhere on fold 10. The dataset's two CSV files are enough."""
    from bench.console.tables import compat_line, result_table

    result = verbs.score(
        file,
        task,
        name,
        scale=scale,
        compat=compat,
        fraction=fraction,
        draw=draw,
        seed=seed,
        partial=partial,
        data=data,
        runs=runs,
        overwrite=overwrite,
        log=_note,
    ).result
    _print(dict(result.document), result_table(result), as_json)
    if compat and not as_json:
        print_line(out, compat_line(result))


@app.command()
def publish(
    run: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    folder: Annotated[Path, typer.Option("--out", help="Leaderboards folder.")] = BOARDS,
    compact: Annotated[bool, typer.Option("--compact", help="Fold 10 alone, in float16: a third of the size.")] = False,
    data: Data = DATA,
    plugin: Plugins = [],
) -> None:
    """Copy results beside the boards. Each is verified against the dataset's labels first."""
    from bench.boards.truth import Truth
    from bench.pages import publish

    copied, faults = publish.publish(run, folder, Truth(data), compact=compact)
    if faults:
        _faults(faults, "")
    if len(copied) < len(run):
        left = [path for path in run if path.name.endswith(publish.BESIDE_RUNS)]
        _note(f"{len(left)} of {len(run)} are left out: not finished to fold 10; the first: {left[0]}")
    for path in copied:
        print_line(out, f"published {path}")
    print_line(out, "next: bench leaderboard --published")


def _faults(faults: list[str], passed: str) -> NoReturn:
    """Print a line for each fault and exit with code 1; without faults print `passed`."""
    for fault in faults:
        print_line(err, f"fault: {' '.join(fault.split())}", style="red")
    if not faults:
        print_line(out, passed)
    raise SystemExit(1 if faults else 0)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run that kept its weights.")],
    records: Annotated[list[Path], typer.Argument(help="WFDB records, with or without extension.")],
    target: Annotated[Path | None, typer.Option("--out", help="CSV file. [default: standard output]")] = None,
    plugin: Plugins = [],
) -> None:
    """Predict your own 12-lead WFDB records. Writes probabilities as CSV."""
    from bench.inference import predict_records

    notes: list[str] = []
    text = predict_records(run, records, notes.append)
    for line in notes:
        _note(line)
    if target:
        write_asked(target, text)
    else:
        print(text, end="")


@app.command()
def evaluate(
    run: Annotated[list[Path], typer.Argument(help="Folders of finished runs that kept their weights.")],
    data: Data = DATA,
    corrupt: Annotated[
        list[str], typer.Option("--corrupt", help="NAME=STRENGTH, repeatable: mains=5, lead-off=2, short=5, ...")
    ] = [],
    seed: Annotated[int, typer.Option(help="Seed of the corruptions' random numbers.")] = 0,
    source_rate: SourceRate = None,
    plugin: Plugins = [],
    as_json: Json = False,
) -> None:
    """Test runs on another data set or on corrupted records.

    Nothing is trained or selected there. The result is kept in the run's folder and never ranked.
    """
    from bench.console.tables import evaluations_table

    tested = verbs.evaluate(
        *run, data=data, corrupt=corrupt, seed=seed, source_rate=source_rate, log=_note, console=err
    )
    _print([dict(each.document) for each in tested.evaluations], evaluations_table(tested.evaluations), as_json)


@app.command()
def check(
    name: Annotated[
        str,
        typer.Argument(help="A backbone, a method, the folder of a data set, or all-foundation: all weights."),
    ],
    init: Annotated[
        str | None,
        typer.Option(help="pretrained, or a file with the published keys: check published weights instead."),
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="The backbone with which a method is checked. [default: net1d_mini]")
    ] = None,
    accept_noncommercial: Annotated[
        bool, typer.Option("--accept-noncommercial", help="all-foundation: also weights for non-commercial use only.")
    ] = False,
    plugin: Plugins = [],
) -> None:
    """Check that a backbone, method or data set keeps the contract.

    With --init, check published weights: the file, its hash, its keys, and outputs that are known or can be reported;
    with all-foundation, those of each backbone.
    Each line begins with ok, FAULT, note, or n/a if the check does not apply, and then gives the reason.
    """
    from bench.registry.registry import registry

    # a new plugin's folder has its name
    if Path(name).is_dir() and (os.sep in name or not {"method", "backbone"} & set(registry().kinds_of(name))):
        _check_dataset(Path(name))
    if os.sep in name and "(" not in name:
        raise BenchError(f"no data set at {name}: there is no such folder")
    if name.replace("_", "-") == "all-foundation":
        if init or arch:
            raise BenchError("all-foundation checks published weights of each backbone; leave out --init and --arch")
        _check_foundation(accept_noncommercial)
    from bench.registry.conformance import check_plugin
    from bench.registry.published_weights import check_published
    from bench.registry.reference import Reference

    if init and arch:
        raise BenchError("--init checks a backbone's published weights and --arch a method; give one of them")
    on = Reference.parse(arch) if arch else None
    published = (finding for _, finding in check_published(Reference.parse(name), init)) if init else None
    passed = True
    for finding in published or check_plugin(Reference.parse(name), on):
        passed &= finding.fault is None
        _show_finding(finding)
    _tell_broken(registry().broken)
    raise SystemExit(0 if passed else 1)


def _check_foundation(accept_noncommercial: bool) -> None:
    """Check the published weights of all backbones that have some, print a table, and exit with code 1 on a fault."""
    from bench.console.listing import table
    from bench.launch.foundation import Foundation
    from bench.registry.published_weights import check_all

    foundation = Foundation.find(accept_noncommercial)
    rows = check_all(foundation.names, lambda name, finding: _show_finding(finding, f"{name}: "))
    out.print(table("published weights", rows))
    if foundation.remark():
        _note(foundation.remark())
    raise SystemExit(1 if any("FAULT" in row.values() for row in rows) else 0)


def _show_finding(finding: Finding, start: str = "") -> None:
    reason = finding.does_not_apply or finding.note
    print_line(out, f"{finding.verdict:<5} {start}{finding.check}" + (f": {reason}" if reason else ""))
    if finding.fault:
        print_line(out, f"      {finding.fault}", style="red")


def _check_dataset(folder: Path) -> None:
    """Print a line for each check of a data set, and exit with code 1 if there is a fault."""
    from bench.data.contract import check_dataset

    passed = True
    for finding in check_dataset(folder):
        passed &= finding.fault is None
        _show_finding(finding)
    raise SystemExit(0 if passed else 1)


@new_app.command("method")
def new_method(name: str, folder: Annotated[Path, typer.Argument()] = Path()) -> None:
    """Write a package with an example method."""
    _new("method", name, folder)


@new_app.command("arch")
def new_arch(name: str, folder: Annotated[Path, typer.Argument()] = Path()) -> None:
    """Write a package with an example backbone."""
    _new("backbone", name, folder)


new_app.command("backbone", hidden=True)(new_arch)


@new_app.command("dataset")
def new_dataset(name: str, folder: Annotated[Path, typer.Argument()] = Path()) -> None:
    """Write a package with an example reader of a data set. For a table and signals, `bench data import` needs none."""
    _new("dataset", name, folder)


def _new(kind: Literal["method", "backbone", "dataset"], name: str, parent: Path) -> None:
    from bench.registry.scaffold import write_plugin

    folder = write_plugin(kind, name, parent)
    checked = "DIR" if kind == "dataset" else name
    print_line(
        out,
        f"wrote {folder}; next: pip install -e {quote(str(folder))} && bench check {checked}",
    )


@data_app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    records: Annotated[int, typer.Option(min=100)] = 2000,
    seed: Annotated[int, typer.Option()] = 0,
    rate: Annotated[list[int], typer.Option(help="100 or 500 Hz; give it twice for both.")] = [100, 500],
    halves: Annotated[
        bool, typer.Option("--halves", help="Also split it by patient, into first-half/ and second-half/.")
    ] = False,
) -> None:
    """Write a synthetic PTB-XL. It has the same files and columns, and the signals show the labels."""
    from bench.console.tracking import progress_bar
    from bench.demo.dataset import halve, write_demo

    with progress_bar(err, "writing records") as bar:
        task = bar.add_task("", total=records)
        write_demo(folder, records, seed, tuple(rate), lambda done: bar.update(task, completed=done))
    for part in [folder, *(halve(folder) if halves else ())]:
        print_line(out, f"wrote {part}")


@data_app.command("download")
def download_(
    folder: Annotated[Path, typer.Argument(help="Folder of PTB-XL, new or existing.")] = DATA,
    version: Annotated[str, typer.Option()] = "1.0.3",
    rates: Annotated[str, typer.Option(help="100 (0.6 GB), 500 (2.8 GB) or both, in Hz.")] = "100,500",
    mirror: Annotated[
        str, typer.Option(help="physionet, aws, or the https:// address of a folder with the same files.")
    ] = "physionet",
    metadata: Annotated[bool, typer.Option("--metadata", help="Only the two tables, enough for scoring.")] = False,
    as_json: Json = False,
) -> None:
    """Download PTB-XL from PhysioNet (CC BY 4.0). Each file is checked. The same command resumes after an
    interruption."""
    from bench.console.listing import table
    from bench.console.tracking import progress_bar
    from bench.data.download import download, parse_rates

    with progress_bar(err, "downloading files") as bar:
        task = bar.add_task("", total=None)
        done = download(
            folder,
            version,
            () if metadata else parse_rates(rates),
            mirror,
            lambda num, total, speed: bar.update(
                task, completed=num, total=total, description=f"{speed / 1e6:.1f} MB/s"
            ),
        )
    _print(done.as_data(), table(str(folder), [done.as_data()]), as_json)


@data_app.command("import")
def import_(
    table: Annotated[Path, typer.Argument(help="A CSV file with one row a record.")],
    records: Annotated[Path, typer.Option(help="Folder of the signal files, or one array file (.npy, .h5, .mat).")],
    patient: Annotated[str, typer.Option(help="Column of patient ids; the record column if each patient has one.")],
    name: Annotated[str, typer.Option(help="Name of the data set, for pages, such as ludb.")],
    folder: Annotated[Path | None, typer.Option("--out", help="Folder to write. [default: data/NAME]")] = None,
    record: Annotated[str, typer.Option(help="Column of the records' ids. [default: the first]")] = "",
    file: Annotated[str, typer.Option(help="Column of the files' names. [default: the records' ids]")] = "",
    row: Annotated[str, typer.Option(help="Column of the places in one array, from 0. [default: in order]")] = "",
    labels: Annotated[str, typer.Option(help="Columns of labels, of 0 and 1 or of lists. [default: all of 0, 1]")] = "",
    separator: Annotated[str, typer.Option(help="Between the labels of a cell. [default: ; | or line ends]")] = "",
    blank: Annotated[
        Literal["negative"] | None, typer.Option(help="What an empty cell means in label columns. [default: error]")
    ] = None,
    age: Annotated[str, typer.Option(help="Column of ages in years.")] = "",
    sex: Annotated[str, typer.Option(help="Column of male, female.")] = "",
    fold: Annotated[str, typer.Option(help="Column of folds, 1 to 10, or train, val, test.")] = "",
    site: Annotated[str, typer.Option(help="Column of sites.")] = "",
    device: Annotated[str, typer.Option(help="Column of devices.")] = "",
    rate: Annotated[int | None, typer.Option(help="Arrays: sampling rate in Hz.")] = None,
    unit: Annotated[str, typer.Option(help="Arrays: mV, uV, V, or a step such as 4.88 uV.")] = "",
    leads: Annotated[str, typer.Option(help="Arrays: names of the leads in order, with commas.")] = "",
    array: Annotated[str, typer.Option(help="HDF5, MATLAB: name of the array. [default: the only one]")] = "",
    seconds: Annotated[float, typer.Option(help="Length to which records are cut or padded.")] = 10.0,
    licence: Annotated[str, typer.Option(help="Licence of the data, for pages.")] = "",
    source: Annotated[str, typer.Option(help="Address or citation of the data, for pages.")] = "",
    version: Annotated[str, typer.Option(help="Version of the data, for pages.")] = "",
) -> None:
    """Make a data set of a table and signals. Says what it assumes, and asks for what it cannot know."""
    from bench.data.importing import Choices, import_table

    target = folder or Path("data") / name
    columns = {"age": age, "sex": sex, "fold": fold, "site": site, "device": device}
    choices = Choices(
        name=name,
        patient=patient,
        records=records,
        record=record,
        file=file,
        row=row,
        labels=labels,
        separator=separator,
        blank=blank or "",
        columns=columns,
        rate=rate,
        unit=unit,
        leads=leads,
        array=array,
        seconds=seconds,
        licence=licence,
        source=source,
        version=version,
    )
    made = import_table(table, target, choices, _note)
    print_line(
        out,
        f"wrote {target}: {made.name}, {len(made):,} records, {made.table['patient_id'].nunique():,} patients, "
        f"{len(made.statements):,} labels; next: bench check {quote(str(target))}",
    )


@data_app.command("verify")
def verify_(folder: Annotated[Path, typer.Argument(help="A dataset's folder.")], as_json: Json = False) -> None:
    """Check every file of a data set's folder. Exit code 1 if there is a fault; 0 if there are only warnings."""
    from bench.console.listing import table
    from bench.console.tracking import progress_bar
    from bench.data.verify import verify

    with progress_bar(err, "examining records") as bar:
        task = bar.add_task("", total=None)
        report = verify(folder, lambda done, total: bar.update(task, completed=done, total=total))
    title = f"{folder}: {report.version}, {report.num_records:,} records" if report.num_records else str(folder)
    _print(report.as_data(), table(title, report.as_rows()), as_json)
    raise SystemExit(1 if report.faulty else 0)


@data_app.command()
def info(
    folder: Annotated[Path, typer.Argument(help="A dataset's folder.")],
    task: Annotated[str | None, typer.Option(help="Also count the labels of this task, by split and fold.")] = None,
    plugin: Plugins = [],
    as_json: Json = False,
) -> None:
    """Describe a data set's folder. Version, patients, ages, sexes, folds, and the counts of every task."""
    from bench.console.listing import table
    from bench.data.info import describe, label_rows, task_rows

    description = describe(folder, [task] if task else None)
    if as_json:
        print(json.dumps(description, indent=1))
        return
    plain = ("name", "version", "licence", "source", "records", "patients", "ages_years", "sexes", "sites", "devices")
    out.print(
        table(str(folder), [{"what": key, "value": _one_line(description[key])} for key in plain if description[key]])
    )
    out.print(table("folds", [{"fold": fold, **counts} for fold, counts in description["folds"].items()]))
    out.print(table("tasks", task_rows(description["tasks"])))
    if description["labels"] and not task:
        out.print(table("labels; each is the name of a yes-or-no task too: positives", description["labels"]))
    if task:
        out.print(table(f"{task}: positives", label_rows(*description["tasks"].values())))


@data_app.command()
def show(
    record: Annotated[str, typer.Argument(help="An id of the dataset, or a WFDB record of your own.")],
    data: Data = DATA,
    target: Annotated[
        Path | None, typer.Option("--out", help="An .svg or .png. [default: ecg-<record>.svg, with the preprocessing]")
    ] = None,
    preprocessing: Annotated[
        str | None, typer.Option(help="Also draw it after ecgfounder, zscore, strodthoff, none or a plugin's.")
    ] = None,
) -> None:
    """Draw a record's 12 leads on ECG paper. At 25 mm/s and 10 mm/mV, with its statements."""
    from bench.data.datasets import load_records
    from bench.data.show import draw_file, draw_record, find_record

    if Path(record).is_dir():
        raise BenchError(f"{record} is a folder; name a record in it, without ending")
    is_id = record.isascii() and record.isdecimal()
    of_set = is_id or (data.is_dir() and not Path(record).with_suffix(".hea").is_file())
    records = load_records(data) if of_set else None
    ecg_id = find_record(records, record) if records else None
    name = f"ecg-{record if is_id else Path(record).stem}" + (f"-{preprocessing}" if preprocessing else "")
    target = target or Path(f"{name}.svg")
    if records and ecg_id is not None:
        path = draw_record(records, ecg_id, target, preprocessing, _note)
    else:
        path = draw_file(Path(record), target, preprocessing, _note)
    print_line(out, f"wrote {path}")


@data_app.command()
def manifest(
    task: Annotated[str, typer.Option(help="all, diag, subdiag, superdiag, form, rhythm, or another of the data set.")],
    data: Data = DATA,
    fraction: Annotated[float, typer.Option(help="Fraction of the training records, in (0, 1].")] = 1.0,
    draw: Annotated[int, typer.Option(min=0, help="Number of the training subset of that fraction.")] = 0,
    target: Annotated[Path | None, typer.Option("--out", help=".json or .csv. [default: JSON on the screen]")] = None,
    plugin: Plugins = [],
) -> None:
    """Write a split to a file. The ecg_ids of train, val and test, and the positives of each label."""
    from bench.data.datasets import load_records
    from bench.data.manifests import describe_split, manifest_text, write_manifest
    from bench.data.splits import split
    from bench.data.tasks import find_task, label_table

    records = load_records(data)
    labels = label_table(records, find_task(task, records))
    described = describe_split(labels, split(labels, fraction, draw), records.name)
    if target is None:
        print(manifest_text(described, ".json"), end="")
        return
    write_manifest(described, target)
    print_line(out, f"wrote {target}: {_one_line(described['records'])}")


def _one_line(value: Any) -> str:
    """Return a number, or counts by name, on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_one_line(inner)}" for key, inner in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def _leave_out(damaged: list[str], line: str) -> None:
    """Print at once that a run is damaged, because later steps may fail; and remember it for the exit code."""
    print_line(err, f"warning: left out: {line}", style="yellow")
    damaged.append(line)


def _tell_broken(broken: Mapping[str, str]) -> None:
    for module, reason in broken.items():
        err.print(f"plugin {module} failed to import: {reason}", style="yellow", markup=False, soft_wrap=True)


def _print(document: Any, table: RenderableType, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document, indent=1))
    else:
        out.print(table)


def _is_own(path: object) -> bool:
    """Return whether a path is, contains or is contained in a path that the command was given or uses by default."""
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    given = [word for argument in sys.argv[1:] for word in (argument, argument.partition("=")[2]) if word]
    places = [*given, DATA, RUNS, BOARDS, os.environ.get("BENCH_DATA") or DATA, cache_folder()]
    named = Path(os.fsdecode(path)).absolute()
    return any(
        named.is_relative_to(place)
        or place.is_relative_to(named)
        or str(named).startswith(f"{place}.")  # a record is named without its ending
        for place in map(_absolute, places)
    )


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100, which leaves `..` in


UNUSABLE = (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
"""Errors of a path that cannot be used as its option requires."""
OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
"""Further error numbers of such paths, which Python gives no class of their own."""


def require_values(words: Sequence[str]) -> None:
    """Raise BenchError for an empty word of a command: an empty path would be the working folder."""
    for before, word in pairwise(words):
        if not word or (word.startswith("--") and word.endswith("=")):
            name = before if not word else word.removesuffix("=")
            raise BenchError(f"the value of {name} is empty; give one, or leave it out (is a variable not set?)")


def _run_app() -> None:
    """Run the command. If the output could not be written, as on a full disk, report this at the end."""
    try:
        app()
    finally:
        if fault := fault_of_output():
            err.print(f"error: cannot write to the standard output: {fault}", style="red", soft_wrap=True)
            raise SystemExit(2)


def main() -> None:
    """Run the command line. A user's mistake gives one line and exit code 2; a bug keeps its traceback."""
    prepare_process()
    try:
        require_values(sys.argv)
        with no_exit():
            _run_app()
    except (BenchError, OSError) as error:
        line = " ".join(str(error).split())
        if isinstance(error, OSError):
            unusable = isinstance(error, UNUSABLE) or error.errno in OF_DISK
            if not (unusable and _is_own(error.filename)):
                raise
            line = f"{error.filename}: {error.strerror}"
        if file := os.environ.get(ERROR_FILE):
            write_whole(Path(file), f"{type(error).__name__}: {line}")
        else:
            print_line(err, f"error: {line}", style="red")
        raise SystemExit(2) from None
    except SystemExit as end:  # typer turns Ctrl-C into exit code 130
        if end.code == 130 and ERROR_FILE not in os.environ:
            err.print("interrupted; the same command resumes where this one stopped", style="yellow")
        raise
