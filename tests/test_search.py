"""Where hyper-parameters are searched, and that every trial can be written down and pasted back."""

from typing import Any

import numpy as np
import pytest

from bench.errors import PluginError
from bench.training.search import Choice, LogUniform, Search, Uniform


@pytest.mark.parametrize(
    ("search", "quantile", "value"),
    [
        (Uniform(0.1, 0.7), 0.5, 0.4),
        (LogUniform(1e-5, 1e-1), 0.5, 1e-3),
        (LogUniform(1e-5, 1e-1), 0.0, 1e-5),
        (LogUniform(3e-4, 1e-1), 0.25, 0.00128),
        (Choice(("a", "b", "c")), 0.0, "a"),
        (Choice(("a", "b", "c")), 0.999, "c"),
    ],
)
def test_a_quantile_has_its_value_in_three_digits(search: Search, quantile: float, value: Any) -> None:
    assert search.at(quantile) == value


def test_orders_of_magnitude_are_as_likely() -> None:
    values = np.array([LogUniform(1e-4, 1e-1).at(q) for q in np.linspace(0, 1, 3000, endpoint=False)])

    assert [int(((values >= low) & (values < 10 * low)).sum()) for low in (1e-4, 1e-3, 1e-2)] == pytest.approx(
        [1000] * 3, abs=5
    )


@pytest.mark.parametrize(
    ("wrong", "message"), [((1.0, 1.0), "larger"), ((0.0, 1.0), "positive"), ((2.0, 1.0), "larger")]
)
def test_bounds_that_make_no_sense_are_refused(wrong: tuple[float, float], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        LogUniform(*wrong)


def test_a_search_must_have_values_that_can_be_drawn() -> None:
    with pytest.raises(PluginError, match="no value to choose from"):
        Choice(())
    with pytest.raises(PluginError, match="both finite"):
        Uniform(-np.inf, 1.0)
