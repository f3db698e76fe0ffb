"""Write LEDGER.md: each published number and claim beside the rows of this benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy  # imports its parts where they are first used

from bench.boards.comparisons import ALPHA
from bench.boards.rows import Board, Row, interval_of
from bench.data.datasets.ptbxl import KNOWN_CONTENTS
from bench.data.tasks import PUBLISHED_TASKS
from bench.pages.claims import NO_RUN, claim_lines
from bench.pages.markdown import folded, markdown_table

TOLERANCE = 0.01
ROUNDING = 5e-5
"""Half of the last printed digit."""
BACKBONES = {
    "ECGFounder": "ecgfounder",
    "Net1D": "ecgfounder",
    "Wavelet+NN": "wavelet_nn",
    "S4": "s4",
    "ECG-CPC": "ecg_cpc",
    "ECG-FM": "ecg_fm",
    "ECG-JEPA": "ecg_jepa",
    "HuBERT-ECG": "hubert_ecg_base",
    "HuBERT-ECG base": "hubert_ecg_base",
    "HuBERT-ECG small": "hubert_ecg_small",
    "MERL": "merl_resnet18",
    "ST-MEM": "st_mem",
}
"""Published name -> backbone here. Net1D from scratch is ECGFounder's architecture with random weights. ECG-JEPA is
Kim's, and HuBERT-ECG without a size is the base model, as AI4HealthUOL took these."""
SETTINGS = {
    "from scratch": ("random", ("scratch", "ft", "ft-official")),
    "fine-tuning": ("pretrained", ("ft", "ft-official", "ft-ecg-cpc")),
    "linear probing": ("pretrained", ("lp", "lp-lbfgs")),
    "frozen, attention head": ("pretrained", ("lp-attn",)),
}
"""Published setting -> init, and methods with their default arguments. The first method with a row is used."""
LSTM = "scratch(gradient_clip_norm=0.25, lr=0.001)"
PRECISIONS = ("float32", "float64", "bf16")
"""Order of preference of rows that differ only in precision."""
RECIPES = {"lstm": LSTM, "lstm_bidir": LSTM, "wavelet_nn": "scratch-wavelet"}
"""Backbone -> the recipe with which its publication trained it from scratch."""

PTB_XL = {f"ptb-xl-{version}" for version in KNOWN_CONTENTS.values()}
"""Start of the names of whole releases; the name of a part of a release has a hash."""
STATUSES = ("reproduced", "not reproduced", NO_RUN)


def ledger(
    boards: Sequence[Board], reported: Sequence[Mapping[str, str]], claims: Sequence[Mapping[str, str]] = ()
) -> str:
    """Return the Markdown page: claims, then each published macro AUROC with the value here and its status.

    `reported` and `claims` are the rows of reported.csv and claims.csv.
    """
    real = [board for board in boards if board.dataset in PTB_XL and not board.manifest]
    full = [board for board in real if board.fraction == 1]
    counted = [row for row in reported if not row.get("quoted")]
    matches = [_match(row, full) for row in counted]
    entries = [_entry(row, match) for row, match in zip(counted, matches, strict=True)]
    tally = {status: sum(status == entry[-1] for entry in entries) for status in STATUSES}
    head = ["task", "model", "setting", "source", "row here", "published", "value here", "difference"]
    head += ["tolerance", "status"]
    lines = ["# Ledger", ""]
    lines += claim_lines(real, claims) if claims else []
    lines += ["## Numbers", "", f"{len(entries)} published macro AUROCs over all labels: "]
    lines[-1] += ", ".join(f"{number} {status}" for status, number in tally.items()) + "."
    if quoted := [row for row in reported if row.get("quoted")]:
        quotations = "; ".join(
            f"{row['task']}, {row['model']} by {row['source']}, from {row['quoted']}" for row in quoted
        )
        lines[-1] += f" Not counted, as they quote another of these: {quotations}."
    lines += [
        "",
        "The rows here were trained on all training records of PTB-XL, at the methods' defaults or by the recipe that "
        "the backbone was published with. A value is the mean of a row's runs. Where several rows fit, native sampling "
        "rate comes before resampled and float32 before bf16, whatever the scores.",
        "",
        f"Reproduced: the difference is within the tolerance, which is the published bracket but at most {TOLERANCE}. "
        "The bracket is what the source prints: a standard deviation over runs, the largest one-sided deviation of the "
        f"5 and 95 % quantiles, or the larger side of an interval. Without a bracket the tolerance is {TOLERANCE}. "
        "Protocols differ in part, as listed below. A number with one run is about that trained model.",
        "",
    ]
    compared = sorted((entry for entry in entries if entry[-1] != STATUSES[2]), key=lambda entry: entry[-1])
    lines += markdown_table(head, compared, left=5) if compared else []
    lines += _together([_difference(row, match) for row, match in zip(counted, matches, strict=True) if match])
    lines += _reasons(counted, entries)
    waiting = [row for row, match in zip(counted, matches, strict=True) if match is None]
    if waiting:
        lines += folded(NO_RUN.capitalize(), _by_model(waiting))
    lines += _protocols(counted)
    return "\n".join(lines)


