"""Publish results: verify and copy them. Check published pages against results and the dataset's tables."""

from __future__ import annotations

import functools
import io
import json
import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.boards.declared import plan_in
from bench.boards.resampling import NUM_REPLICATES, SEED, replicates_of
from bench.boards.rows import by_page, make_boards
from bench.boards.truth import Truth
from bench.data.pool import FEW, over_cores
from bench.data.splits import TEST_FOLD
from bench.data.tasks import LabelTable
from bench.errors import BenchError, DataError
from bench.evaluation.predictions import Predictions, align
from bench.evaluation.scores import score_fold
from bench.files import read_bytes, whole_folder, write_into, write_whole
from bench.pages.index import PROTOCOL
from bench.pages.leaderboards import write_leaderboards
from bench.pages.markdown import cells_of
from bench.pages.names import AP, AUROC
from bench.pages.page import page
from bench.registry.reference import Reference
from bench.results.document import is_installed
from bench.results.elsewhere import ELSEWHERE, Evaluation, Truths, find_evaluations, is_of_weights, write_files
from bench.results.external import external_digest
from bench.results.failures import FAILED
from bench.results.identity import conflict, identity
from bench.results.result import (
    OF_VAL,
    PREDICTIONS,
    RESULT,
    UNFINISHED,
    Result,
    find_results,
    find_runs,
    load_result,
    write_predictions,
)

TOLERANCE = 1e-6
"""Largest difference of a recorded number from the recomputed one: machines add in different orders."""

CHUNK = 8
"""Number of results that are judged at a time."""
BEYOND = "beyond 65,504, the largest of float16"
BESIDE_RUNS = (UNFINISHED, FAILED, OF_VAL)
"""Endings of folder names that are not finished runs with scores of fold 10. `publish` leaves them out."""


def publish(
    folders: Sequence[Path], target: Path, truth: Truth, *, compact: bool = False
) -> tuple[list[Path], list[str]]:
    """Copy runs to <target>/<dataset>/results/<task>/<run>. Return copies and faults. With a fault, nothing is copied.

    Evaluations elsewhere are copied with their runs, with logits as float16.
    Unfinished folders beside runs are left out, so that `runs/<task>/*` may be given. The metrics of the copies are
    recomputed. The recorded values must be equal; recorded intervals may be from an earlier version.
    `compact`: publish fold 10 alone, with logits as float16, a third of the size; pages then have no thresholds of
    these runs. External scores are copied whole, because their digest covers them. A run that is published already is
    replaced by the same run, and keeps evaluations elsewhere of the same weights that only the published one has; that
    another run has its place is a fault. Raises BenchError if the dataset is not available.
    """
    if not truth.at_hand:
        raise BenchError("publishing verifies against the dataset's own labels; name its folder with --data")
    runs = [folder for folder in folders if not folder.name.endswith(BESIDE_RUNS)] or folders
    results, faults = _judged(runs, truth, with_intervals=False)
    faults += _taken(results, target)
    if faults:
        return [], faults
    copied: list[Path] = []
    for place, result in {_place(result, target): result for result in results}.items():
        document = dict(result.document)
        if result.incompatible is None:
            scores = compact_scores(result) if compact and not result.external else result.predictions
            document["metrics"] = {
                f"fold_{fold}": _scored_anew(result, fold, scores[fold], table)
                for fold in scores
                if (table := truth.fold(result, fold))
            }
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        try:
            with whole_folder(place) as part:
                write_into(part, RESULT, text + "\n")
                if result.incompatible is None:
                    write_into(part, PREDICTIONS, _predictions_file(result, scores))
                of_both = [*_evaluations_at(place, result), *find_evaluations(result)]
                for name, evaluation in {each.folder.name: each for each in of_both}.items():
                    write_files(part / ELSEWHERE / name, *published_form(evaluation))
        except OSError as error:
            raise BenchError(f"cannot write {place}: {error.strerror}; {len(copied)} runs were copied before") from None
        copied.append(place)
    return copied, []


def _place(result: Result, target: Path) -> Path:
    """Return the folder of a run among the published ones."""
    home = target / str(result.document["dataset"]["name"]) / "results" / str(result.cell["task"])
    return home / result.folder.resolve().name  # `.` has no name, and `home` holds other runs


def _taken(results: Sequence[Result], target: Path) -> list[str]:
    """Return a fault for each result whose place belongs to another run: a published one, or one of `results`."""
    known: dict[Path, Result] = {}
    faults = []
    for result in results:
        place = _place(result, target)
        if place not in known and (place / RESULT).exists():
            known[place] = load_result(place)
        other = known.setdefault(place, result)
        same = other.digest == result.digest
        if reason := conflict(other, result) if same else "are different runs; rename the folder of one":
            faults.append(f"{result.folder}: {other.folder} has its place in {place.parent}, and they {reason}")
    return faults


