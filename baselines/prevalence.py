"""The lower bound of every board: a model that ignores the record.

In helme/ecg_ptbxl_benchmarking (scp_experiment.py) it is called naive and predicts the mean of the training labels.
Here the same values are learnt: with a constant feature, the logistic loss has its minimum at the log odds of the
training prevalence. A method that keeps the last epoch reaches it: `scratch` is within 0.0005 on superdiag. A method
that keeps the best epoch by AUROC keeps the first, because all epochs have 0.5.
"""

import torch
from torch import Tensor, nn

from bench.plugin import Backbone, SignalSpec, register_backbone


@register_backbone("prevalence")
class Prevalence(Backbone):
    """One constant feature, so that a trained head predicts the training prevalence for every record. AUROC 0.5."""

    signal_spec = SignalSpec(100, "none")

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim = 1
        self.constant = nn.Parameter(torch.ones(1))  # a parameter, so that methods that train the backbone can run

    def forward(self, signals: Tensor) -> Tensor:
        return self.constant * signals.new_ones(len(signals), 1)
