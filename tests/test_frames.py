"""DataFrames of runs hold what the results do."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.boards.frames import RunResult
from bench.evaluation.predictions import Predictions


def test_probabilities_of_large_logits_are_exact_and_not_0() -> None:
    logits = np.array([[-80.0], [-38.0], [-36.0], [0.0], [2.0]], dtype=np.float32)
    scores = Predictions(np.arange(5), ("A",), logits)
    result: Any = SimpleNamespace(predictions={9: scores}, incompatible=None, has_scale=True)
    given = RunResult(result).predictions["A"].to_numpy()

    np.testing.assert_allclose(given, 1 / (1 + np.exp(-logits[:, 0].astype(np.float64))), rtol=1e-14)
