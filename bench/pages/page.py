"""Boards become Markdown: a page a dataset and task, a section a training fraction, and an index."""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.boards.comparisons import ALPHA, NUM_PERMUTATIONS, Comparison
from bench.boards.declared import EXPLORATORY, FAMILY, PRIMARY, BoardPlan
from bench.boards.rows import NUM_REPLICATES, Board, Row, chance_precision, interval_of, interval_said
from bench.boards.simulations import ALL_LABELS, SIMULATIONS
from bench.data.splits import TEST_FOLD
from bench.errors import DataError
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Interval, Summary
from bench.files import write_whole
from bench.pages.conditions import condition_of
from bench.pages.costs import cost_lines
from bench.pages.markdown import folded, markdown_table, sentence
from bench.pages.names import columns, places, short_method, short_name
from bench.results.external import ALL_RECORDS

REPORTED, CLAIMS = "reported.csv", "claims.csv"
AUROC, AP = "macro AUROC, frequent labels", "macro AP, frequent labels"
"""Heads of the columns of a board."""
PROTOCOL = "PROTOCOL.md"
CLOSE_EFFECT = 2
"""A claimed difference below so many margins puts the margin in doubt: see `_margin_question`."""


@dataclass(frozen=True)
class Surroundings:
    """What a page shows besides its results, all of it files in the leaderboards' folder."""

    reported: Sequence[Mapping[str, str]] = ()
    """Rows of reported.csv: task, model, setting, macro_auroc, bracket, low, high, source, protocol; quoted, the source
    that it repeats; reason, why ours is another."""
    claims: Sequence[Mapping[str, str]] = ()
    """Rows of claims.csv, as `claims.Finding.claim`."""
    simulated: Sequence[Mapping[str, str]] = ()
    """Rows of simulations.csv: task, quantity, setting, percent, error, simulations."""

    @classmethod
    def load(cls, folder: Path) -> Surroundings:
        """What is there; nothing where nothing is."""
        return cls(*(read_rows(folder / name) for name in (REPORTED, CLAIMS, SIMULATIONS)))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none where there is no file."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


Pictures = Mapping[Board, Sequence[tuple[str, str]]]
"""Board -> what each of its pictures shows, and the file, relative to the page; the first is shown, others folded."""

Links = Mapping[tuple[str, str], Sequence[tuple[str, str]]]
"""Dataset and task -> what each side page is, and its file."""

Overviews = Mapping[tuple[str, str], str]
"""Dataset and task -> the file of the picture over all fractions."""


def plan_in(*folders: Path) -> Callable[[str, str], BoardPlan]:
    """Dataset and task -> the plan in <folder>/<dataset>/<task>.toml, of the first folder that has it."""

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
    """The Markdown page of one task of one dataset, with its pictures and links to its side pages."""
    first = boards[0]
    around = around or Surroundings()
    lines = [f"# {first.task} on {first.dataset}", ""]
    if first.synthetic:
        lines += ["**Synthetic data: these numbers say that the machinery runs, and nothing about ECGs.**", ""]
    lines += _about(boards)
    lines += ["See also: " + ", ".join(f"[{words}]({file})" for words, file in links) + ".", ""] if links else []
    lines += _how_to_read(boards)
    for board in boards:
        lines += _section(board, pictures.get(board, ()))
    lines += _over_fractions(boards, overview) if overview else []
    lines += _margin_question(boards)
    lines += _labels(boards)
    lines += [] if first.synthetic else _reported(first.task, around)
    return "\n".join([*lines, *_protocol(boards, around)]) + "\n"


def _tests(boards: Sequence[Board]) -> Mapping[str, Any] | None:
    """The first result's metrics of fold 10, of a board that is judged by the dataset's labels if there is one."""
    judged_first = sorted(boards, key=lambda board: board.truth is None)
    runs = (run for board in judged_first for row in board.rows for run in row.runs)
    return next((run.document["metrics"][f"fold_{TEST_FOLD}"] for run in runs), None)


