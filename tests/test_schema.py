"""Schema and semantics: what they imply, their round trip, and what they refuse."""

from __future__ import annotations

import copy
import json
import re

import pytest

from din_infer import Schema, Semantics
from din_infer.errors import SchemaError

RAW = {
    "version": 1,
    "request": {"key": "request_id", "group": "user_id", "time": "timestamp"},
    "label": "label",
    "tables": {
        "item": {"dim": 32, "ids": "vocabulary", "min_count": 2},
        "genre": {"dim": 16},
        "shop": {"dim": 8, "ids": {"hash": 1000}},
        "hour": {"dim": 4, "ids": {"identity": 24}},
        "country": {"dim": 4, "dtype": "string"},
    },
    "user": {"country": {"table": "country"}, "age": {"dense": "standardise"}},
    "context": {"hour": {"table": "hour"}},
    "candidate": {
        "item_id": {"table": "item"},
        "genre": {"table": "genre", "many": "mean"},
        "year": {"dense": "standardise"},
    },
    "histories": {
        "clicks": {"features": {"item_id": None, "genre": None, "shop": {"table": "shop"}}, "max_length": 50},
        "buys": {"features": {"item_id": {"table": "item"}}, "order": "latest_first", "keep": "oldest"},
    },
}
UNIT = {"hidden": [36], "activation": "dice", "eps": 1e-8, "interaction": "outer", "normalize": "none", "scale": None}
SEMANTICS = {
    "pooling": "activation_unit",
    "units": {"clicks": UNIT, "buys": {"hidden": [], "activation": "sigmoid", "normalize": "softmax", "scale": 0.5}},
    "tower": {"hidden": [80, 40], "activation": "prelu"},
}


def test_implied_widths_and_columns():
    schema = Schema.from_dict(RAW)
    assert schema.histories["clicks"].features["genre"] == schema.candidate["genre"]
    assert (schema.key_width("clicks"), schema.key_width("buys")) == (56, 32)
    assert schema.tower_width() == 5 + 56 + 32 + 49 + 4
    assert [(c.name, c.dtype, c.depth) for c in schema.columns()] == [
        ("user.country", "string", 0),
        ("user.age", "float32", 0),
        ("context.hour", "int64", 0),
        ("candidate.item_id", "int64", 1),
        ("candidate.genre", "int64", 2),
        ("candidate.year", "float32", 1),
        ("clicks.item_id", "int64", 1),
        ("clicks.genre", "int64", 2),
        ("clicks.shop", "int64", 1),
        ("buys.item_id", "int64", 1),
    ]
    rows = {name: table.rows(vocabulary_size=10) for name, table in schema.tables.items()}
    assert rows == {"item": 11, "genre": 11, "shop": 1000, "hour": 25, "country": 11}


def test_round_trip_through_json():
    schema = Schema.from_dict(RAW)
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    semantics = Semantics.from_dict(SEMANTICS)
    assert Semantics.from_dict(json.loads(json.dumps(semantics.to_dict()))) == semantics
    semantics.check(schema)


