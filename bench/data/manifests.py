"""Write and read manifests: lists of the ecg_ids of train, val and test, with which others can repeat a split.

A JSON manifest also holds counts; a CSV manifest has the columns `ecg_id` and `split`. Lists made by other programs are
read too: a CSV without `split` is a list of training records, and JSON needs only `train`.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.records import Records
from bench.data.splits import TEST_FOLD, VAL_FOLD, Split, held_out
from bench.data.tasks import LabelTable
from bench.data.text import read_text
from bench.errors import DataError, first_line
from bench.files import write_asked

SCHEMA = 1
FOLDS = {"train": "folds 1-8", "val": "fold 9", "test": "fold 10"}
PARTS = tuple(FOLDS)
NUM_NAMED = 5
MAX_BYTES = 50_000_000
"""Maximum size of a manifest file, far above that of a list of all records of PTB-XL."""


@dataclass(frozen=True)
class Manifest:
    """The ecg_ids of train, val and test as a file lists them, not yet checked against a data set."""

    source: str
    """Path of the file, for messages."""
    train: tuple[int, ...]
    """ecg_ids"""
    val: tuple[int, ...] | None = None
    """ecg_ids; None if the manifest has no such part, so that the fold decides."""
    test: tuple[int, ...] | None = None
    fingerprint: str | None = None
    """Fingerprint of the task for which the manifest was written, if the file has it."""


def describe_split(table: LabelTable, split: Split, dataset: str) -> dict[str, Any]:
    """Return the manifest of a split as plain data: ecg_ids, positives of each label, labels without a positive."""
    parts = {"train": split.train, "val": split.val, "test": held_out(table)}
    positives = {name: part.y_true.sum(axis=0).tolist() for name, part in parts.items()}
    return {
        "schema": SCHEMA,
        "dataset": dataset,
        "task": table.task,
        "fingerprint": table.fingerprint,
        "fraction": split.fraction,
        "draw": split.draw,
        "records": {name: len(part) for name, part in parts.items()},
        "patients": {name: len(np.unique(part.patient_id)) for name, part in parts.items()},
        "labels": {
            label: {name: counts[column] for name, counts in positives.items()}
            for column, label in enumerate(table.labels)
        },
        "labels_without_a_positive": {
            name: [label for label, count in zip(table.labels, counts, strict=True) if count == 0]
            for name, counts in positives.items()
        },
        **{name: part.ecg_id.tolist() for name, part in parts.items()},
    }


def manifest_text(described: Mapping[str, Any], ending: str) -> str:
    """Return the text of a manifest file: JSON, or CSV with the columns `ecg_id` and `split`."""
    if ending == ".json":
        return json.dumps(described) + "\n"
    if ending != ".csv":
        raise DataError(f"a manifest is a .json or a .csv file, not {ending or 'one without an ending'}")
    rows = sorted((ecg_id, name) for name in PARTS for ecg_id in described[name])
    return "ecg_id,split\n" + "".join(f"{ecg_id},{name}\n" for ecg_id, name in rows)


def write_manifest(described: Mapping[str, Any], path: Path) -> None:
    """Write a manifest atomically, as JSON or CSV by the ending of `path`. Raises DataError if it cannot be written."""
    write_asked(path, manifest_text(described, path.suffix))


def read_manifest(path: Path) -> Manifest:
    """Read a manifest from a .json or .csv file. Raises DataError for any other content."""
    if path.suffix not in (".json", ".csv"):
        raise DataError(f"{path}: a manifest is a .json or a .csv file")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size / 1e6:.0f} MB; a list of ecg_ids is smaller")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    text = read_text(path)
    return _from_json(text, str(path)) if path.suffix == ".json" else _from_csv(text, str(path))


def read_split(path: Path, table: LabelTable, records: Records) -> Split:
    """Read a manifest file and return its split; see `read_manifest` and `split_of`."""
    return split_of(read_manifest(path), table, records.ecg_id)


def split_of(manifest: Manifest, table: LabelTable, known: npt.NDArray[np.int64]) -> Split:
    """Return the split that a manifest lists. `known` [record] are the ecg_ids of the data set.

    Training records must be of folds 1-8 and validation records of fold 9; a manifest may use subsets of both. The test
    set is always fold 10; a manifest with another test set is refused, because its scores could not be compared with
    others. Records without a label of the task are dropped. Raises DataError for records of another fold, unknown or
    repeated records, and a fingerprint that differs from the task's.
    """
    source = manifest.source
    if manifest.fingerprint is not None and manifest.fingerprint != table.fingerprint:
        raise DataError(
            f"{source} was written for a task with fingerprint {manifest.fingerprint[:8]}, and {table.task} has "
            f"{table.fingerprint[:8]} here: other labels, records or folds; remove it to use the ecg_ids"
        )
    folds = {"train": table.strat_fold < VAL_FOLD, "val": table.strat_fold == VAL_FOLD}
    folds["test"] = table.strat_fold == TEST_FOLD
    # each part must hold known records of its own folds, each once
    chosen = {}
    for name, fold in folds.items():
        given = getattr(manifest, name)
        if given is None:
            chosen[name] = fold
            continue
        if twice := [ecg_id for ecg_id, count in Counter(given).items() if count > 1]:
            raise DataError(f"{source} names {_some(twice)} twice in {name}")
        if unknown := sorted({*given}.difference(known.tolist())):
            raise DataError(f"{source} names {_some(unknown)} for {name}, which this dataset does not have")
        chosen[name] = np.isin(table.ecg_id, given)
        if (outside := chosen[name] & ~fold).any():
            raise DataError(
                f"{source} has {_some(table.ecg_id[outside].tolist())} in {name}, not of {FOLDS[name]}; folds 1-8 "
                "train, 9 selects and 10 tests, in every manifest"
            )
        if not chosen[name].any():
            raise DataError(f"{source} names no record for {name} that has a label of task {table.task}")
    # the test set is not a choice: scores are only comparable on all of fold 10
    if (lacking := folds["test"] & ~chosen["test"]).any():
        raise DataError(
            f"{source} tests without {_some(table.ecg_id[lacking].tolist())} of fold 10: scores of another test set "
            "cannot be compared; remove its test part to test on all of fold 10"
        )
    train, val = table.select(chosen["train"]), table.select(chosen["val"])
    if not len(val):
        raise DataError(f"task {table.task} has no record in fold {VAL_FOLD}")
    return Split(
        train,
        val,
        fraction=len(train) / int(folds["train"].sum()),
        draw=0,
        whole=bool((chosen["train"] == folds["train"]).all() and (chosen["val"] == folds["val"]).all()),
    )


def _some(ecg_ids: list[int]) -> str:
    shown = ", ".join(map(str, sorted(ecg_ids)[:NUM_NAMED])) + (", ..." if len(ecg_ids) > NUM_NAMED else "")
    return f"record {shown}" if len(ecg_ids) == 1 else f"{len(ecg_ids):,} records ({shown})"


def _from_json(text: str, source: str) -> Manifest:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not JSON: {first_line(error)}") from None
    if not isinstance(document, dict) or "train" not in document:
        raise DataError(f"{source} is not a manifest: expected an object with a list `train` of ecg_ids")
    if document.get("schema", SCHEMA) != SCHEMA:
        raise DataError(f"{source} has schema {document['schema']!r:.20}, this version reads {SCHEMA}")
    parts = {name: document.get(name) for name in PARTS}
    for name, ecg_ids in parts.items():
        is_list = isinstance(ecg_ids, list) and all(type(i) is int and 0 <= i < 2**53 for i in ecg_ids)
        if not is_list and (ecg_ids is not None or name == "train"):
            raise DataError(f"{source}: {name} is not a list of ecg_ids")
    fingerprint = document.get("fingerprint")
    if fingerprint is not None and not isinstance(fingerprint, str):
        raise DataError(f"{source}: fingerprint is not a text")
    ecg_ids_of = {name: None if ids is None else tuple(ids) for name, ids in parts.items()}
    return Manifest(source, ecg_ids_of["train"] or (), ecg_ids_of["val"], ecg_ids_of["test"], fingerprint)


def _from_csv(text: str, source: str) -> Manifest:
    parts: dict[str, list[int]] = {name: [] for name in PARTS}
    try:
        rows = csv.DictReader(io.StringIO(text), strict=True)
        columns = rows.fieldnames or ()
        if "ecg_id" not in columns:
            raise DataError(f"{source} has no column ecg_id; it has {', '.join(columns)[:80] or 'none'}")
        for row in rows:
            name, number = row.get("split", "train"), (row["ecg_id"] or "").strip().removesuffix(".0")
            if name not in parts:
                raise DataError(
                    f"{source}, line {rows.line_num}: split is {str(name)[:20]!r}, expected train, val or test"
                )
            if not (number.isascii() and number.isdecimal() and len(number) < 16):
                raise DataError(f"{source}, line {rows.line_num}: ecg_id is {number[:20]!r}, expected a whole number")
            parts[name].append(int(number))
    except csv.Error as error:
        raise DataError(f"{source} is not a readable CSV file: {error}") from None
    return Manifest(source, tuple(parts["train"]), tuple(parts["val"]) or None, tuple(parts["test"]) or None)
