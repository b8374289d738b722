"""The activation unit: see README.md in this folder for its maths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from din_infer.errors import InputError
from din_infer.kernels.activation import native, reference
from din_infer.kernels.activation.arguments import Arguments, check
from din_infer.kernels.activation.params import ActivationUnitParams
from din_infer.threads import resolve_threads

__all__ = ["BACKENDS", "ActivationUnitParams", "activation_unit"]

BACKENDS: dict[str, Callable[[Arguments, ActivationUnitParams, int], None]] = {
    "native": native.run,
    "reference": reference.run,
}


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
    - `backend`: `native`, `reference` (NumPy in float64, slow), or `auto`, the fastest that is there: `native`;
    - `threads`: None takes what affinity and cgroup quota leave; results do not depend on it;
    - `out` float32 [Q, D], row-major: written and returned.

    Returns float32 [Q, D]: NumPy, or a torch tensor where `queries` is one. A request without keys gives zeros. NaN
    in a query stays in its row, in a key among the rows of its request. Raises InputError for wrong dtypes and shapes.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise InputError(f"backend: expected auto, {', '.join(BACKENDS)}, got {backend!r}")
    arguments = check(keys, key_offsets, queries, query_offsets, params, counts, out)
    BACKENDS["native" if backend == "auto" else backend](arguments, params, resolve_threads(threads))
    return arguments.result
