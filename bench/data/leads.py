"""Find the 12 leads by name: known spellings, inverted leads, and limb leads that are computed from two others."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.errors import DataError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LIMB = {
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}
"""Weights of leads I and II in each limb lead: Einthoven's law, and Goldberger's augmented leads."""
_SPELLING = re.compile(
    r"""(?:(?:mdc_ecg_lead|ecg|ekg|lead|derivation|ableitung)[ _:.]*)*
    (?P<sign>(?:(?<!\S)[-\u2212])?)[ ]*
    (?:(?:ml|d)?[ _.]?(?P<roman>i{1,3})|d[ _.]?(?P<digit>[123])
    |a[ _.]?v[ _.]?(?P<limb>[rlf])|[vc][ _.]?(?P<chest>[1-6]))""",
    re.VERBOSE | re.IGNORECASE,
)
"""Accepted: MLI (Mason and Likar's torso electrodes), DI or D1, C1 (IEC) for V1, `Lead I`, MDC_ECG_LEAD_V1 (ISO 11073).
Ambiguous names are not accepted: 1, VR (not augmented), MCL1, and ECG-I, which may be lead I inverted."""


def standard_name(name: str) -> tuple[str, int] | None:
    """Return the lead that a name denotes, and -1 if it is inverted, else 1. Return None for an unknown name."""
    match = _SPELLING.fullmatch(unicodedata.normalize("NFKC", name).strip())
    if match is None:
        return None
    sign = -1 if match["sign"] else 1
    if match["limb"]:
        return f"aV{match['limb'].upper()}", sign
    if match["chest"]:
        return f"V{match['chest']}", sign
    return "I" * int(match["digit"] or len(match["roman"])), sign


@dataclass(frozen=True)
class LeadChoice:
    """How the wanted leads are read or computed from the columns of a record."""

    wanted: tuple[str, ...]
    read: tuple[str, ...]
    """Leads that are read: wanted leads that the record has, then leads from which others are computed."""
    columns: tuple[int, ...]
    """Columns of the leads in `read`."""
    inverted: tuple[int, ...]
    """Positions in `read` of leads whose sign is changed."""
    derived: tuple[str, ...]
    """Wanted leads that are computed from `pair`."""
    pair: tuple[str, ...]
    notes: tuple[tuple[str, str], ...]
    """(kind, text), see `bench.data.waveforms.KINDS`."""

    def assemble(self, signals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the signals [wanted, time], given the signals [read, time] of the leads in `read`."""
        for row in self.inverted:
            signals[row] *= -1
        if not self.derived:
            return signals
        rows = dict(zip(self.read, signals, strict=True))
        first, second = (rows[lead] for lead in self.pair)
        basis = np.array([LIMB[lead] for lead in self.pair]).T
        for lead in self.derived:
            a, b = np.linalg.solve(basis, LIMB[lead])
            rows[lead] = a * first + b * second
        return np.stack([rows[lead] for lead in self.wanted])


@functools.lru_cache(maxsize=256)
def choose_leads(names: tuple[str, ...], wanted: tuple[str, ...]) -> LeadChoice:
    """Find the wanted leads among the names of a record's columns.

    Upper and lower case are the same. Raises DataError if a wanted lead is absent and cannot be computed, or if two
    columns hold it. The message does not name the file.
    """
    # lead -> its columns with their signs, by exact name or known spelling
    upper = {lead.upper(): lead for lead in (*wanted, *LEADS)}
    places: dict[str, list[tuple[int, int]]] = {}
    for column, name in enumerate(names):
        known = (upper[name.upper()], 1) if name.upper() in upper else standard_name(name)
        if known is not None:
            places.setdefault(known[0], []).append((column, known[1]))
    # absent limb leads are computed from the first two limb leads that the record has
    absent = [lead for lead in wanted if lead not in places]
    pair = tuple(lead for lead in LIMB if lead in places)[:2]
    if missing := [lead for lead in absent if lead not in LIMB or len(pair) < 2]:
        raise DataError(f"has no lead {', '.join(missing)}; it has {', '.join(names)}")
    read = tuple(dict.fromkeys([lead for lead in wanted if lead in places] + (list(pair) if absent else [])))
    if twice := [lead for lead in read if len(places[lead]) > 1]:
        columns = ", ".join(names[column] for column, _ in places[twice[0]])
        raise DataError(f"has lead {', '.join(twice)} more than once ({columns}); name each lead once")
    chosen = {lead: places[lead][0] for lead in read}
    inverted = [lead for lead, (_, sign) in chosen.items() if sign < 0]
    renamed = [lead for lead, (at, sign) in chosen.items() if sign > 0 and names[at].upper() != lead.upper()]
    # each deviation from the usual leads is noted
    notes = []
    if renamed:
        texts = ", ".join(f"{names[chosen[lead][0]]} as {lead}" for lead in renamed)
        notes.append(("renamed", f"leads are read under their usual names: {texts}"))
    if inverted:
        texts = ", ".join(f"{names[chosen[lead][0]]} gives {lead}" for lead in inverted)
        notes.append(("inverted", f"inverted leads are turned round: {texts}"))
    if absent:
        notes.append(("derived", f"leads {', '.join(absent)} are computed from {' and '.join(pair)}"))
    return LeadChoice(
        wanted,
        read,
        tuple(chosen[lead][0] for lead in read),
        tuple(read.index(lead) for lead in inverted),
        tuple(absent),
        pair,
        tuple(notes),
    )


def name_leads(leads: Sequence[str]) -> str:
    """Return `lead I` or `leads I, V1`, for messages."""
    return f"lead{'s' * (len(leads) > 1)} {', '.join(leads)}"
