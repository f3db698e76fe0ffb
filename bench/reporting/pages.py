"""Boards become Markdown: a page a dataset and task, a section a training fraction, and an index."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.splits import TEST_FOLD
from bench.errors import DataError
from bench.evaluation import metrics
from bench.evaluation.bootstrap import Interval, Summary
from bench.reporting.boards import NUM_DRAWS, Board, Row, chance_precision, interval_of
from bench.reporting.comparisons import NUM_PERMUTATIONS, Plan
from bench.reporting.results import Result

SELECTIONS = {
    "best": "the best epoch by fold-9 macro AUROC",
    "lowest-loss": "the epoch of the lowest fold-9 loss",
    "last": "the last epoch",
}

REPORTED, CLAIMS, SIMULATIONS = "reported.csv", "claims.csv", "simulations.csv"
ALL_LABELS = "coverage, all labels, macro AUROC"
"""The simulated quantity that is printed where that interval is."""


@dataclass(frozen=True)
class Surroundings:
    """What a page shows besides its results, all of it files in the leaderboards' folder."""

    reported: Sequence[Mapping[str, str]] = ()
    """Rows of reported.csv: task, model, setting, macro_auroc, bracket, low, high, source, protocol."""
    claims: Sequence[Mapping[str, str]] = ()
    """Rows of claims.csv: claim, better, worse, tasks, metric, fraction, than_fraction, gain, source."""
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


def plan_in(*folders: Path) -> Callable[[str, str], Plan]:
    """Dataset and task -> the plan in <folder>/<dataset>/<task>.toml, of the first folder that has it."""

    def plan_of(dataset: str, task: str) -> Plan:
        paths = [folder / dataset / f"{task}.toml" for folder in folders]
        return Plan.load(next(filter(Path.is_file, paths), paths[0]))

    return plan_of


