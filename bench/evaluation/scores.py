"""All that is said of one run on one fold: macro and per-label metrics with patient-level intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import BenchError
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Draws, Estimate, draw, resample, summarize
from bench.evaluation.metrics import Bools, Floats

METRICS = ("auroc", "average_precision")


def strodthoff2020(y_true: NDArray[Any], y_score: NDArray[Any], ecg_id: NDArray[Any]) -> dict[str, Any]:
    """Macro AUROC over all labels as Strodthoff et al. (2020) gave it, for comparison with old tables only.

    100 draws of records, 5 and 95 % quantiles, and the number of their brackets: the larger distance to a quantile.
    """
    all_labels = metrics.defined(y_true)
    drawn = resample(y_true, y_score, draw(ecg_id, y_true, num_draws=100)).auroc.macro(all_labels)
    low, high = np.quantile(drawn.draws, [0.05, 0.95])
    bracket = max(float(drawn.value - low), float(high - drawn.value))
    numbers = {"value": float(drawn.value), "low": float(low), "high": float(high), "bracket": bracket}
    return {"unit": "record", "level": 0.9, "num_draws": 100, "macro_auroc": numbers}


def label_sets(y_true: NDArray[Any]) -> dict[str, Bools]:
    """The two sets of labels that are averaged over: all defined ones, and those with at least 10 positives."""
    return {"all": metrics.defined(y_true), "frequent": metrics.frequent(y_true)}


def draw_for(
    patient_id: NDArray[Any], y_true: NDArray[Any], labels: Sequence[str], num_draws: int, seed: int
) -> tuple[Draws, bool]:
    """Draws in which every defined label is present; where they are too rare, draws for the frequent labels alone.

    The second value says whether all defined labels are present, so that their macro average has an interval.
    """
    try:
        return draw(patient_id, y_true, num_draws, seed, labels), True
    except BenchError:
        frequent = metrics.frequent(y_true)
        return draw(patient_id, y_true[:, frequent], num_draws, seed, np.array(labels)[frequent].tolist()), False


def score_fold(
    y_true: NDArray[Any],
    y_score: NDArray[Any],
    labels: Sequence[str],
    patient_id: NDArray[Any] | None = None,
    num_draws: int = 2000,
    seed: int = 0,
    drawn: tuple[Draws, bool] | None = None,
) -> dict[str, Any]:
    """Metrics of scores [record, label] as plain data; with `patient_id` [record] also their 95 % intervals.

    `drawn` is what `draw_for` gives for the same arguments, where it is at hand.
    """
    sets = label_sets(y_true)
    positives = np.asarray(y_true).astype(bool).sum(axis=0)
    values = dict(
        zip(METRICS, (metrics.auroc(y_true, y_score), metrics.average_precision(y_true, y_score)), strict=True)
    )
    draws_of: dict[str, Estimate] = {}
    bootstrap: dict[str, Any] | None = None
    all_present = False
    if patient_id is not None:
        draws, all_present = drawn or draw_for(patient_id, y_true, labels, num_draws, seed)
        resampled = resample(y_true, y_score, draws)
        draws_of = {"auroc": resampled.auroc, "average_precision": resampled.average_precision}
        bootstrap = {
            "unit": "patient",
            "level": 0.95,
            "num_draws": num_draws,
            "seed": seed,
            "acceptance": draws.acceptance,
            "labels_present": "all" if all_present else "frequent",
        }

    def described(metric: str, chosen: Bools, has_interval: bool) -> dict[str, float | None]:
        if draws_of and has_interval and chosen.any():
            interval: dict[str, float | None] = asdict(summarize([draws_of[metric].macro(chosen)]).interval)
            return interval
        value: Floats = metrics.macro(values[metric], chosen)
        return {"value": None if np.isnan(value) else float(value)}

    def one(column: int) -> Bools:
        return np.asarray(np.arange(len(labels)) == column)

    return {
        "num_records": len(y_true),
        "num_patients": None if patient_id is None else len(np.unique(patient_id)),
        "bootstrap": bootstrap,
        "macro": {
            name: {
                "num_labels": int(chosen.sum()),
                **{m: described(m, chosen, all_present or name == "frequent") for m in METRICS},
            }
            for name, chosen in sets.items()
        },
        "labels": {
            label: {
                "num_positives": int(positives[column]),
                **{
                    m: described(m, one(column) & sets["all"], bool(all_present or sets["frequent"][column]))
                    for m in METRICS
                },
            }
            for column, label in enumerate(labels)
        },
        "excluded_labels": [label for label, kept in zip(labels, sets["all"], strict=True) if not kept],
    }
