"""A fraction of the training folds is nested, keeps patients whole and labels in proportion, and depends on no more."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.datasets.ptbxl import load_records
from bench.data.splits import deal, folds_to_score, held_out, split, thin
from bench.data.tasks import LabelTable, find_task, label_table
from bench.errors import DataError


@pytest.fixture(scope="module")
def table(demo_set: Path) -> LabelTable:
    return label_table(load_records(demo_set), find_task("superdiag"))


@pytest.fixture(scope="module")
def real(ptbxl: Path) -> LabelTable:
    return label_table(load_records(ptbxl), find_task("all"))


@st.composite
def label_tables(draw: st.DrawFn) -> LabelTable:
    """Training records of few patients with few labels, rare and frequent."""
    num = draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    y_true = rng.random((num, draw(st.integers(1, 5)))) < rng.random()
    y_true[~y_true.any(axis=1), 0] = True
    return LabelTable(
        "drawn",
        tuple("ABCDE"[: y_true.shape[1]]),
        np.sort(rng.choice(1000, num, replace=False)),
        rng.integers(0, draw(st.integers(1, 80)), num),
        rng.integers(1, 9, num),
        y_true,
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(label_tables(), st.integers(0, 3), st.data())
def test_a_draw_is_nested_whole_by_patient_and_of_the_wanted_size(
    train: LabelTable, draw: int, data: st.DataObject
) -> None:
    sizes = sorted(data.draw(st.lists(st.integers(1, len(train)), min_size=2, max_size=4)))
    kept = [thin(train, size, draw) for size in sizes]
    most = np.unique(train.patient_id, return_counts=True)[1].max()
    for mask, size in zip(kept, sizes, strict=True):
        assert set(train.patient_id[mask]).isdisjoint(train.patient_id[~mask])
        assert size <= mask.sum() < size + most
    for smaller, larger in itertools.pairwise(kept):
        assert not (smaller & ~larger).any()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(label_tables())
def test_a_draw_does_not_depend_on_the_order_of_records(train: LabelTable) -> None:
    order = np.random.default_rng(len(train)).permutation(len(train))
    other = replace(
        train,
        ecg_id=train.ecg_id[order],
        patient_id=train.patient_id[order],
        strat_fold=train.strat_fold[order],
        y_true=train.y_true[order],
    )
    size = max(1, len(train) // 3)
    assert set(train.ecg_id[thin(train, size, 0)]) == set(other.ecg_id[thin(other, size, 0)])


def test_parts_do_not_depend_on_the_order_in_which_columns_are_summed() -> None:
    """BLAS adds in an order of its own on each machine, and parts are often equally needy but for the last bit."""
    rng = np.random.default_rng(0)
    shares = np.column_stack([rng.random((2000, 40)) < rng.random(40) ** 3, np.ones(2000)])
    order = rng.permutation(41)

    for num_parts in (2, 10):
        assert np.array_equal(deal(shares, num_parts), deal(shares[:, order], num_parts))


def test_what_a_part_lacks_counts_by_the_share_of_each_column() -> None:
    """Worked out by hand. Five items have the first column, four the second, so an item is 1/5 or 1/4 of a column.

    Item 5 has both. Part 0 lacks 2.5/5 + 0/4 = 0.50 of them, part 1 lacks 1.5/5 + 1/4 = 0.55; both lack 2.5 items.
    """
    shares = np.array([[0, 1], [1, 0], [1, 1], [1, 0], [0, 1], [1, 1], [1, 0]], dtype=float)

    assert deal(shares, 2).tolist() == [0, 0, 1, 0, 0, 1, 0]


def test_a_rare_label_is_drawn_as_often_as_its_share() -> None:
    """Over many draws a label with one carrier is in an eighth of the eighths; it once was in all of them."""
    num, draws = 64, 400
    y_true = np.column_stack([np.arange(num) == 17, np.arange(num) % 3 == 0, np.ones(num, dtype=bool)])
    ids = np.arange(num)
    train = LabelTable("drawn", ("rare", "third", "whole"), ids, ids, np.ones(num, dtype=np.int64), y_true)

    counts = np.mean([y_true[thin(train, num // 8, draw)].sum(axis=0) for draw in range(draws)], axis=0)

    expected = y_true.sum(axis=0) / 8
    assert np.all(np.abs(counts - expected) < 4 * np.sqrt(expected / draws))


def test_fractions_of_a_draw_lie_in_each_other(table: LabelTable) -> None:
    kept = [set(split(table, fraction, draw=2).train.ecg_id) for fraction in (0.01, 0.1, 0.3, 1.0)]
    assert kept[0] < kept[1] < kept[2] < kept[3]
    assert kept[3] == set(table.ecg_id[table.strat_fold <= 8])


def test_fold_9_stays_whole_and_fold_10_out(table: LabelTable) -> None:
    parts = split(table, 0.1)
    assert parts.val.ecg_id.tolist() == table.ecg_id[table.strat_fold == 9].tolist()
    assert set(parts.train.strat_fold) <= set(range(1, 9))
    assert held_out(table).ecg_id.tolist() == table.ecg_id[table.strat_fold == 10].tolist()


def test_fold_9_is_scored_at_each_stage_and_fold_10_at_the_last(table: LabelTable) -> None:
    found = {stage: folds_to_score(table, stage) for stage in ("val", "test")}

    assert {stage: list(folds) for stage, folds in found.items()} == {"val": [9], "test": [9, 10]}
    for folds in found.values():
        for fold, part in folds.items():
            assert part.ecg_id.tolist() == table.ecg_id[table.strat_fold == fold].tolist()


def test_a_split_says_whether_it_is_whole(table: LabelTable) -> None:
    assert split(table).whole
    assert not split(table, 0.5).whole


def test_the_content_of_a_split_is_its_two_lists_of_records(table: LabelTable) -> None:
    parts = split(table)
    lists = [table.ecg_id[table.strat_fold < 9], table.ecg_id[table.strat_fold == 9]]
    hashes = [hashlib.sha256(ecg_id.astype("<i8").tobytes()).digest() for ecg_id in lists]
    assert parts.content == hashlib.sha256(hashes[0] + hashes[1]).hexdigest()

    backwards = np.arange(len(parts.val))[::-1]
    first_gone = np.arange(len(parts.val)) > 0
    assert replace(parts, val=parts.val.select(backwards)).content == parts.content
    assert replace(parts, val=parts.val.select(first_gone)).content != parts.content


def test_draws_differ_and_each_is_the_same_again(table: LabelTable) -> None:
    draws = [tuple(split(table, 0.3, draw).train.ecg_id) for draw in range(5)]
    assert len(set(draws)) == 5
    assert tuple(split(table, 0.3, 4).train.ecg_id) == draws[4]


def test_a_draw_depends_on_the_training_folds_alone(table: LabelTable) -> None:
    elsewhere = table.strat_fold > 8
    flipped = np.where(elsewhere[:, None], ~table.y_true, table.y_true)
    moved = np.where(table.strat_fold == 9, 10, np.where(table.strat_fold == 10, 9, table.strat_fold))
    expected = split(table, 0.3).train.ecg_id.tolist()
    assert split(replace(table, y_true=flipped), 0.3).train.ecg_id.tolist() == expected
    assert split(replace(table, strat_fold=moved), 0.3).train.ecg_id.tolist() == expected
    assert split(table.select(table.strat_fold <= 9), 0.3).train.ecg_id.tolist() == expected


def test_another_task_is_another_draw(demo_set: Path, table: LabelTable) -> None:
    rhythm = label_table(load_records(demo_set), find_task("rhythm"))
    shared = set(rhythm.ecg_id) & set(table.ecg_id)
    assert set(split(table, 0.3).train.ecg_id) & shared != set(split(rhythm, 0.3).train.ecg_id) & shared


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.0001, float("nan"), float("inf")])
def test_a_fraction_outside_0_to_1_is_refused(table: LabelTable, fraction: float) -> None:
    with pytest.raises(DataError, match=r"--fraction must lie in \(0, 1\]"):
        split(table, fraction)


def test_the_smallest_fraction_still_trains(table: LabelTable) -> None:
    assert len(split(table, 1e-9).train) >= 1


@pytest.mark.parametrize(("fold", "named"), [(9, "fold 9"), (8, "fold 1-8")])
def test_an_empty_part_is_named(table: LabelTable, fold: int, named: str) -> None:
    gone = table.select(table.strat_fold != 9 if fold == 9 else table.strat_fold > 8)
    with pytest.raises(DataError, match=f"no record in {named}"):
        split(gone)


def test_no_fold_10_is_named(table: LabelTable) -> None:
    with pytest.raises(DataError, match="fold 10; use --stage val"):
        held_out(table.select(table.strat_fold < 10))


def test_labels_that_no_training_record_has_are_listed(table: LabelTable) -> None:
    gone = table.select((table.strat_fold > 8) | ~table.y_true[:, table.labels.index("HYP")])
    assert split(gone).unseen_labels == ["HYP"]
    assert split(table).unseen_labels == []


def random_patients(train: LabelTable, size: int, seed: int) -> npt.NDArray[np.bool_]:
    """Records [record] of patients in random order until there are `size`."""
    patients, patient, counts = np.unique(train.patient_id, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(patients))
    taken = np.zeros(len(patients), dtype=bool)
    taken[order[: int(np.searchsorted(np.cumsum(counts[order]), size)) + 1]] = True
    return taken[patient]


def deviation(train: LabelTable, kept: npt.NDArray[np.bool_]) -> float:
    """Mean over labels of |frequency kept - frequency in all| / frequency in all."""
    whole = train.y_true.mean(axis=0)
    return float(np.mean(np.abs(train.y_true[kept].mean(axis=0) - whole) / whole))


def assert_in_proportion(train: LabelTable, fraction: float, share: float) -> None:
    size = round(fraction * len(train))
    ours = [deviation(train, thin(train, size, draw)) for draw in range(4)]
    random = [deviation(train, random_patients(train, size, seed)) for seed in range(20)]
    assert np.mean(ours) < share * np.mean(random)


def test_labels_keep_their_proportions_better_than_at_random(table: LabelTable) -> None:
    assert_in_proportion(table.select(table.strat_fold < 9), 0.25, 0.5)


@pytest.mark.ptbxl
@pytest.mark.parametrize(
    ("task", "fraction", "share"),
    # measured: 0.79, 0.40, 0.21, 0.08; of the 71 labels, 25 have fewer than one record in an even 1 %
    [("all", 0.01, 0.9), ("all", 0.1, 0.5), ("superdiag", 0.01, 0.4), ("superdiag", 0.1, 0.2)],
)
def test_real_labels_keep_their_proportions_better_than_at_random(
    ptbxl: Path, task: str, fraction: float, share: float
) -> None:
    table = label_table(load_records(ptbxl), find_task(task))
    assert_in_proportion(table.select(table.strat_fold < 9), fraction, share)


@pytest.mark.ptbxl
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3])
def test_real_fractions_have_the_wanted_size(real: LabelTable, fraction: float) -> None:
    parts = split(real, fraction)
    assert 0 <= len(parts.train) - round(fraction * 17418) < 10
    assert set(parts.train.patient_id).isdisjoint(held_out(real).patient_id)


@pytest.mark.ptbxl
def test_the_real_tenth_is_always_the_same(real: LabelTable) -> None:
    """Another choice of records would make every published fraction another one."""
    ecg_id = split(real, 0.1, draw=0).train.ecg_id
    assert hashlib.sha256(ecg_id.astype("<i8").tobytes()).hexdigest()[:16] == "3ea885c7a4d80e96"
