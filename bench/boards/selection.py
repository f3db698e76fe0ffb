"""Select rows to compare, by the folder of a run or by the name that boards print."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.boards.comparisons import ScoredRow
from bench.boards.rows import LabelsOf, check_draws, num_trials, ordered, scored_run
from bench.data.tasks import LabelTable
from bench.errors import BenchError
from bench.results.result import RESULT, Result, find_results, load_result, row_name


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
    """The other rows of the same board; empty if run folders are selected."""


def select_rows(
    names: Sequence[str],
    runs: Path,
    truth: LabelsOf,
    task: str | None = None,
    fraction: float | None = None,
    log: Callable[[str], None] | None = None,
) -> Selection:
    """Return the rows of these names: a run folder makes a row with one run, a row name a row with all runs of a board.

    With `log`, damaged runs in `runs` are reported and left out: see `find_results`. Raises BenchError for a name that
    matches no row or several boards, for rows with different labels or folds, and if the dataset's tables are missing.
    """
    if len(set(names)) < len(names):
        raise BenchError("a row is named twice: name each once")
    folders = {name: load_result(Path(name)) for name in names if (Path(name) / RESULT).is_file()}
    wanted, of_board = [name for name in names if name not in folders], dict[str, list[Result]]()
    chosen: dict[str, list[Result]] = {name: [result] for name, result in folders.items()}
    if wanted:
        of_board = _by_name(wanted, [*folders.values()], runs, truth, task, fraction, log)
        chosen |= {name: of_board[name] for name in wanted}
    first = chosen[names[0]][0]
    for name in names:
        for run in chosen[name]:
            if run.incompatible is not None or run.document["stage"] != "test":
                raise BenchError(f"{run.folder} has no scores of fold 10: run it to --stage test, or name another row")
            if run.fingerprint != first.fingerprint:
                raise BenchError(
                    f"{name} is a row of {run.cell['task']} on {run.document['dataset']['name']} and {names[0]} of "
                    f"{first.cell['task']} on {first.document['dataset']['name']}: their labels or folds differ; "
                    "compare rows of the same task and dataset"
                )
    table = truth(first)
    if table is None:
        raise BenchError(
            f"a comparison needs the tables of {first.document['dataset']['name']} whose labels match these runs; "
            "name their folder with --data"
        )
    are_single_runs = not wanted
    check_draws([run for name in wanted for run in chosen[name]])
    rows = {
        name: {(0, 0) if are_single_runs else run.place: scored_run(run, table) for run in ordered(chosen[name])}
        for name in names
    }
    unnamed = {} if folders else {name: ordered(runs) for name, runs in of_board.items() if name not in names}
    tuned = frozenset(name for name, of_row in (chosen | unnamed).items() if num_trials(of_row))
    others = {name: {run.place: scored_run(run, table) for run in of_row} for name, of_row in unnamed.items()}
    return Selection(first.document["dataset"]["name"], first.cell["task"], rows, table, tuned, others)


def _by_name(
    wanted: Sequence[str],
    given: Sequence[Result],
    runs: Path,
    truth: LabelsOf,
    task: str | None,
    fraction: float | None,
    log: Callable[[str], None] | None,
) -> dict[str, list[Result]]:
    """Return row name -> its runs, for the only board that has all `wanted` rows.

    Raises BenchError if no board or several boards have them.
    """
    places: dict[tuple[str, str, str, float, str], dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in find_results(runs, log):
        if result.incompatible is not None or result.document["stage"] != "test":
            continue
        if task in (None, result.cell["task"]) and fraction in (None, result.cell["fraction"]):
            places[result.board][row_name(*result.row)].append(result)
    known = sorted({name for rows in places.values() for name in rows})
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise BenchError(f"no run folder and no row {name!r} in {runs}.{hint} Rows: {', '.join(known) or 'none'}")
    fitting = {
        place: rows
        for place, rows in places.items()
        if all(name in rows for name in wanted) and all(result.fingerprint == place[2] for result in given)
    }
    # a board without its dataset cannot be compared; if it is the only one, the caller names the missing dataset
    if len(fitting) > 1:
        judged = {place: rows for place, rows in fitting.items() if truth(rows[wanted[0]][0]) is not None}
        fitting = judged or fitting
    if len(fitting) != 1:
        where = "; ".join(
            f"--task {task} --fraction "
            + (f"{fraction!r} ({manifest})" if manifest else f"{fraction:g}")
            + f" on {dataset}"
            for dataset, task, _, fraction, manifest in sorted(fitting)
        )
        raise BenchError(
            f"several boards have these rows: {where}; add the options of one of them"
            if where
            else "no board has all of these rows: name rows of the same task and fraction"
        )
    ((_, rows),) = fitting.items()
    return dict(rows)
