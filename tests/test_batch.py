"""encode: what reaches the core, and every input error with its expected and got."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from din_infer import Jagged, Schema, _core
from din_infer.batch import encode, one_request
from din_infer.errors import InputError

SCHEMA = Schema.from_dict(
    {
        "version": 1,
        "tables": {"item": {"dim": 4}, "genre": {"dim": 2}, "tag": {"dim": 2, "dtype": "string"}},
        "user": {"age": {"dense": "standardise"}, "tags": {"table": "tag", "many": "mean"}},
        "candidate": {"item_id": {"table": "item"}, "genre": {"table": "genre", "many": "mean"}},
        "histories": {"history": {"features": {"item_id": None, "genre": None}}},
    }
)
GOOD = {
    "user.age": [1, 2.5],
    "user.tags": [["a", "é"], []],
    "candidate.item_id": [[1, 2], [3]],
    "candidate.genre": [[[1], [2, 3]], [[]]],
    "history.item_id": [[], [5, 6]],
    "history.genre": [[], [[1, 2], []]],
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


def as_lists(encoded):
    """Every array of one encoded column."""
    return [part.tolist() for entry in encoded for part in (entry if isinstance(entry, tuple) else (entry,))]


def test_arrays_for_the_core():
    encoded, requests = encode(SCHEMA, GOOD)
    assert requests == 2
    assert {name: as_lists(column) for name, column in encoded.items()} == {
        "user.age": [[1.0, 2.5]],
        "user.tags": [list("aé".encode()), [0, 1, 3], [0, 2, 2]],
        "candidate.item_id": [[1, 2, 3], [0, 2, 3]],
        "candidate.genre": [[1, 2, 3], [0, 2, 3], [0, 1, 3, 3]],
        "history.item_id": [[5, 6], [0, 0, 2]],
        "history.genre": [[1, 2], [0, 0, 2], [0, 2, 2]],
    }
    assert encoded["user.age"][0].dtype == np.float32
    assert encoded["user.tags"][0][0].dtype == np.uint8
    for column in encoded.values():
        assert all(part.dtype == np.int64 and part.flags.c_contiguous for part in column[1:])


def test_no_requests_and_empty_lists_are_valid():
    encoded, requests = encode(SCHEMA, {name: [] for name in GOOD})
    assert requests == 0
    assert all(part == [] or part == [0] for column in encoded.values() for part in as_lists(column))
    empty = {"user.age": [0.0], "user.tags": [[]]} | {name: [[]] for name in GOOD if not name.startswith("user")}
    assert as_lists(encode(SCHEMA, empty)[0]["history.genre"]) == [[], [0, 0], [0]]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64])
def test_any_integer_dtype_is_an_id(dtype):
    column = Jagged(np.array([1, 2, 3], dtype), [0, 2, 3])
    assert encode(SCHEMA, {**GOOD, "candidate.item_id": column})[0]["candidate.item_id"][0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_any_number_is_dense(dtype):
    assert encode(SCHEMA, {**GOOD, "user.age": np.array([1, 2], dtype)})[0]["user.age"][0].tolist() == [1, 2]


def test_misaligned_and_swapped_arrays_are_copied_into_shape():
    shifted = np.frombuffer(b"\0" + np.array([1.5, 2.5], np.float32).tobytes(), np.float32, offset=1)
    ages = encode(SCHEMA, {**GOOD, "user.age": shifted})[0]["user.age"][0]
    assert ages.flags.aligned
    assert ages.tolist() == [1.5, 2.5]
    swapped = Jagged(np.array([1, 2, 3], ">i4"), [0, 2, 3])
    ids = encode(SCHEMA, {**GOOD, "candidate.item_id": swapped})[0]["candidate.item_id"][0]
    assert ids.dtype.isnative
    assert ids.tolist() == [1, 2, 3]


@given(
    st.lists(st.lists(TEXT, max_size=3), min_size=2, max_size=2),
    st.sampled_from(["list", "object", "subclass", "U", "T"]),
)
def test_strings_are_utf8_whatever_holds_them(lists, kind):
    column = lists
    flat = [text for row in lists for text in row]
    if kind != "list" and not (kind == "T" and not hasattr(np.dtypes, "StringDType")):
        dtype = {"object": object, "subclass": object, "U": np.str_}.get(kind) or np.dtypes.StringDType()
        flat = [text.rstrip("\0") for text in flat] if kind == "U" else flat  # NumPy drops these
        flat = [np.str_(text) for text in flat] if kind == "subclass" else flat
        column = Jagged.from_lengths(np.array(flat, dtype), [len(row) for row in lists])
    (data, offsets), *_ = encode(SCHEMA, {**GOOD, "user.tags": column})[0]["user.tags"]
    texts = [bytes(data[first:last]).decode() for first, last in pairwise(offsets)]
    assert texts == flat


def test_arrow_lists():
    pa = pytest.importorskip("pyarrow")
    arrow = {name: pa.array(values) for name, values in GOOD.items()}
    arrow["candidate.genre"] = pa.chunked_array([arrow["candidate.genre"][:1], arrow["candidate.genre"][1:]])
    arrow["history.item_id"] = pa.array(GOOD["history.item_id"], pa.large_list(pa.int32()))
    expected, got = encode(SCHEMA, GOOD)[0], encode(SCHEMA, arrow)[0]
    assert {name: as_lists(column) for name, column in got.items()} == {n: as_lists(c) for n, c in expected.items()}


WRONG = [
    ("candidate.itemid", [[1]], r"unknown column 'candidate.itemid' \(did you mean 'candidate.item_id'\?\); expected"),
    ("history.item_id", ..., "missing column 'history.item_id'; expected user.age, .*; got user.age"),
    ("history.item_id", [5, 6], r"history.item_id: expected a list in each place, got int 5; .* write \[\[7, 8\]\]"),
    ("history.genre", [[], [1, 2]], r"history.genre: .* got int 1; .* write \[\[\[7, 8\], \[7\]\]\]"),
    ("history.genre", [[], [[1, 2]]], "history.genre: expected 2 values in request 1 as in history.item_id, got 1"),
    (
        "candidate.genre",
        [[[1]], [[2]]],
        "candidate.genre: expected 2 values in request 0 as in candidate.item_id, got 1",
    ),
    (
        "candidate.item_id",
        np.zeros((2, 2), int),
        r"expected one list per request, got array of shape \(2, 2\); .*padded",
    ),
    ("candidate.item_id", np.zeros(2, int), r"expected one list per request, got array of shape \(2,\)"),
    ("candidate.item_id", [[1.5, 2], [3]], r"expected integer ids, got dtype float64 \(1.5\)"),
    ("candidate.item_id", [["a", "b"], ["c"]], r"expected integer ids, got dtype object \('a'\)"),
    ("candidate.item_id", [[True, False], [True]], "candidate.item_id: expected numbers alone .* got bool True"),
    ("candidate.item_id", None, "candidate.item_id: expected a list of lists, got NoneType None"),
    ("user.age", [1, float("nan")], "user.age: expected finite float32 numbers, got nan at position 1"),
    ("user.age", [float("-inf"), 1], "user.age: expected finite float32 numbers, got -inf at position 0"),
    ("user.age", [1e300, 1], r"user.age: expected finite float32 numbers, got 1e\+300 at position 0"),
    ("user.age", [1, 2, 3], "user.tags: expected 3 requests as in user.age, got 2"),
    (
        "user.age",
        [[1], [2]],
        "user.age: expected an array, or a list of"
        r" numbers alone or strings alone, got list \[1\]; for two requests write",
    ),
    ("user.age", Jagged([1, 2], [0, 1, 2]), "user.age: expected one value per request, got 1 levels of lists"),
    ("user.age", ["1", "2"], r"user.age: expected numbers, got dtype object \('1'\)"),
    ("user.age", 5, "user.age: expected an array or a list, got int 5"),
    ("user.tags", [[1], [2]], r"user.tags: expected string ids, got dtype int64 \(1\)"),
    ("user.tags", [["a", 3], []], "user.tags: expected strings, got int 3"),
    ("user.tags", [["a", None], []], "user.tags: expected strings, got NoneType None"),
    ("user.tags", ["ab", "c"], "user.tags: expected a list in each place, got str 'ab'; .* two values write"),
    ("user.tags", [["\ud800"], []], "user.tags: expected strings, got 'utf-8' codec can't encode"),
]


BOOLS = {
    "list": [[True, False], [True]],
    "arrays": [np.array([True, False]), np.array([True])],
    "array": np.array([True, False]),
}


@pytest.mark.parametrize("value", BOOLS.values(), ids=BOOLS)
@pytest.mark.parametrize("name", ["candidate.item_id", "history.item_id", "user.tags", "candidate.genre"])
def test_booleans_are_refused_by_the_column_s_name(name, value):
    with pytest.raises(InputError, match=rf"^{name}: "):
        encode(SCHEMA, {**GOOD, name: value})


@pytest.mark.parametrize("columns", [None, [1], "ab", 3, np.zeros(3)])
def test_columns_are_a_mapping(columns):
    with pytest.raises(InputError, match="columns: expected a mapping of column names to columns, got"):
        encode(SCHEMA, columns)


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_wrong_columns_are_refused(name, value, message):
    columns = {n: v for n, v in {**GOOD, name: value}.items() if v is not ...}
    with pytest.raises(InputError, match=message):
        encode(SCHEMA, columns)


ANYTHING = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXT, st.lists)


def outcome(schema, columns):
    """Arrays with their dtypes, or the error's message."""
    try:
        encoded, requests = encode(schema, columns)
    except InputError as error:
        return str(error)
    parts = [
        part
        for column in encoded.values()
        for entry in column
        for part in (entry if isinstance(entry, tuple) else (entry,))
    ]
    return requests, [(part.dtype, part.tobytes()) for part in parts]


