"""Write the page of rows that were tested elsewhere: on other data sets, and on corrupted records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.boards.elsewhere import BoardElsewhere, PairElsewhere, Robustness, RowElsewhere
from bench.boards.rows import Board
from bench.data.corruptions import KINDS
from bench.evaluation.bootstrap import Interval, Summary
from bench.pages.about_data import data_lines
from bench.pages.markdown import folded, markdown_table, sentence
from bench.pages.names import short_name


def elsewhere_page(
    tested: Sequence[BoardElsewhere],
    corrupted: Sequence[Robustness],
    pictures: Mapping[BoardElsewhere | Robustness, str],
) -> str:
    """Return the Markdown page of a task's rows that were tested elsewhere.

    A section for each board and conditions, then one for each board's fold 10 after corruptions.
    """
    board = tested[0].board if tested else corrupted[0].board
    lines = [
        f"# {board.task} of {board.dataset}: tested elsewhere",
        "",
        f"[Back to the board]({board.task}.md)",
        "",
        *data_lines([board]),
        "These are the runs of the board, with the weights that they kept, on records that had no part in training or "
        "selection. Nothing was trained, selected or calibrated there. These scores are not ranked and are no results "
        "of a cell. A label that a record lacks counts as absent, so a data set that does not annotate a label in all "
        "of its records makes its AUROC wrong.",
        "",
        "Both columns are macro AUROC over the same labels: those of both data sets with at least 10 positives and 10 "
        "negatives on either side. Intervals (95 %) resample patients, of fold 10 and of the other records separately; "
        "with fewer than three runs (*) they speak of these trained models and not of the methods.",
        "",
    ]
    for each in tested:
        lines += _section(each, pictures.get(each))
    for all_strengths in corrupted:
        lines += _corrupted(all_strengths, pictures[all_strengths])
    return "\n".join(lines).rstrip() + "\n"


def _section(tested: BoardElsewhere, picture: str | None) -> list[str]:
    document = tested.first.document
    dataset, scores = document["dataset"], document["metrics"]
    lines = [
        f"## {sentence(tested.title)}, {_share(tested.board)}",
        "",
        f"{scores['num_records']:,} records of {scores['num_patients']:,} patients at {dataset['rate']} Hz "
        f"({sentence(document['scored_on'])}). Licence: {sentence(dataset['licence']) or 'not stated'}; source: "
        f"{sentence(dataset['source']) or 'not stated'}.",
        "",
    ]
    if tested.rows:
        lines += [f"Labels of the averages: {', '.join(tested.labels)}.", "", *_rows(tested), *_pairs(tested)]
        lines += _limits(tested)
    else:
        lines += [
            "No label has 10 positives and 10 negatives on both sides, so there is no average with an interval.",
            "",
        ]
    if picture:
        lines += [f"![Macro AUROC elsewhere against fold 10, each row with its intervals]({picture})", ""]
    return lines + folded("Every label of both data sets", _labels(tested))


def _share(board: Board) -> str:
    return f"manifest {board.manifest}" if board.manifest else f"fraction {board.fraction:.3g}"


def _limits(tested: BoardElsewhere) -> list[str]:
    """Return what the number of records can show, and what it cannot."""
    num, left_out = tested.first.document["metrics"]["num_records"], len(tested.num_positives) - len(tested.labels)
    words = f"What these {num:,} records can show: the widest interval of a row is {_widest(tested.rows):.2f} wide"
    if tested.pairs:
        clear = sum(pair.away.interval.low > 0 or pair.away.interval.high < 0 for pair in tested.pairs)
        words += (
            f", that of a difference of two rows {_widest(tested.pairs):.2f}. So differences below about "
            f"{_widest(tested.pairs) / 2:.2f} cannot be distinguished from 0 here. The interval excludes 0 for {clear} "
            f"of {len(tested.pairs)} differences, before any correction for their number"
        )
    words += ". What they cannot show: "
    words += f"anything on the {left_out} shared labels with fewer than 10 positives or negatives, " if left_out else ""
    words += "and whether the order of methods holds on a third data set"
    few = any(each.away.few_runs for each in tested.rows)
    return [words + (", or with other seeds: some rows have fewer than three runs." if few else "."), ""]


def _widest(compared: Sequence[RowElsewhere] | Sequence[PairElsewhere]) -> float:
    return max(scored.away.interval.high - scored.away.interval.low for scored in compared)


def _corrupted(robustness: Robustness, picture: str) -> list[str]:
    """Return the section on fold 10 after corruptions: a picture, a table of scores, and one of differences."""
    board, first = robustness.board, robustness.all[0]
    rows = {
        row.name: row for row in board.rows if any(each.row is row for tested in robustness.all for each in tested.rows)
    }
    scores = first.first.document["metrics"]
    lines = [
        f"## Fold 10 of {board.dataset}, corrupted, {_share(board)}",
        "",
        f"{scores['num_records']:,} records of {scores['num_patients']:,} patients. The same corruption was applied to "
        "the same record for every row, before preprocessing; bench/data/README.md says what each does. "
        f"Labels of the averages: {', '.join(first.labels)}.",
        "",
        f"![Macro AUROC against the strength of each corruption, one curve a row, with 95 % bands]({picture})",
        "",
    ]
    clean = {each.row.name: each.home for each in reversed([each for tested in robustness.all for each in tested.rows])}
    table = [["none", "", *(_score(clean.get(name)) for name in rows)]]
    for name, curve in robustness.curves.items():
        for strength, tested in curve:
            away = {each.row.name: each.away for each in tested.rows}
            table.append([name, f"{strength:g}", *(_score(away.get(row)) for row in rows)])
    lines += markdown_table(["corruption", "strength", *(short_name(row) for row in rows.values())], table, left=1)
    units = "; ".join(f"{name}: {KINDS[name].strength}" for name in robustness.curves)
    lines += [f"Strength: {units}.", ""]
    return lines + folded("Differences of methods, under each corruption", _differences(robustness))


def _differences(robustness: Robustness) -> list[str]:
    table = []
    for tested in robustness.all:
        names = {each.row.name: short_name(each.row) for each in tested.rows}
        for pair in tested.pairs:
            difference = f"{names[pair.first]} − {names[pair.second]}"
            home, away = (_interval(side.interval, sign="+") for side in (pair.home, pair.away))
            table.append([tested.first.conditions[1][0], difference, home, away])
    return markdown_table(["corruption", "difference of methods", "records as they are", "corrupted"], table, left=2)


def _score(summary: Summary | None) -> str:
    return "–" if summary is None else f"{_interval(summary.interval)}{_mark(summary)}"


def _rows(tested: BoardElsewhere) -> list[str]:
    table = [
        [
            short_name(each.row),
            f"{each.num_runs}{_mark(each.away)}",
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
            f"{pair.num_pairs}{_mark(pair.away)}",
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


def _mark(summary: Summary) -> str:
    return "*" if summary.few_runs else ""
