"""Prepared signals are exact to a stated error and made once and whole, or not at all, with one line that says why."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scipy.signal
import torch
import wfdb

from bench.data import prepared
from bench.data.datasets.ptbxl import STATEMENTS, TABLE, load_records
from bench.data.formats import WFDB
from bench.data.prepared import PreparedSignals, choose_source_rate, prepare_signals, prepared_sets, unused
from bench.data.signals import PREPROCESSINGS, Preprocessing, SignalSpec, prepare_record
from bench.data.waveforms import LEADS, read_waveform
from bench.errors import DataError
from bench.registry.registry import _REGISTRY
from bench.training.batches import SignalSource, epoch_batches

RAW = SignalSpec(100, "none")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def small(copy_first: Callable[[int, Path], None], tmp_path: Path) -> Path:
    """The first 24 records of the demo set at 100 Hz alone, free to be damaged."""
    folder = tmp_path / "small"
    copy_first(24, folder)
    return folder


def overwrite(folder: Path, ecg_id: int, change: Callable[[npt.NDArray[np.int64]], None], rate: int = 100) -> None:
    """Change the samples [time, lead] of a record and write it anew with wfdb."""
    path = folder / f"records100/00000/{ecg_id:05d}_lr"
    samples = wfdb.rdrecord(str(path), physical=False).d_signal.astype(np.int64)
    change(samples)
    wfdb.wrsamp(
        path.name,
        fs=rate,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        d_signal=samples,
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(path.parent),
    )


def entries(cache: Path) -> list[str]:
    """What lies in a cache but for locks, hidden things included."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock") if cache.is_dir() else []


def exact(folder: Path, spec: SignalSpec, rate: int) -> npt.NDArray[np.float32]:
    """Signals [record, lead, time] record by record, with no cache between."""
    return np.stack([prepare_record(*read_waveform(path), spec) for path in load_records(folder).paths(rate)])


def everything(signals: PreparedSignals) -> npt.NDArray[np.float32]:
    return signals.read(np.arange(len(signals.ecg_id)))


@pytest.mark.parametrize(
    "spec", [RAW, SignalSpec(100, "zscore"), SignalSpec(500, "zscore")], ids=["mV", "zscore", "500 Hz"]
)
def test_values_are_exact_to_the_stated_error(demo_set: Path, spec: SignalSpec) -> None:
    signals = prepare_signals(load_records(demo_set), spec)
    truth = exact(demo_set, spec, spec.rate)
    read = everything(signals)
    assert signals.source_rate == spec.rate
    assert signals.ecg_id.tolist() == list(range(1, 241))
    assert read.dtype == np.float32 and read.shape == truth.shape == (240, 12, 10 * spec.rate)
    error, peak = np.abs(read - truth).max(axis=(1, 2)), np.abs(truth).max(axis=(1, 2))
    assert (error <= 1.6e-5 * peak).all()
    assert (error > 0).any()  # or the stated error would be no statement


def test_in_millivolts_the_error_is_below_half_a_step_of_the_files(demo_set: Path) -> None:
    read = everything(prepare_signals(load_records(demo_set), RAW))
    digital = np.stack([wfdb.rdrecord(str(p), physical=False).d_signal.T for p in load_records(demo_set).paths(100)])
    assert np.array_equal(np.rint(read * 1000).astype(int), digital)


def test_all_of_ptbxl_at_500_hz_takes_less_than_it_may(demo_set: Path, cache: Path) -> None:
    prepare_signals(load_records(demo_set), SignalSpec(500, "none"))
    (entry,) = entries(cache)
    num_bytes = sum(file.stat().st_size for file in (cache / entry).iterdir())
    assert num_bytes / 240 * 21_799 < 2.7e9


def test_records_shorter_than_a_window_are_refused(demo_set: Path, cache: Path) -> None:
    short = replace(load_records(demo_set), seconds=5.0)

    def refused() -> None:
        with pytest.raises(DataError, match=r"records of .* last 5 s, and the backbone needs 9 s; take another"):
            prepare_signals(short, SignalSpec(100, "none", window_s=9, stride_s=1))

    refused()
    assert entries(cache) == []
    assert prepare_signals(short, SignalSpec(100, "none", window_s=5, stride_s=1)).length == 500
    refused()  # the entry that exists now is that of all windows


