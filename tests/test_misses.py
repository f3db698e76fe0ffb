"""The records that a run gets most wrong: by loss, by a label at the threshold of fold 9, elsewhere, and by command."""

from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score, log_loss

import bench
import bench.cli
from bench.boards.misses import FALSE_ALARM, LOSS, MISSED
from bench.data.datasets import load_records
from bench.data.tasks import LabelTable, Task, find_task, label_table
from bench.errors import BenchError
from bench.registry import registry as registering


@pytest.fixture(scope="module")
def truth(demo_set: Path) -> LabelTable:
    """Labels of folds 9 and 10 of the demo set."""
    records = load_records(demo_set)
    table = label_table(records, find_task("superdiag", records))
    return table.select(table.strat_fold >= 9)


@pytest.fixture(scope="module")
def probability(truth: LabelTable) -> NDArray[np.float64]:
    """Made-up probabilities [record, label] that are right more often than not, and no two are equal."""
    random = np.random.default_rng(3)
    return np.asarray(0.05 + 0.9 * (0.3 * truth.y_true + 0.7 * random.random(truth.y_true.shape)))


@pytest.fixture(scope="module")
def runs(
    demo_set: Path, truth: LabelTable, probability: NDArray[np.float64], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Scores of folds 9 and 10, of fold 10 alone, and of both without a scale."""
    folder = tmp_path_factory.mktemp("runs")
    both = pd.DataFrame(probability, index=truth.ecg_id, columns=list(truth.labels))
    silent = {"data": demo_set, "runs": folder, "log": lambda line: None}
    bench.score(both, "superdiag", "both folds", scale="probability", **silent)  # type: ignore[arg-type]
    bench.score(both[truth.strat_fold == 10], "superdiag", "one fold", scale="probability", **silent)  # type: ignore[arg-type]
    bench.score(both, "superdiag", "unknown scale", **silent)  # type: ignore[arg-type]
    bench.score(both[truth.strat_fold == 10], "superdiag", "neither", **silent)  # type: ignore[arg-type]
    return folder


def test_the_largest_losses_are_the_mean_cross_entropy_over_labels(
    demo_set: Path, truth: LabelTable, probability: NDArray[np.float64], runs: Path
) -> None:
    frame = bench.misses("both folds", n=4, data=demo_set, runs=runs)

    test = truth.strat_fold == 10
    loss = [log_loss(y, p, labels=[False, True]) for y, p in zip(truth.y_true[test], probability[test], strict=True)]
    worst = np.argsort(loss)[::-1][:4]
    assert frame["ecg_id"].tolist() == truth.ecg_id[test][worst].tolist()
    np.testing.assert_allclose(frame["loss"], np.array(loss)[worst], rtol=1e-6)
    assert set(frame["why"]) == {LOSS}
    assert frame["score"].isna().all()
    table = load_records(demo_set).table.loc[frame["ecg_id"]]
    assert frame["patient_id"].tolist() == table["patient_id"].tolist()
    assert frame["age"].tolist() == table["age"].tolist()
    for row, y in zip(frame.to_dict("records"), truth.y_true[test][worst], strict=True):
        assert row["true"] == "; ".join(np.array(truth.labels)[y])
    assert "of ptb-xl" not in frame.attrs["title"]  # the demo set says that it is synthetic
    assert "fold 10 of synthetic-" in frame.attrs["title"]


def test_missed_positives_and_false_alarms_are_at_the_best_threshold_of_fold_9(
    demo_set: Path, truth: LabelTable, probability: NDArray[np.float64], runs: Path
) -> None:
    label = truth.labels[2]
    frame = bench.misses("both folds", label, n=1000, data=demo_set, runs=runs)

    y, p, val = truth.y_true[:, 2], probability[:, 2], truth.strat_fold == 9
    best = max(p[val], key=lambda threshold: (f1_score(y[val], p[val] >= threshold), threshold))
    missed = [i for i in np.argsort(p) if not val[i] and y[i] and p[i] < best]
    alarms = [i for i in np.argsort(-p) if not val[i] and not y[i] and p[i] >= best]
    assert missed and alarms
    assert frame["ecg_id"].tolist() == truth.ecg_id[[*missed, *alarms]].tolist()
    assert frame["why"].tolist() == [MISSED] * len(missed) + [FALSE_ALARM] * len(alarms)
    np.testing.assert_allclose(frame["threshold"], best)
    np.testing.assert_allclose(frame["score"], p[[*missed, *alarms]])
    np.testing.assert_allclose(frame[f"score {label}"], frame["score"])
    num = int(y[~val].sum())
    assert frame.attrs["title"].startswith(f"{label}: {len(missed)} of {num} positives missed, {len(alarms)} of ")
    few = bench.misses("both folds", label, n=1, data=demo_set, runs=runs)
    assert few["ecg_id"].tolist() == truth.ecg_id[[missed[0], alarms[0]]].tolist()


def test_fold_9_can_be_looked_at_instead(demo_set: Path, truth: LabelTable, runs: Path) -> None:
    frame = bench.misses("both folds", n=1000, fold=9, data=demo_set, runs=runs)

    assert set(frame["ecg_id"]) == set(truth.ecg_id[truth.strat_fold == 9])


def test_without_fold_9_the_threshold_is_a_half_and_says_so(demo_set: Path, truth: LabelTable, runs: Path) -> None:
    frame = bench.misses("one fold", truth.labels[0], data=demo_set, runs=runs)

    assert set(frame["threshold"]) == {0.5}
    assert "thresholds 0.5, because it has no scores of fold 9" in frame.attrs["title"]


def test_scores_without_a_scale_have_decisions_and_no_loss(
    demo_set: Path, truth: LabelTable, probability: NDArray[np.float64], runs: Path
) -> None:
    with pytest.raises(BenchError, match=r"no scale, so no loss; name a --label"):
        bench.misses("unknown scale", data=demo_set, runs=runs)
    with pytest.raises(BenchError, match=r"no scale and none are of fold 9"):
        bench.misses("neither", truth.labels[0], data=demo_set, runs=runs)

    frame = bench.misses("unknown scale", truth.labels[2], n=3, data=demo_set, runs=runs)

    known = bench.misses("both folds", truth.labels[2], n=3, data=demo_set, runs=runs)
    assert frame["ecg_id"].tolist() == known["ecg_id"].tolist()
    assert frame["loss"].isna().all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"label": "MIX"}, "has no label 'MIX'; its labels: CD, HYP"),
        ({"n": 0}, "at least 1, got 0"),
        ({"out": "sheet.jpg"}, "sheet.jpg ends in '.jpg'; a contact sheet is one of .png, .pdf, .svg"),
    ],
)
def test_mistakes_are_one_line(demo_set: Path, runs: Path, given: dict[str, object], words: str) -> None:
    with pytest.raises(BenchError, match=words.replace(".", r"\.")):
        bench.misses("both folds", data=demo_set, runs=runs, **given)  # type: ignore[arg-type]


def test_the_command_prints_what_python_returns(
    demo_set: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = bench.misses("both folds", "MI", n=2, data=demo_set, runs=runs)
    words = ["bench", "misses", "both folds", "--label", "MI", "--n", "2", "--data", str(demo_set), "--runs", str(runs)]
    monkeypatch.setenv("COLUMNS", "80")
    table = tmp_path / "misses.csv"

    monkeypatch.setattr(sys, "argv", [*words, "--out", str(table)])
    bench.cli.app(standalone_mode=False)
    shown = capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*words, "--json"])
    bench.cli.app(standalone_mode=False)
    plain = json.loads(capsys.readouterr().out)

    assert [row["ecg_id"] for row in plain["records"]] == frame["ecg_id"].tolist()
    assert plain["title"] == frame.attrs["title"]
    assert all(str(number) in shown for number in frame["ecg_id"])
    pd.testing.assert_frame_equal(
        pd.read_csv(StringIO(table.read_text()), dtype={"record": str}), frame, check_dtype=False
    )
    assert max(map(len, shown.splitlines())) <= 80 or str(table) in shown


def test_a_task_with_one_label_prints_its_numbers_once(
    demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registering._REGISTRY, "plugins", dict(registering.registry().plugins))
    records = load_records(demo_set)
    task = bench_plugin_task()
    table = label_table(records, task)
    fold = table.select(table.strat_fold == 10)
    frame = pd.DataFrame(np.random.default_rng(0).random(fold.y_true.shape), fold.ecg_id, list(fold.labels))
    result = bench.score(frame, task, "one", scale="probability", data=demo_set, runs=tmp_path, log=lambda line: None)

    value = result.metrics["auroc"].iloc[-1]
    assert len(result.metrics) == 3
    assert repr(result).count(f"{value:.4f}") == 1
    assert result._repr_html_().count(f"{value:.4f}") == 1


def bench_plugin_task() -> Task:
    """Infarction, yes or no."""
    return Task(
        "infarction-yes-no",
        "myocardial infarction",
        lambda code, statement: ["MI"] if statement["diagnostic_class"] == "MI" else [],
        keeps_unlabeled=True,
    )
