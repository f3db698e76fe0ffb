"""Each corruption does what its name and strength say, again for the same record and seed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.data.corruptions import KINDS, Corruption
from bench.data.leads import LEADS
from bench.errors import BenchError

RATE = 500
NOISES = ("baseline-wander", "muscle-noise", "mains")
STRENGTHS = {"lead-off": 3, "lead-swap": 1, "gain": 0.5, "resample": 100, "short": 5, **dict.fromkeys(NOISES, 6)}


@pytest.fixture(scope="module")
def record() -> NDArray[np.float32]:
    """Ten seconds of 12 leads in mV that obey Einthoven's and Goldberger's laws, of two electrodes' potentials each."""
    rng = np.random.default_rng(0)
    right, left, foot, *chest = np.cumsum(rng.standard_normal((9, 10 * RATE)), axis=1) / 50
    center = (right + left + foot) / 3
    limbs = [left - right, foot - right, foot - left]
    augmented = [right - (left + foot) / 2, left - (right + foot) / 2, foot - (right + left) / 2]
    return np.array([*limbs, *augmented, *(each - center for each in chest)], dtype=np.float32)


def apply(text: str, record: NDArray[np.float32], ecg_id: int = 7, seed: int = 0) -> NDArray[np.float32]:
    return Corruption.parse(text).apply(record, RATE, LEADS, ecg_id, seed)


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("snr", [-6, 0, 12])
def test_noise_has_the_stated_ratio_in_each_lead(name: str, snr: float, record: NDArray[np.float32]) -> None:
    added = apply(f"{name}={snr}", record).astype(float) - record

    measured = 10 * np.log10(record.astype(float).var(axis=1) / added.var(axis=1))

    np.testing.assert_allclose(measured, snr, atol=0.1)


@pytest.mark.parametrize(("name", "low", "high"), [("mains", 49.9, 50.1), ("baseline-wander", 0.1, 0.35)])
def test_noise_is_in_its_band(name: str, low: float, high: float, record: NDArray[np.float32]) -> None:
    added = apply(f"{name}=0", record).astype(float) - record

    strongest = np.fft.rfftfreq(added.shape[1], 1 / RATE)[np.abs(np.fft.rfft(added)).argmax(axis=1)]

    assert ((strongest >= low) & (strongest <= high)).all()


def test_muscle_noise_is_white_and_independent(record: NDArray[np.float32]) -> None:
    added = apply("muscle-noise=0", record).astype(float) - record
    power = (np.abs(np.fft.rfft(added)) ** 2).sum(axis=0)
    low, high = (part.sum() / power.sum() for part in np.array_split(power[1:], 2))

    assert low == pytest.approx(high, abs=0.05)
    assert np.abs(np.corrcoef(added) - np.eye(12)).max() < 0.1


def test_a_flat_lead_stays_flat_under_noise(record: NDArray[np.float32]) -> None:
    flat = record.copy()
    flat[4] = 0.25

    assert (apply("muscle-noise=0", flat)[4] == 0.25).all()


def test_swapping_the_arms_gives_the_leads_of_swapped_electrodes() -> None:
    rng = np.random.default_rng(1)
    right, left, foot, chest = rng.standard_normal((4, 100))

    def leads(right: NDArray[np.float64], left: NDArray[np.float64]) -> NDArray[np.float64]:
        center = (right + left + foot) / 3
        limbs = [left - right, foot - right, foot - left]
        augmented = [right - (left + foot) / 2, left - (right + foot) / 2, foot - (right + left) / 2]
        return np.array([*limbs, *augmented, *[chest - center] * 6])

    given = leads(right, left).astype(np.float32)

    np.testing.assert_allclose(apply("lead-swap=1", given), leads(left, right), atol=1e-6)
    assert np.array_equal(apply("lead-swap=0", given), given)


