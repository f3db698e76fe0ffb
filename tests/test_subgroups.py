"""Parts of fold 10: who is in them, and scikit-learn's AUROC on exactly those records."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bench.boards import subgroups
from bench.boards.comparisons import ResampledRun, stand
from bench.boards.declared import BoardPlan
from bench.boards.rows import Board, Row
from bench.boards.subgroups import groups_of
from bench.data.splits import TEST_FOLD
from bench.data.tasks import LabelTable
from bench.evaluation.bootstrap import make_replicates, resample
from bench.evaluation.predictions import Predictions
from bench.pages import subgroups as page_module
from bench.pages.leaderboards import most_compared
from bench.pages.subgroups import subgroup_page
from bench.results.result import Result, write_result

SIZE = 600
RANDOM = np.random.default_rng(0)
Y_TRUE = RANDOM.random((SIZE, 2)) < [0.3, 0.06]
PATIENTS = np.sort(RANDOM.integers(400, size=SIZE))
TRUTH = LabelTable("form", ("A", "B"), np.arange(SIZE), PATIENTS, np.full(SIZE, 10), Y_TRUE)
PEOPLE = pd.DataFrame(
    {
        "age": np.where(np.arange(SIZE) % 50 == 0, np.nan, RANDOM.integers(18, 95, SIZE)),
        "sex": RANDOM.integers(2, size=SIZE),
        "device": np.where(np.arange(SIZE) < 450, "AT-6 C", np.where(np.arange(SIZE) < 560, " CS-12  E", "rare one")),
        "site": np.where(np.arange(SIZE) < 300, 0.0, np.nan),
    }
)
Y_TRUE[PEOPLE["age"] < 40, 1] = False
FOLDER = tempfile.TemporaryDirectory()
"""Runs, until the tests have ended."""


class Truth:
    """The people behind the records."""

    def people(self, table: LabelTable) -> pd.DataFrame:
        return PEOPLE.loc[table.ecg_id]


def row(name: str, quality: float, seeds: int) -> Row:
    replicates = make_replicates(PATIENTS, Y_TRUE, num_replicates=100)
    scored, runs = {}, []
    for seed in range(seeds):
        y_score = quality * Y_TRUE + np.random.default_rng([seed, int(10 * quality)]).normal(size=Y_TRUE.shape)
        scored[0, seed] = ResampledRun(y_score, resample(Y_TRUE, y_score, replicates))
        folder, document = Path(tempfile.mkdtemp(dir=FOLDER.name)), {"task": {"fingerprint": "f"}}
        write_result(folder, document, {TEST_FOLD: Predictions(TRUTH.ecg_id, TRUTH.labels, y_score)})
        runs.append(Result(folder, document))
    return Row("net", "random", name, tuple(runs), {}, scored)


ROWS = (row("lpft", 2.0, 2), row("lp", 1.5, 1), row("scratch", 1.2, 1), row("ft", 1.0, 3))


def board_of(rows: Sequence[Row], baseline: str | None) -> Board:
    plan = BoardPlan(baseline)
    standing = stand({one.name: one.scored for one in rows}, plan, TRUTH)
    return Board("ptb-xl-1.0.3", False, "form", "f", 1.0, "", tuple(rows), (), TRUTH, plan, standing)


def page(*rows: Row, baseline: str | None = "ft") -> list[dict[str, str]]:
    lines = [line for line in subgroup_page(board_of(rows, baseline), Truth()).splitlines() if line.startswith("|")]  # type: ignore[arg-type]
    head, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, cells, strict=True)) for cells in body]


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.boards.comparisons.NUM_PERMUTATIONS", 100)


def test_every_age_and_sex_is_in_one_group_and_unknown_ones_in_none() -> None:
    groups = list(groups_of(PEOPLE))
    ages = [mask for kind, _, mask in groups if kind == "age"]
    sexes = [mask for kind, _, mask in groups if kind == "sex"]

    np.testing.assert_array_equal(np.sum(ages, axis=0), PEOPLE["age"].notna())
    np.testing.assert_array_equal(np.sum(sexes, axis=0), 1)
    names = {name: mask for _, name, mask in groups}
    np.testing.assert_array_equal(names["40 to 59"], PEOPLE["age"].between(40, 59))
    np.testing.assert_array_equal(names["80 and over"], PEOPLE["age"] >= 80)
    np.testing.assert_array_equal(names["female"], PEOPLE["sex"] == 1)  # as in PTB-XL's table
    np.testing.assert_array_equal(names["CS-12 E"], PEOPLE["device"] == " CS-12  E")
    assert [name for kind, name, _ in groups if kind == "site"] == ["0"]


def test_a_table_without_the_columns_has_no_groups() -> None:
    assert list(groups_of(PEOPLE[[]])) == []


def test_auroc_in_a_part_is_scikit_learns_on_its_records() -> None:
    found = {cells["part of fold 10"]: cells for cells in page(*ROWS)}
    parts = {"male": PEOPLE["sex"] == 0, "under 40": PEOPLE["age"] < 40, "AT-6 C": PEOPLE["device"] == "AT-6 C"}
    for name, members in parts.items():
        mask = members.to_numpy()
        labels = [c for c in range(2) if Y_TRUE[mask, c].sum() >= 10]
        cells = found[name]

        assert cells["records"] == str(mask.sum())
        assert cells["patients"] == str(len(np.unique(PATIENTS[mask])))
        assert cells["labels"] == str(len(labels))
        for place, one in enumerate(ROWS[:2], 1):
            every = [
                roc_auc_score(Y_TRUE[mask, c], run.y_score[mask, c]) for run in one.scored.values() for c in labels
            ]
            value, low, high = cells[f"{place}. {one.name}"].replace("(", "").replace(")", "").replace("–", " ").split()
            assert value == f"{np.mean(every):.4f}"
            assert float(low) < float(value) < float(high)
    assert found["under 40"]["labels"] == "1"  # the rarer label has too few positives there
    assert "rare one" not in found


def test_intervals_are_over_the_patients_of_the_part() -> None:
    mask = (PEOPLE["sex"] == 0).to_numpy()
    (run,) = ROWS[1].scored.values()
    members = [np.flatnonzero(mask & (patient == PATIENTS)) for patient in np.unique(PATIENTS[mask])]
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        records = np.concatenate([members[at] for at in random.integers(len(members), size=len(members))])
        drawn.append(np.mean([roc_auc_score(Y_TRUE[records, c], run.y_score[records, c]) for c in range(2)]))
    shown = next(cells for cells in page(*ROWS) if cells["part of fold 10"] == "male")["2. lp on net (random)"]
    _, low, high = (float(number) for number in shown.replace("(", "").replace(")", "").replace("–", " ").split())

    assert high - low == pytest.approx(np.diff(np.quantile(drawn, [0.025, 0.975]))[0], rel=0.2)


def test_the_first_rows_and_a_baseline_are_shown() -> None:
    shown = list(page(*ROWS)[0])
    assert shown[-3:] == ["1. lpft on net (random)", "2. lp on net (random)", "4. ft on net (random)"]
    first = [f"{place}. {one.name}" for place, one in enumerate(ROWS[:3], 1)]
    assert list(page(*ROWS, baseline=None)[0])[-3:] == first


def test_a_part_without_frequent_labels_has_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subgroups, "AGES", (0, 19, 1000))
    cells = next(one for one in page(*ROWS) if one["part of fold 10"] == "under 19")

    assert cells["labels"] == "0"
    assert cells["2. lp on net (random)"] == "–"


def test_the_baseline_is_that_of_the_first_row() -> None:
    """Two starts have two baselines: the first row's is beside it, though another ranks higher."""
    rows = [replace(one, init=init) for one, init in zip(ROWS, ("own:1", "own:2", "own:2", "own:1"), strict=True)]
    rows[1] = replace(rows[1], method="ft")

    assert list(page(*rows)[0])[-3:] == ["1. lpft on net (own:1)", "2. ft on net (own:2)", "4. ft on net (own:1)"]


def test_the_board_with_most_contrasts_is_shown() -> None:
    plain, compared = (board_of(ROWS, baseline) for baseline in (None, "ft"))
    few = board_of(ROWS[2:], "ft")

    assert most_compared([plain, few, compared]) is compared
    assert most_compared([plain, board_of(ROWS[:1], None)]) is plain


def test_workers_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    here = page(*ROWS)
    monkeypatch.setattr(page_module, "FEW_PARTS", 0)
    monkeypatch.setattr("bench.boards.on_cores.num_cores", lambda: 2)
    monkeypatch.setattr("bench.data.pool.num_cores", lambda: 2)
    monkeypatch.setattr(page_module, "make_replicates", None)  # not in this process

    assert page(*ROWS) == here
