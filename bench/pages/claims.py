"""Published claims that one method is better than another, and what our runs say of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.boards.comparisons import ALPHA, Comparison, compare_pairs
from bench.boards.declared import EXPLORATORY
from bench.boards.rows import Board, Row, interval_of
from bench.data.tasks import LabelTable
from bench.evaluation.bootstrap import Summary
from bench.evaluation.compare import interval_p, resolvable_difference
from bench.pages.conditions import condition
from bench.pages.markdown import folded, markdown_table
from bench.pages.page import spell_difference, spell_p

MODEL = ("ecgfounder", "pretrained")
"""The backbone and init that the claims are of."""
NAMES = {"auroc": "AUROC", "average_precision": "AP"}
EXCLUDED = "published size excluded"
STATUSES = (
    "confirmed",
    f"direction confirmed, {EXCLUDED}",
    "contradicted",
    f"contradicted, {EXCLUDED}",
    "not settled",
    f"not settled, {EXCLUDED}",
    "no run of ours",
)
COUNTS = ("no", "one", "two")


@dataclass(frozen=True)
class Finding:
    """What our runs say of a claim at one task, on one backbone."""

    claim: Mapping[str, str]
    """A row of claims.csv: claim, better, worse, tasks, metric, fraction, than_fraction, gain, gain_low, gain_high,
    source; gain_low and gain_high in percent, empty where no number was published for this model."""
    task: str
    model: tuple[str, str] = MODEL
    """Backbone and init."""
    difference: Summary | None = None
    """None: no run of ours."""
    relative: float = math.nan
    """The difference over the value of what should be worse."""
    relative_low: float = math.nan
    relative_high: float = math.nan
    """The bounds of the difference over the same value."""
    p: float = math.nan
    """Of AUROC: the pair's one p-value, as on its board. Of AP: by the standard error, not corrected."""
    role: str = EXPLORATORY
    """The pair's role on its board."""
    condition: str = ""
    """The training records and weights that the runs share."""

    @property
    def verdict(self) -> str:
        """One of STATUSES."""
        if self.difference is None:
            return "no run of ours"
        if self.difference.few_runs:
            return "not settled"
        if self.p > ALPHA:
            direction = "not settled"
        elif self.difference.interval.value < 0:
            direction = "contradicted"
        else:
            direction = "direction confirmed" if self.size_differs else "confirmed"
        return f"{direction}, {EXCLUDED}" if self.size_differs else direction

    @property
    def size_differs(self) -> bool:
        """Whether all of the published gain lies outside the interval of ours."""
        low, high = (self.claim.get(key) or "" for key in ("gain_low", "gain_high"))
        if not low or not high:
            return False
        return float(high) / 100 < self.relative_low or float(low) / 100 > self.relative_high

    @property
    def status(self) -> str:
        """The verdict in words, with its condition; few runs, and another model than the claim's, are named."""
        if self.difference is None:
            return self.verdict
        words = self.verdict
        if self.difference.few_runs:
            runs = self.difference.num_runs
            words += f": {COUNTS[runs]} run" + "s" * (runs != 1)
        words += "" if self.model == MODEL else ", on another model"
        words += f", {self.condition}" if self.condition else ""
        is_open = self.claim["metric"] == "auroc" and self.role == EXPLORATORY
        return f"{words} (exploratory)" if is_open else words


def claim_lines(boards: Sequence[Board], claims: Sequence[Mapping[str, str]]) -> list[str]:
    """The ledger's part on claims, for boards of one dataset."""
    found = [finding for claim in claims for finding in _judge(claim, boards)]
    head = ["claim", "task", "metric", "published gain", "ours", "difference", "relative", "p", "resolvable"]
    lines = [
        "## Claims",
        "",
        f"{len(claims)} claims of {', '.join(dict.fromkeys(claim['source'] for claim in claims))}, task by task, on "
        f"their own model, {MODEL[0]} ({MODEL[1]}): {_tally([one for one in found if one.model == MODEL])}. On other "
        f"models: {_tally([one for one in found if one.model != MODEL])}.",
        "",
        "- Compared are our methods at their defaults, over runs paired by draw and seed, on frequent labels (at least "
        "10 positives in fold 10).",
        "- Confirmed: a difference above 0 with p of at most 0.05. Contradicted: a difference below 0 with such a p. "
        "Else, and with fewer than three pairs of runs, not settled.",
        "- p of AUROC: the pair's on its board (PROTOCOL.md, section 8). A pair that its board does not declare is "
        "exploratory. p of AP, and of AUROC over two shares of the records: not corrected; AP has no permutation test. "
        "Each task is a study of its own: of 100 tasks without a difference, 5 would be settled.",
        "- Published size excluded: the published gain lies outside our interval, whether or not the direction is "
        "settled. Published gains are, we believe, relative ones, so ours are divided by the value of the second "
        "method; its own doubt is left out.",
        "- Each status names its condition: one or two draws give a claim on these subsets of the records, and a "
        "single checkpoint gives a claim from these weights.",
        "- Resolvable: a true difference of this size would be found in 80 % of studies like this one, before Holm.",
        "",
    ]
    judged = [_cells(one) for one in found if one.difference is not None]
    lines += markdown_table([*head, "status"], judged, left=5) if judged else []
    waiting = [_words(one) for one in found if one.difference is None]
    return lines + (folded("No run of ours", markdown_table(head[:5], waiting, left=5)) if waiting else [])


