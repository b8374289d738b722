"""What a model reads: tables, features and histories, declared once to train, export and serve.

A schema is a frozen value. `schema.yaml`, which people write, and the JSON inside a model file hold the same fields;
`Schema.from_dict` checks either. Columns are named `<group>.<feature>`, where the group is `user`, `context`,
`candidate` or the name of a history.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from din_infer.errors import SchemaError

VERSION = 1
RESERVED_GROUPS = ("user", "context", "candidate")


@dataclass(frozen=True)
class Table:
    """An embedding table, shared by all features that name it.

    `ids` says how a raw id becomes a row:

    - `vocabulary`: row 1 + its place in the training split's vocabulary; row 0, the default row, for all other ids;
    - `hash`: `id mod size`, with floor semantics; there is no default row;
    - `identity`: row 1 + id for 0 <= id < size, otherwise the default row 0.
    """

    dim: int
    ids: Literal["vocabulary", "hash", "identity"] = "vocabulary"
    size: int | None = None
    dtype: Literal["int64", "string"] = "int64"
    min_count: int = 1

    def rows(self, vocabulary_size: int = 0) -> int:
        """Number of rows, the default row included."""
        return {"vocabulary": 1 + vocabulary_size, "hash": self.size or 0, "identity": 1 + (self.size or 0)}[self.ids]


@dataclass(frozen=True)
class Feature:
    """Either ids looked up in `table`, several per value where `many` says how to pool them, or a dense number."""

    table: str | None = None
    many: Literal["mean", "sum"] | None = None
    dense: Literal["standardise"] | None = None


@dataclass(frozen=True)
class History:
    """A sequence of behaviours. Of more than `max_length` behaviours the model reads those that `keep` names."""

    features: Mapping[str, Feature]
    order: Literal["oldest_first", "latest_first"] = "oldest_first"
    max_length: int | None = None
    keep: Literal["latest", "oldest"] = "latest"

    @property
    def keeps_tail(self) -> bool:
        """Whether the behaviours that are kept are the last of the list."""
        return (self.keep == "latest") == (self.order == "oldest_first")


@dataclass(frozen=True)
class Request:
    """Columns that are carried through and are no model inputs."""

    key: str = "request_id"
    group: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class Column:
    """One input column of a request, as the schema implies it."""

    group: str
    feature: str
    spec: Feature
    dtype: Literal["int64", "string", "float32"]

    @cached_property
    def name(self) -> str:
        return f"{self.group}.{self.feature}"

    @cached_property
    def depth(self) -> int:
        """Levels of lists around a value: 0 for a user's scalar, 2 for a behaviour's genres."""
        return int(self.group not in ("user", "context")) + int(self.spec.many is not None)


@dataclass(frozen=True)
class Schema:
    """Everything a model reads. Build it with `from_dict`, which checks it and fills in what is implied.

    A history's feature given without a specification takes the candidate's of the same name.
    """

    tables: Mapping[str, Table]
    candidate: Mapping[str, Feature]
    histories: Mapping[str, History]
    user: Mapping[str, Feature] = field(default_factory=dict)
    context: Mapping[str, Feature] = field(default_factory=dict)
    request: Request = field(default_factory=Request)
    label: str = "label"
    version: int = VERSION

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Schema:
        """Reads the form of `schema.yaml`. Raises SchemaError that names the place, what was expected and what came."""
        raw = _mapping(raw, "schema")
        _known_keys(raw, {f.name for f in dataclasses.fields(cls)}, "schema")
        version = raw.get("version")
        if version != VERSION:
            raise SchemaError(f"schema: expected version: {VERSION}, got {version!r}")
        candidate = _features(raw.get("candidate"), "candidate", {})
        if not candidate:
            raise SchemaError("candidate: expected at least one feature, got none")
        schema = cls(
            version=VERSION,
            request=_build(Request, _mapping(raw.get("request"), "request"), "request"),
            label=_name(raw.get("label", "label"), "label"),
            tables={name: _table(t, f"tables.{name}") for name, t in _mapping(raw.get("tables"), "tables").items()},
            user=_features(raw.get("user"), "user", {}),
            context=_features(raw.get("context"), "context", {}),
            candidate=candidate,
            histories={
                name: _history(h, f"histories.{name}", candidate)
                for name, h in _mapping(raw.get("histories"), "histories").items()
            },
        )
        _check(schema)
        return schema

    def to_dict(self) -> dict[str, Any]:
        """The form that `from_dict` reads, with everything implied written out; fields at None are left out."""
        return _without_none(dataclasses.asdict(self))

    def groups(self) -> dict[str, Mapping[str, Feature]]:
        """Every group's features, in the order of the columns: user, context, candidate, then each history."""
        return self._groups

    @cached_property
    def _groups(self) -> dict[str, Mapping[str, Feature]]:
        histories = {name: history.features for name, history in self.histories.items()}
        return {"user": self.user, "context": self.context, "candidate": self.candidate, **histories}

    def columns(self) -> tuple[Column, ...]:
        """All input columns, group by group."""
        return self._columns

    @cached_property
    def _columns(self) -> tuple[Column, ...]:
        return tuple(
            Column(group, name, spec, self.tables[spec.table].dtype if spec.table else "float32")
            for group, features in self.groups().items()
            for name, spec in features.items()
        )

    def width(self, feature: Feature) -> int:
        """Embedding width of a feature's value: its table's `dim`, or 1 for a dense number."""
        return self.tables[feature.table].dim if feature.table else 1

    def key_width(self, history: str) -> int:
        """D: the width of a behaviour's embedding in `history`, and so of the query that meets it."""
        return sum(self.width(f) for f in self.histories[history].features.values())

    def tower_width(self) -> int:
        """Width of the tower's input: user, pooled histories, candidate, context, in this order."""
        sides = (*self.user.values(), *self.candidate.values(), *self.context.values())
        return sum(self.width(f) for f in sides) + sum(self.key_width(h) for h in self.histories)