def _about(boards: Sequence[Board]) -> list[str]:
    test = _tests(boards)
    if not test:
        return []
    words = (
        f"Fold 10: {test['num_records']:,} records of {test['num_patients']:,} patients, "
        f"{test['macro']['all']['num_labels']} labels, {test['macro']['frequent']['num_labels']} of them with at "
        f"least {metrics.MIN_POSITIVES} positives: all claims rest on these."
    )
    chance = next((chance_precision(board.truth) for board in boards if board.truth), math.nan)
    if not math.isnan(chance):
        words += f" Scores that know nothing have macro AUROC 0.5 and macro AP {chance:.3f} (the mean prevalence)."
    return [words, ""]


def _how_to_read(boards: Sequence[Board]) -> list[str]:
    """What each column says, folded above the first table."""
    rows = [row for board in boards for row in board.rows]
    if not rows:
        return []
    standing = [board.standing for board in boards if board.standing is not None]
    words = [
        "**rank**: the place by macro AUROC"
        + ("; in brackets the places it takes in 95 % of draws of patients and runs." if standing else "."),
        *(
            [
                "**group**: rows that share a letter do not differ significantly, whatever their rank. –: fewer than "
                "three runs, so the row is in no group."
            ]
            if standing
            else []
        ),
        "**backbone**: the architecture, the precision where it is not float32, and the files' rate where signals were "
        "resampled from it.",
        "**init**: what the weights start from. `own:` and a hash: weights that a run of this program left. `file:` "
        "and a hash: weights from a file that was made elsewhere.",
        "**method**: `(…)` stands for arguments; the command, in the fold below each table, has them.",
    ]
    if any("recipe" in columns(board)[0] for board in boards):
        words.append(
            "**recipe**: `reported`, the method's defaults, which for ours follow published recipes; `tuned`, the best "
            "of several settings on fold 9; `given`, arguments of the command."
        )
    words.append(
        f"**macro AUROC**, **macro AP** (average precision), frequent labels: means over the labels with at least "
        f"{metrics.MIN_POSITIVES} positives in fold 10, and over a row's runs. In brackets: 95 % intervals over draws "
        "of patients, and runs."
    )
    if any(one.baseline for one in standing):
        words += [
            "**Δ baseline**: the row minus its baseline, which is named below the table, over runs paired by draw and "
            "seed.",
            "**p, Holm**: of no such difference. The larger p of two tests, one that swaps whole patients' ranks "
            f"(at least {NUM_PERMUTATIONS:,} permutations) and one by the standard error over patients and runs. "
            "Corrected by Holm within the pair's role, which stands behind it: `primary`, `family` or `exploratory` "
            "(PROTOCOL.md, section 8). \\* fewer than three pairs of runs: about these trained models, not corrected.",
        ]
    if any(_num_labels(row, "all") != _num_labels(row, "frequent") for row in rows):
        words.append("**AUROC, all labels†**: for comparison with the literature; see † at the end.")
    words.append(
        "**runs**: seeds and draws of the training records; with several draws, seeds of one draw count as one run."
        + (" \\* fewer than three count: how much training varies is not known." if _few(rows) else "")
    )
    if any(one.pairs for one in standing):
        words.append("**resolvable difference**: if true, found in 80 % of studies like this one, before Holm.")
    return folded("How to read these tables", [*(f"- {one}" for one in words), ""])


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
        lines += cost_lines(board)
    if board.declined:
        lines += ["Not run, because the method declined:", ""]
        lines += [f"- {r.row[2]} on {r.row[0]} ({r.row[1]}): {sentence(r.incompatible)}" for r in board.declined]
        lines.append("")
    return lines


def _common(board: Board) -> list[str]:
    """What all rows share: the records they were trained on, and what needs no column."""
    words = trained_on(board)
    sentences = [f"{words[0].upper()}{words[1:]}."] if words else []
    sentences += [shared] if (shared := columns(board)[1]) else []
    return [" ".join(sentences), ""] if sentences else []


