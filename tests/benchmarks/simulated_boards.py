"""Write simulated results, as many as a large study has, to measure how long their boards take.

    python tests/benchmarks/simulated_boards.py DATA RUNS superdiag --rows 70 --draws 5 --seeds 3
    python tests/benchmarks/simulated_boards.py DATA RUNS all --rows 30 --draws 1 --seeds 10

DATA is a PTB-XL folder, of which only the two tables are read. Predictions are simulated for its folds 9 and 10; no
model is trained. Each result has the metrics that follow from its predictions, so `bench leaderboard --check` and
`bench publish` find no fault in them but that they are of code that was never committed.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.boards.resampling import NUM_REPLICATES, SEED
from bench.data.datasets import load_records
from bench.data.records import Records
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tasks import LabelTable, find_task, label_table, task_facts
from bench.evaluation.bootstrap import Replicates
from bench.evaluation.predictions import Predictions
from bench.evaluation.scores import replicates_for, score_fold
from bench.processes import num_cores
from bench.registry.reference import Reference
from bench.results.document import quoted
from bench.results.identity import digest
from bench.results.result import find_published, write_result

SEPARATION = 1.8
"""Distance of the mean scores of positives and negatives, in standard deviations: a macro AUROC of 0.9."""
OF_ROWS, OF_DRAWS, OF_RUNS = 0.12, 0.04, 0.06
"""Standard deviation between rows, draws and runs of the separation."""
OF_MODELS = 0.5
"""Standard deviation of a run's own noise; the noise that all runs share has 1."""


def write_results(data: Path, runs: Path, task: str, rows: int, draws: int, seeds: int, processes: int = 1) -> None:
    """Write rows x draws x seeds results of a task below `runs`; several draws are of a tenth of the records."""
    work = functools.partial(_write_row, data, runs, task, draws, seeds)
    if processes == 1:
        for row in range(rows):
            work(row)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(work, range(rows), chunksize=1)


def _write_row(data: Path, runs: Path, task: str, draws: int, seeds: int, row: int) -> None:
    records, table, folds = _folds(data, task)
    random = np.random.default_rng([row, 1])
    better = SEPARATION + OF_ROWS * random.normal()
    of_draw = [OF_DRAWS * np.random.default_rng([draw, 2]).normal() for draw in range(draws)]
    for draw in range(draws):
        for seed in range(seeds):
            mean = better + of_draw[draw] + OF_RUNS * random.normal()
            scores = {
                fold: Predictions(of_fold.ecg_id, table.labels, _scores(of_fold, fold, mean, random))
                for fold, of_fold in folds.items()
            }
            document = _document(records, table, row, draw, seed, draws)
            document["metrics"] = {f"fold_{fold}": _metrics(data, task, fold, scores[fold]) for fold in folds}
            folder = runs / task / f"net1d_mini-row{row:03}-draw{draw}-seed{seed}-{document['digest'][:8]}"
            folder.mkdir(parents=True)
            write_result(folder, document, scores)


@functools.cache
def _folds(data: Path, task: str) -> tuple[Records, LabelTable, dict[int, LabelTable]]:
    records = load_records(data)
    table = label_table(records, find_task(task, records))
    return records, table, {fold: table.select(table.strat_fold == fold) for fold in (VAL_FOLD, TEST_FOLD)}


def _scores(table: LabelTable, fold: int, mean: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Return scores [record, label]: noise that all runs share, the run's own, and the separation of positives."""
    shared = np.random.default_rng([fold, 3]).normal(size=table.y_true.shape)
    own = OF_MODELS * random.normal(size=table.y_true.shape)
    return (shared + own + mean * table.y_true - 2.0).astype(np.float32)


def _metrics(data: Path, task: str, fold: int, scores: Predictions) -> dict[str, Any]:
    table = _folds(data, task)[2][fold]
    if fold != TEST_FOLD:
        return score_fold(table.y_true, scores.logits, table.labels)
    replicates = _replicates(data, task)
    return score_fold(table.y_true, scores.logits, table.labels, table.patient_id, replicates=replicates)


@functools.cache
def _replicates(data: Path, task: str) -> Replicates:
    table = _folds(data, task)[2][TEST_FOLD]
    return replicates_for(table.patient_id, table.y_true, table.labels, NUM_REPLICATES, SEED)


def _document(records: Records, table: LabelTable, row: int, draw: int, seed: int, draws: int) -> dict[str, Any]:
    """Return the sections of a result before its metrics; those of training are a published result's."""
    document = json.loads(json.dumps(_template()))
    method = Reference("ft", {"finetune_lr": 1e-5 * (1 + row)} if row else {})
    fraction = 0.1 if draws > 1 else 1.0
    document["cell"] |= {"task": table.task, "method": str(method), "fraction": fraction, "draw": draw, "seed": seed}
    document["cell"]["command"] = (
        f"bench run --task {table.task} --arch net1d_mini --method {quoted(method)}"
        + (f" --fraction {fraction!r} --draw {draw}" if draws > 1 else "")
        + f" --seed {seed}"
    )
    document["dataset"] |= {"name": records.name, "synthetic": records.synthetic, "num_records": len(records)}
    document["task"] = task_facts(table)
    document["split"] |= {"sha256": hashlib.sha256(f"draw {draw}".encode()).hexdigest() if draws > 1 else None}
    document["method"]["resolved"] = {**document["method"]["resolved"], "finetune_lr": 1e-5 * (1 + row)}
    document["digest"] = digest({"row": row, "draw": draw, "seed": seed, "task": table.task})
    return document


@functools.cache
def _template() -> dict[str, Any]:
    """Return the document of a published result of `ft` on a small backbone, without its metrics."""
    every = (result for result in find_published() if result.cell["method"] == "ft" and result.incompatible is None)
    document = dict(next(result.document for result in every if result.cell["arch"] == "net1d_mini"))
    del document["metrics"], document["schema"]
    return document


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("task")
    for name in ("rows", "draws", "seeds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    write_results(given.data, given.runs, given.task, given.rows, given.draws, given.seeds, num_cores())
