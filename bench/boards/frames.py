"""Results, rows and comparisons as DataFrames, for Python and for CSV files. bench/README.md documents the columns."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from bench.boards.comparisons import Compared, Comparison
from bench.boards.rows import Board, Row, interval_of, recorded_interval
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.evaluation.bootstrap import Interval
from bench.evaluation.metrics import RANKING
from bench.results.document import is_installed
from bench.results.elsewhere import Evaluation
from bench.results.result import Result, row_name

MACRO = {"frequent": "macro, frequent labels", "all": "macro, all labels"}
"""Label set -> its name in the column `label` of metrics."""
RESULTS = (
    *("dataset", "task", "fraction", "manifest", "row", "backbone", "init", "method", "draw", "seed", "state"),
    *("auroc", "auroc_low", "auroc_high", "average_precision", "average_precision_low", "average_precision_high"),
    *("auroc_all", "val_auroc", "seconds", "reason", "published", "installed", "digest", "folder", "command"),
)
"""Columns of `results_frame`."""
ROWS = (
    *("dataset", "task", "fraction", "manifest", "place", "rank_low", "rank_high", "groups", "row", "backbone", "init"),
    *("method", "auroc", "auroc_low", "auroc_high", "average_precision", "average_precision_low"),
    *(
        "average_precision_high",
        "runs",
        "few_runs",
        "trials",
        "baseline",
        "difference",
        "low",
        "high",
        "p",
        "role",
        "published",
    ),
    *("installed", "command"),
)
"""Columns of `rows_frame`."""
PAIRS = (
    *("dataset", "task", "fraction", "manifest", "first", "second", "difference", "low", "high"),
    *("average_precision_difference", "average_precision_low", "average_precision_high", "p_swap", "p_delong", "p"),
    *("role", "pairs", "resolvable", "practically_equal"),
)
"""Columns of `pairs_frame`."""
EVALUATIONS = (
    *("row", "draw", "seed", "task", "trained_on", "dataset", "corruptions", "records", "patients", "labels"),
    *("in_distribution", "auroc", "auroc_low", "auroc_high", "folder"),
)
"""Columns of `evaluations_frame`."""


@dataclass(frozen=True, eq=False, repr=False)
class RunResult:
    """A finished run: what it scored, what it predicted, and how it trained."""

    result: Result

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.result.folder

    @property
    def document(self) -> Mapping[str, Any]:
        """Content of result.json."""
        return self.result.document

    @property
    def name(self) -> str:
        """The row's name on a board: method, backbone and init."""
        return row_name(*self.result.row)

    @property
    def incompatible(self) -> str | None:
        """Why the method declined the backbone; then there are no metrics, predictions and curves."""
        return self.result.incompatible

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row for each fold and label, and for each macro average.

        Columns: fold, label, positives (of a macro average: NaN), labels (number averaged over), auroc, auroc_low,
        auroc_high, average_precision, average_precision_low, average_precision_high. NaN: not defined.
        """
        rows = []
        for fold, scores in self.document.get("metrics", {}).items():
            number = int(fold.removeprefix("fold_"))
            for name, words in MACRO.items():
                macro = scores["macro"][name]
                rows.append({"fold": number, "label": words, "labels": macro["num_labels"], **_recorded(macro)})
            for label, of_label in scores["labels"].items():
                positives = of_label["num_positives"]
                rows.append(
                    {"fold": number, "label": label, "positives": positives, "labels": 1, **_recorded(of_label)}
                )
        columns = ["fold", "label", "positives", "labels", *(name for metric in RANKING for name in _names(metric))]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The probability of each label [record, label] by ecg_id, with the column `fold`: 9, and 10 if it was scored.

        The logistic function of what the run predicted, without calibration. Scores of another program whose scale is
        not known are as they were given.
        """
        parts = []
        for fold, scores in sorted(self.result.predictions.items() if self.incompatible is None else ()):
            logits = np.asarray(scores.logits, dtype=np.float64)
            values = expit(logits) if self.result.has_scale else logits
            part = pd.DataFrame(values, pd.Index(scores.ecg_id, name="ecg_id"), list(scores.labels))
            part.insert(0, "fold", fold, allow_duplicates=True)
            parts.append(part)
        return pd.concat(parts) if parts else pd.DataFrame({"fold": []}, pd.Index([], name="ecg_id"))

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row for each epoch. Columns: phase, epoch, train_loss, val_loss, val_auroc, val_auroc_frequent, selected.

        val_auroc is fold-9 macro AUROC over all labels, by which `best` selects; `selected` marks the epoch whose
        weights left the phase. Scores of other programs have no curves.
        """
        rows = []
        for phase in self.document.get("training", ()):
            frequent = phase.get("val_macro_auroc_frequent") or [None] * len(phase["val_macro_auroc"])
            every = zip(phase["train_loss"], phase["val_loss"], phase["val_macro_auroc"], frequent, strict=True)
            rows += [
                (phase["name"], epoch, *numbers, epoch == phase["best_epoch"]) for epoch, numbers in enumerate(every, 1)
            ]
        columns = ["phase", "epoch", "train_loss", "val_loss", "val_auroc", "val_auroc_frequent", "selected"]
        return pd.DataFrame(rows, columns=columns)

    def _repr_html_(self) -> str:
        cell = self.result.cell
        share = f", {cell['fraction']:g} of the training records" if cell["fraction"] < 1 else ""
        head = f"<b>{html.escape(self.name)}</b>: {html.escape(cell['task'])}{share}, seed {cell['seed']}"
        if self.incompatible:
            return f"<p>{head}: declined: {html.escape(self.incompatible)}</p>"
        table = as_html(self._shown)
        return f"<p>{head}<br><small>{html.escape(str(self.folder))}</small></p>{table}"

    def __repr__(self) -> str:
        head = f"{self.name}: {self.result.cell['task']}, seed {self.result.cell['seed']}, {self.folder}"
        if self.incompatible:
            return f"{head}: declined: {self.incompatible}"
        return f"{head}\n{as_text(self._shown)}"

    @property
    def _shown(self) -> pd.DataFrame:
        """The metrics to read; a task with one label has no macro average beside the label's own numbers."""
        frame = self.metrics.drop(columns="labels")
        is_single = frame["label"].nunique() == len(MACRO) + 1
        return frame[~frame["label"].isin(MACRO.values())] if is_single else frame


