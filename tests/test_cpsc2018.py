"""CPSC2018 in its PhysioNet form, as another dataset by the same door: headers to labels, folds, signals, boards."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
from numpy.typing import NDArray

import bench.cli
from bench.boards.truth import Truth
from bench.data import verify
from bench.data.datasets import cpsc2018, load_records
from bench.data.prepared import prepare_signals
from bench.data.show import draw_record
from bench.data.signals import SignalSpec
from bench.data.splits import deal
from bench.data.tasks import find_task, label_table, tasks_of
from bench.data.waveforms import LEADS, read_waveform
from bench.errors import DataError
from bench.evaluation import metrics
from bench.inference import predict_records
from bench.pages.publish import faults_of
from bench.results.result import find_results

RATE = 500
SECONDS = (6, 10, 15, 31, 8)
"""Lengths of the records, in turn."""
DX = {"AFIB": "164889003", "1AVB": "270492004", "CLBBB": "164909002", "NORM": "426783006", "PAC": "284470004"}
DX |= {"PVC": "164884008", "CRBBB": "59118001", "STD_": "429622005", "INJAL": "164931005"}
"""Statements of the synthetic PTB-XL -> SNOMED codes, here standing for the nine labels."""


def write_record(folder: Path, number: int, digital: NDArray[np.int16], dx: list[str]) -> None:
    """A record as the challenge has it: MATLAB 4 data after 24 bytes; odd numbers in the spelling of 2020."""
    name, old = f"A{number:04d}", number % 2
    scipy.io.savemat(folder / f"{name}.mat", {"val": digital}, format="4")
    lines = [f"{name} 12 500 {digital.shape[1]}" + (" 05-Feb-2020 11:39:16" if old else "")]
    for lead, values in zip(LEADS, digital, strict=True):
        checksum = (int(values.sum(dtype=np.int64)) + 2**15) % 2**16 - 2**15
        lines.append(f"{name}.mat 16+24 1000/mV 16 0 {values[0]} {checksum} 0 {lead}")
    said = {"Age": 20 + number % 60 if number % 7 else "NaN", "Sex": "Male" if number % 3 else "Female"}
    said |= {"Dx": ",".join(dx), "Rx": "Unknown", "Hx": "Unknown", "Sx": "Unknown"}
    lines += [f"#{key}: {value}" if old else f"# {key}: {value}" for key, value in said.items()]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def written(demo_set: Path) -> dict[int, tuple[NDArray[np.int16], list[str]]]:
    """Number -> digital signals [lead, time] and SNOMED codes, made of the synthetic PTB-XL at 500 Hz."""
    source = load_records(demo_set)
    made = {}
    for path, codes in zip(source.paths(RATE), source.scp_codes, strict=True):
        if dx := [DX[code] for code in codes if code in DX]:
            number = 1 + len(made)
            whole = np.rint(read_waveform(path)[0] * 1000).astype(np.int16)
            length = SECONDS[number % len(SECONDS)] * RATE
            made[number] = (np.tile(whole, 7)[:, :length], dx)
    return made


@pytest.fixture(scope="module")
def folder(written: dict[int, tuple[NDArray[np.int16], list[str]]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset in g1/, g2/, ...; read it, never write into it."""
    root = tmp_path_factory.mktemp("data") / "cpsc_2018"
    for number, (digital, dx) in written.items():
        place = root / f"g{1 + number // 50}"
        place.mkdir(parents=True, exist_ok=True)
        write_record(place, number, digital, dx)
    return root


@pytest.fixture
def headers(folder: Path, tmp_path: Path) -> Path:
    """A copy of the headers alone, all in one folder."""
    for path in folder.rglob("*.hea"):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_headers_become_records(folder: Path, written: dict[int, tuple[NDArray[np.int16], list[str]]]) -> None:
    records = load_records(folder)

    assert records.ecg_id.tolist() == sorted(written) == records.patient_id.tolist()
    assert len(records) > 120 and records.dataset == "cpsc2018"
    for number, codes in zip(records.ecg_id, records.scp_codes, strict=True):
        assert codes == {cpsc2018.LABELS[code][0]: 100.0 for code in written[number][1]}
    assert records.table.loc[[1, 3, 8], "sex"].tolist() == [0, 1, 0]
    assert records.table["age"].isna().sum() == len(written) // 7 and records.table.loc[5, "age"] == 25
    table = label_table(records, find_task("cpsc2018"))
    assert table.labels == ("AF", "I-AVB", "LBBB", "Normal", "PAC", "PVC", "RBBB", "STD", "STE")


