"""Test finished runs elsewhere: on another data set's records, or on fold 10 after corruption. Nothing is trained."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.corruptions import Corruption
from bench.data.datasets import load_records
from bench.data.datasets.held import reader_facts
from bench.data.formats import read_signals
from bench.data.prepared import INVALID, PADDED, ZEROS, choose_source_rate
from bench.data.records import Records
from bench.data.shared_labels import SharedLabel, shared_labels, truth_of_shared
from bench.data.signals import Signal
from bench.data.splits import TEST_FOLD
from bench.data.tasks import find_task, label_table
from bench.data.waveforms import KINDS, Note
from bench.errors import BenchError, DataError
from bench.evaluation.predictions import Predictions
from bench.evaluation.scores import replicates_for, score_fold
from bench.inference import Trained, load_trained
from bench.provenance import trained_before
from bench.results.elsewhere import Evaluation, Truths, folder_of, load_evaluation, write_evaluation
from bench.results.numbers import seed_or_draw
from bench.results.result import Result, load_result, row_name
from bench.training.distributed import choose_device, set_numerics
from bench.training.features import EVALUATION_BATCH

Progress = Callable[[int, int], None]
"""Callback with the number of records done and the number of all records."""
WHOLE_SET = "all records; no folds, nothing trained or selected on them"
"""How records of another data set are used."""
VERSION = r"v?\d[\w.+-]*|[0-9a-f]{8}"
"""Pattern of a data set's version, or of its content, at the end of its display name."""
OF_FOLD = f"fold {TEST_FOLD} of the data set of its training; nothing trained or selected on it"


@dataclass(frozen=True, eq=False)
class Scope:
    """Which records and labels of a data set test a run."""

    shared: tuple[SharedLabel, ...]
    rows: npt.NDArray[np.int64]
    """[record], positions in the data set's records"""
    y_true: npt.NDArray[np.bool_]
    """[record, label]"""
    words: str
    """WHOLE_SET or OF_FOLD."""


