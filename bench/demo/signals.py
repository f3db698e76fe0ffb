"""Synthesise an ECG of 10 s at 500 Hz from statements, for the synthetic PTB-XL.

A beat is a sum of Gaussians (P, Q, R, S, ST, T) on a heart dipole with three orthogonal components: x to the left,
y down, z to the back, in mV (the idea of McSharry et al., IEEE Trans Biomed Eng 50:289, 2003, without its differential
equations). Dower's matrix (Dower, Machado and Osborne, Clin Cardiol 3:87, 1980) projects the dipole on eight
independent leads; the other four follow from these (Einthoven, Goldberger). A statement changes the heart: an infarct
removes forces from its territory, a left bundle branch block slows and turns the QRS, atrial fibrillation removes P
waves and makes the rhythm irregular. Amplitudes are typical textbook values, checked against medians of PTB-XL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy  # imports its parts where they are first used
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The twelve leads with the names and order of PTB-XL's headers."""

RATE_HZ = 500
DURATION_S = 10.0
NUM_SAMPLES = int(RATE_HZ * DURATION_S)

# [lead, component]: I, II, V1..V6 from x, y, z (Dower et al. 1980)
DOWER: Array = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)

# direction of each wall of the left ventricle from its centre: x left, y down, z back
WALLS: dict[str, Array] = {
    wall: np.array(direction) / np.linalg.norm(direction)
    for wall, direction in {
        "inferior": (0.0, 1.0, 0.1),
        "inferolateral": (0.7, 0.75, 0.1),
        "inferoposterior": (0.0, 0.7, 0.7),
        "inferoposterolateral": (0.6, 0.6, 0.5),
        "posterior": (0.1, 0.1, 1.0),
        "anterior": (0.3, 0.0, -0.95),
        "anteroseptal": (-0.25, 0.0, -0.95),
        "anterolateral": (0.8, -0.1, -0.6),
        "lateral": (1.0, -0.2, 0.0),
        "diffuse": (0.8, 0.4, -0.1),
    }.items()
}

INFARCTS = {
    "IMI": "inferior", "ILMI": "inferolateral", "IPMI": "inferoposterior", "IPLMI": "inferoposterolateral",
    "PMI": "posterior", "AMI": "anterior", "ASMI": "anteroseptal", "ALMI": "anterolateral", "LMI": "lateral",
}  # fmt: skip
INJURIES = {
    "INJAS": "anteroseptal", "INJAL": "anterolateral", "INJIN": "inferior", "INJLA": "lateral",
    "INJIL": "inferolateral",
}  # fmt: skip
ISCHAEMIAS = {
    "ISC_": "diffuse", "ISCAL": "anterolateral", "ISCIN": "inferior", "ISCIL": "inferolateral",
    "ISCAS": "anteroseptal", "ISCLA": "lateral", "ISCAN": "anterior",
}  # fmt: skip

# a beat's template runs from 0.35 s before to 0.80 s after its R peak
_BEFORE = int(0.35 * RATE_HZ)
_TEMPLATE_S: Array = np.arange(-_BEFORE, int(0.80 * RATE_HZ)) / RATE_HZ
_TIME_S: Array = np.arange(NUM_SAMPLES) / RATE_HZ
_Q, _R, _S = 0, 1, 2


@dataclass(frozen=True)
class Noise:
    """Disturbances of a record, named as PTB-XL's quality columns."""

    drift: bool = False
    static: bool = False
    burst: bool = False


