"""The requests of a certificate: those that a runtime gets wrong first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from din_infer.export.graph import Float32Array, Vocabulary
from din_infer.schema import Column, Feature, Schema

LONGEST = 256  # behaviours of the longest request where the schema has no max_length

_UNKNOWN: dict[tuple[str, str], list[Any]] = {
    ("vocabulary", "int64"): [-(2**63), -1, 2**63 - 1],
    ("vocabulary", "string"): ["", "\N{REPLACEMENT CHARACTER} unknown"],
    ("hash", "int64"): [-(2**63), -3, 2**63 - 1],
    ("identity", "int64"): [-1, 2**31, 2**63 - 1],
}


class EdgeCases:
    """Draws requests that fit a schema: plain Python values, one request a dict of columns."""

    def __init__(
        self, schema: Schema, vocabularies: Mapping[str, Vocabulary], parameters: Mapping[str, Float32Array]
    ) -> None:
        self.schema, self._vocabularies, self._parameters = schema, vocabularies, parameters
        self._rng = np.random.default_rng(0)

    def requests(self) -> dict[str, dict[str, Any]]:
        """All cases by name; each request maps every column of the schema to its value."""
        limits = [h.max_length for h in self.schema.histories.values() if h.max_length]
        return {
            "empty history": self._request(3, 0),
            "one behaviour": self._request(1, 1),
            "several candidates": self._request(7, 20),
            "longest history": self._request(3, max(limits) + 5 if limits else LONGEST),
            "unknown ids": self._request(4, 6, self._unknown),
            "duplicate behaviours": self._repeated(3, 9),
            "no candidates": self._request(0, 2),
        }

    def _request(self, candidates: int, behaviours: int, draw: Callable[[Column], Any] | None = None) -> dict[str, Any]:
        draw = draw or self._known
        sizes = {"candidate": candidates, **dict.fromkeys(self.schema.histories, behaviours)}
        return {
            column.name: [self._value(column, draw) for _ in range(sizes[column.group])]
            if column.group in sizes
            else self._value(column, draw)
            for column in self.schema.columns()
        }

    def _repeated(self, candidates: int, behaviours: int) -> dict[str, Any]:
        """Every third behaviour is the first one again, in all its features."""
        request = self._request(candidates, behaviours)
        for name, value in request.items():
            if name.partition(".")[0] in self.schema.histories:
                value[::3] = [value[0]] * len(value[::3])
        return request

    def _value(self, column: Column, draw: Callable[[Column], Any]) -> Any:
        if column.spec.many:
            return [draw(column) for _ in range(self._rng.integers(0, 4))]
        return draw(column)

    def _known(self, column: Column) -> Any:
        if column.spec.table is None:
            return self._dense(column, column.spec)
        table = self.schema.tables[column.spec.table]
        if table.ids == "vocabulary":
            ids = self._vocabularies[column.spec.table]
            if len(ids) == 0:
                return self._unknown(column)
            chosen = ids[int(self._rng.integers(len(ids)))]
            return chosen if isinstance(chosen, str) else int(chosen)
        return int(self._rng.integers(table.size or 1))

    def _unknown(self, column: Column) -> Any:
        if column.spec.table is None:
            return self._dense(column, column.spec)
        table = self.schema.tables[column.spec.table]
        choices = _UNKNOWN[table.ids, table.dtype]
        return choices[int(self._rng.integers(len(choices)))]

    def _dense(self, column: Column, spec: Feature) -> float:
        """Around the training data's mean, as its statistics have it."""
        shared = column.group in self.schema.histories and self.schema.candidate.get(column.feature) == spec
        prefix = f"dense.{'candidate' if shared else column.group}.{column.feature}"
        mean, std = self._parameters[f"{prefix}.mean"], self._parameters[f"{prefix}.std"]
        return float(np.float32(mean + std * self._rng.normal()))
