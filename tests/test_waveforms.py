"""A WFDB record is read as wfdb reads it, leads by name and units in mV, or refused in one line that names the file."""

from __future__ import annotations

import gzip
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
import wfdb
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench.data import waveforms
from bench.data.headers import read_header
from bench.data.waveforms import INVALID, LEADS, Note, check_amplitude, read_waveform
from bench.errors import DataError

NAMES = list(LEADS)
NAME = "r"


def digital(num: int = 300) -> npt.NDArray[np.int64]:
    """[time, lead]: lead k swings by 100 (k + 1) about k."""
    t = np.arange(num)[:, None]
    return np.rint(100 * (np.arange(12) + 1) * np.sin(t / 20 + np.arange(12))).astype(np.int64) + np.arange(12)


def write(
    folder: Path,
    samples: npt.NDArray[np.int64] | None = None,
    names: list[str] = NAMES,
    units: str = "mV",
    gain: float = 1000.0,
    baseline: int = 0,
    fmt: str = "16",
    rate: float = 100,
) -> Path:
    """A record by wfdb itself, samples [time, lead]; returns its path without extension."""
    samples = digital() if samples is None else samples
    num = samples.shape[1]
    wfdb.wrsamp(
        NAME,
        fs=rate,
        units=[units] * num,
        sig_name=names,
        d_signal=samples,
        fmt=[fmt] * num,
        adc_gain=[gain] * num,
        baseline=[baseline] * num,
        write_dir=str(folder),
    )
    return folder / NAME


def edit(path: Path, old: str, new: str, count: int = 1) -> None:
    header = path.with_name(path.name + ".hea")
    text = header.read_text(encoding="utf-8")
    assert old in text
    header.write_text(text.replace(old, new, count), encoding="utf-8")


def refusal(path: Path, leads: tuple[str, ...] = LEADS) -> str:
    with pytest.raises(DataError) as caught:
        read_waveform(path, leads)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    assert str(path) in message
    return message