def evaluate(
    run: Path,
    data: Path,
    corruptions: Sequence[Corruption] = (),
    seed: int = 0,
    source_rate: int | None = None,
    log: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Score a finished run, with the weights that it kept, on the records in `data`, and keep this beside its result.

    The labels are those that both data sets have. On the data set of its training only fold 10 is used, and only with a
    corruption. `seed` is that of the corruptions; without one it is 0. Raises CheckpointError if the run kept no
    weights, DataError without a common label, and BenchError for a seed or a corruption that changes nothing.
    """
    seed = seed_or_draw("seed", seed)
    seed = seed if corruptions else 0  # it changes nothing then, and is no other test
    trained, records = load_trained(run), load_records(data)
    for each in corruptions:
        if each.name == "short" and each.strength >= trained.length_s:
            raise BenchError(
                f"corruption {each}: records are cut to {trained.length_s:g} s, as in training; expected less"
            )
    scope = _scope(trained.result, records, corruptions)
    rate = choose_source_rate(records, trained.spec, source_rate)
    is_own = rate == choose_source_rate(records, trained.spec, None)
    set_numerics(device := choose_device(0, 1))
    trained.model.to(device)
    logits = _logits(trained, records, scope, rate, corruptions, seed, progress, log)
    labels = [each.label for each in scope.shared]
    patients = np.unique(records.patient_id[scope.rows], return_inverse=True)[1]
    metrics = score_fold(scope.y_true, logits, labels, patients)
    if metrics["excluded_labels"]:
        log(f"without a positive or a negative in {records.name}: {', '.join(metrics['excluded_labels'])}")
    document = {
        "run": {
            "digest": trained.result.digest,
            "row": row_name(*trained.result.row),
            "place": trained.result.place,
            "trained_on": trained.result.document["dataset"]["name"],
            "weights_sha256": trained.result.document["weights_sha256"],
            "command": trained.result.cell["command"],
        },
        "dataset": {
            "name": records.name,
            "content": records.content,
            "licence": records.licence,
            "source": records.source,
            "rate": rate,
            **({"files": records.stated} if records.stated else {}),
            **reader_facts(records, data),
        },
        "scored_on": scope.words,
        "corruptions": [str(corruption) for corruption in corruptions],
        "seed": seed,
        "source_rate": None if is_own else rate,
        "labels": {each.label: {"codes": list(each.codes), "by": each.by} for each in scope.shared},
        "not_shared": [label for label in trained.labels if label not in labels],
        "metrics": metrics,
    }
    predictions = Predictions(records.ecg_id[scope.rows], tuple(labels), logits.astype(np.float32))
    return write_evaluation(trained.result, document, Truths(patients.astype(np.int64), scope.y_true, predictions))


def _scope(result: Result, records: Records, corruptions: Sequence[Corruption]) -> Scope:
    """Return what of these records may test a run. Raises BenchError if nothing may."""
    home = result.document["dataset"]["name"]
    if f"fold_{TEST_FOLD}" not in result.document["metrics"]:
        raise BenchError(f"{result.folder} ended at stage val; run its cell with --stage test before it is tested here")
    if records.name == home:
        if not corruptions:
            raise BenchError(
                f"{result.folder} was trained on {home}, and its scores on fold {TEST_FOLD} are in its result; "
                "name another data set with --data, or add --corrupt NAME=STRENGTH"
            )
        return _fold_10(result, records)
    shared = _shared(result.document, records, str(result.folder))
    return Scope(shared, np.arange(len(records)), truth_of_shared(shared, records), WHOLE_SET)


def _shared(document: Mapping[str, Any], records: Records, who: str) -> tuple[SharedLabel, ...]:
    """Return the labels that both data sets have. `who` has this document, which may have no result yet.

    Raises DataError if there is none, or if these records may have had a part in the training.
    """
    home, labels = document["dataset"]["name"], document["task"]["labels"]
    if may_share_records(home, records):
        raise DataError(
            f"{who} is trained on {home}, and {records.folder} is {records.name}, by its name another version or part "
            f"of it, whose records may be in the training; expected another data set, or {home} itself with --corrupt"
        )
    for before in trained_before(document["init"].get("facts", {})):
        if may_share_records(before.partition(" of ")[2].rpartition(", ")[0], records):
            raise DataError(
                f"{who} starts from weights that were trained on {before}; expected a data set whose records have no "
                "part in its training"
            )
    if shared := shared_labels(labels, home, records):
        return shared
    own, codes = (", ".join(map(str, list(each)[:8])) for each in (labels, records.statements.index))
    raise DataError(
        f"{records.name} has none of the labels of {who}: the run knows {own}, the data set {codes}; "
        "state equal ones in column ptbxl of labels.csv, or take a run of another task, such as all or rhythm"
    )


def may_share_records(name: str, records: Records) -> bool:
    """Return whether the data set of this display name may be these records, or another version or part of them.

    The name alone decides, see `Records.name`: PTB-XL is no version of PTB.
    """
    if records.synthetic:
        return name == records.name
    versions = [VERSION, *map(re.escape, filter(None, records.versions.values()))]
    ours = rf"{re.escape(records.dataset)}(-\w+-folds)?(-({'|'.join(versions)}))?"
    return re.fullmatch(ours, name) is not None


def require_shared(document: Mapping[str, Any], folders: Sequence[Path], stage: str) -> None:
    """Raise BenchError, before a cell is trained, if it cannot be tested on the data sets in these folders.

    A label that too few patients have, so that patients cannot be resampled, is an error too. `document` is the first
    half of the cell's result.
    """
    home = document["dataset"]["name"]
    if folders and stage != "test":
        raise BenchError("--also-on tests what ends with fold 10; leave it out, or leave out --stage val")
    for records in map(load_records, folders):
        if records.name == home:
            raise BenchError(
                f"--also-on {records.folder} is {home}, on which the cell is trained; name another data set"
            )
        shared = _shared(document, records, "this cell")
        replicates_for(records.patient_id, truth_of_shared(shared, records), [each.label for each in shared])


def evaluate_also(run: Path, folders: Sequence[Path], log: Callable[[str], None] = lambda line: None) -> None:
    """Test a run on the data sets in these folders, unless it has been tested there by the present readers of these.

    Raises CheckpointError if it has not, and kept no weights.
    """
    for folder in folders:
        result, records = load_result(run), load_records(folder)
        if not result.incompatible and not _is_tested(result, records, folder):
            log(f"testing on {records.name}")
            evaluate(run, folder, log=log)


def _is_tested(result: Result, records: Records, folder: Path) -> bool:
    """Return whether the run's weights have been tested on these records, as read by the code that reads them now."""
    try:
        tested = load_evaluation(folder_of(result, records.name), result).document
    except DataError:  # there is none, or it is damaged or of other weights
        return False
    then = tested["dataset"]
    same_code = then.get("code_sha256", "") == reader_facts(records, folder).get("code_sha256", "")
    same_data = then["content"] == records.content and then.get("files", {}) == records.stated
    return bool(same_code and same_data)


def _fold_10(result: Result, records: Records) -> Scope:
    """Return fold 10 of the run's own data set, with its task's labels."""
    table = label_table(records, find_task(result.cell["task"], records))
    if table.fingerprint != result.fingerprint:
        raise DataError(f"the labels of {records.folder} differ from those of {result.folder}; expected the same task")
    fold = table.select(table.strat_fold == TEST_FOLD)
    shared = tuple(SharedLabel(label, (label,), "the same task") for label in table.labels)
    return Scope(shared, np.searchsorted(records.ecg_id, fold.ecg_id), fold.y_true, OF_FOLD)


def _logits(
    trained: Trained,
    records: Records,
    scope: Scope,
    rate: int,
    corruptions: Sequence[Corruption],
    seed: int,
    progress: Progress,
    log: Callable[[str], None],
) -> npt.NDArray[np.float64]:
    """Return logits [record, label] of the shared labels. A record is cut or padded to the length of the training's.

    `log` receives a line for each kind of irregular records, with their number.

    Records are read and predicted in batches, so memory does not grow with their number. The last batch is filled up
    with its last record: all have one size, because a library may compute batches of other sizes in another order.
    """
    columns = [trained.labels.index(each.label) for each in scope.shared]
    files, ecg_ids, leads = records.signal_files(rate), records.ecg_id.tolist(), trained.spec.leads
    seconds = trained.length_s
    logits = np.empty((len(scope.rows), len(columns)))
    found: Counter[str] = Counter()
    for start in range(0, len(scope.rows), EVALUATION_BATCH):
        batch = []
        for row in scope.rows[start : start + EVALUATION_BATCH].tolist():
            notes: list[Note] = []
            raw, own_rate = read_signals(files[row], leads, notes.append)
            found.update(_irregular(raw, own_rate, seconds, notes))
            for corruption in corruptions:
                raw = corruption.apply(raw, own_rate, leads, ecg_ids[row], seed)
            batch.append(trained.prepare(raw, own_rate, seconds, str(files[row])))
        num = len(batch)
        batch += [batch[-1]] * (EVALUATION_BATCH - num)
        logits[start : start + num] = trained.logits(np.stack(batch))[:num, columns].numpy()
        progress(start + num, len(scope.rows))
    for what, num in sorted(found.items()):
        log(f"{what}: {num:,}")
    return logits


def _irregular(raw: Signal, rate: int, seconds: float, notes: Sequence[Note]) -> set[str]:
    """Return what is irregular about a record [lead, time] in mV, in the words that a run has for its records."""
    invalid = np.isnan(raw)
    kinds = {
        INVALID: invalid.any(),
        ZEROS: not raw[~invalid].any(),
        PADDED: raw.shape[1] < round(seconds * rate),
    }
    return {what for what, is_so in kinds.items() if is_so} | {KINDS[note.kind] for note in notes}
