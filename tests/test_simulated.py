"""Pages name the simulations that miss their goals, and only those of the rule that boards use."""

from bench.pages.simulated import simulated_lines


def rate(
    quantity: str, percent: float, error: float = 0.5, task: str = "normal", setting: str = "8 rows"
) -> dict[str, str]:
    numbers = {"percent": str(percent), "error": str(error), "simulations": "2000"}
    return {"task": task, "quantity": quantity, "setting": setting, **numbers}


def test_the_worst_setting_of_each_missed_goal_is_named() -> None:
    rates = [
        rate("coverage, rows", 92.9, setting="2 rows"),
        rate("coverage, rows", 91.5, setting="15 rows"),
        rate("coverage, rows", 97.8),
        rate("coverage, rows", 95.0),
        rate("coverage, differences", 93.0),
        rate("false claims, 7 against one", 5.9, 0.5),  # 5 % lies within two standard errors
        rate("false claims, all 28 pairs", 6.1, 0.5),
    ]
    text = "\n".join(simulated_lines("form", rates))

    low, high = (
        "too low in 2 (lowest 91.5 % ± 0.5: 15 rows)",
        "too high (too cautious) in 1 (highest 97.8 % ± 0.5: 8 rows)",
    )
    assert f"- Coverage, rows, 4 settings: {low}; {high}." in text
    assert "- Coverage, differences, 1 setting: the goal is met in all." in text
    assert "- False claims, 7 against one, 1 setting: the goal is met in all." in text
    assert "- False claims, all 28 pairs, 1 setting: too many in 1 (highest 6.1 % ± 0.5: 8 rows)." in text


def test_other_tasks_and_rules_that_no_board_uses_are_left_out() -> None:
    rates = [
        rate("coverage, differences", 80, task="rhythm"),
        rate("coverage, all labels, macro AUROC", 80, task="form"),  # it stands at the dagger
        rate("false claims among 4 equal models, 3 against one: interval alone", 9, task="form"),
        rate("power at 4 standard errors, against one", 40),
    ]
    assert simulated_lines("form", rates) == []
    found = simulated_lines("form", [*rates, rate("false claims, 2 against one: larger p", 9, task="form")])
    assert sum(line.startswith("- ") for line in found) == 1
