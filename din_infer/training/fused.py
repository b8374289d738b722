"""The activation unit of a model in training as the Triton kernels, with their gradients. Needs the extra `cuda`."""

from __future__ import annotations

from torch import Tensor

from din_infer.kernels.activation.triton_backend import interest
from din_infer.kernels.activation.triton_pack import UnitTensors, pack
from din_infer.training.activation_unit import ActivationUnit
from din_infer.training.activations import activation_parameters


def fused_interest(
    unit: ActivationUnit, keys: Tensor, key_offsets: Tensor, queries: Tensor, query_offsets: Tensor
) -> Tensor:
    """User interest [N, D] of keys [K, D] for queries [N, D]; offsets int64 [B + 1] cut both into requests.

    Dice takes its averages: statistics of the mini-batch are not computed in the kernels.
    """
    return interest(pack(_tensors(unit), keys.dtype), keys, key_offsets, queries, query_offsets)


def _tensors(unit: ActivationUnit) -> UnitTensors:
    spec, named = unit.spec, dict(unit.layers.named_values())
    eps = {} if spec.eps is None else {"eps": spec.eps}
    return UnitTensors(
        spec.interaction,
        [named[f"weights.{i}"] for i in range(len(spec.hidden) + 1)],
        [named[f"biases.{i}"] for i in range(len(spec.hidden) + 1)],
        spec.activation,
        [{**activation_parameters(activation), **eps} for activation in unit.layers.activations],
        spec.normalize,
        spec.scale,
    )
