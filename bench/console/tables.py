"""Tables of results, boards and comparisons for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from bench.boards.comparisons import Compared
from bench.boards.declared import EXPLORATORY
from bench.boards.rows import Board, recorded_interval
from bench.boards.subgroups import ComparedWithin
from bench.console.listing import Fitted, add_row, add_stacked_row, new_table, plain_table, table
from bench.data.show import person
from bench.evaluation.metrics import MIN_POSITIVES, RANKING
from bench.pages.names import not_installed
from bench.pages.spelling import over_all_records, spell, spell_difference, spell_p, spell_role
from bench.results.elsewhere import Evaluation
from bench.results.external import ALL_RECORDS, STRODTHOFF2020
from bench.results.result import Result


def result_cells(result: Result) -> dict[str, Any]:
    """Return a run's scores as plain data: title, head, rows and caption of a table."""
    shown: dict[str, Any] = {"title": f"{result.row[2]} on {result.row[0]}, {result.cell['task']}", "rows": []}
    if result.incompatible:
        return {**shown, "head": ["declined"], "rows": [[result.incompatible]], "caption": ""}
    for fold, scored in result.document["metrics"].items():
        frequent, every = (scored["macro"][chosen]["num_labels"] for chosen in ("frequent", "all"))
        sets = {"frequent": "with ≥ 10 positives", "all": "all"}
        if frequent in (0, every):  # the same numbers, or none
            sets = {"all": "all with ≥ 10 positives" if frequent else "fewer than 10 positives each"}
        for chosen, words in sets.items():
            macro = scored["macro"][chosen]
            scores = [spell(recorded_interval(macro[metric])) for metric in RANKING]
            shown["rows"].append([fold.removeprefix("fold_"), f"{macro['num_labels']}, {words}", *scores])
    return {**shown, "head": ["fold", "labels", "macro AUROC", "macro AP"], "caption": str(result.folder)}


def result_table(result: Result) -> Table:
    """Return a table of a run's scores."""
    return plain_table(result_cells(result))


def evaluations_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return a table of runs tested elsewhere, on the labels of both data sets with 10 positives there."""
    document = evaluations[0].document
    name = ", ".join([document["dataset"]["name"], *document["corruptions"]])
    shown = new_table(f"tested on {name}: {document['metrics']['num_records']:,} records")
    for head in ("run", "labels", "macro AUROC on fold 10", "macro AUROC there"):
        shown.add_column(head, overflow="fold")
    for each in evaluations:
        home = "–" if math.isnan(each.home_auroc) else f"{each.home_auroc:.4f}"
        away = spell(recorded_interval(each.document["metrics"]["macro"]["frequent"]["auroc"]))
        where = f"{each.document['run']['row']}, draw {each.run.place[0]}, seed {each.run.place[1]}"
        add_row(shown, [where, ", ".join(each.frequent) or "none has 10 positives", home, away])
    shown.caption = Text(f"{document['scored_on']}; not ranked; `bench leaderboard` writes the page")
    return shown


def misses_table(frame: pd.DataFrame) -> Table | Fitted:
    """Return a table of the records that a run gets most wrong, from a frame of bench.boards.misses."""
    of_label = not frame["score"].isna().all()
    rows = []
    for row in frame.to_dict("records"):
        facts = {"why": row["why"], "score": f"{row['score']:.3g}"} if of_label else {"loss": f"{row['loss']:.2f}"}
        who = f"{row['ecg_id']}" + (f" ({row['record']})" if row["record"] != str(row["ecg_id"]) else "")
        facts |= {"patient": person(row), "true": row["true"] or "–", "predicted": row["predicted"] or "–"}
        rows.append({"ecg_id": who, **facts, "statements": row["statements"]})
    return table(frame.attrs["title"], rows)


MINE = "→"
"""Mark of the user's own rows on a board with published ones."""


def board_table(board: Board) -> Fitted:
    """Return a board as a table: a line for each row, or two where the terminal is narrow."""
    kind = " (synthetic)" if board.synthetic else ""
    share = board.title[0].lower() + board.title[1:]
    title = f"{board.task} on {board.dataset}{kind}: {share}; frequent labels (≥ {MIN_POSITIVES} positives)"
    wide, narrow = new_table(title), new_table(title)
    has_published = any(row.published for row in board.rows)
    for head in (*[""] * has_published, "backbone", "init", "method", "macro AUROC", "macro AP", "runs"):
        wide.add_column(head, no_wrap=True)
    narrow.add_column("row: macro AUROC, macro AP, runs")
    for row in board.rows:
        mark = MINE if has_published and not row.published else ""
        auroc, precision = (spell(row.summaries["frequent"][metric]) for metric in RANKING)
        runs = str(len(row.runs))
        add_row(wide, [*[mark] * has_published, row.backbone, row.init, row.method, auroc, precision, runs])
        add_stacked_row(narrow, f"{mark} {row.name}".strip(), f"{auroc}   {precision}   {runs}")
    words = [f"{MINE} your rows; the others are published"] if has_published else []
    if board.declined:
        words.append("declined: " + "; ".join(f"{r.row[2]} on {r.row[0]}" for r in board.declined))
    if absent := not_installed(board):
        words.append(f"not installed: {absent}")
    for shown in (wide, narrow):
        shown.caption, shown.caption_justify = Text("\n".join(words)) if words else None, "left"
    return Fitted(wide, narrow)


