"""Results become Markdown: a page a dataset and task, a section a training fraction, and an index."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.tasks import LabelTable
from bench.errors import DataError
from bench.evaluation.bootstrap import Draws, Estimate, Interval, Summary, resample, summarize
from bench.evaluation.predictions import align
from bench.evaluation.scores import draw_for, label_sets
from bench.reporting.results import Result

TEST = 10
NUM_DRAWS, SEED = 2000, 0


@dataclass(frozen=True)
class Row:
    """Runs that differ in seed and draw only, as one line of a board."""

    backbone: str
    init: str
    method: str
    runs: tuple[Result, ...]
    summaries: Mapping[str, Mapping[str, Summary | Interval]]
    """Label set -> metric -> mean and interval; an Interval where no dataset was at hand to resample."""

    @property
    def score(self) -> float:
        """What rows are sorted by: macro AUROC over the labels with at least 10 test positives, or all."""
        frequent = interval_of(self.summaries["frequent"]["auroc"]).value
        return interval_of(self.summaries["all"]["auroc"]).value if math.isnan(frequent) else frequent


@dataclass(frozen=True)
class Board:
    """Comparable rows: one task of one dataset, trained on one fraction."""

    dataset: str
    synthetic: bool
    task: str
    fingerprint: str
    fraction: float
    rows: tuple[Row, ...]
    declined: tuple[Result, ...]
    recomputed: bool
    """Whether the numbers were computed anew from predictions and the dataset's labels."""


Truth = Callable[[Result], LabelTable | None]
"""The labels of fold 10 that a result is to be judged by, or None where the dataset is not at hand."""


def make_boards(results: Iterable[Result], truth: Truth) -> list[Board]:
    """Boards of all finished results, fold 10 scored; runs that only selected (`--stage val`) are left out."""
    groups: dict[tuple[str, str, str, float], list[Result]] = defaultdict(list)
    for result in results:
        if result.document["stage"] == "test":
            document = result.document
            key = (document["dataset"]["name"], result.cell["task"], result.fingerprint, result.cell["fraction"])
            groups[key].append(result)
    return [_board(*key, group, truth) for key, group in sorted(groups.items(), key=lambda item: _page_order(item[0]))]


def _page_order(key: tuple[str, str, str, float]) -> tuple[Any, ...]:
    dataset, task, fingerprint, fraction = key
    return dataset, task, fingerprint, -fraction


def _board(
    dataset: str, task: str, fingerprint: str, fraction: float, results: Sequence[Result], truth: Truth
) -> Board:
    by_row: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for result in results:
        if result.incompatible is None:
            by_row[result.row].append(result)
    declined = {(*r.row, r.incompatible): r for r in reversed(results) if r.incompatible is not None}
    labels = next((found for result in results if (found := truth(result)) is not None), None)
    rows = [Row(*key, _ordered(runs), _summaries(_ordered(runs), labels)) for key, runs in by_row.items()]
    return Board(
        dataset,
        bool(results[0].document["dataset"]["synthetic"]),
        task,
        fingerprint,
        fraction,
        tuple(sorted(rows, key=lambda row: (-row.score, row.backbone, row.init, row.method))),
        tuple(declined[reason] for reason in sorted(declined)),
        labels is not None,
    )


def _ordered(runs: Sequence[Result]) -> tuple[Result, ...]:
    """By draw and seed; two results of one digest must agree."""
    by_digest: dict[str, Result] = {}
    for run in sorted(runs, key=lambda r: (r.cell["draw"], r.cell["seed"], str(r.folder))):
        twin = by_digest.setdefault(run.digest, run)
        if twin is not run and not _agree(twin, run):
            raise DataError(
                f"{twin.folder} and {run.folder} are results of one cell and disagree; remove the one that is wrong"
            )
    return tuple(by_digest.values())


def _agree(one: Result, other: Result, tolerance: float = 1e-3) -> bool:
    """Whether two results of a cell are repeats: their macro AUROCs differ by at most `tolerance`."""
    values = [r.document["metrics"][f"fold_{TEST}"]["macro"]["all"]["auroc"]["value"] for r in (one, other)]
    one_value, other_value = (math.nan if value is None else value for value in values)
    undefined = math.isnan(one_value) and math.isnan(other_value)
    return undefined or math.isclose(one_value, other_value, rel_tol=0, abs_tol=tolerance)


