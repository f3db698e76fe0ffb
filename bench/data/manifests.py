"""A split becomes a list that others can run, and the other way round: ecg_ids of train, val and test.

JSON holds everything; CSV has the columns `ecg_id` and `split`. Lists of others are read too: a CSV without `split` is
a list of training records, and JSON needs `train` alone.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.splits import TEST_FOLD, VAL_FOLD, Split, held_out
from bench.data.tasks import LabelTable
from bench.errors import DataError

SCHEMA = 1
PARTS = ("train", "val", "test")
NUM_NAMED = 5
MAX_BYTES = 50_000_000
"""Far beyond any list of PTB-XL's records; what is larger is no manifest."""


@dataclass(frozen=True)
class Manifest:
    """Which records train, select and test, as somebody wrote it down; not yet held against a dataset."""

    source: str
    """Where it is from, for messages."""
    train: tuple[int, ...]
    """ecg_ids"""
    val: tuple[int, ...] | None = None
    """ecg_ids; None where the manifest leaves it to the folds."""
    test: tuple[int, ...] | None = None
    fingerprint: str | None = None
    """Of the task it was written for, where it says so."""


def describe_split(table: LabelTable, split: Split, dataset: str) -> dict[str, Any]:
    """The manifest of a split as plain data: ecg_ids, positives a label and part, labels without a positive."""
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
    """The text of a manifest file: JSON, or CSV with the columns `ecg_id` and `split`."""
    if ending == ".json":
        return json.dumps(described) + "\n"
    if ending != ".csv":
        raise DataError(f"a manifest is a .json or a .csv file, not {ending or 'one without an ending'}")
    rows = sorted((ecg_id, name) for name in PARTS for ecg_id in described[name])
    return "ecg_id,split\n" + "".join(f"{ecg_id},{name}\n" for ecg_id, name in rows)


def write_manifest(described: Mapping[str, Any], path: Path) -> None:
    """Write a manifest, JSON or CSV by the ending of `path`, whole or not at all."""
    text = manifest_text(described, path.suffix)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror}") from None


def read_manifest(path: Path) -> Manifest:
    """The manifest in a .json or .csv file; raises DataError for what is none."""
    if path.suffix not in (".json", ".csv"):
        raise DataError(f"{path}: a manifest is a .json or a .csv file")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size / 1e6:.0f} MB; a list of ecg_ids is smaller")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file") from None
    return _from_json(text, str(path)) if path.suffix == ".json" else _from_csv(text, str(path))


def split_of(manifest: Manifest, table: LabelTable) -> Split:
    """The split that a manifest names, with `split.manifest` set to the SHA-256 of its training ecg_ids.

    Its training records are of folds 1-8. Folds 9 and 10 are the protocol's and stay whole: a manifest may name them,
    and is refused if it names others, as its scores could not stand beside anyone's. Raises DataError for that, for
    records that the task lacks here, twice named ones, and a fingerprint of other labels or folds.
    """
    source = manifest.source
    if manifest.fingerprint is not None and manifest.fingerprint != table.fingerprint:
        raise DataError(
            f"{source} was written for a task with fingerprint {manifest.fingerprint[:8]}, and {table.task} has "
            f"{table.fingerprint[:8]} here: other labels, records or folds; without its fingerprint it is taken as ids"
        )
    if not manifest.train:
        raise DataError(f"{source} names no training record")
    folds = dict(zip(table.ecg_id.tolist(), table.strat_fold.tolist(), strict=True))
    for name in PARTS:
        given = getattr(manifest, name) or ()
        if twice := [ecg_id for ecg_id, count in Counter(given).items() if count > 1]:
            raise DataError(f"{source} names {_some(twice)} twice in {name}")
        if unknown := [ecg_id for ecg_id in given if ecg_id not in folds]:
            raise DataError(
                f"{source} names {_some(unknown)} for {name}, which task {table.task} does not have in this dataset"
            )
    if wrong := [ecg_id for ecg_id in manifest.train if folds[ecg_id] >= VAL_FOLD]:
        raise DataError(f"{source} trains on {_some(wrong)}, of fold 9 or 10; folds 1-8 train")
    for name, fold in (("val", VAL_FOLD), ("test", TEST_FOLD)):
        given = getattr(manifest, name)
        whole = {ecg_id for ecg_id, its in folds.items() if its == fold}
        if given is not None and (off := whole ^ set(given)):
            raise DataError(
                f"{source}: {name} is not fold {fold} of task {table.task}; {_some(sorted(off))} lacking or too many"
            )
    train = table.select(np.isin(table.ecg_id, manifest.train))
    val = table.select(table.strat_fold == VAL_FOLD)
    if not len(val):
        raise DataError(f"task {table.task} has no record in fold {VAL_FOLD}")
    torn = np.intersect1d(train.patient_id, table.patient_id[table.strat_fold >= VAL_FOLD])
    if len(torn):
        raise DataError(
            f"{source} trains on patient {torn[0]}, who has records in fold 9 or 10 too; the test would leak"
        )
    return Split(train, val, len(train) / int((table.strat_fold < VAL_FOLD).sum()), 0, hash_ids(train.ecg_id))


def hash_ids(ecg_id: npt.NDArray[np.int64]) -> str:
    """SHA-256 over these records' ecg_ids, whatever their order."""
    return hashlib.sha256(np.sort(ecg_id).astype("<i8").tobytes()).hexdigest()


def _some(ecg_ids: list[int]) -> str:
    shown = ", ".join(map(str, sorted(ecg_ids)[:NUM_NAMED])) + (", ..." if len(ecg_ids) > NUM_NAMED else "")
    return f"record {shown}" if len(ecg_ids) == 1 else f"{len(ecg_ids):,} records ({shown})"


def _from_json(text: str, source: str) -> Manifest:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict) or "train" not in found:
        raise DataError(f"{source} is no manifest: expected an object with a list `train` of ecg_ids")
    if found.get("schema", SCHEMA) != SCHEMA:
        raise DataError(f"{source} has schema {str(found['schema'])[:20]}, this version reads {SCHEMA}")
    parts = {name: found.get(name) for name in PARTS}
    for name, ecg_ids in parts.items():
        is_list = isinstance(ecg_ids, list) and all(type(i) is int and 0 <= i < 2**53 for i in ecg_ids)
        if not is_list and (ecg_ids is not None or name == "train"):
            raise DataError(f"{source}: {name} is not a list of ecg_ids")
    fingerprint = found.get("fingerprint")
    if fingerprint is not None and not isinstance(fingerprint, str):
        raise DataError(f"{source}: fingerprint is not a text")
    listed = {name: None if ids is None else tuple(ids) for name, ids in parts.items()}
    return Manifest(source, listed["train"] or (), listed["val"], listed["test"], fingerprint)


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
