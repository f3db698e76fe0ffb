"""Read and write results: `result.json` and `predictions.npz` in a folder that exists only when both are complete."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import bench
from bench.data.splits import TEST_FOLD, VAL_FOLD, num_batches
from bench.data.text import UNPRINTABLE
from bench.errors import BenchError, DataError, first_line
from bench.evaluation.predictions import Predictions, align
from bench.evaluation.runs import Streams
from bench.files import file_sha256, open_file, read_bytes, whole_file, write_whole
from bench.results import finished
from bench.results.arrays import open_arrays
from bench.results.document import faults, not_finite, unsafe
from bench.results.remembered import keep, key_of, recall

if TYPE_CHECKING:
    from bench.data.tasks import LabelTable

SCHEMA = 1
RESULT, PREDICTIONS = finished.RESULT, finished.PREDICTIONS
UNFINISHED, OF_VAL = ".unfinished", "-val"
SCORED = ("metrics", "training", "signals")
"""Further sections of a result, unless the method declined the backbone."""
METRICS, HEAD = b',\n "metrics": ', 16384
"""First bytes of the last section of a result.json, and the usual number of bytes before it."""
HELP = "run its cell again with --overwrite, or remove its folder"
"""Advice for a damaged run."""
PART = "part"
"""Stage of scores of some records of fold 10 only: they can be compared on these records, and stand on no board."""
EXTERNAL = "external"
"""Method name of scores from other programs, whose training and code are unknown."""


@dataclass(frozen=True, eq=False)
class Result:
    """A finished cell. Its metrics can be recomputed from its predictions and the labels of the data set."""

    folder: Path
    document: Mapping[str, Any]
    """Content of result.json."""
    published: bool = False
    """True if it came with this package, from its published leaderboards."""
    sha256: str = ""
    """SHA-256 of result.json; empty if it was not read from a file."""

    @property
    def digest(self) -> str:
        """SHA-256 over all that decides the outcome."""
        return str(self.document["digest"])

    @property
    def cell(self) -> Mapping[str, Any]:
        """The cell: task, arch, method, init, fraction, draw, seed, command, ..."""
        return self.document["cell"]  # type: ignore[no-any-return]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the labels, patients and folds on which it was scored."""
        return str(self.document["task"]["fingerprint"])

    @property
    def incompatible(self) -> str | None:
        """Why the method declined this backbone; None if it did not."""
        return self.document["incompatible"]  # type: ignore[no-any-return]

    @property
    def row(self) -> tuple[str, str, str]:
        """Backbone, init and method as a board shows them. Runs that differ only in seed and draw share a row.

        The source rate and the precision are added to the backbone's name if they are not the default.
        """
        rate, precision = self.cell["source_rate"], self.cell["precision"]
        unusual = [f"from {rate} Hz"] if rate else []
        unusual += [precision] if precision not in ("float32", None) else []
        return ", ".join([self.cell["arch"], *unusual]), self.document["init"]["name"], self.cell["method"]

    @property
    def place(self) -> tuple[int, int]:
        """Draw and seed: the key of a run within its row, by which runs are paired."""
        return self.cell["draw"], self.cell["seed"]

    @property
    def streams(self) -> Streams:
        """What the random streams of the run depend on; the seed alone in results that do not record it."""
        return self.cell.get("streams", "seed")  # type: ignore[no-any-return]

    @property
    def manifest(self) -> str:
        """Name and content hash of the manifest it was trained on; empty if fraction and draw chose the records."""
        name = self.cell.get("manifest")
        return f"{name}, {str(self.thinned)[:8]}" if name else ""

    @property
    def thinned(self) -> str | None:
        """SHA-256 of the training and validation records; None for all of folds 1-8 and 9."""
        return self.document.get("split", {}).get("sha256")  # type: ignore[no-any-return]

    @property
    def steps(self) -> list[int]:
        """Return the gradient steps of each phase: epochs times batches. A phase that solves for its head has none."""
        num_records = self.document.get("split", {}).get("train_records", 0)
        declared = self.document.get("method", {}).get("phases", ())
        trained = [len(phase.get("train_loss", ())) for phase in self.document.get("training", ())]
        return [
            epochs * num_batches(num_records, phase["batch_size"])
            for phase, epochs in zip(declared, trained, strict=False)
            if epochs and "batch_size" in phase
        ]

    @property
    def board(self) -> tuple[str, str, str, float, str]:
        """Data set, task, fingerprint, fraction and manifest: the key of the board to which it belongs."""
        cell = self.cell
        return self.document["dataset"]["name"], cell["task"], self.fingerprint, cell["fraction"], self.manifest

    @property
    def tested(self) -> bool:
        """True if it has scores of all records of fold 10."""
        return bool(self.document["stage"] == "test") and self.incompatible is None

    @property
    def partial(self) -> bool:
        """True if it has scores of some records of fold 10 only."""
        return bool(self.document["stage"] == PART)

    @property
    def external(self) -> bool:
        """True if the scores are from another program."""
        return bool(self.cell["method"] == EXTERNAL)

    @property
    def has_scale(self) -> bool:
        """True if the scores are logits; those of another program may be on any scale."""
        return not self.external or self.document["scores"]["scale"] is not None

    @cached_property
    def scores_sha256(self) -> str:
        """SHA-256 of the predictions file. Raises DataError if there is none."""
        try:
            return file_sha256(self.folder / PREDICTIONS)
        except FileNotFoundError:
            raise DataError(f"{self.folder / PREDICTIONS} is missing; {HELP}") from None
        except OSError as error:
            raise DataError(f"{self.folder / PREDICTIONS} cannot be read: {error.strerror}; {HELP}") from None

    @cached_property
    def predictions(self) -> dict[int, Predictions]:
        """Fold -> predictions for the records of that fold."""
        path = self.folder / PREDICTIONS
        try:
            with open_file(path) as stream, open_arrays(stream, path, "a predictions file", HELP) as file:
                return self._complete(_predictions_in(file, path, self.fingerprint))
        except FileNotFoundError:
            raise DataError(f"{path} is missing; {HELP}") from None
        except OSError as error:
            raise DataError(f"{path} is not a predictions file: {error.strerror}; {HELP}") from None

    def scores(self, fold: int, table: LabelTable) -> NDArray[np.floating[Any]]:
        """Return the predictions of a fold [record, label], in the order of the records and labels of `table`."""
        try:
            return align(self.predictions[fold], table.ecg_id, table.labels)
        except DataError as error:
            raise DataError(f"{self.folder / PREDICTIONS}, fold {fold}: {error}; {HELP}") from None

    def _complete(self, predictions: dict[int, Predictions]) -> dict[int, Predictions]:
        """Return the predictions. Raises DataError if a fold that has metrics lacks them."""
        scored = self.document.get("metrics", {f"fold_{TEST_FOLD}": {}})  # unknown: it stands on a board
        for fold in (VAL_FOLD, TEST_FOLD):
            if f"fold_{fold}" in scored and fold not in predictions:
                raise DataError(f"{self.folder / PREDICTIONS} has no predictions of fold {fold}; {HELP}")
        return predictions