def _summaries(runs: Sequence[Result], labels: LabelTable | None) -> dict[str, dict[str, Summary | Interval]]:
    if labels is None:
        return {chosen: {m: _cached(runs, chosen, m) for m in METRICS} for chosen in ("all", "frequent")}
    draws, all_present = _draws(labels)
    scored = [resample(labels.y_true, align(r.predictions[TEST], labels.ecg_id, labels.labels), draws) for r in runs]
    found: dict[str, dict[str, Summary | Interval]] = {}
    for chosen, mask in label_sets(labels.y_true).items():
        estimates = {m: [getattr(one, m).macro(mask) for one in scored] for m in METRICS}
        trusted = all_present or chosen == "frequent"
        found[chosen] = {m: summarize(e) if trusted else _without_draws(e) for m, e in estimates.items()}
    return found


METRICS = ("auroc", "average_precision")


@functools.lru_cache(maxsize=8)
def _draws(labels: LabelTable) -> tuple[Draws, bool]:
    return draw_for(labels.patient_id, labels.y_true, labels.labels, NUM_DRAWS, SEED)


def _without_draws(estimates: Sequence[Estimate]) -> Interval:
    return Interval(float(np.mean([estimate.value for estimate in estimates])), math.nan, math.nan)


def _cached(runs: Sequence[Result], chosen: str, metric: str) -> Interval:
    """What the results say of themselves; the interval of a single run only, as more need the draws."""
    found = [run.document["metrics"][f"fold_{TEST}"]["macro"][chosen][metric] for run in runs]
    value = float(np.mean([math.nan if one["value"] is None else one["value"] for one in found]))
    low, high = (found[0].get("low"), found[0].get("high")) if len(found) == 1 else (None, None)
    return Interval(value, math.nan if low is None else low, math.nan if high is None else high)


def interval_of(summary: Summary | Interval) -> Interval:
    """A row's mean with its bounds."""
    return summary.interval if isinstance(summary, Summary) else summary


def page(boards: Sequence[Board]) -> str:
    """The Markdown page of one task of one dataset."""
    first = boards[0]
    test = _any_metrics(boards)
    lines = [f"# {first.task} on {first.dataset}", ""]
    if first.synthetic:
        lines += ["**Synthetic data: these numbers say that the machinery runs, and nothing about ECGs.**", ""]
    if test:
        acceptance = test["bootstrap"]["acceptance"]
        lines += [
            f"Fold 10: {test['num_records']:,} records of {test['num_patients']:,} patients, "
            f"{test['macro']['all']['num_labels']} labels, {test['macro']['frequent']['num_labels']} of them with at "
            f"least 10 positives. {acceptance:.0%} of the patient draws held every label.",
            "",
        ]
    for board in boards:
        lines += _section(board)
    return "\n".join([*lines, *_protocol(boards)]) + "\n"


def _any_metrics(boards: Sequence[Board]) -> dict[str, Any] | None:
    return next(
        (run.document["metrics"][f"fold_{TEST}"] for board in boards for row in board.rows for run in row.runs), None
    )


def _section(board: Board) -> list[str]:
    title = "All training records" if board.fraction == 1 else f"{board.fraction:.3g} of the training records"
    lines = [f"## {title}", ""]
    if board.rows:
        narrow = any(_num_labels(row, "all") != _num_labels(row, "frequent") for row in board.rows)
        head = ["", "backbone", "init", "method", "macro AUROC", "macro AP", "runs", "trained parameters", "minutes"]
        head[6:6] = ["AUROC, all labels"] if narrow else []
        lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for place, row in enumerate(board.rows, 1):
            lines.append("| " + " | ".join(_cells(place, row, narrow)) + " |")
        lines += ["", "<details><summary>The command of each row</summary>", ""]
        lines += [f"{place}. `{row.runs[0].cell['command']}`" for place, row in enumerate(board.rows, 1)]
        lines += ["", "</details>", ""]
    if board.declined:
        lines += ["Not run, because the method declined:", ""]
        lines += [f"- {r.row[2]} on {r.row[0]} ({r.row[1]}): {r.incompatible}" for r in board.declined]
        lines.append("")
    return lines


def _num_labels(row: Row, chosen: str) -> int:
    return int(row.runs[0].document["metrics"][f"fold_{TEST}"]["macro"][chosen]["num_labels"])