def _tally(found: Sequence[Finding]) -> str:
    counts = {status: sum(one.verdict == status for one in found) for status in STATUSES}
    return ", ".join(f"{number} {status}" for status, number in counts.items() if number) or "none"


def _words(one: Finding) -> list[str]:
    claim = one.claim
    ours = f"{claim['better']} minus {claim['worse']}"
    return [claim["claim"], one.task, NAMES[claim["metric"]] + _shares(claim), claim["gain"], ours]


def _cells(one: Finding) -> list[str]:
    assert one.difference is not None
    *words, ours = _words(one)
    ours += f" on {one.model[0]} ({one.model[1]}), {one.difference.num_runs} pairs"
    low, high = 100 * one.relative_low, 100 * one.relative_high
    relative = f"{100 * one.relative:+.1f} % ({low:+.1f} to {high:+.1f})".replace("-", "−")
    numbers = [spell_difference(one.difference), relative, spell_p(one.p)]
    return [*words, ours, *numbers, f"{resolvable_difference(one.difference):.4f}", one.status]


def _shares(claim: Mapping[str, str]) -> str:
    """On how many of the training records; nothing where both methods have all."""
    better, worse = claim["fraction"], claim["than_fraction"]
    if better == worse:
        return "" if better == "1" else f", {better} of the records"
    return f", {better} of the records against {worse}"


def _judge(claim: Mapping[str, str], boards: Sequence[Board]) -> list[Finding]:
    """A finding a task and backbone that has both rows, and for a task without the claim's model that there is none."""
    tested, found = [], []
    for task in claim["tasks"].split():
        pairs = list(_pairs(claim, task, boards))
        tested += [(task, *pair) for pair in pairs]
        found += [Finding(claim, task)] * (MODEL not in [_model(better) for better, _, _ in pairs])
    compared = [
        compare_pairs({"b": better.scored, "w": worse.scored}, [("b", "w")], 0.0, truth)[0]
        for _, better, worse, truth in tested
    ]
    metric = claim["metric"]
    for (task, better, worse, _), one in zip(tested, compared, strict=True):
        on_board = _on_board(better, worse, boards)
        p = (on_board.p_adjusted if on_board else one.p) if metric == "auroc" else interval_p(one.differences[metric])
        difference = one.differences[metric]
        value = interval_of(worse.summaries["frequent"][metric]).value
        bounds = difference.interval
        relative, low, high = (bound / value for bound in (bounds.value, bounds.low, bounds.high))
        found.append(
            Finding(
                claim,
                task,
                _model(better),
                difference,
                relative,
                low,
                high,
                float(p),
                on_board.role if on_board else EXPLORATORY,
                condition([better, worse], one.places),
            )
        )
    return sorted(found, key=lambda one: claim["tasks"].split().index(one.task))


def _on_board(better: Row, worse: Row, boards: Sequence[Board]) -> Comparison | None:
    """Return the comparison of two rows on the board that has both; None where there is none, or it was not judged."""
    for board in boards:
        if board.standing and better in board.rows and worse in board.rows:
            names = {better.name, worse.name}
            return next((one for one in board.standing.pairs if {one.first, one.second} == names), None)
    return None


def _pairs(claim: Mapping[str, str], task: str, boards: Sequence[Board]) -> Iterator[tuple[Row, Row, LabelTable]]:
    """Rows of both methods at their defaults on one backbone, from weights that are not random, with a run to pair."""
    rows: dict[str, list[Row]] = {}
    for fraction in ("fraction", "than_fraction"):
        rows[fraction] = [
            row for b in boards if (b.task, b.fraction) == (task, float(claim[fraction])) and b.truth for row in b.rows
        ]
    truth = next((board.truth for board in boards if board.task == task and board.truth), None)
    for better in rows["fraction"]:
        for worse in rows["than_fraction"]:
            same = (better.backbone, better.init) == (worse.backbone, worse.init) and better.init != "random"
            methods = (better.method, worse.method) == (claim["better"], claim["worse"])
            if truth and same and methods and set(better.scored) & set(worse.scored):
                yield better, worse, truth


def _model(row: Row) -> tuple[str, str]:
    """Backbone, whatever its precision, and init."""
    return row.backbone.removesuffix(", bf16"), row.init
