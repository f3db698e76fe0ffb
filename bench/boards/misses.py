"""Find the records that a run gets most wrong: by their loss, or by the decisions on a label at the run's threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from bench.data.info import SEXES
from bench.data.records import Records
from bench.data.show import statements_of
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tasks import LabelTable, find_task, label_table
from bench.errors import BenchError, DataError
from bench.evaluation import metrics
from bench.evaluation.metrics import Bools, Floats
from bench.results.elsewhere import Evaluation, find_evaluations
from bench.results.result import Result, row_name

LOSS, MISSED, FALSE_ALARM = "largest loss", "missed", "false alarm"
"""Why a record is listed."""
UNSURE = 0.5
"""Threshold on the probability where a run has no scores of fold 9 to choose one."""
MOST_LABELS = 6
"""Number of labels that are shown of a record."""
COLUMNS = (
    *("why", "place", "ecg_id", "record", "patient_id", "age", "sex", "statements", "true", "predicted", "loss"),
    *("score", "threshold"),
)
"""Columns of `Misses.frame`; then follows `score LABEL` for each label."""


@dataclass(frozen=True, eq=False)
class Scored:
    """What a run predicted for some records, and their true labels."""

    labels: tuple[str, ...]
    ecg_id: NDArray[np.int64]
    """[record]"""
    y_true: Bools
    """[record, label]"""
    y_score: Floats
    """[record, label] probabilities; of another program whose scale is not known, its scores as they are"""
    loss: Floats
    """[record] mean binary cross-entropy over the labels; NaN if the scores are no probabilities"""
    thresholds: Floats
    """[label] a record is predicted to have a label if its score is at least this; NaN: no positive to choose it by"""
    words: str
    """The records and the source of the thresholds, in words."""

    @property
    def has_loss(self) -> bool:
        """Return whether the scores are probabilities, so that there is a loss."""
        return not bool(np.isnan(self.loss).all())

    def by_loss(self) -> NDArray[np.int64]:
        """Return places of all records, the largest loss first."""
        return np.argsort(-self.loss, kind="stable")

    def missed(self, column: int) -> NDArray[np.int64]:
        """Return places of the positives of a label below its threshold, the lowest score first."""
        order = np.argsort(self.y_score[:, column], kind="stable")
        return order[(self.y_true[:, column] & ~self._predicted(column))[order]]

    def false_alarms(self, column: int) -> NDArray[np.int64]:
        """Return places of the others that reach the threshold of a label, the highest score first."""
        order = np.argsort(self.y_score[:, column], kind="stable")[::-1]
        return order[(~self.y_true[:, column] & self._predicted(column))[order]]

    def shown_labels(self, place: int, most: int, asked: int | None = None) -> list[int]:
        """Return columns of labels to show of a record: all of at most `most`, in their order.

        Of more labels: the asked label, the true ones, then those with the highest scores.
        """
        num = len(self.labels)
        if num <= most:
            return list(range(num))

        def key(column: int) -> tuple[bool, bool, float]:
            return column != asked, not self.y_true[place, column], -self.y_score[place, column]

        return sorted(range(num), key=key)[:most]

    def _predicted(self, column: int) -> Bools:
        return np.asarray(self.y_score[:, column] >= self.thresholds[column])


@dataclass(frozen=True, eq=False)
class Misses:
    """The records of one fold or data set that a run gets most wrong."""

    title: str
    """What is shown, of which run, and out of how many."""
    scored: Scored
    label: str | None
    """The label whose decisions are shown; None: the records with the largest loss."""
    frame: pd.DataFrame
    """One row a record, worst first, the false alarms of a label after its missed positives; COLUMNS. Its
    `attrs["title"]` is the title."""


def find_misses(
    run: Result, records: Records, label: str | None = None, num: int = 12, fold: int | None = None
) -> Misses:
    """Return the `num` records with the largest loss, or `num` missed positives and `num` false alarms of a label.

    The loss of a record is the mean binary cross-entropy over the labels of the task (natural logarithm). The threshold
    of a label has the best F1 on fold 9; without scores of fold 9 it is a probability of 0.5. `fold` is 10 by default,
    and 9 for a run that ended there. If `records` are not those of the run's training, its test on them is shown
    (`bench evaluate`). Raises BenchError for an unknown label, a method that declined, and scores without a scale.
    """
    if num < 1:
        raise BenchError(f"the number of records must be at least 1, got {num}")
    scored = _scored(run, records, fold)
    if label is not None and label not in scored.labels:
        raise BenchError(f"{run.folder} has no label {label!r}; its labels: {', '.join(scored.labels)}")
    where = f"{row_name(*run.row)}, seed {run.cell['seed']}: {run.cell['task']} on {scored.words}"
    if label is None:
        if not scored.has_loss:
            raise BenchError(
                f"the scores of {run.folder} have no scale, so no loss; name a --label, or score them with --scale"
            )
        order = scored.by_loss()[:num]
        title = f"largest loss, {len(order)} of {len(scored.ecg_id):,} records; {where}"
        return _misses(title, scored, records, [(LOSS, order)], None)
    column = scored.labels.index(label)
    threshold, positive = scored.thresholds[column], scored.y_true[:, column]
    if math.isnan(threshold):
        raise BenchError(f"{label} has no positive in fold {VAL_FOLD}, so {run.folder} has no threshold for it")
    missed, alarms = scored.missed(column), scored.false_alarms(column)
    title = (
        f"{label}: {len(missed):,} of {positive.sum():,} positives missed, {len(alarms):,} of "
        f"{(~positive).sum():,} others a false alarm, threshold {threshold:.3g}; {where}"
    )
    return _misses(title, scored, records, [(MISSED, missed[:num]), (FALSE_ALARM, alarms[:num])], column)


def _scored(run: Result, records: Records, fold: int | None) -> Scored:
    if run.incompatible is not None:
        raise BenchError(f"{run.folder} has no predictions: the method declined the backbone: {run.incompatible}")
    if records.name != run.document["dataset"]["name"]:
        return _elsewhere(run, records)
    table = label_table(records, find_task(run.cell["task"], records))
    if table.fingerprint != run.fingerprint:
        raise DataError(
            f"the labels of {records.folder} differ from those of {run.folder}: expected the data set of its training "
            "and the same task; name its folder with --data"
        )
    fold = fold or (TEST_FOLD if TEST_FOLD in run.predictions else VAL_FOLD)
    if fold not in run.predictions:
        known = " and ".join(map(str, sorted(run.predictions)))
        raise BenchError(f"{run.folder} has predictions of fold {known}, not of fold {fold}")
    return score_run(run, {at: table.select(table.strat_fold == at) for at in run.predictions}, fold)


def score_run(run: Result, folds: Mapping[int, LabelTable], fold: int) -> Scored:
    """Return what a run predicted for a fold; `folds` are the labels of each fold that it has predictions of.

    Raises BenchError if its scores have no scale and none are of fold 9, because then there is no threshold.
    """
    if run.partial:
        folds = {at: truth.select(np.isin(truth.ecg_id, run.predictions[at].ecg_id)) for at, truth in folds.items()}
    truth, logits = folds[fold], run.scores(fold, folds[fold]).astype(np.float64)
    name = run.document["dataset"]["name"]
    if VAL_FOLD in run.predictions:
        val = folds[VAL_FOLD]
        thresholds = metrics.f1_thresholds(val.y_true, run.scores(VAL_FOLD, val).astype(np.float64))
        words = f"fold {fold} of {name}, thresholds with the best F1 on fold {VAL_FOLD}"
    elif run.has_scale:
        thresholds = np.zeros(len(truth.labels))  # the logit of UNSURE
        words = f"fold {fold} of {name}, thresholds {UNSURE}, because it has no scores of fold {VAL_FOLD}"
    else:
        raise BenchError(
            f"the scores of {run.folder} have no scale and none are of fold {VAL_FOLD}, so there is no threshold; "
            "score them again with --scale, or a file that has fold 9 too"
        )
    return _with_loss(truth.labels, truth.ecg_id, truth.y_true, logits, thresholds, words, known_scale=run.has_scale)


def _elsewhere(run: Result, records: Records) -> Scored:
    """Return what a run predicted when it was tested on another data set."""
    tests = [each for each in find_evaluations(run) if each.document["dataset"]["name"] == records.name]
    plain: Evaluation | None = next((each for each in tests if not each.document["corruptions"]), None)
    if plain is None:
        raise DataError(
            f"{run.folder} is of {run.document['dataset']['name']} and was not tested on {records.name}: name the "
            f"folder of its data set with --data, or run `bench evaluate {run.folder} --data {records.folder}` first"
        )
    truths = plain.truths
    return _with_loss(
        plain.labels,
        truths.predictions.ecg_id,
        truths.y_true,
        truths.predictions.logits.astype(np.float64),
        np.zeros(len(plain.labels)),
        f"{records.name}, thresholds {UNSURE}, because none is chosen there",
        known_scale=True,
    )


def _with_loss(
    labels: tuple[str, ...],
    ecg_id: NDArray[np.int64],
    y_true: Bools,
    logits: Floats,
    thresholds: Floats,
    words: str,
    *,
    known_scale: bool,
) -> Scored:
    if not known_scale:
        return Scored(labels, ecg_id, y_true, logits, np.full(len(ecg_id), np.nan), thresholds, words)
    loss = np.logaddexp(0.0, np.where(y_true, -logits, logits)).mean(axis=1)
    return Scored(labels, ecg_id, y_true, expit(logits), loss, expit(thresholds), words)


def _misses(
    title: str, scored: Scored, records: Records, parts: list[tuple[str, NDArray[np.int64]]], column: int | None
) -> Misses:
    rows = [
        _row(scored, records, why, place, int(at), column)
        for why, chosen in parts
        for place, at in enumerate(chosen, start=1)
    ]
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *(f"score {label}" for label in scored.labels)])
    frame.attrs["title"] = title
    return Misses(title, scored, None if column is None else scored.labels[column], frame)


def _row(scored: Scored, records: Records, why: str, place: int, at: int, column: int | None) -> dict[str, Any]:
    ecg_id = int(scored.ecg_id[at])
    about: dict[str, Any] = dict(records.table.loc[ecg_id])
    scores = scored.y_score[at]
    return {
        "why": why,
        "place": place,
        "ecg_id": ecg_id,
        "record": str(about.get("record", ecg_id)),
        "patient_id": about["patient_id"],
        "age": about.get("age", math.nan),
        "sex": SEXES.get(about.get("sex", -1), ""),
        "statements": statements_of(records, ecg_id),
        "true": _named(scored.labels, scored.y_true[at]),
        "predicted": _named(scored.labels, scores >= scored.thresholds),
        "loss": scored.loss[at],
        "score": math.nan if column is None else scores[column],
        "threshold": math.nan if column is None else scored.thresholds[column],
        **{f"score {label}": score for label, score in zip(scored.labels, scores, strict=True)},
    }


def _named(labels: tuple[str, ...], chosen: Bools) -> str:
    return "; ".join(label for label, is_one in zip(labels, chosen, strict=True) if is_one)
