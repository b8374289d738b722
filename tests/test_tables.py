"""Arrow columns and tables, of every type that requests come in."""

from __future__ import annotations

import numpy as np
import pytest

from din_infer import Jagged, Schema
from din_infer.arrow import to_column
from din_infer.batch import encode
from din_infer.errors import InputError
from din_infer.tables import columns_of, list_array, to_arrow, to_known

pa = pytest.importorskip("pyarrow")

LISTS = [[1, 2], [], [3]]
NESTED = [[[1], []], [], [[2, 3]]]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (LISTS, pa.list_(pa.int64())),
        (LISTS, pa.list_(pa.uint8())),
        (LISTS, pa.large_list(pa.int32())),
        (LISTS, pa.list_(pa.float32())),
        (LISTS, pa.list_view(pa.int64())),
        (LISTS, pa.list_(pa.dictionary(pa.int8(), pa.int64()))),
        (NESTED, pa.list_(pa.list_(pa.int64()))),
        (NESTED, pa.large_list(pa.large_list(pa.int16()))),
        ([[1, 2], [3, 4]], pa.list_(pa.int64(), 2)),
        ([["a", "é"], [], [""]], pa.list_(pa.string())),
        ([["a", "é"], [], [""]], pa.large_list(pa.large_string())),
        ([["a", "é"], [], [""]], pa.list_(pa.string_view())),
        ([["a", "é"], [], [""]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    ],
    ids=str,
)
def test_list_columns_come_through_sliced_and_in_chunks(values, type_):
    array = pa.array(values, type_)
    assert to_column(array, "x").to_lists() == values
    assert to_column(array[1:], "x").to_lists() == values[1:]
    assert to_column(pa.chunked_array([array, array[1:]]), "x").to_lists() == values + values[1:]


@pytest.mark.parametrize("lists", [False, True])
def test_polars_categories_come_through(lists):
    pl = pytest.importorskip("polars")
    values = [["é", "a"], ["a"]] if lists else ["é", "a"]
    for dtype in (pl.Categorical, pl.Enum(["a", "é"])):
        column = to_column(pl.Series(values, dtype=pl.List(dtype) if lists else dtype), "x")
        assert (column.to_lists() if lists else column.tolist()) == values


def test_what_arrow_itself_cannot_do_is_an_input_error():
    class Broken:
        def __arrow_c_stream__(self, requested_schema=None):
            raise pa.ArrowNotImplementedError("no such type")

    with pytest.raises(InputError, match=r"x: expected integers, .*, got what Arrow cannot read: no such type"):
        to_column(Broken(), "x")
    with pytest.raises(InputError, match="expected a pyarrow, Polars or pandas table, got Broken: no such type"):
        to_arrow(Broken())


def test_flat_columns_come_through():
    assert to_column(pa.array([1, 2], pa.int16()), "x").tolist() == [1, 2]
    assert to_column(pa.array(["a", "b"]), "x").tolist() == ["a", "b"]
    assert to_column(pa.chunked_array([], pa.float64()), "x").tolist() == []
    assert to_column(pa.nulls(0), "x").tolist() == []


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pa.array([1, None]), r"x: expected no nulls, got 1 of 2 \(int64\)"),
        (pa.array([[1], None]), r"x: expected no nulls, got 1 of 2 \(list<item: int64>\)"),
        (pa.array([[1, None], []]), "x: expected no nulls, got 1 of 2"),
        (pa.array([True]), "x: expected integers, floats, strings or lists of them, got Arrow bool"),
        (pa.array([b"a"]), "got Arrow binary"),
        (pa.array([{"a": 1}]), "got Arrow struct"),
        (pa.array([[(1, 2)], []], pa.map_(pa.int64(), pa.int64())), "got Arrow map<int64, int64>"),
        (pa.DictionaryArray.from_arrays([0, 1], ["a", None]), "x: expected no nulls, got 1 of 2"),
    ],
)
def test_other_arrow_columns_are_refused(array, message):
    with pytest.raises(InputError, match=message):
        to_column(array, "x")


SCHEMA = Schema.from_dict(
    {
        "version": 1,
        "tables": {"item": {"dim": 2}, "genre": {"dim": 2}},
        "candidate": {"item_id": {"table": "item"}, "genre": {"table": "genre", "many": "mean"}},
        "histories": {"history": {"features": {"item_id": None}}},
    }
)


def test_a_scalar_candidate_column_is_one_candidate():
    table = pa.table(
        {"candidate.item_id": [1, 2], "candidate.genre": [[3], []], "history.item_id": [[], [4]], "x": [0, 0]}
    )
    columns = columns_of(table, SCHEMA)
    assert {name: column.to_lists() for name, column in columns.items()} == {
        "candidate.item_id": [[1], [2]],
        "candidate.genre": [[[3]], [[]]],
        "history.item_id": [[], [4]],
    }
    assert list(columns_of(table, SCHEMA, ("history",))) == ["history.item_id"]


def test_a_missing_column_is_named_with_its_likely_misspelling():
    table = pa.table({"candidate.itemid": [1], "candidate.genre": [[3]], "history.item_id": [[]], "label": [0]})
    with pytest.raises(InputError, match=r"unknown column 'candidate.itemid' \(did you mean 'candidate.item_id'\?\)"):
        columns_of(table, SCHEMA)
    with pytest.raises(InputError, match=r"missing column 'candidate\.item_id'; expected"):
        columns_of(table.drop_columns(["candidate.itemid"]), SCHEMA)


def test_a_column_comes_once():
    table = pa.table({"candidate.item_id": [1], "candidate.genre": [[3]], "history.item_id": [[]], "label": [0]})
    with pytest.raises(InputError, match=r"candidate\.genre: expected one column of that name, got 2"):
        columns_of(table.append_column("candidate.genre", table["candidate.genre"]), SCHEMA)
    assert len(columns_of(table.append_column("label", table["label"]), SCHEMA)) == 3


class StreamOnly:
    """A table that offers nothing but the Arrow PyCapsule interface, once."""

    def __init__(self, table):
        self._tables = [table]

    def __arrow_c_stream__(self, requested_schema=None):
        return self._tables.pop().__arrow_c_stream__(requested_schema)


def test_any_pycapsule_table_is_taken():
    table = pa.table({"x": [1, 2]})
    assert to_arrow(StreamOnly(table)).equals(table)
    with pytest.raises(InputError, match="expected a pyarrow, Polars or pandas table, got ChunkedArray"):
        to_arrow(table["x"])
    with pytest.raises(InputError, match="expected a pyarrow, Polars or pandas table, got Series"):
        to_arrow(pytest.importorskip("polars").Series([1]))


def test_what_may_be_read_once_is_read_once():
    table = pa.table({"x": [1, 2]})
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches())
    assert to_known(reader).equals(table)
    assert to_known(table) is table


def test_no_rows_of_columns_without_a_type_are_no_requests():
    empty = pa.table({column.name: pa.nulls(0) for column in SCHEMA.columns()})  # what pandas makes of object columns
    assert columns_of(empty, SCHEMA)["candidate.genre"].to_lists() == []
    encoded, requests = encode(SCHEMA, columns_of(empty, SCHEMA))
    assert (len(encoded), requests) == (3, 0)


def test_list_arrays_share_their_values():
    values = np.arange(4, dtype=np.float32)
    array = list_array(values, Jagged.from_lengths(values, [1, 0, 3]).offsets)
    assert array.to_pylist() == [[0.0], [], [1.0, 2.0, 3.0]]
    assert np.shares_memory(array.flatten().to_numpy(), values)
