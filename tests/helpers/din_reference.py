"""What a model file computes, straight from the definitions in float64: slow, obvious, and the oracle of the tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from din_infer import _core
from din_infer.schema import Feature, Schema
from din_infer.semantics import Layers, Semantics


def sigmoid(x: Any) -> Any:
    return (1 + np.tanh(np.asarray(x, np.float64) / 2)) / 2


@dataclass
class Case:
    """A model with random weights. Requests are dicts of Python lists, as `Model.score` takes them."""

    schema: Schema
    semantics: Semantics
    parameters: dict[str, Any]
    vocabularies: dict[str, Any]

    @classmethod
    def random(cls, schema: Schema, semantics: Semantics, seed: int = 0) -> Case:
        rng = np.random.default_rng(seed)
        vocabularies = cls.random_vocabularies(schema, rng)
        layout = _core.expected_graph(json.dumps(schema.to_dict()), json.dumps(semantics.to_dict()), True)
        parameters = {}
        for name, _, dims in layout["parameters"]:
            shape = [10 if d < 0 else d for d in dims]
            values = rng.normal(size=shape) * (2 / np.sqrt(shape[1]) if ".weights." in name else 1)
            positive = name.endswith((".var", ".std"))
            parameters[name] = np.asarray(np.abs(values) + 0.5 if positive else values, np.float32)
        case = cls(schema, semantics, parameters, vocabularies)
        case._spread(f"tower.{{}}.{len(semantics.tower.hidden)}")
        return case

    @staticmethod
    def random_vocabularies(schema: Schema, seed: int | np.random.Generator) -> dict[str, Any]:
        """Up to nine ids, int64 of both signs or strings, for each vocabulary table."""
        rng = np.random.default_rng(seed)
        vocabularies: dict[str, Any] = {}
        for name, table in schema.tables.items():
            if table.ids == "vocabulary":
                ids = np.unique(rng.integers(-(2**62), 2**62, 9))
                rng.shuffle(ids)
                vocabularies[name] = [f"é{i}" for i in ids] if table.dtype == "string" else ids
        return vocabularies

    def _spread(self, output: str) -> None:
        """Gives logits mean 0 and deviation 1 by the tower's output layer: differences then show in the scores."""
        logits = self.logits(self.columns([{"candidate": 3, **dict.fromkeys(self.schema.histories, 2)}] * 8))
        weights, biases = (self.parameters[output.format(part)] for part in ("weights", "biases"))
        self.parameters[output.format("weights")] = np.float32(weights / logits.std())
        self.parameters[output.format("biases")] = np.float32((biases - logits.mean()) / logits.std())

    def columns(self, lengths: Sequence[dict[str, int]], seed: int = 1) -> dict[str, list[Any]]:
        """Requests of the given numbers of candidates and behaviours, by group; some ids are unknown."""
        rng = np.random.default_rng(seed)
        columns: dict[str, list[Any]] = {}
        for column in self.schema.columns():
            value: Callable[..., Any] = lambda spec=column.spec: self._value(rng, spec)  # noqa: E731
            if column.spec.many:
                value = lambda value=value: [value() for _ in range(rng.integers(0, 4))]  # noqa: E731
            if column.group in ("user", "context"):
                columns[column.name] = [value() for _ in lengths]
            else:
                columns[column.name] = [[value() for _ in range(request.get(column.group, 0))] for request in lengths]
        return columns

    def _value(self, rng: np.random.Generator, spec: Feature) -> Any:
        if spec.table is None:
            return float(np.float32(rng.normal()))
        if spec.table in self.vocabularies:
            table = self.schema.tables[spec.table]
            unknown: list[Any] = ["unknown"] if table.dtype == "string" else [-(2**63), 2**63 - 1]
            known = list(self.vocabularies[spec.table])
            choice = (known + unknown)[rng.integers(len(known) + len(unknown))]
            return choice if isinstance(choice, str) else int(choice)
        return int(rng.integers(-9, 15))

    # --- the reference

    def row(self, table: str, raw: Any) -> int:
        spec = self.schema.tables[table]
        if spec.ids == "vocabulary":
            found = [1 + i for i, known in enumerate(self.vocabularies[table]) if known == raw]
            return found[0] if found else 0
        assert spec.size is not None
        if spec.ids == "hash":
            return int(raw) % spec.size
        return 1 + raw if 0 <= raw < spec.size else 0

    def embed(self, group: str, name: str, spec: Feature, raw: Any) -> Any:
        if spec.table is None:
            owner = "candidate" if group in self.schema.histories and name in self.schema.candidate else group
            statistics = [np.float64(self.parameters[f"dense.{owner}.{name}.{s}"]) for s in ("mean", "std")]
            return np.array([(raw - statistics[0]) / statistics[1]])
        table = np.asarray(self.parameters[f"table.{spec.table}"], np.float64)
        if spec.many is None:
            return table[self.row(spec.table, raw)]
        rows = [table[self.row(spec.table, r)] for r in raw]
        total = sum(rows, np.zeros(table.shape[1]))
        return total / max(len(rows), 1) if spec.many == "mean" else total

    def layers(self, prefix: str, spec: Layers, x: Any) -> Any:
        for i in range(len(spec.hidden)):
            s = np.float64(self.parameters[f"{prefix}.weights.{i}"]) @ x + self.parameters[f"{prefix}.biases.{i}"]
            p = {
                k: np.float64(self.parameters.get(f"{prefix}.activation.{i}.{k}", np.nan))
                for k in ("alpha", "mean", "var")
            }
            if spec.activation == "dice":
                gate = sigmoid((s - p["mean"]) / np.sqrt(p["var"] + (spec.eps or 0)))
                x = gate * s + (1 - gate) * p["alpha"] * s
            elif spec.activation == "prelu":
                x = np.where(s > 0, s, p["alpha"] * s)
            else:
                plain: dict[str, Any] = {"sigmoid": sigmoid, "relu": lambda s: np.maximum(s, 0), "tanh": np.tanh}
                x = (plain | {"bisigmoid": lambda s: 2 / (1 + np.exp(-s)) - 1})[spec.activation](s)
        last = len(spec.hidden)
        return (
            np.float64(self.parameters[f"{prefix}.weights.{last}"]) @ x + self.parameters[f"{prefix}.biases.{last}"]
        )[0]

    def kept(self, history: str, behaviours: int) -> range:
        """Which of a history's behaviours the model reads."""
        spec = self.schema.histories[history]
        if spec.max_length is None or behaviours <= spec.max_length:
            return range(behaviours)
        tail = (spec.order == "oldest_first") == (spec.keep == "latest")
        return range(behaviours - spec.max_length, behaviours) if tail else range(spec.max_length)

    def weights(self, history: str, keys: list[Any], query: Any) -> Any:
        """The weight of each of these keys."""
        weights = np.ones(len(keys))
        if self.semantics.pooling == "mean":
            weights /= max(len(keys), 1)
        elif self.semantics.pooling == "activation_unit":
            unit = self.semantics.units[history]
            x = [
                np.concatenate([k, query, np.outer(k, query).ravel()])
                if unit.interaction == "outer"
                else np.concatenate([query, k, query - k, query * k])
                for k in keys
            ]
            weights = np.array([self.layers(f"unit.{history}", unit, pair) for pair in x])
            weights = weights * (1 if unit.scale is None else unit.scale)
            if unit.normalize == "softmax" and len(keys):
                weights = np.exp(weights - weights.max())
                weights /= weights.sum()
        return weights

    def interest(self, history: str, keys: list[Any], query: Any) -> Any:
        keys = [keys[t] for t in self.kept(history, len(keys))]
        weights = self.weights(history, keys, query)
        return sum((w * k for w, k in zip(weights, keys, strict=True)), np.zeros(len(query)))

    def explain(self, columns: dict[str, list[Any]], history: str) -> list[list[list[float]]]:
        """The weights of `Model.explain`, for one history."""
        requests = len(next(iter(columns.values())))
        return [self._explain({name: values[r] for name, values in columns.items()}, history) for r in range(requests)]

    def _explain(self, request: dict[str, Any], history: str) -> list[list[float]]:
        keys, found = self._keys(request)[history], []
        read = self.kept(history, len(keys))
        for own in self._candidates(request):
            weights = np.zeros(len(keys))
            weights[list(read)] = self.weights(history, [keys[t] for t in read], self._query(history, own))
            found.append(weights.tolist())
        return found

    def probabilities(self, columns: dict[str, list[Any]]) -> Any:
        return sigmoid(self.logits(columns))

    def logits(self, columns: dict[str, list[Any]]) -> Any:
        requests = len(next(iter(columns.values())))
        return np.array([p for r in range(requests) for p in self._request({k: v[r] for k, v in columns.items()})])

    def _keys(self, request: dict[str, Any]) -> dict[str, list[Any]]:
        return {
            name: [
                np.concatenate(
                    [self.embed(name, f, s, v) for (f, s), v in zip(h.features.items(), values, strict=True)]
                )
                for values in zip(*(request[f"{name}.{f}"] for f in h.features), strict=True)
            ]
            for name, h in self.schema.histories.items()
        }

    def _candidates(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """The embedded features of each candidate."""
        features = self.schema.candidate
        return [
            {f: self.embed("candidate", f, s, v) for (f, s), v in zip(features.items(), values, strict=True)}
            for values in zip(*(request[f"candidate.{f}"] for f in features), strict=True)
        ]

    def _query(self, history: str, own: dict[str, Any]) -> Any:
        features = self.schema.histories[history].features
        return np.concatenate([own.get(f, np.zeros(self.schema.width(s))) for f, s in features.items()])

    def _request(self, request: dict[str, Any]) -> list[float]:
        schema, result, keys = self.schema, [], self._keys(request)
        sides = {
            side: [self.embed(side, f, spec, request[f"{side}.{f}"]) for f, spec in getattr(schema, side).items()]
            for side in ("user", "context")
        }
        for own in self._candidates(request):
            interests = [self.interest(name, keys[name], self._query(name, own)) for name in schema.histories]
            x = np.concatenate([*sides["user"], *interests, *own.values(), *sides["context"]])
            result.append(float(self.layers("tower", self.semantics.tower, x)))
        return result
