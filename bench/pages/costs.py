"""Write the folded section about each row's cost, selection, command and initial weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.boards.rows import Board, Row
from bench.evaluation.bootstrap import Summary
from bench.pages.markdown import folded, markdown_table, sentence
from bench.pages.names import recipe
from bench.pages.spelling import STEPS, spell_steps
from bench.results.document import quoted
from bench.results.result import Result

SELECTIONS = {
    "best": "the epoch of the best fold-9 macro AUROC over all labels",
    "lowest-loss": "the epoch of the lowest fold-9 loss",
    "last": "the last epoch",
}

AFTER_OTHERS = "VmHWM"
"""How earlier versions measured memory on CPUs: in processes that may have run other cells before."""


def cost_lines(board: Board) -> list[str]:
    """Return a folded section with the cost table, its notes, the commands and the origin of weights."""
    tuned = any(row.num_trials for row in board.rows)
    head = ["row", *costs(board.rows[0], tuned)]
    rows = [[str(place), *costs(row, tuned).values()] for place, row in enumerate(board.rows, 1)]
    lines = markdown_table(head, rows)
    lines += [*_notes(board), ""]
    lines += [f"{place}. {_run(row.runs[0], board.plan.starts)}" for place, row in enumerate(board.rows, 1)]
    lines += ["", *(line for words in _origins(board) for line in (words, ""))]
    return folded("Cost, spread, selection, origin of weights, and command of each row's first run", lines)


def terms_lines(board: Board) -> list[str]:
    """Return the terms of a board's published weights as a list in Markdown."""
    lines = [f"- {sentence(line)}" for line in terms(board)]
    return [*lines, ""] if lines else []


def terms(board: Board) -> list[str]:
    """Return a sentence on each kind of published weights: source, licence, and whether PTB-XL was seen."""
    words: dict[str, None] = {}
    for row in board.rows:
        init = row.runs[0].document["init"]
        given = init.get("facts", {}).get("terms")
        if not isinstance(given, Mapping):
            continue
        use = ", non-commercial use only" if given.get("noncommercial") else ""
        data = f"; pre-trained on {given['pretraining_data']}" if given.get("pretraining_data") else ""
        stated = f" ({given['source']})" if given.get("source") else ""
        line = f"{_published(init, row.runs[0].cell['arch'])}; licence {given.get('license')}{use}{data}; "
        line += f"PTB-XL seen in pre-training: {given.get('ptbxl_seen')}{stated}."
        words[line] = None
    return list(words)


def _published(init: Mapping[str, Any], arch: str) -> str:
    """Return which published weights an init has or comes from, and whether that was checked."""
    facts = init["facts"]
    origin = facts.get("repo") or facts.get("from") or f"the file `{facts.get('file')}`"
    if "command" in facts:
        return f"`{init['name']}` of {arch} was trained from published weights: {origin}"
    if init["name"].startswith("file:"):
        return f"`{init['name']}` of {arch}, from {origin}, was compared with no published hash; if it is published"
    compared = ", compared with no published hash" if facts.get("unverified") else ""
    return f"Published weights of {arch}: {origin}{compared}"


def costs(row: Row, tuned: bool) -> dict[str, str]:
    """Return head -> cell of the cost table of a row; `tuned`: with the number of trials."""
    summary = row.summaries["frequent"]["auroc"]
    spread = [summary.patient_sd, summary.run_sd] if isinstance(summary, Summary) else [math.nan, math.nan]
    sds = ["–" if math.isnan(sd) else f"{sd:.4f}" for sd in spread]
    runs = [] if row.runs[0].external else [run.document for run in row.runs]
    peaks = [peak for run in runs if (peak := _peak_memory_mib(run)) is not None]
    versions = [run.get("environment", {}) for run in runs]
    commits = dict.fromkeys(_short(version["git_commit"]) for version in versions if "git_commit" in version)
    machines = dict.fromkeys(
        f"{version['device']}, torch {version['torch']}" for version in versions if "device" in version
    )
    phases = runs[0]["training"] if runs else []
    trained = f"{max((phase['trainable_parameters'] for phase in phases), default=0):,}"
    return {
        "trained parameters": trained if runs else "–",
        "steps": " or ".join(dict.fromkeys(map(spell_steps, row.runs))) or "–",
        "selection": ", ".join(dict.fromkeys(phase["selection"] for phase in phases)) if runs else "–",
        **({"trials": str(row.num_trials or "–")} if tuned else {}),
        "minutes": _spell_minutes(row) if runs else "–",
        "peak MiB": f"{max(peaks):,.0f}" if peaks else "–",
        "patient sd": sds[0],
        "run sd": sds[1],
        "commit": ", ".join(commits) or "–",
        "machine": "; ".join(machines) or "–",
    }


