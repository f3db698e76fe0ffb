"""Published claims that a method is better than another, and whether the runs of this benchmark confirm them."""

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
from bench.pages.names import shown_init
from bench.pages.spelling import spell_difference, spell_p

MODEL = ("ecgfounder", "pretrained")
"""Backbone and init that the claims are about."""
NAMES = {"auroc": "AUROC", "average_precision": "AP"}
NO_RUN = "no run here"
EXCLUDED = "published size excluded"
SEEN, OPPOSED = "direction seen", "opposite direction seen"
"""What is settled on another model than the claim's: it neither confirms nor contradicts the claim."""
STATUSES = (
    "confirmed",
    f"direction confirmed, {EXCLUDED}",
    "contradicted",
    f"contradicted, {EXCLUDED}",
    "not settled",
    f"not settled, {EXCLUDED}",
    SEEN,
    OPPOSED,
    NO_RUN,
)
COUNTS = ("no", "one", "two")


@dataclass(frozen=True)
class Finding:
    """Evidence of this benchmark on a claim, for one task and one backbone."""

    claim: Mapping[str, str]
    """A row of claims.csv: claim, better, worse, tasks, metric, fraction, than_fraction, gain, gain_low, gain_high,
    source. gain_low and gain_high are in percent, and empty if no number was published for this model."""
    task: str
    model: tuple[str, str] = MODEL
    """Backbone and init."""
    start: str = ""
    """Name of the init on the board."""
    difference: Summary | None = None
    """Difference of the metric over frequent labels, better minus worse; None if there is no run."""
    relative: float = math.nan
    """The difference divided by the value of the method that should be worse."""
    relative_low: float = math.nan
    relative_high: float = math.nan
    """The bounds of the difference divided by the same value."""
    p: float = math.nan
    """p-value. For AUROC, the adjusted one of the pair on its board. For AP, from the standard error, not adjusted."""
    role: str = EXPLORATORY
    """The pair's role on its board."""
    condition: str = ""
    """The training records and weights that the runs share."""
    family_size: int = 1
    """Number of comparisons that p is corrected for."""
    num_pairs: int = 0
    """Number of paired runs."""

    @property
    def verdict(self) -> str:
        """Return one of STATUSES."""
        if self.difference is None:
            return NO_RUN
        if self.difference.few_runs:
            return "not settled"
        if self.p > ALPHA:
            direction = "not settled"
        elif self.model != MODEL:
            direction = OPPOSED if self.difference.interval.value < 0 else SEEN
        elif self.difference.interval.value < 0:
            direction = "contradicted"
        else:
            direction = "direction confirmed" if self.size_differs else "confirmed"
        return f"{direction}, {EXCLUDED}" if self.size_differs else direction

    @property
    def size_differs(self) -> bool:
        """Return whether the whole published gain lies outside the interval measured here, on the claim's model."""
        low, high = (self.claim.get(key) or "" for key in ("gain_low", "gain_high"))
        if not low or not high or self.model != MODEL:
            return False
        return float(high) / 100 < self.relative_low or float(low) / 100 > self.relative_high

    @property
    def status(self) -> str:
        """Return the status as text, with its condition and its limits: few runs, another model, no correction."""
        if self.difference is None:
            return self.verdict
        words = self.verdict
        if self.difference.few_runs:
            runs = self.difference.num_runs
            words += f": {COUNTS[runs]} run" + "s" * (runs != 1)
        words += "" if self.model == MODEL else ", on another model"
        words += self._sizes if self.verdict in (SEEN, OPPOSED) else ""
        words += f", {self.condition}" if self.condition else ""
        if self.claim["metric"] != "auroc":
            return f"{words} (p not corrected)"
        return f"{words} ({EXPLORATORY})" if self.role == EXPLORATORY else words

    @property
    def _sizes(self) -> str:
        """The size measured here and the published one."""
        here = f"{100 * self.relative:+.1f} %".replace("-", "−")
        return f" ({here} here, published gain {self.claim['gain']})"

    @property
    def resolvable(self) -> float:
        """Return the smallest true difference that is significant in 80 % of studies with this much variance."""
        assert self.difference is not None
        return resolvable_difference(self.difference, max(self.family_size, 1))


