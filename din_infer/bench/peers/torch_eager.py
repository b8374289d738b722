"""PyTorch, eager, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from din_infer.extras import require

if TYPE_CHECKING:
    from din_infer.kernels import ActivationUnitParams

Array = npt.NDArray[np.float32]


def folded_unit(params: ActivationUnitParams, keys: Array, queries: Array, threads: int) -> Callable[[], Array]:
    """The activation unit folded by hand, `outer` with sigmoid: keys [T, D], queries [N, D] -> interest [N, D]."""
    torch = require("torch", extra="train")
    dim = keys.shape[1]
    w = torch.tensor(params.weights[0])
    hidden = w.shape[0]
    key_weights = w[:, :dim].T.contiguous()  # [D, H]
    query_weights = w[:, dim : 2 * dim].T.contiguous()
    outer_weights = w[:, 2 * dim :].reshape(hidden, dim, dim).permute(2, 1, 0).reshape(dim, -1).contiguous()
    layers = [
        (torch.tensor(w.T).contiguous(), torch.tensor(b))
        for w, b in zip(params.weights[1:], params.biases[1:], strict=True)
    ]
    bias, k, q = torch.tensor(params.biases[0]), torch.from_numpy(keys), torch.from_numpy(queries)

    def run() -> Array:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            own_weights = (q @ outer_weights).view(-1, dim, hidden).add_(key_weights)
            h = torch.baddbmm(torch.addmm(bias, q, query_weights).unsqueeze(1), k.expand(len(q), *k.shape), own_weights)
            for weights, biases in layers:
                h = torch.addmm(biases, h.sigmoid_().view(-1, h.shape[-1]), weights)
            interest: Array = (h.view(len(q), len(k)) @ k).numpy()
        return interest

    return run
