"""Turn results into boards: rows of runs with intervals, differences, groups and ranks. `pages` writes them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from bench.boards.comparisons import ScoredRow, ScoredRun, Standing, design_of, estimates, stand
from bench.boards.comparisons import as_data as comparison_data
from bench.boards.declared import BoardPlan
from bench.boards.kept import Numbers, RowKey, keep_numbers, key_of_board, recall_numbers
from bench.boards.on_cores import LEAST_ROWS, on_cores
from bench.boards.resampling import BoardRun, board_runs, scores_of, unread
from bench.data.splits import TEST_FOLD
from bench.data.tasks import LabelTable
from bench.errors import DataError
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Interval, Summary, summarize
from bench.evaluation.placements import summarize_all_labels
from bench.evaluation.runs import MIN_RUNS, Design, Place, Priors, borrow
from bench.evaluation.scores import label_sets
from bench.results.identity import conflict
from bench.results.result import Result, row_name

SETS = ("all", "frequent")


@dataclass(frozen=True, eq=False)
class Row:
    """A line of a board: runs that differ only in seed and draw."""

    backbone: str
    init: str
    method: str
    runs: tuple[Result, ...]
    summaries: Mapping[str, Mapping[str, Summary | Interval]]
    """Label set -> metric -> mean and interval; an Interval if there was no dataset, and so nothing was resampled."""
    scored: ScoredRow = field(default_factory=dict)
    """(draw, seed) -> resampled run; empty if there was no dataset."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """As `BoardPlan.labels`."""

    @property
    def name(self) -> str:
        """Return the row's full name, which `bench compare` accepts."""
        return row_name(self.backbone, self.init, self.method)

    @property
    def published(self) -> bool:
        """Return whether its runs came with this package."""
        return all(run.published for run in self.runs)

    @property
    def num_trials(self) -> int:
        """Return the number of settings that a search tried on fold 9; 0 without a search."""
        return num_trials(self.runs)

    @property
    def few_runs(self) -> bool:
        """Return whether there are fewer than MIN_RUNS independent runs, too few to show how much training varies."""
        return design_of_runs(self.runs).num_independent < MIN_RUNS

    @property
    def score(self) -> float:
        """Return macro AUROC over the frequent labels, or over all labels if none is frequent. Boards sort by it."""
        return self.interval.value

    @property
    def interval(self) -> Interval:
        """Return the score with its bounds."""
        frequent = interval_of(self.summaries["frequent"]["auroc"])
        return interval_of(self.summaries["all"]["auroc"]) if math.isnan(frequent.value) else frequent


def runs_of(boards: Iterable[Board]) -> list[Result]:
    """Return all runs on boards, the declined ones last of their board."""
    return [run for board in boards for runs in (*(row.runs for row in board.rows), board.declined) for run in runs]


def by_page(boards: Iterable[Board]) -> dict[tuple[str, str], list[Board]]:
    """Return dataset and task -> boards of their page."""
    pages: dict[tuple[str, str], list[Board]] = defaultdict(list)
    for board in boards:
        pages[board.dataset, board.task].append(board)
    return pages


def design_of_runs(runs: Sequence[Result]) -> Design:
    """Return the design of a row's runs, which says which of them are independent."""
    return Design.of([run.place for run in runs], [run.streams for run in runs])


def num_trials(runs: Sequence[Result]) -> int:
    """Return the number of settings that were tried on fold 9 to choose the setting of these runs; 0 without a search.

    Also 0 if the default setting won and at least one run was made without a search: no search was needed to choose it.
    """
    trials = [run.document.get("search", {}).get("trials", ()) for run in runs]
    if not all(trials) and all(
        tried[0]["method"] == run.row[2] for run, tried in zip(runs, trials, strict=True) if tried
    ):
        return 0
    return max(map(len, trials))