def test_a_share_of_records_is_swapped(record: NDArray[np.float32]) -> None:
    short = record[:, :10]
    swapped = [ecg_id for ecg_id in range(400) if not np.array_equal(apply("lead-swap=0.25", short, ecg_id), short)]

    assert 70 <= len(swapped) <= 130
    more = [ecg_id for ecg_id in range(400) if not np.array_equal(apply("lead-swap=0.5", short, ecg_id), short)]
    assert set(swapped) < set(more), "a larger share adds records"


def test_leads_off_are_zero_and_nested(record: NDArray[np.float32]) -> None:
    off = [set(np.flatnonzero(~apply(f"lead-off={num}", record).any(axis=1))) for num in (1, 3, 11)]

    assert [len(each) for each in off] == [1, 3, 11]
    assert off[0] < off[1] < off[2]
    kept = sorted(set(range(12)) - off[1])
    assert np.array_equal(apply("lead-off=3", record)[kept], record[kept])


def test_gain_short_and_resample(record: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(apply("gain=0.5", record), record / 2)
    np.testing.assert_array_equal(apply("short=5", record), record[:, 1250:3750])
    slow = np.sin(2 * np.pi * 2 * np.arange(10 * RATE) / RATE)
    fast = np.sin(2 * np.pi * 120 * np.arange(10 * RATE) / RATE)
    both = apply("resample=100", np.array([slow, fast], dtype=np.float32))
    assert both.shape == (2, 10 * RATE)
    np.testing.assert_allclose(both[0, 500:-500], slow[500:-500], atol=0.01)
    assert np.abs(both[1, 500:-500]).max() < 0.05, "120 Hz cannot be held at 100 Hz"


@pytest.mark.parametrize("name", KINDS)
def test_the_same_record_and_seed_give_the_same(name: str, record: NDArray[np.float32]) -> None:
    text, before = f"{name}={STRENGTHS[name]}", record.copy()
    first = apply(text, record)

    assert first.dtype == np.float32
    assert np.array_equal(first, apply(text, record))
    assert np.array_equal(record, before), "the caller's signals are left alone"
    if name in (*NOISES, "lead-off"):
        assert not np.array_equal(first, apply(text, record, ecg_id=8))
        assert not np.array_equal(first, apply(text, record, seed=1))


def test_the_noise_of_two_strengths_differs_by_a_factor(record: NDArray[np.float32]) -> None:
    weak, strong = (apply(f"muscle-noise={snr}", record).astype(float) - record for snr in (20, 0))

    np.testing.assert_allclose(strong, 10 * weak, atol=1e-4)


def test_invalid_samples_count_as_zero(record: NDArray[np.float32]) -> None:
    holes = record.copy()
    holes[:, :100] = np.nan

    assert np.isfinite(apply("mains=0", holes)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("main=5", r"unknown corruption 'main', expected one of baseline-wander, .*; did you mean mains\?"),
        ("mains", r"corruption 'mains': expected mains=STRENGTH, the SNR in dB, a number from -40 to 60"),
        ("mains=nan", "a number from -40 to 60"),
        ("lead-off=1.5", "the number of leads set to 0 mV, a whole number from 1 to 100"),
        ("lead-swap=2", "a number from 0 to 1"),
        ("gain=0", "a number from 0.01 to 100"),
    ],
)
def test_what_is_no_corruption_is_refused(text: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        Corruption.parse(text)


def test_what_a_record_cannot_hold_is_refused(record: NDArray[np.float32]) -> None:
    with pytest.raises(BenchError, match=r"a signal at 100 Hz cannot hold 50 Hz; .* --source-rate"):
        Corruption.parse("mains=5").apply(record[:, ::5], 100, LEADS, 1)
    with pytest.raises(BenchError, match="the files have 500 Hz; expected a lower rate"):
        apply("resample=500", record)
    with pytest.raises(BenchError, match="corruption short=10: a record lasts 10 s; expected a shorter length"):
        apply("short=10", record)
    with pytest.raises(BenchError, match="the record has 12 leads; expected fewer"):
        apply("lead-off=12", record)
    with pytest.raises(BenchError, match="lead II becomes III, which this backbone does not read"):
        Corruption.parse("lead-swap=1").apply(record[:2], RATE, ("I", "II"), 1)
