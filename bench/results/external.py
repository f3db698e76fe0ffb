"""Turn scores of any program into a result, marked as external. Needs only the two tables of the data set."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import platform
import re
import shlex
import shutil
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import bench
from bench.data.datasets import load_records
from bench.data.datasets.held import reader_facts
from bench.data.records import Records
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tasks import LabelTable, find_task, label_table, task_facts
from bench.data.text import decode, refuse_pointer
from bench.errors import BenchError, DataError
from bench.evaluation.predictions import NUM_NAMED, Predictions, align
from bench.evaluation.scores import score_fold, strodthoff2020
from bench.files import read_bytes
from bench.results.arrays import MOST_BYTES, open_arrays
from bench.results.document import require_printable
from bench.results.result import EXTERNAL, PART, Result, find_runs, load_result
from bench.results.run_folder import RunFolder

STRODTHOFF2020, ALL_RECORDS = "strodthoff2020", "all-records"
"""Protocols of other publications whose numbers are computed in addition to the benchmark's own."""
NAME = re.compile(r"\w[\w.+\-(),=' ]{0,99}")


def score_external(
    file: Path,
    task: str,
    name: str,
    data: Path,
    runs: Path,
    *,
    scale: str | None = None,
    compat: str | None = None,
    fraction: float = 1.0,
    draw: int = 0,
    seed: int = 0,
    partial: bool = False,
    overwrite: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> Result:
    """Score the predictions in a file on fold 10, and also on fold 9 if the file has it.

    With `partial` the file may lack records of a fold; then the stage is PART, unless it lacks none.

    `scale` is logit, probability or None (unknown; then no calibration is computed). `compat` adds the numbers of
    another protocol: STRODTHOFF2020, or ALL_RECORDS of fold 10. `log` receives a line about records and columns that
    are left out. Raises BenchError if other scores of this name, draw and seed exist, unless `overwrite`.
    """
    if not NAME.fullmatch(name):
        raise BenchError(
            f"--name {name!r}: expected a letter or digit, then up to 99 of letters, digits, spaces and . + - ( ) , = '"
        )
    if not 0 < fraction <= 1:
        raise BenchError(f"--fraction must lie in (0, 1], got {fraction}")
    if draw and fraction == 1:
        raise BenchError(f"--draw {draw} has no effect on all training records; add --fraction below 1")
    if partial and compat:
        raise BenchError(f"--partial and --compat {compat} exclude each other: {compat} needs the whole fold")
    records = load_records(data)
    table = label_table(records, find_task(task, records))
    content = _content(file)
    given = read_scores(file, content, table.labels, log)
    folds = {fold: table.select(table.strat_fold == fold) for fold in (VAL_FOLD, TEST_FOLD)}
    whole = len(folds[TEST_FOLD])
    if partial:
        folds = {fold: truth.select(np.isin(truth.ecg_id, given.ecg_id)) for fold, truth in folds.items()}
        if not len(folds[TEST_FOLD]):
            raise DataError(f"{file} has no record of fold {TEST_FOLD} of {task}, expected some of its {whole:,}")
        partial = len(folds[TEST_FOLD]) < whole
        log(
            f"scored on {len(folds[TEST_FOLD]):,} of {whole:,} records of fold {TEST_FOLD}: for comparisons on these "
            "records, and on no board"
            if partial
            else f"{file} has all {whole:,} records of fold {TEST_FOLD}: --partial is not needed"
        )
    in_val = np.isin(given.ecg_id, folds[VAL_FOLD].ecg_id)
    unused = np.setdiff1d(records.ecg_id, [*folds[VAL_FOLD].ecg_id, *folds[TEST_FOLD].ecg_id])
    others = np.isin(given.ecg_id, unused)
    if others.any():
        log(_left_out(given.ecg_id[others], records, table.task, file))
    parts = {TEST_FOLD: ~(in_val | others)} | ({VAL_FOLD: in_val} if in_val.any() else {})
    # one label order and record order for all results of a task
    predictions = {}
    for fold, rows in sorted(parts.items()):
        _refuse_not_finite(given, rows, file)
        part = Predictions(given.ecg_id[rows], given.labels, given.logits[rows])
        try:
            scores = align(part, folds[fold].ecg_id, table.labels)
        except DataError as error:
            hint = "; --partial scores a part of it, for comparisons only" if "missing record" in str(error) else ""
            raise DataError(f"{file}, fold {fold} of {task}: {error}{hint}") from None
        predictions[fold] = Predictions(folds[fold].ecg_id, table.labels, as_logits(scores, scale, file))
    # a cell without training: no init, source rate and precision
    cell: dict[str, Any] = {
        "task": table.task,
        "arch": name,
        "method": EXTERNAL,
        "init": None,
        "fraction": fraction,
        "draw": draw,
        "seed": seed,
        "source_rate": None,
        "precision": None,
    }
    cell["command"] = _command(file, cell, scale) + " --partial" * partial
    # the document has the sections that boards read of any result
    document: dict[str, Any] = {
        "stage": PART if partial else "test",
        "cell": cell,
        "dataset": {
            "name": records.name,
            "synthetic": records.synthetic,
            "num_records": len(records),
            "licence": records.licence,
            "source": records.source,
            **reader_facts(records, data),
        },
        "task": task_facts(table),
        "init": {"name": EXTERNAL},
        "incompatible": None,
        "scores": {"scale": scale, "file": file.name, "sha256": hashlib.sha256(content).hexdigest()},
        "signals": {},
        "training": [],
        "metrics": {f"fold_{fold}": _scored(predictions[fold], folds[fold], fold) for fold in predictions},
        "environment": {
            "bench": bench.__version__,
            "python": platform.python_version(),
            **{package: version(package) for package in ("numpy", "scipy")},
        },
    }
    if compat == STRODTHOFF2020:
        test = folds[TEST_FOLD]
        document["compat"] = {compat: strodthoff2020(test.y_true, predictions[TEST_FOLD].logits, test.ecg_id)}
    elif compat == ALL_RECORDS:
        document["compat"] = {compat: _over_all_records(given, records, folds[TEST_FOLD], scale, file)}
    document["digest"] = external_digest(document, predictions)
    require_printable(document)
    # the folder is named after the row; `rivals` are older scores of the same row, draw and seed
    folder = re.sub(r"[^\w.+-]+", "-", name).strip("-.")
    at = f"-{fraction:g}-draw{draw}" if fraction < 1 else ""
    stem = f"{folder}-{EXTERNAL}{at}-seed{seed}-"
    result = Result(runs / table.task / f"{stem}{document['digest'][:8]}", document)
    rivals = [path for path in find_runs(result.folder.parent) if path != result.folder and path.name.startswith(stem)]
    rivals = [path for path in rivals if _place(load_result(path)) == _place(result)]
    if rivals and not overwrite:
        raise BenchError(
            f"{rivals[0]} has other scores of this name and seed; use another --name or --seed, "
            "or replace those with --overwrite"
        )
    # the new result is complete before old ones are removed
    with RunFolder(result.folder, "test", is_main=True) as run:
        result = run.finish(document, predictions)
    for path in rivals:
        shutil.rmtree(path)
    return result


def _left_out(ecg_id: NDArray[np.int64], records: Records, task: str, file: Path) -> str:
    """Return a message: how many records of a file are not scored, and why; and the option that scores some of them."""
    fold = records.strat_fold[pd.Index(records.ecg_id).get_indexer(pd.Index(ecg_id))]
    counts = {f"fold {TEST_FOLD} without a label of {task}": np.count_nonzero(fold == TEST_FOLD)}
    counts |= {f"fold {VAL_FOLD} without one": np.count_nonzero(fold == VAL_FOLD)}
    counts |= {"folds 1-8": np.count_nonzero(fold < VAL_FOLD)}
    words = ", ".join(f"{number:,} of {where}" for where, number in counts.items() if number)
    hint = f"; --compat {ALL_RECORDS} also scores all records of fold {TEST_FOLD}" if (fold == TEST_FOLD).any() else ""
    return f"{len(ecg_id):,} records of {file} are left out: {words}{hint}"


def _over_all_records(
    given: Predictions, records: Records, test: LabelTable, scale: str | None, file: Path
) -> dict[str, Any]:
    """Return metrics over all records of fold 10. A record without a label of the task is a negative of every label.

    Some publications score all records. Boards do not rank by these numbers.
    """
    chosen = records.strat_fold == TEST_FOLD
    ecg_id, patient_id = records.ecg_id[chosen], records.patient_id[chosen]
    if missing := sorted({*ecg_id.tolist()} - {*given.ecg_id.tolist()}):
        raise DataError(
            f"{file} lacks {len(missing):,} of the {len(ecg_id):,} records of fold {TEST_FOLD}, the first "
            f"{missing[0]}; --compat {ALL_RECORDS} needs them all, also those without a label of {test.task}"
        )
    kept = np.isin(given.ecg_id, ecg_id)
    scores = align(Predictions(given.ecg_id[kept], given.labels, given.logits[kept]), ecg_id, test.labels)
    y_true = np.zeros(scores.shape, dtype=bool)
    y_true[pd.Index(ecg_id).get_indexer(pd.Index(test.ecg_id))] = test.y_true
    return score_fold(y_true, as_logits(scores, scale, file), test.labels, patient_id)


def _place(result: Result) -> tuple[object, ...]:
    """Return the board, row, draw and seed of a result."""
    return result.board, result.row, result.place


def _scored(predictions: Predictions, truth: LabelTable, fold: int) -> dict[str, Any]:
    patients = truth.patient_id if fold == TEST_FOLD else None
    return score_fold(truth.y_true, predictions.logits, truth.labels, patients)


def _command(file: Path, cell: Mapping[str, Any], scale: str | None) -> str:
    """Return the command line that produces this result, for the folder of the file and the default data folder."""
    arguments = ["bench", "score", file.name, "--task", cell["task"], "--name", cell["arch"]]
    arguments += ["--scale", scale] if scale else []
    arguments += ["--fraction", repr(cell["fraction"]), "--draw", str(cell["draw"])] if cell["fraction"] < 1 else []
    arguments += ["--seed", str(cell["seed"])] if cell["seed"] else []
    return shlex.join(arguments)


def external_digest(document: Mapping[str, Any], predictions: Mapping[int, Predictions]) -> str:
    """Return SHA-256 over name, task, fraction, seed, scale and all scores of an external result."""
    cell = document["cell"]
    facts = [document["task"]["fingerprint"], document["scores"]["scale"]]
    facts += [cell[key] for key in ("arch", "fraction", "draw", "seed")]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for _, scores in sorted(predictions.items()):
        digest.update(scores.ecg_id.astype("<i8").tobytes() + scores.logits.astype("<f8").tobytes())
    return digest.hexdigest()


def as_logits(scores: np.ndarray[Any, Any], scale: str | None, file: Path) -> np.ndarray[Any, Any]:
    """Return scores [record, label] as float64: probabilities converted to logits, other scores unchanged.

    0 and 1 become -800 and 800, which are beyond all other logits and which a sigmoid converts back to 0 and 1.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scale != "probability":
        return scores
    if scores.min() < 0 or scores.max() > 1:
        raise DataError(
            f"{file}: scores range from {scores.min():.4g} to {scores.max():.4g}, so they are not probabilities; "
            "use --scale logit"
        )
    inside = np.clip(scores, np.nextafter(0, 1), np.nextafter(1, 0))
    logits = np.log(inside) - np.log1p(-inside)
    return np.where(scores == 0, -800.0, np.where(scores == 1, 800.0, logits))


def _refuse_not_finite(given: Predictions, rows: np.ndarray[Any, Any], file: Path) -> None:
    """Raise DataError with row and column if a score is NaN or infinite."""
    wrong = np.argwhere(~np.isfinite(given.logits) & rows[:, None])
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"{file}: row {row + 1} (ecg_id {given.ecg_id[row]}), column {given.labels[column]} has "
            f"{given.logits[row, column]}, expected a finite number; {len(wrong):,} such scores in all"
        )


HOW_TO_SAVE = "np.savez('scores.npz', ecg_id=ids, labels=np.array(labels, dtype=str), y_score=scores)"
SAVE_ARRAY = (
    f"save it by {HOW_TO_SAVE}, where ids has the ecg_id of each row and labels the label of each column; "
    "if the rows are fold 10 in the dataset's order, ids is table.ecg_id[table.strat_fold == 10] with "
    "table = pandas.read_csv('ptbxl_database.csv'), without the records that the authors left out"
)


def _content(path: Path) -> bytes:
    """Return the bytes of a file of scores, or of a program's output, which can be read only once."""
    try:
        return read_bytes(path, may_be_pipe=True)
    except FileNotFoundError:
        raise DataError(f"no file at {path}: expected a CSV or npz file of scores") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def read_scores(path: Path, content: bytes, labels: Sequence[str], log: Callable[[str], None]) -> Predictions:
    """Parse scores: CSV text (ecg_id, then a column for each label), its gzip, or an npz file of three arrays.

    The first bytes decide which format it is. Columns of a CSV file that are not in `labels` are left out, and `log`
    receives their names. Raises DataError with `path` for any other content.
    """
    try:
        if content.startswith(b"\x1f\x8b"):
            content = _unpacked(content, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if content.startswith(b"\x93NUMPY"):
        raise DataError(f"{path} is an array{_shape(content)} without ecg_ids and labels; {SAVE_ARRAY}")
    if path.suffix == ".npz":
        return _read_npz(path, content)
    if path.suffix in NO_TABLES:
        raise DataError(f"{path} is a {path.suffix} file, expected a CSV file, or an npz file by {HOW_TO_SAVE}")
    return _read_csv(path, decode(content, path), labels, log)


def _unpacked(content: bytes, path: Path) -> bytes:
    """Unpack gzip. Raises DataError for more than MOST_BYTES, of which a small file can hold any number."""
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        unpacked = file.read(MOST_BYTES + 1)
    if len(unpacked) > MOST_BYTES:
        raise DataError(f"{path} unpacks to more than {MOST_BYTES:,} bytes, which no table of scores has")
    return unpacked


def _shape(content: bytes) -> str:
    """Return the shape of an .npy file's array in words; empty if it cannot be read."""
    try:
        return f" of shape {np.load(io.BytesIO(content), allow_pickle=False).shape}"
    except (ValueError, OSError, EOFError):
        return ""


NO_TABLES = (".pkl", ".pickle", ".parquet", ".feather", ".json", ".h5", ".hdf5", ".pt", ".mat", ".xlsx", ".xls")


def _read_npz(path: Path, content: bytes) -> Predictions:
    refuse_pointer(path, content[:64] if not content.startswith(b"PK") else b"")
    advice = f"save it by {HOW_TO_SAVE}"
    with open_arrays(io.BytesIO(content), path, "a readable npz file of scores", advice) as file:
        missing = [name for name in ("ecg_id", "labels", "y_score") if name not in file.files]
        if missing:
            raise DataError(f"{path} lacks {', '.join(missing)}; it has {', '.join(file.files)}; {advice}")
        arrays = {name: _load(file, name, path) for name in ("ecg_id", "labels", "y_score")}
        labels = tuple(label.decode() if isinstance(label, bytes) else str(label) for label in arrays["labels"])
        if np.iscomplexobj(arrays["y_score"]):
            raise DataError(f"{path}: y_score has complex numbers, expected real numbers")
        ecg_id, y_score = _ids(arrays["ecg_id"], path), np.asarray(arrays["y_score"], dtype=np.float64)
    if y_score.shape != (len(ecg_id), len(labels)):
        raise DataError(
            f"{path}: y_score has the shape {y_score.shape}, expected [record, label] = "
            f"{(len(ecg_id), len(labels))} by the lengths of ecg_id and labels"
        )
    return Predictions(ecg_id, labels, y_score)


def _load(file: Any, name: str, path: Path) -> np.ndarray[Any, Any]:
    """Return an array of an npz file. Raises DataError for Python objects, because loading these could run code."""
    try:
        array: np.ndarray[Any, Any] = file[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{path}: {name} is an array of Python objects, which is not loaded, as that could run code; save it by "
            f"{HOW_TO_SAVE}"
        ) from None
    return array


def _read_csv(path: Path, text: str, labels: Sequence[str], log: Callable[[str], None]) -> Predictions:
    """Read scores from CSV text. A first column without a name is skipped: it is the index that pandas writes."""
    try:
        head = [name.strip() for name in next(csv.reader(io.StringIO(text)), [])]
        if head.count("ecg_id") != 1:
            raise DataError(
                f"{path} needs one column ecg_id and a column for each label, separated by commas; "
                f"it has {', '.join(head[:8]) or 'none'}"
            )
        # an error, because pandas would drop extra fields
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            table = pd.read_csv(
                io.StringIO(text), header=None, skiprows=1, names=range(len(head)), index_col=False, low_memory=False
            )
    except (csv.Error, ValueError, pd.errors.ParserWarning) as error:
        raise DataError(f"{path} is not a readable CSV file: {str(error).splitlines()[0]}") from None
    kept = _label_columns(head, labels, path, log)
    at = head.index("ecg_id")
    scores = table[kept]
    for column in map(int, scores.columns.tolist()):
        numbers = pd.to_numeric(scores[column], errors="coerce")
        wrong = np.flatnonzero(numbers.isna() & scores[column].notna())
        if len(wrong):
            text = scores[column].iloc[wrong[0]]
            record = table[at].iloc[wrong[0]]
            raise DataError(f"{path}: the score of {record}/{head[column]} is {text!r}, expected a number")
        scores[column] = numbers
    return Predictions(_ids(table[at].to_numpy(), path), tuple(head[p] for p in kept), scores.to_numpy(np.float64))


def _label_columns(head: Sequence[str], labels: Sequence[str], path: Path, log: Callable[[str], None]) -> list[int]:
    """Return the positions of the labels' columns. Raises DataError if a label has none, with columns of similar names.

    A first column without a name is the index that pandas writes.
    """
    kept = [place for place, name in enumerate(head) if name in labels]
    others = [
        name
        for place, name in enumerate(head)
        if name != "ecg_id" and name not in labels and (place or name not in ("", "Unnamed: 0"))
    ]
    if missing := [label for label in labels if label not in head]:
        words = f"{path} has no column for {'labels' if len(missing) > 1 else 'label'} {', '.join(missing[:NUM_NAMED])}"
        words += ", ..." if len(missing) > NUM_NAMED else ""
        words += f"; it has {', '.join(others[:8])}{', ...' if len(others) > 8 else ''}" if others else ""
        near = [name for name in others if re.search(rf"(?<![^\W_]){re.escape(missing[0])}(?![^\W_])", name)]
        hint = f": rename {' or '.join(map(repr, near))} to {missing[0]!r}, and so on" if near else ""
        raise DataError(f"{words}. Name each column of scores as its label{hint}")
    if others:
        log(f"{len(others)} columns of {path} are not labels of the task and are left out: {', '.join(others)}")
    return kept


LARGEST_ID = 2**53
"""Whole numbers below it are exact as floating-point numbers."""


def _ids(values: np.ndarray[Any, Any], path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~(abs(numbers) < LARGEST_ID) | (numbers % 1 != 0))
    if len(wrong):
        raise DataError(f"{path}: ecg_id in row {wrong[0] + 1} is {values[wrong[0]]}, expected a whole number")
    return numbers.astype(np.int64)