def trained_on(board: Board) -> str:
    """How many training records of how many patients, in how many draws, and the labels without a positive there."""
    found = {run.thinned: run.document.get("split", {}) for row in board.rows for run in row.runs if not run.external}
    splits = [split for split in found.values() if "train_records" in split]
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
    tuned = sorted({board.fraction for board in boards for row in board.rows if row.num_trials}, reverse=True)
    lines = [
        "## From few training records to all",
        "",
        "Rows with runs at two shares of the training records or more. A row has the same setting at every share"
        + (f"; what was tuned was tuned at {' and '.join(f'{100 * one:.3g} %' for one in tuned)}." if tuned else "."),
        "",
    ]
    return [*lines, f"![Macro AUROC over frequent labels against the share of training records]({picture})", ""]


def _shown(pictures: Sequence[tuple[str, str]]) -> list[str]:
    images = [f"![{words}]({path})" for words, path in pictures]
    if len(images) < 2:
        return [*images, ""] if images else []
    return [images[0], "", *folded("More pictures", [line for image in images[1:] for line in (image, "")])]


def _scores(board: Board) -> list[str]:
    narrow = any(_num_labels(row, "all") != _num_labels(row, "frequent") for row in board.rows)
    compared = board.standing is not None and bool(board.standing.baseline)
    names, _ = columns(board)
    head = ["rank", "group", *names, AUROC, *(["Δ baseline", "p, Holm"] if compared else [])]
    head += [AP, *(["AUROC, all labels†"] if narrow else []), "runs"]
    rows = [
        _cells(board, place, [cells[place] for cells in names.values()], narrow, compared)
        for place in range(len(board.rows))
    ]
    return markdown_table(head, rows, left=2 + len(names))


def _num_labels(row: Row, chosen: str) -> int:
    return int(row.runs[0].document["metrics"][f"fold_{TEST_FOLD}"]["macro"][chosen]["num_labels"])


def _cells(board: Board, place: int, names: Sequence[str], narrow: bool, compared: bool) -> list[str]:
    row, standing = board.rows[place], board.standing
    rank, group = str(place + 1), ""
    if standing is not None:
        low, high = standing.ranks[row.name]
        rank, group = f"{place + 1} ({low}–{high})" if low < high else rank, standing.letters[row.name] or "–"
    cells = [rank, group, *names, spell(row.summaries["frequent"]["auroc"])]
    if compared and standing is not None:
        found = standing.baseline.get(row.name)
        own = "baseline" if row.name in standing.baselines else "–"
        cells += [own, ""] if found is None else [spell_difference(found.differences["auroc"]), spell_role(found)]
    cells.append(spell(row.summaries["frequent"]["average_precision"]))
    cells += [spell(row.summaries["all"]["auroc"])] if narrow else []
    return [*cells, str(len(row.runs)) + "*" * row.few_runs]


def spell(summary: Summary | Interval) -> str:
    """A value with its bounds."""
    found = interval_of(summary)
    if math.isnan(found.value):
        return "–"
    bounds = "" if math.isnan(found.low) else f" ({found.low:.3f}–{found.high:.3f})"
    return f"{found.value:.4f}{bounds}"


def spell_difference(summary: Summary) -> str:
    """A difference with its bounds, signs always."""
    found = summary.interval
    return f"{found.value:+.4f} ({found.low:+.3f} to {found.high:+.3f})".replace("-", "−")


