"""Turn scores of any program into a result, marked as external. Needs only the two tables of the data set."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
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
from bench.errors import BenchError, DataError
from bench.evaluation.predictions import Predictions, align
from bench.evaluation.scores import score_fold, strodthoff2020
from bench.results.document import require_printable
from bench.results.numbers import fraction_and_draw, seed_or_draw
from bench.results.result import EXTERNAL, PART, Result, find_runs, load_result
from bench.results.run_folder import RunFolder
from bench.results.score_file import read_content, read_scores, refuse_not_finite

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

    With `partial` the file may lack records of a fold; then the stage is PART, unless it has all of fold 10. Beside all
    of fold 10, a part of fold 9 is left out.

    `scale` is logit, probability or None (unknown; then no calibration is computed). `compat` adds the numbers of
    another protocol: STRODTHOFF2020, or ALL_RECORDS of fold 10. `log` receives a line about records and columns that
    are left out. Raises BenchError if other scores of this name, draw and seed exist, unless `overwrite`.
    """
    _check_options(name, partial, compat)
    fraction, draw = fraction_and_draw(fraction, draw)
    seed = seed_or_draw("seed", seed)
    records = load_records(data)
    table = label_table(records, find_task(task, records))
    content = read_content(file)
    given = read_scores(file, content, table.labels, log)
    folds = {fold: table.select(table.strat_fold == fold) for fold in (VAL_FOLD, TEST_FOLD)}
    scored = given
    if partial:
        folds, scored = _scored_part(folds, given, file, log)
        partial = len(folds[TEST_FOLD]) < int((table.strat_fold == TEST_FOLD).sum())
    predictions = _predictions(scored, folds, records, scale, file, log)
    cell = _cell(table.task, name, fraction, draw, seed)
    cell["command"] = _command(file, cell, scale, compat) + " --partial" * (partial or scored is not given)
    document: dict[str, Any] = {
        "stage": PART if partial else "test",
        "cell": cell,
        **_facts(records, table, data),
        "scores": {"scale": scale, "file": file.name, "sha256": hashlib.sha256(content).hexdigest()},
        "metrics": {f"fold_{fold}": _scored(predictions[fold], folds[fold], fold) for fold in predictions},
    }
    if compat == STRODTHOFF2020:
        test = folds[TEST_FOLD]
        document["compat"] = {compat: strodthoff2020(test.y_true, predictions[TEST_FOLD].logits, test.ecg_id)}
    elif compat == ALL_RECORDS:
        document["compat"] = {compat: _over_all_records(given, records, folds[TEST_FOLD], scale, file)}
    document["digest"] = external_digest(document, predictions)
    require_printable(document)
    return _write(document, predictions, runs, overwrite)


def _check_options(name: str, partial: bool, compat: str | None) -> None:
    """Raise BenchError for a name that may not be used, or an option that another one excludes."""
    if not NAME.fullmatch(name):
        raise BenchError(
            f"--name {name!r}: expected a letter or digit, then up to 99 of letters, digits, spaces and . + - ( ) , = '"
        )
    if partial and compat:
        raise BenchError(f"--partial and --compat {compat} exclude each other: {compat} needs the whole fold")


def _cell(task: str, name: str, fraction: float, draw: int, seed: int) -> dict[str, Any]:
    """Return a cell without training: no init, source rate and precision. Runs of other draws are independent."""
    return {
        "task": task,
        "arch": name,
        "method": EXTERNAL,
        "init": None,
        "fraction": fraction,
        "draw": draw,
        "seed": seed,
        "streams": "draw and seed" if draw else "seed",
        "source_rate": None,
        "precision": None,
    }


