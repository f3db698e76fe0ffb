"""Full fine-tuning with a regulariser: L2-SP, sharpness-aware minimisation, or R-Drop."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from bench.plugin import Batch, LogUniform, NotNegative, Positive, register_method
from methods.full_finetune import FullFinetune


@register_method("l2-sp")
@dataclass(frozen=True)
class L2SP(FullFinetune):
    """L2-SP: decay the backbone towards its initial weights, the new head to zero (Li, Grandvalet & Davoine 2018).

    Loss: BCE + (alpha / 2 * ||w - w0||^2 over the backbone + beta / 2 * ||w||^2 over the head) / number of labels.
    alpha = 0.1 and beta = 0.01 are the paper's values, where the loss is a sum over labels; BCE is their mean. AdamW's
    weight decay is off, because it decays to zero. Deviations: the penalty passes through Adam's division by the size
    of gradients, where the authors have momentum; and it holds norms and biases too.
    """

    finetune_weight_decay: float = 0.0
    alpha: NotNegative = 0.1
    beta: NotNegative = 0.01
    needs_signals = False

    search = {**FullFinetune.search, "alpha": LogUniform(1e-3, 1.0)}

    def loss(self, batch: Batch) -> Tensor:
        loss = binary_cross_entropy_with_logits(batch.logits(), batch.labels)
        alpha, beta = self.alpha / batch.labels.shape[1], self.beta / batch.labels.shape[1]
        for name, parameter in batch.parameters.items():
            if name.startswith("head."):
                loss = loss + beta / 2 * parameter.square().sum()
            else:
                loss = loss + alpha / 2 * (parameter - batch.initial_weights[name]).square().sum()
        return loss


@register_method("sam")
@dataclass(frozen=True)
class SAM(FullFinetune):
    """Sharpness-aware minimisation (Foret et al. 2021): step with the gradient at w + rho * g / ||g||.

    Each step computes two gradients, with the same batch and masks. rho = 0.05 is the paper's value.
    """

    rho: Positive = 0.05

    search = {**FullFinetune.search, "rho": LogUniform(0.01, 0.5)}

    def optimizer_step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
        closure()
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in parameters]).norm() + 1e-12
        moves = [p.grad * (self.rho / norm) for p in parameters]
        with torch.no_grad():
            torch._foreach_add_(parameters, moves)
        closure()
        with torch.no_grad():
            torch._foreach_sub_(parameters, moves)
        optimizer.step()


@register_method("r-drop")
@dataclass(frozen=True)
class RDrop(FullFinetune):
    """R-Drop: penalise the difference of two passes with different stochastic depth, as in `ft-sd` (Liang et al. 2021).

    Loss: mean BCE of both passes + alpha / 2 * (KL(p||q) + KL(q||p)), the mean over independent Bernoulli labels. The
    paper adds the losses of both passes, so that its alpha is twice this one: 1 is its 2, within its range of 0.1 to 5;
    its value for ViT, 0.6, is 0.3 here. Each step runs the backbone twice.
    """

    drop_path_rate: float = 0.5
    alpha: NotNegative = 1.0
    needs_signals = False

    search = {**FullFinetune.search, "alpha": LogUniform(0.1, 5.0)}

    def loss(self, batch: Batch) -> Tensor:
        first, second = batch.logits(masks=0), batch.logits(masks=1)
        of_labels = binary_cross_entropy_with_logits(first, batch.labels)
        of_labels = (of_labels + binary_cross_entropy_with_logits(second, batch.labels)) / 2
        # KL(p||q) + KL(q||p) = (p - q) * (logit p - logit q)
        disagreement = ((first.sigmoid() - second.sigmoid()) * (first - second)).mean()
        return of_labels + self.alpha / 2 * disagreement