def spell_p(p: float) -> str:
    """A p-value; small ones as a bound."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def spell_role(one: Comparison) -> str:
    """Return the p-value of a pair with its role, or with the mark of few runs."""
    return f"{spell_p(one.p_adjusted)}*" if one.few_pairs else f"{spell_p(one.p_adjusted)} ({one.role})"


def _claims(board: Board) -> list[str]:
    """What the comparisons allow to say, in sentences."""
    standing, plan = board.standing, board.plan
    if standing is None or len(board.rows) < 2:
        return []
    margin = f"{plan.margin:g}"
    lines = []
    if standing.baseline:
        found = list(standing.baseline.values())
        whose = str(plan.baseline)
        if plan.of_same_backbone:
            whose += " on the same backbone and init"
            tuned = {row.num_trials > 0 for row in board.rows if row.name in standing.baselines}
            whose += ", tuned where the row is" if len(tuned) > 1 else ""
        resolvable = _range([one.resolvable for one in found])
        lines.append(f"- Baseline: {whose}. {_rows(len(found))} compared with it; resolvable difference {resolvable}.")
    elif standing.undecided:
        lines.append(f"- No row is tested against a baseline: {standing.undecided}.")
    elif plan.baseline:
        lines.append(f"- The declared baseline, {plan.baseline}, has no run here that a row could be paired with.")
    if absent := plan.absent([row.name for row in board.rows]):
        lines.append(f"- Declared to be tested, and not here: {', '.join(absent)}.")
    tested = [one for one in standing.pairs if not one.few_pairs]
    lines += _declared_claims(board, tested)
    lines += _exploratory(board, tested)
    equal = [one for one in tested if one.practically_equal]
    lines.append(
        f"- Practically equal, by rank (the whole interval of the difference within ±{margin}). "
        f"{_on_conditions(board, equal, _equal) or 'No pair'}."
    )
    if few := [number for row, number in zip(board.rows, range(1, len(board.rows) + 1), strict=True) if row.few_runs]:
        lines.append(
            f"- Fewer than three runs: {_enumerated(few)}. Their intervals and ranks are about these trained models: "
            "none is said to be better, worse or practically equal."
        )
    split = [one for one in tested if (one.permutation_p <= ALPHA) != (one.placement_p <= ALPHA)]
    if split:
        lines.append(
            f"- In {len(split)} of {len(tested)} pairs the permutation test and the interval disagree at the "
            "5 % level before Holm: the larger p counts."
        )
    return [*lines, ""]


def _declared_claims(board: Board, tested: Sequence[Comparison]) -> list[str]:
    """Return a sentence on the primary contrasts, and one on the declared family: what is significant, and where."""
    lines = []
    if primary := [_forward(board, one) for one in tested if one.role == PRIMARY]:
        lines.append(
            f"- Primary contrast: {board.plan.primary}; each backbone, init and recipe is a study of its own, tested "
            f"at 5 %. {_on_conditions(board, primary, _with_p)}."
        )
    if family := [_forward(board, one) for one in tested if one.role == FAMILY]:
        better = [one for one in family if one.claimed]
        lines.append(
            f"- Declared family, Holm within each study, and no p below that of its primary contrast: "
            f"{len(better)} of {len(family)} significant. {_on_conditions(board, better, _with_p)}".rstrip(". ")
            + "."
        )
    return lines


def _exploratory(board: Board, tested: Sequence[Comparison]) -> list[str]:
    others = [one for one in tested if one.role == EXPLORATORY]
    if not others:
        return []
    num = sum(one.claimed for one in others)
    return [
        f"- Exploratory: all other pairs, {len(others)}, Holm over all of them; {num} significant. A new row changes "
        f"these p-values, so they support no claim. Groups use them and the declared pairs; resolvable difference of a "
        f"pair {_range([one.resolvable for one in others])}."
    ]


def _forward(board: Board, one: Comparison) -> Comparison:
    """The pair in the direction in which it was declared."""
    tuned = {row.name for row in board.rows if row.num_trials}
    roles = board.plan.roles([row.name for row in board.rows], tuned)
    return one if (one.first, one.second) in roles else -one


def _over_all_records(board: Board) -> list[str]:
    """Return a sentence for each row that was also scored on fold 10's records without a label; no rank follows."""
    compat = [(place, run.document.get("compat", {})) for place, row in enumerate(board.rows, 1) for run in row.runs]
    lines = [
        f"- Row {place}, {over_all_records(one[ALL_RECORDS])}; not ranked."
        for place, one in compat
        if ALL_RECORDS in one
    ]
    return [*lines, ""] if lines else []


