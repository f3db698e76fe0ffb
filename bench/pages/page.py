"""Write boards as Markdown: a page for each dataset and task, with a section for each training fraction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench.boards.comparisons import NUM_PERMUTATIONS, Standing, design_of
from bench.boards.resampling import NUM_REPLICATES
from bench.boards.rows import Board, Row, by_page
from bench.boards.simulations import ALL_LABELS, SIMULATIONS
from bench.data.datasets import origin_of
from bench.evaluation import metrics
from bench.files import write_at
from bench.pages.about_data import PTB_XL, about, data_lines, fold_facts, num_labels, seen_labels, trained_on
from bench.pages.conclusions import all_records_lines, conclusions, margin_question
from bench.pages.conditions import SUBSET, few_draws, spell_runs
from bench.pages.costs import cost_lines, terms_lines
from bench.pages.drawn import facts_of, remembered_text
from bench.pages.groups import DIFFERS, GROUP, differences_column
from bench.pages.index import index_page
from bench.pages.markdown import folded, markdown_table, sentence
from bench.pages.names import AP, AUROC, columns, labels_note, not_installed, short_name, shown_init
from bench.pages.simulated import simulated_lines
from bench.pages.spelling import spell, spell_difference, spell_role
from bench.pages.surroundings import Surroundings

RESOLVABLE = (
    "the smallest true difference that 80 % of studies as noisy as this one would find significant, at 5 % divided by "
    "the number of pairs of that role (Holm's first step)"
)

Pictures = Mapping[Board, Sequence[tuple[str, str]]]
"""Board -> (description, file relative to the page) of each picture; the first is shown, the others are folded."""

Links = Mapping[tuple[str, str], Sequence[tuple[str, str]]]
"""Dataset and task -> (description, file) of each side page."""

Overviews = Mapping[tuple[str, str], str]
"""Dataset and task -> file of the picture over all fractions."""


def page(
    boards: Sequence[Board],
    around: Surroundings | None = None,
    pictures: Pictures = {},
    links: Sequence[tuple[str, str]] = (),
    overview: str = "",
) -> str:
    """Return the Markdown page of one task of one dataset, with its pictures and links to its side pages."""
    first = boards[0]
    around = around or Surroundings()
    lines = [f"# {first.task} on {first.dataset}", ""]
    if first.synthetic:
        lines += ["**Synthetic data: these numbers say that the machinery runs, and nothing about ECGs.**", ""]
    lines += about(boards) + data_lines(boards)
    lines += ["See also: " + ", ".join(f"[{words}]({file})" for words, file in links) + ".", ""] if links else []
    lines += _how_to_read(boards)
    for board in boards:
        lines += _section(board, pictures.get(board, ()))
    lines += _over_fractions(boards, overview) if overview else []
    lines += margin_question(boards)
    lines += _labels(boards)
    lines += _reported(first.task, around) if first.dataset.startswith(PTB_XL) else []
    return "\n".join([*lines, *_protocol(boards, around)]) + "\n"


def _how_to_read(boards: Sequence[Board]) -> list[str]:
    """Return a folded section that explains each column; it stands above the first table."""
    rows = [row for board in boards for row in board.rows]
    if not rows:
        return []
    standing = [board.standing for board in boards if board.standing is not None]
    places = "; in brackets the places that it takes in 95 % of bootstrap replicates of patients and runs, if several"
    words = [f"**rank**: the place by macro AUROC{places if standing else ''}."]
    shown = {differences_column(board)[0] for board in boards if board.standing is not None}
    if GROUP in shown:
        words.append(
            "**group**: two rows that share a letter do not differ significantly, or too few of their runs can be "
            "paired. That does not make them equal. –: the row has fewer than three runs, so it is in no group."
        )
    if DIFFERS in shown:
        words.append(
            "**differs from**: the ranks of the rows from which this row differs significantly; it stands in place of "
            "group letters where 26 are too few. From all others it does not differ significantly, or too few of their "
            "runs can be paired with its own. That does not make them equal. –: the row has fewer than three runs."
        )
    words += [
        "**backbone**: the architecture; the precision if it is not float32; the sampling rate of the files if their "
        "signals were resampled.",
        "**init**: the weights that training starts from. `own:` and a hash: weights that a run of this program left. "
        "`file:` and a hash: weights from a file that was made elsewhere.",
        "**method**: the training procedure. `(…)` stands for arguments; the command folded away below each table "
        "spells them out.",
    ]
    if any("recipe" in columns(board)[0] for board in boards):
        words.append(
            "**recipe**: `defaults`, those of the method, which follow published recipes; `tuned`, the best of several "
            "settings on fold 9; `set by hand`, arguments of the command. The page over all tasks calls a row *tuned*, "
            "too, if a search at another share chose its setting."
        )
    words.append(
        f"**macro AUROC**, **macro AP** (average precision), frequent labels: means over the labels with at least "
        f"{metrics.MIN_POSITIVES} positives and as many negatives in fold 10, and over a row's runs. In brackets: 95 % "
        "intervals over patients and runs. A row of fewer than three runs takes the variation of runs from other rows; "
        "where too few rows can lend it, its interval is over patients alone."
    )
    words += _about_comparisons(rows, standing)
    return folded("How to read these tables", [*(f"- {explanation}" for explanation in words), ""])


def _about_comparisons(rows: Sequence[Row], standing: Sequence[Standing]) -> list[str]:
    """Return the explanations of the columns to the right of the scores."""
    words = []
    if any(each.baseline for each in standing):
        words += [
            "**Δ baseline**: the row minus its baseline, over runs paired by draw and seed. The baseline is named "
            "below the table.",
            "**p, Holm**: how often a difference as large as this one would appear if there were none. It is the "
            f"larger p of two tests. The first swaps whole patients' ranks (at least {NUM_PERMUTATIONS:,} "
            "permutations). The second uses the standard error over patients and runs. The p is corrected by Holm "
            "within the pair's role, which stands behind it: `primary`, `family` or `exploratory` (PROTOCOL.md, "
            "section 8). \\* fewer than three pairs of runs: the p is not corrected and supports no claim.",
        ]
    if any(num_labels(row, "all") != num_labels(row, "frequent") for row in rows):
        words.append("**AUROC, all labels†**: for comparison with the literature; see † at the end.")
    words.append(
        "**runs**: draws of the training records × seeds; of all records, seeds. With several draws, all seeds of a "
        "draw count as one run. Rows of different draws were trained on different records."
        + (" \\* fewer than three runs count: how much training varies is not known." if _few(rows) else "")
        + (
            f" {SUBSET} fewer than three draws of this share: claims are about the subsets at hand."
            if any(map(few_draws, rows))
            else ""
        )
    )
    if any(each.pairs for each in standing):
        words.append(f"**resolvable difference**: {RESOLVABLE}.")
    return words


def _few(rows: Sequence[Row]) -> bool:
    return any(row.few_runs for row in rows)


def _section(board: Board, pictures: Sequence[tuple[str, str]]) -> list[str]:
    lines = [f"## {board.title}", ""]
    if board.rows:
        lines += _common(board)
        lines += _scores(board)
        lines += conclusions(board)
        lines += all_records_lines(board)
        lines += _shown(pictures)
        lines += terms_lines(board)
        lines += cost_lines(board)
    if board.declined:
        lines += ["Not run, because the method declined:", ""]
        lines += [f"- {r.row[2]} on {r.row[0]} ({r.row[1]}): {sentence(r.incompatible)}" for r in board.declined]
        lines.append("")
    return lines


def _common(board: Board) -> list[str]:
    """Return a line on facts that all rows share: the training records, and names that need no column."""
    words = trained_on(board)
    sentences = [f"{words[0].upper()}{words[1:]}."] if words else []
    sentences += [shared] if (shared := columns(board)[1]) else []
    if any(row.published for row in board.rows):
        own = [f"{place}. {short_name(row)}" for place, row in enumerate(board.rows, 1) if not row.published]
        sentences.append(f"Rows that are not published: {', '.join(own)}.")
    sentences += [seen] if (seen := _seen(board.rows)) else []
    sentences += [sentence(note)] if (note := labels_note(board.rows)) else []
    sentences += [f"Not installed, so others cannot run it: {absent}."] if (absent := not_installed(board)) else []
    return [" ".join(sentences), ""] if sentences else []


def _seen(rows: Sequence[Row]) -> str:
    """Return a sentence on the labels of the task on which first weights were trained; empty if there are none."""
    known = {shown_init(row): labels for row in rows if (labels := seen_labels(row.runs[0]))}
    parts = [f"{init} ({', '.join(labels)})" for init, labels in known.items()]
    words = "First weights that were trained on labels of this task, on the same records"
    return f"{words}: {'; '.join(parts)}." if parts else ""


def _over_fractions(boards: Sequence[Board], picture: str) -> list[str]:
    """Return the section with the picture over all fractions, and the training records of its rows."""
    tuned = sorted({board.fraction for board in boards for row in board.rows if row.num_trials}, reverse=True)
    draws = {run.cell["draw"] for board in boards if board.fraction < 1 for row in board.rows for run in row.runs}
    subsets = "on a single draw of each share" if len(draws) == 1 else f"on up to {len(draws)} draws of each share"
    lines = [
        "## From few training records to all",
        "",
        f"The picture shows rows with runs at two shares of the training records or more, {subsets}. A row has the "
        "same setting at every share"
        + (f"; tuned rows were tuned at {' and '.join(f'{100 * share:.3g} %' for share in tuned)}." if tuned else "."),
        "",
    ]
    return [*lines, f"![Macro AUROC over frequent labels against the share of training records]({picture})", ""]


def _shown(pictures: Sequence[tuple[str, str]]) -> list[str]:
    images = [f"![{words}]({path})" for words, path in pictures]
    if len(images) < 2:
        return [*images, ""] if images else []
    return [images[0], "", *folded("More pictures", [line for image in images[1:] for line in (image, "")])]


def _scores(board: Board) -> list[str]:
    narrow = any(num_labels(row, "all") != num_labels(row, "frequent") for row in board.rows)
    compared = board.standing is not None and bool(board.standing.baseline)
    names, _ = columns(board)
    differences, groups = differences_column(board)
    head = ["rank", differences, *names, AUROC, *(["Δ baseline", "p, Holm"] if compared else [])]
    head += [AP, *(["AUROC, all labels†"] if narrow else []), "runs"]
    rows = [
        _cells(board, place, [groups[place], *(cells[place] for cells in names.values())], narrow, compared)
        for place in range(len(board.rows))
    ]
    return markdown_table(head, rows, left=2 + len(names))


def _cells(board: Board, place: int, names: Sequence[str], narrow: bool, compared: bool) -> list[str]:
    row, standing = board.rows[place], board.standing
    rank = str(place + 1)
    if standing is not None:
        low, high = standing.ranks[row.name]
        rank = f"{place + 1} ({low}–{high})" if low < high else rank
    cells = [rank, *names, spell(row.summaries["frequent"]["auroc"])]
    if compared and standing is not None:
        pair = standing.baseline.get(row.name)
        own = "baseline" if row.name in standing.baselines else "–"
        cells += [own, ""] if pair is None else [spell_difference(pair.differences["auroc"]), spell_role(pair)]
    cells.append(spell(row.summaries["frequent"]["average_precision"]))
    cells += [spell(row.summaries["all"]["auroc"])] if narrow else []
    return [*cells, spell_runs(row)]


def _labels(boards: Sequence[Board]) -> list[str]:
    """Return a folded table: the positives of each label in fold 10, and the AUROC of the first row."""
    test = fold_facts(boards)
    board = next((board for board in boards if board.rows and board.standing is not None), None)
    if not test:
        return []
    head, rows = ["label", "n+", "prevalence"], []
    head += [f"AUROC of {board.rows[0].name}"] if board else []
    for column, (label, recorded) in enumerate(test["labels"].items()):
        positives = recorded["num_positives"]
        cells = [label, str(positives) + ("†" if positives < metrics.MIN_POSITIVES else "")]
        cells.append(f"{positives / test['num_records']:.2%}")
        if board:
            cells.append(_label_auroc(board.rows[0], column))
        rows.append(cells)
    lines = markdown_table(head, rows)
    if board:
        lines += [f"The AUROC is that of the first row of the section “{board.title}”, the mean of its runs.", ""]
    return folded("Positives of each label in fold 10 (n+)", lines)


def _label_auroc(row: Row, column: int) -> str:
    value = float(design_of(row.scored).mean([run.label_values("auroc")[column] for run in row.scored.values()]))
    return "–" if math.isnan(value) else f"{value:.3f}"


def _reported(task: str, around: Surroundings) -> list[str]:
    """Return the section of published numbers, which follow other protocols and are never ranked with the rows."""
    rows = [row for row in around.reported if row["task"] == task]
    if not rows:
        return []
    notes = list(dict.fromkeys((row["source"], row["protocol"]) for row in rows))
    cells = []
    for row in sorted(
        rows, key=lambda row: (notes.index((row["source"], row["protocol"])), -float(row["macro_auroc"]))
    ):
        doubt = f" ± {row['bracket']}" if row["bracket"] else ""
        doubt = f" ({row['low']}–{row['high']})" if row["low"] else doubt
        cells.append([row["model"], row["setting"], row["macro_auroc"] + doubt, f"[{_note(notes, row)}]"])
    head = [
        "## Reported elsewhere",
        "",
        "Macro AUROC over all labels as published, under other protocols: not ranked.",
        "",
    ]
    lines = markdown_table(["model", "setting", "macro AUROC, all labels", "source"], cells, left=2)
    lines += [f"- [{n}] {source}: {protocol}." for n, (source, protocol) in enumerate(notes, 1)]
    return [*head, *folded("The published numbers", [*lines, ""])]


def _note(notes: Sequence[tuple[str, str]], row: Mapping[str, str]) -> int:
    return notes.index((row["source"], row["protocol"])) + 1


def _protocol(boards: Sequence[Board], around: Surroundings) -> list[str]:
    """Return the foot of a page: folds, labels, intervals, simulations and the task's fingerprint."""
    recomputed = (
        "Recomputed from the predictions and the dataset's labels."
        if all(board.recomputed for board in boards)
        else "Copied from the results: the dataset was not at hand to recompute them."
    )
    return [
        "---",
        "",
        "Folds 1-8 train, 9 selects, 10 tests. " + _unlabelled(boards),
        "",
        f"95 % intervals are percentiles over {NUM_REPLICATES:,} bootstrap replicates of fold 10's patients, the same "
        "for every row, their mean moved to the value. For several runs the variance between runs is added, moderated "
        "over the rows of a board that has enough of them (PROTOCOL.md, section 6). AP depends on how many positives "
        "there are, so its interval is for folds of this size.",
        "",
        f"Pictures leave out rows of constant scores. {recomputed}",
        "",
        *_dagger(boards, around),
        *simulated_lines(_simulated_task(boards), around.simulated),
        "Task fingerprint: " + ", ".join(f"`{f[:16]}`" for f in dict.fromkeys(b.fingerprint for b in boards)) + ".",
    ]


