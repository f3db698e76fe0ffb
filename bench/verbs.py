"""The verbs: what `import bench` offers and the command line calls. Each imports what it needs when it is called.

A method, a backbone or a task is a name with arguments, `lpft-sd(drop_path_rate=0.3)`, or a registered class, function
or object, which may be defined in a notebook. Where several are possible: a text with commas, or a list.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from bench.boards.shown import ShownAsTable
from bench.errors import ERROR_FILE, BenchError

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress, TaskID

    from bench.boards.comparisons import Compared
    from bench.boards.frames import RunResult
    from bench.boards.power import Power
    from bench.boards.rows import Board, PlanOf
    from bench.boards.truth import Truth
    from bench.cell import Cell
    from bench.launch.slurm import Slurm
    from bench.launch.sweep import Grid, Swept
    from bench.launch.tune import Tuned
    from bench.registry.registry import Kind
    from bench.results.elsewhere import Evaluation
    from bench.results.finished import Finished
    from bench.results.result import Result

DATA, RUNS, BOARDS = Path("data/ptb-xl"), Path("runs"), Path("leaderboards")
SEEDS = "0,1,2"
"""Seeds of a sweep: with fewer than three runs a row has no interval over runs, and no claim."""
Named = Any
"""A reference as text, or a registered class, function or object."""
DataSet = Any
"""A folder, a bench.plugin.Records, or a class or function that makes one. None: $BENCH_DATA, else data/ptb-xl."""
Several = Any
"""One, a sequence of them, or text with commas."""
Log = Callable[[str], None]


def run(
    method: Named,
    task: Named,
    arch: Named = "ecgfounder",
    *,
    init: str | Path | None = None,
    data: DataSet = None,
    fraction: float = 1.0,
    draw: int = 0,
    manifest: str | Path | None = None,
    seed: int = 0,
    source_rate: int | None = None,
    precision: str = "auto",
    stage: Literal["val", "test"] = "test",
    nproc: int = 1,
    runs: str | Path = RUNS,
    overwrite: bool = False,
    rerun_stale: bool = False,
    keep_weights: Literal["none", "best"] = "best",
    also_on: Iterable[str | Path] = (),
    checkpoint_minutes: float = 10.0,
    wandb: Literal["off", "offline", "online"] = "off",
    console: Console | None = None,
) -> RunResult:
    """Adapt a backbone to a task by a method, score it on fold 10, and return the result. A finished run is loaded.

    `also_on` lists folders of other data sets, on which it is tested too (see `evaluate`).
    `console` receives progress: standard error by default, `rich.console.Console(quiet=True)` for silence.
    """
    from bench.boards.frames import RunResult
    from bench.cell import Cell
    from bench.console.tables import result_cells
    from bench.data.opened import OpenData
    from bench.execute import Options, execute
    from bench.registry.reference import Reference
    from bench.results.finished import remember
    from bench.results.identity import changes, code_at_hand, sampled_signals

    console = console or _progress()
    cell = Cell(
        data=data_folder(data),
        task=name_of("task", task),
        arch=Reference.parse(name_of("backbone", arch)),
        method=Reference.parse(name_of("method", method)),
        init=None if init is None else str(init),
        fraction=fraction,
        draw=draw,
        manifest=None if manifest is None else Path(manifest),
        seed=seed,
        source_rate=source_rate,
        precision=precision,
    )
    options = Options(
        runs=Path(runs),
        stage=stage,
        overwrite=overwrite,
        rerun_stale=rerun_stale,
        wandb=wandb,
        keep_weights=keep_weights,
        also_on=tuple(map(Path, also_on)),
        checkpoint_minutes=checkpoint_minutes,
        console=console,
    )
    if nproc > 1:
        options = _run_on_ranks(nproc, cell, options)
    opened = OpenData(cell.data)
    result = execute(cell, options, opened)
    if is_main():
        if news := changes(result.document, partial(code_at_hand, data=opened)):
            note(console, f"of this finished run, {news}; --overwrite runs it again")
        _note_lost_weights(console, result.folder, result.document, keep_weights)
        if not cell.of_notebook:
            key = _key_of_run(
                method=method,
                task=task,
                arch=arch,
                init=init,
                data=data,
                fraction=fraction,
                draw=draw,
                manifest=manifest,
                seed=seed,
                source_rate=source_rate,
                precision=precision,
                stage=stage,
                runs=runs,
            )
            signals = sampled_signals(result.document, opened.records)
            remember(key, result.folder, result.document, news, result_cells(result), signals)
    return RunResult(result)


def finished(
    *, overwrite: bool, rerun_stale: bool, also_on: Sequence[Path], keep_weights: str, console: Console, **named: Any
) -> Finished | None:
    """Return the finished run that a command names if hashes of files tell, in half a second, else None.

    `named` are the options that `_key_of_run` takes. None does not mean that there is no such run: `run` knows. A note
    on changed code is printed as `run` does.
    """
    from bench.results.finished import recognise

    if overwrite or rerun_stale or also_on:
        return None
    recognised = recognise(_key_of_run(**named))
    if recognised:
        if recognised.changed:
            note(console, f"of this finished run, {recognised.changed}; --overwrite runs it again")
        _note_lost_weights(console, recognised.folder, recognised.document, keep_weights)
    return recognised


def _note_lost_weights(console: Console, folder: Path, document: Mapping[str, Any], keep_weights: str) -> None:
    """Say that a finished run has not kept the weights that are asked for."""
    from bench.results.finished import WEIGHTS

    if keep_weights == "best" and document.get("incompatible") is None and not (folder / WEIGHTS).exists():
        note(console, "this finished run has not kept its weights; --overwrite runs it again and keeps them")


def _key_of_run(
    *,
    method: Named,
    task: Named,
    arch: Named,
    init: str | Path | None,
    data: DataSet,
    fraction: float,
    draw: int,
    manifest: str | Path | None,
    seed: int,
    source_rate: int | None,
    precision: str,
    stage: str,
    runs: str | Path,
) -> str:
    """Return the key under which a finished run is remembered; empty if it is not, as with classes of a notebook."""
    from bench.results.finished import key_of_command

    if not all(isinstance(word, str) for word in (method, task, arch)):
        return ""
    options = [method, task, arch, fraction, draw, seed, source_rate, precision, stage, str(runs)]
    start = None if init is None else str(init)
    return key_of_command(options, data_folder(data), start, None if manifest is None else Path(manifest))


def sweep(
    method: Several,
    task: Several,
    arch: Several = "ecgfounder",
    *,
    init: Several = None,
    data: DataSet = None,
    fraction: Several = 1.0,
    draw: Several = 0,
    seed: Several = SEEDS,
    source_rate: int | None = None,
    precision: str = "auto",
    stage: Literal["val", "test"] = "test",
    jobs: int | None = None,
    nproc: int = 1,
    slurm: Slurm | None = None,
    minutes: float | None = None,
    shard: str | None = None,
    runs: str | Path = RUNS,
    rerun_stale: bool = False,
    keep_weights: Literal["none", "best"] = "none",
    checkpoint_minutes: float = 10.0,
    also_on: Iterable[str | Path] = (),
    accept_noncommercial: bool = False,
    dry_run: bool = False,
    estimate: bool = False,
    out: Console | None = None,
    console: Console | None = None,
) -> Swept:
    """Run a grid of cells, and return them with their states; `.frame` is a DataFrame of their results.

    Cells that are done are skipped, and interrupted ones resume. `also_on` lists folders of other data sets, on which
    each cell is tested before its weights are removed. With `accept_noncommercial`, `all-foundation` includes
    backbones whose weights are for non-commercial use only. `shard` is one part of the sweep, such as `0/4`, where
    machines share no files. After `minutes`, what is left stays for the next time. With `estimate`, backbones that no
    finished cell tells the time of are timed for the plan. `out` receives the plan and the outcome, `console` progress.
    """
    from bench.execute import Options
    from bench.launch import sweep as launch
    from bench.launch.workers import Crew

    grid = grid_of(method, task, arch, init, data, fraction, draw, seed, source_rate, precision, accept_noncommercial)
    others = tuple(map(Path, also_on))
    options = Options(
        runs=Path(runs),
        stage=stage,
        keep_weights=keep_weights,
        also_on=others,
        checkpoint_minutes=checkpoint_minutes,
    )
    console = console or _progress()
    if slurm and (names := {name for cell in grid.cells() for name in cell.of_notebook}):
        raise BenchError(
            f"{', '.join(sorted(names))}: defined in a notebook or a script, which a job of SLURM cannot import; save "
            "it in a file of its own and call bench.load_plugin"
        )
    return launch.sweep(
        grid,
        options,
        crew=Crew.of(jobs, nproc, 60 * minutes if minutes else None),
        rerun_stale=rerun_stale,
        dry_run=dry_run,
        estimate=estimate,
        out=out or console,
        err=console,
        slurm=slurm,
        shard=launch.Shard.parse(shard) if shard is not None else None,
    )


@dataclass(frozen=True, repr=False)
class Tuning(ShownAsTable):
    """The outcome of `tune`: for each method the trials on fold 9, the best, and its final runs."""

    methods: Sequence[Tuned]
    planned: Sequence[Mapping[str, str]] = ()
    """Of a dry run: a row for each trial that would run, with its state."""

    @property
    def trials(self) -> pd.DataFrame:
        """One row for each trial. Columns: task, backbone, fraction, method, setting, val_auroc, seconds, chosen."""
        import pandas as pd

        rows = [
            (
                *(tuned.cell.task, str(tuned.cell.arch), tuned.cell.fraction, tuned.cell.method.name),
                *(trial.method, trial.val_macro_auroc, trial.seconds, trial == tuned.best),
            )
            for tuned in self.methods
            for trial in tuned.trials
        ]
        columns = ["task", "backbone", "fraction", "method", "setting", "val_auroc", "seconds", "chosen"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def frame(self) -> pd.DataFrame:
        """The final runs, with the columns of `load_results`."""
        from bench.boards.frames import results_frame

        return results_frame(end.result() for tuned in self.methods for end in tuned.finals if end.folder)

    @property
    def finished(self) -> bool:
        """Whether each final run has a result."""
        return all(tuned.finished for tuned in self.methods)

    def shown(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(self.planned) if self.planned else self.trials


def tune(
    method: Several,
    task: Several,
    trials: int,
    arch: Several = "ecgfounder",
    *,
    init: Several = None,
    data: DataSet = None,
    fraction: Several = 1.0,
    draw: Several = 0,
    seed: Several = SEEDS,
    source_rate: int | None = None,
    precision: str = "auto",
    jobs: int | None = None,
    nproc: int = 1,
    slurm: Slurm | None = None,
    minutes: float | None = None,
    runs: str | Path = RUNS,
    keep_weights: Literal["none", "best"] = "none",
    checkpoint_minutes: float = 10.0,
    dry_run: bool = False,
    console: Console | None = None,
) -> Tuning:
    """Tune methods with the same number of trials on fold 9, and run the best setting of each with every seed.

    On SLURM the outcome is empty until the workers have ended and the same call is made again. With `dry_run`,
    nothing is run, and `planned` of the outcome has the trials.
    """
    from bench.execute import Options
    from bench.launch import tune as launch
    from bench.launch.workers import Crew

    grid = grid_of(method, task, arch, init, data, fraction, draw, seed, source_rate, precision)
    options = Options(runs=Path(runs), keep_weights=keep_weights, checkpoint_minutes=checkpoint_minutes)
    console = console or _progress()
    if grid.remark:
        note(console, grid.remark)
    if dry_run:
        return Tuning([], launch.plan_trials(grid.cells(), trials, options))
    crew = Crew.of(jobs, nproc, 60 * minutes if minutes else None)
    tuned = launch.tune(grid.cells(), trials, options, crew=crew, console=console, slurm=slurm)
    return Tuning(tuned)


@dataclass(frozen=True, eq=False, repr=False)
class Leaderboard(ShownAsTable):
    """The boards of runs: each row with its interval, and each pair of rows."""

    boards: Sequence[Board]
    truth: Truth
    left_out: Log | None = None
    """Receives a line for each damaged evaluation elsewhere when the boards are written; without it one is an error."""

    @property
    def rows(self) -> pd.DataFrame:
        """One row for each row of each board; bench/README.md documents the columns."""
        from bench.boards.frames import rows_frame

        return rows_frame(self.boards)

    @property
    def pairs(self) -> pd.DataFrame:
        """One row for each pair of rows of each board; bench/README.md documents the columns."""
        from bench.boards.frames import pairs_frame

        return pairs_frame(self.boards)

    @property
    def results(self) -> pd.DataFrame:
        """One row for each run on the boards, with the columns of `load_results`."""
        from bench.boards.frames import results_frame
        from bench.boards.rows import runs_of

        return results_frame(runs_of(self.boards))

    @property
    def subgroups(self) -> pd.DataFrame:
        """One row for each row of each board in each part of fold 10: an age band, a sex, a device, a site."""
        from bench.boards.subgroups import subgroups_frame

        return subgroups_frame(self.boards, self.truth)

    @property
    def answers(self) -> pd.DataFrame:
        """One row for each contrast of each study over all tasks: what the page *Which way is best?* claims."""
        from bench.boards.answers import answers_frame

        return answers_frame(self.boards)

    def write(
        self, folder: str | Path, formats: Several = "md", pictures: Several = (), *, misses: bool = False
    ) -> list[Path]:
        """Write the boards, and return the paths.

        `formats`: md (pages with SVG pictures), csv, tex, json, html (a file a board to play with). `pictures`: svg,
        pdf, png. With `misses`, html also has the records that each row gets most wrong, with their ECGs.
        """
        from bench.pages.leaderboards import ENDINGS, FORMATS, write_formats

        chosen = _choices(formats, FORMATS, "format"), _choices(pictures, ENDINGS, "kind of picture")
        if misses and "html" not in chosen[0]:
            raise BenchError("single records stand on HTML pages only: add the format html")
        return write_formats(
            list(self.boards), Path(folder), self.truth, *chosen, misses=misses, left_out=self.left_out
        )

    def shown(self) -> pd.DataFrame:
        columns = ["task", "fraction", "place", "row", "auroc", "auroc_low", "auroc_high", "average_precision"]
        return self.rows[[*columns, "difference", "low", "high", "p", "groups", "runs", "published"]]


def leaderboard(
    runs: str | Path | Iterable[str | Path] = RUNS,
    *,
    include_published: bool = False,
    published: bool = False,
    data: DataSet = None,
    boards: str | Path | None = None,
    labels: Mapping[str, str] = {},
    log: Log | None = None,
    left_out: Log | None = None,
) -> Leaderboard:
    """Return the boards of finished runs. `log` receives notes.

    `left_out` receives a line for each damaged run and, when the boards are written, for each damaged evaluation
    elsewhere. `include_published` adds the published rows of the same boards. `published`: only the results that lie in
    the folder `boards`, which must all be whole. `boards` is also where `<dataset>/<task>.toml` declares baseline,
    family and labels. `labels`: backbone, init or method -> its name in tables and pictures, also where a file declares
    another.
    """
    from bench.boards.declared import plan_in, with_labels
    from bench.boards.rows import make_boards
    from bench.boards.truth import Truth
    from bench.pages.leaderboards import not_at_hand
    from bench.pages.names import check_labels
    from bench.pages.publish import published_results

    truth, plans = Truth(data_folder(data)), Path(boards or BOARDS)
    if published:
        found: list[Result] = published_results(plans)
    else:
        found = _find(runs, include_published, log, left_out, truth)
    for each in found:
        if each.partial:
            (log or _log)(f"not on a board: {each.folder} has scores of a part of fold 10; `bench compare` takes it")
    plan_of = with_labels(plan_in(plans, BOARDS, *_published_plans()), labels)
    if include_published:  # boards of published rows alone are not computed
        own = {result.board for result in found if result.tested and not result.published}
        found = [result for result in found if result.board in own]
    made = make_boards(found, truth, plan_of)
    if not made:
        where = f"published result in {plans}" if published else f"finished run with scores of fold 10 in {runs}"
        raise BenchError(f"no {where}")
    check_labels(made, labels, log or _log)
    if missing := not_at_hand(made):
        missing = f"no labels of {missing} at {data_folder(data)}"
        if published:
            raise BenchError(f"{missing}: published pages are computed from labels; --data names their folder")
        lacking = "scores are the results' own, without groups, ranks and differences"
        (log or _log)(f"{missing}: {lacking}; --data names the dataset's folder")
    return Leaderboard(made, truth, None if published else _told(left_out))


def compare(
    *rows: str | Path | RunResult,
    runs: str | Path | Iterable[str | Path] = RUNS,
    include_published: bool = False,
    data: DataSet = None,
    task: str | None = None,
    fraction: float | None = None,
    boards: str | Path = BOARDS,
    by: Several = (),
    log: Log | None = None,
    left_out: Log | None = None,
) -> Compared:
    """Compare rows by paired differences and tests: `.differences` and `.labels` are DataFrames.

    A row is a run's folder or result, or the name of a row: in full, or its first words, as long as one row is meant.
    `by` names columns of the data set, of age, sex, device and site: then `.subgroups` is a DataFrame too.
    """
    from bench.boards.comparisons import compared
    from bench.boards.declared import BoardPlan, plan_in
    from bench.boards.selection import select_rows
    from bench.boards.subgroups import KINDS, check_kinds, compare_within
    from bench.boards.truth import Truth

    truth = Truth(data_folder(data))
    names = [str(getattr(row, "folder", row)) for row in rows]
    kinds = _choices(by, KINDS, "subgroups by")
    chosen = select_rows(names, lambda: _find(runs, include_published, log, left_out, truth), truth, task, fraction)
    plan = plan_in(Path(boards), *_published_plans())(chosen.dataset, chosen.task)
    if chosen.out_of:
        plan = BoardPlan(margin=plan.margin)  # what was declared is about whole folds
        number = f"{len(chosen.truth):,} of {chosen.out_of:,}"
        (log or _log)(f"compared on {number} records of fold 10, those that all of these rows have: on no board")
    people = truth.people(chosen.truth)
    check_kinds(kinds, people)
    found = compared(chosen.rows, plan, chosen.truth, chosen.tuned, chosen.others)
    return compare_within(found, chosen.rows, chosen.truth, people, kinds, chosen.others) if kinds else found


def power(
    difference: float = 0.005,
    *,
    task: str | None = None,
    fraction: float | None = None,
    contrast: str | None = None,
    tests: int = 1,
    looks: int = 1,
    runs: str | Path | Iterable[str | Path] | None = None,
    data: DataSet = None,
    boards: str | Path | None = None,
    log: Log | None = None,
) -> Power:
    """Return how many draws and seeds a difference of macro AUROC needs, from the variances of finished runs.

    `.frame` is a DataFrame, `.remarks` say what its numbers mean. Variances are those of the published results, or of
    `runs`. `contrast` is such as `lpft-sd minus ft`; `tests` is the number of tests that Holm corrects for, `looks`
    that of planned looks at the data.
    """
    from bench.boards.power import plan_power, read_variances, variances_of
    from bench.results.result import published_folder

    if runs is None:
        known = read_variances(published_folder())
    else:
        known = variances_of(leaderboard(runs, data=data, boards=boards, log=log).boards)
    return plan_power(known, difference, tests=tests, looks=looks, task=task, fraction=fraction, contrast=contrast)


def misses(
    run: str | Path | RunResult,
    label: str | None = None,
    *,
    n: int = 12,
    fold: int | None = None,
    data: DataSet = None,
    runs: str | Path | Iterable[str | Path] = RUNS,
    include_published: bool = False,
    task: str | None = None,
    fraction: float | None = None,
    out: str | Path | Iterable[str | Path] = (),
    log: Log | None = None,
    console: Console | None = None,
) -> pd.DataFrame:
    """Return the records that a run gets most wrong, worst first; bench/README.md documents the columns.

    Without a label the `n` records with the largest loss; with one its `n` most clearly missed positives and `n` false
    alarms. `run` is a folder, a result, or the name of a row, of which the first run is taken. `out` names files to
    write: .png, .pdf or .svg is a contact sheet of the ECGs, .csv the table. `frame.attrs["title"]` says what it shows.
    """
    from bench.boards.misses import find_misses
    from bench.boards.selection import select_run
    from bench.boards.truth import Truth
    from bench.console.tracking import progress_bar
    from bench.data.datasets import load_records
    from bench.pages.contact_sheet import check_ending, write_misses

    files = [Path(out)] if isinstance(out, str | Path) else [Path(each) for each in out]
    for file in files:
        check_ending(file)
    folder, name = data_folder(data), str(getattr(run, "folder", run))
    truth = Truth(folder)
    chosen = select_run(name, lambda: _find(runs, include_published, log, log, truth), truth, task, fraction)
    records = load_records(folder)
    found = find_misses(chosen, records, label, n, fold)
    if not files:
        return found.frame
    with progress_bar(console or _progress(), "drawing records") as bar:
        shown = bar.add_task("", total=None)
        for file in files:
            write_misses(found, records, file, lambda done, num: bar.update(shown, completed=done, total=num))
    return found.frame


def load_results(
    runs: str | Path | Iterable[str | Path] = RUNS, *, include_published: bool = False, log: Log | None = None
) -> pd.DataFrame:
    """Return a DataFrame with a row for each finished run; bench/README.md documents the columns."""
    from bench.boards.frames import results_frame
    from bench.results.result import find_published

    found = _own(runs, log, may_lack=include_published)
    return results_frame([*found, *(find_published() if include_published else ())])


def score(
    file: str | Path | pd.DataFrame,
    task: Named,
    name: str,
    *,
    scale: Literal["logit", "probability"] | None = None,
    compat: Literal["strodthoff2020", "all-records"] | None = None,
    fraction: float = 1.0,
    draw: int = 0,
    seed: int = 0,
    partial: bool = False,
    data: DataSet = None,
    runs: str | Path = RUNS,
    overwrite: bool = False,
    log: Log | None = None,
) -> RunResult:
    """Score predictions made elsewhere on fold 10: a CSV or npz file, or a DataFrame [record, label] by ecg_id.

    With `partial`, records may be missing: the scores can be compared on those that there are, and stand on no board.
    """
    import tempfile

    from bench.boards.frames import RunResult
    from bench.results.external import score_external

    with tempfile.TemporaryDirectory() as scratch:
        path = _as_file(file, Path(scratch))
        result = score_external(
            path,
            name_of("task", task),
            name,
            data_folder(data),
            Path(runs),
            scale=scale,
            compat=compat,
            fraction=fraction,
            draw=draw,
            seed=seed,
            partial=partial,
            overwrite=overwrite,
            log=log or _log,
        )
    return RunResult(result)


@dataclass(frozen=True, eq=False, repr=False)
class Tested(ShownAsTable):
    """Runs tested elsewhere. They are kept beside each run's result, and are not ranked."""

    evaluations: Sequence[Evaluation]

    @property
    def frame(self) -> pd.DataFrame:
        """One row for each run; macro AUROC over its shared labels with 10 positives there, and recorded on fold 10."""
        from bench.boards.frames import evaluations_frame

        return evaluations_frame(self.evaluations)

    def shown(self) -> pd.DataFrame:
        return self.frame