FEATURES = {
    "id": {"table": "item"},
    "ids": {"table": "item", "many": "mean"},
    "tag": {"table": "tag"},
    "tags": {"table": "tag", "many": "mean"},
    "age": {"dense": "standardise"},
}
ROUNDED_TWICE = 2**60 + 2**36 + 1  # to float64 and then to float32, it is another number than straight to float32
EDGES = [ROUNDED_TWICE, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400, True, None, b"a", (1, 2), {}, [], [[]]]
EDGES += [0, 2.5, -0.0, 1e-46, 3.4028235677973366e38, 1e39, float("nan"), float("inf"), "", "a\0", "é", "\ud800"]
EDGES += [np.int64(3), np.float64(0.5), np.float32(0.1), np.str_("a"), np.array([1]), np.array(1), Jagged([1], [0, 1])]


@pytest.mark.parametrize("feature", FEATURES)
def test_plain_lists_are_read_as_lists_of_any_other_kind(feature, monkeypatch):
    """The core's reading of lists against NumPy's: values, dtypes and messages."""
    schema = Schema.from_dict(
        {**SCHEMA.to_dict(), "user": {}, "histories": {}, "candidate": {feature: FEATURES[feature]}}
    )
    depth, good = schema.columns()[0].depth, ["b"] if "tag" in feature else [7]
    rows = [row for edge in EDGES for row in ([edge], [*good, edge], [edge, 0.5])]
    columns = [[row] if depth == 1 else [[row, []], [good]] for row in rows]
    columns += [*rows, *([[[row]]] for row in rows), [], [[]], [[], []], [[[]]], [[], [[]]], [good, [good]]]
    got = [outcome(schema, {f"candidate.{feature}": column}) for column in columns]
    assert sum(isinstance(o, tuple) for o in got) > 10
    monkeypatch.setattr(_core, "flatten", lambda *_: None)
    for column, found in zip(columns, got, strict=True):
        assert found == outcome(schema, {f"candidate.{feature}": column}), column