def _predictions_in(file: Any, path: Path, fingerprint: str) -> dict[int, Predictions]:
    """Return fold -> predictions of an open npz file. Raises DataError if an array is missing or of another kind."""
    if str(file["fingerprint"]) != fingerprint:
        raise DataError(f"{path} belongs to another task or dataset than the {RESULT} beside it")
    labels = tuple(str(label) for label in file["labels"])
    if wrong := next(filter(UNPRINTABLE.search, labels), None):
        raise DataError(f"{path} has a label that is no text: {wrong[:40]!a}; {HELP}")
    folds = [int(name.removeprefix("ecg_id_fold")) for name in file.files if name.startswith("ecg_id_")]
    if not {*folds} <= {VAL_FOLD, TEST_FOLD}:
        raise DataError(f"{path} has predictions of folds {folds}, expected {VAL_FOLD} and {TEST_FOLD}; {HELP}")
    predictions = {}
    for fold in folds:
        ecg_id, logits = file[f"ecg_id_fold{fold}"], file[f"logits_fold{fold}"]
        if ecg_id.dtype.kind not in "iu" or logits.dtype.kind != "f" or logits.shape != (*ecg_id.shape, len(labels)):
            raise DataError(
                f"{path}, fold {fold}: ecg_id is {ecg_id.dtype}{[*ecg_id.shape]} and logits {logits.dtype}"
                f"{[*logits.shape]}, expected whole numbers [record] and real numbers [record, {len(labels)}]; {HELP}"
            )
        if not np.isfinite(logits).all():
            record = ecg_id[np.flatnonzero(~np.isfinite(logits).all(axis=1))[0]]
            raise DataError(f"{path}, fold {fold}: record {record} has a NaN or infinite score; {HELP}")
        wide = logits.astype(np.float32) if logits.dtype == np.float16 else logits  # metrics in float16 would be coarse
        predictions[fold] = Predictions(ecg_id.astype(np.int64, copy=False), labels, wide)
    return predictions


def row_name(backbone: str, init: str, method: str) -> str:
    """Return the name of a row as boards print it and `bench compare` accepts it."""
    return f"{backbone} ({EXTERNAL})" if method == EXTERNAL else f"{method} on {backbone} ({init})"


def write_result(folder: Path, document: Mapping[str, Any], predictions: Mapping[int, Predictions]) -> None:
    """Write both files into the folder of an unfinished run, which the caller then renames."""
    try:
        if predictions:
            with whole_file(folder / PREDICTIONS, fsync=True) as stream:
                write_predictions(stream, str(document["task"]["fingerprint"]), predictions)
        _write_document(folder / RESULT, {"schema": SCHEMA, **document})
    except OSError as error:
        raise BenchError(f"cannot write the result to {folder}: {error.strerror}; the same command resumes") from None


def write_predictions(stream: IO[bytes], fingerprint: str, predictions: Mapping[int, Predictions]) -> None:
    """Write the scores of each fold to an open npz file."""
    arrays: dict[str, Any] = {"fingerprint": np.array(fingerprint)}
    for fold, scores in predictions.items():
        arrays["labels"] = np.array(scores.labels)
        arrays[f"ecg_id_fold{fold}"], arrays[f"logits_fold{fold}"] = scores.ecg_id, scores.logits
    np.savez_compressed(stream, **arrays)


