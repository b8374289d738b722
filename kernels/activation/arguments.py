"""Checks of the activation unit's array arguments, the same for all backends."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from din_infer.arrays import Array, Int64Array, contiguous, describe, to_array, to_integers
from din_infer.errors import InputError
from din_infer.jagged import check_offsets
from din_infer.kernels.activation.params import ActivationUnitParams

Float32Array = npt.NDArray[np.float32]


class Arguments(NamedTuple):
    """Row-major arrays of the right dtypes and shapes; `result` is `out` in the form that the caller wants."""

    keys: Float32Array
    key_offsets: Int64Array
    queries: Float32Array
    query_offsets: Int64Array
    counts: Int64Array | None
    out: Float32Array
    result: Any


def check(
    keys: Any, key_offsets: Any, queries: Any, query_offsets: Any, params: ActivationUnitParams, counts: Any, out: Any
) -> Arguments:
    """The arguments of `activation_unit`, or InputError that says what was expected and what came."""
    if not isinstance(params, ActivationUnitParams):
        raise InputError(f"params: expected ActivationUnitParams, got {describe(params)}")
    result, is_tensor = out, _is_tensor(queries)
    keys, queries = _rows(keys, params.dim, "keys"), _rows(queries, params.dim, "queries")
    key_offsets = check_offsets(key_offsets, len(keys), "key_offsets")
    query_offsets = check_offsets(query_offsets, len(queries), "query_offsets")
    check_as_many(query_offsets, key_offsets)
    if counts is not None:
        counts = check_counts(to_integers(counts, "counts"), len(keys))
    if out is None:
        out = np.empty_like(queries)
        result = sys.modules["torch"].from_numpy(out) if is_tensor else out
    else:
        out = check_out(to_array(out, "out"), queries.shape)
        if np.may_share_memory(out, queries) or np.may_share_memory(out, keys):
            raise InputError("out: expected memory of its own, got some of keys or queries")
    return Arguments(keys, key_offsets, queries, query_offsets, counts, out, result)


def _rows(source: Any, dim: int, where: str) -> Float32Array:
    array = to_array(source, where)
    if array.dtype != np.float32 or array.ndim != 2 or array.shape[1] != dim:
        raise InputError(f"{where}: expected float32 [n, {dim}], got {describe(array)}")
    return contiguous(array, np.float32)


def check_as_many(query_offsets: Any, key_offsets: Any) -> None:
    if len(query_offsets) != len(key_offsets):
        raise InputError(
            f"query_offsets: expected {len(key_offsets)}, as many as key_offsets, got {len(query_offsets)}"
        )


def check_counts(counts: Any, keys: int) -> Any:
    """Integers of one dimension, NumPy or a tensor, as they are; InputError unless they are `keys` counts."""
    if len(counts) != keys:
        raise InputError(f"counts: expected {keys}, one per key, got {len(counts)}")
    if keys and (least := int(counts.min())) < 1:
        raise InputError(f"counts: expected at least 1, got {least}")
    return counts


def check_out(out: Array, shape: tuple[int, ...]) -> Float32Array:
    if out.dtype != np.float32 or out.shape != shape:
        raise InputError(f"out: expected float32 {shape}, got {describe(out)}")
    if not (out.flags.c_contiguous and out.flags.aligned and out.flags.writeable):
        raise InputError("out: expected a row-major, writeable array, got one that is not")
    return out


def _is_tensor(array: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)