def as_text(frame: pd.DataFrame) -> str:
    """Return a table as text to read."""
    return spelled(frame).to_string(index=False)


def as_html(frame: pd.DataFrame) -> str:
    """Return a table for a notebook."""
    return spelled(frame).to_html(index=False)


def spelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table to read: each value and its two bounds in one column of text, NaN as an empty cell."""
    shown = {}
    bounds = {f"{name.removesuffix('_difference')}_{end}" for name in frame.columns for end in ("low", "high")}
    for name in frame.columns:
        if name in bounds or (name in ("low", "high") and "difference" in frame):
            continue
        stem = name.removesuffix("_difference")
        low, high = ("low", "high") if name == "difference" else (f"{stem}_low", f"{stem}_high")
        if low in frame and high in frame:
            every = zip(frame[name], frame[low], frame[high], strict=True)
            shown[name] = [_spell(*numbers, signed=name.endswith("difference")) for numbers in every]
        else:
            shown[name] = [_text(value) for value in frame[name]]
    return pd.DataFrame(shown)


def _spell(value: float, low: float, high: float, *, signed: bool) -> str:
    sign = "+" if signed else ""
    if math.isnan(value):
        return ""
    return f"{value:{sign}.4f}" + ("" if math.isnan(low) else f" ({low:{sign}.3f} to {high:{sign}.3f})")


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value == round(value) and abs(value) >= 1 else f"{value:.4g}"
    return str(value)


def _names(metric: str) -> tuple[str, str, str]:
    return metric, f"{metric}_low", f"{metric}_high"


def _recorded(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return both metrics of a result.json with their bounds."""
    return {key: value for m in RANKING for key, value in _bounded(m, recorded_interval(scores[m])).items()}


def _bounded(metric: str, interval: Interval) -> dict[str, float]:
    return dict(zip(_names(metric), (interval.value, interval.low, interval.high), strict=True))


