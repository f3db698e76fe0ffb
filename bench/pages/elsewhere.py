"""Write the page of rows that were tested elsewhere: on other data sets, and on corrupted records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.boards.elsewhere import BoardElsewhere
from bench.evaluation.bootstrap import Interval, Summary
from bench.pages.markdown import folded, markdown_table, sentence
from bench.pages.names import short_name


def elsewhere_page(tested: Sequence[BoardElsewhere], pictures: Mapping[BoardElsewhere, str]) -> str:
    """Return the Markdown page of a task's rows that were tested elsewhere, a section for each board and conditions."""
    board = tested[0].board
    lines = [
        f"# {board.task} of {board.dataset}: tested elsewhere",
        "",
        "These are the runs of the board, with the weights that they kept, on records that had no part in training or "
        "selection. Nothing was trained, selected or calibrated there. These scores are not ranked and are no results "
        "of a cell. A label that a record lacks counts as absent, so a data set that does not annotate a label in all "
        "of its records makes its AUROC wrong.",
        "",
        "Both columns are macro AUROC over the same labels: those of both data sets with at least 10 positives and 10 "
        "negatives on either side. Intervals (95 %) resample patients, of fold 10 and of the other records separately; "
        "with fewer than three runs (†) they speak of these trained models and not of the methods.",
        "",
    ]
    for each in tested:
        lines += _section(each, pictures.get(each))
    return "\n".join(lines).rstrip() + "\n"


def _section(tested: BoardElsewhere, picture: str | None) -> list[str]:
    document = tested.first.document
    dataset, scores = document["dataset"], document["metrics"]
    share = f"{tested.board.fraction:.3g}" if not tested.board.manifest else f"manifest {tested.board.manifest}"
    lines = [
        f"## {sentence(tested.title)}, fraction {share}",
        "",
        f"{scores['num_records']:,} records of {scores['num_patients']:,} patients at {dataset['rate']} Hz "
        f"({sentence(document['scored_on'])}). Licence: {sentence(dataset['licence']) or 'not stated'}; source: "
        f"{sentence(dataset['source']) or 'not stated'}.",
        "",
    ]
    if tested.rows:
        lines += [f"Labels of the averages: {', '.join(tested.labels)}.", "", *_rows(tested), *_pairs(tested)]
    else:
        lines += [
            "No label has 10 positives and 10 negatives on both sides, so there is no average with an interval.",
            "",
        ]
    if picture:
        lines += [f"![Macro AUROC elsewhere against fold 10, each row with its intervals]({picture})", ""]
    return lines + folded("Every label of both data sets", _labels(tested))


def _rows(tested: BoardElsewhere) -> list[str]:
    table = [
        [
            short_name(each.row),
            f"{each.num_runs}{_dagger(each.away)}",
            _interval(each.home.interval),
            _interval(each.away.interval),
            f"{each.away.interval.value - each.home.interval.value:+.3f}",
        ]
        for each in sorted(tested.rows, key=lambda each: -each.away.interval.value)
    ]
    return markdown_table(["row", "runs", "in distribution", "elsewhere", "change"], table)


def _pairs(tested: BoardElsewhere) -> list[str]:
    if not tested.pairs:
        return []
    names = {each.row.name: short_name(each.row) for each in tested.rows}
    table = [
        [
            f"{names[pair.first]} − {names[pair.second]}",
            f"{pair.num_pairs}{_dagger(pair.away)}",
            _interval(pair.home.interval, sign="+"),
            _interval(pair.away.interval, sign="+"),
        ]
        for pair in tested.pairs
    ]
    return markdown_table(["difference of methods", "pairs", "in distribution", "elsewhere"], table)


def _labels(tested: BoardElsewhere) -> list[str]:
    document = tested.first.document
    names = [each.row.name for each in tested.rows] or list(next(iter(tested.aurocs.values()), {}))
    shorts = {each.row.name: short_name(each.row) for each in tested.rows}
    table = []
    for label, facts in document["labels"].items():
        codes = f"{', '.join(map(sentence, facts['codes']))} ({sentence(facts['by'])})"
        aurocs = [_number(tested.aurocs[label][name]) for name in names]
        table.append([label, codes, f"{tested.num_positives[label]:,}", *aurocs])
    head = ["label", "codes there (what says that they are equal)", "positives", *(shorts.get(n, n) for n in names)]
    absent = ", ".join(map(sentence, document.get("not_shared", [])))
    return [*markdown_table(head, table, left=2), *([f"Only the run knows: {absent}.", ""] if absent else [])]


def _interval(interval: Interval, sign: str = "") -> str:
    return f"{interval.value:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _dagger(summary: Summary) -> str:
    return "†" if summary.few_runs else ""
