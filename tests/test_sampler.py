"""Metrics on replicates are scikit-learn's, also where scores are tied, and whatever is computed at once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from bench.evaluation import sampler
from bench.evaluation.bootstrap import make_replicates
from bench.evaluation.sampler import Sampler


@pytest.mark.parametrize(
    "scores_of",
    [
        pytest.param(lambda noise, y_true: noise + y_true, id="no ties"),
        pytest.param(lambda noise, y_true: np.round(2 * (noise + y_true)), id="ties"),
        pytest.param(lambda noise, y_true: np.zeros(y_true.shape), id="all equal"),
        pytest.param(lambda noise, y_true: 1.0 * y_true, id="perfect, tied within each class"),
        pytest.param(lambda noise, y_true: noise - 9 * y_true, id="positives last"),
    ],
)
def test_metrics_on_replicates_are_those_of_scikit_learn(scores_of: Callable[..., Any]) -> None:
    random = np.random.default_rng(1)
    y_true = random.random((300, 3)) < [0.4, 0.1, 0.03]
    y_score = np.asarray(scores_of(random.normal(size=y_true.shape), y_true), dtype=np.float64)
    counts = make_replicates(random.integers(200, size=300), y_true, 40).counts

    found = Sampler(y_true, counts).resample(y_score)

    for metric, of_metric in zip((roc_auc_score, average_precision_score), found, strict=True):
        expected = [metric(y_true, y_score, average=None, sample_weight=of_records) for of_records in counts]
        np.testing.assert_allclose(of_metric, expected, rtol=0, atol=1e-10)


def test_a_sample_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    y_true, y_score = random.random((200, 2)) < 0.4, random.normal(size=(200, 2))
    counts = make_replicates(np.arange(200), y_true, 300).counts
    whole = Sampler(y_true, counts).resample(y_score)
    monkeypatch.setattr(sampler, "CELLS", 500)

    np.testing.assert_array_equal(Sampler(y_true, counts).resample(y_score), whole)