def _evaluations_at(place: Path, result: Result) -> list[Evaluation]:
    """Return the evaluations in the folder of a published run that are of the weights of this result too."""
    there = find_evaluations(load_result(place)) if (place / RESULT).exists() else ()
    return [each for each in there if is_of_weights(each.document, result)]


def compact_scores(result: Result) -> dict[int, Predictions]:
    """Return the scores of fold 10, rounded to float16. Raises BenchError if one is too large for that."""
    scores = result.predictions[TEST_FOLD]
    logits = _as_float16(scores)
    if not np.isfinite(logits).all():
        raise BenchError(f"{result.folder} has logits {BEYOND}: publish it without --compact")
    return {TEST_FOLD: Predictions(scores.ecg_id.astype(np.int32), scores.labels, logits)}


def _as_float16(scores: Predictions) -> npt.NDArray[np.float16]:
    """Return logits [record, label] as float16: infinite where they are BEYOND it."""
    with np.errstate(over="ignore"):
        return scores.logits.astype(np.float16)


def _predictions_file(result: Result, scores: Mapping[int, Predictions]) -> bytes:
    """Return the content of predictions.npz: the run's own file, unless the scores are others."""
    if scores is result.predictions:
        return read_bytes(result.folder / PREDICTIONS)
    stream = io.BytesIO()
    write_predictions(stream, result.fingerprint, scores)
    return stream.getvalue()


def _judged(folders: Iterable[Path], truth: Truth, *, with_intervals: bool = True) -> tuple[list[Result], list[str]]:
    """Return the results in these folders and their faults, a line each; an unreadable result is a fault.

    Many results are judged on all cores.
    """
    results: list[Result] = []
    faults: dict[Path, list[str]] = {}
    for folder in folders:
        try:
            results.append(load_result(folder))
        except DataError as error:
            faults[folder] = [str(error)]
        else:
            faults[folder] = []  # in the given order
    chunks = [tuple(results[at : at + CHUNK]) for at in range(0, len(results), CHUNK)]
    few = len(chunks) <= FEW  # then in this process, with the labels that it has read
    judge = partial(_faults_of_each, truth if few else truth.folder, with_intervals)
    for chunk, judged in over_cores(judge, chunks):
        faults |= {result.folder: of_result for result, of_result in zip(chunk, judged, strict=True)}
    return results, [fault for of_folder in faults.values() for fault in of_folder]


def _faults_of_each(truth: Truth | Path, with_intervals: bool, results: Sequence[Result]) -> list[list[str]]:
    """Return the faults of each result, with its folder; `truth` may be the folder of the labels, for workers."""
    labels = truth if isinstance(truth, Truth) else _truth_of(truth)
    return [
        [f"{result.folder}: {fault}" for fault in faults_of(result, labels, with_intervals=with_intervals)]
        for result in results
    ]


_truth_of = functools.cache(Truth)
"""The labels in a folder, read once by each worker."""


def faults_of(result: Result, truth: Truth, *, with_intervals: bool = True) -> list[str]:
    """Return why a result must not be published. Without the dataset, only its files are checked."""
    faults: list[str] = []
    try:
        faults += _faults_of_origin(result)
        faults += _faults_of_identity(result)
        faults += _faults_of_scores(result, truth, with_intervals)
        for evaluation in find_evaluations(result):
            faults += [f"{evaluation.folder.name}: {fault}" for fault in _faults_of_evaluation(evaluation, truth)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        faults.append(f"result.json was changed after it was written: {type(error).__name__} {error}")
    except BenchError as error:
        faults.append(str(error))
    return faults


def _faults_of_origin(result: Result) -> Iterator[str]:
    if result.document["dataset"]["synthetic"]:
        yield "its dataset is synthetic"
    if result.partial:
        yield "it has scores of a part of fold 10: published results are of all its records"
    elif result.document["stage"] != "test":
        yield "it stopped before fold 10"
    if not is_installed(result.document):
        yield "its method, backbone, task or data set is from a file that is not installed: put it into a package"
    if not result.external and result.incompatible is None:
        commit = result.document.get("environment", {}).get("git_commit")
        if commit is None:
            yield "the commit of its code is not recorded"
        elif commit.endswith("-dirty"):
            yield f"its code had changes that are not in commit {commit[:7]}"


def _faults_of_identity(result: Result) -> Iterator[str]:
    """Yield faults if the digest does not follow from the facts of the cell."""
    document, cell = result.document, result.cell
    if result.external:
        digest = external_digest(document, result.predictions)
    else:
        digest = identity(document)
        method, backbone = document["method"], document["backbone"]
        for kind, named in (("method", method), ("arch", backbone)):
            reference = Reference.parse(cell[kind])
            if (reference.name, _plain(reference.arguments)) != (named["name"], _plain(named["given"])):
                yield f"its cell has {kind} {cell[kind]}, its {'method' if kind == 'method' else 'backbone'} is another"
    if digest != result.digest:
        yield "its digest does not follow from its facts: the cell was edited"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=list))


