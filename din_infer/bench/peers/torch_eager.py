"""PyTorch, eager, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from din_infer.bench.peers.peer import Array, Run
from din_infer.extras import require

if TYPE_CHECKING:
    from din_infer.kernels import ActivationUnitParams


@dataclass(frozen=True)
class Weights:
    """Tensors of a unit with `outer`, laid out for folding by hand; `layers` are those after the first."""

    key: Any  # [D, H]
    query: Any  # [D, H]
    outer: Any  # [D, D * H], rows over the query's elements
    bias: Any  # [H]
    layers: list[tuple[Any, Any]]  # [in, out], [out]


def weights_of(params: ActivationUnitParams) -> Weights:
    torch = require("torch", extra="train")
    dim, w = params.dim, torch.tensor(params.weights[0])
    hidden = w.shape[0]
    return Weights(
        key=w[:, :dim].T.contiguous(),
        query=w[:, dim : 2 * dim].T.contiguous(),
        outer=w[:, 2 * dim :].reshape(hidden, dim, dim).permute(2, 1, 0).reshape(dim, -1).contiguous(),
        bias=torch.tensor(params.biases[0]),
        layers=[
            (torch.tensor(w.T).contiguous(), torch.tensor(b))
            for w, b in zip(params.weights[1:], params.biases[1:], strict=True)
        ],
    )


def folded_unit(params: ActivationUnitParams, keys: Array, queries: Array, threads: int) -> Run:
    """The activation unit, `outer` with sigmoid, folded by hand; as few passes over memory as eager operators allow."""
    torch = require("torch", extra="train")
    w = weights_of(params)
    dim, hidden = w.key.shape

    def unit(k: Any, q: Any) -> Any:
        own_weights = (q @ w.outer).view(-1, dim, hidden).add_(w.key)
        own_bias = torch.addmm(w.bias, q, w.query).unsqueeze(1)
        h = torch.baddbmm(own_bias, k.expand(len(q), *k.shape), own_weights)
        for weights, biases in w.layers:
            h = torch.addmm(biases, h.sigmoid_().view(-1, h.shape[-1]), weights)
        return h.view(len(q), len(k)) @ k

    return timed(unit, keys, queries, threads)


def timed(unit: Callable[[Any, Any], Any], keys: Array, queries: Array, threads: int) -> Run:
    """`unit(keys, queries)` on tensors, without autograd."""
    torch = require("torch", extra="train")
    k, q = torch.from_numpy(keys), torch.from_numpy(queries)

    def run() -> Array:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            interest: Array = unit(k, q).numpy()
        return interest

    return run
