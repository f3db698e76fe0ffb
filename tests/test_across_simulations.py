"""Small simulations of the two ways, and what the page says of the published ones."""

import csv
from pathlib import Path

import numpy as np
import pytest

from bench.boards.across_simulations import (
    ANY,
    DRAW_SD,
    FURTHER,
    NODES,
    PLANNED,
    SEED_SD,
    SETTINGS,
    SIMULATED,
    TASK_SD,
    THESE,
    VERSION,
    Setting,
    is_met,
    main,
    rates_of,
)
from bench.boards.simulations import Rate, read_rates, what_is_left
from bench.evaluation.hierarchical import by_redrawing, posterior, redraw
from bench.pages.across_simulated import simulated_lines

BOUNDS = [
    (-0.006051697895947491, 0.012069129187688835, -0.006169993828731682, 0.013232584770384704),
    (-0.061363058989302735, 0.06728929808494775, -0.05934605986743323, 0.06638392408614979),
    (-0.02322263835987582, 0.031627407036902117, -0.02790291786437736, 0.029823703750842766),
    (-0.03662983273951606, 0.037451009734308864, -0.04686527799336564, 0.0487729258957422),
]
"""[setting, further tasks or not] low and high, redrawn, and by the mixed model."""
PUBLISHED = Path(__file__).parent.parent / "leaderboards" / SIMULATED


def test_a_simulated_study_varies_as_declared() -> None:
    random = np.random.default_rng(0)
    setting = Setting(4, PLANNED)
    studies = [setting.simulate(random) for _ in range(400)]
    values = np.array([units.values[:, 0].reshape(4, 7) for units, _ in studies])  # [study, task, unit]

    assert studies[0][0].draw == (0, 0, 0, 1, 2, 3, 4) * 4
    assert values[:, :, :3].var(axis=2, ddof=1).mean() == pytest.approx(SEED_SD**2, rel=0.1)  # seeds of draw 0
    assert values[:, :, 2:].var(axis=2, ddof=1).mean() == pytest.approx(DRAW_SD**2 + SEED_SD**2, rel=0.1)
    means = np.array([truths[THESE] for _, truths in studies])
    assert means.std() == pytest.approx(TASK_SD / 2, rel=0.1) and studies[0][1][FURTHER] == 0
    assert ANY not in studies[0][1] and ANY in Setting(2, (3,)).simulate(random)[1]


def test_intervals_cover_and_a_single_draw_shows_nothing_of_other_subsets() -> None:
    found = {rate.quantity: rate for rate in rates_of(Setting(3, (3,)), 120)}

    for way in ("redrawn", "mixed model"):
        assert found[f"coverage, {THESE}: {way}"].percent >= 90
        assert found[f"coverage, {ANY}: {way}"].percent <= 93
    assert found[f"false claims, {THESE}: both ways"].percent <= 9
    assert rates_of(Setting(2, (3,)), 5) == rates_of(Setting(2, (3,)), 5)


def test_what_cannot_be_estimated_is_not_simulated() -> None:
    quantities = {rate.quantity for rate in rates_of(Setting(5, (1,)), 2)}
    assert quantities and not any(THESE in quantity for quantity in quantities)
    assert not any(FURTHER in rate.quantity for rate in rates_of(Setting(2, (3,)), 2))


def test_simulations_go_on_where_they_were_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.boards import across_simulations

    monkeypatch.setattr(across_simulations, "SETTINGS", SETTINGS[:2])
    main(tmp_path, 2)
    text = (tmp_path / SIMULATED).read_text()
    main(tmp_path, 3)  # nothing is left

    assert (tmp_path / SIMULATED).read_text() == text
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == ["task", "quantity", "setting", "percent", "error", "simulations", "goal", "version"]
    monkeypatch.setattr(across_simulations, "VERSION", "other")
    monkeypatch.setattr(across_simulations, "SETTINGS", SETTINGS[1:2])
    main(tmp_path, 3)
    anew = list(csv.DictReader((tmp_path / SIMULATED).read_text().splitlines()))
    assert {(row["setting"], row["version"]) for row in anew} == {(str(SETTINGS[1]), "other")}


def test_the_rules_are_those_of_the_published_version() -> None:
    """Bounds by both ways, for these and for further tasks: rules that change them need another VERSION."""
    bounds = []
    for setting in (Setting(3, PLANNED), Setting(3, (2, 2), crossed=True)):
        units, _ = setting.simulate(np.random.default_rng(0))
        for further in (False, True):
            redrawn = redraw(units, further_tasks=further, num=200, seed=1)[:, 0]
            first = by_redrawing(redrawn, float(units.mean[0]), 0.005)
            second = posterior(units, 0.005, further_tasks=further, nodes=NODES)
            bounds += [(first.low, first.high, second.low, second.high)]

    assert VERSION == "ba4c56e7"
    assert np.array(bounds) == pytest.approx(np.array(BOUNDS), rel=1e-6)


def test_published_rates_are_of_these_rules_and_all_settings() -> None:
    with PUBLISHED.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))

    assert what_is_left(map(str, SETTINGS), rows, "setting", VERSION) == []
    for row, rate in zip(rows, read_rates(rows), strict=True):
        assert row["goal"] == {True: "met", False: "missed", None: ""}[is_met(rate)]
        if ANY not in rate.quantity:
            assert is_met(rate) is not False, rate


def test_the_page_shows_each_setting_and_marks_missed_goals() -> None:
    rates = [
        Rate("normal", f"coverage, {THESE}: redrawn", "2 tasks", 95.0, 1.0, 400),
        Rate("normal", f"coverage, {ANY}: redrawn", "2 tasks", 87.0, 1.7, 400),
        Rate("normal", f"same claim of both ways, {THESE}", "2 tasks", 98.0, 0.7, 400),
    ]
    rows = [{key: str(getattr(rate, key)) for key in rate.__dataclass_fields__} for rate in rates]
    text = "\n".join(simulated_lines(rows))

    assert "| 2 tasks | 95.0 ± 1.0 | **87.0 ± 1.7** |" in text
    assert "Both ways say the same in 98 to 98 %" in text
    assert simulated_lines([]) == []
