"""How calls are cut into programs, against loops over requests."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from din_infer.errors import InputError  # noqa: E402
from din_infer.kernels.activation.triton_config import CHUNK_KEYS  # noqa: E402
from din_infer.kernels.activation.triton_work import backward_work, forward_work  # noqa: E402

CPU = torch.device("cpu")
LENGTHS = st.one_of(st.integers(0, 3), st.sampled_from([CHUNK_KEYS, CHUNK_KEYS + 1, 3 * CHUNK_KEYS]))
REQUESTS = st.lists(st.tuples(LENGTHS, st.integers(0, 3)), max_size=6)  # behaviours and candidates


def offsets_of(lengths):
    return torch.tensor([0, *accumulate(lengths)])


def spans_of(requests):
    """(first key, end of keys, first query, end of queries) of each request."""
    keys, queries = (offsets_of(lengths).tolist() for lengths in ([t for t, _ in requests], [n for _, n in requests]))
    return list(zip(keys, keys[1:], queries, queries[1:], strict=False))


def cut(start, stop, size):
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


@given(REQUESTS)
@example([])
@example([(0, 2), (CHUNK_KEYS + 1, 1)])
def test_every_query_has_items_for_all_its_keys(requests):
    work = forward_work(offsets_of([t for t, _ in requests]), offsets_of([n for _, n in requests]), CPU)
    items = [
        [[query, *part] for part in cut(start, stop, CHUNK_KEYS) or [(start, start)]]
        for start, stop, *queries in spans_of(requests)
        for query in range(*queries)
    ]
    assert work.items.tolist() == [item for of_query in items for item in of_query]
    assert work.first_items.tolist() == [0, *accumulate(map(len, items))]


@given(REQUESTS, st.sampled_from([1, 16, 64]))
def test_every_key_has_one_tile(requests, block):
    work = backward_work(offsets_of([t for t, _ in requests]), offsets_of([n for _, n in requests]), block, CPU)
    spans = spans_of(requests)
    assert work.spans.T.tolist() == [[start, stop] for start, stop, *queries in spans for _ in range(*queries)]
    tiles = [[*part, *queries] for start, stop, *queries in spans for part in cut(start, stop, block)]
    assert work.tiles.T.tolist() == tiles


@pytest.mark.parametrize("cut_up", [forward_work, lambda k, q, device: backward_work(k, q, 16, device)])
@pytest.mark.parametrize(
    ("keys", "queries", "said"),
    [
        ([0, 2], [0], "query_offsets: expected 2 offsets, got 1"),
        ([], [], "key_offsets: expected 0 offsets, got 0"),
        ([0, 9, 5], [0, 1, 1], "key_offsets: expected offsets that do not go down, got 9 then 5"),
        ([0, 1, 1], [0, 500_000, 2], "query_offsets: expected offsets that do not go down, got 500000 then 2"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(cut_up, keys, queries, said):
    with pytest.raises(InputError, match=said):
        cut_up(torch.tensor(keys, dtype=torch.int64), torch.tensor(queries, dtype=torch.int64), CPU)
