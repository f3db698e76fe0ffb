"""A board whose results have not changed is not computed again, its pages and pictures neither; a check does it all."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.boards import resampling, rows
from bench.boards.declared import BoardPlan
from bench.boards.kept import Numbers, keep_numbers, key_of_board, recall_numbers
from bench.boards.rows import Board, as_data, make_boards
from bench.boards.truth import Truth
from bench.data.datasets import load_records
from bench.data.tasks import find_task, label_table
from bench.pages import leaderboards
from bench.pages.leaderboards import write_leaderboards
from bench.results.external import score_external
from bench.results.result import find_results


@pytest.fixture(scope="module")
def made(demo_set: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """Two rows of three seeds, and the labels of four times the demo set's records."""
    folder = tmp_path_factory.mktemp("kept")
    tables, runs = folder / "tables", folder / "runs"
    tables.mkdir()
    shutil.copy(demo_set / "scp_statements.csv", tables)
    table = pd.read_csv(demo_set / "ptbxl_database.csv")
    more = [table.assign(ecg_id=table["ecg_id"] + n * 1000, patient_id=table["patient_id"] + n * 1e5) for n in range(4)]
    pd.concat(more).to_csv(tables / "ptbxl_database.csv", index=False)
    late = label_table(load_records(tables), find_task("superdiag"))
    late = late.select(late.strat_fold >= 9)
    for name, quality in (("good", 2.0), ("bad", 0.5)):
        for seed in range(3):
            z = quality * late.y_true + np.random.default_rng(seed).normal(size=late.y_true.shape) - 1
            pd.DataFrame(z, columns=list(late.labels)).assign(ecg_id=late.ecg_id).to_csv(folder / "x.csv", index=False)
            score_external(folder / "x.csv", "superdiag", name, tables, runs, scale="logit", seed=seed)
    return runs, Truth(tables)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("bench.boards.comparisons.NUM_PERMUTATIONS", 200)
    return tmp_path / "cache"


PLAN = BoardPlan(baseline="bad (external)")


def boards_of(made: tuple[Path, Truth], plan: BoardPlan = PLAN, **options: Any) -> list[Board]:
    return make_boards(find_results(made[0], print), made[1], lambda dataset, task: plan, **options)


def never(*arguments: object, **named: object) -> None:
    raise AssertionError("computed again")


def forbid_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resampling, comparing, drawing, and even reading of predictions is an error from now on."""
    monkeypatch.setattr(resampling, "compute", never)
    monkeypatch.setattr(rows, "stand", never)
    monkeypatch.setattr("bench.results.result.Result.predictions", property(never))
    for name in ("calibrate", "subgroup_page", "_drawn_or_not"):
        monkeypatch.setattr(leaderboards, name, never)


def texts(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_has_not_changed_is_written_without_work(
    made: tuple[Path, Truth], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew, first, second = (tmp_path / name for name in ("anew", "first", "second"))
    computed = boards_of(made, anew=True)
    write_leaderboards(computed, anew, made[1], anew=True)
    write_leaderboards(boards_of(made), first, made[1])
    forbid_work(monkeypatch)
    remembered = boards_of(made)
    written = write_leaderboards(remembered, second, made[1])

    assert as_data(remembered) == as_data(computed)
    assert repr(remembered[0].standing) == repr(computed[0].standing)
    assert texts(anew) == texts(first) == texts(second)
    assert {path.suffix for path in written} == {".md", ".svg"}
    assert sorted(map(str, written)) == sorted(str(second / name) for name in texts(second))


def test_a_check_computes_everything(made: tuple[Path, Truth], monkeypatch: pytest.MonkeyPatch) -> None:
    boards_of(made)
    forbid_work(monkeypatch)

    with pytest.raises(AssertionError, match="computed again"):
        boards_of(made, anew=True)


@pytest.mark.parametrize("what", ["scores", "plan", "a run"])
def test_another_input_is_computed_anew(made: tuple[Path, Truth], what: str, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(made[0], runs)
    (before,) = boards_of((runs, made[1]))
    names = sorted(path.parent for path in runs.rglob("predictions.npz"))
    plan = PLAN
    if what == "scores":
        shutil.copy(names[0] / "predictions.npz", names[-1] / "predictions.npz")
    elif what == "plan":
        plan = BoardPlan(baseline="good (external)")
    else:
        shutil.rmtree(names[0])
    (after,) = boards_of((runs, made[1]), plan)
    (computed,) = boards_of((runs, made[1]), plan, anew=True)

    assert as_data([after]) == as_data([computed]) != as_data([before])


def test_damaged_memory_changes_nothing(made: tuple[Path, Truth], cache: Path, tmp_path: Path) -> None:
    (board,) = boards_of(made)
    write_leaderboards([board], tmp_path / "first", made[1])
    entries = [path for path in (cache / "boards").rglob("*") if path.is_file()]
    for number, entry in enumerate(entries):
        content = entry.read_bytes()
        entry.write_bytes(content[: len(content) // 2] if number % 2 else content[:-1] + bytes([content[-1] ^ 1]))
    (again,) = boards_of(made)
    write_leaderboards([again], tmp_path / "second", made[1])

    assert len(entries) > 10
    assert as_data([again]) == as_data([board])
    assert texts(tmp_path / "second") == texts(tmp_path / "first")


def test_the_memory_may_be_deleted_and_lies_outside_the_pages(
    made: tuple[Path, Truth], cache: Path, tmp_path: Path
) -> None:
    (board,) = boards_of(made)
    write_leaderboards([board], tmp_path / "first", made[1])
    shutil.rmtree(cache)
    (again,) = boards_of(made)

    assert as_data([again]) == as_data([board])
    assert {Path(name).suffix for name in texts(tmp_path / "first")} == {".md", ".svg"}


def test_numbers_keep_their_last_bit(made: tuple[Path, Truth]) -> None:
    (board,) = boards_of(made, anew=True)
    assert board.truth is not None
    runs = {(row.backbone, row.init, row.method): row.runs for row in board.rows}
    key = key_of_board(runs, board.truth, PLAN, [0, 0])
    numbers = Numbers({(row.backbone, row.init, row.method): row.summaries for row in board.rows}, board.standing)
    keep_numbers(key, numbers)

    assert repr(recall_numbers(key)) == repr(numbers)  # NaN is not equal to itself
    assert recall_numbers(key_of_board(runs, board.truth, PLAN, [0, 8])) is None
