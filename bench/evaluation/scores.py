"""All that is said of one run on one fold: macro and per-label metrics with patient-level intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.evaluation import metrics
from bench.evaluation.bootstrap import Estimate, Replicates, draw_replicates, resample, summarize
from bench.evaluation.metrics import Bools, Floats
from bench.evaluation.placements import summarize_all_labels


def strodthoff2020(y_true: NDArray[Any], y_score: NDArray[Any], ecg_id: NDArray[Any]) -> dict[str, Any]:
    """Macro AUROC over all labels as Strodthoff et al. (2020) gave it, for comparison with old tables only.

    100 replicates of records, 5 and 95 % quantiles, and the number in their brackets: the larger distance to one.
    """
    all_labels = metrics.defined(y_true)
    drawn = resample(y_true, y_score, draw_replicates(ecg_id, y_true, num_replicates=100)).auroc.macro(all_labels)
    low, high = np.quantile(drawn.replicates, [0.05, 0.95])
    bracket = max(float(drawn.value - low), float(high - drawn.value))
    numbers = {"value": float(drawn.value), "low": float(low), "high": float(high), "bracket": bracket}
    return {"unit": "record", "level": 0.9, "num_draws": 100, "macro_auroc": numbers}


def label_sets(y_true: NDArray[Any]) -> dict[str, Bools]:
    """The two sets of labels that are averaged over: all defined ones, and those with at least 10 positives."""
    return {"all": metrics.defined(y_true), "frequent": metrics.frequent(y_true)}


def replicates_for(
    patient_id: NDArray[Any], y_true: NDArray[Any], labels: Sequence[str], num_replicates: int, seed: int
) -> Replicates:
    """Replicates of patients in which every label with at least 10 positives is present."""
    frequent = metrics.frequent(y_true)
    return draw_replicates(
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
    """Metrics of scores [record, label] as plain data; with `patient_id` [record] also their 95 % intervals.

    `replicates` are what `replicates_for` gives for the same arguments, if at hand. Labels with fewer than 10 positives
    have no interval of their own, and no part in one of average precision: nobody can tell how much so few
    vary.
    """
    sets = label_sets(y_true)
    positives = np.asarray(y_true).astype(bool).sum(axis=0)
    values = dict(
        zip(metrics.RANKING, (metrics.auroc(y_true, y_score), metrics.average_precision(y_true, y_score)), strict=True)
    )
    found: dict[str, Estimate] = {}
    bootstrap: dict[str, Any] | None = None
    if patient_id is not None:
        replicates = replicates or replicates_for(patient_id, y_true, labels, num_replicates, seed)
        resampled = resample(y_true, y_score, replicates)
        found = {"auroc": resampled.auroc, "average_precision": resampled.average_precision}
        bootstrap = {
            "unit": "patient",
            "level": 0.95,
            "num_draws": num_replicates,
            "seed": seed,
            "acceptance": replicates.acceptance,
        }

    def described(metric: str, chosen: Bools) -> dict[str, float | None]:
        if found and chosen.any() and not (chosen & ~sets["frequent"]).any():
            return asdict(summarize([found[metric].macro(chosen)]).interval)
        if patient_id is not None and metric == "auroc" and chosen is sets["all"] and sets["frequent"].any():
            interval = summarize_all_labels(patient_id, y_true, [y_score]).interval
            if not np.isnan(interval.low):
                return asdict(interval)
        value: Floats = metrics.macro(values[metric], chosen)
        return {"value": None if np.isnan(value) else float(value)}

    def one(column: int) -> Bools:
        return np.asarray((np.arange(len(labels)) == column) & sets["all"])

    return {
        "num_records": len(y_true),
        "num_patients": None if patient_id is None else len(np.unique(patient_id)),
        "bootstrap": bootstrap,
        "macro": {
            name: {"num_labels": int(chosen.sum()), **{m: described(m, chosen) for m in metrics.RANKING}}
            for name, chosen in sets.items()
        },
        "labels": {
            label: {"num_positives": int(positives[column]), **{m: described(m, one(column)) for m in metrics.RANKING}}
            for column, label in enumerate(labels)
        },
        "excluded_labels": [label for label, kept in zip(labels, sets["all"], strict=True) if not kept],
    }
