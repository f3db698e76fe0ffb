"""Predict a user's own WFDB records with the model of a finished run."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.data.prepared import Scaling, quantize
from bench.data.records import SECONDS
from bench.data.signals import Signal, SignalSpec, prepare_record, prepare_windows
from bench.data.waveforms import Note, read_waveform
from bench.errors import CheckpointError, DataError
from bench.registry.reference import Reference
from bench.registry.registry import make
from bench.results.result import RESULT, Result, load_result
from bench.training.audit import prepare
from bench.training.batch import Start
from bench.training.batches import cut_windows
from bench.training.features import join_windows
from bench.training.model import Backbone, Classifier
from bench.training.precision import autocast, dtype
from bench.training.weights import WEIGHTS, hash_weights, load_classifier

SHORTEST_S = 1.0
"""Minimum length in seconds; a shorter record may contain no heartbeat."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The model of a finished run, with the weights that it kept, and all that prepares a record for it."""

    result: Result
    model: Classifier
    scaling: Scaling

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its outputs."""
        return tuple(self.result.document["task"]["labels"])

    @property
    def spec(self) -> SignalSpec:
        """What its backbone expects of signals."""
        return self.model.backbone.signal_spec

    @property
    def seconds(self) -> float | None:
        """Length to which the training records were cut or padded; None if all had one length."""
        return self.result.document["dataset"].get("seconds")  # type: ignore[no-any-return]

    @property
    def length_s(self) -> float:
        """Length of the training records."""
        return self.seconds or self.result.document["signals"].get("seconds") or SECONDS

    def prepare(self, raw: Signal, rate: int, seconds: float | None, name: str) -> Signal:
        """Return a record [lead, time] in mV as the cache holds it for the model, rounded and standardised as fold 10.

        `seconds`: cut or pad the record to this length. `name` is for messages.
        """
        signals = _as_cached(prepare_record(raw, rate, self.spec, seconds, name))
        if self.scaling.fitted_on:
            signals = (signals - np.float32(self.scaling.mean)) / np.float32(self.scaling.std)
        return signals

    @torch.no_grad()
    def logits(self, signals: Signal) -> torch.Tensor:
        """Return logits [record, label] on the CPU of prepared signals [record, lead, time], from their windows."""
        spec, precision = self.spec, self.result.cell["precision"]
        device = next(self.model.parameters()).device
        cut = cut_windows(torch.from_numpy(signals), spec.window, spec.window_starts(signals.shape[-1]))
        windows = torch.from_numpy(prepare_windows(cut.numpy(), spec))
        with autocast(precision, device):
            flat: torch.Tensor = self.model(windows.flatten(0, 1).to(device, dtype(precision)))
        logits = flat.to(dtype(precision)).reshape(*windows.shape[:2], -1)
        return join_windows(logits, spec.aggregate).to("cpu", torch.float64)


def load_trained(run: Path) -> Trained:
    """Return the model of a finished run. Raises CheckpointError if it trained nothing or kept no weights."""
    result = load_result(run)
    if result.incompatible:
        raise CheckpointError(f"{run} trained nothing, because its method declined: {result.incompatible}")
    if result.external:
        raise CheckpointError(f"{run} holds scores that another program made, and no model that could predict")
    if not (run / WEIGHTS).is_file():
        raise CheckpointError(f"{run} kept no weights; run its cell again with --keep-weights best --overwrite")
    # build the model as the run did: the method may have changed its modules before the weights were saved
    labels, precision = result.document["task"]["labels"], result.cell["precision"]
    backbone = make("backbone", _as_run(result.document["backbone"]))
    assert isinstance(backbone, Backbone)
    model = Classifier(backbone, len(labels))
    # values of the head are loaded below, but a method may need its shapes
    head = {key: torch.zeros(shape) for key, shape in result.document["init"].get("head", {}).items()}
    prepare(model, make("method", _as_run(result.document["method"])), Start.of(result.document, head))
    model.to(dtype(precision)).eval()
    load_classifier(model, run / WEIGHTS)
    if hash_weights(model.state_dict()) != result.document["weights_sha256"]:
        raise CheckpointError(f"{run / WEIGHTS} holds other weights than those of this run; run its cell again")
    return Trained(result, model, _scaling(result, run))


def predict_records(run: Path, records: Sequence[Path], log: Callable[[str], None] = lambda line: None) -> str:
    """Return CSV text with a row for each record and a column of probabilities for each label.

    A record has its file's name, or its path where several have one name; one that is given twice has one row.
    `log` receives a line if a record differs from the training records. Raises DataError if any record cannot be read,
    and CheckpointError if the run has no weights.
    """
    trained = load_trained(run)
    spec, seconds = trained.spec, trained.seconds
    # into memory: nothing is printed unless all records can be read
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["record", *trained.labels])
    paths = _without_endings(records)
    named = Counter(path.name for path in paths)
    for path in paths:
        notes: list[Note] = []
        raw, rate = read_waveform(path, spec.leads, notes.append)
        for note in notes:
            log(f"{path}: {note.text}")
        for remark in _remarks(path, raw, rate, trained):
            log(remark)
        probabilities = torch.sigmoid(trained.logits(trained.prepare(raw, rate, seconds, str(path))[None])[0])
        writer.writerow([path.name if named[path.name] == 1 else path, *(f"{p:.6f}" for p in probabilities.tolist())])
    return text.getvalue()


def _without_endings(records: Sequence[Path]) -> list[Path]:
    """Return the paths of records without the endings of their files, each once. Raises DataError for a folder."""
    for path in records:
        if path.is_dir() and not Path(f"{path}.hea").is_file():
            raise DataError(f"{path} is a folder; name the records in it")
    return list(
        dict.fromkeys(path.with_suffix("") if path.suffix in (".hea", ".dat", ".mat") else path for path in records)
    )


def _as_run(plugin: Mapping[str, Any]) -> Reference:
    """Return the reference to a plugin of a result, with all hyper-parameters of the run: defaults may have changed."""
    return Reference(plugin["name"], plugin["resolved"])


def _scaling(result: Result, run: Path) -> Scaling:
    """Return the standardisation of the training records. Raises CheckpointError if the result lacks it."""
    if (facts := result.document["signals"].get("scaling")) is None:
        raise CheckpointError(f"{run / RESULT} lacks signals.scaling, by which records are standardised")
    return Scaling(facts["mean"], facts["std"], facts["fitted_on"])


def _remarks(path: Path, raw: Signal, rate: int, trained: Trained) -> Iterator[str]:
    """Yield remarks on how a record [lead, time] in mV differs from the training records.

    Raises DataError if it is too short or has no signal.

    As in training, a lead without a signal is used as it is, and invalid samples count as 0 mV.
    """
    spec, seconds = trained.spec, trained.seconds
    lasts, least = raw.shape[1] / rate, max(SHORTEST_S, 0 if seconds else spec.window_s or 0)
    if lasts < least:
        raise DataError(f"{path} lasts {lasts:g} s; this backbone needs at least {least:g} s")
    invalid = np.isnan(raw)
    silent = np.ptp(np.where(invalid, 0, raw), axis=1) == 0
    if silent.all():
        raise DataError(f"{path} has no signal: every lead is flat or missing")
    if silent.any():
        yield f"{path} has no signal in {_names(spec, silent)}; its probabilities rest on the other leads"
    if (holes := invalid.any(axis=1) & ~silent).any():
        yield f"{path} has invalid samples in {_names(spec, holes)}, set to 0 mV"
    if not (seconds or spec.window or math.isclose(lasts, trained.length_s, rel_tol=0.1)):
        yield f"{path} lasts {lasts:g} s; the run was trained on records of {trained.length_s:g} s"


def _names(spec: SignalSpec, chosen: npt.NDArray[np.bool_]) -> str:
    return ", ".join(np.array(spec.leads)[chosen])


def _as_cached(signals: Signal) -> Signal:
    """Return signals [lead, time] rounded as in the cache, so that records of fold 10 get the scores of the run."""
    values, scale = quantize(signals)
    return np.asarray(values * np.float32(scale), dtype=np.float32)