def results_frame(results: Iterable[Result], further: Iterable[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """Return a row for each run, as its result records it, then the rows `further`; RESULTS are the columns."""
    return pd.DataFrame([*map(_result_row, results), *further], columns=list(RESULTS))


def _result_row(result: Result) -> dict[str, Any]:
    cell, document = result.cell, result.document
    scores = document.get("metrics", {}) if result.incompatible is None else {}
    test, val = scores.get(f"fold_{TEST_FOLD}"), scores.get(f"fold_{VAL_FOLD}")
    backbone, init, method = result.row
    return {
        "dataset": document["dataset"]["name"],
        "task": cell["task"],
        "fraction": cell["fraction"],
        "manifest": result.manifest,
        "row": row_name(*result.row),
        "backbone": backbone,
        "init": init,
        "method": method,
        "draw": cell["draw"],
        "seed": cell["seed"],
        "state": "declined" if result.incompatible else "partial" if result.partial else "done",
        **(_recorded(test["macro"]["frequent"]) if test else {}),
        "auroc_all": recorded_interval(test["macro"]["all"]["auroc"]).value if test else math.nan,
        "val_auroc": recorded_interval(val["macro"]["frequent"]["auroc"]).value if val else math.nan,
        "seconds": document.get("cost", {}).get("seconds", math.nan),
        "reason": result.incompatible or "",
        "published": result.published,
        "installed": is_installed(document),
        "digest": result.digest,
        "folder": str(result.folder),
        "command": cell["command"],
    }


def evaluations_frame(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """Return a row for each run that was tested elsewhere; EVALUATIONS are the columns.

    `auroc` is macro AUROC over the labels of both data sets with 10 positives there, `in_distribution` that of fold 10.
    """
    return pd.DataFrame([_evaluation_row(each) for each in evaluations], columns=list(EVALUATIONS))


def _evaluation_row(evaluation: Evaluation) -> dict[str, Any]:
    document, run = evaluation.document, evaluation.run
    scores = document["metrics"]
    return {
        "row": row_name(*run.row),
        "draw": run.place[0],
        "seed": run.place[1],
        "task": run.cell["task"],
        "trained_on": run.document["dataset"]["name"],
        "dataset": document["dataset"]["name"],
        "corruptions": ", ".join(document["corruptions"]),
        "records": scores["num_records"],
        "patients": scores["num_patients"],
        "labels": ", ".join(evaluation.frequent),
        "in_distribution": evaluation.home_auroc,
        **_bounded("auroc", recorded_interval(scores["macro"]["frequent"]["auroc"])),
        "folder": str(evaluation.folder),
    }


def rows_frame(boards: Sequence[Board]) -> pd.DataFrame:
    """Return a row for each row of each board, in board order; ROWS are the columns."""
    rows = [_board_row(board, place, row) for board in boards for place, row in enumerate(board.rows, 1)]
    return pd.DataFrame(rows, columns=list(ROWS))


def _board_row(board: Board, place: int, row: Row) -> dict[str, Any]:
    facts: dict[str, Any] = {**_of_board(board), "place": place, "row": row.name}
    facts |= {"backbone": row.backbone, "init": row.init, "method": row.method}
    for metric in RANKING:
        facts |= _bounded(metric, interval_of(row.summaries["frequent"][metric]))
    if board.standing:
        facts["rank_low"], facts["rank_high"] = board.standing.ranks[row.name]
        facts["groups"] = board.standing.letters[row.name]
        if against := board.standing.baseline.get(row.name):
            pair = pair_row(against)
            facts |= {
                "baseline": against.second,
                **{key: pair[key] for key in ("difference", "low", "high", "p", "role")},
            }
    return facts | {
        "runs": len(row.runs),
        "few_runs": row.few_runs,
        "trials": row.num_trials,
        "published": row.published,
        "installed": all(is_installed(run.document) for run in row.runs),
        "command": row.runs[0].cell["command"],
    }


def _of_board(board: Board) -> dict[str, Any]:
    return {"dataset": board.dataset, "task": board.task, "fraction": board.fraction, "manifest": board.manifest}


def pairs_frame(boards: Sequence[Board]) -> pd.DataFrame:
    """Return a row for each pair of rows of each board whose labels are at hand; PAIRS are the columns."""
    judged = [(board, board.standing) for board in boards if board.standing]
    rows = [{**_of_board(board), **pair_row(pair)} for board, standing in judged for pair in standing.pairs]
    return pd.DataFrame(rows, columns=list(PAIRS))


def pair_row(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as a row: first minus second, over the frequent labels."""
    auroc, precision = (comparison.differences[metric].interval for metric in RANKING)
    return {
        "first": comparison.first,
        "second": comparison.second,
        "difference": auroc.value,
        "low": auroc.low,
        "high": auroc.high,
        "average_precision_difference": precision.value,
        "average_precision_low": precision.low,
        "average_precision_high": precision.high,
        "p_swap": comparison.permutation_p,
        "p_delong": comparison.placement_p,
        "p": comparison.p_adjusted,
        "role": "" if comparison.few_pairs else comparison.role,
        "pairs": comparison.num_pairs,
        "resolvable": comparison.resolvable,
        "practically_equal": comparison.practically_equal,
    }


def compared_frame(compared: Compared) -> pd.DataFrame:
    """Return a row for each named pair, with the columns of PAIRS from `first` on."""
    return pd.DataFrame([pair_row(pair) for pair in compared.pairs], columns=list(PAIRS[4:]))


def labels_frame(compared: Compared) -> pd.DataFrame:
    """Return first minus second label by label: first, second, label, difference, low, high. Not corrected."""
    rows = [
        (pair.first, pair.second, label, difference.interval.value, difference.interval.low, difference.interval.high)
        for pair in compared.pairs
        for label, difference in pair.labels.items()
    ]
    return pd.DataFrame(rows, columns=["first", "second", "label", "difference", "low", "high"])