def _peak_memory_mib(run: Mapping[str, Any]) -> float | None:
    """Return the peak memory of a run in MiB; None if it is not known to be the run's own.

    A result that does not record how it was measured, or by AFTER_OTHERS, may have memory of an earlier cell.
    """
    cost = run.get("cost", {})
    known = cost.get("peak_memory_measured_by") not in (None, AFTER_OTHERS)
    return cost.get("peak_memory_mib") if known else None


def _spell_minutes(row: Row) -> str:
    mean, low, high = (f"{value:.1f}" for value in (minutes(row), min(_minutes(row)), max(_minutes(row))))
    words = "< 0.1" if mean == "0.0" else mean + (f" ({low}–{high})" if low != high else "")
    return words + "‡" * leaves_out_features(row)


def minutes(row: Row) -> float:
    """Return the training time of a run in minutes, the mean over runs."""
    of_runs = _minutes(row)
    return sum(of_runs) / len(of_runs)


def _minutes(row: Row) -> list[float]:
    return [sum(phase["seconds"] for phase in run.document["training"]) / 60 for run in row.runs]


def leaves_out_features(row: Row) -> bool:
    """Return whether the training time may lack the computation of a frozen backbone's features.

    An earlier run may have cached the features. A phase that records `feature_seconds` includes that time.
    """
    phases = [phase for run in row.runs for phase in run.document.get("training", ())]
    return any(phase.get("on_features") and phase.get("feature_seconds") is None for phase in phases)


def _notes(board: Board) -> list[str]:
    rows = [row for row in board.rows if not row.runs[0].external]
    used = {phase["selection"] for row in rows for phase in row.runs[0].document["training"]}
    known = [f"`{name}`, {words}" for name, words in SELECTIONS.items() if name in used]
    notes = [f"- Selection: the weights that a phase ends with: {'; '.join(known)}."] if known else []
    if any(row.num_trials for row in board.rows):
        notes.append("- Trials: settings of the method that were tried on fold 9; the row is the best of them.")
    if any(run.steps for row in rows for run in row.runs):
        notes.append(f"- Steps: {STEPS}")
    if rows:
        notes.append(
            "- Minutes: wall-clock time of training, mean and range of a row's runs. Other work shared the machines, "
            "so equal runs differ in time."
        )
    if any(_peak_memory_mib(run.document) is None for row in rows for run in row.runs):
        notes.append("- Peak MiB: – where the memory of earlier runs of the same process may be in the figure.")
    if any(map(leaves_out_features, rows)):
        notes.append(
            "- ‡ A phase with a frozen backbone trains on features that are computed once. Where an earlier run had "
            "left them, their time is not counted."
        )
    return [
        *notes,
        "- Patient sd and run sd: standard deviations of macro AUROC (frequent labels) over replicates of patients and "
        "over runs.",
    ]


def _short(commit: str | None) -> str:
    return "unknown" if commit is None else f"`{commit[:7]}`" + ("-dirty" if commit.endswith("-dirty") else "")


