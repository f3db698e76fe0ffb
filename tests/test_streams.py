"""Draw and seed enter the random streams together; the same method with its seeds as rows is one group."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.boards.comparisons import Compared, ScoredRun, compared
from bench.boards.declared import BoardPlan
from bench.boards.rows import scored_run
from bench.cell import Cell
from bench.data.datasets import load_records
from bench.data.splits import TEST_FOLD
from bench.data.tasks import LabelTable, find_task, label_table
from bench.demo.dataset import write_demo
from bench.evaluation.runs import Streams
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


@pytest.fixture(scope="module")
def fold_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic PTB-XL whose fold 10 has labels with 10 positives."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    write_demo(folder, 900, seed=1, rates=(100,))
    return folder


@pytest.fixture(scope="module")
def results(fold_set: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Linear probes of five draws and three seeds."""
    options = Options(runs=tmp_path_factory.mktemp("runs"))
    return [execute(cell(fold_set, draw=draw, seed=seed), options) for draw in DRAWS for seed in SEEDS]


@pytest.fixture(scope="module")
def truth(fold_set: Path) -> LabelTable:
    records = load_records(fold_set)
    table = label_table(records, find_task("superdiag"))
    return table.select(table.strat_fold == TEST_FOLD)


def test_a_result_says_which_streams_it_used(results: list[Result]) -> None:
    assert {run.streams for run in results if run.place[0] == 0} == {"seed"}
    assert {run.streams for run in results if run.place[0] > 0} == {"draw and seed"}
    assert len({run.digest for run in results}) == len(results)


def by_seed(results: list[Result], truth: LabelTable, streams: Streams | None) -> Compared:
    """Rows of the runs of one seed each, paired by draw; `streams` replaces what the results say of theirs."""
    rows: dict[str, dict[tuple[int, int], ScoredRun]] = {}
    for run in results:
        one = scored_run(run, truth)
        rows.setdefault(f"seed {run.place[1]}", {})[run.place[0], 0] = replace(one, streams=streams or one.streams)
    return compared(rows, BoardPlan(), truth)


def test_seeds_of_one_method_named_as_rows_are_one_group(results: list[Result], truth: LabelTable) -> None:
    found = by_seed(results, truth, None)

    assert set(found.letters.values()) == {"a"}
    assert [pair.num_pairs for pair in found.pairs] == [5, 5, 5]
    assert not any(pair.few_pairs for pair in found.pairs)


def test_a_single_seed_in_several_draws_is_marked(results: list[Result], truth: LabelTable) -> None:
    """As external scores, whose streams nobody knows, and as results of older versions."""
    assert all(pair.few_pairs for pair in by_seed(results, truth, "seed").pairs)
