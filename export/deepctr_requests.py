"""Random requests as both DeepCTR-Torch's model and the checkpoint made of it read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from din_infer.errors import ModelFileError
from din_infer.schema import Schema

COUNT = 256  # requests, of one candidate each
EXACT = 1 << 24  # below it a code is what the library reads out of a float32
HISTORY, PREFIX = "history", "hist_"  # ours, and what the library's columns of behaviours begin with

Codes = Mapping[Any, int]  # of raw ids, by which the library knows them


def draw_requests(
    network: Any, schema: Schema, codes: Mapping[str, Codes]
) -> tuple[dict[str, list[Any]], npt.NDArray[np.float32]]:
    """Columns as `predict` takes them, and the same as the library's matrix [COUNT, inputs]. No list is empty."""
    draw = _Draw(network, codes)
    groups = {name: group for group, features in schema.groups().items() if group != HISTORY for name in features}
    columns: dict[str, list[Any]] = {}
    for column in network.dnn_feature_columns:
        values = draw.column(column)
        if column.name in network.history_fc_names:
            columns[f"{HISTORY}.{column.name.removeprefix(PREFIX)}"] = values
            continue
        if type(column).__name__ != "VarLenSparseFeat":
            values = [value for (value,) in values]
        group = groups[column.name]
        columns[f"{group}.{column.name}"] = [[value] for value in values] if group == "candidate" else values
    return columns, draw.inputs


class _Draw:
    def __init__(self, network: Any, codes: Mapping[str, Codes]) -> None:
        self.network, self.codes, self.rng = network, codes, np.random.default_rng(0)
        self.inputs = np.zeros((COUNT, max(end for _, end in network.feature_index.values())), np.float32)
        self.lengths: dict[str, npt.NDArray[np.int64]] = {}  # of lists, by the column that has them

    def column(self, column: Any) -> list[list[Any]]:
        """Each request's raw values of a column, of which `inputs` then has the codes."""
        begin, end = self.network.feature_index[column.name]
        if type(column).__name__ == "DenseFeat":
            dense: list[list[float]] = self.rng.normal(size=(COUNT, end - begin)).astype(np.float32).tolist()
            self.inputs[:, begin:end] = dense
            return dense
        raw, codes = self._known(column)
        chosen = self.rng.integers(len(raw), size=(COUNT, end - begin))
        counts = self._counts(column, end - begin)
        self.inputs[:, begin:end] = np.where(np.arange(end - begin) < counts[:, None], codes[chosen], 0)
        return [[raw[i] for i in row[:n]] for row, n in zip(chosen, counts, strict=True)]

    def _known(self, column: Any) -> tuple[Sequence[Any], npt.NDArray[np.int64]]:
        """Raw ids and their codes; 0 is padding where a list has no column for its length."""
        name, is_padded = column.embedding_name, type(column).__name__ == "VarLenSparseFeat" and not column.length_name
        raw: Sequence[Any] = range(is_padded, min(self.network.embedding_dict[name].weight.shape[0], EXACT))
        codes = np.array(raw)
        if name in self.codes:
            known = [(raw, code) for raw, code in self.codes[name].items() if is_padded <= code < EXACT]
            raw, codes = [raw for raw, _ in known], np.array([code for _, code in known])
        if not raw:
            raise ModelFileError(f"embedding {name}: expected an id besides padding, got none")
        return raw, codes

    def _counts(self, column: Any, longest: int) -> npt.NDArray[np.int64]:
        if type(column).__name__ == "SparseFeat":
            return np.ones(COUNT, np.int64)
        drawn = self.rng.integers(1, longest + 1, COUNT)
        if column.length_name is None:
            return drawn
        counts = self.lengths.setdefault(column.length_name, drawn)
        self.inputs[:, self.network.feature_index[column.length_name][0]] = counts
        return counts
