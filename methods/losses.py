"""Full fine-tuning with another loss, for rare labels or for uncertain labels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from bench.plugin import Batch, NotNegative, Rate, Share, Uniform, register_method
from methods.full_finetune import FullFinetune


@register_method("ft-focal")
@dataclass(frozen=True)
class Focal(FullFinetune):
    """Focal loss (Lin et al. 2017): (1 - p)^gamma * BCE, where p is the predicted probability of the true value.

    gamma = 2 is the paper's value. Its weight alpha of positives is left out; `ft-balanced` has a weight of positives.
    """

    gamma: NotNegative = 2.0
    needs_signals = False

    search = {**FullFinetune.search, "gamma": Uniform(0.5, 4.0)}

    def loss(self, batch: Batch) -> Tensor:
        x = batch.logits() * (2 * batch.labels - 1)
        # sigmoid(-x) is 1 - p; where it is 0, the gradient of a power below 1 is infinite
        wrong = x.neg().sigmoid().clamp(min=torch.finfo(x.dtype).tiny)
        return -(wrong.pow(self.gamma) * logsigmoid(x)).mean()


@register_method("ft-asl")
@dataclass(frozen=True)
class Asymmetric(FullFinetune):
    """Asymmetric loss (Ridnik et al. 2021): a larger focusing gamma for negatives; negatives below a margin count 0.

    Positives: (1 - p)^gamma_positive * log p. Negatives: q^gamma_negative * log(1 - q) with q = max(p - margin, 0).
    gamma_negative 4 and margin 0.05 are values of the authors' code for COCO, gamma_positive 1 is the default of its
    loss. Deviations from their training on COCO: gamma_positive is 0 there, and the focusing factors are constants to
    the gradient.
    """

    gamma_negative: NotNegative = 4.0
    gamma_positive: NotNegative = 1.0
    margin: Share = 0.05
    needs_signals = False

    search = {**FullFinetune.search, "gamma_negative": Uniform(1.0, 6.0)}

    def loss(self, batch: Batch) -> Tensor:
        logits, labels = batch.logits(), batch.labels
        p, wrong = logits.sigmoid(), logits.neg().sigmoid().clamp(min=torch.finfo(logits.dtype).tiny)
        q = (p - self.margin).clamp(min=0)
        positives = labels * wrong.pow(self.gamma_positive) * logsigmoid(logits)
        negatives = (1 - labels) * q.pow(self.gamma_negative) * (wrong + self.margin).clamp(1e-8, 1).log()
        return -(positives + negatives).mean()


@register_method("ft-balanced")
@dataclass(frozen=True)
class Balanced(FullFinetune):
    """BCE whose positives are weighted by effective numbers of training records, E(n) of Cui et al. 2019.

    Positives of a label with n positives among N records have the weight E(N - n) / E(n), where E(n) = (1 - beta^n) /
    (1 - beta). beta = 0.999 is one of the paper's values. beta = 0 is plain BCE; at 1 the weight is the ratio of
    negatives to positives; between them it is nearly 1 for labels with more than a few 1 / (1 - beta) positives.
    Deviation: in the paper a record has one class, whose weight multiplies the losses of all classes.
    """

    beta: Share = 0.999
    needs_signals = False

    def loss(self, batch: Batch) -> Tensor:
        positives = batch.positives.double().clamp(min=1)
        negatives = (batch.num_records - positives).clamp(min=1)
        log_beta = math.log(min(max(self.beta, 1e-300), 1 - 1e-12))
        weight = torch.expm1(negatives * log_beta) / torch.expm1(positives * log_beta)
        return binary_cross_entropy_with_logits(batch.logits(), batch.labels, pos_weight=weight.to(batch.labels.dtype))


@register_method("ft-smooth")
@dataclass(frozen=True)
class LabelSmoothing(FullFinetune):
    """BCE on smoothed labels y * (1 - epsilon) + epsilon / 2 (Szegedy et al. 2016, whose epsilon is 0.1)."""

    epsilon: Rate = 0.1
    needs_signals = False

    search = {**FullFinetune.search, "epsilon": Uniform(0.02, 0.3)}

    def loss(self, batch: Batch) -> Tensor:
        return binary_cross_entropy_with_logits(batch.logits(), batch.labels * (1 - self.epsilon) + self.epsilon / 2)