@pytest.fixture(params=["plain", "wfdb"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with the fast path, and without it: what they do must not differ."""
    if request.param == "wfdb":
        monkeypatch.setattr(waveforms, "_read_plain", lambda path: None)
    return str(request.param)


def read_and_hear(path: Path, leads: tuple[str, ...] = LEADS) -> tuple[npt.NDArray[np.float32], list[Note]]:
    notes: list[Note] = []
    return read_waveform(path, leads, notes.append)[0], notes


def assert_as_wfdb(path: Path) -> None:
    signals, rate = read_waveform(path)
    record = wfdb.rdrecord(str(path))
    assert signals.dtype == np.float32
    assert rate == record.fs
    assert np.array_equal(signals, record.p_signal.T.astype(np.float32))


def test_records_of_the_demo_set_are_as_wfdb_reads_them(demo_set: Path, either_way: str) -> None:
    for i in range(1, 241, 16):
        assert_as_wfdb(demo_set / f"records100/00000/{i:05d}_lr")
    assert_as_wfdb(demo_set / "records500/00000/00001_hr")


@pytest.mark.ptbxl
def test_real_records_are_as_wfdb_reads_them(ptbxl: Path) -> None:
    paths = [path.with_suffix("") for path in sorted(ptbxl.glob("records100/*/*.hea"))]
    for path in paths[::97] + [path.with_suffix("") for path in sorted(ptbxl.glob("records500/00000/*.hea"))][:20]:
        assert_as_wfdb(path)
        assert waveforms._read_plain(read_header(path.with_name(path.name + ".hea"))) is not None


def test_the_demo_set_is_read_3_times_as_fast_as_by_rdsamp(demo_set: Path) -> None:
    paths = [demo_set / f"records100/00000/{i:05d}_lr" for i in range(1, 61)]

    def cost(read: Callable[[Path], object]) -> float:
        began = time.process_time()
        for path in paths:
            read(path)
        return time.process_time() - began

    read_waveform(paths[0])
    assert cost(read_waveform) < cost(lambda path: wfdb.rdsamp(str(path))) / 3  # 13 times when measured alone


def test_leads_are_put_right_by_name(tmp_path: Path, either_way: str) -> None:
    straight = read_waveform(write(tmp_path))[0]
    assert np.array_equal(straight, (digital().T / 1000).astype(np.float32))
    order = np.random.default_rng(0).permutation(12)
    assert order.tolist() != list(range(12))
    path = write(tmp_path, digital()[:, order], [NAMES[k].upper() for k in order])
    assert np.array_equal(read_waveform(path)[0], straight)
    assert np.array_equal(read_waveform(path, ("V2", "I"))[0], straight[[7, 0]])


def test_leads_beyond_the_wanted_are_left_out(tmp_path: Path, either_way: str) -> None:
    samples = np.concatenate([7 * digital()[:, :1], digital()], axis=1)
    path = write(tmp_path, samples, ["Resp", *NAMES])
    assert np.array_equal(read_waveform(path)[0], (digital().T / 1000).astype(np.float32))


@pytest.mark.parametrize(("units", "factor"), [("mV", 1.0), ("uV", 1e-3), ("nV", 1e-6), ("V", 1e3)])
def test_units_become_millivolts(tmp_path: Path, either_way: str, units: str, factor: float) -> None:
    path = write(tmp_path, units=units, gain=2.0)
    assert read_waveform(path)[0] == pytest.approx(digital().T / 2 * factor, rel=1e-6)


def test_a_unit_that_is_none_is_named(tmp_path: Path, either_way: str) -> None:
    assert "lead I is in 'mmHg', expected mV" in refusal(write(tmp_path, units="mmHg"))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("sign", ["\u00b5", "\u03bc"])
def test_a_micro_sign_is_not_taken_for_volts(tmp_path: Path, encoding: str, sign: str) -> None:
    """wfdb drops what is not ASCII, so µV would be V."""
    if encoding == "latin-1" and sign == "\u03bc":
        pytest.skip("latin-1 has no Greek letter")
    path = write(tmp_path)
    header = path.with_name(NAME + ".hea")
    header.write_bytes(header.read_text().replace("/mV", f"/{sign}V").encode(encoding))
    assert wfdb.rdrecord(str(path)).units == ["V"] * 12
    assert read_waveform(path)[0] == pytest.approx(digital().T / 1e6, rel=1e-6)


def test_a_comment_may_hold_any_character(tmp_path: Path) -> None:
    path = write(tmp_path)
    header = path.with_name(NAME + ".hea")
    header.write_text(header.read_text() + "# Größe 181 cm, 1 µV\n")
    assert_as_wfdb(path)


def test_gain_and_baseline_are_used(tmp_path: Path, either_way: str) -> None:
    path = write(tmp_path, gain=204.8, baseline=-51)
    assert read_waveform(path)[0] == pytest.approx((digital().T + 51) / 204.8, rel=1e-6)
    assert_as_wfdb(path)


def test_without_a_baseline_the_adcs_zero_is_it(tmp_path: Path, either_way: str) -> None:
    """As the WFDB standard has it: header(5), ADC zero."""
    path = write(tmp_path)
    header = tmp_path / f"{NAME}.hea"
    text, num = re.subn(r"\(0\)/mV 16 0 ", "/mV 16 512 ", header.read_text())
    assert num == 12
    header.write_text(text)

    assert read_waveform(path)[0] == pytest.approx((digital().T - 512) / 1000, rel=1e-6)
    assert_as_wfdb(path)


@pytest.mark.parametrize("fmt", ["80", "16", "24", "32", "212"])
def test_storage_formats_and_their_invalid_samples(tmp_path: Path, either_way: str, fmt: str) -> None:
    samples = np.clip(digital(), -100, 100)
    samples[10:20, 3] = INVALID[fmt]
    path = write(tmp_path, samples, fmt=fmt)
    signals = read_waveform(path)[0]
    expected = np.where(samples == INVALID[fmt], np.nan, samples).T / 1000
    assert np.isnan(signals).sum() == 10
    assert np.allclose(signals, expected, rtol=1e-6, atol=0, equal_nan=True)


def test_markers_are_those_of_wfdb() -> None:
    from wfdb.io._signal import INVALID_SAMPLE_VALUE

    assert {fmt: value for fmt, value in INVALID_SAMPLE_VALUE.items() if value is not None} == INVALID


@pytest.mark.parametrize("num", [1, 2, 3, 299])
def test_packed_files_end_in_a_whole_block_or_not(tmp_path: Path, num: int) -> None:
    samples = digital(num)[:, :3]
    path = write(tmp_path, samples, NAMES[:3], fmt="212")
    data = tmp_path / f"{NAME}.dat"
    least = (9 * num + 1) // 2
    for size in (least, -(-3 * num // 2) * 3):
        data.write_bytes(data.read_bytes()[:size].ljust(size, b"\0"))
        assert np.array_equal(read_waveform(path, ("II",))[0], (samples.T[[1]] / 1000).astype(np.float32))
    data.write_bytes(data.read_bytes()[: least - 1])
    assert f"implies {least:,}" in refusal(path, ("II",))


@pytest.mark.parametrize("bytes_gone", [1, 24, 7199, 7200])
def test_a_truncated_dat_is_named_with_its_size(tmp_path: Path, either_way: str, bytes_gone: int) -> None:
    path = write(tmp_path)
    data = tmp_path / f"{NAME}.dat"
    data.write_bytes(data.read_bytes()[: 7200 - bytes_gone])
    assert f"{data} has {7200 - bytes_gone:,} bytes where {NAME}.hea implies 7,200" in refusal(path)


def test_a_dat_longer_than_its_header_is_named(tmp_path: Path, either_way: str) -> None:
    path = write(tmp_path)
    with (tmp_path / f"{NAME}.dat").open("ab") as file:
        file.write(bytes(24))
    assert "has 7,224 bytes where r.hea implies 7,200" in refusal(path)


def test_a_truncated_dat_without_a_declared_length_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    edit(path, " 100 300", " 100")
    assert_as_wfdb(path)
    data = tmp_path / f"{NAME}.dat"
    data.write_bytes(data.read_bytes()[:-1])
    assert "has 7,199 bytes" in refusal(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("r 12 100 300", "r 12 100 250", "implies 6,000"),
        ("r 12 100 300", "r 11 100 300", "declares 11 signals and describes 12"),
        ("r 12 100 300", "r 13 100 300", "declares 13 signals and describes 12"),
        ("r 12 100 300", "r 0 100 300", "declares no signals"),
        ("r 12 100 300", "r 12 100 0", "declares no signals"),
        ("r 12 100 300", "r 12 100 999999999999", "implies 23,999,999,999,976"),
        ("r 12 100 300", "r 12 0 300", "the sampling rate is 0"),
        ("r 12 100 300", "r 12 360.5 300", "the sampling rate is 360.5"),
        ("r 12 100 300", "r 12 1000000007 300", "the sampling rate is 1000000007"),
        ("r.dat 16 ", "r.dat 32 ", "gives r.dat the formats 16, 32; a file has one format"),
        ("r.dat 16 ", "r.dat 16x4 ", "several samples a frame"),
        ("r.dat 16 ", "r.dat 99 ", "gives r.dat the formats 16, 99; a file has one format"),
        ("1000.0(0)/mV", "1000.0(99999999999)/mV", "a baseline does not fit into 32 bits"),
        ("1000.0(0)/mV", "1e-300(0)/mV", "lead I has gain 1e-300"),
        ("1000.0(0)/mV", "1e999(0)/mV", "lead I has gain inf"),
        ("1000.0(0)/mV", "-(0)/mV", "cannot be read as a WFDB record"),
    ],
)
def test_a_header_that_disagrees_is_named(tmp_path: Path, either_way: str, old: str, new: str, words: str) -> None:
    path = write(tmp_path)
    edit(path, old, new)
    assert words in refusal(path)


@pytest.mark.parametrize(
    ("fmt", "words"),
    [("32", "implies 14,400"), ("212", "implies 5,400"), ("99", "cannot be read"), ("516", "cannot be read")],
)
def test_another_format_than_the_files_is_named(tmp_path: Path, either_way: str, fmt: str, words: str) -> None:
    path = write(tmp_path)
    edit(path, "r.dat 16 ", f"r.dat {fmt} ", count=12)
    assert words in refusal(path)


@pytest.mark.parametrize(
    ("fmt", "length"), [("8", 10**30), ("516", 10**15), ("516", 10**30), ("508", 300), ("524", 300)]
)
def test_a_length_beyond_all_memory_is_refused(tmp_path: Path, fmt: str, length: int) -> None:
    path = write(tmp_path)
    edit(path, "r.dat 16 ", f"r.dat {fmt} ", count=12)
    edit(path, " 100 300", f" 100 {length}")
    refusal(path)


def test_a_rate_beyond_all_numbers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    edit(path, " 100 300", f" {'9' * 400}. 300")
    refusal(path)


def test_a_record_of_several_segments_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "m.hea").write_text("m/2 12 100 600\nr 300\nr 300\n")
    assert "is a record of several segments; name one of them: r, r" in refusal(path.with_name("m"))


def test_a_wrong_checksum_is_named_with_its_lead(tmp_path: Path, either_way: str) -> None:
    path = write(tmp_path)
    data = tmp_path / f"{NAME}.dat"
    damaged = bytearray(data.read_bytes())
    damaged[2 * (12 * 40 + 6)] ^= 0x10  # one bit of V1
    data.write_bytes(damaged)
    message = refusal(path)
    assert "lead V1 does not match the checksum in r.hea" in message and str(data) in message


@pytest.mark.parametrize("shift", [-(2**16), 2**16])
def test_a_checksum_may_have_a_sign(tmp_path: Path, either_way: str, shift: int) -> None:
    """It is the sum's last 16 bits, which programs write as a signed number or as an unsigned one."""
    path = write(tmp_path)
    expected = read_waveform(path)[0]
    header = tmp_path / f"{NAME}.hea"
    pattern = r"(/mV 16 0 -?\d+) (\d+) 0 "
    text, num = re.subn(pattern, lambda found: f"{found[1]} {int(found[2]) + shift} 0 ", header.read_text())
    assert num == 12
    header.write_text(text)

    assert np.array_equal(read_waveform(path)[0], expected)


def test_a_missing_lead_is_named(tmp_path: Path, either_way: str) -> None:
    path = write(tmp_path, digital()[:, :11], NAMES[:11])
    assert "has no lead V6; it has I, II, III, aVR" in refusal(path)
    assert read_waveform(path, ("V5",))[0].shape == (1, 300)


def test_a_doubled_lead_is_named(tmp_path: Path, either_way: str) -> None:
    path = write(tmp_path, np.concatenate([digital(), digital()[:, :1]], axis=1), [*NAMES, "x"])
    edit(path, " x", " V1")
    assert "has lead V1 more than once" in refusal(path)


def test_leads_without_a_name_are_missing_leads(tmp_path: Path, either_way: str) -> None:
    path = write(tmp_path)
    edit(path, " 0 V6", " 0")
    assert "has no lead V6" in refusal(path)


@pytest.mark.parametrize("ending", [".hea", ".dat"])
def test_a_missing_file_is_named(tmp_path: Path, either_way: str, ending: str) -> None:
    path = write(tmp_path)
    (tmp_path / (NAME + ending)).unlink()
    assert refusal(path) == f"{tmp_path / NAME}{ending} is missing"


def test_a_header_that_is_a_folder_is_refused(tmp_path: Path, either_way: str) -> None:
    (tmp_path / "r.hea").mkdir()
    refusal(tmp_path / "r")


def test_a_dotted_name_is_a_name(tmp_path: Path) -> None:
    path = write(tmp_path)
    for ending in (".hea", ".dat"):
        shutil.copy(f"{path}{ending}", tmp_path / f"a.b{ending}")
    assert read_waveform(tmp_path / "a.b")[0].shape == (12, 300)


def test_a_shifted_lead_has_its_skew_undone(tmp_path: Path) -> None:
    path = write(tmp_path)
    edit(path, "r.dat 16 ", "r.dat 16:5 ")
    signals, _ = read_waveform(path)
    assert np.array_equal(signals[0, :-5], (digital()[5:, 0] / 1000).astype(np.float32))
    assert np.isnan(signals[0, -5:]).all()


def ecg(num: int = 3000) -> npt.NDArray[np.int64]:
    """[time, lead] in microvolts: a beat a second of 1 mV, whose limb leads obey Einthoven."""
    beat = np.exp(-((((np.arange(num) / 100) % 1) - 0.5) ** 2) / (2 * 0.02**2))
    first, second = np.rint(800 * beat), np.rint(1000 * beat)
    limb = [first, second, second - first, -(first + second) / 2, first - second / 2, second - first / 2]
    return np.rint(np.stack([*limb, *(np.rint((k - 3) * 300 * beat) for k in range(6))], axis=1)).astype(np.int64)


def test_an_ecg_as_it_should_be_has_no_note(tmp_path: Path, either_way: str) -> None:
    assert read_and_hear(write(tmp_path, ecg()))[1] == []


@pytest.mark.parametrize(
    "line",
    [
        "r.mat 12 100 300",
        "r.mat 12 100 300 05-May-2020 09:49:17",
        "r 12 100 300 2006",
        "r 12 100 300 01/01/2006",
        "r 12 100 300 24:00:00 01/01/2006",
        "r 12 100 300 12:61:99 31/31/2000",
        "r 12 100/250(0) 300",
        "my.record 12 100.0 300",
        "\ufeffr 12 100 300",
    ],
)
def test_what_nothing_uses_of_a_record_line_may_be_anything(tmp_path: Path, either_way: str, line: str) -> None:
    path = write(tmp_path)
    edit(path, "r 12 100 300", line)
    assert np.array_equal(read_waveform(path)[0], (digital().T / 1000).astype(np.float32))


def test_a_header_in_utf_16_is_read(tmp_path: Path) -> None:
    path = write(tmp_path)
    header = path.with_name(NAME + ".hea")
    header.write_bytes(header.read_text().encode("utf-16"))
    assert np.array_equal(read_waveform(path)[0], (digital().T / 1000).astype(np.float32))


@pytest.mark.parametrize("ending", [".hea", ".dat"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7200\n",
            "LFS pointer, not the file: git lfs",
        ),
        (b"/annex/objects/MD5E-s7200--0.dat\n", "a git-annex pointer, not the file: git annex get"),
        (gzip.compress(b"r 12 100 300", mtime=0), "compressed with gzip: gunzip it"),
        (b"\n<!DOCTYPE HTML><html>404</html>", "a web page, not the file: download it again"),
    ],
)
def test_a_file_that_is_not_the_file_is_named(tmp_path: Path, ending: str, content: bytes, words: str) -> None:
    path = write(tmp_path)
    path.with_name(NAME + ending).write_bytes(content)
    assert f"{path}{ending} is " in refusal(path) and words in refusal(path)


def test_a_header_names_files_beside_it_only(tmp_path: Path) -> None:
    path = write(tmp_path)
    edit(path, "r.dat", "../r.dat", count=12)
    assert "'../r.dat' for its samples, expected a file in the same folder" in refusal(path)


def test_the_line_that_is_none_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    edit(path, "1000.0(0)/mV", "1000,0(0)/mV")
    assert "line 2 is 'r.dat 16 1000,0(0)/mV" in refusal(path)
    edit(path, "r 12 100", "r twelve 100")
    assert "line 1 is 'r twelve 100 300', expected a record line such as A0001 12 500 5000" in refusal(path)


def test_matlab_structs_of_cpsc2018_are_named(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "A0001.mat", {"ECG": {"data": np.zeros((12, 10))}})
    assert "CPSC2018 as first released" in refusal(tmp_path / "A0001")
    assert "physionet.org/content/challenge-2020" in refusal(tmp_path / "A0001")


@pytest.mark.parametrize("pair", [("I", "II"), ("I", "III"), ("II", "III"), ("aVR", "aVL"), ("II", "aVF")])
def test_limb_leads_are_computed_from_any_two(tmp_path: Path, either_way: str, pair: tuple[str, str]) -> None:
    samples, names = ecg(), [*pair, *NAMES[6:]]
    path = write(tmp_path, samples[:, [NAMES.index(name) for name in names]], names)
    signals, notes = read_and_hear(path)
    np.testing.assert_allclose(signals, samples.T / 1000, atol=2.1e-3)  # of samples rounded to 1 uV
    assert [note.kind for note in notes] == ["derived"]
    assert f"are computed from {pair[0]} and {pair[1]}" in notes[0].text
    assert read_and_hear(path, ("V6", "aVF", "V1"))[0].shape == (3, 3000)
    assert read_and_hear(path, pair)[1] == []


def test_formulas_of_limb_leads(tmp_path: Path) -> None:
    samples = digital()[:, [0, 1, *range(6, 12)]]
    signals = read_waveform(write(tmp_path, samples, ["I", "II", *NAMES[6:]]))[0]
    first, second = samples[:, 0] / 1000, samples[:, 1] / 1000
    expected = [second - first, -(first + second) / 2, first - second / 2, second - first / 2]
    np.testing.assert_allclose(signals[2:6], expected, atol=1e-6)


def test_an_invalid_sample_is_invalid_in_computed_leads_too(tmp_path: Path) -> None:
    samples = ecg()[:, [0, 1, *range(6, 12)]]
    samples[7, 1] = INVALID["16"]
    signals = read_waveform(write(tmp_path, samples, ["I", "II", *NAMES[6:]]))[0]
    assert np.isnan(signals[1:6, 7]).all() and np.isnan(signals).sum() == 5


def test_one_limb_lead_gives_no_other(tmp_path: Path) -> None:
    assert "has no lead I, III, aVR, aVL, aVF; it has" in refusal(
        write(tmp_path, ecg()[:, [1, *range(6, 12)]], ["II", *NAMES[6:]])
    )


@pytest.mark.parametrize(
    "names",
    [
        ["MLI", "MLII", "MLIII", *NAMES[3:]],
        [f"Lead {name}" for name in NAMES],
        [f"ECG {name}" for name in NAMES],
        [f"MDC_ECG_LEAD_{name.upper()}" for name in NAMES],
        ["DI", "DII", "DIII", *NAMES[3:]],
        ["D1", "D2", "D3", *NAMES[3:]],
        [*NAMES[:6], *(f"C{k}" for k in range(1, 7))],
        [*NAMES[:6], *(f"V {k}" for k in range(1, 7))],
        ["\u2160", "\u2161", "\u2162", *NAMES[3:]],
    ],
    ids=lambda names: names[0] + names[6],
)
def test_other_spellings_are_read_with_a_note(tmp_path: Path, either_way: str, names: list[str]) -> None:
    path = write(tmp_path, ecg())
    for name, spelling in zip(NAMES[::-1], names[::-1], strict=True):
        edit(path, f" 0 {name}\n", f" 0 {spelling}\n")
    signals, notes = read_and_hear(path)
    assert np.array_equal(signals, (ecg().T / 1000).astype(np.float32))
    assert [note.kind for note in notes] == ["renamed"]


@pytest.mark.parametrize("name", ["-aVR", "\u2212aVR", "-AVR", "Lead -aVR"])
def test_an_inverted_lead_is_turned_round(tmp_path: Path, either_way: str, name: str) -> None:
    samples = ecg()
    samples[:, 3] *= -1
    path = write(tmp_path, samples)
    edit(path, " aVR\n", f" {name}\n")
    signals, notes = read_and_hear(path)
    assert np.array_equal(signals, (ecg().T / 1000).astype(np.float32))
    assert [note.kind for note in notes] == ["inverted"] and f"{name} gives aVR" in notes[0].text


@pytest.mark.parametrize("name", ["1", "ECG7", "MCL1", "ECG-V1", "V1-V2", "V1R", "V7", "E1", ""])
def test_what_has_two_readings_is_refused(tmp_path: Path, either_way: str, name: str) -> None:
    path = write(tmp_path, ecg())
    edit(path, " 0 V1\n", f" 0 {name}\n")
    assert "has no lead V1" in refusal(path)


@pytest.mark.parametrize(("other", "lead"), [("C1", "V1"), ("Lead I", "I"), ("-aVR", "aVR"), ("v1", "V1")])
def test_two_columns_for_a_lead_are_refused(tmp_path: Path, either_way: str, other: str, lead: str) -> None:
    path = write(tmp_path, np.concatenate([ecg(), ecg()[:, :1]], axis=1), [*NAMES, "x"])
    edit(path, " x", f" {other}")
    assert f"has lead {lead} more than once" in refusal(path)


@pytest.mark.parametrize("gain", ["0", "0(0)/mV", "-0(0)/mV", "0.0/mV"])
def test_a_gain_of_0_is_noted(tmp_path: Path, either_way: str, gain: str) -> None:
    path = write(tmp_path, ecg())
    edit(path, "1000.0(0)/mV", gain, count=12)
    signals, notes = read_and_hear(path)
    assert np.array_equal(signals, (ecg().T / 200).astype(np.float32))
    assert [note.kind for note in notes] == ["uncalibrated"] and "read at 200 per mV" in notes[0].text


def test_a_negative_gain_is_noted(tmp_path: Path, either_way: str) -> None:
    path = write(tmp_path, ecg())
    edit(path, "1000.0(0)/mV", "-1000.0(0)/mV")
    signals, notes = read_and_hear(path)
    assert np.array_equal(signals[0], (-ecg()[:, 0] / 1000).astype(np.float32))
    assert [note.kind for note in notes] == ["negative"] and "lead I " in notes[0].text


@pytest.mark.parametrize(
    ("gain", "unit", "kind"),
    [
        (1.0, "mV", "large"),
        (10.0, "mV", "large"),
        (1e6, "mV", "small"),
        (1000.0, "uV", "small"),
        (1.0, "V", "large"),
    ],
)
def test_amplitudes_of_no_surface_ecg_are_noted(
    tmp_path: Path, either_way: str, gain: float, unit: str, kind: str
) -> None:
    notes = read_and_hear(write(tmp_path, ecg(), units=unit, gain=gain))[1]
    assert [note.kind for note in notes] == [kind]
    assert "check gain and unit, in the header or as stated" in notes[0].text


def test_a_wrong_baseline_is_noted_and_a_spike_is_not(tmp_path: Path) -> None:
    notes = read_and_hear(write(tmp_path, ecg() - 500, baseline=-32000, gain=1000.0))[1]
    assert [note.kind for note in notes] == ["offset"]
    samples = ecg()
    samples[100:103, 4] = 32000  # an artefact, as PTB-XL has
    assert read_and_hear(write(tmp_path, samples))[1] == []


def test_bounds_of_amplitude() -> None:
    wave = np.sin(np.arange(1000) / 10, dtype=np.float32)[None]
    for scale, kinds in {9.9: [], 10.1: ["large"], 0.0151: [], 0.0149: ["small"], 0: []}.items():
        assert [note.kind for note in check_amplitude(np.float32(scale) * wave, ("II",))] == kinds
    holes = 30 * wave
    holes[0, ::2] = np.nan
    assert [note.kind for note in check_amplitude(holes, ("II",))] == ["large"]
    assert check_amplitude(np.full((2, 9), np.nan, np.float32), ("I", "II")) == []


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("valid"), digital(40))