def _mapping(raw: Any, where: str) -> Mapping[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise SchemaError(f"{where}: expected a mapping, got {raw!r}")
    for key in raw:
        if not isinstance(key, str) or not key:
            raise SchemaError(f"{where}: expected names that are non-empty strings, got {key!r}")
    return raw


def _name(raw: Any, where: str) -> str:
    if not isinstance(raw, str) or not raw:
        raise SchemaError(f"{where}: expected a name, got {raw!r}")
    return raw


def _known_keys(raw: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in raw:
        if key not in known:
            raise SchemaError(f"{where}: unknown key {key!r}; expected some of {', '.join(sorted(known))}")


_CHOICES: dict[tuple[type, str], tuple[Any, ...]] = {
    (Table, "ids"): ("vocabulary", "hash", "identity"),
    (Table, "dtype"): ("int64", "string"),
    (Feature, "many"): (None, "mean", "sum"),
    (Feature, "dense"): (None, "standardise"),
    (History, "order"): ("oldest_first", "latest_first"),
    (History, "keep"): ("latest", "oldest"),
}
_POSITIVE = {"dim", "size", "min_count", "max_length"}
_NAMES = {"table", "key", "group", "time"}


def _build(cls: type, raw: Mapping[str, Any], where: str) -> Any:
    _known_keys(raw, {f.name for f in dataclasses.fields(cls)}, where)
    for key, value in raw.items():
        choices = _CHOICES.get((cls, key))
        if choices is not None and value not in choices:
            expected = " | ".join(str(c) for c in choices if c is not None)
            raise SchemaError(f"{where}.{key}: expected {expected}, got {value!r}")
        if key in _POSITIVE and value is not None and (type(value) is not int or not 1 <= value <= 2**31):
            raise SchemaError(f"{where}.{key}: expected an integer from 1 to 2**31, got {value!r}")
        if key in _NAMES and value is not None:
            _name(value, f"{where}.{key}")
    try:
        return cls(**raw)
    except TypeError as error:
        raise SchemaError(f"{where}: {error}") from None


def _table(raw: Any, where: str) -> Table:
    raw = dict(_mapping(raw, where))
    ids = raw.get("ids", "vocabulary")
    if isinstance(ids, Mapping):  # ids: {hash: 1000000} in files is ids="hash", size=1000000 here
        if len(ids) != 1 or next(iter(ids)) not in ("hash", "identity"):
            raise SchemaError(f"{where}.ids: expected vocabulary, {{hash: N}} or {{identity: N}}, got {dict(ids)!r}")
        raw["ids"], raw["size"] = next(iter(ids.items()))
    table: Table = _build(Table, raw, where)
    if (table.size is None) != (table.ids == "vocabulary"):
        raise SchemaError(f"{where}: expected a size with ids hash or identity and none with vocabulary, got {raw!r}")
    if table.dtype == "string" and table.ids != "vocabulary":
        raise SchemaError(f"{where}: string ids need `ids: vocabulary`, got {table.ids}")
    return table


def _features(raw: Any, where: str, inherited: Mapping[str, Feature]) -> dict[str, Feature]:
    features = {}
    for name, spec in _mapping(raw, where).items():
        place = f"{where}.{name}"
        if spec is None and name not in inherited:
            raise SchemaError(f"{place}: no specification, and no candidate feature of that name to take it from")
        feature = inherited[name] if spec is None else _build(Feature, _mapping(spec, place), place)
        if (feature.table is None) == (feature.dense is None):
            raise SchemaError(f"{place}: expected either `table` or `dense`, got {spec!r}")
        if feature.dense and feature.many:
            raise SchemaError(f"{place}: `many` pools embeddings; a dense feature is one number")
        features[name] = feature
    return features


def _history(raw: Any, where: str, candidate: Mapping[str, Feature]) -> History:
    raw = dict(_mapping(raw, where))
    raw["features"] = _features(raw.get("features"), f"{where}.features", candidate)
    history: History = _build(History, raw, where)
    for name, feature in history.features.items():
        if name in candidate and candidate[name] != feature:
            raise SchemaError(
                f"{where}.features.{name}: expected the candidate's {candidate[name]}, got {feature};"
                " the two sides share their tables"
            )
    return history


def _check(schema: Schema) -> None:
    for name, history in schema.histories.items():
        if name in RESERVED_GROUPS or "." in name:
            reserved = ", ".join(RESERVED_GROUPS)
            raise SchemaError(f"histories.{name}: a history may not be named {reserved} or hold a dot")
        if not history.features:
            raise SchemaError(f"histories.{name}: expected at least one feature, got none")
    for group, features in schema.groups().items():
        for name, spec in features.items():
            if "." in name or name == "lengths":
                raise SchemaError(f"{group}.{name}: a feature may not be named `lengths` or hold a dot")
            if spec.table is not None and spec.table not in schema.tables:
                known = ", ".join(schema.tables) or "none"
                raise SchemaError(f"{group}.{name}: no table {spec.table!r}; tables are {known}")
    if schema.label in (column.name for column in schema.columns()):
        raise SchemaError(f"label: expected a column that is no input of the model, got {schema.label!r}")


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if value is not None
    }
