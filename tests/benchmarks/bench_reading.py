"""From WFDB files to prepared signals, against wfdb and scipy record by record; and from these to batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import scipy.signal
import torch
import wfdb

from baselines.net1d import ECGFounder, Net1DMini
from bench.data.datasets.ptbxl import TABLE, Records, load_records
from bench.data.prepared import PreparedSignals, Scaling, _prepare_chunk, prepare_signals
from bench.data.signals import PREPROCESSINGS, SignalSpec
from bench.data.waveforms import read_waveform
from bench.demo.dataset import write_demo
from bench.training.batches import SignalSource, epoch_batches
from bench.training.model import Classifier
from bench.training.precision import autocast

RECORDS, FEW, RATE, PTBXL = 1024, 32, 500, 21_799
SPEC = SignalSpec(RATE, "ecgfounder")
NOTCH = scipy.signal.iirnotch(50, 30, RATE)
BAND = scipy.signal.butter(4, [0.67, 40], btype="bandpass", fs=RATE)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    folder = tmp_path_factory.mktemp("data") / "demo"
    write_demo(folder, RECORDS, seed=0, rates=(RATE,))
    return load_records(folder)


def published(signals: np.ndarray) -> np.ndarray:
    """ECGFounder's published filters on one record [time, lead], lead by lead with scipy; then its z-score."""
    leads = []
    for lead in signals.T:
        lead = scipy.signal.filtfilt(*NOTCH, lead)
        lead = scipy.signal.filtfilt(*BAND, lead)
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
    """From a cold folder by two workers, the start of their server included: so there is one round."""
    monkeypatch.setattr("bench.data.pool.num_cores", lambda: 2)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    paths = [str(path) for path in records.paths(RATE)]
    compare(
        f"{RECORDS:,} records read and filtered for ECGFounder by 2 workers, their start included",
        lambda: prepare_signals(records, SPEC),
        f"wfdb.rdsamp, scipy's filters lead by lead ({FEW} records, scaled)",
        lambda: [published(wfdb.rdsamp(path)[0]) for path in paths[:FEW]],
        scale=RECORDS / FEW,
        rounds=1,
        warmup_rounds=0,
        goal="1.5 a core",
    )
    theirs = [published(wfdb.rdsamp(path)[0]) for path in paths[:4]]
    np.testing.assert_allclose(prepare_signals(records, SPEC).read(np.arange(4)), theirs, rtol=0, atol=2e-3)


def test_what_is_left_is_filtering(compare: Any, records: Records, tmp_path: Path, monkeypatch: Any) -> None:
    """What one worker does, against the compiled functions alone that it calls."""
    sources = dict(enumerate(records.signal_files(RATE)[:FEW]))
    paths = [source.path for source in sources.values()]
    target = tmp_path / "signals.npy"
    np.lib.format.open_memmap(target, mode="w+", dtype=np.int16, shape=(FEW, 12, 5000)).flush()
    raw = [read_waveform(path)[0].astype(np.float64) for path in paths]

    def compiled() -> None:
        for path, one in zip(paths, raw, strict=True):
            np.fromfile(path.with_name(path.name + ".dat"), dtype="<i2")
            for b, a in (NOTCH, BAND):
                for _ in range(2):  # forwards and backwards
                    scipy.signal.lfilter(b, a, one, axis=-1)
            scipy.ndimage.median_filter(one.ravel(), size=201, mode="constant")

    compare(
        f"{FEW} records prepared by one worker",
        lambda: _prepare_chunk(sources, target, SPEC, RATE, None, PREPROCESSINGS[SPEC.preprocessing]),
        "reading the bytes, and scipy's lfilter and median_filter, with nothing around them",
        compiled,
    )


def test_opening_a_warm_cache(compare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many records as PTB-XL has, which share their files."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    folder, spec = tmp_path / "demo", SignalSpec(100, "none", leads=("I",))
    write_demo(folder, 64, seed=0, rates=(100,))
    few = pd.read_csv(folder / TABLE)
    many = pd.concat([few] * (PTBXL // 64 + 1), ignore_index=True).head(PTBXL)
    many.assign(ecg_id=np.arange(PTBXL)).to_csv(folder / TABLE, index=False)
    records = load_records(folder)
    prepare_signals(records, spec)
    compare(f"opening the prepared signals of {PTBXL:,} records", lambda: prepare_signals(records, spec), goal="0.2 s")


@pytest.mark.parametrize(("backbone", "num", "batch_size"), [(Net1DMini, 256, 64), (ECGFounder, 16, 16)])
def test_cutting_batches(compare: Any, tmp_path: Path, backbone: Any, num: int, batch_size: int) -> None:
    """How long a step waits for its batch, which is cut in the same process from signals on disk."""
    torch.manual_seed(0)
    model = Classifier(backbone(), 5)
    spec = model.backbone.signal_spec
    values = np.lib.format.open_memmap(
        tmp_path / "signals.npy", mode="w+", dtype=np.int16, shape=(num, 12, 10 * spec.rate)
    )
    values[:] = np.random.default_rng(0).integers(-9000, 9000, values.shape)
    signals = PreparedSignals(
        *(spec, spec.rate, Scaling(), {}, np.arange(num)),
        np.load(tmp_path / "signals.npy", mmap_mode="r"),
        np.full(num, 1e-3, np.float32),
    )
    source = SignalSource(signals, np.arange(num), torch.zeros(num, 5), torch.float32)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)

    def cut() -> list[torch.Tensor]:
        return [source.training(rows, (0, "finetune", 0)) for rows in epoch_batches(num, batch_size, (0,))]

    batches = cut()

    def train() -> None:
        for batch in batches:
            with autocast("bf16", torch.device("cpu")):
                loss = model(batch).float().square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    compare(
        f"an epoch's batches cut from disk, {num} records of 12 x {10 * spec.rate}",
        cut,
        f"{backbone.__name__}'s training steps on them, bf16",
        train,
        goal="50",
    )
