"""Forward passes without gradients, and how the windows of a record are joined."""

import torch

from bench.training.features import join_windows


def test_windows_are_joined_by_the_largest_or_the_mean_logit() -> None:
    logits = torch.tensor([[[1.0, -3.0], [2.0, -5.0], [6.0, -1.0]]])

    assert join_windows(logits, "max").tolist() == [[6.0, -1.0]]
    assert join_windows(logits, "mean").tolist() == [[3.0, -3.0]]