def evaluate(
    *run: str | Path | RunResult,
    data: DataSet = None,
    corrupt: str | Iterable[str] = (),
    seed: int = 0,
    source_rate: int | None = None,
    log: Log | None = None,
    console: Console | None = None,
) -> Tested:
    """Score finished runs, with the weights that they kept, on another data set's records, or on corrupted ones.

    `corrupt` lists corruptions NAME=STRENGTH, applied in this order; `seed` is that of their random numbers. Without
    `data`, it is the data set of `data_folder`, of which only fold 10 is used if the runs were trained on it.
    """
    from bench.console.tracking import progress_bar
    from bench.data.corruptions import Corruption
    from bench.transfer import evaluate as test

    names = [corrupt] if isinstance(corrupt, str) else list(corrupt)
    corruptions = [Corruption.parse(each) for each in names]
    if not run:
        raise BenchError("no run is named; name folders of finished runs that kept their weights")
    tested = []
    for each in run:
        folder = Path(str(getattr(each, "folder", each)))
        with progress_bar(console or _progress(), folder.name) as bar:
            shown = bar.add_task("records")

            def progress(done: int, total: int, bar: Progress = bar, shown: TaskID = shown) -> None:
                bar.update(shown, completed=done, total=total)

            tested.append(test(folder, data_folder(data), corruptions, seed, source_rate, log or _log, progress))
    return Tested(tested)


