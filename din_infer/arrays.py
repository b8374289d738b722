"""What users hand over as arrays: read into NumPy without copies where possible, or left on their device."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, SupportsFloat

import numpy as np
import numpy.typing as npt

from din_infer.errors import InputError
from din_infer.extras import require

Array = npt.NDArray[Any]
Int64Array = npt.NDArray[np.int64]

_FLOAT32_MAX = float(np.finfo(np.float32).max)
STRING_KINDS = "UOT"  # NumPy's fixed-width, object and StringDType arrays
_HOST = {1, 3, 11}  # DLPack's kDLCPU, kDLCUDAHost, kDLROCMHost
_NO_NUMBERS = {bool, np.bool_, type(np.ma.masked)}  # between numbers, NumPy takes them for some


def off_host(source: Any) -> bool:
    """Whether an array says that it lies on a device, where NumPy cannot read it."""
    if isinstance(source, np.ndarray):
        return False
    if not hasattr(source, "__dlpack_device__"):
        return hasattr(source, "__cuda_array_interface__")
    try:
        return int(source.__dlpack_device__()[0]) not in _HOST
    except (BufferError, RuntimeError, TypeError, ValueError):  # PyTorch's of a tensor without memory
        return False


def tensors() -> ModuleType:
    """din_infer.tensors, which reads what is off the host. Raises MissingExtraError where torch is not installed."""
    require("torch", "cuda")
    return require("din_infer.tensors", "cuda")


def read_array(source: Any, where: str) -> Any:
    """`to_array`; arrays on a device as a PyTorch tensor there."""
    if isinstance(source, np.ndarray) or not off_host(source):
        return to_array(source, where)
    return tensors().adopt(source, where)


def read_integers(source: Any, where: str) -> Any:
    """`to_integers`; arrays on a device as an int64 tensor there."""
    if off_host(source):
        return tensors().to_integers(tensors().adopt(source, where), where)
    return to_integers(source, where)


def to_array(source: Any, where: str) -> Array:
    """NumPy arrays, `__array__`, DLPack, and flat lists of numbers or strings, as a NumPy array of any shape.

    Raises InputError, naming `where`, for what is none of these or holds anything but numbers or strings.
    """
    if isinstance(source, np.ma.MaskedArray):
        raise InputError(f"{where}: expected an array without a mask, got {describe(source)}")
    if isinstance(source, np.ndarray):
        array: Array = source
    elif hasattr(source, "__array__") or hasattr(source, "__dlpack__"):
        array = _from_foreign(source, where)
    elif isinstance(source, Sequence) and not isinstance(source, str | bytes):
        if len(source) and isinstance(source[0], list | tuple):
            what = "an array, or a list of numbers alone or strings alone"
            raise InputError(f"{where}: expected {what}, got {describe(source[0])}")
        array = from_scalars(source, where)
    else:
        raise InputError(f"{where}: expected an array or a list, got {describe(source)}")
    if array.dtype.kind not in "iuf" + STRING_KINDS:
        raise InputError(f"{where}: expected integers, floats or strings, got dtype {array.dtype}")
    return array


def from_scalars(scalars: Sequence[Any], where: str) -> Array:
    """A list of numbers, or of strings, as an array; nothing is converted from one to the other."""
    if len(scalars) == 0:
        return np.empty(0, np.int64)
    if isinstance(scalars[0], str):
        strings = np.empty(len(scalars), object)
        strings[:] = scalars
        return strings
    types = set(map(type, scalars))
    try:
        array = np.asarray(scalars) if types.isdisjoint(_NO_NUMBERS) else np.empty((), object)
    except (TypeError, ValueError, OverflowError):  # lists of different lengths between the numbers; tensors elsewhere
        array = np.empty((), object)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        culprit = next((s for s in scalars if not _is_number(s)), scalars[0])
        raise InputError(f"{where}: expected numbers alone or strings alone, got {describe(culprit)}")
    if array.dtype.kind == "f" and not any(issubclass(t, float | np.floating) for t in types):
        return _integers(scalars, where)
    return array


def join_integers(arrays: Sequence[Array], where: str) -> Array:
    """Integer arrays one after another: int64 where dtypes differ, for NumPy joins uint64 and int64 to float64."""
    if len({array.dtype for array in arrays}) > 1:
        arrays = [to_integers(array, where) for array in arrays]
    return np.concatenate(arrays)


def to_integers(source: Any, where: str) -> Int64Array:
    """An integer array of one dimension as contiguous int64."""
    array = to_array(source, where)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"{where}: expected integers in one dimension, got {describe(array)}")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{where}: expected integers that fit int64, got {array.max()}")
    return contiguous(array, np.int64)


def contiguous(array: Array, dtype: npt.DTypeLike) -> Array:
    """Row-major, aligned and of `dtype`, as the compiled core reads it; copied only where it is not so."""
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:  # np.require takes 2 us to see that
        return array
    return np.array(array, dtype, order="C")


def is_float32(number: SupportsFloat) -> bool:
    """Whether float32 holds it as a finite number."""
    try:
        return abs(float(number)) <= _FLOAT32_MAX
    except OverflowError:  # of integers past float64
        return False


def describe(value: Any) -> str:
    """Short text of a value for error messages."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _integers(scalars: Sequence[Any], where: str) -> Int64Array:
    """Integers of several dtypes, which NumPy makes floats of where one is unsigned, one by one."""
    try:
        return np.fromiter(map(int, scalars), np.int64, len(scalars))
    except OverflowError:
        raise InputError(f"{where}: expected integers that fit int64, got {max(map(int, scalars), key=abs)}") from None


def _is_number(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**64
    return isinstance(value, float | np.integer | np.floating)


def _from_foreign(source: Any, where: str) -> Array:
    try:
        return np.asarray(source) if hasattr(source, "__array__") else np.from_dlpack(source)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{where}: expected an array in main memory, got {type(source).__name__}: {reason}") from None