def page(
    boards: Sequence[Board],
    around: Surroundings | None = None,
    pictures: Pictures = {},
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """The Markdown page of one task of one dataset, with its pictures and links to its side pages."""
    first = boards[0]
    around = around or Surroundings()
    lines = [f"# {first.task} on {first.dataset}", ""]
    if first.synthetic:
        lines += ["**Synthetic data: these numbers say that the machinery runs, and nothing about ECGs.**", ""]
    lines += _about(boards)
    lines += ["See also: " + ", ".join(f"[{words}]({file})" for words, file in links) + ".", ""] if links else []
    for board in boards:
        lines += _section(board, pictures.get(board, ()))
    lines += _labels(boards)
    lines += [] if first.synthetic else _reported(first.task, around)
    return "\n".join([*lines, *_protocol(boards, around)]) + "\n"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table; the first `left` columns are words, the others numbers."""
    rule = "|" + "---|" * left + "---:|" * (len(head) - left)
    return ["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows), ""]


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Lines that a reader opens; the last of them is empty."""
    return [f"<details><summary>{title}</summary>", "", *lines, "</details>", ""]


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


def _section(board: Board, pictures: Sequence[tuple[str, str]]) -> list[str]:
    lines = [f"## {board.title}", ""]
    if board.rows:
        lines += _scores(board)
        lines += _claims(board)
        lines += _shown(pictures)
        lines += _costs(board)
    if board.declined:
        lines += ["Not run, because the method declined:", ""]
        lines += [f"- {r.row[2]} on {r.row[0]} ({r.row[1]}): {r.incompatible}" for r in board.declined]
        lines.append("")
    return lines


def _shown(pictures: Sequence[tuple[str, str]]) -> list[str]:
    images = [f"![{words}]({path})" for words, path in pictures]
    if len(images) < 2:
        return [*images, ""] if images else []
    return [images[0], "", *folded("More pictures", [line for image in images[1:] for line in (image, "")])]


def _scores(board: Board) -> list[str]:
    narrow = any(_num_labels(row, "all") != _num_labels(row, "frequent") for row in board.rows)
    compared = board.standing is not None and bool(board.standing.baseline)
    tuned = any(row.num_trials for row in board.rows)
    head = ["rank", "group", "backbone", "init", "method", "macro AUROC"]
    head += ["Δ baseline", "p, Holm"] if compared else []
    head += ["macro AP", *(["AUROC, all labels†"] if narrow else []), *(["trials"] if tuned else []), "runs"]
    rows = [_cells(board, place, narrow, compared, tuned) for place, _ in enumerate(board.rows)]
    return markdown_table(head, rows, left=5)


def _num_labels(row: Row, chosen: str) -> int:
    return int(row.runs[0].document["metrics"][f"fold_{TEST_FOLD}"]["macro"][chosen]["num_labels"])


def _cells(board: Board, place: int, narrow: bool, compared: bool, tuned: bool) -> list[str]:
    row, standing = board.rows[place], board.standing
    rank, group = str(place + 1), ""
    if standing is not None:
        low, high = standing.ranks[row.name]
        rank, group = f"{place + 1} ({low}–{high})" if low < high else rank, standing.letters[row.name]
    cells = [rank, group, row.backbone, "–" if row.runs[0].external else row.init, row.method]
    cells.append(spell(row.summaries["frequent"]["auroc"]))
    if compared and standing is not None:
        found = standing.baseline.get(row.name)
        own = "baseline" if row.name in standing.baselines else "–"
        cells += (
            [own, ""] if found is None else [spell_difference(found.differences["auroc"]), spell_p(found.p_adjusted)]
        )
    cells.append(spell(row.summaries["frequent"]["average_precision"]))
    cells += [spell(row.summaries["all"]["auroc"])] if narrow else []
    cells += [str(row.num_trials or "–")] if tuned else []
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
        lines.append(
            f"- Baseline: {whose}. {_rows(len(found))} tested against it (Holm over {len(found)}); "
            f"resolvable difference {_range([one.resolvable for one in found])}."
        )
        better = [one.first for one in found if one.significant and one.differences["auroc"].interval.value > 0]
        worse = [one.first for one in found if one.significant and one.differences["auroc"].interval.value < 0]
        lines += [f"- Better than the baseline: {', '.join(better) or 'none'}; worse: {', '.join(worse) or 'none'}."]
    elif standing.undecided:
        lines.append(f"- No row is tested against a baseline: {standing.undecided}.")
    elif plan.baseline:
        lines.append(f"- The declared baseline, {plan.baseline}, has no run here that a row could be paired with.")
    if absent := plan.absent([row.name for row in board.rows]):
        lines.append(f"- Declared to be tested, and not here: {', '.join(absent)}.")
    if standing.pairs:
        lines.append(
            f"- Groups: rows that share a letter are not told apart (Holm over all pairs, {len(standing.pairs)}); "
            f"resolvable difference of a pair {_range([one.resolvable for one in standing.pairs])}."
        )
    equal = [f"{one.first} = {one.second}" for one in standing.pairs if one.practically_equal]
    lines.append(f"- Practically equal (the whole interval within ±{margin}): {'; '.join(equal) or 'no pair'}.")
    split = [one for one in standing.pairs if (one.permutation_p <= 0.05) != (one.placement_p <= 0.05)]
    if split:
        lines.append(
            f"- In {len(split)} of {len(standing.pairs)} pairs the permutation test and the interval disagree at the "
            "5 % level before Holm: the larger p counts."
        )
    return [*lines, ""]


def _rows(number: int) -> str:
    return f"{number} row" + "s" * (number != 1)


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.4f}", f"{max(values):.4f}"
    return low if low == high else f"{low} to {high}"


def _costs(board: Board) -> list[str]:
    head = ["row", "patient sd", "run sd", "trained parameters", "minutes", "peak MiB", "commit", "machine"]
    lines = markdown_table(head, [_cost(place, row) for place, row in enumerate(board.rows, 1)])
    lines += [f"{place}. {_command(row.runs[0])}" for place, row in enumerate(board.rows, 1)]
    origins = dict.fromkeys(_origin(row.runs[0]) for row in board.rows)
    lines += ["", *(line for origin in origins if origin for line in (origin, ""))]
    return folded("Cost, spread, origin and command of each row", lines)


def _cost(place: int, row: Row) -> list[str]:
    summary = row.summaries["frequent"]["auroc"]
    spread = [summary.patient_sd, summary.run_sd] if isinstance(summary, Summary) else [math.nan, math.nan]
    cells = [str(place), *("–" if math.isnan(sd) else f"{sd:.4f}" for sd in spread)]
    runs = [run.document for run in row.runs]
    if row.runs[0].external:
        return [*cells, "–", "–", "–", "–", "–"]
    peaks = [run["cost"]["peak_memory_mib"] for run in runs if "cost" in run]
    versions = [run.get("environment", {}) for run in runs]
    commits = dict.fromkeys(_short(one["git_commit"]) for one in versions if "git_commit" in one)
    machines = dict.fromkeys(f"{one['device']}, torch {one['torch']}" for one in versions if "device" in one)
    return [
        *cells,
        f"{max(phase['trainable_parameters'] for phase in runs[0]['training']):,}",
        f"{minutes(row):.1f}",
        f"{max(peaks):,.0f}" if peaks else "–",
        ", ".join(commits) or "–",
        "; ".join(machines) or "–",
    ]