def load_plugin(file: str | Path) -> None:
    """Load a file that registers methods, backbones or tasks and is not installed, here and in processes of a sweep."""
    from bench.registry.registry import load_plugin

    load_plugin(file)


def data_folder(data: DataSet) -> Path:
    """Return the data set's folder: as given, else `$BENCH_DATA`, else data/ptb-xl."""
    if data is None or isinstance(data, str | Path):
        return data if isinstance(data, Path) else Path(data or os.environ.get("BENCH_DATA") or DATA)
    from bench.data.datasets.held import hold

    return hold(data)


def name_of(kind: Kind, named: Named) -> str:
    """Return a reference as text. A Task that is not registered yet is registered."""
    from bench.registry.reference import Reference

    if isinstance(named, str | Reference):
        return str(named)
    if kind == "task":
        from bench.data.tasks import Task
        from bench.registry.registry import register_task

        if not isinstance(named, Task):
            raise BenchError(f"expected the name of a task or a bench.plugin.Task, got {named!r}")
        register_task(named)
        return named.name
    from bench.registry.registry import reference_to

    return str(reference_to(kind, named))


def grid_of(
    method: Several,
    task: Several,
    arch: Several,
    init: Several,
    data: DataSet,
    fraction: Several,
    draw: Several,
    seed: Several,
    source_rate: int | None,
    precision: str,
    accept_noncommercial: bool = False,
) -> Grid:
    """Return the grid of a sweep."""
    from bench.launch.sweep import Grid

    return Grid.parse(
        data_folder(data),
        _joined(task, "task"),
        _joined(arch, "backbone"),
        _joined(method, "method"),
        None if init is None else _joined(init),
        _joined(fraction),
        _joined(draw),
        _joined(seed),
        source_rate,
        precision,
        accept_noncommercial,
    )