def _faults_of_scores(result: Result, truth: Truth, with_intervals: bool) -> Iterator[str]:
    """Yield faults if metrics do not follow from the predictions and the dataset's labels."""
    if result.document["stage"] != "test":
        return
    if result.incompatible is not None:
        if truth.at_hand and truth.fold(result, TEST_FOLD) is None:
            yield _of_other_data(result)
        return
    folds = sorted(result.predictions)
    if TEST_FOLD not in folds or {f"fold_{fold}" for fold in folds} != set(result.document["metrics"]):
        names = ", ".join(result.document["metrics"]) or "no fold"
        yield f"its metrics are of {names}, its predictions of folds {folds}"
        return
    if not truth.at_hand:
        return
    ignored = () if with_intervals else ("low", "high", "bootstrap")
    for fold in folds:
        table = truth.fold(result, fold)
        if table is None:
            yield _of_other_data(result)
            return
        recorded, computed = (
            _plain(result.document["metrics"][f"fold_{fold}"]),
            _plain(_scored_anew(result, fold, result.predictions[fold], table)),
        )
        for where, before, after in _differences(recorded, computed, f"metrics.fold_{fold}", ignored):
            yield f"{where} is recorded as {before}, but the predictions give {after}"
            break


def published_form(evaluation: Evaluation) -> tuple[dict[str, Any], Truths]:
    """Return document and scores as they are published: logits as float16, and their metrics without intervals.

    Pages compute intervals from the scores.
    """
    truths = evaluation.truths
    rounded = replace(truths.predictions, logits=_as_float16(truths.predictions))
    published = replace(truths, predictions=rounded, patient=truths.patient.astype(np.int32))
    return {**evaluation.document, "metrics": _metrics_of(published)}, published


def _metrics_of(truths: Truths) -> dict[str, Any]:
    scores = score_fold(truths.y_true, truths.predictions.logits.astype(np.float64), truths.predictions.labels)
    return scores | {"num_patients": len(np.unique(truths.patient))}


def _faults_of_evaluation(evaluation: Evaluation, truth: Truth) -> Iterator[str]:
    """Yield why an evaluation elsewhere must not be published.

    Its labels are compared with the data set's where that is at hand: on fold 10 of the run's own.
    """
    dataset, truths = evaluation.document["dataset"], evaluation.truths
    if dataset["name"].startswith("synthetic-"):
        yield "its dataset is synthetic"
    if dataset["licence"] in ("", "unknown"):
        yield "its data set states no licence: write it into dataset.toml and test the run again, or remove this folder"
    if not np.isfinite(_as_float16(truths.predictions)).all():
        yield f"its logits lie {BEYOND}, as which they are published: remove this folder to publish the run without it"
    computed = _plain(_metrics_of(truths))
    recorded = _plain(evaluation.document["metrics"])
    for where, before, after in _differences(recorded, computed, "metrics", ("low", "high", "bootstrap")):
        yield f"{where} is recorded as {before}, but the scores give {after}"
        break
    table = truth(evaluation.run)
    if table is None or dataset["name"] != evaluation.run.document["dataset"]["name"]:
        return
    same = (
        np.array_equal(truths.predictions.ecg_id, table.ecg_id)
        and truths.predictions.labels == table.labels
        and np.array_equal(truths.y_true, table.y_true)
        and np.array_equal(truths.patient, np.unique(table.patient_id, return_inverse=True)[1])
    )
    if not same:
        yield f"its records, labels or patients are not those of fold {TEST_FOLD} of {dataset['name']}"


def _of_other_data(result: Result) -> str:
    return (
        f"its fingerprint {result.fingerprint[:16]} of {result.cell['task']} on "
        f"{result.document['dataset']['name']} differs from that of the dataset at hand"
    )


