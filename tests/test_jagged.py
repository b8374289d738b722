"""Jagged: building, reading back, and every way in which offsets and values can be wrong."""

from __future__ import annotations

import numpy as np
import pytest
from dlpack_only import DLPackOnly
from hypothesis import given
from hypothesis import strategies as st

from din_infer import Jagged
from din_infer.errors import InputError

INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, width=32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
LISTS = st.one_of(*(st.lists(st.lists(value, max_size=4), max_size=5) for value in (INTS, FLOATS, TEXT)))
NESTED = st.lists(st.lists(st.lists(INTS, max_size=3), max_size=3), max_size=4)


@given(LISTS)
def test_lists_come_back(lists):
    assert Jagged.from_lists(lists).to_lists() == lists


@given(NESTED)
def test_nested_lists_come_back(lists):
    assert Jagged.from_lists(lists, depth=2).to_lists() == lists


@given(LISTS, st.data())
def test_slices_are_neighbouring_lists(lists, data):
    first, last = (data.draw(st.integers(-6, 6)) for _ in range(2))
    assert Jagged.from_lists(lists)[first:last].to_lists() == lists[first:last]
    assert [row.tolist() for row in Jagged.from_lists(lists)] == lists


@given(NESTED, st.integers(0, 2), st.integers(-(2**31), 2**31))
def test_padded_nested_equals_lists(lists, extra, poison):
    longest = max(map(len, lists), default=0) + extra
    widest = max((len(inner) for row in lists for inner in row), default=0) + extra
    matrix = np.full((len(lists), longest, widest), poison)
    inner_lengths = np.full((len(lists), longest), poison)
    for b, row in enumerate(lists):
        for t, inner in enumerate(row):
            matrix[b, t, : len(inner)], inner_lengths[b, t] = inner, len(inner)
    lengths = [len(row) for row in lists]
    assert Jagged.from_padded(matrix, lengths, inner_lengths).to_lists() == lists


def test_from_padded_reads_each_row_from_its_left():
    assert Jagged.from_padded([[1, 2, 9]] @ np.eye(3, dtype=int), [2]).to_lists() == [[1, 2]]
    assert Jagged.from_padded(np.arange(6).reshape(2, 3), np.array([0, 3], np.uint8)).to_lists() == [[], [3, 4, 5]]


def test_arrays_are_shared_and_may_be_read_only_or_strided():
    values = np.arange(10)[::2]
    values.flags.writeable = False
    jagged = Jagged(values, np.array([0, 2, 5], np.int32))
    assert jagged.values is values
    assert jagged.offsets.dtype == np.int64
    assert jagged.lengths.tolist() == [2, 3]
    assert jagged[-1].tolist() == [4, 6, 8]


def test_lists_of_arrays_take_the_arrays_dtype():
    jagged = Jagged.from_lists([np.array([1, 2], np.int32), np.array([], np.float64)])
    assert jagged.values.dtype == np.int32
    assert jagged.to_lists() == [[1, 2], []]


def test_integers_of_several_dtypes_stay_exact():
    large = 2**62 + 1  # float64, which NumPy makes of uint64 and int64, would round it
    for lists in ([[np.uint64(large), -1]], [np.array([large], np.uint64), np.array([-1], np.int8)]):
        values = Jagged.from_lists(lists).values
        assert (values.dtype, values.tolist()) == (np.int64, [large, -1])


def test_torch_tensors_come_through():
    torch = pytest.importorskip("torch")
    assert Jagged(torch.tensor([1, 2]), torch.tensor([0, 2])).to_lists() == [[1, 2]]
    assert Jagged.from_lists([torch.tensor([1, 2]), torch.tensor([3])]).to_lists() == [[1, 2], [3]]
    with pytest.raises(InputError, match=r"expected an array in main memory, got Tensor.*grad"):
        Jagged(torch.ones(2, requires_grad=True), [0, 2])