def read_or_refuse(path: Path) -> npt.NDArray[np.float32] | None:
    """The signals, or None where they are refused; anything but DataError is the test's failure."""
    try:
        signals, rate = read_waveform(path)
    except DataError:
        return None
    assert signals.dtype == np.float32 and signals.ndim == 2 and len(signals) == 12
    assert not np.isinf(signals).any()
    assert rate >= 1
    return signals


def both_ways(folder: Path, header: bytes) -> None:
    """Give the .dat this header: the fast path and wfdb must agree, and neither may fail in another way."""
    (folder / "m.hea").write_bytes(header)
    with pytest.MonkeyPatch.context() as patch:
        fast = read_or_refuse(folder / "m")
        patch.setattr(waveforms, "_read_plain", lambda path: None)
        slow = read_or_refuse(folder / "m")
    assert (fast is None) == (slow is None)
    if fast is not None and slow is not None:
        assert np.array_equal(fast, slow, equal_nan=True)


FUZZ = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TOKENS = (
    *("", " ", "\n", "0", "1", "-", "-1", "12", "16", "100", "1e9", "1e", ".", "(", ")", "/", "x2", ":3", "+4", "212"),
    *("516", "8", "99999999999999999999", "1000.0(0)/mV", "r.dat", "~", "#", "\x00", "\xb5V", "uV", "/2", "V1", "\t"),
    *("12:61:99", "31/31/2000", "1e-400", "1e400", "\x0b"),
)