def over_all_records(scored: Mapping[str, Any]) -> str:
    """Return macro AUROC and AP over all labels and all records of fold 10, in words."""
    macro = [spell(interval_said(scored["macro"]["all"][metric])) for metric in metrics.RANKING]
    return (
        f"on all {scored['num_records']:,} records of fold 10, those without a label as negatives: macro AUROC over "
        f"all labels {macro[0]}, macro AP {macro[1]}"
    )


def _on_conditions(board: Board, pairs: Sequence[Comparison], spelled: Callable[[Board, Comparison], str]) -> str:
    """Return the pairs, grouped by the condition that they hold on."""
    groups: dict[str, list[str]] = defaultdict(list)
    for one in pairs:
        groups[condition_of(one, board.rows)].append(spelled(board, one))
    parts = [(where[:1].upper() + where[1:], "; ".join(words)) for where, words in groups.items()]
    return ". ".join(f"{where}: {words}" if where else words for where, words in parts)


def _equal(board: Board, one: Comparison) -> str:
    place = places(board)
    return f"{place[one.first]} = {place[one.second]}"


def _with_p(board: Board, one: Comparison) -> str:
    place, rows = places(board), {row.name: row for row in board.rows}
    names = [f"{place[name]} ({_label(rows[name])})" for name in (one.first, one.second)]
    verdict = "" if one.claimed else ", not significant"
    p = spell_p(one.p_adjusted)
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    return f"{names[0]} − {names[1]} {spell_difference(one.differences['auroc'])}, {p}{verdict}"


def _enumerated(numbers: Sequence[int]) -> str:
    return f"row{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _margin_question(boards: Sequence[Board]) -> list[str]:
    """Return a sentence that doubts the margin of equality where differences of its size are claimed on the page."""
    lines = []
    for margin in dict.fromkeys(board.plan.margin for board in boards):
        pairs = [one for b in boards if b.standing and b.plan.margin == margin for one in b.standing.pairs]
        claimed = [
            abs(one.differences["auroc"].interval.value) for one in pairs if one.claimed and one.role != EXPLORATORY
        ]
        is_used = any(one.practically_equal and not one.few_pairs for one in pairs)
        if is_used and min(claimed, default=1.0) < CLOSE_EFFECT * margin:
            lines += [
                f"“Practically equal” is to be doubted here: its margin, {margin:g}, is of the size of the smallest "
                f"difference that this page claims, {min(claimed):.4f}.",
                "",
            ]
    return lines


def _label(row: Row) -> str:
    return row.backbone if row.runs[0].external else short_method(row)


def _rows(number: int) -> str:
    return f"{number} row" + "s" * (number != 1)


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.4f}", f"{max(values):.4f}"
    return low if low == high else f"{low} to {high}"


def _labels(boards: Sequence[Board]) -> list[str]:
    """How many positives each label has in fold 10, and how well the first row ranks them."""
    test = _tests(boards)
    board = next((board for board in boards if board.rows and board.standing is not None), None)
    if not test:
        return []
    head, rows = ["label", "n+", "prevalence"], []
    head += [f"AUROC of {board.rows[0].name}"] if board else []
    for column, (label, found) in enumerate(test["labels"].items()):
        positives = found["num_positives"]
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
    value = float(np.mean([run.resampled.auroc.value[column] for run in row.scored.values()]))
    return "–" if math.isnan(value) else f"{value:.3f}"