@dataclass
class Heart:
    """A heart that statements modify. A wave is a row [delay s, width s, x, y, z mV]; delays count from the R peak."""

    rate_bpm: float
    jitter: float  # standard deviation of RR, relative
    respiratory: float  # amplitude of RR's swing with respiration, relative
    pr_s: float
    qt: float  # 1 for a normal QT at this rate
    projection: Array  # [8, 3]
    atrial: Array  # [wave, 5], delays from the P peak
    qrs: Array  # [wave, 5]
    st: Array  # [3] mV
    t: Array  # [3] mV
    rhythm: str = "SR"
    conduction: str = ""  # 2AVB or 3AVB
    pattern: int = 0  # 2: bigeminy, 3: trigeminy
    ventricular_ectopics: int = 0
    atrial_ectopics: int = 0
    fibrillation_mv: float = 0.0
    spike_mv: float = 0.0
    late: list[tuple[float, float, Array]] = field(default_factory=list)  # QRS waves that a change added

    def stretch(self, factor: float) -> None:
        """Stretch the QRS by `factor`."""
        self.qrs[:, :2] *= factor

    def add(self, delay_s: float, width_s: float, vector: Array) -> None:
        """Add a wave to the QRS."""
        self.late.append((delay_s, width_s, vector))

    def waves(self) -> Array:
        """All waves of the QRS, [wave, 5]."""
        extra = [np.concatenate(([delay, width], vector)) for delay, width, vector in self.late]
        return np.vstack([self.qrs, *extra])

    def axis_deg(self) -> float:
        """The frontal QRS axis in degrees: the angle of the QRS area; 0 points left, 90 down."""
        waves = self.waves()
        area = waves[:, 1] @ (waves[:, 2:] @ self.projection[:2].T)
        # lead aVF from I and II (Goldberger), scaled to the length of I
        return float(np.degrees(np.arctan2((area[1] - area[0] / 2) * 2 / np.sqrt(3), area[0])))


def draw_heart(rng: np.random.Generator, age: float, sex: int) -> Heart:
    """Return a healthy heart for this age in years and sex (1: female, as in PTB-XL)."""
    gain = rng.lognormal(0.0, 0.22) * (0.92 if sex else 1.0)
    frontal, horizontal = np.radians(rng.normal([9 - 12 * (age - 50) / 30, 0], [17, 14]))
    c, s = np.cos(frontal), np.sin(frontal)
    tilt = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    c, s = np.cos(horizontal), np.sin(horizontal)
    turn = tilt @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    width = rng.normal(1.0, 0.07)
    qrs = np.array(
        [
            [-0.021, 0.0075, -0.14, -0.06, -0.26],
            [0.000, 0.0105, 1.18, 0.60, 0.26],
            [0.025, 0.0095, -0.14, -0.16, 0.92],
        ]
    )
    qrs[:, :2] *= width
    qrs[:, 2:] *= gain * rng.lognormal(0.0, [[0.4], [0.15], [0.25]], size=(3, 1))
    qrs[:, 2:] = qrs[:, 2:] @ turn.T
    atrial = np.array([[-0.012, 0.018, 0.045, 0.080, -0.035], [0.018, 0.020, 0.050, 0.060, 0.025]])
    atrial[:, 2:] *= rng.lognormal(0.0, 0.25)
    t = np.array([0.27, 0.12, -0.20]) * rng.lognormal(0.0, 0.25) * (1.15 - 0.005 * age)
    return Heart(
        rate_bpm=float(np.clip(rng.normal(71, 10), 57, 101)),
        jitter=0.012,
        respiratory=float(np.clip(rng.normal(0.05 - 0.0005 * age, 0.012), 0.005, 0.07)),
        pr_s=float(np.clip(rng.normal(0.155, 0.018), 0.115, 0.205)),
        qt=rng.normal(1.0, 0.035),
        projection=DOWER * rng.normal(1.0, 0.12, size=(8, 1)) + rng.normal(0.0, 0.03, size=(8, 3)),
        atrial=atrial,
        qrs=qrs,
        st=rng.normal(0.0, 0.012, 3) + (np.array([0.0, 0.0, -0.02]) if not sex else 0.0),
        t=t @ turn.T + rng.normal(0.0, 0.025, 3),
    )


def change(heart: Heart, code: str, strength: float, rng: np.random.Generator) -> None:
    """Modify the heart so that the statement `code` holds; `strength` from 0 (invisible) to 1 (clear)."""
    for part in (_injure, _repolarise, _scale, _conduct, _time):
        if part(heart, code, strength, rng):
            return  # NORM and SR change nothing: draw_heart returns a healthy heart


