"""Tables of results, boards and comparisons for the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from bench.boards.comparisons import Compared
from bench.boards.rows import Board, interval_said
from bench.console.listing import add_row, new_table
from bench.evaluation.metrics import RANKING
from bench.pages.page import spell, spell_difference, spell_p
from bench.results.result import Result


def result_table(result: Result) -> Table:
    """Return a table of a run's scores."""
    shown = new_table(f"{result.row[2]} on {result.row[0]}, {result.cell['task']}")
    if result.incompatible:
        shown.add_column("declined")
        add_row(shown, [result.incompatible])
        return shown
    for head in ("fold", "labels", "macro AUROC", "macro AP"):
        shown.add_column(head, overflow="fold")
    for fold, metrics in result.document["metrics"].items():
        for chosen, description in (("frequent", "with ≥ 10 positives"), ("all", "all")):
            macro = metrics["macro"][chosen]
            scores = [spell(interval_said(macro[metric])) for metric in RANKING]
            add_row(shown, [fold.removeprefix("fold_"), f"{macro['num_labels']}, {description}", *scores])
    shown.caption = Text(str(result.folder))
    return shown


NARROWEST = {"backbone": 12, "method": 15, "macro AUROC": 13, "macro AP": 13, "runs": 4}
"""Minimum width of a board's columns in characters."""


def board_table(board: Board) -> Table:
    """Return a board as a table."""
    kind = " (synthetic)" if board.synthetic else ""
    share = board.title[0].lower() + board.title[1:]
    shown = new_table(f"{board.task} on {board.dataset}{kind}: {share}")
    for head in ("backbone", "init", "method", "macro AUROC", "macro AP", "runs"):
        shown.add_column(head, overflow="fold", min_width=NARROWEST.get(head))
    for row in board.rows:
        scores = [spell(row.summaries["frequent"][metric]) for metric in RANKING]
        add_row(shown, [row.backbone, row.init, row.method, *scores, str(len(row.runs))])
    if board.declined:
        shown.caption = Text("declined: " + "; ".join(f"{r.row[2]} on {r.row[0]}" for r in board.declined))
    return shown


def comparison_tables(comparison: Compared) -> list[Table]:
    """Return the tables of a comparison: numbered rows, differences of every pair, and of two rows also by label."""
    places = {name: str(place) for place, name in enumerate(comparison.letters, 1)}
    rows = new_table("rows that share a letter do not differ significantly")
    for head in ("", "row", "groups"):
        rows.add_column(head, overflow="fold")
    for name, place in places.items():
        add_row(rows, [place, name, comparison.letters[name]])

    shown = new_table("first minus second, labels with ≥ 10 positives")
    for head in ("rows", "macro AUROC", "macro AP", "p swap", "p DeLong", "p Holm", "resolvable", "pairs"):
        shown.add_column(head)
    for pair in comparison.pairs:
        differences = [spell_difference(pair.differences[metric]) for metric in RANKING]
        numbers = [*map(spell_p, (pair.permutation_p, pair.placement_p, pair.p_adjusted)), f"{pair.resolvable:.4f}"]
        few = "*" if pair.few_pairs else ""
        pair_name = f"{places[pair.first]} − {places[pair.second]}"
        add_row(shown, [pair_name, *differences, *numbers, f"{pair.num_pairs}{few}"])
    notes = [f"p Holm: of the larger p, over all pairs ({len(comparison.pairs)})"]
    for name, pair in comparison.baseline.items():
        notes.append(f"against the declared baseline {places[pair.second]}, Holm over {pair.family_size}: ")
        notes[-1] += f"{places[name]} {spell_difference(pair.differences['auroc'])}, p {spell_p(pair.p_adjusted)}"
    notes += [comparison.undecided] if comparison.undecided else []
    equal = [f"{places[pair.first]} = {places[pair.second]}" for pair in comparison.pairs if pair.practically_equal]
    notes.append(f"practically equal (interval within ±{comparison.margin:g}): {'; '.join(equal) or 'no pair'}")
    if any(pair.few_pairs for pair in comparison.pairs):
        notes.append("* fewer than three pairs: valid for these trained models; variance between trainings unknown")
    shown.caption, shown.caption_justify = Text("\n".join(notes)), "left"
    return [rows, shown, *([_label_table(comparison)] if len(comparison.pairs) == 1 else [])]


def _label_table(comparison: Compared) -> Table:
    (pair,) = comparison.pairs
    shown = new_table("AUROC by label, largest difference first; not corrected")
    for head in ("label", "difference"):
        shown.add_column(head)
    for label, difference in sorted(pair.labels.items(), key=lambda item: -abs(item[1].interval.value)):
        add_row(shown, [label, spell_difference(difference)])
    return shown


def compat_line(result: Result) -> str:
    """Return a line with the macro AUROC in the form of Strodthoff et al. (2020)."""
    auroc = result.document["compat"]["strodthoff2020"]["macro_auroc"]
    return (
        f"as Strodthoff et al. 2020 (100 bootstrap replicates of records, 5 and 95 % quantiles): "
        f"{auroc['value']:.3f}({round(1000 * auroc['bracket']):02d}), {auroc['low']:.3f} to {auroc['high']:.3f}"
    )
