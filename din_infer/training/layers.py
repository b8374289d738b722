"""A stack of fully connected layers with one output, the shape of both activation unit and tower."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn

from din_infer.semantics import Layers
from din_infer.training.activations import activation_parameters, make_activation


class FullyConnected(nn.Module):
    """[P, inputs] -> [P]: each width of `layers.hidden` followed by the activation, then one linear output."""

    def __init__(self, inputs: int, layers: Layers) -> None:
        super().__init__()
        widths = [inputs, *layers.hidden, 1]
        self.linears = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(widths))
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
        for activation, linear in zip(self.activations, list(self.linears)[1:], strict=True):
            s = linear(activation(s))
        return s.squeeze(-1)

    def named_values(self) -> Iterator[tuple[str, Tensor]]:
        """Weights, biases and activation parameters under the names that follow `unit.<history>.` or `tower.`."""
        for i, linear in enumerate(self.linears):
            assert isinstance(linear, nn.Linear)
            yield f"weights.{i}", linear.weight
            yield f"biases.{i}", linear.bias
        for i, activation in enumerate(self.activations):
            for name, value in activation_parameters(activation).items():
                yield f"activation.{i}.{name}", value