@given(st.sampled_from(sorted(GOOD)), ANYTHING)
def test_anything_else_is_encoded_or_refused(name, value):
    try:
        encode(SCHEMA, {**GOOD, name: value})
        message = ""
    except InputError as error:
        message = str(error)
    assert not message or name.partition(".")[0] in message or "requests" in message


def test_one_request_with_the_only_history():
    columns = one_request(
        SCHEMA,
        {"age": 3, "tags": ["a"]},
        {"item_id": np.array([5]), "genre": [[1, 2]]},
        {"item_id": [1, 2], "genre": [[], [3]]},
        {},
    )
    encoded, requests = encode(SCHEMA, columns)
    assert requests == 1
    assert as_lists(encoded["history.genre"]) == [[1, 2], [0, 1], [0, 2]]
    assert as_lists(encoded["candidate.genre"]) == [[3], [0, 2], [0, 0, 1]]


def test_one_request_with_several_histories():
    raw = SCHEMA.to_dict()
    raw["histories"]["buys"] = {"features": {"item_id": {"table": "item"}}}
    schema = Schema.from_dict(raw)
    user, candidates = {"age": 3, "tags": []}, {"item_id": [1], "genre": [[]]}
    clicks = {"item_id": [5], "genre": [[1]]}
    columns = one_request(schema, user, {"history": clicks, "buys": {"item_id": []}}, candidates, {})
    assert encode(schema, columns)[1] == 1
    with pytest.raises(InputError, match="missing history 'buys'; expected history, buys; got history"):
        one_request(schema, user, {"history": clicks}, candidates, {})
    with pytest.raises(InputError, match=r"unknown history 'item_id'.*; expected history, buys; got item_id, genre"):
        one_request(schema, user, clicks, candidates, {})


def test_one_request_names_the_group_of_a_wrong_feature():
    user = {"age": 3, "tags": []}
    history = {"item_id": [], "genre": []}
    with pytest.raises(InputError, match="missing candidate feature 'genre'; expected item_id, genre; got item_id"):
        one_request(SCHEMA, user, history, {"item_id": [1]}, {})
    with pytest.raises(InputError, match="unknown context feature 'hour'; expected none; got hour"):
        one_request(SCHEMA, user, history, {"item_id": [1], "genre": [[]]}, {"hour": 3})
