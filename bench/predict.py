"""A trained cell on a user's own WFDB records."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bench.data.prepared import Scaling, quantize
from bench.data.signals import Signal, SignalSpec, prepare_record
from bench.data.waveforms import read_waveform
from bench.errors import CheckpointError, DataError
from bench.registry import Reference, make
from bench.reporting.results import load_result
from bench.training.batches import cut_windows
from bench.training.features import join_windows
from bench.training.model import Backbone, Classifier
from bench.training.precision import Precision, autocast, dtype
from bench.training.weights import WEIGHTS, load_classifier


def predict_records(run: Path, records: Sequence[Path]) -> str:
    """CSV with a row a record and a column of probabilities a label; nothing is printed unless all can be read."""
    result = load_result(run)
    if result.incompatible:
        raise CheckpointError(f"{run} trained nothing, because its method declined: {result.incompatible}")
    if not (run / WEIGHTS).is_file():
        raise CheckpointError(f"{run} kept no weights; run its cell again with --keep-weights best --overwrite")
    labels, precision = result.document["task"]["labels"], result.cell["precision"]
    backbone = make("backbone", Reference.parse(result.cell["arch"]))
    assert isinstance(backbone, Backbone)
    model = Classifier(backbone, len(labels))
    make("method", Reference.parse(result.cell["method"])).prepare(model, result.document["init"]["name"])
    load_classifier(model, run / WEIGHTS)
    model.to(dtype(precision)).eval()
    scaling, seconds = Scaling(**result.document["signals"]["scaling"]), result.document["dataset"].get("seconds")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["record", *labels])
    for path in records:
        path = path.with_suffix("") if path.suffix in (".hea", ".dat", ".mat") else path
        probabilities = torch.sigmoid(_logits(model, path, backbone.signals, scaling, precision, seconds))
        writer.writerow([path.name, *(f"{p:.6f}" for p in probabilities.tolist())])
    return text.getvalue()


@torch.no_grad()
def _logits(
    model: Classifier, path: Path, spec: SignalSpec, scaling: Scaling, precision: Precision, seconds: float | None
) -> torch.Tensor:
    """Logits [label] of a record, computed as the harness computes those of fold 10."""
    raw, rate = read_waveform(path, spec.leads)
    signals = _as_cached(prepare_record(raw, rate, spec, seconds))
    if spec.window is not None and signals.shape[1] < spec.window:
        raise DataError(f"{path}.dat lasts {raw.shape[1] / rate:g} s; this backbone needs at least {spec.window_s:g} s")
    if scaling.fitted_on:
        signals = (signals - np.float32(scaling.mean)) / np.float32(scaling.std)
    windows = cut_windows(torch.from_numpy(signals[None]), spec.window, spec.window_starts(signals.shape[1]))[0]
    with autocast(precision, torch.device("cpu")):
        logits: torch.Tensor = model(windows.to(dtype(precision)))
    return join_windows(logits[None], spec.aggregate)[0].to(torch.float64)


def _as_cached(signals: Signal) -> Signal:
    """Signals [lead, time] rounded as the cache holds them, so that the scores are the run's own."""
    values, scale = quantize(signals)
    return np.asarray(values * np.float32(scale), dtype=np.float32)
