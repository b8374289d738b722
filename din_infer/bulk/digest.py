"""Digests that tell rows from others by their values, whatever row groups, encoding and batches they come in."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Digest:
    """Digests of a table's columns that is given piece by piece, however it is cut."""

    def __init__(self) -> None:
        self.rows = 0
        self._columns: dict[str, _Values] = {}

    def update(self, table: pa.Table) -> None:
        self.rows += len(table)
        for name, column in zip(table.column_names, table.columns, strict=True):
            values = self._columns.setdefault(name, _Values())
            for chunk in column.chunks:
                values.update(chunk)

    def columns(self) -> dict[str, str]:
        return {name: values.digest().hex() for name, values in self._columns.items()}


class _Values:
    """The digest of an array: of where nulls are, of the other values and their lengths, and of what is in them.

    Each in a stream of its own, so that it does not matter where the array is cut.
    """

    def __init__(self) -> None:
        self._count = 0
        self._nulls, self._lengths, self._own = _hash(), _hash(), _hash()
        self._nested: dict[str, _Values] = {}

    def update(self, array: pa.Array) -> None:
        if isinstance(array, pa.DictionaryArray):
            array = array.dictionary_decode()
        if array.null_count:
            nulls = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
            self._nulls.update((nulls + self._count).astype(np.int64))
        self._count += len(array)
        array = array.drop_null() if array.null_count else array
        if len(array):
            self._update(array)

    def digest(self) -> bytes:
        whole = _hash()
        whole.update(self._count.to_bytes(8, "little"))
        for part in (self._nulls, self._lengths, self._own, *self._nested.values()):
            whole.update(part.digest())
        return bytes(whole.digest())

    def _update(self, array: pa.Array) -> None:
        types, kind = pa.types, array.type
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            self._lengths.update(pc.list_value_length(array).cast(pa.int64()).to_numpy())
            self._inner("").update(array.flatten())
        elif types.is_struct(kind):
            for field, values in zip(kind, array.flatten(), strict=True):
                self._inner(field.name).update(values)
        elif types.is_string(kind) or types.is_large_string(kind):
            wide = types.is_large_string(kind)
            offsets = np.frombuffer(array.buffers()[1], np.int64 if wide else np.int32)
            offsets = offsets[array.offset : array.offset + len(array) + 1]
            self._lengths.update(np.diff(offsets).astype(np.int64))
            self._own.update(memoryview(array.buffers()[2] or b"")[offsets[0] : offsets[-1]])
        elif types.is_primitive(kind) and not types.is_boolean(kind):
            width = kind.bit_width // 8
            self._own.update(memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width])
        else:  # of columns that are only carried
            self._own.update("".join(f"{value!r}\n" for value in array.to_pylist()).encode())

    def _inner(self, name: str) -> _Values:
        return self._nested.setdefault(name, _Values())


def _hash() -> Any:
    return hashlib.blake2b(digest_size=8)