@dataclass(frozen=True, eq=False)
class Board:
    """Comparable rows: the same task of the same dataset, trained on the same fraction or manifest."""

    dataset: str
    synthetic: bool
    task: str
    fingerprint: str
    fraction: float
    manifest: str
    """As `Result.manifest`."""
    rows: tuple[Row, ...]
    declined: tuple[Result, ...]
    truth: LabelTable | None
    """The dataset's labels of fold 10, from which numbers were recomputed; None: numbers were copied from results."""
    plan: BoardPlan
    standing: Standing | None
    """Comparisons of the rows; None if numbers were copied from results."""

    @property
    def recomputed(self) -> bool:
        """Return whether the numbers were recomputed from predictions and the dataset's labels."""
        return self.truth is not None

    @property
    def title(self) -> str:
        """Return what the rows were trained on, in words."""
        share = "All training records" if self.fraction == 1 else f"{100 * self.fraction:.3g} % of the training records"
        return f"{share}, as listed in {self.manifest}" if self.manifest else share


LabelsOf = Callable[[Result], LabelTable | None]
"""Result -> labels of fold 10 that it is scored by; None if its dataset is not available."""
PlanOf = Callable[[str, str], BoardPlan]
"""Dataset and task -> declared plan of their board."""


def make_boards(
    results: Iterable[Result],
    truth: LabelsOf,
    plan_of: PlanOf = lambda dataset, task: BoardPlan(),
    *,
    anew: bool = False,
) -> list[Board]:
    """Return the boards of all results that have scores of fold 10, in page order.

    What is remembered of equal predictions and settings is not computed again, except with `anew`.
    """
    groups: dict[tuple[str, str, str, float, str], list[Result]] = defaultdict(list)
    for result in results:
        if result.document["stage"] == "test":
            groups[result.board].append(result)
    boards = [_board(group, truth, plan_of(dataset, task), anew) for (dataset, task, *_), group in groups.items()]
    return sorted(boards, key=_page_order)


def _page_order(board: Board) -> tuple[Any, ...]:
    return board.dataset, board.task, board.fingerprint, bool(board.manifest), -board.fraction, board.manifest


def _board(results: Sequence[Result], truth: LabelsOf, plan: BoardPlan, anew: bool) -> Board:
    by_row: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    check_draws(results)
    for result in results:
        if result.incompatible is None:
            by_row[result.row].append(result)
    declined = {(*r.row, r.incompatible): r for r in reversed(results) if r.incompatible is not None}
    labels = next((table for result in results if (table := truth(result)) is not None), None)
    runs_of = {key: ordered(runs) for key, runs in by_row.items()}
    rows, standing = _compared(runs_of, labels, plan, anew) if labels else (_in_order(_copied(runs_of), plan), None)
    dataset, task, fingerprint, fraction, manifest = results[0].board
    return Board(
        dataset,
        bool(results[0].document["dataset"]["synthetic"]),
        task,
        fingerprint,
        fraction,
        manifest,
        tuple(rows),
        tuple(declined[reason] for reason in sorted(declined)),
        labels,
        plan,
        standing,
    )


def check_draws(results: Sequence[Result]) -> None:
    """Raise DataError if results of the same draw were trained on different records."""
    by_draw: dict[int, Result] = {}
    for result in results:
        if not result.external:
            twin = by_draw.setdefault(result.cell["draw"], result)
            if twin.thinned != result.thinned:
                raise DataError(
                    f"{twin.folder} and {result.folder} have the same fraction and draw but different training "
                    "records: versions of bench draw differently; remove the older run"
                )


def ordered(runs: Sequence[Result]) -> tuple[Result, ...]:
    """Return the runs of a row, sorted by draw and seed. Of repeated runs, only the first is kept.

    Raises DataError if two runs of the same draw and seed are not repeats, or if runs differ in settings that the
    row's name does not show.
    """
    by_digest: dict[str, Result] = {}
    by_place: dict[tuple[int, int], Result] = {}
    for run in sorted(runs, key=lambda run: (run.place, str(run.folder))):
        same_digest, same_place = by_digest.setdefault(run.digest, run), by_place.setdefault(run.place, run)
        for twin in (same_digest, same_place, next(iter(by_digest.values()))):
            if twin is not run and (reason := conflict(twin, run)):
                raise DataError(f"{twin.folder} and {run.folder} {reason}")
    return tuple(by_digest.values())