def _cells(place: int, row: Row, narrow: bool) -> list[str]:
    runs = [run.document for run in row.runs]
    seconds = float(np.mean([sum(phase["seconds"] for phase in run["training"]) for run in runs]))
    trained = max(phase["trainable_parameters"] for phase in runs[0]["training"])
    cells = [
        str(place),
        row.backbone,
        row.init,
        row.method,
        _spell(row.summaries["frequent"]["auroc"]),
        _spell(row.summaries["frequent"]["average_precision"]),
        str(len(runs)) + ("*" if len(runs) < 3 else ""),
        f"{trained:,}",
        f"{seconds / 60:.1f}",
    ]
    cells[6:6] = [_spell(row.summaries["all"]["auroc"])] if narrow else []
    return cells


def _spell(summary: Summary | Interval) -> str:
    found = interval_of(summary)
    if math.isnan(found.value):
        return "–"
    bounds = "" if math.isnan(found.low) else f" ({found.low:.3f}–{found.high:.3f})"
    return f"{found.value:.4f}{bounds}"


def _protocol(boards: Sequence[Board]) -> list[str]:
    selections = sorted(
        {phase["selection"] for b in boards for row in b.rows for phase in row.runs[0].document["training"]}
    )
    recomputed = (
        "Recomputed from the predictions and the dataset's labels."
        if all(board.recomputed for board in boards)
        else "Copied from the results: the dataset was not at hand to recompute them."
    )
    return [
        "---",
        "",
        "Folds 1-8 train, 9 selects, 10 tests. Every statement counts as a label, whatever its likelihood; records "
        "without a label of the task are dropped (Strodthoff et al. 2020). macro AUROC and macro AP (average "
        "precision) are means over the labels with at least 10 positives in fold 10. In brackets: 95 % percentile "
        f"intervals over {NUM_DRAWS:,} draws of fold 10's patients, the same for every row; for several runs the "
        f"variance between them is added. Weights of each phase: {' or '.join(selections) or 'none'} epoch by fold-9 "
        "macro AUROC. \\* fewer than three runs: how much training varies is not known. init `own:` are weights of a "
        f"run of ours, by hash. {recomputed}",
        "",
        "Task fingerprint: " + ", ".join(f"`{f[:16]}`" for f in dict.fromkeys(b.fingerprint for b in boards)) + ".",
    ]


def write_pages(boards: Sequence[Board], folder: Path) -> list[Path]:
    """Write `<dataset>/<task>.md` for all boards and README.md, the index; returns what was written."""
    by_page: dict[tuple[str, str], list[Board]] = defaultdict(list)
    for board in boards:
        by_page[board.dataset, board.task].append(board)
    written = []
    index = ["# Leaderboards", "", "| dataset | task | rows | best macro AUROC |", "|---|---|---|---|"]
    for (dataset, task), group in by_page.items():
        path = folder / dataset / f"{task}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(group), encoding="utf-8")
        written.append(path)
        num_rows = sum(len(board.rows) for board in group)
        best = max((row for board in group for row in board.rows), key=lambda row: row.score, default=None)
        words = f"{_spell(best.summaries['frequent']['auroc'])}: {best.method} on {best.backbone}" if best else ""
        index.append(f"| {dataset} | [{task}]({dataset}/{task}.md) | {num_rows} | {words} |")
    path = folder / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(index) + "\n", encoding="utf-8")
    return [*written, path]


def as_data(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """The boards as plain data, for --json."""
    return [
        {
            "dataset": board.dataset,
            "synthetic": board.synthetic,
            "task": board.task,
            "fingerprint": board.fingerprint,
            "fraction": board.fraction,
            "recomputed": board.recomputed,
            "rows": [
                {
                    "backbone": row.backbone,
                    "init": row.init,
                    "method": row.method,
                    "runs": [str(run.folder) for run in row.runs],
                    "metrics": {
                        chosen: {m: _plain(s) for m, s in found.items()} for chosen, found in row.summaries.items()
                    },
                    "command": row.runs[0].cell["command"],
                }
                for row in board.rows
            ],
            "declined": [{"row": r.row, "reason": r.incompatible} for r in board.declined],
        }
        for board in boards
    ]


def _plain(summary: Summary | Interval) -> dict[str, float | None]:
    found = interval_of(summary)
    return {
        k: None if math.isnan(v) else v for k, v in (("value", found.value), ("low", found.low), ("high", found.high))
    }