def _injure(heart: Heart, code: str, s: float, rng: np.random.Generator) -> bool:
    """Apply necrosis, injury or ischaemia of a wall. Return whether `code` is such a statement."""
    match code:
        # necrosis: forces point away from the wall, R is lost, T turns; some are fresh and lift ST
        case _ if code in INFARCTS:
            wall = WALLS[INFARCTS[code]]
            heart.add(-0.014, 0.0125, -0.42 * s * wall)
            heart.qrs[_R, 2:] -= 0.40 * s * max(float(heart.qrs[_R, 2:] @ wall), 0.0) * wall
            heart.t -= 0.13 * s * wall
            heart.st += (0.20 if rng.random() < 0.08 else 0.03) * s * wall
        # subendocardial injury depresses ST over its wall (so it does in PTB-XL: median -0.09 mV in V5 for INJAL)
        case _ if code in INJURIES:
            wall = WALLS[INJURIES[code]]
            heart.st -= 0.12 * s * wall
            heart.t -= 0.20 * s * wall
        case _ if code in ISCHAEMIAS:
            wall = WALLS[ISCHAEMIAS[code]]
            heart.st -= 0.055 * s * wall
            heart.t -= 0.23 * s * wall
        case _:
            return False
    return True


def _repolarise(heart: Heart, code: str, s: float, rng: np.random.Generator) -> bool:
    """Apply an unspecific change of ST, T or QT. Return whether `code` is such a statement."""
    match code:
        case "NDT" | "NT_":
            heart.t *= 1 - (0.60 if code == "NDT" else 0.5) * s
            heart.t -= 0.05 * s * WALLS["diffuse"]
        case "LOWT":
            heart.t *= max(1 - 0.75 * s, 0.05)
        case "INVT":
            heart.t -= 0.34 * s * WALLS["anterolateral"]
        case "TAB_":
            heart.t += 0.18 * s * rng.normal(0.0, 1.0, 3)
        case "NST_" | "STD_":
            heart.st -= 0.065 * s * WALLS["diffuse"]
        case "STE_":
            heart.st += 0.10 * s * WALLS[("anterior", "inferior")[int(rng.random() < 0.4)]]
        case "DIG":
            heart.st -= 0.10 * s * WALLS["diffuse"]
            heart.t *= 1 - 0.4 * s
            heart.qt *= 1 - 0.10 * s
        case "LNGQT":
            heart.qt *= 1.06 + 0.16 * s
        case "EL":
            heart.qt *= 1 + 0.08 * s
            heart.t *= 1 - 0.5 * s
            heart.st -= 0.03 * s * WALLS["diffuse"]
        case "ANEUR":
            heart.st += 0.13 * s * WALLS["anteroseptal"]
            heart.t -= 0.12 * s * WALLS["anteroseptal"]
        case _:
            return False
    return True


def _scale(heart: Heart, code: str, s: float, rng: np.random.Generator) -> bool:
    """Apply a change of voltage, or hypertrophy. Return whether `code` is such a statement."""
    match code:
        case "LVH" | "VCLVH":
            heart.qrs[_R:, 2:] *= 1 + 0.50 * s
            if code == "LVH":
                heart.st -= 0.035 * s * WALLS["lateral"]
                heart.t -= 0.09 * s * WALLS["lateral"]
        case "HVOLT":
            heart.qrs[:, 2:] *= 1 + 0.6 * s
        case "LVOLT":
            heart.qrs[:, 2:] *= max(1 - 0.55 * s, 0.25)
        case "RVH":
            heart.qrs[_R, 2:] += s * np.array([-0.35, 0.15, -0.45])
            heart.add(0.035, 0.012, s * np.array([-0.40, 0.0, -0.15]))
            heart.t += s * np.array([0.0, -0.03, 0.12])
        case "SEHYP":
            heart.qrs[_Q, 2:] *= 1 + 1.8 * s
        case "LAO/LAE":
            heart.atrial[1] += np.array([0.022 * s, 0.004, 0.02 * s, 0.0, 0.085 * s])
        case "RAO/RAE":
            heart.atrial[0, 2:] += s * np.array([0.0, 0.12, -0.06])
        case _:
            return False
    return True


