"""The status of a published claim follows from the difference measured here, its p and its interval."""

from typing import Any

import pytest

from bench.boards.declared import EXPLORATORY, FAMILY
from bench.evaluation.bootstrap import Interval, Summary
from bench.pages.claims import STATUSES, Finding

CLAIM = {"metric": "auroc", "gain_low": "2.0", "gain_high": "3.0"}


def finding(value: float, p: float, num_runs: int = 3, **changes: Any) -> Finding:
    summary = Summary(Interval(value, value - 0.01, value + 0.01), 0.004, 0.004, num_runs, 0.003, 5.0)
    facts = {"relative": value, "relative_low": value - 0.01, "relative_high": value + 0.01, "role": FAMILY}
    return Finding(CLAIM, "form", difference=summary, p=p, **{**facts, **changes})


@pytest.mark.parametrize(
    ("value", "p", "num_runs", "expected"),
    [
        (0.02, 0.05, 3, "confirmed"),
        (0.02, 0.051, 3, "not settled"),
        (0.05, 0.01, 3, "direction confirmed, published size excluded"),
        (-0.02, 0.01, 3, "contradicted, published size excluded"),
        (0.0, 0.9, 3, "not settled, published size excluded"),
        (0.05, 0.001, 2, "not settled"),
    ],
)
def test_a_verdict(value: float, p: float, num_runs: int, expected: str) -> None:
    verdict = finding(value, p, num_runs).verdict

    assert verdict == expected
    assert verdict in STATUSES


def test_without_a_published_size_none_is_excluded() -> None:
    claim = {**CLAIM, "gain_low": "", "gain_high": ""}

    assert not Finding(claim, "form", relative_low=0.5, relative_high=0.6).size_differs
    assert Finding(claim, "form").verdict == "no run here"


def test_a_status_names_its_limits() -> None:
    assert finding(0.02, 0.01, condition="from these weights").status == "confirmed, from these weights"
    assert finding(0.02, 0.01, role=EXPLORATORY).status == "confirmed (exploratory)"
    assert finding(0.02, 0.01, 1).status == "not settled: one run"
    assert "on another model" in finding(0.02, 0.01, model=("net", "random")).status


def test_a_larger_family_resolves_less() -> None:
    assert finding(0.02, 0.01, family_size=10).resolvable > finding(0.02, 0.01).resolvable > 0