def test_crops_are_slices_of_the_whole(demo_set: Path) -> None:
    for spec in (RAW, SignalSpec(100, "strodthoff")):
        signals = prepare_signals(load_records(demo_set), spec)
        rows = np.array([5, 5, 200, 0])
        starts = np.array([0, 750, 123, 400])
        whole = everything(signals)
        crops = signals.read(rows, starts, 250)
        assert crops.shape == (4, 12, 250)
        for crop, row, start in zip(crops, rows, starts, strict=True):
            assert np.array_equal(crop, whole[row, :, start : start + 250])
        assert np.array_equal(signals.read(rows), whole[rows])


def test_rows_are_found_by_ecg_id(small: Path, cache: Path) -> None:
    table = pd.read_csv(small / TABLE)
    table.iloc[[20, 3, 11, 7]].to_csv(small / TABLE, index=False)
    signals = prepare_signals(load_records(small), RAW)
    assert signals.ecg_id.tolist() == [4, 8, 12, 21]
    rows = signals.rows(np.array([21, 4]))
    assert rows.tolist() == [3, 0]
    assert np.allclose(signals.read(rows)[0], read_waveform(small / "records100/00000/00021_lr")[0], atol=1e-3)


def test_leads_come_in_the_order_of_the_spec(demo_set: Path) -> None:
    two = prepare_signals(load_records(demo_set), SignalSpec(100, "none", leads=("V5", "II")))
    twelve = everything(prepare_signals(load_records(demo_set), RAW))
    assert np.allclose(everything(two), twelve[:, [10, 1]], atol=1e-3)


def test_standardisation_is_fitted_on_folds_1_to_8(demo_set: Path) -> None:
    records = load_records(demo_set)
    signals = prepare_signals(records, SignalSpec(100, "strodthoff"))
    training = records.strat_fold <= 8
    truth = exact(demo_set, RAW, 100)
    read = everything(signals).astype(np.float64)
    assert abs(read[training].mean()) < 1e-4
    assert abs(read[training].std() - 1) < 1e-4
    assert signals.scaling.mean == pytest.approx(truth[training].mean(dtype=np.float64), abs=1e-9)
    assert signals.scaling.std == pytest.approx(truth[training].std(dtype=np.float64), rel=1e-9)
    assert signals.scaling.std != pytest.approx(truth.std(dtype=np.float64), rel=1e-5)  # fold 9 and 10 are not in it
    assert signals.scaling.fitted_on == f"folds 1-8 of {records.name}, {training.sum()} records"
    assert not prepare_signals(records, RAW).scaling.fitted_on


def test_no_training_fold_to_standardise_on_is_named(small: Path, cache: Path) -> None:
    table = pd.read_csv(small / TABLE).assign(strat_fold=9)
    table.to_csv(small / TABLE, index=False)
    with pytest.raises(DataError, match="no record in folds 1-8 to fit the standardisation on"):
        prepare_signals(load_records(small), SignalSpec(100, "strodthoff"))
    assert entries(cache) == []


PLUGIN = """
from bench.plugin import register_preprocessing

@register_preprocessing("doubled_mv", version=VERSION)
def doubled(record, rate):
    return 2 * record
"""


