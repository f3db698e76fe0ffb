"""What the command line shows of plugins, results and boards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from bench.data.ptbxl import load_records
from bench.data.splits import TEST_FOLD, VAL_FOLD
from bench.data.tasks import label_table
from bench.registry import Kind, Plugin, registry, why_it_fails
from bench.reporting.boards import Board, interval_of
from bench.reporting.comparisons import Compared
from bench.reporting.pages import spell_difference, spell_p
from bench.reporting.results import Result

PLUGIN_KINDS: Mapping[str, Kind] = {"tasks": "task", "methods": "method", "archs": "backbone"}


def listing(what: str, data: Path | None) -> list[dict[str, Any]]:
    """One entry a plugin of this kind; tasks with their counts in the dataset at `data`."""
    plugins = registry().of_kind(PLUGIN_KINDS[what])
    if what == "archs":
        return [_backbone_facts(plugin) for plugin in plugins]
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


def _backbone_facts(plugin: Plugin) -> dict[str, Any]:
    """What a backbone is at its defaults; a broken one, or one without defaults, says so and stops no other."""
    import torch

    from bench.training.model import Backbone, DropPath, count_parameters

    made: list[Backbone] = []

    def make() -> None:
        backbone = plugin.make()
        if not isinstance(backbone, Backbone):
            raise TypeError(f"makes a {type(backbone).__name__}, expected a bench.plugin.Backbone")
        made.append(backbone)

    def make_without_memory() -> None:
        with torch.device("meta"):
            make()

    missing = [name for name, p in plugin.parameters.items() if p.default is p.empty]
    reason = f"needs {', '.join(missing)}" if missing else why_it_fails(make_without_memory) and why_it_fails(make)
    if reason:
        facts: dict[str, Any] = dict.fromkeys(("parameters", "Hz", "window", "residual", "init"), "-")
        return {"name": plugin.name, **facts, "what": f"({reason}) {plugin.summary}", "from": plugin.distribution}
    backbone = made[-1]
    spec = backbone.signals
    return {
        "name": plugin.name,
        "parameters": count_parameters(backbone),
        "Hz": spec.rate,
        "window": "whole record" if spec.window_s is None else f"{spec.window_s:g} s",
        "residual": any(isinstance(module, DropPath) for module in backbone.modules()),
        "init": "pretrained, random" if backbone.checkpoint else "random",
        "what": plugin.summary,
        "from": plugin.distribution,
    }


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of entries that share their keys."""
    shown = Table(title=Text(title), title_justify="left")
    for key in rows[0] if rows else ():
        is_number = isinstance(rows[0][key], int) and not isinstance(rows[0][key], bool)
        shown.add_column(key, justify="right" if is_number else "left", overflow="fold", no_wrap=key == "name")
    for row in rows:
        _add_row(shown, (f"{v:,}" if isinstance(v, int) and not isinstance(v, bool) else str(v) for v in row.values()))
    return shown


def _add_row(shown: Table, cells: Iterable[str]) -> None:
    """A row of plain text: `[record, lead]` of a docstring is no markup of rich's."""
    shown.add_row(*map(Text, cells))


def result_table(result: Result) -> Table:
    """What a finished run scored."""
    shown = Table(title=Text(f"{result.row[2]} on {result.row[0]}, {result.cell['task']}"), title_justify="left")
    if result.incompatible:
        shown.add_column("declined")
        _add_row(shown, [result.incompatible])
        return shown
    for head in ("fold", "labels", "macro AUROC", "macro AP"):
        shown.add_column(head, overflow="fold")
    for fold, found in result.document["metrics"].items():
        for chosen, words in (("frequent", "with ≥ 10 positives"), ("all", "all")):
            macro = found["macro"][chosen]
            scores = [_spell(macro[metric]) for metric in ("auroc", "average_precision")]
            _add_row(shown, [fold.removeprefix("fold_"), f"{macro['num_labels']}, {words}", *scores])
    shown.caption = Text(str(result.folder))
    return shown


