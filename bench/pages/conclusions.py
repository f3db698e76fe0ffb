"""Write what a board shows, in sentences: its baseline, declared contrasts, exploratory pairs and equal rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from bench.boards.comparisons import ALPHA, Comparison
from bench.boards.declared import EXPLORATORY, FAMILY, PRIMARY
from bench.boards.rows import Board, Row
from bench.boards.studies import DEFAULTS
from bench.pages.conditions import condition_of
from bench.pages.names import places, recipe, short_method
from bench.pages.spelling import equals, over_all_records, spell_difference, spell_p, spell_range
from bench.results.external import ALL_RECORDS

DECLARED = {
    None: "",
    True: ", declared with the family before any result of this task",
    False: ", declared with the family after first results of this task: no pre-registration",
}
CLOSE_EFFECT = 2
"""If a claimed difference is smaller than this many margins, the page doubts the margin: see `margin_question`."""


def conclusions(board: Board) -> list[str]:
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
            f"- Fewer than three runs: {_enumerated(few)}. They hardly tell how much runs vary. "
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
            which += ", tuned if the row is" if len(tuned) > 1 else ""
        pairs = list(standing.baseline.values())
        resolvable = spell_range([pair.resolvable for pair in pairs])
        it = "it" if len(standing.baselines) == 1 else "theirs"
        words = f"{_rows(len(pairs))} compared with {it}; resolvable difference of macro AUROC {resolvable}"
        lines.append(f"- Baseline: {which}. {words}.")
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
            f"- Primary contrast: {board.plan.primary}{DECLARED[board.plan.preregistered]}. Each backbone and init, "
            "tuned or not, is a study of its own, tested at 5 %; nothing is corrected over studies. "
            f"{_on_conditions(board, primary, _with_p)}."
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
        f"difference of a pair {spell_range([pair.resolvable for pair in others if pair.resolvable] or [0.0])}."
    ]


def _forward(board: Board, pair: Comparison) -> Comparison:
    """Return the pair in the direction in which it was declared."""
    tuned = {row.name for row in board.rows if row.num_trials}
    roles = board.plan.roles([row.name for row in board.rows], tuned)
    return pair if (pair.first, pair.second) in roles else -pair


def all_records_lines(board: Board) -> list[str]:
    """Return a sentence for each row that was also scored on all records of fold 10; these scores are not ranked."""
    compat = [(place, run.document.get("compat", {})) for place, row in enumerate(board.rows, 1) for run in row.runs]
    lines = [
        f"- Row {place}, {over_all_records(scored[ALL_RECORDS])}; not ranked."
        for place, scored in compat
        if ALL_RECORDS in scored
    ]
    return [*lines, ""] if lines else []


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
    difference, p = spell_difference(pair.differences["auroc"]), equals(spell_p(pair.p_adjusted))
    return f"{names[0]} − {names[1]} {difference}, p {p}{verdict}"


def _enumerated(numbers: Sequence[int]) -> str:
    return f"row{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def margin_question(boards: Sequence[Board]) -> list[str]:
    """Return a sentence that doubts the margin if the page claims differences of about its size; else empty."""
    lines = []
    for margin in dict.fromkeys(board.plan.margin for board in boards):
        pairs = [pair for b in boards if b.standing and b.plan.margin == margin for pair in b.standing.pairs]
        claimed = [
            abs(pair.differences["auroc"].interval.value) for pair in pairs if pair.claimed and pair.role != EXPLORATORY
        ]
        is_used = any(pair.practically_equal for pair in pairs)
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
    return short_method(row) + ("" if recipe(row) == DEFAULTS else f", {recipe(row)}")


def _rows(number: int) -> str:
    return f"{number} row" + "s" * (number != 1)