def _by_model(reported: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a table of published numbers with a row for each model and setting of a source, and a column a task."""
    known = {row["task"] for row in reported}
    tasks = [task for task in PUBLISHED_TASKS if task in known] + sorted(known - {*PUBLISHED_TASKS})
    numbers: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for row in reported:
        of_task = numbers.setdefault((row["model"], row["setting"], row["source"]), {})
        of_task.setdefault(row["task"], []).append(row["macro_auroc"])
    rows = [[*words, *(", ".join(values.get(task, [])) for task in tasks)] for words, values in numbers.items()]
    return markdown_table(["model", "setting", "source", *tasks], rows, left=3)


def _protocols(reported: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a list of the sources with the differences between their protocols and the protocol here."""
    words = dict.fromkeys(f"- {row['source']}: {row['protocol']}." for row in reported if row["protocol"])
    return ["Protocols of the sources, as far as they differ from PROTOCOL.md:", "", *words, ""] if words else []


def _difference(reported: Mapping[str, str], row: Row) -> float:
    """Return the row's macro AUROC over all labels minus the published value."""
    return interval_of(row.summaries["all"]["auroc"]).value - float(reported["macro_auroc"])


def _together(differences: Sequence[float]) -> list[str]:
    """Return sentences on whether the values are on average above or below the published ones, by a t test."""
    if len(differences) < 3 or len({*differences}) == 1:
        return []
    mean = float(np.mean(differences))
    test = scipy.stats.ttest_1samp(differences, 0.0)
    direction = "low" if mean < 0 else "high"
    verdict = (
        f"so the values here lie {direction} together"
        if test.pvalue <= ALPHA
        else "so the values here lie neither high nor low together"
    )
    words = (
        f"All {len(differences)} together: here minus published is {mean:+.4f} on average (t = {test.statistic:.1f}, "
        f"p = {test.pvalue:.3f}, {len(differences) - 1} degrees of freedom), {verdict}. The test takes the numbers "
        "as independent, though they share test records."
    )
    return [words.replace("-0.", "−0.").replace("= -", "= −"), ""]


def _reasons(reported: Sequence[Mapping[str, str]], entries: Sequence[Sequence[str]]) -> list[str]:
    """Return lines on why numbers are not reproduced, if the reason is known."""
    missed = [row for row, entry in zip(reported, entries, strict=True) if entry[-1] == STATUSES[1]]
    words = [
        f"- {row['task']}, {row['model']}: {row.get('reason') or 'the reason is not known yet.'}" for row in missed
    ]
    return ["Not reproduced, and why:", "", *words, ""] if words else []


def _tolerance(reported: Mapping[str, str]) -> float:
    """Return the tolerance of a difference: the bracket or the larger side of the interval, at most TOLERANCE."""
    sides = [float(reported["bracket"])] if reported["bracket"] else []
    if reported["low"] and reported["high"]:
        value = float(reported["macro_auroc"])
        sides.append(max(value - float(reported["low"]), float(reported["high"]) - value))
    return min([*sides, TOLERANCE])


def _entry(reported: Mapping[str, str], row: Row | None) -> list[str]:
    tolerance = _tolerance(reported)
    words = [reported[key] for key in ("task", "model", "setting", "source")]
    if row is None:
        return [*words, "–", reported["macro_auroc"], "–", "–", f"{tolerance:.3f}", NO_RUN]
    value = interval_of(row.summaries["all"]["auroc"]).value
    difference = _difference(reported, row)
    status = STATUSES[0] if abs(difference) <= tolerance + ROUNDING else STATUSES[1]
    numbers = [f"{value:.4f}", f"{difference:+.4f}".replace("-", "−"), f"{tolerance:.3f}"]
    runs = f"{len(row.runs)} run" + "s" * (len(row.runs) != 1)
    return [*words, f"{row.name}, {runs}", reported["macro_auroc"], *numbers, status]


def _match(reported: Mapping[str, str], boards: Sequence[Board]) -> Row | None:
    """Return the row that a published number is compared with; None if there is none."""
    if reported["setting"] not in SETTINGS:
        return None
    init, methods = SETTINGS[reported["setting"]]
    backbone = BACKBONES.get(reported["model"], reported["model"])
    if init == "random" and backbone in RECIPES:
        methods = (RECIPES[backbone],)
    rows = [row for board in boards if board.task == reported["task"] for row in board.rows]
    same = [row for row in rows if row.init == init and row.runs[0].cell["arch"] == backbone and row.method in methods]
    return min(same, key=lambda row: (methods.index(row.method), *_preference(row)), default=None)


def _preference(row: Row) -> tuple[bool, int, str]:
    """Return a sort key: native rate before resampled, float32 before bf16, then the name."""
    rate, precision = row.runs[0].cell["source_rate"], row.runs[0].cell["precision"]
    return bool(rate), PRECISIONS.index(precision or PRECISIONS[0]), row.backbone