def _joined(values: Several, kind: Kind | None = None) -> str:
    """Return values as text with commas between them."""
    if isinstance(values, str):
        return values
    every = values if isinstance(values, Sequence | range | set) else [values]
    return ",".join(name_of(kind, each) if kind else str(each) for each in every)


def _choices(values: Several, known: Sequence[str], what: str) -> list[str]:
    """Return several words, each of which must be known."""
    chosen = [word.strip() for text in ([values] if isinstance(values, str) else values) for word in text.split(",")]
    if unknown := [word for word in chosen if word not in known]:
        raise BenchError(f"no {what} {unknown[0]!r}; expected {', '.join(known)}")
    return list(dict.fromkeys(chosen))


def is_main() -> bool:
    """Return whether this process is the one that reports: not a further rank, and no rank of another command."""
    return os.environ.get("RANK", "0") == "0" and ERROR_FILE not in os.environ


def note(console: Console, line: str) -> None:
    """Print a note for the user."""
    console.print(f"note: {line}", markup=False, soft_wrap=True)


def _run_on_ranks(nproc: int, cell: Cell, options: Any) -> Any:
    """Run a cell on several processes, and return the options that load its result."""
    from bench.launch.torchrun import run_on_ranks

    if names := cell.of_notebook:
        raise BenchError(
            f"{', '.join(names)}: defined in a notebook or a script, which {nproc} processes cannot import; "
            "save it in a file of its own and call bench.load_plugin"
        )
    if code := run_on_ranks(nproc, options.arguments(cell)):
        raise BenchError(f"a process of this run failed with exit code {code}; it has printed why")
    return replace(options, overwrite=False, rerun_stale=False)