def _simulated_task(boards: Sequence[Board]) -> str:
    """Return the task whose simulations hold for these boards; empty if they are of another data set than PTB-XL."""
    return boards[0].task if boards[0].dataset.startswith(PTB_XL) else ""


def _unlabelled(boards: Sequence[Board]) -> str:
    """Return what happens to records without a label of the task."""
    if any(board.truth is not None and not board.truth.y_true.any(axis=1).all() for board in boards):
        return "Records without a label of the task are kept, as negatives of every label."
    return (
        "Every statement counts as a label, whatever its likelihood; records without a label of the task are dropped "
        "(Strodthoff et al. 2020)."
    )


def _dagger(boards: Sequence[Board], around: Surroundings) -> list[str]:
    """Return the explanation of †, with the simulated coverage; empty if all labels are frequent."""
    test = fold_facts(boards)
    if not test or test["macro"]["all"]["num_labels"] == test["macro"]["frequent"]["num_labels"]:
        return []
    words = (
        "† For comparison with the literature. Few positives show little of how much a label's AUROC varies, so that "
        "part of the interval is borrowed from the other labels."
    )
    wanted = (_simulated_task(boards), ALL_LABELS)
    rates = [row for row in around.simulated if (row["task"], row["quantity"]) == wanted]
    if rates:
        shares = "; ".join(f"{row['percent']} % (± {row['error']}) with {row['setting']}" for row in rates)
        words += (
            f" In simulations on these labels and patients ([all rates](../{SIMULATIONS})) a 95 % interval covered the "
        )
        words += f"truth in {shares}."
    return [words, ""]


def write_pages(
    boards: Sequence[Board],
    folder: Path,
    around: Surroundings | None = None,
    pictures: Pictures = {},
    links: Links = {},
    overviews: Overviews = {},
    answered: Sequence[str] = (),
    *,
    anew: bool = False,
) -> list[Path]:
    """Write `<dataset>/<task>.md` for all boards, and the index README.md; return the written paths.

    `answered` are the data sets with a page answer.md, which the index links first. Pages of the same results and
    surroundings are not computed again, except with `anew`.
    """
    written = []
    for (dataset, task), group in by_page(boards).items():
        beside = links.get((dataset, task), ()), overviews.get((dataset, task), "")
        shown = [pictures.get(board, ()) for board in group]
        facts = facts_of(group, anew, asdict(around or Surroundings()), shown, beside, origin_of(dataset))
        text = remembered_text("page", facts, partial(page, group, around, pictures, *beside))
        written.append(write_at(folder / dataset / f"{task}.md", text))
    return [*written, write_at(folder / "README.md", index_page(boards, folder, around, answered))]
