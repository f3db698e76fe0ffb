"""The lower bound of every board: a model that ignores the record.

The published code calls it naive (helme/ecg_ptbxl_benchmarking, scp_experiment.py) and predicts the mean of the
training labels. Here the same numbers are learned: on a constant feature the logistic loss has its minimum at the log
odds of the training prevalence. Train it with `--method scratch`, which keeps the last epoch: each probability is then
within 0.0005 of the training prevalence on superdiag. A method that keeps the epoch of the best AUROC keeps the first,
as the AUROC is 0.5 in every epoch, and its probabilities are not the prevalence.
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