def _conduct(heart: Heart, code: str, s: float, rng: np.random.Generator) -> bool:
    """Apply a change of conduction or of the QRS's shape. Return whether `code` is such a statement."""
    match code:
        case "CLBBB" | "ILBBB":
            s = 0.5 + 0.5 * s if code == "CLBBB" else 0.4 * s
            heart.stretch(1 + 0.45 * s)
            heart.qrs[_Q, 2:] = (1 - s) * heart.qrs[_Q, 2:] + s * np.array([0.20, 0.10, 0.15])
            heart.add(0.042, 0.022, s * np.array([0.45, 0.10, 0.65]))
            heart.t += s * np.array([-0.36, -0.08, -0.22])
            heart.st += s * np.array([-0.08, -0.02, -0.10])
        case "CRBBB":
            s = 0.5 + 0.5 * s
            heart.qrs[_S, 2:] *= 1 - 0.6 * s
            heart.add(0.052, 0.019, s * np.array([-0.62, 0.02, -0.42]))
            heart.t += s * np.array([0.08, 0.0, 0.16])
        case "IRBBB":
            heart.add(0.040, 0.0115, s * np.array([-0.34, 0.0, -0.30]))
        case "IVCD":
            heart.stretch(1 + 0.28 * s)
            heart.add(0.030, 0.012, 0.25 * s * rng.normal(0.0, 1.0, 3))
        case "LAFB":
            heart.qrs[_Q, 3] += 0.15 * s
            heart.qrs[_R, 3] -= 0.85 * s
            heart.qrs[_S, 3] -= 0.40 * s
        case "LPFB":
            heart.qrs[_R, 2:] += s * np.array([-0.75, 0.35, 0.0])
            heart.qrs[_S, 2:] += s * np.array([-0.30, 0.10, 0.0])
        case "1AVB":
            heart.pr_s = max(heart.pr_s, 0.205 + 0.055 * s)
        case "LPR":
            heart.pr_s = max(heart.pr_s, 0.195 + 0.045 * s)
        case "2AVB" | "3AVB":
            heart.conduction = code
            if code == "3AVB":
                heart.stretch(1.3)
        case "WPW":
            heart.pr_s = min(heart.pr_s, 0.125 - 0.025 * s)
            heart.add(-0.036, 0.017, s * np.array([0.26, -0.05, -0.25]))
            heart.t -= 0.12 * s * WALLS["diffuse"]
        # QRS shape without a name
        case "ABQRS":
            walls = ("inferior", "anteroseptal", "anterolateral", "diffuse")
            heart.add(-0.013, 0.010, -0.30 * s * WALLS[walls[int(rng.integers(4))]])
            heart.add(0.018, 0.007, 0.20 * s * rng.normal(0.0, 1.0, 3))
        case "QWAVE":
            walls = ("inferior", "lateral", "anteroseptal", "inferior")
            heart.add(-0.018, 0.010, -0.35 * s * WALLS[walls[int(rng.integers(4))]])
        case _:
            return False
    return True


