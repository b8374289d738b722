"""The activation unit: see README.md in this folder for its maths."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from din_infer.arrays import off_host
from din_infer.errors import InputError
from din_infer.extras import require
from din_infer.kernels.activation import native, reference
from din_infer.kernels.activation.arguments import Arguments, check
from din_infer.kernels.activation.params import ActivationUnitParams
from din_infer.threads import resolve_threads

__all__ = ["BACKENDS", "ActivationUnitParams", "activation_unit"]

ON_HOST: dict[str, Callable[[Arguments, ActivationUnitParams, int], None]] = {
    "native": native.run,
    "reference": reference.run,
}
BACKENDS = (*ON_HOST, "triton")


def activation_unit(
    keys: Any,
    key_offsets: Any,
    queries: Any,
    query_offsets: Any,
    params: ActivationUnitParams,
    *,
    counts: Any = None,
    backend: str = "auto",
    threads: int | None = None,
    out: Any = None,
) -> Any:
    """Pools each request's behaviours for each of its candidates: u(q) = sum_t a(k_t, q) k_t (arXiv 1706.06978, 4.3).

    - `keys` float32 [K, D], `key_offsets` int64 [B + 1]: the behaviours of all requests, one request after another;
    - `queries` float32 [Q, D], `query_offsets` int64 [B + 1]: their candidates;
    - `counts` int64 [K], at least 1: how often each key occurs, where equal behaviours were merged;
    - `backend`: `native`, `reference` (NumPy in float64, slow), `triton` (CUDA devices), or `auto`: `triton` where
      `queries` is on a device, `native` elsewhere;
    - `threads`: None takes what affinity and cgroup quota leave; results do not depend on it;
    - `out` float32 [Q, D], row-major: written and returned.

    Arrays are NumPy, torch tensors, or have `__array__`, DLPack or `__cuda_array_interface__`. `triton` takes float16
    and bfloat16 too, adds up in float32, and rounds float32 products to TF32 where PyTorch is told to round its own
    (torch.set_float32_matmul_precision). Returns float32 [Q, D]: a torch tensor on the device of `queries` where that
    is one or on a device, else NumPy. A request without keys gives zeros. NaN in a query stays in its row, in a key
    among the rows of its request. Raises InputError for wrong dtypes and shapes and where there is no CUDA device for
    `triton`, MissingExtraError where torch or triton is not installed.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise InputError(f"backend: expected auto, {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "triton" or (backend == "auto" and off_host(queries)):
        if threads is not None:
            resolve_threads(threads)
        return _triton().run(keys, key_offsets, queries, query_offsets, params, counts, out)
    count = resolve_threads(threads)
    arguments = check(keys, key_offsets, queries, query_offsets, params, counts, out)
    ON_HOST["native" if backend == "auto" else backend](arguments, params, count)
    return arguments.result


@cache
def _triton() -> ModuleType:
    require("torch", "cuda")
    require("triton", "cuda")
    return require("din_infer.kernels.activation.triton_backend", "cuda")
