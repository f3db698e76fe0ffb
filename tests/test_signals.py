"""Each preprocessing gives the published numbers, resampling keeps what is there, windows lie where they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import wfdb
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.data import signals
from bench.data.signals import (
    PREPROCESSINGS,
    SHORTEST,
    Preprocessing,
    Signal,
    SignalSpec,
    ecgfounder,
    prepare_record,
    prepare_windows,
    register_preprocessing,
    resample,
    zscore,
)
from bench.data.waveforms import read_waveform
from bench.errors import DataError, PluginError
from bench.registry.source import code_hash


def published_ecgfounder(record: npt.NDArray[np.float64], rate: int) -> npt.NDArray[np.float64]:
    """The steps of PKUDigitalHealth/ECGFounder (util.py, filter_bandpass; then dataset.py's z-score), lead by lead."""
    notch, band = scipy.signal.iirnotch(50, 30, rate), scipy.signal.butter(4, [0.67, 40], btype="bandpass", fs=rate)
    width = int(0.4 * rate) + 1
    width = width + 1 if width % 2 == 0 else width
    leads = []
    for lead in record:
        lead = scipy.signal.filtfilt(*notch, lead) if rate > 100 else lead
        lead = scipy.signal.filtfilt(*band, lead)
        leads.append(lead - scipy.signal.medfilt(lead, kernel_size=width))
    filtered = np.array(leads)
    return (filtered - np.mean(filtered)) / (np.std(filtered) + 1e-8)


def fixed_record(rate: int = 500, seconds: float = 10) -> npt.NDArray[np.float32]:
    """[12, time] in mV: peaks once a second, hum at 50 Hz, a wandering baseline and an offset, other for each lead."""
    t = np.arange(round(rate * seconds)) / rate
    lead = np.arange(12)[:, None]
    peaks = np.exp(-(((t + 0.03 * lead) % 1.0 - 0.5) ** 2) / (2 * 0.02**2))
    drift = 0.3 * np.sin(2 * np.pi * (0.1 + 0.02 * lead) * t)
    hum = 0.05 * np.sin(2 * np.pi * 50 * t + lead)
    record: npt.NDArray[np.float32] = ((1 - 0.2 * lead) * peaks + drift + hum + 0.1 * lead).astype(np.float32)
    return record


def assert_published(paths: list[Path], rate: int) -> None:
    for path in paths:
        raw, found = read_waveform(path)
        assert found == rate
        truth = published_ecgfounder(wfdb.rdrecord(str(path)).p_signal.T, rate)
        ours = ecgfounder(raw, rate)
        assert ours.dtype == np.float32
        assert ours.shape == raw.shape
        assert np.abs(ours - truth).max() < 1e-5


def test_ecgfounder_is_the_published_preprocessing(demo_set: Path) -> None:
    assert_published([demo_set / f"records500/00000/{i:05d}_hr" for i in (1, 2, 50, 240)], 500)


def test_ecgfounder_at_100_hz_has_no_notch_and_the_other_steps(demo_set: Path) -> None:
    assert_published([demo_set / f"records100/00000/{i:05d}_lr" for i in (1, 50)], 100)


@pytest.mark.ptbxl
def test_ecgfounder_is_the_published_preprocessing_on_real_records(ptbxl: Path) -> None:
    paths = [ptbxl / f"records500/00000/{i:05d}_hr" for i in range(1, 21)]
    paths = [path for path in paths if path.with_name(path.name + ".dat").is_file()]
    assert len(paths) > 10
    assert_published(paths, 500)


@pytest.mark.parametrize("num", [SHORTEST + 1, 60, 150, 201, 202, 400])
def test_ecgfounder_of_a_short_record(num: int) -> None:
    """A running median wider than the record takes another path in scipy."""
    record = fixed_record()[:, :num]
    width = 201
    padded = np.pad(record.astype(np.float64), ((0, 0), (0, 0)))
    for steps in (scipy.signal.iirnotch(50, 30, 500), scipy.signal.butter(4, [0.67, 40], btype="bandpass", fs=500)):
        padded = scipy.signal.filtfilt(*steps, padded, axis=-1)
    beyond = np.pad(padded, ((0, 0), (width // 2, width // 2)))
    baseline = np.median(np.lib.stride_tricks.sliding_window_view(beyond, width, axis=-1), axis=-1)
    truth = padded - baseline
    truth = (truth - truth.mean()) / (truth.std() + 1e-8)
    assert np.abs(ecgfounder(record, 500) - truth).max() < 1e-5


def test_a_record_too_short_to_filter_is_refused() -> None:
    with pytest.raises(DataError, match="27 samples is too short"):
        ecgfounder(fixed_record()[:, :SHORTEST], 500)


def test_ecgfounder_removes_hum_and_drift_and_keeps_the_beats() -> None:
    t = np.arange(5000) / 500
    hum = np.sin(2 * np.pi * 50 * t)
    drift = np.sin(2 * np.pi * 0.1 * t)
    beats = fixed_record()[0].astype(np.float64) - 0.3 * drift
    clean = ecgfounder(np.tile(beats, (12, 1)).astype(np.float32), 500)[0, 500:-500]
    dirty = ecgfounder(np.tile(beats + hum + drift, (12, 1)).astype(np.float32), 500)[0, 500:-500]
    assert np.corrcoef(clean, dirty)[0, 1] > 0.999


def test_zscore_is_over_all_leads_at_once() -> None:
    record = fixed_record()
    scaled = zscore(record, 500)
    assert scaled.dtype == np.float32
    assert abs(float(scaled.mean(dtype=np.float64))) < 1e-6
    assert abs(float(scaled.std(dtype=np.float64)) - 1) < 1e-6
    assert np.ptp(scaled.mean(axis=1)) > 0.1  # a lead keeps its place among the others
    assert np.abs(zscore(np.float32(7) * record + np.float32(3), 500) - scaled).max() < 1e-4


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
def test_a_record_of_zeros_stays_finite(preprocessing: str) -> None:
    prepared = prepare_record(np.zeros((12, 5000), np.float32), 500, SignalSpec(500, preprocessing))
    assert np.isfinite(prepared).all()
    assert np.ptp(prepared, axis=1).max() == 0, "ecg_jepa_weimann gives each lead a constant of its own"


GOLDEN = {  # of fixed_record(): samples of leads I, V1 and V6 at 1.0, 2.5, 5.3 s; sum of magnitudes
    ("ecgfounder", 500): [
        0.03917698, 7.675429, 0.02601909, 0.03666441, 0.04042809, -0.8893457,
        0.03701328, 0.03666441, 0.0603537, 15723.46,
    ],
    ("ecgfounder", 100): [
        0.04247736, 7.676486, 0.02516217, 0.03637579, 0.04098968, -0.8881592,
        0.04888203, 0.03720678, 0.0636331, 3160.909,
    ],
    ("zscore", 500): [
        -0.9952216, 1.86512, -1.587189, 0.7978112, -0.188312, 0.3986303,
        1.919719, 0.5024464, 0.508606, 49444.14,
    ],
    ("strodthoff", 100): [
        0.1763358, 1.300651, -0.05621447, 0.8877002, 0.5003067, 0.7308058,
        1.346445, 0.7896709, 0.7922447, 7093.503,
    ],
    ("none", 500): [
        0.1763356, 1.3, -0.0562144, 0.8807154, 0.4933241, 0.7239001,
        1.321449, 0.7646835, 0.7671033, 35490.7,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("preprocessing", "rate"), GOLDEN)
def test_each_preprocessing_gives_its_golden_numbers(preprocessing: str, rate: int) -> None:
    prepared = prepare_record(fixed_record(), 500, SignalSpec(rate, preprocessing))
    assert prepared.shape == (12, 10 * rate)
    assert prepared.dtype == np.float32
    at = [round(seconds * rate) for seconds in (1.0, 2.5, 5.3)]
    found = [*prepared[[0, 6, 11]][:, at].ravel().tolist(), float(np.abs(prepared).sum(dtype=np.float64))]
    assert found == pytest.approx(GOLDEN[preprocessing, rate], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("rate", "target"), [(500, 100), (100, 500), (1000, 500), (250, 100), (360, 100), (257, 100)])
def test_resampling_keeps_a_5_hz_sine(rate: int, target: int) -> None:
    def sine(hz: int) -> npt.NDArray[np.float32]:
        t = np.arange(10 * hz) / hz
        return np.array([np.sin(2 * np.pi * 5 * t) + k for k in range(12)], dtype=np.float32)

    resampled = resample(sine(rate), rate, target)
    assert resampled.shape == (12, 10 * target)
    assert resampled.dtype == np.float32
    inner = slice(target // 2, -target // 2)
    assert np.abs(resampled - sine(target))[:, inner].max() < 0.01
    assert np.abs(resampled - sine(target)).max() < 0.35  # the ends, where the filter sees what it must guess


def test_resampling_down_leaves_no_alias() -> None:
    t = np.arange(5000) / 500
    high = np.tile(np.sin(2 * np.pi * 90 * t), (12, 1)).astype(np.float32)  # would come back as 10 Hz
    assert np.abs(resample(high, 500, 100)[:, 100:-100]).max() < 0.01


def test_the_same_rate_changes_nothing() -> None:
    record = fixed_record()
    assert resample(record, 500, 500) is record


def test_invalid_samples_count_as_zero() -> None:
    record = fixed_record()
    record[3, 100:200] = np.nan
    filled = record.copy()
    filled[3, 100:200] = 0
    for preprocessing in PREPROCESSINGS:
        prepared = prepare_record(record, 500, SignalSpec(500, preprocessing))
        assert np.array_equal(prepared, prepare_record(filled, 500, SignalSpec(500, preprocessing)))
    assert np.isnan(record[3, 100:200]).all()  # the caller's record is left as it was


def flipped(record: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
    return -record


def test_a_plugins_preprocessing_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "PREPROCESSINGS", dict(PREPROCESSINGS))
    register = register_preprocessing("flipped", version=3, standardized=True)

    assert register(flipped) is register(flipped) is flipped

    record = fixed_record()
    assert np.array_equal(prepare_record(record, 500, SignalSpec(500, "flipped")), -record)
    chosen = signals.PREPROCESSINGS["flipped"]
    assert chosen == signals.Preprocessing(3, flipped, True, code_hash(__name__))
    with pytest.raises(DataError, match=r"unknown preprocessing 'fliped'; .*none.*, flipped; did you mean 'flipped'"):
        SignalSpec(500, "fliped")


@pytest.mark.parametrize(
    ("rate", "target", "seconds"),
    [(125, 100, 7.5), (257, 500, 7.5), (128, 100, 9.99), (100, 500, 3.333), (500, 100, 10)],
)
def test_records_of_any_length_have_the_length_that_is_stated(rate: int, target: int, seconds: float) -> None:
    """Resampling rounds up; 7.5 s at 125 Hz would be 751 samples at 100 Hz."""
    for length in (0.9, 1.0, 1.3):
        record = np.ones((12, round(rate * seconds * length)), np.float32)
        prepared = prepare_record(record, rate, SignalSpec(target, "none"), seconds)
        assert prepared.shape == (12, round(seconds * target))


def test_a_preprocessing_that_cannot_be_registered_is_told_why() -> None:
    with pytest.raises(PluginError, match=r"'zscore' is already registered by bench.data.signals; .* another name"):
        register_preprocessing("zscore", version=1)(flipped)
    with pytest.raises(PluginError, match="'mine' must be a function at the top of a module"):
        register_preprocessing("mine", version=1)(lambda record, rate: record)
    with pytest.raises(PluginError, match="registers preprocessing 'my/filter'; letters"):
        register_preprocessing("my/filter", version=1)(flipped)
    assert "mine" not in PREPROCESSINGS


def test_windows_slide_over_the_record() -> None:
    spec = SignalSpec(100, "none", window_s=2.5, stride_s=1.25)
    assert spec.window == 250
    assert list(spec.window_starts(1000)) == [0, 125, 250, 375, 500, 625, 750]
    assert list(spec.window_starts(999)) == [0, 125, 250, 375, 500, 625, 749]
    assert list(spec.window_starts(250)) == [0]
    assert list(spec.window_starts(100)) == [0]


def test_without_a_stride_windows_do_not_overlap_and_without_a_window_there_is_one() -> None:
    assert list(SignalSpec(100, "none", window_s=2.5).window_starts(1000)) == [0, 250, 500, 750]
    assert list(SignalSpec(100, "none").window_starts(1000)) == [0]
    assert SignalSpec(100, "none").window is None


@settings(deadline=None)
@given(st.floats(0.05, 12), st.floats(0.01, 1), st.integers(1, 700), st.sampled_from([50, 100, 360]))
def test_every_sample_of_a_record_is_in_some_evaluation_window(
    window_s: float, share: float, length: int, rate: int
) -> None:
    assume(round(window_s * share * rate) >= 1)
    spec = SignalSpec(rate, "none", window_s=window_s, stride_s=window_s * share)
    assert spec.window is not None
    starts, width = spec.window_starts(length), min(spec.window, length)
    seen = np.zeros(length, dtype=bool)
    for start in starts:
        assert 0 <= start <= length - width
        seen[start : start + width] = True
    assert seen.all() and [*starts] == sorted(set(starts))


@pytest.mark.parametrize(("window_s", "stride_s"), [(2.5, 1.25), (2.5, 2.5), (2.5, 0.5), (10.0, 10.0)])
def test_no_window_is_added_to_those_of_published_preprocessings(window_s: float, stride_s: float) -> None:
    spec = SignalSpec(100, "none", window_s=window_s, stride_s=stride_s)
    assert [*spec.window_starts(1000)] == [*range(0, 1000 - int(window_s * 100) + 1, int(stride_s * 100))]


def test_the_last_second_is_seen() -> None:
    assert SignalSpec(100, "none", window_s=3, stride_s=3).window_starts(1000) == (0, 300, 600, 700)


def test_windows_with_gaps_are_refused() -> None:
    with pytest.raises(DataError, match=r"stride_s is 3 and window_s 2.5: windows would leave gaps"):
        SignalSpec(100, "none", window_s=2.5, stride_s=3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_preprocessing_that_gives_no_number_is_named(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(record: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
        return np.where(record > record.max() - 1e-3, np.float32(value), record)

    monkeypatch.setitem(PREPROCESSINGS, "broken", signals.Preprocessing(1, broken))
    with pytest.raises(DataError, match=r"^r7: preprocessing 'broken' gives NaN or infinite values"):
        prepare_record(fixed_record(), 500, SignalSpec(500, "broken"), name="r7")


def test_a_preprocessing_that_loses_leads_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PREPROCESSINGS, "broken", signals.Preprocessing(1, lambda record, rate: record[0]))
    with pytest.raises(DataError, match=r"^r7: preprocessing 'broken' gives the shape \(5000,\), .* with 12 leads"):
        prepare_record(fixed_record(), 500, SignalSpec(500, "broken"), name="r7")


def test_a_rate_below_ecgfounders_band_is_named() -> None:
    with pytest.raises(DataError, match="needs more than 80 Hz, got 80 Hz"):
        ecgfounder(fixed_record(80), 80)


def test_a_spec_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(DataError, match="unknown preprocessing 'zscroe'; expected one of ecgfounder, zscore"):
        SignalSpec(100, "zscroe")
    with pytest.raises(DataError, match="window_s is 0, expected"):
        SignalSpec(100, "none", window_s=0.0)
    with pytest.raises(DataError, match="stride_s is -1, expected"):
        SignalSpec(100, "none", window_s=2.5, stride_s=-1)


def test_a_preprocessing_with_its_own_rate_runs_before_the_record_is_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def squares(record: Signal, rate: int) -> Signal:
        seen.append((record.shape, rate))
        return record**2

    monkeypatch.setitem(PREPROCESSINGS, "squares", Preprocessing(1, squares))
    record, spec = fixed_record(), SignalSpec(100, "squares", preprocessing_rate=250)

    prepared = prepare_record(record, 500, spec)

    assert seen == [((12, 2500), 250)]
    assert np.array_equal(prepared, resample(resample(record, 500, 250) ** 2, 250, 100))
    assert prepared.shape == (12, 1000)
    assert spec.file_rate == 250
    with pytest.raises(DataError, match="preprocessing_rate is 0"):
        SignalSpec(100, "zscore", preprocessing_rate=0)


def test_a_short_record_with_its_own_rate_is_padded_to_the_backbones_length() -> None:
    record = fixed_record(seconds=5)
    prepared = prepare_record(record, 500, SignalSpec(100, "zscore", preprocessing_rate=500), seconds=8.0)

    assert prepared.shape == (12, 800)
    assert not prepared[:, :150].any()
    assert not prepared[:, 650:].any()
    assert np.array_equal(prepared[:, 150:650], resample(zscore(record, 500), 500, 100))


def test_facts_of_a_spec_are_those_of_the_first_results_unless_something_younger_is_set() -> None:
    first = {"rate", "preprocessing", "leads", "window_s", "stride_s", "aggregate", "version"}

    assert set(SignalSpec(100, "zscore").facts()) == first
    assert set(SignalSpec(100, "zscore", preprocessing_rate=500).facts()) == {*first, "preprocessing_rate"}
    assert set(SignalSpec(100, "zscore", window_s=2, per_window=True).facts()) == {*first, "per_window"}


def test_a_preprocessing_of_windows_sees_each_of_them_and_no_whole_record() -> None:
    record = fixed_record(100)
    spec = SignalSpec(100, "zscore", window_s=2.5, stride_s=2.5, per_window=True)

    held = prepare_record(record, 100, spec)
    windows = np.stack([held[:, start : start + 250] for start in spec.window_starts(1000)])
    prepared = prepare_windows(windows[None], spec)

    assert np.array_equal(held, record), "mV"
    assert prepared.shape == (1, 4, 12, 250)
    assert np.array_equal(prepared[0], np.stack([zscore(window, 100) for window in windows]))
    assert np.array_equal(prepare_windows(windows, SignalSpec(100, "zscore", window_s=2.5)), windows)


@pytest.mark.parametrize(
    "wrong",
    [
        {"preprocessing": "zscore"},
        {"preprocessing": "zscore", "window_s": 2.5, "preprocessing_rate": 500},
        {"preprocessing": "strodthoff", "window_s": 2.5},
    ],
)
def test_windows_are_preprocessed_only_where_that_means_something(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"per_window with preprocessing '.*': expected a window_s, no"):
        SignalSpec(100, **wrong, per_window=True)  # type: ignore[arg-type]


def test_a_window_that_becomes_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PREPROCESSINGS, "broken", Preprocessing(1, lambda window, rate: window * np.float32(np.nan)))
    spec = SignalSpec(100, "broken", window_s=2, per_window=True)
    with pytest.raises(DataError, match=r"^a window: preprocessing 'broken' gives NaN"):
        prepare_windows(fixed_record(100)[:, :200], spec)


def test_st_mem_crops_then_filters_then_standardises() -> None:
    """Numbers of its official transforms (bakqui/ST-MEM 69ec702, eval_transforms of st_mem.yaml) for this record."""
    from baselines.st_mem import STMEM

    spec, time = STMEM.signal_spec, np.arange(2500) / 250
    lead = np.arange(1, 13)[:, None]
    record = (np.sin(2 * np.pi * (0.3 + lead) * time) * lead / 12 + 0.4 * np.sin(2 * np.pi * 0.2 * time)).astype("f4")
    windows = np.stack([record[:, start : start + 2250] for start in spec.window_starts(2500)])

    prepared = prepare_windows(windows, spec)

    assert spec.window_starts(2500) == (0, 125, 250)
    assert prepared.shape == (3, 12, 2250)
    places = [(0, 0, 0), (0, 11, 2249), (1, 3, 1000), (2, 7, 2), (2, 0, 1700)]
    assert [float(prepared[place]) for place in places] == pytest.approx(
        [-0.0502106, -0.4197855, 0.6104372, -0.6646037, 0.1614639], abs=1e-5
    )


def test_hubert_ecg_comes_near_its_published_steps() -> None:
    """Filter at the file's 500 Hz, scale, the first 5 s, then decimate by 5 with all leads in one row."""
    from baselines.wav2vec2 import HuBERTECG

    record = fixed_record()
    taps = scipy.signal.firwin(151, [0.05, 47], pass_zero=False, fs=500)
    filtered = scipy.signal.filtfilt(taps, [1.0], record.astype(np.float64), axis=1)
    low, high = filtered.min(1, keepdims=True), filtered.max(1, keepdims=True)
    scaled = 2 * (filtered - low) / (high - low + 1e-8) - 1
    published = scipy.signal.decimate(scaled[:, :2500].reshape(-1), 5).reshape(12, 500)

    gap = (prepare_record(record, 500, HuBERTECG.signal_spec)[:, :500] - published)[:, 20:-20]

    assert HuBERTECG.signal_spec.file_rate == 500
    assert np.sqrt((gap**2).mean()) < 0.01, "0.02 where the filter runs at 100 Hz"
