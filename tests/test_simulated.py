"""Pages name the simulations that miss their goals, and only those of the rule that boards use."""

from bench.boards.simulations import NORMAL
from bench.pages.simulated import simulated_lines


def row(quantity: str, percent: float, task: str = "normal", setting: str = "8 rows") -> dict[str, str]:
    numbers = {"percent": str(percent), "error": "0.5", "simulations": "2000"}
    return {"task": task, "quantity": quantity, "setting": setting, **numbers}


def test_the_extremes_of_each_missed_goal_are_named() -> None:
    rows = [
        row("coverage, rows", 92.9, setting="2 rows"),
        row("coverage, rows", 91.5, setting="15 rows"),
        row("coverage, rows", 97.8),
        row("coverage, rows", 95.0),
        row("coverage, differences", 93.0),
        row("false claims, 7 against one", 5.9),  # 5 % lies within two standard errors
        row("false claims, all 28 pairs", 6.1),
    ]
    lines = simulated_lines("form", rows)

    worst = "91.5 % ± 0.5 with 15 rows; 97.8 % ± 0.5 with 8 rows"
    assert f"- normal: coverage, rows, 4 settings: missed in 3 ({worst})." in lines
    assert "- normal: coverage, differences, 1 setting: the goal is met in all." in lines
    assert "- normal: false claims, 7 against one, 1 setting: the goal is met in all." in lines
    assert "- normal: false claims, all 28 pairs, 1 setting: missed in 1 (6.1 % ± 0.5 with 8 rows)." in lines


def test_a_mean_over_an_axis_is_judged() -> None:
    (setting, *_) = (str(one) for one in NORMAL)
    for percent, verdict in ((5.0, "the goal is met on every axis"), (6.5, "the goal is missed")):
        lines = simulated_lines("form", [row("false claims, 1 against one", percent, setting=setting)])
        (sentence,) = [line for line in lines if line.startswith("- False claims, mean over an axis")]
        assert f"at most {percent} %" in sentence and verdict in sentence


def test_other_tasks_and_rules_that_no_board_uses_are_left_out() -> None:
    rows = [
        row("coverage, differences", 80, task="rhythm"),
        row("coverage, all labels, macro AUROC", 80, task="form"),  # it stands at the dagger
        row("false claims among 4 equal models, 3 against one: interval alone", 9, task="form"),
        row("power at 4 standard errors, against one", 40),
    ]
    assert simulated_lines("form", rows) == []
    lines = simulated_lines("form", [*rows, row("false claims, 2 against one: larger p", 9, task="form")])
    assert sum(line.startswith("- ") for line in lines) == 1
