"""Draw and seed enter the random streams together; the same method with its seeds as rows is one group."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from bench.boards.comparisons import Compared, ResampledRun, compared
from bench.boards.declared import BoardPlan
from bench.boards.rows import scored_run
from bench.boards.simulations import MEASURED, Setting, normal_rates
from bench.cell import Cell
from bench.data.datasets import load_records
from bench.data.splits import TEST_FOLD
from bench.data.tasks import LabelTable, find_task, label_table
from bench.evaluation import metrics
from bench.evaluation.runs import Design, Streams
from bench.execute import Options, build_backbone, build_model, execute
from bench.registry.reference import Reference
from bench.results.result import Result

DRAWS, SEEDS = range(5), range(3)


def cell(data: Path, **changes: Any) -> Cell:
    asked: dict[str, Any] = {
        "data": data,
        "task": "superdiag",
        "arch": Reference("net1d_mini"),
        "method": Reference("lp", {"probe_epochs": 3}),
        "fraction": 0.3,
    }
    return Cell(**{**asked, **changes})


def head_of(asked: Cell) -> torch.Tensor:
    model, _ = build_model(build_backbone(asked.arch, asked.entropy), 5, "random", asked.entropy)
    return model.head.weight.detach()


def test_a_draw_has_a_head_of_its_own_and_draw_0_that_of_its_seed() -> None:
    first, second, other = (head_of(cell(Path(), draw=draw, seed=4)) for draw in (0, 1, 2))

    assert cell(Path(), draw=0, seed=4).entropy == 4
    assert cell(Path(), fraction=1, seed=4).entropy == 4
    model, _ = build_model(build_backbone(Reference("net1d_mini"), 4), 5, "random", 4)
    assert torch.equal(first, model.head.weight)
    assert not torch.equal(first, second)
    assert not torch.equal(second, other)


def run_bench(words: list[str]) -> str:
    """What `bench` prints, run by these words in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "bench", *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def weights(ptbxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a backbone's weights, of one epoch on a hundredth of the records."""
    folder = tmp_path_factory.mktemp("weights")
    words = ["run", "--task", "superdiag", "--arch", "net1d_mini", "--method", "scratch(epochs=1)", "--stage", "val"]
    words += ["--fraction", "0.01", "--init", "random", "--data", str(ptbxl), "--runs", str(folder)]
    run_bench(words)
    (path,) = folder.glob("superdiag/*/weights.pt")
    return path


@pytest.fixture(scope="module")
def results(ptbxl: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Linear probes of five draws of a hundredth of PTB-XL and three seeds, from the same weights."""
    options = Options(runs=tmp_path_factory.mktemp("runs"), keep_weights="none")
    asked = cell(ptbxl, method=Reference("lp"), init=str(weights), fraction=0.01)
    return [execute(replace(asked, draw=draw, seed=seed), options) for draw in DRAWS for seed in SEEDS]


@pytest.fixture(scope="module")
def truth(ptbxl: Path) -> LabelTable:
    table = label_table(load_records(ptbxl), find_task("superdiag"))
    return table.select(table.strat_fold == TEST_FOLD)


def by_seed(results: list[Result], truth: LabelTable, streams: Streams | None) -> Compared:
    """Rows of the runs of one seed each, paired by draw; `streams` replaces what the results say of theirs."""
    rows: dict[str, dict[tuple[int, int], ResampledRun]] = {}
    for run in results:
        scored = scored_run(run, truth)
        replaced = ResampledRun(scored.y_score, scored.resampled, streams or scored.streams)
        rows.setdefault(f"seed {run.place[1]}", {})[run.place[0], 0] = replaced
    return compared(rows, BoardPlan(), truth)


@pytest.mark.ptbxl
def test_a_result_says_which_streams_it_used(results: list[Result]) -> None:
    assert {run.streams for run in results if run.place[0] == 0} == {"seed"}
    assert {run.streams for run in results if run.place[0] > 0} == {"draw and seed"}
    assert len({run.digest for run in results}) == len(results)


@pytest.mark.ptbxl
def test_seeds_of_one_method_named_as_rows_are_one_group(results: list[Result], truth: LabelTable) -> None:
    """Three equal rows of five draws: of 100 such boards 5 may have a false claim (test_simulations).

    With the seed alone in the streams and the draws taken for replications, all three were claimed to differ.
    """
    found = by_seed(results, truth, None)

    assert set(found.letters.values()) == {"a"}
    assert [pair.num_pairs for pair in found.pairs] == [5, 5, 5]
    assert not any(pair.few_pairs for pair in found.pairs)


@pytest.mark.ptbxl
def test_seeds_agree_no_more_over_draws_than_other_runs_do(results: list[Result], truth: LabelTable) -> None:
    """F of seeds over the residual of draw + seed; it was 76 when a seed had one head in all draws."""
    frequent = metrics.frequent(truth.y_true)
    values = np.array([float(scored_run(run, truth).macro("auroc", frequent).value) for run in results]).reshape(5, 3)
    left = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    ratio = 5 * values.mean(0).var(ddof=1) / (np.square(left).sum() / 8)

    assert ratio < scipy.stats.f.isf(0.01, 2, 8)


@pytest.mark.slow
@pytest.mark.ptbxl
def test_the_verbs_claim_no_difference_among_them(
    ptbxl: Path, results: list[Result], truth: LabelTable, tmp_path: Path
) -> None:
    """Draws of scores from files count as independent runs. With streams of the seed alone they would not."""
    place = ["--data", str(ptbxl), "--runs", str(tmp_path)]
    for run in results:
        draw, seed = run.place
        scores = tmp_path / f"{draw}-{seed}.npz"
        given = run.predictions[TEST_FOLD]
        np.savez(scores, ecg_id=given.ecg_id, labels=np.array(given.labels), y_score=given.logits)
        at = ["--task", "superdiag", "--fraction", "0.01", "--draw", str(draw)]
        run_bench(["score", str(scores), "--name", f"seed {seed}", *at, *place])
    names = [f"seed {seed} (external)" for seed in SEEDS]
    found = json.loads(run_bench(["compare", *names, "--fraction", "0.01", "--json", *place]))

    assert [pair["num_pairs"] for pair in found["pairs"]] == [5, 5, 5]
    assert not any(pair["few_pairs"] for pair in found["pairs"])
    assert all(pair["p_adjusted"] > 0.05 for pair in found["pairs"])
    assert set(found["groups"].values()) == {"a"}
    assert all(pair.few_pairs for pair in by_seed(results, truth, "seed").pairs)


@pytest.mark.parametrize("rows", [2, 3])
def test_published_runs_whose_streams_depend_on_the_seed_are_one_group(rows: int) -> None:
    """Equal rows of five draws and three seeds, with the components measured in probes of 1 % of superdiag.

    2,000 boards. Taken for 5 independent draws half of them had a claim, by Satterthwaite's degrees of freedom 6.5 %.
    """
    setting = Setting(rows, 5, 3, 10, crossed=MEASURED)
    claims = [rate for rate in normal_rates(setting, 2000) if rate.quantity.startswith("false claims")]

    assert setting.design == Design.of(list(itertools.product(DRAWS, SEEDS)), ["seed"] * 15)
    assert setting.design.kind == "crossed"
    assert len(claims) == 2
    for rate in claims:
        assert rate.percent <= 5, rate
