"""Two rows compared in subgroups: in Python, by command, with priors of the board, and refused in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import bench
import bench.cli
from bench.boards.subgroups import DIFFERENCES, SUBGROUPS
from bench.data.datasets import load_records
from bench.data.tasks import LabelTable, find_task, label_table
from bench.demo.dataset import write_demo
from bench.errors import BenchError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic PTB-XL, of which only the tables are used."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    write_demo(folder, 800, seed=4, rates=(100,))
    return folder


@pytest.fixture(scope="module")
def truth(data: Path) -> LabelTable:
    records = load_records(data)
    table = label_table(records, find_task("superdiag", records))
    return table.select(table.strat_fold == 10)


@pytest.fixture(scope="module")
def is_male(data: Path, truth: LabelTable) -> np.ndarray:
    return (load_records(data).table.loc[truth.ecg_id, "sex"] == 0).to_numpy()


@pytest.fixture(scope="module")
def runs(data: Path, truth: LabelTable, is_male: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows of three seeds: `better for men` has less noise than `plain` for men alone, `other` is as plain."""
    folder = tmp_path_factory.mktemp("runs")
    shared = np.random.default_rng(0).normal(size=truth.y_true.shape)
    for at, name in enumerate(("better for men", "plain", "other")):
        for seed in range(3):
            own = 0.05 * np.random.default_rng([at, seed]).normal(size=truth.y_true.shape)
            noise = np.where(is_male[:, None] & (at == 0), 0.3, 1.0) * shared
            frame = pd.DataFrame(truth.y_true + noise + own, truth.ecg_id, list(truth.labels))
            bench.score(frame, "superdiag", name, seed=seed, data=data, runs=folder, log=lambda line: None)
    return folder


def test_a_difference_is_shown_where_it_is(data: Path, truth: LabelTable, is_male: np.ndarray, runs: Path) -> None:
    found = bench.compare("better for men", "plain", by="sex", data=data, runs=runs)
    frame = found.subgroups  # type: ignore[attr-defined]

    assert list(frame.columns) == list(DIFFERENCES)
    assert frame["group"].tolist() == ["male", "female"]
    assert found.as_data()["num_looks"] == 2
    male, female = frame.to_dict("records")
    assert male["low"] > 0.1 and male["p"] < 0.01
    assert female["low"] < 0 < female["high"]
    assert male["p_others"] == pytest.approx(female["p_others"])
    assert male["p_others"] < 0.01
    scores = bench.load_results(runs)["folder"]
    part = truth.y_true[is_male]
    labels = [c for c in range(part.shape[1]) if min(part[:, c].sum(), (~part[:, c]).sum()) >= 10]
    assert male["labels"] == len(labels)
    of_seeds = []
    for folder in [path for path in scores if "better" in path]:
        with np.load(Path(folder) / "predictions.npz") as file:
            y_score = file["logits_fold10"][is_male]
        of_seeds.append(np.mean([roc_auc_score(part[:, c], y_score[:, c]) for c in labels]))
    assert male["first_auroc"] == pytest.approx(np.mean(of_seeds))
    assert male["difference"] == pytest.approx(male["first_auroc"] - male["second_auroc"])
    assert male["records"] == is_male.sum() and male["pairs"] == 3
    for shown in (repr(found), found._repr_html_()):
        assert f"{male['difference']:+.4f}" in shown and "female" in shown


def test_more_looks_make_wider_intervals(data: Path, runs: Path) -> None:
    one = bench.compare("better for men", "plain", by="sex", data=data, runs=runs).subgroups  # type: ignore[attr-defined]
    many = bench.compare("better for men", "plain", by=["sex", "age"], data=data, runs=runs).subgroups  # type: ignore[attr-defined]

    both = many[many["by"] == "sex"]
    np.testing.assert_allclose(both["difference"], one["difference"])
    assert (both["high"].to_numpy() > one["high"].to_numpy()).all()
    assert (both["p"].to_numpy() >= one["p"].to_numpy()).all()
    three = bench.compare("better for men", "plain", "other", by="sex", data=data, runs=runs).subgroups  # type: ignore[attr-defined]
    assert len(three) == 6


def test_rows_of_folders_can_be_compared_within(data: Path, runs: Path) -> None:
    folders = bench.load_results(runs).query("seed == 0").sort_values("row")["folder"].tolist()
    found = bench.compare(*folders[:2], by="sex", data=data, runs=runs)

    assert found.as_data()["subgroups"][0]["pairs"] == 1


@pytest.mark.parametrize(
    ("by", "words"), [("height", "no subgroups by 'height'; expected age, sex, device, site"), ("sex,no", "'no'")]
)
def test_unknown_subgroups_are_refused(data: Path, runs: Path, by: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        bench.compare("better for men", "plain", by=by, data=data, runs=runs)


def test_a_data_set_without_the_column_is_named(data: Path, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "scp_statements.csv").write_bytes((data / "scp_statements.csv").read_bytes())
    table = pd.read_csv(data / "ptbxl_database.csv")
    table["site"] = np.nan
    table.to_csv(tmp_path / "ptbxl_database.csv", index=False)

    with pytest.raises(BenchError, match=r"no subgroups by site: this data set has age, sex, device"):
        bench.compare("better for men", "plain", by="site", data=tmp_path, runs=runs)


def test_the_command_prints_it_in_80_columns(
    data: Path, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["bench", "compare", "better for men", "plain", "--by", "sex", "--data", str(data), "--runs", str(runs)]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        bench.cli.app(standalone_mode=False)
    shown = capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*words, "--json"])
    with pytest.raises(SystemExit):
        bench.cli.app(standalone_mode=False)
    plain = json.loads(capsys.readouterr().out)

    assert "sex: male" in shown and "hold for all 2 together (Bonferroni)" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80
    male = plain["subgroups"][0]
    assert f"{male['difference']:+.4f}" in shown


def test_every_row_of_every_section_has_its_subgroups(data: Path, runs: Path, tmp_path: Path) -> None:
    board = bench.leaderboard(runs, data=data)
    frame = board.subgroups

    assert list(frame.columns) == list(SUBGROUPS)
    assert set(frame["row"]) == {"better for men (external)", "plain (external)", "other (external)"}
    assert set(frame["by"]) == {"age", "sex"}  # no device and no site has 100 records of fold 10 here
    known = frame.dropna(subset=["auroc"])
    assert ((known["auroc_low"] < known["auroc"]) & (known["auroc"] < known["auroc_high"])).all()
    board.write(tmp_path, "csv")
    read = pd.read_csv(tmp_path / "subgroups.csv").fillna({"manifest": ""})
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)
