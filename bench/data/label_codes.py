"""Which codes of different data sets mean the same: PTB-XL's SCP codes, SNOMED CT, the nine labels of CPSC2018, names.

label_codes.csv holds a row for each equality. `match` is `exact`, or `near` where one side is wider or is defined in
another way. Sources, by the column `source`:

- dx_mapping_scored, dx_mapping_unscored: tables of the PhysioNet/CinC Challenge 2021
  (https://github.com/physionetchallenges/evaluation-2021), whose column PTB_XL counts the records that the organisers
  gave a SNOMED CT code in place of an SCP code; Reyna et al., Computing in Cardiology 2021.
- scp_statements: descriptions in PTB-XL's scp_statements.csv; Wagner et al., Scientific Data 2020.
- cpsc2018: labels of the China Physiological Signal Challenge 2018; Liu et al., J. Med. Imaging Health Inform. 2018.
"""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("label_codes.csv")


class LabelCode(NamedTuple):
    """One meaning in several vocabularies. An empty text means that a vocabulary has no code for it."""

    ptbxl: str
    snomed: str
    cpsc2018: str
    names: tuple[str, ...]
    """Names in lower case; ('',) if there is none."""
    match: str
    """`exact` or `near`."""
    source: str


@functools.cache
def label_codes() -> tuple[LabelCode, ...]:
    """Return all rows of label_codes.csv."""
    with FILE.open(encoding="utf-8", newline="") as stream:
        return tuple(
            LabelCode(**{**row, "names": tuple(row["names"].split("|"))})  # type: ignore[arg-type]
            for row in csv.DictReader(stream)
        )


def ptbxl_code(label: str) -> LabelCode | None:
    """Return the row of a label that is an SCP code, a SNOMED CT code or a name; an exact one if there are several.

    Names are compared by their letters and digits. Return None for an unknown label.
    """
    words = _words(label)
    if not words:
        return None
    rows = [row for row in label_codes() if label in (row.ptbxl, row.snomed) or words in map(_words, row.names)]
    return next((row for row in rows if row.match == "exact"), rows[0] if rows else None)


@functools.cache
def _words(name: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", name.lower()))
