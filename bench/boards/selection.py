"""Select rows to compare, by the folder of a run or by the name that boards print."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.boards.comparisons import ScoredRow
from bench.boards.declared import names_row
from bench.boards.partial import common_records, score_common
from bench.boards.rows import LabelsOf, check_draws, num_trials, ordered, scored_run
from bench.data.tasks import LabelTable
from bench.errors import BenchError
from bench.results.result import EXTERNAL, RESULT, Result, load_result, row_name


@dataclass(frozen=True, eq=False)
class Selection:
    """Named rows of a task, scored on the same records."""

    dataset: str
    task: str
    rows: Mapping[str, ScoredRow]
    truth: LabelTable
    tuned: frozenset[str]
    """Names of the rows, selected or not, whose setting was chosen by a search on fold 9."""
    others: Mapping[str, ScoredRow] = field(default_factory=dict)
    """The other rows of the same board; empty if run folders are selected, or a row has a part of fold 10."""
    out_of: int | None = None
    """Number of records of fold 10, if `truth` has a part of them, because a row lacks some."""


def select_rows(
    names: Sequence[str],
    find: Callable[[], Iterable[Result]],
    truth: LabelsOf,
    task: str | None = None,
    fraction: float | None = None,
) -> Selection:
    """Return the rows of these names: a run folder makes a row with one run, a row name a row with all runs of a board.

    `find` returns the results among which names are looked up. A name may be short: see `matching`. Raises BenchError
    for a name that matches no row, several rows or several boards, for rows with different labels or folds, and if the
    dataset's tables are missing.
    """
    if len(set(names)) < len(names):
        raise BenchError("a row is named twice: name each once")
    folders = {name: load_result(Path(name)) for name in names if (Path(name) / RESULT).is_file()}
    are_single_runs = len(folders) == len(names)
    chosen: Mapping[str, Sequence[Result]] = {name: [result] for name, result in folders.items()}
    others: Mapping[str, Sequence[Result]] = {}
    if not are_single_runs:
        chosen, others = _with_rows(names, folders, find, truth, task, fraction)
    first, table = next(iter(chosen.values()))[0], _labels_of(chosen, truth)
    every, num_records = [run for runs in chosen.values() for run in runs], len(table)
    is_part = any(run.partial for run in every)
    if is_part:
        table, others = common_records(every, table), {}
    score = score_common if is_part else scored_run
    rows = {
        name: {(0, 0) if are_single_runs else run.place: score(run, table) for run in ordered(runs)}
        for name, runs in chosen.items()
    }
    tuned = frozenset(name for name, runs in {**chosen, **others}.items() if num_trials(runs))
    beside = {name: {run.place: scored_run(run, table) for run in ordered(runs)} for name, runs in others.items()}
    place = first.document["dataset"]["name"], first.cell["task"]
    return Selection(*place, rows, table, tuned, beside, num_records if is_part else None)


def _with_rows(
    names: Sequence[str],
    folders: Mapping[str, Result],
    find: Callable[[], Iterable[Result]],
    truth: LabelsOf,
    task: str | None,
    fraction: float | None,
) -> tuple[dict[str, list[Result]], dict[str, list[Result]]]:
    """Return the runs of each named row or folder, in the order of `names`, and of the other rows of the board.

    A row has its full name. There are no other rows if a folder is named, and none of them has a part of fold 10.
    """
    wanted = [name for name in names if name not in folders]
    of_board, full = _by_name(wanted, [*folders.values()], find(), truth, task, fraction)
    full_names = [full.get(name, name) for name in names]
    if len(set(full_names)) < len(names):
        raise BenchError(f"a row is named twice: {', '.join(full_names)}; name each once")
    chosen = {name: [folders[name]] if name in folders else of_board[name] for name in full_names}
    check_draws([run for name, runs in chosen.items() if name not in folders for run in runs])
    others = {
        name: runs for name, runs in of_board.items() if name not in chosen and not any(run.partial for run in runs)
    }
    return chosen, {} if folders else others


def _labels_of(chosen: Mapping[str, Sequence[Result]], truth: LabelsOf) -> LabelTable:
    """Return the labels of fold 10 that the runs of the chosen rows share.

    Raises BenchError if a run has no scores of fold 10, if labels or folds differ, or if the tables are missing.
    """
    first_name, first = next((name, runs[0]) for name, runs in chosen.items())
    for name, runs in chosen.items():
        for run in runs:
            if run.incompatible is not None or run.document["stage"] == "val":
                raise BenchError(f"{run.folder} has no scores of fold 10: run it to --stage test, or name another row")
            if run.fingerprint != first.fingerprint:
                raise BenchError(
                    f"{name} is a row of {run.cell['task']} on {run.document['dataset']['name']} and {first_name} of "
                    f"{first.cell['task']} on {first.document['dataset']['name']}: their labels or folds differ; "
                    "compare rows of the same task and dataset"
                )
    table = truth(first)
    if table is None:
        raise BenchError(
            f"a comparison needs the tables of {first.document['dataset']['name']} whose labels match these runs; "
            "name their folder with --data"
        )
    return table


def select_run(
    name: str,
    find: Callable[[], Iterable[Result]],
    truth: LabelsOf,
    task: str | None = None,
    fraction: float | None = None,
) -> Result:
    """Return the run in a folder, or the first run, by draw and seed, of the row of this name: see `matching`."""
    if (Path(name) / RESULT).is_file():
        return load_result(Path(name))
    of_board, full = _by_name([name], [], find(), truth, task, fraction)
    return ordered(of_board[full[name]])[0]


BoardKey = tuple[str, str, str, float, str]
"""As `Result.board`."""


def _by_name(
    wanted: Sequence[str],
    given: Sequence[Result],
    results: Iterable[Result],
    truth: LabelsOf,
    task: str | None,
    fraction: float | None,
) -> tuple[dict[str, list[Result]], dict[str, str]]:
    """Return the rows of the only board that has all `wanted` ones, and wanted name -> full name of its row.

    Raises BenchError if no board or several boards have them, or if a name matches several rows of the board.
    """
    places: dict[BoardKey, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        if result.incompatible is not None or result.document["stage"] == "val":
            continue
        if task in (None, result.cell["task"]) and fraction in (None, result.cell["fraction"]):
            places[result.board][row_name(*result.row)].append(result)
    known = sorted({name for rows in places.values() for name in rows})
    for name in wanted:
        if not matching(name, known):
            raise BenchError(f"no run folder and no row {name!r}. {_near(name, known)}")
    fitting = {
        place: rows
        for place, rows in places.items()
        if all(matching(name, rows) for name in wanted) and all(result.fingerprint == place[2] for result in given)
    }
    # a board without its dataset cannot be compared; if it is the only one, the caller names the missing dataset
    if len(fitting) > 1:  # prefer boards that have exactly these names, then those whose dataset is there
        exact = {place: rows for place, rows in fitting.items() if all(name in rows for name in wanted)}
        fitting = exact or fitting
        judged = {place: rows for place, rows in fitting.items() if truth(next(iter(rows.values()))[0]) is not None}
        fitting = judged or fitting
    if len(fitting) > 1:
        where = "; ".join(map(_options, sorted(fitting)))
        raise BenchError(f"several boards have these rows: {where}; add the options of one of them")
    if not fitting:
        where = "; ".join(f"{name!r} is on {_boards_of(name, places)}" for name in wanted)
        raise BenchError(f"no board has all of these rows: {where}; name rows of one board, or folders of runs")
    ((_, rows),) = fitting.items()
    for name in wanted:
        if len(several := matching(name, rows)) > 1:
            raise BenchError(f"{name!r} is the name of several rows: {'; '.join(several)}; add words of one of them")
    return dict(rows), {name: matching(name, rows)[0] for name in wanted}


def matching(name: str, rows: Iterable[str]) -> list[str]:
    """Return the rows that a name means, by the first of these rules that any row fits.

    It is the row's name, with or without `(external)`. It declares the row as a board's TOML does, such as `lpft on
    net1d_mini`; of several settings the method at its defaults. Its words, of which the last may be cut short, stand
    in the row's name in this order; first those rows that begin with them.
    """
    known = list(rows)
    for full in (name, row_name(name, "", EXTERNAL)):
        if full in known:
            return [full]
    declared = [row for row in known if names_row(name, row)]
    defaults = [row for row in declared if row.startswith(f"{name.partition(' on ')[0]} on ")]
    if declared:
        return defaults or declared
    words = name.lower().split()
    pattern = re.compile(r"\b.*?\b".join(map(re.escape, words))) if words else None
    starts = [row for row in known if pattern and re.match(r"\W*" + re.escape(name.lower()), row.lower())]
    return starts or [row for row in known if pattern and re.search(r"(?<!\w)" + pattern.pattern, row.lower())]


def _boards_of(name: str, places: Mapping[BoardKey, Mapping[str, object]]) -> str:
    return ", ".join(_options(place) for place, rows in sorted(places.items()) if matching(name, rows))


def _near(name: str, known: Sequence[str]) -> str:
    """Return a hint for a name that no row has: the nearest rows, or all of them."""
    lower = {row.lower(): row for row in known}
    near = [lower[row] for row in difflib.get_close_matches(name.lower(), lower, 5, cutoff=0.4)]
    if near:
        return f"Near it: {'; '.join(near)}"
    return f"Rows: {'; '.join(known)}" if known else "There are no rows."


def _options(place: BoardKey) -> str:
    """Return the options that choose a board."""
    dataset, task, _, fraction, manifest = place
    share = f"{fraction!r} ({manifest})" if manifest else f"{fraction:g}"
    return f"--task {task} --fraction {share} on {dataset}"