def beside(
    own: Sequence[Result], published: Iterable[Result], log: Callable[[str], None] = lambda line: None
) -> list[Result]:
    """Return the published results that can stand on boards with one's own; `log` receives a line for each other row.

    A published row is left out where a run of one's own has its name and contradicts it, and its repeats are too. A
    run of one's own that stands on no board, such as one that is scored on fold 9 alone, contradicts and repeats none.
    """
    mine: dict[tuple[object, ...], list[Result]] = defaultdict(list)
    tested = [result for result in own if result.tested]
    for result in tested:
        mine[*result.board, result.row].append(result)
    kept, refused, known = [], dict[tuple[object, ...], str](), {result.digest for result in tested}
    for result in published:
        key = (*result.board, result.row)
        reason = next((reason for run in mine.get(key, ()) if (reason := conflict(run, result))), "")
        if reason:
            refused.setdefault(key, f"the published row {row_name(*result.row)} is left out: your runs and it {reason}")
        if result.digest not in known:
            kept.append(result)
    for line in refused.values():
        log(line)
    return [result for result in kept if (*result.board, result.row) not in refused]


RunsOf = Mapping[RowKey, tuple[Result, ...]]
"""Backbone, init and method -> runs of their row."""


def _in_order(rows: Iterable[Row], plan: BoardPlan) -> list[Row]:
    """Return the rows in board order, with the declared labels."""
    ordered = sorted(rows, key=lambda row: (-row.score, row.backbone, row.init, row.method))
    return [replace(row, labels=plan.labels) for row in ordered] if plan.labels else ordered


def _copied(runs_of: RunsOf) -> list[Row]:
    """Return the rows of a board whose labels are not available, with the recorded numbers."""
    return [
        Row(*key, runs, {chosen: {m: _cached(runs, chosen, m) for m in metrics.RANKING} for chosen in SETS})
        for key, runs in runs_of.items()
    ]


def _compared(runs_of: RunsOf, labels: LabelTable, plan: BoardPlan, anew: bool) -> tuple[list[Row], Standing | None]:
    """Return the rows of a board, recomputed from predictions or remembered, and their comparisons."""
    key = key_of_board(runs_of, labels, plan, [num_trials(runs) for runs in runs_of.values()])
    if not anew and (numbers := recall_numbers(key)):
        scored = {row: {run.place: BoardRun(run, labels) for run in runs} for row, runs in runs_of.items()}
        rows = [Row(*row, runs, numbers.summaries[row], scored[row]) for row, runs in runs_of.items()]
        return _in_order(rows, plan), numbers.standing
    rows = _in_order(_rows(runs_of, labels, anew), plan)
    tuned = {row.name for row in rows if row.num_trials}
    standing = stand({row.name: row.scored for row in rows}, plan, labels, tuned)
    if not anew:
        keep_numbers(key, Numbers({(row.backbone, row.init, row.method): row.summaries for row in rows}, standing))
    return rows, standing


def _rows(runs_of: RunsOf, labels: LabelTable, anew: bool) -> list[Row]:
    """Return the rows of a board. The variances between runs are moderated over all rows."""
    every = board_runs([run for runs in runs_of.values() for run in runs], labels, anew=anew)
    of_run = {scored.run: scored for scored in every}
    scored = {key: {run.place: of_run[run] for run in runs} for key, runs in runs_of.items()}
    sets = label_sets(labels.y_true)
    priors = {(chosen, m): _priors(scored.values(), m, sets[chosen]) for chosen in SETS for m in metrics.RANKING}
    of_all: dict[RowKey, Summary] = {}
    if (sets["all"] != sets["frequent"]).any():
        given = [unread(runs) for runs in runs_of.values()]
        work = partial(_over_all_labels, labels, priors["all", "auroc"])
        of_all = {list(runs_of)[at]: summary for at, summary in on_cores(work, given, LEAST_ROWS)}
    return [_row(key, runs_of[key], row, labels, priors, of_all.get(key)) for key, row in scored.items()]


def _over_all_labels(labels: LabelTable, priors: Priors, runs: Sequence[Result]) -> Summary:
    """Return macro AUROC of a row over all labels, some of which are rare."""
    y_scores = [scores_of(run, labels) for run in runs]
    return summarize_all_labels(labels.patient_id, labels.y_true, y_scores, design=design_of_runs(runs), priors=priors)


def _priors(rows: Iterable[Mapping[Place, BoardRun]], metric: str, labels: metrics.Bools) -> Priors:
    """Return the prior variance between runs of this metric, fitted to all rows of a board."""
    own = [
        design_of(row).variance([metrics.macro(run.label_values(metric), labels) for run in row.values()])
        for row in rows
    ]
    return borrow(own, len(own)) if labels.any() else {}