def _time(heart: Heart, code: str, s: float, rng: np.random.Generator) -> bool:
    """Apply a change of rate or rhythm. Return whether `code` is such a statement."""
    match code:
        case "STACH":
            heart.rate_bpm = 99 + 18 * s + rng.exponential(5)
        case "SBRAD":
            heart.rate_bpm = 60 - 8 * s - rng.exponential(2)
        case "SARRH":
            heart.respiratory += 0.06 + 0.10 * s
        case "SVARR":
            # in PTB-XL most are regular (median RR variation 2 %): a focus low in the atrium, P upside down
            heart.rhythm = code
            if rng.random() < 0.6:
                heart.atrial[:, 2:] *= np.array([0.5, -1.0, -0.5])
            else:
                heart.jitter = 0.04 + 0.10 * s
                heart.atrial_ectopics += int(rng.integers(0, 4))
        case "AFIB":
            heart.rhythm, heart.rate_bpm = code, float(np.clip(rng.normal(88, 22), 48, 160))
            heart.jitter, heart.fibrillation_mv = 0.14 + 0.09 * s, 0.02 + 0.045 * s * rng.random()
        case "AFLT":
            heart.rhythm, heart.fibrillation_mv = code, 0.05 + 0.10 * s
        case "PSVT" | "SVTAC":
            heart.rhythm, heart.jitter, heart.respiratory = code, 0.006, 0.0
            heart.rate_bpm = float(np.clip(rng.normal(165 if code == "PSVT" else 150, 18), 118, 210))
        case "PACE":
            change(heart, "CLBBB", 1.0, rng)
            heart.stretch(1.1)
            heart.rhythm, heart.jitter, heart.respiratory = code, 0.002, 0.0
            heart.rate_bpm, heart.spike_mv = float(np.clip(rng.normal(72, 7), 60, 100)), 0.4 + 1.6 * s
            if rng.random() < 0.5:
                heart.atrial[:, 2:] = 0.0
        case "BIGU" | "TRIGU":
            heart.pattern = 2 if code == "BIGU" else 3
        case "PVC":
            heart.ventricular_ectopics += 1 + int(rng.poisson(1.2))
        case "PAC":
            heart.atrial_ectopics += 1 + int(rng.poisson(0.8))
        case "PRC(S)":
            heart.atrial_ectopics, heart.ventricular_ectopics = 1, 1
        case _:
            return False
    return True


_BEAT, _VENTRICULAR, _ATRIAL = 0, 1, 2


def _schedule(heart: Heart, breath_hz: float, rng: np.random.Generator) -> tuple[Array, NDArray[np.int_], Array]:
    """Return the times of R peaks [beat] in s, the kind of each beat [beat], and the times of P peaks [p] in s."""
    mean = 60.0 / heart.rate_bpm
    num = int(DURATION_S * 1.6 / mean) + 4
    if heart.rhythm == "AFIB":
        shape = 1 / heart.jitter**2
        rr = np.maximum(mean * rng.gamma(shape, 1 / shape, num), 0.33)
    elif heart.rhythm == "AFLT":
        ratio = rng.choice([2, 3, 4], p=[0.45, 0.15, 0.40])
        ratios = np.full(num, ratio) if rng.random() < 0.6 else rng.choice([2, 3, 4], num)
        rr = ratios * 0.205 * rng.normal(1, 0.004, num)
    else:
        swing = np.sin(2 * np.pi * breath_hz * mean * np.arange(num) + rng.uniform(0, 6.28))
        rr = mean * (1 + heart.respiratory * swing + heart.jitter * rng.standard_normal(num))
    kinds = np.zeros(num, dtype=int)
    seen = max(int(DURATION_S / mean) - 1, 2)
    if heart.pattern:
        ectopic = _ATRIAL if heart.atrial_ectopics > heart.ventricular_ectopics else _VENTRICULAR
        kinds[heart.pattern - 1 :: heart.pattern] = ectopic
    else:
        kinds[rng.integers(1, seen, heart.ventricular_ectopics)] = _VENTRICULAR
        kinds[rng.integers(1, seen, heart.atrial_ectopics)] = _ATRIAL
    early = kinds != _BEAT
    pause = np.where(kinds == _VENTRICULAR, 1.38, 1.08)
    rr = rr * np.where(early, rng.uniform(0.58, 0.72, num), 1.0)
    rr[1:] *= np.where(early[:-1], pause[:-1], 1.0)
    peaks = np.cumsum(rr) - rng.uniform(0.0, 1.0) * mean - rr[0]
    atria = peaks[kinds != _VENTRICULAR] - heart.pr_s
    if heart.conduction == "2AVB":
        conducted = np.arange(num) % int(rng.integers(2, 5)) > 0
        peaks, kinds = peaks[conducted], kinds[conducted]
    elif heart.conduction == "3AVB":
        escape = 60.0 / rng.uniform(32, 46)
        peaks = rng.uniform(0, escape) + escape * np.arange(-1, int(DURATION_S / escape) + 1)
        kinds = np.zeros(len(peaks), dtype=int)
    if heart.rhythm in ("AFIB", "AFLT", "PSVT", "SVTAC"):
        atria = atria[:0]
    return peaks, kinds, atria


