"""The `triton` backend of `activation_unit`: checks its arguments, keeps them on their device, runs the kernels."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from din_infer.arrays import describe
from din_infer.errors import InputError
from din_infer.jagged import check_offsets
from din_infer.kernels.activation.params import ActivationUnitParams
from din_infer.kernels.activation.triton_config import FOLD_BYTES, padded
from din_infer.kernels.activation.triton_op import ON_HOST, pool
from din_infer.kernels.activation.triton_pack import Packed, UnitTensors, pack

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_packed: WeakKeyDictionary[ActivationUnitParams, dict[tuple[torch.device, torch.dtype], Packed]] = WeakKeyDictionary()


def run(
    keys: Any, key_offsets: Any, queries: Any, query_offsets: Any, params: ActivationUnitParams, counts: Any, out: Any
) -> Any:
    """`activation_unit` on the GPU, float32 [Q, D]: on the queries' device, or NumPy where they are no tensor."""
    if not isinstance(params, ActivationUnitParams):
        raise InputError(f"params: expected ActivationUnitParams, got {describe(params)}")
    device = _device(queries)
    k, q = _rows(keys, params.dim, device, "keys"), _rows(queries, params.dim, device, "queries")
    if k.dtype != q.dtype:
        raise InputError(f"queries: expected {k.dtype} as keys have it, got {q.dtype}")
    key_offsets = torch.from_numpy(check_offsets(_on_host(key_offsets), len(k), "key_offsets"))
    query_offsets = torch.from_numpy(check_offsets(_on_host(query_offsets), len(q), "query_offsets"))
    if len(query_offsets) != len(key_offsets):
        raise InputError(
            f"query_offsets: expected {len(key_offsets)}, as many as key_offsets, got {len(query_offsets)}"
        )
    result = _result(out, q)
    with torch.no_grad():
        packed = _pack_once(params, device, k.dtype)
        times = None if counts is None else _counts(counts, len(k), device)
        for rows, offsets in _turns(query_offsets, padded(params.dim) * len(packed.bias) * k.dtype.itemsize):
            result[rows] = interest(packed, k, key_offsets, q[rows], offsets, times)
    if isinstance(queries, Tensor):
        return result if out is None else out
    if out is None:
        return result.cpu().numpy()
    out[...] = result.cpu().numpy()
    return out


def interest(
    packed: Packed,
    keys: Tensor,
    key_offsets: Tensor,
    queries: Tensor,
    query_offsets: Tensor,
    counts: Tensor | None = None,
) -> Tensor:
    """Pooled keys float32 [Q, D]: keys [K, D] and queries [Q, D] of one dtype on one device, offsets int64 [B + 1]."""
    unit = packed.unit
    if torch.is_autocast_enabled(keys.device.type):  # under which the fold would have another dtype than the keys
        with torch.autocast(keys.device.type, enabled=False):
            a, b = packed.fold(queries)
    else:
        a, b = packed.fold(queries)
    out: Tensor = pool(
        keys.contiguous(),
        counts,
        a,
        b,
        packed.weights,
        packed.vectors,
        key_offsets,
        query_offsets,
        packed.hidden,
        packed.activation,
        unit.normalize == "softmax",
        1.0 if unit.scale is None else unit.scale,
    )[0]
    return out


def _device(queries: Any) -> torch.device:
    """Where to compute. Raises InputError where the kernels cannot run."""
    if not ON_HOST and not torch.cuda.is_available():
        raise InputError("backend triton: expected a CUDA device, got none that PyTorch can use")
    default = torch.device("cpu") if ON_HOST else torch.device("cuda", torch.cuda.current_device())
    device = queries.device if isinstance(queries, Tensor) else default
    if device.type != default.type:
        where = "in main memory under TRITON_INTERPRET=1" if ON_HOST else "on a CUDA device, or arrays"
        raise InputError(f"backend triton: expected tensors {where}, got {device}")
    return device


def _rows(source: Any, dim: int, device: torch.device, where: str) -> Tensor:
    if not isinstance(source, Tensor | np.ndarray):
        raise InputError(f"{where}: expected an array or a tensor, got {describe(source)}")
    dtype, shape = source.dtype, tuple(source.shape)
    tensor = source if isinstance(source, Tensor) else _from_numpy(source, where)
    if tensor.dtype not in DTYPES or tensor.ndim != 2 or tensor.shape[1] != dim:
        raise InputError(f"{where}: expected float32, float16 or bfloat16 [n, {dim}], got {dtype} of shape {shape}")
    if isinstance(source, Tensor) and tensor.device != device:
        raise InputError(f"{where}: expected a tensor on {device} as queries are, got {tensor.device}")
    if tensor.requires_grad:
        raise InputError(f"{where}: expected a tensor without gradient, got one that requires it")
    return tensor.to(device).contiguous()


def _from_numpy(array: np.ndarray[Any, Any], where: str) -> Tensor:
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise InputError(f"{where}: expected floats, got {describe(array)}")
    return torch.tensor(np.ascontiguousarray(array))  # a copy: the array may be read-only


def _on_host(offsets: Any) -> Any:
    return offsets.cpu() if isinstance(offsets, Tensor) else offsets


def _counts(source: Any, keys: int, device: torch.device) -> Tensor:
    counts = source if isinstance(source, Tensor) else torch.tensor(np.asarray(source), device=device)
    if counts.ndim != 1 or counts.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise InputError(
            f"counts: expected integers in one dimension, got {counts.dtype} of shape {tuple(counts.shape)}"
        )
    if len(counts) != keys:
        raise InputError(f"counts: expected {keys}, one per key, got {len(counts)}")
    if keys and int(counts.min()) < 1:
        raise InputError(f"counts: expected at least 1, got {int(counts.min())}")
    return counts.to(device, torch.int64).contiguous()


def _result(out: Any, queries: Tensor) -> Tensor:
    """Where the kernel's results go: `out` itself where it is a tensor."""
    if out is None:
        return queries.new_empty(queries.shape, dtype=torch.float32)
    if str(out.dtype).removeprefix("torch.") != "float32" or tuple(out.shape) != tuple(queries.shape):
        got = f"{out.dtype} of shape {tuple(out.shape)}"
        raise InputError(f"out: expected float32 {tuple(queries.shape)}, got {got}")
    if not isinstance(out, Tensor):
        return queries.new_empty(queries.shape, dtype=torch.float32)
    if out.device != queries.device:
        raise InputError(f"out: expected a tensor on {queries.device}, got {out.device}")
    return out


def _pack_once(params: ActivationUnitParams, device: torch.device, dtype: torch.dtype) -> Packed:
    made = _packed.setdefault(params, {})
    if (device, dtype) not in made:
        made[device, dtype] = pack(UnitTensors.of(params, device), dtype)
    return made[device, dtype]


def _turns(query_offsets: Tensor, fold_bytes: int) -> list[tuple[slice, Tensor]]:
    """The queries in runs whose folds take at most FOLD_BYTES, each with its own offsets."""
    total, step = int(query_offsets[-1]), max(1, FOLD_BYTES // fold_bytes)
    starts = range(0, total, step)
    return [(slice(s, min(s + step, total)), query_offsets.clamp(s, min(s + step, total)) - s) for s in starts]
