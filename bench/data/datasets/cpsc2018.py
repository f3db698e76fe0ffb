"""Read CPSC2018 (ICBEB 2018) as Records, in the form `cpsc_2018` of the PhysioNet/CinC Challenge 2020.

6,877 records of 6 to 60 s at 500 Hz, in g1/ to g7/ or in one folder: A0001.hea with `Dx`, `Age` and `Sex` in its
comments and A0001.mat. Liu et al., J. Med. Imaging Health Inform. 2018; Perez Alday et al., Physiol. Meas. 2020.

The data set has no patient ids, so each record counts as a patient. It has no folds either. The folds of Strodthoff et
al. 2020 depend on the order in which a file system listed the records, so they cannot be computed again. If the file
that their code wrote, icbeb_database.csv, is in the folder, its folds are used (`icbeb-folds` in the data set's name);
else folds are assigned here (`own-folds`). Each record is cut to its middle 10 s; a shorter one is padded with zeros on
both sides after preprocessing. Strodthoff et al. use the whole record.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.data.formats import WFDB
from bench.data.records import SECONDS, Records
from bench.data.splits import deal_folds
from bench.data.tables import read_csv, whole_numbers
from bench.data.text import read_text
from bench.data.waveforms import PHYSIONET_CPSC
from bench.errors import DataError
from bench.registry.registry import register_dataset

NUM_RECORDS = 6_877
NAME = "cpsc2018"
LICENCE, SOURCE = "CC BY 4.0", "Liu et al. 2018, in the form of the PhysioNet/CinC Challenge 2020"
FOLDS = "icbeb_database.csv"
LABELS = {
    "164889003": ("AF", "atrial fibrillation"),
    "270492004": ("I-AVB", "first-degree atrioventricular block"),
    "164909002": ("LBBB", "left bundle branch block"),
    "426783006": ("Normal", "sinus rhythm"),
    "284470004": ("PAC", "premature atrial contraction"),
    "164884008": ("PVC", "ventricular ectopics"),
    "59118001": ("RBBB", "right bundle branch block"),
    "429622005": ("STD", "ST depression"),
    "164931005": ("STE", "ST elevation"),
}
"""SNOMED CT code -> label of the 2018 challenge and the code's description."""
CODES = {label.lower(): code for code, (label, _) in LABELS.items()}
"""Name of each of the nine labels, which early copies of the challenge have in `Dx` -> SNOMED CT code."""
SEXES = {"male": 0, "m": 0, "female": 1, "f": 1}
"""Sex in a header -> PTB-XL's code."""
COMMENT = re.compile(r"#\s*(\w+)\s*:\s*(.*?)\s*")
OTHERS = (FOLDS, "RECORDS", "REFERENCE.csv", "LICENSE.txt", "index.html", "README.md")
"""Files beside the records: from the challenge, from Strodthoff's code, and from a recursive download."""
SEED = 0


def headers_in(folder: Path) -> list[Path]:
    """Return the header files of all records, sorted by name."""
    return sorted([*folder.glob("A*.hea"), *folder.glob("g*/A*.hea")], key=lambda path: path.name)


def refuse_original(folder: Path) -> None:
    """Raise DataError if a folder holds CPSC2018 as it was first released: MATLAB structs without headers."""
    for path in sorted([*folder.glob("A*.mat"), *folder.glob("TrainingSet*/A*.mat")])[:1]:
        raise DataError(
            f"{folder} holds {path.name} without {path.stem}.hea: CPSC2018 as first released (MATLAB structs and "
            f"REFERENCE.csv), which is not read; {PHYSIONET_CPSC} has the same records with headers"
        )


@register_dataset("cpsc2018")
def load_records(folder: Path) -> Records | None:
    """CPSC2018 in its PhysioNet form: A0001.hea, A0001.mat, ...

    Read the comments of all headers. Reads no signals. Return None if the folder has no such headers.
    """
    if not headers_in(folder):
        refuse_original(folder)
        return None
    rows = [_row(path, folder) for path in headers_in(folder)]
    table = pd.DataFrame(rows).set_index("ecg_id").sort_index()
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise DataError(f"{folder} has record A{twice:04d} twice: {', '.join(table.loc[twice, 'filename_hr'])}")
    published = (folder / FOLDS).exists()
    table["strat_fold"] = (
        _published_folds(table, folder / FOLDS)
        if published
        else deal_folds(list(table.index), list(table["scp_codes"]), SEED) + 1
    )
    table["patient_id"] = table.index
    statements = pd.DataFrame(
        [(label, name, code) for code, (label, name) in LABELS.items()], columns=["code", "description", "snomed"]
    ).set_index("code")
    return Records(
        folder,
        table,
        statements,
        filenames={500: "filename_hr"},
        dataset=NAME,
        folds="icbeb-folds" if published else "own-folds",
        format=replace(WFDB, endings=(".hea", ".mat")),
        seconds=SECONDS,
        others=OTHERS,
        licence=LICENCE,
        source=SOURCE,
    )


def _row(path: Path, folder: Path) -> dict[str, Any]:
    """Return the table row of a record, from the comments of its header."""
    if not re.fullmatch(r"A\d{4,9}", path.stem):
        raise DataError(f"{path} is not named as a record of CPSC2018: expected A0001.hea to A{NUM_RECORDS}.hea")
    lines = read_text(path).splitlines()
    facts = {match[1].lower(): match[2] for line in lines if (match := COMMENT.fullmatch(line))}
    if "dx" not in facts:
        raise DataError(f"{path} has no comment `#Dx: ` with the record's SNOMED codes")
    codes = [CODES.get(code.strip().lower(), code.strip()) for code in facts["dx"].split(",")]
    if unknown := [code for code in codes if code not in LABELS]:
        raise DataError(
            f"{path}: Dx {unknown[0][:40]!r} is none of the nine of CPSC2018 ({', '.join(LABELS)}); "
            "of the challenge's folders cpsc_2018 alone is read"
        )
    return {
        "ecg_id": int(path.stem[1:]),
        "filename_hr": path.relative_to(folder).with_suffix("").as_posix(),
        "scp_codes": {LABELS[code][0]: 100.0 for code in codes},
        "age": pd.to_numeric(facts.get("age", ""), errors="coerce"),
        "sex": SEXES.get(facts.get("sex", "").lower(), np.nan),
    }


def _published_folds(table: pd.DataFrame, path: Path) -> Any:
    """Return the folds [record] from icbeb_database.csv."""
    given = read_csv(path, ("filename", "strat_fold"))
    folds = whole_numbers(given["strat_fold"], given["filename"], path).set_axis(given["filename"].astype(str))
    wanted = [f"A{ecg_id:04d}" for ecg_id in table.index]
    if folds.index.has_duplicates or not folds.between(1, 10).all():
        raise DataError(f"{path} must name each record once, with a strat_fold of 1 to 10")
    if missing := [name for name in wanted if name not in folds.index]:
        raise DataError(f"{path} has no fold for {len(missing):,} of the records, the first {missing[0]}")
    return folds.loc[wanted].to_numpy(np.int64)
