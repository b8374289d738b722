"""PyTorch's compiler, inductor, on the CPU. It writes C++, so a C++ compiler has to be there."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from din_infer.bench.peers import torch_eager
from din_infer.bench.peers.peer import AbsentPeerError, Array, Run
from din_infer.extras import require

if TYPE_CHECKING:
    from din_infer.kernels import ActivationUnitParams


def folded_unit(params: ActivationUnitParams, keys: Array, queries: Array, threads: int) -> Run:
    """The activation unit, `outer` with sigmoid, folded by hand, and compiled for these shapes before it is timed.

    The bias is added apart from the product, unlike in the eager version: inductor fuses it with the activation.
    Raises AbsentPeerError where the compiler does not get through.
    """
    torch = require("torch", extra="train")
    config = require("torch._inductor.config", extra="train")
    w = torch_eager.weights_of(params)
    dim, hidden = w.key.shape

    def unit(k: Any, q: Any) -> Any:
        own_weights = (q @ w.outer).view(-1, dim, hidden) + w.key
        h = torch.matmul(k, own_weights) + torch.addmm(w.bias, q, w.query).unsqueeze(1)
        for weights, biases in w.layers:
            h = torch.addmm(biases, h.sigmoid().view(-1, h.shape[-1]), weights)
        return h.view(len(q), len(k)) @ k

    torch.compiler.reset()  # past a number of versions of one function, it would run eager without a word
    run = torch_eager.timed(torch.compile(unit, dynamic=False, fullgraph=True), keys, queries, threads)
    try:
        with warnings.catch_warnings(), config.patch(compile_threads=1):  # no helper processes that outlive it
            warnings.simplefilter("ignore")
            run()
    except Exception as error:  # whatever a compiler and its tool chain raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise AbsentPeerError(f"expected a working inductor and C++ compiler, got {reason}") from None
    return run
