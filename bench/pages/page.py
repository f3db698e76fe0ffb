"""Write boards as Markdown: a page for each dataset and task, a section for each training fraction, and an index."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.boards.comparisons import ALPHA, NUM_PERMUTATIONS, Comparison
from bench.boards.declared import EXPLORATORY, FAMILY, PRIMARY, BoardPlan
from bench.boards.resampling import NUM_REPLICATES, values_of
from bench.boards.rows import Board, Row, chance_precision, interval_of, recorded_interval
from bench.boards.simulations import ALL_LABELS, SIMULATIONS
from bench.data.datasets import origin_of
from bench.data.splits import TEST_FOLD
from bench.errors import DataError
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Interval, Summary
from bench.files import read_bytes, write_whole
from bench.pages.conditions import SUBSET, condition_of, few_draws, spell_runs
from bench.pages.costs import cost_lines, terms_lines
from bench.pages.drawn import facts_of, remembered_text
from bench.pages.groups import DIFFERS, GROUP, differences_column, letters_of
from bench.pages.markdown import folded, markdown_table, sentence
from bench.pages.names import columns, labels_note, not_installed, places, recipe, short_method, short_name
from bench.pages.simulated import simulated_lines
from bench.results.external import ALL_RECORDS

REPORTED, CLAIMS = "reported.csv", "claims.csv"
AUROC, AP = "macro AUROC, frequent labels", "macro AP, frequent labels"
"""Heads of the columns of a board."""
PROTOCOL = "PROTOCOL.md"
PTB_XL = "ptb-xl"
"""Beginning of the name of the data set whose published numbers reported.csv and the simulations hold."""
NUM_INDEXED = 3
"""Number of first rows that the index names."""
RESOLVABLE = (
    "the true difference that 80 % of studies as noisy as this one would claim by the first step of Holm: at 5 % "
    "divided by the number of pairs of that role"
)
CLOSE_EFFECT = 2
"""If a claimed difference is smaller than this many margins, the page doubts the margin: see `_margin_question`."""


@dataclass(frozen=True)
class Surroundings:
    """Published numbers, claims and simulated rates, read from CSV files in the leaderboards' folder."""

    reported: Sequence[Mapping[str, str]] = ()
    """Rows of reported.csv: task, model, setting, macro_auroc, bracket, low, high, source, protocol, quoted (the source
    that a row repeats) and reason (why the value here differs)."""
    claims: Sequence[Mapping[str, str]] = ()
    """Rows of claims.csv, as `claims.Finding.claim`."""
    simulated: Sequence[Mapping[str, str]] = ()
    """Rows of simulations.csv: task, quantity, setting, percent, error, simulations."""

    @classmethod
    def load(cls, folder: Path) -> Surroundings:
        """Read the three files in `folder`; a missing file counts as empty."""
        return cls(*(read_rows(folder / name) for name in (REPORTED, CLAIMS, SIMULATIONS)))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file; empty if there is no file. Raises DataError if the file cannot be read."""
    try:
        return list(csv.DictReader(io.StringIO(read_bytes(path).decode(), newline="")))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


Pictures = Mapping[Board, Sequence[tuple[str, str]]]
"""Board -> (description, file relative to the page) of each picture; the first is shown, the others are folded."""

Links = Mapping[tuple[str, str], Sequence[tuple[str, str]]]
"""Dataset and task -> (description, file) of each side page."""

Overviews = Mapping[tuple[str, str], str]
"""Dataset and task -> file of the picture over all fractions."""


def plan_in(*folders: Path) -> Callable[[str, str], BoardPlan]:
    """Return a function: dataset and task -> plan, from <folder>/<dataset>/<task>.toml in the first folder with one."""

    def plan_of(dataset: str, task: str) -> BoardPlan:
        paths = [folder / dataset / f"{task}.toml" for folder in folders]
        return BoardPlan.load(next(filter(Path.is_file, paths), paths[0]))

    return plan_of


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
    lines += _margin_question(boards)
    lines += _labels(boards)
    lines += _reported(first.task, around) if first.dataset.startswith(PTB_XL) else []
    return "\n".join([*lines, *_protocol(boards, around)]) + "\n"


def _tests(boards: Sequence[Board]) -> Mapping[str, Any] | None:
    """Return the metrics of fold 10 of the first result, preferably of a board whose labels are available."""
    judged_first = sorted(boards, key=lambda board: board.truth is None)
    runs = (run for board in judged_first for row in board.rows for run in row.runs)
    return next((run.document["metrics"][f"fold_{TEST_FOLD}"] for run in runs), None)


def about(boards: Sequence[Board]) -> list[str]:
    """Return a sentence on the records, patients and labels of fold 10; nothing without rows."""
    test = _tests(boards)
    if not test:
        return []
    words = (
        f"Fold 10: {test['num_records']:,} records of {test['num_patients']:,} patients, "
        f"{test['macro']['all']['num_labels']} labels, {test['macro']['frequent']['num_labels']} of them with at "
        f"least {metrics.MIN_POSITIVES} positives (frequent labels). All claims rest on the frequent labels."
    )
    chance = next((chance_precision(board.truth) for board in boards if board.truth), math.nan)
    if not math.isnan(chance):
        words += f" Random scores have macro AUROC 0.5 and macro AP {chance:.3f} (the mean prevalence)."
    return [words, ""]


def data_lines(boards: Sequence[Board]) -> list[str]:
    """Return the licence and source of the data set, as its reader states them, or else as the results record them."""
    runs = [run for board in boards for row in board.rows for run in row.runs]
    sections = [run.document.get("dataset", {}) for run in runs]
    recorded = ((section["licence"], section.get("source", "")) for section in sections if section.get("licence"))
    origin = origin_of(boards[0].dataset) or next(recorded, None)
    num = next((section["num_records"] for section in sections if "num_records" in section), None)
    if num is None or not origin:  # older results do not record the number
        return []
    licence, source = (" ".join(str(text).split()) for text in origin)
    return [f"Data: {boards[0].dataset}, {num:,} records, licence: {licence}, source: {source}.", ""]


def _how_to_read(boards: Sequence[Board]) -> list[str]:
    """Return a folded section that explains each column; it stands above the first table."""
    rows = [row for board in boards for row in board.rows]
    if not rows:
        return []
    standing = [board.standing for board in boards if board.standing is not None]
    places = "; in brackets the places that it takes in 95 % of bootstrap replicates of patients and runs"
    words = [f"**rank**: the place by macro AUROC{places if standing else ''}."]
    shown = {differences_column(board)[0] for board in boards if board.standing is not None}
    if GROUP in shown:
        words.append(
            "**group**: two rows that share a letter do not differ significantly. That does not make them equal. –: "
            "the row has fewer than three runs, so it is in no group."
        )
    if DIFFERS in shown:
        words.append(
            "**differs from**: the ranks of the rows from which the row differs significantly, where group letters "
            "would be more than 26. From other rows it does not differ significantly, or too few of their runs can be "
            "paired with its own. That does not make them equal. –: the row has fewer than three runs."
        )
    words += [
        "**backbone**: the architecture; the precision if it is not float32; the sampling rate of the files if their "
        "signals were resampled.",
        "**init**: the weights that training starts from. `own:` and a hash: weights that a run of this program left. "
        "`file:` and a hash: weights from a file that was made elsewhere.",
        "**method**: the recipe. `(…)` stands for arguments; the command in the fold below each table spells them out.",
    ]
    if any("recipe" in columns(board)[0] for board in boards):
        words.append(
            "**recipe**: `reported`, the method's defaults, which follow published recipes; `tuned`, the best of "
            "several settings on fold 9; `given`, arguments of the command."
        )
    words.append(
        f"**macro AUROC**, **macro AP** (average precision), frequent labels: means over the labels with at least "
        f"{metrics.MIN_POSITIVES} positives in fold 10, and over a row's runs. In brackets: 95 % intervals over "
        "patients and runs; with fewer than three runs, over patients alone."
    )
    if any(each.baseline for each in standing):
        words += [
            "**Δ baseline**: the row minus its baseline, over runs paired by draw and seed. The baseline is named "
            "below the table.",
            "**p, Holm**: how often a difference as large as this one would appear if there were none. It is the "
            f"larger p of two tests. The first swaps whole patients' ranks (at least {NUM_PERMUTATIONS:,} "
            "permutations). The second uses the standard error over patients and runs. The p is corrected by Holm "
            "within the pair's role, which stands behind it: `primary`, `family` or `exploratory` (PROTOCOL.md, "
            "section 8). \\* fewer than three pairs of runs: the p is about these trained models and is not "
            "corrected.",
        ]
    if any(num_labels(row, "all") != num_labels(row, "frequent") for row in rows):
        words.append("**AUROC, all labels†**: for comparison with the literature; see † at the end.")
    words.append(
        "**runs**: seeds and draws of the training records. With several draws, all seeds of a draw count as one run."
        + (" \\* fewer than three runs count: how much training varies is not known." if _few(rows) else "")
        + (
            f" {SUBSET} fewer than three draws of this share: claims are about the subsets at hand."
            if any(map(few_draws, rows))
            else ""
        )
    )
    if any(each.pairs for each in standing):
        words.append(f"**resolvable difference**: {RESOLVABLE}.")
    return folded("How to read these tables", [*(f"- {explanation}" for explanation in words), ""])


def _few(rows: Sequence[Row]) -> bool:
    return any(row.few_runs for row in rows)


def _section(board: Board, pictures: Sequence[tuple[str, str]]) -> list[str]:
    lines = [f"## {board.title}", ""]
    if board.rows:
        lines += _common(board)
        lines += _scores(board)
        lines += _claims(board)
        lines += _over_all_records(board)
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
    sentences += [sentence(note)] if (note := labels_note(board.rows)) else []
    sentences += [f"Not installed, so others cannot run it: {absent}."] if (absent := not_installed(board)) else []
    return [" ".join(sentences), ""] if sentences else []


def trained_on(board: Board) -> str:
    """Return as text the numbers of training records, patients and draws, and the labels without a positive there."""
    by_records = {
        run.thinned: run.document.get("split", {}) for row in board.rows for run in row.runs if not run.external
    }
    splits = [split for split in by_records.values() if "train_records" in split]
    if not splits:
        return ""
    words = f"{_counted([split['train_records'] for split in splits])} records"
    if all("train_patients" in split for split in splits):
        words += f" of {_counted([split['train_patients'] for split in splits])} patients"
    if board.fraction < 1 and not board.manifest:
        words += f", {len(splits)} draw" + "s" * (len(splits) > 1)
    lacking = [label for split in splits for label in split.get("labels_without_training_positive", ())]
    if lacking:
        unseen = [
            label + (f" (in {lacking.count(label)} of the draws)" if lacking.count(label) < len(splits) else "")
            for label in sorted(set(lacking))
        ]
        words += f"; no positive in training: {', '.join(unseen)}"
    return words


def _counted(numbers: Sequence[int]) -> str:
    low, high = f"{min(numbers):,}", f"{max(numbers):,}"
    return low if low == high else f"{low} to {high}"


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


def num_labels(row: Row, chosen: str) -> int:
    """Return the number of labels of a row's macro averages; `chosen` is `all` or `frequent`."""
    return int(row.runs[0].document["metrics"][f"fold_{TEST_FOLD}"]["macro"][chosen]["num_labels"])


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