def comparison_tables(compared: Compared) -> list[Table | Fitted]:
    """Return tables of the numbered rows and of the differences of all pairs; for two rows also by label."""
    places = {name: str(place) for place, name in enumerate(compared.letters, 1)}
    rows = new_table("rows; those that share a letter do not differ significantly")
    for head in ("", "row", "groups"):
        rows.add_column(head, overflow="fold")
    for name, place in places.items():
        add_row(rows, [place, name, compared.letters[name] or "–"])

    title = "first minus second, labels with ≥ 10 positives"
    shown, narrow = new_table(title), new_table(title)
    heads = ("macro AUROC", "macro AP", "p swap", "p DeLong", "p", "role", "resolvable", "pairs")
    for head in ("rows", *heads):
        shown.add_column(head, no_wrap=True)
    narrow.add_column("rows")
    for pair in compared.pairs:
        differences = [spell_difference(pair.differences[metric]) for metric in RANKING]
        numbers = [*map(spell_p, (pair.permutation_p, pair.placement_p, pair.p_adjusted)), f"{pair.resolvable:.4f}"]
        few = "*" if pair.few_pairs else ""
        numbers.insert(3, "–" if pair.few_pairs else pair.role)
        name_of_pair = f"{places[pair.first]} − {places[pair.second]}"
        cells = [*differences, *numbers, f"{pair.num_pairs}{few}"]
        add_row(shown, [name_of_pair, *cells])
        add_stacked_row(narrow, name_of_pair, _facts(heads, cells))
    words = ["p: the larger of both, corrected within the pair's role as on its board (PROTOCOL.md, section 8)"]
    for name, pair in compared.baseline.items():
        words.append(f"against the baseline {places[pair.second]}: {places[name]} ")
        words[-1] += f"{spell_difference(pair.differences['auroc'])}, p {spell_role(pair)}"
    words += [compared.undecided] if compared.undecided else []
    equal = [f"{places[pair.first]} = {places[pair.second]}" for pair in compared.pairs if pair.practically_equal]
    words.append(f"practically equal (interval within ±{compared.margin:g}): {'; '.join(equal) or 'no pair'}")
    if any(pair.role == EXPLORATORY and not pair.few_pairs for pair in compared.pairs):
        words.append("exploratory: not declared before the results, so it supports no claim")
    if any(pair.few_pairs for pair in compared.pairs):
        words.append("* fewer than three pairs: about these trained models, not corrected; training may vary more")
    for each in (shown, narrow):
        each.caption, each.caption_justify = Text("\n".join(words)), "left"
    by_label = len(compared.pairs) == 1 and len(compared.pairs[0].labels) > 1
    tables: list[Table | Fitted] = [rows, Fitted(shown, narrow), *([_label_table(compared)] if by_label else [])]
    return [*tables, *([_subgroups_table(compared, places)] if isinstance(compared, ComparedWithin) else [])]


def _facts(heads: Sequence[str], cells: Sequence[str]) -> str:
    """Return cells with their heads as text that wraps between cells only."""
    facts = (f"{head} {cell}".replace(" ", "\N{NO-BREAK SPACE}") for head, cell in zip(heads, cells, strict=True))
    return "   ".join(facts)


def _subgroups_table(compared: ComparedWithin, places: Mapping[str, str]) -> Fitted:
    title = "macro AUROC in subgroups of fold 10, first minus second"
    wide, narrow = new_table(title), new_table(title)
    several, few = len(compared.pairs) > 1, False
    heads = ("records", "labels", "first", "second", "difference", "p", "p, others")
    for head in (*(["rows"] if several else []), "by", "group", *heads):
        wide.add_column(head, no_wrap=True)
    narrow.add_column("subgroup")
    for within in compared.within:
        numbers = [f"{within.num_records:,}", str(within.num_labels)]
        difference, few = within.difference, few or bool(within.difference and within.difference.few_runs)
        if difference is not None:
            mark = "*" if difference.few_runs else ""
            numbers += [f"{auroc:.4f}" for auroc in within.aurocs]
            interval = f"{difference.value:+.4f} ({difference.low:+.3f} to {difference.high:+.3f}){mark}"
            numbers += [interval.replace("-", "−"), spell_p(difference.p)]
            numbers += [spell_p(within.others.p) if within.others else "–"]
        else:
            numbers += ["–"] * 5
        pair = f"{places[within.first]} − {places[within.second]}"
        add_row(wide, [*([pair] if several else []), within.by, within.group, *numbers])
        name = f"{within.by}: {within.group}" + (f", {pair}" if several else "")
        add_stacked_row(narrow, name, _facts(heads, numbers))
    words = [
        f"intervals and p hold for all {compared.num_looks} together (Bonferroni); labels with ≥ 10 positives there",
        "p, others: whether the difference is another one than in all other records; only that shows where it differs",
    ]
    words += ["* fewer than three pairs: about these trained models; training may vary more"] if few else []
    for each in (wide, narrow):
        each.caption, each.caption_justify = Text("\n".join(words)), "left"
    return Fitted(wide, narrow)


def _label_table(comparison: Compared) -> Table:
    (pair,) = comparison.pairs
    shown = new_table("AUROC by label, largest difference first; not corrected")
    for head in ("label", "difference"):
        shown.add_column(head)
    for label, difference in sorted(pair.labels.items(), key=lambda item: -abs(item[1].interval.value)):
        add_row(shown, [label, spell_difference(difference)])
    return shown


def compat_line(result: Result) -> str:
    """Return the numbers of another protocol in one line: as Strodthoff et al. (2020) printed, or over all records."""
    compat = result.document["compat"]
    if ALL_RECORDS in compat:
        return f"{over_all_records(compat[ALL_RECORDS])}; boards do not rank by it"
    auroc = compat[STRODTHOFF2020]["macro_auroc"]
    return (
        f"as Strodthoff et al. 2020 (100 bootstrap replicates of records, 5 and 95 % quantiles): "
        f"{auroc['value']:.3f}({round(1000 * auroc['bracket']):02d}), {auroc['low']:.3f} to {auroc['high']:.3f}"
    )
