"""Heads on a frozen backbone, other than the linear probe of `linear_probe.py`. The backbone runs once per record.

Heads that are fitted without gradient steps get standardised features: mean 0 and variance 1 over training samples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plugin import (
    MOST_SCORES,
    Choice,
    Classifier,
    Count,
    Judge,
    Method,
    Phase,
    Positive,
    Range,
    Start,
    register_method,
)
from methods.linear_probe import LinearProbe


def standardise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return standardised features [sample, feature], and the mean and standard deviation [feature] of `x`."""
    mean, deviation = x.mean(0), x.std(0, correction=0).clamp(min=1e-6)  # a constant feature stays at zero
    return (x - mean) / deviation, mean, deviation


def linear_head(weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor) -> dict[str, Tensor]:
    """Convert a linear head for standardised features into an equal head for features that are not standardised."""
    weight = weight / deviation
    return {"head.weight": weight, "head.bias": bias - weight @ mean}


def load(model: Classifier, weights: Mapping[str, Tensor]) -> None:
    """Load weights for some of a model's keys; the others stay."""
    model.load_state_dict({**model.state_dict(), **weights})


class LogisticRegressions:
    """Logistic regressions of all labels on features z [sample, feature] at zero mean, in one batched problem.

    For each label it minimises sum of log losses + |w|^2 / (2 c): the objective of scikit-learn's LogisticRegression,
    whose bias is not penalised either. L-BFGS (Nocedal & Wright 2006, algorithm 7.4) along the principal axes of z,
    where label l's Hessian is nearly diagonal: mean p (1 - p) * eigenvalues + 1 / c. It starts from there in place of
    the unit matrix. From one strength of a grid to the next it keeps its steps: what the other penalty changes in their
    changes of the gradient is known.
    """

    MEMORY = 10

    def __init__(self, z: Tensor, labels: Tensor) -> None:
        eigenvalues, self.axes = torch.linalg.eigh(z.T @ z)
        self.z = z
        self.squares = F.pad(eigenvalues.clamp(min=0), (0, 1), value=float(len(z)))  # the last is the bias
        self.y = labels.T.contiguous()
        self.w = z.new_zeros(len(self.y), z.shape[1] + 1)
        """Weights along the axes and bias [label, feature + 1]; the next fit starts from them."""
        self.w[:, -1] = ((self.y.sum(1) + 0.5) / (len(z) + 1)).logit()
        self.pairs: list[tuple[Tensor, Tensor]] = []
        """Steps and changes of the gradient without the penalty's [label, feature + 1]; 0 where a label made none."""

    def fit(self, c: float, tolerance: float, max_iter: int) -> tuple[Tensor, Tensor]:
        """Return weights [label, feature] and biases [label] whose mean loss is within `tolerance` of the least.

        That is by the quadratic model of the loss; a label that gets there, or takes `max_iter` steps, is left alone.
        """
        penalty = torch.full_like(self.squares, 1 / c)
        penalty[-1] = 0
        rows = torch.arange(len(self.y), device=self.y.device)
        w, y, logits, last = self.w.clone(), self.y, self._logits(self.w), None
        pairs, made = [(step, change + step * penalty) for step, change in self.pairs], []
        for _ in range(max_iter):
            p = logits.sigmoid()
            error = p - y
            gradient = torch.cat([(error @ self.z) @ self.axes, error.sum(1, keepdim=True)], dim=1) + w * penalty
            curvature = (p.mean(1) - p.square().mean(1)).unsqueeze(1) * self.squares + penalty
            left = (gradient.square() / curvature.clamp(min=1e-12)).sum(1) / (2 * len(self.z)) > tolerance
            if last is not None:
                made.append((rows, last[0], gradient - last[1]))
                pairs = [*pairs, made[-1][1:]][-self.MEMORY :]
            self.w[rows] = w
            if not left.any():
                break
            if not left.all():
                rows, w, y, logits, gradient, curvature = (t[left] for t in (rows, w, y, logits, gradient, curvature))
                pairs = [(step[left], change[left]) for step, change in pairs]
            direction = -two_loops(gradient, pairs, curvature.clamp(min=1e-12))
            step, moved = self._search(w, y, logits, direction, penalty, (gradient * direction).sum(1))
            w, logits, last = w + step, logits + moved, (step, gradient)
        self._keep(made[-self.MEMORY :], penalty)
        return self.w[:, :-1] @ self.axes.T, self.w[:, -1]

    def _keep(self, made: list[tuple[Tensor, Tensor, Tensor]], penalty: Tensor) -> None:
        """Keep the last steps: of some labels [row], steps and changes of the gradient [row, feature + 1]."""
        none = torch.zeros_like(self.w)
        new = [
            (none.index_copy(0, rows, step), none.index_copy(0, rows, change - step * penalty))
            for rows, step, change in made
        ]
        self.pairs = [*self.pairs, *new][-self.MEMORY :]

    def _logits(self, w: Tensor) -> Tensor:
        """Return the logits [label, sample] of weights along the axes and biases [label, feature + 1]."""
        return torch.addmm(w[:, -1:], w[:, :-1] @ self.axes.T, self.z.T)

    def _search(
        self, w: Tensor, y: Tensor, logits: Tensor, direction: Tensor, penalty: Tensor, first: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return each label's step along its direction, and what it adds to the logits [label, sample].

        The slope, `first` [label] at length 0, rises with the length. The step ends by linear interpolation where a
        slope at most half as steep is known.
        """
        moved = self._logits(direction)
        of_labels, of_penalty = (y * moved).sum(1), ((w * direction * penalty).sum(1), (direction**2 * penalty).sum(1))

        def slope(length: Tensor) -> Tensor:
            p = torch.addcmul(logits, length.unsqueeze(1), moved).sigmoid_()
            return p.mul_(moved).sum(1) - of_labels + of_penalty[0] + length * of_penalty[1]

        low, high = torch.zeros_like(first), torch.ones_like(first)
        at_low, at_high = first, slope(high)
        for _ in range(10):
            share = (at_low / (at_low - at_high)).nan_to_num(0.0, 0.0, 0.0)
            length = (low + (high - low) * share).clamp(0.0, 2.0)
            if bool((torch.minimum(at_low.abs(), at_high.abs()) <= 0.5 * first.abs()).all()):
                break
            at = slope(length)
            low, at_low = torch.where(at < 0, length, low), torch.where(at < 0, at, at_low)
            high, at_high = torch.where(at < 0, high, length), torch.where(at < 0, at_high, at)
        length = length.unsqueeze(1)
        return length * direction, length * moved


def two_loops(gradient: Tensor, pairs: Sequence[tuple[Tensor, Tensor]], curvature: Tensor) -> Tensor:
    """Return each row's inverse Hessian, by L-BFGS of steps and changes of the gradient, times its gradient."""
    result, factors = gradient, []
    for step, change in reversed(pairs):
        along = (step * change).sum(1, keepdim=True)
        inverse = torch.where(along > 0, 1 / along.clamp(min=1e-300), 0.0)
        factors.append((inverse, inverse * (step * result).sum(1, keepdim=True)))
        result = result - factors[-1][1] * change
    result = result / curvature
    for (step, change), (inverse, factor) in zip(pairs, reversed(factors), strict=True):
        result = result + step * (factor - inverse * (change * result).sum(1, keepdim=True))
    return result


@register_method("lp-lbfgs")
@dataclass(frozen=True)
class LogisticProbe(Method):
    """L2-regularised logistic regression by L-BFGS on standardised features; its strength is chosen on fold 9.

    It minimises, for each label, sum of log losses + |w|^2 / (2 C). All backbones and tasks use the same 16 values of
    C, from 1e-6 to 1e2 in equal ratios. The value with the best fold-9 macro AUROC is kept, the smaller of equal ones.
    Each fit starts from the solution for the previous C, in float64, and ends when each label's mean loss is within
    `tolerance` of the least. Probes by L-BFGS with a grid of C: Kornblith et al. 2019 (arXiv 1805.08974), and CLIP
    (Radford et al. 2021, arXiv 2103.00020) with 1e-6 to 1e6. The bounds are chosen here: with CLIP's largest values, a
    fit to a thousand records is not regularised.
    """

    strengths: Annotated[int, Range(1, MOST_SCORES)] = 16
    smallest_c: Positive = 1e-6
    largest_c: Positive = 1e2
    tolerance: Positive = 1e-8
    max_iter: Count = 200

    search = {"largest_c": Choice((1e0, 1e2, 1e4))}

    def __post_init__(self) -> None:
        if self.smallest_c > self.largest_c:
            raise ValueError(
                f"smallest_c {self.smallest_c:g} is above largest_c {self.largest_c:g}; lower it, or raise largest_c"
            )

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [Phase.fit("probe")]

    def finish(self, model: Classifier, judge: Judge) -> None:
        features, labels = (tensor.double() for tensor in judge.features())
        x, mean, deviation = standardise(features)
        regressions = LogisticRegressions(x, labels)
        heads = []
        for c in np.geomspace(self.smallest_c, self.largest_c, self.strengths):
            weight, bias = regressions.fit(float(c), self.tolerance, self.max_iter)
            heads.append(linear_head(weight, bias, mean, deviation))
        load(model, max(heads, key=judge.score))


@register_method("lp-norm")
@dataclass(frozen=True)
class NormalisedProbe(LinearProbe):
    """Batch norm without scale and shift, then a linear layer: MAE's probe (He et al. 2022, arXiv 2111.06377, A.1).

    epsilon = 1e-6 as in facebookresearch/mae, main_linprobe.py. Learning rate, epochs and weight decay are those of
    `lp`, so that the two differ only in the norm. (MAE: LARS at 0.1, batches of 16,384, 90 epochs, no weight decay.)
    """

    def prepare(self, model: Classifier, init: Start) -> None:
        norm = nn.BatchNorm1d(model.backbone.feature_dim, affine=False, eps=1e-6)
        model.head = nn.Sequential(norm, model.head)


class AttentionHead(nn.Module):
    """Attention pooling by a learnable query, then a linear layer: tokens [record, token, dim] -> [record, label]."""

    def __init__(self, dim: int, num_heads: int, num_labels: int) -> None:
        super().__init__()
        self.query = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, dim), std=0.02))
        self.attention = nn.MultiheadAttention(dim, num_heads, bias=False, batch_first=True)
        self.linear = nn.Linear(dim, num_labels)

    def forward(self, tokens: Tensor) -> Tensor:
        pooled, _ = self.attention(self.query.expand(len(tokens), -1, -1), tokens, tokens, need_weights=False)
        return self.linear(pooled.squeeze(1))  # type: ignore[no-any-return]