def command_of(run: Result, starts: Mapping[str, str]) -> str:
    """Return the command of a run; empty for scores made elsewhere. `starts` is as in `BoardPlan`.

    A path to initial weights on that run's machine tells nobody else, so their declared place, or their name, stands
    for it.
    """
    command, start = run.cell["command"] or "", run.document["init"]["name"]
    if (asked := run.cell.get("init")) and ":" in start:
        command = command.replace(f"--init {quoted(asked)}", f"--init {quoted(starts.get(start, start))}")
    return str(command)


def _run(run: Result, starts: Mapping[str, str]) -> str:
    start = run.document["init"]
    weights = f", weights `{start['sha256'][:12]}`" if start.get("sha256") and start["name"] != "random" else ""
    command = command_of(run, starts)
    lost = ", no file of them is published" if _is_lost(start["name"], starts) else ""
    return f"`{command}`{weights}{lost}" if command else "scores made elsewhere"


def _is_lost(start: str, starts: Mapping[str, str]) -> bool:
    """Return whether weights that a run left have no declared place, so that nobody else can start from them."""
    return start.startswith("own:") and start not in starts


def _origins(board: Board) -> list[str]:
    """Return the origin of initial weights that are neither random nor published, one paragraph for each."""
    starts: dict[str, Mapping[str, Any]] = {}
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in board.rows:
        init = row.runs[0].document["init"]
        if "command" in init.get("facts", {}) or init["name"].startswith("file:"):
            starts[init["name"]] = init
            rows[init["name"]].append(row)
    places = board.plan.starts
    words = ["After `--init`, a name with a hash stands for a file of these weights."] * bool(starts.keys() - places)
    if lost := [f"`{name}`" for name in starts if _is_lost(name, places)]:
        words += [f"No file of {', '.join(lost)} is published: a command with such a name cannot be run as it stands."]
    words += [_origin(init, rows[name], places.get(name, "")) for name, init in starts.items()]
    by_digest = defaultdict(list)
    for name, init in starts.items():
        by_digest[init["facts"].get("digest", name)].append(name)
    return [*words, *(_twins(names, rows) for names in by_digest.values() if len(names) > 1)]


def _origin(init: Mapping[str, Any], rows: Sequence[Row], place: str) -> str:
    """Return where initial weights come from; `place`: where they can be had, or empty."""
    facts = init["facts"]
    known = [*([f"in `{place}`"] if place else []), *([f"SHA-256 `{init['sha256']}`"] if "sha256" in init else [])]
    name = f"`{init['name']}`" + (f" ({', '.join(known)})" if known else "")
    if "command" not in facts:
        file = f" (SHA-256 `{facts['file_sha256']}`)" if "file_sha256" in facts else ""
        return f"{name} are weights from the file `{init['source']}`{file}, which no run of this program made."
    words = f"{name} are the weights that `{facts['command']}` left, trained on {facts['trained_on']}"
    if commit := facts.get("git_commit"):
        return f"{words}, by commit {_short(commit)}."
    versions = [run.document.get("environment", {}) for row in rows for run in row.runs]
    commits = dict.fromkeys(_short(version["git_commit"]) for version in versions if "git_commit" in version)
    later = f"; the rows that start from it ran at {', '.join(commits)}" if commits else ""
    return f"{words}. The file does not say by which commit{later}."


def _twins(names: Sequence[str], rows: Mapping[str, Sequence[Row]]) -> str:
    """Return a paragraph about different weights that the same command has produced."""
    listed = " and ".join(f"`{name}`" for name in names)
    words = f"{listed} are different weights, though command and digest of the run that left them are the same."
    facts: dict[str, Callable[[Row], str]] = {"Recipe": recipe, "Backbone": lambda row: row.backbone}
    for what, of_row in facts.items():
        of_start = {name: dict.fromkeys(of_row(row) for row in rows[name]) for name in names}
        if len({fact for known in of_start.values() for fact in known}) == sum(map(len, of_start.values())):
            which = ", ".join(f"`{name}` only {' and '.join(known)}" for name, known in of_start.items())
            words += (
                f" {what} and weights are not crossed ({which}): a difference between their rows may come from either."
            )
    return words