def minutes(row: Row) -> float:
    """Training time of a run, the mean over runs."""
    return float(np.mean([sum(phase["seconds"] for phase in run.document["training"]) for run in row.runs])) / 60


def _short(commit: str | None) -> str:
    return "unknown" if commit is None else f"`{commit[:7]}`" + ("-dirty" if commit.endswith("-dirty") else "")


def _command(run: Result) -> str:
    return f"`{run.cell['command']}`" if run.cell["command"] else "scores made elsewhere"


def _origin(run: Result) -> str:
    """Where weights come from that an earlier run of ours left; empty for others."""
    init = run.document["init"]
    facts = init.get("facts", {})
    if "command" not in facts:
        return ""
    return f"`{init['name']}` are the weights that `{facts['command']}` left, trained on {facts['trained_on']}."


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
    phases = [p for b in boards for row in b.rows for p in row.runs[0].document["training"]]
    selections = [words for name, words in SELECTIONS.items() if name in {phase["selection"] for phase in phases}]
    recomputed = (
        "Recomputed from the predictions and the dataset's labels."
        if all(board.recomputed for board in boards)
        else "Copied from the results: the dataset was not at hand to recompute them."
    )
    searched = (
        "trials: settings of the method tried on fold 9, of which the best is the row. "
        if any(row.num_trials for board in boards for row in board.rows)
        else ""
    )
    return [
        "---",
        "",
        "Folds 1-8 train, 9 selects, 10 tests. Every statement counts as a label, whatever its likelihood; records "
        "without a label of the task are dropped (Strodthoff et al. 2020). macro AUROC and macro AP (average "
        "precision) are means over the labels with at least 10 positives in fold 10. In brackets: 95 % percentile "
        f"intervals over {NUM_DRAWS:,} draws of fold 10's patients, the same for every row, their mean moved to the "
        "value; for several runs the variance between them is added, and both standard deviations stand with the "
        "costs. AP depends on how many positives there are, so its interval is for folds of this size. Ranks in "
        "brackets: the middle 95 % over the same draws. A difference is the mean over runs paired by draw and seed; "
        f"its p is the larger of a test that swaps whole patients' ranks ({NUM_PERMUTATIONS:,} permutations) and of "
        "the interval's, as the first is blind to how much runs vary, and is adjusted by Holm over the family named "
        "below each table; the resolvable difference is 2.8 standard errors, found in 80 % of studies. "
        f"Weights of each phase: {' or '.join(selections) or 'unknown'}. \\* fewer than three runs: how much training "
        "varies is not known. init `own:` are weights of a run of ours, by hash. external: scores that were made "
        f"elsewhere. {searched}Pictures leave out rows of constant scores. {recomputed}",
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


def write_pages(
    boards: Sequence[Board],
    folder: Path,
    around: Surroundings | None = None,
    pictures: Pictures = {},
    links: Links = {},
) -> list[Path]:
    """Write `<dataset>/<task>.md` for all boards and README.md, the index; returns what was written."""
    by_page: dict[tuple[str, str], list[Board]] = defaultdict(list)
    for board in boards:
        by_page[board.dataset, board.task].append(board)
    written, entries = [], []
    for (dataset, task), group in by_page.items():
        path = folder / dataset / f"{task}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(group, around, pictures, links.get((dataset, task), ())), encoding="utf-8")
        written.append(path)
        num_rows = sum(len(board.rows) for board in group)
        best = max((row for board in group for row in board.rows), key=lambda row: row.score, default=None)
        words = f"{spell(best.summaries['frequent']['auroc'])}: {best.name}" if best else ""
        entries.append([dataset, f"[{task}]({dataset}/{task}.md)", str(num_rows), words])
    index = ["# Leaderboards", ""]
    if around and around.reported:
        index += ["Published numbers against ours, one by one: [LEDGER.md](LEDGER.md).", ""]
    index += markdown_table(["dataset", "task", "rows", "best macro AUROC"], entries, left=2) if entries else []
    path = folder / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(index), encoding="utf-8")
    return [*written, path]
