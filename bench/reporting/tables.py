"""What the command line shows of plugins, results and boards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from bench.data.ptbxl import load_records
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tasks import label_table
from bench.registry import Kind, registry
from bench.reporting.boards import Board, interval_of
from bench.reporting.results import Result

PLUGIN_KINDS: Mapping[str, Kind] = {"tasks": "task", "methods": "method", "archs": "backbone"}


def listing(what: str, data: Path | None) -> list[dict[str, Any]]:
    """One entry a plugin of this kind; tasks with their counts in the dataset at `data`."""
    plugins = registry().of_kind(PLUGIN_KINDS[what])
    if what == "archs":
        return [_backbone_facts(p.name, p.make, p.summary, p.distribution) for p in plugins]
    if what == "methods" or data is None:
        return [{"name": p.name, "what": p.summary, "from": p.distribution} for p in plugins]
    records = load_records(data)
    rows = []
    for plugin in plugins:
        table = label_table(records, plugin.make())
        test = table.strat_fold == TEST_FOLD
        rows.append(
            {
                "name": plugin.name,
                "labels": len(table.labels),
                "records": len(table),
                "train": int((table.strat_fold < VAL_FOLD).sum()),
                "val": int((table.strat_fold == VAL_FOLD).sum()),
                "test": int(test.sum()),
                "test patients": len(np.unique(table.patient_id[test])),
                "what": plugin.summary,
            }
        )
    return rows


def _backbone_facts(name: str, make: Any, summary: str, distribution: str) -> dict[str, Any]:
    import torch

    from bench.training.model import DropPath, count_parameters

    with torch.device("meta"):
        backbone = make()
    spec = backbone.signals
    return {
        "name": name,
        "parameters": count_parameters(backbone),
        "Hz": spec.rate,
        "window": "whole record" if spec.window_s is None else f"{spec.window_s:g} s",
        "residual": any(isinstance(module, DropPath) for module in backbone.modules()),
        "init": "pretrained, random" if backbone.checkpoint else "random",
        "what": summary,
        "from": distribution,
    }


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of entries that share their keys."""
    shown = Table(title=title, title_justify="left")
    for key in rows[0] if rows else ():
        shown.add_column(key, justify="right" if isinstance(rows[0][key], int) else "left")
    for row in rows:
        shown.add_row(*(f"{v:,}" if isinstance(v, int) and not isinstance(v, bool) else str(v) for v in row.values()))
    return shown


def result_table(result: Result) -> Table:
    """What a finished run scored."""
    shown = Table(
        title=f"{result.cell['method']} on {result.cell['arch']}, {result.cell['task']}", title_justify="left"
    )
    if result.incompatible:
        shown.add_column("declined")
        shown.add_row(result.incompatible)
        return shown
    for head in ("fold", "labels", "macro AUROC", "macro AP"):
        shown.add_column(head)
    for fold, found in result.document["metrics"].items():
        for chosen, words in (("frequent", "with ≥ 10 positives"), ("all", "all")):
            macro = found["macro"][chosen]
            shown.add_row(
                fold.removeprefix("fold_"),
                f"{macro['num_labels']}, {words}",
                *(_spell(macro[metric]) for metric in ("auroc", "average_precision")),
            )
    shown.caption = str(result.folder)
    return shown


def _spell(one: Mapping[str, float | None]) -> str:
    bounds = "" if one.get("low") is None else f" ({one['low']:.3f}–{one['high']:.3f})"
    return "-" if one["value"] is None else f"{one['value']:.4f}{bounds}"


def board_table(board: Board) -> Table:
    """A board on the console."""
    share = "all training records" if board.fraction == 1 else f"{board.fraction:g} of the training records"
    kind = " (synthetic)" if board.synthetic else ""
    shown = Table(title=f"{board.task} on {board.dataset}{kind}, {share}", title_justify="left")
    for head in ("backbone", "init", "method", "macro AUROC", "macro AP", "runs"):
        shown.add_column(head)
    for row in board.rows:
        scores = [interval_of(row.summaries["frequent"][m]) for m in ("auroc", "average_precision")]
        spelled = [_spell({"value": s.value, "low": None if s.low != s.low else s.low, "high": s.high}) for s in scores]
        shown.add_row(row.backbone, row.init, row.method, *spelled, str(len(row.runs)))
    return shown