def _template(waves: Array) -> Array:
    """Sum waves [wave, 5] over the time of a beat; return [3, time] in mV."""
    shape = np.exp(-0.5 * ((_TEMPLATE_S - waves[:, :1]) / waves[:, 1:2]) ** 2)
    return waves[:, 2:].T @ shape


def _repolarisation(heart: Heart, rr_s: float) -> Array:
    """Return ST and an asymmetric T as waves [wave, 5]. The T peak scales with the square root of RR (Bazett 1920)."""
    peak = 0.30 * heart.qt * np.sqrt(np.clip(rr_s, 0.3, 1.4))
    rows = [(0.45 * peak, 0.17 * peak, heart.st), (0.88 * peak, 0.20 * peak, 0.5 * heart.t)]
    rows.append((1.02 * peak, 0.12 * peak, 0.7 * heart.t))
    return np.array([[delay, width, *vector] for delay, width, vector in rows])


def _place(dipole: Array, template: Array, times_s: Array, gains: Array) -> None:
    """Add the template [3, time] to the dipole [3, time] at each of these times, in place."""
    length = template.shape[1]
    for start, gain in zip(np.rint(times_s * RATE_HZ).astype(int) - _BEFORE, gains, strict=True):
        first, last = max(start, 0), min(start + length, NUM_SAMPLES)
        if first < last:
            dipole[:, first:last] += gain * template[:, first - start : last - start]


def _disturb(eight: Array, breath_hz: float, noise: Noise, rng: np.random.Generator) -> None:
    """Add baseline wander, mains hum, muscle noise and artefacts to the leads [8, time] in mV, in place."""
    level = rng.lognormal(0.0, 0.45)
    wander_hz = np.array([breath_hz, rng.uniform(0.05, 0.15), rng.uniform(0.3, 0.6)])
    basis = np.sin(2 * np.pi * wander_hz[:, None] * _TIME_S + rng.uniform(0, 6.28, (3, 1)))
    eight += rng.normal(0, [0.035, 0.04, 0.012], (8, 3)) * level @ basis
    eight += rng.exponential(0.003, (8, 1)) * np.sin(2 * np.pi * 50 * _TIME_S + rng.uniform(0, 6.28))
    muscle = 0.009 * level * rng.lognormal(0.0, 0.35, (8, 1)) * (3.0 if noise.static else 1.0)
    eight += muscle * rng.standard_normal((8, NUM_SAMPLES), dtype=np.float32)
    lead = int(rng.integers(8))
    if noise.drift:
        eight[lead] += 0.6 * np.cumsum(rng.standard_normal(NUM_SAMPLES)) / np.sqrt(NUM_SAMPLES)
    if noise.burst:
        envelope = np.exp(-0.5 * ((_TIME_S - rng.uniform(1, 9)) / rng.uniform(0.2, 0.7)) ** 2)
        eight[lead] += 0.25 * envelope * rng.standard_normal(NUM_SAMPLES)
    if rng.random() < 0.03:  # an electrode moves: a jump that the input filter lets decay
        since = _TIME_S - rng.uniform(1, 9)
        eight[lead] += np.where(since > 0, rng.normal(0, 0.6) * np.exp(-np.maximum(since, 0) / 0.5), 0.0)


