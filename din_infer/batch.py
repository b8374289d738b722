"""Batches of requests: all checks of what users send, and the form in which the compiled core takes it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from din_infer import _core, arrow
from din_infer.arrays import (
    STRING_KINDS,
    Array,
    Int64Array,
    contiguous,
    describe,
    off_host,
    read_array,
    tensors,
    to_integers,
)
from din_infer.errors import InputError
from din_infer.jagged import Jagged, from_lists, unchecked
from din_infer.schema import Column, Schema

__all__ = ["Encoded", "Jagged", "check_names", "encode", "one_request"]

# (values, *offsets from the outermost lists to the innermost); strings are (UTF-8 bytes, int64 offsets). What came on a
# device is a tensor there, save offsets of candidates and histories: they say what is to be done.
Encoded = tuple[Any, ...]

_SHAPES = ("one value per request", "one list per request", "one list of lists per request")


def encode(
    schema: Schema, columns: Mapping[str, Any], catalogue: Mapping[str, Any] | None = None, device: Any = None
) -> tuple[dict[str, Encoded], int]:
    """Checks a batch and returns its columns for the core, with the number of requests.

    `columns` holds exactly the schema's columns. Each has one entry per request: a number or string for user and
    context columns, a list for candidates and histories, one level deeper where the feature has several values.
    With a catalogue the candidate columns are there instead, an entry per item, and come back as one list.
    `device` is the torch.device of a model that reads tensors there. Raises InputError.
    """
    if not isinstance(columns, Mapping):
        hint = "" if columns is None else "; a table goes to score_table"
        raise InputError(f"columns: expected a mapping of column names to columns, got {describe(columns)}{hint}")
    own = [column for column in schema.columns() if catalogue is None or column.group != "candidate"]
    check_names((column.name for column in own), columns, "column")
    if not own:
        raise InputError("catalogue: expected a model that reads something beside candidates, got one that does not")
    encoded = {column.name: _encoded(column, columns[column.name], device) for column in own}
    requests = _check_requests(own, encoded)
    if catalogue is not None:
        encoded |= _catalogue(schema, catalogue, device)
    _check_shared_offsets(schema, encoded)
    if device is not None:
        _fetch_shared_offsets(schema, encoded)
    return encoded, requests


def _catalogue(schema: Schema, catalogue: Mapping[str, Any], device: Any) -> dict[str, Encoded]:
    """The candidate columns of a batch of one request that has every item."""
    if not isinstance(catalogue, Mapping):
        raise InputError(f"catalogue: expected a mapping of column names to columns, got {describe(catalogue)}")
    expected = [column for column in schema.columns() if column.group == "candidate"]
    check_names((column.name for column in expected), catalogue, "catalogue column")
    items = {column: _batch_of_one(catalogue[column.name], column.name) for column in expected}
    return {column.name: _encoded(column, value, device) for column, value in items.items()}


def one_request(
    schema: Schema,
    user: Mapping[str, Any],
    history: Mapping[str, Any],
    candidates: Mapping[str, Any],
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """The columns of a batch of one request, from each group's features.

    `history` holds the features of the schema's only history, or maps each history's name to its features.
    """
    if not isinstance(history, Mapping):
        raise InputError(f"history: expected a mapping of features to values, got {describe(history)}")
    if len(schema.histories) == 1 and not any(isinstance(value, Mapping) for value in history.values()):
        history = dict.fromkeys(schema.histories, history)
    check_names(schema.histories, history, "history")
    columns: dict[str, Any] = {}
    for group, features in {"user": user, "context": context, "candidate": candidates, **history}.items():
        if not isinstance(features, Mapping):
            raise InputError(f"{group}: expected a mapping of features to values, got {describe(features)}")
        check_names(schema.groups()[group], features, f"{group} feature")
        columns |= {(full := f"{group}.{name}"): _batch_of_one(value, full) for name, value in features.items()}
    return columns


def _batch_of_one(value: Any, where: str) -> Any:
    """One request's value as a column, without looking at its elements."""
    if type(value) is list:
        return [value]
    if arrow.is_arrow(value):
        value = arrow.to_column(value, where)
    if not isinstance(value, Jagged):
        if not (isinstance(value, np.ndarray) or off_host(value)) or value.ndim != 1:
            return [value]
        value = read_array(value, where)
    return unchecked(value, np.array([0, len(value)]))