def test_signals_are_what_was_written(folder: Path, written: dict[int, tuple[NDArray[np.int16], list[str]]]) -> None:
    records = load_records(folder)
    for row in (0, 1, 2, 3):  # both spellings of the header
        signals, rate = read_waveform(records.paths(RATE)[row])
        assert rate == RATE
        assert np.array_equal(np.rint(signals * 1000), written[row + 1][0])


def test_each_record_is_its_middle_10_s_or_filled_up(
    folder: Path,
    written: dict[int, tuple[NDArray[np.int16], list[str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    prepared = prepare_signals(load_records(folder), SignalSpec(RATE, "none"))
    assert prepared.values.shape == (len(written), 12, 5000)
    found = prepared.read(np.arange(5)) * 1000
    for row in range(5):
        digital = written[row + 1][0]
        spare = digital.shape[1] - 5000
        expected = digital[:, spare // 2 :][:, :5000] if spare > 0 else np.pad(digital, ((0, 0), (-spare // 2,) * 2))
        np.testing.assert_allclose(found[row], expected, atol=0.1)

    zscore = prepare_signals(load_records(folder), SignalSpec(100, "zscore"))
    short = zscore.read(np.array([4]))[0]  # 6 s
    assert not short[:, :200].any() and not short[:, -200:].any() and short[:, 200:800].any(axis=0).all()
    assert short[:, 200:800].std() == pytest.approx(1, abs=1e-3)


def test_own_folds_share_the_labels_and_do_not_depend_on_the_layout(folder: Path, headers: Path) -> None:
    records, flat = load_records(folder), load_records(headers)
    assert records.content == flat.content and records.name == flat.name
    assert records.name.startswith("cpsc2018-own-folds-")
    table = label_table(records, find_task("cpsc2018"))
    counts = np.array([table.y_true[table.strat_fold == fold].sum(axis=0) for fold in range(1, 11)])
    sizes = np.bincount(table.strat_fold)[1:]
    assert np.abs(counts - counts.mean(axis=0)).max() <= 2 and np.ptp(sizes) <= 3


def test_parts_are_dealt_evenly() -> None:
    rng = np.random.default_rng(0)
    shares = np.column_stack([rng.random((300, 4)) < (0.5, 0.2, 0.05, 0.03), np.ones(300)]).astype(float)
    part = deal(shares, 10)
    counts = np.array([shares[part == one].sum(axis=0) for one in range(10)])
    assert np.abs(counts - counts.mean(axis=0)).max() < 2
    assert np.bincount(part).sum() == 300 and set(part) == set(range(10))


def test_the_folds_of_strodthoffs_file_are_taken(headers: Path) -> None:
    own = load_records(headers)
    folds = pd.DataFrame({"filename": [f"A{i:04d}" for i in own.ecg_id], "strat_fold": own.strat_fold % 10 + 1})
    folds.sample(frac=1, random_state=0).to_csv(headers / "icbeb_database.csv")

    theirs = load_records(headers)

    assert theirs.strat_fold.tolist() == (own.strat_fold % 10 + 1).tolist()
    assert theirs.name.startswith("cpsc2018-icbeb-folds-")
    task = find_task("cpsc2018")
    assert label_table(theirs, task).fingerprint != label_table(own, task).fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[1:], "icbeb_database.csv has no fold for 1 of the records, the first A0001"),
        (lambda t: t.assign(strat_fold=11), "with a strat_fold of 1 to 10"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "must name each record once"),
        (lambda t: t.assign(strat_fold="x"), "strat_fold of filename A0001 is 'x', expected a whole number"),
        (lambda t: t.drop(columns="filename"), "lacks column filename"),
    ],
)
def test_a_bad_file_of_folds_is_refused(
    headers: Path, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    names = [f"A{i:04d}" for i in load_records(headers).ecg_id]
    change(pd.DataFrame({"filename": names, "strat_fold": 1})).to_csv(headers / "icbeb_database.csv")
    with pytest.raises(DataError, match=message):
        load_records(headers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A0001 12 500 5000\n", r"A0001.hea has no comment `#Dx: `"),
        ("#Dx: 426177001\n", r"Dx '426177001' is none of the nine of CPSC2018 .* cpsc_2018 alone is read"),
        ("#Dx: 59118001,\n", r"Dx '' is none of the nine"),
        ("#Dx: \xff\n", "A0001.hea is not a text file"),
    ],
)
def test_a_header_that_is_not_of_cpsc2018_is_refused(headers: Path, text: str, message: str) -> None:
    (headers / "A0001.hea").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message) as caught:
        load_records(headers)
    assert "\n" not in str(caught.value)


def test_a_record_named_otherwise_or_twice_is_refused(headers: Path) -> None:
    (headers / "g1").mkdir()
    shutil.copy(headers / "A0002.hea", headers / "g1")
    with pytest.raises(DataError, match=r"record A0002 twice: .*g1/A0002"):
        load_records(headers)
    (headers / "g1" / "A0002.hea").rename(headers / "Axx.hea")
    with pytest.raises(DataError, match=r"Axx.hea is not named as a record of CPSC2018"):
        load_records(headers)


def test_a_damaged_signal_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    copy = shutil.copytree(folder, tmp_path / "copy")
    data = copy / "g1" / "A0007.mat"
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"A0007.mat has .* bytes where A0007.hea implies"):
        prepare_signals(load_records(copy), SignalSpec(RATE, "none"))
    data.unlink()
    with pytest.raises(DataError, match=r"lacks 1 of the .* files at 500 Hz \(the first: g1/A0007.mat\)"):
        prepare_signals(load_records(copy), SignalSpec(RATE, "none"))


