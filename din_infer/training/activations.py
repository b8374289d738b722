"""Hidden activations. Each maps [P, H] to [P, H], where all P rows are valid: padding never reaches them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.1  # how far one mini-batch moves Dice's averages


class Dice(nn.Module):
    """DIN (arXiv 1706.06978), eq. 3: f(s) = p s + (1 - p) alpha s with p = sigmoid((s - E[s]) / sqrt(Var[s] + eps)).

    E and Var are those of the mini-batch while training and their moving averages afterwards, both with the biased
    variance (BatchNorm1d would average the unbiased one). `alpha` is learned for each unit.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.alpha = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("var", torch.ones(width))

    def forward(self, s: Tensor) -> Tensor:
        mean, var = self.mean, self.var
        if self.training and len(s):
            var, mean = torch.var_mean(s, dim=0, correction=0)
            with torch.no_grad():
                self.mean.lerp_(mean, MOMENTUM)
                self.var.lerp_(var, MOMENTUM)
        p = torch.sigmoid((s - mean) * torch.rsqrt(var + self.eps))
        return s * (self.alpha + p * (1 - self.alpha))


class PReLU(nn.Module):
    """s where s > 0, alpha s elsewhere; `alpha` is learned for each unit."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((width,), 0.25))

    def forward(self, s: Tensor) -> Tensor:
        return torch.prelu(s, self.alpha)


class BiSigmoid(nn.Module):
    """2 / (1 + exp(-s)) - 1, computed as its equal tanh(s / 2), which loses no digits near 0."""

    def forward(self, s: Tensor) -> Tensor:
        return torch.tanh(s / 2)


_PLAIN: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "bisigmoid": BiSigmoid,
}


def make_activation(name: str, width: int, eps: float | None) -> nn.Module:
    """The module of one of `semantics.ACTIVATIONS` for `width` units; `eps` is Dice's and None for the others."""
    if name == "dice":
        assert eps is not None, "Semantics gives dice an eps"
        return Dice(width, eps)
    return PReLU(width) if name == "prelu" else _PLAIN[name]()


def activation_parameters(module: nn.Module) -> dict[str, Any]:
    """What the activation needs at inference: {}, {"alpha"} or {"alpha", "mean", "var"}, tensors of shape [H]."""
    if isinstance(module, Dice):
        return {"alpha": module.alpha, "mean": module.mean, "var": module.var}
    return {"alpha": module.alpha} if isinstance(module, PReLU) else {}