def _progress() -> Console:
    """Return a console for progress: standard error, which a notebook would show in red, so there standard output.

    In a notebook it prints text, because rich's widgets warn where some are missing.
    """
    if "ipykernel" in sys.modules:
        return Console(force_jupyter=False, force_terminal=False, width=100)
    return Console(stderr=True)


def _log(line: str) -> None:
    print(f"note: {line}", file=sys.stderr)


def _told(left_out: Log | None) -> Log:
    """Return what receives a line for each damaged run that is left out; by default it is printed."""
    return left_out or (lambda line: _log(f"left out: {line}"))


def _as_file(scores: str | Path | pd.DataFrame, scratch: Path) -> Path:
    """Return the path of a file of scores; a DataFrame is written into `scratch`."""
    if isinstance(scores, str | Path):
        return Path(scores)
    from bench.files import write_into

    table = scores if "ecg_id" in scores else scores.rename_axis("ecg_id").reset_index()
    write_into(scratch, "scores.csv", table.to_csv(index=False))
    return scratch / "scores.csv"


def _folders(runs: str | Path | Iterable[str | Path]) -> list[Path]:
    return [Path(runs)] if isinstance(runs, str | Path) else [Path(each) for each in runs]


def _own(runs: str | Path | Iterable[str | Path], left_out: Log | None, *, may_lack: bool) -> list[Result]:
    """Return the finished runs in these folders. With `may_lack`, a folder may be missing."""
    from bench.results.result import find_results

    folders = [folder for folder in _folders(runs) if folder.is_dir() or not may_lack]
    return [result for folder in folders for result in find_results(folder, _told(left_out))]


def _find(
    runs: str | Path | Iterable[str | Path],
    include_published: bool,
    log: Log | None,
    left_out: Log | None,
    truth: Truth,
) -> list[Result]:
    """Return the user's finished runs, and the published rows that none of them contradicts.

    Damaged runs, and those whose predictions are of another run, are left out.
    """
    from bench.boards.rows import beside
    from bench.errors import DataError
    from bench.results.result import find_published

    own = []
    for result in _own(runs, left_out, may_lack=include_published):
        try:
            truth.require_own_scores(result)
        except DataError as error:
            _told(left_out)(str(error))
        else:
            own.append(result)
    return own + (beside(own, find_published(), log or _log) if include_published else [])


def declarations() -> PlanOf:
    """Return a function: dataset and task -> what is declared for its boards, here or in the published folder."""
    from bench.boards.declared import plan_in

    return plan_in(BOARDS, *_published_plans())


def _published_plans() -> list[Path]:
    """Return the folder of the published declarations, if there is one."""
    from bench.errors import DataError
    from bench.results.result import published_folder

    try:
        return [published_folder()]
    except DataError:
        return []