def electrocardiogram(heart: Heart, noise: Noise, rng: np.random.Generator) -> Array:
    """Return 10 s of this heart at 500 Hz: leads I, II, V1..V6, [8, 5000] in mV."""
    breath_hz = rng.uniform(0.18, 0.32)
    peaks, kinds, atria = _schedule(heart, breath_hz, rng)
    rr_s = float(np.median(np.diff(peaks)))
    dipole = np.zeros((3, NUM_SAMPLES))
    gains = 1 + 0.05 * np.sin(2 * np.pi * breath_hz * peaks) + 0.02 * rng.standard_normal(len(peaks))
    recovery = _repolarisation(heart, rr_s)
    normal = _template(np.vstack([heart.waves(), recovery]))
    ventricular = kinds == _VENTRICULAR
    _place(dipole, normal, peaks[~ventricular], gains[~ventricular])
    if ventricular.any():
        # wide, tall, from anywhere, with a T that opposes it
        force = rng.normal(0, 1, 3)
        force *= rng.uniform(1.0, 1.8) / np.linalg.norm(force)
        rows = [(0.0, 0.028, force), (0.055, 0.026, 0.35 * rng.normal(0, 1, 3)), (0.30, 0.065, -0.4 * force)]
        premature = _template(np.array([[delay, width, *vector] for delay, width, vector in rows]))
        _place(dipole, premature, peaks[ventricular], gains[ventricular])
    _place(dipole, _template(heart.atrial), atria, np.ones(len(atria)))
    if heart.rhythm == "AFIB":
        drift = 0.6 * np.sin(2 * np.pi * rng.uniform(0.2, 0.6, (3, 1)) * _TIME_S + rng.uniform(0, 6.28, (3, 1)))
        waves = np.sin(2 * np.pi * rng.uniform(5.0, 8.0, (3, 1)) * _TIME_S + 2 * drift)
        dipole += heart.fibrillation_mv * np.array([[-0.3], [0.5], [-1.0]]) * waves
    elif heart.rhythm == "AFLT":
        # 293 flutter waves a minute: a slow fall and a quick rise, negative in the inferior leads
        phase = np.mod((_TIME_S - peaks[0]) / 0.205, 1.0)
        saw = np.where(phase < 0.7, 0.5 - phase / 0.7, (phase - 0.7) / 0.3 - 0.5)
        dipole += heart.fibrillation_mv * np.array([[0.1], [1.3], [-0.6]]) * saw
    if heart.spike_mv:
        spikes = np.rint((peaks[~ventricular] - 0.055) * RATE_HZ).astype(int)
        spikes = spikes[(spikes >= 0) & (spikes < NUM_SAMPLES - 1)]
        dipole[:, np.concatenate([spikes, spikes + 1])] += heart.spike_mv * np.array([[0.5], [0.7], [-0.5]])
    eight = heart.projection @ dipole
    _disturb(eight, breath_hz, noise, rng)
    return np.asarray(eight)


def synthesise(
    statements: Mapping[str, float], age: float, sex: int, noise: Noise, patient_seed: list[int], seed: list[int]
) -> tuple[Array, float]:
    """Return an ECG with these statements (code: strength): leads [8, 5000] in mV, and the QRS axis in degrees.

    Properties of the patient depend on `patient_seed` alone, so that the records of a patient share them.
    """
    heart = draw_heart(np.random.default_rng(patient_seed), age, sex)
    rng = np.random.default_rng(seed)
    heart.rate_bpm *= rng.normal(1.0, 0.05)
    for code, strength in statements.items():
        change(heart, code, strength, rng)
    return electrocardiogram(heart, noise, rng), heart.axis_deg()


def at_rate(eight: Array, rate_hz: int) -> Array:
    """Return leads [8, 5000] at 500 Hz unchanged, or low-passed and decimated to 100 Hz, [8, 1000]."""
    if rate_hz == RATE_HZ:
        return eight
    decimated: Array = scipy.signal.resample_poly(eight, 1, RATE_HZ // rate_hz, axis=1)
    return decimated


def twelve_leads(eight: Array) -> Array:
    """Return all 12 leads [12, time] from I, II, V1..V6: III by Einthoven's law, aVR, aVL, aVF by Goldberger's."""
    i, ii = eight[0], eight[1]
    return np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2, *eight[2:]])
