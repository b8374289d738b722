"""A stack of fully connected layers with one output, the shape of both activation unit and tower."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn

from din_infer.semantics import Layers
from din_infer.training.activations import activation_parameters, make_activation
from din_infer.training.batch_norm import BatchNorm, folded


class FullyConnected(nn.Module):
    """[P, inputs] -> [P]: each width of `layers.hidden` followed by the activation, then one linear output.

    `batch_norm` normalises what the activations get. No file says so: `named_values` has it in weights and biases.
    """

    def __init__(self, inputs: int, layers: Layers, batch_norm: bool = False) -> None:
        super().__init__()
        widths = [inputs, *layers.hidden, 1]
        self.linears = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(widths))
        self.norms = nn.ModuleList(BatchNorm(w) if batch_norm else nn.Identity() for w in layers.hidden)
        self.activations = nn.ModuleList(make_activation(layers.activation, w, layers.eps) for w in layers.hidden)

    @property
    def first(self) -> nn.Linear:
        linear = self.linears[0]
        assert isinstance(linear, nn.Linear)
        return linear

    def forward(self, x: Tensor) -> Tensor:
        return self.after_first(self.first(x))

    def after_first(self, s: Tensor) -> Tensor:
        """The rest of the stack: [P, H_1], what the first linear layer gave, -> [P]."""
        for norm, activation, linear in zip(self.norms, self.activations, list(self.linears)[1:], strict=True):
            s = linear(activation(norm(s)))
        return s.squeeze(-1)

    def named_values(self) -> Iterator[tuple[str, Tensor]]:
        """Weights, biases and activation parameters under the names that follow `unit.<history>.` or `tower.`."""
        for i, linear in enumerate(self.linears):
            assert isinstance(linear, nn.Linear)
            norm = self.norms[i] if i < len(self.norms) else None
            weight, bias = folded(linear, norm) if isinstance(norm, BatchNorm) else (linear.weight, linear.bias)
            yield f"weights.{i}", weight
            yield f"biases.{i}", bias
        for i, activation in enumerate(self.activations):
            for name, value in activation_parameters(activation).items():
                yield f"activation.{i}.{name}", value