@register_method("lp-attn")
@dataclass(frozen=True)
class AttentionProbe(LinearProbe):
    """Attention pooling of the frozen backbone's tokens by a learnable query, then a linear layer.

    Each attention head computes softmax(q W_q (x W_k)^T / sqrt(d)) x W_v; W_o combines them. It is the attentive probe
    of V-JEPA (Bardes et al. 2024, arXiv 2404.08471) without its norms, residual connection, biases and MLP, and the
    frozen mode of Al-Masud, Alcaraz & Strodthoff (arXiv 2509.25095). 16 heads without biases are the defaults of the
    `clinical_ts` code, in which W_o and the linear layer are a single matrix. Chosen here: learning rate 1e-3; epochs
    and weight decay are those of `lp`.
    """

    num_heads: Count = 16
    probe_lr: float = 1e-3

    def prepare(self, model: Classifier, init: Start) -> None:
        dim = model.use_tokens()
        num_heads = math.gcd(dim, self.num_heads)  # the number of heads must divide the dimension
        model.head = AttentionHead(dim, num_heads, model.num_labels)


class Neighbours(nn.Module):
    """k-nearest-neighbour head by cosine similarity: features [record, feature] -> logits [record, label]."""

    mean: Tensor
    deviation: Tensor
    keys: Tensor
    labels: Tensor

    def __init__(self, num_records: int, dim: int, num_labels: int, k: int, temperature: float) -> None:
        super().__init__()
        self.k, self.temperature = min(k, num_records), temperature
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))
        self.register_buffer("keys", torch.zeros(num_records, dim))
        self.register_buffer("labels", torch.zeros(num_records, num_labels))

    def forward(self, x: Tensor) -> Tensor:
        queries = F.normalize((x - self.mean) / self.deviation, dim=1)
        similar = (queries @ self.keys.T).topk(self.k, dim=1)
        votes = (similar.values / self.temperature).softmax(1)
        return torch.logit((votes.unsqueeze(2) * self.labels[similar.indices]).sum(1), eps=1e-6)