@settings(FUZZ, max_examples=100)
@given(st.binary(max_size=200))
@example(b"")
@example(b"\n\n")
@example(b"#")
@example(b"m 12 100 40")
@example(b"m/1 12 100 40\nm 40")
@example(b"m/2 12 100 40\nm 20\nm 20")
def test_garbage_for_a_header_is_refused(valid: Path, header: bytes) -> None:
    both_ways(valid.parent, header)


@settings(FUZZ, max_examples=150)
@given(st.data())
def test_a_mutated_header_is_read_alike_or_refused(valid: Path, data: st.DataObject) -> None:
    header = valid.with_name(NAME + ".hea").read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(header)))
        gone = data.draw(st.sampled_from([0, 0, 1, 1, 2, 5, 30]))
        new = data.draw(st.one_of(st.sampled_from(TOKENS).map(lambda t: t.encode("latin-1")), st.binary(max_size=3)))
        header = header[:start] + new + header[start + gone :]
    both_ways(valid.parent, header)


@settings(FUZZ, max_examples=150)
@given(st.integers(0, 12), st.integers(0, 8), st.lists(st.sampled_from(TOKENS), min_size=1, max_size=2).map("".join))
def test_a_header_with_a_wrong_field_is_read_alike_or_refused(valid: Path, line: int, field: int, token: str) -> None:
    lines = [row.split(" ") for row in valid.with_name(NAME + ".hea").read_text().splitlines()]
    fields = lines[line]
    fields[field % len(fields)] = token
    both_ways(valid.parent, "\n".join(" ".join(row) for row in lines).encode("latin-1"))
