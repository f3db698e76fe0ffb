"""Corrupt a record in a named way, at a stated strength, so that a model's robustness can be measured.

Signals are [lead, time] in mV at the rate of their file, before any preprocessing. A corruption is deterministic: its
random numbers depend on seed, name and ecg_id. They do not depend on the strength, so that nothing else changes along a
curve.

A signal-to-noise ratio (SNR) in dB is 10 log10(P_signal / P_noise), each P the mean square around the lead's own mean,
for each lead by itself. A flat lead gets no noise. The models of mains, muscle noise and baseline wander are those of
Friesen et al., A comparison of the noise sensitivity of nine QRS detection algorithms, IEEE Trans. Biomed. Eng. 37
(1990) 85-98: a sinusoid of the mains, zero-mean Gaussian noise, and a sinusoid of respiration from 0.15 to 0.3 Hz.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.signals import Signal, middle, resample
from bench.errors import BenchError

MAINS_HZ = 50.0
"""Frequency of the mains in Europe and most of Asia, Africa and Australia."""
RESPIRATION_HZ = (0.15, 0.3)
"""Range of the frequency of baseline wander, from Friesen et al. 1990."""
SWAPPED = {"I": ("I", -1), "II": ("III", 1), "III": ("II", 1), "aVR": ("aVL", 1), "aVL": ("aVR", 1)}
"""Lead -> lead and sign that it shows when the electrodes of the right and left arm are exchanged."""
Apply = Callable[[Signal, int, float, Sequence[str], np.random.Generator], Signal]
"""Function of signals [lead, time] in mV, their rate in Hz, the strength, the leads' names, and a random stream."""


@dataclass(frozen=True)
class Kind:
    """A named corruption: what its strength means, which strengths there are, and the function."""

    strength: str
    """Meaning and unit of the strength."""
    low: float
    high: float
    apply: Apply
    whole: bool = False
    """Whether the strength must be a whole number."""
    low_is_severe: bool = False
    """Whether a lower strength changes the signals more."""


