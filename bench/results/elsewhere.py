"""What a finished run leaves when its kept weights are tested on other records: no result of a cell, never ranked.

It lies inside the run's folder, `elsewhere/<data set and corruptions>/`, so that whoever lists, ranks, counts or
publishes results does not see it, and a cell that runs again removes it.
"""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.splits import TEST_FOLD
from bench.errors import BenchError, DataError, first_line
from bench.evaluation.metrics import MIN_POSITIVES
from bench.evaluation.predictions import Predictions
from bench.files import open_file, read_bytes, whole_folder, write_into
from bench.results.arrays import open_arrays
from bench.results.document import evaluation_faults, not_finite
from bench.results.result import Result, finite

ELSEWHERE, EVALUATION, SCORES = "elsewhere", "evaluation.json", "scores.npz"
SCHEMA = 1
HELP = "test the run again with `bench evaluate`"


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
            with open_file(path) as stream, open_arrays(stream, path, "a file of scores", HELP) as file:
                arrays = {name: file[name] for name in ("ecg_id", "patient", "y_true", "logits", "labels")}
        except OSError as error:
            raise DataError(f"{path} is missing or damaged ({error.strerror}); {HELP}") from None
        num, labels = self.document["metrics"]["num_records"], tuple(map(str, arrays["labels"].ravel()))
        kinds = [arrays[name].dtype.kind for name in ("ecg_id", "patient", "y_true", "logits")]
        shapes = [arrays[name].shape for name in ("ecg_id", "patient", "y_true", "logits")]
        if labels != self.labels or shapes != [(num,), (num,), (num, len(labels)), (num, len(labels))]:
            raise DataError(f"{path} does not fit the {EVALUATION} beside it; {HELP}")
        if kinds != ["i", "i", "b", "f"] or not np.isfinite(arrays["logits"]).all():
            raise DataError(f"{path} holds other types, or scores that are not finite; {HELP}")
        scores = Predictions(arrays["ecg_id"], labels, arrays["logits"].astype(np.float32))  # from float16
        return Truths(np.unique(arrays["patient"], return_inverse=True)[1], arrays["y_true"], scores)


def folder_of(
    run: Result, dataset: str, corruptions: Sequence[str] = (), seed: int = 0, source_rate: int | None = None
) -> Path:
    """Return the folder of an evaluation of a run. `source_rate`: rate of the files in Hz; None: the backbone's own."""
    parts = [dataset, *corruptions, *([f"seed{seed}"] if corruptions and seed else [])]
    parts += [f"{source_rate}hz"] if source_rate else []
    return run.folder / ELSEWHERE / re.sub(r"[^\w.=+-]", "_", "+".join(parts))


def write_evaluation(run: Result, document: Mapping[str, Any], truths: Truths) -> Evaluation:
    """Write an evaluation into its run's folder; an earlier one of the same conditions is replaced."""
    chosen = document["corruptions"], document["seed"], document.get("source_rate")
    final = folder_of(run, document["dataset"]["name"], *chosen)
    whole = {"schema": SCHEMA, **document}
    try:
        with whole_folder(final) as folder:
            write_files(folder, whole, truths)
    except OSError as error:
        raise BenchError(f"cannot write to {final}: {error.strerror}; make room or give write permission") from None
    return Evaluation(final, run, whole)


def write_files(folder: Path, document: Mapping[str, Any], truths: Truths) -> None:
    """Write the two files of an evaluation into a folder. Raises DataError if they could not be read again."""
    if wrong := [*evaluation_faults(document)]:
        raise DataError(f"the evaluation could not be read again: {'; '.join(wrong)}; correct the data set's tables")
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
    """Read an evaluation of a run. Raises DataError if it is damaged, of another run, or of other weights."""
    path = folder / EVALUATION
    try:
        document = json.loads(read_bytes(path).decode())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; {HELP}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {first_line(error)}; {HELP}") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise DataError(f"{path} is no evaluation of schema {SCHEMA}; {HELP}")
    if wrong := [*evaluation_faults(document), *not_finite(document)]:
        raise DataError(f"{path} is no evaluation: {'; '.join(wrong)}; {HELP}")
    if document["run"]["digest"] != run.digest or not {*document["labels"]} <= {*run.document["task"]["labels"]}:
        raise DataError(f"{path} is of another run than the result in {run.folder}; {HELP}")
    if not is_of_weights(document, run):
        raise DataError(f"{path} is of other weights than the result in {run.folder}; {HELP}, or remove {folder}")
    return Evaluation(folder, run, document)


def is_of_weights(evaluation: Mapping[str, Any], run: Result) -> bool:
    """Return whether the document of an evaluation is of the weights of this result: a cell may be trained again."""
    same: bool = evaluation["run"].get("weights_sha256") == run.document.get("weights_sha256")
    return same


def remove_useless(run: Result) -> None:
    """Remove the evaluations in a run's folder that are damaged or of other weights, which an earlier attempt left."""
    useful = {each.folder for each in find_evaluations(run, lambda line: None)}
    for folder in {*(run.folder / ELSEWHERE).glob("[!.]*")} - useful:
        shutil.rmtree(folder, ignore_errors=True)