def claim_lines(boards: Sequence[Board], claims: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the Markdown lines of the ledger's part on claims, for boards of one dataset."""
    findings = [finding for claim in claims for finding in _judge(claim, boards)]
    head = ["claim", "task", "metric", "published gain", "compared here", "difference", "relative", "p", "resolvable"]
    lines = [
        "## Claims",
        "",
        f"{len(claims)} claims of {', '.join(dict.fromkeys(claim['source'] for claim in claims))}, task by task, on "
        f"the model of its first version, {MODEL[0]} ({MODEL[1]}): "
        f"{_tally([each for each in findings if each.model == MODEL])}. On other models: "
        f"{_tally([each for each in findings if each.model != MODEL])}{_of(findings)}. Each holds on the "
        "conditions that its status names.",
        "",
        "- The compared rows are methods at their defaults, from pre-trained weights. Their runs are paired by draw "
        "and seed. The metric is over frequent labels: those with at least 10 positives and 10 negatives in fold 10.",
        f"- Confirmed: the difference is above 0 and p is at most {ALPHA}. Contradicted: the difference is below 0 and "
        f"p is at most {ALPHA}. Not settled: all others, and every pair with fewer than three runs.",
        "- Runs of another model confirm and contradict no claim. Direction seen, and opposite direction seen: there "
        f"the difference is above 0, or below 0, and p is at most {ALPHA}; both sizes stand in the status.",
        "- p of AUROC is the pair's on its board (PROTOCOL.md, section 8). A pair that its board does not declare is "
        "exploratory.",
        "- p of AP, and of AUROC over two shares of the records, is not corrected. AP has no permutation test.",
        "- Nothing is corrected over tasks: of 100 tasks without a difference, about 5 would be settled.",
        "- Published size excluded: the whole published gain lies outside the interval measured here, whether or not "
        "the direction is settled. Published gains are taken as relative ones. So the difference is divided by the "
        "value of the second method, whose own uncertainty is left out. Not judged on another model, "
        "nor where the source names no task or gives no number for this model.",
        "- Condition: with one or two draws a claim holds on these subsets of the records. With a single checkpoint it "
        "holds from these weights.",
        "- Resolvable: the true difference that 80 % of studies as noisy as this one claim by the first step of Holm "
        "within the pair's role; for a p that is not corrected, as a single test.",
        "",
    ]
    judged = [_cells(finding) for finding in findings if finding.difference is not None]
    lines += markdown_table([*head, "status"], judged, left=5) if judged else []
    waiting = [_words(finding) for finding in findings if finding.difference is None]
    return lines + (folded(NO_RUN.capitalize(), markdown_table(head[:5], waiting, left=5)) if waiting else [])


def _of(findings: Sequence[Finding]) -> str:
    """Return of how many claims the findings on other models are."""
    num = len({(finding.claim["claim"], finding.claim["metric"]) for finding in findings if finding.model != MODEL})
    return f" (on {num} of these claims)" if num else ""


def _tally(findings: Sequence[Finding]) -> str:
    counts = {status: sum(finding.verdict == status for finding in findings) for status in STATUSES}
    return "; ".join(f"{number} {status}" for status, number in counts.items() if number) or "none"


def _words(finding: Finding) -> list[str]:
    """Return the cells [5] that name a claim: claim, task, metric, published gain, contrast."""
    claim = finding.claim
    contrast = f"{claim['better']} minus {claim['worse']}"
    return [claim["claim"], finding.task, NAMES[claim["metric"]] + _shares(claim), claim["gain"], contrast]


def _cells(finding: Finding) -> list[str]:
    assert finding.difference is not None
    *words, contrast = _words(finding)
    num = finding.num_pairs
    contrast += f" on {finding.model[0]} ({finding.start}), {num} pair{'s' * (num > 1)} of runs"
    low, high = 100 * finding.relative_low, 100 * finding.relative_high
    relative = f"{100 * finding.relative:+.1f} % ({low:+.1f} to {high:+.1f})".replace("-", "−")
    numbers = [spell_difference(finding.difference), relative, spell_p(finding.p)]
    return [*words, contrast, *numbers, f"{finding.resolvable:.4f}", finding.status]


def _shares(claim: Mapping[str, str]) -> str:
    """Return the share of the training records that a claim is about; empty if both methods use all."""
    better, worse = claim["fraction"], claim["than_fraction"]
    if better == worse:
        return "" if better == "1" else f", {better} of the records"
    return f", {better} of the records against {worse}"


def _judge(claim: Mapping[str, str], boards: Sequence[Board]) -> list[Finding]:
    """Return a finding for each task and backbone with both rows, and an empty one for each task without MODEL."""
    findings = []
    for task in claim["tasks"].split():
        pairs = list(_pairs(claim, task, boards))
        findings += [_finding(claim, task, better, worse, truth, boards) for better, worse, truth in pairs]
        findings += [Finding(claim, task)] * (MODEL not in [_model(better) for better, _, _ in pairs])
    return findings


def _finding(
    claim: Mapping[str, str], task: str, better: Row, worse: Row, truth: LabelTable, boards: Sequence[Board]
) -> Finding:
    """Return the finding on a claim from two rows: their comparison on a board with both, or else on their own."""
    metric, on_board = claim["metric"], _on_board(better, worse, boards)
    pair = on_board or compare_pairs({"b": better.scored, "w": worse.scored}, [("b", "w")], 0.0, truth)[0]
    difference = pair.differences[metric]
    value, bounds = interval_of(worse.summaries["frequent"][metric]).value, difference.interval
    is_corrected = on_board is not None and metric == "auroc"
    return Finding(
        claim,
        task,
        _model(better),
        shown_init(better),
        difference,
        bounds.value / value,
        bounds.low / value,
        bounds.high / value,
        p=float(interval_p(difference) if metric != "auroc" else on_board.p_adjusted if on_board else pair.p),
        role=on_board.role if on_board else EXPLORATORY,
        condition=condition([better, worse], pair.places),
        family_size=pair.family_size if is_corrected else 1,
        num_pairs=pair.num_pairs,
    )


def _on_board(better: Row, worse: Row, boards: Sequence[Board]) -> Comparison | None:
    """Return better minus worse on the board that has both rows; None if no board has both and their comparison."""
    for board in boards:
        if board.standing and better in board.rows and worse in board.rows:
            for pair in board.standing.pairs:
                if (pair.first, pair.second) == (better.name, worse.name):
                    return pair
                if (pair.second, pair.first) == (better.name, worse.name):
                    return -pair
    return None


def _pairs(claim: Mapping[str, str], task: str, boards: Sequence[Board]) -> Iterator[tuple[Row, Row, LabelTable]]:
    """Yield rows of two methods with default arguments, the same backbone and init (not random), and paired runs."""
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
    """Return the backbone, whatever its precision, and the init."""
    return row.backbone.removesuffix(", bf16"), row.init
