"""A judge counts and records what it says of fold 9, leaves the model as it was, and says nothing after the phase."""

import pytest
import torch
from torch import Tensor, nn

from bench.errors import PluginError
from bench.plugin import Backbone, Classifier, Phase, SignalSpec
from bench.training.judge import MOST_SCORES, Judge


class Means(Backbone):
    """The leads' means."""

    signal_spec = SignalSpec(100, "none")
    feature_dim = 12

    def forward(self, signals: Tensor) -> Tensor:
        return signals.mean(-1)


@pytest.fixture
def model() -> Classifier:
    return Classifier(Means(), 2)


@pytest.fixture
def judge(model: Classifier) -> Judge:
    """Its score is the head's first bias, so that a test sees which weights were scored."""
    head: nn.Linear = model.head  # type: ignore[assignment]
    phase = Phase(name="probe", learning_rates={"head": 0.1}, epochs=1)
    data = torch.ones(3, 12), torch.zeros(3, 2)
    return Judge(phase, model, model.state_dict(), lambda: float(head.bias[0].detach()), lambda: data, lambda: None)


def test_scores_are_of_the_weights_given_and_recorded_in_order(model: Classifier, judge: Judge) -> None:
    own = {key: value.clone() for key, value in model.state_dict().items()}

    returned = [judge.score({"head.bias": torch.tensor([value, 0.0])}) for value in (0.75, 0.5)] + [judge.score()]

    assert returned[:2] == [0.75, 0.5]
    assert judge.scores == returned
    assert returned[2] == pytest.approx(float(own["head.bias"][0]))
    assert all(torch.equal(value, own[key]) for key, value in model.state_dict().items())


def test_a_weight_that_the_model_has_not_is_named_and_not_counted(judge: Judge) -> None:
    with pytest.raises(PluginError, match=r"judge\.score was given 'head\.scale'"):
        judge.score({"head.scale": torch.ones(1)})
    assert judge.scores == []


def test_the_number_of_scores_is_bounded(judge: Judge) -> None:
    for _ in range(MOST_SCORES):
        judge.score()

    with pytest.raises(PluginError, match=r"finish\(\) of phase 'probe' scores more than 32 weights"):
        judge.score()
    assert len(judge.scores) == MOST_SCORES


@pytest.mark.parametrize("question", ["score", "features", "recalibrate"])
def test_nothing_is_answered_after_the_phase(judge: Judge, question: str) -> None:
    getattr(judge, question)()
    judge.close()

    with pytest.raises(PluginError, match=r"asked after finish\(\)"):
        getattr(judge, question)()