def _write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write result.json. The metrics are last, so that `load_head` need not read them."""
    head = {key: value for key, value in document.items() if key != "metrics"}
    ordered = {**head, "metrics": document["metrics"]} if "metrics" in document else head
    text = json.dumps(finite(ordered), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, text + "\n", fsync=True)  # else a power cut could leave a renamed folder with empty files


def record_search(result: Result, search: Mapping[str, Any]) -> None:
    """Add to a finished run's result the search that chose its setting. The digest does not depend on it."""
    _write_document(result.folder / RESULT, {**result.document, "search": search})


def finite(value: Any) -> Any:
    """Return plain data with None in place of NaN and infinities, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_result(folder: Path) -> Result:
    """Read the result in a run's folder. Raises DataError if it is missing or damaged."""
    path = folder / RESULT
    try:
        content = read_bytes(path)
        document = json.loads(content.decode())
    except FileNotFoundError:
        raise DataError(f"no finished run at {folder}: {RESULT} is missing") from None
    except OSError as error:
        raise DataError(f"no finished run at {folder}: {RESULT} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise DataError(f"{path} is damaged: {first_line(error)}; {HELP}") from None
    if not isinstance(document, dict) or "schema" not in document:
        raise DataError(f"{path} is not a result: it has no schema number; {HELP}")
    if document["schema"] != SCHEMA:
        raise DataError(f"{path} has schema {document['schema']!r:.40}; this version of bench reads schema {SCHEMA}")
    result = Result(folder, document, sha256=hashlib.sha256(content).hexdigest())
    if recall(whole := key_of("whole document", result.sha256)) is None:
        _require_whole(document, path)
        keep(whole, b"")
    return result


def _require_whole(document: Mapping[str, Any], path: Path) -> None:
    """Raise DataError if a field of a result is missing, of another kind, or not to be printed."""
    wrong = [*faults(document)] or [*unsafe(document), *not_finite(document)]
    if document.get("incompatible", "") is None:
        wrong += [f"it lacks {name}" for name in SCORED if name not in document]
    if wrong:
        raise DataError(f"{path} is not a result: {'; '.join(wrong)}; {HELP}")


def _require_predictions(result: Result) -> None:
    """Raise DataError if the predictions of a result cannot be read. They are not kept in memory."""
    key = key_of("whole predictions", result.scores_sha256, result.fingerprint)
    if recall(key) is None:
        _ = Result(result.folder, result.document).predictions  # a copy, which is forgotten with what it has read
        keep(key, b"")


def load_head(folder: Path) -> dict[str, Any]:
    """Read a result without its metrics, which are most of the file: 10,000 results take about 2 s."""
    try:
        with open_file(folder / RESULT) as file:
            text = file.read(HEAD)
            head, metrics, _ = text.partition(METRICS)
            if not metrics:
                head, metrics, _ = (text + file.read()).partition(METRICS)
        document: dict[str, Any] = json.loads((head + b"}" if metrics else head).decode())
        if document["schema"] == SCHEMA and not any(faults(document)) and not any(unsafe(document)):
            return document
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        pass
    return dict(load_result(folder).document)  # raises an error that says what is wrong


def find_runs(runs: Path) -> list[Path]:
    """Return the folders of all finished runs below a folder, sorted."""
    folders = []
    for folder, inner, files in os.walk(runs):
        inner[:] = [name for name in inner if not name.endswith(UNFINISHED) and not name.startswith(".")]
        if RESULT in files:
            folders.append(Path(folder))
            inner.clear()
    return sorted(folders)


def find_heads(runs: Path, log: Callable[[str], None] = lambda line: None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield folder and head of every finished run below a folder, sorted. `log` receives a line per damaged run."""
    for folder in find_runs(runs):
        try:
            head = load_head(folder)
        except DataError as error:
            log(str(error))
        else:
            yield folder, head


def published_folder() -> Path:
    """Return the published leaderboards: those in the wheel, or of the checkout. Raises DataError where neither is."""
    package = Path(bench.__file__).parent
    for folder in (package / "published", package.parent / "leaderboards"):
        if folder.is_dir():
            return folder
    raise DataError(f"no published results beside {package}: install bench from its wheel or a checkout")


def find_published() -> list[Result]:
    """Return the results that came with this package, marked as published."""
    return [replace(result, published=True) for result in find_results(published_folder())]


def find_results(runs: Path, log: Callable[[str], None] | None = None) -> Iterator[Result]:
    """Yield every finished run below a folder, sorted by path.

    With `log`, predictions are read too, and damaged runs are left out: `log` receives a line for each.
    """
    if not runs.is_dir():
        raise DataError(f"no runs at {runs}; `bench run` writes them, --runs names another folder")
    for folder in find_runs(runs):
        try:
            result = load_result(folder)
            if log and result.incompatible is None:
                _require_predictions(result)
        except DataError as error:
            if not log:
                raise
            log(str(error))
        else:
            yield result