def _spell(one: Mapping[str, float | None]) -> str:
    bounds = "" if one.get("low") is None else f" ({one['low']:.3f}–{one['high']:.3f})"
    return "-" if one["value"] is None else f"{one['value']:.4f}{bounds}"


def board_table(board: Board) -> Table:
    """A board on the console."""
    kind = " (synthetic)" if board.synthetic else ""
    share = board.title[0].lower() + board.title[1:]
    shown = Table(title=Text(f"{board.task} on {board.dataset}{kind}: {share}"), title_justify="left")
    for head in ("backbone", "init", "method", "macro AUROC", "macro AP", "runs"):
        shown.add_column(head, overflow="fold")
    for row in board.rows:
        scores = [interval_of(row.summaries["frequent"][m]) for m in ("auroc", "average_precision")]
        known = [{k: None if math.isnan(v) else v for k, v in asdict(score).items()} for score in scores]
        _add_row(shown, [row.backbone, row.init, row.method, *map(_spell, known), str(len(row.runs))])
    if board.declined:
        shown.caption = Text("declined: " + "; ".join(f"{r.row[2]} on {r.row[0]}" for r in board.declined))
    return shown


def comparison_tables(found: Compared) -> list[Table]:
    """Differences of every pair, and of two rows also label by label."""
    shown = Table(title=Text("first minus second, labels with ≥ 10 positives"), title_justify="left")
    for head in ("first", "second", "macro AUROC", "macro AP", "p swap", "p interval", "p Holm", "resolvable", "pairs"):
        shown.add_column(head, overflow="fold")
    for one in found.pairs:
        differences = [spell_difference(one.differences[metric]) for metric in ("auroc", "average_precision")]
        numbers = [*map(spell_p, (one.permutation_p, one.interval_p, one.p_adjusted)), f"{one.resolvable:.4f}"]
        few = "*" if one.differences["auroc"].few_runs else ""
        _add_row(shown, [one.first, one.second, *differences, *numbers, f"{one.num_pairs}{few}"])
    words = [f"Holm over {len(found.pairs)} pairs of the larger p; groups: "]
    words[0] += ", ".join(f"{name} {letters}" for name, letters in found.letters.items())
    for name, one in found.baseline.items():
        words.append(f"against the declared baseline {one.second}, Holm over {one.family_size}: {name} ")
        words[-1] += f"{spell_difference(one.differences['auroc'])}, p {spell_p(one.p_adjusted)}"
    equal = [f"{one.first} = {one.second}" for one in found.pairs if one.practically_equal]
    words.append(f"practically equal (interval within ±{found.margin:g}): {'; '.join(equal) or 'no pair'}")
    words += ["* fewer than three paired runs: how much training varies is not known"] * any(
        one.differences["auroc"].few_runs for one in found.pairs
    )
    shown.caption, shown.caption_justify = Text("\n".join(words)), "left"
    return [shown, _label_table(found)] if len(found.pairs) == 1 else [shown]


def _label_table(found: Compared) -> Table:
    (pair,) = found.pairs
    shown = Table(title=Text("AUROC by label, largest difference first; not corrected"), title_justify="left")
    for head in ("label", "difference"):
        shown.add_column(head)
    for label, one in sorted(pair.labels.items(), key=lambda item: -abs(item[1].interval.value)):
        _add_row(shown, [label, spell_difference(one)])
    return shown


def compat_line(result: Result) -> str:
    """Macro AUROC as Strodthoff et al. (2020) printed it."""
    found = result.document["compat"]["strodthoff2020"]["macro_auroc"]
    return (
        f"as Strodthoff et al. 2020 (100 draws of records, 5 and 95 % quantiles): "
        f"{found['value']:.3f}({round(1000 * found['bracket']):02d}), {found['low']:.3f} to {found['high']:.3f}"
    )