def check_names(expected: Iterable[str], given: Iterable[str], what: str) -> None:
    """Raises InputError unless both hold the same names, with the nearest name for one that is unknown."""
    expected, given = list(expected), list(given)
    if expected == given:
        return
    lists = f"; expected {', '.join(expected) or 'none'}; got {', '.join(map(str, given)) or 'none'}"
    for name in given:
        if name not in expected:
            near = difflib.get_close_matches(str(name), expected, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise InputError(f"unknown {what} {name!r}{hint}{lists}")
    missing = [name for name in expected if name not in given]
    if missing:
        raise InputError(f"missing {what} {', '.join(map(repr, missing))}{lists}")


def _shaped(column: Column, source: Any) -> Array | Jagged:
    """The column as an array or a Jagged of the depth that the schema says."""
    value = source
    if arrow.is_arrow(source):
        value = arrow.to_column(source, column.name)
    elif not isinstance(source, Jagged):
        is_array = hasattr(source, "__array__") or hasattr(source, "__dlpack__") or off_host(source)
        of_lists = isinstance(source, np.ndarray) and source.dtype.kind == "O"
        flat = column.depth == 0 or (is_array and not of_lists)
        try:
            value = read_array(source, column.name) if flat else from_lists(source, column.depth, column.name)
        except InputError as error:
            raise InputError(f"{error}; {_shape_hint(column)}") from None
    depth = _depth(value)
    if column.depth == 2 and depth == 1 and len(value.values) == 0:  # lists that are all empty have no inner ones
        return Jagged(Jagged(value.values, np.zeros(1, np.int64)), value.offsets)
    if depth != column.depth:
        nested = isinstance(value, Jagged)
        shape = f"{depth} levels of lists" if nested else f"array of shape {tuple(value.shape)}"
        raise InputError(f"{column.name}: expected {_SHAPES[column.depth]}, got {shape}; {_shape_hint(column)}")
    return value  # type: ignore[no-any-return]


def _depth(value: Array | Jagged) -> int:
    """Levels of lists; arrays of more than one dimension, which could be padded, are -1."""
    if isinstance(value, Jagged):
        return 1 + _depth(value.values)
    return 0 if value.ndim == 1 else -1


def _shape_hint(column: Column) -> str:
    example = {"int64": "7, 8", "string": "'a', 'b'", "float32": "0.5, 1.5"}[column.dtype]
    if column.depth == 0:
        return f"for two requests write [{example}]"
    row = f"[{example}]" if column.depth == 1 else f"[[{example}], [{example.partition(',')[0]}]]"
    entries = {"candidate": "candidates", "user": "values", "context": "values"}.get(column.group, "behaviours")
    return f"for one request of two {entries} write [{row}], for padded arrays use Jagged.from_padded(array, lengths)"


def _check_requests(columns: Iterable[Column], encoded: Mapping[str, Encoded]) -> int:
    first, requests = None, 0
    for column in columns:
        count = _requests(column, encoded[column.name])
        if first is None:
            first, requests = column.name, count
        elif count != requests:
            raise InputError(f"{column.name}: expected {requests} requests as in {first}, got {count}")
    return requests


def _requests(column: Column, encoded: Encoded) -> int:
    values, *offsets = encoded
    if offsets or column.dtype == "string":
        return len(offsets[0] if offsets else values[1]) - 1
    return len(values)


def _check_shared_offsets(schema: Schema, encoded: Mapping[str, Encoded]) -> None:
    leaders: dict[str, Column] = {}
    for column in schema.columns():
        if column.group in ("user", "context"):
            continue
        first = leaders.setdefault(column.group, column).name
        lists, other = encoded[first][1], encoded[column.name][1]
        if lists is not other and not _same(lists, other):
            lists, other = _on_host(lists), _on_host(other)
            request = int(np.flatnonzero(lists != other)[0]) - 1
            expected, got = (np.diff(offsets)[request] for offsets in (lists, other))
            raise InputError(f"{column.name}: expected {expected} values in request {request} as in {first}, got {got}")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.tobytes() == b.tobytes()  # NumPy's comparison of a few takes ten times as long
    return bool(tensors().same_offsets(a, b))


def _fetch_shared_offsets(schema: Schema, encoded: dict[str, Encoded]) -> None:
    """Offsets of candidates and histories into main memory, once for each."""
    fetched: dict[str, Int64Array] = {}
    for column in schema.columns():
        if column.group not in ("user", "context"):
            values, offsets, *inner = encoded[column.name]
            if column.group not in fetched:
                fetched[column.group] = _on_host(offsets)
            encoded[column.name] = (values, fetched[column.group], *inner)


def _on_host(offsets: Any) -> Any:
    return offsets if isinstance(offsets, np.ndarray) else tensors().to_host(offsets)


def _encoded(column: Column, source: Any, device: Any) -> Encoded:
    """The column in the core's form. The core reads plain lists by itself, unless there is something to say of them."""
    plain = _core.flatten(source, column.depth, column.dtype) if type(source) is list else None
    if plain is not None:
        return plain
    value: Any = _shaped(column, source)
    offsets: list[Any] = []
    while isinstance(value, Jagged):
        if not isinstance(value.offsets, np.ndarray):
            tensors().check_device(value.offsets, device, column.name)
        offsets.append(value.offsets)
        value = value.values
    encoders = _ENCODERS
    if not isinstance(value, np.ndarray):
        tensors().check_device(value, device, column.name)
        encoders = tensors().ENCODERS
    return (encoders[column.dtype](value, column.name), *offsets)


def to_ids(values: Array, where: str) -> Int64Array:
    """Integers of any dtype as contiguous int64."""
    if values.size and values.dtype.kind not in "iu":
        raise InputError(f"{where}: expected integer ids, got dtype {values.dtype}{_example(values)}")
    return to_integers(values, where)


def to_dense(values: Array, where: str) -> Array:
    """Finite numbers as contiguous float32."""
    if values.size and values.dtype.kind not in "iuf":
        raise InputError(f"{where}: expected numbers, got dtype {values.dtype}{_example(values)}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is reported below
        dense = contiguous(values, np.float32)
    finite = np.isfinite(dense)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise InputError(f"{where}: expected finite float32 numbers, got {values[bad]} at position {bad}")
    return dense


def to_utf8(values: Array, where: str) -> tuple[Array, Int64Array]:
    """Strings as UTF-8 bytes, one after another, with their offsets [n + 1]."""
    if values.size and values.dtype.kind not in STRING_KINDS:
        raise InputError(f"{where}: expected string ids, got dtype {values.dtype}{_example(values)}")
    strings = values.tolist() if values.size else []
    if (plain := _core.flatten(strings, 0, "string")) is not None:
        utf8: tuple[Array, Int64Array] = plain[0]
        return utf8
    try:  # subclasses of str, which the core does not read
        encoded = [str.encode(string) for string in strings]
    except (TypeError, UnicodeEncodeError) as error:
        culprits = [describe(s) for s in strings if not isinstance(s, str)]
        raise InputError(f"{where}: expected strings, got {culprits[0] if culprits else error}") from None
    offsets = np.fromiter(accumulate(map(len, encoded), initial=0), np.int64, len(strings) + 1)
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


_ENCODERS: dict[str, Callable[[Array, str], Any]] = {"int64": to_ids, "string": to_utf8, "float32": to_dense}


def _example(values: Array) -> str:
    return f" ({values[:1].tolist()[0]!r})"