def test_tasks_are_of_their_dataset(folder: Path, demo_set: Path) -> None:
    cpsc, ptbxl = load_records(folder), load_records(demo_set)
    assert [task.name for task in tasks_of(cpsc)] == ["cpsc2018"]
    assert "cpsc2018" not in [task.name for task in tasks_of(ptbxl)]
    with pytest.raises(
        DataError, match=r"task superdiag belongs to ptb-xl, but .* holds cpsc2018; tasks of cpsc2018: cpsc2018"
    ):
        label_table(cpsc, find_task("superdiag"))
    with pytest.raises(
        DataError, match=r"task cpsc2018 belongs to cpsc2018, but .* holds ptb-xl; tasks of ptb-xl: all, diag"
    ):
        label_table(ptbxl, find_task("cpsc2018"))
    with pytest.raises(DataError, match="cpsc2018 has signals at 500 Hz, not at 100 Hz; use --source-rate 500"):
        prepare_signals(cpsc, SignalSpec(100, "none"), source_rate=100)


def bench_says(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command line; its exit code."""
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    try:
        bench.cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_from_headers_to_a_board_that_holds(
    folder: Path, headers: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bench run`, `leaderboard`, and every number again from the headers alone."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.chdir(home)
    monkeypatch.setattr(metrics, "MIN_POSITIVES", 3)  # fold 10 has 15 records here
    words = ["--task", "cpsc2018", "--arch", "net1d_mini", "--method", "lp(probe_epochs=2)", "--init", "random"]
    assert bench_says(["run", "--data", str(folder), *words], monkeypatch) == 0
    (result,) = find_results(home / "runs")
    assert result.cell["source_rate"] == 500 and result.document["dataset"]["name"].startswith("cpsc2018-own-folds-")
    scored = result.document["metrics"]["fold_10"]
    assert 0 < scored["macro"]["all"]["auroc"]["value"] < 1 and scored["num_records"] == scored["num_patients"]

    assert bench_says(["leaderboard", "--data", str(headers)], monkeypatch) == 0
    stored = result.predictions[10]
    paths = [
        load_records(folder).paths(RATE)[row] for row in np.searchsorted(load_records(folder).ecg_id, stored.ecg_id)
    ]
    log = list(
        csv.DictReader(io.StringIO(predict_records(result.folder, [path.with_suffix(".mat") for path in paths])))
    )
    found = [[float(row[label]) for label in stored.labels] for row in log]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-stored.logits.astype(float))), atol=1e-4)

    page = home / "runs/leaderboards" / load_records(folder).name / "cpsc2018.md"
    assert "| net1d_mini, from 500 Hz" in page.read_text()
    assert "F1" in page.with_name("cpsc2018-calibration.md").read_text()
    assert not [fault for fault in faults_of(result, Truth(headers)) if "commit" not in fault]


def test_every_verb_of_data(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench_says(["list", "tasks", "--data", str(folder), "--json"], monkeypatch) == 0
    listed = json.loads(capsys.readouterr().out)["tasks"]
    assert [(row["name"], row["labels"]) for row in listed] == [("cpsc2018", 9)]
    assert bench_says(["data", "info", str(folder), "--json"], monkeypatch) == 0
    log = json.loads(capsys.readouterr().out)
    assert log["records"] == log["patients"] == len(load_records(folder)) and [*log["tasks"]] == ["cpsc2018"]
    picture = tmp_path / "a.svg"
    assert bench_says(["data", "show", "5", "--data", str(folder), "--out", str(picture)], monkeypatch) == 0
    assert picture.read_text().count("cpsc2018-own-folds")
    words = ["--task", "cpsc2018", "--fraction", "0.5", "--out", str(tmp_path / "m.csv")]
    assert bench_says(["data", "manifest", "--data", str(folder), *words], monkeypatch) == 0
    assert (tmp_path / "m.csv").read_text().count(",test") == (load_records(folder).strat_fold == 10).sum()


def test_the_nine_labels_may_be_words(headers: Path) -> None:
    before = load_records(headers).content
    for path in headers.glob("A*.hea"):
        text = path.read_text()
        for code, (label, _) in cpsc2018.LABELS.items():
            text = text.replace(code, label)
        path.write_text("\ufeff" + text, encoding="utf-8")
    assert "164889003" not in "".join(path.read_text(encoding="utf-8") for path in headers.glob("A*.hea"))
    assert load_records(headers).content == before


def test_the_first_release_is_named_with_where_the_other_is(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "A0001.mat", {"ECG": {"sex": "Male", "data": np.zeros((12, 5000))}})
    (tmp_path / "REFERENCE.csv").write_text("Recording,First_label\nA0001,5\n")
    with pytest.raises(DataError, match=r"CPSC2018 as first released .*physionet.org/content") as caught:
        load_records(tmp_path)
    assert "\n" not in str(caught.value)


def test_verify_takes_the_folder_as_the_challenge_ships_it(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "cpsc_2018")
    (copy / "g1" / "RECORDS").write_text("A0001\n")
    report = verify.verify(copy)
    assert not report.faulty and report.num_records == len(load_records(folder)) == report.present[500]
    found = {check.name: check.failures for check in report.checks if check.failures}
    assert found.keys() <= {"clipped leads", "flat stretches"}
    header, data = copy / "g1" / "A0002.hea", copy / "g1" / "A0003.mat"
    header.write_text(header.read_text().replace("1000/mV", "1/mV"))
    data.write_bytes(data.read_bytes()[:-2])
    (copy / "g1" / "A0004.mat").unlink()
    report = verify.verify(copy)
    found = {check.name: check.failures for check in report.checks if check.failures}
    assert report.faulty
    assert found["missing files"] == ("g1/A0004.mat",)
    assert "A0003.mat has" in found["header against data"][0] and len(found["header against data"]) == 1
    assert found["amplitude"][0].startswith("2 at 500 Hz: leads I, ") and len(found["amplitude"]) == 1


def test_show_draws_what_training_sees(folder: Path, tmp_path: Path) -> None:
    records = load_records(folder)
    seconds = {2: "2.5-12.5 of 15 s", 3: "10.5-20.5 of 31 s"}
    for ecg_id, words in seconds.items():
        text = draw_record(records, ecg_id, tmp_path / "a.svg", "zscore").read_text()
        assert text.count(words) == 2
    assert " of 10 s" not in draw_record(records, 1, tmp_path / "a.svg").read_text()