@pytest.mark.slow
def test_a_plugins_preprocessing_reaches_the_processes_that_read(
    small: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.data.pool.FEW", 0)
    monkeypatch.setattr("bench.data.pool.num_cores", lambda: 2)
    monkeypatch.setattr(prepared, "CHUNK", 12)
    monkeypatch.syspath_prepend(tmp_path)
    names = set()
    for version in (1, 2):
        (tmp_path / "doubling_lab.py").write_text(PLUGIN.replace("VERSION", str(version)))
        try:
            importlib.import_module("doubling_lab")
            found = prepare_signals(load_records(small), SignalSpec(100, "doubled_mv"))
        finally:
            sys.modules.pop("doubling_lab", None)
            PREPROCESSINGS.pop("doubled_mv", None)
        names.add(found.entry)
        np.testing.assert_allclose(found.read(np.arange(24)), 2 * exact(small, RAW, 100), atol=1e-3)

    assert len(names) == 2, "another version is another entry"


def test_an_edited_preprocessing_of_a_plugin_is_another_entry(
    small: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its author has not raised the version."""
    monkeypatch.syspath_prepend(tmp_path)
    source, names = PLUGIN.replace("VERSION", "1"), list[str]()
    for factor in ("2", "2", "3.25"):
        (tmp_path / "edited_lab.py").write_text(source.replace("2 * record", f"{factor} * record"))
        importlib.invalidate_caches()
        try:
            importlib.import_module("edited_lab")
            found = prepare_signals(load_records(small), SignalSpec(100, "doubled_mv"))
        finally:
            sys.modules.pop("edited_lab", None)
            PREPROCESSINGS.pop("doubled_mv", None)
        names.append(found.entry)
        np.testing.assert_allclose(found.read(np.arange(24)), float(factor) * exact(small, RAW, 100), atol=1e-3)

    assert names[0] == names[1] != names[2]


READER = """
from bench.data.waveforms import LEADS, read_waveform
from bench.plugin import Stored


def read(source):
    signals, rate = read_waveform(source.path)
    return Stored(2 * signals, LEADS, rate, "mV")
"""


def test_an_edited_reader_of_signals_is_another_entry(
    small: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its format is named, and though neither rate, leads nor unit have changed."""
    monkeypatch.syspath_prepend(tmp_path)
    names = list[str]()
    for factor, name in (("2", "wfdb"), ("2", "wfdb"), ("3.25", "wfdb"), ("3.25", "mine"), ("4.5", "mine")):
        (tmp_path / "reading_lab.py").write_text(READER.replace("2 *", f"{factor} *"))
        importlib.invalidate_caches()
        try:
            read = importlib.import_module("reading_lab").read
            records = replace(load_records(small), format=replace(WFDB, name=name, read=read))
            signals = prepare_signals(records, RAW)
        finally:
            sys.modules.pop("reading_lab", None)
        names.append(signals.entry)
        np.testing.assert_allclose(signals.read(np.arange(24)), float(factor) * exact(small, RAW, 100), atol=1e-3)

    assert names[0] == names[1] and len(set(names)) == 4


def test_a_format_of_a_plugin_file_is_read_where_its_module_is(
    small: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process can import it, so none is started."""
    monkeypatch.setattr("bench.data.pool.FEW", 0)
    monkeypatch.setattr("bench.data.pool.num_cores", lambda: 2)
    monkeypatch.setattr(prepared, "CHUNK", 12)
    (tmp_path / "reading_file.py").write_text(READER)
    _REGISTRY.load_file(tmp_path / "reading_file.py")
    records = load_records(small)
    read = sys.modules["reading_file.py"].read

    signals = prepare_signals(replace(records, format=replace(WFDB, read=read)), RAW)

    np.testing.assert_allclose(signals.read(np.arange(24)), 2 * exact(small, RAW, 100), atol=1e-3)


def test_records_that_are_padded_are_counted(small: Path, cache: Path) -> None:
    """In a set whose records are cut or padded; where all have one length there is nothing to count."""
    records = load_records(small)
    assert prepare_signals(replace(records, seconds=10.0), RAW).findings == {}
    path = small / "records100/00000/00017_lr"
    samples = wfdb.rdrecord(str(path), physical=False).d_signal
    wfdb.wrsamp(
        *(path.name, 100, ["mV"] * 12, list(LEADS)),
        d_signal=samples[:600],
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(path.parent),
    )

    signals = prepare_signals(replace(records, seconds=10.0), RAW)

    assert signals.findings == {"records padded with zeros": [17]}
    assert not signals.read(np.array([16]))[0][:, :200].any()


def test_an_entry_is_found_again_and_not_written_again(demo_set: Path, cache: Path) -> None:
    records = load_records(demo_set)
    seen: list[tuple[int, int]] = []
    first = prepare_signals(records, RAW, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (240, 240) and seen == sorted(seen)
    (entry,) = entries(cache)
    stamps = {file: file.stat().st_mtime_ns for file in (cache / entry).iterdir()}
    again = prepare_signals(load_records(demo_set), RAW, progress=lambda done, total: pytest.fail("made again"))
    assert {file: file.stat().st_mtime_ns for file in (cache / entry).iterdir()} == stamps
    assert np.array_equal(everything(again), everything(first))
    assert (again.scaling, again.findings) == (first.scaling, first.findings)


def test_an_entry_is_that_of_its_files_folds_and_preparation(small: Path, cache: Path) -> None:
    def num_after(spec: SignalSpec = RAW) -> int:
        prepare_signals(load_records(small), spec)
        return len(entries(cache))

    assert num_after() == 1
    assert num_after(SignalSpec(100, "zscore")) == 2
    assert num_after(SignalSpec(100, "none", leads=("I",))) == 3
    assert num_after(SignalSpec(100, "none", window_s=2.5, stride_s=1.0)) == 3  # windows are cut later
    assert num_after(SignalSpec(100, "zscore", window_s=2.5, per_window=True)) == 4
    assert num_after(SignalSpec(100, "zscore", window_s=2, per_window=True)) == 4
    overwrite(small, 3, lambda samples: samples.__imul__(2))
    assert num_after() == 5
    os.utime(small / "records100/00000/00004_lr.hea")
    assert num_after() == 6
    table = pd.read_csv(small / TABLE)
    table.loc[0, "strat_fold"] = table.loc[0, "strat_fold"] % 10 + 1
    table.to_csv(small / TABLE, index=False)
    assert num_after() == 7


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a file is gone": lambda entry: (entry / "scale.npy").unlink(),
    "the signals are cut off": lambda entry: os.truncate(entry / "signals.npy", 5000),
    "an empty file": lambda entry: (entry / "ecg_id.npy").write_bytes(b""),
    "no JSON": lambda entry: (entry / "about.json").write_text("{"),
    "other JSON": lambda entry: (entry / "about.json").write_text('["scaling"]'),
    "fewer records": lambda entry: np.save(entry / "scale.npy", np.ones(3, np.float32)),
    "other records": lambda entry: np.save(entry / "ecg_id.npy", np.arange(24)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_anew_with_a_note(damage: str, small: Path, cache: Path) -> None:
    before = everything(prepare_signals(load_records(small), RAW))
    (entry,) = entries(cache)
    DAMAGES[damage](cache / entry)
    notes = list[str]()

    again = everything(prepare_signals(load_records(small), RAW, note=notes.append))

    np.testing.assert_array_equal(again, before)
    assert len(notes) == 1 and re.fullmatch(rf".*{entry} is damaged \(.+\) and is computed anew", notes[0])
    assert entries(cache) == [entry] and not (cache / entry / "progress").exists()
    prepare_signals(load_records(small), RAW, note=pytest.fail)


def test_odd_records_are_kept_and_counted(small: Path, cache: Path) -> None:
    def invalidate(samples: npt.NDArray[np.int64]) -> None:
        samples[100:150, 4] = -32768

    def flatten(samples: npt.NDArray[np.int64]) -> None:
        samples[:, 7] = 12

    overwrite(small, 2, invalidate)
    overwrite(small, 3, lambda samples: samples.fill(0))
    overwrite(small, 5, flatten)
    overwrite(small, 6, lambda samples: samples.fill(-32768))
    signals = prepare_signals(load_records(small), SignalSpec(100, "strodthoff"))
    assert signals.findings == {
        "records with invalid samples, set to 0 mV": [2, 6],
        "records of zeros": [3, 6],
        "records with a flat lead": [5],
    }
    assert signals.ecg_id.tolist() == list(range(1, 25))
    assert np.isfinite(everything(signals)).all()
    raw = everything(prepare_signals(load_records(small), RAW))
    assert not raw[1, 4, 100:150].any() and raw[1, 4].any()
    assert not raw[2].any() and not raw[5].any()


def test_amplitudes_and_leads_are_findings(small: Path, cache: Path) -> None:
    def edit(ecg_id: int, old: str, new: str) -> None:
        header = small / f"records100/00000/{ecg_id:05d}_lr.hea"
        assert old in header.read_text()
        header.write_text(header.read_text().replace(old, new))

    edit(2, "/mV", "/V")
    edit(3, "1000.0(0)/mV", "0(0)/mV")
    edit(4, " V1\n", " C1\n")
    edit(5, " AVF\n", " Resp\n")
    edit(7, "/mV", "/V")
    edit(8, "/mV", "/nV")
    assert prepare_signals(load_records(small), RAW).findings == {
        "records with leads under other names": [4],
        "records with limb leads computed from two others": [5],
        "records with leads without a gain, read at 200 per mV": [3],
        "records with leads too large for a surface ECG": [2, 7],
        "records too small for a surface ECG": [8],
    }


def flat_is_nan(record: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
    with np.errstate(invalid="ignore"):
        return record / np.ptp(record, axis=1, keepdims=True)


def test_a_preprocessing_that_gives_nan_is_named_with_its_record(
    small: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PREPROCESSINGS, "flat_is_nan", Preprocessing(1, flat_is_nan))
    prepare_signals(load_records(small), SignalSpec(100, "flat_is_nan"))
    overwrite(small, 5, lambda samples: samples[:, 7].fill(0))
    made = entries(cache)
    with pytest.raises(DataError, match=r"00005_lr: preprocessing 'flat_is_nan' gives NaN or infinite"):
        prepare_signals(load_records(small), SignalSpec(100, "flat_is_nan"))
    assert entries(cache) == made


def test_a_clean_set_has_no_findings(small: Path, cache: Path) -> None:
    assert prepare_signals(load_records(small), RAW).findings == {}


@pytest.mark.parametrize(
    ("rate", "asked", "chosen"),
    [(100, None, 100), (500, None, 500), (250, None, 500), (500, 100, 100), (100, 500, 500)],
)
def test_the_source_rate_is_the_backbones_unless_asked(small: Path, rate: int, asked: int | None, chosen: int) -> None:
    assert choose_source_rate(load_records(small), SignalSpec(rate, "none"), asked) == chosen


@pytest.mark.parametrize("asked", [0, 250, -100])
def test_a_source_rate_that_ptbxl_has_not_is_refused(small: Path, asked: int) -> None:
    with pytest.raises(DataError, match="use --source-rate 100 or 500"):
        choose_source_rate(load_records(small), RAW, asked)


def test_a_rate_that_is_not_there_is_not_advised(small: Path, cache: Path) -> None:
    (small / "records100/00000/00001_lr.dat").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of the 48 files at 100 Hz .*; complete the folder$"):
        prepare_signals(load_records(small), SignalSpec(100, "zscore"))


def test_500_hz_of_a_folder_with_100_hz_names_the_way_out(small: Path, cache: Path) -> None:
    records = load_records(small)
    with pytest.raises(DataError) as caught:
        prepare_signals(records, SignalSpec(500, "zscore"))
    message = str(caught.value)
    assert message.startswith(f"{small} lacks 48 of the 48 files at 500 Hz (the first: records500/00000/00001_hr.hea)")
    assert "--source-rate 100 takes the 100 Hz files and resamples them" in message
    assert "\n" not in message and entries(cache) == []
    signals = prepare_signals(records, SignalSpec(500, "none"), source_rate=100)
    assert signals.source_rate == 100
    raw = read_waveform(records.paths(100)[7])[0]
    expected = scipy.signal.resample_poly(raw, 5, 1, axis=-1, padtype="line")
    assert np.abs(signals.read(np.array([7]))[0] - expected).max() <= 1.7e-5 * np.abs(expected).max()


def test_resampled_and_native_signals_are_two_entries(demo_set: Path, cache: Path) -> None:
    records = load_records(demo_set)
    native = prepare_signals(records, SignalSpec(500, "zscore"))
    resampled = prepare_signals(records, SignalSpec(500, "zscore"), source_rate=100)
    assert (native.source_rate, resampled.source_rate) == (500, 100)
    assert len(entries(cache)) == 2
    rows = np.arange(0, 240, 40)
    assert not np.allclose(native.read(rows), resampled.read(rows), atol=1e-3)
    assert (
        min(
            np.corrcoef(a.ravel(), b.ravel())[0, 1]
            for a, b in zip(native.read(rows), resampled.read(rows), strict=True)
        )
        > 0.95
    )


def refuse(folder: Path, cache: Path, spec: SignalSpec = RAW) -> str:
    """The message, once it is clear that nothing is left of the entry."""
    with pytest.raises(DataError) as caught:
        prepare_signals(load_records(folder), spec)
    assert entries(cache) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_truncated_dat_is_named_and_nothing_is_left(small: Path, cache: Path) -> None:
    data = small / "records100/00000/00017_lr.dat"
    data.write_bytes(data.read_bytes()[:-100])
    assert f"{data} has 23,900 bytes where 00017_lr.hea implies 24,000" in refuse(small, cache)


def test_a_missing_file_is_named_and_nothing_is_left(small: Path, cache: Path) -> None:
    (small / "records100/00000/00017_lr.hea").unlink()
    assert "lacks 1 of the 48 files at 100 Hz (the first: records100/00000/00017_lr.hea)" in refuse(small, cache)


def test_a_record_of_another_length_is_named_and_nothing_is_left(small: Path, cache: Path) -> None:
    path = small / "records100/00000/00017_lr"
    samples = wfdb.rdrecord(str(path), physical=False).d_signal[:900]
    wfdb.wrsamp(
        *(path.name, 100, ["mV"] * 12, list(LEADS)),
        d_signal=samples,
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(path.parent),
    )
    message = refuse(small, cache)
    assert f"{path}.dat has 900 samples, 9 s; " in message and "the same length" in message
    assert "give its Records a length, such as seconds=10, to which each record is cut or padded" in message


def test_a_record_of_another_rate_is_named_and_nothing_is_left(small: Path, cache: Path) -> None:
    overwrite(small, 17, lambda samples: None, rate=200)
    assert "00017_lr.hea says 200 Hz where the dataset's table says 100 Hz" in refuse(small, cache)


def test_an_unwritable_cache_is_named(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"cannot write to .*file/cache .*; set \$BENCH_CACHE to another folder"):
        prepare_signals(load_records(small), RAW)


def test_a_full_disk_is_named_and_nothing_is_left(small: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    message = refuse(small, cache)
    assert message.startswith(f"no space left in {cache} for the prepared signals (0.00058 GB)")
    assert "$BENCH_CACHE" in message
    minutes = replace(load_records(small), seconds=60.0)
    with pytest.raises(DataError, match=r"for the prepared signals \(0\.0035 GB\)"):
        prepare_signals(minutes, RAW)


@pytest.mark.parametrize("number", [None, errno.EOPNOTSUPP])
def test_systems_that_cannot_promise_room_write_it(
    number: int | None, small: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has no posix_fallocate, and some file systems refuse it."""
    before = prepare_signals(load_records(small), RAW).read(np.arange(3))
    shutil.rmtree(cache)
    calls = []

    def refused(*arguments: int) -> None:
        calls.append(arguments)
        raise OSError(number, "no")

    if number is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refused)
    np.testing.assert_array_equal(prepare_signals(load_records(small), RAW).read(np.arange(3)), before)
    assert bool(calls) == (number is not None)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many bytes; skips where that is not allowed."""
    folder = tmp_path / "disk"

    def mount(num_bytes: int) -> Path:
        folder.mkdir()
        try:
            command = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", str(folder)]
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no right to mount a small disk")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)


@pytest.mark.parametrize("room", [1 / 8, 1.0], ids=["signals do not fit", "only the signals fit"])
def test_a_really_full_disk_is_named_and_nothing_is_left(
    small: Path, disk: Callable[[int], Path], room: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 24 * 12 * 1000 * 2 + 128
    folder = disk(round(room * needed / 4096 + 0.5) * 4096)
    monkeypatch.setenv("BENCH_CACHE", str(folder / "cache"))
    message = refuse(small, folder / "cache")
    assert message.startswith(f"no space left in {folder / 'cache'} for the prepared signals")


def test_an_array_that_half_fits_is_an_error_with_a_number(disk: Callable[[int], Path]) -> None:
    """np.save says `20000 requested and 12272 written`, with no errno to tell a full disk by."""
    with pytest.raises(OSError, match="No space left") as caught:
        prepared._save(disk(102_400) / "array.npy", np.zeros(20_000))
    assert caught.value.errno == errno.ENOSPC


SCRIPT = """
import hashlib, multiprocessing, signal, sys, time
from pathlib import Path
from bench.data import prepared
from bench.data.datasets.ptbxl import load_records
from bench.data.signals import SignalSpec

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
folder, go, chunk = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
prepared.CHUNK = chunk
records, calls, notes = load_records(folder), [], []

def progress(done, total):
    if not calls:
        print("working", *(child.pid for child in multiprocessing.active_children()), flush=True)
    calls.append(done)
    time.sleep(0.05)  # so that there is a middle

print("ready", flush=True)
while not go.exists():
    time.sleep(0.01)
signals = prepared.prepare_signals(records, SignalSpec(500, "zscore"), progress=progress, note=notes.append)
digest = hashlib.sha256(signals.values.tobytes() + signals.scale.tobytes()).hexdigest()
print(not notes, digest, len(calls), *notes, flush=True)
"""


def start(demo_set: Path, go: Path, chunk: int = 64) -> subprocess.Popen[str]:
    """A process, in a group of its own, that prepares the demo set as soon as `go` exists."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(demo_set), str(go), str(chunk)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def line_of(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_two_that_start_at_once_make_one_entry_and_agree(demo_set: Path, cache: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    both = [start(demo_set, go), start(demo_set, go)]
    assert [line_of(process) for process in both] == [["ready"], ["ready"]]
    go.touch()
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    last = [out.splitlines()[-1].split(maxsplit=3) for out, _ in ends]
    waited, made = sorted(last)
    assert [waited[0], made[0]] == ["False", "True"]
    assert waited[1] == made[1]
    assert len(entries(cache)) == 1
    lock = f"{cache / entries(cache)[0]}.lock"
    assert waited[3] == f"waiting for another process that prepares these signals (it holds {lock})"


def test_who_comes_while_signals_are_removed_waits_and_prepares_them_again(small: Path, cache: Path) -> None:
    before = prepare_signals(load_records(small), RAW).values[:].copy()
    (entry,) = prepared_sets()
    notes, found = list[str](), list[PreparedSignals]()
    other = threading.Thread(
        target=lambda: found.append(prepare_signals(load_records(small), RAW, note=notes.append)), daemon=True
    )
    with unused(entry) as free:
        assert free
        other.start()
        while not notes:
            time.sleep(0.01)
        shutil.rmtree(entry)
    other.join()

    assert len(notes) == 1 and notes[0].startswith("waiting for another process")
    assert np.array_equal(found[0].values, before)
    with unused(entry) as free:
        assert not free, "the thread's signals are in use"


def test_who_waits_shows_how_far_the_other_one_is(demo_set: Path, cache: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.touch()
    first = start(demo_set, go, chunk=4)
    assert [line_of(first)[0], line_of(first)[0]] == ["ready", "working"]
    notes, shown = list[str](), list[tuple[int, int]]()

    prepare_signals(
        load_records(demo_set),
        SignalSpec(500, "zscore"),
        progress=lambda done, total: shown.append((done, total)),
        note=notes.append,
    )

    assert first.communicate(timeout=60)[1] == ""
    assert len(notes) == 1 and notes[0].startswith("waiting for another process that prepares")
    assert shown and shown == sorted(set(shown)) and all(0 < done <= total == 240 for done, total in shown)


@pytest.mark.parametrize("moment", ["while workers start", "in the middle"])
def test_ctrl_c_leaves_nothing(demo_set: Path, cache: Path, tmp_path: Path, moment: str) -> None:
    go = tmp_path / "go"
    go.touch()
    process = start(demo_set, go, chunk=4)  # 60 chunks: over several processes
    assert line_of(process) == ["ready"]
    workers = []
    if moment == "in the middle":
        workers = [int(pid) for pid in line_of(process)[1:]]
    while not entries(cache):
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(entries(cache)) == 1 and entries(cache)[0].startswith(".")  # it is not done
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "False" not in out and "True" not in out
    assert err.count("KeyboardInterrupt") == 1, err  # no worker has a word in it
    assert entries(cache) == []
    assert not any(alive(pid) for pid in workers)


def test_after_a_kill_the_next_one_clears_up(demo_set: Path, cache: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.touch()
    process = start(demo_set, go, chunk=4)
    assert line_of(process) == ["ready"]
    workers = [int(pid) for pid in line_of(process)[1:]]
    process.kill()
    process.communicate(timeout=60)
    until = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in workers)
    assert [name.startswith(".") for name in entries(cache)] == [True]
    prepare_signals(load_records(demo_set), SignalSpec(500, "zscore"))
    assert [name.startswith(".") for name in entries(cache)] == [False]


def test_many_processes_make_what_one_does(demo_set: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core: there are no workers")
    records = load_records(demo_set)
    alone = prepare_signals(records, SignalSpec(100, "strodthoff"))
    monkeypatch.setenv("BENCH_CACHE", str(cache / "second"))
    monkeypatch.setattr(prepared, "CHUNK", 50)
    done: list[int] = []
    together = prepare_signals(records, SignalSpec(100, "strodthoff"), progress=lambda now, total: done.append(now))
    assert done[-1] == 240 and len(done) == 5
    assert np.array_equal(together.values, alone.values)
    assert np.array_equal(together.scale, alone.scale)
    assert together.scaling == alone.scaling


def test_memory_does_not_grow_with_the_signals(demo_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the records: neither preparing them nor an epoch of batches may hold more than some names of each."""
    monkeypatch.setattr("bench.data.pool.num_cores", lambda: 1)  # what workers hold could not be seen
    table = pd.read_csv(demo_set / TABLE)

    def peaks(times: int) -> tuple[int, int]:
        folder = tmp_path / str(times)
        folder.mkdir()
        for part in (STATEMENTS, "records100"):
            (folder / part).symlink_to(demo_set / part)
        many = pd.concat([table] * times, ignore_index=True).assign(ecg_id=np.arange(times * len(table)))
        many.to_csv(folder / TABLE, index=False)
        records = load_records(folder)
        signals, held = peak_of(lambda: prepare_signals(records, SignalSpec(100, "zscore")))
        assert signals.values.nbytes == len(many) * 24_000
        source = SignalSource(signals, np.arange(len(many)), torch.zeros(len(many), 1), torch.float32)

        def read() -> int:
            return sum(len(source.training(rows, (0,))) for rows in epoch_batches(len(many), 64, (0,)))

        num_read, held_by_epoch = peak_of(read)
        assert num_read == len(many)
        return held, held_by_epoch

    few, many = peaks(1), peaks(10)
    assert few[1] > 64 * 48_000  # a batch in float32: what is held is seen
    grown = [(b - a) / (9 * len(table)) for a, b in zip(few, many, strict=True)]
    assert max(grown) < 1_000, f"bytes a record, which has 24,000 of signals: {grown}"


def peak_of(do: Callable[[], Any]) -> tuple[Any, int]:
    """What it gives, and the most bytes that Python and NumPy held meanwhile."""
    tracemalloc.start()
    try:
        return do(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_damage_found_by_a_worker_is_one_line(
    demo_set: Path, small: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "CHUNK", 4)
    data = small / "records100/00000/00023_lr.dat"
    data.write_bytes(data.read_bytes()[:-100])
    assert f"{data} has 23,900 bytes" in refuse(small, cache)


def test_what_is_written_says_what_it_is(demo_set: Path, cache: Path) -> None:
    prepare_signals(load_records(demo_set), SignalSpec(100, "zscore"))
    (entry,) = entries(cache)
    about = json.loads((cache / entry / "about.json").read_text())
    assert entry.startswith(f"{load_records(demo_set).name}-100-100hz-zscore-")
    assert about["source_rate"] == 100 and about["spec"]["preprocessing"] == "zscore"


@pytest.fixture
def first_500(ptbxl: Path, tmp_path: Path) -> Path:
    """The records of PTB-XL up to ecg_id 500, which the shared copy has at 500 Hz too."""
    folder = tmp_path / "first-500"
    folder.mkdir()
    shutil.copy(ptbxl / STATEMENTS, folder / STATEMENTS)
    table = pd.read_csv(ptbxl / TABLE)
    table[table["ecg_id"] <= 500].to_csv(folder / TABLE, index=False)
    for name in ("records100", "records500"):
        (folder / name).symlink_to(ptbxl / name)
    return folder


@pytest.mark.ptbxl
def test_real_records_at_500_hz_go_the_native_path(first_500: Path, cache: Path) -> None:
    records = load_records(first_500)
    if not records.paths(500)[0].with_name("00001_hr.dat").is_file():
        pytest.skip("this PTB-XL has no records at 500 Hz")
    signals = prepare_signals(records, SignalSpec(500, "none"))
    assert len(signals.ecg_id) == 488
    assert signals.source_rate == 500
    assert signals.values.shape == (488, 12, 5000)
    for row in range(0, 488, 8):
        digital = wfdb.rdrecord(str(records.paths(500)[row]), physical=False).d_signal.T
        assert np.array_equal(np.rint(signals.read(np.array([row]))[0] * 1000).astype(int), digital)


@pytest.mark.ptbxl
def test_the_real_set_at_500_hz_names_what_lacks(ptbxl: Path, cache: Path) -> None:
    records = load_records(ptbxl)
    if records.paths(500)[-1].with_name("21837_hr.dat").is_file():
        pytest.skip("this PTB-XL has all records at 500 Hz")
    with pytest.raises(DataError, match=r"lacks 42,622 of the 43,598 files at 500 Hz .* --source-rate 100 takes"):
        prepare_signals(records, SignalSpec(500, "ecgfounder"))


@pytest.mark.ptbxl
@pytest.mark.slow
def test_all_of_ptbxl_is_prepared_once(ptbxl: Path, cache: Path) -> None:
    spec = SignalSpec(100, "strodthoff")
    try:
        signals = prepare_signals(load_records(ptbxl), spec)
        assert signals.values.shape == (21799, 12, 1000)
        assert signals.findings == {"records with a flat lead": [12722]}
        assert signals.scaling.mean == pytest.approx(-0.000819171, rel=1e-5)
        assert signals.scaling.std == pytest.approx(0.2351289865, rel=1e-8)
        prepare_signals(load_records(ptbxl), spec, progress=lambda done, total: pytest.fail("made again"))
    finally:
        shutil.rmtree(cache, ignore_errors=True)  # half a gigabyte
