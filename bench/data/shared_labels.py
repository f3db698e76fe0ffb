"""Match the labels of a trained model with the codes of another data set: equal in PTB-XL's vocabulary, or as texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.data.label_codes import label_codes, ptbxl_code
from bench.data.records import Records

PTBXL, SYNTHETIC, CPSC2018 = "ptb-xl", "synthetic", "cpsc2018"
BY_FOLDER, BY_TABLE, BY_TEXT = "labels.csv", "label_codes.csv", "equal codes"
"""What says that a label and a code mean the same."""


@dataclass(frozen=True)
class SharedLabel:
    """A label of the model that another data set has too."""

    label: str
    codes: tuple[str, ...]
    """Codes of the other data set; a record with any of them is positive."""
    by: str
    """BY_FOLDER, BY_TABLE or BY_TEXT; several are joined by a comma."""


def shared_labels(labels: Sequence[str], trained_on: str, records: Records) -> tuple[SharedLabel, ...]:
    """Return those of a model's labels that `records` have too, in the model's order.

    `trained_on` is the name of the data set of the model's training. A label and a code are the same if their PTB-XL
    codes are, or if both are the same text and at most one of the two has a PTB-XL code. A folder's own column `ptbxl`
    says the PTB-XL codes of its labels, if it has any entry, in place of label_codes.csv.
    """
    codes, shared = _meanings(records), []
    for label in labels:
        meaning = as_ptbxl(label, trained_on)
        matches: dict[str, list[str]] = defaultdict(list)
        for code, (other, by) in codes.items():
            if meaning and meaning == other:
                matches[BY_TEXT if code == label and by == BY_TABLE else by].append(code)
            elif code == label and not (meaning and other):
                matches[BY_TEXT].append(code)
        if matches:
            together = tuple(sorted(code for group in matches.values() for code in group))
            shared.append(SharedLabel(label, together, ", ".join(sorted(matches))))
    return tuple(shared)


def _meanings(records: Records) -> dict[str, tuple[str, str]]:
    """Return code -> the PTB-XL code that it equals, or an empty text, and what says so."""
    stated = records.statements["ptbxl"].to_dict() if "ptbxl" in records.statements else {}
    if any(stated.values()):
        return {str(code): (str(other), BY_FOLDER) for code, other in stated.items()}
    return {code: (as_ptbxl(code, records.dataset), BY_TABLE) for code in map(str, records.statements.index)}


def as_ptbxl(label: str, dataset: str) -> str:
    """Return the PTB-XL code that a label of a data set equals exactly, by label_codes.csv; empty if there is none."""
    if _is_of(dataset, PTBXL) or _is_of(dataset, SYNTHETIC):
        return label
    if _is_of(dataset, CPSC2018):
        rows = [row for row in label_codes() if row.cpsc2018 == label]
        return next((row.ptbxl for row in rows if row.match == "exact"), "")
    row = ptbxl_code(label)
    return row.ptbxl if row and row.match == "exact" else ""


def truth_of_shared(shared: Sequence[SharedLabel], records: Records) -> npt.NDArray[np.bool_]:
    """Return the true labels [record, label]: whether a record has any of a shared label's codes."""
    return np.array(
        [[any(code in codes for code in label.codes) for label in shared] for codes in records.scp_codes], dtype=bool
    ).reshape(len(records), len(shared))


def _is_of(name: str, dataset: str) -> bool:
    return name == dataset or name.startswith(f"{dataset}-")