def _row(
    key: tuple[str, str, str],
    runs: tuple[Result, ...],
    row: Mapping[Place, BoardRun],
    labels: LabelTable,
    priors: Mapping[tuple[str, str], Priors],
    of_all: Summary | None,
) -> Row:
    """Return a row; `of_all` is its macro AUROC over all labels if some of them are rare."""
    summaries: dict[str, dict[str, Summary | Interval]] = {}
    sets, design = label_sets(labels.y_true), design_of(row)
    for chosen, mask in sets.items():
        if of_all is None or chosen == "frequent":
            summaries[chosen] = {
                m: summarize(estimates(row, m, mask), design=design, priors=priors[chosen, m]) for m in metrics.RANKING
            }
        else:
            precisions = [metrics.macro(run.label_values("average_precision"), mask) for run in row.values()]
            precision = design.mean(precisions)
            summaries[chosen] = {"auroc": of_all, "average_precision": Interval(float(precision), math.nan, math.nan)}
    return Row(*key, runs, summaries, row)


def scored_run(run: Result, labels: LabelTable) -> ScoredRun:
    """Resample a run's scores of fold 10 on the replicates that all results of the task share."""
    return board_runs([run], labels)[0]


def chance_precision(labels: LabelTable) -> float:
    """Return macro AP of random scores: the mean prevalence of the frequent labels."""
    return float(metrics.macro(labels.y_true.mean(axis=0), metrics.frequent(labels.y_true)))


def _cached(runs: Sequence[Result], chosen: str, metric: str) -> Interval:
    """Return the mean of the recorded values; with the recorded bounds if there is a single run, else without."""
    of_runs = [recorded_interval(run.document["metrics"][f"fold_{TEST_FOLD}"]["macro"][chosen][metric]) for run in runs]
    value = float(design_of_runs(runs).mean([interval.value for interval in of_runs]))
    return of_runs[0] if len(of_runs) == 1 else Interval(value, math.nan, math.nan)


def recorded_interval(metric: Mapping[str, float | None]) -> Interval:
    """Return a metric of a result.json as an interval; NaN for null and for absent bounds."""
    value, low, high = (metric.get(key) for key in ("value", "low", "high"))
    return Interval(*(math.nan if number is None else number for number in (value, low, high)))


def interval_of(summary: Summary | Interval) -> Interval:
    """Return a row's mean with its bounds."""
    return summary.interval if isinstance(summary, Summary) else summary


def as_data(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """Return the boards as plain data, for --json."""
    return [
        {
            "dataset": board.dataset,
            "synthetic": board.synthetic,
            "task": board.task,
            "fingerprint": board.fingerprint,
            "fraction": board.fraction,
            "manifest": board.manifest or None,
            "recomputed": board.recomputed,
            "plan": asdict(board.plan),
            "rows": [
                {
                    "name": row.name,
                    "backbone": row.backbone,
                    "init": row.init,
                    "method": row.method,
                    "runs": [str(run.folder) for run in row.runs],
                    "few_runs": row.few_runs,
                    "trials": row.num_trials,
                    "published": row.published,
                    "metrics": {
                        chosen: {m: _plain(s) for m, s in of_set.items()} for chosen, of_set in row.summaries.items()
                    },
                    **_standing(board, row),
                    "command": row.runs[0].cell["command"],
                }
                for row in board.rows
            ],
            "pairs": [comparison_data(pair) for pair in board.standing.pairs] if board.standing else [],
            "declined": [{"row": r.row, "reason": r.incompatible} for r in board.declined],
        }
        for board in boards
    ]


def _standing(board: Board, row: Row) -> dict[str, Any]:
    if board.standing is None:
        return {}
    against = board.standing.baseline.get(row.name)
    return {
        "rank_interval": board.standing.ranks[row.name],
        "groups": board.standing.letters[row.name],
        "against_baseline": None if against is None else comparison_data(against),
    }


def _plain(summary: Summary | Interval) -> dict[str, float | None]:
    interval = interval_of(summary)
    numbers = {"value": interval.value, "low": interval.low, "high": interval.high}
    if isinstance(summary, Summary):
        numbers |= {"patient_sd": summary.patient_sd, "run_sd": summary.run_sd}
    return {k: None if math.isnan(v) else v for k, v in numbers.items()}