def _scored_part(
    folds: Mapping[int, LabelTable], given: Predictions, file: Path, log: Callable[[str], None]
) -> tuple[dict[int, LabelTable], Predictions]:
    """Return the folds without the records that the file lacks, and the predictions to score.

    Beside all of fold 10 these lack a part of fold 9: thresholds and calibration, which it is for, need all of it.
    """
    kept = {fold: truth.select(np.isin(truth.ecg_id, given.ecg_id)) for fold, truth in folds.items()}
    test, whole = kept[TEST_FOLD], len(folds[TEST_FOLD])
    if not len(test):
        raise DataError(f"{file} has no record of fold {TEST_FOLD} of {test.task}, expected some of its {whole:,}")
    if len(test) == whole:
        num, num_val = len(kept[VAL_FOLD]), len(folds[VAL_FOLD])
        if num in (0, num_val):
            log(f"{file} has all {whole:,} records of fold {TEST_FOLD}: --partial is not needed")
            return dict(folds), given
        log(
            f"{file} has all {whole:,} records of fold {TEST_FOLD}, and {num:,} of {num_val:,} of fold {VAL_FOLD}, "
            "which are left out: thresholds and calibration need all of them"
        )
        rows = ~np.isin(given.ecg_id, folds[VAL_FOLD].ecg_id)
        return dict(folds), Predictions(given.ecg_id[rows], given.labels, given.logits[rows])
    log(
        f"scored on {len(test):,} of {whole:,} records of fold {TEST_FOLD}: for comparisons on these records, and on "
        "no board"
    )
    return kept, given


def _predictions(
    given: Predictions,
    folds: Mapping[int, LabelTable],
    records: Records,
    scale: str | None,
    file: Path,
    log: Callable[[str], None],
) -> dict[int, Predictions]:
    """Return fold -> logits in the order of records and labels that all results of a task have.

    Records of other folds are left out, and `log` receives their number. Raises DataError if a fold is incomplete;
    fold 9 may be missing as a whole.
    """
    task = folds[TEST_FOLD].task
    in_val = np.isin(given.ecg_id, folds[VAL_FOLD].ecg_id)
    unused = np.setdiff1d(records.ecg_id, [*folds[VAL_FOLD].ecg_id, *folds[TEST_FOLD].ecg_id])
    others = np.isin(given.ecg_id, unused)
    if others.any():
        log(_left_out(given.ecg_id[others], records, task, file))
    rows_of = {TEST_FOLD: ~(in_val | others)} | ({VAL_FOLD: in_val} if in_val.any() else {})
    predictions = {}
    for fold, rows in sorted(rows_of.items()):
        refuse_not_finite(given, rows, file)
        part = Predictions(given.ecg_id[rows], given.labels, given.logits[rows])
        try:
            scores = align(part, folds[fold].ecg_id, folds[fold].labels)
        except DataError as error:
            hint = "scores a part of it, for comparisons only" if fold == TEST_FOLD else "goes on without them"
            hint = f"; --partial {hint}" if "missing record" in str(error) else ""
            raise DataError(f"{file}, fold {fold} of {task}: {error}{hint}") from None
        predictions[fold] = Predictions(folds[fold].ecg_id, folds[fold].labels, as_logits(scores, scale, file))
    return predictions


def _facts(records: Records, table: LabelTable, data: Path) -> dict[str, Any]:
    """Return the sections of a document that boards read of any result."""
    return {
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
        "signals": {},
        "training": [],
        "environment": {
            "bench": bench.__version__,
            "python": platform.python_version(),
            **{package: version(package) for package in ("numpy", "scipy")},
        },
    }


def _write(document: Mapping[str, Any], predictions: Mapping[int, Predictions], runs: Path, overwrite: bool) -> Result:
    """Write the result to a folder named after its row. Raises BenchError if older scores stand in its place."""
    cell = document["cell"]
    folder = re.sub(r"[^\w.+-]+", "-", cell["arch"]).strip("-.")
    at = f"-{cell['fraction']:g}-draw{cell['draw']}" if cell["fraction"] < 1 else ""
    stem = f"{folder}-{EXTERNAL}{at}-seed{cell['seed']}-"
    result = Result(runs / cell["task"] / f"{stem}{document['digest'][:8]}", document)
    older = [path for path in find_runs(result.folder.parent) if path != result.folder and path.name.startswith(stem)]
    older = [path for path in older if _place(load_result(path)) == _place(result)]
    if older and not overwrite:
        raise BenchError(
            f"{older[0]} has other scores of this name and seed; use another --name or --seed, "
            "or replace those with --overwrite"
        )
    # the new result is complete before old ones are removed
    with RunFolder(result.folder, "test", is_main=True) as run:
        result = run.finish(document, predictions)
    for path in older:
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


def _command(file: Path, cell: Mapping[str, Any], scale: str | None, compat: str | None) -> str:
    """Return the command line that produces this result, for the folder of the file and the default data folder."""
    arguments = ["bench", "score", file.name, "--task", cell["task"], "--name", cell["arch"]]
    arguments += ["--scale", scale] if scale else []
    arguments += ["--compat", compat] if compat else []
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