@dataclass(frozen=True)
class Corruption:
    """A corruption at one strength. As text: `mains=5`."""

    name: str
    strength: float

    @classmethod
    def parse(cls, text: str) -> Corruption:
        """Read NAME=STRENGTH. Raises BenchError for an unknown name and for a strength that there is not."""
        name, _, number = text.partition("=")
        name = name.strip().replace("_", "-")
        if name not in KINDS:
            near = difflib.get_close_matches(name, KINDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise BenchError(f"unknown corruption {name[:40]!r}, expected one of {', '.join(KINDS)}{hint}")
        kind = KINDS[name]
        try:
            strength = float(number)
        except ValueError:
            strength = math.nan
        if not kind.low <= strength <= kind.high or (kind.whole and strength % 1):
            number_kind = "a whole number" if kind.whole else "a number"
            raise BenchError(
                f"corruption {text[:60]!r}: expected {name}=STRENGTH, the {kind.strength}, {number_kind} from "
                f"{kind.low:g} to {kind.high:g}"
            )
        return cls(name, strength)

    def __str__(self) -> str:
        return f"{self.name}={self.strength:g}"

    @property
    def severity(self) -> tuple[str, float]:
        """Name and a number that grows with the change of the signals."""
        return self.name, -self.strength if KINDS[self.name].low_is_severe else self.strength

    def apply(self, signals: Signal, rate: int, leads: Sequence[str], ecg_id: int, seed: int = 0) -> Signal:
        """Return the corrupted signals [lead, time] in mV of a record. Invalid samples count as 0 mV.

        Raises BenchError if the record lacks a lead, or has too low a rate, for this corruption.
        """
        digest = hashlib.sha256(f"{self.name} {seed} {ecg_id}".encode()).digest()
        rng = np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
        corrupted = KINDS[self.name].apply(np.nan_to_num(signals), rate, self.strength, leads, rng)
        return np.asarray(corrupted, dtype=np.float32)


def add_noise(signals: Signal, noise: npt.NDArray[np.floating[Any]], snr: float) -> Signal:
    """Return signals plus noise, both [lead, time], the noise of each lead scaled to an SNR in dB."""
    noise = noise.astype(np.float64) - noise.mean(axis=1, keepdims=True)
    power = noise.var(axis=1, keepdims=True)
    wanted = signals.var(axis=1, keepdims=True, dtype=np.float64) / 10 ** (snr / 10)
    factor = np.sqrt(np.divide(wanted, power, out=np.zeros_like(power), where=power > 0))
    return np.asarray(signals + factor * noise, dtype=np.float32)


def baseline_wander(
    signals: Signal, rate: int, strength: float, leads: Sequence[str], rng: np.random.Generator
) -> Signal:
    """Add a sinusoid of respiration: one frequency and phase for the record, from 0.15 to 0.3 Hz (Friesen et al.)."""
    frequency, phase = rng.uniform(*RESPIRATION_HZ), rng.uniform(0, 2 * math.pi)
    return add_noise(signals, _sinusoid(signals, rate, frequency, phase), strength)


def muscle_noise(signals: Signal, rate: int, strength: float, leads: Sequence[str], rng: np.random.Generator) -> Signal:
    """Add white Gaussian noise, independent for each lead (Friesen et al.)."""
    return add_noise(signals, rng.standard_normal(signals.shape), strength)


def mains(signals: Signal, rate: int, strength: float, leads: Sequence[str], rng: np.random.Generator) -> Signal:
    """Add a sinusoid of 50 Hz, of one phase for the record (Friesen et al.). Needs a rate above 100 Hz."""
    if rate <= 2 * MAINS_HZ:
        raise BenchError(
            f"corruption mains: a signal at {rate} Hz cannot hold {MAINS_HZ:g} Hz; expected files of more than "
            f"{2 * MAINS_HZ:g} Hz; name them with --source-rate, such as 500"
        )
    return add_noise(signals, _sinusoid(signals, rate, MAINS_HZ, rng.uniform(0, 2 * math.pi)), strength)


def _sinusoid(signals: Signal, rate: int, frequency: float, phase: float) -> npt.NDArray[np.float64]:
    """Return a sinusoid [lead, time], the same in all leads."""
    time = np.arange(signals.shape[1]) / rate
    return np.broadcast_to(np.sin(2 * math.pi * frequency * time + phase), signals.shape)


def lead_off(signals: Signal, rate: int, strength: float, leads: Sequence[str], rng: np.random.Generator) -> Signal:
    """Set so many leads, chosen at random, to 0 mV. The leads at a lower number are among those at a higher one."""
    if strength >= len(signals):
        raise BenchError(f"corruption lead-off={strength:g}: the record has {len(signals)} leads; expected fewer")
    corrupted = signals.copy()
    corrupted[rng.permutation(len(signals))[: int(strength)]] = 0
    return corrupted


def lead_swap(signals: Signal, rate: int, strength: float, leads: Sequence[str], rng: np.random.Generator) -> Signal:
    """Exchange the electrodes of the right and left arm in this share of records.

    By Einthoven's and Goldberger's definitions I becomes -I, II and III change places, aVR and aVL too; aVF and the
    chest leads stay (Batchvarov, Malik and Camm, Europace 9 (2007) 1081-1090).
    """
    if rng.uniform() >= strength:
        return signals
    rows = {lead: row for row, lead in enumerate(leads)}
    corrupted = signals.copy()
    for lead, (source, sign) in SWAPPED.items():
        if lead in rows:
            if source not in rows:
                raise BenchError(
                    f"corruption lead-swap: lead {lead} becomes {source}, which this backbone does not read"
                )
            corrupted[rows[lead]] = sign * signals[rows[source]]
    return corrupted


def gain(signals: Signal, rate: int, strength: float, leads: Sequence[str], rng: np.random.Generator) -> Signal:
    """Multiply all leads by a factor: 0.5 is a record at 5 mm/mV that is read as one at the usual 10 mm/mV."""
    return signals * strength


def resample_to(signals: Signal, rate: int, strength: float, leads: Sequence[str], rng: np.random.Generator) -> Signal:
    """Resample to a lower rate in Hz and back (`bench.data.signals.resample`): what a slower device would keep."""
    if strength >= rate:
        raise BenchError(f"corruption resample={strength:g}: the files have {rate} Hz; expected a lower rate")
    length = signals.shape[1]
    back = resample(resample(signals, rate, int(strength)), int(strength), rate)[:, :length]
    return np.pad(back, ((0, 0), (0, length - back.shape[1])), mode="edge")


def short(signals: Signal, rate: int, strength: float, leads: Sequence[str], rng: np.random.Generator) -> Signal:
    """Keep the middle of the record, of this length in seconds. Preprocessing pads it with zeros on both sides."""
    if round(strength * rate) >= signals.shape[1]:
        raise BenchError(
            f"corruption short={strength:g}: a record lasts {signals.shape[1] / rate:g} s; expected a shorter length"
        )
    return middle(signals, rate, strength)[0]


SNR = "SNR in dB"
KINDS: Mapping[str, Kind] = {
    "baseline-wander": Kind(SNR, -40, 60, baseline_wander, low_is_severe=True),
    "muscle-noise": Kind(SNR, -40, 60, muscle_noise, low_is_severe=True),
    "mains": Kind(SNR, -40, 60, mains, low_is_severe=True),
    "lead-off": Kind("number of leads set to 0 mV", 1, 100, lead_off, whole=True),
    "lead-swap": Kind("share of records with the arms' electrodes exchanged", 0, 1, lead_swap),
    "gain": Kind("factor", 0.01, 100, gain),
    "resample": Kind("rate in Hz", 10, 5000, resample_to, whole=True, low_is_severe=True),
    "short": Kind("length in s", 1, 60, short, low_is_severe=True),
}