@register_method("knn")
@dataclass(frozen=True)
class KNN(Method):
    """k nearest neighbours: log odds of the k nearest training records' labels, weighted by exp(cosine / temperature).

    Source: DINO (Caron et al. 2021, arXiv 2104.14294) with k = 20 and temperature 0.07, after Wu et al. 2018. Chosen
    here: features are standardised first. If the backbone sees windows, a training record is the mean of its
    standardised windows, and each window of a new record asks its neighbours. The head stores all training records.
    """

    k: Count = 20
    temperature: Positive = 0.07

    search = {"k": Choice((5, 10, 20, 50, 100)), "temperature": Choice((0.03, 0.07, 0.2))}

    def prepare(self, model: Classifier, init: Start) -> None:
        sizes = init.num_records, model.backbone.feature_dim, model.num_labels
        model.head = Neighbours(*sizes, self.k, self.temperature)

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [Phase.fit("neighbours")]

    def finish(self, model: Classifier, judge: Judge) -> None:
        features, labels = judge.features()
        num_records = len(model.get_buffer("head.keys"))
        z, mean, deviation = standardise(features)
        z = F.normalize(z.view(num_records, -1, z.shape[1]).mean(1), dim=1)
        keys = {"head.mean": mean, "head.deviation": deviation, "head.keys": z}
        load(model, {**keys, "head.labels": labels[:: len(labels) // num_records]})


@register_method("prototype")
@dataclass(frozen=True)
class Prototype(Method):
    """Nearest prototype: |z - n|^2 - |z - p|^2 for each label, with p and n the mean of its positives and negatives.

    Source: prototypical networks (Snell et al. 2017, arXiv 1703.05175) with two classes per label. In standardised
    features z it equals the linear head 2 (p - n) z + |n|^2 - |p|^2. It has no hyper-parameters. Chosen here: features
    are standardised; the weight is 0 for a label without a positive or without a negative.
    """

    def phases(self, layer_groups: Sequence[str]) -> Sequence[Phase]:
        return [Phase.fit("prototypes")]

    def finish(self, model: Classifier, judge: Judge) -> None:
        features, labels = judge.features()
        z, mean, deviation = standardise(features)
        positives, negatives = labels.sum(0).unsqueeze(1), (1 - labels).sum(0).unsqueeze(1)
        p, n = labels.T @ z / positives.clamp(min=1), (1 - labels).T @ z / negatives.clamp(min=1)
        both = ((positives > 0) & (negatives > 0)).to(z.dtype)
        weight, bias = 2 * (p - n) * both, (n.square() - p.square()).sum(1) * both.squeeze(1)
        load(model, linear_head(weight, bias, mean, deviation))
