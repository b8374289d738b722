"""The `triton` backend of `activation_unit`: checks its arguments, keeps them on their device, runs the kernels."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from din_infer.arrays import Array, describe, off_host, read_array, read_integers, to_array
from din_infer.errors import InputError
from din_infer.jagged import check_offsets
from din_infer.kernels.activation.arguments import check_as_many, check_counts, check_out
from din_infer.kernels.activation.params import ActivationUnitParams
from din_infer.kernels.activation.triton_config import FOLD_BYTES, padded
from din_infer.kernels.activation.triton_launch import ON_HOST
from din_infer.kernels.activation.triton_op import pool, pool_op
from din_infer.kernels.activation.triton_pack import Packed, UnitTensors, pack
from din_infer.tensors import adopt
from din_infer.tensors import describe as describe_array

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_packed: WeakKeyDictionary[ActivationUnitParams, dict[tuple[torch.device, torch.dtype], Packed]] = WeakKeyDictionary()


def run(
    keys: Any, key_offsets: Any, queries: Any, query_offsets: Any, params: ActivationUnitParams, counts: Any, out: Any
) -> Any:
    """`activation_unit` on the GPU, float32 [Q, D]: on the queries' device, or NumPy where they are no tensor."""
    if not isinstance(params, ActivationUnitParams):
        raise InputError(f"params: expected ActivationUnitParams, got {describe(params)}")
    given = _read(queries, "queries")
    device = _device(given)
    k, q = _rows(_read(keys, "keys"), params.dim, device, "keys"), _rows(given, params.dim, device, "queries")
    if k.dtype != q.dtype:
        raise InputError(f"queries: expected {k.dtype} as keys have it, got {q.dtype}")
    key_offsets = torch.from_numpy(check_offsets(_on_host(key_offsets, "key_offsets"), len(k), "key_offsets"))
    query_offsets = torch.from_numpy(check_offsets(_on_host(query_offsets, "query_offsets"), len(q), "query_offsets"))
    check_as_many(query_offsets, key_offsets)
    target = None if out is None else _target(out, k, q)
    with torch.no_grad():
        times = None if counts is None else _counts(counts, len(k), device)
        result = interest_in_turns(_pack_once(params, device, k.dtype), k, key_offsets, q, query_offsets, times)
        if isinstance(target, Tensor):
            target.copy_(result)
    if isinstance(target, np.ndarray):
        target[...] = result.cpu().numpy()
    if out is not None:
        return out
    return result if isinstance(given, Tensor) else result.cpu().numpy()


def interest_in_turns(
    packed: Packed,
    keys: Tensor,
    key_offsets: Tensor,
    queries: Tensor,
    query_offsets: Tensor,
    counts: Tensor | None = None,
) -> Tensor:
    """`interest`, with at most FOLD_BYTES of folds at a time."""
    fold_bytes = padded(packed.unit.dim) * len(packed.bias) * keys.dtype.itemsize
    step, total = max(1, FOLD_BYTES // fold_bytes), len(queries)
    if total <= step:
        return interest(packed, keys, key_offsets, queries, query_offsets, counts)
    ends = [(start, min(start + step, total)) for start in range(0, total, step)]
    parts = (interest(packed, keys, key_offsets, queries[a:b], query_offsets.clamp(a, b) - a, counts) for a, b in ends)
    return torch.cat(list(parts))


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
    as_operator = torch.is_grad_enabled() or _traced()
    if torch.is_autocast_enabled(keys.device.type):  # under which the fold would have another dtype than the keys
        with torch.autocast(keys.device.type, enabled=False):
            a, b = packed.fold(queries)
    else:
        a, b = packed.fold(queries)
    out: Tensor = (pool_op if as_operator else pool)(
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


def _traced() -> bool:
    """Whether torch.compile, torch.export, torch.jit.trace or a dispatch mode such as make_fx's records the call."""
    return torch.compiler.is_compiling() or torch._C._is_tracing() or torch._C._len_torch_dispatch_stack() > 0


def _read(source: Any, where: str) -> Tensor | Array:
    """A tensor, one in the memory of another array on a device, or NumPy."""
    return adopt(source, where) if isinstance(source, Tensor) else read_array(source, where)


def _device(queries: Tensor | Array) -> torch.device:
    """Where to compute. Raises InputError where the kernels cannot run."""
    if not ON_HOST and not torch.cuda.is_available():
        raise InputError("backend triton: expected a CUDA device, got none that PyTorch can use")
    default = torch.device("cpu") if ON_HOST else torch.device("cuda", torch.cuda.current_device())
    device = queries.device if isinstance(queries, Tensor) else default
    if device.type != default.type:
        where = "in main memory under TRITON_INTERPRET=1" if ON_HOST else "on a CUDA device, or arrays"
        raise InputError(f"backend triton: expected tensors {where}, got {device}")
    return device


def _rows(array: Tensor | Array, dim: int, device: torch.device, where: str) -> Tensor:
    dtypes: Any = DTYPES if isinstance(array, Tensor) else (np.float32, np.float16)
    if array.dtype not in dtypes or array.ndim != 2 or array.shape[1] != dim:
        raise InputError(f"{where}: expected float32, float16 or bfloat16 [n, {dim}], got {describe_array(array)}")
    if not isinstance(array, Tensor):
        return torch.tensor(np.ascontiguousarray(array), device=device)  # a copy: the array may be read-only
    if array.device != device:
        raise InputError(f"{where}: expected a tensor on {device} as queries are, got {array.device}")
    return array.contiguous()


def _on_host(offsets: Any, where: str) -> Any:
    return adopt(offsets, where).cpu() if off_host(offsets) else offsets


def _counts(source: Any, keys: int, device: torch.device) -> Tensor:
    counts = check_counts(read_integers(source, "counts"), keys)
    return counts.to(device) if isinstance(counts, Tensor) else torch.tensor(counts, device=device)


def _target(out: Any, keys: Tensor, queries: Tensor) -> Tensor | Array:
    """Where results go: `out` as a tensor on the queries' device, or as NumPy."""
    if not (isinstance(out, Tensor) and out.device == queries.device) and not off_host(out):
        return check_out(to_array(out, "out"), tuple(queries.shape))
    tensor = adopt(out, "out")
    if tensor.dtype != torch.float32 or tensor.shape != queries.shape:
        raise InputError(f"out: expected float32 {tuple(queries.shape)}, got {describe_array(tensor)}")
    if tensor.device != queries.device:
        raise InputError(f"out: expected a tensor on {queries.device}, got {tensor.device}")
    if not tensor.is_contiguous():
        raise InputError("out: expected a row-major, writeable array, got one that is not")
    if any(_overlap(tensor, other) for other in (keys, queries)):
        raise InputError("out: expected memory of its own, got some of keys or queries")
    return tensor


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether contiguous tensors share memory."""
    return a.data_ptr() < b.data_ptr() + b.nbytes and b.data_ptr() < a.data_ptr() + a.nbytes


def _pack_once(params: ActivationUnitParams, device: torch.device, dtype: torch.dtype) -> Packed:
    made = _packed.setdefault(params, {})
    if (device, dtype) not in made:
        made[device, dtype] = pack(UnitTensors.of(params, device), dtype)
    return made[device, dtype]
