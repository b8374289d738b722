"""Batch normalisation (arXiv 1502.03167) between a linear layer and its activation, and its folding."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class BatchNorm(nn.BatchNorm1d):
    """[P, H] -> [P, H]: gamma (s - E[s]) / sqrt(Var[s] + eps) + beta; all P rows are real, padding never reaches it.

    E and Var are those of the mini-batch while training and their moving averages afterwards. A mini-batch of fewer
    than two rows has no variance: it takes the averages too, and leaves them alone.
    """

    def forward(self, s: Tensor) -> Tensor:
        if self.training and len(s) < 2:
            return functional.batch_norm(
                s, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(s)


def folded(linear: nn.Linear, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Weight [H, inputs] and bias [H] of the one linear layer that equals `linear` followed by `norm` in evaluation.

    With g = gamma / sqrt(Var + eps): g (W x + b - E) + beta = (g W) x + (g (b - E) + beta), here in float64.
    """
    assert norm.running_mean is not None, "BatchNorm keeps averages"
    assert norm.running_var is not None, "BatchNorm keeps averages"
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = gain.unsqueeze(1) * linear.weight.double()
    bias = gain * (linear.bias.double() - norm.running_mean.double()) + norm.bias.double()
    return weight.to(linear.weight.dtype), bias.to(linear.bias.dtype)