def _scored_anew(result: Result, fold: int, scores: Predictions, table: LabelTable) -> dict[str, Any]:
    """Recompute the metrics of a fold, with intervals if the result has them."""
    recorded = result.document["metrics"][f"fold_{fold}"]
    y_score = align(scores, table.ecg_id, table.labels)
    if recorded["bootstrap"] is None:
        return score_fold(table.y_true, y_score, table.labels) | {"num_patients": recorded["num_patients"]}
    num_replicates, seed = recorded["bootstrap"]["num_draws"], recorded["bootstrap"]["seed"]
    replicates = replicates_of(table) if (num_replicates, seed) == (NUM_REPLICATES, SEED) else None
    return score_fold(table.y_true, y_score, table.labels, table.patient_id, num_replicates, seed, replicates)


def _differences(
    recorded: Any, computed: Any, where: str, ignored: Sequence[str] = ()
) -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, recorded, computed) for each difference, of numbers if above TOLERANCE; skip `ignored` keys."""
    if isinstance(recorded, Mapping) and isinstance(computed, Mapping):
        for key in sorted({*recorded, *computed} - {*ignored}):
            yield from _differences(recorded.get(key), computed.get(key), f"{where}.{key}", ignored)
    elif isinstance(recorded, int | float) and isinstance(computed, int | float):
        if not math.isclose(recorded, computed, rel_tol=0, abs_tol=TOLERANCE):
            yield where, recorded, computed
    elif recorded != computed:
        yield where, recorded, computed


def check(folder: Path, truth: Truth) -> list[str]:
    """Return the faults of published results and their pages, one line each; empty if there are none.

    Without the dataset, pages are compared with the recorded numbers only.
    """
    results, faults = _judged(find_runs(folder), truth)
    if not results and not faults:
        return [f"{folder}: no published result"]
    if faults:
        return faults
    if not truth.at_hand:
        return _faults_of_copies(results, folder)
    with tempfile.TemporaryDirectory() as scratch:
        anew = Path(scratch)
        rules = folder / PROTOCOL  # written by hand; the index links it
        if rules.is_file():
            write_whole(anew / PROTOCOL, read_bytes(rules))
        try:
            boards = make_boards(results, truth, plan_in(folder), anew=True)
            written = write_leaderboards(boards, anew, truth, given=folder, anew=True)
        except BenchError as error:
            return [str(error)]
        names = {path.relative_to(anew) for path in written}
        for name in sorted(names):
            faults += _faults_of_page(folder / name, anew / name)
        there = {path.relative_to(folder) for end in ("md", "svg") for path in folder.rglob(f"*.{end}")}
        others = sorted(there - names - {Path(PROTOCOL)})
        faults += [f"{folder / name} follows from no published result" for name in others]
    return faults


def _faults_of_page(path: Path, anew: Path) -> list[str]:
    try:
        old, new = read_bytes(path).decode(errors="replace"), read_bytes(anew).decode()
    except OSError:
        return [f"{path} is missing; `bench leaderboard --published` writes it"]
    if old == new or (path.suffix == ".svg" and _drawn_by(old) != _drawn_by(new)):
        return []
    return [f"{path} does not follow from the results; `bench leaderboard --published` writes it anew"]


def _drawn_by(svg: str) -> str:
    """Return the version of Matplotlib that drew a picture: another version draws other bytes."""
    version = re.search(r"Matplotlib v[\w.]+", svg)
    return version.group() if version else ""


def _faults_of_copies(results: Sequence[Result], folder: Path) -> list[str]:
    """Return the differences between a page and the results in rows, mean scores and numbers of runs."""
    faults = []
    for (dataset, task), boards in by_page(make_boards(results, lambda result: None, plan_in(folder))).items():
        path = folder / dataset / f"{task}.md"
        try:
            same = _rows_in(read_bytes(path).decode(errors="replace")) == _rows_in(page(boards))
        except OSError:
            faults.append(f"{path} is missing; `bench leaderboard --published` writes it")
            continue
        faults += [] if same else [f"{path} has other rows or scores than the results"]
    return faults


def _rows_in(markdown: str) -> list[dict[str, str]]:
    """Return the cells of a page that need no dataset: each row's names, mean scores, number of runs and command."""
    rows: list[dict[str, str]] = []
    head: list[str] = []
    for line in markdown.splitlines():
        cells = cells_of(line) if line.startswith("|") else []
        if not cells:
            head = []
            rows += [{"command": line}] if re.match(r"\d+\. `", line) else []
        elif not head:
            head = cells
        elif "rank" in head and not line.startswith("|---"):
            row = dict(zip(head, cells, strict=False))
            kept = {key: row[key] for key in ("backbone", "init", "method", "recipe", "runs") if key in row}
            rows.append(kept | {key: row[key].split(" (")[0] for key in (AUROC, AP)})
    return rows


def published_results(folder: Path) -> list[Result]:
    """Return the published results; empty if there are none."""
    return list(find_results(folder)) if folder.is_dir() else []