def spell(summary: Summary | Interval) -> str:
    """Return a value with its bounds as text; a dash if it is undefined."""
    interval = interval_of(summary)
    if math.isnan(interval.value):
        return "–"
    bounds = "" if math.isnan(interval.low) else f" ({interval.low:.3f}–{interval.high:.3f})"
    return f"{interval.value:.4f}{bounds}"


def spell_difference(summary: Summary) -> str:
    """Return a difference with its bounds as text, each with its sign."""
    interval = summary.interval
    return f"{interval.value:+.4f} ({interval.low:+.3f} to {interval.high:+.3f})".replace("-", "−")


def spell_p(p: float) -> str:
    """Return a p-value as text; below 0.001 as `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def spell_role(pair: Comparison) -> str:
    """Return the p-value of a pair as text, with its role or with the mark of few runs."""
    return f"{spell_p(pair.p_adjusted)}*" if pair.few_pairs else f"{spell_p(pair.p_adjusted)} ({pair.role})"


def _claims(board: Board) -> list[str]:
    """Return the claims of a board: sentences on each kind of comparison."""
    standing = board.standing
    if standing is None or len(board.rows) < 2:
        return []
    tested = [pair for pair in standing.pairs if not pair.few_pairs]
    lines = _about_baseline(board) + _declared_claims(board, tested) + _exploratory(board, tested)
    equal = [pair for pair in tested if pair.practically_equal]
    lines.append(
        f"- Practically equal, by rank (the whole interval of the difference within ±{board.plan.margin:g}). "
        f"{_on_conditions(board, equal, _equal) or 'No pair'}."
    )
    if few := [place for place, row in enumerate(board.rows, 1) if row.few_runs]:
        lines.append(
            f"- Fewer than three runs: {_enumerated(few)}. Their intervals and ranks are about these trained models. "
            "No sentence says that such a row is better than another, worse or practically equal."
        )
    split = [pair for pair in tested if (pair.permutation_p <= ALPHA) != (pair.placement_p <= ALPHA)]
    if split:
        lines.append(
            f"- In {len(split)} of {len(tested)} pairs the two tests disagree at the 5 % level before Holm: the larger "
            "p counts."
        )
    return [*lines, ""]


def _about_baseline(board: Board) -> list[str]:
    """Return sentences on the baseline, or why there is none, and on declared rows that are missing."""
    standing, plan, lines = board.standing, board.plan, list[str]()
    assert standing is not None
    if standing.baseline:
        which = str(plan.baseline)
        if plan.of_same_backbone:
            which += " on the same backbone and init"
            tuned = {row.num_trials > 0 for row in board.rows if row.name in standing.baselines}
            which += ", tuned where the row is" if len(tuned) > 1 else ""
        pairs = list(standing.baseline.values())
        resolvable = _range([pair.resolvable for pair in pairs])
        lines.append(f"- Baseline: {which}. {_rows(len(pairs))} compared with it; resolvable difference {resolvable}.")
    elif standing.undecided:
        lines.append(f"- No row is tested against a baseline: {standing.undecided}.")
    elif plan.baseline:
        lines.append(f"- The declared baseline, {plan.baseline}, has no run here that a row could be paired with.")
    if absent := plan.absent([row.name for row in board.rows]):
        lines.append(f"- Declared for testing but without a run here: {', '.join(absent)}.")
    return lines


def _declared_claims(board: Board, tested: Sequence[Comparison]) -> list[str]:
    """Return a sentence on the primary contrasts and a sentence on the declared family, with significant pairs."""
    lines = []
    if primary := [_forward(board, pair) for pair in tested if pair.role == PRIMARY]:
        lines.append(
            f"- Primary contrast: {board.plan.primary}. Each backbone, init and recipe is a study of its own, tested "
            f"at 5 %; nothing is corrected over studies. {_on_conditions(board, primary, _with_p)}."
        )
    if family := [_forward(board, pair) for pair in tested if pair.role == FAMILY]:
        significant = [pair for pair in family if pair.claimed]
        lines.append(
            f"- Declared family: Holm within each study, and no p below that of the study's primary contrast. "
            f"{len(significant)} of {len(family)} significant. "
            f"{_on_conditions(board, significant, _with_p)}".rstrip(". ")
            + "."
        )
    return lines


def _exploratory(board: Board, tested: Sequence[Comparison]) -> list[str]:
    """Return a sentence on the pairs that the board does not declare."""
    others = [pair for pair in tested if pair.role == EXPLORATORY]
    if not others:
        return []
    significant = sum(pair.claimed for pair in others)
    return [
        f"- Exploratory: all other pairs, {len(others)}, Holm over all of them; {significant} significant. A new row "
        "changes these p-values, so they support no claim. Groups use them and the declared pairs; resolvable "
        f"difference of a pair {_range([pair.resolvable for pair in others])}."
    ]


def _forward(board: Board, pair: Comparison) -> Comparison:
    """Return the pair in the direction in which it was declared."""
    tuned = {row.name for row in board.rows if row.num_trials}
    roles = board.plan.roles([row.name for row in board.rows], tuned)
    return pair if (pair.first, pair.second) in roles else -pair


def _over_all_records(board: Board) -> list[str]:
    """Return a sentence for each row that was also scored on all records of fold 10; these scores are not ranked."""
    compat = [(place, run.document.get("compat", {})) for place, row in enumerate(board.rows, 1) for run in row.runs]
    lines = [
        f"- Row {place}, {over_all_records(scored[ALL_RECORDS])}; not ranked."
        for place, scored in compat
        if ALL_RECORDS in scored
    ]
    return [*lines, ""] if lines else []


def over_all_records(scored: Mapping[str, Any]) -> str:
    """Return as text macro AUROC and AP over all labels and all records of fold 10."""
    macro = [spell(recorded_interval(scored["macro"]["all"][metric])) for metric in metrics.RANKING]
    return (
        f"on all {scored['num_records']:,} records of fold 10, those without a label as negatives: macro AUROC over "
        f"all labels {macro[0]}, macro AP {macro[1]}"
    )


def _on_conditions(board: Board, pairs: Sequence[Comparison], spelled: Callable[[Board, Comparison], str]) -> str:
    """Return the pairs, grouped by their condition."""
    groups: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        groups[condition_of(pair, board.rows)].append(spelled(board, pair))
    parts = [(where[:1].upper() + where[1:], "; ".join(words)) for where, words in groups.items()]
    return ". ".join(f"{where}: {words}" if where else words for where, words in parts)


def _equal(board: Board, pair: Comparison) -> str:
    place = places(board)
    return f"{place[pair.first]} = {place[pair.second]}"


def _with_p(board: Board, pair: Comparison) -> str:
    """Return as text the ranks and methods of a pair, its difference in macro AUROC and its p-value."""
    place, rows = places(board), {row.name: row for row in board.rows}
    names = [f"{place[name]} ({_label(rows[name])})" for name in (pair.first, pair.second)]
    verdict = "" if pair.claimed else ", not significant"
    p = spell_p(pair.p_adjusted)
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    return f"{names[0]} − {names[1]} {spell_difference(pair.differences['auroc'])}, {p}{verdict}"


def _enumerated(numbers: Sequence[int]) -> str:
    return f"row{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _margin_question(boards: Sequence[Board]) -> list[str]:
    """Return a sentence that doubts the margin if the page claims differences of about its size; else empty."""
    lines = []
    for margin in dict.fromkeys(board.plan.margin for board in boards):
        pairs = [pair for b in boards if b.standing and b.plan.margin == margin for pair in b.standing.pairs]
        claimed = [
            abs(pair.differences["auroc"].interval.value) for pair in pairs if pair.claimed and pair.role != EXPLORATORY
        ]
        is_used = any(pair.practically_equal and not pair.few_pairs for pair in pairs)
        if is_used and min(claimed, default=1.0) < CLOSE_EFFECT * margin:
            lines += [
                f"Doubt “practically equal” here: its margin, {margin:g}, is about as large as the smallest difference "
                f"that this page claims, {min(claimed):.4f}.",
                "",
            ]
    return lines


def _label(row: Row) -> str:
    """Return a row's method in a claim, with its recipe where these are not the method's defaults."""
    if row.runs[0].external:
        return row.labels.get(row.backbone, row.backbone)
    return short_method(row) + ("" if recipe(row) == "reported" else f", {recipe(row)}")


def _rows(number: int) -> str:
    return f"{number} row" + "s" * (number != 1)


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.4f}", f"{max(values):.4f}"
    return low if low == high else f"{low} to {high}"


def _labels(boards: Sequence[Board]) -> list[str]:
    """Return a folded table: the positives of each label in fold 10, and the AUROC of the first row."""
    test = _tests(boards)
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
    value = float(np.mean([values_of(run, "auroc")[column] for run in row.scored.values()]))
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
    test = _tests(boards)
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


def _index_entry(board: Board) -> list[str]:
    """Return the cells of a board in the index: training records, first rows, number of rows, range of scores."""
    if not board.rows:
        return [board.title, "–", "0", "–", "–"]
    letters = letters_of(board)
    rows = [row for row, own in zip(board.rows, letters, strict=True) if row is board.rows[0] or letters[0] & own]
    names = ", ".join(short_name(row) + "\\*" * row.few_runs + SUBSET * few_draws(row) for row in rows[:NUM_INDEXED])
    names += f" and {len(rows) - NUM_INDEXED} more" if len(rows) > NUM_INDEXED else ""
    scores = [
        spell(rows[0].summaries[chosen]["auroc"])
        if len(rows) == 1
        else _range([interval_of(row.summaries[chosen]["auroc"]).value for row in rows])
        for chosen in ("frequent", "all")
    ]
    return [board.title, names, str(len(board.rows)), *scores]


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
    by_page: dict[tuple[str, str], list[Board]] = defaultdict(list)
    for board in boards:
        by_page[board.dataset, board.task].append(board)
    written, entries = [], []
    for (dataset, task), group in by_page.items():
        path = folder / dataset / f"{task}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = links.get((dataset, task), ()), overviews.get((dataset, task), "")
        shown = [pictures.get(board, ()) for board in group]
        facts = facts_of(group, anew, asdict(around or Surroundings()), shown, beside, origin_of(dataset))
        write_whole(path, remembered_text("page", facts, partial(page, group, around, pictures, *beside)))
        written.append(path)
        link = f"[{task}]({dataset}/{task}.md)"
        entries += [[dataset, link, *_index_entry(board)] for board in group]
    index = ["# Leaderboards", ""]
    if answered:
        where = ", ".join(f"[on {dataset}]({dataset}/answer.md)" for dataset in answered)
        index += [f"Which way of adapting is best? One answer a question, over all tasks: {where}.", ""]
    if around and around.reported:
        index += ["Each published number and claim beside the rows here: [LEDGER.md](LEDGER.md).", ""]
    if (folder / PROTOCOL).is_file():
        index += [f"The rules, in numbered sentences: [{PROTOCOL}]({PROTOCOL}).", ""]
    head = ["dataset", "task", "trained on", "first rows", "rows", AUROC, "macro AUROC, all labels†"]
    index += markdown_table(head, entries, left=4) if entries else []
    index += [
        f"Frequent labels have at least {metrics.MIN_POSITIVES} positives and as many negatives in fold 10. † All "
        "labels: the number that the literature prints. First rows: the row with the highest value and the rows that "
        "share a group with it. \\* The row has fewer than three runs, so it has no group and is not said to be best. "
        f"{SUBSET} The row has fewer than three draws of the share, so claims are about the subsets at hand. "
        "Scores of one line compare with no other line: tasks and training records differ.",
        "",
    ]
    path = folder / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "\n".join(index))
    return [*written, path]
