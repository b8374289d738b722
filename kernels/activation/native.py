"""The activation unit in the compiled core: folded, fused, vectorised (csrc/kernels)."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from din_infer import _core
from din_infer.kernels.activation.arguments import Arguments
from din_infer.kernels.activation.params import ActivationUnitParams

_packed: WeakKeyDictionary[ActivationUnitParams, _core.ActivationUnitRunner] = WeakKeyDictionary()


def run(arguments: Arguments, params: ActivationUnitParams, threads: int) -> None:
    """Writes `arguments.out`."""
    packed(params).run(
        arguments.keys,
        arguments.key_offsets,
        arguments.queries,
        arguments.query_offsets,
        arguments.counts,
        arguments.out,
        threads,
    )


def packed(params: ActivationUnitParams) -> _core.ActivationUnitRunner:
    """The core's form of `params`, its weights laid out for the kernels; made once."""
    unit = _packed.get(params)
    if unit is None:
        learned = [*map(dict, params.activation_params), {}]
        layers = list(zip(params.weights, params.biases, learned, strict=True))
        unit = _packed[params] = _core.ActivationUnitRunner(
            params.interaction, layers, params.activation, params.normalize, params.scale
        )
    return unit