def test_dlpack_comes_through():
    assert Jagged(DLPackOnly(np.arange(3)), [0, 1, 3]).to_lists() == [[0], [1, 2]]


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([], "offsets: expected 0 first, got no offsets"),
        ([1, 3], "offsets: expected 0 first, got 1"),
        ([0, 2, 1, 3], "expected no offset below the one before, got 1 after 2"),
        ([0, 2], "expected the last to be the number of values, 3, got 2"),
        ([0, 4], "expected the last to be the number of values, 3, got 4"),
        ([0.0, 3.0], "offsets: expected integers in one dimension, got an array of float64"),
        ([[0, 3]], "offsets: expected"),
        (np.array([[0, 3]]), "offsets: expected integers in one dimension"),
        (np.array([0, 2**63], np.uint64), "offsets: expected integers that fit int64, got 9223372036854775808"),
        (3, "offsets: expected an array or a list, got int 3"),
    ],
)
def test_wrong_offsets_are_refused(offsets, message):
    with pytest.raises(InputError, match=message):
        Jagged([7, 8, 9], offsets)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Jagged(np.zeros((2, 2)), [0, 2]), "expected one dimension, got shape.*Jagged.from_padded"),
        (lambda: Jagged(np.zeros(2, bool), [0, 2]), "expected integers, floats or strings, got dtype bool"),
        (lambda: Jagged(np.zeros(2, complex), [0, 2]), "got dtype complex128"),
        (lambda: Jagged({1: 2}, [0, 1]), "values: expected an array or a list, got dict"),
        (lambda: Jagged("ab", [0, 2]), "values: expected an array or a list, got str"),
        (lambda: Jagged.from_lists([1, 2]), "expected a list in each place, got int 1"),
        (lambda: Jagged.from_lists(["ab", "c"]), "expected a list in each place, got str 'ab'"),
        (lambda: Jagged.from_lists(5), "expected a list of lists, got int 5"),
        (lambda: Jagged.from_lists([[True]]), "expected numbers alone or strings alone, got bool True"),
        (lambda: Jagged.from_lists([[3, True]]), "expected numbers alone or strings alone, got bool True"),
        (lambda: Jagged.from_lists([[3, np.True_]]), "expected numbers alone or strings alone, got (numpy.)?bool"),
        (
            lambda: Jagged.from_lists([[3, np.ma.masked]]),
            "expected numbers alone or strings alone, got an array of float64 and shape",
        ),
        (lambda: Jagged(np.ma.array([1, 2], mask=[0, 1]), [0, 2]), "values: expected an array without a mask, got"),
        (lambda: Jagged.from_lists([np.ma.array([1, 2])]), "lists: expected an array without a mask, got"),
        (lambda: Jagged.from_lists([[1]], depth=5), "depth: expected 1, 2 or None, got 5"),
        (
            lambda: Jagged.from_lists([[1, np.uint64(2**63)]]),
            "expected integers that fit int64, got 9223372036854775808",
        ),
        (
            lambda: Jagged.from_lists([np.array([2**63], np.uint64), np.array([1])]),
            "integers that fit int64, got 92233",
        ),
        (lambda: Jagged.from_lists([[1, "a"]]), "expected numbers alone or strings alone, got str 'a'"),
        (lambda: Jagged.from_lists([[1, None]]), "expected numbers alone or strings alone, got NoneType None"),
        (lambda: Jagged.from_lists([[1, [2]]]), r"expected numbers alone or strings alone, got list \[2\]"),
        (lambda: Jagged.from_lists([[1, 2**63]]), "expected integers that fit int64, got 9223372036854775808"),
        (lambda: Jagged.from_lists([[1, 2**70]]), "got int 1180591620717411303424"),
        (lambda: Jagged.from_lengths([1, 2], [3, -1]), "lengths: expected at least 0, got -1"),
        (lambda: Jagged.from_lengths([1, 2], [3]), "expected the last to be the number of values, 2, got 3"),
        (lambda: Jagged.from_padded([1, 2], [1]), "matrix: expected 2 dimensions"),
        (
            lambda: Jagged.from_padded([[1, 2]], [1]),
            r"matrix: expected an array, or a list of numbers alone or strings alone, got list \[1, 2\]",
        ),
        (lambda: Jagged.from_padded(np.zeros((2, 3)), [1, 4]), "lengths: expected 0 to 3, got 1 to 4"),
        (lambda: Jagged.from_padded(np.zeros((2, 3)), [1]), "lengths: expected 2, one per row, got 1"),
        (
            lambda: Jagged.from_padded(np.zeros((2, 3, 1)), [1, 1], np.zeros((2, 2), int)),
            "inner_lengths: expected shape",
        ),
        (lambda: Jagged.from_lists([[1], [2]])[::2], "slice: expected step 1, got 2"),
    ],
)
def test_wrong_values_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_an_index_outside_is_an_index_error():
    with pytest.raises(IndexError, match="expected an index below 1, got 1"):
        Jagged.from_lists([[1]])[1]


def test_repr_is_short():
    assert repr(Jagged.from_lists([[1, 2]] * 5)) == "Jagged([[1, 2], [1, 2], [1, 2], ...], 5 lists, 10 values)"


@pytest.mark.parametrize("row", [{9, 100, 1}, {9: 1}])
def test_what_has_no_order_is_no_list(row):
    with pytest.raises(InputError, match="expected a list in each place, got"):
        Jagged.from_lists([row])