def _reported(task: str, around: Surroundings) -> list[str]:
    """Published numbers: other protocols, never ranked with ours."""
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
    recomputed = (
        "Recomputed from the predictions and the dataset's labels."
        if all(board.recomputed for board in boards)
        else "Copied from the results: the dataset was not at hand to recompute them."
    )
    return [
        "---",
        "",
        "Folds 1-8 train, 9 selects, 10 tests. Every statement counts as a label, whatever its likelihood; records "
        "without a label of the task are dropped (Strodthoff et al. 2020).",
        "",
        f"95 % intervals are percentiles over {NUM_REPLICATES:,} draws of fold 10's patients, the same for every row, "
        "their mean moved to the value; for several runs the variance between them is added. AP depends on how many "
        "positives there are, so its interval is for folds of this size.",
        "",
        f"Pictures leave out rows of constant scores. {recomputed}",
        "",
        *_dagger(boards, around),
        "Task fingerprint: " + ", ".join(f"`{f[:16]}`" for f in dict.fromkeys(b.fingerprint for b in boards)) + ".",
    ]


def _dagger(boards: Sequence[Board], around: Surroundings) -> list[str]:
    test = _tests(boards)
    if not test or test["macro"]["all"]["num_labels"] == test["macro"]["frequent"]["num_labels"]:
        return []
    words = (
        "† For comparison with the literature. Labels with fewer than 10 positives say little of how much they vary: "
        "that part of the interval is borrowed from the other labels."
    )
    found = [row for row in around.simulated if (row["task"], row["quantity"]) == (boards[0].task, ALL_LABELS)]
    if found:
        shares = "; ".join(f"{row['percent']} % (± {row['error']}) with {row['setting']}" for row in found)
        words += (
            f" In simulations on these labels and patients ([all rates](../{SIMULATIONS})) a 95 % interval covered the "
        )
        words += f"truth in {shares}."
    return [words, ""]


def _index_entry(board: Board) -> list[str]:
    """Return what the index says of a board: training records, first rows, number of rows, range of their scores."""
    if not board.rows:
        return [board.title, "–", "0", "–", "–"]
    letters = board.standing.letters if board.standing else {}
    groups = {name: set(re.findall(r"[a-z]\d*", written)) for name, written in letters.items()}
    first = groups.get(board.rows[0].name, set())
    rows = [row for row in board.rows if row is board.rows[0] or first & groups.get(row.name, set())]
    names = ", ".join(short_name(row) + "\\*" * row.few_runs for row in rows)
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
) -> list[Path]:
    """Write `<dataset>/<task>.md` for all boards and README.md, the index; returns what was written."""
    by_page: dict[tuple[str, str], list[Board]] = defaultdict(list)
    for board in boards:
        by_page[board.dataset, board.task].append(board)
    written, entries = [], []
    for (dataset, task), group in by_page.items():
        path = folder / dataset / f"{task}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = links.get((dataset, task), ()), overviews.get((dataset, task), "")
        write_whole(path, page(group, around, pictures, *beside))
        written.append(path)
        link = f"[{task}]({dataset}/{task}.md)"
        entries += [[dataset, link, *_index_entry(board)] for board in group]
    index = ["# Leaderboards", ""]
    if around and around.reported:
        index += ["Published numbers against ours, one by one: [LEDGER.md](LEDGER.md).", ""]
    if (folder / PROTOCOL).is_file():
        index += [f"The rules, in numbered sentences: [{PROTOCOL}]({PROTOCOL}).", ""]
    head = ["dataset", "task", "trained on", "first rows", "rows", AUROC, "macro AUROC, all labels†"]
    index += markdown_table(head, entries, left=4) if entries else []
    index += [
        f"Frequent labels are those with at least {metrics.MIN_POSITIVES} positives and as many negatives in fold 10; "
        "† all labels is what the literature prints. First rows: those that share a group with the first, or the first "
        "by value where it has fewer than three runs (\\*) and so no group.",
        "",
    ]
    path = folder / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "\n".join(index))
    return [*written, path]
