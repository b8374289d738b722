"""Columns that lie on a device: what arrays, jagged and batch do with NumPy's, where the data is. Needs torch.

Errors are those of columns in main memory. A check reads a few numbers back, never the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from din_infer.arrays import Array, Int64Array, read_array
from din_infer.errors import InputError

INTEGERS = frozenset(
    getattr(torch, name) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
)
FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


def adopt(source: Any, where: str) -> Tensor:
    """A tensor in the memory of an array on a device: a tensor itself, DLPack, `__cuda_array_interface__`."""
    tensor = source if isinstance(source, Tensor) else _from_foreign(source, where)
    if tensor.layout is not torch.strided:
        raise InputError(f"{where}: expected a dense tensor, got one of layout {tensor.layout}")
    if tensor.requires_grad:
        raise InputError(f"{where}: expected a tensor without gradient, got one that requires it")
    if tensor.dtype not in INTEGERS | FLOATS:
        raise InputError(f"{where}: expected integers, floats or strings, got dtype {name_of(tensor.dtype)}")
    return tensor


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; a copy from main memory does not wait for what a device is doing."""
    return tensor.to(device, non_blocking=device.type != "cpu")


def check_device(tensor: Tensor, device: torch.device | None, where: str) -> None:
    """Raises InputError unless the model, whose device is None where it is on the CPU, can read the tensor."""
    if device is None:
        hint = "load the model with device='cuda' for tensors on a device"
        raise InputError(f"{where}: expected an array in main memory, got a tensor on {tensor.device}; {hint}")
    if tensor.device != device:
        raise InputError(f"{where}: expected a tensor on {device} as the model is, got {tensor.device}")


def to_integers(tensor: Tensor, where: str) -> Tensor:
    """An integer tensor of one dimension as contiguous int64."""
    if tensor.ndim != 1 or (len(tensor) and tensor.dtype not in INTEGERS):
        raise InputError(f"{where}: expected integers in one dimension, got {describe(tensor)}")
    if tensor.dtype == torch.uint64 and len(tensor):
        tensor = tensor.view(torch.int64)
        if int(tensor.min()) < 0:  # the upper half of uint64
            raise InputError(f"{where}: expected integers that fit int64, got {int(tensor[tensor < 0].max()) + 2**64}")
    return tensor.to(torch.int64).contiguous()


def check_offsets(source: Tensor, total: int, where: str) -> Tensor:
    """Offsets as contiguous int64 that start at 0, never go down and end at `total`; otherwise InputError."""
    offsets = to_integers(source, where)
    if len(offsets) == 0:
        raise InputError(f"{where}: expected 0 first, got no offsets")
    down = offsets[1:] < offsets[:-1]
    first, last, goes_down = torch.stack([offsets[0], offsets[-1], down.any().long()]).tolist()
    if first != 0:
        raise InputError(f"{where}: expected 0 first, got {first}")
    if goes_down:
        at = int(down.nonzero()[0])
        before, after = offsets[at : at + 2].tolist()
        raise InputError(f"{where}: expected no offset below the one before, got {after} after {before}")
    if last != total:
        raise InputError(f"{where}: expected the last to be the number of values, {total}, got {last}")
    return offsets


def offsets_of(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def same_offsets(a: Any, b: Any) -> bool:
    """Whether offsets, at least some of which are tensors, are equal."""
    place = a if isinstance(a, Tensor) else b
    return torch.equal(*(o if isinstance(o, Tensor) else torch.tensor(o, device=place.device) for o in (a, b)))


def beside(tensor: Tensor, source: Any, where: str) -> Tensor:
    """An array of numbers on the device of a tensor."""
    array = read_array(source, where)
    if isinstance(array, Tensor):
        return array.to(tensor.device)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{where}: expected numbers, got dtype {array.dtype}")
    return torch.tensor(array, device=tensor.device)


def to_host(tensor: Tensor) -> Int64Array:
    """Offsets of requests, after which work is planned."""
    return np.asarray(tensor.cpu().numpy(), np.int64)


def concatenate(arrays: Sequence[Any], where: str) -> Tensor:
    """Tensors of one dimension, one after another."""
    tensors = [adopt(array, where) for array in arrays]
    filled = [tensor for tensor in tensors if tensor.numel()] or tensors[:1]
    if any(t.ndim != 1 for t in filled):
        kinds = sorted(set(map(describe, filled)))
        raise InputError(f"{where}: expected lists of numbers alone or strings alone, got {' and '.join(kinds[:3])}")
    places = sorted({str(t.device) for t in filled})
    if len(places) > 1:
        raise InputError(f"{where}: expected lists on one device, got some on {' and '.join(places)}")
    if len({t.dtype for t in filled}) > 1:
        whole = all(t.dtype in INTEGERS for t in filled)
        filled = [to_integers(t, where) if whole else t.to(torch.float64) for t in filled]
    return torch.cat(filled)


def to_ids(values: Tensor, where: str) -> Tensor:
    """Integers of any dtype as contiguous int64."""
    if len(values) and values.dtype not in INTEGERS:
        raise InputError(f"{where}: expected integer ids, got dtype {name_of(values.dtype)}{_example(values)}")
    return to_integers(values, where)


def to_dense(values: Tensor, where: str) -> Tensor:
    """Finite numbers as contiguous float32."""
    dense = values.to(torch.float32).contiguous()
    finite = dense.isfinite()
    if not bool(finite.all()):
        bad = int((~finite).nonzero()[0])
        raise InputError(f"{where}: expected finite float32 numbers, got {values[bad].item()} at position {bad}")
    return dense


def to_utf8(values: Tensor, where: str) -> tuple[Any, Int64Array]:
    """Refuses the numbers of a column of strings."""
    if len(values):
        hint = "; strings are in main memory"
        raise InputError(f"{where}: expected string ids, got dtype {name_of(values.dtype)}{_example(values)}{hint}")
    return np.zeros(0, np.uint8), np.zeros(1, np.int64)


ENCODERS: dict[str, Callable[[Tensor, str], Any]] = {"int64": to_ids, "string": to_utf8, "float32": to_dense}


def top_k(scores: Tensor, offsets: Int64Array, k: int) -> tuple[Tensor, Tensor, Int64Array]:
    """Places int64 and scores of the `k` best of each list, best first, and how many those are, as topk.top_k has it.

    Of equal scores the one listed first goes first, NaN last.
    """
    lengths = np.diff(offsets)
    counts, starts = (torch.tensor(a, device=scores.device) for a in (lengths, offsets[:-1]))
    owner = torch.repeat_interleave(counts, output_size=len(scores))
    ranked = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    order = ranked.sort(descending=True, stable=True).indices
    order = order[owner[order].sort(stable=True).indices]
    places = torch.arange(len(scores), device=scores.device) - starts[owner]  # of a list's items, or its ranks
    order = order[places < k]
    return places[order], scores[order], np.minimum(lengths, k)


def describe(array: Tensor | Array) -> str:
    """As of a NumPy array, for error messages."""
    dtype = name_of(array.dtype) if isinstance(array, Tensor) else array.dtype
    return f"an array of {dtype} and shape {tuple(array.shape)}"


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _from_foreign(source: Any, where: str) -> Tensor:
    try:
        return from_dlpack(source) if hasattr(source, "__dlpack__") else torch.as_tensor(source)
    except (AssertionError, BufferError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{where}: expected an array that PyTorch can read, got {type(source).__name__}: {reason}"
        ) from None


def _example(values: Tensor) -> str:
    return f" ({values[0].item()!r})"
