"""Compute the metrics of one run on one fold: macro and per label, with intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, Replicates, make_replicates, resample, summarize
from bench.evaluation.metrics import Bools, Floats
from bench.evaluation.placements import summarize_all_labels


def strodthoff2020(y_true: NDArray[Any], y_score: NDArray[Any], ecg_id: NDArray[Any]) -> dict[str, Any]:
    """Return macro AUROC over all labels as Strodthoff et al. (2020) print it. Use it only beside their tables.

    The interval has the 5 and 95 % quantiles of 100 replicates that resample records. `bracket` is the number that
    they print in brackets: the larger distance from the value to a quantile.
    """
    all_labels = metrics.defined(y_true)
    resampled = resample(y_true, y_score, make_replicates(ecg_id, y_true, num_replicates=100)).auroc.macro(all_labels)
    low, high = np.quantile(resampled.replicates, [0.05, 0.95])
    bracket = max(float(resampled.value - low), float(high - resampled.value))
    numbers = {"value": float(resampled.value), "low": float(low), "high": float(high), "bracket": bracket}
    return {"unit": "record", "level": 0.9, "num_draws": 100, "macro_auroc": numbers}


def label_sets(y_true: NDArray[Any]) -> dict[str, Bools]:
    """Return the two label sets of macro averages, each [label]: all defined labels, and those with 10 positives."""
    return {"all": metrics.defined(y_true), "frequent": metrics.frequent(y_true)}


def replicates_for(
    patient_id: NDArray[Any], y_true: NDArray[Any], labels: Sequence[str], num_replicates: int = 2000, seed: int = 0
) -> Replicates:
    """Return replicates of patients in which every label with at least 10 positives has a positive and a negative.

    Raises BenchError if such labels are in too few patients.
    """
    frequent = metrics.frequent(y_true)
    return make_replicates(
        patient_id, np.asarray(y_true)[:, frequent], num_replicates, seed, np.array(labels)[frequent].tolist()
    )


def score_fold(
    y_true: NDArray[Any],
    y_score: NDArray[Any],
    labels: Sequence[str],
    patient_id: NDArray[Any] | None = None,
    num_replicates: int = 2000,
    seed: int = 0,
    replicates: Replicates | None = None,
) -> dict[str, Any]:
    """Return the metrics of scores [record, label] as plain data; with `patient_id` [record] also 95 % intervals.

    `replicates` avoids drawing them anew; it must be `replicates_for` of the same arguments. A label with fewer than 10
    positives has no interval, and neither has a macro average precision that includes such a label: so few positives do
    not show how much they vary.
    """
    sets = label_sets(y_true)
    positives = np.asarray(y_true).astype(bool).sum(axis=0)
    values = dict(
        zip(metrics.RANKING, (metrics.auroc(y_true, y_score), metrics.average_precision(y_true, y_score)), strict=True)
    )
    estimates: dict[str, Estimate] = {}
    bootstrap: dict[str, Any] | None = None
    if patient_id is not None:
        replicates = replicates or replicates_for(patient_id, y_true, labels, num_replicates, seed)
        resampled = resample(y_true, y_score, replicates)
        estimates = {"auroc": resampled.auroc, "average_precision": resampled.average_precision}
        bootstrap = {
            "unit": "patient",
            "level": 0.95,
            "num_draws": num_replicates,
            "seed": seed,
            "acceptance": replicates.acceptance,
        }

    def estimate(metric: str, chosen: Bools) -> dict[str, float | None]:
        if estimates and chosen.any() and not (chosen & ~sets["frequent"]).any():
            return asdict(summarize([estimates[metric].macro(chosen)]).interval)
        if patient_id is not None and metric == "auroc" and chosen is sets["all"] and sets["frequent"].any():
            interval = summarize_all_labels(patient_id, y_true, [y_score]).interval
            if not np.isnan(interval.low):
                return asdict(interval)
        value: Floats = metrics.macro(values[metric], chosen)
        return {"value": None if np.isnan(value) else float(value)}

    def only(column: int) -> Bools:
        return np.asarray((np.arange(len(labels)) == column) & sets["all"])

    return {
        "num_records": len(y_true),
        "num_patients": None if patient_id is None else len(np.unique(patient_id)),
        "bootstrap": bootstrap,
        "macro": {
            name: {"num_labels": int(chosen.sum()), **{m: estimate(m, chosen) for m in metrics.RANKING}}
            for name, chosen in sets.items()
        },
        "labels": {
            label: {"num_positives": int(positives[column]), **{m: estimate(m, only(column)) for m in metrics.RANKING}}
            for column, label in enumerate(labels)
        },
        "excluded_labels": [label for label, kept in zip(labels, sets["all"], strict=True) if not kept],
    }