def with_value(raw, path, value):
    """A copy of `raw` with another value at `path`, or without it where the value is `...`."""
    raw = copy.deepcopy(raw)
    *folders, last = path.split("/")
    place = raw
    for name in folders:
        place = place.setdefault(name, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 2, "schema: expected version: 1, got 2"),
        ("version", ..., "schema: expected version: 1, got None"),
        ("tabels", {}, "schema: unknown key 'tabels'; expected some of candidate"),
        ("tables", [1], "tables: expected a mapping, got [1]"),
        ("tables/item/dim", 0, "tables.item.dim: expected an integer from 1 to 2**31, got 0"),
        ("tables/item/dim", 1.5, "tables.item.dim: expected an integer from 1 to 2**31, got 1.5"),
        ("tables/item/dim", True, "tables.item.dim: expected an integer from 1 to 2**31, got True"),
        ("tables/item/dim", ..., "argument: 'dim'"),
        ("tables/item/ids", "vocab", "tables.item.ids: expected vocabulary | hash | identity, got 'vocab'"),
        ("tables/item/ids", ["hash"], "tables.item.ids: expected"),
        ("tables/item/ids", {"hashed": 3}, "tables.item.ids: expected vocabulary, {hash: N} or {identity: N}"),
        ("tables/item/ids", {"hash": 0}, "tables.item.size: expected an integer"),
        ("tables/item/ids", "hash", "tables.item: expected a size with ids hash or identity"),
        ("tables/item/size", 5, "tables.item: expected a size with ids hash or identity and none with vocabulary"),
        ("tables/shop/dtype", "string", "tables.shop: string ids need `ids: vocabulary`, got hash"),
        ("candidate", {}, "candidate: expected at least one feature, got none"),
        ("candidate", ..., "candidate: expected at least one feature, got none"),
        ("candidate/item_id", None, "candidate.item_id: no specification"),
        ("candidate/item_id", {}, "candidate.item_id: expected either `table` or `dense`"),
        ("candidate/extra", {"table": "x"}, "candidate.extra: no table 'x'; tables are item, genre"),
        ("candidate/extra", {"table": ["item"]}, "candidate.extra.table: expected a name, got"),
        ("candidate/extra", {"table": "item", "many": "max"}, "candidate.extra.many: expected mean | sum, got 'max'"),
        ("candidate/year/many", "mean", "candidate.year: `many` pools embeddings"),
        ("candidate/a.b", {"table": "item"}, "candidate.a.b: a feature may not be named `lengths` or hold a dot"),
        ("candidate/lengths", {"table": "item"}, "may not be named `lengths`"),
        ("histories/clicks/features", {}, "histories.clicks: expected at least one feature, got none"),
        (
            "histories/clicks/features/other",
            None,
            "clicks.features.other: no specification, and no candidate",
        ),
        ("histories/clicks/features/item_id", {"table": "genre"}, "the two sides share their tables"),
        ("histories/clicks/keep", "first", "histories.clicks.keep: expected latest | oldest, got 'first'"),
        ("histories/clicks/max_length", -1, "histories.clicks.max_length: expected an integer"),
        ("histories/user", {"features": {"item_id": None}}, "histories.user: a history may not be named"),
        ("label", 5, "label: expected a name, got 5"),
        ("label", "candidate.year", "label: expected a column that is no input of the model"),
        ("request/group", 5, "request.group: expected a name, got 5"),
        (5, {}, "schema: expected names that are non-empty strings, got 5"),
    ],
)
def test_wrong_schemas_are_refused(path, value, message):
    raw = {**RAW, path: value} if isinstance(path, int) else with_value(RAW, path, value)
    with pytest.raises(SchemaError, match=re.escape(message)):
        Schema.from_dict(raw)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("pooling", "max", "pooling: expected activation_unit | sum | mean, got 'max'"),
        ("pooling", "sum", "pooling 'sum' has no units, got clicks, buys"),
        ("pooling", ..., "semantics: expected a field 'pooling', got none"),
        ("tower/hidden", [0], "tower.hidden: expected widths of at least 1, got 0"),
        ("tower/hidden", "80", "tower.hidden: expected widths of at least 1, got '8'"),
        (
            "tower/activation",
            "gelu",
            " | prelu | tanh | dice | bisigmoid, got 'gelu'",
        ),
        ("tower/eps", 1e-8, "tower.eps: expected a number with dice and none with others"),
        ("units/clicks/eps", None, "units.clicks.eps: expected a number with dice"),
        ("units/clicks/eps", "small", "units.clicks.eps: expected a finite float32 of at least 0, got 'small'"),
        (
            "units/clicks/interaction",
            "inner",
            "units.clicks.interaction: expected outer | hadamard | none, got 'inner'",
        ),
        ("units/clicks/normalize", "l2", "units.clicks.normalize: expected none | softmax, got 'l2'"),
        ("units/clicks/scale", 10**400, "units.clicks.scale: expected a finite float32, got 1000"),
        ("units/clicks/scale", 1e39, "units.clicks.scale: expected a finite float32, got 1e+39"),
        ("units/clicks/scale", float("inf"), "units.clicks.scale: expected a finite float32, got inf"),
        ("units/clicks/dropout", 0.1, "unexpected keyword argument 'dropout'"),
        ("units", [], "semantics: "),
    ],
)
def test_wrong_semantics_are_refused(path, value, message):
    with pytest.raises(SchemaError, match=re.escape(message)):
        Semantics.from_dict(with_value(SEMANTICS, path, value))


def test_units_must_be_those_of_the_histories():
    semantics = Semantics.from_dict(with_value(SEMANTICS, "units/buys", ...))
    with pytest.raises(SchemaError, match="units: expected one per history, clicks, buys, got clicks"):
        semantics.check(Schema.from_dict(RAW))
