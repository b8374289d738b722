"""Padded inputs for ONNX runtimes, from the jagged columns that `Model.score` takes, and their outputs back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from din_infer.arrays import Array, Int64Array
from din_infer.batch import encode
from din_infer.schema import Schema

PAIRS_PER_RUN = 1 << 16  # (candidate, behaviour) slots of a padded run: an ONNX runtime stores every layer of them


def padded_inputs(schema: Schema, columns: Mapping[str, Any]) -> dict[str, Array]:
    """The ONNX inputs of a batch: each column padded with zeros or "", and the lengths of what is padded.

    Shapes: [B], [B, N] or [B, T], one axis more for multi-valued features; `candidate.lengths` and
    `<history>.lengths` [B], `<column>.lengths` of multi-valued columns one axis less than the column.
    Raises InputError where the columns do not fit the schema.
    """
    encoded, _ = encode(schema, columns)
    inputs: dict[str, Array] = {}
    for column in schema.columns():
        values, *offsets = encoded[column.name]
        padded = _strings(*values) if isinstance(values, tuple) else values
        if column.spec.many:
            padded, lengths = _pad(padded, offsets.pop())
            inputs[f"{column.name}.lengths"] = _pad(lengths, offsets[0])[0] if offsets else lengths
        if offsets:
            padded, inputs[f"{column.group}.lengths"] = _pad(padded, offsets[0])
        inputs[column.name] = padded
    return inputs


def run_padded(session: Any, schema: Schema, columns: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Probabilities of all candidates, float32 [candidates], of an `onnxruntime.InferenceSession`.

    Runs a few requests at a time, so that padding stays small.
    """
    scores = [np.zeros(0, np.float32)]
    for part in parts(schema, columns):
        inputs = padded_inputs(schema, part)
        (probability,) = session.run(["probability"], inputs)
        scores.append(unpadded(probability, inputs["candidate.lengths"]))
    return np.concatenate(scores)


def unpadded(matrix: Array, lengths: Int64Array) -> Array:
    """The first `lengths[i]` values of each row i of [B, N], one after another."""
    return matrix[np.arange(matrix.shape[1]) < lengths[:, None]]


def parts(schema: Schema, columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Consecutive requests, as many at a time as PAIRS_PER_RUN allows."""
    encoded, requests = encode(schema, columns)
    lengths = {name: np.diff(offsets[0]) for name, (_, *offsets) in encoded.items() if offsets}
    candidates = lengths[f"candidate.{next(iter(schema.candidate))}"]
    histories = [lengths[f"{name}.{next(iter(history.features))}"] for name, history in schema.histories.items()]
    longest = np.max([np.ones(requests, np.int64), *histories], axis=0) if requests else candidates
    start = 0
    while start < requests:
        pairs = np.maximum.accumulate(candidates[start:]) * np.maximum.accumulate(longest[start:])
        fits = np.searchsorted(pairs * np.arange(1, 1 + len(pairs)), PAIRS_PER_RUN, side="right")
        stop = start + max(1, int(fits))
        yield {name: column[start:stop] for name, column in columns.items()}
        start = stop


def _pad(values: Array, offsets: Int64Array) -> tuple[Array, Int64Array]:
    """values [n, ...] of len(offsets) - 1 lists -> ([lists, longest, ...], lengths)."""
    lengths = np.diff(offsets)
    width = int(lengths.max(initial=0))
    padded = np.full((len(lengths), width, *values.shape[1:]), "" if values.dtype == object else 0, values.dtype)
    padded[np.arange(width) < lengths[:, None]] = values
    return padded, lengths


def _strings(data: npt.NDArray[np.uint8], offsets: Int64Array) -> Array:
    raw = data.tobytes()
    strings = np.empty(len(offsets) - 1, object)
    strings[:] = [raw[first:last].decode() for first, last in itertools.pairwise(offsets)]
    return strings
