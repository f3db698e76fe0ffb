"""Published claims that one method is better than another, and what our runs say of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.data.tasks import LabelTable
from bench.evaluation.bootstrap import Summary
from bench.evaluation.compare import holm, interval_p, resolvable_difference
from bench.reporting.boards import Board, Row, interval_of
from bench.reporting.comparisons import ALPHA, compare_pairs
from bench.reporting.pages import folded, markdown_table, spell_difference, spell_p

MODEL = ("ecgfounder", "pretrained")
"""The backbone and init that the claims are of."""
NAMES = {"auroc": "AUROC", "average_precision": "AP"}
STATUSES = ("confirmed", "contradicted", "not settled", "no run of ours")


@dataclass(frozen=True)
class Finding:
    """What our runs say of a claim at one task, on one backbone."""

    claim: Mapping[str, str]
    """A row of claims.csv: claim, better, worse, tasks, metric, fraction, than_fraction, gain, source."""
    task: str
    model: tuple[str, str] = MODEL
    """Backbone and init."""
    difference: Summary | None = None
    """None: no run of ours."""
    relative: float = math.nan
    """The difference over the value of what should be worse."""
    p: float = math.nan
    """Adjusted over all that was tested of the claim."""

    @property
    def status(self) -> str:
        """One of STATUSES; on another model than the claim's, that is said."""
        if self.difference is None:
            return "no run of ours"
        found = "not settled"
        if self.p <= ALPHA:
            found = "confirmed" if self.difference.interval.value > 0 else "contradicted"
        return found if self.model == MODEL else f"{found}, on another model"


def claim_lines(boards: Sequence[Board], claims: Sequence[Mapping[str, str]]) -> list[str]:
    """The ledger's part on claims, for boards of one dataset."""
    found = [finding for claim in claims for finding in _judge(claim, boards)]
    head = ["claim", "task", "metric", "published gain", "ours", "difference", "relative", "p, Holm", "resolvable"]
    lines = [
        "## Claims",
        "",
        f"{len(claims)} claims of {', '.join(dict.fromkeys(claim['source'] for claim in claims))}, task by task: "
        + ", ".join(f"{sum(one.status == status for one in found)} {status}" for status in STATUSES)
        + f"; {sum('another' in one.status for one in found)} on another model.",
        "",
        "A claim is confirmed by a difference above 0, and contradicted by one below, over runs paired by draw and "
        "seed and labels with at least 10 positives, whose p is at most 0.05 after Holm over all that was tested of "
        "the claim; else it is not settled, and a true difference below the resolvable one would mostly be missed. "
        "For AUROC p is the larger of permutation test and interval, for AP the interval's. Methods are ours at their "
        f"defaults, on {MODEL[0]} ({MODEL[1]}); other backbones with pre-trained weights are marked. The published "
        "gains are, we believe, relative ones.",
        "",
    ]
    judged = [_cells(one) for one in found if one.difference is not None]
    lines += markdown_table([*head, "status"], judged, left=5) if judged else []
    waiting = [_words(one) for one in found if one.difference is None]
    return lines + (folded("No run of ours", markdown_table(head[:5], waiting, left=5)) if waiting else [])


def _words(one: Finding) -> list[str]:
    claim = one.claim
    ours = f"{claim['better']} minus {claim['worse']}"
    return [claim["claim"], one.task, NAMES[claim["metric"]] + _shares(claim), claim["gain"], ours]


def _cells(one: Finding) -> list[str]:
    assert one.difference is not None
    *words, ours = _words(one)
    ours += f" on {one.model[0]} ({one.model[1]}), {one.difference.num_runs} pairs"
    numbers = [spell_difference(one.difference), f"{100 * one.relative:+.1f} %".replace("-", "−"), spell_p(one.p)]
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
    p = holm([one.p if metric == "auroc" else interval_p(one.differences[metric]) for one in compared])
    for (task, better, worse, _), one, adjusted in zip(tested, compared, p, strict=True):
        difference = one.differences[metric]
        relative = difference.interval.value / interval_of(worse.summaries["frequent"][metric]).value
        found.append(Finding(claim, task, _model(better), difference, relative, float(adjusted)))
    return sorted(found, key=lambda one: claim["tasks"].split().index(one.task))


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
