"""Read a PTB-XL folder as Records: check its two tables."""

from __future__ import annotations

import ast
import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.data.records import Records
from bench.data.tables import check_patients, read_csv, refuse_row_numbers, whole_numbers
from bench.errors import DataError
from bench.registry.registry import register_dataset

TABLE, STATEMENTS = "ptbxl_database.csv", "scp_statements.csv"
FILENAMES = {100: "filename_lr", 500: "filename_hr"}
"""Sampling rate in Hz -> column of the file names."""
OTHERS = (TABLE, STATEMENTS, "LICENSE.txt")
"""Files beside the records."""
COLUMNS = ("ecg_id", "patient_id", "strat_fold", "scp_codes", *FILENAMES.values())
HOLDS = f"a PTB-XL folder holds {TABLE}, {STATEMENTS} and records100/"
STATEMENT_COLUMNS = ("diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass")
LICENCE = "CC BY 4.0"
SOURCE = (
    "PhysioNet, https://doi.org/10.13026/kfzx-aw45; Wagner et al., PTB-XL, a large publicly available "
    "electrocardiography dataset, Scientific Data 7 (2020) 154"
)
KNOWN_CONTENTS = {
    "fde5a7e4": "1.0.3",
}
"""First 8 hex digits of `Records.content` -> published version."""


@register_dataset("ptb-xl")
def load_records(folder: Path) -> Records | None:
    """PTB-XL: ptbxl_database.csv, scp_statements.csv, records100/, records500/.

    Read and check the two tables. Reads no signals. Return None if the folder has neither.
    """
    if not (folder / TABLE).exists() and not (folder / STATEMENTS).exists():
        return None
    table = read_csv(folder / TABLE, COLUMNS, HOLDS)
    statements = read_csv(folder / STATEMENTS, STATEMENT_COLUMNS, HOLDS)
    refuse_row_numbers(statements.iloc[:, 0], folder / STATEMENTS)
    statements.index = pd.Index(statements.iloc[:, 0].astype(str), name="code")
    for column in ("ecg_id", "patient_id", "strat_fold"):
        table[column] = whole_numbers(table[column], table["ecg_id"], folder / TABLE)
    table = table.set_index("ecg_id")
    if table.index.has_duplicates:
        raise DataError(f"{folder / TABLE}: ecg_id {table.index[table.index.duplicated()][0]} occurs twice")
    if statements.index.has_duplicates:
        twice = statements.index[statements.index.duplicated()][0]
        raise DataError(f"{folder / STATEMENTS}: statement {twice} occurs twice")
    folds = set(table["strat_fold"])
    if not folds <= set(range(1, 11)):
        raise DataError(f"{folder / TABLE}: strat_fold must be 1 to 10, found {sorted(folds - set(range(1, 11)))[:3]}")
    check_patients(table, folder / TABLE)
    codes: list[Any] = [
        _parse_codes(text, ecg_id, folder) for ecg_id, text in zip(table.index, table["scp_codes"], strict=True)
    ]
    table["scp_codes"] = codes
    records = Records(folder, table.sort_index(), statements, FILENAMES, versions=KNOWN_CONTENTS, others=OTHERS)
    return records if records.synthetic else replace(records, licence=LICENCE, source=SOURCE)


_evaluate = functools.lru_cache(maxsize=1 << 14)(ast.literal_eval)
"""Cached: most records share their codes with other records."""


def _parse_codes(text: object, ecg_id: object, folder: Path) -> dict[str, float]:
    try:
        codes = _evaluate(str(text))
        parsed = {str(code): float(likelihood) for code, likelihood in codes.items()}
        if not all(0 <= likelihood <= 100 for likelihood in parsed.values()):
            raise ValueError("a likelihood is in percent")
        return parsed
    except (ValueError, SyntaxError, AttributeError, TypeError, OverflowError, MemoryError, RecursionError):
        raise DataError(
            f"{folder / TABLE}: scp_codes of ecg_id {ecg_id} is {str(text)[:60]!r}, "
            "expected a mapping such as {'NORM': 100.0, 'SR': 0.0}"
        ) from None
