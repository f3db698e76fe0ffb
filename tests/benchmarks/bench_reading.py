"""From WFDB files to prepared signals, against wfdb and scipy record by record."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import wfdb

from bench.data.demo import write_demo
from bench.data.prepared import prepare_signals
from bench.data.ptbxl import Records, load_records
from bench.data.signals import SignalSpec
from bench.data.waveforms import read_waveform

RECORDS, FEW, RATE = 512, 32, 500
SPEC = SignalSpec(RATE, "ecgfounder")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    folder = tmp_path_factory.mktemp("data") / "demo"
    write_demo(folder, RECORDS, seed=0, rates=(RATE,))
    return load_records(folder)


def published(signals: np.ndarray) -> np.ndarray:
    """ECGFounder's published filters on one record [time, lead], lead by lead with scipy; then its z-score."""
    notch = scipy.signal.iirnotch(50, 30, RATE)
    band = scipy.signal.butter(4, [0.67, 40], btype="bandpass", fs=RATE)
    leads = []
    for lead in signals.T:
        lead = scipy.signal.filtfilt(*notch, lead)
        lead = scipy.signal.filtfilt(*band, lead)
        leads.append(lead - scipy.signal.medfilt(lead, 201))
    whole = np.array(leads)
    return (whole - whole.mean()) / (whole.std() + 1e-8)


def test_reading(compare: Any, records: Records) -> None:
    paths = records.paths(RATE)[:FEW]
    for path in paths:
        np.testing.assert_allclose(read_waveform(path)[0].T, wfdb.rdsamp(str(path))[0], rtol=0, atol=1e-6)
    compare(
        f"{FEW} records of 12 x 5000 read and checked",
        lambda: [read_waveform(path) for path in paths],
        "wfdb.rdsamp",
        lambda: [wfdb.rdsamp(str(path)) for path in paths],
        goal="3",
    )


def test_reading_and_preparing(compare: Any, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(path) for path in records.paths(RATE)]
    number = iter(range(100))

    def ours() -> Any:
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / str(next(number))))
        return prepare_signals(records, SPEC)

    theirs = [published(wfdb.rdsamp(path)[0]) for path in paths[:4]]
    np.testing.assert_allclose(ours().read(np.arange(4)), theirs, rtol=0, atol=2e-3)
    compare(
        f"{RECORDS} records read and filtered for ECGFounder, workers' start included",
        ours,
        f"wfdb.rdsamp, scipy's filters lead by lead ({FEW} records, scaled)",
        lambda: [published(wfdb.rdsamp(path)[0]) for path in paths[:FEW]],
        scale=RECORDS / FEW,
        rounds=2,
        warmup_rounds=0,
        goal="1.5 a core",
    )


def test_opening_a_warm_cache(compare: Any, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    prepare_signals(records, SPEC)
    compare(f"opening the prepared signals of {RECORDS} records", lambda: prepare_signals(records, SPEC))
