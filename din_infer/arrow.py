"""Arrow arrays, from pyarrow, Polars or anything with the Arrow PyCapsule interface, as NumPy arrays and Jagged."""

from __future__ import annotations

from typing import Any

import numpy as np

from din_infer.arrays import Array
from din_infer.errors import InputError
from din_infer.extras import require
from din_infer.jagged import Jagged

_EXPECTED = "integers, floats, strings or lists of them"


def is_arrow(source: Any) -> bool:
    return hasattr(source, "__arrow_c_array__") or hasattr(source, "__arrow_c_stream__")


def to_column(source: Any, where: str) -> Array | Jagged:
    """An Arrow array or chunked array as an array, or as a Jagged for lists. Strings become objects.

    Raises InputError, naming `where`, for nulls and for types that are neither numbers, strings nor lists of them.
    """
    pa = require("pyarrow", "table")
    try:
        return _to_column(pa, _in_one(pa, source, where), where)
    except pa.ArrowException as error:
        raise InputError(f"{where}: expected {_EXPECTED}, got what Arrow cannot read: {error}") from None


def _in_one(pa: Any, source: Any, where: str) -> Any:
    if not isinstance(source, pa.Array):
        chunked = source if isinstance(source, pa.ChunkedArray) else pa.chunked_array(source)
        source = chunked.combine_chunks()
        if isinstance(source, pa.ChunkedArray):  # pyarrow keeps what is too long for one array in chunks
            raise InputError(f"{where}: expected a column that fits one Arrow array, got {source.num_chunks} chunks")
    return source


def _to_column(pa: Any, array: Any, where: str) -> Array | Jagged:
    if array.null_count:
        raise InputError(f"{where}: expected no nulls, got {array.null_count} of {len(array)} ({array.type})")
    types = pa.types
    if types.is_dictionary(array.type):
        if types.is_string_view(array.type.value_type):  # Polars' categories, which pyarrow 26 does not decode
            array = pa.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(pa.large_string()))
        return _to_column(pa, array.dictionary_decode(), where)
    if hasattr(array, "flatten") and not (types.is_struct(array.type) or types.is_map(array.type)):  # lists of any kind
        lengths = require("pyarrow.compute", "table").list_value_length(array).to_numpy(zero_copy_only=False)
        return Jagged.from_lengths(_to_column(pa, array.flatten(), where), lengths)
    if types.is_null(array.type):  # an empty column without a type
        return np.empty(0, np.int64)
    if types.is_string(array.type) or types.is_large_string(array.type) or types.is_string_view(array.type):
        try:
            strings: Array = array.to_numpy(zero_copy_only=False)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise InputError(f"{where}: expected strings in UTF-8, got: {error}") from None
        return strings
    if not (types.is_integer(array.type) or types.is_floating(array.type)):
        raise InputError(f"{where}: expected {_EXPECTED}, got Arrow {array.type}")
    numbers: Array = array.to_numpy(zero_copy_only=False)
    return numbers
