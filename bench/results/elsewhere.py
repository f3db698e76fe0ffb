"""What a finished run leaves when its kept weights are tested on other records: no result of a cell, never ranked.

It lies inside the run's folder, `elsewhere/<data set and corruptions>/`, so that whoever lists, ranks, counts or
publishes results does not see it, and a cell that runs again removes it.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.splits import TEST_FOLD
from bench.errors import BenchError, DataError
from bench.evaluation.metrics import MIN_POSITIVES
from bench.evaluation.predictions import Predictions
from bench.files import whole_folder, write_into
from bench.results.result import Result, finite

ELSEWHERE, EVALUATION, SCORES = "elsewhere", "evaluation.json", "scores.npz"
SCHEMA = 1
HELP = "test the run again with `bench evaluate`"
FIELDS = {"run": dict, "dataset": dict, "corruptions": list, "labels": dict, "metrics": dict, "scored_on": str}
"""Sections of an evaluation.json, with their types."""


@dataclass(frozen=True, eq=False)
class Truths:
    """What an evaluation was scored by."""

    patient: npt.NDArray[np.int64]
    """[record], numbers from 0 without further meaning: patients are resampled by them."""
    y_true: npt.NDArray[np.bool_]
    """[record, label]"""
    predictions: Predictions


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A run's weights on records that took no part in its training."""

    folder: Path
    run: Result
    document: Mapping[str, Any]
    """Content of evaluation.json."""

    @property
    def conditions(self) -> tuple[str, tuple[str, ...], int, int]:
        """Data set, corruptions, seed of these and source rate in Hz: evaluations that share them can be compared."""
        dataset = self.document["dataset"]
        return dataset["name"], tuple(self.document["corruptions"]), self.document["seed"], dataset["rate"]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that both data sets have, as the run names them."""
        return tuple(self.document["labels"])

    @property
    def frequent(self) -> tuple[str, ...]:
        """The labels with at least 10 positives and 10 negatives on these records."""
        scores = self.document["metrics"]
        most = scores["num_records"] - MIN_POSITIVES
        positives = {label: scores["labels"][label]["num_positives"] for label in self.labels}
        return tuple(label for label, number in positives.items() if MIN_POSITIVES <= number <= most)

    @property
    def home_auroc(self) -> float:
        """The run's mean recorded AUROC of the labels `frequent` on fold 10; NaN if one of them has none."""
        of_labels = self.run.document["metrics"][f"fold_{TEST_FOLD}"]["labels"]
        values = [of_labels[label]["auroc"]["value"] for label in self.frequent]
        return float(np.mean(values)) if values and None not in values else math.nan

    @cached_property
    def truths(self) -> Truths:
        """Patients, labels and logits. Raises DataError if the file is missing or damaged."""
        path = self.folder / SCORES
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                logits = file["logits"].astype(np.float32)  # published ones are float16
                scores = Predictions(file["ecg_id"], tuple(map(str, file["labels"])), logits)
                truths = Truths(file["patient"], file["y_true"], scores)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is missing or damaged ({type(error).__name__}); {HELP}") from None
        shape = (len(scores.ecg_id), len(self.labels))
        if scores.labels != self.labels or {scores.logits.shape, truths.y_true.shape} != {shape}:
            raise DataError(f"{path} does not fit the {EVALUATION} beside it; {HELP}")
        return truths


def folder_of(run: Result, dataset: str, corruptions: list[str], seed: int) -> Path:
    """Return the folder of an evaluation of a run."""
    parts = [dataset, *corruptions, *([f"seed{seed}"] if corruptions and seed else [])]
    return run.folder / ELSEWHERE / re.sub(r"[^\w.=+-]", "_", "+".join(parts))


def write_evaluation(run: Result, document: Mapping[str, Any], truths: Truths) -> Evaluation:
    """Write an evaluation into its run's folder; an earlier one of the same conditions is replaced."""
    final = folder_of(run, document["dataset"]["name"], document["corruptions"], document["seed"])
    whole = {"schema": SCHEMA, **document}
    try:
        with whole_folder(final) as folder:
            write_files(folder, whole, truths)
    except OSError as error:
        raise BenchError(f"cannot write to {final}: {error.strerror}; make room or give write permission") from None
    return Evaluation(final, run, whole)


def write_files(folder: Path, document: Mapping[str, Any], truths: Truths) -> None:
    """Write the two files of an evaluation into a folder."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        ecg_id=truths.predictions.ecg_id,
        labels=np.array(truths.predictions.labels),
        logits=truths.predictions.logits,
        patient=truths.patient,
        y_true=truths.y_true,
    )
    text = json.dumps(finite(document), indent=1, ensure_ascii=False, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    write_into(folder, SCORES, buffer.getvalue())
    write_into(folder, EVALUATION, text + "\n")


def find_evaluations(run: Result, log: Callable[[str], None] | None = None) -> Iterator[Evaluation]:
    """Yield the evaluations of a run, sorted by folder. With `log`, damaged ones are left out with a line each."""
    for path in sorted((run.folder / ELSEWHERE).glob(f"[!.]*/{EVALUATION}")):
        try:
            evaluation = load_evaluation(path.parent, run)
            if log:
                _ = evaluation.truths
        except DataError as error:
            if log is None:
                raise
            log(str(error))
        else:
            yield evaluation


def load_evaluation(folder: Path, run: Result) -> Evaluation:
    """Read an evaluation of a run. Raises DataError if it is damaged or of another run."""
    path = folder / EVALUATION
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is missing or damaged ({type(error).__name__}); {HELP}") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise DataError(f"{path} is no evaluation of schema {SCHEMA}; {HELP}")
    if wrong := [name for name, kind in FIELDS.items() if not isinstance(document.get(name), kind)]:
        raise DataError(f"{path} lacks {', '.join(wrong)}; {HELP}")
    if document["run"].get("digest") != run.digest:
        raise DataError(f"{path} is of another run than the result in {run.folder}; {HELP}")
    return Evaluation(folder, run, document)
